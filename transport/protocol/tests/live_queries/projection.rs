//! The log and a projection of it, as models: what the documents were at every position, which
//! generations there are, and what this node has heard of commits.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use serde_json::{Value, json};
use tidewire_eventstore::{DocumentKey, Generation, GlobalPosition};
use tidewire_protocol::{
    Epoch,
    query::{OrderDirection, Query, Reached, SortKey, merge},
};
use uuid::Uuid;

use crate::chance::Chance;

/// How many keys there are.
const KEYS: u64 = 14;

/// How many commits a node keeps for those who follow.
const COMMITS_KEPT: usize = 4;

/// What an event does to a document.
#[derive(Debug, Clone)]
enum Effect {
    Put(Value),
    Patch(Value),
    Delete,
}

/// One event of the log.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) kind: &'static str,
    effects: Vec<(DocumentKey, Effect)>,
}

/// The documents at one position: each with the position of its last change, or a tombstone.
pub(crate) type Rows = BTreeMap<DocumentKey, (u64, Option<Arc<Value>>)>;

/// One filling of the documents.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Filled {
    pub(crate) number: u64,
    version: u64,
    pub(crate) checkpoint: u64,
    /// Tombstones through here are swept.
    pub(crate) floor: u64,
}

/// One step of the active generation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Commit {
    pub(crate) after: u64,
    pub(crate) position: u64,
}

pub(crate) struct Projection {
    pub(crate) log: Vec<Event>,
    pub(crate) epochs: Arc<[Epoch]>,
    pub(crate) active: Filled,
    building: Option<Filled>,
    /// Which version each generation is of.
    versions: BTreeMap<u64, u64>,
    /// The documents of each version after each position.
    states: BTreeMap<u64, Vec<Rows>>,
    commits: VecDeque<(u64, Commit)>,
    /// How many commits there were.
    pub(crate) committed: u64,
}

fn key(number: u64) -> DocumentKey {
    DocumentKey::new(&format!("k{number:02}")).expect("a good key")
}

fn epoch(number: u128, first: u64) -> Epoch {
    Epoch { epoch: Uuid::from_u128(number), first_position: GlobalPosition::new(first) }
}

impl Projection {
    pub(crate) fn new() -> Self {
        Self {
            log: Vec::new(),
            epochs: [epoch(1, 1)].into(),
            active: Filled { number: 1, version: 1, checkpoint: 0, floor: 0 },
            building: None,
            versions: BTreeMap::from([(1, 1)]),
            states: BTreeMap::new(),
            commits: VecDeque::new(),
            committed: 0,
        }
    }

    pub(crate) fn head(&self) -> u64 {
        self.log.len() as u64
    }

    pub(crate) fn reached(&self) -> Reached {
        Reached {
            generation: Generation::new(self.active.number),
            position: GlobalPosition::new(self.active.checkpoint),
        }
    }

    pub(crate) fn append(&mut self, chance: &mut Chance) {
        let effects = (0..chance.within(0, 3))
            .map(|_| {
                let tag = ["a", "b", "c"][chance.within(0, 2) as usize];
                let effect = match chance.within(0, 5) {
                    0..=1 => Effect::Put(json!({
                        "n": chance.within(0, 9), "tag": tag, "text": "x".repeat(40),
                    })),
                    2 => Effect::Patch(json!({"n": chance.within(0, 9)})),
                    3 => Effect::Patch(json!({"tag": tag, "extra": {"deep": chance.within(0, 2)}})),
                    4 => Effect::Patch(json!({"extra": null})),
                    _ => Effect::Delete,
                };
                (key(chance.within(1, KEYS)), effect)
            })
            .collect();
        let kind = ["Odd", "Even", "Strange"][chance.within(0, 2) as usize];
        self.log.push(Event { kind, effects });
    }

    /// The documents of a version after a position.
    fn rows(&mut self, version: u64, position: u64) -> &Rows {
        let states = self.states.entry(version).or_insert_with(|| vec![Rows::new()]);
        while states.len() as u64 <= position {
            let at = states.len() as u64;
            let mut rows = states.last().cloned().unwrap_or_default();
            for (key, effect) in &self.log[at as usize - 1].effects {
                let before = rows.get(key).and_then(|(_, document)| document.clone());
                let after = match (effect, &before) {
                    (Effect::Put(document), _) => {
                        let mut document = document.clone();
                        document["version"] = json!(version);
                        Some(Arc::new(document))
                    }
                    (Effect::Patch(_) | Effect::Delete, None) => continue,
                    (Effect::Patch(patch), Some(document)) => {
                        let mut document = Value::clone(document);
                        merge(&mut document, patch);
                        Some(Arc::new(document))
                    }
                    (Effect::Delete, Some(_)) => None,
                };
                if after != before {
                    rows.insert(key.clone(), (at, after));
                }
            }
            states.push(rows);
        }
        &states[position as usize]
    }

