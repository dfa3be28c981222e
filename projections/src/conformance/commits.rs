//! What one commit does, and what it does not.

use bytes::Bytes;
use serde_json::json;
use tidewire_eventstore::GlobalPosition;
use tidewire_protocol::query::OrderDirection;

use super::{
    LONG, Nodes, at, key, status,
    writing::{BY_NUMBER, Writer, claim, document, keys, text},
};
use crate::{
    StoreError,
    documents::{Commit, Parked, Scan, Stopped},
};

/// After a commit both its documents and its checkpoint are there, for every node.
pub async fn documents_and_checkpoint_are_one(nodes: Nodes) {
    let mut writer = Writer::new(&nodes.one, "board").await;
    let writes = vec![
        writer.change(3, "a", Some(&document("g", 1))),
        writer.change(7, "b", Some(&document("g", 2))),
    ];
    writer.commit(9, writes).await.expect("the owner writes");
    let seen = status(&*nodes.other, "board").await.active;
    assert_eq!((seen.checkpoint, seen.generation), (at(9), writer.generation));

    let reader = Writer { store: nodes.other.clone(), ..writer };
    let found = reader.documents(&["b", "missing", "a"]).await;
    let found: Vec<_> = found
        .iter()
        .map(|found| (found.key.as_str(), found.position.get(), found.data.clone()))
        .collect();
    let (a, b) = (text(&document("g", 1)), text(&document("g", 2)));
    assert_eq!(found, [("a", 3, a), ("b", 7, b)]);
    assert!(reader.documents(&[]).await.is_empty());
}

/// A document is what its last change made of it, wherever it is looked for.
pub async fn documents_come_and_go_and_come_back(nodes: Nodes) {
    let mut writer = Writer::new(&nodes.one, "board").await;
    let by_number = Scan::Index {
        index: BY_NUMBER,
        prefix: Default::default(),
        direction: OrderDirection::Ascending,
    };
    writer.put("a", &document("g", 1)).await;
    writer.put("b", &document("g", 2)).await;
    writer.put("a", &document("g", 3)).await;
    assert_eq!(writer.documents(&["a"]).await[0].data, text(&document("g", 3)));
    let order = |page: crate::documents::DocumentPage| {
        let keys = page.documents.into_iter().map(|(place, _)| place.key.to_string());
        keys.collect::<Vec<_>>()
    };
    assert_eq!(order(writer.page(&by_number, None, 10).await), ["b", "a"]);
    writer.delete("b").await;
    writer.delete("never-there").await;
    assert!(writer.documents(&["b", "never-there"]).await.is_empty());
    assert_eq!(keys(&writer.all().await), ["a"]);
    assert_eq!(order(writer.page(&by_number, None, 10).await), ["a"]);
    writer.put("b", &document("g", 0)).await;
    assert_eq!(keys(&writer.all().await), ["a", "b"]);
    assert_eq!(order(writer.page(&by_number, None, 10).await), ["b", "a"]);
}

/// A checkpoint moves over events that changed nothing; one that stays where it is is compared
/// all the same.
pub async fn a_commit_of_nothing_moves_the_checkpoint(nodes: Nodes) {
    let mut writer = Writer::new(&nodes.one, "board").await;
    for position in [1000, 1000, 1001] {
        writer.commit(position, Vec::new()).await.expect("the owner writes");
        assert_eq!(status(&*nodes.other, "board").await.active.checkpoint, at(position));
    }
    let late = Commit { expected: at(1000), ..writer.to(1000, Vec::new()) };
    assert_eq!(nodes.one.commit(late).await, Err(StoreError::Conflict));
    let changes = writer.changes(0, 10).await;
    assert_eq!((changes.through, changes.changes.len()), (at(1001), 0));
}

