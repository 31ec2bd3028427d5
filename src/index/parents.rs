//! The study and series rows that a batch of new instances needs.
//!
//! Lock order, the same for all who write: study rows ascending by UID, then series rows ascending
//! by study and UID, then blob rows ascending by id, then instances ascending by SOP Instance UID.
//! Store holds its parents `FOR KEY SHARE` to the end, which stores share with each other and which
//! Delete (`FOR UPDATE` on the study) waits for: a parent that was found cannot vanish, and one
//! that vanished while we waited is simply made anew.
//!
//! A parent says what the first instance with a value said; later instances fill what is empty.
//! Nothing is written when there is nothing to fill, so that concurrent stores to one study do not
//! queue on its row.

use std::collections::{BTreeMap, HashMap, HashSet, btree_map::Entry};

use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use sqlx::{Row, postgres::PgRow};

use super::{
    IndexError, NewInstance, PartitionTx,
    columns::{self, series_columns, study_columns},
};
use crate::dicom::{Uid, attributes::Level};

macro_rules! study_select {
    ($name:literal, $column:literal, $list:literal, $lock:literal) => {
        concat!(
            "-- ",
            $name,
            "\nSELECT study_key, study_instance_uid, attributes, ",
            study_columns!(""),
            " FROM study WHERE partition_id = $1 AND ",
            $column,
            " = ANY($2::",
            $list,
            ")
             ORDER BY study_instance_uid ",
            $lock
        )
    };
}

const STUDY_SHARE: &str =
    study_select!("study_share", "study_instance_uid", "text[]", "FOR KEY SHARE");
const STUDY_LOCK: &str = study_select!("study_lock", "study_key", "bigint[]", "FOR NO KEY UPDATE");

const STUDY_CREATE: &str = concat!(
    "-- study_create
    INSERT INTO study (partition_id, study_instance_uid, attributes, ",
    study_columns!(""),
    ")
    SELECT $1, * FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
        $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[],
        $14::text[], $15::text[], $16::text[], $17::text[], $18::text[])
    ON CONFLICT (partition_id, study_instance_uid) DO NOTHING
    RETURNING study_key, study_instance_uid"
);

