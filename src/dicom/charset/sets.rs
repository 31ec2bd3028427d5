//! The coded character sets of PS3.3 Tables C.12-2 to C.12-4, and the escape sequences that
//! designate them.
//!
//! The tables come from encoding_rs, which follows the WHATWG; where that deviates from the ISO
//! registry (C1 characters, ISO 8859-9, a few signs of JIS X 0208) it is corrected here.

use std::sync::LazyLock;

use encoding_rs::Encoding;

/// What G0, bytes 0x21 to 0x7E, can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum G0 {
    /// ISO-IR 6.
    Ascii,
    /// ISO-IR 14: ASCII with a yen sign and an overline.
    JisRoman,
    /// ISO-IR 87 or 159.
    Double(Double),
}

/// What G1, bytes 0xA1 to 0xFF, can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum G1 {
    /// A set of 96 characters of one byte each.
    Single(Single),
    /// ISO-IR 13: half-width katakana.
    Katakana,
    /// ISO-IR 149 or 58.
    Double(Double),
}

/// Sets of single bytes, by ISO registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Single {
    /// ISO-IR 100, Latin alphabet 1.
    Latin1,
    /// ISO-IR 101, Latin alphabet 2.
    Latin2,
    /// ISO-IR 109, Latin alphabet 3.
    Latin3,
    /// ISO-IR 110, Latin alphabet 4.
    Latin4,
    /// ISO-IR 144, Cyrillic.
    Cyrillic,
    /// ISO-IR 127, Arabic.
    Arabic,
    /// ISO-IR 126, Greek.
    Greek,
    /// ISO-IR 138, Hebrew.
    Hebrew,
    /// ISO-IR 148, Latin alphabet 5.
    Latin5,
    /// ISO-IR 203, Latin alphabet 9.
    Latin9,
    /// ISO-IR 166, Thai.
    Thai,
}

/// Sets of two bytes a character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Double {
    /// ISO-IR 87, JIS X 0208.
    Jis208,
    /// ISO-IR 159, JIS X 0212.
    Jis212,
    /// ISO-IR 149, KS X 1001.
    KsX1001,
    /// ISO-IR 58, GB 2312. Its middle dot and dash are those of GBK, as senders mean them.
    Gb2312,
}

/// What an escape sequence designates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Escape {
    /// A set into G0.
    G0(G0),
    /// A set into G1.
    G1(G1),
}

/// The escape sequence at the start of `bytes`, and its length.
pub(super) fn escape(bytes: &[u8]) -> Option<(Escape, usize)> {
    let single = |set| Escape::G1(G1::Single(set));
    let [0x1B, rest @ ..] = bytes else { return None };
    Some(match rest {
        [b'(', b'B', ..] => (Escape::G0(G0::Ascii), 3),
        [b'(', b'J', ..] => (Escape::G0(G0::JisRoman), 3),
        [b')', b'I', ..] => (Escape::G1(G1::Katakana), 3),
        [b'-', b'A', ..] => (single(Single::Latin1), 3),
        [b'-', b'B', ..] => (single(Single::Latin2), 3),
        [b'-', b'C', ..] => (single(Single::Latin3), 3),
        [b'-', b'D', ..] => (single(Single::Latin4), 3),
        [b'-', b'F', ..] => (single(Single::Greek), 3),
        [b'-', b'G', ..] => (single(Single::Arabic), 3),
        [b'-', b'H', ..] => (single(Single::Hebrew), 3),
        [b'-', b'L', ..] => (single(Single::Cyrillic), 3),
        [b'-', b'M', ..] => (single(Single::Latin5), 3),
        [b'-', b'T', ..] => (single(Single::Thai), 3),
        [b'-', b'b', ..] => (single(Single::Latin9), 3),
        // `@` designates the 1978 edition, which differs in a few glyphs only.
        [b'$', b'B' | b'@', ..] => (Escape::G0(G0::Double(Double::Jis208)), 3),
        [b'$', b'(', b'D', ..] => (Escape::G0(G0::Double(Double::Jis212)), 4),
        [b'$', b')', b'C', ..] => (Escape::G1(G1::Double(Double::KsX1001)), 4),
        [b'$', b')', b'A', ..] => (Escape::G1(G1::Double(Double::Gb2312)), 4),
        _ => return None,
    })
}

