//! Terms of studies: what a batch of new instances adds, and what a study that changed is told.
//!
//! A term row repeats the study's place in the order of results. Who adds terms to a study that
//! others see holds its row shared; who changes the place holds it for himself, to the end of his
//! transaction: so that none is added with a place that is changing. Stores to one study thus wait
//! for each other only while one of them fills in what the study lacked.

use std::collections::{BTreeSet, HashMap, HashSet};

use sqlx::Row;

use super::{
    IndexError, PartitionTx,
    columns::{self, PATIENT_NAME, REFERRING_PHYSICIAN_NAME},
    facts::Facts,
    lookup::{delete_each, one, without_study_row},
    parents::Made,
    requests,
};
use crate::dicom::{Uid, names};

const MISSING: &str = "-- term_missing
    SELECT n.key, n.term FROM unnest($2::bigint[], $3::text[]) AS n(key, term)
    WHERE (SELECT 1 FROM study_term t
        WHERE t.partition_id = $1 AND t.study_key >= n.key AND t.study_key <= n.key
            AND t.term = n.term
        ORDER BY t.study_key) IS NULL";

const HOLD: &str = concat!(
    "-- term_hold
    SELECT s.* FROM unnest($2::bigint[]) AS n(key) CROSS JOIN LATERAL ",
    one!("study_key, study_order", "study", "study_key", "n.key", "FOR SHARE"),
    " s"
);

pub(super) const CREATE: &str = "-- term_create
    INSERT INTO study_term (partition_id, study_key, term, study_order)
    SELECT $1, * FROM unnest($2::bigint[], $3::text[], $4::bigint[])
    ON CONFLICT (partition_id, study_key, term) DO NOTHING";

/// Terms of studies whose place has changed, which the transaction holds.
const REORDER: &str = concat!(
    "-- term_reorder
    UPDATE study_term t SET study_order = x.study_order
    FROM unnest($2::bigint[]) AS n(key) CROSS JOIN LATERAL ",
    one!("study_key, study_order", "study", "study_key", "n.key"),
    " s CROSS JOIN LATERAL (
        SELECT k.ctid AS at, s.study_order FROM study_term k
        WHERE k.partition_id = $1 AND k.study_key >= s.study_key AND k.study_key <= s.study_key
            AND k.study_order <> s.study_order
        ORDER BY k.study_key) x
    WHERE t.partition_id = $1 AND t.ctid = x.at"
);

/// Of studies that are gone, all terms.
const DELETE: &str = delete_each!("term_delete", "study_term", "study_key", without_study_row!());

/// Of studies that lost some of what they held, the terms of what none is left of.
const DELETE_GONE: &str = delete_each!(
    "term_delete_gone",
    "study_term",
    "study_key",
    " AND CASE
            WHEN t.term >= 'm:' AND t.term < 'm;' THEN
                (SELECT 1 FROM series e
                WHERE e.partition_id = $1 AND e.study_key >= t.study_key
                    AND e.study_key <= t.study_key AND 'm:' || e.modality = t.term
                ORDER BY e.study_key LIMIT 1) IS NULL
            WHEN t.term >= 'c:' AND t.term < 'c;' THEN
                (SELECT 1 FROM instance i
                WHERE i.partition_id = $1 AND i.study_key >= t.study_key
                    AND i.study_key <= t.study_key AND 'c:' || i.sop_class_uid = t.term
                ORDER BY i.study_key LIMIT 1) IS NULL
            ELSE false END"
);

pub(super) const STATEMENTS: &[&str] =
    &[MISSING, HOLD, CREATE, REORDER, DELETE, DELETE_GONE, super::requests::CREATE];

/// The term of a modality.
pub(super) fn of_modality(modality: &str) -> String {
    format!("m:{modality}")
}

/// The term of a SOP class.
pub(super) fn of_sop_class(class: &Uid) -> String {
    format!("c:{}", class.as_str())
}

/// The terms of the names in what a study says.
pub(super) fn of_names(facts: &Facts) -> BTreeSet<String> {
    let groups = |names: [&str; 3]| {
        names.map(|name| facts.column(&columns::STUDY, name).unwrap_or_default())
    };
    let mut terms = names::terms(groups(PATIENT_NAME));
    terms.extend(names::physician_terms(groups(REFERRING_PHYSICIAN_NAME)));
    terms
}

