//! The sections of the configuration that are about what runs in the background, and about how long
//! things are kept.

use std::time::Duration;

use super::reader::Reader;

const KIB: u64 = 1 << 10;
const TIB: u64 = 1 << 40;
const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

/// `[operations]`: work that outlives the request which asked for it.
#[derive(Clone, Debug)]
pub struct OperationsConfig {
    /// `operations.retention`: time for which an operation that has ended is remembered.
    pub retention: Duration,
    /// `operations.reindex_share`: share of the time that a reindex works, above 0 and up to 1.
    pub reindex_share: f64,
}

impl OperationsConfig {
    pub(super) fn read(r: &mut Reader) -> Self {
        Self {
            retention: r.time("operations.retention", 60..=3650 * DAY),
            reindex_share: r.share("operations.reindex_share", 0.01..=1.0),
        }
    }
}

/// `[change_feed]`: what happened to instances, for those who follow it.
#[derive(Clone, Debug)]
pub struct ChangeFeedConfig {
    /// `change_feed.max_wait`: longest time that a request waits for events.
    pub max_wait: Duration,
    /// `change_feed.retention`: age from which events are removed; zero: never.
    pub retention: Duration,
}

impl ChangeFeedConfig {
    pub(super) fn read(r: &mut Reader) -> Self {
        Self {
            max_wait: r.time("change_feed.max_wait", 0..=HOUR),
            retention: r.time("change_feed.retention", 0..=36_500 * DAY),
        }
    }
}

/// `[delete]`: what happens to deleted bytes.
#[derive(Clone, Debug)]
pub struct DeleteConfig {
    /// `delete.grace_period`: time until deleted bytes are removed.
    pub grace_period: Duration,
    /// `delete.tombstones`: time for which it is remembered what was deleted; zero: for ever.
    pub tombstones: Duration,
}

impl DeleteConfig {
    pub(super) fn read(r: &mut Reader) -> Self {
        let config = Self {
            grace_period: r.time("delete.grace_period", 0..=3650 * DAY),
            tombstones: r.time("delete.tombstones", 0..=36_500 * DAY),
        };
        // What a store that is repeated must know is forgotten no sooner than that can be.
        if !config.tombstones.is_zero() && config.tombstones < Duration::from_secs(DAY) {
            r.refuse("delete.tombstones", "\"0s\", or a time from 1day");
        }
        config
    }
}

/// What a rejection note does with what it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejected {
    /// Nobody finds or reads it, until the note is deleted.
    Hide,
    /// It stays as it is.
    Show,
    /// It is deleted.
    Delete,
}

/// `[rejection]`: rejection notes, by their titles.
#[derive(Clone, Debug)]
pub struct RejectionConfig {
    /// `rejection.quality`: Rejected for Quality Reasons.
    pub quality: Rejected,
    /// `rejection.patient_safety`: Rejected for Patient Safety Reasons.
    pub patient_safety: Rejected,
    /// `rejection.worklist_entry`: Incorrect Modality Worklist Entry.
    pub worklist_entry: Rejected,
    /// `rejection.retention_expired`: Data Retention Policy Expired.
    pub retention_expired: Rejected,
}

impl RejectionConfig {
    pub(super) fn read(r: &mut Reader) -> Self {
        let choices =
            [("hide", Rejected::Hide), ("show", Rejected::Show), ("delete", Rejected::Delete)];
        Self {
            quality: r.choice("rejection.quality", &choices[..2]),
            patient_safety: r.choice("rejection.patient_safety", &choices[..2]),
            worklist_entry: r.choice("rejection.worklist_entry", &choices[..2]),
            retention_expired: r.choice("rejection.retention_expired", &choices),
        }
    }
}

/// `[compaction]`: blobs that hold bytes of deleted instances beside others.
#[derive(Clone, Debug)]
pub struct CompactionConfig {
    /// `compaction.dead_share`: share of dead bytes from which a blob is rewritten, above 0 and up
    /// to 1.
    pub dead_share: f64,
    /// `compaction.min_bytes`: dead bytes from which it is.
    pub min_bytes: u64,
    /// `compaction.linger`: time for which the old blob stays, for requests that know it.
    pub linger: Duration,
}

impl CompactionConfig {
    pub(super) fn read(r: &mut Reader) -> Self {
        Self {
            dead_share: r.share("compaction.dead_share", 0.01..=1.0),
            min_bytes: r.size("compaction.min_bytes", 0..=TIB),
            linger: r.time("compaction.linger", 0..=DAY),
        }
    }
}

/// `[sweep]`: the background tasks that remove blobs.
#[derive(Clone, Debug)]
pub struct SweepConfig {
    /// `sweep.interval`: time between two rounds.
    pub interval: Duration,
    /// `sweep.orphan_grace`: age from which a blob without rows is an orphan.
    pub orphan_grace: Duration,
}

impl SweepConfig {
    pub(super) fn read(r: &mut Reader) -> Self {
        Self {
            interval: r.time("sweep.interval", 1..=30 * DAY),
            orphan_grace: r.time("sweep.orphan_grace", 60..=3650 * DAY),
        }
    }
}

/// `[commitment]`: what is checked for who asks for storage commitment.
#[derive(Clone, Debug)]
pub struct CommitmentConfig {
    /// `commitment.keep`: time for which a result can be had.
    pub keep: Duration,
    /// `commitment.max_instances`: most instances of one request.
    pub max_instances: u32,
    /// `commitment.rate`: bytes that are read in a second.
    pub rate: u64,
}

impl CommitmentConfig {
    pub(super) fn read(r: &mut Reader) -> Self {
        Self {
            keep: r.time("commitment.keep", 60..=3650 * DAY),
            max_instances: r.count("commitment.max_instances", 1..=100_000),
            rate: r.size("commitment.rate", 64 * KIB..=TIB),
        }
    }
}

/// `[scrub]`: the background task that looks for damage.
#[derive(Clone, Debug)]
pub struct ScrubConfig {
    /// `scrub.interval`: time from the beginning of a pass to that of the next; zero: none.
    pub interval: Duration,
    /// `scrub.rate`: bytes that are read in a second.
    pub rate: u64,
}

impl ScrubConfig {
    pub(super) fn read(r: &mut Reader) -> Self {
        Self {
            interval: r.time("scrub.interval", 0..=3650 * DAY),
            rate: r.size("scrub.rate", 64 * KIB..=TIB),
        }
    }
}
