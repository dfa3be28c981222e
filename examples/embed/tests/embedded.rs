//! The application answers for itself, and its log answers below `/log`.

#![allow(clippy::unwrap_used)]

mod support;

use support::{Application, ask};

#[test]
fn an_application_has_a_log_below_a_path_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let application = Application::start(directory.path());
    let ask = |request: &str, body: &str| ask(&application.address, request, body).unwrap();

    assert!(ask("GET /", "").ends_with("the application's own page\n"));
    let body = r#"{"events": [{"type": "OrderPlaced", "data": {"total": 12}}]}"#;
    let answer = ask("POST /log/streams/order-1", body);
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    let answer = ask("GET /log/events", "");
    assert!(answer.contains(r#""data":{"total": 12}"#), "{answer}");
    assert!(ask("GET /events", "").starts_with("HTTP/1.1 404"));
}
