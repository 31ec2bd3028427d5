//! Value representations (PS3.5 §6.2) as encodings need them: length forms, swap units, and which
//! one an element of an implicit data set has.

use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry, VirtualVr};
use dicom_dictionary_std::StandardDataDictionary;

use super::Endian;
use crate::dicom::{Tag, VR};

/// The pixel data element (PS3.3 §C.7.6.3).
pub(super) const PIXEL_DATA: Tag = Tag(0x7FE0, 0x0010);

/// Whether two bytes can stand where a VR must: one that this version of the standard does not
/// know is still two capital letters (PS3.5 §7.1.2).
pub(super) fn are_letters(letters: [u8; 2]) -> bool {
    letters.iter().all(u8::is_ascii_uppercase)
}

/// The VR that two letters name.
pub(super) fn from_letters(letters: [u8; 2]) -> Option<VR> {
    Some(match &letters {
        b"AE" => VR::AE,
        b"AS" => VR::AS,
        b"AT" => VR::AT,
        b"CS" => VR::CS,
        b"DA" => VR::DA,
        b"DS" => VR::DS,
        b"DT" => VR::DT,
        b"FD" => VR::FD,
        b"FL" => VR::FL,
        b"IS" => VR::IS,
        b"LO" => VR::LO,
        b"LT" => VR::LT,
        b"OB" => VR::OB,
        b"OD" => VR::OD,
        b"OF" => VR::OF,
        b"OL" => VR::OL,
        b"OV" => VR::OV,
        b"OW" => VR::OW,
        b"PN" => VR::PN,
        b"SH" => VR::SH,
        b"SL" => VR::SL,
        b"SQ" => VR::SQ,
        b"SS" => VR::SS,
        b"ST" => VR::ST,
        b"SV" => VR::SV,
        b"TM" => VR::TM,
        b"UC" => VR::UC,
        b"UI" => VR::UI,
        b"UL" => VR::UL,
        b"UN" => VR::UN,
        b"UR" => VR::UR,
        b"US" => VR::US,
        b"UT" => VR::UT,
        b"UV" => VR::UV,
        _ => return None,
    })
}

/// Whether the length field of an explicit element has 32 bits (PS3.5 Table 7.1-1).
pub(in crate::dicom) fn has_long_length(vr: VR) -> bool {
    matches!(
        vr,
        VR::OB
            | VR::OD
            | VR::OF
            | VR::OL
            | VR::OV
            | VR::OW
            | VR::SQ
            | VR::SV
            | VR::UC
            | VR::UN
            | VR::UR
            | VR::UT
            | VR::UV
    )
}

/// Whether values are binary, so that long ones are bulk.
pub(in crate::dicom) fn is_binary(vr: VR) -> bool {
    swap_unit(vr) > 1 || matches!(vr, VR::OB | VR::UN)
}

/// Bytes of the unit that byte order concerns (PS3.5 §7.3); 1: none. UN is 1: its values are little
/// endian in every transfer syntax (PS3.5 §6.2.2).
pub(in crate::dicom) fn swap_unit(vr: VR) -> usize {
    match vr {
        VR::AT | VR::OW | VR::SS | VR::US => 2,
        VR::FL | VR::OF | VR::OL | VR::SL | VR::UL => 4,
        VR::FD | VR::OD | VR::OV | VR::SV | VR::UV => 8,
        _ => 1,
    }
}

/// The first number of a value of US.
pub(in crate::dicom) fn short(value: &[u8], endian: Endian) -> Option<u16> {
    let &bytes = value.first_chunk()?;
    Some(match endian {
        Endian::Little => u16::from_le_bytes(bytes),
        Endian::Big => u16::from_be_bytes(bytes),
    })
}

/// (0028,0100) Bits Allocated.
pub(in crate::dicom) const BITS_ALLOCATED: Tag = Tag(0x0028, 0x0100);

