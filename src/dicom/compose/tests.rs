//! Metadata in, files out, and metadata again.

use super::*;
use crate::dicom::{
    Limits, data_set::DataSet, index::Indexer, reader::Reader, transfer_syntax::EXPLICIT_LITTLE,
    xml,
};

const LIMITS: Limits =
    Limits { element_depth: 8, header_bytes: 1 << 20, inflated_bytes: 1 << 20, frames: 10 };
const ROOM: u64 = 1 << 20;

fn json(attributes: &str) -> String {
    let comma = if attributes.is_empty() { "" } else { "," };
    format!(
        r#"{{"00080016":{{"vr":"UI","Value":["1.2.840.10008.5.1.4.1.1.2"]}},
            "00080018":{{"vr":"UI","Value":["1.2.3.4"]}},
            "0020000D":{{"vr":"UI","Value":["1.2"]}},
            "0020000E":{{"vr":"UI","Value":["1.2.3"]}}{comma}{attributes}}}"#
    )
}

fn read(attributes: &str) -> Composition {
    read_json(json(attributes).as_bytes(), 8, ROOM).unwrap().remove(0)
}

/// The file, with `value` wherever one comes from elsewhere.
fn file(composition: &Composition, value: &[u8]) -> Vec<u8> {
    let pieces = composition.pieces(&EXPLICIT_LITTLE.parse().unwrap()).unwrap();
    let piece = |piece| match piece {
        Piece::Bytes(bytes) => bytes,
        Piece::Place(Place { tag, vr, .. }) => {
            [bulk_header(tag, vr, value.len() as u32), value.to_vec()].concat()
        }
    };
    pieces.into_iter().flat_map(piece).collect()
}

/// The metadata that Store makes of a file.
fn metadata(file: &[u8]) -> Vec<u8> {
    let mut reader = Reader::new(Indexer::new(LIMITS), LIMITS, 1 << 16);
    reader.push(file).unwrap();
    reader.finish().unwrap().finish().unwrap().metadata
}

#[test]
fn json_comes_back_as_it_was() {
    let attributes = r#"
        "00080005":{"vr":"CS","Value":["ISO_IR 192"]},
        "00081030":{"vr":"LO","Value":["a",null,"ü \"quoted\""]},
        "00080090":{"vr":"PN"},
        "00090010":{"vr":"LO","Value":["ACME"]},
        "00091001":{"vr":"UN","InlineBinary":"AQIDBA=="},
        "00091002":{"vr":"FD","Value":[1.5,"NaN","-Infinity"]},
        "00100010":{"vr":"PN","Value":[{"Alphabetic":"Doe^Jane","Phonetic":"x"},null]},
        "00101020":{"vr":"DS","Value":[1.50,0.1]},
        "00104000":{"vr":"LT","Value":["one\\two\nthree"]},
        "00189073":{"vr":"FD","Value":[1e300]},
        "00280009":{"vr":"AT","Value":["00181063"]},
        "00280010":{"vr":"US","Value":[512]},
        "00400260":{"vr":"SQ","Value":[{"00080100":{"vr":"SH","Value":["1"]}},{},
            {"00400440":{"vr":"SQ","Value":[{"0040A040":{"vr":"CS","Value":["TEXT"]}}]}}]},
        "00660040":{"vr":"OL","InlineBinary":"AAAAAA=="}"#;
    let composition = read(attributes);
    assert_eq!(composition.flaw(), None);
    let first = metadata(&file(&composition, b""));
    let again = read_json(&first, 8, ROOM).unwrap().remove(0);
    let second = metadata(&file(&again, b""));
    assert_eq!(String::from_utf8(second).unwrap(), String::from_utf8(first.clone()).unwrap());
    let given: serde_json::Value = serde_json::from_str(&json(attributes)).unwrap();
    let made: serde_json::Value = serde_json::from_slice(&first).unwrap();
    assert_eq!(made, given);

    // The same as XML.
    let mut document = Vec::new();
    xml::write(&mut document, &first, xml::Encoding::Utf8).unwrap();
    let composition = read_xml(&document, 8, ROOM).unwrap();
    assert_eq!(composition.flaw(), None);
    let third = metadata(&file(&composition, b""));
    assert_eq!(String::from_utf8(third).unwrap(), String::from_utf8(first).unwrap());
}

