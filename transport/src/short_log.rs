//! The short log of a group: the frames that were produced last, for everybody who wants them.
//!
//! Pure: no clock, no sockets, no actors. A reader is a [`Cursor`] and a position; delivering to it
//! is a look at the log and a clone of [`Bytes`].
//!
//! **The hand-over from reading to live** is decided here, in one synchronous step. The log keeps
//! `floor`, the position through which it has forgotten, and is asked with the position through
//! which a reader has been served. A reader at or past the floor finds every later event in the
//! log, so it may attach; one before the floor may have missed something and reads on from the
//! store. What was looked at without a match leaves no entry: between two entries nothing matched.

use std::{collections::VecDeque, rc::Rc};

use bytes::Bytes;
use tidewire_eventstore::{GlobalPosition, plant::Plant};

use crate::singles::Singles;

/// A frame with consecutive matching events.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// The position of its first event.
    pub(crate) first: GlobalPosition,
    /// The position of its last event.
    pub(crate) last: GlobalPosition,
    /// How many events it has.
    pub(crate) events: u32,
    /// When they were committed, where this process committed them.
    pub(crate) committed_at: Option<std::time::Instant>,
    /// The WebSocket frame.
    pub(crate) frame: Bytes,
    /// Its events one by one, where its readers settle each.
    pub(crate) singles: Option<Rc<Singles>>,
}

impl Entry {
    /// What the entry costs to keep. Events that are kept one by one weigh about as much again.
    pub(crate) fn bytes(&self) -> usize {
        self.frame.len() * if self.singles.is_some() { 2 } else { 1 }
    }

    /// Whether a reader that was served through `position` has the beginning of this entry and can
    /// be given no more of it.
    fn is_torn_at(&self, position: GlobalPosition) -> bool {
        self.first <= position && self.singles.is_none()
    }
}

/// Where a reader stands in the log: the number of the next entry, counted since the log began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor(u64);

/// What the log has for a reader.
#[derive(Debug)]
pub(crate) enum Next<'a> {
    /// The next frame.
    Entry(&'a Entry),
    /// Nothing yet: the reader has everything.
    Empty,
    /// The reader has to read the store: its next entry was forgotten, or begins before its
    /// position, so that the frame would repeat events.
    Fallen,
}

/// The frames that were produced last.
#[derive(Debug)]
pub(crate) struct ShortLog {
    entries: VecDeque<Entry>,
    /// The number of the first entry that is kept.
    first: u64,
    floor: GlobalPosition,
}

impl ShortLog {
    /// An empty log that knows everything after `floor`: nothing.
    pub(crate) fn new(floor: GlobalPosition) -> Self {
        Self { entries: VecDeque::new(), first: 0, floor }
    }

    /// Adds a frame. Entries come in order of position.
    pub(crate) fn push(&mut self, entry: Entry) {
        debug_assert!(entry.first <= entry.last && entry.first > self.end());
        self.entries.push_back(entry);
    }

    /// Forgets the oldest entry and returns its size in bytes; `None` where there is none.
    pub(crate) fn evict(&mut self) -> Option<usize> {
        let entry = self.entries.pop_front()?;
        self.first += 1;
        self.floor = entry.last;
        Some(entry.bytes())
    }

    /// Forgets the entries with anything up to and including `through`; returns their size in bytes.
    pub(crate) fn forget(&mut self, through: GlobalPosition) -> usize {
        let mut bytes = 0;
        while self.entries.front().is_some_and(|entry| entry.first <= through) {
            bytes += self.evict().unwrap_or(0);
        }
        bytes
    }

    /// Forgets everything, and everything up to `floor` that it was not even shown. Returns the
    /// number of entries and of bytes that were forgotten.
    pub(crate) fn restart(&mut self, floor: GlobalPosition) -> (usize, usize) {
        let entries = self.entries.len();
        let bytes = self.entries.iter().map(Entry::bytes).sum();
        self.entries.clear();
        self.first += entries as u64;
        self.floor = self.floor.max(floor);
        (entries, bytes)
    }

    /// Lets a reader that was served through `position` follow the log, if nothing after that
    /// position is missing here. Otherwise the reader has to read another page.
    pub(crate) fn attach(&self, position: GlobalPosition) -> Option<Cursor> {
        let position = if Plant::HandOverOffByOne.is_active() { position.next() } else { position };
        if position < self.floor {
            return None;
        }
        let seen = self.entries.partition_point(|entry| entry.last <= position);
        match self.entries.get(seen) {
            // The reader is in the middle of this frame.
            Some(entry) if entry.is_torn_at(position) => None,
            _ => Some(Cursor(self.first + seen as u64)),
        }
    }

