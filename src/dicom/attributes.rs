//! The attributes that the index knows: at which level each lives and how Search matches it.
//!
//! Owns [`TABLE`] (PS3.18 Tables 10.6.1-5 and 10.6.3-3 to -5, PS3.4 §C.6.1.1 and §C.6.2.1, and what
//! viewers ask for). Holds: rows ascend by tag, a tag has one row, column names are unique. Absent:
//! what is computed instead of stored (counts, ModalitiesInStudy, RetrieveURL, availability), and
//! normalisation of values ([`super::normalise`]).

use dicom_core::dictionary::{DataDictionary as _, DataDictionaryEntry as _, TagRange};
use dicom_dictionary_std::StandardDataDictionary;

use super::{Tag, VR};

/// A level of the Study Root hierarchy (PS3.4 §C.6.2); patient attributes count to the study.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Patient and study attributes.
    Study = 0,
    /// Series attributes.
    Series = 1,
    /// Instance attributes.
    Instance = 2,
}

/// How a search key is matched (PS3.4 §C.2.2.2) and so how its column is typed and normalised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub enum Matching {
    /// UI: equality, lists.
    Uid,
    /// Case-sensitive text with wildcards.
    Text,
    /// PN: folded text (case, accents), with wildcards, by component group. The column holds
    /// the alphabetic group; [`Attribute::columns`] names all three.
    PersonName,
    /// DA: single value and range. Column value `YYYYMMDD`.
    Date,
    /// TM: single value and range. Column value `HHMMSS.FFFFFF`, complete.
    Time,
    /// IS and binary integers: equality by meaning. Key: canonical decimal.
    Integer,
    /// Case-sensitive text without wildcards (AS, and TimezoneOffsetFromUTC).
    Exact,
    /// DT: single value and range. Key `YYYYMMDDHHMMSS.FFFFFF`, complete; in UTC where the value says
    /// its offset.
    DateTime,
    /// DS and binary floating point: equality by meaning. Key: shortest decimal of the value.
    Decimal,
    /// AT: 8 upper-case hexadecimal digits.
    AttributeTag,
}

impl Matching {
    /// How attributes of a value representation are matched (PS3.4 §C.2.2.2). `None`: not at all
    /// (bulk values), or by their items (SQ).
    pub fn of(vr: VR) -> Option<Self> {
        Some(match vr {
            VR::UI => Self::Uid,
            VR::AE | VR::CS | VR::LO | VR::LT | VR::SH | VR::ST | VR::UC | VR::UR | VR::UT => {
                Self::Text
            }
            VR::PN => Self::PersonName,
            VR::DA => Self::Date,
            VR::TM => Self::Time,
            VR::DT => Self::DateTime,
            VR::IS | VR::SL | VR::SS | VR::SV | VR::UL | VR::US | VR::UV => Self::Integer,
            VR::DS | VR::FD | VR::FL => Self::Decimal,
            VR::AS => Self::Exact,
            VR::AT => Self::AttributeTag,
            VR::OB | VR::OD | VR::OF | VR::OL | VR::OV | VR::OW | VR::SQ | VR::UN => return None,
        })
    }
}

/// One attribute of the index.
#[derive(Clone, Copy, Debug)]
pub struct Attribute {
    /// The attribute.
    pub tag: Tag,
    /// Its keyword (PS3.6).
    pub keyword: &'static str,
    /// Its value representation.
    pub vr: VR,
    /// The level that it belongs to.
    pub level: Level,
    /// Returned by Search without being asked for (PS3.18 Tables 10.6.3-3 to -5).
    pub default: bool,
    /// Of return type R there: returned even where the entity has no value, then empty.
    pub required: bool,
    /// The column that holds its search key and how it matches; `None`: returned, not matched.
    pub column: Option<(&'static str, Matching)>,
    /// All columns of its search key: none, one, or for a person name those of the alphabetic,
    /// ideographic and phonetic group, in this order.
    pub columns: &'static [&'static str],
}

/// What Search does with a row: returns it always, even if empty (`R`); always where it has a
/// value (`C`); when asked (`O`).
enum Return {
    R,
    C,
    O,
}
use Level::{Instance, Series, Study};
use Matching::{Date, Exact, Integer, PersonName, Text, Time, Uid};
use Return::{C, O, R};

const fn row(
    group: u16,
    element: u16,
    keyword: &'static str,
    vr: VR,
    level: Level,
    returned: Return,
    search: Option<(&'static [&'static str], Matching)>,
) -> Attribute {
    let (default, required) = match returned {
        R => (true, true),
        C => (true, false),
        O => (false, false),
    };
    let tag = Tag(group, element);
    let (columns, column): (&[&str], _) = match search {
        Some((names, matching)) => (names, Some((names[0], matching))),
        None => (&[], None),
    };
    Attribute { tag, keyword, vr, level, default, required, column, columns }
}

