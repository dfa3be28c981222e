//! The load generator's receiving side: many sessions on one thread, each read as soon as it has
//! something, all counted into one place.
//!
//! Positions rise by one in the whole log, so a session that is subscribed to everything has lost
//! or repeated something exactly when a position is not the one that is due. That is checked at
//! the ends of every message, and inside it where the exact sequence is asked for.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    task::Poll,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use bytes::BytesMut;
use futures_util::{StreamExt, TryStreamExt, stream};
use hdrhistogram::Histogram;
use tidewire_protocol::frame::{Opcode, encode_masked};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    sync::Notify,
    task::JoinSet,
    time::{Interval, interval_at, timeout},
};

use super::frames::{Frame, Positions, first_frame, number_after};

/// Read at once, for all sessions in turn. More than the server writes at once, so that what is
/// read is usually whole.
const READ_BYTES: usize = 256 << 10;

/// Handshakes that are under way at once.
const HANDSHAKES: usize = 64;

/// No single step of setting up may take longer.
const SETUP: Duration = Duration::from_secs(120);

/// What an event takes as JSON beside its payload, at most, in bytes.
const EVENT_BYTES: usize = 300;

/// Where a session begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begin {
    /// With what comes.
    End,
    /// With the log's first event.
    Start,
    /// Nothing is subscribed to, and nothing said: an open connection.
    Silent,
}

/// How sessions settle what they get, as the clients do that come with Tidewire.
#[derive(Debug, Clone, Copy)]
pub(super) struct Acks {
    /// Most events that are sent and not settled; a quarter of it is settled at once.
    pub(super) window: u32,
    /// What is less is settled after this long.
    pub(super) delay: Duration,
}

/// Whether the inside of each message is checked too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    /// Every position.
    Exact,
    /// The first and the last of each message.
    Ends,
}

/// What was received, by all sessions together.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Received {
    /// Events.
    pub(super) events: u64,
    /// Messages with events.
    pub(super) messages: u64,
    /// Bytes.
    pub(super) bytes: u64,
    /// Reads from sockets that gave something.
    pub(super) reads: u64,
}

/// Many sessions.
#[derive(Debug)]
pub(super) struct Crowd {
    pub(super) tally: Rc<Tally>,
    /// How sessions that join from now on settle events; none: not at all.
    pub(super) acks: Option<Acks>,
    tasks: JoinSet<()>,
}

/// What all sessions count into.
#[derive(Debug)]
pub(super) struct Tally {
    positions: Positions,
    check: Check,
    buffer: RefCell<Box<[u8]>>,
    received: Cell<Received>,
    latency: RefCell<Histogram<u64>>,
    /// When the events were sent that not everybody has yet.
    sent: RefCell<Sent>,
    /// The last position of each session.
    reached: RefCell<Vec<u64>>,
    /// Sessions that do not read.
    stalled: RefCell<Vec<bool>>,
    /// A position that somebody waits for everybody to reach.
    awaited: Cell<u64>,
    live: Cell<usize>,
    repeated: Cell<u64>,
    skipped: Cell<u64>,
    failure: RefCell<Option<String>>,
    /// Told when somebody has become live, an event has reached everybody, or something failed.
    news: Notify,
    resume: Notify,
}

/// The events on their way, by position.
#[derive(Debug, Default)]
struct Sent {
    /// The position before the first of `at`.
    before: u64,
    /// When each was sent, and how many sessions have not got it.
    at: VecDeque<(Instant, usize)>,
}

impl Crowd {
    /// Nobody yet. Events have payloads of `payload` bytes.
    pub(super) fn new(payload: usize, check: Check) -> Self {
        let tally = Tally {
            positions: Positions::new(payload + EVENT_BYTES),
            check,
            buffer: RefCell::new(vec![0; READ_BYTES].into()),
            received: Cell::default(),
            latency: RefCell::new(new_histogram()),
            sent: RefCell::default(),
            reached: RefCell::default(),
            stalled: RefCell::default(),
            awaited: Cell::new(u64::MAX),
            live: Cell::new(0),
            repeated: Cell::new(0),
            skipped: Cell::new(0),
            failure: RefCell::default(),
            news: Notify::new(),
            resume: Notify::new(),
        };
        Self { tally: Rc::new(tally), acks: None, tasks: JoinSet::new() }
    }

