//! `multipart/related` (RFC 2387, PS3.18 §8.6.1.2): a bounded streaming reader of requests and a
//! streaming writer of answers.
//!
//! Owns the syntax in both directions. Invariants: memory does not grow with the size of a part
//! or the number of parts; bytes of parts are slices of what the connection delivered, copied
//! only where a delimiter may lie across the edge of two deliveries; every wait for the client
//! ends. Absent: what the parts mean.

mod content_type;
mod delimiter;
mod error;
mod part_head;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

pub use content_type::ContentType;
pub use error::MultipartError;
pub use part_head::PartHead;
pub use reader::{Part, PartReader};
pub use writer::{Boundary, OutPart, PartStream, Related, media_type_with};
