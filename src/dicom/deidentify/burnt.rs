//! Which instances cannot be de-identified by their attributes, because their pixels or documents
//! may say who it is (PS3.15 §E.3.1, §E.3.2).
//!
//! Owns [`Refusal`] and the rule. Absent: looking at pixels.

use super::profile::BurntIn;
use crate::dicom::{
    Uid,
    transfer_syntax::{PixelForm, TransferSyntax},
};

/// Why an instance is not de-identified. Never says anything of the instance itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Burned In Annotation is YES.
    #[error("text is burnt into its pixels: Burned In Annotation (0028,0301) is YES")]
    BurntIn,
    /// Recognizable Visual Features is YES.
    #[error("its pixels show who it is: Recognizable Visual Features (0028,0302) is YES")]
    Features,
    /// Usual for its class, and not denied.
    #[error(
        "instances of its kind often have text burnt in, and Burned In Annotation (0028,0301) is \
         not NO"
    )]
    Habit,
    /// A PDF, a CDA, a model.
    #[error("it is a document or model, of which only the header could be de-identified")]
    Document,
    /// Overlays in bits of the pixel data.
    #[error("its pixel data has an overlay in unused bits")]
    Overlay,
    /// Its pixels are elsewhere.
    #[error("its pixel data is not in it, but at a place that it names")]
    Elsewhere,
    /// Attributes that would have to be known before.
    #[error("attributes follow its pixel data that should stand before it")]
    Order,
    /// It is a directory.
    #[error("it is the directory of a medium")]
    Directory,
}

/// What an instance says of itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Appearance {
    pub(super) sop_class: String,
    pub(super) modality: String,
    pub(super) image_type: String,
    pub(super) burnt_in: String,
    pub(super) features: String,
    /// Conversion Type is there: it was captured.
    pub(super) is_captured: bool,
    pub(super) has_embedded_overlay: bool,
    pub(super) has_pixels: bool,
}

/// Classes under this root, by the rest of their UID.
const STORAGE: &str = "1.2.840.10008.5.1.4.1.1.";
const DIRECTORY: &str = "1.2.840.10008.1.3.10";
/// Modalities whose pictures have text burnt in, or are photographs.
const MODALITIES: [&str; 7] = ["US", "IVUS", "ES", "XC", "DOC", "SC", "OT"];
/// Values of Image Type that are pages of text, or labels.
const PAGES: [&str; 6] = ["SCREEN", "REPORT", "DOSE_INFO", "PROT", "LABEL", "OVERVIEW"];

impl Appearance {
    /// Whether it may be given with its pixels.
    pub(super) fn check(&self, burnt_in: BurntIn, transfer_syntax: &Uid) -> Result<(), Refusal> {
        let pixels = TransferSyntax::of(transfer_syntax).pixels;
        if self.sop_class == DIRECTORY {
            return Err(Refusal::Directory);
        }
        if pixels == PixelForm::Elsewhere {
            return Err(Refusal::Elsewhere);
        }
        let class = self.sop_class.strip_prefix(STORAGE).unwrap_or_default();
        if class.starts_with("104.") {
            return Err(Refusal::Document);
        }
        if burnt_in == BurntIn::Allow || !self.has_pixels {
            return Ok(());
        }
        if self.burnt_in == "YES" {
            return Err(Refusal::BurntIn);
        }
        if self.features == "YES" {
            return Err(Refusal::Features);
        }
        if self.has_embedded_overlay {
            return Err(Refusal::Overlay);
        }
        if self.burnt_in != "NO" && (pixels == PixelForm::Video || self.is_habitual(class)) {
            return Err(Refusal::Habit);
        }
        Ok(())
    }

