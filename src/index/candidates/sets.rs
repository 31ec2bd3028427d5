//! Sets: the rows that may match, in no order, and how many they are.
//!
//! Holds: each set is read from one index, and what is in several of them counts once where that is
//! asked for.

use super::{
    At, Candidates, IndexError, KEY, Of, PATIENT_NAME, PLACE, Reach, Set, Sql, TABLE, UID, Via,
    push_begins, push_count, push_test, push_value, push_word,
};
use crate::index::like::{like, without_nul};

impl Candidates<'_> {
    /// How many rows the sets have, at most `most`: `SELECT count(*) …`.
    pub(in crate::index) fn push_sets_count(
        &self,
        sql: &mut Sql,
        of: Of<'_>,
        reach: Reach,
        most: i64,
    ) -> Result<(), IndexError> {
        push_count(sql, most, |sql| self.push_sets(sql, of, reach, " UNION ALL ", None))
    }

    /// How many rows are in any of the sets, none of which is left to be tested, at most `most`:
    /// `SELECT … `. Telling apart what is in several costs more than counting; and names with several
    /// component groups that begin alike are rare: it is done only where several sets have rows.
    pub(in crate::index) fn push_distinct_count(
        &self,
        sql: &mut Sql,
        of: Of<'_>,
        reach: Reach,
        most: i64,
    ) -> Result<(), IndexError> {
        let distinct = |sql: &mut Sql| {
            let rows =
                |sql: &mut Sql| self.push(sql, Via::Unordered(Some(most)), of, reach).map(|_| ());
            push_count(sql, most, rows)
        };
        let sets = &self.access.sets;
        if sets.len() < 2 || !sets.iter().all(|set| matches!(set, Set::Column(..))) {
            return distinct(sql);
        }
        sql.push("WITH each (rows) AS MATERIALIZED (");
        for (n, set) in sets.iter().enumerate() {
            sql.push(if n == 0 { "" } else { " UNION ALL " });
            push_count(sql, most, |sql| self.push_set(sql, set, of, reach))?;
        }
        sql.push(") SELECT CASE WHEN count(*) FILTER (WHERE rows > 0) < 2 THEN sum(rows)::bigint");
        sql.push(" ELSE (");
        distinct(sql)?;
        sql.push(") END FROM each");
        Ok(())
    }

    /// How many studies have a term, at most `most`: `SELECT count(*) …`.
    pub(in crate::index) fn push_term_count(
        &self,
        sql: &mut Sql,
        term: &'static str,
        of: Of<'_>,
        reach: Reach,
        most: i64,
    ) -> Result<(), IndexError> {
        push_count(sql, most, |sql| self.push_set(sql, &Set::Term(term.to_owned()), of, reach))
    }

    pub(super) fn push_sets(
        &self,
        sql: &mut Sql,
        of: Of<'_>,
        reach: Reach,
        between: &'static str,
        most: Option<i64>,
    ) -> Result<(), IndexError> {
        let sets = &self.access.sets;
        for (n, set) in sets.iter().enumerate() {
            sql.push(if n == 0 { "(" } else { between }).push(if n == 0 { "" } else { "(" });
            self.push_set(sql, set, of, reach)?;
            // Where each row is in a set once, more of them than are wanted of all say nothing new.
            if let (Some(most), Set::Column(..) | Set::Term(_)) = (most, set) {
                sql.push(" LIMIT ").push_bind(most);
            }
            sql.push(")");
        }
        if let ([Set::Terms(_) | Set::Tag(..)], " UNION ") = (sets.as_slice(), between) {
            // A study may have several such terms, and several such values.
            sql.push(" UNION SELECT NULL, NULL WHERE false");
        }
        Ok(())
    }

    fn push_set(
        &self,
        sql: &mut Sql,
        set: &Set,
        of: Of<'_>,
        reach: Reach,
    ) -> Result<(), IndexError> {
        let level = self.level();
        match set {
            Set::Column(column, test) => {
                sql.push("SELECT ");
                self.push_select(sql, [TABLE[level], "x"], of);
                sql.push(" AND ");
                push_test(sql, "x", column, test);
                self.push_reach(sql, [KEY[level], PLACE[level]], reach);
            }
            Set::Terms(start) => {
                sql.push("SELECT ");
                self.push_select(sql, ["study_term", "x"], of);
                sql.push(" AND ");
                push_begins(sql, &without_nul(start));
                self.push_reach(sql, [KEY[level], PLACE[level]], reach);
            }
            Set::TermsOf(start, end) => {
                sql.push("SELECT ");
                self.push_select(sql, ["study_term", "x"], of);
                sql.push(" AND ");
                push_begins(sql, &without_nul(start));
                sql.push(" AND x.term LIKE ");
                sql.push_bind(like(&format!("{start}* {end}*")));
                self.push_reach(sql, [KEY[level], PLACE[level]], reach);
            }
            Set::Words(term, words) => {
                sql.push("SELECT ");
                self.push_select(sql, ["study_term", "r"], of);
                sql.push(" AND r.term = ").push_bind(*term);
                for word in words {
                    sql.push(" AND ");
                    push_word(sql, PATIENT_NAME, word, At { of, study: "r.study_key", series: "" });
                }
                self.push_reach(sql, [KEY[level], PLACE[level]], reach);
            }
            Set::Term(term) => {
                sql.push("SELECT ");
                self.push_select(sql, ["study_term", "x"], of);
                sql.push(" AND x.term = ").push_bind(without_nul(term));
                self.push_reach(sql, [KEY[level], PLACE[level]], reach);
            }
            Set::Uids(uids) => {
                let mut uids = uids.clone();
                uids.sort_unstable();
                uids.dedup();
                sql.push("SELECT c.key, c.place FROM unnest(").push_bind(uids);
                sql.push("::text[]) u(uid) CROSS JOIN LATERAL (");
                sql.push("SELECT ");
                self.push_select(sql, [TABLE[level], "x"], of);
                for operator in [" >= u.uid", " <= u.uid"] {
                    sql.push(" AND x.").push(UID[level]).push(operator);
                }
                self.push_reach(sql, [KEY[level], PLACE[level]], reach);
                sql.push(" ORDER BY x.").push(UID[level]).push(") c");
            }
            Set::Tag(tag, test) => {
                sql.push("SELECT c.key, c.place FROM (");
                sql.push("SELECT v.owner_key FROM query_tag_value v WHERE v.partition_id = ");
                of.push(sql);
                sql.push(" AND v.tag_id = ").push_bind(*tag).push(" AND ");
                push_value(sql, test);
                sql.push(") o CROSS JOIN LATERAL (SELECT ");
                self.push_select(sql, [TABLE[level], "x"], of);
                for operator in [" >= o.owner_key", " <= o.owner_key"] {
                    sql.push(" AND x.").push(KEY[level]).push(operator);
                }
                self.push_reach(sql, [KEY[level], PLACE[level]], reach);
                sql.push(" ORDER BY x.").push(KEY[level]).push(") c");
            }
            Set::Under(under) => {
                let parents = Candidates::of(under)?;
                sql.push("SELECT c.key, c.place FROM (");
                parents.push(sql, parents.in_order(), of, Reach::default())?;
                sql.push(") p CROSS JOIN LATERAL (");
                sql.push("SELECT ");
                self.push_select(sql, [TABLE[level], "x"], of);
                let parent = KEY[under.level as usize];
                for operator in [" >= p.key", " <= p.key"] {
                    sql.push(" AND x.").push(parent).push(operator);
                }
                self.push_reach(sql, [KEY[level], PLACE[level]], reach);
                sql.push(" ORDER BY x.").push(parent).push(") c");
            }
        }
        Ok(())
    }
}
