//! Values of each value representation.

use proptest::prelude::*;

use super::*;

const PLAIN: Ways = Ways { fuzzy: false, empty: false, multiple: false };

fn equals(value: &str) -> Test {
    Test::Equals(value.into())
}

fn like(value: &str) -> Test {
    Test::Like(value.into())
}

fn range(from: &str, to: &str) -> Test {
    let bound = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Test::Range { from: bound(from), to: bound(to) }
}

/// The test that a value becomes.
fn test_of(vr: VR, value: &str, ways: Ways) -> Result<Test, String> {
    match asked(Some(vr), &[value], ways)? {
        Asked::Test(test) => Ok(test),
        Asked::Period(period) => period.test(),
        other => Err(format!("{other:?}")),
    }
}

#[test]
fn single_values_wildcards_and_ranges() {
    for (vr, value, expected) in [
        (VR::LO, " a B ", equals("a B")),
        (VR::LO, "a*b?", like("a*b?")),
        (VR::UT, "a\\b", equals("a\\b")),
        (VR::LO, "a\\b", equals("a\\b")),
        (VR::AS, "063Y", equals("063Y")),
        (VR::AS, "06*", equals("06*")),
        (VR::AT, "0020000d", equals("0020000D")),
        (VR::PN, "Müller^J*", like("muller^j*")),
        (VR::PN, "Yamada=山田", Test::All(vec![Test::All(vec![equals("yamada"), equals("山田")])])),
        (VR::PN, "*=山田=", equals("山田")),
        (VR::UI, "1.2", Test::AnyOf(vec!["1.2".into()])),
        (VR::UI, "1.2,1.3\\\\1.4", Test::AnyOf(vec!["1.2".into(), "1.3".into(), "1.4".into()])),
        (VR::IS, "+007", equals("7")),
        (VR::SV, "-3", equals("-3")),
        (VR::UV, "18446744073709551615", equals("18446744073709551615")),
        (VR::DS, "1.50", equals("1.5")),
        (VR::FD, "0.1", equals("0.1")),
        (VR::FL, "0.5", equals("0.5")),
        (VR::FL, "0.1", Test::AnyOf(vec!["0.1".into(), "0.10000000149011612".into()])),
        (VR::FL, "1e300", equals(&format!("1{}", "0".repeat(300)))),
        (VR::DA, "20200101", equals("20200101")),
        (VR::DA, "20200101-20200101", equals("20200101")),
        (VR::DA, "20200101-", range("20200101", "")),
        (VR::DA, "-20200101", range("", "20200101")),
        (VR::DA, "20200101 - 20200102", range("20200101", "20200102")),
        (VR::TM, "10", range("100000.000000", "105959.999999")),
        (VR::TM, "101112.123456", equals("101112.123456")),
        (VR::TM, "10-1130", range("100000.000000", "113059.999999")),
        (VR::DT, "2020", range("20200101000000.000000", "20201231235959.999999")),
        (VR::DT, "2020-", range("20200101000000.000000", "")),
        (VR::DT, "-2020", range("", "20201231235959.999999")),
        (VR::DT, "2020-2021", range("20200101000000.000000", "20211231235959.999999")),
        // A possible offset is one.
        (VR::DT, "2020-0500", range("20200101050000.000000", "20210101045959.999999")),
        (VR::DT, "2020-0500-", range("20200101050000.000000", "")),
        (VR::DT, "-2020-0500", range("", "20210101045959.999999")),
        (
            VR::DT,
            "20200101-0500-20200102+0000",
            range("20200101050000.000000", "20200102235959.999999"),
        ),
        (VR::DT, "20200101-20200102-0500", range("20200101000000.000000", "20200103045959.999999")),
        (VR::DT, "202001010030 0100", range("20191231233000.000000", "20191231233059.999999")),
    ] {
        assert_eq!(test_of(vr, value, PLAIN), Ok(expected), "{vr} {value}");
    }
}

#[test]
fn what_no_value_can_be_is_refused_by_its_rule() {
    for (vr, value, rule) in [
        (VR::UI, "1..2", "UID"),
        (VR::UI, "1.*", "UID"),
        (VR::DA, "2020", "date"),
        (VR::DA, "2020010*", "date"),
        (VR::DA, "-", "a beginning or an end"),
        (VR::DA, "20200102-20200101", BACKWARD),
        (VR::DA, "20200101-20200102-20200103", "date"),
        (VR::TM, "25", "time"),
        (VR::TM, "10:1", "time"),
        (VR::TM, "11-10", BACKWARD),
        (VR::DT, "2021-2020", BACKWARD),
        (VR::DT, "2020-13-01", "date time"),
        (VR::DT, "-", "date time"),
        (VR::IS, "1.5", "integer"),
        (VR::IS, "1*", "integer"),
        (VR::US, "x", "integer"),
        (VR::DS, "x", "decimal"),
        (VR::FD, "NaN", "decimal"),
        (VR::AT, "x", "tag"),
        (VR::LO, "a\nb", "control"),
        (VR::PN, "a=b=c=d", "three"),
        (VR::SQ, "x", "sequence"),
        (VR::LO, &"x".repeat(513), "512"),
    ] {
        let refused = test_of(vr, value, PLAIN).expect_err(value);
        assert!(refused.contains(rule), "{vr} {value}: {refused}");
    }
}

