//! What Search answers about the rows of one page.

use sqlx::{Row, postgres::PgRow};

use super::{
    IndexError, ScopedTx, SearchPlan,
    candidates::{Candidates, Via},
    db::Regime,
    filter::{Of, Sql},
    keys::{NARROWED, compare, is_hopeless, reach},
    located::uid,
    registry,
};
use crate::{
    dicom::{Uid, attributes::Level},
    tenancy::PartitionId,
};

/// A row that a search found. Of use only with [`ScopedTx::search_rows`] at the same level, and as
/// where a search at that level goes on ([`SearchPlan::after`](super::SearchPlan::after)).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RowKey {
    pub(super) partition: PartitionId,
    pub(super) key: i64,
    /// Of a study: where it stands in the order of results.
    pub(super) place: i64,
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
    /// What it was found by.
    pub key: RowKey,
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
    /// Attributes of extended query tags.
    pub tags: Vec<TagValue>,
}

/// An attribute as an extended query tag holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagValue {
    /// The tag's id.
    pub tag: i64,
    /// The attribute's key in the data set that it comes from.
    pub key: String,
    /// Its DICOM JSON.
    pub json: String,
}

/// Most rows that are found and read by one statement.
const FEW: i64 = 25;

/// Where the rows of a page come from.
#[derive(Clone, Copy)]
enum Source<'a> {
    /// They were found before.
    Keys {
        keys: &'a [&'a RowKey],
        /// Whether the scope is narrowed to the partition of each row, one after the other.
        each: bool,
    },
    /// The statement finds them, at most one more than [`FEW`], in one partition.
    Found(&'a Candidates<'a>, Via, &'a SearchPlan, &'a PartitionId),
}

/// Most partitions that the policy may name while rows of a page are looked up. It names those of
/// the page; where they are more, it names one after the other: Postgres (before 17) tries each of
/// them in each access to an index.
const MAX_NAMED: usize = 8;

/// The keys of a row and of its parents, of the tables by level; `scope.id` is the partition. Of a
/// study there is nothing to look up.
const PAGE: [&str; 3] = [
    "(SELECT scope.id AS partition_id, n.key AS study_key, NULL::bigint AS series_key,
        NULL::bigint AS watermark) x",
    "(SELECT partition_id, study_key, series_key, NULL::bigint AS watermark
        FROM series WHERE partition_id = scope.id
            AND series_key >= n.key AND series_key <= n.key ORDER BY series_key) x",
    "(SELECT partition_id, study_key, series_key, watermark
        FROM instance WHERE partition_id = scope.id
            AND watermark >= n.key AND watermark <= n.key ORDER BY watermark) x",
];

/// Aggregates over the study of `p`. Modalities come as often as there are series of them: telling
/// them apart there costs a sort for each study.
const STUDY_FACTS: &str = "(SELECT e.series, e.modalities, i.instances
    FROM (SELECT count(*) AS series,
            array_agg(modality) FILTER (WHERE modality IS NOT NULL) AS modalities
        FROM (SELECT modality FROM series WHERE partition_id = scope.id
                AND study_key >= p.study_key AND study_key <= p.study_key
            ORDER BY study_key, series_instance_uid) x) e
    CROSS JOIN LATERAL (SELECT count(*) AS instances
        FROM (SELECT FROM instance WHERE partition_id = scope.id
                AND study_key >= p.study_key AND study_key <= p.study_key
            ORDER BY study_key, watermark) x) i)";

/// Aggregates over the series of `p`.
const SERIES_FACTS: &str = "(SELECT count(*) AS instances
    FROM (SELECT FROM instance WHERE partition_id = scope.id
            AND series_key >= p.series_key AND series_key <= p.series_key
        ORDER BY series_key, watermark) x)";

/// SOP classes in the study of `p`.
const SOP_CLASSES: &str = "(SELECT array_agg(DISTINCT sop_class_uid) AS uids
    FROM (SELECT sop_class_uid FROM instance WHERE partition_id = scope.id
            AND study_key >= p.study_key AND study_key <= p.study_key
        ORDER BY study_key, watermark) x)";

