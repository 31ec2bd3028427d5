//! Numbers in JSON (RFC 8259 §6).

use serde::Serialize;

/// Writes an integer.
pub(super) fn integer(out: &mut Vec<u8>, number: impl Serialize) {
    let start = out.len();
    if serde_json::to_writer(&mut *out, &number).is_err() {
        // Writing to memory does not fail; but no half of a number may stay.
        out.truncate(start);
        out.extend_from_slice(b"null");
    }
}

/// Writes a floating-point number: as short as it reads back the same; as a string where JSON has
/// no number for it (PS3.18 Annex F is silent).
pub(super) fn float(out: &mut Vec<u8>, number: f64) {
    match number {
        _ if number.is_finite() => integer(out, number),
        _ if number.is_nan() => out.extend_from_slice(b"\"NaN\""),
        _ if number > 0.0 => out.extend_from_slice(b"\"Infinity\""),
        _ => out.extend_from_slice(b"\"-Infinity\""),
    }
}

/// Writes the text of a DS or IS as a JSON number with the same digits, and returns whether it is
/// one: JSON has no sign of plus, no leading zeros and no bare decimal point.
pub(super) fn decimal(out: &mut Vec<u8>, text: &[u8]) -> bool {
    let (negative, unsigned) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let (whole, rest) = digits(unsigned);
    let (fraction, rest) = match rest {
        [b'.', rest @ ..] => digits(rest),
        _ => (&[][..], rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return false;
    }
    let exponent = match rest {
        [] => &[][..],
        [b'e' | b'E', exponent @ ..] => {
            let unsigned = match exponent {
                [b'+' | b'-', rest @ ..] => rest,
                _ => exponent,
            };
            if unsigned.is_empty() || !unsigned.iter().all(u8::is_ascii_digit) {
                return false;
            }
            exponent
        }
        _ => return false,
    };
    // What a double cannot hold, parsers refuse or turn into infinity.
    let might_overflow = !exponent.is_empty() || whole.len() > 300;
    if might_overflow && !std::str::from_utf8(text).is_ok_and(is_finite) {
        return false;
    }
    if negative {
        out.push(b'-');
    }
    let significant = whole.iter().position(|&digit| digit != b'0').unwrap_or(whole.len());
    match whole.get(significant..) {
        Some(whole) if !whole.is_empty() => out.extend_from_slice(whole),
        _ => out.push(b'0'),
    }
    if !fraction.is_empty() {
        out.push(b'.');
        out.extend_from_slice(fraction);
    }
    if !exponent.is_empty() {
        out.push(b'e');
        out.extend_from_slice(exponent);
    }
    true
}

fn digits(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at(text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len()))
}

fn is_finite(text: &str) -> bool {
    text.parse::<f64>().is_ok_and(f64::is_finite)
}
