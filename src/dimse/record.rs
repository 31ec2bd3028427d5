//! What metrics and the audit log have of messages, as they have it of requests.
//!
//! Holds: a message never waits for the log; a partition's log has nothing of who cannot reach it.

use std::net::IpAddr;

use time::OffsetDateTime;

use super::{
    Gateway,
    command::{field, status},
    door::Shut,
};
use crate::{
    audit::{Event, Outcome, Who},
    control::{AuditNote, AuditPlace, ControlError},
    telemetry::names,
    tenancy::{Deed, PartitionId, Permission, Principal, Refused},
};

/// Counts a message.
pub(super) fn count(of: u16, answered: u16) {
    let operation = match of {
        field::ECHO => "c-echo",
        field::STORE => "c-store",
        field::FIND => "c-find",
        field::GET => "c-get",
        field::MOVE => "c-move",
        _ => "other",
    };
    let labels = [(names::OPERATION, operation), (names::OUTCOME, word(answered))];
    metrics::counter!(names::DIMSE_MESSAGES, &labels).increment(1);
}

/// What a status is, in a word.
fn word(answered: u16) -> &'static str {
    match answered {
        status::SUCCESS => "success",
        0xB000..=0xBFFF => "warning",
        status::CANCELED => "canceled",
        status::NOT_AUTHORIZED | status::SOP_CLASS_NOT_SUPPORTED => "refused",
        _ => "failure",
    }
}

/// Whoever asked for an association did not get it.
pub(super) fn turned_away(
    gateway: &Gateway,
    (calling, called): (&str, &str),
    address: IpAddr,
    shut: Shut,
) {
    let by = ("DIMSE", "A-ASSOCIATE");
    // What it was for is not known yet.
    let deed = Deed::new(Principal::Anonymous, address, "", Permission::Retrieve, by, Vec::new());
    let mut event = Event::of(&deed, &PartitionId::platform(), OffsetDateTime::now_utc());
    event.who = Who::plain("unknown");
    event.outcome = Outcome::Refused;
    event.reason = Some(if shut == Shut::Calling { "credential" } else { "hidden" }.to_owned());
    let shown = |title: &str| {
        let plain = title.chars().filter(|c| (' '..='~').contains(c)).take(16);
        serde_json::Value::from(plain.collect::<String>())
    };
    event.detail.insert("calling".to_owned(), shown(calling));
    event.detail.insert("called".to_owned(), shown(called));
    gateway.audit.put(AuditNote { event, place: AuditPlace::Platform, changes: false });
    tracing::info!(%address, reason = event_reason(shut), "an association was rejected");
}

fn event_reason(shut: Shut) -> &'static str {
    match shut {
        Shut::Calling => "calling-ae-title",
        Shut::Called => "called-ae-title",
        Shut::Unavailable => "unavailable",
    }
}

/// A message was answered with this status, or given up (`None`).
pub(super) fn ended(
    gateway: &Gateway,
    deed: &Deed,
    partition: &PartitionId,
    answered: Option<u16>,
) {
    let is_bad = answered.is_none_or(|status| !matches!(word(status), "success" | "warning"));
    let changes = deed.permission.changes();
    let is_wanted = match changes {
        true => !deed.is_recorded() || answered.is_none(),
        false => gateway.audit.records_reads(),
    };
    if !is_wanted {
        return;
    }
    let mut event = Event::of(deed, partition, OffsetDateTime::now_utc());
    event.outcome = if is_bad { Outcome::Failed } else { Outcome::Success };
    event.reason = is_bad.then(|| answered.map_or("abandoned", word).to_owned());
    event.status = answered;
    let place = AuditPlace::Partition(partition.clone());
    gateway.audit.put(AuditNote { event, place, changes });
}

/// A message was refused.
pub(super) fn refused(
    gateway: &Gateway,
    deed: &Deed,
    partition: &PartitionId,
    error: &ControlError,
) {
    let changes = deed.permission.changes();
    if !changes && !gateway.audit.records_reads() {
        return;
    }
    let mut event = Event::of(deed, &PartitionId::platform(), OffsetDateTime::now_utc());
    event.status = Some(status::NOT_AUTHORIZED);
    let place = match error {
        ControlError::Refused(Refused::Denied(denied)) => {
            event.reason = Some(denied.as_str().to_owned());
            AuditPlace::Partition(partition.clone())
        }
        _ => {
            event.reason = Some("hidden".to_owned());
            event.detail.insert("partition".to_owned(), partition.as_str().into());
            AuditPlace::Platform
        }
    };
    event.outcome = match error {
        ControlError::Refused(_) => Outcome::Refused,
        ControlError::Index(_) => Outcome::Failed,
    };
    gateway.audit.put(AuditNote { event, place, changes });
}
