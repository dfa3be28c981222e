//! The client's end: the real client core, and a program that checks everything it is given.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use tidewire_eventstore::{
    Category, EventId, EventType, ExpectedRevision, GlobalPosition, NewEvent, RecordedEvent,
    StreamName,
};
use tidewire_protocol::{
    After, AppendRequest, CloseCode, FeedSpec, Filter, Sub, Target,
    backoff::Backoff,
    client::{
        AppendKey, ClientConfig, ClientCore, ClientInput, ClientOutput, Notice, OutboxError,
        OutboxLimits, Settled,
    },
    frame::{self, FrameDecoder, FrameLimits, Message, Opcode},
};
use uuid::Uuid;

use crate::{
    app::{App, Kind},
    chance::Chance,
    link::Pipe,
    log::Log,
};

/// What one subscription has been given.
pub(crate) struct Seen {
    pub(crate) feed: FeedSpec,
    /// Where it was told to begin.
    pub(crate) begin: Option<GlobalPosition>,
    pub(crate) events: Vec<RecordedEvent>,
    /// How much of the log was compared with them.
    compared: usize,
    pub(crate) live: bool,
}

impl Seen {
    /// What the log holds for it.
    fn expected<'a>(&self, log: &'a Log) -> Vec<&'a RecordedEvent> {
        log.events.iter().filter(|event| self.wants(event)).collect()
    }

    fn wants(&self, event: &RecordedEvent) -> bool {
        self.begin.is_some_and(|begin| event.position > begin)
            && self.feed.target.includes(&event.stream)
            && self.feed.filter.as_ref().is_none_or(|filter| filter.matches(event))
    }

    pub(crate) fn is_complete(&self, log: &Log) -> bool {
        let last = self.events.last().map_or(GlobalPosition::START, |event| event.position);
        let newer = log.events.iter().rev().take_while(|event| event.position > last);
        // What is cheap to see first: this is asked at every step.
        self.begin.is_some()
            && !newer.into_iter().any(|event| self.wants(event))
            && self.expected(log).into_iter().eq(&self.events)
    }
}

pub(crate) struct Client {
    pub(crate) core: ClientCore,
    decoder: FrameDecoder,
    read: BytesMut,
    pub(crate) seen: BTreeMap<Sub, Seen>,
    /// The appends that are not settled, with their event ids.
    pub(crate) unsettled: BTreeMap<AppendKey, EventId>,
    pub(crate) settled: Vec<(EventId, Settled)>,
    pub(crate) wants_connection: bool,
    pub(crate) wants_close: bool,
    /// Which run of a client program this is.
    pub(crate) run: u64,
    /// Whether it always takes back a consumer that it lost.
    pub(crate) keeps: bool,
    /// Its subscriptions that acknowledge.
    pub(crate) apps: Vec<App>,
    made: u64,
    refused: u64,
}

impl Client {
    pub(crate) fn new(run: u64, now: Instant, chance: &mut Chance) -> Self {
        let config = ClientConfig {
            backoff: Backoff { max: Duration::from_secs(2), ..Backoff::default() },
            connect_timeout: Duration::from_secs(2),
            stable_after: Duration::from_secs(1),
            ping_timeout: Duration::from_secs(1),
            outbox: OutboxLimits { requests: 8, bytes: 4096, ..OutboxLimits::default() },
            ..ClientConfig::default()
        };
        let mut client = Self {
            core: ClientCore::new(config, now),
            decoder: FrameDecoder::new(FrameLimits::client(1 << 24)),
            read: BytesMut::new(),
            seen: BTreeMap::new(),
            unsettled: BTreeMap::new(),
            settled: Vec::new(),
            wants_connection: false,
            wants_close: false,
            run,
            keeps: false,
            apps: Vec::new(),
            made: 0,
            refused: 0,
        };
        client.core.connect(now);
        let types = [EventType::new("Odd").expect("a name")];
        let category = Category::new("order").expect("a name");
        let stream = StreamName::new("order-1").expect("a name");
        client.subscribe(Target::All, None, After::Start);
        client.subscribe(Target::Category(category), Some(Filter::types(&types)), After::Start);
        client.subscribe(Target::Stream(stream), None, After::End);
        if chance.once_in(2) {
            client.subscribe(Target::All, Some(Filter::Or(Vec::new())), After::Start);
        }
        client
    }

