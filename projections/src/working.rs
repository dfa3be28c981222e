//! [`WorkingSet`]: the documents that a runner works on: what the store has of them, what they are
//! now, and what the event that is being projected has done so far.
//!
//! One document is parsed at most once while it stays here, and written out once a commit however
//! many events change it. What an event does can be taken back as a whole ([`WorkingSet::undo`]),
//! which costs nothing but what the event did: values are moved, not copied.

mod entry;
mod size;

use std::collections::HashMap;

use bytes::Bytes;
use serde_json::Value;
use tidewire_eventstore::{DocumentKey, GlobalPosition};

use self::entry::{Changed, Entry, Step};
pub(crate) use self::size::exact as text_bytes;
use crate::{
    definition::{Definition, Index},
    documents::Write,
    feed::{Content, DocumentChange},
    merge::{merge, without_nulls},
    projection::{EVENT_CHANGES_MAX, EVENT_KEYS_MAX, ProjectError},
};

/// Documents of one generation of one projection, in memory.
///
/// The order of calls: [`load`](Self::load) what [`contains`](Self::contains) denies, then for each
/// event [`begin`](Self::begin) and [`accept`](Self::accept) or [`undo`](Self::undo); at the end of
/// a batch [`take_writes`](Self::take_writes) and, once they are in the store,
/// [`committed`](Self::committed). Further events may be projected while a commit is on its way.
/// When a commit fails for good the set no longer tells what the store has: [`clear`](Self::clear).
#[derive(Debug)]
pub struct WorkingSet {
    indexes: Vec<Index>,
    entries: HashMap<DocumentKey, Entry>,
    /// The documents that changed since the writes were taken last, in the order in which they did;
    /// one that changed back may be among them.
    dirty: Vec<DocumentKey>,
    /// What the present event has done, in order.
    steps: Vec<(DocumentKey, Step)>,
    /// How many documents were dirty before the present event.
    dirty_before: usize,
    /// The present event's number, counted by this set.
    event: u64,
    /// Its position.
    position: GlobalPosition,
    /// How often writes were taken, and how often those were said to be in the store.
    taken: u64,
    committed: u64,
    bytes: usize,
}

/// The documents of a projection, as an event finds them and changes them. Only those that the
/// projection named for this event ([`Projection::keys`](crate::Projection::keys)) are here.
#[derive(Debug)]
pub struct Documents<'a> {
    set: &'a mut WorkingSet,
}

impl WorkingSet {
    /// An empty set for documents with the indexes of `definition`.
    pub fn new(definition: &Definition) -> Self {
        Self {
            indexes: definition.indexes.clone(),
            entries: HashMap::new(),
            dirty: Vec::new(),
            steps: Vec::new(),
            dirty_before: 0,
            event: 0,
            position: GlobalPosition::START,
            taken: 0,
            committed: 0,
            bytes: 0,
        }
    }

    /// Whether it is known what the document is, or that there is none.
    pub fn contains(&self, key: &DocumentKey) -> bool {
        self.entries.contains_key(key)
    }

    /// Takes what the store has of a document; nothing where this set knows better already.
    pub fn load(&mut self, key: DocumentKey, stored: Option<Bytes>) {
        if !self.entries.contains_key(&key) {
            let entry = Entry::stored(stored.map(Content::new), self.event);
            self.bytes += entry.bytes(&key);
            self.entries.insert(key, entry);
        }
    }

