//! Who is charged an attempt, and when.

use std::time::Duration;

use tidewire_protocol::{Input, Offer, Sent};

use crate::scene::{SUB, Scene, at, secs};

const NOTHING: [&str; 0] = [];

#[test]
fn only_the_oldest_is_sent_again_and_charged_then_parked() {
    let mut scene = Scene::acking(8);
    scene.deliver(&[(1, "a"), (2, "a"), (3, "b")]);
    assert_eq!(scene.pass(Duration::from_millis(4_999)), NOTHING);
    assert_eq!(scene.pass(Duration::from_millis(1)), ["event 1#2"]);
    assert_eq!(scene.pass(Duration::from_millis(9_999)), NOTHING, "twice as long");
    assert_eq!(scene.pass(Duration::from_millis(1)), ["event 1#3"]);
    assert_eq!(scene.pass(Duration::from_millis(19_999)), NOTHING);
    assert_eq!(scene.pass(Duration::from_millis(1)), ["parked [1]: attempts spent"]);
    // On with the next, whose time begins now.
    assert_eq!(scene.pass(Duration::from_millis(4_999)), NOTHING);
    assert_eq!(scene.pass(Duration::from_millis(1)), ["event 2#2"]);
}

#[test]
fn the_time_begins_when_the_kernel_has_accepted_the_event() {
    let mut scene = Scene::acking(8);
    scene.offer(&[(1, "a")]);
    scene.now += secs(60);
    assert_eq!(scene.hand_in(Input::Live { sub: SUB, position: at(1) }), ["live 1"]);
    scene.accept();
    scene.now += Duration::from_millis(4_999);
    assert_eq!(scene.hand_in(Input::Accepted), NOTHING);
    scene.now += Duration::from_millis(1);
    assert_eq!(scene.hand_in(Input::Accepted), ["event 1#2"]);
}

#[test]
fn each_ack_restarts_the_time_of_the_oldest() {
    let mut scene = Scene::acking(8);
    scene.deliver(&[(1, "a"), (2, "a"), (3, "b")]);
    assert_eq!(scene.pass(secs(4)), NOTHING);
    scene.ack(1);
    assert_eq!(scene.pass(secs(4)), NOTHING);
    scene.ack(1);
    assert_eq!(scene.pass(Duration::from_millis(4_999)), NOTHING);
    assert_eq!(scene.pass(Duration::from_millis(1)), ["event 2#2"]);
}

#[test]
fn an_ack_settles_an_event_that_was_sent_again_because_it_took_too_long() {
    let mut scene = Scene::acking(8);
    scene.deliver(&[(1, "a"), (2, "a")]);
    assert_eq!(scene.pass(secs(5)), ["event 1#2"]);
    scene.ack(2);
    assert_eq!(scene.room(), 8, "the first delivery was processed after all");
}

#[test]
fn while_the_oldest_waits_for_a_retry_the_next_one_s_time_counts() {
    let mut scene = Scene::acking(8);
    scene.deliver(&[(1, "a"), (2, "b")]);
    scene.retry_in(&[1], 3600000);
    assert_eq!(scene.pass(secs(5)), ["event 2#2"]);
}

#[test]
fn a_stuffed_socket_charges_nobody() {
    let mut scene = Scene::acking(8);
    let offer = scene.offer(&[(1, "a")]);
    assert_eq!(offer, Offer { taken: 1, sent: Sent::All });
    scene.now += secs(3600);
    assert_eq!(scene.hand_in(Input::Live { sub: SUB, position: at(1) }), ["live 1"]);
    scene.ack(1);
    assert_eq!(scene.room(), 8);
}
