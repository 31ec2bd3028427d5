//! The study and series rows that a batch of new instances needs.
//!
//! Lock order, the same for all who write: study rows ascending by UID, then series rows ascending
//! by study and UID, then blob rows that were there ascending by id, then instances ascending by SOP
//! Instance UID; new blobs are known to nobody else.
//! Store holds its parents `FOR KEY SHARE` to the end, which stores share with each other and which
//! Delete (`FOR UPDATE` on the study) waits for: a parent that was found cannot vanish, and one
//! that vanished while we waited is simply made anew.
//!
//! Nothing is written when there is nothing to fill, so that concurrent stores to one study do not
//! queue on its row.

use std::collections::{BTreeMap, HashMap, HashSet};

use sqlx::Row;

use super::{
    IndexError, NewInstance, PartitionTx,
    columns::{self, series_columns, study_columns},
    facts::{Facts, gather, transpose},
    lookup::{delete_each, one, without_instances, without_series},
    terms::Told,
};
use crate::dicom::{Uid, attributes::Level};

const STUDY_SHARE: &str = concat!(
    "-- study_share
    SELECT s.* FROM unnest($2::text[]) AS n(uid) CROSS JOIN LATERAL ",
    one!(
        concat!("study_key, study_instance_uid, attributes, ", study_columns!("")),
        "study",
        "study_instance_uid",
        "n.uid",
        "FOR KEY SHARE"
    ),
    " s"
);

const STUDY_LOCK: &str = concat!(
    "-- study_lock
    SELECT s.* FROM unnest($2::bigint[]) AS n(key) CROSS JOIN LATERAL ",
    one!(
        concat!("study_key, study_instance_uid, attributes, ", study_columns!("")),
        "study",
        "study_key",
        "n.key",
        "FOR NO KEY UPDATE"
    ),
    " s"
);

const STUDY_CREATE: &str = concat!(
    "-- study_create
    INSERT INTO study (partition_id, study_instance_uid, attributes, ",
    study_columns!(""),
    ")
    SELECT $1, * FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
        $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[],
        $14::text[], $15::text[], $16::text[], $17::text[], $18::text[], $19::text[])
    ON CONFLICT (partition_id, study_instance_uid) DO NOTHING
    RETURNING study_key, study_instance_uid, study_order"
);

