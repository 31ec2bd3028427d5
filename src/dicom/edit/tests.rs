//! The editor: what it changes, what it leaves, and what it refuses.

use proptest::prelude::*;

use super::{super::reader::testing::*, *};
use crate::dicom::transfer_syntax::{EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE};

const DEFLATED: &str = "1.2.840.10008.1.2.1.99";

const NAME: Tag = Tag(0x0010, 0x0010);
const ID: Tag = Tag(0x0010, 0x0020);
const ISSUER: Tag = Tag(0x0010, 0x0021);
const INSTITUTION: Tag = Tag(0x0008, 0x0080);
const PIXELS: Tag = Tag(0x7FE0, 0x0010);

fn origin() -> Origin {
    Origin {
        date_time: "20260102030405+0000".into(),
        system: "ARCHIVE".into(),
        source: "CT1".into(),
        reason: Reason::Coerce,
    }
}

struct Done {
    bytes: Vec<u8>,
    tags: Vec<Tag>,
    /// The place from which the rest of the file follows, and what was given until that was known.
    tail: Option<(u64, usize)>,
}

fn edit_within(
    file: &[u8],
    edits: &Edits,
    piece: usize,
    limits: Limits,
) -> Result<Done, EditError> {
    let mut editor = Editor::new(edits.last().unwrap_or(NAME), limits);
    let mut done = Done { bytes: Vec::new(), tags: Vec::new(), tail: None };
    let decide = |editor: &mut Editor, done: &mut Done| -> Result<(), EditError> {
        if editor.is_read() {
            done.tags = editor.edit(edits, &origin())?.tags;
        }
        Ok(())
    };
    for piece in file.chunks(piece) {
        editor.push(Bytes::copy_from_slice(piece));
        loop {
            let more = editor.step()?;
            let decides = editor.is_read();
            decide(&mut editor, &mut done)?;
            while let Some(bytes) = editor.take() {
                done.bytes.extend_from_slice(&bytes);
            }
            if done.tail.is_none() {
                done.tail = editor.tail().map(|tail| (tail, done.bytes.len()));
            }
            if !more && !decides {
                break;
            }
        }
    }
    editor.end()?;
    decide(&mut editor, &mut done)?;
    editor.end()?;
    while let Some(bytes) = editor.take() {
        done.bytes.extend_from_slice(&bytes);
    }
    Ok(done)
}

fn edit(file: &[u8], edits: &Edits, piece: usize) -> Result<Done, EditError> {
    edit_within(file, edits, piece, LIMITS)
}

fn text(tag: Tag, vr: VR, text: &str) -> Node {
    let mut value = text.as_bytes().to_vec();
    if value.len() % 2 == 1 {
        value.push(b' ');
    }
    Node::Value(tag, vr, value)
}

/// What (0400,0561) says of these previous values.
fn original(modified: Vec<Node>) -> Vec<Node> {
    let at = |element| Tag(0x0400, element);
    vec![
        Node::Sequence(at(0x0550), vec![modified]),
        text(at(0x0562), VR::DT, "20260102030405+0000"),
        text(at(0x0563), VR::LO, "ARCHIVE"),
        text(at(0x0564), VR::LO, "CT1"),
        text(at(0x0565), VR::CS, "COERCE"),
    ]
}

fn with_original(mut nodes: Vec<Node>, item: Vec<Node>) -> Vec<Node> {
    let at = nodes.iter().position(|node| tag_of(node) > ORIGINAL).unwrap_or(nodes.len());
    nodes.insert(at, Node::Sequence(ORIGINAL, vec![item]));
    nodes
}

fn tag_of(node: &Node) -> Tag {
    match node {
        Node::Value(tag, ..) | Node::Sequence(tag, _) | Node::Fragments(tag, _) => *tag,
    }
}

/// A data set as PS3.5 wants it: ascending, each attribute once.
fn ordered(mut nodes: Vec<Node>) -> Vec<Node> {
    nodes.sort_by_key(tag_of);
    nodes.dedup_by_key(|node| tag_of(node));
    nodes
}

/// The file in every encoding: its transfer syntax, and how its data set is written.
fn encodings() -> impl Strategy<Value = (&'static str, Style)> {
    (0..4_usize, any::<bool>()).prop_map(|(which, defined)| {
        let (syntax, style) = [
            (EXPLICIT_LITTLE, EXPLICIT),
            (IMPLICIT_LITTLE, IMPLICIT),
            (EXPLICIT_BIG, BIG),
            (DEFLATED, EXPLICIT),
        ][which];
        (syntax, Style { defined, ..style })
    })
}

fn file(syntax: &str, style: Style, nodes: &[Node]) -> Vec<u8> {
    let data_set = style.encode(nodes);
    match syntax {
        DEFLATED => part_10(syntax, &deflated(&data_set)),
        _ => part_10(syntax, &data_set),
    }
}

