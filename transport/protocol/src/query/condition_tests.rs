//! What conditions mean, a row a case, and how they are written.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::codes::ErrorCode;

fn condition(json: &Value) -> Condition {
    Condition::parse(json).unwrap_or_else(|error| panic!("{json}: {error}"))
}

#[test]
fn a_condition_holds_for_what_it_names() {
    let document = json!({
        "name": "ü-boot", "n": 3, "half": 0.5, "yes": true, "none": null, "list": [1],
        "sender": {"name": "ann", "age": 40}, "digits": "3",
    });
    for (json, holds) in [
        (json!({"eq": ["n", 3]}), true),
        (json!({"eq": ["n", 3.0]}), true),
        (json!({"eq": ["n", "3"]}), false),
        (json!({"eq": ["digits", 3]}), false),
        (json!({"eq": ["yes", true]}), true),
        (json!({"eq": ["none", null]}), true),
        (json!({"eq": ["absent", null]}), false),
        (json!({"eq": ["list", null]}), false),
        (json!({"eq": ["sender", null]}), false),
        (json!({"eq": ["sender.name", "ann"]}), true),
        (json!({"in": ["n", [1, 2, 3]]}), true),
        (json!({"in": ["n", [1, 2]]}), false),
        (json!({"in": ["n", []]}), false),
        (json!({"lt": ["n", 3]}), false),
        (json!({"lt": ["n", 3.5]}), true),
        (json!({"lte": ["n", 3]}), true),
        (json!({"gt": ["n", -1]}), true),
        (json!({"gt": ["n", 3]}), false),
        (json!({"gte": ["n", 3]}), true),
        (json!({"gt": ["half", 0]}), true),
        (json!({"lt": ["n", "a"]}), false),
        (json!({"gt": ["name", "u"]}), true),
        (json!({"gt": ["name", 0]}), false),
        (json!({"gt": ["yes", 0]}), false),
        (json!({"lt": ["none", 5]}), false),
        (json!({"lt": ["absent", 5]}), false),
        (json!({"lt": ["list", 5]}), false),
        (json!({"prefix": ["name", "ü"]}), true),
        (json!({"prefix": ["name", "b"]}), false),
        (json!({"prefix": ["n", "3"]}), false),
        (json!({"exists": "none"}), true),
        (json!({"exists": "sender.age"}), true),
        (json!({"exists": "sender.hat"}), false),
        (json!({"not": {"exists": "hat"}}), true),
        (json!({"not": {"lt": ["absent", 5]}}), true),
        (json!({"and": []}), true),
        (json!({"or": []}), false),
        (json!({"and": [{"eq": ["n", 3]}, {"eq": ["yes", false]}]}), false),
        (json!({"or": [{"eq": ["n", 3]}, {"eq": ["yes", false]}]}), true),
    ] {
        assert_eq!(condition(&json).matches(&document), holds, "{json}");
    }
}

#[test]
fn long_texts_are_compared_whole() {
    let longest = "x".repeat(Condition::TEXT_BYTES_MAX);
    let longer = json!({"t": format!("{longest}x")});
    let alike = json!({"t": longest.clone()});
    let equal = condition(&json!({"eq": ["t", longest]}));
    assert!(equal.matches(&alike) && !equal.matches(&longer));
    let greater = condition(&json!({"gt": ["t", longest]}));
    assert!(!greater.matches(&alike) && greater.matches(&longer));
    // The widest characters: the sort key is cut inside one, and so keeps least.
    let wide = json!({"t": format!("x{}", "🚢".repeat(100))});
    let cut = format!("x{}", "🚢".repeat(62));
    assert!(cut.len() <= Condition::TEXT_BYTES_MAX);
    assert!(!condition(&json!({"eq": ["t", cut]})).matches(&wide));
}

