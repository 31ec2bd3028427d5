//! Store: the rows of a batch of instances, whose files are in one blob or a few.
//!
//! Statements are set-based: a batch takes the same few round trips whatever its size. Each
//! `INSERT … SELECT … FROM unnest` has an `ON CONFLICT` or `RETURNING`, without which Citus turns
//! it into a COPY that row-level security refuses. See `parents` for the order of locks, `create`
//! for the rows.

use std::collections::{BTreeMap, HashMap, HashSet};

use sqlx::Row;
use uuid::Uuid;

use super::{
    IndexError, PartitionTx,
    located::bigint,
    lookup::{one, series_uid_of_i, study_uid_of_i},
    parents::Made,
    rejection::{Rejects, Standing},
    terms::Place,
};
use crate::dicom::index::Indexed;

/// What is there under some UIDs, and what notes say of them.
const INSTANCE_EXISTING: &str = concat!(
    "-- instance_existing
    SELECT i.sop_instance_uid, i.sha256, i.length, i.received_sha256, ",
    study_uid_of_i!(),
    ", ",
    series_uid_of_i!(),
    ",
        o.sha256, o.length, o.received_sha256, o.study_instance_uid, o.series_instance_uid,
        NULL::text, NULL::bigint
    FROM unnest($2::text[]) AS n(uid) CROSS JOIN LATERAL ",
    one!("*", "instance", "sop_instance_uid", "n.uid"),
    " i LEFT JOIN LATERAL ",
    one!("*", "original_instance", "of_watermark", "i.watermark"),
    " o ON true
    UNION ALL SELECT r.sop_instance_uid, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
        r.title, r.watermark
    FROM unnest($2::text[]) AS n(uid) CROSS JOIN LATERAL ",
    one!("*", "rejection", "sop_instance_uid", "n.uid"),
    " r"
);

const BLOB_TAKE_BACK: &str = concat!(
    "-- blob_take_back
    DELETE FROM blob t USING unnest($2::uuid[]) AS n(key) CROSS JOIN LATERAL ",
    one!("ctid AS at", "blob", "blob_id", "n.key"),
    " x
    WHERE t.partition_id = $1 AND t.ctid = x.at"
);

pub(super) const STATEMENTS: &[&str] = &[INSTANCE_EXISTING, BLOB_TAKE_BACK];

/// How often an instance may turn up and vanish between two statements before the transaction
/// gives up.
const ATTEMPTS: usize = 5;

/// A blob that was written and synced.
#[derive(Clone, Copy, Debug)]
pub struct NewBlob {
    /// Its id.
    pub id: Uuid,
    /// Its size in bytes.
    pub length: u64,
}

/// Where the blobs of a batch come from, and what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin<'a> {
    /// They were written for the batch: nothing names them.
    New,
    /// They have been there, live or awaiting removal (see `undelete`).
    Kept,
    /// They were written for versions that replace others (see `update`).
    Replacing(&'a Replacing),
}

/// The version of an instance that another one replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version {
    /// Its id.
    pub(super) watermark: i64,
    /// Whether it was in another series.
    pub(super) is_moved: bool,
}

/// What a batch replaces, by SOP Instance UID.
pub(super) type Replacing = HashMap<String, Version>;

/// An instance whose bytes are in a blob of its batch.
#[derive(Clone, Copy, Debug)]
pub struct NewInstance<'a> {
    /// The blob that holds its file.
    pub blob: Uuid,
    /// What was read from it.
    pub indexed: &'a Indexed,
    /// Its DICOM JSON, as one zstd frame.
    pub metadata: &'a [u8],
    /// First byte of the file in the blob.
    pub offset: u64,
    /// Bytes of the file.
    pub length: u64,
    /// SHA-256 of the file.
    pub sha256: [u8; 32],
    /// SHA-256 of what came, where that was another file.
    pub received: Option<[u8; 32]>,
    /// What it does as a rejection note; such a batch is one of
    /// [`Db::begin_rejecting`](super::Db::begin_rejecting).
    pub rejects: Option<Rejects<'a>>,
}

