//! The de-identifier, given files made here.

use std::sync::Arc;

use super::*;
use crate::dicom::{
    DicomError, Tag, VR,
    reader::testing::*,
    transfer_syntax::{EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE},
};

const CT: &[u8] = b"1.2.840.10008.5.1.4.1.1.2\0";
const PIXELS: Tag = Tag(0x7FE0, 0x0010);

fn key() -> PseudonymKey {
    PseudonymKey::new([7; 32])
}

fn value(tag: Tag, vr: VR, text: &str) -> Node {
    let mut bytes = text.as_bytes().to_vec();
    if bytes.len() % 2 == 1 {
        bytes.push(if vr == VR::UI { 0 } else { b' ' });
    }
    Node::Value(tag, vr, bytes)
}

/// An image with a name, dates, references, and private attributes.
fn image(more: Vec<Node>) -> Vec<Node> {
    let item = vec![
        Node::Value(Tag(0x0008, 0x1150), VR::UI, CT.to_vec()),
        value(Tag(0x0008, 0x1155), VR::UI, "1.2.3.4.9"),
        value(Tag(0x0010, 0x0010), VR::PN, "Doe^Jane"),
    ];
    let mut nodes = vec![
        Node::Value(Tag(0x0008, 0x0016), VR::UI, CT.to_vec()),
        value(Tag(0x0008, 0x0018), VR::UI, "1.2.3.4"),
        value(Tag(0x0008, 0x0020), VR::DA, "20240131"),
        value(Tag(0x0008, 0x0021), VR::DA, "20240202"),
        value(Tag(0x0008, 0x0050), VR::SH, "ACC77"),
        value(Tag(0x0008, 0x0060), VR::CS, "CT"),
        value(Tag(0x0008, 0x0080), VR::LO, "Hospital of Somewhere"),
        value(Tag(0x0008, 0x1030), VR::LO, "Thorax Doe"),
        Node::Sequence(Tag(0x0008, 0x1140), vec![item]),
        value(Tag(0x0010, 0x0010), VR::PN, "Doe^Jane"),
        value(Tag(0x0010, 0x0020), VR::LO, "PAT-77"),
        value(Tag(0x0010, 0x1010), VR::AS, "061Y"),
        value(Tag(0x0018, 0x1000), VR::LO, "SN1234567"),
        value(Tag(0x0019, 0x0010), VR::LO, "GEMS_ACQU_01"),
        value(Tag(0x0019, 0x1023), VR::DS, "17.5"),
        value(Tag(0x0019, 0x1024), VR::DS, "1.5"),
        value(Tag(0x0019, 0x1099), VR::LO, "Jane Doe"),
        value(Tag(0x0020, 0x000D), VR::UI, "1.2.3.1"),
        value(Tag(0x0020, 0x000E), VR::UI, "1.2.3.2"),
        Node::Value(Tag(0x0028, 0x0010), VR::US, vec![4, 0]),
        Node::Value(PIXELS, VR::OW, (0..32).collect()),
    ];
    nodes.extend(more);
    nodes.sort_by_key(|node| match node {
        Node::Value(tag, ..) | Node::Sequence(tag, _) | Node::Fragments(tag, _) => *tag,
    });
    nodes
}

fn deidentify(
    options: Options,
    syntax: &str,
    file: &[u8],
    piece: usize,
) -> Result<Vec<u8>, DeidentifyError> {
    let profile = Arc::new(Profile::new(options, &key()));
    let mut it = Deidentifier::new(profile, &syntax.parse().unwrap(), LIMITS);
    let mut out = Vec::new();
    for piece in file.chunks(piece) {
        it.push(piece)?;
        while let Some(bytes) = it.take() {
            out.extend(bytes);
        }
    }
    it.finish()?.1.iter().for_each(|bytes| out.extend_from_slice(bytes));
    Ok(out)
}

/// De-identifies explicit little endian, and reads what came of it.
fn nodes_of(options: Options, nodes: &[Node]) -> Result<Vec<Node>, DeidentifyError> {
    let file = part_10(EXPLICIT_LITTLE, &EXPLICIT.encode(nodes));
    let out = deidentify(options, EXPLICIT_LITTLE, &file, 1000)?;
    assert_eq!(out, deidentify(options, EXPLICIT_LITTLE, &file, 1)?, "pieces do not matter");
    Ok(read(&out, out.len()).unwrap().tree())
}

