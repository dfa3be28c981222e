//! One connected client, as a pure state machine: opening → ready → draining → closing → closed.
//!
//! The session knows every rule of the protocol and nothing of sockets, clocks or stores. It is
//! told what happened ([`Session::handle`]) and asked what to do ([`Session::poll`]) and when to
//! be woken ([`Session::next_timeout`]). Whoever drives it only carries.
//!
//! What the driver has to keep to:
//!
//! - After every [`Session::handle`], poll until `None` and obey in order. Before the next
//!   message is handed in, ask [`Session::may_read`].
//! - Stop reading, too, while replies that the socket has not taken exceed the driver's bound:
//!   then at most one message's replies come on top of it.
//! - After [`Output::Shut`], no frame and no input of that feed: the handle may be used again.
//! - Events of a feed go through [`Session::offer`], and what it takes is written before anything
//!   that the session says later. Positions that are reported of a feed are never beyond what was
//!   taken.
//! - Each [`Output::Read`] and each [`Output::Save`] is answered once. A grant that comes for a
//!   session which is over is given back by the driver ([`Grant::untouched`](crate::Grant::untouched)).
//! - [`Input::Accepted`] before [`Input::Gone`], if the kernel had taken everything: whether an
//!   event had left decides whether it may have brought down its reader.

mod config;
mod consumers;
mod deliveries;
mod life;
mod queries;
mod requests;
mod signals;
mod subscription;
mod timers;

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use tidewire_eventstore::GlobalPosition;
use uuid::Uuid;

use crate::{
    codec::json,
    codes::{CloseCode, ErrorCode},
    frame::{self, FrameError, Message},
    messages::{
        ClientMessage, Goodbye, Hello, PROTOCOL_VERSION, Refusal, RequestId, ServerMessage, Sub,
        Subscription, Welcome,
    },
};
use deliveries::Deliveries;
use life::Life;
use subscription::Subscriptions;
use timers::{Timer, Timers};

pub use config::{Auth, Limits, SessionConfig, SessionInfo};
pub use signals::{Activity, Input, Moment, Output, QueryChecked};

/// How far a session has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Waits for `hello`.
    Opening,
    /// Serves.
    Ready,
    /// Has said goodbye and waits for the answers to requests.
    Draining(CloseCode),
    /// Has sent its Close frame and waits for the peer's.
    Closing(CloseCode),
    /// Is over.
    Closed,
}

/// One connected client.
#[derive(Debug)]
pub struct Session {
    config: Arc<SessionConfig>,
    info: SessionInfo,
    opened: Instant,
    phase: Phase,
    /// The epoch that the client named in `hello`.
    epoch: Option<Uuid>,
    subs: Subscriptions,
    deliveries: Deliveries,
    requests: Vec<RequestId>,
    timers: Timers,
    life: Life,
    outputs: VecDeque<Output>,
}

impl Session {
    /// A session whose handshake has just succeeded. Many sessions can share one configuration:
    /// pass an [`Arc`] of it.
    pub fn new(config: impl Into<Arc<SessionConfig>>, info: SessionInfo, moment: Moment) -> Self {
        let config = config.into();
        let mut timers = Timers::default();
        timers.set(Timer::Hello, moment.now + config.hello_timeout);
        timers.set(Timer::Ping, moment.now + config.ping_interval);
        timers.set(Timer::Progress, moment.now + config.progress_timeout);
        Self {
            config,
            info,
            opened: moment.now,
            phase: Phase::Opening,
            epoch: None,
            subs: Subscriptions::default(),
            deliveries: Deliveries::default(),
            requests: Vec::new(),
            timers,
            life: Life::default(),
            outputs: VecDeque::new(),
        }
    }

    /// Takes in what happened. Poll afterwards.
    pub fn handle(&mut self, input: Input, moment: Moment) {
        self.take_in(input, moment);
        self.deliver(moment);
    }

