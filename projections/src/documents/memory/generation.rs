//! One generation of documents in memory: by key, by position, by index entry.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound::{Excluded, Included, Unbounded},
};

use bytes::Bytes;
use tidewire_eventstore::{DocumentKey, Generation, GlobalPosition, ProjectionName, Timestamp};
use tidewire_protocol::query::{OrderDirection, SortKey};

use crate::documents::{
    ChangePage, ChangesRead, Commit, DocumentPage, GenerationStatus, PAGE_BYTES_MAX, PAGE_MAX,
    PageRead, Place, REASON_BYTES_MAX, Scan, Stopped, StoredDocument, Write, check::cut,
    range::after_prefix,
};

/// Documents, and how far they have come.
#[derive(Debug)]
pub(super) struct GenerationState {
    pub(super) projection: ProjectionName,
    pub(super) version: u32,
    pub(super) checkpoint: GlobalPosition,
    pub(super) began_at: Timestamp,
    pub(super) stopped: Option<Stopped>,
    pub(super) parked: BTreeMap<GlobalPosition, String>,
    /// Neither active nor being built any more.
    pub(super) retired: bool,
    /// Some of it is gone: nobody reads it any more.
    swept: bool,
    changes_from: GlobalPosition,
    documents: BTreeMap<DocumentKey, Kept>,
    changes: BTreeMap<GlobalPosition, BTreeSet<DocumentKey>>,
    tombstones: BTreeSet<(GlobalPosition, DocumentKey)>,
    entries: BTreeMap<(u16, SortKey), BTreeSet<DocumentKey>>,
}

#[derive(Debug)]
struct Kept {
    position: GlobalPosition,
    /// None: a tombstone.
    data: Option<Bytes>,
}

impl GenerationState {
    pub(super) fn new(projection: ProjectionName, version: u32) -> Self {
        Self {
            projection,
            version,
            checkpoint: GlobalPosition::START,
            began_at: Timestamp::now(),
            stopped: None,
            parked: BTreeMap::new(),
            retired: false,
            swept: false,
            changes_from: GlobalPosition::START,
            documents: BTreeMap::new(),
            changes: BTreeMap::new(),
            tombstones: BTreeSet::new(),
            entries: BTreeMap::new(),
        }
    }

    /// Whether its documents can be read.
    pub(super) fn is_whole(&self) -> bool {
        !self.swept
    }

    pub(super) fn status(&self, generation: Generation) -> GenerationStatus {
        GenerationStatus {
            generation,
            version: self.version,
            checkpoint: self.checkpoint,
            began_at: self.began_at,
            parked: self.parked.len() as u64,
            stopped: self.stopped.clone(),
            changes_from: self.changes_from,
        }
    }

    /// Applies a commit that nothing speaks against.
    pub(super) fn apply(&mut self, commit: Commit) {
        self.checkpoint = commit.position;
        for write in commit.writes {
            self.write(write);
        }
        for parked in commit.parked {
            self.parked.insert(parked.position, cut(&parked.reason, REASON_BYTES_MAX));
        }
    }

    fn write(&mut self, write: Write) {
        let Write { key, position, data, indexed_before, indexed_after } = write;
        for (index, entry) in (0..).zip(indexed_before) {
            let place = (index, entry);
            if let Some(keys) = self.entries.get_mut(&place) {
                keys.remove(&key);
                if keys.is_empty() {
                    self.entries.remove(&place);
                }
            }
        }
        for (index, entry) in (0..).zip(indexed_after) {
            self.entries.entry((index, entry)).or_default().insert(key.clone());
        }
        if let Some(before) = self.documents.get(&key).map(|kept| kept.position) {
            self.unchange(before, &key);
            self.tombstones.remove(&(before, key.clone()));
        }
        self.changes.entry(position).or_default().insert(key.clone());
        if data.is_none() {
            self.tombstones.insert((position, key.clone()));
        }
        self.documents.insert(key, Kept { position, data });
    }

    /// Forgets that the last change of a document was at `position`.
    fn unchange(&mut self, position: GlobalPosition, key: &DocumentKey) {
        if let Some(keys) = self.changes.get_mut(&position) {
            keys.remove(key);
            if keys.is_empty() {
                self.changes.remove(&position);
            }
        }
    }

    pub(super) fn document(&self, key: DocumentKey) -> Option<StoredDocument> {
        let kept = self.documents.get(&key)?;
        let data = kept.data.clone()?;
        Some(StoredDocument { key, position: kept.position, data })
    }

