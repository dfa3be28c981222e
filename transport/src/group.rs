//! Groups: subscriptions alike in everything share the frames that are encoded for them.
//!
//! The [`Hub`] holds one worker's groups. It takes each batch of the log once, finds the groups
//! that want its events through the [interest index](crate::interest), encodes a frame for each
//! group once, and wakes the group's members. It never touches a socket: a member looks at the
//! short log when its socket has room.

use std::{
    collections::{HashMap, VecDeque},
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use slab::Slab;
use tidewire_eventstore::{
    ERASED_TYPE, EventType, GlobalPosition, PartitionSet, RecordedEvent, StreamHash, plant::Plant,
};
use tidewire_protocol::{AckMode, FeedSpec, Sub, Summary, codec::json};

use crate::{
    answers,
    catch_up::Query,
    interest::{GroupId, Interest},
    log_view::{Generation, Purge},
    metrics::WorkerMetrics,
    short_log::{Cursor, Entry, Next, ShortLog},
    singles::Singles,
    summary::{self, Window},
};

/// Most events in one frame.
const FRAME_EVENTS_MAX: usize = 256;

/// A frame takes no further event once it has this many bytes.
const FRAME_BYTES: usize = 48 << 10;

/// The fewest mentions of entries at which those of ended groups are looked for.
const AGES_TIDY_AT: usize = 4096;

/// What subscriptions must have in common to share frames.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct GroupKey {
    /// Target and filter.
    pub(crate) feed: FeedSpec,
    /// The handle, which stands in every frame.
    pub(crate) sub: Sub,
}

impl GroupKey {
    /// Whether an event of the target is for the group's members: it was not removed, is of their
    /// share, and passes the filter. The notice of an erasure passes every filter, for whoever was
    /// given the event before.
    pub(crate) fn lets_through(&self, event: &RecordedEvent) -> bool {
        let share = self.feed.partitions;
        !event.is_removed()
            && (share == PartitionSet::ALL
                || share.contains(StreamHash::of(&event.stream).partition()))
            && (event.is_erasure()
                || self.feed.filter.as_ref().is_none_or(|filter| filter.matches(event)))
    }

    /// The events one by one, where this group's members settle each.
    fn singles<'a>(&self, events: impl Iterator<Item = &'a RecordedEvent>) -> Option<Rc<Singles>> {
        match self.feed.ack {
            AckMode::None => None,
            AckMode::Each { .. } => Some(Rc::new(Singles::new(events.cloned().collect()))),
        }
    }

    /// The only types that can pass, so that the store need not read others; empty means any.
    fn types(&self) -> Vec<EventType> {
        let only = self.feed.filter.as_ref().and_then(|filter| filter.only_types());
        let Some(only) = only else { return Vec::new() };
        // A type that is not a name can be no event's: the filter itself refuses all events then.
        let names = only.into_iter().chain([ERASED_TYPE]);
        names.filter_map(|name| EventType::recorded(name).ok()).collect()
    }

    /// What is counted together, where this group's members want counts.
    fn summary(&self) -> Option<Summary> {
        self.feed.batch.summary
    }

    /// How long an event may wait for others.
    fn delay(&self) -> Option<Duration> {
        let delay = match self.summary() {
            Some(Summary::Millis(ms)) => Some(ms),
            Some(Summary::Events(_)) => None,
            None => self.feed.batch.max_delay_ms.filter(|ms| *ms > 0),
        };
        Some(Duration::from_millis(delay?.into()))
    }

    /// Most events in one frame.
    fn frame_events_max(&self) -> usize {
        let wish = self.feed.batch.max_events.map_or(usize::MAX, |max| max.get() as usize);
        let window = match self.feed.ack {
            AckMode::None => usize::MAX,
            AckMode::Each { frame_events_max } => frame_events_max.get() as usize,
        };
        wish.min(window).min(FRAME_EVENTS_MAX)
    }
}

/// Somebody to wake when a group has something new.
pub(crate) trait Member {
    /// Lets the member look at its groups soon.
    fn wake(&self);
}

/// A member's place in a group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seat {
    group: GroupId,
    member: usize,
}

struct Group<M> {
    key: GroupKey,
    query: Arc<Query>,
    /// Tells this group from an earlier one with the same id.
    serial: u64,
    log: ShortLog,
    members: Slab<Rc<M>>,
    /// The events of the batch at hand that this group wants, by index.
    wanted: Vec<u32>,
    /// Events that wait for others, where the group's members wish for fewer frames.
    held: Vec<RecordedEvent>,
    /// What was counted and not told yet, where the group's members want counts.
    window: Option<Window>,
    /// A [flush](Hub::flush) is under way.
    flushing: bool,
}

