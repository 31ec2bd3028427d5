//! Data sets as clients send them, by example; and DICOM JSON through XML and back.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::dicom::xml;

fn read(value: Value) -> Result<Value, Flaw> {
    json(value.to_string().as_bytes()).map(Value::Object)
}

fn at(value: Value) -> String {
    match read(value.clone()) {
        Err(Flaw::Attribute { at, .. }) => at,
        other => panic!("{value}: {other:?}"),
    }
}

#[test]
fn names_ascend_and_what_is_no_value_is_gone() {
    let sent = json!({
        "0040a370": { "vr": "SQ", "Value": [{ "00401001": { "vr": "SH", "Value": [" RP1 "] },
            "00080050": { "vr": "SH", "Value": [""] } }, null] },
        "00080005": { "vr": "CS", "Value": ["ISO_IR 100"] },
        "00080000": { "vr": "UL", "Value": [4] },
        "00100010": { "vr": "PN", "Value": [{ "Phonetic": "", "Alphabetic": "Doe^J " }] },
        "00100040": { "vr": "CS", "Value": [] },
        "00404041": { "vr": "CS", "Value": [null] },
        "00081070": { "vr": "PN", "Value": [{}, { "Ideographic": "山" }] },
    });
    let expected = json!({
        "00081070": { "vr": "PN", "Value": [null, { "Ideographic": "山" }] },
        "00100010": { "vr": "PN", "Value": [{ "Alphabetic": "Doe^J" }] },
        "00100040": { "vr": "CS" },
        "00404041": { "vr": "CS" },
        "0040A370": { "vr": "SQ", "Value": [{ "00080050": { "vr": "SH" },
            "00401001": { "vr": "SH", "Value": ["RP1"] } }, {}] },
    });
    let got = read(sent).unwrap();
    assert_eq!(got.to_string(), expected.to_string());
    assert_eq!(json(format!("[{expected}]").as_bytes()).map(Value::Object), Ok(expected));
}

#[test]
fn values_are_those_of_their_vr() {
    for (vr, tag, good, bad) in [
        ("UI", "0020000D", json!("1.2.3"), json!("1.x")),
        ("DA", "00100030", json!("19700101"), json!("19701301")),
        ("TM", "00100032", json!("0830"), json!("2530")),
        ("DT", "00404005", json!("20260101083000+0100"), json!("2026-01-01")),
        ("IS", "00200013", json!(7), json!("x")),
        ("IS", "00200013", json!("7"), json!(7.5)),
        ("DS", "00101030", json!("70.5"), json!("heavy")),
        ("US", "00280010", json!(512), json!(65_536)),
        ("US", "00280010", json!(0), json!("512")),
        ("SS", "00189219", json!(-5), json!(-32_769)),
        ("FD", "00189073", json!(1.5), json!("1.5")),
        ("AT", "00280009", json!("00181063"), json!("x")),
        ("CS", "00404041", json!("READY"), json!("0123456789ABCDEFG")),
        ("LO", "00100020", json!("P"), json!("a\u{1}b")),
        ("LO", "00100020", json!("P"), json!(1)),
        ("LT", "00400400", json!("a\nb"), json!("a\u{0}b")),
        ("SQ", "0040A370", json!({}), json!("x")),
        ("PN", "00100010", json!({ "Alphabetic": "a" }), json!({ "Latin": "a" })),
        ("PN", "00100010", json!({ "Alphabetic": "a" }), json!("a")),
    ] {
        let with = |value: &Value| json!({ tag: { "vr": vr, "Value": [value] } });
        assert!(read(with(&good)).is_ok(), "{vr} {good}");
        assert_eq!(at(with(&bad)), tag, "{vr} {bad}");
    }
}

