//! Rejection notes of IHE Imaging Object Change Management (IHE RAD TF-3 §4.66): Key Object Selection
//! Documents (PS3.3 §A.35.4) whose title rejects what they refer to.
//!
//! Holds: what is rejected is what the Current Requested Procedure Evidence Sequence (0040,A375) lists,
//! by SOP Instance UID, wherever it is filed by now; a note never rejects itself. Absent: what comes
//! of it (`archive`).

use std::collections::BTreeSet;

use serde::Deserialize;

use super::Uid;

/// Key Object Selection Document Storage (PS3.4 §B.5).
const KEY_OBJECTS: &str = "1.2.840.10008.5.1.4.1.1.88.59";
/// The coding scheme of the titles.
const DCM: &str = "DCM";

/// Why something is rejected: titles of PS3.16 CID 7011.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectionTitle {
    /// (113001, DCM, "Rejected for Quality Reasons").
    Quality,
    /// (113037, DCM, "Rejected for Patient Safety Reasons").
    PatientSafety,
    /// (113038, DCM, "Incorrect Modality Worklist Entry").
    WorklistEntry,
    /// (113039, DCM, "Data Retention Policy Expired").
    RetentionExpired,
}

impl RejectionTitle {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::Quality, Self::PatientSafety, Self::WorklistEntry, Self::RetentionExpired];

    /// Its Code Value.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Quality => "113001",
            Self::PatientSafety => "113037",
            Self::WorklistEntry => "113038",
            Self::RetentionExpired => "113039",
        }
    }
}

/// What a note says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectionNote {
    /// Why.
    pub title: RejectionTitle,
    /// SOP Instance UIDs of what is rejected, ascending, each once; at least one.
    pub rejected: Vec<Uid>,
}

/// An attribute of the DICOM JSON Model; a value that is empty is `null`.
#[derive(Deserialize)]
struct Attribute<T> {
    #[serde(rename = "Value", default = "Vec::new")]
    values: Vec<Option<T>>,
}

impl<T> Attribute<T> {
    fn all(it: Option<Self>) -> impl Iterator<Item = T> {
        it.into_iter().flat_map(|it| it.values).flatten()
    }
}

#[derive(Deserialize)]
struct Document {
    #[serde(rename = "0040A043")]
    title: Option<Attribute<Code>>,
    #[serde(rename = "0040A375")]
    evidence: Option<Attribute<Study>>,
}

#[derive(Deserialize)]
struct Code {
    #[serde(rename = "00080100")]
    value: Option<Attribute<String>>,
    #[serde(rename = "00080102")]
    scheme: Option<Attribute<String>>,
}

#[derive(Deserialize)]
struct Study {
    #[serde(rename = "00081115")]
    series: Option<Attribute<Series>>,
}

#[derive(Deserialize)]
struct Series {
    #[serde(rename = "00081199")]
    instances: Option<Attribute<Instance>>,
}

#[derive(Deserialize)]
struct Instance {
    #[serde(rename = "00081155")]
    uid: Option<Attribute<String>>,
}

impl RejectionNote {
    /// What an instance rejects, if it is a note that does, by its DICOM JSON.
    pub fn of(sop_class: &Uid, instance: &Uid, metadata: &[u8]) -> Option<Self> {
        if sop_class.as_str() != KEY_OBJECTS {
            return None;
        }
        let document: Document = serde_json::from_slice(metadata).ok()?;
        let code = Attribute::all(document.title).next()?;
        let scheme = Attribute::all(code.scheme).next()?;
        let value = Attribute::all(code.value).next()?;
        let titled = |title: &RejectionTitle| scheme.trim() == DCM && value.trim() == title.code();
        let title = RejectionTitle::ALL.into_iter().find(titled)?;
        let series =
            Attribute::all(document.evidence).flat_map(|study| Attribute::all(study.series));
        let instances = series.flat_map(|series| Attribute::all(series.instances));
        let uids = instances.flat_map(|one| Attribute::all(one.uid));
        let rejected: BTreeSet<Uid> =
            uids.filter_map(|uid| uid.parse().ok()).filter(|uid| uid != instance).collect();
        if rejected.is_empty() {
            return None;
        }
        Some(Self { title, rejected: rejected.into_iter().collect() })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn uid(text: &str) -> Uid {
        text.parse().unwrap()
    }

    fn document(code: &str, scheme: &str) -> Value {
        let sop = |uid: Value| json!({ "00081155": { "vr": "UI", "Value": [uid] } });
        let series = |sops: Value| json!({ "00081199": { "vr": "SQ", "Value": sops } });
        json!({
            "0040A043": { "vr": "SQ", "Value": [{
                "00080100": { "vr": "SH", "Value": [code] },
                "00080102": { "vr": "SH", "Value": [scheme] },
            }] },
            "0040A375": { "vr": "SQ", "Value": [
                { "00081115": { "vr": "SQ", "Value": [
                    series(json!([sop(json!("1.2.3")), sop(json!("1.2.1"))])),
                    series(json!([sop(json!("1.2.3")), sop(json!(null)), {}])),
                ] } },
                {},
                { "00081115": { "vr": "SQ", "Value": [
                    series(json!([sop(json!("1.2.9")), sop(json!("no uid"))])),
                ] } },
            ] },
        })
    }

    fn read(document: &Value) -> Option<RejectionNote> {
        let json = document.to_string();
        RejectionNote::of(&uid(KEY_OBJECTS), &uid("1.2.9"), json.as_bytes())
    }

    #[test]
    fn each_title_rejects_what_the_evidence_lists() {
        for title in RejectionTitle::ALL {
            let note = read(&document(title.code(), "DCM")).unwrap();
            assert_eq!(note.title, title);
            assert_eq!(note.rejected, [uid("1.2.1"), uid("1.2.3")]);
        }
    }

    #[test]
    fn other_documents_reject_nothing() {
        let mut empty = document("113001", "DCM");
        empty.as_object_mut().unwrap().remove("0040A375");
        for document in [
            document("113000", "DCM"),
            document("113001", "99LOCAL"),
            document("", "DCM"),
            empty,
            json!({}),
            json!([]),
            json!({ "0040A043": { "vr": "SQ" } }),
            json!({ "0040A043": { "vr": "SQ", "Value": ["no item"] } }),
        ] {
            assert_eq!(read(&document), None, "{document}");
        }
        let image = uid("1.2.840.10008.5.1.4.1.1.2");
        let json = document("113001", "DCM").to_string();
        assert_eq!(RejectionNote::of(&image, &uid("1.2.9"), json.as_bytes()), None);
    }
}