impl<M> Group<M> {
    /// Everything through this position is in the log or does not match, if the worker has looked
    /// through `last`.
    fn scanned(&self, last: GlobalPosition) -> GlobalPosition {
        let counted = self.window.as_ref().map(Window::first);
        let waits = self.held.first().map(|event| event.position).or(counted);
        waits.map_or(last, GlobalPosition::previous)
    }
}

/// Names a group that holds events back, to be [flushed](Hub::flush) after a delay.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    group: GroupId,
    serial: u64,
    /// How long the events may wait.
    pub(crate) delay: Duration,
}

/// The groups of one worker.
pub(crate) struct Hub<M> {
    /// The life of the log that all of this is of.
    generation: Generation,
    /// What was thrown away last.
    purge: Purge,
    /// Everything through this position was looked at.
    last: GlobalPosition,
    groups: Slab<Group<M>>,
    by_key: HashMap<GroupKey, GroupId>,
    interest: Interest,
    serials: u64,
    /// The groups whose logs have entries, a mention an entry, oldest entry first.
    ages: VecDeque<(GroupId, u64)>,
    ages_tidy_at: usize,
    log_bytes: usize,
    log_bytes_max: usize,
    touched: Vec<GroupId>,
    encoder: Encoder,
    metrics: Arc<WorkerMetrics>,
}

impl<M: Member> Hub<M> {
    pub(crate) fn new(
        generation: Generation,
        last: GlobalPosition,
        log_bytes_max: usize,
        metrics: Arc<WorkerMetrics>,
    ) -> Self {
        Self {
            generation,
            purge: Purge::default(),
            last,
            groups: Slab::new(),
            by_key: HashMap::new(),
            interest: Interest::default(),
            serials: 0,
            ages: VecDeque::new(),
            ages_tidy_at: AGES_TIDY_AT,
            log_bytes: 0,
            log_bytes_max,
            touched: Vec::new(),
            encoder: Encoder::default(),
            metrics,
        }
    }

    /// The life of the log that all of this is of.
    pub(crate) fn generation(&self) -> Generation {
        self.generation
    }

    /// Everything through this position was looked at.
    pub(crate) fn last(&self) -> GlobalPosition {
        self.last
    }

    /// Seats `member` in the group of `key`, which is made if need be.
    pub(crate) fn join(&mut self, key: GroupKey, member: Rc<M>) -> Seat {
        let group = match self.by_key.get(&key) {
            Some(group) => *group,
            None => {
                self.serials += 1;
                let query = Arc::new(Query {
                    generation: self.generation,
                    purges: self.purge.count,
                    target: answers::target(&key.feed.target),
                    types: key.types(),
                });
                let group = self.groups.insert(Group {
                    key: key.clone(),
                    query,
                    serial: self.serials,
                    log: ShortLog::new(self.last),
                    members: Slab::new(),
                    wanted: Vec::new(),
                    held: Vec::new(),
                    window: None,
                    flushing: false,
                });
                self.interest.add(&key.feed.target, group);
                self.by_key.insert(key, group);
                self.metrics.groups.fetch_add(1, Relaxed);
                group
            }
        };
        self.metrics.subscriptions.fetch_add(1, Relaxed);
        Seat { group, member: self.groups[group].members.insert(member) }
    }

    /// Gives a seat up. The group ends with its last member.
    pub(crate) fn leave(&mut self, seat: Seat) {
        let group = &mut self.groups[seat.group];
        group.members.remove(seat.member);
        self.metrics.subscriptions.fetch_sub(1, Relaxed);
        if group.members.is_empty() {
            let mut group = self.groups.remove(seat.group);
            self.metrics.held_events.fetch_sub(group.held.len() as i64, Relaxed);
            let (_, bytes) = group.log.restart(self.last);
            self.freed(bytes);
            self.interest.remove(&group.key.feed.target, seat.group);
            self.by_key.remove(&group.key);
            self.metrics.groups.fetch_sub(1, Relaxed);
        }
    }

    /// What a group's members ask the store for, and the group's serial number.
    pub(crate) fn query(&self, seat: Seat) -> (Arc<Query>, u64) {
        let group = &self.groups[seat.group];
        (group.query.clone(), group.serial)
    }