    fn take_in(&mut self, input: Input, moment: Moment) {
        match (input, self.phase) {
            (_, Phase::Closed) => {}
            (Input::Gone, phase) => self.finish(match phase {
                Phase::Closing(code) | Phase::Draining(code) => code,
                _ => CloseCode::ABNORMAL,
            }),
            (Input::Broken(_), Phase::Closing(code)) => self.finish(code),
            (Input::Message(Message::Close(reason)), phase) => self.peer_closes(reason, phase),
            (Input::Timeout(activity), _) => self.timeout(activity, moment),
            (Input::Flushed, Phase::Closing(_)) => {
                // Never later: told again and again, this must not keep the session alive.
                self.timers.bring_forward(Timer::End, moment.now + self.config.close_timeout);
            }
            (Input::Flushed, _) => {}
            // A grant that comes too late has to be given back all the same.
            (Input::Claimed { sub, claimed }, Phase::Closing(_)) => self.give_back(sub, claimed),
            // Whatever else a peer sends after our Close frame counts for nothing.
            (_, Phase::Closing(_)) => {}
            (Input::Broken(error), _) => self.broken(error, moment.now),
            (Input::Message(message), Phase::Opening | Phase::Ready) => {
                self.message(message, moment);
            }
            (Input::Message(_), Phase::Draining(_)) => {}
            (Input::Answer { id, answer }, _) => self.answer(id, answer, moment),
            (Input::HeadChecked { sub, head }, _) => self.head_checked(sub, head, moment),
            (Input::RemovedChecked { sub, first }, _) => self.removed_checked(sub, first, moment),
            (Input::QueryChecked { sub, checked }, _) => self.query_checked(sub, checked, moment),
            (Input::Live { sub, position }, _) => self.feed_live(sub, position),
            (Input::Behind { sub, position, lag }, _) => self.feed_behind(sub, position, lag),
            (Input::FeedFailed { sub, error }, _) => self.feed_failed(sub, error),
            (Input::Positions(positions), _) => self.heartbeat(positions, moment),
            (Input::Accepted, _) => {
                self.deliveries.accepted(&self.config.delivery, moment.now);
            }
            (Input::Claimed { sub, claimed }, _) => self.claimed(sub, claimed, moment),
            (Input::Saved { sub, saved }, _) => self.saved(sub, saved, moment),
            (Input::Read { sub, position, event }, _) => {
                self.read(sub, position, event, moment);
            }
            (Input::Taken { sub }, _) => self.taken(sub),
            (Input::Rebalance { sub }, _) => self.rebalance(sub, moment),
            (Input::Replay { sub, events }, _) => self.deliveries.replay(sub, &events),
            (Input::Epochs(epochs), phase) => {
                let changed = epochs.last() != self.info.epochs.last();
                self.info.epochs = epochs;
                // What was sent may not be what the log holds now. Only the client knows how far
                // it has come, so it comes back and says so.
                if changed && phase == Phase::Ready {
                    self.close(CloseCode::NEW_EPOCH, moment.now);
                }
            }
            (Input::Drain { reconnect_after }, Phase::Opening | Phase::Ready) => {
                self.drain(reconnect_after, moment);
            }
            (Input::Drain { .. }, Phase::Draining(_)) => {}
        }
    }

    /// The next thing to do, or `None` for now.
    pub fn poll(&mut self) -> Option<Output> {
        let output = self.outputs.pop_front();
        if self.outputs.is_empty() && self.outputs.capacity() > 0 {
            // An idle session keeps no queue: there are many, and most of them are idle.
            self.outputs = VecDeque::new();
        }
        output
    }

    /// When to hand in [`Input::Timeout`], if nothing else happens before.
    pub fn next_timeout(&self) -> Option<Instant> {
        [self.timers.next(), self.next_delivery()].into_iter().flatten().min()
    }

    /// Whether the driver may hand in further messages: `false` while too many requests are
    /// unanswered or the session drains, so that the driver stops reading the socket. A session
    /// that is closing reads on, for the peer's Close frame.
    pub fn may_read(&self) -> bool {
        match self.phase {
            Phase::Opening | Phase::Ready => self.requests.len() < self.config.limits.requests,
            Phase::Closing(_) => true,
            Phase::Draining(_) | Phase::Closed => false,
        }
    }

    /// The largest message that may come next, in bytes. The frame decoder has to be given this
    /// number ([`FrameDecoder::limit`](crate::frame::FrameDecoder::limit)) before each message.
    pub fn message_bytes_max(&self) -> usize {
        let limits = &self.config.limits;
        match self.phase {
            Phase::Opening => limits.opening_message_bytes.min(limits.message_bytes),
            _ => limits.message_bytes,
        }
    }

    /// Whether the session is over: [`Output::Close`] was handed out, or waits to be polled.
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// Who the session is.
    pub fn info(&self) -> &SessionInfo {
        &self.info
    }

    fn message(&mut self, message: Message, moment: Moment) {
        match message {
            Message::Text(text) => match json::decode_client(&text) {
                Ok(messages) => {
                    for message in messages {
                        // One of them may have ended the session.
                        if matches!(self.phase, Phase::Opening | Phase::Ready) {
                            self.client_message(message, moment);
                        }
                    }
                }
                Err(_) => self.close(CloseCode::MALFORMED, moment.now),
            },
            Message::Binary(_) => self.close(CloseCode::UNSUPPORTED_DATA, moment.now),
            Message::Ping(payload) => self.pong(&payload),
            Message::Pong(payload) => {
                if self.phase == Phase::Ready
                    && let Some(ping) = self.life.answered(&payload)
                {
                    self.proven(ping);
                }
                if let Some(round_trip) = self.life.pong(&payload, moment.now) {
                    self.timers.stop(Timer::Pong);
                    self.outputs.push_back(Output::RoundTrip(round_trip));
                }
            }
            Message::Close(reason) => self.peer_closes(reason, self.phase),
        }
    }

