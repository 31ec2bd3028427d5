//! Private attributes that do not identify (PS3.15 §E.3.10, Table E.3.10-1).
//!
//! Owns the list: by private creator and group, the elements of its block. Creators that are not
//! on it have none. Absent: which value representations may be retained ([`super::rules`]).

/// Whether `element` (the low byte) of a block that `creator` reserved in `group` is safe.
pub(super) fn is_safe(creator: &str, group: u16, element: u8) -> bool {
    let is_it = |row: &&(&str, u16, &str)| row.0 == creator && row.1 == group;
    let Some((.., elements)) = TABLE.iter().find(is_it) else { return false };
    let hex = |text: &str| u8::from_str_radix(text, 16).ok();
    elements.split_ascii_whitespace().any(|item| match item.split_once('-') {
        Some((first, last)) => match (hex(first), hex(last)) {
            (Some(first), Some(last)) => (first..=last).contains(&element),
            _ => false,
        },
        None => hex(item) == Some(element),
    })
}

#[rustfmt::skip]
static TABLE: &[(&str, u16, &str)] = &[
    ("ELSCINT1", 0x00E1, "21 50"),
    ("ELSCINT1", 0x01E1, "26"),
    ("ELSCINT1", 0x01F1, "01 07 26 27"),
    ("Eigen Artemis", 0x1129,
        "04-09 10-13 15-19 20 21 23-27 29 30-33 36-39 40 41 70-76 78 79 80-82"),
    ("GEIIS PACS", 0x0903, "01 02 10-12"),
    ("GEMS_ACQU_01", 0x0019, "23 24 27 9E"),
    ("GEMS_HELIOS_01", 0x0045, "01 02"),
    ("GEMS_IDI_01", 0x0073, "20 21 30-32 40 50"),
    ("GEMS_PARM_01", 0x0043, "27 6F"),
    ("GEMS_SENO_02", 0x0045,
        "06 1B 20 27 29-2B 49 58 59 60-64 71 72 90 A0-A2 A4 A7 A8 AB-AD"),
    ("GEMS_SERS_01", 0x0025, "07"),
    ("HOLOGIC, Inc.", 0x0019,
        "06-08 16 25-29 30-35 37 40-46 50-53 60-62 70 71 80 85 87 89 8A 90 97 98"),
    ("LORAD Selenia", 0x0019, "06-08 16 26-29 30-35 37 40 41 50-53 60 70 71 80 90"),
    ("NQHeader", 0x0099, "01 04 05 10 20 21"),
    ("NQLeft", 0x0199, "01-3A"),
    ("NQRight", 0x0299, "01-3A"),
    ("PHILIPS MR IMAGING DD 001", 0x2005, "0D 0E"),
    ("Philips MR Imaging DD 001", 0x2005, "0D 0E"),
    ("Philips PET Private Group", 0x7053, "00 09"),
    ("Philips US Imaging DD 023", 0x200D, "45"),
    ("Philips US Imaging DD 033", 0x200D, "00-08 0D 0F-11 14 21"),
    ("Philips US Imaging DD 034", 0x200D, "01-05 08-14 17 18 1B-28"),
    ("Philips US Imaging DD 035", 0x200D, "01 03 04 07-0A 0C 0D"),
    ("Philips US Imaging DD 036", 0x200D, "15-19 20"),
    ("Philips US Imaging DD 038", 0x200D, "01-04"),
    ("Philips US Imaging DD 039", 0x200D, "01-0D 15"),
    ("Philips US Imaging DD 040", 0x200D, "01-07 20"),
    ("Philips US Imaging DD 042", 0x200D, "15 16 20 30 31 40 50-5F 60 70-78 8C"),
    ("Philips US Imaging DD 045", 0x200D, "F1 F3-F6 F8 FA FB"),
    ("Philips US Imaging DD 046", 0x200D, "17"),
    ("Philips US Imaging DD 048", 0x200D, "01"),
    ("Philips US Imaging DD 065", 0x200D, "07"),
    ("Philips US Imaging DD 066", 0x200D, "00 01 03 04"),
    ("SIEMENS SYNGO ULTRA-SOUND TOYON DATA STREAMING", 0x7FD1, "01 09 10 11"),
    ("SIEMENS Ultrasound SC2000", 0x0119, "00-09 10-13 21"),
    ("SIEMENS Ultrasound SC2000", 0x0129, "00 02-09 10-12 20-22 29 30"),
    ("SIEMENS Ultrasound SC2000", 0x0139, "01"),
    ("SIEMENS Ultrasound SC2000", 0x0149, "01-03"),
    ("SIEMENS Ultrasound SC2000", 0x7FD1, "01 09 10 11"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_listed_is_safe_and_nothing_else() {
        assert!(is_safe("Philips PET Private Group", 0x7053, 0x00));
        assert!(is_safe("Philips PET Private Group", 0x7053, 0x09));
        assert!(!is_safe("Philips PET Private Group", 0x7053, 0x03));
        assert!(!is_safe("Philips PET Private Group", 0x7055, 0x00));
        assert!(is_safe("NQLeft", 0x0199, 0x2F) && !is_safe("NQLeft", 0x0199, 0x3B));
        assert!(is_safe("GEMS_ACQU_01", 0x0019, 0x9E) && !is_safe("GEMS_ACQU_01", 0x0019, 0x9F));
        assert!(!is_safe("gems_acqu_01", 0x0019, 0x23) && !is_safe("", 0x0019, 0x23));
        // Elements are numbered in hexadecimal: what lies between 09 and 10 is not listed.
        assert!(!is_safe("SIEMENS Ultrasound SC2000", 0x0119, 0x0A));
    }

    #[test]
    fn the_list_reads_well() {
        for (creator, group, elements) in TABLE {
            assert!(group % 2 == 1 && creator.len() <= 64);
            for number in elements.split([' ', '-']) {
                assert!(number.len() == 2 && u8::from_str_radix(number, 16).is_ok(), "{elements}");
            }
        }
    }
}
