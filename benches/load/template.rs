//! One instance as bytes, of which many others are made by writing UIDs and a few values over it.
//!
//! Part 10 files in Explicit VR Little Endian. What differs between instances has the same length
//! in all of them, so that making one is a copy of its header, and pixels are never copied.

/// Where a value lies in the header that differs between instances.
type Place = std::ops::Range<usize>;

/// A header with the places that are written over, and the frames behind it.
pub struct Template {
    head: Vec<u8>,
    places: Vec<(Value, Place)>,
    /// Frames that take turns.
    frames: Vec<Vec<u8>>,
    /// How many frames an instance has.
    pub count: u32,
}

/// What differs between instances.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Value {
    Study,
    Series,
    Instance,
    PatientId,
    PatientName,
    Accession,
    StudyDate,
    SeriesNumber,
    InstanceNumber,
    Position,
    Slice,
}

/// What kind of object a template is.
pub struct Shape {
    pub class: &'static str,
    pub side: u16,
    pub frames: u32,
}

const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
/// Multi-frame Grayscale Word Secondary Capture.
const WORDS: &str = "1.2.840.10008.5.1.4.1.1.7.3";
/// Frames that a multi-frame object repeats.
const DIFFERENT: u32 = 4;

impl Shape {
    /// A slice of 512 × 512.
    pub const CT: Self = Self { class: CT, side: 512, frames: 1 };
    /// A slice of 64 × 64: about 10 KB.
    pub const SMALL: Self = Self { class: CT, side: 64, frames: 1 };

    /// Frames as large as a slice.
    pub const fn multi_frame(frames: u32) -> Self {
        Self { class: WORDS, side: 512, frames }
    }
}

impl Template {
    pub fn new(shape: &Shape, seed: u64) -> Self {
        let mut writer = Writer::default();
        file_meta(&mut writer, shape.class);
        header(&mut writer, shape);
        let different = shape.frames.min(DIFFERENT);
        let frames: Vec<Vec<u8>> =
            (0..different).map(|frame| image(shape.side, seed, u64::from(frame))).collect();
        let length = u64::from(shape.frames) * frames[0].len() as u64;
        writer.tag(0x7FE0, 0x0010);
        writer.head.extend_from_slice(b"OW\0\0");
        let length = u32::try_from(length).expect("pixel data of less than 4 GiB");
        writer.head.extend_from_slice(&length.to_le_bytes());
        Self { head: writer.head, places: writer.places, frames, count: shape.frames }
    }

    /// The header of one instance.
    pub fn head(&self, value: impl Fn(Value) -> String) -> Vec<u8> {
        let mut head = self.head.clone();
        for (what, place) in &self.places {
            let value = value(*what);
            assert_eq!(value.len(), place.len(), "{value}: values of all instances are as long");
            head[place.clone()].copy_from_slice(value.as_bytes());
        }
        head
    }

    /// The pixels of a frame, counted from 0.
    pub fn frame(&self, number: u32) -> &[u8] {
        &self.frames[number as usize % self.frames.len()]
    }

    /// Bytes of a file.
    pub fn length(&self) -> u64 {
        self.head.len() as u64 + u64::from(self.count) * self.frames[0].len() as u64
    }
}

/// A smooth image with noise: 12 bits of 16, as a scanner's.
fn image(side: u16, seed: u64, number: u64) -> Vec<u8> {
    let mut state = seed.wrapping_add(number).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut pixels = Vec::with_capacity(2 * usize::from(side) * usize::from(side));
    let middle = f64::from(side) / 2.0;
    for y in 0..side {
        for x in 0..side {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let noise = (state >> 58) as f64;
            let (dx, dy) = ((f64::from(x) - middle) / middle, (f64::from(y) - middle) / middle);
            let bowl = (1.0 - (dx * dx + dy * dy)).max(0.0);
            let waves = ((dx * 9.0 + number as f64).sin() + (dy * 7.0).cos()) * 120.0;
            let value = 40.0 + bowl * 1400.0 + waves * bowl + noise;
            pixels.extend_from_slice(&(value.clamp(0.0, 4095.0) as u16).to_le_bytes());
        }
    }
    pixels
}