    /// Lets `sessions` more in; returns when each is connected, and has asked for its events.
    ///
    /// # Errors
    ///
    /// The server refuses, or takes too long.
    pub(super) async fn join(
        &mut self,
        address: SocketAddr,
        sessions: usize,
        begin: Begin,
    ) -> Result<()> {
        let acks = self.acks;
        let handshakes = stream::iter(0..sessions).map(|_| open(address, begin, acks));
        let open = handshakes.buffer_unordered(HANDSHAKES).try_for_each(|(socket, rest)| {
            let session = self.tally.enter();
            let tally = Rc::clone(&self.tally);
            let unsettled = acks.map(|acks| Unsettled::new(acks, session));
            self.tasks.spawn_local(Session { socket, rest, session, tally, unsettled }.read());
            futures_util::future::ok(())
        });
        timeout(SETUP, open).await.context("the sessions could not all connect in time")?
    }

    /// Waits until every session follows live.
    ///
    /// # Errors
    ///
    /// A session failed, or it takes longer than `within`.
    pub(super) async fn live(&self, within: Duration) -> Result<()> {
        let sessions = self.tally.sessions();
        if !self.tally.wait(within, |tally| tally.live.get() == sessions).await? {
            bail!("in time only {} of {sessions} sessions became live", self.tally.live.get());
        }
        Ok(())
    }
}

impl Tally {
    fn enter(&self) -> usize {
        let mut reached = self.reached.borrow_mut();
        reached.push(u64::MAX);
        self.stalled.borrow_mut().push(false);
        reached.len() - 1
    }

    /// How many sessions there are.
    pub(super) fn sessions(&self) -> usize {
        self.reached.borrow().len()
    }

    /// Waits until `done`; returns false when it takes longer than `within`.
    ///
    /// # Errors
    ///
    /// A session failed.
    pub(super) async fn wait(
        &self,
        within: Duration,
        mut done: impl FnMut(&Self) -> bool,
    ) -> Result<bool> {
        let work = async {
            loop {
                if let Some(failure) = &*self.failure.borrow() {
                    bail!("a session failed: {failure}");
                }
                if done(self) {
                    return Ok(true);
                }
                self.news.notified().await;
            }
        };
        timeout(within, work).await.unwrap_or(Ok(false))
    }

    /// Forgets what was received so far; positions go on.
    pub(super) fn begin_round(&self) {
        self.received.take();
        self.latency.borrow_mut().reset();
    }

    /// What was received in this round.
    pub(super) fn received(&self) -> Received {
        self.received.get()
    }

    /// From sending an event to receiving it, in microseconds, in this round.
    pub(super) fn latency(&self) -> Histogram<u64> {
        self.latency.borrow().clone()
    }

    /// The next event to be sent will have the position after `position`.
    pub(super) fn begin_at(&self, position: u64) {
        *self.sent.borrow_mut() = Sent { before: position, at: VecDeque::new() };
    }

    /// Takes note of `events` that are sent now, to everybody who reads.
    pub(super) fn sending(&self, events: usize) {
        let readers = self.stalled.borrow().iter().filter(|stalled| !**stalled).count();
        let entry = (Instant::now(), readers);
        self.sent.borrow_mut().at.extend(std::iter::repeat_n(entry, events));
    }

    /// How many events have not reached everybody who reads.
    pub(super) fn in_flight(&self) -> usize {
        self.sent.borrow().at.len()
    }

    /// Waits until every session has everything through `position`; returns false when it takes
    /// longer than `within`.
    ///
    /// # Errors
    ///
    /// A session failed.
    pub(super) async fn everybody_has(&self, position: u64, within: Duration) -> Result<bool> {
        self.awaited.set(position);
        let everybody = |tally: &Self| tally.reached.borrow().iter().all(|at| *at >= position);
        self.wait(within, everybody).await
    }

    /// Events that sessions were to get through `position` and did not, got twice, or got out of
    /// order.
    pub(super) fn losses(&self, position: u64) -> u64 {
        let short: u64 = self.reached.borrow().iter().map(|at| position.saturating_sub(*at)).sum();
        short + self.skipped.get() + self.repeated.get()
    }

    /// Makes the first `sessions` stop reading, or go on.
    pub(super) fn stall(&self, sessions: usize, stop: bool) {
        self.stalled.borrow_mut()[..sessions].fill(stop);
        self.resume.notify_waiters();
    }

    fn is_stalled(&self, session: usize) -> bool {
        self.stalled.borrow()[session]
    }

    fn fail(&self, failure: String) {
        self.failure.borrow_mut().get_or_insert(failure);
        self.news.notify_waiters();
    }

    fn count(&self, change: impl FnOnce(&mut Received)) {
        let mut received = self.received.get();
        change(&mut received);
        self.received.set(received);
    }