    /// See [`ShortLog::attach`]. What is held back goes out first: a reader inside of it could
    /// never connect. So does what was counted, up to where the reader is.
    pub(crate) fn attach(&mut self, seat: Seat, position: GlobalPosition) -> Option<Cursor> {
        let window = &mut self.groups[seat.group].window;
        if window.as_ref().is_none_or(|window| window.first() <= position) {
            let later = window.as_mut().and_then(|window| window.cut(position));
            self.release(seat.group);
            self.groups[seat.group].window = later;
        }
        self.evict();
        self.groups[seat.group].log.attach(position)
    }

    /// See [`ShortLog::torn_at`].
    pub(crate) fn torn_at(&self, seat: Seat, position: GlobalPosition) -> Option<GlobalPosition> {
        self.groups[seat.group].log.torn_at(position)
    }

    /// How far the log was looked at for a group's members.
    pub(crate) fn scanned(&self, seat: Seat) -> GlobalPosition {
        self.groups[seat.group].scanned(self.last)
    }

    /// See [`ShortLog::next`].
    pub(crate) fn next(
        &self,
        seat: Seat,
        cursor: &mut Cursor,
        position: GlobalPosition,
    ) -> Next<'_> {
        self.groups[seat.group].log.next(cursor, position)
    }

    /// Takes a batch: the events after `last`, in order. A batch that begins later means that one
    /// was missed; then every log starts anew behind the hole, and whoever had not got that far
    /// reads the store.
    ///
    /// Returns the groups that have begun to hold events back.
    pub(crate) fn dispatch(
        &mut self,
        events: &[RecordedEvent],
        committed_at: Option<Instant>,
    ) -> Vec<Held> {
        let seen = events.partition_point(|event| event.position <= self.last);
        let events = &events[seen..];
        let (Some(first), Some(last)) = (events.first(), events.last()) else {
            return Vec::new();
        };
        if first.position > self.last.next() {
            self.skip_to(first.position.previous());
        }
        self.last = last.position;
        let skipped = Plant::SkippedBatch.is_active() && last.position.get() % 64 == 0;
        if self.interest.is_empty() || skipped {
            return Vec::new();
        }

        for (index, event) in events.iter().enumerate() {
            for id in self.interest.of(&event.stream) {
                let group = &mut self.groups[id];
                if group.key.lets_through(event) {
                    if group.wanted.is_empty() {
                        self.touched.push(id);
                    }
                    group.wanted.push(index as u32);
                }
            }
        }

        self.encoder.begin(events.len());
        let (mut holding, mut full) = (Vec::new(), Vec::new());
        for id in std::mem::take(&mut self.touched) {
            let group = &mut self.groups[id];
            let mut wanted = std::mem::take(&mut group.wanted);
            let delay = group.key.delay();
            if let Some(delay) = delay
                && !std::mem::replace(&mut group.flushing, true)
            {
                holding.push(Held { group: id, serial: group.serial, delay });
            }
            match (group.key.summary(), delay) {
                (Some(summary), _) => self.count(id, summary, events, &wanted),
                (None, None) => self.publish(id, events, &wanted, committed_at),
                (None, Some(_)) => {
                    self.metrics.held_events.fetch_add(wanted.len() as i64, Relaxed);
                    group.held.extend(wanted.iter().map(|index| events[*index as usize].clone()));
                    if group.held.len() >= group.key.frame_events_max() {
                        full.push(id);
                    }
                }
            }
            wanted.clear();
            self.groups[id].wanted = wanted;
        }
        for id in full {
            self.release(id);
        }
        self.evict();
        holding
    }

    /// Sends what a group has held back for long enough.
    pub(crate) fn flush(&mut self, held: Held) {
        if let Some(group) = self.groups.get_mut(held.group)
            && group.serial == held.serial
        {
            group.flushing = false;
            self.release(held.group);
            self.evict();
        }
    }

    /// Counts the `wanted` of `events` for group `id`, and publishes what is full.
    fn count(&mut self, id: GroupId, of: Summary, events: &[RecordedEvent], wanted: &[u32]) {
        let group = &mut self.groups[id];
        let wanted = wanted.iter().map(|index| &events[*index as usize]);
        let full = summary::count(of, group.key.sub, &mut group.window, wanted);
        if !full.is_empty() {
            self.push(id, full);
        }
    }

    /// Publishes what group `id` holds back.
    fn release(&mut self, id: GroupId) {
        let group = &mut self.groups[id];
        if let Some(window) = group.window.take() {
            let entry = window.entry(group.key.sub);
            self.push(id, vec![entry]);
        }
        let events = std::mem::take(&mut self.groups[id].held);
        if events.is_empty() {
            return;
        }
        self.metrics.held_events.fetch_sub(events.len() as i64, Relaxed);
        self.encoder.begin(events.len());
        let wanted: Vec<u32> = (0..events.len() as u32).collect();
        self.publish(id, &events, &wanted, None);
    }

    /// Encodes the `wanted` of `events` for group `id`, and wakes its members.
    fn publish(
        &mut self,
        id: GroupId,
        events: &[RecordedEvent],
        wanted: &[u32],
        committed_at: Option<Instant>,
    ) {
        let group = &self.groups[id];
        let mut entries = Vec::new();
        let mut rest = wanted;
        while !rest.is_empty() {
            let (frame, taken) = self.encoder.frame(&group.key, events, rest);
            let of_frame = rest[..taken].iter().map(|index| &events[*index as usize]);
            entries.push(Entry {
                first: events[rest[0] as usize].position,
                last: events[rest[taken - 1] as usize].position,
                events: taken as u32,
                committed_at,
                frame,
                singles: group.key.singles(of_frame),
            });
            rest = &rest[taken..];
        }
        self.push(id, entries);
    }

    /// Adds frames to the log of group `id`, and wakes its members.
    fn push(&mut self, id: GroupId, entries: Vec<Entry>) {
        let group = &mut self.groups[id];
        let first = entries.first().map_or(0, |entry| entry.first.get());
        for entry in entries {
            self.metrics.encoded_bytes.fetch_add(entry.frame.len() as u64, Relaxed);
            self.ages.push_back((id, group.serial));
            self.log_bytes += entry.bytes();
            self.metrics.shared_log_bytes.fetch_add(entry.bytes() as i64, Relaxed);
            group.log.push(entry);
        }
        if Plant::LostWakeUp.is_active() && first.is_multiple_of(5) {
            return;
        }
        for (_, member) in &group.members {
            member.wake();
        }
    }

    /// Learns that the log goes through `head` although its events did not come here.
    pub(crate) fn skip_to(&mut self, head: GlobalPosition) {
        if head <= self.last {
            return;
        }
        self.last = head;
        self.metrics.log_restarts.fetch_add(1, Relaxed);
        let mut freed = 0;
        for (_, group) in &mut self.groups {
            self.metrics.held_events.fetch_sub(group.held.len() as i64, Relaxed);
            group.held.clear();
            group.window = None;
            freed += group.log.restart(head).1;
            for (_, member) in &group.members {
                member.wake();
            }
        }
        self.ages.clear();
        self.freed(freed);
    }

    /// How often what was kept was thrown away.
    pub(crate) fn purges(&self) -> u64 {
        self.purge.count
    }

    /// Throws away the frames of events that were erased or removed meanwhile; whoever had not got
    /// past them reads the store. Returns whether there was anything to do.
    pub(crate) fn purge(&mut self, purge: Purge) -> bool {
        if purge == self.purge {
            return false;
        }
        self.purge = purge;
        let mut freed = 0;
        for (_, group) in &mut self.groups {
            group.query = Arc::new(Query { purges: purge.count, ..(*group.query).clone() });
            let mut stale = group.log.forget(purge.through);
            if group.held.first().is_some_and(|event| event.position <= purge.through) {
                self.metrics.held_events.fetch_sub(group.held.len() as i64, Relaxed);
                group.held.clear();
                stale += group.log.restart(self.last).1;
            }
            if group.window.take_if(|window| window.first() <= purge.through).is_some() {
                stale += group.log.restart(self.last).1;
            }
            freed += stale;
            for (_, member) in &group.members {
                member.wake();
            }
        }
        self.freed(freed);
        true
    }

    /// Begins another life of the log, in which everything through `head` was looked at. Everybody
    /// has left before: no seat of an earlier life is good for anything.
    pub(crate) fn begin_anew(&mut self, generation: Generation, head: GlobalPosition) {
        debug_assert!(self.groups.is_empty(), "a member of another life of the log");
        self.generation = generation;
        self.last = head;
        self.ages.clear();
    }

    /// Forgets the oldest entries until the logs are within their budget.
    fn evict(&mut self) {
        while self.log_bytes > self.log_bytes_max {
            let Some((id, serial)) = self.ages.pop_front() else { break };
            let Some(group) = self.groups.get_mut(id) else { continue };
            if group.serial == serial
                && let Some(bytes) = group.log.evict()
            {
                self.freed(bytes);
            }
        }
        self.tidy();
    }

    /// Lets go of mentions of groups that have ended before they outnumber the living.
    fn tidy(&mut self) {
        if self.ages.len() > self.ages_tidy_at {
            let groups = &self.groups;
            self.ages.retain(|(id, serial)| {
                groups.get(*id).is_some_and(|group| group.serial == *serial)
            });
            self.ages_tidy_at = AGES_TIDY_AT.max(self.ages.len() * 2);
        }
    }

    fn freed(&mut self, bytes: usize) {
        self.log_bytes -= bytes;
        self.metrics.shared_log_bytes.fetch_sub(bytes as i64, Relaxed);
    }
}

