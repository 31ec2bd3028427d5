//! DICOM JSON into the Native DICOM Model, by example and by property.

use proptest::prelude::*;
use quick_xml::{
    Reader,
    events::{BytesStart, Event},
};

use super::*;

/// The document without declaration and root.
#[track_caller]
fn inside(json: &str) -> String {
    let mut out = Vec::new();
    write(&mut out, json.as_bytes(), Encoding::Utf8).unwrap();
    let text = String::from_utf8(out).unwrap();
    read(&text);
    let start = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<NativeDicomModel \
        xmlns=\"http://dicom.nema.org/PS3.19/models/NativeDICOM\" xml:space=\"preserve\">";
    let inside = text.strip_prefix(start).expect(&text);
    inside.strip_suffix("</NativeDicomModel>").expect(&text).to_owned()
}

/// Reads the document as an independent parser does: start tags with their attributes, and texts.
fn read(xml: &str) -> Vec<String> {
    let mut reader = Reader::from_str(xml);
    let (mut found, mut text, mut depth) = (Vec::new(), String::new(), 0_i32);
    let show = |start: &BytesStart<'_>| {
        let attributes = start.attributes().map(|attribute| {
            let attribute = attribute.unwrap();
            let name = String::from_utf8(attribute.key.as_ref().to_vec()).unwrap();
            let value = String::from_utf8(attribute.value.to_vec()).unwrap();
            format!(" {name}={}", quick_xml::escape::unescape(&value).unwrap())
        });
        let name = String::from_utf8(start.name().as_ref().to_vec()).unwrap();
        format!("<{name}{}", attributes.collect::<String>())
    };
    loop {
        match reader.read_event().unwrap() {
            Event::Start(start) => {
                depth += 1;
                text.clear();
                found.push(show(&start));
            }
            Event::Empty(start) => found.push(show(&start)),
            Event::Text(piece) => text.push_str(&piece.decode().unwrap()),
            Event::GeneralRef(name) => {
                let name = String::from_utf8(name.to_vec()).unwrap();
                text.push_str(&quick_xml::escape::unescape(&format!("&{name};")).unwrap());
            }
            Event::End(_) => {
                depth -= 1;
                if !text.is_empty() {
                    found.push(std::mem::take(&mut text));
                }
            }
            Event::Eof => break,
            _ => {}
        }
    }
    assert_eq!(depth, 0);
    found
}

#[test]
fn values_of_every_form() {
    let check = |json: &str, expect: &str| assert_eq!(inside(json), expect, "{json}");
    check("{}", "");
    check(
        r#"{"00080008":{"vr":"CS","Value":["ORIGINAL",null,"AXIAL"]}}"#,
        "<DicomAttribute tag=\"00080008\" vr=\"CS\" keyword=\"ImageType\">\
         <Value number=\"1\">ORIGINAL</Value><Value number=\"2\"></Value>\
         <Value number=\"3\">AXIAL</Value></DicomAttribute>",
    );
    check(
        r#"{"00080080":{"vr":"LO"},"00181020":{"vr":"LO"}}"#,
        "<DicomAttribute tag=\"00080080\" vr=\"LO\" keyword=\"InstitutionName\"></DicomAttribute>\
         <DicomAttribute tag=\"00181020\" vr=\"LO\" keyword=\"SoftwareVersions\"></DicomAttribute>",
    );
    check(
        r#"{"00200032":{"vr":"DS","Value":[1.50,-2,3e1,"1,5"]}}"#,
        "<DicomAttribute tag=\"00200032\" vr=\"DS\" keyword=\"ImagePositionPatient\">\
         <Value number=\"1\">1.50</Value><Value number=\"2\">-2</Value>\
         <Value number=\"3\">3e1</Value><Value number=\"4\">1,5</Value></DicomAttribute>",
    );
    check(
        r#"{"7FE00010":{"vr":"OW","BulkDataURI":"http://h/a?x=1&y='2'"}}"#,
        "<DicomAttribute tag=\"7FE00010\" vr=\"OW\" keyword=\"PixelData\">\
         <BulkData uri=\"http://h/a?x=1&amp;y=&#39;2&#39;\"/></DicomAttribute>",
    );
    check(
        r#"{"60021000":{"vr":"OB","InlineBinary":"AQI="}}"#,
        "<DicomAttribute tag=\"60021000\" vr=\"OB\"><InlineBinary>AQI=</InlineBinary>\
         </DicomAttribute>",
    );
    check(
        r#"{"60023000":{"vr":"OB"}}"#,
        "<DicomAttribute tag=\"60023000\" vr=\"OB\" keyword=\"OverlayData\"></DicomAttribute>",
    );
}

#[test]
fn names_by_group_and_component() {
    let json = r#"{"00100010":{"vr":"PN","Value":[
        {"Alphabetic":"Adams^John^^Rev.^B.A.^x","Ideographic":"山^太"},null,{"Phonetic":"^"},
        {"Other":"a"}]}}"#;
    let expect = "<DicomAttribute tag=\"00100010\" vr=\"PN\" keyword=\"PatientName\">\
        <PersonName number=\"1\"><Alphabetic><FamilyName>Adams</FamilyName>\
        <GivenName>John</GivenName><NamePrefix>Rev.</NamePrefix>\
        <NameSuffix>B.A.^x</NameSuffix></Alphabetic><Ideographic><FamilyName>山</FamilyName>\
        <GivenName>太</GivenName></Ideographic></PersonName><PersonName number=\"2\"></PersonName>\
        <PersonName number=\"3\"><Phonetic></Phonetic></PersonName>\
        <PersonName number=\"4\"></PersonName></DicomAttribute>";
    assert_eq!(inside(json), expect);
}

