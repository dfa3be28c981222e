//! The rules of the client's side that no link has to break for, a scene each.

mod acks;
mod requests;
mod scene;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use scene::{EPOCH, Scene, append, sent, welcome};
use serde_json::{Value, json};
use tidewire_eventstore::{EventType, GlobalPosition, Revision, StreamName};
use tidewire_protocol::{
    AppendRequest, CloseCode, Cursor, Direction, FeedSpec, FetchRequest, Target,
    backoff::Backoff,
    client::{ClientConfig, ClientInput, ClientOutput, FetchRefused, Notice, OutboxError, State},
};

#[test]
fn hello_carries_every_subscription_with_its_position_and_epoch() {
    let mut scene = Scene::connected();
    scene.subscribe();
    scene.poll();
    scene.says(json!({"type": "subscribed", "sub": 1, "head": 3, "after": 0, "resumed": false}));
    scene.says(json!({"type": "heartbeat", "head": 9, "positions": {"1": 9}}));
    scene.hand_in(ClientInput::Lost(CloseCode::ABNORMAL));
    let (waited, out) = scene.wake();
    assert_eq!(waited, Backoff::default().initial);
    assert_eq!(out, [ClientOutput::Connect]);
    let hello = &sent(&scene.hand_in(ClientInput::Opened))[0];
    let resumed = json!([{"sub": 1, "to": {"all": true}, "after": 9, "epoch": EPOCH}]);
    assert_eq!(hello["subscriptions"], resumed);
}

#[test]
fn final_codes_end_in_failure_and_others_in_another_attempt() {
    for (code, is_final) in
        [(1000, false), (1001, false), (1006, false), (1011, false), (4001, false), (4499, false)]
            .into_iter()
            .chain([1002, 1003, 1007, 1009, 4500, 4503, 4999].map(|code| (code, true)))
    {
        let mut scene = Scene::connected();
        scene.core.append(append(1), scene.now).expect("there is room");
        scene.poll();
        let out = scene.hand_in(ClientInput::Lost(CloseCode(code)));
        let failed = out.contains(&ClientOutput::State(State::Failed(CloseCode(code))));
        assert_eq!(failed, is_final, "{code}");
        let settled = out.iter().any(|output| matches!(output, ClientOutput::Settled { .. }));
        assert_eq!(settled, is_final, "{code}: nothing waits for ever");
        assert_eq!(scene.core.next_timeout().is_none(), is_final, "{code}");
    }
}

#[test]
fn goodbye_says_when_to_come_back_and_whether() {
    let goodbye = |reconnect: bool| {
        json!({"type": "goodbye", "code": 4001, "reason": "", "reconnect": reconnect,
            "after_ms": 5000})
    };
    let mut scene = Scene::connected();
    scene.says(goodbye(true));
    scene.hand_in(ClientInput::Lost(CloseCode::DRAIN));
    assert_eq!(scene.wake().0, Duration::from_secs(5) + Backoff::default().initial);
    let mut scene = Scene::connected();
    scene.says(goodbye(false));
    let out = scene.hand_in(ClientInput::Lost(CloseCode::ABNORMAL));
    assert_eq!(out, [ClientOutput::State(State::Failed(CloseCode::DRAIN))]);
}

#[test]
fn a_silent_server_is_pinged_and_then_given_up() {
    let mut scene = Scene::connected();
    let (waited, out) = scene.wake();
    assert_eq!(waited, Duration::from_secs(20), "a heartbeat, and a little");
    assert_eq!(sent(&out), [json!({"type": "ping", "id": "p1"})]);
    scene.now += Duration::from_secs(4);
    scene.hand_in(ClientInput::Heard);
    let (waited, out) = scene.wake();
    assert_eq!(waited, Duration::from_secs(20), "any sign of life counts");
    assert_eq!(sent(&out).len(), 1);
    let (waited, out) = scene.wake();
    assert_eq!(waited, Duration::from_secs(5));
    assert_eq!(out[0], ClientOutput::Disconnect(CloseCode::NO_PONG));
    assert!(matches!(scene.core.state(), State::Reconnecting { attempt: 1, .. }));
}

#[test]
fn a_connection_that_dies_young_counts_as_another_failure() {
    let mut scene = Scene::connected();
    let mut delays = Vec::new();
    for _ in 0..3 {
        scene.hand_in(ClientInput::Lost(CloseCode::ABNORMAL));
        delays.push(scene.wake().0.as_millis());
        scene.hand_in(ClientInput::Opened);
        scene.says(welcome(1 << 20, 2));
    }
    scene.now += Duration::from_secs(10);
    scene.hand_in(ClientInput::Lost(CloseCode::ABNORMAL));
    delays.push(scene.wake().0.as_millis());
    assert_eq!(delays, [250, 500, 1000, 250]);
}

