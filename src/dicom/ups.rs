//! Unified Procedure Steps, as PS3.4 Annex CC has them: states, what a workitem is made of, and what
//! it needs in the end.
//!
//! Owns [`State`] and its transitions, reports of events ([`events`]), and what Table CC.2.5-3 demands where a workitem is created
//! ([`create`]), changed ([`update`]) and ended ([`end`]). Holds: a data set that comes out of here
//! has no Transaction UID, which is the lock of who claimed the workitem; its state, UIDs and time of
//! modification are the server's. Pure: who has a workitem, and where it is kept, is not known here.
//! Absent: reading what clients send ([`super::sent`]).

pub mod events;
mod state;

use serde_json::{Map, Value, json};

use super::{Tag, Uid, data_set::DataSet, json::name, normalise};

pub use state::{Action, Refusal, State, change, may_update};

/// The SOP Class of every workitem (PS3.4 §CC.3.1).
pub const PUSH: &str = "1.2.840.10008.5.1.4.34.6.1";

/// Attributes of workitems that are looked at here.
pub mod tags {
    use crate::dicom::Tag;

    /// SOP Class UID.
    pub const SOP_CLASS: Tag = Tag(0x0008, 0x0016);
    /// SOP Instance UID.
    pub const SOP_INSTANCE: Tag = Tag(0x0008, 0x0018);
    /// Transaction UID: the lock.
    pub const TRANSACTION: Tag = Tag(0x0008, 0x1195);
    /// Patient ID.
    pub const PATIENT_ID: Tag = Tag(0x0010, 0x0020);
    /// Scheduled Procedure Step Start DateTime.
    pub const START: Tag = Tag(0x0040, 0x4005);
    /// Scheduled Procedure Step Modification DateTime.
    pub const MODIFIED: Tag = Tag(0x0040, 0x4010);
    /// Input Readiness State.
    pub const READINESS: Tag = Tag(0x0040, 0x4041);
    /// Procedure Step State.
    pub const STATE: Tag = Tag(0x0074, 0x1000);
    /// Progress Information Sequence.
    pub const PROGRESS: Tag = Tag(0x0074, 0x1002);
    /// Scheduled Procedure Step Priority.
    pub const PRIORITY: Tag = Tag(0x0074, 0x1200);
    /// Worklist Label.
    pub const WORKLIST_LABEL: Tag = Tag(0x0074, 0x1202);
    /// Procedure Step Label.
    pub const LABEL: Tag = Tag(0x0074, 0x1204);
    /// Unified Procedure Step Performed Procedure Sequence.
    pub const PERFORMED: Tag = Tag(0x0074, 0x1216);
    /// Procedure Step Cancellation DateTime.
    pub const CANCELED_AT: Tag = Tag(0x0040, 0x4052);
    /// Reason For Cancellation.
    pub const REASON: Tag = Tag(0x0074, 0x1238);
    /// Procedure Step Discontinuation Reason Code Sequence.
    pub const REASON_CODE: Tag = Tag(0x0074, 0x100E);
    /// Code Value, Long Code Value and URN Code Value.
    pub const CODE_VALUES: [Tag; 3] =
        [Tag(0x0008, 0x0100), Tag(0x0008, 0x0119), Tag(0x0008, 0x0120)];
    /// Code Meaning.
    pub const CODE_MEANING: Tag = Tag(0x0008, 0x0104);
}
use tags::{
    CANCELED_AT, CODE_MEANING, CODE_VALUES, LABEL, MODIFIED, PERFORMED, PRIORITY, PROGRESS,
    READINESS, REASON, REASON_CODE, SOP_CLASS, SOP_INSTANCE, START, STATE, TRANSACTION,
    WORKLIST_LABEL,
};

/// Of type 1: they are in every workitem, with a value.
const NEEDED: [Tag; 4] = [PRIORITY, LABEL, START, READINESS];

/// Of type 2: they are in every workitem, be they empty, with their VRs.
const PRESENT: [(Tag, &str); 22] = [
    (Tag(0x0008, 0x1080), "LO"),
    (Tag(0x0008, 0x1084), "SQ"),
    (Tag(0x0010, 0x0010), "PN"),
    (Tag(0x0010, 0x0020), "LO"),
    (Tag(0x0010, 0x0021), "LO"),
    (Tag(0x0010, 0x0024), "SQ"),
    (Tag(0x0010, 0x0030), "DA"),
    (Tag(0x0010, 0x0040), "CS"),
    (Tag(0x0010, 0x1002), "SQ"),
    (Tag(0x0020, 0x000D), "UI"),
    (Tag(0x0038, 0x0010), "LO"),
    (Tag(0x0038, 0x0014), "SQ"),
    (Tag(0x0040, 0x0400), "LT"),
    (Tag(0x0040, 0x4018), "SQ"),
    (Tag(0x0040, 0x4021), "SQ"),
    (Tag(0x0040, 0x4025), "SQ"),
    (Tag(0x0040, 0x4026), "SQ"),
    (Tag(0x0040, 0x4027), "SQ"),
    (Tag(0x0040, 0xA370), "SQ"),
    (Tag(0x0074, 0x1002), "SQ"),
    (Tag(0x0074, 0x1210), "SQ"),
    (Tag(0x0074, 0x1216), "SQ"),
];

