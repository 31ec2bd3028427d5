//! Encapsulated documents (PS3.3 §A.45): the bytes of the document, as stored.

use std::{borrow::Cow, collections::BTreeMap};

use super::{ENCAPSULATED, RenderError};
use crate::dicom::{
    Tag,
    data_set::{Binary, Item},
};

/// (0042,0015) Encapsulated Document Length, in bytes, without padding.
const LENGTH: Tag = Tag(0x0042, 0x0015);

/// Bytes from the beginning within which PDF says that it is PDF (ISO 32000-1, Annex H).
const PDF_HEAD: usize = 1024;

/// The path of the document, where it is not in the header itself.
pub(super) fn wants(header: Item<'_>) -> Vec<String> {
    match header.binary(ENCAPSULATED) {
        Some(Binary::Bulk(path)) => vec![path.to_owned()],
        _ => Vec::new(),
    }
}

/// An encapsulated PDF.
pub(super) fn pdf(
    header: Item<'_>,
    values: &BTreeMap<String, Vec<u8>>,
) -> Result<Vec<u8>, RenderError> {
    let bytes = document(header, values)?;
    let head = bytes.get(..PDF_HEAD).unwrap_or(&bytes);
    match memchr::memmem::find(head, b"%PDF-") {
        Some(_) => Ok(bytes),
        None => Err(RenderError::Damaged("the encapsulated document is no PDF")),
    }
}

/// An encapsulated CDA.
pub(super) fn cda(
    header: Item<'_>,
    values: &BTreeMap<String, Vec<u8>>,
) -> Result<Vec<u8>, RenderError> {
    let bytes = document(header, values)?;
    // In UTF-8 or another superset of ASCII, or in UTF-16.
    let first = bytes.iter().find(|byte| !matches!(byte, 0xEF | 0xBB | 0xBF | 0xFE | 0xFF | 0));
    match first {
        Some(b'<') => Ok(bytes),
        Some(byte) if byte.is_ascii_whitespace() => Ok(bytes),
        _ => Err(RenderError::Damaged("the encapsulated document is no XML")),
    }
}

/// The document without what pads it to even length.
fn document(header: Item<'_>, values: &BTreeMap<String, Vec<u8>>) -> Result<Vec<u8>, RenderError> {
    let missing = RenderError::Damaged("the encapsulated document is missing");
    let mut bytes = match header.binary(ENCAPSULATED).ok_or(missing)? {
        Binary::Inline(bytes) => Cow::Owned(bytes),
        Binary::Bulk(path) => Cow::Borrowed(values.get(path).ok_or(missing)?.as_slice()),
    };
    let announced = header.integer(LENGTH).and_then(|length| usize::try_from(length).ok());
    let end = match announced.filter(|length| *length > 0 && *length <= bytes.len()) {
        Some(length) => length,
        None if bytes.last() == Some(&0) => bytes.len() - 1,
        None => bytes.len(),
    };
    match &mut bytes {
        Cow::Owned(bytes) => bytes.truncate(end),
        Cow::Borrowed(bytes) => *bytes = bytes.get(..end).unwrap_or_default(),
    }
    Ok(bytes.into_owned())
}