    /// Takes a message with the events `first..=last` into account.
    fn events(&self, session: usize, message: &[u8], first: u64, last: u64, now: Instant) {
        let mut reached = self.reached.borrow_mut();
        let reached = &mut reached[session];
        let mut due = reached.wrapping_add(1);
        let mut check = |position: u64| {
            self.skipped.set(self.skipped.get() + position.saturating_sub(due));
            self.repeated.set(self.repeated.get() + due.saturating_sub(position).min(1));
            due = due.max(position + 1);
        };
        match self.check {
            Check::Exact => self.positions.all(message).for_each(&mut check),
            // Between its ends, a message has consecutive events.
            Check::Ends => check(first),
        }
        let awaited = self.awaited.get();
        let arrives = *reached < awaited && awaited <= last;
        *reached = last.max(*reached);
        self.count(|received| {
            received.messages += 1;
            received.events += (last + 1).saturating_sub(first);
        });

        let mut sent = self.sent.borrow_mut();
        let before = sent.before;
        let from = first.saturating_sub(before + 1) as usize;
        let through = last.saturating_sub(before) as usize;
        if last <= before || through > sent.at.len() {
            // Events from before this run, or that everybody else has.
            if arrives {
                self.news.notify_waiters();
            }
            return;
        }
        let mut latency = self.latency.borrow_mut();
        let mut same: Option<(Instant, u64)> = None;
        for (at, missing) in sent.at.range_mut(from..through) {
            *missing = missing.saturating_sub(1);
            match &mut same {
                Some((then, count)) if *then == *at => *count += 1,
                _ => {
                    if let Some((then, count)) = same.replace((*at, 1)) {
                        latency.saturating_record_n(micros(now - then), count);
                    }
                }
            }
        }
        if let Some((then, count)) = same {
            latency.saturating_record_n(micros(now - then), count);
        }
        let mut news = arrives;
        while sent.at.front().is_some_and(|(_, missing)| *missing == 0) {
            sent.at.pop_front();
            sent.before += 1;
            news = true;
        }
        if news {
            self.news.notify_waiters();
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A histogram of microseconds up to ten minutes, with three digits.
pub(super) fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 600_000_000, 3).expect("the bounds are good")
}

/// One session.
struct Session {
    socket: TcpStream,
    /// The beginning of a frame whose end has not come.
    rest: Vec<u8>,
    session: usize,
    tally: Rc<Tally>,
    unsettled: Option<Unsettled>,
}

/// What a session has to settle.
struct Unsettled {
    acks: Acks,
    events: u64,
    last: u64,
    tick: Interval,
}

impl Unsettled {
    fn new(acks: Acks, session: usize) -> Self {
        // Clients are not in step with each other.
        let first = tokio::time::Instant::now() + acks.delay.mul_f64((session % 97) as f64 / 97.0);
        Self { acks, events: 0, last: 0, tick: interval_at(first, acks.delay) }
    }
}

impl Session {
    async fn read(mut self) {
        let tally = Rc::clone(&self.tally);
        if let Err(error) = self.try_read().await {
            tally.fail(format!("{error:#}"));
        }
    }

    async fn try_read(&mut self) -> Result<()> {
        let tally = Rc::clone(&self.tally);
        let rest = std::mem::take(&mut self.rest);
        self.take(&rest, Instant::now())?;
        loop {
            while tally.is_stalled(self.session) {
                tally.resume.notified().await;
            }
            let read = std::future::poll_fn(|task| {
                if tally.is_stalled(self.session) {
                    return Poll::Ready(Ok(None));
                }
                if let Some(unsettled) = &mut self.unsettled
                    && unsettled.tick.poll_tick(task).is_ready()
                {
                    return Poll::Ready(self.settle().map(|()| None));
                }
                let mut buffer = tally.buffer.borrow_mut();
                let mut buffer = ReadBuf::new(&mut buffer);
                match Pin::new(&mut self.socket).poll_read(task, &mut buffer) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
                    Poll::Ready(Ok(())) => Poll::Ready(self.took(buffer.filled()).map(Some)),
                }
            });
            if read.await? == Some(0) {
                bail!("the server has closed the connection");
            }
        }
    }

    fn took(&mut self, bytes: &[u8]) -> Result<usize> {
        let now = Instant::now();
        self.tally.count(|received| {
            received.reads += 1;
            received.bytes += bytes.len() as u64;
        });
        self.take(bytes, now)?;
        Ok(bytes.len())
    }

    fn take(&mut self, bytes: &[u8], now: Instant) -> Result<()> {
        if self.rest.is_empty() {
            let used = self.frames(bytes, now)?;
            self.rest.extend_from_slice(&bytes[used..]);
        } else {
            let mut rest = std::mem::take(&mut self.rest);
            rest.extend_from_slice(bytes);
            let used = self.frames(&rest, now)?;
            rest.drain(..used);
            self.rest = rest;
        }
        if self.rest.is_empty() && self.rest.capacity() > 0 {
            self.rest = Vec::new();
        }
        Ok(())
    }

