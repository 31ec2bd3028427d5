//! Pictures and documents made from instances (PS3.18 §8.7.4, §10.4.1.1.3): what a browser can show.
//!
//! Owns the way from the attributes of an instance and one native frame to a picture
//! ([`Renderer`]), and from a picture to the bytes of an image ([`Picture::encode`],
//! [`Animation`]). Pure and synchronous. Holds: attributes and pixels are hostile, so that nothing
//! panics, memory is bounded by the frame and by [`MAX_SIDE`] and [`MAX_PIXELS`], and what cannot
//! be shown truly is an error. Absent: decoding of stored frames ([`crate::codec`]), I/O, HTTP.

mod animation;
mod annotation;
mod arabic;
mod card;
mod colour;
pub mod document;
mod encode;
mod font;
mod grey;
mod groups;
mod header;
mod icc;
mod lut;
mod overlay;
mod palette;
mod percentile;
mod renderer;
mod samples;
mod turn;
mod view;
mod viewport;
mod voi;

#[cfg(test)]
mod tests;

pub use animation::Animation;
pub use encode::Format;
pub use renderer::Renderer;
pub use turn::Turn;
pub use view::{Annotations, Function, IccProfile, View, Viewport, Window};

/// Most pixels on a side of a picture.
pub const MAX_SIDE: u32 = 16_384;

/// Most pixels of a picture.
pub const MAX_PIXELS: u64 = 1 << 27;

/// What a viewer shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Pixels of a row, 1 to [`MAX_SIDE`].
    pub width: u32,
    /// Rows, 1 to [`MAX_SIDE`].
    pub height: u32,
    /// Three bytes for each pixel (red, green, blue) instead of one.
    pub colour: bool,
    /// The pixels, row after row from the top.
    pub data: Vec<u8>,
    /// The ICC profile to embed: of the class for RGB where `colour`, else for grey.
    pub icc: Option<Vec<u8>>,
}

/// A picture or document cannot be made. Texts never repeat input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// There is no way to show this.
    #[error("there is no rendering of {0}")]
    Unsupported(&'static str),
    /// The attributes or the pixels do not fit together.
    #[error("the instance is damaged: {0}")]
    Damaged(&'static str),
}
