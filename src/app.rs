//! The composition: configuration in, a running server out; and how it ends.
//!
//! The only place that knows every room. Holds: nothing listens before the database is migrated,
//! the log-in is one that cannot break the fence, and the blob store keeps what it promises; the
//! private Postgres is stopped after everything that uses it.

mod auditing;
mod beside;
mod database;
mod exporting;
mod importing;
mod keys;
mod memory;
mod named_place;
mod progress;
mod signals;
mod verifying;

use std::{
    io::Write as _,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use sqlx::postgres::PgConnectOptions;
use tokio::{
    net::TcpListener,
    sync::{Notify, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::{
    archive::{Archive, ToCommit},
    blob::BlobStore,
    config::{BlobKind, Config, DatabaseConfig, LogFormat},
    control::{Access, Aside, AuditLog, Health, Keys, LinkKeys, Members, Partitions, Seats},
    dimse::{self, Gateway, Trust},
    http::{self, App, Edge, Overload, listen},
    identity::{Authenticator, Tls},
    index::{Db, Unchained},
    outbound::Sender,
    telemetry::{self, Metrics},
    workers::{
        self, Audit, AuditExport, Commit, Compact, Feed, Reindex, Remove, Scrub, Sweep, Transfer,
        Update, Webhooks, Worklist,
    },
};

pub use auditing::audit;
pub use exporting::{ExportAsked, export};
pub use importing::{ImportAsked, import};
pub use keys::{KeyAsked, keys};
pub use verifying::verify;

use database::{Database, db_options, login};
use signals::Signals;

/// Longest time between two rounds of the task that removes deleted blobs.
const REMOVE_AT_LEAST_EVERY: Duration = Duration::from_secs(60);

/// Longest time between two rounds of the task that works on operations.
const OPERATIONS_EVERY: Duration = Duration::from_secs(30);

/// Longest time between two rounds of the task that numbers events of change feeds which nobody
/// reads.
const FEED_EVERY: Duration = Duration::from_secs(60);

/// Longest time between two rounds of the task that checks what is to be committed.
const COMMIT_EVERY: Duration = Duration::from_secs(60);

/// Longest time between two rounds of the task that imports and exports.
const TRANSFER_EVERY: Duration = Duration::from_secs(30);

/// Longest time between two looks of the scrubber for passes that are due.
const SCRUB_EVERY: Duration = Duration::from_secs(10 * 60);

/// Longest time between two rounds of the task that removes workitems which have ended.
const WORKLIST_EVERY: Duration = Duration::from_secs(60);

/// Longest time between two rounds of the task that chains the audit log.
const AUDIT_EVERY: Duration = Duration::from_secs(5);

/// A server that answers requests.
pub struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    closing: CancellationToken,
    serving: JoinHandle<listen::Drained>,
    /// The DIMSE gateway: where it listens, and how many connections its end cut off.
    dimse: Option<(SocketAddr, JoinHandle<usize>)>,
    background: Vec<JoinHandle<()>>,
    end: CancellationToken,
    db: Db,
}

impl Server {
    /// Starts a server on an opened database. `owner` is the log-in that migrations run with.
    ///
    /// # Errors
    /// Whatever keeps the server from doing its work, in words for the operator.
    pub async fn start(config: &Config, owner: PgConnectOptions) -> anyhow::Result<Self> {
        choose_cryptography();
        let tls = Tls::load(&config.tls).context("TLS cannot be set up")?;
        let trust = Trust::load(&config.dimse, &config.tls)
            .context("the DIMSE gateway cannot be set up")?;
        let metrics = Metrics::install().context("metrics cannot be recorded")?;
        let app = login(&config.database, owner).await?;
        let mut options = db_options(&config.database, &config.search);
        if !config.features.enable_data_partition {
            options.partition_share = 100;
        }
        let db = Db::open(app, options).await.context("the database cannot be used")?;
        let db = db.weighing(config.partitions.weights.clone());
        let blobs = BlobStore::open(&config.blob, &config.data.dir)
            .context("the blob store cannot be opened")?
            .with_upload_life(config.sweep.orphan_grace / 2);
        blobs.probe().await.context("the blob store cannot be used")?;
        let access = Access::new(db.clone(), &config.auth);
        let partitions =
            Partitions::new(db.clone(), access.clone(), &config.features, &config.partitions);
        claim(&db, &blobs, &partitions).await.context("the blob store cannot be used")?;
        refuse_hidden_data(&partitions).await?;
        let archive = Archive::new(db.clone(), blobs.clone(), config);
        let wake = Wake {
            operations: archive.operations_wake(),
            remove: archive.remove_wake(),
            compact: archive.compact_wake(),
            commit: archive.to_commit(),
            update: archive.update_wake(),
            transfers: archive.transfers_wake(),
        };
        let updated = archive.clone();
        let transfer = Transfer::new(archive.clone(), db.clone(), config);
        let news = archive.webhook_news();
        let sender = Sender::new(&config.webhooks);
        let webhooks =
            Webhooks::new(db.clone(), sender.clone(), &config.webhooks, partitions.enabled());
        let closing = CancellationToken::new();
        let audit =
            AuditLog::new(db.clone(), partitions.clone(), &config.audit, config.auth.enabled);
        let recorded = audit.clone();
        let chained = Unchained::default();
        let export = AuditExport::new(db.clone(), &config.audit, chained.clone())
            .context("the audit log cannot be sent where [audit] says")?;
        let seats = Seats::new(
            &config.overload,
            config.partitions.weights.clone(),
            !config.features.enable_data_partition,
        );
        let aside = Aside::start().context("the threads of Stores cannot be started")?;
        let gateway = Gateway::new(dimse::Parts {
            archive: archive.clone(),
            partitions: partitions.clone(),
            audit: audit.clone(),
            seats: seats.clone(),
            aside: aside.clone(),
            config: config.dimse.clone(),
            limits: config.limits.clone(),
            search: config.search.clone(),
            is_auth_on: config.auth.enabled,
            tls: tls.clone().filter(|_| config.dimse.tls),
            trust,
            closing: closing.clone(),
        });
        let app = App::new(http::Parts {
            archive,
            audit,
            partitions,
            identity: Authenticator::new(&config.auth),
            edge: Edge::new(config, LinkKeys::new(db.clone())),
            overload: Overload::new(&config.overload, seats.clone(), aside.clone()),
            keys: Keys::new(db.clone(), access.clone(), &config.auth),
            members: Members::new(db.clone(), access.clone()),
            access,
            health: Health::new(db.clone(), blobs.clone()),
            server: config.server.clone(),
            tenancy: config.tenancy.clone(),
            limits: config.limits.clone(),
            retrieve: config.retrieve.clone(),
            search: config.search.clone(),
            worklist: config.worklist.clone(),
            change_feed: config.change_feed.clone(),
            import: config.import.clone(),
            export: config.export.clone(),
            deidentify: config.deidentify.clone(),
            sender,
            testing: Default::default(),
            cors: config.cors.clone(),
            metrics: metrics.clone(),
            closing: closing.clone(),
        });
        let listener = TcpListener::bind(config.server.listen)
            .await
            .with_context(|| format!("cannot listen on {}", config.server.listen))?;
        let address = listener.local_addr()?;
        let dimse = match config.dimse.listen {
            Some(address) => {
                let listener = TcpListener::bind(address)
                    .await
                    .with_context(|| format!("cannot listen on {address} (dimse.listen)"))?;
                let address = listener.local_addr()?;
                let serving = dimse::serve(listener, gateway, config.server.drain_timeout);
                Some((address, tokio::spawn(serving)))
            }
            None => None,
        };
        let (stop, mut stopped) = watch::channel(false);
        let router = http::router(app);
        let server = config.server.clone();
        let serving_tls = tls.clone();
        let serving = tokio::spawn(async move {
            let shutdown = async move {
                // The sender is dropped only together with the server.
                let _ = stopped.wait_for(|stop| *stop).await;
            };
            listen::serve(listener, router, &server, serving_tls, shutdown).await
        });
        let end = CancellationToken::new();
        // What another server, or this one before, left undone.
        wake.transfers.notify_one();
        let wake_transfers = wake.transfers.clone();
        let mut background = background(config, &db, &blobs, updated, metrics, wake, &end);
        let (every, end_transfer) = (TRANSFER_EVERY, end.clone());
        background.push(workers::start(transfer, every, wake_transfers, end_transfer));
        background.push(webhooks.start(news, end.clone()));
        background.extend(tls.map(|tls| tokio::spawn(tls.watch(end.clone()))));
        background.push(recorded.start(end.clone()));
        let keeper = Audit::new(db.clone(), &config.audit, export.targets(), chained);
        let wake = keeper.wake();
        background.push(workers::start(keeper, AUDIT_EVERY, wake, end.clone()));
        background.push(export.start(end.clone()));
        Ok(Self { address, stop, closing, serving, dimse, background, end, db })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the DIMSE gateway listens, if there is one.
    pub fn dimse_address(&self) -> Option<SocketAddr> {
        self.dimse.as_ref().map(|(address, _)| *address)
    }

    /// Ends it: what is in flight ends first, within `server.drain_timeout`.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        self.closing.cancel();
        match self.serving.await {
            Ok(drained) if drained.cut_off > 0 => {
                tracing::warn!(connections = drained.cut_off, "cut off at the end of the drain");
            }
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "the serve loop failed"),
        }
        if let Some((_, serving)) = self.dimse {
            match serving.await {
                Ok(0) => {}
                Ok(cut_off) => tracing::warn!(cut_off, "DIMSE connections were cut off"),
                Err(error) => tracing::error!(%error, "the DIMSE gateway failed"),
            }
        }
        self.end.cancel();
        for task in self.background {
            if let Err(error) = task.await {
                tracing::error!(%error, "a background task failed");
            }
        }
        self.db.close().await;
    }
}

/// Makes *ring* the cryptography of TLS in this process, as it is that of the database's connections
/// and of the signatures of requests to object stores. No HTTP client can be made before.
pub fn choose_cryptography() {
    // An error says that it was chosen before.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// What requests notify when there is work for the background.
struct Wake {
    operations: Arc<Notify>,
    remove: Arc<Notify>,
    compact: Arc<Notify>,
    commit: ToCommit,
    update: Arc<Notify>,
    transfers: Arc<Notify>,
}

/// Starts what runs beside requests, until `end`.
fn background(
    config: &Config,
    db: &Db,
    blobs: &BlobStore,
    archive: Archive,
    metrics: Metrics,
    wake: Wake,
    end: &CancellationToken,
) -> Vec<JoinHandle<()>> {
    let upkeep = {
        let end = end.clone();
        tokio::spawn(async move {
            end.run_until_cancelled(metrics.upkeep()).await;
        })
    };
    let sweep = Sweep::new(db.clone(), blobs.clone(), &config.sweep);
    let remove = Remove::new(db.clone(), blobs.clone(), &config.delete);
    let compact = Compact::new(db.clone(), blobs.clone(), &config.compaction);
    let reindex = Reindex::new(db.clone(), &config.operations);
    let update = Update::new(db.clone(), archive);
    let feed = Feed::new(db.clone(), &config.change_feed);
    let worklist = Worklist::new(db.clone(), &config.worklist);
    let wake_commit = wake.commit.wake();
    let (commitment, noted) = (&config.commitment, wake.commit);
    let commit = Commit::new(db.clone(), blobs.clone(), commitment, &config.sweep, noted);
    // What another server, or this one before, left undone.
    wake.operations.notify_one();
    wake.update.notify_one();
    // What is due is removed soon after, however long the rounds of the sweeper are.
    let soon = config.delete.grace_period.clamp(Duration::from_secs(1), REMOVE_AT_LEAST_EVERY);
    let start_remove = soon.min(config.sweep.interval);
    let mut tasks = vec![
        upkeep,
        workers::start(sweep, config.sweep.interval, Arc::default(), end.clone()),
        workers::start(remove, start_remove, wake.remove, end.clone()),
        workers::start(compact, start_remove, wake.compact, end.clone()),
        workers::start(reindex, OPERATIONS_EVERY, wake.operations, end.clone()),
        workers::start(update, OPERATIONS_EVERY, wake.update, end.clone()),
        workers::start(feed, FEED_EVERY, Arc::default(), end.clone()),
        workers::start(commit, COMMIT_EVERY, wake_commit, end.clone()),
        workers::start(worklist, WORKLIST_EVERY, Arc::default(), end.clone()),
    ];
    if !config.scrub.interval.is_zero() {
        let scrub = Scrub::new(db.clone(), blobs.clone(), &config.scrub, &config.sweep);
        tasks.push(workers::start(scrub, SCRUB_EVERY, Arc::default(), end.clone()));
    }
    tasks
}

/// `collimator serve`: returns after a clean drain.
///
/// # Errors
/// Whatever kept the server from starting.
pub fn serve(config: Config) -> anyhow::Result<()> {
    let started = Instant::now();
    memory::keep_some();
    telemetry::logs::init(config.log.format == LogFormat::Json, &config.log.level)?;
    let database = Database::open(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let served = runtime.block_on(async {
        let mut signals = Signals::listen()?;
        let server = tokio::select! {
            server = Server::start(&config, database.owner()?) => server?,
            signal = signals.next() => {
                tracing::info!(signal, "stopped while starting");
                return Ok(());
            }
        };
        tracing::info!(
            address = %server.address(),
            start_ms = started.elapsed().as_millis() as u64,
            "ready"
        );
        greet(&config, &database, &server);
        let signal = signals.next().await;
        tracing::info!(signal, "stopping: requests in flight may end");
        server.stop().await;
        Ok(())
    });
    drop(runtime);
    database.stop();
    served
}

/// `collimator migrate`: brings the schema up to date, and nothing else.
///
/// # Errors
/// Whatever kept the migrations from running.
pub fn migrate(config: Config) -> anyhow::Result<()> {
    telemetry::logs::init(config.log.format == LogFormat::Json, &config.log.level)?;
    let database = Database::open(&config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let migrated = runtime.block_on(async {
        let config = DatabaseConfig { migrate_on_start: true, ..config.database.clone() };
        login(&config, database.owner()?).await
    });
    drop(runtime);
    database.stop();
    migrated?;
    println!("The schema is up to date.");
    Ok(())
}

/// The folder of local blobs.
fn blob_folder(config: &Config) -> Option<PathBuf> {
    let own = || config.data.dir.join("blobs");
    (config.blob.kind == BlobKind::Local).then(|| config.blob.dir.clone().unwrap_or_else(own))
}

/// Makes the blob store this archive's. One that nobody has claimed is only taken while the
/// database holds no instances: otherwise a wrong folder, bucket or prefix would be taken for the
/// archive, which would go on storing beside its own blobs.
async fn claim(db: &Db, blobs: &BlobStore, partitions: &Partitions) -> anyhow::Result<()> {
    let archive_id = db.registry().await?.archive_id().await?;
    // Asked again last: another server may be the first to claim and store while we look.
    if !blobs.is_claimed().await? && partitions.any_in_use().await? && !blobs.is_claimed().await? {
        anyhow::bail!(
            "the database holds instances, but the blob store is empty or not this archive's \
             (its marker is missing): check the keys of [blob] and data.dir"
        );
    }
    Ok(blobs.claim(archive_id).await?)
}

/// Turning partitions off while another one holds data would put that data out of reach.
async fn refuse_hidden_data(partitions: &Partitions) -> anyhow::Result<()> {
    if partitions.enabled() {
        return Ok(());
    }
    if let Some(partition) = partitions.other_in_use().await? {
        anyhow::bail!(
            "features.enable_data_partition is off, but the partition {partition} holds data, \
             which nothing could reach then; turn the feature on"
        );
    }
    Ok(())
}

/// What a newcomer needs to know, on standard output.
fn greet(config: &Config, database: &Database, server: &Server) {
    let address = server.address();
    let dimse = match server.dimse_address() {
        Some(address) => format!("DIMSE            {address}\n  "),
        None => String::new(),
    };
    let base = match &config.server.public_url {
        Some(url) => url.as_str().trim_end_matches('/').to_owned(),
        None if config.tls.is_on() => format!("https://{address}"),
        None => format!("http://{address}"),
    };
    let bucket = &config.blob.bucket;
    let blobs = match config.blob.kind {
        BlobKind::Local => blob_folder(config).unwrap_or_default().display().to_string(),
        BlobKind::S3 => format!("S3 bucket {bucket}"),
        BlobKind::Azure => format!("Azure container {bucket}"),
        BlobKind::Gcs => format!("Google Cloud Storage bucket {bucket}"),
    };
    let index = match database {
        Database::Given(_) => "the Postgres of database.url".to_owned(),
        Database::Private(_) | Database::Attached(_) => {
            format!("{} (private Postgres)", config.data.dir.join("pg").display())
        }
    };
    let (partitions, place) = if config.features.enable_data_partition {
        ("on: /partitions/{id}/studies", "/partitions/clinic1")
    } else {
        ("off: everything is in microsoft.default", "")
    };
    let (authentication, credential) = if config.auth.enabled {
        (format!("on: {}", vouching(config)), "-H \"Authorization: Bearer $TOKEN\" ")
    } else {
        ("OFF: whoever reaches this address reads and deletes everything".to_owned(), "")
    };
    // Whoever started it may have closed the pipe since: that ends no server.
    let _ = writeln!(
        std::io::stdout(),
        "\n  Collimator {version} is ready\n\n  \
         DICOMweb         {base}\n  \
         {dimse}\
         blobs            {blobs}\n  \
         index            {index}\n  \
         partitions       {partitions}\n  \
         authentication   {authentication}\n\n  \
         Store a first file:\n    \
         curl {credential}-H 'Content-Type: application/dicom' --data-binary @image.dcm \
         {base}{place}/studies\n",
        version = env!("CARGO_PKG_VERSION"),
    );
}

/// What can vouch for those who ask, in words.
fn vouching(config: &Config) -> String {
    let names: Vec<&str> = config.auth.issuers.iter().map(|issuer| &*issuer.name).collect();
    let tokens = (!names.is_empty()).then(|| format!("access tokens of {}", names.join(", ")));
    let has_certificates = !config.tls.principals.is_empty();
    let certificates = has_certificates.then(|| "certificates of clients".to_owned());
    tokens.into_iter().chain(certificates).collect::<Vec<_>>().join(", ")
}
