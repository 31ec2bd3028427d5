//! Everything that knows HTTP.
//!
//! Owns reading requests and writing answers: which partition a request names
//! ([`carrier`]), what it may be answered with ([`accept`]), its parts
//! ([`multipart`]), the URLs in answers ([`urls`]), errors ([`problem`]), the layers around every route ([`layers`]), the published
//! list of routes ([`openapi`]), byte ranges ([`mod@range`]) and the serve loop ([`listen`]).
//!
//! Absent: SQL, DICOM parsing, decisions on who may do what (`tenancy::decide`).

pub mod accept;
pub mod carrier;
pub mod layers;
pub mod listen;
pub mod multipart;
pub mod openapi;
pub mod problem;
pub mod range;
pub mod urls;
