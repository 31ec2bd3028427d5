//! Rows from PS3.18 and from what clients in the field send.

use axum::http::{HeaderMap, HeaderValue, header};
use proptest::prelude::*;

use super::*;
use crate::config::MissingAccept;

const JPEG: Syntaxes = Syntaxes::Listed(&["1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.50"]);
const JLS: Syntaxes = Syntaxes::Listed(&["1.2.840.10008.1.2.4.80"]);
const JPHC: Syntaxes = Syntaxes::Listed(&["1.2.840.10008.1.2.4.201"]);

const STUDY: &[Offer] = &[Offer::multipart("application/dicom", Syntaxes::Any)];
const INSTANCE: &[Offer] = &[
    Offer::multipart("application/dicom", Syntaxes::Any),
    Offer::single("application/dicom", Syntaxes::Any),
];
const FRAMES: &[Offer] = &[
    Offer::multipart("application/octet-stream", Syntaxes::Any),
    Offer::single("application/octet-stream", Syntaxes::Any),
    Offer::multipart("image/jpeg", JPEG),
    Offer::single("image/jpeg", JPEG),
    Offer::multipart("image/jls", JLS),
    Offer::multipart("image/jphc", JPHC),
];
const JSON: &[Offer] = &[Offer::plain("application/dicom+json"), Offer::plain("application/json")];

