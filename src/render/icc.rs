//! ICC profiles of pictures (PS3.18 §8.3.5.1.5, PS3.3 §C.11.15).
//!
//! Owns which profile a picture carries and the conversion into it. Holds: profiles are hostile, so
//! they are bounded, and one that cannot be read, is too large, or is not of RGB colours is treated
//! as missing; colours without a profile are sRGB. A grey picture keeps its values whatever is
//! asked, with a grey profile that has sRGB's tone curve: its neutral tones are the same in all the
//! spaces that can be asked for. Absent: how a profile is embedded.

use std::sync::OnceLock;

use moxcms::{
    ColorProfile, DataColorSpace, Layout, LocalizableString, ParsingOptions, ProfileText,
    TransformOptions,
};

use super::{IccProfile, header::Header, viewport::Pixels};
use crate::dicom::Tag;

/// Largest profile of an instance, in bytes.
const LARGEST: usize = 4 << 20;

/// The profile of an instance.
#[derive(Clone, Default)]
pub(super) struct Profile(Option<(Vec<u8>, Box<ColorProfile>)>);

impl std::fmt::Debug for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Profile").field(&self.0.as_ref().map(|(bytes, _)| bytes.len())).finish()
    }
}

/// (0028,2000) ICC Profile, of the data set or of its first optical path.
pub(super) const TAG: Tag = Tag(0x0028, 0x2000);
pub(super) const OPTICAL_PATHS: Tag = Tag(0x0048, 0x0105);

impl Profile {
    /// Reads the profile of a data set.
    pub fn of(header: Header<'_>) -> Self {
        let path = || header.first(OPTICAL_PATHS)?.bytes(TAG);
        let bytes = header.bytes(TAG).or_else(path);
        Self(bytes.and_then(|bytes| Some((bytes.to_vec(), Box::new(parse(&bytes)?)))))
    }

    /// Converts a picture as asked and tells the profile to embed.
    pub fn apply(&self, pixels: &mut Pixels, wanted: IccProfile) -> Option<Vec<u8>> {
        if wanted == IccProfile::No {
            return None;
        }
        if !pixels.colour {
            return grey();
        }
        let own = self.0.as_ref();
        let target = match wanted {
            IccProfile::Yes => return own.map(|(bytes, _)| bytes.clone()).or_else(|| srgb().1),
            IccProfile::AdobeRgb => adobe(),
            IccProfile::RommRgb => romm(),
            IccProfile::Srgb | IccProfile::No => srgb(),
        };
        let source = own.map_or(&srgb_profile().0, |(_, profile)| profile);
        let same = own.is_none() && wanted == IccProfile::Srgb;
        if !same && !convert(&mut pixels.data, source, &target.0) {
            // A profile that was read but cannot be used: the colours are taken for sRGB.
            convert(&mut pixels.data, &srgb_profile().0, &target.0);
        }
        target.1
    }
}

fn parse(bytes: &[u8]) -> Option<ColorProfile> {
    let options = ParsingOptions {
        max_profile_size: LARGEST,
        max_allowed_clut_size: 4_000_000,
        max_allowed_trc_size: 40_000,
    };
    let profile = ColorProfile::new_from_slice_with_options(bytes, options).ok()?;
    Some(profile).filter(|profile| profile.color_space == DataColorSpace::Rgb)
}

/// Whether the colours were converted; nothing is changed if not.
fn convert(rgb: &mut [u8], source: &ColorProfile, target: &ColorProfile) -> bool {
    let options = TransformOptions::default();
    let transform = source.create_transform_8bit(Layout::Rgb, target, Layout::Rgb, options);
    let Ok(transform) = transform else { return false };
    // In pieces, so that there is never a second picture.
    let mut piece = [0; 3 * 4096];
    for part in rgb.chunks_mut(piece.len()) {
        let Some(piece) = piece.get_mut(..part.len()) else { return false };
        if transform.transform(part, piece).is_err() {
            return false;
        }
        part.copy_from_slice(piece);
    }
    true
}

/// A profile and its bytes.
type Encoded = (ColorProfile, Option<Vec<u8>>);

fn encoded(profile: ColorProfile) -> Encoded {
    let bytes = profile.encode().ok();
    (profile, bytes)
}

fn srgb_profile() -> &'static Encoded {
    static PROFILE: OnceLock<Encoded> = OnceLock::new();
    PROFILE.get_or_init(|| encoded(ColorProfile::new_srgb()))
}

