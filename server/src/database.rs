//! Where the log is, and how each verb opens it.

use std::{fmt, path::PathBuf, sync::Arc};

use anyhow::Result;
use tidewire_eventstore::{
    EventStore, OpenError, SqliteOptions, SqliteStore,
    postgres::{self, ListenMode, PostgresOptions, PostgresStore},
};
use tidewire_projections::{
    DocumentStore,
    documents::{
        PostgresDocuments, PostgresDocumentsOptions, SqliteDocuments, SqliteDocumentsOptions,
    },
};

use crate::{
    config::{Level, Settings},
    exit::{Reason, failure},
};

/// Where the log is.
#[derive(Debug, Clone)]
pub(crate) enum Database {
    /// In a file of this machine.
    Sqlite(PathBuf),
    /// In PostgreSQL.
    Postgres {
        /// The database.
        url: String,
        /// Another way to it for LISTEN.
        listen_url: Option<String>,
        /// Whether other processes' commits are announced by NOTIFY, or looked for.
        listen: bool,
    },
}

/// The options that name the database.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct DatabaseArgs {
    /// Read settings from this TOML file [env: TIDEWIRE_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// SQLite file of the log [env: TIDEWIRE_DATABASE] [default: tidewire.db]
    #[arg(long, value_name = "FILE", conflicts_with = "database_url")]
    pub(crate) database: Option<PathBuf>,
    /// PostgreSQL database of the log, postgres://… [env: TIDEWIRE_DATABASE_URL]
    #[arg(long, value_name = "URL")]
    pub(crate) database_url: Option<String>,
    /// Another way to PostgreSQL for LISTEN, around a pooler [env: TIDEWIRE_LISTEN_URL]
    #[arg(long, value_name = "URL")]
    pub(crate) listen_url: Option<String>,
    /// Look for other processes' commits instead of LISTEN [env: TIDEWIRE_NO_LISTEN]
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true,
          value_name = "BOOL")]
    pub(crate) no_listen: Option<bool>,
}

impl DatabaseArgs {
    /// What these options say, as a level of settings.
    pub(crate) fn level(&self) -> Level {
        Level {
            database: self.database.clone(),
            database_url: self.database_url.clone(),
            listen_url: self.listen_url.clone(),
            no_listen: self.no_listen,
            ..Level::default()
        }
    }

    /// The database that they, the environment and the file come to.
    pub(crate) fn database(&self) -> Result<Database> {
        Ok(self.settings()?.database)
    }

    /// All settings that they, the environment and the file come to.
    pub(crate) fn settings(&self) -> Result<Settings> {
        Settings::load(self.config.as_deref(), self.level())
    }
}

/// What the log is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To serve it: no other server may have the same file.
    Serve,
    /// For one verb of the command line, beside a server that may run.
    Visit,
    /// The same, for a verb that only looks: there has to be a log.
    Look,
}

impl Database {
    /// Opens the log, creating it and bringing its schema up to date where needed. Must be called
    /// on the runtime that is to carry the store's tasks.
    ///
    /// # Errors
    ///
    /// The file or the server cannot be used; another server has the file.
    pub(crate) async fn open(&self, purpose: Purpose) -> Result<Arc<dyn EventStore>> {
        match self {
            Self::Sqlite(path) => {
                if purpose == Purpose::Look && !path.exists() {
                    return Err(failure(
                        Reason::Usage,
                        format!(
                            "there is no log at {}; name its file with --database",
                            path.display()
                        ),
                    ));
                }
                let options = match purpose {
                    Purpose::Serve => SqliteOptions::serve(),
                    Purpose::Visit | Purpose::Look => SqliteOptions::tool(),
                };
                let store = SqliteStore::open(path, options).await.map_err(sqlite_failure)?;
                Ok(Arc::new(store))
            }
            Self::Postgres { url, listen_url, listen } => {
                let mut options = PostgresOptions::new(url);
                options.listen_url.clone_from(listen_url);
                options.listen = match (purpose, listen) {
                    (Purpose::Serve, true) => ListenMode::Listen,
                    _ => ListenMode::PollOnly,
                };
                let store = PostgresStore::connect(options).await.map_err(postgres_failure)?;
                Ok(Arc::new(store))
            }
        }
    }

    /// Opens the documents of projections, beside the log that was opened before. Must be called on
    /// the runtime that is to carry their connections.
    ///
    /// # Errors
    ///
    /// The file or the server cannot be used.
    pub(crate) async fn open_documents(&self) -> Result<Arc<dyn DocumentStore>> {
        match self {
            Self::Sqlite(path) => {
                let options = SqliteDocumentsOptions::default();
                Ok(Arc::new(SqliteDocuments::open(path, options).await?))
            }
            Self::Postgres { url, .. } => {
                let options = PostgresDocumentsOptions::new(url);
                let documents = PostgresDocuments::connect(options).await;
                Ok(Arc::new(documents.map_err(postgres_failure)?))
            }
        }
    }
}

/// Names the database without its password.
impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "{}", path.display()),
            Self::Postgres { url, .. } => {
                let (scheme, rest) = url.split_once("://").unwrap_or(("postgres", url));
                let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
                let place = place.split_once('?').map_or(place, |(place, _)| place);
                write!(f, "{scheme}://{place}")
            }
        }
    }
}

fn sqlite_failure(error: OpenError) -> anyhow::Error {
    match error {
        OpenError::Served { path } => failure(
            Reason::InUse,
            format!(
                "another server has {}: stop it first, or name another file with --database",
                path.display()
            ),
        ),
        other => other.into(),
    }
}

fn postgres_failure(error: postgres::OpenError) -> anyhow::Error {
    let reason = match error {
        postgres::OpenError::Url => Reason::Usage,
        postgres::OpenError::Connect { .. } => Reason::Unavailable,
        _ => Reason::Failed,
    };
    failure(reason, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::Database;

    #[test]
    fn a_database_is_shown_without_its_password() {
        for (url, shown) in [
            ("postgres://me:secret@db:5432/shop?sslmode=require", "postgres://db:5432/shop"),
            ("postgres://db/shop", "postgres://db/shop"),
            ("postgres://me:s@cret@db/shop", "postgres://db/shop"),
        ] {
            let url = url.to_owned();
            let database = Database::Postgres { url, listen_url: None, listen: true };
            assert_eq!(database.to_string(), shown);
        }
    }
}
