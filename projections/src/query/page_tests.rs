//! Pages against a naive filter and sort over the documents.

use std::{collections::BTreeMap, num::NonZeroU32, sync::Arc, time::Duration};

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::json;
use tidewire_eventstore::{DocumentKey, ProjectionName, Target};
use tidewire_protocol::query::{
    Condition, FieldPath, Order, OrderDirection, SortKey, WINDOW_MAX, Window,
};
use uuid::Uuid;

use super::*;
use crate::{
    Index, MemoryDocuments,
    documents::{COMMIT_WRITES_MAX, Commit, Held, Owner, Write},
    query::{Rank, Ranking, SCAN_MAX, check},
};

fn field(path: &str) -> FieldPath {
    FieldPath::new(path).expect("a good path")
}

fn definition() -> Definition {
    let index = |fields: &[&str]| Index { fields: fields.iter().map(|path| field(path)).collect() };
    Definition {
        name: ProjectionName::new("things").expect("a good name"),
        version: 1,
        target: Target::All,
        types: Vec::new(),
        fields: vec![field("c")],
        indexes: vec![index(&["a", "b"]), index(&["b"]), index(&["a"])],
    }
}

/// Fills a store with documents, whose last change is at a position of its own each.
async fn filled(
    definition: &Definition,
    documents: &BTreeMap<DocumentKey, Value>,
) -> (MemoryDocuments, Generation) {
    let store = MemoryDocuments::new();
    let status = store.register(&definition.name, 1).await.expect("memory");
    let owner = Owner { id: Uuid::nil(), node: "n".into() };
    let fence = store.claim(&definition.name, owner, Duration::from_secs(60)).await;
    let fence = fence.expect("memory").expect("nobody else claims it");
    let held = Held { name: definition.name.clone(), fence };
    let generation = status.active.generation;
    let entries = |value: &Value| {
        let of = |index: &Index| SortKey::of(index.fields.iter().map(|field| field.of(value)));
        definition.indexes.iter().map(of).collect()
    };
    let mut position = GlobalPosition::START;
    let all: Vec<_> = documents.iter().collect();
    for some in all.chunks(COMMIT_WRITES_MAX) {
        let expected = position;
        let mut write = |(key, value): &(&DocumentKey, &Value)| {
            position = position.next();
            Write {
                key: (*key).clone(),
                position,
                data: Some(Bytes::from(value.to_string())),
                indexed_before: Vec::new(),
                indexed_after: entries(value),
            }
        };
        let writes = some.iter().map(&mut write).collect();
        let (held, parked) = (held.clone(), Vec::new());
        let commit = Commit { held, generation, expected, position, writes, parked, sql: None };
        store.commit(commit).await.expect("a good commit");
    }
    (store, generation)
}

/// Every document of a query, page by page.
async fn read_all(
    store: &MemoryDocuments,
    generation: Generation,
    query: &Query,
    limit: usize,
) -> Vec<StoredDocument> {
    let definition = definition();
    let (mut all, mut cursor): (Vec<_>, Option<String>) = Default::default();
    loop {
        let read = page(store, &definition, generation, query, cursor.as_deref(), limit);
        let read = read.await.expect("a good query");
        assert!(read.documents.len() <= limit);
        assert_eq!(read.more(), read.next.is_some());
        all.extend(read.documents);
        match read.next {
            Some(next) => cursor = Some(next),
            None => return all,
        }
    }
}

/// What the query selects, by looking at everything.
fn naive(documents: &BTreeMap<DocumentKey, Value>, query: &Query) -> Vec<DocumentKey> {
    let order = query.window.as_ref().map(|window| window.order.clone()).unwrap_or_default();
    let ranking = Ranking::new(order);
    let mut ranked: Vec<(Rank, DocumentKey)> = documents
        .iter()
        .filter(|(key, _)| query.key.as_ref().is_none_or(|only| only == *key))
        .filter(|(_, value)| query.condition.as_ref().is_none_or(|all| all.matches(value)))
        .map(|(key, value)| (ranking.of(key, value), key.clone()))
        .collect();
    ranked.sort();
    ranked.into_iter().map(|(_, key)| key).collect()
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!(null)),
        Just(json!(true)),
        (0..4).prop_map(|number| json!(number)),
        "[xy]{0,2}".prop_map(Value::from),
        Just(json!([1])),
    ]
}

fn document() -> impl Strategy<Value = Value> {
    let fields = [prop::option::of(value()), prop::option::of(value()), prop::option::of(value())];
    fields.prop_map(|values| {
        let named = ["a", "b", "c"].into_iter().zip(values);
        let members = named.filter_map(|(name, value)| Some((name.to_owned(), value?)));
        Value::Object(members.collect())
    })
}

