//! The background tasks against a real Postgres and a folder of blobs.

#[allow(dead_code, reason = "shared with the tests of the index")]
#[path = "../index/data.rs"]
mod data;
#[allow(dead_code, reason = "shared with the tests of the index")]
#[path = "../suite/harness/postgres.rs"]
mod postgres;
#[allow(dead_code, reason = "shared with the tests over HTTP")]
#[path = "../suite/harness/receiver.rs"]
mod receiver;

mod compact;
mod feed;
mod reindex;
mod remove;
mod sweep;
mod webhooks;
mod worklist;

use std::{
    collections::BTreeSet,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use collimator::{
    blob::{BlobStore, PartitionBlobs},
    config::BlobConfig,
    dicom::index::NonPatient,
    index::{NewBlob, NewNonPatient},
    tenancy::PartitionId,
};
use futures::TryStreamExt;
use tempfile::TempDir;
use uuid::Uuid;

use data::Sample;
use postgres::Database;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A database, a folder of blobs, and partitions in both.
struct Archive {
    database: Database,
    store: BlobStore,
    dir: TempDir,
}

impl Archive {
    async fn new(partitions: &[&str]) -> Self {
        let database = Database::new().await;
        for id in partitions {
            let mut registry = database.db.registry().await.unwrap();
            registry.partition_create(&partition(id)).await.unwrap();
            registry.commit().await.unwrap();
        }
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(&BlobConfig::default(), dir.path()).unwrap();
        Self { database, store, dir }
    }

    fn within(&self, id: &str) -> PartitionBlobs {
        self.store.within(&partition(id))
    }

    async fn put(&self, id: &str, blob: Uuid) {
        self.within(id).put(blob, vec![Bytes::from_static(b"bytes")]).await.unwrap();
    }

    /// Puts a blob and commits rows of one instance for it.
    async fn store(&self, id: &str, blob: Uuid, sample: Sample) {
        self.put(id, blob).await;
        let mut tx = self.database.db.begin_in(&postgres::scope(id)).await.unwrap();
        let new = NewBlob { id: blob, length: 1 << 20 };
        let stored = data::store_in(&mut tx, &new, &[sample]).await.unwrap();
        assert!(stored.iter().all(data::is_new));
        tx.commit().await.unwrap();
    }

    /// Puts a blob and commits the row of a Non-Patient Instance for it.
    async fn store_palette(&self, id: &str, blob: Uuid, instance: &str) {
        self.put(id, blob).await;
        let uid = |text: &str| text.parse().unwrap();
        let indexed = NonPatient {
            transfer_syntax: uid("1.2.840.10008.1.2.1"),
            sop_class: uid("1.2.840.10008.5.1.4.39.1"),
            instance: uid(instance),
            data_set_offset: 0,
            has_preamble: false,
            metadata: Vec::new(),
            bulk: Vec::new(),
            warnings: Vec::new(),
        };
        let (category, metadata, length, sha256) = ("color-palettes", &b"{}"[..], 5, [0; 32]);
        let new = NewNonPatient { category, indexed: &indexed, metadata, length, sha256 };
        let mut tx = self.database.db.begin_in(&postgres::scope(id)).await.unwrap();
        assert!(tx.non_patient_create(NewBlob { id: blob, length }, &new).await.unwrap());
        tx.commit().await.unwrap();
    }

    async fn delete(&self, id: &str, sample: &Sample, grace: Duration) {
        let mut tx = self.database.db.begin_in(&postgres::scope(id)).await.unwrap();
        assert_eq!(tx.delete(&sample.target(), grace).await.unwrap().len(), 1);
        tx.commit().await.unwrap();
    }

    fn file(&self, id: &str, blob: Uuid) -> PathBuf {
        let name = blob.to_string();
        self.dir.path().join("blobs").join(id).join(&name[..2]).join(name)
    }

    /// Makes a blob look as if it had been written that long ago.
    fn age(&self, id: &str, blob: Uuid, age: Duration) {
        let file = std::fs::File::options().write(true).open(self.file(id, blob)).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
    }

    async fn blobs(&self, id: &str) -> BTreeSet<Uuid> {
        let listed: Vec<_> = self.within(id).list().try_collect().await.unwrap();
        listed.into_iter().map(|blob| blob.id).collect()
    }

    async fn awaiting_removal(&self) -> i64 {
        let mut conn = self.database.superuser().await;
        let count = sqlx::query_scalar("SELECT count(*) FROM blob_removal");
        count.fetch_one(&mut conn).await.unwrap()
    }
}

fn partition(id: &str) -> PartitionId {
    id.parse().unwrap()
}

fn ids<const N: usize>() -> [Uuid; N] {
    std::array::from_fn(|_| Uuid::new_v4())
}
