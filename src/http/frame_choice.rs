//! In which media type and transfer syntax frames are given, by what the client accepts and what is
//! stored (PS3.18 §8.7.3.5, Tables 8.7.3-4 and -5).
//!
//! Pure. The rules, where a client names a media type:
//! - with `transfer-syntax=*`: as stored, if that is of the media type; octets take anything. Never
//!   decoded.
//! - with a UID: as stored, or by the codecs where they can. Lossy encodings are made only so.
//! - without: the default syntax of the media type, Explicit VR Little Endian for octets. Frames
//!   whose only form is lossy and of that media type stay as they are, as §8.7.3.5.2 allows: their
//!   bytes as a lossless codestream would be larger and no better. So do those of that media type
//!   for which the default has no codec.
//!
//! Where it accepts anything, it gets Explicit VR Little Endian; lossy frames, and those without a
//! decoder, as they are stored.

use super::accept::{Choice, Form, Syntax};
use crate::{
    archive::Given,
    codec,
    dicom::{
        Uid,
        transfer_syntax::{EXPLICIT_LITTLE, OCTET_STREAM, PixelForm, TransferSyntax},
    },
};

/// Syntaxes in which pixels native to Explicit VR Little Endian are in words of other order.
const BIG_ENDIAN_PIXELS: &str = "1.2.840.113619.5.2";

/// What frames are given as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Label {
    pub media_type: &'static str,
    pub syntax: Uid,
    pub given: Given,
}

/// Every way to meet the choices, the most wanted first: what passes through or was named goes
/// before what a wildcard would have encoded.
pub(super) fn labels(choices: &[Choice], stored: &Uid) -> Vec<(Choice, Label)> {
    let of = |label: fn(&Choice, &Uid) -> Option<Label>| {
        choices.iter().filter_map(move |choice| Some((choice.clone(), label(choice, stored)?)))
    };
    of(label).chain(of(encoded_for_wildcard)).collect()
}

/// How a choice of the client is met from frames stored as `stored`; `None` where it cannot be.
fn label(choice: &Choice, stored: &Uid) -> Option<Label> {
    let entry = TransferSyntax::of(stored);
    let octets = choice.media_type == OCTET_STREAM;
    let of_this_type = octets || choice.media_type == entry.media_type;
    let is_native = entry.pixels == PixelForm::Native;
    match &choice.syntax {
        Syntax::Stored if is_native => native(stored).filter(|_| octets),
        Syntax::Stored => as_stored(stored).filter(|_| of_this_type),
        Syntax::Uid(uid) if uid.as_str() == EXPLICIT_LITTLE || is_native && uid == stored => {
            native(stored).filter(|_| octets)
        }
        Syntax::Uid(uid) if uid == stored => as_stored(stored).filter(|_| of_this_type),
        Syntax::Uid(uid) => {
            let wanted = TransferSyntax::of(uid);
            let fits = octets || choice.media_type == wanted.media_type;
            encoded(stored, uid.clone()).filter(|_| fits)
        }
        Syntax::Default | Syntax::Open if octets => {
            let keep = choice.syntax == Syntax::Open && (is_lossy(stored) || !decodes(stored));
            if keep { as_stored(stored) } else { native(stored) }
        }
        Syntax::Default => {
            let default = default_of(choice.media_type)?;
            if of_this_type && (default == *stored || is_lossy(stored)) {
                return as_stored(stored);
            }
            encoded(stored, default).or_else(|| as_stored(stored).filter(|_| of_this_type))
        }
        Syntax::Open => as_stored(stored).filter(|_| of_this_type),
    }
}

/// For `image/*` where no offer of that kind is what is stored.
fn encoded_for_wildcard(choice: &Choice, stored: &Uid) -> Option<Label> {
    if choice.syntax != Syntax::Open || choice.media_type == OCTET_STREAM {
        return None;
    }
    encoded(stored, default_of(choice.media_type)?)
}

/// The transfer syntax that a compressed media type means by itself.
fn default_of(media_type: &str) -> Option<Uid> {
    TransferSyntax::with_media_type(media_type).next()?.uid.parse().ok()
}

fn decodes(stored: &Uid) -> bool {
    TransferSyntax::of(stored).pixels == PixelForm::Native || codec::decodes(stored)
}

/// Whether frames of this syntax may have lost something: no other form of them is better.
pub(super) fn is_lossy(stored: &Uid) -> bool {
    TransferSyntax::of(stored).pixels != PixelForm::Native && !codec::is_lossless(stored)
}

fn as_stored(stored: &Uid) -> Option<Label> {
    let media_type = TransferSyntax::of(stored).media_type;
    Some(Label { media_type, syntax: stored.clone(), given: Given::Stored })
}

/// Explicit VR Little Endian. Frames of native syntaxes are read so, whatever the data set's
/// encoding.
fn native(stored: &Uid) -> Option<Label> {
    let is_native = TransferSyntax::of(stored).pixels == PixelForm::Native;
    let given = match is_native && stored.as_str() != BIG_ENDIAN_PIXELS {
        true => Given::Stored,
        false if decodes(stored) => Given::Native,
        false => return None,
    };
    Some(Label { media_type: OCTET_STREAM, syntax: EXPLICIT_LITTLE.parse().ok()?, given })
}

