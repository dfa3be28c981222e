//! The client's side of the protocol, as a pure state machine.
//!
//! It knows when to connect and how long to wait, what to say, which subscriptions to resume
//! from where, which events are new, and which appends have to be sent again. It is told what
//! happened ([`ClientCore::handle`]) and asked what to do ([`ClientCore::poll`]) and when to be
//! woken ([`ClientCore::next_timeout`]); chance is passed in with the time.
//!
//! Events are emitted exactly once, in order, for each subscription, across any number of
//! connections. A position counts as seen when its event is emitted: whoever drives this keeps
//! emitted events until they are consumed.

mod config;
mod fetches;
mod outbox;
mod signals;
mod subscription;

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use tidewire_eventstore::GlobalPosition;
use uuid::Uuid;

use crate::{
    codec::json::{self, DecodeError},
    codes::{CloseCode, ErrorBody, ErrorCode},
    messages::{
        After, AppendRequest, ClientMessage, FeedSpec, FetchRequest, Goodbye, Hello,
        PROTOCOL_VERSION, RequestId, ResetReason, ServerMessage, Sub, Welcome,
    },
};
use fetches::Fetches;
use outbox::Outbox;
use subscription::{Stage, Subscription};

pub use config::ClientConfig;
pub use fetches::{FetchKey, FetchRefused, Page};
pub use outbox::{AppendKey, OutboxError, OutboxLimits};
pub use signals::{ClientInput, ClientOutput, Notice, Settled, State};

/// The largest message that a client sends before any server has told its limit, in bytes.
const MESSAGE_BYTES_UNTIL_TOLD: usize = 1 << 20;

/// The connection as the client keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// None, and none wanted.
    Off,
    /// None; the next attempt is at this time.
    Down { retry_at: Instant },
    /// An attempt is under way and fails at this time.
    Opening { until: Instant, open: bool },
    /// The server has said `welcome` at `since`.
    Up { since: Instant },
    /// None, and never again.
    Failed,
}

/// The client's side of the protocol.
#[derive(Debug)]
pub struct ClientCore {
    config: ClientConfig,
    link: Link,
    state: State,
    /// Attempts in a row that did not lead to a stable connection.
    attempts: u32,
    goodbye: Option<Goodbye>,
    welcome: Option<Box<Welcome>>,
    heard_at: Instant,
    pinged_at: Option<Instant>,
    pings: u64,
    subs: BTreeMap<Sub, Subscription>,
    last_sub: u32,
    outbox: Outbox,
    fetches: Fetches,
    outputs: VecDeque<ClientOutput>,
}

impl ClientCore {
    /// A client that is not connected.
    pub fn new(config: ClientConfig, now: Instant) -> Self {
        Self {
            outbox: Outbox::new(config.outbox),
            fetches: Fetches::new(config.fetches_max),
            config,
            link: Link::Off,
            state: State::Disconnected,
            attempts: 0,
            goodbye: None,
            welcome: None,
            heard_at: now,
            pinged_at: None,
            pings: 0,
            subs: BTreeMap::new(),
            last_sub: 0,
            outputs: VecDeque::new(),
        }
    }

    /// Connects, and stays connected as far as that is possible.
    pub fn connect(&mut self, now: Instant) {
        if matches!(self.link, Link::Off | Link::Failed) {
            self.attempts = 0;
            self.set_state(State::Connecting);
            self.begin_attempt(now);
        }
    }

    /// Closes the connection and stays away. Subscriptions and the outbox are kept.
    pub fn disconnect(&mut self) {
        self.drop_link();
        self.link = Link::Off;
        self.outputs.push_back(ClientOutput::Disconnect(CloseCode::NORMAL));
        self.set_state(State::Disconnected);
    }

    /// Opens a subscription; it is resumed on every connection until it ends. `epoch` is the one
    /// in which a position in `after` was learnt, if that is known.
    pub fn subscribe(&mut self, feed: FeedSpec, after: After, epoch: Option<Uuid>) -> Sub {
        // Never one that was used before: a late answer cannot be taken for another's.
        self.last_sub = self.last_sub.wrapping_add(1);
        let sub = Sub::new(self.last_sub);
        let stage = Stage::Unsent;
        self.subs.insert(sub, Subscription { feed, after, epoch, stage, refusals: 0 });
        self.ask(sub);
        sub
    }

