//! Attributes of what was read: values of each VR in little endian (PS3.5 §6.2), in UTF-8.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{CHARACTER_SET, Element, Flaw, Value};
use crate::dicom::{
    Tag, VR,
    json::tag_of,
    model::{Attribute, Value as Scalar},
    reader::vr,
};

/// The value of (0008,0005) of everything that is written here.
pub(super) const UTF_8: &[u8] = b"ISO_IR 192";
/// Most characters of DS and IS (PS3.5 §6.2).
const DECIMAL: usize = 16;
const INTEGER: usize = 12;

/// The attributes of a data set, ascending; of each tag the first.
pub(super) fn elements(attributes: Vec<Attribute>, flaw: &mut Option<Flaw>) -> Vec<Element> {
    let mut elements = Vec::with_capacity(attributes.len());
    for attribute in attributes {
        let tag = attribute.tag;
        match element(attribute, flaw) {
            Ok(element) => elements.extend(element),
            Err(what) => _ = flaw.get_or_insert(Flaw { tag, what }),
        }
    }
    order(&mut elements, flaw);
    elements
}

/// `None` where the attribute does not belong into a data set.
fn element(attribute: Attribute, flaw: &mut Option<Flaw>) -> Result<Option<Element>, &'static str> {
    const KIND: &str = "has a value of a kind that its vr does not allow";
    // What else its object has, a keyword for example, is passed over.
    let Attribute { tag, vr, values, inline, uri, has_more: _, flaw: own } = attribute;
    if let Some(what) = own {
        flaw.get_or_insert(Flaw { tag, what });
    }
    if tag.element() == 0 || matches!(tag.group(), 0x0000 | 0x0002) {
        return Ok(None);
    }
    if matches!(tag.group(), 0x0001 | 0x0003 | 0x0005 | 0x0007 | 0xFFFE | 0xFFFF) {
        return Err("cannot be an attribute (PS3.5 §7.1)");
    }
    let vr = vr.ok_or("has no vr, or one that is none")?;
    if vr::of_public(tag).is_some_and(|known| vr != VR::UN && Kind::of(vr) != Kind::of(known)) {
        return Err("has a vr of another kind than in PS3.6");
    }
    // `[]` is as good as nothing for every VR.
    let told = [!values.is_empty(), uri.is_some(), inline.is_some()];
    if told.into_iter().filter(|told| *told).count() > 1 {
        return Err("has more than one kind of value");
    }
    let value = match (uri, inline) {
        (None, None) if vr == VR::SQ => Value::Items(items(values, flaw).ok_or(KIND)?),
        (None, None) if values.is_empty() => Value::Bytes(Vec::new()),
        (None, None) => Value::Bytes(encode(vr, values)?),
        (Some(uri), _) if may_be_bulk(vr) && !uri.is_empty() => Value::Bulk(uri),
        (_, Some(inline)) if matches!(Kind::of(vr), Kind::Binary | Kind::Number) => {
            Value::Bytes(binary(vr, &inline)?)
        }
        _ => return Err(KIND),
    };
    Ok(Some(Element { tag, vr, value }))
}

/// The items of a sequence; `None` where there is something else among them.
fn items(values: Vec<Scalar>, flaw: &mut Option<Flaw>) -> Option<Vec<Vec<Element>>> {
    let item = |value| match value {
        Scalar::Item(attributes) => Some(elements(attributes, flaw)),
        Scalar::Empty => Some(Vec::new()),
        _ => None,
    };
    values.into_iter().map(item).collect()
}

#[derive(PartialEq, Eq)]
enum Kind {
    Items,
    Text,
    Number,
    Binary,
}

impl Kind {
    fn of(vr: VR) -> Self {
        match vr {
            VR::SQ => Self::Items,
            VR::OB | VR::OD | VR::OF | VR::OL | VR::OV | VR::OW | VR::UN => Self::Binary,
            _ if vr::swap_unit(vr) > 1 => Self::Number,
            _ => Self::Text,
        }
    }
}

