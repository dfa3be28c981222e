//! [`Projections`]: the projections of a node. It says which there are and runs those that no
//! other node runs.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use tidewire_eventstore::{EventStore, ProjectionName};
use tokio::{
    runtime::Handle,
    sync::{Notify, watch},
    task::JoinSet,
    time::timeout,
};
use uuid::Uuid;

use crate::{
    DocumentStore, Projection, ProjectionStats, StoreError,
    documents::Owner,
    follow,
    hub::{Hub, Shared},
    log_watch::LogWatch,
    poll,
    runner::{self, Config, Policy},
    watched::Watched,
};

/// The projections of a node. Dropping it ends their tasks at once; what this node owned is
/// another's once the lease is over. [`Self::close`] lets go of it orderly.
pub struct Projections {
    watched: BTreeMap<Box<str>, Watched>,
    hubs: Vec<Arc<Hub>>,
    stop: watch::Sender<bool>,
    tasks: Mutex<JoinSet<()>>,
    config: Arc<Config>,
}

/// Gathers projections to run.
pub struct Builder {
    log: Arc<dyn EventStore>,
    documents: Arc<dyn DocumentStore>,
    node: Arc<str>,
    projections: Vec<(Arc<dyn Projection>, Policy)>,
    config: Config,
}

/// Why projections cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Two have the same name.
    #[error("there are two projections {name}")]
    Twice {
        /// The name.
        name: ProjectionName,
    },
    /// The documents' database did not take a projection.
    #[error("projection {name} cannot be registered: {error}")]
    Store {
        /// Which.
        name: ProjectionName,
        /// Why.
        error: StoreError,
    },
}

impl Builder {
    /// Adds a projection.
    #[must_use]
    pub fn projection(mut self, projection: Arc<dyn Projection>, policy: Policy) -> Self {
        self.projections.push((projection, policy));
        self
    }

    /// Runs them in this way.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Makes the projections known to the database and begins to run them on `runtime`, which is
    /// to be the one that the stores' work runs on.
    ///
    /// # Errors
    ///
    /// [`StartError`]; nothing runs then.
    pub async fn start(self, runtime: &Handle) -> Result<Projections, StartError> {
        let Self { log, documents, node, projections, config } = self;
        let config = Arc::new(config);
        let (log_watch, end) = LogWatch::new(Arc::clone(&log));
        let look = Arc::new(Notify::new());
        let shared = Shared { config: Arc::clone(&config), log, documents, end, look };
        let mut hubs = Vec::new();
        let mut watched = BTreeMap::new();
        for (projection, policy) in projections {
            let name = projection.definition().name.clone();
            let version = projection.definition().version;
            let registered = shared.documents.register(&name, version).await;
            let status =
                registered.map_err(|error| StartError::Store { name: name.clone(), error })?;
            let hub = Arc::new(Hub::new(shared.clone(), projection, policy, status));
            hubs.push(Arc::clone(&hub));
            if watched.insert(name.as_str().into(), Watched::new(hub)).is_some() {
                return Err(StartError::Twice { name });
            }
        }
        let (stop, stopping) = watch::channel(false);
        let owner = Owner { id: Uuid::new_v4(), node };
        let mut tasks = JoinSet::new();
        tasks.spawn_on(log_watch.run(config.poll), runtime);
        tasks.spawn_on(poll::run(shared, hubs.clone(), stopping.clone()), runtime);
        for hub in &hubs {
            tasks.spawn_on(follow::run(Arc::clone(hub), stopping.clone()), runtime);
            let run = runner::run(Arc::clone(hub), owner.clone(), stopping.clone());
            tasks.spawn_on(run, runtime);
        }
        Ok(Projections { watched, hubs, stop, tasks: Mutex::new(tasks), config })
    }
}

impl Projections {
    /// Projections of `log` with their documents in `documents`, on the node of this name, which is
    /// for people.
    pub fn builder(
        log: Arc<dyn EventStore>,
        documents: Arc<dyn DocumentStore>,
        node: &str,
    ) -> Builder {
        let config = Config::default();
        Builder { log, documents, node: node.into(), projections: Vec::new(), config }
    }

    /// The projection of this name.
    pub fn get(&self, name: &str) -> Option<Watched> {
        self.watched.get(name).cloned()
    }

    /// All projections, by name.
    pub fn all(&self) -> Vec<Watched> {
        self.watched.values().cloned().collect()
    }

    /// How each of them is doing, by name, without asking the database.
    pub fn stats(&self) -> Vec<ProjectionStats> {
        let mut stats: Vec<_> = self.hubs.iter().map(|hub| hub.stats()).collect();
        stats.sort_unstable_by(|one, other| one.name.as_str().cmp(other.name.as_str()));
        stats
    }

    /// Ends what runs and lets go of what this node owns, so that another node need not wait for
    /// the leases to end. Takes [`Config::close_wait`] at most. Leaves the stores open.
    pub async fn close(&self) {
        self.stop.send_replace(true);
        for hub in &self.hubs {
            hub.set_closed();
        }
        let mut tasks =
            std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        let ended = async { while tasks.join_next().await.is_some() {} };
        if timeout(self.config.close_wait, ended).await.is_err() {
            tracing::warn!("projections did not end in time");
        }
    }
}

impl Drop for Projections {
    fn drop(&mut self) {
        for hub in &self.hubs {
            hub.set_closed();
        }
    }
}

impl fmt::Debug for Projections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.watched.values()).finish()
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("node", &self.node).finish_non_exhaustive()
    }
}
