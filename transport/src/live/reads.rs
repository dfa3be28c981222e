//! What live queries read of the store: a few reads at once in a process, each shared by all who
//! can use it.
//!
//! Pages of a state are shared by those who stand at the same page of the same state; the
//! documents of single keys, and the first documents of windows, by those who asked before the
//! reading began. So are changes: a reader that holds documents can use what was read of the
//! changes only if that was read later.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tidewire_eventstore::{DocumentKey, Generation, GlobalPosition, ProjectionName};
use tidewire_projections::{
    Before, Content, DocumentChange, StoreError, Watched,
    documents::{ChangePage, ChangesRead, GenerationStatus, PAGE_MAX, StoredDocument},
    query::{self, QueryError, QueryPage},
};
use tidewire_protocol::{
    ErrorBody, ErrorCode,
    query::{Document, Query, Reached},
};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};

use super::{
    flights::{Flight, Flights},
    window::{Fill, known_max},
};
use crate::answers;

/// Keys that are read at once.
const KEYS_MAX: usize = 1000;

/// Documents of one page of a state.
const STATE_PAGE: usize = 500;

/// Positions at which readings of changes begin, where they can: so that readers who stand near
/// each other share one.
const CHANGES_ALIGNED: u64 = 1024;

/// How often a reading is tried while the database is away, and how long it waits first.
const TRIES: u32 = 9;
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// Why something was not read.
#[derive(Debug, Clone)]
pub(crate) enum Unread {
    /// The generation is gone: another is the active one.
    Gone,
    /// It failed.
    Failed(ErrorBody),
}

impl Unread {
    /// What is told of it. A generation that is gone again and again cannot be read.
    pub(crate) fn into_body(self) -> ErrorBody {
        match self {
            Self::Gone => ErrorCode::ProjectionUnavailable.into(),
            Self::Failed(error) => error,
        }
    }

    /// The reading itself died.
    pub(super) fn died() -> Self {
        Self::Failed(ErrorCode::Internal.into())
    }
}

impl From<QueryError> for Unread {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::StaleCursor | QueryError::Store(StoreError::Unknown) => Self::Gone,
            error => Self::Failed(answers::query_error(&error)),
        }
    }
}

impl From<StoreError> for Unread {
    fn from(error: StoreError) -> Self {
        QueryError::Store(error).into()
    }
}

/// What the readings count.
#[derive(Debug, Default)]
pub(crate) struct ReadMetrics {
    /// Pages of states, batches of keys and fills of windows that were read.
    pub(crate) states: AtomicU64,
    /// Pages of changes that were read.
    pub(crate) changes: AtomicU64,
    /// Readings under way or waiting.
    pub(crate) waiting: AtomicI64,
}

/// A page of a query's state.
#[derive(Debug)]
pub(crate) struct StatePage {
    /// Where the projection was before the first page was read.
    pub(crate) reached: Reached,
    pub(crate) documents: Vec<Document>,
    /// Where the next page goes on, if there may be more.
    pub(crate) next: Option<Box<str>>,
}

/// Documents of some keys.
#[derive(Debug)]
pub(crate) struct KeysPage {
    /// Where the projection was before they were read.
    pub(crate) reached: Reached,
    pub(crate) documents: HashMap<DocumentKey, Bytes>,
}

/// What has become of documents after a position.
#[derive(Debug)]
pub(crate) struct ChangesPage {
    pub(crate) after: GlobalPosition,
    pub(crate) through: GlobalPosition,
    pub(crate) more: bool,
    pub(crate) complete: bool,
    pub(crate) active: bool,
    /// By position.
    pub(crate) changes: Vec<DocumentChange>,
    /// Where each document's change stands among them.
    pub(crate) by_key: HashMap<DocumentKey, usize>,
}

/// The first documents of a window, and the generation they are of.
#[derive(Debug)]
pub(crate) struct WindowPage {
    pub(crate) generation: Generation,
    pub(crate) fill: Fill,
}

type StateKey = (Arc<Query>, Option<(Reached, Box<str>)>);
type ChangesKey = (ProjectionName, Generation, GlobalPosition);
/// Names a batch of keys: its projection's, and which of those.
type BatchKey = (ProjectionName, u64);

/// The readings of a process.
pub(crate) struct Reads {
    runtime: Handle,
    permits: Arc<Semaphore>,
    metrics: Arc<ReadMetrics>,
    states: Arc<Flights<StateKey, StatePage>>,
    windows: Arc<Flights<Arc<Query>, WindowPage>>,
    changes: Arc<Flights<ChangesKey, ChangesPage>>,
    keys: Arc<Flights<BatchKey, KeysPage>>,
    wanted: Arc<Mutex<Wanted>>,
}

/// The keys that wait to be read. Locked while somebody joins a batch, and while it departs, so
/// that a key is read by the flight that its reader has joined.
#[derive(Default)]
struct Wanted {
    /// The batch that is being filled.
    filling: HashMap<ProjectionName, u64>,
    batches: HashMap<BatchKey, HashSet<DocumentKey>>,
}

