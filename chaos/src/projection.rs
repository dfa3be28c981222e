//! Projections that sum: what the servers are told to keep, and what the documents have to be, which
//! is a fold of the log.
//!
//! A document that was written twice, or not at all, has another sum for ever. Some documents are
//! deleted and come back, so that tombstones and index entries come and go.

mod picture;
mod views;
mod watcher;

use std::collections::BTreeMap;

use serde_json::{Value, json};

pub(crate) use self::{
    views::{Rebuilds, check},
    watcher::Watcher,
};
use crate::{
    content::{CATEGORY, Seen},
    log::Log,
};

/// The type of events that delete a document of [`View::Open`].
const DELETES: &str = "Shipped";
/// Documents in the window of [`Selection::Newest`].
const NEWEST: usize = 5;

/// A projection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum View {
    /// The sum of each stream.
    Sums,
    /// The sum of each stream since it was deleted last.
    Open,
}

impl View {
    pub(crate) const EACH: [Self; 2] = [Self::Sums, Self::Open];

    /// The one that is rebuilt. The other never is: that would mend what is wrong with it.
    pub(crate) const REBUILT: Self = Self::Open;

    /// What the servers call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sums => "sums",
            Self::Open => "open",
        }
    }

    /// The settings of all, in the servers' file.
    pub(crate) fn settings() -> String {
        let table = |view: Self| {
            let delete_on = match view {
                Self::Sums => String::new(),
                Self::Open => format!("delete_on = [\"{DELETES}\"]\n"),
            };
            let name = view.name();
            format!(
                "[[projections]]\nname = \"{name}\"\nkind = \"sum_by\"\ncategory = \"{CATEGORY}\"\n\
                 key = \"stream\"\nof = \"data.number\"\nmissing = \"refuse\"\n\
                 include = {{ revision = \"revision\", position = \"position\" }}\n\
                 indexes = [[\"revision\"]]\n{delete_on}\n"
            )
        };
        Self::EACH.map(table).concat()
    }
}

/// Which documents of a projection somebody watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Selection {
    /// All of them.
    All,
    /// One.
    Key(&'static str),
    /// Those of the highest revisions.
    Newest,
}

impl Selection {
    /// What stands in a watcher's name.
    fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Key(_) => "one",
            Self::Newest => "the newest",
        }
    }

    /// The target on the wire.
    fn target(self, view: View) -> Value {
        match self {
            Self::All => json!({"projection": view.name()}),
            Self::Key(key) => json!({"projection": view.name(), "key": key}),
            Self::Newest => json!({
                "projection": view.name(),
                "order": {"by": "revision", "direction": "descending"},
                "limit": NEWEST,
            }),
        }
    }

    /// The selected ones of `documents`.
    fn of(self, documents: &BTreeMap<String, Value>) -> BTreeMap<String, Value> {
        let pair = |(key, document): (&String, &Value)| (key.clone(), document.clone());
        match self {
            Self::All => documents.clone(),
            Self::Key(key) => documents.iter().filter(|(of, _)| *of == key).map(pair).collect(),
            Self::Newest => newest(documents).into_iter().map(pair).collect(),
        }
    }
}

/// Documents by falling revision, equal ones by key; the first of them.
fn newest(documents: &BTreeMap<String, Value>) -> Vec<(&String, &Value)> {
    let mut all: Vec<_> = documents.iter().collect();
    all.sort_by_key(|(_, document)| std::cmp::Reverse(document["revision"].as_u64()));
    all.truncate(NEWEST);
    all
}

/// What the documents of a projection have to be.
#[derive(Debug)]
pub(crate) struct Fold {
    view: View,
    through: u64,
    documents: BTreeMap<String, Value>,
}

impl Fold {
    pub(crate) fn new(view: View) -> Self {
        Self { view, through: 0, documents: BTreeMap::new() }
    }

    /// Takes what the log has gained, and tells the documents.
    pub(crate) fn of(&mut self, log: &Log) -> &BTreeMap<String, Value> {
        for event in log.after(self.through) {
            self.take(event);
        }
        &self.documents
    }

    fn take(&mut self, event: &Seen) {
        self.through = event.position;
        if event.stream.split('-').next() != Some(CATEGORY) {
            return;
        }
        if self.view == View::Open && event.event_type == DELETES {
            self.documents.remove(&event.stream);
            return;
        }
        let before =
            self.documents.get(&event.stream).and_then(|document| document["sum"].as_i64());
        let document = json!({
            "sum": before.unwrap_or(0) + event.number,
            "revision": event.revision,
            "position": event.position,
        });
        self.documents.insert(event.stream.clone(), document);
    }
}

/// The first difference between documents and what they have to be, in words.
fn difference(
    found: &BTreeMap<String, Value>,
    expected: &BTreeMap<String, Value>,
) -> Option<String> {
    let keys = found.keys().chain(expected.keys());
    let mut keys = keys.filter(|key| found.get(*key) != expected.get(*key));
    let key = keys.next()?;
    let shown = |document: Option<&Value>| document.map_or("nothing".to_owned(), Value::to_string);
    Some(format!(
        "has {} of {key}, where the log makes {}",
        shown(found.get(key)),
        shown(expected.get(key))
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(events: &[(&str, &str, i64)]) -> Log {
        let mut revisions: BTreeMap<&str, u64> = BTreeMap::new();
        let mut log = Log::default();
        let events = (1..).zip(events).map(|(position, (stream, event_type, number))| {
            let revision = revisions.entry(stream).and_modify(|last| *last += 1).or_insert(0);
            Seen {
                position,
                revision: *revision,
                id: uuid::Uuid::from_u128(position.into()),
                stream: (*stream).to_owned(),
                event_type: (*event_type).to_owned(),
                content: 1,
                number: *number,
            }
        });
        assert!(log.extend(events.collect()).is_empty());
        log
    }

    #[test]
    fn a_fold_sums_and_deletes_and_its_newest_are_the_highest() {
        let log = log(&[
            ("order-1", "Placed", 2),
            ("other-1", "Placed", 50),
            ("order-2", "Placed", 3),
            ("order-1", "Paid", 5),
            ("order-2", "Shipped", 7),
            ("order-2", "Placed", 11),
        ]);
        let mut sums = Fold::new(View::Sums);
        let all = sums.of(&log);
        assert_eq!(all["order-1"], json!({"sum": 7, "revision": 1, "position": 4}));
        assert_eq!(all["order-2"], json!({"sum": 21, "revision": 2, "position": 6}));
        assert_eq!(all.len(), 2);
        let newest: Vec<_> = newest(all).iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(newest, ["order-2", "order-1"]);
        let mut open = Fold::new(View::Open);
        let expected = open.of(&log);
        assert_eq!(expected["order-2"], json!({"sum": 11, "revision": 2, "position": 6}));
        assert!(difference(expected, expected).is_none());
        assert!(difference(all, expected).is_some_and(|words| words.contains("order-2")));
        assert!(difference(&BTreeMap::new(), expected).is_some());
        assert_eq!(Selection::Key("order-1").of(expected).len(), 1);
    }
}