    /// Where the frame ends that a reader is in the midst of, if it is and cannot be given the rest.
    pub(crate) fn torn_at(&self, position: GlobalPosition) -> Option<GlobalPosition> {
        let seen = self.entries.partition_point(|entry| entry.last <= position);
        let entry = self.entries.get(seen).filter(|entry| entry.is_torn_at(position))?;
        Some(entry.last)
    }

    /// What a reader at `cursor`, served through `position`, gets next. Entries that it already
    /// has are passed over (it may have attached from a page that ran ahead of this log).
    pub(crate) fn next(&self, cursor: &mut Cursor, position: GlobalPosition) -> Next<'_> {
        if position < self.floor {
            return Next::Fallen;
        }
        // What was forgotten, this reader had.
        cursor.0 = cursor.0.max(self.first);
        loop {
            match self.entries.get((cursor.0 - self.first) as usize) {
                None => return Next::Empty,
                Some(entry) if entry.last <= position => cursor.0 += 1,
                Some(entry) if entry.is_torn_at(position) => return Next::Fallen,
                Some(entry) => return Next::Entry(entry),
            }
        }
    }

    /// Moves a reader past the entry that [`Self::next`] gave it.
    pub(crate) fn advance(cursor: &mut Cursor) {
        cursor.0 += 1;
    }

    /// The last position that has left a trace here.
    fn end(&self) -> GlobalPosition {
        self.entries.back().map_or(self.floor, |entry| entry.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(position: u64) -> GlobalPosition {
        GlobalPosition::new(position)
    }

    fn entry(first: u64, last: u64) -> Entry {
        Entry {
            first: at(first),
            last: at(last),
            events: (last - first + 1) as u32,
            committed_at: None,
            frame: Bytes::from_static(b"frame"),
            singles: None,
        }
    }

    /// A log after eviction through 4, with entries 5–6 and 8–9. Position 7 did not match.
    fn log() -> ShortLog {
        let mut log = ShortLog::new(at(0));
        for (first, last) in [(1, 4), (5, 6), (8, 9)] {
            log.push(entry(first, last));
        }
        log.evict();
        log
    }

    #[test]
    fn a_reader_attaches_exactly_where_nothing_is_missing_or_repeated() {
        for (position, attaches) in [
            (0, false), // forgotten
            (3, false), // forgotten
            (4, true),  // at the floor
            (5, false), // inside 5–6
            (6, true),
            (7, true),
            (8, false), // inside 8–9
            (9, true),
            (50, true), // ahead of the log
        ] {
            assert_eq!(log().attach(at(position)).is_some(), attaches, "position {position}");
            let torn = [(5, 6), (8, 9)].into_iter().find(|(first, _)| *first == position);
            assert_eq!(log().torn_at(at(position)), torn.map(|(_, last)| at(last)));
        }
    }

    #[test]
    fn a_reader_ahead_of_the_log_passes_over_what_it_has() {
        let mut log = log();
        let mut cursor = log.attach(at(12)).expect("ahead of the log");
        log.push(entry(11, 12));
        assert!(matches!(log.next(&mut cursor, at(12)), Next::Empty));
        log.push(entry(13, 13));
        assert!(matches!(log.next(&mut cursor, at(12)), Next::Entry(e) if e.first == at(13)));
    }

    #[test]
    fn a_reader_in_the_middle_of_a_later_frame_reads_the_store() {
        let mut log = log();
        let mut cursor = log.attach(at(12)).expect("ahead of the log");
        log.push(entry(11, 14));
        assert!(matches!(log.next(&mut cursor, at(12)), Next::Fallen));
    }

    #[test]
    fn a_restart_makes_every_reader_before_it_fall() {
        let mut log = log();
        let mut cursor = log.attach(at(9)).expect("at the end");
        assert_eq!(log.restart(at(20)), (2, 10));
        assert!(matches!(log.next(&mut cursor, at(9)), Next::Fallen));
        assert!(log.attach(at(19)).is_none());
        assert!(log.attach(at(20)).is_some());
    }

    /// Tries every interleaving of what a worker and a reader do, in a small world: commits of one
    /// to three events, of which the even ones match. The world appends; the worker dispatches,
    /// evicts, or misses a commit; the reader starts a page (a snapshot), receives it, attaches and
    /// pulls. Whatever the order: the reader gets every matching event once, in order, and is never
    /// stuck with one missing.
    #[test]
    fn no_interleaving_of_the_hand_over_loses_or_repeats_an_event() {
        let mut explored = 0;
        for commits in [&[1, 1, 2, 2, 1, 2][..], &[2, 2, 2, 2], &[1, 2, 1, 2, 3], &[3, 3, 3]] {
            for start in 0..=3 {
                explored += World::new(commits, start).explore();
            }
        }
        assert!(explored > 20_000, "only {explored} states");
    }

    #[derive(Clone, PartialEq, Eq, Hash)]
    enum Reader {
        /// Wants to attach, else a page.
        Seeking,
        /// A page was read: events through `head`, to be received later.
        Reading { head: u64 },
        /// Follows the log.
        Live { cursor: u64 },
    }

    /// What happened to the log; replayed to rebuild it.
    #[derive(Clone, PartialEq, Eq, Hash)]
    enum Change {
        Push(u64, u64),
        Evict,
        Restart(u64),
    }

    #[derive(Clone, PartialEq, Eq, Hash)]
    struct World {
        commits: &'static [u64],
        committed: usize,
        dispatched: usize,
        changes: Vec<Change>,
        reader: Reader,
        position: u64,
        got: Vec<u64>,
        start: u64,
    }

    impl World {
        fn new(commits: &'static [u64], start: u64) -> Self {
            Self {
                commits,
                committed: 0,
                dispatched: 0,
                changes: Vec::new(),
                reader: Reader::Seeking,
                position: start,
                got: Vec::new(),
                start,
            }
        }

        fn head(&self, commits: usize) -> u64 {
            self.commits[..commits].iter().sum()
        }

        fn log(&self) -> ShortLog {
            let mut log = ShortLog::new(at(0));
            for change in &self.changes {
                match change {
                    Change::Push(first, last) => log.push(entry(*first, *last)),
                    Change::Evict => drop(log.evict()),
                    Change::Restart(floor) => drop(log.restart(at(*floor))),
                }
            }
            log
        }

        fn matching(after: u64, through: u64) -> impl Iterator<Item = u64> {
            (after + 1..=through).filter(|position| position % 2 == 0)
        }

        /// Every state that one step can lead to.
        fn steps(&self) -> Vec<Self> {
            let log = self.log();
            let mut next = Vec::new();
            let mut step = |change: &dyn Fn(&mut Self)| {
                let mut world = self.clone();
                change(&mut world);
                next.push(world);
            };
            if self.committed < self.commits.len() {
                step(&|world| world.committed += 1);
            }
            if self.dispatched < self.committed {
                let from = self.head(self.dispatched);
                let through = self.head(self.dispatched + 1);
                step(&|world| {
                    world.dispatched += 1;
                    let events: Vec<_> = Self::matching(from, through).collect();
                    if let (Some(first), Some(last)) = (events.first(), events.last()) {
                        world.changes.push(Change::Push(*first, *last));
                    }
                });
                step(&|world| {
                    world.dispatched += 1;
                    world.changes.push(Change::Restart(through));
                });
            }
            if !log.entries.is_empty() {
                step(&|world| world.changes.push(Change::Evict));
            }
            match &self.reader {
                Reader::Seeking => step(&|world| {
                    world.reader = match log.attach(at(self.position)) {
                        Some(cursor) => Reader::Live { cursor: cursor.0 },
                        // A page is a snapshot of the store at this moment.
                        None => Reader::Reading { head: self.head(self.committed) },
                    }
                }),
                Reader::Reading { head } => step(&|world| {
                    world.got.extend(Self::matching(self.position, *head));
                    world.position = self.position.max(*head);
                    world.reader = Reader::Seeking;
                }),
                Reader::Live { cursor } => step(&|world| {
                    let mut cursor = Cursor(*cursor);
                    world.reader = match log.next(&mut cursor, at(self.position)) {
                        Next::Entry(entry) => {
                            let (first, last) = (entry.first.get(), entry.last.get());
                            world.got.extend(Self::matching(first - 1, last));
                            world.position = last;
                            ShortLog::advance(&mut cursor);
                            Reader::Live { cursor: cursor.0 }
                        }
                        Next::Empty => Reader::Live { cursor: cursor.0 },
                        Next::Fallen => Reader::Seeking,
                    }
                }),
            }
            next.retain(|world| world != self);
            next
        }

        fn explore(self) -> usize {
            let mut seen = std::collections::HashSet::new();
            let mut open = vec![self];
            while let Some(world) = open.pop() {
                if !seen.insert(world.clone()) {
                    continue;
                }
                let due: Vec<_> =
                    Self::matching(world.start, world.head(world.committed)).collect();
                assert!(due.starts_with(&world.got), "got {:?} of {due:?}", world.got);
                let steps = world.steps();
                if steps.is_empty() {
                    assert_eq!(world.got, due, "stuck at {}", world.position);
                }
                open.extend(steps);
            }
            seen.len()
        }
    }
}
