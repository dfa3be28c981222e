//! The load generator's sending side: appends over one socket, or orders to the bare writer.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use bytes::BytesMut;
use hdrhistogram::Histogram;
use tidewire_protocol::frame::{Opcode, encode_masked};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Mutex, Notify},
    task::JoinSet,
    time::timeout,
};

use super::{
    crowd::{MASK, handshake, new_histogram},
    frames::{first_frame, number_after},
};

/// Streams over which the events are spread.
const STREAMS: u64 = 16;

/// How events come to stand in the server's writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    /// Events that one write to a socket carries.
    pub(super) events: usize,
    /// Frames that they stand in.
    pub(super) frames: usize,
}

/// Makes events.
#[derive(Debug)]
pub(super) enum Feed {
    /// Appends to a log.
    Log(LogFeed),
    /// Orders to the bare writer.
    Bare(BareFeed),
}

impl Feed {
    /// The last position before the first event that this will make.
    pub(super) fn base(&self) -> u64 {
        match self {
            Self::Log(feed) => feed.base(),
            Self::Bare(_) => 0,
        }
    }

    /// The last position that will have been given when everything sent is recorded.
    pub(super) fn head(&self) -> u64 {
        match self {
            Self::Log(feed) => feed.head(),
            Self::Bare(feed) => feed.made,
        }
    }

    /// Events that have to be sent together.
    pub(super) fn together(&self) -> usize {
        match self {
            Self::Log(_) => 1,
            Self::Bare(feed) => feed.shape.events,
        }
    }

    /// Sends `events`, a multiple of [`Self::together`].
    ///
    /// # Errors
    ///
    /// The other side has gone, or refuses.
    pub(super) async fn send(&mut self, events: usize) -> Result<()> {
        match self {
            Self::Log(feed) => feed.append(events, 1).await,
            Self::Bare(feed) => feed.order(events).await,
        }
    }
}

/// Appends single events over one socket, without waiting for the answers.
#[derive(Debug)]
pub(super) struct LogFeed {
    socket: Rc<Mutex<OwnedWriteHalf>>,
    payload: usize,
    made: u64,
    state: Rc<Answers>,
    _reader: JoinSet<()>,
}

/// What is known of the answers.
#[derive(Debug)]
struct Answers {
    base: Cell<u64>,
    /// When the appends were sent that have no answer yet, by number.
    sent: RefCell<HashMap<u64, Instant>>,
    latency: RefCell<Histogram<u64>>,
    failure: RefCell<Option<String>>,
    news: Notify,
}

impl LogFeed {
    /// Connects. Payloads will have `payload` bytes.
    pub(super) async fn open(address: SocketAddr, payload: usize) -> Result<Self> {
        let (socket, mut rest) = handshake(address, "/ws").await?;
        let (mut reader, mut writer) = socket.into_split();
        let mut hello = BytesMut::new();
        let text = b"{\"type\":\"hello\",\"protocol\":1,\"client\":\"bench\"}";
        encode_masked(Opcode::Text, true, text, MASK, &mut hello);
        writer.write_all(&hello).await?;
        let base = loop {
            if let Some((frame, used)) = first_frame(&rest)? {
                let head = number_after("\"head\":", frame.payload);
                rest.drain(..used);
                break head.context("the server did not welcome")?;
            }
            if reader.read_buf(&mut rest).await? == 0 {
                bail!("the server has closed the connection for appends");
            }
        };
        let state = Rc::new(Answers {
            base: Cell::new(base),
            sent: RefCell::default(),
            latency: RefCell::new(new_histogram()),
            failure: RefCell::default(),
            news: Notify::new(),
        });
        let mut reading = JoinSet::new();
        let answers = Rc::clone(&state);
        let socket = Rc::new(Mutex::new(writer));
        let pongs = Rc::clone(&socket);
        reading.spawn_local(async move {
            if let Err(error) = answers.read(reader, rest, &pongs).await {
                *answers.failure.borrow_mut() = Some(format!("{error:#}"));
                answers.news.notify_waiters();
            }
        });
        Ok(Self { socket, payload, made: 0, state, _reader: reading })
    }

    /// From sending an append to its answer, in microseconds, since this was called last.
    pub(super) fn take_latency(&self) -> Histogram<u64> {
        std::mem::replace(&mut *self.state.latency.borrow_mut(), new_histogram())
    }

    /// The last position before the first event that this made.
    pub(super) fn base(&self) -> u64 {
        self.state.base.get()
    }

    /// The last position when everything sent is recorded.
    pub(super) fn head(&self) -> u64 {
        self.base() + self.made
    }

