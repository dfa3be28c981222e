//! The hand-over, tried in every order: a scheduler that takes all steps that can be taken from
//! each state — commits of this process and of others, news delivered, lost or false, pages read
//! and pages arriving — and checks the [`Sequencer`] after each.
//!
//! What is checked in every state: positions came out without a hole or a double, and if from
//! here on nothing happened but answers to what the sequencer asks, everything that true news
//! told of would come out.

use std::{collections::HashSet, sync::Arc};

use proptest::prelude::*;

use super::sequencer::{Batch, Next, Sequencer};
use crate::{
    EventId, EventType, GlobalPosition, Page, Payload, RecordedEvent, Revision, StreamName,
    Timestamp,
};

/// Who makes a commit, and of how many events.
#[derive(Debug, Clone, Copy)]
enum By {
    /// This process: it comes as news.
    Us(u64),
    /// Another process: only the head tells.
    Others(u64),
}

/// What can happen next.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    /// The next commit takes place.
    Commit,
    /// The oldest news arrives.
    Deliver,
    /// The oldest news is lost: the receiver lagged.
    Lose,
    /// The present head is told.
    Poll,
    /// A head that is not there is told.
    Lie,
    /// The sequencer is asked what to do: events come out, or a question is put.
    Next,
    /// The store reads the page that was asked for.
    ReadPage,
    /// The page arrives.
    Arrive,
}

const STEPS: [Step; 8] = [
    Step::Commit,
    Step::Deliver,
    Step::Lose,
    Step::Poll,
    Step::Lie,
    Step::Next,
    Step::ReadPage,
    Step::Arrive,
];

#[derive(Clone)]
struct World {
    commits: Vec<By>,
    committed: usize,
    head: u64,
    /// News under way: first and last position of each.
    feed: Vec<(u64, u64)>,
    sequencer: Sequencer,
    asked: Option<(GlobalPosition, GlobalPosition)>,
    /// The page that the store read and that did not arrive yet: its last position and head.
    read: Option<(u64, u64)>,
    page_limit: u64,
    /// True news told of everything up to here.
    told: u64,
    lies: u32,
    /// The last position that came out.
    out: u64,
}

fn event(position: u64) -> RecordedEvent {
    RecordedEvent {
        position: GlobalPosition::new(position),
        stream: StreamName::new("s").expect("a good name"),
        revision: Revision::new(position - 1),
        event_type: EventType::new("T").expect("a good name"),
        id: EventId::from(uuid::Uuid::from_u128(u128::from(position))),
        recorded_at: Timestamp::default(),
        payload: Payload::Json("1".into()),
        meta: None,
    }
}

impl World {
    fn new(commits: &[By], page_limit: u64, after: u64, head: u64) -> Self {
        Self {
            commits: commits.to_vec(),
            committed: 0,
            head,
            feed: Vec::new(),
            sequencer: Sequencer::new(GlobalPosition::new(after)),
            asked: None,
            read: None,
            page_limit,
            told: after,
            lies: 0,
            out: after,
        }
    }

    /// Takes `step` if it can be taken.
    fn take(&mut self, step: Step) -> Result<bool, String> {
        match step {
            Step::Commit => {
                let Some(by) = self.commits.get(self.committed) else { return Ok(false) };
                self.committed += 1;
                let (By::Us(events) | By::Others(events)) = *by;
                if let By::Us(_) = by {
                    self.feed.push((self.head + 1, self.head + events));
                }
                self.head += events;
            }
            Step::Deliver => {
                let Some((first, last)) = self.pop_news() else { return Ok(false) };
                let events: Arc<[_]> = (first..=last).map(event).collect();
                self.sequencer.batch(Batch { events, committed_at: None });
                self.told = self.told.max(last);
            }
            Step::Lose => return Ok(self.pop_news().is_some()),
            Step::Poll => {
                if self.told >= self.head {
                    return Ok(false);
                }
                self.sequencer.head(GlobalPosition::new(self.head));
                self.told = self.head;
            }
            Step::Lie => {
                if self.lies > 0 {
                    return Ok(false);
                }
                self.lies += 1;
                self.sequencer.head(GlobalPosition::new(self.head + 2));
            }
            Step::Next => return self.next(),
            Step::ReadPage => {
                let (Some((after, until)), None) = (self.asked, self.read) else {
                    return Ok(false);
                };
                let last = self.head.min(until.get()).min(after.get() + self.page_limit);
                self.read = Some((last.max(after.get()), self.head));
            }
            Step::Arrive => {
                let (Some((after, until)), Some((last, head))) = (self.asked, self.read) else {
                    return Ok(false);
                };
                (self.asked, self.read) = (None, None);
                let events = (after.get() + 1..=last).map(event).collect();
                let more = last < head.min(until.get());
                let page = Page { events, head: GlobalPosition::new(head), more };
                self.sequencer.page(page);
            }
        }
        Ok(true)
    }

