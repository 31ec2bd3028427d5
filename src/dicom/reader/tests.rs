//! The reader as a whole: what it reads, what it refuses, and that pieces do not matter.

use proptest::prelude::*;

use super::{testing::*, *};
use crate::dicom::transfer_syntax::{EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE};

const DEFLATED: &str = "1.2.840.10008.1.2.1.99";
const NATIVE: [(Style, &str); 4] = [
    (EXPLICIT, EXPLICIT_LITTLE),
    (IMPLICIT, IMPLICIT_LITTLE),
    (BIG, EXPLICIT_BIG),
    (EXPLICIT, DEFLATED),
];
const JPEG: &str = "1.2.840.10008.1.2.4.50";
const SOP_CLASS: Tag = Tag(0x0008, 0x0016);
const SEQUENCE: Tag = Tag(0x0040, 0xA730);
const PRIVATE: Tag = Tag(0x0009, 0x1001);

fn value(tag: Tag, vr: VR, bytes: &[u8]) -> Node {
    Node::Value(tag, vr, bytes.to_vec())
}

/// The first element of every data set here.
fn first() -> Node {
    value(SOP_CLASS, VR::UI, b"1.2.3\0")
}

/// Reads whole and in single bytes; the results agree.
fn both(bytes: &[u8]) -> Result<Vec<Node>, DicomError> {
    let whole = read(bytes, bytes.len().max(1)).map(|log| log.events);
    assert_eq!(whole, read(bytes, 1).map(|log| log.events));
    read(bytes, bytes.len().max(1)).map(|log| log.tree())
}

/// An explicit little endian file whose data set is `first()` and then these bytes.
fn after_first(bytes: &[u8]) -> Vec<u8> {
    part_10(EXPLICIT_LITTLE, &[&EXPLICIT.encode(&[first()]), bytes].concat())
}

fn check(bytes: &[u8], expected: &[Node]) {
    let nodes = [&[first()], expected].concat();
    assert_eq!(both(&after_first(bytes)), Ok(nodes));
}

