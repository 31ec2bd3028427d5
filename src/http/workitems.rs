//! The Worklist Service (UPS-RS, PS3.18 chapter 11): workitems of one partition.
//!
//! Holds: no answer has a Transaction UID; what is refused says why in the words of the standard
//! (`Warning: 299`) and as a problem. Absent: what a workitem may become (`dicom::ups`), bodies
//! ([`workitem_body`]), queries (`query::worklist`).

use axum::{
    BoxError,
    body::Body,
    extract::{FromRequestParts, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header, request::Parts},
    response::{IntoResponse, Response},
};
use futures::stream;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};

use super::{
    App,
    accept::{
        AcceptSet, Choice, Form, Offer, choose,
        offers::{METADATA_ONE, SEARCH},
    },
    admit::{Admitted, Asks, At, one},
    charset::Charset,
    metadata::XML,
    multipart::{Boundary, OutPart, Related},
    place,
    problem::Problem,
    qido::{AGENT, next_page},
    query::{self, pairs},
    urls::{PartitionUrls, Urls},
    workitem_body,
};
use crate::{
    archive::{ArchiveError, CancelRequested, FoundWorkitems, WorkitemRefusal},
    dicom::{
        AeTitle, Tag, Uid, attributes,
        json::name,
        ups::{self, Action, Refusal, State as Step, Wrong, tags},
        xml,
    },
    query::worklist,
    tenancy::{PartitionScope, Permission, Scope},
};

/// Asks to search and retrieve workitems.
pub struct ReadWorkitems;
/// Asks to create and change workitems.
pub struct ManageWorkitems;

/// URLs of workitems, and where the service begins.
pub struct WorklistUrls {
    within: PartitionUrls,
    service: String,
}

impl WorklistUrls {
    fn workitem(&self, uid: &Uid) -> String {
        self.within.at(&format!("/workitems/{uid}"))
    }

    /// Where the service begins.
    pub(super) fn service(&self) -> &str {
        &self.service
    }

    /// That of the event channel of an Application Entity: a WebSocket.
    pub(super) fn channel(&self, aetitle: &AeTitle) -> String {
        let title = utf8_percent_encode(aetitle.as_str(), NON_ALPHANUMERIC);
        let url = self.within.at(&format!("/subscribers/{title}"));
        // `http` becomes `ws`, `https` becomes `wss`.
        url.strip_prefix("http").map_or_else(|| url.clone(), |rest| format!("ws{rest}"))
    }
}

macro_rules! asks {
    ($($question:ty: $permission:expr;)*) => {$(
        impl Asks for $question {
            const PERMISSION: Permission = $permission;
            type Scope = PartitionScope;
            type Urls = WorklistUrls;
            fn narrow(scope: Scope, urls: Urls, _: At) -> Result<(Self::Scope, Self::Urls), Problem> {
                let service = urls.service().to_owned();
                let (scope, within) = one(scope, &urls)?;
                Ok((scope, WorklistUrls { within, service }))
            }
        }
    )*};
}

asks!(
    ReadWorkitems: Permission::ReadWorkitems;
    ManageWorkitems: Permission::ManageWorkitems;
);

/// `{workitem}` of a path: its UID.
pub struct Named(pub Uid);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = place::segment(parts, state, "workitem").await?;
        let invalid =
            |error: crate::dicom::uid::InvalidUid| Problem::invalid("workitem", error.to_string());
        text.parse().map(Self).map_err(invalid)
    }
}

/// What PS3.18 has as texts of `Warning: 299`.
pub(super) mod said {
    pub const CREATED: &str = "The Workitem was created with modifications.";
    pub const UNCLAIMED: &str = "The target URI did not reference a claimed Workitem.";
    pub const UPDATE: &str =
        "The submitted request is inconsistent with the current state of the Workitem.";
    pub const CANCELED: &str = "The UPS is already in the requested state of CANCELED.";
    pub const COMPLETED: &str = "The UPS is already in the requested state of COMPLETED.";
    pub const MISSING: &str = "The Transaction UID is missing.";
    pub const INCORRECT: &str = "The Transaction UID is incorrect.";
    pub const STATE: &str =
        "The submitted request is inconsistent with the state of the UPS Instance.";
}

fn warning(text: &str) -> HeaderValue {
    HeaderValue::try_from(format!("299 {AGENT}: {text}")).unwrap_or(HeaderValue::from_static("299"))
}

fn warned(problem: Problem, text: &str) -> Problem {
    problem.with_header(header::WARNING, warning(text))
}

/// An answer without a body.
pub(super) fn bare(status: StatusCode, said: Option<&str>) -> Response {
    let mut response = status.into_response();
    if let Some(text) = said {
        response.headers_mut().insert(header::WARNING, warning(text));
    }
    response
}

