//! The measured server: what `serve` runs, with nothing to say but where it listens.

use std::{net::TcpListener, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use tempfile::TempDir;
use tidewire_transport::DatabaseRuntime;

use super::{
    child::{self, Child},
    live_queries,
};
use crate::{
    config::Kept,
    database::{Database, Purpose},
    host::{self, Host},
    pages::Pages,
    projecting::Projecting,
};

/// Longer than any benchmark takes.
const UNDISTURBED: Duration = Duration::from_secs(7200);

/// Which server is measured
#[derive(Debug, clap::Args)]
pub(super) struct Launch {
    /// Measure on this PostgreSQL database, which is added to; else on SQLite in a new folder
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// Threads of the server that serve sockets
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    workers: u16,
}

/// A server in a process of its own. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Measured {
    /// Its process.
    pub(super) child: Child,
    _folder: TempDir,
}

impl Launch {
    /// Starts a server on `core`.
    ///
    /// # Errors
    ///
    /// It does not come up.
    pub(super) async fn start(&self, core: Option<usize>) -> Result<Measured> {
        self.start_with(&[], core).await
    }

    /// Starts a server that is told more.
    ///
    /// # Errors
    ///
    /// It does not come up.
    pub(super) async fn start_with(&self, more: &[&str], core: Option<usize>) -> Result<Measured> {
        let folder = tempfile::tempdir().context("a folder for the log")?;
        let file = folder.path().join("log.db");
        let file = file.to_str().context("the path of the temporary folder is not text")?;
        let database = match &self.database_url {
            Some(url) => ["--database-url", url],
            None => ["--database", file],
        };
        let workers = self.workers.to_string();
        let verb = [&["server", "--workers", &workers], &database[..], more].concat();
        Ok(Measured { child: Child::start(&verb, core).await?, _folder: folder })
    }
}

/// Serve a log to be measured
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The log's SQLite file
    #[arg(long, required_unless_present = "database_url")]
    database: Option<PathBuf>,
    /// The log's PostgreSQL database
    #[arg(long)]
    database_url: Option<String>,
    /// Threads that serve sockets
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// Keep the documents of `bench live-queries`, and disturb idle sessions by nothing
    #[arg(long)]
    live_queries: bool,
}

/// Serves until the parent ends.
///
/// # Errors
///
/// The log cannot be opened.
pub(super) fn run(args: Args) -> Result<()> {
    let database = match (args.database_url, args.database) {
        (Some(url), _) => Database::Postgres { url, listen_url: None, listen: true },
        (None, path) => Database::Sqlite(path.context("no database was named")?),
    };
    let mut transport = tidewire_transport::Config::default();
    let mut kept = Kept::default();
    if args.live_queries {
        transport.heartbeat_interval = UNDISTURBED;
        transport.ping_interval = UNDISTURBED;
        kept.projections = live_queries::projections()?;
    }
    let node = transport.node.clone();
    host::block_on(async move {
        let runtime = DatabaseRuntime::new(transport.database_threads)?;
        let (store, projecting) = runtime
            .run(async move {
                let store = database.open(Purpose::Serve).await?;
                let log = Arc::clone(&store);
                let projecting = Projecting::start(&database, log, &node, kept).await?;
                anyhow::Ok((store, projecting))
            })
            .await?;
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        child::announce(listener.local_addr()?)?;
        let workers = Some(args.workers);
        let host = Host {
            listener,
            store,
            runtime,
            token: None,
            transport,
            workers,
            pages: Pages::serve(),
            projecting,
        };
        host::host(host, |_| std::future::pending()).await
    })
}