fn find(nodes: &[Node], tag: Tag) -> Option<String> {
    nodes.iter().find_map(|node| match node {
        Node::Value(found, _, bytes) if *found == tag => {
            Some(String::from_utf8_lossy(bytes).trim_matches([' ', '\0']).to_owned())
        }
        _ => None,
    })
}

fn items(nodes: &[Node], tag: Tag) -> Vec<Vec<Node>> {
    let found = nodes.iter().find_map(|node| match node {
        Node::Sequence(found, items) if *found == tag => Some(items.clone()),
        _ => None,
    });
    found.unwrap_or_default()
}

fn contains(bytes: &[u8], text: &str) -> bool {
    memchr::memmem::find(bytes, text.as_bytes()).is_some()
}

#[test]
fn nothing_that_identifies_is_left() {
    let nodes = image(Vec::new());
    for (style, syntax) in
        [(EXPLICIT, EXPLICIT_LITTLE), (IMPLICIT, IMPLICIT_LITTLE), (BIG, EXPLICIT_BIG)]
    {
        let file = part_10(syntax, &style.encode(&nodes));
        let out = deidentify(Options::default(), syntax, &file, 100).unwrap();
        for text in [
            "Doe",
            "Jane",
            "PAT",
            "ACC77",
            "1.2.3.4",
            "1.2.3.1",
            "1.2.3.2",
            "1.2.3.999",
            "2024",
            "Hospital",
            "SN123",
            "GEMS",
            "061Y",
            "Thorax",
        ] {
            assert!(contains(&file, text), "{text}");
            assert!(!contains(&out, text), "{syntax} {text}");
        }
        let tree = read(&out, out.len()).unwrap().tree();
        let pixels = tree.iter().find(|node| matches!(node, Node::Value(PIXELS, ..))).unwrap();
        assert_eq!(*pixels, Node::Value(PIXELS, VR::OW, (0..32).collect()), "{syntax}");
        assert_eq!(find(&tree, Tag(0x0012, 0x0062)).as_deref(), Some("YES"));
        assert_eq!(find(&tree, Tag(0x0028, 0x0303)).as_deref(), Some("REMOVED"));
        let methods = items(&tree, Tag(0x0012, 0x0064));
        assert_eq!(methods.len(), 1);
        assert_eq!(find(&methods[0], Tag(0x0008, 0x0100)).as_deref(), Some("113100"));
        assert_eq!(find(&tree, Tag(0x0008, 0x0050)).as_deref(), Some(""));
        assert_eq!(find(&tree, Tag(0x0008, 0x0021)), None, "optional in a CT image");
        assert_eq!(find(&tree, Tag(0x0028, 0x0010)).as_deref(), Some("\u{4}"));
    }
}

#[test]
fn the_same_becomes_the_same_everywhere() {
    let nodes = image(vec![value(Tag(0x0020, 0x0052), VR::UI, "1.2.840.10008.1.4.1.1")]);
    let tree = nodes_of(Options::default(), &nodes).unwrap();
    let profile = Profile::new(Options::default(), &key());
    let expect = |uid: &str| Some(profile.uid(&uid.parse().unwrap()).to_string());
    assert_eq!(find(&tree, Tag(0x0008, 0x0018)), expect("1.2.3.4"));
    assert_eq!(find(&tree, Tag(0x0020, 0x000D)), expect("1.2.3.1"));
    let referenced = items(&tree, Tag(0x0008, 0x1140));
    assert_eq!(find(&referenced[0], Tag(0x0008, 0x1155)), expect("1.2.3.4.9"));
    assert_eq!(
        find(&referenced[0], Tag(0x0008, 0x1150)).as_deref(),
        Some("1.2.840.10008.5.1.4.1.1.2")
    );
    assert_eq!(find(&tree, Tag(0x0020, 0x0052)).as_deref(), Some("1.2.840.10008.1.4.1.1"));
    let (id, name) = (find(&tree, Tag(0x0010, 0x0020)), find(&tree, Tag(0x0010, 0x0010)));
    assert_eq!(id, name);
    assert_eq!(find(&referenced[0], Tag(0x0010, 0x0010)), name);
    assert_eq!(id.unwrap().len(), 17);
    let other = Profile::new(Options::default(), &PseudonymKey::new([8; 32]));
    assert_ne!(Some(other.uid(&"1.2.3.4".parse().unwrap()).to_string()), expect("1.2.3.4"));
}

