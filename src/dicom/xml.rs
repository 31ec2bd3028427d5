//! The Native DICOM Model (PS3.19 §A.1): DICOM JSON in, one XML document out.
//!
//! Holds: what is written is well-formed XML 1.0 whatever the values hold, in the order of the
//! JSON; numbers keep the digits that the JSON has; nesting costs no stack, and memory is the
//! document's. Absent: reading XML, and which attributes there are.
//!
//! Decisions:
//! - Private elements are written as `gggg00ee` with their creator, and the elements that reserve
//!   blocks are left out, as the model demands. A private element without a creator keeps its tag.
//! - Characters that XML 1.0 cannot hold become U+FFFD.
//! - In another encoding than UTF-8 every character beyond ASCII is a character reference, which
//!   is exact in all of them.

use std::borrow::Cow;

use super::{Tag, attributes, data_set::NotADataSet, json::tag_of};

const NAMESPACE: &str = "http://dicom.nema.org/PS3.19/models/NativeDICOM";

/// Components of a person name, in their order (PS3.5 §6.2.1.1).
const COMPONENTS: [&str; 5] = ["FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix"];

/// How the characters of a document are encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// UTF-8.
    #[default]
    Utf8,
    /// An encoding of that name in which the bytes of ASCII mean ASCII.
    Ascii(&'static str),
}

/// Writes the document for one data set. `json` is as [`super::index`] and [`super::json`] write
/// it: each attribute begins with its `vr`, and a BulkDataURI is taken as it is.
///
/// # Errors
/// [`NotADataSet`]; `out` then ends anywhere.
pub fn write(out: &mut Vec<u8>, json: &[u8], encoding: Encoding) -> Result<(), NotADataSet> {
    let name = match encoding {
        Encoding::Utf8 => "UTF-8",
        Encoding::Ascii(name) => name,
    };
    let mut writer = Writer { out, ascii: encoding != Encoding::Utf8 };
    writer.raw("<?xml version=\"1.0\" encoding=\"");
    writer.text(name);
    writer.raw("\"?>\n<NativeDicomModel xmlns=\"");
    writer.raw(NAMESPACE);
    writer.raw("\" xml:space=\"preserve\">");
    data_sets(&mut writer, &mut Scanner { rest: json })?;
    writer.raw("</NativeDicomModel>");
    Ok(())
}

/// Appends text as character data that may also stand in an attribute between double quotes.
/// With `ascii`, what is beyond it is written by reference.
pub fn escape(out: &mut Vec<u8>, text: &str, ascii: bool) {
    let mut buffer = [0; 4];
    let mut rest = text;
    // Most of it is plain, and copied at once.
    while let Some(at) = rest.bytes().position(|byte| !is_plain(byte)) {
        let (plain, special) = rest.split_at(at);
        out.extend_from_slice(plain.as_bytes());
        let mut chars = special.chars();
        let Some(c) = chars.next() else { break };
        rest = chars.as_str();
        match c {
            '&' => out.extend_from_slice(b"&amp;"),
            '<' => out.extend_from_slice(b"&lt;"),
            '>' => out.extend_from_slice(b"&gt;"),
            '"' => out.extend_from_slice(b"&quot;"),
            '\'' => out.extend_from_slice(b"&#39;"),
            // A reader would turn these into other white space.
            '\r' | '\n' | '\t' => reference(out, c),
            _ => match if is_xml(c) { c } else { char::REPLACEMENT_CHARACTER } {
                c if ascii && !c.is_ascii() => reference(out, c),
                c => out.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes()),
            },
        }
    }
    out.extend_from_slice(rest.as_bytes());
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && !matches!(byte, b'&' | b'<' | b'>' | b'"' | b'\'')
}

fn reference(out: &mut Vec<u8>, c: char) {
    out.extend_from_slice(format!("&#{};", u32::from(c)).as_bytes());
}

/// `Char` of XML 1.0 §2.2.
fn is_xml(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..)
}

struct Writer<'a> {
    out: &'a mut Vec<u8>,
    ascii: bool,
}

impl Writer<'_> {
    fn raw(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn text(&mut self, text: &str) {
        escape(self.out, text, self.ascii);
    }

    /// `<name number="n">`, with numbers from 1.
    fn numbered(&mut self, name: &str, number: usize) {
        self.raw("<");
        self.raw(name);
        if number == 1 {
            self.raw(" number=\"1\">");
        } else {
            self.raw(&format!(" number=\"{number}\">"));
        }
    }

    fn close(&mut self, name: &str) {
        self.raw("</");
        self.raw(name);
        self.raw(">");
    }
}

