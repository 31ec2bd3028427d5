//! What an answer has to know about a target before it begins.

use std::collections::BTreeMap;

use sqlx::Row;

use super::{
    IndexError, PartitionTx, Target,
    lookup::{from_instance, one, series_key, series_uid_of_i, study_key, study_uid_of_i},
};
use crate::dicom::Uid;

/// A study, series or instance as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The newest watermark.
    pub newest: i64,
    /// Number of instances.
    pub count: i64,
    /// Newest watermark, number and sum of all: changes whenever an instance comes or goes, also
    /// where one with a lower watermark commits late while another is deleted.
    pub version: String,
    /// Transfer syntaxes of the stored instances, ascending.
    pub transfer_syntaxes: Vec<Uid>,
}

/// The instances of a target as they are stored: what the length of an answer follows from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Number of instances.
    pub count: u64,
    /// Bytes of their files, what stands before them included.
    pub bytes: u64,
    /// Characters of their transfer syntaxes, their SOP and Series Instance UIDs and their lengths
    /// as decimal numbers, together.
    pub characters: u64,
}

/// `$rows` are instances.
macro_rules! summary {
    ($name:literal, $rows:expr) => {
        concat!(
            "-- ",
            $name,
            "
    SELECT max(i.watermark), count(*), array_agg(DISTINCT i.transfer_syntax_uid),
        sum(i.watermark)::text ",
            $rows
        )
    };
}

/// The instances whose column `$key` is `$of`.
macro_rules! under {
    ($key:literal, $of:expr) => {
        concat!(
            "FROM (SELECT * FROM instance
        WHERE partition_id = $1 AND ",
            $key,
            " >= ",
            $of,
            " AND ",
            $key,
            " <= ",
            $of,
            "
        ORDER BY ",
            $key,
            ", watermark) i"
        )
    };
}

const SUMMARY_STUDY: &str = summary!("summary_study", under!("study_key", study_key!()));
const SUMMARY_SERIES: &str = summary!("summary_series", under!("series_key", series_key!("$3")));
const SUMMARY_INSTANCE: &str = summary!(
    "summary_instance",
    concat!(
        from_instance!("$4"),
        " WHERE ",
        study_uid_of_i!(),
        " = $2 AND ",
        series_uid_of_i!(),
        " = $3"
    )
);

