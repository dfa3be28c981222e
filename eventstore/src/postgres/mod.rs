//! [`PostgresStore`]: the log in PostgreSQL, 13 or later, shared by any number of processes.
//!
//! Everything lies in the schema `tidewire`. What orders the log is the lock on the one row of
//! `tidewire.head`: whoever appends takes it first and only then looks for the last position, so
//! that positions are gapless and their order is the order of commits.
//!
//! A store has a connection each to append, to notify, to listen, to look at the head and to move
//! what callers of `tidewire.enqueue` left in the outbox, a small pool to read, and one for
//! consumers. They belong to the runtime that opened the store; its methods may be
//! called, and their futures polled, from any.

mod append;
mod commands;
mod connect;
mod consumers;
#[doc(hidden)]
pub mod driver;
mod epoch;
mod fault;
mod group;
mod housekeeping;
mod known;
mod migrate;
mod notify;
mod options;
mod outbox;
mod read;
mod retention;
mod wire;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use sqlx::PgPool;
use tokio::{runtime::Handle, sync::watch, task::JoinSet};

pub use self::options::{ListenMode, MigrationMode, OpenError, PostgresOptions};
use self::{
    append::Appender,
    connect::Server,
    consumers::PostgresConsumers,
    fault::Fault,
    notify::{Commits, Ear},
    outbox::{Mover, OutboxStats},
};
use crate::{
    Append, AppendError, BoxFuture, CommandKey, CommandName, CommitFeed, ConsumerStore, EventStore,
    Executed, Execution, GlobalPosition, LogEpoch, LogHead, Page, PendingAppend, PendingExecution,
    Read, ReadError, Removal, RemoveError, Removed, StoreStats, Target, writer::Writer,
};

/// The log in PostgreSQL.
pub struct PostgresStore {
    writer: Arc<Writer>,
    server: Server,
    reads: PgPool,
    consumers: Arc<PostgresConsumers>,
    runtime: Handle,
    outbox: Arc<OutboxStats>,
    /// The notifier, the listener, the head look, the mover and the housekeeping; they end with the
    /// store.
    tasks: Mutex<JoinSet<()>>,
}

impl PostgresStore {
    /// Opens the log: connects, brings the schema up to date unless told otherwise, begins an
    /// epoch where this is another server than before, and starts the writer on the present
    /// tokio runtime.
    ///
    /// # Errors
    ///
    /// [`OpenError`] when the URL is none, the server cannot be reached, is too old or not UTF-8,
    /// or its schema is not one for this program.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub async fn connect(options: PostgresOptions) -> Result<Self, OpenError> {
        let server = Server::new(&options.url, &options)?;
        let listen_server = match &options.listen_url {
            Some(url) => Server::new(url, &options)?,
            None => server.clone(),
        };
        let mut connection = server.open().await?;
        match options.migrations {
            MigrationMode::Apply => migrate::apply(&mut connection).await?,
            MigrationMode::Require => migrate::require(&mut connection).await?,
        }
        epoch::observe(&mut connection, &server).await.map_err(opening)?;
        tracing::info!(address = %server.address(), "opened the log");

        let appended = watch::Sender::new(GlobalPosition::START);
        let moved = watch::Sender::new(GlobalPosition::START);
        let commits = Commits { appended: appended.subscribe(), moved: moved.subscribe() };
        let mut tasks = JoinSet::new();
        tasks.spawn(notify::announce(server.clone(), commits.clone()));
        tasks.spawn(housekeeping::keep(server.clone()));
        let ear = Arc::new(Ear::new(commits));
        if options.listen == ListenMode::Listen {
            tasks.spawn(notify::listen(listen_server, Arc::clone(&ear)));
        }
        let consumers = Arc::new(PostgresConsumers::new(
            server.clone(),
            options.limits.clone(),
            options.consumer_connections,
        ));
        let appender = Appender::new(server.clone(), connection, appended);
        let writer = Arc::new(Writer::start(appender, options.limits));
        tasks.spawn(notify::watch_head(
            server.clone(),
            Arc::clone(&writer),
            options.head_poll,
            ear,
        ));
        let outbox = Arc::new(OutboxStats::default());
        let mover = Mover::new(server.clone(), Arc::clone(&writer), moved, Arc::clone(&outbox));
        tasks.spawn(mover.run());
        Ok(Self {
            writer,
            outbox,
            reads: server.read_pool(options.read_connections),
            consumers,
            server,
            runtime: Handle::current(),
            tasks: Mutex::new(tasks),
        })
    }

    /// Brings the schema of the database at `url` up to date.
    ///
    /// # Errors
    ///
    /// As [`Self::connect`].
    pub async fn migrate(url: &str) -> Result<(), OpenError> {
        let server = Server::new(url, &PostgresOptions::new(url))?;
        let mut connection = server.open().await?;
        migrate::apply(&mut connection).await
    }

    /// Runs `work` on the store's own runtime, so that the connections are polled nowhere else.
    /// Dropping the future ends the work.
    fn on_runtime<T, E>(
        &self,
        work: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, E>>
    where
        T: Send + 'static,
        E: From<ReadError> + Send + 'static,
    {
        let mut tasks = JoinSet::new();
        tasks.spawn_on(work, &self.runtime);
        Box::pin(async move {
            // None, or an error, when the runtime is gone.
            let done = tasks.join_next().await.and_then(Result::ok);
            done.unwrap_or_else(|| Err(ReadError::Unavailable.into()))
        })
    }
}

