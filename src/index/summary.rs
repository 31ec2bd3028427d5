//! What an answer has to know about a target before it begins.

use sqlx::Row;

use super::{IndexError, PartitionTx, Target};
use crate::dicom::Uid;

/// A study, series or instance as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The newest watermark and the number of instances: changes whenever an instance comes or
    /// goes.
    pub version: (i64, i64),
    /// Transfer syntaxes of the stored instances, ascending.
    pub transfer_syntaxes: Vec<Uid>,
}

macro_rules! summary {
    ($name:literal, $of:literal) => {
        concat!(
            "-- ",
            $name,
            "
    SELECT max(i.watermark), count(*), array_agg(DISTINCT i.transfer_syntax_uid)
    FROM instance i ",
            $of
        )
    };
}

const SUMMARY_STUDY: &str = summary!(
    "summary_study",
    "WHERE i.partition_id = $1 AND i.study_key = (
        SELECT study_key FROM study WHERE partition_id = $1 AND study_instance_uid = $2)"
);

const SUMMARY_SERIES: &str = summary!(
    "summary_series",
    "WHERE i.partition_id = $1 AND i.series_key = (
        SELECT e.series_key FROM series e
        JOIN study s ON s.partition_id = e.partition_id AND s.study_key = e.study_key
        WHERE e.partition_id = $1 AND s.study_instance_uid = $2 AND e.series_instance_uid = $3)"
);

const SUMMARY_INSTANCE: &str = summary!(
    "summary_instance",
    "JOIN series e ON e.partition_id = i.partition_id AND e.series_key = i.series_key
    JOIN study s ON s.partition_id = i.partition_id AND s.study_key = i.study_key
    WHERE i.partition_id = $1 AND s.study_instance_uid = $2 AND e.series_instance_uid = $3
        AND i.sop_instance_uid = $4"
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
        Ok(Some(Summary { version: (newest, row.try_get(1)?), transfer_syntaxes }))
    }
}
