//! The data plane: Store, Retrieve, Search, Delete, Undelete, the change feed and the worklist, free
//! of transport.
//!
//! Owns the order of things that makes the archive safe: a blob is durable before its rows are
//! committed, a transaction has ended before the first byte of an answer leaves, and every call
//! takes a scope that somebody had to be given. Absent: HTTP, SQL, paths of blobs.

mod blob_reads;
mod bulk;
mod changes;
mod chunks;
mod codec_pool;
mod coerce;
mod commitment;
mod copied;
mod corrections;
mod deeds;
mod deidentify;
mod delete;
mod error;
mod feed;
mod feed_entry;
mod feed_watch;
mod frames;
mod gallery;
mod given;
mod handed;
mod hash;
mod header_cache;
mod image;
mod metadata;
mod non_patient;
mod operations;
mod outgoing;
mod part;
mod picture;
mod pixels;
mod presentation;
mod query_tags;
mod rejection;
mod repeated;
mod resent;
mod retrieve;
mod runs;
mod search;
mod splice;
mod staged;
mod store;
mod stored;
mod streams;
mod thumbnails;
mod transcode;
mod transfers;
mod undelete;
mod update;
mod uploads;
mod wanted;
mod webhooks;
mod worklist;
mod writer;

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::Notify;

use blob_reads::BlobReads;
pub use bulk::{Bulk, BulkValues, Values};
pub use chunks::Chunks;
pub use codec_pool::{CodecPool, Reserved};
pub use commitment::{CommitmentRefusal, Committed, ToCommit};
pub use corrections::{Corrected, MOST_MERGED, Patient};
pub use deidentify::Deidentified;
pub use error::ArchiveError;
pub use feed::{Feed, FeedQuery, FeedReader, FeedScope, FeedTimes, Renew, Told};
pub use feed_entry::{EntryStyle, entry};
pub use feed_watch::Followed;
pub use frames::Frames;
pub use gallery::{Exhibit, Gallery, Shows};
pub use given::GivenFrames;
pub use handed::{Coming, Handed};
pub use hash::hash;
pub use image::Image;
pub use metadata::{BulkBase, Document, Metadata};
pub use non_patient::{NonPatientMetadata, NonPatientSink};
pub use operations::Canceled;
pub use outgoing::{Leaving, Outgoing};
pub use part::PartSink;
pub use picture::{Kind, RENDERING, Rendering};
pub use pixels::{Decoded, Given};
pub use presentation::Shot;
pub use query_tags::{TagRefusal, TagScope};
pub use rejection::{MayReject, Undecided};
pub use retrieve::{InstanceHead, Instances, Version};
pub use search::{
    Extended, Filter, NonPatientPage, NonPatientQuery, NonPatientUrl, RetrieveUrl, Returned,
    SearchPage, Source,
};
pub use staged::{NoRoom, Staged};
pub use store::{Failed, FailureReason, Outcome, StoreSession, Stored};
pub use transfers::{TooMany, TransferOf};
pub use undelete::{Kept, Undeleted, WhyNot};
pub use update::{Correction, MOST_STUDIES, Updated};
pub use uploads::NoMemory;
pub use wanted::{Encoding, Wanted};
pub use webhooks::{LetterRest, WebhookHealth, WebhookNews, WebhookRefusal, WebhookStart};
pub use worklist::{
    CancelRequested, EventChannel, FoundWorkitems, Subscribed, Telling, WatchFilter, Watched,
    WorkitemRefusal, WorkitemsWanted,
};

pub use crate::index::{
    Condition, DeadLetter, Extent, FeedAction, FeedEvent, FeedState, NewTag, Operation,
    OperationFilter, OperationKind, OperationState, QueryTag, Reference, Removals, RequestKey,
    SearchPlan, SearchRow, SearchTag, TagError, TagState, TagStatus, Target, WebhookSecret,
    WebhookSettings, Within,
};
use crate::{
    blob::BlobStore,
    config::{
        CommitmentConfig, Config, DeidentifyConfig, DeleteConfig, LimitsConfig, OperationsConfig,
        QueryTagsConfig, RetrieveConfig, SearchConfig, StoreConfig, WebhooksConfig, WorklistConfig,
    },
    dicom::Limits,
    index::{Db, Presence, RowKey},
    tenancy::PartitionScope,
};

/// A stream of body bytes. An error in the middle means that the answer cannot be completed.
pub type ByteStream = futures::stream::BoxStream<'static, Result<bytes::Bytes, ArchiveError>>;

/// The archive: rows in the index, bytes in the blob store. Cheap to clone.
#[derive(Clone)]
pub struct Archive(Arc<Parts>);

