//! Durable consumers in PostgreSQL.
//!
//! Claims of one consumer come one after the other, by the lock on its row; saves lock the
//! partitions that they are about, in order, and compare fences in the statement that writes. Two
//! small pools: what a node says all the time about all that it holds (saves, leases) never waits
//! behind a crowd of claims.

mod claim;
mod keep;
mod people;
mod save;

use std::sync::{Arc, atomic::AtomicBool};

use sqlx::{PgPool, Postgres, pool::PoolConnection};
use tokio::runtime::Handle;

use super::{
    connect::Server,
    fault::{Fault, reason},
};
use crate::{
    BoxFuture, Claim, Claimed, ConsumerError, ConsumerInfo, ConsumerName, ConsumerStore,
    GlobalPosition, Holding, Kept, Limits, MemberId, ParkedPage, Positions, ReadError, Save,
    consumer::kept::Doubt,
};

/// The consumers of a log in PostgreSQL.
pub(super) struct PostgresConsumers {
    shared: Arc<Shared>,
    runtime: Handle,
}

/// What the work on the runtime needs.
struct Shared {
    server: Server,
    limits: Limits,
    /// For claims, and for what people ask.
    claims: PgPool,
    /// For saves and leases.
    progress: PgPool,
    /// Whether an answer that told of replays may have been lost.
    replays_in_doubt: Arc<AtomicBool>,
}

/// Why a statement about consumers did not do what it was to do.
enum Failure {
    Fault(Fault),
    Refused(ConsumerError),
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Fault(error.into())
    }
}

impl From<ConsumerError> for Failure {
    fn from(error: ConsumerError) -> Self {
        Self::Refused(error)
    }
}

impl From<crate::consumer::text::Unreadable> for Failure {
    fn from(error: crate::consumer::text::Unreadable) -> Self {
        Self::Refused(ReadError::Corrupt { reason: error.to_string() }.into())
    }
}

impl From<Failure> for ConsumerError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Fault(fault) => Self::Store(fault.into()),
            Failure::Refused(error) => error,
        }
    }
}

impl From<Failure> for ReadError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Fault(fault) => fault.into(),
            Failure::Refused(ConsumerError::Store(error)) => error,
            Failure::Refused(other) => Self::Refused { reason: other.to_string() },
        }
    }
}

impl PostgresConsumers {
    pub(super) fn new(server: Server, limits: Limits, connections: u32) -> Self {
        let shared = Shared {
            claims: server.write_pool(connections),
            progress: server.write_pool(1),
            server,
            limits,
            replays_in_doubt: Arc::default(),
        };
        Self { shared: Arc::new(shared), runtime: Handle::current() }
    }

    pub(super) async fn close(&self) {
        let shared = Arc::clone(&self.shared);
        let closing = self.on_runtime(async move {
            shared.claims.close().await;
            shared.progress.close().await;
            Ok::<_, ReadError>(())
        });
        // Where the runtime is gone, so are the connections.
        let _ = closing.await;
    }

    /// Runs `work` on the store's own runtime, so that the connections are polled nowhere else, and
    /// to its end, also where nobody waits for it any more: a transaction that is cut short while it
    /// begins would be left open in its session. The session's time-outs bound it.
    fn on_runtime<T, E>(
        &self,
        work: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, E>>
    where
        T: Send + 'static,
        E: From<ReadError> + Send + 'static,
    {
        let task = self.runtime.spawn(work);
        // An error when the runtime is gone.
        Box::pin(async move { task.await.unwrap_or_else(|_| Err(ReadError::Unavailable.into())) })
    }
}

/// A connection of `pool`.
async fn acquire(pool: &PgPool) -> Result<PoolConnection<Postgres>, Fault> {
    pool.acquire().await.map_err(|error| {
        // Why a connection cannot be had now says nothing about later.
        Fault::Busy(reason(&error))
    })
}

impl ConsumerStore for PostgresConsumers {
    fn claim(&self, claim: Claim) -> BoxFuture<'_, Result<Claimed, ConsumerError>> {
        let shared = Arc::clone(&self.shared);
        self.on_runtime(async move { Ok(claim::claim(&shared, claim).await?) })
    }

    fn save(
        &self,
        saves: Vec<Save>,
    ) -> BoxFuture<'_, Result<Vec<Result<(), ConsumerError>>, ReadError>> {
        let shared = Arc::clone(&self.shared);
        self.on_runtime(async move { Ok(save::save(&shared, saves).await?) })
    }

    fn keep(&self, held: Vec<Holding>) -> BoxFuture<'_, Result<Vec<Kept>, ReadError>> {
        let doubt = Doubt::begin(&self.shared.replays_in_doubt);
        let shared = Arc::clone(&self.shared);
        let again = doubt.again;
        let kept = self.on_runtime(async move { Ok(keep::keep(&shared, held, again).await?) });
        Box::pin(async move { doubt.answered(kept.await) })
    }

    fn leave(&self, name: ConsumerName, member: MemberId) -> BoxFuture<'_, Result<(), ReadError>> {
        let shared = Arc::clone(&self.shared);
        self.on_runtime(async move { Ok(claim::leave(&shared, &name, member).await?) })
    }

    fn consumers(
        &self,
        after: Option<ConsumerName>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<ConsumerInfo>, ReadError>> {
        let shared = Arc::clone(&self.shared);
        self.on_runtime(async move { Ok(people::list(&shared, after.as_ref(), limit).await?) })
    }

    fn consumer(&self, name: ConsumerName) -> BoxFuture<'_, Result<ConsumerInfo, ConsumerError>> {
        let shared = Arc::clone(&self.shared);
        self.on_runtime(async move { Ok(people::read(&shared, name).await?) })
    }

    fn delete_consumer(&self, name: ConsumerName) -> BoxFuture<'_, Result<(), ConsumerError>> {
        let shared = Arc::clone(&self.shared);
        self.on_runtime(async move { Ok(people::delete(&shared, name).await?) })
    }

    fn parked(
        &self,
        name: ConsumerName,
        after: GlobalPosition,
        limit: usize,
    ) -> BoxFuture<'_, Result<ParkedPage, ConsumerError>> {
        let shared = Arc::clone(&self.shared);
        self.on_runtime(async move { Ok(people::parked(&shared, name, after, limit).await?) })
    }

    fn replay(
        &self,
        name: ConsumerName,
        positions: Positions,
    ) -> BoxFuture<'_, Result<u64, ConsumerError>> {
        let shared = Arc::clone(&self.shared);
        self.on_runtime(async move {
            Ok(people::change(&shared, name, positions, people::Change::Replay).await?)
        })
    }

    fn drop_parked(
        &self,
        name: ConsumerName,
        positions: Positions,
    ) -> BoxFuture<'_, Result<u64, ConsumerError>> {
        let shared = Arc::clone(&self.shared);
        self.on_runtime(async move {
            Ok(people::change(&shared, name, positions, people::Change::Drop).await?)
        })
    }
}

/// A number below 2^53, as PostgreSQL has it.
fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A position, where a constraint keeps it from being negative.
fn position(number: i64) -> GlobalPosition {
    GlobalPosition::new(u64::try_from(number).unwrap_or_default())
}
