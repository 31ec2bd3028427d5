//! The Native DICOM Model (PS3.19 §A.1) in.
//!
//! Private elements are placed in blocks of their creators, which are numbered as they come.
//! Document types and entities of their own are refused; namespaces are not looked at, nor keywords.

use std::collections::{HashMap, HashSet};

use quick_xml::{
    Reader as Events, XmlVersion,
    escape::resolve_predefined_entity,
    events::{BytesStart, Event},
};

use super::{
    Composition, Element, Flaw, Malformed, Value,
    build::{self, Content, Scalar},
    scan::{Room, tag_of},
};
use crate::dicom::{Tag, VR};

/// Attributes of one XML element that are looked at.
const ATTRIBUTES: usize = 16;
/// XML elements inside of one another that mean nothing here.
const SKIPPED: usize = 1024;
const GROUPS: [&[u8]; 3] = [b"Alphabetic", b"Ideographic", b"Phonetic"];
const COMPONENTS: [&[u8]; 5] =
    [b"FamilyName", b"GivenName", b"MiddleName", b"NamePrefix", b"NameSuffix"];

/// Reads one data set.
///
/// # Errors
/// [`Malformed`] where the text is not XML in UTF-8, or no `NativeDicomModel`, or takes more
/// than `room` bytes to hold.
pub fn read(xml: &[u8], depth: u16, room: u64) -> Result<Composition, Malformed> {
    let text = std::str::from_utf8(xml)
        .map_err(|error| Malformed { at: error.valid_up_to(), what: "not UTF-8" })?;
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
    let Some(elements) = reader.document.filter(|_| complete) else {
        return Err(Malformed { at: text.len(), what: "no whole NativeDicomModel" });
    };
    Ok(Composition::new(elements, reader.flaw))
}

/// An XML element that is open.
enum Node {
    /// The document, or an item: attributes, with the creators of private ones.
    DataSet(Vec<(Option<String>, Element)>),
    Attribute(Attribute),
    Value(String),
    Name(Box<[[String; 5]; 3]>),
    /// A component group of the name around, and which of its components is open.
    Group(usize),
    Component(usize, String),
    Inline(String),
    /// A reference to a value.
    Bulk,
}

struct Attribute {
    tag: Tag,
    vr: Option<VR>,
    creator: Option<String>,
    content: Content,
}

struct Reader {
    stack: Vec<Node>,
    /// Open elements that mean nothing here.
    skipped: usize,
    /// Levels of items that may follow.
    depth: u16,
    room: Room,
    flaw: Option<Flaw>,
    document: Option<Vec<Element>>,
}