    fn pop_news(&mut self) -> Option<(u64, u64)> {
        (!self.feed.is_empty()).then(|| self.feed.remove(0))
    }

    fn next(&mut self) -> Result<bool, String> {
        match self.sequencer.next() {
            Next::Emit(batch) => {
                if batch.events.is_empty() {
                    return Err("came out: nothing".into());
                }
                for event in &*batch.events {
                    if event.position.get() != self.out + 1 {
                        return Err(format!("came out: {} after {}", event.position, self.out));
                    }
                    self.out += 1;
                }
                Ok(true)
            }
            Next::Read { after, until } => {
                if after >= until {
                    return Err(format!("asked for nothing: {after} to {until}"));
                }
                if self.asked.replace((after, until)).is_some() {
                    return Err("asked again before the answer".into());
                }
                Ok(true)
            }
            Next::Wait => Ok(false),
        }
    }

    /// Only answers from here on: everything told of must come out.
    fn check_progress(&self) -> Result<(), String> {
        let mut world = self.clone();
        // Each round gets an event out or ends; the answers and lies are few.
        for _ in 0..100 {
            let mut moved = false;
            for step in [Step::ReadPage, Step::Arrive, Step::Next] {
                moved |= world.take(step)?;
            }
            if !moved {
                let told = self.told;
                return if world.out >= told {
                    Ok(())
                } else {
                    Err(format!("told of {told}, but waits at {}", world.out))
                };
            }
        }
        Err("never comes to rest".into())
    }

    /// Two worlds with the same key behave alike.
    fn key(&self) -> String {
        format!(
            "{} {} {:?} {:?} {:?} {} {} {}",
            self.committed,
            self.out,
            self.feed,
            self.asked,
            self.read,
            self.told,
            self.lies,
            self.sequencer.outline(),
        )
    }
}

/// Every state that can be reached; the steps to the first one that is wrong.
fn explore(world: &World) -> Result<usize, String> {
    let mut seen = HashSet::new();
    let mut open = vec![(world.clone(), Vec::new())];
    while let Some((world, path)) = open.pop() {
        for step in STEPS {
            let mut next = world.clone();
            let taken = next.take(step);
            let mut steps = path.clone();
            steps.push(step);
            match taken.and_then(|moved| next.check_progress().map(|()| moved)) {
                Err(wrong) => return Err(format!("{wrong}, after {steps:?}")),
                Ok(true) if seen.insert(next.key()) => open.push((next, steps)),
                Ok(_) => {}
            }
        }
    }
    Ok(seen.len())
}

#[test]
fn no_order_of_steps_makes_a_hole_or_a_double() {
    use By::{Others, Us};
    let mut states = 0;
    for commits in [
        &[Us(1), Us(2), Us(1)][..],
        &[Us(2), Others(1), Us(1)],
        &[Others(1), Us(2), Others(2)],
        &[Us(1), Others(3), Us(1)],
    ] {
        for (page_limit, after, head) in [(1, 0, 0), (2, 0, 2), (10, 1, 3), (2, 3, 3)] {
            let world = World::new(commits, page_limit, after, head);
            match explore(&world) {
                Ok(reached) => states += reached,
                Err(wrong) => panic!("{commits:?} {page_limit} {after} {head}: {wrong}"),
            }
        }
    }
    // The exploration is worth something only if it gets around.
    assert!(states > 10_000, "only {states} states");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 500, ..Default::default() })]

    #[test]
    fn long_random_orders_make_no_hole_or_double(
        sizes in prop::collection::vec((any::<bool>(), 1..5_u64), 1..100),
        steps in prop::collection::vec(prop::sample::select(&STEPS[..]), 0..600),
        page_limit in 1..6_u64,
    ) {
        let by = |(us, events)| if us { By::Us(events) } else { By::Others(events) };
        let commits: Vec<_> = sizes.into_iter().map(by).collect();
        let mut world = World::new(&commits, page_limit, 0, 0);
        for step in steps {
            world.take(step).map_err(TestCaseError::fail)?;
        }
        while world.take(Step::Commit).map_err(TestCaseError::fail)? {}
        while world.take(Step::Lose).map_err(TestCaseError::fail)? {}
        world.take(Step::Poll).map_err(TestCaseError::fail)?;
        while world.out < world.head {
            let before = world.out;
            for step in [Step::ReadPage, Step::Arrive, Step::Next, Step::Next, Step::ReadPage, Step::Arrive, Step::Next] {
                world.take(step).map_err(TestCaseError::fail)?;
            }
            prop_assert!(world.out > before || world.asked.is_some(), "stuck at {}", before);
        }
        prop_assert_eq!(world.out, world.head);
    }
}
