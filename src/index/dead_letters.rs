//! Dead letters: what webhooks were not told, since it was given up.
//!
//! A dead letter is a range of the feed, named by its last sequence; the events themselves are in
//! the feed, for as long as that keeps them. Holds: dead letters change only in a transaction that
//! has locked the row of their webhook.

use sqlx::{Row, postgres::PgRow};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{IndexError, PartitionTx};

const CREATE: &str = "-- dead_letter_create
    INSERT INTO webhook_dead_letter (partition_id, webhook_id, first_sequence, last_sequence, events,
        reason, status, attempts, first_attempt_at)
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, coalesce($9, now())";

macro_rules! select {
    ($name:literal, $rest:literal) => {
        concat!(
            "-- ",
            $name,
            "
    SELECT first_sequence, last_sequence, events, reason, status, attempts, first_attempt_at,
        failed_at, replay_at IS NOT NULL
    FROM webhook_dead_letter WHERE partition_id = $1 AND webhook_id = $2 AND ",
            $rest
        )
    };
}

const LIST: &str =
    select!("dead_letters", "last_sequence > 0 ORDER BY last_sequence LIMIT $3 OFFSET $4");

const GET: &str = select!(
    "dead_letter_get",
    "last_sequence >= $3 AND last_sequence <= $3 ORDER BY last_sequence"
);

const TO_REPLAY: &str = select!(
    "dead_letter_to_replay",
    "replay_at IS NOT NULL AND last_sequence > 0 ORDER BY last_sequence LIMIT 1"
);

const COUNT: &str = "-- dead_letters_count
    SELECT count(*) FROM webhook_dead_letter
    WHERE partition_id = $1 AND webhook_id = $2 AND last_sequence > 0";

/// Those from `$3` to `$4`: one, or all.
macro_rules! each {
    () => {
        "(SELECT ctid AS at FROM webhook_dead_letter
        WHERE partition_id = $1 AND webhook_id = $2 AND last_sequence >= $3
            AND last_sequence <= $4
        ORDER BY last_sequence) x
    WHERE t.partition_id = $1 AND t.ctid = x.at"
    };
}

const REPLAY: &str = concat!(
    "-- dead_letters_replay
    UPDATE webhook_dead_letter t SET replay_at = now() FROM ",
    each!()
);

const FAILED: &str = concat!(
    "-- dead_letter_failed
    UPDATE webhook_dead_letter t SET replay_at = NULL, attempts = t.attempts + 1, reason = $5,
        status = $6, failed_at = now()
    FROM ",
    each!()
);

const REMOVE: &str =
    concat!("-- dead_letters_remove\n    DELETE FROM webhook_dead_letter t USING ", each!());

pub(super) const STATEMENTS: &[&str] =
    &[CREATE, LIST, GET, TO_REPLAY, COUNT, REPLAY, FAILED, REMOVE];

/// A message that was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The first sequence of its range.
    pub first: i64,
    /// The last one, which names it.
    pub last: i64,
    /// How many events of the range the receiver was to be told of.
    pub events: i32,
    /// Why the last try failed.
    pub reason: String,
    /// The status of the answer to it, where there was one.
    pub status: Option<i16>,
    /// Tries.
    pub attempts: i32,
    /// When it was first tried; of one that is to be written down `None` says: now.
    pub first_attempt_at: Option<OffsetDateTime>,
    /// When it was last tried.
    pub failed_at: Option<OffsetDateTime>,
    /// Whether it will be tried once more.
    pub is_to_replay: bool,
}

fn read(row: &PgRow) -> Result<DeadLetter, IndexError> {
    Ok(DeadLetter {
        first: row.try_get(0)?,
        last: row.try_get(1)?,
        events: row.try_get(2)?,
        reason: row.try_get(3)?,
        status: row.try_get(4)?,
        attempts: row.try_get(5)?,
        first_attempt_at: row.try_get(6)?,
        failed_at: row.try_get(7)?,
        is_to_replay: row.try_get(8)?,
    })
}

/// All sequences, or one of them.
fn range(one: Option<i64>) -> (i64, i64) {
    one.map_or((1, i64::MAX), |one| (one, one))
}

impl PartitionTx {
    /// Writes down a message that is given up.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn dead_letter_create(
        &mut self,
        webhook: Uuid,
        letter: &DeadLetter,
    ) -> Result<(), IndexError> {
        let (query, conn) = self.statement(CREATE);
        let query = query.bind(webhook).bind(letter.first).bind(letter.last).bind(letter.events);
        let query = query.bind(&letter.reason).bind(letter.status).bind(letter.attempts);
        query.bind(letter.first_attempt_at).execute(conn).await?;
        Ok(())
    }

    /// A page of the dead letters of a webhook, ascending.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn dead_letters(
        &mut self,
        webhook: Uuid,
        (limit, offset): (i64, i64),
    ) -> Result<Vec<DeadLetter>, IndexError> {
        let (query, conn) = self.statement(LIST);
        let rows = query.bind(webhook).bind(limit).bind(offset).fetch_all(conn).await?;
        rows.iter().map(read).collect()
    }

    /// A dead letter by its last sequence.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn dead_letter(
        &mut self,
        webhook: Uuid,
        last: i64,
    ) -> Result<Option<DeadLetter>, IndexError> {
        let (query, conn) = self.statement(GET);
        let row = query.bind(webhook).bind(last).fetch_optional(conn).await?;
        row.map(|row| read(&row)).transpose()
    }

    /// The first dead letter that is to be tried once more.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn dead_letter_to_replay(
        &mut self,
        webhook: Uuid,
    ) -> Result<Option<DeadLetter>, IndexError> {
        let (query, conn) = self.statement(TO_REPLAY);
        let row = query.bind(webhook).fetch_optional(conn).await?;
        row.map(|row| read(&row)).transpose()
    }

    /// How many dead letters a webhook has.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn dead_letters_count(&mut self, webhook: Uuid) -> Result<i64, IndexError> {
        let (query, conn) = self.statement(COUNT);
        Ok(query.bind(webhook).fetch_one(conn).await?.try_get(0)?)
    }

    /// Has one dead letter, or all of a webhook, tried once more; says how many.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn dead_letters_replay(
        &mut self,
        webhook: Uuid,
        one: Option<i64>,
    ) -> Result<u64, IndexError> {
        let (query, conn) = self.statement(REPLAY);
        let (first, last) = range(one);
        Ok(query.bind(webhook).bind(first).bind(last).execute(conn).await?.rows_affected())
    }

    /// Writes down that a dead letter was tried once more, in vain.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn dead_letter_failed(
        &mut self,
        webhook: Uuid,
        last: i64,
        (reason, status): (&str, Option<u16>),
    ) -> Result<(), IndexError> {
        let (query, conn) = self.statement(FAILED);
        let query = query.bind(webhook).bind(last).bind(last).bind(reason);
        query.bind(status.map(u16::cast_signed)).execute(conn).await?;
        Ok(())
    }

    /// Removes one dead letter, or all of a webhook; says how many.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn dead_letters_remove(
        &mut self,
        webhook: Uuid,
        one: Option<i64>,
    ) -> Result<u64, IndexError> {
        let (query, conn) = self.statement(REMOVE);
        let (first, last) = range(one);
        Ok(query.bind(webhook).bind(first).bind(last).execute(conn).await?.rows_affected())
    }
}
