//! [`PostgresDocuments`]: documents in PostgreSQL, 13 or later, written by one node at a time and
//! read by any number.
//!
//! Everything lies in the schema `tidewire`; the migration says what is locked in which order. A
//! commit checks the fence under a lock that claims have to wait for, and moves the checkpoint from
//! where it has to be, before it writes anything. Commits of documents do not wait for the disk;
//! claims, swaps and all the rest do.
//!
//! Three small pools belong to the runtime that opened the store: for commits, for reads, and a
//! connection for leases, which wait for nobody. The methods may be called, and their futures
//! polled, from any runtime.

mod commit;
mod fault;
mod generations;
mod lease;
mod names;
mod options;
mod read;
mod server;
mod sweep;
mod wire;

use std::{fmt, sync::Arc, time::Duration};

use sqlx::PgPool;
use tidewire_eventstore::{
    BoxFuture, DocumentKey, Generation, GlobalPosition, ProjectionName,
    postgres::{MigrationMode, OpenError, PostgresStore, driver::Fault},
};
use tokio::{runtime::Handle, task::JoinSet};

pub use self::options::PostgresDocumentsOptions;
use self::{fault::Failure, server::Server};
use super::{
    ChangePage, ChangesRead, Commit, DocumentPage, DocumentStore, Fence, Held, Owner, PageRead,
    Parked, Status, Stopped, StoredDocument, Wish,
};
use crate::StoreError;

const FIND_SCHEMA: &str = include_str!("sql/find_schema.sql");

/// The migration that made room for documents.
const MIGRATION: i32 = 7;

/// Documents in PostgreSQL.
pub struct PostgresDocuments {
    shared: Arc<Shared>,
    runtime: Handle,
}

/// What the work on the runtime needs.
struct Shared {
    server: Server,
    commits: PgPool,
    reads: PgPool,
    /// Renewals, releases and wishes: nothing here waits for a commit.
    leases: PgPool,
}

impl Shared {
    /// Runs a few short statements, for as long as one may take.
    async fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let work = async { Ok(work.await) };
        self.server.within(work).await?
    }
}

impl PostgresDocuments {
    /// Opens the documents: connects, and brings the schema up to date unless told otherwise. The
    /// connections belong to the present tokio runtime.
    ///
    /// # Errors
    ///
    /// [`OpenError`] when the URL is none, the server cannot be reached, is too old or not UTF-8,
    /// or its schema is not one for this program.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub async fn connect(options: PostgresDocumentsOptions) -> Result<Self, OpenError> {
        let server = Server::new(&options)?;
        if options.migrations == MigrationMode::Apply {
            PostgresStore::migrate(&options.url).await?;
        }
        let refused =
            |fault: Fault| OpenError::Connect { address: server.address(), reason: fault.reason() };
        let mut connection = server.connect().await.map_err(refused)?;
        let finding = sqlx::query_scalar::<_, bool>(FIND_SCHEMA).fetch_one(&mut connection);
        if !server.within(finding).await.map_err(refused)? {
            return Err(OpenError::SchemaOld { found: MIGRATION - 1, needed: MIGRATION });
        }
        tracing::info!(address = %server.address(), "opened the documents");
        let shared = Shared {
            commits: server.write_pool(options.commit_connections),
            reads: server.read_pool(options.read_connections),
            leases: server.write_pool(1),
            server,
        };
        Ok(Self { shared: Arc::new(shared), runtime: Handle::current() })
    }

    /// Runs a read on the store's own runtime, so that the connections are polled nowhere else.
    /// Dropping the future ends it.
    fn on_runtime<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        let mut tasks = JoinSet::new();
        tasks.spawn_on(work, &self.runtime);
        Box::pin(async move {
            // None, or an error, when the runtime is gone.
            let done = tasks.join_next().await.and_then(Result::ok);
            Ok(done.unwrap_or(Err(StoreError::Unavailable.into()))?)
        })
    }

    /// Runs `work` to its end, also where nobody waits for it any more: a transaction that is cut
    /// short while it begins would be left open in its session. Time-outs bound it, and closing the
    /// pools waits for it.
    fn to_its_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        let task = self.runtime.spawn(work);
        Box::pin(async move { Ok(task.await.unwrap_or(Err(StoreError::Unavailable.into()))?) })
    }
}

