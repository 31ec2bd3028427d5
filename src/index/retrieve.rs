//! Retrieve: what is there, where its bytes are, and its metadata.
//!
//! Long answers are read in pages by watermark, each in a transaction of its own; the largest
//! watermark of the first answer bounds the later ones, so that the pages agree.

use std::{collections::BTreeMap, str::FromStr};

use futures::{TryStreamExt, stream::BoxStream};
use sqlx::{Row, postgres::PgRow};
use uuid::Uuid;

use super::{
    IndexError, Located, PartitionTx, Presence, Target,
    located::{LOCATED_COLUMNS, located_columns, size, uid},
    lookup::{from_instance, one, series_key, series_uid_of_i, study_key, study_uid_of_i},
};
use crate::dicom::{Uid, VR, index::BulkEntry};

/// A tombstone of study `$2`.
macro_rules! deleted {
    ($also:literal) => {
        concat!(
            "(SELECT watermark FROM deleted_instance WHERE partition_id = $1
            AND study_instance_uid >= $2 AND study_instance_uid <= $2 ",
            $also,
            "
            ORDER BY study_instance_uid LIMIT 1)"
        )
    };
}

/// The metadata of instance `i`, as `m`.
macro_rules! metadata {
    () => {
        concat!(
            " CROSS JOIN LATERAL ",
            one!("metadata, bulk", "instance_metadata", "watermark", "i.watermark"),
            " m"
        )
    };
}

