//! The server's end of one connection: a real session, a real decoder, and the feeds.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use tidewire_eventstore::{GlobalPosition, Timestamp};
use tidewire_protocol::{
    Activity, CloseCode, ErrorBody, ErrorCode, Input, Moment, Output, QueryChecked, Session,
    SessionConfig, SessionId, SessionInfo, Sub,
    frame::{FrameDecoder, FrameLimits},
};
use uuid::Uuid;

use crate::{
    chance::Chance,
    feeds::{Done, QueryFeed, SummaryFeed},
    link::Pipe,
    projection::Projection,
};

/// The most that feeds write ahead of the socket, in bytes.
const WRITE_AHEAD: usize = 1024;

/// What is answered later than it was asked.
enum Later {
    CheckQuery(Sub),
    CheckHead(Sub),
}

pub(crate) struct Server {
    session: Session,
    decoder: FrameDecoder,
    read: BytesMut,
    queries: Vec<QueryFeed>,
    summaries: Vec<SummaryFeed>,
    later: VecDeque<(Instant, Later)>,
    inbound_at: Instant,
    pub(crate) progress_at: Instant,
    /// How far this node's view of the head is behind.
    view_behind: u64,
    pub(crate) closed: Option<CloseCode>,
}

fn config() -> SessionConfig {
    SessionConfig {
        hello_timeout: Duration::from_secs(3),
        ping_interval: Duration::from_secs(5),
        pong_timeout: Duration::from_secs(1),
        progress_timeout: Duration::from_secs(8),
        heartbeat_interval: Duration::from_secs(1),
        drain_timeout: Duration::from_secs(1),
        close_timeout: Duration::from_secs(1),
        ..SessionConfig::default()
    }
}

impl Server {
    pub(crate) fn new(
        number: u64,
        projection: &Projection,
        now: Instant,
        chance: &mut Chance,
    ) -> Self {
        let info = SessionInfo {
            session: SessionId(Uuid::from_u128(u128::from(number))),
            node: Arc::from("node"),
            epochs: projection.epochs.clone(),
            opened_at: Timestamp::from_micros(0),
            bearer: None,
        };
        let config = config();
        let limits = FrameLimits::server(config.limits.message_bytes as u64);
        let view_behind = if chance.once_in(4) { chance.within(0, 10) } else { 0 };
        let moment = Moment {
            now,
            head: GlobalPosition::new(projection.head()),
            removed: GlobalPosition::START,
        };
        Self {
            session: Session::new(config, info, moment),
            decoder: FrameDecoder::new(limits),
            read: BytesMut::new(),
            queries: Vec::new(),
            summaries: Vec::new(),
            later: VecDeque::new(),
            inbound_at: now,
            progress_at: now,
            view_behind,
            closed: None,
        }
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        let later = self.later.front().map(|(at, _)| *at);
        [later, self.session.next_timeout()].into_iter().flatten().min()
    }

    /// Whether every live query is fed with commits.
    pub(crate) fn is_live(&self) -> bool {
        self.later.is_empty() && self.queries.iter().all(QueryFeed::is_live)
    }

    pub(crate) fn receive(&mut self, bytes: &[u8], now: Instant) {
        self.inbound_at = now;
        self.read.extend_from_slice(bytes);
    }

    pub(crate) fn hand_in(&mut self, input: Input, projection: &Projection, now: Instant) {
        let head = GlobalPosition::new(projection.head().saturating_sub(self.view_behind));
        let moment = Moment { now, head, removed: GlobalPosition::START };
        self.session.handle(input, moment);
    }

