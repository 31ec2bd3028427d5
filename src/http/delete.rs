//! Delete of studies, series and instances (an extension that every peer has; PS3.18 knows none).

use axum::{extract::State, http::StatusCode};

use super::{
    App,
    admit::{Admitted, Remove},
    place::Place,
    problem::Problem,
};

/// `DELETE /studies/{study}[/series/{series}[/instances/{instance}]]`: 204, or 404 where there is
/// nothing (any more).
pub async fn delete(
    State(app): State<App>,
    caller: Admitted<Remove>,
    place: Place,
) -> Result<StatusCode, Problem> {
    app.archive.delete(caller.scope, place.target()?).await?;
    Ok(StatusCode::NO_CONTENT)
}
