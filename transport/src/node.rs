//! What all workers of a process share: the store, the ways to it, and the counters.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use actix::Addr;
use tidewire_eventstore::{
    ConsumerError, ConsumerStore, EventStore, GlobalPosition, Page, Read, ReadError, ReadStart,
    RecordedEvent, Revision, Target,
};
use tidewire_projections::{Projections, StoreError, query::QueryError, query::QueryPage};
use tidewire_protocol::{
    Auth, DeliveryConfig, ErrorBody, QueryRequest, SessionConfig, session::Limits,
};
use tokio::{
    runtime::Handle,
    sync::{Semaphore, oneshot},
};

use crate::{
    Config, answers,
    broadcaster::Broadcaster,
    catch_up::CatchUp,
    commands::{Commands, Registry},
    consumers::Consumers,
    dispatcher::Dispatcher,
    live::{self, Live},
    log_view::SharedView,
    metrics::Metrics,
    retention::Remover,
};

/// The longest that an event waits to be settled, however many attempts it has had.
const ACK_TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// One process.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) config: Config,
    /// What every session has in common.
    pub(crate) session: Arc<SessionConfig>,
    pub(crate) store: Arc<dyn EventStore>,
    /// Where everything that talks to the database runs.
    pub(crate) runtime: Handle,
    pub(crate) catch_up: CatchUp,
    pub(crate) broadcaster: Addr<Broadcaster>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) fetches: Fetches,
    pub(crate) consumers: Arc<Consumers>,
    pub(crate) commands: Commands,
    pub(crate) remover: Remover,
    pub(crate) live: Live,
    /// What the broadcaster knows of the log.
    pub(crate) log: Arc<SharedView>,
    draining: AtomicBool,
    dispatchers: Mutex<Vec<Addr<Dispatcher>>>,
    sessions: AtomicUsize,
}

impl Node {
    #[expect(clippy::too_many_arguments, reason = "called once, by the builder")]
    /// # Errors
    ///
    /// Where the operating system grants no threads.
    pub(crate) fn new(
        config: Config,
        token: Option<String>,
        store: Arc<dyn EventStore>,
        runtime: Handle,
        catch_up: CatchUp,
        broadcaster: Addr<Broadcaster>,
        metrics: Arc<Metrics>,
        log: Arc<SharedView>,
        consumers: Arc<Consumers>,
        registry: Registry,
        projections: Option<Arc<Projections>>,
    ) -> std::io::Result<Self> {
        let session = Arc::new(session_config(&config, token));
        let fetches = Fetches::new(config.fetch_reads_max, config.fetch_queue_max);
        let commands = Commands::new(
            registry,
            &config,
            store.clone(),
            runtime.clone(),
            fetches.reads.clone(),
            metrics.commands.clone(),
        )?;
        let live = Live::new(projections, &runtime, config.live_reads_max, metrics.live.clone());
        Ok(Self {
            name: config.node.clone(),
            config,
            session,
            store,
            runtime,
            catch_up,
            broadcaster,
            metrics,
            fetches,
            consumers,
            commands,
            remover: Remover::default(),
            live,
            log,
            draining: AtomicBool::new(false),
            dispatchers: Mutex::default(),
            sessions: AtomicUsize::new(0),
        })
    }

    /// Whether the log is followed, so that sessions are given what is appended.
    pub(crate) fn is_following(&self) -> bool {
        self.log.is_following()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    pub(crate) fn begin_drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Those of the workers that are alive.
    pub(crate) fn dispatchers(&self) -> Vec<Addr<Dispatcher>> {
        self.living_dispatchers().clone()
    }

    pub(crate) fn add_dispatcher(&self, dispatcher: Addr<Dispatcher>) {
        self.living_dispatchers().push(dispatcher);
    }

    /// A worker ends with its thread, and tells nobody.
    fn living_dispatchers(&self) -> MutexGuard<'_, Vec<Addr<Dispatcher>>> {
        let mut dispatchers = self.dispatchers.lock().unwrap_or_else(PoisonError::into_inner);
        dispatchers.retain(Addr::connected);
        dispatchers
    }