/// What is of who scheduled the workitem, and of the server: not to be changed later.
const FIXED: [Tag; 15] = [
    SOP_CLASS,
    SOP_INSTANCE,
    Tag(0x0008, 0x1080),
    Tag(0x0008, 0x1084),
    Tag(0x0010, 0x0010),
    Tag(0x0010, 0x0020),
    Tag(0x0010, 0x0021),
    Tag(0x0010, 0x0024),
    Tag(0x0010, 0x0030),
    Tag(0x0010, 0x0040),
    Tag(0x0038, 0x0010),
    Tag(0x0038, 0x0014),
    Tag(0x0040, 0xA370),
    STATE,
    Tag(0x0074, 0x1224),
];

/// Sequences of codes, each item of which has to be one.
const CODES: [Tag; 5] = [
    Tag(0x0008, 0x1084),
    Tag(0x0040, 0x4018),
    Tag(0x0040, 0x4025),
    Tag(0x0040, 0x4026),
    Tag(0x0040, 0x4027),
];

/// What each item of the performed procedure needs of a completed workitem, with a value; and what
/// has to be there at least.
const OF_PERFORMED: [Tag; 4] =
    [Tag(0x0040, 0x4019), Tag(0x0040, 0x4028), Tag(0x0040, 0x4050), Tag(0x0040, 0x4051)];
const OUTPUT: Tag = Tag(0x0040, 0x4033);

/// Why a data set cannot be what it is sent for: the attribute, and the rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// The attribute.
    pub at: Tag,
    /// The rule.
    pub rule: &'static str,
}

fn wrong(at: Tag, rule: &'static str) -> Wrong {
    Wrong { at, rule }
}

/// A workitem that was created.
#[derive(Clone, Debug, PartialEq)]
pub struct Made {
    /// The data set.
    pub attributes: Map<String, Value>,
    /// Whether it says more than what was sent: it was made with modifications.
    pub is_modified: bool,
}

/// A text attribute of one value.
fn text(vr: &str, value: &str) -> Value {
    json!({ "vr": vr, "Value": [value] })
}

fn empty(vr: &str) -> Value {
    json!({ "vr": vr })
}

/// Whether an attribute is there and has a value. A sequence has one when it has an item.
fn has_value(attributes: &Map<String, Value>, tag: Tag) -> bool {
    let attribute = attributes.get(&name(tag)).and_then(Value::as_object);
    attribute.is_some_and(|attribute| attribute.contains_key("Value"))
}

fn items(attributes: &Map<String, Value>, tag: Tag) -> impl Iterator<Item = &Map<String, Value>> {
    let attribute = attributes.get(&name(tag)).and_then(|attribute| attribute.get("Value"));
    attribute.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object)
}

/// The value of an attribute that has one.
pub fn value_of(attributes: &Map<String, Value>, tag: Tag) -> Option<&str> {
    let values = attributes.get(&name(tag)).and_then(|attribute| attribute.get("Value"));
    match values.and_then(Value::as_array).map(Vec::as_slice) {
        Some([Value::String(text)]) => Some(text),
        _ => None,
    }
}

/// Puts the attributes in the order of their tags.
fn sorted(attributes: Map<String, Value>) -> Map<String, Value> {
    let mut all: Vec<(String, Value)> = attributes.into_iter().collect();
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    all.into_iter().collect()
}

