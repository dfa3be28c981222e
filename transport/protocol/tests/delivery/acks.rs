//! What an ack settles, and what a window lets through.

use tidewire_protocol::{Input, Offer, Sent};

use crate::scene::{SUB, Scene, at, secs};

const NOTHING: [&str; 0] = [];

#[test]
fn at_most_a_window_of_events_is_unsettled() {
    let mut scene = Scene::acking(3);
    assert_eq!(scene.room(), 3);
    let offer = scene.offer(&[(1, "a"), (2, "b"), (3, "a"), (4, "b")]);
    assert_eq!(offer, Offer { taken: 3, sent: Sent::All });
    assert_eq!(scene.room(), 0);
    assert_eq!(scene.ack(2), NOTHING);
    assert_eq!(scene.room(), 2);
    assert_eq!(scene.offer(&[(4, "b")]), Offer { taken: 1, sent: Sent::All });
}

#[test]
fn without_acks_there_is_no_window_and_no_retry() {
    let mut scene = Scene::new();
    scene.say(r#"{"type":"subscribe","sub":1,"to":{"all":true},"after":0}"#);
    assert_eq!(scene.room(), usize::MAX);
    let events: Vec<(u64, &'static str)> = (1..=90).map(|position| (position, "a")).collect();
    scene.deliver(&events);
    assert_eq!(scene.pass(secs(20)), NOTHING);
    assert_eq!(scene.ack(3), ["error ack_none"]);
    assert_eq!(scene.nack(&[3], r#""action":"skip""#), ["error ack_none"]);
}

#[test]
fn an_ack_settles_everything_up_to_its_position() {
    for (ack, room) in [(1, 5), (2, 6), (3, 6), (4, 7), (6, 8)] {
        let mut scene = Scene::acking(8);
        scene.deliver(&[(1, "a"), (2, "a"), (4, "b"), (6, "b")]);
        assert_eq!(scene.ack(ack), NOTHING, "{ack}");
        assert_eq!(scene.room(), room, "{ack}");
    }
}

#[test]
fn an_ack_may_name_a_heartbeat_s_position_and_nothing_beyond_what_was_told() {
    let mut scene = Scene::acking(8);
    assert_eq!(scene.ack(1), ["error ack_ahead"]);
    scene.deliver(&[(1, "a")]);
    assert_eq!(scene.ack(2), ["error ack_ahead"]);
    assert_eq!(scene.room(), 7, "it had no effect");
    assert_eq!(scene.hand_in(Input::Positions(vec![(SUB, at(9))])), ["heartbeat 9"]);
    assert_eq!(scene.ack(10), ["error ack_ahead"]);
    assert_eq!(scene.ack(9), NOTHING);
    assert_eq!(scene.room(), 8);
}

#[test]
fn acks_are_refused_where_there_is_nothing_to_acknowledge() {
    let mut scene = Scene::new();
    assert_eq!(scene.ack(1), ["error unknown_sub"]);
    assert_eq!(scene.retry(&[1]), ["error unknown_sub"]);
}

#[test]
fn a_window_has_the_default_or_what_was_asked_for_up_to_the_limit() {
    for (window, expected) in [
        ("", Ok(256)),
        (r#","window":1"#, Ok(1)),
        (r#","window":1024"#, Ok(1024)),
        (r#","window":1025"#, Err("error invalid_field")),
    ] {
        let mut scene = Scene::new();
        let said = scene.say(&format!(
            r#"{{"type":"subscribe","sub":1,"to":{{"all":true}},"after":0,"ack":"each"{window}}}"#
        ));
        match expected {
            Ok(room) => assert_eq!(scene.room(), room, "{window}"),
            Err(error) => assert_eq!(said, [error], "{window}"),
        }
    }
}
