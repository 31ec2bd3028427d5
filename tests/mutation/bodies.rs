//! The multipart reader.

use std::convert::Infallible;

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderValue, header},
};
use collimator::{config::LimitsConfig, http::multipart::PartReader};
use proptest::{prelude::*, sample::Index, test_runner::RngSeed};

use crate::{Bends, FILES, bends, corpus, most_held};

fn limits() -> LimitsConfig {
    LimitsConfig {
        instance_bytes: 1 << 20,
        request_bytes: 4 << 20,
        parts: 100,
        ..LimitsConfig::default()
    }
}

/// Reads a body to its end or first error; the bytes of its parts.
async fn read(content_type: &[u8], chunks: Vec<Result<Bytes, Infallible>>) -> u64 {
    let mut headers = HeaderMap::new();
    let Ok(value) = HeaderValue::from_bytes(content_type) else { return 0 };
    headers.insert(header::CONTENT_TYPE, value);
    let body = Body::from_stream(futures::stream::iter(chunks));
    let Ok(mut reader) = PartReader::open(&headers, body, &limits(), &["application/dicom"]) else {
        return 0;
    };
    let (mut total, mut parts) = (0, 0);
    while let Ok(Some(mut part)) = reader.next_part().await {
        parts += 1;
        while let Ok(Some(chunk)) = part.chunk().await {
            assert!(!chunk.is_empty());
            total += chunk.len() as u64;
        }
    }
    assert!(parts <= 100);
    total
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, rng_seed: RngSeed::Fixed(7), ..ProptestConfig::default() })]

    #[test]
    fn bodies_that_were_bent_are_read_or_refused(
        files in prop::collection::vec(any::<Index>(), 1..4),
        in_body in bends(),
        in_type in prop::option::weighted(0.2, bends()),
        pieces in 1..5000_usize,
    ) {
        let files: Vec<_> = files.iter().map(|at| FILES[at.index(FILES.len())].1.clone()).collect();
        let body = in_body.bend(&corpus::multipart(&files), 0);
        let kind = b"multipart/related; type=\"application/dicom\"; boundary=frontier".to_vec();
        let kind = in_type.map_or(kind.clone(), |bends: Bends| bends.bend(&kind, 0));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let chunks = body.chunks(pieces).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        let mut given = 0;
        // Besides the chunks, which are the test's own.
        let held = most_held(|| given = runtime.block_on(read(&kind, chunks)));
        prop_assert!(given <= body.len() as u64);
        prop_assert!(held < 4 * body.len() + (1 << 20), "{} bytes for {}", held, body.len());
    }
}
