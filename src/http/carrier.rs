//! How a request names its partition: path, query, header, host or (Store) its first part.
//!
//! Owns reading the carriers and their agreement; nothing else may notice which carrier was used,
//! but [`urls`], which answers in the same style. Carriers that agree are one;
//! carriers that disagree are an error that names the carriers and never their values. Absent:
//! whether the partition exists or may be used (`tenancy::decide`).

use std::collections::BTreeSet;

use axum::http::{HeaderMap, request::Parts};
use percent_encoding::percent_decode_str;
use serde::Deserialize;

use super::{
    problem::Problem,
    urls::{self, HostError},
};
use crate::{
    config::{ServerConfig, TenancyConfig},
    query::{Naming, PARTITION_ID, PARTITION_TAG},
    tenancy::{InvalidPartitionId, Named, PartitionId, Permission},
};

/// Bytes that Store reads of a first part of `application/json`. It holds a few short tags.
pub const FIRST_PART_BYTES: u64 = 16 << 10;

/// Partitions that one Search may name.
const MAX_LISTED: usize = 1_000;

/// One way to name a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Carrier {
    /// `/partitions/{id}/...`
    Path,
    /// `?microsoft.partitionId={id}`
    Query,
    /// `{id}.{tenancy.base_domain}`
    Host,
    /// `microsoft.partitionId: {id}`
    Header,
    /// `[{"key":"microsoft.partitionId","value":"{id}"}]`
    FirstPart,
}

impl Carrier {
    fn as_str(self) -> &'static str {
        match self {
            Self::Path => "the path",
            Self::Query => "the query parameter microsoft.partitionId",
            Self::Host => "the host name",
            Self::Header => "the header microsoft.partitionId",
            Self::FirstPart => "the first part",
        }
    }
}

/// The style in which answers name the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Not in the URL: nothing was named, or a header will be sent again.
    Plain,
    /// In the path.
    Path,
    /// In the query.
    Query,
    /// In the host name.
    Host,
}

/// What the carriers of one request said, after they agreed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// The partitions, for `tenancy::decide`.
    pub named: Named,
    /// The style for URLs in the answer: that of the most visible carrier used.
    pub style: Style,
    used: Vec<Carrier>,
}

/// Why the carriers give no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CarrierError {
    /// Two values differ, in two carriers or repeated in one.
    #[error("the request names different partitions")]
    Conflict {
        /// The carriers that were used.
        carriers: Vec<Carrier>,
    },
    /// A value is not a partition id.
    #[error("{rule}")]
    Invalid {
        /// Where it was.
        carrier: Carrier,
        /// The rule for ids.
        #[source]
        rule: InvalidPartitionId,
    },
    /// A carrier is present without a value.
    #[error("the partition id is empty")]
    Empty {
        /// Where.
        carrier: Carrier,
    },
    /// The query lists too many.
    #[error("a search names at most {MAX_LISTED} partitions")]
    TooMany,
    /// The first part is not a JSON list of keys and values.
    #[error("the first part is not a JSON array of objects with text members key and value")]
    Part,
    /// The host name cannot be used.
    #[error(transparent)]
    Host(#[from] HostError),
}