/// Encodes the events of a batch at most once each, however many groups want them.
#[derive(Default)]
struct Encoder {
    buffer: BytesMut,
    /// Where each event of the batch stands in the buffer; empty where it does not yet.
    encoded: Vec<std::ops::Range<usize>>,
}

impl Encoder {
    fn begin(&mut self, events: usize) {
        if self.buffer.capacity() > 1 << 20 {
            self.buffer = BytesMut::new();
        }
        self.buffer.clear();
        self.encoded.clear();
        self.encoded.resize(events, 0..0);
    }

    /// One frame with as many of the `wanted` events as fit; and how many they are, at least one.
    fn frame(
        &mut self,
        key: &GroupKey,
        events: &[RecordedEvent],
        wanted: &[u32],
    ) -> (Bytes, usize) {
        let events_max = key.frame_events_max();
        let mut bytes = 0;
        let mut taken = 0;
        for index in wanted.iter().map(|index| *index as usize) {
            if self.encoded[index].is_empty() {
                let start = self.buffer.len();
                json::encode_event(&events[index], &mut self.buffer);
                self.encoded[index] = start..self.buffer.len();
            }
            bytes += self.encoded[index].len();
            taken += 1;
            if taken == events_max || bytes >= FRAME_BYTES {
                break;
            }
        }
        let fragments: Vec<&[u8]> = wanted[..taken]
            .iter()
            .map(|index| &self.buffer[self.encoded[*index as usize].clone()])
            .collect();
        let mut out = BytesMut::with_capacity(bytes + taken + 64);
        json::encode_events_frame(key.sub, &fragments, &mut out);
        (out.freeze(), taken)
    }
}

