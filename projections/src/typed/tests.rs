//! How events and documents become Rust types, and what does not.

use serde::{Deserialize, Serialize};
use serde_json::json;
use tidewire_eventstore::Target;

use super::*;
use crate::kit::{Given, event};

#[derive(Debug, Deserialize, PartialEq)]
enum Shapes {
    Unit,
    Newtype(String),
    Tuple(u8, u8),
    Struct {
        a: i64,
    },
    #[serde(rename = "renamed-type", alias = "old-type")]
    Renamed {},
}

#[test]
fn every_shape_of_a_variant_is_read() {
    for (event_type, data, expected) in [
        ("Unit", r#"{"whatever": [1]}"#, Shapes::Unit),
        ("Unit", "null", Shapes::Unit),
        ("Newtype", r#""text""#, Shapes::Newtype("text".into())),
        ("Tuple", "[1, 2]", Shapes::Tuple(1, 2)),
        ("Struct", r#"{"a": -3, "more": 1}"#, Shapes::Struct { a: -3 }),
        ("renamed-type", "{}", Shapes::Renamed {}),
        ("old-type", "{}", Shapes::Renamed {}),
    ] {
        let read: Shapes = event_data::read(event_type, data.as_bytes()).expect("it fits");
        assert_eq!(read, expected, "{event_type} {data}");
    }
    for (event_type, data) in
        [("Struct", "{}"), ("Struct", r#"{"a": "x"}"#), ("Tuple", "[1]"), ("Other", "{}")]
    {
        assert!(event_data::read::<Shapes>(event_type, data.as_bytes()).is_err(), "{data}");
    }
}

#[test]
fn data_can_be_read_without_an_enum() {
    #[derive(Deserialize, PartialEq, Debug)]
    struct Plain {
        a: Option<u8>,
    }
    assert_eq!(event_data::read::<Plain>("Any", br#"{"a": 1}"#).expect("it fits").a, Some(1));
    assert_eq!(event_data::read::<Value>("Any", b"[1, {}]").expect("it fits"), json!([1, {}]));
    assert_eq!(event_data::types::<Plain>(), None);
    assert_eq!(event_data::types::<Value>(), None);
}

#[derive(Serialize, Deserialize)]
struct Sum {
    sum: i64,
}

fn sums(builder: Builder) -> Result<impl Projection, DefinitionError> {
    builder.by_stream(|sum: Option<Sum>, event: &Event<'_, Shapes>| {
        let sum = sum.map_or(0, |sum| sum.sum);
        match &event.data {
            Shapes::Struct { a } => Some(Sum { sum: sum + a }),
            _ => None,
        }
    })
}

#[test]
fn the_definition_is_what_was_said_and_the_types_those_of_the_enum() {
    let builder = projection("sums", 3).category("thing").field("a.b").index(["sum", "a.b"]);
    let sums = sums(builder).expect("the definition is right");
    let definition = sums.definition();
    assert_eq!((definition.name.as_str(), definition.version), ("sums", 3));
    assert!(matches!(&definition.target, Target::Category(name) if name.as_str() == "thing"));
    let mut types: Vec<_> = definition.types.iter().map(|name| name.as_str()).collect();
    types.sort_unstable();
    types.dedup();
    assert_eq!(types, ["Newtype", "Struct", "Tuple", "Unit", "old-type", "renamed-type"]);
    let fields: Vec<_> = definition.fields.iter().map(|path| path.as_str()).collect();
    assert_eq!(fields, ["a.b"]);
    let index: Vec<_> = definition.indexes[0].fields.iter().map(|path| path.as_str()).collect();
    assert_eq!(index, ["sum", "a.b"]);
}

#[test]
fn what_cannot_be_is_told() {
    for (builder, message) in [
        (
            projection("", 1),
            "`` is no name: the name, or the category before its first `-`, is empty",
        ),
        (projection("$x", 1), "`$x` is no name: names that begin with `$` are reserved"),
        (
            projection("x", 1).category("a\n"),
            "`a\n` is no name: the name contains a control character",
        ),
        (projection("x", 1).field("a..b"), "`a..b` is no path to a field"),
        (projection("x", 1).index([]), "index 0 has no fields"),
        (
            projection("x", 1).index(["a", "b", "c", "d", "e"]),
            "there are 5 fields of an index; at most 4 are allowed",
        ),
    ] {
        let error = sums(builder).err().expect("it is wrong");
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn an_erased_event_is_passed_over_and_binary_data_refused() {
    let sums = sums(projection("sums", 1)).expect("the definition is right");
    let added = |stream| event(stream, "Struct", json!({"a": 2}));
    Given::events(&sums, [added("thing-a-b"), added("thing-a-b").payload(Payload::Erased)])
        .then([("a-b", json!({"sum": 2}))]);
    let binary = Payload::Binary { content_type: "application/cbor".into(), data: "x".into() };
    Given::nothing(&sums).when(added("thing-1").payload(binary)).then_refused("event_unreadable");
}

#[test]
fn a_stream_without_an_id_has_a_document_too() {
    let sums = sums(projection("sums", 1)).expect("the definition is right");
    let added = |stream| event(stream, "Struct", json!({"a": 2}));
    Given::events(&sums, [added("total"), added("odd-")])
        .then([("total", json!({"sum": 2})), ("odd-", json!({"sum": 2}))]);
}

#[test]
fn a_document_that_no_longer_fits_its_type_refuses_the_event() {
    let patched = projection("sums", 1)
        .by_stream(|_: Option<Sum>, _: &Event<'_, Shapes>| {
            Change::<Sum>::Patch(json!({"sum": "many"}))
        })
        .expect("the definition is right");
    let added = event("thing-1", "Struct", json!({"a": 2}));
    Given::events(&patched, [added.clone()]).when(added).then_refused("document_unreadable");
}

#[test]
fn too_many_keys_and_bad_ones_are_refused() {
    let spread = projection("spread", 1)
        .by_keys(
            |event: &Event<'_, Shapes>| {
                let Shapes::Struct { a } = event.data else { return Vec::new() };
                if a < 0 {
                    vec![String::new()]
                } else {
                    (0..a).map(|key| key.to_string()).collect()
                }
            },
            |_, _: Option<Sum>, _| Some(Sum { sum: 1 }),
        )
        .expect("the definition is right");
    let of = |a: i64| event("thing-1", "Struct", json!({"a": a}));
    let given = || Given::events(&spread, [of(2)]);
    given().when(of(1)).then([("0", Sum { sum: 1 }), ("1", Sum { sum: 1 })]);
    given().when(of(1001)).then_refused("too_many_keys");
    given().when(of(-1)).then_refused("key_empty");
}

#[test]
fn metadata_and_the_moment_can_be_asked_for() {
    #[derive(Deserialize)]
    struct Meta {
        user: String,
    }
    let last = projection("last", 1)
        .types(["Struct"])
        .by_stream(|_: Option<Value>, event: &Event<'_, Value>| {
            let user = event.meta::<Meta>()?.map(|meta| meta.user);
            let at = event.at().as_micros();
            Ok(Some(json!({"by": user, "at": at, "revision": event.recorded().revision})))
        })
        .expect("the definition is right");
    let at = Timestamp::from_micros(7);
    let done = |stream| event(stream, "Struct", json!(null)).at(at);
    Given::events(&last, [done("thing-1"), done("thing-1").meta(json!({"user": "ada"}))])
        .then([("1", json!({"by": "ada", "at": 7, "revision": 1}))]);
    Given::nothing(&last).when(done("thing-1").meta(json!([]))).then_refused("event_unreadable");
}
