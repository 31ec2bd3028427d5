//! Specific Character Set (0008,0005): text of a data set into UTF-8 (PS3.3 §C.12.1.1.2, PS3.5
//! §6.1).
//!
//! Owns [`Charset`]. Holds: decoding never fails; bytes that mean nothing become U+FFFD. Absent:
//! padding, and which VRs the character set applies to.
//!
//! Decisions where the standard is silent or senders deviate:
//! - Bytes above 0x7F in the default repertoire are read as ISO 8859-1, as most readers do.
//! - Escape sequences are honoured whether (0008,0005) announced their set or not; one that is
//!   none of the standard's stays in the text.
//! - Delimiters reset to the sets of value 1 (PS3.5 §6.1.2.5.3), except that a designated G1 set
//!   stays where value 1 has none: its bytes could mean nothing else.

mod encode;
mod sets;
mod term;

use std::borrow::Cow;

use sets::{Double, G0, G1};

const ESC: u8 = 0x1B;

/// How the text of a data set or item is encoded: what its (0008,0005) says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charset(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Single-byte sets and code extensions (ISO 2022): what value 1 puts into G0 and G1.
    Extended { g0: G0, g1: Option<G1> },
    /// ISO_IR 192.
    Utf8,
    /// GB18030, and GBK as its subset.
    Gb18030,
}

/// What is wrong with a (0008,0005), whose meaning was guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CharsetProblem {
    /// A term that PS3.3 does not define; the default repertoire stands in.
    #[error("unknown character set; the default repertoire was assumed")]
    Unknown,
    /// A term that is misspelt, but of which only one can be meant.
    #[error("misspelt character set; its meaning was guessed")]
    Misspelt,
    /// GB18030, GBK or ISO_IR 192 beside other values: only the first, or none of them, counts.
    #[error("a character set without code extensions beside others")]
    StandAlone,
}

/// Which characters are delimiters inside a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    /// Every VR but PN.
    Plain,
    /// PN: `^` and `=` delimit components.
    PersonName,
}

impl Charset {
    /// The default repertoire, ISO_IR 6, which also holds for VRs that (0008,0005) does not
    /// concern (AE, CS, DA, …).
    pub const DEFAULT: Self = Self(Kind::Extended { g0: G0::Ascii, g1: None });

    /// The character set that a value of (0008,0005) names.
    pub fn from_value(value: &[u8]) -> (Self, Option<CharsetProblem>) {
        term::parse(value)
    }

    /// The text that `value` encodes. It starts in the state of value 1: pass one value of a
    /// multi-valued attribute, as [`Charset::values`] splits it.
    pub fn decode<'a>(&self, value: &'a [u8], text: Text) -> Cow<'a, str> {
        if value.is_ascii() && !self.has_own_meaning(value) {
            // Valid UTF-8, being ASCII.
            return String::from_utf8_lossy(value);
        }
        match self.0 {
            Kind::Utf8 => String::from_utf8_lossy(value),
            Kind::Gb18030 => encoding_rs::GB18030.decode_without_bom_handling(value).0,
            Kind::Extended { g0, g1 } => Cow::Owned(Decoder::new(g0, g1, text).decode(value)),
        }
    }

    /// Splits the value of a multi-valued attribute at its delimiters: bytes 0x5C that are not
    /// part of a character of several bytes (PS3.5 §6.1.2.5.3, PS3.18 §F.2.3).
    pub fn values<'a>(&self, value: &'a [u8]) -> Values<'a> {
        Values { charset: *self, rest: Some(value) }
    }

    /// Whether ASCII bytes may mean something else.
    fn has_own_meaning(&self, value: &[u8]) -> bool {
        match self.0 {
            Kind::Utf8 | Kind::Gb18030 => false,
            Kind::Extended { g0: G0::Ascii, .. } => memchr::memchr(ESC, value).is_some(),
            Kind::Extended { .. } => memchr::memchr3(ESC, b'\\', b'~', value).is_some(),
        }
    }

    /// Where the first delimiter is.
    fn delimiter(&self, value: &[u8]) -> Option<usize> {
        let first = memchr::memchr(b'\\', value)?;
        let leads: fn(u8) -> bool = match self.0 {
            Kind::Utf8 => return Some(first),
            Kind::Gb18030 => |byte| matches!(byte, 0x81..=0xFE),
            Kind::Extended { g0: G0::JisRoman, .. } => sets::shift_jis_lead,
            Kind::Extended { .. } if memchr::memchr(ESC, value).is_none() => return Some(first),
            Kind::Extended { .. } => |_| false,
        };
        let mut double = false;
        let mut at = 0;
        while let Some(&byte) = value.get(at) {
            let rest = value.get(at..).unwrap_or_default();
            if let Some((escape, length)) = sets::escape(rest) {
                match escape {
                    sets::Escape::G0(set) => double = matches!(set, G0::Double(_)),
                    sets::Escape::G1(_) => {}
                }
                at += length;
            } else if sets::is_c0(byte) {
                double = false;
                at += 1;
            } else if double && sets::is_94(byte) {
                let whole = rest.get(1).copied().is_some_and(sets::is_94);
                at += if whole { 2 } else { 1 };
            } else if leads(byte) {
                at += 2;
            } else if byte == b'\\' {
                return Some(at);
            } else {
                at += 1;
            }
        }
        None
    }
}

