//! Retrieve: what is there, where its bytes are, and its metadata.
//!
//! Long answers are read in pages by watermark, each in a transaction of its own; the largest
//! watermark of the first answer bounds the later ones, so that the pages agree.

use std::str::FromStr;

use futures::TryStreamExt;
use sqlx::{Row, postgres::PgRow};

use super::{
    IndexError, Located, PartitionTx, Presence, Target,
    located::{LOCATED_COLUMNS, located_columns, size, uid},
};
use crate::dicom::{Uid, VR, index::BulkEntry};

const PRESENCE_STUDY: &str = "-- presence_study
    SELECT
        EXISTS (SELECT FROM study WHERE partition_id = $1 AND study_instance_uid = $2),
        EXISTS (SELECT FROM deleted_instance WHERE partition_id = $1 AND study_instance_uid = $2)";

const PRESENCE_SERIES: &str = "-- presence_series
    SELECT
        EXISTS (SELECT FROM series e
            JOIN study s ON s.partition_id = e.partition_id AND s.study_key = e.study_key
            WHERE e.partition_id = $1 AND s.study_instance_uid = $2
                AND e.series_instance_uid = $3),
        EXISTS (SELECT FROM deleted_instance
            WHERE partition_id = $1 AND study_instance_uid = $2 AND series_instance_uid = $3)";

const PRESENCE_INSTANCE: &str = "-- presence_instance
    SELECT
        EXISTS (SELECT FROM instance i
            JOIN series e ON e.partition_id = i.partition_id AND e.series_key = i.series_key
            JOIN study s ON s.partition_id = i.partition_id AND s.study_key = i.study_key
            WHERE i.partition_id = $1 AND i.sop_instance_uid = $4
                AND s.study_instance_uid = $2 AND e.series_instance_uid = $3),
        EXISTS (SELECT FROM deleted_instance
            WHERE partition_id = $1 AND study_instance_uid = $2 AND series_instance_uid = $3
                AND sop_instance_uid = $4)";

/// The pages of a study, a series, an instance. `$columns` follow those of [`Located`]. The key of
/// the study or series comes from a scalar sub-select, so that its index yields the order.
macro_rules! page_of_study {
    ($name:literal, $columns:literal, $join:literal) => {
        concat!(
            "-- ",
            $name,
            "_of_study
    SELECT ",
            located_columns!(),
            $columns,
            ", e.series_instance_uid
    FROM instance i
    JOIN series e ON e.partition_id = i.partition_id AND e.series_key = i.series_key ",
            $join,
            "
    WHERE i.partition_id = $1 AND i.study_key = (
            SELECT study_key FROM study WHERE partition_id = $1 AND study_instance_uid = $2)
        AND i.watermark > $3 AND i.watermark <= $4
    ORDER BY i.watermark LIMIT $5"
        )
    };
}

macro_rules! page_of_series {
    ($name:literal, $columns:literal, $join:literal) => {
        concat!(
            "-- ",
            $name,
            "_of_series
    SELECT ",
            located_columns!(),
            $columns,
            "
    FROM instance i ",
            $join,
            "
    WHERE i.partition_id = $1 AND i.series_key = (
            SELECT e.series_key FROM series e
            JOIN study s ON s.partition_id = e.partition_id AND s.study_key = e.study_key
            WHERE e.partition_id = $1 AND s.study_instance_uid = $2
                AND e.series_instance_uid = $6)
        AND i.watermark > $3 AND i.watermark <= $4
    ORDER BY i.watermark LIMIT $5"
        )
    };
}

macro_rules! page_of_instance {
    ($name:literal, $columns:literal, $join:literal) => {
        concat!(
            "-- ",
            $name,
            "_of_instance
    SELECT ",
            located_columns!(),
            $columns,
            "
    FROM instance i
    JOIN series e ON e.partition_id = i.partition_id AND e.series_key = i.series_key
    JOIN study s ON s.partition_id = i.partition_id AND s.study_key = i.study_key ",
            $join,
            "
    WHERE i.partition_id = $1 AND i.sop_instance_uid = $7
        AND s.study_instance_uid = $2 AND e.series_instance_uid = $6
        AND i.watermark > $3 AND i.watermark <= $4
    LIMIT $5"
        )
    };
}

