//! One event of the log, and its record.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::tenancy::{Deed, PartitionId, Principal};

/// Most UIDs that one event lists; it says how many more there were.
pub const MAX_UIDS: usize = 50;

/// Longest text of a principal that is taken over, in bytes.
const MAX_TEXT: usize = 256;

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was done.
    Success,
    /// Who asked may not.
    Refused,
    /// It was not done for another reason.
    Failed,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Success, Self::Refused, Self::Failed];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }

    /// The outcome of a word.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == word)
    }
}

/// Who did it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// A kind of principal by its name; `anonymous` while authentication is off, `unknown` where a
    /// credential was refused, `server` for what the server does by itself, `command-line` for who has
    /// the database.
    pub kind: String,
    /// Who vouches for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Who it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The session, as the issuer names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
}

impl Who {
    /// Somebody by a word alone.
    pub fn plain(kind: &str) -> Self {
        Self { kind: kind.to_owned(), ..Self::default() }
    }

    /// A principal.
    pub fn of(principal: &Principal) -> Self {
        let Principal::Known(known) = principal else { return Self::plain("anonymous") };
        Self {
            kind: known.kind.as_str().to_owned(),
            issuer: Some(text(&known.issuer)),
            subject: Some(text(&known.subject)),
            name: known.name.as_deref().map(text),
            session: known.session.as_deref().map(text),
        }
    }
}

/// A text from outside as it can be kept: of bounded length, and without NUL, which Postgres does
/// not take.
fn text(from: &str) -> String {
    let mut end = from.len().min(MAX_TEXT);
    while !from.is_char_boundary(end) {
        end -= 1;
    }
    from[..end].replace('\0', "\u{FFFD}")
}

/// An event. Its record has the members in this order; those that are empty are left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Its id.
    pub id: Uuid,
    /// When it happened, in whole microseconds.
    #[serde(with = "moment", rename = "time")]
    pub at: OffsetDateTime,
    /// The partition, or that of the platform.
    pub partition: String,
    /// Who did it.
    pub who: Who,
    /// From where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// What was done: a permission by its name, or what the server does by itself.
    pub action: String,
    /// The request's method.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub method: String,
    /// The route's template.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub route: String,
    /// What the path named.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub named: Map<String, Value>,
    /// The study that it was about, where it was about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub study: Option<String>,
    /// SOP Instance UIDs that were touched, [`MAX_UIDS`] at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instances: Vec<String>,
    /// How many more there were.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// The answer's status; none where there was no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why it was not done, as a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The request's id.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub request: String,
    /// What else there is to say.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub detail: Map<String, Value>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Event {
    /// What `deed` does in a partition, as far as it is known beforehand; it succeeds.
    pub fn of(deed: &Deed, partition: &PartitionId, at: OffsetDateTime) -> Self {
        let named = deed.named.iter();
        let named: Map<String, Value> =
            named.map(|(name, value)| (name.to_string(), Value::from(text(value)))).collect();
        let study = named.get("study").and_then(Value::as_str).map(str::to_owned);
        Self {
            who: if deed.is_command { Who::plain("command-line") } else { Who::of(&deed.who) },
            address: Some(deed.address.to_string()),
            action: deed.permission.as_str().to_owned(),
            method: deed.method.to_string(),
            route: deed.route.to_string(),
            named,
            study,
            request: text(&deed.request_id),
            ..Self::by_server("", partition, at)
        }
    }

    /// What the server does by itself.
    pub fn by_server(action: &str, partition: &PartitionId, at: OffsetDateTime) -> Self {
        Self {
            id: Uuid::new_v4(),
            at: whole_microseconds(at),
            partition: partition.as_str().to_owned(),
            who: Who::plain("server"),
            address: None,
            action: action.to_owned(),
            method: String::new(),
            route: String::new(),
            named: Map::new(),
            study: None,
            instances: Vec::new(),
            more: 0,
            outcome: Outcome::Success,
            status: None,
            reason: None,
            request: String::new(),
            detail: Map::new(),
        }
    }

    /// Lists UIDs of instances, as many as are listed, and counts the rest.
    pub fn touch(&mut self, uid: &str) {
        if self.instances.len() < MAX_UIDS {
            self.instances.push(uid.to_owned());
        } else {
            self.more += 1;
        }
    }

    /// The event as it is kept.
    pub fn record(&self) -> String {
        // Maps with keys of text, and numbers, cannot fail to be written.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The event of a record.
    ///
    /// # Errors
    /// Where the record is none.
    pub fn read(record: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(record)
    }
}

