//! What a data set says after its pixel data was decoded or encoded anew (PS3.3 §C.7.6.1.1.5,
//! §C.7.6.3, PS3.5 §8.2).
//!
//! Holds: what says that pixels lost something is never taken back; an instance whose pixels lose
//! something is another instance, with a UID that follows from what it was made of, so that the
//! same request makes the same instance. Pure. Absent: pixels.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::{ArchiveError, pixels::QUALITY};
use crate::{
    codec::{self, Layout},
    dicom::{
        Tag, Uid, VR,
        data_set::{DataSet, Item},
        explicit::Identity,
        rewrite::Changes,
        transfer_syntax::TransferSyntax,
    },
};

const IMAGE_TYPE: Tag = Tag(0x0008, 0x0008);
const SOP_INSTANCE: Tag = Tag(0x0008, 0x0018);
const DERIVATION: Tag = Tag(0x0008, 0x2111);
const SOURCE_IMAGES: Tag = Tag(0x0008, 0x2112);
const DERIVATION_CODE: Tag = Tag(0x0008, 0x9215);
const NUMBER_OF_FRAMES: Tag = Tag(0x0028, 0x0008);
const LOSSY: Tag = Tag(0x0028, 0x2110);
const LOSSY_RATIO: Tag = Tag(0x0028, 0x2112);
const LOSSY_METHOD: Tag = Tag(0x0028, 0x2114);

/// Transfer syntaxes that always lose something.
const ALWAYS_LOSSY: [&str; 2] = ["1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"];
/// (0028,2114) by transfer syntax, for those that we encode or know to be lossy.
const METHODS: [(&str, &str); 8] = [
    ("1.2.840.10008.1.2.4.50", "ISO_10918_1"),
    ("1.2.840.10008.1.2.4.51", "ISO_10918_1"),
    ("1.2.840.10008.1.2.4.81", "ISO_14495_1"),
    ("1.2.840.10008.1.2.4.91", "ISO_15444_1"),
    ("1.2.840.10008.1.2.4.93", "ISO_15444_2"),
    ("1.2.840.10008.1.2.4.203", "ISO_15444_15"),
    ("1.2.840.10008.1.2.4.111", "ISO_18181_1"),
    ("1.2.840.10008.1.2.4.112", "ISO_18181_1"),
];

/// The pixels as they are given.
pub(super) struct Recoding<'a> {
    pub(super) stored: &'a Uid,
    pub(super) wanted: &'a Uid,
    /// Of the frames in their new form.
    pub(super) layout: &'a Layout,
    pub(super) frames: u32,
    /// Bytes of the first frame, decoded and in its new form.
    pub(super) bytes: (usize, usize),
}

/// The changes to an instance whose pixel data is given anew; `None`: it has none.
///
/// # Errors
/// None but for UIDs that cannot be made, which do not occur.
pub(super) fn changes(
    header: &DataSet,
    identity: &Identity,
    wanted: &Uid,
    recoding: Option<&Recoding<'_>>,
) -> Result<Changes, ArchiveError> {
    let header = header.root();
    let mut changes = Changes {
        transfer_syntax: wanted.clone(),
        identity: identity.clone(),
        attributes: BTreeMap::new(),
    };
    let Some(recoding) = recoding else { return Ok(changes) };
    describe(&mut changes.attributes, header, recoding);
    if !codec::is_lossless(wanted) {
        let instance = derived_uid(&identity.sop_instance, wanted)?;
        derive(&mut changes.attributes, header, identity, &instance, recoding);
        changes.identity.sop_instance = instance;
    } else if ALWAYS_LOSSY.contains(&recoding.stored.as_str()) {
        // Writers forget it; once decoded, nothing else would tell.
        set(&mut changes.attributes, LOSSY, VR::CS, "01");
    }
    Ok(changes)
}

type Attributes = BTreeMap<Tag, Option<(VR, Vec<u8>)>>;

fn set(attributes: &mut Attributes, tag: Tag, vr: VR, value: &str) {
    attributes.insert(tag, Some((vr, value.as_bytes().to_vec())));
}

/// The Image Pixel module (PS3.3 §C.7.6.3).
fn describe(attributes: &mut Attributes, header: Item<'_>, recoding: &Recoding<'_>) {
    let layout = recoding.layout;
    let mut short = |element: u16, value: u16| {
        attributes.insert(Tag(0x0028, element), Some((VR::US, value.to_le_bytes().to_vec())));
    };
    short(0x0002, u16::from(layout.samples));
    short(0x0100, u16::from(layout.bits_allocated));
    if !layout.float {
        short(0x0101, u16::from(layout.bits_stored));
        short(0x0102, u16::from(layout.high_bit));
        short(0x0103, u16::from(layout.signed));
    }
    if layout.samples > 1 {
        short(0x0006, u16::from(layout.planar));
    } else {
        attributes.insert(Tag(0x0028, 0x0006), None);
    }
    set(attributes, Tag(0x0028, 0x0004), VR::CS, layout.photometric.term());
    let told = header.integer(NUMBER_OF_FRAMES);
    if told.is_some_and(|told| told != i64::from(recoding.frames))
        || told.is_none() && recoding.frames > 1
    {
        set(attributes, NUMBER_OF_FRAMES, VR::IS, &recoding.frames.to_string());
    }
}

