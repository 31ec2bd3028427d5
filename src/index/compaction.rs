//! Compaction: what lives of a blob that is mostly dead moves to a new one.
//!
//! What is **kept** of a blob are its live instances and the deleted ones that can still come back.
//! A compaction is planned in one transaction ([`PartitionTx::compaction_plan`]), which queues the
//! new blob for removal before a byte of it is written: a server that dies leaves nothing unknown.
//! The bytes are copied outside of any. Another transaction ([`PartitionTx::compaction_commit`])
//! moves the rows and takes the new blob off the queue, if still exactly what was copied is to be
//! kept; the old one is queued, due once requests that know the old place have ended.
//!
//! Holds: both happen under the lock of the blob, in the order of locks of all who write
//! (`parents`), so that no instance is deleted, erased or brought back halfway. Absent: bytes (the
//! worker).

use std::{collections::BTreeMap, time::Duration};

use sqlx::Row;
use uuid::Uuid;

use super::{
    Composed, IndexError, PartitionTx,
    composed::is_composed,
    located::{bigint, size},
    lookup::one,
    operations::back_off,
    rejection::HIDDEN_FROM,
    removal::{ATTEMPTS, RETRY_CAP, RETRY_FIRST},
};

/// Locks a blob that is live; answers its length.
pub(super) const LOCK: &str = concat!(
    "-- compaction_lock
    SELECT b.length FROM ",
    one!("length", "blob", "blob_id", "$2", "FOR UPDATE"),
    " b"
);

const LOCK_DEAD: &str = concat!(
    "-- compaction_lock_dead
    SELECT b.length, b.attempts, b.moved_to FROM ",
    one!("length, attempts, moved_to", "blob_removal", "blob_id", "$2", "FOR UPDATE"),
    " b"
);

const CLAIM: &str = concat!(
    "-- compaction_claim
    UPDATE blob_compaction t SET due_at = now() + make_interval(secs => $3),
        attempts = t.attempts + 1
    WHERE t.partition_id = $1 AND t.due_at <= now() AND t.ctid = ",
    one!("ctid", "blob_compaction", "blob_id", "$2"),
    "
    RETURNING t.is_wanted, t.into_blob_id, t.attempts"
);

const INTO: &str = concat!(
    "-- compaction_into
    UPDATE blob_compaction t SET into_blob_id = $3 WHERE t.partition_id = $1 AND t.ctid = ",
    one!("ctid", "blob_compaction", "blob_id", "$2")
);

const LIVE: &str = concat!(
    "-- compaction_live
    SELECT i.watermark, i.blob_offset, i.length, i.sha256, NULL::float8 FROM ",
    one!("*", "instance", "blob_id", "$2"),
    " i"
);

/// First versions of live instances.
const ORIGINALS: &str = concat!(
    "-- compaction_originals
    SELECT o.watermark, o.blob_offset, o.length, o.sha256, NULL::float8 FROM ",
    one!("*", "original_instance", "blob_id", "$2"),
    " o"
);

/// (What was erased has no place any more.)
const RESTORABLE: &str = concat!(
    "-- compaction_restorable
    SELECT d.watermark, d.blob_offset, d.length, d.sha256,
        extract(epoch FROM d.restorable_until - now())::float8 FROM ",
    one!("*", "deleted_instance", "blob_id", "$2"),
    " d
    WHERE d.restorable_until > now() AND d.length > 0"
);

const MOVE_ORIGINAL: &str = concat!(
    "-- compaction_move_original
    UPDATE original_instance t SET blob_id = $2, blob_offset = n.place
    FROM unnest($3::bigint[], $4::bigint[]) AS n(key, place) CROSS JOIN LATERAL ",
    one!("ctid AS at", "original_instance", "watermark", "n.key"),
    " x
    WHERE t.partition_id = $1 AND t.ctid = x.at"
);