/// An open data set.
#[derive(Default)]
struct Level {
    /// Private creators by group and block.
    creators: Vec<(u16, u16, String)>,
    /// Its number as an item, from 1.
    number: usize,
}

/// The attributes of a data set and all that it holds.
fn data_sets(out: &mut Writer<'_>, json: &mut Scanner<'_>) -> Result<(), NotADataSet> {
    let mut above: Vec<Level> = Vec::new();
    let mut level = Level::default();
    json.expect(b'{')?;
    loop {
        if json.eat(b'}') {
            let Some(parent) = above.pop() else { break };
            out.close("Item");
            if json.eat(b',') {
                json.expect(b'{')?;
                level = Level { number: level.number + 1, ..Level::default() };
                out.numbered("Item", level.number);
                above.push(parent);
            } else {
                level = parent;
                json.expect(b']')?;
                json.expect(b'}')?;
                out.close("DicomAttribute");
                json.eat(b',');
            }
            continue;
        }
        if attribute(out, json, &mut level)? {
            above.push(std::mem::take(&mut level));
            level.number = 1;
            out.numbered("Item", 1);
        }
        json.eat(b',');
    }
    json.end()
}

/// One attribute, whole; or up to the beginning of its first item, and then `true`.
fn attribute(
    out: &mut Writer<'_>,
    json: &mut Scanner<'_>,
    level: &mut Level,
) -> Result<bool, NotADataSet> {
    let start = out.out.len();
    let tag = tag_of(&json.name()?).ok_or(NotADataSet)?;
    json.expect(b'{')?;
    if json.name()? != "vr" {
        return Err(NotADataSet);
    }
    let vr = json.string()?;
    open(out, tag, &vr, level);
    if json.eat(b',') {
        match &*json.name()? {
            "Value" if vr == "SQ" => {
                json.expect(b'[')?;
                if json.eat(b'{') {
                    return Ok(true);
                }
                json.expect(b']')?;
            }
            "Value" => {
                let first = values(out, json, &vr)?;
                if let (Some(name), true) = (first, reserves(tag) && vr == "LO") {
                    let Tag(group, block) = tag;
                    level.creators.push((group, block, name.into_owned()));
                    out.out.truncate(start);
                    json.expect(b'}')?;
                    return Ok(false);
                }
            }
            "BulkDataURI" => {
                let uri = json.string()?;
                out.raw("<BulkData uri=\"");
                out.text(&uri);
                out.raw("\"/>");
            }
            "InlineBinary" => {
                let base64 = json.string()?;
                out.raw("<InlineBinary>");
                out.text(&base64);
                out.raw("</InlineBinary>");
            }
            _ => return Err(NotADataSet),
        }
    }
    json.expect(b'}')?;
    out.close("DicomAttribute");
    Ok(false)
}

/// Whether the element names the creator of a block (PS3.5 §7.8.1).
fn reserves(Tag(group, element): Tag) -> bool {
    group % 2 == 1 && (0x10..=0xFF).contains(&element)
}

/// The beginning of an attribute.
fn open(out: &mut Writer<'_>, tag: Tag, vr: &str, level: &Level) {
    let Tag(group, element) = tag;
    let creators = &level.creators;
    let creator = creators.iter().find(|(of, block, _)| *of == group && *block == element >> 8);
    let written = if creator.is_some() { Tag(group, element & 0xFF) } else { tag };
    out.raw("<DicomAttribute tag=\"");
    super::json::push_hex(out.out, written);
    out.raw("\" vr=\"");
    out.text(vr);
    if let Some(keyword) = attributes::keyword_of(tag) {
        out.raw("\" keyword=\"");
        out.text(keyword);
    }
    if let Some((_, _, creator)) = creator {
        out.raw("\" privateCreator=\"");
        out.text(creator);
    }
    out.raw("\">");
}