    pub(crate) fn subscribe(
        &mut self,
        target: Target,
        filter: Option<Filter>,
        after: After,
    ) -> Sub {
        let feed = FeedSpec { filter: filter.map(Arc::new), ..FeedSpec::of(target) };
        let sub = self.core.subscribe(feed.clone(), after, None);
        let seen = Seen { feed, begin: None, events: Vec::new(), compared: 0, live: false };
        self.seen.insert(sub, seen);
        sub
    }

    /// Ends a subscription and begins a like one.
    pub(crate) fn resubscribe(&mut self, now: Instant, chance: &mut Chance) {
        let at = chance.within(0, self.seen.len() as u64 - 1) as usize;
        let sub = *self.seen.keys().nth(at).expect("it is within");
        self.core.unsubscribe(sub, now);
        let seen = self.seen.remove(&sub).expect("it is there");
        self.subscribe(seen.feed.target, seen.feed.filter.as_deref().cloned(), After::Start);
    }

    pub(crate) fn append(&mut self, now: Instant, chance: &mut Chance) {
        self.made += 1;
        let id = EventId::from(Uuid::from_u128(
            (u128::from(self.run) << 96) | u128::from(self.made) << 64,
        ));
        let append = AppendRequest {
            stream: stream(chance),
            expected: ExpectedRevision::Any,
            events: vec![NewEvent { id: Some(id), ..NewEvent::json(event_type(chance), "{}") }],
        };
        match self.core.append(append, now) {
            Ok(key) => drop(self.unsettled.insert(key, id)),
            Err(OutboxError::Full { requests, bytes }) => {
                assert!(requests == 8 || bytes > 3000, "the outbox was not full");
                self.refused += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// A new socket.
    pub(crate) fn opened(&mut self, now: Instant, chance: &mut Chance) {
        self.decoder = FrameDecoder::new(FrameLimits::client(1 << 24));
        self.read = BytesMut::new();
        self.core.handle(ClientInput::Opened, now, chance.unit());
    }

    pub(crate) fn lost(&mut self, code: CloseCode, now: Instant, chance: &mut Chance) {
        self.core.handle(ClientInput::Lost(code), now, chance.unit());
    }

    /// Takes in bytes; the close code, if the server has said one.
    pub(crate) fn receive(
        &mut self,
        bytes: &[u8],
        out: &mut Pipe,
        now: Instant,
        chance: &mut Chance,
    ) -> Option<CloseCode> {
        self.read.extend_from_slice(bytes);
        while let Some(message) = self.decoder.decode(&mut self.read).expect("a strict server") {
            let input = match message {
                Message::Text(text) => ClientInput::Text(text),
                Message::Ping(payload) => {
                    self.write(Opcode::Pong, &payload, out, chance);
                    ClientInput::Heard
                }
                Message::Close(reason) => {
                    self.write(Opcode::Close, b"", out, chance);
                    return Some(reason.map_or(CloseCode::NO_STATUS, |reason| reason.code));
                }
                other => panic!("the server sent {other:?}"),
            };
            self.core.handle(input, now, chance.unit());
        }
        None
    }

    fn write(&self, opcode: Opcode, payload: &[u8], out: &mut Pipe, chance: &mut Chance) {
        let key = (chance.next() as u32).to_be_bytes();
        frame::encode_masked(opcode, true, payload, key, &mut out.unsent);
    }

    /// When something is due, if nothing happens before.
    pub(crate) fn next(&self) -> Option<Instant> {
        let apps = self.apps.iter().filter_map(App::next);
        apps.chain(self.core.next_timeout()).min()
    }

    /// Does everything that can be done now; whether the program was killed by an event.
    pub(crate) fn pump(
        &mut self,
        log: &Log,
        mut out: Option<&mut Pipe>,
        now: Instant,
        storm: bool,
        chance: &mut Chance,
    ) -> bool {
        if self.core.next_timeout().is_some_and(|at| at <= now) {
            self.core.handle(ClientInput::Timeout, now, chance.unit());
        }
        self.obey(log, &mut out, now, storm, chance);
        for app in &mut self.apps {
            let store = &log.consumers;
            if app.work(&mut self.core, self.run, now, storm, store, chance) {
                return true;
            }
        }
        self.obey(log, &mut out, now, storm, chance);
        false
    }

    fn obey(
        &mut self,
        log: &Log,
        out: &mut Option<&mut Pipe>,
        now: Instant,
        storm: bool,
        chance: &mut Chance,
    ) {
        while let Some(output) = self.core.poll() {
            match output {
                ClientOutput::Connect => {
                    self.wants_connection = true;
                    *out = None;
                }
                ClientOutput::Disconnect(_) => {
                    self.wants_close = true;
                    *out = None;
                }
                ClientOutput::Send(text) => {
                    if let Some(out) = out {
                        self.write(Opcode::Text, &text, out, chance);
                    }
                }
                ClientOutput::Event { sub, event } => self.event(sub, event, log),
                ClientOutput::Notice { sub, notice } => {
                    match self.apps.iter_mut().find(|app| app.sub == sub) {
                        Some(app) => {
                            // Whoever lost a consumer to another fights for it while it storms.
                            let again = app.kind == Kind::Own || storm && chance.once_in(2);
                            let delay = Duration::from_millis(chance.within(500, 6000));
                            let again = again || self.keeps;
                            app.end(again.then_some(now + delay));
                            assert!(matches!(notice, Notice::Ended(Some(_))), "{notice:?}");
                        }
                        None => self.notice(sub, notice),
                    }
                }
                ClientOutput::Settled { key, result } => {
                    let id = self.unsettled.remove(&key).expect("an append is settled once");
                    self.settled.push((id, result.expect("the model refuses nothing")));
                }
                ClientOutput::Complaint(error) => panic!("the server complains: {error}"),
                ClientOutput::Fetched { .. }
                | ClientOutput::Answered { .. }
                | ClientOutput::Documents { .. }
                | ClientOutput::FetchedDocuments { .. } => panic!("nobody asks"),
                ClientOutput::State(_) | ClientOutput::Welcome(_) | ClientOutput::Ready { .. } => {}
            }
        }
    }

    fn event(&mut self, sub: Sub, event: RecordedEvent, log: &Log) {
        let seen = self.seen.get_mut(&sub).expect("no event after unsubscribe");
        // After a restore, what was given before the reset need not be in the log any more.
        if log.epochs.len() == 1 {
            let rest = log.events.iter().skip(seen.compared);
            let expected = rest.clone().find(|event| seen.wants(event));
            let count = seen.events.len() + 1;
            assert_eq!(Some(&event), expected, "event {count} of subscription {sub}");
            seen.compared = event.position.get() as usize;
        }
        seen.events.push(event);
    }

    fn notice(&mut self, sub: Sub, notice: Notice) {
        let Some(seen) = self.seen.get_mut(&sub) else {
            return assert_eq!(notice, Notice::Ended(None), "nothing after the end");
        };
        match notice {
            Notice::Subscribed { after, resumed, .. } => {
                assert_eq!(seen.begin.is_some(), resumed, "a second time is a resumption");
                seen.begin.get_or_insert(after);
            }
            Notice::Reset(_) => {
                seen.events.clear();
                seen.begin = Some(GlobalPosition::START);
                seen.live = false;
            }
            Notice::Live(_) => seen.live = true,
            Notice::Behind { .. } => seen.live = false,
            Notice::Position(_) | Notice::Parked { .. } => {}
            Notice::Ended(error) => panic!("subscription {sub} ended: {error:?}"),
            Notice::Watching { .. } | Notice::Restated(_) | Notice::Summary(_) => {
                panic!("it is of events")
            }
        }
    }
}

pub(crate) fn stream(chance: &mut Chance) -> StreamName {
    let names = ["order-1", "order-2", "order-3", "cart-1", "cart-2"];
    StreamName::new(names[chance.within(0, 4) as usize]).expect("a name")
}

pub(crate) fn event_type(chance: &mut Chance) -> EventType {
    EventType::new(if chance.once_in(2) { "Odd" } else { "Even" }).expect("a name")
}