/// Whether values of this VR may come beside the metadata (PS3.18 §F.2.2).
fn may_be_bulk(vr: VR) -> bool {
    let texts = [VR::DS, VR::IS, VR::LT, VR::ST, VR::UC, VR::UT];
    texts.contains(&vr) || vr != VR::AT && !matches!(Kind::of(vr), Kind::Items | Kind::Text)
}

fn binary(vr: VR, base64: &str) -> Result<Vec<u8>, &'static str> {
    let bytes = STANDARD.decode(base64.trim()).map_err(|_| "is not base64 (RFC 4648 §4)")?;
    if bytes.len() % vr::swap_unit(vr) != 0 {
        return Err("is not a whole number of values of its vr");
    }
    Ok(bytes)
}

/// The values of an attribute that is no sequence.
fn encode(vr: VR, values: Vec<Scalar>) -> Result<Vec<u8>, &'static str> {
    match vr {
        VR::US => numbers(values, |text| text.parse().ok().map(u16::to_le_bytes)),
        VR::SS => numbers(values, |text| text.parse().ok().map(i16::to_le_bytes)),
        VR::UL => numbers(values, |text| text.parse().ok().map(u32::to_le_bytes)),
        VR::SL => numbers(values, |text| text.parse().ok().map(i32::to_le_bytes)),
        VR::UV => numbers(values, |text| text.parse().ok().map(u64::to_le_bytes)),
        VR::SV => numbers(values, |text| text.parse().ok().map(i64::to_le_bytes)),
        VR::FL => numbers(values, |text| {
            let number: f32 = text.parse().ok()?;
            (number.is_finite() || names_no_number(text)).then(|| number.to_le_bytes())
        }),
        VR::FD => numbers(values, |text| {
            let number: f64 = text.parse().ok()?;
            (number.is_finite() || names_no_number(text)).then(|| number.to_le_bytes())
        }),
        VR::AT => numbers(values, |text| {
            let Tag(group, element) = tag_of(text)?;
            let [a, b] = group.to_le_bytes();
            let [c, d] = element.to_le_bytes();
            Some([a, b, c, d])
        }),
        VR::OB | VR::OD | VR::OF | VR::OL | VR::OV | VR::OW | VR::UN | VR::SQ => {
            Err("has a value of a kind that its vr does not allow")
        }
        _ => texts(vr, values),
    }
}

/// NaN and infinities have no digits.
fn names_no_number(text: &str) -> bool {
    ["NaN", "Infinity", "-Infinity"].contains(&text)
}

fn numbers<const N: usize>(
    values: Vec<Scalar>,
    parse: impl Fn(&str) -> Option<[u8; N]>,
) -> Result<Vec<u8>, &'static str> {
    let mut out = Vec::with_capacity(N * values.len());
    for value in values {
        let bytes = match value {
            Scalar::Number(text) | Scalar::Text(text) => parse(text.trim()),
            Scalar::Empty | Scalar::Name(_) | Scalar::Item(_) => None,
        };
        out.extend_from_slice(&bytes.ok_or("has a value that its vr cannot hold")?);
    }
    Ok(out)
}

fn texts(vr: VR, values: Vec<Scalar>) -> Result<Vec<u8>, &'static str> {
    let single = matches!(vr, VR::ST | VR::LT | VR::UT | VR::UR);
    if single && values.len() > 1 {
        return Err("has several values, which its vr does not allow");
    }
    let mut out = Vec::new();
    for (number, value) in values.into_iter().enumerate() {
        if number > 0 {
            out.push(b'\\');
        }
        let text = text(vr, value)?;
        let own_charset =
            matches!(vr, VR::SH | VR::LO | VR::UC | VR::PN | VR::ST | VR::LT | VR::UT);
        if text.contains('\0') || !single && text.contains('\\') || !own_charset && !text.is_ascii()
        {
            return Err("has characters that its vr does not allow");
        }
        out.extend_from_slice(text.as_bytes());
    }
    Ok(out)
}

