//! Two servers on one database and one bucket, killed in turn while clients use both.

use std::{any::Any, path::Path};

use rand::RngExt;
use tempfile::TempDir;

use crate::{
    check::World,
    crash::{SETTINGS, some_moment},
    harness::{postgres, process::Process},
    load::Owner,
    model::Sizes,
    servers::{BUCKET, seaweedfs, serve_s3s},
    stage::{Stage, add, kills},
    verify,
};

/// A bucket of a real S3 server.
pub struct Bucket {
    pub endpoint: String,
    _alive: Box<dyn Any>,
}

impl Bucket {
    /// Of SeaweedFS where there is one, which is faster; else of s3s-fs.
    async fn any() -> Self {
        match std::env::var("COLLIMATOR_TEST_SEAWEEDFS") {
            Ok(program) => Self::of_seaweedfs(&program).await,
            Err(_) => Self::of_s3s().await,
        }
    }

    /// Of a server in this process.
    pub async fn of_s3s() -> Self {
        let (address, folder) = serve_s3s(Some(("testkey", "testsecret"))).await;
        Self { endpoint: format!("http://{address}"), _alive: Box::new(folder) }
    }

    /// Of a server of its own.
    pub async fn of_seaweedfs(program: &str) -> Self {
        let store = seaweedfs(program).await;
        Self { endpoint: store.config.endpoint.clone().unwrap(), _alive: Box::new(store) }
    }
}

/// Settings of a server on an S3 endpoint and a database.
pub fn shared(endpoint: &str, url: &str) -> Vec<(&'static str, String)> {
    let mut settings: Vec<(&'static str, String)> =
        SETTINGS.map(|(key, value)| (key, value.to_owned())).to_vec();
    let blobs = [
        ("database.url", url),
        ("blob.kind", "s3"),
        ("blob.bucket", BUCKET),
        ("blob.endpoint", endpoint),
        ("blob.allow_http", "true"),
        ("blob.access_key_id", "testkey"),
        ("blob.secret_access_key", "testsecret"),
    ];
    settings.extend(blobs.map(|(key, value)| (key, value.to_owned())));
    settings
}

/// Settings as processes take them.
pub fn borrowed<'a>(settings: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    settings.iter().map(|(key, value)| (*key, value.as_str())).collect()
}

/// Starts a server with settings.
pub async fn start(data: &Path, settings: &[(&'static str, String)]) -> Process {
    Process::start(data, &borrowed(settings), |_| {}).ready().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_are_killed_in_turn() {
    let bucket = Bucket::any().await;
    let url = postgres::url(&postgres::migrated().await).await;
    let settings = shared(&bucket.endpoint, &url);
    let folders: [TempDir; 2] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    let mut servers = Vec::new();
    for folder in &folders {
        servers.push(start(folder.path(), &settings).await);
    }
    let mut world = World::begin(Owner::all(3, Sizes::USUAL), &servers[0].client).await;
    for _ in 0..kills() / 4 {
        let victim = rand::rng().random_range(0..2);
        let killed = servers.remove(victim);
        let survivor = servers[0].client.clone();
        let both = [killed.client.clone(), survivor.clone()];
        let folder = folders[victim].path();
        let mut again = None;
        let die = async |stage: &Stage| {
            some_moment(stage).await;
            drop(killed);
            add(&stage.tally.kills, 1);
            // The clients go on with both until they notice; then the other one comes back.
            let back = start(folder, &settings).await;
            stage.show(&[&back.client, &survivor]);
            again = Some(back);
            some_moment(stage).await;
        };
        world.work(&[&both[0], &both[1]], die).await;
        servers.insert(victim, again.unwrap());
        let any = rand::rng().random_range(0..2);
        world.check(&servers[any].client.clone()).await;
    }
    for server in &servers {
        world.check_all(&server.client.clone()).await;
    }
    world.did_something();
    for server in servers {
        server.signal(libc::SIGTERM);
        assert_eq!(server.ended().await.code(), Some(0));
    }
    verify::is_clean(folders[0].path(), &borrowed(&settings)).await;
    world.stage.tell("two servers on one archive");
}
