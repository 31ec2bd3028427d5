//! What a client may wish for a picture (PS3.18 §8.3.5.1).
//!
//! Owns the parameters as values. Holds nothing by itself: who draws copes with every number.
//! Absent: how they are written in a query.

use super::Turn;

/// How to show a frame. The default is: as the instance says, at its own size.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// The part to show and how large; none is the whole matrix, one pixel for each of its own.
    pub viewport: Option<Viewport>,
    /// Instead of what the instance says. Only greys have windows: colour is left as it is.
    pub window: Option<Window>,
    /// Texts burned in.
    pub annotations: Annotations,
    /// Colour management.
    pub icc: IccProfile,
    /// Draw the instance's overlays (groups 6000 to 601E). Off for thumbnails: modalities burn
    /// names into overlays.
    pub overlays: bool,
    /// Turns the picture, after the viewport and before texts are burned in.
    pub turn: Turn,
}

/// Where a picture has to fit, and the part of the frame that it shows (PS3.18 §8.3.5.1.3).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Viewport {
    /// Most pixels of a row.
    pub width: u32,
    /// Most rows.
    pub height: u32,
    /// Left, top, width and height in pixels of the frame. A negative width mirrors left and
    /// right, a negative height top and bottom; their absolute values are meant otherwise. What
    /// lies outside of the frame is cut off.
    pub region: Option<(f64, f64, f64, f64)>,
}

/// Which values are shown between black and white (PS3.3 §C.11.2.1.2).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// Window Center, in units behind the modality transformation.
    pub center: f64,
    /// Window Width, in the same units. For [`Function::Linear`] at least 1, else above 0.
    pub width: f64,
    /// VOI LUT Function.
    pub function: Function,
}

/// VOI LUT Function (PS3.3 §C.11.2.1.2, §C.11.2.1.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Function {
    /// `LINEAR`: as for integers, with a width one less.
    #[default]
    Linear,
    /// `LINEAR_EXACT`.
    LinearExact,
    /// `SIGMOID`.
    Sigmoid,
}

/// Texts that are burned in (PS3.18 §8.3.5.1.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Annotations {
    /// Who: name, id, birth date, sex.
    pub patient: bool,
    /// How: modality, series, exposure, geometry, window.
    pub technique: bool,
}

/// Colour management (PS3.18 §8.3.5.1.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum IccProfile {
    /// Colours as they are, no profile.
    #[default]
    No,
    /// Colours as they are, with the profile of the instance, or sRGB if it has none.
    Yes,
    /// Converted to sRGB.
    Srgb,
    /// Converted to Adobe RGB (1998).
    AdobeRgb,
    /// Converted to ROMM RGB (ProPhoto).
    RommRgb,
}
