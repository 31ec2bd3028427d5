//! Bulk update: attributes of up to fifty studies change, in the background (an extension, in the form
//! of Microsoft's server).
//!
//! Holds: what can be changed and what cannot is said before anything is; a study that the partition
//! does not hold is no error, and nothing is changed of it. Absent: the work (`archive`, `workers`).

use std::{collections::BTreeSet, time::Duration};

use axum::{
    Json,
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    App,
    admit::{Admitted, Update},
    json_body::{self, members},
    problem::Problem,
    urls::PartitionUrls,
};
use crate::{
    archive::{Correction, MOST_STUDIES},
    dicom::{
        Uid, changeable,
        sent::{self, Flaw},
    },
};

const STUDIES: &str = "studyInstanceUids";
const CHANGE: &str = "changeDataset";
/// When to come again where too many updates wait.
const BUSY: Duration = Duration::from_secs(30);

/// `POST /studies/$bulkUpdate`: 202 and the operation.
pub async fn update(
    State(app): State<App>,
    caller: Admitted<Update>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let body = json_body::read(&parts.headers, body, &app.limits).await?;
    let Value::Object(object) = body else {
        return Err(Problem::bad_request("the body is not a JSON object"));
    };
    let mut body = members(object);
    let studies = studies(body.remove("studyinstanceuids"))?;
    let set = change(body.remove("changedataset"))?;
    if let Some(unknown) = body.keys().next() {
        return Err(Problem::invalid(unknown.clone(), "no member of this body"));
    }
    let id = app.archive.correct(&caller.scope, &studies, &Correction::of(set)).await?;
    accepted(id, &caller.urls)
}

/// 202 and the operation; 429 where there is none, since too many wait.
pub(super) fn accepted(id: Option<Uuid>, urls: &PartitionUrls) -> Result<Response, Problem> {
    let Some(id) = id else { return Err(Problem::too_many_requests(BUSY)) };
    let id = id.simple().to_string();
    let href = urls.at(&format!("/operations/{id}"));
    let body = Json(json!({ "id": id, "href": href }));
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, href)], body).into_response())
}

/// The studies, each once.
pub(super) fn studies(value: Option<Value>) -> Result<Vec<Uid>, Problem> {
    let rule = || format!("a list of 1 to {MOST_STUDIES} Study Instance UIDs");
    let Some(Value::Array(list)) = value else { return Err(Problem::invalid(STUDIES, rule())) };
    if list.is_empty() || list.len() > MOST_STUDIES {
        return Err(Problem::invalid(STUDIES, rule()));
    }
    let (mut known, mut studies) = (BTreeSet::new(), Vec::new());
    for (at, one) in list.iter().enumerate() {
        let field = || format!("{STUDIES}[{at}]");
        let text = one.as_str().ok_or_else(|| Problem::invalid(field(), "a UID"))?;
        let uid: Uid = text.trim_end_matches([' ', '\0']).parse().map_err(
            |error: crate::dicom::uid::InvalidUid| Problem::invalid(field(), error.to_string()),
        )?;
        if known.insert(uid.as_str().to_owned()) {
            studies.push(uid);
        }
    }
    Ok(studies)
}

/// The change, held against what may be changed.
pub(super) fn change(value: Option<Value>) -> Result<Map<String, Value>, Problem> {
    let rule = "a data set in DICOM JSON with one attribute or more";
    let Some(Value::Object(set)) = value else { return Err(Problem::invalid(CHANGE, rule)) };
    let flawed = |flaw| match flaw {
        Flaw::Attribute { at, rule } if !at.is_empty() => {
            Problem::invalid(format!("{CHANGE}.{at}"), rule)
        }
        Flaw::Attribute { rule, .. } => Problem::invalid(CHANGE, rule),
        Flaw::Malformed(_) | Flaw::NotOne => Problem::invalid(CHANGE, flaw.to_string()),
    };
    let set = sent::json(Value::Object(set).to_string().as_bytes()).map_err(flawed)?;
    if set.is_empty() {
        return Err(Problem::invalid(CHANGE, rule));
    }
    changeable::check(&set).map_err(flawed)?;
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field<T>(read: Result<T, Problem>) -> String {
        read.err().map(|problem| problem.errors()[0].field.to_string()).unwrap_or_default()
    }

    #[test]
    fn studies_are_a_list_of_uids_each_once() {
        let read = studies(Some(json!(["1.2", "1.3 ", "1.2"]))).unwrap();
        assert_eq!(read.iter().map(Uid::as_str).collect::<Vec<_>>(), ["1.2", "1.3"]);
        for (value, expected) in [
            (json!([]), STUDIES),
            (json!("1.2"), STUDIES),
            (json!(vec!["1.2"; MOST_STUDIES + 1]), STUDIES),
            (json!(["1.2", "x"]), "studyInstanceUids[1]"),
            (json!([1]), "studyInstanceUids[0]"),
        ] {
            assert_eq!(field(studies(Some(value))), expected);
        }
        assert_eq!(field(studies(None)), STUDIES);
    }

    #[test]
    fn a_change_says_which_attribute_cannot_be() {
        let named = json!({ "00100010": { "vr": "PN", "Value": [{ "Alphabetic": "A^B" }] } });
        assert_eq!(Value::Object(change(Some(named.clone())).unwrap()), named);
        for (value, expected) in [
            (json!({}), CHANGE),
            (json!([named]), CHANGE),
            (json!({ "PatientName": {} }), CHANGE),
            (json!({ "00080018": { "vr": "UI", "Value": ["1.2"] } }), "changeDataset.00080018"),
            (json!({ "00100020": { "vr": "SH", "Value": ["1"] } }), "changeDataset.00100020"),
            (json!({ "00100030": { "vr": "DA", "Value": ["1.1."] } }), "changeDataset.00100030"),
        ] {
            assert_eq!(field(change(Some(value))), expected);
        }
        assert_eq!(field(change(None)), CHANGE);
    }
}
