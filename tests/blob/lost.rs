//! Answers of a store that are lost after it did what it was told.

use bytes::Bytes;
use collimator::blob::BlobStore;
use uuid::Uuid;

use crate::{
    servers,
    shim::{self, Manner},
};

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_whose_end_was_answered_with_an_error_is_whole() {
    let (upstream, _dir) = servers::serve_s3s(None).await;
    let address = shim::start(upstream, Manner::LosesTheEnd).await;
    let config = servers::s3_config(address, "any", "any");
    let store = BlobStore::open(&config, "/nowhere".as_ref()).expect("the configuration is right");
    let (blobs, id) = (store.within(&"clinic1".parse().expect("an id")), Uuid::new_v4());
    let pieces: Vec<Bytes> = (0..5).map(|n| Bytes::from(vec![n; 4 << 20])).collect();
    let mut upload = blobs.upload(id).await.expect("an upload");
    for piece in &pieces {
        upload.push(piece.clone()).await.expect("a store that takes bytes");
    }
    upload.finish().await.expect("what the store has is whole");
    let read = blobs.read_all(id, 0..20 << 20).await.expect("the blob");
    assert!(read == pieces.concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_the_store_forgot_may_be_tried_again() {
    let (upstream, dir) = servers::serve_s3s(None).await;
    let address = shim::start(upstream, Manner::LosesTheEnd).await;
    let config = servers::s3_config(address, "any", "any");
    let store = BlobStore::open(&config, "/nowhere".as_ref()).expect("the configuration is right");
    let blobs = store.within(&"clinic1".parse().expect("an id"));
    let mut upload = blobs.upload(Uuid::new_v4()).await.expect("an upload");
    upload.push(Bytes::from(vec![1; 20 << 20])).await.expect("a store that takes bytes");
    for entry in std::fs::read_dir(dir.path()).expect("a folder").flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().starts_with(".upload") {
            std::fs::remove_file(entry.path()).expect("an upload under way");
        }
    }
    let error = upload.finish().await.expect_err("the store has nothing of it");
    assert!(error.is_unavailable(), "{error:?}");
}
