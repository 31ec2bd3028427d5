//! What a codestream says of itself, from its first bytes.
//!
//! Owns reading of headers: JPEG, JPEG-LS, JPEG 2000 and HTJ2K by their markers, JPEG XL by its
//! decoder, MP4 by its boxes. Holds: no more than the headers is looked at, whatever they say. Absent: decoding, files
//! around codestreams (JP2 boxes), and codestreams that say nothing (RLE).

use super::{
    hevc::Profile,
    jpeg_xl,
    mp4::{self, Coding},
};
use crate::dicom::{compose::Description, transfer_syntax::TransferSyntax};

/// Bytes in which the header of a codestream must be.
pub const HEAD: usize = 256 << 10;

const BASELINE: &str = "1.2.840.10008.1.2.4.50";
const EXTENDED: &str = "1.2.840.10008.1.2.4.51";
const PROGRESSIVE: &str = "1.2.840.10008.1.2.4.55";
const LOSSLESS: &str = "1.2.840.10008.1.2.4.57";
const LOSSLESS_SV1: &str = "1.2.840.10008.1.2.4.70";
const LS: &str = "1.2.840.10008.1.2.4.80";
const LS_NEAR: &str = "1.2.840.10008.1.2.4.81";
const J2K_LOSSLESS: &str = "1.2.840.10008.1.2.4.90";
const J2K: &str = "1.2.840.10008.1.2.4.91";
const HT_LOSSLESS: &str = "1.2.840.10008.1.2.4.201";
const HT: &str = "1.2.840.10008.1.2.4.203";
const JXL_LOSSLESS: &str = "1.2.840.10008.1.2.4.110";
const JXL: &str = "1.2.840.10008.1.2.4.112";

/// H.264 of up to level 4.1, and of level 4.2.
const H264_41: &str = "1.2.840.10008.1.2.4.102";
const H264_42: &str = "1.2.840.10008.1.2.4.104";
const HEVC_MAIN: &str = "1.2.840.10008.1.2.4.107";
const HEVC_MAIN_10: &str = "1.2.840.10008.1.2.4.108";
/// Of what none is made for.
const NONE: &str = "";

/// What a codestream is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Probe {
    /// The transfer syntax of such streams; empty where there is none.
    pub syntax: &'static str,
    /// What it says of its pixels.
    pub description: Description,
    /// Of a video: how many frames it has, and how many milliseconds each is.
    pub moves: Option<(u32, f64)>,
}

impl Probe {
    /// Whether frames like this may stand in a data set of this transfer syntax.
    pub fn fits(&self, syntax: &str) -> bool {
        let wider: &[&str] = match self.syntax {
            BASELINE => &[EXTENDED],
            LOSSLESS_SV1 => &[LOSSLESS],
            LS => &[LS_NEAR],
            // Part 2 has every stream of part 1.
            J2K_LOSSLESS => &[J2K, "1.2.840.10008.1.2.4.92", "1.2.840.10008.1.2.4.93"],
            J2K => &["1.2.840.10008.1.2.4.93"],
            HT_LOSSLESS => &[HT, "1.2.840.10008.1.2.4.202"],
            JXL_LOSSLESS => &[JXL, "1.2.840.10008.1.2.4.111"],
            // Who decodes Main 10 decodes Main.
            HEVC_MAIN => &[HEVC_MAIN_10],
            _ => &[],
        };
        // The differences of those of H.264 are beyond what is read.
        if [H264_41, H264_42].contains(&self.syntax) {
            return TransferSyntax::lookup(syntax)
                .is_some_and(|known| known.media_type == "video/mp4");
        }
        syntax == self.syntax || wider.contains(&syntax)
    }
}

/// Reads the header of a codestream, of which these are the first bytes, at least [`HEAD`] or all.
/// `None` where it is none that is known, or says what no frame can be.
pub fn probe(bytes: &[u8]) -> Option<Probe> {
    match bytes {
        [0xFF, 0xD8, 0xFF, ..] => jpeg(bytes),
        [0xFF, 0x4F, 0xFF, 0x51, ..] => jpeg_2000(bytes),
        [0xFF, 0x0A, ..] | [0, 0, 0, 0x0C, b'J', b'X', b'L', b' ', ..] => {
            let description = jpeg_xl::describe(bytes)?;
            let syntax = if description.lossy { JXL } else { JXL_LOSSLESS };
            Some(Probe { syntax, description, moves: None })
        }
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => {
            let video = mp4::read(bytes)?;
            let syntax = match video.coding {
                Coding::H264(..=41) => H264_41,
                Coding::H264(_) => H264_42,
                Coding::Hevc(Profile::Main) => HEVC_MAIN,
                Coding::Hevc(Profile::Main10) => HEVC_MAIN_10,
                Coding::Hevc(Profile::Other) => NONE,
            };
            let moves = Some((video.frames, video.frame_time));
            Some(Probe { syntax, description: video.description, moves })
        }
        _ => None,
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    let &[a, b] = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_be_bytes([a, b]))
}

