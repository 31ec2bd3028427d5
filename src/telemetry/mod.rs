//! Telemetry: logs, and metrics for Prometheus.
//!
//! Owns the names of all metrics ([`names`]), the process's recorder ([`Metrics`]) and the set-up of
//! logs ([`logs`]). Invariants: patients' data is neither in a label nor in a log line; labels take
//! few values, so that no client can make the process grow. Absent: a listener; `/metrics` is a
//! route like others.

pub mod logs;
mod metrics;
pub mod names;

pub use self::metrics::{
    Metrics, MetricsError, UPKEEP, method_label, request_answered, status_class,
};
