//! Part 10 files to read: CT slices as the load generator stores them, and the same in other forms.

use std::io::Write as _;

use collimator::dicom::Limits;
use flate2::{Compression, write::DeflateEncoder};

use crate::template::{Shape, Template, Value};

/// Limits as a server has them without configuration.
pub fn limits() -> Limits {
    config().limits.parsing()
}

/// Binary values beyond are bulk data, as a server has it without configuration.
pub fn bulk_threshold() -> u32 {
    u32::try_from(config().limits.bulk_threshold).expect("a threshold of less than 4 GiB")
}

pub fn config() -> collimator::config::Config {
    collimator::config::Config::load(&collimator::config::Sources::default())
        .expect("the defaults are a configuration")
}

/// A CT slice with some 70 attributes and 512 × 512 pixels, the given one of its series.
pub fn ct(number: u32) -> Vec<u8> {
    file(&Template::new(&Shape::CT, 1), number)
}

/// A slice with the same header and 64 × 64 pixels.
pub fn small(number: u32) -> Vec<u8> {
    file(&Template::new(&Shape::SMALL, 1), number)
}

/// `count` small slices of one series.
pub fn series(count: u32) -> Vec<Vec<u8>> {
    let template = Template::new(&Shape::SMALL, 1);
    (0..count).map(|number| file(&template, number)).collect()
}

fn file(template: &Template, number: u32) -> Vec<u8> {
    let mut file = head(template, number);
    (0..template.count).for_each(|frame| file.extend_from_slice(template.frame(frame)));
    file
}

fn head(template: &Template, number: u32) -> Vec<u8> {
    template.head(|value| match value {
        Value::Study => format!("2.25.1{:032}", 0),
        Value::Series => format!("2.25.2{:032}", 0),
        Value::Instance => format!("2.25.3{number:032}"),
        Value::PatientId => format!("P{number:017}"),
        Value::PatientName => format!("{:<20}", "Doe^Jane"),
        Value::Accession => format!("A{number:011}"),
        Value::StudyDate => "20240131".to_owned(),
        Value::SeriesNumber => format!("{:<6}", 1),
        Value::InstanceNumber => format!("{:<6}", number + 1),
        Value::Position => format!("-250.000\\-250.000\\{:08.3}", f64::from(number)),
        Value::Slice => format!("{:08.3}", f64::from(number)),
    })
}

/// Bytes of the element header of native pixel data, the last thing of a template's head.
const PIXELS: usize = 12;

/// A multi-frame object of 200 small frames with functional groups for each, as enhanced objects
/// have them (PS3.3 §C.7.6.16): some 2,000 elements in items four deep.
pub fn enhanced() -> Vec<u8> {
    let template = Template::new(&Shape { side: 64, ..Shape::multi_frame(200) }, 1);
    let mut file = head(&template, 0);
    let pixels = file.split_off(file.len() - PIXELS);
    let mut frames = Element::default();
    for frame in 1..=200_u32 {
        let mut content = Element::default();
        content.value(0x0018, 0x9074, "DT", b"20240131101112.123456 ");
        content.value(0x0018, 0x9151, "DT", b"20240131101112.223456 ");
        content.value(0x0020, 0x9056, "SH", b"1 ");
        content.value(0x0020, 0x9157, "UL", &[frame.to_le_bytes(), 1_u32.to_le_bytes()].concat());
        let mut position = Element::default();
        let place = format!("{:<30}", format!("-250.000\\-250.000\\{:08.3}", f64::from(frame)));
        position.value(0x0020, 0x0032, "DS", place.as_bytes());
        let mut orientation = Element::default();
        orientation.value(0x0020, 0x0037, "DS", b"1\\0\\0\\0\\1\\0 ");
        let mut measures = Element::default();
        measures.value(0x0018, 0x0050, "DS", b"1.0 ");
        measures.value(0x0028, 0x0030, "DS", b"0.9765625\\0.9765625 ");
        let mut item = Element::default();
        item.sequence(0x0020, 0x9111, &[content]);
        item.sequence(0x0020, 0x9113, &[position]);
        item.sequence(0x0020, 0x9116, &[orientation]);
        item.sequence(0x0028, 0x9110, &[measures]);
        frames.items.push(item.bytes);
    }
    let mut groups = Element::default();
    groups.of_items(0x5200, 0x9230, &frames.items);
    file.extend_from_slice(&groups.bytes);
    file.extend_from_slice(&pixels);
    (0..template.count).for_each(|frame| file.extend_from_slice(template.frame(frame)));
    file
}