#[test]
fn attempts_can_be_limited() {
    let mut scene = Scene::new(ClientConfig { attempts_max: 2, ..ClientConfig::default() });
    for _ in 0..2 {
        scene.hand_in(ClientInput::Lost(CloseCode::ABNORMAL));
        scene.wake();
    }
    scene.hand_in(ClientInput::Lost(CloseCode::ABNORMAL));
    assert_eq!(*scene.core.state(), State::Failed(CloseCode::ABNORMAL));
    assert_eq!(scene.core.append(append(1), scene.now), Err(OutboxError::Failed));
}

#[test]
fn the_outbox_refuses_what_it_must_not_send_and_keeps_within_the_servers_limits() {
    let mut scene = Scene::new(ClientConfig::default());
    assert_eq!(scene.core.append(append(0), scene.now), Err(OutboxError::MissingId));
    let nothing = AppendRequest { events: Vec::new(), ..append(1) };
    assert_eq!(scene.core.append(nothing, scene.now), Err(OutboxError::NoEvents));
    let mut large = append(1);
    large.events[0].meta = Some(Bytes::from(format!("\"{}\"", "x".repeat(300))));
    let large_key =
        scene.core.append(large.clone(), scene.now).expect("no server has told its limit");
    for id in 2..=4 {
        scene.core.append(append(id), scene.now).expect("there is room");
    }
    scene.hand_in(ClientInput::Opened);
    let out = scene.says(welcome(300, 2));
    let settled = out.iter().find_map(|output| match output {
        ClientOutput::Settled { key, result } => Some((*key, result.clone())),
        _ => None,
    });
    let (key, result) = settled.expect("the large one can never be sent");
    assert_eq!((key, &*result.expect_err("refused").code), (large_key, "too_large"));
    let ids = |out: &[ClientOutput]| -> Vec<String> {
        sent(out).iter().map(|message| message["id"].to_string()).collect()
    };
    assert_eq!(ids(&out), ["\"a2\"", "\"a3\""], "as many as the server answers at once");
    assert!(matches!(
        scene.core.append(large, scene.now),
        Err(OutboxError::TooLarge { max: 300, .. })
    ));
    let appended =
        json!({"type": "appended", "id": "a2", "stream": "s", "revision": 0, "position": 1});
    assert_eq!(ids(&scene.says(appended.clone())), ["\"a4\""]);
    assert_eq!(scene.says(appended), [], "settled once");
}

#[test]
fn an_append_that_meets_a_closing_server_waits_for_the_next_one() {
    let mut scene = Scene::connected();
    scene.core.append(append(1), scene.now).expect("there is room");
    let first = sent(&scene.poll());
    let closing =
        json!({"type": "error", "id": "a1", "code": "closing", "message": "", "retryable": true});
    assert_eq!(scene.says(closing), []);
    scene.hand_in(ClientInput::Lost(CloseCode::DRAIN));
    scene.wake();
    scene.hand_in(ClientInput::Opened);
    assert_eq!(sent(&scene.says(welcome(1 << 20, 2))), first, "the same ids again");
}

#[test]
fn a_refused_subscription_is_asked_for_again_only_if_that_may_help() {
    let error = |retryable: bool| {
        json!({"type": "error", "sub": 1, "code": "unavailable", "message": "",
            "retryable": retryable, "retry_after_ms": 700})
    };
    let mut scene = Scene::connected();
    scene.subscribe();
    let first = sent(&scene.poll());
    assert_eq!(scene.says(error(true)), []);
    let (waited, out) = scene.wake();
    assert_eq!((waited, sent(&out)), (Duration::from_millis(700), first));
    let out = scene.says(error(false));
    assert!(matches!(&out[..], [ClientOutput::Notice { notice: Notice::Ended(Some(_)), .. }]));
}

#[test]
fn what_a_newer_server_says_is_passed_over_and_nonsense_ends_the_connection() {
    let mut scene = Scene::connected();
    assert_eq!(scene.says(json!({"type": "dance"})), []);
    let out = scene.hand_in(ClientInput::Text(Bytes::from_static(b"{")));
    assert!(matches!(out[0], ClientOutput::Disconnect(_)));
    assert!(matches!(scene.core.state(), State::Reconnecting { .. }));
}

