//! Webhooks: who is told of a partition's changes, and how far he was told.
//!
//! A webhook remembers the last sequence of the feed that its receiver was told of. Who sends holds
//! it by a lease; what a message is made of is written down before it is sent, and that it was
//! delivered afterwards, so that a server which dies in between leaves the same message to be sent
//! again. Holds: a row, and its dead letters, change only in a transaction that has locked the row
//! ([`PartitionTx::webhook_lock`]), so that rows are found again by place.
//!
//! Absent: sending (`outbound`), when and what (`workers`), what was given up (`dead_letters`).

use std::{collections::BTreeSet, time::Duration};

use sqlx::{Row, postgres::PgRow};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    Db, Disabled, IndexError, PartitionTx, ScopedTx, Settled, Taken, Webhook, WebhookSecret,
    WebhookSettings,
    feed::PATIENCE,
    lookup::one,
    registry, tag_lock,
    webhook_row::{read, words},
};
use crate::tenancy::{PartitionId, PartitionScope};

/// First key of the lock of who adds webhooks to a partition.
const OF_PARTITION: i32 = 0x5748_4B00;

/// How long who sends holds a webhook without a sign of life.
const LEASE: Duration = Duration::from_secs(10);

macro_rules! select {
    ($name:literal, $also:literal, $condition:literal) => {
        concat!(
            "-- ",
            $name,
            "
    SELECT webhook_id, url, description, actions, is_enabled, disabled_because, secret,
        CASE WHEN old_secret_until > now() THEN old_secret END, old_secret_until, revision, cursor,
        batch_until, attempts, first_attempt_at, next_attempt_at, next_attempt_at <= now(),
        dead_in_row, lost, last_success_at, last_failure_at, last_failure, last_status,
        CASE WHEN lease_until > now() THEN lease_owner END, created_at, updated_at",
            $also,
            "
    FROM webhook w WHERE partition_id = $1 AND ",
            $condition
        )
    };
}

/// As [`select`], with how many dead letters there are.
macro_rules! counted {
    ($name:literal, $condition:literal) => {
        select!(
            $name,
            ", (SELECT count(*) FROM webhook_dead_letter d
            WHERE d.partition_id = $1 AND d.webhook_id = w.webhook_id AND d.last_sequence > 0)",
            $condition
        )
    };
}

const GET: &str =
    counted!("webhook_get", "webhook_id >= $2 AND webhook_id <= $2 ORDER BY webhook_id");

const LOCK: &str = select!(
    "webhook_lock",
    "",
    "webhook_id >= $2 AND webhook_id <= $2 ORDER BY webhook_id FOR UPDATE"
);

const LIST: &str = counted!(
    "webhook_list",
    "created_at > '-infinity' ORDER BY created_at, webhook_id LIMIT $2 OFFSET $3"
);

const COUNT: &str = "-- webhook_count
    SELECT count(*) FROM webhook WHERE partition_id = $1 AND created_at > '-infinity'";

const CREATE: &str = "-- webhook_create
    INSERT INTO webhook (partition_id, webhook_id, url, description, actions, secret, cursor)
    VALUES ($1, $2, $3, $4, $5, $6, $7)";

/// What was asked for begins anew: with the message that was being tried, at once.
const CHANGE: &str = concat!(
    "-- webhook_change
    UPDATE webhook t SET url = $3, description = $4, actions = $5, is_enabled = $6,
        disabled_because = CASE WHEN $6 THEN NULL ELSE coalesce(t.disabled_because, 'request') END,
        revision = t.revision + CASE WHEN t.actions = $5 THEN 0 ELSE 1 END,
        attempts = 0, first_attempt_at = NULL, next_attempt_at = now(),
        dead_in_row = CASE WHEN $6 AND NOT t.is_enabled THEN 0 ELSE t.dead_in_row END,
        updated_at = now()
    WHERE t.partition_id = $1 AND t.ctid = ",
    one!("ctid", "webhook", "webhook_id", "$2")
);

