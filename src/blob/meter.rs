//! Counts and times of what is asked of the store.

use std::time::Instant;

use super::BlobError;
use crate::telemetry::names::{BLOB_BYTES, BLOB_OPERATIONS, BLOB_SECONDS, OPERATION, OUTCOME};

/// Does the work and records how it went. A blob that is missing or too short is the asker's
/// mistake: the store did answer.
pub(super) async fn measured<T>(
    operation: &'static str,
    work: impl Future<Output = Result<T, BlobError>>,
) -> Result<T, BlobError> {
    let begun = Instant::now();
    let result = work.await;
    let ok = matches!(result, Ok(_) | Err(BlobError::Missing { .. } | BlobError::Short { .. }));
    let outcome = if ok { "ok" } else { "error" };
    metrics::counter!(BLOB_OPERATIONS, OPERATION => operation, OUTCOME => outcome).increment(1);
    metrics::histogram!(BLOB_SECONDS, OPERATION => operation).record(begun.elapsed());
    result
}

/// Records bytes that went up (`put`) or came down (`get`).
pub(super) fn moved(operation: &'static str, bytes: u64) {
    metrics::counter!(BLOB_BYTES, OPERATION => operation).increment(bytes);
}
