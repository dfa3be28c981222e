//! Durable consumers: one that is held alone, by one of two sessions at a time, and a group that
//! several sessions share.
//!
//! Every other member works with our client, the others by hand. Each works as applications should: it takes an event, has its effect, and acknowledges it.
//! The effects are what a crash does not take away. Some events it gives back to be retried, some
//! it parks or passes over, and some are poison: whoever takes one crashes.

mod by_client;
mod by_hand;
mod effects;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{sync::mpsc, task::AbortHandle, time::sleep};

use crate::{
    audience::Audience, content::Seen, http, interest::Interest, ledger::Ledger, log::Log,
    random::Random, reader::Order,
};

use effects::Effects;
pub(crate) use effects::Settled;

/// How long a single event may take to a consumer while all is quiet. A member's server that was
/// killed holds its share of a group until its lease of 10 s runs out, and then shares move.
pub(crate) const PROBE: Duration = Duration::from_secs(20);
/// How long a question to a server may take.
const ANSWER: Duration = Duration::from_secs(5);
/// Between two looks of a member that stands by, and how many of them without a holder bring it back.
const STAND_BY: Duration = Duration::from_secs(2);
const ABANDONED: u32 = 3;
/// Parked events that are asked for at once.
const PARKED_MAX: u64 = 1000;

/// Whether one session has all of a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// One of two sessions at a time.
    Alone,
    /// So many sessions at once.
    Group { members: usize },
}

/// A consumer with its members. They end when this is dropped.
#[derive(Debug)]
pub(crate) struct Consumer {
    state: Arc<State>,
    members: Vec<mpsc::Sender<Order>>,
    tasks: Vec<AbortHandle>,
}

/// What the members share, and what outlives their crashes.
#[derive(Debug)]
struct State {
    name: String,
    sharing: Sharing,
    interest: Interest,
    effects: Mutex<Effects>,
    ledger: Arc<Ledger>,
}

impl Consumer {
    /// Starts the members.
    pub(crate) fn start(
        address: SocketAddr,
        sharing: Sharing,
        interest: Interest,
        ledger: Arc<Ledger>,
        seed: u64,
    ) -> Self {
        let name = match sharing {
            Sharing::Alone => "ledger",
            Sharing::Group { .. } => "crew",
        };
        let effects = Mutex::new(Effects::default());
        let name = name.to_owned();
        let state = Arc::new(State { name, sharing, interest, effects, ledger });
        let count = match sharing {
            Sharing::Alone => 2,
            Sharing::Group { members } => members,
        };
        let (mut members, mut tasks) = (Vec::new(), Vec::new());
        for index in 0..count {
            let (orders, received) = mpsc::channel(4);
            let random = Random::new(seed, &format!("{} {index}", state.name));
            // Alone, the second waits until it is told to take over.
            let waits = sharing == Sharing::Alone && index > 0;
            let state = Arc::clone(&state);
            let name = format!("member {index} of {}", state.name);
            let task = if index % 2 == 0 {
                tokio::spawn(by_hand::work(state, address, received, random, waits, name))
            } else {
                tokio::spawn(by_client::work(state, address, received, random, waits, name))
            };
            tasks.push(task.abort_handle());
            members.push(orders);
        }
        Self { state, members, tasks }
    }

    /// How many events were parked by bad luck alone.
    pub(crate) fn parked_unlucky(&self) -> usize {
        self.state.effects().parked_unlucky()
    }

    /// How many members it has.
    pub(crate) fn members(&self) -> usize {
        self.members.len()
    }

    /// Gives a member an order; false if it has not carried out enough of the earlier ones.
    pub(crate) fn order(&self, member: usize, order: Order) -> bool {
        self.members[member % self.members.len()].try_send(order).is_ok()
    }

    /// Tells one member to take over, where only one may work at a time.
    pub(crate) fn take_over(&self, member: usize) -> bool {
        self.state.sharing == Sharing::Alone && self.order(member, Order::TakeOver)
    }

    /// Learns from a server which events are parked: the word of it may have been lost. What is
    /// wrong with them goes to the ledger.
    pub(crate) async fn look_at_parked(&self, server: SocketAddr) {
        let mut next = Some(0);
        while let Some(after) = next.take() {
            let name = &self.state.name;
            let path = format!("/consumers/{name}/parked?after={after}&limit={PARKED_MAX}");
            let Ok(answer) = http::request(server, ANSWER, "GET", &path, None).await else {
                return;
            };
            if answer.status != 200 {
                return;
            }
            match serde_json::from_str::<ParkedPage>(&answer.body) {
                Ok(page) => {
                    page.parked.into_iter().for_each(|parked| self.state.parked(parked));
                    next = page.next;
                }
                Err(error) => self.state.violation(&format!("is told of parked events: {error}")),
            }
        }
    }

