//! Data sets that come as JSON and XML: metadata of Store, workitems; identifiers of C-FIND; and the
//! directories that are made of what was stored.

use std::sync::LazyLock;

use collimator::dicom::{
    DicomError, Limits, Tag, Uid,
    compose::{Composition, Piece, bulk_header, read_json, read_xml},
    data_set::DataSet,
    directory::{Directory, SetFile, keys_of},
    identifier,
    model::Malformed,
    sent, ups, xml,
};
use proptest::{prelude::*, sample::Index, test_runner::RngSeed};
use serde_json::{Map, Value, json};

use crate::{FILES, bends, headers::indexed, most_held};

const DEPTH: u16 = 16;
const EXPLICIT: &str = "1.2.840.10008.1.2.1";
const IMPLICIT: &str = "1.2.840.10008.1.2";
const LIMITS: Limits =
    Limits { element_depth: 16, header_bytes: 1 << 20, inflated_bytes: 8 << 20, frames: 10_000 };

/// Metadata of what was made and of files, as JSON and as XML.
static SEEDS: LazyLock<Vec<(Vec<u8>, Vec<u8>)>> = LazyLock::new(|| {
    let found = FILES.iter().filter_map(|(_, file)| Some(indexed(file, usize::MAX).ok()?.metadata));
    let both = found.filter(|json| json.len() < 64 << 10).map(|json| {
        let mut document = Vec::new();
        xml::write(&mut document, &json, xml::Encoding::Utf8).unwrap();
        (json, document)
    });
    both.collect()
});

/// A workitem, as it is created.
static WORKITEM: LazyLock<Value> = LazyLock::new(|| {
    let code = json!({"vr": "SQ", "Value": [{
        "00080100": {"vr": "SH", "Value": ["T-1"]},
        "00080102": {"vr": "SH", "Value": ["99X"]},
        "00080104": {"vr": "LO", "Value": ["a station"]},
    }]});
    json!({
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe^Jane", "Ideographic": "山田"}]},
        "00100020": {"vr": "LO", "Value": ["P1"]},
        "0020000D": {"vr": "UI", "Value": ["1.2.3"]},
        "00404005": {"vr": "DT", "Value": ["20260101120000"]},
        "00404018": code,
        "00404025": code,
        "00404041": {"vr": "CS", "Value": ["READY"]},
        "00741000": {"vr": "CS", "Value": ["SCHEDULED"]},
        "00741200": {"vr": "CS", "Value": ["HIGH"]},
        "00741202": {"vr": "LO", "Value": ["list"]},
        "00741204": {"vr": "LO", "Value": ["a step"]},
    })
});

/// What memory a text may become while it is read, as the server bounds it.
fn room(length: usize) -> u64 {
    16 * length as u64 + (64 << 10)
}

fn uid(text: &str) -> Uid {
    text.parse().unwrap()
}

/// What was composed is nothing, or a file that the reader reads.
fn check(composition: &Composition) {
    if composition.flaw().is_some() {
        return;
    }
    let _ = composition.data_set(true);
    let Ok(pieces) = composition.pieces(&uid(EXPLICIT)) else { return };
    let mut file = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Bytes(bytes) => file.extend_from_slice(&bytes),
            Piece::Place(place) => file.extend_from_slice(&bulk_header(place.tag, place.vr, 0)),
        }
    }
    match indexed(&file, usize::MAX) {
        Ok(_)
        | Err(
            DicomError::Missing { .. } | DicomError::InvalidUid { .. } | DicomError::Limit { .. },
        ) => {}
        Err(error) => panic!("what was written cannot be read: {error}"),
    }
}

fn check_all(text: &[u8], read: impl Fn(&[u8], u64) -> Result<Vec<Composition>, Malformed>) {
    let room = room(text.len());
    let held = most_held(|| {
        if let Ok(all) = read(text, room) {
            all.iter().for_each(check);
        }
    });
    // And what is written of it to be read.
    assert!(held as u64 <= 2 * room + (8 << 20), "{held} bytes for {}", text.len());
}