#[test]
fn options_keep_what_they_are_about() {
    let options = Options {
        retain_uids: true,
        retain_device_identity: true,
        retain_institution_identity: true,
        retain_patient_characteristics: true,
        dates: Dates::Full,
        clean_descriptors: true,
        clean_structured_content: true,
        clean_graphics: true,
        retain_safe_private: true,
        burnt_in: BurntIn::Refuse,
    };
    let tree = nodes_of(options, &image(Vec::new())).unwrap();
    for (tag, expected) in [
        (Tag(0x0008, 0x0018), Some("1.2.3.4")),
        (Tag(0x0008, 0x0020), Some("20240131")),
        (Tag(0x0008, 0x0080), Some("Hospital of Somewhere")),
        (Tag(0x0008, 0x1030), Some("Thorax")),
        (Tag(0x0010, 0x1010), Some("061Y")),
        (Tag(0x0018, 0x1000), Some("SN1234567")),
        (Tag(0x0019, 0x0010), Some("GEMS_ACQU_01")),
        (Tag(0x0019, 0x1023), Some("17.5")),
        (Tag(0x0019, 0x1024), Some("1.5")),
        (Tag(0x0019, 0x1099), None),
        (Tag(0x0028, 0x0303), Some("UNMODIFIED")),
    ] {
        assert_eq!(find(&tree, tag).as_deref(), expected, "{tag}");
    }
    let codes = items(&tree, Tag(0x0012, 0x0064));
    let codes: Vec<_> = codes.iter().filter_map(|item| find(item, Tag(0x0008, 0x0100))).collect();
    let expected = "113100 113103 113104 113105 113106 113108 113109 113110 113111 113112";
    assert_eq!(codes.join(" "), expected);
}

#[test]
fn modified_dates_keep_their_intervals() {
    let options = Options { dates: Dates::Modified, ..Options::default() };
    let more = vec![value(Tag(0x0008, 0x002A), VR::DT, "20240203101112.5")];
    let tree = nodes_of(options, &image(more)).unwrap();
    let day = |text: &str| {
        let part = |range: std::ops::Range<usize>| text[range].parse::<u8>().unwrap();
        let month = time::Month::try_from(part(4..6)).unwrap();
        time::Date::from_calendar_date(text[..4].parse().unwrap(), month, part(6..8)).unwrap()
    };
    let at = |tag| find(&tree, tag).unwrap();
    let (study, series) = (at(Tag(0x0008, 0x0020)), at(Tag(0x0008, 0x0021)));
    assert_eq!((day(&series) - day(&study)).whole_days(), 2);
    let acquired = at(Tag(0x0008, 0x002A));
    assert_eq!((day(&acquired) - day(&study)).whole_days(), 3);
    assert!(acquired.ends_with("101112.5") && !study.starts_with("20240131"));
    assert_eq!(at(Tag(0x0028, 0x0303)), "MODIFIED");
}

