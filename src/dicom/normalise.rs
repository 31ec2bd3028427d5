//! Search keys in the form in which the index holds them.
//!
//! Store applies these to values of instances, Search to values of queries: equal by meaning means
//! equal as text. Holds: results have no NUL and are at most [`MAX_KEY`] bytes. Absent:
//! wildcards and ranges (Search takes a query apart first).

use super::{Uid, attributes::Matching, person_name};

/// Longest search key, in bytes of UTF-8: twice what the longest that PS3.5 allows can take (LO, 64
/// characters), and still an entry that a B-tree takes.
pub const MAX_KEY: usize = 512;

/// Which rule a value breaks. The value is not repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Not a UID.
    #[error("not a valid UID (PS3.5 §9.1)")]
    Uid,
    /// Not a date.
    #[error("not a valid date YYYYMMDD (PS3.5 §6.2, DA)")]
    Date,
    /// Not a time.
    #[error("not a valid time HHMMSS.FFFFFF (PS3.5 §6.2, TM)")]
    Time,
    /// Not an integer.
    #[error("not a valid integer string (PS3.5 §6.2, IS)")]
    Integer,
    /// Not a date with a time.
    #[error("not a valid date time YYYYMMDDHHMMSS.FFFFFF&ZZXX (PS3.5 §6.2, DT)")]
    DateTime,
    /// Not a number.
    #[error("not a valid decimal string (PS3.5 §6.2, DS)")]
    Decimal,
    /// Not a tag.
    #[error("not a tag of 8 hexadecimal digits (PS3.5 §6.2, AT)")]
    AttributeTag,
    /// Control characters in a text that may have none.
    #[error("control characters in the value (PS3.5 §6.1.3)")]
    Control,
    /// Longer than [`MAX_KEY`].
    #[error("longer than the 512 bytes that can be searched")]
    TooLong,
}

impl Matching {
    /// The key of one value (of a person name: of one component group), as its column holds it.
    ///
    /// # Errors
    /// [`Invalid`] where the value is not of the kind.
    pub fn normalise(self, value: &str) -> Result<String, Invalid> {
        match self {
            Self::Uid => uid(value),
            Self::Text => text(value),
            Self::PersonName => text(value).and_then(|name| bounded(person_name::fold(&name))),
            Self::Date => date(value),
            Self::Time => time(value),
            Self::Integer => integer(value),
            Self::Exact => text(value),
            Self::DateTime => date_time(value),
            Self::Decimal => decimal(value),
            Self::AttributeTag => attribute_tag(value),
        }
    }
}

/// What pads a value: spaces, and NUL where writers know no better.
const PADDING: [char; 2] = [' ', '\0'];

/// UI: without padding.
///
/// # Errors
/// [`Invalid::Uid`].
pub fn uid(value: &str) -> Result<String, Invalid> {
    let uid: Uid = value.trim_matches(PADDING).parse().map_err(|_| Invalid::Uid)?;
    Ok(uid.as_str().to_owned())
}

/// Text: without spaces around it.
///
/// # Errors
/// [`Invalid::Control`], [`Invalid::TooLong`].
pub fn text(value: &str) -> Result<String, Invalid> {
    let text = value.trim_matches(PADDING);
    if text.chars().any(char::is_control) {
        return Err(Invalid::Control);
    }
    bounded(text.to_owned())
}

fn bounded(text: String) -> Result<String, Invalid> {
    if text.len() > MAX_KEY { Err(Invalid::TooLong) } else { Ok(text) }
}

/// DA: `YYYYMMDD`. Takes the `YYYY.MM.DD` of ACR-NEMA too (PS3.5 §6.2 note).
///
/// # Errors
/// [`Invalid::Date`], also for days that the calendar does not have.
pub fn date(value: &str) -> Result<String, Invalid> {
    let text = value.trim_matches(PADDING);
    let digits: String = match text.as_bytes() {
        [_, _, _, _, b'.', _, _, b'.', _, _] => text.split('.').collect(),
        _ => text.to_owned(),
    };
    if digits.len() != 8 {
        return Err(Invalid::Date);
    }
    let part = |range| digits.get(range).and_then(number).ok_or(Invalid::Date);
    let (year, month, day) = (part(0..4)?, part(4..6)?, part(6..8)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return Err(Invalid::Date),
    };
    if (1..=days).contains(&day) { Ok(digits) } else { Err(Invalid::Date) }
}

/// TM: `HHMMSS.FFFFFF`, what the value leaves out being zero. Takes the `HH:MM:SS.F` of ACR-NEMA
/// too.
///
/// # Errors
/// [`Invalid::Time`].
pub fn time(value: &str) -> Result<String, Invalid> {
    time_filled(value, "000000.000000")
}

