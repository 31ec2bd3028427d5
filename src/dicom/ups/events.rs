//! Reports of events of workitems (PS3.4 §CC.2.4, PS3.18 §11.13): when there is one, and what it says.
//!
//! Holds: a report has the attributes of Table CC.2.4-1, and that of Assigned the sequence of which
//! the text beside it speaks; so none has a Transaction UID. Absent: to whom it goes.

use serde_json::{Map, Value};

use super::{
    State, empty, has_value, items,
    tags::{PROGRESS, READINESS, REASON, REASON_CODE, STATE},
    text,
};
use crate::dicom::{AeTitle, Tag, Uid, json::name};

/// The well-known instance that stands for all workitems (PS3.4 §CC.3.1.1).
pub const GLOBAL: &str = "1.2.840.10008.5.1.4.34.5";
/// The one that stands for those that pass a filter.
pub const FILTERED: &str = "1.2.840.10008.5.1.4.34.5.1";
/// The SOP Class of event reports: UPS Event.
const EVENT: &str = "1.2.840.10008.5.1.4.34.6.4";

const STATIONS: Tag = Tag(0x0040, 0x4025);
const PERFORMERS: Tag = Tag(0x0040, 0x4034);
const PERFORMER_CODE: Tag = Tag(0x0040, 0x4009);
const ORGANISATION: Tag = Tag(0x0040, 0x4036);
const CONTACT: Tag = Tag(0x0074, 0x100A);
const CONTACT_NAME: Tag = Tag(0x0074, 0x100C);
const REQUESTING_AE: Tag = Tag(0x0074, 0x1236);
const SCP_STATUS: Tag = Tag(0x0074, 0x1242);
const SUBSCRIPTIONS_STATUS: Tag = Tag(0x0074, 0x1244);
const WORKITEMS_STATUS: Tag = Tag(0x0074, 0x1246);

/// Of an item of the Progress Information Sequence: how far it is, in words, by which parameters, and
/// whom to ask.
const PROGRESSES: [Tag; 4] =
    [Tag(0x0074, 0x1004), Tag(0x0074, 0x1006), Tag(0x0074, 0x1007), Tag(0x0074, 0x1008)];

/// The requester that is told where a request for cancellation names none.
const SERVER: &str = "COLLIMATOR";

/// Event Type ID (0000,1002).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    /// Its state, or that of its input.
    StateReport,
    /// Somebody wants it cancelled.
    CancelRequested,
    /// How far it is.
    ProgressReport,
    /// What becomes of the server.
    ScpStatusChange,
    /// Who is to perform it.
    Assigned,
}

impl EventType {
    const ALL: [Self; 5] = [
        Self::StateReport,
        Self::CancelRequested,
        Self::ProgressReport,
        Self::ScpStatusChange,
        Self::Assigned,
    ];

    /// Its number.
    pub const fn id(self) -> i16 {
        match self {
            Self::StateReport => 1,
            Self::CancelRequested => 2,
            Self::ProgressReport => 3,
            Self::ScpStatusChange => 4,
            Self::Assigned => 5,
        }
    }

    /// That of a number.
    pub fn of(id: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.id() == id)
    }
}

/// What is told of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Its type.
    pub kind: EventType,
    /// Its attributes, a DICOM JSON object.
    pub attributes: String,
}

impl Report {
    /// `attributes` in the order of their tags.
    fn of(kind: EventType, attributes: Vec<(Tag, Value)>) -> Self {
        let attributes = attributes.into_iter().map(|(tag, value)| (name(tag), value));
        Self { kind, attributes: Value::Object(attributes.collect()).to_string() }
    }
}

/// What becomes of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScpStatus {
    /// It was away; what it has was kept.
    Restarted,
    /// It will be away.
    GoingDown,
}

