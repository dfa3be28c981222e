//! Where queries are looked up, a row a case.

use std::{num::NonZeroU32, sync::Arc};

use serde_json::{Value, json};
use tidewire_eventstore::{ProjectionName, Target};
use tidewire_protocol::query::Window;

use super::*;
use crate::Index;

fn field(path: &str) -> FieldPath {
    FieldPath::new(path).expect("a good path")
}

fn definition(indexes: &[&[&str]]) -> Definition {
    let index =
        |fields: &&[&str]| Index { fields: fields.iter().map(|path| field(path)).collect() };
    Definition {
        name: ProjectionName::new("mail").expect("a good name"),
        version: 1,
        target: Target::All,
        types: Vec::new(),
        fields: vec![field("size")],
        indexes: indexes.iter().map(index).collect(),
    }
}

fn query(condition: Option<Value>, order: Option<(&str, OrderDirection)>) -> Query {
    let condition =
        condition.map(|json| Arc::new(Condition::parse(&json).expect("a good condition")));
    let window = order.map(|(by, direction)| Window {
        order: Order { by: (!by.is_empty()).then(|| field(by)), direction },
        limit: NonZeroU32::MIN,
    });
    let projection = ProjectionName::new("mail").expect("a good name");
    Query { projection, key: None, condition, window }
}

#[test]
fn a_query_is_looked_up_where_the_least_has_to_be_looked_at() {
    use OrderDirection::{Ascending, Descending};
    let definition = definition(&[&["box", "at"], &["at"], &["box"], &["box", "from", "at"]]);
    let scan = |index, values: &[Value], direction| {
        let prefix = SortKey::of(values.iter().map(Some));
        Ok(Plan::Scan(Scan::Index { index, prefix, direction }))
    };
    let keys = |direction| Ok(Plan::Scan(Scan::Keys(direction)));
    let unindexed = |by| Err(QueryError::UnindexedOrder { by: field(by) });
    let in_box = || json!({"eq": ["box", "in"]});
    let both = || json!({"and": [{"eq": ["from", "a"]}, in_box()]});
    for (condition, order, expected) in [
        (None, None, keys(Ascending)),
        (None, Some(("", Descending)), keys(Descending)),
        (None, Some(("at", Descending)), scan(1, &[], Descending)),
        (None, Some(("size", Ascending)), unindexed("size")),
        (Some(in_box()), None, scan(0, &[json!("in")], Ascending)),
        (Some(in_box()), Some(("", Ascending)), scan(2, &[json!("in")], Ascending)),
        (Some(in_box()), Some(("", Descending)), keys(Descending)),
        (Some(in_box()), Some(("at", Descending)), scan(0, &[json!("in")], Descending)),
        (Some(both()), None, scan(3, &[json!("in"), json!("a")], Ascending)),
        (Some(both()), Some(("at", Ascending)), scan(3, &[json!("in"), json!("a")], Ascending)),
        (Some(json!({"gt": ["box", "in"]})), Some(("from", Ascending)), unindexed("from")),
        (Some(json!({"or": [in_box()]})), None, keys(Ascending)),
    ] {
        let query = query(condition, order);
        assert_eq!(plan(&query, &definition), expected, "{query:?}");
    }
}

#[test]
fn a_field_that_is_not_declared_is_named_with_those_that_are() {
    let definition = definition(&[&["box", "at"]]);
    let known = vec![field("at"), field("box"), field("size")];
    for query in [
        query(Some(json!({"not": {"exists": "nope"}})), None),
        query(None, Some(("nope", OrderDirection::Ascending))),
    ] {
        let expected = QueryError::UnknownField { field: field("nope"), known: known.clone() };
        assert_eq!(check(&query, &definition), Err(expected));
    }
}
