//! A client with a live query, by hand: a socket and JSON. It comes back with what it holds, or
//! without, and its picture has to be the documents.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};

use anyhow::{Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinHandle},
    time::sleep,
};

use super::{
    Fold, Selection, View, difference,
    picture::{Picture, Pictures, Told},
};
use crate::{
    audience::Audience,
    content::PROBED_STREAM,
    ledger::Ledger,
    log::Log,
    random::Random,
    reader::{Order, PROBE},
    session::{Message, Session},
};

/// Messages between two durable recordings of the picture.
const RECORD_EVERY: u64 = 50;

/// A watcher that works. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Watcher {
    state: Arc<State>,
    orders: mpsc::Sender<Order>,
    task: AbortHandle,
}

#[derive(Debug)]
struct State {
    name: String,
    view: View,
    selection: Selection,
    pictures: Mutex<Pictures>,
    expected: Mutex<Fold>,
    ledger: Arc<Ledger>,
}

/// Why a session has ended.
enum End {
    /// The socket is over, or the subscription for now.
    Broken,
    Crash,
    Stopped,
}

impl Watcher {
    /// Everything that is watched.
    pub(crate) const EACH: [(View, Selection); 4] = [
        (View::Sums, Selection::All),
        (View::Sums, Selection::Key(PROBED_STREAM)),
        (View::Sums, Selection::Newest),
        (View::Open, Selection::All),
    ];

    /// Begins to watch, by way of `address`.
    pub(crate) fn start(
        address: SocketAddr,
        view: View,
        selection: Selection,
        ledger: Arc<Ledger>,
        seed: u64,
    ) -> Self {
        let name = format!("watcher of {} of {}", selection.name(), view.name());
        let random = Random::new(seed, &name);
        let state = Arc::new(State {
            name,
            view,
            selection,
            pictures: Mutex::default(),
            expected: Mutex::new(Fold::new(view)),
            ledger,
        });
        let (orders, received) = mpsc::channel(4);
        let task: JoinHandle<()> =
            tokio::spawn(watch(Arc::clone(&state), address, received, random));
        Self { state, orders, task: task.abort_handle() }
    }

    /// Gives an order; false if the watcher has not carried out enough of the earlier ones.
    pub(crate) fn order(&self, order: Order) -> bool {
        self.orders.try_send(order).is_ok()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl State {
    fn pictures(&self) -> MutexGuard<'_, Pictures> {
        self.pictures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn violation(&self, what: &str) {
        self.ledger.violation(format!("the {} {what}", self.name));
    }

    fn expected(&self, log: &Log) -> BTreeMap<String, Value> {
        let mut fold = self.expected.lock().unwrap_or_else(PoisonError::into_inner);
        self.selection.of(fold.of(log))
    }

    /// Reports what is wrong with a message, if something is.
    fn hold(&self, outcome: Result<(), String>) -> Result<()> {
        let Err(wrong) = outcome else { return Ok(()) };
        self.violation(&wrong);
        bail!(wrong)
    }
}

async fn watch(
    state: Arc<State>,
    address: SocketAddr,
    mut orders: mpsc::Receiver<Order>,
    mut random: Random,
) {
    let mut recorded = None;
    loop {
        match session(&state, address, &mut orders, &mut random, &mut recorded).await {
            Ok(End::Stopped) => return,
            Ok(End::Crash) => {
                state.pictures().shown = recorded.clone();
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
    recorded: &mut Option<Picture>,
) -> Result<End> {
    let mut session = Session::open(address).await?;
    let sub = random.range(1..1000) as u32;
    // Now and then it comes as somebody new.
    let held = if random.once_in(6) { None } else { state.pictures().shown.clone() };
    session.send(&subscribe(state, sub, held.as_ref(), &session.epoch)).await?;
    state.pictures().begin();
    let mut open = false;
    let mut messages = 0;
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
            "subscribed" if message.sub == Some(sub) && !open => {
                open = true;
                let begun: Begun = serde_json::from_str(&text)?;
                state.hold(begun.judge(held.as_ref(), &text))?;
                if !begun.resumed {
                    state.pictures().shown = None;
                }
            }
            "state" if message.sub == Some(sub) && open => {
                let told: Told = serde_json::from_str(&text)?;
                state.hold(state.pictures().state(told))?;
                state.ledger.counts.documents.fetch_add(1, Relaxed);
            }
            "changes" if message.sub == Some(sub) && open => {
                let told: Told = serde_json::from_str(&text)?;
                state.hold(state.pictures().changes(told))?;
                state.ledger.counts.documents.fetch_add(1, Relaxed);
            }
            "heartbeat" => {
                if let Some(position) = message.position_of(sub) {
                    state.hold(state.pictures().advance(position))?;
                }
            }
            "live" | "behind" => {
                if message.kind == "behind" {
                    state.ledger.counts.behind.fetch_add(1, Relaxed);
                }
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
        messages += 1;
        if messages % RECORD_EVERY == 0 {
            recorded.clone_from(&state.pictures().shown);
        }
    }
}

/// What `subscribed` says of a live query.
#[derive(Debug, Deserialize)]
struct Begun {
    after: u64,
    generation: u64,
    resumed: bool,
    reset: Option<String>,
}

impl Begun {
    /// Holds it against what the client said that it has.
    fn judge(&self, held: Option<&Picture>, text: &str) -> Result<(), String> {
        let fits = match held {
            Some(held) if self.resumed => {
                (held.generation, held.position) == (self.generation, self.after)
                    && self.reset.is_none()
            }
            Some(_) => self.reset.as_deref().is_some_and(|reset| reset != "epoch"),
            None => !self.resumed && self.reset.is_none(),
        };
        let told = || held.map(|held| (held.generation, held.position));
        if fits { Ok(()) } else { Err(format!("came with {:?} and was told {text:.300}", told())) }
    }
}

fn subscribe(state: &State, sub: u32, held: Option<&Picture>, epoch: &str) -> Value {
    let mut message = json!({
        "type": "subscribe", "sub": sub, "to": state.selection.target(state.view),
    });
    if let Some(held) = held {
        message["after"] = json!(held.position);
        message["generation"] = json!(held.generation);
        message["epoch"] = json!(epoch);
    }
    message
}

impl Audience for Watcher {
    fn name(&self) -> &str {
        &self.state.name
    }

    fn patience(&self) -> Duration {
        PROBE
    }

    fn is_complete(&self, log: &Log) -> bool {
        self.check(log).is_none()
    }

    /// A probe changes the document of its stream, which may lie outside a window.
    fn has(&self, position: u64) -> bool {
        let pictures = self.state.pictures();
        let Some(picture) = &pictures.shown else { return false };
        match picture.documents.get(PROBED_STREAM) {
            Some(document) => {
                document["position"].as_u64().is_some_and(|reached| reached >= position)
            }
            None => self.state.selection == Selection::Newest,
        }
    }

    fn check(&self, log: &Log) -> Option<String> {
        let expected = self.state.expected(log);
        match &self.state.pictures().shown {
            None => Some("has no picture".to_owned()),
            Some(picture) => difference(&picture.documents, &expected),
        }
    }
}