fn check_malformed(bytes: &[u8], expected: &str) {
    match both(&after_first(bytes)) {
        Err(DicomError::Malformed { what, .. }) => assert!(what.contains(expected), "{what}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn offsets_and_lengths_are_those_of_the_file() {
    let pixels = EXPLICIT.element(Tag(0x7FE0, 0x0010), VR::OW, &[7; 20]);
    let file = after_first(&pixels);
    let log = read(&file, 5).unwrap();
    let start = log.events.iter().find_map(|event| match event {
        Event::Start(meta) => Some(meta.clone()),
        _ => None,
    });
    let start = start.unwrap();
    assert_eq!(start.transfer_syntax.as_str(), EXPLICIT_LITTLE);
    assert_eq!(start.media_storage_sop_instance.unwrap().as_str(), "1.2.3.4");
    let end = file.len() as u64;
    assert_eq!(start.data_set_offset, end - 14 - 32);
    let header =
        ElementHeader { tag: Tag(0x7FE0, 0x0010), vr: VR::OW, length: Some(20), offset: end - 20 };
    assert_eq!(log.events.last(), Some(&Event::Bulk(header, vec![7; 20])));
}

#[test]
fn offsets_in_a_deflated_data_set_are_those_of_the_inflated_stream() {
    let nodes = [first(), value(Tag(0x7FE0, 0x0010), VR::OW, &[7; 20])];
    let file = part_10(DEFLATED, &deflated(&EXPLICIT.encode(&nodes)));
    let log = read(&file, 3).unwrap();
    assert_eq!(log.tree(), nodes);
    assert!(matches!(log.events.last(), Some(Event::Bulk(header, _)) if header.offset == 14 + 12));
}

#[test]
fn preamble_prefix_and_file_meta_may_be_missing() {
    let file = after_first(&[]);
    for start in [0, 128, 132] {
        assert_eq!(both(&file[start..]), Ok(vec![first()]), "{start}");
    }
    for (style, uid) in
        [(EXPLICIT, EXPLICIT_LITTLE), (IMPLICIT, IMPLICIT_LITTLE), (BIG, EXPLICIT_BIG)]
    {
        let log = read(&style.encode(&[first()]), 1).unwrap();
        let Some(Event::Start(meta)) = log.events.first() else { panic!("{log:?}") };
        assert_eq!((meta.transfer_syntax.as_str(), meta.data_set_offset), (uid, 0));
        assert_eq!(log.tree(), [first()]);
    }
    for bytes in [&b""[..], b"DICM", &[0; 200], b"GIF89a and more", &file[140..]] {
        assert_eq!(both(bytes), Err(DicomError::NotDicom));
    }
}

#[test]
fn file_meta_ends_with_its_group_whatever_its_length_says() {
    let file = after_first(&[]);
    for wrong in [0_u32, 1, 0x1000_0000] {
        let mut file = file.clone();
        file[140..144].copy_from_slice(&wrong.to_le_bytes());
        assert_eq!(both(&file), Ok(vec![first()]));
    }
    let absent = [&file[..132], &file[144..]].concat();
    assert_eq!(both(&absent), Ok(vec![first()]));
    let implicit = IMPLICIT.element(Tag(2, 0x10), VR::UI, b"1.2.840.10008.1.2\0");
    let old = [&[0; 128][..], b"DICM", &implicit, &IMPLICIT.encode(&[first()])].concat();
    assert_eq!(both(&old), Ok(vec![first()]));
}

#[test]
fn the_length_of_file_meta_counts_before_a_deflated_data_set() {
    // 02 00 begins a deflate block with fixed codes and is also the group of File Meta.
    let file = part_10(DEFLATED, &[0x02, 0x00, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]);
    assert!(matches!(both(&file), Err(DicomError::Inflate | DicomError::Truncated { .. })));
    let log = |file: &[u8]| {
        let mut reader = Reader::new(Log::default(), LIMITS, THRESHOLD);
        let _ = reader.push(file);
        reader.file_meta().cloned()
    };
    assert_eq!(log(&file).unwrap().data_set_offset, file.len() as u64 - 9);
}

#[test]
fn file_meta_without_a_transfer_syntax_is_refused() {
    let missing = Err(DicomError::Missing { tag: Tag(2, 0x10) });
    let meta = EXPLICIT.element(Tag(2, 2), VR::UI, b"1.2\0");
    let data_set = EXPLICIT.encode(&[first()]);
    for empty in [&[][..], &EXPLICIT.element(Tag(2, 0x10), VR::UI, b"\0\0")] {
        let file = [&[0; 128][..], b"DICM", &meta, empty, &data_set].concat();
        assert_eq!(both(&file), missing);
    }
    assert_eq!(both(&[&[0; 128][..], b"DICM", &data_set].concat()), missing);
    let invalid = EXPLICIT.element(Tag(2, 0x10), VR::UI, b"1.2.x\0");
    let file = [&[0; 128][..], b"DICM", &meta, &invalid, &data_set].concat();
    assert_eq!(both(&file), Err(DicomError::InvalidUid { tag: Tag(2, 0x10) }));
}

#[test]
fn a_file_may_end_with_its_file_meta() {
    assert_eq!(both(&part_10(EXPLICIT_LITTLE, &[])), Ok(vec![]));
}

#[test]
fn unknown_transfer_syntaxes_are_read_as_explicit() {
    let nodes = [first(), Node::Fragments(Tag(0x7FE0, 0x0010), vec![vec![], vec![1, 2, 3]])];
    assert_eq!(both(&part_10("1.2.3.4.5", &EXPLICIT.encode(&nodes))), Ok(nodes.to_vec()));
}

#[test]
fn group_lengths_are_left_out() {
    let length = EXPLICIT.element(Tag(0x0010, 0), VR::UL, &[8, 0, 0, 0]);
    let name = EXPLICIT.element(Tag(0x0010, 0x0010), VR::PN, b"A^B ");
    check(&[length, name].concat(), &[value(Tag(0x0010, 0x0010), VR::PN, b"A^B ")]);
}

#[test]
fn un_of_undefined_length_is_an_implicit_little_endian_sequence() {
    let inner = value(Tag(0x0028, 0x0010), VR::US, &[2, 1]);
    let nested = Node::Sequence(SEQUENCE, vec![vec![inner.clone()]]);
    let items = vec![vec![inner, nested]];
    for (style, uid) in [(EXPLICIT, EXPLICIT_LITTLE), (BIG, EXPLICIT_BIG)] {
        let item = IMPLICIT.encode(&items[0]);
        let bytes = [
            style.encode(&[first()]),
            style.header(PRIVATE, VR::UN, u32::MAX),
            IMPLICIT.item(0xE000, item.len() as u32),
            item,
            IMPLICIT.item(0xE0DD, 0),
            style.element(Tag(0x0028, 0x0010), VR::US, &[2, 1]),
        ];
        let mut after = vec![value(Tag(0x0028, 0x0010), VR::US, &[2, 1])];
        if style.big {
            after = all_swapped(&after);
        }
        let expected = [&[first(), Node::Sequence(PRIVATE, items.clone())][..], &after].concat();
        assert_eq!(both(&part_10(uid, &bytes.concat())), Ok(expected));
    }
}

#[test]
fn pixel_representation_settles_ambiguous_vrs_down_the_levels() {
    let smallest = Tag(0x0028, 0x0106);
    let read_back = |vr| value(smallest, vr, &[0xFF, 0xFF]);
    let representation = |n| value(Tag(0x0028, 0x0103), VR::US, &[n, 0]);
    let nodes = |vr| vec![vec![read_back(vr)], vec![representation(0), read_back(VR::US)]];
    let tree = vec![
        first(),
        read_back(VR::US),
        representation(1),
        read_back(VR::SS),
        Node::Sequence(SEQUENCE, nodes(VR::SS)),
        read_back(VR::SS),
    ];
    assert_eq!(both(&part_10(IMPLICIT_LITTLE, &IMPLICIT.encode(&tree))), Ok(tree));
}

#[test]
fn a_mistaken_transfer_syntax_is_seen_through() {
    let tree = vec![
        first(),
        value(Tag(0x0010, 0x0010), VR::PN, b"A^B "),
        Node::Sequence(SEQUENCE, vec![vec![value(Tag(0x0010, 0x0010), VR::PN, b"A^B ")]]),
    ];
    let implicit = IMPLICIT.encode(&tree);
    assert_eq!(both(&part_10(EXPLICIT_LITTLE, &implicit)), Ok(tree.clone()));
    assert_eq!(both(&part_10(JPEG, &implicit)), Ok(tree.clone()));
    assert_eq!(both(&part_10(IMPLICIT_LITTLE, &EXPLICIT.encode(&tree))), Ok(tree));
}

#[test]
fn implicit_elements_and_items_in_an_explicit_data_set_are_seen_through() {
    let name = value(Tag(0x0010, 0x0010), VR::PN, b"A^B ");
    check(&IMPLICIT.encode(std::slice::from_ref(&name)), std::slice::from_ref(&name));
    let items = [
        EXPLICIT.header(SEQUENCE, VR::SQ, u32::MAX),
        EXPLICIT.item(0xE000, u32::MAX),
        IMPLICIT.encode(std::slice::from_ref(&name)),
        EXPLICIT.item(0xE00D, 0),
        EXPLICIT.item(0xE000, 12),
        EXPLICIT.encode(std::slice::from_ref(&name)),
        EXPLICIT.item(0xE0DD, 0),
    ];
    check(&items.concat(), &[Node::Sequence(SEQUENCE, vec![vec![name.clone()], vec![name]])]);
}

#[test]
fn a_vr_of_a_later_standard_is_un_with_a_long_length() {
    let mut bytes = EXPLICIT.element(PRIVATE, VR::UN, &[1, 2, 3, 4]);
    bytes[4..6].copy_from_slice(b"ZZ");
    check(&bytes, &[value(PRIVATE, VR::UN, &[1, 2, 3, 4])]);
}

#[test]
fn odd_lengths_trailing_padding_and_zeros_are_read() {
    check(
        &EXPLICIT.element(Tag(0x0010, 0x0010), VR::PN, b"A^B"),
        &[value(Tag(0x0010, 0x0010), VR::PN, b"A^B")],
    );
    let padding = value(Tag(0xFFFC, 0xFFFC), VR::OB, &[0; 40]);
    check(&EXPLICIT.encode(std::slice::from_ref(&padding)), &[padding]);
    for zeros in [1, 7, 8, 9, 100] {
        check(&vec![0; zeros], &[]);
    }
    check_malformed(&[&[0; 20][..], &[1]].concat(), "follow");
}

#[test]
fn superfluous_delimiters_are_read_where_they_can_close_nothing() {
    check(&EXPLICIT.item(0xE0DD, 0), &[]);
    let item = [EXPLICIT.item(0xE000, 8), EXPLICIT.item(0xE00D, 0)].concat();
    let sequence = [EXPLICIT.header(SEQUENCE, VR::SQ, item.len() as u32), item].concat();
    check(&sequence, &[Node::Sequence(SEQUENCE, vec![vec![]])]);
}

#[test]
fn what_cannot_be_is_malformed() {
    let open = EXPLICIT.header(SEQUENCE, VR::SQ, u32::MAX);
    let name = EXPLICIT.element(Tag(0x0010, 0x0010), VR::PN, b"A^B ");
    let within = |parts: &[&[u8]]| [&open[..], &parts.concat()].concat();
    let item = EXPLICIT.item(0xE000, u32::MAX);
    check_malformed(&within(&[&name]), "no item");
    check_malformed(&within(&[&item, &EXPLICIT.item(0xE0DD, 0)]), "closes nothing");
    check_malformed(&within(&[&EXPLICIT.item(0xE00D, 0)]), "no item");
    check_malformed(&within(&[&EXPLICIT.item(0xE0DD, 4)]), "no item");
    check_malformed(&within(&[&EXPLICIT.item(0xE000, 11), &name]), "beyond");
    check_malformed(&within(&[&EXPLICIT.item(0xE000, 13), &name, &item]), "beyond");
    let short = [EXPLICIT.header(SEQUENCE, VR::SQ, 10), EXPLICIT.item(0xE000, 12)].concat();
    check_malformed(&[short, name].concat(), "beyond");
    check_malformed(&EXPLICIT.item(0xE000, 0), "outside");
    check_malformed(&EXPLICIT.element(Tag(2, 0x10), VR::UI, b"1.2\0"), "file meta");
    check_malformed(&EXPLICIT.header(Tag(0x0040, 0xA160), VR::UT, u32::MAX), "undefined");
    let fragments = EXPLICIT.header(Tag(0x7FE0, 0x0010), VR::OB, u32::MAX);
    check_malformed(&[&fragments[..], &item].concat(), "no fragment");
    check_malformed(&[&fragments[..], &EXPLICIT.item(0xE00D, 0)].concat(), "no fragment");
}

#[test]
fn data_that_ends_early_is_truncated_wherever_it_ends() {
    let nodes = [
        first(),
        Node::Sequence(SEQUENCE, vec![vec![value(Tag(0x0010, 0x0010), VR::PN, b"A^B ")]]),
        Node::Fragments(Tag(0x7FE0, 0x0010), vec![vec![], vec![1; 30]]),
    ];
    for style in [EXPLICIT, Style { defined: false, ..EXPLICIT }] {
        let file = part_10(EXPLICIT_LITTLE, &style.encode(&nodes));
        assert_eq!(both(&file), Ok(nodes.to_vec()));
        let sequence = file.len() - style.encode(&nodes[1..]).len();
        let pixels = file.len() - style.encode(&nodes[2..]).len();
        for end in sequence - 13..file.len() {
            let expected = if end == sequence || end == pixels {
                Ok(end)
            } else {
                Err(DicomError::Truncated { at: end as u64 })
            };
            assert_eq!(read(&file[..end], end).map(|_| end), expected, "{style:?} {end}");
        }
    }
}

#[test]
fn a_deflated_data_set_must_end_and_may_carry_a_checksum() {
    let file = part_10(DEFLATED, &deflated(&EXPLICIT.encode(&[first()])));
    let length = file.len() as u64;
    let cut = &file[..file.len() - 1];
    assert_eq!(both(cut), Err(DicomError::Truncated { at: length - 1 }));
    for tail in [&[0][..], &[9; 8], &[9, 9, 9, 9, 9, 9, 9, 9, 0, 0]] {
        assert_eq!(both(&[&file, tail].concat()), Ok(vec![first()]));
    }
    let beyond = [&file[..], &[9; 9]].concat();
    assert!(matches!(both(&beyond), Err(DicomError::Malformed { at, .. }) if at == length + 8));
    let damaged = part_10(DEFLATED, &[0xFF; 40]);
    assert_eq!(both(&damaged), Err(DicomError::Inflate));
}

#[test]
fn limits_hold() {
    let exceeded = |key, limit| Err(DicomError::Limit { key, limit });
    let outcome = |bytes: &[u8], limits| read_within(bytes, 7, limits).map(|_| ());

    let nest = |depth| {
        (0..depth)
            .fold(vec![first()], |inner, _| vec![first(), Node::Sequence(SEQUENCE, vec![inner])])
    };
    let file = |nodes: &[Node]| part_10(EXPLICIT_LITTLE, &EXPLICIT.encode(nodes));
    assert_eq!(outcome(&file(&nest(8)), LIMITS), Ok(()));
    assert_eq!(outcome(&file(&nest(9)), LIMITS), exceeded("limits.element_depth", 8));

    let text = |length| file(&[first(), value(Tag(0x0040, 0xA160), VR::UT, &vec![b'a'; length])]);
    let header_bytes = text(100).len() as u64 - 132 - 12; // all but preamble and (0002,0000)
    let limits = Limits { header_bytes: header_bytes + 12, ..LIMITS };
    assert_eq!(outcome(&text(100), limits), Ok(()));
    assert_eq!(outcome(&text(102), limits), exceeded("limits.header_bytes", limits.header_bytes));
    let limits = Limits { header_bytes: 40, ..LIMITS };
    assert_eq!(outcome(&text(0), limits), exceeded("limits.header_bytes", 40));
    // Told long, refused before it comes; bulk does not count.
    let told = after_first(&EXPLICIT.header(Tag(0x0040, 0xA160), VR::UT, 0xFFFF_FFF0));
    assert_eq!(outcome(&told, LIMITS), exceeded("limits.header_bytes", LIMITS.header_bytes));
    let bulk = file(&[first(), value(PRIVATE, VR::UN, &vec![1; 1 << 21])]);
    assert_eq!(outcome(&bulk, LIMITS), Ok(()));

    let fragments =
        |count| file(&[first(), Node::Fragments(Tag(0x7FE0, 0x0010), vec![vec![1]; count])]);
    assert_eq!(outcome(&fragments(101), LIMITS), Ok(()));
    assert_eq!(outcome(&fragments(102), LIMITS), exceeded("limits.frames", 100));

    let bomb = [first(), value(PRIVATE, VR::UN, &vec![0; 1 << 24])];
    let bomb = part_10(DEFLATED, &deflated(&EXPLICIT.encode(&bomb)));
    assert_eq!(outcome(&bomb, LIMITS), exceeded("limits.inflated_bytes", 1 << 24));
}

#[test]
fn a_reader_that_failed_repeats_its_error() {
    let mut reader = Reader::new(Log::default(), LIMITS, THRESHOLD);
    let error = reader.push(&[0; 200]).unwrap_err();
    assert_eq!(reader.push(&after_first(&[])), Err(error.clone()));
    assert_eq!(reader.finish().map(|log| log.events), Err(error));
}

#[test]
fn the_sink_hears_little_between_two_calls() {
    let nodes = [first(), value(PRIVATE, VR::UN, &vec![0; 1 << 20])];
    let file = part_10(DEFLATED, &deflated(&EXPLICIT.encode(&nodes)));
    let mut reader = Reader::new(Log::default(), LIMITS, THRESHOLD);
    let heard = |reader: &Reader<Log>| match reader.sink().events.last() {
        Some(Event::Bulk(_, bytes)) => bytes.len(),
        _ => 0,
    };
    let mut rest = &file[..];
    loop {
        let before = heard(&reader);
        let more = reader.push_some(&mut rest).unwrap();
        assert!(heard(&reader) - before <= 64 * 1024);
        if !more {
            break;
        }
    }
    assert_eq!(reader.finish().unwrap().tree(), nodes);
}

#[test]
fn a_data_set_alone_reads_as_within_its_file() {
    let nodes = [first(), value(Tag(0x7FE0, 0x0010), VR::OW, &[7; 20])];
    for (uid, data_set) in
        [(EXPLICIT_LITTLE, EXPLICIT.encode(&nodes)), (DEFLATED, deflated(&EXPLICIT.encode(&nodes)))]
    {
        let file = part_10(uid, &data_set);
        let mut whole = read(&file, 7).unwrap().events;
        whole.retain(|event| !matches!(event, Event::Meta(..)));
        let Some(Event::Start(meta)) = whole.first() else { panic!("{whole:?}") };
        let (log, meta) = (Log::default(), meta.clone());
        let mut reader = Reader::of_data_set(log, LIMITS, THRESHOLD, meta).unwrap();
        reader.push(&data_set).unwrap();
        assert_eq!(reader.finish().unwrap().events, whole);
    }
}

/// Whether two readings came to the same end. Where a deflate stream is damaged and so is what it
/// holds, the pieces decide which of the two is noticed first.
fn alike(uid: &str, one: Result<Log, DicomError>, other: Result<Log, DicomError>) -> bool {
    match (one, other) {
        (Ok(one), Ok(other)) => one.events == other.events,
        (Err(one), Err(other)) => one == other || uid == DEFLATED,
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_encoding_says_the_same_in_pieces_of_any_size(
        nodes in data_set(), piece in 1_usize..40, defined: bool,
    ) {
        for (style, uid) in NATIVE {
            let mut bytes = Style { defined, ..style }.encode(&nodes);
            if uid == DEFLATED {
                bytes = deflated(&bytes);
            }
            let file = part_10(uid, &bytes);
            let whole = read(&file, file.len()).unwrap();
            let expected = if style.big { all_swapped(&nodes) } else { nodes.clone() };
            prop_assert_eq!(whole.tree(), expected);
            for piece in [1, 2, 3, 7, 4096, piece] {
                prop_assert_eq!(&read(&file, piece).unwrap().events, &whole.events);
            }
        }
    }

    #[test]
    fn damaged_files_are_read_or_refused_within_their_limits(
        nodes in data_set(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        which in 0_usize..4,
        piece in 1_usize..40,
    ) {
        let (style, uid) = NATIVE[which];
        let mut bytes = style.encode(&nodes);
        if uid == DEFLATED {
            bytes = deflated(&bytes);
        }
        let mut file = part_10(uid, &bytes);
        for (at, byte) in damage {
            let at = at.index(file.len());
            file[at] = byte;
        }
        let limits = Limits { header_bytes: 1000, ..LIMITS };
        let whole = read_within(&file, file.len(), limits);
        if let Ok(log) = &whole {
            prop_assert!(log.whole_bytes <= 1000);
            log.tree();
        }
        let pieces = read_within(&file, piece, limits);
        prop_assert!(alike(uid, whole, pieces));
    }

    #[test]
    fn any_bytes_are_read_or_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..300), piece in 1_usize..40, which in 0_usize..4,
    ) {
        let (_, uid) = NATIVE[which];
        for file in [bytes.clone(), part_10(uid, &bytes)] {
            let whole = read(&file, file.len().max(1));
            prop_assert!(alike(uid, whole, read(&file, piece)));
        }
    }
}