proptest! {
    #[test]
    fn what_is_not_edited_stays_as_it_is(
        nodes in data_set(),
        (syntax, style) in encodings(),
        piece in 1..300_usize,
        name in "[A-Za-z^ ]{1,70}",
    ) {
        let nodes = ordered(nodes);
        let file = file(syntax, style, &nodes);
        let before = read(&file, usize::MAX >> 1).unwrap().tree();
        let old = before.iter().find(|node| tag_of(node) == NAME).cloned();
        let mut edits = Edits::default();
        edits.set_text(NAME, VR::PN, &name);
        edits.remove(Tag(0x0009, 0x1001));
        edits.set_text(ID, VR::LO, "X1");
        let done = edit(&file, &edits, piece).unwrap();
        let after = read(&done.bytes, 7).unwrap().tree();

        let edited = [Tag(0x0009, 0x1001), NAME, ID];
        let mut expected: Vec<Node> =
            before.iter().filter(|node| !edited.contains(&tag_of(node))).cloned().collect();
        expected.extend([text(NAME, VR::PN, &name), text(ID, VR::LO, "X1")]);
        expected.sort_by_key(tag_of);
        let mut modified: Vec<Node> = before
            .iter()
            .filter(|node| edited.contains(&tag_of(node)))
            .cloned()
            .collect();
        if modified.iter().any(|node| tag_of(node) == Tag(0x0009, 0x1001)) {
            let creator = before.iter().find(|node| tag_of(node) == Tag(0x0009, 0x0010));
            modified.extend(creator.cloned());
        }
        if old.is_none() {
            modified.push(Node::Value(NAME, VR::PN, Vec::new()));
        }
        if done.tags.contains(&NAME) {
            modified.push(Node::Value(ID, VR::LO, Vec::new()));
        }
        modified.sort_by_key(tag_of);
        if done.tags.contains(&NAME) {
            prop_assert_eq!(after, with_original(expected, original(modified)));
        }
        // Pieces do not matter.
        let whole = edit(&file, &edits, file.len()).unwrap();
        prop_assert_eq!(&whole.bytes, &done.bytes);
        // The rest can be copied.
        if syntax == DEFLATED {
            prop_assert_eq!(whole.tail, None);
        } else if let Some((tail, given)) = done.tail {
            prop_assert_eq!(&file[tail as usize..], &done.bytes[given..]);
        }
        // Once more changes nothing.
        let again = edit(&done.bytes, &edits, piece).unwrap();
        prop_assert_eq!(again.tags, []);
        prop_assert_eq!(again.bytes, done.bytes);
    }

    #[test]
    fn an_edit_of_nothing_is_the_identity(
        nodes in data_set(),
        (syntax, style) in encodings(),
        piece in 1..300_usize,
    ) {
        let file = file(syntax, style, &nodes);
        let mut edits = Edits::default();
        edits.remove(Tag(0x0010, 0x1000));
        let done = edit(&file, &edits, piece).unwrap();
        prop_assert_eq!(done.tags, []);
        prop_assert!(done.bytes == file);
    }

    #[test]
    fn nothing_that_comes_panics(
        nodes in data_set(),
        (syntax, style) in encodings(),
        piece in 1..300_usize,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let mut file = file(syntax, style, &nodes);
        for (at, byte) in damage {
            let at = at.index(file.len());
            file[at] = byte;
        }
        let mut edits = Edits::default();
        edits.set_text(NAME, VR::PN, "A");
        if let Ok(done) = edit(&file, &edits, piece) {
            prop_assert!(read(&done.bytes, 100).is_ok());
        }
    }
}

fn nodes() -> Vec<Node> {
    vec![
        text(Tag(0x0008, 0x0016), VR::UI, "1.2.3\0"),
        text(INSTITUTION, VR::LO, "OLD"),
        text(NAME, VR::PN, "DOE^JANE"),
        text(ID, VR::LO, "4711"),
        text(ISSUER, VR::LO, "HOME"),
        Node::Value(PIXELS, VR::OW, vec![7; 64]),
    ]
}

fn after(file: &[u8], edits: &Edits) -> Vec<Node> {
    read(&edit(file, edits, 50).unwrap().bytes, 9).unwrap().tree()
}

