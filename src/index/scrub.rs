//! How far the scrubber is in a partition, and what it found.
//!
//! A pass is a row with a lease, as an operation is: what moves its cursor renews the lease, and who
//! has lost it moves nothing any more. Holds: one pass of a partition is under way at most. Absent:
//! what is looked at (`verify`), when and how fast (the worker).

use std::time::Duration;

use sqlx::Row;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{IndexError, PartitionTx};

/// How long a claim holds without a sign of life.
const LEASE: Duration = Duration::from_secs(60);

const LAST: &str = "-- scrub_last
    SELECT created_at, ended_at IS NULL, cursor::text,
        greatest(extract(epoch FROM lease_until - now()), 0)::float8,
        greatest(extract(epoch FROM created_at - now()) + $2::float8, 0)::float8
    FROM scrub_pass WHERE partition_id = $1 AND created_at > '-infinity'
    ORDER BY created_at DESC LIMIT 1";

const BEGIN: &str = "-- scrub_begin
    INSERT INTO scrub_pass (partition_id, cursor, lease_owner, lease_until)
    VALUES ($1, $2::text::jsonb, $3, now() + make_interval(secs => $4))
    ON CONFLICT DO NOTHING
    RETURNING created_at";

const TAKE: &str = "-- scrub_take
    UPDATE scrub_pass t SET lease_owner = $3, lease_until = now() + make_interval(secs => $4)
    FROM (SELECT ctid AS at FROM scrub_pass
        WHERE partition_id = $1 AND created_at >= $2 AND created_at <= $2
            AND ended_at IS NULL AND (lease_until IS NULL OR lease_until <= now())
        ORDER BY created_at FOR UPDATE) x
    WHERE t.partition_id = $1 AND t.ctid = x.at
    RETURNING t.created_at";

/// The pass of `$2` that is under way and `$3` holds, to be updated.
macro_rules! held {
    () => {
        "
    FROM (SELECT ctid AS at FROM scrub_pass
        WHERE partition_id = $1 AND created_at >= $2 AND created_at <= $2
            AND ended_at IS NULL AND lease_owner = $3
        ORDER BY created_at FOR UPDATE) x
    WHERE t.partition_id = $1 AND t.ctid = x.at
    RETURNING t.created_at"
    };
}

/// `$4`: where it is now; NULL: where it was.
const ADVANCE: &str = concat!(
    "-- scrub_advance
    UPDATE scrub_pass t SET cursor = coalesce($4::text::jsonb, t.cursor),
        lease_until = now() + make_interval(secs => $5)",
    held!()
);

const RELEASE: &str = concat!(
    "-- scrub_release
    UPDATE scrub_pass t SET lease_owner = NULL, lease_until = NULL,
        ended_at = CASE WHEN $4 THEN now() END",
    held!()
);

/// Passes before `$2`.
const FORGET: &str = "-- scrub_forget
    DELETE FROM scrub_pass t
    USING (SELECT ctid AS at FROM scrub_pass WHERE partition_id = $1 AND created_at < $2
        ORDER BY created_at) x
    WHERE t.partition_id = $1 AND t.ctid = x.at";

/// Of what was seen before, and of what was cleared, the finding begins anew.
const NOTE: &str = "-- damage_note
    INSERT INTO damage AS d (partition_id, kind, subject, watermark, blob_id, description)
    SELECT $1, * FROM unnest($2::text[], $3::text[], $4::bigint[], $5::uuid[], $6::text[])
    ON CONFLICT (partition_id, kind, subject) DO UPDATE SET seen_at = now(),
        found_at = CASE WHEN d.cleared_at IS NULL THEN d.found_at ELSE now() END,
        cleared_at = NULL, description = EXCLUDED.description
    RETURNING kind, subject, found_at = seen_at";

const CLEAR: &str = "-- damage_clear
    UPDATE damage t SET cleared_at = now()
    FROM (SELECT ctid AS at FROM damage
        WHERE partition_id = $1 AND cleared_at IS NULL AND seen_at < $2 ORDER BY seen_at) x
    WHERE t.partition_id = $1 AND t.ctid = x.at
    RETURNING t.description";

const DROP: &str = "-- damage_drop
    DELETE FROM damage t
    USING (SELECT ctid AS at FROM damage
        WHERE partition_id = $1 AND cleared_at IS NOT NULL AND cleared_at < $2
        ORDER BY cleared_at) x
    WHERE t.partition_id = $1 AND t.ctid = x.at";

const OPEN: &str = "-- damage_open
    SELECT count(*) FROM (SELECT FROM damage
        WHERE partition_id = $1 AND cleared_at IS NULL AND seen_at > '-infinity'
        ORDER BY seen_at) x";

const ENDED: &str = "-- scrub_ended
    SELECT ended_at FROM scrub_pass
    WHERE partition_id = $1 AND created_at > '-infinity' AND ended_at IS NOT NULL
    ORDER BY created_at DESC LIMIT 1";

pub(super) const STATEMENTS: &[&str] =
    &[LAST, BEGIN, TAKE, ADVANCE, RELEASE, FORGET, NOTE, CLEAR, DROP, OPEN, ENDED];

/// A pass that was claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrubPass {
    begun: OffsetDateTime,
    owner: Uuid,
    /// Where to go on, as it was kept.
    pub cursor: String,
}

