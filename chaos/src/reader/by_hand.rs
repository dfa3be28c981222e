//! Reads with a socket and JSON, and holds the server to PROTOCOL.md while it does.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use anyhow::{Result, bail};
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::sleep};

use super::{Order, State};
use crate::{
    random::Random,
    session::{Message, Session},
};

/// Where the reader goes on.
#[derive(Default)]
struct Place {
    /// Through this position it has everything.
    position: u64,
    epoch: Option<String>,
    /// The position that a crash takes it back to.
    recorded: u64,
}

/// Why a session has ended.
enum End {
    /// The socket is over, or the subscription for now.
    Broken,
    Crash,
    Stopped,
}

pub(super) async fn read(
    state: Arc<State>,
    address: SocketAddr,
    mut orders: mpsc::Receiver<Order>,
    mut random: Random,
) {
    let mut place = Place::default();
    loop {
        match session(&state, address, &mut orders, &mut random, &mut place).await {
            Ok(End::Stopped) => return,
            Ok(End::Crash) => {
                place.position = place.recorded;
                state.ledger.counts.client_crashes.fetch_add(1, Relaxed);
            }
            Ok(End::Broken) | Err(_) => {}
        }
        sleep(random.millis(20..500)).await;
    }
}

async fn session(
    state: &State,
    address: SocketAddr,
    orders: &mut mpsc::Receiver<Order>,
    random: &mut Random,
    place: &mut Place,
) -> Result<End> {
    let mut session = Session::open(address).await?;
    if place.epoch.as_ref().is_some_and(|epoch| *epoch != session.epoch) {
        state.violation("met another epoch");
    }
    place.epoch = Some(session.epoch.clone());
    let sub = random.range(1..1000) as u32;
    session.send(&subscribe(state, sub, place)).await?;
    let mut open = false;
    let mut last = place.position;
    loop {
        let text = tokio::select! {
            order = orders.recv() => match order {
                None => return Ok(End::Stopped),
                Some(Order::Crash) => return Ok(End::Crash),
                Some(Order::TakeOver) => continue,
                Some(Order::Freeze(pause)) => {
                    sleep(pause).await;
                    continue;
                }
            },
            text = session.next() => text?,
        };
        let message = match Message::parse(&text) {
            Ok(message) => message,
            Err(wrong) => {
                state.violation(&format!("was sent {wrong:#}"));
                return Ok(End::Broken);
            }
        };
        match message.kind.as_str() {
            "events" if message.sub == Some(sub) && open => {
                for event in message.events {
                    let attempt = event.attempt;
                    let event = event.seen();
                    if event.position <= last || attempt != 1 {
                        state.violation(&format!(
                            "got {} (attempt {attempt}) after {last} on one handle",
                            event.position
                        ));
                    }
                    last = event.position;
                    state.see(&event);
                }
                advance(place, last);
            }
            "subscribed" if message.sub == Some(sub) => {
                open = true;
                if message.after != Some(place.position) || message.head < message.after {
                    state.violation(&format!("asked for {} and got {text}", place.position));
                }
            }
            "heartbeat" => {
                if let Some(position) = message.position_of(sub) {
                    if position < last {
                        state.violation(&format!("was told of {position} after {last}"));
                    }
                    last = last.max(position);
                    advance(place, last);
                }
            }
            "live" | "behind" => {
                if message.position.is_none_or(|position| position < last) {
                    state.violation(&format!("has {last} and was told {text}"));
                }
                if message.kind == "behind" {
                    state.ledger.counts.behind.fetch_add(1, Relaxed);
                }
            }
            "reset" => {
                state.violation(&format!("was reset although nothing was taken back: {text}"));
                *place = Place::default();
                return Ok(End::Broken);
            }
            "error" | "unsubscribed" if message.retryable == Some(true) => {
                bail!("not now: {}", message.word());
            }
            "goodbye" => {}
            _ => {
                state.violation(&format!("was sent {text:.300}"));
                return Ok(End::Broken);
            }
        }
    }
}

/// `live` and `behind` tell positions that may lie past the last event, so they are no reason to
/// move on; events and heartbeats are.
fn advance(place: &mut Place, last: u64) {
    place.position = last;
    if last >= place.recorded + RECORD_EVERY {
        place.recorded = last;
    }
}

/// Positions between two durable recordings.
const RECORD_EVERY: u64 = 50;

fn subscribe(state: &State, sub: u32, place: &Place) -> Value {
    let mut message = state.interest.fields();
    message["type"] = json!("subscribe");
    message["sub"] = json!(sub);
    if place.position == 0 {
        message["after"] = json!("start");
    } else {
        message["after"] = json!(place.position);
        message["epoch"] = json!(place.epoch);
    }
    message
}
