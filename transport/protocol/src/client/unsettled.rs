//! What one subscription with acknowledgements has received and not settled, from arrival until
//! the acknowledgement that covers it.
//!
//! **The rules it keeps.**
//! - An acknowledgement never reaches an event that the application has not settled. Those that
//!   wait to be sent again are passed over, as the server does.
//! - An event that was sent again on this connection is acknowledged by its own position, and the
//!   position of an event whose retry was asked for is never acknowledged before it came again: an
//!   acknowledgement that crosses an event on its way cannot be taken for its own.
//! - A retry withdraws what the application has not settled of the later events of the stream.
//!   They are dropped, with whatever still arrives of the stream before the server has answered
//!   and the retry has come: the server sends all of them again, after it.
//! - The application has each event once at a time. What is sent again while the application has
//!   it stays with the application; what it has settled is acknowledged again.
//!
//! **When the connection is lost**, everything unsettled comes again. What the application has not
//! taken, what it let go of, and retries that were asked for are forgotten. What it has taken stays
//! with it: settled meanwhile or later, it is acknowledged when it comes again, without being given
//! a second time. That is remembered for the last [`LATELY_MAX`] events; beyond that an event is
//! given again. So effects are at least once, and twice only if the program itself ends between
//! the effect and the acknowledgement, or another session took over.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use tidewire_eventstore::{GlobalPosition, StreamName};

use super::{
    Notice,
    untaken::{Untaken, UntakenQueue},
};
use crate::messages::{Delivered, Nack, NackAction};

/// How many windows of unsettled events can be held: those in the window, and those that were
/// withdrawn from it.
const WINDOWS: usize = 4;

/// How many settled events are remembered.
const LATELY_MAX: usize = 1024;

/// The server has sent more than any window allows.
#[derive(Debug)]
pub(super) struct Flooded;

/// What the application makes of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// Its effect is done.
    Ack,
    /// It could not be processed.
    Nack {
        /// What is to become of it.
        action: NackAction,
        /// Why, for people; cut to [`Nack::REASON_BYTES_MAX`] bytes.
        reason: Option<String>,
    },
    /// Nothing: the application no longer has it and does not say. The server sends it again in
    /// its own time.
    LetGo,
}

/// What a settlement makes the client do.
#[derive(Debug)]
pub(super) enum Effect {
    /// Nothing: it does not count.
    None,
    /// Nothing but acknowledging what can be.
    Acks,
    /// Say this.
    Nack(Nack),
    /// Say this, and end.
    Stop(Nack),
}

#[derive(Debug)]
enum State {
    /// It waits for the application to take it: the number of this arrival.
    Queued(u64, Box<Delivered>),
    /// The application has it: the number of the arrival.
    Given(u64),
    /// The application had it and let go of it.
    LetGo,
    /// The application has settled it, and no acknowledgement has covered it.
    Settled,
    /// The application wants it again, and the server was told; whether it has answered. What
    /// arrives before that was sent before it heard.
    Retrying { answered: bool },
}

#[derive(Debug)]
struct Entry {
    stream: StreamName,
    state: State,
    /// Whether it was sent on this connection.
    here: bool,
    /// Whether it was sent more than once, so that only its own position acknowledges it.
    again: bool,
    /// The earlier event of its stream whose retry has withdrawn it. The server sends it again.
    withdrawn_by: Option<GlobalPosition>,
}

impl Entry {
    /// Whether the server is going to send it again, so that no acknowledgement covers it before.
    fn is_awaited(&self) -> bool {
        self.withdrawn_by.is_some() || matches!(self.state, State::Retrying { .. })
    }
}

/// The events of one subscription that are not done with.
#[derive(Debug)]
pub(super) struct Unsettled {
    window: usize,
    entries: BTreeMap<GlobalPosition, Entry>,
    untaken: UntakenQueue,
    lately: Lately,
    /// The number of the last arrival.
    arrivals: u64,
    /// The highest event, and the highest position that a heartbeat told, on this connection.
    highest: GlobalPosition,
    told: GlobalPosition,
    acked: GlobalPosition,
    /// The first event of those streams of which the server may hold back later events, which
    /// then are not known here.
    held_back: Option<GlobalPosition>,
    /// Whether the next acknowledgement is sent without waiting for others to go with it.
    eager: bool,
    due: Option<Instant>,
}

