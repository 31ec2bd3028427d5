//! Clients that store and delete, each its own studies, and clients that search.
//!
//! They take what a client must take while servers die: no answer, half an answer, 503 with
//! `Retry-After`. Then nobody knows what became of the request, and they repeat it, as gateways do.
//! Any other answer than the right one ends the test.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::Ordering::Relaxed,
    time::Duration,
};

use futures::future::join_all;
use rand::{RngExt, rngs::SmallRng};
use reqwest::{Method, RequestBuilder};
use serde_json::Value;

use crate::{
    harness::{
        Answer,
        corpus::{RELATED, multipart},
    },
    model::{Change, Name, PARTITIONS, Sizes, State, Study},
    stage::{Stage, add},
};

/// How long a client rests after it got no answer.
const REST: Duration = Duration::from_millis(15);

/// Living studies of an owner, about.
const STUDIES: usize = 8;

/// A client that changes its own studies, one request after another, or several stores at once.
pub struct Owner {
    pub partition: &'static str,
    pub studies: BTreeMap<u32, Study>,
    pub sizes: Sizes,
    rests: bool,
    next: u32,
    rng: SmallRng,
}

/// What a server said.
pub enum Said {
    Answer(Answer),
    /// Nothing, or half of it, or that it cannot now: the request may have been carried out.
    Nothing,
}

impl Owner {
    /// So many owners in each partition.
    pub fn all(each: u32, sizes: Sizes) -> Vec<Self> {
        let one = |number: u32| Self {
            partition: PARTITIONS[number as usize % PARTITIONS.len()],
            studies: BTreeMap::new(),
            sizes,
            rests: false,
            next: number * 1_000_000,
            rng: rand::make_rng(),
        };
        (0..each * PARTITIONS.len() as u32).map(one).collect()
    }

    /// The path of something in its partition.
    pub fn path(&self, path: &str) -> String {
        format!("/partitions/{}{path}", self.partition)
    }

    /// Stores the first instances, so that its partition exists, and deletes one of them.
    pub async fn begin(&mut self, stage: &Stage) {
        let id = self.next;
        let names: Vec<Name> =
            (1..=9).map(|number| Name { study: id, series: 1, number }).collect();
        let one = names[0];
        self.studies.insert(id, Study::default());
        self.store(stage, id, vec![names]).await;
        self.delete(stage, id, Change::DeleteInstance(one)).await;
    }

    /// Stores a study and leaves it as it is from then on.
    pub async fn keep(&mut self, stage: &Stage, study: u32, names: Vec<Name>) {
        self.studies.insert(study, Study::default());
        self.store(stage, study, vec![names]).await;
        self.rests = true;
    }

    /// Changes its studies until it is enough.
    pub async fn work(&mut self, stage: &Stage) {
        while !self.rests && !stage.is_stopped() {
            let study = self.choose_study();
            let mut all = self.choose_changes(study).into_iter();
            match all.next() {
                Some(Change::Store(first)) => {
                    let stores = all.filter_map(|change| match change {
                        Change::Store(names) => Some(names),
                        _ => None,
                    });
                    self.store(stage, study, std::iter::once(first).chain(stores).collect()).await;
                }
                Some(deletion) => self.delete(stage, study, deletion).await,
                None => {}
            }
            if self.studies[&study].pending.is_some() {
                tokio::time::sleep(REST).await;
            }
        }
    }

    /// One that was begun, or a new one; few of many, so that requests meet.
    fn choose_study(&mut self) -> u32 {
        let is_alive = |study: &Study| study.pending.is_some() || !study.here().is_empty();
        let alive: Vec<u32> =
            self.studies.iter().filter(|(_, study)| is_alive(study)).map(|(id, _)| *id).collect();
        let known: Vec<u32> = self.studies.keys().copied().collect();
        // Now and then one that is gone comes back.
        if !known.is_empty() && self.rng.random_ratio(1, 20) {
            return known[self.rng.random_range(0..known.len())];
        }
        if alive.len() < STUDIES && self.rng.random_ratio(1, 4) || alive.is_empty() {
            self.next += 1;
            self.studies.insert(self.next, Study::default());
            return self.next;
        }
        alive[self.rng.random_range(0..alive.len())]
    }