    fn frames(&mut self, bytes: &[u8], now: Instant) -> Result<usize> {
        let mut used = 0;
        while let Some((frame, len)) = first_frame(&bytes[used..])? {
            used += len;
            match self.tally.positions.ends(frame.payload) {
                Some((first, last)) => {
                    self.tally.events(self.session, frame.payload, first, last, now);
                    if let Some(unsettled) = &mut self.unsettled {
                        unsettled.events += (last + 1).saturating_sub(first);
                        unsettled.last = last;
                        if unsettled.events >= u64::from(unsettled.acks.window / 4).max(1) {
                            self.settle()?;
                        }
                    }
                }
                None => self.other(&frame)?,
            }
        }
        Ok(used)
    }

    /// Acks what came since the last ack.
    fn settle(&mut self) -> Result<()> {
        let Some(unsettled) = &mut self.unsettled else { return Ok(()) };
        if std::mem::take(&mut unsettled.events) == 0 {
            return Ok(());
        }
        let ack = format!("{{\"type\":\"ack\",\"sub\":0,\"position\":{}}}", unsettled.last);
        let mut frame = BytesMut::new();
        encode_masked(Opcode::Text, true, ack.as_bytes(), MASK, &mut frame);
        let written = self.socket.try_write(&frame).context("an ack did not go out")?;
        if written < frame.len() {
            bail!("an ack went out in part");
        }
        Ok(())
    }

    /// Takes a frame without events.
    fn other(&mut self, frame: &Frame<'_>) -> Result<()> {
        match frame.opcode {
            9 => {
                let mut pong = BytesMut::new();
                encode_masked(Opcode::Pong, true, frame.payload, MASK, &mut pong);
                // A socket that takes no dozen bytes has a server that does not read.
                let written = self.socket.try_write(&pong).context("a pong did not go out")?;
                if written < pong.len() {
                    bail!("a pong went out in part");
                }
            }
            1 => {
                let message = frame.payload;
                let is =
                    |kind: &str| message.starts_with(format!("{{\"type\":\"{kind}\"").as_bytes());
                let live = self.tally.live.get();
                if is("live") {
                    self.tally.live.set(live + 1);
                    self.tally.news.notify_waiters();
                } else if is("behind") {
                    self.tally.live.set(live - 1);
                } else if is("subscribed") {
                    let after = number_after("\"after\":", message);
                    self.tally.reached.borrow_mut()[self.session] =
                        after.context("`subscribed` without a position")?;
                } else if !is("welcome") && !is("heartbeat") {
                    bail!("an unexpected message: {}", String::from_utf8_lossy(message));
                }
            }
            opcode => bail!("a frame of kind {opcode}, such as a close"),
        }
        Ok(())
    }
}

/// The key of every masked frame: what it is does not matter between a program and itself.
pub(super) const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

/// Opens a socket at `/ws` and asks for everything from `begin`. Returns it with what has come
/// behind the answer to the handshake.
async fn open(
    address: SocketAddr,
    begin: Begin,
    acks: Option<Acks>,
) -> Result<(TcpStream, Vec<u8>)> {
    let (mut socket, rest) = handshake(address, "/ws").await?;
    let after = match begin {
        Begin::Silent => return Ok((socket, rest)),
        Begin::End => "end",
        Begin::Start => "start",
    };
    let acks =
        acks.map_or(String::new(), |acks| format!(",\"ack\":\"each\",\"window\":{}", acks.window));
    let mut hello = BytesMut::new();
    for message in [
        "{\"type\":\"hello\",\"protocol\":1,\"client\":\"bench\"}".to_owned(),
        format!(
            "{{\"type\":\"subscribe\",\"sub\":0,\"to\":{{\"all\":true}},\"after\":\"{after}\"{acks}}}"
        ),
    ] {
        encode_masked(Opcode::Text, true, message.as_bytes(), MASK, &mut hello);
    }
    socket.write_all(&hello).await?;
    Ok((socket, rest))
}

/// Opens a connection and sends the head of a WebSocket handshake for `path`; returns it with what
/// has come behind the head of the answer.
pub(super) async fn handshake(address: SocketAddr, path: &str) -> Result<(TcpStream, Vec<u8>)> {
    let mut socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let head = format!(
        "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    loop {
        if let Some(end) = memchr::memmem::find(&answer, b"\r\n\r\n") {
            let status = answer.get(9..12).unwrap_or_default();
            if status != b"101" && status != b"200" {
                bail!("the server refused a session: {}", String::from_utf8_lossy(&answer));
            }
            return Ok((socket, answer.split_off(end + 4)));
        }
        if socket.read_buf(&mut answer).await? == 0 {
            bail!("the server closed the connection during the handshake");
        }
    }
}
