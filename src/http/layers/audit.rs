//! What the audit log has of requests besides changes: each leaves an event when it is answered, or
//! given up.
//!
//! Whoever decides what a request may touch notes it in the request's [`Trail`]; the layer adds how
//! it ended. A change that is on the record by its own transaction leaves no second event; routes
//! that decide nothing (health, documents) leave none. Outermost of all layers, so that it sees what
//! the client gets. Holds: a request never waits for the log.

use std::sync::{Arc, Mutex, PoisonError};

use axum::{
    extract::{Request, State},
    http::{StatusCode, request::Parts},
    middleware::Next,
    response::Response,
};
use time::OffsetDateTime;

use crate::{
    audit::{Event, Outcome, Who},
    control::{AuditLog, AuditNote, AuditPlace},
    http::{App, caller, link_query, problem::Kind},
    tenancy::{Deed, Named, PartitionId, Permission, Refused, Scope},
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
    refusal: Option<&'static str>,
    is_identified: bool,
}

impl Trail {
    /// That of a request.
    pub fn of(parts: &Parts) -> Self {
        parts.extensions.get::<Self>().cloned().unwrap_or_default()
    }

    /// It was let in.
    pub fn admitted(&self, deed: &Arc<Deed>, scope: &Scope) {
        let place = AuditPlace::Partitions(scope.partitions().to_vec());
        let deed = deed.clone();
        self.note(Decided { deed, place, refusal: None, is_identified: true });
    }

    /// It was let in to what belongs to no partition.
    pub fn admitted_to(&self, deed: &Arc<Deed>, partition: &PartitionId) {
        let place = AuditPlace::Partitions(vec![partition.clone()]);
        let deed = deed.clone();
        self.note(Decided { deed, place, refusal: None, is_identified: true });
    }

    /// It was refused.
    pub fn refused(&self, deed: Deed, named: &Named, refused: &Refused) {
        let place = AuditPlace::Named(named.clone());
        let (deed, refusal) = (Arc::new(deed), Some(word(refused)));
        self.note(Decided { deed, place, refusal, is_identified: true });
    }

    /// Its credential was refused.
    pub fn unidentified(&self, app: &App, parts: &Parts, permission: Permission, named: &Named) {
        let deed = Arc::new(caller::unknown(app, parts, permission));
        let place = AuditPlace::Named(named.clone());
        self.note(Decided { deed, place, refusal: Some("credential"), is_identified: false });
    }

    fn note(&self, decided: Decided) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(decided);
    }

    fn take(&self) -> Option<Decided> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
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

/// Tells the log when it is dropped: then the request was answered, or is given up.
struct Told {
    log: AuditLog,
    trail: Trail,
    query: Option<String>,
    answered: Option<(StatusCode, Option<&'static str>)>,
}

impl Drop for Told {
    fn drop(&mut self) {
        let Some(decided) = self.trail.take() else { return };
        let Decided { deed, place, refusal, is_identified } = decided;
        let changes = deed.permission.changes();
        let is_wanted = match changes {
            true => !deed.is_recorded(),
            false => self.log.records_reads(),
        };
        // A credential that was refused is of interest whatever it was for.
        if !is_wanted && is_identified {
            return;
        }
        let mut event = Event::of(&deed, &PartitionId::platform(), OffsetDateTime::now_utc());
        if !is_identified {
            event.who = Who::plain("unknown");
        }
        let (outcome, reason) = match (refusal, self.answered) {
            (Some(word), _) => (Outcome::Refused, Some(word)),
            (None, Some((status, _))) if status.as_u16() < 400 => (Outcome::Success, None),
            (None, Some((StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, kind))) => {
                (Outcome::Refused, kind)
            }
            (None, Some((_, kind))) => (Outcome::Failed, kind),
            (None, None) => (Outcome::Failed, Some("abandoned")),
        };
        event.outcome = outcome;
        event.reason = reason.map(str::to_owned);
        event.status = self.answered.map(|(status, _)| status.as_u16());
        let tells = matches!(deed.permission, Permission::Search | Permission::ReadAudit);
        if let Some(query) = self.query.take().filter(|_| tells) {
            event.detail.insert("query".to_owned(), query.into());
        }
        self.log.put(AuditNote { event, place, changes });
    }
}
