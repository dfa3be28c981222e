//! A feed: one subscription's way from the log to its socket.
//!
//! It follows its group's short log while it can, and reads pages of the store while it cannot. It
//! holds a position and nothing else: what it delivers is shared with everybody who wants it.

use std::{rc::Rc, sync::atomic::Ordering::Relaxed};

use bytes::Bytes;
use tidewire_eventstore::{GlobalPosition, ReadError};
use tidewire_protocol::{Input, Sub};

use crate::{
    answers::read_error,
    group::{GroupKey, Hub, Seat},
    pages::{EncodedPage, PageSlot},
    session_cell::SessionCell,
    short_log::{Cursor, Next, ShortLog},
};

/// Pages in a row that may bring a feed no further before it fails. A page that was being read
/// already when it was asked for may not reach it, once or twice; beyond that the log is shorter
/// than it was, as after a restore, until its new epoch is known here.
const FRUITLESS_MAX: u32 = 8;

/// One open subscription of one session.
pub(crate) struct Feed {
    key: GroupKey,
    seat: Seat,
    /// Everything matching through this position was handed to the socket.
    position: GlobalPosition,
    /// The last page was cut for its bytes before the next page's beginning, so that the next one
    /// has to begin right at the position.
    cut: bool,
    /// Pages in a row that brought the feed no further.
    fruitless: u32,
    source: Source,
}

enum Source {
    /// Follows the group's short log.
    Live(Cursor),
    /// Reads the store: a page at hand, and the next of its frames.
    Page { page: Rc<EncodedPage>, next: usize },
    /// Waits for a page.
    Waiting(Rc<PageSlot<SessionCell>>),
    /// Has nothing at hand and has to attach or ask for a page.
    Seeking,
    /// Has failed and waits for its end.
    Failed,
}

impl Feed {
    /// Opens the feed of `key` after a position.
    pub(crate) fn open(session: &Rc<SessionCell>, key: GroupKey, after: GlobalPosition) -> Self {
        let worker = session.worker();
        let seat = worker.hub.borrow_mut().join(key.clone(), session.clone());
        // Counted as behind until it has attached, which may be at once.
        worker.metrics.subscriptions_behind.fetch_add(1, Relaxed);
        Self { key, seat, position: after, cut: false, fruitless: 0, source: Source::Seeking }
    }

    /// The subscription's handle.
    pub(crate) fn sub(&self) -> Sub {
        self.key.sub
    }

    /// Gives the feed's seat up, and the page that it waits for.
    pub(crate) fn close(self, session: &Rc<SessionCell>) {
        let worker = session.worker();
        if let Source::Waiting(slot) = &self.source {
            worker.give_up(session, slot);
        }
        worker.hub.borrow_mut().leave(self.seat);
        if !matches!(self.source, Source::Live(_)) {
            worker.metrics.subscriptions_behind.fetch_sub(1, Relaxed);
        }
    }

    /// How far the log was looked at, with everything matching handed to the socket.
    pub(crate) fn looked_at(&mut self, hub: &Hub<SessionCell>) -> GlobalPosition {
        if self.lag(hub) == 0 {
            self.position = self.position.max(hub.scanned(self.seat));
        }
        self.position
    }

    /// How many positions of the log, matching or not, may still hold something for the feed.
    pub(crate) fn lag(&self, hub: &Hub<SessionCell>) -> u64 {
        if let Source::Live(mut cursor) = self.source
            && matches!(hub.next(self.seat, &mut cursor, self.position), Next::Empty)
        {
            return 0;
        }
        hub.last().distance_from(self.position)
    }

    /// Whether moving on is work of the kind that sessions take turns at.
    pub(crate) fn takes_turns(&self) -> bool {
        match &self.source {
            Source::Live(_) | Source::Failed => false,
            Source::Waiting(slot) => slot.get().is_some(),
            Source::Page { .. } | Source::Seeking => true,
        }
    }

    /// Moves on until it has a frame, waits, or has news for the session.
    pub(crate) fn pull(&mut self, session: &Rc<SessionCell>) -> (Option<Bytes>, Option<Input>) {
        let worker = session.worker();
        let metrics = &worker.metrics;
        loop {
            match &mut self.source {
                Source::Live(cursor) => {
                    let hub = worker.hub.borrow();
                    match hub.next(self.seat, cursor, self.position) {
                        Next::Entry(entry) => {
                            self.position = entry.last;
                            ShortLog::advance(cursor);
                            metrics.events_delivered.fetch_add(entry.events.into(), Relaxed);
                            metrics.frames_sent.fetch_add(1, Relaxed);
                            if let Some(committed_at) = entry.committed_at {
                                let latency = committed_at.elapsed();
                                metrics.commit_to_socket.observe(latency, entry.events.into());
                            }
                            return (Some(entry.frame.clone()), None);
                        }
                        Next::Empty => {
                            self.position = self.position.max(hub.scanned(self.seat));
                            return (None, None);
                        }
                        Next::Fallen => {
                            let lag = hub.last().distance_from(self.position);
                            self.source = Source::Seeking;
                            metrics.subscriptions_behind.fetch_add(1, Relaxed);
                            let (sub, position) = (self.key.sub, self.position);
                            return (None, Some(Input::Behind { sub, position, lag }));
                        }
                    }
                }
                // It holds what was erased or removed since.
                Source::Page { page, .. } if page.purges() != worker.hub.borrow().purges() => {
                    self.source = Source::Seeking;
                }
                Source::Page { page, next } => match page.frames.get(*next) {
                    Some(entry) => {
                        let frame = page.seam(&self.key, entry, self.position);
                        let events =
                            entry.last.distance_from(self.position).min(entry.events.into());
                        self.position = entry.last;
                        *next += 1;
                        metrics.events_delivered.fetch_add(events, Relaxed);
                        metrics.frames_sent.fetch_add(1, Relaxed);
                        return (Some(frame), None);
                    }
                    None => {
                        self.cut = page.is_cut();
                        self.position = self.position.max(page.scanned);
                        self.source = Source::Seeking;
                    }
                },
                Source::Seeking => {
                    let attached = worker.hub.borrow_mut().attach(self.seat, self.position);
                    if let Some(cursor) = attached {
                        self.source = Source::Live(cursor);
                        metrics.subscriptions_behind.fetch_sub(1, Relaxed);
                        let (sub, position) = (self.key.sub, self.position);
                        return (None, Some(Input::Live { sub, position }));
                    }
                    let slot = worker.page(session, &self.key, self.seat, self.position, self.cut);
                    self.source = Source::Waiting(slot);
                }
                Source::Failed => return (None, None),
                Source::Waiting(slot) => match slot.get() {
                    None => return (None, None),
                    Some(Ok(page)) => {
                        self.fruitless =
                            if page.scanned > self.position { 0 } else { self.fruitless + 1 };
                        if self.fruitless > FRUITLESS_MAX {
                            return (None, Some(self.fail(&ReadError::Unavailable)));
                        }
                        let (page, next) = (page.clone(), page.seek(self.position));
                        self.source = Source::Page { page, next };
                    }
                    Some(Err(error)) => {
                        let error = error.clone();
                        return (None, Some(self.fail(&error)));
                    }
                },
            }
        }
    }

    /// Comes to rest, for the session to end it.
    fn fail(&mut self, error: &ReadError) -> Input {
        self.source = Source::Failed;
        Input::FeedFailed { sub: self.key.sub, error: read_error(error) }
    }
}
