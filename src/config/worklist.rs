//! `[worklist]`: workitems (PS3.18 chapter 11).

use std::time::Duration;

use super::reader::Reader;

const DAY: u64 = 24 * 3600;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// `[worklist]`: what a partition's worklist holds and gives.
#[derive(Clone, Debug)]
pub struct WorklistConfig {
    /// `worklist.max_workitem_bytes`: longest workitem, as DICOM JSON, and longest body of one.
    pub max_workitem_bytes: u64,
    /// `worklist.max_workitems`: most workitems in one answer.
    pub max_workitems: u32,
    /// `worklist.max_answer_bytes`: longest answer to a search.
    pub max_answer_bytes: u64,
    /// `worklist.default_label`: Worklist Label of workitems that come without one.
    pub default_label: String,
    /// `worklist.retention`: time for which a workitem that has ended is kept; zero: for ever.
    pub retention: Duration,
    /// `worklist.max_subscribers`: most Application Entities of one partition that watch workitems or
    /// have a channel.
    pub max_subscribers: u32,
    /// `worklist.max_events`: most events that are kept for one that is not told.
    pub max_events: u32,
    /// `worklist.event_retention`: age from which events are not kept; zero: none.
    pub event_retention: Duration,
}

impl WorklistConfig {
    pub(super) fn read(r: &mut Reader) -> Self {
        let config = Self {
            max_workitem_bytes: r.size("worklist.max_workitem_bytes", 4 * KIB..=16 * MIB),
            max_workitems: r.count("worklist.max_workitems", 1..=10_000),
            max_answer_bytes: r.size("worklist.max_answer_bytes", 64 * KIB..=1024 * MIB),
            default_label: r.text("worklist.default_label"),
            retention: r.time("worklist.retention", 0..=36_500 * DAY),
            max_subscribers: r.count("worklist.max_subscribers", 1..=10_000),
            max_events: r.count("worklist.max_events", 1..=1_000_000),
            event_retention: r.time("worklist.event_retention", 0..=3650 * DAY),
        };
        let label = config.default_label.trim();
        if label.is_empty() || label.chars().count() > 64 || label.chars().any(char::is_control) {
            r.refuse("worklist.default_label", "a text of 1 to 64 characters");
        }
        config
    }
}