/// Whether a byte is of a set of 94 characters in G0.
pub(super) fn is_94(byte: u8) -> bool {
    (0x21..=0x7E).contains(&byte)
}

/// Whether a byte is a control character of C0 before which the initial sets are active again
/// (PS3.5 §6.1.2.5.3): all but ESC.
pub(super) fn is_c0(byte: u8) -> bool {
    byte < 0x20 && byte != super::ESC
}

/// Whether a byte begins a character of two bytes in Shift JIS.
pub(super) fn shift_jis_lead(byte: u8) -> bool {
    matches!(byte, 0x81..=0x9F | 0xE0..=0xFC)
}

/// Bytes 0xA0 to 0xFF of the sets that are not Latin alphabet 1.
static UPPER: LazyLock<[[char; 96]; 10]> = LazyLock::new(|| {
    let encodings: [&Encoding; 10] = [
        encoding_rs::ISO_8859_2,
        encoding_rs::ISO_8859_3,
        encoding_rs::ISO_8859_4,
        encoding_rs::ISO_8859_5,
        encoding_rs::ISO_8859_6,
        encoding_rs::ISO_8859_7,
        encoding_rs::ISO_8859_8,
        // From 0xA0 on, this is ISO 8859-9.
        encoding_rs::WINDOWS_1254,
        encoding_rs::ISO_8859_15,
        // From 0xA1 on, this is TIS 620.
        encoding_rs::WINDOWS_874,
    ];
    encodings.map(|encoding| {
        let mut table = [char::REPLACEMENT_CHARACTER; 96];
        for (byte, character) in (0xA0..=0xFFu8).zip(&mut table) {
            let (text, _) = encoding.decode_without_bom_handling(std::slice::from_ref(&byte));
            *character = text.chars().next().unwrap_or(char::REPLACEMENT_CHARACTER);
        }
        table
    })
});

impl Single {
    /// The character of a byte above 0x7F: a control character of C1, or one of the set.
    pub(super) fn character(self, byte: u8) -> char {
        let table = match self {
            Self::Latin1 => return char::from(byte),
            Self::Latin2 => 0,
            Self::Latin3 => 1,
            Self::Latin4 => 2,
            Self::Cyrillic => 3,
            Self::Arabic => 4,
            Self::Greek => 5,
            Self::Hebrew => 6,
            Self::Latin5 => 7,
            Self::Latin9 => 8,
            Self::Thai => 9,
        };
        let Some(at) = byte.checked_sub(0xA0) else { return char::from(byte) };
        UPPER
            .get(table)
            .and_then(|upper| upper.get(usize::from(at)))
            .copied()
            .unwrap_or(char::REPLACEMENT_CHARACTER)
    }
}

impl Double {
    /// Decodes whole characters; the high bit of their bytes does not count.
    pub(super) fn decode(self, pairs: &[u8], out: &mut String) {
        let encoding = match self {
            Self::Jis208 | Self::Jis212 => encoding_rs::EUC_JP,
            Self::KsX1001 => encoding_rs::EUC_KR,
            Self::Gb2312 => encoding_rs::GBK,
        };
        let mut run = Vec::with_capacity(pairs.len() + pairs.len() / 2);
        for pair in pairs.chunks_exact(2) {
            let &[first, second] = pair else { continue };
            let (first, second) = (first | 0x80, second | 0x80);
            if self == Self::Jis208
                && let Some(sign) = jis208_sign(first, second)
            {
                out.push_str(&encoding.decode_without_bom_handling(&run).0);
                run.clear();
                out.push(sign);
                continue;
            }
            if self == Self::Jis212 {
                run.push(0x8F);
            }
            run.extend([first, second]);
        }
        out.push_str(&encoding.decode_without_bom_handling(&run).0);
    }
}

/// The signs of JIS X 0208 that the WHATWG maps to Microsoft's look-alikes.
fn jis208_sign(first: u8, second: u8) -> Option<char> {
    Some(match (first, second) {
        (0xA1, 0xC1) => '\u{301C}',
        (0xA1, 0xC2) => '\u{2016}',
        (0xA1, 0xDD) => '\u{2212}',
        (0xA1, 0xF1) => '\u{A2}',
        (0xA1, 0xF2) => '\u{A3}',
        (0xA2, 0xCC) => '\u{AC}',
        _ => return None,
    })
}