/// What is said of each row of the page, by the table that says it.
const STUDY: &str = " CROSS JOIN LATERAL (SELECT * FROM study WHERE partition_id = scope.id
    AND study_key >= p.study_key AND study_key <= p.study_key ORDER BY study_key) s";
const SERIES: &str = " CROSS JOIN LATERAL (SELECT * FROM series WHERE partition_id = scope.id
    AND series_key >= p.series_key AND series_key <= p.series_key ORDER BY series_key) e";
const INSTANCE: &str = " CROSS JOIN LATERAL (SELECT * FROM instance
    WHERE partition_id = scope.id
    AND watermark >= p.watermark AND watermark <= p.watermark ORDER BY watermark) i";
const METADATA: &str = " CROSS JOIN LATERAL (SELECT * FROM instance_metadata
    WHERE partition_id = scope.id
    AND watermark >= p.watermark AND watermark <= p.watermark ORDER BY watermark) m";

/// Transfer syntaxes of what belongs to a row of the page.
fn transfer_syntaxes(level: Level) -> &'static str {
    match level {
        Level::Study => {
            "(SELECT array_agg(DISTINCT transfer_syntax_uid)
                FROM (SELECT transfer_syntax_uid FROM instance
                    WHERE partition_id = scope.id
                        AND study_key >= p.study_key AND study_key <= p.study_key
                    ORDER BY study_key, watermark) x)"
        }
        Level::Series => {
            "(SELECT array_agg(DISTINCT transfer_syntax_uid)
                FROM (SELECT transfer_syntax_uid FROM instance
                    WHERE partition_id = scope.id
                        AND series_key >= p.series_key AND series_key <= p.series_key
                    ORDER BY series_key, watermark) x)"
        }
        Level::Instance => "ARRAY[i.transfer_syntax_uid]",
    }
}

impl ScopedTx {
    /// What is answered about the rows of a page, in the order of `keys`; `tags` are the extended
    /// query tags, of the level of the rows and above, whose attributes are wanted. Rows that were deleted
    /// since they were found are left out.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn search_rows(
        &mut self,
        level: Level,
        keys: &[RowKey],
        include: Include,
        tags: &[(i64, Level)],
    ) -> Result<Vec<SearchRow>, IndexError> {
        self.search_rows_as(level, keys, include, tags, |row| row).await
    }

    /// As [`ScopedTx::search_rows`]; each row is turned into something else as it comes, while
    /// Postgres reads the next.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn search_rows_as<T: Send>(
        &mut self,
        level: Level,
        keys: &[RowKey],
        include: Include,
        tags: &[(i64, Level)],
        turn: impl Fn(SearchRow) -> T + Send + Sync,
    ) -> Result<Vec<T>, IndexError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut partitions: Vec<PartitionId> =
            keys.iter().map(|key| key.partition.clone()).collect();
        partitions.sort_unstable();
        partitions.dedup();
        // Narrowed, not widened: keys of partitions outside the scope find nothing.
        let within = self.scope().partitions();
        partitions.retain(|id| within.binary_search(id).is_ok());
        let keys: Vec<&RowKey> =
            keys.iter().filter(|key| partitions.binary_search(&key.partition).is_ok()).collect();
        self.settle(Regime::Lookup, &partitions).await?;
        let each = partitions.len() > MAX_NAMED && !self.citus();
        if each {
            self.unsettle();
        }
        let from = Source::Keys { keys: &keys, each };
        let make = |opening| statement(opening, level, include, from, tags);
        let mut turned: Vec<(i64, T)> = Vec::with_capacity(keys.len());
        let each = |row: PgRow| {
            let place: i64 = row.try_get(14)?;
            let key = usize::try_from(place - 1).ok().and_then(|place| keys.get(place));
            let key = key.ok_or(IndexError::Inconsistent { table: "page", column: "n" })?;
            turned.push((place, turn(read(&row, level, RowKey::clone(key))?)));
            Ok(())
        };
        self.fetch_each("-- search_rows\n", &make, each).await?;
        turned.sort_by_key(|(place, _)| *place);
        Ok(turned.into_iter().map(|(_, row)| row).collect())
    }

    /// All that the plan finds, with what is answered about it, by one statement: for searches that
    /// find a few rows by nature. `None` where this is none of them, or turns out not to be.
    ///
    /// # Errors
    /// As [`ScopedTx::search_page`].
    pub async fn search_few<T: Send>(
        &mut self,
        plan: &SearchPlan,
        include: Include,
        tags: &[(i64, Level)],
        turn: impl Fn(SearchRow) -> T + Send + Sync,
    ) -> Result<Option<Vec<T>>, IndexError> {
        let scope = self.scope().clone();
        let Some(partition) = scope.only().filter(|_| !self.citus()) else { return Ok(None) };
        if plan.offset > 0 || plan.after.is_some() || plan.limit <= 0 || is_hopeless(plan) {
            return Ok(None);
        }
        let candidates = Candidates::of(plan)?;
        let Some(via) = candidates.few() else { return Ok(None) };
        self.settle(Regime::Lookup, std::slice::from_ref(partition)).await?;
        let from = Source::Found(&candidates, via, plan, partition);
        let make = |opening| statement(opening, plan.level, include, from, tags);
        let mut turned: Vec<(RowKey, T)> = Vec::new();
        let each = |row: PgRow| {
            let (key, place) = (row.try_get(16)?, row.try_get(17)?);
            let key = RowKey { partition: partition.clone(), key, place };
            turned.push((key.clone(), turn(read(&row, plan.level, key)?)));
            Ok(())
        };
        self.fetch_each("-- search_few\n", &make, each).await?;
        if turned.len() as i64 > plan.limit.min(FEW) {
            return Ok(None);
        }
        turned.sort_unstable_by(|(one, _), (other, _)| compare(one, other, plan.level));
        Ok(Some(turned.into_iter().map(|(_, row)| row).collect()))
    }
}

