//! The search columns of study, series and instance, and how an instance's keys fill them.

use std::borrow::Cow;

use crate::dicom::{attributes::Level, index::Indexed};

/// Search columns of table study, in the order in which statements name them.
macro_rules! study_columns {
    ($prefix:literal) => {
        concat!(
            $prefix,
            "patient_name, ",
            $prefix,
            "patient_name_ideographic, ",
            $prefix,
            "patient_name_phonetic, ",
            $prefix,
            "patient_id, ",
            $prefix,
            "issuer_of_patient_id, ",
            $prefix,
            "patient_birth_date, ",
            $prefix,
            "patient_sex, ",
            $prefix,
            "study_date, ",
            $prefix,
            "study_time, ",
            $prefix,
            "accession_number, ",
            $prefix,
            "referring_physician_name, ",
            $prefix,
            "referring_physician_name_ideographic, ",
            $prefix,
            "referring_physician_name_phonetic, ",
            $prefix,
            "study_id, ",
            $prefix,
            "study_description, ",
            $prefix,
            "timezone_offset"
        )
    };
}

/// Search columns of table series, in the order in which statements name them.
macro_rules! series_columns {
    ($prefix:literal) => {
        concat!(
            $prefix,
            "modality, ",
            $prefix,
            "series_number, ",
            $prefix,
            "series_description, ",
            $prefix,
            "body_part_examined, ",
            $prefix,
            "station_name, ",
            $prefix,
            "manufacturer_model_name, ",
            $prefix,
            "pps_start_date, ",
            $prefix,
            "pps_start_time"
        )
    };
}

pub(super) use {series_columns, study_columns};

/// [`study_columns`] as a list.
pub(super) const STUDY: [&str; 16] = [
    "patient_name",
    "patient_name_ideographic",
    "patient_name_phonetic",
    "patient_id",
    "issuer_of_patient_id",
    "patient_birth_date",
    "patient_sex",
    "study_date",
    "study_time",
    "accession_number",
    "referring_physician_name",
    "referring_physician_name_ideographic",
    "referring_physician_name_phonetic",
    "study_id",
    "study_description",
    "timezone_offset",
];

/// The columns of a name's component groups.
pub(super) const PATIENT_NAME: [&str; 3] =
    ["patient_name", "patient_name_ideographic", "patient_name_phonetic"];
pub(super) const REFERRING_PHYSICIAN_NAME: [&str; 3] = [
    "referring_physician_name",
    "referring_physician_name_ideographic",
    "referring_physician_name_phonetic",
];

/// [`series_columns`] as a list.
pub(super) const SERIES: [&str; 8] = [
    "modality",
    "series_number",
    "series_description",
    "body_part_examined",
    "station_name",
    "manufacturer_model_name",
    "pps_start_date",
    "pps_start_time",
];

/// Columns that a search may name besides those of the keys, by level.
const IDENTITY: [&[&str]; 3] = [
    &["study_instance_uid"],
    &["series_instance_uid"],
    &["sop_instance_uid", "sop_class_uid", "instance_number", "transfer_syntax_uid"],
];

/// Longest search key, in bytes. Far above what any VR with a column allows (PS3.5 §6.2), and below
/// what a B-tree takes (2,704 bytes a row): a value that breaks its VR must not fail the store.
const MAX_KEY: usize = 512;

/// The columns that a search may name at `level`.
pub(super) fn searchable(level: Level) -> impl Iterator<Item = &'static str> {
    let keys: &[&'static str] = match level {
        Level::Study => &STUDY,
        Level::Series => &SERIES,
        Level::Instance => &[],
    };
    keys.iter().chain(IDENTITY[level as usize]).copied()
}

/// The value of a search column, if the instance has one that is not empty.
pub(super) fn value<'a>(indexed: &'a Indexed, column: &str) -> Option<Cow<'a, str>> {
    let (_, text) = indexed.keys.0.iter().find(|(name, _)| *name == column)?;
    if column == "timezone_offset" && !is_offset(text) {
        return None;
    }
    storable(text)
}

/// Whether a text is an offset from UTC, `+HHMM` or `-HHMM`, of up to 14 hours (PS3.3 §C.12.1.1.8):
/// what is not tells nothing about a time.
pub(super) fn is_offset(text: &str) -> bool {
    let number = |range| -> Option<u32> {
        let digits: &str = text.get(range)?;
        if digits.bytes().all(|b| b.is_ascii_digit()) { digits.parse().ok() } else { None }
    };
    match (text.len(), number(1..3), number(3..5)) {
        (5, Some(hours), Some(minutes)) => {
            text.starts_with(['+', '-']) && minutes < 60 && hours * 60 + minutes <= 14 * 60
        }
        _ => false,
    }
}

/// What can be kept of `text`: no NUL, which Postgres has no way to hold, and at most [`MAX_KEY`]
/// bytes. `None` where nothing is left.
fn storable(text: &str) -> Option<Cow<'_, str>> {
    let clipped = &text[..text.floor_char_boundary(MAX_KEY)];
    let kept = if clipped.contains('\0') {
        Cow::Owned(clipped.replace('\0', ""))
    } else {
        Cow::Borrowed(clipped)
    };
    (!kept.is_empty()).then_some(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_and_lists_name_the_same_columns() {
        assert_eq!(study_columns!(""), STUDY.join(", "));
        assert_eq!(series_columns!("n."), SERIES.map(|column| format!("n.{column}")).join(", "));
    }

    #[test]
    fn offsets_are_told_from_other_texts() {
        for offset in ["+0000", "-1200", "+1400", "+0545"] {
            assert!(is_offset(offset), "{offset}");
        }
        for other in ["", "0000", "+000", "+1401", "+0060", "+01:00", "+00000", "+0é0", "*0000"] {
            assert!(!is_offset(other), "{other}");
        }
    }

    #[test]
    fn keys_that_postgres_cannot_hold_are_cut() {
        assert_eq!(storable("a\0b").as_deref(), Some("ab"));
        assert_eq!(storable("\0"), None);
        assert_eq!(storable(""), None);
        let long = "\u{fc}".repeat(MAX_KEY);
        assert_eq!(storable(&long).map(|kept| kept.len()), Some(MAX_KEY));
        let odd = format!("a{long}");
        assert_eq!(storable(&odd).map(|kept| kept.len()), Some(MAX_KEY - 1));
    }
}
