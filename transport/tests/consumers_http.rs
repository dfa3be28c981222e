//! Durable consumers and their parked events over HTTP: listed, shown, deleted, replayed, dropped.

mod support;

use serde_json::{Value, json};
use support::{Server, Setup};
use tidewire_eventstore::{
    Category, Claim, ConsumerName, Fence, GlobalPosition, MemberId, Parked, Partition, Save,
    Sharing, Target,
};

async fn get(server: &Server, path: &str) -> Value {
    let (status, body) = server.http("GET", path, None).await;
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).expect("JSON")
}

async fn post(server: &Server, path: &str, body: Value) -> (u16, Value) {
    let (status, answer) = server.http("POST", path, Some(&body.to_string())).await;
    (status, serde_json::from_str(&answer).expect("JSON"))
}

/// One who holds a consumer, beside the server.
struct Owner {
    name: ConsumerName,
    member: MemberId,
    partition: Partition,
    fence: Fence,
}

async fn claim(server: &Server, name: &str, sharing: Sharing, target: Target) -> Owner {
    let claim = Claim {
        name: ConsumerName::new(name).expect("a good name"),
        sharing,
        member: MemberId::generate(),
        node: "elsewhere".into(),
        filter: matches!(target, Target::Category(_))
            .then(|| r#"{"eq":{"type":"Happened"}}"#.to_owned()),
        target,
        after: GlobalPosition::START,
    };
    let (name, member) = (claim.name.clone(), claim.member);
    let claimed = server.store.consumers().claim(claim).await.expect("a good claim");
    let first = claimed.partitions.first().expect("a partition");
    Owner { name, member, partition: first.partition, fence: first.fence }
}

/// Parks events 1 to `count`, and settles everything up to there.
async fn park(server: &Server, owner: &Owner, count: u64) {
    let parked = (1..=count).map(|position| Parked {
        position: GlobalPosition::new(position),
        attempts: 3,
        reason: "attempts spent".into(),
    });
    let save = Save {
        name: owner.name.clone(),
        member: owner.member,
        partition: owner.partition,
        fence: owner.fence,
        checkpoint: GlobalPosition::new(count),
        attempts: Vec::new(),
        parked: parked.collect(),
        replayed: Vec::new(),
        release: None,
    };
    let answers = server.store.consumers().save(vec![save]).await.expect("answered");
    assert_eq!(answers, [Ok(())]);
}

fn positions(page: &Value) -> Vec<u64> {
    let parked = page["parked"].as_array().expect("a list");
    parked.iter().map(|parked| parked["position"].as_u64().expect("a number")).collect()
}

#[tokio::test]
async fn consumers_are_listed_and_shown() {
    let server = Server::start();
    assert_eq!(get(&server, "/consumers").await["consumers"], json!([]));
    server.append("order-1", 4).await;
    let owner = claim(&server, "mail/öl", Sharing::Exclusive, Target::All).await;
    park(&server, &owner, 2).await;
    let category = Target::Category(Category::new("order").expect("a good name"));
    claim(&server, "billing", Sharing::Group, category).await;

    let page = get(&server, "/consumers?limit=1").await;
    assert_eq!(
        (&page["more"], &page["next"], &page["head"]),
        (&json!(true), &json!("billing"), &json!(4))
    );
    let billing = &page["consumers"][0];
    assert_eq!(billing["sharing"], "group");
    assert_eq!(billing["to"], json!({ "category": "order" }));
    assert_eq!(billing["filter"], json!({ "eq": { "type": "Happened" } }));
    assert_eq!(billing["holders"][0]["partitions"], 64);
    let rest = get(&server, "/consumers?after=billing").await;
    assert_eq!((&rest["more"], rest.get("next")), (&json!(false), None));

    let mail = get(&server, "/consumers/mail%2F%C3%B6l").await;
    assert_eq!(mail["name"], "mail/öl");
    assert_eq!((&mail["sharing"], &mail["to"]), (&json!("exclusive"), &json!({ "all": true })));
    assert_eq!((&mail["checkpoint"], &mail["parked"]), (&json!(2), &json!(2)));
    assert_eq!((&mail["head"], mail.get("filter")), (&json!(4), None));
    assert_eq!(mail["holders"][0]["node"], "elsewhere");
    assert_eq!(mail["holders"][0]["member"], json!(owner.member.as_uuid()));
    assert!(mail["created_at"].as_str().is_some_and(|at| at.ends_with('Z')), "{mail}");
    assert_eq!(rest["consumers"][0]["name"], mail["name"]);
}

#[tokio::test]
async fn a_deleted_consumer_is_gone() {
    let server = Server::start();
    let owner = claim(&server, "mail", Sharing::Exclusive, Target::All).await;
    park(&server, &owner, 2).await;
    assert_eq!(server.http("DELETE", "/consumers/mail", None).await, (204, String::new()));
    for (method, path) in [
        ("GET", "/consumers/mail"),
        ("DELETE", "/consumers/mail"),
        ("GET", "/consumers/mail/parked"),
    ] {
        let (status, answer) = server.http(method, path, None).await;
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!((status, &answer["error"]["code"]), (404, &json!("unknown_consumer")));
    }
}

#[tokio::test]
async fn parked_events_are_listed_replayed_and_dropped() {
    let server = Server::start();
    server.append("order-1", 9).await;
    let owner = claim(&server, "mail", Sharing::Exclusive, Target::All).await;
    park(&server, &owner, 9).await;

    let page = get(&server, "/consumers/mail/parked?limit=4").await;
    assert_eq!(positions(&page), [1, 2, 3, 4]);
    assert_eq!((&page["more"], &page["next"]), (&json!(true), &json!(4)));
    let first = &page["parked"][0];
    assert_eq!((&first["stream"], &first["type"]), (&json!("order-1"), &json!("Happened")));
    assert_eq!((&first["attempts"], &first["reason"]), (&json!(3), &json!("attempts spent")));
    assert_eq!(first["replaying"], false);
    assert!(first["at"].as_str().is_some_and(|at| at.ends_with('Z')), "{first}");
    let page = get(&server, "/consumers/mail/parked?after=4").await;
    assert_eq!(positions(&page), [5, 6, 7, 8, 9]);
    assert_eq!((&page["more"], page.get("next")), (&json!(false), None));

    let (replay, drop) = ("/consumers/mail/parked/replay", "/consumers/mail/parked/drop");
    let done = |count: u64| (200, json!({ "count": count }));
    assert_eq!(post(&server, replay, json!({ "positions": [2, 7] })).await, done(2));
    let page = get(&server, "/consumers/mail/parked").await;
    let replaying = page["parked"].as_array().expect("a list").iter();
    let replaying: Vec<_> = replaying.map(|parked| parked["replaying"] == true).collect();
    assert_eq!(replaying, [false, true, false, false, false, false, true, false, false]);
    assert_eq!(post(&server, drop, json!({ "positions": [1, 9] })).await, done(2));

    let (status, refused) = post(&server, drop, json!({ "positions": [9, 3, 1] })).await;
    assert_eq!((status, &refused["error"]["code"]), (409, &json!("not_parked")));
    assert_eq!(refused["error"]["details"], json!({ "positions": [1, 9] }));
    assert_eq!(positions(&get(&server, "/consumers/mail/parked").await), [2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(post(&server, replay, json!({ "all": true })).await, done(7));
    assert_eq!(post(&server, drop, json!({ "all": true })).await, done(7));
    assert_eq!(post(&server, drop, json!({ "all": true })).await, done(0));
    assert_eq!(get(&server, "/consumers/mail").await["parked"], 0);
}

#[tokio::test]
async fn bad_requests_get_a_status_and_a_code() {
    let server = Server::start();
    claim(&server, "mail", Sharing::Exclusive, Target::All).await;
    let drop = "/consumers/mail/parked/drop";
    let many = format!(r#"{{"positions":{:?}}}"#, (1..=1001).collect::<Vec<_>>());
    for (method, path, kind, body, status, code) in [
        ("GET", "/consumers?limit=0", "", "", 400, "invalid_field"),
        ("GET", "/consumers?limit=101", "", "", 400, "invalid_field"),
        ("GET", "/consumers?nonsense=1", "", "", 400, "invalid_field"),
        ("GET", "/consumers/mail/parked?limit=1001", "", "", 400, "invalid_field"),
        ("GET", "/consumers/mail/parked?after=x", "", "", 400, "invalid_field"),
        ("GET", "/consumers/post/parked", "", "", 404, "unknown_consumer"),
        ("POST", drop, "text/plain", r#"{"all":true}"#, 415, "unsupported_media_type"),
        ("POST", drop, "application/json", "", 400, "invalid_message"),
        ("POST", drop, "application/json", "{}", 400, "missing_field"),
        ("POST", drop, "application/json", r#"{"all":false}"#, 400, "missing_field"),
        ("POST", drop, "application/json", r#"{"all":true,"positions":[1]}"#, 400, "missing_field"),
        ("POST", drop, "application/json", r#"{"positions":["1"]}"#, 400, "invalid_message"),
        ("POST", drop, "application/json", r#"{"position":[1]}"#, 400, "invalid_message"),
        ("POST", drop, "application/json", r#"{"positions":[]}"#, 400, "invalid_field"),
        ("POST", drop, "application/json", &many, 400, "invalid_field"),
        (
            "POST",
            "/consumers/post/parked/replay",
            "application/json",
            r#"{"all":true}"#,
            404,
            "unknown_consumer",
        ),
        ("POST", "/consumers/mail", "application/json", "{}", 405, "method_not_allowed"),
        ("GET", drop, "", "", 405, "method_not_allowed"),
    ] {
        let (got, answer) = server.http_with(method, path, kind, "", Some(body)).await;
        assert_eq!(got, status, "{method} {path} {body}: {answer}");
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!(answer["error"]["code"], code, "{method} {path} {body}");
    }
}

#[tokio::test]
async fn nobody_looks_or_changes_without_the_token() {
    let server = Server::with(Setup { token: Some("secret".into()), ..Setup::default() });
    claim(&server, "mail", Sharing::Exclusive, Target::All).await;
    for (method, path) in [
        ("GET", "/consumers"),
        ("GET", "/consumers/mail"),
        ("DELETE", "/consumers/mail"),
        ("GET", "/consumers/mail/parked"),
        ("POST", "/consumers/mail/parked/replay"),
        ("POST", "/consumers/mail/parked/drop"),
    ] {
        let (status, _) = server.http(method, path, Some(r#"{"all":true}"#)).await;
        assert_eq!(status, 401, "{method} {path}");
    }
    let token = "authorization: Bearer secret\r\n";
    let (status, _) = server.http_with("GET", "/consumers/mail", "", token, None).await;
    assert_eq!(status, 200);
}