/// As [`swap_unit`], of an element with this tag. By the letter OW is words of 16 bits, but those
/// who write samples of 32 and 64 bits in big endian turn each sample as a whole, and so do all
/// who read them.
pub(in crate::dicom) fn swap_unit_of(tag: Tag, vr: VR, bits_allocated: u16) -> usize {
    match (swap_unit(vr), bits_allocated) {
        (2, bits @ (32 | 64)) if tag == Tag(0x7FE0, 0x0010) => usize::from(bits) / 8,
        (unit, _) => unit,
    }
}

/// The byte that pads a value to even length (PS3.5 §6.2).
pub(in crate::dicom) fn padding(vr: VR) -> u8 {
    if is_binary(vr) || vr == VR::UI { 0 } else { b' ' }
}

/// The VR of an element in an implicit data set.
///
/// Private creators are LO, other private elements UN (PS3.5 §7.8). Where PS3.6 leaves a choice:
/// US or SS by Pixel Representation (`signed`; US where it is not known yet), LUT Data is US when
/// it has a single entry and OW otherwise (PS3.3 §C.11.1.1.1), pixel, overlay and waveform data
/// are OW (PS3.5 §A.1), pixel data in fragments OB (§A.4).
pub(super) fn implicit(tag: Tag, length: Option<u32>, signed: Option<bool>) -> VR {
    // Asked before the dictionary, which would find repeating groups (60xx) in odd ones.
    if tag.group() % 2 == 1 {
        return if (0x0010..=0x00FF).contains(&tag.element()) { VR::LO } else { VR::UN };
    }
    let Some(entry) = StandardDataDictionary.by_tag(tag) else { return VR::UN };
    match entry.vr() {
        VirtualVr::Exact(vr) => vr,
        VirtualVr::Xs if signed == Some(true) => VR::SS,
        VirtualVr::Xs => VR::US,
        VirtualVr::Lt if length == Some(2) => VR::US,
        VirtualVr::Px | VirtualVr::Ox if length.is_none() => VR::OB,
        VirtualVr::Lt | VirtualVr::Px | VirtualVr::Ox => VR::OW,
        _ => VR::UN,
    }
}

/// The VR that PS3.6 gives a public attribute, where it gives exactly one.
pub(in crate::dicom) fn of_public(tag: Tag) -> Option<VR> {
    if tag.group() % 2 == 1 {
        return None;
    }
    StandardDataDictionary.by_tag(tag)?.vr().exact()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn implicit_elements_get_their_vr() {
        let check = |tag: Tag, length, signed, expected| {
            assert_eq!(implicit(tag, length, signed), expected, "{tag}");
        };
        check(Tag(0x0010, 0x0010), Some(4), None, VR::PN);
        check(Tag(0x0009, 0x0010), Some(4), None, VR::LO);
        check(Tag(0x0009, 0x1001), Some(4), None, VR::UN);
        check(Tag(0x0012, 0x9999), Some(4), None, VR::UN);
        check(Tag(0x0028, 0x0106), Some(2), None, VR::US);
        check(Tag(0x0028, 0x0106), Some(2), Some(false), VR::US);
        check(Tag(0x0028, 0x0106), Some(2), Some(true), VR::SS);
        check(Tag(0x0028, 0x3006), Some(2), Some(true), VR::US);
        check(Tag(0x0028, 0x3006), Some(512), Some(true), VR::OW);
        check(Tag(0x6002, 0x3000), Some(512), None, VR::OW);
        check(Tag(0x6001, 0x3000), Some(512), None, VR::UN);
        check(Tag(0x5400, 0x1010), Some(512), None, VR::OW);
        check(PIXEL_DATA, Some(512), None, VR::OW);
        check(PIXEL_DATA, None, None, VR::OB);
    }

    #[test]
    fn letters_and_names_agree() {
        let mut known = 0;
        for (a, b) in (b'A'..=b'Z').flat_map(|a| (b'A'..=b'Z').map(move |b| (a, b))) {
            let vr = from_letters([a, b]);
            assert_eq!(vr, VR::from_binary([a, b]));
            known += usize::from(vr.is_some());
        }
        assert_eq!(known, 34);
    }
}
