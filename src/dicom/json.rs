//! The DICOM JSON Model (PS3.18 Annex F), as bytes appended to one buffer.
//!
//! Owns how a value of each VR is written, and the marker that stands for a BulkDataURI until the
//! base of the URI is known ([`resolve_bulk`]). Holds: what is written is valid UTF-8 and JSON
//! whatever the bytes, and never has `\u0000`, which some stores refuse. Absent: which attributes
//! are written, and their order ([`super::index`]).

mod number;

use std::sync::LazyLock;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    Tag, VR,
    charset::{Charset, Text},
    person_name,
    reader::Endian,
};

/// What precedes the path of a bulk value in metadata that is not resolved yet. No text can forge
/// it: within a JSON string its quotes would be escaped.
const MARKER: &[u8] = b"\"BulkDataURI\":\"@";

/// Made once: an instance is searched in less time than this takes to make.
static FINDER: LazyLock<memchr::memmem::Finder<'static>> =
    LazyLock::new(|| memchr::memmem::Finder::new(MARKER));

/// Writes `"GGGGEEEE":`, the name of an attribute.
pub fn write_tag(out: &mut Vec<u8>, tag: Tag) {
    out.push(b'"');
    push_hex(out, tag);
    out.extend_from_slice(b"\":");
}

/// Writes the eight upper-case hexadecimal digits of a tag.
pub fn push_hex(out: &mut Vec<u8>, Tag(group, element): Tag) {
    let number = u32::from(group) << 16 | u32::from(element);
    for shift in (0..8).rev() {
        let digit = (number >> (shift * 4) & 0xF) as u8;
        out.push(if digit < 10 { b'0' + digit } else { b'A' + digit - 10 });
    }
}

/// The eight upper-case hexadecimal digits of a tag, by which DICOM JSON names attributes (PS3.18
/// §F.2.2).
pub fn name(tag: Tag) -> String {
    let mut name = Vec::with_capacity(8);
    push_hex(&mut name, tag);
    String::from_utf8(name).unwrap_or_default()
}

/// The tag that eight hexadecimal digits name, in any case.
pub fn tag_of(text: &str) -> Option<Tag> {
    let is_hex = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = u32::from_str_radix(text, 16).ok().filter(|_| is_hex)?;
    Some(Tag((number >> 16) as u16, number as u16))
}

/// Writes `{"vr":"XX"`, the beginning of an attribute's object.
pub fn open(out: &mut Vec<u8>, vr: VR) {
    out.extend_from_slice(b"{\"vr\":\"");
    out.extend_from_slice(vr.to_string().as_bytes());
    out.push(b'"');
}

/// Writes the object of an attribute whose value Retrieve Bulkdata has under `path`.
pub fn write_bulk(out: &mut Vec<u8>, vr: VR, path: &str) {
    open(out, vr);
    out.push(b',');
    out.extend_from_slice(MARKER);
    out.extend_from_slice(path.as_bytes());
    out.extend_from_slice(b"\"}");
}

