//! The catch-up scheduler: one a process, so that a thousand sessions that return at once do not
//! reach the database as thousands of reads.
//!
//! Pages are **aligned** (readers of one query that stand near each other want the same page),
//! **single-flight** (a page that is being read is read once for all who want it), **kept** for a
//! while for those who come later, **few** (at most [`Config::catch_up_reads_max`] reads in flight),
//! and **fair** (queries take turns, however many pages one of them wants). A page that nobody waits
//! for any more is not read. While the database is away a read waits and tries again; nobody loses
//! their place.
//!
//! [`Config::catch_up_reads_max`]: crate::Config::catch_up_reads_max

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use tidewire_eventstore::{
    EventStore, EventType, GlobalPosition, Read, ReadError, RecordedEvent, Target,
};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::sleep,
};

use crate::{log_view::Generation, metrics::CatchUpMetrics};

/// Events a page, and the distance between the positions at which pages begin. They are the same,
/// so that the pages of a query that matches every event tile the log.
pub(crate) const PAGE_EVENTS: u64 = 1024;

/// Distinct pages that may be read or wait for it. While there are so many, nobody is asked what
/// else they want.
const PAGES_WAITING_MAX: usize = 1024;

/// Requests that may wait in the channel to the scheduler; who wants more waits to ask.
const REQUESTS_MAX: usize = 256;

const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// What a page is a page of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Query {
    /// The life of the log that it is asked of. The store does not look at it; but what was read
    /// for one life is not given to another.
    pub(crate) generation: Generation,
    /// How often what was read had been thrown away before ([`Purge::count`]); used likewise.
    ///
    /// [`Purge::count`]: crate::log_view::Purge::count
    pub(crate) purges: u64,
    pub(crate) target: Target,
    pub(crate) types: Vec<EventType>,
}

impl Query {
    fn edition(&self) -> (Generation, u64) {
        (self.generation, self.purges)
    }
}

/// Names one page: the events of a query after a position.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PageKey {
    pub(crate) query: Arc<Query>,
    pub(crate) after: GlobalPosition,
}

impl PageKey {
    /// The page in which a reader that was served through `position` goes on.
    pub(crate) fn containing(query: Arc<Query>, position: GlobalPosition) -> Self {
        let after = GlobalPosition::new(position.get() / PAGE_EVENTS * PAGE_EVENTS);
        Self { query, after }
    }

    /// The page that begins right after `position`, aligned or not.
    pub(crate) fn exactly(query: Arc<Query>, position: GlobalPosition) -> Self {
        Self { query, after: position }
    }
}

/// A page as it came from the store.
#[derive(Debug)]
pub(crate) struct CatchUpPage {
    /// The matching events after the page's beginning, through `scanned`.
    pub(crate) events: Vec<RecordedEvent>,
    /// Everything through this position was looked at.
    pub(crate) scanned: GlobalPosition,
    /// Whether the page ends because it is full, so that it will read the same tomorrow.
    pub(crate) full: bool,
    /// What the page weighs in memory.
    pub(crate) bytes: usize,
    /// See [`Query::purges`].
    pub(crate) purges: u64,
}

impl CatchUpPage {
    pub(crate) fn new(key: &PageKey, page: tidewire_eventstore::Page) -> Self {
        let mut events = page.events;
        let scanned = if page.more {
            let last = events.last().map_or(key.after, |event| event.position);
            // End where another page begins, so that the next reader finds the next page under
            // the same key; unless the page was cut for its bytes before it came that far.
            let aligned = GlobalPosition::new(last.get() / PAGE_EVENTS * PAGE_EVENTS);
            if aligned > key.after {
                events.retain(|event| event.position <= aligned);
                aligned
            } else {
                last
            }
        } else {
            page.head.max(key.after)
        };
        let bytes = events
            .iter()
            .map(|event| event.payload.len() + event.meta.as_ref().map_or(0, Bytes::len) + 200)
            .sum();
        Self { events, scanned, full: page.more, bytes, purges: key.query.purges }
    }
}

