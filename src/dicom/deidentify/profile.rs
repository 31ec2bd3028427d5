//! What is done to instances: options of the profile and the key of the partition.

use serde::{Deserialize, Serialize};

use super::pseudonym::{PseudonymKey, Pseudonyms};
use crate::dicom::Uid;

/// What becomes of dates and times (PS3.15 §E.3.6), by how little stays.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Dates {
    /// As the Basic Profile has it: gone.
    #[default]
    Remove,
    /// Retain Longitudinal Temporal Information with Modified Dates: all those of a patient are
    /// moved by the same number of days.
    Modified,
    /// Retain Longitudinal Temporal Information with Full Dates.
    Full,
}

/// What becomes of instances whose pixels may say who it is, by how little is given.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum BurntIn {
    /// They are refused.
    #[default]
    Refuse,
    /// They are taken as they are.
    Allow,
}

impl Dates {
    /// All of them, by their names in configuration and requests.
    pub const NAMED: [(&str, Self); 3] =
        [("remove", Self::Remove), ("shift", Self::Modified), ("keep", Self::Full)];
}

impl BurntIn {
    /// Both, by their names in configuration and requests.
    pub const NAMED: [(&str, Self); 2] = [("refuse", Self::Refuse), ("allow", Self::Allow)];
}

/// Options of the profile (PS3.15 §E.3); by default none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// Retain UIDs (§E.3.9).
    pub retain_uids: bool,
    /// Retain Device Identity (§E.3.8).
    pub retain_device_identity: bool,
    /// Retain Institution Identity (§E.3.11).
    pub retain_institution_identity: bool,
    /// Retain Patient Characteristics (§E.3.7).
    pub retain_patient_characteristics: bool,
    /// Retain Longitudinal Temporal Information (§E.3.6).
    pub dates: Dates,
    /// Clean Descriptors (§E.3.5).
    pub clean_descriptors: bool,
    /// Clean Structured Content (§E.3.4).
    pub clean_structured_content: bool,
    /// Clean Graphics (§E.3.3).
    pub clean_graphics: bool,
    /// Retain Safe Private (§E.3.10).
    pub retain_safe_private: bool,
    /// In place of Clean Pixel Data (§E.3.1).
    pub burnt_in: BurntIn,
}

/// An option that is on or off.
type Flag = fn(&mut Options) -> &mut bool;

/// Those that are on or off, by their names in configuration.
const FLAGS: [(&str, Flag); 8] = [
    ("retain_uids", |options| &mut options.retain_uids),
    ("retain_device_identity", |options| &mut options.retain_device_identity),
    ("retain_institution_identity", |options| &mut options.retain_institution_identity),
    ("retain_patient_characteristics", |options| &mut options.retain_patient_characteristics),
    ("clean_descriptors", |options| &mut options.clean_descriptors),
    ("clean_structured_content", |options| &mut options.clean_structured_content),
    ("clean_graphics", |options| &mut options.clean_graphics),
    ("retain_safe_private", |options| &mut options.retain_safe_private),
];

/// A name or a value that no option has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoOption {
    /// There is none of this name.
    Name,
    /// It cannot have this value, but these.
    Value(&'static str),
}