const INSTANCES_OF_STUDY: &str = page_of_study!("instances", "", "");
const INSTANCES_OF_SERIES: &str = page_of_series!("instances", "", "");
const INSTANCES_OF_INSTANCE: &str = page_of_instance!("instances", "", "");

const METADATA_OF_STUDY: &str = page_of_study!(
    "metadata",
    ", m.metadata",
    "JOIN instance_metadata m ON m.partition_id = i.partition_id AND m.watermark = i.watermark"
);
const METADATA_OF_SERIES: &str = page_of_series!(
    "metadata",
    ", m.metadata",
    "JOIN instance_metadata m ON m.partition_id = i.partition_id AND m.watermark = i.watermark"
);
const METADATA_OF_INSTANCE: &str = page_of_instance!(
    "metadata",
    ", m.metadata",
    "JOIN instance_metadata m ON m.partition_id = i.partition_id AND m.watermark = i.watermark"
);

/// `$5` is the path. One entry of the object is answered, whatever their number.
const BULK_LOCATE: &str = concat!(
    "-- bulk_locate
    SELECT ",
    located_columns!(),
    ",
        m.bulk -> $5 ->> 0, (m.bulk -> $5 ->> 1)::bigint, (m.bulk -> $5 ->> 2)::bigint
    FROM instance i
    JOIN series e ON e.partition_id = i.partition_id AND e.series_key = i.series_key
    JOIN study s ON s.partition_id = i.partition_id AND s.study_key = i.study_key
    JOIN instance_metadata m ON m.partition_id = i.partition_id AND m.watermark = i.watermark
    WHERE i.partition_id = $1 AND i.sop_instance_uid = $4
        AND s.study_instance_uid = $2 AND e.series_instance_uid = $3
        AND m.bulk -> $5 IS NOT NULL"
);

const PARTITION_IN_USE: &str = "-- partition_in_use
    SELECT EXISTS (SELECT FROM study WHERE partition_id = $1)";

pub(super) const STATEMENTS: &[&str] = &[
    PRESENCE_STUDY,
    PRESENCE_SERIES,
    PRESENCE_INSTANCE,
    INSTANCES_OF_STUDY,
    INSTANCES_OF_SERIES,
    INSTANCES_OF_INSTANCE,
    METADATA_OF_STUDY,
    METADATA_OF_SERIES,
    METADATA_OF_INSTANCE,
    BULK_LOCATE,
    PARTITION_IN_USE,
];

/// Longest path of a bulk value that is looked up, in bytes. Real ones have 8 bytes a level and a
/// few for each item number; `limits.element_depth` bounds the levels.
const MAX_PATH: usize = 4096;

/// Metadata in one page, in bytes, from which no further row is taken.
const METADATA_BYTES: usize = 4 * 1024 * 1024;

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

    /// Like [`PartitionTx::instances_page`], with the metadata of each instance: DICOM JSON as one
    /// zstd frame. Ends early, but not before its first row, when the metadata is some MiB.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn metadata_page(
        &mut self,
        target: &Target,
        after: Option<i64>,
        up_to: i64,
        limit: i64,
    ) -> Result<Vec<(Located, Vec<u8>)>, IndexError> {
        let sql = [METADATA_OF_STUDY, METADATA_OF_SERIES, METADATA_OF_INSTANCE];
        let mut bytes = 0;
        let is_enough = |row: &PgRow| {
            bytes += row.try_get::<&[u8], _>(LOCATED_COLUMNS)?.len();
            Ok(bytes >= METADATA_BYTES)
        };
        let rows = self.page(sql, target, after, up_to, limit, is_enough).await?;
        rows.iter()
            .map(|row| Ok((located(row, target, 1)?, row.try_get(LOCATED_COLUMNS)?)))
            .collect()
    }

    async fn page(
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

    /// Whether the partition holds anything.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn partition_in_use(&mut self) -> Result<bool, IndexError> {
        let (query, conn) = self.statement(PARTITION_IN_USE);
        Ok(query.fetch_one(conn).await?.try_get(0)?)
    }
}

/// Reads a row of a page; where the target is a study, the series stands behind `extra` columns.
fn located(row: &PgRow, target: &Target, extra: usize) -> Result<Located, IndexError> {
    let series: Uid = match target.series() {
        Some(series) => series.clone(),
        None => uid(row, LOCATED_COLUMNS + extra, "series", "series_instance_uid")?,
    };
    Located::read(row, target.study().clone(), series)
}
