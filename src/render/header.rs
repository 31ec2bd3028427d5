//! Attributes with their bulk values at hand.
//!
//! Owns the access that all of a renderer's parts share. Holds: a bulk value that was not given is
//! absent. Absent: what the attributes mean.

use std::{borrow::Cow, collections::BTreeMap};

use crate::dicom::{
    Tag,
    data_set::{Binary, Item},
};

/// A data set or item, and the bulk values of the whole instance.
#[derive(Clone, Copy)]
pub(super) struct Header<'a> {
    pub item: Item<'a>,
    values: &'a BTreeMap<String, Vec<u8>>,
}

impl<'a> Header<'a> {
    pub fn new(item: Item<'a>, values: &'a BTreeMap<String, Vec<u8>>) -> Self {
        Self { item, values }
    }

    /// The first item of a sequence.
    pub fn first(self, sequence: Tag) -> Option<Self> {
        Some(Self { item: self.item.item(sequence, 0)?, values: self.values })
    }

    /// A binary value that is not empty.
    pub fn bytes(self, tag: Tag) -> Option<Cow<'a, [u8]>> {
        let bytes = match self.item.binary(tag)? {
            Binary::Inline(bytes) => Cow::Owned(bytes),
            Binary::Bulk(path) => Cow::Borrowed(self.values.get(path)?.as_slice()),
        };
        Some(bytes).filter(|bytes| !bytes.is_empty())
    }

    /// A value of 16-bit words, be it binary (OW, OB, UN) or numbers (US, SS).
    pub fn words(self, tag: Tag) -> Option<Cow<'a, [u8]>> {
        self.bytes(tag).or_else(|| {
            let words = self.item.numbers(tag).map(|number| (number as i64 as u16).to_le_bytes());
            let bytes: Vec<u8> = words.flatten().collect();
            Some(bytes).filter(|bytes| !bytes.is_empty()).map(Cow::Owned)
        })
    }
}

/// The first two positive numbers of a value.
pub(super) fn pair(item: Item<'_>, tag: Tag) -> Option<(f64, f64)> {
    let mut numbers = item.numbers(tag);
    let pair = (numbers.next()?, numbers.next()?);
    Some(pair).filter(|(a, b)| *a > 0.0 && *b > 0.0 && a.is_finite() && b.is_finite())
}
