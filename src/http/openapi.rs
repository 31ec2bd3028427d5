//! The list of routes, and the OpenAPI 3.1 document made from it.
//!
//! A route is registered together with its description ([`Routes::add`]), so that the router and
//! the published list cannot differ; the test of isolation walks the list. Companions of a
//! partition are registered once and answer under every prefix (`/v1`, `/v2`,
//! `/partitions/{partition}`). Absent: schemas of bodies, which PS3.18 defines.

mod document;
mod page;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use axum::{
    Router,
    handler::Handler,
    http::{HeaderName, HeaderValue, header},
    middleware,
    response::{Html, IntoResponse, Response},
    routing::{MethodFilter, on},
};
use bytes::Bytes;
use serde_json::Value;

use super::{
    accept,
    layers::{
        Layers,
        admission::{self, Classes, Gate},
        head::Security,
        observe::Services,
    },
    operation::{Operation, Reach},
    overload::Overload,
    problem,
    routes::OPERATIONS,
};
use crate::config::{CorsConfig, ServerConfig};

/// Routes with their descriptions.
pub struct Routes<S = ()> {
    router: Router<S>,
    operations: Vec<Operation>,
    /// The last of `operations`, where every path of a service has it too.
    capabilities: Option<Operation>,
}

impl<S> Default for Routes<S>
where
    S: Clone + Send + Sync + 'static,
{
    fn default() -> Self {
        Self { router: Router::new(), operations: Vec::new(), capabilities: None }
    }
}

impl<S> Routes<S>
where
    S: Clone + Send + Sync + 'static,
{
    /// Registers a route. Handlers take path parameters by name (a struct in `Path`), since there
    /// may be `partition` among them.
    ///
    /// # Panics
    /// At start, where the method is none of those of OpenAPI or the route is there already.
    #[must_use]
    pub fn add<H, T>(mut self, operation: Operation, handler: H) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        self.serve(&operation, handler);
        self.operations.push(operation);
        self
    }

    /// Registers what describes the service (PS3.18 §8.9) at its root, and at every path that has
    /// been added of a partition or the server. To be called last.
    ///
    /// # Panics
    /// As [`Routes::add`].
    #[must_use]
    pub fn with_capabilities<H, T>(mut self, root: Operation, handler: H) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        for operation in described(&self.operations, &root) {
            self.serve(&operation, handler.clone());
        }
        self.serve(&root, handler);
        self.operations.push(root.clone());
        self.capabilities = Some(root);
        self
    }

    fn serve<H, T>(&mut self, operation: &Operation, handler: H)
    where
        H: Handler<T, S>,
        T: 'static,
    {
        #[expect(clippy::expect_used, reason = "at start, by what is written in this repository")]
        let filter = MethodFilter::try_from(operation.method.clone())
            .expect("routes are written with methods that OpenAPI knows");
        for template in operation.templates() {
            let router = std::mem::take(&mut self.router);
            #[expect(clippy::disallowed_methods, reason = "the one place that adds routes")]
            let router = router.route(&template, on(filter, handler.clone()));
            self.router = router;
        }
    }

    /// The descriptions, in the order of registration. Of the capabilities only the root's is
    /// among them.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// Every description of a served route.
    fn all(&self) -> Vec<Operation> {
        let mut all = self.operations.clone();
        if let Some(root) = &self.capabilities {
            all.extend(described(&self.operations, root));
        }
        all
    }

    /// Every published pair of method and template: what a test of isolation must attack.
    pub fn published(&self) -> BTreeSet<(String, String)> {
        let all = self.all().into_iter().flat_map(|operation| {
            let method = operation.method.to_string();
            operation.templates().into_iter().map(move |template| (method.clone(), template))
        });
        all.collect()
    }

    /// The OpenAPI document. Prefixes are described, not repeated.
    pub fn document(&self) -> Value {
        document::of(&self.operations)
    }

    /// The router with fallbacks and layers: to be served after `with_state`.
    pub fn into_router(
        self,
        server: &ServerConfig,
        cors: &CorsConfig,
        security: Security,
        overload: Overload,
    ) -> Router<S> {
        let gate = Gate { classes: Classes::new(self.all()), overload };
        let services = Services::new(self.all().into_iter().flat_map(|operation| {
            let (method, service) = (operation.method.clone(), operation.service);
            operation
                .templates()
                .into_iter()
                .map(move |template| (method.clone(), template, service))
        }));
        let router = self
            .router
            .route_layer(middleware::from_fn(accept::refuse_mixtures))
            .route_layer(middleware::from_fn_with_state(gate, admission::admit))
            .fallback(problem::fallback)
            .method_not_allowed_fallback(problem::method_fallback);
        Layers::new(services, server, cors).with_security(security).around(router)
    }
}

/// The capabilities of every path but the root, once each.
fn described(operations: &[Operation], root: &Operation) -> Vec<Operation> {
    let mut paths = BTreeMap::new();
    for operation in operations {
        if operation.reach != Reach::Operator && operation.path != root.path {
            paths.insert(operation.path, operation.reach);
        }
    }
    let of = |(path, reach)| Operation { path, reach, ..root.clone() };
    paths.into_iter().map(of).collect()
}

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| document::of(&OPERATIONS));
static JSON: LazyLock<Bytes> = LazyLock::new(|| DOCUMENT.to_string().into());
static PAGE: LazyLock<Bytes> = LazyLock::new(|| page::of(&DOCUMENT).into());

/// `GET /openapi.json`
pub async fn json() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], JSON.clone()).into_response()
}

/// `GET /docs`: the document for readers, a page that needs nothing from elsewhere.
pub async fn page() -> Response {
    let policy = HeaderValue::from_static(
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'",
    );
    let headers: [(HeaderName, HeaderValue); 1] = [(header::CONTENT_SECURITY_POLICY, policy)];
    (headers, Html(PAGE.clone())).into_response()
}

#[cfg(test)]
mod tests;
