//! A model of what a transport does for live queries and summaries: what it sends in answer to
//! [`Output::Watch`](tidewire_protocol::Output::Watch) and to the opening of a summary.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use serde_json::Value;
use tidewire_eventstore::{DocumentKey, EventType, GlobalPosition, Timestamp};
use tidewire_protocol::{
    FeedSpec, Filter, Input, QueryReset, Sub, Summary, SummaryWindow,
    codec::json::{encode_changes_frame, encode_state_frame, encode_summary_frame},
    query::{Change, Document, Query, Reached, difference},
};

use crate::{
    chance::Chance,
    projection::{Event, Projection, Rows, matches, select},
};

type Picture = BTreeMap<DocumentKey, Arc<Value>>;

fn text(document: &Value) -> Bytes {
    Bytes::from(document.to_string())
}

fn document(key: &DocumentKey, value: &Value) -> Document {
    Document { key: key.clone(), data: text(value) }
}

fn at(position: u64) -> GlobalPosition {
    GlobalPosition::new(position)
}

/// What a feed does now.
enum Mode {
    /// Tells the state, page by page.
    State { after: Option<DocumentKey>, reset: Option<QueryReset> },
    /// Reads changes from the store.
    Reading,
    /// Hands on commits.
    Live,
}

/// The feed of one live query.
pub(crate) struct QueryFeed {
    sub: Sub,
    query: Query,
    /// What the client was told to be at.
    at: Reached,
    mode: Mode,
    /// The last commit that was looked at.
    seen: u64,
    /// What a window's client was told.
    window: Option<Picture>,
}

/// What comes of a step: bytes for the socket, then news for the session.
#[derive(Default)]
pub(crate) struct Done {
    pub(crate) frames: BytesMut,
    pub(crate) input: Option<Input>,
}

impl QueryFeed {
    pub(crate) fn new(sub: Sub, query: Query, from: Reached, resumed: bool) -> Self {
        let mode = if resumed { Mode::Reading } else { Mode::State { after: None, reset: None } };
        Self { sub, query, at: from, mode, seen: 0, window: None }
    }

    pub(crate) fn sub(&self) -> Sub {
        self.sub
    }

    /// Whether it hands on commits.
    pub(crate) fn is_live(&self) -> bool {
        matches!(self.mode, Mode::Live)
    }

    /// How far everything was told; nothing in the middle of a state.
    pub(crate) fn position(&self) -> Option<GlobalPosition> {
        (!matches!(self.mode, Mode::State { .. })).then_some(self.at.position)
    }

    /// Does the next thing there is to do; none: there is nothing.
    pub(crate) fn step(
        &mut self,
        projection: &mut Projection,
        chance: &mut Chance,
    ) -> Option<Done> {
        if self.at.generation.get() != projection.active.number {
            return Some(self.restate(projection, QueryReset::Generation));
        }
        match &self.mode {
            Mode::State { .. } => Some(self.state(projection, chance)),
            Mode::Reading => Some(self.read(projection, chance)),
            Mode::Live => self.hand_on(projection, chance),
        }
    }

    /// Begins the state anew; who is live is told of it before.
    fn restate(&mut self, projection: &Projection, reset: QueryReset) -> Done {
        let input = self.behind(projection);
        self.at = projection.reached();
        self.window = None;
        self.mode = Mode::State { after: None, reset: Some(reset) };
        Done { input, ..Done::default() }
    }

    fn behind(&self, projection: &Projection) -> Option<Input> {
        let position = self.at.position;
        let lag = projection.head().saturating_sub(position.get());
        let live = matches!(self.mode, Mode::Live);
        live.then_some(Input::Behind { sub: self.sub, position, lag })
    }

    fn state(&mut self, projection: &mut Projection, chance: &mut Chance) -> Done {
        let Mode::State { after, reset } = &mut self.mode else { return Done::default() };
        let reset = reset.take();
        // Documents as they are now, which may be later than the state's position.
        let rows = projection.active_rows();
        let mut documents = match &self.query.window {
            // A window is read at once: its pages are of one moment.
            Some(_) => {
                if self.window.is_none() {
                    self.at = projection.reached();
                    self.window = Some(select(&self.query, &rows));
                }
                self.window.clone().unwrap_or_default()
            }
            None => select(&self.query, &rows),
        };
        if let Some(after) = after {
            documents.retain(|key, _| key > after);
        }
        let limit = chance.within(1, 5) as usize;
        let more = documents.len() > limit;
        let page: Vec<_> =
            documents.iter().take(limit).map(|(key, value)| document(key, value)).collect();
        let frame = encode_state_frame(self.sub, self.at, reset, &page, more);
        self.mode = match page.last() {
            Some(last) if more => Mode::State { after: Some(last.key.clone()), reset: None },
            _ => Mode::Reading,
        };
        Done { frames: BytesMut::from(&frame[..]), input: None }
    }

