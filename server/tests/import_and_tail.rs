//! Many events in by `tidewire import`, and out by `tidewire tail`.

#![allow(clippy::unwrap_used)]

mod support;

use std::{fmt::Write as _, fs, io::Write as _, process::Stdio, thread};

use nix::sys::signal::Signal;
use serde_json::Value;
use support::{Running, Server, run_failing, run_ok, tidewire, wait_until};

fn events(count: usize) -> String {
    let mut lines = String::new();
    for number in 0..count {
        let (stream, event_type) = (number % 7, if number % 2 == 0 { "Even" } else { "Odd" });
        writeln!(
            lines,
            r#"{{"stream":"order-{stream}","type":"{event_type}","data":{{"n":{number}}},"id":"00000000-0000-4000-8000-{number:012}"}}"#
        )
        .unwrap();
    }
    lines
}

fn numbers(json_lines: &str) -> Vec<u64> {
    let number = |line: &str| {
        let event: Value = serde_json::from_str(line).unwrap();
        event["data"]["n"].as_u64().unwrap()
    };
    json_lines.lines().map(number).collect()
}

#[test]
fn an_import_keeps_the_order_of_the_file_and_can_be_run_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    fs::write(path.join("events.ndjson"), events(3000)).unwrap();
    let summary = run_ok(path, &["import", "events.ndjson"]);
    assert!(
        summary.starts_with("3,000 events") && summary.ends_with("position is 3000\n"),
        "{summary}"
    );

    fs::write(path.join("events.ndjson"), events(3500)).unwrap();
    let summary = run_ok(path, &["import", "events.ndjson"]);
    assert!(summary.ends_with("position is 3500\n"), "ids take effect once: {summary}");
    let printed = run_ok(path, &["tail", "--no-follow", "--json"]);
    assert!(numbers(&printed).into_iter().eq(0..3500));
}

#[test]
fn an_import_through_a_server_keeps_the_order_too_and_can_be_run_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let server = Server::start(path, &["--token", "secret"]);
    let url = server.api.url();
    let import = ["import", "events.ndjson", "--server", &url];
    fs::write(path.join("events.ndjson"), events(3000)).unwrap();
    run_failing(path, &import, 1, "token");

    let import = [&import[..], &["--token", "secret"]].concat();
    for (count, positions) in [(3000, 3000), (3500, 3500)] {
        fs::write(path.join("events.ndjson"), events(count)).unwrap();
        let summary = run_ok(path, &import);
        assert!(summary.ends_with(&format!("position is {positions}\n")), "{summary}");
    }
    let printed = run_ok(path, &["tail", "--no-follow", "--json"]);
    // A stream's events keep their order; between streams the server may choose.
    let mut numbers = numbers(&printed);
    for stream in 0..7 {
        let of_stream = numbers.iter().filter(|number| **number % 7 == stream);
        assert!(of_stream.is_sorted());
    }
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..3500));

    let bad = format!("{}\n{{\"stream\":\"order-1\"}}\n{}", events(2), events(5));
    fs::write(path.join("events.ndjson"), bad).unwrap();
    run_failing(path, &import, 1, "line 4: ");
    let large = format!(r#"{{"stream":"a-1","type":"T","data":"{}"}}"#, "x".repeat(2 << 20));
    fs::write(path.join("events.ndjson"), format!("{}{large}", events(1))).unwrap();
    run_failing(path, &import, 1, "line 2: ");
}

#[test]
fn an_import_goes_on_when_its_server_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let mut server = Server::start(path, &[]);
    let address = server.api.url().replace("http://", "");
    let mut command = tidewire(path);
    command.args(["import", "-", "--server", &server.api.url()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut import = command.spawn().unwrap();
    let mut input = import.stdin.take().unwrap();

    let lines = events(2000);
    let (first, rest) = lines.split_at(lines.len() / 2);
    input.write_all(first.as_bytes()).unwrap();
    wait_until("the import has begun", || !server.api.positions().is_empty());
    server.running.signal(Signal::SIGKILL);
    server.running.wait();
    // More than a pipe holds, so that the import has to take it while it waits.
    let rest = rest.to_owned();
    let writing = thread::spawn(move || input.write_all(rest.as_bytes()).unwrap());
    let mut command = tidewire(path);
    command.args(["serve", "--address", &address]);
    let server = Server::run(command);
    assert!(import.wait_with_output().unwrap().status.success());
    writing.join().unwrap();
    assert!(server.api.positions().into_iter().eq(1..=2000));
}

#[test]
fn what_tail_prints_can_be_imported_elsewhere() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    fs::write(path.join("events.ndjson"), events(20)).unwrap();
    run_ok(path, &["import", "events.ndjson"]);
    let printed = run_ok(path, &["tail", "--no-follow", "--json"]);

    let mut command = tidewire(path);
    command.args(["import", "-", "--database", "copy.db"]).stdin(Stdio::piped());
    let mut import = command.stdout(Stdio::piped()).spawn().unwrap();
    import.stdin.take().unwrap().write_all(printed.as_bytes()).unwrap();
    assert!(import.wait().unwrap().success());

    let copy = run_ok(path, &["tail", "--no-follow", "--json", "--database", "copy.db"]);
    let without_time = |lines: &str| -> Vec<Value> {
        let parse = |line: &str| {
            let mut event: Value = serde_json::from_str(line).unwrap();
            event.as_object_mut().unwrap().remove("at");
            event
        };
        lines.lines().map(parse).collect()
    };
    assert_eq!(without_time(&copy), without_time(&printed));
}

