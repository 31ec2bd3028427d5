//! Part 10 files made on the spot: small, valid, and different where a test needs them to be.

use std::collections::BTreeMap;

pub const EXPLICIT: &str = "1.2.840.10008.1.2.1";
pub const IMPLICIT: &str = "1.2.840.10008.1.2";
pub const JPEG_BASELINE: &str = "1.2.840.10008.1.2.4.50";
pub const RLE: &str = "1.2.840.10008.1.2.5";
pub const CT: &str = "1.2.840.10008.5.1.4.1.1.2";

/// A data set under construction. Text values only, besides pixel data.
#[derive(Clone, Debug)]
pub struct Dicom {
    syntax: String,
    elements: BTreeMap<(u16, u16), (&'static str, Vec<u8>)>,
    fragments: Option<Vec<Vec<u8>>>,
}

impl Dicom {
    /// A CT image of 4 × 4 pixels, 16 bits.
    pub fn ct(study: &str, series: &str, instance: &str) -> Self {
        let mut dicom =
            Self { syntax: EXPLICIT.into(), elements: BTreeMap::new(), fragments: None };
        let pixels: Vec<u8> = (0..32).collect();
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
            .pixels(pixels);
        dicom
    }

    pub fn text(&mut self, group: u16, element: u16, vr: &'static str, value: &str) -> &mut Self {
        let mut bytes = value.as_bytes().to_vec();
        if bytes.len() % 2 == 1 {
            bytes.push(if vr == "UI" { 0 } else { b' ' });
        }
        self.elements.insert((group, element), (vr, bytes));
        self
    }

    pub fn short(&mut self, group: u16, element: u16, value: u16) -> &mut Self {
        self.elements.insert((group, element), ("US", value.to_le_bytes().to_vec()));
        self
    }

    pub fn remove(&mut self, group: u16, element: u16) -> &mut Self {
        self.elements.remove(&(group, element));
        self
    }

    pub fn pixels(&mut self, bytes: Vec<u8>) -> &mut Self {
        self.elements.insert((0x7FE0, 0x0010), ("OW", bytes));
        self
    }

    /// Encapsulated pixel data, one fragment a frame, with an empty Basic Offset Table.
    pub fn encapsulated(&mut self, syntax: &str, fragments: Vec<Vec<u8>>) -> &mut Self {
        self.syntax = syntax.into();
        self.text(0x0028, 0x0008, "IS", &fragments.len().to_string());
        self.elements.remove(&(0x7FE0, 0x0010));
        self.fragments = Some(fragments);
        self
    }

    pub fn syntax(&mut self, syntax: &str) -> &mut Self {
        self.syntax = syntax.into();
        self
    }

    /// The whole file: preamble, File Meta Information, data set.
    pub fn file(&self) -> Vec<u8> {
        let instance = self.elements.get(&(0x0008, 0x0018)).map(|(_, v)| v.clone());
        let mut meta = Vec::new();
        explicit(&mut meta, 0x0002, 0x0001, "OB", &[0, 1]);
        explicit(&mut meta, 0x0002, 0x0002, "UI", &padded(CT));
        explicit(&mut meta, 0x0002, 0x0003, "UI", &instance.unwrap_or_default());
        explicit(&mut meta, 0x0002, 0x0010, "UI", &padded(&self.syntax));
        explicit(&mut meta, 0x0002, 0x0012, "UI", &padded("1.2.3"));
        let mut file = vec![0; 128];
        file.extend_from_slice(b"DICM");
        explicit(&mut file, 0x0002, 0x0000, "UL", &(meta.len() as u32).to_le_bytes());
        file.extend_from_slice(&meta);
        for ((group, element), (vr, value)) in &self.elements {
            if self.syntax == IMPLICIT {
                file.extend_from_slice(&group.to_le_bytes());
                file.extend_from_slice(&element.to_le_bytes());
                file.extend_from_slice(&(value.len() as u32).to_le_bytes());
                file.extend_from_slice(value);
            } else {
                explicit(&mut file, *group, *element, vr, value);
            }
        }
        if let Some(fragments) = &self.fragments {
            file.extend_from_slice(b"\xE0\x7F\x10\x00OB\0\0\xFF\xFF\xFF\xFF");
            item(&mut file, &[]);
            for fragment in fragments {
                item(&mut file, fragment);
            }
            file.extend_from_slice(b"\xFE\xFF\xDD\xE0\0\0\0\0");
        }
        file
    }
}

fn padded(uid: &str) -> Vec<u8> {
    let mut bytes = uid.as_bytes().to_vec();
    if bytes.len() % 2 == 1 {
        bytes.push(0);
    }
    bytes
}

fn explicit(out: &mut Vec<u8>, group: u16, element: u16, vr: &str, value: &[u8]) {
    out.extend_from_slice(&group.to_le_bytes());
    out.extend_from_slice(&element.to_le_bytes());
    out.extend_from_slice(vr.as_bytes());
    if ["OB", "OW", "SQ", "UN", "UT"].contains(&vr) {
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&(value.len() as u32).to_le_bytes());
    } else {
        out.extend_from_slice(&(value.len() as u16).to_le_bytes());
    }
    out.extend_from_slice(value);
}

fn item(out: &mut Vec<u8>, value: &[u8]) {
    out.extend_from_slice(b"\xFE\xFF\x00\xE0");
    out.extend_from_slice(&(value.len() as u32).to_le_bytes());
    out.extend_from_slice(value);
}

/// A multipart/related body of `application/dicom` parts, and its Content-Type.
pub fn multipart(files: &[Vec<u8>]) -> (String, Vec<u8>) {
    let parts: Vec<(&str, &[u8])> =
        files.iter().map(|file| ("application/dicom", file.as_slice())).collect();
    multipart_of(&parts)
}

/// A multipart/related body of any parts.
pub fn multipart_of(parts: &[(&str, &[u8])]) -> (String, Vec<u8>) {
    let mut body = Vec::new();
    for (kind, bytes) in parts {
        body.extend_from_slice(format!("--frontier\r\nContent-Type: {kind}\r\n\r\n").as_bytes());
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--frontier--\r\n");
    ("multipart/related; type=\"application/dicom\"; boundary=frontier".to_owned(), body)
}

/// The parts of a multipart answer: (header block, body).
pub fn parts(content_type: &str, body: &[u8]) -> Vec<(String, Vec<u8>)> {
    let boundary = content_type.split("boundary=").nth(1).expect("a boundary");
    let boundary = boundary.split(';').next().unwrap().trim_matches('"');
    let delimiter = format!("--{boundary}").into_bytes();
    let mut parts = Vec::new();
    let mut rest = body;
    let find = |hay: &[u8], needle: &[u8]| hay.windows(needle.len()).position(|w| w == needle);
    while let Some(at) = find(rest, &delimiter) {
        let after = &rest[at + delimiter.len()..];
        if after.starts_with(b"--") {
            break;
        }
        let head_end = find(after, b"\r\n\r\n").expect("the end of the part's headers");
        let head = String::from_utf8(after[2..head_end].to_vec()).unwrap();
        let content = &after[head_end + 4..];
        let end = find(content, &[b"\r\n".as_slice(), &delimiter].concat()).expect("a delimiter");
        parts.push((head, content[..end].to_vec()));
        rest = &content[end..];
    }
    parts
}
