//! What is read to hold instances against the rows that belong to them.
//!
//! Read in transactions that cannot write, each of which sees one moment ([`Db::begin_verify`]), so
//! that a store or deletion meanwhile is seen whole or not at all. Pages by key; what is wrong with a
//! row is for the reader (`verify`) to say, so nothing here fails on what a row holds.
//! The others: parents (`verify_parents`), blobs (`verify_blobs`), the feed (`verify_feed`).

use sqlx::{Row, postgres::PgRow};
use uuid::Uuid;

use super::{
    Db, IndexError, PartitionTx,
    lookup::{one, series_uid_of_i, study_uid_of_i},
};
use crate::tenancy::PartitionScope;

/// One moment, and nothing written in it.
const MOMENT: &str = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY";

/// A page of instances with what hangs on them. Of a frame table only its ends are read.
const INSTANCES: &str = concat!(
    "-- verify_instances
    SELECT i.watermark, i.sop_instance_uid, i.transfer_syntax_uid, i.blob_id, i.blob_offset,
        i.length, i.data_set_offset, octet_length(i.sha256), ",
    study_uid_of_i!(),
    ",
        e.series_instance_uid, e.study_key = i.study_key, b.length, octet_length(m.metadata),
        f.number_of_frames, f.native_offset, f.native_length, octet_length(f.fragments),
        octet_length(f.starts), substring(f.fragments FROM 1 FOR 12),
        substring(f.fragments FROM greatest(octet_length(f.fragments) - 11, 1) FOR 12),
        t.term IS NOT NULL
    FROM (SELECT * FROM instance WHERE partition_id = $1 AND watermark > $2
        ORDER BY watermark LIMIT $3) i
    LEFT JOIN LATERAL ",
    one!("series_instance_uid, study_key", "series", "series_key", "i.series_key"),
    " e ON true
    LEFT JOIN LATERAL ",
    one!("length", "blob", "blob_id", "i.blob_id"),
    " b ON true
    LEFT JOIN LATERAL ",
    one!("metadata", "instance_metadata", "watermark", "i.watermark"),
    " m ON true
    LEFT JOIN LATERAL ",
    one!("*", "frame_table", "watermark", "i.watermark"),
    " f ON true
    LEFT JOIN LATERAL (SELECT term FROM study_term WHERE partition_id = $1
            AND study_key >= i.study_key AND study_key <= i.study_key
            AND term = 'c:' || i.sop_class_uid
        ORDER BY study_key LIMIT 1) t ON true"
);

const METADATA: &str = concat!(
    "-- verify_metadata
    SELECT m.watermark, m.metadata
    FROM unnest($2::bigint[]) AS n(key) CROSS JOIN LATERAL ",
    one!("watermark, metadata", "instance_metadata", "watermark", "n.key"),
    " m"
);

/// Where an instance is, and what it is called.
const PLACE: &str = concat!(
    "-- verify_place
    SELECT i.watermark, i.sop_instance_uid, ",
    study_uid_of_i!(),
    ", ",
    series_uid_of_i!(),
    ",
        i.blob_id, i.blob_offset, i.length, i.sha256
    FROM unnest($2::bigint[]) AS n(key) CROSS JOIN LATERAL ",
    one!("*", "instance", "watermark", "n.key"),
    " i
    UNION ALL SELECT i.watermark, i.sop_instance_uid, NULL, NULL, i.blob_id, i.blob_offset,
        i.length, i.sha256
    FROM unnest($2::bigint[]) AS n(key) CROSS JOIN LATERAL ",
    one!("*", "non_patient_instance", "watermark", "n.key"),
    " i
    UNION ALL SELECT o.watermark, i.sop_instance_uid, ",
    study_uid_of_i!(),
    ", ",
    series_uid_of_i!(),
    ", o.blob_id, o.blob_offset, o.length, o.sha256
    FROM unnest($2::bigint[]) AS n(key) CROSS JOIN LATERAL ",
    one!("*", "original_instance", "watermark", "n.key"),
    " o CROSS JOIN LATERAL ",
    one!("*", "instance", "watermark", "o.of_watermark"),
    " i"
);

pub(super) const STATEMENTS: &[&str] = &[INSTANCES, METADATA, PLACE];

/// An instance and the rows that belong to it. A parent or other row that is not there is `None`.
#[derive(Clone, Debug)]
pub struct VerifyInstance {
    /// The id of this version.
    pub watermark: i64,
    /// SOP Instance UID.
    pub instance: String,
    /// Transfer Syntax UID.
    pub transfer_syntax: String,
    /// The blob.
    pub blob: Uuid,
    /// First byte of the file in the blob.
    pub offset: i64,
    /// Bytes of the file.
    pub length: i64,
    /// First byte of the data set in the file.
    pub data_set_offset: i64,
    /// Bytes of the hash.
    pub hash_bytes: i32,
    /// Study Instance UID, of the study that it belongs to.
    pub study: Option<String>,
    /// Series Instance UID, of the series that it belongs to.
    pub series: Option<String>,
    /// Whether the series belongs to the same study.
    pub parents_agree: Option<bool>,
    /// The length that the row of its blob says.
    pub blob_length: Option<i64>,
    /// Bytes of its metadata, as they are kept.
    pub metadata_bytes: Option<i32>,
    /// Its frame table.
    pub frames: Option<VerifyFrames>,
    /// Whether its study is found by its SOP class.
    pub has_class_term: bool,
}

