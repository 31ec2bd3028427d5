//! Values into DICOM JSON, by example and by property.

use proptest::prelude::*;

use super::*;

const ALL: [VR; 34] = [
    VR::AE,
    VR::AS,
    VR::AT,
    VR::CS,
    VR::DA,
    VR::DS,
    VR::DT,
    VR::FD,
    VR::FL,
    VR::IS,
    VR::LO,
    VR::LT,
    VR::OB,
    VR::OD,
    VR::OF,
    VR::OL,
    VR::OV,
    VR::OW,
    VR::PN,
    VR::SH,
    VR::SL,
    VR::SQ,
    VR::SS,
    VR::ST,
    VR::SV,
    VR::TM,
    VR::UC,
    VR::UI,
    VR::UL,
    VR::UN,
    VR::UR,
    VR::US,
    VR::UT,
    VR::UV,
];

fn json(vr: VR, value: &[u8], endian: Endian, charset: &str) -> String {
    let mut out = Vec::new();
    write_value(&mut out, vr, value, endian, &Charset::from_value(charset.as_bytes()).0);
    let text = String::from_utf8(out).unwrap();
    serde_json::from_str::<serde_json::Value>(&text).unwrap();
    text
}

/// Checks what follows `{"vr":"XX"`.
#[track_caller]
fn check(vr: VR, value: &[u8], expect: &str) {
    let expect = format!("{{\"vr\":\"{vr}\"{expect}}}");
    assert_eq!(json(vr, value, Endian::Little, "ISO_IR 192"), expect);
}

