//! How one bulk value is given: its octets, a document by its own media type, or pixel data by the
//! rules of frames (PS3.18 §8.7.3, §10.4.1.1.4).
//!
//! Encapsulated pixel data is one part for each frame in the transfer syntax that they have or get,
//! and one value end to end in Explicit VR Little Endian. Where no decoder handles it, who asks for
//! octets gets its frames as they are stored, labelled so: a bulk value is opaque.

use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};

use super::{
    accept::{Choice, Offer, Syntax, Syntaxes, offers},
    frame_choice::{Label, labels},
    multipart::{OutPart, PartStream, media_type_with},
    urls::PartitionUrls,
};
use crate::{
    archive::{ArchiveError, Bulk, ByteStream, Given, GivenFrames, Target},
    dicom::{
        Uid,
        transfer_syntax::{EXPLICIT_LITTLE, OCTET_STREAM, TransferSyntax},
    },
};

/// Frames that are looked up at once.
pub(super) const FRAMES_AT_ONCE: u32 = 256;

/// Media types of encapsulated documents (PS3.3 §A.45, §A.85, §A.104).
const DOCUMENTS: [&str; 7] = [
    "application/pdf",
    "text/xml",
    "model/stl",
    "application/sla",
    "model/obj",
    "model/mtl",
    "application/dicom+zip",
];
/// Paths of pixel data.
const PIXEL_DATA: [&str; 3] = ["7FE00008", "7FE00009", "7FE00010"];

/// What bulk values can be asked for as: those of `offers`, and documents.
pub(super) fn all(offers: &[Offer], single: bool) -> Vec<Offer> {
    let mut all = offers.to_vec();
    for media_type in DOCUMENTS {
        all.push(Offer::multipart(media_type, Syntaxes::None));
        if single {
            all.push(Offer::single(media_type, Syntaxes::None));
        }
    }
    all
}

/// What can be asked for of one value.
pub(super) fn of_one() -> Vec<Offer> {
    all(&offers::FRAMES, true)
}

/// A way to give a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Its octets as one part of this type; also the media type of an answer of such parts.
    Octets(String, &'static str),
    /// Encapsulated pixel data, decoded, as one part.
    Decoded(Label),
    /// Pixel data, one part for each frame.
    Frames(Label),
}

impl Way {
    /// The `Content-Type` of its parts.
    pub(super) fn content_type(&self) -> String {
        match self {
            Self::Octets(content_type, _) => content_type.clone(),
            Self::Decoded(label) | Self::Frames(label) => {
                media_type_with(label.media_type, &label.syntax)
            }
        }
    }

    /// The media type of an answer with such parts, to a client that made this choice.
    pub(super) fn media_type(&self, choice: &Choice) -> &'static str {
        match self {
            Self::Octets(_, media_type) => media_type,
            _ if choice.media_type == OCTET_STREAM => OCTET_STREAM,
            Self::Decoded(label) | Self::Frames(label) => label.media_type,
        }
    }
}

/// The ways to give a value that the choices allow, the most wanted first.
pub(super) async fn ways(
    bulk: &Bulk,
    choices: &[Choice],
) -> Result<Vec<(Choice, Way)>, ArchiveError> {
    let document = bulk.document_type().await?;
    let document = document.and_then(|told| DOCUMENTS.iter().copied().find(|known| *known == told));
    let stored = bulk.transfer_syntax();
    if bulk.is_encapsulated() {
        return Ok(ways_of_encapsulated(choices, stored));
    }
    let mut ways = Vec::new();
    for choice in choices {
        ways.extend(octets(choice, stored, document).map(|way| (choice.clone(), way)));
    }
    if PIXEL_DATA.contains(&bulk.path()) {
        let encoded = labels(choices, stored).into_iter();
        let encoded = encoded.filter(|(_, label)| matches!(label.given, Given::Encoded(_)));
        ways.extend(encoded.map(|(choice, label)| (choice, Way::Frames(label))));
    }
    Ok(ways)
}

fn octets(choice: &Choice, stored: &Uid, document: Option<&'static str>) -> Option<Way> {
    if let Some(document) = document
        && (choice.media_type == document
            || choice.media_type == OCTET_STREAM && choice.syntax == Syntax::Open)
    {
        return Some(Way::Octets(document.to_owned(), document));
    }
    let fits = match &choice.syntax {
        Syntax::Uid(uid) => uid.as_str() == EXPLICIT_LITTLE || uid == stored,
        Syntax::Default | Syntax::Stored | Syntax::Open => true,
    };
    if choice.media_type != OCTET_STREAM || !fits {
        return None;
    }
    let content_type = media_type_with(OCTET_STREAM, &EXPLICIT_LITTLE.parse().ok()?);
    Some(Way::Octets(content_type, OCTET_STREAM))
}