    /// Ends a subscription: no event of it is emitted after this call, but for those in
    /// [`Self::poll`]'s queue.
    pub fn unsubscribe(&mut self, sub: Sub) {
        let Some(subscription) = self.subs.get_mut(&sub) else { return };
        match subscription.stage {
            Stage::Opening | Stage::Open if matches!(self.link, Link::Up { .. }) => {
                subscription.stage = Stage::Ending;
                self.send(&ClientMessage::Unsubscribe { sub });
            }
            Stage::Ending => return,
            _ => drop(self.subs.remove(&sub)),
        }
        self.notice(sub, Notice::Ended(None));
    }

    /// Takes an append into the outbox and sends it when it can be sent. Every event needs an id.
    ///
    /// # Errors
    ///
    /// [`OutboxError`] when it was not taken; otherwise there will be exactly one
    /// [`ClientOutput::Settled`] for it.
    pub fn append(&mut self, append: AppendRequest) -> Result<AppendKey, OutboxError> {
        if self.link == Link::Failed {
            return Err(OutboxError::Failed);
        }
        let key = self.outbox.push(append, self.message_bytes_max())?;
        self.send_appends();
        Ok(key)
    }

    /// Asks for a page, now or as soon as there is a connection.
    ///
    /// # Errors
    ///
    /// [`FetchRefused`] when it was not taken; otherwise there will be exactly one
    /// [`ClientOutput::Fetched`] for it.
    pub fn fetch(&mut self, fetch: FetchRequest) -> Result<FetchKey, FetchRefused> {
        if self.link == Link::Failed {
            return Err(FetchRefused::Failed);
        }
        let key = self.fetches.push(fetch)?;
        self.send_fetches();
        Ok(key)
    }

    /// How many appends, and how many bytes of them, wait in the outbox.
    pub fn outbox_size(&self) -> (usize, usize) {
        self.outbox.size()
    }

    /// Where the client stands.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Takes in what happened. `chance` is a random number from 0 to 1. Poll afterwards.
    pub fn handle(&mut self, input: ClientInput, now: Instant, chance: f64) {
        match input {
            ClientInput::Opened => self.opened(now),
            ClientInput::Text(text) => {
                self.heard(now);
                self.text(&text, now, chance);
            }
            ClientInput::Heard => self.heard(now),
            ClientInput::Lost(code) => self.lost(code, now, chance),
            ClientInput::Timeout => self.timeout(now, chance),
        }
    }

    /// The next thing to do, or `None` for now.
    pub fn poll(&mut self) -> Option<ClientOutput> {
        self.outputs.pop_front()
    }

    /// When to hand in [`ClientInput::Timeout`], if nothing else happens before.
    pub fn next_timeout(&self) -> Option<Instant> {
        let waiting = self.subs.values().filter_map(|subscription| match subscription.stage {
            Stage::Waiting(until) => Some(until),
            _ => None,
        });
        match self.link {
            Link::Off | Link::Failed => None,
            Link::Down { retry_at } => Some(retry_at),
            Link::Opening { until, .. } => Some(until),
            Link::Up { .. } => waiting.chain([self.life_deadline()]).min(),
        }
    }

    /// When the silence of the server has to end: a ping's answer, or the next ping.
    fn life_deadline(&self) -> Instant {
        match self.pinged_at {
            Some(pinged_at) => pinged_at + self.config.ping_timeout,
            None => self.heard_at + self.patience(),
        }
    }

    /// How long the server may be silent: a heartbeat, and as long again as a ping may take.
    fn patience(&self) -> Duration {
        let heartbeat = self.welcome.as_ref().map_or(15_000, |welcome| welcome.heartbeat_ms);
        Duration::from_millis(heartbeat.min(3_600_000)) + self.config.ping_timeout
    }

    fn message_bytes_max(&self) -> usize {
        self.welcome.as_ref().map_or(MESSAGE_BYTES_UNTIL_TOLD, |welcome| {
            usize::try_from(welcome.limits.message_bytes).unwrap_or(usize::MAX)
        })
    }

    fn heard(&mut self, now: Instant) {
        self.heard_at = now;
        self.pinged_at = None;
    }

    fn begin_attempt(&mut self, now: Instant) {
        let until = now + self.config.connect_timeout;
        self.link = Link::Opening { until, open: false };
        self.goodbye = None;
        self.outputs.push_back(ClientOutput::Connect);
    }

