//! Which attributes may identify, and what becomes of them (PS3.15 Table E.1-1, edition 2026c).
//!
//! Owns the 652 attributes of the table that have a tag of their own. Its three repeating groups
//! (curves, overlay data, overlay comments) and private attributes have rules in [`super::rules`].
//! Option columns are those of edition 2024e; of the 34 attributes that came later only dates and
//! UIDs have any, so that all others are treated as the Basic Profile does.
//!
//! Holds: a tag has one row. Absent: what an action does to a value.

use std::sync::LazyLock;

use crate::dicom::Tag;

/// Action of the Basic Profile (PS3.15 Table E.1-1a).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    /// Another value, not empty.
    D,
    /// Empty, or another value.
    Z,
    /// Removed.
    X,
    /// Another UID, the same for the same one.
    U,
    /// Empty, where the attribute is of Type 2.
    XorZ,
    /// Another value, where the attribute is of Type 1.
    XorD,
    /// Another value, where the attribute is of Type 1.
    ZorD,
    /// Another value, where the attribute is of Type 1.
    XorZorD,
    /// Of references: their UIDs are others.
    References,
}

/// Columns in which a row says something: a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Columns(u16);

impl Columns {
    pub(super) const NONE: Self = Self(0);
    /// Retain UIDs: K.
    pub(super) const UIDS: Self = Self(1);
    /// Retain Device Identity: K.
    pub(super) const DEVICE: Self = Self(1 << 1);
    /// Retain Device Identity: C.
    pub(super) const DEVICE_CLEAN: Self = Self(1 << 2);
    /// Retain Institution Identity: K.
    pub(super) const INSTITUTION: Self = Self(1 << 3);
    /// Retain Patient Characteristics: K.
    pub(super) const PATIENT: Self = Self(1 << 4);
    /// Retain Patient Characteristics: C.
    pub(super) const PATIENT_CLEAN: Self = Self(1 << 5);
    /// Retain Longitudinal Temporal Information: K with full dates, C with modified ones.
    pub(super) const DATES: Self = Self(1 << 6);
    /// Clean Descriptors: C.
    pub(super) const DESCRIPTORS: Self = Self(1 << 7);
    /// Clean Structured Content: C.
    pub(super) const CONTENT: Self = Self(1 << 8);
    /// Clean Graphics: C.
    pub(super) const GRAPHICS: Self = Self(1 << 9);

