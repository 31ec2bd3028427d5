//! Searches, and pages of the change feed, over a population of small instances.

use std::sync::Arc;

use anyhow::{Context, ensure};
use serde::{Deserialize, de::IgnoredAny};

use super::{Exchange, Task, Workload, is};
use crate::{
    http::Keep,
    site::{JSON, Manner, Set, Site},
};

pub const ALL: &[Workload] = &[
    Workload {
        name: "search-patient",
        about: "studies by PatientID, of which there is one",
        warm: Some(10),
        open: |site| {
            search(site, |site, set, number| {
                let patient = site.corpus.patient_id(set.draw(number));
                (format!("/studies?limit=100&PatientID={patient}"), 1)
            })
        },
    },
    Workload {
        name: "search-instances",
        about: "a page of 100 instances",
        warm: Some(10),
        open: |site| {
            search(site, |_, set, _| ("/instances?limit=100".to_owned(), set.ids.len().min(100)))
        },
    },
    Workload {
        name: "search-studies",
        about: "the first page of 100 studies",
        warm: Some(10),
        open: |site| {
            search(site, |site, _, _| {
                let studies = site.corpus.sizes.population.min(100) as usize;
                (format!("/studies?limit={studies}"), studies)
            })
        },
    },
    Workload {
        name: "change-feed",
        about: "a page of 200 events with metadata",
        warm: Some(10),
        open: change_feed,
    },
];

const SERIES: u64 = 5;
const INSTANCES: u64 = 10;
const PAGE: u64 = 200;

fn population(site: &Arc<Site>) -> anyhow::Result<Arc<Set>> {
    let studies = site.corpus.sizes.population;
    site.set("population", &site.corpus.small, || {
        (0..studies).flat_map(|_| site.corpus.ids(SERIES, INSTANCES)).collect()
    })
}

/// A search: `what` says which, and how many results it has.
fn search(
    site: &Arc<Site>,
    what: fn(&Site, &Set, u64) -> (String, usize),
) -> anyhow::Result<Option<Task>> {
    if matches!(site.manner, Manner::Files(_)) {
        return Ok(None);
    }
    let (set, site) = (population(site)?, site.clone());
    Ok(Some(Box::new(move |connection, number, _| {
        let (path, expected) = what(&site, &set, number);
        let answer = connection.get(&site.path(&path), JSON, Keep::All)?;
        is(&answer, 200).with_context(|| path.clone())?;
        let results: Vec<IgnoredAny> = serde_json::from_slice(&answer.body)?;
        ensure!(results.len() == expected, "{} results to {path}", results.len());
        Ok(Exchange::new(&answer, answer.length, results.len() as u64))
    })))
}

#[derive(Deserialize)]
struct Event {
    sequence: u64,
}

/// Page after page of the change feed, from its start again at its end.
fn change_feed(site: &Arc<Site>) -> anyhow::Result<Option<Task>> {
    if matches!(site.manner, Manner::Files(_)) || !site.has_feed() {
        return Ok(None);
    }
    population(site)?;
    let latest =
        site.connection().get(&site.path("/changefeed/latest"), "application/json", Keep::All)?;
    is(&latest, 200)?;
    let latest: Event = serde_json::from_slice(&latest.body)?;
    let (page, pages) = (PAGE.min(latest.sequence), (latest.sequence / PAGE).max(1));
    let site = site.clone();
    Ok(Some(Box::new(move |connection, number, _| {
        let offset = number % pages * PAGE;
        let path = site.path(&format!("/changefeed?limit={page}&offset={offset}"));
        let answer = connection.get(&path, "application/json", Keep::All)?;
        is(&answer, 200).with_context(|| path.clone())?;
        let events: Vec<Event> = serde_json::from_slice(&answer.body)?;
        ensure!(events.len() as u64 == page, "{} events to {path}", events.len());
        let ascending = events.iter().map(|event| event.sequence).is_sorted();
        ensure!(ascending && events[0].sequence > offset, "events in another order");
        Ok(Exchange::new(&answer, answer.length, page))
    })))
}