/// A report of what becomes of the server, which keeps subscriptions and workitems.
pub fn scp_status(status: ScpStatus) -> Report {
    let word = match status {
        ScpStatus::Restarted => "RESTARTED",
        ScpStatus::GoingDown => "GOING DOWN",
    };
    let attributes = vec![
        (SCP_STATUS, text("CS", word)),
        (SUBSCRIPTIONS_STATUS, text("CS", "WARM START")),
        (WORKITEMS_STATUS, text("CS", "WARM START")),
    ];
    Report::of(EventType::ScpStatusChange, attributes)
}

/// The state of a workitem, from the attributes that say it; each a DICOM JSON attribute.
pub fn current_state(state: &str, readiness: &str) -> Report {
    let attributes = format!(r#"{{"{}":{readiness},"{}":{state}}}"#, name(READINESS), name(STATE));
    Report { kind: EventType::StateReport, attributes }
}

/// That of a workitem that has some state; of one that was cancelled also why.
fn state_report(state: State, attributes: &Map<String, Value>) -> Report {
    let readiness = attributes.get(&name(READINESS)).cloned().unwrap_or_else(|| empty("CS"));
    let progress = items(attributes, PROGRESS).next().filter(|_| state == State::Canceled);
    let said = |tag| Some((tag, valued(progress?, tag)?));
    let first = [(READINESS, readiness), (STATE, text("CS", state.as_str()))];
    let all = first.into_iter().chain(said(REASON_CODE)).chain(said(REASON));
    Report::of(EventType::StateReport, all.collect())
}

fn valued(attributes: &Map<String, Value>, tag: Tag) -> Option<Value> {
    attributes.get(&name(tag)).filter(|_| has_value(attributes, tag)).cloned()
}

/// Who is to perform a workitem, as far as it says so. The table has codes and organisations of human
/// performers without their items; the whole sequence, of which the text speaks, stands beside them.
fn assigned(attributes: &Map<String, Value>) -> Report {
    let codes: Vec<Value> = items(attributes, PERFORMERS)
        .flat_map(|performer| items(performer, PERFORMER_CODE))
        .map(|code| Value::Object(code.clone()))
        .collect();
    let codes = (!codes.is_empty()).then(|| serde_json::json!({ "vr": "SQ", "Value": codes }));
    let organisation =
        items(attributes, PERFORMERS).find_map(|performer| valued(performer, ORGANISATION));
    let all = [
        (PERFORMER_CODE, codes),
        (STATIONS, valued(attributes, STATIONS)),
        (PERFORMERS, valued(attributes, PERFORMERS)),
        (ORGANISATION, organisation),
    ];
    let all = all.into_iter().filter_map(|(tag, value)| Some((tag, value?)));
    Report::of(EventType::Assigned, all.collect())
}

/// What is told of a workitem that was created.
pub fn created(attributes: &Map<String, Value>) -> Vec<Report> {
    let is_assigned = has_value(attributes, STATIONS) || has_value(attributes, PERFORMERS);
    let own = [state_report(State::Scheduled, attributes)];
    own.into_iter().chain(is_assigned.then(|| assigned(attributes))).collect()
}

/// What is told of a workitem that was changed: what it was before, and what it is.
pub fn changed(
    (was, before): (State, &Map<String, Value>),
    (is, after): (State, &Map<String, Value>),
) -> Vec<Report> {
    let differs = |tag| before.get(&name(tag)) != after.get(&name(tag));
    let progress = |attributes: &Map<String, Value>| {
        let item = items(attributes, PROGRESS).next();
        PROGRESSES.map(|tag| item.and_then(|item| item.get(&name(tag)).cloned()))
    };
    let mut reports = Vec::new();
    if was != is || differs(READINESS) {
        reports.push(state_report(is, after));
    }
    if progress(before) != progress(after) {
        let now = after.get(&name(PROGRESS)).cloned().unwrap_or_else(|| empty("SQ"));
        reports.push(Report::of(EventType::ProgressReport, vec![(PROGRESS, now)]));
    }
    if differs(STATIONS) || differs(PERFORMERS) {
        reports.push(assigned(after));
    }
    reports
}

/// What is told of a request for cancellation that says `asked`.
pub fn cancel_requested(asked: &Map<String, Value>) -> Report {
    let title = super::value_of(asked, REQUESTING_AE).and_then(|text| text.parse::<AeTitle>().ok());
    let title = title.as_ref().map_or(SERVER, AeTitle::as_str);
    let said = |tag| Some((tag, valued(asked, tag)?));
    let first = [CONTACT, CONTACT_NAME, REASON_CODE].into_iter().filter_map(said);
    let all = first.chain([(REQUESTING_AE, text("AE", title))]).chain(said(REASON));
    Report::of(EventType::CancelRequested, all.collect())
}

/// The data set that a channel sends: the report, with what identifies it (PS3.7 §10.1.1).
pub fn message(report: &Report, uid: &str, number: u16) -> String {
    let Report { kind, attributes } = report;
    let utf8 = match attributes.is_ascii() {
        true => "",
        false => r#""00080005":{"vr":"CS","Value":["ISO_IR 192"]},"#,
    };
    format!(
        r#"{{"00000002":{{"vr":"UI","Value":["{EVENT}"]}},"00000110":{{"vr":"US","Value":[{number}]}},"00001000":{{"vr":"UI","Value":["{uid}"]}},"00001002":{{"vr":"US","Value":[{id}]}},{utf8}{rest}"#,
        id = kind.id(),
        rest = attributes.trim_start_matches('{'),
    )
}

/// Whether a UID is one of those that stand for many workitems.
pub fn is_well_known(uid: &Uid) -> bool {
    [GLOBAL, FILTERED].contains(&uid.as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::tags::CODE_MEANING, *};

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    fn code(value: &str) -> Value {
        json!({ "00080100": text("SH", value), (name(CODE_MEANING)): text("LO", "Ü") })
    }

    fn sequence(items: &[Value]) -> Value {
        json!({ "vr": "SQ", "Value": items })
    }

    fn workitem() -> Map<String, Value> {
        map(json!({
            "00404025": { "vr": "SQ" },
            "00404041": text("CS", "INCOMPLETE"),
            "00741002": { "vr": "SQ" },
            "00741204": text("LO", "Read it"),
            "00741000": text("CS", "SCHEDULED"),
        }))
    }

    fn kinds(reports: &[Report]) -> Vec<i16> {
        reports.iter().map(|report| report.kind.id()).collect()
    }

    fn said(report: &Report) -> Value {
        serde_json::from_str(&report.attributes).unwrap()
    }

    #[test]
    fn numbers_lead_back() {
        for kind in EventType::ALL {
            assert_eq!(EventType::of(kind.id()), Some(kind));
        }
        assert_eq!(EventType::of(0), None);
    }

    #[test]
    fn what_is_created_is_scheduled_and_assigned_where_it_says_to_whom() {
        let mut item = workitem();
        let told = created(&item);
        assert_eq!(kinds(&told), [1]);
        let state = json!({
            "00404041": text("CS", "INCOMPLETE"),
            "00741000": text("CS", "SCHEDULED"),
        });
        assert_eq!(said(&told[0]), state);
        let performer = json!({
            "00404009": sequence(&[code("P1")]),
            "00404036": text("LO", "Hospital"),
        });
        item.insert("00404025".into(), sequence(&[code("CT1")]));
        item.insert("00404034".into(), sequence(std::slice::from_ref(&performer)));
        let told = created(&item);
        assert_eq!(kinds(&told), [1, 5]);
        let assigned = json!({
            "00404009": sequence(&[code("P1")]),
            "00404025": sequence(&[code("CT1")]),
            "00404034": sequence(&[performer]),
            "00404036": text("LO", "Hospital"),
        });
        assert_eq!(said(&told[1]), assigned);
    }

    #[test]
    fn what_changes_is_told_and_nothing_else() {
        let before = workitem();
        let with = |tag: &str, value: Value| {
            let mut after = before.clone();
            after.insert(tag.into(), value);
            after
        };
        let of = |after: &Map<String, Value>, is| {
            kinds(&changed((State::InProgress, &before), (is, after)))
        };
        let progress =
            |tag: &str, value: Value| with("00741002", sequence(&[json!({ tag: value })]));
        for (after, expected) in [
            (before.clone(), &[][..]),
            (with("00741204", text("LO", "Later")), &[]),
            (with("00404041", text("CS", "READY")), &[1]),
            (progress("00741004", text("DS", "50")), &[3]),
            (progress("00741006", text("ST", "Half")), &[3]),
            (progress("00741238", text("LT", "Why")), &[]),
            (with("00404025", sequence(&[code("CT1")])), &[5]),
            (with("00404034", sequence(&[json!({})])), &[5]),
        ] {
            assert_eq!(of(&after, State::InProgress), expected, "{after:?}");
            let ended = [&[1], expected.strip_prefix(&[1]).unwrap_or(expected)].concat();
            assert_eq!(of(&after, State::Completed), ended, "{after:?}");
        }
        let why = json!({ "0074100E": sequence(&[code("1")]), "00741238": text("LT", "Why") });
        let after = with("00741002", sequence(&[why]));
        let told = changed((State::InProgress, &before), (State::Canceled, &after));
        assert_eq!(said(&told[0])["00741238"], text("LT", "Why"));
        assert_eq!(said(&told[0])["0074100E"], sequence(&[code("1")]));
    }

    #[test]
    fn who_asks_for_cancellation_is_told_with_what_he_said() {
        let told = cancel_requested(&map(json!({
            "00081195": text("UI", "1.2.3"),
            "0074100A": text("UR", "tel:1"),
            "0074100C": text("LO", "Dr. Ö"),
            "0074100E": sequence(&[code("110500")]),
            "00741236": text("AE", "WARD 1"),
            "00741238": text("LT", "Patient left"),
        })));
        let text_of = &told.attributes;
        assert!(!text_of.contains("00081195"));
        assert_eq!(said(&told)["00741236"], text("AE", "WARD 1"));
        let message = message(&told, "1.2.5", 7);
        let whole: Value = serde_json::from_str(&message).unwrap();
        let tags: Vec<&String> = whole.as_object().unwrap().keys().collect();
        let expected = [
            "00000002", "00000110", "00001000", "00001002", "00080005", "0074100A", "0074100C",
            "0074100E", "00741236", "00741238",
        ];
        assert_eq!(tags, expected);
        assert_eq!(whole["00000002"], text("UI", EVENT));
        assert_eq!(whole["00000110"], json!({ "vr": "US", "Value": [7] }));
        assert_eq!(whole["00001000"], text("UI", "1.2.5"));
        assert_eq!(whole["00001002"], json!({ "vr": "US", "Value": [2] }));
        // One that says nothing is told all the same.
        let told = cancel_requested(&Map::new());
        assert_eq!(said(&told), json!({ "00741236": text("AE", SERVER) }));
    }

    #[test]
    fn the_state_as_it_is_kept_and_that_of_the_server() {
        let told = current_state(r#"{"vr":"CS","Value":["COMPLETED"]}"#, r#"{"vr":"CS"}"#);
        let expected = json!({ "00404041": { "vr": "CS" }, "00741000": text("CS", "COMPLETED") });
        assert_eq!(said(&told), expected);
        let down = said(&scp_status(ScpStatus::GoingDown));
        assert_eq!(down["00741242"], text("CS", "GOING DOWN"));
        assert_eq!(said(&scp_status(ScpStatus::Restarted))["00741246"], text("CS", "WARM START"));
    }
}
