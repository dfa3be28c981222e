//! [`PostgresDocumentsOptions`]: how to reach documents in PostgreSQL.

use std::{fmt, time::Duration};

use tidewire_eventstore::postgres::MigrationMode;

/// How to reach documents in PostgreSQL, 13 or later. Begin with
/// [`PostgresDocumentsOptions::new`]. A URL may carry a password, so this never shows one.
#[derive(Clone)]
#[non_exhaustive]
pub struct PostgresDocumentsOptions {
    /// The database, best the log's: `postgres://user:password@host:port/database?sslmode=…`.
    pub url: String,
    /// Whether the schema is brought up to date.
    pub migrations: MigrationMode,
    /// Connections that commit, at least 1 (3): as many commits are under way at once.
    pub commit_connections: u32,
    /// Connections that read, at least 1 (4). Leases have one more to themselves.
    pub read_connections: u32,
    /// How long connecting, or waiting for a free connection, may take (5 s).
    pub connect_timeout: Duration,
    /// How long one statement may take before its connection is given up (35 s). The server ends
    /// it after 30 s by itself.
    pub statement_timeout: Duration,
}

impl PostgresDocumentsOptions {
    /// Options for the database at `url`, everything else as documented at the fields.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            migrations: MigrationMode::Apply,
            commit_connections: 3,
            read_connections: 4,
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(35),
        }
    }
}

impl fmt::Debug for PostgresDocumentsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresDocumentsOptions")
            .field("migrations", &self.migrations)
            .field("commit_connections", &self.commit_connections)
            .field("read_connections", &self.read_connections)
            .field("connect_timeout", &self.connect_timeout)
            .field("statement_timeout", &self.statement_timeout)
            .finish_non_exhaustive()
    }
}