fn file_meta(to: &mut Writer, class: &str) {
    let mut meta = Writer::default();
    meta.tag(0x0002, 0x0001);
    meta.head.extend_from_slice(b"OB\0\0\x02\0\0\0\0\x01");
    meta.text(0x0002, 0x0002, "UI", class);
    meta.place(0x0002, 0x0003, "UI", Value::Instance);
    meta.text(0x0002, 0x0010, "UI", "1.2.840.10008.1.2.1");
    meta.text(0x0002, 0x0012, "UI", "2.25.100000");
    meta.text(0x0002, 0x0013, "SH", "LOAD");
    to.head.extend_from_slice(&[0; 128]);
    to.head.extend_from_slice(b"DICM");
    to.tag(0x0002, 0x0000);
    to.head.extend_from_slice(b"UL\x04\0");
    to.head.extend_from_slice(&(meta.head.len() as u32).to_le_bytes());
    let before = to.head.len();
    to.head.extend_from_slice(&meta.head);
    let moved = |(value, place): (Value, Place)| (value, place.start + before..place.end + before);
    to.places.extend(meta.places.into_iter().map(moved));
}

/// What the header of a CT slice has, some sixty attributes.
fn header(to: &mut Writer, shape: &Shape) {
    to.text(0x0008, 0x0005, "CS", "ISO_IR 100");
    to.text(0x0008, 0x0008, "CS", "ORIGINAL\\PRIMARY\\AXIAL");
    to.text(0x0008, 0x0016, "UI", shape.class);
    to.place(0x0008, 0x0018, "UI", Value::Instance);
    to.place(0x0008, 0x0020, "DA", Value::StudyDate);
    to.place(0x0008, 0x0021, "DA", Value::StudyDate);
    to.place(0x0008, 0x0022, "DA", Value::StudyDate);
    to.place(0x0008, 0x0023, "DA", Value::StudyDate);
    to.text(0x0008, 0x0030, "TM", "101112");
    to.text(0x0008, 0x0031, "TM", "101500");
    to.text(0x0008, 0x0032, "TM", "101530.125");
    to.text(0x0008, 0x0033, "TM", "101531");
    to.place(0x0008, 0x0050, "SH", Value::Accession);
    to.text(0x0008, 0x0060, "CS", "CT");
    if shape.class == WORDS {
        to.text(0x0008, 0x0064, "CS", "WSD");
    }
    to.text(0x0008, 0x0070, "LO", "A Maker of Scanners");
    to.text(0x0008, 0x0080, "LO", "General Hospital");
    to.text(0x0008, 0x0081, "ST", "1 Long Street, Smalltown");
    to.text(0x0008, 0x0090, "PN", "Referring^Doctor^^Dr.");
    to.text(0x0008, 0x1010, "SH", "CT01");
    to.text(0x0008, 0x1030, "LO", "CT Thorax and Abdomen");
    to.text(0x0008, 0x103E, "LO", "Thorax 1.0 B30f");
    to.text(0x0008, 0x1040, "LO", "Radiology");
    to.text(0x0008, 0x1070, "PN", "Operator^One");
    to.text(0x0008, 0x1090, "LO", "Scanner 64");
    to.place(0x0010, 0x0010, "PN", Value::PatientName);
    to.place(0x0010, 0x0020, "LO", Value::PatientId);
    to.text(0x0010, 0x0030, "DA", "19610511");
    to.text(0x0010, 0x0040, "CS", "O");
    to.text(0x0010, 0x1010, "AS", "062Y");
    to.text(0x0010, 0x1020, "DS", "1.72");
    to.text(0x0010, 0x1030, "DS", "74.5");
    to.text(0x0010, 0x4000, "LT", "Made by a load generator; nobody's image.");
    to.text(0x0018, 0x0015, "CS", "CHEST");
    to.text(0x0018, 0x0022, "CS", "HELIX");
    to.text(0x0018, 0x0050, "DS", "1.0");
    to.text(0x0018, 0x0060, "DS", "120");
    to.text(0x0018, 0x0090, "DS", "500");
    to.text(0x0018, 0x1000, "LO", "SN-0001");
    to.text(0x0018, 0x1020, "LO", "VA1.0");
    to.text(0x0018, 0x1030, "LO", "ThoraxRoutine");
    if shape.class == WORDS {
        to.text(0x0018, 0x1063, "DS", "40");
    }
    to.text(0x0018, 0x1100, "DS", "500");
    to.text(0x0018, 0x1120, "DS", "0");
    to.text(0x0018, 0x1150, "IS", "500");
    to.text(0x0018, 0x1151, "IS", "180");
    to.text(0x0018, 0x1160, "SH", "0");
    to.text(0x0018, 0x1210, "SH", "B30f");
    to.text(0x0018, 0x5100, "CS", "HFS");
    to.place(0x0020, 0x000D, "UI", Value::Study);
    to.place(0x0020, 0x000E, "UI", Value::Series);
    to.text(0x0020, 0x0010, "SH", "1");
    to.place(0x0020, 0x0011, "IS", Value::SeriesNumber);
    to.text(0x0020, 0x0012, "IS", "1");
    to.place(0x0020, 0x0013, "IS", Value::InstanceNumber);
    to.place(0x0020, 0x0032, "DS", Value::Position);
    to.text(0x0020, 0x0037, "DS", "1\\0\\0\\0\\1\\0");
    to.place(0x0020, 0x0052, "UI", Value::Series);
    to.text(0x0020, 0x1040, "LO", "");
    to.place(0x0020, 0x1041, "DS", Value::Slice);
    to.number(0x0028, 0x0002, 1);
    to.text(0x0028, 0x0004, "CS", "MONOCHROME2");
    if shape.frames > 1 {
        to.text(0x0028, 0x0008, "IS", &shape.frames.to_string());
        to.tag(0x0028, 0x0009);
        to.head.extend_from_slice(b"AT\x04\0\x18\0\x63\x10");
    }
    to.number(0x0028, 0x0010, shape.side);
    to.number(0x0028, 0x0011, shape.side);
    to.text(0x0028, 0x0030, "DS", "0.9765625\\0.9765625");
    to.number(0x0028, 0x0100, 16);
    to.number(0x0028, 0x0101, 12);
    to.number(0x0028, 0x0102, 11);
    to.number(0x0028, 0x0103, 0);
    to.text(0x0028, 0x1050, "DS", "-200");
    to.text(0x0028, 0x1051, "DS", "1600");
    to.text(0x0028, 0x1052, "DS", "-1024");
    to.text(0x0028, 0x1053, "DS", "1");
    to.text(0x0028, 0x1054, "LO", "HU");
}

