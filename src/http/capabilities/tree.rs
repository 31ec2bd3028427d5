//! Routes as a tree of resources, by the segments of their paths.

use std::collections::BTreeMap;

use axum::http::Method;

use crate::http::{operation::Operation, urls};

/// One resource: what it takes, and what lies below it.
#[derive(Debug, Default)]
pub struct Resource<'a> {
    /// The routes of this path.
    pub operations: Vec<&'a Operation>,
    /// What lies below, by segment.
    pub below: BTreeMap<&'a str, Resource<'a>>,
}

/// A tree with the path from which it hangs.
#[derive(Debug)]
pub struct Tree<'a> {
    /// The path of `root`, without slashes at its ends; empty for the root of the service.
    pub path: &'a str,
    /// What lies there and below.
    pub root: Resource<'a>,
}

/// The path of a template, without version and partition: `/` for a root.
pub fn without_prefix(template: &str) -> &str {
    let (_, rest) = urls::split_version(template);
    let rest = rest.strip_prefix("/partitions/{partition}").unwrap_or(rest);
    if rest.is_empty() { "/" } else { rest }
}

/// The resources at a path and below.
pub fn below<'a>(path: &'a str, served: impl Iterator<Item = &'a Operation>) -> Tree<'a> {
    let path = path.trim_matches('/');
    let mut root = Resource::default();
    for operation in served {
        let own = operation.path.trim_matches('/');
        let Some(rest) = own.strip_prefix(path) else { continue };
        // WADL describes everything but the request for itself (PS3.18 Annex H).
        let is_itself = operation.method == Method::OPTIONS;
        if is_itself || !(path.is_empty() || rest.is_empty() || rest.starts_with('/')) {
            continue;
        }
        let mut resource = &mut root;
        for segment in rest.split('/').filter(|segment| !segment.is_empty()) {
            resource = resource.below.entry(segment).or_default();
        }
        resource.operations.push(operation);
    }
    Tree { path, root }
}