    /// Counts one more session, unless the node has as many as it takes.
    pub(crate) fn admit(&self) -> bool {
        let max = self.config.sessions_max;
        let more = |sessions| (sessions < max).then_some(sessions + 1);
        self.sessions.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }

    /// Counts one session less.
    pub(crate) fn dismiss(&self) {
        self.sessions.fetch_sub(1, Ordering::AcqRel);
    }

    /// How many sessions are open.
    pub(crate) fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Acquire)
    }

    /// Reads a page for a client that asked for one, on the database's runtime. Where nothing but
    /// removed events is in it, a few pages after it, too.
    ///
    /// # Errors
    ///
    /// [`FetchError::Overloaded`] where too many such reads are waiting, else what the store says.
    pub(crate) async fn fetch(&self, mut read: Read) -> Result<Fetched, FetchError> {
        let Some(waiting) = self.fetches.wait() else {
            self.metrics.fetches_refused.fetch_add(1, Ordering::Relaxed);
            return Err(FetchError::Overloaded);
        };
        let (store, reads) = (self.store.clone(), self.fetches.reads.clone());
        self.on_runtime(async move {
            let _waiting = waiting;
            let _turn = reads.acquire().await.expect("the semaphore is never closed");
            for _ in 1..FETCH_PAGES_MAX {
                let fetched = Fetched::from(store.read(read.clone()).await?);
                match fetched.next {
                    Some((position, _)) if fetched.events.is_empty() => {
                        read.from = ReadStart::Position(position);
                    }
                    _ => return Ok(fetched),
                }
            }
            Ok(store.read(read).await?.into())
        })
        .await
        .unwrap_or(Err(FetchError::Store(ReadError::Unavailable)))
    }

    /// Reads a page of documents for a client that asked for one, within the bounds of the reads
    /// that clients ask for. What the request wants to wait for is waited for elsewhere.
    ///
    /// # Errors
    ///
    /// What is wrong with the query or its cursor; `overloaded` where too many such reads are
    /// waiting.
    pub(crate) async fn documents(&self, request: QueryRequest) -> Result<QueryPage, ErrorBody> {
        let watched = self.live.watched(&request.query.projection)?;
        let Some(waiting) = self.fetches.wait() else {
            self.metrics.fetches_refused.fetch_add(1, Ordering::Relaxed);
            return Err(answers::fetch_error(&FetchError::Overloaded));
        };
        let reads = self.fetches.reads.clone();
        let read = self.on_runtime(async move {
            let _waiting = waiting;
            let _turn = reads.acquire().await.expect("the semaphore is never closed");
            live::page(&watched, &request).await
        });
        let unavailable = Err(QueryError::Store(StoreError::Unavailable));
        read.await.unwrap_or(unavailable).map_err(|error| answers::query_error(&error))
    }

    /// Asks the store something about consumers for a client, on the database's runtime, within the
    /// bounds of the reads that clients ask for.
    ///
    /// # Errors
    ///
    /// [`AskError::Overloaded`] where too much is waiting, else what the store says.
    pub(crate) async fn ask<T, F>(
        &self,
        question: impl FnOnce(Arc<dyn ConsumerStore>) -> F + Send + 'static,
    ) -> Result<T, AskError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ConsumerError>> + Send,
    {
        let Some(waiting) = self.fetches.wait() else {
            self.metrics.fetches_refused.fetch_add(1, Ordering::Relaxed);
            return Err(AskError::Overloaded);
        };
        let (consumers, reads) = (self.store.consumers(), self.fetches.reads.clone());
        self.on_runtime(async move {
            let _waiting = waiting;
            let _turn = reads.acquire().await.expect("the semaphore is never closed");
            question(consumers).await.map_err(AskError::Consumer)
        })
        .await
        .unwrap_or(Err(AskError::Consumer(ReadError::Unavailable.into())))
    }

    /// Asks the store for its head, on the database's runtime.
    pub(crate) async fn store_head(&self) -> Result<GlobalPosition, ReadError> {
        let store = self.store.clone();
        self.on_runtime(async move {
            let head = tokio::time::timeout(Duration::from_secs(5), store.head()).await;
            head.unwrap_or(Err(ReadError::Unavailable)).map(|head| head.position)
        })
        .await
        .unwrap_or(Err(ReadError::Unavailable))
    }

    /// Asks the store where whoever has seen `target` through `after` has to begin instead, if
    /// they have missed what was removed; on the database's runtime.
    pub(crate) async fn retained_after(
        &self,
        target: Target,
        after: GlobalPosition,
    ) -> Result<Option<GlobalPosition>, ReadError> {
        let store = self.store.clone();
        self.on_runtime(async move {
            let found = store.retained_after(target, after);
            let found = tokio::time::timeout(Duration::from_secs(5), found).await;
            found.unwrap_or(Err(ReadError::Unavailable))
        })
        .await
        .unwrap_or(Err(ReadError::Unavailable))
    }

    pub(crate) async fn on_runtime<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.runtime.spawn(async move {
            let _ = answer.send(work.await);
        });
        answered.await.ok()
    }
}