fn condition() -> impl Strategy<Value = Condition> {
    let path = prop::sample::select(vec!["a", "b", "c"]).prop_map(field);
    let scalar = value().prop_filter("a value to compare with", |value| !value.is_array());
    let key = scalar.prop_map(|value| SortKey::of([Some(&value)]));
    let leaf = (path, key, 0..6).prop_map(|(path, key, operator)| match operator {
        0 => Condition::Less(path, key),
        1 => Condition::AtLeast(path, key),
        2 => Condition::Exists(path),
        _ => Condition::In(path, [key].into()),
    });
    leaf.prop_recursive(2, 6, 3, |inner| {
        let list = prop::collection::vec(inner.clone(), 1..3);
        prop_oneof![
            3 => list.clone().prop_map(Condition::And),
            1 => list.prop_map(Condition::Or),
            1 => inner.prop_map(|condition| Condition::Not(Box::new(condition))),
        ]
    })
}

fn query() -> impl Strategy<Value = Query> {
    let by = prop::sample::select(vec![None, Some("a"), Some("b")]);
    let direction =
        prop::sample::select(vec![OrderDirection::Ascending, OrderDirection::Descending]);
    let order = (by, direction).prop_map(|(by, direction)| Order { by: by.map(field), direction });
    let key = prop::option::weighted(0.1, "[kl]{1,2}");
    (prop::option::of(condition()), prop::option::of(order), key).prop_map(
        |(condition, order, key)| {
            let limit = NonZeroU32::new(WINDOW_MAX).expect("it is not zero");
            Query {
                projection: definition().name,
                key: key.and_then(|key| DocumentKey::new(&key).ok()),
                condition: condition.map(Arc::new),
                window: order.map(|order| Window { order, limit }),
            }
        },
    )
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

proptest! {
    #[test]
    fn pages_hold_what_looking_at_everything_finds(
        documents in prop::collection::btree_map("[kl]{1,4}", document(), 0..40),
        queries in prop::collection::vec(query(), 1..8),
        limit in 1..12_usize,
    ) {
        let documents: BTreeMap<_, _> = documents
            .into_iter()
            .map(|(key, value)| (DocumentKey::new(&key).expect("a good key"), value))
            .collect();
        runtime().block_on(async {
            let (store, generation) = filled(&definition(), &documents).await;
            for query in &queries {
                if check(query, &definition()).is_err() {
                    continue;
                }
                let found = read_all(&store, generation, query, limit).await;
                let mut keys: Vec<_> = found.into_iter().map(|found| found.key).collect();
                let mut expected = naive(&documents, query);
                if query.window.is_none() {
                    keys.sort();
                    expected.sort();
                }
                assert_eq!(keys, expected, "{query:?}");
            }
        });
    }
}

#[tokio::test]
async fn a_page_looks_at_so_many_documents_and_no_more() {
    let count = SCAN_MAX + 500;
    let documents: BTreeMap<_, _> = (0..count)
        .map(|number| {
            let key = DocumentKey::new(&format!("{number:06}")).expect("a good key");
            (key, json!({"c": number == count - 1}))
        })
        .collect();
    let (store, generation) = filled(&definition(), &documents).await;
    let condition = Condition::In(field("c"), [SortKey::of([Some(&json!(true))])].into());
    let query =
        Query { condition: Some(Arc::new(condition)), ..Query::all(definition().name.clone()) };
    let first = page(&store, &definition(), generation, &query, None, 10).await.expect("good");
    assert!(first.documents.is_empty() && first.more());
    let rest = page(&store, &definition(), generation, &query, first.next.as_deref(), 10).await;
    let rest = rest.expect("good");
    assert_eq!(rest.documents.len(), 1);
    assert!(!rest.more());
    assert_eq!(rest.reached.position, GlobalPosition::new(count as u64));
}

#[tokio::test]
async fn a_page_ends_where_it_grows_large() {
    let text = "x".repeat(200_000);
    let documents: BTreeMap<_, _> = (0..10)
        .map(|number| {
            let key = DocumentKey::new(&format!("{number}")).expect("a good key");
            (key, json!({ "c": text }))
        })
        .collect();
    let (store, generation) = filled(&definition(), &documents).await;
    let query = Query::all(definition().name);
    let first = page(&store, &definition(), generation, &query, None, 10).await.expect("good");
    assert!((1..10).contains(&first.documents.len()) && first.more());
    assert_eq!(read_all(&store, generation, &query, 10).await.len(), 10);
}

#[tokio::test]
async fn a_cursor_of_another_generation_is_refused_and_one_key_has_one_page() {
    let (store, generation) = filled(&definition(), &BTreeMap::new()).await;
    let query = Query::all(definition().name);
    let key = DocumentKey::new("a").expect("a good key");
    let place = crate::documents::Place { entry: SortKey::default(), key: key.clone() };
    let old = cursor::write(&query, Generation::new(generation.get() + 1), &place);
    let read = page(&store, &definition(), generation, &query, Some(&old), 10).await;
    assert_eq!(read, Err(QueryError::StaleCursor));
    let one = Query { key: Some(key), ..query };
    let cursor = cursor::write(&one, generation, &place);
    let read = page(&store, &definition(), generation, &one, Some(&cursor), 10).await;
    assert_eq!(read, Err(QueryError::InvalidCursor));
    let gone = page(&store, &definition(), Generation::new(999), &one, None, 10).await;
    assert_eq!(gone, Err(QueryError::Store(StoreError::Unknown)));
}
