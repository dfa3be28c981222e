//! [`SqliteDocuments`]: documents in the log's own SQLite file, for one machine.
//!
//! On connections of its own: what the log is told is durable is so at once (`synchronous=FULL`);
//! documents are with the next checkpoint of the WAL (`NORMAL`), and what a crash of the machine
//! takes with it is projected again. A crash of the process alone takes nothing. Whatever writes
//! takes turns with the log's writer.

mod commit;
mod error;
mod generations;
mod ownership;
mod read;
#[cfg(test)]
mod tests;
mod upsert;

use std::{path::Path, time::Duration};

use sqlx::{
    Connection as _, SqliteConnection, SqlitePool,
    pool::PoolConnection,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions, SqliteSynchronous},
};
use tidewire_eventstore::{
    BoxFuture, DocumentKey, Generation, GlobalPosition, NUMBER_MAX, ProjectionName, WriteTurn,
    WriteTurns,
};

use self::error::Failure;
use super::{
    ChangePage, ChangesRead, Commit, DocumentPage, DocumentStore, Fence, Held, Owner, PageRead,
    Parked, Status, Stopped, StoreError, StoredDocument, Wish,
};

pub use error::SqliteOpenError;

/// How a [`SqliteDocuments`] is opened.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SqliteDocumentsOptions {
    /// How long to wait for another process's write lock (5 s).
    pub busy_timeout: Duration,
    /// How long to wait for a connection (10 s): for those that commit before.
    pub acquire_timeout: Duration,
    /// Connections that read at the same time (4).
    pub readers_max: u32,
}

impl Default for SqliteDocumentsOptions {
    fn default() -> Self {
        Self {
            busy_timeout: Duration::from_secs(5),
            acquire_timeout: Duration::from_secs(10),
            readers_max: 4,
        }
    }
}

/// Documents in the log's SQLite file.
#[derive(Debug)]
pub struct SqliteDocuments {
    turns: WriteTurns,
    /// For commits and generations.
    commits: SqlitePool,
    /// For leases, which must not wait behind the commits of others.
    ownership: SqlitePool,
    reads: SqlitePool,
}

/// A transaction that holds the write lock, and the turn that it was begun in.
struct Writing<'a> {
    transaction: sqlx::Transaction<'a, sqlx::Sqlite>,
    _turn: WriteTurn<'a>,
}

impl Writing<'_> {
    fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.transaction
    }

    async fn commit(self) -> Result<(), Failure> {
        Ok(self.transaction.commit().await?)
    }
}

impl SqliteDocuments {
    /// Opens the documents in the log at `path`, which has to have been opened by this version of
    /// the program before: that is what makes room for them.
    ///
    /// # Errors
    ///
    /// [`SqliteOpenError`]: there is no log, or an older one.
    pub async fn open(
        path: impl AsRef<Path>,
        options: SqliteDocumentsOptions,
    ) -> Result<Self, SqliteOpenError> {
        let path = path.as_ref();
        let connect = SqliteConnectOptions::new()
            .filename(path)
            // A log that has vanished must not be replaced by an empty one.
            .create_if_missing(false)
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(options.busy_timeout)
            // As in the log: what is deleted or forgotten is overwritten.
            .pragma("secure_delete", "ON")
            .thread_name(|_| "tidewire-documents".into());
        let pool = |connect: SqliteConnectOptions, size: u32| {
            SqlitePoolOptions::new()
                .max_connections(size)
                .acquire_timeout(options.acquire_timeout)
                .after_release(|connection, _| Box::pin(is_sound(connection)))
                .connect_lazy_with(connect)
        };
        let documents = Self {
            turns: WriteTurns::of(path),
            commits: pool(connect.clone(), 1),
            ownership: pool(connect.clone(), 1),
            reads: pool(connect.read_only(true), options.readers_max.max(1)),
        };
        let checked: Result<i64, sqlx::Error> =
            sqlx::query_scalar(include_str!("sql/check_schema.sql"))
                .fetch_one(&documents.reads)
                .await;
        match checked {
            Ok(_) => Ok(documents),
            Err(error) => {
                documents.close_all().await;
                Err(SqliteOpenError { path: path.to_owned(), reason: error.to_string() })
            }
        }
    }

    /// Begins to write on `connection`, when the turn comes.
    async fn write<'a>(
        &'a self,
        connection: &'a mut PoolConnection<sqlx::Sqlite>,
    ) -> Result<Writing<'a>, Failure> {
        let turn = self.turns.take().await;
        let transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        Ok(Writing { transaction, _turn: turn })
    }

    async fn close_all(&self) {
        self.commits.close().await;
        self.ownership.close().await;
        self.reads.close().await;
    }
}

/// Whether a connection that nobody uses can be used again. Out of room, SQLite ends a transaction
/// by itself; the connection then takes itself to be in one for ever, and begins no other.
async fn is_sound(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    // After this a rollback that was asked for before is done, or has failed.
    connection.ping().await?;
    Ok(!connection.is_in_transaction())
}

