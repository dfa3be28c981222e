//! The server's end of one connection: a real session, a real decoder, and a model of what a
//! transport does with the session's orders.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use tidewire_eventstore::{GlobalPosition, RecordedEvent, StreamHash, Timestamp};
use tidewire_protocol::{
    Activity, ClaimRequest, CloseCode, DeliveryConfig, ErrorBody, ErrorCode, EventRef, FeedSpec,
    Input, Moment, Output, Progress, Sent, Session, SessionConfig, SessionId, SessionInfo, Sub,
    codec::json::encode_events_frame,
    frame::{FrameDecoder, FrameLimits, Message},
};
use uuid::Uuid;

use crate::{
    chance::Chance,
    link::Pipe,
    log::Log,
    mirror::Mirror,
    store::{Fenced, Held},
};

/// The most that a feed writes ahead of the socket, in bytes.
const WRITE_AHEAD: usize = 2048;

/// How long an event may be unsettled before it is sent again.
pub(crate) const ACK_TIMEOUT: Duration = Duration::from_secs(1);

/// How often the keeper of consumers looks after what is held.
const KEEP_EVERY: Duration = Duration::from_millis(500);

struct Feed {
    spec: FeedSpec,
    cursor: GlobalPosition,
    live: bool,
}

/// What a node sends itself: answers come later than the questions.
enum Later {
    Input(Input),
    Append(tidewire_protocol::RequestId, tidewire_protocol::AppendRequest),
    CheckHead(Sub),
    Claim(Sub, Box<ClaimRequest>),
    Save(Sub, Progress),
    Release(Held, Progress, bool),
    Read(Sub, GlobalPosition),
}

pub(crate) struct ServerConn {
    pub(crate) session: Session,
    decoder: FrameDecoder,
    read: BytesMut,
    feeds: BTreeMap<Sub, Feed>,
    later: VecDeque<(Instant, Later)>,
    pub(crate) inbound_at: Instant,
    pub(crate) progress_at: Instant,
    /// How far behind the log this node's view of its head is, in events.
    view_behind: u64,
    pub(crate) closed: Option<CloseCode>,
    /// Names the session as a member of groups.
    member: u64,
    held: BTreeMap<Sub, Held>,
    keep_at: Instant,
    /// When each consumer was saved.
    saved_at: BTreeMap<Sub, Instant>,
    mirror: Mirror,
}

pub(crate) fn config() -> SessionConfig {
    SessionConfig {
        hello_timeout: Duration::from_secs(3),
        ping_interval: Duration::from_secs(5),
        pong_timeout: Duration::from_secs(1),
        progress_timeout: Duration::from_secs(8),
        heartbeat_interval: Duration::from_secs(2),
        drain_timeout: Duration::from_secs(1),
        close_timeout: Duration::from_secs(1),
        delivery: DeliveryConfig {
            ack_timeout: ACK_TIMEOUT,
            ack_timeout_max: Duration::from_secs(4),
            rebalance_timeout: Duration::from_secs(2),
            ..DeliveryConfig::default()
        },
        ..SessionConfig::default()
    }
}

impl ServerConn {
    pub(crate) fn new(number: u64, run: u64, log: &Log, now: Instant, chance: &mut Chance) -> Self {
        let view_behind = if chance.once_in(4) { chance.within(0, 10) } else { 0 };
        let info = SessionInfo {
            session: SessionId(Uuid::from_u128(u128::from(number))),
            node: Arc::from("node"),
            epochs: Arc::clone(&log.epochs),
            opened_at: Timestamp::from_micros(0),
            bearer: None,
        };
        let config = config();
        let delivery = config.delivery;
        let limits = FrameLimits::server(config.limits.message_bytes as u64);
        let head = view(log, view_behind);
        Self {
            session: Session::new(
                config,
                info,
                Moment { now, head, removed: GlobalPosition::START },
            ),
            decoder: FrameDecoder::new(limits),
            read: BytesMut::new(),
            feeds: BTreeMap::new(),
            later: VecDeque::new(),
            inbound_at: now,
            progress_at: now,
            view_behind,
            closed: None,
            member: number,
            held: BTreeMap::new(),
            keep_at: now + KEEP_EVERY,
            saved_at: BTreeMap::new(),
            mirror: Mirror::new(run, delivery.ack_timeout, delivery.window_default),
        }
    }