/// What became of one instance of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is stored.
    New {
        /// The id of this version.
        watermark: i64,
    },
    /// The partition, or the batch before it, holds the same bytes in the same series, or what the
    /// same bytes were made into.
    Identical,
    /// The partition, or the batch before it, holds other bytes or another place under its UID.
    Conflict,
    /// A note in force names it (`rejection`), and it came before.
    Rejected,
}

/// What tells two stores of one SOP Instance UID apart.
struct Identity {
    sha256: Vec<u8>,
    length: i64,
    /// Of what came, where that was another file.
    received: Option<Vec<u8>>,
    study: String,
    series: String,
}

impl Identity {
    fn of(new: &NewInstance<'_>) -> Self {
        Self {
            sha256: new.sha256.to_vec(),
            length: bigint(new.length),
            received: new.received.map(|sha256| sha256.to_vec()),
            study: new.indexed.study.as_str().to_owned(),
            series: new.indexed.series.as_str().to_owned(),
        }
    }

    fn compare(&self, new: &NewInstance<'_>) -> Stored {
        let new = Self::of(new);
        let is_there = self.study == new.study && self.series == new.series;
        let is_same = self.sha256 == new.sha256 && self.length == new.length;
        if is_there && (is_same || self.came() == new.came()) {
            Stored::Identical
        } else {
            Stored::Conflict
        }
    }

    /// SHA-256 of what came.
    fn came(&self) -> &[u8] {
        self.received.as_ref().unwrap_or(&self.sha256)
    }
}

/// What the partition holds under a UID: the version that is given out, and the first one where that
/// is another. Who sends that again sends what is stored.
struct Existing {
    current: Identity,
    original: Option<Identity>,
}

impl Existing {
    fn compare(&self, new: &NewInstance<'_>) -> Stored {
        match (self.current.compare(new), &self.original) {
            (Stored::Conflict, Some(original)) => original.compare(new),
            (compared, _) => compared,
        }
    }
}

/// What the index knows of UIDs.
#[derive(Default)]
struct Known {
    existing: HashMap<String, Existing>,
    /// What notes in force say, and the version that was hidden last.
    rejected: HashMap<String, (Standing, Option<i64>)>,
}

impl Known {
    fn reject(&mut self, uid: String, standing: Standing, watermark: Option<i64>) {
        let known = self.rejected.entry(uid).or_insert((standing, watermark));
        *known = (known.0.and(standing), known.1.max(watermark));
    }

    fn add(&mut self, other: Self) {
        self.existing.extend(other.existing);
        self.rejected.extend(other.rejected);
    }

    /// Whether an instance is refused for what notes say: what came before stays hidden, and what is
    /// to come back stays deleted. A version that replaces another has no note against it.
    fn is_refused(&self, uid: &str, origin: Origin<'_>) -> bool {
        let refuses = |standing: Standing| match origin {
            Origin::New => standing.was_hidden && !standing.may_return,
            Origin::Kept => true,
            Origin::Replacing(_) => false,
        };
        self.rejected.get(uid).is_some_and(|(standing, _)| refuses(*standing))
    }

    /// Whether there is nothing to store.
    fn is_settled(&self, uid: &str, origin: Origin<'_>) -> bool {
        self.existing.contains_key(uid) || self.is_refused(uid, origin)
    }
}

/// What notes say of what was stored, which is to be applied ([`PartitionTx::reject`]).
#[derive(Default)]
pub(super) struct Noted<'a> {
    /// Notes that were stored.
    notes: Vec<&'a NewInstance<'a>>,
    /// What notes in force name.
    hidden: Vec<String>,
    /// What came again although it was hidden, and the versions that were.
    back: (Vec<&'a str>, Vec<i64>),
}

impl<'a> Noted<'a> {
    fn of(stored: &[(i64, &'a NewInstance<'a>)], known: &Known) -> Self {
        let mut noted = Self::default();
        for (_, new) in stored {
            if new.rejects.is_some() {
                noted.notes.push(*new);
            }
            let uid = new.indexed.instance.as_str();
            match known.rejected.get(uid) {
                Some((standing, watermark)) if standing.was_hidden => {
                    noted.back.0.push(uid);
                    noted.back.1.extend(*watermark);
                }
                Some(_) => noted.hidden.push(uid.to_owned()),
                None => {}
            }
        }
        noted
    }
}

