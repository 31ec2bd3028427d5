//! Part 10 files made on the spot: small, valid, and different where a test needs them to be.

use std::{collections::BTreeMap, io::Write};

pub const IMPLICIT: &str = "1.2.840.10008.1.2";
pub const EXPLICIT: &str = "1.2.840.10008.1.2.1";
pub const DEFLATED: &str = "1.2.840.10008.1.2.1.99";
pub const BIG: &str = "1.2.840.10008.1.2.2";
/// Every transfer syntax without VRs: also Papyrus 3 and the private one of GE.
const IMPLICITS: [&str; 3] = [IMPLICIT, "1.2.840.10008.1.20", "1.2.840.113619.5.2"];
/// Every transfer syntax whose data set is one deflated stream: also those of JPIP.
const DEFLATES: [&str; 3] = [DEFLATED, "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"];
pub const JPEG_BASELINE: &str = "1.2.840.10008.1.2.4.50";
/// Encapsulated Uncompressed Explicit VR Little Endian.
pub const IN_FRAGMENTS: &str = "1.2.840.10008.1.2.1.98";
pub const RLE: &str = "1.2.840.10008.1.2.5";
pub const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
pub const MR: &str = "1.2.840.10008.5.1.4.1.1.4";

/// A value before it is encoded.
#[derive(Clone, Debug)]
enum Value {
    Bytes(Vec<u8>),
    /// 16-bit numbers: the only values here whose bytes the encoding swaps.
    Words(Vec<u16>),
    Items(Vec<Dicom>),
    /// Offset table (of item offsets) and fragments.
    Fragments(Vec<u32>, Vec<Vec<u8>>),
}

/// A data set under construction: of an instance, or of an item.
#[derive(Clone, Debug)]
pub struct Dicom {
    syntax: String,
    elements: BTreeMap<(u16, u16), (&'static str, Value)>,
}

/// How elements are written.
#[derive(Clone, Copy)]
struct Encoding {
    implicit: bool,
    big: bool,
}

impl Dicom {
    /// An empty item of a sequence.
    pub fn item() -> Self {
        Self { syntax: EXPLICIT.into(), elements: BTreeMap::new() }
    }

    /// A CT image of 4 × 4 pixels, 16 bits.
    pub fn ct(study: &str, series: &str, instance: &str) -> Self {
        let mut dicom = Self::item();
        dicom
            .text(0x0008, 0x0016, "UI", CT)
            .text(0x0008, 0x0018, "UI", instance)
            .text(0x0008, 0x0020, "DA", "20240102")
            .text(0x0008, 0x0030, "TM", "101112")
            .text(0x0008, 0x0050, "SH", "ACC1")
            .text(0x0008, 0x0060, "CS", "CT")
            .text(0x0010, 0x0010, "PN", "Doe^Jane")
            .text(0x0010, 0x0020, "LO", "PAT1")
            .text(0x0020, 0x000D, "UI", study)
            .text(0x0020, 0x000E, "UI", series)
            .text(0x0020, 0x0011, "IS", "1")
            .text(0x0020, 0x0013, "IS", "1")
            .short(0x0028, 0x0002, 1)
            .text(0x0028, 0x0004, "CS", "MONOCHROME2")
            .short(0x0028, 0x0010, 4)
            .short(0x0028, 0x0011, 4)
            .short(0x0028, 0x0100, 16)
            .short(0x0028, 0x0101, 16)
            .short(0x0028, 0x0102, 15)
            .short(0x0028, 0x0103, 0)
            .pixels((0..16).collect());
        dicom
    }

    pub fn text(&mut self, group: u16, element: u16, vr: &'static str, value: &str) -> &mut Self {
        self.bytes(group, element, vr, value.as_bytes())
    }

    pub fn short(&mut self, group: u16, element: u16, value: u16) -> &mut Self {
        self.words(group, element, "US", vec![value])
    }

    /// Bytes as they are, padded to an even length.
    pub fn bytes(&mut self, group: u16, element: u16, vr: &'static str, value: &[u8]) -> &mut Self {
        let mut bytes = value.to_vec();
        if bytes.len() % 2 == 1 {
            bytes.push(if ["UI", "OB", "UN"].contains(&vr) { 0 } else { b' ' });
        }
        self.set(group, element, vr, Value::Bytes(bytes))
    }

    pub fn words(&mut self, group: u16, element: u16, vr: &'static str, v: Vec<u16>) -> &mut Self {
        self.set(group, element, vr, Value::Words(v))
    }

    pub fn sequence(&mut self, group: u16, element: u16, items: Vec<Dicom>) -> &mut Self {
        self.set(group, element, "SQ", Value::Items(items))
    }

    pub fn remove(&mut self, group: u16, element: u16) -> &mut Self {
        self.elements.remove(&(group, element));
        self
    }

