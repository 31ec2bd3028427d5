//! Moving dates (PS3.15 §E.3.6): DA and DT by whole days, so that intervals stay; TM stays.

use time::{Date, Duration, Month};

use crate::dicom::VR;

/// Each value of a multi-valued attribute, moved back by so many days; `None` where one is none, or
/// the calendar ends.
pub(super) fn shifted(vr: VR, value: &str, days: i64) -> Option<String> {
    let moved: Option<Vec<String>> = value
        .split('\\')
        .map(|value| value.trim_matches([' ', '\0']))
        .map(|value| match vr {
            _ if value.is_empty() => Some(String::new()),
            VR::DA => date(value, days),
            VR::DT => date_time(value, days),
            VR::TM => is_time(value).then(|| value.to_owned()),
            _ => None,
        })
        .collect();
    Some(moved?.join("\\"))
}

fn date(value: &str, days: i64) -> Option<String> {
    let plain: String = match value.as_bytes() {
        // ACR-NEMA (PS3.5 §6.2 note).
        [_, _, _, _, b'.', _, _, b'.', _, _] => value.split('.').collect(),
        _ => value.to_owned(),
    };
    if plain.len() == 8 { moved(&plain, days) } else { None }
}

/// A date of 4, 6 or 8 digits, as long as it was.
fn moved(digits: &str, days: i64) -> Option<String> {
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let part = |range: std::ops::Range<usize>| digits.get(range)?.parse::<u16>().ok();
    let year = part(0..4)?;
    let month = if digits.len() >= 6 { part(4..6)? } else { 1 };
    let day = if digits.len() >= 8 { part(6..8)? } else { 1 };
    let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
    let date = Date::from_calendar_date(i32::from(year), month, u8::try_from(day).ok()?).ok()?;
    let date = date.checked_sub(Duration::days(days))?;
    if date.year() < 1 {
        return None;
    }
    let mut text = format!("{:04}{:02}{:02}", date.year(), u8::from(date.month()), date.day());
    text.truncate(digits.len());
    Some(text)
}

fn date_time(value: &str, days: i64) -> Option<String> {
    let digits = value.bytes().take_while(u8::is_ascii_digit).count();
    let (date, rest) = value.split_at_checked(match digits {
        4 | 6 => digits,
        8.. => 8,
        _ => return None,
    })?;
    let clock = rest.split(['+', '-']).next().unwrap_or_default();
    let zone = rest.get(clock.len()..).unwrap_or_default();
    let is_zone = zone.is_empty()
        || zone.len() == 5 && zone.get(1..).is_some_and(|z| z.bytes().all(|b| b.is_ascii_digit()));
    if !is_zone || !(clock.is_empty() || date.len() == 8 && is_time(clock)) {
        return None;
    }
    Some(format!("{}{rest}", moved(date, days)?))
}

fn is_time(value: &str) -> bool {
    value.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b':')) && value.len() <= 16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_move_and_intervals_stay() {
        let check = |vr, value, expected: Option<&str>| {
            assert_eq!(shifted(vr, value, 31).as_deref(), expected, "{value}");
        };
        check(VR::DA, "20240131", Some("20231231"));
        check(VR::DA, "20240302 ", Some("20240131"));
        check(VR::DA, "2024.03.02", Some("20240131"));
        check(VR::DA, "20240131\\20240201", Some("20231231\\20240101"));
        check(VR::DA, "", Some(""));
        check(VR::DA, "20240231", None);
        check(VR::DA, "Doe", None);
        check(VR::DA, "00010101", None);
        check(VR::DA, "20240101-20240102", None);
        check(VR::DT, "20240131101112.123456+0100", Some("20231231101112.123456+0100"));
        check(VR::DT, "20240131", Some("20231231"));
        check(VR::DT, "2024", Some("2023"));
        check(VR::DT, "202402", Some("202401"));
        check(VR::DT, "20240131-0500", Some("20231231-0500"));
        check(VR::DT, "20240131Doe", None);
        check(VR::DT, "20240131101112+Doe1", None);
        check(VR::TM, "101112.5", Some("101112.5"));
        check(VR::TM, "noon", None);
        check(VR::SH, "+0100", None);
    }
}