/// What instances up to watermark `$3` or `$4` take as they are stored.
macro_rules! extent {
    ($name:literal, $rows:expr, $up_to:literal) => {
        concat!(
            "-- ",
            $name,
            "
    SELECT count(*), count(i.header_missing), sum(i.length + i.header_missing)::text,
        sum(length(i.transfer_syntax_uid) + length(i.sop_instance_uid)
            + length((i.length + i.header_missing)::text)
            + length(",
            series_uid_of_i!(),
            "))::text ",
            $rows,
            " WHERE i.watermark <= ",
            $up_to
        )
    };
}

const EXTENT_STUDY: &str = extent!("extent_study", under!("study_key", study_key!()), "$3");
const EXTENT_SERIES: &str = extent!("extent_series", under!("series_key", series_key!("$3")), "$4");

/// How many instances these studies have, or these series of a study.
macro_rules! count {
    ($name:literal, $uids:literal, $parent:expr, $key:literal) => {
        concat!(
            "-- ",
            $name,
            "
    SELECT count(*) FROM unnest(",
            $uids,
            "::text[]) AS n(uid) CROSS JOIN LATERAL ",
            $parent,
            " p CROSS JOIN LATERAL (SELECT 1 FROM instance
        WHERE partition_id = $1 AND ",
            $key,
            " >= p.",
            $key,
            " AND ",
            $key,
            " <= p.",
            $key,
            "
        ORDER BY ",
            $key,
            ", watermark) i"
        )
    };
}

const COUNT_STUDIES: &str = count!(
    "count_studies",
    "$2",
    one!("study_key", "study", "study_instance_uid", "n.uid"),
    "study_key"
);
const COUNT_SERIES: &str = count!("count_series", "$3", series_key!("n.uid"), "series_key");

/// How many of these instances are there, in the study and series given.
const COUNT_INSTANCES: &str = concat!(
    "-- count_instances
    SELECT count(*) FROM unnest($2::text[], $3::text[], $4::text[]) AS n(study, series, uid)
    CROSS JOIN LATERAL ",
    one!("study_key, series_key", "instance", "sop_instance_uid", "n.uid"),
    " i
    WHERE ",
    study_uid_of_i!(),
    " = n.study AND ",
    series_uid_of_i!(),
    " = n.series"
);

pub(super) const STATEMENTS: &[&str] = &[
    COUNT_STUDIES,
    COUNT_SERIES,
    COUNT_INSTANCES,
    SUMMARY_STUDY,
    SUMMARY_SERIES,
    SUMMARY_INSTANCE,
    EXTENT_STUDY,
    EXTENT_SERIES,
];

/// The version of what has so many instances, by their newest watermark and the sum of all.
pub(super) fn version(newest: i64, count: i64, sum: &str) -> String {
    format!("{newest}-{count}-{sum}")
}

impl PartitionTx {
    /// What the partition holds of `target`; `None` where that is nothing.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn summary(&mut self, target: &Target) -> Result<Option<Summary>, IndexError> {
        let sql = match target {
            Target::Study { .. } => SUMMARY_STUDY,
            Target::Series { .. } => SUMMARY_SERIES,
            Target::Instance { .. } => SUMMARY_INSTANCE,
        };
        let (mut query, conn) = self.statement(sql);
        for uid in [Some(target.study()), target.series(), target.instance()].into_iter().flatten()
        {
            query = query.bind(uid.as_str());
        }
        let row = query.fetch_one(conn).await?;
        let Some(newest) = row.try_get::<Option<i64>, _>(0)? else { return Ok(None) };
        let syntaxes: Vec<String> = row.try_get(2)?;
        let (table, column) = ("instance", "transfer_syntax_uid");
        let transfer_syntaxes = syntaxes
            .iter()
            .map(|uid| uid.parse().map_err(|_| IndexError::Inconsistent { table, column }))
            .collect::<Result<_, _>>()?;
        let (count, sum): (i64, String) = (row.try_get(1)?, row.try_get(3)?);
        Ok(Some(Summary {
            newest,
            count,
            version: version(newest, count, &sum),
            transfer_syntaxes,
        }))
    }

    /// How many instances targets have, each of them once; those that do not exist none.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn count(&mut self, targets: &[&Target]) -> Result<u64, IndexError> {
        let (mut studies, mut series) = (Vec::new(), BTreeMap::<&str, Vec<&str>>::new());
        let (mut of_study, mut of_series, mut instances) = (Vec::new(), Vec::new(), Vec::new());
        for target in targets {
            match target {
                Target::Study { study } => studies.push(study.as_str()),
                Target::Series { study, series: uid } => {
                    series.entry(study.as_str()).or_default().push(uid.as_str());
                }
                Target::Instance { study, series, instance } => {
                    of_study.push(study.as_str());
                    of_series.push(series.as_str());
                    instances.push(instance.as_str());
                }
            }
        }
        let mut all = 0;
        if !instances.is_empty() {
            let (query, conn) = self.statement(COUNT_INSTANCES);
            let query = query.bind(of_study).bind(of_series).bind(instances);
            all += query.fetch_one(conn).await?.try_get::<i64, _>(0)?;
        }
        if !studies.is_empty() {
            let (query, conn) = self.statement(COUNT_STUDIES);
            all += query.bind(studies).fetch_one(conn).await?.try_get::<i64, _>(0)?;
        }
        for (study, series) in series {
            let (query, conn) = self.statement(COUNT_SERIES);
            all += query.bind(study).bind(series).fetch_one(conn).await?.try_get::<i64, _>(0)?;
        }
        Ok(all.unsigned_abs())
    }

    /// What the instances of a study or series up to the watermark `up_to` take; `None` where that
    /// shows only when they are read.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn extent(
        &mut self,
        target: &Target,
        up_to: i64,
    ) -> Result<Option<Extent>, IndexError> {
        let sql = match target {
            Target::Study { .. } => EXTENT_STUDY,
            Target::Series { .. } => EXTENT_SERIES,
            Target::Instance { .. } => return Ok(None),
        };
        let (mut query, conn) = self.statement(sql);
        for uid in [Some(target.study()), target.series()].into_iter().flatten() {
            query = query.bind(uid.as_str());
        }
        let row = query.bind(up_to).fetch_one(conn).await?;
        let (count, known): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        if count != known || count == 0 {
            return Ok(None);
        }
        let sum = |at: usize| -> Result<Option<u64>, IndexError> {
            Ok(row.try_get::<Option<String>, _>(at)?.and_then(|sum| sum.parse().ok()))
        };
        let (Some(bytes), Some(characters)) = (sum(2)?, sum(3)?) else { return Ok(None) };
        Ok(Some(Extent { count: count.unsigned_abs(), bytes, characters }))
    }
}
