//! `[deidentify]`: what is done to instances that are asked for de-identified.

use super::reader::Reader;
use crate::dicom::deidentify::{BurntIn, Dates, NoOption, Options};

/// `[deidentify]`: options of the profile (PS3.15 §E.3).
#[derive(Clone, Debug)]
pub struct DeidentifyConfig {
    /// The other keys: what is done unless a request says otherwise, where it can.
    pub options: Options,
    /// `deidentify.on_request`: these, and what requests may ask for besides.
    pub on_request: Options,
}

impl DeidentifyConfig {
    pub(super) fn read(r: &mut Reader) -> Self {
        let options = Options {
            retain_uids: r.flag("deidentify.retain_uids"),
            retain_device_identity: r.flag("deidentify.retain_device_identity"),
            retain_institution_identity: r.flag("deidentify.retain_institution_identity"),
            retain_patient_characteristics: r.flag("deidentify.retain_patient_characteristics"),
            dates: r.choice("deidentify.dates", &Dates::NAMED),
            clean_descriptors: r.flag("deidentify.clean_descriptors"),
            clean_structured_content: r.flag("deidentify.clean_structured_content"),
            clean_graphics: r.flag("deidentify.clean_graphics"),
            retain_safe_private: r.flag("deidentify.retain_safe_private"),
            burnt_in: r.choice("deidentify.burnt_in", &BurntIn::NAMED),
        };
        let mut most = options;
        for asked in r.list("deidentify.on_request") {
            let (name, value) = asked.split_once('=').unwrap_or((&asked, "true"));
            let mut one = Options::default();
            let is_known = match one.set(name, value) {
                Ok(()) => one != Options::default(),
                Err(NoOption::Name | NoOption::Value(_)) => false,
            };
            if !is_known {
                let expected = "names of options that let more stay, as \"clean_descriptors\", \
                                \"dates=shift\", \"burnt_in=allow\"";
                r.refuse("deidentify.on_request", expected);
                break;
            }
            // What lets less stay than the configuration is nothing to be allowed.
            let mut with = most;
            if with.set(name, value).is_ok() && most.beyond(with).is_none() {
                most = with;
            }
        }
        Self { options, on_request: most }
    }
}