/// A commit that does not begin at the checkpoint leaves nothing behind.
pub async fn a_commit_from_elsewhere_applies_nothing(nodes: Nodes) {
    let mut writer = Writer::new(&nodes.one, "board").await;
    writer.put("a", &document("g", 1)).await;
    writer.put("gone", &document("g", 1)).await;
    writer.delete("gone").await;
    let before = (writer.changes(0, 10).await, status(&*nodes.one, "board").await);
    for expected in [2, 4, 0] {
        let mut elsewhere = writer.clone();
        elsewhere.at = expected;
        let writes = vec![
            elsewhere.change(9, "a", Some(&document("other", 2))),
            elsewhere.change(9, "b", Some(&document("other", 2))),
            elsewhere.change(9, "gone", Some(&document("other", 2))),
        ];
        let parked = vec![Parked { position: at(9), reason: "bad".into() }];
        let commit = Commit { parked, ..elsewhere.to(9, writes) };
        assert_eq!(nodes.other.commit(commit).await, Err(StoreError::Conflict), "{expected}");
    }
    assert_eq!((writer.changes(0, 10).await, status(&*nodes.one, "board").await), before);
    let all = Scan::Index {
        index: BY_NUMBER,
        prefix: Default::default(),
        direction: OrderDirection::Ascending,
    };
    assert_eq!(writer.page(&all, None, 10).await.documents.len(), 1);
    let parked = nodes.one.parked(writer.generation, GlobalPosition::START, 10).await;
    assert_eq!(parked, Ok(Vec::new()));
    writer.put("a", &document("g", 2)).await;
}

/// A commit that is sent twice, because its answer was lost, takes effect once.
pub async fn what_was_committed_is_not_applied_again(nodes: Nodes) {
    let mut writer = Writer::new(&nodes.one, "board").await;
    let write = writer.change(1, "a", Some(&document("g", 1)));
    let commit = writer.to(1, vec![write]);
    nodes.one.commit(commit.clone()).await.expect("the owner writes");
    assert_eq!(nodes.one.commit(commit.clone()).await, Err(StoreError::Conflict));
    assert_eq!(nodes.other.commit(commit).await, Err(StoreError::Conflict));
    assert_eq!(status(&*nodes.one, "board").await.active.checkpoint, at(1));
}

/// What is kept of a document is its text, byte for byte, whatever JSON has in it.
pub async fn bytes_come_back_verbatim(nodes: Nodes) {
    let mut writer = Writer::new(&nodes.one, "board").await;
    let texts = [
        "{}",
        " { \"b\" : 1,\n\t\"a\":[ ] } ",
        "{\"a\": 1e400, \"a\": 12345678901234567890.50}",
        "{\"nul\": \"\\u0000\", \"pair\": \"\\ud83d\\ude00\", \"raw\": \"😀\"}",
        "{\"quote\": \"'\\\"$1%s?\"}",
    ];
    let mut writes = Vec::new();
    for (number, text) in (1..).zip(texts) {
        let write = writer.change(number, &format!("key-{number}"), Some(&json!({})));
        writes.push(crate::documents::Write {
            data: Some(Bytes::from_static(text.as_bytes())),
            ..write
        });
    }
    writer.commit(5, writes).await.expect("the owner writes");
    for (number, document) in writer.all().await.into_iter().enumerate() {
        assert_eq!(document.data, texts[number]);
    }
    for (number, (_, _, data)) in writer.changes(0, 10).await.changes.into_iter().enumerate() {
        assert_eq!(data.as_deref(), Some(texts[number].as_bytes()));
    }
}

/// Events that were put aside are counted and listed; one that is put aside again is there once.
pub async fn parked_events_are_listed_in_pages(nodes: Nodes) {
    let mut writer = Writer::new(&nodes.one, "board").await;
    let parked =
        |position: u64| Parked { position: at(position), reason: format!("no {position}") };
    let commit = Commit { parked: vec![parked(9), parked(2), parked(5)], ..writer.to(9, vec![]) };
    nodes.one.commit(commit).await.expect("the owner writes");
    writer.at = 9;
    let commit = Commit { parked: vec![parked(9), parked(11)], ..writer.to(11, vec![]) };
    nodes.one.commit(commit).await.expect("the owner writes");
    let listed = |after: u64, limit| nodes.other.parked(writer.generation, at(after), limit);
    assert_eq!(listed(0, 2).await, Ok(vec![parked(2), parked(5)]));
    assert_eq!(listed(5, 10).await, Ok(vec![parked(9), parked(11)]));
    assert_eq!(listed(11, 10).await, Ok(vec![]));
    assert_eq!(status(&*nodes.other, "board").await.active.parked, 4);
    let other = Writer::new(&nodes.one, "beside").await;
    let beside = nodes.one.parked(other.generation, GlobalPosition::START, 10).await;
    assert_eq!(beside, Ok(Vec::new()));
}