    /// Begins an event that concerns the documents of `keys`. The one before it must have been
    /// accepted or undone; an event that was neither is undone now.
    ///
    /// # Errors
    ///
    /// [`ProjectError::TooManyKeys`].
    ///
    /// # Panics
    ///
    /// When one of the documents was not loaded.
    pub fn begin(
        &mut self,
        position: GlobalPosition,
        keys: &[DocumentKey],
    ) -> Result<Documents<'_>, ProjectError> {
        self.undo();
        if keys.len() > EVENT_KEYS_MAX {
            return Err(ProjectError::TooManyKeys { keys: keys.len() });
        }
        self.event += 1;
        self.position = position;
        self.dirty_before = self.dirty.len();
        for key in keys {
            let entry = self.entries.get_mut(key);
            entry.expect("whoever begins an event has loaded its documents").event = self.event;
        }
        Ok(Documents { set: self })
    }

    /// Keeps what the present event did.
    pub fn accept(&mut self) {
        self.steps.clear();
    }

    /// Takes back everything that the present event did.
    pub fn undo(&mut self) {
        if self.steps.is_empty() {
            return;
        }
        while !self.steps.is_empty() {
            self.take_back_last();
        }
        self.dirty.truncate(self.dirty_before);
    }

    /// How many documents the next [`Self::take_writes`] gives at most.
    pub fn dirty_len(&self) -> usize {
        self.dirty.len()
    }

    /// What has become of the documents since the last time, each at most once: for the store, and
    /// for whoever watches. Nothing for a document that is what it was then. The present event
    /// has to be accepted before; what was not is undone.
    pub fn take_writes(&mut self) -> (Vec<Write>, Vec<DocumentChange>) {
        self.undo();
        self.taken += 1;
        let mut writes = Vec::with_capacity(self.dirty.len());
        let mut changes = Vec::with_capacity(self.dirty.len());
        for key in self.dirty.drain(..) {
            let entry = self.entries.get_mut(&key).expect("what changed is not let go of");
            self.bytes -= entry.bytes(&key);
            if let Some((write, change)) = entry.take_write(&key, &self.indexes) {
                entry.taken = self.taken;
                writes.push(write);
                changes.push(change);
            }
            self.bytes += entry.bytes(&key);
        }
        self.dirty_before = 0;
        (writes, changes)
    }

    /// Says that the writes that were taken first of those not yet committed are in the store.
    pub fn committed(&mut self) {
        self.committed = (self.committed + 1).min(self.taken);
    }

    /// About how many bytes of memory the documents here take.
    pub fn len_bytes(&self) -> usize {
        self.bytes
    }

    /// Where the documents take more than `bytes_max`, lets go of those that were named by an event
    /// the longest ago, until they take about half of it. Keeps what the store does not have yet.
    /// Not between the loading of documents and the events that they were loaded for.
    pub fn evict(&mut self, bytes_max: usize) {
        if self.bytes <= bytes_max {
            return;
        }
        let committed = self.committed;
        let settled = |entry: &Entry| entry.changed.is_none() && entry.taken <= committed;
        let mut ages: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, entry)| settled(entry))
            .map(|(key, entry)| (entry.event, entry.bytes(key)))
            .collect();
        ages.sort_unstable();
        let mut excess = self.bytes - bytes_max / 2;
        let mut last = None;
        for (event, bytes) in ages {
            if excess == 0 {
                break;
            }
            excess = excess.saturating_sub(bytes);
            last = Some(event);
        }
        let Some(last) = last else { return };
        let mut freed = 0;
        self.entries.retain(|key, entry| {
            let goes = settled(entry) && entry.event <= last;
            if goes {
                freed += entry.bytes(key);
            }
            !goes
        });
        self.bytes -= freed;
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.dirty.clear();
        self.steps.clear();
        self.committed = self.taken;
        self.bytes = 0;
    }
}

