//! Retrieve studies, series and instances (WADO-RS, PS3.18 §10.4.1.1.1–3).

use std::sync::Arc;

use axum::{
    BoxError,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::Mutex;

use super::{
    App,
    accept::{AcceptSet, Choice, Form, NotAcceptable, Offer, Syntax, candidates, offers},
    admit::{Admitted, Read},
    conditional, deidentified,
    multipart::{Boundary, OutPart, PartStream, Related, media_type_with},
    pixeldata,
    place::Place,
    problem::Problem,
    range,
    urls::PartitionUrls,
};
use crate::{
    archive::{ArchiveError, Extent, InstanceHead, Instances, Target, Values, Version, Wanted},
    dicom::transfer_syntax::OCTET_STREAM,
};

const DICOM: &str = "application/dicom";
/// Asks for instances as they were stored, before they were changed here.
const ORIGINAL: &str = "msdicom-request-original";

/// Retrieves the instances of a study or series, or one instance. Who asks for octets gets their
/// bulk values, as before these had resources of their own (PS3.18 Table 10.4.4-1).
pub async fn retrieve(
    State(app): State<App>,
    caller: Admitted<Read>,
    place: Place,
    request: Request,
) -> Result<Response, Problem> {
    let target = place.target()?;
    let offers: &[Offer] = match target {
        Target::Instance { .. } => &offers::INSTANCE,
        Target::Study { .. } | Target::Series { .. } => &offers::INSTANCES,
    };
    let (parts, _) = request.into_parts();
    let version = version(&parts.headers)?;
    let accept = AcceptSet::of(&parts.headers, parts.uri.query(), app.retrieve.missing_accept);
    let mut choices = candidates(&accept, offers);
    let is_deidentified = deidentified::is_asked(&parts.uri)?;
    if choices.first().is_some_and(|choice| choice.media_type == OCTET_STREAM) {
        if is_deidentified {
            return Err(Problem::invalid("anonymize", "there for application/dicom alone"));
        }
        return pixeldata::retrieve(app, caller, target, Values::All, parts).await;
    }
    choices.retain(|choice| choice.media_type == DICOM);
    let mut available = Vec::new();
    let mut forms: Vec<Form> = choices.iter().map(|choice| choice.form).collect();
    forms.dedup();
    for form in forms {
        // Each instance is given in the first of these that it can be given in.
        let wanted = choices.iter().filter(|choice| choice.form == form).map(wanted).collect();
        let asked = Asked {
            urls: caller.urls.clone(),
            headers: &parts.headers,
            only_head: parts.method == Method::HEAD,
        };
        let (scope, target) = (caller.scope.clone(), target.clone());
        match app.archive.instances(scope, target, version, wanted).await {
            Ok(instances) if is_deidentified => {
                let (scope, urls) = (&caller.scope, &caller.urls);
                return deidentified::answer(&app, scope, urls, &parts, form, instances).await;
            }
            Ok(instances) => return asked.answer(form, instances).await,
            Err(ArchiveError::NotAcceptable { available: syntaxes }) => available = syntaxes,
            Err(error) => return Err(error.into()),
        }
    }
    if choices.is_empty() {
        // Whether it exists comes before how it could be had.
        app.archive.require(&caller.scope, &target).await?;
        return Err(NotAcceptable::of(offers).into());
    }
    Err(Problem::not_acceptable(
        offers
            .iter()
            .filter(|offer| offer.media_type == DICOM)
            .flat_map(|offer| available.iter().map(move |uid| describe(offer.form, uid)))
            .collect(),
    ))
}

/// Which version `msdicom-request-original` asks for, as with Microsoft's server.
///
/// # Errors
/// 400 where that is neither `true` nor `false`.
pub(super) fn version(headers: &HeaderMap) -> Result<Version, Problem> {
    let rule = || Problem::invalid(ORIGINAL, "true or false, once");
    let mut given = headers.get_all(ORIGINAL).iter();
    let Some(value) = given.next() else { return Ok(Version::Current) };
    let word = value.to_str().map_err(|_| rule())?.trim().to_ascii_lowercase();
    match (&*word, given.next()) {
        ("true", None) => Ok(Version::Original),
        ("false", None) => Ok(Version::Current),
        _ => Err(rule()),
    }
}

fn describe(form: Form, syntax: &str) -> String {
    match form {
        Form::Single => format!("{DICOM}; transfer-syntax={syntax}"),
        Form::Multipart => {
            format!("multipart/related; type=\"{DICOM}\"; transfer-syntax={syntax}")
        }
    }
}

pub(super) fn wanted(choice: &Choice) -> Wanted {
    match &choice.syntax {
        Syntax::Default => Wanted::Default,
        Syntax::Open => Wanted::Open,
        Syntax::Stored => Wanted::Any,
        Syntax::Uid(uid) => Wanted::Exactly(uid.clone()),
    }
}

/// A request for instances.
pub(super) struct Asked<'a> {
    pub urls: PartitionUrls,
    pub headers: &'a HeaderMap,
    pub only_head: bool,
}