/// Blobs that are about to be written, until rows name them.
pub(super) const QUEUE: &str = "-- compaction_queue
    INSERT INTO blob_removal (partition_id, blob_id, due_at, length)
    SELECT $1, n.key, now() + make_interval(secs => $3), $4::bigint
    FROM unnest($2::uuid[]) AS n(key)";

const QUEUED: &str = concat!(
    "-- compaction_queued
    UPDATE blob_removal t SET due_at = CASE WHEN t.attempts = 0 THEN now() ELSE t.due_at END
    WHERE t.partition_id = $1 AND t.ctid = ",
    one!("ctid", "blob_removal", "blob_id", "$2")
);

/// Takes blobs off the queue that nobody has claimed.
pub(super) const UNQUEUE: &str = concat!(
    "-- compaction_unqueue
    DELETE FROM blob_removal t USING unnest($2::uuid[]) AS n(key) CROSS JOIN LATERAL ",
    one!("ctid AS at", "blob_removal", "blob_id", "n.key"),
    " x
    WHERE t.partition_id = $1 AND t.attempts = 0 AND t.moved_to IS NULL AND t.ctid = x.at
    RETURNING t.length"
);

const MOVE: &str = concat!(
    "-- compaction_move
    UPDATE instance t SET blob_id = $2, blob_offset = n.place
    FROM unnest($3::bigint[], $4::bigint[]) AS n(key, place) CROSS JOIN LATERAL ",
    one!("ctid AS at", "instance", "watermark", "n.key"),
    " x
    WHERE t.partition_id = $1 AND t.ctid = x.at"
);

const MOVE_DEAD: &str = concat!(
    "-- compaction_move_dead
    UPDATE deleted_instance t SET blob_id = $2, blob_offset = n.place
    FROM unnest($3::bigint[], $4::bigint[]) AS n(key, place) CROSS JOIN LATERAL ",
    one!("ctid AS at", "deleted_instance", "watermark", "n.key"),
    " x
    WHERE t.partition_id = $1 AND t.ctid = x.at"
);

const CREATE: &str = "-- compaction_create
    INSERT INTO blob (partition_id, blob_id, length) VALUES ($1, $2, $3)";

const REMOVE: &str = concat!(
    "-- compaction_remove
    DELETE FROM blob t WHERE t.partition_id = $1 AND t.ctid = ",
    one!("ctid", "blob", "blob_id", "$2")
);

const REPLACED: &str = "-- compaction_replaced
    INSERT INTO blob_removal (partition_id, blob_id, due_at, length, moved_to)
    VALUES ($1, $2, now() + make_interval(secs => $3), $4, $5)
    ON CONFLICT (partition_id, blob_id) DO UPDATE SET due_at = EXCLUDED.due_at,
        moved_to = EXCLUDED.moved_to";

/// What was replaced before by what is replaced now.
const MOVED_ON: &str = concat!(
    "-- compaction_moved_on
    UPDATE blob_removal t SET moved_to = $3
    FROM ",
    one!("ctid AS at", "blob_removal", "moved_to", "$2"),
    " x
    WHERE t.partition_id = $1 AND t.ctid = x.at"
);

/// No erasure has to wait for a blob that holds nothing of what was erased.
const FREE: &str = concat!(
    "-- compaction_free
    DELETE FROM erasure_blob t USING ",
    one!("ctid AS at", "erasure_blob", "blob_id", "$2"),
    " x
    WHERE t.partition_id = $1 AND t.ctid = x.at"
);

pub(super) const STATEMENTS: &[&str] = &[
    LOCK,
    LOCK_DEAD,
    CLAIM,
    INTO,
    LIVE,
    ORIGINALS,
    RESTORABLE,
    QUEUE,
    QUEUED,
    UNQUEUE,
    MOVE,
    MOVE_ORIGINAL,
    MOVE_DEAD,
    CREATE,
    REMOVE,
    REPLACED,
    MOVED_ON,
    FREE,
];

