//! One worker: an Actix arbiter with its groups, its catch-up pages and its sessions.
//!
//! Nothing in it is shared between threads. A worker comes to be when its thread takes its first
//! WebSocket; from then on the broadcaster knows it.

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Instant,
};

use actix::{Actor, Addr};
use slab::Slab;
use tidewire_eventstore::{GlobalPosition, ReadError, Removals};
use tidewire_projections::Watched;
use tidewire_protocol::{Epoch, session::Moment};
use tokio::task::{AbortHandle, JoinSet};

use crate::{
    Config,
    broadcaster::Join,
    catch_up::{CatchUpPage, PageKey, Query},
    dispatcher::{Dispatcher, Drain},
    group::{GroupKey, Hub, Seat},
    live::{LiveHub, LiveKey, Seat as LiveSeat, Unread, Wanting},
    log_view::{LogView, Purge},
    metrics::WorkerMetrics,
    node::Node,
    pages::{EncodedPage, PageShelf, PageSlot},
    session_cell::SessionCell,
    turns::Turns,
};

thread_local! {
    /// The workers of this thread: one for each Tidewire that the process embeds.
    static WORKERS: RefCell<HashMap<*const Node, Rc<Worker>>> = RefCell::default();
}

/// One worker's state.
pub(crate) struct Worker {
    node: Arc<Node>,
    /// The epochs of the log's life that the groups are in.
    epochs: RefCell<Arc<[Epoch]>>,
    /// What was removed from the log.
    removals: Cell<Removals>,
    pub(crate) metrics: Arc<WorkerMetrics>,
    pub(crate) hub: RefCell<Hub<SessionCell>>,
    pub(crate) live: RefCell<LiveHub<SessionCell>>,
    shelf: RefCell<PageShelf<SessionCell>>,
    sessions: RefCell<Slab<Rc<SessionCell>>>,
    pub(crate) turns: Rc<Turns<SessionCell>>,
    /// The page reads that this worker waits for. They end with the worker.
    page_reads: RefCell<JoinSet<()>>,
    /// The same for live queries.
    live_reads: RefCell<JoinSet<()>>,
    /// Takes what the worker is told.
    dispatcher: OnceCell<Addr<Dispatcher>>,
}

impl Worker {
    /// This thread's worker for `node`.
    pub(crate) fn current(node: &Arc<Node>) -> Rc<Self> {
        if let Some(worker) =
            WORKERS.with_borrow(|workers| workers.get(&Arc::as_ptr(node)).cloned())
        {
            return worker;
        }
        let metrics = node.metrics.worker();
        let log_bytes_max = node.config.shared_log_bytes_max;
        let log = node.log.get();
        let mut hub = Hub::new(log.generation, log.head, log_bytes_max, metrics.clone());
        hub.purge(log.purge);
        let worker = Rc::new(Self {
            node: node.clone(),
            epochs: RefCell::new(log.epochs),
            removals: Cell::new(log.removals),
            hub: RefCell::new(hub),
            live: RefCell::new(LiveHub::new(node.config.live_log_bytes_max, metrics.clone())),
            shelf: RefCell::new(PageShelf::new(
                node.config.encoded_page_bytes_max,
                metrics.clone(),
            )),
            turns: Turns::new(metrics.clone()),
            metrics,
            sessions: RefCell::default(),
            page_reads: RefCell::default(),
            live_reads: RefCell::default(),
            dispatcher: OnceCell::new(),
        });
        WORKERS.with_borrow_mut(|workers| {
            workers.insert(Arc::as_ptr(node), worker.clone());
        });
        let dispatcher = Dispatcher::new(worker.clone()).start();
        worker.dispatcher.set(dispatcher.clone()).expect("it is set here only");
        node.add_dispatcher(dispatcher.clone());
        if node.is_draining() {
            // The drain may have listed the workers just before.
            dispatcher.do_send(Drain { spread: node.config.drain_spread });
        }
        // Once a worker, and it must arrive: past the mailbox's bound.
        node.broadcaster.do_send(Join(dispatcher));
        worker
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.node
    }

    pub(crate) fn config(&self) -> &Config {
        &self.node.config
    }

    /// The log's epochs, oldest first. They are of the same life as the groups: a session that
    /// knows them cannot be given anything of another.
    pub(crate) fn epochs(&self) -> Arc<[Epoch]> {
        self.epochs.borrow().clone()
    }

    /// Learns what the log is like. In another life of it everything begins anew: the sessions are
    /// told, their feeds end, and nothing is left of what was encoded or read.
    pub(crate) fn told(&self, log: &LogView) {
        self.removals.set(log.removals);
        self.purge(log.purge);
        if self.hub.borrow().generation() == log.generation {
            self.hub.borrow_mut().skip_to(log.head);
            return;
        }
        self.epochs.replace(log.epochs.clone());
        for session in self.sessions() {
            session.begin_epoch(log.epochs.clone());
        }
        self.page_reads.borrow_mut().abort_all();
        self.shelf.borrow_mut().clear();
        self.hub.borrow_mut().begin_anew(log.generation, log.head);
    }

    /// Throws away what was kept of events that were erased or removed meanwhile. Readers that have
    /// not got past them go on from the store.
    pub(crate) fn purge(&self, purge: Purge) {
        if self.hub.borrow_mut().purge(purge) {
            self.shelf.borrow_mut().clear();
        }
    }

    /// What was removed from the log, as far as this worker knows.
    pub(crate) fn removals(&self) -> Removals {
        self.removals.get()
    }