/// Takes a workitem through its life, as far as it is one.
fn live(sent: Map<String, Value>) {
    let instance = uid("1.2.3.4");
    let Ok(made) = ups::create(sent.clone(), &instance, "list", "20260101120000") else {
        let mut known = Map::new();
        if let Value::Object(own) = &*WORKITEM {
            known = own.clone();
        }
        let _ = ups::update(known, sent, "20260101120000");
        return;
    };
    let _ = ups::Keys::of(&made.attributes);
    let kept = ups::written(made.attributes.clone(), ups::State::Scheduled);
    let read = ups::read(&kept).expect("what is kept can be read");
    ups::update(read, Map::new(), "20260101120001").expect("nothing is changed");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, rng_seed: RngSeed::Fixed(7), ..ProptestConfig::default() })]

    #[test]
    fn metadata_that_was_bent_is_composed_or_refused(
        seed in any::<Index>(),
        bends in bends(),
        is_xml in any::<bool>(),
    ) {
        let (json, document) = &SEEDS[seed.index(SEEDS.len())];
        if is_xml {
            let bent = bends.bend(document, 0);
            check_all(&bent, |text, room| read_xml(text, DEPTH, room).map(|one| vec![one]));
        } else {
            let bent = bends.bend(json, 0);
            check_all(&bent, |text, room| read_json(text, DEPTH, room));
        }
    }

    #[test]
    fn workitems_that_were_bent_are_kept_whole_or_refused(
        seed in prop::option::weighted(0.3, any::<Index>()),
        bends in bends(),
        is_xml in any::<bool>(),
    ) {
        let (json, document) = match seed {
            Some(at) => SEEDS[at.index(SEEDS.len())].clone(),
            None => {
                let json = WORKITEM.to_string().into_bytes();
                let mut document = Vec::new();
                xml::write(&mut document, &json, xml::Encoding::Utf8).unwrap();
                (json, document)
            }
        };
        let bent = bends.bend(if is_xml { &document } else { &json }, 0);
        let held = most_held(|| {
            let read = if is_xml { sent::native(&bent) } else { sent::json(&bent) };
            if let Ok(sent) = read {
                live(sent);
            }
        });
        prop_assert!(held < 64 * bent.len() + (1 << 20), "{} bytes for {}", held, bent.len());
    }

    #[test]
    fn identifiers_that_were_bent_are_read_or_refused(
        seed in any::<Index>(),
        bends in bends(),
        implicit in any::<bool>(),
    ) {
        let (json, _) = &SEEDS[seed.index(SEEDS.len())];
        let composed = read_json(json, DEPTH, u64::MAX).unwrap().remove(0);
        let bent = bends.bend(&composed.data_set(implicit), 0);
        let syntax = uid(if implicit { IMPLICIT } else { EXPLICIT });
        let held = most_held(|| drop(identifier::read(&bent, &syntax, LIMITS)));
        prop_assert!(held < 64 * bent.len() + (1 << 20), "{} bytes for {}", held, bent.len());
    }

    #[test]
    fn directories_of_what_was_bent_can_be_read(
        files in prop::collection::vec((any::<Index>(), bends()), 1..6),
    ) {
        let mut directory = Directory::default();
        for (number, (file, bends)) in files.iter().enumerate() {
            let (_, bytes) = &FILES[file.index(FILES.len())];
            let Ok(found) = indexed(&bends.bend(bytes, 128), usize::MAX) else { continue };
            let data_set = DataSet::parse(&found.metadata).unwrap();
            let keys = keys_of(&data_set, &found.sop_class);
            let _ = directory.add(&SetFile {
                id: &format!("DICOM\\FILE{number}"),
                sop_class: &found.sop_class,
                instance: &found.instance,
                transfer_syntax: &found.transfer_syntax,
                keys: &keys,
            });
        }
        let written = directory.write(uid("1.2.3.4"));
        // It has no study of its own; everything before that question was read.
        match indexed(&written, 1000) {
            Err(DicomError::Missing { tag }) => prop_assert_eq!(tag, Tag(0x0008, 0x0016)),
            other => prop_assert!(false, "{:?}", other.err()),
        }
    }
}

#[test]
fn seeds_are_read_as_they_are() {
    assert!(SEEDS.len() > 30);
    for (json, document) in SEEDS.iter() {
        let one = read_json(json, DEPTH, u64::MAX).unwrap().remove(0);
        let other = read_xml(document, DEPTH, u64::MAX).unwrap();
        assert_eq!(one.flaw().is_some(), other.flaw().is_some());
        assert_eq!(one.sop(), other.sop());
    }
    let sent = sent::json(WORKITEM.to_string().as_bytes()).unwrap();
    assert!(ups::create(sent, &uid("1.2.3.4"), "list", "20260101120000").is_ok());
}