fn long(bytes: &[u8], at: usize) -> Option<u32> {
    let &bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_be_bytes(bytes))
}

/// JPEG and JPEG-LS: what the frame header says, and of lossless ones the first scan's.
fn jpeg(bytes: &[u8]) -> Option<Probe> {
    let (mut at, mut frame, mut adobe) = (2, None, None);
    loop {
        // Fill bytes may stand before a marker.
        while bytes.get(at) == Some(&0xFF) && bytes.get(at + 1) == Some(&0xFF) {
            at += 1;
        }
        let (0xFF, marker) = (*bytes.get(at)?, *bytes.get(at + 1)?) else { return None };
        if matches!(marker, 0x01 | 0xD0..=0xD8) {
            at += 2;
            continue;
        }
        let length = usize::from(word(bytes, at + 2)?);
        let body = bytes.get(at + 4..at + 2 + length)?;
        match marker {
            0xC0..=0xC3 | 0xF7 => frame = Some((marker, body)),
            0xEE if body.starts_with(b"Adobe") => adobe = body.get(11).copied(),
            0xDA => return scan(frame?, body, adobe),
            _ => {}
        }
        at += 2 + length;
    }
}

fn scan((marker, frame): (u8, &[u8]), scan: &[u8], adobe: Option<u8>) -> Option<Probe> {
    let [bits, _, _, _, _, samples, ..] = *frame else { return None };
    let (rows, columns) = (word(frame, 1)?, word(frame, 3)?);
    // Selection value or nearness, behind the components of the scan.
    let parameter = *scan.get(1 + 2 * usize::from(*scan.first()?))?;
    let component = |n: usize| frame.get(6 + 3 * n..9 + 3 * n);
    let factors = |n: usize| component(n).and_then(|c| c.get(1)).copied();
    let named = (0..3).map(|n| component(n)?.first().copied()).collect::<Option<Vec<u8>>>();
    let is_rgb = adobe == Some(0) || named.as_deref() == Some(b"RGB");
    let photometric = match (samples, marker) {
        (1, _) => "MONOCHROME2",
        (3, 0xC3 | 0xF7) => "RGB",
        (3, _) if is_rgb => "RGB",
        (3, _) if factors(0) == factors(1) => "YBR_FULL",
        (3, _) => "YBR_FULL_422",
        _ => return None,
    };
    let syntax = match (marker, parameter) {
        (0xC0, _) => BASELINE,
        (0xC1, _) => EXTENDED,
        (0xC2, _) => PROGRESSIVE,
        (0xC3, 1) => LOSSLESS_SV1,
        (0xC3, _) => LOSSLESS,
        (_, 0) => LS,
        _ => LS_NEAR,
    };
    let lossy = !matches!(syntax, LOSSLESS | LOSSLESS_SV1 | LS);
    let sane = rows > 0 && columns > 0 && (2..=16).contains(&bits);
    let description =
        Description { rows, columns, samples, bits, signed: false, photometric, lossy };
    sane.then_some(Probe { syntax, description, moves: None })
}

/// JPEG 2000 and HTJ2K: SIZ and COD.
fn jpeg_2000(bytes: &[u8]) -> Option<Probe> {
    let side = |end, start| u16::try_from(long(bytes, end)?.checked_sub(long(bytes, start)?)?).ok();
    let (columns, rows) = (side(8, 16)?, side(12, 20)?);
    let samples = u8::try_from(word(bytes, 40)?).ok()?;
    let depth = *bytes.get(42)?;
    let (mut at, mut fast) = (2, word(bytes, 6)? & 0x4000 != 0);
    loop {
        let marker = word(bytes, at)?;
        let length = usize::from(word(bytes, at + 2)?);
        match marker {
            0xFF50 => fast = true,
            0xFF52 => break,
            0xFF90 | 0xFF93 | 0xFFD9 => return None,
            _ => {}
        }
        at += 2 + length;
    }
    let mixed = *bytes.get(at + 8)? == 1;
    let reversible = *bytes.get(at + 13)? == 1;
    let photometric = match (samples, mixed, reversible) {
        (1, ..) => "MONOCHROME2",
        (3, false, _) => "RGB",
        (3, true, true) => "YBR_RCT",
        (3, true, false) => "YBR_ICT",
        _ => return None,
    };
    let syntax = match (fast, reversible) {
        (true, true) => HT_LOSSLESS,
        (true, false) => HT,
        (false, true) => J2K_LOSSLESS,
        (false, false) => J2K,
    };
    let (bits, signed) = ((depth & 0x7F) + 1, depth & 0x80 != 0);
    let sane = rows > 0 && columns > 0 && bits <= 16;
    let description =
        Description { rows, columns, samples, bits, signed, photometric, lossy: !reversible };
    sane.then_some(Probe { syntax, description, moves: None })
}
