//! DICOM JSON: made when an instance is stored, and put together when a study is asked for.

use collimator::dicom::{
    index::{Indexed, Indexer},
    json, kept,
    reader::Reader,
};

use crate::{Bench, files, step};

/// Instances of the study that is asked for.
const STUDY: u32 = 500;
/// Bytes that are sent at once, as the retrieval sends them.
const CHUNK: usize = 64 * 1024;

/// What Store keeps of a file.
fn indexed(file: &[u8]) -> Indexed {
    let limits = files::limits();
    let mut reader = Reader::new(Indexer::new(limits), limits, files::bulk_threshold());
    reader.push(file).expect("the file is DICOM");
    reader.finish().and_then(Indexer::finish).expect("the file is an instance")
}

pub fn benches(bench: &mut Bench) {
    let (limits, threshold) = (files::limits(), files::bulk_threshold());
    let mut group = bench.benchmark_group("json");
    for (name, file) in [
        ("made of a CT", files::small(0)),
        ("made of a CT, implicit VR", files::implicit()),
        ("made of an enhanced one", files::enhanced()),
    ] {
        step(&mut group, name, crate::bytes(file.len()), || {
            let mut reader = Reader::new(Indexer::new(limits), limits, threshold);
            reader.push(&file).expect(name);
            reader.finish().and_then(Indexer::finish).expect(name)
        });
    }
    for (name, file) in
        [("kept, of a CT", files::small(0)), ("kept, of an enhanced one", files::enhanced())]
    {
        let made = indexed(&file).metadata;
        step(&mut group, name, crate::bytes(made.len()), || kept::compress(&made).expect(name));
    }
    let frames: Vec<Vec<u8>> = files::series(STUDY)
        .iter()
        .map(|file| kept::compress(&indexed(file).metadata).expect("memory takes all"))
        .collect();
    let length: usize = study(&frames).iter().map(Vec::len).sum();
    step(&mut group, "of a study of 500", crate::bytes(length), || study(&frames));
    group.finish();
}

/// The chunks of one array of the metadata of all, as `archive::metadata` makes them.
fn study(frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let base = "http://127.0.0.1:8080/partitions/clinic1/studies/2.25.1/series/2.25.2/instances";
    let mut chunks = Vec::new();
    let mut out = Vec::with_capacity(CHUNK + CHUNK / 4);
    for (number, frame) in frames.iter().enumerate() {
        out.push(if number == 0 { b'[' } else { b',' });
        let made = kept::decompress(frame).expect("it was compressed by us");
        json::resolve_bulk(&mut out, &made, &format!("{base}/2.25.{number}/bulkdata"), "");
        if out.len() >= CHUNK {
            chunks.push(std::mem::replace(&mut out, Vec::with_capacity(CHUNK + CHUNK / 4)));
        }
    }
    out.push(b']');
    chunks.push(out);
    chunks
}
