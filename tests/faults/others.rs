//! The server is killed while clients store and delete Non-Patient Instances, and create and claim
//! workitems.

use std::collections::BTreeMap;

use futures::future::join_all;
use rand::{RngExt, rngs::SmallRng};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    crash::{SETTINGS, any_victim, kill, some_moment},
    harness::{Client, Dicom, postgres, process::Process, until},
    load::{Said, say},
    model::{PARTITIONS, Sizes},
    stage::{Stage, add, kills},
    verify,
};

const JSON: &str = "application/dicom+json";
const PALETTE: &str = "1.2.840.10008.5.1.4.39.1";

/// What a client knows of a Non-Patient Instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Palette {
    Here,
    Gone,
    /// A request of which nobody knows whether it was carried out: to store it, or to delete it.
    Sent,
    Dropped,
}

/// What a client knows of a workitem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Workitem {
    /// Perhaps.
    Sent,
    Scheduled,
    /// Scheduled, or claimed.
    Asked,
    Claimed,
}

/// A client with instances and workitems of its own.
struct Other {
    partition: &'static str,
    number: u32,
    palettes: BTreeMap<u32, Palette>,
    workitems: BTreeMap<u32, Workitem>,
    rng: SmallRng,
}

fn of(vr: &str, value: impl Into<Value>) -> Value {
    json!({ "vr": vr, "Value": [value.into()] })
}

impl Other {
    fn new(number: u32) -> Self {
        Self {
            partition: PARTITIONS[number as usize % PARTITIONS.len()],
            number,
            palettes: BTreeMap::new(),
            workitems: BTreeMap::new(),
            rng: rand::make_rng(),
        }
    }

    fn uid(&self, which: u32) -> String {
        format!("1.2.{}.{which}", self.number)
    }

    fn path(&self, resource: &str) -> String {
        format!("/partitions/{}/{resource}", self.partition)
    }

    /// Always the same bytes for the same number.
    fn file(&self, which: u32) -> Vec<u8> {
        let mut dicom = Dicom::item();
        dicom
            .text(0x0008, 0x0016, "UI", PALETTE)
            .text(0x0008, 0x0018, "UI", &self.uid(which))
            .text(0x0070, 0x0080, "CS", &format!("PALETTE{which}"))
            .words(0x0028, 0x1201, "OW", (0..256 + which as u16 % 5000).collect());
        dicom.file()
    }

    async fn work(&mut self, stage: &Stage) {
        while !stage.is_stopped() {
            match self.rng.random_range(0..4) {
                0 => self.store(stage).await,
                1 => self.delete(stage).await,
                2 => self.create(stage).await,
                _ => self.claim(stage).await,
            }
        }
    }

    /// One that satisfies, or the next new one.
    fn palette(&self, wanted: &[Palette]) -> Option<u32> {
        let mut found = self.palettes.iter().filter(|(_, is)| wanted.contains(is));
        found.next().map(|(which, _)| *which)
    }

    async fn store(&mut self, stage: &Stage) {
        let which = self.palette(&[Palette::Sent]).unwrap_or(self.palettes.len() as u32 + 1);
        let request = stage.client().request(Method::POST, &self.path("color-palettes"));
        let request = request.header("content-type", "application/dicom").body(self.file(which));
        let said = match say(request).await {
            Said::Answer(answer) => {
                answer.is(200);
                add(&stage.tally.stored, 1);
                Palette::Here
            }
            Said::Nothing => {
                add(&stage.tally.refused, 1);
                Palette::Sent
            }
        };
        self.palettes.insert(which, said);
    }

    async fn delete(&mut self, stage: &Stage) {
        let Some(which) = self.palette(&[Palette::Dropped, Palette::Here]) else { return };
        let path = self.path(&format!("color-palettes/{}", self.uid(which)));
        let before = self.palettes[&which];
        let said = match say(stage.client().request(Method::DELETE, &path)).await {
            Said::Answer(answer) => {
                // The first try was carried out.
                let is_repeated = before == Palette::Dropped && answer.status == 404;
                assert!(answer.status == 204 || is_repeated, "{path}: {}", answer.text());
                add(&stage.tally.deleted, 1);
                Palette::Gone
            }
            Said::Nothing => {
                add(&stage.tally.refused, 1);
                Palette::Dropped
            }
        };
        self.palettes.insert(which, said);
    }

    fn workitem(&self, wanted: &[Workitem]) -> Option<u32> {
        let mut found = self.workitems.iter().filter(|(_, is)| wanted.contains(is));
        found.next().map(|(which, _)| *which)
    }

    async fn create(&mut self, stage: &Stage) {
        let before = self.workitem(&[Workitem::Sent]);
        let which = before.unwrap_or(self.workitems.len() as u32 + 1);
        let code = json!({ "vr": "SQ", "Value": [{
            "00080100": of("SH", "W1"),
            "00080102": of("SH", "99X"),
            "00080104": of("LO", "a code"),
        }] });
        let body = json!({
            "00404005": of("DT", "20260101120000"),
            "00404018": code,
            "00404041": of("CS", "READY"),
            "00741000": of("CS", "SCHEDULED"),
            "00741200": of("CS", "MEDIUM"),
            "00741202": of("LO", "a list"),
            "00741204": of("LO", format!("step {which}")),
        });
        let path = self.path(&format!("workitems?workitem={}", self.uid(which)));
        let request = stage.client().request(Method::POST, &path);
        let said = match say(request.header("content-type", JSON).body(body.to_string())).await {
            Said::Answer(answer) => {
                let is_repeated = before.is_some() && answer.status == 409;
                assert!(answer.status == 201 || is_repeated, "{path}: {}", answer.text());
                add(&stage.tally.stored, 1);
                Workitem::Scheduled
            }
            Said::Nothing => {
                add(&stage.tally.refused, 1);
                Workitem::Sent
            }
        };
        self.workitems.insert(which, said);
    }