/// The values of a multi-valued attribute, in order; at least one.
#[derive(Clone, Debug)]
pub struct Values<'a> {
    charset: Charset,
    rest: Option<&'a [u8]>,
}

impl<'a> Iterator for Values<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest.take()?;
        let Some((value, after)) = self.charset.delimiter(rest).and_then(|at| {
            let (value, after) = rest.split_at_checked(at)?;
            Some((value, after.get(1..)?))
        }) else {
            return Some(rest);
        };
        self.rest = Some(after);
        Some(value)
    }
}

/// Decodes one value with code extensions: an ISO 2022 machine of two code elements.
struct Decoder {
    initial: (G0, Option<G1>),
    g0: G0,
    g1: Option<G1>,
    text: Text,
    out: String,
}

impl Decoder {
    fn new(g0: G0, g1: Option<G1>, text: Text) -> Self {
        Self { initial: (g0, g1), g0, g1, text, out: String::new() }
    }

    fn decode(mut self, value: &[u8]) -> String {
        self.out.reserve(value.len() + value.len() / 2);
        let mut rest = value;
        while let Some(&byte) = rest.first() {
            let used = match byte {
                ESC => self.escape(rest),
                0x21..=0x7E => self.graphic_left(byte, rest),
                0..=0x20 | 0x7F => {
                    self.out.push(char::from(byte));
                    if sets::is_c0(byte) {
                        self.reset();
                    }
                    1
                }
                0x80.. => self.graphic_right(byte, rest),
            };
            rest = rest.get(used..).unwrap_or_default();
        }
        self.out
    }

    fn escape(&mut self, rest: &[u8]) -> usize {
        let Some((escape, length)) = sets::escape(rest) else {
            self.out.push(char::from(ESC));
            return 1;
        };
        match escape {
            sets::Escape::G0(set) => self.g0 = set,
            sets::Escape::G1(set) => self.g1 = Some(set),
        }
        length
    }

    /// Bytes 0x21 to 0x7E: G0.
    fn graphic_left(&mut self, byte: u8, rest: &[u8]) -> usize {
        match self.g0 {
            G0::Double(set) => return self.double(set, rest, sets::is_94),
            G0::JisRoman if byte == b'\\' => self.out.push('¥'),
            G0::JisRoman if byte == b'~' => self.out.push('\u{203E}'),
            G0::JisRoman | G0::Ascii => self.out.push(char::from(byte)),
        }
        let name = self.text == Text::PersonName;
        if byte == b'\\' || name && matches!(byte, b'^' | b'=') {
            self.reset();
        }
        1
    }

    /// Bytes 0x80 to 0xFF: C1 control characters, and G1.
    fn graphic_right(&mut self, byte: u8, rest: &[u8]) -> usize {
        match self.g1 {
            None if self.g0 == G0::JisRoman => return self.shift_jis(rest),
            None => self.out.push(char::from(byte)),
            Some(G1::Katakana) => return self.shift_jis(rest),
            Some(G1::Single(set)) => self.out.push(set.character(byte)),
            Some(G1::Double(set)) if byte >= 0xA1 => {
                return self.double(set, rest, |byte| byte >= 0xA1);
            }
            Some(G1::Double(_)) => self.out.push(char::REPLACEMENT_CHARACTER),
        }
        1
    }

    /// A run of characters of two bytes each, both `in_set`.
    fn double(&mut self, set: Double, rest: &[u8], in_set: fn(u8) -> bool) -> usize {
        let run = rest.iter().position(|&byte| !in_set(byte)).unwrap_or(rest.len());
        let pairs = rest.get(..run & !1).unwrap_or_default();
        set.decode(pairs, &mut self.out);
        if run % 2 == 1 {
            // Half a character.
            self.out.push(char::REPLACEMENT_CHARACTER);
        }
        run
    }

    /// Half-width katakana of JIS X 0201. Shift JIS is its superset: who declares the one and
    /// sends the other is read too.
    fn shift_jis(&mut self, rest: &[u8]) -> usize {
        let used = match rest {
            [lead, trail, ..] if sets::shift_jis_lead(*lead) && *trail >= 0x40 => 2,
            _ => 1,
        };
        let character = rest.get(..used).unwrap_or_default();
        self.out.push_str(&encoding_rs::SHIFT_JIS.decode_without_bom_handling(character).0);
        used
    }

    fn reset(&mut self) {
        self.g0 = self.initial.0;
        self.g1 = self.initial.1.or(self.g1);
    }
}

#[cfg(test)]
mod tests;
