//! Rejection notes in force, and what they hide.
//!
//! What a note names is hidden as if it were deleted: its rows go, with counts and events, and a
//! tombstone says where its bytes are (`delete`), which stay until the note goes. So nothing that
//! searches or retrieves has to know of notes. Of an instance that has not come yet the note's row
//! waits; what comes then is stored and hidden in one transaction. Holds: who applies a note has the
//! stores of the partition to himself
//! ([`Db::begin_rejecting`](super::Db::begin_rejecting)), so that each instance is either seen by
//! who applies the note or sees the note itself; what is hidden is named by a note in force, and is let
//! go with the last of them.
//!
//! Absent: what titles do (`archive`); bringing back what no note hides any more (`undelete`).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use sqlx::{Row, postgres::PgRow};
use uuid::Uuid;

use super::{
    IndexError, NewInstance, PartitionTx, Target, Tombstone,
    delete::{BLOB_LOCK, Victims},
    erase::LOCK_DEAD,
    located::{size, uid},
    lookup::{one, study_uid_of_i},
};
use crate::dicom::{RejectionTitle, Uid};

/// How long what is hidden can come back: seven thousand five hundred years.
const FOR_EVER: Duration = Duration::from_secs(7_500 * 365 * 24 * 3600);

/// From here on, in seconds, a time until something cannot come back is that of something hidden.
pub(super) const HIDDEN_FROM: f64 = 1_000.0 * 365.0 * 24.0 * 3600.0;

/// Of a tombstone: whether it is hidden by a note, and was not let go.
macro_rules! is_hidden {
    ($of:literal) => {
        concat!($of, ".restorable_until > '9000-01-01'")
    };
}
pub(super) use is_hidden;