/// The workitem that a request to create one makes (N-CREATE): SCHEDULED, and nobody's. `label` is
/// the Worklist Label of those that have none; `now` a DT.
///
/// # Errors
/// What breaks which rule.
pub fn create(
    mut sent: Map<String, Value>,
    uid: &Uid,
    label: &str,
    now: &str,
) -> Result<Made, Wrong> {
    if has_value(&sent, TRANSACTION) {
        return Err(wrong(TRANSACTION, "has to be empty where a workitem is created"));
    }
    sent.remove(&name(TRANSACTION));
    if value_of(&sent, STATE) != Some(State::Scheduled.as_str()) {
        return Err(wrong(STATE, "has to be SCHEDULED where a workitem is created"));
    }
    if sent.contains_key(&name(SOP_CLASS)) && value_of(&sent, SOP_CLASS) != Some(PUSH) {
        return Err(wrong(SOP_CLASS, "is that of Unified Procedure Step Push"));
    }
    for tag in [PROGRESS, PERFORMED] {
        if has_value(&sent, tag) {
            return Err(wrong(tag, "has to be empty where a workitem is created"));
        }
    }
    for tag in NEEDED {
        if !has_value(&sent, tag) {
            return Err(wrong(tag, "is needed, with a value (PS3.4 Table CC.2.5-3)"));
        }
    }
    check(&sent)?;
    let mut is_modified = false;
    if !has_value(&sent, WORKLIST_LABEL) {
        sent.insert(name(WORKLIST_LABEL), text("LO", label));
        is_modified = true;
    }
    for (tag, vr) in PRESENT {
        if !sent.contains_key(&name(tag)) {
            sent.insert(name(tag), empty(vr));
            is_modified = true;
        }
    }
    sent.insert(name(SOP_CLASS), text("UI", PUSH));
    sent.insert(name(SOP_INSTANCE), text("UI", uid.as_str()));
    sent.insert(name(MODIFIED), text("DT", now));
    Ok(Made { attributes: sorted(sent), is_modified })
}

/// A workitem changed as a request says (N-SET). What is sent takes the place of what was there,
/// sequences as a whole.
///
/// # Errors
/// What breaks which rule.
pub fn update(
    mut attributes: Map<String, Value>,
    mut sent: Map<String, Value>,
    now: &str,
) -> Result<Map<String, Value>, Wrong> {
    sent.remove(&name(TRANSACTION));
    for tag in FIXED {
        // Who sends back what he got changes nothing.
        let is_same = |value| attributes.get(&name(tag)) == Some(&value);
        if sent.remove(&name(tag)).is_some_and(|value| !is_same(value)) {
            return Err(wrong(tag, "is not to be changed (PS3.4 Table CC.2.5-3)"));
        }
    }
    for tag in NEEDED.into_iter().chain([WORKLIST_LABEL]) {
        if sent.contains_key(&name(tag)) && !has_value(&sent, tag) {
            return Err(wrong(tag, "is needed, with a value (PS3.4 Table CC.2.5-3)"));
        }
    }
    check(&sent)?;
    attributes.extend(sent);
    attributes.insert(name(MODIFIED), text("DT", now));
    Ok(sorted(attributes))
}

/// What holds for what is sent, whether a workitem is created or changed.
fn check(sent: &Map<String, Value>) -> Result<(), Wrong> {
    let among = |tag, words: &[&str], rule| match value_of(sent, tag) {
        Some(word) if words.contains(&word) => Ok(()),
        None if !has_value(sent, tag) => Ok(()),
        _ => Err(wrong(tag, rule)),
    };
    among(PRIORITY, &["HIGH", "MEDIUM", "LOW"], "one of HIGH, MEDIUM and LOW (PS3.3 §C.30.2)")?;
    among(
        READINESS,
        &["INCOMPLETE", "UNAVAILABLE", "READY"],
        "one of INCOMPLETE, UNAVAILABLE and READY (PS3.3 §C.30.2)",
    )?;
    for tag in [START, LABEL, WORKLIST_LABEL, tags::PATIENT_ID] {
        if has_value(sent, tag) && value_of(sent, tag).is_none() {
            return Err(wrong(tag, "has one value (PS3.6)"));
        }
    }
    for tag in [PROGRESS, PERFORMED] {
        if items(sent, tag).nth(1).is_some() {
            return Err(wrong(tag, "has one item at the most (PS3.3 §C.30.1, §C.30.3)"));
        }
    }
    CODES.into_iter().try_for_each(|tag| codes(sent, tag))
}

/// Whether the items of a sequence are codes (PS3.4 Table CC.2.5-2a).
fn codes(sent: &Map<String, Value>, tag: Tag) -> Result<(), Wrong> {
    let is_code = |item: &Map<String, Value>| {
        has_value(item, CODE_MEANING) && CODE_VALUES.iter().any(|tag| has_value(item, *tag))
    };
    match items(sent, tag).all(is_code) {
        true => Ok(()),
        false => Err(wrong(tag, "items have a code value and its meaning (PS3.3 §8)")),
    }
}