#[test]
fn items_that_are_there_stay_and_the_new_one_is_the_last() {
    let earlier = vec![text(Tag(0x0400, 0x0563), VR::LO, "FIRST")];
    for (syntax, style) in [
        (EXPLICIT_LITTLE, EXPLICIT),
        (EXPLICIT_LITTLE, Style { defined: false, ..EXPLICIT }),
        (IMPLICIT_LITTLE, Style { defined: false, ..IMPLICIT }),
        (EXPLICIT_BIG, BIG),
        (DEFLATED, EXPLICIT),
    ] {
        let mut nodes = nodes();
        nodes.insert(5, Node::Sequence(ORIGINAL, vec![earlier.clone()]));
        let mut edits = Edits::default();
        edits.set_text(ID, VR::LO, "4712");
        let tree = after(&file(syntax, style, &nodes), &edits);
        // Whose ID it was is told, though it did not change.
        let item = original(vec![text(ID, VR::LO, "4711"), text(ISSUER, VR::LO, "HOME")]);
        assert_eq!(tree[5], Node::Sequence(ORIGINAL, vec![earlier.clone(), item]));
        assert_eq!(tree.len(), 7);
        assert_eq!(tree[3], text(ID, VR::LO, "4712"));
    }
}

#[test]
fn sequences_are_edited_as_a_whole() {
    let tag = Tag(0x0008, 0x1120);
    let class = Tag(0x0008, 0x1150);
    let old = Node::Sequence(tag, vec![vec![text(class, VR::UI, "1.2.4\0")]]);
    let mut nodes = nodes();
    nodes.insert(2, old.clone());
    let mut edits = Edits::default();
    let item = BTreeMap::from([(class, (VR::UI, Value::Bytes(b"1.2.5".to_vec())))]);
    edits.set(tag, VR::SQ, Value::Items(vec![item.clone(), item]));
    let file = file(EXPLICIT_LITTLE, Style { defined: false, ..EXPLICIT }, &nodes);
    let tree = after(&file, &edits);
    let new = vec![text(class, VR::UI, "1.2.5\0")];
    assert_eq!(tree[2], Node::Sequence(tag, vec![new.clone(), new]));
    assert_eq!(tree[6], Node::Sequence(ORIGINAL, vec![original(vec![old])]));
}

#[test]
fn text_is_written_in_the_character_set_of_the_file() {
    let check = |told: Option<&str>, value: &str, expected: Result<(&str, &[u8]), ()>| {
        let mut nodes = nodes();
        nodes.extend(told.map(|term| text(CHARACTER_SET, VR::CS, term)));
        let file = file(EXPLICIT_LITTLE, EXPLICIT, &ordered(nodes));
        let mut edits = Edits::default();
        edits.set_text(INSTITUTION, VR::LO, value);
        let done = edit(&file, &edits, 64);
        let Ok((term, bytes)) = expected else {
            assert_eq!(done.err(), Some(EditError::Characters(INSTITUTION)), "{told:?} {value}");
            return;
        };
        let tree = read(&done.unwrap().bytes, 100).unwrap().tree();
        assert!(tree.contains(&Node::Value(INSTITUTION, VR::LO, bytes.to_vec())), "{value}");
        let charset = tree.iter().find(|node| tag_of(node) == CHARACTER_SET);
        let expected = (!term.is_empty()).then(|| text(CHARACTER_SET, VR::CS, term));
        assert_eq!(charset, expected.as_ref(), "{value}");
    };
    check(None, "Ward", Ok(("", b"Ward")));
    check(Some("ISO_IR 100"), "H\u{F4}pital", Ok(("ISO_IR 100", b"H\xF4pital ")));
    check(Some("ISO_IR 192"), "H\u{F4}pital", Ok(("ISO_IR 192", "H\u{F4}pital".as_bytes())));
    check(None, "H\u{F4}pital", Ok(("ISO_IR 100", b"H\xF4pital ")));
    check(Some("ISO_IR 6"), "H\u{F4}pital", Ok(("ISO_IR 100", b"H\xF4pital ")));
    check(None, "\u{738B}", Ok(("ISO_IR 192", "\u{738B} ".as_bytes())));
    check(Some("ISO_IR 100"), "\u{738B}", Err(()));
    check(Some("\\ISO 2022 IR 87"), "\u{738B}", Err(()));
}

#[test]
fn the_file_meta_information_names_its_writer_and_what_it_holds() {
    let mut edits = Edits::default();
    edits.set_text(Tag(0x0008, 0x0018), VR::UI, "1.2.99");
    let file = file(EXPLICIT_LITTLE, EXPLICIT, &nodes());
    let log = read(&edit(&file, &edits, 999).unwrap().bytes, 100).unwrap();
    let meta = |element| {
        log.events.iter().find_map(|event| match event {
            Event::Meta(tag, _, value) if *tag == Tag(2, element) => Some(&value[..]),
            _ => None,
        })
    };
    assert_eq!(meta(3), Some(&b"1.2.99"[..]));
    assert_eq!(meta(2), Some(&b"1.2.840.10008.5.1.4.1.1.2\0"[..]));
    assert_ne!(meta(0x12), Some(&b"1.2.3.999\0"[..]));
}