impl Reads {
    pub(crate) fn new(runtime: Handle, reads_max: usize, metrics: Arc<ReadMetrics>) -> Self {
        Self {
            runtime,
            permits: Arc::new(Semaphore::new(reads_max.max(1))),
            metrics,
            states: Arc::default(),
            windows: Arc::default(),
            changes: Arc::default(),
            keys: Arc::default(),
            wanted: Arc::default(),
        }
    }

    /// The next page of a state: the first one, of whatever generation is active, or the one at a
    /// place of a state that began at a position.
    pub(crate) fn state(
        &self,
        watched: &Watched,
        query: &Arc<Query>,
        at: Option<(Reached, Box<str>)>,
    ) -> Flight<StatePage> {
        let key = (query.clone(), at.clone());
        let (watched, query, turn) = (watched.clone(), query.clone(), self.turn());
        self.states.join(&self.runtime, key, |departure| async move {
            let _departure = departure;
            let turn = turn.await;
            turn.metrics.states.fetch_add(1, Relaxed);
            let begins = at.is_none();
            let read = move || -> Try<StatePage> {
                let (watched, query, at) = (watched.clone(), query.clone(), at.clone());
                Box::pin(async move {
                    let (reached, cursor) = match at {
                        Some((reached, cursor)) => (reached, Some(cursor)),
                        None => (active(&watched, &query).await?, None),
                    };
                    read_state(&watched, &query, reached, cursor.as_deref()).await
                })
            };
            if begins { first_of_active(read).await } else { patiently(&read).await }
        })
    }

    /// The document of a key, in a batch with those that are wanted now.
    pub(crate) fn key(&self, watched: &Watched, key: DocumentKey) -> Flight<KeysPage> {
        let name = watched.definition().name.clone();
        let mut wanted = self.wanted();
        let Wanted { filling, batches } = &mut *wanted;
        let number = filling.entry(name.clone()).or_default();
        let full = |number| {
            batches.get(&(name.clone(), number)).is_some_and(|batch| batch.len() >= KEYS_MAX)
        };
        while full(*number) {
            *number += 1;
        }
        let batch = (name, *number);
        batches.entry(batch.clone()).or_default().insert(key);
        let (watched, turn, all) = (watched.clone(), self.turn(), self.wanted.clone());
        // Looked up by key, as one of all documents is.
        let one = Query::all(batch.0.clone());
        self.keys.join(&self.runtime, batch.clone(), |departure| async move {
            let mut departure = departure;
            let turn = turn.await;
            let keys: Vec<_> = {
                let mut wanted = all.lock().unwrap_or_else(PoisonError::into_inner);
                departure.depart();
                wanted.batches.remove(&batch).into_iter().flatten().collect()
            };
            turn.metrics.states.fetch_add(1, Relaxed);
            let read = move || -> Try<KeysPage> {
                let (watched, one, keys) = (watched.clone(), one.clone(), keys.clone());
                Box::pin(async move {
                    let reached = active(&watched, &one).await?;
                    let read = watched.documents().documents(reached.generation, keys).await?;
                    let documents = read.into_iter().map(|read| (read.key, read.data)).collect();
                    Ok(KeysPage { reached, documents })
                })
            };
            first_of_active(read).await
        })
    }

    /// Changes after a position, or from a little before it; `exact`: not before it. They are read
    /// after this was called.
    pub(crate) fn changes(
        &self,
        watched: &Watched,
        generation: Generation,
        after: GlobalPosition,
        exact: bool,
    ) -> Flight<ChangesPage> {
        let aligned = GlobalPosition::new(after.get() / CHANGES_ALIGNED * CHANGES_ALIGNED);
        let after = if exact { after } else { aligned };
        let key = (watched.definition().name.clone(), generation, after);
        let (watched, turn) = (watched.clone(), self.turn());
        self.changes.join(&self.runtime, key, |mut departure| async move {
            let turn = turn.await;
            departure.depart();
            turn.metrics.changes.fetch_add(1, Relaxed);
            let read = ChangesRead { generation, after, limit: PAGE_MAX };
            let read = move || -> Try<ChangePage> {
                let watched = watched.clone();
                Box::pin(async move { Ok(watched.documents().changes(read).await?) })
            };
            let page = patiently(&read).await?;
            let change = |(key, _, after): (_, _, Option<Bytes>)| DocumentChange {
                key,
                before: Before::Unknown,
                after: after.map(Content::new),
            };
            let changes: Vec<_> = page.changes.into_iter().map(change).collect();
            let by_key = (0..).zip(&changes).map(|(at, change)| (change.key.clone(), at)).collect();
            let (through, more) = (page.through, page.more);
            let (complete, active) = (page.complete, page.active);
            Ok(ChangesPage { after, through, more, complete, active, changes, by_key })
        })
    }

