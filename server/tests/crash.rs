//! A server that is killed loses nothing that it said yes to; one that is asked to end finishes.
//!
//! Writers append all the time while the server goes away. Whatever was answered has to be in the
//! log afterwards, at the position that was told, and positions have no hole.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use nix::sys::signal::Signal;
use serde_json::json;
use support::{PATIENCE, Server, run_ok, socket::Socket, wait_until};

const WRITERS: usize = 4;

/// Starts a server, has it written to, ends it by `signal` in the midst of that, and returns the
/// exit status and the positions that were told to the writers.
fn interrupted_server(directory: &Path, signal: Signal) -> (Option<i32>, Vec<u64>) {
    let mut server = Server::start(directory, &[]);
    let told: Arc<Mutex<Vec<u64>>> = Arc::default();
    let enough = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (api, told, enough) = (server.api.clone(), Arc::clone(&told), Arc::clone(&enough));
            thread::spawn(move || {
                while !enough.load(Ordering::Relaxed) {
                    let events = r#"[{"type":"T","data":1},{"type":"T","data":2}]"#;
                    match api.append(&format!("writer-{writer}"), events) {
                        Some((201, answer)) => {
                            told.lock().unwrap().push(answer["position"].as_u64().unwrap());
                        }
                        // Gone, or refused because it drains.
                        _ => return,
                    }
                }
            })
        })
        .collect();
    wait_until("some appends are answered", || told.lock().unwrap().len() > 50);
    server.running.signal(signal);
    enough.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.join().unwrap();
    }
    let status = server.running.wait();
    let told = Arc::into_inner(told).expect("the writers are gone").into_inner().unwrap();
    (status, told)
}

fn assert_nothing_is_lost(directory: &Path, told: &[u64]) {
    let server = Server::start(directory, &[]);
    let positions = server.api.positions();
    let head = u64::try_from(positions.len()).unwrap();
    assert!(positions.iter().copied().eq(1..=head), "positions have no hole");
    let last = told.iter().max().unwrap();
    assert!(*last <= head, "position {last} was told, and the log ends at {head}");
    let mut distinct = told.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), told.len(), "no position was told twice");
}

#[test]
fn a_killed_server_loses_nothing_that_it_said_yes_to() {
    let directory = tempfile::tempdir().unwrap();
    let (status, told) = interrupted_server(directory.path(), Signal::SIGKILL);
    assert_eq!(status, None, "it was killed");
    assert_nothing_is_lost(directory.path(), &told);
}

#[test]
fn a_server_that_is_asked_to_end_finishes_what_it_has_and_succeeds() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let directory = tempfile::tempdir().unwrap();
        let (status, told) = interrupted_server(directory.path(), signal);
        assert_eq!(status, Some(0));
        assert_nothing_is_lost(directory.path(), &told);
    }
}

#[test]
fn a_session_is_told_when_to_come_back_and_resumes_where_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::start(directory.path(), &[]);
    run_ok(directory.path(), &["append", "order-1", "T"]);
    let subscribe =
        |after| json!({"type": "subscribe", "sub": 1, "to": {"all": true}, "after": after});
    let mut socket = Socket::connect(&server.api);
    socket.send(&subscribe(json!("start")));
    assert_eq!(socket.wait_for("events", PATIENCE)["events"][0]["position"], 1);

    server.running.signal(Signal::SIGTERM);
    let goodbye = socket.wait_for("goodbye", PATIENCE);
    assert_eq!((&goodbye["code"], &goodbye["reconnect"]), (&json!(4001), &json!(true)));
    assert!(goodbye["after_ms"].as_u64().unwrap() <= 5000, "{goodbye}");
    assert_eq!(socket.wait_for_close().0, 4001);
    drop(socket);
    assert_eq!(server.running.wait(), Some(0));

    run_ok(directory.path(), &["append", "order-1", "T"]);
    let server = Server::start(directory.path(), &[]);
    let mut socket = Socket::connect(&server.api);
    socket.send(&subscribe(json!(1)));
    assert_eq!(socket.wait_for("events", PATIENCE)["events"][0]["position"], 2);
}
