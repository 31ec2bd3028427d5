//! The parameters that routes read, as they are published.
//!
//! Holds: what stands here is what the services read; the tests of the conformance statement
//! compare its table with these lists. Absent: the parameters of paths, which the templates name.

use super::{charset, operation::Parameter};
use crate::{
    dicom::{
        attributes::{self, Level, Matching},
        non_patient::Category,
    },
    query::PARTITION_ID,
};

/// The name that stands for those of all attributes that can be matched.
pub const ATTRIBUTE: &str = "{attribute}";

/// The name that stands for those of all attributes of workitems.
pub const WORKITEM_ATTRIBUTE: &str = "{workitem attribute}";

/// What PS3.4 Table CC.2.5-3 demands as keys of workitems.
const WORKITEM_KEYS: [&str; 33] = [
    "SOPInstanceUID",
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "AdmissionID",
    "IssuerOfAdmissionIDSequence.LocalNamespaceEntityID",
    "IssuerOfAdmissionIDSequence.UniversalEntityID",
    "IssuerOfAdmissionIDSequence.UniversalEntityIDType",
    "ScheduledProcedureStepStartDateTime",
    "ExpectedCompletionDateTime",
    "ScheduledWorkitemCodeSequence.CodeValue",
    "ScheduledWorkitemCodeSequence.CodingSchemeDesignator",
    "ScheduledStationNameCodeSequence.CodeValue",
    "ScheduledStationNameCodeSequence.CodingSchemeDesignator",
    "ScheduledStationClassCodeSequence.CodeValue",
    "ScheduledStationClassCodeSequence.CodingSchemeDesignator",
    "ScheduledStationGeographicLocationCodeSequence.CodeValue",
    "ScheduledStationGeographicLocationCodeSequence.CodingSchemeDesignator",
    "ScheduledHumanPerformersSequence.HumanPerformerCodeSequence.CodeValue",
    "InputReadinessState",
    "ReferencedRequestSequence.AccessionNumber",
    "ReferencedRequestSequence.IssuerOfAccessionNumberSequence.LocalNamespaceEntityID",
    "ReferencedRequestSequence.IssuerOfAccessionNumberSequence.UniversalEntityID",
    "ReferencedRequestSequence.IssuerOfAccessionNumberSequence.UniversalEntityIDType",
    "ReferencedRequestSequence.RequestedProcedureID",
    "ReferencedRequestSequence.RequestingService",
    "ReplacedProcedureStepSequence.ReferencedSOPInstanceUID",
    "ProcedureStepState",
    "ScheduledProcedureStepPriority",
    "WorklistLabel",
    "ProcedureStepLabel",
];

/// A parameter for each of these.
pub fn matching_workitems() -> impl Iterator<Item = Parameter> {
    WORKITEM_KEYS.into_iter().map(|key| Parameter::query(key, "A value to match."))
}

/// Matched through what is in the study, or where it lies, not by a value of its own.
const COMPUTED: [&str; 3] = ["ModalitiesInStudy", "SOPClassesInStudy", "InstanceAvailability"];

/// A parameter for each attribute that a search at this path matches: those of the level of its
/// results and above.
pub fn matching(path: &str) -> Vec<Parameter> {
    if let Some(category) = path.rsplit('/').next().and_then(Category::named) {
        let keywords = category.keywords().into_iter();
        return keywords.map(|keyword| Parameter::query(keyword, "A value to match.")).collect();
    }
    let deepest = match path.rsplit('/').next() {
        Some("instances") => Level::Instance,
        Some("series") => Level::Series,
        _ => Level::Study,
    };
    let own = attributes::TABLE.iter().filter(|attribute| Matching::of(attribute.vr).is_some());
    own.filter(|attribute| attribute.level <= deepest)
        .map(|attribute| attribute.keyword)
        .chain(COMPUTED)
        .map(|keyword| Parameter::query(keyword, "A value to match."))
        .collect()
}

/// Which partition: of every route in a partition.
pub const PARTITION: &[Parameter] = &[
    Parameter::query(PARTITION_ID, "The partition; for a search also several, by commas."),
    Parameter::header(PARTITION_ID, "The partition."),
];

/// What the answer may be (PS3.18 §8.3.3, §8.7.5).
pub const ACCEPT: &[Parameter] = &[
    Parameter::header("Accept", "Media types that the answer may have, with weights.").or("*/*"),
    Parameter::query("accept", "The same for links; goes before the header, no wildcards.")
        .repeating(),
];

/// Characters of text (PS3.18 §8.8).
pub const CHARSET: &[Parameter] = &[
    Parameter::header("Accept-Charset", "Character sets that the answer may have.")
        .or("UTF-8")
        .of(&charset::NAMES),
    Parameter::query("charset", "The same for links; goes before the header.")
        .or("UTF-8")
        .of(&charset::NAMES),
];

