//! [`MemoryStore`]: the log in this process's memory, for tests and for trying things out.
//!
//! It goes through the same writer and the same plans as the databases do. It keeps everything
//! that is not removed until it is dropped.

mod retention;

mod consumers;

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use uuid::Uuid;

use self::consumers::MemoryConsumers;
use crate::{
    Append, AppendError, BoxFuture, Category, CommandKey, CommandName, CommitFeed, ConsumerStore,
    Direction, EventId, EventStore, Executed, Execution, GlobalPosition, Limits, LogEpoch, LogHead,
    Page, PendingAppend, PendingExecution, Read, ReadError, ReadStart, RecordedEvent, Removal,
    Removals, RemoveError, Removed, Revision, StoreStats, StreamName, Target, Timestamp,
    plan::{self, CommandRow, LogState, Plan, REQUESTS_KEPT_MICROS, Request, RequestRow},
    writer::{Away, Backend, CommitError, Writer},
};

/// The log in memory.
#[derive(Debug)]
pub struct MemoryStore {
    log: Arc<RwLock<Log>>,
    consumers: Arc<MemoryConsumers>,
    writer: Writer,
}

impl MemoryStore {
    /// An empty log with the default limits. Must be called on a tokio runtime.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn new() -> Self {
        Self::with_limits(Limits::default())
    }

    /// An empty log with these limits. Must be called on a tokio runtime.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn with_limits(limits: Limits) -> Self {
        let log = Arc::new(RwLock::new(Log::new()));
        let consumers = Arc::new(MemoryConsumers::new(limits.clone(), Arc::clone(&log)));
        let writer = Writer::start(MemoryBackend { log: Arc::clone(&log) }, limits);
        Self { log, consumers, writer }
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl EventStore for MemoryStore {
    fn append(&self, append: Append) -> Result<PendingAppend, AppendError> {
        self.writer.append(append)
    }

    fn execute(&self, execution: Execution) -> Result<PendingExecution, AppendError> {
        self.writer.execute(execution)
    }

    fn command_result(
        &self,
        name: &CommandName,
        key: &CommandKey,
    ) -> BoxFuture<'_, Result<Option<Executed>, ReadError>> {
        let command = (name.clone(), key.clone());
        Box::pin(async move {
            let log = reading(&self.log);
            Ok(log.commands.get(&command).map(|row| row.executed(true)))
        })
    }

    fn read(&self, read: Read) -> BoxFuture<'_, Result<Page, ReadError>> {
        Box::pin(async move { Ok(reading(&self.log).page(&read)) })
    }

    fn head(&self) -> BoxFuture<'_, Result<LogHead, ReadError>> {
        Box::pin(async {
            let log = reading(&self.log);
            let epochs = log.epochs.as_slice().into();
            Ok(LogHead { position: log.head(), epochs, removals: log.removals })
        })
    }

    fn commits(&self) -> CommitFeed {
        self.writer.commits()
    }

    fn begin_epoch(&self) -> BoxFuture<'_, Result<LogEpoch, ReadError>> {
        Box::pin(async {
            let mut log = writing(&self.log);
            let epoch = new_epoch(log.head().next());
            log.epochs.push(epoch);
            Ok(epoch)
        })
    }

    fn consumers(&self) -> Arc<dyn ConsumerStore> {
        Arc::clone(&self.consumers) as _
    }

    fn remove(&self, removal: Removal) -> BoxFuture<'_, Result<Removed, RemoveError>> {
        Box::pin(async move {
            let removed = writing(&self.log).remove(removal)?;
            if let Some(erasure) = removed.erasure {
                self.writer.hint(erasure.position);
            }
            Ok(removed)
        })
    }

    fn retained_after(
        &self,
        target: Target,
        after: GlobalPosition,
    ) -> BoxFuture<'_, Result<Option<GlobalPosition>, ReadError>> {
        Box::pin(async move { Ok(reading(&self.log).retained_after(&target, after)) })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.writer.close())
    }

    fn stats(&self) -> StoreStats {
        self.writer.stats()
    }
}

/// Every change under the lock is whole before anything can panic, so a poisoned lock guards
/// sound data.
fn reading(log: &RwLock<Log>) -> RwLockReadGuard<'_, Log> {
    log.read().unwrap_or_else(PoisonError::into_inner)
}

fn writing(log: &RwLock<Log>) -> RwLockWriteGuard<'_, Log> {
    log.write().unwrap_or_else(PoisonError::into_inner)
}

fn new_epoch(first_position: GlobalPosition) -> LogEpoch {
    LogEpoch { epoch: Uuid::new_v4(), first_position, began_at: Timestamp::now() }
}

struct MemoryBackend {
    log: Arc<RwLock<Log>>,
}

impl Backend for MemoryBackend {
    async fn commit(&mut self, group: &[Request]) -> Result<Plan, CommitError> {
        let mut log = writing(&self.log);
        let plan = plan::plan(group, &log.state(group), Timestamp::now());
        if !plan.is_empty() {
            log.record(&plan);
        }
        Ok(plan)
    }

    async fn resolve(&mut self, plan: &Plan) -> Result<bool, Away> {
        let log = reading(&self.log);
        Ok(match plan.commands.first() {
            Some(row) => {
                let recorded = log.commands.get(&(row.name.clone(), row.key.clone()));
                recorded.is_some_and(|recorded| recorded.execution == row.execution)
            }
            None => log.head() > plan.head,
        })
    }

    async fn reconnect(&mut self) -> Result<(), Away> {
        Ok(())
    }

    async fn close(&mut self) {}
}