/// TM: the last instant that a value of less than full precision covers: the upper end of a range
/// (PS3.4 §C.2.2.2.5). `10` is `105959.999999`.
///
/// # Errors
/// [`Invalid::Time`].
pub fn time_end(value: &str) -> Result<String, Invalid> {
    time_filled(value, "235959.999999")
}

fn time_filled(value: &str, rest: &str) -> Result<String, Invalid> {
    let text = value.trim_matches(PADDING);
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (text, None),
    };
    let mut full = String::with_capacity(rest.len());
    let colons = whole.contains(':');
    for (at, limit) in [23, 59, 60].into_iter().enumerate() {
        let start = if colons { at * 3 } else { at * 2 };
        if start >= whole.len() {
            break;
        }
        if colons && at > 0 && whole.as_bytes().get(start - 1) != Some(&b':') {
            return Err(Invalid::Time);
        }
        let digits = whole.get(start..start + 2).ok_or(Invalid::Time)?;
        if number(digits).is_none_or(|n| n > limit) {
            return Err(Invalid::Time);
        }
        full.push_str(digits);
    }
    let consumed = if colons { (full.len() / 2 * 3).saturating_sub(1) } else { full.len() };
    if full.is_empty() || consumed != whole.len() {
        return Err(Invalid::Time);
    }
    if let Some(fraction) = fraction {
        let digits = fraction.bytes().all(|b| b.is_ascii_digit());
        if full.len() != 6 || !digits || !(1..=6).contains(&fraction.len()) {
            return Err(Invalid::Time);
        }
        full.push('.');
        full.push_str(fraction);
    }
    full.push_str(rest.get(full.len()..).unwrap_or_default());
    Ok(full)
}

/// IS: canonical decimal, without sign of plus, leading zeros or negative zero.
///
/// # Errors
/// [`Invalid::Integer`], also beyond 64 bits (those of SV and those of UV).
pub fn integer(value: &str) -> Result<String, Invalid> {
    let number = value.trim_matches(PADDING).parse::<i128>().map_err(|_| Invalid::Integer)?;
    let fits = (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&number);
    if fits { Ok(number.to_string()) } else { Err(Invalid::Integer) }
}

/// DT without an offset: `YYYYMMDDHHMMSS.FFFFFF`, what the value leaves out being the first instant
/// that it covers.
///
/// # Errors
/// [`Invalid::DateTime`].
pub fn date_time(value: &str) -> Result<String, Invalid> {
    let text = value.trim_matches(PADDING);
    let day = text.get(..8).ok_or(Invalid::DateTime)?;
    let day = date(day).map_err(|_| Invalid::DateTime)?;
    let rest = text.get(8..).filter(|rest| !rest.is_empty()).unwrap_or("00");
    Ok(day + &time(rest).map_err(|_| Invalid::DateTime)?)
}

/// DS, FL, FD: the shortest decimal that reads back as the value; without negative zero.
///
/// # Errors
/// [`Invalid::Decimal`], also for what is no finite number.
pub fn decimal(value: &str) -> Result<String, Invalid> {
    let text = value.trim_matches(PADDING);
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    let number = text.parse::<f64>().ok().filter(|number| plain && number.is_finite());
    let number = number.ok_or(Invalid::Decimal)?;
    Ok((if number == 0.0 { 0.0 } else { number }).to_string())
}

/// AT: 8 upper-case hexadecimal digits.
///
/// # Errors
/// [`Invalid::AttributeTag`].
pub fn attribute_tag(value: &str) -> Result<String, Invalid> {
    let text = value.trim_matches(PADDING);
    let hex = text.len() == 8 && text.bytes().all(|b| b.is_ascii_hexdigit());
    if hex { Ok(text.to_ascii_uppercase()) } else { Err(Invalid::AttributeTag) }
}

/// The number that a run of digits says; `None` for anything else.
fn number(digits: &str) -> Option<u32> {
    if digits.bytes().all(|b| b.is_ascii_digit()) { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
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
    fn integers_and_text_and_uids() {
        let check = |kind: Matching, value: &str, expect: Result<&str, Invalid>| {
            assert_eq!(kind.normalise(value).as_deref(), expect.as_ref().copied(), "{value:?}");
        };
        check(Matching::Integer, " +007 ", Ok("7"));
        check(Matching::Integer, "-0", Ok("0"));
        check(Matching::Integer, "-12", Ok("-12"));
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
        fn nothing_panics_and_keys_are_stable(value in "[0-9:. a-zé+-]{0,16}|\\PC{0,12}") {
            use Matching::*;
            for kind in [Uid, Text, PersonName, Date, Time, Integer] {
                if let Ok(key) = kind.normalise(&value) {
                    prop_assert_eq!(kind.normalise(&key), Ok(key.clone()));
                    prop_assert!(!key.contains('\0'));
                }
            }
        }
    }
}
