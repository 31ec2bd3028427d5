//! The header parse: what the reader costs by itself, in front of a sink that only counts; and
//! de-identification, which writes the header anew.

use std::sync::Arc;

use collimator::dicom::{
    DicomError,
    deidentify::{BurntIn, Deidentifier, Options, Profile, PseudonymKey},
    reader::{ElementHeader, FileMeta, Reader, Sink},
};

use crate::{Bench, files, step};

/// Bytes that come from the network at once, about.
const PIECE: usize = 64 << 10;

/// Counts elements.
#[derive(Default)]
struct Count(usize);

impl Sink for Count {
    fn data_set_start(&mut self, _: &FileMeta) -> Result<(), DicomError> {
        Ok(())
    }
    fn element(&mut self, _: &ElementHeader, _: &[u8]) -> Result<(), DicomError> {
        self.0 += 1;
        Ok(())
    }
    fn bulk_start(&mut self, _: &ElementHeader) -> Result<(), DicomError> {
        self.0 += 1;
        Ok(())
    }
    fn bulk_chunk(&mut self, _: &[u8]) -> Result<(), DicomError> {
        Ok(())
    }
    fn bulk_end(&mut self) -> Result<(), DicomError> {
        Ok(())
    }
    fn sequence_start(&mut self, _: &ElementHeader) -> Result<(), DicomError> {
        self.0 += 1;
        Ok(())
    }
    fn item_start(&mut self) -> Result<(), DicomError> {
        Ok(())
    }
    fn item_end(&mut self) -> Result<(), DicomError> {
        Ok(())
    }
    fn sequence_end(&mut self) -> Result<(), DicomError> {
        Ok(())
    }
    fn fragments_start(&mut self, _: &ElementHeader) -> Result<(), DicomError> {
        self.0 += 1;
        Ok(())
    }
    fn fragment_start(&mut self, _: u64, _: u32) -> Result<(), DicomError> {
        Ok(())
    }
    fn fragment_end(&mut self) -> Result<(), DicomError> {
        Ok(())
    }
    fn fragments_end(&mut self) -> Result<(), DicomError> {
        Ok(())
    }
}

pub fn benches(bench: &mut Bench) {
    let (limits, threshold) = (files::limits(), files::bulk_threshold());
    let mut group = bench.benchmark_group("header");
    for (name, file, elements) in [
        ("CT of 512 x 512", files::ct(0), 60..100),
        ("CT of 64 x 64", files::small(0), 60..100),
        ("CT, implicit VR", files::implicit(), 60..100),
        ("CT, deflated", files::deflated(), 60..100),
        ("enhanced, 200 frames", files::enhanced(), 2_000..4_000),
        ("encapsulated, 200 frames", files::encapsulated(200, 1, true), 60..100),
    ] {
        step(&mut group, name, crate::bytes(file.len()), || {
            let mut reader = Reader::new(Count::default(), limits, threshold);
            for piece in file.chunks(PIECE) {
                reader.push(piece).expect(name);
            }
            let Count(count) = reader.finish().expect(name);
            assert!(elements.contains(&count), "{name}: {count} elements");
        });
    }
    group.finish();
    let options = Options { burnt_in: BurntIn::Allow, ..Options::default() };
    let profile = Arc::new(Profile::new(options, &PseudonymKey::new([7; 32])));
    let mut group = bench.benchmark_group("deidentify");
    for (name, file, syntax) in [
        ("CT of 512 x 512", files::ct(0), "1.2.840.10008.1.2.1"),
        ("CT of 64 x 64", files::small(0), "1.2.840.10008.1.2.1"),
        ("CT, implicit VR", files::implicit(), "1.2.840.10008.1.2"),
        ("enhanced, 200 frames", files::enhanced(), "1.2.840.10008.1.2.1"),
    ] {
        let syntax = syntax.parse().expect(name);
        step(&mut group, name, crate::bytes(file.len()), || {
            let mut it = Deidentifier::new(profile.clone(), &syntax, limits);
            let mut length = 0;
            for piece in file.chunks(PIECE) {
                it.push(piece).expect(name);
                length += std::iter::from_fn(|| it.take()).map(|bytes| bytes.len()).sum::<usize>();
            }
            let (_, rest) = it.finish().expect(name);
            length + rest.iter().map(|bytes| bytes.len()).sum::<usize>()
        });
    }
    group.finish();
}
