//! Consumers: what is remembered of them, by whom they are held, and how they are let go of.

use std::time::Duration;

use tidewire_protocol::{
    CloseCode, ErrorCode, Grant, GrantedPartition, Input, Offer, Sent, SessionConfig,
    frame::{CloseReason, FrameError, Message},
    session::Limits,
};

use crate::scene::{SUB, Scene, at, secs, share, whole};

const NOTHING: [&str; 0] = [];

#[test]
fn a_consumer_begins_at_its_checkpoint_whatever_after_says() {
    for (after, claimed) in
        [("", 100), (r#","after":"start""#, 0), (r#","after":7"#, 7), (r#","after":700"#, 100)]
    {
        let mut scene = Scene::new();
        let said = scene.say(&format!(
            r#"{{"type":"subscribe","sub":1,"to":{{"all":true}},"consumer":"billing"{after}}}"#
        ));
        assert_eq!(said, [format!("claim billing after {claimed}")], "{after}");
        let grant = Grant { existed: true, partitions: vec![whole(40)] };
        let said = scene.hand_in(Input::Claimed { sub: SUB, claimed: Ok(grant) });
        assert_eq!(said, ["subscribed after 40, resumed", "open after 40"]);
    }
}

#[test]
fn a_consumer_is_claimed_when_its_client_has_shown_that_it_is_there() {
    let pong = |ping: u32| Input::Message(Message::Pong(ping.to_be_bytes().to_vec().into()));
    let mut scene = Scene::new();
    scene.answers = false;
    assert_eq!(scene.claim(r#""billing""#), NOTHING, "it may have been stuck in the network");
    assert_eq!(scene.hand_in(pong(0)), NOTHING);
    assert_eq!(scene.hand_in(pong(2)), NOTHING, "no such ping was sent");
    assert_eq!(scene.hand_in(pong(1)), ["claim billing after 100"]);
    assert_eq!(scene.hand_in(pong(1)), NOTHING, "once");

    let mut scene = Scene::new();
    scene.answers = false;
    scene.claim(r#""billing""#);
    assert_eq!(scene.say(r#"{"type":"unsubscribe","sub":1}"#), ["unsubscribed"]);
    assert_eq!(scene.hand_in(pong(1)), NOTHING, "it was taken back");
    let said = scene.claim(r#"{"group":"workers"}"#);
    assert_eq!(said, ["claim workers after 100"], "a share is taken from nobody");
}

#[test]
fn a_new_consumer_is_not_resumed() {
    let mut scene = Scene::new();
    scene.claim(r#""billing""#);
    let grant = Grant { existed: false, partitions: vec![whole(100)] };
    let said = scene.hand_in(Input::Claimed { sub: SUB, claimed: Ok(grant) });
    assert_eq!(said, ["subscribed after 100", "open after 100"]);
}

#[test]
fn a_claim_that_is_refused_frees_the_handle() {
    let mut scene = Scene::new();
    scene.claim(r#""billing""#);
    assert_eq!(scene.claim(r#""other""#), ["error sub_in_use"]);
    let claimed = Err(ErrorCode::ConsumerMismatch.into());
    let said = scene.hand_in(Input::Claimed { sub: SUB, claimed });
    assert_eq!(said, ["error consumer_mismatch"]);
    assert_eq!(scene.claim(r#""other""#), ["claim other after 100"]);
}

#[test]
fn a_claim_that_was_given_up_is_given_back() {
    let mut scene = Scene::new();
    scene.claim(r#""billing""#);
    assert_eq!(scene.say(r#"{"type":"unsubscribe","sub":1}"#), NOTHING);
    assert_eq!(scene.say(r#"{"type":"unsubscribe","sub":1}"#), ["error unknown_sub"]);
    assert_eq!(scene.claim(r#""other""#), ["error sub_in_use"]);
    assert_eq!(scene.grant(whole(40)), ["release clean p0@40", "unsubscribed"]);
    assert_eq!(scene.claim(r#""other""#), ["claim other after 100"]);
}

#[test]
fn the_checkpoint_is_before_the_lowest_unsettled_event_and_saved_once_a_second() {
    let mut scene = Scene::consuming(40);
    scene.deliver(&[(41, "a"), (42, "b"), (45, "a")]);
    assert_eq!(scene.ack(41), NOTHING);
    assert_eq!(scene.pass(Duration::from_millis(500)), NOTHING);
    assert_eq!(scene.ack(42), NOTHING);
    assert_eq!(scene.pass(Duration::from_millis(499)), NOTHING);
    assert_eq!(scene.pass(Duration::from_millis(1)), ["save p0@44"]);
    assert_eq!(scene.ack(45), NOTHING);
    assert_eq!(scene.pass(secs(3)), NOTHING, "one at a time");
    assert_eq!(scene.hand_in(Input::Saved { sub: SUB, saved: Ok(()) }), ["save p0@45"]);
    scene.hand_in(Input::Saved { sub: SUB, saved: Ok(()) });
    assert_eq!(scene.pass(secs(3)), NOTHING, "nothing has changed");
}

#[test]
fn where_nothing_is_unsettled_the_checkpoint_moves_with_what_was_looked_at() {
    let mut scene = Scene::consuming(40);
    assert_eq!(scene.hand_in(Input::Positions(vec![(SUB, at(90))])), ["heartbeat 90"]);
    assert_eq!(scene.pass(secs(1)), ["save p0@90"]);
    scene.hand_in(Input::Saved { sub: SUB, saved: Ok(()) });
    assert_eq!(scene.hand_in(Input::Positions(vec![(SUB, at(90))])), ["heartbeat 90"]);
    assert_eq!(scene.pass(secs(3)), NOTHING);
}

#[test]
fn charges_are_remembered_and_parked_events_until_they_are_saved() {
    let mut scene = Scene::consuming(40);
    scene.deliver(&[(41, "a"), (42, "b"), (43, "c")]);
    scene.retry(&[41]);
    scene.nack(&[42], r#""action":"park","reason":"no""#);
    assert_eq!(scene.pass(secs(1)), ["save p0@40 41#1 parked 42#1: no"]);
    let saved = Err(ErrorCode::Unavailable.into());
    assert_eq!(scene.hand_in(Input::Saved { sub: SUB, saved }), NOTHING);
    assert_eq!(scene.pass(secs(1)), ["save p0@40 41#1 parked 42#1: no"]);
    scene.hand_in(Input::Saved { sub: SUB, saved: Ok(()) });
    scene.ack(41);
    assert_eq!(scene.pass(secs(1)), ["save p0@42"]);
}

#[test]
fn what_was_parked_and_not_saved_takes_up_the_window() {
    let mut scene = Scene::consuming(0);
    scene.deliver(&[(1, "a"), (2, "a"), (3, "a")]);
    scene.nack(&[1, 2, 3], r#""action":"park""#);
    assert_eq!(scene.room(), 5);
    scene.pass(secs(1));
    scene.hand_in(Input::Saved { sub: SUB, saved: Ok(()) });
    assert_eq!(scene.room(), 8);
}

#[test]
fn attempts_go_on_where_the_last_holder_left_them() {
    let mut scene = Scene::new();
    scene.claim(r#""billing""#);
    let attempts = vec![(at(41), 2), (at(43), 3)];
    scene.grant(GrantedPartition { attempts, ..whole(40) });
    let offer = scene.offer(&[(41, "a"), (42, "a"), (43, "b"), (44, "c")]);
    assert_eq!(offer, Offer { taken: 4, sent: Sent::Some(vec![3]) });
    let said = scene.polled();
    assert_eq!(said, ["parked [43]: attempts spent", "event 41#3", "event 42"]);
    assert_eq!(scene.retry(&[41]), ["parked [41]: attempts spent", "event 42"]);
}

#[test]
fn charges_of_events_that_were_not_offered_yet_are_kept() {
    let mut scene = Scene::new();
    scene.claim(r#""billing""#);
    scene.grant(GrantedPartition { attempts: vec![(at(50), 1)], ..whole(40) });
    scene.deliver(&[(41, "a")]);
    assert_eq!(
        scene.say(r#"{"type":"unsubscribe","sub":1}"#),
        ["shut", "release clean p0@40 50#1", "unsubscribed"]
    );
}

#[test]
fn an_orderly_end_charges_nothing() {
    type End = fn(&mut Scene) -> Vec<String>;
    let ends: [(&str, End); 4] = [
        ("unsubscribe", |scene| scene.say(r#"{"type":"unsubscribe","sub":1}"#)),
        ("stop", |scene| scene.nack(&[41], r#""action":"stop""#)),
        ("close", |scene| {
            let reason = CloseReason { code: CloseCode::GOING_AWAY, text: String::new() };
            scene.hand_in(Input::Message(Message::Close(Some(reason))))
        }),
        ("drain", |scene| scene.hand_in(Input::Drain { reconnect_after: secs(1) })),
    ];
    for (name, end) in ends {
        let mut scene = Scene::consuming(40);
        scene.deliver(&[(41, "a")]);
        let said = end(&mut scene);
        let released = said.iter().position(|said| said == "release clean p0@40");
        let released = released.unwrap_or_else(|| panic!("{name}: {said:?}"));
        let over = said
            .iter()
            .position(|said| said.starts_with("unsubscribed") || said.starts_with("close"));
        assert!(over.is_some_and(|over| released < over), "{name}: {said:?}");
        assert!(said.contains(&"shut".to_owned()), "{name}: {said:?}");
    }
}

#[test]
fn a_cut_charges_an_event_only_if_it_was_alone_and_had_left() {
    for (events, accepted, released) in [
        (&[][..], true, "release unclean p0@40"),
        (&[(41, "a")][..], true, "release unclean p0@40 41#1"),
        (&[(41, "a")][..], false, "release unclean p0@40"),
        (&[(41, "a"), (42, "a")][..], true, "release unclean p0@40"),
    ] {
        let mut scene = Scene::consuming(40);
        scene.offer(events);
        if accepted {
            scene.accept();
        }
        assert_eq!(scene.hand_in(Input::Gone), ["shut", released, "close 1006"]);
    }
}

#[test]
fn what_breaks_the_protocol_is_no_orderly_end() {
    let mut scene = Scene::consuming(40);
    let said = scene.hand_in(Input::Broken(FrameError::Unmasked));
    assert_eq!(said[..2], ["shut", "release unclean p0@40"]);
    let mut scene = Scene::consuming(40);
    let said = scene.say("{");
    assert_eq!(said[..3], ["goodbye", "shut", "release unclean p0@40"]);
}

#[test]
fn a_poison_event_is_parked_after_it_has_brought_down_its_reader() {
    let mut attempts = Vec::new();
    for round in 1..=3 {
        let mut scene = Scene::new();
        scene.claim(r#""billing""#);
        scene.grant(GrantedPartition { unclean: true, attempts, ..whole(40) });
        scene.offer(&[(41, "a")]);
        scene.polled();
        scene.accept();
        let said = scene.hand_in(Input::Gone);
        let released = match round {
            3 => "release unclean p0@41 parked 41#3: attempts spent".to_owned(),
            _ => format!("release unclean p0@40 41#{round}"),
        };
        assert_eq!(said, ["shut".to_owned(), released, "close 1006".to_owned()]);
        attempts = vec![(at(41), round)];
    }
}

#[test]
fn after_an_unclean_end_the_window_is_one_until_an_event_is_settled() {
    type Settle = fn(&mut Scene) -> Vec<String>;
    let settles: [(&str, Settle); 3] = [
        ("ack", |scene| scene.ack(41)),
        ("skip", |scene| scene.nack(&[41], r#""action":"skip""#)),
        ("park", |scene| scene.nack(&[41], r#""action":"park""#)),
    ];
    for (name, settle) in settles {
        let mut scene = Scene::new();
        scene.claim(r#""billing""#);
        scene.grant(GrantedPartition { unclean: true, ..whole(40) });
        assert_eq!(scene.room(), 1, "{name}");
        let offer = scene.offer(&[(41, "a"), (42, "a")]);
        assert_eq!(offer, Offer { taken: 1, sent: Sent::All });
        assert_eq!(scene.room(), 0);
        settle(&mut scene);
        assert!(scene.room() >= 7, "{name}");
    }
}

#[test]
fn one_event_at_a_time_goes_on_while_another_waits_for_its_retry() {
    let mut scene = Scene::new();
    scene.claim(r#""billing""#);
    scene.grant(GrantedPartition { unclean: true, ..whole(40) });
    scene.deliver(&[(41, "a")]);
    scene.retry_in(&[41], 1000);
    assert_eq!(scene.room(), 1);
    scene.deliver(&[(42, "b")]);
    assert_eq!(scene.room(), 0);
    assert_eq!(scene.pass(secs(2)), ["save p0@40 41#1"], "one at a time");
    assert_eq!(scene.ack(42), ["event 41#2"]);
}

#[test]
fn a_consumer_that_was_taken_is_not_saved_any_more() {
    for taken in [
        Input::Taken { sub: SUB },
        Input::Saved { sub: SUB, saved: Err(ErrorCode::ConsumerTaken.into()) },
    ] {
        let mut scene = Scene::consuming(40);
        scene.deliver(&[(41, "a")]);
        scene.ack(41);
        assert_eq!(scene.hand_in(taken), ["shut", "unsubscribed consumer_taken"]);
        assert_eq!(scene.pass(secs(3)), NOTHING);
        assert_eq!(scene.ack(41), ["error unknown_sub"]);
    }
}

#[test]
fn a_replay_comes_with_its_attempt_and_is_remembered_when_it_is_settled() {
    let mut scene = Scene::new();
    scene.claim(r#""billing""#);
    let said = scene.grant(GrantedPartition { replays: vec![(at(7), 3)], ..whole(40) });
    assert_eq!(said, ["subscribed after 40, resumed", "open after 40", "event 7#4"]);
    scene.deliver(&[(41, "b")]);
    let events = vec![(share(0, 0).partition, at(9), 1), (share(0, 0).partition, at(7), 3)];
    assert_eq!(scene.hand_in(Input::Replay { sub: SUB, events }), ["event 9#2"]);
    scene.ack(7);
    assert_eq!(scene.pass(secs(1)), ["save p0@40 replayed 7"]);
    scene.hand_in(Input::Saved { sub: SUB, saved: Ok(()) });
    // A fresh budget: three more attempts.
    assert_eq!(scene.retry(&[9]), ["event 9#3"]);
    assert_eq!(scene.retry(&[9]), ["event 9#4"]);
    assert_eq!(scene.retry(&[9]), ["parked [9]: attempts spent"]);
    assert_eq!(scene.pass(secs(1)), ["save p0@40 parked 9#4: attempts spent"]);
}

#[test]
fn a_replay_does_not_hold_up_the_checkpoint() {
    let mut scene = Scene::consuming(40);
    let events = vec![(share(0, 0).partition, at(7), 3)];
    assert_eq!(scene.hand_in(Input::Replay { sub: SUB, events }), ["event 7#4"]);
    scene.deliver(&[(41, "a")]);
    // The client saw 7 before 41, so this covers both.
    scene.ack(41);
    assert_eq!(scene.pass(secs(1)), ["save p0@41 replayed 7"]);
}

#[test]
fn a_grant_that_comes_while_the_session_ends_is_given_back() {
    let mut scene = Scene::new();
    scene.claim(r#""billing""#);
    scene.hand_in(Input::Drain { reconnect_after: secs(1) });
    assert_eq!(scene.grant(whole(40)), ["release clean p0@40"]);
}

#[test]
fn the_limit_of_the_window_is_told_and_kept() {
    let limits = Limits { window: 4, ..Limits::default() };
    let mut scene = Scene::with(SessionConfig { limits, ..SessionConfig::default() });
    assert_eq!(scene.claim(r#""billing""#), ["error invalid_field"]);
    scene.say(r#"{"type":"subscribe","sub":1,"to":{"all":true},"consumer":"billing"}"#);
    scene.grant(whole(40));
    assert_eq!(scene.room(), 4);
}

#[test]
fn a_replay_of_an_event_that_the_feed_has_not_come_to_is_delivered_once() {
    let mut scene = Scene::consuming(40);
    let events = vec![(share(0, 0).partition, at(50), 3)];
    assert_eq!(scene.hand_in(Input::Replay { sub: SUB, events }), ["event 50#4"]);
    let offer = scene.offer(&[(48, "a"), (49, "b"), (50, "a"), (51, "b")]);
    assert_eq!(offer, Offer { taken: 4, sent: Sent::Some(vec![0, 1, 3]) });
    scene.accept();
    scene.ack(49);
    assert_eq!(scene.pass(secs(1)), ["save p0@50"], "the parked event itself is remembered");
    scene.hand_in(Input::Saved { sub: SUB, saved: Ok(()) });
    scene.ack(50);
    assert_eq!(scene.pass(secs(1)), ["save p0@50 replayed 50"]);
}

#[test]
fn a_replay_that_is_being_read_takes_up_the_window() {
    let mut scene = Scene::consuming(40);
    scene.reads = false;
    let events = vec![(share(0, 0).partition, at(7), 3)];
    assert_eq!(scene.hand_in(Input::Replay { sub: SUB, events }), ["read 7"]);
    assert_eq!(scene.room(), 7);
}
