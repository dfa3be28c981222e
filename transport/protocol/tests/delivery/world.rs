//! A careful client and a consumer over a slow link, with failures, silence and cuts by chance.
//!
//! The client does what PROTOCOL.md tells clients to do, and nothing better. Both directions are
//! queues, so that acks, nacks and redeliveries cross. What must hold, whatever happens: a
//! checkpoint never passes an event that was not settled, each stream is processed in order, the
//! window is kept, and once the trouble is over everything is settled.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use serde_json::Value;
use tidewire_protocol::{
    Activity, EventRef, Grant, GrantedPartition, Input, Moment, Output, Progress, Sent, Session,
    SessionConfig,
    frame::{FrameDecoder, FrameLimits, Message},
};

use crate::scene::{SUB, at, event, event_ref, secs, session, share};

const STREAMS: [&str; 4] = ["a", "b", "c", "d"];
const EVENTS: u64 = 60;
const WINDOW: usize = 6;

/// Chance, from a seed (xorshift64*).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

/// What arrives at the client.
#[derive(Debug, Clone)]
enum Arrival {
    Event(u64),
    /// One that came out of order.
    Late(u64),
    Heartbeat(u64),
}

impl Arrival {
    fn event(&self) -> Option<u64> {
        match self {
            Self::Event(position) | Self::Late(position) => Some(*position),
            Self::Heartbeat(_) => None,
        }
    }
}

/// A client that keeps to PROTOCOL.md.
#[derive(Debug, Default)]
struct Client {
    queue: VecDeque<Arrival>,
    /// Nacked for a retry, and not answered.
    unanswered: Vec<u64>,
    /// Nacked or dropped, and not come again.
    given_back: BTreeSet<u64>,
    pending: Option<u64>,
    /// The highest position that it was told of.
    told: u64,
}

struct World {
    chance: Chance,
    trouble: bool,
    session: Session,
    client: Client,
    to_client: VecDeque<Value>,
    to_server: VecDeque<String>,
    now: Instant,
    cursor: u64,
    reads: Vec<u64>,
    /// The log's memory of the consumer, by partition.
    saved: BTreeMap<u8, GrantedPartition>,
    saving: Option<Progress>,
    /// What the client has settled, over all of its lives: processed, skipped or parked.
    settled: BTreeSet<u64>,
    parked: BTreeSet<u64>,
    wakings: usize,
}

fn stream(position: u64) -> &'static str {
    STREAMS[(position.wrapping_mul(7) / 3 % 4) as usize]
}

fn partition(position: u64) -> u8 {
    event_ref(position, stream(position)).stream.partition().get()
}

impl World {
    fn new(seed: u64) -> Self {
        let now = Instant::now();
        let mut world = Self {
            chance: Chance(seed | 1),
            trouble: true,
            session: session(SessionConfig::default(), now),
            client: Client::default(),
            to_client: VecDeque::new(),
            to_server: VecDeque::new(),
            now,
            cursor: 0,
            reads: Vec::new(),
            saved: (1..=EVENTS).map(|at| (partition(at), share(partition(at), 0))).collect(),
            saving: None,
            settled: BTreeSet::new(),
            parked: BTreeSet::new(),
            wakings: 0,
        };
        world.connect();
        world
    }

    fn moment(&self) -> Moment {
        Moment { now: self.now, head: at(EVENTS), removed: at(0) }
    }