    fn moment(&self, log: &Log, now: Instant) -> Moment {
        Moment { now, head: view(log, self.view_behind), removed: GlobalPosition::START }
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        let later = self.later.front().map(|(at, _)| *at);
        let keep = (!self.held.is_empty()).then_some(self.keep_at);
        [later, keep, self.session.next_timeout()].into_iter().flatten().min()
    }

    /// Takes in bytes from the client.
    pub(crate) fn receive(&mut self, bytes: &[u8], now: Instant) {
        self.inbound_at = now;
        self.read.extend_from_slice(bytes);
    }

    pub(crate) fn hand_in(&mut self, input: Input, log: &Log, now: Instant) {
        let moment = self.moment(log, now);
        self.session.handle(input, moment);
    }

    /// Does everything that can be done now.
    pub(crate) fn pump(
        &mut self,
        log: &mut Log,
        out: &mut Pipe,
        now: Instant,
        chance: &mut Chance,
    ) {
        if chance.once_in(5) {
            self.view_behind = self.view_behind.saturating_sub(1);
        }
        self.mirror.waits(&mut log.consumers, now);
        if self.session.next_timeout().is_some_and(|at| at <= now) {
            let activity = Activity {
                inbound_at: self.inbound_at,
                progress_at: self.progress_at,
                unsent_bytes: out.unsent.len(),
            };
            self.hand_in(Input::Timeout(activity), log, now);
        }
        self.keep(log, now);
        self.obey(log, out, now, chance);
        while self.later.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, later)) = self.later.pop_front() else { break };
            if let Some(input) = self.answer(later, log, now, chance) {
                self.hand_in(input, log, now);
            }
            self.obey(log, out, now, chance);
        }
        while self.session.may_read() {
            match self.decoder.decode(&mut self.read) {
                Ok(Some(message)) => {
                    if let (Message::Text(text), None) = (&message, self.closed) {
                        self.mirror.client_says(text, &mut log.consumers);
                    }
                    self.hand_in(Input::Message(message), log, now);
                }
                Ok(None) => break,
                Err(error) => self.hand_in(Input::Broken(error), log, now),
            }
            self.obey(log, out, now, chance);
        }
        self.obey(log, out, now, chance);
        self.feed(log, out, now, chance);
        self.obey(log, out, now, chance);
        if out.unsent.is_empty() {
            self.hand_in(Input::Accepted, log, now);
            self.hand_in(Input::Flushed, log, now);
        }
    }

    /// Does what the session asked of the store; the answer, if it wants one.
    fn answer(
        &mut self,
        later: Later,
        log: &mut Log,
        now: Instant,
        chance: &mut Chance,
    ) -> Option<Input> {
        let unavailable = || ErrorBody::of(ErrorCode::Unavailable);
        Some(match later {
            Later::Input(input) => input,
            Later::Append(id, append) => Input::Answer { id, answer: Ok(log.append(&append)) },
            Later::CheckHead(sub) => Input::HeadChecked { sub, head: Ok(log.head()) },
            Later::Claim(sub, claim) => {
                if chance.once_in(15) {
                    return Some(Input::Claimed { sub, claimed: Err(unavailable()) });
                }
                let (grant, held) = log.consumers.claim(self.member, &claim, now);
                self.held.insert(sub, held);
                self.saved_at.remove(&sub);
                Input::Claimed { sub, claimed: Ok(grant) }
            }
            Later::Save(sub, progress) => {
                if chance.once_in(15) {
                    return Some(Input::Saved { sub, saved: Err(unavailable()) });
                }
                let held = self.held.get(&sub)?;
                let saved = log.consumers.save(self.member, held, &progress, None, &log.events);
                let saved = saved.map_err(|Fenced| ErrorBody::of(ErrorCode::ConsumerTaken));
                // What was saved, and nobody was told.
                let saved = if chance.once_in(15) { Err(unavailable()) } else { saved };
                if saved
                    .as_ref()
                    .is_err_and(|error| error.known() == Some(ErrorCode::ConsumerTaken))
                {
                    self.held.remove(&sub);
                }
                Input::Saved { sub, saved }
            }
            Later::Release(held, progress, clean) => {
                let release = Some(clean);
                // Who is fenced off has nothing left to let go of.
                let _ = log.consumers.save(self.member, &held, &progress, release, &log.events);
                return None;
            }
            Later::Read(sub, position) => {
                let event = log.events[position.get() as usize - 1].clone();
                let failed = chance.once_in(20);
                let event = if failed { Err(unavailable()) } else { Ok(Some(Box::new(event))) };
                Input::Read { sub, position, event }
            }
        })
    }

    /// Looks after the consumers that are held.
    fn keep(&mut self, log: &mut Log, now: Instant) {
        if self.keep_at > now {
            return;
        }
        self.keep_at = now + KEEP_EVERY;
        let mut inputs = Vec::new();
        let mut lost = Vec::new();
        for (sub, held) in &mut self.held {
            let news = log.consumers.keep(self.member, held, now);
            if news.lost {
                lost.push(*sub);
                inputs.push(Input::Taken { sub: *sub });
            } else if news.rebalance && !held.rebalancing {
                held.rebalancing = true;
                inputs.push(Input::Rebalance { sub: *sub });
            }
            if !news.replays.is_empty() {
                inputs.push(Input::Replay { sub: *sub, events: news.replays });
            }
        }
        for sub in lost {
            self.held.remove(&sub);
        }
        for input in inputs {
            self.hand_in(input, log, now);
        }
    }

    /// The node goes on without the connection: what the session has asked of the store is done.
    pub(crate) fn settle_with_store(&mut self, log: &mut Log) {
        let mut held = std::mem::take(&mut self.held);
        for (_, later) in std::mem::take(&mut self.later) {
            match later {
                Later::Save(sub, progress) => {
                    if let Some(held) = held.get(&sub) {
                        let _ = log.consumers.save(self.member, held, &progress, None, &log.events);
                    }
                }
                Later::Release(held, progress, clean) => {
                    let release = Some(clean);
                    let _ = log.consumers.save(self.member, &held, &progress, release, &log.events);
                }
                _ => {}
            }
        }
        held.clear();
    }

    fn obey(&mut self, log: &mut Log, out: &mut Pipe, now: Instant, chance: &mut Chance) {
        while let Some(output) = self.session.poll() {
            let at = now + Duration::from_millis(chance.within(0, 30));
            // Answers of one node keep their order, as those of one store do.
            let at = self.later.back().map_or(at, |(last, _)| at.max(*last));
            match output {
                Output::Send(bytes) => {
                    self.mirror.session_says(&bytes, &mut log.consumers, now);
                    out.unsent.extend_from_slice(&bytes);
                }
                Output::Pong(bytes) => out.unsent.extend_from_slice(&bytes),
                Output::Open { sub, feed, after } => {
                    let feed = Feed { spec: feed, cursor: after, live: false };
                    assert!(self.feeds.insert(sub, feed).is_none(), "the handle was free");
                }
                Output::Shut { sub } => drop(self.feeds.remove(&sub)),
                Output::Append { id, append } => {
                    self.later.push_back((at, Later::Append(id, append)));
                }
                Output::Fetch { .. }
                | Output::Command { .. }
                | Output::CheckQuery { .. }
                | Output::Watch { .. }
                | Output::Query { .. } => panic!("nobody asks for it"),
                Output::Claim { sub, claim } => {
                    self.later.push_back((at, Later::Claim(sub, claim)));
                }
                Output::Save { sub, progress } => {
                    let interval = config().delivery.save_interval;
                    let before = self.saved_at.insert(sub, now);
                    assert!(before.is_none_or(|at| now >= at + interval), "saved too often");
                    self.later.push_back((at, Later::Save(sub, progress)));
                }
                Output::Release { sub, progress, clean } => {
                    if !clean {
                        self.mirror.vanishes(sub, &mut log.consumers);
                    }
                    // Nothing is left to let go of, where the keeper saw that it was lost.
                    if let Some(held) = self.held.remove(&sub) {
                        self.later.push_back((at, Later::Release(held, progress, clean)));
                    }
                }
                Output::Read { sub, position } => {
                    self.later.push_back((at, Later::Read(sub, position)));
                }
                Output::CheckHead { sub } => self.later.push_back((at, Later::CheckHead(sub))),
                Output::CheckRemoved { .. } => panic!("nothing is removed"),
                Output::Positions => {
                    let positions =
                        self.feeds.iter().map(|(sub, feed)| (*sub, feed.cursor)).collect();
                    self.hand_in(Input::Positions(positions), log, now);
                }
                Output::RoundTrip(_) => {}
                Output::Close { code } => self.closed = Some(code),
            }
        }
    }

    fn feed(&mut self, log: &Log, out: &mut Pipe, now: Instant, chance: &mut Chance) {
        let head = view(log, self.view_behind);
        let mut inputs = Vec::new();
        let moment = Moment { now, head, removed: GlobalPosition::START };
        for (sub, feed) in &mut self.feeds {
            while feed.cursor < head && out.unsent.len() < WRITE_AHEAD {
                if self.session.room(*sub) == 0 {
                    break;
                }
                let page = chance.within(1, 20);
                let until = GlobalPosition::new((feed.cursor.get() + page).min(head.get()));
                let page = feed.cursor.get() as usize..until.get() as usize;
                let spec = &feed.spec;
                let events: Vec<(&RecordedEvent, &BytesMut)> = log.events[page.clone()]
                    .iter()
                    .zip(&log.encoded[page])
                    .filter(|(event, _)| spec.target.includes(&event.stream))
                    .filter(|(event, _)| {
                        spec.partitions.contains(StreamHash::of(&event.stream).partition())
                    })
                    .filter(|(event, _)| {
                        spec.filter.as_ref().is_none_or(|filter| filter.matches(event))
                    })
                    .collect();
                let refs: Vec<EventRef> = events
                    .iter()
                    .map(|(event, _)| EventRef {
                        position: event.position,
                        stream: StreamHash::of(&event.stream),
                    })
                    .collect();
                let offer = self.session.offer(*sub, &refs, moment);
                feed.cursor = match refs.get(offer.taken) {
                    Some(first_left) => first_left.position.previous(),
                    None => until,
                };
                let written: Vec<usize> = match offer.sent {
                    Sent::All => (0..offer.taken).collect(),
                    Sent::Some(indices) => indices,
                };
                for at in &written {
                    let event = events[*at].0;
                    self.mirror.feeds(*sub, event.position, &event.stream, now);
                }
                if !written.is_empty() {
                    let written: Vec<&BytesMut> =
                        written.into_iter().map(|at| events[at].1).collect();
                    let mut frame = BytesMut::new();
                    encode_events_frame(*sub, &written, &mut frame);
                    out.unsent.extend_from_slice(&frame);
                }
                if offer.taken < refs.len() {
                    break;
                }
            }
            if feed.cursor >= head && !feed.live {
                feed.live = true;
                inputs.push(Input::Live { sub: *sub, position: feed.cursor });
            } else if feed.cursor < head && feed.live {
                feed.live = false;
                let lag = head.distance_from(feed.cursor);
                inputs.push(Input::Behind { sub: *sub, position: feed.cursor, lag });
            }
        }
        let at = self.later.back().map_or(now, |(last, _)| *last);
        if inputs.is_empty() {
            return;
        }
        // Sometimes at once, sometimes after a while; always in order.
        if chance.once_in(2) && self.later.is_empty() {
            for input in inputs {
                self.hand_in(input, log, now);
            }
        } else {
            self.later.extend(inputs.into_iter().map(|input| (at, Later::Input(input))));
        }
    }
}

/// What a node knows of the log's head.
fn view(log: &Log, behind: u64) -> GlobalPosition {
    GlobalPosition::new(log.head().get().saturating_sub(behind))
}
