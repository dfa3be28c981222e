//! Commands over a real socket and over HTTP: typed handlers, one effect a key, each session's in
//! the order in which they were sent.

mod support;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use support::{Server, Setup, eventually};
use tidewire_eventstore::{EventType, ExpectedRevision, NewEvent, StreamName};
use tidewire_transport::{
    Builder,
    commands::{Caller, CommandError, Context, Decision},
};
use tokio::sync::Semaphore;

#[derive(Deserialize)]
struct Deposit {
    account: String,
    amount: u64,
}

#[derive(Serialize)]
struct Balance {
    balance: u64,
}

fn server(prepare: fn(Builder) -> Builder) -> Server {
    Server::with(Setup { prepare: Some(prepare), ..Setup::default() })
}

fn event(data: impl Into<String>) -> NewEvent {
    NewEvent::json(EventType::new("Deposited").expect("a good name"), data.into())
}

async fn deposit(context: Context, deposit: Deposit) -> Result<Decision<Balance>, CommandError> {
    if deposit.amount == 0 {
        let error = CommandError::new("nothing_deposited", "the amount is zero");
        return Err(error.with_details(json!({ "min": 1 })));
    }
    let stream = StreamName::new(&format!("account-{}", deposit.account))
        .map_err(|error| CommandError::new("bad_account", error.to_string()))?;
    let account = context.stream(&stream).await?;
    let amount = deposit.amount;
    let balance = account.events.len() as u64 + amount;
    let events = (0..amount).map(|n| event(n.to_string()));
    Ok(Decision::answer(Balance { balance }).append(stream, account.unchanged(), events))
}

fn bank(builder: Builder) -> Builder {
    builder
        .command("deposit", deposit)
        .command("who", async |context: Context, (): ()| {
            Ok(Decision::answer(match context.caller() {
                Caller::Session(id) => json!({ "session": &**id }),
                _ => json!("http"),
            }))
        })
        .command("panic", async |_: Context, data: Value| {
            if data["really"] == true {
                panic!("as told");
            }
            Ok(Decision::answer(data))
        })
}

fn command(id: &str, name: &str, data: &Value, key: Option<&str>) -> Value {
    let mut message = json!({ "type": "command", "id": id, "name": name, "data": data });
    if let Some(key) = key {
        message["key"] = key.into();
    }
    message
}

#[tokio::test]
async fn a_session_is_answered_with_a_result_and_its_position() {
    let server = server(bank);
    let mut client = server.connect().await;
    let ann = json!({ "account": "ann", "amount": 2 });
    client.send(command("a", "deposit", &ann, Some("k-1"))).await;
    let result = client.expect("result").await;
    let first = json!({ "type": "result", "id": "a", "data": { "balance": 2 }, "position": 2 });
    assert_eq!(result, first);

    // Again, from another session and by HTTP: the first result.
    let mut other = server.connect().await;
    other.send(command("b", "deposit", &ann, Some("k-1"))).await;
    let again = other.expect("result").await;
    assert_eq!((&again["data"], &again["position"]), (&first["data"], &first["position"]));
    let body = json!({ "data": ann, "key": "k-1" }).to_string();
    let (status, answer) = server.http("POST", "/commands/deposit", Some(&body)).await;
    assert_eq!((status, &*answer), (200, "{\"data\":{\"balance\":2},\"position\":2}\n"));
    assert_eq!(server.head().await.get(), 2);

    // Nothing appended, no position; and the handler knows who asks.
    client.send(command("w", "who", &json!(null), None)).await;
    let who = client.expect("result").await;
    assert_eq!(who.get("position"), None);
    let (_, sessions) = server.http("GET", "/sessions", None).await;
    let id = who["data"]["session"].as_str().expect("an id");
    assert!(sessions.contains(id), "{id} is not in {sessions}");
}

#[tokio::test]
async fn a_refusal_over_the_socket_has_its_code_and_details() {
    let server = server(bank);
    let mut client = server.connect().await;
    let amount = |amount: Value| json!({ "account": "ann", "amount": amount });
    for (name, data, code, details) in [
        (
            "deposit",
            amount(json!(0)),
            "command_failed",
            json!({ "code": "nothing_deposited", "details": { "min": 1 } }),
        ),
        ("panic", json!({ "really": true }), "command_failed", json!({ "code": "$panicked" })),
        ("withdraw", amount(json!(1)), "unknown_command", Value::Null),
        ("deposit", amount(json!("much")), "invalid_field", json!({ "field": "data" })),
    ] {
        client.send(command("x", name, &data, Some("k"))).await;
        let error = client.expect("error").await;
        assert_eq!((&error["id"], &error["code"]), (&json!("x"), &json!(code)), "{error}");
        let mut told = error["details"].clone();
        if code == "invalid_field" {
            told.as_object_mut().expect("an object").remove("reason").expect("a reason");
        }
        assert_eq!(told, details);
    }
    // The session goes on.
    client.send(command("x", "deposit", &amount(json!(1)), Some("k"))).await;
    assert_eq!(client.expect("result").await["data"]["balance"], 1);
}

