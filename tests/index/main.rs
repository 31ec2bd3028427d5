//! The index against a real Postgres.

mod data;
mod postgres;

mod isolation;
mod schema;
mod store;
