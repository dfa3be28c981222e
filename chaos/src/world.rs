//! A world: a database, servers, a proxy before them, and everybody who reads and writes.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use tempfile::TempDir;
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinHandle},
    time::sleep,
};

use crate::{
    audience::Audience,
    consumer::{Consumer, Sharing},
    interest::Interest,
    ledger::Ledger,
    postgres::Postgres,
    projection::{View, Watcher},
    proxy::Proxy,
    reader::{Order, Reader, Way},
    server::{Launch, Server},
    stop,
    writer::{self, Kind, Writer},
};

/// Between two looks at the servers.
const LOOK: Duration = Duration::from_millis(200);

/// Which world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One server on SQLite.
    Sqlite,
    /// So many servers on one PostgreSQL.
    Postgres { servers: usize },
}

impl Shape {
    /// For people.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Sqlite => "SQLite, 1 server".to_owned(),
            Self::Postgres { servers: 1 } => "PostgreSQL, 1 server".to_owned(),
            Self::Postgres { servers } => format!("PostgreSQL, {servers} servers"),
        }
    }
}

/// Everything that runs. It ends when this is dropped; in good order by [`World::stop`].
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) servers: Vec<Arc<Server>>,
    pub(crate) postgres: Option<Arc<Postgres>>,
    /// Between the clients and the servers.
    pub(crate) proxy: Proxy,
    /// Between the servers and PostgreSQL.
    pub(crate) database_proxy: Option<Proxy>,
    pub(crate) readers: Vec<Reader>,
    pub(crate) writers: Vec<Writer>,
    pub(crate) consumers: Vec<Consumer>,
    pub(crate) watchers: Vec<Watcher>,
    paused: watch::Sender<bool>,
    looking: AbortHandle,
    folder: Option<TempDir>,
}

impl World {
    /// Starts everything.
    ///
    /// # Errors
    ///
    /// Something does not start.
    pub(crate) async fn start(
        shape: Shape,
        program: &Path,
        plant: Option<&str>,
        seed: u64,
        with_consumers: bool,
    ) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("tidewire-chaos-").tempdir()?;
        // PostgreSQL may have to run as another user.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711))?;
        stop::lies_in(Some(folder.path()));
        let ledger = Arc::new(Ledger::traced(&folder.path().join("chaos.log"))?);
        let settings = folder.path().join("projections.toml");
        fs::write(&settings, View::settings())?;
        let launch = |index: usize, database: Vec<String>| Launch {
            name: format!("server-{index}"),
            program: program.to_owned(),
            database,
            plant: plant.map(str::to_owned),
            settings: settings.clone(),
            folder: folder.path().to_owned(),
        };

        let mut servers = Vec::new();
        let (postgres, database_proxy) = match shape {
            Shape::Sqlite => {
                let database = vec!["--database".to_owned(), "log.db".to_owned()];
                servers.push(Server::start(launch(0, database), Arc::clone(&ledger)).await?);
                (None, None)
            }
            Shape::Postgres { servers: count } => {
                let postgres = Postgres::start(folder.path()).await?;
                let proxy = Proxy::start(vec![postgres.address]).await?;
                for index in 0..count {
                    let mut database =
                        vec!["--database-url".to_owned(), Postgres::url(proxy.address)];
                    // The last of several never hears of the others' commits: it has to look.
                    if index > 0 && index + 1 == count {
                        database.push("--no-listen".to_owned());
                    }
                    let server = Server::start(launch(index, database), Arc::clone(&ledger));
                    servers.push(server.await?);
                }
                (Some(Arc::new(postgres)), Some(proxy))
            }
        };
        let servers: Vec<Arc<Server>> = servers.into_iter().map(Arc::new).collect();
        let proxy = Proxy::start(servers.iter().map(|server| server.address).collect()).await?;
        let looking: JoinHandle<()> = tokio::spawn(look(servers.clone()));