/// A moment as Postgres keeps it.
fn whole_microseconds(at: OffsetDateTime) -> OffsetDateTime {
    let at = at.to_offset(time::UtcOffset::UTC);
    at.replace_microsecond(at.microsecond()).unwrap_or(at)
}

/// Moments: RFC 3339 in UTC with six digits of a second.
pub(super) mod moment {
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};
    use time::{
        OffsetDateTime, PrimitiveDateTime, format_description::BorrowedFormatItem,
        macros::format_description,
    };

    const FORMAT: &[BorrowedFormatItem<'_>] =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");

    pub fn shown(at: OffsetDateTime) -> String {
        at.to_offset(time::UtcOffset::UTC).format(FORMAT).unwrap_or_default()
    }

    pub fn serialize<S: Serializer>(at: &OffsetDateTime, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&shown(*at))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<OffsetDateTime, D::Error> {
        let text = String::deserialize(from)?;
        let read = PrimitiveDateTime::parse(&text, FORMAT).map_err(D::Error::custom)?;
        Ok(read.assume_utc())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::{collections::BTreeSet, sync::Arc};

    use time::macros::datetime;

    use super::*;
    use crate::tenancy::{Known, Permission, Permissions, PrincipalKind, Reach};

    pub fn known() -> Principal {
        Principal::Known(Arc::new(Known {
            kind: PrincipalKind::User,
            issuer: "hospital".into(),
            subject: "u\u{0}-1".into(),
            name: Some("Dr. <Ada> & \"Co\"".into()),
            reach: Reach::These(BTreeSet::new()),
            roles: BTreeSet::new(),
            permissions: Permissions::NONE,
            limit: Permissions::ALL,
            is_operator: false,
            session: Some("s-1".into()),
            token: None,
        }))
    }

    pub fn event(permission: Permission, route: &str) -> Event {
        let named = vec![("study".into(), "1.2.3".into()), ("series".into(), "1.2.3.1".into())];
        let address = "10.0.0.7".parse().unwrap();
        let deed = Deed::new(known(), address, "r-1", permission, ("GET", route), named);
        let at = datetime!(2026-01-02 03:04:05.123_456_789 +01:00);
        Event { id: Uuid::nil(), ..Event::of(&deed, &"clinic1".parse().unwrap(), at) }
    }

    #[test]
    fn a_record_has_what_the_event_has_and_leads_back_to_it() {
        let mut event = event(Permission::Retrieve, "/studies/{study}");
        (0..60).for_each(|n| event.touch(&format!("1.2.3.1.{n}")));
        assert_eq!((event.instances.len(), event.more), (50, 10));
        event.instances.truncate(1);
        event.status = Some(200);
        let record = event.record();
        let expected = r#"{"id":"00000000-0000-0000-0000-000000000000","time":"2026-01-02T02:04:05.123456Z","partition":"clinic1","who":{"kind":"user","issuer":"hospital","subject":"u�-1","name":"Dr. <Ada> & \"Co\"","session":"s-1"},"address":"10.0.0.7","action":"studies.retrieve","method":"GET","route":"/studies/{study}","named":{"study":"1.2.3","series":"1.2.3.1"},"study":"1.2.3","instances":["1.2.3.1.0"],"more":10,"outcome":"success","status":200,"request":"r-1"}"#;
        assert_eq!(record, expected);
        assert_eq!(Event::read(&record).unwrap(), event);
    }

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(text(&"ä".repeat(200)).len(), 256);
        assert_eq!(text(&format!("x{}", "ä".repeat(200))).len(), 255);
    }
}
