//! Streaming reader of Part 10 files (PS3.10 §7) and their data sets (PS3.5 §7).
//!
//! Bytes are pushed in as they arrive, in pieces of any size; a [`Sink`] hears what they say, the
//! same whatever the pieces. Memory does not grow with the size of the instance: only element
//! headers and values that are not bulk are ever held, at most `limits.header_bytes`.
//!
//! Read are Part 10 files in every transfer syntax, with or without preamble, and bare data sets
//! where they can be told safely (`start`). Refused are: streams that begin otherwise
//! ([`DicomError::NotDicom`]); File Meta Information without (0002,0010), for nothing else says
//! how the data set is encoded ([`DicomError::Missing`]); data that ends inside an element, item
//! or sequence ([`DicomError::Truncated`]), since it cannot be told from a broken transfer; and
//! what is malformed beyond the list in `data_set`.
//!
//! Absent: what values mean, character sets, frames, I/O.

mod data_set;
mod inflate;
mod level;
mod meta;
mod start;
#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;
pub(super) mod vr;

use super::{
    DicomError, Limits, Tag, Uid, VR,
    transfer_syntax::{Encoding, TransferSyntax},
};
use data_set::DataSet;
use inflate::Inflate;
use meta::MetaReader;
use start::Start;

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

/// Hears a data set, in the order of the file, which need not ascend. Sequences nest; each
/// `*_start` has its `*_end`. Group lengths (gggg,0000) are left out: they are retired, and wrong
/// in every other encoding.
///
/// An error ends the reading and is what [`Reader::push`] returns.
pub trait Sink {
    /// An element of the File Meta Information, its value in little endian; none for a bare data
    /// set. (0002,0000) is left out.
    fn file_meta_element(
        &mut self,
        header: &ElementHeader,
        value: &[u8],
    ) -> Result<(), DicomError> {
        let _ = (header, value);
        Ok(())
    }
    /// Bytes of a deflated data set, inflated, before the sink hears what they say.
    fn inflated(&mut self, bytes: &[u8]) {
        let _ = bytes;
    }
    /// Something of the data set itself begins at `start`, which is heard next unless it is a group
    /// length, a superfluous delimiter (FFFE,xxxx) or padding (0000,0000). `explicit`: elements of
    /// the data set have VRs.
    ///
    /// # Errors
    /// What ends the reading.
    fn top_level(&mut self, start: u64, tag: Tag, explicit: bool) -> Result<(), DicomError> {
        let _ = (start, tag, explicit);
        Ok(())
    }
    /// A sequence, or encapsulated pixel data, of the data set itself ended before `end`.
    fn top_level_end(&mut self, end: u64) {
        let _ = end;
    }
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
    /// A sequence (SQ, or UN of undefined length, PS3.5 §6.2.2) begins. Inside UN values are little
    /// endian whatever the transfer syntax.
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
    /// Offset of the first byte of the data set in the file; 0 where there is no File Meta
    /// Information.
    pub data_set_offset: u64,
    /// Whether the preamble and its prefix stand before it (PS3.10 §7.1).
    pub has_preamble: bool,
    /// Byte order of the data set.
    pub endian: Endian,
}

enum Phase {
    /// Not enough to tell what it is.
    Start(Vec<u8>),
    Meta(MetaReader),
    Elements(DataSet),
    Deflated(Inflate, DataSet),
    Failed(DicomError),
}

/// Reads one Part 10 file, pushed in pieces.
pub struct Reader<S> {
    sink: S,
    limits: Limits,
    bulk_threshold: u32,
    meta: Option<FileMeta>,
    phase: Phase,
}

impl<S: Sink> Reader<S> {
    /// A reader that has seen nothing yet. Binary values of more than `bulk_threshold` bytes go to
    /// the sink as bulk.
    pub fn new(sink: S, limits: Limits, bulk_threshold: u32) -> Self {
        Self { sink, limits, bulk_threshold, meta: None, phase: Phase::Start(Vec::new()) }
    }

