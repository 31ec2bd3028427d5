//! Configuration: every key, its default, how layers override it, and how it is shown.
//!
//! Owns [`Config`] and its sections. `config/default.toml` is compiled in and is the schema: a key
//! that is not in it does not exist, and the type of its default is the type of the key. Layers,
//! later ones winning: defaults, the file given by `--config`, `COLLIMATOR__SECTION__KEY`, flags.
//!
//! Invariants: a `Config` that exists is valid; all errors of one load are told together; no error
//! and no `Debug` shows a secret. Absent: reading any of it again while the server runs.

mod audit;
mod auth;
mod coerce;
mod deidentify;
mod dimse;
mod fields;
mod issuer;
#[cfg(test)]
mod issuer_tests;
mod layers;
mod links;
mod overload;
mod places;
mod reader;
mod secret;
mod sections;
#[cfg(test)]
mod tests;
mod tls;
mod upkeep;
mod webhooks;
mod worklist;

use std::{
    fmt::{self, Write as _},
    path::{Path, PathBuf},
};

use toml::{Table, Value};
use zeroize::Zeroize as _;

pub use audit::{AuditConfig, AuditReads};
pub use auth::AuthConfig;
pub use coerce::{CoerceConfig, CoerceRule};
pub use deidentify::DeidentifyConfig;
pub use dimse::{DimseConfig, DimsePeer, is_ae_title};
pub use issuer::{Algorithm, ClaimPath, IssuerConfig, PartitionRule, SmartScopes, is_loopback};
pub use layers::{ConfigError, ConfigErrors, ENVIRONMENT_PREFIX, Origin, Sources, variable_of};
pub use links::LinksConfig;
pub use overload::OverloadConfig;
pub use places::{ExportConfig, ImportConfig, PlaceConfig};
pub use secret::Secret;
pub use sections::{
    AddressHeader, BlobConfig, BlobKind, CorsConfig, DataConfig, DatabaseConfig, FeaturesConfig,
    Identical, LimitsConfig, LogConfig, LogFormat, MissingAccept, PartitionsConfig,
    QueryTagsConfig, RetrieveConfig, SearchConfig, ServerConfig, StoreConfig, TenancyConfig,
};
pub use tls::{CertificateName, CertificatePrincipal, ClientAuth, TlsConfig};
pub use upkeep::{
    ChangeFeedConfig, CommitmentConfig, CompactionConfig, DeleteConfig, OperationsConfig, Rejected,
    RejectionConfig, ScrubConfig, SweepConfig,
};
pub use webhooks::{Destination, WebhooksConfig};
pub use worklist::WorklistConfig;

use layers::Merged;
use reader::Reader;

/// The reference, schema and lowest layer.
pub const DEFAULT_TOML: &str = include_str!("../../config/default.toml");

/// The whole configuration. Rooms are handed the sections they need.
#[derive(Clone)]
#[expect(missing_docs, reason = "each section's type says what it is")]
pub struct Config {
    pub server: ServerConfig,
    pub overload: OverloadConfig,
    pub tls: TlsConfig,
    pub dimse: DimseConfig,
    pub data: DataConfig,
    pub auth: AuthConfig,
    pub links: LinksConfig,
    pub audit: AuditConfig,
    pub features: FeaturesConfig,
    pub partitions: PartitionsConfig,
    pub tenancy: TenancyConfig,
    pub database: DatabaseConfig,
    pub blob: BlobConfig,
    pub store: StoreConfig,
    pub limits: LimitsConfig,
    pub retrieve: RetrieveConfig,
    pub search: SearchConfig,
    pub query_tags: QueryTagsConfig,
    pub operations: OperationsConfig,
    pub change_feed: ChangeFeedConfig,
    pub webhooks: WebhooksConfig,
    pub worklist: WorklistConfig,
    pub deidentify: DeidentifyConfig,
    pub delete: DeleteConfig,
    /// `[rejection]`
    pub rejection: RejectionConfig,
    /// `[compaction]`
    pub compaction: CompactionConfig,
    pub sweep: SweepConfig,
    pub scrub: ScrubConfig,
    pub commitment: CommitmentConfig,
    pub import: ImportConfig,
    pub export: ExportConfig,
    pub cors: CorsConfig,
    pub log: LogConfig,
    effective: String,
}

