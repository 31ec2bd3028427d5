//! The server is killed at random moments, while it works and while it starts, alone or together
//! with its Postgres.

use std::{collections::BTreeMap, fs, os::unix::fs::MetadataExt, path::Path, time::Duration};

use rand::RngExt;

use crate::{
    check::World,
    harness::{
        postgres,
        process::{Process, signal_to},
        until,
    },
    load::Owner,
    model::{OWN_BLOB, Sizes},
    stage::{Stage, add, few_or_many, kills, say},
    verify,
};

/// Small limits, so that large instances, several batches and removals are part of the game.
pub const SETTINGS: [(&str, &str); 6] = [
    OWN_BLOB,
    ("store.batch_bytes", "64KiB"),
    ("features.enable_data_partition", "true"),
    ("delete.grace_period", "0s"),
    ("sweep.interval", "1s"),
    ("sweep.orphan_grace", "60s"),
];

/// What is killed.
#[derive(Clone, Copy)]
pub enum Victim {
    /// The server, whose Postgres then ends in good order.
    Server,
    /// The server and its postmaster.
    Postmaster,
    /// All processes at once: what remains is what a power cut leaves, but for what was not synced.
    All,
}

/// The processes of the private Postgres of a data folder.
pub fn postgres_of(data: &Path) -> Vec<i32> {
    let Ok(folder) = fs::metadata(data.join("pg/data")) else { return Vec::new() };
    let is_there = |pid: &i32| {
        fs::metadata(format!("/proc/{pid}/cwd"))
            .is_ok_and(|cwd| (cwd.dev(), cwd.ino()) == (folder.dev(), folder.ino()))
    };
    let all = fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_there).collect()
}

/// The process id of the Postgres of a data folder, while it has one.
pub fn postmaster(data: &Path) -> Option<i32> {
    let text = fs::read_to_string(data.join("pg/data/postmaster.pid")).ok()?;
    text.lines().next()?.parse().ok()
}

/// Waits until a few requests more are acknowledged, and then for a moment drawn at random.
pub async fn some_moment(stage: &Stage) {
    let (enough, pause) = {
        let mut rng = rand::rng();
        let requests = rng.random_range(1..few_or_many(40, 80));
        (stage.acknowledged() + requests, rng.random_range(0..80))
    };
    until("some requests are acknowledged", async || stage.acknowledged() >= enough).await;
    tokio::time::sleep(Duration::from_millis(pause)).await;
}

/// Kills a server, and what else is to be killed with it.
pub fn kill(server: i32, data: &Path, victim: Victim) {
    // Those of this folder only, and each a child of ours or of the server.
    let others = match victim {
        Victim::Server => Vec::new(),
        Victim::Postmaster => postmaster(data).into_iter().collect(),
        Victim::All => postgres_of(data),
    };
    signal_to(server, libc::SIGKILL);
    others.into_iter().filter(|pid| *pid > 0).for_each(|pid| signal_to(pid, libc::SIGKILL));
}

/// Most often the server alone.
pub fn any_victim() -> Victim {
    match rand::rng().random_range(0..4) {
        0 => Victim::Postmaster,
        1 => Victim::All,
        _ => Victim::Server,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_kill_9() {
    let data = postgres::tempdir();
    let mut at_start = BTreeMap::from([(false, 0), (true, 0)]);
    let mut process = Process::start(data.path(), &SETTINGS, |_| {}).ready().await.unwrap();
    let mut world = World::begin(Owner::all(3, Sizes::USUAL), &process.client).await;
    for _ in 0..kills() {
        let in_start = rand::rng().random_ratio(1, 4);
        *at_start.entry(in_start).or_default() += 1;
        if in_start {
            drop(process);
            let starting = Process::start(data.path(), &SETTINGS, |_| {});
            let pause = rand::rng().random_range(0..400);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            kill(starting.id(), data.path(), any_victim());
        } else {
            let (id, client) = (process.id(), process.client.clone());
            let die = async |stage: &Stage| {
                some_moment(stage).await;
                kill(id, data.path(), any_victim());
            };
            world.work(&[&client], die).await;
            drop(process);
        }
        add(&world.stage.tally.kills, 1);
        process = Process::start(data.path(), &SETTINGS, |_| {}).ready().await.unwrap();
        world.check(&process.client).await;
    }
    world.check_all(&process.client).await;
    world.did_something();
    process.signal(libc::SIGTERM);
    assert_eq!(process.ended().await.code(), Some(0));
    verify::is_clean(data.path(), &SETTINGS).await;
    world.stage.tell("kill -9 of the server");
    say(&format!("of these {} while it started", at_start[&true]));
}