    /// The lowest checkpoint that a server tells of.
    pub(crate) async fn checkpoint(&self, server: SocketAddr) -> Option<u64> {
        let path = format!("/consumers/{}", self.state.name);
        let answer = http::request(server, ANSWER, "GET", &path, None).await.ok()?;
        serde_json::from_str::<Value>(&answer.body).ok()?["checkpoint"].as_u64()
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

#[derive(Deserialize)]
struct ParkedPage {
    parked: Vec<Parked>,
    next: Option<u64>,
}

#[derive(Deserialize)]
struct Parked {
    position: u64,
    attempts: u32,
    reason: String,
}

/// After this many attempts a server parks an event.
const ATTEMPTS_MAX: u32 = 3;
/// Why it says that it did.
const SPENT: &str = "attempts spent";
/// Why our members have events parked.
const OURS: &str = "chaos has it so";

/// What a member makes of an event. It depends on the event alone, so that it is the same for
/// whichever member is given it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Effect,
    /// To be given it again, the first time.
    Retry,
    Park,
    Skip,
    /// It crashes.
    Poison,
}

fn wish(event: &Seen, attempt: u32, is_poison: bool) -> Wish {
    match event.content % 400 {
        _ if is_poison => Wish::Poison,
        0..4 if attempt == 1 => Wish::Retry,
        4 => Wish::Park,
        5 => Wish::Skip,
        _ => Wish::Effect,
    }
}

impl State {
    /// Waits until a member is told to take the consumer over, or nobody has held it for a while,
    /// as a service that stands by does. False when it shall not work any more.
    async fn wait_for_turn(&self, address: SocketAddr, orders: &mut mpsc::Receiver<Order>) -> bool {
        let mut looks_without_holder = 0;
        while looks_without_holder < ABANDONED {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::TakeOver) => return true,
                    Some(_) => {}
                    None => return false,
                },
                () = sleep(STAND_BY) => match self.is_held(address).await {
                    Some(false) => looks_without_holder += 1,
                    Some(true) => looks_without_holder = 0,
                    None => {}
                },
            }
        }
        self.ledger.trace(format_args!("nobody holds {}: a member comes back", self.name));
        self.ledger.counts.abandoned.fetch_add(1, Relaxed);
        true
    }

    async fn is_held(&self, address: SocketAddr) -> Option<bool> {
        let path = format!("/consumers/{}", self.name);
        let answer = http::request(address, ANSWER, "GET", &path, None).await.ok()?;
        let consumer: Value = serde_json::from_str(&answer.body).ok()?;
        Some(!consumer["holders"].as_array()?.is_empty())
    }

    /// A member was given an event.
    fn given(&self, position: u64, attempt: u32, is_poison: bool) {
        self.effects().given(position, attempt, is_poison);
        if attempt > ATTEMPTS_MAX {
            self.violation(&format!("was given {position} for the {attempt}th time"));
        }
    }

    fn effects(&self) -> MutexGuard<'_, Effects> {
        self.effects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An event has its effect.
    fn effect(&self, event: &Seen) {
        if !self.interest.includes(event) {
            return self.violation(&format!("got what it did not ask for: {event:?}"));
        }
        let effect = self.effects().effect(event);
        let counts = &self.ledger.counts;
        match effect {
            Ok(Settled::First) => counts.read.fetch_add(1, Relaxed),
            Ok(Settled::Again) => counts.repeated.fetch_add(1, Relaxed),
            Err(wrong) => {
                self.violation(&wrong);
                0
            }
        };
    }

    fn parked(&self, Parked { position, attempts, reason }: Parked) {
        if reason == SPENT && attempts < ATTEMPTS_MAX {
            self.violation(&format!("parked {position} after {attempts} attempts"));
        }
        self.told_parked(position, &reason);
    }

    fn told_parked(&self, position: u64, reason: &str) {
        let new = self.effects().parked(position, reason == OURS);
        match new {
            Ok(true) if reason == SPENT => {
                self.ledger.counts.parked.fetch_add(1, Relaxed);
            }
            Ok(_) => {}
            Err(wrong) => self.violation(&wrong),
        }
    }

    fn violation(&self, what: &str) {
        self.ledger.violation(format!("the consumer {} {what}", self.name));
    }

    /// What `subscribe` says of the consumer.
    fn reference(&self) -> Value {
        match self.sharing {
            Sharing::Alone => json!(self.name),
            Sharing::Group { .. } => json!({"group": self.name}),
        }
    }
}

impl Audience for Consumer {
    fn name(&self) -> &str {
        &self.state.name
    }

    fn patience(&self) -> Duration {
        PROBE
    }

    fn is_complete(&self, log: &Log) -> bool {
        self.state.effects().first_unsettled(log, self.state.interest).is_none()
    }

    fn has(&self, position: u64) -> bool {
        self.state.effects().is_settled(position)
    }

    fn check(&self, log: &Log) -> Option<String> {
        self.state.effects().check(log, self.state.interest)
    }
}
