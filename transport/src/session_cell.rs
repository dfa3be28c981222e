//! What a session's actor, its socket's body and its worker share: the pure session and the feeds.
//!
//! Everything here happens on one worker thread, in short synchronous steps. The protocol is
//! decided by [`Session`]; this only carries: it performs the session's outputs, and fills the
//! socket when it has room — replies first, then the feeds in turn, each from its group's short
//! log or, while it catches up, from pages of the store. Nothing is queued for a slow socket but
//! replies, and those are bounded: while too many wait, the socket is not read.

mod consumers;

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    net::SocketAddr,
    os::fd::OwnedFd,
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::Waker,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use tidewire_eventstore::{ConsumerName, GlobalPosition, MemberId};
use tidewire_protocol::{
    CloseCode, Epoch, Sub, Tally,
    session::{Activity, Input, Moment, Output, Session},
};

use crate::{
    feed::Feed,
    feeds::OpenFeed,
    gather::Gather,
    group::{GroupKey, Member},
    live::{LiveFeed, LiveKey},
    registry::{SessionDescription, Traffic},
    turns::{WRITES_A_TURN, Waits},
    worker::Worker,
};

/// How long a session that is over waits for its socket to take what is queued.
const LAST_FLUSH: Duration = Duration::from_secs(5);

/// A session's shared part.
pub(crate) struct SessionCell {
    worker: Rc<Worker>,
    info: SessionInfo,
    state: RefCell<State>,
    /// Its turn at catching up.
    catch_up_turn: Cell<Turn>,
    /// Wakes the socket's body when it waits for something to write.
    body: Cell<Option<Waker>>,
    /// Wakes the session's actor when it has something to do.
    actor: Cell<Option<Waker>>,
}

/// What is known of a session from its handshake.
#[derive(Debug, Clone)]
pub(crate) struct SessionInfo {
    pub(crate) id: String,
    pub(crate) since: SystemTime,
    pub(crate) address: Option<SocketAddr>,
}

struct State {
    session: Session,
    replies: VecDeque<Bytes>,
    reply_bytes: usize,
    /// What is left of a frame that is too large for one write.
    rest: Bytes,
    /// Replies have left since the session was last told that all of them have.
    replied: bool,
    /// The pong that is owed; a later one takes its place.
    pong: Option<Bytes>,
    feeds: Vec<OpenFeed>,
    /// What the session's consumers are known by in the store.
    members: Vec<(Sub, MemberId)>,
    /// Members of groups that are about to claim their new shares.
    staying: Vec<(ConsumerName, MemberId)>,
    /// Whose turn it is.
    turn: usize,
    actions: VecDeque<Output>,
    /// Pages that the client asked for. One is read at a time, and none while replies wait.
    fetches: VecDeque<Output>,
    fetching: bool,
    inbound_at: Instant,
    progress_at: Instant,
    /// Bytes handed to the socket's body and not known to be accepted by the kernel.
    unsent: usize,
    /// What the worker's metrics count of what waits for the socket.
    unsent_counted: usize,
    /// The session is over, with this code: what is queued is written, then the connection ends.
    over: Option<CloseCode>,
    /// The socket itself, to cut it off when it takes nothing more.
    socket: Option<Rc<OwnedFd>>,
    /// When a session that is over is cut off, should its socket not take what is queued.
    cut_at: Option<Instant>,
    /// When the actor will tell the session the time, unless it is woken before.
    timed_for: Option<Instant>,
    paused: bool,
    gone: bool,
    round_trip: Option<Duration>,
    bytes_in: u64,
    bytes_out: u64,
    messages_in: u64,
    messages_out: u64,
}

impl State {
    /// What the session has for its socket that the kernel has not accepted, in bytes.
    fn unsent_bytes(&self) -> usize {
        self.unsent + self.rest.len() + self.reply_bytes
    }

    /// Whether the actor has something to do, or has to watch for an earlier time than it does.
    fn needs_actor(&self) -> bool {
        let timeout = self.session.next_timeout();
        !self.actions.is_empty()
            || timeout.is_some_and(|at| self.timed_for.is_none_or(|watched| at < watched))
    }

