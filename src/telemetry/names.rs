//! Names, units and labels of every metric. Labels hold what is few and never about a person:
//! service, method, class of status, kind of operation.

/// Requests answered. Counter. Labels: [`SERVICE`], [`METHOD`], [`STATUS`].
pub const REQUESTS: &str = "collimator_http_requests_total";
/// Time from a request's header to the first byte of its answer, in seconds. Histogram. Labels as
/// [`REQUESTS`].
pub const REQUEST_SECONDS: &str = "collimator_http_request_seconds";
/// Requests being answered now. Gauge. Label: [`SERVICE`].
pub const REQUESTS_IN_FLIGHT: &str = "collimator_http_requests_in_flight";
/// Bytes of answers' bodies. Counter. Label: [`SERVICE`].
pub const RESPONSE_BYTES: &str = "collimator_http_response_bytes_total";
/// Answers that ended before they were whole: the client left, or a source failed. Counter. Label:
/// [`SERVICE`].
pub const RESPONSES_ABORTED: &str = "collimator_http_responses_aborted_total";
/// Connections open now. Gauge.
pub const CONNECTIONS: &str = "collimator_http_connections";
/// TLS handshakes that failed. Counter. Label: [`OUTCOME`] (`refused`, `timeout`).
pub const TLS_FAILURES: &str = "collimator_tls_handshake_failures_total";
/// Looks at changed files of certificates. Counter. Label: [`OUTCOME`] (`loaded`, `failed`).
pub const TLS_RELOADS: &str = "collimator_tls_reloads_total";
/// Credentials that were wrong. Counter.
pub const AUTH_FAILURES: &str = "collimator_auth_failures_total";
/// Requests whose credentials were not looked at, since too many had failed. Counter.
pub const AUTH_THROTTLED: &str = "collimator_auth_throttled_total";
/// Instances in Store requests. Counter. Label: [`OUTCOME`] (`stored`, `identical`, `failed`).
pub const STORE_INSTANCES: &str = "collimator_store_instances_total";
/// Bytes of stored instances. Counter.
pub const STORE_BYTES: &str = "collimator_store_bytes_total";
/// Operations of the blob store. Counter. Labels: [`OPERATION`], [`OUTCOME`] (`ok`, `error`).
pub const BLOB_OPERATIONS: &str = "collimator_blob_operations_total";
/// Time of an operation of the blob store, in seconds. Histogram. Label: [`OPERATION`].
pub const BLOB_SECONDS: &str = "collimator_blob_operation_seconds";
/// Bytes to and from the blob store. Counter. Label: [`OPERATION`] (`put`, `get`).
pub const BLOB_BYTES: &str = "collimator_blob_bytes_total";
/// Rounds of background tasks. Counter. Labels: [`WORKER`], [`OUTCOME`] (`ok`, `error`).
pub const WORKER_RUNS: &str = "collimator_worker_runs_total";
/// Time of a round, in seconds. Histogram. Label: [`WORKER`].
pub const WORKER_SECONDS: &str = "collimator_worker_run_seconds";
/// Things that rounds dealt with, such as blobs removed. Counter. Label: [`WORKER`].
pub const WORKER_ITEMS: &str = "collimator_worker_items_total";
/// Instances read again for extended query tags. Counter. Label: [`OUTCOME`] (`indexed`, `failed`:
/// a value could not be indexed).
pub const REINDEX_INSTANCES: &str = "collimator_reindex_instances_total";
/// Instances that got a new version by an update. Counter. Label: [`OUTCOME`] (`updated`; `failed`
/// counts studies that could not be changed).
pub const UPDATE_INSTANCES: &str = "collimator_update_instances_total";
/// Removals of deleted blobs. Counter. Label: [`OUTCOME`] (`removed`, `failed`: tried again later).
pub const PURGE_BLOBS: &str = "collimator_purge_blobs_total";
/// Blobs that await removal, their grace period included. Gauge.
pub const PURGE_AWAITING: &str = "collimator_purge_awaiting_blobs";
/// Blobs that could not be removed again and again. Gauge.
pub const PURGE_FAILED: &str = "collimator_purge_failed_blobs";
/// Blobs rewritten because they were mostly dead. Counter. Label: [`OUTCOME`] (`rewritten`,
/// `failed`: tried again later).
pub const COMPACTION_BLOBS: &str = "collimator_compaction_blobs_total";
/// Messages sent to webhooks, each try. Counter. Label: [`OUTCOME`] (`delivered`, `status`,
/// `timeout`, `connection`, `address`, `unsendable`).
pub const WEBHOOK_MESSAGES: &str = "collimator_webhook_messages_total";
/// Time of one try, in seconds. Histogram.
pub const WEBHOOK_SECONDS: &str = "collimator_webhook_message_seconds";
/// Events that were delivered to webhooks. Counter.
pub const WEBHOOK_EVENTS: &str = "collimator_webhook_events_total";
/// Messages to webhooks that were given up. Counter.
pub const WEBHOOK_DEAD_LETTERS: &str = "collimator_webhook_dead_letters_total";
/// Requests whose credentials were looked at. Counter. Label: [`OUTCOME`] (`ok`, or what was wrong).
pub const AUTHENTICATIONS: &str = "collimator_authentications_total";
/// Fetches of issuers' keys. Counter. Label: [`OUTCOME`] (`ok`, `error`).
pub const JWKS_FETCHES: &str = "collimator_jwks_fetches_total";
/// Damage that the scrubber found and did not know. Counter. Label: [`KIND`].
pub const DAMAGE_FOUND: &str = "collimator_damage_found_total";
/// Bytes that the scrubber read and hashed. Counter.
pub const SCRUB_BYTES: &str = "collimator_scrub_bytes_total";
/// Events of the audit log that were written apart from changes. Counter.
pub const AUDIT_WRITTEN: &str = "collimator_audit_written_total";
/// Events of reads and refusals that were not written, since too many waited or the database did not
/// take them. Counter. Label: [`KIND`] (`read`, `change`).
pub const AUDIT_LOST: &str = "collimator_audit_lost_total";
/// Events that wait to be written. Gauge.
pub const AUDIT_WAITING: &str = "collimator_audit_waiting";
/// Events that were given their place in the chain. Counter.
pub const AUDIT_CHAINED: &str = "collimator_audit_chained_total";
/// Events handed to a receiver. Counter. Label: [`KIND`] (`lines`, `syslog`).
pub const AUDIT_EXPORTED: &str = "collimator_audit_exported_total";
/// Tries to send to a receiver that failed. Counter. Label as [`AUDIT_EXPORTED`].
pub const AUDIT_EXPORT_FAILED: &str = "collimator_audit_export_failed_total";
/// Restarts of the private Postgres after it ended by itself. Counter.
pub const POSTGRES_RESTARTS: &str = "collimator_postgres_restarts_total";