/// Every attribute of the index, ascending by tag.
#[rustfmt::skip]
pub static TABLE: &[Attribute] = &[
    row(0x0008, 0x0008, "ImageType", VR::CS, Instance, O, None),
    row(0x0008, 0x0016, "SOPClassUID", VR::UI, Instance, R, Some((&["sop_class_uid"], Uid))),
    row(0x0008, 0x0018, "SOPInstanceUID", VR::UI, Instance, R, Some((&["sop_instance_uid"], Uid))),
    row(0x0008, 0x0020, "StudyDate", VR::DA, Study, R, Some((&["study_date"], Date))),
    row(0x0008, 0x0021, "SeriesDate", VR::DA, Series, O, None),
    row(0x0008, 0x0022, "AcquisitionDate", VR::DA, Instance, O, None),
    row(0x0008, 0x0023, "ContentDate", VR::DA, Instance, O, None),
    row(0x0008, 0x002A, "AcquisitionDateTime", VR::DT, Instance, O, None),
    row(0x0008, 0x0030, "StudyTime", VR::TM, Study, R, Some((&["study_time"], Time))),
    row(0x0008, 0x0031, "SeriesTime", VR::TM, Series, O, None),
    row(0x0008, 0x0032, "AcquisitionTime", VR::TM, Instance, O, None),
    row(0x0008, 0x0033, "ContentTime", VR::TM, Instance, O, None),
    row(0x0008, 0x0050, "AccessionNumber", VR::SH, Study, R, Some((&["accession_number"], Text))),
    row(0x0008, 0x0051, "IssuerOfAccessionNumberSequence", VR::SQ, Study, O, None),
    row(0x0008, 0x0060, "Modality", VR::CS, Series, R, Some((&["modality"], Text))),
    row(0x0008, 0x0063, "AnatomicRegionsInStudyCodeSequence", VR::SQ, Study, O, None),
    row(0x0008, 0x0070, "Manufacturer", VR::LO, Series, O, None),
    row(0x0008, 0x0080, "InstitutionName", VR::LO, Series, O, None),
    row(0x0008, 0x0090, "ReferringPhysicianName", VR::PN, Study, R,
        Some((&["referring_physician_name", "referring_physician_name_ideographic",
            "referring_physician_name_phonetic"], PersonName))),
    row(0x0008, 0x0201, "TimezoneOffsetFromUTC", VR::SH, Study, C,
        Some((&["timezone_offset"], Exact))),
    row(0x0008, 0x1010, "StationName", VR::SH, Series, O, Some((&["station_name"], Text))),
    row(0x0008, 0x1030, "StudyDescription", VR::LO, Study, O, Some((&["study_description"], Text))),
    row(0x0008, 0x1032, "ProcedureCodeSequence", VR::SQ, Study, O, None),
    row(0x0008, 0x103E, "SeriesDescription", VR::LO, Series, C, Some((&["series_description"], Text))),
    row(0x0008, 0x103F, "SeriesDescriptionCodeSequence", VR::SQ, Series, O, None),
    row(0x0008, 0x1040, "InstitutionalDepartmentName", VR::LO, Series, O, None),
    row(0x0008, 0x1048, "PhysiciansOfRecord", VR::PN, Study, O, None),
    row(0x0008, 0x1050, "PerformingPhysicianName", VR::PN, Series, O, None),
    row(0x0008, 0x1060, "NameOfPhysiciansReadingStudy", VR::PN, Study, O, None),
    row(0x0008, 0x1070, "OperatorsName", VR::PN, Series, O, None),
    row(0x0008, 0x1080, "AdmittingDiagnosesDescription", VR::LO, Study, O, None),
    row(0x0008, 0x1090, "ManufacturerModelName", VR::LO, Series, O,
        Some((&["manufacturer_model_name"], Text))),
    row(0x0008, 0x1110, "ReferencedStudySequence", VR::SQ, Study, O, None),
    row(0x0008, 0x1120, "ReferencedPatientSequence", VR::SQ, Study, O, None),
    row(0x0010, 0x0010, "PatientName", VR::PN, Study, R, Some((&["patient_name", "patient_name_ideographic",
            "patient_name_phonetic"], PersonName))),
    row(0x0010, 0x0020, "PatientID", VR::LO, Study, R, Some((&["patient_id"], Text))),
    row(0x0010, 0x0021, "IssuerOfPatientID", VR::LO, Study, O,
        Some((&["issuer_of_patient_id"], Text))),
    row(0x0010, 0x0024, "IssuerOfPatientIDQualifiersSequence", VR::SQ, Study, O, None),
    row(0x0010, 0x0030, "PatientBirthDate", VR::DA, Study, R, Some((&["patient_birth_date"], Date))),
    row(0x0010, 0x0032, "PatientBirthTime", VR::TM, Study, O, None),
    row(0x0010, 0x0040, "PatientSex", VR::CS, Study, R, Some((&["patient_sex"], Text))),
    row(0x0010, 0x1000, "OtherPatientIDs", VR::LO, Study, O, None),
    row(0x0010, 0x1001, "OtherPatientNames", VR::PN, Study, O, None),
    row(0x0010, 0x1002, "OtherPatientIDsSequence", VR::SQ, Study, O, None),
    row(0x0010, 0x1010, "PatientAge", VR::AS, Study, O, None),
    row(0x0010, 0x1020, "PatientSize", VR::DS, Study, O, None),
    row(0x0010, 0x1030, "PatientWeight", VR::DS, Study, O, None),
    row(0x0010, 0x2160, "EthnicGroup", VR::SH, Study, O, None),
    row(0x0010, 0x2180, "Occupation", VR::SH, Study, O, None),
    row(0x0010, 0x21B0, "AdditionalPatientHistory", VR::LT, Study, O, None),
    row(0x0010, 0x4000, "PatientComments", VR::LT, Study, O, None),
    row(0x0018, 0x0015, "BodyPartExamined", VR::CS, Series, O, Some((&["body_part_examined"], Text))),
    row(0x0018, 0x1000, "DeviceSerialNumber", VR::LO, Series, O, None),
    row(0x0018, 0x1030, "ProtocolName", VR::LO, Series, O, None),
    row(0x0018, 0x5100, "PatientPosition", VR::CS, Series, O, None),
    row(0x0020, 0x000D, "StudyInstanceUID", VR::UI, Study, R, Some((&["study_instance_uid"], Uid))),
    row(0x0020, 0x000E, "SeriesInstanceUID", VR::UI, Series, R, Some((&["series_instance_uid"], Uid))),
    row(0x0020, 0x0010, "StudyID", VR::SH, Study, R, Some((&["study_id"], Text))),
    row(0x0020, 0x0011, "SeriesNumber", VR::IS, Series, R, Some((&["series_number"], Integer))),
    row(0x0020, 0x0012, "AcquisitionNumber", VR::IS, Instance, O, None),
    row(0x0020, 0x0013, "InstanceNumber", VR::IS, Instance, R, Some((&["instance_number"], Integer))),
    row(0x0020, 0x0052, "FrameOfReferenceUID", VR::UI, Series, O, None),
    row(0x0020, 0x0060, "Laterality", VR::CS, Series, O, None),
    row(0x0020, 0x1041, "SliceLocation", VR::DS, Instance, O, None),
    row(0x0028, 0x0002, "SamplesPerPixel", VR::US, Instance, O, None),
    row(0x0028, 0x0004, "PhotometricInterpretation", VR::CS, Instance, O, None),
    row(0x0028, 0x0008, "NumberOfFrames", VR::IS, Instance, C, None),
    row(0x0028, 0x0010, "Rows", VR::US, Instance, C, None),
    row(0x0028, 0x0011, "Columns", VR::US, Instance, C, None),
    row(0x0028, 0x0100, "BitsAllocated", VR::US, Instance, C, None),
    row(0x0040, 0x0244, "PerformedProcedureStepStartDate", VR::DA, Series, C,
        Some((&["pps_start_date"], Date))),
    row(0x0040, 0x0245, "PerformedProcedureStepStartTime", VR::TM, Series, C,
        Some((&["pps_start_time"], Time))),
    row(0x0040, 0x0253, "PerformedProcedureStepID", VR::SH, Series, O, None),
    row(0x0040, 0x0254, "PerformedProcedureStepDescription", VR::LO, Series, O, None),
    row(0x0040, 0x0275, "RequestAttributesSequence", VR::SQ, Series, C, None),
    row(0x0040, 0xA043, "ConceptNameCodeSequence", VR::SQ, Instance, O, None),
    row(0x0040, 0xA491, "CompletionFlag", VR::CS, Instance, O, None),
    row(0x0040, 0xA493, "VerificationFlag", VR::CS, Instance, O, None),
    row(0x0042, 0x0010, "DocumentTitle", VR::ST, Instance, O, None),
    row(0x0070, 0x0080, "ContentLabel", VR::CS, Instance, O, None),
    row(0x0070, 0x0081, "ContentDescription", VR::LO, Instance, O, None),
];