/// Elements in Explicit VR Little Endian, as they are added.
#[derive(Default)]
struct Writer {
    head: Vec<u8>,
    places: Vec<(Value, Place)>,
}

impl Writer {
    fn tag(&mut self, group: u16, element: u16) {
        self.head.extend_from_slice(&group.to_le_bytes());
        self.head.extend_from_slice(&element.to_le_bytes());
    }

    fn bytes(&mut self, group: u16, element: u16, vr: &str, value: &[u8]) {
        self.tag(group, element);
        self.head.extend_from_slice(vr.as_bytes());
        self.head.extend_from_slice(&(value.len() as u16).to_le_bytes());
        self.head.extend_from_slice(value);
    }

    fn text(&mut self, group: u16, element: u16, vr: &str, value: &str) {
        let mut bytes = value.as_bytes().to_vec();
        if bytes.len() % 2 == 1 {
            bytes.push(if vr == "UI" { 0 } else { b' ' });
        }
        self.bytes(group, element, vr, &bytes);
    }

    fn number(&mut self, group: u16, element: u16, value: u16) {
        self.bytes(group, element, "US", &value.to_le_bytes());
    }

    /// A value that is written over.
    fn place(&mut self, group: u16, element: u16, vr: &str, value: Value) {
        let blank = vec![b' '; value.length()];
        self.bytes(group, element, vr, &blank);
        self.places.push((value, self.head.len() - blank.len()..self.head.len()));
    }
}

impl Value {
    /// Bytes of the value in every instance: an even number.
    pub const fn length(self) -> usize {
        match self {
            Self::Study | Self::Series | Self::Instance => 38,
            Self::PatientId => 18,
            Self::PatientName => 20,
            Self::Accession => 12,
            Self::StudyDate | Self::Slice => 8,
            Self::SeriesNumber | Self::InstanceNumber => 6,
            Self::Position => 26,
        }
    }
}
