//! A search as one join of tables, for the planner to find its way: where tables are distributed,
//! lists and lookups row by row cannot be joined; and where more keys are wanted than are held here.

use super::{
    IndexError, SearchPlan, Within,
    filter::{At, Of, Sql, alias, push_condition},
};
use crate::dicom::attributes::Level;

/// `FROM … WHERE …` of all rows that match in some partitions.
pub(super) fn push_plainly(
    sql: &mut Sql,
    plan: &SearchPlan,
    partitions: &[&str],
) -> Result<(), IndexError> {
    if plan.conditions.iter().any(|condition| condition.level() > plan.level) {
        return Err(IndexError::Inconsistent { table: "search", column: "level" });
    }
    let own = alias(plan.level);
    sql.push(" FROM ")
        .push(["study", "series", "instance"][plan.level as usize])
        .push(" ")
        .push(own);
    if plan.level == Level::Instance {
        sql.push(
            " JOIN series e ON e.partition_id = i.partition_id AND e.series_key = i.series_key",
        );
    }
    if plan.level > Level::Study {
        sql.push(" JOIN study s ON s.partition_id = e.partition_id AND s.study_key = e.study_key");
    }
    sql.push(" WHERE ").push(own).push(".partition_id = ANY(").push_bind(partitions);
    sql.push("::text[])");
    let (study, series) = match &plan.within {
        Within::Archive => (None, None),
        Within::Study(study) => (Some(study), None),
        Within::Series(study, series) => (Some(study), Some(series)),
    };
    for (column, uid) in [("s.study_instance_uid", study), ("e.series_instance_uid", series)] {
        if let Some(uid) = uid {
            sql.push(" AND ").push(column).push(" = ").push_bind(uid.as_str().to_owned());
        }
    }
    let row = ["s.partition_id", "e.partition_id", "i.partition_id"][plan.level as usize];
    let at = At { of: Of::Row(row), study: "s.study_key", series: "e.series_key" };
    for condition in &plan.conditions {
        sql.push(" AND ");
        push_condition(sql, condition, at)?;
    }
    if let Some(after) = &plan.after {
        match plan.level {
            Level::Study => {
                sql.push(" AND (s.study_order, s.study_key) < (").push_bind(after.place);
                sql.push(", ").push_bind(after.key).push(")");
            }
            Level::Series | Level::Instance => {
                sql.push(" AND ")
                    .push(["s.study_key", "e.series_key", "i.watermark"][plan.level as usize])
                    .push(" > ");
                sql.push_bind(after.key);
            }
        }
    }
    Ok(())
}