/// Some clients say the keyword or the name of each attribute, too.
#[test]
fn members_beside_those_of_an_attribute_are_passed_over() {
    let plain = read(
        r#""00081030":{"vr":"LO","Value":["a"]},
           "00400260":{"vr":"SQ","Value":[{"00080100":{"vr":"SH","Value":["1"]}}]}"#,
    );
    let told = read(
        r#""00081030":{"keyword":"StudyDescription","vr":"LO","Value":["a"]},
           "00400260":{"vr":"SQ","name":{"de":["x",null]},"Value":[
               {"00080100":{"vr":"SH","Value":["1"],"keyword":"CodeValue"}}]}"#,
    );
    assert_eq!((told.flaw(), &told), (None, &plain));
}

#[test]
fn values_beside_are_named_in_the_order_of_the_file() {
    let composition = read(
        r#""7FE00010":{"vr":"OW","BulkDataURI":"c"},
           "00091001":{"vr":"OB","BulkDataURI":"a"},
           "00880200":{"vr":"SQ","Value":[{"7FE00010":{"vr":"OB","BulkDataURI":"b"}}]}"#,
    );
    let places = composition.places();
    let told: Vec<_> = places.iter().map(|place| (&*place.uri, place.top)).collect();
    assert_eq!(told, [("a", true), ("b", false), ("c", true)]);
    let data_set = DataSet::parse(&metadata(&file(&composition, &[1, 2]))).unwrap();
    assert_eq!(data_set.root().vr(Tag(0x7FE0, 0x0010)), Some(VR::OW));
}