impl Unsettled {
    pub(super) fn new(window: usize) -> Self {
        Self {
            window,
            entries: BTreeMap::new(),
            untaken: UntakenQueue::default(),
            lately: Lately::default(),
            arrivals: 0,
            highest: GlobalPosition::START,
            told: GlobalPosition::START,
            acked: GlobalPosition::START,
            held_back: None,
            eager: true,
            due: None,
        }
    }

    /// The subscription is open: `window` events may be unsettled.
    pub(super) fn opened(&mut self, window: usize) {
        self.window = window;
    }

    /// The connection is gone, or the subscription begins again on it.
    pub(super) fn lost(&mut self) {
        for (position, entry) in &self.entries {
            if matches!(entry.state, State::Settled) {
                self.lately.add(*position);
            }
        }
        self.entries.retain(|_, entry| matches!(entry.state, State::Given(_)));
        for entry in self.entries.values_mut() {
            (entry.here, entry.again, entry.withdrawn_by) = (false, false, None);
        }
        self.untaken.drop_passing();
        self.highest = GlobalPosition::START;
        self.told = GlobalPosition::START;
        self.acked = GlobalPosition::START;
        self.held_back = None;
        self.eager = true;
        self.due = None;
    }

    /// Positions no longer mean what they did, or everything is to be processed anew: what the
    /// application still has counts for nothing.
    pub(super) fn forget(&mut self) {
        self.lost();
        self.entries.clear();
        self.lately.clear();
        self.untaken.clear();
    }

    /// Everything up to here is settled on the server, whoever settled it.
    pub(super) fn begins_after(&mut self, checkpoint: GlobalPosition) {
        self.entries = self.entries.split_off(&checkpoint.next());
    }

    /// Takes in an event.
    pub(super) fn receive(&mut self, delivered: Delivered) -> Result<(), Flooded> {
        let position = delivered.event.position;
        let again = delivered.attempt > 1 || position <= self.highest.max(self.told);
        self.highest = self.highest.max(position);
        let retrying = self.retrying_before(position, &delivered.event.stream);
        if let Some(entry) = self.entries.get_mut(&position) {
            entry.again = again || entry.here;
            entry.here = true;
            match retrying {
                None => self.arrive_again(position, delivered),
                // Sent before the server heard of the retry that withdraws it.
                Some(by) => entry.withdrawn_by = Some(by),
            }
            return Ok(());
        }
        if self.entries.len() >= self.window.max(1) * WINDOWS {
            return Err(Flooded);
        }
        let settled = self.lately.contains(position);
        self.arrivals += 1;
        let number = self.arrivals;
        let stream = delivered.event.stream.clone();
        let state = match retrying {
            _ if settled => State::Settled,
            Some(_) => State::LetGo,
            None => State::Queued(number, Box::new(delivered)),
        };
        let entry =
            Entry { stream, state, here: true, again: again || settled, withdrawn_by: retrying };
        self.entries.insert(position, entry);
        if !settled && retrying.is_none() {
            self.untaken.event(position, number);
        }
        Ok(())
    }

    /// An event that is known was sent again, and counts.
    fn arrive_again(&mut self, position: GlobalPosition, delivered: Delivered) {
        let Some(entry) = self.entries.get_mut(&position) else { return };
        let withdrawn = entry.withdrawn_by.take().is_some();
        match &mut entry.state {
            State::Settled | State::Retrying { answered: false } => {}
            State::Queued(_, queued) if !withdrawn => **queued = delivered,
            State::Given(_) if !withdrawn => {}
            state => {
                self.arrivals += 1;
                *state = State::Queued(self.arrivals, Box::new(delivered));
                self.untaken.event(position, self.arrivals);
            }
        }
    }

    fn is_retrying(&self, position: GlobalPosition) -> bool {
        self.entries
            .get(&position)
            .is_some_and(|entry| entry.here && matches!(entry.state, State::Retrying { .. }))
    }

    /// The first earlier event of the stream whose retry has not come.
    fn retrying_before(
        &self,
        position: GlobalPosition,
        stream: &StreamName,
    ) -> Option<GlobalPosition> {
        let retrying = |entry: &Entry| {
            entry.here && matches!(entry.state, State::Retrying { .. }) && entry.stream == *stream
        };
        let mut earlier = self.entries.range(..position);
        earlier.find_map(|(earlier, entry)| retrying(entry).then_some(*earlier))
    }

