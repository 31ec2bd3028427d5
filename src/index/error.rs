//! What can go wrong in the index, and the one place where an SQLSTATE is read.
//!
//! Invariant: no variant carries a value of a row or a parameter. Postgres repeats such values in
//! `DETAIL` and in some messages, so of a database error only its code and the names of the table
//! and constraint are kept.

use sqlx::{error::ErrorKind, migrate::MigrateError};

/// Why the index could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The transaction lost a race (deadlock, serialization failure, lock timeout). Nothing was
    /// written; the same transaction may be tried again.
    #[error("the index was busy with a conflicting change")]
    Busy,
    /// The store of a blob was repeated after what its first try stored had been deleted.
    #[error("what was being stored has been deleted meanwhile")]
    Spent,
    /// A statement took longer than `database.statement_timeout`.
    #[error("the index took longer than database.statement_timeout")]
    TimedOut,
    /// A search took longer than `search.timeout`: it has to ask for less.
    #[error("the search took longer than search.timeout")]
    TooBroad,
    /// The database cannot be reached, is starting or shutting down, or has no connection left.
    #[error("the database is not available")]
    Unavailable(#[source] sqlx::Error),
    /// The database must not be used as it is: the separation of tenants would not hold.
    #[error("the database must not be used: {0}")]
    Unsafe(&'static str),
    /// The schema is older than this server.
    #[error("the schema of the database is older than this server; run `collimator migrate`")]
    Outdated,
    /// A row says something that the server never writes.
    #[error("column {column} of table {table} holds what must not be there")]
    Inconsistent {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
    },
    /// Migrations could not be run.
    #[error("the schema could not be migrated")]
    Migration(#[source] MigrateError),
    /// The owner of the database may not create the roles that the server needs.
    #[error("the owner of the database may not create or grant roles (CREATEROLE is needed)")]
    RolesRefused,
    /// Anything else that Postgres refused: a mistake in the server.
    #[error("unexpected database error {sqlstate} ({about})")]
    Database {
        /// SQLSTATE.
        sqlstate: String,
        /// Table and constraint, or what kind of rule.
        about: String,
    },
    /// An answer could not be read as the statement promises: a mistake in the server.
    #[error("an answer of the database could not be decoded")]
    Decode,
}

impl IndexError {
    /// Whether the same transaction may succeed at once, if it is tried again.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Busy)
    }

    /// Whether what was asked may never have been read, since the connection is gone.
    pub(super) fn is_lost_connection(&self) -> bool {
        match self {
            Self::Unavailable(sqlx::Error::Io(_)) => true,
            // admin_shutdown, crash_shutdown, and what ends a session or its transaction by time
            Self::Unavailable(sqlx::Error::Database(error)) => {
                matches!(error.code().as_deref(), Some("57P01" | "57P02" | "57P05" | "25P03"))
            }
            _ => false,
        }
    }

    /// Whether the database does not answer now, but may later.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Busy | Self::Spent | Self::TimedOut | Self::Unavailable(_))
    }
}

impl From<MigrateError> for IndexError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Execute(error) => match Self::from(error) {
                // Migrations hold no data of tenants: here the message helps and tells nothing.
                Self::Database { sqlstate, about } => Self::Migration(MigrateError::Execute(
                    sqlx::Error::Protocol(format!("SQLSTATE {sqlstate} ({about})")),
                )),
                other => other,
            },
            other => Self::Migration(other),
        }
    }
}

impl From<sqlx::Error> for IndexError {
    fn from(error: sqlx::Error) -> Self {
        let database = match &error {
            sqlx::Error::Database(database) => database,
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::Protocol(_)
            | sqlx::Error::BeginFailed => return Self::Unavailable(error),
            _ => return Self::Decode,
        };
        let sqlstate = database.code().unwrap_or_default().into_owned();
        match sqlstate.as_str() {
            // serialization_failure, deadlock_detected, lock_not_available
            "40001" | "40P01" | "55P03" => Self::Busy,
            // query_canceled
            "57014" => Self::TimedOut,
            // admin_shutdown, crash_shutdown, cannot_connect_now, idle session or transaction
            // ended, read_only_sql_transaction (a failover under way)
            "57P01" | "57P02" | "57P03" | "57P05" | "25P03" | "25006" => Self::Unavailable(error),
            // Connection exceptions; insufficient resources, a full disk among them; system errors.
            code if ["08", "53", "58"].iter().any(|class| code.starts_with(class)) => {
                Self::Unavailable(error)
            }
            // A first try of the same store, whose answer was lost, was still committing.
            "23505" if database.constraint() == Some("blob_pkey") => Self::Busy,
            _ => {
                let rule = match database.kind() {
                    ErrorKind::UniqueViolation => "unique",
                    ErrorKind::ForeignKeyViolation => "foreign key",
                    ErrorKind::NotNullViolation => "not null",
                    ErrorKind::CheckViolation => "check",
                    _ => "other",
                };
                let table = database.table().unwrap_or("no table");
                let about = match database.constraint() {
                    Some(constraint) => format!("{table}, {rule} {constraint}"),
                    // Class 42 is about names and grants in our own text, never about values.
                    None if sqlstate.starts_with("42") => database.message().to_owned(),
                    None => format!("{table}, {rule}"),
                };
                Self::Database { sqlstate, about }
            }
        }
    }
}
