//! Queries all of whose results are meant, as those of an export: nothing of them may be left alone,
//! or more would be found than was meant.

use super::{Naming, QueryError, Resource, SearchQuery, read};
use crate::{archive::SearchTag, config::SearchConfig, dicom::attributes::Level};

/// The level whose resources have this name in paths.
pub fn level_of(name: &str) -> Option<Level> {
    Some(match name {
        "studies" => Level::Study,
        "series" => Level::Series,
        "instances" => Level::Instance,
        _ => return None,
    })
}

/// Reads the query of what is searched for as a whole, at the root of a partition.
///
/// # Errors
/// As [`read`]; a parameter that would be ignored is one, and so is one that asks for a page.
pub fn read_whole(
    level: Level,
    query: &str,
    config: &SearchConfig,
    tags: &[SearchTag],
) -> Result<SearchQuery, QueryError> {
    let resource = Resource { level, study: None, series: None };
    let read = read(&resource, query, config, tags)?;
    if !read.warnings.is_empty() {
        return Err(QueryError::bad_request("has a parameter that is not known"));
    }
    let partitions = Naming::of(query);
    for (name, _) in url::form_urlencoded::parse(query.as_bytes()) {
        let rule = match &*name {
            "limit" | "offset" => "has no limit and offset: all that it finds is copied",
            name if partitions.has(name) => "names no partition: it is asked within one",
            _ => continue,
        };
        return Err(QueryError::bad_request(rule));
    }
    Ok(read)
}
