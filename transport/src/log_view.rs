//! What this node knows of the log: which life of it, how far it goes, what epochs it has, and what
//! was removed from it.
//!
//! The [broadcaster](crate::broadcaster) alone changes it. It tells the workers in the order of the
//! log's events; whoever else wants to know looks at the [`SharedView`].

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tidewire_eventstore::{GlobalPosition, LogEpoch, LogHead, Removals};
use tidewire_protocol::Epoch;

/// Counts the lives of the log that this node has seen: it rises whenever the log's epochs change.
/// What was read in one life says nothing about another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Generation(u64);

/// What was kept of the log's events has to be thrown away, again and again: after each erasure, and
/// after events were removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Purge {
    /// How often: it rises. What was read before the last time is of no use any more.
    pub(crate) count: u64,
    /// Frames of events up to and including this position are stale; later ones are not.
    pub(crate) through: GlobalPosition,
}

impl Purge {
    /// The next one.
    fn next(self, through: GlobalPosition) -> Self {
        Self { count: self.count + 1, through: self.through.max(through) }
    }
}

/// The log at one moment.
#[derive(Debug, Clone)]
pub(crate) struct LogView {
    pub(crate) generation: Generation,
    /// The last position that was passed on in this life.
    pub(crate) head: GlobalPosition,
    /// Oldest first.
    pub(crate) epochs: Arc<[Epoch]>,
    pub(crate) removals: Removals,
    pub(crate) purge: Purge,
}

impl LogView {
    /// The log as it was found at the start.
    pub(crate) fn first(head: &LogHead) -> Self {
        Self {
            generation: Generation::default(),
            head: head.position,
            epochs: on_the_wire(&head.epochs),
            removals: head.removals,
            purge: Purge::default(),
        }
    }

    /// The next life, in which everything up to `head` was passed on.
    pub(crate) fn next(&self, head: GlobalPosition, epochs: &[LogEpoch]) -> Self {
        let generation = Generation(self.generation.0 + 1);
        Self { generation, head, epochs: on_the_wire(epochs), ..self.clone() }
    }

    /// Learns that the payload of the event at `position` was erased.
    pub(crate) fn erased(&mut self, position: GlobalPosition) {
        self.purge = self.purge.next(position);
    }

    /// Learns what was removed. Returns whether that is news.
    pub(crate) fn removed(&mut self, removals: Removals) -> bool {
        let is_news = removals != self.removals;
        if is_news {
            self.removals = removals;
            self.purge = self.purge.next(removals.through);
        }
        is_news
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
    /// Everything but the head.
    rest: Mutex<LogView>,
    following: AtomicBool,
}

impl SharedView {
    pub(crate) fn new(view: &LogView) -> Self {
        Self {
            head: AtomicU64::new(view.head.get()),
            rest: Mutex::new(view.clone()),
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
        let rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner).clone();
        LogView { head: self.head(), ..rest }
    }

    /// Notes that everything up to `head` was passed on.
    pub(crate) fn advance(&self, head: GlobalPosition) {
        self.head.store(head.get(), Ordering::Release);
    }

    /// Notes that the log begins another life, or that something was removed.
    pub(crate) fn replace(&self, view: &LogView) {
        // In this order: see `get`.
        self.advance(view.head);
        *self.rest.lock().unwrap_or_else(PoisonError::into_inner) = view.clone();
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