    /// Lets go of what will never be written.
    fn drop_unsent(&mut self) {
        self.rest = Bytes::new();
        self.replies.clear();
        self.reply_bytes = 0;
    }
}

impl Member for SessionCell {
    fn wake(&self) {
        if let Some(waker) = self.body.take() {
            waker.wake();
        }
    }
}

/// A session's turn at catching up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    NotAsked,
    Asked,
    /// With so many writes left.
    Mine(u32),
}

impl Waits for SessionCell {
    fn turn(&self) -> bool {
        if self.is_gone() {
            return false;
        }
        self.catch_up_turn.set(Turn::Mine(WRITES_A_TURN));
        self.wake();
        true
    }
}

/// What the socket's body does next.
pub(crate) enum Chunk {
    /// Writes this.
    Write(Bytes),
    /// Waits until it is woken.
    Wait,
    /// Ends the connection.
    End,
}

impl SessionCell {
    pub(crate) fn new(
        worker: Rc<Worker>,
        session: Session,
        info: SessionInfo,
        socket: Option<Rc<OwnedFd>>,
        now: Instant,
    ) -> Rc<Self> {
        Rc::new(Self {
            worker,
            info,
            state: RefCell::new(State {
                session,
                replies: VecDeque::new(),
                reply_bytes: 0,
                rest: Bytes::new(),
                replied: false,
                pong: None,
                feeds: Vec::new(),
                members: Vec::new(),
                staying: Vec::new(),
                turn: 0,
                actions: VecDeque::new(),
                fetches: VecDeque::new(),
                fetching: false,
                inbound_at: now,
                progress_at: now,
                unsent: 0,
                unsent_counted: 0,
                over: None,
                socket,
                cut_at: None,
                timed_for: None,
                paused: false,
                gone: false,
                round_trip: None,
                bytes_in: 0,
                bytes_out: 0,
                messages_in: 0,
                messages_out: 0,
            }),
            catch_up_turn: Cell::new(Turn::NotAsked),
            body: Cell::new(None),
            actor: Cell::new(None),
        })
    }

    pub(crate) fn info(&self) -> &SessionInfo {
        &self.info
    }

    pub(crate) fn worker(&self) -> &Rc<Worker> {
        &self.worker
    }

    /// Tells the session what happened, and performs what it wants done at once.
    pub(crate) fn handle(self: &Rc<Self>, input: Input) {
        let mut state = self.state.borrow_mut();
        self.feed(&mut state, input);
        self.count_unsent(&mut state);
        drop(state);
        self.wake();
        self.wake_actor();
    }

    /// The log begins another life. No feed lives on in it; those that the session does not end
    /// itself are of a session that is leaving.
    pub(crate) fn begin_epoch(self: &Rc<Self>, epochs: Arc<[Epoch]>) {
        self.handle(Input::Epochs(epochs));
        let feeds = std::mem::take(&mut self.state.borrow_mut().feeds);
        for feed in feeds {
            feed.close(self);
        }
    }

    /// Takes bytes from the socket into account, before they are decoded.
    pub(crate) fn received(&self, bytes: usize) {
        let mut state = self.state.borrow_mut();
        state.inbound_at = Instant::now();
        state.bytes_in += bytes as u64;
        self.worker.metrics.bytes_received.fetch_add(bytes as u64, Relaxed);
    }

    /// Takes one decoded message into account.
    pub(crate) fn received_message(&self) {
        self.state.borrow_mut().messages_in += 1;
        self.worker.metrics.messages_received.fetch_add(1, Relaxed);
    }

    /// The next thing that only the actor can do (an append, a read).
    pub(crate) fn next_action(&self) -> Option<Output> {
        let mut state = self.state.borrow_mut();
        if let Some(action) = state.actions.pop_front() {
            return Some(action);
        }
        if state.fetching || state.reply_bytes >= self.worker.config().reply_bytes_max {
            return None;
        }
        let fetch = state.fetches.pop_front();
        state.fetching = fetch.is_some();
        fetch
    }

    /// Lets a page be read that the client asked for, and that nothing has to be waited for any
    /// more.
    pub(crate) fn read_page(&self, page: Output) {
        self.state.borrow_mut().fetches.push_back(page);
        self.wake_actor();
    }