    /// There is news, in order with the events.
    pub(super) fn notice(&mut self, notice: Notice) {
        self.untaken.notice(notice);
    }

    /// The next thing for the application: an event with the number of its arrival, or news.
    pub(super) fn take(&mut self) -> Option<Result<(Delivered, u64), Notice>> {
        loop {
            let (position, number) = match self.untaken.pop()? {
                Untaken::Notice(notice) => return Some(Err(notice)),
                Untaken::Event(position, number) => (position, number),
            };
            let Some(entry) = self.entries.get_mut(&position) else { continue };
            let current = matches!(entry.state, State::Queued(queued, _) if queued == number);
            if !current || entry.withdrawn_by.is_some() {
                continue;
            }
            if let State::Queued(_, delivered) =
                std::mem::replace(&mut entry.state, State::Given(number))
            {
                return Some(Ok((*delivered, number)));
            }
        }
    }

    /// The application has made something of the event that it took with `number`.
    pub(super) fn settle(
        &mut self,
        position: GlobalPosition,
        number: u64,
        settlement: Settlement,
    ) -> Effect {
        let given = |entry: &&mut Entry| matches!(entry.state, State::Given(by) if by == number);
        let Some(entry) = self.entries.get_mut(&position).filter(given) else {
            return Effect::None;
        };
        let counts = entry.here && entry.withdrawn_by.is_none();
        match settlement {
            Settlement::Ack if entry.here => entry.state = State::Settled,
            Settlement::Ack => {
                self.entries.remove(&position);
                self.lately.add(position);
            }
            Settlement::Nack { action: action @ NackAction::Stop, reason } => {
                return Effect::Stop(nack(position, action, reason));
            }
            Settlement::Nack { action, reason } if counts => {
                self.put_aside(position, action);
                return Effect::Nack(nack(position, action, reason));
            }
            // It comes again, and the application decides again.
            Settlement::Nack { .. } | Settlement::LetGo => {
                entry.state = State::LetGo;
                if !entry.here {
                    self.entries.remove(&position);
                }
                return Effect::None;
            }
        }
        Effect::Acks
    }

    /// The application has not looked at the event that it took with `number`, and may take it
    /// again before all others.
    pub(super) fn give_back(&mut self, delivered: Delivered, number: u64) {
        let position = delivered.event.position;
        if let Some(entry) = self.entries.get_mut(&position)
            && matches!(entry.state, State::Given(given) if given == number)
        {
            if entry.withdrawn_by.is_some() {
                entry.state = State::LetGo;
            } else if entry.here {
                entry.state = State::Queued(number, Box::new(delivered));
                self.untaken.first(position, number);
            } else {
                self.entries.remove(&position);
            }
        }
    }

    fn put_aside(&mut self, position: GlobalPosition, action: NackAction) {
        match action {
            NackAction::Retry { .. } => self.retry(position),
            // Parked events may be replayed, so this one is not remembered as settled.
            NackAction::Park => drop(self.entries.remove(&position)),
            NackAction::Skip | NackAction::Stop => {
                self.entries.remove(&position);
                self.lately.add(position);
            }
        }
    }

    fn retry(&mut self, position: GlobalPosition) {
        let Some(entry) = self.entries.get_mut(&position) else { return };
        entry.state = State::Retrying { answered: false };
        self.held_back = Some(self.held_back.map_or(position, |first| first.min(position)));
        let stream = entry.stream.clone();
        for (_, later) in self.entries.range_mut(position.next()..) {
            if later.here && later.stream == stream {
                later.withdrawn_by = Some(position);
                if matches!(later.state, State::Queued(..)) {
                    later.state = State::LetGo;
                }
            }
        }
    }

    /// The server has heard of the retry of an event: from here on that one, and the later ones
    /// of its stream, come again.
    pub(super) fn retrying(&mut self, position: GlobalPosition) {
        if let Some(entry) = self.entries.get_mut(&position)
            && let State::Retrying { answered } = &mut entry.state
        {
            *answered = true;
        }
    }

    /// The server knows nothing of an event that was nacked: it was settled before. What its
    /// retry has withdrawn comes again all the same.
    pub(super) fn unknown(&mut self, position: GlobalPosition) {
        if self.is_retrying(position) {
            self.entries.remove(&position);
        }
    }

