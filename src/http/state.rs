//! What handlers are given.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::{
    archive::Archive,
    config::{
        ChangeFeedConfig, CorsConfig, DeidentifyConfig, ExportConfig, ImportConfig, LimitsConfig,
        RetrieveConfig, SearchConfig, ServerConfig, TenancyConfig, WorklistConfig,
    },
    control::{Access, AuditLog, Health, Keys, Members, Partitions},
    identity::Authenticator,
    outbound::Sender,
    telemetry::Metrics,
};

use super::{edge::Edge, overload::Overload, webhooks::Testing};

/// The server as its handlers see it. Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Parts>);

/// The parts of [`App`].
pub struct Parts {
    /// The data plane.
    pub archive: Archive,
    /// The registry of partitions.
    pub partitions: Partitions,
    /// Finds out who calls.
    pub identity: Authenticator,
    /// What stands before handlers.
    pub edge: Edge,
    /// How much is worked at a time.
    pub overload: Overload,
    /// API keys.
    pub keys: Keys,
    /// Changes who may do what.
    pub members: Members,
    /// What partitions know of who calls.
    pub access: Access,
    /// The audit log.
    pub audit: AuditLog,
    /// What readiness depends on.
    pub health: Health,
    /// `[server]`.
    pub server: ServerConfig,
    /// `[tenancy]`.
    pub tenancy: TenancyConfig,
    /// `[limits]`.
    pub limits: LimitsConfig,
    /// `[retrieve]`.
    pub retrieve: RetrieveConfig,
    /// `[search]`.
    pub search: SearchConfig,
    /// `[worklist]`.
    pub worklist: WorklistConfig,
    /// `[change_feed]`.
    pub change_feed: ChangeFeedConfig,
    /// `[import]`.
    pub import: ImportConfig,
    /// `[export]`.
    pub export: ExportConfig,
    /// `[deidentify]`.
    pub deidentify: DeidentifyConfig,
    /// Calls receivers of webhooks.
    pub sender: Sender,
    /// Whose webhooks are being tried out.
    pub testing: Testing,
    /// `[cors]`.
    pub cors: CorsConfig,
    /// What was counted and timed.
    pub metrics: Metrics,
    /// Cancelled when the server is told to stop: nothing goes on waiting then.
    pub closing: CancellationToken,
}

impl App {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

impl std::ops::Deref for App {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.0
    }
}
