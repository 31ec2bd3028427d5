//! Corrections of patients and places (an extension of our own): patients are merged, studies get
//! another patient, studies and series move into other studies. All in the background, by operations
//! of the kind of bulk update.

use axum::{
    extract::{Request, State},
    response::Response,
};
use serde_json::{Map, Value};

use super::{
    App,
    admit::{Admitted, Update},
    bulk_update::{accepted, change, studies},
    json_body::{self, members},
    place::Place,
    problem::Problem,
    urls::PartitionUrls,
};
use crate::{
    archive::{Corrected, MOST_MERGED, Patient},
    dicom::{
        Uid,
        sent::{self, Flaw},
        uid::InvalidUid,
    },
};

/// Merge of patients.
pub async fn merge(
    State(app): State<App>,
    caller: Admitted<Update>,
    request: Request,
) -> Result<Response, Problem> {
    let mut body = body(&app, request).await?;
    let source = patient("source", body.remove("source"))?;
    let target = patient("target", body.remove("target"))?;
    let set = also(&mut body)?;
    if source == target {
        return Err(Problem::invalid("target", "another patient than the source"));
    }
    let merged = app.archive.merge_patients(&caller.scope, &source, &target, set).await?;
    answer(merged, &caller.urls)
}

/// Studies get another patient.
pub async fn assign(
    State(app): State<App>,
    caller: Admitted<Update>,
    request: Request,
) -> Result<Response, Problem> {
    let mut body = body(&app, request).await?;
    let list = studies(body.remove("studyinstanceuids"))?;
    let target = patient("target", body.remove("target"))?;
    let set = also(&mut body)?;
    let assigned = app.archive.assign_patient(&caller.scope, &list, &target, set).await?;
    answer(assigned, &caller.urls)
}

/// A study or series moves into another study.
pub async fn move_into(
    State(app): State<App>,
    caller: Admitted<Update>,
    place: Place,
    request: Request,
) -> Result<Response, Problem> {
    const INTO: &str = "studyInstanceUid";
    let target = place.target()?;
    let mut body = body(&app, request).await?;
    let into = body.remove("studyinstanceuid");
    let text = into.as_ref().and_then(Value::as_str);
    let text = text.ok_or_else(|| Problem::invalid(INTO, "the UID of a study"))?;
    let into: Uid =
        text.parse().map_err(|error: InvalidUid| Problem::invalid(INTO, error.to_string()))?;
    let set = also(&mut body)?;
    if into == *target.study() {
        return Err(Problem::invalid(INTO, "another study than that of the URL"));
    }
    let moved = app.archive.move_into(&caller.scope, &target, &into, set).await?;
    answer(moved, &caller.urls)
}

fn answer(corrected: Corrected, urls: &PartitionUrls) -> Result<Response, Problem> {
    match corrected {
        Corrected::Operation(id) => accepted(Some(id), urls),
        Corrected::Busy => accepted(None, urls),
        Corrected::TooMany => {
            let rule = format!("a patient of at most {MOST_MERGED} studies");
            Err(Problem::invalid("source", rule))
        }
    }
}

/// The members of a body, by their names in lower case.
async fn body(app: &App, request: Request) -> Result<Map<String, Value>, Problem> {
    let (parts, body) = request.into_parts();
    match json_body::read(&parts.headers, body, &app.limits).await? {
        Value::Object(object) => Ok(members(object)),
        _ => Err(Problem::bad_request("the body is not a JSON object")),
    }
}

/// What else changes, where that is said; nothing else is.
fn also(body: &mut Map<String, Value>) -> Result<Map<String, Value>, Problem> {
    let set = match body.remove("changedataset") {
        None => Map::new(),
        given => change(given)?,
    };
    match body.keys().next() {
        Some(unknown) => Err(Problem::invalid(unknown.clone(), "no member of this body")),
        None => Ok(set),
    }
}

/// A patient by ID, and by its issuer where that is said.
fn patient(field: &'static str, value: Option<Value>) -> Result<Patient, Problem> {
    let rule = "an object with patientId, and issuerOfPatientId where that matters";
    let Some(Value::Object(object)) = value else { return Err(Problem::invalid(field, rule)) };
    let mut given = members(object);
    let mut text = |member: &str, tag: &str| -> Result<Option<String>, Problem> {
        let Some(value) = given.remove(&member.to_ascii_lowercase()) else { return Ok(None) };
        let data_set = serde_json::json!({ tag: { "vr": "LO", "Value": [value] } }).to_string();
        let at = format!("{field}.{member}");
        let read = sent::json(data_set.as_bytes()).map_err(|flaw| match flaw {
            Flaw::Attribute { rule, .. } => Problem::invalid(at.clone(), rule),
            flaw => Problem::invalid(at.clone(), flaw.to_string()),
        })?;
        let kept = read[tag]["Value"][0].as_str();
        let kept = kept.ok_or_else(|| Problem::invalid(at, "one value of LO (PS3.5 §6.2)"))?;
        Ok(Some(kept.to_owned()))
    };
    let id = text("patientId", "00100020")?;
    let issuer = text("issuerOfPatientId", "00100021")?;
    match (id, given.is_empty()) {
        (Some(id), true) => Ok(Patient { id, issuer }),
        _ => Err(Problem::invalid(field, rule)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_patient_is_an_id_and_an_issuer() {
        let read = |value| patient("source", Some(value));
        let known = read(json!({ "patientId": "A ", "issuerOfPatientId": "H" })).unwrap();
        assert_eq!(known, Patient { id: "A".to_owned(), issuer: Some("H".to_owned()) });
        for (value, field) in [
            (json!("A"), "source"),
            (json!({}), "source"),
            (json!({ "patientId": "A", "name": "B" }), "source"),
            (json!({ "patientId": 1 }), "source.patientId"),
            (json!({ "patientId": "" }), "source.patientId"),
            (json!({ "patientId": "A\\B" }), "source.patientId"),
            (
                json!({ "patientId": "A", "issuerOfPatientId": "x".repeat(65) }),
                "source.issuerOfPatientId",
            ),
        ] {
            assert_eq!(read(value).unwrap_err().errors()[0].field, field);
        }
    }
}
