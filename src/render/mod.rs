//! Pictures and documents made from instances (PS3.18 §8.7.4, §10.4.1.1.3): what a browser can show.
//!
//! Pure and synchronous: attributes and native pixels in, bytes of an image or a text out. Absent:
//! decoding of stored frames ([`crate::codec`]), I/O, HTTP.

pub mod document;

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