/// Why a generation stopped is told until it goes on; the other generation is not touched.
pub async fn a_generation_stops_and_goes_on(nodes: Nodes) {
    let writer = Writer::new(&nodes.one, "board").await;
    let built = writer.rebuild().await;
    let stopped = Stopped { position: Some(at(7)), reason: "poison".into() };
    let (store, held) = (&nodes.one, &writer.held);
    let set = store.set_stopped(held, writer.generation, Some(stopped.clone())).await;
    set.expect("the owner says so");
    let seen = status(&*nodes.other, "board").await;
    assert_eq!(seen.active.stopped, Some(stopped.clone()));
    assert_eq!(seen.building.and_then(|built| built.stopped), None);

    let elsewhere = Stopped { position: None, reason: "no room".into() };
    let set = store.set_stopped(held, built.generation, Some(elsewhere.clone())).await;
    set.expect("the owner says so");
    store.set_stopped(held, writer.generation, None).await.expect("the owner says so");
    let seen = status(&*nodes.other, "board").await;
    assert_eq!(seen.active.stopped, None);
    assert_eq!(seen.building.and_then(|built| built.stopped), Some(elsewhere));

    let other = Writer::new(&nodes.one, "beside").await;
    let set = store.set_stopped(held, other.generation, Some(stopped)).await;
    assert_eq!(set, Err(StoreError::Conflict), "another projection's");
    assert_eq!(status(&*nodes.other, "beside").await.active.stopped, None);
}

/// Projections whose documents have the same keys have nothing to do with each other.
pub async fn projections_do_not_meet(nodes: Nodes) {
    let mut a = Writer::new(&nodes.one, "a").await;
    let mut b = Writer::new(&nodes.other, "b").await;
    a.put("same", &document("g", 1)).await;
    b.put("same", &document("g", 2)).await;
    b.put("same", &document("g", 3)).await;
    a.delete("same").await;
    assert!(a.all().await.is_empty());
    assert_eq!(b.documents(&["same"]).await[0].data, text(&document("g", 3)));
    let across = Commit { generation: b.generation, expected: at(2), ..a.to(9, vec![]) };
    assert_eq!(nodes.one.commit(across).await, Err(StoreError::Conflict), "not its generation");
    assert_eq!(status(&*nodes.one, "b").await.active.checkpoint, at(2));
}

/// A commit whose caller goes away happens whole or not at all, and the next one is as good as
/// any.
pub async fn a_commit_cut_short_is_whole_or_nothing(nodes: Nodes) {
    let mut writer = Writer::new(&nodes.one, "board").await;
    for round in 0..40_u32 {
        let from = status(&*nodes.one, "board").await.active.checkpoint.get();
        assert!(from.is_multiple_of(100), "{from}");
        writer.at = from;
        let writes = (1..=100)
            .map(|number| {
                let number = from + number;
                writer.change(number, &format!("key-{number}"), Some(&document("g", 1)))
            })
            .collect();
        let commit = writer.to(from + 100, writes);
        let budget = std::time::Duration::from_micros(u64::from(round) * 150);
        let _ = tokio::time::timeout(budget, nodes.one.commit(commit)).await;
    }
    // Under the fence of another claim nothing is still going on.
    nodes.one.release(&writer.held).await.expect("released");
    let held = claim(&*nodes.one, "board", LONG).await;
    let reached = status(&*nodes.other, "board").await.active.checkpoint.get();
    let found = writer.all().await;
    assert_eq!(found.len() as u64, reached);
    let mut next = writer.under(held.fence);
    next.at = reached;
    next.put("last", &document("g", 1)).await;
    assert_eq!(next.documents(&["last"]).await[0].key, key("last"));
}