    /// Does everything that can be done now.
    pub(crate) fn pump(
        &mut self,
        projection: &mut Projection,
        out: &mut Pipe,
        now: Instant,
        chance: &mut Chance,
    ) {
        if self.session.next_timeout().is_some_and(|at| at <= now) {
            let activity = Activity {
                inbound_at: self.inbound_at,
                progress_at: self.progress_at,
                unsent_bytes: out.unsent.len(),
            };
            self.hand_in(Input::Timeout(activity), projection, now);
        }
        self.obey(projection, out, now, chance);
        while self.later.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, later)) = self.later.pop_front() else { break };
            let input = match later {
                Later::CheckHead(sub) => {
                    let head = Ok(GlobalPosition::new(projection.head()));
                    Input::HeadChecked { sub, head }
                }
                Later::CheckQuery(sub) => Input::QueryChecked {
                    sub,
                    checked: if chance.once_in(12) {
                        Err(ErrorBody::of(ErrorCode::ProjectionUnavailable))
                    } else {
                        let changes_from = GlobalPosition::new(projection.active.floor);
                        Ok(QueryChecked { active: projection.reached(), changes_from })
                    },
                },
            };
            self.hand_in(input, projection, now);
            self.obey(projection, out, now, chance);
        }
        while self.session.may_read() {
            match self.decoder.decode(&mut self.read) {
                Ok(Some(message)) => self.hand_in(Input::Message(message), projection, now),
                Ok(None) => break,
                Err(error) => self.hand_in(Input::Broken(error), projection, now),
            }
            self.obey(projection, out, now, chance);
        }
        self.feed(projection, out, now, chance);
        self.obey(projection, out, now, chance);
        if out.unsent.is_empty() {
            self.hand_in(Input::Flushed, projection, now);
            self.obey(projection, out, now, chance);
        }
    }

    fn obey(
        &mut self,
        projection: &mut Projection,
        out: &mut Pipe,
        now: Instant,
        chance: &mut Chance,
    ) {
        while let Some(output) = self.session.poll() {
            let at = now + Duration::from_millis(chance.within(0, 30));
            let at = self.later.back().map_or(at, |(last, _)| at.max(*last));
            match output {
                Output::Send(bytes) | Output::Pong(bytes) => out.unsent.extend_from_slice(&bytes),
                Output::Open { sub, feed, after } => {
                    self.summaries.push(SummaryFeed::new(sub, &feed, after));
                }
                Output::CheckQuery { sub, .. } => {
                    self.later.push_back((at, Later::CheckQuery(sub)));
                }
                Output::CheckHead { sub } => self.later.push_back((at, Later::CheckHead(sub))),
                Output::Watch { sub, query, from, resumed } => {
                    self.queries.push(QueryFeed::new(sub, *query, from, resumed));
                }
                Output::Shut { sub } => {
                    self.queries.retain(|feed| feed.sub() != sub);
                    self.summaries.retain(|feed| feed.sub() != sub);
                }
                Output::Positions => {
                    let queries =
                        self.queries.iter().filter_map(|feed| Some((feed.sub(), feed.position()?)));
                    let summaries = self.summaries.iter().map(|feed| (feed.sub(), feed.position()));
                    let positions = queries.chain(summaries).collect();
                    self.hand_in(Input::Positions(positions), projection, now);
                }
                Output::RoundTrip(_) => {}
                Output::Close { code } => {
                    self.closed = Some(code);
                    self.queries.clear();
                    self.summaries.clear();
                }
                other => panic!("nobody asks for {other:?}"),
            }
        }
    }

    /// Lets the feeds write what the socket has room for.
    fn feed(
        &mut self,
        projection: &mut Projection,
        out: &mut Pipe,
        now: Instant,
        chance: &mut Chance,
    ) {
        let mut busy = true;
        while busy && out.unsent.len() < WRITE_AHEAD {
            busy = false;
            for at in 0..self.queries.len() {
                let Some(feed) = self.queries.get_mut(at) else { break };
                if let Some(done) = feed.step(projection, chance) {
                    busy = true;
                    self.done(done, projection, out, now, chance);
                }
            }
            for at in 0..self.summaries.len() {
                let Some(feed) = self.summaries.get_mut(at) else { break };
                if let Some(done) = feed.step(&projection.log, now) {
                    busy = true;
                    self.done(done, projection, out, now, chance);
                }
            }
        }
    }

    fn done(
        &mut self,
        done: Done,
        projection: &mut Projection,
        out: &mut Pipe,
        now: Instant,
        chance: &mut Chance,
    ) {
        out.unsent.extend_from_slice(&done.frames);
        if let Some(input) = done.input {
            self.hand_in(input, projection, now);
            self.obey(projection, out, now, chance);
        }
    }
}
