//! What is read to hold series and studies against what belongs to them, and what belongs to
//! instances, series and studies against these.
//!
//! See `verify` for the manner. Counts are taken twice, by the statement that answers searches and
//! along another index, in one moment.

use sqlx::{Row, postgres::PgRow};

use super::{IndexError, PartitionTx, RowKey, lookup::one, rows::Include};
use crate::dicom::attributes::Level;

const SERIES: &str = concat!(
    "-- verify_series
    SELECT e.series_key, e.series_instance_uid, s.study_instance_uid, i.count, e.modality IS NULL
            OR (SELECT 1 FROM study_term WHERE partition_id = $1
                    AND study_key >= e.study_key AND study_key <= e.study_key
                    AND term = 'm:' || e.modality
                ORDER BY study_key LIMIT 1) IS NOT NULL
    FROM (SELECT series_key, study_key, series_instance_uid, modality FROM series
        WHERE partition_id = $1 AND series_key > $2 ORDER BY series_key LIMIT $3) e
    LEFT JOIN LATERAL ",
    one!("study_instance_uid", "study", "study_key", "e.study_key"),
    " s ON true
    CROSS JOIN LATERAL (SELECT count(*) AS count FROM (SELECT FROM instance
        WHERE partition_id = $1 AND series_key >= e.series_key AND series_key <= e.series_key
        ORDER BY series_key) x) i"
);

/// Instances are counted by way of the series; Search counts them by way of the study.
const STUDIES: &str = "-- verify_studies
    SELECT s.study_key, s.study_order, s.study_instance_uid, e.series, e.instances, t.astray
    FROM (SELECT study_key, study_order, study_instance_uid FROM study
        WHERE partition_id = $1 AND study_key > $2 ORDER BY study_key LIMIT $3) s
    CROSS JOIN LATERAL (SELECT count(*) AS series, coalesce(sum(i.count), 0)::bigint AS instances
        FROM (SELECT series_key FROM series
            WHERE partition_id = $1 AND study_key >= s.study_key AND study_key <= s.study_key
            ORDER BY study_key) k
        CROSS JOIN LATERAL (SELECT count(*) AS count FROM (SELECT FROM instance
            WHERE partition_id = $1 AND series_key >= k.series_key
                AND series_key <= k.series_key
            ORDER BY series_key) x) i) e
    CROSS JOIN LATERAL (SELECT count(*) AS astray FROM (SELECT FROM study_term
        WHERE partition_id = $1 AND study_key >= s.study_key AND study_key <= s.study_key
            AND study_order <> s.study_order
        ORDER BY study_key) x) t";

/// Keys of `$table` above `$2`, and whether an instance or a deleted one has them.
macro_rules! of_instances {
    ($name:literal, $table:literal) => {
        concat!(
            "-- ",
            $name,
            "
    SELECT t.key, ",
            one!("1", "instance", "watermark", "t.key"),
            " IS NOT NULL OR ",
            one!("1", "deleted_instance", "watermark", "t.key"),
            " IS NOT NULL
    FROM (SELECT watermark AS key FROM ",
            $table,
            " WHERE partition_id = $1 AND watermark > $2 ORDER BY watermark LIMIT $3) t"
        )
    };
}

/// Keys of `$table` above `$2`, and whether `$parent` has them.
macro_rules! of_parents {
    ($name:literal, $table:literal, $key:literal, $parent:literal) => {
        concat!(
            "-- ",
            $name,
            "
    SELECT t.key, ",
            one!("1", $parent, $key, "t.key"),
            " IS NOT NULL
    FROM (SELECT ",
            $key,
            " AS key FROM ",
            $table,
            " WHERE partition_id = $1 AND ",
            $key,
            " > $2 ORDER BY ",
            $key,
            " LIMIT $3) t"
        )
    };
}

const OF_METADATA: &str = of_instances!("verify_of_metadata", "instance_metadata");
const OF_PACKS: &str = of_parents!("verify_of_packs", "metadata_pack", "study_key", "study");
/// First versions, which belong to the last ones.
const OF_ORIGINALS: &str = concat!(
    "-- verify_of_originals
    SELECT t.key, ",
    one!("1", "instance", "watermark", "t.of_watermark"),
    " IS NOT NULL
    FROM (SELECT watermark AS key, of_watermark FROM original_instance
        WHERE partition_id = $1 AND watermark > $2 ORDER BY watermark LIMIT $3) t"
);
const OF_FRAMES: &str = of_instances!("verify_of_frames", "frame_table");
const OF_VALUES: &str = of_instances!("verify_of_values", "query_tag_value");
const OF_ERRORS: &str = of_instances!("verify_of_errors", "query_tag_error");
const OF_TERMS: &str = of_parents!("verify_of_terms", "study_term", "study_key", "study");
const OF_REQUESTS: &str =
    of_parents!("verify_of_requests", "series_request", "series_key", "series");

pub(super) const STATEMENTS: &[&str] = &[
    SERIES,
    STUDIES,
    OF_METADATA,
    OF_ORIGINALS,
    OF_PACKS,
    OF_FRAMES,
    OF_VALUES,
    OF_ERRORS,
    OF_TERMS,
    OF_REQUESTS,
];

/// A series, and what belongs to it.
#[derive(Clone, Debug)]
pub struct VerifySeries {
    /// Its key.
    pub key: i64,
    /// Series Instance UID.
    pub series: String,
    /// Study Instance UID, of the study that it belongs to.
    pub study: Option<String>,
    /// Number of its instances.
    pub instances: i64,
    /// Number of its instances, as Search tells it.
    pub told: Option<i64>,
    /// Whether its study is found by its modality, where it has one.
    pub has_modality_term: bool,
}

/// A study, and what belongs to it.
#[derive(Clone, Debug)]
pub struct VerifyStudy {
    /// Its key.
    pub key: i64,
    /// Study Instance UID.
    pub study: String,
    /// Number of its series, and of their instances.
    pub counts: (i64, i64),
    /// The same as Search tells it.
    pub told: Option<(i64, i64)>,
    /// Terms that stand elsewhere in the order of results than the study.
    pub terms_astray: i64,
}

/// Rows that belong to an instance, a series or a study.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Belonging {
    /// Metadata of instances.
    Metadata,
    /// Packs of metadata of studies.
    Packs,
    /// Frame tables of instances.
    Frames,
    /// Values of extended query tags.
    TagValues,
    /// Values that break their value representation.
    TagErrors,
    /// Terms of studies.
    Terms,
    /// Request attributes of series.
    Requests,
    /// First versions of instances.
    Originals,
}

impl Belonging {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Metadata,
        Self::Packs,
        Self::Frames,
        Self::TagValues,
        Self::TagErrors,
        Self::Terms,
        Self::Requests,
        Self::Originals,
    ];

    /// The table.
    pub fn table(self) -> &'static str {
        match self {
            Self::Metadata => "instance_metadata",
            Self::Packs => "metadata_pack",
            Self::Frames => "frame_table",
            Self::TagValues => "query_tag_value",
            Self::TagErrors => "query_tag_error",
            Self::Terms => "study_term",
            Self::Requests => "series_request",
            Self::Originals => "original_instance",
        }
    }

    /// Whether rows belong to instances, and are named by their watermark.
    pub fn is_of_instances(self) -> bool {
        !matches!(self, Self::Packs | Self::Terms | Self::Requests)
    }

    fn statement(self) -> &'static str {
        match self {
            Self::Metadata => OF_METADATA,
            Self::Packs => OF_PACKS,
            Self::Frames => OF_FRAMES,
            Self::TagValues => OF_VALUES,
            Self::TagErrors => OF_ERRORS,
            Self::Terms => OF_TERMS,
            Self::Requests => OF_REQUESTS,
            Self::Originals => OF_ORIGINALS,
        }
    }
}

