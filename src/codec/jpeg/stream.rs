//! Markers and the segments behind them (T.81 Annex B).
//!
//! Owns [`Stream`], which walks over a codestream and keeps the tables it meets. Holds: every
//! number that the headers give is checked here against what T.81 allows, so that decoders can
//! rely on it; entropy-coded bytes are handed out without stuffing, one restart interval at a
//! time. Absent: what the samples are.

use super::{damaged, huffman::Code};
use crate::codec::CodecError;

/// How samples are coded (T.81 Table B.1; arithmetic and hierarchical ones are not decoded).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Process {
    /// DCT, one scan for each component: SOF0, SOF1.
    Sequential,
    /// DCT, several scans for each component: SOF2.
    Progressive,
    /// Prediction: SOF3.
    Lossless,
}

/// One component of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Component {
    /// Its identifier, by which scans name it.
    pub(super) id: u8,
    /// Horizontal sampling factor, 1 to 4.
    pub(super) h: u8,
    /// Vertical sampling factor, 1 to 4.
    pub(super) v: u8,
    /// Number of its quantisation table, 0 to 3.
    pub(super) table: u8,
}

/// A frame header (§B.2.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) process: Process,
    /// Bits of a sample: 8 or 12, or 2 to 16 where lossless.
    pub(super) precision: u8,
    /// Lines; 0 where they follow the first scan (DNL).
    pub(super) rows: u16,
    /// Samples of a line, at least 1.
    pub(super) columns: u16,
    /// 1 to 4.
    pub(super) components: Vec<Component>,
}

/// A component of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// Index into the frame's components.
    pub(super) component: usize,
    /// Number of its table for DC or differences, 0 to 3.
    pub(super) dc: u8,
    /// Number of its table for AC, 0 to 3.
    pub(super) ac: u8,
}

/// A scan header (§B.2.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scan {
    /// 1 to 4, each component once.
    pub(super) members: Vec<Member>,
    /// Start of spectral selection; the predictor of a lossless scan.
    pub(super) start: u8,
    /// End of spectral selection.
    pub(super) end: u8,
    /// Successive approximation, high.
    pub(super) high: u8,
    /// Successive approximation, low; the point transform of a lossless scan.
    pub(super) low: u8,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Frame(Frame),
    /// Entropy-coded bytes follow.
    Scan(Scan),
    /// DNL: the number of lines.
    Lines(u16),
    /// EOI, or the end of the bytes.
    End,
}

/// A codestream and the tables that hold at the place where it is read.
pub(super) struct Stream<'a> {
    bytes: &'a [u8],
    position: usize,
    /// Identifiers of the frame's components, for scan headers.
    identifiers: Vec<u8>,
    /// In zigzag order.
    pub(super) quantisation: [Option<[u16; 64]>; 4],
    pub(super) dc: [Option<Code>; 4],
    pub(super) ac: [Option<Code>; 4],
    /// MCUs between restart markers; 0: there are none.
    pub(super) restart: u16,
    /// There is a JFIF segment: colour is YCbCr.
    pub(super) jfif: bool,
    /// EOI was met.
    pub(super) ended: bool,
    /// The transform that an Adobe segment names: 0 none, 1 YCbCr.
    pub(super) adobe: Option<u8>,
}

impl<'a> Stream<'a> {
    /// Expects SOI.
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, CodecError> {
        if !bytes.starts_with(&[0xFF, 0xD8]) {
            return Err(damaged("not JPEG"));
        }
        Ok(Self {
            bytes,
            position: 2,
            identifiers: Vec::new(),
            quantisation: [None; 4],
            dc: [const { None }; 4],
            ac: [const { None }; 4],
            restart: 0,
            jfif: false,
            ended: false,
            adobe: None,
        })
    }

    /// Bytes that are not read yet.
    pub(super) fn remaining(&self) -> usize {
        self.bytes.len().saturating_sub(self.position)
    }

