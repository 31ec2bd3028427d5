//! Whether the audit log is as it was written: its chain is made anew from what is kept.
//!
//! Finds an event that was altered (its record gives another hash; or what it can be found by is not
//! what its record says), removed (its link is there, or a number is missing), put in (it has no
//! link), or moved (its hash does not follow from the one before). What goes on meanwhile is no
//! break: retention leaves a checkpoint, from which reading goes on.
//!
//! The hash has no key. So nothing in the database can show that the newest events of all were taken
//! away with their links, nor that its owner made the whole chain anew from some place on: for that
//! somebody else has to know numbers and hashes, as whoever receives the log does.

use std::time::Duration;

use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    audit::{Event, Link},
    index::{AuditKept, AuditLink, Db, IndexError},
    tenancy::{PartitionId, PartitionScope, Scope},
};

/// Links and events read at a time.
const PAGE: i64 = 1000;
/// Age from which an event must have its place in the chain.
const SOON: Duration = Duration::from_secs(300);
/// Most findings that are kept of a kind that does not end the chain.
const MOST: usize = 100;

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditBreak {
    /// A number is missing in the chain.
    Missing,
    /// The event of a link is not there.
    Removed,
    /// The hash of a link is not that of the one before and the event's record.
    Altered,
    /// What an event is found by is not what its record says.
    Misfiled,
    /// The checkpoint is not the one that the log tells of.
    Checkpoint,
    /// An event has no place in the chain, though it is old enough.
    Unlinked,
}

impl AuditBreak {
    /// The word for it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Missing => "link_missing",
            Self::Removed => "event_removed",
            Self::Altered => "event_altered",
            Self::Misfiled => "event_misfiled",
            Self::Checkpoint => "checkpoint_false",
            Self::Unlinked => "event_unlinked",
        }
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditFinding {
    /// What is wrong.
    pub what: AuditBreak,
    /// With which number, where it is about one.
    pub number: Option<i64>,
    /// With which event, where that is known.
    pub event: Option<Uuid>,
}

/// What came of one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditVerified {
    /// The partition.
    pub partition: PartitionId,
    /// The end of the chain, as far as it is sound.
    pub end: Link,
    /// The number behind which it begins.
    pub begins_after: i64,
    /// Links that were looked at.
    pub links: u64,
    /// What is wrong. A chain that is broken is not followed any further.
    pub findings: Vec<AuditFinding>,
}

impl AuditVerified {
    /// As JSON.
    pub fn shown(&self) -> Value {
        let hash: String = self.end.hash.iter().map(|byte| format!("{byte:02x}")).collect();
        let findings: Vec<Value> = self
            .findings
            .iter()
            .map(|found| {
                json!({ "kind": found.what.as_str(), "number": found.number, "event": found.event })
            })
            .collect();
        json!({
            "partition": self.partition.as_str(),
            "links": self.links,
            "beginsAfter": self.begins_after,
            "number": self.end.number,
            "hash": hash,
            "findings": findings,
        })
    }
}

/// Looks through the log of one partition.
///
/// # Errors
/// Where the index fails.
pub async fn audit_log(db: &Db, partition: &PartitionId) -> Result<AuditVerified, IndexError> {
    #[expect(clippy::disallowed_methods, reason = "verifying acts for no request")]
    let scope = Scope::for_maintenance(partition);
    let (begin, told) = checkpoint(db, &scope).await?;
    let mut verified = AuditVerified {
        partition: partition.clone(),
        end: begin,
        begins_after: begin.number,
        links: 0,
        findings: Vec::new(),
    };
    // The event that tells of the checkpoint, until it is come across.
    let mut awaited = told;
    let is_whole = loop {
        let page = db.begin_in(&scope).await?.audit_links(verified.end.number, PAGE).await?;
        if page.is_empty() {
            break true;
        }
        let mut is_broken = false;
        for link in &page {
            if link.number != verified.end.number + 1 {
                let (later, told) = checkpoint(db, &scope).await?;
                if later.number > verified.end.number {
                    // Retention came by: what it removed was sound, or it would have stayed.
                    (verified.end, awaited) = (later, told);
                    verified.begins_after = later.number;
                    break;
                }
                is_broken = verified.broken(AuditBreak::Missing, verified.end.number + 1, None);
                break;
            }
            match examine(&verified.end, link) {
                Some(what) if what != AuditBreak::Misfiled => {
                    is_broken = verified.broken(what, link.number, Some(link.event));
                    break;
                }
                Some(what) => verified.note(what, Some(link.number), Some(link.event)),
                None => {}
            }
            if awaited == Some(link.event) {
                awaited = None;
                if !tells(link, verified.begins_after) {
                    verified.note(AuditBreak::Checkpoint, Some(link.number), Some(link.event));
                }
            }
            verified.end = verified.end.next(record(link));
            verified.links += 1;
        }
        if is_broken {
            break false;
        }
    };
    unlinked(db, &scope, &mut verified).await?;
    if let Some(event) = awaited.filter(|_| is_whole) {
        // It may wait for its place still.
        if !db.begin_in(&scope).await?.audit_pending().await? {
            let number = verified.begins_after;
            verified.note(AuditBreak::Checkpoint, Some(number), Some(event));
        }
    }
    Ok(verified)
}