/// Writes the object of an attribute with this value, encoded so. Not for SQ.
pub fn write_value(out: &mut Vec<u8>, vr: VR, value: &[u8], endian: Endian, charset: &Charset) {
    open(out, vr);
    match vr {
        VR::OB | VR::UN => binary(out, value, 1, endian),
        VR::OW => binary(out, value, 2, endian),
        VR::OF | VR::OL => binary(out, value, 4, endian),
        VR::OD | VR::OV => binary(out, value, 8, endian),
        VR::US => numbers(out, value, |out, bytes| number::integer(out, u16_of(bytes, endian))),
        VR::SS => numbers(out, value, |out, bytes| {
            number::integer(out, u16_of(bytes, endian).cast_signed());
        }),
        VR::UL => numbers(out, value, |out, bytes| number::integer(out, u32_of(bytes, endian))),
        VR::SL => numbers(out, value, |out, bytes| {
            number::integer(out, u32_of(bytes, endian).cast_signed());
        }),
        VR::UV => numbers(out, value, |out, bytes| number::integer(out, u64_of(bytes, endian))),
        VR::SV => numbers(out, value, |out, bytes| {
            number::integer(out, u64_of(bytes, endian).cast_signed());
        }),
        VR::FL => numbers(out, value, |out, bytes| {
            number::float(out, f64::from(f32::from_bits(u32_of(bytes, endian))));
        }),
        VR::FD => numbers(out, value, |out, bytes| {
            number::float(out, f64::from_bits(u64_of(bytes, endian)));
        }),
        VR::AT => numbers(out, value, |out, &[a, b, c, d]: &[u8; 4]| {
            out.push(b'"');
            push_hex(out, Tag(u16_of(&[a, b], endian), u16_of(&[c, d], endian)));
            out.push(b'"');
        }),
        VR::DS | VR::IS => texts(out, Charset::DEFAULT.values(value), trim_both, |out, text| {
            if !number::decimal(out, text) {
                write_string(out, &Charset::DEFAULT.decode(text, Text::Plain));
            }
        }),
        VR::PN => texts(out, charset.values(value), trim_name, |out, text| {
            person_name_object(out, &charset.decode(text, Text::PersonName));
        }),
        VR::SH | VR::LO => texts(out, charset.values(value), trim_both, |out, text| {
            write_string(out, &charset.decode(text, Text::Plain));
        }),
        VR::UC => texts(out, charset.values(value), trim_end, |out, text| {
            write_string(out, &charset.decode(text, Text::Plain));
        }),
        VR::ST | VR::LT | VR::UT => texts(out, [value].into_iter(), trim_end, |out, text| {
            write_string(out, &charset.decode(text, Text::Plain));
        }),
        VR::UR => texts(out, [value].into_iter(), trim_end, |out, text| {
            write_string(out, &Charset::DEFAULT.decode(text, Text::Plain));
        }),
        VR::AE | VR::AS | VR::CS | VR::DA | VR::DT | VR::TM | VR::UI => {
            texts(out, Charset::DEFAULT.values(value), trim_both, |out, text| {
                write_string(out, &Charset::DEFAULT.decode(text, Text::Plain));
            });
        }
        VR::SQ => {}
    }
    out.push(b'}');
}

/// Writes a JSON string. NUL, which no DICOM text may hold, becomes U+FFFD.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    // Nearly all text is plain, which is seen many bytes at a time where no loop ends early.
    let is_special = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
    if !bytes.iter().fold(false, |special, byte| special | is_special(*byte)) {
        out.extend_from_slice(bytes);
        out.push(b'"');
        return;
    }
    let mut from = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if !is_special(byte) {
            continue;
        }
        out.extend_from_slice(bytes.get(from..at).unwrap_or_default());
        from = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0 => out.extend_from_slice("\u{FFFD}".as_bytes()),
            _ => {
                let low = if byte & 0xF < 10 { b'0' } else { b'a' - 10 };
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', b'0' + (byte >> 4)]);
                out.push(low + (byte & 0xF));
            }
        }
    }
    out.extend_from_slice(bytes.get(from..).unwrap_or_default());
    out.push(b'"');
}

/// Appends `json` to `out`, its bulk values named by `{base}/{path}{query}`. `base` is the URI of
/// the instance's `…/bulkdata`, without a slash at the end; `query` is empty or begins with `?`.
pub fn resolve_bulk(out: &mut Vec<u8>, json: &[u8], base: &str, query: &str) {
    // URIs have no quotes; but no header that a proxy sent may break the JSON.
    let escaped = |text: &str| {
        let mut quoted = Vec::with_capacity(text.len() + 2);
        write_string(&mut quoted, text);
        quoted
    };
    let (base, query) = (escaped(base), escaped(query));
    let inside = |quoted: &[u8], out: &mut Vec<u8>| {
        out.extend_from_slice(quoted.get(1..quoted.len() - 1).unwrap_or_default());
    };
    let mut rest = json;
    while let Some(found) = FINDER.find(rest) {
        let (before, after) = rest.split_at(found + MARKER.len());
        let (before, _) = before.split_at(before.len() - 1);
        out.extend_from_slice(before);
        inside(&base, out);
        out.push(b'/');
        let end = memchr::memchr(b'"', after).unwrap_or(after.len());
        let (path, after) = after.split_at(end);
        out.extend_from_slice(path);
        inside(&query, out);
        rest = after;
    }
    out.extend_from_slice(rest);
}

/// Whether some value in `json` is named by a URI that is not resolved yet.
pub fn has_bulk(json: &[u8]) -> bool {
    FINDER.find(json).is_some()
}

