//! Non-Patient Instances: one row each, with its metadata, and a blob of its own.
//!
//! Holds: what lives in a blob is named by the blob's row, as for any instance, so that the sweeper
//! and the remover need not know of them; a SOP Instance UID is used once. Absent: what may be
//! searched (`archive`), the change feed, which is of studies.

use std::{str::FromStr, time::Duration};

use sqlx::{Row, postgres::PgRow};
use uuid::Uuid;

use super::{
    IndexError, Located, NewBlob, PartitionTx,
    create::{bulk_column, header_missing},
    delete::{BLOBS, BLOBS_QUEUE},
    located::{LOCATED_COLUMNS, bigint, located_columns, size},
    lookup::one,
};
use crate::dicom::{
    Uid, VR,
    index::{BulkEntry, NonPatient},
};

const EXISTING: &str = concat!(
    "-- non_patient_existing
    SELECT i.category, i.sha256, i.length FROM ",
    one!("*", "non_patient_instance", "sop_instance_uid", "$2"),
    " i"
);

const CREATE: &str = "-- non_patient_create
    INSERT INTO non_patient_instance (partition_id, category, sop_instance_uid, sop_class_uid,
        transfer_syntax_uid, blob_id, length, data_set_offset, header_missing, sha256, metadata,
        bulk)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12::text::jsonb)
    ON CONFLICT (partition_id, sop_instance_uid) DO NOTHING
    RETURNING watermark";

const FIND: &str = concat!(
    "-- non_patient_find
    SELECT ",
    located_columns!(),
    ", i.metadata
    FROM ",
    one!("*", "non_patient_instance", "sop_instance_uid", "$3"),
    " i
    WHERE i.category = $2"
);

/// `$4`: the path of a value.
const BULK: &str = concat!(
    "-- non_patient_bulk
    SELECT ",
    located_columns!(),
    ", i.bulk -> $4 ->> 0, (i.bulk -> $4 ->> 1)::bigint, (i.bulk -> $4 ->> 2)::bigint
    FROM ",
    one!("*", "non_patient_instance", "sop_instance_uid", "$3"),
    " i
    WHERE i.category = $2 AND i.bulk -> $4 IS NOT NULL"
);

const PAGE: &str = "-- non_patient_page
    SELECT watermark, metadata FROM non_patient_instance
    WHERE partition_id = $1 AND (category, watermark) > ($2, $3) AND category <= $2
    ORDER BY category, watermark LIMIT $4";

const KEYS: &str = "-- non_patient_keys
    SELECT watermark FROM non_patient_instance
    WHERE partition_id = $1 AND category >= $2 AND category <= $2
    ORDER BY category, watermark LIMIT $3 OFFSET $4";

const COUNT: &str = "-- non_patient_count
    SELECT count(*) FROM (SELECT FROM non_patient_instance
        WHERE partition_id = $1 AND category >= $2 AND category <= $2
        ORDER BY category, watermark) x";

const METADATA: &str = concat!(
    "-- non_patient_metadata
    SELECT i.watermark, i.sop_instance_uid, i.metadata
    FROM unnest($2::bigint[]) AS n(key) CROSS JOIN LATERAL ",
    one!("*", "non_patient_instance", "watermark", "n.key"),
    " i"
);

const DELETE: &str = concat!(
    "-- non_patient_delete
    DELETE FROM non_patient_instance t USING ",
    one!("ctid AS at, category", "non_patient_instance", "sop_instance_uid", "$3"),
    " x
    WHERE t.partition_id = $1 AND t.ctid = x.at AND x.category = $2
    RETURNING t.blob_id"
);

pub(super) const STATEMENTS: &[&str] =
    &[EXISTING, CREATE, FIND, BULK, PAGE, KEYS, COUNT, METADATA, DELETE];

/// A Non-Patient Instance whose bytes are in a blob of their own.
#[derive(Debug)]
pub struct NewNonPatient<'a> {
    /// Its category.
    pub category: &'a str,
    /// What was read from its file.
    pub indexed: &'a NonPatient,
    /// Its DICOM JSON, as one zstd frame.
    pub metadata: &'a [u8],
    /// Bytes of the file.
    pub length: u64,
    /// SHA-256 of the file.
    pub sha256: [u8; 32],
}

/// Whether a partition has an instance under a SOP Instance UID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Had {
    /// It has none.
    No,
    /// It has the same bytes.
    Same,
    /// It has others.
    Other,
}

