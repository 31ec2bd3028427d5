//! Errors as a client sees them: RFC 9457 problem documents, `application/problem+json`.
//!
//! Invariants: what does not exist and what is somebody else's are rendered by one function, so
//! that their answers are equal byte for byte; the text of a 5xx is constant, and its cause is
//! logged once, here, under the request's id; no text repeats values from outside.
//!
//! The request id enters 5xx documents only (as `request_id`, by [`identify`]): every answer has
//! it in `x-request-id` already, and 4xx bodies stay equal from request to request.

use std::{borrow::Cow, error::Error, fmt::Write as _, time::Duration};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};

use crate::{
    archive::ArchiveError,
    control::ControlError,
    dicom::deidentify::Refusal,
    identity::{AuthError, RetryAfter},
    query::QueryError,
    tenancy::{Denied, Refused},
};

/// The kind of problem of whoever is turned away for load.
const OVERLOADED: &str = "overloaded";

/// A failed request, ready to be answered. Boxed, so that results stay small.
#[derive(Debug)]
pub struct Problem(Box<Inner>);

#[derive(Debug)]
struct Inner {
    status: StatusCode,
    /// Last part of the `type` URI.
    kind: &'static str,
    title: &'static str,
    detail: Cow<'static, str>,
    errors: Vec<FieldError>,
    available: Vec<String>,
    headers: HeaderMap,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// One wrong field of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Header, query parameter, attribute or configuration key.
    pub field: Cow<'static, str>,
    /// The rule that it breaks.
    pub reason: Cow<'static, str>,
}

impl Problem {
    /// A problem with nothing but its kind; the constructors by meaning below are the usual way.
    pub fn new(
        status: StatusCode,
        kind: &'static str,
        title: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self(Box::new(Inner {
            status,
            kind,
            title,
            detail: detail.into(),
            errors: Vec::new(),
            available: Vec::new(),
            headers: HeaderMap::new(),
            source: None,
        }))
    }

    /// 400: the request breaks a rule. `detail` says which, without repeating values.
    pub fn bad_request(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", "Bad request", detail)
    }

    /// 400 for one field.
    pub fn invalid(
        field: impl Into<Cow<'static, str>>,
        reason: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::bad_request("a part of the request is not valid").with_error(field, reason)
    }

    /// 401: the credential cannot be believed, or not any more (RFC 9110 §15.5.2, RFC 6750 §3.1).
    /// `detail` says what is wrong with it.
    pub fn unauthorized(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::challenged(r#"Bearer realm="collimator", error="invalid_token""#, detail)
    }

    /// 401 with a challenge: what another try should bring.
    fn challenged(challenge: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "Unauthorized", detail)
            .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
    }

