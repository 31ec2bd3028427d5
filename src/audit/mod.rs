//! The audit log: what an event is, how it is written down, and the forms in which it leaves.
//!
//! Owns [`Event`] and its record ([`Event::record`]: the JSON that is kept, and the very bytes that
//! the chain is made of), the links of the chain ([`link`]), DICOM audit messages ([`message`],
//! PS3.15 A.5) and their framing for syslog ([`syslog`], RFC 5424 and 5425). Pure: no I/O, no SQL,
//! no clock.
//!
//! Holds: a record is made once and never again, so that what is hashed is what is kept; lists in it
//! are bounded, with the count of what was left out. Absent: where events are kept (`index`), who
//! puts them there (`index` for changes, `control` for the rest), who chains and exports (`workers`).

mod chain;
mod codes;
mod event;
pub mod message;
pub mod syslog;

pub use chain::{Hash, Link, START, link};
pub use event::{Event, MAX_UIDS, Outcome, Who};
