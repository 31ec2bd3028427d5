//! Span, access log line and metrics of every request.
//!
//! A request lasts until the last byte of its answer is handed over or given up; its log line says
//! how long that took, the histogram how long the first byte did. Invariants: neither query strings nor paths are logged (both may hold
//! patient data), only route templates; labels are from closed sets.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use axum::{
    body::{Body, Bytes},
    extract::{MatchedPath, Request, State},
    http::{Method, StatusCode, header},
    middleware::Next,
    response::Response,
};
use http_body::{Frame, SizeHint};
use metrics::{counter, gauge};
use tracing::{Instrument as _, Span, field::Empty};

use super::RequestId;
use crate::{
    http::problem,
    telemetry::{method_label, names, request_answered},
};

/// The service of a request that no route took.
const NO_SERVICE: &str = "none";

/// Which service each route belongs to, by template and method.
#[derive(Clone, Debug, Default)]
pub struct Services(Arc<HashMap<String, Vec<(Method, &'static str)>>>);

impl Services {
    /// From (method, route template, service).
    pub fn new(routes: impl IntoIterator<Item = (Method, String, &'static str)>) -> Self {
        let mut services: HashMap<String, Vec<(Method, &'static str)>> = HashMap::new();
        for (method, template, service) in routes {
            services.entry(template).or_default().push((method, service));
        }
        Self(Arc::new(services))
    }

    fn of(&self, method: &Method, template: &str) -> &'static str {
        let method = if method == Method::HEAD { &Method::GET } else { method };
        let Some(services) = self.0.get(template) else { return NO_SERVICE };
        let exact = services.iter().find(|(own, _)| own == method);
        exact.or(services.first()).map_or(NO_SERVICE, |(_, service)| service)
    }
}

/// The layer.
pub async fn observe(State(services): State<Services>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let template = request.extensions().get::<MatchedPath>().cloned();
    let route = template.as_ref().map_or("", MatchedPath::as_str);
    let method = method_label(request.method().as_str());
    let service = services.of(request.method(), route);
    let id = request.extensions().get::<RequestId>().cloned();
    let span = tracing::info_span!(
        "request",
        request_id = id.as_ref().map(RequestId::as_str),
        method,
        route,
        service,
        partition = Empty,
    );
    let is_head = request.method() == Method::HEAD;
    gauge!(names::REQUESTS_IN_FLIGHT, names::SERVICE => service).increment(1.0);
    // Counts down also when the request is dropped before it is answered.
    let mut record = Record {
        span: span.clone(),
        started,
        service,
        method,
        status: None,
        first: None,
        sent: 0,
        whole: false,
    };
    let mut response = next.run(request).instrument(span).await;
    if let Some(id) = &id {
        response = problem::identify(response, id.as_str());
    }
    let (head, body) = response.into_parts();
    record.status = Some(head.status);
    let length =
        head.headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
    let expected =
        if is_head { Some(0) } else { length.or(http_body::Body::size_hint(&body).exact()) };
    record.whole = expected == Some(0) || http_body::Body::is_end_stream(&body);
    Response::from_parts(head, Body::new(Observed { body, expected, record }))
}

/// What is known of a request; written when it is over.
struct Record {
    span: Span,
    started: Instant,
    service: &'static str,
    method: &'static str,
    status: Option<StatusCode>,
    /// Time to the first byte of the body.
    first: Option<Duration>,
    sent: u64,
    whole: bool,
}

impl Drop for Record {
    fn drop(&mut self) {
        let took = self.started.elapsed();
        let (service, method) = (self.service, self.method);
        // Without a status the client went away before there was an answer.
        let status = self.status.map_or(0, |status| status.as_u16());
        gauge!(names::REQUESTS_IN_FLIGHT, names::SERVICE => service).decrement(1.0);
        request_answered(service, method, status, self.first.unwrap_or(took));
        counter!(names::RESPONSE_BYTES, names::SERVICE => service).increment(self.sent);
        if !self.whole {
            counter!(names::RESPONSES_ABORTED, names::SERVICE => service).increment(1);
        }
        let (ms, sent, whole) = (took.as_secs_f64() * 1e3, self.sent, self.whole);
        let _entered = self.span.enter();
        // Probes come every few seconds and say nothing while they succeed.
        if service == "health" && status < 400 {
            tracing::debug!(status, ms, sent, whole, "answered");
        } else {
            tracing::info!(status, ms, sent, whole, "answered");
        }
    }
}

/// An answer's body, counted.
struct Observed {
    body: Body,
    /// Bytes that the answer announced.
    expected: Option<u64>,
    record: Record,
}

impl http_body::Body for Observed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        let entered = this.record.span.enter();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(context));
        drop(entered);
        match &frame {
            Some(Ok(frame)) => {
                this.record.first.get_or_insert(this.record.started.elapsed());
                this.record.sent += frame.data_ref().map_or(0, |data| data.len() as u64);
                if this.expected == Some(this.record.sent) || this.body.is_end_stream() {
                    this.record.whole = true;
                }
            }
            Some(Err(error)) => {
                let _entered = this.record.span.enter();
                tracing::error!(cause = %chain(error), "an answer broke off");
            }
            None => this.record.whole = true,
        }
        Poll::Ready(frame)
    }

    /// A body without bytes has ended, also where a layer below does not say so.
    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream() || self.body.size_hint().exact() == Some(0)
    }

    /// Nothing, where the answer has no body by its status: what is known here would become a
    /// `Content-Length`, which a 204 must not have and which tells of a 304 what is not true
    /// (RFC 9110 §8.6).
    fn size_hint(&self) -> SizeHint {
        match self.record.status {
            Some(StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) => SizeHint::default(),
            _ => self.body.size_hint(),
        }
    }
}

/// An error and its causes, each once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let own = source.to_string();
        // axum's error says what its source says.
        if !text.ends_with(&own) {
            text.push_str(": ");
            text.push_str(&own);
        }
        next = source.source();
    }
    text
}
