//! The log is rewound under a reader, as by a restore from a backup or a fail-over to a standby that
//! lagged: whatever the reader had in hand, it goes on with what the log holds now.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures_util::StreamExt as _;
use tokio::sync::broadcast;
use uuid::Uuid;

use super::{LogTail, TailBatch, TailConfig, TailNews, follow};
use crate::{
    Append, AppendError, BoxFuture, CommandKey, CommandName, Commit, CommitFeed, ConsumerStore,
    EventId, EventStore, EventType, Executed, Execution, GlobalPosition, LogEpoch, LogHead, Page,
    Payload, PendingAppend, PendingExecution, Read, ReadError, ReadStart, RecordedEvent, Revision,
    StreamName, Target, Timestamp,
};

/// A log that can be cut and changed at will. Who recorded an event stands in its stream's name.
struct Rewindable {
    log: Mutex<Log>,
    feed: broadcast::Sender<Commit>,
}

struct Log {
    events: Vec<RecordedEvent>,
    epochs: Vec<LogEpoch>,
}

fn at(position: u64) -> GlobalPosition {
    GlobalPosition::new(position)
}

fn epoch(first: u64) -> LogEpoch {
    LogEpoch { epoch: Uuid::new_v4(), first_position: at(first), began_at: Timestamp::default() }
}

impl Rewindable {
    fn new() -> Arc<Self> {
        let log = Log { events: Vec::new(), epochs: vec![epoch(1)] };
        Arc::new(Self { log: Mutex::new(log), feed: broadcast::Sender::new(64) })
    }

    fn log(&self) -> std::sync::MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records `count` events of `life` and gives them as the news of a commit.
    fn record(&self, life: &str, count: u64) -> Commit {
        let mut log = self.log();
        let head = log.events.len() as u64;
        let event = |position| RecordedEvent {
            position: at(position),
            stream: StreamName::new(life).expect("a good name"),
            revision: Revision::new(position),
            event_type: EventType::new("T").expect("a good name"),
            id: EventId::generate(),
            recorded_at: Timestamp::default(),
            payload: Payload::Json("1".into()),
            meta: None,
        };
        let events: Vec<_> = (head + 1..=head + count).map(event).collect();
        log.events.extend(events.iter().cloned());
        Commit::Batch { events: events.into(), committed_at: Instant::now() }
    }

    /// Cuts the log after `head` and begins an epoch there.
    fn rewind(&self, head: u64) {
        let mut log = self.log();
        log.events.truncate(usize::try_from(head).expect("a short log"));
        log.epochs.push(epoch(head + 1));
    }
}

impl EventStore for Rewindable {
    fn append(&self, _: Append) -> Result<PendingAppend, AppendError> {
        Err(AppendError::Closed)
    }

    fn execute(&self, _: Execution) -> Result<PendingExecution, AppendError> {
        Err(AppendError::Closed)
    }

    fn command_result(
        &self,
        _: &CommandName,
        _: &CommandKey,
    ) -> BoxFuture<'_, Result<Option<Executed>, ReadError>> {
        Box::pin(async { Ok(None) })
    }

    fn read(&self, read: Read) -> BoxFuture<'_, Result<Page, ReadError>> {
        Box::pin(async move {
            let log = self.log();
            let ReadStart::Position(after) = read.from else { panic!("nobody reads otherwise") };
            let head = at(log.events.len() as u64);
            let until = read.until.unwrap_or(head);
            let is_in = |event: &&RecordedEvent| event.position > after && event.position <= until;
            let mut matching = log.events.iter().filter(is_in).cloned();
            let events: Vec<_> = matching.by_ref().take(read.limit).collect();
            Ok(Page { events, head, more: matching.next().is_some() })
        })
    }

    fn head(&self) -> BoxFuture<'_, Result<LogHead, ReadError>> {
        Box::pin(async {
            let log = self.log();
            let position = at(log.events.len() as u64);
            Ok(LogHead {
                position,
                epochs: log.epochs.as_slice().into(),
                removals: Default::default(),
            })
        })
    }

    fn commits(&self) -> CommitFeed {
        self.feed.subscribe()
    }

    fn begin_epoch(&self) -> BoxFuture<'_, Result<LogEpoch, ReadError>> {
        Box::pin(async { Err(ReadError::Unavailable) })
    }

    fn consumers(&self) -> Arc<dyn ConsumerStore> {
        panic!("nobody asks for consumers")
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let soon = tokio::time::timeout(Duration::from_secs(60), future).await;
    soon.unwrap_or_else(|_| panic!("{what} does not come"))
}

/// Takes batches up to `position`; who recorded each event, and where.
async fn through(tail: &mut LogTail, position: u64) -> Vec<(String, u64)> {
    let mut seen = Vec::new();
    while tail.position() != at(position) {
        match soon("a batch", tail.news()).await {
            TailNews::Batch(TailBatch { events, .. }) => seen.extend(events.iter().map(outline)),
            other => panic!("nobody expects {other:?}"),
        }
    }
    seen
}