/// The whole Value Field in little endian, as one base64 string.
fn binary(out: &mut Vec<u8>, value: &[u8], word: usize, endian: Endian) {
    if value.is_empty() {
        return;
    }
    out.extend_from_slice(b",\"InlineBinary\":\"");
    let mut swapped = Vec::new();
    let mut bytes = value;
    if word > 1 && endian == Endian::Big {
        swapped.extend_from_slice(value);
        swapped.chunks_exact_mut(word).for_each(<[u8]>::reverse);
        bytes = &swapped;
    }
    let start = out.len();
    let room = base64::encoded_len(bytes.len(), true).unwrap_or(0);
    out.resize(start + room, 0);
    let target = out.get_mut(start..).unwrap_or_default();
    let written = STANDARD.encode_slice(bytes, target).unwrap_or(0);
    out.truncate(start + written);
    out.push(b'"');
}

/// `,"Value":[…]` with one entry for each whole number of `N` bytes.
fn numbers<const N: usize>(
    out: &mut Vec<u8>,
    value: &[u8],
    write: impl Fn(&mut Vec<u8>, &[u8; N]),
) {
    let (values, _) = value.as_chunks::<N>();
    for (number, bytes) in values.iter().enumerate() {
        out.extend_from_slice(if number == 0 { b",\"Value\":[" } else { b"," });
        write(out, bytes);
    }
    if !values.is_empty() {
        out.push(b']');
    }
}

/// `,"Value":[…]` with one entry for each value, `null` for an empty one; nothing where the only
/// one is empty.
fn texts<'a>(
    out: &mut Vec<u8>,
    values: impl Iterator<Item = &'a [u8]>,
    trim: fn(&[u8]) -> &[u8],
    write: impl Fn(&mut Vec<u8>, &[u8]),
) {
    let start = out.len();
    let mut only_empty = true;
    for (number, value) in values.enumerate() {
        out.extend_from_slice(if number == 0 { b",\"Value\":[" } else { b"," });
        let value = trim(value);
        if value.is_empty() {
            out.extend_from_slice(b"null");
        } else {
            write(out, value);
        }
        only_empty = number == 0 && value.is_empty();
    }
    if only_empty {
        out.truncate(start);
    } else {
        out.push(b']');
    }
}

/// An object of the component groups that are not empty (PS3.18 §F.2.2); `null` without any.
fn person_name_object(out: &mut Vec<u8>, name: &str) {
    let keys = ["Alphabetic", "Ideographic", "Phonetic"];
    let start = out.len();
    for (key, group) in keys.into_iter().zip(person_name::groups(name)) {
        if group.is_empty() {
            continue;
        }
        out.push(if out.len() == start { b'{' } else { b',' });
        out.push(b'"');
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(b"\":");
        write_string(out, group);
    }
    out.extend_from_slice(if out.len() == start { b"null" } else { b"}" });
}

/// Drops what pads at the end: spaces, and NUL where writers know no better. Leading spaces are
/// significant in UC, ST, LT, UT and PN (PS3.5 §6.2).
fn trim_end(value: &[u8]) -> &[u8] {
    let end = value.iter().rposition(|&byte| byte != b' ' && byte != 0);
    end.and_then(|end| value.get(..=end)).unwrap_or_default()
}

/// Drops leading spaces too: they are padding in every other VR (PS3.5 §6.2).
fn trim_both(value: &[u8]) -> &[u8] {
    let start = value.iter().position(|&byte| byte != b' ').unwrap_or(value.len());
    trim_end(value.get(start..).unwrap_or_default())
}

/// A name of nothing but empty component groups is empty.
fn trim_name(value: &[u8]) -> &[u8] {
    let blank = value.iter().all(|byte| matches!(byte, b'=' | b' ' | 0));
    if blank { &[] } else { trim_end(value) }
}

fn u16_of(bytes: &[u8; 2], endian: Endian) -> u16 {
    match endian {
        Endian::Little => u16::from_le_bytes(*bytes),
        Endian::Big => u16::from_be_bytes(*bytes),
    }
}

fn u32_of(bytes: &[u8; 4], endian: Endian) -> u32 {
    match endian {
        Endian::Little => u32::from_le_bytes(*bytes),
        Endian::Big => u32::from_be_bytes(*bytes),
    }
}

fn u64_of(bytes: &[u8; 8], endian: Endian) -> u64 {
    match endian {
        Endian::Little => u64::from_le_bytes(*bytes),
        Endian::Big => u64::from_be_bytes(*bytes),
    }
}

#[cfg(test)]
mod tests;
