//! Turns by key: of the commands of one name and key, one at a time on this node.
//!
//! Whoever comes second waits, and then finds what the first recorded.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tidewire_eventstore::{CommandKey, CommandName};
use tokio::sync::OwnedMutexGuard;

type Id = (CommandName, CommandKey);

/// The commands that run or wait for one of their kind. Holds a key only while somebody does.
#[derive(Debug, Default)]
pub(super) struct Keys {
    held: Mutex<HashMap<Id, Held>>,
}

#[derive(Debug)]
struct Held {
    turn: Arc<tokio::sync::Mutex<()>>,
    /// How many run or wait.
    tickets: usize,
}

/// A command's turn; the next of its kind has its own when this is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    // In this order: the turn is given up before the ticket, which may forget the key.
    _turn: OwnedMutexGuard<()>,
    _ticket: Ticket,
}

/// Somebody's interest in a key, whether it is its turn or not.
#[derive(Debug)]
struct Ticket {
    keys: Arc<Keys>,
    id: Id,
}

impl Keys {
    /// Waits for the turn of a command. Dropping the future gives up waiting.
    pub(super) async fn turn(self: &Arc<Self>, name: &CommandName, key: &CommandKey) -> Turn {
        let id = (name.clone(), key.clone());
        let turn = {
            let mut held = self.lock();
            let held =
                held.entry(id.clone()).or_insert_with(|| Held { turn: Arc::default(), tickets: 0 });
            held.tickets += 1;
            held.turn.clone()
        };
        let ticket = Ticket { keys: self.clone(), id };
        Turn { _turn: turn.lock_owned().await, _ticket: ticket }
    }

    /// How many keys are held.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Every change under the lock is whole before anything can panic.
    fn lock(&self) -> MutexGuard<'_, HashMap<Id, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut all = self.keys.lock();
        if let Some(held) = all.get_mut(&self.id) {
            held.tickets -= 1;
            if held.tickets == 0 {
                all.remove(&self.id);
            }
        }
    }
}
