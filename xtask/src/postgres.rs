//! A PostgreSQL for the tests: the one that `TIDEWIRE_TEST_POSTGRES` names, or a private cluster.
//!
//! A private cluster lives in a temporary directory, listens on a free port of the loopback
//! interface alone, has a random password, keeps `fsync` on, never runs as root, and is stopped
//! and removed at the end.

pub(crate) mod binaries;
mod cluster;

use anyhow::Result;

use crate::interrupt::{self, PostgresGuard};

pub(crate) use cluster::Cluster;

/// Where the tests find PostgreSQL.
#[derive(Debug)]
pub(crate) enum Server {
    /// Somebody else's server.
    Given(String),
    /// Our own, until this is dropped.
    Started(PostgresGuard),
}

impl Server {
    /// The URL of the server.
    pub(crate) fn url(&self) -> &str {
        match self {
            Self::Given(url) => url,
            Self::Started(guard) => guard.url(),
        }
    }
}

/// The server that the environment names, or a new private cluster.
pub(crate) fn find_or_start() -> Result<Server> {
    match std::env::var("TIDEWIRE_TEST_POSTGRES") {
        Ok(url) if !url.is_empty() => {
            println!("using the server that TIDEWIRE_TEST_POSTGRES names");
            Ok(Server::Given(url))
        }
        _ => {
            let binaries = binaries::find_or_install()?;
            interrupt::keep_postgres(|| Cluster::start(&binaries)).map(Server::Started)
        }
    }
}
