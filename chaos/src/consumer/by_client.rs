//! A member with our client, which settles events one by one and resumes by itself.
//!
//! Its crashes are orderly to the server, because the client says goodbye when it is dropped; so
//! poison is given back to be retried, until its attempts are spent.

use std::{
    net::SocketAddr,
    num::NonZeroU32,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use futures_util::StreamExt;
use tidewire_client::{
    AckedDelivery, After, Client, ConsumerName, ErrorBody, Nack, Notice, SubscribeOptions,
    SubscriptionEnded, UnsettledEvent,
};
use tokio::{
    sync::mpsc,
    time::{Duration, sleep},
};

use super::{OURS, Sharing, State, Wish, wish};
use crate::{
    content::{is_poison, seen},
    random::Random,
    reader::{Order, config},
};

/// Why a life has ended.
#[derive(Debug)]
enum End {
    Crash,
    /// Another member holds the consumer now.
    Taken,
    Stopped,
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
        let end = life(&state, address, &mut orders, &mut random).await;
        state.ledger.trace(format_args!("{name}: {end:?}"));
        match end {
            End::Stopped => return,
            End::Taken => waits = true,
            End::Crash => {
                state.ledger.counts.client_crashes.fetch_add(1, Relaxed);
            }
        }
        sleep(random.millis(20..300)).await;
    }
}

async fn life(
    state: &State,
    address: SocketAddr,
    orders: &mut mpsc::Receiver<Order>,
    random: &mut Random,
) -> End {
    let Ok(client) = Client::connect(&format!("ws://{address}/ws"), config()) else {
        state.violation("cannot be");
        return End::Stopped;
    };
    let (to, filter) = state.interest.target();
    let options = SubscribeOptions { filter, ..SubscribeOptions::new(to, After::Start) };
    let name = ConsumerName::new(&state.name).expect("our consumers have good names");
    let window = NonZeroU32::new(random.range(4..64) as u32).unwrap_or(NonZeroU32::MIN);
    let options = options.ack_each().window(window);
    let options = match state.sharing {
        Sharing::Alone => options.consumer(name),
        Sharing::Group { .. } => options.group(name),
    };
    let Ok(mut events) = client.subscribe_acked(options).await else {
        state.violation("was closed by nobody");
        return End::Stopped;
    };
    loop {
        let delivery = tokio::select! {
            order = orders.recv() => match order {
                None => return End::Stopped,
                Some(Order::Crash) => return End::Crash,
                Some(Order::Freeze(pause)) => {
                    sleep(pause).await;
                    continue;
                }
                Some(Order::TakeOver) => continue,
            },
            delivery = events.next() => delivery,
        };
        match delivery {
            Some(Ok(AckedDelivery::Event(event))) => event_came(state, event, random).await,
            Some(Ok(AckedDelivery::Notice(Notice::Parked { positions, reason }))) => {
                for position in positions {
                    state.told_parked(position.get(), &reason);
                }
            }
            Some(Ok(AckedDelivery::Notice(Notice::Reset(reason)))) => {
                state.violation(&format!("was reset although nothing was taken back: {reason:?}"));
            }
            Some(Ok(AckedDelivery::Notice(_))) => {}
            Some(Err(SubscriptionEnded::Refused(ErrorBody { code, .. })))
                if code == "consumer_taken" =>
            {
                return End::Taken;
            }
            Some(Err(ended)) => {
                state.violation(&format!("was ended: {ended}"));
                return End::Crash;
            }
            None => {
                state.violation("was ended without a reason");
                return End::Crash;
            }
        }
    }
}

async fn event_came(state: &State, unsettled: UnsettledEvent, random: &mut Random) {
    let event = seen(unsettled.event());
    let attempt = unsettled.attempt();
    let is_poison = is_poison(unsettled.event());
    state.given(event.position, attempt, is_poison);
    match wish(&event, attempt, is_poison) {
        Wish::Effect => {
            // Now and then it takes its time.
            if random.once_in(50) {
                sleep(random.millis(0..50)).await;
            }
            state.effect(&event);
            unsettled.ack();
        }
        Wish::Poison | Wish::Retry => {
            let delay = Duration::from_millis(random.range(0..400));
            unsettled.nack(Nack::retry_after(delay));
        }
        Wish::Park => {
            state.effects().give_up(event.position);
            unsettled.nack(Nack::park().because(OURS));
        }
        Wish::Skip => {
            state.effects().give_up(event.position);
            unsettled.nack(Nack::skip());
        }
    }
}
