//! Categories of Non-Patient Instances (PS3.18 §12.1): their resources, SOP classes and keys.

use dicom_core::dictionary::DataDictionary as _;
use dicom_dictionary_std::{StandardDataDictionary, uids};

use super::{
    Tag, Uid,
    attributes::{self, Matching},
};

/// A category, which is a resource of the service.
#[derive(Debug, PartialEq, Eq)]
pub struct Category {
    /// Its segment of paths.
    pub name: &'static str,
    /// The SOP classes of its instances.
    pub sop_classes: &'static [&'static str],
    /// The attributes that a search returns unasked: the keys of its information model in PS3.4.
    pub keys: &'static [Tag],
}

/// Of every category: character set, SOP class and instance.
pub const COMMON: [Tag; 3] = [Tag(0x0008, 0x0005), Tag(0x0008, 0x0016), Tag(0x0008, 0x0018)];

/// All categories.
pub static CATEGORIES: [Category; 6] = [
    // PS3.4 Table X.6-1.
    Category {
        name: "color-palettes",
        sop_classes: &[uids::COLOR_PALETTE_STORAGE],
        keys: &[Tag(0x0070, 0x0080), Tag(0x0070, 0x0081), Tag(0x0070, 0x0084), Tag(0x0070, 0x0087)],
    },
    // PS3.4 Table U.6-1.
    Category {
        name: "hanging-protocols",
        sop_classes: &[uids::HANGING_PROTOCOL_STORAGE],
        keys: &[
            Tag(0x0072, 0x0002),
            Tag(0x0072, 0x0004),
            Tag(0x0072, 0x0006),
            Tag(0x0072, 0x0008),
            Tag(0x0072, 0x000A),
            Tag(0x0072, 0x000C),
            Tag(0x0072, 0x000E),
            Tag(0x0072, 0x0010),
            Tag(0x0072, 0x0014),
            Tag(0x0072, 0x0100),
            Tag(0x0072, 0x0102),
        ],
    },
    // PS3.4 Table HH.6-1.
    Category {
        name: "defined-procedure-protocols",
        sop_classes: &[
            uids::CT_DEFINED_PROCEDURE_PROTOCOL_STORAGE,
            uids::XA_DEFINED_PROCEDURE_PROTOCOL_STORAGE,
        ],
        keys: &[
            Tag(0x0008, 0x0012),
            Tag(0x0008, 0x0013),
            Tag(0x0008, 0x0220),
            Tag(0x0008, 0x0221),
            Tag(0x0008, 0x2218),
            Tag(0x0008, 0x2228),
            Tag(0x0012, 0x0010),
            Tag(0x0012, 0x0020),
            Tag(0x0018, 0x1030),
            Tag(0x0018, 0x9906),
            Tag(0x0018, 0x9907),
            Tag(0x0018, 0x9908),
            Tag(0x0018, 0x9909),
            Tag(0x0018, 0x990A),
            Tag(0x0018, 0x990E),
            Tag(0x0018, 0x9912),
            Tag(0x0040, 0xA07C),
            Tag(0x0070, 0x0084),
        ],
    },
    // PS3.4 Tables BB.6-1, BB.6-2 and BB.6-3.
    Category {
        name: "implant-templates",
        sop_classes: &[
            uids::GENERIC_IMPLANT_TEMPLATE_STORAGE,
            uids::IMPLANT_ASSEMBLY_TEMPLATE_STORAGE,
            uids::IMPLANT_TEMPLATE_GROUP_STORAGE,
        ],
        keys: &[
            Tag(0x0008, 0x0070),
            Tag(0x0022, 0x1095),
            Tag(0x0022, 0x1097),
            Tag(0x0068, 0x6210),
            Tag(0x0068, 0x6222),
            Tag(0x0068, 0x6224),
            Tag(0x0068, 0x6225),
            Tag(0x0068, 0x6226),
            Tag(0x0068, 0x6230),
            Tag(0x0068, 0x62A0),
            Tag(0x0068, 0x63A0),
            Tag(0x0068, 0x63A4),
            Tag(0x0076, 0x0001),
            Tag(0x0076, 0x0008),
            Tag(0x0076, 0x000C),
            Tag(0x0076, 0x000E),
            Tag(0x0076, 0x0020),
            Tag(0x0076, 0x0030),
            Tag(0x0078, 0x0001),
            Tag(0x0078, 0x0010),
            Tag(0x0078, 0x0020),
            Tag(0x0078, 0x0026),
        ],
    },
    // PS3.4 §JJ.2.2.
    Category {
        name: "inventories",
        sop_classes: &[uids::INVENTORY_STORAGE],
        keys: &[
            Tag(0x0008, 0x0023),
            Tag(0x0008, 0x0033),
            Tag(0x0008, 0x0400),
            Tag(0x0008, 0x0401),
            Tag(0x0008, 0x0402),
            Tag(0x0008, 0x0403),
            Tag(0x0008, 0x0426),
            Tag(0x0008, 0x0427),
            Tag(0x0008, 0x0428),
        ],
    },
    // PS3.4 Table II.6-1.
    Category {
        name: "protocol-approvals",
        sop_classes: &[uids::PROTOCOL_APPROVAL_STORAGE],
        keys: &[
            Tag(0x0008, 0x0012),
            Tag(0x0008, 0x0013),
            Tag(0x0008, 0x0070),
            Tag(0x0008, 0x1090),
            Tag(0x0018, 0x1020),
            Tag(0x0044, 0x0100),
            Tag(0x0044, 0x0109),
        ],
    },
];

impl Category {
    /// The category that a segment of a path names.
    pub fn named(segment: &str) -> Option<&'static Self> {
        CATEGORIES.iter().find(|category| category.name == segment)
    }

    /// The keywords of its keys that have values of their own, those of every category first.
    pub fn keywords(&self) -> Vec<&'static str> {
        let is_valued = |tag: &&Tag| {
            let vr = attributes::vr_of(**tag);
            **tag != COMMON[0] && vr.is_some_and(|vr| Matching::of(vr).is_some())
        };
        let keyword = |tag: &Tag| {
            let entry = StandardDataDictionary.by_tag(*tag)?;
            Some(entry.alias)
        };
        COMMON.iter().chain(self.keys).filter(is_valued).filter_map(keyword).collect()
    }

    /// Whether instances of the class belong to it.
    pub fn holds(&self, sop_class: &Uid) -> bool {
        self.sop_classes.contains(&sop_class.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::uid::name_of;

    #[test]
    fn classes_and_keys_are_known_and_belong_once() {
        let classes: Vec<&str> =
            CATEGORIES.iter().flat_map(|category| category.sop_classes).copied().collect();
        for (at, class) in classes.iter().enumerate() {
            assert!(name_of(class).is_some(), "{class}");
            assert!(!classes[..at].contains(class), "{class}");
        }
        for category in &CATEGORIES {
            assert_eq!(Category::named(category.name), Some(category));
            assert!(category.keys.is_sorted(), "{}", category.name);
            for key in category.keys.iter().chain(&COMMON) {
                assert!(StandardDataDictionary.by_tag(*key).is_some(), "{key:?}");
            }
        }
        assert_eq!(Category::named("studies"), None);
    }
}
