//! One value out of a data set, in little endian, while the rest streams by.
//!
//! For encodings in which a value's bytes cannot be read in place: deflated and big endian.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{
    DicomError, Tag, VR,
    reader::{ElementHeader, Endian, FileMeta, Sink, vr},
};

/// Keeps the bytes of the first value at one of some paths ([`super::index::BulkEntry::path`]).
pub struct Extract {
    paths: Vec<String>,
    here: Vec<Step>,
    swap: usize,
    endian: Endian,
    /// (0028,0100) of the data set.
    bits_allocated: u16,
    inside: bool,
    done: bool,
    /// Bytes of a unit that straddles two chunks.
    carry: Vec<u8>,
    out: VecDeque<Bytes>,
}

struct Step {
    tag: Tag,
    vr: VR,
    items: usize,
}

impl Extract {
    /// Waits for a value at any of `paths`.
    pub fn new(paths: &[&str]) -> Self {
        Self {
            paths: paths.iter().map(|&path| path.to_owned()).collect(),
            here: Vec::new(),
            swap: 1,
            endian: Endian::Little,
            bits_allocated: 0,
            inside: false,
            done: false,
            carry: Vec::new(),
            out: VecDeque::new(),
        }
    }

    /// The bytes that came since the last call.
    pub fn take(&mut self) -> VecDeque<Bytes> {
        std::mem::take(&mut self.out)
    }

    /// Whether the value has ended: nothing more will come.
    pub fn is_done(&self) -> bool {
        self.done
    }

    fn is_wanted(&self, tag: Tag) -> bool {
        let mut here = String::new();
        for step in &self.here {
            let item = step.items.saturating_sub(1);
            here += &format!("{:04X}{:04X}/{item}/", step.tag.group(), step.tag.element());
        }
        here += &format!("{:04X}{:04X}", tag.group(), tag.element());
        self.paths.contains(&here)
    }

    fn enter(&mut self, header: &ElementHeader) -> bool {
        self.inside = !self.done && self.is_wanted(header.tag);
        // Inside a UN sequence values are little endian whatever surrounds it (PS3.5 §6.2.2).
        let is_little = self.here.iter().any(|step| step.vr == VR::UN);
        self.swap = match self.endian {
            Endian::Big if !is_little => {
                vr::swap_unit_of(header.tag, header.vr, self.bits_allocated)
            }
            _ => 1,
        };
        self.inside
    }

    fn give(&mut self, bytes: &[u8]) {
        if self.swap == 1 {
            self.out.push_back(Bytes::copy_from_slice(bytes));
            return;
        }
        self.carry.extend_from_slice(bytes);
        let whole = self.carry.len() - self.carry.len() % self.swap;
        let rest = self.carry.split_off(whole);
        let mut units = std::mem::replace(&mut self.carry, rest);
        units.chunks_exact_mut(self.swap).for_each(<[u8]>::reverse);
        self.out.push_back(units.into());
    }

    fn leave(&mut self) {
        if self.inside {
            self.inside = false;
            self.done = true;
            let rest = std::mem::take(&mut self.carry);
            if !rest.is_empty() {
                self.out.push_back(rest.into());
            }
        }
    }
}

impl Sink for Extract {
    fn data_set_start(&mut self, meta: &FileMeta) -> Result<(), DicomError> {
        self.endian = meta.endian;
        Ok(())
    }
    fn element(&mut self, header: &ElementHeader, value: &[u8]) -> Result<(), DicomError> {
        if header.tag == vr::BITS_ALLOCATED && self.here.is_empty() {
            self.bits_allocated = vr::short(value, self.endian).unwrap_or(0);
        }
        if self.enter(header) {
            self.give(value);
            self.leave();
        }
        Ok(())
    }
    fn bulk_start(&mut self, header: &ElementHeader) -> Result<(), DicomError> {
        self.enter(header);
        Ok(())
    }
    fn bulk_chunk(&mut self, bytes: &[u8]) -> Result<(), DicomError> {
        if self.inside {
            self.give(bytes);
        }
        Ok(())
    }
    fn bulk_end(&mut self) -> Result<(), DicomError> {
        self.leave();
        Ok(())
    }
    fn sequence_start(&mut self, header: &ElementHeader) -> Result<(), DicomError> {
        self.here.push(Step { tag: header.tag, vr: header.vr, items: 0 });
        Ok(())
    }
    fn item_start(&mut self) -> Result<(), DicomError> {
        if let Some(step) = self.here.last_mut() {
            step.items += 1;
        }
        Ok(())
    }
    fn item_end(&mut self) -> Result<(), DicomError> {
        Ok(())
    }
    fn sequence_end(&mut self) -> Result<(), DicomError> {
        self.here.pop();
        Ok(())
    }
    fn fragments_start(&mut self, _: &ElementHeader) -> Result<(), DicomError> {
        Ok(())
    }
    fn fragment_start(&mut self, _: u64, _: u32) -> Result<(), DicomError> {
        Ok(())
    }
    fn fragment_end(&mut self) -> Result<(), DicomError> {
        Ok(())
    }
    fn fragments_end(&mut self) -> Result<(), DicomError> {
        Ok(())
    }
}
