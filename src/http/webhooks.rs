//! Webhooks: who is told of a partition's changes, instead of asking for them.
//!
//! Holds: a secret is in the answer that made it, and in no other. Absent: which URLs may be called
//! (`outbound`), what is sent (`workers`).

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use axum::{
    Json,
    extract::{FromRequestParts, Request, State},
    http::{StatusCode, Uri, header, request::Parts},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    App,
    admit::{Admitted, ManageWebhooks, ReadWebhooks},
    json_body, place,
    problem::Problem,
    query_tags::page,
    shown::{moment, no_store},
    urls::PartitionUrls,
    webhook_body::Change,
};
use crate::{
    archive::{DeadLetter, LetterRest, WebhookHealth, WebhookRefusal, WebhookSecret},
    outbound::{Message, UrlRefusal, signature},
    tenancy::PartitionId,
};

/// Partitions of which a webhook is being tried out: one at a time of each.
#[derive(Debug, Default)]
pub struct Testing(Mutex<BTreeSet<PartitionId>>);

/// A place among these, until it is dropped.
struct Tested<'a>(&'a Testing, &'a PartitionId);

impl Testing {
    fn begin<'a>(&'a self, partition: &'a PartitionId) -> Option<Tested<'a>> {
        self.set().insert(partition.clone()).then_some(Tested(self, partition))
    }

    fn set(&self) -> MutexGuard<'_, BTreeSet<PartitionId>> {
        // A set cannot be left half-changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Tested<'_> {
    fn drop(&mut self) {
        let Self(testing, partition) = self;
        testing.set().remove(*partition);
    }
}

/// `{webhook}` of a path: its id.
pub struct Named(Uuid);

/// `{letter}` of a path: the last sequence of a dead letter.
pub struct Letter(i64);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = place::segment(parts, state, "webhook").await?;
        let rule = "a UUID, with or without dashes";
        Uuid::parse_str(&text).map(Self).map_err(|_| Problem::invalid("webhook", rule))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Letter {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = place::segment(parts, state, "letter").await?;
        let number = text.parse().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
        number.map(Self).ok_or_else(|| Problem::invalid("letter", "a whole number from 0"))
    }
}

/// `POST /webhooks`
pub async fn add(
    State(app): State<App>,
    caller: Admitted<ManageWebhooks>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let change = Change::adding(json_body::read(&parts.headers, body, &app.limits).await?)?;
    let url = callable(&app, change.url.as_deref().unwrap_or_default()).await?;
    let start = change.start();
    let settings = change.settings(url);
    let added = app.archive.add_webhook(&caller.scope, &settings, start).await.map_err(refused)?;
    let mut shown = shown(&added, &caller.urls);
    shown["secret"] = json!(secret(&added.webhook.secret));
    let location = caller.urls.at(&path(added.webhook.id));
    let headers = [(header::LOCATION, location)];
    Ok((StatusCode::CREATED, headers, no_store(Json(shown))).into_response())
}

/// `GET /webhooks`
pub async fn list(
    State(app): State<App>,
    caller: Admitted<ReadWebhooks>,
    uri: Uri,
) -> Result<Json<Vec<Value>>, Problem> {
    let webhooks = app.archive.webhooks(&caller.scope, page(&uri)?).await?;
    Ok(Json(webhooks.iter().map(|one| shown(one, &caller.urls)).collect()))
}

/// `GET /webhooks/{webhook}`
pub async fn get(
    State(app): State<App>,
    caller: Admitted<ReadWebhooks>,
    Named(id): Named,
) -> Result<Json<Value>, Problem> {
    Ok(Json(shown(&app.archive.webhook(&caller.scope, id).await?, &caller.urls)))
}