    fn read(&mut self, projection: &mut Projection, chance: &mut Chance) -> Done {
        let cursor = self.at.position.get();
        let checkpoint = projection.active.checkpoint;
        if cursor < projection.active.floor {
            return self.restate(projection, QueryReset::Truncated);
        }
        let rows = projection.active_rows();
        let mut done = Done::default();
        let mut more = false;
        if checkpoint <= cursor {
            // Nothing is new; it may even be that the projection has lost its last steps, and
            // takes them again.
        } else if self.query.window.is_some() {
            self.window_step(&rows, checkpoint, &mut done, chance);
        } else {
            let mut changed: Vec<_> = rows
                .iter()
                .filter(|(_, (position, _))| *position > cursor)
                .map(|(key, (position, document))| (*position, key, document))
                .collect();
            changed.sort_by_key(|(position, key, _)| (*position, (*key).clone()));
            let limit = chance.within(1, 6) as usize;
            let mut through = checkpoint;
            if changed.len() > limit {
                let last = changed[limit - 1].0;
                let cut = changed.iter().position(|(position, ..)| *position > last);
                if let Some(cut) = cut {
                    changed.truncate(cut);
                    through = last;
                    more = true;
                }
            }
            let changes = changed.into_iter().map(|(_, key, after)| match after {
                Some(after) if matches(&self.query, key, after) => {
                    Change::Put(document(key, after))
                }
                _ => Change::Delete { key: key.clone() },
            });
            self.tell(changes.collect(), through, &mut done, chance);
        }
        if !more {
            self.mode = Mode::Live;
            self.seen = projection.committed;
            done.input = Some(Input::Live { sub: self.sub, position: self.at.position });
        }
        done
    }

    fn hand_on(&mut self, projection: &mut Projection, chance: &mut Chance) -> Option<Done> {
        let cursor = self.at.position.get();
        let lagging = |feed: &mut Self, projection: &Projection| {
            if feed.query.window.is_some() && feed.seen.is_multiple_of(2) {
                return Some(feed.restate(projection, QueryReset::Window));
            }
            let input = feed.behind(projection);
            feed.mode = Mode::Reading;
            Some(Done { input, ..Done::default() })
        };
        let commit = match projection.commit_after(self.seen)? {
            Ok(commit) => commit,
            Err(()) => return lagging(self, projection),
        };
        self.seen += 1;
        if commit.position <= cursor {
            return Some(Done::default());
        }
        if commit.after != cursor {
            return lagging(self, projection);
        }
        let generation = self.at.generation;
        let reached = |position| Reached { generation, position: at(position) };
        let all = Query { condition: None, key: None, window: None, ..self.query.clone() };
        let before = projection.picture(&all, reached(commit.after));
        let after = projection.picture(&all, reached(commit.position));
        let mut done = Done::default();
        if self.query.window.is_some() {
            let rows = after
                .iter()
                .map(|(key, document)| (key.clone(), (0, Some(document.clone()))))
                .collect();
            self.window_step(&rows, commit.position, &mut done, chance);
            return Some(done);
        }
        let keys: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
        let changes = keys.into_iter().filter_map(|key| {
            let wanted = |document: Option<&Arc<Value>>| {
                document.filter(|document| matches(&self.query, key, document)).cloned()
            };
            change(key, wanted(before.get(key)), wanted(after.get(key)))
        });
        let changes = changes.collect();
        self.tell(changes, commit.position, &mut done, chance);
        Some(done)
    }

    fn window_step(&mut self, rows: &Rows, through: u64, done: &mut Done, chance: &mut Chance) {
        let after = select(&self.query, rows);
        let before = self.window.replace(after.clone()).unwrap_or_default();
        let keys: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
        let changes = keys
            .into_iter()
            .filter_map(|key| change(key, before.get(key).cloned(), after.get(key).cloned()));
        self.tell(changes.collect(), through, done, chance);
    }