    /// 403: the caller is known and may not.
    pub fn forbidden(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "Forbidden", detail)
    }

    /// 404: it does not exist, or it is not the caller's: one answer for both.
    pub fn not_found() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not-found",
            "Not found",
            "there is no such resource in reach of this request",
        )
    }

    /// 404 for a path that no route serves.
    pub fn no_such_route() -> Self {
        Self::new(StatusCode::NOT_FOUND, "no-such-route", "Not found", "no route has this path")
    }

    /// 405. The router adds `Allow`.
    pub fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method-not-allowed",
            "Method not allowed",
            "this resource does not take the method; see the Allow header",
        )
    }

    /// 406 with what could be had instead (PS3.18 §8.7.5).
    pub fn not_acceptable(available: Vec<String>) -> Self {
        let mut problem = Self::new(
            StatusCode::NOT_ACCEPTABLE,
            "not-acceptable",
            "Not acceptable",
            "none of the acceptable media types can be given; `available` lists those that can",
        );
        problem.0.available = available;
        problem
    }

    /// 406: the pixels would have to be decoded or encoded, which cannot be done; with what can be
    /// had.
    pub fn undecodable(why: &'static str, available: Vec<String>) -> Self {
        let mut problem = Self::new(
            StatusCode::NOT_ACCEPTABLE,
            "undecodable",
            "Not acceptable",
            format!("{why}; it can be had as it is stored, with transfer-syntax=*"),
        );
        problem.0.available = available;
        problem
    }

    /// 406: the instance may not be given de-identified. Says why, and nothing of the instance.
    pub fn not_deidentifiable(why: Refusal) -> Self {
        Self::new(
            StatusCode::NOT_ACCEPTABLE,
            "not-deidentifiable",
            "Not acceptable",
            format!("it is not given de-identified: {why}"),
        )
    }

    /// 408: the request body brought nothing for too long. The connection is closed, since the
    /// rest of the body is still to come.
    pub fn request_timeout() -> Self {
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "request-timeout",
            "Request timeout",
            "the request body brought nothing for longer than limits.body_idle",
        )
        .with_header(header::CONNECTION, HeaderValue::from_static("close"))
    }

    /// 409.
    pub fn conflict(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", "Conflict", detail)
    }

    /// 410: it was here and was deleted.
    pub fn gone() -> Self {
        Self::new(StatusCode::GONE, "gone", "Gone", "the resource was deleted")
    }

    /// 413: more than `limit` of what the configuration key `key` bounds.
    pub fn too_large(key: &'static str, limit: u64) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-large",
            "Too large",
            "the request exceeds a limit of this server",
        )
        .with_error(key, format!("at most {limit}"))
    }

    /// 413: a search whose keys without an index would have to be looked up in too many rows
    /// (PS3.18 §10.6.3.1). `names` are those parameters.
    pub fn too_broad(names: Vec<String>, limit: u32) -> Self {
        let problem = Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "search-too-broad",
            "Search too broad",
            format!(
                "more than {limit} rows would have to be looked at; narrow the search by an \
                 attribute that has an index, such as StudyDate, PatientID or StudyInstanceUID, or \
                 make the attribute an extended query tag"
            ),
        );
        let reason = "has no index";
        names.into_iter().fold(problem, |problem, name| problem.with_error(name, reason))
    }

    /// 413: a search that takes longer than it may.
    pub fn too_slow() -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "search-too-slow",
            "Search too broad",
            "the search takes longer than search.timeout; narrow it by an attribute that has an \
             index, such as StudyDate, PatientID or StudyInstanceUID, or begin text with other than \
             a wildcard",
        )
    }

    /// 415 with the media types that are taken.
    pub fn unsupported_media_type(supported: &[&str]) -> Self {
        let mut problem = Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported-media-type",
            "Unsupported media type",
            "the request's media type is not taken here; `available` lists those that are",
        );
        problem.0.available = supported.iter().map(|text| (*text).to_owned()).collect();
        problem
    }

    /// 416: the range lies outside the representation's `total` bytes (RFC 9110 §14.4).
    pub fn range_not_satisfiable(total: u64) -> Self {
        let problem = Self::new(
            StatusCode::RANGE_NOT_SATISFIABLE,
            "range-not-satisfiable",
            "Range not satisfiable",
            "the range lies outside the representation",
        );
        match HeaderValue::from_str(&format!("bytes */{total}")) {
            Ok(value) => problem.with_header(header::CONTENT_RANGE, value),
            Err(_) => problem,
        }
    }

    /// 429: too many credentials were wrong (RFC 6585 §4); none is looked at before `after`.
    pub fn too_many_failures(after: Duration) -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too-many-failures",
            "Too many requests",
            "too many credentials have failed; see Retry-After",
        )
        .with_retry_after(after)
    }

    /// 429: more is asked for of what a request speaks of than is done at a time (RFC 6585 §4).
    pub fn too_many_requests(after: Duration) -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too-many-requests",
            "Too many requests",
            "more is asked for here at a time than is done at a time; see Retry-After",
        )
        .with_retry_after(after)
    }

    /// 503: the server has enough to do, and has not looked at the request. Nothing is logged for it:
    /// it is counted, and there may be many.
    pub fn overloaded(after: Duration) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            OVERLOADED,
            "Overloaded",
            "the server has enough to do and has not looked at the request; see Retry-After",
        )
        .with_retry_after(after)
    }

    /// 503: the answer did not begin in time, and was given up.
    pub fn too_late(after: Duration) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too-late",
            "Unavailable",
            "the answer did not begin in time and was given up; see Retry-After",
        )
        .with_retry_after(after)
    }

    /// 500. `source` goes to the log, not to the client.
    pub fn internal(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let mut problem = Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "Internal error",
            "the server failed; its log has the reason under the request id",
        );
        problem.0.source = Some(source.into());
        problem
    }

    /// 503: a part of the server is down or busy; worth another try after `retry_after`.
    pub fn unavailable(
        retry_after: Duration,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        let mut problem = Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "Unavailable",
            "the server cannot answer just now; see Retry-After",
        )
        .with_retry_after(retry_after);
        problem.0.source = Some(source.into());
        problem
    }

    /// Adds one wrong field.
    #[must_use]
    pub fn with_error(
        mut self,
        field: impl Into<Cow<'static, str>>,
        reason: impl Into<Cow<'static, str>>,
    ) -> Self {
        self.0.errors.push(FieldError { field: field.into(), reason: reason.into() });
        self
    }

    /// Adds a header, for instance `WWW-Authenticate` or `Warning`.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.append(name, value);
        self
    }

    /// Adds `Retry-After`, in whole seconds, at least one.
    #[must_use]
    pub fn with_retry_after(self, after: Duration) -> Self {
        let seconds = after.as_secs().max(1);
        self.with_header(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// The status that the answer will have.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The explanation that the answer will have.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// The wrong fields that the answer will list.
    pub fn errors(&self) -> &[FieldError] {
        &self.0.errors
    }

    fn document(&self) -> Map<String, Value> {
        let mut members = Map::new();
        members.insert("type".into(), json!(format!("urn:collimator:problem:{}", self.0.kind)));
        members.insert("title".into(), json!(self.0.title));
        members.insert("status".into(), json!(self.0.status.as_u16()));
        members.insert("detail".into(), json!(self.0.detail));
        if !self.0.errors.is_empty() {
            let one = |error: &FieldError| json!({"field": error.field, "reason": error.reason});
            members.insert("errors".into(), self.0.errors.iter().map(one).collect());
        }
        if !self.0.available.is_empty() {
            members.insert("available".into(), json!(self.0.available));
        }
        members
    }

    fn log(&self) {
        if !self.0.status.is_server_error() || self.0.kind == OVERLOADED {
            return;
        }
        let mut chain = String::new();
        let mut next = self.0.source.as_deref().map(|source| source as &(dyn Error + 'static));
        while let Some(error) = next {
            let separator = if chain.is_empty() { "" } else { ": " };
            // Writing to a String cannot fail.
            let _ = write!(chain, "{separator}{error}");
            next = error.source();
        }
        tracing::error!(status = self.0.status.as_u16(), kind = self.0.kind, cause = chain);
    }
}

/// What kind of problem an answer is, for layers.
#[derive(Clone, Copy, Debug)]
pub struct Kind(pub &'static str);

/// The members of a 5xx document that still wants its request id.
#[derive(Clone)]
struct Unidentified(Map<String, Value>);

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.log();
        let document = self.document();
        let mut response = Response::new(Body::from(Value::Object(document.clone()).to_string()));
        *response.status_mut() = self.0.status;
        if self.0.status.is_server_error() {
            response.extensions_mut().insert(Unidentified(document));
        }
        response.extensions_mut().insert(Kind(self.0.kind));
        let headers = response.headers_mut();
        headers.extend(self.0.headers);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

/// Writes the request id into a 5xx problem document; leaves every other response alone.
pub fn identify(mut response: Response, request_id: &str) -> Response {
    if let Some(Unidentified(mut document)) = response.extensions_mut().remove() {
        document.insert("request_id".into(), json!(request_id));
        *response.body_mut() = Body::from(Value::Object(document).to_string());
    }
    response
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Hidden => Self::not_found(),
            Refused::Denied(denied) => denied.into(),
            Refused::PartitionNeeded => Self::bad_request(
                "the request must name exactly one partition: by the path \
                 /partitions/{id}/..., the query parameter or the header microsoft.partitionId",
            ),
            Refused::PartitionsOff => Self::bad_request(
                "data partitions are not enabled on this server, and the request names one",
            ),
        }
    }
}

impl From<ControlError> for Problem {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::Refused(refused) => refused.into(),
            ControlError::Index(error) => ArchiveError::from(error).into(),
        }
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        let said = denied.to_string();
        match denied {
            Denied::Revoked => Self::unauthorized(said),
            // Another log-in would do (RFC 9470 §3).
            Denied::Mfa | Denied::Age => Self::challenged(
                r#"Bearer realm="collimator", error="insufficient_user_authentication""#,
                said,
            ),
            Denied::Permission(_)
            | Denied::Principal
            | Denied::Partition
            | Denied::ReadOnly
            | Denied::Address => Self::forbidden(said),
        }
    }
}

