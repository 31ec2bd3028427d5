//! Verifying: whether rows, blobs and the change feed of a partition say the same.
//!
//! Owns [`Checker`], which looks through one partition step by step, what it finds ([`Finding`]), and
//! how a whole run is told ([`run()`]). The command line, the scrubber and storage commitment
//! (`workers`) share it. Holds:
//! - Nothing is changed: every transaction is read-only, and of the store only reads are asked.
//! - No false alarms while servers store, delete, compact and sweep: rows that belong together are
//!   read in one moment; and what the store seems to lack is looked up again, with its place read
//!   anew, before it is called damage.
//! - Memory is bounded by constants, and by the instances of one blob.
//! - Between two steps a [`Cursor`] says where to go on, also in another process.
//!
//! Absent: repairs. What is damaged is told, and stays as it is.

mod audit;
mod blobs;
mod feed;
mod finding;
mod marks;
mod objects;
mod pace;
mod report;
mod rows;
mod run;
mod safe;

use std::{collections::VecDeque, path::PathBuf, time::Duration};

use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use audit::{AuditBreak, AuditFinding, AuditVerified, audit_log};
pub use finding::{Finding, Kind, Outcome, Tally};
pub use pace::Pace;
pub use report::{Output, Report};
pub use run::{Refused, RunError, Wanted, archive, run};
pub use safe::Safety;

use crate::{
    blob::{BlobError, BlobStore, Listed, PartitionBlobs},
    index::{Belonging, Db, IndexError},
    tenancy::PartitionScope,
};

/// What `collimator audit verify` is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditAsked {
    /// Partitions whose logs are looked at; none: all, and that of the platform.
    pub partitions: Vec<String>,
    /// Whether the report is JSON, one object a line.
    pub json: bool,
}

/// Why a partition could not be looked through to its end.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The index failed.
    #[error("the index failed")]
    Index(#[from] IndexError),
    /// The blob store failed, and not for one blob alone.
    #[error("the blob store failed")]
    Blob(#[from] BlobError),
    /// A thread that hashes or reads metadata was lost.
    #[error("a thread that reads what is stored was lost")]
    Lost,
}

impl VerifyError {
    /// Whether the same step may succeed later.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Index(error) => error.is_unavailable(),
            Self::Blob(error) => error.is_unavailable(),
            Self::Lost => false,
        }
    }
}

/// Where to go on. Its form is kept in the database: variants may be added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "snake_case")]
pub enum Cursor {
    /// Instances and what hangs on them, above a watermark.
    Instances {
        /// The last one that was looked at.
        after: i64,
    },
    /// Series above a key.
    Series {
        /// The last one that was looked at.
        after: i64,
    },
    /// Studies above a key.
    Studies {
        /// The last one that was looked at.
        after: i64,
    },
    /// Rows that belong to others, above a key.
    Belonging {
        /// Place of the table in [`Belonging::ALL`].
        table: usize,
        /// The last key that was looked at.
        after: i64,
    },
    /// Blobs above an id, and their bytes.
    Blobs {
        /// The last one that was looked at.
        #[serde(with = "text")]
        after: Uuid,
    },
    /// What the store lists.
    Objects,
    /// The change feed, for the instances from a watermark on.
    Feed {
        /// The first of them.
        from: i64,
    },
    /// Nothing is left.
    Done,
}

impl Default for Cursor {
    fn default() -> Self {
        Self::Instances { after: 0 }
    }
}

impl Cursor {
    /// What is looked at, in a word.
    pub fn stage(&self) -> &'static str {
        match self {
            Self::Instances { .. } => "instances",
            Self::Series { .. } => "series",
            Self::Studies { .. } => "studies",
            Self::Belonging { table, .. } => {
                Belonging::ALL.get(*table).map_or("rows", |which| which.table())
            }
            Self::Blobs { .. } => "blobs",
            Self::Objects => "objects",
            Self::Feed { .. } => "feed",
            Self::Done => "done",
        }
    }
}

/// An id as text.
mod text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use uuid::Uuid;

    pub(super) fn serialize<S: Serializer>(id: &Uuid, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(id)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Uuid, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// What the command line asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Ids of partitions; none: all.
    pub partitions: Vec<String>,
    /// Whether bytes are left out.
    pub quick: bool,
    /// Most bytes a second.
    pub rate: Option<u64>,
    /// Whether the report for machines goes to standard output, in place of that for people.
    pub json: bool,
    /// A file for the report for machines.
    pub report: Option<PathBuf>,
}

/// How thoroughly.
#[derive(Clone, Copy, Debug)]
pub struct Thoroughness {
    /// Whether the bytes of all instances are read and hashed.
    pub bytes: bool,
    /// Age from which the sweeper takes a blob without rows for an orphan (`sweep.orphan_grace`).
    pub orphan_grace: Duration,
}

/// Looks through one partition.
pub struct Checker {
    db: Db,
    store: BlobStore,
    blobs: PartitionBlobs,
    scope: PartitionScope,
    how: Thoroughness,
    pace: Pace,
    cursor: Cursor,
    tally: Tally,
    findings: Vec<Finding>,
    /// Blobs that were looked up and not looked at yet.
    queue: VecDeque<blobs::Queued>,
    listing: Option<BoxStream<'static, Result<Listed, BlobError>>>,
    feed: Option<feed::Pass>,
}

impl Checker {
    /// Begins, or goes on, at `cursor`.
    pub fn new(
        db: &Db,
        store: &BlobStore,
        scope: PartitionScope,
        how: Thoroughness,
        pace: Pace,
        cursor: Cursor,
    ) -> Self {
        let (db, store) = (db.clone(), store.clone());
        let blobs = store.within(scope.partition());
        let (tally, findings, queue, listing, feed) = Default::default();
        Self { db, store, blobs, scope, how, pace, cursor, tally, findings, queue, listing, feed }
    }

    /// Where it is.
    pub fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// What was looked at since [`Checker::new`].
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// What was found since this was asked last.
    pub fn take_findings(&mut self) -> Vec<Finding> {
        std::mem::take(&mut self.findings)
    }

    /// Looks at a page of rows, at a blob, or at a page of objects. Says whether there is more.
    ///
    /// # Errors
    /// [`VerifyError`]. The step has found nothing then, and may be repeated.
    pub async fn step(&mut self) -> Result<bool, VerifyError> {
        let (tally, found) = (self.tally, self.findings.len());
        let next = match self.cursor.clone() {
            Cursor::Instances { after } => self.instances(after).await,
            Cursor::Series { after } => self.series(after).await,
            Cursor::Studies { after } => self.studies(after).await,
            Cursor::Belonging { table, after } => self.belonging(table, after).await,
            Cursor::Blobs { after } => self.next_blob(after).await,
            Cursor::Objects => self.objects().await,
            Cursor::Feed { from } => self.feed(from).await,
            Cursor::Done => Ok(Cursor::Done),
        };
        match next {
            Ok(next) => {
                self.cursor = next;
                Ok(self.cursor != Cursor::Done)
            }
            Err(error) => {
                self.tally = tally;
                self.findings.truncate(found);
                self.queue.clear();
                // What is half done in memory is begun anew, and what it counted.
                (self.listing, self.feed) = (None, None);
                Err(error)
            }
        }
    }

    fn found(&mut self, finding: Finding) {
        self.findings.push(finding);
    }
}
