//! Summaries: counts by type in place of events, for subscriptions that ask for them.
//!
//! A [`Window`] counts the events that a subscription would be given, in order. It goes out as one
//! frame, an [`Entry`] like one with events: from the first event that it counts through the last.
//! So whatever holds of frames with events holds of these: a reader that has a part of one is
//! given the rest from the store, and everything is counted exactly once.
//!
//! A window of the live end ends with its time or its number of events; or earlier, where somebody
//! joins the group in the midst of it, at the event that they begin after. What is read from the
//! store is counted page by page.

use std::collections::{BTreeMap, VecDeque};

use tidewire_eventstore::{EventType, GlobalPosition, RecordedEvent, Timestamp};
use tidewire_protocol::{Sub, Summary, SummaryWindow, codec::json};

use crate::short_log::Entry;

/// Most types that one summary tells of, so that it is no longer than other frames are.
const TYPES_MAX: usize = 256;

/// The newest events of a window are remembered one by one, so that it can be cut among them:
/// whoever joins comes from a page of the store that is a little older than the window.
const RECENT_MAX: usize = 1024;

/// Events that are counted together.
#[derive(Debug)]
pub(crate) struct Window {
    first: GlobalPosition,
    counted: SummaryWindow,
    events: u32,
    /// The newest of them.
    recent: VecDeque<Seen>,
}

/// What a summary knows of an event.
#[derive(Debug, Clone)]
struct Seen {
    position: GlobalPosition,
    event_type: EventType,
    at: Timestamp,
}

impl Seen {
    fn new(event: &RecordedEvent) -> Self {
        let event_type = event.event_type.clone();
        Self { position: event.position, event_type, at: event.recorded_at }
    }
}

impl Window {
    /// A window that begins with an event, and counts it.
    fn new(seen: Seen) -> Self {
        let counts = BTreeMap::from([(seen.event_type.clone(), 1)]);
        let (first, between) = (seen.position, Some((seen.at, seen.at)));
        let counted = SummaryWindow { after: first.previous(), position: first, counts, between };
        Self { first, counted, events: 1, recent: VecDeque::from([seen]) }
    }

    /// The position of the first event that it counts.
    pub(crate) fn first(&self) -> GlobalPosition {
        self.first
    }

    /// Counts the next event.
    fn count(&mut self, seen: Seen) {
        match self.counted.counts.get_mut(&seen.event_type) {
            Some(count) => *count += 1,
            None => {
                self.counted.counts.insert(seen.event_type.clone(), 1);
            }
        }
        self.events += 1;
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.end_at(&seen);
        self.recent.push_back(seen);
    }

    /// Makes an event the last one.
    fn end_at(&mut self, last: &Seen) {
        self.counted.position = last.position;
        if let Some((_, to)) = &mut self.counted.between {
            *to = last.at;
        }
    }

    /// Cuts the window after `position` and returns what comes later, if anything does. Where it
    /// can no longer be cut there it stays whole.
    pub(crate) fn cut(&mut self, position: GlobalPosition) -> Option<Self> {
        let kept = self.recent.partition_point(|seen| seen.position <= position);
        let last = kept.checked_sub(1).and_then(|last| self.recent.get(last)).cloned()?;
        let mut later: Option<Self> = None;
        for seen in self.recent.split_off(kept) {
            if let Some(count) = self.counted.counts.get_mut(&seen.event_type) {
                *count -= 1;
            }
            self.events -= 1;
            match &mut later {
                Some(later) => later.count(seen),
                None => later = Some(Self::new(seen)),
            }
        }
        self.counted.counts.retain(|_, count| *count > 0);
        self.end_at(&last);
        later
    }

    /// Whether it takes no more events.
    fn is_full(&self, summary: Summary) -> bool {
        let events_max = match summary {
            Summary::Events(events) => events,
            // A bound for its number, too: the client is told sooner then.
            Summary::Millis(_) => Summary::EVENTS_MAX,
        };
        self.events >= events_max || self.counted.counts.len() >= TYPES_MAX
    }

    /// Its frame.
    pub(crate) fn entry(&self, sub: Sub) -> Entry {
        Entry {
            first: self.first,
            last: self.counted.position,
            events: self.events,
            committed_at: None,
            frame: json::encode_summary_frame(sub, &self.counted),
            singles: None,
        }
    }
}

/// Counts events into `open`, the window that has begun, if one has; returns the frames of the
/// windows that they filled.
pub(crate) fn count<'a>(
    summary: Summary,
    sub: Sub,
    open: &mut Option<Window>,
    events: impl Iterator<Item = &'a RecordedEvent>,
) -> Vec<Entry> {
    let mut entries = Vec::new();
    for event in events {
        match open {
            Some(window) => window.count(Seen::new(event)),
            None => *open = Some(Window::new(Seen::new(event))),
        }
        if let Some(full) = open.take_if(|window| window.is_full(summary)) {
            entries.push(full.entry(sub));
        }
    }
    entries
}

