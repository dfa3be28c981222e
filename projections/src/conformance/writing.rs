//! A projection's owner as the cases need one, and documents with two indexes.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use serde_json::{Value, json};
use tidewire_eventstore::Generation;
use tidewire_protocol::query::{OrderDirection, SortKey};
use uuid::Uuid;

use super::{LONG, at, key, name};
use crate::{
    DocumentStore, StoreError,
    documents::{
        ChangePage, ChangesRead, Commit, DocumentPage, Fence, Held, Owner, PAGE_MAX, PageRead,
        Place, Scan, StoredDocument, Write,
    },
};

/// The index over `number`.
pub(super) const BY_NUMBER: u16 = 0;

/// The index over `group` and `number`.
pub(super) const BY_GROUP: u16 = 1;

/// A document of the suite.
pub(super) fn document(group: &str, number: i64) -> Value {
    json!({"group": group, "number": number})
}

/// What stands for a document in the two indexes.
pub(super) fn entries(document: &Value) -> Vec<SortKey> {
    let (group, number) = (document.get("group"), document.get("number"));
    vec![SortKey::of([number]), SortKey::of([group, number])]
}

/// JSON text.
pub(super) fn text(value: &Value) -> Bytes {
    value.to_string().into()
}

/// Somebody who claims.
pub(super) fn owner(node: &str) -> Owner {
    Owner { id: Uuid::new_v4(), node: node.into() }
}

/// Claims and demands to be given.
pub(super) async fn claim(store: &dyn DocumentStore, of: &str, lease: Duration) -> Held {
    let fence = store.claim(&name(of), owner("node"), lease).await.expect("the store answers");
    Held { name: name(of), fence: fence.expect("nobody owns it") }
}

/// Who writes a generation of a projection.
#[derive(Clone)]
pub(super) struct Writer {
    pub(super) store: Arc<dyn DocumentStore>,
    pub(super) held: Held,
    pub(super) generation: Generation,
    /// Where the checkpoint is.
    pub(super) at: u64,
    /// What stands in the indexes.
    pub(super) indexed: BTreeMap<String, Vec<SortKey>>,
}

impl Writer {
    /// Registers a projection and claims it.
    pub(super) async fn new(store: &Arc<dyn DocumentStore>, of: &str) -> Self {
        let status = store.register(&name(of), 1).await.expect("registered");
        let held = claim(&**store, of, LONG).await;
        let at = status.active.checkpoint.get();
        let generation = status.active.generation;
        Self { store: Arc::clone(store), held, generation, at, indexed: BTreeMap::new() }
    }

    /// Begins another generation of the same projection.
    pub(super) async fn rebuild(&self) -> Self {
        let begun = self.store.begin_generation(&self.held, 2).await;
        let generation = begun.expect("the owner may rebuild");
        Self { generation, at: 0, indexed: BTreeMap::new(), ..self.clone() }
    }

    /// What one event makes of a document; none: deletes it.
    pub(super) fn change(&mut self, position: u64, of: &str, value: Option<&Value>) -> Write {
        let indexed_after = value.map(entries).unwrap_or_default();
        let indexed_before = match value {
            Some(_) => self.indexed.insert(of.into(), indexed_after.clone()),
            None => self.indexed.remove(of),
        };
        Write {
            key: key(of),
            position: at(position),
            data: value.map(text),
            indexed_before: indexed_before.unwrap_or_default(),
            indexed_after,
        }
    }

    /// A commit from where the checkpoint is.
    pub(super) fn to(&self, position: u64, writes: Vec<Write>) -> Commit {
        Commit {
            held: self.held.clone(),
            generation: self.generation,
            expected: at(self.at),
            position: at(position),
            writes,
            parked: Vec::new(),
            sql: None,
        }
    }