    /// Reads on until something happens.
    pub(super) fn next(&mut self) -> Result<Event, CodecError> {
        loop {
            let Some(marker) = self.marker() else { return Ok(Event::End) };
            match marker {
                0xD9 => {
                    self.ended = true;
                    return Ok(Event::End);
                }
                // TEM, RST and a second SOI have no parameters.
                0x01 | 0xD0..=0xD8 => continue,
                _ => {}
            }
            let body = self.body()?;
            match marker {
                0xC0..=0xC3 if self.identifiers.is_empty() => {
                    let frame = frame(marker, body)?;
                    self.identifiers = frame.components.iter().map(|c| c.id).collect();
                    return Ok(Event::Frame(frame));
                }
                0xC4 => self.huffman_tables(body)?,
                0xC0..=0xC3 => return Err(damaged("two frames")),
                0xC5..=0xCF | 0xDE => {
                    return Err(CodecError::Unsupported("arithmetic or hierarchical JPEG"));
                }
                0xF7 => return Err(CodecError::Unsupported("JPEG-LS in a JPEG transfer syntax")),
                0xDA => return self.scan(body).map(Event::Scan),
                0xDB => self.quantisation_tables(body)?,
                0xDC => return word(body, 0).map(Event::Lines),
                0xDD => self.restart = word(body, 0)?,
                0xE0 if body.starts_with(b"JFIF\0") => self.jfif = true,
                // Shorter ones are not Adobe's, whatever they begin with.
                0xEE if body.starts_with(b"Adobe") => {
                    self.adobe = body.get(11).copied().or(self.adobe);
                }
                _ => {}
            }
        }
    }

    /// The code of the next marker, or nothing. Bytes in front of it are skipped, as every
    /// decoder does.
    fn marker(&mut self) -> Option<u8> {
        loop {
            let rest = self.bytes.get(self.position..)?;
            let Some(at) = memchr::memchr(0xFF, rest) else {
                self.position = self.bytes.len();
                return None;
            };
            let code = rest.get(at + 1).copied();
            match code {
                None => self.position = self.bytes.len(),
                // Fill bytes.
                Some(0xFF) => self.position += at + 1,
                Some(0) => self.position += at + 2,
                Some(code) => {
                    self.position += at + 2;
                    return Some(code);
                }
            }
        }
    }

