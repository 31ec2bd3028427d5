//! The Web Application Description Language (W3C member submission of 2009) as far as PS3.18
//! Annex H needs it: one tree of elements, written as XML or, by Annex G, as JSON.

use serde_json::{Map, Value};

use super::tree::{Resource, Tree};
use crate::{
    http::{
        accept::Offer,
        operation::{Operation, Parameter, Place, meaning},
    },
    query::PARTITION_ID,
    tenancy::PartitionId,
};

const NAMESPACE: &str = "http://wadl.dev.java.net/2009/02";

/// Elements that stand at most once in their parent; all others are arrays in JSON.
const SINGLE: [&str; 1] = ["request"];

/// One element.
#[derive(Debug)]
pub struct Element {
    name: &'static str,
    attributes: Vec<(&'static str, String)>,
    text: Option<&'static str>,
    children: Vec<Element>,
}

impl Element {
    fn new(name: &'static str) -> Self {
        Self { name, attributes: Vec::new(), text: None, children: Vec::new() }
    }

    fn text(text: &'static str) -> Self {
        Self { text: Some(text), ..Self::new("doc") }
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.attributes.push((name, value.into()));
        self
    }

    fn holding(mut self, children: impl IntoIterator<Item = Self>) -> Self {
        self.children.extend(children);
        self
    }

    /// The document in XML, in UTF-8.
    pub fn to_xml(&self) -> String {
        let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        self.write(&mut xml);
        xml.push('\n');
        xml
    }

    fn write(&self, xml: &mut String) {
        xml.push_str(&format!("<{}", self.name));
        if self.name == "application" {
            xml.push_str(&format!(" xmlns=\"{NAMESPACE}\""));
        }
        for (name, value) in &self.attributes {
            xml.push_str(&format!(" {name}=\"{}\"", escaped(value)));
        }
        if self.text.is_none() && self.children.is_empty() {
            xml.push_str("/>");
            return;
        }
        xml.push('>');
        xml.push_str(&escaped(self.text.unwrap_or_default()));
        for child in &self.children {
            child.write(xml);
        }
        xml.push_str(&format!("</{}>", self.name));
    }

    /// The document in JSON: `{"application": …}`.
    pub fn to_json(&self) -> Value {
        Value::Object(Map::from_iter([(self.name.to_owned(), self.object())]))
    }

    fn object(&self) -> Value {
        let mut object = Map::new();
        for (name, value) in &self.attributes {
            object.insert(format!("@{name}"), Value::String(value.clone()));
        }
        if let Some(text) = self.text {
            object.insert("value".into(), Value::String(text.to_owned()));
        }
        for child in &self.children {
            if SINGLE.contains(&child.name) {
                object.insert(child.name.to_owned(), child.object());
                continue;
            }
            let array = object.entry(child.name).or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(array) = array {
                array.push(child.object());
            }
        }
        Value::Object(object)
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The document: what lies in a tree, under a base. Where requests name a partition in their
/// query, it is `fixed`.
pub fn application(base: &str, fixed: Option<&PartitionId>, tree: &Tree<'_>) -> Element {
    let resources = Element::new("resources").with("base", base);
    let resources = if tree.path.is_empty() {
        resources.holding(below(&tree.root, fixed))
    } else {
        resources.holding([resource(tree.path, &tree.root, fixed)])
    };
    let document = Element::text("DICOMweb (PS3.18)")
        .with("xml:lang", "en")
        .with("title", concat!("Collimator ", env!("CARGO_PKG_VERSION")));
    Element::new("application").holding([document, resources])
}

fn below(of: &Resource<'_>, fixed: Option<&PartitionId>) -> Vec<Element> {
    of.below.iter().map(|(segment, below)| resource(segment, below, fixed)).collect()
}

fn resource(path: &str, of: &Resource<'_>, fixed: Option<&PartitionId>) -> Element {
    let names = path.split(['{', '}']).skip(1).step_by(2).map(|name| name.trim_start_matches('*'));
    let parameters = names.map(|name| {
        Element::new("param").with("name", name).with("style", "template").with("required", "true")
    });
    Element::new("resource")
        .with("path", path.replace("{*", "{"))
        .holding(parameters)
        .holding(of.operations.iter().map(|operation| method(operation, fixed)))
        .holding(below(of, fixed))
}

fn method(operation: &Operation, fixed: Option<&PartitionId>) -> Element {
    let parameters = operation.all_parameters();
    let parameters = parameters.iter().map(|parameter| {
        let element = param(parameter, operation.offers);
        let names_partition = parameter.name == PARTITION_ID && parameter.place == Place::Query;
        match fixed {
            Some(partition) if names_partition => element.with("fixed", partition.as_str()),
            _ => element,
        }
    });
    let takes = operation.takes.iter().map(|media_type| representation(media_type));
    let request = Element::new("request").holding(parameters).holding(takes);
    let responses = operation.statuses.iter().map(|status| response(*status, operation.offers));
    Element::new("method")
        .with("name", operation.method.as_str())
        .with("id", operation.id())
        .holding([request])
        .holding(responses)
}

fn param(parameter: &Parameter, offers: &[Offer]) -> Element {
    let style = match parameter.place {
        Place::Query => "query",
        Place::Header => "header",
    };
    let mut element = Element::new("param").with("name", parameter.name).with("style", style);
    let is_accept = parameter.name.eq_ignore_ascii_case("accept");
    let offers = if is_accept { offers } else { &[] };
    // What `*/*` comes to.
    let default = offers.first().map(Offer::name).unwrap_or_else(|| parameter.default.to_owned());
    if !default.is_empty() {
        element = element.with("default", default);
    }
    if parameter.repeats {
        element = element.with("repeating", "true");
    }
    let options = parameter.options.iter().map(|option| (*option).to_owned());
    let options = options.chain(offers.iter().flat_map(Offer::describe));
    element.holding(options.map(|option| Element::new("option").with("value", option)))
}

fn response(status: u16, offers: &[Offer]) -> Element {
    let response = Element::new("response")
        .with("status", status.to_string())
        .holding([Element::text(meaning(status))]);
    match status {
        204 | 304 => response,
        400.. => response.holding([representation("application/problem+json")]),
        _ => response.holding(offers.iter().map(|offer| representation(&offer.name()))),
    }
}

fn representation(media_type: &str) -> Element {
    Element::new("representation").with("mediaType", media_type)
}
