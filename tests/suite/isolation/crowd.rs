//! Many partitions at once, over few connections to the database: whoever asks is answered with what
//! is his, whatever the others do at that moment. The UIDs are the same in all partitions, and half of
//! the requests name none: whose they are the token alone says.

use std::{collections::BTreeMap, sync::Arc};

use futures::future::join_all;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::sync::Mutex;

use crate::harness::{
    Client, Dicom,
    issuer::{self, Issuer},
};

const TENANTS: usize = 200;
/// Each with connections of its own.
const CLIENTS: u64 = 64;
/// Requests of each client.
const EACH: usize = 16;
const STUDIES: u32 = 3;

/// What one partition holds: files by study and instance, and how many events it has had.
#[derive(Default)]
struct Tenant {
    id: String,
    token: String,
    /// Whether requests name the partition.
    is_named: bool,
    files: BTreeMap<(u32, u32), Vec<u8>>,
    stored: u32,
    events: usize,
}

impl Tenant {
    fn path(&self, rest: &str) -> String {
        let named = if self.is_named { format!("/partitions/{}", self.id) } else { String::new() };
        format!("{named}{rest}")
    }

    fn studies(&self) -> Vec<u32> {
        let mut studies: Vec<u32> = self.files.keys().map(|(study, _)| *study).collect();
        studies.dedup();
        studies
    }

    async fn store(&mut self, client: &Client, study: u32) {
        self.stored += 1;
        let uid = format!("1.2.{study}");
        let mut file = Dicom::ct(&uid, &format!("{uid}.1"), &format!("{uid}.1.{}", self.stored));
        let file = file.text(0x0010, 0x0020, "LO", &self.id).file();
        client.store(&self.path("/studies"), std::slice::from_ref(&file)).await.is(200);
        self.files.insert((study, self.stored), file);
        self.events += 1;
    }

    async fn search(&self, client: &Client) {
        let found = client.search(&self.path("/studies?includefield=all&limit=100")).await;
        let expected = self.studies();
        assert_eq!(found.len(), expected.len(), "{}", self.id);
        for study in found {
            assert_eq!(study["00100020"]["Value"][0], *self.id);
            assert_eq!(study["00651001"]["Value"][0], *self.id);
            let uid = study["0020000D"]["Value"][0].as_str().unwrap();
            let number: u32 = uid.strip_prefix("1.2.").unwrap().parse().unwrap();
            let instances = self.files.keys().filter(|(study, _)| *study == number).count();
            assert_eq!(study["00201208"]["Value"][0], instances, "{} {uid}", self.id);
        }
    }

    async fn retrieve(&self, client: &Client, study: u32) {
        let answer = client.get(&self.path(&format!("/studies/1.2.{study}"))).await;
        let of_study = self.files.iter().filter(|((of, _), _)| *of == study);
        let mut expected: Vec<_> = of_study.map(|(_, file)| file.clone()).collect();
        expected.sort();
        match answer.status {
            404 | 410 => assert!(expected.is_empty(), "{} {study}", self.id),
            _ => assert_eq!(answer.is(200).bodies(), expected, "{} {study}", self.id),
        }
    }

    async fn delete(&mut self, client: &Client, study: u32) {
        let answer = client.delete(&self.path(&format!("/studies/1.2.{study}"))).await;
        let before = self.files.len();
        self.files.retain(|(of, _), _| *of != study);
        let gone = before - self.files.len();
        assert_eq!(answer.status == 204, gone > 0, "{} {study}: {}", self.id, answer.text());
        self.events += gone;
    }

    async fn changes(&self, client: &Client) {
        let path = self.path("/changefeed?offset=0&limit=200&includeMetadata=true");
        let feed = client.get(&path).await.is(200).json();
        let feed = feed.as_array().unwrap();
        assert_eq!(feed.len(), self.events, "{}", self.id);
        for event in feed {
            assert_eq!(event["partitionId"], *self.id);
            if let Some(patient) = event["metadata"].get("00100020") {
                assert_eq!(patient["Value"][0], *self.id);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_partitions_at_once_get_each_its_own() {
    let issuer = Issuer::start().await;
    // Whoever waits for a connection waits as long as a busy machine takes.
    let patient = [("database.connect_timeout", "120s")];
    let server = issuer::server(&[&issuer], &patient).await;
    let tenant = |n| {
        let id = format!("tenant-{n:03}");
        let token = issuer.token_for("ada", &id, "partition-admin");
        Tenant { id, token, is_named: n % 2 == 0, ..Tenant::default() }
    };
    let tenants: Arc<Vec<_>> = Arc::new((0..TENANTS).map(|n| Mutex::new(tenant(n))).collect());
    let clients = (0..CLIENTS).map(|seed| {
        let (connections, tenants) = (Client::new(server.base.clone()), tenants.clone());
        tokio::spawn(async move {
            let mut rng = StdRng::seed_from_u64(seed);
            for _ in 0..EACH {
                let mut tenant = tenants[rng.random_range(0..TENANTS)].lock().await;
                let client = connections.by(&tenant.token);
                let study = rng.random_range(1..=STUDIES);
                if tenant.stored == 0 {
                    tenant.store(&client, study).await;
                }
                match rng.random_range(0..10) {
                    0..4 => tenant.store(&client, study).await,
                    4..6 => tenant.search(&client).await,
                    6..8 => tenant.retrieve(&client, study).await,
                    8 => tenant.delete(&client, study).await,
                    _ => tenant.changes(&client).await,
                }
            }
        })
    });
    for done in join_all(clients).await {
        done.unwrap();
    }
    // And all of it together is what each has.
    let connections = Client::new(server.base.clone());
    for (n, tenant) in tenants.iter().enumerate() {
        let tenant = tenant.lock().await;
        let client = connections.by(&tenant.token);
        // Whose partition it is not finds nothing there.
        let other = tenants[(n + 1) % TENANTS].lock().await.id.clone();
        client.get(&format!("/partitions/{other}/studies")).await.problem(404);
        if tenant.stored > 0 {
            tenant.search(&client).await;
            tenant.changes(&client).await;
        }
    }
}
