//! What a client holds of a live query: the picture that is shown, and what is being put together
//! beside it. Pure: told what the server says, it says what the application may see.
//!
//! Only whole pictures are shown. A state comes in pages which were read one after another, and
//! changes that are read from the store tell each document as it is now, not as it was then: both
//! are put together aside, and shown when the server says `live`. While it is live, each step of
//! changes leads from one picture to the next.
//!
//! What is aside is not lost with its connection, but for a state of which pages are missing: the
//! client resumes from there.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use serde_json::Value;
use tidewire_eventstore::{DocumentKey, GlobalPosition};

use crate::{
    messages::QueryReset,
    query::{Change, Document, Reached, merge},
};

/// All documents of a query, by key: JSON texts of objects.
pub type Picture = BTreeMap<DocumentKey, Bytes>;

/// What the application may see.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    /// All documents, in place of those that it has seen.
    Picture {
        /// Of when.
        reached: Reached,
        /// The documents.
        documents: Arc<Picture>,
    },
    /// What makes the next picture of the last one: each document as it is now, or none where it
    /// is no longer among the query's.
    Changes {
        /// Of when the next picture is.
        reached: Reached,
        /// The documents, each at most once.
        changes: Vec<(DocumentKey, Option<Bytes>)>,
    },
}

/// The server has said what it may not. What it says cannot be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Nonsense;

/// What is no picture yet.
#[derive(Debug)]
enum Aside {
    Nothing,
    /// A state, and the changes after it once it is complete.
    State {
        reached: Reached,
        documents: Picture,
        begun: bool,
        complete: bool,
    },
    /// Changes of what is shown.
    Changes {
        position: GlobalPosition,
        changes: BTreeMap<DocumentKey, Option<Bytes>>,
    },
}

/// What a client holds of a live query.
#[derive(Debug)]
pub(super) struct Documents {
    shown: Option<(Reached, Arc<Picture>)>,
    /// Whether what is shown can be gone on from: the server has not begun a state since.
    holds: bool,
    aside: Aside,
    /// Whether what was told is one picture.
    live: bool,
    /// Whether the rest of a step of changes is still to come.
    in_step: bool,
}

impl Documents {
    pub(super) fn new() -> Self {
        Self { shown: None, holds: false, aside: Aside::Nothing, live: false, in_step: false }
    }

    /// What there is to go on from.
    pub(super) fn reached(&self) -> Option<Reached> {
        let shown = || self.shown.as_ref().filter(|_| self.holds).map(|(reached, _)| *reached);
        match &self.aside {
            Aside::State { reached, complete: true, .. } => Some(*reached),
            Aside::State { .. } => None,
            Aside::Changes { position, .. } => {
                shown().map(|shown| Reached { position: *position, ..shown })
            }
            Aside::Nothing => shown(),
        }
    }

    /// The connection is gone.
    pub(super) fn lost(&mut self) {
        self.live = false;
        self.in_step = false;
        if matches!(self.aside, Aside::State { complete: false, .. }) {
            self.aside = Aside::Nothing;
        }
    }

    /// Nothing of what is held can be relied on.
    pub(super) fn distrust(&mut self) {
        self.holds = false;
        self.aside = Aside::Nothing;
    }

    /// The subscription is open: it goes on, or a state is going to come.
    pub(super) fn opened(&mut self, after: Reached, resumed: bool) -> Result<(), Nonsense> {
        self.live = false;
        self.in_step = false;
        if !resumed {
            self.begin_state(after);
        } else if self.reached() != Some(after) {
            return Err(Nonsense);
        }
        Ok(())
    }

    fn begin_state(&mut self, reached: Reached) {
        self.holds = false;
        self.in_step = false;
        self.live = false;
        let documents = Picture::new();
        self.aside = Aside::State { reached, documents, begun: false, complete: false };
    }

    /// A page of a state.
    pub(super) fn state(
        &mut self,
        at: Reached,
        page: Vec<Document>,
        more: bool,
        reset: Option<QueryReset>,
    ) -> Result<(), Nonsense> {
        if reset.is_some() {
            self.begin_state(at);
        }
        let Aside::State { reached, documents, begun, complete: complete @ false } =
            &mut self.aside
        else {
            return Err(Nonsense);
        };
        if *begun && *reached != at {
            return Err(Nonsense);
        }
        (*reached, *begun, *complete) = (at, true, !more);
        documents.extend(page.into_iter().map(|document| (document.key, document.data)));
        Ok(())
    }