impl Carried {
    /// Reads path, query, host and header of a request. The router must not strip prefixes
    /// (`Router::nest`) before this is called. A list in the query is taken for actions on
    /// several partitions.
    ///
    /// # Errors
    /// See [`CarrierError`].
    pub fn read(
        request: &Parts,
        server: &ServerConfig,
        tenancy: &TenancyConfig,
        action: Permission,
    ) -> Result<Self, CarrierError> {
        let mut found = Vec::new();
        if let Some(segment) = partition_segment(request.uri.path()) {
            let text = percent_decode_str(segment).decode_utf8_lossy();
            found.push((Carrier::Path, one(Carrier::Path, &text)?));
        }
        let query = request.uri.query().unwrap_or_default();
        let searches = !action.needs_one_partition();
        let by_tag = searches && Naming::of(query).by_tag();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            // An attribute may be named only to be returned.
            let matched = || by_tag && name == PARTITION_TAG && !matches!(&*value, "" | "*");
            if name == PARTITION_ID || matched() {
                let ids = if searches { list(&value)? } else { one(Carrier::Query, &value)? };
                found.push((Carrier::Query, ids));
            }
        }
        let host = urls::request_host(request, server)?;
        if let Some(label) = host.as_deref().and_then(|host| label_of(host, tenancy)) {
            found.push((Carrier::Host, one(Carrier::Host, label)?));
        }
        from_header(&request.headers, &mut found)?;
        agree(found)
    }

    /// Adds what the first part of a Store request says. `json` is the part's whole body, of at
    /// most [`FIRST_PART_BYTES`]. Other keys are left alone.
    ///
    /// # Errors
    /// See [`CarrierError`].
    pub fn with_first_part(self, json: &[u8]) -> Result<Self, CarrierError> {
        #[derive(Deserialize)]
        struct Tag {
            key: String,
            value: String,
        }
        let tags: Vec<Tag> = serde_json::from_slice(json).map_err(|_| CarrierError::Part)?;
        let before = match self.named {
            Named::Nothing => None,
            Named::One(id) => Some(BTreeSet::from([id])),
            Named::Several(ids) => Some(ids),
        };
        let mut found: Vec<_> = self
            .used
            .iter()
            .filter_map(|&carrier| before.clone().map(|ids| (carrier, ids)))
            .collect();
        for tag in tags.iter().filter(|tag| tag.key == PARTITION_ID) {
            found.push((Carrier::FirstPart, one(Carrier::FirstPart, &tag.value)?));
        }
        agree(found)
    }
}

/// The segment after `/partitions/` (which may follow `/v1` or `/v2`).
fn partition_segment(path: &str) -> Option<&str> {
    let (_, rest) = urls::split_version(path);
    let rest = rest.strip_prefix("/partitions/")?;
    if rest.is_empty() {
        return None;
    }
    rest.split('/').next()
}

/// What stands before `.{base_domain}` in a host name; both are lower case.
fn label_of<'a>(host: &'a str, tenancy: &TenancyConfig) -> Option<&'a str> {
    let base = tenancy.base_domain.as_deref()?;
    let at = host.len().checked_sub(base.len())?;
    let (label, tail) = (host.get(..at)?, host.get(at..)?);
    if tail.eq_ignore_ascii_case(base) { label.strip_suffix('.') } else { None }
}

fn from_header(
    headers: &HeaderMap,
    found: &mut Vec<(Carrier, BTreeSet<PartitionId>)>,
) -> Result<(), CarrierError> {
    // HeaderMap compares names without case; its own are lower case.
    for value in headers.get_all("microsoft.partitionid") {
        let text = value.to_str().map_err(|_| CarrierError::Invalid {
            carrier: Carrier::Header,
            rule: InvalidPartitionId,
        })?;
        found.push((Carrier::Header, one(Carrier::Header, text.trim())?));
    }
    Ok(())
}

fn one(carrier: Carrier, text: &str) -> Result<BTreeSet<PartitionId>, CarrierError> {
    if text.is_empty() {
        return Err(CarrierError::Empty { carrier });
    }
    let id = text.parse().map_err(|rule| CarrierError::Invalid { carrier, rule })?;
    Ok(BTreeSet::from([id]))
}

fn list(text: &str) -> Result<BTreeSet<PartitionId>, CarrierError> {
    let mut ids = BTreeSet::new();
    for item in text.split(',') {
        ids.extend(one(Carrier::Query, item)?);
        if ids.len() > MAX_LISTED {
            return Err(CarrierError::TooMany);
        }
    }
    Ok(ids)
}

fn agree(found: Vec<(Carrier, BTreeSet<PartitionId>)>) -> Result<Carried, CarrierError> {
    let mut used: Vec<Carrier> = found.iter().map(|(carrier, _)| *carrier).collect();
    used.sort_unstable();
    used.dedup();
    let mut values = found.into_iter().map(|(_, ids)| ids);
    let Some(ids) = values.next() else {
        return Ok(Carried { named: Named::Nothing, style: Style::Plain, used });
    };
    if values.any(|other| other != ids) {
        return Err(CarrierError::Conflict { carriers: used });
    }
    let style = match used.first() {
        // A first part cannot be sent again with a GET: the URLs must work without it.
        Some(Carrier::Path | Carrier::FirstPart) => Style::Path,
        Some(Carrier::Query) => Style::Query,
        Some(Carrier::Host) => Style::Host,
        Some(Carrier::Header) | None => Style::Plain,
    };
    let mut rest = ids.iter();
    let named = match (rest.next(), rest.next()) {
        (Some(only), None) => Named::One(only.clone()),
        _ => Named::Several(ids),
    };
    Ok(Carried { named, style, used })
}

