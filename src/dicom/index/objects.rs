//! JSON objects under construction, their attributes unique and ascending.
//!
//! Data sets ascend, so attributes are appended as they come. One that does not makes its object be
//! put in order when it closes.

use std::{collections::HashSet, ops::Range};

use crate::dicom::{Tag, json};

/// Nested JSON objects, the outermost being the data set's.
pub(super) struct Objects {
    /// The JSON so far. Values are appended by whoever began their attribute.
    pub(super) out: Vec<u8>,
    /// The attributes of all open objects, outermost first: tag and first byte.
    attributes: Vec<(Tag, usize)>,
    open: Vec<Object>,
}

struct Object {
    /// Its first entry in `attributes`.
    first: usize,
    /// Its tags, from when one did not ascend.
    seen: Option<HashSet<Tag>>,
}

impl Objects {
    pub(super) fn new() -> Self {
        let mut objects = Self {
            out: Vec::with_capacity(16 * 1024),
            attributes: Vec::with_capacity(256),
            open: Vec::new(),
        };
        objects.open();
        objects
    }

    /// Whether the innermost object is the data set's.
    pub(super) fn at_top(&self) -> bool {
        self.open.len() == 1
    }

    /// Writes the name of an attribute of the innermost object; its value must follow. `false`:
    /// the object has it already, and nothing was written.
    pub(super) fn begin(&mut self, tag: Tag) -> bool {
        let Some(object) = self.open.last_mut() else { return false };
        let siblings = self.attributes.get(object.first..).unwrap_or_default();
        let ascends = siblings.last().is_none_or(|(last, _)| *last < tag);
        if !ascends && object.seen.is_none() {
            object.seen = Some(siblings.iter().map(|(tag, _)| *tag).collect());
        }
        if object.seen.as_mut().is_some_and(|seen| !seen.insert(tag)) {
            return false;
        }
        if !siblings.is_empty() {
            self.out.push(b',');
        }
        self.attributes.push((tag, self.out.len()));
        json::write_tag(&mut self.out, tag);
        true
    }

    /// Begins an object inside the value that is being written.
    pub(super) fn open(&mut self) {
        self.out.push(b'{');
        self.open.push(Object { first: self.attributes.len(), seen: None });
    }

    /// Ends the innermost object.
    pub(super) fn close(&mut self) {
        let Some(object) = self.open.pop() else { return };
        if object.seen.is_some() {
            self.sort(object.first);
        }
        self.attributes.truncate(object.first);
        self.out.push(b'}');
    }

    /// Ends the outermost object: the JSON, and where in it each attribute of the data set is, name
    /// included.
    pub(super) fn finish(mut self) -> (Vec<u8>, Vec<(Tag, Range<usize>)>) {
        if self.open.first().is_some_and(|object| object.seen.is_some()) {
            self.sort(0);
        }
        let ranges = self.ranges(0);
        self.out.push(b'}');
        (self.out, ranges)
    }

    /// The bytes of each attribute from `first` on, all of one object.
    fn ranges(&self, first: usize) -> Vec<(Tag, Range<usize>)> {
        let attributes = self.attributes.get(first..).unwrap_or_default();
        // Between two attributes stands a comma.
        let ends = attributes.iter().skip(1).map(|(_, start)| start - 1).chain([self.out.len()]);
        attributes.iter().zip(ends).map(|((tag, start), end)| (*tag, *start..end)).collect()
    }

    fn sort(&mut self, first: usize) {
        let mut ranges = self.ranges(first);
        let Some(start) = ranges.first().map(|(_, range)| range.start) else { return };
        ranges.sort_unstable_by_key(|(tag, _)| *tag);
        let unsorted = self.out.split_off(start);
        self.attributes.truncate(first);
        for (tag, range) in ranges {
            if self.attributes.len() > first {
                self.out.push(b',');
            }
            self.attributes.push((tag, self.out.len()));
            let bytes = unsorted.get(range.start - start..range.end - start);
            self.out.extend_from_slice(bytes.unwrap_or_default());
        }
    }
}
