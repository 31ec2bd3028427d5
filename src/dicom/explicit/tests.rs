//! The re-encoder, heard through the reader and read back by it.

use proptest::prelude::*;

use super::*;
use crate::dicom::{
    reader::{Reader, testing::*},
    transfer_syntax::{EXPLICIT_BIG, IMPLICIT_LITTLE},
};

const FIRST: Tag = Tag(0x0008, 0x0016);
const PRIVATE: Tag = Tag(0x0009, 0x1001);
const SEQUENCE: Tag = Tag(0x0040, 0xA730);

fn first() -> Node {
    Node::Value(FIRST, VR::UI, b"1.2.3\0".to_vec())
}

fn identity() -> Identity {
    Identity { sop_class: "1.2.5".parse().unwrap(), sop_instance: "1.2.7.7".parse().unwrap() }
}

/// Re-encodes a file that arrives in pieces of `piece`.
fn convert(file: &[u8], piece: usize) -> Vec<u8> {
    let mut reader = Reader::new(Explicit::new(Some(identity())), LIMITS, THRESHOLD);
    let mut out = Vec::new();
    for piece in file.chunks(piece) {
        let mut rest = piece;
        loop {
            let more = reader.push_some(&mut rest).unwrap();
            while let Some(bytes) = reader.sink_mut().take() {
                assert_eq!(bytes.len(), CHUNK);
                out.extend_from_slice(&bytes);
            }
            if !more {
                break;
            }
        }
    }
    for bytes in reader.finish().unwrap().finish() {
        assert!(bytes.len() <= CHUNK);
        out.extend_from_slice(&bytes);
    }
    out
}

fn meta(file: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let element = |event: &Event| match event {
        Event::Meta(tag, _, value) => Some((tag.element(), value.clone())),
        _ => None,
    };
    read(file, 4096).unwrap().events.iter().filter_map(element).collect()
}

fn check(style: Style, uid: &str, data_set: &[u8], expected: &[u8]) {
    let out = convert(&part_10(uid, &[&style.encode(&[first()]), data_set].concat()), 3);
    let mut whole = EXPLICIT.encode(&[first()]);
    whole.extend(expected);
    assert!(out.ends_with(&whole), "{:02x?}", &out[132..]);
}

#[test]
fn file_meta_is_kept_but_for_its_transfer_syntax() {
    let file = part_10(IMPLICIT_LITTLE, &IMPLICIT.encode(&[first()]));
    let out = convert(&file, 7);
    let mut expected = meta(&file);
    expected[3].1 = b"1.2.840.10008.1.2.1\0".to_vec();
    assert_eq!(meta(&out), expected);
    let told = u32::from_le_bytes(out[140..144].try_into().unwrap()) as usize;
    assert_eq!(out[144 + told..], EXPLICIT.encode(&[first()]));
    assert!(out.starts_with(&[0; 128]));
}

#[test]
fn file_meta_that_is_missing_is_made() {
    let expected = |uid: &[u8]| {
        vec![
            (0x0001, vec![0, 1]),
            (0x0002, b"1.2.5\0".to_vec()),
            (0x0003, b"1.2.7.7\0".to_vec()),
            (0x0010, uid.to_vec()),
            (0x0012, IMPLEMENTATION_CLASS.as_bytes().to_vec()),
        ]
    };
    let mut bare = IMPLICIT.encode(&[first()]);
    let out = convert(&bare, 1);
    assert_eq!(meta(&out)[..4], expected(b"1.2.840.10008.1.2.1\0")[..4]);
    assert_eq!(read(&out, 1).unwrap().tree(), [first()]);

    let implicit: Uid = IMPLICIT_LITTLE.parse().unwrap();
    let mut whole = file_meta(&implicit, &identity());
    whole.append(&mut bare);
    assert_eq!(meta(&whole)[..4], expected(b"1.2.840.10008.1.2\0")[..4]);
    assert_eq!(read(&whole, 1).unwrap().tree(), [first()]);
    assert!(IMPLEMENTATION_CLASS.parse::<Uid>().is_ok());
}

#[test]
fn values_of_odd_length_are_padded() {
    let cases = [
        (Tag(0x0010, 0x0010), VR::PN, &b"A^B"[..], &b"A^B "[..]),
        (Tag(0x0008, 0x0018), VR::UI, b"1.2", b"1.2\0"),
        (Tag(0x0042, 0x0011), VR::OB, &[1, 2, 3], &[1, 2, 3, 0]),
        (PRIVATE, VR::UN, &[1; 19], &[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0]),
    ];
    for (tag, vr, value, padded) in cases {
        check(
            IMPLICIT,
            IMPLICIT_LITTLE,
            &IMPLICIT.element(tag, vr, value),
            &EXPLICIT.element(tag, vr, padded),
        );
    }
}

