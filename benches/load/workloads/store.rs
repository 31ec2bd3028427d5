//! Stores: instances that nobody has seen before, in multipart requests.

use std::sync::Arc;

use super::{Exchange, Task, Workload};
use crate::{
    corpus::Id,
    site::{Manner, Site},
    template::Template,
};

pub const ALL: &[Workload] = &[
    Workload {
        name: "store-single",
        about: "one CT instance a request",
        warm: Some(3),
        open: |site| one_by_one(site, &site.corpus.ct),
    },
    Workload {
        name: "store-study",
        about: "a study of CT a request",
        warm: Some(0),
        open: |site| {
            let instances = site.corpus.sizes.study;
            storing(site, &site.corpus.ct, move |site, _| site.corpus.ids(1, instances))
        },
    },
    Workload {
        name: "store-small",
        about: "one object of 10 KB a request",
        warm: Some(3),
        open: |site| one_by_one(site, &site.corpus.small),
    },
    Workload {
        name: "store-large",
        about: "one large multi-frame object a request",
        warm: None,
        open: |site| storing(site, &site.corpus.large, |site, _| site.corpus.ids(1, 1)),
    },
];

/// Instances one after the other, a hundred to a study: as a scanner sends them.
fn one_by_one(site: &Arc<Site>, template: &Arc<Template>) -> anyhow::Result<Option<Task>> {
    let studies: Vec<u64> = (0..STUDIES).map(|_| site.corpus.study()).collect();
    storing(site, template, move |_, number| {
        let study = studies[(number / 100) as usize % studies.len()];
        let instance = number % 100 + number / (100 * STUDIES) * 100;
        vec![Id { study, series: 0, instance }]
    })
}

/// Studies that a run of single instances goes through before it comes back to the first.
const STUDIES: u64 = 1000;

fn storing(
    site: &Arc<Site>,
    template: &Arc<Template>,
    ids: impl Fn(&Site, u64) -> Vec<Id> + Send + Sync + 'static,
) -> anyhow::Result<Option<Task>> {
    if matches!(site.manner, Manner::Files(_)) {
        return Ok(None);
    }
    let (site, template) = (site.clone(), template.clone());
    Ok(Some(Box::new(move |connection, number, _| {
        let ids = ids(&site, number);
        let (answer, bytes) = site.store(connection, &template, &ids)?;
        Ok(Exchange::new(&answer, bytes, ids.len() as u64))
    })))
}