    /// Tells the session what became of the page that was read for it.
    pub(crate) fn fetched(self: &Rc<Self>, answer: Input) {
        self.state.borrow_mut().fetching = false;
        self.handle(answer);
    }

    /// The largest message that the client may send next, in bytes.
    pub(crate) fn message_bytes_max(&self) -> usize {
        self.state.borrow().session.message_bytes_max()
    }

    /// Whether the socket may be read: not while the session is busy with what it was sent.
    pub(crate) fn may_read(&self) -> bool {
        let mut state = self.state.borrow_mut();
        let may =
            state.session.may_read() && state.reply_bytes < self.worker.config().reply_bytes_max;
        if !may && !state.paused {
            self.worker.metrics.reads_paused.fetch_add(1, Relaxed);
        }
        state.paused = !may;
        may
    }

    /// When the session has to be told the time, if ever.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let mut state = self.state.borrow_mut();
        let timeout = match state.over {
            Some(_) => state.cut_at,
            None => state.session.next_timeout(),
        };
        state.timed_for = timeout;
        timeout
    }

    /// Tells the session the time.
    pub(crate) fn timeout(self: &Rc<Self>, now: Instant) {
        let mut state = self.state.borrow_mut();
        if state.cut_at.is_some_and(|at| now >= at) {
            self.cut(&mut state);
        } else {
            let activity = Activity {
                inbound_at: state.inbound_at,
                progress_at: state.progress_at,
                unsent_bytes: state.unsent_bytes(),
            };
            self.feed(&mut state, Input::Timeout(activity));
        }
        drop(state);
        self.wake();
    }

    /// The code that the session ended with; 1006 where nobody said why.
    pub(crate) fn close_code(&self) -> CloseCode {
        self.state.borrow().over.unwrap_or(CloseCode::ABNORMAL)
    }

    /// Remembers whom to wake when the actor has something to do.
    pub(crate) fn set_actor(&self, waker: &Waker) {
        self.actor.set(Some(waker.clone()));
    }

    fn wake_actor(&self) {
        if let Some(waker) = self.actor.take() {
            waker.wake();
        }
    }

    /// Whether the connection is gone.
    pub(crate) fn is_gone(&self) -> bool {
        self.state.borrow().gone
    }

    /// The connection is gone: gives up every feed, and the socket.
    pub(crate) fn socket_gone(self: &Rc<Self>) {
        let mut state = self.state.borrow_mut();
        state.gone = true;
        state.socket = None;
        // Ends the session, so that no answer that is still under way opens a feed again.
        self.feed(&mut state, Input::Gone);
        for (group, member) in std::mem::take(&mut state.staying) {
            self.worker.node().consumers.leave(group, member);
        }
        state.drop_unsent();
        state.unsent = 0;
        self.count_unsent(&mut state);
        drop(state);
        self.wake_actor();
    }

    /// What the socket is to do now that it has room. It is asked when it has taken everything
    /// that it was given before (see [`tune`](crate::tune)).
    pub(crate) fn next_chunk(self: &Rc<Self>, waker: &Waker) -> Chunk {
        let mut state = self.state.borrow_mut();
        let chunk = self.fill(&mut state, waker);
        self.count_unsent(&mut state);
        chunk
    }

    fn fill(self: &Rc<Self>, state: &mut State, waker: &Waker) -> Chunk {
        if state.unsent > 0 {
            state.unsent = 0;
            state.progress_at = Instant::now();
            let all = state.rest.is_empty() && state.replies.is_empty();
            if all && state.feeds.iter().any(OpenFeed::is_acked) {
                self.feed(state, Input::Accepted);
            }
        }

        let bytes_max = self.worker.config().write_bytes_max.max(1);
        let mut chunk = Gather::default();
        if !state.rest.is_empty() {
            chunk.push(std::mem::take(&mut state.rest), 0);
        } else if let Some(pong) = state.pong.take() {
            chunk.push(pong, 0);
        }
        loop {
            while chunk.len() < bytes_max
                && let Some(reply) = state.replies.pop_front()
            {
                state.reply_bytes -= reply.len();
                state.replied = true;
                state.messages_out += 1;
                chunk.push(reply, bytes_max);
            }
            if chunk.len() >= bytes_max || state.over.is_some() {
                break;
            }
            // A feed that changes state leaves a reply, which then goes out first.
            match self.next_frame(state) {
                Some(frame) => {
                    state.messages_out += 1;
                    chunk.push(frame, bytes_max);
                }
                None if state.replies.is_empty() => break,
                None => {}
            }
        }

        let chunk = chunk.finish();
        if let Turn::Mine(writes) = self.catch_up_turn.get() {
            let goes_on = chunk.is_some() && writes > 1;
            let turn = if goes_on { Turn::Mine(writes - 1) } else { Turn::NotAsked };
            self.catch_up_turn.set(turn);
        }

        match chunk {
            Some(mut bytes) => {
                // In pieces, so that progress is seen and actix-http's buffer stays small.
                if bytes.len() > 2 * bytes_max {
                    state.rest = bytes.split_off(bytes_max);
                }
                state.unsent = bytes.len();
                state.bytes_out += bytes.len() as u64;
                self.worker.metrics.bytes_sent.fetch_add(bytes.len() as u64, Relaxed);
                if state.paused || !state.fetches.is_empty() || state.needs_actor() {
                    self.wake_actor();
                }
                Chunk::Write(bytes)
            }
            None => {
                if state.over.is_some() {
                    return Chunk::End;
                }
                if std::mem::take(&mut state.replied) {
                    self.feed(state, Input::Flushed);
                }
                if state.paused || state.needs_actor() {
                    self.wake_actor();
                }
                self.body.set(Some(waker.clone()));
                Chunk::Wait
            }
        }
    }

    /// The next event frame of the feed whose turn it is, or of the next that has one.
    fn next_frame(self: &Rc<Self>, state: &mut State) -> Option<Bytes> {
        for _ in 0..state.feeds.len() {
            // News of a feed may end it.
            if state.feeds.is_empty() {
                break;
            }
            state.turn = (state.turn + 1) % state.feeds.len();
            let feed = &mut state.feeds[state.turn];
            if feed.is_acked() && feed.waits(state.session.room(feed.sub()), &self.worker.metrics) {
                continue;
            }
            if feed.takes_turns() && !self.has_turn() {
                continue;
            }
            let is_acked = feed.is_acked();
            let (frame, news) = feed.pull(self, &mut state.session);
            if let Some(news) = news {
                self.feed(state, news);
            } else if is_acked {
                // What was offered may have to be read again, or be parked.
                self.perform(state);
            }
            if frame.is_some() || !state.replies.is_empty() {
                return frame;
            }
        }
        None
    }

    /// Whether it is this session's turn to catch up; asks for one where it has not yet.
    fn has_turn(self: &Rc<Self>) -> bool {
        if self.catch_up_turn.get() == Turn::NotAsked {
            let at_once = self.worker.turns.ask(self);
            self.catch_up_turn.set(if at_once { Turn::Mine(WRITES_A_TURN) } else { Turn::Asked });
        }
        matches!(self.catch_up_turn.get(), Turn::Mine(_))
    }

    /// Counts what became of events that clients settle.
    fn count_delivery(&self, state: &mut State) {
        let tally = state.session.take_tally();
        if tally != Tally::default() {
            let metrics = &self.worker.metrics;
            metrics.settled.fetch_add(tally.settled, Relaxed);
            metrics.redeliveries.fetch_add(tally.sent_again, Relaxed);
            metrics.parked.fetch_add(tally.parked, Relaxed);
        }
    }

    /// Tells the session what happened and performs what it wants done.
    fn feed(self: &Rc<Self>, state: &mut State, input: Input) {
        let moment = self.moment();
        state.session.handle(input, moment);
        self.perform(state);
    }

    /// Performs what the session wants done.
    fn perform(self: &Rc<Self>, state: &mut State) {
        self.count_delivery(state);
        while let Some(output) = state.session.poll() {
            match output {
                Output::Send(bytes) => {
                    state.reply_bytes += bytes.len();
                    state.replies.push_back(bytes);
                }
                Output::Open { sub, feed, after } => {
                    let feed = Feed::open(self, GroupKey { feed, sub }, after);
                    state.feeds.push(OpenFeed::Events(feed));
                }
                Output::CheckQuery { sub, query } => {
                    let checked = self.worker.node().live.check(&query);
                    let checked = Input::QueryChecked { sub, checked };
                    state.session.handle(checked, self.moment());
                }
                Output::Watch { sub, query, from, resumed } => {
                    let key = LiveKey { query: Arc::from(query), sub };
                    match LiveFeed::open(self, key, from, resumed) {
                        Ok(feed) => state.feeds.push(OpenFeed::Query(Box::new(feed))),
                        Err(error) => {
                            let failed = Input::FeedFailed { sub, error };
                            state.session.handle(failed, self.moment());
                        }
                    }
                }
                Output::Shut { sub } => self.shut(state, sub),
                // Not by the actor, which may be gone before it comes to it.
                Output::Release { sub, progress, clean } => {
                    if let Some(member) = state.take_member(sub) {
                        let consumers = &self.worker.node().consumers;
                        let stays = consumers.release(member, progress, clean);
                        state.staying.extend(stays.map(|group| (group, member)));
                    }
                }
                Output::Positions => {
                    let positions = self.positions(state);
                    state.session.handle(Input::Positions(positions), self.moment());
                }
                Output::RoundTrip(round_trip) => state.round_trip = Some(round_trip),
                Output::Pong(pong) => state.pong = Some(pong),
                Output::Close { code } => {
                    state.over = Some(code);
                    state.cut_at = Some(Instant::now() + LAST_FLUSH);
                    for feed in std::mem::take(&mut state.feeds) {
                        feed.close(self);
                    }
                    if code.is_abrupt() {
                        self.cut(state);
                    }
                }
                fetch @ Output::Fetch { .. } => state.fetches.push_back(fetch),
                // What has to be waited for must not hold up other pages.
                Output::Query { id, request } if request.wait.is_none() => {
                    state.fetches.push_back(Output::Query { id, request });
                }
                action => state.actions.push_back(action),
            }
        }
    }

    pub(crate) fn moment(&self) -> Moment {
        self.worker.moment(Instant::now())
    }

    /// Keeps the metric of what waits for sockets.
    fn count_unsent(&self, state: &mut State) {
        let (before, now) = (state.unsent_counted, state.unsent_bytes());
        if before != now {
            state.unsent_counted = now;
            self.worker.metrics.unsent_bytes.fetch_add(now as i64 - before as i64, Relaxed);
        }
    }

    fn shut(self: &Rc<Self>, state: &mut State, sub: Sub) {
        if let Some(index) = state.feeds.iter().position(|feed| feed.sub() == sub) {
            state.feeds.swap_remove(index).close(self);
        }
    }

    /// How far each feed has been looked at with everything matching handed to the socket.
    fn positions(&self, state: &mut State) -> Vec<(Sub, GlobalPosition)> {
        let worker = &self.worker;
        let position = |feed: &mut OpenFeed| Some((feed.sub(), feed.looked_at(worker)?));
        state.feeds.iter_mut().filter_map(position).collect()
    }

    /// Cuts the socket off, whatever it still holds.
    fn cut(&self, state: &mut State) {
        match state.socket.take() {
            // Fails only where the socket is gone already.
            Some(socket) => {
                let _ = socket2::SockRef::from(&*socket).shutdown(std::net::Shutdown::Both);
            }
            // On a server that is not tuned the session ends alone: nobody can reach the socket
            // while actix-http waits for it, and it lives until its peer ends it.
            None => {
                state.gone = true;
                self.wake_actor();
            }
        }
        state.cut_at = None;
        state.drop_unsent();
    }

    /// What `GET /sessions` tells of this session.
    pub(crate) fn describe(&self) -> SessionDescription {
        let state = self.state.borrow();
        let lags = state.feeds.iter().map(|feed| feed.lag(&self.worker));
        let lag_events = lags.max().unwrap_or(0);
        SessionDescription::new(
            &self.info,
            &self.worker.node().name,
            state.feeds.len(),
            lag_events,
            state.round_trip,
            Traffic {
                messages_in: state.messages_in,
                messages_out: state.messages_out,
                bytes_in: state.bytes_in,
                bytes_out: state.bytes_out,
            },
        )
    }
}