/// Requests that were turned away for load. Counter. Labels: [`CLASS`] (`small`, `heavy`, `store`,
/// `waiting`), [`REASON`] (`full`, `share`, `connections`, `memory`, `deadline`).
pub const REQUESTS_SHED: &str = "collimator_http_requests_shed_total";
/// Requests that wait for their turn. Gauge. Label: [`CLASS`] (`small`, `heavy`).
pub const REQUESTS_WAITING: &str = "collimator_http_requests_waiting";
/// Requests that are worked at, and not at their clients to move. Gauge. Label as above.
pub const REQUESTS_WORKING: &str = "collimator_http_requests_working";
/// Time for which requests waited for their turn, of those that had to, in seconds. Histogram.
/// Label as above.
pub const REQUEST_WAIT_SECONDS: &str = "collimator_http_request_wait_seconds";

/// What parts of Stores hold while they arrive, in bytes. Gauge.
pub const STORE_HELD_BYTES: &str = "collimator_store_held_bytes";

/// Connections of the DIMSE gateway open now. Gauge.
pub const DIMSE_CONNECTIONS: &str = "collimator_dimse_connections";
/// Requests for associations. Counter. Label: [`OUTCOME`] (`accepted`, `rejected`, `malformed`,
/// `silent`).
pub const DIMSE_ASSOCIATIONS: &str = "collimator_dimse_associations_total";
/// Messages answered. Counter. Labels: [`OPERATION`] (`c-echo`, `c-store`, …), [`OUTCOME`]
/// (`success`, `warning`, `failure`, `refused`, `canceled`).
pub const DIMSE_MESSAGES: &str = "collimator_dimse_messages_total";
/// Instances that were sent by C-GET and C-MOVE. Counter. Label: [`OUTCOME`] (`sent`, `failed`).
pub const DIMSE_SENT: &str = "collimator_dimse_sent_total";

/// Label: what a request is where there is too much to do.
pub const CLASS: &str = "class";
/// Label: why.
pub const REASON: &str = "reason";
/// Label: the service, such as `store`, `retrieve`, `search`.
pub const SERVICE: &str = "service";
/// Label: the request's method; one of the known ones, or `other`.
pub const METHOD: &str = "method";
/// Label: the class of the status: `2xx`, `4xx`, …
pub const STATUS: &str = "status";
/// Label: how something ended.
pub const OUTCOME: &str = "outcome";
/// Label: the operation, such as `put`, `get`, `delete`, `list`.
pub const OPERATION: &str = "operation";
/// Label: the kind of damage, or of what was lost or sent.
pub const KIND: &str = "kind";
/// Label: the background task.
pub const WORKER: &str = "worker";
