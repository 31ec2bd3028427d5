//! Values of each kind as keys.

use proptest::prelude::*;

use super::*;

#[test]
fn dates() {
    let check = |value: &str, expect: Result<&str, Invalid>| {
        assert_eq!(date(value).as_deref(), expect.as_ref().copied(), "{value:?}");
    };
    check("20040229", Ok("20040229"));
    check(" 20040119 \0", Ok("20040119"));
    check("1999.12.31", Ok("19991231"));
    for bad in [
        "",
        "2004",
        "20040230",
        "20030229",
        "19000229",
        "20041301",
        "20040100",
        "20040132",
        "2004-1-1",
        "2004011a",
        "+2040119",
        "1999.1.31",
        "199912311",
        "１９９９",
        "2004.01.1é",
    ] {
        check(bad, Err(Invalid::Date));
    }
}

#[test]
fn times() {
    let check = |value: &str, expect: Result<&str, Invalid>| {
        assert_eq!(time(value).as_deref(), expect.as_ref().copied(), "{value:?}");
    };
    check("10", Ok("100000.000000"));
    check("2230", Ok("223000.000000"));
    check("223000", Ok("223000.000000"));
    check("072730.5 ", Ok("072730.500000"));
    check("235960.999999", Ok("235960.999999"));
    check("10:15", Ok("101500.000000"));
    check("10:15:20.25", Ok("101520.250000"));
    for bad in [
        "",
        "1",
        "101",
        "24",
        "1060",
        "101561",
        "10:1",
        "10:",
        "10:15:",
        "1015:20",
        "101520.",
        "101520.1234567",
        "1015.5",
        "10152a",
        "1015201",
        "-1",
        "+1",
        "1é",
        "10é",
        "10:15:20:30",
    ] {
        check(bad, Err(Invalid::Time));
    }
    assert_eq!(time_end("10").as_deref(), Ok("105959.999999"));
    assert_eq!(time_end("101520.5").as_deref(), Ok("101520.599999"));
}

#[test]
fn date_times() {
    for (value, first, last) in [
        ("2020", "20200101000000.000000", "20201231235959.999999"),
        ("202402", "20240201000000.000000", "20240229235959.999999"),
        ("20200101", "20200101000000.000000", "20200101235959.999999"),
        ("2020010112", "20200101120000.000000", "20200101125959.999999"),
        ("202001011230", "20200101123000.000000", "20200101123059.999999"),
        (" 20200101123015.25 ", "20200101123015.250000", "20200101123015.259999"),
        ("20200101003000+0100", "20191231233000.000000", "20191231233000.999999"),
        ("20191231233000-0100", "20200101003000.000000", "20200101003000.999999"),
        ("20200229230000-0230", "20200301013000.000000", "20200301013000.999999"),
        ("20200301+0000", "20200301000000.000000", "20200301235959.999999"),
        ("2020-0500", "20200101050000.000000", "20210101045959.999999"),
        ("20201231235960", "20201231235960.000000", "20201231235960.999999"),
    ] {
        assert_eq!(date_time(value).as_deref(), Ok(first), "{value}");
        assert_eq!(date_time_end(value).as_deref(), Ok(last), "{value}");
    }
    for bad in [
        "",
        "2",
        "20201",
        "202013",
        "20200230",
        "202001011",
        "20200101:10",
        "2020010110:30",
        "20200101-1500",
        "20200101+1260",
        "20200101+01",
        "+0100",
        "2020é1",
        "9999-0500é",
        "20200101 0100",
    ] {
        assert_eq!(date_time(bad), Err(Invalid::DateTime), "{bad}");
        assert_eq!(date_time_end(bad), Err(Invalid::DateTime), "{bad}");
    }
    // Before the year 0 there is none.
    assert_eq!(date_time("00000101+0100"), Err(Invalid::DateTime));
    assert_eq!(offset("-0500"), Some(-300));
    assert_eq!(offset("+1400"), Some(840));
    for bad in ["", "+", "0500", "+500", "+0560", "-1401", "+é00", "é0500", "+05:00"] {
        assert_eq!(offset(bad), None, "{bad}");
    }
}

#[test]
fn decimals_and_attribute_tags() {
    for (value, key) in [
        (" +1.50 ", "1.5"),
        ("1.5e0", "1.5"),
        ("-0", "0"),
        ("1E3", "1000"),
        (".5", "0.5"),
        ("150e-2", "1.5"),
    ] {
        assert_eq!(decimal(value).as_deref(), Ok(key), "{value}");
    }
    for bad in ["", "inf", "NaN", "1e999", "0x1", "1,5", "1 5"] {
        assert_eq!(decimal(bad), Err(Invalid::Decimal), "{bad}");
    }
    assert_eq!(attribute_tag("0020000d").as_deref(), Ok("0020000D"));
    assert_eq!(attribute_tag("0020,000d"), Err(Invalid::AttributeTag));
}

#[test]
fn integers_and_text_and_uids() {
    let check = |kind: Matching, value: &str, expect: Result<&str, Invalid>| {
        assert_eq!(kind.normalise(value).as_deref(), expect.as_ref().copied(), "{value:?}");
    };
    check(Matching::Integer, " +007 ", Ok("7"));
    check(Matching::Integer, "-0", Ok("0"));
    check(Matching::Integer, "-12", Ok("-12"));
    check(Matching::Integer, "18446744073709551615", Ok("18446744073709551615"));
    check(Matching::Integer, "18446744073709551616", Err(Invalid::Integer));
    check(Matching::Integer, "1.0", Err(Invalid::Integer));
    check(Matching::Integer, "", Err(Invalid::Integer));
    check(Matching::Text, " Ab c ", Ok("Ab c"));
    check(Matching::Text, "a\0b", Err(Invalid::Control));
    check(Matching::Text, "a\nb", Err(Invalid::Control));
    check(Matching::Text, &"é".repeat(256), Ok(&"é".repeat(256)));
    check(Matching::Text, &"a".repeat(513), Err(Invalid::TooLong));
    check(Matching::PersonName, "Doe^JOHN ", Ok("doe^john"));
    // One character that folds to eighteen.
    check(Matching::PersonName, &"\u{FDFA}".repeat(20), Err(Invalid::TooLong));
    check(Matching::Uid, "1.2.3\0", Ok("1.2.3"));
    check(Matching::Uid, "1.2.x", Err(Invalid::Uid));
}

proptest! {
    #[test]
    fn nothing_panics_and_keys_are_stable(value in "[0-9:. a-zé+-]{0,22}|\\PC{0,12}") {
        use Matching::*;
        let _ = date_time_end(&value);
        for kind in [
            Uid, Text, PersonName, Date, Time, Integer, Exact, DateTime, Decimal, AttributeTag,
        ] {
            if let Ok(key) = kind.normalise(&value) {
                prop_assert_eq!(kind.normalise(&key), Ok(key.clone()));
                prop_assert!(!key.contains('\0'));
            }
        }
    }
}
