//! What an answer has to know about a target before it begins.

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

pub(super) const STATEMENTS: &[&str] = &[SUMMARY_STUDY, SUMMARY_SERIES, SUMMARY_INSTANCE];

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
            version: format!("{newest}-{count}-{sum}"),
            transfer_syntaxes,
        }))
    }
}
