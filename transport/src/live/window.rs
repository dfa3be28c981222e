//! The window of a live query: the first so many documents of an order, kept exactly.
//!
//! Pure. The window knows all documents up to a boundary in the order, a few more than it shows,
//! so that most of those that leave are replaced without asking the store. When it knows fewer
//! than it should show, it has to be filled again ([`Window::needs_fill`]); until that has come,
//! it shows what it showed.
//!
//! What is read to fill it may be newer than the position it was read at. So the window counts as
//! known only once every change has been applied through where the projection was after the
//! reading ([`Fill::horizon`]).

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use tidewire_eventstore::{DocumentKey, GlobalPosition};
use tidewire_projections::{
    ChangeBatch, Content, DocumentChange,
    query::{Rank, Ranking},
};
use tidewire_protocol::query::{Change, Document, Query};

use super::effect::{patch, put, selects};

/// Batches that are kept for a window while it is filled; beyond that it is filled anew.
const PENDING_MAX: usize = 256;

/// How many documents a window of `limit` knows when it has just been filled.
pub(crate) const fn known_max(limit: usize) -> usize {
    let slack = limit / 2;
    limit + if slack < 16 { 16 } else { slack }
}

/// What fills a window.
#[derive(Debug)]
pub(crate) struct Fill {
    /// Where the projection was before the documents were read.
    pub(crate) position: GlobalPosition,
    /// Where it was afterwards.
    pub(crate) horizon: GlobalPosition,
    /// The first documents of the order, up to [`known_max`].
    pub(crate) documents: Vec<Document>,
    /// Whether there are no more than these.
    pub(crate) complete: bool,
}

#[derive(Debug)]
enum Phase {
    /// Has to be filled.
    Wanting,
    /// Is being filled since the projection was at `since`.
    Filling { since: GlobalPosition, pending: Vec<Arc<ChangeBatch>>, broken: bool },
    /// Was filled, and is known once everything through here has been applied.
    Settling(GlobalPosition),
    /// Is known.
    Known,
}

/// The window of one query.
#[derive(Debug)]
pub(super) struct Window {
    query: Arc<Query>,
    limit: usize,
    ranking: Ranking,
    known: BTreeMap<Rank, (DocumentKey, Content)>,
    ranks: HashMap<DocumentKey, Rank>,
    /// All documents up to this rank are known; none: all that there are.
    boundary: Option<Rank>,
    phase: Phase,
    /// What is shown, and of which position it is.
    shown: BTreeMap<DocumentKey, Content>,
    shown_at: Option<GlobalPosition>,
}

impl Window {
    /// The window of `query`, if it has one.
    pub(super) fn of(query: &Arc<Query>) -> Option<Self> {
        let window = query.window.as_ref()?;
        Some(Self {
            query: query.clone(),
            limit: window.limit.get() as usize,
            ranking: Ranking::new(window.order.clone()),
            known: BTreeMap::new(),
            ranks: HashMap::new(),
            boundary: None,
            phase: Phase::Wanting,
            shown: BTreeMap::new(),
            shown_at: None,
        })
    }

    /// Whether the store has to be read for it. The caller reads, and says so ([`Self::filling`]).
    pub(super) fn needs_fill(&self) -> bool {
        matches!(self.phase, Phase::Wanting)
    }

    /// The store is being read; every change after `since` will be told.
    pub(super) fn filling(&mut self, since: GlobalPosition) {
        self.phase = Phase::Filling { since, pending: Vec::new(), broken: false };
    }

    /// The reading has failed.
    pub(super) fn fill_failed(&mut self) {
        if matches!(self.phase, Phase::Filling { .. }) {
            self.phase = Phase::Wanting;
        }
    }