const STUDY_FILL: &str = concat!(
    "-- study_fill
    UPDATE study SET (attributes, ",
    study_columns!(""),
    ") =
        (n.attributes, ",
    study_columns!("n."),
    ")
    FROM unnest($2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
        $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[],
        $15::text[], $16::text[], $17::text[], $18::text[])
        AS n(study_key, attributes, ",
    study_columns!(""),
    ")
    WHERE study.partition_id = $1 AND study.study_key = n.study_key"
);

const SERIES_SHARE: &str = concat!(
    "-- series_share
    SELECT series_key, series_instance_uid, attributes, ",
    series_columns!(""),
    ", study_key
    FROM series
    WHERE partition_id = $1
        AND (study_key, series_instance_uid) IN (SELECT * FROM unnest($2::bigint[], $3::text[]))
    ORDER BY study_key, series_instance_uid FOR KEY SHARE OF series"
);

const SERIES_LOCK: &str = concat!(
    "-- series_lock
    SELECT series_key, series_instance_uid, attributes, ",
    series_columns!(""),
    ", study_key
    FROM series
    WHERE partition_id = $1 AND series_key = ANY($2::bigint[])
    ORDER BY study_key, series_instance_uid FOR NO KEY UPDATE"
);

const SERIES_CREATE: &str = concat!(
    "-- series_create
    INSERT INTO series (partition_id, study_key, series_instance_uid, attributes, ",
    series_columns!(""),
    ")
    SELECT $1, * FROM unnest($2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[],
        $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[])
    ON CONFLICT (partition_id, study_key, series_instance_uid) DO NOTHING
    RETURNING series_key, study_key, series_instance_uid"
);

const SERIES_FILL: &str = concat!(
    "-- series_fill
    UPDATE series SET (attributes, ",
    series_columns!(""),
    ") =
        (n.attributes, ",
    series_columns!("n."),
    ")
    FROM unnest($2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
        $8::text[], $9::text[], $10::text[], $11::text[])
        AS n(series_key, attributes, ",
    series_columns!(""),
    ")
    WHERE series.partition_id = $1 AND series.series_key = n.series_key"
);

/// Of rows just made, takes back those that got no instance.
const SERIES_TAKE_BACK: &str = "-- series_take_back
    DELETE FROM series WHERE partition_id = $1 AND series_key = ANY($2::bigint[])
        AND NOT EXISTS (SELECT FROM instance i
            WHERE i.partition_id = $1 AND i.series_key = series.series_key)";

const STUDY_TAKE_BACK: &str = "-- study_take_back
    DELETE FROM study WHERE partition_id = $1 AND study_key = ANY($2::bigint[])
        AND NOT EXISTS (SELECT FROM series e
            WHERE e.partition_id = $1 AND e.study_key = study.study_key)";

pub(super) const STATEMENTS: &[&str] = &[
    STUDY_SHARE,
    STUDY_LOCK,
    STUDY_CREATE,
    STUDY_FILL,
    SERIES_SHARE,
    SERIES_LOCK,
    SERIES_CREATE,
    SERIES_FILL,
    SERIES_TAKE_BACK,
    STUDY_TAKE_BACK,
];

/// How often a parent may vanish between two statements before the transaction gives up.
const ATTEMPTS: usize = 5;

/// What a parent row says: its attributes and its search columns.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Facts {
    attributes: String,
    columns: Vec<Option<String>>,
}

/// Rows that this transaction made.
#[derive(Debug, Default)]
pub(super) struct Made {
    studies: HashSet<i64>,
    series: HashSet<i64>,
}

/// Keys of the parents, by UIDs of study and series.
pub(super) type ParentKeys<'a> = HashMap<(&'a Uid, &'a Uid), (i64, i64)>;

impl Facts {
    /// What `new` says at `level`.
    fn of(new: &NewInstance<'_>, level: Level, columns: &[&str]) -> Result<Self, IndexError> {
        let attributes = std::str::from_utf8(new.indexed.attributes(level))
            .map_err(|_| IndexError::Inconsistent { table: "study", column: "attributes" })?;
        let columns = columns
            .iter()
            .map(|name| columns::value(new.indexed, name).map(std::borrow::Cow::into_owned))
            .collect();
        Ok(Self { attributes: attributes.to_owned(), columns })
    }

    /// Reads columns from number `at`: attributes, then `count` search columns.
    fn read(row: &PgRow, at: usize, count: usize) -> Result<Self, IndexError> {
        let columns =
            (at + 1..=at + count).map(|n| row.try_get(n)).collect::<Result<_, sqlx::Error>>()?;
        Ok(Self { attributes: row.try_get(at)?, columns })
    }

    /// Takes from `other` what is empty here; says whether there was anything.
    fn fill(&mut self, other: &Self) -> bool {
        let mut filled = false;
        for (mine, theirs) in self.columns.iter_mut().zip(&other.columns) {
            if mine.is_none() && theirs.is_some() {
                mine.clone_from(theirs);
                filled = true;
            }
        }
        if let Some(merged) = merge(&self.attributes, &other.attributes) {
            self.attributes = merged;
            filled = true;
        }
        filled
    }
}

/// `mine` with the values of `theirs` where it has none; `None` where that changes nothing. Both
/// are DICOM JSON objects; keys ascend. Text that is no such object adds nothing.
fn merge(mine: &str, theirs: &str) -> Option<String> {
    type Object<'a> = BTreeMap<&'a str, &'a RawValue>;
    // An attribute without a value is {"vr":"…"} (PS3.18 §F.2.5).
    fn has_value(attribute: &RawValue) -> bool {
        serde_json::from_str::<BTreeMap<&str, IgnoredAny>>(attribute.get())
            .is_ok_and(|members| members.keys().any(|name| *name != "vr"))
    }
    if mine == theirs {
        return None;
    }
    let mut merged: Object<'_> = serde_json::from_str(mine).ok()?;
    let mut changed = false;
    for (tag, attribute) in serde_json::from_str::<Object<'_>>(theirs).ok()? {
        match merged.entry(tag) {
            Entry::Vacant(place) => {
                place.insert(attribute);
                changed = true;
            }
            Entry::Occupied(mut place) if !has_value(place.get()) && has_value(attribute) => {
                place.insert(attribute);
                changed = true;
            }
            Entry::Occupied(_) => {}
        }
    }
    if changed { serde_json::to_string(&merged).ok() } else { None }
}

/// Splits facts into arrays, one for the attributes and one for each column.
fn transpose<'a>(
    facts: impl Iterator<Item = &'a Facts> + Clone,
    count: usize,
) -> (Vec<&'a str>, Vec<Vec<Option<&'a str>>>) {
    let attributes = facts.clone().map(|facts| facts.attributes.as_str()).collect();
    let columns = (0..count)
        .map(|n| {
            facts.clone().map(|facts| facts.columns.get(n).and_then(|c| c.as_deref())).collect()
        })
        .collect();
    (attributes, columns)
}

/// What some instances together say of their parents, ascending by key.
fn gather<'a, K: Ord>(
    news: &[&'a NewInstance<'_>],
    level: Level,
    columns: &[&str],
    key: impl Fn(&'a NewInstance<'_>) -> Option<K>,
) -> Result<BTreeMap<K, Facts>, IndexError> {
    let mut gathered: BTreeMap<K, (Facts, &[u8])> = BTreeMap::new();
    for &new in news {
        let Some(key) = key(new) else { continue };
        let attributes = new.indexed.attributes(level);
        match gathered.entry(key) {
            Entry::Vacant(place) => {
                place.insert((Facts::of(new, level, columns)?, attributes));
            }
            Entry::Occupied(mut place) => {
                let (facts, last) = place.get_mut();
                // Instances of one parent mostly say the same; columns are a part of attributes.
                if *last != attributes {
                    facts.fill(&Facts::of(new, level, columns)?);
                    *last = attributes;
                }
            }
        }
    }
    Ok(gathered.into_iter().map(|(key, (facts, _))| (key, facts)).collect())
}

impl PartitionTx {
    /// Finds or makes the parents of `news`, and holds them to the end of the transaction.
    pub(super) async fn parents<'a>(
        &mut self,
        news: &[&'a NewInstance<'_>],
        made: &mut Made,
    ) -> Result<ParentKeys<'a>, IndexError> {
        let said =
            gather(news, Level::Study, &columns::STUDY, |new| Some(new.indexed.study.as_str()))?;
        let studies = self.studies(&said, made).await?;
        let said = gather(news, Level::Series, &columns::SERIES, |new| {
            let study = studies.get(new.indexed.study.as_str())?;
            Some((*study, new.indexed.series.as_str()))
        })?;
        let series = self.series(&said, made).await?;
        let keys = news.iter().filter_map(|new| {
            let (study_uid, series_uid) = (&new.indexed.study, &new.indexed.series);
            let study = *studies.get(study_uid.as_str())?;
            let series = *series.get(&(study, series_uid.as_str().to_owned()))?;
            Some(((study_uid, series_uid), (study, series)))
        });
        Ok(keys.collect())
    }

    async fn studies(
        &mut self,
        said: &BTreeMap<&str, Facts>,
        made: &mut Made,
    ) -> Result<HashMap<String, i64>, IndexError> {
        let mut keys: HashMap<String, i64> = HashMap::new();
        let mut fill: Vec<i64> = Vec::new();
        for _ in 0..ATTEMPTS {
            let missing = |keys: &HashMap<String, i64>| -> Vec<(&str, &Facts)> {
                let all = said.iter().map(|(uid, facts)| (*uid, facts));
                all.filter(|(uid, _)| !keys.contains_key(*uid)).collect()
            };
            let wanted: Vec<&str> = missing(&keys).into_iter().map(|(uid, _)| uid).collect();
            if wanted.is_empty() {
                break;
            }
            let (query, conn) = self.statement(STUDY_SHARE);
            for row in query.bind(wanted).fetch_all(conn).await? {
                let (key, uid): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
                let mut found = Facts::read(&row, 2, columns::STUDY.len())?;
                if said.get(&*uid).is_some_and(|news| found.fill(news)) {
                    fill.push(key);
                }
                keys.insert(uid, key);
            }
            let create = missing(&keys);
            if create.is_empty() {
                break;
            }
            let uids: Vec<&str> = create.iter().map(|(uid, _)| *uid).collect();
            let (attributes, columns) =
                transpose(create.iter().map(|(_, facts)| *facts), columns::STUDY.len());
            let (query, conn) = self.statement(STUDY_CREATE);
            let query =
                columns.into_iter().fold(query.bind(uids).bind(attributes), |q, c| q.bind(c));
            for row in query.fetch_all(conn).await? {
                let key = row.try_get(0)?;
                made.studies.insert(key);
                keys.insert(row.try_get(1)?, key);
            }
        }
        if keys.len() < said.len() {
            return Err(IndexError::Busy);
        }
        if !fill.is_empty() {
            self.fill_studies(&fill, said).await?;
        }
        Ok(keys)
    }

    async fn fill_studies(
        &mut self,
        keys: &[i64],
        said: &BTreeMap<&str, Facts>,
    ) -> Result<(), IndexError> {
        let (query, conn) = self.statement(STUDY_LOCK);
        let mut filled: Vec<(i64, Facts)> = Vec::new();
        for row in query.bind(keys).fetch_all(conn).await? {
            // What the row says now: another store may have filled it meanwhile.
            let mut facts = Facts::read(&row, 2, columns::STUDY.len())?;
            let uid: &str = row.try_get(1)?;
            if said.get(uid).is_some_and(|news| facts.fill(news)) {
                filled.push((row.try_get(0)?, facts));
            }
        }
        self.write_facts(STUDY_FILL, &filled, columns::STUDY.len()).await
    }

    async fn series(
        &mut self,
        said: &BTreeMap<(i64, &str), Facts>,
        made: &mut Made,
    ) -> Result<HashMap<(i64, String), i64>, IndexError> {
        let mut keys: HashMap<(i64, String), i64> = HashMap::new();
        let mut fill: Vec<i64> = Vec::new();
        for _ in 0..ATTEMPTS {
            let missing = |keys: &HashMap<(i64, String), i64>| -> Vec<(i64, &str, &Facts)> {
                let all = said.iter().map(|((study, uid), facts)| (*study, *uid, facts));
                all.filter(|(study, uid, _)| !keys.contains_key(&(*study, (*uid).to_owned())))
                    .collect()
            };
            let wanted = missing(&keys);
            // A study that was just made has no series yet.
            let (studies, uids): (Vec<i64>, Vec<&str>) = wanted
                .iter()
                .filter(|(study, _, _)| !made.studies.contains(study))
                .map(|(study, uid, _)| (*study, *uid))
                .unzip();
            if !studies.is_empty() {
                let (query, conn) = self.statement(SERIES_SHARE);
                for row in query.bind(studies).bind(uids).fetch_all(conn).await? {
                    let uid: String = row.try_get(1)?;
                    let study: i64 = row.try_get(3 + columns::SERIES.len())?;
                    let key = row.try_get(0)?;
                    let mut found = Facts::read(&row, 2, columns::SERIES.len())?;
                    if said.get(&(study, &*uid)).is_some_and(|news| found.fill(news)) {
                        fill.push(key);
                    }
                    keys.insert((study, uid), key);
                }
            }
            let create = missing(&keys);
            if create.is_empty() {
                break;
            }
            let (studies, uids): (Vec<i64>, Vec<&str>) =
                create.iter().map(|(study, uid, _)| (*study, *uid)).unzip();
            let (attributes, columns) =
                transpose(create.iter().map(|(_, _, facts)| *facts), columns::SERIES.len());
            let (query, conn) = self.statement(SERIES_CREATE);
            let query = query.bind(studies).bind(uids).bind(attributes);
            let query = columns.into_iter().fold(query, |query, column| query.bind(column));
            for row in query.fetch_all(conn).await? {
                let key = row.try_get(0)?;
                made.series.insert(key);
                keys.insert((row.try_get(1)?, row.try_get(2)?), key);
            }
        }
        if keys.len() < said.len() {
            return Err(IndexError::Busy);
        }
        if !fill.is_empty() {
            self.fill_series(&fill, said).await?;
        }
        Ok(keys)
    }

    async fn fill_series(
        &mut self,
        keys: &[i64],
        said: &BTreeMap<(i64, &str), Facts>,
    ) -> Result<(), IndexError> {
        let (query, conn) = self.statement(SERIES_LOCK);
        let mut filled: Vec<(i64, Facts)> = Vec::new();
        for row in query.bind(keys).fetch_all(conn).await? {
            let mut facts = Facts::read(&row, 2, columns::SERIES.len())?;
            let study: i64 = row.try_get(3 + columns::SERIES.len())?;
            let uid: &str = row.try_get(1)?;
            if said.get(&(study, uid)).is_some_and(|news| facts.fill(news)) {
                filled.push((row.try_get(0)?, facts));
            }
        }
        self.write_facts(SERIES_FILL, &filled, columns::SERIES.len()).await
    }

    async fn write_facts(
        &mut self,
        sql: &'static str,
        filled: &[(i64, Facts)],
        count: usize,
    ) -> Result<(), IndexError> {
        if filled.is_empty() {
            return Ok(());
        }
        let keys: Vec<i64> = filled.iter().map(|(key, _)| *key).collect();
        let (attributes, columns) = transpose(filled.iter().map(|(_, facts)| facts), count);
        let (query, conn) = self.statement(sql);
        let query = query.bind(keys).bind(attributes);
        let query = columns.into_iter().fold(query, |query, column| query.bind(column));
        query.execute(conn).await?;
        Ok(())
    }

    /// Takes back the rows of `made` that got no instance.
    pub(super) async fn take_back_parents(&mut self, made: &Made) -> Result<(), IndexError> {
        if !made.series.is_empty() {
            let (query, conn) = self.statement(SERIES_TAKE_BACK);
            let keys: Vec<i64> = made.series.iter().copied().collect();
            query.bind(keys).execute(conn).await?;
        }
        if !made.studies.is_empty() {
            let (query, conn) = self.statement(STUDY_TAKE_BACK);
            let keys: Vec<i64> = made.studies.iter().copied().collect();
            query.bind(keys).execute(conn).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_fill_what_is_empty_and_change_nothing_else() {
        let check = |mine, theirs, expected: Option<&str>| {
            assert_eq!(merge(mine, theirs).as_deref(), expected, "{mine} + {theirs}");
        };
        let named = r#"{"00100010":{"vr":"PN","Value":[{"Alphabetic":"A"}]}}"#;
        let other = r#"{"00100010":{"vr":"PN","Value":[{"Alphabetic":"B"}]}}"#;
        let empty = r#"{"00100010":{"vr":"PN"}}"#;
        check(named, named, None);
        check(named, other, None);
        check(named, empty, None);
        check(empty, named, Some(named));
        check("{}", named, Some(named));
        check(named, "{}", None);
        check(named, "no object", None);
        check("{}", empty, Some(empty));
        check(
            r#"{"00200010":{"vr":"SH"}}"#,
            r#"{"00080020":{"vr":"DA"}}"#,
            Some(r#"{"00080020":{"vr":"DA"},"00200010":{"vr":"SH"}}"#),
        );
    }
}
