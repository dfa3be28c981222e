//! Turns at catching up: a worker serves a few of the sessions that read history at a time, so
//! that thousands which return at once do not stand between it and everything else that it does —
//! appends, live events, pongs.
//!
//! A turn is [`WRITES_A_TURN`] writes to one socket. Turns are given in the order in which they were
//! asked for, [`TURNS_A_PASS`] in each pass of the worker's event loop. A socket that is full does
//! not ask, and so keeps nobody waiting. Sessions that began together go on together, over the same
//! pages.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use tokio::task::yield_now;

use crate::metrics::WorkerMetrics;

/// With the default size of a write, a pass is over within a millisecond.
const TURNS_A_PASS: usize = 4;

/// More than one, as going from session to session costs the processor's caches.
pub(crate) const WRITES_A_TURN: u32 = 4;

/// Who takes turns.
pub(crate) trait Waits: 'static {
    /// It is this one's turn. `false`: it has no use for one any more.
    fn turn(&self) -> bool;
}

/// The turns of one worker.
pub(crate) struct Turns<W> {
    /// What is left of this pass.
    left: Cell<usize>,
    queue: RefCell<VecDeque<Rc<W>>>,
    /// Whether passes are being counted: only while turns run out.
    passing: Cell<bool>,
    metrics: Arc<WorkerMetrics>,
}

impl<W: Waits> Turns<W> {
    pub(crate) fn new(metrics: Arc<WorkerMetrics>) -> Rc<Self> {
        Rc::new(Self {
            left: Cell::new(TURNS_A_PASS),
            queue: RefCell::default(),
            passing: Cell::new(false),
            metrics,
        })
    }

    /// A turn for `who`: at once, or by [`Waits::turn`] when everybody before has had theirs.
    pub(crate) fn ask(self: &Rc<Self>, who: &Rc<W>) -> bool {
        let mut queue = self.queue.borrow_mut();
        let at_once = queue.is_empty() && self.left.get() > 0;
        if at_once {
            self.left.set(self.left.get() - 1);
        } else {
            queue.push_back(who.clone());
            self.metrics.sessions_awaiting_turn.fetch_add(1, Relaxed);
        }
        if !self.passing.replace(true) {
            actix::spawn(Self::pass(self.clone()));
        }
        at_once
    }

    /// Gives turns, pass by pass, until a pass begins in which nobody waits.
    async fn pass(self: Rc<Self>) {
        loop {
            yield_now().await;
            let mut left = TURNS_A_PASS;
            while left > 0 {
                let Some(next) = self.queue.borrow_mut().pop_front() else { break };
                self.metrics.sessions_awaiting_turn.fetch_sub(1, Relaxed);
                left -= usize::from(next.turn());
            }
            self.left.set(left);
            if left == TURNS_A_PASS {
                self.passing.set(false);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Reader {
        number: usize,
        wanted: Cell<usize>,
        turns: Rc<Turns<Reader>>,
        served: Rc<RefCell<Vec<usize>>>,
    }

    impl Reader {
        fn read(self: &Rc<Self>) {
            while self.wanted.get() > 0 && self.turns.ask(self) {
                self.write();
            }
        }

        fn write(&self) {
            self.wanted.set(self.wanted.get() - 1);
            self.served.borrow_mut().push(self.number);
        }
    }

    impl Waits for Reader {
        fn turn(&self) -> bool {
            if self.wanted.get() == 0 {
                return false;
            }
            self.write();
            true
        }
    }

    fn readers(count: usize, wanted: usize) -> (Vec<Rc<Reader>>, Rc<RefCell<Vec<usize>>>) {
        let (turns, served) = (Turns::new(Arc::default()), Rc::default());
        let reader = |number| {
            let (turns, served) = (Rc::clone(&turns), Rc::clone(&served));
            Rc::new(Reader { number, wanted: Cell::new(wanted), turns, served })
        };
        ((0..count).map(reader).collect(), served)
    }

    #[actix_web::test]
    async fn a_pass_serves_few_in_the_order_in_which_they_asked() {
        let (readers, served) = readers(100, 1);
        for reader in &readers {
            reader.read();
        }
        assert_eq!(served.borrow().len(), TURNS_A_PASS, "the first come at once");
        let mut before = TURNS_A_PASS;
        while served.borrow().len() < readers.len() {
            yield_now().await;
            let now = served.borrow().len();
            assert!(now - before <= TURNS_A_PASS, "{} turns in one pass", now - before);
            before = now;
        }
        assert!(served.borrow().is_sorted());
    }

    #[actix_web::test]
    async fn who_has_no_use_for_a_turn_costs_nobody_theirs() {
        let (readers, served) = readers(3 * TURNS_A_PASS, 1);
        for reader in &readers {
            reader.read();
        }
        for reader in &readers[TURNS_A_PASS..2 * TURNS_A_PASS] {
            reader.wanted.set(0);
        }
        yield_now().await;
        yield_now().await;
        assert_eq!(served.borrow().len(), 2 * TURNS_A_PASS, "the last ones are served at once");
    }

    #[actix_web::test]
    async fn passes_are_counted_only_while_turns_are_asked_for() {
        let (readers, served) = readers(1, 50);
        readers[0].read();
        for _ in 0..10 {
            yield_now().await;
        }
        readers[0].read();
        assert!(served.borrow().len() > TURNS_A_PASS, "a later pass has turns of its own");
        let turns = &readers[0].turns;
        for _ in 0..10 {
            yield_now().await;
        }
        assert_eq!(turns.metrics.sessions_awaiting_turn.load(Relaxed), 0);
        assert!(!turns.passing.get());
        assert_eq!(turns.left.get(), TURNS_A_PASS);
    }
}
