//! What the audit log tells of a batch of stores: one transaction serves many requests, and each has
//! an event for each study that it stored to.

use std::{collections::HashMap, sync::Arc};

use time::OffsetDateTime;

use super::writer::Row;
use crate::{
    audit::{Event, Outcome},
    index::{NewInstance, PartitionTx, Stored},
    tenancy::{Deed, PartitionId},
};

/// Instances of an event, by what became of them.
#[derive(Default)]
struct Counts {
    stored: u64,
    identical: u64,
    conflicting: u64,
    /// Refused, since a rejection note names them.
    rejected: u64,
    /// Of those that were stored.
    coerced: u64,
    /// Instances that rejection notes among those that were stored name.
    rejects: u64,
}

/// Tells the transaction what became of rows, which it stored.
pub(super) fn tell<'a>(
    tx: &mut PartitionTx,
    partition: &PartitionId,
    rows: impl Iterator<Item = (&'a Row, &'a NewInstance<'a>)>,
    stored: &[Stored],
) {
    let now = OffsetDateTime::now_utc();
    let mut places: HashMap<(*const Deed, &str), usize> = HashMap::new();
    let mut events: Vec<(&Arc<Deed>, Event, Counts)> = Vec::new();
    for ((row, new), stored) in rows.zip(stored) {
        let Some(deed) = &row.deed else { continue };
        let study = row.indexed.study.as_str();
        let place = *places.entry((Arc::as_ptr(deed), study)).or_insert_with(|| {
            let mut event = Event::of(deed, partition, now);
            event.study = Some(study.to_owned());
            events.push((deed, event, Counts::default()));
            events.len() - 1
        });
        let Some((_, event, counts)) = events.get_mut(place) else { continue };
        event.touch(row.indexed.instance.as_str());
        match stored {
            Stored::New { .. } => {
                counts.stored += 1;
                counts.coerced += u64::from(row.coerced.is_some());
                counts.rejects += new.rejects.map_or(0, |it| it.rejected.len() as u64);
            }
            Stored::Identical => counts.identical += 1,
            Stored::Conflict => counts.conflicting += 1,
            Stored::Rejected => counts.rejected += 1,
        }
    }
    for (deed, mut event, counts) in events {
        let Counts { stored, identical, conflicting, rejected, coerced, rejects } = counts;
        for (name, count) in [
            ("stored", stored),
            ("identical", identical),
            ("conflicting", conflicting),
            ("rejected", rejected),
            ("coerced", coerced),
            ("rejects", rejects),
        ] {
            if count > 0 {
                event.detail.insert(name.to_owned(), count.into());
            }
        }
        if stored + identical == 0 {
            (event.outcome, event.reason) = (Outcome::Failed, Some("conflict".to_owned()));
        }
        tx.audit_deed(deed, event);
    }
}
