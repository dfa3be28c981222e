//! The client's side of the protocol, as a pure state machine.
//!
//! It knows when to connect and how long to wait, what to say, which subscriptions to resume
//! from where, which events are new, and which appends have to be sent again. It is told what
//! happened ([`ClientCore::handle`]) and asked what to do ([`ClientCore::poll`]) and when to be
//! woken ([`ClientCore::next_timeout`]); chance is passed in with the time.
//!
//! **Without acknowledgements**, events are emitted exactly once, in order, for each subscription,
//! across any number of connections. A position counts as seen when its event is emitted: whoever
//! drives this keeps emitted events until they are consumed.
//!
//! **With acknowledgements**, events wait here until the application takes them
//! ([`ClientCore::take`]) and are its own until it settles them ([`ClientCore::settle`]), in any
//! order. Every event is given at least once; which ones are given again after a reconnect, and
//! which acknowledgements are sent when, is in the module `unsettled`.
//!
//! **A live query** is told as whole pictures only, each of which the server really had; what it is
//! put together of is in the module `documents`.
//!
//! ```
//! use std::time::Instant;
//! use tidewire_protocol::{
//!     After, Delivery, FeedSpec, Target,
//!     client::{ClientConfig, ClientCore, Settlement, Taken},
//! };
//!
//! let now = Instant::now();
//! let mut core = ClientCore::new(ClientConfig::default(), now);
//! core.connect(now);
//! let delivery = Delivery::Each { window: None };
//! let sub = core.subscribe_acked(FeedSpec::of(Target::All), After::Start, None, delivery);
//! // Whenever the driver is told `ClientOutput::Ready { sub }`:
//! while let Some(taken) = core.take(sub) {
//!     if let Taken::Event { key, delivered } = taken {
//!         println!("{}, attempt {}", delivered.event.position, delivered.attempt);
//!         core.settle(key, Settlement::Ack, Instant::now());
//!     }
//! }
//! ```

mod config;
mod deliveries;
mod documents;
mod fetches;
mod live_queries;
mod outbox;
mod requests;
mod signals;
mod subscription;
mod unsettled;
mod untaken;

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
        After, ClientMessage, Delivery, FeedSpec, Goodbye, Hello, PROTOCOL_VERSION, RequestId,
        ResetReason, ServerMessage, Sub, Subscription as Request, Welcome,
    },
};
use deliveries::Flush;
use documents::Nonsense;
use fetches::Fetches;
use outbox::Outbox;
use subscription::{Content, Stage, Subscription};
use unsettled::Unsettled;

