//! The Prometheus recorder: what is counted in this process, rendered on request.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use super::names;

/// How often samples of histograms are folded into their buckets, so that a process nobody scrapes
/// does not keep them all.
pub const UPKEEP: Duration = Duration::from_secs(5);

/// Buckets of requests, in seconds: a frame takes a millisecond, a large Store minutes.
const REQUEST_BUCKETS: [f64; 15] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 300.0];
/// Buckets of operations in the background and on blobs, in seconds.
const WORK_BUCKETS: [f64; 11] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 300.0];

/// Reads what was recorded.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

/// One per process: the recorder is global. Locked while it is installed, so that of two threads
/// that start servers at the same moment the second finds the first one's.
static INSTALLED: Mutex<Option<Metrics>> = Mutex::new(None);

/// The recorder cannot be installed: another one is there.
#[derive(Debug, thiserror::Error)]
#[error("the metrics recorder cannot be installed")]
pub struct MetricsError(#[source] BuildError);

impl Metrics {
    /// Installs the process's recorder and describes every metric. Once installed, later calls
    /// return the same one.
    ///
    /// # Errors
    /// If another recorder is installed already.
    pub fn install() -> Result<Self, MetricsError> {
        let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(metrics) = &*installed {
            return Ok(metrics.clone());
        }
        let full = |name: &str| Matcher::Full(name.to_owned());
        let handle = PrometheusBuilder::new()
            .set_buckets_for_metric(full(names::REQUEST_SECONDS), &REQUEST_BUCKETS)
            .and_then(|b| {
                b.set_buckets_for_metric(full(names::REQUEST_WAIT_SECONDS), &WORK_BUCKETS)
            })
            .and_then(|b| b.set_buckets_for_metric(full(names::BLOB_SECONDS), &WORK_BUCKETS))
            .and_then(|b| b.set_buckets_for_metric(full(names::WORKER_SECONDS), &WORK_BUCKETS))
            .and_then(|b| b.set_buckets_for_metric(full(names::WEBHOOK_SECONDS), &WORK_BUCKETS))
            .and_then(PrometheusBuilder::install_recorder)
            .map_err(MetricsError)?;
        describe();
        Ok(installed.insert(Self(handle)).clone())
    }

    /// Everything recorded so far, in Prometheus' text format 0.0.4.
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Folds samples into buckets, for ever. To be spawned once.
    pub async fn upkeep(self) {
        let mut interval = tokio::time::interval(UPKEEP);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            self.0.run_upkeep();
        }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

fn describe() {
    describe_counter!(names::REQUESTS, "Requests answered");
    describe_histogram!(
        names::REQUEST_SECONDS,
        Unit::Seconds,
        "Time from a request's header to the first byte of its answer"
    );
    describe_gauge!(names::REQUESTS_IN_FLIGHT, "Requests being answered now");
    describe_gauge!(names::DIMSE_CONNECTIONS, "Connections of the DIMSE gateway open now");
    describe_counter!(names::DIMSE_ASSOCIATIONS, "Requests for associations, by outcome");
    describe_counter!(names::DIMSE_MESSAGES, "DIMSE messages answered, by operation and outcome");
    describe_counter!(names::DIMSE_SENT, "Instances sent by C-GET and C-MOVE, by outcome");
    describe_counter!(names::REQUESTS_SHED, "Requests turned away for load, by class and reason");
    describe_gauge!(names::REQUESTS_WAITING, "Requests that wait for their turn");
    describe_gauge!(names::REQUESTS_WORKING, "Requests that are worked at");
    describe_histogram!(
        names::REQUEST_WAIT_SECONDS,
        Unit::Seconds,
        "Time that requests waited for their turn, of those that had to"
    );
    describe_counter!(names::RESPONSE_BYTES, Unit::Bytes, "Bytes of answers' bodies");
    describe_counter!(names::RESPONSES_ABORTED, "Answers that ended before they were whole");
    describe_gauge!(names::CONNECTIONS, "Connections open now");
    describe_counter!(names::TLS_FAILURES, "TLS handshakes that failed, by outcome");
    describe_counter!(names::TLS_RELOADS, "Changed certificates, by whether they were taken");
    describe_counter!(names::AUTH_FAILURES, "Credentials that were wrong");
    describe_counter!(names::AUTH_THROTTLED, "Requests that were held off after failures");
    describe_counter!(names::STORE_INSTANCES, "Instances in Store requests, by outcome");
    describe_gauge!(
        names::STORE_HELD_BYTES,
        Unit::Bytes,
        "What parts of Stores hold while they arrive"
    );
    describe_counter!(names::STORE_BYTES, Unit::Bytes, "Bytes of stored instances");
    describe_counter!(names::BLOB_OPERATIONS, "Operations of the blob store, by outcome");
    describe_histogram!(names::BLOB_SECONDS, Unit::Seconds, "Time of a blob store operation");
    describe_counter!(names::BLOB_BYTES, Unit::Bytes, "Bytes to and from the blob store");
    describe_counter!(names::WORKER_RUNS, "Rounds of background tasks, by outcome");
    describe_histogram!(names::WORKER_SECONDS, Unit::Seconds, "Time of a background round");
    describe_counter!(names::WORKER_ITEMS, "Things that background rounds dealt with");
    describe_counter!(names::REINDEX_INSTANCES, "Instances read again for tags, by outcome");
    describe_counter!(names::UPDATE_INSTANCES, "Instances with a new version, by outcome");
    describe_counter!(names::PURGE_BLOBS, "Removals of deleted blobs, by outcome");
    describe_gauge!(names::PURGE_AWAITING, "Blobs that await removal");
    describe_gauge!(names::PURGE_FAILED, "Blobs that could not be removed again and again");
    describe_counter!(names::COMPACTION_BLOBS, "Blobs rewritten without dead bytes, by outcome");
    describe_counter!(names::WEBHOOK_MESSAGES, "Messages sent to webhooks, each try, by outcome");
    describe_histogram!(names::WEBHOOK_SECONDS, Unit::Seconds, "Time of one try to deliver one");
    describe_counter!(names::WEBHOOK_EVENTS, "Events delivered to webhooks");
    describe_counter!(names::WEBHOOK_DEAD_LETTERS, "Messages to webhooks that were given up");
    describe_counter!(
        names::AUTHENTICATIONS,
        "Requests whose credentials were looked at, by outcome"
    );
    describe_counter!(names::JWKS_FETCHES, "Fetches of issuers' keys, by outcome");
    describe_counter!(names::DAMAGE_FOUND, "Damage found by the scrubber, by kind");
    describe_counter!(names::SCRUB_BYTES, Unit::Bytes, "Bytes read and hashed by the scrubber");
    describe_counter!(names::AUDIT_WRITTEN, "Events of the audit log written apart from changes");
    describe_counter!(names::AUDIT_LOST, "Events of the audit log that were not written, by kind");
    describe_gauge!(names::AUDIT_WAITING, "Events of the audit log that wait to be written");
    describe_counter!(names::AUDIT_CHAINED, "Events that were given their place in the chain");
    describe_counter!(names::AUDIT_EXPORTED, "Events handed to receivers of the audit log");
    describe_counter!(names::AUDIT_EXPORT_FAILED, "Tries to send the audit log that failed");
    describe_counter!(
        names::POSTGRES_RESTARTS,
        "Restarts of the private Postgres after it ended by itself"
    );
    // Rates need a first value: what may stay at zero for long is there from the start.
    metrics::counter!(names::POSTGRES_RESTARTS).absolute(0);
    for kind in ["read", "change"] {
        metrics::counter!(names::AUDIT_LOST, names::KIND => kind).absolute(0);
    }
    metrics::counter!(names::STORE_BYTES).absolute(0);
    metrics::counter!(names::AUTH_FAILURES).absolute(0);
    metrics::counter!(names::AUTH_THROTTLED).absolute(0);
    metrics::counter!(names::WEBHOOK_DEAD_LETTERS).absolute(0);
    metrics::counter!(names::SCRUB_BYTES).absolute(0);
}

/// The class of a status as a label.
pub fn status_class(status: u16) -> &'static str {
    match status / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        5 => "5xx",
        _ => "other",
    }
}