fn ways_of_encapsulated(choices: &[Choice], stored: &Uid) -> Vec<(Choice, Way)> {
    let way = |label: Label| match label.given {
        Given::Native => Way::Decoded(label),
        Given::Stored | Given::Encoded(_) => Way::Frames(label),
    };
    let mut ways: Vec<_> =
        labels(choices, stored).into_iter().map(|(choice, label)| (choice, way(label))).collect();
    let is_decoded = ways.iter().any(|(_, way)| matches!(way, Way::Decoded(_)));
    let is_opaque = |choice: &&Choice| {
        choice.media_type == OCTET_STREAM
            && matches!(choice.syntax, Syntax::Default | Syntax::Open)
            && !is_decoded
    };
    ways.extend(choices.iter().filter(is_opaque).map(|choice| {
        let media_type = TransferSyntax::of(stored).media_type;
        let label = Label { media_type, syntax: stored.clone(), given: Given::Stored };
        (choice.clone(), Way::Frames(label))
    }));
    ways
}

/// The way that takes no codec.
///
/// # Errors
/// None; a UID of ours is one.
pub(super) fn as_stored(bulk: &Bulk) -> Result<Way, ArchiveError> {
    if bulk.is_encapsulated() {
        let syntax = bulk.transfer_syntax().clone();
        let media_type = TransferSyntax::of(&syntax).media_type;
        return Ok(Way::Frames(Label { media_type, syntax, given: Given::Stored }));
    }
    let syntax = EXPLICIT_LITTLE.parse().map_err(|error: crate::dicom::uid::InvalidUid| {
        ArchiveError::Internal(anyhow::Error::new(error))
    })?;
    Ok(Way::Octets(media_type_with(OCTET_STREAM, &syntax), OCTET_STREAM))
}

/// Whether values of instances stored so may be given; of documents that shows only with each.
pub(super) fn admits(choices: &[Choice], stored: &Uid) -> bool {
    let admits = |choice: &Choice| {
        DOCUMENTS.contains(&choice.media_type) || octets(choice, stored, None).is_some()
    };
    choices.iter().any(admits) || !ways_of_encapsulated(choices, stored).is_empty()
}

/// The frames of pixel data as parts.
pub(super) struct FrameParts {
    /// How many there are.
    pub(super) count: u32,
    /// The first of them, one of which has begun to come.
    pub(super) first: Vec<OutPart>,
    /// The others.
    pub(super) rest: BoxStream<'static, Result<OutPart, ArchiveError>>,
}

/// Begins to give the frames of a value. With `only_head` nothing is read.
pub(super) async fn frames(
    bulk: &Bulk,
    label: &Label,
    location: &str,
    only_head: bool,
) -> Result<FrameParts, ArchiveError> {
    let (archive, scope, target) = (bulk.archive().clone(), bulk.scope().clone(), bulk.target());
    let frames = archive.frames_from(scope.clone(), target.clone(), 1, FRAMES_AT_ONCE).await?;
    let (count, version) = (frames.number_of_frames(), bulk.version());
    let content_type = media_type_with(label.media_type, &label.syntax);
    let given = frames.given(label.given.clone()).await?;
    let mut first = match only_head {
        true => None,
        false => Some(given.first(0).await?),
    };
    let mut parts = Vec::with_capacity(frames.len());
    for at in 0..frames.len() {
        let (stream, length) = match first.take() {
            Some((stream, length)) => (boxed(stream), length),
            None => (boxed(given.read(at)), given.length(at)),
        };
        parts.push(part(&content_type, stream, length, location));
    }
    let (label, location) = (label.clone(), location.to_owned());
    let rest = stream::try_unfold(FRAMES_AT_ONCE.saturating_add(1), move |next| {
        let (archive, scope, target) = (archive.clone(), scope.clone(), target.clone());
        let (given, content_type) = (label.given.clone(), content_type.clone());
        let location = location.clone();
        async move {
            if next > count {
                return Ok(None);
            }
            let frames = archive.frames_from(scope, target, next, FRAMES_AT_ONCE).await?;
            if frames.version() != version {
                return Err(ArchiveError::Gone);
            }
            let given: std::sync::Arc<GivenFrames> = frames.given(given).await?;
            let parts: Vec<_> = (0..frames.len())
                .map(|at| {
                    let (stream, length) = (boxed(given.read(at)), given.length(at));
                    Ok(part(&content_type, stream, length, &location))
                })
                .collect();
            Ok::<_, ArchiveError>(Some((stream::iter(parts), next.saturating_add(FRAMES_AT_ONCE))))
        }
    });
    Ok(FrameParts { count, first: parts, rest: rest.try_flatten().boxed() })
}

/// One part of a value.
pub(super) fn part(
    content_type: &str,
    body: PartStream,
    length: Option<u64>,
    location: &str,
) -> OutPart {
    let part = OutPart::new(content_type, body).with_location(location);
    match length {
        Some(length) => part.with_length(length),
        None => part,
    }
}

/// Where a value is, by the URI that metadata names it by.
pub(super) fn location(urls: &PartitionUrls, bulk: &Bulk) -> String {
    match bulk.target() {
        Target::Instance { study, series, instance } => {
            urls.bulk_data(&study, &series, &instance, bulk.path())
        }
        Target::Series { study, series } => urls.series(&study, &series),
        Target::Study { study } => urls.study(&study),
    }
}

pub(super) fn boxed(stream: ByteStream) -> PartStream {
    stream.map_err(Into::into).boxed()
}
