//! Command sets (PS3.7 §6.3, Annex E): what a message asks, or answers.
//!
//! Holds: a command set is read as a whole from at most [`LONGEST`] bytes, always in Implicit VR
//! Little Endian. Pure.

use std::collections::BTreeMap;

use crate::dicom::Uid;

/// Longest command set, in bytes; the longest that PS3.7 knows has some hundred.
pub(super) const LONGEST: usize = 16 << 10;
/// (0000,0800) of a message without a data set, and of one with it.
const NO_DATA_SET: u16 = 0x0101;
const DATA_SET: u16 = 0x0001;
/// Longest (0000,0902) Error Comment, in characters: its VR is LO.
const COMMENT: usize = 64;

/// Elements of group 0000.
pub(super) mod element {
    pub const AFFECTED_CLASS: u16 = 0x0002;
    pub const FIELD: u16 = 0x0100;
    pub const MESSAGE: u16 = 0x0110;
    pub const RESPONDED: u16 = 0x0120;
    pub const DESTINATION: u16 = 0x0600;
    pub const PRIORITY: u16 = 0x0700;
    pub const DATA_SET: u16 = 0x0800;
    pub const STATUS: u16 = 0x0900;
    pub const COMMENT: u16 = 0x0902;
    pub const AFFECTED_INSTANCE: u16 = 0x1000;
    pub const REMAINING: u16 = 0x1020;
    pub const COMPLETED: u16 = 0x1021;
    pub const FAILED: u16 = 0x1022;
    pub const WARNED: u16 = 0x1023;
    pub const ORIGINATOR: u16 = 0x1030;
    pub const ORIGINATOR_MESSAGE: u16 = 0x1031;
}

/// (0000,0100) of messages.
pub(super) mod field {
    pub const STORE: u16 = 0x0001;
    pub const GET: u16 = 0x0010;
    pub const FIND: u16 = 0x0020;
    pub const MOVE: u16 = 0x0021;
    pub const ECHO: u16 = 0x0030;
    pub const CANCEL: u16 = 0x0FFF;
    /// Added to the field of a request in that of its answer.
    pub const RESPONSE: u16 = 0x8000;
}

/// (0000,0900) of answers (PS3.7 Annex C, PS3.4 Annexes B and C).
pub(super) mod status {
    pub const SUCCESS: u16 = 0x0000;
    pub const SOP_CLASS_NOT_SUPPORTED: u16 = 0x0122;
    pub const NOT_AUTHORIZED: u16 = 0x0124;
    pub const UNRECOGNIZED: u16 = 0x0211;
    pub const OUT_OF_RESOURCES: u16 = 0xA700;
    /// Out of resources, where C-GET and C-MOVE cannot count what they are to send.
    pub const NOT_COUNTED: u16 = 0xA701;
    /// Out of resources, where they cannot send it.
    pub const NO_SUB_OPERATIONS: u16 = 0xA702;
    pub const DESTINATION_UNKNOWN: u16 = 0xA801;
    pub const DOES_NOT_MATCH: u16 = 0xA900;
    pub const SOME_FAILED: u16 = 0xB000;
    pub const COERCED: u16 = 0xB000;
    pub const ELEMENTS_WARNED: u16 = 0xB007;
    pub const CANNOT_UNDERSTAND: u16 = 0xC000;
    pub const CANCELED: u16 = 0xFE00;
    pub const PENDING: u16 = 0xFF00;
    /// Pending, where an optional key is not matched.
    pub const PENDING_PARTLY: u16 = 0xFF01;
}

/// One command set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Command(BTreeMap<u16, Vec<u8>>);

impl Command {
    /// Reads one; `None` where it is none.
    pub(super) fn read(mut bytes: &[u8]) -> Option<Self> {
        let mut elements = BTreeMap::new();
        while !bytes.is_empty() {
            let (&[a, b, c, d, e, f, g, h], rest) = bytes.split_first_chunk::<8>()?;
            let length = usize::try_from(u32::from_le_bytes([e, f, g, h])).ok()?;
            if u16::from_le_bytes([a, b]) != 0 || length > rest.len() {
                return None;
            }
            let (value, rest) = rest.split_at(length);
            elements.insert(u16::from_le_bytes([c, d]), value.to_vec());
            bytes = rest;
        }
        let it = Self(elements);
        it.u16(element::FIELD)?;
        Some(it)
    }

    /// A message that asks.
    pub(super) fn request(field: u16, message: u16, class: &Uid) -> Self {
        let it = Self::default().with_text(element::AFFECTED_CLASS, class.as_str());
        it.with(element::FIELD, field).with(element::MESSAGE, message)
    }

