//! The header parser, the indexer with its frame tables, and the re-encoder.

use collimator::dicom::{
    DicomError, Limits,
    data_set::DataSet,
    explicit::Explicit,
    index::{Indexed, Indexer},
    reader::Reader,
};
use proptest::{prelude::*, sample::Index, test_runner::RngSeed};

use crate::{Bends, FILES, bends, most_held};

/// Small, so that what is not bounded shows.
const LIMITS: Limits =
    Limits { element_depth: 16, header_bytes: 1 << 20, inflated_bytes: 8 << 20, frames: 10_000 };
const THRESHOLD: u32 = 4096;

/// What reading may hold: the header several times over (as read, as JSON, as keys), the frame
/// table, and the state of an inflater.
const ENOUGH: usize = 32 << 20;

/// What Store would index of a file.
pub fn indexed(bytes: &[u8], pieces: usize) -> Result<Indexed, DicomError> {
    let mut reader = Reader::new(Indexer::new(LIMITS), LIMITS, THRESHOLD);
    for piece in bytes.chunks(pieces.max(1)) {
        reader.push(piece)?;
    }
    reader.finish()?.finish()
}

fn re_encoded(bytes: &[u8]) -> Result<u64, DicomError> {
    let mut reader = Reader::new(Explicit::new(None), LIMITS, THRESHOLD);
    let mut length = 0;
    for piece in bytes.chunks(4096) {
        let mut piece = piece;
        while reader.push_some(&mut piece)? {
            length += std::iter::from_fn(|| reader.sink_mut().take())
                .map(|b| b.len() as u64)
                .sum::<u64>();
        }
        length +=
            std::iter::from_fn(|| reader.sink_mut().take()).map(|b| b.len() as u64).sum::<u64>();
    }
    let rest = reader.finish()?.finish();
    Ok(length + rest.into_iter().map(|bytes| bytes.len() as u64).sum::<u64>())
}

/// What must hold of whatever was accepted.
fn check(found: &Indexed, length: u64) {
    DataSet::parse(&found.metadata).expect("the metadata is DICOM JSON");
    let deflated = found.transfer_syntax.as_str() == "1.2.840.10008.1.2.1.99";
    let end = if deflated { LIMITS.inflated_bytes } else { length };
    for entry in &found.bulk {
        assert!(entry.offset.checked_add(entry.length).is_some_and(|last| last <= end));
    }
    if let Some(table) = &found.frames {
        assert!(!table.is_empty() && u64::from(table.len()) <= LIMITS.frames);
        for frame in [0, table.len() / 2, table.len() - 1] {
            for (offset, count) in table.ranges(frame).expect("a frame of the table") {
                assert!(offset.checked_add(count).is_some_and(|last| last <= end));
            }
        }
        assert!(table.ranges(table.len()).is_none());
    }
}

fn try_one(file: &Index, bends: &Bends, pieces: usize) {
    let (_, bytes) = &FILES[file.index(FILES.len())];
    // The preamble means nothing.
    let bent = bends.bend(bytes, 128);
    let held = most_held(|| {
        let whole = indexed(&bent, usize::MAX);
        if let Ok(found) = &whole {
            check(found, bent.len() as u64);
        }
        // How the bytes arrive must not matter.
        let in_pieces = indexed(&bent, pieces);
        assert_eq!(whole.is_ok(), in_pieces.is_ok());
        if let (Ok(whole), Ok(in_pieces)) = (&whole, &in_pieces) {
            assert_eq!(whole.metadata, in_pieces.metadata);
            assert_eq!(whole.frames, in_pieces.frames);
        }
    });
    assert!(held < ENOUGH, "{held} bytes were held for a file of {}", bent.len());
    let held = most_held(|| {
        let _ = re_encoded(&bent);
    });
    assert!(held < ENOUGH, "{held} bytes were held to re-encode a file of {}", bent.len());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, rng_seed: RngSeed::Fixed(7), ..ProptestConfig::default() })]

    #[test]
    fn files_that_were_bent_are_read_or_refused(
        file in any::<Index>(),
        bends in bends(),
        pieces in 1..700_usize,
    ) {
        try_one(&file, &bends, pieces);
    }
}

#[test]
fn seeds_are_read_as_they_are() {
    let read = FILES.iter().filter(|(_, bytes)| indexed(bytes, usize::MAX).is_ok()).count();
    assert!(read * 10 >= FILES.len() * 7, "{read} of {} seeds can be read", FILES.len());
}
