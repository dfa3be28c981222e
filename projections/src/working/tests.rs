//! The working set against a plain map, and at its limits.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Value, json};
use tidewire_eventstore::{Category, DocumentKey, GlobalPosition, ProjectionName, Target};
use tidewire_protocol::query::{FieldPath, SortKey};

use super::*;
use crate::{documents::DOCUMENT_BYTES_MAX, feed::Before};

fn definition() -> Definition {
    let path = |path| FieldPath::new(path).expect("a good path");
    Definition {
        name: ProjectionName::new("things").expect("a good name"),
        version: 1,
        target: Target::Category(Category::new("thing").expect("a good name")),
        types: Vec::new(),
        fields: Vec::new(),
        indexes: vec![
            Index { fields: vec![path("a")] },
            Index { fields: vec![path("b"), path("a")] },
        ],
    }
}

fn key(name: &str) -> DocumentKey {
    DocumentKey::new(name).expect("a good key")
}

fn at(position: u64) -> GlobalPosition {
    GlobalPosition::new(position)
}

fn set() -> WorkingSet {
    WorkingSet::new(&definition())
}

/// A set in which these documents are stored.
fn set_of<'a>(documents: impl IntoIterator<Item = (&'a str, Option<Value>)>) -> WorkingSet {
    let mut set = set();
    for (name, document) in documents {
        set.load(key(name), document.map(|document| document.to_string().into()));
    }
    set
}

