//! The sections of the configuration: one struct each, read from merged values and checked.
//!
//! Holds: a value of these types is within its range. Absent: meaning; each room knows what to do
//! with its section.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use ipnet::IpNet;
use url::Url;

use super::{Secret, coerce::CoerceConfig, reader::Reader};
use crate::{dicom, tenancy::Weights};

const KIB: u64 = 1 << 10;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

/// Where proxies write who came to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressHeader {
    /// `X-Forwarded-For`.
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// `[server]`: how connections are served.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// `server.listen`: address and port to listen on.
    pub listen: SocketAddr,
    /// `server.public_url`: base of the URLs in answers; `None`: from each request. Ends with `/`
    /// only where it has no path.
    pub public_url: Option<Url>,
    /// `server.trust_forwarded`: whether X-Forwarded-Proto and -Host are believed.
    pub trust_forwarded: bool,
    /// `server.trusted_proxies`: whose word counts on where requests come from.
    pub trusted_proxies: Vec<IpNet>,
    /// `server.address_header`: where they say so.
    pub address_header: AddressHeader,
    /// `server.drain_timeout`: time for requests in flight after a signal to stop.
    pub drain_timeout: Duration,
    /// `server.max_connections`: connections served at once.
    pub max_connections: usize,
    /// `server.header_timeout`: time to send a request's header.
    pub header_timeout: Duration,
    /// `server.write_timeout`: time without accepting a byte of an answer.
    pub write_timeout: Duration,
}

impl ServerConfig {
    pub(super) fn read(r: &mut Reader) -> Self {
        let headers = [
            ("x-forwarded-for", AddressHeader::XForwardedFor),
            ("forwarded", AddressHeader::Forwarded),
        ];
        Self {
            listen: r.address("server.listen"),
            public_url: r.url("server.public_url", &["http", "https"]),
            trust_forwarded: r.flag("server.trust_forwarded"),
            trusted_proxies: r.networks("server.trusted_proxies"),
            address_header: r.choice("server.address_header", &headers),
            drain_timeout: r.time("server.drain_timeout", 0..=HOUR),
            max_connections: r.count("server.max_connections", 1..=1_000_000),
            header_timeout: r.time("server.header_timeout", 1..=HOUR),
            write_timeout: r.time("server.write_timeout", 1..=DAY),
        }
    }
}

/// `[data]`: where everything kept on this machine lies.
#[derive(Clone, Debug)]
pub struct DataConfig {
    /// `data.dir`: absolute; the platform's default is filled in.
    pub dir: PathBuf,
}

/// `[features]`: what is switched on.
#[derive(Clone, Debug)]
pub struct FeaturesConfig {
    /// `features.enable_data_partition`: whether requests may name partitions.
    pub enable_data_partition: bool,
}

impl FeaturesConfig {
    pub(super) fn read(r: &mut Reader) -> Self {
        Self { enable_data_partition: r.flag("features.enable_data_partition") }
    }
}

/// `[partitions]`: how partitions come to be.
#[derive(Clone, Debug)]
pub struct PartitionsConfig {
    /// `partitions.create_on_store`: whether storing to an unknown partition creates it.
    pub create_on_store: bool,
    /// `partitions.weights`: what partitions weigh where requests wait for each other.
    pub weights: Weights,
}

impl PartitionsConfig {
    pub(super) fn read(r: &mut Reader) -> Self {
        let weight = |text: &String| {
            let (partition, weight) = text.split_once(':')?;
            let weight = weight.parse().ok().filter(|weight| (1..=100).contains(weight))?;
            Some((partition.parse().ok()?, weight))
        };
        let listed = r.list("partitions.weights");
        let weights: Option<BTreeMap<_, _>> = listed.iter().map(weight).collect();
        if weights.is_none() {
            let expected = "a list of texts such as \"clinic1:4\"; weights are 1 to 100";
            r.refuse("partitions.weights", expected);
        }
        Self {
            create_on_store: r.flag("partitions.create_on_store"),
            weights: Weights::new(weights.unwrap_or_default()),
        }
    }
}

