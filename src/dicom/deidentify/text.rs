//! Cleaning of text by what may stay (PS3.15 §E.3.5): words of a vocabulary, and small numbers.
//!
//! No list of names can be complete, so that everything goes that is not known to be harmless: what
//! is left of "CT Thorax J. Smith" is "CT Thorax". Holds: no word that occurs in a name or identifier
//! of the same instance stays, be it in the vocabulary.

use std::collections::BTreeSet;

use crate::dicom::charset::{Charset, Text};

/// Most words of an instance's names that are remembered.
const MOST: usize = 512;

/// Words that must not stay.
#[derive(Debug, Default)]
pub(super) struct Telling(BTreeSet<String>);

impl Telling {
    /// Remembers the words of a name or identifier.
    pub(super) fn add(&mut self, value: &[u8]) {
        for word in value.split(|byte| !byte.is_ascii_alphanumeric()) {
            if word.len() > 1 && self.0.len() < MOST {
                self.0.insert(String::from_utf8_lossy(word).to_ascii_uppercase());
            }
        }
    }
}

/// Whether a value has, or may have, a word that occurs in a name or identifier and means nothing else.
/// Words of these are known as far as they are ASCII, so that another value may have one.
pub(super) fn tells(charset: &Charset, value: &[u8], telling: &Telling) -> bool {
    const ESCAPE: u8 = 0x1B;
    if !value.is_ascii() || value.contains(&ESCAPE) {
        return true;
    }
    let text = charset.decode(value, Text::Plain);
    let mut words = text.split(|c: char| !c.is_alphanumeric());
    words.any(|word| {
        let word = word.to_ascii_uppercase();
        telling.0.contains(&word) && VOCABULARY.binary_search(&&*word).is_err()
    })
}

/// The harmless words of a value, with single spaces between them, values with backslashes.
pub(super) fn cleaned(charset: &Charset, value: &[u8], telling: &Telling) -> String {
    let clean = |value| {
        let text = charset.decode(value, Text::Plain);
        let words: Vec<&str> = text.split(is_between).filter(|word| !word.is_empty()).collect();
        let is_number = |word: &str| word.starts_with(|c: char| c.is_numeric());
        let mut kept = Vec::new();
        for (at, word) in words.iter().enumerate() {
            // Numbers beside each other may be a date or telephone number.
            let beside = [at.wrapping_sub(1), at + 1].into_iter().filter_map(|at| words.get(at));
            let among_numbers = is_number(word) && beside.into_iter().any(|word| is_number(word));
            let parts: Vec<&str> = word.split(['/', '-', ':']).collect();
            if !among_numbers && parts.iter().filter(|part| is_number(part)).count() < 2 {
                let parts = parts.iter().map(|part| part.trim_matches(['.', '\'']));
                kept.extend(parts.filter(|part| stays(part, telling)));
            }
        }
        kept.join(" ")
    };
    let values: Vec<String> = charset.values(value).map(clean).collect();
    if values.iter().all(String::is_empty) { String::new() } else { values.join("\\") }
}

fn is_between(c: char) -> bool {
    !(c.is_alphanumeric() || matches!(c, '.' | '\'' | '/' | '-' | ':'))
}

fn stays(word: &str, telling: &Telling) -> bool {
    let word = word.to_ascii_uppercase();
    !telling.0.contains(&word) && (is_small(&word) || VOCABULARY.binary_search(&&*word).is_ok())
}

/// Up to two digits, and up to two more behind a point; a unit may follow.
fn is_small(word: &str) -> bool {
    const UNITS: [&str; 12] =
        ["", "CM", "CC", "D", "HZ", "KV", "MG", "ML", "MM", "MIN", "SEC", "T"];
    let number = word.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.len() <= 2 && text.bytes().all(|b| b.is_ascii_digit());
    let unit = word.get(number.len()..).unwrap_or_default();
    !whole.is_empty() && digits(whole) && digits(fraction) && UNITS.contains(&unit)
}