/// The frames for events that were read from the store: all of them are counted.
pub(crate) fn encode_page<'a>(
    summary: Summary,
    sub: Sub,
    events: impl Iterator<Item = &'a RecordedEvent>,
) -> Vec<Entry> {
    let mut open = None;
    let mut entries = count(summary, sub, &mut open, events);
    entries.extend(open.map(|window| window.entry(sub)));
    entries
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::Value;
    use tidewire_eventstore::{EventId, EventType, Payload, Revision, StreamName, Timestamp};

    use super::*;

    fn event(position: u64, event_type: &str) -> RecordedEvent {
        RecordedEvent {
            position: GlobalPosition::new(position),
            stream: StreamName::new("order-1").expect("a good name"),
            revision: Revision::new(position),
            event_type: EventType::new(event_type).expect("a good name"),
            id: EventId::generate(),
            recorded_at: Timestamp::from_micros(position as i64 * 1_000_000),
            payload: Payload::Json(Bytes::from_static(b"{}")),
            meta: None,
        }
    }

    /// The message in a frame: a text frame's header is 2 to 10 bytes.
    fn message(entry: &Entry) -> Value {
        let start = entry.frame.iter().position(|byte| *byte == b'{').expect("an object");
        serde_json::from_slice(&entry.frame[start..]).expect("JSON")
    }

    #[test]
    fn a_page_is_counted_whole_in_summaries_of_at_most_so_many_events() {
        let events: Vec<_> =
            (3..=12).map(|at| event(at * 2, if at % 3 == 0 { "A" } else { "B" })).collect();
        for (summary, sizes) in [
            (Summary::Events(4), &[4, 4, 2][..]),
            (Summary::Events(1), &[1; 10]),
            (Summary::Events(100), &[10]),
            (Summary::Millis(100), &[10]),
        ] {
            let entries = encode_page(summary, Sub::new(7), events.iter());
            let found: Vec<_> = entries.iter().map(|entry| entry.events).collect();
            assert_eq!(found, sizes, "{summary:?}");
            let mut through = 5;
            for entry in &entries {
                let told = message(entry);
                assert_eq!((&told["type"], &told["sub"]), (&"summary".into(), &7.into()));
                assert_eq!(told["after"], entry.first.get() - 1);
                assert_eq!(told["position"], entry.last.get());
                assert_eq!(told["count"], entry.events);
                assert!(entry.first.get() > through, "in order");
                through = entry.last.get();
                let counts = told["counts"].as_object().expect("counts").values();
                let sum: u64 = counts.map(|count| count.as_u64().expect("a number")).sum();
                assert_eq!(sum, u64::from(entry.events));
            }
            assert_eq!(through, 24);
        }
        let all = message(&encode_page(Summary::Events(100), Sub::new(7), events.iter())[0]);
        assert_eq!((&all["counts"]["A"], &all["counts"]["B"]), (&4.into(), &6.into()));
        assert_eq!(all["from"], "1970-01-01T00:00:06.000000Z");
        assert_eq!(all["to"], "1970-01-01T00:00:24.000000Z");
        assert!(encode_page(Summary::Events(4), Sub::new(7), [].iter()).is_empty());
    }

    #[test]
    fn a_window_is_cut_after_any_of_its_newest_events() {
        const EVENTS: u64 = 20;
        for position in 0..=EVENTS * 2 + 2 {
            let events: Vec<_> =
                (1..=EVENTS).map(|at| event(at * 2, if at % 3 == 0 { "A" } else { "B" })).collect();
            let mut open = None;
            let full = count(Summary::Millis(100), Sub::new(1), &mut open, events.iter());
            assert!(full.is_empty());
            let mut window = open.expect("a window");
            let later = window.cut(GlobalPosition::new(position));
            let parts: Vec<_> = std::iter::once(&window)
                .chain(&later)
                .map(|part| part.entry(Sub::new(1)))
                .collect();
            let split = (1..EVENTS).contains(&(position / 2));
            assert_eq!(parts.len(), 1 + usize::from(split), "at {position}");
            let mut from = 0;
            for part in &parts {
                // Each part is what would have been counted by itself.
                let alone: Vec<_> = events
                    .iter()
                    .filter(|event| event.position >= part.first && event.position <= part.last)
                    .collect();
                let alone = &encode_page(Summary::Millis(100), Sub::new(1), alone.into_iter())[0];
                assert_eq!(message(part), message(alone), "at {position}");
                assert!(part.first.get() > from);
                from = part.last.get();
            }
            if split {
                assert!(parts[0].last.get() <= position && parts[1].first.get() > position);
            }
            let counted: u32 = parts.iter().map(|part| part.events).sum();
            assert_eq!(u64::from(counted), EVENTS);
        }
    }

    #[test]
    fn a_long_window_is_cut_among_the_newest_alone() {
        let events: Vec<_> = (1..=RECENT_MAX as u64 + 50).map(|at| event(at, "A")).collect();
        for (position, later) in [(49, None), (50, None), (51, Some(1023)), (1073, Some(1))] {
            let mut open = None;
            count(Summary::Millis(100), Sub::new(1), &mut open, events.iter());
            let mut window = open.expect("a window");
            let rest = window.cut(GlobalPosition::new(position));
            assert_eq!(rest.map(|rest| rest.events), later, "at {position}");
            assert_eq!(window.events, 1074 - later.unwrap_or(0), "at {position}");
        }
    }

    #[test]
    fn a_window_ends_before_it_tells_of_too_many_types() {
        let events: Vec<_> = (1..=300).map(|at| event(at, &format!("type-{at}"))).collect();
        let entries = encode_page(Summary::Millis(60_000), Sub::new(1), events.iter());
        let sizes: Vec<_> = entries.iter().map(|entry| entry.events).collect();
        assert_eq!(sizes, [256, 44]);
    }
}
