//! What nodes ask of a projection's owner.

use super::{
    LONG, Nodes, name, status,
    writing::{Writer, claim},
};
use crate::{StoreError, documents::Wish};

/// A wish of any node is told until it was followed, over changes of the owner.
pub async fn a_wish_is_told_until_it_was_followed(nodes: Nodes) {
    let nobody = nodes.one.wish(&name("board"), Wish::Rebuild).await;
    assert_eq!(nobody, Err(StoreError::Unknown));
    let writer = Writer::new(&nodes.one, "board").await;
    for wish in [Wish::Rebuild, Wish::Cancel, Wish::Resume, Wish::Skip] {
        nodes.other.wish(&name("board"), wish).await.expect("wished");
        assert_eq!(status(&*nodes.one, "board").await.wish, Some(wish));
    }
    nodes.one.release(&writer.held).await.expect("released");
    let held = claim(&*nodes.other, "board", LONG).await;
    assert_eq!(status(&*nodes.one, "board").await.wish, Some(Wish::Skip));
    nodes.other.wish_followed(&held, Wish::Skip).await.expect("followed");
    assert_eq!(status(&*nodes.one, "board").await.wish, None);
    nodes.other.wish_followed(&held, Wish::Skip).await.expect("nothing");
}

/// A wish that came while an older one was followed stays.
pub async fn only_the_wish_that_was_followed_is_forgotten(nodes: Nodes) {
    let writer = Writer::new(&nodes.one, "board").await;
    nodes.other.wish(&name("board"), Wish::Rebuild).await.expect("wished");
    nodes.other.wish(&name("board"), Wish::Cancel).await.expect("wished");
    nodes.one.wish_followed(&writer.held, Wish::Rebuild).await.expect("nothing");
    assert_eq!(status(&*nodes.one, "board").await.wish, Some(Wish::Cancel));
}
