//! From `[blob]` to a store: the only code that knows one provider from another.
//!
//! Owns the choice and its options. Credentials that are not configured are taken from where the
//! provider's own tools look (environment, instance, workload identity). Absent: any request; see
//! `probe` for whether the store answers.

use std::{path::Path, sync::Arc, time::Duration};

use super::{BlobError, folder::Folder, home::Home, unfinished::Unfinished};
use crate::config::{BlobConfig, BlobKind, Secret};
use object_store::{
    BackoffConfig, ClientOptions, ObjectStore, RetryConfig, aws::AmazonS3Builder,
    azure::MicrosoftAzureBuilder, gcp::GoogleCloudStorageBuilder, local::LocalFileSystem,
};

/// Time to reach the store.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest silence in an answer. There is no limit on a whole answer: a slow reader of a large
/// blob is not the store's fault.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// How long one request is repeated while the store fails.
const RETRY_FOR: Duration = Duration::from_secs(60);
/// Half a key is none.
const TOGETHER: &str = "must be set together with the other half of the access key";

/// A store, and what only its kind has.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) objects: Arc<dyn ObjectStore>,
    pub(super) folder: Option<Folder>,
    pub(super) unfinished: Option<Unfinished>,
}

/// Opens the store that the configuration names.
pub(super) fn open(config: &BlobConfig, data_dir: &Path) -> Result<Opened, BlobError> {
    match config.kind {
        BlobKind::Local => local(config, data_dir),
        BlobKind::S3 => s3(config),
        BlobKind::Azure => plain(azure(config)?),
        BlobKind::Gcs => plain(gcs(config)?),
    }
}

fn plain(objects: Arc<dyn ObjectStore>) -> Result<Opened, BlobError> {
    Ok(Opened { objects, folder: None, unfinished: None })
}

fn local(config: &BlobConfig, data_dir: &Path) -> Result<Opened, BlobError> {
    let dir = config.dir.clone().unwrap_or_else(|| data_dir.join("blobs"));
    let unusable =
        |e: &dyn std::fmt::Display| BlobError::config("blob.dir", format!("cannot be used: {e}"));
    let folder = Folder::open(&dir, config.direct).map_err(|e| unusable(&e))?;
    // Lists and removes; what must be durable is written by `Folder`. A removal is not synced:
    // one that a power cut undoes leaves an orphan.
    let files = LocalFileSystem::new_with_prefix(folder.root()).map_err(|e| unusable(&e))?;
    let objects = Arc::new(files.with_fsync(true));
    Ok(Opened { objects, folder: Some(folder), unfinished: None })
}

fn s3(config: &BlobConfig) -> Result<Opened, BlobError> {
    let endpoint = endpoint(config)?;
    let tls = endpoint.as_ref().is_none_or(|url| url.starts_with("https:"));
    let mut builder = match (&config.access_key_id, &config.secret_access_key) {
        (Some(id), Some(secret)) => AmazonS3Builder::new()
            .with_access_key_id(id.expose())
            .with_secret_access_key(secret.expose()),
        (None, None) => AmazonS3Builder::from_env(),
        (Some(_), None) => return Err(BlobError::config("blob.secret_access_key", TOGETHER)),
        (None, Some(_)) => return Err(BlobError::config("blob.access_key_id", TOGETHER)),
    };
    if let Some(url) = endpoint {
        builder = builder.with_endpoint(url);
    }
    if !config.region.is_empty() {
        builder = builder.with_region(&config.region);
    }
    let built = builder
        .with_bucket_name(bucket(config)?)
        // TLS protects the body already; hashing it once more costs a millisecond per megabyte.
        .with_unsigned_payload(tls)
        // Every S3 server knows the plain DELETE; not all know the bulk one.
        .with_disable_bulk_delete(true)
        .with_client_options(client(config))
        .with_http_connector(Home)
        .with_retry(retry())
        .build();
    let s3 = built.map_err(|e| refused("blob.kind", "s3", &e))?;
    let unfinished = Unfinished::new(s3.clone(), &client(config));
    let unfinished = unfinished.map_err(|e| refused("blob.kind", "s3", &e))?;
    Ok(Opened { objects: Arc::new(s3), folder: None, unfinished: Some(unfinished) })
}

fn azure(config: &BlobConfig) -> Result<Arc<dyn ObjectStore>, BlobError> {
    let account = required("blob.account", &config.account, "azure")?;
    let mut builder = match &config.account_key {
        None => MicrosoftAzureBuilder::from_env(),
        Some(key) => MicrosoftAzureBuilder::new().with_access_key(key.expose()),
    };
    if let Some(url) = endpoint(config)? {
        builder = builder.with_endpoint(url.to_owned());
    }
    let built = builder
        .with_account(account)
        .with_container_name(bucket(config)?)
        .with_client_options(client(config))
        .with_http_connector(Home)
        .with_allow_http(config.allow_http)
        .with_retry(retry())
        .build();
    let key = if config.account_key.is_none() { "blob.kind" } else { "blob.account_key" };
    Ok(Arc::new(built.map_err(|e| refused(key, "azure", &e))?))
}