impl EventStore for PostgresStore {
    fn append(&self, append: Append) -> Result<PendingAppend, AppendError> {
        self.writer.append(append)
    }

    fn execute(&self, execution: Execution) -> Result<PendingExecution, AppendError> {
        self.writer.execute(execution)
    }

    fn command_result(
        &self,
        name: &CommandName,
        key: &CommandKey,
    ) -> BoxFuture<'_, Result<Option<Executed>, ReadError>> {
        let (pool, server) = (self.reads.clone(), self.server.clone());
        let (name, key) = (name.clone(), key.clone());
        self.on_runtime(async move { read::command(&pool, &server, &name, &key).await })
    }

    fn read(&self, read: Read) -> BoxFuture<'_, Result<Page, ReadError>> {
        let (pool, server) = (self.reads.clone(), self.server.clone());
        self.on_runtime(async move { read::read(&pool, &server, &read).await })
    }

    fn head(&self) -> BoxFuture<'_, Result<LogHead, ReadError>> {
        let (pool, server) = (self.reads.clone(), self.server.clone());
        self.on_runtime(async move { read::head(&pool, &server).await })
    }

    fn commits(&self) -> CommitFeed {
        self.writer.commits()
    }

    fn begin_epoch(&self) -> BoxFuture<'_, Result<LogEpoch, ReadError>> {
        let server = self.server.clone();
        self.on_runtime(async move {
            let mut connection = server.connect().await?;
            Ok::<_, ReadError>(epoch::begin(&mut connection, &server).await?)
        })
    }

    fn consumers(&self) -> Arc<dyn ConsumerStore> {
        Arc::clone(&self.consumers) as _
    }

    fn remove(&self, removal: Removal) -> BoxFuture<'_, Result<Removed, RemoveError>> {
        let (server, writer) = (self.server.clone(), Arc::clone(&self.writer));
        self.on_runtime(async move {
            let removed = retention::remove(&server, removal).await?;
            if let Some(erasure) = removed.erasure {
                writer.hint(erasure.position);
            }
            Ok(removed)
        })
    }

    fn retained_after(
        &self,
        target: Target,
        after: GlobalPosition,
    ) -> BoxFuture<'_, Result<Option<GlobalPosition>, ReadError>> {
        let (pool, server) = (self.reads.clone(), self.server.clone());
        self.on_runtime(
            async move { retention::retained_after(&pool, &server, &target, after).await },
        )
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.writer.close().await;
            let mut tasks =
                std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
            tasks.abort_all();
            while tasks.join_next().await.is_some() {}
            let reads = self.reads.clone();
            let closing = self.on_runtime(async move {
                reads.close().await;
                Ok::<_, ReadError>(())
            });
            // Where the runtime is gone, so are the connections.
            let _ = closing.await;
            self.consumers.close().await;
        })
    }

    fn stats(&self) -> StoreStats {
        let mut stats = self.writer.stats();
        self.outbox.add_to(&mut stats);
        stats
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore")
            .field("address", &self.server.address())
            .finish_non_exhaustive()
    }
}

fn opening(fault: Fault) -> OpenError {
    OpenError::Refused { reason: fault.reason() }
}
