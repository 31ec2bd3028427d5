//! Store (PS3.18 §10.5): what is taken, what is refused, and how each is told.

mod bodies;
mod coercion;
mod instances;
mod limits;
mod metadata;
mod outcome;

use serde_json::Value;

use crate::harness::Answer;

/// (SOP Instance UID, Failure Reason) of (0008,1198).
fn failed(answer: &Answer) -> Vec<(String, u64)> {
    items(answer, "00081198")
        .iter()
        .map(|item| (text(item, "00081155"), item["00081197"]["Value"][0].as_u64().unwrap()))
        .collect()
}

/// Failure Reasons of (0008,119A).
fn others(answer: &Answer) -> Vec<u64> {
    let reason = |item: &Value| item["00081197"]["Value"][0].as_u64().unwrap();
    items(answer, "0008119A").iter().map(reason).collect()
}

/// SOP Instance UIDs of (0008,1199).
fn stored(answer: &Answer) -> Vec<String> {
    items(answer, "00081199").iter().map(|item| text(item, "00081155")).collect()
}

fn items(answer: &Answer, sequence: &str) -> Vec<Value> {
    answer.json()[sequence]["Value"].as_array().cloned().unwrap_or_default()
}

fn text(item: &Value, tag: &str) -> String {
    item[tag]["Value"][0].as_str().unwrap_or_default().to_owned()
}
