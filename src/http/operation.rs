//! What is published about a route: the one description that the router, the OpenAPI document,
//! the capabilities (PS3.18 §8.9) and the tables of the conformance statement are made of.
//!
//! Owns [`Operation`], [`Parameter`] and what every route has in common. Holds: all of it is
//! constant data, and media types are the offers that negotiation itself decides by. Absent: the
//! forms in which it is published ([`super::openapi`], `super::capabilities`).

use axum::http::Method;

use super::{accept::Offer, parameters};

pub use parameters::matching_workitems;

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

/// Where a parameter of a request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the query.
    Query,
    /// A header.
    Header,
}

/// A parameter that a route reads, besides those of its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name, as it is written.
    pub name: &'static str,
    /// Where it stands.
    pub place: Place,
    /// One line for readers.
    pub summary: &'static str,
    /// What is taken where it is not sent; empty where that is nothing.
    pub default: &'static str,
    /// The values that it can have; empty where they are no closed set.
    pub options: &'static [&'static str],
    /// Whether it may be there several times.
    pub repeats: bool,
}

impl Parameter {
    /// A query parameter.
    pub const fn query(name: &'static str, summary: &'static str) -> Self {
        Self { name, place: Place::Query, summary, default: "", options: &[], repeats: false }
    }

    /// A request header.
    pub const fn header(name: &'static str, summary: &'static str) -> Self {
        Self { place: Place::Header, ..Self::query(name, summary) }
    }

    /// With a value that counts where none is sent.
    pub const fn or(mut self, default: &'static str) -> Self {
        self.default = default;
        self
    }

    /// With a closed set of values.
    pub const fn of(mut self, options: &'static [&'static str]) -> Self {
        self.options = options;
        self
    }

    /// That may be there several times.
    pub const fn repeating(mut self) -> Self {
        self.repeats = true;
        self
    }
}

/// What is published about a route. Made by [`Operation::new`] and the methods after it; what is
/// not said is empty.
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
    /// One line for readers, different for each route.
    pub summary: &'static str,
    /// The section of PS3.18, or empty.
    pub section: &'static str,
    /// Parameters, in groups that routes share.
    pub groups: &'static [&'static [Parameter]],
    /// Media types of the request's body.
    pub takes: &'static [&'static str],
    /// What the answer can be, the default first.
    pub offers: &'static [Offer],
    /// Statuses of answers, but for what any route may answer.
    pub statuses: &'static [u16],
}

impl Operation {
    /// A route.
    pub const fn new(
        method: Method,
        path: &'static str,
        reach: Reach,
        service: &'static str,
        summary: &'static str,
        section: &'static str,
    ) -> Self {
        Self {
            method,
            path,
            reach,
            service,
            summary,
            section,
            groups: &[],
            takes: &[],
            offers: &[],
            statuses: &[],
        }
    }

    /// With parameters.
    #[must_use]
    pub const fn parameters(mut self, groups: &'static [&'static [Parameter]]) -> Self {
        self.groups = groups;
        self
    }

    /// With a body of one of these media types.
    #[must_use]
    pub const fn takes(mut self, media_types: &'static [&'static str]) -> Self {
        self.takes = media_types;
        self
    }

    /// With an answer of one of these media types.
    #[must_use]
    pub const fn gives(mut self, offers: &'static [Offer]) -> Self {
        self.offers = offers;
        self
    }

    /// With these statuses.
    #[must_use]
    pub const fn statuses(mut self, statuses: &'static [u16]) -> Self {
        self.statuses = statuses;
        self
    }

    /// Every parameter: of the partition, of negotiation, of the groups, and each attribute that
    /// can be matched for that of any attribute.
    pub fn all_parameters(&self) -> Vec<Parameter> {
        let partition = if self.reach == Reach::Partition { parameters::PARTITION } else { &[] };
        let accept = if self.offers.is_empty() { &[] } else { parameters::ACCEPT };
        let groups = self.groups.iter().flat_map(|group| group.iter());
        let mut all = Vec::new();
        for parameter in partition.iter().chain(accept).chain(groups) {
            if parameter.name == parameters::ATTRIBUTE {
                all.extend(parameters::matching(self.path));
            } else if parameter.name == parameters::WORKITEM_ATTRIBUTE {
                all.extend(parameters::matching_workitems());
            } else {
                all.push(*parameter);
            }
        }
        all
    }

    /// The names of the path's parameters, in its order.
    pub fn path_parameters(&self) -> impl Iterator<Item = &'static str> {
        self.path.split(['{', '}']).skip(1).step_by(2).map(|name| name.trim_start_matches('*'))
    }

    /// The summary as a name: `Search for studies` is `SearchForStudies`.
    pub fn id(&self) -> String {
        let words = self.summary.split(|c: char| !c.is_ascii_alphanumeric());
        words
            .filter_map(|word| {
                let mut letters = word.chars();
                let first = letters.next()?.to_ascii_uppercase();
                Some(std::iter::once(first).chain(letters).collect::<String>())
            })
            .collect()
    }

    /// Every template under which the route answers. The root of a service answers with and
    /// without its last slash.
    pub fn templates(&self) -> Vec<String> {
        let (versions, partitions): (&[&str], &[&str]) = match self.reach {
            Reach::Operator => (&[""], &[""]),
            Reach::Server => (&VERSIONS, &[""]),
            Reach::Partition => (&VERSIONS, &["", PARTITION]),
        };
        let mut templates = Vec::new();
        for version in versions {
            for partition in partitions {
                let template = format!("{version}{partition}{}", self.path);
                if let Some(bare) = template.strip_suffix('/').filter(|bare| !bare.is_empty()) {
                    templates.push(bare.to_owned());
                }
                templates.push(template);
            }
        }
        templates
    }
}

/// What a status means, in words that fit every route.
pub const fn meaning(status: u16) -> &'static str {
    match status {
        101 => "The connection is a WebSocket from here on.",
        200 => "Everything that was asked for.",
        201 => "Made; a secret in the body is shown this once.",
        202 => {
            "Accepted: stored in part or with warnings, work that goes on, or a request for \
             cancellation; the body, where there is one, says more."
        }
        204 => "Done, or nothing matched; there is no body.",
        206 => {
            "The range of bytes asked for, those of the items that can be had as asked, or \
             workitems behind which there are more."
        }
        304 => "Unchanged since the entity tag that the client named.",
        400 => "The request breaks a rule; the body names the field.",
        401 => "The request has no credential, or one that is not good.",
        403 => "Who asks may not do this.",
        404 => "There is no such resource in reach of this request.",
        406 => "None of the acceptable media types can be given; the body lists those that can.",
        408 => "The body of the request brought nothing for too long.",
        409 => "Nothing was stored or changed; the body says why.",
        410 => "It was here and was deleted.",
        413 => "The request, or what it asks for, exceeds a limit.",
        415 => "The media type of the request is not taken; the body lists those that are.",
        416 => "The range lies outside the representation.",
        426 => "The request does not ask for a WebSocket, or cannot have one over HTTP/2.",
        429 => {
            "Too many credentials have failed from there, or too much is asked for at a time; \
             see Retry-After."
        }
        503 => "The server cannot answer just now; see Retry-After.",
        _ => "An error; the body says more.",
    }
}
