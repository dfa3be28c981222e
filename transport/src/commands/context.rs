//! [`Context`]: what a handler is told of the command, and its way to the log.

use std::{fmt, sync::Arc};

use tidewire_eventstore::{
    CommandKey, CommandName, EventStore, ExpectedRevision, GlobalPosition, Page, Read, ReadError,
    ReadStart, RecordedEvent, Revision, StreamName, Target,
};
use tokio::{
    runtime::Handle,
    sync::{Semaphore, oneshot},
    task::JoinHandle,
};

use super::CommandError;

/// Events that [`Context::stream`] reads at most.
const STREAM_EVENTS_MAX: usize = 10_000;

/// Events a page of it.
const PAGE_EVENTS: usize = 1000;

/// Who sent a command.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Caller {
    /// A session, by its id as `welcome` and `GET /sessions` give it.
    Session(Arc<str>),
    /// A request by HTTP.
    Http,
}

/// What a handler is told of the command, and its way to the log. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Context {
    pub(super) command: Arc<Told>,
    pub(super) reads: Reads,
}

/// What is known of one run of a command.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) name: CommandName,
    pub(super) key: Option<CommandKey>,
    pub(super) caller: Caller,
    pub(super) run: u32,
}

impl Context {
    /// The command's name.
    pub fn name(&self) -> &CommandName {
        &self.command.name
    }

    /// The client's key, if it sent one.
    pub fn key(&self) -> Option<&CommandKey> {
        self.command.key.as_ref()
    }

    /// Who asks.
    pub fn caller(&self) -> &Caller {
        &self.command.caller
    }

    /// Which run this is: 1, and more where the stream had moved on before the decision of an
    /// earlier one could be recorded.
    pub fn run(&self) -> u32 {
        self.command.run
    }

    /// The whole of a stream, to decide on.
    ///
    /// # Errors
    ///
    /// When the log cannot be read; and `stream_too_long` when the stream has more than 10,000
    /// events: read such a one by pages ([`Self::read`]) or keep what you need of it elsewhere.
    pub async fn stream(&self, stream: &StreamName) -> Result<StreamState, CommandError> {
        let mut events: Vec<RecordedEvent> = Vec::new();
        loop {
            let from =
                events.last().map_or(ReadStart::End, |last| ReadStart::Revision(last.revision));
            let target = Target::Stream(stream.clone());
            let page = Read { from, ..Read::after(target, GlobalPosition::START, PAGE_EVENTS) };
            let page = self.read(page).await?;
            events.extend(page.events);
            if !page.more {
                return Ok(StreamState { events });
            }
            if events.len() >= STREAM_EVENTS_MAX {
                return Err(CommandError::new(
                    "stream_too_long",
                    "the stream has more events than a command may read",
                ));
            }
        }
    }

    /// One page of the log, up to 5000 events.
    ///
    /// # Errors
    ///
    /// When the log cannot be read.
    pub async fn read(&self, read: Read) -> Result<Page, CommandError> {
        Ok(self.reads.read(read).await?)
    }
}

/// A stream as a handler found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamState {
    /// Its events, oldest first.
    pub events: Vec<RecordedEvent>,
}

impl StreamState {
    /// The revision of the last event; none where there are no events.
    pub fn revision(&self) -> Option<Revision> {
        self.events.last().map(|last| last.revision)
    }

    /// Demands of an append that the stream still be as it was found.
    pub fn unchanged(&self) -> ExpectedRevision {
        self.revision().map_or(ExpectedRevision::NoStream, ExpectedRevision::Exact)
    }
}

/// The way of all handlers to the log: where the database is talked to, a few reads at a time,
/// shared with what clients fetch.
#[derive(Clone)]
pub(super) struct Reads {
    pub(super) store: Arc<dyn EventStore>,
    pub(super) database: Handle,
    pub(super) turns: Arc<Semaphore>,
}

impl fmt::Debug for Reads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reads").finish_non_exhaustive()
    }
}

impl Reads {
    async fn read(&self, read: Read) -> Result<Page, ReadError> {
        let store = self.store.clone();
        self.on_database(async move { store.read(read).await }).await
    }

    /// Runs `work`, which may wait for long, where the database is talked to. None: that is gone.
    pub(super) async fn beside<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let mut task = AbortOnDrop(self.database.spawn(work));
        (&mut task.0).await.ok()
    }

    /// Runs `work` where the database is talked to, when its turn has come.
    pub(super) async fn on_database<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, ReadError>> + Send + 'static,
    ) -> Result<T, ReadError> {
        let turns = self.turns.clone();
        let (answer, answered) = oneshot::channel();
        self.database.spawn(async move {
            let _turn = turns.acquire().await.expect("the semaphore is never closed");
            let _ = answer.send(work.await);
        });
        // Nothing comes where the runtime is gone.
        answered.await.unwrap_or(Err(ReadError::Unavailable))
    }
}

/// A task that ends with whoever waits for it.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
