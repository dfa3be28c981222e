//! [`PostgresOptions`]: how to reach a log in PostgreSQL, and [`OpenError`]: why it was not
//! opened.
//!
//! A URL may carry a password, so neither type ever shows one.

use std::{fmt, time::Duration};

use crate::Limits;

/// How to reach a log in PostgreSQL, 13 or later. Begin with [`PostgresOptions::new`].
#[derive(Clone)]
#[non_exhaustive]
pub struct PostgresOptions {
    /// The database: `postgres://user:password@host:port/database?sslmode=…`. What it leaves out
    /// comes from `PGUSER`, `PGPASSWORD`, … and `~/.pgpass`, as for other programs.
    pub url: String,
    /// Another way to the same database for LISTEN alone, which needs a session of its own:
    /// around a PgBouncer that pools transactions. `None`: as `url`.
    pub listen_url: Option<String>,
    /// How other processes' commits are noticed.
    pub listen: ListenMode,
    /// Whether the schema is brought up to date.
    pub migrations: MigrationMode,
    /// Connections that read pages, at least 1 (4). The writer, the listener, the notifier and
    /// the head look have one each besides.
    pub read_connections: u32,
    /// Connections for claims of consumers and for what people ask about them, at least 1 (2); one
    /// more has their progress and leases to itself.
    pub consumer_connections: u32,
    /// How often the head is looked at, whatever was heard (250 ms).
    pub head_poll: Duration,
    /// How long connecting, or waiting for a free connection, may take (5 s).
    pub connect_timeout: Duration,
    /// How long one statement may take before its connection is given up (30 s).
    pub statement_timeout: Duration,
    /// The bounds of appends, queue and groups.
    pub limits: Limits,
}

impl PostgresOptions {
    /// Options for the database at `url`, everything else as documented at the fields.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            listen_url: None,
            listen: ListenMode::Listen,
            migrations: MigrationMode::Apply,
            read_connections: 4,
            consumer_connections: 2,
            head_poll: Duration::from_millis(250),
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(30),
            limits: Limits::default(),
        }
    }
}

impl fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresOptions")
            .field("listen", &self.listen)
            .field("migrations", &self.migrations)
            .field("read_connections", &self.read_connections)
            .field("consumer_connections", &self.consumer_connections)
            .field("head_poll", &self.head_poll)
            .field("connect_timeout", &self.connect_timeout)
            .field("statement_timeout", &self.statement_timeout)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// How another process's commits are noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ListenMode {
    /// By NOTIFY, within milliseconds, and by looking at the head every now and then.
    #[default]
    Listen,
    /// By looking at the head alone.
    PollOnly,
}

/// Whether opening the store brings the schema up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MigrationMode {
    /// Pending migrations are applied.
    #[default]
    Apply,
    /// The schema has to be up to date; a role without the right to change it will do.
    Require,
}

/// Why a log in PostgreSQL could not be opened or migrated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The URL is not one of a PostgreSQL database.
    #[error("not a database URL; it should look like postgres://user:password@host:5432/database")]
    Url,
    /// The server could not be reached, or refused the connection.
    #[error("cannot connect to PostgreSQL at {address}: {reason}")]
    Connect {
        /// Host, port and database.
        address: String,
        /// What happened.
        reason: String,
    },
    /// The server or the database is not fit to hold a log.
    #[error("this database cannot hold a log: {reason}")]
    Unsuitable {
        /// What it lacks.
        reason: String,
    },
    /// The schema is older than this program and was not to be migrated.
    #[error("the schema is at migration {found}, this program needs {needed}: run the migrations")]
    SchemaOld {
        /// The last migration applied; 0 in an empty database.
        found: i32,
        /// The last one that this program knows.
        needed: i32,
    },
    /// The schema is more than one migration newer than this program.
    #[error("the schema is at migration {found}, this program knows {known}: use a newer program")]
    SchemaNew {
        /// The last migration applied.
        found: i32,
        /// The last one that this program knows.
        known: i32,
    },
    /// A migration was applied that differs from the one of this program by the same number.
    #[error("migration {version} was applied with another content than this program's")]
    SchemaDiffers {
        /// The migration's number.
        version: i32,
    },
    /// A statement failed while opening.
    #[error("PostgreSQL refused: {reason}")]
    Refused {
        /// SQLSTATE and text.
        reason: String,
    },
}
