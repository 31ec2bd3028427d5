//! Everything that knows HTTP.
//!
//! Owns every route of the server ([`routes()`], one page), reading requests and writing answers:
//! which partition a request names ([`carrier`]), what it may be answered with ([`accept`]), its
//! parts ([`multipart`]), the URLs in answers ([`urls`]), errors ([`problem`]), the layers around
//! every route ([`layers`]), what is published about routes ([`operation`], [`openapi`] and the
//! capabilities), byte ranges ([`mod@range`]) and the serve loop ([`listen`]).
//!
//! Absent: SQL, DICOM parsing, decisions on who may do what (`tenancy::decide`).

pub mod accept;
mod admit;
mod api_keys;
mod audit;
mod bulk_update;
mod bulk_value;
mod bulkdata;
mod caller;
mod capabilities;
pub mod carrier;
mod change_feed;
mod charset;
mod commitment;
mod commitment_body;
mod commitment_result;
mod conditional;
mod corrections;
mod deidentified;
mod delete;
mod edge;
mod event_channel;
mod forwarded;
mod frame_choice;
mod frames;
mod health;
mod hindered;
mod json_body;
pub mod layers;
mod link_query;
mod links;
pub mod listen;
mod managing;
mod metadata;
pub mod multipart;
mod new_tags;
mod non_patient;
mod non_patient_get;
pub mod openapi;
pub mod operation;
mod operations;
mod overload;
mod parameters;
mod partitions;
mod pixeldata;
mod place;
mod policy;
mod principals;
pub mod problem;
mod qido;
pub mod query;
mod query_tags;
pub mod range;
mod removals;
mod rendered;
mod rendered_set;
mod rendered_state;
mod revocations;
mod roles;
mod routes;
mod shown;
mod state;
mod still;
mod store_response;
mod stow;
mod subscriptions;
mod thumbnail;
mod transfer;
pub mod urls;
mod view_query;
mod wado;
mod wado_uri;
mod webhook_body;
mod webhooks;
mod workitem_body;
mod workitems;

use std::time::Duration;

pub use edge::Edge;
pub use overload::Overload;
pub use routes::{router, routes};
pub use state::{App, Parts};

use crate::archive::ArchiveError;
use problem::Problem;

/// When a client may try again after a part of the archive did not answer.
const RETRY_AFTER: Duration = Duration::from_secs(5);

impl From<ArchiveError> for Problem {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::NotFound => Self::not_found(),
            ArchiveError::Gone => Self::gone(),
            ArchiveError::NoSuchFrame => Self::not_found(),
            ArchiveError::NotAcceptable { available } => Self::not_acceptable(available),
            ArchiveError::Undecodable(why) => Self::undecodable(why, Vec::new()),
            ArchiveError::NotDeidentifiable(refusal) => Self::not_deidentifiable(refusal),
            ArchiveError::TooLarge { key, limit } => Self::too_large(key, limit),
            ArchiveError::TooBroad { names, limit } => Self::too_broad(names, limit),
            ArchiveError::TooSlow => Self::too_slow(),
            ArchiveError::Unavailable(source) => Self::unavailable(RETRY_AFTER, source),
            ArchiveError::Internal(source) => Self::internal(source),
        }
    }
}
