//! An application with one subscription that acknowledges: it takes events, sits on them, settles
//! them in any order and in every way, freezes, and checks the order that it is given.

use std::{
    collections::{BTreeSet, HashMap},
    num::NonZeroU32,
    time::{Duration, Instant},
};

use tidewire_eventstore::{ConsumerName, GlobalPosition, RecordedEvent, Sharing, StreamName};
use tidewire_protocol::{
    After, ConsumerRef, Delivery, FeedSpec, NackAction, Sub,
    client::{ClientCore, DeliveryKey, Notice, Settlement, Taken},
};

use crate::{
    chance::Chance,
    store::{Audience, Store},
};

/// How many events an application works on at a time.
const HANDS: usize = 5;

/// Whose subscription it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Own,
    Exclusive(&'static str),
    Group(&'static str),
}

struct Hand {
    key: DeliveryKey,
    event: RecordedEvent,
    until: Instant,
}

/// What an application made of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Made {
    Done,
    PutAside,
}

pub(crate) struct App {
    pub(crate) kind: Kind,
    pub(crate) feed: FeedSpec,
    pub(crate) window: u32,
    /// Where the present subscription begins, and its handle.
    pub(crate) sub: Sub,
    pub(crate) audience: Audience,
    hands: Vec<Hand>,
    frozen_until: Option<Instant>,
    /// When to subscribe again after the end.
    pub(crate) again_at: Option<Instant>,
    pub(crate) ended: bool,
    pub(crate) live: bool,
    /// The last event taken of each stream, and the one of each that was to be retried.
    last: HashMap<StreamName, GlobalPosition>,
    retried: HashMap<StreamName, GlobalPosition>,
    /// What it was told is parked; for its own subscription that is all there is.
    pub(crate) parked: BTreeSet<GlobalPosition>,
    pub(crate) begin: Option<GlobalPosition>,
    /// What it has made of which events, for the world to note.
    pub(crate) made: Vec<(Audience, GlobalPosition, Made)>,
}

/// Whether nobody can process the event.
pub(crate) fn is_poison(event: &RecordedEvent) -> bool {
    event.position.get().is_multiple_of(41)
}

impl App {
    pub(crate) fn new(
        core: &mut ClientCore,
        run: u64,
        kind: Kind,
        feed: FeedSpec,
        window: u32,
    ) -> Self {
        let mut app = Self {
            kind,
            feed,
            window,
            sub: Sub::new(0),
            audience: Audience::Own { run, sub: 0 },
            hands: Vec::new(),
            frozen_until: None,
            again_at: None,
            ended: true,
            live: false,
            last: HashMap::new(),
            retried: HashMap::new(),
            parked: BTreeSet::new(),
            begin: None,
            made: Vec::new(),
        };
        app.subscribe(core, run);
        app
    }

    pub(crate) fn subscribe(&mut self, core: &mut ClientCore, run: u64) {
        let window = NonZeroU32::new(self.window);
        let named = |name: &str, sharing| {
            let name = ConsumerName::new(name).expect("a name");
            Delivery::Consumer { consumer: ConsumerRef { name, sharing }, window }
        };
        let delivery = match self.kind {
            Kind::Own => Delivery::Each { window },
            Kind::Exclusive(name) => named(name, Sharing::Exclusive),
            Kind::Group(name) => named(name, Sharing::Group),
        };
        let audience = match &delivery {
            Delivery::Consumer { consumer, .. } => Some(Audience::Consumer(consumer.name.clone())),
            _ => None,
        };
        self.sub = core.subscribe_acked(self.feed.clone(), After::Start, None, delivery);
        self.audience = audience.unwrap_or(Audience::Own { run, sub: self.sub.get() });
        self.hands.clear();
        self.last.clear();
        self.retried.clear();
        self.parked.clear();
        (self.ended, self.live, self.begin, self.again_at) = (false, false, None, None);
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        let frozen = self.frozen_until;
        let hands = self.hands.iter().map(|hand| hand.until).min();
        self.again_at.or_else(|| match (frozen, hands) {
            (Some(frozen), Some(hands)) => Some(frozen.max(hands)),
            (_, hands) => hands,
        })
    }

    pub(crate) fn freeze(&mut self, until: Instant) {
        self.frozen_until = Some(until);
    }

