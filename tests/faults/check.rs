//! An archive held against what its clients know: all that was acknowledged is there, byte for byte,
//! nothing is there in part, and the change feed tells it all.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::Ordering::Relaxed,
};

use futures::{StreamExt, stream};
use serde_json::Value;

use crate::{
    harness::{Answer, Client, until},
    load::{Owner, search},
    model::{Change, Name, State, Study},
    pollers::Poller,
    stage::{Stage, add},
};

/// Studies looked at at once.
const AT_ONCE: usize = 8;
/// Every representation as it is stored.
const STORED: &str = "multipart/related; type=\"application/dicom\"; transfer-syntax=*";

/// The clients of a scenario and what they know.
pub struct World {
    pub owners: Vec<Owner>,
    pub pollers: Vec<Poller>,
    pub stage: Stage,
}

impl World {
    /// The world of these clients, who store something first.
    pub async fn begin(mut owners: Vec<Owner>, client: &Client) -> Self {
        let stage = Stage::default();
        stage.open(&[client]);
        for owner in &mut owners {
            owner.begin(&stage).await;
        }
        Self { owners, pollers: Poller::all(), stage }
    }

    /// Lets all clients work on these servers, until `fault` is over.
    pub async fn work(&mut self, servers: &[&Client], fault: impl AsyncFnOnce(&Stage)) {
        let stage = &self.stage;
        stage.open(servers);
        let sizes = self.owners[0].sizes;
        let owners = futures::future::join_all(self.owners.iter_mut().map(|o| o.work(stage)));
        let pollers = futures::future::join_all(self.pollers.iter_mut().map(|p| p.follow(stage)));
        let searches = futures::future::join(search(stage, sizes), search(stage, sizes));
        let fault = async {
            fault(stage).await;
            stage.stop();
        };
        tokio::join!(owners, pollers, searches, fault);
    }

    /// What changed since the last check, and the feed.
    pub async fn check(&mut self, client: &Client) {
        until("the server is ready", async || client.get("/health/ready").await.status == 200)
            .await;
        let stage = &self.stage;
        let touched = self.owners.iter_mut().flat_map(|owner| {
            let base = owner.path("");
            let sizes = owner.sizes;
            let studies = owner.studies.iter_mut().filter(|(_, study)| study.touched);
            studies.map(move |(id, study)| (base.clone(), sizes, *id, study))
        });
        stream::iter(touched)
            .for_each_concurrent(AT_ONCE, async |(base, sizes, id, study)| {
                let compared = look(client, &base, id, study, |name| name.file(sizes)).await;
                add(&stage.tally.compared, compared);
            })
            .await;
        for poller in &mut self.pollers {
            poller.catch_up(client, stage).await;
            poller.agrees(&self.owners);
        }
    }

    /// Everything, also what was checked before, and the feed from its beginning.
    pub async fn check_all(&mut self, client: &Client) {
        for study in self.owners.iter_mut().flat_map(|owner| owner.studies.values_mut()) {
            study.touched = true;
        }
        self.check(client).await;
        for (poller, mut fresh) in self.pollers.iter().zip(Poller::all()) {
            fresh.catch_up(client, &self.stage).await;
            assert!(fresh.seen == poller.seen, "the feed tells another story now");
        }
    }

    /// What every scenario that is more than nothing must have done.
    pub fn did_something(&self) {
        let tally = &self.stage.tally;
        for count in [&tally.stored, &tally.deleted, &tally.events, &tally.compared] {
            assert!(count.load(Relaxed) > 0, "{tally}");
        }
    }
}