fn encoded(stored: &Uid, wanted: Uid) -> Option<Label> {
    let entry = TransferSyntax::of(&wanted);
    if entry.pixels != PixelForm::Encapsulated || !decodes(stored) || !codec::encodes(&wanted) {
        return None;
    }
    let (media_type, given) = (entry.media_type, Given::Encoded(wanted.clone()));
    Some(Label { media_type, syntax: wanted, given })
}

/// What could be had of frames stored as `stored`, in the words of an `Accept` header.
pub(super) fn available(stored: &Uid, forms: &[Form]) -> Vec<String> {
    let mut labels: Vec<Label> = as_stored(stored).into_iter().collect();
    if TransferSyntax::of(stored).pixels == PixelForm::Native {
        labels.clear();
    }
    labels.extend(native(stored));
    let known = TransferSyntax::known().iter().filter_map(|entry| entry.uid.parse().ok());
    labels.extend(known.filter(|uid| uid != stored).filter_map(|uid| encoded(stored, uid)));
    let mut available = Vec::new();
    for label in &labels {
        let Label { media_type, syntax, .. } = label;
        available.extend(forms.iter().map(|form| match form {
            Form::Multipart => {
                format!("multipart/related; type=\"{media_type}\"; transfer-syntax={syntax}")
            }
            Form::Single => format!("{media_type}; transfer-syntax={syntax}"),
        }));
    }
    available.push(format!("multipart/related; type=\"{OCTET_STREAM}\"; transfer-syntax=*"));
    available
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderValue, header};

    use super::*;
    use crate::http::{
        accept::{AcceptSet, candidates, offers::FRAMES},
        multipart::media_type_with,
    };

    const RLE: &str = "1.2.840.10008.1.2.5";
    const JPEG: &str = "1.2.840.10008.1.2.4.50";
    const BIG: &str = "1.2.840.10008.1.2.2";
    const MPEG: &str = "1.2.840.10008.1.2.4.102";

    /// What frames stored in a syntax are given as for an `Accept` header, and how.
    fn given(accept: &str, stored: &str) -> Option<(String, Given)> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_str(accept).unwrap());
        let accept = AcceptSet::of(&headers, None, crate::config::MissingAccept::Any);
        let stored = stored.parse().unwrap();
        let choices = candidates(&accept, &FRAMES);
        let (_, label) = labels(&choices, &stored).into_iter().next()?;
        Some((media_type_with(label.media_type, &label.syntax), label.given))
    }

    #[test]
    fn what_passes_through_is_never_decoded() {
        let octets = "application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1";
        let jpeg = "image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.50";
        let rle = "image/dicom-rle; transfer-syntax=1.2.840.10008.1.2.5";
        let video = "video/mp4; transfer-syntax=1.2.840.10008.1.2.4.102";
        let multi = |rest: &str| format!("multipart/related; type={rest}");
        for (accept, stored, expected) in [
            ("*/*".to_owned(), EXPLICIT_LITTLE, octets),
            ("*/*".to_owned(), BIG, octets),
            ("*/*".to_owned(), MPEG, video),
            (multi("\"application/octet-stream\""), EXPLICIT_LITTLE, octets),
            (multi("application/octet-stream; transfer-syntax=*"), BIG, octets),
            (multi("application/octet-stream; transfer-syntax=*"), RLE, rle),
            (multi("application/octet-stream; transfer-syntax=*"), MPEG, video),
            (multi("image/jpeg; transfer-syntax=*"), JPEG, jpeg),
            (multi("\"image/jpeg\"; transfer-syntax=1.2.840.10008.1.2.4.50"), JPEG, jpeg),
            ("image/dicom-rle".to_owned(), RLE, rle),
            ("image/*".to_owned(), RLE, rle),
            ("application/octet-stream;transfer-syntax=*".to_owned(), JPEG, jpeg),
            (format!("application/octet-stream;transfer-syntax={RLE}"), RLE, rle),
        ] {
            let expected = Some((expected.to_owned(), Given::Stored));
            assert_eq!(given(&accept, stored), expected, "{accept} of {stored}");
        }
    }

    #[test]
    fn what_no_codec_gives_is_refused() {
        for (accept, stored) in [
            ("image/jpeg; transfer-syntax=*", RLE),
            ("image/jpeg; transfer-syntax=*", EXPLICIT_LITTLE),
            ("application/octet-stream", MPEG),
            ("image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.64", EXPLICIT_LITTLE),
            ("image/jpeg; transfer-syntax=1.2.840.10008.1.2.5", RLE),
            ("video/mp4", EXPLICIT_LITTLE),
            ("application/octet-stream; transfer-syntax=1.2.840.10008.1.2", EXPLICIT_LITTLE),
        ] {
            assert_eq!(given(accept, stored), None, "{accept} of {stored}");
        }
    }
}