type Answer = Result<Arc<CatchUpPage>, ReadError>;

struct Request {
    key: PageKey,
    answer: oneshot::Sender<Answer>,
}

/// The way to the scheduler.
#[derive(Debug, Clone)]
pub(crate) struct CatchUp {
    requests: mpsc::Sender<Request>,
}

impl CatchUp {
    /// Starts the scheduler on `runtime`. It ends when the last handle is dropped.
    pub(crate) fn start(
        runtime: &Handle,
        store: Arc<dyn EventStore>,
        reads_max: usize,
        kept_bytes_max: usize,
        metrics: Arc<CatchUpMetrics>,
    ) -> Self {
        let (requests, receiver) = mpsc::channel(REQUESTS_MAX);
        let scheduler = Scheduler::new(store, reads_max, kept_bytes_max, metrics);
        runtime.spawn(scheduler.run(receiver));
        Self { requests }
    }

    /// Asks for a page and waits for it, for as long as the database is away.
    ///
    /// # Errors
    ///
    /// What the store says of a log that cannot be read; [`ReadError::Unavailable`] when the
    /// scheduler has ended.
    pub(crate) async fn page(&self, key: PageKey) -> Answer {
        let (answer, page) = oneshot::channel();
        if self.requests.send(Request { key, answer }).await.is_err() {
            return Err(ReadError::Unavailable);
        }
        page.await.unwrap_or(Err(ReadError::Unavailable))
    }
}

struct Scheduler {
    store: Arc<dyn EventStore>,
    reads_max: usize,
    metrics: Arc<CatchUpMetrics>,
    /// Who waits for which page, read or queued.
    waiting: HashMap<PageKey, Vec<oneshot::Sender<Answer>>>,
    /// The pages of each query that are not being read yet.
    queues: HashMap<Arc<Query>, VecDeque<GlobalPosition>>,
    /// The queries that have any, in the order of their turns.
    turns: VecDeque<Arc<Query>>,
    /// The last life of the log that anybody asked about, and the last purge; pages of another are
    /// not kept.
    latest: (Generation, u64),
    kept: Kept,
}

impl Scheduler {
    fn new(
        store: Arc<dyn EventStore>,
        reads_max: usize,
        kept_bytes_max: usize,
        metrics: Arc<CatchUpMetrics>,
    ) -> Self {
        Self {
            store,
            reads_max: reads_max.max(1),
            metrics,
            waiting: HashMap::new(),
            queues: HashMap::new(),
            turns: VecDeque::new(),
            latest: Default::default(),
            kept: Kept { pages: HashMap::new(), order: VecDeque::new(), bytes: 0, kept_bytes_max },
        }
    }

