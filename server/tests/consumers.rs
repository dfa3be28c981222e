//! `tidewire consumers` and `tidewire parked`, through a server and straight on the database.

#![allow(clippy::unwrap_used)]

mod support;

use std::{path::Path, time::Duration};

use serde_json::Value;
use support::{Server, run_failing, run_ok};
use tidewire_eventstore::{
    Category, Claim, ConsumerName, EventStore, GlobalPosition, MemberId, Parked, Save, Sharing,
    SqliteOptions, SqliteStore, Target,
};

/// Leaves consumers in the log of `directory`: `mail/1`, which parked events 1 to `parked`, and a
/// group.
fn leave_consumers(directory: &Path, parked: u64) {
    let path = directory.join("tidewire.db");
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let mut options = SqliteOptions::tool();
        // The holders are gone, and looked at later.
        options.limits.consumer_lease = Duration::from_secs(3600);
        let store = SqliteStore::open(path, options).await.unwrap();
        let consumers = store.consumers();
        let claim = Claim {
            name: ConsumerName::new("mail/1").unwrap(),
            sharing: Sharing::Exclusive,
            member: MemberId::generate(),
            node: "n1".into(),
            target: Target::All,
            filter: None,
            after: GlobalPosition::START,
        };
        let claimed = consumers.claim(claim.clone()).await.unwrap();
        let save = Save {
            name: claim.name.clone(),
            member: claim.member,
            partition: claimed.partitions[0].partition,
            fence: claimed.partitions[0].fence,
            checkpoint: GlobalPosition::new(parked),
            attempts: Vec::new(),
            parked: (1..=parked)
                .map(|position| Parked {
                    position: GlobalPosition::new(position),
                    attempts: 3,
                    reason: "attempts\nspent".into(),
                })
                .collect(),
            replayed: Vec::new(),
            release: None,
        };
        assert_eq!(consumers.save(vec![save]).await.unwrap(), [Ok(())]);
        let group = Claim {
            name: ConsumerName::new("billing").unwrap(),
            sharing: Sharing::Group,
            target: Target::Category(Category::new("order").unwrap()),
            filter: Some("{}".into()),
            ..claim
        };
        consumers.claim(group).await.unwrap();
        store.close().await;
    });
}

/// Runs through everything; `at` names the place.
fn operate(directory: &Path, at: &[&str]) {
    let verb = |args: &[&str]| run_ok(directory, &[args, at].concat());
    let failing = |args: &[&str], code, why: &str| {
        run_failing(directory, &[args, at].concat(), code, why);
    };
    let listed = verb(&["consumers", "list"]);
    let lines: Vec<&str> = listed.lines().collect();
    assert_eq!(
        lines,
        [
            "billing  group of category order  checkpoint 0  parked 0  holders 1",
            "mail/1  exclusive of all streams  checkpoint 1200  parked 1200  holders 1",
        ]
    );
    let shown = verb(&["consumers", "show", "billing"]);
    assert!(shown.contains(" on n1, partitions 64") && shown.contains("filter {}"), "{shown}");
    let shown: Value =
        serde_json::from_str(&verb(&["consumers", "show", "mail/1", "--json"])).unwrap();
    assert_eq!((&shown["sharing"], &shown["checkpoint"]), (&"exclusive".into(), &1200.into()));

    let positions = |args: &[&str]| -> Vec<u64> {
        let printed = verb(&[&["parked", "list", "mail/1", "--json"], args].concat());
        let position =
            |line: &str| serde_json::from_str::<Value>(line).unwrap()["position"].as_u64().unwrap();
        printed.lines().map(position).collect()
    };
    assert!(positions(&[]).into_iter().eq(1..=1200), "page by page");
    assert!(positions(&["--after", "7", "--limit", "1005"]).into_iter().eq(8..=1012));
    assert_eq!(verb(&["parked", "replay", "mail/1", "2", "5"]), "replaying 2\n");
    let first = verb(&["parked", "list", "mail/1", "--limit", "2"]);
    let lines: Vec<&str> = first.lines().collect();
    assert_eq!(lines.len(), 2, "a reason stays on its line: {first}");
    assert!(lines[0].ends_with("order-1  Paid  attempts 3  attempts spent"), "{first}");
    assert!(lines[1].ends_with("-  -  attempts 3  attempts spent  (replaying)"), "{first}");
    assert_eq!(verb(&["parked", "drop", "mail/1", "1", "2"]), "dropped 2\n");
    failing(&["parked", "drop", "mail/1", "2", "3"], 1, "not parked");
    assert_eq!(verb(&["parked", "drop", "mail/1", "--all"]), "dropped 1198\n");
    assert!(positions(&[]).is_empty());

    failing(&["parked", "list", "nobody"], 1, "no consumer nobody");
    failing(&["parked", "drop", "mail/1"], 2, "<POSITION>");
    failing(&["parked", "drop", "mail/1", "1", "--all"], 2, "--all");
    assert_eq!(verb(&["consumers", "delete", "mail/1"]), "deleted mail/1\n");
    failing(&["consumers", "delete", "mail/1"], 1, "no consumer mail/1");
    failing(&["consumers", "show", "mail/1"], 1, "no consumer mail/1");
}

#[test]
fn consumers_are_operated_on_the_database() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    run_failing(path, &["consumers", "list"], 2, "there is no log");
    run_ok(path, &["append", "order-1", "Paid"]);
    assert_eq!(run_ok(path, &["consumers", "list"]), "");
    leave_consumers(path, 1200);
    operate(path, &[]);
}

#[test]
fn consumers_are_operated_through_a_server() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let server = Server::start(path, &["--token", "secret"]);
    run_ok(path, &["append", "order-1", "Paid"]);
    leave_consumers(path, 1200);
    let url = server.api.url();
    run_failing(path, &["consumers", "list", "--server", &url], 1, "token");
    operate(path, &["--server", &url, "--token", "secret"]);
}
