//! The Store Instances Response (PS3.18 §10.5.3, Annex I.2): what became of each instance.

use std::collections::BTreeSet;

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};

use super::{charset::Charset, metadata::XML, problem::Problem, urls::PartitionUrls};
use crate::{
    archive::{Failed, Outcome, Stored},
    dicom::{Tag, Uid, index::Warning, xml},
};

/// (0008,1196) where attributes of a stored instance break their rules: B007H, "data set does not
/// match SOP class" (PS3.18 Table I.2-1).
const WARNING_REASON: u16 = 0xB007;

/// (0008,1196) where attributes of a stored instance are not as they came: B000H, "coercion of data
/// elements".
const COERCED: u16 = 0xB000;

/// Longest (0000,0902) Error Comment, in characters: its VR is LO.
const COMMENT: usize = 64;

/// Attributes of one instance that are told about; more would only repeat the point.
const MAX_COMMENTS: usize = 16;

/// The answer to a Store request whose parts have all been dealt with.
pub fn answer(outcome: &Outcome, urls: &PartitionUrls, form: (&'static str, Charset)) -> Response {
    let studies: BTreeSet<&Uid> = outcome.stored.iter().map(|stored| &stored.study).collect();
    let study_url = match studies.iter().next() {
        Some(study) if studies.len() == 1 => Some(urls.study(study)),
        _ => None,
    };
    let url = |stored: &Stored| urls.instance(&stored.study, &stored.series, &stored.instance);
    answer_at(outcome, study_url, url, form)
}

/// The same, where instances are elsewhere than in studies. `study_url` is what all of them are in.
pub fn answer_at(
    outcome: &Outcome,
    study_url: Option<String>,
    url: impl Fn(&Stored) -> String,
    (media_type, charset): (&'static str, Charset),
) -> Response {
    if outcome.stored.is_empty() && outcome.unavailable {
        let source = anyhow::anyhow!("no instance of the request could be stored");
        return Problem::unavailable(super::RETRY_AFTER, source).into_response();
    }
    let mut body = Map::new();
    body.insert("00081190".into(), one("UR", study_url.as_ref().map(|url| json!(url))));
    let (failed, others): (Vec<_>, Vec<_>) =
        outcome.failed.iter().partition(|failed| failed.sop.is_some());
    // "Absent sequences must be omitted, not sent empty."
    let mut sequence = |key: &str, items: Vec<Value>| {
        if !items.is_empty() {
            body.insert(key.into(), json!({ "vr": "SQ", "Value": items }));
        }
    };
    sequence("00081198", failed.into_iter().map(failure).collect());
    sequence(
        "00081199",
        outcome.stored.iter().map(|stored| success(stored, url(stored))).collect(),
    );
    sequence("0008119A", others.into_iter().map(failure).collect());

    let json = Value::Object(body).to_string();
    let bytes = if media_type == XML {
        let mut out = Vec::new();
        match xml::write(&mut out, json.as_bytes(), charset.xml()) {
            Ok(()) => out.into(),
            Err(error) => return Problem::internal(anyhow::Error::new(error)).into_response(),
        }
    } else {
        charset.json(json.into())
    };
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = status(outcome);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, charset.content_type(media_type));
    if let Some(url) = study_url.and_then(|url| HeaderValue::try_from(url).ok()) {
        headers.insert(header::LOCATION, url.clone());
        headers.insert(header::CONTENT_LOCATION, url);
    }
    response
}

/// PS3.18 Table 10.5.3-1.
fn status(outcome: &Outcome) -> StatusCode {
    let is_clean = |stored: &Stored| stored.warnings.is_empty() && stored.coerced.is_empty();
    let clean = outcome.failed.is_empty() && outcome.stored.iter().all(is_clean);
    match (outcome.stored.is_empty(), clean) {
        (true, _) => StatusCode::CONFLICT,
        (false, true) => StatusCode::OK,
        (false, false) => StatusCode::ACCEPTED,
    }
}

fn success(stored: &Stored, url: String) -> Value {
    let mut item = references(&stored.sop_class, &stored.instance);
    item.insert("00081190".into(), one("UR", Some(json!(url))));
    let reason = match (stored.coerced.is_empty(), stored.warnings.is_empty()) {
        (false, _) => Some(COERCED),
        (true, false) => Some(WARNING_REASON),
        (true, true) => None,
    };
    if let Some(reason) = reason {
        let coerced = stored.coerced.iter().map(|tag| format!("{tag} was coerced"));
        let texts = coerced.chain(stored.warnings.iter().map(warning_text));
        item.insert("00081196".into(), one("US", Some(json!(reason))));
        item.insert("00741048".into(), comments(texts));
    }
    let original = stored.original.as_ref().and_then(|item| serde_json::from_str(item).ok());
    if let Some(original) = original {
        let original: Value = original;
        item.insert("04000561".into(), json!({ "vr": "SQ", "Value": [original] }));
    }
    Value::Object(item)
}

fn failure(failed: &Failed) -> Value {
    let mut item = match &failed.sop {
        Some((class, instance)) => references(class, instance),
        None => Map::new(),
    };
    item.insert("00081197".into(), one("US", Some(json!(failed.reason.code()))));
    item.insert("00741048".into(), comments(std::iter::once(failed.detail.clone())));
    Value::Object(item)
}

fn references(class: &Uid, instance: &Uid) -> Map<String, Value> {
    let mut item = Map::new();
    item.insert("00081150".into(), one("UI", Some(json!(class.as_str()))));
    item.insert("00081155".into(), one("UI", Some(json!(instance.as_str()))));
    item
}

fn one(vr: &str, value: Option<Value>) -> Value {
    match value {
        Some(value) => json!({ "vr": vr, "Value": [value] }),
        None => json!({ "vr": vr }),
    }
}

/// (0074,1048) Failed Attributes Sequence with an (0000,0902) Error Comment each, as Microsoft's
/// server answers.
fn comments(texts: impl Iterator<Item = String>) -> Value {
    let items: Vec<Value> = texts
        .take(MAX_COMMENTS)
        .map(|text| {
            let text: String = text.chars().take(COMMENT).collect();
            json!({ "00000902": { "vr": "LO", "Value": [text] } })
        })
        .collect();
    json!({ "vr": "SQ", "Value": items })
}

fn warning_text(warning: &Warning) -> String {
    let Tag(group, element) = warning.tag;
    format!("({group:04X},{element:04X}) {}", warning.reason)
}