/// Time for copying one blob, after which the copy is removed if it is not named.
const LIFE: Duration = Duration::from_secs(60 * 60);
/// Wait for a copy that came to nothing to leave the store.
const LEFTOVER: Duration = Duration::from_secs(15);

/// When a blob is worth rewriting.
#[derive(Clone, Copy, Debug)]
pub struct CompactionRule {
    /// From this share of dead bytes on, above 0 and up to 1.
    pub dead_share: f64,
    /// From this many dead bytes on.
    pub min_bytes: u64,
}

/// A file that is kept of a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// First byte in the old blob.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// SHA-256 of them.
    pub sha256: Vec<u8>,
}

/// What is to be copied: the files, one after the other, in the order given.
#[derive(Clone, Debug)]
pub struct CompactionPlan {
    /// The old blob.
    pub from: Uuid,
    /// The new blob.
    pub into: Uuid,
    /// What is kept, ascending by offset, without gaps in the new blob.
    pub kept: Vec<Kept>,
    /// What the old blob is made of, where it is a composed one: of what is kept all is copied.
    pub composed: Option<Composed>,
    /// Whether an erasure waits.
    pub is_wanted: bool,
    attempts: i32,
}

impl CompactionPlan {
    /// Bytes of the new blob.
    pub fn length(&self) -> u64 {
        self.kept.iter().map(|kept| kept.length).sum()
    }
}

/// What came of looking at a blob.
#[derive(Clone, Debug)]
pub enum Planned {
    /// It is to be rewritten.
    Copy(CompactionPlan),
    /// It is not (yet).
    Nothing,
}

/// What rows say of a blob.
struct Content {
    /// Watermarks of live instances, with their offsets.
    live: Vec<(i64, u64)>,
    /// Watermarks of first versions of live instances, with their offsets.
    originals: Vec<(i64, u64)>,
    /// Watermarks of those that can come back, with their offsets.
    restorable: Vec<(i64, u64)>,
    /// Time until the first of them, but for what notes hide, and the last one cannot any more.
    first: Option<f64>,
    last: Option<f64>,
    kept: BTreeMap<u64, Kept>,
}

impl Content {
    /// Whether notes hide something of it: so it stays, whatever else is dead.
    fn has_hidden(&self) -> bool {
        self.last.is_some_and(|wait| wait >= HIDDEN_FROM)
    }
}

/// The state of the blob that a compaction holds.
enum Held {
    /// With live instances; its length.
    Live(i64),
    /// Awaiting removal, which nobody has begun.
    Dead(Option<i64>),
    /// Gone, going, or replaced.
    Gone,
}

