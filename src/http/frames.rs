//! Retrieve frames (PS3.18 §10.4.1.1.6) as they are stored: native ones in little endian, encoded
//! ones as their codestream.

use axum::{
    body::Body,
    extract::{RawPathParams, Request, State},
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use futures::{StreamExt, TryStreamExt};

use super::{
    App,
    accept::{AcceptSet, Choice, Form, NotAcceptable, Offer, Syntax, Syntaxes, candidates},
    admit::{Admitted, Read},
    multipart::{Boundary, OutPart, PartStream, Related, media_type_with},
    place::Place,
    problem::Problem,
    range, wado,
};
use crate::{
    archive::{ArchiveError, Frames, Target, opened},
    dicom::{
        Uid,
        transfer_syntax::{EXPLICIT_LITTLE, OCTET_STREAM, PixelForm, TransferSyntax},
    },
    http::urls::PartitionUrls,
};

/// Frames that one request may name.
const MAX_FRAMES: usize = 10_000;

/// Media types of frames (PS3.18 Table 8.7.3-5), each as multipart and as one part.
const OFFERS: [Offer; 20] = {
    const TYPES: [&str; 10] = [
        OCTET_STREAM,
        "image/jpeg",
        "image/jls",
        "image/jp2",
        "image/jpx",
        "image/jphc",
        "image/jxl",
        "image/dicom-rle",
        "video/mp4",
        "video/mpeg",
    ];
    let mut offers = [Offer::multipart(OCTET_STREAM, Syntaxes::Any); 20];
    let mut at = 0;
    while at < TYPES.len() {
        offers[2 * at] = Offer::multipart(TYPES[at], Syntaxes::Any);
        offers[2 * at + 1] = Offer::single(TYPES[at], Syntaxes::Any);
        at += 1;
    }
    offers
};

/// What the frames of one instance are given as.
pub(super) struct Label {
    pub media_type: &'static str,
    pub syntax: Uid,
}

/// Retrieves the frames of a list, in its order.
pub async fn retrieve(
    State(app): State<App>,
    caller: Admitted<Read>,
    place: Place,
    params: RawPathParams,
    request: Request,
) -> Result<Response, Problem> {
    let numbers = numbers(&params)?;
    let target = place.target()?;
    let (parts, _) = request.into_parts();
    let frames = app.archive.frames(caller.scope, target.clone(), &numbers).await?;
    let accept = AcceptSet::of(&parts.headers, parts.uri.query(), app.retrieve.missing_accept);
    let stored = frames.transfer_syntax().clone();
    let (choice, label) = candidates(&accept, &OFFERS)
        .into_iter()
        .filter(|choice| choice.form == Form::Multipart || numbers.len() == 1)
        .find_map(|choice| label(&choice, &stored).map(|label| (choice, label)))
        .ok_or_else(|| refusal(&stored))?;
    answer(frames, &numbers, &choice, &label, &target, &caller.urls, &parts.headers).await
}

/// The list of a request path: `1,2,5`.
fn numbers(params: &RawPathParams) -> Result<Vec<u32>, Problem> {
    let list = params.iter().find(|(name, _)| *name == "frames").map_or("", |(_, value)| value);
    let wrong = || Problem::invalid("frames", "frame numbers from 1, separated by commas");
    let numbers: Result<Vec<u32>, Problem> = list
        .split(',')
        .map(|number| match number.parse() {
            Ok(number) if number > 0 && !list.contains('+') => Ok(number),
            _ => Err(wrong()),
        })
        .collect();
    let numbers = numbers?;
    if numbers.len() > MAX_FRAMES {
        return Err(Problem::invalid("frames", "at most 10000 frames in one request"));
    }
    Ok(numbers)
}

/// How a choice of the client is met from frames stored as `stored`; `None` where it would take a
/// codec.
pub(super) fn label(choice: &Choice, stored: &Uid) -> Option<Label> {
    let entry = TransferSyntax::of(stored);
    let is_native = entry.pixels == PixelForm::Native;
    let native = || Some(Label { media_type: OCTET_STREAM, syntax: EXPLICIT_LITTLE.parse().ok()? });
    let as_stored = || Some(Label { media_type: entry.media_type, syntax: stored.clone() });
    let octets = choice.media_type == OCTET_STREAM;
    match &choice.syntax {
        // Frames of native syntaxes are given in little endian whatever the data set's encoding.
        _ if octets && is_native => match &choice.syntax {
            Syntax::Uid(uid) if uid.as_str() != EXPLICIT_LITTLE && uid != stored => None,
            _ => native(),
        },
        // Octets `*` mean: as stored, whatever the codec, with the true type in the part's header.
        Syntax::Stored | Syntax::Open if octets || choice.media_type == entry.media_type => {
            as_stored()
        }
        Syntax::Uid(uid) if uid == stored && (octets || choice.media_type == entry.media_type) => {
            as_stored()
        }
        // The default syntax of a compressed type; any syntax of that type serves a client that
        // does not insist.
        Syntax::Default if !octets && choice.media_type == entry.media_type => as_stored(),
        _ => None,
    }
}

fn refusal(stored: &Uid) -> Problem {
    let entry = TransferSyntax::of(stored);
    let (media_type, syntax) = match entry.pixels {
        PixelForm::Native => (OCTET_STREAM, EXPLICIT_LITTLE),
        PixelForm::Encapsulated | PixelForm::Video | PixelForm::Elsewhere => {
            (entry.media_type, stored.as_str())
        }
    };
    let available = vec![
        format!("multipart/related; type=\"{media_type}\"; transfer-syntax={syntax}"),
        format!("{media_type}; transfer-syntax={syntax}"),
        format!("multipart/related; type=\"{OCTET_STREAM}\"; transfer-syntax=*"),
    ];
    NotAcceptable { available }.into()
}

async fn answer(
    frames: Frames,
    numbers: &[u32],
    choice: &Choice,
    label: &Label,
    target: &Target,
    urls: &PartitionUrls,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let content_type = media_type_with(label.media_type, &label.syntax);
    let version = frames.version().to_string();
    let list: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
    let boundary = Boundary::of(&[version.as_bytes(), content_type.as_bytes(), &list]);
    let etag = format!("\"{}\"", boundary.as_str());
    let mut response = match choice.form {
        Form::Single => {
            let total = frames.length(0);
            let wanted = range::wanted(headers, total, Some(&etag))?;
            let body = first_stream(&frames).await?;
            let mut response =
                range::answer(wanted, total, |range| Body::from_stream(range::slice(body, range)));
            wado::set(response.headers_mut(), header::CONTENT_TYPE, content_type);
            response
        }
        Form::Multipart => {
            let mut first = Some(first_stream(&frames).await?);
            let parts = numbers
                .iter()
                .enumerate()
                .map(|(at, number)| {
                    let stream = first.take().unwrap_or_else(|| part_stream(&frames, at));
                    let part =
                        OutPart::new(content_type.clone(), stream).with_length(frames.length(at));
                    match target {
                        Target::Instance { study, series, instance } => {
                            part.with_location(urls.frame(study, series, instance, *number))
                        }
                        Target::Study { .. } | Target::Series { .. } => part,
                    }
                })
                .collect();
            let media_type =
                if choice.media_type == OCTET_STREAM { OCTET_STREAM } else { label.media_type };
            Related::new(media_type, boundary).known(parts, headers, Some(&etag))?
        }
    };
    if let Ok(etag) = HeaderValue::try_from(etag) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    Ok(response.into_response())
}

/// The first frame asked for, whose bytes have begun to come: a store that does not answer is a 503
/// and no answer that breaks off.
async fn first_stream(frames: &Frames) -> Result<PartStream, ArchiveError> {
    Ok(opened(frames.read(0)).await?.map_err(Into::into).boxed())
}

fn part_stream(frames: &Frames, at: usize) -> PartStream {
    Box::pin(frames.read(at).map_err(Into::into).boxed())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RLE: &str = "1.2.840.10008.1.2.5";
    const JPEG: &str = "1.2.840.10008.1.2.4.50";
    const BIG: &str = "1.2.840.10008.1.2.2";

    /// What frames stored in a syntax are given as for an `Accept` header.
    fn given(accept: &str, stored: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_str(accept).unwrap());
        let accept = AcceptSet::of(&headers, None, crate::config::MissingAccept::Any);
        let stored = stored.parse().unwrap();
        let label = candidates(&accept, &OFFERS).iter().find_map(|c| label(c, &stored))?;
        Some(media_type_with(label.media_type, &label.syntax))
    }

    #[test]
    fn frames_are_given_as_stored_or_not_at_all() {
        let octets = "application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1";
        let jpeg = "image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.50";
        let rle = "image/dicom-rle; transfer-syntax=1.2.840.10008.1.2.5";
        let multi = |rest: &str| format!("multipart/related; type={rest}");
        for (accept, stored, expected) in [
            ("*/*".to_owned(), EXPLICIT_LITTLE, Some(octets)),
            ("*/*".to_owned(), BIG, Some(octets)),
            ("*/*".to_owned(), JPEG, Some(jpeg)),
            (multi("\"application/octet-stream\""), EXPLICIT_LITTLE, Some(octets)),
            (multi("application/octet-stream; transfer-syntax=*"), BIG, Some(octets)),
            (multi("application/octet-stream; transfer-syntax=*"), RLE, Some(rle)),
            (multi("\"application/octet-stream\""), RLE, None),
            (multi("image/jpeg"), JPEG, Some(jpeg)),
            (multi("image/jpeg"), RLE, None),
            (multi("\"image/jpeg\"; transfer-syntax=1.2.840.10008.1.2.4.70"), JPEG, None),
            (multi("\"image/jpeg\"; transfer-syntax=1.2.840.10008.1.2.4.50"), JPEG, Some(jpeg)),
            ("image/dicom-rle".to_owned(), RLE, Some(rle)),
            ("application/octet-stream;transfer-syntax=*".to_owned(), JPEG, Some(jpeg)),
        ] {
            assert_eq!(given(&accept, stored).as_deref(), expected, "{accept} of {stored}");
        }
    }
}