struct Parts {
    db: Db,
    blobs: BlobStore,
    writers: writer::Writers,
    budget: store::Budget,
    uploads: uploads::Uploads,
    limits: LimitsConfig,
    store: StoreConfig,
    retrieve: RetrieveConfig,
    search: SearchConfig,
    delete: DeleteConfig,
    rejection: rejection::Policy,
    query_tags: QueryTagsConfig,
    operations: OperationsConfig,
    wake_operations: Arc<Notify>,
    wake_remove: Arc<Notify>,
    wake_compact: Arc<Notify>,
    wake_update: Arc<Notify>,
    /// How long what was replaced stays for those who read it.
    linger: Duration,
    wake_transfers: Arc<Notify>,
    webhooks: WebhooksConfig,
    commitment: CommitmentConfig,
    to_commit: ToCommit,
    webhook_news: Arc<WebhookNews>,
    worklist: WorklistConfig,
    deidentify: DeidentifyConfig,
    codecs: CodecPool,
    ahead: runs::Ahead,
    composed: blob_reads::Places,
    headers: header_cache::HeaderCache,
    places: search::Places<RowKey>,
    turns: search::Turns,
    thumbnails: thumbnails::Thumbnails,
    feed_closed: feed::Closed,
    feed_watch: feed_watch::Watch,
    event_channels: worklist::Channels,
}

/// A stream whose first bytes are there: what cannot be read at all is known before an answer
/// begins.
///
/// # Errors
/// That of the first bytes.
pub async fn opened(mut stream: ByteStream) -> Result<ByteStream, ArchiveError> {
    let first = stream.try_next().await?;
    Ok(stream::iter(first.map(Ok)).chain(stream).boxed())
}

impl Archive {
    /// An archive over an opened index and blob store.
    pub fn new(db: Db, blobs: BlobStore, config: &Config) -> Self {
        let Config { limits, store, retrieve, search, delete, query_tags, operations, .. } =
            config.clone();
        let rejection = rejection::Policy::new(config);
        let writers = writer::Writers::new(db.clone(), blobs.clone(), &store, rejection.clone());
        let budget = store::Budget::new(store.buffer_bytes);
        let uploads = uploads::Uploads::new(config);
        let codecs = CodecPool::new(&retrieve);
        let headers = header_cache::HeaderCache::default();
        let places = search::Places::default();
        let turns = search::Turns::default();
        let thumbnails = thumbnails::Thumbnails::new(retrieve.thumbnail_cache);
        let feed_watch = feed_watch::Watch::new(db.clone());
        let event_channels = worklist::Channels::new(db.clone());
        Self(Arc::new(Parts {
            db,
            blobs,
            writers,
            budget,
            uploads,
            limits,
            store,
            retrieve,
            search,
            delete,
            rejection,
            query_tags,
            operations,
            wake_operations: Arc::default(),
            wake_remove: Arc::default(),
            wake_compact: Arc::default(),
            wake_update: Arc::default(),
            linger: config.compaction.linger,
            wake_transfers: Arc::default(),
            webhooks: config.webhooks.clone(),
            commitment: config.commitment.clone(),
            to_commit: ToCommit::default(),
            webhook_news: Arc::default(),
            worklist: config.worklist.clone(),
            deidentify: config.deidentify.clone(),
            codecs,
            ahead: runs::Ahead::default(),
            composed: blob_reads::Places::default(),
            headers,
            places,
            turns,
            thumbnails,
            feed_closed: feed::Closed::default(),
            feed_watch,
            event_channels,
        }))
    }

    /// What is notified when there is something to reindex.
    pub fn operations_wake(&self) -> Arc<Notify> {
        self.0.wake_operations.clone()
    }

    /// What is notified when there is something to remove at once.
    pub fn remove_wake(&self) -> Arc<Notify> {
        self.0.wake_remove.clone()
    }

    /// What is notified when there is something to rewrite at once.
    pub fn compact_wake(&self) -> Arc<Notify> {
        self.0.wake_compact.clone()
    }

    /// What is notified when there is something to update.
    pub fn update_wake(&self) -> Arc<Notify> {
        self.0.wake_update.clone()
    }

    /// Whether a Store may begin in a partition, or too much is held for those that have begun.
    ///
    /// # Errors
    /// What has no room: the partition, or all of them.
    pub fn room_for_store(&self, scope: &PartitionScope) -> Result<(), NoMemory> {
        self.0.uploads.has_room(scope.partition())
    }

    /// Makes sure that a target is there, before anything else is said about the request.
    ///
    /// # Errors
    /// [`ArchiveError::NotFound`], [`ArchiveError::Gone`].
    pub async fn require(
        &self,
        scope: &PartitionScope,
        target: &Target,
    ) -> Result<(), ArchiveError> {
        match self.0.db.begin_in(scope).await?.presence(target).await? {
            Presence::Live => Ok(()),
            Presence::Deleted => Err(ArchiveError::Gone),
            Presence::Absent => Err(ArchiveError::NotFound),
        }
    }

    /// The blobs of a partition, to be read where rows say.
    fn blob_reads(&self, scope: &PartitionScope) -> BlobReads {
        let blobs = self.0.blobs.within(scope.partition());
        let (db, places) = (self.0.db.clone(), self.0.composed.clone());
        BlobReads { blobs, db, scope: scope.clone(), places }
    }

    fn dicom_limits(&self) -> Limits {
        self.0.limits.parsing()
    }

    /// Length from which a binary value is bulk, in bytes.
    fn bulk_threshold(&self) -> u32 {
        u32::try_from(self.0.limits.bulk_threshold).unwrap_or(u32::MAX)
    }
}