    pub fn pixels(&mut self, words: Vec<u16>) -> &mut Self {
        self.words(0x7FE0, 0x0010, "OW", words)
    }

    /// Encapsulated pixel data, one fragment a frame, with an empty Basic Offset Table.
    pub fn encapsulated(&mut self, syntax: &str, frames: Vec<Vec<u8>>) -> &mut Self {
        self.fragmented(syntax, frames.into_iter().map(|frame| vec![frame]).collect(), false)
    }

    /// Encapsulated pixel data: each frame with its fragments, with or without offsets in the
    /// Basic Offset Table.
    pub fn fragmented(
        &mut self,
        syntax: &str,
        frames: Vec<Vec<Vec<u8>>>,
        with_offsets: bool,
    ) -> &mut Self {
        self.syntax = syntax.into();
        self.text(0x0028, 0x0008, "IS", &frames.len().to_string());
        let (mut offsets, mut at) = (Vec::new(), 0_u32);
        for frame in &frames {
            offsets.push(at);
            at += frame.iter().map(|fragment| 8 + fragment.len() as u32).sum::<u32>();
        }
        if !with_offsets {
            offsets.clear();
        }
        let fragments = frames.into_iter().flatten().collect();
        self.set(0x7FE0, 0x0010, "OB", Value::Fragments(offsets, fragments))
    }

    pub fn syntax(&mut self, syntax: &str) -> &mut Self {
        self.syntax = syntax.into();
        self
    }

    fn set(&mut self, group: u16, element: u16, vr: &'static str, value: Value) -> &mut Self {
        self.elements.insert((group, element), (vr, value));
        self
    }

    /// A 16-bit number that the data set holds.
    pub fn number(&self, group: u16, element: u16) -> u16 {
        match self.elements.get(&(group, element)) {
            Some((_, Value::Words(words))) => words[0],
            _ => 0,
        }
    }

    fn plain(&self, group: u16, element: u16) -> Vec<u8> {
        match self.elements.get(&(group, element)) {
            Some((_, Value::Bytes(bytes))) => bytes.clone(),
            _ => Vec::new(),
        }
    }

    /// The data set as its transfer syntax writes it.
    pub fn data_set(&self) -> Vec<u8> {
        let is_one_of = |known: &[&str]| known.contains(&&*self.syntax);
        let encoding = Encoding { implicit: is_one_of(&IMPLICITS), big: self.syntax == BIG };
        let mut out = Vec::new();
        self.write(&mut out, encoding);
        if is_one_of(&DEFLATES) {
            let level = flate2::Compression::fast();
            let mut deflate = flate2::write::DeflateEncoder::new(Vec::new(), level);
            deflate.write_all(&out).unwrap();
            out = deflate.finish().unwrap();
            if out.len() % 2 == 1 {
                out.push(0);
            }
        }
        out
    }

    /// File Meta Information.
    pub fn meta(&self) -> Vec<u8> {
        let mut elements = Self::item();
        elements
            .bytes(0x0002, 0x0001, "OB", &[0, 1])
            .bytes(0x0002, 0x0002, "UI", &self.plain(0x0008, 0x0016))
            .bytes(0x0002, 0x0003, "UI", &self.plain(0x0008, 0x0018))
            .text(0x0002, 0x0010, "UI", &self.syntax)
            .text(0x0002, 0x0012, "UI", "1.2.3");
        let mut rest = Vec::new();
        let explicit = Encoding { implicit: false, big: false };
        elements.write(&mut rest, explicit);
        let mut length = Self::item();
        length.bytes(0x0002, 0x0000, "UL", &(rest.len() as u32).to_le_bytes());
        let mut meta = Vec::new();
        length.write(&mut meta, explicit);
        meta.extend_from_slice(&rest);
        meta
    }

    /// The whole file: preamble, File Meta Information, data set.
    pub fn file(&self) -> Vec<u8> {
        let mut file = vec![0; 128];
        file.extend_from_slice(b"DICM");
        file.extend_from_slice(&self.meta());
        file.extend_from_slice(&self.data_set());
        file
    }

    fn write(&self, out: &mut Vec<u8>, encoding: Encoding) {
        for ((group, element), (vr, value)) in &self.elements {
            encoding.tag(out, *group, *element);
            match value {
                Value::Bytes(bytes) => {
                    encoding.header(out, vr, bytes.len() as u32);
                    out.extend_from_slice(bytes);
                }
                Value::Words(words) => {
                    encoding.header(out, vr, 2 * words.len() as u32);
                    words.iter().for_each(|word| encoding.u16(out, *word));
                }
                Value::Items(items) => {
                    // Undefined length outside, defined inside: both are read.
                    encoding.header(out, vr, u32::MAX);
                    for item in items {
                        let mut content = Vec::new();
                        item.write(&mut content, encoding);
                        encoding.item(out, &content);
                    }
                    encoding.tag(out, 0xFFFE, 0xE0DD);
                    encoding.u32(out, 0);
                }
                Value::Fragments(offsets, fragments) => {
                    encoding.header(out, vr, u32::MAX);
                    let table: Vec<u8> = offsets.iter().flat_map(|o| o.to_le_bytes()).collect();
                    encoding.item(out, &table);
                    fragments.iter().for_each(|fragment| encoding.item(out, fragment));
                    encoding.tag(out, 0xFFFE, 0xE0DD);
                    encoding.u32(out, 0);
                }
            }
        }
    }
}

impl Encoding {
    fn u16(self, out: &mut Vec<u8>, value: u16) {
        out.extend(if self.big { value.to_be_bytes() } else { value.to_le_bytes() });
    }