/// `POST /workitems`
pub async fn create(
    State(app): State<App>,
    caller: Admitted<ManageWorkitems>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let named = uid_of(&parts.uri, "workitem", &["workitem", "AffectedSOPInstanceUID"])?;
    let sent = needed(&app, &parts.headers, body).await?;
    let uid = agreed("workitem", named, own_uid(&sent, tags::SOP_INSTANCE))?;
    let uid = match uid {
        Some(uid) => uid,
        // One that nobody else has (PS3.5 §B.2).
        None => new_uid()?,
    };
    let created = app.archive.create_workitem(&caller.scope, &uid, sent).await;
    let is_modified = created.map_err(|refusal| match refusal {
        WorkitemRefusal::Exists => Problem::conflict("there is a workitem of this UID"),
        refusal => refused(refusal, said::UPDATE),
    })?;
    let mut response = bare(StatusCode::CREATED, is_modified.then_some(said::CREATED));
    if let Ok(url) = HeaderValue::try_from(caller.urls.workitem(&uid)) {
        response.headers_mut().insert(header::CONTENT_LOCATION, url.clone());
        response.headers_mut().insert(header::LOCATION, url);
    }
    Ok(response)
}

/// `GET /workitems/{workitem}`
pub async fn retrieve(
    State(app): State<App>,
    caller: Admitted<ReadWorkitems>,
    Named(uid): Named,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let json = app.archive.workitem(&caller.scope, &uid).await?;
    let (choice, charset) = negotiated(&app, &parts, &METADATA_ONE)?;
    let url = caller.urls.workitem(&uid);
    if choice.media_type == XML && choice.form == Form::Multipart {
        let document = native(json.as_bytes(), charset)?;
        let part = OutPart::whole(charset.parameterised(XML), document.into()).with_location(url);
        let boundary = Boundary::of(&[b"workitem", uid.as_str().as_bytes()]);
        return Ok(Related::new(XML, boundary).streamed(stream::iter([Ok::<_, BoxError>(part)])));
    }
    let body = match choice.media_type {
        XML => Body::from(native(json.as_bytes(), charset)?),
        _ => Body::from(charset.json(format!("[{json}]").into())),
    };
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, charset.content_type(choice.media_type));
    if let Ok(url) = HeaderValue::try_from(url) {
        headers.insert(header::CONTENT_LOCATION, url);
    }
    Ok(response)
}

/// `POST /workitems/{workitem}`
pub async fn update(
    State(app): State<App>,
    caller: Admitted<ManageWorkitems>,
    Named(uid): Named,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let typed = uid_of(&parts.uri, "transaction-uid", &["transaction-uid", "transaction"])?;
    let sent = needed(&app, &parts.headers, body).await?;
    let key = agreed("transaction-uid", typed, own_uid(&sent, tags::TRANSACTION))?;
    let key = key.as_ref().map(Uid::as_str);
    let updated = app.archive.update_workitem(&caller.scope, &uid, key, sent).await;
    updated.map_err(|refusal| match refusal {
        // PS3.18 §11.6.2.
        WorkitemRefusal::State(Refusal::Final) => {
            warned(Problem::bad_request("the workitem has ended, and is not changed"), said::UPDATE)
        }
        WorkitemRefusal::State(Refusal::NotClaimed) => warned(
            Problem::conflict("nobody has claimed the workitem: it has no Transaction UID"),
            said::UNCLAIMED,
        ),
        refusal => refused(refusal, said::UPDATE),
    })?;
    Ok(bare(StatusCode::OK, None))
}

/// `PUT /workitems/{workitem}/state`
pub async fn change_state(
    State(app): State<App>,
    caller: Admitted<ManageWorkitems>,
    Named(uid): Named,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let asked = needed(&app, &parts.headers, body).await?;
    let wanted = ups::wanted(&asked).map_err(invalid)?;
    let key = own_uid(&asked, tags::TRANSACTION);
    let key = key.as_ref().map(Uid::as_str);
    let changed = app.archive.change_workitem_state(&caller.scope, &uid, wanted, key).await;
    let action = changed.map_err(|refusal| refused(refusal, said::STATE))?;
    let said = match (action, wanted) {
        (Action::Already, Step::Canceled) => Some(said::CANCELED),
        (Action::Already, _) => Some(said::COMPLETED),
        (Action::Enter, _) => None,
    };
    Ok(bare(StatusCode::OK, said))
}