/// A derived image (PS3.3 §C.7.6.1.1.2, §C.7.6.1.1.5, §C.12.4).
fn derive(
    attributes: &mut Attributes,
    header: Item<'_>,
    source: &Identity,
    instance: &Uid,
    recoding: &Recoding<'_>,
) {
    let texts = |tag| header.texts(tag).map(|text| text.into_owned()).collect::<Vec<_>>();
    set(attributes, SOP_INSTANCE, VR::UI, instance.as_str());
    let mut image_type = texts(IMAGE_TYPE);
    match image_type.first_mut() {
        Some(first) => "DERIVED".clone_into(first),
        None => image_type = vec!["DERIVED".into(), "PRIMARY".into()],
    }
    if image_type.iter().all(|text| text.is_ascii()) {
        set(attributes, IMAGE_TYPE, VR::CS, &image_type.join("\\"));
    }
    set(attributes, LOSSY, VR::CS, "01");
    let (decoded, encoded) = recoding.bytes;
    // Of the first frame: the others are encoded when this has left already.
    let ratio = format!("{:.2}", decoded as f64 / encoded.max(1) as f64);
    append(attributes, LOSSY_RATIO, VR::DS, texts(LOSSY_RATIO), ratio);
    let method = METHODS.iter().find(|(uid, _)| *uid == recoding.wanted.as_str());
    if let Some((_, method)) = method {
        append(attributes, LOSSY_METHOD, VR::CS, texts(LOSSY_METHOD), (*method).to_owned());
    }
    let name = TransferSyntax::of(recoding.wanted).name;
    let told = format!("Compressed with {name}, quality {QUALITY}");
    let before = header.text(DERIVATION).unwrap_or_default();
    // Text of another character set would have to be written in it.
    if before.is_empty() {
        set(attributes, DERIVATION, VR::ST, &told);
    } else if before.is_ascii() && before.len() + told.len() < 1000 {
        set(attributes, DERIVATION, VR::ST, &format!("{before}; {told}"));
    }
    let references = [
        (Tag(0x0008, 0x1150), VR::UI, source.sop_class.as_str()),
        (Tag(0x0008, 0x1155), VR::UI, source.sop_instance.as_str()),
    ];
    attributes.insert(SOURCE_IMAGES, Some((VR::SQ, item(&references))));
    let code = [
        (Tag(0x0008, 0x0100), VR::SH, "113040"),
        (Tag(0x0008, 0x0102), VR::SH, "DCM"),
        (Tag(0x0008, 0x0104), VR::LO, "Lossy Compression"),
    ];
    attributes.insert(DERIVATION_CODE, Some((VR::SQ, item(&code))));
}

/// Adds the value of one more step of compression (PS3.3 §C.7.6.1.1.5.2).
fn append(attributes: &mut Attributes, tag: Tag, vr: VR, mut values: Vec<String>, value: String) {
    values.push(value);
    set(attributes, tag, vr, &values.join("\\"));
}

/// One item of a sequence with short texts.
fn item(elements: &[(Tag, VR, &str)]) -> Vec<u8> {
    let mut inside = Vec::new();
    for (tag, vr, value) in elements {
        let mut value = value.as_bytes().to_vec();
        if value.len() % 2 == 1 {
            value.push(if *vr == VR::UI { 0 } else { b' ' });
        }
        inside.extend(tag.group().to_le_bytes());
        inside.extend(tag.element().to_le_bytes());
        inside.extend(vr.to_bytes());
        inside.extend((value.len() as u16).to_le_bytes());
        inside.extend(value);
    }
    let mut item = vec![0xFE, 0xFF, 0x00, 0xE0];
    item.extend((inside.len() as u32).to_le_bytes());
    item.extend(inside);
    item
}