impl Config {
    /// Merges all layers and checks every value.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn load(sources: &Sources) -> Result<Self, ConfigErrors> {
        let mut errors = Vec::new();
        let mut merged = layers::merge(&defaults(), sources, &mut errors);
        let mut reader = Reader::new(&merged, errors);
        let config = Self::read(&mut reader, sources);
        let Reader { ref errors, .. } = reader;
        let loaded = if errors.is_empty() {
            Ok(Self { effective: show(&merged, &reader, &config), ..config })
        } else {
            Err(ConfigErrors(errors.clone()))
        };
        // Secrets stay where they are used, and nowhere else. (The environment is the caller's.)
        for key in std::mem::take(&mut reader.secrets) {
            if let Some(Value::String(text)) = merged.get_mut(key).map(|slot| &mut slot.value) {
                text.zeroize();
            }
        }
        loaded
    }

    fn read(r: &mut Reader, sources: &Sources) -> Self {
        let config = Self {
            server: ServerConfig::read(r),
            overload: OverloadConfig::read(r),
            tls: TlsConfig::read(r),
            dimse: DimseConfig::read(r),
            data: DataConfig { dir: data_dir(r, sources) },
            auth: AuthConfig::read(r),
            links: LinksConfig::read(r),
            audit: AuditConfig::read(r),
            features: FeaturesConfig::read(r),
            partitions: PartitionsConfig::read(r),
            tenancy: TenancyConfig::read(r),
            database: DatabaseConfig::read(r),
            blob: BlobConfig::read(r),
            store: StoreConfig::read(r),
            limits: LimitsConfig::read(r),
            retrieve: RetrieveConfig::read(r),
            search: SearchConfig::read(r),
            query_tags: QueryTagsConfig::read(r),
            operations: OperationsConfig::read(r),
            change_feed: ChangeFeedConfig::read(r),
            webhooks: WebhooksConfig::read(r),
            worklist: WorklistConfig::read(r),
            deidentify: DeidentifyConfig::read(r),
            delete: DeleteConfig::read(r),
            rejection: RejectionConfig::read(r),
            compaction: CompactionConfig::read(r),
            sweep: SweepConfig::read(r),
            scrub: ScrubConfig::read(r),
            commitment: CommitmentConfig::read(r),
            import: ImportConfig::read(r),
            export: ExportConfig::read(r),
            cors: CorsConfig::read(r),
            log: LogConfig::read(r),
            effective: String::new(),
        };
        let asks_certificates = config.tls.client_auth == ClientAuth::Required;
        config.dimse.check(r, config.auth.enabled, (config.tls.is_on(), asks_certificates));
        config
    }

    /// The effective configuration as TOML, secrets masked; a comment tells where each value that
    /// is not the default came from.
    pub fn effective(&self) -> &str {
        &self.effective
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.effective)
    }
}

/// The defaults as a table. The text is part of the program and a test reads it.
fn defaults() -> Table {
    DEFAULT_TOML.parse().unwrap_or_default()
}

/// `data.dir`, absolute, or the platform's place for it.
fn data_dir(r: &mut Reader, sources: &Sources) -> PathBuf {
    let named = r.path("data.dir");
    // SAFETY: geteuid has no preconditions and cannot fail.
    let root = unsafe { libc::geteuid() } == 0;
    let home = || sources.variable("HOME");
    let dir = named.or_else(|| match () {
        () if root => Some(PathBuf::from("/var/lib/collimator")),
        () if cfg!(target_os = "macos") => {
            home().map(|home| home.join("Library/Application Support/collimator"))
        }
        () => {
            // The XDG rules: a relative path in the variable is to be ignored.
            let data_home = sources.variable("XDG_DATA_HOME").filter(|dir| dir.is_absolute());
            let data_home = data_home.or_else(|| home().map(|home| home.join(".local/share")));
            data_home.map(|dir| dir.join("collimator"))
        }
    });
    match dir.as_deref().map(std::path::absolute) {
        Some(Ok(dir)) => dir,
        _ => {
            r.conflict("data.dir (or --data-dir) is needed: no home folder is known");
            PathBuf::new()
        }
    }
}

/// Renders the effective configuration in the order of `config/default.toml`.
fn show(merged: &Merged, reader: &Reader, config: &Config) -> String {
    let mut text = String::new();
    for (section, keys) in &defaults() {
        let _ = writeln!(text, "{}[{section}]", if text.is_empty() { "" } else { "\n" });
        for (key, _) in keys.as_table().into_iter().flatten() {
            let full = format!("{section}.{key}");
            let Some(layered) = merged.get(&full) else { continue };
            let value = match &layered.value {
                Value::String(secret) if reader.secrets.contains(full.as_str()) => {
                    let masked = Some(secret).filter(|secret| !secret.is_empty());
                    let masked = masked.map(|secret| Secret::new(secret.as_str()).to_string());
                    Value::String(masked.unwrap_or_default())
                }
                _ if full == "data.dir" => path_value(&config.data.dir),
                other => other.clone(),
            };
            let _ = match &layered.origin {
                Origin::Default => writeln!(text, "{key} = {value}"),
                origin => writeln!(text, "{key} = {value}  # {origin}"),
            };
        }
    }
    text
}

fn path_value(path: &Path) -> Value {
    Value::String(path.display().to_string())
}

/// A section with every key at its default, for tests of the rooms that take one.
macro_rules! section_defaults {
    ($($section:ident: $type:ty),* $(,)?) => {$(
        impl Default for $type {
            fn default() -> Self {
                let merged = layers::merge(&defaults(), &Sources::default(), &mut Vec::new());
                <$type>::read(&mut Reader::new(&merged, Vec::new()))
            }
        }
    )*};
}

section_defaults!(
    server: ServerConfig,
    overload: OverloadConfig,
    tls: TlsConfig,
    dimse: DimseConfig,
    auth: AuthConfig,
    links: LinksConfig,
    audit: AuditConfig,
    features: FeaturesConfig,
    partitions: PartitionsConfig,
    tenancy: TenancyConfig,
    database: DatabaseConfig,
    blob: BlobConfig,
    store: StoreConfig,
    limits: LimitsConfig,
    retrieve: RetrieveConfig,
    search: SearchConfig,
    query_tags: QueryTagsConfig,
    operations: OperationsConfig,
    change_feed: ChangeFeedConfig,
    webhooks: WebhooksConfig,
    worklist: WorklistConfig,
    deidentify: DeidentifyConfig,
    delete: DeleteConfig,
    rejection: RejectionConfig,
    compaction: CompactionConfig,
    sweep: SweepConfig,
    cors: CorsConfig,
    log: LogConfig,
);