#[rustfmt::skip]
static VOCABULARY: &[&str] = &[
    "2D", "3D", "4D", "ABD", "ABDOMEN", "ABDOMINAL", "ACQUISITION", "ADC", "ADRENAL", "ADULT",
    "AFTER", "AIRWAY", "ANATOMY", "AND", "ANGIO", "ANGIOGRAPHY", "ANKLE", "ANTERIOR", "AORTA",
    "AORTIC", "AP", "APPENDIX", "ARM", "ARMS", "ARTERIAL", "ARTERY", "ARTHRO", "ARTHROGRAPHY", "AT",
    "ATTENUATION", "AV", "AVERAGE", "AX", "AXIAL", "AXIS", "B0", "BACK", "BASE", "BASELINE",
    "BEFORE", "BIOPSY", "BLADDER", "BLOOD", "BODY", "BOLD", "BOLUS", "BONE", "BOTH", "BOWEL",
    "BRAIN", "BREAST", "BREATH", "BREATHHOLD", "BRONCHUS", "BY", "CALCANEUS", "CALCIUM",
    "CALIBRATION", "CARDIAC", "CAROTID", "CAROTIDS", "CAVUM", "CC", "CERVICAL", "CHEST",
    "CIRCULATION", "CLAVICLE", "CM", "COCCYX", "COLLAR", "COLON", "COMBINED", "CON", "CONE",
    "CONTRAST", "COR", "CORONAL", "CORONARIES", "CORONARY", "CORRECTED", "COUNT", "CR", "CRANIAL",
    "CRANIUM", "CT", "CTA", "CTAC", "CTV", "CUBE", "CV", "CYST", "DELAY", "DELAYED", "DENTAL",
    "DERIVED", "DETECTOR", "DIAGNOSTIC", "DIAPHRAGM", "DIASTOLE", "DIFFUSION", "DISC", "DISTAL",
    "DOSE", "DOUBLE", "DR", "DUAL", "DURING", "DWI", "DX", "DYN", "DYNAMIC", "EARLY", "ECG", "ECHO",
    "ELBOW", "EMBOLISM", "EMERGENCY", "ENHANCED", "ENTEROGRAPHY", "EPI", "EQUILIBRIUM", "ESOPHAGUS",
    "EXAM", "EXAMINATION", "EXPIRATION", "EXTENSION", "EXTREMITY", "EYE", "FACE", "FACIAL", "FAST",
    "FAT", "FBP", "FDG", "FEMORAL", "FEMUR", "FIBULA", "FIELD", "FIESTA", "FILTER", "FINE",
    "FINGER", "FLAIR", "FLASH", "FLEXION", "FLOW", "FLUORO", "FMRI", "FOOT", "FOR", "FOREARM",
    "FOV", "FRACTURE", "FRAME", "FROM", "FRONTAL", "FS", "FSE", "FSPGR", "FULL", "FUNCTIONAL",
    "FUSED", "FUSION", "GATED", "GENITAL", "GRADIENT", "GRE", "GTV", "HAND", "HANDS", "HD", "HEAD",
    "HEART", "HEEL", "HELICAL", "HEPATIC", "HEPATOBILIARY", "HIGH", "HIP", "HIPS", "HR", "HRCT",
    "HUMERUS", "IAC", "IDEAL", "ILIAC", "IMAGE", "IMAGES", "IMPLANT", "IN", "INFANT", "INFERIOR",
    "INJECTION", "INNER", "INSPIRATION", "INTERNAL", "INV", "INVERSION", "IR", "IV", "JAW", "JOINT",
    "KIDNEY", "KIDNEYS", "KNEE", "KNEES", "KUB", "KV", "LARYNX", "LAT", "LATE", "LATERAL", "LAVA",
    "LEFT", "LEG", "LEGS", "LESION", "LIMB", "LIMITED", "LIVER", "LOC", "LOCALISER", "LOCALIZER",
    "LOW", "LOWER", "LS", "LUMBAR", "LUNG", "LUNGS", "LV", "MAMMOGRAM", "MAMMOGRAPHY", "MANDIBLE",
    "MAP", "MASK", "MAXILLA", "MEAN", "MEDIAL", "MEDIASTINUM", "MEDIUM", "MG", "MID", "MINIP",
    "MIP", "ML", "MM", "MONITORING", "MOTION", "MPR", "MPRAGE", "MR", "MRA", "MRCP", "MRI", "MRV",
    "MULTI", "MULTIPHASE", "MUSCLE", "NASAL", "NATIVE", "NECK", "NM", "NO", "NON", "NONE", "NORMAL",
    "NUCLEAR", "O", "OBL", "OBLIQUE", "OF", "OFF", "ON", "OPEN", "OPPOSED", "OPTIC", "ORAL",
    "ORBIT", "ORBITS", "OUT", "OVERVIEW", "PA", "PANCREAS", "PANORAMIC", "PARAMETER", "PARENCHYMA",
    "PASSIVE", "PATELLA", "PC", "PD", "PE", "PEDIATRIC", "PEDIATRICS", "PELVIC", "PELVIS",
    "PERFUSION", "PERIPHERAL", "PET", "PHANTOM", "PHASE", "PITUITARY", "PLAIN", "PLANNING",
    "PORTABLE", "PORTAL", "POST", "POSTERIOR", "PRE", "PREMONITORING", "PRONE", "PROPELLER",
    "PROSTATE", "PROTOCOL", "PROXIMAL", "PTV", "PULMONARY", "PULSE", "QA", "RAPID", "RECON",
    "RECONSTRUCTION", "RECTUM", "REFORMAT", "REFORMATTED", "RENAL", "RESPIRATORY", "REST", "RF",
    "RIB", "RIBS", "RIGHT", "ROTATION", "ROUTINE", "RT", "RV", "SACRUM", "SAG", "SAGITTAL", "SCAN",
    "SCAPULA", "SCOUT", "SCREENING", "SE", "SEC", "SEGMENTATION", "SEQUENCE", "SERIES", "SETUP",
    "SHARP", "SHORT", "SHOULDER", "SIDE", "SINGLE", "SINUS", "SINUSES", "SKULL", "SLICE", "SLICES",
    "SMALL", "SMOOTH", "SOFT", "SPECT", "SPECTROSCOPY", "SPGR", "SPHENOID", "SPIN", "SPINAL",
    "SPINE", "SPIRAL", "SPLEEN", "SPOT", "SSFSE", "STANDARD", "STANDING", "STATIC", "STEREO",
    "STERNUM", "STIR", "STOMACH", "STRESS", "STRUCTURE", "STUDY", "SUBTRACTION", "SUPERIOR",
    "SUPINE", "SURVEY", "SWI", "SYSTOLE", "T1", "T1W", "T2", "T2W", "TARGET", "TECHNIQUE",
    "TEMPORAL", "TEST", "TFE", "THE", "THICK", "THIGH", "THIN", "THIRD", "THORACIC", "THORAX",
    "THREE", "THROAT", "THUMB", "THYROID", "TIBIA", "TIME", "TISSUE", "TMJ", "TO", "TOE", "TOF",
    "TOMO", "TOMOSYNTHESIS", "TOPOGRAM", "TOTAL", "TRACE", "TRACKER", "TRACT", "TRAUMA",
    "TREATMENT", "TSE", "TUMOR", "TUMOUR", "TURBO", "TWO", "ULNA", "ULTRASOUND", "UNENHANCED",
    "UPPER", "UPRIGHT", "URETER", "URINARY", "UROGRAPHY", "US", "UTERUS", "VASCULAR", "VEIN",
    "VENOUS", "VENTRICLE", "VERTEBRA", "VESSEL", "VIBE", "VIEW", "VIEWS", "VISIT", "VOLUME", "VR",
    "W", "WATER", "WEIGHTED", "WHOLE", "WIDE", "WINDOW", "WITH", "WITHOUT", "WO", "WRIST", "XA",
    "YEAR", "ZOOM",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(text: &str, telling: &[&str]) -> String {
        let mut words = Telling::default();
        telling.iter().for_each(|value| words.add(value.as_bytes()));
        cleaned(&Charset::from_value(b"ISO_IR 192").0, text.as_bytes(), &words)
    }

    #[test]
    fn what_is_not_ascii_may_tell() {
        let mut telling = Telling::default();
        telling.add("MÜLLER".as_bytes());
        telling.add(b"Chest");
        let tells = |value: &[u8]| tells(&Charset::from_value(b"ISO_IR 192").0, value, &telling);
        assert!(!tells(b"ROUTINE CHEST"), "a word of the vocabulary means something else");
        assert!(!tells(b"SCANNER-7"));
        assert!(tells("Müller 7".as_bytes()));
        assert!(tells(b"\x1b$B;3ED\x1b(B"), "another repertoire of ISO 2022");
    }

    #[test]
    fn the_vocabulary_is_in_order() {
        assert!(VOCABULARY.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(
            VOCABULARY
                .iter()
                .all(|word| word.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit()))
        );
    }

    #[test]
    fn harmless_words_stay() {
        for (text, expected) in [
            ("CT Thorax  J. Smith", "CT Thorax"),
            ("Thorax 1.25 mm B30f", "Thorax 1.25 mm"),
            ("AX T2 FLAIR 5mm", "AX T2 FLAIR 5mm"),
            ("head W/O contrast, Prof. Müller 19570312", "head W O contrast"),
            ("tel. 0151 2345678", ""),
            ("head 12/03/57, 12.03.57, 12 03 57", "head"),
            ("T1-W 3 mm", "T1 W 3 mm"),
            ("Schädel", ""),
            ("Brain\\John Doe\\Neck", "Brain\\\\Neck"),
            ("", ""),
        ] {
            assert_eq!(clean(text, &[]), expected, "{text}");
        }
    }

    #[test]
    fn words_of_names_go_even_so() {
        assert_eq!(clean("CT HEAD", &["Head^Anna"]), "CT");
        assert_eq!(clean("Neck 12", &["PAT-12"]), "Neck");
    }
}