    fn connect(&mut self) {
        self.session = session(SessionConfig::default(), self.now);
        self.client = Client::default();
        self.to_client.clear();
        self.to_server.clear();
        self.reads.clear();
        self.saving = None;
        self.say(r#"{"type":"hello","protocol":1}"#.to_owned());
        self.say(format!(
            r#"{{"type":"subscribe","sub":1,"to":{{"all":true}},"consumer":{{"group":"g"}},"window":{WINDOW}}}"#
        ));
    }

    fn say(&mut self, text: String) {
        self.hand_in(Input::Message(Message::Text(text.into())));
    }

    fn hand_in(&mut self, input: Input) {
        self.session.handle(input, self.moment());
        self.obey();
    }

    fn obey(&mut self) {
        while let Some(output) = self.session.poll() {
            match output {
                Output::Send(bytes) => {
                    for pong in crate::scene::pongs(&bytes) {
                        self.session.handle(Input::Message(pong), self.moment());
                    }
                    self.to_client.extend(messages(&bytes));
                }
                Output::Claim { .. } => {
                    let partitions = self.saved.values().cloned().collect();
                    for granted in self.saved.values_mut() {
                        granted.unclean = true;
                    }
                    let claimed = Ok(Grant { existed: true, partitions });
                    self.session.handle(Input::Claimed { sub: SUB, claimed }, self.moment());
                }
                Output::Open { after, .. } => self.cursor = after.get(),
                Output::Read { position, .. } => self.reads.push(position.get()),
                Output::Save { progress, .. } => {
                    assert!(self.saving.is_none(), "one at a time");
                    self.saving = Some(progress);
                }
                Output::Release { progress, clean, .. } => self.remember(&progress, Some(clean)),
                Output::Positions => {
                    let positions = vec![(SUB, at(self.cursor))];
                    self.session.handle(Input::Positions(positions), self.moment());
                }
                _ => {}
            }
        }
        assert!(self.reads.len() <= 8, "{:?}", self.reads);
    }

    /// What the log remembers has to be true: nothing up to a checkpoint is lost.
    fn remember(&mut self, progress: &Progress, clean: Option<bool>) {
        for of in &progress.partitions {
            let granted = self.saved.get_mut(&of.partition.get()).expect("it was granted");
            assert!(of.checkpoint >= granted.checkpoint, "a checkpoint moved back");
            granted.checkpoint = of.checkpoint;
            granted.attempts = of.attempts.clone();
            granted.unclean = clean != Some(true);
            self.parked.extend(of.parked.iter().map(|parked| parked.position.get()));
            for position in 1..=of.checkpoint.get().min(EVENTS) {
                let done = self.settled.contains(&position) || self.parked.contains(&position);
                let here = partition(position) == of.partition.get();
                assert!(done || !here, "{position} was passed by, at {}", of.checkpoint);
            }
        }
    }

    /// Offers the next events, as the driver does.
    fn feed(&mut self) {
        let room = self.session.room(SUB).min(self.chance.below(5) as usize + 1);
        let until = (self.cursor + room as u64).min(EVENTS);
        let next: Vec<u64> = (self.cursor + 1..=until).collect();
        if next.is_empty() {
            return;
        }
        let refs: Vec<EventRef> = next.iter().map(|at| event_ref(*at, stream(*at))).collect();
        let offer = self.session.offer(SUB, &refs, self.moment());
        // What the session says about the events before these goes first.
        self.obey();
        self.cursor += offer.taken as u64;
        let sent: Vec<u64> = match offer.sent {
            Sent::All => next[..offer.taken].to_vec(),
            Sent::Some(indices) => indices.into_iter().map(|index| next[index]).collect(),
        };
        let message = |at: u64| serde_json::json!({"type": "events", "events": [{"position": at}]});
        self.to_client.extend(sent.into_iter().map(message));
    }

    fn answer_read(&mut self) {
        if self.reads.is_empty() {
            return;
        }
        let at_index = self.chance.below(self.reads.len() as u64) as usize;
        let position = self.reads.swap_remove(at_index);
        let event = if self.trouble && self.chance.one_in(8) {
            Err(tidewire_protocol::ErrorCode::Unavailable.into())
        } else {
            Ok(Some(Box::new(event(position, stream(position)))))
        };
        self.hand_in(Input::Read { sub: SUB, position: at(position), event });
    }

    fn answer_save(&mut self) {
        let Some(progress) = self.saving.take() else { return };
        let saved = if self.trouble && self.chance.one_in(4) {
            Err(tidewire_protocol::ErrorCode::Unavailable.into())
        } else {
            self.remember(&progress, None);
            Ok(())
        };
        self.hand_in(Input::Saved { sub: SUB, saved });
    }

    /// One message reaches the client.
    fn arrive(&mut self) {
        let Some(message) = self.to_client.pop_front() else { return };
        match message["type"].as_str().expect("a type") {
            "events" => {
                for event in message["events"].as_array().expect("events") {
                    self.client.event(event["position"].as_u64().expect("a position"));
                }
            }
            "heartbeat" => {
                if let Some(position) = message["positions"]["1"].as_u64() {
                    self.client.told = self.client.told.max(position);
                    self.client.queue.push_back(Arrival::Heartbeat(position));
                }
            }
            "parked" => {
                for position in message["positions"].as_array().expect("positions") {
                    let position = position.as_u64().expect("a position");
                    self.parked.insert(position);
                    self.client.given_up(position);
                }
            }
            "retrying" => self.client.answered(&message["positions"]),
            "unsubscribed" => panic!("nothing ends the subscription: {message}"),
            "error" => {
                // What crossed a `parked`, and nothing else.
                assert_eq!(message["code"], "unknown_position", "{message}");
                self.client.answered(&message["details"]["positions"]);
            }
            _ => {}
        }
    }

    /// The client processes what it has next.
    fn process(&mut self) {
        let Some(arrival) = self.client.queue.pop_front() else { return };
        let position = match arrival {
            Arrival::Heartbeat(position) => {
                let mut queue = self.client.queue.iter();
                let later = queue.any(|arrival| arrival.event() == Some(position));
                if !later && !self.client.given_back.contains(&position) {
                    self.acknowledge(position);
                }
                return;
            }
            Arrival::Event(position) | Arrival::Late(position) => position,
        };
        let outcome = if self.trouble { self.chance.below(10) } else { 9 };
        match outcome {
            0 | 1 => {
                self.client.give_back(position);
                let delay = self.chance.below(4) * 700;
                self.to_server.push_back(format!(
                    r#"{{"type":"nack","sub":1,"positions":[{position}],"action":"retry","delay_ms":{delay}}}"#
                ));
            }
            2 => {
                self.settled.insert(position);
                self.to_server.push_back(format!(
                    r#"{{"type":"nack","sub":1,"positions":[{position}],"action":"park"}}"#
                ));
            }
            _ => {
                for earlier in (1..position).filter(|earlier| stream(*earlier) == stream(position))
                {
                    let done = self.settled.contains(&earlier) || self.parked.contains(&earlier);
                    assert!(done, "{position} was processed before {earlier}");
                }
                self.settled.insert(position);
                if matches!(arrival, Arrival::Late(_)) {
                    self.flush();
                    self.client.pending = Some(position);
                    self.flush();
                } else {
                    self.acknowledge(position);
                }
            }
        }
    }

    fn acknowledge(&mut self, position: u64) {
        self.client.pending = self.client.pending.max(Some(position));
    }

    fn flush(&mut self) {
        if let Some(position) = self.client.pending.take() {
            self.to_server.push_back(format!(r#"{{"type":"ack","sub":1,"position":{position}}}"#));
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.session.next_timeout().filter(|due| *due <= end) {
            self.wakings += 1;
            assert!(self.wakings < 20_000, "the session spins");
            self.now = self.now.max(due);
            let (inbound_at, progress_at) = (self.now, self.now);
            self.hand_in(Input::Timeout(Activity { inbound_at, progress_at, unsent_bytes: 0 }));
        }
        self.now = end;
    }

    fn step(&mut self) {
        match self.chance.below(24) {
            0..=4 => self.feed(),
            5..=8 => self.arrive(),
            9..=13 => self.process(),
            14 | 15 => self.flush(),
            16 | 17 => {
                if let Some(text) = self.to_server.pop_front() {
                    self.say(text);
                }
            }
            18 => self.answer_read(),
            19 => self.answer_save(),
            20 => self.hand_in(Input::Accepted),
            21 => {
                let time = self.chance.below(1500);
                self.pass(Duration::from_millis(time));
            }
            22 if self.trouble && self.chance.one_in(12) => {
                let time = self.chance.below(8);
                self.pass(secs(time));
            }
            23 if self.trouble && self.chance.one_in(20) => self.cut(),
            _ => {}
        }
        let free = self.session.room(SUB);
        assert!(free <= WINDOW);
    }

    /// The connection ends, in one way or another, and the client comes back.
    fn cut(&mut self) {
        let input = match self.chance.below(3) {
            0 => Input::Message(Message::Close(None)),
            1 => Input::Drain { reconnect_after: secs(1) },
            _ => Input::Gone,
        };
        self.hand_in(input);
        self.connect();
    }

    fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            self.step();
        }
        self.trouble = false;
        let settled = |world: &Self| {
            world.saved.values().all(|granted| granted.checkpoint.get() >= last(granted))
        };
        for _ in 0..20_000 {
            self.step();
            if settled(self) {
                return;
            }
        }
        panic!(
            "not everything was settled: {:?}, cursor {}, client {:?}",
            self.saved, self.cursor, self.client
        );
    }
}

/// The last event of a partition.
fn last(granted: &GrantedPartition) -> u64 {
    (1..=EVENTS).rfind(|at| partition(*at) == granted.partition.get()).unwrap_or(0)
}

impl Client {
    fn answered(&mut self, positions: &Value) {
        for position in positions.as_array().expect("positions") {
            let position = position.as_u64().expect("a position");
            let at = self.unanswered.iter().position(|unanswered| *unanswered == position);
            if let Some(at) = at {
                self.unanswered.remove(at);
            }
        }
    }

    fn event(&mut self, position: u64) {
        let dropped = |nacked: &u64| stream(*nacked) == stream(position) && position >= *nacked;
        if self.unanswered.iter().any(dropped) {
            self.given_back.insert(position);
            self.told = self.told.max(position);
            return;
        }
        self.given_back.remove(&position);
        if self.queue.iter().any(|arrival| arrival.event() == Some(position)) {
            return;
        }
        let late = position <= self.told;
        self.told = self.told.max(position);
        self.queue.push_back(if late { Arrival::Late(position) } else { Arrival::Event(position) });
    }

    fn give_back(&mut self, position: u64) {
        self.unanswered.push(position);
        self.given_back.insert(position);
        let given_back = &mut self.given_back;
        self.queue.retain(|arrival| match arrival.event() {
            Some(other) if stream(other) == stream(position) && other > position => {
                given_back.insert(other);
                false
            }
            _ => true,
        });
    }

    /// The server does not send an event again.
    fn given_up(&mut self, position: u64) {
        self.given_back.remove(&position);
        self.queue.retain(|arrival| arrival.event() != Some(position));
    }
}

fn messages(bytes: &Bytes) -> Vec<Value> {
    let mut buf = BytesMut::from(&bytes[..]);
    let mut decoder = FrameDecoder::new(FrameLimits::client(1 << 20));
    let mut messages = Vec::new();
    while let Some(message) = decoder.decode(&mut buf).expect("whole good frames") {
        if let Message::Text(text) = message {
            messages.push(serde_json::from_slice(&text).expect("JSON"));
        }
    }
    messages
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_nothing_is_passed_by_and_all_is_settled_in_the_end(seed in any::<u64>()) {
        World::new(seed).run(600);
    }
}