impl PartitionTx {
    /// Writes the rows and change-feed events of a batch; the answers are in the order of `news`.
    ///
    /// No row is kept of a blob of which nothing is [`Stored::New`]; the sweeper removes it from the
    /// store.
    ///
    /// # Errors
    /// [`IndexError::Busy`]: repeat the whole transaction. Nothing is stored before
    /// [`PartitionTx::commit`].
    pub async fn store_batch(
        &mut self,
        blobs: &[NewBlob],
        news: &[NewInstance<'_>],
    ) -> Result<Vec<Stored>, IndexError> {
        let (answers, noted) = self.store_rows(blobs, Origin::New, news).await?;
        self.reject(noted).await?;
        Ok(answers)
    }

    /// As [`PartitionTx::store_batch`], of blobs that have come from `origin`; what notes say is left
    /// to the caller, once the rows are whole.
    pub(super) async fn store_rows<'a>(
        &mut self,
        blobs: &[NewBlob],
        origin: Origin<'_>,
        news: &'a [NewInstance<'a>],
    ) -> Result<(Vec<Stored>, Noted<'a>), IndexError> {
        let tags = self.tags_to_write().await?;
        let replaced = match origin {
            Origin::Replacing(replaced) => Some(replaced),
            Origin::New | Origin::Kept => None,
        };
        // Ascending by SOP Instance UID: the order in which every store inserts. Of several with
        // one UID the first counts.
        let mut pending: BTreeMap<&str, &'a NewInstance<'a>> = BTreeMap::new();
        for new in news {
            pending.entry(new.indexed.instance.as_str()).or_insert(new);
        }
        let first = pending.clone();
        let mut watermarks: HashMap<String, i64> = HashMap::new();
        let mut known = self.existing(pending.keys().copied().collect()).await?;
        pending.retain(|uid, _| !known.is_settled(uid, origin));
        let mut made = Made::default();
        let mut places: Vec<Place<'_>> = Vec::new();
        let mut homes: HashMap<i64, (i64, i64)> = HashMap::new();
        let mut has_blobs = false;
        for _ in 0..ATTEMPTS {
            if pending.is_empty() {
                break;
            }
            let mut batch: Vec<&NewInstance<'_>> = pending.values().copied().collect();
            if let Some(replaced) = replaced {
                // In the order in which they came at first, since the first value of a study wins.
                // Nobody else stores them: their studies are held.
                batch.sort_by_key(|new| {
                    let old = replaced.get(new.indexed.instance.as_str());
                    old.map(|old| old.watermark)
                });
            }
            let parents = self.parents(&batch, &mut made).await?;
            let mut create: &[NewBlob] = &[];
            if !has_blobs {
                match origin {
                    Origin::New | Origin::Replacing(_) => create = blobs,
                    Origin::Kept => self.blobs_hold(blobs).await?,
                }
                has_blobs = true;
            }
            let created = self.create(create, &batch, &parents, replaced).await?;
            for new in &batch {
                let Some(watermark) = created.get(new.indexed.instance.as_str()) else { continue };
                let parents = parents.get(&(&new.indexed.study, &new.indexed.series));
                homes.extend(parents.map(|parents| (*watermark, *parents)));
                places.extend(parents.map(|(study, series)| Place {
                    study: *study,
                    series: *series,
                    sop_class: &new.indexed.sop_class,
                }));
            }
            pending.retain(|uid, _| !created.contains_key(*uid));
            watermarks.extend(created);
            if !pending.is_empty() {
                // Another transaction stored them meanwhile.
                known.add(self.existing(pending.keys().copied().collect()).await?);
                pending.retain(|uid, _| !known.is_settled(uid, origin));
            }
        }
        if !pending.is_empty() {
            return Err(IndexError::Busy);
        }
        let stored: Vec<(i64, &'a NewInstance<'a>)> =
            first.iter().filter_map(|(uid, new)| Some((*watermarks.get(*uid)?, *new))).collect();
        self.packs_create(&stored, &homes).await?;
        self.tell(&mut made, &places).await?;
        let kept = stored.iter().map(|(watermark, new)| (*watermark, new.metadata)).collect();
        self.index_tags(tags, kept).await?;
        if watermarks.len() < first.len() {
            self.take_back_parents(&made).await?;
        }
        if has_blobs && origin == Origin::New {
            // All of one may have come with another: it would stay with nothing to name it.
            let kept = first.iter().filter(|(uid, _)| watermarks.contains_key(**uid));
            let kept: HashSet<Uuid> = kept.map(|(_, new)| new.blob).collect();
            let idle: Vec<Uuid> =
                blobs.iter().map(|blob| blob.id).filter(|id| !kept.contains(id)).collect();
            if !idle.is_empty() {
                let (query, conn) = self.statement(BLOB_TAKE_BACK);
                query.bind(idle).execute(conn).await?;
            }
        }
        let noted = Noted::of(&stored, &known);
        Ok((answers(news, &first, &known, &watermarks), noted))
    }

    /// Applies what notes say: those that were stored, and those in force of what was stored.
    pub(super) async fn reject(&mut self, noted: Noted<'_>) -> Result<(), IndexError> {
        let Noted { notes, hidden, back: (back, before) } = noted;
        if !back.is_empty() {
            self.rejections_lift(&back, before).await?;
        }
        if notes.is_empty() && hidden.is_empty() {
            return Ok(());
        }
        self.notes_apply(&notes, hidden).await
    }

    /// Which of `uids` the partition holds, and as what.
    async fn existing(&mut self, uids: Vec<&str>) -> Result<Known, IndexError> {
        let mut known = Known::default();
        if uids.is_empty() {
            return Ok(known);
        }
        let (query, conn) = self.statement(INSTANCE_EXISTING);
        let rows = query.bind(uids).fetch_all(conn).await?;
        for row in rows {
            if let Some(title) = row.try_get::<Option<&str>, _>(11)? {
                let watermark: Option<i64> = row.try_get(12)?;
                let standing = Standing::of(title, watermark.is_some());
                known.reject(row.try_get(0)?, standing, watermark);
                continue;
            }
            let (sha256, length, received) = (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
            let (study, series) = (row.try_get(4)?, row.try_get(5)?);
            let current = Identity { sha256, length, received, study, series };
            let original = match row.try_get::<Option<Vec<u8>>, _>(6)? {
                None => None,
                Some(sha256) => {
                    let (length, received) = (row.try_get(7)?, row.try_get(8)?);
                    let (study, series) = (row.try_get(9)?, row.try_get(10)?);
                    Some(Identity { sha256, length, received, study, series })
                }
            };
            known.existing.insert(row.try_get(0)?, Existing { current, original });
        }
        Ok(known)
    }
}

/// Says of each instance what became of it. Of several with one UID, the first is what the others
/// are measured against, unless the partition held one before.
fn answers(
    news: &[NewInstance<'_>],
    first: &BTreeMap<&str, &NewInstance<'_>>,
    known: &Known,
    watermarks: &HashMap<String, i64>,
) -> Vec<Stored> {
    let mut told: HashSet<&str> = HashSet::new();
    let mut answers = Vec::with_capacity(news.len());
    for new in news {
        let uid = new.indexed.instance.as_str();
        answers.push(match (watermarks.get(uid), first.get(uid), known.existing.get(uid)) {
            (Some(watermark), Some(first), _) => {
                if told.insert(uid) {
                    Stored::New { watermark: *watermark }
                } else {
                    Identity::of(first).compare(new)
                }
            }
            (_, _, Some(existing)) => existing.compare(new),
            _ if known.rejected.contains_key(uid) => Stored::Rejected,
            // Every UID is in one of them; if not, claiming nothing is the safe answer.
            _ => Stored::Conflict,
        });
    }
    answers
}
