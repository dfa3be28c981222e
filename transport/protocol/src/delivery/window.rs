//! The window: every unsettled event of one subscription, in order, and where each of them is.
//!
//! Most are with the client, sent once. One that waits for a retry is *away*, and so are the
//! later ones of its stream, so that each stream is processed in order. What is away is sent
//! alone, later than its position says.

use std::{
    collections::{HashSet, VecDeque},
    time::Instant,
};

use tidewire_eventstore::{GlobalPosition, StreamHash};

use super::{
    EventRef,
    entry::{Entry, Place},
};

/// An empty window keeps no more room than this.
const IDLE_CAPACITY_MAX: usize = 16;

/// The unsettled events of one subscription.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// By position, rising.
    entries: VecDeque<Entry>,
    /// How many of them are away.
    away: usize,
    /// How many of them are overdue.
    overdue: usize,
    /// The highest position that the client was told of.
    told: GlobalPosition,
    /// The highest position of which the client was told that all before it was sent.
    vouched: GlobalPosition,
    /// The highest position told when the kernel had last accepted everything.
    accepted: GlobalPosition,
    /// How many events were sent alone.
    sendings: u64,
    /// How many of those the kernel has accepted.
    sendings_accepted: u64,
}

/// An event that has left the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Settled {
    pub(super) position: GlobalPosition,
    pub(super) stream: StreamHash,
    pub(super) replay: bool,
    pub(super) charges: u32,
}

impl From<Entry> for Settled {
    fn from(entry: Entry) -> Self {
        Self {
            position: entry.position,
            stream: entry.stream,
            replay: entry.is_replay(),
            charges: entry.charges(),
        }
    }
}

