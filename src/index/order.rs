//! Where a study stands in the order of results, as one number.
//!
//! Table study has it as a generated column (`migrations/0003_search.sql`); here it is made for the
//! ends of ranges. Holds: it orders as (study date, study time) do, a date without a time before
//! those of its day with one; 0 is no date.

/// One minute, which has 61 seconds: TM knows a second 60 (PS3.5 §6.2).
pub(super) const MINUTE: i64 = 2 * 61_000_000;

/// One day.
pub(super) const DAY: i64 = 1440 * MINUTE;

/// The beginning of a day `YYYYMMDD`, which is where a date without a time stands. `None`: it is not
/// written so.
pub(super) fn day(date: &str) -> Option<i64> {
    if date.len() != 8 {
        return None;
    }
    let (year, month, day) = (number(date, 0, 4)?, number(date, 4, 6)?, number(date, 6, 8)?);
    let before_march = (14 - month) / 12;
    let (year, month) = (year + 4800 - before_march, month + 12 * before_march - 3);
    let julian =
        day + (153 * month + 2) / 5 + 365 * year + year / 4 - year / 100 + year / 400 - 32_045;
    Some((julian - 1_721_059) * DAY)
}

/// A moment of a day: `YYYYMMDD` and `HHMMSS.FFFFFF`. `None`: they are not written so.
pub(super) fn moment(date: &str, time: &str) -> Option<i64> {
    if time.len() != 13 || time.get(6..7) != Some(".") {
        return None;
    }
    let (hour, minute) = (number(time, 0, 2)?, number(time, 2, 4)?);
    let (second, fraction) = (number(time, 4, 6)?, number(time, 7, 13)?);
    let within = 2 * (second * 1_000_000 + fraction);
    Some(day(date)? + (hour * 60 + minute) * MINUTE + within + 1)
}

fn number(text: &str, from: usize, to: usize) -> Option<i64> {
    let digits = text.get(from..to)?;
    if digits.bytes().all(|b| b.is_ascii_digit()) { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_as_date_and_time_do() {
        let times = ["000000.000000", "000000.000001", "101560.999999", "101600.000000"];
        let last = "235960.999999";
        let mut before = 0;
        for date in ["00000101", "00001231", "00010101", "20231231", "20240101", "20240228"] {
            let at = day(date).unwrap();
            assert!(at > before, "{date}");
            before = at;
            for time in times.into_iter().chain([last]) {
                let at = moment(date, time).unwrap();
                assert!(at > before, "{date} {time}");
                before = at;
            }
        }
    }

    #[test]
    fn days_follow_each_other() {
        assert_eq!(day("00000101"), Some(DAY));
        for (one, next) in [
            ("20240228", "20240229"),
            ("20240229", "20240301"),
            ("20230228", "20230301"),
            ("19000228", "19000301"),
            ("20000229", "20000301"),
            ("00000229", "00000301"),
            ("19991231", "20000101"),
            ("00001231", "00010101"),
        ] {
            assert_eq!(day(one).unwrap() + DAY, day(next).unwrap(), "{one}");
        }
        assert!(moment("99991231", "235960.999999").unwrap() < i64::MAX / 4);
    }

    #[test]
    fn what_is_written_otherwise_is_none() {
        for date in ["", "2024", "2024010", "202401011", "2024010a", "é24010", "+2024011"] {
            assert_eq!(day(date), None, "{date}");
        }
        for time in ["", "120000", "120000,000000", "120000.00000é", "1200000.00000"] {
            assert_eq!(moment("20240101", time), None, "{time}");
        }
    }
}
