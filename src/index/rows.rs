//! What Search answers about the rows of one page.

use sqlx::{Postgres, QueryBuilder, Row, postgres::PgRow};

use super::{IndexError, ScopedTx, located::uid, registry};
use crate::{
    dicom::{Uid, attributes::Level},
    tenancy::PartitionId,
};

/// A row that a search found. Of use only with [`ScopedTx::search_rows`] at the same level.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RowKey {
    pub(super) partition: PartitionId,
    pub(super) key: i64,
}

impl RowKey {
    /// The partition that holds the row.
    pub fn partition(&self) -> &PartitionId {
        &self.partition
    }
}

/// What is wanted about each row, besides its UIDs and the attributes of its level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Include {
    /// The attributes of the study.
    pub study: bool,
    /// The attributes of the series.
    pub series: bool,
    /// Modalities of the study, and how many series and instances it has.
    pub study_facts: bool,
    /// How many instances the series has (level series and below).
    pub series_facts: bool,
    /// SOP classes in the study.
    pub sop_classes: bool,
    /// Transfer syntaxes of the stored instances of the row.
    pub transfer_syntaxes: bool,
    /// The metadata of the instance (level instance): DICOM JSON as one zstd frame.
    pub metadata: bool,
}

/// One row. What was not asked for, or does not exist at the level, is `None` or empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchRow {
    /// The partition that holds the row.
    pub partition: PartitionId,
    /// Study Instance UID.
    pub study: Uid,
    /// Series Instance UID (level series and below).
    pub series: Option<Uid>,
    /// SOP Instance UID (level instance).
    pub instance: Option<Uid>,
    /// DICOM JSON objects by level: the row's own, and those asked for.
    pub attributes: [Option<String>; 3],
    /// Modalities in the study, ascending, each once.
    pub modalities: Vec<String>,
    /// Number of Study Related Series.
    pub study_series: Option<i64>,
    /// Number of Study Related Instances.
    pub study_instances: Option<i64>,
    /// Number of Series Related Instances.
    pub series_instances: Option<i64>,
    /// SOP Classes in Study, ascending.
    pub sop_classes: Vec<String>,
    /// Transfer Syntax UIDs, ascending.
    pub transfer_syntaxes: Vec<String>,
    /// Metadata.
    pub metadata: Option<Vec<u8>>,
}

/// The page with the keys of its rows and their parents, in order.
fn page(level: Level) -> &'static str {
    match level {
        Level::Study => {
            "SELECT k.n, s.partition_id, s.study_key, NULL::bigint AS series_key,
                NULL::bigint AS watermark
            FROM k JOIN study s ON s.partition_id = k.partition_id AND s.study_key = k.key
            WHERE s.partition_id"
        }
        Level::Series => {
            "SELECT k.n, e.partition_id, e.study_key, e.series_key, NULL::bigint AS watermark
            FROM k JOIN series e ON e.partition_id = k.partition_id AND e.series_key = k.key
            WHERE e.partition_id"
        }
        Level::Instance => {
            "SELECT k.n, i.partition_id, i.study_key, i.series_key, i.watermark
            FROM k JOIN instance i ON i.partition_id = k.partition_id AND i.watermark = k.key
            WHERE i.partition_id"
        }
    }
}

/// Aggregates over the studies of the page, each study once however many rows it has there.
const STUDY_FACTS: &str = ", study_facts AS MATERIALIZED (
    SELECT d.partition_id, d.study_key, e.series, e.modalities, i.instances
    FROM (SELECT DISTINCT partition_id, study_key FROM page) d,
        LATERAL (SELECT count(*) AS series,
                array_agg(DISTINCT modality) FILTER (WHERE modality IS NOT NULL) AS modalities
            FROM series
            WHERE series.partition_id = d.partition_id AND series.study_key = d.study_key) e,
        LATERAL (SELECT count(*) AS instances FROM instance
            WHERE instance.partition_id = d.partition_id
                AND instance.study_key = d.study_key) i)";

const SERIES_FACTS: &str = ", series_facts AS MATERIALIZED (
    SELECT d.partition_id, d.series_key, i.instances
    FROM (SELECT DISTINCT partition_id, series_key FROM page) d,
        LATERAL (SELECT count(*) AS instances FROM instance
            WHERE instance.partition_id = d.partition_id
                AND instance.series_key = d.series_key) i)";

const SOP_CLASSES: &str = ", sop_classes AS MATERIALIZED (
    SELECT d.partition_id, d.study_key, i.uids
    FROM (SELECT DISTINCT partition_id, study_key FROM page) d,
        LATERAL (SELECT array_agg(DISTINCT sop_class_uid) AS uids FROM instance
            WHERE instance.partition_id = d.partition_id
                AND instance.study_key = d.study_key) i)";

/// Transfer syntaxes of what belongs to a row of the page.
fn transfer_syntaxes(level: Level) -> &'static str {
    match level {
        Level::Study => {
            "ARRAY(SELECT DISTINCT t.transfer_syntax_uid FROM instance t
                WHERE t.partition_id = p.partition_id AND t.study_key = p.study_key ORDER BY 1)"
        }
        Level::Series => {
            "ARRAY(SELECT DISTINCT t.transfer_syntax_uid FROM instance t
                WHERE t.partition_id = p.partition_id AND t.series_key = p.series_key ORDER BY 1)"
        }
        Level::Instance => "ARRAY[i.transfer_syntax_uid]",
    }
}

