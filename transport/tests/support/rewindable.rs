//! A log that can be cut under a running server, as a restore from a backup or a fail-over to a
//! standby that lagged does.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use tidewire_eventstore::{
    Append, AppendError, BoxFuture, CommandKey, CommandName, Commit, CommitFeed, ConsumerStore,
    EventStore, Executed, Execution, ExpectedRevision, GlobalPosition, LogEpoch, LogHead,
    MemoryStore, NewEvent, Page, PendingAppend, PendingExecution, Read, ReadError, StoreStats,
    Target, Timestamp,
};
use tokio::sync::{broadcast, watch};
use uuid::Uuid;

/// The log. Its reads for catch-up can be held back.
pub struct Rewindable {
    life: Mutex<Life>,
    feed: broadcast::Sender<Commit>,
    /// Whether the process hears of commits at once, or has to look.
    hears: bool,
    gate: watch::Sender<bool>,
    held: AtomicUsize,
    /// Which of the next reads panics.
    breaks: Mutex<Option<Reader>>,
}

/// Who reads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    Tail,
    CatchUp,
}

struct Life {
    log: Arc<MemoryStore>,
    epochs: Arc<[LogEpoch]>,
}

impl Rewindable {
    pub async fn new(hears: bool) -> Arc<Self> {
        let log = Arc::new(MemoryStore::new());
        let epochs = log.head().await.expect("a head").epochs;
        let this = Arc::new(Self {
            life: Mutex::new(Life { log: log.clone(), epochs }),
            feed: broadcast::Sender::new(1024),
            hears,
            gate: watch::Sender::new(true),
            held: AtomicUsize::new(0),
            breaks: Mutex::new(None),
        });
        this.forward(&log);
        this
    }

    fn forward(&self, log: &MemoryStore) {
        if self.hears {
            let (mut commits, feed) = (log.commits(), self.feed.clone());
            tokio::spawn(async move {
                while let Ok(commit) = commits.recv().await {
                    let _ = feed.send(commit);
                }
            });
        }
    }

    fn now(&self) -> (Arc<MemoryStore>, Arc<[LogEpoch]>) {
        let life = self.life.lock().unwrap_or_else(PoisonError::into_inner);
        (life.log.clone(), life.epochs.clone())
    }

    /// Loses everything after `head`, and nobody is told.
    pub async fn cut(&self, head: u64) {
        self.replace(head, |_| {}).await;
    }

    /// Loses everything after `head` and begins an epoch there.
    pub async fn rewind(&self, head: u64) -> Uuid {
        let epoch = LogEpoch {
            epoch: Uuid::new_v4(),
            first_position: GlobalPosition::new(head + 1),
            began_at: Timestamp::now(),
        };
        self.replace(head, |epochs| epochs.push(epoch)).await;
        epoch.epoch
    }

    async fn replace(&self, head: u64, change: impl FnOnce(&mut Vec<LogEpoch>)) {
        let (old, epochs) = self.now();
        let new = Arc::new(MemoryStore::new());
        let mut after = GlobalPosition::START;
        while after.get() < head {
            let mut read = Read::after(Target::All, after, 1000);
            read.until = Some(GlobalPosition::new(head));
            let events = old.read(read).await.expect("a page").events;
            after = events.last().expect("a log that is long enough").position;
            for events in events.chunk_by(|one, next| one.stream == next.stream) {
                let copy = |event: &tidewire_eventstore::RecordedEvent| NewEvent {
                    id: None,
                    event_type: event.event_type.clone(),
                    payload: event.payload.clone(),
                    meta: event.meta.clone(),
                };
                let append = Append {
                    stream: events[0].stream.clone(),
                    expected: ExpectedRevision::Any,
                    events: events.iter().map(copy).collect(),
                };
                new.append(append).expect("a good append").await.expect("a recorded append");
            }
        }
        self.forward(&new);
        let mut epochs = epochs.to_vec();
        change(&mut epochs);
        *self.life.lock().unwrap_or_else(PoisonError::into_inner) =
            Life { log: new, epochs: epochs.into() };
    }

    /// From now on the answers to reads for catch-up are held back.
    pub fn hold(&self) {
        self.gate.send_replace(false);
    }

    /// Lets go of the answers that are held back.
    pub fn release(&self) {
        self.gate.send_replace(true);
    }

    /// The next read of `reader` panics.
    pub fn break_next(&self, reader: Reader) {
        *self.breaks.lock().unwrap_or_else(PoisonError::into_inner) = Some(reader);
    }

    /// How many answers are held back.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::SeqCst)
    }
}

impl EventStore for Rewindable {
    fn append(&self, append: Append) -> Result<PendingAppend, AppendError> {
        self.now().0.append(append)
    }

    fn execute(&self, execution: Execution) -> Result<PendingExecution, AppendError> {
        self.now().0.execute(execution)
    }

    fn command_result(
        &self,
        name: &CommandName,
        key: &CommandKey,
    ) -> BoxFuture<'_, Result<Option<Executed>, ReadError>> {
        let (store, name, key) = (self.now().0, name.clone(), key.clone());
        Box::pin(async move { store.command_result(&name, &key).await })
    }

    fn read(&self, read: Read) -> BoxFuture<'_, Result<Page, ReadError>> {
        let (log, _) = self.now();
        Box::pin(async move {
            // The log's tail says how far it reads, catch-up does not.
            let for_catch_up = read.until.is_none();
            let reader = if for_catch_up { Reader::CatchUp } else { Reader::Tail };
            let broken = self
                .breaks
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take_if(|breaks| *breaks == reader);
            assert!(broken.is_none(), "as planned");
            let page = log.read(read).await;
            if for_catch_up {
                self.held.fetch_add(1, Ordering::SeqCst);
                let _ = self.gate.subscribe().wait_for(|open| *open).await;
                self.held.fetch_sub(1, Ordering::SeqCst);
            }
            page
        })
    }

    fn head(&self) -> BoxFuture<'_, Result<LogHead, ReadError>> {
        let (log, epochs) = self.now();
        Box::pin(async move { Ok(LogHead { epochs, ..log.head().await? }) })
    }

    fn commits(&self) -> CommitFeed {
        self.feed.subscribe()
    }

    fn begin_epoch(&self) -> BoxFuture<'_, Result<LogEpoch, ReadError>> {
        Box::pin(async { Err(ReadError::Unavailable) })
    }

    fn consumers(&self) -> Arc<dyn ConsumerStore> {
        self.now().0.consumers()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    fn stats(&self) -> StoreStats {
        self.now().0.stats()
    }
}