    const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// The row of an attribute.
pub(super) fn row(tag: Tag) -> Option<(Code, Columns)> {
    let at = ROWS.binary_search_by_key(&tag, |(tag, ..)| *tag).ok()?;
    ROWS.get(at).map(|(_, code, columns)| (*code, *columns))
}

static ROWS: LazyLock<Vec<(Tag, Code, Columns)>> = LazyLock::new(|| {
    let parse = |text: &str| {
        let number = u32::from_str_radix(text, 16).ok()?;
        Some(Tag((number >> 16) as u16, (number & 0xFFFF) as u16))
    };
    let mut rows: Vec<_> = TABLE
        .iter()
        .flat_map(|(code, columns, tags)| {
            tags.split_ascii_whitespace().filter_map(parse).map(|tag| (tag, *code, *columns))
        })
        .collect();
    rows.sort_unstable_by_key(|(tag, ..)| *tag);
    rows
});

const DEVICE_DATES: Columns = Columns::DEVICE.and(Columns::DATES);
const PATIENT_TEXT: Columns = Columns::PATIENT_CLEAN.and(Columns::DESCRIPTORS);
const DEVICE_UIDS: Columns = Columns::UIDS.and(Columns::DEVICE);

#[rustfmt::skip]
static TABLE: &[(Code, Columns, &str)] = &[
    (Code::D, Columns::CONTENT, "0040A730"),
    (Code::D, Columns::DATES, "\
        00080106 00080107 00189074 00189151 00189369 0018936A 00189623 00189701 00189804 00340007 \
        003A0314 0040A030 0040A120 0040A121 0040A122 0040A13A 00440104 00686226 00686270 0072000A \
        00720061 00720063 0072006B 04000105 04000562 30080024 30080025 30080162 30080164 30080166 \
        30080168 300A022C 300A022E 300A0736 300A073A 300A0741 300A0760"),
    (Code::D, Columns::DESCRIPTORS, "\
        001811BB 006A0005 00720066 00720068 0072006C 0072006E 00720070 04000565 30060002 300A0002 \
        300A0608 300A0619 300A0623 300A062A 300A067C 300A0734 300A0742 300A0783 30100033 30100034 \
        30100035 30100038 30100054"),
    (Code::D, Columns::DEVICE, "00189367 00189371 04000563 3010002D"),
    (Code::D, DEVICE_DATES, "300C0127"),
    (Code::D, Columns::DEVICE_CLEAN, "0072005E 21000140"),
    (Code::D, Columns::GRAPHICS, "00700001"),
    (Code::D, Columns::INSTITUTION, "00120081"),
    (Code::D, Columns::NONE, "\
        00120010 00120020 00120040 00120042 00340001 00340002 00340005 00400512 00400551 00401101 \
        0040A027 0040A073 0040A075 0040A123 00420011 00700006 00720065 0072006A 0072006D 00720071 \
        04000115"),
    (Code::D, Columns::PATIENT, "0072005F"),
    (Code::D, Columns::UIDS, "006A0003"),
    (Code::Z, Columns::CONTENT, "00400610"),
    (Code::Z, Columns::DATES, "00080020 00080030 0040A082 30060008 30060009 300E0004 300E0005"),
    (Code::Z, Columns::DESCRIPTORS, "\
        30060026 300A067D 3010000F 30100017 3010005A 3010005C 3010007A 3010007B 3010007F 30100081"),
    (Code::Z, Columns::DEVICE, "30100043"),
    (Code::Z, DEVICE_DATES, "00181203"),
    (Code::Z, Columns::INSTITUTION, "00120030 00120031 00120060 04000564"),
    (Code::Z, Columns::NONE, "\
        00080050 00080090 0008009C 00100010 00100030 00120021 00120050 00200010 00400513 00400562 \
        00402016 00402017 0040A088 300600A6 300A0611 300A0615 3010001B"),
    (Code::Z, Columns::PATIENT, "00100040"),
    (Code::X, Columns::DATES, "\
        00080015 00080024 00080025 00080034 00080035 00080201 001021D0 00120086 00120087 0016008D \
        00180027 00180035 00181012 00181014 00181042 00181043 00181072 00181073 00181078 00181079 \
        0018A002 00203403 00203405 00320032 00320033 00320034 00320035 00321000 00321001 00321010 \
        00321011 00321040 00321041 00321050 00321051 0038001A 0038001B 0038001C 0038001D 00380020 \
        00380021 00380030 00380032 00400002 00400003 00400004 00400005 00400244 00400245 00400250 \
        00400251 00402004 00402005 00404005 00404008 00404010 00404011 00404050 00404051 00404052 \
        0040A023 0040A024 0040A033 0040A034 0040A035 0040A110 0040A112 0040A192 0040A193 0040B034 \
        0040B036 0040DB06 0040DB07 0040E004 00440004 0044000B 00440010 00440105 00700082 00700083 \
        01000420 04000310 21000040 21000050 3006002D 3006002E 30100085 40080100 40080101 40080108 \
        40080109 40080112 40080113"),
    (Code::X, Columns::DESCRIPTORS, "\
        00081030 0008103E 00081080 00081084 00081088 00082111 00084000 00102000 00102180 001021B0 \
        00104000 00120051 00120072 0016002B 0016004B 00184000 00189185 0018937B 0018937F 00189424 \
        00189937 0018A003 00200027 00204000 00209158 00321030 00321066 00321067 00321070 00324000 \
        00380040 00380062 00384000 003A0329 003A032B 00400007 00400254 00400275 00400280 00400310 \
        0040051A 00400600 00400602 00401002 0040100A 00401400 00402001 00402400 00500021 006A0006 \
        30020121 30020123 30060004 30060006 30060028 30060038 30060085 30060088 300A0003 300A0004 \
        300A000B 300A000E 300A0016 300A0072 300A00C3 300A00DD 300A0196 300A01A6 300A01B2 300A02EB \
        300A0676 300A078E 300A0792 300A0794 300A079A 300C0113 30100036 30100037 30100061 4008010B \
        40080115 40080300 40084000"),
    (Code::X, Columns::DEVICE, "\
        0016004E 0016004F 00160050 00160051 00181004 00181005 00181007 00181008 00181009 0018100A \
        00185011 00189373 00203401 00321020 00400010 00400011 00400242 00404025 00404027 00404028 \
        00404030 00500020 300A0216"),
    (Code::X, DEVICE_DATES, "0014407C 0014407E 00181200 00181201 00181202 00181204 00181205"),
    (Code::X, Columns::DEVICE_CLEAN, "\
        00080054 00080055 00081000 00321021 00400001 00400241 00741234 00741236 21000070"),
    (Code::X, Columns::INSTITUTION, "00080081 00081040 00081041"),
    (Code::X, Columns::NONE, "\
        00080092 00080094 00080096 0008009D 00081048 00081049 00081050 00081052 00081060 00081062 \
        00081301 00081302 00081303 00081304 00100011 00100012 00100013 00100014 00100015 00100016 \
        00100021 00100032 00100041 00100042 00100043 00100044 00100045 00100046 00100047 00100050 \
        00100101 00100102 00101000 00101001 00101002 00101005 00101040 00101050 00101060 00101080 \
        00101081 00101090 00101100 00102150 00102152 00102154 00102155 00102161 00102162 001021F0 \
        00102297 00102299 00120022 00120023 00120032 00120041 00120043 00120055 00120071 00120073 \
        00120082 0016004D 00160070 00160071 00160072 00160073 00160074 00160075 00160076 00160077 \
        00160078 00160079 0016007A 0016007B 0016007C 0016007D 0016007E 0016007F 00160080 00160081 \
        00160082 00160083 00160084 00160085 00160086 00160087 00160088 00160089 0016008A 0016008B \
        0016008C 0016008E 00181010 00181011 00203406 00284000 00320012 00321032 00321033 00380004 \
        00380010 00380011 00380014 0038001E 00380060 00380061 00380064 00380300 00380400 003A0020 \
        003A0203 003A020C 00400006 00400009 0040000B 00400243 00400253 0040050A 00400556 004006FA \
        00401001 00401004 00401005 00401010 00401011 00401102 00401103 00401104 00402008 00402009 \
        00402010 00402011 00403001 00404034 00404035 00404036 00404037 0040A078 0040A07A 0040A07C \
        0040A307 0040A352 0040A353 0040A354 0040A358 0040B03B 0040B03F 0040E012 0050001B 00700086 \
        00880200 00880904 00880906 00880910 00880912 04000402 04000403 04000404 04000550 04000551 \
        04000552 04000561 04000600 20300020 3006004D 3006004E 40000010 40004000 40080040 40080042 \
        40080102 4008010A 4008010C 40080111 40080114 40080118 40080119 4008011A 40080200 40080202 \
        FFFAFFFA FFFCFFFC"),
    (Code::X, Columns::PATIENT, "00101010 00101020 00101030 00102160 001021A0 001021C0"),
    (Code::X, Columns::PATIENT_CLEAN, "00380050 00400012"),
    (Code::X, PATIENT_TEXT, "00102110 00380500"),
    (Code::X, Columns::UIDS, "00001000 00081120"),
    (Code::U, Columns::NONE, "0040A124 04000100"),
    (Code::U, Columns::UIDS, "\
        00001001 00020003 00041511 00080014 00080017 00080018 00080019 00080058 00081155 00081195 \
        00083010 00182042 0020000D 0020000E 00200052 00200200 00209161 00209164 00281199 00281214 \
        003A0310 00400554 00404023 0040A171 0040A172 0040A402 0040DB0C 0040DB0D 00620021 00640003 \
        0070031A 00701101 00701102 00880140 30060024 300600C2 300A0013 300A0054 300A0083 300A0609 \
        300A0650 300A0700 300A0785 30100006 3010000B 30100013 30100015 30100031 3010003B 3010006E \
        3010006F"),
    (Code::U, DEVICE_UIDS, "00181002 0018100B"),
    (Code::XorZ, Columns::CONTENT, "00400555"),
    (Code::XorZ, Columns::DATES, "00080022 00080032"),
    (Code::XorZ, Columns::DESCRIPTORS, "00321060 22000002"),
    (Code::XorZ, Columns::DEVICE, "30080105 300A00B2"),
    (Code::XorZ, Columns::NONE, "22000005 300E0008"),
    (Code::XorZ, Columns::PATIENT, "00102203"),
    (Code::XorZ, Columns::UIDS, "00081110"),
    (Code::XorD, Columns::DATES, "\
        00080012 00080021 00080031 00189516 00189517 0040A032 30080054 30080056 30080250 30080251 \
        300A0006 300A0007 3010004C 3010004D"),
    (Code::XorD, Columns::DESCRIPTORS, "00181030 00181400 30100056 30100077"),
    (Code::XorD, Columns::DEVICE, "0018700A"),
    (Code::XorD, DEVICE_DATES, "0018700C 0018700E"),
    (Code::XorD, Columns::NONE, "00081072 0040B020"),
    (Code::ZorD, Columns::DATES, "00080023 00080033 00189919"),
    (Code::ZorD, Columns::DESCRIPTORS, "00180010"),
    (Code::ZorD, Columns::NONE, "00100020 00700084"),
    (Code::XorZorD, Columns::DATES, "00080013 0008002A"),
    (Code::XorZorD, Columns::DEVICE, "00081010 00181000"),
    (Code::XorZorD, Columns::INSTITUTION, "00080080 00080082"),
    (Code::XorZorD, Columns::NONE, "00081070"),
    (Code::XorZorD, Columns::UIDS, "00081111"),
    (Code::References, Columns::UIDS, "00081140 00082112"),
];

#[cfg(test)]
mod tests {
    use dicom_core::dictionary::{DataDictionary as _, DataDictionaryEntry as _, VirtualVr};
    use dicom_dictionary_std::StandardDataDictionary;