/// What the store holds.
#[derive(Debug)]
struct Log {
    /// The event with position p is at p − 1.
    events: Vec<RecordedEvent>,
    /// Where each stream's events are in `events`.
    streams: HashMap<StreamName, Vec<usize>>,
    /// Where each category's events are in `events`.
    categories: HashMap<Category, Vec<usize>>,
    requests: HashMap<EventId, RequestRow>,
    /// The ids in `requests`, oldest first.
    requests_by_age: VecDeque<(Timestamp, EventId)>,
    commands: HashMap<(CommandName, CommandKey), CommandRow>,
    /// The names and keys in `commands`, oldest first.
    commands_by_age: VecDeque<(Timestamp, (CommandName, CommandKey))>,
    epochs: Vec<LogEpoch>,
    /// The last removed event of each stream that has any.
    removed_streams: HashMap<StreamName, (Revision, GlobalPosition)>,
    /// The last removed event of each category that has any.
    removed_categories: HashMap<Category, GlobalPosition>,
    removals: Removals,
}

impl Log {
    fn new() -> Self {
        Self {
            events: Vec::new(),
            streams: HashMap::new(),
            categories: HashMap::new(),
            requests: HashMap::new(),
            requests_by_age: VecDeque::new(),
            commands: HashMap::new(),
            commands_by_age: VecDeque::new(),
            epochs: vec![new_epoch(GlobalPosition::START.next())],
            removed_streams: HashMap::new(),
            removed_categories: HashMap::new(),
            removals: Removals::default(),
        }
    }

    fn head(&self) -> GlobalPosition {
        GlobalPosition::new(self.events.len() as u64)
    }

    fn state(&self, group: &[Request]) -> LogState {
        let revision = |stream: &StreamName| Some((stream.clone(), self.last_revision(stream)?));
        let emptied = |stream: &&StreamName| self.is_emptied(stream);
        let recorded = |id| Some((id, self.requests.get(&id)?.clone()));
        let executed = |(name, key): (&CommandName, &CommandKey)| {
            let command = (name.clone(), key.clone());
            let row = self.commands.get(&command)?.clone();
            Some((command, row))
        };
        LogState {
            head: self.head(),
            revisions: plan::streams(group).into_iter().filter_map(revision).collect(),
            emptied: plan::streams(group).into_iter().filter(emptied).cloned().collect(),
            recorded: plan::client_ids(group).into_iter().filter_map(recorded).collect(),
            commands: plan::command_keys(group).into_iter().filter_map(executed).collect(),
        }
    }

    fn push(&mut self, event: RecordedEvent) {
        let at = self.events.len();
        self.streams.entry(event.stream.clone()).or_default().push(at);
        self.categories.entry(event.stream.category()).or_default().push(at);
        self.events.push(event);
    }

    fn record(&mut self, plan: &Plan) {
        for event in &plan.events {
            self.push(event.clone());
        }
        let now = plan.recorded_at;
        for row in &plan.requests {
            self.requests.insert(row.id, row.clone());
            self.requests_by_age.push_back((now, row.id));
        }
        for row in &plan.commands {
            let command = (row.name.clone(), row.key.clone());
            self.commands.insert(command.clone(), row.clone());
            self.commands_by_age.push_back((now, command));
        }
        let kept_since = Timestamp::from_micros(now.as_micros() - REQUESTS_KEPT_MICROS);
        while let Some((_, id)) = self.requests_by_age.pop_front_if(|(at, _)| *at < kept_since) {
            self.requests.remove(&id);
        }
        while let Some((_, command)) = self.commands_by_age.pop_front_if(|(at, _)| *at < kept_since)
        {
            self.commands.remove(&command);
        }
    }

    fn page(&self, read: &Read) -> Page {
        let limit = read.limit.clamp(1, Read::LIMIT_MAX);
        let mut matching: Box<dyn Iterator<Item = &RecordedEvent>> = match read.direction {
            Direction::Forwards => Box::new(self.range(read)),
            Direction::Backwards => Box::new(self.range(read).rev()),
        };
        let events = matching.by_ref().take(limit).cloned().collect();
        Page { events, head: self.head(), more: matching.next().is_some() }
    }

    /// All events that the pages of `read` are about, older first.
    fn range<'a>(&'a self, read: &'a Read) -> impl DoubleEndedIterator<Item = &'a RecordedEvent> {
        let forwards = read.direction == Direction::Forwards;
        let until = read.until.unwrap_or(self.head());
        // The revision or position that the page begins next to is not part of it.
        let begins_before = move |at: u64, from: u64| if forwards { at > from } else { at < from };
        let is_in = move |event: &&RecordedEvent| {
            let begun = match read.from {
                ReadStart::End => true,
                ReadStart::Position(from) => begins_before(event.position.get(), from.get()),
                ReadStart::Revision(from) => {
                    matches!(read.target, Target::Stream(_))
                        && begins_before(event.revision.get(), from.get())
                }
            };
            begun
                && event.position <= until
                && (read.types.is_empty() || read.types.contains(&event.event_type))
        };
        let listed = match &read.target {
            Target::All => None,
            Target::Category(category) => Some(self.categories.get(category)),
            Target::Stream(stream) => Some(self.streams.get(stream)),
        };
        // Both ways hold the events in order of position, so the first part can be leapt over.
        let start = match (read.from, forwards) {
            (ReadStart::Position(from), true) => from.get(),
            _ => 0,
        };
        let skip_before = usize::try_from(start).unwrap_or(usize::MAX).min(self.events.len());
        let (some, all) = match listed {
            None => (&[][..], &self.events[skip_before..]),
            Some(listed) => {
                let listed = listed.map_or(&[][..], Vec::as_slice);
                (&listed[listed.partition_point(|at| *at < skip_before)..], &[][..])
            }
        };
        some.iter().map(|at| &self.events[*at]).chain(all).filter(is_in)
    }
}