/// Encodes frames for events that were read from the store, as many to a frame as a group's have.
pub(crate) fn encode_page<'a>(
    key: &GroupKey,
    events: impl Iterator<Item = &'a RecordedEvent>,
) -> Vec<Entry> {
    if let Some(summary) = key.summary() {
        return summary::encode_page(summary, key.sub, events);
    }
    let mut entries = Vec::new();
    let mut at_hand: Vec<(&RecordedEvent, Bytes)> = Vec::new();
    let mut bytes = 0;
    let mut buffer = BytesMut::new();
    for event in events {
        json::encode_event(event, &mut buffer);
        let fragment = buffer.split().freeze();
        bytes += fragment.len();
        at_hand.push((event, fragment));
        if at_hand.len() == key.frame_events_max() || bytes >= FRAME_BYTES {
            entries.extend(page_entry(key, &at_hand));
            at_hand.clear();
            bytes = 0;
        }
    }
    entries.extend(page_entry(key, &at_hand));
    entries
}

/// One frame of a page; none where there are no events.
fn page_entry(key: &GroupKey, events: &[(&RecordedEvent, Bytes)]) -> Option<Entry> {
    let ((first, _), (last, _)) = (events.first()?, events.last()?);
    let fragments: Vec<&Bytes> = events.iter().map(|(_, fragment)| fragment).collect();
    let bytes: usize = fragments.iter().map(|fragment| fragment.len()).sum();
    let mut out = BytesMut::with_capacity(bytes + fragments.len() + 64);
    json::encode_events_frame(key.sub, &fragments, &mut out);
    Some(Entry {
        first: first.position,
        last: last.position,
        events: events.len() as u32,
        committed_at: None,
        frame: out.freeze(),
        singles: key.singles(events.iter().map(|(event, _)| *event)),
    })
}

#[cfg(test)]
mod tests;
