//! [`Faulty`]: documents behind a bad connection: what is asked gets lost, or its answer does, or it
//! is done long after whoever asked has given up. By a seed; and with one of a few bugs, to see that
//! a test finds them.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tidewire_eventstore::{BoxFuture, DocumentKey, Generation, GlobalPosition, ProjectionName};
use tidewire_projections::{
    DocumentStore, MemoryDocuments, StoreError,
    documents::{
        ChangePage, ChangesRead, Commit, DocumentPage, Fence, Held, Owner, PageRead, Parked,
        Status, Stopped, StoredDocument, Wish,
    },
};
use tokio::time::sleep;

/// A bug to plant.
#[allow(dead_code, reason = "each test uses a part of it")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plant {
    /// The checkpoint and the documents are two transactions, the checkpoint first; sometimes the
    /// owner dies between them.
    CheckpointFirst,
    /// A commit is taken whatever its fence and wherever the checkpoint is.
    NoFence,
}

/// Documents behind a bad connection.
#[allow(dead_code, reason = "each test uses a part of it")]
#[derive(Clone)]
pub(crate) struct Faulty {
    documents: MemoryDocuments,
    random: Arc<AtomicU64>,
    /// Whether faults happen now; the same for all nodes.
    failing: Arc<AtomicBool>,
    plant: Option<Plant>,
    /// Whether the database is away: nothing is answered.
    pub(crate) away: Arc<AtomicBool>,
    /// How often it was asked for changes.
    pub(crate) changes_asked: Arc<AtomicU64>,
}

enum Fault {
    /// It never arrives.
    Lost,
    /// It arrives, and its answer does not.
    Unanswered,
    /// It arrives when nobody waits for it any more.
    Late(Duration),
    /// It takes a while.
    Slow(Duration),
}

impl Faulty {
    pub(crate) fn new(
        documents: MemoryDocuments,
        seed: u64,
        failing: Arc<AtomicBool>,
        plant: Option<Plant>,
    ) -> Self {
        let random = Arc::new(AtomicU64::new(seed | 1));
        let (away, changes_asked) = Default::default();
        Self { documents, random, failing, plant, away, changes_asked }
    }

    fn random(&self, below: u64) -> u64 {
        // xorshift64* (Vigna): one seed, one history.
        let step = |mut x: u64| {
            x ^= x >> 12;
            x ^= x << 25;
            x ^= x >> 27;
            x
        };
        let before =
            self.random.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |x| Some(step(x)));
        let x = step(before.unwrap_or(1));
        (x.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % below
    }

    fn fault(&self) -> Option<Fault> {
        if self.away.load(Ordering::Relaxed) {
            return Some(Fault::Lost);
        }
        if !self.failing.load(Ordering::Relaxed) {
            return None;
        }
        match self.random(40) {
            0 => Some(Fault::Lost),
            1 => Some(Fault::Unanswered),
            2 => Some(Fault::Late(Duration::from_millis(self.random(12_000)))),
            3..6 => Some(Fault::Slow(Duration::from_millis(self.random(300)))),
            _ => None,
        }
    }

    async fn through<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        match self.fault() {
            None => work.await,
            Some(Fault::Lost) => Err(StoreError::Unavailable),
            Some(Fault::Unanswered) => {
                let _ = work.await;
                Err(StoreError::Unavailable)
            }
            Some(Fault::Late(after)) => {
                tokio::spawn(async move {
                    sleep(after).await;
                    let _ = work.await;
                });
                Err(StoreError::Unavailable)
            }
            Some(Fault::Slow(after)) => {
                sleep(after).await;
                work.await
            }
        }
    }
}

/// One question, asked through the faults.
macro_rules! faulty {
    ($self:ident, $store:ident $(, $bind:ident = $value:expr)*; $ask:expr) => {{
        let $store = $self.documents.clone();
        $(let $bind = $value;)*
        Box::pin($self.through(async move { $ask.await }))
    }};
}

async fn commit(
    documents: MemoryDocuments,
    plant: Option<Plant>,
    dies: bool,
    mut commit: Commit,
) -> Result<(), StoreError> {
    match plant {
        None => documents.commit(commit).await,
        Some(Plant::NoFence) => {
            let status = documents.status(&commit.held.name).await?.ok_or(StoreError::Unknown)?;
            commit.held.fence = status.fence;
            let generations = [Some(&status.active), status.building.as_ref()];
            let known = generations.into_iter().flatten();
            let found = known.into_iter().find(|known| known.generation == commit.generation);
            commit.expected = found.map_or(commit.expected, |known| known.checkpoint);
            for write in &mut commit.writes {
                write.position = write.position.max(commit.expected.next());
                commit.position = commit.position.max(write.position);
            }
            commit.position = commit.position.max(commit.expected);
            documents.commit(commit).await
        }
        Some(Plant::CheckpointFirst) => {
            let first = Commit { writes: Vec::new(), ..commit.clone() };
            if dies {
                documents.commit(first).await?;
                return Err(StoreError::Unavailable);
            }
            documents.commit(commit).await
        }
    }
}

