//! Marker segments of JPEG-LS (T.87 Annex C).

use super::{
    super::{CodecError, Layout},
    model::{Model, Preset},
};

const SOI: u8 = 0xD8;
const EOI: u8 = 0xD9;
const SOS: u8 = 0xDA;
const DNL: u8 = 0xDC;
const DRI: u8 = 0xDD;
const SOF55: u8 = 0xF7;
const LSE: u8 = 0xF8;

/// What a frame header says (§C.2.2).
pub(super) struct Frame {
    /// `P`: 2 to 16.
    pub(super) precision: u32,
    pub(super) rows: u32,
    pub(super) columns: u32,
    /// Their identifiers.
    pub(super) components: Vec<u8>,
}

/// How the components of a scan take turns (§C.2.3, `ILV`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interleave {
    /// One component in a scan.
    None,
    /// A line of each.
    Line,
    /// A sample of each.
    Sample,
}

/// What a scan header says (§C.2.3).
pub(super) struct Scan {
    /// Identifiers, 1 to 4.
    pub(super) components: Vec<u8>,
    pub(super) near: u32,
    pub(super) interleave: Interleave,
}

/// What a decoder has to know of.
pub(super) enum Marker {
    Frame(Frame),
    Preset(Preset),
    /// Lines between restart markers; 0: there are none.
    RestartInterval(u32),
    /// The entropy-coded bytes follow.
    Scan(Scan),
    End,
}

/// Reads a codestream's segments one after another.
pub(super) struct Segments<'a> {
    rest: &'a [u8],
}

/// Big-endian fields of a segment.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn number(&mut self, bytes: usize) -> Result<u32, CodecError> {
        let (field, rest) =
            self.0.split_at_checked(bytes).ok_or(CodecError::Damaged("a short segment"))?;
        self.0 = rest;
        Ok(field.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }

    fn byte(&mut self) -> Result<u8, CodecError> {
        self.number(1).map(|byte| byte as u8)
    }
}

impl<'a> Segments<'a> {
    /// # Errors
    /// [`CodecError::Damaged`] where the bytes do not begin with an image.
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, CodecError> {
        match bytes.strip_prefix(&[0xFF, SOI]) {
            Some(rest) => Ok(Self { rest }),
            None => Err(CodecError::Damaged("not a JPEG-LS codestream")),
        }
    }

    /// The next marker segment that matters.
    ///
    /// # Errors
    /// [`CodecError::Damaged`] where there is none; [`CodecError::Unsupported`] where it asks for
    /// what this decoder does not do.
    pub(super) fn next(&mut self) -> Result<Marker, CodecError> {
        loop {
            let marker = self.marker()?;
            if marker == EOI {
                return Ok(Marker::End);
            }
            let length = Fields(self.rest).number(2)? as usize;
            let segment = self.rest.get(2..length).ok_or(CodecError::Damaged("a short segment"))?;
            self.rest = self.rest.get(length..).unwrap_or_default();
            let mut fields = Fields(segment);
            match marker {
                SOF55 => return frame(&mut fields).map(Marker::Frame),
                SOS => return scan(&mut fields).map(Marker::Scan),
                DRI => {
                    let bytes = segment.len().clamp(2, 4);
                    return fields.number(bytes).map(Marker::RestartInterval);
                }
                LSE => match fields.byte()? {
                    1 => return preset(&mut fields).map(Marker::Preset),
                    // Mapping tables; a scan that uses one is refused.
                    2 | 3 => {}
                    _ => return Err(CodecError::Unsupported("oversize JPEG-LS images")),
                },
                // Application data: HP's colour transforms change what samples mean.
                0xE8 if segment.starts_with(b"mrfx") && segment.get(4) != Some(&0) => {
                    return Err(CodecError::Unsupported("JPEG-LS with a colour transform"));
                }
                0xE0..=0xEF | 0xFE | DNL => {}
                0xC0..=0xCF => return Err(CodecError::Unsupported("JPEG that is not JPEG-LS")),
                _ => return Err(CodecError::Damaged("an unknown marker")),
            }
        }
    }

    fn marker(&mut self) -> Result<u8, CodecError> {
        const MISSING: CodecError = CodecError::Damaged("a marker is missing");
        let mut rest = self.rest.strip_prefix(&[0xFF]).ok_or(MISSING)?;
        // Any number of fill bytes may stand before a marker.
        while let Some(more) = rest.strip_prefix(&[0xFF]) {
            rest = more;
        }
        let (&marker, rest) = rest.split_first().ok_or(MISSING)?;
        self.rest = rest;
        Ok(marker)
    }

