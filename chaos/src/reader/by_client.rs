//! Reads with our client, which promises each event once and in order across reconnects.

use std::{net::SocketAddr, sync::Arc, sync::atomic::Ordering::Relaxed, time::Duration};

use futures_util::StreamExt;
use tidewire_client::{
    After, Backoff, Batch, Client, ClientConfig, Delivery, Notice, SubscribeOptions,
};
use tidewire_eventstore::GlobalPosition;
use tokio::{sync::mpsc, time::sleep};

use super::{Order, State};
use crate::{content::seen, random::Random};

/// How our clients behave here: as by default, but quicker to come back and to notice.
pub(crate) fn config() -> ClientConfig {
    ClientConfig {
        backoff: Backoff {
            initial: Duration::from_millis(50),
            max: Duration::from_secs(1),
            ..Backoff::default()
        },
        connect_timeout: Duration::from_secs(5),
        stable_after: Duration::from_secs(1),
        ping_timeout: Duration::from_secs(2),
        ..ClientConfig::default()
    }
}

/// Events between two durable recordings of the position.
const RECORD_EVERY: u64 = 20;

/// What the reader has recorded durably: a crash takes it back to here.
#[derive(Default)]
struct Recorded {
    position: u64,
    epoch: Option<uuid::Uuid>,
}

pub(super) async fn read(
    state: Arc<State>,
    address: SocketAddr,
    mut orders: mpsc::Receiver<Order>,
    mut random: Random,
) {
    let mut recorded = Recorded::default();
    loop {
        if !live(&state, address, &mut orders, &mut random, &mut recorded).await {
            return;
        }
        state.ledger.counts.client_crashes.fetch_add(1, Relaxed);
    }
}

/// One life, until a crash. False when there shall not be another.
async fn live(
    state: &State,
    address: SocketAddr,
    orders: &mut mpsc::Receiver<Order>,
    random: &mut Random,
    recorded: &mut Recorded,
) -> bool {
    let client = match Client::connect(&format!("ws://{address}/ws"), config()) {
        Ok(client) => client,
        Err(error) => {
            state.violation(&format!("cannot be: {error}"));
            return false;
        }
    };
    let (to, filter) = state.interest.target();
    let after = match recorded.position {
        0 => After::Start,
        position => After::Position(GlobalPosition::new(position)),
    };
    let max_delay_ms = random.once_in(3).then_some(20);
    let options = SubscribeOptions {
        filter,
        epoch: recorded.epoch,
        buffer: 1 + random.index(256),
        batch: Batch { max_delay_ms, ..Batch::default() },
        ..SubscribeOptions::new(to, after)
    };
    let Ok(mut subscription) = client.subscribe(options).await else {
        state.violation("was closed by nobody");
        return false;
    };
    // In one life of the client, nothing comes twice.
    let mut last = recorded.position;
    loop {
        let delivery = tokio::select! {
            order = orders.recv() => match order {
                None => return false,
                Some(Order::Crash) => return true,
                Some(Order::TakeOver) => continue,
                Some(Order::Freeze(pause)) => {
                    sleep(pause).await;
                    continue;
                }
            },
            delivery = subscription.next() => delivery,
        };
        match delivery {
            Some(Ok(Delivery::Event(event))) => {
                let event = seen(&event);
                if event.position <= last {
                    state.violation(&format!("got {} after {last} in one life", event.position));
                }
                last = event.position;
                state.see(&event);
                if last >= recorded.position + RECORD_EVERY {
                    recorded.position = last;
                }
            }
            Some(Ok(Delivery::Notice(Notice::Subscribed { epoch, .. }))) => {
                recorded.epoch = Some(epoch);
            }
            Some(Ok(Delivery::Notice(Notice::Position(position)))) => {
                last = last.max(position.get());
            }
            Some(Ok(Delivery::Notice(Notice::Behind { .. }))) => {
                state.ledger.counts.behind.fetch_add(1, Relaxed);
            }
            Some(Ok(Delivery::Notice(Notice::Reset(reason)))) => {
                state.violation(&format!("was reset although nothing was taken back: {reason:?}"));
                (*recorded, last) = (Recorded::default(), 0);
            }
            Some(Ok(Delivery::Notice(_))) => {}
            Some(Err(ended)) => {
                state.violation(&format!("was ended: {ended}"));
                return false;
            }
            None => {
                state.violation("was ended without a reason");
                return false;
            }
        }
    }
}