impl PartitionTx {
    /// Looks at a blob, and says what is to be copied if it is to be rewritten. Commit before
    /// copying.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn compaction_plan(
        &mut self,
        blob: Uuid,
        rule: CompactionRule,
    ) -> Result<Planned, IndexError> {
        let held = self.compaction_hold(blob).await?;
        let (query, conn) = self.statement(CLAIM);
        let query = query.bind(blob).bind(RETRY_FIRST.as_secs_f64());
        let Some(row) = query.fetch_optional(conn).await? else { return Ok(Planned::Nothing) };
        let (is_wanted, leftover): (bool, Option<Uuid>) = (row.try_get(0)?, row.try_get(1)?);
        let attempts: i32 = row.try_get(2)?;
        if let Some(leftover) = leftover
            && self.compaction_leftover(leftover).await?
        {
            // It may hold what was erased since: it must be gone before another is begun.
            self.compaction_wait(blob, LEFTOVER, None, true).await?;
            return Ok(Planned::Nothing);
        }
        let content = self.compaction_content(blob).await?;
        let length = match held {
            Held::Live(length) => length,
            Held::Dead(length)
                if content.has_hidden() || (is_wanted && !content.kept.is_empty()) =>
            {
                length.unwrap_or(0)
            }
            Held::Dead(_) => {
                if is_wanted {
                    let (query, conn) = self.statement(QUEUED);
                    query.bind(blob).execute(conn).await?;
                }
                self.compaction_drop(blob).await?;
                return Ok(Planned::Nothing);
            }
            Held::Gone => {
                self.compaction_drop(blob).await?;
                return Ok(Planned::Nothing);
            }
        };
        let kept: Vec<Kept> = content.kept.into_values().collect();
        let total: u64 = kept.iter().map(|kept| kept.length).sum();
        let dead = u64::try_from(length).unwrap_or(0).saturating_sub(total);
        let share = dead as f64 / (length.max(1)) as f64;
        let is_worth = dead >= rule.min_bytes.max(1) && share >= rule.dead_share;
        if !is_wanted && !is_worth {
            match content.first {
                Some(wait) => {
                    let wait = Duration::from_secs_f64(wait.max(0.0));
                    self.compaction_wait(blob, wait, None, true).await?;
                }
                None => self.compaction_drop(blob).await?,
            }
            return Ok(Planned::Nothing);
        }
        let into = Uuid::new_v4();
        let (query, conn) = self.statement(QUEUE);
        let query = query.bind([into]).bind(LIFE.as_secs_f64()).bind(bigint(total));
        query.execute(conn).await?;
        let (query, conn) = self.statement(INTO);
        query.bind(blob).bind(into).execute(conn).await?;
        let composed = match is_composed(blob) {
            false => None,
            true => self.composed(&[blob]).await?.remove(&blob),
        };
        Ok(Planned::Copy(CompactionPlan { from: blob, into, kept, composed, is_wanted, attempts }))
    }

    /// Moves the rows to the new blob, which is durable; the old one leaves after `linger`. `false`:
    /// what is to be kept is not what was copied any more; nothing was moved, and the transaction
    /// is to be left without a commit.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn compaction_commit(
        &mut self,
        plan: &CompactionPlan,
        linger: Duration,
    ) -> Result<bool, IndexError> {
        let length = match self.compaction_hold(plan.from).await? {
            Held::Live(length) => Some(length),
            Held::Dead(length) => length,
            Held::Gone => return Ok(false),
        };
        let (query, conn) = self.statement(UNQUEUE);
        if query.bind([plan.into]).fetch_optional(conn).await?.is_none() {
            return Ok(false);
        }
        let content = self.compaction_content(plan.from).await?;
        if !content.kept.values().eq(&plan.kept) {
            return Ok(false);
        }
        let mut places: BTreeMap<u64, i64> = BTreeMap::new();
        let mut at = 0;
        for kept in &plan.kept {
            places.insert(kept.offset, bigint(at));
            at += kept.length;
        }
        for (sql, rows) in [
            (MOVE, &content.live),
            (MOVE_ORIGINAL, &content.originals),
            (MOVE_DEAD, &content.restorable),
        ] {
            let (watermarks, new): (Vec<i64>, Vec<i64>) = rows
                .iter()
                .filter_map(|(watermark, offset)| Some((*watermark, *places.get(offset)?)))
                .unzip();
            let (query, conn) = self.statement(sql);
            query.bind(plan.into).bind(watermarks).bind(new).execute(conn).await?;
        }
        let is_dead = content.live.is_empty() && content.originals.is_empty();
        if is_dead {
            let wait = content.last.unwrap_or(0.0).max(0.0);
            let (query, conn) = self.statement(QUEUE);
            query.bind([plan.into]).bind(wait).bind(bigint(at)).execute(conn).await?;
        } else {
            let (query, conn) = self.statement(CREATE);
            query.bind(plan.into).bind(bigint(at)).execute(conn).await?;
        }
        let (query, conn) = self.statement(REMOVE);
        query.bind(plan.from).execute(conn).await?;
        let (query, conn) = self.statement(REPLACED);
        let query = query.bind(plan.from).bind(linger.as_secs_f64()).bind(length);
        query.bind(plan.into).execute(conn).await?;
        let (query, conn) = self.statement(MOVED_ON);
        query.bind(plan.from).bind(plan.into).execute(conn).await?;
        let (query, conn) = self.statement(FREE);
        query.bind(plan.into).execute(conn).await?;
        self.compaction_drop(plan.from).await?;
        // What can come back and does not is dead one day, and stays where there is something else.
        if let Some(wait) = content.first {
            self.compaction_look(&[plan.into], Duration::from_secs_f64(wait.max(0.0))).await?;
        }
        Ok(true)
    }

    /// A compaction came to nothing, for a reason that tells nothing of anybody (none: what was to
    /// be kept changed meanwhile). The copy is removed, and another one is tried later. Says
    /// whether it counts as failed now.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn compaction_failed(
        &mut self,
        plan: &CompactionPlan,
        error: Option<&str>,
    ) -> Result<bool, IndexError> {
        let wait = match error {
            Some(_) => back_off(RETRY_FIRST, plan.attempts.saturating_sub(1), RETRY_CAP),
            None => LEFTOVER,
        };
        if !self.compaction_wait(plan.from, wait, error, error.is_none()).await? {
            // It was committed after all: the copy is no leftover.
            return Ok(false);
        }
        self.compaction_leftover(plan.into).await?;
        Ok(error.is_some() && plan.attempts == ATTEMPTS)
    }

    /// Locks a blob, live or awaiting removal.
    async fn compaction_hold(&mut self, blob: Uuid) -> Result<Held, IndexError> {
        let (query, conn) = self.statement(LOCK);
        if let Some(row) = query.bind(blob).fetch_optional(conn).await? {
            return Ok(Held::Live(row.try_get(0)?));
        }
        let (query, conn) = self.statement(LOCK_DEAD);
        let Some(row) = query.bind(blob).fetch_optional(conn).await? else { return Ok(Held::Gone) };
        let (attempts, moved): (i32, Option<Uuid>) = (row.try_get(1)?, row.try_get(2)?);
        if attempts > 0 || moved.is_some() {
            return Ok(Held::Gone);
        }
        Ok(Held::Dead(row.try_get(0)?))
    }

    async fn compaction_content(&mut self, blob: Uuid) -> Result<Content, IndexError> {
        let mut content = Content {
            live: Vec::new(),
            originals: Vec::new(),
            restorable: Vec::new(),
            first: None,
            last: None,
            kept: BTreeMap::new(),
        };
        for (sql, table) in
            [(LIVE, "instance"), (ORIGINALS, "original_instance"), (RESTORABLE, "deleted_instance")]
        {
            let (query, conn) = self.statement(sql);
            for row in query.bind(blob).fetch_all(conn).await? {
                let offset = size(&row, 1, table, "blob_offset")?;
                let length = size(&row, 2, table, "length")?;
                let entry = (row.try_get(0)?, offset);
                match table {
                    "instance" => content.live.push(entry),
                    "original_instance" => content.originals.push(entry),
                    _ => content.restorable.push(entry),
                }
                if let Some(wait) = row.try_get::<Option<f64>, _>(4)? {
                    // What a note hides dies when it is let go, and is looked at then.
                    if wait < HIDDEN_FROM {
                        content.first = Some(content.first.map_or(wait, |first| first.min(wait)));
                    }
                    content.last = Some(content.last.map_or(wait, |last| last.max(wait)));
                }
                content.kept.insert(offset, Kept { offset, length, sha256: row.try_get(3)? });
            }
        }
        Ok(content)
    }

    /// Makes a copy that nothing names due for removal; says whether it is there still.
    async fn compaction_leftover(&mut self, blob: Uuid) -> Result<bool, IndexError> {
        let (query, conn) = self.statement(QUEUED);
        Ok(query.bind(blob).execute(conn).await?.rows_affected() > 0)
    }
}
