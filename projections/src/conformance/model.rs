//! What a generation holds, in the plainest way; and dice.

use std::{cmp::Ordering, collections::BTreeMap};

use bytes::Bytes;
use serde_json::Value;
use tidewire_protocol::query::{OrderDirection, SortKey};

use super::{
    key,
    writing::{entries, text},
};
use crate::documents::{Place, Scan};

/// A generator of the suite's own, so that every store sees the same (Knuth's MMIX constants).
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `below`.
    pub(super) fn roll(&mut self, below: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }

    /// One of some things.
    pub(super) fn choose<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.roll(of.len() as u64) as usize]
    }

    pub(super) fn direction(&mut self) -> OrderDirection {
        self.choose(&[OrderDirection::Ascending, OrderDirection::Descending])
    }
}

/// Documents and tombstones by key, each with the position of its last change.
#[derive(Debug, Default, Clone)]
pub(super) struct Model {
    pub(super) documents: BTreeMap<String, (u64, Option<Value>)>,
    /// Through where deletions may have been forgotten.
    pub(super) changes_from: u64,
}

impl Model {
    pub(super) fn change(&mut self, position: u64, of: &str, value: Option<Value>) {
        self.documents.insert(of.into(), (position, value));
    }

    /// The places of a scan's documents, in order, after a place.
    pub(super) fn scan(&self, scan: &Scan, after: Option<&Place>) -> Vec<Place> {
        let there = self
            .documents
            .iter()
            .filter_map(|(of, (_, value))| value.as_ref().map(|value| (key(of), value)));
        let mut places: Vec<Place> = match scan {
            Scan::Keys(_) => {
                there.map(|(key, _)| Place { entry: SortKey::default(), key }).collect()
            }
            Scan::Index { index, prefix, .. } => there
                .map(|(key, value)| Place {
                    entry: entries(value)[usize::from(*index)].clone(),
                    key,
                })
                .filter(|place| place.entry.starts_with(prefix))
                .collect(),
        };
        places.sort_by(|a, b| compare(scan, a, b));
        places.retain(|place| after.is_none_or(|after| compare(scan, after, place).is_lt()));
        places
    }

    /// What changed after a position, by position and key.
    pub(super) fn changes(&self, after: u64) -> Vec<(String, u64, Option<Bytes>)> {
        let changed = self.documents.iter().filter(|(_, (position, _))| *position > after);
        let mut changes: Vec<_> = changed
            .map(|(of, (position, value))| (of.clone(), *position, value.as_ref().map(text)))
            .collect();
        changes.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
        changes
    }

    /// Forgets all tombstones but the newest.
    pub(super) fn sweep(&mut self, kept: usize) {
        let mut tombstones: Vec<_> = self.changes(0);
        tombstones.retain(|(_, _, data)| data.is_none());
        let swept = tombstones.len().saturating_sub(kept);
        for (of, position, _) in tombstones.into_iter().take(swept) {
            self.documents.remove(&of);
            self.changes_from = self.changes_from.max(position);
        }
    }
}

fn compare(scan: &Scan, a: &Place, b: &Place) -> Ordering {
    match scan {
        Scan::Keys(OrderDirection::Ascending) => a.key.cmp(&b.key),
        Scan::Keys(OrderDirection::Descending) => b.key.cmp(&a.key),
        Scan::Index { direction: OrderDirection::Ascending, .. } => {
            (&a.entry, &a.key).cmp(&(&b.entry, &b.key))
        }
        Scan::Index { direction: OrderDirection::Descending, .. } => {
            (&b.entry, &a.key).cmp(&(&a.entry, &b.key))
        }
    }
}
