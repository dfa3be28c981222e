//! Groups: shares of the streams, each with its own checkpoint, and how they change hands.

use tidewire_eventstore::{StreamHash, StreamName};
use tidewire_protocol::{Grant, Input, Offer, Sent};

use crate::scene::{SUB, Scene, secs, share};

const NOTHING: [&str; 0] = [];

fn partition(stream: &str) -> u8 {
    let stream = StreamName::new(stream).expect("a good name");
    StreamHash::of(&stream).partition().get()
}

/// A member with the partitions of streams `a` and `b`, at checkpoints 40 and 42.
fn member() -> Scene {
    assert!(partition("a") < partition("b"), "the texts below are in this order");
    let mut scene = Scene::new();
    assert_eq!(scene.claim(r#"{"group":"billing"}"#), ["claim billing after 100"]);
    let partitions = vec![share(partition("b"), 42), share(partition("a"), 40)];
    let grant = Grant { existed: true, partitions };
    let said = scene.hand_in(Input::Claimed { sub: SUB, claimed: Ok(grant) });
    assert_eq!(said, ["subscribed after 40, resumed", "open after 40"]);
    scene
}

fn named(stream: &str, rest: &str) -> String {
    format!("p{}@{rest}", partition(stream))
}

#[test]
fn what_a_partition_has_settled_is_not_delivered_again() {
    let mut scene = member();
    let offer = scene.offer(&[(41, "a"), (42, "b"), (43, "b")]);
    assert_eq!(offer, Offer { taken: 3, sent: Sent::Some(vec![0, 2]) });
    assert_eq!(scene.room(), 6);
}

#[test]
fn each_partition_has_its_checkpoint() {
    let mut scene = member();
    scene.deliver(&[(43, "a"), (44, "b"), (45, "a")]);
    scene.nack(&[44], r#""action":"skip""#);
    // Nothing of b is unsettled, so it is as far as the feed.
    assert_eq!(scene.pass(secs(1)), [format!("save {}", named("b", "45"))]);
    scene.hand_in(Input::Saved { sub: SUB, saved: Ok(()) });
    scene.ack(43);
    assert_eq!(scene.pass(secs(1)), [format!("save {}", named("a", "44"))]);
}

#[test]
fn a_rebalance_waits_until_the_client_has_settled_what_it_has() {
    let mut scene = member();
    scene.deliver(&[(43, "a"), (44, "b")]);
    assert_eq!(scene.hand_in(Input::Rebalance { sub: SUB }), NOTHING);
    assert_eq!(scene.room(), 0);
    assert_eq!(scene.ack(43), NOTHING);
    let said = scene.ack(44);
    let released = format!("release clean {} {}", named("a", "44"), named("b", "44"));
    assert_eq!(said, ["shut".to_owned(), released, "unsubscribed rebalanced".to_owned()]);
}

#[test]
fn a_rebalance_waits_no_longer_than_it_may() {
    let mut scene = member();
    scene.deliver(&[(43, "a"), (44, "b")]);
    scene.hand_in(Input::Rebalance { sub: SUB });
    let said = scene.pass(secs(5));
    assert_eq!(said.last().map(String::as_str), Some("unsubscribed rebalanced"));
    assert!(said[said.len() - 2].starts_with("release clean"), "{said:?}");
}

#[test]
fn a_rebalance_does_not_wait_for_retries() {
    let mut scene = member();
    scene.deliver(&[(43, "a")]);
    scene.retry_in(&[43], 60000);
    let said = scene.hand_in(Input::Rebalance { sub: SUB });
    let released = format!("release clean {} 43#1 {}", named("a", "42"), named("b", "43"));
    assert_eq!(said, ["shut".to_owned(), released, "unsubscribed rebalanced".to_owned()]);
}

#[test]
fn a_member_may_be_given_nothing_and_waits() {
    let mut scene = Scene::new();
    scene.claim(r#"{"group":"billing"}"#);
    let grant = Grant { existed: true, partitions: Vec::new() };
    let said = scene.hand_in(Input::Claimed { sub: SUB, claimed: Ok(grant) });
    assert_eq!(said, ["subscribed after 100, resumed", "open after 100"]);
    let said = scene.hand_in(Input::Rebalance { sub: SUB });
    assert_eq!(said, ["shut", "release clean", "unsubscribed rebalanced"]);
}

#[test]
fn only_consumers_are_taken_or_rebalanced() {
    let mut scene = Scene::acking(8);
    assert_eq!(scene.hand_in(Input::Rebalance { sub: SUB }), NOTHING);
    assert_eq!(scene.hand_in(Input::Taken { sub: SUB }), NOTHING);
    assert_eq!(scene.room(), 8);
}