    fn opened(&mut self, now: Instant) {
        let Link::Opening { open: open @ false, .. } = &mut self.link else { return };
        *open = true;
        self.heard(now);
        let mut subscriptions = Vec::new();
        for (sub, subscription) in &mut self.subs {
            subscription.stage = Stage::Opening;
            subscriptions.push(Ok(subscription.request(*sub)));
        }
        let hello = Hello {
            protocol: PROTOCOL_VERSION,
            token: self.config.token.clone(),
            client: self.config.name.clone(),
            epoch: None,
            subscriptions,
        };
        self.send(&ClientMessage::Hello(Box::new(hello)));
    }

    fn timeout(&mut self, now: Instant, chance: f64) {
        match self.link {
            Link::Down { retry_at } if retry_at <= now => self.begin_attempt(now),
            Link::Opening { until, .. } if until <= now => {
                self.abandon(CloseCode::ABNORMAL, now, chance);
            }
            Link::Up { .. } => {
                if self.life_deadline() <= now {
                    if self.pinged_at.is_some() {
                        return self.abandon(CloseCode::NO_PONG, now, chance);
                    }
                    self.ping(now);
                }
                let due = |subscription: &Subscription| matches!(subscription.stage, Stage::Waiting(until) if until <= now);
                let due: Vec<Sub> = self
                    .subs
                    .iter()
                    .filter_map(|(sub, subscription)| due(subscription).then_some(*sub))
                    .collect();
                for sub in due {
                    self.ask(sub);
                }
            }
            _ => {}
        }
    }

    /// Asks for a sign of life now, for instance because the machine has slept.
    pub fn check(&mut self, now: Instant) {
        match self.link {
            Link::Up { .. } if self.pinged_at.is_none() => self.ping(now),
            Link::Down { .. } => self.link = Link::Down { retry_at: now },
            _ => {}
        }
    }

    fn ping(&mut self, now: Instant) {
        self.pings += 1;
        self.pinged_at = Some(now);
        let id = RequestId::new(&format!("p{}", self.pings)).expect("a letter and digits fit");
        self.send(&ClientMessage::Ping { id });
    }

    /// Gives up the present socket, which may look open.
    fn abandon(&mut self, code: CloseCode, now: Instant, chance: f64) {
        self.outputs.push_back(ClientOutput::Disconnect(code));
        self.lost(code, now, chance);
    }

    /// Forgets the present socket.
    fn drop_link(&mut self) {
        self.outbox.unsend();
        self.fetches.unsend();
        self.pinged_at = None;
        self.subs.retain(|_, subscription| subscription.stage != Stage::Ending);
        for subscription in self.subs.values_mut() {
            subscription.stage = Stage::Unsent;
        }
    }

    fn lost(&mut self, code: CloseCode, now: Instant, chance: f64) {
        match self.link {
            Link::Off | Link::Failed | Link::Down { .. } => return,
            Link::Up { since } if now >= since + self.config.stable_after => self.attempts = 0,
            Link::Up { .. } | Link::Opening { .. } => {}
        }
        self.drop_link();
        let goodbye = self.goodbye.take();
        let refused = goodbye.as_ref().is_some_and(|goodbye| !goodbye.reconnect);
        let spent = self.config.attempts_max > 0 && self.attempts >= self.config.attempts_max;
        if refused || spent || !code.may_reconnect() {
            return self.fail(goodbye.map_or(code, |goodbye| goodbye.code));
        }
        let delay = match goodbye {
            Some(goodbye) => {
                Duration::from_millis(goodbye.after_ms)
                    + self.config.backoff.delay(self.attempts, chance)
            }
            None => self.config.backoff.delay(self.attempts, chance),
        };
        self.attempts = self.attempts.saturating_add(1);
        self.link = Link::Down { retry_at: now + delay };
        self.set_state(State::Reconnecting { attempt: self.attempts, delay });
    }

    fn fail(&mut self, code: CloseCode) {
        self.link = Link::Failed;
        for key in self.outbox.take_all() {
            let error = ErrorBody::new(ErrorCode::Closing, "the client has given up");
            self.outputs.push_back(ClientOutput::Settled { key, result: Err(error) });
        }
        for key in self.fetches.take_all() {
            let error = ErrorBody::new(ErrorCode::Closing, "the client has given up");
            self.outputs.push_back(ClientOutput::Fetched { key, result: Err(error) });
        }
        self.set_state(State::Failed(code));
    }