impl Documents<'_> {
    /// The document as the events before, and this one so far, have left it; `None` where there is
    /// none.
    ///
    /// # Errors
    ///
    /// [`ProjectError::KeyUnnamed`]; [`ProjectError::DocumentUnreadable`] where what is stored is
    /// no JSON object.
    pub fn get(&self, key: &DocumentKey) -> Result<Option<&Value>, ProjectError> {
        match self.set.entries.get(key) {
            Some(entry) if entry.event == self.set.event => entry.value(key),
            _ => Err(ProjectError::KeyUnnamed { key: key.clone() }),
        }
    }

    /// Makes the document this, whether there was one or not.
    ///
    /// # Errors
    ///
    /// [`ProjectError::DocumentNotObject`], [`ProjectError::DocumentTooLarge`],
    /// [`ProjectError::DocumentTooDeep`], [`ProjectError::KeyUnnamed`] and
    /// [`ProjectError::TooManyChanges`]; nothing has changed then.
    pub fn put(&mut self, key: &DocumentKey, document: Value) -> Result<(), ProjectError> {
        if !document.is_object() {
            return Err(ProjectError::DocumentNotObject { key: key.clone() });
        }
        let size = size::check(key, &document)?;
        self.set.replace(key, Some((document, size)))
    }

    /// Merges `patch` into the document as RFC 7396 says: members that are null are taken out, every
    /// other one is merged in. Where there is no document, one is made of what is not null.
    ///
    /// # Errors
    ///
    /// As for [`Self::put`], of the patch and of what becomes of the document, and
    /// [`ProjectError::DocumentUnreadable`] as for [`Self::get`].
    pub fn patch(&mut self, key: &DocumentKey, patch: Value) -> Result<(), ProjectError> {
        if !patch.is_object() {
            return Err(ProjectError::DocumentNotObject { key: key.clone() });
        }
        let patch_size = size::check(key, &patch)?;
        let set = &mut *self.set;
        let entry = set.touch(key)?;
        if entry.value(key)?.is_none() {
            return set.replace(key, Some((without_nulls(patch), patch_size)));
        }
        set.patch(key, patch, patch_size)
    }

    /// Deletes the document; nothing where there is none.
    ///
    /// # Errors
    ///
    /// [`ProjectError::KeyUnnamed`] and [`ProjectError::TooManyChanges`].
    pub fn delete(&mut self, key: &DocumentKey) -> Result<(), ProjectError> {
        if self.set.touch(key)?.exists() { self.set.replace(key, None) } else { Ok(()) }
    }
}

impl WorkingSet {
    /// The document that the present event wants to change.
    fn touch(&mut self, key: &DocumentKey) -> Result<&mut Entry, ProjectError> {
        if self.steps.len() >= EVENT_CHANGES_MAX {
            return Err(ProjectError::TooManyChanges);
        }
        match self.entries.get_mut(key) {
            Some(entry) if entry.event == self.event => Ok(entry),
            _ => Err(ProjectError::KeyUnnamed { key: key.clone() }),
        }
    }

    /// Makes the document this, with its size, or deletes it.
    fn replace(
        &mut self,
        key: &DocumentKey,
        now: Option<(Value, usize)>,
    ) -> Result<(), ProjectError> {
        self.touch(key)?;
        let entry = self.entries.get_mut(key).expect("touched just now");
        self.bytes -= entry.bytes(key);
        entry.index(&self.indexes);
        let (now, size) = now.map_or((None, 0), |(now, size)| (Some(now), size));
        let was = entry.changed.replace(Changed { position: self.position, now, size });
        self.bytes += entry.bytes(key);
        if was.is_none() {
            self.dirty.push(key.clone());
        }
        self.steps.push((key.clone(), Step::Replaced(was)));
        Ok(())
    }

    /// Merges a patch of a size into the document, which is there.
    fn patch(&mut self, key: &DocumentKey, patch: Value, size: usize) -> Result<(), ProjectError> {
        let entry = self.entries.get_mut(key).expect("touched before");
        self.bytes -= entry.bytes(key);
        entry.index(&self.indexes);
        let was = entry.changed.as_ref().map(|changed| (changed.position, changed.size));
        let changed = entry.open();
        let document = changed.now.as_mut().expect("the document is there");
        let undo = merge(document, patch);
        let checked = size::recheck(key, document, changed.size + size);
        let step = Step::Patched { undo, was };
        let checked = checked.map(|size| {
            changed.position = self.position;
            changed.size = size;
        });
        if checked.is_err() {
            entry.take_back(step);
        } else {
            if was.is_none() {
                self.dirty.push(key.clone());
            }
            self.steps.push((key.clone(), step));
        }
        self.bytes += self.entries[key].bytes(key);
        checked
    }

    /// Takes back the last step of the present event.
    fn take_back_last(&mut self) {
        if let Some((key, step)) = self.steps.pop() {
            let entry = self.entries.get_mut(&key).expect("what changed is not let go of");
            self.bytes -= entry.bytes(&key);
            entry.take_back(step);
            self.bytes += entry.bytes(&key);
        }
    }
}

#[cfg(test)]
mod tests;
