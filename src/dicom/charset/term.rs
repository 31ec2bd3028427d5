//! Defined terms of (0008,0005), and what senders write instead.

use super::{
    Charset, CharsetProblem, Kind,
    sets::{Double, G0, G1, Single},
};

/// What one value means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Term {
    /// A set that can stand first, or be designated by its escape sequence.
    Extended {
        g0: G0,
        g1: Option<G1>,
    },
    Utf8,
    Gb18030,
}

pub(super) fn parse(value: &[u8]) -> (Charset, Option<CharsetProblem>) {
    let mut problem = None;
    let mut first = None;
    for (number, value) in value.split(|&byte| byte == b'\\').enumerate() {
        let (term, spelling) = term(value);
        problem = problem.or(spelling);
        let stand_alone = !matches!(term, Term::Extended { .. });
        match first {
            None => first = Some(term),
            // Values after the first announce escape sequences, which are honoured anyway.
            Some(first) if stand_alone || !matches!(first, Term::Extended { .. }) => {
                problem = Some(CharsetProblem::StandAlone);
            }
            Some(_) => {}
        }
        // Eighteen sets exist; more values are no character set.
        if number == 32 {
            problem = Some(CharsetProblem::Unknown);
            break;
        }
    }
    let kind = match first {
        Some(Term::Utf8) => Kind::Utf8,
        Some(Term::Gb18030) => Kind::Gb18030,
        Some(Term::Extended { g0, g1 }) => Kind::Extended { g0, g1 },
        None => return (Charset::DEFAULT, problem),
    };
    (Charset(kind), problem)
}

/// Reads one value: the defined terms, and by their letters and digits alone also `ISO IR 100`,
/// `ISO-IR 192`, `ISO_IR_100`, `utf-8`, `ISO 8859-1` and the like.
fn term(value: &[u8]) -> (Term, Option<CharsetProblem>) {
    let value = value.trim_ascii();
    let value = value.strip_suffix(b"\0").unwrap_or(value).trim_ascii();
    let mut letters = [0; 16];
    let mut length = 0;
    for &byte in value.iter().filter(|byte| byte.is_ascii_alphanumeric()) {
        let Some(place) = letters.get_mut(length) else {
            return (DEFAULT, Some(CharsetProblem::Unknown));
        };
        *place = byte.to_ascii_uppercase();
        length += 1;
    }
    let letters = letters.get(..length).unwrap_or_default();
    let Some((term, number)) = known(letters) else {
        return (DEFAULT, Some(CharsetProblem::Unknown));
    };
    let right = match term {
        _ if value.is_empty() => true,
        Term::Gb18030 => matches!(value, b"GB18030" | b"GBK"),
        Term::Utf8 => value == b"ISO_IR 192",
        Term::Extended { g1: Some(G1::Double(_)), .. } => spelt(value, b"ISO 2022 IR ", number),
        Term::Extended { g0: G0::Ascii, g1: None } if matches!(number, b"87" | b"159") => {
            spelt(value, b"ISO 2022 IR ", number)
        }
        Term::Extended { .. } => {
            spelt(value, b"ISO_IR ", number) || spelt(value, b"ISO 2022 IR ", number)
        }
    };
    (term, if right { None } else { Some(CharsetProblem::Misspelt) })
}

fn spelt(value: &[u8], prefix: &[u8], number: &[u8]) -> bool {
    value.strip_prefix(prefix) == Some(number)
}

const DEFAULT: Term = Term::Extended { g0: G0::Ascii, g1: None };

/// The set that letters and digits name, and its number in the ISO register.
fn known(letters: &[u8]) -> Option<(Term, &[u8])> {
    let number = letters
        .strip_prefix(b"ISO2022IR")
        .or_else(|| letters.strip_prefix(b"ISOIR"))
        .or_else(|| letters.strip_prefix(b"ISO2022"))
        .unwrap_or(letters);
    let single = |set| Term::Extended { g0: G0::Ascii, g1: Some(G1::Single(set)) };
    let double = |set| Term::Extended { g0: G0::Ascii, g1: Some(G1::Double(set)) };
    let term = match number {
        b"" | b"6" | b"ASCII" | b"USASCII" => DEFAULT,
        b"100" | b"LATIN1" | b"ISO88591" => single(Single::Latin1),
        b"101" | b"LATIN2" | b"ISO88592" => single(Single::Latin2),
        b"109" | b"LATIN3" | b"ISO88593" => single(Single::Latin3),
        b"110" | b"LATIN4" | b"ISO88594" => single(Single::Latin4),
        b"144" | b"ISO88595" => single(Single::Cyrillic),
        b"127" | b"ISO88596" => single(Single::Arabic),
        b"126" | b"ISO88597" => single(Single::Greek),
        b"138" | b"ISO88598" => single(Single::Hebrew),
        b"148" | b"LATIN5" | b"ISO88599" => single(Single::Latin5),
        b"203" | b"LATIN9" | b"ISO885915" => single(Single::Latin9),
        b"166" | b"TIS620" => single(Single::Thai),
        b"13" => Term::Extended { g0: G0::JisRoman, g1: Some(G1::Katakana) },
        // Designated into G0 by their escape sequences; by themselves they change nothing.
        b"87" | b"159" => DEFAULT,
        b"149" => double(Double::KsX1001),
        b"58" => double(Double::Gb2312),
        b"192" | b"UTF8" => Term::Utf8,
        b"GB18030" | b"GBK" => Term::Gb18030,
        _ => return None,
    };
    Some((term, number))
}
