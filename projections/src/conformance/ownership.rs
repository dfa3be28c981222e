//! Who writes a projection: claims, leases and fences.

use std::time::{Duration, Instant};

use tidewire_eventstore::Timestamp;

use super::{
    LONG, LOOK, Nodes, SHORT, assert_fenced, at, name, status,
    writing::{Writer, claim, document, owner},
};
use crate::{
    StoreError,
    documents::{Held, NODE_BYTES_MAX, Wish},
};

/// While one owner's lease runs, nobody else is given the projection; everybody sees whose it is.
pub async fn one_node_owns_a_projection(nodes: Nodes) {
    let unknown = nodes.one.claim(&name("board"), owner("one"), LONG).await;
    assert_eq!(unknown, Err(StoreError::Unknown));
    nodes.one.register(&name("board"), 1).await.expect("registered");
    let fence = nodes.one.claim(&name("board"), owner("one"), LONG).await;
    let fence = fence.expect("the store answers").expect("nobody owns it");
    assert_eq!(nodes.other.claim(&name("board"), owner("other"), LONG).await, Ok(None));
    assert_eq!(nodes.one.claim(&name("board"), owner("one"), LONG).await, Ok(None), "another id");

    let seen = status(&*nodes.other, "board").await;
    assert_eq!(seen.fence, fence);
    let (node, until) = seen.owner.expect("it is owned");
    assert_eq!(&*node, "one");
    let left = until.as_micros() - Timestamp::now().as_micros();
    let lease = i64::try_from(LONG.as_micros()).expect("minutes");
    assert!((lease / 2..=lease + 60_000_000).contains(&left), "{left} µs are left");
}

/// Who claims again what it owns gets it, and what it did with the older fence is refused.
pub async fn who_claims_again_is_fenced_from_itself(nodes: Nodes) {
    nodes.one.register(&name("board"), 1).await.expect("registered");
    let me = owner("one");
    let first = nodes.one.claim(&name("board"), me.clone(), LONG).await;
    let first = first.expect("the store answers").expect("nobody owns it");
    let second = nodes.other.claim(&name("board"), me, LONG).await;
    let second = second.expect("the store answers").expect("it is its own");
    assert!(second > first, "{first:?} {second:?}");
    let held = |fence| Held { name: name("board"), fence };
    assert_fenced(nodes.one.renew(&held(first), LONG).await, "the older fence");
    nodes.one.renew(&held(second), LONG).await.expect("the newer one");
}

/// What was released can be claimed at once; and who released it is out, even if a renewal of the
/// same lease comes late.
pub async fn what_is_released_is_free_at_once(nodes: Nodes) {
    let writer = Writer::new(&nodes.one, "board").await;
    nodes.one.release(&writer.held).await.expect("released");
    assert_eq!(status(&*nodes.other, "board").await.owner, None);
    assert_fenced(nodes.one.renew(&writer.held, LONG).await, "a renewal after the release");
    assert_fenced(nodes.one.commit(writer.to(1, Vec::new())).await, "a commit after the release");
    let next = claim(&*nodes.other, "board", LONG).await;
    nodes.one.release(&writer.held).await.expect("nothing");
    assert_eq!(nodes.one.claim(&name("board"), owner("third"), LONG).await, Ok(None));
    nodes.other.renew(&next, LONG).await.expect("still the owner");
}

/// Who does not renew loses the projection to whoever comes, not before the lease is over.
pub async fn a_lease_runs_out(nodes: Nodes) {
    let mut dead = Writer::new(&nodes.one, "board").await;
    dead.put("a", &document("g", 1)).await;
    let since = Instant::now();
    nodes.one.renew(&dead.held, SHORT).await.expect("renewed");
    let next = loop {
        if let Some(fence) =
            nodes.other.claim(&name("board"), owner("next"), LONG).await.expect("it answers")
        {
            break fence;
        }
        tokio::time::sleep(LOOK).await;
    };
    assert!(since.elapsed() >= SHORT, "not before the lease is over");
    assert!(next > dead.held.fence);
    assert_fenced(nodes.one.renew(&dead.held, LONG).await, "who was dead");
    let write = dead.change(2, "a", Some(&document("g", 2)));
    assert_fenced(nodes.one.commit(dead.to(2, vec![write])).await, "who was dead");
    assert_eq!(dead.documents(&["a"]).await[0].position, at(1));
    let mut alive = dead.under(next);
    alive.put("a", &document("g", 3)).await;
}

