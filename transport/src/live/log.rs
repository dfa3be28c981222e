//! The short log of a live query's group: the steps that were encoded last, for everybody who
//! follows it.
//!
//! Pure: no clock, no sockets, no actors. A step leads from the picture at one position to the
//! picture at another. Who holds the picture of a position may follow the log if nothing after
//! that position is missing here; whether they do is decided in one synchronous step
//! ([`StepLog::attach`]). Who holds a picture from the middle of a step is given the step in full,
//! without patches: puts and deletes may be told twice.

use std::collections::VecDeque;

use bytes::Bytes;
use tidewire_eventstore::GlobalPosition;
use tidewire_protocol::query::Change;

/// One step of a group.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    /// It leads from the picture of this position
    pub(crate) after: GlobalPosition,
    /// to that of this one.
    pub(crate) position: GlobalPosition,
    /// How many documents change.
    pub(crate) changes: u32,
    /// WebSocket frames, one after another.
    pub(crate) frames: Bytes,
    /// The same without patches, where there are any.
    pub(crate) plain: Option<Box<[Change]>>,
}

impl Step {
    /// What it costs to keep.
    pub(crate) fn bytes(&self) -> usize {
        let changes = self.plain.iter().flatten();
        let plain: usize = changes.map(tidewire_protocol::codec::json::change_bytes).sum();
        self.frames.len() + plain + size_of::<Self>()
    }
}

/// Where a reader stands in the log: the number of the next step, counted since the log began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor(u64);

impl Cursor {
    /// Moves past the step that [`StepLog::next`] gave.
    pub(crate) fn advance(&mut self) {
        self.0 += 1;
    }
}

/// What the log has for a reader.
#[derive(Debug)]
pub(crate) enum Next<'a> {
    /// The next step.
    Step(&'a Step),
    /// The next step, which begins before what the reader holds: without patches.
    Torn(&'a Step),
    /// Nothing yet.
    Empty,
    /// What would be next was forgotten: the reader has to read the store.
    Fallen,
}

/// The steps that were encoded last.
#[derive(Debug)]
pub(crate) struct StepLog {
    steps: VecDeque<Step>,
    /// The number of the first step that is kept.
    first: u64,
    /// Everything through here was forgotten, or never known.
    floor: GlobalPosition,
}

impl StepLog {
    /// An empty log that knows everything after `floor`: nothing.
    pub(crate) fn new(floor: GlobalPosition) -> Self {
        Self { steps: VecDeque::new(), first: 0, floor }
    }

    /// Adds a step. Steps come in order.
    pub(crate) fn push(&mut self, step: Step) {
        debug_assert!(step.position >= self.steps.back().map_or(self.floor, |last| last.position));
        self.steps.push_back(step);
    }

    /// Forgets the oldest step and returns its size; `None` where there is none.
    pub(crate) fn evict(&mut self) -> Option<usize> {
        let step = self.steps.pop_front()?;
        self.first += 1;
        self.floor = step.position;
        Some(step.bytes())
    }

    /// Forgets everything, and everything up to `floor` that it was not even shown. Returns the
    /// number of bytes that were forgotten.
    pub(crate) fn restart(&mut self, floor: GlobalPosition) -> usize {
        let bytes = self.steps.iter().map(Step::bytes).sum();
        self.first += self.steps.len() as u64;
        self.steps.clear();
        self.floor = floor;
        bytes
    }

    /// Lets a reader that holds the picture of `position` follow, if nothing after it is missing.
    pub(crate) fn attach(&self, position: GlobalPosition) -> Option<Cursor> {
        let had = self.steps.partition_point(|step| step.position <= position);
        (position >= self.floor).then_some(Cursor(self.first + had as u64))
    }

    /// The end of the log.
    pub(crate) fn end(&self) -> Cursor {
        Cursor(self.first + self.steps.len() as u64)
    }

    /// What a reader at `cursor` that holds the picture of `position` gets next. Steps that it has
    /// are passed over: it may be ahead of this log.
    pub(crate) fn next(&self, cursor: &mut Cursor, position: GlobalPosition) -> Next<'_> {
        if position < self.floor {
            return Next::Fallen;
        }
        // What was forgotten, this reader had.
        cursor.0 = cursor.0.max(self.first);
        loop {
            match self.steps.get((cursor.0 - self.first) as usize) {
                None => return Next::Empty,
                Some(step) if step.position <= position => cursor.0 += 1,
                Some(step) if step.after < position && step.plain.is_some() => {
                    return Next::Torn(step);
                }
                Some(step) => return Next::Step(step),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(position: u64) -> GlobalPosition {
        GlobalPosition::new(position)
    }

    fn step(after: u64, position: u64, patched: bool) -> Step {
        let (after, position) = (at(after), at(position));
        let plain = patched.then(Box::default);
        Step { after, position, changes: 1, frames: Bytes::from_static(b"frame"), plain }
    }

    /// A log that has forgotten everything through 4, with 4–6 and 8–9, of which the latter has
    /// patches. From 6 to 8 nothing changed.
    fn log() -> StepLog {
        let mut log = StepLog::new(at(0));
        log.push(step(0, 4, false));
        log.push(step(4, 6, false));
        log.push(step(8, 9, true));
        log.evict();
        log
    }

    fn told(log: &StepLog, cursor: &mut Cursor, position: u64) -> String {
        match log.next(cursor, at(position)) {
            Next::Step(step) => format!("step {}", step.position),
            Next::Torn(step) => format!("torn {}", step.position),
            Next::Empty => "empty".to_owned(),
            Next::Fallen => "fallen".to_owned(),
        }
    }

    #[test]
    fn a_reader_attaches_where_nothing_after_it_is_missing() {
        for (position, next) in [
            (3, None),
            (4, Some("step 6")),
            (5, Some("step 6")), // in the middle of it, but it has no patches
            (6, Some("step 9")),
            (8, Some("step 9")),
            (9, Some("empty")),
            (50, Some("empty")), // ahead of the log
        ] {
            let log = log();
            let attached = log.attach(at(position));
            let next_told = attached.map(|mut cursor| told(&log, &mut cursor, position));
            assert_eq!(next_told.as_deref(), next, "position {position}");
        }
    }

    #[test]
    fn a_reader_in_the_middle_of_a_step_is_given_no_patches() {
        let mut log = log();
        let mut cursor = log.attach(at(12)).expect("ahead of the log");
        log.push(step(9, 11, true));
        assert_eq!(told(&log, &mut cursor, 12), "empty");
        log.push(step(11, 14, true));
        assert_eq!(told(&log, &mut cursor, 12), "torn 14");
        cursor.advance();
        log.push(step(14, 15, true));
        assert_eq!(told(&log, &mut cursor, 14), "step 15");
    }

    #[test]
    fn a_restart_makes_every_reader_before_it_fall() {
        let mut log = log();
        let mut cursor = log.attach(at(9)).expect("at the end");
        assert!(log.restart(at(20)) > 0);
        assert_eq!(told(&log, &mut cursor, 9), "fallen");
        assert!(log.attach(at(19)).is_none());
        assert!(log.attach(at(20)).is_some());
    }
}
