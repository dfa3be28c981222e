//! The rules of a session for live queries and pages of documents, a scene each.

use std::{
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use serde_json::{Value, json};
use tidewire_eventstore::{DocumentKey, Generation, GlobalPosition, ProjectionName, Timestamp};
use tidewire_protocol::{
    Answer, Epoch, ErrorBody, ErrorCode, Input, Moment, Output, QueryChecked, RequestId, Session,
    SessionConfig, SessionId, SessionInfo, Sub,
    frame::{FrameDecoder, FrameLimits, Message},
    query::{Document, Query, Reached},
};
use uuid::Uuid;

/// The log has had two epochs; the second began at 5.
const FIRST_EPOCH: Uuid = Uuid::from_u128(1);
const EPOCH: Uuid = Uuid::from_u128(2);

/// What this node has looked at.
const HEAD: u64 = 100;

struct Scene {
    session: Session,
    now: Instant,
}

fn moment(now: Instant) -> Moment {
    Moment { now, head: GlobalPosition::new(HEAD), removed: GlobalPosition::START }
}

fn reached(generation: u64, position: u64) -> Reached {
    Reached { generation: Generation::new(generation), position: GlobalPosition::new(position) }
}

/// A projection of generation 3 at 90, which knows of deletes after 40.
fn checked(sub: u32) -> Input {
    let checked = QueryChecked { active: reached(3, 90), changes_from: GlobalPosition::new(40) };
    Input::QueryChecked { sub: Sub::new(sub), checked: Ok(checked) }
}

fn refused(sub: u32, code: ErrorCode) -> Input {
    Input::QueryChecked { sub: Sub::new(sub), checked: Err(ErrorBody::of(code)) }
}

impl Scene {
    fn new() -> Self {
        let now = Instant::now();
        let epoch = |epoch, first| Epoch { epoch, first_position: GlobalPosition::new(first) };
        let info = SessionInfo {
            session: SessionId(Uuid::from_u128(9)),
            node: Arc::from("a"),
            epochs: [epoch(FIRST_EPOCH, 1), epoch(EPOCH, 5)].into(),
            opened_at: Timestamp::from_micros(0),
            bearer: None,
        };
        let session = Session::new(SessionConfig::default(), info, moment(now));
        Self { session, now }
    }

    fn ready() -> Self {
        let mut scene = Self::new();
        let said = scene.say(&json!({"type": "hello", "protocol": 1, "epoch": EPOCH}));
        assert_eq!(said[0]["type"], "welcome");
        scene
    }

    fn hand_in(&mut self, input: Input) -> Vec<Value> {
        self.session.handle(input, moment(self.now));
        let mut said = Vec::new();
        while let Some(output) = self.session.poll() {
            match output {
                Output::Send(bytes) | Output::Pong(bytes) => said.extend(frames(&bytes)),
                Output::CheckQuery { sub, query } => {
                    said.push(json!({"check_query": sub.get(), "query": query.to_json()}));
                }
                Output::CheckHead { sub } => said.push(json!({"check_head": sub.get()})),
                Output::Watch { sub, from, resumed, .. } => said.push(json!({
                    "watch": sub.get(), "resumed": resumed,
                    "from": [from.generation.get(), from.position.get()],
                })),
                Output::Query { id, request } => said.push(json!({
                    "query": id.as_str(), "limit": request.limit, "cursor": request.cursor,
                    "wait": request.wait.map(GlobalPosition::get),
                    "timeout_ms": request.timeout_ms,
                })),
                Output::Shut { sub } => said.push(json!({"shut": sub.get()})),
                Output::Positions => said.push(json!("positions")),
                Output::RoundTrip(_) => {}
                Output::Close { code } => said.push(json!({"close": code.0})),
                other => said.push(json!(format!("{other:?}"))),
            }
        }
        said
    }

    fn text(&mut self, text: &str) -> Vec<Value> {
        self.hand_in(Input::Message(Message::Text(Bytes::copy_from_slice(text.as_bytes()))))
    }

    fn say(&mut self, message: &Value) -> Vec<Value> {
        self.text(&message.to_string())
    }
}

fn frames(bytes: &Bytes) -> Vec<Value> {
    let mut buf = BytesMut::from(&bytes[..]);
    let mut decoder = FrameDecoder::new(FrameLimits::client(1 << 20));
    let mut said = Vec::new();
    while let Some(message) = decoder.decode(&mut buf).expect("whole good frames") {
        said.push(match message {
            Message::Text(text) => serde_json::from_slice(&text).expect("JSON"),
            other => json!(format!("{other:?}")),
        });
    }
    said
}

/// The codes of the errors said, and everything else by its type or word.
fn words(said: &[Value]) -> Vec<&str> {
    said.iter()
        .map(|said| match said {
            Value::Object(fields) if fields.contains_key("type") => {
                match fields["type"].as_str().expect("a type") {
                    "error" => fields["code"].as_str().expect("a code"),
                    kind => kind,
                }
            }
            Value::Object(fields) => {
                ["check_query", "check_head", "watch", "shut", "close", "query"]
                    .into_iter()
                    .find(|word| fields.contains_key(*word))
                    .expect("a word")
            }
            word => word.as_str().expect("a word"),
        })
        .collect()
}

fn subscribe(more: Value) -> Value {
    let mut message = json!({"type": "subscribe", "sub": 1, "to": {"projection": "p"}});
    for (name, value) in more.as_object().expect("fields") {
        message[name] = value.clone();
    }
    message
}

#[test]
fn a_live_query_begins_with_its_state() {
    for after in [json!({}), json!({"after": "start"}), json!({"after": "end"})] {
        let mut scene = Scene::ready();
        let said = scene.say(&subscribe(after));
        assert_eq!(said, [json!({"check_query": 1, "query": {"projection": "p"}})]);
        assert_eq!(words(&scene.say(&subscribe(json!({})))), ["sub_in_use"]);
        let said = scene.hand_in(checked(1));
        assert_eq!(
            said,
            [
                json!({"type": "subscribed", "sub": 1, "head": 100, "after": 90, "generation": 3,
                    "resumed": false}),
                json!({"watch": 1, "resumed": false, "from": [3, 90]}),
            ]
        );
        assert_eq!(scene.hand_in(checked(1)), [Value::Null; 0], "asked once, answered once");
    }
}

#[test]
fn a_live_query_goes_on_where_it_can_and_says_why_where_it_cannot() {
    let windowed = json!({"projection": "p", "limit": 5});
    for (more, reset, from) in [
        (json!({"after": 60, "generation": 3}), None, [3, 60]),
        (json!({"after": 40, "generation": 3}), None, [3, 40]),
        // The projection has lost its last steps, and takes them again.
        (json!({"after": 95, "generation": 3}), None, [3, 95]),
        (json!({"after": 60, "generation": 3, "epoch": EPOCH}), None, [3, 60]),
        (json!({"after": 60, "generation": 2}), Some("generation"), [3, 90]),
        (json!({"after": 39, "generation": 3}), Some("truncated"), [3, 90]),
        // Before the later epoch began: an event would be the same, a generation need not be.
        (json!({"after": 4, "generation": 3, "epoch": FIRST_EPOCH}), Some("epoch"), [3, 90]),
        (
            json!({"after": 60, "generation": 3, "epoch": Uuid::from_u128(7)}),
            Some("epoch"),
            [3, 90],
        ),
        (json!({"after": 60, "generation": 3, "to": windowed}), Some("window"), [3, 90]),
    ] {
        let mut scene = Scene::ready();
        scene.say(&subscribe(more.clone()));
        let said = scene.hand_in(checked(1));
        assert_eq!(words(&said), ["subscribed", "watch"], "{more}");
        assert_eq!(said[0].get("reset").and_then(Value::as_str), reset, "{more}");
        assert_eq!(said[0]["resumed"], reset.is_none(), "{more}");
        assert_eq!(said[0]["generation"], from[0], "{more}");
        assert_eq!(said[0]["after"], from[1], "{more}");
        assert_eq!(said[1]["from"], json!(from), "{more}");
        assert_eq!(said[1]["resumed"], reset.is_none(), "{more}");
    }
}

#[test]
fn the_epoch_of_hello_counts_where_there_is_no_other() {
    let mut scene = Scene::new();
    let subscription = json!({"sub": 1, "to": {"projection": "p"}, "after": 60, "generation": 3});
    let said = scene.say(&json!({
        "type": "hello", "protocol": 1, "epoch": FIRST_EPOCH, "subscriptions": [subscription],
    }));
    assert_eq!(words(&said), ["welcome", "check_query"]);
    assert_eq!(scene.hand_in(checked(1))[0]["reset"], "epoch");
    // Who names none is taken at their word.
    let mut scene = Scene::new();
    scene.say(&json!({"type": "hello", "protocol": 1, "subscriptions": [subscription]}));
    assert_eq!(scene.hand_in(checked(1))[0]["resumed"], true);
}

#[test]
fn a_position_beyond_what_this_node_knows_is_checked_before_it_is_reset() {
    let head = |head: Result<u64, ErrorCode>| Input::HeadChecked {
        sub: Sub::new(1),
        head: head.map(GlobalPosition::new).map_err(ErrorBody::of),
    };
    for (answer, words_said, reset) in [
        (Ok(120), vec!["subscribed", "watch"], None),
        (Ok(119), vec!["subscribed", "watch"], Some("ahead")),
        (Err(ErrorCode::Unavailable), vec!["unavailable"], None),
    ] {
        let mut scene = Scene::ready();
        scene.say(&subscribe(json!({"after": 120, "generation": 3})));
        assert_eq!(scene.hand_in(head(Ok(500))), [Value::Null; 0], "nobody has asked yet");
        assert_eq!(scene.hand_in(checked(1)), [json!({"check_head": 1})]);
        assert_eq!(scene.hand_in(checked(1)), [Value::Null; 0], "asked once, answered once");
        let said = scene.hand_in(head(answer));
        assert_eq!(words(&said), words_said);
        assert_eq!(said[0].get("reset").and_then(Value::as_str), reset);
        assert_eq!(scene.hand_in(head(Ok(500))), [Value::Null; 0], "asked once, answered once");
    }
}

#[test]
fn a_query_that_is_ended_while_it_is_asked_about_keeps_its_handle_until_the_answer() {
    let unsubscribe = json!({"type": "unsubscribe", "sub": 1});
    let head = || Input::HeadChecked { sub: Sub::new(1), head: Ok(GlobalPosition::new(500)) };
    for answer in [checked(1), refused(1, ErrorCode::UnknownProjection)] {
        let mut scene = Scene::ready();
        scene.say(&subscribe(json!({})));
        assert_eq!(scene.say(&unsubscribe), [Value::Null; 0]);
        assert_eq!(words(&scene.say(&unsubscribe)), ["unknown_sub"]);
        assert_eq!(words(&scene.say(&subscribe(json!({})))), ["sub_in_use"]);
        assert_eq!(words(&scene.hand_in(answer)), ["unsubscribed"]);
        assert_eq!(words(&scene.say(&subscribe(json!({})))), ["check_query"]);
    }
    let mut scene = Scene::ready();
    scene.say(&subscribe(json!({"after": 120, "generation": 3})));
    scene.hand_in(checked(1));
    assert_eq!(scene.say(&unsubscribe), [Value::Null; 0]);
    assert_eq!(words(&scene.hand_in(head())), ["unsubscribed"]);
}

#[test]
fn live_and_behind_are_said_on_a_change_and_a_failure_ends_it() {
    let mut scene = Scene::ready();
    scene.say(&subscribe(json!({})));
    scene.hand_in(checked(1));
    let sub = Sub::new(1);
    let position = GlobalPosition::new(91);
    let behind = || Input::Behind { sub, position, lag: 2 };
    assert_eq!(scene.hand_in(behind()), [Value::Null; 0], "it never was live");
    assert_eq!(words(&scene.hand_in(Input::Live { sub, position })), ["live"]);
    assert_eq!(words(&scene.hand_in(behind())), ["behind"]);
    let said = scene.hand_in(Input::Positions(vec![(sub, position)]));
    assert_eq!(said[0]["positions"], json!({"1": 91}));
    assert_eq!(words(&scene.say(&json!({"type": "ack", "sub": 1, "position": 91}))), ["ack_none"]);
    let error = ErrorBody::of(ErrorCode::ProjectionUnavailable);
    let said = scene.hand_in(Input::FeedFailed { sub, error });
    assert_eq!(words(&said), ["shut", "unsubscribed"]);
    assert_eq!(
        (&said[1]["code"], &said[1]["retryable"]),
        (&json!("projection_unavailable"), &json!(true))
    );
    assert_eq!(words(&scene.say(&subscribe(json!({})))), ["check_query"], "the handle is free");
}

#[test]
fn a_query_that_cannot_be_served_is_refused_with_its_handle() {
    for code in [
        ErrorCode::UnknownProjection,
        ErrorCode::UnknownField,
        ErrorCode::UnindexedOrder,
        ErrorCode::ProjectionUnavailable,
    ] {
        let mut scene = Scene::ready();
        scene.say(&subscribe(json!({})));
        let said = scene.hand_in(refused(1, code));
        assert_eq!(words(&said), [code.as_str()]);
        assert_eq!(said[0]["sub"], 1);
        assert_eq!(words(&scene.say(&subscribe(json!({})))), ["check_query"], "it is free");
    }
}

#[test]
fn every_misuse_has_its_code_and_reaches_nobody() {
    let to = |query: Value| json!({"type": "subscribe", "sub": 1, "to": query});
    let fetch = |more: Value| {
        let mut message =
            json!({"type": "fetch", "id": "f", "from": {"projection": "p"}, "limit": 5});
        for (name, value) in more.as_object().expect("fields") {
            message[name] = value.clone();
        }
        message
    };
    let long = "x".repeat(201);
    for (message, code, field) in [
        (subscribe(json!({"filter": {"eq": ["type", "T"]}})), "invalid_query", "filter"),
        (subscribe(json!({"ack": "each"})), "invalid_query", "ack"),
        (subscribe(json!({"window": 5})), "invalid_query", "window"),
        (subscribe(json!({"consumer": "c"})), "invalid_query", "consumer"),
        (subscribe(json!({"batch": {"summary_ms": 500}})), "invalid_query", "batch"),
        (subscribe(json!({"after": 5})), "missing_field", "generation"),
        (subscribe(json!({"after": "now"})), "invalid_field", "after"),
        (subscribe(json!({"after": -5, "generation": 1})), "invalid_field", "after"),
        (subscribe(json!({"after": 5, "generation": "1"})), "invalid_field", "generation"),
        (to(json!({"projection": 5})), "invalid_query", "projection"),
        (to(json!({"projection": ""})), "name_empty", "projection"),
        (to(json!({"projection": "$p"})), "name_reserved", "projection"),
        (to(json!({"projection": "p", "stream": "s"})), "invalid_field", "to"),
        (to(json!({"projection": "p", "key": ""})), "invalid_query", "key"),
        (to(json!({"projection": "p", "key": long})), "invalid_query", "key"),
        (to(json!({"projection": "p", "key": "a\nb"})), "invalid_query", "key"),
        (to(json!({"projection": "p", "key": 5})), "invalid_query", "key"),
        (to(json!({"projection": "p", "key": "k", "limit": 5})), "invalid_query", "limit"),
        (to(json!({"projection": "p", "key": "k", "order": {}})), "invalid_query", "order"),
        (to(json!({"projection": "p", "order": {"by": "n"}})), "invalid_query", "order"),
        (
            to(json!({"projection": "p", "order": {"by": "."}, "limit": 5})),
            "invalid_query",
            "order",
        ),
        (
            to(json!({"projection": "p", "order": {"direction": "up"}, "limit": 5})),
            "invalid_query",
            "order",
        ),
        (to(json!({"projection": "p", "order": [], "limit": 5})), "invalid_query", "order"),
        (to(json!({"projection": "p", "limit": 0})), "invalid_query", "limit"),
        (to(json!({"projection": "p", "limit": 1001})), "invalid_query", "limit"),
        (to(json!({"projection": "p", "where": {"like": ["n", 1]}})), "invalid_query", "where"),
        (to(json!({"projection": "p", "where": true})), "invalid_query", "where"),
        (fetch(json!({"after": 5})), "invalid_query", "after"),
        (fetch(json!({"before": 5})), "invalid_query", "before"),
        (fetch(json!({"direction": "backwards"})), "invalid_query", "direction"),
        (fetch(json!({"limit": 0})), "invalid_field", "limit"),
        (fetch(json!({"limit": null})), "missing_field", "limit"),
        (fetch(json!({"wait": "soon"})), "invalid_field", "wait"),
        (fetch(json!({"timeout_ms": 30_001})), "invalid_field", "timeout_ms"),
        (fetch(json!({"cursor": 5})), "invalid_field", "cursor"),
        (fetch(json!({"from": {"projection": "p", "where": 1}})), "invalid_query", "where"),
    ] {
        let mut scene = Scene::ready();
        let said = scene.say(&message);
        assert_eq!(words(&said), [code], "{message}");
        assert_eq!(said[0]["details"]["field"], field, "{message}");
        let named = if message["type"] == "fetch" { ("id", json!("f")) } else { ("sub", json!(1)) };
        assert_eq!(said[0][named.0], named.1, "{message}");
        assert_eq!(words(&scene.say(&subscribe(json!({})))), ["check_query"], "it is free");
    }
    let mut scene = Scene::ready();
    let said = scene.say(&fetch(json!({"cursor": "x".repeat(8193)})));
    assert_eq!(words(&said), ["invalid_cursor"]);
}

#[test]
fn pages_of_documents_are_asked_for_and_answered() {
    let mut scene = Scene::ready();
    let fetch = |more: Value| {
        let mut message = json!({"type": "fetch", "id": "f", "from": {"projection": "p"}});
        for (name, value) in more.as_object().expect("fields") {
            message[name] = value.clone();
        }
        message
    };
    let said = scene.say(&fetch(json!({"limit": 9999, "cursor": "c", "wait": 7, "timeout_ms": 0})));
    let asked = json!({"query": "f", "limit": 1000, "cursor": "c", "wait": 7, "timeout_ms": 0});
    assert_eq!(said, [asked]);
    assert_eq!(words(&scene.say(&fetch(json!({"limit": 1})))), ["id_in_use"]);
    let document = Document {
        key: DocumentKey::new("k").expect("a good key"),
        data: Bytes::from_static(br#"{"n": 1}"#),
    };
    let answer = Answer::Documents {
        reached: reached(3, 90),
        documents: vec![document],
        more: true,
        next: Some("d".into()),
    };
    let id = RequestId::new("f").expect("a good id");
    let said = scene.hand_in(Input::Answer { id: id.clone(), answer: Ok(answer) });
    assert_eq!(
        said,
        [json!({"type": "page", "id": "f", "documents": [{"key": "k", "document": {"n": 1}}],
            "more": true, "next": "d", "position": 90, "generation": 3})]
    );
    // Of two limits the smaller one counts; one document needs none.
    for (more, limit) in [
        (json!({"from": {"projection": "p", "limit": 5}}), 5),
        (json!({"from": {"projection": "p", "limit": 5}, "limit": 3}), 3),
        (json!({"from": {"projection": "p", "order": {"by": "n"}}, "limit": 3}), 3),
        (json!({"from": {"projection": "p", "key": "k"}}), 1),
    ] {
        let said = scene.say(&fetch(more.clone()));
        assert_eq!(said[0]["limit"], limit, "{more}");
        assert_eq!(said[0]["timeout_ms"], 5000, "{more}");
        let error = ErrorBody::of(ErrorCode::WaitTimeout);
        let said = scene.hand_in(Input::Answer { id: id.clone(), answer: Err(error) });
        assert_eq!(words(&said), ["wait_timeout"]);
        assert_eq!(said[0]["retryable"], true);
    }
}

#[test]
fn live_queries_count_as_subscriptions_and_are_shut_with_the_session() {
    let mut scene = Scene::ready();
    for sub in 0..100 {
        scene.say(&json!({"type": "subscribe", "sub": sub, "to": {"projection": "p"}}));
        scene.hand_in(checked(sub));
    }
    let more = json!({"type": "subscribe", "sub": 100, "to": {"projection": "p"}});
    assert_eq!(words(&scene.say(&more)), ["too_many_subscriptions"]);
    let said = scene.hand_in(Input::Drain { reconnect_after: Duration::ZERO });
    let words = words(&said);
    assert_eq!(words.iter().filter(|word| **word == "shut").count(), 100);
}

#[test]
fn queries_that_are_written_alike_are_equal() {
    let projection = ProjectionName::new("p").expect("a good name");
    let parse = |json: Value| {
        tidewire_protocol::query::WrittenQuery::parse(&json).and_then(|query| query.live())
    };
    assert_eq!(parse(json!({"projection": "p"})), Ok(Query::all(projection)));
    for query in [
        json!({"projection": "p", "key": "k"}),
        json!({"projection": "p", "where": {"eq": ["a.b", 1]}}),
        json!({"projection": "p", "order": {"direction": "ascending"}, "limit": 5}),
        json!({"projection": "p", "order": {"by": "n", "direction": "descending"}, "limit": 5}),
    ] {
        let parsed = parse(query.clone()).expect("a good query");
        assert_eq!(parsed.to_json(), query);
        assert_eq!(parse(parsed.to_json()), Ok(parsed));
    }
    let first = parse(json!({"projection": "p", "limit": 5})).expect("a good query");
    assert_eq!(first.window.map(|window| window.limit), NonZeroU32::new(5));
}

/// Texts that look like what clients say of projections, good and bad.
fn hostile() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        Just(json!(null)),
        Just(json!("p")),
        Just(json!("end")),
        Just(json!(-1)),
        (0..130u64).prop_map(Value::from),
        Just(json!({"eq": ["n", 1]})),
        Just(json!({"and": [{"not": {"exists": "n"}}]})),
        Just(json!({"by": "n"})),
        Just(json!([])),
    ];
    let query = prop::collection::btree_map(
        prop::sample::select(vec!["projection", "key", "where", "order", "limit", "stream"]),
        scalar.clone(),
        0..5,
    );
    let fields = prop::collection::btree_map(
        prop::sample::select(vec![
            "sub",
            "id",
            "after",
            "generation",
            "epoch",
            "limit",
            "cursor",
            "wait",
            "timeout_ms",
            "filter",
            "batch",
            "position",
        ]),
        scalar,
        0..6,
    );
    let kind =
        prop::sample::select(vec!["subscribe", "fetch", "unsubscribe", "ack", "hello", "nack"]);
    (kind, query, fields, 0..4u32).prop_map(|(kind, query, fields, sub)| {
        let mut message = json!(fields);
        message["type"] = json!(kind);
        message["to"] = json!(query);
        message["from"] = json!(query);
        if sub > 0 {
            message["sub"] = json!(sub);
        }
        message.to_string()
    })
}