#[test]
fn values_too_long_for_their_vr_become_un() {
    for (length, vr) in [(65534, VR::DS), (65535, VR::UN), (65536, VR::UN), (70001, VR::UN)] {
        let value = vec![b'1'; length];
        let mut padded = value.clone();
        padded.resize(length.next_multiple_of(2), b' ');
        let tag = Tag(0x3006, 0x0050);
        check(
            IMPLICIT,
            IMPLICIT_LITTLE,
            &IMPLICIT.element(tag, VR::DS, &value),
            &EXPLICIT.element(tag, vr, &padded),
        );
    }
}

#[test]
fn big_endian_values_are_turned_by_their_unit_but_un_is_not() {
    let value: Vec<u8> = (0..24).collect();
    let odd: Vec<u8> = (0..19).collect();
    for vr in ["OB", "UN", "AT", "OW", "SS", "US", "FL", "OF", "OL", "SL", "UL", "FD", "OD", "OV"] {
        let vr = VR::from_binary(vr.as_bytes().try_into().unwrap()).unwrap();
        check(
            BIG,
            EXPLICIT_BIG,
            &BIG.element(Tag(0x0012, 0x9999), vr, &value),
            &EXPLICIT.element(Tag(0x0012, 0x9999), vr, &value),
        );
    }
    // What is less than a unit stays as it is.
    let out = [&[1, 0, 3, 2, 5, 4, 7, 6, 9, 8][..], &[11, 10, 13, 12, 15, 14, 17, 16, 18, 0]];
    let header = BIG.header(Tag(0x7FE0, 0x0010), VR::OW, 19);
    let expected = EXPLICIT.element(Tag(0x7FE0, 0x0010), VR::OW, &out.concat());
    check(BIG, EXPLICIT_BIG, &[header, odd].concat(), &expected);
}

#[test]
fn inside_un_sequences_values_are_little_endian_already() {
    let columns = Tag(0x0028, 0x0011);
    let inner = IMPLICIT.element(columns, VR::US, &[2, 1]);
    let open = [
        &BIG.header(PRIVATE, VR::UN, u32::MAX)[..],
        &IMPLICIT.item(0xE000, inner.len() as u32),
        &inner,
        &IMPLICIT.item(0xE0DD, 0),
        &BIG.element(columns, VR::US, &[2, 1]),
    ];
    let undefined = Style { defined: false, ..EXPLICIT };
    let value = Node::Value(columns, VR::US, vec![2, 1]);
    let expected = [Node::Sequence(PRIVATE, vec![vec![value.clone()]]), value];
    check(BIG, EXPLICIT_BIG, &open.concat(), &undefined.encode(&expected));
}

#[test]
fn sequences_get_undefined_lengths_and_fragments_pass_through() {
    let nodes = [
        Node::Sequence(SEQUENCE, vec![vec![], vec![first(), Node::Sequence(SEQUENCE, vec![])]]),
        Node::Fragments(Tag(0x7FE0, 0x0010), vec![vec![], vec![1, 2, 3, 4]]),
    ];
    let undefined = Style { defined: false, ..EXPLICIT };
    check(BIG, EXPLICIT_BIG, &BIG.encode(&nodes), &undefined.encode(&nodes));
}

#[test]
fn output_comes_in_chunks_while_input_arrives() {
    let nodes = [first(), Node::Value(Tag(0x7FE0, 0x0010), VR::OW, vec![3; 200_000])];
    let file = part_10(EXPLICIT_BIG, &BIG.encode(&nodes));
    let mut reader = Reader::new(Explicit::new(None), LIMITS, THRESHOLD);
    reader.push(&file[..100_000]).unwrap();
    assert_eq!(reader.sink_mut().take().map(|bytes| bytes.len()), Some(CHUNK));
    assert_eq!(reader.sink_mut().take(), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_native_encoding_becomes_the_same_explicit_file(
        nodes in data_set(), piece in 1_usize..40, defined: bool,
    ) {
        let expected = Style { defined: false, ..EXPLICIT }.encode(&nodes);
        for (style, uid) in [
            (IMPLICIT, IMPLICIT_LITTLE),
            (BIG, EXPLICIT_BIG),
            (EXPLICIT, "1.2.840.10008.1.2.1.99"),
        ] {
            let mut bytes = Style { defined, ..style }.encode(&nodes);
            if uid.ends_with("99") {
                bytes = deflated(&bytes);
            }
            let out = convert(&part_10(uid, &bytes), piece);
            prop_assert!(out.ends_with(&expected));
            prop_assert_eq!(read(&out, 4096).unwrap().tree(), nodes.clone());
        }
    }
}
