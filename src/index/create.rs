//! The rows of new instances: blobs, instances, their metadata, frame tables and events.
//!
//! One statement writes them all, so that a store of one instance waits for one answer of the
//! database and not for five. Citus takes no statement that changes several tables: there each has
//! its own. Holds: rows of details and events are those of the instances that were not there before,
//! in the order of the batch, whichever way they are written.

use std::collections::HashMap;

use sqlx::{Row, postgres::PgRow};
use uuid::Uuid;

use super::{
    IndexError, NewBlob, NewInstance, PartitionTx, columns,
    db::Statement,
    frames,
    located::bigint,
    parents::ParentKeys,
    store::{Replacing, Version},
};
use crate::dicom::{
    Uid,
    attributes::Level,
    index::{BulkEntry, Indexed},
};

macro_rules! into_blob {
    () => {
        "INSERT INTO blob (partition_id, blob_id, length)
    SELECT $1, * FROM unnest($2::uuid[], $3::bigint[])
    RETURNING blob_id"
    };
}
macro_rules! into_instance {
    ($from:literal) => {
        concat!(
            "INSERT INTO instance (partition_id, blob_id, sop_instance_uid, study_key, series_key,
        sop_class_uid, transfer_syntax_uid, blob_offset, length, data_set_offset, sha256,
        attributes, instance_number, header_missing, received_sha256)
    SELECT $1, ",
            $from,
            "
    ON CONFLICT (partition_id, sop_instance_uid) DO NOTHING
    RETURNING watermark, sop_instance_uid"
        )
    };
}
macro_rules! into_metadata {
    ($from:literal) => {
        concat!(
            "INSERT INTO instance_metadata (partition_id, watermark, metadata, bulk)
    SELECT $1, watermark, metadata, bulk::jsonb FROM ",
            $from,
            "
    RETURNING watermark"
        )
    };
}
macro_rules! into_frames {
    ($from:literal) => {
        concat!(
            "INSERT INTO frame_table (partition_id, watermark, number_of_frames, native_offset,
        native_length, native_frame_bits, fragments, starts)
    SELECT $1, ",
            $from,
            "
    RETURNING watermark"
        )
    };
}
macro_rules! into_feed {
    ($from:literal) => {
        concat!(
            "INSERT INTO change_feed (partition_id, action, study_instance_uid, series_instance_uid,
        sop_instance_uid, watermark)
    SELECT $1, 'create', ",
            $from,
            "
    RETURNING event_id"
        )
    };
}

const INSTANCES_STORE: &str = concat!(
    "-- instances_store
    WITH n AS MATERIALIZED (SELECT * FROM unnest($4::uuid[], $5::text[], $6::bigint[],
            $7::bigint[], $8::text[], $9::text[], $10::bigint[], $11::bigint[], $12::bigint[],
            $13::bytea[], $14::text[], $15::text[], $16::smallint[], $17::bytea[], $18::bytea[],
            $19::text[], $20::text[], $21::text[]) WITH ORDINALITY
        AS n(blob_id, uid, study_key, series_key, sop_class, transfer_syntax, blob_offset, length,
            data_set_offset, sha256, attributes, number, header_missing, received, metadata, bulk,
            study, series, place)),
    b AS (",
    into_blob!(),
    "), i AS (",
    into_instance!(
        "blob_id, uid, study_key, series_key, sop_class, transfer_syntax, blob_offset, length,
            data_set_offset, sha256, attributes, number, header_missing, received FROM n"
    ),
    "), k AS MATERIALIZED (SELECT i.watermark, n.uid, n.study, n.series, n.metadata, n.bulk, n.place
        FROM i JOIN n ON n.uid = i.sop_instance_uid),
    m AS (",
    into_metadata!("k"),
    "), f AS (",
    into_frames!(
        "k.watermark, t.frames, t.native_offset, t.native_length, t.bits, t.fragments, t.starts
        FROM unnest($22::bigint[], $23::integer[], $24::bigint[], $25::bigint[], $26::bigint[],
            $27::bytea[], $28::bytea[])
            AS t(place, frames, native_offset, native_length, bits, fragments, starts)
        JOIN k ON k.place = t.place"
    ),
    "), e AS (",
    into_feed!("study, series, uid, watermark FROM k"),
    ") SELECT watermark, uid FROM k"
);

const BLOB_CREATE: &str = concat!("-- blob_create\n", into_blob!());

const INSTANCE_CREATE: &str = concat!(
    "-- instance_create\n",
    into_instance!(
        "* FROM unnest($2::uuid[], $3::text[], $4::bigint[], $5::bigint[], $6::text[], $7::text[],
            $8::bigint[], $9::bigint[], $10::bigint[], $11::bytea[], $12::text[], $13::text[],
            $14::smallint[], $15::bytea[])"
    )
);

