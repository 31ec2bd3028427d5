//! Non-Patient Instances (PS3.18 §12.4, §12.5): Retrieve, as DICOM or as metadata, with the bulk
//! values that the metadata names, and Search.

use std::sync::Arc;

use axum::{
    BoxError,
    body::Body,
    extract::{RawPathParams, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::Mutex;

use super::{
    App,
    accept::{AcceptSet, Choice, Form, NotAcceptable, candidates, choose, offers},
    admit::{Admitted, Read, SearchOne},
    charset::Charset,
    conditional,
    metadata::XML,
    multipart::{Boundary, OutPart, Related, media_type_with},
    non_patient::{Of, path, uid},
    place::Place,
    problem::Problem,
    wado,
};
use crate::{
    archive::{ArchiveError, opened},
    dicom::{Uid, non_patient::Category, transfer_syntax::OCTET_STREAM},
    query::read_stored,
};

const DICOM: &str = "application/dicom";
/// Longest path of a value.
const MAX_PATH: usize = 4096;

/// A request for one instance.
struct Asked<'a> {
    app: &'a App,
    caller: &'a Admitted<Read>,
    category: &'static Category,
    instance: Uid,
    headers: &'a HeaderMap,
    query: Option<&'a str>,
}

/// `GET /{category}/{instance}`
pub async fn retrieve(
    State(app): State<App>,
    caller: Admitted<Read>,
    Of(category): Of,
    place: Place,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let query = parts.uri.query();
    let accept = AcceptSet::of(&parts.headers, query, app.retrieve.missing_accept);
    let (headers, instance) = (&parts.headers, uid(place)?);
    let asked = Asked { app: &app, caller: &caller, category, instance, headers, query };
    let mut refused = None;
    for choice in candidates(&accept, &offers::NON_PATIENT) {
        let answered = match choice.media_type {
            DICOM => asked.whole(&choice).await,
            _ => return asked.metadata(&choice).await,
        };
        match answered {
            Err(ArchiveError::NotAcceptable { available }) => refused = Some(available),
            Err(error) => return Err(error.into()),
            Ok(answer) => return answer,
        }
    }
    if let Some(available) = refused {
        let name = |uid: String| format!("{DICOM}; transfer-syntax={uid}");
        return Err(Problem::not_acceptable(available.into_iter().map(name).collect()));
    }
    // Whether it exists comes before how it could be had.
    app.archive.non_patient_metadata(&caller.scope, category, &asked.instance).await?;
    Err(NotAcceptable::of(&offers::NON_PATIENT).into())
}

impl Asked<'_> {
    fn location(&self) -> String {
        self.caller.urls.at(&path(self.category, self.instance.as_str()))
    }

    /// The instance itself.
    async fn whole(&self, choice: &Choice) -> Result<Result<Response, Problem>, ArchiveError> {
        let wanted = vec![wado::wanted(choice)];
        let scope = &self.caller.scope;
        let archive = &self.app.archive;
        let mut instances =
            archive.non_patient(scope, self.category, &self.instance, wanted).await?;
        let version = instances.tag.clone();
        let head = instances.next().await?.ok_or(ArchiveError::NotFound)?;
        let content_type = media_type_with(DICOM, &head.transfer_syntax);
        let form = format!("{:?} {content_type}", choice.form);
        let location = self.location();
        let (boundary, etag) = tags(&[&version, &form, &location, env!("CARGO_PKG_VERSION")]);
        if conditional::not_modified(self.headers, &etag) {
            return Ok(Ok(conditional::unchanged(&etag)));
        }
        let body = wado::body(Arc::new(Mutex::new(instances))).boxed();
        let part = OutPart::new(content_type.clone(), body).with_location(location.clone());
        let part = match head.length {
            Some(length) => part.with_length(length),
            None => part,
        };
        let answered = match choice.form {
            Form::Multipart => {
                Related::new(DICOM, boundary).known(vec![part], self.headers, Some(&etag))
            }
            Form::Single => part.alone(self.headers, &etag).map(|mut response| {
                wado::set(response.headers_mut(), header::CONTENT_TYPE, content_type);
                wado::set(response.headers_mut(), header::CONTENT_LOCATION, location);
                response
            }),
        };
        Ok(answered.map(|response| conditional::tagged(response, &etag)))
    }

    /// What is said of it, as JSON or XML.
    async fn metadata(&self, choice: &Choice) -> Result<Response, Problem> {
        let archive = &self.app.archive;
        let scope = &self.caller.scope;
        let metadata = archive.non_patient_metadata(scope, self.category, &self.instance).await?;
        let charset = Charset::of(self.headers, self.query, choice.media_type)?;
        let (form, location) =
            (format!("{:?} {}", choice.form, choice.media_type), self.location());
        let version = metadata.version.to_string();
        let own = env!("CARGO_PKG_VERSION");
        let (boundary, etag) = tags(&[&version, &form, charset.mark(), &location, own]);
        if conditional::not_modified(self.headers, &etag) {
            return Ok(conditional::unchanged(&etag));
        }
        let values = format!("{}/bulkdata", path(self.category, self.instance.as_str()));
        let values = self.caller.urls.at(&values);
        let base = match values.split_once('?') {
            Some((base, query)) => (base.to_owned(), format!("?{query}")),
            None => (values, String::new()),
        };
        if choice.media_type != XML {
            let json = metadata.array(base).await?;
            let mut response = Body::from(charset.json(json)).into_response();
            let content_type = charset.content_type(choice.media_type);
            response.headers_mut().insert(header::CONTENT_TYPE, content_type);
            wado::set(response.headers_mut(), header::CONTENT_LOCATION, location);
            return Ok(conditional::tagged(response, &etag));
        }
        let content_type = charset.parameterised(XML);
        let xml = metadata.document(base, charset.xml()).await?;
        let part = OutPart::whole(content_type.clone(), xml).with_location(location.clone());
        let response = match choice.form {
            Form::Multipart => Related::new(XML, boundary).streamed(stream::iter([Ok(part)])),
            Form::Single => {
                let mut response = part.alone(self.headers, &etag)?;
                wado::set(response.headers_mut(), header::CONTENT_TYPE, content_type);
                wado::set(response.headers_mut(), header::CONTENT_LOCATION, location);
                response
            }
        };
        Ok(conditional::tagged(response, &etag))
    }
}