/// `[tenancy]`: how requests name partitions.
#[derive(Clone, Debug)]
pub struct TenancyConfig {
    /// `tenancy.base_domain`: domain whose subdomains name partitions, in lower case.
    pub base_domain: Option<String>,
}

impl TenancyConfig {
    pub(super) fn read(r: &mut Reader) -> Self {
        let base_domain = r.optional("tenancy.base_domain").map(|name| name.to_ascii_lowercase());
        let label = |label: &str| {
            let inner = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            inner && (1..=63).contains(&label.len())
        };
        if base_domain.as_ref().is_some_and(|name| !name.split('.').all(label)) {
            r.refuse("tenancy.base_domain", "a host name without port, such as dicom.example.org");
        }
        Self { base_domain }
    }
}

/// `[database]`: the index's Postgres.
#[derive(Clone, Debug)]
pub struct DatabaseConfig {
    /// `database.url`: connection URL of the owner; `None`: a private Postgres is run.
    pub url: Option<Secret>,
    /// `database.app_url`: connection URL of the role that serves; `None`: made by the migrations.
    pub app_url: Option<Secret>,
    /// `database.postgres_bin`: folder of `postgres` and `initdb`.
    pub postgres_bin: Option<PathBuf>,
    /// `database.max_connections`: size of the pool.
    pub max_connections: u32,
    /// `database.connect_timeout`: time to wait for a connection.
    pub connect_timeout: Duration,
    /// `database.statement_timeout`: time after which a statement is cancelled.
    pub statement_timeout: Duration,
    /// `database.prepared_statements`: whether connections keep prepared statements.
    pub prepared_statements: bool,
    /// `database.partition_share`: most connections of one partition, of a hundred.
    pub partition_share: u32,
    /// `database.migrate_on_start`: whether `serve` migrates.
    pub migrate_on_start: bool,
}

impl DatabaseConfig {
    pub(super) fn read(r: &mut Reader) -> Self {
        let schemes = ["postgres", "postgresql"];
        let url = r.secret_or_file("database.url", "database.url_file");
        let app_url = r.secret_or_file("database.app_url", "database.app_url_file");
        // A URL may name a socket folder in its query and no host, so only the scheme is checked.
        for (key, secret) in [("database.url", &url), ("database.app_url", &app_url)] {
            let fits = |secret: &Secret| {
                Url::parse(secret.expose()).is_ok_and(|url| schemes.contains(&url.scheme()))
            };
            if !secret.as_ref().is_none_or(fits) {
                r.refuse(key, "a URL that begins with postgres:// or postgresql://");
            }
        }
        let config = Self {
            url,
            app_url,
            postgres_bin: r.path("database.postgres_bin"),
            max_connections: r.count("database.max_connections", 2..=10_000),
            connect_timeout: r.time("database.connect_timeout", 1..=HOUR),
            statement_timeout: r.time("database.statement_timeout", 1..=DAY),
            prepared_statements: r.flag("database.prepared_statements"),
            partition_share: r.count("database.partition_share", 1..=100),
            migrate_on_start: r.flag("database.migrate_on_start"),
        };
        // The private Postgres allows 200; workers, migrations and people need some of them.
        if config.url.is_none() && config.max_connections > 150 {
            r.conflict("database.max_connections above 150 needs a database.url");
        }
        if config.app_url.is_some() && config.url.is_none() {
            r.conflict(
                "database.app_url needs database.url: the private Postgres has its own roles",
            );
        }
        config
    }
}

/// Where blobs are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlobKind {
    /// A folder on this machine.
    Local,
    /// Amazon S3 and compatible.
    S3,
    /// Azure Blob Storage.
    Azure,
    /// Google Cloud Storage.
    Gcs,
}