const METADATA_CREATE: &str = concat!(
    "-- metadata_create\n",
    into_metadata!("unnest($2::bigint[], $3::bytea[], $4::text[]) AS n(watermark, metadata, bulk)")
);

const FRAMES_CREATE: &str = concat!(
    "-- frames_create\n",
    into_frames!(
        "* FROM unnest($2::bigint[], $3::integer[], $4::bigint[], $5::bigint[], $6::bigint[],
            $7::bytea[], $8::bytea[])"
    )
);

const FEED_CREATE: &str = concat!(
    "-- feed_create\n",
    into_feed!("* FROM unnest($2::text[], $3::text[], $4::text[], $5::bigint[])")
);

/// Of what replaces other versions.
const FEED_REPLACED: &str = "-- feed_replaced
    INSERT INTO change_feed (partition_id, action, study_instance_uid, series_instance_uid,
        sop_instance_uid, watermark, replaced)
    SELECT $1, * FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[],
        $7::bigint[])
    RETURNING event_id";

pub(super) const STATEMENTS: &[&str] = &[
    INSTANCES_STORE,
    BLOB_CREATE,
    INSTANCE_CREATE,
    METADATA_CREATE,
    FRAMES_CREATE,
    FEED_CREATE,
    FEED_REPLACED,
];

/// Length of the preamble with its prefix, in bytes.
const PREAMBLE: i16 = 132;

