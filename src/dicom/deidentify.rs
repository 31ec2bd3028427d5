//! De-identification (PS3.15 Annex E): the Basic Application Level Confidentiality Profile with its
//! options, applied to a Part 10 file while it arrives.
//!
//! Owns [`Profile`], what is done, and [`Deidentifier`], which does it: bytes of the file are pushed
//! in, bytes of the de-identified file are taken out. Everything up to the pixel data is held, and
//! what becomes of it (each at most twice `limits.header_bytes`); pixel data passes through in pieces.
//!
//! Holds: nothing leaves before all that could refuse the instance was seen, so that a refusal is
//! an error and no broken file; what is not understood is left out (unknown attributes, private
//! ones, values in another VR than PS3.6 gives them, pixel data in items, encrypted attributes,
//! everything behind the pixel data); no attribute of the File Meta Information is taken over;
//! what comes out depends on profile and file, not on the pieces. Results are Explicit VR Little
//! Endian, or encapsulated as they were. Absent: looking at pixels, where keys are kept.
//!
//! By the letter actions depend on the Type of an attribute in its IOD (X/Z, X/D, Z/D, X/Z/D). Here
//! X/Z is always Z, and D is taken but for the classes of `rules::is_plain`, in whose modules
//! such attributes are of Type 2 or 3: a dummy is never wrong, where an absent attribute might be.

mod burnt;
mod dates;
mod dummy;
mod engine;
mod profile;
mod pseudonym;
mod report;
mod rules;
mod safe_private;
mod scrub;
mod table;
#[cfg(test)]
mod tests;
mod text;
mod write;

pub use burnt::Refusal;
pub use engine::{Deidentifier, DeidentifyError, NewIdentity};
pub use profile::{BurntIn, Dates, NoOption, Options, Profile};
pub use pseudonym::PseudonymKey;
