//! After a restore or a fail-over the log may hold other events at positions that were delivered.
//! Once its new epoch is known, every session comes back, and is given what the log holds now: all
//! of it, and nothing of what it held before.

mod support;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use support::{Client, Server, Setup, eventually, rewindable::Rewindable};

const SESSIONS: usize = 6;

/// How long a session may take to get its events. Meanwhile it hears heartbeats.
const PATIENCE: Duration = Duration::from_secs(10);

struct World {
    log: Arc<Rewindable>,
    server: Server,
}

impl World {
    /// A server with two workers over a log with `count` events of the stream `old-1`.
    async fn with_events(count: usize, hears: bool, event_bytes: usize) -> Self {
        let log = Rewindable::new(hears).await;
        let mut setup = Setup { workers: 2, store: Some(log.clone()), ..Setup::default() };
        setup.config.head_poll = Duration::from_millis(50);
        let server = Server::with(setup);
        let world = Self { log, server };
        world.append("old-1", count, event_bytes).await;
        world
    }

    async fn append(&self, stream: &str, count: usize, event_bytes: usize) {
        for begin in (0..count).step_by(500) {
            self.server.append_sized(stream, 500.min(count - begin), event_bytes).await;
        }
    }

    /// Connects, and says hello with `hello`; the welcome, too.
    async fn connect(&self, mut hello: Value) -> (Client, Value) {
        let mut client = self.server.connect_silently().await;
        hello["type"] = json!("hello");
        hello["protocol"] = json!(1);
        client.send(hello).await;
        let welcome = client.expect("welcome").await;
        (client, welcome)
    }

    /// Waits until every worker knows `epoch`: sessions go to the workers in turns.
    async fn knows(&self, epoch: &Value) {
        eventually("the node knows the new epoch", async || {
            for _ in 0..4 {
                let (_, welcome) = self.connect(json!({})).await;
                if welcome["epoch"] != *epoch {
                    return false;
                }
            }
            true
        })
        .await;
    }
}

/// The events of a subscription through a position: the stream and the position of each.
async fn through(client: &mut Client, position: u64) -> Vec<(String, u64)> {
    let mut seen = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while !reaches(&seen, position) {
        assert!(Instant::now() < deadline, "only {:?} of {position}", seen.last());
        let message = client.message().await;
        assert_ne!(message["type"], "goodbye", "{message}");
        seen.extend(events(&message));
    }
    seen
}

/// The same, until the subscription is live as well: whichever comes first.
async fn through_and_live(client: &mut Client, position: u64) -> Vec<(String, u64)> {
    let (mut seen, mut live) = (Vec::new(), false);
    let deadline = Instant::now() + PATIENCE;
    while !live || !reaches(&seen, position) {
        assert!(Instant::now() < deadline, "only {:?} of {position}, live {live}", seen.last());
        let message = client.message().await;
        assert_ne!(message["type"], "goodbye", "{message}");
        live |= message["type"] == "live";
        seen.extend(events(&message));
    }
    seen
}

fn reaches(seen: &[(String, u64)], position: u64) -> bool {
    seen.last().is_some_and(|(_, last)| *last >= position)
}

fn events(message: &Value) -> Vec<(String, u64)> {
    let outline = |event: &Value| {
        let stream = event["stream"].as_str().expect("a stream").to_owned();
        (stream, event["position"].as_u64().expect("a position"))
    };
    match message["events"].as_array() {
        Some(events) if message["type"] == "events" => events.iter().map(outline).collect(),
        _ => Vec::new(),
    }
}

fn of(stream: &str, positions: std::ops::RangeInclusive<u64>) -> Vec<(String, u64)> {
    positions.map(|position| (stream.to_owned(), position)).collect()
}

async fn every_session_comes_back_and_misses_nothing(hears: bool) {
    let world = World::with_events(100, hears, 20).await;
    let mut live = Vec::new();
    for _ in 0..SESSIONS {
        let (mut client, welcome) = world.connect(json!({})).await;
        client.subscribe_all(1, json!(90)).await;
        assert_eq!(through_and_live(&mut client, 100).await, of("old-1", 91..=100));
        live.push((client, welcome["epoch"].clone()));
    }

    let epoch = json!(world.log.rewind(50).await);
    // Somebody appends before the node looks.
    world.append("new-1", 3, 20).await;
    for (client, _) in &mut live {
        // A worker that had not heard of the events yet may have said `behind` and `live` again.
        let goodbye = client.skip_to("goodbye").await;
        assert_eq!((&goodbye["code"], &goodbye["reconnect"]), (&json!(4002), &json!(true)));
        assert_eq!(client.close_code().await, 4002);
    }

    let mut back = Vec::new();
    for (_, old_epoch) in live {
        let (mut client, welcome) = world
            .connect(json!({ "epoch": old_epoch, "subscriptions": [
                { "sub": 1, "to": { "all": true }, "after": 100 },
                { "sub": 2, "to": { "stream": "new-1" }, "after": 50 },
            ] }))
            .await;
        assert_eq!(welcome["epoch"], epoch);
        assert!(welcome["head"].as_u64() <= Some(53), "{welcome}");
        let reset = client.expect("reset").await;
        assert_eq!((&reset["sub"], &reset["reason"]), (&json!(1), &json!("epoch")));
        // The epochs tell the same of a position that both lives have.
        let message = client.expect("subscribed").await;
        assert_eq!((&message["sub"], &message["resumed"]), (&json!(2), &json!(true)));
        assert_eq!(through_and_live(&mut client, 53).await, of("new-1", 51..=53));
        back.push(client);
    }
    // At positions that had been delivered, and then beyond them.
    for (last, count) in [(60, 7), (130, 70)] {
        world.append("new-1", count, 20).await;
        for client in &mut back {
            let first = last - count as u64 + 1;
            assert_eq!(through(client, last).await, of("new-1", first..=last), "live");
        }
    }
    // And by catch-up.
    for _ in 0..SESSIONS {
        let (mut client, _) = world.connect(json!({})).await;
        client.subscribe_all(1, json!("start")).await;
        let whole = [of("old-1", 1..=50), of("new-1", 51..=130)].concat();
        assert_eq!(through(&mut client, 130).await, whole, "by catch-up");
    }
}