const STUDY_FILL: &str = concat!(
    "-- study_fill
    UPDATE study t SET (attributes, ",
    study_columns!(""),
    ") =
        (n.attributes, ",
    study_columns!("n."),
    ")
    FROM unnest($2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
        $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[],
        $15::text[], $16::text[], $17::text[], $18::text[], $19::text[])
        AS n(key, attributes, ",
    study_columns!(""),
    ")
    CROSS JOIN LATERAL ",
    one!("ctid AS at", "study", "study_key", "n.key"),
    " x
    WHERE t.partition_id = $1 AND t.ctid = x.at"
);

const SERIES_SHARE: &str = concat!(
    "-- series_share
    SELECT e.* FROM unnest($2::bigint[], $3::text[]) AS n(study_key, uid) CROSS JOIN LATERAL (
        SELECT series_key, series_instance_uid, attributes, ",
    series_columns!(""),
    ", study_key
        FROM series
        WHERE partition_id = $1 AND study_key = n.study_key
            AND series_instance_uid >= n.uid AND series_instance_uid <= n.uid
        ORDER BY series_instance_uid FOR KEY SHARE) e"
);

const SERIES_LOCK: &str = concat!(
    "-- series_lock
    SELECT e.* FROM unnest($2::bigint[]) AS n(key) CROSS JOIN LATERAL ",
    one!(
        concat!(
            "series_key, series_instance_uid, attributes, ",
            series_columns!(""),
            ", study_key"
        ),
        "series",
        "series_key",
        "n.key",
        "FOR NO KEY UPDATE"
    ),
    " e"
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
    UPDATE series t SET (attributes, ",
    series_columns!(""),
    ") =
        (n.attributes, ",
    series_columns!("n."),
    ")
    FROM unnest($2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
        $8::text[], $9::text[], $10::text[], $11::text[])
        AS n(key, attributes, ",
    series_columns!(""),
    ")
    CROSS JOIN LATERAL ",
    one!("ctid AS at", "series", "series_key", "n.key"),
    " x
    WHERE t.partition_id = $1 AND t.ctid = x.at"
);

/// Of rows just made, take back those that got no child.
const SERIES_TAKE_BACK: &str =
    delete_each!("series_take_back", "series", "series_key", without_instances!());
const STUDY_TAKE_BACK: &str =
    delete_each!("study_take_back", "study", "study_key", without_series!());

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

/// Rows that this transaction made, and what it has to tell of them and of those that it found.
#[derive(Debug, Default)]
pub(super) struct Made {
    /// Studies, with their places in the order of results.
    pub(super) studies: HashMap<i64, i64>,
    series: HashSet<i64>,
    /// Terms of the names in studies that it made or filled, and which it filled.
    pub(super) told: Told,
    /// What series say, those that it made or filled and those that it found, with their studies.
    pub(super) series_facts: BTreeMap<i64, (i64, Facts)>,
    /// Series that it filled.
    pub(super) series_filled: HashSet<i64>,
}

impl Made {
    /// Whether the series was made here.
    pub(super) fn has_series(&self, key: i64) -> bool {
        self.series.contains(&key)
    }
}

/// Keys of the parents, by UIDs of study and series.
pub(super) type ParentKeys<'a> = HashMap<(&'a Uid, &'a Uid), (i64, i64)>;

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
                if said.get(&*uid).is_some_and(|news| found.fill(news, &columns::STUDY)) {
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
                let (key, uid): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
                made.studies.insert(key, row.try_get(2)?);
                if let Some(facts) = said.get(&*uid) {
                    made.told.names(key, facts);
                }
                keys.insert(uid, key);
            }
        }
        if keys.len() < said.len() {
            return Err(IndexError::Busy);
        }
        if !fill.is_empty() {
            self.fill_studies(&fill, said, &mut made.told).await?;
        }
        Ok(keys)
    }

    async fn fill_studies(
        &mut self,
        keys: &[i64],
        said: &BTreeMap<&str, Facts>,
        told: &mut Told,
    ) -> Result<(), IndexError> {
        let (query, conn) = self.statement(STUDY_LOCK);
        let mut filled: Vec<(i64, Facts)> = Vec::new();
        for row in query.bind(keys).fetch_all(conn).await? {
            // What the row says now: another store may have filled it meanwhile.
            let mut facts = Facts::read(&row, 2, columns::STUDY.len())?;
            let uid: &str = row.try_get(1)?;
            if said.get(uid).is_some_and(|news| facts.fill(news, &columns::STUDY)) {
                let key = row.try_get(0)?;
                told.names(key, &facts);
                told.filled.insert(key);
                filled.push((key, facts));
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
                .filter(|(study, _, _)| !made.studies.contains_key(study))
                .map(|(study, uid, _)| (*study, *uid))
                .unzip();
            if !studies.is_empty() {
                let (query, conn) = self.statement(SERIES_SHARE);
                for row in query.bind(studies).bind(uids).fetch_all(conn).await? {
                    let uid: String = row.try_get(1)?;
                    let study: i64 = row.try_get(3 + columns::SERIES.len())?;
                    let key = row.try_get(0)?;
                    let mut found = Facts::read(&row, 2, columns::SERIES.len())?;
                    if said
                        .get(&(study, &*uid))
                        .is_some_and(|news| found.fill(news, &columns::SERIES))
                    {
                        fill.push(key);
                    }
                    made.series_facts.insert(key, (study, found));
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
                let (key, study): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
                let uid: String = row.try_get(2)?;
                made.series.insert(key);
                if let Some(facts) = said.get(&(study, &*uid)) {
                    made.series_facts.insert(key, (study, facts.clone()));
                }
                keys.insert((study, uid), key);
            }
        }
        if keys.len() < said.len() {
            return Err(IndexError::Busy);
        }
        if !fill.is_empty() {
            self.fill_series(&fill, said, made).await?;
        }
        Ok(keys)
    }

    async fn fill_series(
        &mut self,
        keys: &[i64],
        said: &BTreeMap<(i64, &str), Facts>,
        made: &mut Made,
    ) -> Result<(), IndexError> {
        let (query, conn) = self.statement(SERIES_LOCK);
        let mut filled: Vec<(i64, Facts)> = Vec::new();
        for row in query.bind(keys).fetch_all(conn).await? {
            let mut facts = Facts::read(&row, 2, columns::SERIES.len())?;
            let study: i64 = row.try_get(3 + columns::SERIES.len())?;
            let uid: &str = row.try_get(1)?;
            let key = row.try_get(0)?;
            if said.get(&(study, uid)).is_some_and(|news| facts.fill(news, &columns::SERIES)) {
                made.series_filled.insert(key);
                filled.push((key, facts.clone()));
            }
            made.series_facts.insert(key, (study, facts));
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
            let keys: Vec<i64> = made.studies.keys().copied().collect();
            query.bind(keys).execute(conn).await?;
        }
        Ok(())
    }
}