    fn client_message(&mut self, message: Result<ClientMessage, Refusal>, moment: Moment) {
        let message = match message {
            Ok(ClientMessage::Hello(hello)) => return self.hello(*hello, moment),
            message if self.phase == Phase::Opening => return self.too_early(message),
            Ok(message) => message,
            Err(Refusal { id, sub, error }) => {
                return self.say(&ServerMessage::Error { id, sub, error });
            }
        };
        match message {
            ClientMessage::Hello(_) => {}
            ClientMessage::Subscribe(subscribe) => self.subscribe(*subscribe, moment),
            ClientMessage::Watch(watch) => self.watch(*watch),
            ClientMessage::Unsubscribe { sub } => self.unsubscribe(sub),
            ClientMessage::Ack { sub, position } => self.ack(sub, position),
            ClientMessage::Nack { sub, nack } => self.nack(sub, &nack, moment),
            ClientMessage::Command { id, command } => self.command(id, command),
            ClientMessage::Append { id, append } => self.append(id, append),
            ClientMessage::Fetch { id, fetch } => self.fetch(id, fetch),
            ClientMessage::Query { id, request } => self.query(id, request),
            ClientMessage::Ping { id } => {
                let since = moment.now.saturating_duration_since(self.opened);
                let micros = i64::try_from(since.as_micros()).unwrap_or(i64::MAX);
                let at = self.info.opened_at.as_micros().saturating_add(micros);
                let at = tidewire_eventstore::Timestamp::from_micros(at);
                self.say(&ServerMessage::Pong { id, at });
            }
        }
    }

    /// Answers what came before `hello`.
    fn too_early(&mut self, message: Result<ClientMessage, Refusal>) {
        let (id, sub, error) = match message {
            Ok(ClientMessage::Subscribe(subscribe)) => (None, Some(subscribe.sub), None),
            Ok(ClientMessage::Watch(watch)) => (None, Some(watch.sub), None),
            Ok(
                ClientMessage::Unsubscribe { sub }
                | ClientMessage::Ack { sub, .. }
                | ClientMessage::Nack { sub, .. },
            ) => (None, Some(sub), None),
            Ok(
                ClientMessage::Command { id, .. }
                | ClientMessage::Append { id, .. }
                | ClientMessage::Fetch { id, .. }
                | ClientMessage::Query { id, .. }
                | ClientMessage::Ping { id },
            ) => (Some(id), None, None),
            Ok(ClientMessage::Hello(_)) => (None, None, None),
            Err(refusal) => (refusal.id, refusal.sub, Some(refusal.error)),
        };
        let error = error.unwrap_or_else(|| Box::new(ErrorCode::HelloRequired.into()));
        self.say(&ServerMessage::Error { id, sub, error });
    }

    fn hello(&mut self, hello: Hello, moment: Moment) {
        if self.phase != Phase::Opening {
            return self.refuse(None, None, ErrorCode::AlreadyHello);
        }
        if hello.protocol != PROTOCOL_VERSION {
            self.refuse(None, None, ErrorCode::UnsupportedProtocol);
            return self.close(CloseCode::UNSUPPORTED_PROTOCOL, moment.now);
        }
        let bearer = self.info.bearer.take();
        if !self.config.auth.accepts(hello.token.as_deref().or(bearer.as_deref())) {
            self.refuse(None, None, ErrorCode::Unauthorized);
            return self.close(CloseCode::FORBIDDEN, moment.now);
        }
        self.phase = Phase::Ready;
        self.epoch = hello.epoch;
        self.timers.stop(Timer::Hello);
        self.timers.set(Timer::Heartbeat, moment.now + self.config.heartbeat_interval);
        self.say(&ServerMessage::Welcome(Box::new(Welcome {
            session: self.info.session,
            node: Arc::clone(&self.info.node),
            epoch: self.info.epochs.last().map_or(Uuid::nil(), |epoch| epoch.epoch),
            head: moment.head,
            heartbeat_ms: millis(self.config.heartbeat_interval),
            limits: self.config.limits.on_the_wire(),
            token_expires_in_ms: None,
            reconnect: self.config.reconnect,
        })));
        for subscription in hello.subscriptions {
            match subscription {
                Ok(Subscription::Feed(subscribe)) => self.subscribe(subscribe, moment),
                Ok(Subscription::Query(watch)) => self.watch(watch),
                Err(Refusal { id, sub, error }) => {
                    self.say(&ServerMessage::Error { id, sub, error });
                }
            }
        }
    }