/// `PATCH /webhooks/{webhook}`
pub async fn change(
    State(app): State<App>,
    caller: Admitted<ManageWebhooks>,
    Named(id): Named,
    request: Request,
) -> Result<Json<Value>, Problem> {
    let (parts, body) = request.into_parts();
    let mut change = Change::changing(json_body::read(&parts.headers, body, &app.limits).await?)?;
    if let Some(url) = &change.url {
        change.url = Some(callable(&app, url).await?);
    }
    let apply = |settings: &mut _| change.apply(settings);
    let changed = app.archive.change_webhook(&caller.scope, id, apply).await?;
    Ok(Json(shown(&changed, &caller.urls)))
}

/// `DELETE /webhooks/{webhook}`
pub async fn remove(
    State(app): State<App>,
    caller: Admitted<ManageWebhooks>,
    Named(id): Named,
) -> Result<StatusCode, Problem> {
    app.archive.remove_webhook(&caller.scope, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /webhooks/{webhook}/$rotateSecret`
pub async fn rotate(
    State(app): State<App>,
    caller: Admitted<ManageWebhooks>,
    Named(id): Named,
) -> Result<Response, Problem> {
    let (new, until) = app.archive.rotate_webhook_secret(&caller.scope, id).await?;
    let body = json!({ "secret": secret(&new), "previousSecretUntil": moment(until) });
    Ok(no_store(Json(body)))
}

/// `POST /webhooks/{webhook}/$test`: sends a message that says nothing, and answers what came of it.
pub async fn test(
    State(app): State<App>,
    caller: Admitted<ManageWebhooks>,
    Named(id): Named,
) -> Result<Json<Value>, Problem> {
    let webhook = app.archive.webhook(&caller.scope, id).await?.webhook;
    let Some(_tested) = app.testing.begin(caller.scope.partition()) else {
        return Err(Problem::conflict("a webhook of this partition is being tested"));
    };
    let body = json!({
        "type": "webhook.test",
        "timestamp": moment(OffsetDateTime::now_utc()),
        "data": { "webhookId": id.simple().to_string() },
    });
    let body = Bytes::from(body.to_string());
    let message_id = format!("msg_{}_test_{}", id.simple(), Uuid::new_v4().simple());
    let (url, secrets) = (&webhook.settings.url, webhook.secrets());
    let message = Message { url, id: &message_id, secrets: &secrets, body: &body };
    let shown = match app.sender.send(&message).await {
        Ok(()) => json!({ "delivered": true }),
        Err(failure) => {
            let reason = failure.reason.as_str();
            let mut shown = json!({ "delivered": false, "reason": reason });
            if let Some(status) = failure.status {
                shown["status"] = json!(status);
            }
            shown
        }
    };
    Ok(Json(shown))
}

/// `GET /webhooks/{webhook}/deadletters`
pub async fn letters(
    State(app): State<App>,
    caller: Admitted<ReadWebhooks>,
    Named(id): Named,
    uri: Uri,
) -> Result<Json<Vec<Value>>, Problem> {
    let letters = app.archive.dead_letters(&caller.scope, id, page(&uri)?).await?;
    Ok(Json(letters.iter().map(entry).collect()))
}

/// `GET /webhooks/{webhook}/deadletters/{letter}`
pub async fn letter(
    State(app): State<App>,
    caller: Admitted<ReadWebhooks>,
    Named(id): Named,
    Letter(last): Letter,
) -> Result<Json<Value>, Problem> {
    Ok(Json(entry(&app.archive.dead_letter(&caller.scope, id, last).await?)))
}

/// `DELETE /webhooks/{webhook}/deadletters/{letter}`
pub async fn remove_letter(
    State(app): State<App>,
    caller: Admitted<ManageWebhooks>,
    Named(id): Named,
    Letter(last): Letter,
) -> Result<StatusCode, Problem> {
    app.archive.remove_dead_letter(&caller.scope, id, last).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /webhooks/{webhook}/deadletters/{letter}/$replay`
pub async fn replay(
    State(app): State<App>,
    caller: Admitted<ManageWebhooks>,
    Named(id): Named,
    Letter(last): Letter,
) -> Result<Response, Problem> {
    let count = app.archive.replay_dead_letters(&caller.scope, id, Some(last)).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({ "count": count }))).into_response())
}

