//! The server's end of one connection: a real session, a real decoder, and a model of what a
//! transport does with the session's orders.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use tidewire_eventstore::{GlobalPosition, Timestamp};
use tidewire_protocol::{
    Activity, CloseCode, FeedSpec, Input, Moment, Output, Session, SessionConfig, SessionId,
    SessionInfo, Sub,
    codec::json::encode_events_frame,
    frame::{FrameDecoder, FrameLimits},
};
use uuid::Uuid;

use crate::{chance::Chance, link::Pipe, log::Log};

/// The most that a feed writes ahead of the socket, in bytes.
const WRITE_AHEAD: usize = 2048;

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
        ..SessionConfig::default()
    }
}

impl ServerConn {
    pub(crate) fn new(number: u64, log: &Log, now: Instant, chance: &mut Chance) -> Self {
        let view_behind = if chance.once_in(4) { chance.within(0, 10) } else { 0 };
        let info = SessionInfo {
            session: SessionId(Uuid::from_u128(u128::from(number))),
            node: Arc::from("node"),
            epochs: Arc::clone(&log.epochs),
            opened_at: Timestamp::from_micros(0),
            bearer: None,
        };
        let config = config();
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
        }
    }

    fn moment(&self, log: &Log, now: Instant) -> Moment {
        Moment { now, head: view(log, self.view_behind), removed: GlobalPosition::START }
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        let later = self.later.front().map(|(at, _)| *at);
        [later, self.session.next_timeout()].into_iter().flatten().min()
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
        if self.session.next_timeout().is_some_and(|at| at <= now) {
            let activity = Activity {
                inbound_at: self.inbound_at,
                progress_at: self.progress_at,
                unsent_bytes: out.unsent.len(),
            };
            self.hand_in(Input::Timeout(activity), log, now);
        }
        while self.later.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, later)) = self.later.pop_front() else { break };
            let input = match later {
                Later::Input(input) => input,
                Later::Append(id, append) => Input::Answer { id, answer: Ok(log.append(&append)) },
                Later::CheckHead(sub) => Input::HeadChecked { sub, head: Ok(log.head()) },
            };
            self.hand_in(input, log, now);
            self.obey(log, out, now, chance);
        }
        while self.session.may_read() {
            match self.decoder.decode(&mut self.read) {
                Ok(Some(message)) => self.hand_in(Input::Message(message), log, now),
                Ok(None) => break,
                Err(error) => self.hand_in(Input::Broken(error), log, now),
            }
            self.obey(log, out, now, chance);
        }
        self.obey(log, out, now, chance);
        self.feed(log, out, now, chance);
        self.obey(log, out, now, chance);
        if out.unsent.is_empty() {
            self.hand_in(Input::Flushed, log, now);
        }
    }

    fn obey(&mut self, log: &Log, out: &mut Pipe, now: Instant, chance: &mut Chance) {
        while let Some(output) = self.session.poll() {
            let at = now + Duration::from_millis(chance.within(0, 30));
            // Answers of one node keep their order, as those of one store do.
            let at = self.later.back().map_or(at, |(last, _)| at.max(*last));
            match output {
                Output::Send(bytes) | Output::Pong(bytes) => out.unsent.extend_from_slice(&bytes),
                Output::Open { sub, feed, after } => {
                    let feed = Feed { spec: feed, cursor: after, live: false };
                    assert!(self.feeds.insert(sub, feed).is_none(), "the handle was free");
                }
                Output::Shut { sub } => drop(self.feeds.remove(&sub)),
                Output::Append { id, append } => {
                    self.later.push_back((at, Later::Append(id, append)));
                }
                Output::Fetch { .. }
                | Output::Claim { .. }
                | Output::Save { .. }
                | Output::Release { .. }
                | Output::Read { .. }
                | Output::Command { .. } => panic!("nobody asks for it"),
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
        for (sub, feed) in &mut self.feeds {
            while feed.cursor < head && out.unsent.len() < WRITE_AHEAD {
                let page = chance.within(1, 20);
                let until = GlobalPosition::new((feed.cursor.get() + page).min(head.get()));
                let page = feed.cursor.get() as usize..until.get() as usize;
                let events: Vec<&BytesMut> = log.events[page.clone()]
                    .iter()
                    .zip(&log.encoded[page])
                    .filter(|(event, _)| feed.spec.target.includes(&event.stream))
                    .filter(|(event, _)| {
                        feed.spec.filter.as_ref().is_none_or(|filter| filter.matches(event))
                    })
                    .map(|(_, json)| json)
                    .collect();
                feed.cursor = until;
                if !events.is_empty() {
                    let mut frame = BytesMut::new();
                    encode_events_frame(*sub, &events, &mut frame);
                    out.unsent.extend_from_slice(&frame);
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