/// Who renews keeps the projection.
pub async fn what_is_renewed_stays(nodes: Nodes) {
    nodes.one.register(&name("board"), 1).await.expect("registered");
    let held = claim(&*nodes.one, "board", SHORT).await;
    nodes.one.renew(&held, LONG).await.expect("renewed");
    let since = Instant::now();
    while since.elapsed() < SHORT * 2 {
        assert_eq!(nodes.other.claim(&name("board"), owner("other"), LONG).await, Ok(None));
        tokio::time::sleep(LOOK).await;
    }
    assert!(status(&*nodes.other, "board").await.owner.is_some());
}

/// A lease that ran out while nobody else came begins again with a renewal; and what came under it
/// in between is taken.
pub async fn a_late_owner_goes_on_where_nobody_came(nodes: Nodes) {
    let mut late = Writer::new(&nodes.one, "board").await;
    nodes.one.renew(&late.held, Duration::from_millis(1)).await.expect("renewed");
    while status(&*nodes.other, "board").await.owner.is_some() {
        tokio::time::sleep(LOOK).await;
    }
    late.put("a", &document("g", 1)).await;
    nodes.one.renew(&late.held, LONG).await.expect("nobody came");
    assert_eq!(nodes.other.claim(&name("board"), owner("other"), LONG).await, Ok(None));
}

/// Nothing that comes with an old fence has an effect.
pub async fn an_old_fence_changes_nothing(nodes: Nodes) {
    let mut old = Writer::new(&nodes.one, "board").await;
    old.put("a", &document("g", 1)).await;
    old.delete("a").await;
    let built = old.rebuild().await;
    nodes.one.wish(&name("board"), Wish::Rebuild).await.expect("wished");
    nodes.one.release(&old.held).await.expect("released");
    let new = claim(&*nodes.other, "board", LONG).await;
    let before = status(&*nodes.other, "board").await;
    let without_time = |status: crate::documents::Status| {
        let owner = status.owner.map(|(node, _)| node);
        (status.active, status.building, owner, status.fence, status.wish)
    };

    let (store, held) = (&nodes.one, &old.held);
    assert_fenced(store.renew(held, LONG).await, "renew");
    assert_fenced(store.begin_generation(held, 3).await, "begin_generation");
    assert_fenced(store.swap(held, built.generation).await, "swap");
    assert_fenced(store.give_up(held, built.generation).await, "give_up");
    assert_fenced(store.wish_followed(held, Wish::Rebuild).await, "wish_followed");
    assert_fenced(store.set_stopped(held, old.generation, None).await, "set_stopped");
    assert_fenced(store.commit(old.to(3, Vec::new())).await, "commit");
    assert_fenced(store.commit(built.to(3, Vec::new())).await, "commit to the other");
    assert_fenced(store.sweep(held, 0, 10).await, "sweep");
    store.release(held).await.expect("nothing");
    assert_eq!(without_time(status(&*store.clone(), "board").await), without_time(before));
    assert_eq!(old.changes(0, 10).await.changes.len(), 1, "the tombstone is there");
    nodes.other.renew(&new, LONG).await.expect("the owner");
}

/// What was held before a projection was forgotten is void for one of the same name that came
/// later, however often that was claimed.
pub async fn fences_never_come_again(nodes: Nodes) {
    let mut old = Vec::new();
    nodes.one.register(&name("board"), 1).await.expect("registered");
    for _ in 0..3 {
        let held = claim(&*nodes.one, "board", LONG).await;
        nodes.one.release(&held).await.expect("released");
        old.push(held);
    }
    nodes.one.forget(&name("board")).await.expect("forgotten");
    nodes.one.register(&name("board"), 1).await.expect("registered");
    for _ in 0..4 {
        let held = claim(&*nodes.other, "board", LONG).await;
        for old in &old {
            assert!(old.fence < held.fence);
            assert_fenced(nodes.one.renew(old, LONG).await, "from before");
        }
        nodes.other.release(&held).await.expect("released");
    }
}

/// A node's name is for people: what is too long is cut, at a character.
pub async fn nodes_names_are_shortened(nodes: Nodes) {
    nodes.one.register(&name("board"), 1).await.expect("registered");
    let long = format!("n{}", "é".repeat(NODE_BYTES_MAX));
    let claimed = nodes.one.claim(&name("board"), owner(&long), LONG).await;
    claimed.expect("the store answers").expect("nobody owns it");
    let (node, _) = status(&*nodes.other, "board").await.owner.expect("it is owned");
    assert_eq!(node.len(), NODE_BYTES_MAX - 1);
    assert!(long.starts_with(&*node));
}
