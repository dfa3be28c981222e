//! Rebuilds beside what is read, and the swap.

use tidewire_eventstore::{Generation, GlobalPosition};

use super::{
    Nodes, at, status,
    writing::{Writer, document, keys, text},
};
use crate::StoreError;

/// A rebuild fills a generation of its own from the beginning; what is read stays what it is and
/// goes on.
pub async fn a_rebuild_stands_beside_what_is_read(nodes: Nodes) {
    let mut active = Writer::new(&nodes.one, "board").await;
    active.put("a", &document("old", 1)).await;
    active.put("b", &document("old", 2)).await;
    let mut built = active.rebuild().await;
    assert!(built.generation > active.generation);
    let seen = status(&*nodes.other, "board").await;
    assert_eq!(seen.active.generation, active.generation);
    let building = seen.building.expect("it is being built");
    assert_eq!((building.generation, building.version), (built.generation, 2));
    assert_eq!(building.checkpoint, GlobalPosition::START);
    assert!(building.began_at >= seen.active.began_at);
    assert!(built.all().await.is_empty());

    built.put("a", &document("new", 1)).await;
    active.put("c", &document("old", 3)).await;
    assert_eq!(keys(&active.all().await), ["a", "b", "c"]);
    assert_eq!(built.all().await[0].data, text(&document("new", 1)));
    assert_eq!(active.documents(&["a"]).await[0].data, text(&document("old", 1)));
    let seen = status(&*nodes.other, "board").await;
    assert_eq!(seen.active.checkpoint, at(3));
    assert_eq!(seen.building.map(|building| building.checkpoint), Some(at(1)));
}

/// What is built becomes active once it has come as far, and from then on it alone is.
pub async fn a_swap_waits_for_what_is_built(nodes: Nodes) {
    let mut old = Writer::new(&nodes.one, "board").await;
    for number in 1..=3 {
        old.put("a", &document("old", number)).await;
    }
    let mut new = old.rebuild().await;
    for number in 1..=2 {
        new.put("a", &document("new", number)).await;
        assert_eq!(nodes.one.swap(&new.held, new.generation).await, Ok(false), "behind");
        assert_eq!(status(&*nodes.other, "board").await.active.generation, old.generation);
    }
    new.put("a", &document("new", 3)).await;
    assert_eq!(nodes.one.swap(&new.held, new.generation).await, Ok(true));
    let seen = status(&*nodes.other, "board").await;
    assert_eq!((seen.active.generation, seen.active.version), (new.generation, 2));
    assert_eq!((seen.active.checkpoint, seen.building), (at(3), None));
    new.put("a", &document("new", 4)).await;
    let write = old.change(4, "a", Some(&document("old", 4)));
    assert_eq!(old.commit(4, vec![write]).await, Err(StoreError::Conflict), "it is retired");
    let stopped = crate::documents::Stopped { position: None, reason: "late".into() };
    let stopped = nodes.one.set_stopped(&old.held, old.generation, Some(stopped)).await;
    assert_eq!(stopped, Err(StoreError::Conflict));
}

/// Nothing but the generation that is being built is swapped in.
pub async fn only_what_is_built_is_swapped(nodes: Nodes) {
    let active = Writer::new(&nodes.one, "board").await;
    let other = Writer::new(&nodes.one, "beside").await.rebuild().await;
    let swap = async |generation| nodes.one.swap(&active.held, generation).await;
    assert_eq!(swap(active.generation).await, Err(StoreError::Conflict), "nothing is built");
    let built = active.rebuild().await;
    for wrong in [active.generation, other.generation, Generation::new(1 << 40)] {
        assert_eq!(swap(wrong).await, Err(StoreError::Conflict), "{wrong}");
    }
    assert_eq!(swap(built.generation).await, Ok(true));
    assert_eq!(swap(built.generation).await, Err(StoreError::Conflict), "it was");
    assert_eq!(swap(active.generation).await, Err(StoreError::Conflict), "no way back");
}

/// A rebuild that was begun anew, or given up, takes no more commits and is never read.
pub async fn a_rebuild_begun_again_or_given_up_is_void(nodes: Nodes) {
    let mut active = Writer::new(&nodes.one, "board").await;
    let mut first = active.rebuild().await;
    first.put("a", &document("g", 1)).await;
    let second = active.rebuild().await;
    assert!(second.generation > first.generation);
    assert_eq!(first.commit(2, Vec::new()).await, Err(StoreError::Conflict));
    assert_eq!(nodes.one.swap(&active.held, first.generation).await, Err(StoreError::Conflict));
    let give_up = async |generation| nodes.one.give_up(&active.held, generation).await;
    assert_eq!(give_up(first.generation).await, Err(StoreError::Conflict));
    assert_eq!(give_up(active.generation).await, Err(StoreError::Conflict));
    let building = status(&*nodes.other, "board").await.building;
    assert_eq!(building.map(|building| building.generation), Some(second.generation));

    give_up(second.generation).await.expect("the owner gives up");
    assert_eq!(status(&*nodes.other, "board").await.building, None);
    assert_eq!(give_up(second.generation).await, Err(StoreError::Conflict));
    let late = nodes.one.commit(second.to(1, Vec::new())).await;
    assert_eq!(late, Err(StoreError::Conflict));
    active.put("a", &document("g", 2)).await;
}

/// Who follows a generation is told, with its changes, that it is not the active one any more.
pub async fn whoever_reads_the_old_one_learns_of_the_swap(nodes: Nodes) {
    let mut old = Writer::new(&nodes.one, "board").await;
    old.put("a", &document("old", 1)).await;
    let mut new = old.rebuild().await;
    assert!(old.changes(0, 10).await.active);
    assert!(!new.changes(0, 10).await.active);
    new.put("a", &document("new", 1)).await;
    assert_eq!(nodes.one.swap(&new.held, new.generation).await, Ok(true));
    assert!(new.changes(0, 10).await.active);
    let page = old.changes(0, 10).await;
    assert!(!page.active);
    assert_eq!(page.changes.len(), 1, "until it is swept it is there");
}