fn srgb() -> Encoded {
    srgb_profile().clone()
}

fn adobe() -> Encoded {
    static PROFILE: OnceLock<Encoded> = OnceLock::new();
    PROFILE.get_or_init(|| encoded(ColorProfile::new_adobe_rgb())).clone()
}

fn romm() -> Encoded {
    static PROFILE: OnceLock<Encoded> = OnceLock::new();
    PROFILE.get_or_init(|| encoded(ColorProfile::new_pro_photo_rgb())).clone()
}

fn grey() -> Option<Vec<u8>> {
    static PROFILE: OnceLock<Option<Vec<u8>>> = OnceLock::new();
    let make = || {
        let mut profile = ColorProfile::new_gray_with_gamma(2.2);
        profile.gray_trc = srgb_profile().0.red_trc.clone();
        let name = LocalizableString::new("en".into(), "US".into(), "Grey, sRGB tone curve".into());
        profile.description = Some(ProfileText::Localizable(vec![name]));
        profile.encode().ok()
    };
    PROFILE.get_or_init(make).clone()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::dicom::data_set::DataSet;

    fn profile(bytes: Vec<u8>) -> Profile {
        let json = br#"{"00282000":{"vr":"OB","BulkDataURI":"@00282000"}}"#;
        let data_set = DataSet::parse(json).unwrap();
        let values = BTreeMap::from([("00282000".to_owned(), bytes)]);
        Profile::of(Header::new(data_set.root(), &values))
    }

    fn applied(profile: &Profile, colour: bool, wanted: IccProfile) -> (Vec<u8>, Option<Vec<u8>>) {
        let data = vec![200, 100, 50];
        let width = if colour { 1 } else { 3 };
        let mut pixels = Pixels { width, height: 1, colour, data };
        let icc = profile.apply(&mut pixels, wanted);
        (pixels.data, icc)
    }

    fn close(a: &[u8], b: [u8; 3]) -> bool {
        a.iter().zip(b).all(|(a, b)| a.abs_diff(b) <= 2)
    }

    #[test]
    fn colours_are_converted_from_srgb_where_there_is_no_profile() {
        let none = Profile::default();
        assert_eq!(applied(&none, true, IccProfile::No), (vec![200, 100, 50], None));
        let (same, icc) = applied(&none, true, IccProfile::Yes);
        assert_eq!(same, [200, 100, 50]);
        assert_eq!(parse(&icc.unwrap()).unwrap().color_space, DataColorSpace::Rgb);
        let (srgb, icc) = applied(&none, true, IccProfile::Srgb);
        assert!(srgb == [200, 100, 50] && icc.is_some());
        // By the definitions of the spaces, with Bradford's adaptation between D65 and D50.
        let adobe = applied(&none, true, IccProfile::AdobeRgb).0;
        let romm = applied(&none, true, IccProfile::RommRgb).0;
        assert!(close(&adobe, [177, 100, 56]));
        assert!(close(&romm, [143, 95, 50]));
    }

    #[test]
    fn the_instances_profile_is_embedded_and_converted_from() {
        let bytes = adobe().1.unwrap();
        let own = profile(bytes.clone());
        assert_eq!(applied(&own, true, IccProfile::Yes), (vec![200, 100, 50], Some(bytes)));
        assert!(close(&applied(&own, true, IccProfile::AdobeRgb).0, [200, 100, 50]));
        assert!(!close(&applied(&own, true, IccProfile::Srgb).0, [200, 100, 50]));
    }

    #[test]
    fn greys_keep_their_values_and_get_a_grey_profile() {
        for wanted in [IccProfile::Yes, IccProfile::Srgb, IccProfile::AdobeRgb] {
            let (data, icc) = applied(&Profile::default(), false, wanted);
            assert_eq!(data, [200, 100, 50]);
            let icc = ColorProfile::new_from_slice(&icc.unwrap()).unwrap();
            assert_eq!(icc.color_space, DataColorSpace::Gray);
        }
        assert_eq!(applied(&Profile::default(), false, IccProfile::No).1, None);
    }

    #[test]
    fn damaged_profiles_are_missing_ones() {
        let good = srgb().1.unwrap();
        let grey = grey().unwrap();
        for bytes in [vec![1; 200], good[..140].to_vec(), grey, vec![0; LARGEST + 1]] {
            let damaged = profile(bytes);
            let (_, icc) = applied(&damaged, true, IccProfile::Yes);
            assert_eq!(icc, srgb().1);
        }
    }
}