impl From<CarrierError> for Problem {
    fn from(error: CarrierError) -> Self {
        let text = error.to_string();
        match error {
            CarrierError::Conflict { carriers } => {
                let problem = Self::bad_request(text);
                carriers.into_iter().fold(problem, |problem, carrier| {
                    problem.with_error(carrier.as_str(), "differs from another or is repeated")
                })
            }
            CarrierError::Invalid { carrier, .. } | CarrierError::Empty { carrier } => {
                Self::invalid(carrier.as_str(), text)
            }
            CarrierError::TooMany => Self::invalid(Carrier::Query.as_str(), text),
            CarrierError::Part => Self::invalid(Carrier::FirstPart.as_str(), text),
            CarrierError::Host(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn request(uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn read(
        uri: &str,
        headers: &[(&str, &str)],
        action: Permission,
    ) -> Result<Carried, CarrierError> {
        let tenancy = TenancyConfig { base_domain: Some("dicom.example.org".into()) };
        Carried::read(&request(uri, headers), &ServerConfig::default(), &tenancy, action)
    }

    fn names(uri: &str, headers: &[(&str, &str)]) -> Result<(String, Style), CarrierError> {
        read(uri, headers, Permission::Search).map(|carried| {
            let text = match carried.named {
                Named::Nothing => String::new(),
                Named::One(id) => id.to_string(),
                Named::Several(ids) => {
                    ids.iter().map(PartitionId::as_str).collect::<Vec<_>>().join("+")
                }
            };
            (text, carried.style)
        })
    }

    #[test]
    fn each_carrier_names_and_agreeing_ones_are_one() {
        let host = ("host", "Clinic1.dicom.example.org:8443");
        let header = ("Microsoft.PartitionId", "CLINIC1");
        for (uri, headers, expected, style) in [
            ("/studies", vec![], "", Style::Plain),
            ("/partitions", vec![], "", Style::Plain),
            ("/partitions/", vec![], "", Style::Plain),
            ("/studies", vec![("host", "dicom.example.org")], "", Style::Plain),
            ("/studies", vec![("host", "127.0.0.1:8080")], "", Style::Plain),
            ("/studies", vec![("host", "evildicom.example.org")], "", Style::Plain),
            ("/partitions/Clinic1/studies", vec![], "clinic1", Style::Path),
            ("/v2/partitions/clinic1/studies", vec![], "clinic1", Style::Path),
            ("/partitions/clinic%31/studies", vec![], "clinic1", Style::Path),
            ("/studies?microsoft.partitionId=clinic1", vec![], "clinic1", Style::Query),
            ("/studies?microsoft.partitionId=a,B,a", vec![], "a+b", Style::Query),
            ("/studies?microsoft.partitionId=a,a", vec![], "a", Style::Query),
            ("/studies?microsoft.partitionId=a&microsoft.partitionId=A", vec![], "a", Style::Query),
            ("/studies", vec![host], "clinic1", Style::Host),
            ("/studies", vec![header], "clinic1", Style::Plain),
            ("/studies", vec![header, header], "clinic1", Style::Plain),
            ("/studies", vec![header, host], "clinic1", Style::Host),
            ("/partitions/clinic1/studies", vec![header, host], "clinic1", Style::Path),
        ] {
            assert_eq!(names(uri, &headers), Ok((expected.to_owned(), style)), "{uri} {headers:?}");
        }
    }

    #[test]
    fn disagreement_is_a_conflict_that_tells_carriers_but_no_values() {
        for (uri, headers) in [
            ("/partitions/a/studies?microsoft.partitionId=b", vec![]),
            ("/partitions/a/studies?microsoft.partitionId=a,b", vec![]),
            ("/studies?microsoft.partitionId=a&microsoft.partitionId=b", vec![]),
            ("/studies", vec![("microsoft.partitionId", "a"), ("microsoft.partitionId", "b")]),
            ("/partitions/a/studies", vec![("microsoft.partitionId", "b")]),
            ("/partitions/a/studies", vec![("host", "b.dicom.example.org")]),
        ] {
            let error = names(uri, &headers).unwrap_err();
            assert!(matches!(error, CarrierError::Conflict { .. }), "{uri} {headers:?}: {error}");
        }
        let error = names("/partitions/a/s?microsoft.partitionId=zz", &[]).unwrap_err();
        let problem = Problem::from(error);
        assert_eq!(problem.status(), 400);
        let fields: Vec<_> = problem.errors().iter().map(|error| &*error.field).collect();
        assert_eq!(fields, ["the path", "the query parameter microsoft.partitionId"]);
        assert!(!format!("{problem:?}").contains("zz"));
    }

    #[test]
    fn what_is_no_id_is_refused_with_the_rule() {
        for (uri, headers) in [
            ("/partitions/-a/studies", vec![]),
            ("/partitions/..%2f/studies", vec![]),
            ("/partitions/a%00/studies", vec![]),
            ("/studies?microsoft.partitionId=a%20b", vec![]),
            ("/studies", vec![("microsoft.partitionId", "a,b")]),
            ("/studies", vec![("host", "_a.dicom.example.org")]),
        ] {
            let error = names(uri, &headers).unwrap_err();
            assert!(matches!(error, CarrierError::Invalid { .. }), "{uri} {headers:?}: {error}");
        }
        for (uri, headers) in [
            ("/partitions//studies", vec![]),
            ("/studies?microsoft.partitionId=", vec![]),
            ("/studies?microsoft.partitionId", vec![]),
            ("/studies?microsoft.partitionId=a,,b", vec![]),
            ("/studies", vec![("microsoft.partitionId", "")]),
        ] {
            let error = names(uri, &headers).unwrap_err();
            assert!(matches!(error, CarrierError::Empty { .. }), "{uri} {headers:?}: {error}");
        }
    }

    #[test]
    fn lists_are_for_actions_on_several_partitions() {
        let uri = "/studies?microsoft.partitionId=a,b";
        for action in [Permission::Store, Permission::Retrieve, Permission::Delete] {
            let error = read(uri, &[], action).unwrap_err();
            assert!(matches!(error, CarrierError::Invalid { carrier: Carrier::Query, .. }));
        }
        let long = (0..=MAX_LISTED).map(|n| format!("p{n}")).collect::<Vec<_>>().join(",");
        let uri = format!("/studies?microsoft.partitionId={long}");
        assert_eq!(read(&uri, &[], Permission::Search), Err(CarrierError::TooMany));
    }

    #[test]
    fn the_first_part_of_a_store_is_a_carrier_too() {
        let plain = || read("/studies", &[], Permission::Store).unwrap();
        let json = br#"[{"key":"note","value":"x"},{"key":"microsoft.partitionId","value":"A"}]"#;
        let carried = plain().with_first_part(json).unwrap();
        assert_eq!(carried.named, Named::One("a".parse().unwrap()));
        assert_eq!(carried.style, Style::Path);
        assert_eq!(plain().with_first_part(b"[]").unwrap(), plain());

        let path = |id: &str| read(&format!("/partitions/{id}/studies"), &[], Permission::Store);
        assert_eq!(path("a").unwrap().with_first_part(json).unwrap().style, Style::Path);
        assert_eq!(
            path("b").unwrap().with_first_part(json),
            Err(CarrierError::Conflict { carriers: vec![Carrier::Path, Carrier::FirstPart] })
        );
        for broken in [&b"{}"[..], b"", b"[1]", br#"[{"key":"microsoft.partitionId"}]"#, b"\xff"] {
            assert_eq!(plain().with_first_part(broken), Err(CarrierError::Part));
        }
        let empty = br#"[{"key":"microsoft.partitionId","value":""}]"#;
        let expected = CarrierError::Empty { carrier: Carrier::FirstPart };
        assert_eq!(plain().with_first_part(empty), Err(expected));
    }
}