    /// Works for a while; whether it was killed by an event.
    pub(crate) fn work(
        &mut self,
        core: &mut ClientCore,
        run: u64,
        now: Instant,
        storm: bool,
        store: &Store,
        chance: &mut Chance,
    ) -> bool {
        if self.again_at.is_some_and(|at| at <= now) {
            self.subscribe(core, run);
        }
        if storm && self.frozen_until.is_some_and(|until| until > now) {
            return false;
        }
        self.frozen_until = None;
        while self.hands.len() < HANDS
            && let Some(taken) = core.take(self.sub)
        {
            match taken {
                Taken::Event { key, delivered } => {
                    self.check(&delivered.event, delivered.attempt, store);
                    let wait = match chance.within(0, 60) {
                        0 if storm => chance.within(0, 4000),
                        _ => chance.within(0, 40),
                    };
                    let until = now + Duration::from_millis(wait);
                    self.hands.push(Hand { key, event: delivered.event, until });
                }
                Taken::Notice(notice) => self.notice(notice),
            }
        }
        let mut at = 0;
        while at < self.hands.len() {
            if self.hands[at].until > now {
                at += 1;
                continue;
            }
            let hand = self.hands.swap_remove(at);
            if is_poison(&hand.event) && storm && chance.once_in(4) {
                return true;
            }
            let settlement = self.decide(&hand.event, storm, chance);
            let (position, stream) = (hand.event.position, &hand.event.stream);
            let counts = core.settle(hand.key, settlement.clone(), now);
            match settlement {
                // Its effect is done, whether or not anybody hears of it.
                Settlement::Ack => self.made.push((self.audience.clone(), position, Made::Done)),
                Settlement::Nack { action, .. } if counts => match action {
                    NackAction::Skip => {
                        self.made.push((self.audience.clone(), position, Made::Done))
                    }
                    NackAction::Park => {
                        self.made.push((self.audience.clone(), position, Made::PutAside));
                    }
                    NackAction::Retry { .. } => {
                        let last = self.last.entry(stream.clone()).or_default();
                        *last = position.previous().min(*last);
                        self.retried.insert(stream.clone(), position);
                    }
                    NackAction::Stop => {}
                },
                Settlement::Nack { .. } | Settlement::LetGo => {}
            }
        }
        false
    }

    fn decide(&self, event: &RecordedEvent, storm: bool, chance: &mut Chance) -> Settlement {
        let nack = |action| Settlement::Nack { action, reason: None };
        let retry = |delay| nack(NackAction::Retry { delay: Duration::from_millis(delay) });
        if is_poison(event) {
            return retry(chance.within(0, 100));
        }
        if !storm {
            return Settlement::Ack;
        }
        match chance.within(0, 199) {
            0..=13 => retry(chance.within(0, 400)),
            14..=17 => nack(NackAction::Park),
            18..=21 => nack(NackAction::Skip),
            22..=27 => Settlement::LetGo,
            28 => nack(NackAction::Stop),
            _ => Settlement::Ack,
        }
    }

    /// Within one connection each stream goes on and on, but for what is retried, and for parked
    /// events that an operator wants again.
    fn check(&mut self, event: &RecordedEvent, attempt: u32, store: &Store) {
        let (at, stream) = (event.position, &event.stream);
        assert!(self.feed.target.includes(stream), "{:?}: {at} is not wanted", self.kind);
        if self.retried.get(stream) == Some(&at) {
            self.retried.remove(stream);
        }
        if store.was_replayed(&self.audience, at) {
            return;
        }
        if let Some(first) = self.retried.get(stream) {
            assert!(at <= *first, "{:?}: {at} comes before the retry of {first}", self.kind);
        }
        let last = self.last.entry(stream.clone()).or_default();
        assert!(attempt > 1 || at > *last, "{:?}: {at} of {stream} comes after {last}", self.kind);
        *last = at.max(*last);
    }

    fn notice(&mut self, notice: Notice) {
        match notice {
            Notice::Subscribed { after, .. } => {
                self.begin.get_or_insert(after);
                self.last.clear();
                self.retried.clear();
                self.live = false;
            }
            Notice::Parked { positions, .. } => {
                self.retried.retain(|_, first| !positions.contains(first));
                self.parked.extend(positions);
            }
            Notice::Live(_) => self.live = true,
            Notice::Behind { .. } => self.live = false,
            Notice::Position(_) => {}
            Notice::Reset(reason) => panic!("{:?} is reset: {reason:?}", self.kind),
            Notice::Ended(_) => panic!("the end comes by itself"),
            Notice::Watching { .. } | Notice::Restated(_) | Notice::Summary(_) => {
                panic!("it is of events")
            }
        }
    }

    /// The subscription is over; it is opened again at `again_at`, if at all.
    pub(crate) fn end(&mut self, again_at: Option<Instant>) {
        self.ended = true;
        self.live = false;
        self.again_at = again_at;
    }
}
