//! The index against a real Postgres.

mod data;
#[path = "../suite/harness/postgres.rs"]
mod postgres;

mod isolation;
mod plans;
mod races;
mod repeat;
mod schema;
mod search;
mod store;