/// `POST /workitems/{workitem}/cancelrequest`
pub async fn request_cancel(
    State(app): State<App>,
    caller: Admitted<ManageWorkitems>,
    Named(uid): Named,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let asked = read(&app, &parts.headers, body).await?.unwrap_or_default();
    let asked = app.archive.request_workitem_cancel(&caller.scope, &uid, &asked).await;
    let said = match asked.map_err(|refusal| refused(refusal, said::STATE))? {
        CancelRequested::Canceled | CancelRequested::Told => None,
        CancelRequested::Already => Some(said::CANCELED),
    };
    Ok(bare(StatusCode::ACCEPTED, said))
}

/// `GET /workitems`
pub async fn search(
    State(app): State<App>,
    caller: Admitted<ReadWorkitems>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let query = parts.uri.query().unwrap_or_default();
    let (Choice { media_type, .. }, charset) = negotiated(&app, &parts, &SEARCH)?;
    let (wanted, mut warnings) = worklist::read(query, app.worklist.max_workitems)?;
    let page = (wanted.limit, wanted.offset);
    let found = app.archive.search_workitems(&caller.scope, wanted).await.map_err(too_broad)?;
    let remaining = found.remaining;
    if remaining > 0 {
        warnings.push(format!("There are {remaining} additional results that can be requested"));
    }
    let mut response = if found.results.is_empty() && app.search.no_match == 204 {
        StatusCode::NO_CONTENT.into_response()
    } else {
        answer(found, media_type, charset, &parts.uri)?
    };
    if remaining > 0 {
        if response.status() == StatusCode::OK {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        }
        if let Some(link) = next_page(&caller.urls.service, &parts.uri, page) {
            response.headers_mut().insert(header::LINK, link);
        }
    }
    for text in warnings {
        response.headers_mut().append(header::WARNING, warning(&text));
    }
    Ok(response)
}

fn answer(
    found: FoundWorkitems,
    media_type: &'static str,
    charset: Charset,
    uri: &Uri,
) -> Result<Response, Problem> {
    if media_type == XML {
        let boundary = Boundary::of(&[b"worklist", uri.to_string().as_bytes()]);
        let content_type = charset.parameterised(XML);
        let parts = found.results.into_iter().map(move |json| match native(&json, charset) {
            Ok(document) => Ok(OutPart::whole(content_type.clone(), document.into())),
            Err(_) => Err(BoxError::from("a workitem is no DICOM JSON")),
        });
        return Ok(Related::new(XML, boundary).streamed(stream::iter(parts)));
    }
    let mut body = Vec::with_capacity(found.results.iter().map(|json| json.len() + 1).sum());
    body.push(b'[');
    for (number, json) in found.results.iter().enumerate() {
        if number > 0 {
            body.push(b',');
        }
        body.extend_from_slice(json);
    }
    body.push(b']');
    let mut response = Body::from(charset.json(body.into())).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, charset.content_type(media_type));
    Ok(response)
}

/// A workitem in the Native DICOM Model.
fn native(json: &[u8], charset: Charset) -> Result<Vec<u8>, Problem> {
    let mut out = Vec::with_capacity(json.len() * 2);
    xml::write(&mut out, json, charset.xml())
        .map_err(|error| Problem::internal(anyhow::Error::new(error)))?;
    Ok(out)
}

/// What an answer is, of what can be given.
fn negotiated(
    app: &App,
    parts: &Parts,
    offers: &'static [Offer],
) -> Result<(Choice, Charset), Problem> {
    let query = parts.uri.query();
    let accept = AcceptSet::of(&parts.headers, query, app.retrieve.missing_accept);
    let choice = choose(&accept, offers)?;
    let charset = Charset::of(&parts.headers, query, choice.media_type)?;
    Ok((choice, charset))
}

async fn read(
    app: &App,
    headers: &HeaderMap,
    body: Body,
) -> Result<Option<Map<String, Value>>, Problem> {
    let longest = app.worklist.max_workitem_bytes;
    workitem_body::read(headers, body, &app.limits, longest).await
}

async fn needed(app: &App, headers: &HeaderMap, body: Body) -> Result<Map<String, Value>, Problem> {
    let sent = read(app, headers, body).await?;
    sent.ok_or_else(|| Problem::bad_request("the body has to be a data set, and is empty"))
}

/// A UID of the query: under one of these names, or by itself (`?1.2.3`), as PS3.18 writes it.
fn uid_of(uri: &Uri, field: &'static str, names: &[&str]) -> Result<Option<Uid>, Problem> {
    const RULE: &str = "a UID (PS3.5 §9.1), once";
    let mut found = None;
    for (name, value) in pairs(uri) {
        if names.contains(&&*name) {
            query::once(&mut found, value.parse().ok(), field, RULE)?;
        } else if value.is_empty()
            && let Ok(uid) = name.parse()
        {
            query::once(&mut found, Some(uid), field, RULE)?;
        }
    }
    Ok(found)
}