/// The index's row for an attribute.
pub fn by_tag(tag: Tag) -> Option<&'static Attribute> {
    TABLE.binary_search_by_key(&tag, |row| row.tag).ok().and_then(|at| TABLE.get(at))
}

/// The index's row for a keyword; keywords are case-sensitive (PS3.18 §8.3.4).
pub fn by_keyword(keyword: &str) -> Option<&'static Attribute> {
    TABLE.iter().find(|row| row.keyword == keyword)
}

/// The index's row for the attribute that a column is of.
pub fn of_column(name: &str) -> Option<&'static Attribute> {
    TABLE.iter().find(|row| row.columns.contains(&name))
}

/// The tag of any keyword of PS3.6, known to the index or not. For repeating groups the first one.
pub fn tag_of_keyword(keyword: &str) -> Option<Tag> {
    let entry = StandardDataDictionary.by_name(keyword)?;
    match entry.tag_range() {
        TagRange::Single(tag) | TagRange::Group100(tag) | TagRange::Element100(tag) => Some(tag),
        TagRange::GroupLength | TagRange::PrivateCreator => None,
    }
}

/// The keyword that PS3.6 gives a tag. `None`: private or unknown.
pub fn keyword_of(tag: Tag) -> Option<&'static str> {
    let entry = StandardDataDictionary.by_tag(tag).filter(|_| tag.0.is_multiple_of(2))?;
    Some(entry.alias)
}