impl PartitionTx {
    /// A page of the series above a key, ascending.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn verify_series(
        &mut self,
        after: i64,
        limit: i64,
    ) -> Result<Vec<VerifySeries>, IndexError> {
        let (query, conn) = self.statement(SERIES);
        let rows = query.bind(after).bind(limit).fetch_all(conn).await?;
        let mut read = Vec::with_capacity(rows.len());
        for row in &rows {
            read.push(VerifySeries {
                key: row.try_get(0)?,
                series: row.try_get(1)?,
                study: row.try_get(2)?,
                instances: row.try_get(3)?,
                told: None,
                has_modality_term: row.try_get(4)?,
            });
        }
        // Search finds no series without a study.
        let keys: Vec<RowKey> = read
            .iter()
            .filter(|one| one.study.is_some())
            .map(|one| self.row_key(one.key, 0))
            .collect();
        let include = Include { series_facts: true, ..Include::default() };
        let told = |row: super::SearchRow| (row.key.key, row.series_instances);
        let told = self.scoped().search_rows_as(Level::Series, &keys, include, &[], told).await?;
        for (key, count) in told {
            if let Ok(at) = read.binary_search_by_key(&key, |one| one.key) {
                read[at].told = count;
            }
        }
        Ok(read)
    }

    /// A page of the studies above a key, ascending.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn verify_studies(
        &mut self,
        after: i64,
        limit: i64,
    ) -> Result<Vec<VerifyStudy>, IndexError> {
        let (query, conn) = self.statement(STUDIES);
        let rows = query.bind(after).bind(limit).fetch_all(conn).await?;
        let (mut read, mut keys) = (Vec::with_capacity(rows.len()), Vec::new());
        for row in &rows {
            let key = row.try_get(0)?;
            keys.push(self.row_key(key, row.try_get(1)?));
            read.push(VerifyStudy {
                key,
                study: row.try_get(2)?,
                counts: (row.try_get(3)?, row.try_get(4)?),
                told: None,
                terms_astray: row.try_get(5)?,
            });
        }
        let include = Include { study_facts: true, ..Include::default() };
        let told = |row: super::SearchRow| (row.key.key, row.study_series.zip(row.study_instances));
        let told = self.scoped().search_rows_as(Level::Study, &keys, include, &[], told).await?;
        for (key, counts) in told {
            if let Ok(at) = read.binary_search_by_key(&key, |one: &VerifyStudy| one.key) {
                read[at].told = counts;
            }
        }
        Ok(read)
    }

    /// The keys of the next `limit` rows above a key, and of each whether what it belongs to is
    /// there. One key may come several times. What belongs to a deleted instance may stay as long as
    /// its tombstone.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn verify_belonging(
        &mut self,
        which: Belonging,
        after: i64,
        limit: i64,
    ) -> Result<Vec<(i64, bool)>, IndexError> {
        let (query, conn) = self.statement(which.statement());
        let rows = query.bind(after).bind(limit).fetch_all(conn).await?;
        let read = |row: &PgRow| Ok((row.try_get(0)?, row.try_get(1)?));
        rows.iter().map(read).collect()
    }

    fn row_key(&self, key: i64, place: i64) -> RowKey {
        RowKey { partition: self.partition().clone(), key, place }
    }
}
