//! The object store answers 500, is slow, cuts connections, loses answers, and is away for a while.

use std::{fs, path::Path, time::Duration};

use crate::{
    check::World,
    crash::some_moment,
    harness::{postgres, until},
    load::Owner,
    model::Sizes,
    pair::{Bucket, borrowed, shared, start},
    proxy::{Mood, Proxy},
    stage::{Stage, few_or_many, say},
    verify,
};

/// Instances of more than one part of an upload, too.
const SIZES: Sizes = Sizes { large: 50_000, huge: 5_000_000 };

/// What the server may have in memory at most, in MiB: far less than what it was sent.
const MEMORY: u64 = 400;

/// The most that a process ever had in memory, in MiB.
pub fn peak_memory(pid: i32) -> u64 {
    let status = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status"));
    let status = status.unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() / 1024
}

async fn a_failing_store(name: &str, upstream: &str) {
    let proxy = Proxy::start(upstream).await;
    let url = postgres::url(&postgres::migrated().await).await;
    let mut settings = shared(&format!("http://{}", proxy.address), &url);
    settings.push(("store.buffer_bytes", "32MiB".to_owned()));
    let data = tempfile::tempdir().unwrap();
    let mut server = start(data.path(), &settings).await;
    let client = server.client.clone();
    let mut world = World::begin(Owner::all(3, SIZES), &client).await;

    let moody = async |stage: &Stage| {
        proxy.be(Mood::Moody);
        tokio::time::sleep(Duration::from_secs(few_or_many(3, 8))).await;
        some_moment(stage).await;
        proxy.be(Mood::Well);
    };
    world.work(&[&client], moody).await;
    world.check(&client).await;

    let ill = async |stage: &Stage| {
        some_moment(stage).await;
        proxy.be(Mood::Ill);
        let refused = &stage.tally.refused;
        let before = refused.load(std::sync::atomic::Ordering::Relaxed);
        // Each of them waited as long as the server repeats its own requests.
        until("stores are refused", async || {
            refused.load(std::sync::atomic::Ordering::Relaxed) > before + 2
        })
        .await;
        // What needs no blob is answered all the while.
        client.search("/partitions/north/studies").await;
        client.get("/health/live").await.is(200);
        client.get("/health/ready").await.is(503);
        proxy.be(Mood::Well);
        some_moment(stage).await;
    };
    world.work(&[&client], ill).await;
    assert!(server.lives());
    world.check_all(&client).await;
    world.did_something();
    let memory = peak_memory(server.id());
    assert!(memory < MEMORY, "{memory} MiB");
    server.signal(libc::SIGTERM);
    assert_eq!(server.ended().await.code(), Some(0));
    verify::is_clean(data.path(), &borrowed(&settings)).await;
    world.stage.tell(&format!("{name} behind a failing proxy"));
    say(&format!("faults: {}; most memory: {memory} MiB", proxy.told()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_object_store_fails_in_every_way() {
    a_failing_store("s3s-fs", &Bucket::of_s3s().await.endpoint).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn seaweedfs_fails_in_every_way() {
    match std::env::var("COLLIMATOR_TEST_SEAWEEDFS") {
        Ok(program) => {
            let bucket = Bucket::of_seaweedfs(&program).await;
            a_failing_store("SeaweedFS", &bucket.endpoint).await;
        }
        Err(_) => say("NOT RUN: COLLIMATOR_TEST_SEAWEEDFS is not set"),
    }
}
