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

/// A value without what pads it.
pub fn unpadded(value: &str) -> &str {
    value.trim_matches(PADDING)
}

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
    let text = unpadded(value);
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
    let days = days_of(year, month).ok_or(Invalid::Date)?;
    if (1..=days).contains(&day) { Ok(digits) } else { Err(Invalid::Date) }
}

/// The days of a month; `None` where the year has no such month.
fn days_of(year: u32, month: u32) -> Option<u32> {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => Some(31),
        4 | 6 | 9 | 11 => Some(30),
        2 if leap => Some(29),
        2 => Some(28),
        _ => None,
    }
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
    let text = value.trim_matches(PADDING);
    // Both SV and UV fit in.
    let number: i128 = text.parse().map_err(|_| Invalid::Integer)?;
    let held = i128::from(i64::MIN)..=i128::from(u64::MAX);
    if held.contains(&number) { Ok(number.to_string()) } else { Err(Invalid::Integer) }
}

/// DT: `YYYYMMDDHHMMSS.FFFFFF`, what the value leaves out being the first instant that it covers; in
/// UTC where the value says its offset.
///
/// # Errors
/// [`Invalid::DateTime`].
pub fn date_time(value: &str) -> Result<String, Invalid> {
    date_time_filled(value, false).ok_or(Invalid::DateTime)
}

/// DT: the last instant that a value of less than full precision covers. `2020` is
/// `20201231235959.999999`.
///
/// # Errors
/// [`Invalid::DateTime`].
pub fn date_time_end(value: &str) -> Result<String, Invalid> {
    date_time_filled(value, true).ok_or(Invalid::DateTime)
}

fn date_time_filled(value: &str, end: bool) -> Option<String> {
    let text = value.trim_matches(PADDING);
    let (local, minutes) = match text.len().checked_sub(5).and_then(|at| text.split_at_checked(at))
    {
        Some((local, zone)) if zone.starts_with(['+', '-']) => (local, offset(zone)?),
        _ => (text, 0),
    };
    let year = local.get(..4).and_then(number)?;
    let month = match local.get(4..).filter(|rest| !rest.is_empty()) {
        Some(rest) => rest.get(..2).and_then(number)?,
        None if end => 12,
        None => 1,
    };
    let days = days_of(year, month)?;
    let day = match local.get(6..).filter(|rest| !rest.is_empty()) {
        Some(rest) => rest.get(..2).and_then(number)?,
        None if end => days,
        None => 1,
    };
    if !(1..=days).contains(&day) {
        return None;
    }
    let clock = match local.get(8..).filter(|rest| !rest.is_empty()) {
        Some(rest) if rest.contains([':', ' ', '\0']) => return None,
        Some(rest) if end => time_end(rest).ok()?,
        Some(rest) => time(rest).ok()?,
        None if end => LAST_INSTANT.to_owned(),
        None => FIRST_INSTANT.to_owned(),
    };
    shifted((year, month, day), &clock, -minutes)
}

/// The first instant of a day, as TM keys are.
pub const FIRST_INSTANT: &str = "000000.000000";

/// The last instant of a day, as TM keys are.
pub const LAST_INSTANT: &str = "235959.999999";

/// An offset from UTC, `+HHMM` or `-HHMM`, in minutes (PS3.5 §6.2, DT; PS3.3 §C.12.1.1.8).
/// `None`: not one, or beyond the 14 hours that PS3.5 allows.
pub fn offset(zone: &str) -> Option<i32> {
    let (sign, digits) = zone.split_at_checked(1)?;
    if digits.len() != 4 {
        return None;
    }
    let (hours, minutes) = (number(digits.get(..2)?)?, number(digits.get(2..)?)?);
    let total = i32::try_from(hours * 60 + minutes).ok()?;
    match sign {
        _ if minutes > 59 || total > 14 * 60 => None,
        "+" => Some(total),
        "-" => Some(-total),
        _ => None,
    }
}

/// A moment, moved by some minutes: less than a day, so that only neighbouring days are reached.
fn shifted((year, month, day): (u32, u32, u32), clock: &str, by: i32) -> Option<String> {
    let (hours, rest) = clock.split_at_checked(2)?;
    let (minutes, seconds) = rest.split_at_checked(2)?;
    const DAY: i32 = 24 * 60;
    let minute = i32::try_from(number(hours)? * 60 + number(minutes)?).ok()? + by;
    let (year, month, day) = match minute.div_euclid(DAY) {
        -1 if day > 1 => (year, month, day - 1),
        -1 if month > 1 => (year, month - 1, days_of(year, month - 1)?),
        -1 => (year.checked_sub(1)?, 12, 31),
        1 if day < days_of(year, month)? => (year, month, day + 1),
        1 if month < 12 => (year, month + 1, 1),
        1 => (year + 1, 1, 1),
        _ => (year, month, day),
    };
    let minute = minute.rem_euclid(DAY);
    let text = format!("{year:04}{month:02}{day:02}{:02}{:02}{seconds}", minute / 60, minute % 60);
    // Years have four digits.
    (year <= 9999).then_some(text)
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
mod tests;
