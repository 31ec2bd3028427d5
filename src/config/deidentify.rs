//! `[deidentify]`: what is done to instances that are asked for de-identified.

use super::reader::Reader;
use crate::dicom::deidentify::{BurntIn, Dates};

/// `[deidentify]`: options of the profile (PS3.15 §E.3).
#[derive(Clone, Debug)]
pub struct DeidentifyConfig {
    /// `deidentify.retain_uids`: whether UIDs stay.
    pub retain_uids: bool,
    /// `deidentify.retain_device_identity`: whether it stays which device it was.
    pub retain_device_identity: bool,
    /// `deidentify.retain_institution_identity`: whether it stays where it was.
    pub retain_institution_identity: bool,
    /// `deidentify.retain_patient_characteristics`: whether age, sex, size and the like stay.
    pub retain_patient_characteristics: bool,
    /// `deidentify.dates`: what becomes of dates and times.
    pub dates: Dates,
    /// `deidentify.clean_descriptors`: whether harmless words of descriptions stay.
    pub clean_descriptors: bool,
    /// `deidentify.clean_structured_content`: whether content trees stay, cleaned.
    pub clean_structured_content: bool,
    /// `deidentify.clean_graphics`: whether graphics of annotations stay, without their text.
    pub clean_graphics: bool,
    /// `deidentify.retain_safe_private`: whether private attributes stay that are known to be safe.
    pub retain_safe_private: bool,
    /// `deidentify.burnt_in`: what becomes of instances whose pixels may say who it is.
    pub burnt_in: BurntIn,
}

impl DeidentifyConfig {
    pub(super) fn read(r: &mut Reader) -> Self {
        let dates = [("remove", Dates::Remove), ("keep", Dates::Full), ("shift", Dates::Modified)];
        let burnt_in = [("refuse", BurntIn::Refuse), ("allow", BurntIn::Allow)];
        Self {
            retain_uids: r.flag("deidentify.retain_uids"),
            retain_device_identity: r.flag("deidentify.retain_device_identity"),
            retain_institution_identity: r.flag("deidentify.retain_institution_identity"),
            retain_patient_characteristics: r.flag("deidentify.retain_patient_characteristics"),
            dates: r.choice("deidentify.dates", &dates),
            clean_descriptors: r.flag("deidentify.clean_descriptors"),
            clean_structured_content: r.flag("deidentify.clean_structured_content"),
            clean_graphics: r.flag("deidentify.clean_graphics"),
            retain_safe_private: r.flag("deidentify.retain_safe_private"),
            burnt_in: r.choice("deidentify.burnt_in", &burnt_in),
        }
    }
}