    /// The answer to a message. It has no data set.
    pub(super) fn answer(&self, status: u16) -> Self {
        let mut it = Self::default().with(element::FIELD, self.field() | field::RESPONSE);
        for same in [element::AFFECTED_CLASS, element::AFFECTED_INSTANCE] {
            if let Some(value) = self.0.get(&same) {
                it.0.insert(same, value.clone());
            }
        }
        it = it.with(element::RESPONDED, self.message());
        it.with(element::DATA_SET, NO_DATA_SET).with(element::STATUS, status)
    }

    pub(super) fn with(mut self, element: u16, value: u16) -> Self {
        self.0.insert(element, value.to_le_bytes().to_vec());
        self
    }

    /// A UID or a text.
    pub(super) fn with_text(mut self, element: u16, text: &str) -> Self {
        let mut value = text.as_bytes().to_vec();
        if value.len() % 2 == 1 {
            let is_uid = matches!(element, element::AFFECTED_CLASS | element::AFFECTED_INSTANCE);
            value.push(if is_uid { 0 } else { b' ' });
        }
        self.0.insert(element, value);
        self
    }

    /// Says what is wrong, as far as there is room; never a value of a data set.
    pub(super) fn with_comment(self, comment: &str) -> Self {
        let plain = |c: &char| (' '..='~').contains(c) && *c != '\\';
        let text: String = comment.chars().filter(plain).take(COMMENT).collect();
        if text.is_empty() { self } else { self.with_text(element::COMMENT, &text) }
    }

    /// Says that a data set follows.
    pub(super) fn with_data_set(self) -> Self {
        self.with(element::DATA_SET, DATA_SET)
    }

    /// (0000,0100): which message it is.
    pub(super) fn field(&self) -> u16 {
        self.u16(element::FIELD).unwrap_or_default()
    }

    /// (0000,0110).
    pub(super) fn message(&self) -> u16 {
        self.u16(element::MESSAGE).unwrap_or_default()
    }

    /// Whether a data set follows.
    pub(super) fn has_data_set(&self) -> bool {
        self.u16(element::DATA_SET).is_some_and(|kind| kind != NO_DATA_SET)
    }

    pub(super) fn u16(&self, element: u16) -> Option<u16> {
        Some(u16::from_le_bytes(*self.0.get(&element)?.first_chunk::<2>()?))
    }

    pub(super) fn uid(&self, element: u16) -> Option<Uid> {
        Uid::from_value(self.0.get(&element)?).ok()
    }

    /// A text of ASCII, without what pads it.
    pub(super) fn text(&self, element: u16) -> Option<&str> {
        let text = std::str::from_utf8(self.0.get(&element)?).ok()?;
        Some(text.trim_matches([' ', '\0']))
    }

    /// As it is sent.
    pub(super) fn write(&self) -> Vec<u8> {
        let length: usize = self.0.values().map(|value| value.len() + 8).sum();
        let mut out = Vec::with_capacity(length + 12);
        let mut push = |element: u16, value: &[u8]| {
            out.extend_from_slice(&[0, 0]);
            out.extend_from_slice(&element.to_le_bytes());
            out.extend_from_slice(&(value.len() as u32).to_le_bytes());
            out.extend_from_slice(value);
        };
        push(0x0000, &(length as u32).to_le_bytes());
        for (element, value) in self.0.iter().filter(|(element, _)| **element != 0) {
            push(*element, value);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let class: Uid = "1.2.840.10008.1.1".parse().unwrap();
        let echo = Command::request(field::ECHO, 7, &class).with(element::DATA_SET, NO_DATA_SET);
        let read = Command::read(&echo.write()).unwrap();
        assert_eq!((read.field(), read.message(), read.has_data_set()), (field::ECHO, 7, false));
        assert_eq!(read.uid(element::AFFECTED_CLASS), Some(class));
        let answer = Command::read(&read.answer(status::SUCCESS).write()).unwrap();
        assert_eq!(answer.field(), field::ECHO | field::RESPONSE);
        assert_eq!(
            (answer.u16(element::RESPONDED), answer.u16(element::STATUS)),
            (Some(7), Some(0))
        );
        let said = answer.with_comment(&"caf\u{e9} \\ ".repeat(20));
        let text = said.text(element::COMMENT).unwrap();
        assert!(text.len() <= COMMENT && text.is_ascii() && !text.contains('\\'));
    }

    #[test]
    fn what_is_no_command_set_is_none() {
        for bytes in [
            &b""[..],
            b"\0\0\0\x01",
            b"\x08\0\0\x01\x02\0\0\0\x30\0",
            b"\0\0\0\x01\xFF\xFF\xFF\xFF\x30\0",
            b"\0\0\x10\x01\x02\0\0\0\x30\0",
        ] {
            assert_eq!(Command::read(bytes), None, "{bytes:?}");
        }
    }
}