const ROTATE: &str = concat!(
    "-- webhook_rotate
    UPDATE webhook t SET secret = $3, old_secret = t.secret,
        old_secret_until = now() + make_interval(secs => $4), updated_at = now()
    WHERE t.partition_id = $1 AND t.ctid = ",
    one!("ctid", "webhook", "webhook_id", "$2"),
    "
    RETURNING t.old_secret_until"
);

const REMOVE: &str = concat!(
    "-- webhook_remove
    DELETE FROM webhook t WHERE t.partition_id = $1 AND t.ctid = ",
    one!("ctid", "webhook", "webhook_id", "$2")
);

/// A message keeps the time of its first try, also while a dead letter is sent; what is left of one
/// whose events have gone is another one.
const TAKE: &str = concat!(
    "-- webhook_take
    UPDATE webhook t SET cursor = $3, batch_until = $4, attempts = $5, lost = $6,
        old_secret = CASE WHEN t.old_secret_until > now() THEN t.old_secret END,
        first_attempt_at = CASE
            WHEN $5 > 1 OR ($5 = t.attempts AND $4::bigint = t.batch_until) THEN t.first_attempt_at
            WHEN $4 IS NOT NULL THEN now() END,
        lease_owner = $7, lease_until = now() + make_interval(secs => $8)
    WHERE t.partition_id = $1 AND t.ctid = ",
    one!("ctid", "webhook", "webhook_id", "$2")
);

const RENEW: &str = concat!(
    "-- webhook_renew
    UPDATE webhook t SET lease_until = now() + make_interval(secs => $4)
    WHERE t.partition_id = $1 AND t.lease_owner = $3 AND t.ctid = ",
    one!("ctid", "webhook", "webhook_id", "$2")
);

const RELEASE: &str = concat!(
    "-- webhook_release
    UPDATE webhook t SET lease_owner = NULL, lease_until = NULL
    WHERE t.partition_id = $1 AND t.lease_owner = $3 AND t.ctid = ",
    one!("ctid", "webhook", "webhook_id", "$2")
);

const SETTLE: &str = concat!(
    "-- webhook_settle
    UPDATE webhook t SET cursor = $3, batch_until = $4, attempts = $5, dead_in_row = $6,
        first_attempt_at = CASE WHEN $5 > 0 THEN t.first_attempt_at END,
        next_attempt_at = coalesce(now() + make_interval(secs => $7), t.next_attempt_at),
        disabled_because = CASE WHEN t.is_enabled THEN $8 ELSE t.disabled_because END,
        is_enabled = t.is_enabled AND $8::text IS NULL,
        last_success_at = CASE WHEN $9::text IS NULL THEN now() ELSE t.last_success_at END,
        last_failure_at = CASE WHEN $9 IS NULL THEN t.last_failure_at ELSE now() END,
        last_failure = coalesce($9, t.last_failure),
        last_status = CASE WHEN $9 IS NULL THEN t.last_status ELSE $10 END
    WHERE t.partition_id = $1 AND t.ctid = ",
    one!("ctid", "webhook", "webhook_id", "$2")
);

pub(super) const STATEMENTS: &[&str] =
    &[GET, LOCK, LIST, COUNT, CREATE, CHANGE, ROTATE, REMOVE, TAKE, RENEW, RELEASE, SETTLE];

/// Partitions that have webhooks which are enabled.
const ENABLED: &str = "-- webhooks_enabled
    SELECT scope.id
    FROM unnest($1::text[]) AS n(id)
    CROSS JOIN LATERAL (SELECT set_config('collimator.scope', n.id, true) AS id OFFSET 0) scope
    CROSS JOIN LATERAL (SELECT webhook_id FROM webhook
        WHERE partition_id = scope.id AND created_at > '-infinity' AND is_enabled
        ORDER BY created_at, webhook_id LIMIT 1) w";

