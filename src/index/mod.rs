//! The index: all SQL of the server.
//!
//! Owns the connection pool, the gate to it, every statement, and what SQLSTATEs mean. A statement
//! is a method of one of three transaction types, which are the only way to a connection:
//!
//! | type | opened with | reaches |
//! |---|---|---|
//! | [`PartitionTx`] | [`PartitionScope`](crate::tenancy::PartitionScope) | tenant tables, one partition |
//! | [`ScopedTx`] | [`Scope`](crate::tenancy::Scope) | tenant tables, one or more partitions, reading |
//! | [`RegistryTx`] | nothing | the registry of partitions |
//!
//! Invariants: the log-in role is granted nothing but membership, so a statement outside a
//! transaction of these types is denied; inside one, row-level security shows the scope's
//! partitions and nothing else, and every statement names the partition as well. All statements
//! are constant text, listed by [`statements`] and its like (a test prepares each), but for Search,
//! whose text is put together from constants in `candidates`, `filter`, `like`, `keys`, `several`,
//! `tag_search` and `rows`; values are always bound.
//!
//! Absent: bytes of blobs, DICOM parsing, HTTP, retries (the caller repeats a transaction that
//! answered [`IndexError::Busy`]).

mod access;
mod api_keys;
mod audit;
mod audit_chain;
mod audit_view;
mod backfill;
mod candidates;
mod columns;
mod commitment;
mod compaction;
mod compaction_queue;
mod composed;
mod create;
mod db;
mod dead_letters;
mod delete;
mod driver;
mod erase;
mod error;
mod facts;
mod feed;
mod feed_union;
mod filter;
mod first_names;
mod frames;
mod held;
mod keys;
mod like;
mod link_keys;
mod located;
mod login;
mod lookup;
mod migrate;
mod non_patient;
mod operation_view;
mod operations;
mod options;
mod order;
mod originals;
mod packs;
mod parents;
mod pictures;
mod places;
mod plain;
mod pool;
mod principals;
mod pseudonym_keys;
mod query_tags;
mod registry;
mod reindex;
mod rejection;
mod removal;
mod repeat;
mod requests;
mod retrieve;
mod revocations;
mod rows;
mod scrub;
mod search;
mod several;
mod store;
mod summary;
mod tag_lock;
mod tag_search;
mod tag_values;
mod tag_view;
mod terms;
mod transfers;
mod turns;
mod undelete;
mod update;
mod verify;
mod verify_blobs;
mod verify_feed;
mod verify_parents;
mod watchers;
mod webhook_row;
mod webhooks;
mod workitems;
mod worklist_events;

pub use access::{Acquaintance, Asker, OwnRole, PolicyRow};
pub use api_keys::{ApiKey, KeySettings, SecretHash};
pub use audit::Unchained;
pub use audit_chain::{AuditKept, AuditLink, AuditLinked};
pub use audit_view::{AuditCursor, AuditEntry, AuditFilter};
pub use commitment::{CommitmentClaim, CommitmentState, Reference};
pub use compaction::{CompactionPlan, CompactionRule, Kept, Planned};
pub use composed::{Composed, Shared, composed_id, is_composed};
pub use db::{Db, PartitionTx, RegistryTx, ScopedTx};
pub use dead_letters::DeadLetter;
pub use erase::Erased;
pub use error::IndexError;
pub use feed::{FeedAction, FeedEvent, FeedRange, FeedState};
pub use feed_union::{FeedKey, Head};
pub use frames::{FramesLocated, NativeFrames, Pieces};
pub use keys::Found;
pub use link_keys::{LinkKey, LinkSecret};
pub use located::{Located, Presence, Target};
pub use migrate::{AppLogin, app_login, migrate, migrate_for};
pub use non_patient::{Had, NewNonPatient};
pub use operation_view::{Operation, OperationFilter, OperationState};
pub use operations::{
    Claim, Compacting, LEASE, OperationKind, Progress, Purging, Reindexing, UpdateTally, Updating,
    Work,
};
pub use options::DbOptions;
pub use packs::{OneMetadata, PackedPage, Whole};
pub use pictures::PictureRow;
pub use principals::{Member, MemberFilter, NewMember};
pub use query_tags::{KnownTag, NewTag, TagStatus};
pub use registry::Partition;
pub use reindex::Step;
pub use rejection::Rejects;
pub use removal::{Removals, Waiting};
pub use revocations::{NewRevocation, Revocation, RevocationKind};
pub use rows::{Include, RowKey, SearchRow, TagValue};
pub use scrub::{DamageNote, ScrubPass, ScrubWork};
pub use search::{Condition, RequestKey, SearchPlan, SearchTag, TagState, Within};
pub use store::{NewBlob, NewInstance, Stored};
pub use summary::{Extent, Summary};
pub use tag_values::{Derived, Deriver, Source};
pub use tag_view::{QueryTag, TagError};
pub use transfers::{Exported, Exporting, Imported, Importing};
pub use undelete::Tombstone;
pub use update::{Replaced, Revision};
pub use verify::{VerifyFrames, VerifyInstance, VerifyPlace};
pub use verify_blobs::{VerifyBlob, VerifyContent};
pub use verify_feed::{VerifyEvent, VerifyStanding};
pub use verify_parents::{Belonging, VerifySeries, VerifyStudy};
pub use watchers::{GlobalWatch, WatchKind};
pub use webhook_row::{Disabled, Settled, Taken, Webhook, WebhookSecret, WebhookSettings};
pub use workitems::{FoundWorkitem, LockedWorkitem, WorkitemChange, WorkitemWalk};
pub use worklist_events::{LockedSubscriber, OpenChannel, Subscriber, WorkitemEvent};

