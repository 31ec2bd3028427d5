//! What the part of a value is: its media type, and what that makes of the instance (PS3.18
//! §8.7.3, §10.5.2).

use super::waiting::Instance;
use crate::{
    archive::{FailureReason, NoRoom},
    codec::probe::{HEAD, Probe, probe},
    dicom::{
        Tag, Uid, VR,
        compose::{Flaw, Place},
        transfer_syntax::{EXPLICIT_LITTLE, OCTET_STREAM, PixelForm, TransferSyntax},
    },
    http::multipart::PartHead,
};

const FRAME_TIME: Tag = Tag(0x0018, 0x1063);
const DOCUMENT: Tag = Tag(0x0042, 0x0011);
const DOCUMENT_TYPE: Tag = Tag(0x0042, 0x0012);
const DOCUMENT_LENGTH: Tag = Tag(0x0042, 0x0015);

/// Why an instance is not stored.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) reason: FailureReason,
    pub(super) detail: String,
    /// What there was no room for: the instance itself is not to blame.
    pub(super) room: Option<NoRoom>,
}

impl Refusal {
    pub(super) fn new(reason: FailureReason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), room: None }
    }

    /// Of a value that is not what the metadata says.
    pub(super) fn mismatch(place: &Place, what: &str) -> Self {
        Self::new(FailureReason::DoesNotMatchSopClass, format!("{} {what}", place.tag))
    }
}

impl From<NoRoom> for Refusal {
    fn from(none: NoRoom) -> Self {
        let detail = match none {
            NoRoom::Limit(_) => "more has to be held than limits.staged_bytes allows",
            NoRoom::Memory => "uploads hold as much memory as they may",
        };
        Self { room: Some(none), ..Self::new(FailureReason::OutOfResources, detail) }
    }
}

impl From<Flaw> for Refusal {
    fn from(flaw: Flaw) -> Self {
        Self::new(FailureReason::DoesNotMatchSopClass, flaw.to_string())
    }
}

/// How the pixel data of an instance is written.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// (0002,0010).
    pub(super) syntax: Uid,
    /// Frames, one for each part, and what the first says of itself; `None`: one value.
    pub(super) frames: Option<(u32, Option<Probe>)>,
}

/// What is known of a part when the file is begun with it.
pub(super) struct Known<'a> {
    pub(super) head: &'a PartHead,
    /// Its first bytes, [`HEAD`] of them or all.
    pub(super) first: &'a [u8],
}

/// The media type of a part; octets where it has none.
pub(super) fn media_type(head: &PartHead) -> &str {
    head.content_type.as_ref().map_or(OCTET_STREAM, |content_type| content_type.essence())
}

/// The transfer syntax of what is not encapsulated.
pub(super) fn explicit() -> Result<Uid, Refusal> {
    uid(EXPLICIT_LITTLE)
}

/// Plans an instance, of whose pixel data a part is known, and fills in what that says.
pub(super) fn plan(instance: &mut Instance, pixels: Option<Known<'_>>) -> Result<Plan, Refusal> {
    let octets = Plan { syntax: explicit()?, frames: None };
    let place = instance.pixels().and_then(|at| instance.places.get(at)).cloned();
    let (Some(place), Some(part)) = (place, pixels) else { return Ok(octets) };
    let Some(syntax) = syntax_of(&place, &part)? else { return Ok(octets) };
    let found = probed(&place, syntax, part.first)?;
    match &found {
        Some(Probe { description, moves: Some((frames, time)), .. }) => {
            instance.composition.describe_frames(description, *frames)?;
            let time = format!("{time:.3}");
            // DS has 16 characters.
            if time.len() <= 16 {
                instance.composition.fill(FRAME_TIME, VR::DS, time.as_bytes());
            }
        }
        Some(found) => instance.composition.describe(&found.description)?,
        None => {}
    }
    let syntax = uid(syntax)?;
    let count = match TransferSyntax::of(&syntax).pixels {
        PixelForm::Video => 1,
        _ => instance.composition.frames(),
    };
    Ok(Plan { syntax, frames: Some((count, found)) })
}

fn uid(text: &str) -> Result<Uid, Refusal> {
    let broken = |_| Refusal::new(FailureReason::Processing, "its transfer syntax is no UID");
    text.parse().map_err(broken)
}