/// The columns always come in the same places; what is not wanted is NULL.
fn statement(
    opening: &'static str,
    level: Level,
    include: Include,
    from: Source<'_>,
    tags: &[(i64, Level)],
) -> Result<Sql, IndexError> {
    let below_study = level > Level::Study;
    let below_series = level > Level::Series;
    let each = matches!(from, Source::Keys { each: true, .. });
    let mut sql = Sql::new(opening);
    match from {
        Source::Keys { keys, .. } => {
            let partitions: Vec<&str> = keys.iter().map(|key| key.partition.as_str()).collect();
            let numbers: Vec<i64> = keys.iter().map(|key| key.key).collect();
            sql.push("WITH page AS MATERIALIZED (SELECT n.n, x.* FROM unnest(");
            sql.push_bind(partitions).push("::text[], ").push_bind(numbers);
            sql.push("::bigint[]) WITH ORDINALITY AS n(id, key, n)");
        }
        Source::Found(candidates, via, plan, partition) => {
            let of = Of::One(partition.as_str());
            sql.push("WITH page AS (SELECT 0::bigint AS n, n.key, n.place, x.* FROM (");
            candidates.push(&mut sql, via, of, reach(plan))?.push_order(&mut sql);
            sql.push(" LIMIT ").push_bind(plan.limit.min(FEW) + 1).push(") n");
            sql.push(" CROSS JOIN LATERAL (SELECT ").push_bind(partition.as_str());
            sql.push("::text AS id) scope");
        }
    }
    let is_narrowed = each && below_study;
    sql.push(match from {
        Source::Found(..) => "",
        Source::Keys { .. } if is_narrowed => NARROWED,
        Source::Keys { .. } => " CROSS JOIN LATERAL (SELECT n.id) scope",
    });
    sql.push(" CROSS JOIN LATERAL ").push(PAGE[level as usize]).push(")");
    let series_facts = include.series_facts && below_study;
    let aggregates = [
        (include.study_facts, "sf", STUDY_FACTS, "study_key", below_study),
        (series_facts, "ef", SERIES_FACTS, "series_key", below_series),
        (include.sop_classes, "sc", SOP_CLASSES, "study_key", below_study),
    ];
    // Those of a parent that several rows have are made once; where the scope is narrowed row by row
    // they cannot stand apart, and rows of so many partitions have few parents in common.
    let apart = |shared: bool| shared && !each;
    for (wanted, name, text, key, shared) in aggregates {
        if wanted && apart(shared) {
            sql.push(", ").push(name).push("_of AS MATERIALIZED (SELECT p.partition_id, p.");
            sql.push(key).push(", ").push(name).push(".* FROM (SELECT DISTINCT partition_id, ");
            sql.push(key)
                .push(" FROM page) p CROSS JOIN LATERAL (SELECT p.partition_id AS id) scope");
            sql.push(" CROSS JOIN LATERAL ").push(text).push(" ").push(name).push(")");
        }
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
    sql.push(", p.n, ");
    push_tags(&mut sql, tags);
    sql.push(if matches!(from, Source::Found(..)) { ", p.key, p.place" } else { "" });
    sql.push(" FROM page p CROSS JOIN LATERAL (SELECT ");
    sql.push(if each {
        "set_config('collimator.scope', p.partition_id, true) AS id OFFSET 0) scope"
    } else {
        "p.partition_id AS id) scope"
    });
    for (wanted, join) in [
        (true, STUDY),
        (below_study, SERIES),
        (below_series, INSTANCE),
        (include.metadata && below_series, METADATA),
    ] {
        sql.push(if wanted { join } else { "" });
    }
    for (wanted, name, text, key, shared) in aggregates {
        if wanted && apart(shared) {
            sql.push(" JOIN ").push(name).push("_of ").push(name).push(" ON ").push(name);
            sql.push(".partition_id = p.partition_id AND ").push(name).push(".").push(key);
            sql.push(" = p.").push(key);
        } else if wanted {
            sql.push(" CROSS JOIN LATERAL ").push(text).push(" ").push(name);
        }
    }
    Ok(sql)
}

/// Of each tag what the first instance with a value says: id, key and JSON.
fn push_tags(sql: &mut Sql, tags: &[(i64, Level)]) {
    if tags.is_empty() {
        sql.push("NULL::text[]");
        return;
    }
    let (ids, levels): (Vec<i64>, Vec<i16>) =
        tags.iter().map(|(id, level)| (*id, *level as i16)).unzip();
    sql.push("(SELECT array_agg(t.id::text || ':' || v.attribute_key || v.attribute) FROM unnest(");
    sql.push_bind(ids).push("::bigint[], ").push_bind(levels);
    sql.push(
        "::smallint[]) AS t(id, level) CROSS JOIN LATERAL (
            SELECT attribute_key, attribute FROM query_tag_value
            WHERE partition_id = scope.id AND tag_id = t.id
                AND owner_key = CASE t.level WHEN 0 THEN p.study_key WHEN 1 THEN p.series_key
                    ELSE p.watermark END
            ORDER BY watermark, place LIMIT 1) v
        WHERE v.attribute IS NOT NULL)",
    );
}