impl Options {
    /// Sets an option by its name in configuration. (In requests names have no underscores: these
    /// are passed over.)
    ///
    /// # Errors
    /// [`NoOption`].
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), NoOption> {
        fn of<T: Copy>(named: &[(&str, T)], value: &str) -> Option<T> {
            named.iter().find(|(name, _)| *name == value).map(|(_, it)| *it)
        }
        let is = |known: &str| {
            let plain = |name: &str| name.bytes().filter(|b| *b != b'_').collect::<Vec<u8>>();
            plain(known) == plain(name)
        };
        if is("dates") {
            let dates = of(&Dates::NAMED, value);
            self.dates = dates.ok_or(NoOption::Value("\"remove\", \"shift\" or \"keep\""))?;
        } else if is("burnt_in") {
            let burnt_in = of(&BurntIn::NAMED, value);
            self.burnt_in = burnt_in.ok_or(NoOption::Value("\"refuse\" or \"allow\""))?;
        } else {
            let (_, flag) = FLAGS.iter().find(|(known, _)| is(known)).ok_or(NoOption::Name)?;
            let is_on = value.parse().map_err(|_| NoOption::Value("true or false"))?;
            *flag(self) = is_on;
        }
        Ok(())
    }

    /// The first option by which more stays than with `most`, by its name in configuration; `None`:
    /// there is none.
    pub fn beyond(mut self, mut most: Self) -> Option<&'static str> {
        if self.dates > most.dates {
            return Some("dates");
        }
        if self.burnt_in > most.burnt_in {
            return Some("burnt_in");
        }
        let more = FLAGS.iter().find(|(_, flag)| *flag(&mut self) && !*flag(&mut most));
        more.map(|(name, _)| *name)
    }

    /// What was applied, as CID 7050 names it (PS3.16).
    pub(super) fn methods(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let full = self.dates == Dates::Full;
        let modified = self.dates == Dates::Modified;
        [
            (true, "113100", "Basic Application Confidentiality Profile"),
            (self.clean_graphics, "113103", "Clean Graphics Option"),
            (self.clean_structured_content, "113104", "Clean Structured Content Option"),
            (self.clean_descriptors, "113105", "Clean Descriptors Option"),
            (full, "113106", "Retain Longitudinal Temporal Information Full Dates Option"),
            (modified, "113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
            (
                self.retain_patient_characteristics,
                "113108",
                "Retain Patient Characteristics Option",
            ),
            (self.retain_device_identity, "113109", "Retain Device Identity Option"),
            (self.retain_uids, "113110", "Retain UIDs Option"),
            (self.retain_safe_private, "113111", "Retain Safe Private Option"),
            (self.retain_institution_identity, "113112", "Retain Institution Identity Option"),
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

    /// Tells the key from others; nothing about it can be learnt from that.
    pub fn key_fingerprint(&self) -> String {
        self.pseudonyms.fingerprint("key")
    }

    /// Tells this profile from others, in whatever they differ; nothing about the key can be learnt
    /// from it.
    pub fn fingerprint(&self) -> String {
        self.pseudonyms.fingerprint(&format!("{:?}", self.options))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_set_by_name_and_held_against_the_most_that_may_stay() {
        let mut options = Options::default();
        for (name, value) in
            [("retain_uids", "true"), ("cleandescriptors", "true"), ("dates", "shift")]
        {
            options.set(name, value).unwrap();
        }
        options.set("burntin", "allow").unwrap();
        let (dates, burnt_in) = (Dates::Modified, BurntIn::Allow);
        let set = Options {
            retain_uids: true,
            clean_descriptors: true,
            dates,
            burnt_in,
            ..Options::default()
        };
        assert_eq!(options, set);
        assert_eq!(options.set("retain_all", "true"), Err(NoOption::Name));
        assert_eq!(options.set("", "true"), Err(NoOption::Name));
        for (name, value) in [("retain_uids", "yes"), ("dates", "true"), ("burnt_in", "")] {
            assert!(matches!(options.set(name, value), Err(NoOption::Value(_))), "{name}");
        }
        assert_eq!(options, set, "what is wrong changes nothing");
        assert_eq!(options.beyond(options), None);
        assert_eq!(Options::default().beyond(options), None);
        let most = Options { dates: Dates::Full, ..options };
        assert_eq!(options.beyond(most), None);
        assert_eq!(most.beyond(options), Some("dates"));
        assert_eq!(options.beyond(Options { retain_uids: false, ..options }), Some("retain_uids"));
        assert_eq!(
            options.beyond(Options { burnt_in: BurntIn::Refuse, ..options }),
            Some("burnt_in")
        );
    }
}