/// The workitem in another state than it was, one that it may have now: what it lacks of what only
/// the server can fill in is filled in.
///
/// # Errors
/// What it lacks of the requirements of a final state (PS3.4 §CC.2.5.1.1).
pub fn end(
    mut attributes: Map<String, Value>,
    state: State,
    now: &str,
) -> Result<Map<String, Value>, Wrong> {
    const LACKS: &str = "the workitem lacks it, and needs it in that state (PS3.4 Table CC.2.5-3)";
    match state {
        State::Scheduled | State::InProgress => {}
        State::Completed => {
            if !has_value(&attributes, PERFORMED) {
                return Err(wrong(PERFORMED, LACKS));
            }
            for item in items(&attributes, PERFORMED) {
                if let Some(tag) = OF_PERFORMED.into_iter().find(|tag| !has_value(item, *tag)) {
                    return Err(wrong(tag, LACKS));
                }
                if !item.contains_key(&name(OUTPUT)) {
                    return Err(wrong(OUTPUT, LACKS));
                }
            }
        }
        State::Canceled => {
            let mut progress = items(&attributes, PROGRESS).next().cloned().unwrap_or_default();
            if !has_value(&progress, REASON_CODE) {
                return Err(wrong(REASON_CODE, LACKS));
            }
            if !has_value(&progress, CANCELED_AT) {
                progress.insert(name(CANCELED_AT), text("DT", now));
            }
            put_progress(&mut attributes, progress);
        }
    }
    attributes.insert(name(MODIFIED), text("DT", now));
    Ok(sorted(attributes))
}

fn put_progress(attributes: &mut Map<String, Value>, progress: Map<String, Value>) {
    let items = json!({ "vr": "SQ", "Value": [sorted(progress)] });
    attributes.insert(name(PROGRESS), items);
}

/// What a request for cancellation says of why, where the server cancels the workitem itself: its
/// reason, or that there is none.
pub fn cancel_for(attributes: &mut Map<String, Value>, asked: &Map<String, Value>) {
    let mut progress = items(attributes, PROGRESS).next().cloned().unwrap_or_default();
    for tag in [REASON, REASON_CODE] {
        if let Some(said) = asked.get(&name(tag)).filter(|_| has_value(asked, tag)) {
            progress.insert(name(tag), said.clone());
        }
    }
    if !has_value(&progress, REASON_CODE) {
        let unspecified = json!({ "vr": "SQ", "Value": [{
            "00080100": text("SH", "110513"),
            "00080102": text("SH", "DCM"),
            "00080104": text("LO", "Discontinued for unspecified reason"),
        }] });
        progress.insert(name(REASON_CODE), unspecified);
    }
    put_progress(attributes, progress);
}

/// What a request for cancellation may say.
///
/// # Errors
/// What breaks which rule.
pub fn cancel_request(asked: &Map<String, Value>) -> Result<(), Wrong> {
    codes(asked, REASON_CODE)
}

/// The state that a request asks for.
///
/// # Errors
/// What breaks which rule.
pub fn wanted(asked: &Map<String, Value>) -> Result<State, Wrong> {
    let word = value_of(asked, STATE).and_then(State::of);
    word.ok_or(wrong(STATE, "one of IN PROGRESS, COMPLETED and CANCELED"))
}

/// The data set as it is kept and shown, with its state; what is beyond ASCII is said to be UTF-8.
pub fn written(mut attributes: Map<String, Value>, state: State) -> String {
    attributes.remove(&name(TRANSACTION));
    attributes.insert(name(STATE), text("CS", state.as_str()));
    let mut json = Value::Object(sorted(attributes.clone())).to_string();
    if !json.is_ascii() {
        attributes.insert(name(Tag(0x0008, 0x0005)), text("CS", "ISO_IR 192"));
        json = Value::Object(sorted(attributes)).to_string();
    }
    json
}

/// What workitems are found by: when they are to start, and whom they are about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// Scheduled Procedure Step Start DateTime, normalised.
    pub start: String,
    /// Patient ID, normalised.
    pub patient_id: Option<String>,
}

impl Keys {
    /// Those of a workitem.
    ///
    /// # Errors
    /// What breaks which rule.
    pub fn of(attributes: &Map<String, Value>) -> Result<Self, Wrong> {
        let start = value_of(attributes, START).unwrap_or_default();
        let start = normalise::date_time(start);
        let start = start.map_err(|_| wrong(START, "a date time (PS3.5 §6.2, DT)"))?;
        let patient_id = value_of(attributes, tags::PATIENT_ID).map(normalise::text).transpose();
        let patient_id = patient_id.map_err(|_| wrong(tags::PATIENT_ID, "at most 512 bytes"))?;
        Ok(Self { start, patient_id })
    }
}

/// A data set that is kept, read back.
pub fn read(json: &str) -> Option<Map<String, Value>> {
    DataSet::parse(json.as_bytes()).ok().map(DataSet::into_attributes)
}

#[cfg(test)]
mod tests;