/// Pages that are read for a client that asked for one, at most: those that hold nothing are
/// passed over.
const FETCH_PAGES_MAX: usize = 16;

/// A page for a client: without the events that were removed.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) events: Vec<RecordedEvent>,
    /// Where the next page goes on, exclusive, if there may be more.
    pub(crate) next: Option<(GlobalPosition, Revision)>,
    pub(crate) head: GlobalPosition,
}

impl From<Page> for Fetched {
    fn from(page: Page) -> Self {
        let Page { mut events, head, more } = page;
        let next = events.last().filter(|_| more).map(|last| (last.position, last.revision));
        events.retain(|event| !event.is_removed());
        Self { events, next, head }
    }
}

/// Why a page was not read for a client.
#[derive(Debug)]
pub(crate) enum FetchError {
    /// Too many reads are waiting.
    Overloaded,
    /// The store could not.
    Store(ReadError),
}

impl From<ReadError> for FetchError {
    fn from(error: ReadError) -> Self {
        Self::Store(error)
    }
}

/// Why a question about consumers was not answered.
#[derive(Debug)]
pub(crate) enum AskError {
    /// Too much is waiting.
    Overloaded,
    /// The store refused, or could not.
    Consumer(ConsumerError),
}

/// Bounds the reads that clients ask for: a few at once, some waiting.
pub(crate) struct Fetches {
    reads: Arc<Semaphore>,
    queue: Arc<Semaphore>,
}

impl Fetches {
    fn new(reads_max: usize, queue_max: usize) -> Self {
        Self {
            reads: Arc::new(Semaphore::new(reads_max.max(1))),
            queue: Arc::new(Semaphore::new(queue_max + reads_max.max(1))),
        }
    }

    fn wait(&self) -> Option<tokio::sync::OwnedSemaphorePermit> {
        self.queue.clone().try_acquire_owned().ok()
    }
}

/// What sessions are told to do and to refuse.
fn session_config(config: &Config, token: Option<String>) -> SessionConfig {
    SessionConfig {
        auth: token.map_or(Auth::None, Auth::Token),
        limits: Limits {
            message_bytes: config.message_bytes_max,
            opening_message_bytes: config.opening_message_bytes_max,
            subscriptions: config.subscriptions_max,
            requests: config.requests_max,
            window: config.window_max,
            ..Limits::default()
        },
        hello_timeout: config.hello_timeout,
        ping_interval: config.ping_interval,
        pong_timeout: config.pong_timeout,
        progress_timeout: config.progress_timeout,
        heartbeat_interval: config.heartbeat_interval,
        delivery: DeliveryConfig {
            ack_timeout: config.ack_timeout,
            ack_timeout_max: ACK_TIMEOUT_MAX.max(config.ack_timeout),
            max_attempts: config.attempts_max,
            save_interval: config.checkpoint_interval,
            ..DeliveryConfig::default()
        },
        // A session's own share of the drain: what is left is for its Close frame.
        drain_timeout: config.drain_timeout / 2,
        ..SessionConfig::default()
    }
}
