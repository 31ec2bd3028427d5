//! Places that a command line names: folders and buckets.

use crate::config::{BlobConfig, BlobKind};

/// The bucket of `s3://BUCKET/PREFIX`, and the prefix; `None` where it is none. Credentials and the
/// address are those of the environment, as AWS's tools have them.
pub(super) fn bucket(text: &str) -> Option<(BlobConfig, String)> {
    let rest = text.strip_prefix("s3://")?;
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let variables = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"];
    let endpoint = variables.iter().find_map(|name| std::env::var(name).ok());
    let config = BlobConfig {
        kind: BlobKind::S3,
        bucket: bucket.to_owned(),
        // Who sets an address with http:// means it.
        allow_http: endpoint.as_ref().is_some_and(|url| url.starts_with("http://")),
        endpoint,
        region: std::env::var("AWS_REGION").unwrap_or_else(|_| "us-east-1".to_owned()),
        ..BlobConfig::default()
    };
    Some((config, prefix.trim_matches('/').to_owned()))
}
