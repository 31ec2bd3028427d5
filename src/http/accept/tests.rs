//! What is negotiated: by the standard's text, and for the headers that clients in the field send.

mod frames;
mod instances;
mod order;
mod rendered;
mod text;

use axum::http::{HeaderMap, HeaderValue, header};
use proptest::prelude::*;

use super::*;
use crate::config::MissingAccept;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
enum Target {
    /// A study or series.
    Study,
    /// One instance.
    Instance,
    /// One frame, or one bulk value.
    Frames,
    /// Bulk values of several items.
    Collection,
    Metadata,
    Search,
    /// The answer to a Store.
    Stored,
    Capabilities,
    /// A rendered frame.
    Picture,
    /// A rendered text object.
    Document,
    /// A rendered study or series.
    Pictures,
    Thumbnail,
}

/// The section of PS3.18 or the client that it is from, what is asked for, `Accept` (`-` for
/// none), the value of `accept` in the query, and what is given first: `s:` single part or `m:`
/// multipart, the media type (without `application/`) and, in brackets, the transfer syntax
/// (without `1.2.840.10008.1.2.`; `*` as stored, `?` the server's choice, nothing for the
/// default); or the status of a refusal.
type Row = (&'static str, Target, &'static str, &'static str, &'static str);

impl Target {
    fn offers(self) -> &'static [Offer] {
        match self {
            Self::Study => &offers::INSTANCES,
            Self::Instance => &offers::INSTANCE,
            Self::Frames => &offers::FRAMES,
            Self::Collection => &offers::COLLECTION,
            Self::Metadata => &offers::METADATA,
            Self::Search => &offers::SEARCH,
            Self::Stored => &offers::STORED,
            Self::Capabilities => &offers::CAPABILITIES,
            Self::Picture => &offers::RENDERED_FRAME,
            Self::Document => &offers::RENDERED_TEXT,
            Self::Pictures => &offers::RENDERED_PARTS,
            Self::Thumbnail => &offers::THUMBNAIL,
        }
    }

    const ALL: [Self; 12] = [
        Self::Study,
        Self::Instance,
        Self::Frames,
        Self::Collection,
        Self::Metadata,
        Self::Search,
        Self::Stored,
        Self::Capabilities,
        Self::Picture,
        Self::Document,
        Self::Pictures,
        Self::Thumbnail,
    ];
}

fn accept(query: Option<&str>, headers: &[&str]) -> AcceptSet {
    let mut map = HeaderMap::new();
    for value in headers {
        map.append(header::ACCEPT, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    AcceptSet::of(&map, query, MissingAccept::Any)
}

fn show(choice: &Choice) -> String {
    let form = if choice.form == Form::Multipart { "m" } else { "s" };
    let syntax = match &choice.syntax {
        Syntax::Default => String::new(),
        Syntax::Stored => "[*]".into(),
        Syntax::Uid(uid) => format!("[{}]", uid.as_str().trim_start_matches("1.2.840.10008.1.2.")),
        Syntax::Open => "[?]".into(),
    };
    let media_type = choice.media_type.trim_start_matches("application/");
    format!("{form}:{media_type}{syntax}")
}

#[test]
fn every_row_is_answered_as_the_standard_and_its_client_expect() {
    let rows = [instances::ROWS, frames::ROWS, text::ROWS, rendered::ROWS].concat();
    assert!(rows.len() > 200, "{} rows", rows.len());
    let mut wrong = Vec::new();
    for (source, target, header, query, expected) in rows {
        let query = (!query.is_empty()).then(|| format!("accept={query}"));
        let header = (header != "-").then_some(header);
        let set = accept(query.as_deref(), header.as_slice());
        let got = if set.is_mixed() {
            "400".to_owned()
        } else {
            choose(&set, target.offers()).map_or("406".to_owned(), |choice| show(&choice))
        };
        if got != expected {
            wrong.push(format!("{source}: {target:?} {header:?} {query:?}: {got}, not {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_silent_request_is_taken_or_refused_as_configured() {
    let none = HeaderMap::new();
    for target in Target::ALL {
        let any = AcceptSet::of(&none, None, MissingAccept::Any);
        assert!(choose(&any, target.offers()).is_ok(), "{target:?}");
        // "The presence of an Accept query parameter does not eliminate the need" (§8.7.5).
        let link = Some("accept=application/dicom,application/json,image/jpeg");
        for query in [None, link] {
            let refuse = AcceptSet::of(&none, query, MissingAccept::Refuse);
            assert!(choose(&refuse, target.offers()).is_err(), "{target:?} {query:?}");
        }
    }
    let refuse = AcceptSet::of(&none, None, MissingAccept::Refuse);
    assert_eq!(
        choose(&refuse, &offers::INSTANCE).unwrap_err().available,
        [
            r#"multipart/related; type="application/dicom"; transfer-syntax=*"#,
            r#"multipart/related; type="application/dicom""#,
            "application/dicom; transfer-syntax=*",
            "application/dicom",
            r#"multipart/related; type="application/octet-stream"; transfer-syntax=*"#,
            r#"multipart/related; type="application/octet-stream""#,
        ]
    );
}

#[test]
fn what_a_refusal_lists_would_be_accepted() {
    for target in Target::ALL {
        for available in NotAcceptable::of(target.offers()).available {
            let set = accept(None, &[&available]);
            assert!(!set.is_mixed() && choose(&set, target.offers()).is_ok(), "{available}");
        }
    }
}

#[test]
fn the_default_of_a_category_stands_first() {
    for target in Target::ALL {
        let at = target.offers().iter().position(|offer| offer.default);
        let has_none = matches!(target, Target::Frames | Target::Collection);
        assert_eq!(at, (!has_none).then_some(0), "{target:?}");
        assert_eq!(
            choose(&accept(None, &["*/*"]), target.offers()).unwrap().media_type,
            target.offers()[0].media_type
        );
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
        let _ = set.is_mixed();
        for target in Target::ALL {
            let offers = target.offers();
            let found = candidates(&set, offers);
            for (at, choice) in found.iter().enumerate() {
                prop_assert!(!found[..at].contains(choice));
                prop_assert!(offers.iter().any(|o| o.form == choice.form && o.media_type == choice.media_type));
            }
        }
    }
}
