//! Search over several partitions, whose rows no index has in common order.
//!
//! In rounds: each partition is asked for a few rows, in its own order, all in one statement; what
//! they show is merged. A partition that gave all that it was asked for may have more: it is asked
//! again, from where it ended, down to the row that the page cannot reach beyond. Two or three rounds
//! do, whether the rows are spread evenly or one partition has them all.
//!
//! Holds: a statement goes through partitions of the scope and no others, and narrows the scope to
//! each in turn, so that row-level security holds as ever; afterwards the scope is not known, and
//! set anew by whoever comes next.

use std::collections::HashMap;

use super::{
    IndexError, RowKey, ScopedTx, SearchPlan,
    candidates::{After, Candidates, Reach},
    filter::{Of, Sql},
    keys::{NARROWED, compare, reach, read},
    registry,
};
use crate::tenancy::PartitionId;

/// A partition that may have more, and where it is to go on, once it has begun.
struct Open {
    id: PartitionId,
    place: i64,
    key: i64,
}

impl ScopedTx {
    /// The first `wanted` keys that the plan finds in some partitions of the scope, in order.
    pub(super) async fn keys_merged(
        &mut self,
        plan: &SearchPlan,
        partitions: &[PartitionId],
        wanted: i64,
    ) -> Result<Vec<RowKey>, IndexError> {
        let candidates = Candidates::of(plan)?;
        let enough = usize::try_from(wanted).unwrap_or(usize::MAX);
        let mut open: Vec<Open> =
            partitions.iter().map(|id| Open { id: id.clone(), place: 0, key: 0 }).collect();
        // All begin at the same place, which costs less than one for each.
        let mut after = reach(plan).after;
        let mut best: Vec<RowKey> = Vec::new();
        while !open.is_empty() {
            let asked = wanted / i64::try_from(open.len()).unwrap_or(i64::MAX) + 1;
            let floor = best.get(enough - 1).map(|row| (row.place, row.key));
            let found = self.round(&candidates, &open, Reach { after, floor }, asked).await?;
            after = Some(After::Each);
            let mut ends: HashMap<&PartitionId, (i64, &RowKey)> = HashMap::new();
            for row in &found {
                let end = ends.entry(&row.partition).or_insert((0, row));
                end.0 += 1;
                if compare(end.1, row, plan.level).is_lt() {
                    end.1 = row;
                }
            }
            let mut more: Vec<RowKey> = ends
                .into_values()
                .filter(|(count, _)| *count >= asked)
                .map(|(_, r)| r.clone())
                .collect();
            best.extend(found);
            best.sort_by(|one, other| compare(one, other, plan.level));
            best.truncate(enough);
            if let Some(floor) = best.get(enough - 1) {
                more.retain(|row| compare(row, floor, plan.level).is_lt());
            }
            open = more
                .into_iter()
                .map(|row| Open { id: row.partition, place: row.place, key: row.key })
                .collect();
        }
        Ok(best)
    }

    async fn round(
        &mut self,
        candidates: &Candidates<'_>,
        open: &[Open],
        reach: Reach,
        asked: i64,
    ) -> Result<Vec<RowKey>, IndexError> {
        let ids: Vec<&str> = open.iter().map(|open| open.id.as_str()).collect();
        let places: Vec<i64> = open.iter().map(|open| open.place).collect();
        let keys: Vec<i64> = open.iter().map(|open| open.key).collect();
        let make = |opening| {
            let mut sql = Sql::new(opening);
            sql.push("SELECT scope.id, k.key, k.place FROM unnest(").push_bind(&ids);
            sql.push("::text[], ").push_bind(&places).push("::bigint[], ").push_bind(&keys);
            sql.push("::bigint[]) AS n(id, place, key)").push(NARROWED);
            sql.push(" CROSS JOIN LATERAL (");
            candidates.push(&mut sql, candidates.in_order(), Of::Each, reach)?.push_order(&mut sql);
            sql.push(" LIMIT ").push_bind(asked).push(") k");
            Ok(sql)
        };
        self.settle_for(&[]).await?;
        self.unsettle();
        let rows = self.fetch("-- search_round\n", &make).await?;
        rows.iter().map(|row| read(row, 1, registry::partition(row, 0)?)).collect()
    }
}
