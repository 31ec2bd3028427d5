//! Private attributes that do not identify (PS3.15 §E.3.10, Table E.3.10-1, edition 2026d).
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
    ("GEIIS PACS", 0x0903, "10-12"),
    ("GEMS_ACQU_01", 0x0019, "23 24 27 9E"),
    ("GEMS_HELIOS_01", 0x0045, "01 02"),
    ("GEMS_PARM_01", 0x0043, "27 39 6F"),
    ("GEMS_SERS_01", 0x0025, "07"),
    ("HOLOGIC, Inc.", 0x7E01, "01 02 10-12"),
    ("NQHeader", 0x0099, "01 02 04 05 10 20 21"),
    ("NQLeft", 0x0199, "01-16"),
    ("NQRight", 0x0299, "01-16"),
    ("Philips Imaging DD 001", 0x2001,
        "01-0C 0E-1F 21-51 53-5A 5D-6B 6D-6F 71-77 79-8C 90-94 9A 9B 9D 9F A1-A5 C0-C3 C5-C7 CA CB \
         D0-DF E9 F1-F7 F9 FB-FD FF"),
    ("Philips Imaging DD 002", 0x2001,
        "01-40 50 52 53 57 58 5A 5C-5F 63-68 6B 71-75"),
    ("Philips Imaging DD 097", 0x2001,
        "01-08 0A 0B 0D-0F 12 17-1F 21-28 2A-32 36-3E 40-42 44-47 49-4C A1-A6 A8-AB"),
    ("Philips Imaging DD 129", 0x2001, "00-09"),
    ("Philips MR Imaging DD 001", 0x2005, "0D 0E"),
    ("Philips PET Private Group", 0x7053, "00 09"),
    ("Philips ST80i", 0x0025, "01"),
    ("SIEMENS MR HEADER", 0x0019, "0C-0E 27"),
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
        assert!(is_safe("NQLeft", 0x0199, 0x0F) && !is_safe("NQLeft", 0x0199, 0x17));
        assert!(is_safe("SIEMENS MR HEADER", 0x0019, 0x0C), "the b value");
        assert!(is_safe("Philips Imaging DD 001", 0x2001, 0x03), "and here");
        // What other lists have, and the standard has not.
        assert!(!is_safe("GEIIS PACS", 0x0903, 0x01));
        assert!(!is_safe("Philips US Imaging DD 033", 0x200D, 0x00));
        assert!(is_safe("GEMS_ACQU_01", 0x0019, 0x9E) && !is_safe("GEMS_ACQU_01", 0x0019, 0x9F));
        assert!(!is_safe("gems_acqu_01", 0x0019, 0x23) && !is_safe("", 0x0019, 0x23));
        // Elements are numbered in hexadecimal: what lies between 09 and 10 is not listed.
        assert!(!is_safe("SIEMENS Ultrasound SC2000", 0x0119, 0x0A));
    }

    #[test]
    fn the_list_reads_well() {
        for (creator, group, elements) in TABLE {
            assert!(group % 2 == 1 && creator.len() <= 64);
            for number in elements.split([' ', '-']).filter(|number| !number.is_empty()) {
                assert!(number.len() == 2 && u8::from_str_radix(number, 16).is_ok(), "{elements}");
            }
        }
    }
}