/// The tables that hold tenants' data: each with row-level security enabled and forced.
pub const TENANT_TABLES: [&str; 44] = [
    "study",
    "study_term",
    "series",
    "series_request",
    "instance",
    "original_instance",
    "composed_blob",
    "blob",
    "blob_removal",
    "instance_metadata",
    "metadata_pack",
    "frame_table",
    "change_feed",
    "deleted_instance",
    "rejection",
    "query_tag",
    "query_tag_value",
    "query_tag_error",
    "operation",
    "blob_compaction",
    "erasure_blob",
    "webhook",
    "webhook_dead_letter",
    "workitem",
    "workitem_subscriber",
    "workitem_global",
    "workitem_subscription",
    "workitem_event",
    "scrub_pass",
    "damage",
    "commitment",
    "non_patient_instance",
    "link_key",
    "pseudonym_key",
    "principal",
    "role",
    "api_key",
    "partition_policy",
    "revocation",
    "audit_event",
    "audit_pending",
    "audit_chain",
    "audit_checkpoint",
    "audit_export",
];

/// Every constant statement on tenant tables, each opening with a comment that names it.
pub fn statements() -> impl Iterator<Item = &'static str> {
    [delete::STATEMENTS, frames::STATEMENTS, parents::STATEMENTS, pictures::STATEMENTS]
        .into_iter()
        .chain([
            access::STATEMENTS,
            api_keys::STATEMENTS,
            principals::STATEMENTS,
            revocations::STATEMENTS,
            audit::STATEMENTS,
            audit_chain::STATEMENTS,
            audit_view::STATEMENTS,
            backfill::STATEMENTS,
            commitment::STATEMENTS,
            compaction::STATEMENTS,
            compaction_queue::STATEMENTS,
            erase::STATEMENTS,
            dead_letters::STATEMENTS,
            feed::STATEMENTS,
            link_keys::STATEMENTS,
            non_patient::STATEMENTS,
            packs::STATEMENTS,
            pseudonym_keys::STATEMENTS,
            removal::STATEMENTS,
            repeat::STATEMENTS,
            retrieve::STATEMENTS,
            scrub::STATEMENTS,
            create::STATEMENTS,
            store::STATEMENTS,
            summary::STATEMENTS,
            operations::STATEMENTS,
            originals::STATEMENTS,
            composed::STATEMENTS,
            query_tags::STATEMENTS,
            reindex::STATEMENTS,
            rejection::STATEMENTS,
            tag_lock::STATEMENTS,
            tag_values::STATEMENTS,
            terms::STATEMENTS,
            transfers::STATEMENTS,
            undelete::STATEMENTS,
            update::STATEMENTS,
            webhooks::STATEMENTS,
            watchers::STATEMENTS,
            workitems::STATEMENTS,
            worklist_events::STATEMENTS,
            verify::STATEMENTS,
            verify_blobs::STATEMENTS,
            verify_feed::STATEMENTS,
            verify_parents::STATEMENTS,
        ])
        .flatten()
        .copied()
}

/// Every constant statement on the tenant tables of several partitions, which takes them as a list.
pub fn scoped_statements() -> impl Iterator<Item = &'static str> {
    [
        access::SCOPED_STATEMENTS,
        feed_union::SCOPED_STATEMENTS,
        operation_view::SCOPED_STATEMENTS,
        removal::SCOPED_STATEMENTS,
        tag_search::SCOPED_STATEMENTS,
        tag_view::SCOPED_STATEMENTS,
        webhooks::SCOPED_STATEMENTS,
        worklist_events::SCOPED_STATEMENTS,
    ]
    .into_iter()
    .flatten()
    .copied()
}

/// The settings under which [`statements`] run.
pub const LOOKUP_SETTINGS: [&str; 7] = lookup::SETTINGS;

/// Every constant statement on the registry.
pub fn registry_statements() -> impl Iterator<Item = &'static str> {
    [registry::STATEMENTS, query_tags::REGISTRY_STATEMENTS, feed_union::REGISTRY_STATEMENTS]
        .into_iter()
        .flatten()
        .copied()
}
