//! A reader: its orders, its journal, and the two ways in which it reads.

mod by_client;
mod by_hand;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinHandle},
};

pub(crate) use by_client::config;

use crate::{
    audience::Audience,
    content::Seen,
    interest::Interest,
    journal::{Journal, Novelty},
    ledger::Ledger,
    log::Log,
    random::Random,
};

/// How long a single event may take to a reader while all is quiet.
pub(crate) const PROBE: Duration = Duration::from_secs(3);

/// What a client is told to do by who injects faults.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Order {
    /// Read nothing for a while.
    Freeze(Duration),
    /// Drop the socket, and forget everything but what was recorded durably.
    Crash,
    /// Take the consumer over, where this is not the member that has it.
    TakeOver,
}

/// A reader that works. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Reader {
    state: Arc<State>,
    orders: mpsc::Sender<Order>,
    task: AbortHandle,
}

/// What outlives a crash of the reader.
#[derive(Debug)]
struct State {
    name: String,
    interest: Interest,
    journal: Mutex<Journal>,
    ledger: Arc<Ledger>,
}

/// How a reader reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// With our client.
    Client,
    /// With a socket and JSON.
    Hand,
}

impl Reader {
    /// Begins to read from the log's beginning, by way of `address`.
    pub(crate) fn start(
        address: SocketAddr,
        way: Way,
        interest: Interest,
        ledger: Arc<Ledger>,
        seed: u64,
    ) -> Self {
        let by = match way {
            Way::Client => "client",
            Way::Hand => "hand",
        };
        let name = format!("reader of {} by {by}", interest.name());
        let random = Random::new(seed, &name);
        let journal = Mutex::new(Journal::new(interest));
        let state = Arc::new(State { name, interest, journal, ledger });
        let (orders, received) = mpsc::channel(4);
        let task: JoinHandle<()> = match way {
            Way::Client => {
                tokio::spawn(by_client::read(Arc::clone(&state), address, received, random))
            }
            Way::Hand => tokio::spawn(by_hand::read(Arc::clone(&state), address, received, random)),
        };
        Self { state, orders, task: task.abort_handle() }
    }

    /// Gives an order; false if the reader has not carried out enough of the earlier ones.
    pub(crate) fn order(&self, order: Order) -> bool {
        self.orders.try_send(order).is_ok()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl State {
    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a delivery.
    fn see(&self, event: &Seen) {
        let seen = self.journal().see(event);
        let counts = &self.ledger.counts;
        match seen {
            Ok(Novelty::New) => counts.read.fetch_add(1, Relaxed),
            Ok(Novelty::Repeated) => counts.repeated.fetch_add(1, Relaxed),
            Err(wrong) => {
                self.violation(&wrong);
                0
            }
        };
    }

    fn violation(&self, what: &str) {
        self.ledger.violation(format!("the {} {what}", self.name));
    }
}

impl Audience for Reader {
    fn name(&self) -> &str {
        &self.state.name
    }

    fn patience(&self) -> Duration {
        PROBE
    }

    fn is_complete(&self, log: &Log) -> bool {
        self.state.journal().is_complete(log)
    }

    fn has(&self, position: u64) -> bool {
        self.state.journal().has(position)
    }

    fn check(&self, log: &Log) -> Option<String> {
        self.state.journal().check(log)
    }
}
