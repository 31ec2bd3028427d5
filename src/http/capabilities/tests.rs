//! The tree and its two forms.

use axum::http::Method;

use super::*;
use crate::http::operation::Parameter;

const PARAMETERS: &[&[Parameter]] = &[&[
    Parameter::query("limit", "").or("7"),
    Parameter::query("kind", "").of(&["a&b", "c"]).repeating(),
]];

fn operations() -> Vec<Operation> {
    let of = |method, path, summary| {
        Operation::new(method, path, Reach::Partition, "search", summary, "§10.6")
            .statuses(&[200, 204, 400])
    };
    vec![
        of(Method::GET, "/studies", "Search for things")
            .parameters(PARAMETERS)
            .gives(&CAPABILITIES),
        of(Method::POST, "/studies", "Store").takes(&["application/dicom"]),
        of(Method::GET, "/studies/{study}/frames/{*path}", "One"),
        of(Method::GET, "/studiesandmore", "Other"),
        of(Method::OPTIONS, "/", "This"),
    ]
}

#[test]
fn prefixes_are_no_part_of_a_path() {
    for (template, path) in [
        ("/", "/"),
        ("/v2", "/"),
        ("/v2/", "/"),
        ("/partitions/{partition}", "/"),
        ("/v1/partitions/{partition}/", "/"),
        ("/partitions", "/partitions"),
        ("/v1/partitions/{partition}/studies/{study}", "/studies/{study}"),
    ] {
        assert_eq!(tree::without_prefix(template), path, "{template}");
    }
}

#[test]
fn xml_and_json_say_the_same() {
    let operations = operations();
    let tree = tree::below("/", operations.iter());
    let application = wadl::application("http://h/v2", None, &tree);
    let json = application.to_json();
    let resources = &json["application"]["resources"];
    assert_eq!(resources[0]["@base"], "http://h/v2");
    let studies = &resources[0]["resource"][0];
    assert_eq!(studies["@path"], "studies");
    let search = &studies["method"][0];
    assert_eq!((&search["@name"], &search["@id"]), (&"GET".into(), &"SearchForThings".into()));
    let params = search["request"]["param"].as_array().unwrap();
    let named = |name: &str| params.iter().find(|param| param["@name"] == name).unwrap();
    assert_eq!(named("limit")["@default"], "7");
    assert_eq!(named("kind")["option"][0]["@value"], "a&b");
    assert_eq!(named("Accept")["@default"], "application/vnd.sun.wadl+xml");
    assert_eq!(search["response"][0]["representation"][1]["@mediaType"], "application/json");
    assert!(search["response"][1].get("representation").is_none());
    let below = &studies["resource"][0];
    assert_eq!(
        (&below["@path"], &below["param"][0]["@name"]),
        (&"{study}".into(), &"study".into())
    );
    assert_eq!(below["resource"][0]["resource"][0]["@path"], "{path}");

    let xml = application.to_xml();
    assert!(xml.starts_with("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<application xmlns="));
    for part in [
        "<resources base=\"http://h/v2\">",
        "<resource path=\"studies\"><method name=\"GET\" id=\"SearchForThings\"><request>",
        "<param name=\"limit\" style=\"query\" default=\"7\"/>",
        "<option value=\"a&amp;b\"/>",
        "<representation mediaType=\"application/dicom\"/></request>",
        "<response status=\"204\"><doc>",
    ] {
        assert!(xml.contains(part), "{part}\n{xml}");
    }
    let (open, close) = (xml.matches("<resource ").count(), xml.matches("</resource>").count());
    assert_eq!((open, close), (5, 5));
    assert!(!xml.contains("OPTIONS"), "WADL does not describe the request for itself");
}

#[test]
fn below_a_path_stands_what_lies_there() {
    let operations = operations();
    let tree = tree::below("/studies/{study}", operations.iter());
    assert_eq!(tree.path, "studies/{study}");
    assert_eq!(tree.root.below.keys().copied().collect::<Vec<_>>(), ["frames"]);
    let json = wadl::application("http://h", None, &tree).to_json();
    assert_eq!(json["application"]["resources"][0]["resource"][0]["@path"], "studies/{study}");
    let tree = tree::below("/studies", operations.iter());
    assert_eq!(tree.root.operations.len(), 2);
    assert_eq!(methods("/studies", &operations), "GET, HEAD, POST, OPTIONS");
}

#[test]
fn a_partition_in_the_query_is_fixed_there() {
    let operations = operations();
    let tree = tree::below("/", operations.iter());
    let partition = "north".parse().unwrap();
    let xml = wadl::application("http://h", Some(&partition), &tree).to_xml();
    let named = "name=\"microsoft.partitionId\" style=\"query\" fixed=\"north\"";
    assert_eq!(xml.matches(named).count(), 4, "{xml}");
}