/// `[blob]`: the blob store.
#[derive(Clone, Debug)]
pub struct BlobConfig {
    /// `blob.kind`: which store.
    pub kind: BlobKind,
    /// `blob.dir`: folder of local blobs; `None`: `<data.dir>/blobs`.
    pub dir: Option<PathBuf>,
    /// `blob.direct`: whether local blobs are written past the page cache.
    pub direct: bool,
    /// `blob.bucket`: bucket or container; not empty unless the store is local.
    pub bucket: String,
    /// `blob.prefix`: prefix of every key, without slashes at its ends; may be empty.
    pub prefix: String,
    /// `blob.endpoint`: URL of the store's API; `None`: the provider's own.
    pub endpoint: Option<String>,
    /// `blob.region`: region of an S3 bucket.
    pub region: String,
    /// `blob.access_key_id`: set exactly if the secret is.
    pub access_key_id: Option<Secret>,
    /// `blob.secret_access_key`: secret of the access key.
    pub secret_access_key: Option<Secret>,
    /// `blob.account`: Azure storage account; not empty if the store is Azure's.
    pub account: String,
    /// `blob.account_key`: key of the account.
    pub account_key: Option<Secret>,
    /// `blob.service_account_key`: Google service account, JSON text or path of a file.
    pub service_account_key: Option<Secret>,
    /// `blob.allow_http`: whether the endpoint may be plain HTTP.
    pub allow_http: bool,
}

impl BlobConfig {
    pub(super) fn read(r: &mut Reader) -> Self {
        let kinds = [
            ("local", BlobKind::Local),
            ("s3", BlobKind::S3),
            ("azure", BlobKind::Azure),
            ("gcs", BlobKind::Gcs),
        ];
        let endpoint = r.url("blob.endpoint", &["http", "https"]);
        let config = Self {
            kind: r.choice("blob.kind", &kinds),
            dir: r.path("blob.dir"),
            direct: r.flag("blob.direct"),
            bucket: r.text("blob.bucket"),
            prefix: r.text("blob.prefix"),
            // `Url` would add a slash that some stores sign wrongly.
            endpoint: endpoint.as_ref().map(|url| url.as_str().trim_end_matches('/').to_owned()),
            region: r.text("blob.region"),
            access_key_id: r.secret_or_file("blob.access_key_id", "blob.access_key_id_file"),
            secret_access_key: r
                .secret_or_file("blob.secret_access_key", "blob.secret_access_key_file"),
            account: r.text("blob.account"),
            account_key: r.secret_or_file("blob.account_key", "blob.account_key_file"),
            service_account_key: r
                .secret_or_file("blob.service_account_key", "blob.service_account_key_file"),
            allow_http: r.flag("blob.allow_http"),
        };
        let segment = |part: &str| !part.is_empty() && part != "." && part != "..";
        if !config.prefix.is_empty() && !config.prefix.split('/').all(segment) {
            r.refuse(
                "blob.prefix",
                "a key prefix without a slash at either end, such as archive/ct",
            );
        }
        if endpoint.is_some_and(|url| url.scheme() == "http") && !config.allow_http {
            r.conflict("blob.endpoint is plain http://, which needs blob.allow_http = true");
        }
        if config.access_key_id.is_some() != config.secret_access_key.is_some() {
            r.conflict("blob.access_key_id and blob.secret_access_key must be set together");
        }
        let named = match config.kind {
            BlobKind::Local => None,
            BlobKind::S3 => Some("s3"),
            BlobKind::Azure => Some("azure"),
            BlobKind::Gcs => Some("gcs"),
        };
        if let Some(kind) = named.filter(|_| config.bucket.is_empty()) {
            r.conflict(format!("blob.kind = \"{kind}\" needs blob.bucket"));
        }
        if config.kind == BlobKind::Azure && config.account.is_empty() {
            r.conflict("blob.kind = \"azure\" needs blob.account");
        }
        config
    }
}

/// Answer to an instance that the partition holds with identical bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identical {
    /// It counts as stored.
    Success,
    /// It fails.
    Fail,
}

/// `[store]`: how instances are stored.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// `store.identical`: answer to a re-send.
    pub identical: Identical,
    /// `store.batch_bytes`: bytes of small instances per blob.
    pub batch_bytes: u64,
    /// `store.own_blob_bytes`: bytes from which an instance gets its own blob.
    pub own_blob_bytes: u64,
    /// `store.buffer_bytes`: bytes of small instances held by all requests together.
    pub buffer_bytes: u64,
    /// `store.upload_bytes`: bytes that parts hold while they arrive, all requests together.
    pub upload_bytes: u64,
    /// `store.coerce`: what attributes become.
    pub coerce: CoerceConfig,
}

