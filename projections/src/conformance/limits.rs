//! How much is too much.

use bytes::Bytes;
use serde_json::json;
use tidewire_eventstore::{DocumentKey, GlobalPosition};
use tidewire_protocol::query::{OrderDirection, SortKey};

use super::{
    Nodes, at, key, status,
    writing::{BY_NUMBER, Writer, document},
};
use crate::{
    StoreError,
    documents::{
        COMMIT_WRITES_MAX, Commit, DOCUMENT_BYTES_MAX, Parked, REASON_BYTES_MAX, Scan, Stopped,
        Write,
    },
};

/// A document of so many bytes.
fn of_bytes(bytes: usize) -> Bytes {
    let frame = "{\"text\":\"\"}".len();
    format!("{{\"text\":\"{}\"}}", "x".repeat(bytes - frame)).into()
}

/// A commit that is not what it has to be is refused whole, and told apart from one that comes
/// too late.
pub async fn what_is_too_much_is_refused(nodes: Nodes) {
    let mut writer = Writer::new(&nodes.one, "board").await;
    writer.put("there", &document("g", 1)).await;
    let good = |number: usize| Write {
        key: key(&format!("key-{number}")),
        position: at(2),
        data: Some(Bytes::from_static(b"{}")),
        indexed_before: Vec::new(),
        indexed_after: Vec::new(),
    };
    let many = (0..=COMMIT_WRITES_MAX).map(good).collect();
    let large = Write { data: Some(of_bytes(DOCUMENT_BYTES_MAX + 1)), ..good(1) };
    let too_early = Write { position: at(1), ..good(1) };
    let too_late = Write { position: at(10), ..good(1) };
    for (what, writes) in [
        ("too many writes", many),
        ("a large document", vec![good(0), large]),
        ("a write at the old checkpoint", vec![good(0), too_early]),
        ("a write after the new checkpoint", vec![good(0), too_late]),
        ("a document twice", vec![good(0), good(1), good(0)]),
    ] {
        let refused = nodes.one.commit(writer.to(9, writes)).await;
        assert!(matches!(refused, Err(StoreError::Refused { .. })), "{what}: {refused:?}");
    }
    let back = Commit { position: GlobalPosition::START, ..writer.to(1, vec![]) };
    let refused = nodes.one.commit(back).await;
    assert!(matches!(refused, Err(StoreError::Refused { .. })), "back: {refused:?}");
    assert_eq!(status(&*nodes.one, "board").await.active.checkpoint, at(1));
    assert_eq!(writer.all().await.len(), 1);
}

/// The longest key, the largest document and the longest entries are kept.
pub async fn what_is_just_allowed_is_kept(nodes: Nodes) {
    let mut writer = Writer::new(&nodes.one, "board").await;
    let longest = ["k".repeat(DocumentKey::BYTES_MAX), "é".repeat(DocumentKey::BYTES_MAX / 2)];
    let value = json!("\u{0}".repeat(SortKey::TEXT_BYTES_MAX));
    let entry = SortKey::of([Some(&value), Some(&value), Some(&value), Some(&value)]);
    let data = of_bytes(DOCUMENT_BYTES_MAX);
    let writes = longest.iter().map(|of| Write {
        key: key(of),
        position: at(1),
        data: Some(data.clone()),
        indexed_before: Vec::new(),
        indexed_after: vec![entry.clone(); 8],
    });
    let writes: Vec<_> = writes.collect();
    writer.commit(1, writes.clone()).await.expect("the owner writes");
    for of in &longest {
        assert_eq!(writer.documents(&[of]).await[0].data, data);
    }
    let scan = |index| Scan::Index {
        index,
        prefix: SortKey::of([Some(&value)]),
        direction: OrderDirection::Descending,
    };
    for index in 0..8 {
        let page = writer.page(&scan(index), None, 10).await;
        let found: Vec<_> = page.documents.iter().map(|(place, _)| place.key.as_str()).collect();
        assert_eq!(found, longest, "index {index}");
        assert_eq!(page.documents[0].0.entry, entry);
    }
    let gone = writes.into_iter().map(|write| Write {
        position: at(2),
        data: None,
        indexed_before: write.indexed_after,
        indexed_after: Vec::new(),
        ..write
    });
    writer.commit(2, gone.collect()).await.expect("the owner writes");
    assert!(writer.page(&scan(7), None, 10).await.documents.is_empty());
    assert_eq!(writer.changes(1, 10).await.changes.len(), 2);
}

/// As many writes as a commit may have are one commit, and can be asked for at once.
pub async fn the_largest_commit_is_one_commit(nodes: Nodes) {
    let mut writer = Writer::new(&nodes.one, "board").await;
    let names: Vec<_> = (0..COMMIT_WRITES_MAX).map(|number| format!("key-{number:05}")).collect();
    let change = |writer: &mut Writer, position| -> Vec<_> {
        let numbered = (0..).zip(&names);
        numbered.map(|(n, of)| writer.change(position, of, Some(&document("g", n)))).collect()
    };
    let writes = change(&mut writer, 1);
    writer.commit(1, writes).await.expect("the owner writes");
    let writes = change(&mut writer, 2);
    writer.commit(2, writes).await.expect("the owner writes over it");
    let asked: Vec<&str> = names.iter().map(String::as_str).collect();
    let found = writer.documents(&asked).await;
    assert_eq!(found.len(), COMMIT_WRITES_MAX);
    assert!(found.iter().all(|document| document.position == at(2)));
    let all = Scan::Index {
        index: BY_NUMBER,
        prefix: SortKey::default(),
        direction: OrderDirection::Ascending,
    };
    let pages = writer.pages(all, 1000).await;
    assert_eq!(pages.iter().map(Vec::len).sum::<usize>(), COMMIT_WRITES_MAX);
    let deletions = names.iter().map(|of| writer.change(3, of, None)).collect();
    writer.commit(3, deletions).await.expect("the owner deletes it all");
    assert!(writer.all().await.is_empty());
}

/// Reasons are for people: what is too long is cut, at a character, and nothing in them stands in
/// the way.
pub async fn what_is_for_people_is_shortened(nodes: Nodes) {
    let writer = Writer::new(&nodes.one, "board").await;
    let long = format!("\u{0}{}", "é".repeat(REASON_BYTES_MAX));
    let parked = vec![Parked { position: at(1), reason: long.clone() }];
    let commit = Commit { parked, ..writer.to(1, vec![]) };
    nodes.one.commit(commit).await.expect("the owner writes");
    let stopped = Stopped { position: None, reason: long.clone() };
    let set = nodes.one.set_stopped(&writer.held, writer.generation, Some(stopped)).await;
    set.expect("the owner says so");
    let parked = nodes.one.parked(writer.generation, GlobalPosition::START, 10).await;
    let parked = parked.expect("the store answers").remove(0).reason;
    let stopped = status(&*nodes.one, "board").await.active.stopped.expect("it is").reason;
    for kept in [parked, stopped] {
        assert_eq!(kept.len(), REASON_BYTES_MAX - 1);
        assert!(long[1..].starts_with(&kept[1..]));
    }
}