/// Webhooks that nobody holds and for which there may be something: events above their cursors, or
/// dead letters that somebody wants to be tried again.
const DUE: &str = "-- webhooks_due
    SELECT scope.id, w.webhook_id
    FROM unnest($1::text[]) AS n(id)
    CROSS JOIN LATERAL (SELECT set_config('collimator.scope', n.id, true) AS id OFFSET 0) scope
    CROSS JOIN LATERAL (SELECT
        coalesce((SELECT sequence FROM change_feed
            WHERE partition_id = scope.id AND sequence > 0
            ORDER BY sequence DESC LIMIT 1), 0) AS sequence,
        (SELECT event_id FROM change_feed
            WHERE partition_id = scope.id AND sequence IS NULL AND event_id > 0
            ORDER BY event_id LIMIT 1) IS NOT NULL AS is_pending OFFSET 0) h
    CROSS JOIN LATERAL (SELECT * FROM webhook
        WHERE partition_id = scope.id AND created_at > '-infinity' AND is_enabled
        ORDER BY created_at, webhook_id) w
    WHERE (w.lease_until IS NULL OR w.lease_until <= now())
        AND ((w.next_attempt_at <= now() AND (h.is_pending OR h.sequence > w.cursor))
            OR (SELECT 1 FROM webhook_dead_letter d
                WHERE d.partition_id = scope.id AND d.webhook_id = w.webhook_id
                    AND d.replay_at IS NOT NULL
                ORDER BY d.last_sequence LIMIT 1) IS NOT NULL)";

pub(super) const SCOPED_STATEMENTS: &[&str] = &[ENABLED, DUE];

fn read_counted(row: &PgRow) -> Result<(Webhook, i64), IndexError> {
    Ok((read(row)?, row.try_get(25)?))
}

impl Db {
    /// Opens a transaction that adds webhooks to a partition: one at a time, so that they can be
    /// counted.
    ///
    /// # Errors
    /// [`IndexError::Busy`], [`IndexError::Unavailable`].
    pub async fn begin_webhooks(&self, scope: &PartitionScope) -> Result<PartitionTx, IndexError> {
        let key = tag_lock::key(scope.partition());
        let lock = format!("SELECT pg_advisory_xact_lock({OF_PARTITION}, {key})");
        self.begin_holding(scope, &[PATIENCE.to_owned(), lock]).await
    }
}

