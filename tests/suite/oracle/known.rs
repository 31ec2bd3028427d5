//! The attributes in play: what PS3.6 and PS3.18 Tables 10.6.3-3 to -5 say of them, and whether the
//! server knows them at a level of their own (docs/conformance.md).

use super::model::Tag;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Study,
    Series,
    Instance,
}

/// When an attribute is in a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// Always, empty or not.
    Required,
    /// Where it has a value.
    Conditional,
    /// Where it is asked for.
    Asked,
}

#[derive(Clone, Copy, Debug)]
pub struct Known {
    pub tag: Tag,
    pub keyword: &'static str,
    pub vr: &'static str,
    pub level: Level,
    pub given: Given,
    /// It belongs to its level for the server; others are attributes of the instance alone.
    pub stored: bool,
    /// Values that it may have, in the data sets of the test.
    pub several: bool,
}

use Given::{Asked, Conditional, Required};
use Level::{Instance, Series, Study};

const fn at(group: u16, element: u16, keyword: &'static str, vr: &'static str) -> Known {
    Known {
        tag: (group, element),
        keyword,
        vr,
        level: Instance,
        given: Asked,
        stored: false,
        several: false,
    }
}

impl Known {
    const fn of(mut self, level: Level, given: Given) -> Self {
        (self.level, self.given, self.stored) = (level, given, true);
        self
    }

    const fn several(mut self) -> Self {
        self.several = true;
        self
    }
}

/// Ascending by tag.
pub const KNOWN: &[Known] = &[
    at(0x0008, 0x0008, "ImageType", "CS").of(Instance, Asked).several(),
    at(0x0008, 0x0016, "SOPClassUID", "UI").of(Instance, Required),
    at(0x0008, 0x0018, "SOPInstanceUID", "UI").of(Instance, Required),
    at(0x0008, 0x001A, "RelatedGeneralSOPClassUID", "UI").several(),
    at(0x0008, 0x0020, "StudyDate", "DA").of(Study, Required),
    at(0x0008, 0x0021, "SeriesDate", "DA").of(Series, Asked),
    at(0x0008, 0x0022, "AcquisitionDate", "DA").of(Instance, Asked),
    at(0x0008, 0x002A, "AcquisitionDateTime", "DT").of(Instance, Asked),
    at(0x0008, 0x0030, "StudyTime", "TM").of(Study, Required),
    at(0x0008, 0x0031, "SeriesTime", "TM").of(Series, Asked),
    at(0x0008, 0x0032, "AcquisitionTime", "TM").of(Instance, Asked),
    at(0x0008, 0x0050, "AccessionNumber", "SH").of(Study, Required),
    at(0x0008, 0x0054, "RetrieveAETitle", "AE").several(),
    at(0x0008, 0x0060, "Modality", "CS").of(Series, Required),
    at(0x0008, 0x0080, "InstitutionName", "LO").of(Series, Asked),
    at(0x0008, 0x0081, "InstitutionAddress", "ST"),
    at(0x0008, 0x0090, "ReferringPhysicianName", "PN").of(Study, Required),
    at(0x0008, 0x009C, "ConsultingPhysicianName", "PN").several(),
    at(0x0008, 0x010E, "CodingSchemeURL", "UR"),
    at(0x0008, 0x0119, "LongCodeValue", "UC"),
    at(0x0008, 0x0201, "TimezoneOffsetFromUTC", "SH").of(Study, Conditional),
    at(0x0008, 0x1010, "StationName", "SH").of(Series, Asked),
    at(0x0008, 0x1030, "StudyDescription", "LO").of(Study, Asked),
    at(0x0008, 0x1032, "ProcedureCodeSequence", "SQ").of(Study, Asked),
    at(0x0008, 0x103E, "SeriesDescription", "LO").of(Series, Conditional),
    at(0x0008, 0x1048, "PhysiciansOfRecord", "PN").of(Study, Asked).several(),
    at(0x0008, 0x1070, "OperatorsName", "PN").of(Series, Asked).several(),
    at(0x0008, 0x1090, "ManufacturerModelName", "LO").of(Series, Asked),
    at(0x0008, 0x9459, "RecommendedDisplayFrameRateInFloat", "FL"),
    at(0x0010, 0x0010, "PatientName", "PN").of(Study, Required),
    at(0x0010, 0x0020, "PatientID", "LO").of(Study, Required),
    at(0x0010, 0x0021, "IssuerOfPatientID", "LO").of(Study, Asked),
    at(0x0010, 0x0030, "PatientBirthDate", "DA").of(Study, Required),
    at(0x0010, 0x0032, "PatientBirthTime", "TM").of(Study, Asked),
    at(0x0010, 0x0040, "PatientSex", "CS").of(Study, Required),
    at(0x0010, 0x1000, "OtherPatientIDs", "LO").of(Study, Asked).several(),
    at(0x0010, 0x1001, "OtherPatientNames", "PN").of(Study, Asked).several(),
    at(0x0010, 0x1002, "OtherPatientIDsSequence", "SQ").of(Study, Asked),
    at(0x0010, 0x1010, "PatientAge", "AS").of(Study, Asked),
    at(0x0010, 0x1030, "PatientWeight", "DS").of(Study, Asked),
    at(0x0010, 0x4000, "PatientComments", "LT").of(Study, Asked),
    at(0x0018, 0x0015, "BodyPartExamined", "CS").of(Series, Asked),
    at(0x0018, 0x0060, "KVP", "DS"),
    at(0x0018, 0x1030, "ProtocolName", "LO").of(Series, Asked),
    at(0x0018, 0x6018, "RegionLocationMinX0", "UL"),
    at(0x0018, 0x6020, "ReferencePixelX0", "SL"),
    at(0x0018, 0x9073, "AcquisitionDuration", "FD"),
    at(0x0018, 0x9219, "TagAngleSecondAxis", "SS"),
    at(0x0020, 0x000D, "StudyInstanceUID", "UI").of(Study, Required),
    at(0x0020, 0x000E, "SeriesInstanceUID", "UI").of(Series, Required),
    at(0x0020, 0x0010, "StudyID", "SH").of(Study, Required),
    at(0x0020, 0x0011, "SeriesNumber", "IS").of(Series, Required),
    at(0x0020, 0x0013, "InstanceNumber", "IS").of(Instance, Required),
    at(0x0020, 0x0052, "FrameOfReferenceUID", "UI").of(Series, Asked),
    at(0x0020, 0x1041, "SliceLocation", "DS").of(Instance, Asked),
    at(0x0028, 0x0010, "Rows", "US").of(Instance, Conditional),
    at(0x0028, 0x0011, "Columns", "US").of(Instance, Conditional),
    at(0x0028, 0x0100, "BitsAllocated", "US").of(Instance, Conditional),
    at(0x0040, 0x0244, "PerformedProcedureStepStartDate", "DA").of(Series, Conditional),
    at(0x0040, 0x0245, "PerformedProcedureStepStartTime", "TM").of(Series, Conditional),
    at(0x0040, 0x0275, "RequestAttributesSequence", "SQ").of(Series, Conditional),
    at(0x0040, 0xA120, "DateTime", "DT"),
    at(0x0040, 0xA160, "TextValue", "UT"),
    at(0x0040, 0xA730, "ContentSequence", "SQ"),
    at(0x0072, 0x0026, "SelectorAttribute", "AT"),
    at(0x0072, 0x0082, "SelectorSVValue", "SV").several(),
    at(0x0072, 0x0083, "SelectorUVValue", "UV").several(),
];

