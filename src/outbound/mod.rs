//! Requests that the server sends where tenants tell it to.
//!
//! Owns which addresses may be called ([`Guard`]), how messages are signed ([`signature`]) and how
//! they are sent ([`Sender`]). Holds: nothing but what the configuration lets be called is
//! connected to, whatever a URL, a name or an answer says: addresses are looked at after names were
//! resolved, where the connection is made; redirects are not followed; no proxy of the environment
//! is used. What counts of an answer is its head. Logs name hosts, and nothing else of a URL.
//! [`Syslog`] is where the audit log goes: the operator names it, and no guard stands before it.
//!
//! Absent: what is sent, when, and what becomes of it (`workers`); SQL.

mod address;
mod guard;
mod sender;
pub mod signature;
mod syslog;

pub use guard::{Guard, UrlRefusal};
pub use sender::{Failure, Message, Reason, Sender};
pub use syslog::{Syslog, SyslogError};