impl Window {
    /// An empty window of a subscription that begins after `told`.
    pub(super) fn after(told: GlobalPosition) -> Self {
        Self { told, vouched: told, ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many events are with the client.
    pub(super) fn with_client(&self) -> usize {
        self.entries.len() - self.away
    }

    /// How many events are with the client or about to be sent for the first time: all but those
    /// that it gave back.
    pub(super) fn under_way(&self) -> usize {
        let waited_for = |entry: &&Entry| {
            entry.is_away() && entry.history().is_some_and(|history| history.expected)
        };
        self.entries.len() - self.entries.iter().filter(waited_for).count()
    }

    pub(super) fn told(&self) -> GlobalPosition {
        self.told
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    pub(super) fn get(&self, position: GlobalPosition) -> Option<&Entry> {
        self.find(position).map(|at| &self.entries[at])
    }

    /// The oldest event that is with the client.
    pub(super) fn oldest(&self) -> Option<&Entry> {
        if self.away == 0 {
            return self.entries.front();
        }
        self.entries.iter().find(|entry| !entry.is_away())
    }

    /// Whether the kernel has accepted the last sending of `entry`.
    pub(super) fn is_accepted(&self, entry: &Entry) -> bool {
        match entry.history().and_then(|history| history.sending) {
            Some(sending) => sending <= self.sendings_accepted,
            None => entry.position <= self.accepted,
        }
    }

    /// Everything sent so far was accepted by the kernel.
    pub(super) fn accept(&mut self) {
        self.accepted = self.told;
        self.sendings_accepted = self.sendings;
    }

    /// What the client may be told of a log that was looked at through `scanned`: no more than
    /// what lies before the events that are away, and never less than before.
    pub(super) fn vouch(&mut self, scanned: GlobalPosition) -> GlobalPosition {
        let away = self.entries.iter().find(|entry| self.away > 0 && entry.is_away());
        let sent = away.map_or(scanned, |entry| scanned.min(entry.position.previous()));
        self.vouched = self.vouched.max(sent);
        self.told = self.told.max(self.vouched);
        self.vouched
    }

    /// Takes the next event of the feed, which was charged `charges` attempts before. Whether it
    /// is to be sent with the others; otherwise it is away, and sent alone when it is due.
    pub(super) fn take(&mut self, event: EventRef, charges: u32, now: Instant) -> bool {
        // Usually the last. A replay may be of an event that the feed has not come to yet.
        let newest = self.entries.back().is_none_or(|last| last.position < event.position);
        let place = if newest {
            Err(self.entries.len())
        } else {
            self.entries.binary_search_by_key(&event.position, |entry| entry.position)
        };
        let Err(at) = place else { return false };
        let mut entry = Entry::new(event.position, event.stream);
        let alone = charges > 0 || self.is_held_back(event.stream);
        if alone {
            let history = entry.history_mut();
            history.charges = charges;
            history.place = Place::Away { due: now, reading: false };
            self.away += 1;
        } else {
            if event.position <= self.told {
                // After a replay of a later event: an ack may be on its way.
                let history = entry.history_mut();
                (history.late, history.fed) = (Some(self.told), true);
            }
            self.told = self.told.max(event.position);
        }
        self.entries.insert(at, entry);
        !alone
    }

    /// Takes an event that was parked with `forgiven` charges and has `charges` now; it is away
    /// and due. Whether it was not there yet.
    pub(super) fn replay(
        &mut self,
        event: EventRef,
        forgiven: u32,
        charges: u32,
        now: Instant,
    ) -> bool {
        let at = match self.entries.binary_search_by_key(&event.position, |entry| entry.position) {
            Err(at) => at,
            Ok(at) => {
                // The feed has come to it first; settling it settles the replay.
                self.entries[at].history_mut().replay = true;
                return false;
            }
        };
        let mut entry = Entry::new(event.position, event.stream);
        let history = entry.history_mut();
        history.charges = charges;
        history.forgiven = forgiven;
        history.replay = true;
        history.place = Place::Away { due: now, reading: false };
        self.entries.insert(at, entry);
        self.away += 1;
        true
    }

    /// Settles what an ack of `position` covers.
    pub(super) fn ack(&mut self, position: GlobalPosition, mut settled: impl FnMut(Settled)) {
        let simple = |entry: &Entry| entry.history().is_none();
        while self.entries.front().is_some_and(|entry| entry.position <= position && simple(entry))
        {
            settled(self.entries.pop_front().expect("there is a first one").into());
        }
        let fed = |entry: &Entry| entry.history().is_some_and(|history| history.fed);
        let names_fed = self.get(position).is_some_and(fed);
        let covered = |entry: &Entry| {
            let late = entry.history().and_then(|history| history.late);
            let shown = late.is_none_or(|told| position > told || position == entry.position);
            (shown || names_fed && fed(entry)) && !entry.is_away()
        };
        let end = self.entries.partition_point(|entry| entry.position <= position);
        for at in (0..end).rev() {
            if covered(&self.entries[at]) {
                settled(self.remove_at(at));
            }
        }
        self.shrink();
    }

    /// Settles one event, wherever it is.
    pub(super) fn settle(&mut self, position: GlobalPosition) -> Option<Settled> {
        let at = self.find(position)?;
        let settled = self.remove_at(at);
        self.shrink();
        Some(settled)
    }

    /// Charges an attempt; how many count now.
    pub(super) fn charge(&mut self, position: GlobalPosition) -> u32 {
        let Some(at) = self.find(position) else { return 0 };
        let history = self.entries[at].history_mut();
        history.charges = history.charges.saturating_add(1);
        self.entries[at].spent()
    }

    /// Takes an event back from the client, to be sent again at `due`.
    pub(super) fn call_back(&mut self, position: GlobalPosition, due: Instant) {
        if let Some(at) = self.find(position) {
            self.withdraw(at, due);
        }
    }

    /// Takes back what is with the client of `stream` after `position`: it comes again, in order.
    pub(super) fn withdraw_after(
        &mut self,
        position: GlobalPosition,
        stream: StreamHash,
        now: Instant,
    ) {
        self.withdraw_where(position, now, |entry| entry.stream == stream);
    }

    /// Takes back everything that is with the client after `position`.
    pub(super) fn withdraw_all_after(&mut self, position: GlobalPosition, now: Instant) {
        self.withdraw_where(position, now, |_| true);
    }

    fn withdraw_where(
        &mut self,
        position: GlobalPosition,
        now: Instant,
        which: impl Fn(&Entry) -> bool,
    ) {
        let from = self.entries.partition_point(|entry| entry.position <= position);
        for at in from..self.entries.len() {
            if !which(&self.entries[at]) {
                continue;
            }
            match self.entries[at].place() {
                Place::Client | Place::Overdue { .. } => self.withdraw(at, now),
                // What was about to be sent has to wait as well.
                place @ Place::Away { .. } => self.put(at, place.with_reading(false)),
            }
        }
    }

    /// Marks an event that the client is silent about: it is to be sent again.
    pub(super) fn overdue(&mut self, position: GlobalPosition, now: Instant) {
        if let Some(at) = self.find(position) {
            self.put(at, Place::Overdue { due: now, reading: false });
        }
    }

    /// The next event that has to be read to be sent alone, marked as being read; with
    /// `one_more`, of those, too, that the client does not have.
    pub(super) fn next_read(&mut self, now: Instant, one_more: bool) -> Option<GlobalPosition> {
        let at = self.readable(one_more).find_map(|(at, due)| (due <= now).then_some(at))?;
        let place = self.entries[at].place().with_reading(true);
        self.put(at, place);
        Some(self.entries[at].position)
    }

    /// When [`Self::next_read`] has something next, if nothing else happens.
    pub(super) fn next_read_at(&self, one_more: bool) -> Option<Instant> {
        self.readable(one_more).map(|(_, due)| due).min()
    }

    /// What may be sent alone, by index, and from when on: of each stream that is held back only
    /// the first.
    fn readable(&self, one_more: bool) -> impl Iterator<Item = (usize, Instant)> {
        let any = self.away + self.overdue > 0;
        let mut held_back = HashSet::new();
        let entries = self.entries.iter().enumerate().take_while(move |_| any);
        entries.filter_map(move |(at, entry)| match entry.place() {
            Place::Client => None,
            Place::Overdue { due, reading } => (!reading).then_some((at, due)),
            Place::Away { due, reading } => {
                let first = held_back.insert(entry.stream.get());
                (first && one_more && !reading).then_some((at, due))
            }
        })
    }

    /// An event could not be read; it is tried again at `due`.
    pub(super) fn put_off(&mut self, position: GlobalPosition, due: Instant) {
        if let Some(at) = self.find(position) {
            let place = self.entries[at].place().put_off(due);
            self.put(at, place);
        }
    }

    /// An event was sent alone; which attempt that was.
    pub(super) fn sent(&mut self, position: GlobalPosition) -> Option<u32> {
        let at = self.find(position)?;
        self.sendings += 1;
        let (sending, told) = (self.sendings, self.told);
        let away = self.entries[at].is_away();
        self.put(at, Place::Client);
        let history = self.entries[at].history_mut();
        history.sending = Some(sending);
        history.expected = false;
        if away {
            (history.late, history.fed) = (Some(told), false);
        }
        self.told = self.told.max(position);
        Some(self.entries[at].charges().saturating_add(1))
    }

    /// Whether an event of `stream` is away, so that later ones have to wait for it.
    pub(super) fn is_held_back(&self, stream: StreamHash) -> bool {
        self.away > 0 && self.entries.iter().any(|entry| entry.stream == stream && entry.is_away())
    }

    fn find(&self, position: GlobalPosition) -> Option<usize> {
        self.entries.binary_search_by_key(&position, |entry| entry.position).ok()
    }

    fn withdraw(&mut self, at: usize, due: Instant) {
        self.put(at, Place::Away { due, reading: false });
        self.entries[at].history_mut().expected = true;
    }

    fn put(&mut self, at: usize, place: Place) {
        self.count(self.entries[at].place(), |count| *count -= 1);
        self.entries[at].history_mut().place = place;
        self.count(place, |count| *count += 1);
    }

    fn remove_at(&mut self, at: usize) -> Settled {
        let entry = self.entries.remove(at).expect("the index was found");
        self.count(entry.place(), |count| *count -= 1);
        entry.into()
    }

    fn count(&mut self, place: Place, change: impl Fn(&mut usize)) {
        match place {
            Place::Client => {}
            Place::Overdue { .. } => change(&mut self.overdue),
            Place::Away { .. } => change(&mut self.away),
        }
    }

    fn shrink(&mut self) {
        if self.entries.is_empty() && self.entries.capacity() > IDLE_CAPACITY_MAX {
            self.entries = VecDeque::new();
        }
    }
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
