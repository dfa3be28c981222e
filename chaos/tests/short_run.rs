//! A short run of chaos is part of the tests: a few faults on each database, nothing wrong after;
//! and a bug that was planted is found, so that "nothing wrong" means something.
//!
//! It runs the program that the workspace's tests build; alone, `cargo build -p tidewire` first.

#![allow(clippy::unwrap_used)]

use std::process::{Command, Output};

fn chaos(options: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidewire-chaos")).args(options).output().unwrap()
}

fn assert_nothing_is_wrong(options: &[&str]) {
    let output = chaos(options);
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{options:?}:\n{said}\n{complained}");
    assert!(said.contains("nothing wrong: 15 faults"), "{said}");
}

#[test]
fn one_server_on_sqlite_survives() {
    assert_nothing_is_wrong(&["--store", "sqlite", "--faults", "15", "--seed", "7"]);
}

#[test]
fn two_servers_on_postgres_survive() {
    assert_nothing_is_wrong(&["--store", "postgres", "--faults", "15", "--seed", "7"]);
}

/// The program has plants in it when the tests are built with all features, as `cargo xtask test`
/// does.
#[cfg(feature = "plant")]
#[test]
fn a_planted_bug_is_found() {
    let plant = ["--no-consumers", "--plant", "skipped-batch"];
    let output =
        chaos(&[&["--store", "sqlite", "--faults", "10", "--seed", "7"], &plant[..]].concat());
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("never saw"), "{said}");
}