    /// The first documents of a query's window, and a few more. They are read after this was
    /// called.
    pub(crate) fn window(&self, watched: &Watched, query: &Arc<Query>) -> Flight<WindowPage> {
        let (watched, key, turn) = (watched.clone(), query.clone(), self.turn());
        let query = query.clone();
        self.windows.join(&self.runtime, key, |mut departure| async move {
            let turn = turn.await;
            departure.depart();
            turn.metrics.states.fetch_add(1, Relaxed);
            let read = move || -> Try<WindowPage> {
                let (watched, query) = (watched.clone(), query.clone());
                Box::pin(async move { read_window(&watched, &query).await })
            };
            first_of_active(read).await
        })
    }

    /// A turn at reading, while it is held.
    fn turn(&self) -> impl Future<Output = Turn> + Send + use<> {
        let (permits, metrics) = (self.permits.clone(), self.metrics.clone());
        async move {
            metrics.waiting.fetch_add(1, Relaxed);
            let counted = Counted(metrics.clone());
            let permit = permits.acquire_owned().await.expect("the semaphore is never closed");
            Turn { _permit: permit, _counted: counted, metrics }
        }
    }

    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Turn {
    _permit: OwnedSemaphorePermit,
    _counted: Counted,
    metrics: Arc<ReadMetrics>,
}

/// Counts a reading for as long as it lives.
struct Counted(Arc<ReadMetrics>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}

/// What is active, as the database says now.
///
/// # Errors
///
/// Where the documents are of another version than the definition on this node, whose indexes are
/// not theirs, and `query` needs one.
pub(super) async fn active(watched: &Watched, query: &Query) -> Result<Reached, QueryError> {
    let definition = watched.definition();
    let status = watched.documents().status(&definition.name).await?.ok_or(StoreError::Unknown)?;
    let GenerationStatus { generation, checkpoint: position, version, .. } = status.active;
    if version != definition.version && query::needs_index(query, definition) {
        return Err(QueryError::Outdated);
    }
    Ok(Reached { generation, position })
}

async fn read_state(
    watched: &Watched,
    query: &Query,
    reached: Reached,
    cursor: Option<&str>,
) -> Result<StatePage, QueryError> {
    let page = read_page(watched, query, reached, cursor, STATE_PAGE).await?;
    let next = page.next.map(Into::into);
    Ok(StatePage { reached, documents: told(page.documents), next })
}

async fn read_page(
    watched: &Watched,
    query: &Query,
    reached: Reached,
    cursor: Option<&str>,
    limit: usize,
) -> Result<QueryPage, QueryError> {
    let store = &**watched.documents();
    query::page(store, watched.definition(), reached.generation, query, cursor, limit).await
}

async fn read_window(watched: &Watched, query: &Query) -> Result<WindowPage, QueryError> {
    let limit = query.window.as_ref().map_or(1, |window| window.limit.get() as usize);
    let reached = active(watched, query).await?;
    let mut documents = Vec::new();
    let mut cursor: Option<String> = None;
    let complete = loop {
        let left = known_max(limit) - documents.len();
        let page = read_page(watched, query, reached, cursor.as_deref(), left).await?;
        documents.extend(told(page.documents));
        match page.next {
            None => break true,
            Some(_) if documents.len() >= known_max(limit) => break false,
            next => cursor = next,
        }
    };
    let after = active(watched, query).await?;
    if after.generation != reached.generation {
        return Err(StoreError::Unknown.into());
    }
    let (position, horizon) = (reached.position, after.position);
    let fill = Fill { position, horizon, documents, complete };
    Ok(WindowPage { generation: reached.generation, fill })
}

fn told(documents: Vec<StoredDocument>) -> Vec<Document> {
    let told = |document: StoredDocument| Document { key: document.key, data: document.data };
    documents.into_iter().map(told).collect()
}

/// One try at reading.
type Try<T> = BoxFuture<'static, Result<T, QueryError>>;

/// Reads, and tries again while the database is away, for a while.
async fn patiently<T>(read: &(impl Fn() -> Try<T> + Sync)) -> Result<T, Unread> {
    let mut delay = RETRY_FIRST;
    for _ in 1..TRIES {
        match read().await {
            Err(QueryError::Store(error)) if error.retryable() => {
                sleep(delay).await;
                delay = (delay * 2).min(RETRY_MAX);
            }
            read => return Ok(read?),
        }
    }
    Ok(read().await?)
}

/// The same, where each try asks which generation is active: one that is swept meanwhile is read
/// no more.
async fn first_of_active<T>(read: impl Fn() -> Try<T> + Sync) -> Result<T, Unread> {
    for _ in 1..TRIES {
        match patiently(&read).await {
            Err(Unread::Gone) => {}
            read => return read,
        }
    }
    patiently(&read).await
}