#[test]
fn items_nest_and_private_blocks_are_their_own() {
    let json = r#"{
        "00081140":{"vr":"SQ","Value":[{},{"00290010":{"vr":"LO","Value":["B & C"]},
            "00291001":{"vr":"SQ","Value":[{"00291001":{"vr":"UN","InlineBinary":"AA=="}}]}},{}]},
        "00290011":{"vr":"LO","Value":["A"]},"00290012":{"vr":"LO"},
        "00291101":{"vr":"US","Value":[1]},"002912FF":{"vr":"US","Value":[2]},
        "00400555":{"vr":"SQ","Value":[]},"00400556":{"vr":"ST","Value":["last"]}}"#;
    let found = read(&{
        let mut out = Vec::new();
        write(&mut out, json.as_bytes(), Encoding::Utf8).unwrap();
        String::from_utf8(out).unwrap()
    });
    assert_eq!(
        found[1..],
        [
            "<DicomAttribute tag=00081140 vr=SQ keyword=ReferencedImageSequence",
            "<Item number=1",
            "<Item number=2",
            "<DicomAttribute tag=00290001 vr=SQ privateCreator=B & C",
            "<Item number=1",
            "<DicomAttribute tag=00291001 vr=UN",
            "<InlineBinary",
            "AA==",
            "<Item number=3",
            "<DicomAttribute tag=00290012 vr=LO",
            "<DicomAttribute tag=00290001 vr=US privateCreator=A",
            "<Value number=1",
            "1",
            "<DicomAttribute tag=002912FF vr=US",
            "<Value number=1",
            "2",
            "<DicomAttribute tag=00400555 vr=SQ keyword=AcquisitionContextSequence",
            "<DicomAttribute tag=00400556 vr=ST keyword=AcquisitionContextDescription",
            "<Value number=1",
            "last",
        ]
    );
}

#[test]
fn depth_costs_no_stack() {
    let deep = 20_000;
    let json =
        format!("{}{{}}{}", r#"{"00081140":{"vr":"SQ","Value":["#.repeat(deep), "]}}".repeat(deep));
    let mut out = Vec::new();
    write(&mut out, json.as_bytes(), Encoding::Utf8).unwrap();
    assert_eq!(String::from_utf8(out).unwrap().matches("</Item>").count(), deep);
}

#[test]
fn other_encodings_hold_references() {
    let json = r#"{"00081030":{"vr":"LO","Value":["Größe 山\u0007"]}}"#;
    let mut out = Vec::new();
    write(&mut out, json.as_bytes(), Encoding::Ascii("ISO-8859-1")).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.is_ascii());
    assert!(text.starts_with("<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?>"));
    assert_eq!(read(&text).last().unwrap(), "Größe 山\u{FFFD}");
}

#[test]
fn what_is_no_data_set_is_refused() {
    for json in [
        "",
        "[]",
        "{",
        "1",
        "{}x",
        r#"{"0008":{"vr":"LO"}}"#,
        r#"{"00081030":{"vr":"LO"}"#,
        r#"{"00081030":{"vr":"LO","Value":["#,
        r#"{"00081030":{"vr":"LO","Value":[x]}}"#,
        r#"{"00081030":{"vr":"LO","Value":["\"#,
        r#"{"00081030":{"vr":"LO","Value":["\x"]}}"#,
        r#"{"00081030":{"Value":["a"],"vr":"LO"}}"#,
        r#"{"00081030":{"vr":"SQ","Value":[null]}}"#,
    ] {
        assert_eq!(write(&mut Vec::new(), json.as_bytes(), Encoding::Utf8), Err(NotADataSet));
    }
}

proptest! {
    #[test]
    fn text_comes_back_as_it_was(text in any::<String>(), ascii in any::<bool>()) {
        let mut json = b"{\"00081030\":{\"vr\":\"UT\",\"Value\":[".to_vec();
        crate::dicom::json::write_string(&mut json, &text);
        json.extend_from_slice(b"]}}");
        let mut out = Vec::new();
        let encoding = if ascii { Encoding::Ascii("US-ASCII") } else { Encoding::Utf8 };
        write(&mut out, &json, encoding).unwrap();
        let found = read(std::str::from_utf8(&out).unwrap());
        let expect: String = text.chars().map(|c| if is_xml(c) { c } else { '\u{FFFD}' }).collect();
        prop_assert_eq!(found.get(3).cloned().unwrap_or_default(), expect);
    }

    #[test]
    fn no_bytes_make_it_stumble(json in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = write(&mut Vec::new(), &json, Encoding::Utf8);
        let begun = [br#"{"00081030":{"vr":"PN","Value":["#.as_slice(), &json].concat();
        let _ = write(&mut Vec::new(), &begun, Encoding::Utf8);
    }
}