/// Passes over batches to the next change of epochs; where the tail goes on.
async fn rewound(tail: &mut LogTail) -> u64 {
    loop {
        if let TailNews::Epochs(epochs) = soon("an epoch", tail.news()).await {
            return epochs.after.get();
        }
    }
}

fn outline(event: &RecordedEvent) -> (String, u64) {
    (event.stream.as_str().to_owned(), event.position.get())
}

fn of(life: &str, positions: std::ops::RangeInclusive<u64>) -> Vec<(String, u64)> {
    positions.map(|position| (life.to_owned(), position)).collect()
}

async fn tail_of(store: &Arc<Rewindable>) -> LogTail {
    let head = store.head().await.expect("a head");
    let head = LogHead { position: at(0), ..head };
    LogTail::after_head(store.clone(), head, TailConfig::default())
}

#[tokio::test(start_paused = true)]
async fn a_tail_goes_back_to_where_the_log_was_rewound_and_on_with_what_it_holds_now() {
    let store = Rewindable::new();
    store.record("old", 100);
    let mut tail = tail_of(&store).await;
    assert_eq!(through(&mut tail, 100).await, of("old", 1..=100));

    store.rewind(50);
    store.record("new", 20);
    assert_eq!(rewound(&mut tail).await, 50);
    assert_eq!(through(&mut tail, 70).await, of("new", 51..=70));
    let _ = store.feed.send(store.record("new", 40));
    assert_eq!(through(&mut tail, 110).await, of("new", 71..=110));
}

#[tokio::test(start_paused = true)]
async fn an_epoch_beyond_what_was_handed_out_takes_nothing_back() {
    let store = Rewindable::new();
    store.record("old", 10);
    let mut tail = tail_of(&store).await;
    through(&mut tail, 10).await;
    store.rewind(10);
    assert_eq!(rewound(&mut tail).await, 10);
    store.record("new", 1);
    assert_eq!(through(&mut tail, 11).await, of("new", 11..=11));
}

#[tokio::test(start_paused = true)]
async fn news_of_a_life_that_is_over_are_not_handed_out() {
    let store = Rewindable::new();
    store.record("old", 5);
    let mut tail = tail_of(&store).await;
    through(&mut tail, 5).await;
    // Committed, and still under way to the tail when it learns of the epoch.
    let lost = store.record("old", 2);
    let ahead = store.record("old", 3);
    store.rewind(4);
    // Kept, because of the hole before it.
    let _ = store.feed.send(ahead.clone());
    assert_eq!(rewound(&mut tail).await, 4);
    let _ = store.feed.send(lost);
    let _ = store.feed.send(ahead);
    // As far as where the lost news would connect.
    store.record("new", 3);
    assert_eq!(through(&mut tail, 7).await, of("new", 5..=7));
    store.record("new", 4);
    assert_eq!(through(&mut tail, 11).await, of("new", 8..=11));
}

#[tokio::test(start_paused = true)]
async fn a_log_that_is_never_quiet_cannot_hide_an_epoch() {
    let store = Rewindable::new();
    let mut tail = tail_of(&store).await;
    for _ in 0..10 {
        let _ = store.feed.send(store.record("old", 1));
        soon("a batch", tail.next()).await;
    }
    store.rewind(3);
    store.record("new", 7);
    let mut told = false;
    for _ in 0..100 {
        // There is always another batch that connects to what was handed out.
        let _ = store.feed.send(store.record("new", 1));
        tokio::time::advance(Duration::from_millis(20)).await;
        if let TailNews::Epochs(epochs) = soon("news", tail.news()).await {
            assert_eq!(epochs.after, at(3));
            told = true;
            break;
        }
    }
    assert!(told, "the epoch is not noticed");
}

#[tokio::test(start_paused = true)]
async fn a_stream_goes_on_with_what_a_rewound_log_holds() {
    for taken in [3, 10] {
        let store = Rewindable::new();
        store.record("old", 10);
        let config = TailConfig { page_limit: 4, ..TailConfig::default() };
        let all = follow(store.clone(), Target::All, Vec::new(), at(0), config);
        let mut all = all.map(|event| outline(&event));
        for position in 1..=taken {
            let event = soon("an event", all.next()).await;
            assert_eq!(event, Some(("old".to_owned(), position)));
        }
        store.rewind(2);
        store.record("new", 8);
        // What it was reading comes to its end; then the new life comes, whole.
        let first = Some(("new".to_owned(), 3));
        while soon("the new life", all.next()).await != first {}
        for expected in of("new", 4..=10) {
            assert_eq!(soon("an event", all.next()).await, Some(expected));
        }
    }
}