    /// The entropy-coded bytes up to the next marker.
    pub(super) fn entropy(&mut self) -> &'a [u8] {
        // A byte that follows FF and has its first bit set makes both a marker (§A.1).
        let is_marker = |at: &usize| self.rest.get(at + 1).is_none_or(|next| *next >= 0x80);
        let end = memchr::memchr_iter(0xFF, self.rest).find(is_marker);
        let (entropy, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        entropy
    }

    /// Steps over the restart marker `number` modulo 8.
    ///
    /// # Errors
    /// [`CodecError::Damaged`] where another one or none stands here.
    pub(super) fn restart(&mut self, number: u32) -> Result<(), CodecError> {
        if self.marker()? == 0xD0 + (number % 8) as u8 {
            Ok(())
        } else {
            Err(CodecError::Damaged("a restart marker is missing"))
        }
    }
}

fn frame(fields: &mut Fields) -> Result<Frame, CodecError> {
    let precision = fields.number(1)?;
    let rows = fields.number(2)?;
    let columns = fields.number(2)?;
    let count = fields.byte()?;
    if !(2..=16).contains(&precision) || columns == 0 || !(1..=4).contains(&count) {
        return Err(CodecError::Damaged("the frame header"));
    }
    let mut components = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        components.push(fields.byte()?);
        if fields.byte()? != 0x11 {
            return Err(CodecError::Unsupported("subsampled JPEG-LS components"));
        }
        fields.byte()?;
    }
    Ok(Frame { precision, rows, columns, components })
}

fn scan(fields: &mut Fields) -> Result<Scan, CodecError> {
    let count = fields.byte()?;
    if !(1..=4).contains(&count) {
        return Err(CodecError::Damaged("the scan header"));
    }
    let mut components = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        components.push(fields.byte()?);
        if fields.byte()? != 0 {
            return Err(CodecError::Unsupported("JPEG-LS mapping tables"));
        }
    }
    let near = fields.number(1)?;
    let interleave = match fields.byte()? {
        // With a single component there is nothing to interleave.
        0..=2 if count == 1 => Interleave::None,
        1 => Interleave::Line,
        2 => Interleave::Sample,
        _ => return Err(CodecError::Damaged("the interleaving of a scan")),
    };
    if fields.byte()? & 0x0F != 0 {
        return Err(CodecError::Unsupported("JPEG-LS point transforms"));
    }
    Ok(Scan { components, near, interleave })
}

fn preset(fields: &mut Fields) -> Result<Preset, CodecError> {
    let max = fields.number(2)?;
    let thresholds = [fields.number(2)?, fields.number(2)?, fields.number(2)?];
    Ok(Preset { max, thresholds, reset: fields.number(2)? })
}

/// Writes everything before the entropy-coded bytes of an image in one scan.
pub(super) fn write_header(
    layout: &Layout,
    model: &Model,
    precision: u32,
    interleave: Interleave,
    out: &mut Vec<u8>,
) {
    let components = 1..=layout.samples;
    out.extend([0xFF, SOI, 0xFF, SOF55, 0, 8 + 3 * layout.samples, precision as u8]);
    out.extend(layout.rows.to_be_bytes());
    out.extend(layout.columns.to_be_bytes());
    out.push(layout.samples);
    components.clone().for_each(|id| out.extend([id, 0x11, 0]));
    if precision > 12 {
        // Some old decoders compute other thresholds than the standard's for so many bits.
        out.extend([0xFF, LSE, 0, 13, 1]);
        let [t1, t2, t3] = model.thresholds;
        for value in [model.max, t1, t2, t3, model.reset as i32] {
            out.extend((value as u16).to_be_bytes());
        }
    }
    out.extend([0xFF, SOS, 0, 6 + 2 * layout.samples, layout.samples]);
    components.for_each(|id| out.extend([id, 0]));
    let interleave = match interleave {
        Interleave::None => 0,
        Interleave::Line => 1,
        Interleave::Sample => 2,
    };
    out.extend([model.near as u8, interleave, 0]);
}

/// Ends an image.
pub(super) fn write_end(out: &mut Vec<u8>) {
    out.extend([0xFF, EOI]);
}