impl ScopedTx {
    /// What is answered about the rows of a page, in the order of `keys`. Rows that were deleted
    /// since they were found are left out.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn search_rows(
        &mut self,
        level: Level,
        keys: &[RowKey],
        include: Include,
    ) -> Result<Vec<SearchRow>, IndexError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let scope = self.scope().clone();
        let mut sql = statement(level, include, scope.partitions(), keys);
        let rows = sql.build().persistent(false).fetch_all(self.conn()).await?;
        rows.iter().map(|row| read(row, level)).collect()
    }
}

/// The columns always come in the same places; what is not wanted is NULL.
fn statement(
    level: Level,
    include: Include,
    scope: &[PartitionId],
    keys: &[RowKey],
) -> QueryBuilder<Postgres> {
    let below_study = level > Level::Study;
    let below_series = level > Level::Series;
    let partitions: Vec<&str> = keys.iter().map(|key| key.partition.as_str()).collect();
    let numbers: Vec<i64> = keys.iter().map(|key| key.key).collect();
    let mut sql = QueryBuilder::new("-- search_rows\nWITH k AS (SELECT * FROM unnest(");
    sql.push_bind(partitions).push("::text[], ").push_bind(numbers);
    sql.push("::bigint[]) WITH ORDINALITY AS k(partition_id, key, n)), page AS MATERIALIZED (");
    sql.push(page(level)).push(" = ");
    match scope {
        [only] => sql.push_bind(only.as_str().to_owned()),
        several => {
            let several: Vec<&str> = several.iter().map(PartitionId::as_str).collect();
            sql.push("ANY(").push_bind(several).push("::text[])")
        }
    };
    sql.push(")");
    let series_facts = include.series_facts && below_study;
    for (wanted, text) in [
        (include.study_facts, STUDY_FACTS),
        (series_facts, SERIES_FACTS),
        (include.sop_classes, SOP_CLASSES),
    ] {
        sql.push(if wanted { text } else { "" });
    }
    let own = |wanted: bool, text: &'static str| if wanted { text } else { "NULL" };
    let columns = [
        "p.partition_id",
        "s.study_instance_uid",
        own(below_study, "e.series_instance_uid"),
        own(below_series, "i.sop_instance_uid"),
        own(include.study || !below_study, "s.attributes"),
        own(below_study && (include.series || !below_series), "e.attributes"),
        own(below_series, "i.attributes"),
        own(include.study_facts, "sf.modalities"),
        own(include.study_facts, "sf.series"),
        own(include.study_facts, "sf.instances"),
        own(series_facts, "ef.instances"),
        own(include.sop_classes, "sc.uids"),
        own(include.transfer_syntaxes, transfer_syntaxes(level)),
        own(include.metadata && below_series, "m.metadata"),
    ];
    // A bare NULL is text; the readers ask for what it stands for.
    let types = [
        "text", "text", "text", "text", "text", "text", "text", "text[]", "bigint", "bigint",
        "bigint", "text[]", "text[]", "bytea",
    ];
    for (n, (column, of_type)) in columns.into_iter().zip(types).enumerate() {
        sql.push(if n == 0 { " SELECT " } else { ", " });
        sql.push("(").push(column).push(")::").push(of_type);
    }
    sql.push(" FROM page p");
    for (wanted, join) in [
        (true, " JOIN study s USING (partition_id, study_key)"),
        (
            below_study,
            " JOIN series e ON e.partition_id = p.partition_id AND e.series_key = p.series_key",
        ),
        (
            below_series,
            " JOIN instance i ON i.partition_id = p.partition_id AND i.watermark = p.watermark",
        ),
        (
            include.study_facts,
            " JOIN study_facts sf ON sf.partition_id = p.partition_id \
              AND sf.study_key = p.study_key",
        ),
        (
            series_facts,
            " JOIN series_facts ef ON ef.partition_id = p.partition_id \
              AND ef.series_key = p.series_key",
        ),
        (
            include.sop_classes,
            " JOIN sop_classes sc ON sc.partition_id = p.partition_id \
              AND sc.study_key = p.study_key",
        ),
        (
            include.metadata && below_series,
            " JOIN instance_metadata m ON m.partition_id = p.partition_id \
              AND m.watermark = p.watermark",
        ),
    ] {
        sql.push(if wanted { join } else { "" });
    }
    sql.push(" ORDER BY p.n");
    sql
}

fn read(row: &PgRow, level: Level) -> Result<SearchRow, IndexError> {
    let list = |at: usize| -> Result<Vec<String>, IndexError> {
        Ok(row.try_get::<Option<Vec<String>>, _>(at)?.unwrap_or_default())
    };
    let series = if level > Level::Study {
        Some(uid(row, 2, "series", "series_instance_uid")?)
    } else {
        None
    };
    let instance = if level > Level::Series {
        Some(uid(row, 3, "instance", "sop_instance_uid")?)
    } else {
        None
    };
    Ok(SearchRow {
        partition: registry::partition(row, 0)?,
        study: uid(row, 1, "study", "study_instance_uid")?,
        series,
        instance,
        attributes: [row.try_get(4)?, row.try_get(5)?, row.try_get(6)?],
        modalities: list(7)?,
        study_series: row.try_get(8)?,
        study_instances: row.try_get(9)?,
        series_instances: row.try_get(10)?,
        sop_classes: list(11)?,
        transfer_syntaxes: list(12)?,
        metadata: row.try_get(13)?,
    })
}
