//! Edits by example, and any edits of several clients against a plain map.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};
use tidewire_eventstore::{
    ExpectedRevision, GlobalPosition, Payload, RecordedEvent, Revision, StreamName, Timestamp,
};
use uuid::Uuid;

use super::*;
use crate::{
    kit::{Given, event},
    merge::merge,
};

fn todos() -> Arc<dyn Projection> {
    let mut todos = Collection::new("todos");
    todos.indexes = vec![vec!["due".to_owned()]];
    todos.projection().expect("the collection makes sense")
}

fn edit(edit: Value) -> Result<CheckedEdit, EditError> {
    serde_json::from_value::<Edit>(edit).expect("its fields are known").check()
}

fn text(document: Value) -> Bytes {
    document.to_string().into()
}

fn found(stream: u64, edit: u64, present: bool) -> Found {
    let edit = LastEdit {
        revision: Revision::new(edit),
        position: GlobalPosition::new(edit + 100),
        present,
    };
    Found { stream: Some(Revision::new(stream)), edit: Some(edit) }
}

#[test]
fn events_make_documents_with_their_revision() {
    let todos = todos();
    Given::nothing(todos.as_ref())
        .when(event(
            "todos-a-1",
            INSERTED,
            json!({"document": {"text": "x", "n": {"a": 1, "b": 2}}}),
        ))
        .when(event("todos-a-1", UPDATED, json!({"patch": {"n": {"a": null}, "$revision": 9}})))
        .when(event("todos-b", INSERTED, json!({"document": {}})))
        .when(event("todos-b", DELETED, json!({})))
        .when(event("todos-b", UPDATED, json!({"patch": {"text": "too late"}})))
        .when(event("todos-b", "Other", json!({})))
        .when(event("other-c", INSERTED, json!({"document": {}})))
        .then([("a-1", json!({"text": "x", "n": {"b": 2}, "$revision": 1}))]);
    let erased = event("todos-a", INSERTED, json!({})).payload(Payload::Erased);
    Given::events(todos.as_ref(), [erased])
        .when(event("todos-a", UPDATED, json!({"patch": {"n": 1}})))
        .then([("a", json!({"n": 1, "$revision": 1}))]);
    for data in [json!({}), json!({"document": [1]}), json!(null)] {
        Given::nothing(todos.as_ref())
            .when(event("todos-a", INSERTED, data))
            .then_refused("event_unreadable");
    }
}

#[test]
fn a_collection_that_cannot_be_is_told_why() {
    for (name, reason) in [
        ("to-dos", "must not contain `-`, which ends a category's name"),
        ("", "is \"\": the name, or the category before its first `-`, is empty"),
        ("$x", "is \"$x\": names that begin with `$` are reserved"),
    ] {
        let error = Collection::new(name).projection().err().expect("it cannot be");
        assert_eq!((error.key.as_str(), error.reason.as_str()), ("name", reason));
    }
    let mut todos = Collection::new("todos");
    todos.indexes = vec![vec![]];
    assert_eq!(todos.projection().err().expect("it cannot be").key, "indexes[0]");
}

#[test]
fn an_edit_that_makes_no_sense_is_told_why() {
    let deep = (0..EDIT_DEPTH_MAX).fold(json!(1), |inner, _| json!([inner]));
    for (wrong, field, reason) in [
        (json!({"op": "insert", "key": ""}), "key", "the key is empty"),
        (json!({"op": "insert", "key": "a\nb"}), "key", "the key contains a control character"),
        (
            json!({"op": "insert", "key": "x".repeat(195), "document": {}}),
            "key",
            "gives a name of a stream that cannot be: the name has 201 bytes; at most 200 are allowed",
        ),
        (json!({"op": "insert", "key": "x"}), "document", "is missing"),
        (json!({"op": "update", "key": "x"}), "patch", "is missing"),
        (
            json!({"op": "insert", "key": "x", "patch": {}}),
            "patch",
            "has no meaning for this operation",
        ),
        (
            json!({"op": "insert", "key": "x", "revision": 1}),
            "revision",
            "has no meaning for this operation",
        ),
        (
            json!({"op": "update", "key": "x", "document": {}}),
            "document",
            "has no meaning for this operation",
        ),
        (
            json!({"op": "delete", "key": "x", "document": {}}),
            "document",
            "has no meaning for this operation",
        ),
        (
            json!({"op": "delete", "key": "x", "patch": {}}),
            "patch",
            "has no meaning for this operation",
        ),
        (
            json!({"op": "delete", "key": "x", "revision": 1u64 << 53}),
            "revision",
            "is larger than a revision can be",
        ),
        (
            json!({"op": "insert", "key": "x", "document": {"$a": 1}}),
            "document",
            "has a member \"$a\": names that begin with `$` are reserved",
        ),
        (
            json!({"op": "update", "key": "x", "patch": {"a": deep}}),
            "patch",
            "is deeper than 60 levels",
        ),
    ] {
        let mut full = json!({"collection": "todos"});
        full.as_object_mut().expect("an object").extend(wrong.as_object().expect("one").clone());
        let error = edit(full).expect_err("it makes no sense");
        assert_eq!(error, EditError::Field { field, reason: reason.to_owned() }, "{wrong}");
    }
    for wrong in [
        json!({"collection": "t", "op": "upsert", "key": "x"}),
        json!({"collection": "t", "op": "insert", "key": "x", "document": [1]}),
        json!({"collection": "t", "op": "insert", "key": "x", "document": {}, "more": 1}),
        json!({"op": "delete", "key": "x"}),
    ] {
        assert!(serde_json::from_value::<Edit>(wrong.clone()).is_err(), "{wrong}");
    }
}