/// `GET /{category}/{instance}/bulkdata/{path}`
pub async fn bulk(
    State(app): State<App>,
    caller: Admitted<Read>,
    Of(category): Of,
    place: Place,
    params: RawPathParams,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let value = params.iter().find(|(name, _)| *name == "path").map_or("", |(_, value)| value);
    if value.len() > MAX_PATH {
        return Err(Problem::not_found());
    }
    let instance = uid(place)?;
    let bulk = app.archive.non_patient_bulk(&caller.scope, category, &instance, value).await?;
    let accept = AcceptSet::of(&parts.headers, parts.uri.query(), app.retrieve.missing_accept);
    let choice = choose(&accept, &offers::NON_PATIENT_BULK)?;
    let below = format!("{}/bulkdata/{}", path(category, instance.as_str()), bulk.path());
    let location = caller.urls.at(&below);
    let version = bulk.version().to_string();
    let (boundary, etag) = tags(&[&version, &location, &format!("{:?}", choice.form)]);
    if conditional::not_modified(&parts.headers, &etag) {
        return Ok(conditional::unchanged(&etag));
    }
    let body = opened(bulk.read(0..bulk.length())).await?.map_err(BoxError::from).boxed();
    let part = OutPart::new(OCTET_STREAM, body).with_location(location.clone());
    let part = part.with_length(bulk.length());
    let response = match choice.form {
        Form::Multipart => {
            Related::new(OCTET_STREAM, boundary).known(vec![part], &parts.headers, Some(&etag))?
        }
        Form::Single => {
            let mut response = part.alone(&parts.headers, &etag)?;
            let content_type = HeaderValue::from_static(OCTET_STREAM);
            response.headers_mut().insert(header::CONTENT_TYPE, content_type);
            wado::set(response.headers_mut(), header::CONTENT_LOCATION, location);
            response
        }
    };
    Ok(conditional::tagged(response, &etag))
}

/// `GET /{category}`: a search.
pub async fn search(
    State(app): State<App>,
    caller: Admitted<SearchOne>,
    Of(category): Of,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let query = parts.uri.query();
    let accept = AcceptSet::of(&parts.headers, query, app.retrieve.missing_accept);
    let media_type = choose(&accept, &offers::SEARCH)?.media_type;
    let charset = Charset::of(&parts.headers, query, media_type)?;
    let (asked, mut warnings) =
        read_stored(category, query.unwrap_or_default(), app.search.max_instances)?;
    let urls = caller.urls;
    let url = Arc::new(move |instance: &str| urls.at(&path(category, instance)));
    let page = app.archive.search_non_patient(caller.scope, category, asked, url).await?;
    let remaining = page.remaining;
    if remaining > 0 {
        warnings.push(format!("There are {remaining} additional results that can be requested"));
    }
    let mut response = if page.results == 0 && app.search.no_match == 204 {
        StatusCode::NO_CONTENT.into_response()
    } else if media_type == XML {
        let boundary = Boundary::of(&[b"search", parts.uri.to_string().as_bytes()]);
        let content_type = charset.parameterised(XML);
        let documents = page.documents(charset.xml()).map_err(BoxError::from);
        let parts = documents.map_ok(move |xml| OutPart::whole(content_type.clone(), xml));
        Related::new(XML, boundary).streamed(parts)
    } else {
        let body = page.array().map_ok(move |json| charset.json(json));
        let mut response = Body::from_stream(body).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, charset.content_type(media_type));
        response
    };
    for warning in warnings {
        if let Ok(value) = HeaderValue::try_from(format!("299 collimator: {warning}")) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
    Ok(response)
}

/// A boundary, and an entity tag that says the same.
fn tags(pieces: &[&str]) -> (Boundary, String) {
    let pieces: Vec<&[u8]> = pieces.iter().map(|piece| piece.as_bytes()).collect();
    let boundary = Boundary::of(&pieces);
    let etag = format!("\"{}\"", boundary.as_str());
    (boundary, etag)
}
