//! The list of routes, and the OpenAPI 3.1 document made from it.
//!
//! A route is registered together with its description ([`Routes::add`]), so that the router and
//! the published list cannot differ; the test of isolation walks the list. Companions of a
//! partition are registered once and answer under every prefix (`/v1`, `/v2`,
//! `/partitions/{partition}`). Absent: schemas of bodies, which PS3.18 defines.

use std::collections::{BTreeMap, BTreeSet};

use axum::{
    Router,
    handler::Handler,
    http::Method,
    routing::{MethodFilter, on},
};
use serde_json::{Map, Value, json};

use super::{
    layers::{Layers, observe::Services},
    problem,
};
use crate::config::{CorsConfig, ServerConfig};

/// Prefixes of routes of the whole server: as the standard has them, and as clients of
/// Microsoft's server do.
const VERSIONS: [&str; 3] = ["", "/v1", "/v2"];

/// Segments in which a route names the partition.
const PARTITION: &str = "/partitions/{partition}";

/// Where a route lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// In a partition: also under `/partitions/{partition}`, `/v1` and `/v2`.
    Partition,
    /// Of the whole server, also under `/v1` and `/v2`.
    Server,
    /// For operators (health, metrics): only as written.
    Operator,
}

/// What is published about a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Method; `GET` takes `HEAD` along.
    pub method: Method,
    /// Template as written, such as `/studies/{study}`.
    pub path: &'static str,
    /// Where it lies.
    pub reach: Reach,
    /// The service, as in metrics and logs: `store`, `retrieve`, `search`, ...
    pub service: &'static str,
    /// One line for readers.
    pub summary: &'static str,
    /// The section of PS3.18, or empty.
    pub section: &'static str,
}

/// Routes with their descriptions.
pub struct Routes<S = ()> {
    router: Router<S>,
    operations: Vec<Operation>,
}

impl<S> Default for Routes<S>
where
    S: Clone + Send + Sync + 'static,
{
    fn default() -> Self {
        Self { router: Router::new(), operations: Vec::new() }
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
        #[expect(clippy::expect_used, reason = "at start, by what is written in this repository")]
        let filter = MethodFilter::try_from(operation.method.clone())
            .expect("routes are written with methods that OpenAPI knows");
        for template in operation.templates() {
            #[expect(clippy::disallowed_methods, reason = "the one place that adds routes")]
            let router = self.router.route(&template, on(filter, handler.clone()));
            self.router = router;
        }
        self.operations.push(operation);
        self
    }

    /// The descriptions, in the order of registration.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// Every published pair of method and template: what a test of isolation must attack.
    pub fn published(&self) -> BTreeSet<(String, String)> {
        let all = self.operations.iter().flat_map(|operation| {
            let method = operation.method.to_string();
            operation.templates().into_iter().map(move |template| (method.clone(), template))
        });
        all.collect()
    }

    /// The OpenAPI document. Prefixes are described, not repeated.
    pub fn document(&self) -> Value {
        let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
        for operation in &self.operations {
            let methods = paths.entry(operation.path).or_default();
            methods.insert(operation.method.as_str().to_ascii_lowercase(), operation.describe());
        }
        json!({
            "openapi": "3.1.0",
            "info": {
                "title": "Collimator",
                "version": env!("CARGO_PKG_VERSION"),
                "description": "DICOMweb (PS3.18) in partitions. Operations tagged `partition` \
                    also answer under /partitions/{partition}; all but those of operators also \
                    under /v1 and /v2. Errors are application/problem+json (RFC 9457).",
            },
            "paths": paths,
            "components": {"schemas": {"Problem": problem_schema()}},
        })
    }

    /// The router with fallbacks and layers: to be served after `with_state`.
    pub fn into_router(self, server: &ServerConfig, cors: &CorsConfig) -> Router<S> {
        let services = Services::new(self.operations.iter().flat_map(|operation| {
            let (method, service) = (operation.method.clone(), operation.service);
            operation
                .templates()
                .into_iter()
                .map(move |template| (method.clone(), template, service))
        }));
        let router = self
            .router
            .fallback(problem::fallback)
            .method_not_allowed_fallback(problem::method_fallback);
        Layers::new(services, server, cors).around(router)
    }
}

