//! Dates, times and moments as numbers (PS3.5 §6.2; PS3.4 §C.2.2.2.1 and §C.2.2.2.5).
//!
//! A value of less than full precision stands for all that it covers: each is read as its first and
//! its last microsecond.

/// First and last of what a value covers.
pub type Span = (i128, i128);

/// Microseconds of a day.
pub const DAY: i128 = 86_400_000_000;
const HOUR: i128 = 3_600_000_000;
const MINUTE: i128 = 60_000_000;

fn digits(text: &str, least: i128, most: i128) -> Option<i128> {
    let number = text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())??;
    (least..=most).contains(&number).then_some(number)
}

fn days_of(year: i128, month: i128) -> i128 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The number of a day, counted from the beginning of year 0.
fn day(year: i128, month: i128, day: i128) -> i128 {
    let leap_days =
        if year == 0 { 0 } else { (year - 1) / 4 - (year - 1) / 100 + (year - 1) / 400 + 1 };
    year * 365 + leap_days + (1..month).map(|m| days_of(year, m)).sum::<i128>() + day - 1
}

/// DA, `YYYYMMDD` or `YYYY.MM.DD`: microseconds at its beginning.
pub fn date(text: &str) -> Option<i128> {
    let parts: Vec<&str> = match text.len() {
        8 => vec![text.get(..4)?, text.get(4..6)?, text.get(6..)?],
        10 => text.split('.').collect(),
        _ => return None,
    };
    let [y, m, d] = parts.as_slice() else { return None };
    if (y.len(), m.len(), d.len()) != (4, 2, 2) {
        return None;
    }
    let (y, m) = (digits(y, 0, 9999)?, digits(m, 1, 12)?);
    Some(day(y, m, digits(d, 1, days_of(y, m))?) * DAY)
}

/// TM, `HH[MM[SS[.F…]]]`, also with colons: microseconds since midnight.
pub fn time(text: &str) -> Option<Span> {
    let plain = match text.as_bytes() {
        [_, _, b':', _, _] | [_, _, b':', _, _, b':', _, _, ..] => text.replace(':', ""),
        _ => text.to_owned(),
    };
    let (whole, fraction) = match plain.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (&*plain, None),
    };
    let at = |range: std::ops::Range<usize>, most| digits(whole.get(range)?, 0, most);
    let first = match whole.len() {
        2 => (at(0..2, 23)? * HOUR, HOUR),
        4 => (at(0..2, 23)? * HOUR + at(2..4, 59)? * MINUTE, MINUTE),
        6 => {
            let minutes = at(0..2, 23)? * HOUR + at(2..4, 59)? * MINUTE;
            (minutes + at(4..6, 60)? * 1_000_000, 1_000_000)
        }
        _ => return None,
    };
    let (start, length) = match fraction {
        None => first,
        Some(fraction) if whole.len() == 6 && (1..=6).contains(&fraction.len()) => {
            let unit = 10_i128.pow(6 - u32::try_from(fraction.len()).ok()?);
            (first.0 + digits(fraction, 0, 999_999)? * unit, unit)
        }
        Some(_) => return None,
    };
    Some((start, start + length - 1))
}

/// `+HHMM` or `-HHMM`: minutes.
pub fn offset(text: &str) -> Option<i128> {
    let sign = match text.get(..1)? {
        "+" => 1,
        "-" => -1,
        _ => return None,
    };
    let rest = text.get(1..).filter(|rest| rest.len() == 4)?;
    let minutes = digits(rest.get(..2)?, 0, 14)? * 60 + digits(rest.get(2..)?, 0, 59)?;
    (minutes <= 14 * 60).then_some(sign * minutes)
}

/// DT, `YYYY[MM[DD[HH[MM[SS[.F…]]]]]][&ZZXX]`: in UTC where it says its offset.
pub fn date_time(text: &str) -> Option<Span> {
    let at = text.find(['+', '-']).unwrap_or(text.len());
    let (local, zone) = text.split_at(at);
    let shift = if zone.is_empty() { 0 } else { offset(zone)? * MINUTE };
    let number = |range, least, most| digits(local.get(range)?, least, most);
    let (first, last) = match local.len() {
        4 => {
            let year = number(0..4, 0, 9999)?;
            (day(year, 1, 1) * DAY, day(year, 12, 31) * DAY + DAY - 1)
        }
        6 => {
            let (year, month) = (number(0..4, 0, 9999)?, number(4..6, 1, 12)?);
            (day(year, month, 1) * DAY, day(year, month, days_of(year, month)) * DAY + DAY - 1)
        }
        8 => {
            let start = date(local)?;
            (start, start + DAY - 1)
        }
        _ => {
            let (start, (first, last)) = (date(local.get(..8)?)?, time(local.get(8..)?)?);
            (start + first, start + last)
        }
    };
    Some((first - shift, last - shift))
}

/// The ends of a range, or of a single value; an open end is `None`.
pub type Ends = (Option<i128>, Option<i128>);

/// `a`, `a-b`, `a-` or `-b`, with `-` also in offsets: what can be read as one value is one.
pub fn ends(text: &str, read: fn(&str) -> Option<Span>) -> Option<Ends> {
    let text = text.trim();
    if let Some((first, last)) = read(text) {
        return Some((Some(first), Some(last)));
    }
    for (at, _) in text.match_indices('-') {
        let (left, right) = (text[..at].trim(), text[at + 1..].trim());
        let (from, to) = (read(left), read(right));
        let good = |text: &str, span: &Option<Span>| text.is_empty() || span.is_some();
        if good(left, &from) && good(right, &to) && (from.is_some() || to.is_some()) {
            return Some((from.map(|span| span.0), to.map(|span| span.1)));
        }
    }
    None
}

/// Whether a number lies between two ends.
pub fn within(ends: Ends, number: i128) -> bool {
    ends.0.is_none_or(|from| from <= number) && ends.1.is_none_or(|to| number <= to)
}

#[test]
fn spans_by_hand() {
    assert_eq!(date("20240301").unwrap() - date("2024.02.28").unwrap(), 2 * DAY);
    assert_eq!(date("19000301").unwrap() - date("19000228").unwrap(), DAY);
    assert_eq!(date("20010101").unwrap() - date("20000101").unwrap(), 366 * DAY);
    assert_eq!(date("20230229"), None);
    assert_eq!(time("10"), Some((10 * HOUR, 11 * HOUR - 1)));
    assert_eq!(
        time("10:15:00.5"),
        Some((10 * HOUR + 15 * MINUTE + 500_000, 10 * HOUR + 15 * MINUTE + 599_999))
    );
    assert_eq!(date_time("2024010112+0200"), date_time("2024010110"));
    assert_eq!(date_time("2024"), Some((date("20240101").unwrap(), date("20250101").unwrap() - 1)));
    // Four digits that are an offset are one; others begin what a range ends with.
    assert_eq!(
        ends("2023-1200", date_time),
        date_time("2023-1200").map(|(a, b)| (Some(a), Some(b)))
    );
    assert_eq!(ends("2023-2024", date_time).unwrap().1, date_time("2024").map(|span| span.1));
    assert_eq!(ends("2023-1200-", date_time).unwrap(), (date_time("2023-1200").map(|s| s.0), None));
}