    /// What came of the reading; everything through `position` was told here.
    pub(super) fn filled(&mut self, fill: &Fill, position: GlobalPosition) {
        let Phase::Filling { since, pending, broken } =
            std::mem::replace(&mut self.phase, Phase::Wanting)
        else {
            return;
        };
        if broken || fill.position < since {
            return;
        }
        self.known.clear();
        self.ranks.clear();
        self.boundary = None;
        for document in &fill.documents {
            self.insert(&document.key, &Content::new(document.data.clone()));
        }
        if !fill.complete {
            self.boundary = self.known.last_key_value().map(|(rank, _)| rank.clone());
        }
        self.phase = Phase::Settling(fill.horizon);
        for batch in pending {
            for change in &batch.changes {
                self.apply(change);
            }
        }
        self.settle(position);
    }

    /// Nothing that was told before can be relied on: changes were missed.
    pub(super) fn restart(&mut self) {
        match &mut self.phase {
            Phase::Filling { pending, broken, .. } => {
                pending.clear();
                *broken = true;
            }
            phase => *phase = Phase::Wanting,
        }
    }

    /// Forgets what is shown, too: it is of other documents.
    pub(super) fn forget(&mut self) {
        self.restart();
        self.shown.clear();
        self.shown_at = None;
    }

    /// Takes a batch: those of its `changes` that may concern this window, by index. `position` is
    /// where the batch leads.
    pub(super) fn take(&mut self, batch: &Arc<ChangeBatch>, changes: &[u32]) {
        if let Phase::Filling { pending, broken, .. } = &mut self.phase {
            if pending.len() < PENDING_MAX && !*broken {
                pending.push(batch.clone());
            } else {
                pending.clear();
                *broken = true;
            }
            return;
        }
        for index in changes {
            self.apply(&batch.changes[*index as usize]);
        }
    }

    /// Everything through `position` was applied.
    pub(super) fn settle(&mut self, position: GlobalPosition) {
        match self.phase {
            Phase::Settling(horizon) if position >= horizon => self.phase = Phase::Known,
            _ => {}
        }
        let short = self.boundary.is_some() && self.known.len() < self.limit;
        if short && self.is_known() {
            self.phase = Phase::Wanting;
        }
    }

    /// Whether the window is known at the position that was applied last.
    pub(super) fn is_known(&self) -> bool {
        matches!(self.phase, Phase::Known)
    }

    /// The position of what is shown, if anything ever was.
    pub(super) fn shown_at(&self) -> Option<GlobalPosition> {
        self.shown_at
    }

    /// What is shown, in no order.
    pub(super) fn shown(&self) -> Vec<Document> {
        let document = |(key, content): (&DocumentKey, &Content)| Document {
            key: key.clone(),
            data: content.text().clone(),
        };
        self.shown.iter().map(document).collect()
    }

    /// Shows the window as it is at `position`: returns what changes for whoever holds what was
    /// shown. Nothing, while the window is not known.
    pub(super) fn show(&mut self, position: GlobalPosition) -> Vec<Change> {
        if !self.is_known() {
            return Vec::new();
        }
        self.shown_at = Some(position);
        let first = || self.known.values().take(self.limit);
        let unchanged = |(key, content): &(DocumentKey, Content)| {
            self.shown.get(key).is_some_and(|shown| shown.text() == content.text())
        };
        if first().count() == self.shown.len() && first().all(unchanged) {
            return Vec::new();
        }
        let now: BTreeMap<_, _> = first().cloned().collect();
        let mut changes = Vec::new();
        for key in self.shown.keys().filter(|key| !now.contains_key(*key)) {
            changes.push(Change::Delete { key: key.clone() });
        }
        for (key, content) in &now {
            match self.shown.get(key) {
                Some(shown) if shown.text() == content.text() => {}
                Some(shown) => changes.push(match patch(shown, content) {
                    Some(patch) => Change::Patch { key: key.clone(), patch },
                    None => put(key, content),
                }),
                None => changes.push(put(key, content)),
            }
        }
        self.shown = now;
        changes
    }