/// What there is to do in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScrubWork {
    /// This pass.
    Now(ScrubPass),
    /// Nothing, for as long.
    Later(Duration),
}

/// Something that is damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamageNote {
    /// The kind of damage.
    pub kind: &'static str,
    /// What it is about: of one kind and subject there is one row.
    pub subject: String,
    /// The instance.
    pub watermark: Option<i64>,
    /// The blob.
    pub blob: Option<Uuid>,
    /// For people.
    pub description: String,
}

impl PartitionTx {
    /// Claims the pass that is under way and nobody works on, or a new one where the last began
    /// `interval` ago. `first` is where a pass begins.
    ///
    /// # Errors
    /// [`IndexError`]. Nothing is claimed before [`PartitionTx::commit`].
    pub async fn scrub_claim(
        &mut self,
        owner: Uuid,
        interval: Duration,
        first: &str,
    ) -> Result<ScrubWork, IndexError> {
        let (query, conn) = self.statement(LAST);
        let last = query.bind(interval.as_secs_f64()).fetch_optional(conn).await?;
        if let Some(row) = last {
            let begun: OffsetDateTime = row.try_get(0)?;
            let (leased, due): (Option<f64>, f64) = (row.try_get(3)?, row.try_get(4)?);
            if row.try_get(1)? {
                let cursor = row.try_get(2)?;
                if let Some(leased) = leased.filter(|leased| *leased > 0.0) {
                    return Ok(ScrubWork::Later(Duration::from_secs_f64(leased)));
                }
                let (query, conn) = self.statement(TAKE);
                let query = query.bind(begun).bind(owner).bind(LEASE.as_secs_f64());
                return Ok(match query.fetch_optional(conn).await? {
                    Some(_) => ScrubWork::Now(ScrubPass { begun, owner, cursor }),
                    None => ScrubWork::Later(LEASE),
                });
            }
            if due > 0.0 {
                return Ok(ScrubWork::Later(Duration::from_secs_f64(due)));
            }
            let (query, conn) = self.statement(FORGET);
            query.bind(begun).execute(conn).await?;
        }
        let (query, conn) = self.statement(BEGIN);
        let query = query.bind(first).bind(owner).bind(LEASE.as_secs_f64());
        Ok(match query.fetch_optional(conn).await? {
            Some(row) => {
                let (begun, cursor) = (row.try_get(0)?, first.to_owned());
                ScrubWork::Now(ScrubPass { begun, owner, cursor })
            }
            None => ScrubWork::Later(LEASE),
        })
    }

    /// Renews the lease of a pass, and notes where it is. False: the lease was lost, and the
    /// transaction must not be committed.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn scrub_advance(
        &mut self,
        pass: &ScrubPass,
        cursor: Option<&str>,
    ) -> Result<bool, IndexError> {
        let (query, conn) = self.statement(ADVANCE);
        let query = query.bind(pass.begun).bind(pass.owner).bind(cursor);
        Ok(query.bind(LEASE.as_secs_f64()).fetch_optional(conn).await?.is_some())
    }

    /// Lets others go on with a pass, or ends it: damage that it did not see is cleared then, and
    /// told. `None`: the lease was lost.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn scrub_release(
        &mut self,
        pass: &ScrubPass,
        is_ended: bool,
    ) -> Result<Option<Vec<String>>, IndexError> {
        let (query, conn) = self.statement(RELEASE);
        let query = query.bind(pass.begun).bind(pass.owner).bind(is_ended);
        if query.fetch_optional(conn).await?.is_none() {
            return Ok(None);
        }
        if !is_ended {
            return Ok(Some(Vec::new()));
        }
        let (query, conn) = self.statement(DROP);
        query.bind(pass.begun).execute(conn).await?;
        let (query, conn) = self.statement(CLEAR);
        let rows = query.bind(pass.begun).fetch_all(conn).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect::<Result<_, _>>().map(Some)
    }

    /// Notes damage, of which no two are of one kind and subject; says of which it was not known.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn damage_note(
        &mut self,
        damage: &[DamageNote],
    ) -> Result<Vec<(String, String)>, IndexError> {
        let kinds: Vec<&str> = damage.iter().map(|one| one.kind).collect();
        let subjects: Vec<&str> = damage.iter().map(|one| one.subject.as_str()).collect();
        let watermarks: Vec<Option<i64>> = damage.iter().map(|one| one.watermark).collect();
        let blobs: Vec<Option<Uuid>> = damage.iter().map(|one| one.blob).collect();
        let texts: Vec<&str> = damage.iter().map(|one| one.description.as_str()).collect();
        let (query, conn) = self.statement(NOTE);
        let query = query.bind(kinds).bind(subjects).bind(watermarks).bind(blobs).bind(texts);
        let mut new = Vec::new();
        for row in query.fetch_all(conn).await? {
            if row.try_get(2)? {
                new.push((row.try_get(0)?, row.try_get(1)?));
            }
        }
        Ok(new)
    }

    /// When the scrubber last ended a pass, and how much damage it knows.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn scrub_state(&mut self) -> Result<(Option<OffsetDateTime>, i64), IndexError> {
        let (query, conn) = self.statement(ENDED);
        let row = query.fetch_optional(conn).await?;
        let ended = row.map(|row| row.try_get(0)).transpose()?;
        let (query, conn) = self.statement(OPEN);
        Ok((ended, query.fetch_one(conn).await?.try_get(0)?))
    }
}
