//! An event of a change feed as JSON: one form for all who tell of it.
//!
//! The JSON is that of Microsoft's server. Absent: metadata, which is added as text by who tells it.

use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;

use super::{FeedAction, FeedEvent, FeedState};

/// How events are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryStyle {
    /// Whether they name their partition.
    pub partitions: bool,
    /// Whether words begin with a capital, as Microsoft's server writes them.
    pub capitals: bool,
}

/// An event under its number in the feed that is told.
pub fn entry(event: &FeedEvent, number: i64, style: EntryStyle) -> Value {
    let word = |[small, capital]: [&'static str; 2]| if style.capitals { capital } else { small };
    let mut shown = json!({ "sequence": number });
    if style.partitions {
        shown["partitionId"] = json!(event.partition.as_str());
    }
    shown["studyInstanceUid"] = json!(event.study.as_str());
    shown["seriesInstanceUid"] = json!(event.series.as_str());
    shown["sopInstanceUid"] = json!(event.instance.as_str());
    shown["action"] = json!(word([
        event.action.as_str(),
        match event.action {
            FeedAction::Create => "Create",
            FeedAction::Update => "Update",
            FeedAction::Delete => "Delete",
        },
    ]));
    shown["timestamp"] = json!(event.occurred_at.format(&Rfc3339).unwrap_or_default());
    shown["state"] = json!(word(match event.state {
        FeedState::Current => ["current", "Current"],
        FeedState::Replaced => ["replaced", "Replaced"],
        FeedState::Deleted => ["deleted", "Deleted"],
    }));
    shown
}
