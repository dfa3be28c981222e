//! What this node knows of the log: which life of it, how far it goes, and what epochs it has.
//!
//! The [broadcaster](crate::broadcaster) alone changes it. It tells the workers in the order of the
//! log's events; whoever else wants to know looks at the [`SharedView`].

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tidewire_eventstore::{GlobalPosition, LogEpoch};
use tidewire_protocol::Epoch;

/// Counts the lives of the log that this node has seen: it rises whenever the log's epochs change.
/// What was read in one life says nothing about another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Generation(u64);

/// The log at one moment.
#[derive(Debug, Clone)]
pub(crate) struct LogView {
    pub(crate) generation: Generation,
    /// The last position that was passed on in this life.
    pub(crate) head: GlobalPosition,
    /// Oldest first.
    pub(crate) epochs: Arc<[Epoch]>,
}

impl LogView {
    /// The log as it was found at the start.
    pub(crate) fn first(head: GlobalPosition, epochs: &[LogEpoch]) -> Self {
        Self { generation: Generation::default(), head, epochs: on_the_wire(epochs) }
    }

    /// The next life, in which everything up to `head` was passed on.
    pub(crate) fn next(&self, head: GlobalPosition, epochs: &[LogEpoch]) -> Self {
        let generation = Generation(self.generation.0 + 1);
        Self { generation, head, epochs: on_the_wire(epochs) }
    }
}

/// The log's epochs as the protocol knows them.
fn on_the_wire(epochs: &[LogEpoch]) -> Arc<[Epoch]> {
    let wire =
        |epoch: &LogEpoch| Epoch { epoch: epoch.epoch, first_position: epoch.first_position };
    epochs.iter().map(wire).collect()
}

/// The view for all threads.
#[derive(Debug)]
pub(crate) struct SharedView {
    head: AtomicU64,
    life: Mutex<(Generation, Arc<[Epoch]>)>,
    following: AtomicBool,
}

impl SharedView {
    pub(crate) fn new(view: &LogView) -> Self {
        Self {
            head: AtomicU64::new(view.head.get()),
            life: Mutex::new((view.generation, view.epochs.clone())),
            following: AtomicBool::new(true),
        }
    }

    /// The last position that was passed on.
    pub(crate) fn head(&self) -> GlobalPosition {
        GlobalPosition::new(self.head.load(Ordering::Acquire))
    }

    /// The epochs, oldest first.
    pub(crate) fn epochs(&self) -> Arc<[Epoch]> {
        self.get().epochs
    }

    /// The view. Its head is never that of an earlier life.
    pub(crate) fn get(&self) -> LogView {
        let (generation, epochs) = self.life.lock().unwrap_or_else(PoisonError::into_inner).clone();
        LogView { generation, head: self.head(), epochs }
    }

    /// Notes that everything up to `head` was passed on.
    pub(crate) fn advance(&self, head: GlobalPosition) {
        self.head.store(head.get(), Ordering::Release);
    }

    /// Notes that the log begins another life.
    pub(crate) fn begin(&self, view: &LogView) {
        // In this order: see `get`.
        self.advance(view.head);
        *self.life.lock().unwrap_or_else(PoisonError::into_inner) =
            (view.generation, view.epochs.clone());
    }

    /// Whether anybody still follows the log.
    pub(crate) fn is_following(&self) -> bool {
        self.following.load(Ordering::Acquire)
    }

    /// Notes that nobody follows the log any more; whether anybody did.
    pub(crate) fn stop_following(&self) -> bool {
        self.following.swap(false, Ordering::AcqRel)
    }
}