    fn is_habitual(&self, class: &str) -> bool {
        let mut types = self.image_type.split('\\').map(|value| value.trim_matches([' ', '\0']));
        let is_secondary = types.nth(1) == Some("SECONDARY");
        let is_class = match class {
            "3" | "3.1" | "6" | "6.1" | "6.2" | "6.3" => true,
            "12.1" | "12.2" | "12.3" => is_secondary,
            _ => class == "7" || class.starts_with("7.") || is_visible_light(class),
        };
        let is_page =
            self.image_type.split('\\').any(|value| PAGES.iter().any(|page| value.contains(page)));
        is_class || is_page || self.is_captured || MODALITIES.contains(&&*self.modality)
    }
}

/// Visible light, but for ophthalmic measurements and whole slides.
fn is_visible_light(class: &str) -> bool {
    let Some(rest) = class.strip_prefix("77.1.") else { return false };
    ["1", "2", "3", "4", "7"].iter().any(|kind| {
        rest.strip_prefix(kind).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(class: &str, change: impl Fn(&mut Appearance)) -> Result<(), Refusal> {
        let sop_class = format!("{STORAGE}{class}");
        let mut it = Appearance { sop_class, has_pixels: true, ..Appearance::default() };
        change(&mut it);
        it.check(BurntIn::Refuse, &"1.2.840.10008.1.2.1".parse().unwrap())
    }

    #[test]
    fn what_may_show_who_it_is_is_refused() {
        let nothing = |_: &mut Appearance| {};
        assert_eq!(check("2", nothing), Ok(()));
        assert_eq!(check("77.1.6", nothing), Ok(()));
        assert_eq!(check("12.1", nothing), Ok(()));
        for class in ["7", "7.4", "3.1", "6.1", "77.1.4", "77.1.1.1", "77.1.7"] {
            assert_eq!(check(class, nothing), Err(Refusal::Habit), "{class}");
            assert_eq!(check(class, |it| it.burnt_in = "NO".into()), Ok(()), "{class}");
            assert_eq!(check(class, |it| it.has_pixels = false), Ok(()), "{class}");
        }
        assert_eq!(check("2", |it| it.burnt_in = "YES".into()), Err(Refusal::BurntIn));
        assert_eq!(check("2", |it| it.features = "YES".into()), Err(Refusal::Features));
        assert_eq!(check("2", |it| it.has_embedded_overlay = true), Err(Refusal::Overlay));
        assert_eq!(check("2", |it| it.is_captured = true), Err(Refusal::Habit));
        assert_eq!(check("2", |it| it.modality = "OT".into()), Err(Refusal::Habit));
        for image_type in ["DERIVED\\SECONDARY\\SCREEN SAVE", "ORIGINAL\\PRIMARY\\LABEL\\NONE"] {
            assert_eq!(check("2", |it| it.image_type = image_type.into()), Err(Refusal::Habit));
        }
        assert_eq!(
            check("12.1", |it| it.image_type = "DERIVED\\SECONDARY".into()),
            Err(Refusal::Habit)
        );
        assert_eq!(check("104.1", |it| it.burnt_in = "NO".into()), Err(Refusal::Document));
    }

    #[test]
    fn who_allows_it_gets_pixels_but_no_documents() {
        let mut it =
            Appearance { has_pixels: true, burnt_in: "YES".into(), ..Appearance::default() };
        let explicit: Uid = "1.2.840.10008.1.2.1".parse().unwrap();
        assert_eq!(it.check(BurntIn::Allow, &explicit), Ok(()));
        it.sop_class = format!("{STORAGE}104.3");
        assert_eq!(it.check(BurntIn::Allow, &explicit), Err(Refusal::Document));
        let video: Uid = "1.2.840.10008.1.2.4.102".parse().unwrap();
        let it = Appearance { has_pixels: true, ..Appearance::default() };
        assert_eq!(it.check(BurntIn::Refuse, &video), Err(Refusal::Habit));
        let jpip: Uid = "1.2.840.10008.1.2.4.94".parse().unwrap();
        assert_eq!(it.check(BurntIn::Allow, &jpip), Err(Refusal::Elsewhere));
    }
}