impl DocumentStore for Faulty {
    fn register(
        &self,
        name: &ProjectionName,
        version: u32,
    ) -> BoxFuture<'_, Result<Status, StoreError>> {
        self.documents.register(name, version)
    }

    fn status(&self, name: &ProjectionName) -> BoxFuture<'_, Result<Option<Status>, StoreError>> {
        faulty!(self, store, name = name.clone(); store.status(&name))
    }

    fn statuses(&self) -> BoxFuture<'_, Result<Vec<Status>, StoreError>> {
        faulty!(self, store; store.statuses())
    }

    fn claim(
        &self,
        name: &ProjectionName,
        owner: Owner,
        lease: Duration,
    ) -> BoxFuture<'_, Result<Option<Fence>, StoreError>> {
        faulty!(self, store, name = name.clone(); store.claim(&name, owner, lease))
    }

    fn renew(&self, held: &Held, lease: Duration) -> BoxFuture<'_, Result<(), StoreError>> {
        faulty!(self, store, held = held.clone(); store.renew(&held, lease))
    }

    fn release(&self, held: &Held) -> BoxFuture<'_, Result<(), StoreError>> {
        faulty!(self, store, held = held.clone(); store.release(&held))
    }

    fn begin_generation(
        &self,
        held: &Held,
        version: u32,
    ) -> BoxFuture<'_, Result<Generation, StoreError>> {
        faulty!(self, store, held = held.clone(); store.begin_generation(&held, version))
    }

    fn swap(&self, held: &Held, generation: Generation) -> BoxFuture<'_, Result<bool, StoreError>> {
        faulty!(self, store, held = held.clone(); store.swap(&held, generation))
    }

    fn give_up(
        &self,
        held: &Held,
        generation: Generation,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        faulty!(self, store, held = held.clone(); store.give_up(&held, generation))
    }

    fn wish(&self, name: &ProjectionName, wish: Wish) -> BoxFuture<'_, Result<(), StoreError>> {
        faulty!(self, store, name = name.clone(); store.wish(&name, wish))
    }

    fn wish_followed(&self, held: &Held, wish: Wish) -> BoxFuture<'_, Result<(), StoreError>> {
        faulty!(self, store, held = held.clone(); store.wish_followed(&held, wish))
    }

    fn set_stopped(
        &self,
        held: &Held,
        generation: Generation,
        stopped: Option<Stopped>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        faulty!(self, store, held = held.clone(); store.set_stopped(&held, generation, stopped))
    }

    fn commit(&self, work: Commit) -> BoxFuture<'_, Result<(), StoreError>> {
        let dies = self.failing.load(Ordering::Relaxed) && self.random(10) == 0;
        faulty!(self, store, plant = self.plant; commit(store, plant, dies, work))
    }

    fn documents(
        &self,
        generation: Generation,
        keys: Vec<DocumentKey>,
    ) -> BoxFuture<'_, Result<Vec<StoredDocument>, StoreError>> {
        faulty!(self, store; store.documents(generation, keys))
    }

    fn page(&self, read: PageRead) -> BoxFuture<'_, Result<DocumentPage, StoreError>> {
        faulty!(self, store; store.page(read))
    }

    fn changes(&self, read: ChangesRead) -> BoxFuture<'_, Result<ChangePage, StoreError>> {
        self.changes_asked.fetch_add(1, Ordering::Relaxed);
        faulty!(self, store; store.changes(read))
    }

    fn parked(
        &self,
        generation: Generation,
        after: GlobalPosition,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Parked>, StoreError>> {
        faulty!(self, store; store.parked(generation, after, limit))
    }

    fn sweep(
        &self,
        held: &Held,
        tombstones_kept: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<bool, StoreError>> {
        faulty!(self, store, held = held.clone(); store.sweep(&held, tombstones_kept, limit))
    }

    fn forget(&self, name: &ProjectionName) -> BoxFuture<'_, Result<bool, StoreError>> {
        self.documents.forget(name)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.documents.close()
    }
}
