//! DICOM JSON (PS3.18 Annex F) in.

use super::{
    Composition, Element, Flaw, Malformed,
    build::{self, Content, Scalar},
    scan::{Room, Scanner, tag_of},
};
use crate::dicom::{Tag, VR};

const GROUPS: [&str; 3] = ["Alphabetic", "Ideographic", "Phonetic"];
/// What a flaw is told of that has no attribute.
const NOWHERE: Tag = Tag(0, 0);

/// Reads metadata: an array of data sets, or one of them.
///
/// # Errors
/// [`Malformed`] where the text is not JSON, not of objects, or takes more than `room` bytes to
/// hold.
pub fn read(json: &[u8], depth: u16, room: u64) -> Result<Vec<Composition>, Malformed> {
    // Names are objects too, below the deepest item.
    let depth = depth.saturating_add(1);
    let mut reader = Reader { scanner: Scanner::new(json)?, room: Room::new(room), flaw: None };
    let mut found = Vec::new();
    if reader.scanner.eat(b'[') {
        let mut first = true;
        while reader.scanner.more(b']', first)? {
            first = false;
            found.push(reader.data_set(depth)?);
        }
    } else {
        found.push(reader.data_set(depth)?);
    }
    reader.scanner.end()?;
    Ok(found)
}

struct Reader<'a> {
    scanner: Scanner<'a>,
    room: Room,
    /// The first flaw of the data set that is being read.
    flaw: Option<Flaw>,
}

/// An entry of `Value`.
enum Entry {
    Scalar(Scalar),
    Item(Vec<Element>),
    /// Something that no VR has.
    Other,
}

impl Reader<'_> {
    fn note(&mut self, tag: Tag, what: &'static str) {
        self.flaw.get_or_insert(Flaw { tag, what });
    }

    fn take(&mut self, bytes: usize) -> Result<(), Malformed> {
        self.room.take(bytes).map_err(|what| self.scanner.error(what))
    }

    fn data_set(&mut self, depth: u16) -> Result<Composition, Malformed> {
        self.scanner.expect(b'{', "a data set must stand here")?;
        self.take(size_of::<Composition>())?;
        let mut elements = Vec::new();
        let mut first = true;
        while self.scanner.more(b'}', first)? {
            first = false;
            match tag_of(&self.scanner.name()?) {
                Some(tag) => elements.extend(self.attribute(tag, depth)?),
                None => {
                    self.note(NOWHERE, "stands for a member that is no tag");
                    self.scanner.skip()?;
                }
            }
        }
        Ok(Composition::new(elements, self.flaw.take()))
    }

    /// The object of an attribute. `depth`: levels of items that may follow.
    fn attribute(&mut self, tag: Tag, depth: u16) -> Result<Option<Element>, Malformed> {
        if self.scanner.peek() != Some(b'{') {
            self.note(tag, "is not an object");
            self.scanner.skip()?;
            return Ok(None);
        }
        self.scanner.expect(b'{', "")?;
        self.take(2 * size_of::<Element>())?;
        let (mut vr, mut content) = (None, Content::default());
        let mut first = true;
        while self.scanner.more(b'}', first)? {
            first = false;
            let name = self.scanner.name()?;
            match (&*name, self.scanner.peek()) {
                ("vr", Some(b'"')) => vr = self.scanner.string()?.parse::<VR>().ok(),
                ("BulkDataURI", Some(b'"')) => {
                    content.uri = Some(self.scanner.string()?.into_owned());
                }
                ("InlineBinary", Some(b'"')) => {
                    content.inline = Some(self.scanner.string()?.into_owned());
                }
                ("Value", Some(b'[')) => self.values(tag, &mut content, depth)?,
                ("vr" | "BulkDataURI" | "InlineBinary" | "Value", _) => {
                    self.note(tag, "has a member of the wrong type (PS3.18 §F.2)");
                    self.scanner.skip()?;
                }
                _ => self.scanner.skip()?,
            }
        }
        match build::element(tag, vr, content) {
            Ok(element) => Ok(element),
            Err(flaw) => {
                self.flaw.get_or_insert(flaw);
                Ok(None)
            }
        }
    }

    fn values(&mut self, tag: Tag, content: &mut Content, depth: u16) -> Result<(), Malformed> {
        self.scanner.expect(b'[', "")?;
        let (mut scalars, mut items) = (Vec::new(), Vec::new());
        let mut first = true;
        while self.scanner.more(b']', first)? {
            first = false;
            self.take(2 * size_of::<Scalar>())?;
            match self.entry(tag, depth)? {
                Entry::Scalar(scalar) => scalars.push(scalar),
                Entry::Item(item) => items.push(item),
                Entry::Other => {}
            }
        }
        if items.is_empty() {
            content.values = Some(scalars);
            return Ok(());
        }
        // `{}` is an item that is empty, or a name that is.
        content.items = Some(items);
        content.values = Some(scalars);
        Ok(())
    }

    fn entry(&mut self, tag: Tag, depth: u16) -> Result<Entry, Malformed> {
        Ok(match self.scanner.peek() {
            Some(b'"') => Entry::Scalar(Scalar::Text(self.scanner.string()?.into_owned())),
            Some(b'-' | b'0'..=b'9') => {
                let digits = self.scanner.number()?;
                self.take(digits.len())?;
                Entry::Scalar(Scalar::Number(digits.to_owned()))
            }
            Some(b'{') => return self.object(tag, depth),
            Some(b'[') => {
                self.note(tag, "has an array among its values");
                self.scanner.skip()?;
                Entry::Other
            }
            _ => {
                if self.scanner.word()? == "null" {
                    Entry::Scalar(Scalar::Empty)
                } else {
                    self.note(tag, "has a value of a kind that its vr does not allow");
                    Entry::Other
                }
            }
        })
    }

    /// An item, or a person name: its members tell which.
    fn object(&mut self, tag: Tag, depth: u16) -> Result<Entry, Malformed> {
        let Some(below) = depth.checked_sub(1) else {
            self.note(tag, "is nested deeper than limits.element_depth");
            self.scanner.skip()?;
            return Ok(Entry::Other);
        };
        self.scanner.expect(b'{', "")?;
        let (mut elements, mut groups, mut is_name) = (Vec::new(), <[String; 3]>::default(), false);
        let mut first = true;
        while self.scanner.more(b'}', first)? {
            first = false;
            let name = self.scanner.name()?;
            let group = GROUPS.iter().position(|group| *group == name);
            match (tag_of(&name), group.and_then(|at| groups.get_mut(at))) {
                (Some(inner), _) => elements.extend(self.attribute(inner, below)?),
                (None, Some(group)) if self.scanner.peek() == Some(b'"') => {
                    is_name = true;
                    *group = self.scanner.string()?.into_owned();
                }
                (None, known) => {
                    is_name |= known.is_some();
                    if known.is_none() || self.scanner.peek() != Some(b'n') {
                        self.note(tag, "has a value with a member that is no tag");
                    }
                    self.scanner.skip()?;
                }
            }
        }
        if !is_name {
            build::order(&mut elements, &mut self.flaw);
            return Ok(Entry::Item(elements));
        }
        if !elements.is_empty() {
            self.note(tag, "has a value that is a name and an item");
        }
        Ok(Entry::Scalar(Scalar::Name(Box::new(groups))))
    }
}