#[test]
fn a_commit_has_each_document_once_with_its_place_in_the_indexes() {
    let mut set = set_of([("x", Some(json!({"a": 1, "b": "m"}))), ("y", None), ("z", None)]);
    for position in 5..8 {
        let keys = [key("x"), key("y"), key("z")];
        let mut documents = set.begin(at(position), &keys).expect("three keys");
        documents.patch(&keys[0], json!({"a": position})).expect("it fits");
        if position == 6 {
            documents.put(&keys[1], json!({"b": "n"})).expect("it fits");
            documents.put(&keys[2], json!({})).expect("it fits");
            documents.delete(&keys[2]).expect("it is there");
        }
        set.accept();
    }
    let (writes, changes) = set.take_writes();
    let entry = |values: &[Option<Value>]| SortKey::of(values.iter().map(Option::as_ref));
    assert_eq!(
        writes,
        [
            Write {
                key: key("x"),
                position: at(7),
                data: Some(r#"{"a":7,"b":"m"}"#.into()),
                indexed_before: vec![
                    entry(&[Some(json!(1))]),
                    entry(&[Some(json!("m")), Some(json!(1))])
                ],
                indexed_after: vec![
                    entry(&[Some(json!(7))]),
                    entry(&[Some(json!("m")), Some(json!(7))])
                ],
            },
            Write {
                key: key("y"),
                position: at(6),
                data: Some(r#"{"b":"n"}"#.into()),
                indexed_before: vec![],
                indexed_after: vec![entry(&[None]), entry(&[Some(json!("n")), None])],
            },
        ],
        "what came and went in between is not written"
    );
    assert!(
        matches!(&changes[0].before, Before::Document(content) if *content.value() == json!({"a": 1, "b": "m"})),
        "{changes:?}"
    );
    assert!(matches!(&changes[1].before, Before::Absent), "{changes:?}");
    assert_eq!(set.take_writes().0, [], "taken is taken");
}

#[test]
fn what_an_event_did_is_undone_as_a_whole() {
    let before = json!({"a": {"deep": [1, 2]}, "b": "m"});
    let mut set = set_of([("x", Some(before.clone())), ("y", None)]);
    let keys = [key("x"), key("y")];
    let mut documents = set.begin(at(1), &keys).expect("two keys");
    documents.patch(&keys[0], json!({"a": {"deep": null, "new": 1}, "c": 1})).expect("it fits");
    documents.delete(&keys[0]).expect("it is there");
    documents.put(&keys[0], json!({"other": true})).expect("it fits");
    documents.put(&keys[1], json!({})).expect("it fits");
    set.undo();
    assert_eq!(set.dirty_len(), 0);
    let documents = set.begin(at(2), &keys).expect("two keys");
    assert_eq!(documents.get(&keys[0]), Ok(Some(&before)));
    assert_eq!(documents.get(&keys[1]), Ok(None));
    assert_eq!(set.take_writes().0, []);
}

#[test]
fn a_document_that_is_what_it_was_is_not_written() {
    let mut set = set_of([("x", Some(json!({"a": 1})))]);
    let keys = [key("x")];
    let mut documents = set.begin(at(1), &keys).expect("one key");
    documents.put(&keys[0], json!({"a": 1})).expect("it fits");
    set.accept();
    assert_eq!(set.take_writes().0, []);
}

#[test]
fn only_what_was_named_for_the_event_can_be_touched() {
    let mut set = set_of([("x", None), ("y", Some(json!({})))]);
    set.begin(at(1), &[key("y")]).expect("one key");
    let mut documents = set.begin(at(2), &[key("x")]).expect("one key");
    let unnamed = || ProjectError::KeyUnnamed { key: key("y") };
    assert_eq!(documents.get(&key("y")), Err(unnamed()));
    assert_eq!(documents.put(&key("y"), json!({})), Err(unnamed()));
    assert_eq!(documents.patch(&key("y"), json!({})), Err(unnamed()));
    assert_eq!(documents.delete(&key("y")), Err(unnamed()));
}

#[test]
fn what_is_too_much_is_refused_and_changes_nothing() {
    let many: Vec<_> = (0..=EVENT_KEYS_MAX).map(|number| key(&number.to_string())).collect();
    let mut set = set();
    for key in &many {
        set.load(key.clone(), None);
    }
    let error = set.begin(at(1), &many).expect_err("one too many");
    assert_eq!(error, ProjectError::TooManyKeys { keys: EVENT_KEYS_MAX + 1 });

    let (first, keys) = (&many[0], &many[1..]);
    let mut documents = set.begin(at(1), keys).expect("as many as allowed");
    assert!(documents.get(first).is_err());
    for key in keys {
        documents.put(key, json!({"a": 1})).expect("as many as allowed");
    }
    assert_eq!(documents.patch(&keys[0], json!({"a": 2})), Err(ProjectError::TooManyChanges));
    assert_eq!(documents.get(&keys[0]), Ok(Some(&json!({"a": 1}))));
    set.undo();

    let mut documents = set.begin(at(2), &keys[..1]).expect("one key");
    let not_object = ProjectError::DocumentNotObject { key: keys[0].clone() };
    assert_eq!(documents.put(&keys[0], json!([1])), Err(not_object.clone()));
    assert_eq!(documents.patch(&keys[0], json!(null)), Err(not_object));

    // Two halves that fit, and do not fit together.
    let half = "x".repeat(DOCUMENT_BYTES_MAX / 2);
    documents.put(&keys[0], json!({"a": half})).expect("half fits");
    let error = documents.patch(&keys[0], json!({"b": half})).expect_err("both do not");
    assert_eq!(error.code(), "document_too_large");
    assert_eq!(documents.get(&keys[0]), Ok(Some(&json!({"a": half}))));
    documents.patch(&keys[0], json!({"a": null, "b": half})).expect("the other half fits");
    set.undo();

    let mut set = set_of([("x", Some(json!({"a": half})))]);
    let mut documents = set.begin(at(3), &[key("x")]).expect("one key");
    assert!(documents.patch(&key("x"), json!({"b": half})).is_err(), "both do not");
    set.accept();
    assert_eq!(set.dirty_len(), 0);
}

#[test]
fn a_patch_of_nothing_makes_a_document_of_what_is_not_null() {
    let mut set = set_of([("x", None)]);
    let mut documents = set.begin(at(1), &[key("x")]).expect("one key");
    documents.patch(&key("x"), json!({"a": null, "b": {"c": null, "d": 1}})).expect("it fits");
    assert_eq!(documents.get(&key("x")), Ok(Some(&json!({"b": {"d": 1}}))));
}

#[test]
fn what_is_stored_and_no_object_is_said_to_be_so() {
    let mut set = set();
    set.load(key("x"), Some("[1".into()));
    let mut documents = set.begin(at(1), &[key("x")]).expect("one key");
    for error in [documents.get(&key("x")).err(), documents.patch(&key("x"), json!({})).err()] {
        assert_eq!(error.expect("no object").code(), "document_unreadable");
    }
    documents.put(&key("x"), json!({})).expect("a document can be put in its place");
}

#[test]
fn what_is_not_in_the_store_yet_is_not_evicted() {
    let mut set = set_of([("a", Some(json!({}))), ("b", None), ("c", None)]);
    set.begin(at(1), &[key("b")]).expect("one key").put(&key("b"), json!({})).expect("it fits");
    set.accept();
    set.take_writes();
    set.begin(at(2), &[key("c")]).expect("one key").put(&key("c"), json!({})).expect("it fits");
    set.accept();
    let held = |set: &WorkingSet| ["a", "b", "c"].map(|name| set.contains(&key(name)));
    set.evict(0);
    assert_eq!(held(&set), [false, true, true]);
    set.committed();
    set.evict(0);
    assert_eq!(held(&set), [false, false, true]);
    set.take_writes();
    set.committed();
    set.evict(0);
    assert_eq!((held(&set), set.len_bytes()), ([false; 3], 0));
}

#[test]
fn the_longest_unused_goes_first() {
    let mut set = set();
    let keys: Vec<_> = (0..100).map(|number| key(&format!("{number:02}"))).collect();
    for key in &keys {
        set.load(key.clone(), Some(json!({"a": "x".repeat(100)}).to_string().into()));
    }
    for (position, key) in (1..).zip(&keys) {
        set.begin(at(position), std::slice::from_ref(key)).expect("one key");
    }
    let full = set.len_bytes();
    set.evict(full);
    assert_eq!(set.len_bytes(), full, "it is not too much");
    set.evict(full - 1);
    let held: Vec<_> = keys.iter().map(|key| set.contains(key)).collect();
    assert!(held.is_sorted() && held[99] && !held[0], "{held:?}");
    assert!(set.len_bytes() <= full / 2 && set.len_bytes() > full / 3, "{}", set.len_bytes());
}

/// What a made-up event does.
#[derive(Debug, Clone)]
enum Op {
    Put(usize, Value),
    Patch(usize, Value),
    Delete(usize),
}

#[derive(Debug, Clone)]
enum Deed {
    /// An event, and whether it is accepted.
    Event(Vec<Op>, bool),
    /// A batch ends; whether its writes are said to be stored at once.
    Take(bool),
    /// Somebody holds on to what was told of changes, or no longer.
    Hold(bool),
    Evict,
}

const NAMES: [&str; 4] = ["p", "q", "r", "s"];

fn object() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![Just(Value::Null), (0i64..3).prop_map(Value::from), Just(json!([1]))];
    let inner = prop::collection::btree_map("[ab]", leaf.clone(), 0..3)
        .prop_map(|members| Value::Object(members.into_iter().collect()));
    prop::collection::btree_map("[abc]", prop_oneof![leaf, inner], 0..4)
        .prop_map(|members| Value::Object(members.into_iter().collect()))
}

fn op() -> impl Strategy<Value = Op> {
    let which = 0..NAMES.len();
    prop_oneof![
        (which.clone(), object()).prop_map(|(which, value)| Op::Put(which, value)),
        (which.clone(), object()).prop_map(|(which, value)| Op::Patch(which, value)),
        which.prop_map(Op::Delete),
    ]
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        6 => (prop::collection::vec(op(), 0..5), any::<bool>())
            .prop_map(|(ops, accepted)| Deed::Event(ops, accepted)),
        2 => any::<bool>().prop_map(Deed::Take),
        1 => any::<bool>().prop_map(Deed::Hold),
        1 => Just(Deed::Evict),
    ]
}