/// The values of an attribute that is no sequence; returns the first text.
fn values<'a>(
    out: &mut Writer<'_>,
    json: &mut Scanner<'a>,
    vr: &str,
) -> Result<Option<Cow<'a, str>>, NotADataSet> {
    let mut first = None;
    let element = if vr == "PN" { "PersonName" } else { "Value" };
    json.expect(b'[')?;
    for number in 1.. {
        if json.eat(b']') {
            break;
        }
        out.numbered(element, number);
        match json.value()? {
            Json::Name(groups) => groups.into_iter().for_each(|group| name_group(out, &group)),
            Json::Text(text) => {
                out.text(&text);
                if number == 1 {
                    first = Some(text);
                }
            }
            Json::Null => {}
        }
        out.close(element);
        json.eat(b',');
    }
    Ok(first)
}

/// A component group of a person name. Components beyond the fifth stay with it.
fn name_group(out: &mut Writer<'_>, (group, name): &(Cow<'_, str>, Cow<'_, str>)) {
    if !["Alphabetic", "Ideographic", "Phonetic"].contains(&&**group) {
        return;
    }
    out.raw("<");
    out.raw(group);
    out.raw(">");
    for (component, text) in COMPONENTS.into_iter().zip(name.splitn(COMPONENTS.len(), '^')) {
        if !text.is_empty() {
            out.raw("<");
            out.raw(component);
            out.raw(">");
            out.text(text);
            out.close(component);
        }
    }
    out.close(group);
}

/// Reads JSON from front to back. Commas are not insisted on: what comes here was made here.
struct Scanner<'a> {
    rest: &'a [u8],
}

/// An entry of `Value`.
enum Json<'a> {
    Null,
    /// A string, or the digits of a number.
    Text(Cow<'a, str>),
    /// The component groups of a person name.
    Name(Vec<(Cow<'a, str>, Cow<'a, str>)>),
}

impl<'a> Scanner<'a> {
    fn eat(&mut self, byte: u8) -> bool {
        self.rest = self.rest.trim_ascii_start();
        match self.rest.split_first() {
            Some((first, rest)) if *first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), NotADataSet> {
        if self.eat(byte) { Ok(()) } else { Err(NotADataSet) }
    }

    fn end(&self) -> Result<(), NotADataSet> {
        if self.rest.trim_ascii().is_empty() { Ok(()) } else { Err(NotADataSet) }
    }

    /// The name of a member and its colon.
    fn name(&mut self) -> Result<Cow<'a, str>, NotADataSet> {
        let name = self.string()?;
        self.expect(b':')?;
        Ok(name)
    }

    fn string(&mut self) -> Result<Cow<'a, str>, NotADataSet> {
        self.expect(b'"')?;
        let mut end = 0;
        let mut plain = true;
        loop {
            let tail = self.rest.get(end..).unwrap_or_default();
            end += memchr::memchr2(b'"', b'\\', tail).ok_or(NotADataSet)?;
            if self.rest.get(end) == Some(&b'"') {
                break;
            }
            plain = false;
            end += 2;
        }
        let (inside, rest) = self.rest.split_at_checked(end).ok_or(NotADataSet)?;
        self.rest = rest.get(1..).unwrap_or_default();
        if plain {
            return std::str::from_utf8(inside).map(Cow::Borrowed).map_err(|_| NotADataSet);
        }
        let quoted = [b"\"", inside, b"\""].concat();
        serde_json::from_slice(&quoted).map(Cow::Owned).map_err(|_| NotADataSet)
    }

    fn value(&mut self) -> Result<Json<'a>, NotADataSet> {
        if self.eat(b'{') {
            let mut groups = Vec::new();
            while !self.eat(b'}') {
                groups.push((self.name()?, self.string()?));
                self.eat(b',');
            }
            return Ok(Json::Name(groups));
        }
        if self.rest.starts_with(b"\"") {
            return self.string().map(Json::Text);
        }
        let end = memchr::memchr2(b',', b']', self.rest).ok_or(NotADataSet)?;
        let (token, rest) = self.rest.split_at(end);
        self.rest = rest;
        match token.trim_ascii() {
            b"null" => Ok(Json::Null),
            [] => Err(NotADataSet),
            token => {
                let digits = |b: &u8| b.is_ascii_digit() || b"+-.eE".contains(b);
                let text = std::str::from_utf8(token).ok().filter(|_| token.iter().all(digits));
                text.map(|text| Json::Text(text.into())).ok_or(NotADataSet)
            }
        }
    }
}

#[cfg(test)]
mod tests;
