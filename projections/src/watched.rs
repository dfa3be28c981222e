//! [`Watched`]: one projection as it can be read, followed and asked for on this node, whichever
//! node runs it.

use std::{fmt, sync::Arc, time::Duration};

use tidewire_eventstore::{GlobalPosition, Read, ReadError};
use tidewire_protocol::query::Reached;
use tokio::{
    sync::broadcast,
    time::{Instant, timeout_at},
};

use crate::{
    DocumentStore, ProjectionState, ProjectionStatus, StoreError,
    definition::Definition,
    documents::Wish,
    feed::FeedNews,
    hub::{Hub, age_of},
    status::{Lag, Progress},
};

/// One projection on this node, whoever owns it.
#[derive(Clone)]
pub struct Watched(Arc<Hub>);

/// Why a wait ended before the projection was there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The time was up.
    #[error("the projection is at {}, and the time is up", .reached.position)]
    Timeout {
        /// How far it was.
        reached: Reached,
    },
    /// The projection goes no further.
    #[error("the projection goes no further: {reason}")]
    Stopped {
        /// Why, for people.
        reason: String,
    },
    /// The node is closing.
    #[error("the node is closing")]
    Closed,
}

impl WaitError {
    /// The stable code of this error, as it appears on the wire.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Timeout { .. } => "wait_timeout",
            Self::Stopped { .. } | Self::Closed => "projection_unavailable",
        }
    }
}

impl Watched {
    pub(crate) fn new(hub: Arc<Hub>) -> Self {
        Self(hub)
    }

    /// What it is.
    pub fn definition(&self) -> &Arc<Definition> {
        &self.0.definition
    }

    /// Where its documents are.
    pub fn documents(&self) -> &Arc<dyn DocumentStore> {
        &self.0.documents
    }

    /// How far its documents have come, as far as this node knows: at least so far.
    pub fn reached(&self) -> Reached {
        self.0.known().reached()
    }

    /// Changes after this position are told in full by [`DocumentStore::changes`]; whoever
    /// remembers an earlier one needs a fresh state. As far as this node knows: a page of changes
    /// says whether it is complete.
    pub fn changes_from(&self) -> GlobalPosition {
        self.0.known().status.active.changes_from
    }

    /// Waits until the documents hold everything through `position`: what a page has that is read
    /// afterwards includes it.
    ///
    /// # Errors
    ///
    /// [`WaitError::Timeout`]; [`WaitError::Stopped`] at once where the projection goes no
    /// further; [`WaitError::Closed`].
    pub async fn wait(
        &self,
        position: GlobalPosition,
        timeout: Duration,
    ) -> Result<Reached, WaitError> {
        let deadline = Instant::now() + timeout;
        let mut known = self.0.watch();
        let _waiting = self.0.begin_wait();
        loop {
            {
                let known = known.borrow_and_update();
                let reached = known.reached();
                if reached.position >= position {
                    return Ok(reached);
                }
                if let Some(stopped) = &known.status.active.stopped {
                    return Err(WaitError::Stopped { reason: stopped.reason.clone() });
                }
                if known.closed {
                    return Err(WaitError::Closed);
                }
            }
            match timeout_at(deadline, known.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(WaitError::Closed),
                Err(_) => return Err(WaitError::Timeout { reached: self.reached() }),
            }
        }
    }

    /// Follows what becomes of the documents from now on. Begin to follow first, then read: what
    /// is read may be ahead of the first news, which say where they go on from.
    ///
    /// A receiver that lags, or finds that a batch does not go on from where it is, reads
    /// [`DocumentStore::changes`] after the position that it has reached. The same follows from a
    /// batch without changes whose `after` is its `position`: it says that the documents have
    /// changed, not how. After [`FeedNews::Swapped`] everything is to be read anew, even where the
    /// generation is the same: then the log went back.
    pub fn follow(&self) -> broadcast::Receiver<FeedNews> {
        self.0.follow()
    }

    /// Everything about it, as the database has it now.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] while the database is away; [`StoreError::Unknown`] where the
    /// projection was forgotten meanwhile.
    pub async fn status(&self) -> Result<ProjectionStatus, StoreError> {
        let hub = &self.0;
        let status = hub.documents.status(hub.name()).await?.ok_or(StoreError::Unknown)?;
        let checkpoint = status.active.checkpoint;
        let read = Read {
            types: hub.definition.types.clone(),
            ..Read::after(hub.definition.target.clone(), checkpoint, 1)
        };
        let page = hub.log.read(read).await.map_err(unread)?;
        let (owned, pace) = {
            let known = hub.known();
            (known.owned, known.pace.events_per_second())
        };
        let version = hub.definition.version;
        Ok(ProjectionStatus {
            version,
            state: ProjectionState::of(&status, version),
            owned,
            head: page.head,
            lag: Lag {
                events: page.head.distance_from(checkpoint),
                age: page.events.first().map_or(Duration::ZERO, |event| age_of(event.recorded_at)),
            },
            progress: status
                .building
                .as_ref()
                .map(|building| Progress::of(building, page.head, pace)),
            status,
        })
    }

    /// Asks whichever node owns it to do something; that takes a second or two.
    ///
    /// # Errors
    ///
    /// As for [`DocumentStore::wish`].
    pub async fn wish(&self, wish: Wish) -> Result<(), StoreError> {
        self.0.documents.wish(self.0.name(), wish).await?;
        self.0.look.notify_one();
        Ok(())
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.definition().name.as_str();
        f.debug_struct("Watched").field("name", &name).field("reached", &self.reached()).finish()
    }
}

/// A read of the log that failed, in the words of the documents' store.
pub(crate) fn unread(error: ReadError) -> StoreError {
    match error {
        ReadError::Corrupt { reason } => StoreError::Corrupt { reason },
        ReadError::Refused { reason } => StoreError::Refused { reason },
        _ => StoreError::Unavailable,
    }
}