    /// The rows of the active generation, of which swept tombstones are gone.
    pub(crate) fn active_rows(&mut self) -> Rows {
        let Filled { version, checkpoint, floor, .. } = self.active;
        let mut rows = self.rows(version, checkpoint).clone();
        rows.retain(|_, (position, document)| document.is_some() || *position > floor);
        rows
    }

    /// The documents that a query selects in a generation, as they were at a position.
    pub(crate) fn picture(
        &mut self,
        query: &Query,
        at: Reached,
    ) -> BTreeMap<DocumentKey, Arc<Value>> {
        let version = self.versions[&at.generation.get()];
        select(query, self.rows(version, at.position.get()))
    }

    /// The next commit after the one that was seen last; none: there is none. An error: it is no
    /// longer kept.
    pub(crate) fn commit_after(&self, seen: u64) -> Option<Result<Commit, ()>> {
        if seen >= self.committed {
            return None;
        }
        let found = self.commits.iter().find(|(number, _)| *number == seen + 1);
        Some(found.map(|(_, commit)| *commit).ok_or(()))
    }

    /// The projection and its keepers do what they do.
    pub(crate) fn act(&mut self, chance: &mut Chance, storm: bool) {
        let head = self.head();
        if self.active.checkpoint < head && (chance.once_in(2) || !storm) {
            let after = self.active.checkpoint;
            let position = chance.within(after + 1, head.min(after + 6));
            self.active.checkpoint = position;
            self.committed += 1;
            self.commits.push_back((self.committed, Commit { after, position }));
            if self.commits.len() > COMMITS_KEPT {
                self.commits.pop_front();
            }
        }
        if let Some(building) = &mut self.building {
            building.checkpoint = (building.checkpoint + chance.within(1, 80)).min(head);
            if building.checkpoint >= self.active.checkpoint {
                self.active = *building;
                self.building = None;
                self.commits.clear();
                self.committed += 1;
            }
        }
        if !storm {
            return;
        }
        if self.building.is_none() && chance.once_in(150) {
            let number = self.versions.keys().max().map_or(1, |last| last + 1);
            let version = self.active.version + chance.within(0, 1);
            self.versions.insert(number, version);
            self.building = Some(Filled { number, version, checkpoint: 0, floor: 0 });
        }
        if chance.once_in(40) {
            let floor = chance.within(0, self.active.checkpoint);
            self.active.floor = floor.max(self.active.floor);
        }
    }

    /// The machine loses what was not durable; it is taken again, with the same result.
    pub(crate) fn lose(&mut self, chance: &mut Chance) {
        let lost = chance.within(0, 8);
        self.active.checkpoint = self.active.checkpoint.saturating_sub(lost);
        self.active.floor = self.active.floor.min(self.active.checkpoint);
        self.commits.clear();
        self.committed += 1;
    }

    /// The log and the documents are restored from a backup.
    pub(crate) fn restore(&mut self, kept: u64, chance: &mut Chance) {
        if chance.once_in(2) {
            // The generation was begun after the backup, and its number is given again.
            self.active.version += 1;
            self.versions.insert(self.active.number, self.active.version);
        }
        self.log.truncate(kept as usize);
        for states in self.states.values_mut() {
            states.truncate(kept as usize + 1);
        }
        self.active.checkpoint = self.active.checkpoint.min(kept);
        self.active.floor = self.active.floor.min(kept);
        self.building = None;
        self.commits.clear();
        self.committed += 1;
        let mut epochs = self.epochs.to_vec();
        epochs.push(epoch(epochs.len() as u128 + 1, kept + 1));
        self.epochs = epochs.into();
    }
}

/// The documents that a query selects.
pub(crate) fn select(query: &Query, rows: &Rows) -> BTreeMap<DocumentKey, Arc<Value>> {
    let selected = rows.iter().filter_map(|(key, (_, document))| {
        let document = document.as_ref()?;
        matches(query, key, document).then(|| (key.clone(), document.clone()))
    });
    let Some(window) = &query.window else { return selected.collect() };
    let mut ordered: Vec<_> = selected
        .map(|(key, document)| {
            let field = window.order.by.as_ref().map(|by| by.of(&document));
            (SortKey::of(field), key, document)
        })
        .collect();
    let descending = window.order.direction == OrderDirection::Descending;
    let by_field = window.order.by.is_some();
    ordered.sort_by(|(a, x, _), (b, y, _)| {
        let (fields, keys) = (a.cmp(b), x.cmp(y));
        match (descending, by_field) {
            (true, true) => fields.reverse().then(keys),
            (true, false) => keys.reverse(),
            (false, _) => fields.then(keys),
        }
    });
    ordered.truncate(window.limit.get() as usize);
    ordered.into_iter().map(|(_, key, document)| (key, document)).collect()
}

/// Whether a query selects a document, but for its window.
pub(crate) fn matches(query: &Query, key: &DocumentKey, document: &Value) -> bool {
    query.key.as_ref().is_none_or(|only| only == key)
        && query.condition.as_ref().is_none_or(|condition| condition.matches(document))
}
