//! The hand-over between reading and live news, as a state machine: no clock, no IO.
//!
//! It holds `last`, the position that everything up to was handed on. A batch that starts at
//! `last + 1` goes on; one that starts later is kept while the hole before it is read from the
//! store; what overlaps is trimmed. So whatever order news and pages arrive in, what comes out is
//! the log, each position once.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use crate::{GlobalPosition, Page, RecordedEvent};

/// At most so many batches are kept while a hole is read. Those beyond are read from the store.
const KEPT_MAX: usize = 64;

/// What to do next.
#[derive(Debug, Clone)]
pub(super) enum Next {
    /// Hand these events on.
    Emit(Batch),
    /// Read the events after the first position up to and including the second. Until
    /// [`Sequencer::page`] or [`Sequencer::unanswered`] tells what came of it, nothing else is
    /// asked for.
    Read {
        /// The page begins after it.
        after: GlobalPosition,
        /// The page ends with it.
        until: GlobalPosition,
    },
    /// Everything known was handed on, or what was asked for has not come: wait for that and for
    /// news, and look at the head now and then.
    Wait,
}

/// Consecutive events.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    pub(super) events: Arc<[RecordedEvent]>,
    /// When they became durable; only known for events that came as news of this process.
    pub(super) committed_at: Option<Instant>,
}

impl Batch {
    fn first(&self) -> Option<GlobalPosition> {
        self.events.first().map(|event| event.position)
    }

    fn last(&self) -> Option<GlobalPosition> {
        self.events.last().map(|event| event.position)
    }

    /// The part of the batch after `position`.
    fn after(self, position: GlobalPosition) -> Self {
        let seen = self.events.partition_point(|event| event.position <= position);
        if seen == 0 { self } else { Self { events: self.events[seen..].into(), ..self } }
    }
}

/// A question to the store.
#[derive(Debug, Clone, Copy)]
struct Asked {
    after: GlobalPosition,
    until: GlobalPosition,
    /// The farthest head told of since the question was put.
    heard: GlobalPosition,
}

/// The state. See the module.
#[derive(Debug, Clone)]
pub(super) struct Sequencer {
    /// Everything up to here was handed on.
    last: GlobalPosition,
    /// Somebody said that the log reaches up to here. At least `last`; perhaps too far.
    known: GlobalPosition,
    /// What was asked for, where no answer came yet.
    asked: Option<Asked>,
    /// News ahead of a hole, in order.
    kept: VecDeque<Batch>,
    /// A page that was read and waits to be handed on.
    page: Option<Batch>,
}

impl Sequencer {
    /// Starts after `after`.
    pub(super) fn new(after: GlobalPosition) -> Self {
        Self { last: after, known: after, asked: None, kept: VecDeque::new(), page: None }
    }

    /// Everything up to here was handed on.
    pub(super) fn last(&self) -> GlobalPosition {
        self.last
    }

    /// News of a commit: consecutive events.
    pub(super) fn batch(&mut self, batch: Batch) {
        let (Some(first), Some(last)) = (batch.first(), batch.last()) else { return };
        if last <= self.last {
            return;
        }
        self.known = self.known.max(last);
        if self.kept.len() < KEPT_MAX {
            let at = self.kept.partition_point(|kept| kept.first() <= Some(first));
            self.kept.insert(at, batch);
        }
    }

    /// News that the log reaches up to `head`.
    pub(super) fn head(&mut self, head: GlobalPosition) {
        self.known = self.known.max(head);
        if let Some(asked) = &mut self.asked {
            asked.heard = asked.heard.max(head);
        }
    }

    /// What was asked for will not come: it may be asked for again.
    pub(super) fn unanswered(&mut self) {
        self.asked = None;
    }

    /// The page that was asked for.
    pub(super) fn page(&mut self, page: Page) {
        let Some(Asked { after, until, heard }) = self.asked.take() else { return };
        // The store's word on the head stands above hearsay from before it was asked, but not
        // above what was heard since, nor above batches seen.
        let seen = self.kept.back().and_then(Batch::last).unwrap_or_default();
        self.known = page.head.max(heard).max(seen).max(self.last);
        if page.head < until {
            // Either it was hearsay that the log reaches so far, or the log went back and what is
            // kept is not in it. The store knows what became of it.
            self.kept.clear();
        }
        if after != self.last {
            return;
        }
        let scanned = match page.events.last() {
            Some(event) if page.more => event.position,
            _ if page.more => after,
            _ => until.min(page.head),
        };
        if scanned.distance_from(after) != page.events.len() as u64 {
            tracing::error!(
                after = after.get(),
                up_to = scanned.get(),
                events = page.events.len(),
                "the log has a hole"
            );
        }
        if page.events.is_empty() {
            self.last = self.last.max(scanned);
        } else {
            self.page = Some(Batch { events: page.events.into(), committed_at: None });
        }
    }

    /// What to do next. [`Next::Emit`] counts as done once it was returned.
    pub(super) fn next(&mut self) -> Next {
        if let Some(page) = self.page.take() {
            return self.emit(page);
        }
        while let Some(batch) = self.kept.pop_front() {
            if batch.last() <= Some(self.last) {
                continue;
            }
            match batch.first() {
                Some(first) if first > self.last.next() => {
                    self.kept.push_front(batch);
                    return self.ask(first.previous());
                }
                _ => {
                    let batch = batch.after(self.last);
                    return self.emit(batch);
                }
            }
        }
        if self.known > self.last { self.ask(self.known) } else { Next::Wait }
    }

    fn ask(&mut self, until: GlobalPosition) -> Next {
        if self.asked.is_some() {
            return Next::Wait;
        }
        let after = self.last;
        self.asked = Some(Asked { after, until, heard: GlobalPosition::START });
        Next::Read { after, until }
    }

    fn emit(&mut self, batch: Batch) -> Next {
        self.last = batch.last().unwrap_or(self.last);
        Next::Emit(batch)
    }

    /// All that decides what happens next, in short.
    #[cfg(test)]
    pub(super) fn outline(&self) -> String {
        let span = |batch: &Batch| (batch.first(), batch.last());
        let kept: Vec<_> = self.kept.iter().map(span).collect();
        let page = self.page.as_ref().map(span);
        format!("{} {} {:?} {kept:?} {page:?}", self.last, self.known, self.asked)
    }
}
