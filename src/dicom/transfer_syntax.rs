//! Transfer syntaxes (PS3.5 Annex A, PS3.6 Table A-1): how a data set and its pixel data are
//! encoded, and what a frame of it is called in HTTP (PS3.18 Tables 8.7.3-4 and 8.7.3-5).
//!
//! Owns the table of known UIDs. Holds: [`TransferSyntax::of`] answers for every UID, so nothing is
//! refused for its transfer syntax alone. Absent: codecs.

use super::{Uid, reader::Endian};

/// Explicit VR Little Endian, to which data sets are converted on request.
pub const EXPLICIT_LITTLE: &str = "1.2.840.10008.1.2.1";
/// Implicit VR Little Endian.
pub const IMPLICIT_LITTLE: &str = "1.2.840.10008.1.2";
/// Explicit VR Big Endian, retired.
pub const EXPLICIT_BIG: &str = "1.2.840.10008.1.2.2";
/// Media type of uncompressed frames, and of those for which PS3.18 names no other.
pub const OCTET_STREAM: &str = "application/octet-stream";

/// How the elements of a data set are encoded (PS3.5 Annex A).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Implicit VR Little Endian (§A.1).
    ImplicitLittle,
    /// Explicit VR Little Endian (§A.2), also every encapsulated syntax (§A.4).
    ExplicitLittle,
    /// Explicit VR Big Endian (retired §A.3).
    ExplicitBig,
    /// Explicit VR Little Endian, then compressed as one raw deflate stream (§A.5).
    Deflated,
}

impl Encoding {
    /// Byte order of the values.
    pub fn endian(self) -> Endian {
        match self {
            Self::ExplicitBig => Endian::Big,
            Self::ImplicitLittle | Self::ExplicitLittle | Self::Deflated => Endian::Little,
        }
    }
}

/// How pixel data stands in a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PixelForm {
    /// Frames end to end in one value (PS3.5 §8.1).
    Native,
    /// In fragments (PS3.5 §A.4), a frame being one codestream.
    Encapsulated,
    /// In fragments, the whole instance being one stream: there are no frames to address.
    Video,
    /// Not in the data set: JPIP references and real-time flows.
    Elsewhere,
}

/// What is known of one transfer syntax.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransferSyntax {
    /// Its UID; empty for the entry that stands for unknown ones.
    pub uid: &'static str,
    /// Its name in PS3.6.
    pub name: &'static str,
    /// How its data sets are encoded.
    pub encoding: Encoding,
    /// Where and how pixel data is.
    pub pixels: PixelForm,
    /// Media type of one frame (of the whole stream, for video).
    pub media_type: &'static str,
    /// Whether [`super::explicit`] turns its data sets into Explicit VR Little Endian: no codec is
    /// needed for that.
    pub convertible: bool,
}

impl TransferSyntax {
    /// The entry of `uid`; for a UID that the table lacks an entry which takes the data set for
    /// Explicit VR Little Endian, as PS3.5 §A.4 makes every encapsulated syntax, private ones too.
    pub fn of(uid: &Uid) -> &'static Self {
        Self::lookup(uid.as_str()).unwrap_or(&UNKNOWN)
    }

    /// The entry of a known UID.
    pub fn lookup(uid: &str) -> Option<&'static Self> {
        TABLE.iter().find(|entry| entry.uid == uid)
    }

    /// All known transfer syntaxes.
    pub fn known() -> &'static [Self] {
        TABLE
    }

    /// The known transfer syntaxes of a frame's media type; the first is the one that is meant
    /// where a client names none (PS3.18 Table 8.7.3-4), except that `application/octet-stream`
    /// means Explicit VR Little Endian.
    pub fn with_media_type(media_type: &str) -> impl Iterator<Item = &'static Self> {
        TABLE.iter().filter(move |entry| entry.media_type == media_type)
    }
}

const UNKNOWN: TransferSyntax =
    entry("", "unknown", Encoding::ExplicitLittle, PixelForm::Encapsulated, OCTET_STREAM);

const fn entry(
    uid: &'static str,
    name: &'static str,
    encoding: Encoding,
    pixels: PixelForm,
    media_type: &'static str,
) -> TransferSyntax {
    let convertible = matches!(pixels, PixelForm::Native);
    TransferSyntax { uid, name, encoding, pixels, media_type, convertible }
}

const fn native(uid: &'static str, name: &'static str, encoding: Encoding) -> TransferSyntax {
    entry(uid, name, encoding, PixelForm::Native, OCTET_STREAM)
}

