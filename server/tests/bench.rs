//! The benchmarks run, and lose nothing. How fast they are is not tested.

use std::process::Command;

fn bench(arguments: &[&str]) -> serde_json::Value {
    let program = env!("CARGO_BIN_EXE_tidewire");
    let output = Command::new(program).arg("bench").args(arguments).arg("--json").output();
    let output = output.expect("the program starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

#[test]
fn fanout_delivers_every_event_to_everybody() {
    for rate in ["0", "200"] {
        let arguments =
            format!("fanout --sessions 20 --rate {rate} --seconds 0.3 --rounds 1 --verify --limit");
        let report = bench(&arguments.split(' ').collect::<Vec<_>>());
        assert_eq!(report["losses"], 0);
        assert!(report["events"].as_u64() > Some(0), "{report}");
        assert!(report["ratio_to_bare_writer"]["cpu_seconds_per_million"]["median"].is_number());
    }
}

#[test]
fn acks_settle_every_event_within_a_window_smaller_than_what_is_sent_at_once() {
    let arguments =
        "acks --sessions 20 --rate 400 --seconds 0.5 --rounds 1 --window 8 --delay-ms 20";
    let report = bench(&arguments.split(' ').collect::<Vec<_>>());
    assert_eq!(report["losses"], 0);
    assert!(report["ratio"]["cpu_seconds_per_million"]["median"].is_number(), "{report}");
}