#[test]
fn a_document_may_be_so_large_and_no_larger() {
    // {"a":"…"} has eight bytes besides the text.
    let insert = |len| json!({"collection": "t", "op": "insert", "key": "k", "document": {"a": "x".repeat(len)}});
    assert!(edit(insert(FIELDS_BYTES_MAX - 8)).is_ok());
    let error = edit(insert(FIELDS_BYTES_MAX - 7)).expect_err("too large");
    assert_eq!(error, EditError::TooLarge { bytes: FIELDS_BYTES_MAX + 1 });

    let update =
        json!({"collection": "t", "op": "update", "key": "k", "patch": {"b": "x".repeat(20)}});
    let update = edit(update).expect("it makes sense");
    let whole = json!({"a": "x".repeat(FIELDS_BYTES_MAX - 20), "$revision": 3});
    let error = update.upon(found(3, 3, true), Some(&text(whole))).expect_err("too large together");
    assert!(matches!(error, EditError::TooLarge { .. }), "{error}");

    // The largest, with the largest revision, fits into a document.
    let largest = json!({"a": "x".repeat(FIELDS_BYTES_MAX - 8), "$revision": (1u64 << 53) - 1});
    assert!(largest.to_string().len() <= DOCUMENT_BYTES_MAX);
}

#[test]
fn foreign_events_in_the_stream_are_looked_past() {
    let recorded = |revision: u64, name: &str| RecordedEvent {
        position: GlobalPosition::new(revision + 100),
        stream: StreamName::new("todos-x").expect("a good name"),
        revision: Revision::new(revision),
        event_type: tidewire_eventstore::EventType::recorded(name).expect("a good name"),
        id: Uuid::nil().into(),
        recorded_at: Timestamp::default(),
        payload: Payload::Json("{}".into()),
        meta: None,
    };
    let newest_first = [recorded(7, "Noted"), recorded(6, DELETED), recorded(5, UPDATED)];
    assert_eq!(Found::from_newest(&newest_first), Some(found(7, 6, false)));
    assert_eq!(Found::from_newest(&newest_first[..1]), None);

    // The revision that is demanded is the edit's, the one that is expected the stream's.
    let delete = json!({"collection": "todos", "op": "delete", "key": "x", "revision": 5});
    let delete = edit(delete).expect("it makes sense");
    let step = delete.after(found(7, 5, true)).expect("it is there");
    let Step::Append(appending) = step else { panic!("{step:?}") };
    assert_eq!(appending.expected, ExpectedRevision::Exact(Revision::new(7)));
    assert_eq!(appending.edited, Edited { revision: Revision::new(8) });
}

#[test]
fn who_edits_what_is_gone_is_told_so() {
    let of = |op: &str, revision: Option<u64>| {
        let mut full = json!({"collection": "t", "op": op, "key": "k", "revision": revision});
        if op == "update" {
            full["patch"] = json!({});
        }
        edit(full).expect("it makes sense")
    };
    let gone = EditError::Conflict { document: None, revision: None };
    for op in ["update", "delete"] {
        assert_eq!(of(op, None).after(Found::default()), Err(EditError::NoSuchDocument));
        assert_eq!(of(op, Some(1)).after(Found::default()), Err(EditError::NoSuchDocument));
        assert_eq!(of(op, None).after(found(2, 2, false)), Err(EditError::NoSuchDocument));
        assert_eq!(of(op, Some(1)).after(found(2, 2, false)), Err(gone.clone()));
        assert_eq!(of(op, Some(1)).upon(found(1, 1, true), None), Err(gone.clone()));
    }
}

/// What a made-up client does with one document.
#[derive(Debug, Clone)]
struct Deed {
    key: &'static str,
    op: Operation,
    members: Value,
    /// How many revisions its picture is old; none: it demands nothing.
    old: Option<u64>,
}