    fn u32(self, out: &mut Vec<u8>, value: u32) {
        out.extend(if self.big { value.to_be_bytes() } else { value.to_le_bytes() });
    }

    fn tag(self, out: &mut Vec<u8>, group: u16, element: u16) {
        self.u16(out, group);
        self.u16(out, element);
    }

    fn header(self, out: &mut Vec<u8>, vr: &str, length: u32) {
        if self.implicit {
            return self.u32(out, length);
        }
        out.extend_from_slice(vr.as_bytes());
        if ["OB", "OW", "OF", "OD", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"].contains(&vr) {
            out.extend_from_slice(&[0, 0]);
            self.u32(out, length);
        } else {
            self.u16(out, length as u16);
        }
    }

    fn item(self, out: &mut Vec<u8>, content: &[u8]) {
        self.tag(out, 0xFFFE, 0xE000);
        self.u32(out, content.len() as u32);
        out.extend_from_slice(content);
    }
}

/// The Content-Type of the bodies that [`multipart_of`] makes.
pub const RELATED: &str = "multipart/related; type=\"application/dicom\"; boundary=frontier";

/// A multipart/related body of `application/dicom` parts.
pub fn multipart(files: &[Vec<u8>]) -> Vec<u8> {
    let parts: Vec<(&str, &[u8])> =
        files.iter().map(|file| ("application/dicom", file.as_slice())).collect();
    multipart_of(&parts)
}

/// A multipart/related body of any parts.
pub fn multipart_of(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (kind, bytes) in parts {
        body.extend_from_slice(format!("--frontier\r\nContent-Type: {kind}\r\n\r\n").as_bytes());
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--frontier--\r\n");
    body
}

/// A box of an MP4 file.
pub fn mp4_box(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u32 + 8).to_be_bytes();
    [&length[..], kind, content].concat()
}

/// An MP4 file of 50 frames of 72 × 54, 25 a second, with such a sample entry and configuration.
pub fn mp4(entry: &[u8; 4], configuration: (&[u8; 4], &[u8])) -> Vec<u8> {
    let mut sample = vec![0; 78];
    sample[24..28].copy_from_slice(&[0, 72, 0, 54]);
    sample.extend(mp4_box(configuration.0, configuration.1));
    let description = [&[0, 0, 0, 0, 0, 0, 0, 1][..], &mp4_box(entry, &sample)].concat();
    let times = [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 50, 0, 0, 0, 40];
    let table = [mp4_box(b"stsd", &description), mp4_box(b"stts", &times)].concat();
    let mut header = vec![0; 12];
    header.extend(1000_u32.to_be_bytes());
    header.extend(2000_u32.to_be_bytes());
    let inner = mp4_box(b"minf", &mp4_box(b"stbl", &table));
    let media = [mp4_box(b"mdhd", &header), inner].concat();
    let sound = mp4_box(b"trak", &mp4_box(b"mdia", b""));
    let movie = [sound, mp4_box(b"trak", &mp4_box(b"mdia", &media))].concat();
    let whole =
        [mp4_box(b"ftyp", b"isom\0\0\0\0"), mp4_box(b"moov", &movie), mp4_box(b"mdat", &[7; 100])];
    whole.concat()
}

/// The configuration of an H.264 stream: High profile, level 4.1.
pub const AVC: [u8; 5] = [1, 100, 0, 41, 0xFF];

/// The configurations of HEVC streams of 72 × 54 as x265 makes them: Main, and Main 10.
pub const HEVC: [&str; 2] = [
    "0101600000009000000000001ef000fcfdf8f800000f02a00001001840010c01ffff01600000030090000003000003001e\
     959409a10001002b42010101600000030090000003000003001ea02881072cd965654a4c2f016808000003000800000300\
     c840",
    "0102200000009000000000001ef000fcfdfafa00000f02a00001001840010c01ffff02200000030090000003000003001e\
     959409a10001002a42010102200000030090000003000003001ea02881072ccd965654a4c2f0168080000003008000000c\
     84",
];

/// The bytes of two hexadecimal digits each.
pub fn bytes_of(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().as_chunks::<2>().0.iter();
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}
