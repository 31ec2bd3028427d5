//! Store: the rows of a batch of instances, whose files are in one blob or a few.
//!
//! Statements are set-based: a batch takes the same few round trips whatever its size. Each
//! `INSERT … SELECT … FROM unnest` has an `ON CONFLICT` or `RETURNING`, without which Citus turns
//! it into a COPY that row-level security refuses. See `parents` for the order of locks.

use std::collections::{BTreeMap, HashMap, HashSet};

use sqlx::Row;
use uuid::Uuid;

use super::{
    IndexError, PartitionTx, columns, frames,
    located::bigint,
    lookup::{one, series_uid_of_i, study_uid_of_i},
    parents::{Made, ParentKeys},
    terms::Place,
};
use crate::dicom::{
    Uid,
    attributes::Level,
    index::{BulkEntry, Indexed},
};

const INSTANCE_EXISTING: &str = concat!(
    "-- instance_existing
    SELECT i.sop_instance_uid, i.sha256, i.length, ",
    study_uid_of_i!(),
    ", ",
    series_uid_of_i!(),
    "
    FROM unnest($2::text[]) AS n(uid) CROSS JOIN LATERAL ",
    one!("*", "instance", "sop_instance_uid", "n.uid"),
    " i"
);

const BLOB_CREATE: &str = "-- blob_create
    INSERT INTO blob (partition_id, blob_id, length)
    SELECT $1, * FROM unnest($2::uuid[], $3::bigint[])
    RETURNING blob_id";

const BLOB_TAKE_BACK: &str = concat!(
    "-- blob_take_back
    DELETE FROM blob t USING unnest($2::uuid[]) AS n(key) CROSS JOIN LATERAL ",
    one!("ctid AS at", "blob", "blob_id", "n.key"),
    " x
    WHERE t.partition_id = $1 AND t.ctid = x.at"
);

const INSTANCE_CREATE: &str = "-- instance_create
    INSERT INTO instance (partition_id, blob_id, sop_instance_uid, study_key, series_key,
        sop_class_uid, transfer_syntax_uid, blob_offset, length, data_set_offset, sha256,
        attributes, instance_number, header_missing)
    SELECT $1, * FROM unnest($2::uuid[], $3::text[], $4::bigint[], $5::bigint[], $6::text[],
        $7::text[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bytea[], $12::text[],
        $13::text[], $14::smallint[])
    ON CONFLICT (partition_id, sop_instance_uid) DO NOTHING
    RETURNING watermark, sop_instance_uid";

const METADATA_CREATE: &str = "-- metadata_create
    INSERT INTO instance_metadata (partition_id, watermark, metadata, bulk)
    SELECT $1, watermark, metadata, bulk::jsonb
    FROM unnest($2::bigint[], $3::bytea[], $4::text[]) AS n(watermark, metadata, bulk)
    RETURNING watermark";

const FRAMES_CREATE: &str = "-- frames_create
    INSERT INTO frame_table (partition_id, watermark, number_of_frames, native_offset,
        native_length, native_frame_bits, fragments, starts)
    SELECT $1, * FROM unnest($2::bigint[], $3::integer[], $4::bigint[], $5::bigint[],
        $6::bigint[], $7::bytea[], $8::bytea[])
    RETURNING watermark";

const FEED_CREATE: &str = "-- feed_create
    INSERT INTO change_feed (partition_id, action, study_instance_uid, series_instance_uid,
        sop_instance_uid, watermark)
    SELECT $1, 'create', * FROM unnest($2::text[], $3::text[], $4::text[], $5::bigint[])
    RETURNING event_id";

/// Length of the preamble with its prefix, in bytes.
const PREAMBLE: i16 = 132;

pub(super) const STATEMENTS: &[&str] = &[
    INSTANCE_EXISTING,
    BLOB_CREATE,
    BLOB_TAKE_BACK,
    INSTANCE_CREATE,
    METADATA_CREATE,
    FRAMES_CREATE,
    FEED_CREATE,
];

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

/// Where the blobs of a batch come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// They were written for the batch: nothing names them.
    New,
    /// They have been there, live or awaiting removal (see `undelete`).
    Kept,
}

/// An instance whose bytes are in a blob of its batch.
#[derive(Debug)]
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
}

/// What became of one instance of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is stored.
    New {
        /// The id of this version.
        watermark: i64,
    },
    /// The partition, or the batch before it, holds the same bytes in the same series.
    Identical,
    /// The partition, or the batch before it, holds other bytes or another place under its UID.
    Conflict,
}

/// What tells two stores of one SOP Instance UID apart.
#[derive(PartialEq, Eq)]
struct Identity {
    sha256: Vec<u8>,
    length: i64,
    study: String,
    series: String,
}

impl Identity {
    fn of(new: &NewInstance<'_>) -> Self {
        Self {
            sha256: new.sha256.to_vec(),
            length: bigint(new.length),
            study: new.indexed.study.as_str().to_owned(),
            series: new.indexed.series.as_str().to_owned(),
        }
    }