impl Reader {
    fn start(&mut self, start: &BytesStart<'_>) -> Result<(), &'static str> {
        self.room.take(2 * size_of::<(Option<String>, Element)>())?;
        if self.skipped == 0
            && let Some(node) = self.node(start)?
        {
            self.stack.push(node);
            return Ok(());
        }
        self.skipped += 1;
        if self.skipped > SKIPPED { Err("unknown elements are nested too deep") } else { Ok(()) }
    }

    /// What an element means where it stands; `None`: nothing.
    fn node(&mut self, start: &BytesStart<'_>) -> Result<Option<Node>, &'static str> {
        let name = start.local_name();
        let name = name.as_ref();
        let number = number_of(start);
        let Some(around) = self.stack.last_mut() else {
            if name != b"NativeDicomModel" || self.document.is_some() {
                return Err("the document is no NativeDicomModel");
            }
            return Ok(Some(Node::DataSet(Vec::new())));
        };
        let node = match (around, name) {
            (Node::DataSet(_), b"DicomAttribute") => return self.attribute(start).map(Some),
            (Node::Attribute(attribute), b"Item") => {
                let items = attribute.content.items.get_or_insert_default();
                let (tag, in_order) = (attribute.tag, number == Some(items.len() + 1));
                if !in_order {
                    self.note(tag, "has items that are not numbered from 1");
                }
                let levels = self.stack.iter().filter(|node| matches!(node, Node::DataSet(_)));
                if levels.count() > usize::from(self.depth) {
                    self.note(tag, "is nested deeper than limits.element_depth");
                    return Ok(None);
                }
                Node::DataSet(Vec::new())
            }
            (Node::Attribute(attribute), b"Value" | b"PersonName") => {
                let values = attribute.content.values.get_or_insert_default();
                let (tag, in_order) = (attribute.tag, number == Some(values.len() + 1));
                if !in_order {
                    self.note(tag, "has values that are not numbered from 1");
                }
                if name == b"Value" {
                    Node::Value(String::new())
                } else {
                    Node::Name(Box::default())
                }
            }
            (Node::Attribute(_), b"InlineBinary") => Node::Inline(String::new()),
            (Node::Attribute(attribute), b"BulkData") => {
                let tag = attribute.tag;
                match text_of(start, b"uri") {
                    Some(uri) => attribute.content.uri = Some(uri),
                    None => self.note(tag, "has BulkData without a uri"),
                }
                Node::Bulk
            }
            (Node::Name(_), group) => match GROUPS.iter().position(|known| *known == group) {
                Some(group) => Node::Group(group),
                None => return Ok(None),
            },
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

    fn attribute(&mut self, start: &BytesStart<'_>) -> Result<Node, &'static str> {
        let tag = text_of(start, b"tag").and_then(|text| tag_of(&text));
        let tag = tag.ok_or("a DicomAttribute has no tag")?;
        let vr = text_of(start, b"vr").and_then(|text| text.parse().ok());
        let creator = text_of(start, b"privateCreator").filter(|creator| !creator.is_empty());
        let Tag(group, element) = tag;
        // Its block is not known yet.
        let tag = if creator.is_some() { Tag(group, 0x1000 | element & 0xFF) } else { tag };
        if creator.is_some() && group % 2 == 0 {
            self.note(tag, "has a privateCreator and is not private");
        }
        Ok(Node::Attribute(Attribute { tag, vr, creator, content: Content::default() }))
    }

    fn note(&mut self, tag: Tag, what: &'static str) {
        self.flaw.get_or_insert(Flaw { tag, what });
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
            Node::DataSet(elements) => {
                let mut elements = placed(elements, &mut self.flaw);
                match self.stack.last_mut() {
                    Some(Node::Attribute(attribute)) => {
                        build::order(&mut elements, &mut self.flaw);
                        attribute.content.items.get_or_insert_default().push(elements);
                    }
                    _ => self.document = Some(elements),
                }
            }
            Node::Attribute(Attribute { tag, vr, creator, content }) => {
                match build::element(tag, vr, content) {
                    Ok(Some(element)) => {
                        if let Some(Node::DataSet(elements)) = self.stack.last_mut() {
                            elements.push((creator, element));
                        }
                    }
                    Ok(None) => {}
                    Err(flaw) => _ = self.flaw.get_or_insert(flaw),
                }
            }
            Node::Value(text) => {
                let empty = text.is_empty();
                self.value(if empty { Scalar::Empty } else { Scalar::Text(text) });
            }
            Node::Name(groups) => {
                let join = |group: [String; 5]| group.join("^").trim_end_matches('^').to_owned();
                self.value(Scalar::Name(Box::new((*groups).map(join))));
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
                if let Some(Node::Attribute(attribute)) = self.stack.last_mut() {
                    attribute.content.inline = Some(text.split_ascii_whitespace().collect());
                }
            }
            Node::Group(_) | Node::Bulk => {}
        }
    }

    fn value(&mut self, scalar: Scalar) {
        if let Some(Node::Attribute(attribute)) = self.stack.last_mut() {
            attribute.content.values.get_or_insert_default().push(scalar);
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
fn placed(elements: Vec<(Option<String>, Element)>, flaw: &mut Option<Flaw>) -> Vec<Element> {
    let is_private = |tag: Tag| tag.group() % 2 == 1 && tag.element() > 0xFF;
    let taken: HashSet<(u16, u16)> = elements
        .iter()
        .filter(|(creator, _)| creator.is_none())
        .map(|(_, element)| element.tag)
        .map(|tag| (tag.group(), if is_private(tag) { tag.element() >> 8 } else { tag.element() }))
        .collect();
    let mut blocks = HashMap::new();
    for (_, Element { tag: Tag(group, block), value, .. }) in &elements {
        // Writers that name creators twice.
        if group % 2 == 1
            && (0x10..=0xFF).contains(block)
            && let Value::Bytes(name) = value
        {
            blocks.insert((*group, String::from_utf8_lossy(name).into_owned()), *block);
        }
    }
    let mut next = HashMap::new();
    let mut all = Vec::with_capacity(elements.len());
    for (creator, mut element) in elements {
        if let Some(creator) = creator {
            let Tag(group, low) = element.tag;
            let block = match blocks.get(&(group, creator.clone())) {
                Some(block) => *block,
                None => {
                    let free = next.get(&group).copied().unwrap_or(0x10);
                    let free = (free..=0xFF).find(|block| !taken.contains(&(group, *block)));
                    let Some(block) = free else {
                        flaw.get_or_insert(Flaw { tag: element.tag, what: "finds no free block" });
                        continue;
                    };
                    next.insert(group, block + 1);
                    let (vr, value) = (VR::LO, Value::Bytes(creator.clone().into_bytes()));
                    all.push(Element { tag: Tag(group, block), vr, value });
                    blocks.insert((group, creator), block);
                    block
                }
            };
            element.tag = Tag(group, block << 8 | low & 0xFF);
        }
        all.push(element);
    }
    all
}
