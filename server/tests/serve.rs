//! `tidewire serve` on a file: who may come in, which settings win, and what is refused.

#![allow(clippy::unwrap_used)]

mod support;

use std::{fs, net::TcpListener};

use support::{Server, run_failing, run_ok, tidewire};

#[test]
fn what_is_appended_through_the_server_or_beside_it_is_in_one_log() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let url = server.api.url();

    let first = run_ok(
        directory.path(),
        &["append", "order-1", "Placed", r#"{"total": 12.50}"#, "--server", &url],
    );
    assert_eq!(first, "order-1 revision 0 position 1\n");
    let second = run_ok(directory.path(), &["append", "order-1", "Paid", "--json"]);
    assert_eq!(second, "{\"position\":2,\"revision\":1,\"stream\":\"order-1\"}\n");

    assert_eq!(server.api.positions(), [1, 2]);
    let (status, body) = server.api.get("/streams/order-1");
    assert_eq!(status, 200);
    assert!(body.contains(r#""data":{"total": 12.50}"#), "data is passed through: {body}");
}

#[test]
fn a_conflict_has_an_exit_status_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let url = server.api.url();
    run_ok(directory.path(), &["append", "order-1", "Placed"]);
    let again = ["append", "order-1", "Placed", "--expected", "no_stream"];
    run_failing(directory.path(), &again, 3, "revision 0");
    let over_http = [&again[..], &["--server", &url]].concat();
    run_failing(directory.path(), &over_http, 3, "wrong_expected_revision");
}

#[test]
fn an_append_with_an_id_takes_effect_once() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let url = server.api.url();
    let id = "6f1a54d2-9c0b-4e57-8d35-2b7e91c4a3f8";
    let append = ["append", "order-1", "Placed", "--id", id, "--server", &url];
    let first = run_ok(directory.path(), &append);
    assert_eq!(run_ok(directory.path(), &append), first);
    assert_eq!(server.api.positions(), [1]);
}

#[test]
fn a_second_server_on_the_same_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let _server = Server::start(directory.path(), &[]);
    let second = ["serve", "--address", "127.0.0.1:0"];
    run_failing(directory.path(), &second, 5, "another server has tidewire.db");
}

#[test]
fn an_address_in_use_is_refused_before_the_log_is_touched() {
    let directory = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    run_failing(directory.path(), &["serve", "--address", &address], 5, "--address");
    assert!(!directory.path().join("tidewire.db").exists());
}

#[test]
fn strangers_are_let_in_only_on_request() {
    let directory = tempfile::tempdir().unwrap();
    let open = ["serve", "--address", "0.0.0.0:0"];
    run_failing(directory.path(), &open, 2, "--token");

    let mut command = tidewire(directory.path());
    command.args(open).args(["--token", "sesame"]);
    let server = support::Running::start(command);
    let line = server.line();
    let port = line.rsplit_once(':').unwrap().1;
    let url = format!("http://127.0.0.1:{port}");
    let append = ["append", "order-1", "Placed", "--server", &url];
    run_failing(directory.path(), &append, 1, "token");
    run_ok(directory.path(), &[&append[..], &["--token", "sesame"]].concat());
}

#[test]
fn flags_beat_the_environment_which_beats_the_file() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(
        directory.path().join("tidewire.toml"),
        "address = '192.0.2.1:1'\ndatabase = 'file.db'\nlog = 'warn'\n[transport]\nping_interval = 5000\n",
    )
    .unwrap();
    let mut command = tidewire(directory.path());
    command
        .env("TIDEWIRE_CONFIG", "tidewire.toml")
        .env("TIDEWIRE_ADDRESS", "192.0.2.2:2")
        .env("TIDEWIRE_DATABASE", "environment.db")
        .args(["serve", "--address", "127.0.0.1:0"]);
    let _server = Server::run(command);
    assert!(directory.path().join("environment.db").exists());
    assert!(!directory.path().join("file.db").exists());
}