#[test]
fn text() {
    check(VR::CS, b"CT", r#","Value":["CT"]"#);
    check(VR::CS, b" ORIGINAL \\PRIMARY ", r#","Value":["ORIGINAL","PRIMARY"]"#);
    check(VR::UI, b"1.2.3\0", r#","Value":["1.2.3"]"#);
    check(VR::LO, b"  a b  \0 ", r#","Value":["a b"]"#);
    check(VR::LT, b"  a\\b \r\n\t\"c\"\x0c ", r#","Value":["  a\\b \r\n\t\"c\"\u000c"]"#);
    check(VR::UC, b" a \\ b ", r#","Value":[" a"," b"]"#);
    check(VR::UR, b"http://x/a?b=\\c  ", r#","Value":["http://x/a?b=\\c"]"#);
    check(VR::ST, "ümlaut".as_bytes(), r#","Value":["ümlaut"]"#);
    check(VR::LO, b"a\0b", ",\"Value\":[\"a\u{fffd}b\"]");
    check(VR::LO, b"a\x7f\x01b", ",\"Value\":[\"a\x7f\\u0001b\"]");
    // Character sets are for text alone.
    check(VR::CS, b"\xe4", r#","Value":["ä"]"#);
    assert_eq!(json(VR::LO, b"\xe4", Endian::Big, "ISO_IR 100"), r#"{"vr":"LO","Value":["ä"]}"#);
}

#[test]
fn empty() {
    for vr in ALL {
        check(vr, b"", "");
    }
    check(VR::LO, b"   ", "");
    check(VR::PN, b" \0", "");
    check(VR::PN, b"= =", "");
    check(VR::PN, b"A\\==", r#","Value":[{"Alphabetic":"A"},null]"#);
    check(VR::CS, b"\\", r#","Value":[null,null]"#);
    check(VR::CS, b"A\\\\B\\ ", r#","Value":["A",null,"B",null]"#);
    check(VR::DS, b"\\1.5", r#","Value":[null,1.5]"#);
    check(VR::US, b"\x01", "");
}

#[test]
fn decimal_strings() {
    let check = |text: &str, expect: &str| {
        check(VR::DS, text.as_bytes(), &format!(",\"Value\":[{expect}]"));
    };
    for same in ["0", "1.50", "-1", "-0.0", "1e5", "1E+05".replace('E', "e").as_str(), "12e-3"] {
        check(same, same);
    }
    check(" +1.5 ", "1.5");
    check("007", "7");
    check("-007.0", "-7.0");
    check("00", "0");
    check(".5", "0.5");
    check("-.5E3", "-0.5e3");
    check("5.", "5");
    check("1.\\2.E1", "1,2e1");
    for text in
        ["a", ".", "-", "+", "1e", "1e+", "1,5", "1 5", "--1", "NaN", "1e999", "0x10", "1e5.", "١"]
    {
        let decoded = Charset::DEFAULT.decode(text.as_bytes(), Text::Plain);
        check(text, &format!("\"{decoded}\""));
    }
    check(&"9".repeat(400), &format!("\"{}\"", "9".repeat(400)));
    super::tests::check(VR::IS, b"+12 \\-0", r#","Value":[12,-0]"#);
}

#[test]
fn binary_numbers() {
    check(VR::US, b"\x01\x00\xff\xff", r#","Value":[1,65535]"#);
    check(VR::SS, b"\xff\xff", r#","Value":[-1]"#);
    check(VR::UL, b"\xff\xff\xff\xff", r#","Value":[4294967295]"#);
    check(VR::SL, b"\x00\x00\x00\x80", r#","Value":[-2147483648]"#);
    check(VR::UV, &[0xff; 8], r#","Value":[18446744073709551615]"#);
    check(VR::SV, &[0xff; 8], r#","Value":[-1]"#);
    check(VR::AT, b"\x10\x00\x20\x00\xe0\x7f\x10\x00", r#","Value":["00100020","7FE00010"]"#);
    check(VR::FD, &1e300f64.to_le_bytes(), r#","Value":[1e+300]"#);
    check(VR::FL, &0.5f32.to_le_bytes(), r#","Value":[0.5]"#);
    check(VR::FL, &0.1f32.to_le_bytes(), r#","Value":[0.10000000149011612]"#);
    let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY].map(f32::to_le_bytes).concat();
    check(VR::FL, &odd, r#","Value":["NaN","Infinity","-Infinity"]"#);
    let big = |vr, value: &[u8]| json(vr, value, Endian::Big, "");
    assert_eq!(big(VR::US, b"\x01\x02"), r#"{"vr":"US","Value":[258]}"#);
    assert_eq!(big(VR::AT, b"\x00\x10\x00\x20"), r#"{"vr":"AT","Value":["00100020"]}"#);
    assert_eq!(big(VR::FD, &2.0f64.to_be_bytes()), r#"{"vr":"FD","Value":[2.0]}"#);
}

#[test]
fn inline_binary_is_little_endian() {
    let bytes = [1, 2, 3, 4, 5, 6, 7, 8];
    for (vr, big) in [
        (VR::OB, bytes),
        (VR::UN, bytes),
        (VR::OW, [2, 1, 4, 3, 6, 5, 8, 7]),
        (VR::OF, [4, 3, 2, 1, 8, 7, 6, 5]),
        (VR::OL, [4, 3, 2, 1, 8, 7, 6, 5]),
        (VR::OD, [8, 7, 6, 5, 4, 3, 2, 1]),
        (VR::OV, [8, 7, 6, 5, 4, 3, 2, 1]),
    ] {
        let expect = r#"{"vr":"XX","InlineBinary":"AQIDBAUGBwg="}"#.replace("XX", vr.to_string());
        assert_eq!(json(vr, &bytes, Endian::Little, ""), expect);
        assert_eq!(json(vr, &big, Endian::Big, ""), expect);
    }
}

#[test]
fn person_names() {
    check(VR::PN, b"Doe^John^ ", r#","Value":[{"Alphabetic":"Doe^John^"}]"#);
    check(
        VR::PN,
        "A=山=b\\=山\\\\==c=d".as_bytes(),
        r#","Value":[{"Alphabetic":"A","Ideographic":"山","Phonetic":"b"},{"Ideographic":"山"},null,{"Phonetic":"c"}]"#,
    );
}

#[test]
fn bulk_uris_are_resolved() {
    let mut object = b"{".to_vec();
    write_tag(&mut object, Tag(0x0054, 0x0016));
    object.extend_from_slice(b"{\"vr\":\"SQ\",\"Value\":[{");
    write_tag(&mut object, Tag(0x0018, 0x1072));
    write_bulk(&mut object, VR::OB, "00540016/0/00181072");
    object.extend_from_slice(b"}]},");
    write_tag(&mut object, Tag(0x7FE0, 0x0010));
    write_bulk(&mut object, VR::OW, "7FE00010");
    object.push(b'}');
    let resolved = |base, query| {
        let mut out = b"[".to_vec();
        resolve_bulk(&mut out, &object, base, query);
        String::from_utf8(out).unwrap()
    };
    let plain = r#"[{"00540016":{"vr":"SQ","Value":[{"00181072":{"vr":"OB","BulkDataURI":"/b/00540016/0/00181072"}}]},"7FE00010":{"vr":"OW","BulkDataURI":"/b/7FE00010"}}"#;
    assert_eq!(resolved("/b", ""), plain);
    let value: serde_json::Value = serde_json::from_str(&resolved("/\"b", "?x=\"\\")[1..]).unwrap();
    assert_eq!(value["7FE00010"]["BulkDataURI"], "/\"b/7FE00010?x=\"\\");
}

proptest! {
    #[test]
    fn any_bytes_become_json(
        vr in prop::sample::select(ALL.to_vec()),
        value in prop::collection::vec(any::<u8>(), 0..40),
        big in any::<bool>(),
        charset in prop::sample::select(vec!["", "ISO_IR 192", "GBK", "ISO 2022 IR 13\\ISO 2022 IR 87"]),
    ) {
        let endian = if big { Endian::Big } else { Endian::Little };
        let text = json(vr, &value, endian, charset);
        prop_assert!(!text.contains("\\u0000"));
    }

    #[test]
    fn no_text_forges_the_marker(
        vr in prop::sample::select(ALL.to_vec()),
        before in "[\"\\\\ -~]{0,6}",
        marker in prop::sample::select(vec![
            "\"BulkDataURI\":\"@7FE00010\"", "BulkDataURI\":\"@", "BulkDataURI", "\\\"BulkDataURI\":\"@",
            ",\"BulkDataURI\":\"@x\"}",
        ]),
        after in "[\"\\\\ -~]{0,6}",
    ) {
        let value = format!("{before}{marker}{after}");
        let text = json(vr, value.as_bytes(), Endian::Little, "ISO_IR 192");
        prop_assert!(!has_bulk(text.as_bytes()));
        let mut out = Vec::new();
        resolve_bulk(&mut out, text.as_bytes(), "base", "query");
        prop_assert_eq!(out, text.into_bytes());
    }

    #[test]
    fn decimals_keep_their_value(number in any::<f64>().prop_filter("finite", |n| n.is_finite())) {
        for text in [format!("{number}"), format!("{number:e}"), format!("+{:.3}", number.abs())] {
            let mut out = Vec::new();
            if number::decimal(&mut out, text.as_bytes()) {
                let read: f64 = std::str::from_utf8(&out).unwrap().parse().unwrap();
                prop_assert_eq!(read, text.parse::<f64>().unwrap());
                prop_assert!(serde_json::from_slice::<f64>(&out).is_ok());
            } else {
                prop_assert!(text.len() > 300);
            }
        }
    }
}