impl DocumentStore for PostgresDocuments {
    fn register(
        &self,
        name: &ProjectionName,
        version: u32,
    ) -> BoxFuture<'_, Result<Status, StoreError>> {
        let (shared, name) = (Arc::clone(&self.shared), name.clone());
        self.to_its_end(async move { names::register(&shared, &name, version).await })
    }

    fn status(&self, name: &ProjectionName) -> BoxFuture<'_, Result<Option<Status>, StoreError>> {
        let (shared, name) = (Arc::clone(&self.shared), name.clone());
        self.on_runtime(async move { names::status(&shared, &name).await })
    }

    fn statuses(&self) -> BoxFuture<'_, Result<Vec<Status>, StoreError>> {
        let shared = Arc::clone(&self.shared);
        self.on_runtime(async move { names::statuses(&shared).await })
    }

    fn claim(
        &self,
        name: &ProjectionName,
        owner: Owner,
        lease: Duration,
    ) -> BoxFuture<'_, Result<Option<Fence>, StoreError>> {
        let (shared, name) = (Arc::clone(&self.shared), name.clone());
        self.to_its_end(async move { lease::claim(&shared, &name, &owner, lease).await })
    }

    fn renew(&self, held: &Held, lease: Duration) -> BoxFuture<'_, Result<(), StoreError>> {
        let (shared, held) = (Arc::clone(&self.shared), held.clone());
        self.to_its_end(async move { lease::renew(&shared, &held, lease).await })
    }

    fn release(&self, held: &Held) -> BoxFuture<'_, Result<(), StoreError>> {
        let (shared, held) = (Arc::clone(&self.shared), held.clone());
        self.to_its_end(async move { lease::release(&shared, &held).await })
    }

    fn begin_generation(
        &self,
        held: &Held,
        version: u32,
    ) -> BoxFuture<'_, Result<Generation, StoreError>> {
        let (shared, held) = (Arc::clone(&self.shared), held.clone());
        self.to_its_end(async move { generations::begin(&shared, &held, version).await })
    }

    fn swap(&self, held: &Held, generation: Generation) -> BoxFuture<'_, Result<bool, StoreError>> {
        let (shared, held) = (Arc::clone(&self.shared), held.clone());
        self.to_its_end(async move { generations::swap(&shared, &held, generation).await })
    }

    fn give_up(
        &self,
        held: &Held,
        generation: Generation,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let (shared, held) = (Arc::clone(&self.shared), held.clone());
        self.to_its_end(async move { generations::give_up(&shared, &held, generation).await })
    }

    fn wish(&self, name: &ProjectionName, wish: Wish) -> BoxFuture<'_, Result<(), StoreError>> {
        let (shared, name) = (Arc::clone(&self.shared), name.clone());
        self.to_its_end(async move { names::wish(&shared, &name, wish).await })
    }

    fn wish_followed(&self, held: &Held, wish: Wish) -> BoxFuture<'_, Result<(), StoreError>> {
        let (shared, held) = (Arc::clone(&self.shared), held.clone());
        self.to_its_end(async move { generations::wish_followed(&shared, &held, wish).await })
    }

    fn set_stopped(
        &self,
        held: &Held,
        generation: Generation,
        stopped: Option<Stopped>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let (shared, held) = (Arc::clone(&self.shared), held.clone());
        self.to_its_end(async move {
            generations::set_stopped(&shared, &held, generation, stopped).await
        })
    }

    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<(), StoreError>> {
        let shared = Arc::clone(&self.shared);
        self.to_its_end(async move { commit::commit(&shared, commit).await })
    }

    fn documents(
        &self,
        generation: Generation,
        keys: Vec<DocumentKey>,
    ) -> BoxFuture<'_, Result<Vec<StoredDocument>, StoreError>> {
        let shared = Arc::clone(&self.shared);
        self.on_runtime(async move { read::documents(&shared, generation, &keys).await })
    }

    fn page(&self, read: PageRead) -> BoxFuture<'_, Result<DocumentPage, StoreError>> {
        let shared = Arc::clone(&self.shared);
        self.on_runtime(async move { read::page(&shared, &read).await })
    }

    fn changes(&self, read: ChangesRead) -> BoxFuture<'_, Result<ChangePage, StoreError>> {
        let shared = Arc::clone(&self.shared);
        self.on_runtime(async move { read::changes(&shared, read).await })
    }

    fn parked(
        &self,
        generation: Generation,
        after: GlobalPosition,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Parked>, StoreError>> {
        let shared = Arc::clone(&self.shared);
        self.on_runtime(async move { read::parked(&shared, generation, after, limit).await })
    }

    fn sweep(
        &self,
        held: &Held,
        tombstones_kept: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<bool, StoreError>> {
        let (shared, held) = (Arc::clone(&self.shared), held.clone());
        self.to_its_end(async move { sweep::sweep(&shared, &held, tombstones_kept, limit).await })
    }

    fn forget(&self, name: &ProjectionName) -> BoxFuture<'_, Result<bool, StoreError>> {
        let (shared, name) = (Arc::clone(&self.shared), name.clone());
        self.to_its_end(async move { names::forget(&shared, &name).await })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        let shared = Arc::clone(&self.shared);
        let closing = self.on_runtime(async move {
            shared.commits.close().await;
            shared.reads.close().await;
            shared.leases.close().await;
            Ok(())
        });
        Box::pin(async move {
            // Where the runtime is gone, so are the connections.
            let _ = closing.await;
        })
    }
}

impl fmt::Debug for PostgresDocuments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresDocuments")
            .field("address", &self.shared.server.address())
            .finish_non_exhaustive()
    }
}