    fn compare(&self, new: &NewInstance<'_>) -> Stored {
        if *self == Self::of(new) { Stored::Identical } else { Stored::Conflict }
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
        self.store_rows(blobs, Origin::New, news).await
    }

    /// As [`PartitionTx::store_batch`], of blobs that have come from `origin`.
    pub(super) async fn store_rows(
        &mut self,
        blobs: &[NewBlob],
        origin: Origin,
        news: &[NewInstance<'_>],
    ) -> Result<Vec<Stored>, IndexError> {
        let tags = self.tags_to_write().await?;
        // Ascending by SOP Instance UID: the order in which every store inserts. Of several with
        // one UID the first counts.
        let mut pending: BTreeMap<&str, &NewInstance<'_>> = BTreeMap::new();
        for new in news {
            pending.entry(new.indexed.instance.as_str()).or_insert(new);
        }
        let first = pending.clone();
        let mut watermarks: HashMap<String, i64> = HashMap::new();
        let mut existing = self.existing(pending.keys().copied().collect()).await?;
        pending.retain(|uid, _| !existing.contains_key(*uid));
        let mut made = Made::default();
        let mut places: Vec<Place<'_>> = Vec::new();
        let mut homes: HashMap<i64, (i64, i64)> = HashMap::new();
        let mut has_blobs = false;
        for _ in 0..ATTEMPTS {
            if pending.is_empty() {
                break;
            }
            let batch: Vec<&NewInstance<'_>> = pending.values().copied().collect();
            let parents = self.parents(&batch, &mut made).await?;
            if !has_blobs {
                match origin {
                    Origin::New => self.blobs_create(blobs).await?,
                    Origin::Kept => self.blobs_hold(blobs).await?,
                }
                has_blobs = true;
            }
            let created = self.create(&batch, &parents).await?;
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
                existing.extend(self.existing(pending.keys().copied().collect()).await?);
                pending.retain(|uid, _| !existing.contains_key(*uid));
            }
        }
        if !pending.is_empty() {
            return Err(IndexError::Busy);
        }
        self.details(&first, &watermarks, &homes).await?;
        self.tell(&mut made, &places).await?;
        let kept =
            first.iter().filter_map(|(uid, new)| Some((*watermarks.get(*uid)?, new.metadata)));
        self.index_tags(tags, kept.collect()).await?;
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
        Ok(answers(news, &first, &existing, &watermarks))
    }

    pub(super) async fn blobs_create(&mut self, blobs: &[NewBlob]) -> Result<(), IndexError> {
        let (ids, lengths): (Vec<Uuid>, Vec<i64>) =
            blobs.iter().map(|blob| (blob.id, bigint(blob.length))).unzip();
        let (query, conn) = self.statement(BLOB_CREATE);
        query.bind(ids).bind(lengths).execute(conn).await?;
        Ok(())
    }

    /// Which of `uids` the partition holds, and as what.
    async fn existing(&mut self, uids: Vec<&str>) -> Result<HashMap<String, Identity>, IndexError> {
        if uids.is_empty() {
            return Ok(HashMap::new());
        }
        let (query, conn) = self.statement(INSTANCE_EXISTING);
        let rows = query.bind(uids).fetch_all(conn).await?;
        let mut existing = HashMap::with_capacity(rows.len());
        for row in rows {
            let (sha256, length) = (row.try_get(1)?, row.try_get(2)?);
            let (study, series) = (row.try_get(3)?, row.try_get(4)?);
            existing.insert(row.try_get(0)?, Identity { sha256, length, study, series });
        }
        Ok(existing)
    }

