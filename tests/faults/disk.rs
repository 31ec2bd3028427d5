//! The disk is full: that of the blobs, that of the private Postgres, or the one that holds both.
//!
//! Where no small file system can be made, files of the server may not grow beyond a size: then the
//! blobs alone meet a limit, and the test says so.

use std::{
    io,
    os::unix::process::CommandExt,
    path::Path,
    process::Command,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use tempfile::TempDir;

use crate::{
    check::World,
    crash::{SETTINGS, some_moment},
    harness::{Client, postgres, process::Process, until},
    load::Owner,
    model::Sizes,
    mount::Small,
    stage::{Stage, add, say},
    verify,
};

const MIB: u64 = 1 << 20;

/// Large enough for a cluster that was just made and some write-ahead log.
const WITH_POSTGRES: u64 = 320 * MIB;

/// Waits until a counter has grown by so many.
async fn grows(what: &str, counter: &AtomicU64, by: u64) {
    let enough = counter.load(Relaxed) + by;
    until(what, async || counter.load(Relaxed) >= enough).await;
}

/// Fills a file system up to `left` under load, until stores are refused for a while, and then makes
/// room.
async fn fill(world: &mut World, client: &Client, small: &Small, left: u64, searched: bool) {
    let full = async |stage: &Stage| {
        some_moment(stage).await;
        small.fill(left);
        grows("requests are refused", &stage.tally.refused, 10).await;
        if searched {
            // Postgres has room: what needs no more is answered as ever.
            grows("searches are answered", &stage.tally.searches, 10).await;
            grows("requests are refused again", &stage.tally.refused, 10).await;
        }
        small.relieve();
        // All go on by themselves.
        grows("stores are acknowledged again", &stage.tally.stored, 20).await;
    };
    world.work(&[client], full).await;
}

/// A full disk under a server, and under one that was killed there.
async fn scenario(name: &str, small: &Small, data: &Path, settings: &[(&str, &str)], left: u64) {
    let start = || Process::start(data, settings, |command| small.enter(command));
    let mut process = start().ready().await.unwrap();
    let client = process.client.clone();
    let mut world = World::begin(Owner::all(2, Sizes::USUAL), &client).await;
    let searched = settings.iter().any(|(key, _)| *key == "blob.dir");
    let has_postgres = small.dir().join("pg").exists();
    fill(&mut world, &client, small, left, searched && !has_postgres).await;
    assert!(process.lives(), "the server ended by itself");
    world.check(&client).await;

    // Killed on a full disk, it starts when there is room.
    let full = async |stage: &Stage| {
        some_moment(stage).await;
        small.fill(left);
        grows("requests are refused", &stage.tally.refused, 10).await;
        process.signal(libc::SIGKILL);
        add(&stage.tally.kills, 1);
    };
    world.work(&[&client], full).await;
    drop(process);
    match start().ready().await {
        Ok(started) => drop(started),
        // It says what is wrong, and does not pretend.
        Err(said) => assert!(said.contains("No space left"), "{said}"),
    }
    small.relieve();
    let process = start().ready().await.unwrap();
    world.check_all(&process.client.clone()).await;
    world.did_something();
    process.signal(libc::SIGTERM);
    assert_eq!(process.ended().await.code(), Some(0));
    verify::is_clean_in(data, settings, |command| small.enter(command)).await;
    world.stage.tell(name);
}

/// A folder with a small file system over it; `None`, and it is said, where that cannot be made.
fn small(bytes: u64) -> Option<(TempDir, Small)> {
    let folder = tempfile::tempdir().unwrap();
    match Small::over(folder.path(), bytes) {
        Ok(small) => Some((folder, small)),
        Err(error) => {
            say(&format!("no small file system can be made here ({error})"));
            None
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_disk_of_everything_is_full() {
    let Some((folder, small)) = small(WITH_POSTGRES) else { return };
    scenario("disk of everything full", &small, folder.path(), &SETTINGS, MIB / 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_disk_of_postgres_is_full() {
    let Some((folder, small)) = small(WITH_POSTGRES) else { return };
    let blobs = postgres::tempdir();
    let mut settings = SETTINGS.to_vec();
    settings.push(("blob.dir", blobs.path().to_str().unwrap()));
    scenario("disk of Postgres full", &small, folder.path(), &settings, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_disk_of_the_blobs_is_full() {
    let Some((folder, small)) = small(64 * MIB) else { return a_file_may_not_grow().await };
    let data = postgres::tempdir();
    let mut settings = SETTINGS.to_vec();
    settings.push(("blob.dir", folder.path().to_str().unwrap()));
    scenario("disk of blobs full", &small, data.path(), &settings, MIB).await;
}

/// Files of a process, and of those that it starts, may have so many bytes.
fn limit(command: &mut Command, bytes: u64) {
    // SAFETY: plain calls in the child.
    unsafe {
        command.pre_exec(move || {
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
            match libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        });
    }
}

/// What can be tried where no file system can be made: large blobs are refused, small ones are not.
async fn a_file_may_not_grow() {
    say("instead, files of the server may not grow beyond 80,000 bytes");
    let url = postgres::url(&postgres::migrated().await).await;
    let mut settings = SETTINGS.to_vec();
    settings.push(("database.url", &url));
    let data = postgres::tempdir();
    let start = |bytes| Process::start(data.path(), &settings, move |c| limit(c, bytes));
    let process = start(80_000).ready().await.unwrap();
    let mut world = World::begin(Owner::all(2, Sizes::USUAL), &process.client).await;
    let refused = async |stage: &Stage| {
        grows("requests are refused", &stage.tally.refused, 5).await;
        grows("others are stored", &stage.tally.stored, 20).await;
    };
    world.work(&[&process.client.clone()], refused).await;
    world.check(&process.client.clone()).await;
    process.signal(libc::SIGTERM);
    assert_eq!(process.ended().await.code(), Some(0));
    let process = start(libc::RLIM_INFINITY).ready().await.unwrap();
    world.work(&[&process.client.clone()], async |stage: &Stage| some_moment(stage).await).await;
    world.check_all(&process.client.clone()).await;
    process.signal(libc::SIGTERM);
    assert_eq!(process.ended().await.code(), Some(0));
    verify::is_clean(data.path(), &settings).await;
    world.stage.tell("files limited in size");
}