impl From<AuthError> for Problem {
    fn from(why: AuthError) -> Self {
        let said = why.to_string();
        match why {
            // RFC 6750 §3.1: who brought nothing is told no error.
            AuthError::Missing | AuthError::Scheme => {
                Self::challenged(r#"Bearer realm="collimator""#, said)
            }
            AuthError::Ambiguous => Self::bad_request(said).with_header(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static(r#"Bearer realm="collimator", error="invalid_request""#),
            ),
            AuthError::Unreadable | AuthError::Token(_) | AuthError::Unknown => {
                Self::unauthorized(said)
            }
            AuthError::Unavailable { retry_after } => Self::unavailable(retry_after, why),
        }
    }
}

impl From<QueryError> for Problem {
    fn from(QueryError { field, reason }: QueryError) -> Self {
        if field.is_empty() { Self::bad_request(reason) } else { Self::invalid(field, reason) }
    }
}

impl From<RetryAfter> for Problem {
    fn from(RetryAfter(after): RetryAfter) -> Self {
        Self::too_many_failures(after)
    }
}

/// The answer for a path that no route serves. For `Router::fallback`.
pub async fn fallback() -> Problem {
    Problem::no_such_route()
}

/// The answer for a method that a route does not take. For `Router::method_not_allowed_fallback`.
pub async fn method_fallback() -> Problem {
    Problem::method_not_allowed()
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn parts(response: Response) -> (StatusCode, HeaderMap, Vec<u8>) {
        let (head, body) = response.into_parts();
        (head.status, head.headers, body.collect().await.unwrap().to_bytes().to_vec())
    }

    #[tokio::test]
    async fn hidden_and_absent_are_equal_byte_for_byte() {
        let hidden = parts(Problem::from(Refused::Hidden).into_response()).await;
        assert_eq!(hidden, parts(Problem::not_found().into_response()).await);
        assert_eq!(hidden.0, StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn a_document_has_the_members_of_rfc_9457() {
        let problem = Problem::invalid("limit", "a whole number");
        let (status, headers, body) = parts(problem.into_response()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert_eq!(headers[header::CONTENT_TYPE], "application/problem+json");
        let expected = json!({
            "type": "urn:collimator:problem:bad-request",
            "title": "Bad request",
            "status": 400,
            "detail": "a part of the request is not valid",
            "errors": [{"field": "limit", "reason": "a whole number"}],
        });
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), expected);
    }

    #[tokio::test]
    async fn the_cause_of_a_5xx_stays_inside_and_the_request_id_is_shown() {
        let response = Problem::internal("password=hunter2").into_response();
        let (status, _, body) = parts(identify(response, "r-1")).await;
        let text = String::from_utf8(body).unwrap();
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!text.contains("hunter2"), "{text}");
        assert!(text.contains(r#""request_id":"r-1""#), "{text}");
    }

    #[tokio::test]
    async fn the_request_id_stays_out_of_4xx_bodies() {
        let (_, _, body) = parts(identify(Problem::not_found().into_response(), "r-1")).await;
        assert!(!String::from_utf8(body).unwrap().contains("r-1"));
    }

    #[test]
    fn headers_say_when_to_come_back_and_how_large_it_is() {
        let busy = Problem::unavailable(Duration::from_millis(10), "down").into_response();
        assert_eq!(busy.headers()[header::RETRY_AFTER], "1");
        let beyond = Problem::range_not_satisfiable(7).into_response();
        assert_eq!(beyond.headers()[header::CONTENT_RANGE], "bytes */7");
    }
}
