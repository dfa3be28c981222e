//! Settings from four places; later ones win: the defaults, the file that `--config` names, the
//! environment (`TIDEWIRE_*`) and the command line.
//!
//! A key has one name everywhere: `log_format` in the file is `TIDEWIRE_LOG_FORMAT` in the
//! environment and `--log-format` on the command line. The transport's limits are the table
//! `[transport]` of the file, `TIDEWIRE_TRANSPORT_PING_INTERVAL` and
//! `--set transport.ping_interval=30000`. Projections and collections stand in the file alone.

mod level;
mod projections;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::Result;
use toml::Table;

pub(crate) use level::Level;
pub(crate) use projections::{Configured, Kept, ProjectionTables};

use crate::{
    database::Database,
    exit::{Reason, failure},
    logging::LogFormat,
};

/// Where the server listens unless told otherwise.
pub(crate) const DEFAULT_ADDRESS: &str = "127.0.0.1:7377";

/// The database of one that was not told another.
pub(crate) const DEFAULT_DATABASE: &str = "tidewire.db";

/// Everything that is settled before the program begins its work.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Where the server listens.
    pub(crate) address: SocketAddr,
    /// Where the log is.
    pub(crate) database: Database,
    /// The token that clients have to show.
    pub(crate) token: Option<String>,
    /// Whether everybody may come in from anywhere.
    pub(crate) insecure: bool,
    /// Threads that serve sockets; as many as cores where not given.
    pub(crate) workers: Option<usize>,
    /// What is logged.
    pub(crate) log: Option<String>,
    /// How it is logged.
    pub(crate) log_format: LogFormat,
    /// The transport's limits, as they were given.
    pub(crate) transport: Table,
    /// What is kept beside the log.
    pub(crate) projections: ProjectionTables,
}

impl Settings {
    /// Settles the settings of this process.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, a key that does not exist, a value that makes no sense.
    pub(crate) fn load(config: Option<&Path>, flags: Level) -> Result<Self> {
        let environment = Level::from_environment(std::env::vars_os())?;
        let from_environment = std::env::var_os("TIDEWIRE_CONFIG").map(PathBuf::from);
        let file = match config.map(Path::to_owned).or(from_environment) {
            Some(path) => read_file(&path)?,
            None => Level::default(),
        };
        Self::settle(flags.over(environment).over(file))
    }

    fn settle(level: Level) -> Result<Self> {
        let address = level.address.as_deref().unwrap_or(DEFAULT_ADDRESS);
        let address = address.parse().map_err(|_| {
            failure(
                Reason::Usage,
                format!("{address:?} is not an address; it should look like {DEFAULT_ADDRESS}"),
            )
        })?;
        let database = match (level.database, level.database_url) {
            (Some(file), Some(_)) => {
                return Err(failure(
                    Reason::Usage,
                    format!(
                        "both a database file ({}) and a database URL were given; choose one",
                        file.display()
                    ),
                ));
            }
            (None, Some(url)) => Database::Postgres {
                url,
                listen_url: level.listen_url,
                listen: !level.no_listen.unwrap_or(false),
            },
            (file, None) => {
                Database::Sqlite(file.unwrap_or_else(|| PathBuf::from(DEFAULT_DATABASE)))
            }
        };
        if level.workers == Some(0) {
            return Err(failure(Reason::Usage, "workers must be at least 1"));
        }
        Ok(Self {
            address,
            database,
            token: level.token.filter(|token| !token.is_empty()),
            insecure: level.insecure.unwrap_or(false),
            workers: level.workers,
            log: level.log,
            log_format: level.log_format.unwrap_or_default(),
            transport: level.transport.unwrap_or_default(),
            projections: ProjectionTables {
                projections: level.projections.unwrap_or_default(),
                collections: level.collections.unwrap_or_default(),
                directory: level.directory.unwrap_or_default(),
            },
        })
    }
}

fn read_file(path: &Path) -> Result<Level> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| {
        failure(Reason::Usage, format!("cannot read the settings in {shown}: {error}"))
    })?;
    let mut level: Level = toml::from_str(&text).map_err(|error| {
        failure(Reason::Usage, format!("{shown} is wrong: {}", error.to_string().trim_end()))
    })?;
    level.directory = path.parent().map(Path::to_owned);
    Ok(level)
}

#[cfg(test)]
mod tests;