#[test]
fn what_hides_something_is_left_out_or_refused() {
    let hidden = vec![
        Node::Value(Tag(0x0008, 0x1032), VR::UN, b"Jane Doe".to_vec()),
        value(Tag(0x0012, 0x9999), VR::LO, "Jane Doe"),
        value(Tag(0x0028, 0x0011), VR::LT, "Jane Doe"),
        value(Tag(0x0018, 0x0050), VR::DS, "Jane Doe"),
        value(Tag(0x6000, 0x0022), VR::LO, "Jane Doe"),
        Node::Sequence(
            Tag(0x0009, 0x1001),
            vec![vec![value(Tag(0x0010, 0x0010), VR::PN, "Doe^Jane")]],
        ),
        Node::Sequence(
            Tag(0x0088, 0x0200),
            vec![vec![Node::Value(PIXELS, VR::OW, b"Jane Doe".to_vec())]],
        ),
    ];
    let all = Options { retain_safe_private: true, ..Options::default() };
    let file = part_10(EXPLICIT_LITTLE, &EXPLICIT.encode(&image(hidden)));
    let out = deidentify(all, EXPLICIT_LITTLE, &file, 77).unwrap();
    assert!(!contains(&out, "Jane") && !contains(&out, "Doe"));

    let mut late = image(Vec::new());
    late.push(value(Tag(0x0010, 0x4000), VR::LT, "Jane Doe"));
    assert_eq!(
        nodes_of(Options::default(), &late).unwrap_err(),
        DeidentifyError::Refused(Refusal::Order)
    );
    let mut behind = image(Vec::new());
    behind.push(value(Tag(0x7FE1, 0x0010), VR::LO, "Jane Doe"));
    behind.push(value(Tag(0xFFFC, 0xFFFC), VR::OB, "Jane Doe"));
    let tree = nodes_of(Options::default(), &behind).unwrap();
    assert!(matches!(tree.last(), Some(Node::Value(PIXELS, ..))));

    let burnt = image(vec![value(Tag(0x0028, 0x0301), VR::CS, "YES")]);
    assert_eq!(
        nodes_of(Options::default(), &burnt).unwrap_err(),
        DeidentifyError::Refused(Refusal::BurntIn)
    );
    let allowed = Options { burnt_in: BurntIn::Allow, ..Options::default() };
    assert!(nodes_of(allowed, &burnt).is_ok());
    let nameless = vec![Node::Value(Tag(0x0008, 0x0016), VR::UI, CT.to_vec())];
    assert_eq!(
        nodes_of(Options::default(), &nameless).unwrap_err(),
        DeidentifyError::Unreadable(DicomError::Missing { tag: Tag(0x0008, 0x0018) })
    );
}

#[test]
fn reports_are_emptied_or_cleaned() {
    let code = |value_: &str, meaning: &str| {
        vec![vec![
            value(Tag(0x0008, 0x0100), VR::SH, value_),
            value(Tag(0x0008, 0x0102), VR::SH, "DCM"),
            value(Tag(0x0008, 0x0104), VR::LO, meaning),
        ]]
    };
    let item = |kind: &str, concept: &str, tag: Tag, vr: VR, text: &str| {
        let mut nodes = vec![
            value(Tag(0x0040, 0xA040), VR::CS, kind),
            Node::Sequence(Tag(0x0040, 0xA043), code(concept, "Concept")),
            value(tag, vr, text),
        ];
        nodes.sort_by_key(|node| match node {
            Node::Value(tag, ..) | Node::Sequence(tag, _) | Node::Fragments(tag, _) => *tag,
        });
        nodes
    };
    let tree = Node::Sequence(
        Tag(0x0040, 0xA730),
        vec![
            item("TEXT", "121071", Tag(0x0040, 0xA160), VR::UT, "Nodule 5 mm of Doe, right lung"),
            item("PNAME", "121008", Tag(0x0040, 0xA123), VR::PN, "House^Gregory"),
            item("UIDREF", "121012", Tag(0x0040, 0xA124), VR::UI, "1.2.3.77"),
            item("NUM", "121033", Tag(0x0040, 0xA30A), VR::DS, "61"),
            item("TEXT", "121029", Tag(0x0040, 0xA160), VR::UT, "Head"),
        ],
    );
    let basic = nodes_of(Options::default(), &image(vec![tree.clone()])).unwrap();
    let content = items(&basic, Tag(0x0040, 0xA730));
    assert_eq!(content.len(), 1);
    assert_eq!(find(&content[0], Tag(0x0040, 0xA160)).as_deref(), Some("REMOVED"));

    let options = Options { clean_structured_content: true, ..Options::default() };
    let cleaned = nodes_of(options, &image(vec![tree])).unwrap();
    let content = items(&cleaned, Tag(0x0040, 0xA730));
    assert_eq!(content.len(), 4, "the age is gone");
    let text = |at: usize, tag| find(&content[at], tag).unwrap();
    assert_eq!(text(0, Tag(0x0040, 0xA160)), "5 mm right lung");
    assert_eq!(text(1, Tag(0x0040, 0xA123)), "REMOVED");
    assert!(text(2, Tag(0x0040, 0xA124)).starts_with("2.25."));
    assert_eq!(text(3, Tag(0x0040, 0xA160)), "REMOVED");
}