const fn image(uid: &'static str, name: &'static str, media_type: &'static str) -> TransferSyntax {
    entry(uid, name, Encoding::ExplicitLittle, PixelForm::Encapsulated, media_type)
}

const fn video(uid: &'static str, name: &'static str, media_type: &'static str) -> TransferSyntax {
    entry(uid, name, Encoding::ExplicitLittle, PixelForm::Video, media_type)
}

const fn elsewhere(uid: &'static str, name: &'static str, encoding: Encoding) -> TransferSyntax {
    entry(uid, name, encoding, PixelForm::Elsewhere, OCTET_STREAM)
}

const RETIRED_JPEG: &str = "image/jpeg";

// Within a media type the default of PS3.18 Table 8.7.3-4 comes first.
static TABLE: &[TransferSyntax] = &[
    native(EXPLICIT_LITTLE, "Explicit VR Little Endian", Encoding::ExplicitLittle),
    native(IMPLICIT_LITTLE, "Implicit VR Little Endian", Encoding::ImplicitLittle),
    native("1.2.840.10008.1.2.1.99", "Deflated Explicit VR Little Endian", Encoding::Deflated),
    native(EXPLICIT_BIG, "Explicit VR Big Endian", Encoding::ExplicitBig),
    native("1.2.840.10008.1.20", "Papyrus 3 Implicit VR Little Endian", Encoding::ImplicitLittle),
    // Pixel data is big endian although the rest is not: converting it takes more than VRs.
    TransferSyntax {
        convertible: false,
        ..native(
            "1.2.840.113619.5.2",
            "Implicit VR Little Endian with Big Endian Pixel Data (GE private)",
            Encoding::ImplicitLittle,
        )
    },
    image(
        "1.2.840.10008.1.2.1.98",
        "Encapsulated Uncompressed Explicit VR Little Endian",
        OCTET_STREAM,
    ),
    image("1.2.840.10008.1.2.8.1", "Deflated Image Frame Compression", OCTET_STREAM),
    image("1.2.840.10008.1.2.6.1", "RFC 2557 MIME encapsulation", OCTET_STREAM),
    image("1.2.840.10008.1.2.6.2", "XML Encoding", OCTET_STREAM),
    image(
        "1.2.840.10008.1.2.4.70",
        "JPEG Lossless, Non-Hierarchical, First-Order Prediction (Process 14 [Selection Value 1])",
        "image/jpeg",
    ),
    image("1.2.840.10008.1.2.4.50", "JPEG Baseline (Process 1)", "image/jpeg"),
    image("1.2.840.10008.1.2.4.51", "JPEG Extended (Process 2 & 4)", "image/jpeg"),
    image("1.2.840.10008.1.2.4.57", "JPEG Lossless, Non-Hierarchical (Process 14)", "image/jpeg"),
    image("1.2.840.10008.1.2.4.52", "JPEG Extended (Process 3 & 5)", RETIRED_JPEG),
    image(
        "1.2.840.10008.1.2.4.53",
        "JPEG Spectral Selection, Non-Hierarchical (Process 6 & 8)",
        RETIRED_JPEG,
    ),
    image(
        "1.2.840.10008.1.2.4.54",
        "JPEG Spectral Selection, Non-Hierarchical (Process 7 & 9)",
        RETIRED_JPEG,
    ),
    image(
        "1.2.840.10008.1.2.4.55",
        "JPEG Full Progression, Non-Hierarchical (Process 10 & 12)",
        RETIRED_JPEG,
    ),
    image(
        "1.2.840.10008.1.2.4.56",
        "JPEG Full Progression, Non-Hierarchical (Process 11 & 13)",
        RETIRED_JPEG,
    ),
    image("1.2.840.10008.1.2.4.58", "JPEG Lossless, Non-Hierarchical (Process 15)", RETIRED_JPEG),
    image("1.2.840.10008.1.2.4.59", "JPEG Extended, Hierarchical (Process 16 & 18)", RETIRED_JPEG),
    image("1.2.840.10008.1.2.4.60", "JPEG Extended, Hierarchical (Process 17 & 19)", RETIRED_JPEG),
    image(
        "1.2.840.10008.1.2.4.61",
        "JPEG Spectral Selection, Hierarchical (Process 20 & 22)",
        RETIRED_JPEG,
    ),
    image(
        "1.2.840.10008.1.2.4.62",
        "JPEG Spectral Selection, Hierarchical (Process 21 & 23)",
        RETIRED_JPEG,
    ),
    image(
        "1.2.840.10008.1.2.4.63",
        "JPEG Full Progression, Hierarchical (Process 24 & 26)",
        RETIRED_JPEG,
    ),
    image(
        "1.2.840.10008.1.2.4.64",
        "JPEG Full Progression, Hierarchical (Process 25 & 27)",
        RETIRED_JPEG,
    ),
    image("1.2.840.10008.1.2.4.65", "JPEG Lossless, Hierarchical (Process 28)", RETIRED_JPEG),
    image("1.2.840.10008.1.2.4.66", "JPEG Lossless, Hierarchical (Process 29)", RETIRED_JPEG),
    image("1.2.840.10008.1.2.5", "RLE Lossless", "image/dicom-rle"),
    image("1.2.840.10008.1.2.4.80", "JPEG-LS Lossless Image Compression", "image/jls"),
    image("1.2.840.10008.1.2.4.81", "JPEG-LS Lossy (Near-Lossless) Image Compression", "image/jls"),
    image("1.2.840.10008.1.2.4.90", "JPEG 2000 Image Compression (Lossless Only)", "image/jp2"),
    image("1.2.840.10008.1.2.4.91", "JPEG 2000 Image Compression", "image/jp2"),
    image(
        "1.2.840.10008.1.2.4.92",
        "JPEG 2000 Part 2 Multi-component Image Compression (Lossless Only)",
        "image/jpx",
    ),
    image(
        "1.2.840.10008.1.2.4.93",
        "JPEG 2000 Part 2 Multi-component Image Compression",
        "image/jpx",
    ),
    image(
        "1.2.840.10008.1.2.4.201",
        "High-Throughput JPEG 2000 Image Compression (Lossless Only)",
        "image/jphc",
    ),
    image(
        "1.2.840.10008.1.2.4.202",
        "High-Throughput JPEG 2000 with RPCL Options Image Compression (Lossless Only)",
        "image/jphc",
    ),
    image("1.2.840.10008.1.2.4.203", "High-Throughput JPEG 2000 Image Compression", "image/jphc"),
    image("1.2.840.10008.1.2.4.110", "JPEG XL Lossless", "image/jxl"),
    image("1.2.840.10008.1.2.4.111", "JPEG XL JPEG Recompression", "image/jxl"),
    image("1.2.840.10008.1.2.4.112", "JPEG XL", "image/jxl"),
    video("1.2.840.10008.1.2.4.101", "MPEG2 Main Profile / High Level", "video/mpeg"),
    video("1.2.840.10008.1.2.4.100", "MPEG2 Main Profile / Main Level", "video/mpeg"),
    video(
        "1.2.840.10008.1.2.4.100.1",
        "Fragmentable MPEG2 Main Profile / Main Level",
        "video/mpeg",
    ),
    video(
        "1.2.840.10008.1.2.4.101.1",
        "Fragmentable MPEG2 Main Profile / High Level",
        "video/mpeg",
    ),
    video("1.2.840.10008.1.2.4.102", "MPEG-4 AVC/H.264 High Profile / Level 4.1", "video/mp4"),
    video(
        "1.2.840.10008.1.2.4.102.1",
        "Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.1",
        "video/mp4",
    ),
    video(
        "1.2.840.10008.1.2.4.103",
        "MPEG-4 AVC/H.264 BD-compatible High Profile / Level 4.1",
        "video/mp4",
    ),
    video(
        "1.2.840.10008.1.2.4.103.1",
        "Fragmentable MPEG-4 AVC/H.264 BD-compatible High Profile / Level 4.1",
        "video/mp4",
    ),
    video(
        "1.2.840.10008.1.2.4.104",
        "MPEG-4 AVC/H.264 High Profile / Level 4.2 For 2D Video",
        "video/mp4",
    ),
    video(
        "1.2.840.10008.1.2.4.104.1",
        "Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.2 For 2D Video",
        "video/mp4",
    ),
    video(
        "1.2.840.10008.1.2.4.105",
        "MPEG-4 AVC/H.264 High Profile / Level 4.2 For 3D Video",
        "video/mp4",
    ),
    video(
        "1.2.840.10008.1.2.4.105.1",
        "Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.2 For 3D Video",
        "video/mp4",
    ),
    video(
        "1.2.840.10008.1.2.4.106",
        "MPEG-4 AVC/H.264 Stereo High Profile / Level 4.2",
        "video/mp4",
    ),
    video(
        "1.2.840.10008.1.2.4.106.1",
        "Fragmentable MPEG-4 AVC/H.264 Stereo High Profile / Level 4.2",
        "video/mp4",
    ),
    video("1.2.840.10008.1.2.4.107", "HEVC/H.265 Main Profile / Level 5.1", "video/H265"),
    video("1.2.840.10008.1.2.4.108", "HEVC/H.265 Main 10 Profile / Level 5.1", "video/H265"),
    elsewhere("1.2.840.10008.1.2.4.94", "JPIP Referenced", Encoding::ExplicitLittle),
    elsewhere("1.2.840.10008.1.2.4.95", "JPIP Referenced Deflate", Encoding::Deflated),
    elsewhere("1.2.840.10008.1.2.4.204", "JPIP HTJ2K Referenced", Encoding::ExplicitLittle),
    elsewhere("1.2.840.10008.1.2.4.205", "JPIP HTJ2K Referenced Deflate", Encoding::Deflated),
    elsewhere(
        "1.2.840.10008.1.2.7.1",
        "SMPTE ST 2110-20 Uncompressed Progressive Active Video",
        Encoding::ExplicitLittle,
    ),
    elsewhere(
        "1.2.840.10008.1.2.7.2",
        "SMPTE ST 2110-20 Uncompressed Interlaced Active Video",
        Encoding::ExplicitLittle,
    ),
    elsewhere(
        "1.2.840.10008.1.2.7.3",
        "SMPTE ST 2110-30 PCM Digital Audio",
        Encoding::ExplicitLittle,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn uid(text: &str) -> Uid {
        text.parse().unwrap()
    }

    #[test]
    fn the_table_has_every_transfer_syntax_of_ps3_6() {
        let jpeg = (50..=66).map(|n| format!("4.{n}"));
        let rest = "1 1.98 1.99 2 4.70 4.80 4.81 4.90 4.91 4.92 4.93 4.94 4.95 4.100 4.100.1 \
                    4.101 4.101.1 4.102 4.102.1 4.103 4.103.1 4.104 4.104.1 4.105 4.105.1 4.106 \
                    4.106.1 4.107 4.108 4.110 4.111 4.112 4.201 4.202 4.203 4.204 4.205 5 6.1 \
                    6.2 7.1 7.2 7.3 8.1";
        for suffix in jpeg.chain(rest.split_whitespace().map(str::to_owned)) {
            let uid = format!("1.2.840.10008.1.2.{suffix}");
            assert!(TransferSyntax::lookup(&uid).is_some(), "{uid}");
        }
    }

    #[test]
    fn every_uid_is_valid_and_stands_once() {
        let mut seen = HashSet::new();
        for entry in TransferSyntax::known() {
            assert_eq!(uid(entry.uid).as_str(), entry.uid);
            assert!(seen.insert(entry.uid), "{}", entry.uid);
        }
    }

    #[test]
    fn media_types_name_their_default_first() {
        for (media_type, default) in [
            (OCTET_STREAM, EXPLICIT_LITTLE),
            ("image/jpeg", "1.2.840.10008.1.2.4.70"),
            ("image/dicom-rle", "1.2.840.10008.1.2.5"),
            ("image/jls", "1.2.840.10008.1.2.4.80"),
            ("image/jp2", "1.2.840.10008.1.2.4.90"),
            ("image/jpx", "1.2.840.10008.1.2.4.92"),
            ("image/jphc", "1.2.840.10008.1.2.4.201"),
            ("image/jxl", "1.2.840.10008.1.2.4.110"),
            ("video/mpeg", "1.2.840.10008.1.2.4.101"),
            ("video/mp4", "1.2.840.10008.1.2.4.102"),
            ("video/H265", "1.2.840.10008.1.2.4.107"),
        ] {
            let first = TransferSyntax::with_media_type(media_type).next().unwrap();
            assert_eq!(first.uid, default, "{media_type}");
        }
    }

    #[test]
    fn an_unknown_syntax_is_explicit_little_endian_and_stays_as_it_is() {
        let entry = TransferSyntax::of(&uid("1.2.3.4"));
        assert_eq!(entry.encoding, Encoding::ExplicitLittle);
        assert_eq!(entry.pixels, PixelForm::Encapsulated);
        assert!(!entry.convertible);
    }

    #[test]
    fn what_needs_no_codec_is_convertible() {
        let convertible: Vec<_> =
            TransferSyntax::known().iter().filter(|e| e.convertible).map(|e| e.uid).collect();
        assert_eq!(
            convertible,
            [
                EXPLICIT_LITTLE,
                IMPLICIT_LITTLE,
                "1.2.840.10008.1.2.1.99",
                EXPLICIT_BIG,
                "1.2.840.10008.1.20"
            ]
        );
    }
}