fn text(vr: VR, value: Scalar) -> Result<String, &'static str> {
    match (vr, value) {
        (_, Scalar::Empty) => Ok(String::new()),
        (VR::PN, Scalar::Item(none)) if none.is_empty() => Ok(String::new()),
        (VR::PN, Scalar::Name(groups)) => {
            if groups.iter().any(|group| group.contains('=')) {
                return Err("has characters that its vr does not allow");
            }
            Ok(groups.join("=").trim_end_matches('=').to_owned())
        }
        (_, Scalar::Name(_) | Scalar::Item(_)) => {
            Err("has a value of a kind that its vr does not allow")
        }
        (VR::DS, Scalar::Number(digits)) => short_decimal(digits),
        (VR::IS, Scalar::Number(text)) | (VR::IS, Scalar::Text(text)) => {
            let trimmed = text.trim_matches([' ', '\0']);
            let fits = trimmed.len() <= INTEGER && trimmed.parse::<i64>().is_ok();
            if fits || trimmed.is_empty() { Ok(text) } else { Err("is not an integer string") }
        }
        (VR::DS, Scalar::Text(text)) => {
            let trimmed = text.trim_matches([' ', '\0']);
            let digits = |byte: u8| byte.is_ascii_digit() || b"+-.eE".contains(&byte);
            let fits = trimmed.bytes().all(digits) && trimmed.parse::<f64>().is_ok();
            if fits || trimmed.is_empty() { Ok(text) } else { Err("is not a decimal string") }
        }
        (_, Scalar::Text(text)) => Ok(text),
        (_, Scalar::Number(_)) => Err("has a value of a kind that its vr does not allow"),
    }
}

/// A number as DS has it: its digits, or as many of them as fit.
fn short_decimal(digits: String) -> Result<String, &'static str> {
    if digits.len() <= DECIMAL {
        return Ok(digits);
    }
    let number: f64 = digits.parse().map_err(|_| "is not a decimal string")?;
    // Small numbers have few digits where they are written out.
    let is_small = number != 0.0 && number.abs() < 1e-3;
    let short = |precision| {
        let plain = (!is_small).then(|| format!("{number:.precision$}"));
        let exponent = format!("{number:.precision$e}");
        let texts = [Some(number.to_string()), plain, Some(exponent)];
        texts.into_iter().flatten().find(|text| text.len() <= DECIMAL)
    };
    // More digits first; the exponent of the longest number has five characters.
    let found = (0..=DECIMAL).rev().find_map(short).filter(|_| number.is_finite());
    found.ok_or("is not a decimal string")
}

/// Sorts attributes, and keeps the first of each tag.
fn order(elements: &mut Vec<Element>, flaw: &mut Option<Flaw>) {
    elements.sort_by_key(|element| element.tag);
    elements.dedup_by(|next, first| {
        let repeated = next.tag == first.tag;
        if repeated {
            flaw.get_or_insert(Flaw { tag: next.tag, what: "occurs more than once" });
        }
        repeated
    });
}

/// Has each (0008,0005) say UTF-8, and returns whether there is text that needs it.
pub(super) fn say_utf8(elements: &mut [Element]) -> bool {
    let mut needed = false;
    for Element { tag, vr, value } in elements {
        match value {
            Value::Bytes(bytes) if *tag == CHARACTER_SET => *bytes = UTF_8.to_vec(),
            Value::Bytes(bytes) => needed |= Kind::of(*vr) == Kind::Text && !bytes.is_ascii(),
            Value::Items(items) => {
                needed = items.iter_mut().fold(needed, |needed, item| say_utf8(item) | needed);
            }
            // Text that comes beside the metadata is in UTF-8 as well.
            Value::Bulk(_) => needed |= Kind::of(*vr) == Kind::Text,
        }
    }
    needed
}