/// What a driver may answer, asked for or not.
fn answer() -> impl Strategy<Value = (u8, u32, u64)> {
    (0..7u8, 1..4u32, 0..200u64)
}

proptest! {
    /// Whatever a client says and a driver answers, each message is answered with sense: feeds
    /// are shut once each and only after they were started, and nothing panics.
    #[test]
    fn nothing_that_a_hostile_client_says_confuses_a_session(
        happenings in prop::collection::vec(
            prop_oneof![hostile().prop_map(Ok), answer().prop_map(Err)], 0..60),
    ) {
        let mut scene = Scene::ready();
        let mut fed = std::collections::BTreeSet::new();
        let mut asked = std::collections::BTreeSet::new();
        for happening in happenings {
            let answered = happening.is_err();
            let said = match happening {
                Ok(text) => scene.text(&text),
                Err((kind, number, position)) => {
                    let sub = Sub::new(number);
                    let at = GlobalPosition::new(position);
                    scene.hand_in(match kind {
                        0 | 1 => checked(number),
                        2 => refused(number, ErrorCode::ProjectionUnavailable),
                        3 => Input::HeadChecked { sub, head: Ok(at) },
                        4 => Input::Live { sub, position: at },
                        5 => Input::Behind { sub, position: at, lag: 1 },
                        _ => Input::FeedFailed { sub, error: ErrorCode::Unavailable.into() },
                    })
                }
            };
            for said in &said {
                if let Some(sub) = said.get("check_query") {
                    prop_assert!(asked.insert(sub.to_string()), "asked twice at a time");
                }
                if let Some(sub) = said.get("watch") {
                    prop_assert!(asked.remove(&sub.to_string()), "watched unasked");
                    prop_assert!(fed.insert(sub.to_string()), "started twice");
                }
                if let Some(sub) = said.get("shut") {
                    // Feeds of events are shut, too.
                    fed.remove(&sub.to_string());
                }
                // What a client says wrongly ends nothing; what a driver answers does.
                let ends = matches!(said["type"].as_str(), Some("error" | "unsubscribed"));
                if ends && answered {
                    asked.remove(&said["sub"].to_string());
                }
            }
        }
    }
}
