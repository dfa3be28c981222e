//! Durable consumers on real sockets: checkpoints, take-over, crashes, groups.

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use support::{Client, DEADLINE, Server, Setup, eventually};
use tidewire_eventstore::{ConsumerName, EventStore, GlobalPosition, MemoryStore};

impl Client {
    async fn consume(&mut self, consumer: Value, window: u32) -> Value {
        self.send(json!({ "type": "subscribe", "sub": 1, "to": { "all": true }, "after": "start",
            "consumer": consumer, "window": window }))
            .await;
        self.skip_to("subscribed").await
    }

    async fn ack(&mut self, position: u64) {
        self.send(json!({ "type": "ack", "sub": 1, "position": position })).await;
    }

    /// The next message with events: positions, attempts and streams.
    async fn events(&mut self) -> Vec<(u64, u64, String)> {
        let message = self.skip_to("events").await;
        let events = message["events"].as_array().expect("a list");
        let of = |event: &Value| {
            let stream = event["stream"].as_str().expect("a stream").to_owned();
            let attempt = event["attempt"].as_u64().unwrap_or(1);
            (event["position"].as_u64().expect("a position"), attempt, stream)
        };
        events.iter().map(of).collect()
    }

    /// Events until position `through`.
    async fn through(&mut self, through: u64) -> Vec<u64> {
        let mut got: Vec<u64> = Vec::new();
        while got.last().copied() < Some(through) {
            got.extend(self.events().await.into_iter().map(|(position, ..)| position));
        }
        got
    }

    async fn leave(mut self) {
        self.socket.close(None).await.expect("an open socket");
        while futures_util::StreamExt::next(&mut self.socket).await.is_some() {}
    }
}

fn name(name: &str) -> ConsumerName {
    ConsumerName::new(name).expect("a good name")
}

async fn checkpoint(store: &Arc<dyn EventStore>, consumer: &str) -> u64 {
    let consumers = store.consumers().consumers(None, 100).await.expect("a list");
    let found = consumers.into_iter().find(|info| info.name == name(consumer));
    found.expect("it exists").checkpoint.get()
}

async fn parked(store: &Arc<dyn EventStore>, consumer: &str) -> Vec<u64> {
    let parked = store.consumers().parked(name(consumer), GlobalPosition::START, 100).await;
    parked.expect("a list").parked.iter().map(|event| event.position.get()).collect()
}

#[tokio::test]
async fn a_consumer_goes_on_where_it_has_settled_and_beats_what_after_says() {
    let server = Server::start();
    server.append("a-1", 5).await;
    let mut client = server.connect().await;
    let subscribed = client.consume(json!("mail"), 100).await;
    assert_eq!((&subscribed["after"], &subscribed["resumed"]), (&json!(0), &json!(false)));
    assert_eq!(client.through(5).await, [1, 2, 3, 4, 5]);
    client.ack(3).await;
    client.leave().await;

    let mut client = server.connect().await;
    let subscribed = client.consume(json!("mail"), 100).await;
    assert_eq!((&subscribed["after"], &subscribed["resumed"]), (&json!(3), &json!(true)));
    assert_eq!(client.through(5).await, [4, 5]);
    client.ack(5).await;
    eventually("the checkpoint is written", async || checkpoint(&server.store, "mail").await == 5)
        .await;

    client
        .send(
            json!({ "type": "subscribe", "sub": 2, "to": { "category": "a" }, "consumer": "mail" }),
        )
        .await;
    assert_eq!(client.skip_to("error").await["code"], "consumer_mismatch");
}

#[tokio::test]
async fn checkpoints_are_written_once_a_second_at_most() {
    let server = Server::start();
    let mut client = server.connect().await;
    client.consume(json!("mail"), 100).await;
    client.skip_to("live").await;
    let begun = Instant::now();
    let mut position = 0;
    while begun.elapsed() < Duration::from_millis(2_500) {
        position = server.append("a-1", 1).await;
        client.through(position).await;
        client.ack(position).await;
    }
    assert!(position > 20, "only {position} events");
    eventually("all is written", async || checkpoint(&server.store, "mail").await == position)
        .await;
    let written = server.metric("tidewire_consumer_checkpoints_total").await;
    let most = begun.elapsed().as_secs_f64() + 1.0;
    assert!((2.0..=most).contains(&written), "{written} of {most}");
}