impl StoreConfig {
    pub(super) fn read(r: &mut Reader) -> Self {
        let identical = [("success", Identical::Success), ("fail", Identical::Fail)];
        let config = Self {
            identical: r.choice("store.identical", &identical),
            batch_bytes: r.size("store.batch_bytes", 64 * KIB..=GIB),
            own_blob_bytes: r.size("store.own_blob_bytes", 64 * KIB..=GIB),
            buffer_bytes: r.size("store.buffer_bytes", 64 * KIB..=TIB),
            upload_bytes: r.size("store.upload_bytes", 64 * KIB..=TIB),
            coerce: CoerceConfig::read(r),
        };
        if config.own_blob_bytes > config.batch_bytes {
            r.conflict("store.own_blob_bytes must not exceed store.batch_bytes");
        }
        if config.batch_bytes > config.buffer_bytes {
            r.conflict("store.batch_bytes must not exceed store.buffer_bytes");
        }
        config
    }
}

/// `[limits]`: what one request or instance may ask of the server.
#[derive(Clone, Debug)]
pub struct LimitsConfig {
    /// `limits.instance_bytes`: largest instance.
    pub instance_bytes: u64,
    /// `limits.request_bytes`: largest Store body.
    pub request_bytes: u64,
    /// `limits.parts`: most parts of a Store request.
    pub parts: usize,
    /// `limits.element_depth`: deepest nesting, in levels.
    pub element_depth: u16,
    /// `limits.header_bytes`: attributes of one instance in memory.
    pub header_bytes: u64,
    /// `limits.staged_bytes`: metadata and waiting values of one Store request in memory.
    pub staged_bytes: u64,
    /// `limits.inflated_bytes`: a deflated data set, inflated.
    pub inflated_bytes: u64,
    /// `limits.frames`: most frames or fragments of one instance.
    pub frames: u64,
    /// `limits.body_idle`: time without a byte of a body.
    pub body_idle: Duration,
    /// `limits.bulk_threshold`: length from which a binary value becomes bulk data.
    pub bulk_threshold: u64,
}

impl LimitsConfig {
    pub(super) fn read(r: &mut Reader) -> Self {
        let config = Self {
            instance_bytes: r.size("limits.instance_bytes", KIB..=TIB),
            request_bytes: r.size("limits.request_bytes", KIB..=1024 * TIB),
            parts: r.count("limits.parts", 1..=1_000_000),
            element_depth: r.count("limits.element_depth", 1..=256),
            header_bytes: r.size("limits.header_bytes", KIB..=GIB),
            staged_bytes: r.size("limits.staged_bytes", KIB..=64 * GIB),
            inflated_bytes: r.size("limits.inflated_bytes", KIB..=TIB),
            frames: r.count("limits.frames", 1..=100_000_000),
            body_idle: r.time("limits.body_idle", 1..=DAY),
            bulk_threshold: r.size("limits.bulk_threshold", 16..=GIB),
        };
        if config.request_bytes < config.instance_bytes {
            r.conflict("limits.request_bytes must not be below limits.instance_bytes");
        }
        config
    }

    /// The bounds that the reader of instances needs.
    pub fn parsing(&self) -> dicom::Limits {
        dicom::Limits {
            element_depth: self.element_depth,
            header_bytes: self.header_bytes,
            inflated_bytes: self.inflated_bytes,
            frames: self.frames,
        }
    }
}

/// What a Retrieve request without an Accept header gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingAccept {
    /// What is stored.
    Any,
    /// 406.
    Refuse,
}

/// `[retrieve]`: how instances are given out.
#[derive(Clone, Debug)]
pub struct RetrieveConfig {
    /// `retrieve.missing_accept`: the answer where no Accept is sent.
    pub missing_accept: MissingAccept,
    /// `retrieve.codec_threads`: threads that decode and encode; 0: one for each processor.
    pub codec_threads: usize,
    /// `retrieve.codec_bytes`: bytes of frames being decoded or waiting to be sent.
    pub codec_bytes: u64,
    /// `retrieve.read_ahead`: bytes read from the blob store before they are sent, per answer.
    pub read_ahead: u64,
    /// `retrieve.thumbnail_cache`: bytes of thumbnails that are kept.
    pub thumbnail_cache: u64,
}