fn own_uid(sent: &Map<String, Value>, tag: Tag) -> Option<Uid> {
    ups::value_of(sent, tag).and_then(|text| text.parse().ok())
}

/// One UID of the query and of the body.
fn agreed(
    field: &'static str,
    typed: Option<Uid>,
    sent: Option<Uid>,
) -> Result<Option<Uid>, Problem> {
    match (typed, sent) {
        (Some(typed), Some(sent)) if typed != sent => {
            Err(Problem::invalid(field, "differs from that of the body"))
        }
        (typed, sent) => Ok(typed.or(sent)),
    }
}

fn new_uid() -> Result<Uid, Problem> {
    let text = format!("2.25.{}", uuid::Uuid::new_v4().as_u128());
    text.parse::<Uid>().map_err(Problem::internal)
}

fn field(wrong: &Wrong) -> String {
    attributes::keyword_of(wrong.at).map_or_else(|| name(wrong.at), str::to_owned)
}

fn invalid(wrong: Wrong) -> Problem {
    Problem::invalid(field(&wrong), wrong.rule)
}

/// A refusal, as it is answered; `said` is what the transaction says of the state of a workitem.
pub(super) fn refused(refusal: WorkitemRefusal, said: &str) -> Problem {
    match refusal {
        WorkitemRefusal::Archive(error) => too_broad(error),
        WorkitemRefusal::Exists => Problem::conflict("there is a workitem of this UID"),
        WorkitemRefusal::Wrong(wrong) => invalid(wrong),
        WorkitemRefusal::Unfinished(wrong) => {
            let problem = Problem::conflict("the workitem has not what the state demands");
            warned(problem.with_error(field(&wrong), wrong.rule), said)
        }
        WorkitemRefusal::Completed => warned(Problem::conflict("the workitem is completed"), said),
        WorkitemRefusal::Unreachable => warned(
            Problem::conflict("the workitem is in progress, and who performs it cannot be told"),
            said,
        ),
        WorkitemRefusal::TooMany { limit } => {
            Problem::bad_request("there would be more subscribers than this server allows")
                .with_error("worklist.max_subscribers", format!("at most {limit}"))
        }
        WorkitemRefusal::State(refusal) => {
            let own = |text| if said == said::STATE { text } else { said };
            match refusal {
                Refusal::Missing => warned(
                    Problem::bad_request("the Transaction UID of who claimed it is needed"),
                    own(said::MISSING),
                ),
                Refusal::Incorrect => warned(
                    Problem::bad_request("it is not the Transaction UID of who claimed it"),
                    own(said::INCORRECT),
                ),
                Refusal::NotScheduled => warned(
                    Problem::bad_request("a workitem is SCHEDULED once, when it is created"),
                    said,
                ),
                Refusal::Claimed => {
                    warned(Problem::conflict("the workitem has been claimed"), said)
                }
                Refusal::NotClaimed => {
                    warned(Problem::conflict("the workitem has not been claimed"), said)
                }
                Refusal::Final => warned(Problem::conflict("the workitem has ended"), said),
            }
        }
    }
}

/// 413, in words that are about workitems.
fn too_broad(error: ArchiveError) -> Problem {
    let ArchiveError::TooBroad { names, limit } = error else { return error.into() };
    let problem = Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "search-too-broad",
        "Search too broad",
        format!(
            "more than {limit} workitems would have to be looked at; narrow the search by \
             ProcedureStepState, PatientID or ScheduledProcedureStepStartDateTime"
        ),
    );
    let reason = "has no index";
    names.into_iter().fold(problem, |problem, name| problem.with_error(name, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_of_a_query_stands_by_name_or_by_itself() {
        let of = |query: &str| {
            let uri = format!("/workitems?{query}").parse().unwrap();
            uid_of(&uri, "workitem", &["workitem", "AffectedSOPInstanceUID"])
        };
        for query in
            ["workitem=1.2", "1.2", "1.2=", "AffectedSOPInstanceUID=1.2", "x=1&workitem=1.2"]
        {
            assert_eq!(of(query).unwrap().unwrap().as_str(), "1.2", "{query}");
        }
        for query in ["", "x", "x=1.2", "microsoft.partitionId=1.2"] {
            assert_eq!(of(query).unwrap(), None, "{query}");
        }
        for query in ["workitem=x", "workitem=", "workitem=1.2&workitem=1.2", "1.2&1.3"] {
            assert_eq!(of(query).unwrap_err().status().as_u16(), 400, "{query}");
        }
    }
}