#[test]
fn equal_feeds_are_equal() {
    let feed = |types: [&str; 2]| {
        let types = types.map(|name| EventType::new(name).expect("a name"));
        let filter = Some(Arc::new(tidewire_protocol::Filter::types(&types)));
        FeedSpec { filter, ..FeedSpec::of(Target::All) }
    };
    assert_eq!(feed(["A", "B"]), feed(["B", "A"]));
    assert_ne!(feed(["A", "B"]), feed(["A", "C"]));
}

fn fetch(from: Target) -> FetchRequest {
    FetchRequest { from, after: None, before: None, limit: 2, direction: Direction::Forwards }
}

#[test]
fn a_fetch_whose_connection_broke_is_sent_again_and_answered_once() {
    let mut scene = Scene::connected();
    let stream = Target::Stream(StreamName::new("s").expect("a name"));
    let of_stream = scene.core.fetch(fetch(stream)).expect("taken");
    let of_all = scene.core.fetch(fetch(Target::All)).expect("taken");
    assert_eq!(sent(&scene.poll()).len(), 2);

    scene.hand_in(ClientInput::Lost(CloseCode::ABNORMAL));
    scene.wake();
    scene.hand_in(ClientInput::Opened);
    let again = sent(&scene.says(welcome(1 << 20, 2)));
    let ids: Vec<&Value> = again.iter().map(|message| &message["id"]).collect();
    assert_eq!(ids.len(), 2);

    for (id, key, next) in [
        (ids[1], of_all, Cursor::Position(GlobalPosition::new(7))),
        (ids[0], of_stream, Cursor::Revision(Revision::new(7))),
    ] {
        let page =
            json!({"type": "page", "id": id, "events": [], "more": true, "next": 7, "head": 9});
        let out = scene.says(page.clone());
        let [ClientOutput::Fetched { key: answered, result: Ok(page) }] = &out[..] else {
            panic!("one answer, not {out:?}");
        };
        assert_eq!((*answered, page.next, page.head.get()), (key, Some(next), 9));
        let repeated = json!({"type": "page", "id": id, "events": [], "more": false, "head": 9});
        assert_eq!(scene.says(repeated), []);
    }
}

#[test]
fn a_fetch_is_refused_for_what_the_server_says_unless_it_closes() {
    let mut scene = Scene::connected();
    let key = scene.core.fetch(fetch(Target::All)).expect("taken");
    let id = sent(&scene.poll())[0]["id"].clone();
    let refusal = |code: &str| json!({"type": "error", "id": id, "code": code, "message": "", "retryable": true});
    assert_eq!(scene.says(refusal("closing")), [], "the next connection will answer");
    let out = scene.says(refusal("overloaded"));
    let [ClientOutput::Fetched { key: refused, result: Err(error) }] = &out[..] else {
        panic!("one answer, not {out:?}");
    };
    assert_eq!((*refused, &*error.code, error.retryable), (key, "overloaded", true));
}

#[test]
fn fetches_are_bounded_and_have_to_make_sense() {
    let mut scene = Scene::new(ClientConfig { fetches_max: 2, ..ClientConfig::default() });
    let position = Some(Cursor::Position(GlobalPosition::new(1)));
    let revision = Some(Cursor::Revision(Revision::new(1)));
    let stream = || Target::Stream(StreamName::new("s").expect("a name"));
    for wrong in [
        FetchRequest { limit: 0, ..fetch(Target::All) },
        FetchRequest { after: revision, ..fetch(Target::All) },
        FetchRequest { after: position, ..fetch(stream()) },
        FetchRequest { before: position, ..fetch(Target::All) },
        FetchRequest { after: position, direction: Direction::Backwards, ..fetch(Target::All) },
    ] {
        assert_eq!(scene.core.fetch(wrong), Err(FetchRefused::Invalid));
    }
    assert!(scene.core.fetch(fetch(Target::All)).is_ok());
    assert!(scene.core.fetch(FetchRequest { after: revision, ..fetch(stream()) }).is_ok());
    assert_eq!(scene.core.fetch(fetch(Target::All)), Err(FetchRefused::Full { fetches: 2 }));

    scene.hand_in(ClientInput::Opened);
    let out = scene.hand_in(ClientInput::Lost(CloseCode(4503)));
    let failed =
        |output: &&ClientOutput| matches!(output, ClientOutput::Fetched { result: Err(_), .. });
    assert_eq!(out.iter().filter(failed).count(), 2, "everybody who waits is told");
    assert_eq!(scene.core.fetch(fetch(Target::All)), Err(FetchRefused::Failed));
}