impl Operation {
    /// Every template under which the route answers.
    pub fn templates(&self) -> Vec<String> {
        let path = self.path;
        match self.reach {
            Reach::Operator => vec![path.to_owned()],
            Reach::Server => VERSIONS.iter().map(|version| format!("{version}{path}")).collect(),
            Reach::Partition => VERSIONS
                .iter()
                .flat_map(|version| {
                    ["", PARTITION].map(|partition| format!("{version}{partition}{path}"))
                })
                .collect(),
        }
    }

    fn describe(&self) -> Value {
        let parameters: Vec<Value> = self
            .path
            .split(['{', '}'])
            .skip(1)
            .step_by(2)
            .map(|name| {
                let name = name.trim_start_matches('*');
                json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}})
            })
            .collect();
        let mut tags = vec![self.service];
        if self.reach == Reach::Partition {
            tags.push("partition");
        }
        let problem = json!({"application/problem+json": {
            "schema": {"$ref": "#/components/schemas/Problem"}
        }});
        let mut described = json!({
            "summary": self.summary,
            "tags": tags,
            "parameters": parameters,
            "responses": {
                "2XX": {"description": "Success"},
                "default": {"description": "Error", "content": problem},
            },
        });
        if !self.section.is_empty() {
            described["description"] = json!(format!("DICOM PS3.18 {}", self.section));
        }
        described
    }
}

fn problem_schema() -> Value {
    json!({
        "type": "object",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": {"type": "string", "format": "uri"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "errors": {"type": "array", "items": {
                "type": "object",
                "required": ["field", "reason"],
                "properties": {"field": {"type": "string"}, "reason": {"type": "string"}},
            }},
            "available": {"type": "array", "items": {"type": "string"}},
            "request_id": {"type": "string"},
        },
    })
}

#[cfg(test)]
mod tests {
    use axum::{
        body::Body,
        extract::Path,
        http::{Request, StatusCode},
    };
    use serde::Deserialize;
    use tower::ServiceExt as _;

    use super::*;

    #[derive(Deserialize)]
    struct StudyPath {
        study: String,
    }

    async fn study(Path(path): Path<StudyPath>) -> String {
        path.study
    }

    fn operation(method: Method, path: &'static str, reach: Reach) -> Operation {
        Operation { method, path, reach, service: "retrieve", summary: "", section: "§10.4" }
    }

    fn routes() -> Routes {
        Routes::default()
            .add(operation(Method::GET, "/studies/{study}", Reach::Partition), study)
            .add(operation(Method::DELETE, "/studies/{study}", Reach::Partition), study)
            .add(operation(Method::GET, "/partitions", Reach::Server), async || "list")
            .add(operation(Method::GET, "/health/live", Reach::Operator), async || "live")
    }

    async fn status(method: Method, path: &str) -> StatusCode {
        let router = routes().into_router(&ServerConfig::default(), &CorsConfig::default());
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        router.with_state(()).oneshot(request).await.unwrap().status()
    }

    #[tokio::test]
    async fn what_is_published_is_served_and_nothing_else() {
        let published = routes().published();
        assert_eq!(published.len(), 6 + 6 + 3 + 1);
        for (method, template) in published {
            let path = template.replace("{study}", "1").replace("{partition}", "p");
            let method = Method::try_from(method.as_str()).unwrap();
            assert_eq!(status(method, &path).await, StatusCode::OK, "{path}");
        }
        for path in ["/v3/studies/1", "/v2/health/live", "/partitions/p/partitions", "/studies/1/"]
        {
            assert_eq!(status(Method::GET, path).await, StatusCode::NOT_FOUND, "{path}");
        }
        assert_eq!(status(Method::PUT, "/studies/1").await, StatusCode::METHOD_NOT_ALLOWED);
    }

    #[test]
    fn the_document_names_every_operation() {
        let document = routes().document();
        for operation in routes().operations() {
            let method = operation.method.as_str().to_ascii_lowercase();
            let described = &document["paths"][operation.path][&method];
            assert_eq!(described["tags"][0], "retrieve", "{}", operation.path);
        }
        let get = &document["paths"]["/studies/{study}"]["get"];
        assert_eq!(get["parameters"][0]["name"], "study");
        assert_eq!(get["description"], "DICOM PS3.18 §10.4");
    }
}
