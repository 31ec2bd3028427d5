//! Postgres dies, is killed in part, stands still or cannot be reached for ten seconds, while the
//! server goes on.

use std::{path::Path, sync::atomic::Ordering::Relaxed, time::Duration};

use rand::RngExt;

use crate::{
    check::World,
    crash::{SETTINGS, postgres_of, postmaster, some_moment},
    harness::{
        postgres,
        process::{Process, signal_to},
        until,
    },
    load::Owner,
    model::Sizes,
    proxy::{Line, Wire},
    stage::{Stage, add, kills},
    verify,
};

/// How long it is gone.
const GONE: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn the_server_outlives_its_postgres() {
    let data = postgres::tempdir();
    let mut process = Process::start(data.path(), &SETTINGS, |_| {}).ready().await.unwrap();
    let mut world = World::begin(Owner::all(2, Sizes::USUAL), &process.client).await;
    for _ in 0..kills().div_ceil(5) {
        let client = process.client.clone();
        let die = async |stage: &Stage| {
            some_moment(stage).await;
            let before = postmaster(data.path()).unwrap();
            let all = postgres_of(data.path());
            let one = all[rand::rng().random_range(0..all.len())];
            // The postmaster ends all others with it, and starts anew when one backend dies.
            let victim = if rand::rng().random() { before } else { one };
            signal_to(victim, libc::SIGKILL);
            add(&stage.tally.kills, 1);
            // Until then those that are left answer as if nothing had happened.
            until("Postgres is another one", async || {
                let left = postgres_of(data.path());
                let others = all.iter().all(|pid| *pid == before || !left.contains(pid));
                others && (victim != before || postmaster(data.path()).is_some_and(|n| n != before))
            })
            .await;
            // They go on by themselves.
            some_moment(stage).await;
        };
        world.work(&[&client], die).await;
        assert!(process.lives());
        world.check(&client).await;
    }
    let client = process.client.clone();
    world.check_all(&client).await;
    world.did_something();
    process.signal(libc::SIGTERM);
    assert_eq!(process.ended().await.code(), Some(0));
    verify::is_clean(data.path(), &SETTINGS).await;
    world.stage.tell("kill -9 of Postgres");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_wait_while_postgres_stands_still() {
    let data = postgres::tempdir();
    let mut settings = SETTINGS.to_vec();
    // A search that is over time while Postgres stands still does not ask for too much.
    settings.push(("search.timeout", "4s"));
    let mut process = Process::start(data.path(), &settings, |_| {}).ready().await.unwrap();
    let mut world = World::begin(Owner::all(2, Sizes::USUAL), &process.client).await;
    let client = process.client.clone();
    let stand_still = async |stage: &Stage| {
        some_moment(stage).await;
        let all = postgres_of(data.path());
        all.iter().for_each(|pid| signal_to(*pid, libc::SIGSTOP));
        tokio::time::sleep(GONE).await;
        all.iter().for_each(|pid| signal_to(*pid, libc::SIGCONT));
        some_moment(stage).await;
    };
    world.work(&[&client], stand_still).await;
    assert!(process.lives());
    world.check_all(&client).await;
    world.did_something();
    process.signal(libc::SIGTERM);
    assert_eq!(process.ended().await.code(), Some(0));
    verify::is_clean(data.path(), &settings).await;
    world.stage.tell("Postgres stopped for ten seconds");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_wait_or_are_refused_while_postgres_is_away() {
    let name = postgres::migrated().await;
    let url = postgres::url(&name).await;
    let (_, sockets) = url.split_once("?host=").unwrap();
    let mut wire = Wire::start(Path::new(sockets).join(".s.PGSQL.5432")).await;
    let url = format!("postgres://owner_of_{name}:secret@127.0.0.1:{}/{name}", wire.port);
    let mut settings = SETTINGS.to_vec();
    settings.push(("database.url", &url));
    let data = tempfile::tempdir().unwrap();
    let mut process = Process::start(data.path(), &settings, |_| {}).ready().await.unwrap();
    let client = process.client.clone();
    let mut world = World::begin(Owner::all(2, Sizes::USUAL), &client).await;
    let away = async |stage: &Stage| {
        some_moment(stage).await;
        for line in [Line::Dropped, Line::Refused] {
            wire.set(line).await;
            tokio::time::sleep(GONE / 2).await;
            // Whether it is there and what it has are two questions.
            client.get("/health/live").await.is(200);
        }
        // However slow the clients are: it was away for them too.
        until("requests are refused", async || stage.tally.refused.load(Relaxed) > 0).await;
        wire.set(Line::Through).await;
        some_moment(stage).await;
    };
    world.work(&[&client], away).await;
    assert!(process.lives());
    world.check_all(&client).await;
    world.did_something();
    process.signal(libc::SIGTERM);
    assert_eq!(process.ended().await.code(), Some(0));
    verify::is_clean(data.path(), &settings).await;
    world.stage.tell("Postgres away for ten seconds");
}
