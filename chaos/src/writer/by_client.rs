//! Writes with our client: several appends on their way at once, resent by its outbox.

use std::{
    collections::VecDeque,
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use tidewire_client::{AppendError, Client, ErrorCode, PendingAppend, Settled, State};
use tidewire_eventstore::{EventId, EventType, ExpectedRevision, NewEvent, StreamName};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::Desk;
use crate::{
    content::New,
    ledger::{AppendKey, Outcome},
    reader::{Order, config},
};

/// Appends on their way at once.
const ON_THE_WAY: usize = 6;
/// How long an append may take before its writer stops waiting.
const GIVE_UP: Duration = Duration::from_secs(60);

/// An append that waits for a database which is away is refused after this long, and our client
/// sends it again: PROTOCOL.md, `append`.
const REFUSED_AFTER: Duration = Duration::from_secs(5);

/// An append on its way.
struct Sent {
    key: AppendKey,
    stream: String,
    pending: PendingAppend,
    since: Instant,
    /// How often the connection had changed by then.
    changes: u64,
    /// One before it in its stream may have been refused and sent again, and so have come later.
    may_be_late: bool,
}

pub(super) async fn write(mut desk: Desk) {
    loop {
        let Ok(client) = Client::connect(&format!("ws://{}/ws", desk.address), config()) else {
            return desk.ledger.violation(format!("{} cannot be", desk.name));
        };
        life(&mut desk, &client).await;
        desk.ledger.counts.client_crashes.fetch_add(1, Relaxed);
        let pause = desk.random.millis(0..300);
        sleep(pause).await;
    }
}

/// Writes until a crash, which leaves in doubt what was on its way.
async fn life(desk: &mut Desk, client: &Client) {
    let mut state = client.state();
    // How often the connection has changed. What was on its way meanwhile may have been sent twice,
    // and its answer tells of the last time alone.
    let mut changes = 0;
    let mut on_the_way: VecDeque<Sent> = VecDeque::new();
    // The position of the last append to each stream: later ones have to lie after it.
    let mut last = std::collections::HashMap::<String, u64>::new();
    loop {
        if matches!(desk.orders.try_recv(), Ok(Order::Crash)) {
            for sent in on_the_way.drain(..) {
                desk.ledger.settle(sent.key, Outcome::Unknown);
            }
            return;
        }
        let is_paused = *desk.paused.borrow();
        if on_the_way.is_empty() || (on_the_way.len() < ON_THE_WAY && !is_paused) {
            desk.may_begin().await;
            let (stream, events) = desk.next();
            changes += u64::from(has_changed(&mut state));
            on_the_way.extend(begin(desk, client, stream, events, changes).await);
            if !desk.random.once_in(4) {
                let pause = desk.random.millis(5..60);
                sleep(pause).await;
            }
            if on_the_way.len() < ON_THE_WAY && !desk.random.once_in(3) {
                continue;
            }
        }
        let Some(mut sent) = on_the_way.pop_front() else { continue };
        let answer = timeout(Duration::from_millis(250), &mut sent.pending).await;
        let Ok(answer) = answer else {
            if sent.since.elapsed() > GIVE_UP {
                desk.ledger.settle(sent.key, Outcome::Unknown);
            } else {
                on_the_way.push_front(sent);
            }
            continue;
        };
        changes += u64::from(has_changed(&mut state));
        let outcome = outcome(answer, sent.changes != changes);
        if let Outcome::Recorded { position, .. } = outcome {
            let took = sent.since.elapsed();
            let before = last.get(&sent.stream).copied().unwrap_or_default();
            if position <= before && !sent.may_be_late {
                desk.ledger.violation(format!(
                    "{} appended to {} and was told {position} after {before}, after {took:?}",
                    desk.name, sent.stream
                ));
            }
            if took >= REFUSED_AFTER {
                // It may have been refused as unavailable and sent again, behind those after it.
                for later in on_the_way.iter_mut().filter(|later| later.stream == sent.stream) {
                    later.may_be_late = true;
                }
            }
            last.insert(sent.stream.clone(), position.max(before));
        }
        desk.ledger.settle(sent.key, outcome);
    }
}

async fn begin(
    desk: &Desk,
    client: &Client,
    stream: String,
    events: Vec<New>,
    changes: u64,
) -> Option<Sent> {
    let key = desk.ledger.begin(&desk.name, &stream, &events);
    let name = StreamName::new(&stream).expect("our streams have good names");
    let events = events.into_iter().map(new_event).collect();
    match client.begin_append(name, ExpectedRevision::Any, events).await {
        Ok(pending) => {
            Some(Sent { key, stream, pending, since: Instant::now(), changes, may_be_late: false })
        }
        Err(error) => {
            desk.ledger.violation(format!("{} was closed by nobody: {error}", desk.name));
            desk.ledger.settle(key, Outcome::Unknown);
            None
        }
    }
}

fn new_event(new: New) -> NewEvent {
    let event_type = EventType::new(new.event_type).expect("our types have good names");
    NewEvent { id: Some(EventId::from(new.id)), ..NewEvent::json(event_type, new.data) }
}

/// Whether the connection has changed since this was asked last, or is not there.
fn has_changed(state: &mut watch::Receiver<State>) -> bool {
    let changed = state.has_changed().unwrap_or(true);
    let is_connected = matches!(*state.borrow_and_update(), State::Connected);
    changed || !is_connected
}

fn outcome(answer: Result<Settled, AppendError>, interrupted: bool) -> Outcome {
    match answer {
        Ok(settled) => {
            Outcome::Recorded { position: settled.position.get(), revision: settled.revision.get() }
        }
        Err(AppendError::Refused(error)) => match error.known() {
            Some(ErrorCode::OutcomeUnknown | ErrorCode::Internal) | None => Outcome::Unknown,
            Some(_) if interrupted => Outcome::Unknown,
            Some(code) => Outcome::Refused { code: code.as_str().to_owned() },
        },
        Err(AppendError::Outbox(error)) => Outcome::Refused { code: error.to_string() },
        Err(_) => Outcome::Unknown,
    }
}
