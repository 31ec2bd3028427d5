//! The blob stores, each through the same suite.
//!
//! The folder, S3 (`s3s-fs` in this process) and Google Cloud Storage (its client through a small
//! shim, because no faithful server is to be had: OAuth, real generations and the JSON API are not
//! exercised) need nothing. SeaweedFS and Azurite are separate programs, named by
//! `COLLIMATOR_TEST_SEAWEEDFS` (the `weed` binary) and `COLLIMATOR_TEST_AZURITE` (`azurite-blob`);
//! without the variable the test says that it ran without that server, with it the server must
//! work.

mod liars;
mod lost;
mod servers;
mod shim;
mod suite;

use servers::Subject;

#[tokio::test(flavor = "multi_thread")]
async fn a_local_folder() {
    suite::run(&servers::folder()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_in_process() {
    suite::run(&servers::s3s().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gcs_through_the_shim() {
    suite::run(&servers::gcs().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn seaweedfs() {
    with_program("COLLIMATOR_TEST_SEAWEEDFS", servers::seaweedfs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn azurite() {
    with_program("COLLIMATOR_TEST_AZURITE", servers::azurite).await;
}

async fn with_program(variable: &str, start: impl AsyncFnOnce(&str) -> Subject) {
    match std::env::var(variable) {
        Ok(program) => suite::run(&start(&program).await).await,
        Err(_) => {
            use std::io::Write;
            // Past the capture of test output: whoever reads the log must know what did not run.
            let said = writeln!(std::io::stderr(), "\nNOT RUN: {variable} is not set\n");
            said.expect("standard error takes a line");
        }
    }
}