impl RetrieveConfig {
    pub(super) fn read(r: &mut Reader) -> Self {
        let choices = [("any", MissingAccept::Any), ("refuse", MissingAccept::Refuse)];
        Self {
            missing_accept: r.choice("retrieve.missing_accept", &choices),
            codec_threads: r.count("retrieve.codec_threads", 0..=1024),
            codec_bytes: r.size("retrieve.codec_bytes", KIB * KIB..=TIB),
            read_ahead: r.size("retrieve.read_ahead", 0..=GIB),
            thumbnail_cache: r.size("retrieve.thumbnail_cache", 0..=TIB),
        }
    }
}

/// `[search]`: how much one search answers, and may cost.
#[derive(Clone, Debug)]
pub struct SearchConfig {
    /// `search.max_studies`: most studies in one answer.
    pub max_studies: u32,
    /// `search.max_series`: most series in one answer.
    pub max_series: u32,
    /// `search.max_instances`: most instances in one answer.
    pub max_instances: u32,
    /// `search.timeout`: time for one search.
    pub timeout: Duration,
    /// `search.max_counted`: remaining matches that are counted; 0: all.
    pub max_counted: u32,
    /// `search.max_filtered`: most rows that keys without an index may have to be looked up in.
    pub max_filtered: u32,
    /// `search.no_match`: status without matches, 200 or 204.
    pub no_match: u16,
}

impl SearchConfig {
    pub(super) fn read(r: &mut Reader) -> Self {
        Self {
            max_studies: r.count("search.max_studies", 1..=1_000_000),
            max_series: r.count("search.max_series", 1..=1_000_000),
            max_instances: r.count("search.max_instances", 1..=1_000_000),
            timeout: r.time("search.timeout", 1..=HOUR),
            max_counted: r.count("search.max_counted", 0..=1_000_000_000),
            max_filtered: r.count("search.max_filtered", 1..=10_000_000),
            no_match: r.number("search.no_match", &[204, 200]),
        }
    }
}

/// `[extended_query_tags]`: attributes that can be searched by besides those of the server.
#[derive(Clone, Debug)]
pub struct QueryTagsConfig {
    /// `extended_query_tags.max_count`: most tags at the root, or that one partition sees.
    pub max_count: usize,
}

impl QueryTagsConfig {
    pub(super) fn read(r: &mut Reader) -> Self {
        Self { max_count: r.count("extended_query_tags.max_count", 1..=1024) }
    }
}

/// `[cors]`: pages of other origins.
#[derive(Clone, Debug)]
pub struct CorsConfig {
    /// `cors.allowed_origins`: origins, or `*` alone.
    pub allowed_origins: Vec<String>,
}

impl CorsConfig {
    pub(super) fn read(r: &mut Reader) -> Self {
        let allowed_origins = r.list("cors.allowed_origins");
        let origin = |text: &String| {
            Url::parse(text).is_ok_and(|url| url.origin().ascii_serialization() == *text)
        };
        if allowed_origins != ["*"] && !allowed_origins.iter().all(origin) {
            let expected = "a list of origins such as https://viewer.example.org, or \"*\" alone";
            r.refuse("cors.allowed_origins", expected);
        }
        Self { allowed_origins }
    }
}

/// Form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

/// `[log]`: what is logged, and how.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// `log.format`: form of the lines.
    pub format: LogFormat,
    /// `log.level`: level or directives, known to parse.
    pub level: String,
}

impl LogConfig {
    pub(super) fn read(r: &mut Reader) -> Self {
        let formats = [("pretty", LogFormat::Pretty), ("json", LogFormat::Json)];
        let config = Self { format: r.choice("log.format", &formats), level: r.text("log.level") };
        if config.level.is_empty()
            || tracing_subscriber::EnvFilter::builder().parse(&config.level).is_err()
        {
            let expected = "error, warn, info, debug or trace, or directives such as \
                            info,collimator::index=debug";
            r.refuse("log.level", expected);
        }
        config
    }
}
