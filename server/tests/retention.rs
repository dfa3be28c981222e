//! The verbs that remove, in the database and through a server, and what a server removes by itself.

#![allow(clippy::unwrap_used)]

mod support;

use std::{fs, path::Path};

use serde_json::Value;
use support::{Api, Server, run_failing, run_ok, wait_until};

/// What `tidewire tail` shows of the log, an event a line.
fn tail(directory: &Path) -> Vec<Value> {
    let shown = run_ok(directory, &["tail", "--json", "--after", "start"]);
    shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What a server has of the log.
fn served(api: &Api) -> Vec<Value> {
    let (status, body) = api.get("/events?limit=1000");
    assert_eq!(status, 200, "{body}");
    let mut page: Value = serde_json::from_str(&body).unwrap();
    serde_json::from_value(page["events"].take()).unwrap()
}

fn outline(events: &[Value]) -> Vec<(&str, u64)> {
    let outline = |event: &'_ Value| {
        let stream: &'static str = match event["stream"].as_str().unwrap() {
            "order-1" => "order-1",
            "order-2" => "order-2",
            "mail-1" => "mail-1",
            other => panic!("nobody knows {other}"),
        };
        (stream, event["revision"].as_u64().unwrap())
    };
    events.iter().map(outline).collect()
}

fn append(directory: &Path) {
    for stream in ["order-1", "order-1", "order-1", "order-2", "mail-1"] {
        run_ok(directory, &["append", stream, "Happened", r#"{"name": "Ann"}"#]);
    }
}

/// Every verb, with the same words and the same outcome by either way.
#[test]
fn each_verb_removes_in_the_database_and_through_a_server() {
    for through_server in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path();
        append(directory);
        let server = through_server.then(|| Server::start(directory, &[]));
        let url = server.as_ref().map(|server| server.api.url());
        let run = |args: &[&str]| {
            let server = url.as_ref().map(|url| ["--server", url]);
            let server = server.as_ref().map(|server| &server[..]).unwrap_or_default();
            run_ok(directory, &[args, server].concat())
        };

        let data = r#"{"name": "Ann"}"#.len();
        assert_eq!(run(&["erase", "2"]), format!("position 2: erased {data} bytes\n"));
        assert_eq!(run(&["erase", "2"]), "position 2: there is nothing to erase any more\n");
        let events = tail(directory);
        assert_eq!((&events[1]["data"], &events[1]["erased"]), (&Value::Null, &true.into()));
        assert_eq!(events[5]["type"], "$erased");

        assert_eq!(
            run(&["truncate", "order-1", "--before", "1"]),
            format!("order-1: removed 1 event before revision 1 ({data} bytes)\n")
        );
        let left = [("order-1", 1), ("order-1", 2), ("order-2", 0), ("mail-1", 0), ("order-1", 3)];
        assert_eq!(outline(&tail(directory)), left);

        assert_eq!(
            run(&["delete", "order-2", "--json"]),
            format!("{{\"bytes\":{data},\"events\":1}}\n")
        );
        let anew = run(&["append", "order-2", "Happened", "--expected", "no_stream"]);
        assert_eq!(anew, "order-2 revision 1 position 7\n");

        let retained = run(&["retain", "order", "--max-bytes", "2", "--max-age", "1d"]);
        assert!(retained.starts_with("order: removed 3 events ("), "{retained}");
        assert_eq!(outline(&tail(directory)), [("mail-1", 0), ("order-2", 1)]);
        if let Some(server) = &server {
            assert_eq!(outline(&served(&server.api)), [("mail-1", 0), ("order-2", 1)]);
        }
    }
}

#[test]
fn a_slip_of_the_hand_removes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path();
    run_failing(directory, &["delete", "order-1"], 2, "there is no log");
    append(directory);
    let server = Server::start(directory, &[]);
    let url = server.api.url();
    for (args, code, explanation) in [
        (&["truncate", "order-1"][..], 2, "--before"),
        (&["retain", "order"], 2, "--max-age"),
        (&["retain", "order", "--max-age", "soon"], 2, "90d"),
        (&["delete", "$removed"], 2, "reserved"),
        (&["erase", "99"], 1, "no such event"),
        (&["erase", "99", "--server", &url], 1, "unknown_event"),
    ] {
        run_failing(directory, args, code, explanation);
    }
    assert_eq!(tail(directory).len(), 5);
}

/// A verb that writes the file beside the server: the server gives nothing of it once it knows.
#[test]
fn a_server_notices_what_is_removed_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path();
    append(directory);
    let server = Server::start(directory, &[]);
    assert_eq!(served(&server.api).len(), 5);
    run_ok(directory, &["erase", "1"]);
    run_ok(directory, &["delete", "mail-1"]);
    let events = served(&server.api);
    assert_eq!(events[0]["erased"], true);
    assert!(outline(&events).iter().all(|(stream, _)| *stream != "mail-1"));
    let appended = server.api.append("mail-1", r#"[{"type": "Happened", "data": 1}]"#);
    assert_eq!(appended.unwrap().1["revision"], 1, "the server's writer knows, too");
}

#[test]
fn a_server_removes_by_itself_what_its_settings_say() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path();
    append(directory);
    let settings = "[transport]\nretention_interval = 20\n\
                    [[transport.retention]]\ncategory = \"order\"\nmax_age_days = 0.0000001\n\
                    [[transport.retention]]\ncategory = \"mail\"\nmax_age_days = 1\nmax_bytes = 100\n";
    fs::write(directory.join("tidewire.toml"), settings).unwrap();
    let server = Server::start(directory, &["--config", "tidewire.toml"]);
    wait_until("the orders are gone", || outline(&served(&server.api)) == [("mail-1", 0)]);
    let (_, metrics) = server.api.get("/metrics");
    assert!(metrics.contains("tidewire_events_removed_total 4"), "{metrics}");

    fs::write(directory.join("wrong.toml"), "[[transport.retention]]\ncategory = \"$x\"\n")
        .unwrap();
    let serve = ["serve", "--address", "127.0.0.1:0", "--config", "wrong.toml"];
    run_failing(directory, &serve, 2, "reserved");
}