    fn text(&mut self, text: &Bytes, now: Instant, chance: f64) {
        if !matches!(self.link, Link::Up { .. } | Link::Opening { open: true, .. }) {
            return;
        }
        match json::decode_server(text) {
            Ok(message) => self.message(message, now, chance),
            // A newer server may say more than this version understands.
            Err(DecodeError::UnknownType(_)) => {}
            Err(DecodeError::Invalid(_)) => self.abandon(CloseCode::ABNORMAL, now, chance),
        }
    }

    fn message(&mut self, message: ServerMessage, now: Instant, chance: f64) {
        match message {
            ServerMessage::Welcome(welcome) => self.welcomed(welcome, now),
            ServerMessage::Subscribed { sub, after, resumed, .. } => {
                self.subscribed(sub, after, resumed);
            }
            ServerMessage::Unsubscribed { sub, error } => self.ended(sub, error, now, chance),
            ServerMessage::Reset { sub, reason, first } => self.reset(sub, reason, first),
            ServerMessage::Events { sub, events } => {
                if let Some(subscription) = self.open(sub) {
                    for event in subscription
                        .fresh(events.into_iter().map(|delivered| delivered.event).collect())
                    {
                        self.outputs.push_back(ClientOutput::Event { sub, event });
                    }
                }
            }
            ServerMessage::Live { sub, position } => {
                if let Some(subscription) = self.open(sub) {
                    subscription.advance(position);
                    self.notice(sub, Notice::Live(position));
                }
            }
            ServerMessage::Behind { sub, position, lag } => {
                if self.open(sub).is_some() {
                    self.notice(sub, Notice::Behind { position, lag });
                }
            }
            ServerMessage::Appended { id, stream, revision, position } => {
                self.settled(&id, Ok(Settled { stream, revision, position }));
            }
            ServerMessage::Heartbeat { positions, .. } => {
                for (sub, position) in positions {
                    if self.open(sub).is_some_and(|subscription| subscription.advance(position)) {
                        self.notice(sub, Notice::Position(position));
                    }
                }
            }
            ServerMessage::Page { id, events, next, head, .. } => {
                if let Some((key, cursor)) = self.fetches.answer(&id) {
                    let page = Page { events, next: next.map(cursor), head };
                    self.outputs.push_back(ClientOutput::Fetched { key, result: Ok(page) });
                }
            }
            ServerMessage::Error { id: Some(id), error, .. } => self.refused(&id, *error),
            ServerMessage::Error { id: None, sub: Some(sub), error } => {
                self.ended(sub, Some(error), now, chance);
            }
            ServerMessage::Error { id: None, sub: None, error } => {
                self.outputs.push_back(ClientOutput::Complaint(error));
            }
            ServerMessage::Goodbye(goodbye) => self.goodbye = Some(*goodbye),
            ServerMessage::Pong { .. }
            | ServerMessage::Retrying { .. }
            | ServerMessage::Parked { .. }
            | ServerMessage::Result { .. } => {}
        }
    }

    fn welcomed(&mut self, welcome: Box<Welcome>, now: Instant) {
        if !matches!(self.link, Link::Opening { open: true, .. }) {
            return;
        }
        self.link = Link::Up { since: now };
        self.welcome = Some(welcome.clone());
        self.outputs.push_back(ClientOutput::Welcome(welcome));
        self.set_state(State::Connected);
        let max = self.message_bytes_max();
        for (key, bytes) in self.outbox.take_larger(max) {
            let error = ErrorBody::of(ErrorCode::TooLarge)
                .with_details(serde_json::json!({ "bytes": bytes, "max": max }));
            self.outputs.push_back(ClientOutput::Settled { key, result: Err(error) });
        }
        // Those that came while the attempt was under way.
        let unsent: Vec<Sub> = self
            .subs
            .iter()
            .filter_map(|(sub, subscription)| (subscription.stage == Stage::Unsent).then_some(*sub))
            .collect();
        for sub in unsent {
            self.ask(sub);
        }
        self.send_appends();
        self.send_fetches();
    }

