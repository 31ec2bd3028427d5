//! The sender of the audit log: hands each partition's events to receivers in the order of its chain.
//!
//! How far a receiver was sent a partition's log is a row, and who sends holds it by a lease. What was
//! handed over is noted afterwards, so that a server that dies in between leaves events to be sent
//! again: at least once, with their numbers to tell. A receiver that does not take them is tried again
//! after a growing wait; nobody waits for it but retention.

use std::{
    collections::BTreeSet,
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use rand::RngExt;
use serde_json::json;
use tokio::{
    sync::Mutex,
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{WorkerError, audit::with_platform, back_off};
use crate::{
    audit::{Event, Hash, Link, Outcome, message, syslog},
    config::AuditConfig,
    index::{AuditLink, Db, Unchained},
    outbound::{Syslog, SyslogError},
    telemetry::names,
    tenancy::{PartitionId, Scope},
};

/// Events sent at a time, at most; fewer after a failure, so that a receiver that hangs up halfway
/// gets on all the same.
const BATCH: i64 = 200;
/// How long who sends holds a partition's log without a sign of life.
const LEASE: Duration = Duration::from_secs(45);
/// Time between two looks at all partitions.
const ALL_EVERY: Duration = Duration::from_secs(30);
/// Wait after a failure, doubled with each further one, and at most.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_CAP: Duration = Duration::from_secs(60);

/// Why a receiver was not sent what there is.
#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error(transparent)]
    Index(#[from] WorkerError),
    #[error("the receiver did not take it")]
    Receiver(#[from] io::Error),
}

impl From<crate::index::IndexError> for ExportError {
    fn from(error: crate::index::IndexError) -> Self {
        Self::Index(error.into())
    }
}

/// Where the log goes.
enum Target {
    /// A file, or standard output.
    Lines(Option<PathBuf>),
    Syslog {
        receiver: Box<Mutex<Syslog>>,
        source: String,
        host: String,
    },
}

impl Target {
    /// The name of its position.
    fn name(&self) -> &'static str {
        match self {
            Self::Lines(_) => "lines",
            Self::Syslog { .. } => "syslog",
        }
    }

    /// Hands over events of one partition.
    async fn send(&self, id: &PartitionId, links: &[AuditLink]) -> io::Result<()> {
        match self {
            Self::Lines(path) => {
                let (text, path): (String, _) = (links.iter().map(line).collect(), path.clone());
                let written = tokio::task::spawn_blocking(move || match path {
                    Some(path) => append(&path, &text),
                    None => {
                        let mut out = io::stdout().lock();
                        out.write_all(text.as_bytes())?;
                        out.flush()
                    }
                });
                written.await.map_err(io::Error::other)?
            }
            Self::Syslog { receiver, source, host } => {
                let mut frames = Vec::new();
                for link in links {
                    frames.extend_from_slice(&frame(id, link, source, host));
                }
                receiver.lock().await.send(&frames).await
            }
        }
    }
}

/// An event as a line: its place in the chain, and its record as it is kept.
fn line(link: &AuditLink) -> String {
    let hash: String = link.hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let record = link.kept.as_ref().map_or("null", |kept| &kept.record);
    format!("{{\"number\":{},\"hash\":\"{hash}\",\"event\":{record}}}\n", link.number)
}

/// Adds lines to a file, and has them on the disk. What a write left half-done before is ended first,
/// so that it spoils no line but itself. (By `std`, whose errors are those of the write: a file of
/// tokio tells of them later, or to nobody.)
fn append(path: &Path, text: &str) -> io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o640);
    let mut file = options.open(path)?;
    let kept = file.metadata()?;
    if kept.is_file() && kept.len() > 0 {
        let (mut before, mut last) = (std::fs::File::open(path)?, [0]);
        before.seek(io::SeekFrom::End(-1))?;
        before.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    file.write_all(text.as_bytes())?;
    file.sync_data()
}

/// An event of a partition as a message of DICOM in a frame of syslog; one that cannot be read, as
/// what it is.
fn frame(id: &PartitionId, link: &AuditLink, source: &str, host: &str) -> Vec<u8> {
    let read = link.kept.as_ref().and_then(|kept| Event::read(&kept.record).ok());
    let event = read.unwrap_or_else(|| {
        let now = time::OffsetDateTime::now_utc();
        let mut event = Event::by_server("audit.damaged", id, now);
        event.outcome = Outcome::Failed;
        event.detail.insert("event".to_owned(), json!(link.event));
        event
    });
    let hash = Hash::try_from(link.hash.as_slice()).unwrap_or_default();
    let text = message::message(&event, &Link { number: link.number, hash }, source);
    let severity = match event.outcome {
        Outcome::Success => syslog::Severity::Notice,
        Outcome::Refused | Outcome::Failed => syslog::Severity::Warning,
    };
    syslog::frame(severity, event.at, host, std::process::id(), &text)
}

/// Sends the log to receivers.
pub struct AuditExport {
    db: Db,
    targets: Vec<Target>,
    chained: Unchained,
    owner: Uuid,
}

impl AuditExport {
    /// A sender by `[audit]`, which is told by `chained` where there is something to send.
    ///
    /// # Errors
    /// Where a receiver of the configuration cannot be set up.
    pub fn new(db: Db, config: &AuditConfig, chained: Unchained) -> Result<Self, SyslogError> {
        let mut targets = Vec::new();
        if let Some(lines) = &config.lines {
            targets.push(Target::Lines((lines != "stdout").then(|| PathBuf::from(lines))));
        }
        if let Some(receiver) = Syslog::of(config)? {
            let host = std::env::var("HOSTNAME").unwrap_or_default();
            let (receiver, source) = (Box::new(Mutex::new(receiver)), config.source.clone());
            targets.push(Target::Syslog { receiver, source, host });
        }
        Ok(Self { db, targets, chained, owner: Uuid::new_v4() })
    }

    /// The names of the receivers.
    pub fn targets(&self) -> Vec<&'static str> {
        self.targets.iter().map(Target::name).collect()
    }

    /// Starts sending, until `end`. Each receiver is sent to by itself.
    pub fn start(self, end: CancellationToken) -> JoinHandle<()> {
        tokio::spawn(async move {
            if self.targets.is_empty() {
                return;
            }
            end.run_until_cancelled(self.run()).await;
        })
    }

    async fn run(self) {
        let (woken, _) = tokio::sync::broadcast::channel::<Vec<PartitionId>>(64);
        let senders =
            self.targets.iter().map(|target| self.keep_sending(target, woken.subscribe()));
        let all = futures::future::join_all(senders);
        let relay = async {
            let wake = self.chained.wake();
            loop {
                wake.notified().await;
                // Nobody listens only at the end.
                let _ = woken.send(Vec::from_iter(self.chained.take()));
            }
        };
        tokio::join!(all, async {
            let _: std::convert::Infallible = relay.await;
        });
    }

    async fn keep_sending(
        &self,
        target: &Target,
        mut woken: tokio::sync::broadcast::Receiver<Vec<PartitionId>>,
    ) {
        let (mut failures, mut all_at, mut batch) = (0, Instant::now(), BATCH);
        let mut due: BTreeSet<PartitionId> = BTreeSet::new();
        loop {
            if Instant::now() >= all_at {
                match with_platform(&self.db).await {
                    Ok(all) => due.extend(all),
                    Err(error) => tracing::warn!(%error, "the audit log cannot be sent"),
                }
                all_at = Instant::now() + ALL_EVERY;
            }
            let mut wait = all_at.saturating_duration_since(Instant::now());
            while let Some(id) = due.first().cloned() {
                match self.send(target, &id, batch).await {
                    Ok(()) => {
                        (failures, batch) = (0, (batch * 2).min(BATCH));
                        due.remove(&id);
                    }
                    Err(error) => {
                        (failures, batch) = (failures + 1, (batch / 4).max(1));
                        let kind = target.name();
                        metrics::counter!(names::AUDIT_EXPORT_FAILED, names::KIND => kind)
                            .increment(1);
                        let cause = std::error::Error::source(&error).map(ToString::to_string);
                        tracing::warn!(target = kind, %error, cause, "the audit log was not sent");
                        wait = back_off(RETRY_FIRST, failures, RETRY_CAP)
                            .mul_f64(rand::rng().random_range(0.9..1.1));
                        break;
                    }
                }
            }
            if failures > 0 {
                tokio::time::sleep(wait).await;
            } else if let Ok(told) = timeout(wait, woken.recv()).await {
                // What was missed is found when all are looked at.
                due.extend(told.unwrap_or_default());
            }
            while let Ok(more) = woken.try_recv() {
                due.extend(more);
            }
        }
    }

    /// Sends what there is of one partition, unless another server does.
    async fn send(&self, target: &Target, id: &PartitionId, batch: i64) -> Result<(), ExportError> {
        #[expect(clippy::disallowed_methods, reason = "a background task")]
        let scope = Scope::for_maintenance(id);
        let name = target.name();
        let mut tx = self.db.begin_in(&scope).await?;
        // Looked at first: most have nothing to send.
        let at = tx.audit_export_position(name).await?;
        if tx.audit_links(at, 1).await?.is_empty() {
            return Ok(());
        }
        let claimed = tx.audit_export_claim(name, self.owner, LEASE).await?;
        tx.commit().await?;
        let Some(mut at) = claimed else { return Ok(()) };
        loop {
            let links = self.db.begin_in(&scope).await?.audit_links(at, batch).await?;
            let sent = match links.last() {
                Some(last) => target.send(id, &links).await.map(|()| last.number),
                None => Ok(at),
            };
            // Who has nothing more to send, or cannot, lets others.
            let goes_on = sent.is_ok() && links.len() as i64 == batch;
            let lease = if goes_on { LEASE } else { Duration::ZERO };
            at = *sent.as_ref().unwrap_or(&at);
            let mut tx = self.db.begin_in(&scope).await?;
            let is_held = tx.audit_export_move(name, self.owner, at, lease).await?;
            tx.commit().await?;
            sent?;
            metrics::counter!(names::AUDIT_EXPORTED, names::KIND => name)
                .increment(links.len() as u64);
            if !goes_on || !is_held {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_begin_where_a_torn_one_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        for text in ["1\n2\n", "3\n"] {
            append(&path, text).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n2\n3\n");
        std::fs::write(&path, "1\n2\n{\"num").unwrap();
        append(&path, "2\n3\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n2\n{\"num\n2\n3\n");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_disk_that_is_full_is_told_of() {
        let error = append(Path::new("/dev/full"), "1\n").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn a_damaged_event_is_one_of_its_partition() {
        let id: PartitionId = "clinic1".parse().unwrap();
        let link = AuditLink { number: 7, hash: vec![0; 32], event: Uuid::nil(), kept: None };
        let text = String::from_utf8(frame(&id, &link, "collimator", "host")).unwrap();
        assert!(text.contains("AuditEnterpriseSiteID=\"clinic1\""), "{text}");
        assert!(text.contains("audit.damaged"), "{text}");
    }
}
