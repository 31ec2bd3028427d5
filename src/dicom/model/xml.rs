//! The Native DICOM Model (PS3.19 §A.1) in.
//!
//! Private elements are placed in blocks of their creators, which are numbered as they come. Numbers
//! that values leave out stand for empty ones, which some writers do not write. Document types and
//! entities of their own are refused; namespaces are not looked at, nor keywords.

use std::collections::{HashMap, HashSet};

use quick_xml::{
    Reader as Events, XmlVersion,
    escape::resolve_predefined_entity,
    events::{BytesStart, Event},
};

use super::{Attribute, DataSet, GROUPS, Malformed, Room, Value};
use crate::dicom::{Tag, VR, json::tag_of};

/// Attributes of one XML element that are looked at.
const ATTRIBUTES: usize = 16;
/// XML elements inside of one another that mean nothing here.
const SKIPPED: usize = 1024;
/// Most values that numbers may leave out in a row: what is left out takes memory.
pub(super) const LEFT_OUT: usize = 16;
/// What an element of another model is.
const FOREIGN: &str = "has an element that PS3.19 §A.1 does not know";
const COMPONENTS: [&[u8]; 5] =
    [b"FamilyName", b"GivenName", b"MiddleName", b"NamePrefix", b"NameSuffix"];

/// Reads one data set.
///
/// # Errors
/// [`Malformed`] where the text is not XML in UTF-8, or no `NativeDicomModel`, or takes more
/// than `room` bytes to hold.
pub fn read(xml: &[u8], depth: u16, room: u64) -> Result<DataSet, Malformed> {
    let text = std::str::from_utf8(xml)
        .map_err(|error| Malformed { at: error.valid_up_to(), what: "not UTF-8" })?;
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
    let mut events = Events::from_str(text);
    events.config_mut().expand_empty_elements = true;
    let mut reader = Reader {
        stack: Vec::new(),
        skipped: 0,
        depth,
        room: Room::new(room),
        flaw: None,
        document: None,
    };
    loop {
        let at = usize::try_from(events.buffer_position()).unwrap_or(usize::MAX);
        let wrong = |what| Malformed { at, what };
        match events.read_event() {
            Err(_) => return Err(wrong("not well-formed XML")),
            Ok(Event::Eof) => break,
            Ok(Event::Start(start)) => reader.start(&start).map_err(wrong)?,
            Ok(Event::End(_)) => reader.end(),
            Ok(Event::Text(text)) => {
                let text = text.xml10_content().map_err(|_| wrong("not well-formed XML"))?;
                reader.text(&text);
            }
            Ok(Event::CData(text)) => {
                let text = text.xml10_content().map_err(|_| wrong("not well-formed XML"))?;
                reader.text(&text);
            }
            Ok(Event::GeneralRef(reference)) => {
                let unknown = || wrong("a reference to an entity that is not known");
                match reference.resolve_char_ref().map_err(|_| unknown())? {
                    Some(c) => reader.text(c.encode_utf8(&mut [0; 4])),
                    None => {
                        let name = reference.decode().map_err(|_| unknown())?;
                        reader.text(resolve_predefined_entity(&name).ok_or_else(unknown)?);
                    }
                }
            }
            Ok(Event::DocType(_)) => return Err(wrong("a document type is not taken")),
            Ok(Event::Decl(decl)) => {
                let encoding = decl.encoding().and_then(Result::ok);
                let utf8 = encoding.is_none_or(|name| name.eq_ignore_ascii_case(b"utf-8"));
                if !utf8 && !text.is_ascii() {
                    return Err(wrong("not in UTF-8"));
                }
            }
            Ok(Event::Comment(_) | Event::PI(_) | Event::Empty(_)) => {}
        }
    }
    let complete = reader.stack.is_empty() && reader.skipped == 0;
    let Some(attributes) = reader.document.filter(|_| complete) else {
        return Err(Malformed { at: text.len(), what: "no whole NativeDicomModel" });
    };
    Ok(DataSet { attributes, flaw: reader.flaw })
}

/// An attribute, and its creator where it is private and its block is to be found.
type Created = (Option<String>, Attribute);

/// An XML element that is open.
enum Node {
    /// The document, or an item.
    DataSet(Vec<Created>),
    Attribute(Created),
    Value(String),
    Name(Box<[[String; 5]; 3]>),
    /// A component group of the name around, and which of its components is open.
    Group(usize),
    Component(usize, String),
    Inline(String),
    /// A reference to a value.
    Bulk,
}

struct Reader {
    stack: Vec<Node>,
    /// Open elements that mean nothing here.
    skipped: usize,
    /// Levels of items that may follow.
    depth: u16,
    room: Room,
    /// What is wrong where no attribute is open.
    flaw: Option<&'static str>,
    document: Option<Vec<Attribute>>,
}

