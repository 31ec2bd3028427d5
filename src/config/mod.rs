//! Configuration: the typed sections that the other rooms take.
//!
//! Owns the shape of `[blob]`. Absent: reading files and the environment, which is the start's
//! business.

use std::path::PathBuf;

/// `blob.kind`: where blobs lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BlobKind {
    /// A folder of this machine, or a mount.
    #[default]
    Local,
    /// Amazon S3 or a server that speaks its protocol.
    S3,
    /// Azure Blob Storage.
    Azure,
    /// Google Cloud Storage.
    Gcs,
}

/// `[blob]`: the store that holds the bytes. Empty text means "not given".
#[derive(Clone, Default)]
pub struct BlobConfig {
    /// `blob.kind`.
    pub kind: BlobKind,
    /// `blob.dir`, for `local`; empty: `<data.dir>/blobs`.
    pub dir: PathBuf,
    /// `blob.bucket`: the bucket, or Azure's container.
    pub bucket: String,
    /// `blob.prefix`: put before every key.
    pub prefix: String,
    /// `blob.endpoint`: the service's URL, where it is not the provider's own.
    pub endpoint: String,
    /// `blob.region`, for `s3`.
    pub region: String,
    /// `blob.access_key_id`, for `s3`; empty: what the machine offers (environment, instance).
    pub access_key_id: String,
    /// `blob.secret_access_key`, for `s3`.
    pub secret_access_key: String,
    /// `blob.account`, for `azure`.
    pub account: String,
    /// `blob.account_key`, for `azure`; empty: what the machine offers.
    pub account_key: String,
    /// `blob.service_account_key`, for `gcs`: the JSON text; empty: what the machine offers.
    pub service_account_key: String,
    /// `blob.allow_http`: whether `endpoint` may be plain HTTP.
    pub allow_http: bool,
}
