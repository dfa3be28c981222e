//! What becomes of events that a client cannot process.

use std::time::Duration;

use tidewire_protocol::{ErrorCode, Input, Offer, Sent};

use crate::scene::{SUB, Scene, at, secs};

const NOTHING: [&str; 0] = [];

/// Four events of two streams, with the client.
fn four() -> Scene {
    let mut scene = Scene::acking(8);
    scene.deliver(&[(1, "a"), (2, "b"), (3, "a"), (4, "b")]);
    scene
}

#[test]
fn a_retry_comes_with_its_attempt_and_then_the_later_events_of_its_stream_uncharged() {
    let mut scene = four();
    assert_eq!(scene.retry(&[1]), ["event 1#2", "event 3"]);
    assert_eq!(scene.retry(&[1]), ["event 1#3", "event 3"], "once more");
    assert_eq!(scene.room(), 4, "all are unsettled");
}

#[test]
fn a_retry_is_answered_before_anything_comes_again() {
    let mut scene = four();
    let said = scene.nack(&[2, 1, 77], r#""action":"retry""#);
    let error = "error unknown_position [77]";
    assert_eq!(said, [error, "retrying [1,2]", "event 1#2", "event 2#2", "event 3", "event 4"]);
    scene.retry(&[1]);
    let said = scene.nack(&[1], r#""action":"retry""#);
    assert_eq!(said, ["retrying [1]", "parked [1]: attempts spent", "event 3"]);
}

#[test]
fn a_retry_waits_for_its_delay_and_its_stream_with_it() {
    let mut scene = four();
    assert_eq!(scene.retry_in(&[1], 2000), NOTHING);
    // A new event of the stream is held back, others are not.
    let offer = scene.offer(&[(5, "b"), (6, "a"), (7, "b")]);
    assert_eq!(offer, Offer { taken: 3, sent: Sent::Some(vec![0, 2]) });
    assert_eq!(scene.pass(Duration::from_millis(1_999)), NOTHING);
    assert_eq!(scene.pass(Duration::from_millis(1)), ["event 1#2", "event 3", "event 6"]);
    let offer = scene.offer(&[(8, "a")]);
    assert_eq!(offer, Offer { taken: 1, sent: Sent::All }, "the stream flows again");
}

#[test]
fn events_that_are_held_back_take_up_the_window() {
    let mut scene = four();
    scene.retry_in(&[1], 3600000);
    let offer = scene.offer(&[(5, "a"), (6, "a"), (7, "a"), (8, "a"), (9, "b")]);
    assert_eq!(offer, Offer { taken: 4, sent: Sent::Some(vec![]) });
    assert_eq!(scene.room(), 0);
}

#[test]
fn an_ack_settles_nothing_that_waits_for_a_retry() {
    let mut scene = four();
    scene.retry_in(&[1], 1000);
    assert_eq!(scene.ack(4), NOTHING);
    assert_eq!(scene.room(), 6, "1 and 3 wait");
    assert_eq!(scene.pass(secs(1)), ["event 1#2", "event 3"]);
}

#[test]
fn an_ack_that_crosses_a_redelivery_does_not_settle_it() {
    let mut scene = four();
    assert_eq!(scene.retry(&[1]), ["event 1#2", "event 3"]);
    // The client said this before it saw them again.
    assert_eq!(scene.ack(4), NOTHING);
    assert_eq!(scene.room(), 6);
    // This one it can only say of what came again.
    assert_eq!(scene.ack(1), NOTHING);
    assert_eq!(scene.room(), 7);
    assert_eq!(scene.ack(3), NOTHING);
    assert_eq!(scene.room(), 8);
}

#[test]
fn what_came_out_of_order_is_acknowledged_one_by_one() {
    let mut scene = four();
    scene.retry(&[1]);
    assert_eq!(scene.ack(3), NOTHING);
    assert_eq!(scene.room(), 6, "2 and 3 are settled, 1 is not");
}

#[test]
fn an_ack_of_what_was_first_told_later_covers_a_redelivery() {
    let mut scene = four();
    scene.retry(&[1]);
    scene.deliver(&[(5, "b")]);
    assert_eq!(scene.ack(5), NOTHING);
    assert_eq!(scene.room(), 8);
}

#[test]
fn a_retry_of_several_charges_each_and_keeps_their_order() {
    let mut scene = four();
    let said = scene.retry(&[3, 2, 1]);
    assert_eq!(said, ["event 1#2", "event 2#2", "event 3#2", "event 4"]);
}

#[test]
fn retries_are_parked_when_they_are_spent_and_their_stream_moves_on() {
    let mut scene = four();
    scene.retry(&[1]);
    scene.retry(&[1]);
    let parked = r#"parked [1]: attempts spent"#;
    assert_eq!(scene.retry(&[1]), [parked, "event 3"]);
    assert_eq!(scene.room(), 5);
}

#[test]
fn who_gives_back_what_is_settled_has_dropped_what_is_later_and_gets_it_again() {
    let mut scene = four();
    assert_eq!(scene.ack(2), NOTHING);
    let said = scene.retry(&[1]);
    assert_eq!(said, ["error unknown_position [1]", "event 3", "event 4"]);
    assert_eq!(scene.room(), 6);
    assert_eq!(scene.retry(&[99]), ["error unknown_position [99]"], "never told of");
    assert_eq!(scene.nack(&[1], r#""action":"skip""#), ["error unknown_position [1]"]);
}

#[test]
fn park_and_skip_settle_and_other_events_stay_where_they_are() {
    let mut scene = four();
    let said = scene.nack(&[3, 1], r#""action":"park","reason":"no such order""#);
    assert_eq!(said, ["parked [1,3]: no such order"]);
    assert_eq!(scene.room(), 6);
    assert_eq!(scene.nack(&[2], r#""action":"skip""#), NOTHING);
    assert_eq!(scene.room(), 7);
    assert_eq!(scene.nack(&[4], r#""action":"park""#), ["parked [4]: parked by the client"]);
    assert_eq!(scene.room(), 8);
}

#[test]
fn what_waits_for_a_retry_can_still_be_parked_or_skipped() {
    let mut scene = four();
    scene.retry_in(&[1], 60000);
    assert_eq!(scene.nack(&[1], r#""action":"skip""#), ["event 3"]);
    assert_eq!(scene.room(), 5);
}

#[test]
fn stop_ends_the_subscription_with_the_event_unsettled() {
    let mut scene = four();
    let said = scene.nack(&[1], r#""action":"stop""#);
    assert_eq!(said, ["shut", "unsubscribed stopped"]);
    assert_eq!(scene.ack(1), ["error unknown_sub"]);
}

#[test]
fn positions_that_are_not_unsettled_are_named_and_the_others_take_effect() {
    let mut scene = four();
    scene.ack(1);
    let said = scene.nack(&[1, 2, 9], r#""action":"park""#);
    assert_eq!(said, ["error unknown_position [1,9]", "parked [2]: parked by the client"]);
    assert_eq!(scene.nack(&[9], r#""action":"stop""#), ["error unknown_position [9]"]);
    assert_eq!(scene.room(), 6, "the subscription goes on");
    let said = scene.nack(&[1, 2, 3, 4, 5, 6, 7, 8, 9], r#""action":"skip""#);
    assert_eq!(said, ["error invalid_field"], "more than the window");
}

#[test]
fn an_event_that_is_no_longer_in_the_log_is_not_waited_for() {
    let mut scene = four();
    scene.reads = false;
    assert_eq!(scene.retry(&[1]), ["read 1"]);
    let read = Input::Read { sub: SUB, position: at(1), event: Ok(None) };
    assert_eq!(scene.hand_in(read), ["parked [1]: no longer in the log", "read 3"]);
    assert_eq!(scene.room(), 5);
}

#[test]
fn an_event_that_cannot_be_read_now_is_read_again_later() {
    let mut scene = four();
    scene.reads = false;
    assert_eq!(scene.retry(&[1]), ["read 1"]);
    let event = Err(ErrorCode::Unavailable.into());
    assert_eq!(scene.hand_in(Input::Read { sub: SUB, position: at(1), event }), NOTHING);
    assert_eq!(scene.pass(Duration::from_millis(999)), NOTHING);
    assert_eq!(scene.pass(Duration::from_millis(1)), ["read 1"]);
}

#[test]
fn at_most_eight_events_of_a_session_are_read_at_a_time() {
    let mut scene = Scene::acking(64);
    scene.reads = false;
    let events: Vec<(u64, &'static str)> = (1..=20)
        .map(|position| {
            (position, ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"][position as usize % 10])
        })
        .collect();
    scene.deliver(&events);
    let positions: Vec<u64> = (1..=20).collect();
    let said = scene.retry(&positions);
    assert_eq!(
        said,
        ["read 1", "read 2", "read 3", "read 4", "read 5", "read 6", "read 7", "read 8"]
    );
    assert_eq!(scene.pass(secs(4)), NOTHING, "the others wait for an answer, not for time");
    let event = Ok(Some(Box::new(scene.event(2))));
    let said = scene.hand_in(Input::Read { sub: SUB, position: at(2), event });
    assert_eq!(said, ["event 2#2", "read 9"]);
}

#[test]
fn a_heartbeat_tells_of_nothing_past_an_event_that_is_held_back() {
    let mut scene = four();
    scene.ack(4);
    scene.deliver(&[(5, "a"), (6, "b")]);
    scene.retry_in(&[5], 1000);
    assert_eq!(scene.hand_in(Input::Positions(vec![(SUB, at(9))])), ["heartbeat 4"]);
    assert_eq!(scene.pass(secs(1)), ["event 5#2"]);
    assert_eq!(scene.hand_in(Input::Positions(vec![(SUB, at(9))])), ["heartbeat 9"]);
}