    /// Inserts instances, ascending by UID; answers the watermarks of those that were not there.
    async fn create(
        &mut self,
        batch: &[&NewInstance<'_>],
        parents: &ParentKeys<'_>,
    ) -> Result<HashMap<String, i64>, IndexError> {
        let mut keys = Vec::with_capacity(batch.len());
        for new in batch {
            keys.push(*parents.get(&(&new.indexed.study, &new.indexed.series)).ok_or(
                IndexError::Inconsistent { table: "series", column: "series_instance_uid" },
            )?);
        }
        let (studies, series): (Vec<i64>, Vec<i64>) = keys.into_iter().unzip();
        let mut attributes = Vec::with_capacity(batch.len());
        for new in batch {
            attributes.push(std::str::from_utf8(new.indexed.attributes(Level::Instance)).map_err(
                |_| IndexError::Inconsistent { table: "instance", column: "attributes" },
            )?);
        }
        let texts = |of: fn(&Indexed) -> &Uid| -> Vec<&str> {
            batch.iter().map(|new| of(new.indexed).as_str()).collect()
        };
        let sizes = |of: fn(&NewInstance<'_>) -> u64| -> Vec<i64> {
            batch.iter().map(|new| bigint(of(new))).collect()
        };
        let hashes: Vec<&[u8]> = batch.iter().map(|new| &new.sha256[..]).collect();
        let numbers: Vec<_> =
            batch.iter().map(|new| columns::value(new.indexed, "instance_number")).collect();
        let header =
            |indexed: &Indexed| header_missing(indexed.data_set_offset, indexed.has_preamble);
        let headers: Vec<_> = batch.iter().map(|new| header(new.indexed)).collect();
        let (query, conn) = self.statement(INSTANCE_CREATE);
        let rows = query
            .bind(batch.iter().map(|new| new.blob).collect::<Vec<_>>())
            .bind(texts(|indexed| &indexed.instance))
            .bind(studies)
            .bind(series)
            .bind(texts(|indexed| &indexed.sop_class))
            .bind(texts(|indexed| &indexed.transfer_syntax))
            .bind(sizes(|new| new.offset))
            .bind(sizes(|new| new.length))
            .bind(sizes(|new| new.indexed.data_set_offset))
            .bind(hashes)
            .bind(attributes)
            .bind(numbers)
            .bind(headers)
            .fetch_all(conn)
            .await?;
        rows.iter().map(|row| Ok((row.try_get(1)?, row.try_get(0)?))).collect()
    }

    /// Metadata, frame tables and feed events of the instances that got a watermark.
    async fn details(
        &mut self,
        first: &BTreeMap<&str, &NewInstance<'_>>,
        watermarks: &HashMap<String, i64>,
        homes: &HashMap<i64, (i64, i64)>,
    ) -> Result<(), IndexError> {
        let stored: Vec<(i64, &NewInstance<'_>)> = first
            .iter()
            .filter_map(|(uid, new)| watermarks.get(*uid).map(|watermark| (*watermark, *new)))
            .collect();
        if stored.is_empty() {
            return Ok(());
        }
        let watermarks: Vec<i64> = stored.iter().map(|(watermark, _)| *watermark).collect();
        let metadata: Vec<&[u8]> = stored.iter().map(|(_, new)| new.metadata).collect();
        let bulk: Vec<Option<String>> =
            stored.iter().map(|(_, new)| bulk_column(&new.indexed.bulk)).collect();
        let (query, conn) = self.statement(METADATA_CREATE);
        query.bind(&watermarks).bind(metadata).bind(bulk).execute(conn).await?;
        self.packs_create(&stored, homes).await?;

        let frames = frames::Rows::of(&stored);
        if !frames.watermarks.is_empty() {
            let (query, conn) = self.statement(FRAMES_CREATE);
            frames.bind(query).execute(conn).await?;
        }

        let texts = |of: fn(&Indexed) -> &Uid| -> Vec<&str> {
            stored.iter().map(|(_, new)| of(new.indexed).as_str()).collect()
        };
        let (query, conn) = self.statement(FEED_CREATE);
        query
            .bind(texts(|indexed| &indexed.study))
            .bind(texts(|indexed| &indexed.series))
            .bind(texts(|indexed| &indexed.instance))
            .bind(&watermarks)
            .execute(conn)
            .await?;
        Ok(())
    }
}

/// Says of each instance what became of it. Of several with one UID, the first is what the others
/// are measured against, unless the partition held one before.
fn answers(
    news: &[NewInstance<'_>],
    first: &BTreeMap<&str, &NewInstance<'_>>,
    existing: &HashMap<String, Identity>,
    watermarks: &HashMap<String, i64>,
) -> Vec<Stored> {
    let mut told: HashSet<&str> = HashSet::new();
    let mut answers = Vec::with_capacity(news.len());
    for new in news {
        let uid = new.indexed.instance.as_str();
        answers.push(match (watermarks.get(uid), first.get(uid), existing.get(uid)) {
            (Some(watermark), Some(first), _) => {
                if told.insert(uid) {
                    Stored::New { watermark: *watermark }
                } else {
                    Identity::of(first).compare(new)
                }
            }
            (_, _, Some(existing)) => existing.compare(new),
            // Every UID is in one of the two; if not, claiming nothing is the safe answer.
            _ => Stored::Conflict,
        });
    }
    answers
}

/// The bulk entries of an instance as the column keeps them; `None` if there are none.
pub(super) fn bulk_column(bulk: &[BulkEntry]) -> Option<String> {
    if bulk.is_empty() {
        return None;
    }
    let entries: serde_json::Map<String, serde_json::Value> = bulk
        .iter()
        .map(|entry| {
            let value = serde_json::json!([entry.vr.to_string(), entry.offset, entry.length]);
            (entry.path.clone(), value)
        })
        .collect();
    Some(serde_json::Value::Object(entries).to_string())
}

/// Bytes that a file lacks to begin as PS3.10 §7.1 says; `None` where it has no File Meta
/// Information either, which is made when it is given out.
pub(super) fn header_missing(data_set_offset: u64, has_preamble: bool) -> Option<i16> {
    match (data_set_offset, has_preamble) {
        (0, _) => None,
        (_, true) => Some(0),
        (_, false) => Some(PREAMBLE),
    }
}
