//! What is deleted for good.

use tidewire_eventstore::{DocumentKey, Generation, GlobalPosition};
use tidewire_protocol::query::OrderDirection;

use super::{
    Nodes, at, name, status,
    writing::{Writer, document, keys},
};
use crate::{
    DocumentStore, StoreError,
    documents::{ChangesRead, PageRead, Scan},
};

/// Sweeps until there is no more to do; how many steps it took.
async fn sweep(writer: &Writer, kept: u64, limit: usize) -> usize {
    let mut steps = 1;
    while writer.store.sweep(&writer.held, kept, limit).await.expect("the owner sweeps") {
        steps += 1;
        assert!(steps < 1000, "a sweep ends");
    }
    steps
}

/// Whether a generation can be read, three ways.
async fn is_readable(store: &dyn DocumentStore, generation: Generation, key: DocumentKey) -> bool {
    let after = GlobalPosition::START;
    let changes = store.changes(ChangesRead { generation, after, limit: 10 }).await;
    let scan = Scan::Keys(OrderDirection::Ascending);
    let page = store.page(PageRead { generation, scan, after: None, limit: 10 }).await;
    let found = store.documents(generation, vec![key]).await.expect("the store answers");
    match (changes, page) {
        (Ok(_), Ok(page)) => {
            assert_eq!((page.documents.len().min(1), found.len()), (1, 1));
            true
        }
        (Err(StoreError::Unknown), Err(StoreError::Unknown)) => false,
        other => panic!("readable in one way alone: {other:?}"),
    }
}

/// Of the deleted documents as many as asked for stay, the newest; those that are there are not
/// touched, and neither are those that came back.
pub async fn the_newest_tombstones_are_kept(nodes: Nodes) {
    let mut writer = Writer::new(&nodes.one, "board").await;
    for number in 0..10 {
        writer.put(&format!("{number}"), &document("g", number)).await;
    }
    for number in [3, 1, 4, 5, 9, 2] {
        writer.delete(&format!("{number}")).await;
    }
    writer.put("3", &document("g", 33)).await;
    assert_eq!(sweep(&writer, 6, 10).await, 1, "there are no more than that");
    assert_eq!(writer.changes(0, 100).await.changes.len(), 10);
    sweep(&writer, 2, 100).await;
    let changes = writer.changes_to_the_end(0, 100).await;
    let gone: Vec<_> = changes.iter().filter(|change| change.2.is_none()).collect();
    assert_eq!(gone.iter().map(|change| &*change.0).collect::<Vec<_>>(), ["9", "2"]);
    assert_eq!(keys(&writer.all().await), ["0", "3", "6", "7", "8"]);
    sweep(&writer, 0, 1).await;
    assert_eq!(keys(&writer.all().await), ["0", "3", "6", "7", "8"]);
    assert_eq!(writer.changes(0, 100).await.changes.len(), 5);
    writer.put("1", &document("g", 1)).await;
    assert_eq!(writer.documents(&["1"]).await.len(), 1);
}

/// Who read before something that was swept is told that the changes are not everything; who read
/// after it is not bothered.
pub async fn who_comes_after_a_sweep_is_told(nodes: Nodes) {
    let mut writer = Writer::new(&nodes.one, "board").await;
    for of in ["a", "b", "c"] {
        writer.put(of, &document("g", 1)).await;
    }
    writer.delete("a").await;
    writer.delete("b").await;
    writer.delete("c").await;
    writer.put("d", &document("g", 1)).await;
    assert!(writer.changes(0, 10).await.complete);
    sweep(&writer, 1, 10).await;
    for (after, complete) in [(0, false), (3, false), (4, false), (5, true), (6, true), (7, true)] {
        assert_eq!(writer.changes(after, 10).await.complete, complete, "after {after}");
    }
    assert_eq!(status(&*nodes.other, "board").await.active.changes_from, at(5));
    // What is deleted and swept later never lowers it.
    sweep(&writer, 1, 10).await;
    assert_eq!(status(&*nodes.other, "board").await.active.changes_from, at(5));
}

/// What nobody reads any more is deleted in bounded steps, and from the first of them on is gone
/// for readers: nobody sees a part.
pub async fn retired_generations_go_in_steps(nodes: Nodes) {
    let mut old = Writer::new(&nodes.one, "board").await;
    let writes =
        (0..250).map(|n| old.change(1, &format!("{n:03}"), Some(&document("g", n)))).collect();
    old.commit(1, writes).await.expect("the owner writes");
    let mut new = old.rebuild().await;
    new.put("a", &document("g", 1)).await;
    assert_eq!(sweep(&new, 0, 100).await, 1, "nothing is retired");
    assert_eq!(nodes.one.swap(&new.held, new.generation).await, Ok(true));
    let last = super::key("249");
    assert!(is_readable(&*nodes.other, old.generation, last.clone()).await);
    let more = nodes.one.sweep(&new.held, 0, 100).await;
    assert_eq!(more, Ok(true), "so many do not go at once");
    let read = ChangesRead { generation: old.generation, after: at(0), limit: 10 };
    assert_eq!(nodes.other.changes(read).await, Err(StoreError::Unknown));
    let steps = sweep(&new, 0, 100).await;
    assert!((2..=20).contains(&steps), "{steps} steps");
    assert!(!is_readable(&*nodes.other, old.generation, last).await);
    assert!(is_readable(&*nodes.other, new.generation, super::key("a")).await);

    // A rebuild that was given up goes the same way.
    let mut begun = new.rebuild().await;
    begun.put("a", &document("g", 1)).await;
    nodes.one.give_up(&new.held, begun.generation).await.expect("the owner gives up");
    sweep(&new, 0, 100).await;
    assert!(!is_readable(&*nodes.other, begun.generation, super::key("a")).await);
}

/// Where forgetting a projection was cut short, the rest goes with the next sweep of any other.
pub async fn forgotten_ones_go_with_any_sweep(nodes: Nodes) {
    let mut writer = Writer::new(&nodes.one, "board").await;
    let beside = Writer::new(&nodes.one, "beside").await;
    let writes =
        (0..5000).map(|n| writer.change(1, &format!("{n:04}"), Some(&document("g", n)))).collect();
    writer.commit(1, writes).await.expect("the owner writes");
    nodes.one.release(&writer.held).await.expect("released");
    let briefly = std::time::Duration::from_millis(2);
    let _ = tokio::time::timeout(briefly, nodes.one.forget(&name("board"))).await;
    // Cut short or not, before it took effect or after.
    let forgotten = nodes.other.forget(&name("board")).await.expect("the store answers");
    let _ = forgotten;
    assert_eq!(nodes.other.status(&name("board")).await, Ok(None));
    sweep(&beside, 0, 1000).await;
    assert!(!is_readable(&*nodes.one, writer.generation, super::key("0000")).await);
    let found = nodes.one.documents(writer.generation, vec![super::key("4999")]).await;
    assert_eq!(found, Ok(Vec::new()));
}
