//! The elements of one data set (PS3.5 §7), pushed in pieces.
//!
//! Holds: `pos` counts every byte taken; a level's end never lies beyond that of the level around
//! it; only headers and values that are not bulk are held, and never more of a value than has
//! arrived.
//!
//! What is seen in the wild and cannot be mistaken is read:
//! - the first element of an explicit data set or item has no VR: that data set or item is
//!   implicit; one in the middle: that element alone is;
//! - the first element of an implicit data set carries the very VR that PS3.6 gives it: the data
//!   set is explicit;
//! - VRs that are two other capital letters are UN with the long length (PS3.5 §7.1.2);
//! - a superfluous delimiter where nothing of undefined length is open; zeros after the end;
//! - values and fragments of odd length; pixel data in fragments under a native transfer syntax.

use super::{
    ElementHeader, Endian, Sink,
    level::{Form, Head, Kind, Level},
    vr,
};
use crate::dicom::{DicomError, Limits, Tag, VR, transfer_syntax::Encoding};

const ITEM: u16 = 0xE000;
const ITEM_END: u16 = 0xE00D;
const SEQUENCE_END: u16 = 0xE0DD;
/// Above this, the buffer of held values is given back between values.
const KEEP_CAPACITY: usize = 64 * 1024;

#[derive(Clone, Copy)]
enum State {
    Header,
    Value(ElementHeader),
    Bulk {
        left: u32,
    },
    Fragment {
        left: u32,
    },
    /// Zeros after the last element.
    Zeros,
}

pub(super) struct DataSet {
    limits: Limits,
    bulk_threshold: u32,
    pos: u64,
    /// Bytes of headers and kept values so far.
    kept: u64,
    fragments: u64,
    depth: u16,
    /// The innermost level, and those around it.
    top: Level,
    outer: Vec<Level>,
    state: State,
    head: [u8; 12],
    head_len: usize,
    held: Vec<u8>,
}

impl DataSet {
    /// Elements encoded as `encoding` says (deflated: already inflated), the first at offset `pos`;
    /// `kept` bytes count to `limits.header_bytes` already.
    pub(super) fn new(
        encoding: Encoding,
        limits: Limits,
        bulk_threshold: u32,
        pos: u64,
        kept: u64,
    ) -> Self {
        let form =
            Form { explicit: encoding != Encoding::ImplicitLittle, endian: encoding.endian() };
        let top = Level {
            kind: Kind::Elements,
            end: None,
            bound: u64::MAX,
            form,
            signed: None,
            fresh: true,
        };
        Self {
            limits,
            bulk_threshold,
            pos,
            kept,
            fragments: 0,
            depth: 0,
            top,
            outer: Vec::new(),
            state: State::Header,
            head: [0; 12],
            head_len: 0,
            held: Vec::new(),
        }
    }

    pub(super) fn push<S: Sink>(
        &mut self,
        sink: &mut S,
        mut input: &[u8],
    ) -> Result<(), DicomError> {
        while !input.is_empty() {
            match self.state {
                State::Header => self.header(sink, &mut input)?,
                State::Value(header) => {
                    let length = header.length.unwrap_or(0) as usize;
                    let bytes = self.take(&mut input, length.saturating_sub(self.held.len()));
                    self.held.extend_from_slice(bytes);
                    if self.held.len() == length {
                        let held = std::mem::take(&mut self.held);
                        self.state = State::Header;
                        self.deliver(sink, &header, &held)?;
                        if held.capacity() <= KEEP_CAPACITY {
                            self.held = held;
                            self.held.clear();
                        }
                        self.close_ended(sink)?;
                    }
                }
                State::Bulk { left } => {
                    let left = self.pass(sink, &mut input, left)?;
                    self.state = State::Bulk { left };
                    if left == 0 {
                        self.state = State::Header;
                        sink.bulk_end()?;
                        self.close_ended(sink)?;
                    }
                }
                State::Fragment { left } => {
                    let left = self.pass(sink, &mut input, left)?;
                    self.state = State::Fragment { left };
                    if left == 0 {
                        self.state = State::Header;
                        sink.fragment_end()?;
                    }
                }
                State::Zeros => {
                    if let Some(at) = input.iter().position(|byte| *byte != 0) {
                        return self.malformed(at as u64, "bytes follow the end of the data set");
                    }
                    let all = input.len();
                    self.take(&mut input, all);
                }
            }
        }
        Ok(())
    }