fn accept(query: Option<&str>, headers: &[&str]) -> AcceptSet {
    let mut map = HeaderMap::new();
    for value in headers {
        map.append(header::ACCEPT, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    AcceptSet::of(&map, query, MissingAccept::Any)
}

/// Candidates as text: `m:` multipart or `s:` single, media type, `[transfer syntax]`.
fn show(choices: &[Choice]) -> Vec<String> {
    let one = |choice: &Choice| {
        let form = if choice.form == Form::Multipart { "m" } else { "s" };
        let syntax = match &choice.syntax {
            Syntax::Default => String::new(),
            Syntax::Stored => "[*]".into(),
            Syntax::Uid(uid) => format!("[{}]", uid.as_str().trim_start_matches("1.2.840.10008")),
            Syntax::Open => "[?]".into(),
        };
        let media_type = choice.media_type.trim_start_matches("application/");
        format!("{form}:{media_type}{syntax}")
    };
    choices.iter().map(one).collect()
}

fn check(offers: &[Offer], header: &str, expected: &[&str]) {
    let got = show(&candidates(&accept(None, &[header]), offers));
    assert_eq!(got, expected, "Accept: {header}");
}

#[test]
fn instances_by_the_standard_and_by_clients() {
    for (header, expected) in [
        // PS3.18 §8.7.3: no parameter is the default syntax, `*` is as stored.
        (r#"multipart/related; type="application/dicom""#, &["m:dicom"][..]),
        (r#"multipart/related; type="application/dicom"; transfer-syntax=*"#, &["m:dicom[*]"]),
        ("application/dicom", &["s:dicom"]),
        ("application/dicom; transfer-syntax=*", &["s:dicom[*]"]),
        (
            r#"multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.4.90"#,
            &["m:dicom[.1.2.4.90]"],
        ),
        ("*/*", &["m:dicom[?]", "s:dicom[?]"]),
        ("application/*", &["s:dicom[?]"]),
        ("multipart/*", &["m:dicom[?]"]),
        ("multipart/related", &["m:dicom[?]"]),
        ("multipart/related; transfer-syntax=*", &["m:dicom[*]"]),
        // dcm4che wadors: a lone star.
        ("*", &["m:dicom[?]", "s:dicom[?]"]),
        // Weasis: no spaces, parameters after type.
        (r#"multipart/related;type="application/dicom";transfer-syntax=*"#, &["m:dicom[*]"]),
        // Google's DIMSE adapter.
        ("application/dicom; transfer-syntax=*", &["s:dicom[*]"]),
        // Python dicomweb-client: no parameter.
        (r#"multipart/related; type="application/dicom""#, &["m:dicom"]),
        // dcmjs: several, joined.
        (
            r#"multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.1, multipart/related; type="application/dicom"; transfer-syntax=*"#,
            &["m:dicom[.1.2.1]", "m:dicom[*]"],
        ),
        // Bare type, parameter first, upper case.
        ("Multipart/Related; Transfer-Syntax=*; TYPE=Application/DICOM", &["m:dicom[*]"]),
        // Parameter inside the quotes of type.
        (
            r#"multipart/related; type="application/dicom; transfer-syntax=1.2.840.10008.1.2.1""#,
            &["m:dicom[.1.2.1]"],
        ),
        (
            r#"multipart/related; type="application/dicom;transfer-syntax=*"; q=0.5"#,
            &["m:dicom[*]"],
        ),
        ("multipart/related; type='application/dicom'", &["m:dicom"]),
        // Not for us.
        ("text/html", &[]),
        ("multipart/form-data", &[]),
        (r#"multipart/related; type="application/dicom+xml""#, &[]),
    ] {
        check(INSTANCE, header, expected);
    }
    // A single part is no answer to a resource of many items, even if it has one (§10.4.4).
    check(STUDY, "application/dicom", &[]);
    check(STUDY, "*/*", &["m:dicom[?]"]);
}

#[test]
fn frames_by_the_standard_and_by_clients() {
    for (header, expected) in [
        // cornerstone's default, and OHIF's with a quoted star.
        (
            "multipart/related; type=application/octet-stream; transfer-syntax=*",
            &["m:octet-stream[*]"][..],
        ),
        (
            r#"multipart/related; type="application/octet-stream"; transfer-syntax="*""#,
            &["m:octet-stream[*]"],
        ),
        // OHIF with requestTransferSyntaxUID: the first counts, the star is the way out.
        (
            r#"multipart/related; type="application/octet-stream"; transfer-syntax="1.2.840.10008.1.2.4.201"; transfer-syntax="*""#,
            &["m:octet-stream[.1.2.4.201]", "m:octet-stream[*]"],
        ),
        (
            "multipart/related; type=application/octet-stream; transfer-syntax=*; transfer-syntax=1.2.3",
            &["m:octet-stream[*]"],
        ),
        (
            "multipart/related; type=application/octet-stream; transfer-syntax=1.2.3; transfer-syntax=1.2.4",
            &["m:octet-stream[1.2.3]"],
        ),
        // OHIF on older builds: the header of the library and the site's, joined by the browser.
        (
            r#"application/dicom+json, multipart/related; type=application/octet-stream; transfer-syntax=*; transfer-syntax=*"#,
            &["m:octet-stream[*]"],
        ),
        (r#"multipart/related; type="image/jpeg""#, &["m:image/jpeg"]),
        (
            r#"multipart/related; type="image/jpeg"; transfer-syntax=1.2.840.10008.1.2.4.50"#,
            &["m:image/jpeg[.1.2.4.50]"],
        ),
        // A syntax that the type does not have.
        (r#"multipart/related; type="image/jpeg"; transfer-syntax=1.2.840.10008.1.2.4.90"#, &[]),
        ("image/jpeg", &["s:image/jpeg"]),
        // Names from before the standard settled.
        (r#"multipart/related; type="image/x-jls""#, &["m:image/jls"]),
        ("multipart/related; type=image/dicom+jpeg-ls; transfer-syntax=*", &["m:image/jls[*]"]),
        (r#"multipart/related; type="image/jhc""#, &["m:image/jphc"]),
        (r#"multipart/related; type="image/dicom+jpeg""#, &["m:image/jpeg"]),
        // dcmjs: a list of everything it can decode.
        (
            r#"multipart/related; type="image/x-jls"; transfer-syntax=1.2.840.10008.1.2.4.80, multipart/related; type="image/jpeg"; transfer-syntax=1.2.840.10008.1.2.4.70, multipart/related; type="application/octet-stream"; transfer-syntax=*"#,
            &["m:image/jls[.1.2.4.80]", "m:image/jpeg[.1.2.4.70]", "m:octet-stream[*]"],
        ),
        (
            r#"multipart/related; type="image/*""#,
            &["m:image/jpeg[?]", "m:image/jls[?]", "m:image/jphc[?]"],
        ),
        // A browser's <img>.
        (
            "image/avif,image/webp,image/*,*/*;q=0.8",
            &[
                "s:image/jpeg[?]",
                "m:octet-stream[?]",
                "s:octet-stream[?]",
                "m:image/jpeg[?]",
                "m:image/jls[?]",
                "m:image/jphc[?]",
            ],
        ),
    ] {
        check(FRAMES, header, expected);
    }
}

#[test]
fn json_by_the_standard_and_by_clients() {
    for (header, expected) in [
        ("application/dicom+json", &["s:dicom+json"][..]),
        ("application/json", &["s:json"]),
        // Python dicomweb-client.
        ("application/dicom+json, application/json", &["s:dicom+json", "s:json"]),
        ("application/json, application/dicom+json", &["s:json", "s:dicom+json"]),
        ("application/json;q=0.5, application/dicom+json;q=0.9", &["s:dicom+json", "s:json"]),
        ("application/dicom+json; charset=utf-8", &["s:dicom+json"]),
        ("application/dicom+json; transfer-syntax=1.2.840.10008.1.2.1", &["s:dicom+json"]),
        // OHIF, joined by the browser.
        (
            r#"application/dicom+json, multipart/related; type="application/octet-stream"; transfer-syntax="*""#,
            &["s:dicom+json"],
        ),
        // XMLHttpRequest's and fetch's own, and a browser's address bar.
        ("*/*", &["s:dicom+json", "s:json"]),
        ("application/json, text/plain, */*", &["s:json", "s:dicom+json"]),
        (
            "text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8",
            &["s:dicom+json", "s:json"],
        ),
        // Java's URLConnection.
        ("text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", &["s:dicom+json", "s:json"]),
        // Weights of nothing, the closest range first (RFC 9110 §12.5.1).
        ("application/json;q=0, */*", &["s:dicom+json"]),
        ("*/*;q=0, application/json", &["s:json"]),
        ("application/*;q=0, */*", &[]),
        ("application/dicom+json;q=0.3, */*;q=0.8", &["s:json", "s:dicom+json"]),
        ("application/json;q=0", &[]),
        ("application/json;q=0.000", &[]),
        ("application/json;q=nonsense", &["s:json"]),
        // What cannot be understood is ignored.
        ("nonsense, /, a/, */json, ;;, =, application/json", &["s:json"]),
        ("application/dicom+xml, application/json;q=0.1", &["s:json"]),
        ("nonsense", &[]),
        (r#"text/x; a="unclosed, application/json"#, &[]),
        (r#"text/x; a="b\", c", application/json"#, &["s:json"]),
    ] {
        check(JSON, header, expected);
    }
}

#[test]
fn the_query_goes_before_the_header() {
    for (query, headers, expected) in [
        (
            "accept=application/dicom%2Bjson",
            &["application/json"][..],
            &["s:dicom+json", "s:json"][..],
        ),
        ("accept=application/dicom+json", &[], &["s:dicom+json", "s:json"]),
        ("accept=application/json", &["*/*"], &["s:json", "s:dicom+json"]),
        (
            "accept=application/json;q=0.2,application/dicom%2Bjson",
            &["text/x"],
            &["s:dicom+json", "s:json"],
        ),
        ("accept=video/mp4", &["*/*"], &["s:dicom+json", "s:json"]),
        ("accept=video/mp4", &[], &["s:dicom+json", "s:json"]),
        ("accept=", &[], &["s:dicom+json", "s:json"]),
        (
            "limit=1",
            &["", "application/json", "application/dicom+json"],
            &["s:json", "s:dicom+json"],
        ),
    ] {
        let got = show(&candidates(&accept(Some(query), headers), JSON));
        assert_eq!(got, expected, "{query} {headers:?}");
    }
    let query = "accept=multipart/related;type=%22application/dicom%22;transfer-syntax=*";
    let got = show(&candidates(&accept(Some(query), &[]), STUDY));
    assert_eq!(got, ["m:dicom[*]"]);
}

#[test]
fn a_silent_request_is_taken_or_refused_as_configured() {
    let none = HeaderMap::new();
    let any = AcceptSet::of(&none, None, MissingAccept::Any);
    assert_eq!(choose(&any, STUDY).unwrap().syntax, Syntax::Open);
    let refuse = AcceptSet::of(&none, None, MissingAccept::Refuse);
    let refusal = choose(&refuse, INSTANCE).unwrap_err();
    assert_eq!(
        refusal.available,
        [
            r#"multipart/related; type="application/dicom"; transfer-syntax=*"#,
            r#"multipart/related; type="application/dicom""#,
            "application/dicom; transfer-syntax=*",
            "application/dicom",
        ]
    );
}

#[test]
fn what_a_refusal_lists_would_be_accepted() {
    for offers in [STUDY, INSTANCE, FRAMES, JSON] {
        for available in NotAcceptable::of(offers).available {
            assert!(choose(&accept(None, &[&available]), offers).is_ok(), "{available}");
        }
    }
}

#[test]
fn work_is_bounded() {
    let many = vec!["application/json;q=0.1"; 300].join(",");
    assert_eq!(accept(None, &[&many]).ranges().len(), 64);
    let long = format!("application/json; x=\"{}\"", "y".repeat(9_000));
    assert_eq!(accept(None, &[&long, "application/json"]).ranges().len(), 0);
}

proptest! {
    #[test]
    fn nothing_panics_and_candidates_are_distinct(
        header in "[ -~]{0,200}",
        pieces in prop::collection::vec(
            prop::sample::select(vec![
                "*/*", "*", ",", ";", "\"", "\\", "q=0", "q=0.5", "type=", "multipart/related",
                "application/dicom", "image/*", "transfer-syntax=", "1.2.3", "=", " ",
            ]),
            0..40,
        ),
    ) {
        let set = accept(Some(&header), &[&header, &pieces.concat()]);
        for offers in [INSTANCE, FRAMES, JSON] {
            let found = candidates(&set, offers);
            for (at, choice) in found.iter().enumerate() {
                prop_assert!(!found[..at].contains(choice));
                prop_assert!(offers.iter().any(|o| o.form == choice.form && o.media_type == choice.media_type));
            }
        }
    }
}
