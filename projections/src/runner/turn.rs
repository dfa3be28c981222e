//! [`Turn`]: who may move the active generation. Its lane takes the turn for each commit; the lane
//! of a rebuild takes it for the swap, so that the active generation stands still meanwhile.

use std::sync::Arc;

use tidewire_eventstore::Generation;
use tokio::sync::{Mutex, Notify, OwnedMutexGuard};

/// Guards which generation is the active one.
#[derive(Debug, Clone)]
pub(super) struct Turn {
    active: Arc<Mutex<Generation>>,
    swapped: Arc<Notify>,
}

/// The turn, as long as it is kept.
pub(super) type Guard = OwnedMutexGuard<Generation>;

impl Turn {
    pub(super) fn new(active: Generation) -> Self {
        Self { active: Arc::new(Mutex::new(active)), swapped: Arc::new(Notify::new()) }
    }

    /// Waits for the turn. First come, first served.
    pub(super) async fn take(&self) -> Guard {
        Arc::clone(&self.active).lock_owned().await
    }

    /// Says that another generation is the active one from now on.
    pub(super) fn swap(&self, guard: &mut Guard, generation: Generation) {
        **guard = generation;
        self.swapped.notify_one();
    }

    /// Says which generation is the active one, once whoever has the turn has given it back.
    pub(super) async fn appoint(&self, generation: Generation) {
        *self.active.lock().await = generation;
    }

    /// Resolves once after each swap.
    pub(super) async fn swapped(&self) {
        self.swapped.notified().await;
    }
}
