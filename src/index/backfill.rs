//! Rows that were stored by an earlier version, given what has come since where SQL alone cannot tell.
//!
//! Terms of studies, offsets from UTC, requests of series (step 3); terms of first components and of
//! pairs of words (step 4). Runs as the owner, under the lock of migrations, before any server of the
//! new version does: one of an earlier version that still runs stores rows that nobody fills in, so
//! all of them are stopped first. Row-level security is forced on the owner too, so that it goes
//! partition by partition; by so many studies a transaction, so that it can be broken off and is
//! begun anew; adding what is there already changes nothing.

use std::collections::BTreeSet;

use sqlx::{AssertSqlSafe, Connection, PgConnection, Row, postgres::PgRow};

use super::{
    IndexError, columns,
    facts::Facts,
    lookup::{self, one},
    requests, terms,
};

/// What an archive says that has all of it: a number of its own, one more whenever there is more to
/// fill in. It is not that of the last migration, which it was when `migrations/0003_search.sql` said
/// so; migrations that have landed are not edited.
const FILLED: i32 = 4;

/// Studies of one transaction.
const TOGETHER: i64 = 500;

const STUDIES: &str = concat!(
    "-- backfill_studies
    SELECT study_key, study_order, attributes, ",
    columns::study_columns!(""),
    "
    FROM study WHERE partition_id = $1 AND study_key > $2 ORDER BY study_key LIMIT $3"
);

const OFFSETS: &str = concat!(
    "-- backfill_offsets
    UPDATE study t SET timezone_offset = n.text
    FROM unnest($2::bigint[], $3::text[]) AS n(key, text) CROSS JOIN LATERAL ",
    one!("ctid AS at", "study", "study_key", "n.key"),
    " x
    WHERE t.partition_id = $1 AND t.ctid = x.at"
);

const MODALITIES: &str = concat!(
    "-- backfill_modalities
    INSERT INTO study_term (partition_id, study_key, term, study_order)
    SELECT $1, n.key, 'm:' || e.modality, n.place
    FROM unnest($2::bigint[], $3::bigint[]) AS n(key, place) CROSS JOIN LATERAL ",
    one!("modality", "series", "study_key", "n.key"),
    " e
    WHERE e.modality IS NOT NULL
    ON CONFLICT (partition_id, study_key, term) DO NOTHING"
);

const SOP_CLASSES: &str = concat!(
    "-- backfill_sop_classes
    INSERT INTO study_term (partition_id, study_key, term, study_order)
    SELECT $1, n.key, 'c:' || i.sop_class_uid, n.place
    FROM unnest($2::bigint[], $3::bigint[]) AS n(key, place) CROSS JOIN LATERAL ",
    one!("sop_class_uid", "instance", "study_key", "n.key", ", watermark"),
    " i
    ON CONFLICT (partition_id, study_key, term) DO NOTHING"
);

const SERIES: &str = concat!(
    "-- backfill_series
    SELECT e.series_key, e.study_key, e.attributes
    FROM unnest($2::bigint[]) AS n(key) CROSS JOIN LATERAL ",
    one!("series_key, study_key, attributes", "series", "study_key", "n.key"),
    " e
    WHERE position($3 IN e.attributes) > 0"
);

pub(super) const STATEMENTS: &[&str] = &[STUDIES, OFFSETS, MODALITIES, SOP_CLASSES, SERIES];

/// Fills in what is not filled in yet.
pub(super) async fn run(conn: &mut PgConnection) -> Result<(), IndexError> {
    let filled: i32 =
        sqlx::query("SELECT filled FROM archive").fetch_one(&mut *conn).await?.try_get(0)?;
    if filled >= FILLED {
        return Ok(());
    }
    let partitions = sqlx::query("SELECT partition_id FROM partition ORDER BY partition_id")
        .fetch_all(&mut *conn)
        .await?;
    for row in partitions {
        let partition: String = row.try_get(0)?;
        let mut after = i64::MIN;
        while let Some(last) = some_studies(conn, &partition, after).await? {
            after = last;
        }
    }
    sqlx::query("UPDATE archive SET filled = $1").bind(FILLED).execute(conn).await?;
    Ok(())
}

/// What one study is given.
struct Study {
    key: i64,
    place: i64,
    terms: BTreeSet<String>,
    offset: Option<String>,
}

impl Study {
    fn read(row: &PgRow) -> Result<Self, IndexError> {
        let facts = Facts::read(row, 2, columns::STUDY.len())?;
        let offset = requests::value(facts.attributes(), "00080201");
        Ok(Self {
            key: row.try_get(0)?,
            place: row.try_get(1)?,
            terms: terms::of_names(&facts),
            offset: offset.filter(|text| columns::is_offset(text)),
        })
    }
}

/// The next studies of a partition; answers the last one, if there was one.
async fn some_studies(
    conn: &mut PgConnection,
    partition: &str,
    after: i64,
) -> Result<Option<i64>, IndexError> {
    let mut tx = conn.begin().await?;
    let settings = lookup::SETTINGS.join("; ");
    sqlx::raw_sql(AssertSqlSafe(settings)).execute(&mut *tx).await?;
    sqlx::query("SELECT set_config('collimator.scope', $1, true)")
        .bind(partition)
        .execute(&mut *tx)
        .await?;
    let rows =
        sqlx::query(STUDIES).bind(partition).bind(after).bind(TOGETHER).fetch_all(&mut *tx).await?;
    let studies: Vec<Study> = rows.iter().map(Study::read).collect::<Result<_, _>>()?;
    let Some(last) = studies.last().map(|study| study.key) else { return Ok(None) };
    let keys: Vec<i64> = studies.iter().map(|study| study.key).collect();
    let places: Vec<i64> = studies.iter().map(|study| study.place).collect();

    let named =
        || studies.iter().flat_map(|study| study.terms.iter().map(move |term| (study, term)));
    sqlx::query(terms::CREATE)
        .bind(partition)
        .bind(Vec::from_iter(named().map(|(study, _)| study.key)))
        .bind(Vec::from_iter(named().map(|(_, term)| term.as_str())))
        .bind(Vec::from_iter(named().map(|(study, _)| study.place)))
        .execute(&mut *tx)
        .await?;
    for sql in [MODALITIES, SOP_CLASSES] {
        sqlx::query(sql).bind(partition).bind(&keys).bind(&places).execute(&mut *tx).await?;
    }
    let zoned = || studies.iter().filter_map(|study| Some((study.key, study.offset.as_deref()?)));
    sqlx::query(OFFSETS)
        .bind(partition)
        .bind(Vec::from_iter(zoned().map(|(key, _)| key)))
        .bind(Vec::from_iter(zoned().map(|(_, offset)| offset)))
        .execute(&mut *tx)
        .await?;
    let requested = sqlx::query(SERIES)
        .bind(partition)
        .bind(&keys)
        .bind(requests::SEQUENCE)
        .fetch_all(&mut *tx)
        .await?;
    let mut items = requests::Rows::default();
    for row in requested {
        items.add(row.try_get(0)?, row.try_get(1)?, requests::items(row.try_get(2)?));
    }
    let create = sqlx::query(requests::CREATE).bind(partition.to_owned());
    items.bind(create).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(Some(last))
}