    /// The parameters of a marker segment.
    fn body(&mut self) -> Result<&'a [u8], CodecError> {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        let length = usize::from(word(rest, 0)?);
        let body = rest.get(2..length).ok_or(damaged("marker segment"))?;
        self.position += length;
        Ok(body)
    }

    fn quantisation_tables(&mut self, mut body: &[u8]) -> Result<(), CodecError> {
        let wrong = || damaged("quantisation table");
        while let Some((head, rest)) = body.split_first() {
            let slot = self.quantisation.get_mut(usize::from(head & 15)).ok_or_else(wrong)?;
            let mut table = [0; 64];
            let bytes = match head >> 4 {
                0 => {
                    let values = rest.first_chunk::<64>().ok_or_else(wrong)?;
                    table.iter_mut().zip(values).for_each(|(q, value)| *q = u16::from(*value));
                    64
                }
                1 => {
                    let values = rest.first_chunk::<128>().ok_or_else(wrong)?;
                    let values = values.as_chunks::<2>().0;
                    table.iter_mut().zip(values).for_each(|(q, v)| *q = u16::from_be_bytes(*v));
                    128
                }
                _ => return Err(wrong()),
            };
            *slot = Some(table);
            body = rest.get(bytes..).unwrap_or_default();
        }
        Ok(())
    }

    fn huffman_tables(&mut self, mut body: &[u8]) -> Result<(), CodecError> {
        while let Some((head, rest)) = body.split_first() {
            let class = match head >> 4 {
                0 => &mut self.dc,
                1 => &mut self.ac,
                _ => return Err(damaged("Huffman table")),
            };
            let slot = class.get_mut(usize::from(head & 15)).ok_or(damaged("Huffman table"))?;
            let (code, rest) = Code::read(rest)?;
            *slot = Some(code);
            body = rest;
        }
        Ok(())
    }

    fn scan(&self, body: &[u8]) -> Result<Scan, CodecError> {
        let wrong = || damaged("scan header");
        let (count, rest) = body.split_first().ok_or_else(wrong)?;
        let length = 2 * usize::from(*count);
        let (pairs, tail) = rest.split_at_checked(length).ok_or_else(wrong)?;
        let [start, end, approximation] = *tail.first_chunk::<3>().ok_or_else(wrong)?;
        let mut members: Vec<Member> = Vec::new();
        for [id, tables] in pairs.as_chunks::<2>().0 {
            // Identifiers should differ; where they do not, order tells.
            let free = |index: &usize| members.iter().all(|member| member.component != *index);
            let matches = (0..self.identifiers.len()).filter(|i| self.identifiers[*i] == *id);
            let component = matches.into_iter().find(free).ok_or_else(wrong)?;
            let (dc, ac) = (tables >> 4, tables & 15);
            if dc > 3 || ac > 3 {
                return Err(wrong());
            }
            members.push(Member { component, dc, ac });
        }
        if members.is_empty() {
            return Err(wrong());
        }
        Ok(Scan { members, start, end, high: approximation >> 4, low: approximation & 15 })
    }

    /// Fills `segment` with the entropy-coded bytes up to the next marker, without stuffing.
    pub(super) fn segment(&mut self, segment: &mut Vec<u8>) {
        segment.clear();
        loop {
            let rest = self.bytes.get(self.position..).unwrap_or_default();
            let Some(at) = memchr::memchr(0xFF, rest) else {
                segment.extend_from_slice(rest);
                self.position = self.bytes.len();
                return;
            };
            if rest.get(at + 1) == Some(&0) {
                segment.extend_from_slice(rest.get(..=at).unwrap_or_default());
                self.position += at + 2;
            } else {
                segment.extend_from_slice(rest.get(..at).unwrap_or_default());
                self.position += at;
                return;
            }
        }
    }

    /// Expects the restart marker number `count`, modulo 8.
    pub(super) fn restart_marker(&mut self, count: usize) -> Result<(), CodecError> {
        match self.marker() {
            Some(code) if usize::from(code) == 0xD0 + count % 8 => Ok(()),
            _ => Err(damaged("restart marker")),
        }
    }
}

fn word(bytes: &[u8], at: usize) -> Result<u16, CodecError> {
    let two = bytes.get(at..).and_then(|rest| rest.first_chunk::<2>());
    two.map(|two| u16::from_be_bytes(*two)).ok_or(damaged("marker segment"))
}

fn frame(marker: u8, body: &[u8]) -> Result<Frame, CodecError> {
    let wrong = || damaged("frame header");
    let process = match marker {
        0xC2 => Process::Progressive,
        0xC3 => Process::Lossless,
        _ => Process::Sequential,
    };
    let [precision, _, _, _, _, count] = *body.first_chunk::<6>().ok_or_else(wrong)?;
    let (rows, columns) = (word(body, 1)?, word(body, 3)?);
    let specifications = body.get(6..6 + 3 * usize::from(count)).ok_or_else(wrong)?;
    let components = specifications.as_chunks::<3>().0.iter().map(|[id, sampling, table]| {
        Component { id: *id, h: sampling >> 4, v: sampling & 15, table: *table }
    });
    let components: Vec<Component> = components.collect();
    let possible = match process {
        Process::Lossless => (2..=16).contains(&precision),
        _ => (precision == 8 || precision == 12) && components.iter().all(|c| c.table < 4),
    };
    let sampled = |c: &Component| (1..=4).contains(&c.h) && (1..=4).contains(&c.v);
    if !possible
        || columns == 0
        || !(1..=4).contains(&components.len())
        || !components.iter().all(sampled)
    {
        return Err(wrong());
    }
    Ok(Frame { process, precision, rows, columns, components })
}
