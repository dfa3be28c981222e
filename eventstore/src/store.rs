//! [`EventStore`]: what every store promises, in the words that the rest of Tidewire uses.
//!
//! Three stores implement it — PostgreSQL, SQLite, memory — and one conformance suite runs
//! against each.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use tokio::sync::{broadcast, oneshot};
use uuid::Uuid;

use crate::{
    AppendError, Category, CommandKey, CommandName, ConsumerStore, EventType, Executed, Execution,
    ExpectedRevision, GlobalPosition, NewEvent, PendingExecution, ReadError, RecordedEvent,
    Removal, Removals, RemoveError, Removed, Revision, StoreStats, StreamName, Timestamp,
};

/// A boxed future, so that stores can stand behind `dyn EventStore`.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The log.
pub trait EventStore: Send + Sync + 'static {
    /// Queues one append and returns at once; the returned future tells what became of it.
    ///
    /// Appends submitted one after the other by one caller take effect in that order. The future
    /// needs no particular runtime: it only waits for the writer's answer. Dropping it does not
    /// take the append back.
    ///
    /// # Errors
    ///
    /// What can be told without the database: a malformed append, [`AppendError::Overloaded`]
    /// when the writer's queue is full, [`AppendError::Closed`]. Everything else
    /// ([`AppendError::WrongExpectedRevision`], [`AppendError::IdReused`],
    /// [`AppendError::Unavailable`], …) comes through the future.
    fn append(&self, append: Append) -> Result<PendingAppend, AppendError>;

    /// Queues what a command came to and returns at once; the returned future tells what is
    /// recorded under its name and key.
    ///
    /// The result, the key and the events are recorded in one transaction. Where the name and key
    /// were recorded before, in the last seven days, nothing is recorded: the future tells what
    /// they were recorded with, or [`AppendError::KeyReused`] if that was for other data. In every other way an execution is as an append, and keeps
    /// its place among those of the same caller.
    ///
    /// # Errors
    ///
    /// As [`Self::append`]; [`AppendError::InvalidResult`] and [`AppendError::TooLarge`] for a
    /// result that cannot be kept. Whatever is refused leaves nothing behind, and its key may be
    /// used again.
    fn execute(&self, execution: Execution) -> Result<PendingExecution, AppendError>;

    /// What is recorded under a command's name and key, if anything.
    ///
    /// Nothing found means little while an execution is under way; [`Self::execute`] decides.
    ///
    /// # Errors
    ///
    /// [`ReadError::Unavailable`] while the database is away.
    fn command_result(
        &self,
        name: &CommandName,
        key: &CommandKey,
    ) -> BoxFuture<'_, Result<Option<Executed>, ReadError>>;

    /// Reads one page.
    ///
    /// # Errors
    ///
    /// [`ReadError::Unavailable`] while the database is away.
    fn read(&self, read: Read) -> BoxFuture<'_, Result<Page, ReadError>>;

    /// The last committed position and the log's epochs, as the database knows them now.
    ///
    /// # Errors
    ///
    /// [`ReadError::Unavailable`] while the database is away.
    fn head(&self) -> BoxFuture<'_, Result<LogHead, ReadError>>;

    /// What was committed from now on: by this process as whole batches, by others as hints.
    fn commits(&self) -> CommitFeed;

    /// Begins a new epoch after the present head, and returns it. For after a restore.
    ///
    /// # Errors
    ///
    /// [`ReadError::Unavailable`] while the database is away.
    fn begin_epoch(&self) -> BoxFuture<'_, Result<LogEpoch, ReadError>>;

    /// The durable consumers of this log.
    fn consumers(&self) -> Arc<dyn ConsumerStore>;

    /// Removes events, or erases what one carries; see [`Removal`]. Done in batches of bounded
    /// size, each durable by itself, with pauses in which others append: dropping the future ends
    /// the work after the batch at hand.
    ///
    /// # Errors
    ///
    /// [`RemoveError::NotFound`] and [`RemoveError::Reserved`] for an event that cannot be erased;
    /// [`RemoveError::Store`] while the database is away, or where the store keeps everything.
    fn remove(&self, removal: Removal) -> BoxFuture<'_, Result<Removed, RemoveError>> {
        let _ = removal;
        let reason = "this store keeps everything".into();
        Box::pin(async { Err(ReadError::Refused { reason }.into()) })
    }

    /// Whether whoever has seen the events of `target` through `after` missed some that were
    /// removed since: then the position from which on to read instead. Everything that is left of
    /// the target lies at or after it, and whoever has read from there has missed nothing.
    ///
    /// Nobody misses anything after [`GlobalPosition::START`]: that is where reading begins.
    ///
    /// # Errors
    ///
    /// [`ReadError::Unavailable`] while the database is away.
    fn retained_after(
        &self,
        target: Target,
        after: GlobalPosition,
    ) -> BoxFuture<'_, Result<Option<GlobalPosition>, ReadError>> {
        let _ = (target, after);
        Box::pin(async { Ok(None) })
    }

    /// Stops the writer after what it has queued, and closes the database.
    fn close(&self) -> BoxFuture<'_, ()>;

    /// What the store has done since it was opened, for metrics.
    fn stats(&self) -> StoreStats {
        StoreStats::default()
    }
}

