//! Clients of the change feed that keep nothing but the last number they saw.
//!
//! What they got is written down beside, to be held against what is there: no number twice, in one
//! partition none missing, and of each instance exactly the events that its owner knows of.

use std::{collections::BTreeMap, time::Duration};

use reqwest::Method;

use crate::{
    harness::Client,
    load::{Owner, Said, say},
    model::{Name, PARTITIONS, State},
    stage::{Stage, add},
};

/// One event, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub number: i64,
    pub partition: String,
    pub name: Name,
    pub is_create: bool,
}

/// Polls the feed of one partition, or of all.
pub struct Poller {
    partition: Option<&'static str>,
    /// All that it keeps.
    last: i64,
    pub seen: Vec<Event>,
}

impl Poller {
    pub fn new(partition: Option<&'static str>) -> Self {
        Self { partition, last: 0, seen: Vec::new() }
    }

    /// One for each partition, and one for all of them.
    pub fn all() -> Vec<Self> {
        PARTITIONS.into_iter().map(Some).chain([None]).map(Self::new).collect()
    }

    /// Polls until it is enough, now from this server, now from that.
    pub async fn follow(&mut self, stage: &Stage) {
        while !stage.is_stopped() {
            if self.poll(&stage.client(), stage, "&wait=200ms").await.is_none() {
                tokio::time::sleep(Duration::from_millis(15)).await;
            }
        }
    }

    /// Polls until a page is empty.
    pub async fn catch_up(&mut self, client: &Client, stage: &Stage) {
        while self.poll(client, stage, "").await.expect("a page of the feed") > 0 {}
    }

    /// The next page; how many events that were. `None`: no answer.
    async fn poll(&mut self, client: &Client, stage: &Stage, wait: &str) -> Option<usize> {
        let base = self.partition.map_or(String::new(), |id| format!("/partitions/{id}"));
        let last = self.last;
        let path = format!("{base}/changefeed?offset={last}&limit=200&includeMetadata=false{wait}");
        let Said::Answer(answer) = say(client.request(Method::GET, &path)).await else {
            return None;
        };
        let page = answer.is(200).json();
        let page = page.as_array().unwrap();
        for event in page {
            let text = |key: &str| event[key].as_str().unwrap_or_else(|| panic!("{event}"));
            let event = Event {
                number: event["sequence"].as_i64().unwrap(),
                partition: text("partitionId").to_owned(),
                name: Name::of(text("sopInstanceUid")),
                is_create: match text("action") {
                    "create" => true,
                    "delete" => false,
                    other => panic!("{other}"),
                },
            };
            assert!(event.number > self.last, "{event:?} after {}", self.last);
            self.last = event.number;
            self.seen.push(event);
        }
        add(&stage.tally.events, page.len());
        Some(page.len())
    }

    /// What it saw is what happened: of each instance of these owners as many events as there were
    /// changes, creations and deletions in turn.
    pub fn agrees(&self, owners: &[Owner]) {
        if let Some(partition) = self.partition {
            for (expected, event) in (1..).zip(&self.seen) {
                assert_eq!(event.number, expected, "a hole in the feed of {partition}");
            }
        }
        let mut told: BTreeMap<(&str, Name), u32> = BTreeMap::new();
        for event in &self.seen {
            let count = told.entry((&event.partition, event.name)).or_default();
            assert_eq!(event.is_create, count.is_multiple_of(2), "out of turn: {event:?}");
            *count += 1;
        }
        for owner in owners {
            let is_mine = self.partition.is_none_or(|partition| partition == owner.partition);
            for (name, instance) in owner.studies.values().flat_map(|study| &study.instances) {
                let count = told.remove(&(owner.partition, *name)).unwrap_or(0);
                let expected = if is_mine { instance.events } else { 0 };
                assert_eq!(count, expected, "events of {name:?} in {}", owner.partition);
                let is_here = instance.state == State::Here;
                assert!(!is_mine || count.is_multiple_of(2) != is_here, "{name:?} {instance:?}");
            }
        }
        assert!(told.is_empty(), "events of what nobody sent: {told:?}");
    }
}
