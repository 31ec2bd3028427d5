//! Deflated data sets (PS3.5 §A.5): one raw deflate stream (RFC 1951), inflated as it arrives.

use flate2::{Decompress, FlushDecompress, Status};

use super::{Sink, data_set::DataSet};
use crate::dicom::DicomError;

/// Most bytes that one step inflates.
const STEP: usize = 64 * 1024;
/// Writers that deflate with a gzip library leave its CRC-32 and length behind.
const TRAILER: u64 = 8;

pub(super) struct Inflate {
    stream: Decompress,
    buffer: Box<[u8]>,
    /// Offset in the file of the next byte to come.
    pos: u64,
    ended: bool,
    /// Bytes seen after the end.
    beyond: u64,
}

impl Inflate {
    /// A deflate stream that begins at offset `pos` of the file.
    pub(super) fn new(pos: u64) -> Self {
        let buffer = vec![0; STEP].into_boxed_slice();
        Self { stream: Decompress::new(false), buffer, pos, ended: false, beyond: 0 }
    }

    /// Inflates up to [`STEP`] bytes into the data set. Whether there is more to do, be it that
    /// input is left or that not all of what was taken is inflated.
    pub(super) fn step<S: Sink>(
        &mut self,
        input: &mut &[u8],
        limit: u64,
        data_set: &mut DataSet,
        sink: &mut S,
    ) -> Result<bool, DicomError> {
        if self.ended {
            return self.after_end(input);
        }
        let (taken, given) = (self.stream.total_in(), self.stream.total_out());
        let status = self
            .stream
            .decompress(input, &mut self.buffer, FlushDecompress::None)
            .map_err(|_| DicomError::Inflate)?;
        let taken = self.stream.total_in() - taken;
        let given = self.stream.total_out() - given;
        if self.stream.total_out() > limit {
            return Err(DicomError::Limit { key: "limits.inflated_bytes", limit });
        }
        self.pos += taken;
        *input = input.get(taken as usize..).unwrap_or_default();
        let inflated = self.buffer.get(..given as usize).unwrap_or_default();
        sink.inflated(inflated);
        data_set.push(sink, inflated)?;
        self.ended = status == Status::StreamEnd;
        if !self.ended && taken == 0 && given == 0 && !input.is_empty() {
            return Err(DicomError::Inflate);
        }
        // The inflater may hold back output even where the buffer had room for it.
        Ok(!input.is_empty() || (!self.ended && given > 0))
    }

    /// Zeros may follow, for PS3.5 §A.5 pads to even length, and before them [`TRAILER`] bytes.
    fn after_end(&mut self, input: &mut &[u8]) -> Result<bool, DicomError> {
        let checked = TRAILER.saturating_sub(self.beyond).min(input.len() as u64) as usize;
        let rest = input.get(checked..).unwrap_or_default();
        if let Some(at) = rest.iter().position(|byte| *byte != 0) {
            let what = "bytes follow the end of the deflated data set";
            return Err(DicomError::Malformed { at: self.pos + (checked + at) as u64, what });
        }
        self.beyond += input.len() as u64;
        self.pos += input.len() as u64;
        *input = &[];
        Ok(false)
    }

    /// Checks that the stream came to its end.
    pub(super) fn finish(&self) -> Result<(), DicomError> {
        if self.ended { Ok(()) } else { Err(DicomError::Truncated { at: self.pos }) }
    }
}
