//! The index against a real Postgres.

mod audit;
mod backfill;
mod composed;
mod data;
mod deletion;
#[allow(dead_code, reason = "shared with the suite")]
#[path = "../suite/harness/postgres.rs"]
mod postgres;

mod feed;
mod hidden;
mod isolation;
mod left_open;
mod limits;
mod link_keys;
mod names;
mod packs;
mod pictures;
mod plans;
mod query_tags;
mod races;
mod rejection;
mod repeat;
mod schema;
mod search;
mod several;
mod store;