    /// Waits until at most `unanswered` appends have no answer.
    ///
    /// # Errors
    ///
    /// It takes longer than `within`, or an append failed.
    pub(super) async fn answered_but(&self, unanswered: usize, within: Duration) -> Result<()> {
        let answered = async {
            while self.state.sent.borrow().len() > unanswered {
                self.check()?;
                self.state.news.notified().await;
            }
            self.check()
        };
        timeout(within, answered).await.context("appends were not answered in time")?
    }

    /// Sends one append of `events`.
    ///
    /// # Errors
    ///
    /// The connection is gone, or an append failed.
    pub(super) async fn append_together(&mut self, events: usize) -> Result<()> {
        self.append(1, events).await
    }

    /// Sends `appends` of `events` each. An append's id is the number of its last event.
    async fn append(&mut self, appends: usize, events: usize) -> Result<()> {
        let mut out = BytesMut::new();
        let now = Instant::now();
        for _ in 0..appends {
            let (first, last) = (self.made + 1, self.made + events as u64);
            self.made = last;
            self.state.sent.borrow_mut().insert(last, now);
            let mut list = String::new();
            for n in first..=last {
                let comma = if n == first { "" } else { "," };
                let data = payload(n, self.payload);
                list.push_str(&format!("{comma}{{\"type\":\"Measured\",\"data\":{data}}}"));
            }
            let stream = last % STREAMS;
            let message = format!(
                "{{\"type\":\"append\",\"id\":\"{last}\",\"stream\":\"bench-{stream}\",\
                 \"events\":[{list}]}}"
            );
            encode_masked(Opcode::Text, true, message.as_bytes(), MASK, &mut out);
        }
        let mut socket = self.socket.lock().await;
        socket.write_all(&out).await.context("the connection for appends")?;
        drop(socket);
        self.check()
    }

    fn check(&self) -> Result<()> {
        match &*self.state.failure.borrow() {
            Some(failure) => bail!("appends failed: {failure}"),
            None => Ok(()),
        }
    }
}

impl Answers {
    async fn read(
        &self,
        mut reader: OwnedReadHalf,
        mut rest: Vec<u8>,
        socket: &Mutex<OwnedWriteHalf>,
    ) -> Result<()> {
        loop {
            let mut used = 0;
            let mut pongs = BytesMut::new();
            while let Some((frame, len)) = first_frame(&rest[used..])? {
                used += len;
                if frame.opcode == 9 {
                    encode_masked(Opcode::Pong, true, frame.payload, MASK, &mut pongs);
                } else {
                    self.take(frame.opcode, frame.payload)?;
                }
            }
            rest.drain(..used);
            if !pongs.is_empty() {
                socket.lock().await.write_all(&pongs).await?;
            }
            if reader.read_buf(&mut rest).await? == 0 {
                bail!("the server has closed the connection");
            }
        }
    }

    fn take(&self, opcode: u8, message: &[u8]) -> Result<()> {
        if message.starts_with(b"{\"type\":\"heartbeat\"") {
            return Ok(());
        }
        if opcode != 1 || !message.starts_with(b"{\"type\":\"appended\"") {
            bail!("instead of an answer: {}", String::from_utf8_lossy(message));
        }
        let n = number_after("\"id\":\"", message).context("an answer without its id")?;
        let position = number_after("\"position\":", message).unwrap_or_default();
        if position != self.base.get() + n {
            bail!("append {n} got position {position}: somebody else appends to this log");
        }
        let at = self.sent.borrow_mut().remove(&n).context("an answer to nothing")?;
        let micros = u64::try_from(at.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.latency.borrow_mut().saturating_record(micros);
        self.news.notify_waiters();
        Ok(())
    }
}

/// A JSON payload of `bytes` bytes, or few more where that is too few to hold the number.
pub(super) fn payload(n: u64, bytes: usize) -> String {
    let head = format!("{{\"n\":{n},\"pad\":\"");
    let pad = bytes.saturating_sub(head.len() + 2);
    format!("{head}{:x<pad$}\"}}", "")
}

/// Orders writes from the [bare writer](super::writer).
#[derive(Debug)]
pub(super) struct BareFeed {
    socket: TcpStream,
    shape: Shape,
    made: u64,
}

impl BareFeed {
    /// Connects. Writes will have `shape`.
    pub(super) async fn open(address: SocketAddr, shape: Shape) -> Result<Self> {
        let (socket, _) = handshake(address, "/control").await?;
        Ok(Self { socket, shape, made: 0 })
    }

    /// From now on, writes will have this shape.
    pub(super) fn set_shape(&mut self, shape: Shape) {
        self.shape = shape;
    }

    async fn order(&mut self, events: usize) -> Result<()> {
        let mut orders = Vec::new();
        self.made += events as u64;
        for _ in 0..events / self.shape.events {
            orders.extend((self.shape.events as u32).to_le_bytes());
            orders.extend((self.shape.frames as u32).to_le_bytes());
        }
        self.socket.write_all(&orders).await.context("the bare writer has gone")
    }
}