#[test]
fn a_flaw_is_told_by_its_place() {
    let inside = json!({ "0040A370": { "vr": "SQ", "Value": [{
        "00080051": { "vr": "SQ", "Value": [{ "00400031": { "vr": "LO" } }] } }] } });
    assert_eq!(at(inside), "0040A370.00080051.00400031");
    for (value, expected) in [
        (json!({ "PatientID": {} }), ""),
        (json!({ "00020010": { "vr": "UI" } }), ""),
        (json!({ "00001000": { "vr": "UI" } }), ""),
        (json!({ "00100020": "P" }), "00100020"),
        (json!({ "00100020": {} }), "00100020"),
        (json!({ "00100020": { "vr": "QQ" } }), "00100020"),
        (json!({ "00100020": { "vr": "CS" } }), "00100020"),
        (json!({ "00100020": { "vr": "LO", "Value": "P" } }), "00100020"),
        (json!({ "00100020": { "vr": "LO", "Value": [], "InlineBinary": "" } }), "00100020"),
        (json!({ "00100020": { "vr": "LO", "Other": 1 } }), "00100020"),
        (json!({ "00100020": { "vr": "LO", "keyword": "PatientID" } }), "00100020"),
        (json!({ "7FE00010": { "vr": "OW", "BulkDataURI": "x" } }), "7FE00010"),
        (json!({ "7FE00010": { "vr": "OW", "InlineBinary": "?" } }), "7FE00010"),
        (json!({ "00400400": { "vr": "LT", "Value": ["a", "b"] } }), "00400400"),
        (json!({ "0040a370": { "vr": "SQ" }, "0040A370": { "vr": "SQ" } }), "0040A370"),
    ] {
        assert_eq!(at(value.clone()), expected, "{value}");
    }
    let mut deep = json!({});
    for _ in 0..30 {
        deep = json!({ "0040A370": { "vr": "SQ", "Value": [deep] } });
    }
    assert!(matches!(read(deep), Err(Flaw::Attribute { .. })));
    for text in ["", "1", "[]", "[1]", "[{},{}]", "{", "null"] {
        assert!(json(text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn a_body_has_the_room_that_its_values_take() {
    // What takes the most memory for what is written.
    for (vr, tag, value) in [("US", "00283006", "1,"), ("LO", "00100020", "\"\",")] {
        let values = value.repeat(50_000);
        let body = format!(
            "{{\"{tag}\":{{\"vr\":\"{vr}\",\"Value\":[{values}{}]}}}}",
            &value[..value.len() - 1]
        );
        assert!(json(body.as_bytes()).is_ok(), "{vr}");
    }
    let values: String = (1..5_000).map(|n| format!("<Value number=\"{n}\"/>")).collect();
    let attribute = format!("<DicomAttribute tag=\"00283006\" vr=\"US\">{values}</DicomAttribute>");
    let body = format!("<NativeDicomModel>{attribute}</NativeDicomModel>");
    assert!(native(body.as_bytes()).is_ok());
}

#[test]
fn xml_says_the_same() {
    let own = json!({
        "00081070": { "vr": "PN", "Value": [null, { "Alphabetic": "A^B^^D", "Ideographic": "山" }] },
        "00090010": { "vr": "LO", "Value": ["ACME & <Co>"] },
        "00091001": { "vr": "US", "Value": [1, 2] },
        "00100040": { "vr": "CS" },
        "0040A370": { "vr": "SQ", "Value": [{}, { "00401001": { "vr": "SH", "Value": ["a", null, "b"] } }] },
        "00420011": { "vr": "OB", "InlineBinary": "AQI=" },
    });
    let own = read(own).unwrap();
    for encoding in [xml::Encoding::Utf8, xml::Encoding::Ascii("US-ASCII")] {
        let mut text = Vec::new();
        xml::write(&mut text, own.to_string().as_bytes(), encoding).unwrap();
        assert_eq!(native(&text).map(Value::Object), Ok(own.clone()));
    }
}

#[test]
fn what_is_no_native_model_is_refused() {
    let model = |inside: &str| format!("<NativeDicomModel>{inside}</NativeDicomModel>");
    let value = |attributes: &str, inside: &str| {
        model(&format!("<DicomAttribute {attributes}>{inside}</DicomAttribute>"))
    };
    let patient = "tag=\"00100020\" vr=\"LO\"";
    let one = value(patient, "<Value number=\"1\">P<![CDATA[&]]>&#50;</Value>");
    let read = native(one.as_bytes()).unwrap();
    assert_eq!(Value::Object(read), json!({ "00100020": { "vr": "LO", "Value": ["P&2"] } }));
    assert_eq!(native(model("").as_bytes()), Ok(Map::new()));
    assert_eq!(native(b"<a:NativeDicomModel xmlns:a=\"x\"/>"), Ok(Map::new()));
    for text in [
        "".to_owned(),
        "x".to_owned(),
        "<Other/>".to_owned(),
        model("<Value/>"),
        model("").repeat(2),
        "<NativeDicomModel>".to_owned(),
        format!("<!DOCTYPE a [<!ENTITY b \"c\">]>{one}"),
        value("tag=\"0010\" vr=\"LO\"", ""),
        value("tag=\"00100020\"", ""),
        value("vr=\"LO\"", ""),
        value(patient, "<Value>P</Value>"),
        value(patient, "<Value number=\"0\">P</Value>"),
        value(patient, "<Value number=\"1\">P</Value><Value number=\"1\">Q</Value>"),
        value(patient, "<Value number=\"999999999\">P</Value>"),
        value(patient, "<Value number=\"1\">&b;</Value>"),
        value(patient, "<Item number=\"1\"></Item>"),
        value(patient, "<BulkData uri=\"x\"/>"),
        value("tag=\"0040A370\" vr=\"SQ\"", "<Value number=\"1\">P</Value>"),
        value("tag=\"0040A370\" vr=\"SQ\"", "<Item number=\"2\"></Item>"),
        value("tag=\"00100001\" vr=\"LO\" privateCreator=\"A\"", ""),
        value(patient, "").replace("</NativeDicomModel>", &value(patient, "")[18..]),
    ] {
        assert!(native(text.as_bytes()).is_err(), "{text}");
    }
    let deep = "<DicomAttribute tag=\"0040A370\" vr=\"SQ\"><Item number=\"1\">".repeat(10_000);
    assert!(native(model(&deep).as_bytes()).is_err());
}

proptest! {
    #[test]
    fn nothing_panics(text in "\\PC{0,200}", bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = (json(text.as_bytes()), native(text.as_bytes()), json(&bytes), native(&bytes));
        let inside = format!("<NativeDicomModel><DicomAttribute tag=\"00100020\" vr=\"LO\">{text}\
            </DicomAttribute></NativeDicomModel>");
        let _ = native(inside.as_bytes());
    }
}
