//! What the audit log has of requests besides changes: each leaves an event when it is answered, or
//! given up.
//!
//! Whoever decides what a request may touch notes it in the request's [`Trail`]; the layer adds how
//! it ended. A change that is on the record by its own transaction leaves no second event, unless
//! it failed later on; routes that decide nothing (health, documents) leave none. Outermost of all
//! layers, so that it sees what the client gets. Holds: a request never waits for the log; a
//! partition's log has nothing of who cannot reach it, or is not known: that would be room to fill for
//! anybody, and names of others to read.

use std::sync::{Arc, Mutex, PoisonError};

use axum::{
    extract::{Request, State},
    http::{StatusCode, request::Parts},
    middleware::Next,
    response::Response,
};
use time::OffsetDateTime;

use crate::{
    audit::{Event, MAX_UIDS, Outcome, Who},
    control::{AuditLog, AuditNote, AuditPlace},
    http::{App, caller, link_query, problem::Kind},
    tenancy::{Deed, Named, PartitionId, Permission, Principal, Reach, Refused, Scope},
};

/// Longest query that is recorded, in bytes.
const MAX_QUERY: usize = 2048;

/// What was decided of a request; in its extensions.
#[derive(Clone, Default)]
pub struct Trail(Arc<Mutex<Option<Decided>>>);

#[derive(Clone)]
struct Decided {
    deed: Arc<Deed>,
    place: AuditPlace,
    /// What the request named, where the place does not say so.
    named: Named,
    refusal: Option<&'static str>,
    is_identified: bool,
    is_deidentified: bool,
}

impl Decided {
    fn of(deed: Arc<Deed>, place: AuditPlace) -> Self {
        Self {
            deed,
            place,
            named: Named::Nothing,
            refusal: None,
            is_identified: true,
            is_deidentified: false,
        }
    }
}

impl Trail {
    /// That of a request.
    pub fn of(parts: &Parts) -> Self {
        parts.extensions.get::<Self>().cloned().unwrap_or_default()
    }

    /// It was let in.
    pub fn admitted(&self, deed: &Arc<Deed>, scope: &Scope) {
        let place = match scope.only() {
            // A Store may be let in to one that it has yet to make.
            Some(only) => AuditPlace::Partition(only.clone()),
            None => AuditPlace::Partitions(scope.partitions().to_vec()),
        };
        self.note(Decided::of(deed.clone(), place));
    }

    /// It was let in to what belongs to no partition.
    pub fn admitted_to_platform(&self, deed: &Arc<Deed>) {
        self.note(Decided::of(deed.clone(), AuditPlace::Platform));
    }

    /// What it gets is de-identified.
    pub fn deidentified(&self) {
        let mut decided = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(decided) = &mut *decided {
            decided.is_deidentified = true;
        }
    }

    /// It was refused.
    pub fn refused(&self, deed: Deed, named: &Named, refused: &Refused) {
        let place = place_of_refusal(&deed.who, named, refused);
        let (refusal, named) = (Some(word(refused)), named.clone());
        self.note(Decided { named, refusal, ..Decided::of(Arc::new(deed), place) });
    }

    /// What it wanted of a partition as such was refused, whether there is one or not.
    pub fn refused_by_platform(
        &self,
        deed: &Arc<Deed>,
        partition: &PartitionId,
        refused: &Refused,
    ) {
        let (refusal, named) = (Some(word(refused)), Named::One(partition.clone()));
        self.note(Decided { named, refusal, ..Decided::of(deed.clone(), AuditPlace::Platform) });
    }

    /// Whether it may be let in could not be found out.
    pub fn undecided(&self, deed: Deed, named: &Named) {
        let decided = Decided::of(Arc::new(deed), AuditPlace::Platform);
        self.note(Decided { named: named.clone(), ..decided });
    }

    /// Its credential was refused, or missing.
    pub fn unidentified(&self, app: &App, parts: &Parts, permission: Permission, named: &Named) {
        let deed = Arc::new(caller::unknown(app, parts, permission));
        let (refusal, named) = (Some("credential"), named.clone());
        let decided = Decided::of(deed, AuditPlace::Platform);
        self.note(Decided { named, refusal, is_identified: false, ..decided });
    }

