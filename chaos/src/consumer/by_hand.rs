//! A member by hand: a session that takes, has the effect, and acknowledges.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use anyhow::{Result, bail};
use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    time::{Duration, Instant, sleep, sleep_until},
};

use super::{OURS, State, Wish, wish};
use crate::{
    content::WireEvent,
    random::Random,
    reader::Order,
    session::{Message, Session},
};

/// How long a member that is to crash waits for an event to crash on.
const CRASH_WITHIN: Duration = Duration::from_millis(500);

/// Why a session has ended.
#[derive(Debug)]
enum End {
    /// The socket is over.
    Broken,
    Crash,
    /// Another member holds the consumer now.
    Taken,
    Stopped,
}

/// What a session knows of its subscription.
struct Work<'a> {
    state: &'a State,
    session: Session,
    sub: u32,
    window: u64,
    /// By stream, the event that was given back: it and what is later are dropped until the answer
    /// to that.
    given_back: HashMap<String, u64>,
    /// The highest position that it was told of.
    told: u64,
    /// The position that is to be acknowledged, not sent yet.
    to_ack: Option<u64>,
    /// After so many further events it crashes, or when this time has come.
    crash: Option<(u64, Instant)>,
}

pub(super) async fn work(
    state: Arc<State>,
    address: SocketAddr,
    mut orders: mpsc::Receiver<Order>,
    mut random: Random,
    mut waits: bool,
    name: String,
) {
    loop {
        if waits && !state.wait_for_turn(address, &mut orders).await {
            return;
        }
        waits = false;
        let end = session(&state, address, &mut orders, &mut random).await;
        match &end {
            Ok(end) => state.ledger.trace(format_args!("{name}: {end:?}")),
            Err(error) => state.ledger.trace(format_args!("{name}: {error:#}")),
        }
        match end {
            Ok(End::Stopped) => return,
            Ok(End::Taken) => waits = true,
            Ok(End::Crash) => {
                state.ledger.counts.client_crashes.fetch_add(1, Relaxed);
            }
            Ok(End::Broken) | Err(_) => {}
        }
        sleep(random.millis(20..300)).await;
    }
}

async fn session(
    state: &State,
    address: SocketAddr,
    orders: &mut mpsc::Receiver<Order>,
    random: &mut Random,
) -> Result<End> {
    let mut work = Work {
        state,
        session: Session::open(address).await?,
        sub: random.range(1..1000) as u32,
        window: random.range(4..64),
        given_back: HashMap::new(),
        told: 0,
        to_ack: None,
        crash: None,
    };
    work.subscribe().await?;
    loop {
        let text = tokio::select! {
            order = orders.recv() => match order {
                None => return Ok(End::Stopped),
                Some(Order::Crash) => {
                    work.crash = Some((random.range(0..10), Instant::now() + CRASH_WITHIN));
                    continue;
                }
                Some(Order::Freeze(pause)) => {
                    sleep(pause).await;
                    continue;
                }
                Some(Order::TakeOver) => continue,
            },
            text = work.session.next() => text?,
            () = crash_due(work.crash) => return Ok(End::Crash),
        };
        if let Some(end) = work.take(&text, random).await? {
            return Ok(end);
        }
    }
}

