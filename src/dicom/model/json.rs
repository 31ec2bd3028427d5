//! DICOM JSON (PS3.18 Annex F) in.

use super::{Attribute, DataSet, GROUPS, Malformed, Room, Value, scan::Scanner};
use crate::dicom::{Tag, VR, json::tag_of};

/// What an item is where none may be.
const TOO_DEEP: &str = "is nested deeper than limits.element_depth";
/// The members of an attribute (PS3.18 §F.2.2).
const MEMBERS: [&str; 4] = ["vr", "Value", "BulkDataURI", "InlineBinary"];

/// Reads an array of data sets, or one of them, each of which becomes what `made` makes of it before
/// the next one is read.
///
/// # Errors
/// [`Malformed`] where the text is not JSON, not of objects, or takes more than `room` bytes to
/// hold.
pub fn read<T>(
    json: &[u8],
    depth: u16,
    room: u64,
    mut made: impl FnMut(DataSet) -> T,
) -> Result<Vec<T>, Malformed> {
    let mut reader = Reader { scanner: Scanner::new(json)?, room: Room::new(room) };
    let mut found = Vec::new();
    if reader.scanner.eat(b'[') {
        let mut first = true;
        while reader.scanner.more(b']', first)? {
            first = false;
            found.push(made(reader.data_set(depth)?));
            reader.take(2 * size_of::<T>())?;
        }
    } else {
        found.push(made(reader.data_set(depth)?));
    }
    reader.scanner.end()?;
    Ok(found)
}

struct Reader<'a> {
    scanner: Scanner<'a>,
    room: Room,
}

impl Reader<'_> {
    fn take(&mut self, bytes: usize) -> Result<(), Malformed> {
        self.room.take(bytes).map_err(|what| self.scanner.error(what))
    }

    fn data_set(&mut self, depth: u16) -> Result<DataSet, Malformed> {
        self.scanner.expect(b'{', "a data set must stand here")?;
        let mut read = DataSet::default();
        let mut first = true;
        while self.scanner.more(b'}', first)? {
            first = false;
            match tag_of(&self.scanner.name()?) {
                Some(tag) => read.attributes.push(self.attribute(tag, depth)?),
                None => {
                    read.flaw.get_or_insert("has a member that is no tag");
                    self.scanner.pass()?;
                }
            }
        }
        Ok(read)
    }

    /// The object of an attribute. `depth`: levels of items that may follow.
    fn attribute(&mut self, tag: Tag, depth: u16) -> Result<Attribute, Malformed> {
        self.take(2 * size_of::<Attribute>())?;
        let mut read = Attribute::of(tag);
        if !self.scanner.eat(b'{') {
            read.note("is not an object (PS3.18 §F.2.2)");
            self.scanner.pass()?;
            return Ok(read);
        }
        let (mut seen, mut first) = ([false; MEMBERS.len()], true);
        while self.scanner.more(b'}', first)? {
            first = false;
            let name = self.scanner.name()?;
            let known = MEMBERS.iter().position(|member| *member == name);
            if let Some(seen) = known.and_then(|at| seen.get_mut(at))
                && std::mem::replace(seen, true)
            {
                read.note("has a member twice");
            }
            match (&*name, self.scanner.peek()) {
                ("vr", Some(b'"')) => read.vr = self.scanner.string()?.parse().ok(),
                ("BulkDataURI", Some(b'"')) => {
                    read.uri = Some(self.scanner.string()?.into_owned());
                }
                ("InlineBinary", Some(b'"')) => {
                    read.inline = Some(self.scanner.string()?.into_owned());
                }
                ("Value", Some(b'[')) => self.values(&mut read, depth)?,
                _ => {
                    let is_meant = |member: &&str| member.eq_ignore_ascii_case(&name);
                    match known {
                        Some(_) => read.note("has a member of the wrong type (PS3.18 §F.2)"),
                        // Who passed it over would lose a value.
                        None if MEMBERS.iter().any(is_meant) => {
                            read.note("has a member in the wrong case (PS3.18 §F.2.2)");
                        }
                        None => read.has_more = true,
                    }
                    self.scanner.pass()?;
                }
            }
        }
        // Those without attributes too, which may be names elsewhere.
        if depth == 0 && read.vr == Some(VR::SQ) && !read.values.is_empty() {
            read.note(TOO_DEEP);
        }
        Ok(read)
    }

    fn values(&mut self, of: &mut Attribute, depth: u16) -> Result<(), Malformed> {
        self.scanner.expect(b'[', "")?;
        let mut first = true;
        while self.scanner.more(b']', first)? {
            first = false;
            self.take(2 * size_of::<Value>())?;
            let value = self.value(of, depth)?;
            of.values.extend(value);
        }
        Ok(())
    }

    /// A value, unless it is something that no VR has.
    fn value(&mut self, of: &mut Attribute, depth: u16) -> Result<Option<Value>, Malformed> {
        match self.scanner.peek() {
            Some(b'"') => Ok(Some(Value::Text(self.scanner.string()?.into_owned()))),
            Some(b'-' | b'0'..=b'9') => {
                let digits = self.scanner.number()?;
                self.take(digits.len())?;
                Ok(Some(Value::Number(digits.to_owned())))
            }
            Some(b'{') => self.object(of, depth),
            Some(b'[') => {
                of.note("has an array among its values");
                self.scanner.pass()?;
                Ok(None)
            }
            _ if self.scanner.word()? == "null" => Ok(Some(Value::Empty)),
            _ => {
                of.note("has a value of a kind that its vr does not allow");
                Ok(None)
            }
        }
    }

    /// An item, or a person name: its members tell which.
    fn object(&mut self, of: &mut Attribute, depth: u16) -> Result<Option<Value>, Malformed> {
        // A name, which has no level of its own, may stand where no item may.
        let below = depth.checked_sub(1);
        self.scanner.expect(b'{', "")?;
        let (mut attributes, mut groups) = (Vec::new(), <[String; 3]>::default());
        let (mut is_name, mut first) = (false, true);
        while self.scanner.more(b'}', first)? {
            first = false;
            let name = self.scanner.name()?;
            let group = GROUPS.iter().position(|group| *group == name);
            match (tag_of(&name), group.and_then(|at| groups.get_mut(at))) {
                (Some(inner), _) => match below {
                    Some(below) => attributes.push(self.attribute(inner, below)?),
                    None => {
                        of.note(TOO_DEEP);
                        self.scanner.pass()?;
                    }
                },
                (None, Some(group)) if self.scanner.peek() == Some(b'"') => {
                    is_name = true;
                    *group = self.scanner.string()?.into_owned();
                }
                (None, known) => {
                    is_name |= known.is_some();
                    if known.is_none() || self.scanner.peek() != Some(b'n') {
                        of.note("has a value with a member that is no tag");
                    }
                    self.scanner.pass()?;
                }
            }
        }
        if is_name && !attributes.is_empty() {
            of.note("has a value that is a name and an item");
        }
        let name = || Value::Name(Box::new(groups));
        Ok(Some(if is_name { name() } else { Value::Item(attributes) }))
    }
}
