//! [`Committing`]: one transaction of a lane on its way to the store, while the lane projects on.

use std::sync::Arc;

use tidewire_eventstore::GlobalPosition;

use super::{task::Task, turn::Guard};
use crate::{DocumentStore, StoreError, documents::Commit, feed::ChangeBatch, hub::Counters};

/// A commit on its way.
pub(super) struct Committing {
    task: Task<Result<(), StoreError>>,
    /// What is told once it is there.
    done: Done,
    /// Kept for as long as it is on its way.
    _turn: Option<Guard>,
}

/// What a commit did.
pub(super) struct Done {
    /// For whoever follows.
    pub(super) batch: ChangeBatch,
    /// Events that it put aside.
    pub(super) parked: u64,
    /// Events that it took, those that did not concern the projection among them.
    pub(super) events: usize,
    /// The last of them.
    pub(super) last: GlobalPosition,
    /// Documents that it wrote.
    pub(super) writes: usize,
}

/// A commit that the store did not take.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) error: StoreError,
    /// How many events it was about, and the position of the last one.
    pub(super) events: usize,
    pub(super) position: GlobalPosition,
}

impl Committing {
    pub(super) fn begin(
        documents: &Arc<dyn DocumentStore>,
        commit: Commit,
        done: Done,
        turn: Option<Guard>,
    ) -> Self {
        let documents = Arc::clone(documents);
        let task = Task::spawn(async move { documents.commit(commit).await });
        Self { task, done, _turn: turn }
    }

    /// Waits for what becomes of it, and says how many events it was about; `told` is called while
    /// the turn is still kept.
    pub(super) async fn end(mut self, told: impl FnOnce(Done)) -> Result<usize, Failed> {
        match self.task.join().await.unwrap_or(Err(StoreError::Unavailable)) {
            Ok(()) => {
                let events = self.done.events;
                told(self.done);
                Ok(events)
            }
            Err(error) => {
                let Done { events, last, .. } = self.done;
                Err(Failed { error, events, position: last })
            }
        }
    }
}

impl Done {
    pub(super) fn count(&self, counters: &Counters) {
        Counters::add(&counters.commits, 1);
        Counters::add(&counters.events, self.events as u64);
        Counters::add(&counters.writes, self.writes as u64);
    }
}
