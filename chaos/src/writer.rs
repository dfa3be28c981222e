//! Writers: they append with client-made ids, through everything, and note what they were told.
//!
//! Three kinds: by our client's outbox, several appends on their way at once; over HTTP, where the
//! same append is sent again until it is answered; and rivals over HTTP, who demand a revision of
//! a stream that others write to as well, so that most of what they try is refused.

mod by_client;
mod by_http;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use tokio::{
    sync::{mpsc, watch},
    task::AbortHandle,
};

use crate::{content::New, ledger::Ledger, random::Random, reader::Order};

/// Streams of the category that most readers read.
const STREAMS: u64 = 12;
/// Streams that only few readers read.
const OTHER_STREAMS: u64 = 4;

/// How a writer writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// With our client.
    Client,
    /// Over HTTP, each append until it is answered.
    Http,
    /// Over HTTP, to one stream that others write to, demanding a revision.
    Rival,
}

/// A writer that works. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) name: String,
    /// Whether something of it is not settled.
    busy: Arc<AtomicBool>,
    orders: mpsc::Sender<Order>,
    task: AbortHandle,
}

/// What a writer works with.
struct Desk {
    name: String,
    address: SocketAddr,
    ledger: Arc<Ledger>,
    random: Random,
    busy: Arc<AtomicBool>,
    /// While it is true, nothing new is begun.
    paused: watch::Receiver<bool>,
    orders: mpsc::Receiver<Order>,
    /// Appends begun so far.
    number: u64,
    /// The revision of the rivals' stream that was last heard of, plus one.
    rivalled: Arc<AtomicU64>,
}

/// What all writers of a world share.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub(crate) address: SocketAddr,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) paused: watch::Receiver<bool>,
    pub(crate) rivalled: Arc<AtomicU64>,
    pub(crate) seed: u64,
}

impl Writer {
    /// Begins to write.
    pub(crate) fn start(shared: &Shared, kind: Kind, index: usize) -> Self {
        let name = match kind {
            Kind::Client => format!("client-{index}"),
            Kind::Http => format!("http-{index}"),
            Kind::Rival => format!("rival-{index}"),
        };
        let busy = Arc::new(AtomicBool::new(true));
        let (orders, received) = mpsc::channel(4);
        let Shared { address, ledger, paused, rivalled, seed } = shared.clone();
        let desk = Desk {
            random: Random::new(seed, &name),
            name: name.clone(),
            address,
            ledger,
            busy: Arc::clone(&busy),
            paused,
            orders: received,
            number: 0,
            rivalled,
        };
        let task = match kind {
            Kind::Client => tokio::spawn(by_client::write(desk)),
            Kind::Http => tokio::spawn(by_http::write(desk)),
            Kind::Rival => tokio::spawn(by_http::rival(desk)),
        };
        Self { name, busy, orders, task: task.abort_handle() }
    }

    /// Whether something of it is not settled.
    pub(crate) fn is_busy(&self) -> bool {
        self.busy.load(Relaxed)
    }

    /// Gives an order; false if the writer has not carried out enough of the earlier ones.
    pub(crate) fn order(&self, order: Order) -> bool {
        self.orders.try_send(order).is_ok()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Desk {
    /// Something to append, and to which stream.
    fn next(&mut self) -> (String, Vec<New>) {
        let random = &mut self.random;
        let stream = if random.once_in(5) {
            format!("other-{}", random.range(0..OTHER_STREAMS))
        } else {
            format!("order-{}", random.range(0..STREAMS))
        };
        (stream, self.events())
    }

    fn events(&mut self) -> Vec<New> {
        self.number += 1;
        let count = if self.random.once_in(40) { 40 } else { 1 + self.random.index(3) };
        (0..count)
            .map(|part| New::random(&mut self.random, &self.name, self.number, part))
            .collect()
    }

    /// Waits until something new may be begun.
    async fn may_begin(&mut self) {
        while *self.paused.borrow_and_update() {
            self.busy.store(false, Relaxed);
            if self.paused.changed().await.is_err() {
                // The world has ended.
                std::future::pending::<()>().await;
            }
        }
        self.busy.store(true, Relaxed);
    }
}