/// One append: some events for one stream, recorded all or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    /// The stream.
    pub stream: StreamName,
    /// What is demanded of the stream.
    pub expected: ExpectedRevision,
    /// The events, 1 to 1000, in order.
    pub events: Vec<NewEvent>,
}

/// Where an append was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The revision of its last event.
    pub revision: Revision,
    /// The global position of its last event.
    pub position: GlobalPosition,
}

/// An append under way. Resolves when it is durable, or refused.
#[derive(Debug)]
pub struct PendingAppend(oneshot::Receiver<Result<Appended, AppendError>>);

impl PendingAppend {
    /// Wraps the receiving end of a writer's answer.
    pub fn new(answer: oneshot::Receiver<Result<Appended, AppendError>>) -> Self {
        Self(answer)
    }
}

impl Future for PendingAppend {
    type Output = Result<Appended, AppendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|answer| answer.unwrap_or(Err(AppendError::Closed)))
    }
}

/// Which events a read or a subscription is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// Every event.
    All,
    /// The events of all streams of a category.
    Category(Category),
    /// The events of one stream.
    Stream(StreamName),
}

impl Target {
    /// Whether an event of `stream` belongs to this target.
    pub fn includes(&self, stream: &StreamName) -> bool {
        match self {
            Self::All => true,
            Self::Category(category) => stream.category_str() == category.as_str(),
            Self::Stream(name) => name == stream,
        }
    }
}

/// Which way a page is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Direction {
    /// From older to newer events.
    #[default]
    Forwards,
    /// From newer to older events.
    Backwards,
}

/// Where a page begins. The named event itself is not part of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReadStart {
    /// At the end of the log that the direction starts from.
    End,
    /// Next to this global position.
    Position(GlobalPosition),
    /// Next to this revision; only for [`Target::Stream`] (elsewhere nothing matches).
    Revision(Revision),
}

/// One page to read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Read {
    /// Which events.
    pub target: Target,
    /// Only events of these types; empty means all types.
    pub types: Vec<EventType>,
    /// Which way.
    pub direction: Direction,
    /// Where the page begins, exclusive: forwards, the events after it; backwards, those before.
    /// `End` is the beginning of the log forwards, and its head backwards.
    pub from: ReadStart,
    /// Only events up to and including this position; `None` means up to the head.
    pub until: Option<GlobalPosition>,
    /// At most this many events, 1 to 5000; cut to that range.
    pub limit: usize,
}

impl Read {
    /// The largest page, in events.
    pub const LIMIT_MAX: usize = 5000;

    /// The events of `target` after `position`, forwards, of every type.
    pub fn after(target: Target, position: GlobalPosition, limit: usize) -> Self {
        Self {
            target,
            types: Vec::new(),
            direction: Direction::Forwards,
            from: ReadStart::Position(position),
            until: None,
            limit,
        }
    }
}

/// One page of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The events, in the direction of the read. In a page of the whole log and of every type,
    /// removed ones stand among them ([`RecordedEvent::is_removed`]): they count, and are for
    /// nobody.
    pub events: Vec<RecordedEvent>,
    /// The log's head, read in the same snapshot as the events or before it. Only positions up
    /// to it are in the page.
    pub head: GlobalPosition,
    /// Whether the page was cut, so that there may be more: at its limit, or earlier where its
    /// payloads grew large. A page that was cut has at least one event; one that was not cut
    /// means that everything up to `head` (or `until`) was looked at.
    pub more: bool,
}

/// One life of the log. A client that remembers another one cannot resume past its first position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogEpoch {
    /// Names the epoch.
    pub epoch: Uuid,
    /// The first position that may differ from what an earlier epoch had there.
    pub first_position: GlobalPosition,
    /// When it began.
    pub began_at: Timestamp,
}

/// The end of the log, and its epochs, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogHead {
    /// The last committed position; [`GlobalPosition::START`] in an empty log.
    pub position: GlobalPosition,
    /// The epochs, oldest first; the last one is current. Never empty.
    pub epochs: Arc<[LogEpoch]>,
    /// What was removed from the log so far.
    pub removals: Removals,
}

/// News of a commit.
#[derive(Debug, Clone)]
pub enum Commit {
    /// Committed by this process: consecutive positions, in order.
    Batch {
        /// The events.
        events: Arc<[RecordedEvent]>,
        /// When the commit was known to be durable.
        committed_at: Instant,
    },
    /// Somebody committed up to here; the events are in the store.
    Head(GlobalPosition),
}

/// News of commits, through a bounded channel: a receiver that lags is told so
/// ([`broadcast::error::RecvError::Lagged`]) and reads what it missed from the store.
pub type CommitFeed = broadcast::Receiver<Commit>;