#[test]
fn what_is_no_condition_is_refused() {
    let deep = (0..Condition::DEPTH_MAX).fold(json!({"and": []}), |inner, _| json!({"not": inner}));
    let many: Vec<u32> = (0..Condition::NODES_MAX as u32).collect();
    for json in [
        json!([]),
        json!({}),
        json!("n"),
        json!({"eq": ["n", 1], "lt": ["n", 2]}),
        json!({"like": ["n", "%"]}),
        json!({"eq": ["n"]}),
        json!({"eq": ["n", 1, 2]}),
        json!({"eq": [1, 1]}),
        json!({"eq": ["", 1]}),
        json!({"eq": ["a..b", 1]}),
        json!({"eq": ["n", []]}),
        json!({"eq": ["n", {}]}),
        json!({"in": ["n", 1]}),
        json!({"in": ["n", [[]]]}),
        json!({"in": ["n", many]}),
        json!({"lt": ["n", null]}),
        json!({"gte": ["n", true]}),
        json!({"prefix": ["n", 1]}),
        json!({"exists": ["n"]}),
        json!({"exists": 1}),
        json!({"and": {}}),
        json!({"not": []}),
        json!({"eq": ["n", "x".repeat(Condition::TEXT_BYTES_MAX + 1)]}),
        deep,
    ] {
        let error = Condition::parse(&json).expect_err("it is no condition");
        assert_eq!(error.known(), Some(ErrorCode::InvalidQuery), "{json}");
        assert_eq!(error.details.expect("the part")["field"], "where", "{json}");
    }
}

#[test]
fn a_planner_is_told_of_equalities_and_fields() {
    let json = json!({"and": [
        {"eq": ["a", 1]},
        {"in": ["b", [1, 2]]},
        {"and": [{"eq": ["c.d", "x"]}, {"gt": ["a", 0]}]},
        {"or": [{"eq": ["e", 1]}]},
        {"not": {"eq": ["f", 1]}},
    ]});
    let condition = condition(&json);
    let equalities: Vec<_> =
        condition.equalities().into_iter().map(|(field, key)| (field.as_str(), key)).collect();
    let (one, x) = (SortKey::of([Some(&json!(1))]), SortKey::of([Some(&json!("x"))]));
    assert_eq!(equalities, [("a", &one), ("c.d", &x)]);
    let fields: Vec<_> = condition.fields().into_iter().map(FieldPath::as_str).collect();
    assert_eq!(fields, ["a", "b", "c.d", "e", "f"]);
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        prop::num::f64::NORMAL.prop_map(Value::from),
        (-3i64..3).prop_map(Value::from),
        ".{0,6}".prop_map(Value::from),
    ]
}

fn ordered_value() -> impl Strategy<Value = Value> {
    any_value().prop_filter("has an order", |it| it.is_number() || it.is_string())
}

fn any_condition() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        ("[abc]", any_value()).prop_map(|(field, value)| json!({"eq": [field, value]})),
        ("[abc]", prop::collection::vec(any_value(), 0..4))
            .prop_map(|(field, values)| json!({"in": [field, values]})),
        (prop::sample::select(vec!["lt", "lte", "gt", "gte"]), "[abc]", ordered_value())
            .prop_map(|(operator, field, value)| json!({operator: [field, value]})),
        ("[abc]", ".{0,3}").prop_map(|(field, text)| json!({"prefix": [field, text]})),
        "[abc]".prop_map(|field| json!({"exists": field})),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|list| json!({"and": list})),
            prop::collection::vec(inner.clone(), 0..4).prop_map(|list| json!({"or": list})),
            inner.prop_map(|condition| json!({"not": condition})),
        ]
    })
}

proptest! {
    #[test]
    fn a_condition_is_read_as_it_was_written(json in any_condition()) {
        let condition = condition(&json);
        let written = condition.to_json();
        prop_assert_eq!(Condition::parse(&written), Ok(condition), "{}", written);
    }

    #[test]
    fn equalities_hold_for_whatever_matches(
        json in any_condition(),
        document in prop::collection::btree_map("[abc]", any_value(), 0..4),
    ) {
        let condition = condition(&json);
        let document = json!(document);
        if condition.matches(&document) {
            for (field, value) in condition.equalities() {
                prop_assert_eq!(&SortKey::of([field.of(&document)]), value);
            }
        }
    }
}
