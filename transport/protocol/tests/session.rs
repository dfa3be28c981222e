//! The rules of a session, a scene each.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};
use tidewire_eventstore::{GlobalPosition, Revision, StreamName, Timestamp};
use tidewire_protocol::{
    Activity, Answer, Auth, CloseCode, Epoch, ErrorBody, ErrorCode, Input, Moment, Output,
    RequestId, Session, SessionConfig, SessionId, SessionInfo, Sub,
    frame::{CloseReason, FrameDecoder, FrameError, FrameLimits, Message},
    session::Limits,
};
use uuid::Uuid;

const HELLO: &str = r#"{"type":"hello","protocol":1}"#;

/// A session, the time, and a socket that accepts everything at once unless told otherwise.
struct Scene {
    session: Session,
    began: Instant,
    now: Instant,
    /// The highest position that was removed.
    removed: GlobalPosition,
    activity: Activity,
}

/// What a session said: JSON for text, a word and a payload for the rest.
type Said = Vec<Value>;

impl Scene {
    fn new(config: SessionConfig) -> Self {
        Self::with_bearer(config, None)
    }

    fn with_bearer(config: SessionConfig, bearer: Option<&str>) -> Self {
        let now = Instant::now();
        let epoch = Epoch { epoch: Uuid::from_u128(1), first_position: GlobalPosition::new(1) };
        let info = SessionInfo {
            session: SessionId(Uuid::from_u128(9)),
            node: Arc::from("a"),
            epochs: [epoch].into(),
            opened_at: Timestamp::from_micros(1_000_000),
            bearer: bearer.map(Into::into),
        };
        let removed = GlobalPosition::START;
        let moment = Moment { now, head: GlobalPosition::new(10), removed };
        let activity = Activity { inbound_at: now, progress_at: now, unsent_bytes: 0 };
        Self { session: Session::new(config, info, moment), began: now, now, removed, activity }
    }

    fn ready() -> Self {
        let mut scene = Self::new(SessionConfig::default());
        let said = scene.text(HELLO);
        assert_eq!(said[0]["type"], "welcome");
        scene
    }

    fn hand_in(&mut self, input: Input) -> Said {
        let moment = Moment { now: self.now, head: GlobalPosition::new(10), removed: self.removed };
        self.session.handle(input, moment);
        let mut said = Vec::new();
        while let Some(output) = self.session.poll() {
            match output {
                Output::Send(bytes) | Output::Pong(bytes) => said.extend(frames(&bytes)),
                Output::Open { sub, after, .. } => {
                    said.push(json!({"open": sub.get(), "after": after.get()}));
                }
                Output::Shut { sub } => said.push(json!({"shut": sub.get()})),
                Output::Append { id, .. } => said.push(json!({"append": id.as_str()})),
                Output::Fetch { id, fetch } => {
                    said.push(json!({"fetch": id.as_str(), "limit": fetch.limit}));
                }
                Output::Command { id, command } => {
                    said.push(json!({"command": id.as_str(), "name": command.name.as_str()}));
                }
                Output::CheckQuery { .. } | Output::Watch { .. } | Output::Query { .. } => {
                    panic!("nobody asks for documents")
                }
                Output::Claim { .. }
                | Output::Save { .. }
                | Output::Release { .. }
                | Output::Read { .. } => panic!("nobody acknowledges"),
                Output::CheckHead { sub } => said.push(json!({"check": sub.get()})),
                Output::CheckRemoved { sub, after, .. } => {
                    said.push(json!({"check_removed": sub.get(), "after": after.get()}));
                }
                Output::Positions => said.push(json!("positions")),
                Output::RoundTrip(took) => said.push(json!({"round_trip": took.as_millis()})),
                Output::Close { code } => said.push(json!({"close": code.0})),
            }
        }
        said
    }

    fn text(&mut self, text: &str) -> Said {
        self.activity.inbound_at = self.now;
        self.hand_in(Input::Message(Message::Text(Bytes::copy_from_slice(text.as_bytes()))))
    }

