//! Each kind of matching on each kind of value.

use proptest::prelude::*;

use super::*;
use crate::dicom::{Tag, normalise};

const AT: Element = Element::Standard(Tag(0x0010, 0x0010));

fn object(json: &str) -> Object<'_> {
    serde_json::from_str(json).unwrap()
}

/// Whether one attribute, given as its object, passes.
fn passes(attribute: &str, kind: Matching, test: Test) -> bool {
    let json = format!("{{\"00100010\":{attribute}}}");
    KeyTest::Value { at: AT, kind, test }.matches(&object(&json))
}

fn equals(value: &str) -> Test {
    Test::Equals(value.into())
}

fn like(pattern: &str) -> Test {
    Test::Like(pattern.into())
}

fn range(from: &str, to: &str) -> Test {
    let bound = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Test::Range { from: bound(from), to: bound(to) }
}

#[test]
fn values_of_every_kind() {
    use Matching::*;
    let name = r#"{"vr":"PN","Value":[{"Alphabetic":"Müller^Jörg","Ideographic":"山田^太郎"}]}"#;
    for (attribute, kind, test, expected) in [
        (r#"{"vr":"LO","Value":[" a b "]}"#, Text, equals("a b"), true),
        (r#"{"vr":"LO","Value":["A b"]}"#, Text, equals("a b"), false),
        (r#"{"vr":"LO","Value":["x","a \"b"]}"#, Text, equals("a \"b"), true),
        (r#"{"vr":"LT","Value":["one\r\ntwo"]}"#, Text, like("one*two"), true),
        (r#"{"vr":"LO","Value":["abc"]}"#, Text, like("?b*"), true),
        (r#"{"vr":"LO","Value":[null,"abc"]}"#, Text, like("b*"), false),
        (name, PersonName, equals("muller^jorg"), true),
        (name, PersonName, like("山田*"), true),
        (name, PersonName, equals("muller"), false),
        (r#"{"vr":"PN","Value":["Müller"]}"#, PersonName, equals("muller"), false),
        (r#"{"vr":"DA","Value":["20200101"]}"#, Date, range("20200101", ""), true),
        (r#"{"vr":"DA","Value":["2020.01.02"]}"#, Date, equals("20200102"), true),
        (r#"{"vr":"DA","Value":["20200101"]}"#, Date, range("", "20191231"), false),
        (r#"{"vr":"DA","Value":["nonsense"]}"#, Date, range("", "99991231"), false),
        (r#"{"vr":"TM","Value":["1030"]}"#, Time, equals("103000.000000"), true),
        (
            r#"{"vr":"DT","Value":["20200101003000+0100"]}"#,
            DateTime,
            range("20191231", "2019123124"),
            true,
        ),
        (r#"{"vr":"IS","Value":[7]}"#, Integer, equals("7"), true),
        (r#"{"vr":"IS","Value":["007"]}"#, Integer, equals("7"), true),
        (
            r#"{"vr":"UV","Value":[18446744073709551615]}"#,
            Integer,
            equals("18446744073709551615"),
            true,
        ),
        (r#"{"vr":"IS","Value":[7.5]}"#, Integer, equals("7"), false),
        (r#"{"vr":"DS","Value":[1.50]}"#, Decimal, equals("1.5"), true),
        (r#"{"vr":"DS","Value":[1.5e1]}"#, Decimal, equals("15"), true),
        (r#"{"vr":"FD","Value":["NaN"]}"#, Decimal, equals("0"), false),
        (r#"{"vr":"AS","Value":["063Y"]}"#, Exact, equals("063Y"), true),
        (r#"{"vr":"AT","Value":["0020000d"]}"#, AttributeTag, equals("0020000D"), true),
        (r#"{"vr":"UI","Value":["1.2","1.3"]}"#, Uid, Test::AnyOf(vec!["1.3".into()]), true),
        (r#"{"vr":"UI","Value":["1.2"]}"#, Uid, Test::AnyOf(vec!["1".into()]), false),
    ] {
        assert_eq!(passes(attribute, kind, test.clone()), expected, "{attribute} {test:?}");
    }
}

#[test]
fn emptiness_is_absence_of_values() {
    for (attribute, empty) in [
        (r#"{"vr":"LO"}"#, true),
        (r#"{"vr":"LO","Value":[]}"#, true),
        (r#"{"vr":"LO","Value":[null,null]}"#, true),
        (r#"{"vr":"OB","InlineBinary":""}"#, true),
        (r#"{"vr":"LO","Value":[null,"a"]}"#, false),
        (r#"{"vr":"DA","Value":["nonsense"]}"#, false),
        (r#"{"vr":"SQ","Value":[{}]}"#, false),
        (r#"{"vr":"SQ"}"#, true),
        (r#"{"vr":"UT","BulkDataURI":"@x"}"#, false),
        (r#"{"vr":"OB","InlineBinary":"AA=="}"#, false),
        ("7", false),
    ] {
        assert_eq!(passes(attribute, Matching::Text, Test::Empty), empty, "{attribute}");
        let untyped = KeyTest::Untyped { at: AT, tests: vec![(Matching::Text, Test::Empty)] };
        let json = format!("{{\"00100010\":{attribute}}}");
        assert_eq!(untyped.matches(&object(&json)), empty, "{attribute}");
    }
    let absent = KeyTest::Value { at: AT, kind: Matching::Text, test: Test::Empty };
    assert!(absent.matches(&object("{}")));
    // Without a value nothing else passes.
    for test in [equals(""), like("*"), range("", "z"), Test::AnyOf(vec![String::new()])] {
        assert!(!passes(r#"{"vr":"LO"}"#, Matching::Text, test.clone()), "{test:?}");
    }
}

#[test]
fn every_listed_value_by_whichever_and_words_of_names() {
    let modes = r#"{"vr":"CS","Value":["ORIGINAL","PRIMARY","AXIAL"]}"#;
    let all = |values: &[&str]| Test::All(values.iter().map(|value| equals(value)).collect());
    assert!(passes(modes, Matching::Text, all(&["AXIAL", "ORIGINAL"])));
    assert!(!passes(modes, Matching::Text, all(&["AXIAL", "DERIVED"])));
    assert!(passes(modes, Matching::Text, Test::Any(vec![equals("X"), equals("AXIAL")])));

    let name = r#"{"vr":"PN","Value":[{"Alphabetic":"Van der Meer^Anna-Maria"}]}"#;
    let word = |text: &str| Test::Fuzzy(Word { text: text.into(), sound: names::sound(text) });
    for (words, expected) in [
        (&["mar", "meer"][..], true),
        (&["anna", "van"], true),
        (&["ria"], false),
        (&["an", "x"], false),
    ] {
        let test = Test::All(words.iter().map(|text| word(text)).collect());
        assert_eq!(passes(name, Matching::PersonName, test), expected, "{words:?}");
    }
}

#[test]
fn one_item_passes_all_tests_of_a_sequence() {
    let step = Element::Standard(Tag(0x0040, 0x0009));
    let procedure = Element::Standard(Tag(0x0040, 0x1001));
    let value = |at: &Element, test| KeyTest::Value { at: at.clone(), kind: Matching::Text, test };
    let item = |tests| KeyTest::Item { at: AT, tests };
    let json = r#"{"00100010":{"vr":"SQ","Value":[
        {"00400009":{"vr":"SH","Value":["S1"]},"00401001":{"vr":"SH","Value":["P1"]}},
        {"00400009":{"vr":"SH","Value":["S2"]}}, 7, null]}}"#;
    let object = object(json);
    let both = |s: &str, p: &str| item(vec![value(&step, equals(s)), value(&procedure, equals(p))]);
    assert!(both("S1", "P1").matches(&object));
    assert!(!both("S2", "P1").matches(&object));
    assert!(
        item(vec![value(&step, equals("S2")), value(&procedure, Test::Empty)]).matches(&object)
    );
    // Items in items.
    let nested = r#"{"00100010":{"vr":"SQ","Value":[{"00100010":{"vr":"SQ","Value":[
        {"00400009":{"vr":"SH","Value":["S1"]}}]}}]}}"#;
    let test = item(vec![item(vec![value(&step, equals("S1"))])]);
    assert!(test.matches(&serde_json::from_str(nested).unwrap()));
    assert!(!test.matches(&object));
}

#[test]
fn a_private_attribute_is_what_its_data_set_says() {
    let at = Element::Private { group: 0x0023, creator: "ACME".into(), element: 0x01 };
    let kinds = [(Matching::Text, equals("007")), (Matching::Integer, equals("7"))];
    let test = KeyTest::Untyped { at, tests: kinds.to_vec() };
    for (json, expected) in [
        (
            r#"{"00230010":{"vr":"LO","Value":["ACME"]},"00231001":{"vr":"LO","Value":["007"]}}"#,
            true,
        ),
        (r#"{"00230011":{"vr":"LO","Value":["ACME "]},"00231101":{"vr":"IS","Value":[7]}}"#, true),
        (
            r#"{"00230010":{"vr":"LO","Value":["ACME"]},"00231001":{"vr":"LO","Value":["7"]}}"#,
            false,
        ),
        (
            r#"{"00230010":{"vr":"LO","Value":["OTHER"]},"00231001":{"vr":"LO","Value":["007"]}}"#,
            false,
        ),
        // Implicit VR: "007 ".
        (
            r#"{"00230010":{"vr":"LO","Value":["ACME"]},"00231001":{"vr":"UN","InlineBinary":"MDA3IA=="}}"#,
            true,
        ),
        (
            r#"{"00230010":{"vr":"LO","Value":["ACME"]},"00231001":{"vr":"UN","InlineBinary":"/w=="}}"#,
            false,
        ),
        (r#"{"00231001":{"vr":"LO","Value":["007"]}}"#, false),
        (
            r#"{"00230010":{"vr":"LO","Value":["ACME"]},"00231001":{"vr":"OB","InlineBinary":"MDA3IA=="}}"#,
            false,
        ),
    ] {
        assert_eq!(test.matches(&object(json)), expected, "{json}");
    }
}

#[test]
fn a_date_and_its_time_are_one_moment() {
    let key = |day: &str, clock: &str| Some((day.to_owned(), clock.to_owned()));
    let test = |from, to| KeyTest::Moment {
        date: Element::Standard(Tag(0x0008, 0x0022)),
        time: Element::Standard(Tag(0x0008, 0x0032)),
        from,
        to,
    };
    let set = |date: &str, time: &str| {
        let time = if time.is_empty() { String::new() } else { format!(",\"Value\":[\"{time}\"]") };
        format!(
            "{{\"00080022\":{{\"vr\":\"DA\",\"Value\":[\"{date}\"]}},\"00080032\":{{\"vr\":\"TM\"{time}}}}}"
        )
    };
    let within = test(key("20200101", "100000.000000"), key("20200103", "115959.999999"));
    for (date, time, expected) in [
        ("20200101", "0959", false),
        ("20200101", "10", true),
        ("20200102", "23", true),
        ("20200103", "115959.5", true),
        ("20200103", "12", false),
        ("20200102", "", true),
        ("20200101", "", false),
        ("20200103", "", false),
    ] {
        assert_eq!(within.matches(&object(&set(date, time))), expected, "{date} {time}");
    }
    assert!(test(key("20200101", FIRST_INSTANT), None).matches(&object(&set("20200101", ""))));
    assert!(test(None, key("20200101", LAST_INSTANT)).matches(&object(&set("20200101", ""))));
    assert!(!test(None, None).matches(&object(r#"{"00080032":{"vr":"TM","Value":["10"]}}"#)));
}

fn junk() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("\"\"".to_owned()),
        Just("1e400".to_owned()),
        Just("-0.5".to_owned()),
        Just("\"20200101\"".to_owned()),
        Just("{\"Alphabetic\":7}".to_owned()),
        Just("{\"Alphabetic\":\"a\",\"Ideographic\":null}".to_owned()),
        "\\PC{0,8}".prop_map(|text| serde_json::to_string(&text).unwrap()),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let list = prop::collection::vec(inner.clone(), 0..4)
            .prop_map(|all| format!("[{}]", all.join(",")));
        prop_oneof![
            list.clone(),
            (inner, list).prop_map(|(vr, value)| format!("{{\"vr\":{vr},\"Value\":{value}}}")),
        ]
    })
}

proptest! {
    #[test]
    fn nothing_panics_on_what_is_no_dicom_json(value in junk(), vr in "\"(LO|PN|SQ|UN|DA|XX)\"") {
        use Matching::*;
        for json in [
            format!("{{\"00100010\":{value}}}"),
            format!("{{\"00100010\":{{\"vr\":{vr},\"Value\":{value}}}}}"),
            format!("{{\"00100010\":{{\"vr\":{vr},\"Value\":[{value}]}}}}"),
        ] {
            let object = object(&json);
            for kind in [Uid, Text, PersonName, Date, Time, Integer, Exact, DateTime, Decimal, AttributeTag] {
                for test in [equals("a"), like("*"), range("", ""), Test::Empty] {
                    KeyTest::Value { at: AT, kind, test: test.clone() }.matches(&object);
                    let inner = KeyTest::Untyped { at: AT, tests: vec![(kind, test)] };
                    KeyTest::Item { at: AT, tests: vec![inner] }.matches(&object);
                }
            }
        }
    }

    /// What the index would hold of a value passes as it passes here.
    #[test]
    fn values_are_normalised_as_keys_are(text in "[ -~é]{0,10}") {
        let json = format!("{{\"vr\":\"LO\",\"Value\":[{}]}}", serde_json::to_string(&text).unwrap());
        let key = normalise::text(&text).unwrap();
        prop_assert_eq!(passes(&json, Matching::Text, equals(&key)), !key.is_empty());
    }
}