    /// The subscription whose events may come.
    fn open(&mut self, sub: Sub) -> Option<&mut Subscription> {
        self.subs.get_mut(&sub).filter(|subscription| subscription.stage == Stage::Open)
    }

    /// Sends `subscribe`, if there is a connection.
    fn ask(&mut self, sub: Sub) {
        if matches!(self.link, Link::Up { .. })
            && let Some(subscription) = self.subs.get_mut(&sub)
        {
            subscription.stage = Stage::Opening;
            let request = subscription.request(sub);
            self.send(&ClientMessage::Subscribe(Box::new(request)));
        }
    }

    fn subscribed(&mut self, sub: Sub, after: GlobalPosition, resumed: bool) {
        let epoch = self.welcome.as_ref().map_or(Uuid::nil(), |welcome| welcome.epoch);
        let Some(subscription) = self.subs.get_mut(&sub) else { return };
        if subscription.stage != Stage::Opening {
            return;
        }
        subscription.stage = Stage::Open;
        subscription.refusals = 0;
        subscription.epoch = Some(epoch);
        subscription.advance(after);
        self.notice(sub, Notice::Subscribed { after, epoch, resumed });
    }

    fn reset(&mut self, sub: Sub, reason: ResetReason, first: GlobalPosition) {
        let epoch = self.welcome.as_ref().map(|welcome| welcome.epoch);
        let Some(subscription) = self.subs.get_mut(&sub) else { return };
        if subscription.stage == Stage::Ending {
            self.subs.remove(&sub);
            return;
        }
        subscription.after = After::Position(first.previous());
        subscription.epoch = epoch;
        self.notice(sub, Notice::Reset(reason));
        self.ask(sub);
    }

    /// The server has ended or refused a subscription.
    fn ended(&mut self, sub: Sub, error: Option<Box<ErrorBody>>, now: Instant, chance: f64) {
        let Some(subscription) = self.subs.get_mut(&sub) else { return };
        match error {
            _ if subscription.stage == Stage::Ending => drop(self.subs.remove(&sub)),
            Some(error) if error.retryable => {
                let delay = error.retry_after_ms.map_or_else(
                    || self.config.backoff.delay(subscription.refusals, chance),
                    Duration::from_millis,
                );
                subscription.refusals = subscription.refusals.saturating_add(1);
                subscription.stage = Stage::Waiting(now + delay);
            }
            error => {
                self.subs.remove(&sub);
                self.notice(sub, Notice::Ended(error));
            }
        }
    }

    /// The server has answered a request with an error.
    fn refused(&mut self, id: &RequestId, error: ErrorBody) {
        // A server that is going away has not touched it: the next one will.
        if error.known() == Some(ErrorCode::Closing) {
            return;
        }
        match self.fetches.answer(id) {
            Some((key, _)) => {
                self.outputs.push_back(ClientOutput::Fetched { key, result: Err(error) });
            }
            None => self.settled(id, Err(error)),
        }
    }

    fn settled(&mut self, id: &RequestId, result: Result<Settled, ErrorBody>) {
        if let Some(key) = self.outbox.settle(id) {
            self.outputs.push_back(ClientOutput::Settled { key, result });
            self.send_appends();
        }
    }

    fn send_appends(&mut self) {
        let (Link::Up { .. }, Some(welcome)) = (self.link, &self.welcome) else { return };
        let max = usize::try_from(welcome.limits.requests).unwrap_or(usize::MAX);
        while let Some(text) = self.outbox.next_unsent(max) {
            self.outputs.push_back(ClientOutput::Send(text));
        }
    }

    fn send_fetches(&mut self) {
        if matches!(self.link, Link::Up { .. }) {
            while let Some(text) = self.fetches.next_unsent() {
                self.outputs.push_back(ClientOutput::Send(text));
            }
        }
    }

    fn send(&mut self, message: &ClientMessage) {
        let mut text = BytesMut::new();
        json::encode_client(message, &mut text);
        self.outputs.push_back(ClientOutput::Send(text.freeze()));
    }

    fn notice(&mut self, sub: Sub, notice: Notice) {
        self.outputs.push_back(ClientOutput::Notice { sub, notice });
    }

    fn set_state(&mut self, state: State) {
        if self.state != state {
            self.state = state.clone();
            self.outputs.push_back(ClientOutput::State(state));
        }
    }
}