/// A frame table without its middle.
#[derive(Clone, Debug)]
pub struct VerifyFrames {
    /// Number of frames.
    pub frames: i32,
    /// First byte and length of native pixel data in the file.
    pub native: Option<(i64, i64)>,
    /// Bytes of the fragments' entries.
    pub fragment_bytes: Option<i32>,
    /// Bytes of the entries that say where frames begin.
    pub start_bytes: Option<i32>,
    /// The first and the last fragment: offset in the file and length.
    pub ends: [Option<(u64, u32)>; 2],
}

/// Where an instance is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyPlace {
    /// The id of this version.
    pub watermark: i64,
    /// SOP Instance UID.
    pub instance: String,
    /// Study Instance UID.
    pub study: Option<String>,
    /// Series Instance UID.
    pub series: Option<String>,
    /// The blob.
    pub blob: Uuid,
    /// First byte of the file in the blob.
    pub offset: i64,
    /// Bytes of the file.
    pub length: i64,
    /// SHA-256 of the file.
    pub sha256: Vec<u8>,
}

impl Db {
    /// Opens a transaction on one partition that sees one moment and cannot write.
    ///
    /// # Errors
    /// [`IndexError::Unavailable`].
    pub async fn begin_verify(&self, scope: &PartitionScope) -> Result<PartitionTx, IndexError> {
        self.begin_holding(scope, &[MOMENT.to_owned()]).await
    }
}

impl PartitionTx {
    /// A page of the instances above a watermark, ascending.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn verify_instances(
        &mut self,
        after: i64,
        limit: i64,
    ) -> Result<Vec<VerifyInstance>, IndexError> {
        let (query, conn) = self.statement(INSTANCES);
        let rows = query.bind(after).bind(limit).fetch_all(conn).await?;
        rows.iter().map(instance).collect()
    }

    /// The metadata of some instances, as one zstd frame of DICOM JSON each.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn verify_metadata(
        &mut self,
        watermarks: &[i64],
    ) -> Result<Vec<(i64, Vec<u8>)>, IndexError> {
        let (query, conn) = self.statement(METADATA);
        let rows = query.bind(watermarks).fetch_all(conn).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }

    /// Where some instances are; those that are not there any more are left out.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn verify_places(
        &mut self,
        watermarks: &[i64],
    ) -> Result<Vec<VerifyPlace>, IndexError> {
        let (query, conn) = self.statement(PLACE);
        let rows = query.bind(watermarks).fetch_all(conn).await?;
        let place = |row: &PgRow| {
            Ok(VerifyPlace {
                watermark: row.try_get(0)?,
                instance: row.try_get(1)?,
                study: row.try_get(2)?,
                series: row.try_get(3)?,
                blob: row.try_get(4)?,
                offset: row.try_get(5)?,
                length: row.try_get(6)?,
                sha256: row.try_get(7)?,
            })
        };
        rows.iter().map(place).collect()
    }
}

fn instance(row: &PgRow) -> Result<VerifyInstance, IndexError> {
    let frames = match row.try_get::<Option<i32>, _>(13)? {
        None => None,
        Some(frames) => {
            let (offset, length): (Option<i64>, Option<i64>) = (row.try_get(14)?, row.try_get(15)?);
            Some(VerifyFrames {
                frames,
                native: offset.zip(length),
                fragment_bytes: row.try_get(16)?,
                start_bytes: row.try_get(17)?,
                ends: [fragment(row.try_get(18)?), fragment(row.try_get(19)?)],
            })
        }
    };
    Ok(VerifyInstance {
        watermark: row.try_get(0)?,
        instance: row.try_get(1)?,
        transfer_syntax: row.try_get(2)?,
        blob: row.try_get(3)?,
        offset: row.try_get(4)?,
        length: row.try_get(5)?,
        data_set_offset: row.try_get(6)?,
        hash_bytes: row.try_get(7)?,
        study: row.try_get(8)?,
        series: row.try_get(9)?,
        parents_agree: row.try_get(10)?,
        blob_length: row.try_get(11)?,
        metadata_bytes: row.try_get(12)?,
        frames,
        has_class_term: row.try_get(20)?,
    })
}

/// An entry of a frame table; `None` where it is not a whole one.
fn fragment(entry: Option<Vec<u8>>) -> Option<(u64, u32)> {
    let entry = <[u8; 12]>::try_from(entry?).ok()?;
    let (offset, length) = entry.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*offset), u32::from_be_bytes(length.try_into().ok()?)))
}