#[test]
fn group_lengths_that_would_be_wrong_are_left_out() {
    let length = |group| Node::Value(Tag(group, 0), VR::UL, vec![9, 0, 0, 0]);
    let mut nodes = nodes();
    nodes.extend([length(8), length(0x10), length(0x7FE0)]);
    let file = file(EXPLICIT_LITTLE, EXPLICIT, &ordered(nodes));
    let mut edits = Edits::default();
    edits.set_text(ID, VR::LO, "4712");
    let bytes = edit(&file, &edits, 33).unwrap().bytes;
    let has = |group| {
        let element = EXPLICIT.encode(&[length(group)]);
        bytes.windows(element.len()).any(|window| window == element)
    };
    assert_eq!([has(8), has(0x10), has(0x7FE0)], [true, false, true]);
}

#[test]
fn long_values_before_the_sequence_pass_without_being_held() {
    let mut nodes = nodes();
    nodes.insert(5, Node::Value(Tag(0x0042, 0x0011), VR::OB, vec![3; 200_000]));
    let file = file(EXPLICIT_LITTLE, EXPLICIT, &nodes);
    let mut edits = Edits::default();
    edits.set_text(ID, VR::LO, "4712");
    let limits = Limits { header_bytes: 10_000, ..LIMITS };
    let done = edit_within(&file, &edits, 1000, limits).unwrap();
    let tree = read(&done.bytes, 100).unwrap().tree();
    assert_eq!(tree[5], nodes[5]);
    assert_eq!(tag_of(&tree[6]), ORIGINAL);
    // What may change is held, and bounded.
    edits.set_text(Tag(0x0046, 0x0018), VR::LO, "X");
    let limit = DicomError::Limit { key: "limits.header_bytes", limit: 10_000 };
    let done = edit_within(&file, &edits, 1000, limits);
    assert_eq!(done.err(), Some(EditError::Dicom(limit)));
}

#[test]
fn what_stands_out_of_order_is_an_error_only_where_it_is_edited() {
    let mut nodes = nodes();
    nodes.push(text(ID, VR::LO, "4711"));
    let file = file(EXPLICIT_LITTLE, EXPLICIT, &nodes);
    let mut edits = Edits::default();
    edits.set_text(NAME, VR::PN, "X");
    assert_eq!(after(&file, &edits).len(), 8);
    edits.set_text(ID, VR::LO, "4712");
    for piece in [10, 10_000] {
        assert!(matches!(
            edit(&file, &edits, piece).err(),
            Some(EditError::Dicom(DicomError::Malformed { .. }))
        ));
    }
}

#[test]
fn padding_and_data_sets_without_pixels_are_no_trouble() {
    for padding in [0, 3, 8, 40] {
        let mut file = file(EXPLICIT_LITTLE, EXPLICIT, &nodes()[..5]);
        file.resize(file.len() + padding, 0);
        let mut edits = Edits::default();
        edits.set_text(ID, VR::LO, "4712");
        for piece in [1, 1000] {
            let done = edit(&file, &edits, piece).unwrap();
            let tree = read(&done.bytes, 1000).unwrap().tree();
            assert_eq!(tree.len(), 6);
            assert_eq!(tag_of(&tree[5]), ORIGINAL);
            assert!(done.bytes.ends_with(&vec![0; padding]));
        }
    }
}

#[test]
fn what_holds_the_file_together_cannot_be_edited() {
    for tag in [CHARACTER_SET, ORIGINAL, PIXELS, Tag(0x0010, 0), Tag(2, 0x10), Tag(0xFFFE, 0xE000)]
    {
        assert!(!Edits::allows(tag), "{tag}");
    }
    let mut edits = Edits::default();
    edits.remove(PIXELS);
    let done = edit(&file(EXPLICIT_LITTLE, EXPLICIT, &nodes()), &edits, 100);
    assert_eq!(done.err(), Some(EditError::Fixed(PIXELS)));
}

#[test]
fn values_are_told_before_it_is_decided() {
    let mut nodes = nodes();
    nodes[2] = Node::Value(NAME, VR::PN, b"M\xFCller^A\\B ".to_vec());
    nodes.insert(1, text(CHARACTER_SET, VR::CS, "ISO_IR 100"));
    let mut editor = Editor::new(ISSUER, LIMITS);
    editor.push(file(IMPLICIT_LITTLE, IMPLICIT, &ordered(nodes)).into());
    while editor.step().unwrap() {}
    assert!(editor.is_read());
    let values = |tag| editor.values(tag);
    assert_eq!(values(NAME), Some(vec!["M\u{FC}ller^A".to_owned(), "B".to_owned()]));
    assert_eq!(values(ID), Some(vec!["4711".to_owned()]));
    assert_eq!(values(Tag(0x0010, 0x0030)), None);
}