    fn note(&self, decided: Decided) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(decided);
    }

    fn take(&self) -> Option<Decided> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// In whose log a refusal belongs: in that of a partition that the credential reaches, and of no other.
fn place_of_refusal(who: &Principal, named: &Named, refused: &Refused) -> AuditPlace {
    let Refused::Denied(_) = refused else { return AuditPlace::Platform };
    match (named, who) {
        (Named::One(one), _) => AuditPlace::Partition(one.clone()),
        (Named::Nothing, Principal::Known(known)) => match &known.reach {
            Reach::These(these) if these.len() == 1 => {
                these.first().map_or(AuditPlace::Platform, |one| AuditPlace::Partition(one.clone()))
            }
            Reach::These(_) | Reach::Every => AuditPlace::Platform,
        },
        (Named::Nothing | Named::Several(_), _) => AuditPlace::Platform,
    }
}

/// Says in the log of the platform which partitions a request named.
fn tell_named(event: &mut Event, named: &Named) {
    match named {
        Named::Nothing => {}
        Named::One(one) => {
            event.detail.insert("partition".to_owned(), one.as_str().into());
        }
        Named::Several(several) => {
            let names: Vec<&str> = several.iter().take(MAX_UIDS).map(PartitionId::as_str).collect();
            event.detail.insert("partitions".to_owned(), names.into());
        }
    }
}

/// Why a request was refused, as the log has it.
fn word(refused: &Refused) -> &'static str {
    match refused {
        Refused::Hidden => "hidden",
        Refused::PartitionNeeded => "partition-needed",
        Refused::PartitionsOff => "partitions-off",
        Refused::Denied(denied) => denied.as_str(),
    }
}

/// The layer.
pub async fn record(State(log): State<AuditLog>, mut request: Request, next: Next) -> Response {
    let trail = Trail::default();
    request.extensions_mut().insert(trail.clone());
    // Whoever has the signature of a link could use it.
    let query = request.uri().query().filter(|_| log.records_queries());
    let query = query.map(|query| cut(&link_query::without_link(query)));
    let mut told = Told { log, trail, query, answered: None };
    let response = next.run(request).await;
    let kind = response.extensions().get::<Kind>().map(|kind| kind.0);
    told.answered = Some((response.status(), kind));
    response
}

fn cut(query: &str) -> String {
    let mut end = query.len().min(MAX_QUERY);
    while !query.is_char_boundary(end) {
        end -= 1;
    }
    query[..end].to_owned()
}