async fn crash_due(crash: Option<(u64, Instant)>) {
    match crash {
        Some((_, due)) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

impl Work<'_> {
    async fn subscribe(&mut self) -> Result<()> {
        self.sub += 1;
        self.given_back.clear();
        (self.told, self.to_ack) = (0, None);
        let mut message = self.state.interest.fields();
        message["type"] = json!("subscribe");
        message["sub"] = json!(self.sub);
        message["consumer"] = self.state.reference();
        message["window"] = json!(self.window);
        message["after"] = json!("start");
        self.session.send(&message).await
    }

    async fn take(&mut self, text: &str, random: &mut Random) -> Result<Option<End>> {
        let message = match Message::parse(text) {
            Ok(message) => message,
            Err(wrong) => {
                self.state.violation(&format!("was sent {wrong:#}"));
                return Ok(Some(End::Broken));
            }
        };
        if message.sub.is_some_and(|sub| sub != self.sub) {
            // Of an earlier subscription, which has ended.
            return Ok(None);
        }
        if matches!(message.kind.as_str(), "subscribed" | "unsubscribed" | "parked" | "error") {
            let name = &self.state.name;
            self.state.ledger.trace(format_args!("{name} by hand: {text:.200}"));
        }
        match message.kind.as_str() {
            "events" => {
                for event in message.events {
                    if let Some(end) = self.event(event, random).await? {
                        return Ok(Some(end));
                    }
                }
                self.ack().await?;
            }
            "parked" => {
                let positions = message.positions.as_ref().and_then(Value::as_array);
                let reason = message.reason.as_deref().unwrap_or_default();
                for position in positions.into_iter().flatten().filter_map(Value::as_u64) {
                    self.state.told_parked(position, reason);
                }
            }
            "retrying" => self.answered(message.positions.as_ref()),
            "unsubscribed" if message.word() == "rebalanced" => self.subscribe().await?,
            "unsubscribed" if message.word() == "consumer_taken" => return Ok(Some(End::Taken)),
            "error" | "unsubscribed" if message.retryable == Some(true) => {
                bail!("not now: {}", message.word());
            }
            // It gave up what had been taken from it meanwhile.
            "error" if message.word() == "unknown_position" => {
                self.answered(
                    message.details.as_ref().and_then(|details| details.get("positions")),
                );
            }
            "subscribed" | "heartbeat" | "live" | "behind" => {
                let heartbeat = message.position_of(self.sub);
                let told = [message.after, message.position, heartbeat].into_iter().flatten().max();
                self.told = self.told.max(told.unwrap_or_default());
            }
            "goodbye" => {}
            _ => {
                self.state.violation(&format!("was sent {text:.300}"));
                return Ok(Some(End::Broken));
            }
        }
        Ok(None)
    }

    async fn event(&mut self, event: WireEvent<'_>, random: &mut Random) -> Result<Option<End>> {
        let (attempt, is_poison) = (event.attempt, event.is_poison());
        let event = event.seen();
        let position = event.position;
        self.state.given(position, attempt, is_poison);
        // The crash comes between taking the event and its effect, or between that and the ack.
        let crashes_now = self.crash.is_some_and(|(left, _)| left == 0);
        self.crash = self.crash.map(|(left, due)| (left.saturating_sub(1), due));
        if crashes_now && random.once_in(2) {
            return Ok(Some(End::Crash));
        }
        // What is not beyond all that was told is acknowledged by itself, after what came before.
        let is_late = position <= self.told;
        self.told = self.told.max(position);
        if self.given_back.get(&event.stream).is_some_and(|held| *held <= position) {
            return Ok(None);
        }
        if is_late {
            self.ack().await?;
        }
        match wish(&event, attempt, is_poison) {
            Wish::Poison => return Ok(Some(End::Crash)),
            Wish::Effect => {
                self.state.effect(&event);
                if crashes_now {
                    return Ok(Some(End::Crash));
                }
                self.to_ack = Some(position);
                if is_late || random.once_in(4) {
                    self.ack().await?;
                }
            }
            Wish::Retry => {
                self.given_back.insert(event.stream, position);
                let delay = random.range(0..400);
                self.nack(position, json!({"action": "retry", "delay_ms": delay})).await?;
            }
            Wish::Park => {
                self.state.effects().give_up(position);
                self.nack(position, json!({"action": "park", "reason": OURS})).await?;
            }
            Wish::Skip => {
                self.state.effects().give_up(position);
                self.nack(position, json!({"action": "skip"})).await?;
            }
        }
        Ok(None)
    }

    /// The server has heard that these were given back: what comes of their streams is in order.
    fn answered(&mut self, positions: Option<&Value>) {
        let positions = positions.and_then(Value::as_array);
        for position in positions.into_iter().flatten().filter_map(Value::as_u64) {
            self.given_back.retain(|_, held| *held != position);
        }
    }

    async fn ack(&mut self) -> Result<()> {
        match self.to_ack.take() {
            None => Ok(()),
            Some(position) => {
                let ack = json!({"type": "ack", "sub": self.sub, "position": position});
                self.session.send(&ack).await
            }
        }
    }

    async fn nack(&mut self, position: u64, mut nack: Value) -> Result<()> {
        self.ack().await?;
        nack["type"] = json!("nack");
        nack["sub"] = json!(self.sub);
        nack["positions"] = json!([position]);
        self.session.send(&nack).await
    }
}
