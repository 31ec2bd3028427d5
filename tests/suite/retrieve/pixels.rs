//! Images with known pixels in any transfer syntax, and files read back.

use collimator::{
    codec::{self, Layout, Photometric, Raster},
    dicom::{
        Limits, Tag, Uid,
        data_set::DataSet,
        frames::FrameTable,
        index::{Indexed, Indexer},
        reader::Reader,
        transfer_syntax::{PixelForm, TransferSyntax},
    },
};

use crate::harness::{
    Dicom,
    corpus::{BIG, DEFLATED, EXPLICIT, IMPLICIT},
};

pub const INSTANCE: &str = "/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.1";

pub fn uid(text: &str) -> Uid {
    text.parse().unwrap()
}

/// An image: its layout and its frames.
#[derive(Clone)]
pub struct Picture {
    pub layout: Layout,
    pub frames: Vec<Vec<u8>>,
}

/// Frames that compress, and differ.
pub fn picture(bits: u8, samples: u8, frames: usize) -> Picture {
    let layout = Layout {
        rows: 24,
        columns: 17,
        samples,
        bits_allocated: bits,
        bits_stored: if bits == 16 { 12 } else { bits },
        high_bit: if bits == 16 { 11 } else { bits - 1 },
        signed: false,
        float: false,
        planar: false,
        photometric: if samples == 3 { Photometric::Rgb } else { Photometric::Monochrome2 },
    };
    let frame = |n: usize| -> Vec<u8> {
        let count = layout.pixels() * usize::from(samples);
        let value = |at: usize| (at / 7 * 5 + at % 11 + 37 * n) as u16;
        match bits {
            1 => {
                let mut packed = vec![0_u8; count.div_ceil(8)];
                let set = (0..count).filter(|at| value(*at) & 2 == 0);
                set.for_each(|at| packed[at / 8] |= 1 << (at % 8));
                packed
            }
            8 => (0..count).map(|at| value(at) as u8).collect(),
            _ => (0..count).flat_map(|at| (value(at) & 0x0FFF).to_le_bytes()).collect(),
        }
    };
    let frames = (0..frames).map(frame).collect();
    Picture { layout, frames }
}

/// What a data set says of these pixels.
fn described(layout: &Layout, frames: usize) -> Dicom {
    let mut ct = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1");
    ct.short(0x0028, 0x0002, layout.samples.into())
        .text(0x0028, 0x0004, "CS", layout.photometric.term())
        .text(0x0028, 0x0008, "IS", &frames.to_string())
        .short(0x0028, 0x0010, layout.rows)
        .short(0x0028, 0x0011, layout.columns)
        .short(0x0028, 0x0100, layout.bits_allocated.into())
        .short(0x0028, 0x0101, layout.bits_stored.into())
        .short(0x0028, 0x0102, layout.high_bit.into())
        .short(0x0028, 0x0103, layout.signed.into());
    if layout.samples > 1 {
        ct.short(0x0028, 0x0006, layout.planar.into());
    }
    ct
}

/// The image as a data set in a transfer syntax; `None` where that cannot hold such pixels.
pub fn stored(picture: &Picture, syntax: &str) -> Option<Dicom> {
    let Picture { layout, frames } = picture;
    if TransferSyntax::of(&uid(syntax)).pixels == PixelForm::Native {
        let mut dicom = described(layout, frames.len());
        let value = if layout.bits_allocated == 1 { joined(picture) } else { frames.concat() };
        if layout.bits_allocated == 16 {
            let words = value.chunks(2).map(|word| u16::from_le_bytes([word[0], word[1]]));
            dicom.words(0x7FE0, 0x0010, "OW", words.collect());
        } else {
            dicom.bytes(0x7FE0, 0x0010, "OB", &value);
        }
        dicom.syntax(syntax);
        return Some(dicom);
    }
    let mut encoded = Vec::new();
    for data in frames {
        let raster = Raster { layout: layout.clone(), data: data.clone() };
        encoded.push(codec::encode(&uid(syntax), &raster, 90).ok()?);
    }
    let mut dicom = described(&encoded[0].layout, frames.len());
    let fragments = encoded.into_iter().map(|frame| {
        let mut data = frame.data;
        data.resize(data.len().next_multiple_of(2), 0);
        data
    });
    dicom.encapsulated(syntax, fragments.collect());
    Some(dicom)
}

