//! What is done to instances: options of the profile and the key of the partition.

use super::pseudonym::{PseudonymKey, Pseudonyms};
use crate::dicom::Uid;

/// What becomes of dates and times (PS3.15 §E.3.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dates {
    /// As the Basic Profile has it: gone.
    #[default]
    Remove,
    /// Retain Longitudinal Temporal Information with Full Dates.
    Full,
    /// Retain Longitudinal Temporal Information with Modified Dates: all those of a patient are
    /// moved by the same number of days.
    Modified,
}

/// What becomes of instances whose pixels may say who it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BurntIn {
    /// They are refused.
    #[default]
    Refuse,
    /// They are taken as they are.
    Allow,
}

/// Options of the profile (PS3.15 §E.3); by default none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Retain UIDs (§E.3.9).
    pub retain_uids: bool,
    /// Retain Device Identity (§E.3.8).
    pub retain_device: bool,
    /// Retain Institution Identity (§E.3.11).
    pub retain_institution: bool,
    /// Retain Patient Characteristics (§E.3.7).
    pub retain_patient: bool,
    /// Retain Longitudinal Temporal Information (§E.3.6).
    pub dates: Dates,
    /// Clean Descriptors (§E.3.5).
    pub clean_descriptors: bool,
    /// Clean Structured Content (§E.3.4).
    pub clean_content: bool,
    /// Clean Graphics (§E.3.3).
    pub clean_graphics: bool,
    /// Retain Safe Private (§E.3.10).
    pub retain_safe_private: bool,
    /// In place of Clean Pixel Data (§E.3.1).
    pub burnt_in: BurntIn,
}

impl Options {
    /// What was applied, as CID 7050 names it (PS3.16).
    pub(super) fn methods(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let full = self.dates == Dates::Full;
        let modified = self.dates == Dates::Modified;
        [
            (true, "113100", "Basic Application Confidentiality Profile"),
            (self.clean_graphics, "113103", "Clean Graphics Option"),
            (self.clean_content, "113104", "Clean Structured Content Option"),
            (self.clean_descriptors, "113105", "Clean Descriptors Option"),
            (full, "113106", "Retain Longitudinal Temporal Information Full Dates Option"),
            (modified, "113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
            (self.retain_patient, "113108", "Retain Patient Characteristics Option"),
            (self.retain_device, "113109", "Retain Device Identity Option"),
            (self.retain_uids, "113110", "Retain UIDs Option"),
            (self.retain_safe_private, "113111", "Retain Safe Private Option"),
            (self.retain_institution, "113112", "Retain Institution Identity Option"),
        ]
        .into_iter()
        .filter_map(|(is_applied, value, meaning)| is_applied.then_some((value, meaning)))
    }
}

/// Options and key: the same ones make the same of the same instance.
#[derive(Clone, Debug)]
pub struct Profile {
    pub(super) options: Options,
    pub(super) pseudonyms: Pseudonyms,
}

impl Profile {
    /// What these options do under a key.
    pub fn new(options: Options, key: &PseudonymKey) -> Self {
        Self { options, pseudonyms: Pseudonyms::new(key) }
    }

    /// The options.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// What a UID of an instance, series, study or frame of reference becomes.
    pub fn uid(&self, uid: &Uid) -> Uid {
        if self.options.retain_uids { uid.clone() } else { self.pseudonyms.uid_of(uid) }
    }

    /// Tells this profile from others, in whatever they differ; nothing about the key can be learnt
    /// from it.
    pub fn fingerprint(&self) -> String {
        self.pseudonyms.fingerprint(&format!("{:?}", self.options))
    }
}
