//! HTTP beside the socket: the same fields and codes.

mod support;

use serde_json::{Value, json};
use support::Server;

async fn get(server: &Server, path: &str) -> Value {
    let (status, body) = server.http("GET", path, None).await;
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).expect("JSON")
}

fn positions(page: &Value, of: &str) -> Vec<u64> {
    let events = page["events"].as_array().expect("a list");
    events.iter().map(|event| event[of].as_u64().expect("a number")).collect()
}

#[tokio::test]
async fn what_is_posted_can_be_read_page_by_page() {
    let server = Server::start();
    let body = r#"{"expected":"no_stream","events":[{"type":"A","data":{"x":1.0}},{"type":"B","data":null,"meta":{"by":"me"}}]}"#;
    let (status, answer) = server.http("POST", "/streams/%C3%B6l-1", Some(body)).await;
    assert_eq!(status, 201, "{answer}");
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!(answer, json!({ "stream": "öl-1", "revision": 1, "position": 2 }));
    server.append("mail-1", 3).await;

    let stream = get(&server, "/streams/%C3%B6l-1").await;
    assert_eq!(positions(&stream, "revision"), [0, 1]);
    assert_eq!((&stream["more"], stream.get("next")), (&json!(false), None));
    assert_eq!(stream["events"][1]["meta"], json!({ "by": "me" }));

    let page = get(&server, "/events?limit=2").await;
    assert_eq!(positions(&page, "position"), [1, 2]);
    assert_eq!((&page["more"], &page["next"], &page["head"]), (&json!(true), &json!(2), &json!(5)));
    let page = get(&server, "/events?after=2").await;
    assert_eq!(positions(&page, "position"), [3, 4, 5]);
    let page = get(&server, "/events?direction=backwards&limit=2").await;
    assert_eq!(positions(&page, "position"), [5, 4]);
    let page = get(&server, "/events?before=4&category=mail").await;
    assert_eq!(positions(&page, "position"), [3]);
    let page = get(&server, "/events?types=A,B").await;
    assert_eq!(positions(&page, "position"), [1, 2]);
    let page = get(&server, "/streams/mail-1?before=2&limit=1").await;
    assert_eq!(positions(&page, "revision"), [1]);
    assert_eq!(page["next"], 1);
}

#[tokio::test]
async fn payload_bytes_pass_through_verbatim() {
    let server = Server::start();
    let data = r#"{ "a" : 1.50e+0 , "a": "\u00e9",  "big": 12345678901234567890 }"#;
    let body = format!(r#"{{"events":[{{"type":"T","data":{data}}}]}}"#);
    assert_eq!(server.http("POST", "/streams/s-1", Some(&body)).await.0, 201);
    let (_, page) = server.http("GET", "/streams/s-1", None).await;
    assert!(page.contains(data), "{page}");

    let body = r#"{"events":[{"type":"T","data_base64":"AAEC/w==","content_type":"image/png"}]}"#;
    assert_eq!(server.http("POST", "/streams/s-1", Some(body)).await.0, 201);
    let page = get(&server, "/streams/s-1?after=0").await;
    assert_eq!(page["events"][0]["data_base64"], "AAEC/w==");
    assert_eq!(page["events"][0]["content_type"], "image/png");
}

#[tokio::test]
async fn an_id_makes_a_post_take_effect_once() {
    let server = Server::start();
    let body = r#"{"expected":"no_stream","events":[{"id":"018f4f3e-7b1a-7c3d-8e4f-5a6b7c8d9e0f","type":"A","data":1}]}"#;
    let first = server.http("POST", "/streams/s-1", Some(body)).await;
    let second = server.http("POST", "/streams/s-1", Some(body)).await;
    assert_eq!(first, second);
    assert_eq!(server.head().await.get(), 1);
}

#[tokio::test]
async fn bad_requests_get_a_status_and_a_code() {
    let server = Server::with_config(|config| config.message_bytes_max = 2000);
    let big = format!(r#"{{"events":[{{"type":"T","data":"{}"}}]}}"#, "x".repeat(3000));
    let good = r#"{"events":[{"type":"T","data":1}]}"#;
    for (method, path, kind, body, status, code) in [
        ("POST", "/streams/s-1", "text/plain", good, 415, "unsupported_media_type"),
        ("POST", "/streams/s-1", "application/json", "{", 400, "invalid_message"),
        ("POST", "/streams/s-1", "application/json", "{}", 400, "missing_field"),
        ("POST", "/streams/$all", "application/json", good, 400, "name_reserved"),
        ("POST", "/streams/s-1", "application/json", &big, 413, "too_large"),
        (
            "POST",
            "/streams/s-1",
            "application/json",
            r#"{"expected":7,"events":[{"type":"T","data":1}]}"#,
            409,
            "wrong_expected_revision",
        ),
        ("GET", "/events?limit=0", "", "", 400, "invalid_field"),
        ("GET", "/events?limit=1001", "", "", 400, "invalid_field"),
        ("GET", "/events?after=-1", "", "", 400, "invalid_field"),
        ("GET", "/events?after=1&before=2", "", "", 400, "invalid_field"),
        ("GET", "/events?direction=sideways", "", "", 400, "invalid_field"),
        ("GET", "/events?nonsense=1", "", "", 400, "invalid_field"),
        ("GET", "/streams/s-1?types=A", "", "", 400, "invalid_field"),
        ("GET", "/sessions?limit=0", "", "", 400, "invalid_field"),
        ("GET", "/nothing-here", "", "", 404, "not_found"),
        ("DELETE", "/events", "", "", 405, "method_not_allowed"),
    ] {
        let (got, answer) = server.http_with(method, path, kind, "", Some(body)).await;
        assert_eq!(got, status, "{method} {path} {body}: {answer}");
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!(answer["error"]["code"], code, "{method} {path} {body}");
        assert!(
            answer["error"]["message"].is_string() && answer["error"]["retryable"].is_boolean()
        );
    }
    assert_eq!(server.head().await.get(), 0);
}

#[tokio::test]
async fn metrics_are_prometheus_text_without_unbounded_labels() {
    let server = Server::start();
    server.append("order-1", 3).await;
    let mut client = server.connect().await;
    client.subscribe_all(0, json!("start")).await;
    client.positions_through(0, 3).await;
    let (_, text) = server.http("GET", "/metrics", None).await;
    for line in [
        "tidewire_sessions 1",
        "tidewire_subscriptions 1",
        "tidewire_head_position 3",
        "tidewire_events_appended_total 3",
        "tidewire_events_delivered_total 3",
        "# TYPE tidewire_commit_to_socket_seconds histogram",
        "# TYPE tidewire_append_latency_seconds histogram",
        "# EOF",
    ] {
        assert!(text.contains(line), "no {line:?} in\n{text}");
    }
    assert!(!text.contains("order-1"));
}