/// Whether instances are de-identified.
pub const ANONYMIZE: &[Parameter] =
    &[Parameter::query("anonymize", "Whether application/dicom is de-identified.").of(&["yes"])];

/// Conditional requests (RFC 9110 §13).
pub const CONDITIONAL: &[Parameter] =
    &[Parameter::header("If-None-Match", "Entity tags that the client has: 304 for one of them.")];

/// Of what may have been changed here.
pub const ORIGINAL: &[Parameter] = &[Parameter::header(
    "msdicom-request-original",
    "With `true` instances as they were stored, before attributes of them were changed here.",
)];

/// Byte ranges (RFC 9110 §14).
pub const RANGES: &[Parameter] = &[
    Parameter::header("Range", "One range of the answer's bytes."),
    Parameter::header("If-Range", "The entity tag for which the range is meant."),
];

/// How pictures are drawn (PS3.18 §8.3.5.1).
pub const VIEW: &[Parameter] = &[
    Parameter::query("viewport", "Width and height to fit the picture into, and a region."),
    Parameter::query("window", "center,width,function; function is linear, linear-exact, sigmoid."),
    Parameter::query("quality", "Of lossy pictures, 1 to 100.").or("90"),
    Parameter::query("annotation", "What to burn in, by commas.").of(&["patient", "technique"]),
    Parameter::query("iccprofile", "Colour space of the picture, and the profile in it.")
        .or("no")
        .of(&["no", "yes", "srgb", "adobergb", "rommrgb"]),
];

/// How a thumbnail is drawn (PS3.18 §8.3.5.2).
pub const THUMBNAIL: &[Parameter] =
    &[Parameter::query("viewport", "Width and height to fit the picture into.").or("128,128")];

/// The UID of a workitem that is created (PS3.18 §11.4.1.1).
pub const WORKITEM: &[Parameter] = &[
    Parameter::query("workitem", "Its UID; a query that is nothing but a UID is one too."),
    Parameter::query("AffectedSOPInstanceUID", "The same, as it was called before."),
];

/// Who has claimed a workitem (PS3.18 §11.6.1.2).
pub const TRANSACTION: &[Parameter] = &[
    Parameter::query(
        "transaction-uid",
        "The Transaction UID with which it was claimed; a query that is nothing but a UID is one \
         too.",
    ),
    Parameter::query("transaction", "The same."),
];

/// Subscriptions to workitems (PS3.18 §11.10.1.2).
pub const SUBSCRIPTION: &[Parameter] = &[
    Parameter::query("deletionlock", "Whether workitems are to stay when they have ended.")
        .or("false")
        .of(&["true", "false"]),
    Parameter::query(
        "filter",
        "Of the Filtered Worklist: attributes of workitems with their values, by commas.",
    ),
];

/// Search for workitems (PS3.18 §11.9.1.2).
pub const WORKLIST: &[Parameter] = &[
    Parameter::query(
        WORKITEM_ATTRIBUTE,
        "A value to match, by keyword, eight hexadecimal digits, or a path of them with dots.",
    ),
    MATCHING[1],
    MATCHING[2],
    MATCHING[3],
    MATCHING[4],
    MATCHING[5],
    MATCHING[6],
];

/// What WADO-URI is asked (PS3.18 §9.1.2, §9.4.1.2, §9.5.1.2).
pub const WADO_URI: &[Parameter] = &[
    Parameter::query("requestType", "Has to be there.").of(&["WADO"]),
    Parameter::query("studyUID", "Study Instance UID. Has to be there."),
    Parameter::query("seriesUID", "Series Instance UID. Has to be there."),
    Parameter::query("objectUID", "SOP Instance UID. Has to be there."),
    Parameter::query("contentType", "Media types that the answer may have, by commas."),
    Parameter::query("transferSyntax", "Of application/dicom.").or("1.2.840.10008.1.2.1"),
    Parameter::query("frameNumber", "The frame to show, from 1."),
    Parameter::query("rows", "Most rows of the picture."),
    Parameter::query("columns", "Most columns of the picture."),
    Parameter::query("region", "xmin,ymin,xmax,ymax, as parts of the whole."),
    Parameter::query("windowCenter", "Together with windowWidth."),
    Parameter::query("windowWidth", "Together with windowCenter."),
    Parameter::query("imageQuality", "Of lossy pictures, 1 to 100.").or("90"),
    Parameter::query("annotation", "What to burn in, by commas.").of(&["patient", "technique"]),
    Parameter::query("imageAnnotation", "The same.").of(&["patient", "technique"]),
    Parameter::query("presentationSeriesUID", "Together with presentationUID."),
    Parameter::query("presentationUID", "The presentation state to show the image by."),
    Parameter::query("anonymize", "Whether application/dicom is de-identified.").of(&["yes"]),
];