/// RFC 7396 as the RFC writes it.
fn merged(target: Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let mut members = match target {
        Value::Object(members) => members,
        _ => serde_json::Map::new(),
    };
    for (name, value) in patch {
        let member = members.remove(name).unwrap_or(Value::Null);
        if !value.is_null() {
            members.insert(name.clone(), merged(member, value));
        }
    }
    Value::Object(members)
}

type Map = BTreeMap<&'static str, Value>;

/// The store, and what the set should say.
#[derive(Default)]
struct Model {
    store: BTreeMap<DocumentKey, (Bytes, Vec<SortKey>)>,
    told: Map,
    now: Map,
    on_the_way: Vec<Vec<Write>>,
}

impl Model {
    fn store_next(&mut self) {
        for write in self.on_the_way.remove(0) {
            let had = self.store.remove(&write.key);
            let indexed = had.map(|(_, indexed)| indexed).unwrap_or_default();
            assert_eq!(write.indexed_before, indexed, "the index rows of {}", write.key);
            if let Some(data) = write.data {
                self.store.insert(write.key, (data, write.indexed_after));
            } else {
                assert!(write.indexed_after.is_empty());
            }
        }
    }

    fn tell(&mut self, changes: &[DocumentChange]) {
        let mut seen = BTreeSet::new();
        for change in changes {
            let name = NAMES.into_iter().find(|name| *name == change.key.as_str());
            let name = name.expect("one of the names");
            assert!(seen.insert(name), "{name} twice");
            let before = match &change.before {
                Before::Document(content) => Some(content.value().clone()),
                Before::Absent => None,
                Before::Unknown => panic!("a set knows"),
            };
            assert_eq!(self.told.remove(name), before, "{name} before");
            if let Some(content) = &change.after {
                assert_eq!(content.value().to_string().as_bytes(), content.text());
                self.told.insert(name, content.value().clone());
            }
        }
        assert_eq!(self.told, self.now, "what was told");
    }
}