#[tokio::test]
async fn http_says_by_its_status_what_became_of_a_command() {
    let server = server(bank);
    for (path, body, status, code) in [
        ("deposit", r#"{"data":{"account":"a","amount":1}}"#, 200, ""),
        ("deposit", r#"{"data":{"account":"a","amount":0}}"#, 422, "command_failed"),
        ("deposit", r#"{"data":{"account":"a"}}"#, 400, "invalid_field"),
        ("deposit", r#"{"key":"k"}"#, 400, "missing_field"),
        ("deposit", r#"{"data":1,"key":""}"#, 400, "name_empty"),
        ("deposit", r#"{"data":"#, 400, "invalid_message"),
        ("panic", r#"{"data":{"really":true}}"#, 500, "command_failed"),
        ("withdraw", r#"{"data":{}}"#, 404, "unknown_command"),
        ("%24own", r#"{"data":{}}"#, 400, "name_reserved"),
        ("panic", r#"{"data":1,"key":"k"}"#, 200, ""),
        ("panic", r#"{"data":2,"key":"k"}"#, 409, "key_reused"),
    ] {
        let path = format!("/commands/{path}");
        let (found, answer) = server.http("POST", &path, Some(body)).await;
        assert_eq!(found, status, "{path} {body}: {answer}");
        if status != 200 {
            let answer: Value = serde_json::from_str(&answer).expect("JSON");
            assert_eq!(answer["error"]["code"], code, "{path} {body}");
        }
    }
    assert_eq!(server.http("GET", "/commands/deposit", None).await.0, 405);
    let (status, _) =
        server.http_with("POST", "/commands/deposit", "text/plain", "", Some("{}")).await;
    assert_eq!(status, 415);
    for (outcome, count) in [("executed", 2.0), ("refused", 1.0), ("failed", 1.0)] {
        let metric = format!("tidewire_commands_total{{outcome=\"{outcome}\"}}");
        assert_eq!(server.metric(&metric).await, count, "{outcome}");
    }
    assert_eq!(server.metric("tidewire_command_duration_seconds_count").await, 7.0);
}

#[tokio::test]
async fn a_server_without_handlers_knows_no_command() {
    let server = Server::start();
    let mut client = server.connect().await;
    client.send(command("a", "deposit", &json!({}), Some("k"))).await;
    assert_eq!(client.expect("error").await["code"], "unknown_command");
    assert_eq!(server.http("POST", "/commands/deposit", Some(r#"{"data":1}"#)).await.0, 404);
}

/// Lets as many `wait` commands end as it has permits.
static ORDER_GATE: Semaphore = Semaphore::const_new(0);

fn waiting(builder: Builder) -> Builder {
    builder
        .command("wait", async |_: Context, n: u64| {
            ORDER_GATE.acquire().await.expect("never closed").forget();
            append(n)
        })
        .command("go", async |_: Context, n: u64| append(n))
}

fn append(n: u64) -> Result<Decision<u64>, CommandError> {
    let stream = StreamName::new("order-1").expect("a good name");
    Ok(Decision::answer(n).append(stream, ExpectedRevision::Any, [event(n.to_string())]))
}

#[tokio::test]
async fn the_commands_of_one_session_take_effect_in_order_and_delay_no_other() {
    let server = server(waiting);
    let (mut slow, mut quick) = (server.connect().await, server.connect().await);
    slow.send(json!([
        command("1", "wait", &json!(1), None),
        command("2", "go", &json!(2), None),
        command("3", "go", &json!(3), Some("k")),
    ]))
    .await;
    eventually("the first runs", async || server.metric("tidewire_commands_running").await == 1.0)
        .await;
    quick.send(command("q", "go", &json!(9), None)).await;
    assert_eq!(quick.expect("result").await["position"], 1);
    ORDER_GATE.add_permits(1);
    for (id, position) in [("1", 2), ("2", 3), ("3", 4)] {
        let result = slow.expect("result").await;
        assert_eq!((&result["id"], &result["position"]), (&json!(id), &json!(position)));
    }
}

static DRAIN_GATE: Semaphore = Semaphore::const_new(0);

#[tokio::test]
async fn a_server_that_stops_answers_the_commands_it_has_begun() {
    let server = server(|builder| {
        builder.command("wait", async |_: Context, n: u64| {
            DRAIN_GATE.acquire().await.expect("never closed").forget();
            append(n)
        })
    });
    let mut client = server.connect().await;
    client.send(command("1", "wait", &json!(1), Some("k"))).await;
    eventually("it runs", async || server.metric("tidewire_commands_running").await == 1.0).await;
    let tidewire = server.tidewire();
    let draining = tokio::spawn(async move { tidewire.drain().await });
    client.expect("goodbye").await;
    DRAIN_GATE.add_permits(1);
    assert_eq!(client.expect("result").await["position"], 1);
    assert_eq!(client.close_code().await, 4001);
    assert_eq!(draining.await.expect("no panic"), 0);
}