    /// Commits up to `position` and remembers that it is there.
    pub(super) async fn commit(
        &mut self,
        position: u64,
        writes: Vec<Write>,
    ) -> Result<(), StoreError> {
        self.store.commit(self.to(position, writes)).await?;
        self.at = position;
        Ok(())
    }

    /// Commits one change at the next position.
    pub(super) async fn put(&mut self, of: &str, value: &Value) {
        let position = self.at + 1;
        let write = self.change(position, of, Some(value));
        self.commit(position, vec![write]).await.expect("the owner writes");
    }

    /// Deletes one document at the next position.
    pub(super) async fn delete(&mut self, of: &str) {
        let position = self.at + 1;
        let write = self.change(position, of, None);
        self.commit(position, vec![write]).await.expect("the owner writes");
    }

    /// The same under another fence.
    pub(super) fn under(&self, fence: Fence) -> Self {
        let held = Held { fence, ..self.held.clone() };
        Self { held, ..self.clone() }
    }

    /// The documents of some keys, by key.
    pub(super) async fn documents(&self, keys: &[&str]) -> Vec<StoredDocument> {
        let keys = keys.iter().copied().map(key).collect();
        let mut found =
            self.store.documents(self.generation, keys).await.expect("the store answers");
        found.sort_by(|a, b| a.key.cmp(&b.key));
        found
    }

    /// Every document by key.
    pub(super) async fn all(&self) -> Vec<StoredDocument> {
        let pages = self.pages(Scan::Keys(OrderDirection::Ascending), PAGE_MAX).await;
        pages.into_iter().flatten().map(|(_, document)| document).collect()
    }

    /// One page.
    pub(super) async fn page(
        &self,
        scan: &Scan,
        after: Option<Place>,
        limit: usize,
    ) -> DocumentPage {
        let read = PageRead { generation: self.generation, scan: scan.clone(), after, limit };
        self.store.page(read).await.expect("the store answers")
    }

    /// All pages of a scan, each continued after the last document of the one before.
    pub(super) async fn pages(
        &self,
        scan: Scan,
        limit: usize,
    ) -> Vec<Vec<(Place, StoredDocument)>> {
        let mut pages: Vec<Vec<(Place, StoredDocument)>> = Vec::new();
        loop {
            let last = pages.last().and_then(|page| page.last());
            let after = last.map(|(place, _)| place.clone());
            let page = self.page(&scan, after, limit).await;
            assert!(!page.documents.is_empty() || !page.more, "an empty page is the last");
            pages.push(page.documents);
            if !page.more {
                return pages;
            }
        }
    }

    /// One page of changes.
    pub(super) async fn changes(&self, after: u64, limit: usize) -> ChangePage {
        let read = ChangesRead { generation: self.generation, after: at(after), limit };
        self.store.changes(read).await.expect("the store answers")
    }

    /// Every change after a position, each page continued where the one before ended.
    pub(super) async fn changes_to_the_end(
        &self,
        after: u64,
        limit: usize,
    ) -> Vec<(String, u64, Option<Bytes>)> {
        let mut all = Vec::new();
        let mut after = at(after);
        loop {
            let page = self.changes(after.get(), limit).await;
            for (changed, position, data) in page.changes {
                assert!(position > after && position <= page.through, "{changed} at {position}");
                all.push((changed.to_string(), position.get(), data));
            }
            if !page.more {
                assert_eq!(page.through, page.checkpoint, "nothing more up to the checkpoint");
                return all;
            }
            assert!(page.through > after, "a page goes on");
            assert_eq!(all.last().map(|(_, position, _)| *position), Some(page.through.get()));
            after = page.through;
        }
    }
}

/// The place of a document in the order of keys.
pub(super) fn by_key(of: &str) -> Place {
    Place { entry: SortKey::default(), key: key(of) }
}

/// The keys of documents.
pub(super) fn keys(documents: &[StoredDocument]) -> Vec<&str> {
    documents.iter().map(|document| document.key.as_str()).collect()
}