    use super::*;
    use crate::dicom::VR;

    #[test]
    fn it_has_all_rows_once() {
        let listed: usize = TABLE.iter().map(|(.., tags)| tags.split_whitespace().count()).sum();
        assert_eq!(listed, 652);
        assert_eq!(ROWS.len(), 652);
        assert!(ROWS.windows(2).all(|pair| pair[0].0 < pair[1].0));
        let count = |code| ROWS.iter().filter(|row| row.1 == code).count();
        assert_eq!(count(Code::X), 412);
        assert_eq!(count(Code::D), 93);
        assert_eq!(count(Code::Z), 42);
        assert_eq!(count(Code::U), 55);
    }

    #[test]
    fn rows_are_those_of_the_standard() {
        for (tag, code, columns) in [
            (Tag(0x0008, 0x0018), Code::U, Columns::UIDS),
            (Tag(0x0008, 0x0020), Code::Z, Columns::DATES),
            (Tag(0x0008, 0x0050), Code::Z, Columns::NONE),
            (Tag(0x0008, 0x0080), Code::XorZorD, Columns::INSTITUTION),
            (Tag(0x0008, 0x1030), Code::X, Columns::DESCRIPTORS),
            (Tag(0x0008, 0x1140), Code::References, Columns::UIDS),
            (Tag(0x0010, 0x0010), Code::Z, Columns::NONE),
            (Tag(0x0010, 0x0020), Code::ZorD, Columns::NONE),
            (Tag(0x0010, 0x0030), Code::Z, Columns::NONE),
            (Tag(0x0010, 0x1010), Code::X, Columns::PATIENT),
            (Tag(0x0018, 0x1000), Code::XorZorD, Columns::DEVICE),
            (Tag(0x0018, 0x1002), Code::U, DEVICE_UIDS),
            (Tag(0x0040, 0xA730), Code::D, Columns::CONTENT),
            (Tag(0x0070, 0x0001), Code::D, Columns::GRAPHICS),
            (Tag(0x0088, 0x0200), Code::X, Columns::NONE),
            (Tag(0xFFFA, 0xFFFA), Code::X, Columns::NONE),
        ] {
            assert_eq!(row(tag), Some((code, columns)), "{tag}");
        }
        assert_eq!(row(Tag(0x0028, 0x0010)), None);
    }

    #[test]
    fn codes_suit_the_attributes() {
        for (tag, code, columns) in ROWS.iter() {
            let entry = StandardDataDictionary.by_tag(*tag);
            let VirtualVr::Exact(vr) = entry.unwrap_or_else(|| panic!("{tag}")).vr() else {
                assert!(*code == Code::X || *tag == Tag(0x0072, 0x006D), "{tag}");
                continue;
            };
            if *code == Code::U {
                assert_eq!(vr, VR::UI, "{tag}");
            }
            if *code == Code::References || columns.has(Columns::CONTENT) {
                assert_eq!(vr, VR::SQ, "{tag}");
            }
        }
    }
}
