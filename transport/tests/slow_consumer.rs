//! A client that does not read costs bounded memory, slows nobody, and misses nothing.

mod support;

use std::time::Duration;

use serde_json::json;
use support::{Server, Setup, eventually};
use tidewire_transport::Config;

/// Less than what the kernel's socket buffers on both sides can hide from the server.
const EVENTS: u64 = 6_000;
const EVENT_BYTES: usize = 4_000;
/// A write of 32 KiB, and a frame of 48 KiB with the event that made it full.
const UNSENT_BYTES_MAX: f64 = ((32 << 10) + (48 << 10) + 2 * EVENT_BYTES) as f64;

async fn a_stalled_reader_falls_behind_and_catches_up(untuned: bool) {
    let mut config = Config::default();
    config.shared_log_bytes_max = 256 << 10;
    config.encoded_page_bytes_max = 1 << 20;
    config.page_cache_bytes_max = 1 << 20;
    let server = Server::with(Setup { config, untuned, ..Setup::default() });

    let mut stalled = server.connect().await;
    stalled.subscribe_all(1, json!("end")).await;
    stalled.expect("live").await;
    let mut other = server.connect().await;
    other.subscribe_all(2, json!("end")).await;
    other.expect("live").await;

    let appending = async {
        for _ in 0..EVENTS / 60 {
            server.append_sized("big-1", 60, EVENT_BYTES).await;
        }
    };
    // Nobody reads for the stalled client meanwhile; the other one gets everything.
    let reading = async { other.positions_through(2, EVENTS).await };
    let (got, ()) = tokio::join!(reading, appending);
    assert_eq!(got, (1..=EVENTS).collect::<Vec<_>>());
    assert!(server.metric("tidewire_shared_log_bytes").await <= (256 << 10) as f64);
    // The session itself holds a write and the frame that did not fit into it, however many bytes
    // its client has not read.
    let unsent = server.metric("tidewire_unsent_bytes").await;
    assert!(unsent > 0.0 && unsent <= UNSENT_BYTES_MAX, "{unsent} bytes wait");

    let mut positions = Vec::new();
    let mut states = Vec::new();
    while positions.last() != Some(&EVENTS) || states.last().is_none_or(|last| last != "live") {
        let message = stalled.message().await;
        match message["type"].as_str().expect("a type") {
            "events" => {
                let events = message["events"].as_array().expect("a list");
                positions.extend(events.iter().filter_map(|event| event["position"].as_u64()));
            }
            state @ ("behind" | "live") => {
                if state == "behind" {
                    assert!(message["lag"].as_u64().expect("a number") > 0);
                }
                states.push(state.to_owned());
            }
            _ => {}
        }
    }
    assert_eq!(positions, (1..=EVENTS).collect::<Vec<_>>());
    assert_eq!(states.first().map(String::as_str), Some("behind"), "{states:?}");

    server.append("big-1", 1).await;
    assert_eq!(stalled.positions_through(1, EVENTS + 1).await, [EVENTS + 1]);
}

#[tokio::test]
async fn a_stalled_reader_falls_behind_and_catches_up_on_a_tuned_server() {
    a_stalled_reader_falls_behind_and_catches_up(false).await;
}

#[tokio::test]
async fn a_stalled_reader_falls_behind_and_catches_up_on_an_untuned_server() {
    a_stalled_reader_falls_behind_and_catches_up(true).await;
}

#[tokio::test]
async fn a_client_that_asks_and_does_not_read_is_not_read_either() {
    let server = Server::with_config(|config| config.reply_bytes_max = 16 << 10);
    server.append_sized("big-1", 500, 4_000).await;
    let mut client = server.connect().await;
    let asked = 200;
    // Two megabytes a page: the replies cannot all be on their way.
    for id in 0..asked {
        client
            .send(json!({ "type": "fetch", "id": id.to_string(), "from": { "all": true },
                "limit": 500 }))
            .await;
    }
    eventually("reading pauses", async || server.metric("tidewire_reads_paused_total").await > 0.0)
        .await;
    for _ in 0..asked {
        let page = client.expect("page").await;
        assert_eq!(page["events"].as_array().map(Vec::len), Some(500));
    }
}

#[tokio::test]
async fn a_socket_that_makes_no_progress_is_cut_off() {
    let server = Server::with_config(|config| {
        config.progress_timeout = Duration::from_millis(300);
        config.ping_interval = Duration::from_millis(100);
        config.pong_timeout = Duration::from_millis(100);
    });
    let mut client = server.connect().await;
    client.subscribe_all(1, json!("start")).await;
    for _ in 0..50 {
        server.append_sized("big-1", 50, 4_000).await;
    }
    // The client reads nothing: its pings wait behind megabytes, and then nothing moves.
    eventually("the session ends", async || server.tidewire().sessions() == 0).await;
    let (_, metrics) = server.http("GET", "/metrics", None).await;
    assert!(metrics.contains("tidewire_closes_total{code=\"4008\"} 1"), "{metrics}");
}