proptest! {
    #[test]
    fn a_set_behaves_as_a_map_whatever_is_undone_cut_and_evicted(
        deeds in prop::collection::vec(deed(), 1..40)
    ) {
        let mut set = set();
        let mut model = Model::default();
        let mut held = Vec::new();
        let mut holds = false;
        let keys = NAMES.map(key);
        for (position, deed) in (1..).zip(deeds) {
            match deed {
                Deed::Event(ops, accepted) => {
                    for key in &keys {
                        if !set.contains(key) {
                            let stored = model.store.get(key).map(|(text, _)| text.clone());
                            set.load(key.clone(), stored);
                        }
                    }
                    let mut documents = set.begin(at(position), &keys).expect("four keys");
                    let mut map = model.now.clone();
                    for op in ops {
                        match op {
                            Op::Put(which, value) => {
                                documents.put(&keys[which], value.clone()).expect("it fits");
                                map.insert(NAMES[which], value);
                            }
                            Op::Patch(which, patch) => {
                                documents.patch(&keys[which], patch.clone()).expect("it fits");
                                let target = map.remove(NAMES[which]).unwrap_or(Value::Null);
                                map.insert(NAMES[which], merged(target, &patch));
                            }
                            Op::Delete(which) => {
                                documents.delete(&keys[which]).expect("allowed");
                                map.remove(NAMES[which]);
                            }
                        }
                    }
                    for (name, key) in NAMES.iter().zip(&keys) {
                        prop_assert_eq!(documents.get(key).expect("readable"), map.get(name));
                    }
                    if accepted {
                        set.accept();
                        model.now = map;
                    } else {
                        set.undo();
                    }
                }
                Deed::Take(stored) => {
                    let (writes, changes) = set.take_writes();
                    model.tell(&changes);
                    model.on_the_way.push(writes);
                    if holds {
                        held.push(changes);
                    }
                    while stored && !model.on_the_way.is_empty() {
                        model.store_next();
                        set.committed();
                    }
                }
                Deed::Hold(now) => {
                    holds = now;
                    held.clear();
                }
                Deed::Evict => set.evict(0),
            }
        }
        let (writes, changes) = set.take_writes();
        model.tell(&changes);
        model.on_the_way.push(writes);
        while !model.on_the_way.is_empty() {
            model.store_next();
            set.committed();
        }
        let stored: Vec<_> = model.store.iter().map(|(key, (text, _))| (key.as_str(), text.clone())).collect();
        let now: Vec<_> = model.now.iter().map(|(name, value)| (*name, Bytes::from(value.to_string()))).collect();
        prop_assert_eq!(stored, now);
        set.evict(0);
        prop_assert_eq!(set.len_bytes(), 0);
    }
}