/// What somebody hid before stays what it was.
const NOTE: &str = concat!(
    "-- rejection_note
    INSERT INTO rejection (partition_id, sop_instance_uid, note_uid, title, watermark)
    SELECT $1, n.uid, $3, $4, (SELECT max(r.watermark) FROM ",
    one!("watermark", "rejection", "sop_instance_uid", "n.uid"),
    " r)
    FROM unnest($2::text[]) AS n(uid)
    ON CONFLICT (partition_id, sop_instance_uid, note_uid) DO NOTHING"
);

const LIVE: &str = concat!(
    "-- rejection_live
    SELECT ",
    study_uid_of_i!(),
    ", i.watermark FROM unnest($2::text[]) AS n(uid) CROSS JOIN LATERAL ",
    one!("watermark, study_key", "instance", "sop_instance_uid", "n.uid"),
    " i"
);

const VICTIMS: &str = concat!(
    "-- rejection_victims
    SELECT i.watermark, i.study_key, i.series_key, i.blob_id, i.sop_instance_uid
    FROM unnest($2::bigint[]) AS n(key) CROSS JOIN LATERAL ",
    one!("*", "instance", "watermark", "n.key"),
    " i"
);

const MARK: &str = concat!(
    "-- rejection_mark
    UPDATE rejection t SET watermark = n.watermark
    FROM unnest($2::text[], $3::bigint[]) AS n(uid, watermark) CROSS JOIN LATERAL ",
    one!("ctid AS at", "rejection", "sop_instance_uid", "n.uid"),
    " x
    WHERE t.partition_id = $1 AND t.ctid = x.at"
);

/// What is hidden of study `$2`. `$3` and `$4` narrow to a series, an instance.
const HIDDEN: &str = concat!(
    "-- rejection_hidden
    SELECT d.watermark, d.blob_id, d.version_of IS NOT NULL FROM ",
    one!("*", "deleted_instance", "study_instance_uid", "$2"),
    " d
    WHERE ",
    is_hidden!("d"),
    " AND ($3::text IS NULL OR d.series_instance_uid = $3)
        AND ($4::text IS NULL OR d.sop_instance_uid = $4)"
);

/// What is hidden of some versions and of those that were versions of them.
const HIDDEN_OF: &str = concat!(
    "-- rejection_hidden_of
    SELECT d.watermark, d.blob_id, d.version_of IS NOT NULL
    FROM unnest($2::bigint[]) AS n(key) CROSS JOIN LATERAL (
        SELECT * FROM ",
    one!("*", "deleted_instance", "watermark", "n.key"),
    " a UNION ALL SELECT * FROM ",
    one!("*", "deleted_instance", "version_of", "n.key"),
    " b) d
    WHERE ",
    is_hidden!("d")
);

/// `$3` seconds from now it cannot come back; NULL: it cannot. What was erased or brought back since
/// it was looked for stays as it is.
const LET_GO: &str = concat!(
    "-- rejection_let_go
    UPDATE deleted_instance t SET restorable_until = now() + make_interval(secs => $3)
    FROM unnest($2::bigint[]) AS n(key) CROSS JOIN LATERAL ",
    one!("ctid AS at", "deleted_instance", "watermark", "n.key"),
    " x
    WHERE t.partition_id = $1 AND t.ctid = x.at AND ",
    is_hidden!("t"),
    "
    RETURNING t.blob_id"
);

/// Blobs without a live instance leave when the last of theirs cannot come back.
const DUE: &str = concat!(
    "-- rejection_due
    UPDATE blob_removal t SET due_at = greatest(now(), (SELECT max(d.restorable_until) FROM ",
    one!("restorable_until", "deleted_instance", "blob_id", "n.key"),
    " d))
    FROM unnest($2::uuid[]) AS n(key) CROSS JOIN LATERAL ",
    one!("ctid AS at, attempts, moved_to", "blob_removal", "blob_id", "n.key"),
    " x
    WHERE t.partition_id = $1 AND t.ctid = x.at AND x.attempts = 0 AND x.moved_to IS NULL"
);

const LIFT: &str = concat!(
    "-- rejection_lift
    DELETE FROM rejection t
    USING unnest($2::text[]) AS n(uid) CROSS JOIN LATERAL ",
    one!("ctid AS at", "rejection", "sop_instance_uid", "n.uid"),
    " x
    WHERE t.partition_id = $1 AND t.ctid = x.at AND ($3::text IS NULL OR t.note_uid = $3)"
);

/// Whether a note is in force.
const IS_NOTE: &str = "-- rejection_is_note
    SELECT 1 FROM rejection
    WHERE partition_id = $1 AND note_uid >= $2 AND note_uid <= $2
    ORDER BY note_uid LIMIT 1";

/// What note `$2` names after `$3`, and of what it alone hides the tombstone.
const PAGE: &str = concat!(
    "-- rejection_page
    SELECT r.sop_instance_uid, d.watermark, d.study_instance_uid, d.series_instance_uid, d.blob_id,
        d.blob_offset, d.length, d.sha256, d.received_sha256
    FROM (SELECT * FROM rejection
        WHERE partition_id = $1 AND note_uid <= $2 AND (note_uid, sop_instance_uid) > ($2, $3)
        ORDER BY note_uid, sop_instance_uid LIMIT $4) r
    LEFT JOIN LATERAL (SELECT * FROM ",
    one!("*", "deleted_instance", "watermark", "r.watermark"),
    " h WHERE ",
    is_hidden!("h"),
    " AND NOT EXISTS (SELECT FROM ",
    one!("note_uid", "rejection", "sop_instance_uid", "r.sop_instance_uid"),
    " o WHERE o.note_uid <> $2)) d ON true"
);

/// Ends a note.
const END: &str = concat!(
    "-- rejection_end
    DELETE FROM rejection t
    USING ",
    one!("ctid AS at", "rejection", "note_uid", "$2"),
    " x
    WHERE t.partition_id = $1 AND t.ctid = x.at
    RETURNING t.sop_instance_uid, t.watermark"
);

/// Which instances some note names.
const NAMED: &str = concat!(
    "-- rejection_named
    SELECT r.sop_instance_uid FROM unnest($2::text[]) AS n(uid) CROSS JOIN LATERAL ",
    one!("sop_instance_uid", "rejection", "sop_instance_uid", "n.uid"),
    " r"
);

pub(super) const STATEMENTS: &[&str] =
    &[NOTE, LIVE, VICTIMS, MARK, HIDDEN, HIDDEN_OF, LET_GO, DUE, LIFT, IS_NOTE, PAGE, END, NAMED];

/// What a note does that is stored.
#[derive(Clone, Copy, Debug)]
pub struct Rejects<'a> {
    /// Its title.
    pub title: RejectionTitle,
    /// SOP Instance UIDs of what it names.
    pub rejected: &'a [Uid],
    /// They are deleted, and can come back for this long; `None`: they are hidden.
    pub deletes: Option<Duration>,
}

/// How it stands with an instance that notes name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// Whether it came, and was hidden.
    pub(super) was_hidden: bool,
    /// Whether all notes say no more than that its time was over.
    pub(super) may_return: bool,
}

impl Standing {
    /// That of one note.
    pub(super) fn of(title: &str, was_hidden: bool) -> Self {
        Self { was_hidden, may_return: title == RejectionTitle::RetentionExpired.code() }
    }

    /// That of both.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            was_hidden: self.was_hidden || other.was_hidden,
            may_return: self.may_return && other.may_return,
        }
    }
}

/// Tombstones whose bytes are kept for a note.
#[derive(Default)]
struct Hidden {
    /// Of instances, and of earlier versions of them.
    all: Vec<i64>,
    /// Of instances.
    instances: Vec<i64>,
    blobs: Vec<Uuid>,
}

impl Hidden {
    fn read(rows: &[PgRow]) -> Result<Self, IndexError> {
        let (mut it, mut blobs) = (Self::default(), BTreeSet::new());
        for row in rows {
            let watermark = row.try_get(0)?;
            it.all.push(watermark);
            blobs.insert(row.try_get(1)?);
            if !row.try_get::<bool, _>(2)? {
                it.instances.push(watermark);
            }
        }
        it.blobs = blobs.into_iter().collect();
        Ok(it)
    }
}

impl PartitionTx {
    /// Applies notes that were stored, and hides `arrived`, which other notes name.
    pub(super) async fn notes_apply(
        &mut self,
        notes: &[&NewInstance<'_>],
        arrived: Vec<String>,
    ) -> Result<(), IndexError> {
        let mut hidden: BTreeSet<String> = arrived.into_iter().collect();
        for note in notes {
            let Some(rejects) = note.rejects else { continue };
            let named: Vec<&str> = rejects.rejected.iter().map(|uid| uid.as_str()).collect();
            if let Some(grace) = rejects.deletes {
                self.hide(named, grace).await?;
                continue;
            }
            let (query, conn) = self.statement(NOTE);
            let query = query.bind(&named).bind(note.indexed.instance.as_str());
            query.bind(rejects.title.code()).execute(conn).await?;
            hidden.extend(named.into_iter().map(str::to_owned));
        }
        if hidden.is_empty() {
            return Ok(());
        }
        self.hide(hidden.iter().map(String::as_str).collect(), FOR_EVER).await
    }

    /// Deletes those of some instances that are live. With [`FOR_EVER`] they are marked as hidden.
    async fn hide(&mut self, uids: Vec<&str>, grace: Duration) -> Result<(), IndexError> {
        let (query, conn) = self.statement(LIVE);
        let rows = query.bind(uids).fetch_all(conn).await?;
        let (mut studies, mut watermarks) = (BTreeSet::new(), Vec::with_capacity(rows.len()));
        for row in &rows {
            studies.insert(uid(row, 0, "study", "study_instance_uid")?);
            watermarks.push(row.try_get::<i64, _>(1)?);
        }
        if watermarks.is_empty() {
            return Ok(());
        }
        let mut keys: BTreeMap<i64, Uid> = BTreeMap::new();
        for study in studies {
            keys.extend(self.study_lock(&study).await?.map(|key| (key, study)));
        }
        watermarks.sort_unstable();
        let (query, conn) = self.statement(VICTIMS);
        let rows = query.bind(&watermarks).fetch_all(conn).await?;
        let mut all: BTreeMap<i64, Victims> = BTreeMap::new();
        let (mut uids, mut hidden): (Vec<String>, Vec<i64>) = (Vec::new(), Vec::new());
        for row in &rows {
            let (watermark, study_key): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
            let victims = all.entry(study_key).or_insert_with(|| Victims::none_of(study_key));
            victims.watermarks.push(watermark);
            victims.series.push(row.try_get(2)?);
            victims.blobs.push(row.try_get(3)?);
            uids.push(row.try_get(4)?);
            hidden.push(watermark);
        }
        let mut blobs: BTreeSet<Uuid> = BTreeSet::new();
        for victims in all.values_mut() {
            self.victims_complete(victims).await?;
            blobs.extend(&victims.blobs);
        }
        let blobs: Vec<Uuid> = blobs.into_iter().collect();
        self.blobs_lock(&blobs).await?;
        for (key, victims) in &all {
            // An update moved it to a study that was not locked, since it was looked for.
            let Some(study) = keys.get(key) else { return Err(IndexError::Busy) };
            self.bury(victims, study, grace).await?;
        }
        if grace < FOR_EVER {
            return self.blobs_settle(&blobs, grace).await;
        }
        self.blobs_queue(&blobs, Duration::ZERO).await?;
        let (query, conn) = self.statement(MARK);
        query.bind(uids).bind(hidden).execute(conn).await?;
        Ok(())
    }

    /// Lets what is hidden of a target go, as if it were deleted now: it can come back for `grace`,
    /// if no note names it then. Says which instances.
    pub(super) async fn hidden_let_go(
        &mut self,
        target: &Target,
        grace: Duration,
    ) -> Result<Vec<i64>, IndexError> {
        let (query, conn) = self.statement(HIDDEN);
        let query = query
            .bind(target.study().as_str())
            .bind(target.series().map(|uid| uid.as_str()))
            .bind(target.instance().map(|uid| uid.as_str()));
        let hidden = Hidden::read(&query.fetch_all(conn).await?)?;
        self.let_go(hidden, Some(grace)).await
    }

    async fn hidden_of(&mut self, watermarks: Vec<i64>) -> Result<Hidden, IndexError> {
        let (query, conn) = self.statement(HIDDEN_OF);
        Hidden::read(&query.bind(watermarks).fetch_all(conn).await?)
    }

    async fn let_go(
        &mut self,
        hidden: Hidden,
        grace: Option<Duration>,
    ) -> Result<Vec<i64>, IndexError> {
        let Hidden { all, instances, blobs } = hidden;
        if all.is_empty() {
            return Ok(instances);
        }
        for sql in [BLOB_LOCK, LOCK_DEAD] {
            let (query, conn) = self.statement(sql);
            query.bind(&blobs).execute(conn).await?;
        }
        let (query, conn) = self.statement(LET_GO);
        let query = query.bind(&all).bind(grace.map(|grace| grace.as_secs_f64()));
        let rows = query.fetch_all(conn).await?;
        let mut is_moved = rows.len() < all.len();
        for row in &rows {
            is_moved |= blobs.binary_search(&row.try_get(0)?).is_err();
        }
        if is_moved {
            // Moved, erased or brought back between the look and the lock.
            return Err(IndexError::Busy);
        }
        let (query, conn) = self.statement(DUE);
        query.bind(&blobs).execute(conn).await?;
        self.compaction_look(&blobs, grace.unwrap_or_default()).await?;
        Ok(instances)
    }

    /// Forgets what notes say of instances that came again, and lets go what was hidden of them.
    pub(super) async fn rejections_lift(
        &mut self,
        uids: &[&str],
        hidden: Vec<i64>,
    ) -> Result<(), IndexError> {
        let (query, conn) = self.statement(LIFT);
        query.bind(uids).bind(None::<&str>).execute(conn).await?;
        let hidden = self.hidden_of(hidden).await?;
        self.let_go(hidden, None).await?;
        Ok(())
    }

    /// Forgets what one note says of instances.
    pub(super) async fn rejection_revoke(
        &mut self,
        note: &Uid,
        uids: &[&str],
    ) -> Result<(), IndexError> {
        let (query, conn) = self.statement(LIFT);
        query.bind(uids).bind(note.as_str()).execute(conn).await?;
        Ok(())
    }

    /// Whether an instance is a note in force.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn rejection_is_note(&mut self, note: &Uid) -> Result<bool, IndexError> {
        let (query, conn) = self.statement(IS_NOTE);
        Ok(query.bind(note.as_str()).fetch_optional(conn).await?.is_some())
    }

    /// Of what a note names, after an instance: what it alone hides, with its study. The second part
    /// says where to go on, if there may be more.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn rejection_page(
        &mut self,
        note: &Uid,
        after: Option<&str>,
        limit: i64,
    ) -> Result<(Vec<(Uid, Tombstone)>, Option<String>), IndexError> {
        const TABLE: &str = "deleted_instance";
        let (query, conn) = self.statement(PAGE);
        let query = query.bind(note.as_str()).bind(after.unwrap_or("")).bind(limit);
        let rows = query.fetch_all(conn).await?;
        let mut page = Vec::new();
        for row in &rows {
            let Some(watermark) = row.try_get(1)? else { continue };
            let tombstone = Tombstone {
                watermark,
                series: uid(row, 3, TABLE, "series_instance_uid")?,
                instance: uid(row, 0, "rejection", "sop_instance_uid")?,
                blob: row.try_get(4)?,
                offset: size(row, 5, TABLE, "blob_offset")?,
                length: size(row, 6, TABLE, "length")?,
                sha256: row.try_get(7)?,
                received: row.try_get(8)?,
                is_restorable: true,
                is_live: false,
                is_rejected: false,
            };
            page.push((uid(row, 2, TABLE, "study_instance_uid")?, tombstone));
        }
        let last: Option<String> = rows.last().map(|row| row.try_get(0)).transpose()?;
        Ok((page, last.filter(|_| rows.len() as i64 >= limit)))
    }

    /// Ends a note: what it still hides, and alone, is let go, as if it were deleted now. That may
    /// be `damaged` versions and no others. Of a transaction of
    /// [`Db::begin_rejecting`](super::Db::begin_rejecting).
    ///
    /// # Errors
    /// [`IndexError::Busy`] where it hides others, which came after those were read: the transaction is
    /// not to be committed.
    pub async fn rejection_end(
        &mut self,
        note: &Uid,
        damaged: &[i64],
        grace: Duration,
    ) -> Result<(), IndexError> {
        let (query, conn) = self.statement(END);
        let rows = query.bind(note.as_str()).fetch_all(conn).await?;
        let mut ended: HashMap<String, i64> = HashMap::new();
        for row in &rows {
            if let Some(watermark) = row.try_get(1)? {
                ended.insert(row.try_get(0)?, watermark);
            }
        }
        let uids: Vec<&str> = ended.keys().map(String::as_str).collect();
        let (query, conn) = self.statement(NAMED);
        for row in query.bind(uids).fetch_all(conn).await? {
            ended.remove(row.try_get::<&str, _>(0)?);
        }
        let hidden = self.hidden_of(ended.into_values().collect()).await?;
        let damaged: BTreeSet<i64> = damaged.iter().copied().collect();
        if hidden.instances.iter().any(|watermark| !damaged.contains(watermark)) {
            return Err(IndexError::Busy);
        }
        self.let_go(hidden, Some(grace)).await?;
        Ok(())
    }
}
