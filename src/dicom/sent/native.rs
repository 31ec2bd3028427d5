//! The Native DICOM Model (PS3.19 §A.1) into DICOM JSON.
//!
//! Holds: what comes out is checked as DICOM JSON is ([`super::json`]); nesting costs no stack, and
//! entities are those that XML itself has. Private attributes get blocks in the order in which their
//! creators appear.

use std::borrow::Cow;

use quick_xml::{
    Reader, XmlVersion,
    events::{BytesStart, Event},
};
use serde_json::{Map, Value};

use super::{Flaw, MAX_DEPTH, VR, data_set};

const SYNTAX: Flaw = Flaw::Syntax("valid XML 1.0");
const MODEL: Flaw = Flaw::Syntax("a NativeDicomModel (PS3.19 §A.1)");

/// Components of a person name, in their order.
const COMPONENTS: [&str; 5] = ["FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix"];

/// Most empty values that numbers may leave out in a row: what is left out takes memory.
const MAX_GAP: usize = 16;

/// A data set that is being read, and the attribute in it.
#[derive(Default)]
struct Open {
    attributes: Map<String, Value>,
    /// Creators by group, each at its block from 0x10.
    creators: Vec<(u16, String)>,
    attribute: Option<Attribute>,
}

struct Attribute {
    name: String,
    vr: String,
    values: Vec<Value>,
    inline: Option<String>,
}

/// What is open inside an attribute.
enum Inside {
    Value(usize),
    Inline,
    Name(usize, Map<String, Value>),
    Group(&'static str, [String; 5]),
    Component(usize),
}

/// Reads one document into a data set, as [`super::json`] does.
///
/// # Errors
/// [`Flaw`].
pub fn read(bytes: &[u8]) -> Result<Map<String, Value>, Flaw> {
    let text = std::str::from_utf8(bytes).map_err(|_| Flaw::Syntax("XML in UTF-8"))?;
    let mut reader = Reader::from_str(text.trim_start_matches('\u{FEFF}'));
    reader.config_mut().expand_empty_elements = true;
    let mut document = Document::default();
    loop {
        match reader.read_event().map_err(|_| SYNTAX)? {
            Event::Start(start) => document.start(&start)?,
            Event::End(end) => document.end(end.local_name().as_ref())?,
            Event::Text(piece) => {
                document.text.push_str(&piece.xml10_content().map_err(|_| SYNTAX)?);
            }
            Event::CData(piece) => {
                document.text.push_str(&piece.xml10_content().map_err(|_| SYNTAX)?);
            }
            Event::GeneralRef(name) => {
                let name = std::str::from_utf8(&name).map_err(|_| SYNTAX)?;
                let text = quick_xml::escape::unescape(&format!("&{name};"))
                    .map_err(|_| SYNTAX)?
                    .into_owned();
                document.text.push_str(&text);
            }
            Event::DocType(_) => return Err(Flaw::Syntax("XML without a document type")),
            // Those are read as a start and an end.
            Event::Empty(_) => return Err(MODEL),
            Event::Decl(_) | Event::Comment(_) | Event::PI(_) => {}
            Event::Eof => break,
        }
    }
    let read = document.read.filter(|_| document.open.is_empty()).ok_or(MODEL)?;
    data_set(read, &mut Vec::new())
}

#[derive(Default)]
struct Document {
    /// From the root to the innermost item.
    open: Vec<Open>,
    inside: Vec<Inside>,
    text: String,
    read: Option<Map<String, Value>>,
}

fn own(start: &BytesStart<'_>, name: &str) -> Result<Option<String>, Flaw> {
    let found = start.try_get_attribute(name).map_err(|_| SYNTAX)?;
    let value =
        found.map(|found| found.normalized_value(XmlVersion::Implicit1_0).map(Cow::into_owned));
    value.transpose().map_err(|_| SYNTAX)
}

/// The place of a value or item, from 0.
fn number(start: &BytesStart<'_>) -> Result<usize, Flaw> {
    let number = own(start, "number")?.and_then(|text| text.parse::<usize>().ok());
    number.and_then(|number| number.checked_sub(1)).ok_or(MODEL)
}

impl Document {
    fn start(&mut self, start: &BytesStart<'_>) -> Result<(), Flaw> {
        self.text.clear();
        let local = start.local_name();
        let name: &[u8] = local.as_ref();
        let Some(open) = self.open.last_mut() else {
            if name != b"NativeDicomModel" || self.read.is_some() {
                return Err(MODEL);
            }
            self.open.push(Open::default());
            return Ok(());
        };
        let Some(attribute) = &mut open.attribute else {
            if name != b"DicomAttribute" {
                return Err(MODEL);
            }
            open.begin(start)?;
            return Ok(());
        };
        let is_names = attribute.vr == "PN";
        match (name, self.inside.last()) {
            (b"Value", None) if attribute.vr != "SQ" && !is_names => {
                self.inside.push(Inside::Value(number(start)?));
            }
            (b"InlineBinary", None) => self.inside.push(Inside::Inline),
            (b"PersonName", None) if is_names => {
                self.inside.push(Inside::Name(number(start)?, Map::new()));
            }
            (b"Item", None) if attribute.vr == "SQ" => {
                // Items come in their order; a gap would be an item of its own.
                if number(start)? != attribute.values.len() || self.open.len() > MAX_DEPTH {
                    return Err(MODEL);
                }
                self.open.push(Open::default());
            }
            (b"BulkData", None) => {
                return Err(Flaw::Syntax("without bulk values, as it has to be (PS3.18 §11.1.1)"));
            }
            (group, Some(Inside::Name(..))) => {
                let known = super::GROUPS.into_iter().find(|known| known.as_bytes() == group);
                self.inside.push(Inside::Group(known.ok_or(MODEL)?, Default::default()));
            }
            (component, Some(Inside::Group(..))) => {
                let known = COMPONENTS.iter().position(|known| known.as_bytes() == component);
                self.inside.push(Inside::Component(known.ok_or(MODEL)?));
            }
            _ => return Err(MODEL),
        }
        Ok(())
    }

