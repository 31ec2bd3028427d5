//! Content negotiation: `Accept` and `accept=` (PS3.18 §8.7.5 to §8.7.9) against what a service
//! offers.
//!
//! Owns the parser ([`AcceptSet`]), the chooser ([`candidates`], [`choose()`]), the refusal of sets
//! that ask for DICOM and for renderings at once ([`refuse_mixtures`]), and what the standard lets
//! each kind of resource be ([`offers`]). Services state their offers as data ([`Offer`]). Invariants: what cannot be understood is ignored, never an
//! error; work is bounded, whatever the header holds. Absent: which transfer syntax an instance
//! can be given in; the caller walks the candidates, since that depends on the stored syntax.

mod choose;
mod mixture;
pub mod offers;
mod parse;
#[cfg(test)]
mod tests;

pub use choose::{Choice, Form, NotAcceptable, Offer, Syntax, Syntaxes, candidates, choose};
pub use mixture::refuse_mixtures;
pub use parse::{AcceptSet, MediaRange, RangeSyntax};