    async fn claim(&mut self, stage: &Stage) {
        let wanted = [Workitem::Asked, Workitem::Scheduled];
        let Some(which) = self.workitem(&wanted) else { return };
        let before = self.workitems[&which];
        let path = self.path(&format!("workitems/{}/state", self.uid(which)));
        let body = json!({
            "00741000": of("CS", "IN PROGRESS"),
            "00081195": of("UI", format!("1.3.{}.{which}", self.number)),
        });
        let request = stage.client().request(Method::PUT, &path);
        let said = match say(request.header("content-type", JSON).body(body.to_string())).await {
            Said::Answer(answer) => {
                let is_repeated = before == Workitem::Asked && answer.status == 409;
                assert!(answer.status == 200 || is_repeated, "{path}: {}", answer.text());
                add(&stage.tally.stored, 1);
                Workitem::Claimed
            }
            Said::Nothing => {
                add(&stage.tally.refused, 1);
                Workitem::Asked
            }
        };
        self.workitems.insert(which, said);
    }

    /// All that was acknowledged is there, whole, and nothing else; what was in doubt is learnt.
    async fn check(&mut self, client: &Client, stage: &Stage) {
        for (which, known) in self.palettes.clone() {
            let path = self.path(&format!("color-palettes/{}", self.uid(which)));
            let got = client.get_as(&path, "application/dicom").await;
            let is_here = match known {
                Palette::Here => true,
                Palette::Gone => false,
                Palette::Sent | Palette::Dropped => got.status == 200,
            };
            let got = got.is(if is_here { 200 } else { 404 });
            if is_here {
                assert!(got.body == self.file(which), "{path} is not what was sent");
                add(&stage.tally.compared, got.body.len());
                self.palettes.insert(which, Palette::Here);
            } else if known == Palette::Sent {
                // It may be sent again.
                continue;
            } else {
                self.palettes.insert(which, Palette::Gone);
            }
        }
        for (which, known) in self.workitems.clone() {
            let path = self.path(&format!("workitems/{}", self.uid(which)));
            let got = client.get(&path).await;
            if known == Workitem::Sent && got.status == 404 {
                continue;
            }
            let item = got.is(200).json()[0].take();
            assert_eq!(item["00741204"]["Value"][0], format!("step {which}"), "{path}");
            let state = item["00741000"]["Value"][0].as_str().unwrap();
            let may_be = match known {
                Workitem::Sent | Workitem::Scheduled => &["SCHEDULED"][..],
                Workitem::Asked => &["SCHEDULED", "IN PROGRESS"],
                Workitem::Claimed => &["IN PROGRESS"],
            };
            assert!(may_be.contains(&state), "{path} is {state}, and was {known:?}");
            let is_claimed = state == "IN PROGRESS";
            let learnt = if is_claimed { Workitem::Claimed } else { Workitem::Scheduled };
            self.workitems.insert(which, learnt);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn non_patient_instances_and_workitems_survive_kill_9() {
    let data = postgres::tempdir();
    let mut process = Process::start(data.path(), &SETTINGS, |_| {}).ready().await.unwrap();
    let stage = Stage::default();
    // The partitions have to be there before workitems are.
    for (study, partition) in PARTITIONS.into_iter().enumerate() {
        let name = crate::model::Name { study: study as u32, series: 1, number: 1 };
        let path = format!("/partitions/{partition}/studies");
        process.client.store(&path, &[name.file(Sizes::USUAL)]).await.is(200);
    }
    let mut others: Vec<Other> = (1..=4).map(Other::new).collect();
    for _ in 0..kills() {
        stage.open(&[&process.client]);
        let id = process.id();
        let die = async {
            some_moment(&stage).await;
            kill(id, data.path(), any_victim());
            stage.stop();
        };
        let work = join_all(others.iter_mut().map(|other| other.work(&stage)));
        tokio::join!(work, die);
        drop(process);
        add(&stage.tally.kills, 1);
        process = Process::start(data.path(), &SETTINGS, |_| {}).ready().await.unwrap();
        let client = &process.client;
        until("it is ready", async || client.get("/health/ready").await.status == 200).await;
        for other in &mut others {
            other.check(client, &stage).await;
        }
    }
    for partition in PARTITIONS {
        let mine = others.iter().filter(|other| other.partition == partition);
        let here = mine.flat_map(|other| other.palettes.values());
        let here = here.filter(|is| **is == Palette::Here).count();
        let path = format!("/partitions/{partition}/color-palettes?limit=10000");
        assert_eq!(process.client.search(&path).await.len(), here, "{partition}");
    }
    process.signal(libc::SIGTERM);
    assert_eq!(process.ended().await.code(), Some(0));
    verify::is_clean(data.path(), &SETTINGS).await;
    stage.tell("kill -9 among Non-Patient Instances and workitems");
}