impl PartitionTx {
    /// A webhook, and how many dead letters it has.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn webhook(&mut self, id: Uuid) -> Result<Option<(Webhook, i64)>, IndexError> {
        let (query, conn) = self.statement(GET);
        query.bind(id).fetch_optional(conn).await?.map(|row| read_counted(&row)).transpose()
    }

    /// A webhook that nobody else changes before this transaction ends.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn webhook_lock(&mut self, id: Uuid) -> Result<Option<Webhook>, IndexError> {
        let (query, conn) = self.statement(LOCK);
        query.bind(id).fetch_optional(conn).await?.map(|row| read(&row)).transpose()
    }

    /// A page of the webhooks, in the order in which they came into being, each with how many dead
    /// letters it has.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn webhooks(
        &mut self,
        limit: i64,
        offset: i64,
    ) -> Result<Vec<(Webhook, i64)>, IndexError> {
        let (query, conn) = self.statement(LIST);
        query.bind(limit).bind(offset).fetch_all(conn).await?.iter().map(read_counted).collect()
    }

    /// How many webhooks there are.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn webhook_count(&mut self) -> Result<i64, IndexError> {
        let (query, conn) = self.statement(COUNT);
        Ok(query.fetch_one(conn).await?.try_get(0)?)
    }

    /// Adds a webhook that is told of what comes after `cursor`. Of a transaction that
    /// [`Db::begin_webhooks`] opened.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn webhook_create(
        &mut self,
        id: Uuid,
        settings: &WebhookSettings,
        secret: &WebhookSecret,
        cursor: i64,
    ) -> Result<(), IndexError> {
        let (query, conn) = self.statement(CREATE);
        let query = query.bind(id).bind(&settings.url).bind(&settings.description);
        let query = query.bind(words(&settings.actions)).bind(secret.expose().to_vec());
        query.bind(cursor).execute(conn).await?;
        Ok(())
    }

    /// Changes what is said of a locked webhook; the message that was being tried is tried anew.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn webhook_change(
        &mut self,
        id: Uuid,
        settings: &WebhookSettings,
    ) -> Result<(), IndexError> {
        let (query, conn) = self.statement(CHANGE);
        let query = query.bind(id).bind(&settings.url).bind(&settings.description);
        let query = query.bind(words(&settings.actions)).bind(settings.is_enabled);
        query.execute(conn).await?;
        Ok(())
    }

    /// Gives a locked webhook another secret; messages are signed with the one before as well for
    /// `overlap`. Answers until when.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn webhook_rotate(
        &mut self,
        id: Uuid,
        secret: &WebhookSecret,
        overlap: Duration,
    ) -> Result<OffsetDateTime, IndexError> {
        let (query, conn) = self.statement(ROTATE);
        let query = query.bind(id).bind(secret.expose().to_vec()).bind(overlap.as_secs_f64());
        Ok(query.fetch_one(conn).await?.try_get(0)?)
    }

    /// Removes a locked webhook; its dead letters have to be gone.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn webhook_remove(&mut self, id: Uuid) -> Result<(), IndexError> {
        let (query, conn) = self.statement(REMOVE);
        query.bind(id).execute(conn).await?;
        Ok(())
    }

    /// Takes a locked webhook for `owner`, and writes down what he will send.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn webhook_take(
        &mut self,
        id: Uuid,
        owner: Uuid,
        taken: &Taken,
    ) -> Result<(), IndexError> {
        let (query, conn) = self.statement(TAKE);
        let query = query.bind(id).bind(taken.cursor).bind(taken.batch_until);
        let query = query.bind(taken.attempts).bind(taken.lost);
        query.bind(owner).bind(LEASE.as_secs_f64()).execute(conn).await?;
        Ok(())
    }

    /// A sign of life; whether `owner` holds the webhook still. It has to be given every few
    /// seconds.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn webhook_renew(&mut self, id: Uuid, owner: Uuid) -> Result<bool, IndexError> {
        self.webhook_lock(id).await?;
        let (query, conn) = self.statement(RENEW);
        let query = query.bind(id).bind(owner).bind(LEASE.as_secs_f64());
        Ok(query.execute(conn).await?.rows_affected() == 1)
    }

    /// Lets others take a webhook, where `owner` holds it.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn webhook_release(&mut self, id: Uuid, owner: Uuid) -> Result<(), IndexError> {
        self.webhook_lock(id).await?;
        let (query, conn) = self.statement(RELEASE);
        query.bind(id).bind(owner).execute(conn).await?;
        Ok(())
    }

    /// Writes down what became of what a locked webhook was sent.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn webhook_settle(
        &mut self,
        id: Uuid,
        settled: &Settled<'_>,
    ) -> Result<(), IndexError> {
        let (query, conn) = self.statement(SETTLE);
        let query = query.bind(id).bind(settled.cursor).bind(settled.batch_until);
        let query = query.bind(settled.attempts).bind(settled.dead_in_row);
        let query = query.bind(settled.wait.map(|wait| wait.as_secs_f64()));
        let query = query.bind(settled.disabled.map(Disabled::as_str));
        let status = settled.failure.and_then(|(_, status)| status.map(u16::cast_signed));
        let query = query.bind(settled.failure.map(|(reason, _)| reason)).bind(status);
        query.execute(conn).await?;
        Ok(())
    }
}

impl ScopedTx {
    /// The partitions that have webhooks which are enabled.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn webhooks_enabled(&mut self) -> Result<Vec<PartitionScope>, IndexError> {
        self.unsettle();
        let (query, conn) = self.statement(ENABLED);
        let rows = query.fetch_all(conn).await?;
        let found: BTreeSet<PartitionId> =
            rows.iter().map(|row| registry::partition(row, 0)).collect::<Result<_, _>>()?;
        Ok(self.scope().each().filter(|one| found.contains(one.partition())).collect())
    }

    /// The webhooks for which there may be something to send, with their partitions.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn webhooks_due(&mut self) -> Result<Vec<(PartitionId, Uuid)>, IndexError> {
        self.unsettle();
        let (query, conn) = self.statement(DUE);
        let rows = query.fetch_all(conn).await?;
        rows.iter().map(|row| Ok((registry::partition(row, 0)?, row.try_get(1)?))).collect()
    }
}