/// An answer's status, and the kind of problem where it is one.
type Answered = (StatusCode, Option<&'static str>);

/// Whether there is an event to be written behind a request.
fn is_wanted(deed: &Deed, records_reads: bool, answered: Option<Answered>) -> bool {
    // Of a change that broke off a part may have been done, and be on the record.
    let has_broken = answered.is_none_or(|(status, _)| status.is_server_error());
    match deed.permission.changes() {
        true => !deed.is_recorded() || has_broken,
        false => records_reads,
    }
}

/// How a request ended, and a word for why.
fn outcome(
    refusal: Option<&'static str>,
    answered: Option<Answered>,
) -> (Outcome, Option<&'static str>) {
    match (refusal, answered) {
        // Nobody decided: who would have to could not be asked.
        (Some(_), Some((status, kind))) if status.is_server_error() => (Outcome::Failed, kind),
        (Some(word), _) => (Outcome::Refused, Some(word)),
        (None, Some((status, _))) if status.as_u16() < 400 => (Outcome::Success, None),
        (None, Some((StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, kind))) => {
            (Outcome::Refused, kind)
        }
        (None, Some((_, kind))) => (Outcome::Failed, kind),
        (None, None) => (Outcome::Failed, Some("abandoned")),
    }
}

/// Tells the log when it is dropped: then the request was answered, or is given up.
struct Told {
    log: AuditLog,
    trail: Trail,
    query: Option<String>,
    answered: Option<Answered>,
}

impl Drop for Told {
    fn drop(&mut self) {
        let Some(decided) = self.trail.take() else { return };
        let Decided { deed, place, named, refusal, is_identified, is_deidentified } = decided;
        let changes = deed.permission.changes();
        let is_wanted = is_wanted(&deed, self.log.records_reads(), self.answered);
        // A credential that was refused is of interest whatever it was for.
        if !is_wanted && is_identified {
            return;
        }
        let mut event = Event::of(&deed, &PartitionId::platform(), OffsetDateTime::now_utc());
        if !is_identified {
            event.who = Who::plain("unknown");
        }
        let (outcome, reason) = outcome(refusal, self.answered);
        event.outcome = outcome;
        event.reason = reason.map(str::to_owned);
        event.status = self.answered.map(|(status, _)| status.as_u16());
        if place == AuditPlace::Platform {
            tell_named(&mut event, &named);
        }
        let tells = matches!(
            deed.permission,
            Permission::Search | Permission::ReadAudit | Permission::ReadWorkitems
        );
        if let Some(query) = self.query.take().filter(|_| tells) {
            event.detail.insert("query".to_owned(), query.into());
        }
        if is_deidentified {
            event.detail.insert("deidentified".to_owned(), true.into());
        }
        self.log.put(AuditNote { event, place, changes });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deed(permission: Permission) -> Deed {
        let call = ("POST", "/studies");
        Deed::new(Principal::Anonymous, [127, 0, 0, 1].into(), "r-1", permission, call, Vec::new())
    }

    #[test]
    fn a_change_that_broke_off_is_told_of_besides_what_was_done() {
        let ended = |status| Some((status, None));
        let (store, read) = (deed(Permission::Store), deed(Permission::Retrieve));
        assert!(is_wanted(&store, false, ended(StatusCode::OK)));
        store.note_recorded();
        for (answered, expected) in [
            (ended(StatusCode::OK), false),
            (ended(StatusCode::CONFLICT), false),
            (ended(StatusCode::SERVICE_UNAVAILABLE), true),
            (None, true),
        ] {
            assert_eq!(is_wanted(&store, true, answered), expected, "{answered:?}");
            assert!(is_wanted(&read, true, answered) && !is_wanted(&read, false, answered));
        }
    }

    #[test]
    fn what_the_server_could_not_decide_has_failed() {
        let ended = |status| Some((status, Some("kind")));
        for (refusal, answered, expected) in [
            (Some("credential"), ended(StatusCode::UNAUTHORIZED), (Outcome::Refused, "credential")),
            (Some("hidden"), ended(StatusCode::NOT_FOUND), (Outcome::Refused, "hidden")),
            (Some("credential"), None, (Outcome::Refused, "credential")),
            (Some("credential"), ended(StatusCode::SERVICE_UNAVAILABLE), (Outcome::Failed, "kind")),
            (None, ended(StatusCode::FORBIDDEN), (Outcome::Refused, "kind")),
            (None, ended(StatusCode::SERVICE_UNAVAILABLE), (Outcome::Failed, "kind")),
            (None, None, (Outcome::Failed, "abandoned")),
        ] {
            let (told, reason) = outcome(refusal, answered);
            assert_eq!((told, reason), (expected.0, Some(expected.1)), "{refusal:?} {answered:?}");
        }
    }

    #[test]
    fn a_refusal_is_in_no_log_that_the_credential_does_not_reach() {
        let one: PartitionId = "north".parse().unwrap();
        let named = Named::One(one.clone());
        let denied = Refused::Denied(crate::tenancy::Denied::ReadOnly);
        let place = |named: &Named, refused: &Refused| {
            place_of_refusal(&Principal::Anonymous, named, refused)
        };
        assert_eq!(place(&named, &denied), AuditPlace::Partition(one.clone()));
        for refused in [Refused::Hidden, Refused::PartitionNeeded, Refused::PartitionsOff] {
            assert_eq!(place(&named, &refused), AuditPlace::Platform);
        }
        for named in [Named::Nothing, Named::Several([one].into())] {
            assert_eq!(place(&named, &denied), AuditPlace::Platform);
        }
    }
}
