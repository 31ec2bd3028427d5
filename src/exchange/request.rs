//! What is to be exported, and how.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    archive::Target,
    dicom::{
        Uid,
        deidentify::{Options, Profile},
    },
    exchange::Layout,
    index::{Exported, Exporting},
    tenancy::PartitionId,
};

/// What is to be exported, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportRequest {
    /// Studies, series and instances: their UIDs, joined by slashes.
    pub resources: Vec<String>,
    /// The destination's name.
    pub destination: String,
    /// How files lie there.
    pub layout: Layout,
    /// Whether a File-set has a DICOMDIR.
    pub dicomdir: bool,
    /// What is done to instances; `None`: they are written as they are stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deidentify: Option<Deidentify>,
}

/// What is done to the instances of an export from its beginning to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deidentify {
    /// With these options.
    pub options: Options,
    /// Tells the key under which it was begun: what was made under another one would not fit to it.
    pub key: String,
}

impl Deidentify {
    /// As a profile does it.
    pub fn by(profile: &Profile) -> Self {
        Self { options: *profile.options(), key: profile.key_fingerprint() }
    }
}

impl ExportRequest {
    /// Of what is asked for twice, or lies in what is asked for too, once is enough; in the order of
    /// UIDs, so that what is of one study stands together.
    pub fn new(
        mut resources: Vec<String>,
        destination: String,
        (layout, dicomdir): (Layout, bool),
        deidentify: Option<Deidentify>,
    ) -> Self {
        resources.sort_unstable_by(|a, b| a.split('/').cmp(b.split('/')));
        resources.dedup_by(|next, first| {
            let below = next.strip_prefix(first.as_str());
            below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
        });
        Self { resources, destination, layout, dicomdir, deidentify }
    }

    /// Where everything is before the first step.
    pub fn start(&self, partition: &PartitionId, id: Uuid) -> Exporting {
        let path = folder(partition, id);
        let results = Exported {
            destination: self.destination.clone(),
            error_href: format!("{path}/errors.log"),
            manifest_href: format!("{path}/manifest.ndjson"),
            path,
            ..Exported::default()
        };
        Exporting { results, ..Exporting::default() }
    }
}

/// Where an export lies in its destination.
pub(super) fn folder(partition: &PartitionId, id: Uuid) -> String {
    format!("{partition}/{}", id.simple())
}

fn uids(resource: &str) -> Option<Vec<Uid>> {
    resource.split('/').map(|part| part.parse().ok()).collect()
}

/// Whether a text can be a resource: one to three UIDs, joined by slashes.
pub fn is_resource(text: &str) -> bool {
    target(text).is_some()
}

/// The path of a resource below its partition.
pub fn path_of(resource: &str) -> String {
    let names = ["studies", "series", "instances"];
    let parts = names.iter().zip(resource.split('/'));
    parts.map(|(name, uid)| format!("/{name}/{uid}")).collect()
}

/// What a resource names.
pub(super) fn target(resource: &str) -> Option<Target> {
    let mut uids = uids(resource)?.into_iter();
    Some(match (uids.next()?, uids.next(), uids.next(), uids.next()) {
        (study, None, ..) => Target::Study { study },
        (study, Some(series), None, _) => Target::Series { study, series },
        (study, Some(series), Some(instance), None) => Target::Instance { study, series, instance },
        _ => return None,
    })
}

/// What a resource is called in lists that go with what is written.
pub(super) fn told(resource: &str, profile: Option<&Arc<Profile>>) -> String {
    let Some(profile) = profile else { return resource.to_owned() };
    let uids = uids(resource).unwrap_or_default();
    let called: Vec<Uid> = uids.iter().map(|uid| profile.uid(uid)).collect();
    let called: Vec<&str> = called.iter().map(Uid::as_str).collect();
    called.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::deidentify::PseudonymKey;

    #[test]
    fn what_lies_in_something_else_is_asked_for_once() {
        let resources = ["1.2/3", "1.2.3/1/1", "1.2", "1.10", "1.2/3/4", "1.2.3/1/2", "1.2"];
        let resources = resources.map(str::to_owned).to_vec();
        let how = (Layout::AsIs, false);
        let request = ExportRequest::new(resources, "x".to_owned(), how, None);
        assert_eq!(request.resources, ["1.10", "1.2", "1.2.3/1/1", "1.2.3/1/2"]);
        assert!(is_resource("1.2/3/4") && !is_resource(""));
        assert!(target("1.2/3/4/5").is_none() && target("1.2/x").is_none());
        assert!(matches!(target("1.2/3"), Some(Target::Series { .. })));
    }

    #[test]
    fn what_is_missing_of_a_deidentified_export_is_told_by_pseudonyms() {
        let profile = Arc::new(Profile::new(Options::default(), &PseudonymKey::new([7; 32])));
        assert_eq!(told("1.2.3/4.5", None), "1.2.3/4.5");
        let called = told("1.2.3/4.5", Some(&profile));
        assert_eq!(
            called,
            format!(
                "{}/{}",
                profile.uid(&"1.2.3".parse().unwrap()),
                profile.uid(&"4.5".parse().unwrap())
            )
        );
        assert!(called.starts_with("2.25.") && !called.contains("1.2.3"));
        assert_eq!(told("Doe^John", Some(&profile)), "", "what is no UID is not told at all");
    }
}
