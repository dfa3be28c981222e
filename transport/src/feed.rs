//! A feed: one subscription's way from the log to its socket.
//!
//! It follows its group's short log while it can, and reads pages of the store while it cannot. It
//! holds a position and nothing else: what it delivers is shared with everybody who wants it.

use std::{rc::Rc, sync::atomic::Ordering::Relaxed};

use bytes::Bytes;
use tidewire_eventstore::{GlobalPosition, ReadError};
use tidewire_protocol::{
    AckMode, Input, Sent, Sub,
    session::{Moment, Session},
};

use crate::{
    answers::read_error,
    group::{GroupKey, Hub, Seat},
    metrics::WorkerMetrics,
    pages::{EncodedPage, PageSlot},
    session_cell::SessionCell,
    short_log::{Cursor, Entry, Next, ShortLog},
    singles::Singles,
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
    /// Where to leave the page at hand: there the group's log goes on with a whole frame. A page
    /// that were read to its end would mostly end in the midst of one, where events come as fast
    /// as pages do, again and again.
    until: Option<GlobalPosition>,
    /// Pages in a row that brought the feed no further.
    fruitless: u32,
    /// Its window is full.
    waits: bool,
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
        let source = Source::Seeking;
        let (cut, until, fruitless, waits) = (false, None, 0, false);
        Self { key, seat, position: after, cut, until, fruitless, waits, source }
    }

    /// The subscription's handle.
    pub(crate) fn sub(&self) -> Sub {
        self.key.sub
    }

    /// Whether its events are settled one by one.
    pub(crate) fn is_acked(&self) -> bool {
        self.key.feed.ack != AckMode::None
    }

    /// Whether its window has no room for more events; counts the times that one has none.
    pub(crate) fn waits(&mut self, room: usize, metrics: &WorkerMetrics) -> bool {
        let waits = room == 0;
        if waits && !self.waits {
            metrics.windows_filled.fetch_add(1, Relaxed);
        }
        self.waits = waits;
        waits
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

    /// Moves on until it has a frame, waits, or has news for the session. `delivery` is the pure
    /// session, which has the say over what is sent where the client settles events.
    pub(crate) fn pull(
        &mut self,
        session: &Rc<SessionCell>,
        delivery: &mut Session,
    ) -> (Option<Bytes>, Option<Input>) {
        let worker = session.worker();
        let metrics = &worker.metrics;
        loop {
            match &mut self.source {
                Source::Live(cursor) => {
                    let hub = worker.hub.borrow();
                    match hub.next(self.seat, cursor, self.position) {
                        Next::Entry(entry) => {
                            let portion = match &entry.singles {
                                None => Portion::whole(entry),
                                Some(singles) => {
                                    let sub = self.key.sub;
                                    let moment = session.moment();
                                    portion(delivery, sub, entry, singles, self.position, moment)
                                }
                            };
                            if portion.through <= self.position {
                                return (None, None);
                            }
                            self.position = portion.through;
                            if portion.through == entry.last {
                                ShortLog::advance(cursor);
                            }
                            let Some(frame) = portion.frame else { continue };
                            metrics.events_delivered.fetch_add(portion.events, Relaxed);
                            metrics.frames_sent.fetch_add(1, Relaxed);
                            if let Some(committed_at) = entry.committed_at {
                                let latency = committed_at.elapsed();
                                metrics.commit_to_socket.observe(latency, portion.events);
                            }
                            return (Some(frame), None);
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
                    Some(entry) if self.until.is_some_and(|until| entry.last > until) => {
                        let until = self.until.take().unwrap_or(entry.last);
                        let after = std::mem::replace(&mut self.position, until);
                        let begins = entry.first.max(after.next());
                        let part = (begins <= until).then(|| page.part(&self.key, after, until));
                        self.source = Source::Seeking;
                        let Some(frames) = part.filter(|frames| !frames.is_empty()) else {
                            continue;
                        };
                        let events = until.distance_from(begins.previous());
                        metrics.events_delivered.fetch_add(events, Relaxed);
                        metrics.frames_sent.fetch_add(1, Relaxed);
                        return (Some(frames), None);
                    }
                    Some(entry) => {
                        let portion = match &entry.singles {
                            None => {
                                let distance = entry.last.distance_from(self.position);
                                Portion {
                                    frame: Some(page.seam(&self.key, entry, self.position)),
                                    events: distance.min(entry.events.into()),
                                    through: entry.last,
                                }
                            }
                            Some(singles) => {
                                let sub = self.key.sub;
                                let moment = session.moment();
                                portion(delivery, sub, entry, singles, self.position, moment)
                            }
                        };
                        if portion.through <= self.position {
                            return (None, None);
                        }
                        self.position = portion.through;
                        if portion.through == entry.last {
                            *next += 1;
                        }
                        let Some(frame) = portion.frame else { continue };
                        metrics.events_delivered.fetch_add(portion.events, Relaxed);
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
                    self.until = worker.hub.borrow().torn_at(self.seat, self.position);
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

/// What a reader is given of an entry.
struct Portion {
    /// A frame, unless there is nothing to write.
    frame: Option<Bytes>,
    /// How many events it has.
    events: u64,
    /// Everything of the entry through this position is done with.
    through: GlobalPosition,
}

impl Portion {
    fn whole(entry: &Entry) -> Self {
        Self { frame: Some(entry.frame.clone()), events: entry.events.into(), through: entry.last }
    }
}

/// Offers what a reader at `position` has not had of an entry to the window of its subscription,
/// and puts what may be sent into a frame: the shared one where that is all of the entry.
fn portion(
    delivery: &mut Session,
    sub: Sub,
    entry: &Entry,
    singles: &Singles,
    position: GlobalPosition,
    moment: Moment,
) -> Portion {
    let start = singles.through(position);
    let events = singles.from(start);
    let offer = delivery.offer(sub, events, moment);
    let Some(last) = offer.taken.checked_sub(1) else {
        return Portion { frame: None, events: 0, through: position };
    };
    let through = events[last].position;
    match offer.sent {
        Sent::All if start == 0 && offer.taken == events.len() => Portion::whole(entry),
        Sent::All => {
            let frame = Some(singles.frame(sub, start..start + offer.taken));
            Portion { frame, events: offer.taken as u64, through }
        }
        Sent::Some(indices) => {
            let count = indices.len() as u64;
            let indices = indices.into_iter().map(|index| start + index);
            let frame = (count > 0).then(|| singles.frame(sub, indices));
            Portion { frame, events: count, through }
        }
    }
}