fn deed() -> impl Strategy<Value = Deed> {
    let value = prop_oneof![
        Just(Value::Null),
        (0i64..3).prop_map(Value::from),
        Just(json!({"c": null, "d": 1}))
    ];
    let members = prop::collection::btree_map("[ab]", value, 0..3)
        .prop_map(|members| Value::Object(members.into_iter().collect()));
    let op = prop_oneof![
        2 => Just(Operation::Insert),
        4 => Just(Operation::Update),
        1 => Just(Operation::Delete),
    ];
    (prop::sample::select(vec!["x", "y"]), op, members, prop::option::of(0u64..2))
        .prop_map(|(key, op, members, old)| Deed { key, op, members, old })
}

proptest! {
    #[test]
    fn the_documents_are_those_of_the_edits_that_were_made(deeds in prop::collection::vec(deed(), 1..30)) {
        let todos = todos();
        let mut streams = BTreeMap::<&str, Vec<RecordedEvent>>::new();
        let mut log = Vec::new();
        // What is there, and at which revision.
        let mut model = BTreeMap::<&str, (Value, u64)>::new();
        for deed in deeds {
            let stream = streams.entry(deed.key).or_default();
            let present = model.get(deed.key).cloned();
            let demanded = match (&present, deed.old) {
                (Some((_, revision)), Some(old)) => revision.checked_sub(old),
                _ => None,
            };
            let mut asked = json!({"collection": "todos", "key": deed.key});
            match deed.op {
                Operation::Insert => {
                    asked["op"] = "insert".into();
                    asked["document"] = deed.members.clone();
                }
                Operation::Update => {
                    asked["op"] = "update".into();
                    asked["patch"] = deed.members.clone();
                    asked["revision"] = demanded.into();
                }
                Operation::Delete => {
                    asked["op"] = "delete".into();
                    asked["revision"] = demanded.into();
                }
            }
            let edit = edit(asked).expect("it makes sense");
            let newest: Vec<_> = stream.iter().rev().cloned().collect();
            let found = Found::from_newest(&newest).unwrap_or_default();
            let shown = present.as_ref().map(|(document, revision)| {
                let mut document = document.clone();
                document["$revision"] = (*revision).into();
                document
            });
            let made = edit.after(found).and_then(|step| match step {
                Step::Append(appending) => Ok(appending),
                Step::Look(_) => edit.upon(found, shown.clone().map(text).as_ref()),
            });
            let stale = demanded.is_some_and(|demanded| {
                present.as_ref().is_some_and(|(_, revision)| *revision != demanded)
            });
            match (deed.op, present) {
                (Operation::Insert, Some((_, revision))) => {
                    let revision = Some(Revision::new(revision));
                    prop_assert_eq!(made, Err(EditError::Conflict { document: shown, revision }));
                }
                (Operation::Update | Operation::Delete, None) => {
                    prop_assert_eq!(made, Err(EditError::NoSuchDocument));
                }
                (_, Some((_, revision))) if stale => {
                    let revision = Some(Revision::new(revision));
                    prop_assert_eq!(made, Err(EditError::Conflict { document: shown, revision }));
                }
                (op, present) => {
                    let appending = made.expect("nothing is in its way");
                    let end = stream.last().map(|event| event.revision);
                    let expected = end.map_or(ExpectedRevision::NoStream, ExpectedRevision::Exact);
                    prop_assert_eq!(appending.expected, expected);
                    let revision = appending.edited.revision;
                    let Payload::Json(data) = &appending.event.payload else { panic!("it is JSON") };
                    let data: Value = serde_json::from_slice(data).expect("it is JSON");
                    log.push(event(appending.stream.as_str(), appending.event.event_type.as_str(), data));
                    stream.push(RecordedEvent {
                        position: GlobalPosition::new(log.len() as u64),
                        stream: appending.stream,
                        revision,
                        event_type: appending.event.event_type,
                        id: Uuid::nil().into(),
                        recorded_at: Timestamp::default(),
                        payload: appending.event.payload,
                        meta: None,
                    });
                    match op {
                        Operation::Insert => {
                            model.insert(deed.key, (deed.members, revision.get()));
                        }
                        Operation::Update => {
                            let (mut document, _) = present.expect("it is there");
                            merge(&mut document, deed.members);
                            model.insert(deed.key, (document, revision.get()));
                        }
                        Operation::Delete => {
                            model.remove(deed.key);
                        }
                    }
                }
            }
        }
        let expected: Vec<_> = model
            .into_iter()
            .map(|(key, (mut document, revision))| {
                document["$revision"] = revision.into();
                (key, document)
            })
            .collect();
        Given::events(todos.as_ref(), log).then(expected);
    }
}