impl PartitionTx {
    /// Whether the partition has an instance under the UID of a new one.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn non_patient_had(&mut self, new: &NewNonPatient<'_>) -> Result<Had, IndexError> {
        let (query, conn) = self.statement(EXISTING);
        let query = query.bind(new.indexed.instance.as_str());
        let Some(row) = query.fetch_optional(conn).await? else { return Ok(Had::No) };
        let (category, sha256): (&str, &[u8]) = (row.try_get(0)?, row.try_get(1)?);
        let length: i64 = row.try_get(2)?;
        let is_same =
            category == new.category && sha256 == &new.sha256[..] && length == bigint(new.length);
        Ok(if is_same { Had::Same } else { Had::Other })
    }

    /// Writes the row of a new instance and that of its blob; false where another has its UID.
    ///
    /// # Errors
    /// [`IndexError`]. Nothing is stored before [`PartitionTx::commit`].
    pub async fn non_patient_create(
        &mut self,
        blob: NewBlob,
        new: &NewNonPatient<'_>,
    ) -> Result<bool, IndexError> {
        let (query, conn) = self.statement(CREATE);
        let indexed = new.indexed;
        let query = query
            .bind(new.category)
            .bind(indexed.instance.as_str())
            .bind(indexed.sop_class.as_str())
            .bind(indexed.transfer_syntax.as_str())
            .bind(blob.id)
            .bind(bigint(new.length))
            .bind(bigint(indexed.data_set_offset))
            .bind(header_missing(indexed.data_set_offset, indexed.has_preamble))
            .bind(&new.sha256[..])
            .bind(new.metadata)
            .bind(bulk_column(&indexed.bulk));
        if query.fetch_optional(conn).await?.is_none() {
            return Ok(false);
        }
        self.blobs_create(&[blob]).await?;
        Ok(true)
    }

    /// An instance of a category, and its DICOM JSON as one zstd frame. Its own UID stands for those
    /// of a study and series.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn non_patient(
        &mut self,
        category: &str,
        instance: &Uid,
    ) -> Result<Option<(Located, Vec<u8>)>, IndexError> {
        let (query, conn) = self.statement(FIND);
        let row = query.bind(category).bind(instance.as_str()).fetch_optional(conn).await?;
        let Some(row) = row else { return Ok(None) };
        let located = Located::read(&row, instance.clone(), instance.clone())?;
        Ok(Some((located, row.try_get(LOCATED_COLUMNS)?)))
    }

    /// The value of an instance that its metadata names by `path`.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn non_patient_bulk(
        &mut self,
        category: &str,
        instance: &Uid,
        path: &str,
    ) -> Result<Option<(Located, BulkEntry)>, IndexError> {
        // No key holds a NUL, and Postgres refuses one.
        if path.contains('\0') {
            return Ok(None);
        }
        let (query, conn) = self.statement(BULK);
        let query = query.bind(category).bind(instance.as_str()).bind(path);
        let Some(row) = query.fetch_optional(conn).await? else { return Ok(None) };
        let (table, column) = ("non_patient_instance", "bulk");
        let vr = VR::from_str(row.try_get(LOCATED_COLUMNS)?)
            .map_err(|_| IndexError::Inconsistent { table, column })?;
        let entry = BulkEntry {
            path: path.to_owned(),
            vr,
            offset: size(&row, LOCATED_COLUMNS + 1, table, column)?,
            length: size(&row, LOCATED_COLUMNS + 2, table, column)?,
        };
        Ok(Some((Located::read(&row, instance.clone(), instance.clone())?, entry)))
    }

    /// A page of a category behind a watermark, ascending: watermarks and metadata.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn non_patient_page(
        &mut self,
        category: &str,
        after: i64,
        limit: i64,
    ) -> Result<Vec<(i64, Vec<u8>)>, IndexError> {
        let (query, conn) = self.statement(PAGE);
        let rows = query.bind(category).bind(after).bind(limit).fetch_all(conn).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }

    /// Watermarks of a page (limit, offset) of a category, ascending, and how many there are in all.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn non_patient_keys(
        &mut self,
        category: &str,
        (limit, offset): (i64, i64),
    ) -> Result<(Vec<i64>, i64), IndexError> {
        let (query, conn) = self.statement(KEYS);
        let rows = query.bind(category).bind(limit).bind(offset).fetch_all(conn).await?;
        let keys: Result<Vec<i64>, IndexError> =
            rows.iter().map(|row| Ok(row.try_get(0)?)).collect();
        let (query, conn) = self.statement(COUNT);
        let all = query.bind(category).fetch_one(conn).await?.try_get(0)?;
        Ok((keys?, all))
    }

    /// The metadata of some instances, ascending by watermark, with their UIDs.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn non_patient_metadata(
        &mut self,
        watermarks: &[i64],
    ) -> Result<Vec<(String, Vec<u8>)>, IndexError> {
        let (query, conn) = self.statement(METADATA);
        let rows = query.bind(watermarks).fetch_all(conn).await?;
        let read = |row: &PgRow| Ok((row.try_get(0)?, (row.try_get(1)?, row.try_get(2)?)));
        let mut all: Vec<(i64, (String, Vec<u8>))> =
            rows.iter().map(read).collect::<Result<_, IndexError>>()?;
        all.sort_unstable_by_key(|(watermark, _)| *watermark);
        Ok(all.into_iter().map(|(_, one)| one).collect())
    }

    /// Deletes an instance of a category; its blob is removed after `grace`. False: there is none.
    ///
    /// # Errors
    /// [`IndexError`]. Nothing is deleted before [`PartitionTx::commit`].
    pub async fn non_patient_delete(
        &mut self,
        category: &str,
        instance: &Uid,
        grace: Duration,
    ) -> Result<bool, IndexError> {
        let (query, conn) = self.statement(DELETE);
        let row = query.bind(category).bind(instance.as_str()).fetch_optional(conn).await?;
        let Some(row) = row else { return Ok(false) };
        let blob: Vec<Uuid> = vec![row.try_get(0)?];
        let (query, conn) = self.statement(BLOBS_QUEUE);
        query.bind(&blob).bind(grace.as_secs_f64()).execute(conn).await?;
        let (query, conn) = self.statement(BLOBS);
        query.bind(blob).execute(conn).await?;
        Ok(true)
    }
}