#[test]
fn the_rest_can_be_copied_once_it_leaves_as_it_is() {
    let mut nodes = image(Vec::new());
    nodes.pop();
    nodes.push(Node::Value(PIXELS, VR::OW, vec![9; 100_000]));
    let file = part_10(EXPLICIT_LITTLE, &EXPLICIT.encode(&nodes));
    let whole = deidentify(Options::default(), EXPLICIT_LITTLE, &file, file.len()).unwrap();
    let profile = Arc::new(Profile::new(Options::default(), &key()));
    let mut it = Deidentifier::new(profile.clone(), &EXPLICIT_LITTLE.parse().unwrap(), LIMITS);
    let (mut out, mut at) = (Vec::new(), 0);
    let length = file.len() as u64;
    loop {
        it.push(&file[at..at + 512]).unwrap();
        at += 512;
        if let Some(pieces) = it.tail(length) {
            pieces.iter().for_each(|piece| out.extend_from_slice(piece));
            break;
        }
    }
    assert!(at < 4096);
    out.extend_from_slice(&file[at..]);
    assert!(out == whole);
    let identity = it.identity().unwrap();
    assert_eq!(identity.instance, profile.uid(&"1.2.3.4".parse().unwrap()));
    assert_eq!(identity.series, Some(profile.uid(&"1.2.3.2".parse().unwrap())));
    assert!(it.tail(length + 2).is_none(), "something follows");
}

#[test]
fn fragments_pass_through() {
    let mut nodes = image(Vec::new());
    nodes.pop();
    let fragments = Node::Fragments(PIXELS, vec![vec![], vec![1; 2000], vec![2; 10]]);
    nodes.push(fragments.clone());
    const JPEG: &str = "1.2.840.10008.1.2.4.50";
    let file = part_10(JPEG, &EXPLICIT.encode(&nodes));
    let out = deidentify(Options::default(), JPEG, &file, 300).unwrap();
    assert_eq!(read(&out, 64).unwrap().tree().last(), Some(&fragments));
}

#[test]
fn memory_is_bounded() {
    // Two bytes of UID become forty, and lists of them are short.
    let mut uids = image(Vec::new());
    let pixels = uids.pop();
    let items = (0..20_000).map(|_| vec![value(Tag(0x0020, 0x0052), VR::UI, "1\\1\\1\\1")]);
    uids.push(Node::Sequence(Tag(0x5200, 0x9230), items.collect()));
    uids.extend(pixels);
    let error = nodes_of(Options::default(), &uids).unwrap_err();
    assert!(matches!(error, DeidentifyError::Unreadable(DicomError::Limit { .. })), "{error}");
    let many = (0..60_000).map(|_| Node::Value(Tag(0x0028, 0x0010), VR::US, vec![4, 0]));
    let error = nodes_of(Options::default(), &many.collect::<Vec<_>>()).unwrap_err();
    let key = "limits.header_bytes";
    assert!(matches!(
        error,
        DeidentifyError::Unreadable(DicomError::Limit { key: found, .. }) if found == key
    ));
}

#[test]
fn meanings_of_codes_stay_where_they_are_not_what_somebody_typed() {
    let meaning = |scheme: &str, meaning: &str| {
        let code = vec![
            value(Tag(0x0008, 0x0100), VR::SH, "A1"),
            value(Tag(0x0008, 0x0102), VR::SH, scheme),
            value(Tag(0x0008, 0x0104), VR::LO, meaning),
        ];
        let procedure = Node::Sequence(Tag(0x0008, 0x1032), vec![code]);
        let options = Options { clean_descriptors: true, ..Options::default() };
        let given = nodes_of(options, &image(vec![procedure])).unwrap();
        let code = &items(&given, Tag(0x0008, 0x1032))[0];
        assert_eq!(find(code, Tag(0x0008, 0x0100)).as_deref(), Some("A1"));
        assert_eq!(find(code, Tag(0x0008, 0x0102)).as_deref(), Some(scheme));
        find(code, Tag(0x0008, 0x0104)).unwrap()
    };
    assert_eq!(meaning("SCT", "Computed tomography of thorax"), "Computed tomography of thorax");
    assert_eq!(meaning("99LOCAL", "CT Thorax for Prof. Jones"), "CT Thorax for");
    assert_eq!(meaning("99LOCAL", "Jones"), "REMOVED", "it may not be empty");
    assert_eq!(meaning("", "CT Thorax, Jones"), "CT Thorax");
    assert_eq!(meaning("SCT", "Head of Doe"), "Head", "a word of the patient's name");
}