    fn end(&mut self, name: &[u8]) -> Result<(), Flaw> {
        let text = std::mem::take(&mut self.text);
        if let Some(inside) = self.inside.pop() {
            return self.leave(inside, text);
        }
        match name {
            b"DicomAttribute" => self.open.last_mut().ok_or(MODEL)?.finish(),
            b"Item" => {
                let item = self.open.pop().ok_or(MODEL)?;
                let parent = self.open.last_mut().and_then(|open| open.attribute.as_mut());
                parent.ok_or(MODEL)?.values.push(Value::Object(item.attributes));
                Ok(())
            }
            _ => {
                self.read = Some(self.open.pop().ok_or(MODEL)?.attributes);
                Ok(())
            }
        }
    }

    /// Puts what was inside an element where it belongs.
    fn leave(&mut self, inside: Inside, text: String) -> Result<(), Flaw> {
        match (inside, self.inside.last_mut()) {
            (Inside::Component(at), Some(Inside::Group(_, components))) => {
                if let Some(component) = components.get_mut(at) {
                    *component = text;
                }
            }
            (Inside::Group(group, components), Some(Inside::Name(_, groups))) => {
                let name = components.join("^");
                groups.insert(group.to_owned(), name.trim_end_matches('^').into());
            }
            (Inside::Name(at, groups), None) => self.put(at, Value::Object(groups))?,
            (Inside::Value(at), None) => self.put(at, Value::String(text))?,
            (Inside::Inline, None) => {
                let attribute = self.open.last_mut().and_then(|open| open.attribute.as_mut());
                let base64 = text.split_ascii_whitespace().collect();
                attribute.ok_or(MODEL)?.inline = Some(base64);
            }
            _ => return Err(MODEL),
        }
        Ok(())
    }

    fn put(&mut self, at: usize, value: Value) -> Result<(), Flaw> {
        let attribute = self.open.last_mut().and_then(|open| open.attribute.as_mut());
        let values = &mut attribute.ok_or(MODEL)?.values;
        // In their order, each number once.
        if at < values.len() || at - values.len() > MAX_GAP {
            return Err(MODEL);
        }
        values.resize(at, Value::Null);
        values.push(value);
        Ok(())
    }
}

impl Open {
    /// Begins an attribute.
    fn begin(&mut self, start: &BytesStart<'_>) -> Result<(), Flaw> {
        let tag = own(start, "tag")?.filter(|tag| tag.len() == 8 && tag.is_ascii()).ok_or(MODEL)?;
        let vr = own(start, "vr")?.ok_or(MODEL)?;
        let name = match own(start, "privateCreator")? {
            None => tag,
            Some(creator) => self.private(&tag, creator)?,
        };
        self.attribute = Some(Attribute { name, vr, values: Vec::new(), inline: None });
        Ok(())
    }

    /// The name of a private attribute, whose block is reserved where it is the first one of its
    /// creator.
    fn private(&mut self, tag: &str, creator: String) -> Result<String, Flaw> {
        let (group, element) = tag.split_at_checked(4).ok_or(MODEL)?;
        let number = u16::from_str_radix(group, 16).map_err(|_| MODEL)?;
        let known = |(of, name): &(u16, String)| *of == number && *name == creator;
        let of_group = |(of, _): &&(u16, String)| *of == number;
        let at = match self.creators.iter().filter(of_group).position(known) {
            Some(at) => at,
            None => {
                let at = self.creators.iter().filter(of_group).count();
                let mut reserved = Map::new();
                reserved.insert("vr".to_owned(), "LO".into());
                reserved.insert("Value".to_owned(), vec![Value::String(creator.clone())].into());
                let name = format!("{group}{:04X}", at + 0x10);
                self.attributes.insert(name, Value::Object(reserved));
                self.creators.push((number, creator));
                at
            }
        };
        let element = element.get(2..).ok_or(MODEL)?;
        if number % 2 == 0 || at > 0xEF {
            return Err(MODEL);
        }
        Ok(format!("{group}{:02X}{element}", at + 0x10))
    }

    /// Ends the attribute that was begun.
    fn finish(&mut self) -> Result<(), Flaw> {
        let Attribute { name, vr, mut values, inline } = self.attribute.take().ok_or(MODEL)?;
        let of: Option<VR> = vr.parse().ok();
        let is_number = |vr| {
            use VR::{FD, FL, SL, SS, UL, US};
            matches!(vr, FD | FL | SL | SS | UL | US)
        };
        if of.is_some_and(is_number) {
            for value in &mut values {
                let Value::String(text) = &*value else { continue };
                // What is no number stays a text, which is refused by its VR.
                if let Ok(number @ Value::Number(_)) = serde_json::from_str(text.trim()) {
                    *value = number;
                }
            }
        }
        let mut attribute = Map::new();
        attribute.insert("vr".to_owned(), vr.into());
        if let Some(inline) = inline {
            attribute.insert("InlineBinary".to_owned(), inline.into());
        }
        if !values.is_empty() {
            attribute.insert("Value".to_owned(), values.into());
        }
        match self.attributes.insert(name, Value::Object(attribute)) {
            Some(_) => Err(Flaw::Syntax("a data set with each attribute once")),
            None => Ok(()),
        }
    }
}
