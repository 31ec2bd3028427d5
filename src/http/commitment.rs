//! Storage commitment (PS3.18 §13): whether instances are safe.
//!
//! Holds: a Transaction UID is used once in a partition. A request that is checked soon is answered
//! with what came of it, and any other with 202, to come again. Absent: the check (`workers`).

use std::time::Duration;

use axum::{
    body::Body,
    extract::{FromRequestParts, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};

use super::{
    App,
    accept::{AcceptSet, Choice, Form, choose, offers},
    admit::{Admitted, Commit},
    charset::Charset,
    commitment_body, commitment_result,
    metadata::XML,
    multipart::{Boundary, OutPart, PartReader, Related},
    place,
    problem::Problem,
    urls::PartitionUrls,
};
use crate::{
    archive::{CommitmentRefusal, Committed},
    dicom::{Uid, uid::InvalidUid, xml},
};

/// What a body can be.
pub const TAKEN: [&str; 3] =
    ["application/dicom+json", "application/json", "application/dicom+xml"];

/// Bytes of a body for each instance that it may reference, which are more than any form needs.
const BYTES_EACH: u64 = 1024;
/// Bytes of a body besides.
const BYTES: u64 = 64 << 10;
/// Seconds after which it is worth asking again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");
/// When to come again where too many requests are open.
const BUSY: Duration = Duration::from_secs(30);

/// `{transaction}` of a path: the Transaction UID.
pub struct Transaction(Uid);

impl<S: Send + Sync> FromRequestParts<S> for Transaction {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = place::segment(parts, state, "transaction").await?;
        let refused = |error: InvalidUid| Problem::invalid("transaction", error.to_string());
        text.parse().map(Self).map_err(refused)
    }
}

/// `POST /commitment-requests/{transaction}`
pub async fn request(
    State(app): State<App>,
    caller: Admitted<Commit>,
    Transaction(transaction): Transaction,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let form = Answer::of(&app, &parts.headers, parts.uri.query())?;
    let limit = app.archive.commitment_limit();
    let mut reader = PartReader::open(&parts.headers, body, &app.limits, &TAKEN)?;
    let read = async {
        let one = Problem::bad_request("the request has one part, which references instances");
        let whole = reader.content_type().essence() == XML;
        let Some(part) = reader.next_part().await? else { return Err(one) };
        let is_xml = part.head.content_type.as_ref().map_or(whole, |own| own.essence() == XML);
        let most = BYTES + BYTES_EACH * u64::from(limit);
        let body = part.collect(most).await?;
        if reader.next_part().await?.is_some() {
            return Err(one);
        }
        // Tens of thousands of references take their time.
        let read = move || commitment_body::read(&body, is_xml, limit);
        tokio::task::spawn_blocking(read).await.map_err(Problem::internal)?
    }
    .await;
    let references = match read {
        Ok(references) => references,
        Err(problem) => {
            reader.discard().await;
            return Err(problem);
        }
    };
    let committed = app.archive.commit(&caller.scope, &transaction, &references).await;
    form.tell(&transaction, committed.map_err(refused)?, &caller.urls)
}

/// `GET /commitment-requests/{transaction}`
pub async fn get(
    State(app): State<App>,
    caller: Admitted<Commit>,
    Transaction(transaction): Transaction,
    request: Request,
) -> Result<Response, Problem> {
    let form = Answer::of(&app, request.headers(), request.uri().query())?;
    let committed = app.archive.committed(&caller.scope, &transaction).await?;
    form.tell(&transaction, committed, &caller.urls)
}

fn refused(refusal: CommitmentRefusal) -> Problem {
    match refusal {
        CommitmentRefusal::Used => {
            Problem::conflict("the Transaction UID was used for a request before")
        }
        CommitmentRefusal::TooMany => Problem::too_many_requests(BUSY),
        CommitmentRefusal::Archive(error) => error.into(),
    }
}

/// The form of an answer.
struct Answer {
    choice: Choice,
    charset: Charset,
}

impl Answer {
    fn of(app: &App, headers: &HeaderMap, query: Option<&str>) -> Result<Self, Problem> {
        let accept = AcceptSet::of(headers, query, app.retrieve.missing_accept);
        let choice = choose(&accept, &offers::COMMITTED)?;
        let charset = Charset::of(headers, query, choice.media_type)?;
        Ok(Self { choice, charset })
    }

    fn tell(
        self,
        transaction: &Uid,
        committed: Committed,
        urls: &PartitionUrls,
    ) -> Result<Response, Problem> {
        let url = urls.at(&format!("/commitment-requests/{transaction}"));
        let Some(outcomes) = committed else {
            let mut response = StatusCode::ACCEPTED.into_response();
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
            super::wado::set(response.headers_mut(), header::CONTENT_LOCATION, url);
            return Ok(response);
        };
        let json = commitment_result::result(transaction, &outcomes).to_string();
        let Self { choice, charset } = self;
        let body = if choice.media_type == XML {
            let mut out = Vec::new();
            xml::write(&mut out, json.as_bytes(), charset.xml())
                .map_err(|error| Problem::internal(anyhow::Error::new(error)))?;
            out.into()
        } else {
            charset.json(json.into())
        };
        if choice.form == Form::Multipart {
            let pieces = [transaction.as_str(), choice.media_type, charset.mark()];
            let boundary = Boundary::of(&pieces.map(str::as_bytes));
            let content_type = charset.parameterised(choice.media_type);
            let part = OutPart::whole(content_type, body).with_location(url);
            let parts = futures::stream::iter([Ok(part)]);
            return Ok(Related::new(choice.media_type, boundary).streamed(parts));
        }
        let mut response = Response::new(Body::from(body));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, charset.content_type(choice.media_type));
        super::wado::set(headers, header::CONTENT_LOCATION, url);
        Ok(response)
    }
}