    async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut reads = JoinSet::new();
        // What each of the reads reads.
        let mut keys = HashMap::new();
        loop {
            while reads.len() < self.reads_max {
                let Some(key) = self.next_turn() else { break };
                self.metrics.reads.fetch_add(1, Ordering::Relaxed);
                let task = reads.spawn(read(self.store.clone(), key.clone()));
                keys.insert(task.id(), key);
            }
            self.metrics.waiting_pages.store(self.waiting.len() as u64, Ordering::Relaxed);
            self.metrics.kept_bytes.store(self.kept.bytes as u64, Ordering::Relaxed);
            tokio::select! {
                request = requests.recv(), if self.waiting.len() < PAGES_WAITING_MAX => {
                    match request {
                        Some(request) => self.queue(request),
                        None => return,
                    }
                }
                Some(done) = reads.join_next_with_id(), if !reads.is_empty() => {
                    let (task, answer) = match done {
                        Ok((task, answer)) => (task, answer),
                        Err(error) => {
                            tracing::error!(%error, "a catch-up read died");
                            let reason = "reading it failed; the log of the server says more";
                            (error.id(), Err(ReadError::Corrupt { reason: reason.into() }))
                        }
                    };
                    let key = keys.remove(&task).expect("every read has its key");
                    self.finish(&key, &answer);
                }
            }
        }
    }

    fn queue(&mut self, Request { key, answer }: Request) {
        self.metrics.requests.fetch_add(1, Ordering::Relaxed);
        if key.query.edition() > self.latest {
            self.latest = key.query.edition();
            self.kept.clear();
        }
        if let Some(page) = self.kept.get(&key) {
            let _ = answer.send(Ok(page));
        } else if let Some(waiting) = self.waiting.get_mut(&key) {
            if waiting.len() == waiting.capacity() {
                // Those who have gone make room for those who come.
                waiting.retain(|answer| !answer.is_closed());
            }
            waiting.push(answer);
        } else {
            let queue = self.queues.entry(key.query.clone()).or_default();
            if queue.is_empty() {
                self.turns.push_back(key.query.clone());
            }
            queue.push_back(key.after);
            self.waiting.insert(key, vec![answer]);
        }
    }

    /// The next page to read; those that nobody waits for any more are passed over.
    fn next_turn(&mut self) -> Option<PageKey> {
        loop {
            let key = self.next_queued()?;
            let waiting = self.waiting.get(&key).expect("a queued page is waited for");
            if waiting.iter().any(|answer| !answer.is_closed()) {
                return Some(key);
            }
            self.waiting.remove(&key);
        }
    }

    fn next_queued(&mut self) -> Option<PageKey> {
        let query = self.turns.pop_front()?;
        let queue = self.queues.get_mut(&query).expect("a query with a turn has a queue");
        let after = queue.pop_front().expect("a query with a turn has a page to read");
        if queue.is_empty() {
            self.queues.remove(&query);
        } else {
            self.turns.push_back(query.clone());
        }
        Some(PageKey { query, after })
    }

    fn finish(&mut self, key: &PageKey, answer: &Answer) {
        if let Ok(page) = answer
            && page.full
            && key.query.edition() == self.latest
        {
            self.kept.insert(key.clone(), page.clone());
        }
        for waiting in self.waiting.remove(key).into_iter().flatten() {
            let _ = waiting.send(answer.clone());
        }
    }
}

async fn read(store: Arc<dyn EventStore>, key: PageKey) -> Answer {
    let mut delay = RETRY_FIRST;
    loop {
        let mut read = Read::after(key.query.target.clone(), key.after, PAGE_EVENTS as usize);
        read.types.clone_from(&key.query.types);
        match store.read(read).await {
            Ok(page) => {
                let page = CatchUpPage::new(&key, page);
                return Ok(Arc::new(page));
            }
            Err(error) if error.retryable() => {
                sleep(delay).await;
                delay = (delay * 2).min(RETRY_MAX);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Full pages, the newest within a budget of bytes.
struct Kept {
    pages: HashMap<PageKey, Arc<CatchUpPage>>,
    order: VecDeque<PageKey>,
    bytes: usize,
    kept_bytes_max: usize,
}

impl Kept {
    fn get(&self, key: &PageKey) -> Option<Arc<CatchUpPage>> {
        self.pages.get(key).cloned()
    }

    fn clear(&mut self) {
        self.pages.clear();
        self.order.clear();
        self.bytes = 0;
    }

    fn insert(&mut self, key: PageKey, page: Arc<CatchUpPage>) {
        self.bytes += page.bytes;
        if self.pages.insert(key.clone(), page).is_none() {
            self.order.push_back(key);
        }
        while self.bytes > self.kept_bytes_max {
            let Some(oldest) = self.order.pop_front() else { break };
            if let Some(page) = self.pages.remove(&oldest) {
                self.bytes -= page.bytes;
            }
        }
    }
}

#[cfg(test)]
mod tests;