impl AuditVerified {
    fn note(&mut self, what: AuditBreak, number: Option<i64>, event: Option<Uuid>) {
        if self.findings.len() < MOST {
            self.findings.push(AuditFinding { what, number, event });
        }
    }

    /// Notes where the chain breaks.
    fn broken(&mut self, what: AuditBreak, number: i64, event: Option<Uuid>) -> bool {
        self.note(what, Some(number), event);
        true
    }
}

async fn checkpoint(db: &Db, scope: &PartitionScope) -> Result<(Link, Option<Uuid>), IndexError> {
    let found = db.begin_in(scope).await?.audit_checkpoint().await?;
    Ok(found.map_or((Link::START, None), |(link, event)| (link, Some(event))))
}

fn record(link: &AuditLink) -> &str {
    link.kept.as_ref().map_or("", |kept| &kept.record)
}

/// What is wrong with a link that follows another.
fn examine(before: &Link, link: &AuditLink) -> Option<AuditBreak> {
    let Some(kept) = &link.kept else { return Some(AuditBreak::Removed) };
    if before.next(&kept.record).hash[..] != link.hash[..] {
        return Some(AuditBreak::Altered);
    }
    (!is_filed(link, kept)).then_some(AuditBreak::Misfiled)
}

/// Whether an event is found by what its record says.
fn is_filed(link: &AuditLink, kept: &AuditKept) -> bool {
    let Ok(event) = Event::read(&kept.record) else { return false };
    let says: [Option<&str>; 6] = [
        event.who.issuer.as_deref(),
        event.who.subject.as_deref(),
        Some(&event.action),
        Some(event.outcome.as_str()),
        event.study.as_deref(),
        Some(&*event.request).filter(|id| !id.is_empty()),
    ];
    let kept_as = kept.columns.iter().map(Option::as_deref);
    event.id == link.event && event.at == kept.at && says.into_iter().eq(kept_as)
}

/// Whether an event tells of the checkpoint behind which the chain begins.
fn tells(link: &AuditLink, number: i64) -> bool {
    let event = link.kept.as_ref().and_then(|kept| Event::read(&kept.record).ok());
    event.is_some_and(|event| {
        event.action == "audit.forget" && event.detail.get("number") == Some(&json!(number))
    })
}

/// Finds events that have no place in the chain.
async fn unlinked(
    db: &Db,
    scope: &PartitionScope,
    verified: &mut AuditVerified,
) -> Result<(), IndexError> {
    let until = OffsetDateTime::now_utc() - SOON;
    let mut after = (time::macros::datetime!(0001-01-01 0:00 UTC), Uuid::nil());
    loop {
        let page = db.begin_in(scope).await?.audit_linked(after, until, PAGE).await?;
        for event in page.iter().filter(|event| event.number.is_none()) {
            verified.note(AuditBreak::Unlinked, None, Some(event.event));
        }
        match page.last() {
            Some(last) if page.len() as i64 == PAGE => after = (last.at, last.event),
            _ => return Ok(()),
        }
    }
}
