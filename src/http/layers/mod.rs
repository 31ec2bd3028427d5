//! The layers around every route, outermost first, and why in this order:
//!
//! 1. [`head`]: the request id and the headers of every answer. Outermost, so that all below can
//!    log under the id and no answer lacks the headers.
//! 2. [`observe`]: span, access log line and metrics. Sees what all layers below answer.
//! 3. [`cors`]: outside of whatever can fail, since a browser shows an error answer without CORS
//!    headers as a CORS failure. Preflights end here.
//! 4. catch panic: a panic becomes a 500 problem document that still gets 1 to 3.
//! 5. compression: of JSON and plain text only. It must see a handler's answer before anything
//!    counts its bytes.
//! 6. `link_query`: takes the parameters of signed URLs out of the query, so that handlers see
//!    none of them.
//! 7. [`admission`]: who gets in, and until when an answer must begin. Innermost, put around the
//!    routes by themselves ([`super::openapi::Routes::into_router`]): who is turned away gets all of
//!    the above.
//!
//! Around all of them, once the server is put together: [`audit`], which tells the audit log how each
//! request ended.
//!
//! [`stall`] belongs to no request but to its answer: it lets go of what a stream holds when the
//! client stops taking it. Absent: authentication (an extractor, so that a public handler is
//! visibly one), limits of bodies ([`super::multipart`]), timeouts of sockets ([`super::listen`]).

pub mod admission;
pub mod audit;
pub mod compress;
pub mod cors;
pub mod head;
pub mod observe;
pub mod stall;

use std::{any::Any, time::Duration};

use axum::{
    Router, middleware,
    response::{IntoResponse, Response},
};
use tower_http::catch_panic::CatchPanicLayer;

use self::{
    cors::Cors,
    head::{Common, RequestId, Security},
    observe::Services,
};
use super::{link_query, problem::Problem};
use crate::config::{CorsConfig, ServerConfig};

/// What the layers need to know.
pub struct Layers {
    services: Services,
    cors: Cors,
    write_timeout: Duration,
    security: Security,
}

impl Layers {
    /// Layers by configuration, for routes of these services.
    pub fn new(services: Services, server: &ServerConfig, cors: &CorsConfig) -> Self {
        let (cors, security) = (Cors::new(cors), Security::default());
        Self { services, cors, write_timeout: server.write_timeout, security }
    }

    /// With what answers say to browsers beyond what is always said.
    #[must_use]
    pub fn with_security(mut self, security: Security) -> Self {
        self.security = security;
        self
    }

    /// Puts the layers around all routes and fallbacks that the router has. Later ones are bare.
    pub fn around<S>(self, router: Router<S>) -> Router<S>
    where
        S: Clone + Send + Sync + 'static,
    {
        let common = Common { is_open: self.cors.is_on(), security: self.security };
        router
            .layer(middleware::from_fn(link_query::take))
            .layer(compress::layer())
            .layer(CatchPanicLayer::custom(panicked))
            .layer(middleware::from_fn_with_state(self.cors, cors::answer))
            .layer(middleware::from_fn_with_state(self.services, observe::observe))
            .layer(middleware::from_fn_with_state(self.write_timeout, stall::guard))
            .layer(middleware::from_fn_with_state(common, head::add))
    }
}

/// The answer for a handler that panicked. The message stays out of log and answer: it may hold
/// what the handler was working on.
fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    Problem::internal("a handler panicked").into_response()
}

#[cfg(test)]
mod tests;
