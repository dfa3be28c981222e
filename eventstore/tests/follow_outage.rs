//! A tail goes on by itself after its database was away or its feed overflowed: nothing is lost,
//! nothing comes twice.

#![cfg(feature = "store")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt as _;
use tidewire_eventstore::{
    Append, AppendError, BoxFuture, CommandKey, CommandName, CommitFeed, ConsumerStore, EventStore,
    EventType, Executed, Execution, ExpectedRevision, GlobalPosition, Limits, LogEpoch, LogHead,
    LogTail, MemoryStore, NewEvent, Page, PendingAppend, PendingExecution, Read, ReadError,
    StreamName, TailConfig, Target, follow,
};

/// A store whose reads fail while it is away, and whose feed may be deaf.
struct Unsteady {
    store: MemoryStore,
    away: AtomicBool,
    deaf: bool,
}

impl Unsteady {
    fn new(store: MemoryStore, deaf: bool) -> Arc<Self> {
        Arc::new(Self { store, away: AtomicBool::new(false), deaf })
    }

    fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    fn is_away(&self) -> bool {
        self.away.load(Ordering::SeqCst)
    }
}

impl EventStore for Unsteady {
    fn append(&self, append: Append) -> Result<PendingAppend, AppendError> {
        self.store.append(append)
    }

    fn execute(&self, execution: Execution) -> Result<PendingExecution, AppendError> {
        self.store.execute(execution)
    }

    fn command_result(
        &self,
        name: &CommandName,
        key: &CommandKey,
    ) -> BoxFuture<'_, Result<Option<Executed>, ReadError>> {
        self.store.command_result(name, key)
    }

    fn read(&self, read: Read) -> BoxFuture<'_, Result<Page, ReadError>> {
        if self.is_away() {
            return Box::pin(async { Err(ReadError::Unavailable) });
        }
        self.store.read(read)
    }

    fn head(&self) -> BoxFuture<'_, Result<LogHead, ReadError>> {
        if self.is_away() {
            return Box::pin(async { Err(ReadError::Unavailable) });
        }
        self.store.head()
    }

    fn commits(&self) -> CommitFeed {
        if self.deaf {
            return MemoryStore::new().commits();
        }
        self.store.commits()
    }

    fn begin_epoch(&self) -> BoxFuture<'_, Result<LogEpoch, ReadError>> {
        self.store.begin_epoch()
    }

    fn consumers(&self) -> Arc<dyn ConsumerStore> {
        self.store.consumers()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.store.close()
    }
}

async fn record(store: &Unsteady, count: usize) {
    for _ in 0..count {
        let event = NewEvent::json(EventType::new("T").expect("a good name"), "1");
        let append = Append {
            stream: StreamName::new("a-1").expect("a good name"),
            expected: ExpectedRevision::Any,
            events: vec![event],
        };
        store.append(append).expect("room in the queue").await.expect("recorded");
    }
}

async fn expect_up_to(tail: &mut LogTail, last: u64) {
    while tail.position().get() < last {
        let next = tail.position().next();
        let batch = tokio::time::timeout(Duration::from_secs(60), tail.next());
        let batch = batch.await.expect("the tail goes on by itself");
        assert_eq!(batch.events[0].position, next);
        for pair in batch.events.windows(2) {
            assert_eq!(pair[0].position.next(), pair[1].position);
        }
    }
    assert_eq!(tail.position().get(), last);
}

#[tokio::test(start_paused = true)]
async fn a_tail_resumes_after_the_database_was_away() {
    for deaf in [false, true] {
        let store = Unsteady::new(MemoryStore::new(), deaf);
        record(&store, 5).await;
        store.set_away(true);
        let mut tail = LogTail::new(store.clone(), GlobalPosition::START, TailConfig::default());
        let waited = tokio::time::timeout(Duration::from_secs(100), tail.next()).await;
        assert!(waited.is_err(), "nothing can be read while the database is away");
        record(&store, 5).await;
        store.set_away(false);
        expect_up_to(&mut tail, 10).await;
        store.set_away(true);
        record(&store, 5).await;
        if !deaf {
            // News needs no database.
            expect_up_to(&mut tail, 15).await;
        }
        store.set_away(false);
        record(&store, 1).await;
        expect_up_to(&mut tail, 16).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_tail_without_news_sees_commits_within_its_head_poll() {
    let store = Unsteady::new(MemoryStore::new(), true);
    let config = TailConfig::with_head_poll(Duration::from_millis(500));
    let mut tail = LogTail::new(store.clone(), GlobalPosition::START, config);
    for position in 1..=5 {
        record(&store, 1).await;
        let began = tokio::time::Instant::now();
        expect_up_to(&mut tail, position).await;
        assert!(began.elapsed() <= Duration::from_millis(510), "{:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_tail_that_lags_reads_what_it_missed() {
    let mut limits = Limits::default();
    limits.feed_commits_max = 2;
    let store = Unsteady::new(MemoryStore::with_limits(limits), false);
    let mut tail = LogTail::new(store.clone(), GlobalPosition::START, TailConfig::default());
    for round in 1..=5 {
        record(&store, 20).await;
        expect_up_to(&mut tail, round * 20).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_follower_resumes_after_the_database_was_away() {
    let store = Unsteady::new(MemoryStore::new(), true);
    record(&store, 3).await;
    store.set_away(true);
    let start = GlobalPosition::START;
    let mut events = follow(store.clone(), Target::All, Vec::new(), start, TailConfig::default());
    let waited = tokio::time::timeout(Duration::from_secs(30), events.next()).await;
    assert!(waited.is_err(), "nothing can be read while the database is away");
    store.set_away(false);
    record(&store, 3).await;
    for position in 1..=6 {
        let event = tokio::time::timeout(Duration::from_secs(30), events.next()).await;
        let event = event.expect("the follower goes on by itself").expect("it never ends");
        assert_eq!(event.position.get(), position);
    }
}
