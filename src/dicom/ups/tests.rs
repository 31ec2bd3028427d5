//! What a workitem is created from, how it is changed, and what it needs in the end.

use super::*;

const NOW: &str = "20260101120000.000000+0000";

fn uid() -> Uid {
    "1.2.5".parse().unwrap()
}

fn map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => panic!("an object"),
    }
}

fn least() -> Map<String, Value> {
    map(json!({
        "00404005": text("DT", "20260101"),
        "00404041": text("CS", "READY"),
        "00741000": text("CS", "SCHEDULED"),
        "00741200": text("CS", "LOW"),
        "00741204": text("LO", "Read it"),
    }))
}

fn made() -> Map<String, Value> {
    create(least(), &uid(), "Inbox", NOW).unwrap().attributes
}

fn code() -> Value {
    json!({ "vr": "SQ", "Value": [{ "00080100": text("SH", "1"), "00080104": text("LO", "One") }] })
}

#[test]
fn what_is_missing_is_filled_in_and_told() {
    let made = create(least(), &uid(), "Inbox", NOW).unwrap();
    assert!(made.is_modified);
    let own = &made.attributes;
    assert_eq!(value_of(own, WORKLIST_LABEL), Some("Inbox"));
    assert_eq!(value_of(own, SOP_INSTANCE), Some("1.2.5"));
    assert_eq!(value_of(own, SOP_CLASS), Some(PUSH));
    assert_eq!(value_of(own, MODIFIED), Some(NOW));
    assert!(own.keys().is_sorted());
    assert_eq!(own["00741216"], json!({ "vr": "SQ" }));
    // What has all that it needs is as it came.
    let mut whole = own.clone();
    whole.insert("00081195".to_owned(), json!({ "vr": "UI" }));
    let again = create(whole, &uid(), "Other", NOW).unwrap();
    assert_eq!((again.is_modified, &again.attributes), (false, own));
}

#[test]
fn every_attribute_of_a_workitem_has_the_vr_that_it_is_made_with() {
    for (tag, vr) in PRESENT {
        let own = crate::dicom::attributes::exact_vr_of(tag).map(|vr| vr.to_string());
        assert_eq!(own, Some(vr), "{tag}");
    }
    assert!(PRESENT.windows(2).all(|pair| pair[0].0 < pair[1].0));
}

#[test]
fn the_lock_is_never_written() {
    let mut attributes = made();
    attributes.insert("00081195".to_owned(), text("UI", "1.2.77"));
    let json = written(attributes, State::InProgress);
    assert!(!json.contains("1.2.77") && !json.contains("00081195"), "{json}");
    assert!(json.contains("IN PROGRESS") && !json.contains("00080005"));
    let mut attributes = made();
    attributes.insert("00741204".to_owned(), text("LO", "Größe"));
    let read = read(&written(attributes, State::Scheduled)).unwrap();
    assert_eq!(value_of(&read, Tag(0x0008, 0x0005)), Some("ISO_IR 192"));
    assert!(read.keys().is_sorted());
}

#[test]
fn who_scheduled_it_says_whom_it_is_about_for_good() {
    for tag in FIXED {
        let sent = map(json!({ name(tag): text("LO", "other") }));
        assert_eq!(update(made(), sent, NOW).unwrap_err().at, tag);
        let same = made().get(&name(tag)).cloned();
        if let Some(same) = same {
            let sent = map(json!({ name(tag): same }));
            assert_eq!(update(made(), sent, NOW).unwrap(), made());
        }
    }
    let sent = map(json!({ "00741204": text("LO", "Now"), "00081195": text("UI", "1.2.77") }));
    let updated = update(made(), sent, "2027").unwrap();
    assert_eq!(value_of(&updated, LABEL), Some("Now"));
    assert_eq!(value_of(&updated, MODIFIED), Some("2027"));
    assert_eq!(value_of(&updated, TRANSACTION), None);
}

#[test]
fn a_completed_workitem_says_how_it_was_performed() {
    let performed = |item: Value| {
        let mut attributes = made();
        attributes.insert(name(PERFORMED), json!({ "vr": "SQ", "Value": [item] }));
        attributes
    };
    let whole = json!({
        "00404019": code(),
        "00404028": code(),
        "00404033": { "vr": "SQ" },
        "00404050": text("DT", "2026"),
        "00404051": text("DT", "2026"),
    });
    assert_eq!(end(made(), State::Completed, NOW).unwrap_err().at, PERFORMED);
    assert!(end(performed(whole.clone()), State::Completed, NOW).is_ok());
    for tag in OF_PERFORMED {
        let mut item = map(whole.clone());
        item.insert(name(tag), json!({ "vr": "SQ" }));
        assert_eq!(end(performed(item.into()), State::Completed, NOW).unwrap_err().at, tag);
    }
    let mut item = map(whole);
    item.remove(&name(OUTPUT));
    assert_eq!(end(performed(item.into()), State::Completed, NOW).unwrap_err().at, OUTPUT);
    assert!(end(made(), State::InProgress, NOW).is_ok());
}

#[test]
fn a_cancelled_workitem_says_why_and_when() {
    assert_eq!(end(made(), State::Canceled, NOW).unwrap_err().at, REASON_CODE);
    let mut attributes = made();
    cancel_for(&mut attributes, &Map::new());
    let ended = end(attributes, State::Canceled, NOW).unwrap();
    let progress = items(&ended, PROGRESS).next().unwrap();
    assert_eq!(value_of(progress, CANCELED_AT), Some(NOW));
    assert!(progress.keys().is_sorted());
    let reason = items(progress, REASON_CODE).next().unwrap();
    assert_eq!(value_of(reason, Tag(0x0008, 0x0100)), Some("110513"));
    let asked = map(json!({ "0074100E": code(), "00741238": text("LT", "why") }));
    assert_eq!(cancel_request(&asked), Ok(()));
    let mut attributes = ended;
    cancel_for(&mut attributes, &asked);
    let progress = items(&attributes, PROGRESS).next().unwrap();
    assert_eq!(value_of(progress, REASON), Some("why"));
    assert_eq!(progress["0074100E"], code());
    let bad = map(json!({ "0074100E": { "vr": "SQ", "Value": [{}] } }));
    assert_eq!(cancel_request(&bad).unwrap_err().at, REASON_CODE);
}

#[test]
fn keys_are_normalised() {
    let mut attributes = made();
    attributes.insert("00404005".to_owned(), text("DT", "202601011200+0200"));
    attributes.insert("00100020".to_owned(), text("LO", "P1"));
    let keys = Keys::of(&attributes).unwrap();
    assert_eq!(keys.start, "20260101100000.000000");
    assert_eq!(keys.patient_id.as_deref(), Some("P1"));
    assert_eq!(Keys::of(&made()).unwrap().patient_id, None);
}
