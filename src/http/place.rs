//! Which study, series and instance a path names, and its other segments by name.

use axum::{
    extract::{FromRequestParts, RawPathParams},
    http::request::Parts,
};

use super::problem::Problem;
use crate::{archive::Target, dicom::Uid};

/// The UIDs of a request path, checked (PS3.5 §9.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// `/studies/{study}`.
    pub study: Option<Uid>,
    /// `/series/{series}`.
    pub series: Option<Uid>,
    /// `/instances/{instance}`.
    pub instance: Option<Uid>,
}

impl Place {
    /// The study, series or instance that the path names.
    ///
    /// # Errors
    /// 404 for a path without a study: no such route has a handler that asks.
    pub fn target(self) -> Result<Target, Problem> {
        match (self.study, self.series, self.instance) {
            (Some(study), None, None) => Ok(Target::Study { study }),
            (Some(study), Some(series), None) => Ok(Target::Series { study, series }),
            (Some(study), Some(series), Some(instance)) => {
                Ok(Target::Instance { study, series, instance })
            }
            _ => Err(Problem::not_found()),
        }
    }
}

/// The segment of a path that a template names so; empty where it has none.
///
/// # Errors
/// 400 where the path is not valid UTF-8.
pub async fn segment<S: Send + Sync>(
    parts: &mut Parts,
    state: &S,
    name: &str,
) -> Result<String, Problem> {
    let params = parameters(parts, state).await?;
    let found = params.iter().find(|(known, _)| *known == name);
    Ok(found.map(|(_, value)| value.to_owned()).unwrap_or_default())
}

async fn parameters<S: Send + Sync>(
    parts: &mut Parts,
    state: &S,
) -> Result<RawPathParams, Problem> {
    RawPathParams::from_request_parts(parts, state)
        .await
        .map_err(|_| Problem::bad_request("the path is not valid UTF-8"))
}

impl<S: Send + Sync> FromRequestParts<S> for Place {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let params = parameters(parts, state).await?;
        let mut place = Self::default();
        for (name, value) in &params {
            let (slot, name) = match name {
                "study" => (&mut place.study, "study"),
                "series" => (&mut place.series, "series"),
                "instance" => (&mut place.instance, "instance"),
                _ => continue,
            };
            *slot = Some(value.parse().map_err(|error: crate::dicom::uid::InvalidUid| {
                Problem::invalid(name, error.to_string())
            })?);
        }
        Ok(place)
    }
}
