//! Which projections there are.

use tidewire_eventstore::GlobalPosition;

use super::{
    LONG, Nodes, SHORT, at, name, status,
    writing::{Writer, document, owner},
};
use crate::{StoreError, documents::ChangesRead};

/// A projection is there for every node once one has registered it, empty and at the beginning of
/// the log; who comes later changes nothing.
pub async fn a_projection_is_registered_once(nodes: Nodes) {
    assert_eq!(nodes.one.status(&name("board")).await, Ok(None));
    let first = nodes.one.register(&name("board"), 3).await.expect("registered");
    assert_eq!((&first.name, first.active.version), (&name("board"), 3));
    assert_eq!(first.active.checkpoint, GlobalPosition::START);
    assert_eq!(first.active.changes_from, GlobalPosition::START);
    assert!(first.active.generation.get() >= 1, "generations count from 1");
    assert_eq!((first.active.parked, &first.active.stopped), (0, &None));
    assert_eq!((&first.building, &first.owner, first.wish), (&None, &None, None));
    assert_eq!(nodes.other.register(&name("board"), 4).await, Ok(first.clone()));
    assert_eq!(status(&*nodes.other, "board").await, first);

    let mut writer = Writer::new(&nodes.one, "board").await;
    writer.put("a", &document("g", 1)).await;
    let again = nodes.other.register(&name("board"), 3).await.expect("registered");
    assert_eq!((again.active.checkpoint, again.active.generation), (at(1), writer.generation));
}

/// Nodes that start at once make one projection.
pub async fn registrations_at_the_same_time_share_one(nodes: Nodes) {
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..16 {
        let node = if number % 2 == 0 { nodes.one.clone() } else { nodes.other.clone() };
        tasks.spawn(async move { node.register(&name("board"), 1).await.expect("registered") });
    }
    let mut statuses = tasks.join_all().await;
    statuses.dedup();
    assert_eq!(statuses.len(), 1, "{statuses:?}");
    assert_eq!(nodes.one.statuses().await, Ok(statuses));
}

/// All projections are told by name, each with generations of its own.
pub async fn projections_are_listed_by_name(nodes: Nodes) {
    assert_eq!(nodes.one.statuses().await, Ok(Vec::new()));
    for of in ["b", "a-2", "a", "ä", "B"] {
        nodes.one.register(&name(of), 1).await.expect("registered");
    }
    let statuses = nodes.other.statuses().await.expect("the store answers");
    let names: Vec<_> = statuses.iter().map(|status| status.name.as_str()).collect();
    assert_eq!(names, ["B", "a", "a-2", "b", "ä"], "in the order of their bytes");
    let mut generations: Vec<_> = statuses.iter().map(|status| status.active.generation).collect();
    generations.sort();
    generations.dedup();
    assert_eq!(generations.len(), 5, "a generation belongs to one projection");
}

/// A name is what its bytes are.
pub async fn names_are_kept_exactly(nodes: Nodes) {
    let long = "é".repeat(100);
    let all = ["it's", "It's", "\"%_\\", "a b", "e\u{301}", "\u{e9}", &long];
    for of in all {
        nodes.one.register(&name(of), 1).await.expect("registered");
    }
    for of in all {
        assert_eq!(status(&*nodes.other, of).await.name, name(of));
    }
    assert_eq!(nodes.one.statuses().await.expect("the store answers").len(), all.len());
    assert_eq!(nodes.one.status(&name("IT'S")).await, Ok(None));
}

/// A forgotten projection leaves nothing behind, and one of its name that comes later has nothing
/// to do with it.
pub async fn a_forgotten_projection_is_gone(nodes: Nodes) {
    assert_eq!(nodes.one.forget(&name("board")).await, Ok(false));
    let mut writer = Writer::new(&nodes.one, "board").await;
    let mut beside = Writer::new(&nodes.one, "beside").await;
    beside.put("a", &document("g", 7)).await;
    for number in 0..5 {
        writer.put(&format!("key-{number}"), &document("g", number)).await;
    }
    let mut built = writer.rebuild().await;
    built.put("a", &document("g", 1)).await;
    nodes.one.release(&writer.held).await.expect("released");
    assert_eq!(nodes.other.forget(&name("board")).await, Ok(true));
    assert_eq!(nodes.other.forget(&name("board")).await, Ok(false));
    assert_eq!(nodes.one.status(&name("board")).await, Ok(None));
    for generation in [writer.generation, built.generation] {
        let read = ChangesRead { generation, after: GlobalPosition::START, limit: 10 };
        assert_eq!(nodes.one.changes(read).await, Err(StoreError::Unknown));
    }
    let claimed = nodes.one.claim(&name("board"), owner("node"), LONG).await;
    assert_eq!(claimed, Err(StoreError::Unknown));

    let again = nodes.one.register(&name("board"), 1).await.expect("registered");
    assert!(again.active.generation > built.generation, "a generation is never used again");
    assert_eq!(again.active.checkpoint, GlobalPosition::START);
    assert_eq!(beside.documents(&["a"]).await.len(), 1, "others are not touched");
}

/// What a node owns is not forgotten under it; once its lease has run out, it is.
pub async fn an_owned_projection_is_not_forgotten(nodes: Nodes) {
    nodes.one.register(&name("board"), 1).await.expect("registered");
    let held = super::writing::claim(&*nodes.one, "board", LONG).await;
    assert_eq!(nodes.other.forget(&name("board")).await, Err(StoreError::Owned));
    assert_eq!(status(&*nodes.other, "board").await.fence, held.fence);
    nodes.one.renew(&held, SHORT).await.expect("renewed");
    loop {
        match nodes.other.forget(&name("board")).await {
            Err(StoreError::Owned) => tokio::time::sleep(super::LOOK).await,
            forgotten => break assert_eq!(forgotten, Ok(true)),
        }
    }
    super::assert_fenced(nodes.one.renew(&held, LONG).await, "a projection that is gone");
}

/// Nothing is answered after closing, and nothing hangs.
pub async fn a_closed_store_answers_nothing(nodes: Nodes) {
    let writer = Writer::new(&nodes.one, "board").await;
    nodes.one.close().await;
    nodes.one.close().await;
    assert_eq!(nodes.one.statuses().await, Err(StoreError::Unavailable));
    assert_eq!(nodes.one.commit(writer.to(1, Vec::new())).await, Err(StoreError::Unavailable));
}
