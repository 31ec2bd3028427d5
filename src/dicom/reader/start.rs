//! How a stream begins: with a preamble and `DICM`, with File Meta Information at once, or with a
//! bare data set.

use super::vr;
use crate::dicom::{Tag, transfer_syntax};

/// Bytes after which [`recognise`] needs no more: the preamble and the prefix (PS3.10 §7.1).
pub(super) const ENOUGH: usize = 132;
/// Most bytes that the first value of a bare implicit data set may have. It is a group length, a
/// character set, a date or a UID.
const FIRST_VALUE: u32 = 1024;

/// What a stream turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// File Meta Information from this byte on.
    Meta(usize),
    /// A data set from the first byte on, in the transfer syntax of this UID.
    Bare(&'static str),
    /// Nothing that can be told safely.
    Unknown,
}

/// Tells from the first [`ENOUGH`] bytes, or all if there are fewer, how a stream begins.
///
/// - `DICM` at 128, and whatever before it: a Part 10 file.
/// - `DICM` at 0, or group 0002 at 0, followed by group 0002: the preamble, or it and the prefix,
///   were left out.
/// - A public element of group 0008 with a VR that is one (explicit, either byte order), or of
///   short defined length (implicit): a data set without File Meta Information. PS3.10 does not
///   allow it, but archives hold such; its transfer syntax shows. Data sets that begin with
///   another group, or are deflated, are not recognised.
pub(super) fn recognise(bytes: &[u8]) -> Start {
    if bytes.get(128..132) == Some(b"DICM") {
        return Start::Meta(132);
    }
    if bytes.strip_prefix(b"DICM").is_some_and(is_meta) {
        return Start::Meta(4);
    }
    if is_meta(bytes) {
        return Start::Meta(0);
    }
    bare(bytes).map_or(Start::Unknown, Start::Bare)
}

/// Whether these are the first bytes of File Meta Information.
fn is_meta(bytes: &[u8]) -> bool {
    let Some(raw) = bytes.first_chunk::<8>() else { return false };
    let known_element = matches!(raw[2], 0x00..=0x03 | 0x10) && raw[3] == 0;
    let length = u32::from_le_bytes([raw[4], raw[5], raw[6], raw[7]]);
    let has_vr = vr::from_letters([raw[4], raw[5]]).is_some();
    raw.starts_with(&[0x02, 0x00]) && known_element && (has_vr || length <= FIRST_VALUE)
}

fn bare(bytes: &[u8]) -> Option<&'static str> {
    let [a, b, c, d, rest @ ..] = *bytes.first_chunk::<8>()?;
    let is_public = |element| element == 0 || vr::of_public(Tag(0x0008, element)).is_some();
    let has_vr = vr::from_letters([rest[0], rest[1]]).is_some();
    match ([a, b], has_vr) {
        ([0x08, 0x00], true) if is_public(u16::from_le_bytes([c, d])) => {
            Some(transfer_syntax::EXPLICIT_LITTLE)
        }
        ([0x00, 0x08], true) if is_public(u16::from_be_bytes([c, d])) => {
            Some(transfer_syntax::EXPLICIT_BIG)
        }
        ([0x08, 0x00], false)
            if is_public(u16::from_le_bytes([c, d])) && u32::from_le_bytes(rest) <= FIRST_VALUE =>
        {
            Some(transfer_syntax::IMPLICIT_LITTLE)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expected: Start) {
        assert_eq!(recognise(bytes), expected, "{bytes:02x?}");
    }

    #[test]
    fn part_10_files_are_recognised_with_and_without_preamble() {
        let mut file = vec![0xA5; 128];
        file.extend(b"DICM");
        check(&file, Start::Meta(132));
        file[..8].copy_from_slice(b"\x08\0\x05\0CS\x0a\0");
        check(&file, Start::Meta(132));
        check(b"\x02\0\0\0UL\x04\0\x10\0\0\0", Start::Meta(0));
        check(b"\x02\0\x02\0\x1a\0\0\x001.2", Start::Meta(0));
        check(b"DICM\x02\0\0\0UL\x04\0", Start::Meta(4));
    }

    #[test]
    fn bare_data_sets_show_their_encoding() {
        check(b"\x08\0\x05\0CS\x0a\0ISO_IR 100", Start::Bare(transfer_syntax::EXPLICIT_LITTLE));
        check(b"\0\x08\0\x05CS\0\x0aISO_IR 100", Start::Bare(transfer_syntax::EXPLICIT_BIG));
        check(b"\x08\0\x05\0\x0a\0\0\0ISO", Start::Bare(transfer_syntax::IMPLICIT_LITTLE));
        check(b"\x08\0\0\0\x04\0\0\0\x10\0\0\0", Start::Bare(transfer_syntax::IMPLICIT_LITTLE));
    }

    #[test]
    fn other_bytes_are_not_dicom() {
        check(b"", Start::Unknown);
        check(b"DICM", Start::Unknown);
        check(b"\x08\0\x05\0CS", Start::Unknown);
        check(b" \x08\0\x05\0CS\x0a\0", Start::Unknown);
        check(b"\x08\0\x05\0\0\0\x01\0", Start::Unknown);
        check(b"\x08\0\x06\x99CS\x0a\0", Start::Unknown);
        check(b"\x10\0\x10\0PN\x04\0A^B ", Start::Unknown);
        check(b"\x02\0\xff\0UL\x04\0", Start::Unknown);
        check(&[0; 132], Start::Unknown);
        check(b"%PDF-1.7 and so on", Start::Unknown);
    }
}