        let mut readers = Vec::new();
        for interest in Interest::EACH {
            for way in [Way::Client, Way::Hand] {
                let ledger = Arc::clone(&ledger);
                readers.push(Reader::start(proxy.address, way, interest, ledger, seed));
            }
        }
        let paused = watch::Sender::new(false);
        let shared = writer::Shared {
            address: proxy.address,
            ledger: Arc::clone(&ledger),
            paused: paused.subscribe(),
            rivalled: Arc::default(),
            seed,
        };
        let kinds = [Kind::Client, Kind::Client, Kind::Http, Kind::Http, Kind::Rival, Kind::Rival];
        let writers = kinds.iter().enumerate();
        let writers = writers.map(|(index, kind)| Writer::start(&shared, *kind, index)).collect();
        let mut consumers = Vec::new();
        if with_consumers {
            let sharings = [
                (Sharing::Alone, Interest::Category),
                (Sharing::Group { members: 4 }, Interest::All),
            ];
            for (sharing, interest) in sharings {
                let ledger = Arc::clone(&ledger);
                consumers.push(Consumer::start(proxy.address, sharing, interest, ledger, seed));
            }
        }
        let watchers = Watcher::EACH.iter().map(|(view, selection)| {
            Watcher::start(proxy.address, *view, *selection, Arc::clone(&ledger), seed)
        });
        let watchers = watchers.collect();
        Ok(Self {
            ledger,
            servers,
            postgres,
            proxy,
            database_proxy,
            readers,
            writers,
            consumers,
            watchers,
            paused,
            looking: looking.abort_handle(),
            folder: Some(folder),
        })
    }

    /// Lets writers begin new appends, or not.
    pub(crate) fn pause_writers(&self, paused: bool) {
        self.paused.send_replace(paused);
    }

    /// Everybody who has to get events.
    pub(crate) fn audience(&self) -> impl Iterator<Item = &dyn Audience> {
        let readers = self.readers.iter().map(|reader| reader as &dyn Audience);
        let watchers = self.watchers.iter().map(|watcher| watcher as &dyn Audience);
        let consumers = self.consumers.iter().map(|consumer| consumer as &dyn Audience);
        readers.chain(watchers).chain(consumers)
    }

    /// How many clients there are.
    pub(crate) fn clients(&self) -> usize {
        let members: usize = self.consumers.iter().map(Consumer::members).sum();
        self.readers.len() + self.watchers.len() + self.writers.len() + members
    }

    /// Lets the consumers learn what is parked.
    pub(crate) async fn look_at_parked(&self) {
        for consumer in &self.consumers {
            consumer.look_at_parked(self.servers[0].address).await;
        }
    }

    /// Gives an order to a client of a kind that can carry it out.
    pub(crate) fn order(&self, client: usize, order: Order) -> bool {
        let readers = self.readers.len();
        // A writer has nothing to read.
        let writers = if matches!(order, Order::Crash) { self.writers.len() } else { 0 };
        let members: usize = self.consumers.iter().map(Consumer::members).sum();
        let watchers = self.watchers.len();
        let mut client = client % (readers + watchers + writers + members);
        if client < readers {
            return self.readers[client].order(order);
        }
        client -= readers;
        if client < watchers {
            return self.watchers[client].order(order);
        }
        client -= watchers;
        if client < writers {
            return self.writers[client].order(order);
        }
        client -= writers;
        for consumer in &self.consumers {
            if client < consumer.members() {
                return consumer.order(client, order);
            }
            client -= consumer.members();
        }
        false
    }

    /// Has another member take a consumer over.
    pub(crate) fn take_over(&self, member: usize) -> bool {
        self.consumers.iter().any(|consumer| consumer.take_over(member))
    }

    /// Stops everything that was started. The folder with logs and data stays where it is asked
    /// for.
    pub(crate) async fn stop(mut self, keep: Keep) -> Option<PathBuf> {
        self.looking.abort();
        self.readers.clear();
        self.watchers.clear();
        self.writers.clear();
        self.consumers.clear();
        for server in &self.servers {
            server.stop().await;
        }
        if let Some(postgres) = &self.postgres {
            postgres.stop().await;
        }
        stop::lies_in(None);
        let folder = self.folder.take()?;
        (keep == Keep::Folder).then(|| folder.keep())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.looking.abort();
    }
}

/// What stays of a world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Nothing.
    Nothing,
    /// The folder with the servers' logs and the data.
    Folder,
}

async fn look(servers: Vec<Arc<Server>>) {
    loop {
        for server in &servers {
            server.look().await;
        }
        sleep(LOOK).await;
    }
}

/// The log of the first server that answers.
///
/// # Errors
///
/// None does.
pub(crate) async fn log_after(
    servers: &[Arc<Server>],
    position: u64,
) -> Result<Vec<crate::content::Seen>> {
    let server = servers.first().context("there are no servers")?;
    crate::http::log_after(server.address, position).await
}