#[tokio::test]
async fn the_newest_holder_takes_over_on_the_same_node_and_on_another() {
    let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
    let node = || Server::with(Setup { store: Some(store.clone()), ..Setup::default() });
    let (one, other) = (node(), node());
    one.append("a-1", 3).await;
    let mut first = one.connect().await;
    first.consume(json!("mail"), 10).await;
    assert_eq!(first.through(3).await, [1, 2, 3]);
    let mut second = one.connect().await;
    second.consume(json!("mail"), 10).await;
    let ended = first.skip_to("unsubscribed").await;
    assert_eq!((&ended["code"], &ended["retryable"]), (&json!("consumer_taken"), &json!(false)));
    // What the stale holder says counts for nothing.
    first.ack(3).await;
    assert_eq!(first.expect("error").await["code"], "unknown_sub");
    // It was not let go of in good order: one event first.
    assert_eq!(second.events().await.len(), 1);
    second.ack(1).await;
    assert_eq!(second.through(3).await, [2, 3]);

    let mut third = other.connect().await;
    third.consume(json!("mail"), 10).await;
    let ended = second.skip_to("unsubscribed").await;
    assert_eq!(ended["code"], "consumer_taken");
}

#[tokio::test]
async fn an_event_that_crashes_its_reader_is_parked_and_a_lost_connection_parks_nothing() {
    // No heartbeat comes to the help of a wake-up that is missing.
    let server = Server::with_config(|config| config.heartbeat_interval = Duration::from_secs(600));
    server.append("a-1", 5).await;
    let mut client = server.connect().await;
    client.consume(json!("mail"), 100).await;
    assert_eq!(client.through(5).await, [1, 2, 3, 4, 5]);
    // Five were under way: none of them is charged.
    drop(client);
    for attempt in 1..=3 {
        settled(&server).await;
        let mut client = server.connect().await;
        client.consume(json!("mail"), 100).await;
        let events = client.events().await;
        assert_eq!(events, [(1, attempt, "a-1".to_owned())], "alone, in a window of one");
        drop(client);
    }
    settled(&server).await;
    let mut client = server.connect().await;
    client.consume(json!("mail"), 100).await;
    let events = client.events().await;
    assert_eq!(events, [(2, 1, "a-1".to_owned())]);
    client.ack(2).await;
    assert_eq!(client.through(5).await, [3, 4, 5]);
    client.ack(5).await;
    eventually("it is parked", async || parked(&server.store, "mail").await == [1]).await;
    assert_eq!(server.metric("tidewire_parked_total").await, 1.0);
    assert_eq!(server.metric("tidewire_settled_total").await, 4.0);
}

/// Waits until nobody holds a consumer any more.
async fn settled(server: &Server) {
    eventually("it is let go of", async || server.metric("tidewire_consumers_held").await == 0.0)
        .await;
}

#[tokio::test]
async fn a_drain_writes_every_checkpoint_before_it_ends() {
    let server = Server::start();
    server.append("a-1", 3).await;
    let mut client = server.connect().await;
    client.consume(json!("mail"), 10).await;
    client.through(3).await;
    client.ack(3).await;
    // Its checkpoint has just been written, and is not due again.
    eventually("the checkpoint is written", async || checkpoint(&server.store, "mail").await == 3)
        .await;
    let last = server.append("a-1", 1).await;
    client.through(last).await;
    client.ack(last).await;
    client.send(json!({ "type": "ping", "id": "after the ack" })).await;
    client.skip_to("pong").await;
    let tidewire = server.tidewire();
    let drain = tokio::spawn(async move { tidewire.drain().await });
    assert_eq!(client.close_code().await, 4001);
    drop(client);
    assert_eq!(drain.await.expect("no panic"), 0);
    assert_eq!(checkpoint(&server.store, "mail").await, last);
}

#[tokio::test]
async fn parked_events_come_again_when_they_are_replayed() {
    let server = Server::start();
    server.append("a-1", 2).await;
    let mut client = server.connect().await;
    client.consume(json!("mail"), 10).await;
    client.through(2).await;
    client
        .send(json!({ "type": "nack", "sub": 1, "positions": [1], "action": "park",
            "reason": "no such address" }))
        .await;
    client.skip_to("parked").await;
    client.ack(2).await;
    eventually("it is parked", async || parked(&server.store, "mail").await == [1]).await;
    let consumers = server.store.consumers();
    let positions = tidewire_eventstore::Positions::All;
    assert_eq!(consumers.replay(name("mail"), positions).await.expect("a count"), 1);
    let events = client.events().await;
    assert_eq!(events[0].0, 1, "{events:?}");
    // What comes again is settled by its own position.
    client.ack(1).await;
    eventually("it is parked no more", async || parked(&server.store, "mail").await.is_empty())
        .await;
}