    /// The present, as the worker's sessions are told it.
    pub(crate) fn moment(&self, now: Instant) -> Moment {
        Moment { now, head: self.hub.borrow().last(), removed: self.removals.get().through }
    }

    /// Takes a session in; the key takes it out again.
    pub(crate) fn enter(&self, session: Rc<SessionCell>) -> usize {
        self.metrics.sessions.fetch_add(1, Relaxed);
        self.metrics.sessions_total.fetch_add(1, Relaxed);
        self.sessions.borrow_mut().insert(session)
    }

    /// Lets a session go.
    pub(crate) fn leave(&self, key: usize) {
        self.metrics.sessions.fetch_sub(1, Relaxed);
        self.sessions.borrow_mut().remove(key);
    }

    /// The sessions of this worker.
    pub(crate) fn sessions(&self) -> Vec<Rc<SessionCell>> {
        self.sessions.borrow().iter().map(|(_, session)| session.clone()).collect()
    }

    /// The page in which a reader of a group goes on after `position`; `exact` where the page has
    /// to begin right there. The reader is woken when it has come.
    pub(crate) fn page(
        self: &Rc<Self>,
        reader: &Rc<SessionCell>,
        group: &GroupKey,
        seat: Seat,
        position: GlobalPosition,
        exact: bool,
    ) -> Rc<PageSlot<SessionCell>> {
        let (query, serial) = self.hub.borrow().query(seat);
        let mut key = if exact {
            PageKey::exactly(query, position)
        } else {
            PageKey::containing(query, position)
        };
        let shelf_key = (serial, key.after);
        let leads_on =
            |scanned| scanned > position && self.hub.borrow_mut().attach(seat, scanned).is_some();
        let (slot, first) = self.shelf.borrow_mut().ask(shelf_key, reader, leads_on);
        if first {
            let (worker, group, filled) = (Rc::downgrade(self), group.clone(), slot.clone());
            let catch_up = self.node.catch_up.clone();
            let mut reads = self.page_reads.borrow_mut();
            while reads.try_join_next().is_some() {}
            slot.filled_by(reads.spawn_local(async move {
                loop {
                    let raw = catch_up.page(key.clone()).await;
                    let Some(worker) = worker.upgrade() else { return };
                    let purges = worker.hub.borrow().purges();
                    if raw.is_err() || purges == key.query.purges {
                        let page = raw.and_then(|raw| encoded(&group, raw));
                        worker.shelf.borrow_mut().arrived(&filled, page);
                        return;
                    }
                    // It may hold what was erased while it was read.
                    key.query = Arc::new(Query { purges, ..(*key.query).clone() });
                }
            }));
        }
        slot
    }

    /// The last position of the log that the worker has looked at.
    pub(crate) fn head(&self) -> GlobalPosition {
        self.hub.borrow().last()
    }

    /// Seats a session in the group of a live query.
    pub(crate) fn join_live(
        &self,
        session: &Rc<SessionCell>,
        watched: &Watched,
        key: LiveKey,
    ) -> LiveSeat {
        let (seat, follows) = self.live.borrow_mut().join(key, session.clone());
        if follows {
            let dispatcher = self.dispatcher.get().expect("the worker has begun");
            self.node.live.follow(watched, dispatcher.clone());
        }
        seat
    }

    /// Gives up a seat in the group of a live query.
    pub(crate) fn leave_live(&self, seat: LiveSeat) {
        let ended = self.live.borrow_mut().leave(seat);
        if let (Some(name), Some(dispatcher)) = (ended, self.dispatcher.get()) {
            self.node.live.unfollow(&name, dispatcher);
        }
    }

    /// Reads what windows are to be filled with.
    pub(crate) fn fill_windows(self: &Rc<Self>, wanting: Vec<Wanting>) {
        for wanting in wanting {
            let read = self
                .node
                .live
                .watched(&wanting.query.projection)
                .map(|watched| self.node.live.reads.window(&watched, &wanting.query));
            let worker = Rc::downgrade(self);
            self.await_live(async move {
                let read = match read {
                    Ok(read) => read.await.map_err(Unread::into_body),
                    Err(error) => Err(error),
                };
                let Some(worker) = worker.upgrade() else { return };
                let wanting = worker.live.borrow_mut().filled(&wanting, &read);
                worker.fill_windows(wanting);
            });
        }
    }

    /// Waits for something that is read for live queries, for as long as the worker lives.
    pub(crate) fn await_live(&self, waits: impl Future<Output = ()> + 'static) -> AbortHandle {
        let mut reads = self.live_reads.borrow_mut();
        while reads.try_join_next().is_some() {}
        reads.spawn_local(waits)
    }

    /// A reader waits for a page no more.
    pub(crate) fn give_up(&self, reader: &Rc<SessionCell>, slot: &Rc<PageSlot<SessionCell>>) {
        self.shelf.borrow_mut().leave(slot, reader);
    }
}

/// Encodes a page for a group. A panic is our bug, but those who wait must hear of it.
fn encoded(group: &GroupKey, raw: Arc<CatchUpPage>) -> Result<Rc<EncodedPage>, ReadError> {
    catch_unwind(AssertUnwindSafe(|| Rc::new(EncodedPage::new(group, raw)))).map_err(|_| {
        tracing::error!("encoding a page died");
        let reason = "encoding it failed; the log of the server says more".into();
        ReadError::Corrupt { reason }
    })
}