/// Lists of extended query tags, their errors, operations, webhooks and dead letters, and of who may
/// do what.
pub const PAGES: &[Parameter] = &[
    Parameter::query("limit", "Most entries to return, up to 200.").or("100"),
    Parameter::query("offset", "Entries to leave out at the start.").or("0"),
];

/// Which principals.
pub const PRINCIPALS: &[Parameter] = &[
    Parameter::query("kind", "What they are.").of(&["user", "service", "certificate"]),
    Parameter::query("issuer", "Who vouches for them."),
    Parameter::query("subject", "Who they are there."),
    Parameter::query("state", "Whether they are let in.").of(&["active", "suspended"]),
];

/// Whether somebody may lock himself, or everybody, out.
pub const FORCE: &[Parameter] = &[Parameter::query("force", "Whether somebody may be locked out.")
    .or("false")
    .of(&["true", "false"])];

/// For how long a secret that is replaced is good.
pub const OVERLAP: &[Parameter] =
    &[Parameter::query("overlap", "How long the secret before is good as well, up to `30days`.")
        .or("24h")];

/// Which operations.
pub const OPERATIONS: &[Parameter] = &[
    Parameter::query("kind", "What they do.")
        .of(&["reindex", "purge", "compact", "erase", "update", "import", "export"]),
    Parameter::query("status", "How far they are.").of(&[
        "notStarted",
        "running",
        "succeeded",
        "failed",
        "canceled",
    ]),
];

/// How something is deleted.
pub const DELETE: &[Parameter] =
    &[Parameter::query("erase", "Whether it is gone for good at once; 202 and an operation then.")
        .or("false")
        .of(&["true", "false"])];

/// Whether links end at once.
pub const ROTATE: &[Parameter] =
    &[Parameter::query("now", "Whether links that were made before end at once.")
        .or("false")
        .of(&["true", "false"])];

/// Whether changes come with metadata.
pub const CHANGE: &[Parameter] =
    &[Parameter::query("includeMetadata", "Whether events come with metadata.")
        .or("true")
        .of(&["true", "false"])];

/// The change feed.
pub const CHANGES: &[Parameter] = &[
    Parameter::query(
        "offset",
        "The last sequence that the client has seen; with times, events to leave out at the start.",
    )
    .or("0"),
    Parameter::query("limit", "Most events to return, up to 200 (`/v1`: 10, up to 100).").or("100"),
    Parameter::query("startTime", "The first moment of a span, with its time zone."),
    Parameter::query("endTime", "The first moment behind it, with its time zone."),
    Parameter::query("wait", "How long to wait for events where there are none, such as `30s`.")
        .or("0s"),
    Parameter::header("Last-Event-ID", "Of text/event-stream: goes before the offset."),
];

/// The audit log.
pub const AUDIT: &[Parameter] = &[
    Parameter::query("principal", "Who did it: a subject, as its issuer has it."),
    Parameter::query("issuer", "Who vouches for the principal."),
    Parameter::query("action", "What was done: a permission by its name."),
    Parameter::query("outcome", "How it ended.").of(&["success", "refused", "failed"]),
    Parameter::query("study", "Study Instance UID that it was about."),
    Parameter::query("request", "The id of the request."),
    Parameter::query("since", "The first moment of a span, with its time zone."),
    Parameter::query("until", "The first moment behind it, with its time zone."),
    Parameter::query("limit", "Most events to return, up to 1000.").or("100"),
    Parameter::query("after", "Where a page goes on: as in the link of the page before."),
];

/// Search (PS3.18 §8.3.4).
pub const MATCHING: &[Parameter] = &[
    Parameter::query(
        ATTRIBUTE,
        "A value to match, by keyword, eight hexadecimal digits, or a path of them with dots.",
    ),
    Parameter::query(
        "includefield",
        "Attributes to return, by keyword, tag or path, by commas, or `all`.",
    )
    .repeating(),
    Parameter::query("limit", "Most results to return."),
    Parameter::query("offset", "Results to leave out at the start.").or("0"),
    Parameter::query("fuzzymatching", "Names by beginnings and sounds of their words.")
        .or("false")
        .of(&["true", "false"]),
    Parameter::query("emptyvaluematching", "The value \"\" matches what is empty or absent.")
        .or("false")
        .of(&["true", "false"]),
    Parameter::query("multiplevaluematching", "Of values by backslashes each has to be there.")
        .or("false")
        .of(&["true", "false"]),
];

/// Search by extended query tags.
pub const TAGS: &[Parameter] =
    &[Parameter::query("incompletetags", "Extended query tags are used while they are indexed.")
        .or("false")
        .of(&["true", "false"])];