#[tokio::test]
async fn every_session_comes_back_and_misses_nothing_where_commits_are_heard() {
    every_session_comes_back_and_misses_nothing(true).await;
}

#[tokio::test]
async fn every_session_comes_back_and_misses_nothing_where_another_process_appends() {
    every_session_comes_back_and_misses_nothing(false).await;
}

#[tokio::test]
async fn pages_that_were_kept_are_not_given_to_the_next_life() {
    let world = World::with_events(3_000, true, 20).await;
    for _ in 0..4 {
        let (mut client, _) = world.connect(json!({})).await;
        client.subscribe_all(1, json!("start")).await;
        assert_eq!(through(&mut client, 3_000).await.len(), 3_000);
    }
    let epoch = json!(world.log.rewind(500).await);
    world.append("new-1", 2_600, 20).await;
    world.knows(&epoch).await;
    for _ in 0..4 {
        let (mut client, _) = world.connect(json!({})).await;
        client.subscribe_all(1, json!("start")).await;
        let whole = [of("old-1", 1..=500), of("new-1", 501..=3_100)].concat();
        assert!(through(&mut client, 3_100).await == whole, "something else than the log");
    }
}

#[tokio::test]
async fn a_read_that_began_before_is_not_shared_with_who_comes_after() {
    let world = World::with_events(1_500, true, 20).await;
    world.log.hold();
    let mut before = Vec::new();
    for _ in 0..4 {
        let (mut client, _) = world.connect(json!({})).await;
        client.subscribe_all(1, json!("start")).await;
        before.push(client);
    }
    eventually("a page is being read", async || world.log.held() == 1).await;
    let epoch = json!(world.log.rewind(10).await);
    world.append("new-1", 1_500, 20).await;
    world.knows(&epoch).await;
    let mut after = Vec::new();
    for _ in 0..4 {
        let (mut client, _) = world.connect(json!({})).await;
        client.subscribe_all(1, json!("start")).await;
        after.push(client);
    }
    eventually("another page is being read", async || world.log.held() == 2).await;
    world.log.release();
    let whole = [of("old-1", 1..=10), of("new-1", 11..=1_510)].concat();
    for client in &mut after {
        assert!(through(client, 1_510).await == whole, "something else than the log");
    }
    for client in &mut before {
        assert_eq!(client.close_code().await, 4002);
    }
}

#[tokio::test]
async fn a_reader_in_the_middle_of_its_catch_up_sees_nothing_of_the_next_life() {
    let world = World::with_events(4_000, true, 4_000).await;
    // It does not read, so that it stands somewhere in the middle.
    let (mut client, welcome) = world.connect(json!({})).await;
    client.subscribe_all(1, json!("start")).await;
    eventually("it is given something", async || {
        world.server.metric("tidewire_sent_bytes_total").await > 100_000.0
    })
    .await;
    let epoch = json!(world.log.rewind(10).await);
    world.append("new-1", 5_000, 20).await;
    world.knows(&epoch).await;

    let mut seen = Vec::new();
    loop {
        let message = client.message().await;
        seen.extend(events(&message));
        if message["type"] == "goodbye" {
            assert_eq!(message["code"], 4002);
            break;
        }
    }
    let last = seen.len() as u64;
    assert!(last < 4_000, "it was not in the middle");
    assert_eq!(seen, of("old-1", 1..=last));
    let (mut client, _) = world
        .connect(json!({ "epoch": welcome["epoch"], "subscriptions":
            [{ "sub": 1, "to": { "all": true }, "after": last }] }))
        .await;
    assert_eq!(client.expect("reset").await["reason"], "epoch");
}

#[tokio::test]
async fn who_is_ahead_of_a_log_that_lost_its_end_does_not_read_for_ever() {
    let world = World::with_events(100, true, 20).await;
    world.log.cut(50).await;
    let (mut client, _) = world.connect(json!({})).await;
    client.subscribe_all(1, json!(70)).await;
    let ended = client.expect("unsubscribed").await;
    assert_eq!((&ended["code"], &ended["retryable"]), (&json!("unavailable"), &json!(true)));
    assert!(world.server.metric("tidewire_catch_up_reads_total").await < 20.0);
    // Until the operator says so.
    let epoch = json!(world.log.rewind(50).await);
    assert_eq!(client.close_code().await, 4002);
    world.knows(&epoch).await;
}