    fn apply(&mut self, change: &DocumentChange) {
        if let Some(rank) = self.ranks.remove(&change.key) {
            self.known.remove(&rank);
        }
        if let Some(after) = &change.after
            && selects(&self.query, &change.key, after)
        {
            self.insert(&change.key, after);
        }
    }

    fn insert(&mut self, key: &DocumentKey, content: &Content) {
        if let Some(rank) = self.ranks.remove(key) {
            self.known.remove(&rank);
        }
        let rank = self.ranking.of(key, content.value());
        if self.boundary.as_ref().is_some_and(|boundary| rank > *boundary) {
            return;
        }
        self.ranks.insert(key.clone(), rank.clone());
        self.known.insert(rank, (key.clone(), content.clone()));
        if self.known.len() > known_max(self.limit)
            && let Some((_, (key, _))) = self.known.pop_last()
        {
            self.ranks.remove(&key);
            self.boundary = self.known.last_key_value().map(|(rank, _)| rank.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use bytes::Bytes;
    use tidewire_eventstore::{Generation, ProjectionName};
    use tidewire_projections::Before;
    use tidewire_protocol::query::{Order, Window as Span};

    use super::*;

    fn at(position: u64) -> GlobalPosition {
        GlobalPosition::new(position)
    }

    fn document(number: usize) -> Document {
        let key = DocumentKey::new(&format!("k{number:02}")).expect("a good key");
        Document { key, data: Bytes::from_static(b"{}") }
    }

    fn first_of_all() -> Arc<Query> {
        let projection = ProjectionName::new("things").expect("a good name");
        let window = Some(Span { order: Order::default(), limit: NonZeroU32::MIN });
        Arc::new(Query { window, ..Query::all(projection) })
    }

    fn fill(position: u64, horizon: u64, numbers: std::ops::Range<usize>) -> Fill {
        let documents = numbers.map(document).collect();
        Fill { position: at(position), horizon: at(horizon), documents, complete: false }
    }

    fn shown(window: &Window) -> Vec<String> {
        window.shown().iter().map(|document| document.key.to_string()).collect()
    }

    #[test]
    fn what_is_beyond_the_boundary_is_not_shown_before_what_is_not_known() {
        let mut window = Window::of(&first_of_all()).expect("it has one");
        window.filling(at(5));
        window.filled(&fill(5, 5, 0..known_max(1)), at(5));
        window.show(at(5));
        assert_eq!(shown(&window), ["k00"]);
        // All that are known go, and the last of all comes: there may be others before it.
        let mut changes: Vec<_> = (0..known_max(1))
            .map(|number| DocumentChange {
                key: document(number).key,
                before: Before::Unknown,
                after: None,
            })
            .collect();
        let Document { key, data } = document(99);
        let after = Some(Content::new(data));
        changes.push(DocumentChange { key, before: Before::Absent, after });
        let indices: Vec<u32> = (0..changes.len() as u32).collect();
        let generation = Generation::new(1);
        let batch = ChangeBatch { generation, after: at(5), position: at(6), changes };
        window.take(&Arc::new(batch), &indices);
        window.settle(at(6));
        assert!(window.needs_fill() && window.show(at(6)).is_empty());
        assert_eq!(shown(&window), ["k00"], "until it is known what comes now");
        window.filling(at(6));
        window.filled(&fill(6, 6, 40..40 + known_max(1)), at(6));
        window.show(at(6));
        assert_eq!(shown(&window), ["k40"]);
    }

    #[test]
    fn a_window_is_known_only_once_everything_has_come_that_its_filling_may_have_seen() {
        let mut window = Window::of(&first_of_all()).expect("it has one");
        window.filling(at(5));
        window.filled(&fill(5, 7, 0..3), at(6));
        assert!(!window.is_known() && !window.needs_fill());
        window.settle(at(7));
        assert!(window.is_known());
        // What was read from before it was told of changes cannot be made up for.
        window.restart();
        window.filling(at(9));
        window.filled(&fill(8, 9, 0..3), at(9));
        assert!(window.needs_fill());
    }
}