    /// What to change of a study: what is pending, or several stores, or a deletion.
    fn choose_changes(&mut self, id: u32) -> Vec<Change> {
        let study = &self.studies[&id];
        if let Some(pending) = &study.pending {
            return vec![pending.clone()];
        }
        let here = study.here();
        let rng = &mut self.rng;
        let any = |rng: &mut SmallRng| here[rng.random_range(0..here.len())];
        match rng.random_range(0..100) {
            0..12 if here.len() > 1 => vec![Change::DeleteInstance(any(rng))],
            12..20 if here.len() > 4 => vec![Change::DeleteSeries(any(rng).series)],
            20..28 if here.len() > 6 => vec![Change::DeleteStudy],
            // The same again.
            28..36 if !here.is_empty() => {
                let count = rng.random_range(1..=here.len().min(8));
                vec![Change::Store(here.into_iter().take(count).collect())]
            }
            // What was deleted comes back.
            36..42 if study.instances.len() > here.len() => {
                let gone = study.instances.iter().filter(|(_, i)| i.state != State::Here);
                vec![Change::Store(gone.map(|(name, _)| *name).take(8).collect())]
            }
            42..64 => vec![Change::Store(news(id, study, rng, 1))],
            64..92 => {
                let count = rng.random_range(2..12);
                vec![Change::Store(news(id, study, rng, count))]
            }
            // Stores to one study at once.
            _ => {
                let all = news(id, study, rng, 9);
                all.chunks(3).map(|some| Change::Store(some.to_vec())).collect()
            }
        }
    }

    /// Stores, several requests at once.
    async fn store(&mut self, stage: &Stage, id: u32, requests: Vec<Vec<Name>>) {
        let sizes = self.sizes;
        let post = self.path("/studies");
        let sent = requests.iter().map(|names| {
            let files: Vec<Vec<u8>> = names.iter().map(|name| name.file(sizes)).collect();
            let post = stage.client().request(Method::POST, &post);
            async move {
                let request = match &files[..] {
                    [only] if names[0].number.is_multiple_of(2) => {
                        post.header("content-type", "application/dicom").body(only.clone())
                    }
                    _ => post.header("content-type", RELATED).body(multipart(&files)),
                };
                say(request).await
            }
        });
        let answers = join_all(sent).await;
        let Some(study) = self.studies.get_mut(&id) else { return };
        study.touched = true;
        let mut missing = Vec::new();
        for (names, said) in requests.into_iter().zip(answers) {
            let stored = match said {
                Said::Answer(answer) => stored_by(&answer, &names),
                Said::Nothing => BTreeSet::new(),
            };
            if stored.len() < names.len() {
                add(&stage.tally.refused, 1);
            }
            add(&stage.tally.stored, stored.len());
            for name in names {
                if stored.contains(&name) {
                    study.instance(name).is_here();
                } else {
                    let instance = study.instance(name);
                    instance.in_doubt = instance.state != State::Here;
                    missing.push(name);
                }
            }
        }
        study.pending = (!missing.is_empty()).then_some(Change::Store(missing));
    }

    async fn delete(&mut self, stage: &Stage, id: u32, change: Change) {
        let study_uid = Name { study: id, series: 0, number: 0 }.study_uid();
        let path = match &change {
            Change::DeleteSeries(series) => {
                let series = Name { study: id, series: *series, number: 0 }.series_uid();
                format!("/studies/{study_uid}/series/{series}")
            }
            Change::DeleteInstance(name) => name.path(),
            _ => format!("/studies/{study_uid}"),
        };
        let said = say(stage.client().request(Method::DELETE, &self.path(&path))).await;
        let Some(study) = self.studies.get_mut(&id) else { return };
        study.touched = true;
        let targets = study.targets(&change);
        match said {
            Said::Answer(answer) => {
                let repeated = study.pending.is_some();
                match answer.status {
                    204 => add(&stage.tally.deleted, 1),
                    // The first try was carried out.
                    404 if repeated => add(&stage.tally.deleted, 1),
                    status => panic!("DELETE {path}: {status} {}", answer.text()),
                }
                targets.into_iter().for_each(|name| study.instance(name).is_not_here());
                study.pending = None;
            }
            Said::Nothing => {
                add(&stage.tally.refused, 1);
                for name in targets {
                    let instance = study.instance(name);
                    instance.in_doubt = instance.state == State::Here;
                }
                study.pending = Some(change);
            }
        }
    }
}

