//! `collimator verify`: what is whole is called clean, whatever goes on meanwhile; and each kind of
//! damage is found, named, and nothing else with it.

use std::{
    collections::BTreeSet,
    io::Write,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use collimator::{
    blob::BlobStore,
    index::Db,
    tenancy::PartitionId,
    verify::{self, Report, Thoroughness, Wanted},
};
use futures::future::join_all;
use serde_json::Value;
use sqlx::AssertSqlSafe;

use crate::harness::{Dicom, PARTITIONS, Server, corpus};

mod command;
mod damage;
mod scrub;

const DAY: Duration = Duration::from_secs(86_400);

/// What a run writes for machines.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Verifies all partitions, or those named, and answers the lines of the report.
pub async fn verified(db: &Db, blobs: &BlobStore, only: &[&str], bytes: bool) -> Vec<Value> {
    let mut registry = db.registry().await.unwrap();
    let listed = registry.partition_list().await.unwrap();
    drop(registry);
    let mut partitions: Vec<PartitionId> = listed.into_iter().map(|one| one.id).collect();
    partitions.retain(|id| only.is_empty() || only.contains(&id.as_str()));
    let how = Thoroughness { bytes, orphan_grace: DAY };
    let lines = Lines::default();
    let report = Report::new(None, Some(Box::new(lines.clone())));
    let wanted = Wanted { partitions, how, rate: None };
    let is_clean = verify::run(db, blobs, wanted, report).await.unwrap();
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.last().unwrap()["clean"], is_clean);
    lines
}

/// The findings of a partition, in a word each: the kind and what it is about.
pub fn findings(lines: &[Value], partition: &str) -> BTreeSet<String> {
    let of =
        lines.iter().filter(|line| line["type"] == "finding" && line["partition"] == partition);
    of.map(|line| {
        let about = ["instance", "series", "study", "blob", "sequence"];
        let about = about.iter().find(|name| !line[**name].is_null() && **name != "blob");
        let about = about.map_or(Value::Null, |name| line[*name].clone());
        let about = about.as_str().map_or(about.to_string(), str::to_owned);
        format!("{} {}", line["kind"].as_str().unwrap(), about)
    })
    .collect()
}

fn of_partition<'a>(lines: &'a [Value], partition: &str) -> &'a Value {
    let is_it = |line: &&Value| line["type"] == "partition" && line["partition"] == partition;
    lines.iter().find(is_it).unwrap()
}

fn instance(study: u32, series: u32, number: u32) -> Dicom {
    let study = format!("1.2.{study}");
    let series = format!("{study}.{series}");
    Dicom::ct(&study, &series, &format!("{series}.{number}"))
}

/// Three instances in two series of one study, in one blob, and a large one in a blob of its own.
async fn fill(server: &Server, partition: &str) {
    let path = format!("/partitions/{partition}/studies");
    let small = [instance(1, 1, 1), instance(1, 1, 2), instance(1, 2, 1)].map(|ct| ct.file());
    server.store(&path, &small).await.is(200);
    let mut large = instance(2, 1, 1);
    large.pixels((0..50_000).map(|n| n as u16).collect());
    server.store(&path, &[large.file()]).await.is(200);
}