/// Holds one study against what is known of it, and learns what was in doubt. Answers how many bytes
/// were compared.
async fn look(
    client: &Client,
    base: &str,
    id: u32,
    study: &mut Study,
    file: impl Fn(Name) -> Vec<u8>,
) -> usize {
    let path = format!("{base}/studies/1.2.{id}");
    let found: BTreeSet<Name> =
        client.search(&format!("{path}/instances?limit=50000")).await.iter().map(name_of).collect();
    for (name, instance) in &study.instances {
        let is_found = found.contains(name);
        let (state, doubt) = (instance.state, instance.in_doubt);
        let fits = doubt || is_found == (state == State::Here);
        assert!(fits, "{base} {name:?} is {state:?}, and found: {is_found}");
    }
    let known: BTreeSet<Name> = study.instances.keys().copied().collect();
    assert!(found.is_subset(&known), "{base}: found what nobody sent to study {id}");
    is_whole(study, &found);
    study.pending = None;
    study.touched = false;
    for (name, instance) in &mut study.instances {
        if found.contains(name) { instance.is_here() } else { instance.is_not_here() }
    }

    let compared = whole(client, &path, &found, &file).await;
    // Those that are gone say so, and those that never were say nothing.
    let status = |here: bool, gone: bool| match (here, gone) {
        (true, _) => 200,
        (false, true) => 410,
        (false, false) => 404,
    };
    let any_gone = study.instances.values().any(|i| i.state == State::Gone);
    if found.is_empty() {
        client.get(&path).await.is(status(false, any_gone));
    }
    // The first and the last of each state stand for the others.
    let mut some: BTreeMap<u8, Vec<Name>> = BTreeMap::new();
    for (name, instance) in &study.instances {
        let names = some.entry(instance.state as u8).or_default();
        names.truncate(1);
        names.push(*name);
    }
    for name in some.into_values().flatten() {
        let state = study.instances[&name].state;
        let got = client.get_as(&format!("{base}{}", name.path()), "application/dicom").await;
        let got = got.is(status(state == State::Here, state == State::Gone));
        assert!(state != State::Here || got.body == file(name), "{name:?} is not what was sent");
    }
    compared
}

/// A deletion that nobody was told of took all or nothing.
fn is_whole(study: &Study, found: &BTreeSet<Name>) {
    let Some(change) = &study.pending else { return };
    if matches!(change, Change::Store(_)) {
        return;
    }
    let targets = study.targets(change).into_iter();
    let here = targets.filter(|name| study.instances[name].state == State::Here);
    let left: BTreeSet<bool> = here.map(|name| found.contains(&name)).collect();
    assert!(left.len() < 2, "half of {change:?} was carried out");
}

/// The bytes, the metadata and the counts of a study are those of the instances found.
async fn whole(
    client: &Client,
    path: &str,
    found: &BTreeSet<Name>,
    file: &impl Fn(Name) -> Vec<u8>,
) -> usize {
    if found.is_empty() {
        return 0;
    }
    let answer = client.get_as(path, STORED).await.is(200);
    let mut expected: Vec<Vec<u8>> = found.iter().map(|name| file(*name)).collect();
    expected.sort();
    assert!(answer.bodies() == expected, "{path} is not what was sent");
    let metadata: BTreeSet<Name> =
        array(client.get(&format!("{path}/metadata")).await).iter().map(name_of).collect();
    assert_eq!(&metadata, found, "{path}/metadata");
    let (base, uid) = path.split_once("/studies/").unwrap();
    let search = format!("{base}/studies?StudyInstanceUID={uid}&includefield=all");
    let counted = client.search(&search).await;
    let series: BTreeSet<u32> = found.iter().map(|name| name.series).collect();
    let count = |tag: &str| counted[0][tag]["Value"][0].as_u64().unwrap() as usize;
    let counts = (count("00201206"), count("00201208"));
    assert_eq!(counts, (series.len(), found.len()), "counts of {path}");
    answer.body.len()
}

fn array(answer: Answer) -> Vec<Value> {
    answer.is(200).json().as_array().unwrap().clone()
}

fn name_of(result: &Value) -> Name {
    Name::of(result["00080018"]["Value"][0].as_str().unwrap())
}
