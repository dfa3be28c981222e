//! The feed of a live query: one subscription's way from the documents to its socket.
//!
//! It is given the state page by page, then what has changed meanwhile, read from the store to its
//! end at least once; what the client holds is then one picture, of one position, and the feed
//! follows its group's log from there. When it falls off that, it reads changes from the store
//! again. It holds a position and a page at most: what it delivers is shared with everybody who
//! wants it. A window is kept by the group and given whole.

use std::{
    cell::RefCell,
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use bytes::Bytes;
use tidewire_eventstore::GlobalPosition;
use tidewire_projections::{Content, Watched};
use tidewire_protocol::{
    ErrorBody, Input, QueryReset, Sub,
    query::{Condition, Document, Query, Reached},
};
use tokio::task::AbortHandle;

use super::{
    effect::selects,
    flights::Flight,
    frames::{self, Frames},
    hub::{Attached, LiveHub, LiveKey, Seat},
    log::{Cursor, Next},
    reads::{ChangesPage, KeysPage, StatePage, Unread},
};
use crate::{group::Member, session_cell::SessionCell};

/// Pages of changes that are read for a query that finds its documents at once, before it is given
/// its state instead.
const PAGES_NARROW_MAX: u32 = 2;

/// One open live query of one session.
pub(crate) struct LiveFeed {
    key: LiveKey,
    seat: Seat,
    watched: Watched,
    /// The era of the projection that this is in.
    era: u64,
    /// What the client holds, or will hold once its state is complete.
    held: Reached,
    /// The client holds a picture of this position, or has been told everything through here: it
    /// may resume from it.
    position: GlobalPosition,
    /// What the next state says of why it comes.
    reset: Option<QueryReset>,
    /// The client was given something: a state that comes later has to say why.
    begun: bool,
    /// The client is being given a state: until it is complete, it holds what it held.
    building: bool,
    /// Pages of changes that were read in a row.
    pages: u32,
    stage: Stage,
    source: Source,
}

/// What has to be read next.
#[derive(Clone)]
enum Stage {
    /// The state, from its beginning or from a place in it.
    State(Option<(Reached, Box<str>)>),
    /// Changes after [`LiveFeed::held`]; `exact`: not from before it.
    Changes { exact: bool },
}

enum Source {
    /// Follows the group's log.
    Live(Cursor),
    /// Has frames at hand; once they are sent, it goes on like this.
    Frames { frames: Frames, next: usize, then: Then },
    /// Waits for something to be read.
    Reading { read: Rc<RefCell<Option<Read>>>, task: AbortHandle },
    /// Waits to be woken by the hub.
    Waiting,
    /// Has nothing at hand and has to attach or to read.
    Seeking,
    /// Has failed and waits for its end.
    Failed,
}

#[derive(Clone)]
enum Then {
    /// More of the state, or the changes since.
    Stage(Stage),
    /// Everything through here was told; attach, if there was no more.
    Told { through: GlobalPosition, more: bool },
    /// Follows the group's log.
    Live(Cursor),
}

enum Read {
    State(Result<Arc<StatePage>, Unread>),
    Key(Result<Arc<KeysPage>, Unread>),
    Changes(Result<Arc<ChangesPage>, Unread>),
}

impl LiveFeed {
    /// Opens the feed of `key`. `from` is what the client holds, where it is resumed.
    pub(crate) fn open(
        session: &Rc<SessionCell>,
        key: LiveKey,
        from: Reached,
        resumed: bool,
    ) -> Result<Self, ErrorBody> {
        let worker = session.worker();
        let watched = worker.node().live.watched(&key.query.projection)?;
        let seat = worker.join_live(session, &watched, key.clone());
        worker.metrics.live_behind.fetch_add(1, Relaxed);
        let era = worker.live.borrow().era(seat);
        let stage = if resumed { Stage::Changes { exact: false } } else { Stage::State(None) };
        Ok(Self {
            key,
            seat,
            watched,
            era,
            held: from,
            position: from.position,
            reset: None,
            begun: resumed,
            building: !resumed,
            pages: 0,
            stage,
            source: Source::Seeking,
        })
    }

    /// The subscription's handle.
    pub(crate) fn sub(&self) -> Sub {
        self.key.sub
    }

    /// Gives the feed's seat up, and what it waits for.
    pub(crate) fn close(self, session: &Rc<SessionCell>) {
        let worker = session.worker();
        if !matches!(self.source, Source::Live(_)) {
            worker.metrics.live_behind.fetch_sub(1, Relaxed);
        }
        if let Source::Reading { task, .. } = &self.source {
            task.abort();
        }
        worker.leave_live(self.seat);
    }

    /// Through where everything was handed to the socket; none while a state is.
    pub(crate) fn looked_at(&mut self, hub: &LiveHub<SessionCell>) -> Option<GlobalPosition> {
        if self.is_even(hub) {
            self.position = self.position.max(hub.scanned(self.seat));
        }
        (!self.building).then_some(self.position)
    }

    /// How many positions of the log may still have something for the feed.
    pub(crate) fn lag(&self, hub: &LiveHub<SessionCell>, head: GlobalPosition) -> u64 {
        if self.is_even(hub) { 0 } else { head.distance_from(self.position) }
    }

    /// Whether it has all that its group has.
    fn is_even(&self, hub: &LiveHub<SessionCell>) -> bool {
        match self.source {
            Source::Live(mut cursor) if hub.era(self.seat) == self.era => {
                matches!(hub.next(self.seat, &mut cursor, self.position), Next::Empty)
            }
            _ => false,
        }
    }

    /// Whether moving on is work of the kind that sessions take turns at.
    pub(crate) fn takes_turns(&self) -> bool {
        match &self.source {
            Source::Live(_) | Source::Waiting | Source::Failed => false,
            Source::Reading { read, .. } => read.borrow().is_some(),
            Source::Frames { .. } | Source::Seeking => true,
        }
    }

    /// Moves on until it has a frame, waits, or has news for the session.
    pub(crate) fn pull(&mut self, session: &Rc<SessionCell>) -> (Option<Bytes>, Option<Input>) {
        let worker = session.worker();
        let metrics = &worker.metrics;
        loop {
            if let Some(news) = self.keep_era(session) {
                return (None, Some(news));
            }
            match &mut self.source {
                Source::Failed => return (None, None),
                Source::Live(cursor) => {
                    let hub = worker.live.borrow();
                    let (step, frames) = match hub.next(self.seat, cursor, self.position) {
                        Next::Step(step) => (step, step.frames.clone()),
                        Next::Torn(step) => (step, hub.plain(self.seat, step)),
                        Next::Empty => {
                            self.position = self.position.max(hub.scanned(self.seat));
                            return (None, None);
                        }
                        Next::Fallen => {
                            drop(hub);
                            return (None, Some(self.fall(session)));
                        }
                    };
                    cursor.advance();
                    self.position = step.position;
                    metrics.live_changes.fetch_add(u64::from(step.changes), Relaxed);
                    metrics.frames_sent.fetch_add(1, Relaxed);
                    return (Some(frames), None);
                }
                Source::Frames { frames, next, then } => match frames.get(*next) {
                    Some(frame) => {
                        *next += 1;
                        metrics.frames_sent.fetch_add(1, Relaxed);
                        return (Some(frame.clone()), None);
                    }
                    None => {
                        let then = then.clone();
                        if let Some(news) = self.go_on(session, then) {
                            return (None, Some(news));
                        }
                    }
                },
                Source::Reading { read, .. } => {
                    let Some(read) = read.take() else { return (None, None) };
                    self.source = Source::Seeking;
                    if let Some(news) = self.have_read(session, read) {
                        return (None, Some(news));
                    }
                }
                Source::Waiting => {
                    // Woken: what it waits for may be there.
                    self.source = Source::Seeking;
                    let news = match self.key.query.window {
                        Some(_) => self.seek_window(session),
                        None => self.attach(session),
                    };
                    if let Some(news) = news {
                        return (None, Some(news));
                    }
                    if matches!(self.source, Source::Waiting) {
                        return (None, None);
                    }
                }
                Source::Seeking => {
                    if let Some(news) = self.seek(session) {
                        return (None, Some(news));
                    }
                }
            }
        }
    }

    /// Looks for what is next.
    fn seek(&mut self, session: &Rc<SessionCell>) -> Option<Input> {
        if self.key.query.window.is_some() {
            return self.seek_window(session);
        }
        let reads = &session.worker().node().live.reads;
        let watched = &self.watched;
        self.source = match (&self.stage, &self.key.query.key) {
            (Stage::State(_), Some(key)) => {
                reading(session, reads.key(watched, key.clone()), Read::Key)
            }
            (Stage::State(at), None) => {
                let flight = reads.state(watched, &self.key.query, at.clone());
                reading(session, flight, Read::State)
            }
            (Stage::Changes { exact }, _) => {
                let Reached { generation, position } = self.held;
                let flight = reads.changes(watched, generation, position, *exact);
                reading(session, flight, Read::Changes)
            }
        };
        None
    }

    fn seek_window(&mut self, session: &Rc<SessionCell>) -> Option<Input> {
        let worker = session.worker();
        if let Some(error) = worker.live.borrow().failure(self.seat) {
            return Some(self.fail(error));
        }
        let shown = worker.live.borrow_mut().window(self.seat, self.reset);
        match shown {
            Ok(shown) => {
                self.held = shown.reached;
                self.begun = true;
                let then = Then::Live(shown.cursor);
                self.source = Source::Frames { frames: shown.frames, next: 0, then };
            }
            Err(wanting) => {
                self.source = Source::Waiting;
                worker.fill_windows(wanting.into_iter().collect());
            }
        }
        None
    }

    /// What the frames at hand led to.
    fn go_on(&mut self, session: &Rc<SessionCell>, then: Then) -> Option<Input> {
        self.source = Source::Seeking;
        match then {
            Then::Stage(stage) => {
                self.stage = stage;
                None
            }
            Then::Told { through, more } => {
                // One who is ahead of the projection has been told nothing.
                self.held.position = self.held.position.max(through);
                if !self.building {
                    self.position = self.held.position;
                }
                if more {
                    self.stage = Stage::Changes { exact: true };
                    return None;
                }
                self.attach(session)
            }
            Then::Live(cursor) => Some(self.live(session, cursor)),
        }
    }

    fn attach(&mut self, session: &Rc<SessionCell>) -> Option<Input> {
        let attached = session.worker().live.borrow().attach(self.seat, self.held);
        match attached {
            Attached::At(cursor) => Some(self.live(session, cursor)),
            Attached::Behind => {
                self.stage = Stage::Changes { exact: true };
                None
            }
            // News of the projection wake it.
            Attached::NotYet => {
                self.source = Source::Waiting;
                None
            }
            Attached::Elsewhere(generation) if generation < self.held.generation => {
                self.learn(session, self.held);
                self.stage = Stage::Changes { exact: true };
                None
            }
            Attached::Elsewhere(_) => {
                self.begin_anew(QueryReset::Generation);
                None
            }
        }
    }

    fn live(&mut self, session: &Rc<SessionCell>, cursor: Cursor) -> Input {
        self.source = Source::Live(cursor);
        self.position = self.held.position;
        (self.reset, self.begun, self.building, self.pages) = (None, true, false, 0);
        session.worker().metrics.live_behind.fetch_sub(1, Relaxed);
        Input::Live { sub: self.key.sub, position: self.position }
    }

    /// Takes what was read.
    fn have_read(&mut self, session: &Rc<SessionCell>, read: Read) -> Option<Input> {
        let worker = session.worker();
        match read {
            Read::State(Ok(page)) => {
                self.learn(session, page.reached);
                let frames =
                    worker.live.borrow_mut().state_frames(self.seat, &page, self.now_reset());
                let next = page.next.clone().map(|next| (page.reached, next));
                self.have_state(page.reached, frames, next);
                None
            }
            Read::Key(Ok(page)) => {
                self.learn(session, page.reached);
                let documents = self.document_in(&page);
                let frames =
                    frames::state(self.key.sub, page.reached, self.now_reset(), &documents, false);
                self.have_state(page.reached, frames, None);
                None
            }
            Read::Changes(Ok(page)) => {
                self.have_changes(session, &page);
                None
            }
            Read::State(Err(Unread::Gone))
            | Read::Key(Err(Unread::Gone))
            | Read::Changes(Err(Unread::Gone)) => {
                self.begin_anew(QueryReset::Generation);
                None
            }
            Read::State(Err(Unread::Failed(error)))
            | Read::Key(Err(Unread::Failed(error)))
            | Read::Changes(Err(Unread::Failed(error))) => Some(self.fail(error)),
        }
    }

    /// Why the state comes whose frames are made now; none in the middle of one.
    fn now_reset(&self) -> Option<QueryReset> {
        match self.stage {
            Stage::State(None) => self.reset,
            _ => None,
        }
    }

    fn have_state(&mut self, reached: Reached, frames: Frames, next: Option<(Reached, Box<str>)>) {
        self.held = reached;
        self.begun = true;
        let stage = match next {
            Some(next) => Stage::State(Some(next)),
            None => Stage::Changes { exact: false },
        };
        self.source = Source::Frames { frames, next: 0, then: Then::Stage(stage) };
    }

    fn have_changes(&mut self, session: &Rc<SessionCell>, page: &Arc<ChangesPage>) {
        let held = self.held.position;
        self.pages += 1;
        if !page.active {
            return self.begin_anew(QueryReset::Generation);
        }
        let short = page.after < held && (!page.complete || page.more && page.through <= held);
        if short {
            self.stage = Stage::Changes { exact: true };
            return;
        }
        let narrow = is_narrow(&self.key.query) && self.pages >= PAGES_NARROW_MAX && page.more;
        if !page.complete || narrow && !self.building {
            return self.begin_anew(QueryReset::Truncated);
        }
        let hub = &session.worker().live;
        let told = (page.through > held)
            .then(|| hub.borrow_mut().changes_frames(self.seat, page))
            .flatten();
        let then = Then::Told { through: page.through, more: page.more };
        let frames = told.unwrap_or_else(|| Rc::new([]));
        self.source = Source::Frames { frames, next: 0, then };
    }

    /// The document of the query's key, if it is among those that were read, and selected.
    fn document_in(&self, page: &KeysPage) -> Vec<Document> {
        let query = &self.key.query;
        let Some(key) = &query.key else { return Vec::new() };
        let data = page.documents.get(key).cloned();
        data.filter(|data| selects(query, key, &Content::new(data.clone())))
            .map(|data| Document { key: key.clone(), data })
            .into_iter()
            .collect()
    }

    /// Tells the worker of a generation that it has not heard of, and is in its era.
    fn learn(&mut self, session: &Rc<SessionCell>, reached: Reached) {
        let worker = session.worker();
        let before = worker.live.borrow().era(self.seat);
        let wanted = worker.live.borrow_mut().learn(&self.key.query.projection, reached);
        worker.fill_windows(wanted);
        let after = worker.live.borrow().era(self.seat);
        if self.era == before {
            self.era = after;
        }
    }

    /// Begins anew where the projection did.
    fn keep_era(&mut self, session: &Rc<SessionCell>) -> Option<Input> {
        if matches!(self.source, Source::Failed) {
            return None;
        }
        let worker = session.worker();
        let era = worker.live.borrow().era(self.seat);
        if era == self.era {
            return None;
        }
        self.era = era;
        let news = matches!(self.source, Source::Live(_)).then(|| self.behind(session));
        if let Source::Reading { task, .. } = &self.source {
            task.abort();
        }
        self.begin_anew(QueryReset::Generation);
        news
    }

    /// Falls off the group's log.
    fn fall(&mut self, session: &Rc<SessionCell>) -> Input {
        let news = self.behind(session);
        if self.key.query.window.is_some() {
            self.begin_anew(QueryReset::Window);
        } else {
            self.held.position = self.position;
            self.stage = Stage::Changes { exact: false };
            self.source = Source::Seeking;
        }
        news
    }

    fn behind(&mut self, session: &Rc<SessionCell>) -> Input {
        let worker = session.worker();
        worker.metrics.live_behind.fetch_add(1, Relaxed);
        worker.metrics.live_falls.fetch_add(1, Relaxed);
        let (sub, position) = (self.key.sub, self.position);
        Input::Behind { sub, position, lag: worker.head().distance_from(position) }
    }

    /// Gives the client its state, again if it was given anything.
    fn begin_anew(&mut self, reset: QueryReset) {
        if self.begun {
            self.reset = Some(reset);
        }
        self.pages = 0;
        self.building = true;
        self.stage = Stage::State(None);
        self.source = Source::Seeking;
    }

    /// Comes to rest, for the session to end it.
    fn fail(&mut self, error: ErrorBody) -> Input {
        self.source = Source::Failed;
        Input::FeedFailed { sub: self.key.sub, error }
    }
}

/// Whether the query's documents are found at once, so that reading them all costs less than
/// reading what has become of many others.
fn is_narrow(query: &Query) -> bool {
    let equal = query.condition.as_deref().map(Condition::equalities);
    query.key.is_some() || equal.is_some_and(|equal| !equal.is_empty())
}

/// Waits for a reading, and wakes the session when it has come.
fn reading<T: Send + Sync + 'static>(
    session: &Rc<SessionCell>,
    flight: Flight<T>,
    read: impl FnOnce(Result<Arc<T>, Unread>) -> Read + 'static,
) -> Source {
    let cell = Rc::new(RefCell::new(None));
    let (filled, reader) = (Rc::downgrade(&cell), Rc::downgrade(session));
    let task = session.worker().await_live(async move {
        let read = read(flight.await);
        if let (Some(cell), Some(reader)) = (filled.upgrade(), reader.upgrade()) {
            cell.replace(Some(read));
            reader.wake();
        }
    });
    Source::Reading { read: cell, task }
}
