//! Delete of studies, series and instances (an extension that every peer has; PS3.18 knows none),
//! for good at once where that is asked for, and Undelete of studies.

use axum::{
    Json,
    extract::State,
    http::{StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::{
    App,
    admit::{Admitted, Remove},
    place::Place,
    problem::Problem,
    query,
};
use crate::archive::{Kept, Target, WhyNot};

/// `DELETE /studies/{study}[/series/{series}[/instances/{instance}]]`: 204, or 404 where there is
/// nothing (any more). With `erase=true` 202 and the operation.
pub async fn delete(
    State(app): State<App>,
    caller: Admitted<Remove>,
    place: Place,
    uri: Uri,
) -> Result<Response, Problem> {
    let target = place.target()?;
    if !query::is_set(&uri, "erase")? {
        app.archive.delete(caller.scope, target).await?;
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let id = app.archive.erase(caller.scope, target.clone(), &path(&target)).await?;
    let id = id.simple().to_string();
    let href = caller.urls.at(&format!("/operations/{id}"));
    let body = Json(json!({ "id": id, "href": href }));
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, href)], body).into_response())
}

/// `POST /studies/{study}/$undelete`: how many instances came back, and which did not.
pub async fn undelete(
    State(app): State<App>,
    caller: Admitted<Remove>,
    place: Place,
) -> Result<Json<Value>, Problem> {
    let target = place.target()?;
    let undeleted = app.archive.undelete(&caller.scope, target.study()).await?;
    if undeleted.restored == 0 && undeleted.damaged == 0 {
        return Err(Problem::conflict(match (undeleted.rejected, undeleted.over) {
            (1.., _) => "what could come back of the study is rejected",
            (0, 0) => "nothing of the study is deleted",
            _ => "nothing of the study that is deleted can come back any more",
        }));
    }
    Ok(Json(json!({
        "restored": undeleted.restored,
        "notRestored": undeleted.live + undeleted.over + undeleted.damaged + undeleted.rejected,
        "instances": undeleted.kept.iter().map(shown).collect::<Vec<_>>(),
    })))
}

fn shown(kept: &Kept) -> Value {
    json!({
        "seriesInstanceUid": kept.series.as_str(),
        "sopInstanceUid": kept.instance.as_str(),
        "reason": match kept.why {
            WhyNot::Live => "stored anew",
            WhyNot::Over => "gone for good",
            WhyNot::Damaged => "damaged",
            WhyNot::Rejected => "rejected",
        },
    })
}

/// The path of a target.
fn path(target: &Target) -> String {
    let mut path = format!("/studies/{}", target.study().as_str());
    for (name, uid) in [("series", target.series()), ("instances", target.instance())] {
        if let Some(uid) = uid {
            path += &format!("/{name}/{}", uid.as_str());
        }
    }
    path
}