    /// Changes; what the application may see of them.
    pub(super) fn changes(
        &mut self,
        through: GlobalPosition,
        changes: Vec<Change>,
        more: bool,
    ) -> Result<Option<Told>, Nonsense> {
        let held = self.reached().ok_or(Nonsense)?;
        if through <= held.position {
            // Told before.
            return Ok(None);
        }
        if let (Aside::Nothing, Some((reached, _))) = (&self.aside, &self.shown) {
            let changes = BTreeMap::new();
            self.aside = Aside::Changes { position: reached.position, changes };
        }
        for change in changes {
            self.change(change)?;
        }
        self.in_step = more;
        if more {
            return Ok(None);
        }
        match &mut self.aside {
            Aside::State { reached, .. } => reached.position = through,
            Aside::Changes { position, .. } => *position = through,
            Aside::Nothing => {}
        }
        Ok(if self.live { self.show() } else { None })
    }

    fn change(&mut self, change: Change) -> Result<(), Nonsense> {
        let (key, data) = match change {
            Change::Put(document) => (document.key, Some(document.data)),
            Change::Delete { key } => (key, None),
            Change::Patch { key, patch } => {
                let data = patched(self.document(&key).ok_or(Nonsense)?, &patch)?;
                (key, Some(data))
            }
        };
        match (&mut self.aside, data) {
            (Aside::State { documents, .. }, Some(data)) => drop(documents.insert(key, data)),
            (Aside::State { documents, .. }, None) => drop(documents.remove(&key)),
            (Aside::Changes { changes, .. }, data) => drop(changes.insert(key, data)),
            (Aside::Nothing, _) => return Err(Nonsense),
        }
        Ok(())
    }

    /// A document as the server takes it to be held.
    fn document(&self, key: &DocumentKey) -> Option<&Bytes> {
        let shown = || self.shown.as_ref()?.1.get(key);
        match &self.aside {
            Aside::State { documents, .. } => documents.get(key),
            Aside::Changes { changes, .. } => {
                changes.get(key).map_or_else(shown, |changed| changed.as_ref())
            }
            Aside::Nothing => shown(),
        }
    }

    /// All that was told is one picture, that of `position`.
    pub(super) fn live(&mut self, position: GlobalPosition) -> Result<Option<Told>, Nonsense> {
        if self.in_step || self.reached().is_none() {
            return Err(Nonsense);
        }
        self.live = true;
        self.advance(position);
        Ok(self.show())
    }

    /// What is told from now on is no picture, until the server says so.
    pub(super) fn behind(&mut self) {
        self.live = false;
    }

    /// Nothing has changed through `position` that was not told; whether that is news.
    pub(super) fn advance(&mut self, position: GlobalPosition) -> bool {
        if self.in_step {
            return false;
        }
        let held = match (&mut self.aside, &mut self.shown) {
            (Aside::State { reached, complete: true, .. }, _) => &mut reached.position,
            (Aside::Changes { position, .. }, _) => position,
            (Aside::Nothing, Some((reached, _))) => &mut reached.position,
            _ => return false,
        };
        let news = *held < position;
        *held = position.max(*held);
        news
    }

    /// Shows what is aside.
    fn show(&mut self) -> Option<Told> {
        match std::mem::replace(&mut self.aside, Aside::Nothing) {
            Aside::Nothing => None,
            Aside::State { reached, documents, .. } => {
                let documents = Arc::new(documents);
                self.shown = Some((reached, documents.clone()));
                self.holds = true;
                Some(Told::Picture { reached, documents })
            }
            Aside::Changes { position, changes } => {
                let (reached, documents) = self.shown.as_mut()?;
                reached.position = position;
                let documents = Arc::make_mut(documents);
                let mut told = Vec::with_capacity(changes.len());
                for (key, data) in changes {
                    match &data {
                        Some(data) => drop(documents.insert(key.clone(), data.clone())),
                        None => drop(documents.remove(&key)),
                    }
                    told.push((key, data));
                }
                Some(Told::Changes { reached: *reached, changes: told })
            }
        }
    }
}

fn patched(document: &Bytes, patch: &Bytes) -> Result<Bytes, Nonsense> {
    let parse = |json: &Bytes| serde_json::from_slice::<Value>(json).map_err(|_| Nonsense);
    let mut value = parse(document)?;
    merge(&mut value, &parse(patch)?);
    Ok(Bytes::from(value.to_string()))
}

#[cfg(test)]
#[path = "documents_tests.rs"]
mod tests;
