//! Streaming reader of Part 10 files (PS3.10 §7) and their data sets (PS3.5 §7).
//!
//! Bytes are pushed in as they arrive, in pieces of any size; a [`Sink`] hears what they say.
//! Memory does not grow with the size of the instance: only element headers and values that are
//! not bulk are ever held.

use super::{DicomError, Limits, Tag, Uid, VR};

/// Byte order of values in a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endian {
    /// Little endian: every transfer syntax but one.
    Little,
    /// Explicit VR Big Endian (1.2.840.10008.1.2.2), retired.
    Big,
}

/// The header of one element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ElementHeader {
    /// Group and element number.
    pub tag: Tag,
    /// Value representation: as read (explicit), or from the dictionary (implicit; private and
    /// unknown: UN).
    pub vr: VR,
    /// Length of the value in bytes; `None` where it is undefined.
    pub length: Option<u32>,
    /// Offset of the first value byte in the file (in the inflated stream where deflated).
    pub offset: u64,
}

/// Hears a data set, in order. Sequences nest; each `*_start` has its `*_end`.
pub trait Sink {
    /// The File Meta Information is complete: what follows is encoded so.
    fn data_set_start(&mut self, meta: &FileMeta) -> Result<(), DicomError>;
    /// A whole value that is not bulk, in the data set's byte order, padding included.
    fn element(&mut self, header: &ElementHeader, value: &[u8]) -> Result<(), DicomError>;
    /// A bulk value (OB, OD, OF, OL, OV, OW, UN and long numeric values above the threshold)
    /// begins: `bulk_chunk`s of `header.length` bytes in all follow.
    fn bulk_start(&mut self, header: &ElementHeader) -> Result<(), DicomError>;
    /// Some bytes of a bulk value or of a fragment.
    fn bulk_chunk(&mut self, bytes: &[u8]) -> Result<(), DicomError>;
    /// The bulk value ended.
    fn bulk_end(&mut self) -> Result<(), DicomError>;
    /// A sequence (SQ, or UN of undefined length, PS3.5 §6.2.2) begins.
    fn sequence_start(&mut self, header: &ElementHeader) -> Result<(), DicomError>;
    /// An item of the innermost sequence begins.
    fn item_start(&mut self) -> Result<(), DicomError>;
    /// The innermost item ended.
    fn item_end(&mut self) -> Result<(), DicomError>;
    /// The innermost sequence ended.
    fn sequence_end(&mut self) -> Result<(), DicomError>;
    /// Encapsulated pixel data (PS3.5 §A.4) begins: fragments follow, the Basic Offset Table
    /// first.
    fn fragments_start(&mut self, header: &ElementHeader) -> Result<(), DicomError>;
    /// A fragment of `length` bytes begins at `offset` (its first byte, after the item header);
    /// its bytes come as `bulk_chunk`s.
    fn fragment_start(&mut self, offset: u64, length: u32) -> Result<(), DicomError>;
    /// The fragment ended.
    fn fragment_end(&mut self) -> Result<(), DicomError>;
    /// The encapsulated pixel data ended.
    fn fragments_end(&mut self) -> Result<(), DicomError>;
}

/// What the File Meta Information says (PS3.10 §7.1), as far as the archive uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileMeta {
    /// (0002,0010).
    pub transfer_syntax: Uid,
    /// (0002,0002), where present and valid.
    pub media_storage_sop_class: Option<Uid>,
    /// (0002,0003), where present and valid.
    pub media_storage_sop_instance: Option<Uid>,
    /// Offset of the first byte of the data set in the file.
    pub data_set_offset: u64,
    /// Byte order of the data set.
    pub endian: Endian,
}

/// Reads one Part 10 file, pushed in pieces.
pub struct Reader<S> {
    sink: S,
    limits: Limits,
}

impl<S: Sink> Reader<S> {
    /// A reader that has seen nothing yet. Binary values of more than `bulk_threshold` bytes go to
    /// the sink as bulk.
    pub fn new(sink: S, limits: Limits, bulk_threshold: u32) -> Self {
        let _ = bulk_threshold;
        Self { sink, limits }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`DicomError`]; the reader is then of no further use.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), DicomError> {
        let _ = (bytes, self.limits, &mut self.sink);
        Err(DicomError::NotDicom)
    }

    /// The data ended: checks that it ended where it may, and hands the sink back.
    ///
    /// # Errors
    /// [`DicomError::Truncated`] inside an element or item; [`DicomError::NotDicom`] for less than
    /// a header.
    pub fn finish(self) -> Result<S, DicomError> {
        Ok(self.sink)
    }
}