    /// Writes a step of changes, in one frame or in several.
    fn tell(
        &mut self,
        mut changes: Vec<Change>,
        through: u64,
        done: &mut Done,
        chance: &mut Chance,
    ) {
        if through <= self.at.position.get() {
            return;
        }
        self.at.position = at(through);
        if changes.is_empty() && chance.once_in(2) {
            return;
        }
        while changes.len() > 1 && chance.once_in(3) {
            let rest = changes.split_off(1);
            done.frames.extend_from_slice(&encode_changes_frame(
                self.sub,
                at(through),
                &changes,
                true,
            ));
            changes = rest;
        }
        done.frames.extend_from_slice(&encode_changes_frame(
            self.sub,
            at(through),
            &changes,
            false,
        ));
    }
}

/// What has become of a document that the client knows as `before`.
fn change(
    key: &DocumentKey,
    before: Option<Arc<Value>>,
    after: Option<Arc<Value>>,
) -> Option<Change> {
    match (before, after) {
        (before, after) if before == after => None,
        (_, None) => Some(Change::Delete { key: key.clone() }),
        (None, Some(after)) => Some(Change::Put(document(key, &after))),
        (Some(before), Some(after)) => {
            let put = document(key, &after);
            let patch = difference(&before, &after).map(|patch| text(&patch));
            Some(match patch.filter(|patch| patch.len() < put.data.len()) {
                Some(patch) => Change::Patch { key: key.clone(), patch },
                None => Change::Put(put),
            })
        }
    }
}

/// The feed of one subscription to counts.
pub(crate) struct SummaryFeed {
    sub: Sub,
    filter: Option<Arc<Filter>>,
    summary: Summary,
    cursor: u64,
    /// What is counted after this was not sent.
    sent: u64,
    counts: BTreeMap<EventType, u64>,
    /// When the window is to be closed.
    due: Option<Instant>,
    live: bool,
}

impl SummaryFeed {
    pub(crate) fn new(sub: Sub, feed: &FeedSpec, after: GlobalPosition) -> Self {
        Self {
            sub,
            filter: feed.filter.clone(),
            summary: feed.batch.summary.expect("only counts are asked for"),
            cursor: after.get(),
            sent: after.get(),
            counts: BTreeMap::new(),
            due: None,
            live: false,
        }
    }

    pub(crate) fn sub(&self) -> Sub {
        self.sub
    }

    pub(crate) fn position(&self) -> GlobalPosition {
        at(self.sent)
    }

    pub(crate) fn step(&mut self, log: &[Event], now: Instant) -> Option<Done> {
        let full = match self.summary {
            Summary::Events(most) => self.counts.values().sum::<u64>() >= u64::from(most),
            Summary::Millis(_) => self.due.is_some_and(|due| due <= now),
        };
        if full {
            let summary = SummaryWindow {
                after: at(self.sent),
                position: at(self.cursor),
                counts: std::mem::take(&mut self.counts),
                between: Some((Timestamp::from_micros(0), Timestamp::from_micros(1))),
            };
            (self.sent, self.due) = (self.cursor, None);
            let frame = encode_summary_frame(self.sub, &summary);
            return Some(Done { frames: BytesMut::from(&frame[..]), input: None });
        }
        if let Some(event) = log.get(self.cursor as usize) {
            self.cursor += 1;
            let kind = EventType::new(event.kind).expect("a good name");
            if passes(&self.filter, &kind) {
                *self.counts.entry(kind).or_default() += 1;
                if let (Summary::Millis(ms), None) = (self.summary, self.due) {
                    self.due = Some(now + Duration::from_millis(u64::from(ms)));
                }
            } else if self.counts.is_empty() {
                self.sent = self.cursor;
            }
            return Some(Done::default());
        }
        if self.live {
            return None;
        }
        self.live = true;
        let input = Some(Input::Live { sub: self.sub, position: at(self.sent) });
        Some(Done { input, ..Done::default() })
    }
}

/// Whether a filter by type lets a type through.
pub(crate) fn passes(filter: &Option<Arc<Filter>>, kind: &EventType) -> bool {
    let types = filter.as_ref().and_then(|filter| filter.only_types());
    types.is_none_or(|types| types.contains(kind.as_str()))
}
