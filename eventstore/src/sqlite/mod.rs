//! [`SqliteStore`]: the log in one SQLite file, for one machine.
//!
//! WAL and `synchronous=FULL`: what an append was told is durable. Every process that writes the
//! file takes SQLite's write lock first, so positions stay gapless whoever writes; what another
//! process wrote is noticed by looking at the head. One process at a time may *serve* a file.

mod append;
mod commands;
mod consumers;
mod error;
mod migrate;
mod read;
mod retention;
mod turns;

use std::{
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sqlx::{
    Connection as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteSynchronous},
};
use uuid::Uuid;

use self::consumers::SqliteConsumers;
use crate::{
    Append, AppendError, BoxFuture, CommandKey, CommandName, CommitFeed, ConsumerStore, EventStore,
    Executed, Execution, GlobalPosition, Limits, LogEpoch, LogHead, Page, PendingAppend,
    PendingExecution, Read, ReadError, Removal, RemoveError, Removed, StoreStats, Target,
    Timestamp, writer::Writer,
};

pub use error::OpenError;
pub use turns::{WriteTurn, WriteTurns};

/// How a [`SqliteStore`] is opened.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SqliteOptions {
    /// What the process is to the file.
    pub role: SqliteRole,
    /// The bounds of the writing side.
    pub limits: Limits,
    /// How long to wait for another process's write lock (5 s).
    pub busy_timeout: Duration,
    /// Connections that read pages at the same time (4).
    pub readers_max: u32,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            role: SqliteRole::Tool,
            limits: Limits::default(),
            busy_timeout: Duration::from_secs(5),
            readers_max: 4,
        }
    }
}

impl SqliteOptions {
    /// The defaults, for the one process that serves the file.
    pub fn serve() -> Self {
        Self { role: SqliteRole::Serve, ..Self::default() }
    }

    /// The defaults, for a tool beside the server or without one.
    pub fn tool() -> Self {
        Self::default()
    }
}

/// What a process is to a log's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SqliteRole {
    /// The one process that serves the file; a second one is refused.
    Serve,
    /// Any other: a command that appends or reads, beside a server or without one.
    Tool,
}

/// The log in one SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    path: PathBuf,
    writer: Writer,
    reader: read::Reader,
    consumers: Arc<SqliteConsumers>,
    connect: SqliteConnectOptions,
    turns: WriteTurns,
    /// Held by the process that serves the file, until the store is closed.
    serve_lock: Mutex<Option<File>>,
}

impl SqliteStore {
    /// Opens the log at `path`, creating it where there is none and migrating it where it is old.
    ///
    /// Must be called on a tokio runtime, which then runs the writer.
    ///
    /// # Errors
    ///
    /// [`OpenError`]: another process serves the file, the file cannot be used, or a newer
    /// program wrote it.
    pub async fn open(path: impl AsRef<Path>, options: SqliteOptions) -> Result<Self, OpenError> {
        let path = path.as_ref().to_owned();
        let serve_lock = match options.role {
            SqliteRole::Serve => Some(lock_for_serving(&path)?),
            SqliteRole::Tool => None,
        };
        let connect = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(options.busy_timeout)
            // What is removed later must not survive where rows were moved earlier.
            .pragma("secure_delete", "ON")
            .thread_name(|_| "tidewire-sqlite".into());
        let mut connection = migrate::open(&connect, &path, options.busy_timeout).await?;
        migrate::run(&mut connection, &path).await?;
        let reader = read::Reader::new(&connect, options.readers_max);
        let turns = WriteTurns::of(&path);
        let consumers =
            Arc::new(SqliteConsumers::new(&connect, options.limits.clone(), turns.clone()));
        let backend = append::SqliteBackend::new(connection, connect.clone(), turns.clone());
        let writer = Writer::start(backend, options.limits);
        let serve_lock = Mutex::new(serve_lock);
        Ok(Self { path, writer, reader, consumers, connect, turns, serve_lock })
    }

    /// The file that holds the log.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl EventStore for SqliteStore {
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
        Box::pin(self.reader.command(name.clone(), key.clone()))
    }

    fn read(&self, read: Read) -> BoxFuture<'_, Result<Page, ReadError>> {
        Box::pin(self.reader.page(read))
    }

    fn head(&self) -> BoxFuture<'_, Result<LogHead, ReadError>> {
        Box::pin(self.reader.head())
    }

    fn commits(&self) -> CommitFeed {
        self.writer.commits()
    }

    fn begin_epoch(&self) -> BoxFuture<'_, Result<LogEpoch, ReadError>> {
        Box::pin(async {
            let mut connection = SqliteConnection::connect_with(&self.connect)
                .await
                .map_err(|error| error::read_error(&error))?;
            let epoch = Uuid::new_v4();
            let began_at = Timestamp::now();
            let first: i64 = sqlx::query_scalar(include_str!("sql/insert_epoch.sql"))
                .bind(epoch)
                .bind(began_at.as_micros())
                .fetch_one(&mut connection)
                .await
                .map_err(|error| error::read_error(&error))?;
            // The epoch is durable; a connection that does not close in order harms nobody.
            let _ = connection.close().await;
            let first_position = GlobalPosition::new(u64::try_from(first).unwrap_or_default());
            Ok(LogEpoch { epoch, first_position, began_at })
        })
    }

    fn consumers(&self) -> Arc<dyn ConsumerStore> {
        Arc::clone(&self.consumers) as _
    }

    fn remove(&self, removal: Removal) -> BoxFuture<'_, Result<Removed, RemoveError>> {
        Box::pin(async move {
            let removed = retention::remove(&self.connect, &self.turns, removal).await?;
            if let Some(erasure) = removed.erasure {
                self.writer.hint(erasure.position);
            }
            Ok(removed)
        })
    }

    fn retained_after(
        &self,
        target: Target,
        after: GlobalPosition,
    ) -> BoxFuture<'_, Result<Option<GlobalPosition>, ReadError>> {
        Box::pin(async move { self.reader.retained_after(&target, after).await })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.writer.close().await;
            self.reader.close().await;
            self.consumers.close().await;
            // Dropping the file gives up the lock.
            self.serve_lock.lock().unwrap_or_else(PoisonError::into_inner).take();
        })
    }

    fn stats(&self) -> StoreStats {
        self.writer.stats()
    }
}

/// Locks the file beside the log that says who serves it. The log itself is not locked this way:
/// closing a handle of it would take SQLite's own locks away on some systems.
fn lock_for_serving(path: &Path) -> Result<File, OpenError> {
    let mut name = path.as_os_str().to_owned();
    name.push("-serve");
    let lock_path = PathBuf::from(name);
    let failed =
        |error: io::Error| OpenError::File { path: lock_path.clone(), reason: error.to_string() };
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&lock_path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::Served { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}
