//! Who gets in: bounds on what is open and worked at, and the time in which an answer must begin.
//!
//! Innermost of all layers, so that who is turned away gets the headers, the log line and the
//! metrics of every answer. Whoever is turned away here was not looked at; seats are taken where it
//! is decided what a request may touch (`Visit::sit`). A request works while there are bytes of its
//! body to be dealt with, an answer while its next bytes are being made. Holds: a change is never
//! cut short, so that nobody is told that something failed which was done; a body that is not
//! wanted is read on for a moment, within bounds, so that its client sees the answer.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    extract::{MatchedPath, Request, State},
    http::{HeaderValue, Method, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use tracing::Instrument as _;

use crate::http::{
    operation::Operation,
    overload::{Class, Overload, Shed, Visit},
};

/// What is read of a body that nobody wants, in bytes, and for how long.
const UNWANTED_BYTES: usize = 256 << 10;
const UNWANTED_TIME: Duration = Duration::from_secs(1);

/// In the extensions of requests on a connection beyond `server.max_connections`.
#[derive(Clone, Copy, Debug)]
pub struct Crowded;

/// The class of each route, by template and method.
#[derive(Clone, Default)]
pub struct Classes(Arc<HashMap<String, Vec<(Method, Class)>>>);

impl Classes {
    /// Those of these routes.
    pub fn new(operations: impl IntoIterator<Item = Operation>) -> Self {
        let mut classes: HashMap<String, Vec<(Method, Class)>> = HashMap::new();
        for operation in operations {
            let class = Class::of(&operation);
            for template in operation.templates() {
                let of = classes.entry(template).or_default();
                of.push((operation.method.clone(), class));
            }
        }
        Self(Arc::new(classes))
    }

    /// Methods that a route does not take are answered with 405: there is little to do.
    fn of(&self, request: &Request) -> Class {
        let method = match request.method() {
            &Method::HEAD => &Method::GET,
            method => method,
        };
        let template = request.extensions().get::<MatchedPath>();
        let classes = template.and_then(|template| self.0.get(template.as_str()));
        let class = classes.and_then(|classes| classes.iter().find(|(own, _)| own == method));
        class.map_or(Class::Small, |(_, class)| *class)
    }
}

/// What the layer knows.
#[derive(Clone)]
pub struct Gate {
    /// The class of each route.
    pub classes: Classes,
    /// The bounds.
    pub overload: Overload,
}

/// The layer.
pub async fn admit(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    let class = gate.classes.of(&request);
    let is_crowded = request.extensions().get::<Crowded>().is_some();
    if class == Class::Vital {
        let response = next.run(request).await;
        return if is_crowded { closing(response) } else { response };
    }
    if is_crowded {
        return closing(refuse(request, Shed::Connections, class).await);
    }
    let visit = match gate.overload.enter(class) {
        Ok(visit) => visit,
        Err(shed) => return refuse(request, shed, class).await,
    };
    request.extensions_mut().insert(visit.clone());
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let deadline = gate.overload.deadline(class).filter(|_| is_read);
    if !http_body::Body::is_end_stream(request.body()) {
        let visit = visit.clone();
        request = request.map(|body| Body::new(Seated { body, of: Of::Request, visit }));
    }
    let response = match deadline {
        None => match gate.overload.aside(class) {
            None => next.run(request).await,
            Some(aside) => {
                let done = aside.run(next.run(request).in_current_span()).await;
                done.unwrap_or_else(|| Shed::Full.answer(class).into_response())
            }
        },
        // What is dropped lets go of what it holds, and of what it waits for.
        Some(time) => match tokio::time::timeout(time, next.run(request)).await {
            Ok(response) => response,
            Err(_) => Shed::Deadline.answer(class).into_response(),
        },
    };
    visit.pause();
    response.map(|body| Body::new(Seated { body, of: Of::Answer, visit }))
}

/// Turns a request away.
async fn refuse(request: Request, shed: Shed, class: Class) -> Response {
    let answer = shed.answer(class);
    // Who waits for a word before he sends has it with the answer.
    let waits = request.headers().contains_key(header::EXPECT);
    if !waits {
        let _ = tokio::time::timeout(UNWANTED_TIME, forget(request.into_body())).await;
    }
    answer.into_response()
}

/// Reads a body that nobody wants, as far as that is little.
async fn forget(mut body: Body) {
    let mut read = 0;
    while read < UNWANTED_BYTES
        && let Some(Ok(frame)) = body.frame().await
    {
        read += frame.data_ref().map_or(0, Bytes::len);
    }
}

/// The connection is wanted for others.
fn closing(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Whose body it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    /// A request, which is not worked at while nothing of it comes.
    Request,
    /// An answer, which is worked at while its next bytes are being made.
    Answer,
}

/// A body, and the seat that its visit gives back while it is its client's turn.
struct Seated {
    body: Body,
    of: Of,
    visit: Arc<Visit>,
}

impl http_body::Body for Seated {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.of == Of::Answer {
            self.visit.go_on();
        }
        let polled = Pin::new(&mut self.body).poll_frame(context);
        match (self.of, polled.is_ready()) {
            (Of::Request, true) => self.visit.go_on(),
            (Of::Request, false) | (Of::Answer, true) => self.visit.pause(),
            (Of::Answer, false) => {}
        }
        if self.of == Of::Request && polled.is_ready() && self.body.is_end_stream() {
            self.visit.wind_up();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