/// Where an instance was stored.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    /// Key of its study.
    pub(super) study: i64,
    /// Key of its series.
    pub(super) series: i64,
    /// Its SOP class.
    pub(super) sop_class: &'a Uid,
}

/// What a batch has to tell of the studies that it found or made.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Terms, by study.
    pub(super) terms: BTreeSet<(i64, String)>,
    /// Studies in which something was filled.
    pub(super) filled: BTreeSet<i64>,
}

impl Told {
    /// The terms of the names in what a study says.
    pub(super) fn names(&mut self, study: i64, facts: &Facts) {
        self.terms.extend(of_names(facts).into_iter().map(|term| (study, term)));
    }
}

impl PartitionTx {
    /// Tells under what the instances stored at `places` are found: terms of their studies, requests
    /// of their series.
    pub(super) async fn tell(
        &mut self,
        made: &mut Made,
        places: &[Place<'_>],
    ) -> Result<(), IndexError> {
        // What was made for instances that turned out to be stored already is taken back.
        let studies: HashSet<i64> = places.iter().map(|place| place.study).collect();
        let series: HashSet<i64> = places.iter().map(|place| place.series).collect();
        let mut told = std::mem::take(&mut made.told);
        told.terms
            .retain(|(study, _)| studies.contains(study) || !made.studies.contains_key(study));
        told.terms.extend(places.iter().map(|place| (place.study, of_sop_class(place.sop_class))));
        let mut rows = requests::Rows::default();
        for (key, (study, facts)) in &made.series_facts {
            // A series that was found and not filled has told all this before.
            if (made.has_series(*key) && series.contains(key)) || made.series_filled.contains(key) {
                let modality = facts.column(&columns::SERIES, "modality");
                told.terms.extend(modality.map(|modality| (*study, of_modality(modality))));
                rows.add(*key, *study, requests::items(facts.attributes()));
            }
        }
        self.terms(told, &made.studies).await?;
        self.requests(rows).await
    }

    /// Adds the terms that are not there yet. `orders` has the places of studies that this
    /// transaction made.
    async fn terms(&mut self, told: Told, orders: &HashMap<i64, i64>) -> Result<(), IndexError> {
        if !told.filled.is_empty() {
            let (query, conn) = self.statement(REORDER);
            query.bind(Vec::from_iter(told.filled)).execute(conn).await?;
        }
        let (mut wanted, older): (Vec<_>, Vec<_>) =
            told.terms.into_iter().partition(|(study, _)| orders.contains_key(study));
        let mut held: HashMap<i64, i64> = HashMap::new();
        if !older.is_empty() {
            let missing = self.missing(older).await?;
            let studies: BTreeSet<i64> = missing.iter().map(|(study, _)| *study).collect();
            if !studies.is_empty() {
                let (query, conn) = self.statement(HOLD);
                for row in query.bind(Vec::from_iter(studies)).fetch_all(conn).await? {
                    held.insert(row.try_get(0)?, row.try_get(1)?);
                }
            }
            wanted.extend(missing);
            // The same order for all who add, so that they wait for each other in turn.
            wanted.sort_unstable();
        }
        let (mut studies, mut terms, mut places) = (Vec::new(), Vec::new(), Vec::new());
        for (study, term) in wanted {
            if let Some(place) = orders.get(&study).or_else(|| held.get(&study)) {
                studies.push(study);
                terms.push(term);
                places.push(*place);
            }
        }
        if !studies.is_empty() {
            let (query, conn) = self.statement(CREATE);
            query.bind(studies).bind(terms).bind(places).execute(conn).await?;
        }
        Ok(())
    }

    async fn missing(
        &mut self,
        asked: Vec<(i64, String)>,
    ) -> Result<Vec<(i64, String)>, IndexError> {
        let (studies, terms): (Vec<i64>, Vec<String>) = asked.into_iter().unzip();
        let (query, conn) = self.statement(MISSING);
        let rows = query.bind(studies).bind(terms).fetch_all(conn).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }

    /// Removes the terms of a study that is gone, or that something of is gone.
    pub(super) async fn terms_gone(&mut self, study: i64) -> Result<(), IndexError> {
        for sql in [DELETE, DELETE_GONE] {
            let (query, conn) = self.statement(sql);
            query.bind([study]).execute(conn).await?;
        }
        Ok(())
    }
}
