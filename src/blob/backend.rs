//! From `[blob]` to a store: the only code that knows one provider from another.
//!
//! Owns the choice and its options. Credentials that are not configured are taken from where the
//! provider's own tools look (environment, instance, workload identity). Absent: any request; see
//! `probe` for whether the store answers.

use std::{path::Path, sync::Arc, time::Duration};

use object_store::{
    BackoffConfig, ClientOptions, ObjectStore, RetryConfig, aws::AmazonS3Builder,
    azure::MicrosoftAzureBuilder, gcp::GoogleCloudStorageBuilder, local::LocalFileSystem,
};
use url::Url;

use super::{BlobError, folder::Folder};
use crate::config::{BlobConfig, BlobKind};

/// Time to reach the store.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest silence in an answer. There is no limit on a whole answer: a slow reader of a large
/// blob is not the store's fault.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// How long one request is repeated while the store fails.
const RETRY_FOR: Duration = Duration::from_secs(60);

type Opened = (Arc<dyn ObjectStore>, Option<Folder>);

/// Opens the store that the configuration names.
pub(super) fn open(config: &BlobConfig, data_dir: &Path) -> Result<Opened, BlobError> {
    match config.kind {
        BlobKind::Local => local(config, data_dir),
        BlobKind::S3 => Ok((s3(config)?, None)),
        BlobKind::Azure => Ok((azure(config)?, None)),
        BlobKind::Gcs => Ok((gcs(config)?, None)),
    }
}

fn local(config: &BlobConfig, data_dir: &Path) -> Result<Opened, BlobError> {
    let dir = match config.dir.as_os_str().is_empty() {
        true => data_dir.join("blobs"),
        false => config.dir.clone(),
    };
    let unusable =
        |e: &dyn std::fmt::Display| BlobError::config("blob.dir", format!("cannot be used: {e}"));
    let folder = Folder::open(&dir).map_err(|e| unusable(&e))?;
    // Lists and removes; what must be durable is written by `Folder`. A removal is not synced:
    // one that a power cut undoes leaves an orphan.
    let files = LocalFileSystem::new_with_prefix(folder.root()).map_err(|e| unusable(&e))?;
    Ok((Arc::new(files.with_fsync(true)), Some(folder)))
}

fn s3(config: &BlobConfig) -> Result<Arc<dyn ObjectStore>, BlobError> {
    let (id, secret) = (&config.access_key_id, &config.secret_access_key);
    together("blob.access_key_id", id, "blob.secret_access_key", secret)?;
    let endpoint = endpoint(config)?;
    let tls = endpoint.as_ref().is_none_or(|url| url.starts_with("https:"));
    let mut builder = match id.is_empty() {
        true => AmazonS3Builder::from_env(),
        false => AmazonS3Builder::new().with_access_key_id(id).with_secret_access_key(secret),
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
        .with_retry(retry())
        .build();
    Ok(Arc::new(built.map_err(|e| refused("blob.kind", "s3", &e))?))
}

fn azure(config: &BlobConfig) -> Result<Arc<dyn ObjectStore>, BlobError> {
    let account = required("blob.account", &config.account, "azure")?;
    let mut builder = match config.account_key.is_empty() {
        true => MicrosoftAzureBuilder::from_env(),
        false => MicrosoftAzureBuilder::new().with_access_key(&config.account_key),
    };
    if let Some(url) = endpoint(config)? {
        builder = builder.with_endpoint(url);
    }
    let built = builder
        .with_account(account)
        .with_container_name(bucket(config)?)
        .with_client_options(client(config))
        .with_allow_http(config.allow_http)
        .with_retry(retry())
        .build();
    let key = if config.account_key.is_empty() { "blob.kind" } else { "blob.account_key" };
    Ok(Arc::new(built.map_err(|e| refused(key, "azure", &e))?))
}

fn gcs(config: &BlobConfig) -> Result<Arc<dyn ObjectStore>, BlobError> {
    let mut builder = match config.service_account_key.is_empty() {
        true => GoogleCloudStorageBuilder::from_env(),
        false => {
            let key = &config.service_account_key;
            GoogleCloudStorageBuilder::new().with_service_account_key(key)
        }
    };
    if let Some(url) = endpoint(config)? {
        builder = builder.with_base_url(&url);
    }
    let built = builder
        .with_bucket_name(bucket(config)?)
        .with_client_options(client(config))
        .with_retry(retry())
        .build();
    let given = !config.service_account_key.is_empty();
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

fn together(one: &'static str, a: &str, other: &'static str, b: &str) -> Result<(), BlobError> {
    match (a.is_empty(), b.is_empty()) {
        (true, false) => Err(BlobError::config(one, format!("must be set together with {other}"))),
        (false, true) => Err(BlobError::config(other, format!("must be set together with {one}"))),
        _ => Ok(()),
    }
}

/// `blob.endpoint`, checked and without a slash at its end; `None` where it is the provider's own.
fn endpoint(config: &BlobConfig) -> Result<Option<String>, BlobError> {
    const KEY: &str = "blob.endpoint";
    if config.endpoint.is_empty() {
        return Ok(None);
    }
    let parsed = Url::parse(&config.endpoint);
    let url = parsed.map_err(|e| BlobError::config(KEY, format!("is not a URL: {e}")))?;
    let text = url.as_str().trim_end_matches('/').to_owned();
    match url.scheme() {
        "https" => Ok(Some(text)),
        "http" if config.allow_http => Ok(Some(text)),
        "http" => {
            Err(BlobError::config("blob.allow_http", "must be true for an http:// blob.endpoint"))
        }
        _ => Err(BlobError::config(KEY, "must begin with https:// or http://")),
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
            access_key_id: "id".into(),
            secret_access_key: "s3cr3t".into(),
            account: "account".into(),
            account_key: "czNjcjN0".into(),
            service_account_key:
                r#"{"private_key":"","private_key_id":"","client_email":"","disable_oauth":true}"#
                    .into(),
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
        use BlobKind::{Azure, Gcs, S3};
        for kind in [S3, Azure, Gcs] {
            assert!(open(&config(kind, |_| ()), Path::new("/nowhere")).is_ok(), "{kind:?}");
            refuses(kind, "blob.bucket must be set when blob.kind is", |c| c.bucket.clear());
            refuses(kind, "blob.endpoint is not a URL", |c| c.endpoint = "s3cr3t".into());
            refuses(kind, "blob.endpoint must begin", |c| c.endpoint = "ftp://h".into());
            refuses(kind, "blob.allow_http", |c| c.endpoint = "http://127.0.0.1:1".into());
        }
        refuses(S3, "blob.secret_access_key", |c| c.secret_access_key.clear());
        refuses(S3, "blob.access_key_id", |c| c.access_key_id.clear());
        refuses(Azure, "blob.account must", |c| c.account.clear());
        refuses(Azure, "blob.account_key is not", |c| c.account_key = "s3cr3t!".into());
        refuses(Gcs, "blob.service_account_key is not", |c| {
            c.service_account_key = r#"{"private_key": "s3cr3t"}"#.into();
        });
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let config = BlobConfig { dir: file.path().join("blobs"), ..BlobConfig::default() };
        let refused = open(&config, Path::new("/nowhere")).unwrap_err().to_string();
        assert!(refused.starts_with("blob.dir cannot be used"), "{refused}");
    }
}
