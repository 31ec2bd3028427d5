//! In which form an instance answers a wish for a transfer syntax (PS3.18 §8.7.3.5).
//!
//! Pure. Absent: whether the pixels of an instance really decode, which shows when they are read.

use crate::{
    codec,
    dicom::{
        Uid,
        transfer_syntax::{EXPLICIT_LITTLE, PixelForm, TransferSyntax},
    },
};

/// Which transfer syntax a client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// No parameter: Explicit VR Little Endian, or as stored where there is no decoder.
    Default,
    /// Anything at all: as Default, but lossy pixels, and those that turn out not to decode, stay
    /// as they are stored (§8.7.3.5.2).
    Open,
    /// `*`: as stored.
    Any,
    /// One syntax.
    Exactly(Uid),
}

/// How an instance is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Byte for byte as it came.
    Stored,
    /// Re-encoded as Explicit VR Little Endian, without a codec.
    ExplicitLittle,
    /// With its pixels through the codecs.
    Transcoded(Uid),
}

impl Wanted {
    /// How an instance stored as `stored` may answer this wish, the best way first.
    pub fn encodings(&self, stored: &Uid) -> Vec<Encoding> {
        match self {
            Self::Any => vec![Encoding::Stored],
            Self::Exactly(wanted) if wanted == stored => vec![Encoding::Stored],
            Self::Exactly(wanted) if wanted.as_str() == EXPLICIT_LITTLE => {
                explicit_little(stored).into_iter().collect()
            }
            Self::Exactly(wanted) => {
                let entry = TransferSyntax::of(wanted);
                let can = entry.pixels == PixelForm::Encapsulated && codec::encodes(wanted);
                let can = can && decodes(stored);
                can.then(|| Encoding::Transcoded(wanted.clone())).into_iter().collect()
            }
            Self::Default => match explicit_little(stored) {
                Some(encoding) => vec![encoding],
                None => vec![Encoding::Stored],
            },
            Self::Open => match explicit_little(stored) {
                Some(Encoding::Transcoded(_)) if !codec::is_lossless(stored) => {
                    vec![Encoding::Stored]
                }
                Some(encoding) => vec![encoding, Encoding::Stored],
                None => vec![Encoding::Stored],
            },
        }
    }

    /// Whether an instance stored as `stored` may answer at all.
    pub fn admits(&self, stored: &Uid) -> bool {
        !self.encodings(stored).is_empty()
    }

    /// Whether no syntax was named.
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Default | Self::Open)
    }
}

/// Whether frames stored so become native.
fn decodes(stored: &Uid) -> bool {
    TransferSyntax::of(stored).pixels == PixelForm::Native || codec::decodes(stored)
}

/// How Explicit VR Little Endian is made of what is stored.
fn explicit_little(stored: &Uid) -> Option<Encoding> {
    if stored.as_str() == EXPLICIT_LITTLE {
        return Some(Encoding::Stored);
    }
    if TransferSyntax::of(stored).convertible {
        return Some(Encoding::ExplicitLittle);
    }
    let wanted = EXPLICIT_LITTLE.parse().ok().filter(|_| decodes(stored))?;
    Some(Encoding::Transcoded(wanted))
}

/// The syntaxes that an instance stored as `stored` can be given in.
pub(super) fn available(stored: &Uid) -> Vec<String> {
    let known = TransferSyntax::known().iter().filter_map(|entry| entry.uid.parse().ok());
    let others = known.filter(|uid: &Uid| uid != stored);
    let given = others.filter(|uid| Wanted::Exactly(uid.clone()).admits(stored));
    std::iter::once(stored.to_string()).chain(given.map(|uid| uid.to_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMPLICIT: &str = "1.2.840.10008.1.2";
    const MPEG: &str = "1.2.840.10008.1.2.4.102";

    fn encodings(wanted: &Wanted, stored: &str) -> Vec<Encoding> {
        wanted.encodings(&stored.parse().unwrap())
    }

    #[test]
    fn what_is_stored_so_is_given_as_it_is() {
        let explicit = Wanted::Exactly(EXPLICIT_LITTLE.parse().unwrap());
        for wanted in [&Wanted::Default, &Wanted::Any, &explicit] {
            assert_eq!(encodings(wanted, EXPLICIT_LITTLE), [Encoding::Stored]);
        }
        assert_eq!(encodings(&Wanted::Any, IMPLICIT), [Encoding::Stored]);
        let implicit = Wanted::Exactly(IMPLICIT.parse().unwrap());
        assert_eq!(encodings(&implicit, IMPLICIT), [Encoding::Stored]);
        assert!(encodings(&implicit, EXPLICIT_LITTLE).is_empty(), "not to be used in answers");
    }

    #[test]
    fn what_needs_no_codec_takes_none() {
        for wanted in [Wanted::Default, Wanted::Exactly(EXPLICIT_LITTLE.parse().unwrap())] {
            assert_eq!(encodings(&wanted, IMPLICIT), [Encoding::ExplicitLittle]);
        }
    }

    #[test]
    fn without_a_decoder_only_who_insists_gets_nothing() {
        assert_eq!(encodings(&Wanted::Default, MPEG), [Encoding::Stored]);
        assert_eq!(encodings(&Wanted::Open, MPEG), [Encoding::Stored]);
        assert!(encodings(&Wanted::Exactly(EXPLICIT_LITTLE.parse().unwrap()), MPEG).is_empty());
    }
}