/// `POST /webhooks/{webhook}/deadletters/$replay`
pub async fn replay_all(
    State(app): State<App>,
    caller: Admitted<ManageWebhooks>,
    Named(id): Named,
) -> Result<Response, Problem> {
    let count = app.archive.replay_dead_letters(&caller.scope, id, None).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({ "count": count }))).into_response())
}

/// The URL as it is kept, where it may be called.
async fn callable(app: &App, url: &str) -> Result<String, Problem> {
    let checked = app.sender.guard().check_resolved(url).await;
    let wrong = |refusal: UrlRefusal| Problem::invalid("url", refusal.to_string());
    Ok(checked.map_err(wrong)?.to_string())
}

fn refused(refusal: WebhookRefusal) -> Problem {
    match refusal {
        WebhookRefusal::TooMany { limit } => {
            Problem::bad_request("there would be more webhooks than this server allows")
                .with_error("webhooks.max_per_partition", format!("at most {limit}"))
        }
        WebhookRefusal::Archive(error) => error.into(),
    }
}

fn secret(secret: &WebhookSecret) -> String {
    signature::shown(secret.expose())
}

fn path(id: Uuid) -> String {
    format!("/webhooks/{}", id.simple())
}

fn shown(health: &WebhookHealth, urls: &PartitionUrls) -> Value {
    let webhook = &health.webhook;
    let settings = &webhook.settings;
    let mut shown = json!({
        "id": webhook.id.simple().to_string(),
        "url": settings.url,
        "description": settings.description,
        "actions": settings.actions.iter().map(|action| action.as_str()).collect::<Vec<_>>(),
        "state": if settings.is_enabled { "enabled" } else { "disabled" },
        "createdTime": moment(webhook.created_at),
        "lastUpdatedTime": moment(webhook.updated_at),
        "sequence": webhook.cursor,
        "lag": health.lag,
        "lostEvents": webhook.lost,
        "attempts": webhook.attempts,
    });
    if let Some(disabled) = webhook.disabled {
        shown["disabledBecause"] = json!(disabled.as_str());
    }
    if webhook.attempts > 0 {
        shown["nextAttemptTime"] = json!(moment(webhook.next_attempt_at));
    }
    if let Some(at) = webhook.last_success_at {
        shown["lastSuccessTime"] = json!(moment(at));
    }
    if let Some((at, reason, status)) = &webhook.last_failure {
        shown["lastFailure"] = json!({ "time": moment(*at), "reason": reason });
        if let Some(status) = status {
            shown["lastFailure"]["status"] = json!(status);
        }
    }
    if let Some((_, until)) = &webhook.old_secret {
        shown["previousSecretUntil"] = json!(moment(*until));
    }
    if health.dead_letters > 0 {
        let href = urls.at(&format!("{}/deadletters", path(webhook.id)));
        shown["deadLetters"] = json!({ "count": health.dead_letters, "href": href });
    }
    shown
}

fn entry((letter, rest): &(DeadLetter, LetterRest)) -> Value {
    let mut shown = json!({
        "firstSequence": letter.first,
        "lastSequence": letter.last,
        "events": letter.events,
        "reason": letter.reason,
        "attempts": letter.attempts,
        "replay": if letter.is_to_replay { "pending" } else { "none" },
        "available": match rest {
            LetterRest::All => "all",
            LetterRest::Some => "some",
            LetterRest::Nothing => "none",
        },
    });
    if let Some(status) = letter.status {
        shown["status"] = json!(status);
    }
    if let Some(at) = letter.first_attempt_at {
        shown["firstAttemptTime"] = json!(moment(at));
    }
    if let Some(at) = letter.failed_at {
        shown["lastAttemptTime"] = json!(moment(at));
    }
    shown
}