/// Instances that were never stored, of one or two series.
fn news(id: u32, study: &Study, rng: &mut SmallRng, count: u32) -> Vec<Name> {
    let series = rng.random_range(1..=3);
    let last = study.instances.keys().filter(|name| name.series == series).map(|name| name.number);
    let from = last.max().unwrap_or(0) + 1;
    (from..from + count).map(|number| Name { study: id, series, number }).collect()
}

/// Sends a request and takes what a client must take.
pub async fn say(request: RequestBuilder) -> Said {
    let Ok(response) = request.send().await else { return Said::Nothing };
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let Ok(body) = response.bytes().await else { return Said::Nothing };
    let answer = Answer { status, headers, body };
    if status == 503 {
        let seconds: u64 = answer.header("retry-after").parse().expect("Retry-After in seconds");
        assert!((1..=60).contains(&seconds), "{seconds}");
        answer.problem(503);
        return Said::Nothing;
    }
    assert!(status < 500, "{status} {}", answer.text());
    Said::Answer(answer)
}

/// The instances that a Store response says are stored. The others must have failed for the reason
/// that the archive could not, and not for what they are.
fn stored_by(answer: &Answer, names: &[Name]) -> BTreeSet<Name> {
    assert!([200, 202].contains(&answer.status), "{} {}", answer.status, answer.text());
    let json = answer.json();
    let items = |key: &str| json[key]["Value"].as_array().cloned().unwrap_or_default();
    let name = |item: &Value| Name::of(item["00081155"]["Value"][0].as_str().unwrap());
    for failed in items("00081198") {
        assert_eq!(failed["00081197"]["Value"][0], 0x0110, "{failed}");
    }
    assert!(json.get("0008119A").is_none(), "{json}");
    let stored: BTreeSet<Name> = items("00081199").iter().map(name).collect();
    assert!(stored.iter().all(|name| names.contains(name)), "{json}");
    assert_eq!(stored.len() + items("00081198").len(), names.len(), "{json}");
    stored
}

/// Searches, and looks at some of what is found: it is whole, or it was deleted meanwhile.
pub async fn search(stage: &Stage, sizes: Sizes) {
    let mut rng: SmallRng = rand::make_rng();
    while !stage.is_stopped() {
        let client = stage.client();
        let base = format!("/partitions/{}", PARTITIONS[rng.random_range(0..PARTITIONS.len())]);
        let path = format!("{base}/instances?limit=20&offset={}", rng.random_range(0..50));
        let Said::Answer(found) = say(client.request(Method::GET, &path)).await else {
            tokio::time::sleep(REST).await;
            continue;
        };
        stage.tally.searches.fetch_add(1, Relaxed);
        let found = match found.status {
            204 => continue,
            _ => found.is(200).json(),
        };
        let found = found.as_array().unwrap();
        if found.is_empty() {
            // All of it was deleted between being found and being read.
            continue;
        }
        let name = Name::of(
            found[rng.random_range(0..found.len())]["00080018"]["Value"][0].as_str().unwrap(),
        );
        let get = client.request(Method::GET, &format!("{base}{}", name.path()));
        let Said::Answer(got) = say(get.header("accept", "application/dicom")).await else {
            continue;
        };
        match got.status {
            404 | 410 => {}
            _ => assert!(got.is(200).body == name.file(sizes), "{name:?} is not what was sent"),
        }
    }
}