    /// A reader of a data set alone: what stands at [`FileMeta::data_set_offset`] of a file with
    /// this File Meta Information. Offsets are those of the file.
    ///
    /// # Errors
    /// What the sink returns from [`Sink::data_set_start`].
    pub fn of_data_set(
        sink: S,
        limits: Limits,
        bulk_threshold: u32,
        meta: FileMeta,
    ) -> Result<Self, DicomError> {
        let mut reader = Self::new(sink, limits, bulk_threshold);
        reader.enter(meta, 0)?;
        Ok(reader)
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`DicomError`]; the reader then repeats it to every further call.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), DicomError> {
        while self.push_some(&mut bytes)? {}
        Ok(())
    }

    /// Takes some of the next bytes off `bytes`, and returns whether it must be called again before
    /// other bytes are given: at least with what is left of `bytes`. So the sink hears no more than
    /// `bytes`, or 64 KiB where the data set is deflated, between two calls.
    ///
    /// # Errors
    /// [`DicomError`]; the reader then repeats it to every further call.
    pub fn push_some(&mut self, bytes: &mut &[u8]) -> Result<bool, DicomError> {
        self.feed(bytes).inspect_err(|error| self.phase = Phase::Failed(error.clone()))
    }

    /// The data ended: checks that it ended where it may, and hands the sink back.
    ///
    /// # Errors
    /// [`DicomError::Truncated`] inside an element or item; [`DicomError::NotDicom`] for less than
    /// a header; what `push` returned where it failed.
    pub fn finish(mut self) -> Result<S, DicomError> {
        if let Phase::Start(bytes) = &mut self.phase {
            let bytes = std::mem::take(bytes);
            self.begin(&bytes)?;
        }
        if let Phase::Meta(meta) = &mut self.phase {
            let complete = meta.finish()?;
            self.enter(complete.meta, complete.kept)?;
        }
        match &self.phase {
            Phase::Start(_) | Phase::Meta(_) => return Err(DicomError::NotDicom),
            Phase::Elements(data_set) => data_set.finish()?,
            Phase::Deflated(inflate, data_set) => {
                inflate.finish()?;
                data_set.finish()?;
            }
            Phase::Failed(error) => return Err(error.clone()),
        }
        Ok(self.sink)
    }

    /// The File Meta Information, once it was read.
    pub fn file_meta(&self) -> Option<&FileMeta> {
        self.meta.as_ref()
    }

    /// The sink, with what it has heard so far.
    pub fn sink(&self) -> &S {
        &self.sink
    }

    /// The sink, to take out of it what it has made so far.
    pub fn sink_mut(&mut self) -> &mut S {
        &mut self.sink
    }

    /// Gives up reading and hands the sink back.
    pub fn into_sink(self) -> S {
        self.sink
    }

    fn feed(&mut self, bytes: &mut &[u8]) -> Result<bool, DicomError> {
        match &mut self.phase {
            Phase::Start(held) => {
                let room = start::ENOUGH.saturating_sub(held.len()).min(bytes.len());
                let (now, rest) = bytes.split_at(room);
                held.extend_from_slice(now);
                *bytes = rest;
                if held.len() >= start::ENOUGH {
                    let held = std::mem::take(held);
                    self.begin(&held)?;
                }
                Ok(!bytes.is_empty())
            }
            Phase::Meta(meta) => {
                if let Some(complete) = meta.push(&mut self.sink, bytes)? {
                    self.enter(complete.meta, complete.kept)?;
                    self.feed_all(&complete.rest)?;
                }
                Ok(!bytes.is_empty())
            }
            Phase::Elements(data_set) => {
                data_set.push(&mut self.sink, std::mem::take(bytes))?;
                Ok(false)
            }
            Phase::Deflated(inflate, data_set) => {
                inflate.step(bytes, self.limits.inflated_bytes, data_set, &mut self.sink)
            }
            Phase::Failed(error) => Err(error.clone()),
        }
    }

    fn feed_all(&mut self, mut bytes: &[u8]) -> Result<(), DicomError> {
        while self.feed(&mut bytes)? {}
        Ok(())
    }

    /// The first bytes, as many as it takes to tell what they are.
    fn begin(&mut self, bytes: &[u8]) -> Result<(), DicomError> {
        let skip = match start::recognise(bytes) {
            Start::Meta(at) => {
                self.phase = Phase::Meta(MetaReader::new(self.limits, at as u64));
                at
            }
            Start::Bare(uid) => {
                let transfer_syntax = uid.parse().map_err(|_| DicomError::NotDicom)?;
                let endian = TransferSyntax::of(&transfer_syntax).encoding.endian();
                let meta = FileMeta {
                    transfer_syntax,
                    media_storage_sop_class: None,
                    media_storage_sop_instance: None,
                    data_set_offset: 0,
                    has_preamble: false,
                    endian,
                };
                self.enter(meta, 0)?;
                0
            }
            Start::Unknown => return Err(DicomError::NotDicom),
        };
        self.feed_all(bytes.get(skip..).unwrap_or_default())
    }

    /// The data set begins; `kept` bytes before it count to `limits.header_bytes`.
    fn enter(&mut self, meta: FileMeta, kept: u64) -> Result<(), DicomError> {
        let encoding = TransferSyntax::of(&meta.transfer_syntax).encoding;
        let start = meta.data_set_offset;
        let data_set = |pos| DataSet::new(encoding, self.limits, self.bulk_threshold, pos, kept);
        self.phase = match encoding {
            Encoding::Deflated => Phase::Deflated(Inflate::new(start), data_set(0)),
            _ => Phase::Elements(data_set(start)),
        };
        self.sink.data_set_start(&meta)?;
        self.meta = Some(meta);
        Ok(())
    }
}
