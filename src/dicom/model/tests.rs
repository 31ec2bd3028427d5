//! What both models say alike, and what each may leave out, by example. Values of VRs are tried by
//! those who judge of them (`compose`, `sent`).

use super::{xml::LEFT_OUT, *};

const ROOM: u64 = 1 << 16;
/// Levels of items.
const DEPTH: usize = 4;

fn json(attributes: &str) -> DataSet {
    let text = format!("{{{attributes}}}");
    read_json(text.as_bytes(), DEPTH as u16, ROOM, |one| one).unwrap().remove(0)
}

fn xml(attributes: &str) -> DataSet {
    let text = format!("\u{FEFF}<NativeDicomModel>{attributes}</NativeDicomModel>");
    read_xml(text.as_bytes(), DEPTH as u16, ROOM).unwrap()
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

#[test]
fn both_models_are_one_tree() {
    let sent = r#""00100010":{"vr":"PN","Value":[{"Alphabetic":"A^B","Phonetic":"c"},null]},
        "00280010":{"vr":"US","Value":[1,2]},
        "00400260":{"vr":"SQ","Value":[{"00080100":{"vr":"SH","Value":["x"]}},{}]},
        "00420011":{"vr":"OB","InlineBinary":"AQI="},
        "7FE00010":{"vr":"OW","BulkDataURI":"u"}"#;
    let said = r#"<DicomAttribute tag="00100010" vr="PN"><PersonName number="1"><Alphabetic>
        <FamilyName>A</FamilyName><GivenName>B</GivenName></Alphabetic>
        <Phonetic><FamilyName>c</FamilyName></Phonetic></PersonName>
        <PersonName number="2"/></DicomAttribute>
        <DicomAttribute tag="00280010" vr="US"><Value number="1">1</Value>
        <Value number="2"> 2 </Value></DicomAttribute>
        <DicomAttribute tag="00400260" vr="SQ"><Item number="1">
        <DicomAttribute tag="00080100" vr="SH"><Value number="1">x</Value></DicomAttribute></Item>
        <Item number="2"/></DicomAttribute>
        <DicomAttribute tag="00420011" vr="OB"><InlineBinary>AQ
        I=</InlineBinary></DicomAttribute>
        <DicomAttribute tag="7FE00010" vr="OW"><BulkData uri="u"/></DicomAttribute>"#;
    let (json, mut xml) = (json(sent), xml(said));
    let empty = Value::Name(Box::default());
    assert_eq!(std::mem::replace(&mut xml.attributes[0].values[1], Value::Empty), empty);
    assert_eq!(json, xml);
    assert_eq!(json.attributes[1].values, [1, 2].map(|n| Value::Number(n.to_string())));
    assert!(json.attributes.iter().all(|attribute| attribute.flaw.is_none()));
}

#[test]
fn numbers_that_are_left_out_stand_for_empty_values() {
    let of = |numbers: &[usize]| {
        let value = |n: &usize| format!("<Value number=\"{n}\">{n}</Value>");
        let values: String = numbers.iter().map(value).collect();
        let read =
            xml(&format!("<DicomAttribute tag=\"00081030\" vr=\"LO\">{values}</DicomAttribute>"));
        read.attributes[0].clone()
    };
    assert_eq!(of(&[2, 4]).values, [Value::Empty, text("2"), Value::Empty, text("4")]);
    assert_eq!(of(&[LEFT_OUT + 1]).flaw, None);
    for numbers in [&[0][..], &[1, 1], &[2, 1], &[LEFT_OUT + 2], &[usize::MAX]] {
        assert!(of(numbers).flaw.is_some(), "{numbers:?}");
    }
}

/// Items are as deep as they may be, in both models, and no deeper; a name is no item.
#[test]
fn items_are_no_deeper_than_they_may_be() {
    let json_name = r#""00100010":{"vr":"PN","Value":[{"Alphabetic":"a"},{}]}"#;
    let xml_name = r#"<DicomAttribute tag="00100010" vr="PN"><PersonName number="1"><Alphabetic>
        <FamilyName>a</FamilyName></Alphabetic></PersonName></DicomAttribute>"#;
    let json_of = |levels: usize, inside: &str| {
        let (before, after) = (r#""0040A730":{"vr":"SQ","Value":[{"#, "}]}");
        json(&[&before.repeat(levels), inside, &after.repeat(levels)].concat())
    };
    let xml_of = |levels: usize, inside: &str| {
        let before = r#"<DicomAttribute tag="0040A730" vr="SQ"><Item number="1">"#;
        let after = "</Item></DicomAttribute>";
        xml(&[&before.repeat(levels), inside, &after.repeat(levels)].concat())
    };
    /// The flaws from the outermost attribute to the innermost first one.
    fn flaws(attributes: &[Attribute]) -> Vec<Option<&'static str>> {
        let Some(first) = attributes.first() else { return Vec::new() };
        let inside = match first.values.first() {
            Some(Value::Item(inside)) => flaws(inside),
            _ => Vec::new(),
        };
        [vec![first.flaw], inside].concat()
    }
    for (read, name) in
        [(&json_of as &dyn Fn(usize, &str) -> DataSet, json_name), (&xml_of, xml_name)]
    {
        for inside in ["", name] {
            let all = flaws(&read(DEPTH, inside).attributes);
            assert!(all.len() >= DEPTH && all.iter().all(Option::is_none), "{all:?}");
            let all = flaws(&read(DEPTH + 1, inside).attributes);
            assert_eq!(all.len() - usize::from(all.len() > DEPTH + 1), DEPTH + 1, "{all:?}");
            let told = all.iter().position(Option::is_some);
            assert_eq!(told, Some(DEPTH), "of the sequence whose items are too deep: {all:?}");
            assert!(all[DEPTH].unwrap().contains("limits.element_depth"));
        }
    }
    // Also where the VR, which tells that it is one, comes behind its items.
    let late = r#""0040A730":{"Value":[{}],"vr":"SQ"}"#;
    assert!(flaws(&json_of(DEPTH, late).attributes)[DEPTH].is_some());
}

#[test]
fn members_that_no_attribute_has_are_told_and_are_no_flaw() {
    for more in [r#""keyword":"StudyDate""#, r#""name":null"#, r#""x":{"y":[1,{}]}"#] {
        let read = json(&format!(r#""00080020":{{{more},"vr":"DA","Value":["20260101"]}}"#));
        let attribute = &read.attributes[0];
        assert_eq!((attribute.has_more, attribute.flaw, read.flaw), (true, None, None), "{more}");
        assert_eq!(attribute.values, [text("20260101")]);
    }
    assert!(!json(r#""00080020":{"vr":"DA"}"#).attributes[0].has_more);
}

#[test]
fn what_no_model_has_is_a_flaw_of_where_it_stands() {
    for attribute in [
        r#""vr":"OB","inlineBinary":"AQI=""#,
        r#""VR":"LO""#,
        r#""vr":"LO","Value":"a""#,
        r#""vr":"LO","vr":"SH""#,
        r#""vr":"LO","Value":[true]"#,
        r#""vr":"LO","Value":[[]]"#,
        r#""vr":"SQ","Value":[{"name":1}]"#,
        r#""vr":"PN","Value":[{"Alphabetic":"a","00080100":{"vr":"SH"}}]"#,
    ] {
        let read = json(&format!(r#""00080020":{{"vr":"DA"}},"00400260":{{{attribute}}}"#));
        let flaws: Vec<_> = read.attributes.iter().map(|one| one.flaw.is_some()).collect();
        assert_eq!((read.flaw, &flaws[..]), (None, &[false, true][..]), "{attribute}");
    }
    for inside in ["<Valeu number=\"1\"/>", "<Value number=\"1\"><b/></Value>", "<BulkData/>"] {
        let read = xml(&format!("<DicomAttribute tag=\"00081030\">{inside}</DicomAttribute>"));
        assert!(read.attributes[0].flaw.is_some(), "{inside}");
    }
    assert!(json(r#""StudyDate":{"vr":"DA"}"#).flaw.is_some());
    assert!(xml("<Value number=\"1\"/>").flaw.is_some());
}