/// The encapsulated transfer syntax of a part of pixel data; `None`: it is native.
fn syntax_of(place: &Place, part: &Known<'_>) -> Result<Option<&'static str>, Refusal> {
    let told = part.head.content_type.as_ref().and_then(|of| of.parameter("transfer-syntax"));
    let media_type = media_type(part.head);
    let told = match told.filter(|told| *told != "*").map(TransferSyntax::lookup) {
        Some(None) => {
            return Err(Refusal::mismatch(place, "has a transfer syntax that is not known"));
        }
        Some(Some(known)) => Some(known),
        None => None,
    };
    if let Some(known) = told {
        let agree = media_type == OCTET_STREAM || is_of(media_type, known);
        return match known.pixels {
            _ if !agree => Err(Refusal::mismatch(place, "has a transfer syntax of another type")),
            PixelForm::Encapsulated | PixelForm::Video => Ok(Some(known.uid)),
            PixelForm::Native if known.uid == EXPLICIT_LITTLE => Ok(None),
            _ => Err(Refusal::mismatch(place, "has a transfer syntax that is not taken here")),
        };
    }
    if media_type == OCTET_STREAM {
        return Ok(None);
    }
    let named = |entry: &&TransferSyntax| entry.media_type.eq_ignore_ascii_case(media_type);
    let Some(default) = TransferSyntax::known().iter().find(named) else {
        return Err(Refusal::mismatch(place, "has a media type that is not taken for it"));
    };
    // What the stream is counts for more than what is meant where nothing is said.
    let found = probe(part.first).map_or(default.uid, |found| found.syntax);
    match TransferSyntax::lookup(found) {
        Some(entry) if is_of(media_type, entry) => Ok(Some(found)),
        _ => Err(Refusal::mismatch(place, "is not what its media type says")),
    }
}

/// Whether payloads of a transfer syntax are of this media type: their own, or for HEVC that of the file
/// that they come in.
fn is_of(media_type: &str, syntax: &TransferSyntax) -> bool {
    let container = syntax.media_type == "video/H265" && media_type == "video/mp4";
    container || syntax.media_type.eq_ignore_ascii_case(media_type)
}

/// What a frame says of itself, if frames of this transfer syntax do.
pub(super) fn probed(place: &Place, syntax: &str, first: &[u8]) -> Result<Option<Probe>, Refusal> {
    let says = ["image/jpeg", "image/jls", "image/jp2", "image/jphc", "image/jxl"];
    let known = TransferSyntax::lookup(syntax).map_or("", |known| known.media_type);
    match probe(first.get(..HEAD).unwrap_or(first)) {
        Some(found) if found.fits(syntax) => Ok(Some(found)),
        None if !says.contains(&known) => Ok(None),
        _ => Err(Refusal::mismatch(place, "is not what its media type says")),
    }
}

/// Takes note of a value that is no pixel data.
pub(super) fn note_value(
    instance: &mut Instance,
    at: usize,
    head: &PartHead,
    length: Option<u64>,
) -> Result<(), Refusal> {
    let Some(place) = instance.places.get(at).cloned() else { return Ok(()) };
    let media_type = media_type(head);
    if media_type == OCTET_STREAM {
        return Ok(());
    }
    if media_type.starts_with("image/") || media_type.starts_with("video/") {
        return Err(Refusal::mismatch(&place, "has a media type that is not taken for it"));
    }
    if !place.top || place.tag != DOCUMENT {
        return Ok(());
    }
    let composition = &mut instance.composition;
    match composition.text(DOCUMENT_TYPE) {
        Some(told) if !told.is_empty() && !told.eq_ignore_ascii_case(media_type) => {
            let what = "is not the media type of the document";
            return Err(Flaw { tag: DOCUMENT_TYPE, what }.into());
        }
        _ => composition.fill(DOCUMENT_TYPE, VR::LO, media_type.as_bytes()),
    }
    if let Some(length) = length.and_then(|length| u32::try_from(length).ok()) {
        composition.fill(DOCUMENT_LENGTH, VR::UL, &length.to_le_bytes());
    }
    Ok(())
}