impl Reader {
    fn start(&mut self, start: &BytesStart<'_>) -> Result<(), &'static str> {
        self.room.take(2 * size_of::<Created>())?;
        if self.skipped == 0 {
            match self.node(start)? {
                Some(node) => {
                    self.stack.push(node);
                    return Ok(());
                }
                None => self.note(FOREIGN),
            }
        }
        self.skipped += 1;
        if self.skipped > SKIPPED { Err("unknown elements are nested too deep") } else { Ok(()) }
    }

    /// What an element means where it stands; `None`: nothing.
    fn node(&mut self, start: &BytesStart<'_>) -> Result<Option<Node>, &'static str> {
        let name = start.local_name();
        let name = name.as_ref();
        let levels = self.stack.iter().filter(|node| matches!(node, Node::DataSet(_))).count();
        let Some(around) = self.stack.last_mut() else {
            if name != b"NativeDicomModel" || self.document.is_some() {
                return Err("the document is no NativeDicomModel");
            }
            return Ok(Some(Node::DataSet(Vec::new())));
        };
        let node = match (around, name) {
            (Node::DataSet(_), b"DicomAttribute") => Node::Attribute(attribute(start)?),
            (Node::Attribute((_, attribute)), b"Item") => {
                if number_of(start) != Some(attribute.values.len() + 1) {
                    attribute.note("has items that are not numbered from 1");
                }
                if levels > usize::from(self.depth) {
                    attribute.note("is nested deeper than limits.element_depth");
                    return Ok(None);
                }
                Node::DataSet(Vec::new())
            }
            (Node::Attribute((_, attribute)), b"Value" | b"PersonName") => {
                let values = &mut attribute.values;
                let before = number_of(start).and_then(|number| number.checked_sub(1));
                match before.filter(|at| (0..=LEFT_OUT).contains(&at.wrapping_sub(values.len()))) {
                    Some(at) => {
                        self.room.take((at - values.len()) * size_of::<Value>())?;
                        values.resize(at, Value::Empty);
                    }
                    None => attribute.note("has values that are not numbered from 1"),
                }
                if name == b"Value" {
                    Node::Value(String::new())
                } else {
                    Node::Name(Box::default())
                }
            }
            (Node::Attribute((_, attribute)), b"InlineBinary") => {
                if attribute.inline.is_some() {
                    attribute.note("has more than one kind of value");
                }
                Node::Inline(String::new())
            }
            (Node::Attribute((_, attribute)), b"BulkData") => {
                match text_of(start, b"uri") {
                    Some(uri) => attribute.uri = Some(uri),
                    None => attribute.note("has BulkData without a uri"),
                }
                Node::Bulk
            }
            (Node::Name(_), group) => {
                match GROUPS.iter().position(|known| known.as_bytes() == group) {
                    Some(group) => Node::Group(group),
                    None => return Ok(None),
                }
            }
            (Node::Group(_), component) => {
                match COMPONENTS.iter().position(|known| *known == component) {
                    Some(component) => Node::Component(component, String::new()),
                    None => return Ok(None),
                }
            }
            _ => return Ok(None),
        };
        Ok(Some(node))
    }

    /// Notes a rule that is broken inside of the innermost attribute.
    fn note(&mut self, what: &'static str) {
        let innermost = self.stack.iter_mut().rev().find_map(|node| match node {
            Node::Attribute((_, attribute)) => Some(attribute),
            _ => None,
        });
        match innermost {
            Some(attribute) => attribute.note(what),
            None => _ = self.flaw.get_or_insert(what),
        }
    }

    fn text(&mut self, text: &str) {
        if self.skipped > 0 {
            return;
        }
        if let Some(Node::Value(held) | Node::Inline(held) | Node::Component(_, held)) =
            self.stack.last_mut()
        {
            held.push_str(text);
        }
    }

    fn end(&mut self) {
        if self.skipped > 0 {
            self.skipped -= 1;
            return;
        }
        let Some(node) = self.stack.pop() else { return };
        match node {
            Node::DataSet(attributes) => {
                let attributes = placed(attributes);
                match self.stack.last_mut() {
                    Some(Node::Attribute((_, around))) => {
                        around.values.push(Value::Item(attributes));
                    }
                    _ => self.document = Some(attributes),
                }
            }
            Node::Attribute((creator, mut attribute)) => {
                numbers(&mut attribute);
                if let Some(Node::DataSet(attributes)) = self.stack.last_mut() {
                    attributes.push((creator, attribute));
                }
            }
            Node::Value(text) => {
                let empty = text.is_empty();
                self.value(if empty { Value::Empty } else { Value::Text(text) });
            }
            Node::Name(groups) => {
                let join = |group: [String; 5]| group.join("^").trim_end_matches('^').to_owned();
                self.value(Value::Name(Box::new((*groups).map(join))));
            }
            Node::Component(at, text) => {
                let mut around = self.stack.iter_mut().rev();
                if let (Some(Node::Group(group)), Some(Node::Name(groups))) =
                    (around.next(), around.next())
                    && let Some(held) = groups.get_mut(*group).and_then(|group| group.get_mut(at))
                {
                    *held = text;
                }
            }
            Node::Inline(text) => {
                if let Some(Node::Attribute((_, attribute))) = self.stack.last_mut() {
                    attribute.inline = Some(text.split_ascii_whitespace().collect());
                }
            }
            Node::Group(_) | Node::Bulk => {}
        }
    }

    fn value(&mut self, value: Value) {
        if let Some(Node::Attribute((_, attribute))) = self.stack.last_mut() {
            attribute.values.push(value);
        }
    }
}

fn attribute(start: &BytesStart<'_>) -> Result<Created, &'static str> {
    let tag = text_of(start, b"tag").and_then(|text| tag_of(&text));
    let tag = tag.ok_or("a DicomAttribute has no tag")?;
    let creator = text_of(start, b"privateCreator").filter(|creator| !creator.is_empty());
    let Tag(group, element) = tag;
    // Its block is not known yet.
    let tag = if creator.is_some() { Tag(group, 0x1000 | element & 0xFF) } else { tag };
    let mut attribute = Attribute::of(tag);
    attribute.vr = text_of(start, b"vr").and_then(|text| text.parse().ok());
    if creator.is_some() && group % 2 == 0 {
        attribute.note("has a privateCreator and is not private");
    }
    Ok((creator, attribute))
}

/// XML has numbers as texts; where DICOM JSON has numbers, they become such.
fn numbers(attribute: &mut Attribute) {
    use VR::{FD, FL, SL, SS, UL, US};
    if !matches!(attribute.vr, Some(FD | FL | SL | SS | UL | US)) {
        return;
    }
    for value in &mut attribute.values {
        if let Value::Text(text) = value
            && serde_json::from_str::<serde_json::Number>(text.trim()).is_ok()
        {
            *value = Value::Number(text.trim().to_owned());
        }
    }
}

/// An XML attribute of an element.
fn text_of(start: &BytesStart<'_>, name: &[u8]) -> Option<String> {
    let mut attributes = start.attributes();
    let mut found = attributes.with_checks(false).take(ATTRIBUTES).flatten();
    let found = found.find(|attribute| attribute.key.as_ref() == name)?;
    Some(found.normalized_value(XmlVersion::Implicit1_0).ok()?.into_owned())
}

fn number_of(start: &BytesStart<'_>) -> Option<usize> {
    text_of(start, b"number")?.trim().parse().ok()
}

/// Puts private elements into blocks of their creators (PS3.5 §7.8.1), the first that are free.
fn placed(attributes: Vec<Created>) -> Vec<Attribute> {
    let is_private = |tag: Tag| tag.group() % 2 == 1 && tag.element() > 0xFF;
    let taken: HashSet<(u16, u16)> = attributes
        .iter()
        .filter(|(creator, _)| creator.is_none())
        .map(|(_, attribute)| attribute.tag)
        .map(|tag| (tag.group(), if is_private(tag) { tag.element() >> 8 } else { tag.element() }))
        .collect();
    let mut blocks = HashMap::new();
    for (_, Attribute { tag: Tag(group, block), values, .. }) in &attributes {
        // Writers that name creators twice.
        if group % 2 == 1
            && (0x10..=0xFF).contains(block)
            && let [Value::Text(name)] = &values[..]
        {
            blocks.insert((*group, name.clone()), *block);
        }
    }
    let mut next = HashMap::new();
    let mut all = Vec::with_capacity(attributes.len());
    for (creator, mut attribute) in attributes {
        if let Some(creator) = creator {
            let Tag(group, low) = attribute.tag;
            let block = match blocks.get(&(group, creator.clone())) {
                Some(block) => *block,
                None => {
                    let free = next.get(&group).copied().unwrap_or(0x10);
                    let free = (free..=0xFF).find(|block| !taken.contains(&(group, *block)));
                    let Some(block) = free else {
                        attribute.note("finds no free block");
                        all.push(attribute);
                        continue;
                    };
                    next.insert(group, block + 1);
                    let mut own = Attribute::of(Tag(group, block));
                    own.vr = Some(VR::LO);
                    own.values.push(Value::Text(creator.clone()));
                    all.push(own);
                    blocks.insert((group, creator), block);
                    block
                }
            };
            attribute.tag = Tag(group, block << 8 | low & 0xFF);
        }
        all.push(attribute);
    }
    all
}