pub use config::ClientConfig;
pub use documents::{Picture, Told};
pub use fetches::{DocumentPage, FetchKey, FetchRefused, Page};
pub use outbox::{AppendKey, CommandTicket, OutboxError, OutboxLimits};
pub use signals::{
    ClientInput, ClientOutput, CommandResult, DeliveryKey, Notice, Settled, State, Taken,
};
pub use unsettled::Settlement;

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

    /// Closes the connection and stays away. Subscriptions and the outbox are kept. What the
    /// application has settled is acknowledged before.
    pub fn disconnect(&mut self, now: Instant) {
        for sub in self.subs.keys().copied().collect::<Vec<_>>() {
            self.acknowledge(sub, now, Flush::All);
        }
        self.drop_link();
        self.link = Link::Off;
        self.outputs.push_back(ClientOutput::Disconnect(CloseCode::NORMAL));
        self.set_state(State::Disconnected);
    }

    /// Opens a subscription; it is resumed on every connection until it ends. `epoch` is the one
    /// in which a position in `after` was learnt, if that is known.
    pub fn subscribe(&mut self, feed: FeedSpec, after: After, epoch: Option<Uuid>) -> Sub {
        self.subscribe_acked(feed, after, epoch, Delivery::Plain)
    }

    /// Opens a subscription whose events are acknowledged as `delivery` says: see [`Self::take`].
    /// Where a consumer exists already, it goes on from its checkpoint instead of `after`.
    pub fn subscribe_acked(
        &mut self,
        feed: FeedSpec,
        after: After,
        epoch: Option<Uuid>,
        delivery: Delivery,
    ) -> Sub {
        let unsettled =
            delivery.acknowledges().then(|| Box::new(Unsettled::new(self.window(&delivery))));
        self.begin(Subscription {
            content: Content::Events(feed),
            after,
            epoch,
            stage: Stage::Unsent,
            delivery,
            unsettled,
            refusals: 0,
            resets: 0,
        })
    }

    fn begin(&mut self, subscription: Subscription) -> Sub {
        // Never one that was used before: a late answer cannot be taken for another's.
        self.last_sub = self.last_sub.wrapping_add(1);
        let sub = Sub::new(self.last_sub);
        self.subs.insert(sub, subscription);
        self.ask(sub);
        sub
    }

    /// Ends a subscription: no event of it is emitted after this call, but for those in
    /// [`Self::poll`]'s queue. What the application has settled is acknowledged before.
    pub fn unsubscribe(&mut self, sub: Sub, now: Instant) {
        self.acknowledge(sub, now, Flush::All);
        let Some(subscription) = self.subs.get_mut(&sub) else { return };
        match subscription.stage {
            Stage::Opening | Stage::Open if matches!(self.link, Link::Up { .. }) => {
                subscription.stage = Stage::Ending;
                self.send(&ClientMessage::Unsubscribe { sub });
            }
            Stage::Ending => return,
            _ => drop(self.subs.remove(&sub)),
        }
        self.ended_notice(sub, None);
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
            Stage::Open => subscription.unsettled.as_ref()?.due(),
            _ => None,
        });
        let link = match self.link {
            Link::Off | Link::Failed => None,
            Link::Down { retry_at } => Some(retry_at),
            Link::Opening { until, .. } => Some(until),
            Link::Up { .. } => waiting.chain([self.life_deadline()]).min(),
        };
        link.into_iter().chain(self.outbox.next_timeout()).min()
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
        let old = self.outbox.take_old(now);
        self.give_up(old);
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
                for sub in self.subs.keys().copied().collect::<Vec<_>>() {
                    self.acknowledge(sub, now, Flush::Due);
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
        let spent = self.outbox.unsend();
        self.give_up(spent);
        self.fetches.unsend();
        self.pinged_at = None;
        self.subs.retain(|_, subscription| subscription.stage != Stage::Ending);
        for subscription in self.subs.values_mut() {
            subscription.lost();
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
        self.fail_requests();
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
            ServerMessage::Subscribed { sub, .. } | ServerMessage::Events { sub, .. }
                if self.is_live_query(sub) =>
            {
                self.distrust(sub, now, chance);
            }
            ServerMessage::Subscribed { sub, after, resumed, .. } => {
                self.subscribed(sub, after, resumed);
            }
            ServerMessage::Unsubscribed { sub, error } => self.ended(sub, error, now, chance),
            ServerMessage::Reset { sub, reason, first } => {
                self.reset(sub, reason, first, now, chance);
            }
            ServerMessage::Events { sub, events } => {
                if self.events(sub, events, now).is_err() {
                    self.abandon(CloseCode::ABNORMAL, now, chance);
                }
            }
            ServerMessage::Retrying { sub, positions } => self.retrying(sub, positions),
            ServerMessage::Parked { sub, positions, reason } => {
                self.parked(sub, positions, reason, now);
            }
            ServerMessage::Live { sub, position } if self.is_live_query(sub) => {
                if self.documents_live(sub, position).is_err() {
                    self.distrust(sub, now, chance);
                }
            }
            ServerMessage::Live { sub, position } => {
                if let Some(subscription) = self.open(sub) {
                    if subscription.unsettled.is_none() {
                        subscription.advance(position);
                    }
                    self.notice(sub, Notice::Live(position));
                }
            }
            ServerMessage::Behind { sub, position, lag } => {
                if let Some(subscription) = self.open(sub) {
                    if let Some(documents) = subscription.documents() {
                        documents.behind();
                    }
                    self.notice(sub, Notice::Behind { position, lag });
                }
            }
            ServerMessage::Appended { id, stream, revision, position } => {
                self.settled(&id, Settled { stream, revision, position });
            }
            ServerMessage::Heartbeat { positions, .. } => {
                for (sub, position) in positions {
                    self.looked_at(sub, position, now);
                }
            }
            ServerMessage::Result { id, data, position } => self.answered(&id, data, position),
            ServerMessage::Page { id, events, next, head, .. } => {
                self.fetched(&id, events, next, head);
            }
            ServerMessage::Error { id: Some(id), error, .. } => self.refused(&id, *error),
            ServerMessage::Error { id: None, sub: Some(sub), error } => {
                self.complained(sub, error, now, chance);
            }
            ServerMessage::Error { id: None, sub: None, error } => {
                self.outputs.push_back(ClientOutput::Complaint(error));
            }
            ServerMessage::Goodbye(goodbye) => self.goodbye = Some(*goodbye),
            ServerMessage::Pong { .. } => {}
            message => {
                if let Some((sub, Err(Nonsense))) = self.documents_message(message) {
                    self.distrust(sub, now, chance);
                }
            }
        }
    }

    fn welcomed(&mut self, welcome: Box<Welcome>, now: Instant) {
        if !matches!(self.link, Link::Opening { open: true, .. }) {
            return;
        }
        self.link = Link::Up { since: now };
        for subscription in self.subs.values_mut() {
            if subscription.epoch.is_some_and(|epoch| epoch != welcome.epoch) {
                subscription.forget();
            }
        }
        self.welcome = Some(welcome.clone());
        self.outputs.push_back(ClientOutput::Welcome(welcome));
        self.set_state(State::Connected);
        self.refuse_larger();
        // Those that came while the attempt was under way.
        let unsent: Vec<Sub> = self
            .subs
            .iter()
            .filter_map(|(sub, subscription)| (subscription.stage == Stage::Unsent).then_some(*sub))
            .collect();
        for sub in unsent {
            self.ask(sub);
        }
        self.send_requests();
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
            self.send(&match request {
                Request::Feed(subscribe) => ClientMessage::Subscribe(Box::new(subscribe)),
                Request::Query(watch) => ClientMessage::Watch(Box::new(watch)),
            });
        }
    }

    fn subscribed(&mut self, sub: Sub, after: GlobalPosition, resumed: bool) {
        let epoch = self.welcome.as_ref().map_or(Uuid::nil(), |welcome| welcome.epoch);
        let Some(subscription) = self.subs.get_mut(&sub) else { return };
        if subscription.stage != Stage::Opening {
            return;
        }
        subscription.stage = Stage::Open;
        (subscription.refusals, subscription.resets) = (0, 0);
        subscription.epoch = Some(epoch);
        self.begin_acked(sub, after, resumed);
        self.notice(sub, Notice::Subscribed { after, epoch, resumed });
    }

    fn reset(
        &mut self,
        sub: Sub,
        reason: ResetReason,
        first: GlobalPosition,
        now: Instant,
        chance: f64,
    ) {
        let epoch = self.welcome.as_ref().map(|welcome| welcome.epoch);
        let Some(subscription) = self.subs.get_mut(&sub) else { return };
        if subscription.stage == Stage::Ending {
            self.subs.remove(&sub);
            return;
        }
        subscription.after = After::Position(first.previous());
        subscription.epoch = epoch;
        subscription.forget();
        subscription.resets += 1;
        let again = subscription.resets > 1;
        self.notice(sub, Notice::Reset(reason));
        if again {
            // Beginning anew was answered with beginning anew.
            self.wait(sub, None, now, chance);
        } else {
            self.ask(sub);
        }
    }

    /// The server has ended or refused a subscription.
    fn ended(&mut self, sub: Sub, error: Option<Box<ErrorBody>>, now: Instant, chance: f64) {
        let Some(subscription) = self.subs.get_mut(&sub) else { return };
        match error {
            _ if subscription.stage == Stage::Ending => drop(self.subs.remove(&sub)),
            Some(error) if error.retryable => {
                subscription.lost();
                let was_open = subscription.stage == Stage::Open;
                if was_open && error.known() == Some(ErrorCode::Rebalanced) {
                    return self.ask(sub);
                }
                self.wait(sub, error.retry_after_ms, now, chance);
            }
            error => {
                self.subs.remove(&sub);
                self.ended_notice(sub, error);
            }
        }
    }

    /// Asks for a subscription again after a while.
    fn wait(&mut self, sub: Sub, after_ms: Option<u64>, now: Instant, chance: f64) {
        let Some(subscription) = self.subs.get_mut(&sub) else { return };
        let backoff = || self.config.backoff.delay(subscription.refusals, chance);
        let delay = after_ms.map_or_else(backoff, Duration::from_millis);
        subscription.refusals = subscription.refusals.saturating_add(1);
        subscription.stage = Stage::Waiting(now + delay);
    }

    fn send(&mut self, message: &ClientMessage) {
        let mut text = BytesMut::new();
        json::encode_client(message, &mut text);
        self.outputs.push_back(ClientOutput::Send(text.freeze()));
    }

    /// News for the application, in order with what it has not taken.
    fn notice(&mut self, sub: Sub, notice: Notice) {
        match self.subs.get_mut(&sub).and_then(|subscription| subscription.unsettled.as_mut()) {
            Some(unsettled) => {
                unsettled.notice(notice);
                self.ready(sub);
            }
            None => self.outputs.push_back(ClientOutput::Notice { sub, notice }),
        }
    }

    /// A subscription is over, whatever the application has not taken of it.
    fn ended_notice(&mut self, sub: Sub, error: Option<Box<ErrorBody>>) {
        self.outputs.push_back(ClientOutput::Notice { sub, notice: Notice::Ended(error) });
    }

    fn set_state(&mut self, state: State) {
        if self.state != state {
            self.state = state.clone();
            self.outputs.push_back(ClientOutput::State(state));
        }
    }
}