/// A number for SQLite.
fn number(number: u64) -> i64 {
    i64::try_from(number.min(NUMBER_MAX)).unwrap_or(i64::MAX)
}

/// A number that a constraint keeps from being negative.
fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

/// A position from SQLite.
fn position(number: i64) -> GlobalPosition {
    GlobalPosition::new(unsigned(number))
}

/// A limit or a length, for SQLite.
fn count(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl DocumentStore for SqliteDocuments {
    fn register(
        &self,
        name: &ProjectionName,
        version: u32,
    ) -> BoxFuture<'_, Result<Status, StoreError>> {
        let name = name.clone();
        Box::pin(async move { Ok(self.register_now(&name, version).await?) })
    }

    fn status(&self, name: &ProjectionName) -> BoxFuture<'_, Result<Option<Status>, StoreError>> {
        let name = name.clone();
        Box::pin(async move { Ok(self.read_statuses(Some(&name)).await?.pop()) })
    }

    fn statuses(&self) -> BoxFuture<'_, Result<Vec<Status>, StoreError>> {
        Box::pin(async move { Ok(self.read_statuses(None).await?) })
    }

    fn claim(
        &self,
        name: &ProjectionName,
        owner: Owner,
        lease: Duration,
    ) -> BoxFuture<'_, Result<Option<Fence>, StoreError>> {
        let name = name.clone();
        Box::pin(async move { Ok(self.claim_now(&name, &owner, lease).await?) })
    }

    fn renew(&self, held: &Held, lease: Duration) -> BoxFuture<'_, Result<(), StoreError>> {
        let held = held.clone();
        Box::pin(async move { Ok(self.renew_now(&held, lease).await?) })
    }

    fn release(&self, held: &Held) -> BoxFuture<'_, Result<(), StoreError>> {
        let held = held.clone();
        Box::pin(async move { Ok(self.release_now(&held).await?) })
    }

    fn begin_generation(
        &self,
        held: &Held,
        version: u32,
    ) -> BoxFuture<'_, Result<Generation, StoreError>> {
        let held = held.clone();
        Box::pin(async move { Ok(self.begin_now(&held, version).await?) })
    }

    fn swap(&self, held: &Held, generation: Generation) -> BoxFuture<'_, Result<bool, StoreError>> {
        let held = held.clone();
        Box::pin(async move { Ok(self.swap_now(&held, generation).await?) })
    }

    fn give_up(
        &self,
        held: &Held,
        generation: Generation,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let held = held.clone();
        Box::pin(async move { Ok(self.give_up_now(&held, generation).await?) })
    }

    fn wish(&self, name: &ProjectionName, wish: Wish) -> BoxFuture<'_, Result<(), StoreError>> {
        let name = name.clone();
        Box::pin(async move { Ok(self.wish_now(&name, wish).await?) })
    }

    fn wish_followed(&self, held: &Held, wish: Wish) -> BoxFuture<'_, Result<(), StoreError>> {
        let held = held.clone();
        Box::pin(async move { Ok(self.forget_wish(&held, wish).await?) })
    }

    fn set_stopped(
        &self,
        held: &Held,
        generation: Generation,
        stopped: Option<Stopped>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let held = held.clone();
        Box::pin(async move { Ok(self.stop(&held, generation, stopped).await?) })
    }

    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { Ok(self.commit_now(commit).await?) })
    }

    fn documents(
        &self,
        generation: Generation,
        keys: Vec<DocumentKey>,
    ) -> BoxFuture<'_, Result<Vec<StoredDocument>, StoreError>> {
        Box::pin(async move { Ok(self.load(generation, &keys).await?) })
    }

    fn page(&self, read: PageRead) -> BoxFuture<'_, Result<DocumentPage, StoreError>> {
        Box::pin(async move { Ok(self.read_page(&read).await?) })
    }

    fn changes(&self, read: ChangesRead) -> BoxFuture<'_, Result<ChangePage, StoreError>> {
        Box::pin(async move { Ok(self.read_changes(&read).await?) })
    }

    fn parked(
        &self,
        generation: Generation,
        after: GlobalPosition,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Parked>, StoreError>> {
        Box::pin(async move { Ok(self.list_parked(generation, after, limit).await?) })
    }

    fn sweep(
        &self,
        held: &Held,
        tombstones_kept: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<bool, StoreError>> {
        let held = held.clone();
        Box::pin(async move { Ok(self.sweep_now(&held, tombstones_kept, limit).await?) })
    }

    fn forget(&self, name: &ProjectionName) -> BoxFuture<'_, Result<bool, StoreError>> {
        let name = name.clone();
        Box::pin(async move { Ok(self.forget_now(&name).await?) })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.close_all())
    }
}