/// The UID of what an instance becomes by losing something: `2.25.` and a UUID (PS3.5 §B.2) made of
/// its name.
fn derived_uid(instance: &Uid, wanted: &Uid) -> Result<Uid, ArchiveError> {
    let name = format!("{instance} {wanted} {QUALITY}");
    let digest = Sha256::digest(name.as_bytes());
    let mut bytes = [0_u8; 16];
    bytes.iter_mut().zip(digest.iter()).for_each(|(byte, hash)| *byte = *hash);
    let uuid = uuid::Builder::from_custom_bytes(bytes).into_uuid();
    let text = format!("2.25.{}", uuid.as_u128());
    text.parse().map_err(|error: crate::dicom::uid::InvalidUid| {
        ArchiveError::Internal(anyhow::Error::new(error))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Photometric;

    const JPEG: &str = "1.2.840.10008.1.2.4.50";
    const EXPLICIT: &str = "1.2.840.10008.1.2.1";

    fn uid(text: &str) -> Uid {
        text.parse().unwrap()
    }

    fn layout() -> Layout {
        Layout {
            rows: 4,
            columns: 4,
            samples: 3,
            bits_allocated: 8,
            bits_stored: 8,
            high_bit: 7,
            signed: false,
            float: false,
            planar: false,
            photometric: Photometric::YbrFull422,
        }
    }

    fn text(attributes: &Attributes, tag: Tag) -> String {
        let (_, value) = attributes[&tag].as_ref().unwrap();
        String::from_utf8(value.clone()).unwrap()
    }

    #[test]
    fn a_lossy_copy_is_another_instance_that_names_its_source() {
        let header = DataSet::parse(
            br#"{"00080008":{"vr":"CS","Value":["ORIGINAL","PRIMARY","AXIAL"]},
            "00082111":{"vr":"ST","Value":["Reformatted"]},
            "00282110":{"vr":"CS","Value":["01"]},
            "00282112":{"vr":"DS","Value":["3.5"]},
            "00282114":{"vr":"CS","Value":["ISO_15444_1"]}}"#,
        )
        .unwrap();
        let (layout, stored, wanted) = (layout(), uid(EXPLICIT), uid(JPEG));
        let recoding = Recoding {
            stored: &stored,
            wanted: &wanted,
            layout: &layout,
            frames: 1,
            bytes: (480, 40),
        };
        let mut attributes = Attributes::new();
        let source = Identity { sop_class: uid("1.2.3"), sop_instance: uid("1.2.3.4") };
        describe(&mut attributes, header.root(), &recoding);
        let instance = derived_uid(&source.sop_instance, &wanted).unwrap();
        derive(&mut attributes, header.root(), &source, &instance, &recoding);
        assert_eq!(text(&attributes, IMAGE_TYPE), "DERIVED\\PRIMARY\\AXIAL");
        assert_eq!(text(&attributes, LOSSY), "01");
        assert_eq!(text(&attributes, LOSSY_RATIO), "3.5\\12.00");
        assert_eq!(text(&attributes, LOSSY_METHOD), "ISO_15444_1\\ISO_10918_1");
        assert!(text(&attributes, DERIVATION).starts_with("Reformatted; Compressed with JPEG"));
        assert_eq!(text(&attributes, SOP_INSTANCE), instance.as_str());
        let (_, reference) = attributes[&SOURCE_IMAGES].as_ref().unwrap();
        assert!(reference.windows(7).any(|bytes| bytes == b"1.2.3.4"));
        assert_eq!(text(&attributes, Tag(0x0028, 0x0004)), "YBR_FULL_422");
        assert!(!attributes.contains_key(&NUMBER_OF_FRAMES));
    }

    #[test]
    fn the_uid_follows_from_the_source_and_is_one() {
        let of = |instance, wanted| derived_uid(&uid(instance), &uid(wanted)).unwrap();
        assert_eq!(of("1.2.3", JPEG), of("1.2.3", JPEG));
        assert_ne!(of("1.2.3", JPEG), of("1.2.4", JPEG));
        assert_ne!(of("1.2.3", JPEG), of("1.2.3", "1.2.840.10008.1.2.4.91"));
        assert!(of("1.2.3", JPEG).as_str().starts_with("2.25."));
    }

    #[test]
    fn lossless_copies_stay_the_same_instance_and_do_not_hide_a_loss() {
        let header = DataSet::parse(br#"{"00280008":{"vr":"IS","Value":[3]}}"#).unwrap();
        let (stored, wanted) = (uid(JPEG), uid(EXPLICIT));
        let mut layout = layout();
        layout.photometric = Photometric::Rgb;
        let recoding = Recoding {
            stored: &stored,
            wanted: &wanted,
            layout: &layout,
            frames: 2,
            bytes: (48, 48),
        };
        let source = Identity { sop_class: uid("1.2.3"), sop_instance: uid("1.2.3.4") };
        let changes = changes(&header, &source, &wanted, Some(&recoding)).unwrap();
        assert_eq!(changes.identity, source);
        assert_eq!(text(&changes.attributes, LOSSY), "01");
        assert_eq!(text(&changes.attributes, NUMBER_OF_FRAMES), "2");
        assert!(!changes.attributes.contains_key(&SOP_INSTANCE));
    }
}