#[test]
fn a_bad_line_is_named_and_what_came_before_it_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let lines = format!("{}\n{{\"stream\":\"order-1\"}}\n{}", events(2), events(5));
    fs::write(path.join("events.ndjson"), lines).unwrap();
    run_failing(path, &["import", "events.ndjson"], 1, "line 4: ");
    let printed = run_ok(path, &["tail", "--no-follow", "--json"]);
    assert_eq!(numbers(&printed), [0, 1]);
    run_failing(path, &["import", "nothing.ndjson"], 1, "nothing.ndjson");
}

#[test]
fn tail_selects_by_stream_category_type_and_position() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    fs::write(path.join("events.ndjson"), events(20)).unwrap();
    run_ok(path, &["import", "events.ndjson"]);
    run_ok(path, &["append", "invoice-1", "Sent", r#"{"n": 100}"#]);
    for (args, expected) in [
        (&["--stream", "order-3"][..], &[3, 10, 17][..]),
        (&["--category", "invoice"], &[100]),
        (&["--all", "--after", "19"], &[19, 100]),
        (&["--category", "order", "--after", "17"], &[17, 18, 19]),
        (&["--types", "Odd,Sent", "--after", "15"], &[15, 17, 19, 100]),
        (&["--after", "start", "--limit", "2"], &[0, 1]),
        (&["--after", "end"], &[]),
        (&["--after", "21"], &[]),
    ] {
        let printed = run_ok(path, &[&["tail", "--no-follow", "--json"], args].concat());
        assert_eq!(numbers(&printed), expected, "{args:?}");
    }
    run_failing(path, &["tail", "--no-follow", "--after", "22"], 2, "after the end");
    run_failing(path, &["tail", "--stream", "a", "--all"], 2, "cannot be used");
}

#[test]
fn tail_follows_the_database_itself() {
    tail_follows(|_| Vec::new());
}

#[test]
fn tail_follows_a_server() {
    tail_follows(|url| vec!["--server".to_owned(), url]);
}

#[test]
fn tail_through_a_server_ends_at_the_end_if_it_is_not_to_follow() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    fs::write(path.join("events.ndjson"), events(2500)).unwrap();
    run_ok(path, &["import", "events.ndjson"]);
    let server = Server::start(path, &[]);
    let url = server.api.url();
    let tail = ["tail", "--no-follow", "--json", "--server", &url];
    assert!(numbers(&run_ok(path, &tail)).into_iter().eq(0..2500));
    for (args, expected) in [
        (&["--stream", "order-3", "--types", "Odd", "--limit", "2"][..], &[3, 17][..]),
        (&["--stream", "order-3", "--after", "2480"], &[2481, 2488, 2495]),
        (&["--category", "order", "--after", "2498"], &[2498, 2499]),
        (&["--category", "nothing"], &[]),
        (&["--after", "end"], &[]),
        (&["--after", "2500"], &[]),
    ] {
        assert_eq!(numbers(&run_ok(path, &[&tail[..], args].concat())), expected, "{args:?}");
    }
    let beyond = ["tail", "--server", &url, "--after", "2501"];
    run_failing(path, &beyond, 2, "after the end");
    run_failing(path, &[&beyond[..], &["--no-follow"]].concat(), 2, "after the end");
}

#[test]
fn tail_through_a_server_has_what_another_process_has_just_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    // A server that finds out by itself only after the test is over.
    let server = Server::start(path, &["--set", "transport.head_poll=600000"]);
    let tail = ["tail", "--no-follow", "--json", "--server", &server.api.url()];
    for number in 0..5 {
        run_ok(path, &["append", "order-1", "T", &format!(r#"{{"n": {number}}}"#)]);
        assert!(numbers(&run_ok(path, &tail)).into_iter().eq(0..=number));
    }
}

fn tail_follows(server_options: impl Fn(String) -> Vec<String>) {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let append = |number: u32| {
        let events = format!(r#"[{{"type":"T","data":{{"n":{number}}}}}]"#);
        assert_eq!(server.api.append("order-1", &events).unwrap().0, 201);
    };
    append(0);
    let mut command = tidewire(directory.path());
    command.args(["tail", "--stream", "order-1", "--after", "start", "--json"]);
    command.args(server_options(server.api.url()));
    let tail = Running::start(command);
    assert_eq!(numbers(&tail.line()), [0]);
    for number in 1..10 {
        append(number);
        assert_eq!(numbers(&tail.line()), [u64::from(number)]);
    }
}

#[test]
fn a_new_epoch_is_listed_after_the_first() {
    let directory = tempfile::tempdir().unwrap();
    run_ok(directory.path(), &["append", "order-1", "Placed"]);
    let first = run_ok(directory.path(), &["epoch", "list"]);
    assert!(first.contains("from position 1 "), "{first}");
    let second = run_ok(directory.path(), &["epoch", "new"]);
    assert!(second.contains("from position 2 "), "{second}");
    assert_eq!(run_ok(directory.path(), &["epoch", "list"]), format!("{first}{second}"));
}
