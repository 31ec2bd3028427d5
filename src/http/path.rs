//! What a URL names: studies, series, instances, frames, as typed path extractors.
//!
//! Invariant: a UID or frame number that is none never gets past here; the answer is a 400 that
//! names the segment and the rule. Routes use the segment names `{study}`, `{series}`,
//! `{instance}`, `{frames}` and `{*path}`. Absent: the partition ([`super::carrier`]).

use axum::{
    extract::{FromRequestParts, RawPathParams},
    http::request::Parts,
};

use super::problem::Problem;
use crate::dicom::Uid;

/// Frames that one request may list.
const MAX_FRAMES: usize = 10_000;

/// `/studies/{study}`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StudyPath {
    /// Study Instance UID.
    pub study: Uid,
}

/// `/studies/{study}/series/{series}`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeriesPath {
    /// Study Instance UID.
    pub study: Uid,
    /// Series Instance UID.
    pub series: Uid,
}

/// `/studies/{study}/series/{series}/instances/{instance}`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstancePath {
    /// Study Instance UID.
    pub study: Uid,
    /// Series Instance UID.
    pub series: Uid,
    /// SOP Instance UID.
    pub instance: Uid,
}

/// `.../instances/{instance}/frames/{frames}`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FramesPath {
    /// The instance.
    pub instance: InstancePath,
    /// Frame numbers from 1, in the order asked, never empty.
    pub frames: Vec<u32>,
}

/// `.../instances/{instance}/bulkdata/{*path}`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BulkDataPath {
    /// The instance.
    pub instance: InstancePath,
    /// The rest of the path, decoded, as it stands after `/bulkdata/` in a BulkDataURI.
    pub path: String,
}

fn text<'a>(params: &'a RawPathParams, name: &str) -> Result<&'a str, Problem> {
    let found = params.iter().find(|(own, _)| *own == name);
    found.map(|(_, value)| value).ok_or_else(|| {
        Problem::internal(format!("a route without {{{name}}} has a handler that needs it"))
    })
}

fn uid(params: &RawPathParams, name: &'static str) -> Result<Uid, Problem> {
    text(params, name)?
        .parse()
        .map_err(|error: crate::dicom::uid::InvalidUid| Problem::invalid(name, error.to_string()))
}

fn instance(params: &RawPathParams) -> Result<InstancePath, Problem> {
    Ok(InstancePath {
        study: uid(params, "study")?,
        series: uid(params, "series")?,
        instance: uid(params, "instance")?,
    })
}

/// Reads `1,2,3` (PS3.18 §10.4.1.1.6).
fn frames(list: &str) -> Result<Vec<u32>, Problem> {
    let mut numbers = Vec::new();
    for item in list.split(',') {
        let digits = !item.is_empty() && item.bytes().all(|b| b.is_ascii_digit());
        let number = item.parse().ok().filter(|number| digits && *number > 0);
        numbers.push(number.ok_or_else(|| {
            Problem::invalid("frames", "a list of frame numbers from 1, joined by commas")
        })?);
        if numbers.len() > MAX_FRAMES {
            return Err(Problem::invalid("frames", format!("at most {MAX_FRAMES} frames")));
        }
    }
    Ok(numbers)
}

async fn params<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<RawPathParams, Problem> {
    RawPathParams::from_request_parts(parts, state)
        .await
        .map_err(|_| Problem::bad_request("the path is not UTF-8 after percent-decoding"))
}

macro_rules! extractor {
    ($type:ty, |$params:ident| $read:expr) => {
        impl<S: Send + Sync> FromRequestParts<S> for $type {
            type Rejection = Problem;

            async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
                let $params = &params(parts, state).await?;
                Ok($read)
            }
        }
    };
}

extractor!(StudyPath, |params| StudyPath { study: uid(params, "study")? });
extractor!(SeriesPath, |params| SeriesPath {
    study: uid(params, "study")?,
    series: uid(params, "series")?,
});
extractor!(InstancePath, |params| instance(params)?);
extractor!(FramesPath, |params| FramesPath {
    instance: instance(params)?,
    frames: frames(text(params, "frames")?)?,
});
extractor!(BulkDataPath, |params| BulkDataPath {
    instance: instance(params)?,
    path: text(params, "path")?.to_owned(),
});

#[cfg(test)]
mod tests {
    use axum::{Router, body::Body, http::Request, routing::get};
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    use super::*;

    async fn ask(path: &str) -> (u16, String) {
        let router = Router::<()>::new()
            .route("/studies/{study}", get(async |at: StudyPath| format!("{}", at.study)))
            .route(
                "/partitions/{partition}/studies/{study}/series/{series}",
                get(async |at: SeriesPath| format!("{} {}", at.study, at.series)),
            )
            .route(
                "/studies/{study}/series/{series}/instances/{instance}/frames/{frames}",
                get(async |at: FramesPath| format!("{} {:?}", at.instance.instance, at.frames)),
            )
            .route(
                "/studies/{study}/series/{series}/instances/{instance}/bulkdata/{*path}",
                get(async |at: BulkDataPath| at.path),
            )
            .route("/broken", get(async |_: StudyPath| ""));
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        let response = router.oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn paths_name_what_they_should() {
        for (path, expected) in [
            ("/studies/1.2", "1.2"),
            ("/partitions/p/studies/1/series/2", "1 2"),
            ("/studies/1/series/2/instances/3/frames/1", "3 [1]"),
            ("/studies/1/series/2/instances/3/frames/3,1%2C2", "3 [3, 1, 2]"),
            ("/studies/1/series/2/instances/3/bulkdata/a/0/b", "a/0/b"),
        ] {
            assert_eq!(ask(path).await, (200, expected.to_owned()), "{path}");
        }
    }

    #[tokio::test]
    async fn what_is_none_is_refused_without_repeating_it() {
        for path in ["/studies/1.x", "/studies/..%2f", "/studies/%ff", "/studies/1%00"] {
            let (status, body) = ask(path).await;
            assert_eq!(status, 400, "{path}");
            assert!(body.contains("\"status\":400") && !body.contains("1.x"), "{body}");
        }
        for list in ["0", "1,0", "", ",", "1,", "a", "-1", "+1", "1.0", "4294967296", "1 2"] {
            let list = list.replace(' ', "%20");
            let path = format!("/studies/1/series/2/instances/3/frames/{list}");
            let expected = if list.is_empty() { 404 } else { 400 };
            assert_eq!(ask(&path).await.0, expected, "{list:?}");
        }
        let many = vec!["1"; MAX_FRAMES + 1].join(",");
        let path = format!("/studies/1/series/2/instances/3/frames/{many}");
        assert_eq!(ask(&path).await.0, 400);
        assert_eq!(ask("/broken").await.0, 500);
    }
}
