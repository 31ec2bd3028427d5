//! What the audit log tells of a batch of stores: one transaction serves many requests, and each has
//! an event for each study that it stored to.

use std::{collections::HashMap, sync::Arc};

use time::OffsetDateTime;

use super::writer::Row;
use crate::{
    audit::{Event, Outcome},
    index::{PartitionTx, Stored},
    tenancy::{Deed, PartitionId},
};

/// Instances of an event, by what became of them.
#[derive(Default)]
struct Counts {
    stored: u64,
    identical: u64,
    conflicting: u64,
    /// Of those that were stored.
    coerced: u64,
}

/// Tells the transaction what became of rows, which it stored.
pub(super) fn tell<'a>(
    tx: &mut PartitionTx,
    partition: &PartitionId,
    rows: impl Iterator<Item = &'a Row>,
    stored: &[Stored],
) {
    let now = OffsetDateTime::now_utc();
    let mut places: HashMap<(*const Deed, &str), usize> = HashMap::new();
    let mut events: Vec<(&Arc<Deed>, Event, Counts)> = Vec::new();
    for (row, stored) in rows.zip(stored) {
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
            }
            Stored::Identical => counts.identical += 1,
            Stored::Conflict => counts.conflicting += 1,
        }
    }
    for (deed, mut event, counts) in events {
        let Counts { stored, identical, conflicting, coerced } = counts;
        for (name, count) in [
            ("stored", stored),
            ("identical", identical),
            ("conflicting", conflicting),
            ("coerced", coerced),
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
