//! Values that say nothing (PS3.15 Table E.1-1a, D), valid for their VR.

use crate::dicom::VR;

/// The word that stands in for text.
pub(super) const REMOVED: &str = "REMOVED";

/// A value in little endian that is not empty and the same for everybody.
pub(super) fn dummy(vr: VR) -> &'static [u8] {
    match vr {
        VR::AE | VR::LO | VR::LT | VR::PN | VR::SH | VR::ST | VR::UC | VR::UT => REMOVED.as_bytes(),
        VR::AS => b"000Y",
        // Of Reason for the Attribute Modification (0400,0565), the only one.
        VR::CS => b"COERCE",
        VR::DA => b"19000101",
        VR::DT => b"19000101000000",
        VR::TM => b"000000",
        VR::DS | VR::IS => b"0",
        VR::UR => b"urn:x-removed",
        VR::UI => b"2.25.0",
        VR::FD | VR::OD | VR::OV | VR::SV | VR::UV => &[0; 8],
        VR::AT | VR::FL | VR::OF | VR::OL | VR::SL | VR::UL => &[0; 4],
        VR::OB | VR::OW | VR::SS | VR::UN | VR::US => &[0; 2],
        VR::SQ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::attributes::Matching;

    #[test]
    fn dummies_are_valid() {
        for vr in
            "AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SS ST SV TM UC UI \
                   UL UN UR US UT UV"
                .split_whitespace()
        {
            let vr: VR = vr.parse().unwrap();
            let value = dummy(vr);
            assert!(!value.is_empty(), "{vr}");
            let is_text = value.is_ascii() && !value.contains(&0);
            if let Some(matching) = Matching::of(vr).filter(|_| is_text) {
                let text = std::str::from_utf8(value).unwrap();
                assert!(matching.normalise(text).is_ok(), "{vr} {text}");
            }
        }
    }
}
