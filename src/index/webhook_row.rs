//! A webhook as its row holds it, and what is written down of it.
//!
//! Holds: no `Debug` shows a secret. Absent: statements (`webhooks`).

use std::{fmt, time::Duration};

use sqlx::{Row, postgres::PgRow};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{FeedAction, IndexError};

/// What messages are signed with. Never shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret([u8; 32]);

impl WebhookSecret {
    /// One that nobody has seen.
    pub fn generate() -> Self {
        Self(rand::random())
    }

    /// The bytes themselves: for who signs, and to be shown once.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    fn read(bytes: &[u8]) -> Result<Self, IndexError> {
        let wrong = IndexError::Inconsistent { table: "webhook", column: "secret" };
        Ok(Self(bytes.try_into().map_err(|_| wrong)?))
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("********")
    }
}

/// Why a webhook is disabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disabled {
    /// Somebody asked for it.
    Request,
    /// The receiver answered 410.
    Gone,
    /// Too many messages in a row were given up.
    Failing,
    /// It has as many dead letters as it may have.
    Full,
}

impl Disabled {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Gone => "gone",
            Self::Failing => "failing",
            Self::Full => "full",
        }
    }
}

/// What somebody says of a webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookSettings {
    /// Where messages are sent to.
    pub url: String,
    /// What it is for, in somebody's words.
    pub description: String,
    /// The actions that are told, each once.
    pub actions: Vec<FeedAction>,
    /// Whether messages are sent.
    pub is_enabled: bool,
}

/// A webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Its id.
    pub id: Uuid,
    /// What somebody said of it.
    pub settings: WebhookSettings,
    /// Why it is disabled, where it is.
    pub disabled: Option<Disabled>,
    /// What messages are signed with.
    pub secret: WebhookSecret,
    /// What they are signed with as well, and until when.
    pub old_secret: Option<(WebhookSecret, OffsetDateTime)>,
    /// How often it was changed which events a message has.
    pub revision: i32,
    /// The last sequence that is dealt with.
    pub cursor: i64,
    /// The last sequence of the message that is being tried.
    pub batch_until: Option<i64>,
    /// Tries of that message.
    pub attempts: i32,
    /// When it was first tried.
    pub first_attempt_at: Option<OffsetDateTime>,
    /// When it may be tried next.
    pub next_attempt_at: OffsetDateTime,
    /// Whether that is now.
    pub is_due: bool,
    /// Messages that were given up since one was delivered.
    pub dead_in_row: i32,
    /// Events that had left the feed before they could be told.
    pub lost: i64,
    /// When a message was last delivered.
    pub last_success_at: Option<OffsetDateTime>,
    /// When one was not, why, and the status of the answer where there was one.
    pub last_failure: Option<(OffsetDateTime, String, Option<i16>)>,
    /// Who holds it.
    pub holder: Option<Uuid>,
    /// When it came into being.
    pub created_at: OffsetDateTime,
    /// When somebody last changed it.
    pub updated_at: OffsetDateTime,
}

impl Webhook {
    /// What messages are signed with: the secret, and the one before while that holds.
    pub fn secrets(&self) -> Vec<&[u8; 32]> {
        let old = self.old_secret.as_ref().map(|(secret, _)| secret);
        [&self.secret].into_iter().chain(old).map(WebhookSecret::expose).collect()
    }
}

/// What is written down before a message is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The last sequence that is dealt with.
    pub cursor: i64,
    /// The last sequence of the message from there on; `None`: there is none.
    pub batch_until: Option<i64>,
    /// Tries of that message, the one to come included.
    pub attempts: i32,
    /// Events that had left the feed.
    pub lost: i64,
}

/// What is written down afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled<'a> {
    /// The last sequence that is dealt with.
    pub cursor: i64,
    /// The message that will be tried again.
    pub batch_until: Option<i64>,
    /// Its tries so far.
    pub attempts: i32,
    /// Messages given up since one was delivered.
    pub dead_in_row: i32,
    /// Time until the next try; `None`: as it was.
    pub wait: Option<Duration>,
    /// Why it is to be disabled.
    pub disabled: Option<Disabled>,
    /// Why a message was not delivered, and the status of the answer; `None`: it was.
    pub failure: Option<(&'a str, Option<u16>)>,
}

/// Actions as they are kept.
pub(super) fn words(actions: &[FeedAction]) -> Vec<&'static str> {
    actions.iter().map(|action| action.as_str()).collect()
}

pub(super) fn read(row: &PgRow) -> Result<Webhook, IndexError> {
    let wrong = |column| IndexError::Inconsistent { table: "webhook", column };
    let actions: Vec<String> = row.try_get(3)?;
    let actions = actions.iter().map(|word| FeedAction::of(word).ok_or_else(|| wrong("actions")));
    let disabled = match row.try_get::<Option<&str>, _>(5)? {
        None => None,
        Some("request") => Some(Disabled::Request),
        Some("gone") => Some(Disabled::Gone),
        Some("failing") => Some(Disabled::Failing),
        Some("full") => Some(Disabled::Full),
        Some(_) => return Err(wrong("disabled_because")),
    };
    let old: (Option<&[u8]>, Option<OffsetDateTime>) = (row.try_get(7)?, row.try_get(8)?);
    let old_secret = match old {
        (Some(bytes), Some(until)) => Some((WebhookSecret::read(bytes)?, until)),
        _ => None,
    };
    let failed: (Option<OffsetDateTime>, Option<String>) = (row.try_get(19)?, row.try_get(20)?);
    let status = row.try_get(21)?;
    let settings = WebhookSettings {
        url: row.try_get(1)?,
        description: row.try_get(2)?,
        actions: actions.collect::<Result<_, _>>()?,
        is_enabled: row.try_get(4)?,
    };
    Ok(Webhook {
        id: row.try_get(0)?,
        settings,
        disabled,
        secret: WebhookSecret::read(row.try_get(6)?)?,
        old_secret,
        revision: row.try_get(9)?,
        cursor: row.try_get(10)?,
        batch_until: row.try_get(11)?,
        attempts: row.try_get(12)?,
        first_attempt_at: row.try_get(13)?,
        next_attempt_at: row.try_get(14)?,
        is_due: row.try_get(15)?,
        dead_in_row: row.try_get(16)?,
        lost: row.try_get(17)?,
        last_success_at: row.try_get(18)?,
        last_failure: failed.0.zip(failed.1).map(|(at, reason)| (at, reason, status)),
        holder: row.try_get(22)?,
        created_at: row.try_get(23)?,
        updated_at: row.try_get(24)?,
    })
}