/// A method as a label. Clients can invent methods, so others than the known ones share one label.
pub fn method_label(method: &str) -> &'static str {
    match method {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

/// Counts one answered request.
pub fn request_answered(service: &'static str, method: &str, status: u16, took: Duration) {
    let labels = [
        (names::SERVICE, service),
        (names::METHOD, method_label(method)),
        (names::STATUS, status_class(status)),
    ];
    metrics::counter!(names::REQUESTS, &labels).increment(1);
    metrics::histogram!(names::REQUEST_SECONDS, &labels).record(took.as_secs_f64());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_come_out_as_prometheus_text() {
        Metrics::install().unwrap();
        request_answered("telemetry-test", "GET", 204, Duration::from_millis(3));
        request_answered("telemetry-test", "BREW", 418, Duration::from_secs(1000));
        let text = Metrics::install().unwrap().render();
        for line in [
            "# TYPE collimator_http_requests_total counter",
            "# HELP collimator_http_requests_total Requests answered",
            "collimator_http_requests_total{service=\"telemetry-test\",method=\"GET\",status=\"2xx\"} 1",
            "collimator_http_requests_total{service=\"telemetry-test\",method=\"other\",status=\"4xx\"} 1",
            "collimator_http_request_seconds_bucket{service=\"telemetry-test\",method=\"GET\",status=\"2xx\",le=\"0.0025\"} 0",
            "collimator_http_request_seconds_bucket{service=\"telemetry-test\",method=\"GET\",status=\"2xx\",le=\"0.005\"} 1",
            "collimator_postgres_restarts_total 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
