//! The de-identifier.

use std::sync::Arc;

use collimator::dicom::{
    Limits, Uid,
    deidentify::{Deidentifier, DeidentifyError, Options, Profile, PseudonymKey},
};
use proptest::{prelude::*, sample::Index, test_runner::RngSeed};

use crate::{FILES, bends, headers::indexed, most_held};

const LIMITS: Limits =
    Limits { element_depth: 16, header_bytes: 1 << 20, inflated_bytes: 8 << 20, frames: 10_000 };

/// The header twice, what comes of it, and the states of an inflater and two readers.
const ENOUGH: usize = 16 << 20;

/// What comes of a file, as long as it is; nothing is kept, as if it were sent.
fn deidentified(syntax: &Uid, bytes: &[u8], pieces: usize) -> Result<Vec<u8>, DeidentifyError> {
    let profile = Profile::new(Options::default(), &PseudonymKey::new([7; 32]));
    let mut it = Deidentifier::new(Arc::new(profile), syntax, LIMITS);
    let mut out = Vec::new();
    for piece in bytes.chunks(pieces.max(1)) {
        it.push(piece)?;
        std::iter::from_fn(|| it.take()).for_each(|bytes| out.extend_from_slice(&bytes));
    }
    it.finish()?.1.iter().for_each(|bytes| out.extend_from_slice(bytes));
    Ok(out)
}

fn syntax_of(bytes: &[u8]) -> Uid {
    let found = indexed(bytes, usize::MAX).map(|found| found.transfer_syntax);
    found.unwrap_or_else(|_| "1.2.840.10008.1.2.1".parse().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, rng_seed: RngSeed::Fixed(7), ..ProptestConfig::default() })]

    #[test]
    fn files_that_were_bent_are_de_identified_or_refused(
        file in any::<Index>(),
        bends in bends(),
        pieces in 1..700_usize,
    ) {
        let (_, bytes) = &FILES[file.index(FILES.len())];
        let syntax = syntax_of(bytes);
        let bent = bends.bend(bytes, 128);
        let held = most_held(|| {
            let whole = deidentified(&syntax, &bent, usize::MAX);
            let in_pieces = deidentified(&syntax, &bent, pieces);
            assert_eq!(whole.is_ok(), in_pieces.is_ok());
            assert!(whole.ok() == in_pieces.ok());
        });
        assert!(held < ENOUGH + 4 * bent.len(), "{held} bytes for a file of {}", bent.len());
    }
}

#[test]
fn nothing_of_the_identity_of_a_seed_is_left() {
    let mut given = 0;
    for (name, bytes) in FILES.iter() {
        let Ok(found) = indexed(bytes, usize::MAX) else { continue };
        let Ok(out) = deidentified(&found.transfer_syntax, bytes, 4096) else { continue };
        let again = indexed(&out, usize::MAX).expect("it can be stored");
        given += 1;
        let uids = [&found.study, &found.series, &found.instance];
        let keys = ["patient_id", "patient_name", "accession_number", "study_id"];
        let mut telling: Vec<&str> = uids.iter().map(|uid| uid.as_str()).collect();
        telling.extend(keys.iter().filter_map(|key| found.keys.get(key)));
        let metadata = String::from_utf8_lossy(&again.metadata).to_lowercase();
        for text in telling.into_iter().filter(|text| text.len() > 4) {
            assert!(!metadata.contains(&text.to_lowercase()), "{name}: {text}");
        }
        assert_eq!(again.sop_class, found.sop_class, "{name}");
        let pixels = |found: &collimator::dicom::index::Indexed| {
            found.frames.as_ref().map(|frames| frames.len())
        };
        assert_eq!(pixels(&again), pixels(&found), "{name}");
    }
    assert!(given * 10 >= FILES.len() * 2, "{given} of {} seeds were given", FILES.len());
}