/// An attribute as [`push_tags`] writes it.
fn tag_value(text: &str) -> Option<TagValue> {
    let (id, rest) = text.split_once(':')?;
    let (key, json) = rest.split_at_checked(8)?;
    Some(TagValue { tag: id.parse().ok()?, key: key.to_owned(), json: json.to_owned() })
}

fn read(row: &PgRow, level: Level, key: RowKey) -> Result<SearchRow, IndexError> {
    let list = |at: usize| -> Result<Vec<String>, IndexError> {
        Ok(row.try_get::<Option<Vec<String>>, _>(at)?.unwrap_or_default())
    };
    let mut modalities = list(7)?;
    modalities.sort_unstable();
    modalities.dedup();
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
        key,
        partition: registry::partition(row, 0)?,
        study: uid(row, 1, "study", "study_instance_uid")?,
        series,
        instance,
        attributes: [row.try_get(4)?, row.try_get(5)?, row.try_get(6)?],
        modalities,
        study_series: row.try_get(8)?,
        study_instances: row.try_get(9)?,
        series_instances: row.try_get(10)?,
        sop_classes: list(11)?,
        transfer_syntaxes: list(12)?,
        metadata: row.try_get(13)?,
        tags: list(15)?.iter().filter_map(|text| tag_value(text)).collect(),
    })
}