    /// The server has put events aside.
    pub(super) fn parked(&mut self, positions: Vec<GlobalPosition>, reason: String) {
        for position in &positions {
            let unheard =
                |entry: &Entry| matches!(entry.state, State::Retrying { answered: false });
            // Parked before the server heard of the retry: what arrives until it answers that is
            // going to come again.
            if !self.entries.get(position).is_some_and(unheard) {
                self.entries.remove(position);
            }
        }
        self.untaken.notice(Notice::Parked { positions, reason });
    }

    /// A heartbeat has told how far the log was looked at.
    pub(super) fn told(&mut self, position: GlobalPosition) {
        self.told = self.told.max(position);
        if position >= self.highest && !self.entries.values().any(Entry::is_awaited) {
            self.held_back = None;
        }
    }

    /// Everything up to here needs not be sent again, ever: where to resume without a consumer.
    pub(super) fn settled_through(&self) -> GlobalPosition {
        let unsettled = |entry: &Entry| !matches!(entry.state, State::Settled);
        let mut entries = self.entries.iter();
        let first = entries.find_map(|(position, entry)| unsettled(entry).then_some(*position));
        // What the application has in hand may lie beyond what this connection has come to.
        let seen = self.highest.max(self.told);
        let settled = first.map_or(seen, |first| seen.min(first.previous()));
        self.held_back.map_or(settled, |first| settled.min(first.previous()))
    }

    /// When the acknowledgements that wait for company have waited long enough.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The acknowledgements to send now, if any: all there are when `flush`, otherwise when
    /// enough events are settled, or the first of them has waited for `delay`.
    pub(super) fn acks(
        &mut self,
        now: Instant,
        delay: Duration,
        flush: bool,
    ) -> Vec<GlobalPosition> {
        let mut acks = Vec::new();
        let mut covered = Vec::new();
        let mut limit = None;
        for (position, entry) in self.entries.iter().filter(|(_, entry)| entry.here) {
            match entry.state {
                _ if entry.is_awaited() => {}
                State::Settled => {
                    covered.push(*position);
                    if entry.again {
                        acks.push(*position);
                    }
                }
                _ => {
                    limit = Some(*position);
                    break;
                }
            }
        }
        let repeats = !acks.is_empty();
        let mut last = covered.last().copied().unwrap_or(GlobalPosition::START);
        let awaited = self.entries.get(&self.told).is_some_and(Entry::is_awaited);
        if limit.is_none_or(|limit| self.told < limit) && !awaited {
            last = last.max(self.told);
        }
        if last > self.acked && acks.last() != Some(&last) {
            acks.push(last);
        }
        if acks.is_empty() {
            self.due = None;
            return acks;
        }
        let enough =
            !covered.is_empty() && (self.eager || covered.len() >= (self.window / 4).max(1));
        let late = self.due.is_some_and(|due| due <= now);
        if !(flush || repeats || enough || late) {
            self.due.get_or_insert(now + delay);
            return Vec::new();
        }
        self.due = None;
        self.eager &= covered.is_empty();
        self.acked = self.acked.max(last);
        for position in covered {
            self.entries.remove(&position);
            self.lately.add(position);
        }
        acks
    }
}

fn nack(position: GlobalPosition, action: NackAction, reason: Option<String>) -> Nack {
    let action = match action {
        NackAction::Retry { delay } => NackAction::Retry { delay: delay.min(Nack::DELAY_MAX) },
        action => action,
    };
    let reason = reason.map(|mut reason| {
        reason.truncate(reason.floor_char_boundary(Nack::REASON_BYTES_MAX));
        reason.into_boxed_str()
    });
    Nack { positions: vec![position], action, reason }
}

/// The positions that the application has settled lately.
#[derive(Debug, Default)]
struct Lately {
    order: VecDeque<GlobalPosition>,
    positions: BTreeSet<GlobalPosition>,
}

impl Lately {
    fn add(&mut self, position: GlobalPosition) {
        if self.positions.insert(position) {
            self.order.push_back(position);
        }
        while self.order.len() > LATELY_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.positions.remove(&oldest);
            }
        }
    }

    fn contains(&self, position: GlobalPosition) -> bool {
        self.positions.contains(&position)
    }

    fn clear(&mut self) {
        self.order.clear();
        self.positions.clear();
    }
}
