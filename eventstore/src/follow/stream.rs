//! [`follow`]: one target's events as a stream, for users in the process.
//!
//! Catches up with pages of the target alone. A page that was not cut looked at everything up to
//! its head, so from that head on the whole log is tailed and filtered here: the hand-over needs
//! no more than the one position. The log's epochs are read before the first page, so that the
//! tail tells a log that was rewound meanwhile.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures_util::{Stream, stream};

use super::tail::{LogTail, TailConfig};
use crate::{
    EventStore, EventType, GlobalPosition, LogEpoch, Read, ReadError, RecordedEvent, Target,
};

/// The events of `target` after `after`, of the given types (all where there are none), in
/// order, each once: those recorded, then live, for ever. Where the log is rewound to an earlier
/// position, as by a restore, the stream goes on after that one with what the log holds now.
///
/// While the database is away the stream waits. It needs a tokio runtime with time and does
/// nothing while it is not polled.
///
/// ```
/// use std::sync::Arc;
/// use futures_util::StreamExt as _;
/// use tidewire_eventstore::{
///     Append, EventStore, EventType, ExpectedRevision, GlobalPosition, MemoryStore, NewEvent,
///     StreamName, TailConfig, Target, follow,
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = Arc::new(MemoryStore::new());
/// let mut orders = follow(
///     store.clone(),
///     Target::Category("order".parse()?),
///     Vec::new(),
///     GlobalPosition::START,
///     TailConfig::default(),
/// );
/// let placed = NewEvent::json(EventType::new("OrderPlaced")?, r#"{"total": 12}"#);
/// let append = Append {
///     stream: StreamName::new("order-42")?,
///     expected: ExpectedRevision::NoStream,
///     events: vec![placed],
/// };
/// store.append(append)?.await?;
/// let event = orders.next().await.expect("the stream never ends");
/// assert_eq!(event.event_type.as_str(), "OrderPlaced");
/// # Ok(())
/// # }
/// ```
pub fn follow(
    store: Arc<dyn EventStore>,
    target: Target,
    types: Vec<EventType>,
    after: GlobalPosition,
    config: TailConfig,
) -> impl Stream<Item = RecordedEvent> + Send + Unpin + use<> {
    let reading = Source::Pages { after, pause: config.backoff_min };
    let follower = Follower {
        store,
        target,
        types,
        config,
        epochs: None,
        source: reading,
        ready: VecDeque::new(),
    };
    Box::pin(stream::unfold(follower, |mut follower| async move {
        let event = follower.next().await;
        Some((event, follower))
    }))
}

struct Follower {
    store: Arc<dyn EventStore>,
    target: Target,
    types: Vec<EventType>,
    config: TailConfig,
    /// The log's epochs before the first page was read.
    epochs: Option<Arc<[LogEpoch]>>,
    source: Source,
    /// Events that match and wait to be taken.
    ready: VecDeque<RecordedEvent>,
}

/// Where the next events come from.
enum Source {
    /// Pages of the target, the next one after this position; the pause after a failure.
    Pages { after: GlobalPosition, pause: Duration },
    /// The whole log, live.
    Live(Box<LogTail>),
}

impl Follower {
    async fn next(&mut self) -> RecordedEvent {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return event;
            }
            match &mut self.source {
                Source::Live(tail) => {
                    let batch = tail.next().await;
                    let matching = batch.events.iter().filter(|event| {
                        !event.is_removed()
                            && self.target.includes(&event.stream)
                            && (self.types.is_empty() || self.types.contains(&event.event_type))
                    });
                    self.ready.extend(matching.cloned());
                }
                Source::Pages { after, pause } => {
                    let (after, pause) = (*after, *pause);
                    self.source = self.read(after, pause).await;
                }
            }
        }
    }

    /// Reads a page after `after`, and says where to go on.
    async fn read(&mut self, after: GlobalPosition, pause: Duration) -> Source {
        match self.try_read(after).await {
            Ok(source) => source,
            Err(error) => {
                tracing::warn!(%error, after = after.get(), "cannot read the log");
                tokio::time::sleep(pause).await;
                Source::Pages { after, pause: (pause * 2).min(self.config.backoff_max) }
            }
        }
    }

    async fn try_read(&mut self, after: GlobalPosition) -> Result<Source, ReadError> {
        if self.epochs.is_none() {
            self.epochs = Some(self.store.head().await?.epochs);
        }
        let read = Read {
            types: self.types.clone(),
            ..Read::after(self.target.clone(), after, self.config.page_limit)
        };
        let page = self.store.read(read).await?;
        let last = page.events.last().map_or(after, |event| event.position);
        self.ready.extend(page.events.into_iter().filter(|event| !event.is_removed()));
        if page.more {
            return Ok(Source::Pages { after: last, pause: self.config.backoff_min });
        }
        let (store, epochs) = (Arc::clone(&self.store), self.epochs.clone());
        let tail = LogTail::knowing(store, last.max(page.head), epochs, self.config.clone());
        Ok(Source::Live(Box::new(tail)))
    }
}
