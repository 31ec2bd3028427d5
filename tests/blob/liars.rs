//! Stores that only pretend, and must be refused at start.

use collimator::blob::{BlobError, BlobStore};

use crate::{
    servers,
    shim::{self, Manner},
};

async fn refusal(manner: Manner) -> String {
    let (upstream, _dir) = servers::serve_s3s(None).await;
    let address = shim::start(upstream, manner).await;
    let config = servers::s3_config(address, "any", "any");
    let store = BlobStore::open(&config, "/nowhere".as_ref()).expect("the configuration is right");
    match store.probe().await {
        Err(BlobError::Unfit { reason, .. }) => reason.to_owned(),
        other => panic!("{manner:?}: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_overwrites_in_spite_of_the_condition() {
    let reason = refusal(Manner::IgnoresConditions).await;
    assert!(reason.starts_with("it pretends to honour conditional puts"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_sends_the_whole_object_for_a_range() {
    let reason = refusal(Manner::IgnoresRanges).await;
    assert!(reason.starts_with("it does not answer a range read"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_sends_another_range_than_it_says() {
    let reason = refusal(Manner::ShiftsRanges).await;
    assert!(reason.starts_with("it does not answer a range read"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_whose_clock_is_far_off() {
    let reason = refusal(Manner::LivesInThePast).await;
    assert!(reason.starts_with("it dates a new object"), "{reason}");
}