/// An object of `frames` encapsulated frames (JPEG Baseline by its transfer syntax) of so many
/// fragments each, with or without a Basic Offset Table (PS3.5 §A.4).
pub fn encapsulated(frames: u32, fragments: u32, with_offsets: bool) -> Vec<u8> {
    const FRAGMENT: u32 = 4_000;
    let template = Template::new(&Shape { side: 64, ..Shape::multi_frame(frames) }, 1);
    let head = head(&template, 0);
    let mut file = renamed(&head[..head.len() - PIXELS], "1.2.840.10008.1.2.4.50");
    file.extend_from_slice(b"\xE0\x7F\x10\0OB\0\0\xFF\xFF\xFF\xFF");
    let item = |file: &mut Vec<u8>, length: u32| {
        file.extend_from_slice(b"\xFE\xFF\0\xE0");
        file.extend_from_slice(&length.to_le_bytes());
    };
    let offsets = if with_offsets { frames } else { 0 };
    item(&mut file, offsets * 4);
    for frame in 0..offsets {
        file.extend_from_slice(&(frame * fragments * (FRAGMENT + 8)).to_le_bytes());
    }
    for number in 0..frames * fragments {
        item(&mut file, FRAGMENT);
        let start = file.len();
        let first = number % fragments == 0;
        file.extend_from_slice(if first { b"\xFF\xD8\xFF\xE0" } else { b"\0\0\0\0" });
        file.resize(start + FRAGMENT as usize, 0x5A);
    }
    file.extend_from_slice(b"\xFE\xFF\xDD\xE0\0\0\0\0");
    file
}

/// The slice as Deflated Explicit VR Little Endian (PS3.5 §A.5).
pub fn deflated() -> Vec<u8> {
    let file = renamed(&ct(0), "1.2.840.10008.1.2.1.99");
    let at = data_set(&file);
    let mut encoder = DeflateEncoder::new(file[..at].to_vec(), Compression::default());
    encoder.write_all(&file[at..]).expect("memory takes all");
    encoder.finish().expect("memory takes all")
}

/// The slice as Implicit VR Little Endian (PS3.5 §A.1).
pub fn implicit() -> Vec<u8> {
    let file = renamed(&ct(0), "1.2.840.10008.1.2");
    let at = data_set(&file);
    let (mut out, mut rest) = (file[..at].to_vec(), &file[at..]);
    while let [a, b, c, d, v, r, tail @ ..] = rest {
        let (length, value) = if [*v, *r] == *b"OW" {
            (u32::from_le_bytes(tail[2..6].try_into().expect("four bytes")), &tail[6..])
        } else {
            (u32::from(u16::from_le_bytes([tail[0], tail[1]])), &tail[2..])
        };
        let (value, after) = value.split_at(length as usize);
        out.extend_from_slice(&[*a, *b, *c, *d]);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(value);
        rest = after;
    }
    out
}

const EXPLICIT: &[u8] = b"\x02\0\x10\0UI\x14\x001.2.840.10008.1.2.1\0";
/// The preamble and its prefix, and the length of the File Meta Information (PS3.10 §7.1).
const GROUP_LENGTH: std::ops::Range<usize> = 140..144;

/// The file, said to be in another transfer syntax.
fn renamed(file: &[u8], syntax: &str) -> Vec<u8> {
    let at = memchr::memmem::find(file, EXPLICIT).expect("a template is explicit");
    let mut value = syntax.as_bytes().to_vec();
    if value.len() % 2 == 1 {
        value.push(0);
    }
    let mut out = file[..at + 6].to_vec();
    out.extend_from_slice(&(value.len() as u16).to_le_bytes());
    out.extend_from_slice(&value);
    out.extend_from_slice(&file[at + EXPLICIT.len()..]);
    let before = data_set(file) - GROUP_LENGTH.end;
    let length = (before + value.len() + 8 - EXPLICIT.len()) as u32;
    out[GROUP_LENGTH].copy_from_slice(&length.to_le_bytes());
    out
}

/// Where the data set begins.
fn data_set(file: &[u8]) -> usize {
    let length = file[GROUP_LENGTH].try_into().expect("four bytes");
    GROUP_LENGTH.end + u32::from_le_bytes(length) as usize
}

/// Elements in Explicit VR Little Endian (PS3.5 §7.1.2), and items that are collected.
#[derive(Default)]
struct Element {
    bytes: Vec<u8>,
    items: Vec<Vec<u8>>,
}

impl Element {
    fn tag(&mut self, group: u16, element: u16) {
        self.bytes.extend_from_slice(&group.to_le_bytes());
        self.bytes.extend_from_slice(&element.to_le_bytes());
    }

    fn value(&mut self, group: u16, element: u16, vr: &str, value: &[u8]) {
        self.tag(group, element);
        self.bytes.extend_from_slice(vr.as_bytes());
        self.bytes.extend_from_slice(&(value.len() as u16).to_le_bytes());
        self.bytes.extend_from_slice(value);
    }

    fn sequence(&mut self, group: u16, element: u16, items: &[Self]) {
        let items: Vec<Vec<u8>> = items.iter().map(|item| item.bytes.clone()).collect();
        self.of_items(group, element, &items);
    }

    fn of_items(&mut self, group: u16, element: u16, items: &[Vec<u8>]) {
        self.tag(group, element);
        self.bytes.extend_from_slice(b"SQ\0\0");
        let length: usize = items.iter().map(|item| item.len() + 8).sum();
        self.bytes.extend_from_slice(&(length as u32).to_le_bytes());
        for item in items {
            self.tag(0xFFFE, 0xE000);
            self.bytes.extend_from_slice(&(item.len() as u32).to_le_bytes());
            self.bytes.extend_from_slice(item);
        }
    }
}