/// What occurs only in items.
pub const NESTED: &[Known] = &[
    at(0x0008, 0x0100, "CodeValue", "SH"),
    at(0x0008, 0x0102, "CodingSchemeDesignator", "SH"),
    at(0x0008, 0x0104, "CodeMeaning", "LO"),
    at(0x0010, 0x0022, "TypeOfPatientID", "CS"),
    at(0x0032, 0x1064, "RequestedProcedureCodeSequence", "SQ"),
    at(0x0040, 0x0007, "ScheduledProcedureStepDescription", "LO"),
    at(0x0040, 0x0009, "ScheduledProcedureStepID", "SH"),
    at(0x0040, 0x1001, "RequestedProcedureID", "SH"),
    at(0x0040, 0xA040, "ValueType", "CS"),
    at(0x0040, 0xA043, "ConceptNameCodeSequence", "SQ"),
    at(0x0040, 0xA121, "Date", "DA"),
    at(0x0040, 0xA122, "Time", "TM"),
    at(0x0040, 0xA123, "PersonName", "PN"),
];

/// Pairs of a date and a time that two ranges read as one range of moments.
pub const PAIRS: &[(Tag, Tag)] = &[
    ((0x0008, 0x0020), (0x0008, 0x0030)),
    ((0x0008, 0x0021), (0x0008, 0x0031)),
    ((0x0008, 0x0022), (0x0008, 0x0032)),
    ((0x0010, 0x0030), (0x0010, 0x0032)),
    ((0x0040, 0x0244), (0x0040, 0x0245)),
];

pub fn by_tag(tag: Tag) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.tag == tag)
}

/// An attribute by keyword or 8 hexadecimal digits.
pub fn named(name: &str) -> Option<&'static Known> {
    let of = |known: &&Known| known.keyword == name || hex(known.tag).eq_ignore_ascii_case(name);
    KNOWN.iter().chain(NESTED).find(of)
}

/// The VR of an attribute that is not private.
pub fn vr(tag: Tag) -> Option<&'static str> {
    KNOWN.iter().chain(NESTED).find(|known| known.tag == tag).map(|known| known.vr)
}

pub fn hex((group, element): Tag) -> String {
    format!("{group:04X}{element:04X}")
}
