//! What stands between a connection and a handler: who is held off, links, and what answers say to
//! browsers.

use std::time::Duration;

use crate::{
    config::{Config, LinksConfig},
    control::LinkKeys,
    identity::Throttle,
};

/// The edge of the server, as handlers see it.
pub struct Edge {
    /// Whether requests need a credential.
    pub is_auth_on: bool,
    /// Whether metrics are for everybody.
    pub open_metrics: bool,
    /// Counts credentials that are wrong.
    pub throttle: Throttle,
    /// Counts links that are wrong.
    pub link_throttle: Throttle,
    /// `[links]`.
    pub links: LinksConfig,
    /// The keys that links are signed with.
    pub keys: LinkKeys,
    /// How long browsers keep to HTTPS; `None`: nothing is said.
    pub hsts: Option<Duration>,
}

impl Edge {
    /// By configuration.
    pub fn new(config: &Config, keys: LinkKeys) -> Self {
        Self {
            is_auth_on: config.auth.enabled,
            open_metrics: config.auth.open_metrics || !config.auth.enabled,
            throttle: Throttle::new(&config.auth),
            link_throttle: Throttle::new(&config.auth),
            links: config.links.clone(),
            keys,
            hsts: (config.tls.is_on() && !config.tls.hsts.is_zero()).then_some(config.tls.hsts),
        }
    }
}
