//! From a change to the groups that it may concern, by index: what a change costs grows with the
//! queries that look at the document's key or at a value of it, not with those that there are.

use std::collections::HashMap;

use serde_json::Value;
use tidewire_eventstore::DocumentKey;
use tidewire_projections::{Before, DocumentChange};
use tidewire_protocol::query::{Condition, FieldPath, Query, SortKey};

/// Names a group.
pub(super) type GroupId = usize;

/// The groups of one projection, by what their queries ask for.
#[derive(Debug, Default)]
pub(super) struct Interest {
    by_key: HashMap<DocumentKey, Vec<GroupId>>,
    /// By a field that can have but one value in the query's documents.
    by_value: HashMap<FieldPath, HashMap<SortKey, Vec<GroupId>>>,
    /// All others.
    others: Vec<GroupId>,
}

impl Interest {
    pub(super) fn add(&mut self, query: &Query, group: GroupId) {
        match place(query) {
            Place::Key(key) => self.by_key.entry(key.clone()).or_default().push(group),
            Place::Value(field, value) => {
                let values = self.by_value.entry(field.clone()).or_default();
                values.entry(value.clone()).or_default().push(group);
            }
            Place::Other => self.others.push(group),
        }
    }

    pub(super) fn remove(&mut self, query: &Query, group: GroupId) {
        let take = |groups: &mut Vec<GroupId>| {
            if let Some(at) = groups.iter().position(|other| *other == group) {
                groups.swap_remove(at);
            }
            groups.is_empty()
        };
        match place(query) {
            Place::Key(key) => {
                if self.by_key.get_mut(key).is_some_and(take) {
                    self.by_key.remove(key);
                }
            }
            Place::Value(field, value) => {
                let Some(values) = self.by_value.get_mut(field) else { return };
                if values.get_mut(value).is_some_and(take) {
                    values.remove(value);
                }
                if values.is_empty() {
                    self.by_value.remove(field);
                }
            }
            Place::Other => {
                take(&mut self.others);
            }
        }
    }

    /// Calls `concern` with every group that a change may concern, some more than once.
    pub(super) fn of(&self, change: &DocumentChange, mut concern: impl FnMut(GroupId)) {
        self.by_key.get(&change.key).into_iter().flatten().copied().for_each(&mut concern);
        self.others.iter().copied().for_each(&mut concern);
        for (field, groups) in &self.by_value {
            if matches!(change.before, Before::Unknown) {
                // It may have been any value's document.
                groups.values().flatten().copied().for_each(&mut concern);
                continue;
            }
            let before = match &change.before {
                Before::Document(before) => value(field, before.value()),
                Before::Absent | Before::Unknown => None,
            };
            let after = change.after.as_ref().and_then(|after| value(field, after.value()));
            let once = after.filter(|after| Some(after) != before.as_ref());
            for value in before.into_iter().chain(once) {
                groups.get(&value).into_iter().flatten().copied().for_each(&mut concern);
            }
        }
    }
}

fn value(field: &FieldPath, document: &Value) -> Option<SortKey> {
    field.of(document).map(|value| SortKey::of([Some(value)]))
}

/// Where the group of a query is found.
enum Place<'a> {
    Key(&'a DocumentKey),
    Value(&'a FieldPath, &'a SortKey),
    Other,
}

fn place(query: &Query) -> Place<'_> {
    if let Some(key) = &query.key {
        return Place::Key(key);
    }
    let equal = query.condition.as_deref().map(Condition::equalities).unwrap_or_default();
    match equal.first() {
        Some((field, value)) => Place::Value(field, value),
        None => Place::Other,
    }
}