#[test]
fn settings_that_make_no_sense_are_refused_with_their_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    fs::write(path.join("misspelt.toml"), "adress = '127.0.0.1:0'\n").unwrap();
    fs::write(path.join("limits.toml"), "[transport]\ncolour = 'blue'\n").unwrap();
    for (args, explanation) in [
        (&["serve", "--address", "here"][..], "here"),
        (&["serve", "--config", "misspelt.toml"], "adress"),
        (&["serve", "--config", "limits.toml"], "colour"),
        (&["serve", "--config", "missing.toml"], "missing.toml"),
        (&["serve", "--set", "ping_interval=1"], "transport."),
        (&["serve", "--set", "transport.ping_interval=0", "--address", "127.0.0.1:0"], "zero"),
        (&["append", "$order", "Placed", "--server", "http://127.0.0.1:9"], "reserved"),
        (&["tail", "--after", "-1"], "start, end or a position"),
        (&["serve", "--database", "a.db", "--database-url", "postgres://b/b"], "cannot be used"),
        (&["serve", "--database-url", "mysql://b/b", "--address", "127.0.0.1:0"], "postgres://"),
        (&["serve", "--workers", "0"], "workers"),
        (&["append", "order-1", "Placed", "{"], "not JSON"),
        (&["append", "order-1", "Placed", "--server", "localhost"], "http://"),
        (&["append", "order-1", "Placed", "--expected", "perhaps"], "no_stream"),
        (&["demo", "--speed", "0"], "--speed"),
        (&["demo", "--address", "0.0.0.0:0"], "this machine alone"),
    ] {
        run_failing(path, args, 2, explanation);
    }
}

#[test]
fn a_server_or_a_database_that_is_away_has_an_exit_status_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = format!("http://{closed}");
    run_failing(path, &["append", "s", "T", "--server", &server], 4, "tidewire serve");
    run_failing(path, &["health", &server], 4, "cannot reach");
    let database = format!("postgres://nobody@{closed}/nothing");
    run_failing(path, &["migrate", "--database-url", &database], 4, "cannot connect");
}

#[test]
fn health_needs_no_certificates() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let mut command = tidewire(directory.path());
    command.env("SSL_CERT_FILE", "/nonexistent").env("SSL_CERT_DIR", "/nonexistent");
    let output = command.args(["health", &server.api.url()]).output().unwrap();
    assert!(output.status.success(), "{}", support::stderr(&output));
}

#[test]
fn a_ready_server_is_healthy_and_says_hello() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &["--log-format", "json"]);
    assert_eq!(run_ok(directory.path(), &["health", &server.api.url()]), "ready\n");
    let (status, page) = server.api.get("/");
    assert_eq!(status, 200);
    assert!(page.contains("Tidewire is running"));
    let logged = server.running.logged();
    let mut messages = logged.lines().map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).expect("the log is JSON lines");
        line["message"].clone()
    });
    assert!(messages.any(|message| message == "listening"), "{logged}");
}

#[test]
fn what_is_not_served_is_refused_in_the_same_words_as_everything() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    for (path, status, code) in [
        ("/nothing", 404, "not_found"),
        ("/streams/", 404, "not_found"),
        ("/ws", 400, "bad_handshake"),
        ("/events?limit=0", 400, "invalid_field"),
    ] {
        let (answered, body) = server.api.get(path);
        assert_eq!(answered, status, "{path}: {body}");
        assert!(body.contains(&format!("\"code\":\"{code}\"")), "{path}: {body}");
        assert!(body.contains("\"retryable\":false"), "{path}: {body}");
    }
}

#[test]
fn a_verb_that_only_looks_does_not_make_a_log() {
    let directory = tempfile::tempdir().unwrap();
    for args in [&["tail", "--no-follow"][..], &["epoch", "list"], &["epoch", "new"]] {
        let args = [args, &["--database", "slip.db"]].concat();
        run_failing(directory.path(), &args, 2, "there is no log at slip.db");
        assert!(!directory.path().join("slip.db").exists());
    }
}