/// Frames of single bits end to end.
pub fn joined(picture: &Picture) -> Vec<u8> {
    let pixels = picture.layout.pixels();
    let bit = |at: usize| {
        let (frame, at) = (&picture.frames[at / pixels], at % pixels);
        frame[at / 8] >> (at % 8) & 1
    };
    let count = pixels * picture.frames.len();
    let byte = |from: usize| (from..count.min(from + 8)).map(|at| bit(at) << (at - from)).sum();
    (0..count).step_by(8).map(byte).collect()
}

/// A Part 10 file, read.
pub struct Read {
    pub syntax: String,
    pub header: DataSet,
    pub indexed: Indexed,
    file: Vec<u8>,
}

pub fn read(file: &[u8]) -> Read {
    let limits =
        Limits { element_depth: 16, header_bytes: 1 << 20, inflated_bytes: 1 << 24, frames: 1000 };
    let mut reader = Reader::new(Indexer::new(limits), limits, 4096);
    reader.push(file).unwrap();
    let indexed = reader.finish().unwrap().finish().unwrap();
    let header = DataSet::parse(&indexed.metadata).unwrap();
    Read { syntax: indexed.transfer_syntax.to_string(), header, indexed, file: file.to_vec() }
}

impl Read {
    pub fn text(&self, group: u16, element: u16) -> String {
        self.texts(group, element).first().cloned().unwrap_or_default()
    }

    pub fn texts(&self, group: u16, element: u16) -> Vec<String> {
        self.header.root().texts(Tag(group, element)).map(|text| text.into_owned()).collect()
    }

    /// The bytes of each frame as the file has them; single bits are not moved.
    pub fn frames(&self) -> Vec<Vec<u8>> {
        let table: &FrameTable = self.indexed.frames.as_ref().expect("frames");
        let frame = |at| {
            let ranges = table.ranges(at).unwrap();
            let bytes = ranges
                .iter()
                .map(|(offset, length)| &self.file[*offset as usize..(*offset + *length) as usize]);
            bytes.collect::<Vec<_>>().concat()
        };
        (0..table.len()).map(frame).collect()
    }

    /// The media type of its frames.
    pub fn media_type(&self) -> &'static str {
        TransferSyntax::of(&self.indexed.transfer_syntax).media_type
    }

    /// The frames, decoded.
    pub fn decoded(&self) -> Vec<Vec<u8>> {
        let layout = Layout::of(self.header.root()).unwrap();
        let decode = |frame: &Vec<u8>| {
            let raster = codec::decode(&self.indexed.transfer_syntax, &layout, frame).unwrap();
            raster.data
        };
        self.frames().iter().map(decode).collect()
    }
}

/// Transfer syntaxes that keep every bit, and into which something can be encoded.
pub fn lossless() -> Vec<&'static str> {
    let known = TransferSyntax::known().iter().filter(|entry| {
        let uid = uid(entry.uid);
        entry.pixels == PixelForm::Encapsulated && codec::encodes(&uid) && codec::is_lossless(&uid)
    });
    known.map(|entry| entry.uid).collect()
}

/// The same, for those that lose something.
pub fn lossy() -> Vec<&'static str> {
    let known = TransferSyntax::known().iter().filter(|entry| {
        let uid = uid(entry.uid);
        entry.pixels == PixelForm::Encapsulated && codec::encodes(&uid) && !codec::is_lossless(&uid)
    });
    known.map(|entry| entry.uid).collect()
}

pub fn native() -> [&'static str; 4] {
    [EXPLICIT, IMPLICIT, BIG, DEFLATED]
}