    /// Lets time pass, waking the session whenever it wants to be woken.
    fn pass(&mut self, time: Duration) -> Said {
        let end = self.now + time;
        let mut said = Vec::new();
        while let Some(at) = self.session.next_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            said.extend(self.hand_in(Input::Timeout(self.activity)));
        }
        self.now = end;
        said
    }

    fn elapsed(&self) -> Duration {
        self.now - self.began
    }
}

fn frames(bytes: &Bytes) -> Said {
    let mut buf = BytesMut::from(&bytes[..]);
    let mut decoder = FrameDecoder::new(FrameLimits::client(1 << 20));
    let mut said = Vec::new();
    while let Some(message) = decoder.decode(&mut buf).expect("whole good frames") {
        said.push(match message {
            Message::Text(text) => serde_json::from_slice(&text).expect("JSON"),
            Message::Ping(payload) => json!({"ping": payload.to_vec()}),
            Message::Pong(payload) => json!({"pong": payload.to_vec()}),
            Message::Close(reason) => json!({"close_frame": reason.map(|reason| reason.code.0)}),
            Message::Binary(_) => panic!("nothing binary is sent"),
        });
    }
    assert!(buf.is_empty(), "whole frames");
    said
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// The codes of the errors said, and everything else by its type or word.
fn words(said: &Said) -> Vec<String> {
    said.iter()
        .map(|said| match said {
            Value::Object(fields) if fields.contains_key("type") => match &fields["type"] {
                kind if kind == "error" => fields["code"].as_str().expect("a code").to_owned(),
                kind => kind.as_str().expect("a type").to_owned(),
            },
            Value::Object(fields) => fields.keys().next().expect("a word").clone(),
            word => word.as_str().expect("a word").to_owned(),
        })
        .collect()
}

#[test]
fn who_never_says_hello_is_closed_after_ten_seconds() {
    let mut scene = Scene::new(SessionConfig::default());
    assert_eq!(scene.pass(Duration::from_millis(9_999)), Said::new());
    let said = scene.pass(Duration::from_millis(1));
    assert_eq!(words(&said), ["goodbye", "close_frame"]);
    assert_eq!(said[0]["code"], 4508);
    assert_eq!(said[0]["reconnect"], false);
    assert_eq!(said[1], json!({"close_frame": 4508}));
    assert_eq!(scene.pass(secs(10)), [json!({"close": 4508})], "a peer that never closes");
    assert!(scene.session.is_closed());
}

#[test]
fn hello_comes_first_and_once() {
    let mut scene = Scene::new(SessionConfig::default());
    let early = scene.text(r#"[{"type":"ping","id":"1"},{"type":"unsubscribe","sub":2}]"#);
    assert_eq!(words(&early), ["hello_required", "hello_required"]);
    assert_eq!((&early[0]["id"], &early[1]["sub"]), (&json!("1"), &json!(2)));
    assert_eq!(words(&scene.text(HELLO)), ["welcome"]);
    assert_eq!(words(&scene.text(HELLO)), ["already_hello"]);
    assert_eq!(words(&scene.text(r#"{"type":"ping","id":"1"}"#)), ["pong"]);
}

#[test]
fn what_ends_a_session_ends_it_with_its_code() {
    let auth =
        || SessionConfig { auth: Auth::Token("right".to_owned()), ..SessionConfig::default() };
    for (config, text, code, said_before) in [
        (SessionConfig::default(), "{", 4501, None),
        (
            SessionConfig::default(),
            r#"{"type":"hello","protocol":2}"#,
            4502,
            Some("unsupported_protocol"),
        ),
        (auth(), HELLO, 4503, Some("unauthorized")),
        (auth(), r#"{"type":"hello","protocol":1,"token":"wrong"}"#, 4503, Some("unauthorized")),
    ] {
        let mut scene = Scene::new(config);
        let said = scene.text(text);
        let mut expected: Vec<&str> = said_before.into_iter().collect();
        expected.extend(["goodbye", "close_frame"]);
        assert_eq!(words(&said), expected, "{text}");
        assert_eq!(said.last(), Some(&json!({"close_frame": code})), "{text}");
        assert_eq!(scene.text(HELLO), Said::new(), "nothing more is answered");
        let reply =
            Message::Close(Some(CloseReason { code: CloseCode(code), text: String::new() }));
        assert_eq!(scene.hand_in(Input::Message(reply)), [json!({"close": code})]);
    }
    let mut scene = Scene::ready();
    let said = scene.hand_in(Input::Message(Message::Binary(Bytes::new())));
    assert_eq!(said, [json!({"close_frame": 1003})]);
    let mut scene = Scene::ready();
    let said = scene.hand_in(Input::Broken(FrameError::TooBig { bytes: 9, max: 1 }));
    assert_eq!(said, [json!({"close_frame": 1009})]);
    assert!(scene.session.may_read(), "the rest is read and thrown away");
    assert_eq!(scene.hand_in(Input::Gone), [json!({"close": 1009})]);
    let mut scene = Scene::ready();
    let said = scene.hand_in(Input::Broken(FrameError::Unmasked));
    assert_eq!(said, [json!({"close_frame": 1002}), json!({"close": 1002})]);
}

#[test]
fn the_right_token_opens_a_session_in_hello_or_beside_the_handshake() {
    for (bearer, token, said) in [
        (None, r#","token":"right""#, "welcome"),
        (Some("right"), "", "welcome"),
        (Some("wrong"), r#","token":"right""#, "welcome"),
        (Some("right"), r#","token":"wrong""#, "unauthorized"),
        (Some("wrong"), "", "unauthorized"),
    ] {
        let auth = Auth::Token("right".to_owned());
        let config = SessionConfig { auth, ..SessionConfig::default() };
        let mut scene = Scene::with_bearer(config, bearer);
        let hello = format!(r#"{{"type":"hello","protocol":1{token}}}"#);
        assert_eq!(words(&scene.text(&hello))[0], said, "{bearer:?} and {token}");
    }
}

#[test]
fn a_handle_is_taken_until_its_subscription_is_over() {
    let mut scene = Scene::ready();
    let subscribe = r#"{"type":"subscribe","sub":1,"to":{"all":true},"after":4}"#;
    let said = scene.text(subscribe);
    assert_eq!(words(&said), ["subscribed", "after"]);
    assert_eq!(said[1], json!({"open": 1, "after": 4}));
    assert_eq!(said[0]["resumed"], true);
    assert_eq!(words(&scene.text(subscribe)), ["sub_in_use"]);
    let unsubscribe = r#"{"type":"unsubscribe","sub":1}"#;
    assert_eq!(words(&scene.text(unsubscribe)), ["shut", "unsubscribed"]);
    assert_eq!(words(&scene.text(unsubscribe)), ["unknown_sub"]);
    assert_eq!(words(&scene.text(subscribe)), ["subscribed", "after"]);
    let error = ErrorBody::of(ErrorCode::Corrupt);
    let said = scene.hand_in(Input::FeedFailed { sub: Sub::new(1), error });
    assert_eq!(words(&said), ["shut", "unsubscribed"]);
    assert_eq!(said[1]["code"], "corrupt");
}

#[test]
fn a_position_beyond_the_head_is_checked_before_it_is_reset() {
    let subscribe = r#"{"type":"subscribe","sub":1,"to":{"all":true},"after":12}"#;
    let checked = |head: Result<u64, ErrorCode>| Input::HeadChecked {
        sub: Sub::new(1),
        head: head.map(GlobalPosition::new).map_err(ErrorBody::of),
    };
    for (head, expected) in [
        (Ok(12), vec!["subscribed", "after"]),
        (Ok(11), vec!["reset"]),
        (Err(ErrorCode::Unavailable), vec!["unavailable"]),
    ] {
        let mut scene = Scene::ready();
        assert_eq!(scene.text(subscribe), [json!({"check": 1})]);
        assert_eq!(words(&scene.text(subscribe)), ["sub_in_use"]);
        assert_eq!(words(&scene.hand_in(checked(head))), expected);
        assert_eq!(scene.hand_in(checked(Ok(99))), Said::new(), "asked once, answered once");
    }
    // Ended meanwhile: the handle is free only when the answer cannot be mistaken any more.
    let mut scene = Scene::ready();
    scene.text(subscribe);
    assert_eq!(scene.text(r#"{"type":"unsubscribe","sub":1}"#), Said::new());
    assert_eq!(words(&scene.text(subscribe)), ["sub_in_use"]);
    assert_eq!(words(&scene.hand_in(checked(Ok(5)))), ["unsubscribed"]);
    assert_eq!(words(&scene.text(subscribe)), ["check"]);
}

#[test]
fn a_position_before_a_removed_one_is_checked_and_no_other_is() {
    let subscribe = |after: &str| {
        format!(r#"{{"type":"subscribe","sub":1,"to":{{"category":"a"}},"after":{after}}}"#)
    };
    let checked = |first: Result<Option<u64>, ErrorCode>| Input::RemovedChecked {
        sub: Sub::new(1),
        first: first.map(|first| first.map(GlobalPosition::new)).map_err(ErrorBody::of),
    };
    let scene = || Scene { removed: GlobalPosition::new(7), ..Scene::ready() };
    // Who names none, has seen nothing, or has seen the removed one, costs no look at the store.
    for (after, begins) in [(r#""start""#, 0), (r#""end""#, 10), ("0", 0), ("7", 7), ("8", 8)] {
        let said = scene().text(&subscribe(after));
        assert_eq!(said[0]["type"], "subscribed", "after {after}");
        assert_eq!(said[1]["after"], begins, "after {after}");
    }
    for (first, expected) in [
        (Ok(None), vec!["subscribed", "after"]),
        (Ok(Some(5)), vec!["reset"]),
        (Err(ErrorCode::Unavailable), vec!["unavailable"]),
    ] {
        let mut scene = scene();
        assert_eq!(scene.text(&subscribe("6")), [json!({"check_removed": 1, "after": 6})]);
        assert_eq!(words(&scene.text(&subscribe("6"))), ["sub_in_use"]);
        let said = scene.hand_in(checked(first));
        assert_eq!(words(&said), expected);
        if said[0]["type"] == "reset" {
            assert_eq!((&said[0]["reason"], &said[0]["first"]), (&json!("truncated"), &json!(5)));
            assert_eq!(words(&scene.text(&subscribe("8"))), ["subscribed", "after"], "it is free");
        }
        assert_eq!(scene.hand_in(checked(Ok(Some(1)))), Said::new(), "asked once, answered once");
    }
    let mut scene = scene();
    scene.text(&subscribe("6"));
    assert_eq!(scene.text(r#"{"type":"unsubscribe","sub":1}"#), Said::new());
    assert_eq!(words(&scene.hand_in(checked(Ok(Some(1))))), ["unsubscribed"]);
}

#[test]
fn live_and_behind_are_said_on_a_change_only() {
    let mut scene = Scene::ready();
    scene.text(r#"{"type":"subscribe","sub":1,"to":{"all":true}}"#);
    let position = GlobalPosition::new(10);
    let live = || Input::Live { sub: Sub::new(1), position };
    let behind = || Input::Behind { sub: Sub::new(1), position, lag: 7 };
    assert_eq!(scene.hand_in(behind()), Said::new(), "it never was live");
    assert_eq!(words(&scene.hand_in(live())), ["live"]);
    assert_eq!(scene.hand_in(live()), Said::new());
    assert_eq!(scene.hand_in(behind())[0]["lag"], 7);
    assert_eq!(scene.hand_in(behind()), Said::new());
    assert_eq!(words(&scene.hand_in(live())), ["live"]);
    assert_eq!(scene.hand_in(Input::Live { sub: Sub::new(2), position }), Said::new());
}

#[test]
fn reading_pauses_while_too_many_requests_are_unanswered() {
    let limits = Limits { requests: 2, ..Limits::default() };
    let mut scene = Scene::new(SessionConfig { limits, ..SessionConfig::default() });
    scene.text(HELLO);
    let fetch =
        |id: &str| format!(r#"{{"type":"fetch","id":"{id}","from":{{"all":true}},"limit":9999}}"#);
    assert_eq!(scene.text(&fetch("1")), [json!({"fetch": "1", "limit": 1000})]);
    assert_eq!(words(&scene.text(&fetch("1"))), ["id_in_use"]);
    assert!(scene.session.may_read());
    let said = scene.text(&format!("[{},{}]", fetch("2"), fetch("3")));
    assert_eq!(words(&said), ["fetch", "too_many_requests"]);
    assert!(!scene.session.may_read());
    let answer = Ok(Answer::Page {
        events: Vec::new(),
        more: false,
        next: None,
        head: GlobalPosition::new(10),
    });
    let id = RequestId::new("1").expect("an id");
    assert_eq!(
        words(&scene.hand_in(Input::Answer { id: id.clone(), answer: answer.clone() })),
        ["page"]
    );
    assert!(scene.session.may_read());
    assert_eq!(scene.hand_in(Input::Answer { id, answer }), Said::new(), "one reply each");
}

#[test]
fn subscriptions_and_events_of_an_append_are_limited() {
    let limits = Limits { subscriptions: 1, append_events: 1, ..Limits::default() };
    let mut scene = Scene::new(SessionConfig { limits, ..SessionConfig::default() });
    scene.text(HELLO);
    scene.text(r#"{"type":"subscribe","sub":1,"to":{"all":true}}"#);
    let said = scene.text(r#"{"type":"subscribe","sub":2,"to":{"all":true}}"#);
    assert_eq!(words(&said), ["too_many_subscriptions"]);
    let event = r#"{"type":"T","data":1}"#;
    let append =
        |events: &str| format!(r#"{{"type":"append","id":"a","stream":"s","events":[{events}]}}"#);
    assert_eq!(words(&scene.text(&append(&format!("{event},{event}")))), ["too_many_events"]);
    assert_eq!(scene.text(&append(event)), [json!({"append": "a"})]);
}

#[test]
fn an_idle_peer_that_does_not_answer_a_ping_is_closed_after_five_seconds() {
    let mut scene = Scene::ready();
    let said = scene.pass(secs(30));
    assert!(said.contains(&json!({"ping": [0, 0, 0, 1]})), "{said:?}");
    let said = scene.pass(Duration::from_millis(4_999));
    assert!(!words(&said).contains(&"close".to_owned()), "{said:?}");
    let said = scene.pass(Duration::from_millis(1));
    assert_eq!(words(&said), ["goodbye", "close_frame", "close"]);
    assert_eq!(said[2], json!({"close": 4012}));
}

#[test]
fn a_pong_gives_the_round_trip_and_any_byte_gives_life() {
    let mut scene = Scene::ready();
    scene.pass(secs(30));
    scene.now += Duration::from_millis(40);
    let pong = Input::Message(Message::Pong(Bytes::from_static(&[0, 0, 0, 1])));
    assert_eq!(scene.hand_in(pong), [json!({"round_trip": 40})]);
    for _ in 0..20 {
        scene.pass(secs(1));
        scene.text(r#"{"type":"ping","id":"1"}"#);
        assert!(!scene.session.is_closed(), "after {:?}", scene.elapsed());
    }
}

#[test]
fn a_ping_behind_unsent_bytes_is_not_held_against_the_peer_but_standing_still_is() {
    let mut scene = Scene::ready();
    scene.activity.unsent_bytes = 5_000_000;
    for _ in 0..10 {
        scene.pass(secs(20));
        scene.activity.progress_at = scene.now;
        assert!(!scene.session.is_closed(), "it moves");
    }
    scene.pass(Duration::from_millis(59_999));
    assert!(!scene.session.is_closed());
    let said = scene.pass(Duration::from_millis(1));
    assert_eq!(said.last(), Some(&json!({"close": 4008})));
    assert!(CloseCode::NO_PROGRESS.is_abrupt(), "what is queued has no hope");
}

#[test]
fn heartbeats_tell_how_far_subscriptions_are_unless_the_socket_is_stuffed() {
    let mut scene = Scene::ready();
    scene.text(r#"{"type":"subscribe","sub":1,"to":{"all":true}}"#);
    assert_eq!(scene.pass(secs(15)), [json!("positions")]);
    let at = GlobalPosition::new(8);
    let said = scene.hand_in(Input::Positions(vec![(Sub::new(1), at), (Sub::new(5), at)]));
    assert_eq!(said, [json!({"type": "heartbeat", "head": 10, "positions": {"1": 8}})]);
    scene.activity.unsent_bytes = 1 << 20;
    scene.activity.progress_at = scene.now + secs(15);
    assert!(!scene.pass(secs(15)).contains(&json!("positions")));
}

#[test]
fn pongs_that_were_not_taken_yet_become_one() {
    let mut scene = Scene::ready();
    let moment = Moment { now: scene.now, head: GlobalPosition::new(10), removed: scene.removed };
    for payload in [&b"1"[..], b"2", b"3"] {
        let ping = Message::Ping(Bytes::from_static(payload));
        scene.session.handle(Input::Message(ping), moment);
    }
    let Some(Output::Pong(bytes)) = scene.session.poll() else { panic!("a pong is owed") };
    assert_eq!(frames(&bytes), [json!({"pong": [b'3']})]);
    assert_eq!(scene.session.poll(), None);
}

#[test]
fn a_drain_says_goodbye_answers_what_is_unanswered_and_closes() {
    let mut scene = Scene::ready();
    scene.text(r#"{"type":"append","id":"a","stream":"s","events":[{"type":"T","data":1}]}"#);
    let said = scene.hand_in(Input::Drain { reconnect_after: Duration::from_millis(1730) });
    assert_eq!(words(&said), ["goodbye"]);
    assert_eq!((&said[0]["code"], &said[0]["after_ms"]), (&json!(4001), &json!(1730)));
    assert!(!scene.session.may_read());
    let answer = Answer::Appended {
        stream: StreamName::new("s").expect("a name"),
        revision: Revision::FIRST,
        position: GlobalPosition::new(11),
    };
    let id = RequestId::new("a").expect("an id");
    let said = scene.hand_in(Input::Answer { id, answer: Ok(answer) });
    assert_eq!(words(&said), ["appended", "close_frame"]);
    assert!(scene.session.may_read(), "for the peer's Close frame");
    // Told of flushed bytes again and again, it still ends.
    for _ in 0..4 {
        scene.hand_in(Input::Flushed);
        scene.pass(Duration::from_millis(500));
    }
    assert!(scene.session.is_closed());
}

#[test]
fn a_new_epoch_sends_a_ready_session_away_to_come_back() {
    let mut scene = Scene::ready();
    let epoch = Epoch { epoch: Uuid::from_u128(2), first_position: GlobalPosition::new(11) };
    let said = scene.hand_in(Input::Epochs([epoch].into()));
    assert_eq!(words(&said), ["goodbye", "close_frame"]);
    assert_eq!((&said[0]["code"], &said[0]["reconnect"]), (&json!(4002), &json!(true)));
}

#[test]
fn an_idle_session_is_small() {
    let size = size_of::<Session>() + size_of::<FrameDecoder>();
    assert!(size < 700, "{size} bytes inline");
}