    fn heartbeat(&mut self, positions: Vec<(Sub, GlobalPosition)>, moment: Moment) {
        if self.phase == Phase::Ready {
            let mut positions = positions;
            positions.retain(|(sub, _)| self.subs.is_fed(*sub));
            for (sub, position) in &mut positions {
                *position = self.deliveries.looked_at(*sub, *position);
            }
            self.say(&ServerMessage::Heartbeat { head: moment.head, positions });
        }
    }

    fn drain(&mut self, reconnect_after: Duration, moment: Moment) {
        let code = CloseCode::DRAIN;
        self.goodbye(code, millis(reconnect_after));
        self.release_all(code);
        self.phase = Phase::Draining(code);
        self.timers.stop_all();
        self.timers.set(Timer::End, moment.now + self.config.drain_timeout);
        self.drained(moment.now);
    }

    /// Closes a draining session once nothing is unanswered.
    fn drained(&mut self, now: Instant) {
        if let Phase::Draining(code) = self.phase
            && self.requests.is_empty()
        {
            self.close_frame(code, now);
        }
    }

    fn goodbye(&mut self, code: CloseCode, after_ms: u64) {
        self.say(&ServerMessage::Goodbye(Box::new(Goodbye {
            code,
            reason: code.text().to_owned(),
            reconnect: code.may_reconnect(),
            after_ms,
        })));
    }

    /// Says goodbye where that means something to the client, and sends a Close frame.
    fn close(&mut self, code: CloseCode, now: Instant) {
        if code.0 >= 4000 {
            self.goodbye(code, 0);
        }
        self.close_frame(code, now);
    }

    fn close_frame(&mut self, code: CloseCode, now: Instant) {
        self.close_with(code, code.text(), now);
    }

    fn close_with(&mut self, code: CloseCode, reason: &str, now: Instant) {
        self.release_all(code);
        // After the Close frame nothing may follow (RFC 6455, section 5.5.1).
        self.outputs.extend(self.subs.end().map(|sub| Output::Shut { sub }));
        self.outputs.push_back(Output::Send(frame::close(code, reason)));
        self.phase = Phase::Closing(code);
        self.requests = Vec::new();
        self.timers.stop_all();
        // Until the frame has left; from then on `Flushed` sets a shorter wait.
        self.timers.set(Timer::End, now + self.config.drain_timeout);
    }

    fn broken(&mut self, error: FrameError, now: Instant) {
        let code = error.close_code();
        if matches!(error, FrameError::TooBig { .. }) {
            // The peer may be in the middle of it. A connection that ended now would be reset
            // under what it has still to say, and it might never see why.
            return self.close_with(code, &error.to_string(), now);
        }
        self.release_all(code);
        self.outputs.push_back(Output::Send(frame::close(code, &error.to_string())));
        self.finish(code);
    }

    fn peer_closes(&mut self, reason: Option<frame::CloseReason>, phase: Phase) {
        let code = reason.map_or(CloseCode::NO_STATUS, |reason| reason.code);
        match phase {
            Phase::Closing(ours) => self.finish(ours),
            _ => {
                // Whatever its code, a peer that closes has come to an orderly end.
                self.release_all(CloseCode::NORMAL);
                self.outputs.push_back(Output::Send(frame::close(code, "")));
                self.finish(code);
            }
        }
    }

    fn finish(&mut self, code: CloseCode) {
        self.release_all(code);
        self.phase = Phase::Closed;
        self.timers.stop_all();
        self.requests = Vec::new();
        self.subs = Subscriptions::default();
        self.outputs.push_back(Output::Close { code });
    }

    fn pong(&mut self, payload: &[u8]) {
        self.outputs.retain(|output| !matches!(output, Output::Pong(_)));
        self.outputs.push_back(Output::Pong(frame::pong(payload)));
    }

    fn refuse(&mut self, id: Option<RequestId>, sub: Option<Sub>, code: ErrorCode) {
        self.say(&ServerMessage::Error { id, sub, error: Box::new(code.into()) });
    }

    fn say(&mut self, message: &ServerMessage) {
        let mut text = BytesMut::new();
        json::encode_server(message, &mut text);
        let mut out = BytesMut::with_capacity(frame::HEADER_BYTES_MAX + text.len());
        frame::text(&text, &mut out);
        self.outputs.push_back(Output::Send(out.freeze()));
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
