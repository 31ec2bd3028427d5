//! The whole list of candidates, in its order: what a service falls back to.

use super::*;

fn check(target: Target, query: Option<&str>, headers: &[&str], expected: &[&str]) {
    let found = candidates(&accept(query, headers), target.offers());
    let got: Vec<String> = found.iter().map(show).collect();
    assert_eq!(got, expected, "{target:?} {query:?} {headers:?}");
}

#[test]
fn weights_then_names_then_the_clients_order() {
    for (header, expected) in [
        (
            "multipart/related; type=\"application/dicom\"; transfer-syntax=1.2.840.10008.1.2.1, \
             multipart/related; type=\"application/dicom\"; transfer-syntax=*",
            &["m:dicom[1]", "m:dicom[*]"][..],
        ),
        ("*/*", &["m:dicom[?]", "s:dicom[?]", "m:octet-stream[?]"]),
        ("application/dicom;q=0.5, */*;q=0.1", &["s:dicom", "m:dicom[?]", "m:octet-stream[?]"]),
        ("application/dicom;q=0.1, */*;q=0.5", &["m:dicom[?]", "m:octet-stream[?]", "s:dicom"]),
        (
            "*/*, application/dicom; transfer-syntax=*",
            &["s:dicom[*]", "m:dicom[?]", "s:dicom[?]", "m:octet-stream[?]"],
        ),
        // What weighs nothing takes itself away, and what a closer range gives stays.
        (
            "application/dicom; transfer-syntax=*;q=0, */*",
            &["m:dicom[?]", "s:dicom[?]", "m:octet-stream[?]"],
        ),
        ("multipart/*;q=0, */*", &["s:dicom[?]"]),
        ("application/dicom;q=0, */*", &["m:dicom[?]", "m:octet-stream[?]"]),
        ("*/*;q=0, application/dicom", &["s:dicom"]),
    ] {
        check(Target::Instance, None, &[header], expected);
    }
}

#[test]
fn the_second_transfer_syntax_is_the_way_out() {
    let header = "multipart/related; type=\"application/octet-stream\"; \
                  transfer-syntax=\"1.2.840.10008.1.2.4.201\"; transfer-syntax=\"*\"";
    let expected = ["m:octet-stream[4.201]", "m:octet-stream[*]"];
    check(Target::Frames, None, &[header], &expected);
}

#[test]
fn the_query_goes_before_the_header() {
    for (query, headers, expected) in [
        ("accept=application/json", &["*/*"][..], &["s:json", "s:dicom+json", "m:dicom+xml"][..]),
        ("accept=application/dicom%2Bjson", &["application/json"], &["s:dicom+json", "s:json"]),
        (
            "accept=application/json;q=0.2&accept=application/dicom%2Bjson;q=0.1",
            &["text/x"],
            &["s:json", "s:dicom+json"],
        ),
        ("accept=video/mp4", &["application/json"], &["s:json"]),
        ("accept=video/mp4", &["video/mp4"], &["s:dicom+json"]),
        ("accept=", &["application/json"], &["s:json"]),
        ("accept=%20", &["video/mp4"], &[]),
        // Several headers are one list.
        (
            "limit=1",
            &["", "application/json", "application/dicom+json"],
            &["s:json", "s:dicom+json"],
        ),
    ] {
        check(Target::Metadata, Some(query), headers, expected);
    }
}

#[test]
fn a_transfer_syntax_that_a_type_does_not_have_is_no_candidate() {
    let offers = [Offer::single("image/jpeg", Syntaxes::Listed(&["1.2.840.10008.1.2.4.70"]))];
    for (header, expected) in [
        ("image/jpeg", Some("s:image/jpeg")),
        ("image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.70", Some("s:image/jpeg[4.70]")),
        ("image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.90", None),
        ("image/jpeg; transfer-syntax=*", Some("s:image/jpeg[*]")),
    ] {
        let got = choose(&accept(None, &[header]), &offers).ok();
        assert_eq!(got.as_ref().map(show).as_deref(), expected, "{header}");
    }
}

#[test]
fn what_breaks_the_syntax_is_left_out() {
    for (header, expected) in [
        ("nonsense, /, a/, */json, ;;, =, application/json", &["s:json"][..]),
        (r#"text/x; a="unclosed, application/json"#, &[]),
        (r#"text/x; a="b\", c", application/json"#, &["s:json"]),
        ("application/json;q=0.000", &[]),
        ("application/json;q=1.5", &["s:json"]),
        ("application/json;q=-1", &["s:json"]),
    ] {
        check(Target::Metadata, None, &[header], expected);
    }
}