#[test]
fn what_asks_for_nothing_is_universal() {
    for vr in [VR::LO, VR::PN, VR::DA, VR::UI, VR::IS, VR::DT, VR::SQ, VR::OB] {
        for value in ["", "*", " ** "] {
            assert_eq!(asked(Some(vr), &[value], PLAIN), Ok(Asked::Universal), "{vr} {value}");
            assert_eq!(asked(None, &[value], PLAIN), Ok(Asked::Universal), "{value}");
        }
    }
    assert_eq!(asked(Some(VR::PN), &["^^="], PLAIN), Ok(Asked::Universal));
    assert_eq!(asked(Some(VR::UI), &[",\\"], PLAIN), Ok(Asked::Universal));
    assert_eq!(asked(Some(VR::OB), &["x"], PLAIN), Ok(Asked::Unsupported));
}

#[test]
fn switches_change_what_values_mean() {
    let empty = Ways { empty: true, ..PLAIN };
    for vr in [VR::LO, VR::PN, VR::DA, VR::UI, VR::IS, VR::SQ, VR::OB] {
        assert_eq!(test_of(vr, "\"\"", empty), Ok(Test::Empty), "{vr}");
    }
    assert_eq!(test_of(VR::LO, "\"\"", PLAIN), Ok(equals("\"\"")));
    assert!(test_of(VR::DA, "\"\"", PLAIN).is_err());

    let multiple = Ways { multiple: true, ..PLAIN };
    let all = |values: &[&str]| Test::All(values.iter().map(|value| equals(value)).collect());
    for vr in [VR::AE, VR::AS, VR::CS, VR::LO, VR::SH, VR::UC] {
        assert_eq!(test_of(vr, "A\\B*\\", multiple), Ok(all(&["A", "B*"])), "{vr}");
        assert_eq!(test_of(vr, "B", multiple), Ok(equals("B")), "{vr}");
    }
    assert_eq!(test_of(VR::PN, "Ä^B\\C=D", multiple), {
        Ok(Test::All(vec![equals("a^b"), Test::All(vec![equals("c"), equals("d")])]))
    });
    assert_eq!(test_of(VR::AT, "00100010\\0020000d", multiple), Ok(all(&["00100010", "0020000D"])));
    assert_eq!(test_of(VR::UI, "1.2\\1.3", multiple), Ok(all(&["1.2", "1.3"])));
    assert_eq!(test_of(VR::UT, "A\\B", multiple), Ok(equals("A\\B")));
    assert!(test_of(VR::LO, &"A\\".repeat(40), multiple).is_err());

    let fuzzy = Ways { fuzzy: true, ..PLAIN };
    let word = |text: &str| Test::Fuzzy(Word { text: text.into(), sound: names::sound(text) });
    assert_eq!(
        test_of(VR::PN, "Jö* ^van-der=山", fuzzy),
        Ok(Test::All(vec![Test::All(vec![word("jo"), word("van"), word("der"), word("山")])]))
    );
    assert_eq!(test_of(VR::PN, "Jö*", fuzzy), Ok(word("jo")));
    assert_eq!(asked(Some(VR::PN), &["^-?"], fuzzy), Ok(Asked::Universal));
    assert_eq!(test_of(VR::LO, "Jö*", fuzzy), Ok(like("Jö*")));
}

#[test]
fn what_only_data_sets_tell_is_asked_of_every_kind_that_fits() {
    let kinds = |value| match asked(None, &[value], PLAIN) {
        Ok(Asked::Untyped(tests)) => tests,
        other => panic!("{other:?}"),
    };
    let of =
        |value, kind| kinds(value).into_iter().find(|(of, _)| *of == kind).map(|(_, test)| test);
    assert_eq!(of("007", Matching::Text), Some(equals("007")));
    assert_eq!(of("007", Matching::Integer), Some(equals("7")));
    assert_eq!(of("007", Matching::Date), None);
    assert_eq!(of("20200101-", Matching::Date), Some(range("20200101", "")));
    assert_eq!(of("Ä*", Matching::PersonName), Some(like("a*")));
    assert_eq!(of("Ä*", Matching::Exact), Some(equals("Ä*")));
    assert!(asked(None, &["a\nb"], PLAIN).is_err());
    let by = |value, ways| match asked(None, &[value], ways) {
        Ok(Asked::Untyped(tests)) => tests,
        other => panic!("{other:?}"),
    };
    let several = by("A\\B*", Ways { multiple: true, ..PLAIN });
    let both = Test::All(vec![equals("A"), equals("B*")]);
    assert!(several.contains(&(Matching::Text, both)), "{several:?}");
    let word = Test::Fuzzy(Word { text: "jo".into(), sound: names::sound("jo") });
    let fuzzy = by("Jö", Ways { fuzzy: true, ..PLAIN });
    assert!(
        fuzzy.contains(&(Matching::PersonName, word))
            && fuzzy.contains(&(Matching::Text, equals("Jö")))
    );
}

proptest! {
    #[test]
    fn nothing_panics_and_tests_are_normalised(
        value in "[0-9*?.,=^\\\\+ -]{0,24}|\\PC{0,12}",
        (fuzzy, empty, multiple) in any::<(bool, bool, bool)>(),
    ) {
        let ways = Ways { fuzzy, empty, multiple };
        use VR::*;
        for vr in [
            AE, AS, AT, CS, DA, DS, DT, FD, FL, IS, LO, LT, OB, OD, OF, OL, OV, OW, PN, SH, SL, SQ,
            SS, ST, SV, TM, UC, UI, UL, UN, UR, US, UT, UV,
        ] {
            if let Ok(Asked::Test(Test::Equals(key))) = asked(Some(vr), &[&value], ways) {
                let kind = Matching::of(vr).unwrap();
                prop_assert_eq!(kind.normalise(&key), Ok(key.clone()), "{}", vr);
            }
        }
        let _ = asked(None, &[&value], ways);
    }
}