impl PartitionTx {
    /// Writes the rows of new `blobs` and of instances, in their order; answers the watermarks of
    /// those that were not there. `replaced`: what they replace, where that is something.
    pub(super) async fn create(
        &mut self,
        blobs: &[NewBlob],
        batch: &[&NewInstance<'_>],
        parents: &ParentKeys<'_>,
        replaced: Option<&Replacing>,
    ) -> Result<HashMap<String, i64>, IndexError> {
        if self.scoped().citus() || replaced.is_some() {
            if !blobs.is_empty() {
                self.blobs_create(blobs).await?;
            }
            return self.create_by_table(batch, parents, replaced).await;
        }
        let (query, conn) = self.statement(INSTANCES_STORE);
        let query = bind_instances(bind_blobs(query, blobs), batch, parents)?;
        let places: Vec<(i64, &NewInstance<'_>)> = (1..).zip(batch.iter().copied()).collect();
        let query = bind_metadata(query, batch.iter().copied())
            .bind(texts(batch, |indexed| &indexed.study))
            .bind(texts(batch, |indexed| &indexed.series));
        let rows = frames::Rows::of(&places).bind(query).fetch_all(conn).await?;
        watermarks(&rows)
    }

    async fn create_by_table(
        &mut self,
        batch: &[&NewInstance<'_>],
        parents: &ParentKeys<'_>,
        replaced: Option<&Replacing>,
    ) -> Result<HashMap<String, i64>, IndexError> {
        let (query, conn) = self.statement(INSTANCE_CREATE);
        let rows = bind_instances(query, batch, parents)?.fetch_all(conn).await?;
        let created = watermarks(&rows)?;
        let stored: Vec<(i64, &NewInstance<'_>)> = batch
            .iter()
            .filter_map(|new| Some((*created.get(new.indexed.instance.as_str())?, *new)))
            .collect();
        if stored.is_empty() {
            return Ok(created);
        }
        let (keys, news): (Vec<i64>, Vec<&NewInstance<'_>>) = stored.iter().copied().unzip();
        let (query, conn) = self.statement(METADATA_CREATE);
        bind_metadata(query.bind(&keys), news.iter().copied()).execute(conn).await?;
        let frames = frames::Rows::of(&stored);
        if !frames.is_empty() {
            let (query, conn) = self.statement(FRAMES_CREATE);
            frames.bind(query).execute(conn).await?;
        }
        let (query, conn) = match replaced {
            Some(_) => self.statement(FEED_REPLACED),
            None => self.statement(FEED_CREATE),
        };
        let uid = |new: &&NewInstance<'_>| new.indexed.instance.as_str().to_owned();
        let versions: Option<Vec<Option<Version>>> = replaced
            .map(|replaced| news.iter().map(|new| replaced.get(&uid(new)).copied()).collect());
        let actions = versions.as_ref().map(|versions| {
            let word = |version: &Option<Version>| match version {
                Some(version) if !version.is_moved => "update",
                _ => "create",
            };
            versions.iter().map(word).collect::<Vec<_>>()
        });
        let query = match actions {
            Some(actions) => query.bind(actions),
            None => query,
        };
        let query = query
            .bind(texts(&news, |indexed| &indexed.study))
            .bind(texts(&news, |indexed| &indexed.series))
            .bind(texts(&news, |indexed| &indexed.instance))
            .bind(&keys);
        let query = match versions {
            Some(versions) => {
                let old = versions.into_iter().map(|version| version.map(|old| old.watermark));
                query.bind(old.collect::<Vec<Option<i64>>>())
            }
            None => query,
        };
        query.execute(conn).await?;
        Ok(created)
    }

    pub(super) async fn blobs_create(&mut self, blobs: &[NewBlob]) -> Result<(), IndexError> {
        let (query, conn) = self.statement(BLOB_CREATE);
        bind_blobs(query, blobs).execute(conn).await?;
        Ok(())
    }
}

/// By SOP Instance UID.
fn watermarks(rows: &[PgRow]) -> Result<HashMap<String, i64>, IndexError> {
    rows.iter().map(|row| Ok((row.try_get(1)?, row.try_get(0)?))).collect()
}

fn texts<'a>(batch: &[&NewInstance<'a>], of: fn(&Indexed) -> &Uid) -> Vec<&'a str> {
    batch.iter().map(|new| of(new.indexed).as_str()).collect()
}

fn bind_blobs(query: Statement, blobs: &[NewBlob]) -> Statement {
    let (ids, lengths): (Vec<Uuid>, Vec<i64>) =
        blobs.iter().map(|blob| (blob.id, bigint(blob.length))).unzip();
    query.bind(ids).bind(lengths)
}

/// Binds the columns of `instance` in the order of the table.
fn bind_instances(
    query: Statement,
    batch: &[&NewInstance<'_>],
    parents: &ParentKeys<'_>,
) -> Result<Statement, IndexError> {
    let mut keys = Vec::with_capacity(batch.len());
    let mut attributes = Vec::with_capacity(batch.len());
    for new in batch {
        keys.push(
            *parents.get(&(&new.indexed.study, &new.indexed.series)).ok_or(
                IndexError::Inconsistent { table: "series", column: "series_instance_uid" },
            )?,
        );
        attributes.push(
            std::str::from_utf8(new.indexed.attributes(Level::Instance)).map_err(|_| {
                IndexError::Inconsistent { table: "instance", column: "attributes" }
            })?,
        );
    }
    let (studies, series): (Vec<i64>, Vec<i64>) = keys.into_iter().unzip();
    let sizes = |of: fn(&NewInstance<'_>) -> u64| -> Vec<i64> {
        batch.iter().map(|new| bigint(of(new))).collect()
    };
    let hashes: Vec<&[u8]> = batch.iter().map(|new| &new.sha256[..]).collect();
    let received: Vec<Option<&[u8]>> =
        batch.iter().map(|new| new.received.as_ref().map(|sha256| &sha256[..])).collect();
    let numbers: Vec<_> =
        batch.iter().map(|new| columns::value(new.indexed, "instance_number")).collect();
    let header = |indexed: &Indexed| header_missing(indexed.data_set_offset, indexed.has_preamble);
    let headers: Vec<_> = batch.iter().map(|new| header(new.indexed)).collect();
    Ok(query
        .bind(batch.iter().map(|new| new.blob).collect::<Vec<_>>())
        .bind(texts(batch, |indexed| &indexed.instance))
        .bind(studies)
        .bind(series)
        .bind(texts(batch, |indexed| &indexed.sop_class))
        .bind(texts(batch, |indexed| &indexed.transfer_syntax))
        .bind(sizes(|new| new.offset))
        .bind(sizes(|new| new.length))
        .bind(sizes(|new| new.indexed.data_set_offset))
        .bind(hashes)
        .bind(attributes)
        .bind(numbers)
        .bind(headers)
        .bind(received))
}

fn bind_metadata<'a>(
    query: Statement,
    batch: impl Iterator<Item = &'a NewInstance<'a>> + Clone,
) -> Statement {
    let metadata: Vec<&[u8]> = batch.clone().map(|new| new.metadata).collect();
    let bulk: Vec<Option<String>> = batch.map(|new| bulk_column(&new.indexed.bulk)).collect();
    query.bind(metadata).bind(bulk)
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