    pub(super) fn page(&self, read: &PageRead) -> DocumentPage {
        let limit = read.limit.clamp(1, PAGE_MAX);
        let mut page =
            DocumentPage { position: self.checkpoint, documents: Vec::new(), more: false };
        let mut bytes = 0;
        for (entry, key) in self.scan(&read.scan, read.after.as_ref()) {
            let Some(document) = self.document(key.clone()) else { continue };
            if page.documents.len() == limit || bytes >= PAGE_BYTES_MAX {
                page.more = true;
                break;
            }
            bytes += document.data.len();
            let place = Place { entry: entry.clone(), key: key.clone() };
            page.documents.push((place, document));
        }
        page
    }

    /// Entries and keys in an order, after a place; by key, there are no entries.
    fn scan<'a>(
        &'a self,
        scan: &'a Scan,
        after: Option<&'a Place>,
    ) -> Box<dyn Iterator<Item = (SortKey, &'a DocumentKey)> + 'a> {
        match scan {
            Scan::Keys(direction) => {
                let after = after.map(|place| &place.key);
                let bound = after.map_or(Unbounded, Excluded);
                let unindexed = |(key, _)| (SortKey::default(), key);
                match direction {
                    OrderDirection::Ascending => {
                        let range = self.documents.range::<DocumentKey, _>((bound, Unbounded));
                        Box::new(range.map(unindexed))
                    }
                    OrderDirection::Descending => {
                        let range = self.documents.range::<DocumentKey, _>((Unbounded, bound));
                        Box::new(range.rev().map(unindexed))
                    }
                }
            }
            Scan::Index { index, prefix, direction } => {
                let within = move |(place, _): &(&(u16, SortKey), _)| {
                    place.0 == *index && place.1.starts_with(prefix)
                };
                let keys = move |(place, keys): (&'a (u16, SortKey), &'a BTreeSet<_>)| {
                    let entry = &place.1;
                    let from = after.filter(|after| after.entry == *entry).map(|after| &after.key);
                    keys.range::<DocumentKey, _>((from.map_or(Unbounded, Excluded), Unbounded))
                        .map(move |key| (entry.clone(), key))
                };
                match direction {
                    OrderDirection::Ascending => {
                        let from = after.map_or(prefix, |after| prefix.max(&after.entry));
                        let range = self.entries.range((*index, from.clone())..);
                        Box::new(range.take_while(within).flat_map(keys))
                    }
                    OrderDirection::Descending => {
                        let end = after_prefix(prefix);
                        let end = match (after.map(|after| &after.entry), end) {
                            (Some(entry), Some(end)) if *entry >= end => Excluded((*index, end)),
                            (Some(entry), _) => Included((*index, entry.clone())),
                            (None, Some(end)) => Excluded((*index, end)),
                            (None, None) => index
                                .checked_add(1)
                                .map_or(Unbounded, |next| Excluded((next, SortKey::default()))),
                        };
                        let range = self.entries.range((Unbounded, end));
                        Box::new(range.rev().take_while(within).flat_map(keys))
                    }
                }
            }
        }
    }

    pub(super) fn changes(&self, read: &ChangesRead, active: bool) -> ChangePage {
        let limit = read.limit.clamp(1, PAGE_MAX);
        let mut page = ChangePage {
            through: self.checkpoint,
            checkpoint: self.checkpoint,
            changes: Vec::new(),
            more: false,
            complete: read.after >= self.changes_from,
            active,
        };
        let mut bytes = 0;
        for (position, keys) in self.changes.range((Excluded(read.after), Unbounded)) {
            if page.changes.len() >= limit || bytes >= PAGE_BYTES_MAX {
                page.through = page.changes.last().map_or(read.after, |(_, last, _)| *last);
                page.more = true;
                break;
            }
            for key in keys {
                let data = self.documents[key].data.clone();
                bytes += data.as_ref().map_or(0, Bytes::len);
                page.changes.push((key.clone(), *position, data));
            }
        }
        page
    }

    /// Forgets the oldest tombstones beyond the newest `kept`, at most `limit`; how many.
    pub(super) fn sweep_tombstones(&mut self, kept: u64, limit: usize) -> usize {
        let kept = usize::try_from(kept).unwrap_or(usize::MAX);
        let swept = self.tombstones.len().saturating_sub(kept).min(limit);
        for _ in 0..swept {
            let Some(oldest) = self.tombstones.pop_first() else { break };
            self.unchange(oldest.0, &oldest.1);
            self.documents.remove(&oldest.1);
            self.changes_from = self.changes_from.max(oldest.0);
        }
        swept
    }

    /// Deletes at most `limit` documents of a retired generation; how many there were.
    pub(super) fn sweep(&mut self, limit: usize) -> usize {
        self.swept = true;
        self.entries.clear();
        self.changes.clear();
        self.tombstones.clear();
        let mut swept = 0;
        while swept < limit && self.documents.pop_first().is_some() {
            swept += 1;
        }
        swept
    }

    pub(super) fn is_empty(&self) -> bool {
        self.documents.is_empty()
    }
}
