//! Replays a timetable into a log: each event is appended when its moment has come.
//!
//! The clock starts a little before the first departure, with everything announced until then
//! appended at once; or, in a log that has part of the flights already, at the last of them.
//! Events have ids that the flight alone decides, so that nothing is ever doubled.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use tidewire_eventstore::{
    Append, AppendError, Category, Direction, EventStore, ExpectedRevision, PendingAppend, Read,
    ReadStart, Target,
};
use tokio::time::{self, Instant};

use crate::flights::{FlightEvent, Moment, Timetable};

/// How long before the first departure the clock starts, in minutes.
const HEAD_START_MINUTES: i64 = 15;
/// Appends that are under way at once.
const IN_FLIGHT_MAX: usize = 256;
/// Between tries while the log is unavailable.
const RETRY_AFTER: Duration = Duration::from_millis(250);

/// A replay that has not begun to move.
pub(crate) struct Replay {
    store: Arc<dyn EventStore>,
    timetable: Timetable,
    /// The first event that the log does not have.
    next: usize,
}

impl Replay {
    /// Finds out how much of the timetable the log has.
    pub(crate) async fn resume(store: Arc<dyn EventStore>, timetable: Timetable) -> Result<Self> {
        let last = Read {
            target: Target::Category(Category::new("flight").context("a plain name")?),
            types: Vec::new(),
            direction: Direction::Backwards,
            from: ReadStart::End,
            until: None,
            limit: 1,
        };
        let page = store.read(last).await.context("cannot look into the log")?;
        let next = page.events.first().map_or(0, |last| {
            timetable
                .index_of(last.stream.as_str(), last.event_type.as_str())
                .map_or(0, |index| index + 1)
        });
        Ok(Self { store, timetable, next })
    }

    /// A line that says what is about to happen.
    pub(crate) fn announcement(&self, speed: f64) -> String {
        let flights = self.timetable.flights();
        let events = self.timetable.len();
        match (self.next, self.timetable.event(self.next)) {
            (0, first) => {
                let from = first.map(|first| first.happened_at()).unwrap_or_default();
                format!("{flights} flights, {events} events, from {from}, {speed} times as fast")
            }
            (next, Some(event)) => format!(
                "going on with event {next} of {events} at {}, {speed} times as fast",
                event.happened_at()
            ),
            (_, None) => format!("all {events} events are in the log already"),
        }
    }

    /// Appends every event when its moment has come. Returns how many events there are.
    pub(crate) async fn run(self, speed: f64) -> Result<usize> {
        let Some(origin) = self.origin() else { return Ok(self.timetable.len()) };
        let began_at = Instant::now();
        let mut next = self.next;
        while let Some(event) = self.timetable.event(next) {
            time::sleep_until(began_at + due_after(&event, origin, speed)).await;
            let elapsed = began_at.elapsed();
            let mut end = next + 1;
            while self
                .timetable
                .event(end)
                .is_some_and(|event| due_after(&event, origin, speed) <= elapsed)
            {
                end += 1;
            }
            self.append(next, end).await?;
            next = end;
        }
        Ok(self.timetable.len())
    }

    fn origin(&self) -> Option<Moment> {
        if self.next > 0 {
            self.timetable.event(self.next - 1).map(|event| event.at())
        } else {
            let first = self.timetable.first_departure();
            first
                .map(|first| first.plus_minutes(-HEAD_START_MINUTES))
                .or_else(|| self.timetable.event(0).map(|event| event.at()))
        }
    }

    /// Appends the events from `start` to `end`, in order, many at a time.
    async fn append(&self, start: usize, end: usize) -> Result<()> {
        let mut pending: VecDeque<(usize, PendingAppend)> = VecDeque::new();
        let mut next = start;
        while next < end || !pending.is_empty() {
            if next < end && pending.len() < IN_FLIGHT_MAX {
                match self.submit(next) {
                    Ok(append) => {
                        pending.push_back((next, append));
                        next += 1;
                        continue;
                    }
                    Err(AppendError::Overloaded) if !pending.is_empty() => {}
                    Err(error) if error.retryable() => time::sleep(RETRY_AFTER).await,
                    Err(error) => return Err(error).context("cannot append a flight"),
                }
            }
            let Some((index, append)) = pending.pop_front() else { continue };
            match append.await {
                Ok(_) => {}
                Err(AppendError::Closed) => return Err(AppendError::Closed.into()),
                Err(error) if error.retryable() => {
                    // What was sent after it is sent again too: the ids make that harmless.
                    time::sleep(RETRY_AFTER).await;
                    pending.clear();
                    next = index;
                }
                Err(error) => return Err(error).context("cannot append a flight"),
            }
        }
        Ok(())
    }

    fn submit(&self, index: usize) -> Result<PendingAppend, AppendError> {
        let event = self.timetable.event(index).expect("only events of the timetable are sent");
        self.store.append(Append {
            stream: event.stream(),
            expected: ExpectedRevision::Any,
            events: vec![event.new_event()],
        })
    }
}

/// How long after the clock's start an event is due.
fn due_after(event: &FlightEvent<'_>, origin: Moment, speed: f64) -> Duration {
    let seconds = event.at().seconds_since(origin);
    // A timetable spans years at most: far less than a float or a Duration can hold.
    Duration::try_from_secs_f64(seconds as f64 / speed).unwrap_or_default()
}
