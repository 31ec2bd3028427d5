//! The server as its clients see it: over HTTP, on a real Postgres and a real folder of blobs.

#![expect(clippy::cloned_ref_to_slice_refs, reason = "a request reads best as a list of files")]

mod harness;

mod audit;
mod change_feed;
mod cli;
mod commitment;
mod conformance;
mod crash;
mod delete;
mod dimse;
mod edge;
mod export;
mod hostile;
mod http;
mod identity;
mod import;
mod isolation;
mod links;
mod non_patient;
mod oracle;
mod overload;
mod partitions;
mod principals;
mod query_tags;
mod rejection;
mod retrieve;
mod search;
mod smuggling;
mod store;
mod tls;
mod undelete;
mod update;
mod verify;
mod webhooks;
mod worklist;
