//! Looking rows up by key, so that Postgres cannot take the wrong index.
//!
//! Every index begins with `partition_id`, so every index can answer `partition_id = $1 AND key =
//! $2`: the right one, or any other one with the key as a filter, which reads the whole partition.
//! What decides is how many rows Postgres believes the partition to have. On a young database, and
//! for a partition that grew since the statistics were taken, it believes one; the right index then
//! looks no better than the wrong one, and a plan that was kept stays wrong.
//!
//! So a lookup is written as a range of one key, in the order of the key, in a sub-select of its
//! own; and a [`PartitionTx`](super::PartitionTx) runs with [`SETTINGS`], where sorting is out of
//! the question. Only the index that yields that order needs no sort: the choice no longer hangs on
//! statistics, and plans can be kept (planning a join of four tables costs ten times what running
//! it costs). An equality would not do: ordering by a key that is fixed means nothing to the
//! planner. Rows to be changed are looked up so, and then taken by their place (`ctid`), the one
//! access that the settings leave free; the transaction holds the lock that keeps them there.
//!
//! For the same reason there are no foreign keys: their checks are lookups of Postgres' own that
//! meet the same trap, one for each row. That no child loses its parent is held by locks (see
//! `parents`), and by a test that lets stores and deletes meet.

/// Settings of a transaction that does lookups. Every scan but that by place is "off", which to the
/// planner means dear, not forbidden: each lookup needs exactly one, and a plan with a sort, or
/// with a scan more than its lookups need, loses whatever the statistics say. Such plans look dear
/// enough to be compiled, and to be shared among workers, which read tables whole: never.
pub(super) const SETTINGS: [&str; 7] = [
    "SET LOCAL enable_sort = off",
    "SET LOCAL enable_seqscan = off",
    "SET LOCAL enable_indexscan = off",
    "SET LOCAL enable_bitmapscan = off",
    "SET LOCAL plan_cache_mode = force_generic_plan",
    "SET LOCAL jit = off",
    "SET LOCAL max_parallel_workers_per_gather = 0",
];

/// Gives the planner back what one of [`SETTINGS`] took; `jit` stays off.
pub(super) fn undo(setting: &str) -> String {
    let back = match setting {
        "SET LOCAL plan_cache_mode = force_generic_plan" => "SET LOCAL plan_cache_mode = auto",
        "SET LOCAL jit = off" => setting,
        "SET LOCAL max_parallel_workers_per_gather = 0" => {
            "SET LOCAL max_parallel_workers_per_gather = DEFAULT"
        }
        _ => return setting.replace("= off", "= on"),
    };
    back.to_owned()
}

/// `(SELECT columns FROM table WHERE partition_id = $1 AND key = value)`, with a lock if wanted.
macro_rules! one {
    ($columns:expr, $table:literal, $key:literal, $value:literal) => {
        one!($columns, $table, $key, $value, "")
    };
    ($columns:expr, $table:literal, $key:literal, $value:literal, $lock:literal) => {
        concat!(
            "(SELECT ",
            $columns,
            " FROM ",
            $table,
            " WHERE partition_id = $1 AND ",
            $key,
            " >= ",
            $value,
            " AND ",
            $key,
            " <= ",
            $value,
            " ORDER BY ",
            $key,
            " ",
            $lock,
            ")"
        )
    };
}

/// Deletes the rows of a table whose key is in `$2`, a list of numbers; `also` is a further
/// condition on row `t`.
macro_rules! delete_each {
    ($name:literal, $table:literal, $key:literal, $also:expr) => {
        concat!(
            "-- ",
            $name,
            "
    DELETE FROM ",
            $table,
            " USING unnest($2::bigint[]) AS n(key) CROSS JOIN LATERAL (
        SELECT t.ctid AS at FROM ",
            $table,
            " t
        WHERE t.partition_id = $1 AND t.",
            $key,
            " >= n.key AND t.",
            $key,
            " <= n.key",
            $also,
            "
        ORDER BY t.",
            $key,
            ") x
    WHERE ",
            $table,
            ".partition_id = $1 AND ",
            $table,
            ".ctid = x.at"
        )
    };
}

/// Conditions for [`delete_each`]: a series without instances, a study without series.
macro_rules! without_instances {
    () => {
        " AND (SELECT 1 FROM instance i
            WHERE i.partition_id = $1 AND i.series_key >= t.series_key
                AND i.series_key <= t.series_key
            ORDER BY i.series_key LIMIT 1) IS NULL"
    };
}
macro_rules! without_series {
    () => {
        " AND (SELECT 1 FROM series e
            WHERE e.partition_id = $1 AND e.study_key >= t.study_key
                AND e.study_key <= t.study_key
            ORDER BY e.study_key LIMIT 1) IS NULL"
    };
}

/// Conditions for [`delete_each`]: what belonged to a study or series that is gone.
macro_rules! without_study_row {
    () => {
        " AND (SELECT 1 FROM study s
            WHERE s.partition_id = $1 AND s.study_key >= t.study_key
                AND s.study_key <= t.study_key
            ORDER BY s.study_key) IS NULL"
    };
}
macro_rules! without_series_row {
    () => {
        " AND (SELECT 1 FROM series e
            WHERE e.partition_id = $1 AND e.series_key >= t.series_key
                AND e.series_key <= t.series_key
            ORDER BY e.series_key) IS NULL"
    };
}

/// The UIDs of the parents of instance `i`.
macro_rules! study_uid_of_i {
    () => {
        one!("study_instance_uid", "study", "study_key", "i.study_key")
    };
}
macro_rules! series_uid_of_i {
    () => {
        one!("series_instance_uid", "series", "series_key", "i.series_key")
    };
}

/// `FROM …`: the instance with the UID of the given parameter, as `i`.
macro_rules! from_instance {
    ($parameter:literal) => {
        concat!(" FROM ", one!("*", "instance", "sop_instance_uid", $parameter), " i")
    };
}

/// The key of study `$2`, and of a series of it.
macro_rules! study_key {
    () => {
        one!("study_key", "study", "study_instance_uid", "$2")
    };
}
macro_rules! series_key {
    ($series:literal) => {
        concat!(
            "(SELECT series_key FROM series WHERE partition_id = $1 AND study_key = ",
            study_key!(),
            " AND series_instance_uid >= ",
            $series,
            "
            AND series_instance_uid <= ",
            $series,
            " ORDER BY series_instance_uid)"
        )
    };
}

pub(super) use {
    delete_each, from_instance, one, series_key, series_uid_of_i, study_key, study_uid_of_i,
    without_instances, without_series, without_series_row, without_study_row,
};
