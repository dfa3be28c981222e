//! Durable consumers in SQLite.
//!
//! Their transactions take turns with the writer's: first come, first served, so that neither
//! meets the other at SQLite's lock, where waiting is done by sleeping and nobody stands in line.
//! What a node says all the time about all that it holds (saves, leases) has a connection of its
//! own and never waits behind a crowd of claims.

mod claim;
mod keep;
mod people;
mod save;

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use super::{WriteTurn, WriteTurns, error::read_error};
use crate::{
    BoxFuture, Claim, Claimed, ConsumerError, ConsumerInfo, ConsumerName, ConsumerStore,
    GlobalPosition, Holding, Kept, Limits, MemberId, ParkedPage, Positions, ReadError, Save,
    consumer::{kept::Doubt, text::Unreadable},
};
use serde::Serialize;
use sqlx::{
    Connection, SqliteConnection, SqlitePool,
    pool::PoolConnection,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions},
};

/// How long a claim or a question waits for those before it.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// The consumers of a log in SQLite.
#[derive(Debug)]
pub(super) struct SqliteConsumers {
    limits: Limits,
    turns: WriteTurns,
    /// For claims, and for what people change.
    claims: SqlitePool,
    /// For saves and leases.
    progress: SqlitePool,
    /// For what people ask.
    reads: SqlitePool,
    /// Whether an answer that told of replays may have been lost.
    replays_in_doubt: Arc<AtomicBool>,
}

/// Why a statement about consumers did not do what it was to do.
enum Failure {
    Database(sqlx::Error),
    Refused(ConsumerError),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl From<ConsumerError> for Failure {
    fn from(error: ConsumerError) -> Self {
        Self::Refused(error)
    }
}

impl From<Unreadable> for Failure {
    fn from(error: Unreadable) -> Self {
        Self::Refused(ReadError::Corrupt { reason: error.to_string() }.into())
    }
}

impl From<Failure> for ConsumerError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Database(error) => Self::Store(read_error(&error)),
            Failure::Refused(error) => error,
        }
    }
}

impl From<Failure> for ReadError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Database(error) => read_error(&error),
            Failure::Refused(ConsumerError::Store(error)) => error,
            Failure::Refused(other) => Self::Refused { reason: other.to_string() },
        }
    }
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

impl SqliteConsumers {
    pub(super) fn new(connect: &SqliteConnectOptions, limits: Limits, turns: WriteTurns) -> Self {
        let pool = |connect: SqliteConnectOptions| {
            SqlitePoolOptions::new()
                .max_connections(1)
                .acquire_timeout(ACQUIRE_TIMEOUT)
                .after_release(|connection, _| Box::pin(is_sound(connection)))
                .connect_lazy_with(connect)
        };
        // A log that has vanished must not be replaced by an empty one.
        let connect = connect.clone().create_if_missing(false);
        Self {
            limits,
            turns,
            claims: pool(connect.clone()),
            progress: pool(connect.clone()),
            reads: pool(connect.read_only(true)),
            replays_in_doubt: Arc::default(),
        }
    }

    pub(super) async fn close(&self) {
        self.claims.close().await;
        self.progress.close().await;
        self.reads.close().await;
    }

    /// Begins to write on `connection`, when the turn comes.
    async fn write<'a>(
        &'a self,
        connection: &'a mut PoolConnection<sqlx::Sqlite>,
    ) -> Result<Writing<'a>, Failure> {
        let turn = self.turns.take().await;
        let transaction = connection.begin_with("BEGIN IMMEDIATE").await;
        Ok(Writing { transaction: transaction?, _turn: turn })
    }
}

impl ConsumerStore for SqliteConsumers {
    fn claim(&self, claim: Claim) -> BoxFuture<'_, Result<Claimed, ConsumerError>> {
        Box::pin(async move { Ok(self.claim_now(&claim).await?) })
    }

    fn save(
        &self,
        saves: Vec<Save>,
    ) -> BoxFuture<'_, Result<Vec<Result<(), ConsumerError>>, ReadError>> {
        Box::pin(async move { Ok(self.save_now(saves).await?) })
    }

    fn keep(&self, held: Vec<Holding>) -> BoxFuture<'_, Result<Vec<Kept>, ReadError>> {
        let doubt = Doubt::begin(&self.replays_in_doubt);
        Box::pin(async move {
            let kept = self.keep_now(held, doubt.again).await;
            doubt.answered(kept.map_err(ReadError::from))
        })
    }

    fn leave(&self, name: ConsumerName, member: MemberId) -> BoxFuture<'_, Result<(), ReadError>> {
        Box::pin(async move { Ok(self.leave_now(&name, member).await?) })
    }

    fn consumers(
        &self,
        after: Option<ConsumerName>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<ConsumerInfo>, ReadError>> {
        Box::pin(async move { Ok(self.list(after.as_ref(), limit).await?) })
    }

    fn consumer(&self, name: ConsumerName) -> BoxFuture<'_, Result<ConsumerInfo, ConsumerError>> {
        Box::pin(async move { Ok(self.read(name).await?) })
    }

    fn delete_consumer(&self, name: ConsumerName) -> BoxFuture<'_, Result<(), ConsumerError>> {
        Box::pin(async move { Ok(self.delete(name).await?) })
    }

    fn parked(
        &self,
        name: ConsumerName,
        after: GlobalPosition,
        limit: usize,
    ) -> BoxFuture<'_, Result<ParkedPage, ConsumerError>> {
        Box::pin(async move { Ok(self.list_parked(name, after, limit).await?) })
    }

    fn replay(
        &self,
        name: ConsumerName,
        positions: Positions,
    ) -> BoxFuture<'_, Result<u64, ConsumerError>> {
        Box::pin(async move { Ok(self.change(name, positions, people::Change::Replay).await?) })
    }

    fn drop_parked(
        &self,
        name: ConsumerName,
        positions: Positions,
    ) -> BoxFuture<'_, Result<u64, ConsumerError>> {
        Box::pin(async move { Ok(self.change(name, positions, people::Change::Drop).await?) })
    }
}

/// Whether a connection that nobody uses can be used again. Out of room, SQLite ends a transaction
/// by itself; the connection then takes itself to be in one for ever, and begins no other.
async fn is_sound(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    // After this a rollback that was asked for before is done, or has failed.
    connection.ping().await?;
    Ok(!connection.is_in_transaction())
}

/// A statement's argument of many values.
fn json(values: &(impl Serialize + ?Sized)) -> String {
    serde_json::to_string(values).expect("lists of texts and numbers are always JSON")
}

/// A member as hexadecimal digits, as SQLite's `unhex` takes them.
fn hex(member: MemberId) -> String {
    member.as_uuid().simple().to_string()
}

/// What `hex` of SQLite gave, the empty text for null.
fn read_hex(digits: &str) -> Result<Option<MemberId>, Unreadable> {
    if digits.is_empty() {
        return Ok(None);
    }
    let member = uuid::Uuid::try_parse(digits).map_err(|_| Unreadable::new("a member's id"))?;
    Ok(Some(MemberId::from(member)))
}

#[cfg(test)]
mod tests;