/// A page of the instances whose column `$key` is `$of`.
macro_rules! page {
    ($name:literal, $columns:expr, $from:expr, $key:literal, $of:expr) => {
        concat!(
            "-- ",
            $name,
            "
    SELECT ",
            located_columns!(),
            $columns,
            "
    FROM (SELECT * FROM instance
        WHERE partition_id = $1 AND ",
            $key,
            " >= ",
            $of,
            " AND ",
            $key,
            " <= ",
            $of,
            "
            AND watermark > $3 AND watermark <= $4
        ORDER BY ",
            $key,
            ", watermark LIMIT $5) i",
            $from
        )
    };
}

/// The page that instance `$7` is, if it is within the bounds.
macro_rules! page_of_one {
    ($name:literal, $columns:expr, $from:expr) => {
        concat!(
            "-- ",
            $name,
            "
    SELECT ",
            located_columns!(),
            $columns,
            from_instance!("$7"),
            $from,
            "
    WHERE ",
            study_uid_of_i!(),
            " = $2 AND ",
            series_uid_of_i!(),
            " = $6
        AND i.watermark > $3 AND i.watermark <= $4
    LIMIT $5"
        )
    };
}

pub(super) use {metadata, page, page_of_one};

const PRESENCE_STUDY: &str = concat!(
    "-- presence_study
    SELECT ",
    study_key!(),
    " IS NOT NULL, ",
    deleted!(""),
    " IS NOT NULL"
);

const PRESENCE_SERIES: &str = concat!(
    "-- presence_series
    SELECT ",
    series_key!("$3"),
    " IS NOT NULL, ",
    deleted!("AND series_instance_uid = $3"),
    " IS NOT NULL"
);

const PRESENCE_INSTANCE: &str = concat!(
    "-- presence_instance
    SELECT (SELECT i.watermark ",
    from_instance!("$4"),
    "
            WHERE ",
    study_uid_of_i!(),
    " = $2 AND ",
    series_uid_of_i!(),
    " = $3) IS NOT NULL, ",
    deleted!("AND series_instance_uid = $3 AND sop_instance_uid = $4"),
    " IS NOT NULL"
);

const INSTANCES_OF_STUDY: &str =
    page!("instances_of_study", concat!(", ", series_uid_of_i!()), "", "study_key", study_key!());
const INSTANCES_OF_SERIES: &str =
    page!("instances_of_series", "", "", "series_key", series_key!("$6"));
const INSTANCES_OF_INSTANCE: &str = page_of_one!("instances_of_instance", "", "");

/// The first version of instance `i`, where that is another, as `o`.
macro_rules! original {
    () => {
        concat!(
            " LEFT JOIN LATERAL ",
            one!("*", "original_instance", "of_watermark", "i.watermark"),
            " o ON true"
        )
    };
}

/// Where it is.
macro_rules! original_columns {
    () => {
        ", o.watermark, o.blob_id, o.blob_offset, o.length, o.data_set_offset, o.header_missing"
    };
}

const ORIGINALS_OF_STUDY: &str = page!(
    "originals_of_study",
    concat!(original_columns!(), ", ", series_uid_of_i!()),
    original!(),
    "study_key",
    study_key!()
);
const ORIGINALS_OF_SERIES: &str =
    page!("originals_of_series", original_columns!(), original!(), "series_key", series_key!("$6"));
const ORIGINALS_OF_INSTANCE: &str =
    page_of_one!("originals_of_instance", original_columns!(), original!());

const METADATA_OF_INSTANCE: &str =
    page_of_one!("metadata_of_instance", ", m.metadata", metadata!());

const BULK_OF_STUDY: &str = page!(
    "bulk_of_study",
    concat!(", m.bulk::text, ", series_uid_of_i!()),
    metadata!(),
    "study_key",
    study_key!()
);
const BULK_OF_SERIES: &str =
    page!("bulk_of_series", ", m.bulk::text", metadata!(), "series_key", series_key!("$6"));
const BULK_OF_INSTANCE: &str = page_of_one!("bulk_of_instance", ", m.bulk::text", metadata!());

/// `$5` is the path. One entry of the object is answered, whatever their number.
const BULK_LOCATE: &str = concat!(
    "-- bulk_locate
    SELECT ",
    located_columns!(),
    ",
        m.bulk -> $5 ->> 0, (m.bulk -> $5 ->> 1)::bigint, (m.bulk -> $5 ->> 2)::bigint
    ",
    from_instance!("$4"),
    metadata!(),
    "
    WHERE ",
    study_uid_of_i!(),
    " = $2 AND ",
    series_uid_of_i!(),
    " = $3
        AND m.bulk -> $5 IS NOT NULL"
);

const PARTITION_IN_USE: &str = "-- partition_in_use
    SELECT EXISTS (SELECT FROM study WHERE partition_id = $1)
        OR EXISTS (SELECT FROM non_patient_instance WHERE partition_id = $1)";

/// A blob has a row for as long as an instance lives in it.
const BLOB_IS_NAMED: &str = concat!(
    "-- blob_is_named
    SELECT ",
    one!("1", "blob", "blob_id", "$2"),
    " IS NOT NULL"
);

pub(super) const STATEMENTS: &[&str] = &[
    PRESENCE_STUDY,
    PRESENCE_SERIES,
    PRESENCE_INSTANCE,
    INSTANCES_OF_STUDY,
    INSTANCES_OF_SERIES,
    INSTANCES_OF_INSTANCE,
    ORIGINALS_OF_STUDY,
    ORIGINALS_OF_SERIES,
    ORIGINALS_OF_INSTANCE,
    METADATA_OF_INSTANCE,
    BULK_OF_STUDY,
    BULK_OF_SERIES,
    BULK_OF_INSTANCE,
    BULK_LOCATE,
    PARTITION_IN_USE,
    BLOB_IS_NAMED,
];

/// Longest path of a bulk value that is looked up, in bytes. Real ones have 8 bytes a level and a
/// few for each item number; `limits.element_depth` bounds the levels.
const MAX_PATH: usize = 4096;

/// Metadata in one page, in bytes, from which no further row is taken.
pub(super) const METADATA_BYTES: usize = 4 * 1024 * 1024;

impl PartitionTx {
    /// What the partition knows of `target`.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn presence(&mut self, target: &Target) -> Result<Presence, IndexError> {
        let sql = match target {
            Target::Study { .. } => PRESENCE_STUDY,
            Target::Series { .. } => PRESENCE_SERIES,
            Target::Instance { .. } => PRESENCE_INSTANCE,
        };
        let (mut query, conn) = self.statement(sql);
        for uid in [Some(target.study()), target.series(), target.instance()].into_iter().flatten()
        {
            query = query.bind(uid.as_str());
        }
        let row = query.fetch_one(conn).await?;
        Ok(match (row.try_get(0)?, row.try_get(1)?) {
            (true, _) => Presence::Live,
            (false, true) => Presence::Deleted,
            (false, false) => Presence::Absent,
        })
    }

    /// Instances of `target` with a watermark above `after` (none: from the first) and up to
    /// `up_to`, ascending by watermark, at most `limit`.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn instances_page(
        &mut self,
        target: &Target,
        after: Option<i64>,
        up_to: i64,
        limit: i64,
    ) -> Result<Vec<Located>, IndexError> {
        let sql = [INSTANCES_OF_STUDY, INSTANCES_OF_SERIES, INSTANCES_OF_INSTANCE];
        let rows = self.page(sql, target, after, up_to, limit, |_| Ok(false)).await?;
        rows.iter().map(|row| located(row, target, 0)).collect()
    }

    /// As [`PartitionTx::instances_page`], with the first version of each instance where that is
    /// another.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn originals_page(
        &mut self,
        target: &Target,
        after: Option<i64>,
        up_to: i64,
        limit: i64,
    ) -> Result<Vec<(Located, Option<Located>)>, IndexError> {
        let sql = [ORIGINALS_OF_STUDY, ORIGINALS_OF_SERIES, ORIGINALS_OF_INSTANCE];
        let rows = self.page(sql, target, after, up_to, limit, |_| Ok(false)).await?;
        let read = |row: &PgRow| {
            const TABLE: &str = "original_instance";
            let current = located(row, target, 6)?;
            let Some(watermark) = row.try_get::<Option<i64>, _>(LOCATED_COLUMNS)? else {
                return Ok((current, None));
            };
            let missing: Option<i16> = row.try_get(LOCATED_COLUMNS + 5)?;
            let original = Located {
                watermark,
                blob: row.try_get(LOCATED_COLUMNS + 1)?,
                offset: size(row, LOCATED_COLUMNS + 2, TABLE, "blob_offset")?,
                length: size(row, LOCATED_COLUMNS + 3, TABLE, "length")?,
                data_set_offset: size(row, LOCATED_COLUMNS + 4, TABLE, "data_set_offset")?,
                header_missing: missing.and_then(|n| u64::try_from(n).ok()),
                ..current.clone()
            };
            Ok((current, Some(original)))
        };
        rows.iter().map(read).collect()
    }

    /// An instance, in the version `version` if one is given, with its DICOM JSON as it is kept.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn metadata_of_one(
        &mut self,
        target: &Target,
        version: Option<i64>,
    ) -> Result<Option<(Located, Vec<u8>)>, IndexError> {
        let Target::Instance { study, series, instance } = target else { return Ok(None) };
        let (query, conn) = self.statement(METADATA_OF_INSTANCE);
        let query = query
            .bind(study.as_str())
            .bind(version.map_or(i64::MIN, |version| version.saturating_sub(1)))
            .bind(version.unwrap_or(i64::MAX))
            .bind(1_i64)
            .bind(series.as_str())
            .bind(instance.as_str());
        let Some(row) = query.fetch_optional(conn).await? else { return Ok(None) };
        Ok(Some((located(&row, target, 1)?, row.try_get(LOCATED_COLUMNS)?)))
    }

    /// Like [`PartitionTx::instances_page`], with the values that the metadata of each instance
    /// names by URI, ascending by path.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn bulk_page(
        &mut self,
        target: &Target,
        after: Option<i64>,
        up_to: i64,
        limit: i64,
    ) -> Result<Vec<(Located, Vec<BulkEntry>)>, IndexError> {
        let sql = [BULK_OF_STUDY, BULK_OF_SERIES, BULK_OF_INSTANCE];
        let mut bytes = 0;
        let is_enough = |row: &PgRow| {
            bytes += row.try_get::<Option<&str>, _>(LOCATED_COLUMNS)?.map_or(0, str::len);
            Ok(bytes >= METADATA_BYTES)
        };
        let rows = self.page(sql, target, after, up_to, limit, is_enough).await?;
        let entries = |text: Option<&str>| -> Option<Vec<BulkEntry>> {
            let Some(text) = text else { return Some(Vec::new()) };
            let found: BTreeMap<String, (String, u64, u64)> = serde_json::from_str(text).ok()?;
            let entry = |(path, (vr, offset, length)): (String, (String, u64, u64))| {
                Some(BulkEntry { path, vr: VR::from_str(&vr).ok()?, offset, length })
            };
            found.into_iter().map(entry).collect()
        };
        let (table, column) = ("instance_metadata", "bulk");
        let read = |row: &PgRow| {
            let entries = entries(row.try_get(LOCATED_COLUMNS)?);
            let entries = entries.ok_or(IndexError::Inconsistent { table, column })?;
            Ok((located(row, target, 1)?, entries))
        };
        rows.iter().map(read).collect()
    }

    /// Rows of a page, see [`PartitionTx::instances_page`]; ends where `is_enough` says so.
    pub(super) async fn page(
        &mut self,
        [of_study, of_series, of_instance]: [&'static str; 3],
        target: &Target,
        after: Option<i64>,
        up_to: i64,
        limit: i64,
        mut is_enough: impl FnMut(&PgRow) -> Result<bool, sqlx::Error>,
    ) -> Result<Vec<PgRow>, IndexError> {
        let sql = match target {
            Target::Study { .. } => of_study,
            Target::Series { .. } => of_series,
            Target::Instance { .. } => of_instance,
        };
        let (query, conn) = self.statement(sql);
        let mut query = query
            .bind(target.study().as_str())
            .bind(after.unwrap_or(i64::MIN))
            .bind(up_to)
            .bind(limit);
        for uid in [target.series(), target.instance()].into_iter().flatten() {
            query = query.bind(uid.as_str());
        }
        // Rows that were not read are read over when the connection is used again.
        let (mut rows, mut page) = (query.fetch(conn), Vec::new());
        while let Some(row) = rows.try_next().await? {
            let enough = is_enough(&row)?;
            page.push(row);
            if enough {
                break;
            }
        }
        Ok(page)
    }

    /// Finds the value of an instance that its metadata names by `path`. `None`: no such instance,
    /// or no such value.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn bulk_locate(
        &mut self,
        target: &Target,
        path: &str,
    ) -> Result<Option<(Located, BulkEntry)>, IndexError> {
        let Target::Instance { study, series, instance } = target else { return Ok(None) };
        // Paths come from outside: no key holds a NUL, and Postgres refuses one.
        if path.len() > MAX_PATH || path.contains('\0') {
            return Ok(None);
        }
        let (query, conn) = self.statement(BULK_LOCATE);
        let query = query.bind(study.as_str()).bind(series.as_str()).bind(instance.as_str());
        let Some(row) = query.bind(path).fetch_optional(conn).await? else { return Ok(None) };
        let (table, column) = ("instance_metadata", "bulk");
        let vr = VR::from_str(row.try_get(LOCATED_COLUMNS)?)
            .map_err(|_| IndexError::Inconsistent { table, column })?;
        let entry = BulkEntry {
            path: path.to_owned(),
            vr,
            offset: size(&row, LOCATED_COLUMNS + 1, table, column)?,
            length: size(&row, LOCATED_COLUMNS + 2, table, column)?,
        };
        Ok(Some((Located::read(&row, study.clone(), series.clone())?, entry)))
    }

    /// Whether an instance lives in a blob.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn blob_is_named(&mut self, blob: Uuid) -> Result<bool, IndexError> {
        let (query, conn) = self.statement(BLOB_IS_NAMED);
        Ok(query.bind(blob).fetch_one(conn).await?.try_get(0)?)
    }

    /// Whether the partition holds anything.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn partition_in_use(&mut self) -> Result<bool, IndexError> {
        let (query, conn) = self.statement(PARTITION_IN_USE);
        Ok(query.fetch_one(conn).await?.try_get(0)?)
    }
}

/// Reads rows, until `read` says that they are enough.
pub(super) async fn read_until<T>(
    mut rows: BoxStream<'_, Result<PgRow, sqlx::Error>>,
    mut read: impl FnMut(&PgRow) -> Result<(T, bool), IndexError>,
) -> Result<Vec<T>, IndexError> {
    // Rows that were not read are read over when the connection is used again.
    let mut page = Vec::new();
    while let Some(row) = rows.try_next().await? {
        let (one, is_enough) = read(&row)?;
        page.push(one);
        if is_enough {
            break;
        }
    }
    Ok(page)
}

/// Reads a row of a page; where the target is a study, the series stands behind `extra` columns.
fn located(row: &PgRow, target: &Target, extra: usize) -> Result<Located, IndexError> {
    let series: Uid = match target.series() {
        Some(series) => series.clone(),
        None => uid(row, LOCATED_COLUMNS + extra, "series", "series_instance_uid")?,
    };
    Located::read(row, target.study().clone(), series)
}
