//! What the configuration says of the connections to Postgres.

use std::time::Duration;

/// How the pool behaves: the section `[database]` of the configuration, as far as it is about it.
#[derive(Clone, Copy, Debug)]
pub struct DbOptions {
    /// Most connections at a time (`database.max_connections`).
    pub max_connections: u32,
    /// Longest wait for a connection (`database.connect_timeout`).
    pub connect_timeout: Duration,
    /// Longest run of one statement (`database.statement_timeout`); zero: no limit.
    pub statement_timeout: Duration,
    /// Longest run of one search (`search.timeout`); zero: no limit but that of a statement.
    pub search_timeout: Duration,
    /// Whether statements are prepared by name once for each connection. Off behind a pooler that
    /// hands each transaction to another connection (`database.prepared_statements`).
    pub prepared_statements: bool,
    /// Most of the connections that requests of one partition have at a time, of a hundred
    /// (`database.partition_share`).
    pub partition_share: u32,
}

impl Default for DbOptions {
    fn default() -> Self {
        Self {
            max_connections: 16,
            connect_timeout: Duration::from_secs(10),
            statement_timeout: Duration::from_secs(30),
            search_timeout: Duration::from_secs(10),
            prepared_statements: true,
            partition_share: 100,
        }
    }
}
