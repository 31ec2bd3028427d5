//! The multipart reader, of what a network delivers, and the multipart writer.

use axum::{
    BoxError,
    body::Body,
    http::{HeaderMap, HeaderValue, header},
};
use bytes::Bytes;
use collimator::{
    config::LimitsConfig,
    http::multipart::{Boundary, OutPart, PartReader, PartStream, Related},
};
use futures::stream;
use http_body_util::BodyExt;
use tokio::runtime::Runtime;

use crate::{Bench, files, step};

const DICOM: &str = "application/dicom";
/// Slices of the study that is stored and retrieved.
const SLICES: usize = 100;
/// Bytes that come from the network at once, about.
const PIECE: usize = 64 << 10;
/// Bytes that come from a blob at once.
const CHUNK: usize = 256 << 10;

fn head(part: &mut Vec<u8>) {
    part.extend_from_slice(b"--boundary-of-a-bench\r\nContent-Type: application/dicom\r\n\r\n");
}

/// The body of parts, in pieces.
fn pieces(parts: &[Bytes], size: usize) -> Vec<Bytes> {
    let mut body = Vec::new();
    for part in parts {
        head(&mut body);
        body.extend_from_slice(part);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--boundary-of-a-bench--\r\n");
    let mut rest = Bytes::from(body);
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        pieces.push(rest.split_to(size.min(rest.len())));
    }
    pieces
}

/// Reads all parts; answers how many they were, and their bytes.
async fn read(limits: &LimitsConfig, pieces: Vec<Bytes>) -> (usize, usize) {
    let value = "multipart/related; type=\"application/dicom\"; boundary=boundary-of-a-bench";
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(value))]);
    let body = Body::from_stream(stream::iter(pieces.into_iter().map(Ok::<_, BoxError>)));
    let mut reader = PartReader::open(&headers, body, limits, &[DICOM]).expect("it is supported");
    let (mut parts, mut bytes) = (0, 0);
    while let Some(mut part) = reader.next_part().await.expect("the body is whole") {
        parts += 1;
        while let Some(chunk) = part.chunk().await.expect("the body is whole") {
            bytes += chunk.len();
        }
    }
    (parts, bytes)
}

/// The parts as one answer; its bytes.
async fn write(parts: &[Bytes], known: bool) -> usize {
    let boundary = Boundary::of(&[b"bench"]);
    let related = Related::new(DICOM, boundary);
    let out = parts.iter().map(|part| {
        let mut rest = part.clone();
        let chunks = std::iter::from_fn(move || {
            (!rest.is_empty()).then(|| Ok(rest.split_to(CHUNK.min(rest.len()))))
        });
        let body: PartStream = Box::pin(stream::iter(chunks));
        OutPart::new(DICOM, body).with_length(part.len() as u64)
    });
    let response = if known {
        related.known(out.collect(), &HeaderMap::new(), None).expect("no range is asked for")
    } else {
        related.streamed(stream::iter(out.map(Ok).collect::<Vec<_>>()))
    };
    let (mut body, mut bytes) = (response.into_body(), 0);
    while let Some(frame) = body.frame().await {
        bytes += frame.expect("the parts are whole").into_data().map_or(0, |data| data.len());
    }
    bytes
}

pub fn benches(bench: &mut Bench) {
    let limits = files::config().limits;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime: Runtime = runtime.expect("a runtime");
    let mut group = bench.benchmark_group("multipart");
    let slice = Bytes::from(files::ct(0));
    let study = vec![slice; SLICES];
    let tiny = vec![Bytes::from_static(&[7; 100]); 5_000];
    for (name, parts, size) in [
        ("read 100 CT", &study, PIECE),
        ("read 100 CT in pieces of 1 KiB", &study, 1 << 10),
        ("read 5000 parts of 100 bytes", &tiny, PIECE),
        ("read 5000 parts of 100 bytes in pieces of 50", &tiny, 50),
    ] {
        let pieces = pieces(parts, size);
        let bytes: usize = parts.iter().map(Bytes::len).sum();
        step(&mut group, name, crate::bytes(bytes), || {
            assert_eq!(runtime.block_on(read(&limits, pieces.clone())), (parts.len(), bytes));
        });
    }
    for (name, parts, known) in [
        ("write 100 CT", &study, true),
        ("write 100 CT, found while sent", &study, false),
        ("write 5000 parts of 100 bytes", &tiny, true),
    ] {
        let bytes: usize = parts.iter().map(Bytes::len).sum();
        step(&mut group, name, crate::bytes(bytes), || {
            assert!(runtime.block_on(write(parts, known)) > bytes)
        });
    }
    group.finish();
}