/// The value representation that PS3.6 gives a tag; of several, the first that it names.
/// `None`: private or unknown.
pub fn vr_of(tag: Tag) -> Option<VR> {
    Some(StandardDataDictionary.by_tag(tag)?.vr().relaxed())
}

/// The one value representation that PS3.6 gives a tag. `None`: private, unknown, or one of several.
pub fn exact_vr_of(tag: Tag) -> Option<VR> {
    StandardDataDictionary.by_tag(tag)?.vr().exact()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn rows_ascend_and_agree_with_the_dictionary() {
        assert!(TABLE.windows(2).all(|pair| pair[0].tag < pair[1].tag));
        for row in TABLE {
            assert_eq!(tag_of_keyword(row.keyword), Some(row.tag), "{}", row.keyword);
            assert_eq!(vr_of(row.tag), Some(row.vr), "{}", row.keyword);
        }
    }

    #[test]
    fn columns_are_unique_and_led_by_the_named_one() {
        let mut seen = BTreeSet::new();
        for row in TABLE {
            assert_eq!(row.column.map(|(name, _)| name), row.columns.first().copied());
            let wanted = match row.column {
                None => 0,
                Some((_, Matching::PersonName)) => 3,
                Some(_) => 1,
            };
            assert_eq!(row.columns.len(), wanted, "{}", row.keyword);
            assert!(row.columns.iter().all(|name| seen.insert(*name)), "{}", row.keyword);
        }
        assert_eq!(seen.len(), 29);
    }

    #[test]
    fn the_required_matching_keys_have_columns() {
        // PS3.18 Table 10.6.1-5, without ModalitiesInStudy (computed) and sequences.
        let keys = "StudyDate StudyTime AccessionNumber ReferringPhysicianName PatientName \
                    PatientID StudyInstanceUID StudyID Modality SeriesInstanceUID SeriesNumber \
                    PerformedProcedureStepStartDate PerformedProcedureStepStartTime SOPClassUID \
                    SOPInstanceUID InstanceNumber";
        for keyword in keys.split_ascii_whitespace() {
            assert!(by_keyword(keyword).unwrap().column.is_some(), "{keyword}");
        }
    }

    #[test]
    fn looks_up() {
        assert_eq!(by_tag(Tag(0x0010, 0x0010)).unwrap().keyword, "PatientName");
        assert_eq!(by_tag(Tag(0x0018, 0x0050)).map(|row| row.keyword), None);
        assert_eq!(by_keyword("patientname").map(|row| row.keyword), None);
        let of = |name| of_column(name).map(|row| row.keyword);
        assert_eq!(of("patient_name_phonetic"), Some("PatientName"));
        assert_eq!(of("patient"), None);
        assert_eq!(tag_of_keyword("SliceThickness"), Some(Tag(0x0018, 0x0050)));
        assert_eq!(tag_of_keyword("OverlayRows"), Some(Tag(0x6000, 0x0010)));
        for keyword in ["", "PrivateCreator", "GenericGroupLength", "slicethickness", "00180050"] {
            assert_eq!(tag_of_keyword(keyword), None, "{keyword}");
        }
        assert_eq!(vr_of(Tag(0x0009, 0x1001)), None);
    }
}