#[test]
fn flaws_are_found_and_the_instance_is_known() {
    for (attribute, tag) in [
        (r#""00280010":{"vr":"US","Value":["many"]}"#, "(0028,0010)"),
        (r#""00280010":{"vr":"US","Value":[70000]}"#, "(0028,0010)"),
        (r#""00280010":{"vr":"US","Value":[null]}"#, "(0028,0010)"),
        (r#""00280010":{"vr":"US","Value":[true]}"#, "(0028,0010)"),
        (r#""00280010":{"vr":"US","Value":5}"#, "(0028,0010)"),
        (r#""00280010":{"vr":"US","Value":[[5]]}"#, "(0028,0010)"),
        (r#""00280010":{"vr":"LO","Value":["512"]}"#, "(0028,0010)"),
        (r#""00280010":{"vr":"ZZ","Value":[5]}"#, "(0028,0010)"),
        (r#""00280010":{"Value":[5]}"#, "(0028,0010)"),
        (r#""00280010":"5""#, "(0028,0010)"),
        (r#""00280010":{"vr":"US","Value":[5]},"00280010":{"vr":"US","Value":[6]}"#, "(0028,0010)"),
        (r#""00081030":{"vr":"LO","Value":["a\\b"]}"#, "(0008,1030)"),
        (r#""00081030":{"vr":"LO","Value":["\u0000"]}"#, "(0008,1030)"),
        (r#""00081030":{"vr":"LO","Value":[{"Alphabetic":"x"}]}"#, "(0008,1030)"),
        (r#""00081030":{"vr":"LO","BulkDataURI":"x"}"#, "(0008,1030)"),
        (r#""00081030":{"vr":"LO","InlineBinary":"AAAA"}"#, "(0008,1030)"),
        (r#""00080060":{"vr":"CS","Value":["Ü"]}"#, "(0008,0060)"),
        (r#""00101020":{"vr":"DS","Value":["tall"]}"#, "(0010,1020)"),
        (r#""00200013":{"vr":"IS","Value":[1.5]}"#, "(0020,0013)"),
        (r#""00104000":{"vr":"LT","Value":["a","b"]}"#, "(0010,4000)"),
        (r#""00091001":{"vr":"OB","InlineBinary":"AQ"}"#, "(0009,1001)"),
        (r#""00091001":{"vr":"OB","Value":[1]}"#, "(0009,1001)"),
        (r#""00091001":{"vr":"OW","InlineBinary":"AQID"}"#, "(0009,1001)"),
        (r#""00091001":{"vr":"OB","InlineBinary":"AQ==","BulkDataURI":"x"}"#, "(0009,1001)"),
        (r#""00400260":{"vr":"SQ","Value":["x"]}"#, "(0040,0260)"),
        (r#""00400260":{"vr":"SQ","BulkDataURI":"x"}"#, "(0040,0260)"),
        (r#""00400260":{"vr":"SQ","Value":[{"name":1}]}"#, "(0040,0260)"),
        (r#""FFFEE000":{"vr":"UL","Value":[1]}"#, "(FFFE,E000)"),
        (r#""Rows":{"vr":"US","Value":[1]}"#, "(0000,0000)"),
        (r#""00280010":{"vr":"US","value":[5]}"#, "(0028,0010)"),
        (r#""00280010":{"vr":"US","Value":[5],"Value":[6]}"#, "(0028,0010)"),
    ] {
        let composition = read(attribute);
        let flaw = composition.flaw().expect(attribute).to_string();
        assert!(flaw.starts_with(tag), "{attribute}: {flaw}");
        assert!(flaw.len() <= 64, "{flaw}");
        assert!(composition.sop().is_some(), "{attribute}");
    }
    // What does not belong into a data set is left out.
    let composition =
        read(r#""00020010":{"vr":"UI","Value":["1.2"]},"00080000":{"vr":"UL","Value":[4]}"#);
    assert_eq!(composition, read(""));
}

#[test]
fn what_is_no_json_is_malformed() {
    let open = "[".repeat(100_000);
    for text in [
        "",
        "[",
        "{",
        "[{}",
        "[{},]",
        "[1]",
        "{\"a\"}",
        "{\"a\":}",
        "{\"00080005\":{\"vr\":\"CS}",
        "[] x",
        "{\"a\":1e}",
        "{\"a\":01}",
        "{\"a\":tru}",
        "{\"a\":\"\u{1}\"}",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\\",
        &format!("{{\"a\":{open}"),
    ] {
        assert!(read_json(text.as_bytes(), 8, ROOM).is_err(), "{text:.40}");
    }
    assert!(read_json(b"[\xFF]", 8, ROOM).is_err());
    assert_eq!(read_json(b" [ ] ", 8, ROOM).unwrap(), []);
    // Deep nesting costs no stack, whether it is passed over or refused.
    let deep = format!("{{\"a\":{open}{}}}", "]".repeat(100_000));
    assert!(read_json(deep.as_bytes(), 8, ROOM).unwrap()[0].flaw().is_some());
    let item = "{\"00400260\":{\"vr\":\"SQ\",\"Value\":[";
    let deep = format!("{}{}", item.repeat(1000), "]}}".repeat(1000));
    assert!(read_json(deep.as_bytes(), 8, ROOM).unwrap()[0].flaw().is_some());
    // What is short to write is long to hold.
    let many = format!("{{\"00280010\":{{\"vr\":\"US\",\"Value\":[1{}]}}}}", ",1".repeat(100_000));
    assert!(read_json(many.as_bytes(), 8, ROOM).is_err());
    let many =
        format!("{{\"00400260\":{{\"vr\":\"SQ\",\"Value\":[{{}}{}]}}}}", ",{}".repeat(100_000));
    assert!(read_json(many.as_bytes(), 8, ROOM).is_err());
}

#[test]
fn numbers_become_decimal_strings_that_fit() {
    for (number, expected) in [
        ("40.50", "40.50"),
        ("0.30000000000000004", "0.3"),
        ("-0.12345678901234567", "-0.1234567890123"),
        ("1.2345678901234567e-300", "1.23456789e-300"),
        ("123456789012345678", "1.2345678901e17"),
    ] {
        let composition = read(&format!(r#""00101020":{{"vr":"DS","Value":[{number}]}}"#));
        let text = composition.text(Tag(0x0010, 0x1020)).unwrap();
        assert!(text.len() <= 16, "{text}");
        let (made, given): (f64, f64) = (text.parse().unwrap(), expected.parse().unwrap());
        assert!((made / given - 1.0).abs() < 1e-8, "{number}: {text}");
    }
}

fn model(inside: &str) -> String {
    let uid = |tag: &str, value: &str| {
        format!(
            r#"<DicomAttribute tag="{tag}" vr="UI"><Value number="1">{value}</Value></DicomAttribute>"#
        )
    };
    let uids = [
        uid("00080016", "1.2.3"),
        uid("00080018", "1.2.3.4"),
        uid("0020000D", "1.2"),
        uid("0020000E", "1.3"),
    ];
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><NativeDicomModel>{}{inside}</NativeDicomModel>",
        uids.concat()
    )
}

#[test]
fn private_elements_of_xml_get_blocks() {
    let private = |tag: &str, creator: &str, value: &str| {
        format!(
            "<DicomAttribute tag=\"{tag}\" vr=\"LO\" privateCreator=\"{creator}\">\
             <Value number=\"1\">{value}</Value></DicomAttribute>"
        )
    };
    let xml = model(
        &[
            private("00090001", "ONE", "a"),
            private("00090001", "TWO", "b"),
            private("00090000", "ONE", "c"),
            private("00091002", "ONE", "d"),
        ]
        .concat(),
    );
    let composition = read_xml(xml.as_bytes(), 8, ROOM).unwrap();
    assert_eq!(composition.flaw(), None);
    let text = |element| composition.text(Tag(9, element)).unwrap();
    assert_eq!((text(0x10), text(0x11)), ("ONE", "TWO"));
    assert_eq!([text(0x1001), text(0x1101), text(0x1000), text(0x1002)], ["a", "b", "c", "d"]);
}

#[test]
fn xml_is_read_with_its_references_and_refused_where_it_is_wrong() {
    let xml = model(
        "<DicomAttribute tag=\"00081030\" vr=\"LO\" keyword=\"x\"><Value number=\"1\">a&amp;&#252;<![CDATA[<b>]]></Value>\
         <Value number=\"2\"/></DicomAttribute>",
    );
    let composition = read_xml(xml.as_bytes(), 8, ROOM).unwrap();
    assert_eq!(composition.flaw(), None);
    assert_eq!(composition.text(Tag(0x0008, 0x1030)), Some("a&ü<b>\\"));
    assert_eq!(composition.text(CHARACTER_SET), Some("ISO_IR 192"));

    for inside in [
        "<DicomAttribute tag=\"00081030\" vr=\"LO\"><Value number=\"0\">a</Value></DicomAttribute>",
        "<DicomAttribute tag=\"00280010\" vr=\"US\"><Value number=\"1\">a</Value></DicomAttribute>",
        "<DicomAttribute tag=\"00091001\" vr=\"OB\"><BulkData/></DicomAttribute>",
        "<DicomAttribute tag=\"00080005\"/>",
        "<DicomAttribute tag=\"00081030\" vr=\"LO\"><Valeu number=\"1\">a</Valeu></DicomAttribute>",
        "<Other><DicomAttribute/></Other>",
    ] {
        let composition = read_xml(model(inside).as_bytes(), 8, ROOM).unwrap();
        assert!(composition.flaw().is_some() && composition.sop().is_some(), "{inside}");
    }
    let bomb = "<!DOCTYPE x [<!ENTITY a \"aaaa\">]><NativeDicomModel>&a;</NativeDicomModel>";
    for text in [
        "",
        "<",
        "<NativeDicomModel>",
        "<Other/>",
        "<NativeDicomModel/><NativeDicomModel/>",
        bomb,
        "<NativeDicomModel></Other>",
        "<NativeDicomModel>&unknown;</NativeDicomModel>",
        "<NativeDicomModel><DicomAttribute vr=\"LO\"/></NativeDicomModel>",
        &format!("<NativeDicomModel>{}", "<a>".repeat(100_000)),
    ] {
        assert!(read_xml(text.as_bytes(), 8, ROOM).is_err(), "{text:.60}");
    }
    let item = "<DicomAttribute tag=\"00400260\" vr=\"SQ\"><Item number=\"1\">";
    let deep = model(&[item.repeat(20), "</Item></DicomAttribute>".repeat(20)].concat());
    let flaw = read_xml(deep.as_bytes(), 8, ROOM).unwrap().flaw().unwrap();
    assert!(flaw.to_string().contains("limits.element_depth"), "{flaw}");
}

#[test]
fn pixel_data_fills_in_and_must_not_contradict() {
    let told = Description {
        rows: 4,
        columns: 6,
        samples: 1,
        bits: 12,
        signed: false,
        photometric: "MONOCHROME2",
        lossy: true,
    };
    let mut composition = read("");
    composition.describe(&told).unwrap();
    let data_set = DataSet::parse(&metadata(&file(&composition, b""))).unwrap();
    let numbers = [0x0002, 0x0010, 0x0011, 0x0100, 0x0101, 0x0102, 0x0103];
    let numbers = numbers.map(|element| data_set.root().integer(Tag(0x0028, element)).unwrap());
    assert_eq!(numbers, [1, 4, 6, 16, 12, 11, 0]);
    assert_eq!(composition.text(Tag(0x0028, 0x2110)), Some("01"));
    for attribute in [
        r#""00280010":{"vr":"US","Value":[5]}"#,
        r#""00280002":{"vr":"US","Value":[3]}"#,
        r#""00280100":{"vr":"US","Value":[8]}"#,
        r#""00280004":{"vr":"CS","Value":["RGB"]}"#,
    ] {
        assert!(read(attribute).describe(&told).is_err(), "{attribute}");
    }
    let place = Place { tag: PIXEL_DATA, vr: VR::OW, uri: String::new(), top: true };
    assert_eq!(composition.native_length(&place), Some(48));
    composition.check_native(&place, 48).unwrap();
    for length in [0, 46, 50] {
        composition.check_native(&place, length).unwrap_err();
    }
}