/// A member of a group, which settles what it is given and subscribes anew when it is told to.
struct Member {
    client: Client,
    got: Vec<(u64, String)>,
}

impl Member {
    async fn join(server: &Server) -> Self {
        let mut client = server.connect().await;
        client.consume(json!({ "group": "work" }), 16).await;
        Self { client, got: Vec::new() }
    }

    /// Takes what comes for a while.
    async fn work(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while let Ok(message) = tokio::time::timeout(
            until.saturating_duration_since(Instant::now()),
            self.client.message(),
        )
        .await
        {
            match message["type"].as_str() {
                Some("events") => {
                    for event in message["events"].as_array().expect("a list") {
                        let position = event["position"].as_u64().expect("a position");
                        let stream = event["stream"].as_str().expect("a stream").to_owned();
                        self.got.push((position, stream));
                        self.client.ack(position).await;
                    }
                }
                Some("unsubscribed") => {
                    assert_eq!(message["code"], "rebalanced", "{message}");
                    self.client
                        .send(json!({ "type": "subscribe", "sub": 1, "to": { "all": true },
                            "after": "start", "consumer": { "group": "work" }, "window": 16 }))
                        .await;
                }
                Some("error") => panic!("{message}"),
                _ => {}
            }
        }
    }
}

#[tokio::test]
async fn a_group_shares_the_streams_keeps_each_in_order_and_passes_a_leavers_share_on() {
    let server = Server::start();
    let streams: Vec<String> = (0..40).map(|n| format!("s-{n}")).collect();
    for stream in &streams {
        server.append(stream, 2).await;
    }
    let mut one = Member::join(&server).await;
    one.work(Duration::from_millis(500)).await;
    let mut two = Member::join(&server).await;
    let step = Duration::from_millis(100);
    let deadline = Instant::now() + DEADLINE;
    // Until both are given a share.
    while two.got.is_empty() {
        assert!(Instant::now() < deadline, "the second member is given nothing");
        for stream in &streams {
            server.append(stream, 1).await;
        }
        tokio::join!(one.work(step), two.work(step));
    }
    let (before_one, before_two) = (one.got.len(), two.got.len());
    for stream in &streams {
        server.append(stream, 3).await;
    }
    let mut last = server.head().await.get();
    while distinct(&[&one.got, &two.got]).len() < last as usize {
        assert!(Instant::now() < deadline, "not everything comes");
        tokio::join!(one.work(step), two.work(step));
    }
    let of = |got: &[(u64, String)]| -> BTreeSet<String> {
        got.iter().map(|(_, stream)| stream.clone()).collect()
    };
    let (first, second) = (of(&one.got[before_one..]), of(&two.got[before_two..]));
    assert!(!first.is_empty() && !second.is_empty());
    assert!(first.is_disjoint(&second), "both have {:?}", first.intersection(&second));

    // One leaves: the other gets everything.
    let left = std::mem::take(&mut one.got);
    one.client.leave().await;
    while distinct(&[&left, &two.got]).len() < last as usize + streams.len() {
        assert!(Instant::now() < deadline, "a leaver's share does not move on");
        if server.head().await.get() == last {
            for stream in &streams {
                server.append(stream, 1).await;
            }
        }
        two.work(step).await;
    }
    last = server.head().await.get();
    let all = distinct(&[&left, &two.got]);
    assert_eq!(all.len() as u64, last, "something was skipped");
    for got in [&left, &two.got] {
        let mut ends: BTreeMap<&str, u64> = BTreeMap::new();
        for (position, stream) in got {
            let end = ends.entry(stream).or_default();
            assert!(position > end, "{stream} is out of order: {position} after {end}");
            *end = *position;
        }
    }
}

fn distinct(got: &[&[(u64, String)]]) -> BTreeSet<u64> {
    got.iter().flat_map(|got| got.iter().map(|(position, _)| *position)).collect()
}