    /// Checks that the data set may end here.
    pub(super) fn finish(&self) -> Result<(), DicomError> {
        let rest = self.head.get(..self.head_len).unwrap_or_default();
        let complete = match self.state {
            State::Zeros => true,
            State::Header => self.outer.is_empty() && rest.iter().all(|byte| *byte == 0),
            State::Value(_) | State::Bulk { .. } | State::Fragment { .. } => false,
        };
        let at = self.pos.saturating_add(rest.len() as u64);
        if complete { Ok(()) } else { Err(DicomError::Truncated { at }) }
    }

    /// Takes up to `wanted` bytes off the input.
    fn take<'a>(&mut self, input: &mut &'a [u8], wanted: usize) -> &'a [u8] {
        let (bytes, rest) = input.split_at(wanted.min(input.len()));
        *input = rest;
        self.pos = self.pos.saturating_add(bytes.len() as u64);
        bytes
    }

    /// Passes bulk bytes through; how many are left to come.
    fn pass<S: Sink>(
        &mut self,
        sink: &mut S,
        input: &mut &[u8],
        left: u32,
    ) -> Result<u32, DicomError> {
        let bytes = self.take(input, left as usize);
        if !bytes.is_empty() {
            sink.bulk_chunk(bytes)?;
        }
        Ok(left.saturating_sub(bytes.len() as u32))
    }

    fn malformed<T>(&self, ahead: u64, what: &'static str) -> Result<T, DicomError> {
        Err(DicomError::Malformed { at: self.pos.saturating_add(ahead), what })
    }

    /// Counts bytes that are held, or handed over whole, to `limits.header_bytes`.
    fn keep(&mut self, bytes: u64) -> Result<(), DicomError> {
        self.kept = self.kept.saturating_add(bytes);
        let limit = self.limits.header_bytes;
        if self.kept > limit {
            return Err(DicomError::Limit { key: "limits.header_bytes", limit });
        }
        Ok(())
    }

    /// Reads a header, and its value where it has arrived with it.
    fn header<S: Sink>(&mut self, sink: &mut S, input: &mut &[u8]) -> Result<(), DicomError> {
        let Some((raw, size)) = self.gather(input) else { return Ok(()) };
        if self.outer.is_empty() && raw.starts_with(&[0; 8]) {
            sink.top_level(self.pos, Tag(0, 0), self.top.form.explicit)?;
            self.pos = self.pos.saturating_add(8);
            self.state = State::Zeros;
            return Ok(());
        }
        let head = self.top.decode(&raw);
        let end = self.pos + size as u64 + u64::from(head.length.unwrap_or(0));
        if end > self.top.bound {
            return self.malformed(0, "an element reaches beyond the item or sequence around it");
        }
        if self.outer.is_empty() {
            sink.top_level(self.pos, head.tag, self.top.form.explicit)?;
        }
        match self.top.kind {
            Kind::Elements => self.element(sink, &head, size, input),
            Kind::Sequence => self.item(sink, &head),
            Kind::Fragments => self.fragment(sink, &head),
        }
    }

    /// Takes the bytes of one header off the input: the bytes and how many they are, or `None`
    /// where more have to come.
    fn gather(&mut self, input: &mut &[u8]) -> Option<([u8; 12], usize)> {
        if self.head_len == 0
            && let Some(raw) = input.first_chunk::<12>()
        {
            self.top.settle_form(raw, self.outer.is_empty());
            let size = self.top.header_size(raw);
            *input = input.get(size..).unwrap_or_default();
            return Some((*raw, size));
        }
        let mut size = 8;
        loop {
            let room = self.head.get_mut(self.head_len..size).unwrap_or_default();
            let count = room.len().min(input.len());
            let (now, rest) = input.split_at(count);
            for (to, from) in room.iter_mut().zip(now) {
                *to = *from;
            }
            *input = rest;
            self.head_len += count;
            if self.head_len < size {
                return None;
            }
            let raw = self.head;
            if size == 8 {
                self.top.settle_form(&raw, self.outer.is_empty());
                size = self.top.header_size(&raw);
            }
            if self.head_len >= size {
                self.head_len = 0;
                return Some((raw, size));
            }
        }
    }

    /// What may stand in a data set or item. Its header, of `size` bytes, is off the input.
    fn element<S: Sink>(
        &mut self,
        sink: &mut S,
        head: &Head,
        size: usize,
        input: &mut &[u8],
    ) -> Result<(), DicomError> {
        let Head { tag, mut vr, length } = *head;
        match tag {
            Tag(0xFFFE, ITEM_END | SEQUENCE_END) => return self.delimiter(sink, head),
            Tag(0xFFFE, _) => return self.malformed(0, "an item outside of a sequence"),
            Tag(0x0000 | 0x0002, _) => {
                return self.malformed(0, "a command or file meta element in the data set");
            }
            _ => {}
        }
        let inline = length.filter(|length| !self.is_bulk(vr, *length)).unwrap_or(0);
        let inline = if vr == VR::SQ { 0 } else { inline };
        self.keep(size as u64 + u64::from(inline))?;
        if length.is_none() && !matches!(vr, VR::SQ | VR::OB | VR::OW | VR::UN) {
            if self.top.form.explicit && size == 12 {
                return self
                    .malformed(0, "a value of undefined length, which its VR does not allow");
            }
            // The dictionary of a later standard, or of another vendor, has a sequence here.
            vr = VR::UN;
        }
        self.pos = self.pos.saturating_add(size as u64);
        let header = ElementHeader { tag, vr, length, offset: self.pos };
        match (vr, length) {
            (VR::SQ, _) => self.sequence(sink, &header, self.top.form),
            (VR::UN, None) if tag != vr::PIXEL_DATA => {
                // PS3.5 §6.2.2: whatever the transfer syntax, implicit and little endian.
                let form = Form { explicit: false, endian: Endian::Little };
                self.sequence(sink, &header, form)
            }
            (_, None) => {
                self.enter(Kind::Fragments, None, self.top.form);
                sink.fragments_start(&header)
            }
            (_, Some(length)) if self.is_bulk(vr, length) => {
                self.state = State::Bulk { left: length };
                sink.bulk_start(&header)
            }
            (_, Some(length)) => match input.split_at_checked(length as usize) {
                Some((value, rest)) => {
                    *input = rest;
                    self.pos = self.pos.saturating_add(u64::from(length));
                    self.deliver(sink, &header, value)?;
                    self.close_ended(sink)
                }
                None => {
                    self.held.clear();
                    self.state = State::Value(header);
                    Ok(())
                }
            },
        }
    }

    fn is_bulk(&self, vr: VR, length: u32) -> bool {
        length > self.bulk_threshold && vr::is_binary(vr)
    }

    fn deliver<S: Sink>(
        &mut self,
        sink: &mut S,
        header: &ElementHeader,
        value: &[u8],
    ) -> Result<(), DicomError> {
        if header.tag.element() == 0 {
            return Ok(()); // Group Length, retired (PS3.5 §7.2)
        }
        if header.tag == Tag(0x0028, 0x0103)
            && let Some(bytes) = value.first_chunk::<2>()
        {
            self.top.signed = Some(self.top.form.u16(*bytes) == 1);
        }
        sink.element(header, value)
    }

    fn sequence<S: Sink>(
        &mut self,
        sink: &mut S,
        header: &ElementHeader,
        form: Form,
    ) -> Result<(), DicomError> {
        if self.depth >= self.limits.element_depth {
            let limit = u64::from(self.limits.element_depth);
            return Err(DicomError::Limit { key: "limits.element_depth", limit });
        }
        self.depth += 1;
        self.enter(Kind::Sequence, header.length, form);
        sink.sequence_start(header)?;
        self.close_ended(sink)
    }

    /// What may stand in a sequence.
    fn item<S: Sink>(&mut self, sink: &mut S, head: &Head) -> Result<(), DicomError> {
        match (head.tag, head.length) {
            (Tag(0xFFFE, ITEM), length) => {
                self.keep(8)?;
                self.pos = self.pos.saturating_add(8);
                self.enter(Kind::Elements, length, self.top.form);
                sink.item_start()?;
                self.close_ended(sink)
            }
            (Tag(0xFFFE, SEQUENCE_END), Some(0)) if self.top.end.is_none() => self.delimited(sink),
            _ => self.malformed(0, "no item where a sequence must have one"),
        }
    }

    /// What may stand in encapsulated pixel data (PS3.5 §A.4).
    fn fragment<S: Sink>(&mut self, sink: &mut S, head: &Head) -> Result<(), DicomError> {
        match (head.tag, head.length) {
            (Tag(0xFFFE, ITEM), Some(length)) => {
                // The Basic Offset Table comes on top.
                self.fragments += 1;
                let limit = self.limits.frames;
                if self.fragments > limit.saturating_add(1) {
                    return Err(DicomError::Limit { key: "limits.frames", limit });
                }
                self.pos = self.pos.saturating_add(8);
                sink.fragment_start(self.pos, length)?;
                if length == 0 {
                    return sink.fragment_end();
                }
                self.state = State::Fragment { left: length };
                Ok(())
            }
            (Tag(0xFFFE, SEQUENCE_END), Some(0)) => self.delimited(sink),
            _ => self.malformed(0, "no fragment where encapsulated pixel data must have one"),
        }
    }

    /// A delimiter among elements.
    fn delimiter<S: Sink>(&mut self, sink: &mut S, head: &Head) -> Result<(), DicomError> {
        let is_item = !self.outer.is_empty();
        let open = is_item && self.top.end.is_none();
        match (head.tag.element(), head.length) {
            (ITEM_END, Some(0)) if open => self.delimited(sink),
            (_, Some(0)) if !open => {
                self.keep(8)?;
                self.pos = self.pos.saturating_add(8);
                self.close_ended(sink)
            }
            _ => self.malformed(0, "a delimiter that closes nothing"),
        }
    }

    /// A delimiter closes the innermost level.
    fn delimited<S: Sink>(&mut self, sink: &mut S) -> Result<(), DicomError> {
        self.pos = self.pos.saturating_add(8);
        self.leave(sink)?;
        self.close_ended(sink)
    }

    fn enter(&mut self, kind: Kind, length: Option<u32>, form: Form) {
        let end = length.map(|length| self.pos.saturating_add(u64::from(length)));
        let level = Level {
            kind,
            end,
            bound: end.unwrap_or(self.top.bound),
            form,
            signed: self.top.signed,
            fresh: true,
        };
        self.outer.push(std::mem::replace(&mut self.top, level));
    }

    fn leave<S: Sink>(&mut self, sink: &mut S) -> Result<(), DicomError> {
        let Some(around) = self.outer.pop() else { return Ok(()) };
        let left = std::mem::replace(&mut self.top, around);
        match left.kind {
            Kind::Elements => sink.item_end()?,
            Kind::Fragments => sink.fragments_end()?,
            Kind::Sequence => {
                self.depth = self.depth.saturating_sub(1);
                sink.sequence_end()?;
            }
        }
        if self.outer.is_empty() {
            sink.top_level_end(self.pos);
        }
        Ok(())
    }

    /// Closes the levels whose defined length is used up.
    fn close_ended<S: Sink>(&mut self, sink: &mut S) -> Result<(), DicomError> {
        while self.top.end == Some(self.pos) {
            self.leave(sink)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::*, *};

    #[test]
    fn values_grow_with_what_arrives_not_with_what_is_told() {
        let limits = Limits { header_bytes: u64::MAX, ..LIMITS };
        let mut data_set = DataSet::new(Encoding::ExplicitLittle, limits, THRESHOLD, 0, 0);
        let mut sink = Log::default();
        let text = EXPLICIT.header(Tag(0x0040, 0xA160), VR::UT, 0xFFFF_FFF0);
        data_set.push(&mut sink, &text).unwrap();
        data_set.push(&mut sink, &[b'a'; 1000]).unwrap();
        assert_eq!(data_set.held.len(), 1000);
        assert!(data_set.held.capacity() <= 2000);
        let bulk = EXPLICIT.header(Tag(0x0009, 0x1001), VR::UN, 0xFFFF_FFF0);
        let mut data_set = DataSet::new(Encoding::ExplicitLittle, limits, THRESHOLD, 0, 0);
        data_set.push(&mut sink, &bulk).unwrap();
        data_set.push(&mut sink, &[0; 100_000]).unwrap();
        assert_eq!(data_set.held.capacity(), 0);
    }
}