fn gcs(config: &BlobConfig) -> Result<Arc<dyn ObjectStore>, BlobError> {
    let new = GoogleCloudStorageBuilder::new;
    let mut builder = match config.service_account_key.as_ref().map(Secret::expose) {
        None => GoogleCloudStorageBuilder::from_env(),
        Some(json) if json.trim_start().starts_with('{') => new().with_service_account_key(json),
        Some(path) => new().with_service_account_path(path),
    };
    if let Some(url) = endpoint(config)? {
        builder = builder.with_base_url(url);
    }
    let built = builder
        .with_bucket_name(bucket(config)?)
        .with_client_options(client(config))
        .with_http_connector(Home)
        .with_retry(retry())
        .build();
    let given = config.service_account_key.is_some();
    let key = if given { "blob.service_account_key" } else { "blob.kind" };
    Ok(Arc::new(built.map_err(|e| refused(key, "gcs", &e))?))
}

fn client(config: &BlobConfig) -> ClientOptions {
    ClientOptions::new()
        .with_allow_http(config.allow_http)
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_read_timeout(READ_TIMEOUT)
        .with_timeout_disabled()
}

fn retry() -> RetryConfig {
    RetryConfig { backoff: BackoffConfig::default(), max_retries: 8, retry_timeout: RETRY_FOR }
}

fn bucket(config: &BlobConfig) -> Result<&str, BlobError> {
    let kind = match config.kind {
        BlobKind::Local => "local",
        BlobKind::S3 => "s3",
        BlobKind::Azure => "azure",
        BlobKind::Gcs => "gcs",
    };
    required("blob.bucket", &config.bucket, kind)
}

fn required<'a>(key: &'static str, value: &'a str, kind: &str) -> Result<&'a str, BlobError> {
    if value.is_empty() {
        return Err(BlobError::config(key, format!("must be set when blob.kind is \"{kind}\"")));
    }
    Ok(value)
}

/// `blob.endpoint`; `None` where it is the provider's own.
fn endpoint(config: &BlobConfig) -> Result<Option<&str>, BlobError> {
    match config.endpoint.as_deref() {
        Some(url) if url.starts_with("http:") && !config.allow_http => {
            Err(BlobError::config("blob.allow_http", "must be true for an http:// blob.endpoint"))
        }
        endpoint => Ok(endpoint),
    }
}

/// What the client library refused before any request. Its texts name what is missing and do not
/// repeat keys; a key's own text is never in them (a test holds that).
fn refused(key: &'static str, kind: &str, error: &object_store::Error) -> BlobError {
    let reason = match key {
        "blob.kind" => format!("\"{kind}\" cannot be set up: {error}"),
        _ => "is not a valid key".to_owned(),
    };
    BlobError::config(key, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(kind: BlobKind, change: impl FnOnce(&mut BlobConfig)) -> BlobConfig {
        let mut config = BlobConfig {
            kind,
            bucket: "b".into(),
            region: "us-east-1".into(),
            access_key_id: Some(Secret::new("id")),
            secret_access_key: Some(Secret::new("s3cr3t")),
            account: "account".into(),
            account_key: Some(Secret::new("czNjcjN0")),
            service_account_key: Some(Secret::new(
                r#"{"private_key":"","private_key_id":"","client_email":"","disable_oauth":true}"#,
            )),
            ..BlobConfig::default()
        };
        change(&mut config);
        config
    }

    #[track_caller]
    fn refuses(kind: BlobKind, key: &str, change: impl FnOnce(&mut BlobConfig)) {
        let refused = open(&config(kind, change), Path::new("/nowhere")).unwrap_err();
        let text = refused.to_string();
        assert!(text.starts_with(key), "{text}");
        assert!(!format!("{refused:?}").contains("s3cr3t"), "{refused:?}");
    }

    #[test]
    fn what_is_wrong_is_named_by_its_key() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        use BlobKind::{Azure, Gcs, S3};
        for kind in [S3, Azure, Gcs] {
            assert!(open(&config(kind, |_| ()), Path::new("/nowhere")).is_ok(), "{kind:?}");
            refuses(kind, "blob.bucket must be set when blob.kind is", |c| c.bucket.clear());
            let plain = || Some("http://127.0.0.1:1".to_owned());
            refuses(kind, "blob.allow_http", |c| c.endpoint = plain());
        }
        refuses(S3, "blob.secret_access_key", |c| c.secret_access_key = None);
        refuses(S3, "blob.access_key_id", |c| c.access_key_id = None);
        refuses(Azure, "blob.account must", |c| c.account.clear());
        refuses(Azure, "blob.account_key is not", |c| c.account_key = Some(Secret::new("s3cr3t!")));
        refuses(Gcs, "blob.service_account_key is not", |c| {
            c.service_account_key = Some(Secret::new(r#"{"private_key": "s3cr3t"}"#));
        });
        refuses(Gcs, "blob.service_account_key is not", |c| {
            c.service_account_key = Some(Secret::new("/nowhere/s3cr3t.json"));
        });
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let config = BlobConfig { dir: Some(file.path().join("blobs")), ..BlobConfig::default() };
        let refused = open(&config, Path::new("/nowhere")).unwrap_err().to_string();
        assert!(refused.starts_with("blob.dir cannot be used"), "{refused}");
    }
}