impl Asked<'_> {
    /// The instances, as the whole answer or as its parts.
    pub(super) async fn answer(
        self,
        form: Form,
        instances: Instances,
    ) -> Result<Response, Problem> {
        let place = self.urls.at("/studies");
        let codecs = if instances.extent.is_some() { "" } else { env!("CARGO_PKG_VERSION") };
        let wanted = format!("{form:?} {:?}", instances.wanted());
        let pieces = [&instances.tag, &place, &wanted, codecs].map(str::as_bytes);
        let boundary = Boundary::of(&pieces);
        let etag = format!("\"{}\"", boundary.as_str());
        if conditional::not_modified(self.headers, &etag) {
            return Ok(conditional::unchanged(&etag));
        }
        let response = match form {
            Form::Single => self.one(instances, &etag).await?,
            Form::Multipart => {
                self.several(instances, Related::new(DICOM, boundary), &etag).await?
            }
        };
        Ok(conditional::tagged(response, &etag))
    }

    /// One instance as the whole answer.
    async fn one(self, mut instances: Instances, etag: &str) -> Result<Response, Problem> {
        let known = instances.peek().await?;
        let total = known.as_ref().and_then(|head| head.length);
        let (head, mut response) = match (known, total) {
            (Some(head), Some(total)) => {
                let wanted = range::wanted(self.headers, total, Some(etag))?;
                let whole = match &wanted {
                    range::Wanted::Whole => 0..total,
                    range::Wanted::Part(range) => range.clone(),
                };
                if !self.only_head {
                    instances.open_range(whole).await?;
                }
                let body = Body::from_stream(body(Arc::new(Mutex::new(instances))));
                (head, range::answer(wanted, total, |_| body))
            }
            _ => {
                let available = instances.available.clone();
                let head = first(&mut instances, Form::Single, &available).await?;
                let length = head.length;
                let body = Body::from_stream(body(Arc::new(Mutex::new(instances))));
                let mut response = body.into_response();
                if let Some(length) = length {
                    let length = HeaderValue::from(length);
                    response.headers_mut().insert(header::CONTENT_LENGTH, length);
                }
                (head, response)
            }
        };
        let headers = response.headers_mut();
        set(headers, header::CONTENT_TYPE, media_type_with(DICOM, &head.transfer_syntax));
        set(headers, header::CONTENT_LOCATION, location(&self.urls, &head));
        Ok(response)
    }

    async fn several(
        self,
        mut instances: Instances,
        related: Related,
        etag: &str,
    ) -> Result<Response, Problem> {
        let content_type = related.content_type();
        let total = match instances.peek().await? {
            Some(head) => total(&related, &self.urls, &head, instances.extent),
            None => None,
        };
        let mut response = match total {
            Some(total) => {
                let wanted = range::wanted(self.headers, total, Some(etag))?;
                let mut skipped = 0;
                if let range::Wanted::Part(range) = &wanted {
                    skipped = self.pass(&mut instances, &related, range.start).await?;
                }
                let head = match self.only_head {
                    true => None,
                    false => instances.next().await?,
                };
                let parts = parts(head, instances, self.urls);
                let bytes = related.bytes_from(parts, skipped == 0);
                range::answer(wanted, total, |range| {
                    let range = range.start - skipped..range.end - skipped;
                    Body::from_stream(range::slice(bytes, range))
                })
            }
            None => {
                // Opened before the status is sent, so that a store that does not answer is a 503.
                let available = instances.available.clone();
                let head = first(&mut instances, Form::Multipart, &available).await?;
                let partial = instances.partial;
                let parts = parts(Some(head), instances, self.urls);
                let mut response = related.streamed(parts);
                // "Some but not all of the target resources" (PS3.18 Table 10.4.3-1).
                if partial {
                    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                }
                response
            }
        };
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
        Ok(response)
    }

    /// Passes over the instances whose parts end before byte `start` of the answer; the bytes that
    /// their parts take.
    async fn pass(
        &self,
        instances: &mut Instances,
        related: &Related,
        start: u64,
    ) -> Result<u64, Problem> {
        let mut offset = 0_u64;
        while let Some(head) = instances.peek().await? {
            let opening = related.opening_length(&empty_part(&self.urls, &head), offset == 0);
            let end = offset.saturating_add(opening).saturating_add(head.length.unwrap_or(0));
            if end > start {
                break;
            }
            instances.pass();
            offset = end;
        }
        Ok(offset)
    }
}

