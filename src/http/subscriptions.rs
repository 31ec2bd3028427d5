//! Subscriptions of the Worklist Service (PS3.18 §11.10 to §11.12): who is told of which workitems.
//!
//! Holds: a deletion lock that is asked for is granted; what is no attribute of workitems makes no
//! filter, so that nobody is told of more than he asked for. Absent: what becomes of subscriptions
//! (`archive`), the channel by which events are told ([`event_channel`](super::event_channel)).

use axum::{
    extract::{FromRequestParts, State},
    http::{HeaderValue, StatusCode, Uri, header, request::Parts},
    response::Response,
};

use super::{
    App,
    admit::Admitted,
    place,
    problem::Problem,
    query::{self, pairs},
    workitems::{ManageWorkitems, Named, bare, refused, said},
};
use crate::{
    archive::{Subscribed, WatchFilter, Watched},
    dicom::{
        AeTitle, Uid,
        ups::events::{FILTERED, GLOBAL, is_well_known},
    },
    query::{Naming, worklist},
};

const LOCK: &str = "deletionlock";
const FILTER: &str = "filter";

/// `{aetitle}` of a path: who is told.
pub struct Title(pub AeTitle);

impl<S: Send + Sync> FromRequestParts<S> for Title {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = place::segment(parts, state, "aetitle").await?;
        let invalid = |error: crate::dicom::ae_title::InvalidAeTitle| {
            Problem::invalid("aetitle", error.to_string())
        };
        text.parse().map(Self).map_err(invalid)
    }
}

/// `POST /workitems/{workitem}/subscribers/{aetitle}`
pub async fn subscribe(
    State(app): State<App>,
    caller: Admitted<ManageWorkitems>,
    Named(uid): Named,
    Title(aetitle): Title,
    uri: Uri,
) -> Result<Response, Problem> {
    let has_lock = query::is_set(&uri, LOCK)?;
    let watched = watched(&app, uid, &uri)?;
    let done = app.archive.watch_workitems(&caller.scope, &aetitle, watched, has_lock).await;
    done.map_err(|refusal| refused(refusal, said::STATE))?;
    let mut response = bare(StatusCode::CREATED, None);
    if let Ok(url) = HeaderValue::try_from(caller.urls.channel(&aetitle)) {
        response.headers_mut().insert(header::CONTENT_LOCATION, url);
    }
    Ok(response)
}

/// `DELETE /workitems/{workitem}/subscribers/{aetitle}`
pub async fn unsubscribe(
    State(app): State<App>,
    caller: Admitted<ManageWorkitems>,
    Named(uid): Named,
    Title(aetitle): Title,
) -> Result<Response, Problem> {
    let subscribed = match uid.as_str() {
        GLOBAL => Subscribed::All,
        FILTERED => Subscribed::Filtered,
        _ => Subscribed::Workitem(uid),
    };
    app.archive.unwatch_workitems(&caller.scope, &aetitle, subscribed).await?;
    Ok(bare(StatusCode::OK, None))
}

/// `POST /workitems/{workitem}/subscribers/{aetitle}/suspend`
pub async fn suspend(
    State(app): State<App>,
    caller: Admitted<ManageWorkitems>,
    Named(uid): Named,
    Title(aetitle): Title,
) -> Result<Response, Problem> {
    if !is_well_known(&uid) {
        // A subscription to one workitem has no more of them to come.
        return Err(Problem::not_found());
    }
    app.archive.suspend_watching(&caller.scope, &aetitle, uid.as_str() == FILTERED).await?;
    Ok(bare(StatusCode::OK, None))
}

/// What a request subscribes to.
fn watched(app: &App, uid: Uid, uri: &Uri) -> Result<Watched, Problem> {
    if uid.as_str() == FILTERED {
        return Ok(Watched::Filtered(filter(uri, app.worklist.max_workitems)?));
    }
    if pairs(uri).any(|(name, _)| name == FILTER) {
        let rule = "only of the Filtered Worklist (PS3.18 Table 11.10.1-2)";
        return Err(Problem::invalid(FILTER, rule));
    }
    Ok(if uid.as_str() == GLOBAL { Watched::All } else { Watched::Workitem(uid) })
}

/// The matching keys of `filter`, and those that stand in the query by themselves, as they did before
/// there was one.
fn filter(uri: &Uri, maximum: u32) -> Result<WatchFilter, Problem> {
    let partitions = Naming::of(uri.query().unwrap_or_default());
    let mut keys = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in pairs(uri) {
        match &*name {
            FILTER => {
                for (name, value) in listed(&value) {
                    keys.append_pair(&name, &value);
                }
            }
            LOCK | "accept" | "charset" => {}
            _ if partitions.has(&name) => {}
            name => _ = keys.append_pair(name, &value),
        }
    }
    let (wanted, ignored) = worklist::read(&keys.finish(), maximum)?;
    match wanted.names.is_empty() || !ignored.is_empty() {
        true => {
            let rule = "one or more attributes of workitems, each with a value, by commas";
            Err(Problem::invalid(FILTER, rule))
        }
        false => Ok(WatchFilter { tests: wanted.tests, names: wanted.names }),
    }
}

/// `A=1,B=2,3`: attributes with their values, which may have commas.
fn listed(text: &str) -> Vec<(String, String)> {
    let mut listed: Vec<(String, String)> = Vec::new();
    for piece in text.split(',') {
        match (piece.split_once('='), listed.last_mut()) {
            (Some((name, value)), _) => listed.push((name.trim().to_owned(), value.to_owned())),
            (None, Some((_, value))) => {
                value.push(',');
                value.push_str(piece);
            }
            (None, None) => listed.push((piece.to_owned(), String::new())),
        }
    }
    listed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_has_keys_by_commas_or_by_themselves() {
        let names = |query: &str| {
            let uri = format!("/w?{query}").parse().unwrap();
            filter(&uri, 9).map(|filter| filter.names)
        };
        for (query, expected) in [
            ("filter=PatientID%3DP1", &["PatientID"][..]),
            (
                "filter=PatientID=P1,WorklistLabel=A&deletionlock=true",
                &["PatientID", "WorklistLabel"],
            ),
            ("filter=SOPInstanceUID=1.2,1.3", &["SOPInstanceUID"]),
            ("filter=00100020=P1&accept=x&microsoft.partitionId=north", &["00100020"]),
            ("PatientID=P1&00741000=SCHEDULED", &["PatientID", "00741000"]),
            (
                "filter=ScheduledStationNameCodeSequence.CodeValue=CT1&PatientID=P1",
                &["ScheduledStationNameCodeSequence.CodeValue", "PatientID"],
            ),
        ] {
            assert_eq!(names(query).unwrap(), expected, "{query}");
        }
        for query in [
            "",
            "deletionlock=true",
            "filter=",
            "filter=PatientID=P1,Nonsense=1",
            "filter=TransactionUID=1.2",
            "filter=SOPInstanceUID=x",
            "filter=PatientID=1,PatientID=2",
        ] {
            assert_eq!(names(query).unwrap_err().status().as_u16(), 400, "{query}");
        }
    }
}