#[tokio::test]
async fn what_is_whole_is_clean_and_counted() {
    let settings = [PARTITIONS[0], ("store.own_blob_bytes", "64KiB")];
    let server = Server::with(&settings).await;
    let (db, blobs) = server.parts().await;
    fill(&server, "north").await;
    // Every form of frame table and encoding.
    let mut odd = instance(3, 1, 1);
    odd.fragmented(
        corpus::JPEG_BASELINE,
        vec![vec![vec![1; 8], vec![2; 8]], vec![vec![3; 8]]],
        true,
    );
    let mut plain = instance(3, 1, 2);
    plain.encapsulated(corpus::RLE, vec![vec![1; 8], vec![2; 8]]);
    let mut deflated = instance(3, 1, 3);
    deflated.syntax(corpus::DEFLATED).pixels(vec![0; 10_000]).short(0x0028, 0x0010, 100);
    let mut big = instance(3, 1, 4);
    big.syntax(corpus::BIG);
    let mut bare = instance(3, 2, 1);
    bare.remove(0x7FE0, 0x0010).remove(0x0008, 0x0060);
    let files = [odd, plain, deflated, big, bare].map(|dicom| dicom.file());
    server.store("/partitions/south/studies", &files).await.is(200);
    for path in ["1.2.3/series/1.2.3.1/instances/1.2.3.1.2", "1.2.3/series/1.2.3.2"] {
        server.delete(&format!("/partitions/south/studies/{path}")).await.is(204);
    }
    server.delete("/partitions/north/studies/1.2.2").await.is(204);
    server.store("/partitions/north/studies", &[instance(2, 1, 1).file()]).await.is(200);

    let lines = verified(&db, &blobs, &[], true).await;
    let found: Vec<&Value> = lines.iter().filter(|line| line["type"] == "finding").collect();
    assert!(found.is_empty(), "{found:#?}");
    let north = &of_partition(&lines, "north")["checked"];
    let counts = ["studies", "series", "instances", "blobs"].map(|name| north[name].clone());
    assert_eq!(counts, [2, 3, 4, 2].map(Value::from));
    assert_eq!(north["objects"], 3, "one awaits removal");
    assert_eq!(north["events"], 6);
    assert!(north["bytes"].as_u64().unwrap() > 2_000);
    assert_eq!(of_partition(&lines, "south")["checked"]["instances"], 3);
    assert_eq!(lines.first().unwrap()["depth"], "full");

    assert_eq!(of_partition(&lines, "north")["scrub"]["damage"], 0);

    let quick = verified(&db, &blobs, &["north"], false).await;
    assert_eq!(of_partition(&quick, "north")["checked"]["bytes"], 0);
    assert_eq!(quick.last().unwrap()["clean"], true);
}

#[tokio::test]
async fn stores_and_deletions_meanwhile_are_no_damage() {
    let settings = [("delete.grace_period", "0s"), ("sweep.interval", "1s")];
    let server = Server::with(&settings).await;
    let (db, blobs) = server.parts().await;
    let (next, stop) = (AtomicU32::new(0), AtomicBool::new(false));
    let write = async || {
        while !stop.load(Ordering::Relaxed) {
            let n = next.fetch_add(1, Ordering::Relaxed);
            // Few studies and series, so that parents come and go all the time.
            let files: Vec<Vec<u8>> =
                (0..3).map(|m| instance(n % 3, m % 2, 10 * n + m).file()).collect();
            if n % 5 == 0 {
                // Events are numbered meanwhile.
                server.get("/changefeed?limit=1").await.is(200);
            }
            let status = server.store("/studies", &files).await.status;
            assert!([200, 202, 409].contains(&status), "{status}");
            let path = match n % 4 {
                0 => format!("/studies/1.2.{}", n % 3),
                1 => format!("/studies/1.2.{}/series/1.2.{}.1", n % 3, n % 3),
                _ => continue,
            };
            server.delete(&path).await;
        }
    };
    let check = async {
        let mut round = 0;
        while round < 8 || next.load(Ordering::Relaxed) < 60 {
            round += 1;
            let lines = verified(&db, &blobs, &[], round % 2 == 0).await;
            let found: Vec<&Value> = lines.iter().filter(|l| l["type"] == "finding").collect();
            assert!(found.is_empty(), "{found:#?}");
        }
        stop.store(true, Ordering::Relaxed);
    };
    let writers = join_all([write(), write(), write()]);
    tokio::join!(writers, check);
}

/// Runs SQL as the superuser.
pub async fn sql(server: &Server, text: &str) {
    let mut conn = server.superuser().await;
    sqlx::raw_sql(AssertSqlSafe(text.to_owned())).execute(&mut conn).await.unwrap();
}

/// The file of the blob that holds an instance.
async fn file(server: &Server, partition: &str, uid: &str) -> (PathBuf, u64) {
    let mut conn = server.superuser().await;
    let row: (String, i64) = sqlx::query_as(
        "SELECT blob_id::text, blob_offset FROM instance
        WHERE partition_id = $1 AND sop_instance_uid = $2",
    )
    .bind(partition)
    .bind(uid)
    .fetch_one(&mut conn)
    .await
    .unwrap();
    let path = server.blobs(partition).into_iter().find(|path| path.ends_with(&row.0));
    (path.expect("a file"), row.1 as u64)
}