/// The first instance that can be given.
async fn first(
    instances: &mut Instances,
    form: Form,
    available: &[String],
) -> Result<InstanceHead, Problem> {
    match instances.next().await {
        Ok(Some(head)) => Ok(head),
        Ok(None) => Err(Problem::not_found()),
        Err(ArchiveError::Undecodable(why)) => {
            let available = available.iter().map(|syntax| describe(form, syntax)).collect();
            Err(Problem::undecodable(why, available))
        }
        Err(error) => Err(error.into()),
    }
}

/// Bytes of a multipart answer with all of `extent`, of which `head` is one: parts differ in the
/// characters that are counted and in nothing else.
fn total(
    related: &Related,
    urls: &PartitionUrls,
    head: &InstanceHead,
    extent: Option<Extent>,
) -> Option<u64> {
    let Extent { count, bytes, characters } = extent?;
    let part = empty_part(urls, head);
    let (first, later) =
        (related.opening_length(&part, true), related.opening_length(&part, false));
    let fixed = later.checked_sub(head.characters())?;
    let openings = fixed.checked_mul(count)?.checked_add(characters)?;
    let openings = openings.checked_sub(later - first)?;
    openings.checked_add(bytes)?.checked_add(related.closing_length())
}

/// The part of an instance, without its bytes.
fn empty_part(urls: &PartitionUrls, head: &InstanceHead) -> OutPart {
    part(urls, head, stream::empty().boxed())
}

fn part(urls: &PartitionUrls, head: &InstanceHead, body: PartStream) -> OutPart {
    let content_type = media_type_with(DICOM, &head.transfer_syntax);
    let part = OutPart::new(content_type, body).with_location(location(urls, head));
    match head.length {
        Some(length) => part.with_length(length),
        None => part,
    }
}

/// Sets a header to a value of ours.
pub(super) fn set(headers: &mut axum::http::HeaderMap, name: header::HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

fn location(urls: &PartitionUrls, head: &InstanceHead) -> String {
    urls.instance(&head.study, &head.series, &head.instance)
}

/// One part per instance. All parts read from the same source, each to its end before the next
/// one starts, so that instances that lie side by side are read in one go.
fn parts(
    first: Option<InstanceHead>,
    instances: Instances,
    urls: PartitionUrls,
) -> impl futures::Stream<Item = Result<OutPart, BoxError>> + Send + 'static {
    let shared = Arc::new(Mutex::new(instances));
    stream::try_unfold((first, shared, urls), |(first, shared, urls)| async move {
        let head = match first {
            Some(first) => first,
            None => match shared.lock().await.next().await? {
                Some(next) => next,
                None => return Ok(None),
            },
        };
        let part = part(&urls, &head, body(shared.clone()).boxed());
        Ok::<_, BoxError>(Some((part, (None, shared, urls))))
    })
}

/// The bytes of the current instance.
pub(super) fn body(
    shared: Arc<Mutex<Instances>>,
) -> impl futures::Stream<Item = Result<bytes::Bytes, BoxError>> + Send + 'static {
    let chunks = stream::try_unfold(shared, |shared| async move {
        let chunk = shared.lock().await.chunk().await?;
        Ok::<_, ArchiveError>(chunk.map(|chunk| (chunk, shared)))
    });
    chunks.map_err(BoxError::from)
}
