//! A subscription with acknowledgements, as a stream of events that the program settles.

use std::{
    collections::VecDeque,
    num::NonZeroU32,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use futures_util::Stream;
use tidewire_eventstore::{ConsumerName, GlobalPosition, RecordedEvent, Sharing, StreamName};
use tidewire_protocol::{
    ConsumerRef, Delivered, NackAction, Sub,
    client::{ClientCore, DeliveryKey, Notice, Settlement, Taken},
};
use tokio::sync::Notify;

use crate::{client::SubscribeOptions, subscription::SubscriptionEnded};

/// How many events wait in the program's half at most. The others wait in the client's core,
/// within the window.
const READY_MAX: usize = 32;

/// What to subscribe to with acknowledgements, and how.
///
/// Made by [`SubscribeOptions::ack_each`].
#[derive(Debug, Clone)]
pub struct AckedOptions {
    pub(crate) subscribe: SubscribeOptions,
    pub(crate) delivery: tidewire_protocol::Delivery,
}

impl AckedOptions {
    pub(crate) fn new(subscribe: SubscribeOptions) -> Self {
        let delivery = tidewire_protocol::Delivery::Each { window: None };
        Self { subscribe, delivery }
    }

    /// At most this many events are unsettled at any time; without it, the server decides.
    #[must_use]
    pub fn window(mut self, events: NonZeroU32) -> Self {
        use tidewire_protocol::Delivery::{Consumer, Each, Plain};
        match &mut self.delivery {
            Plain => {}
            Each { window } | Consumer { window, .. } => *window = Some(events),
        }
        self
    }

    /// The server keeps a checkpoint under this name, and attempts and parked events with it. One
    /// session holds it at a time: the newest takes over.
    #[must_use]
    pub fn consumer(self, name: ConsumerName) -> Self {
        self.named(ConsumerRef { name, sharing: Sharing::Exclusive })
    }

    /// Like [`Self::consumer`], but shared: each session of the group has the events of a share of
    /// the streams, all of a stream on one session and in order.
    #[must_use]
    pub fn group(self, name: ConsumerName) -> Self {
        self.named(ConsumerRef { name, sharing: Sharing::Group })
    }

    fn named(mut self, consumer: ConsumerRef) -> Self {
        let window = self.delivery.window();
        self.delivery = tidewire_protocol::Delivery::Consumer { consumer, window };
        self
    }
}

impl SubscribeOptions {
    /// With acknowledgements: every event at least once, settled one by one by the program. For
    /// [`Client::subscribe_acked`](crate::Client::subscribe_acked); `buffer` has no meaning then.
    pub fn ack_each(self) -> AckedOptions {
        AckedOptions::new(self)
    }
}

/// What is to become of an event that could not be processed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nack {
    action: NackAction,
    reason: Option<String>,
}

impl Nack {
    /// It is sent again, and was attempted once more. Later events of its stream come after it.
    pub fn retry() -> Self {
        Self::retry_after(Duration::ZERO)
    }

    /// Like [`Self::retry`], after a while; at most an hour.
    pub fn retry_after(delay: Duration) -> Self {
        Self { action: NackAction::Retry { delay }, reason: None }
    }

    /// It is put aside for people to look at.
    pub fn park() -> Self {
        Self { action: NackAction::Park, reason: None }
    }

    /// It counts as processed.
    pub fn skip() -> Self {
        Self { action: NackAction::Skip, reason: None }
    }

    /// It stays unsettled, and the subscription ends.
    pub fn stop() -> Self {
        Self { action: NackAction::Stop, reason: None }
    }

    /// Why, for people. Cut to 500 bytes.
    #[must_use]
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }
}

/// An event that waits for the program to settle it.
///
/// Dropped without being settled, nothing is said of it: the server sends it again after a while,
/// as another attempt.
#[derive(Debug)]
#[must_use = "an event that nobody settles comes again"]
pub struct UnsettledEvent {
    event: RecordedEvent,
    attempt: u32,
    key: DeliveryKey,
    /// Whether the program has said what becomes of it.
    settled: bool,
    half: Half,
}

impl UnsettledEvent {
    /// The event.
    pub fn event(&self) -> &RecordedEvent {
        &self.event
    }

    /// Which attempt this is, counted from 1.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Its effect is done. Acknowledgements travel together, a moment later, and never past an
    /// event that is not settled.
    pub fn ack(mut self) {
        self.settled = true;
        self.half.say(Said::Settled(self.key, Settlement::Ack));
    }

    /// It could not be processed.
    pub fn nack(mut self, nack: Nack) {
        self.settled = true;
        let Nack { action, reason } = nack;
        let settlement = Settlement::Nack { action, reason };
        let mut state = self.half.lock();
        state.said.push_back(Said::Settled(self.key, settlement));
        if matches!(action, NackAction::Retry { .. }) {
            // Those come after it.
            state.give_back_later(&self.event.stream, self.event.position);
        }
        drop(state);
        self.half.attention.notify_one();
    }
}

impl Drop for UnsettledEvent {
    fn drop(&mut self) {
        if !self.settled {
            self.half.say(Said::Settled(self.key, Settlement::LetGo));
        }
    }
}

/// What a subscription with acknowledgements yields.
#[derive(Debug)]
pub enum AckedDelivery {
    /// The next event.
    Event(UnsettledEvent),
    /// News of the subscription, in order with its events.
    Notice(Notice),
}

/// The events of one subscription with acknowledgements: each at least once, the events of a
/// stream in order.
///
/// At most a window of them is unsettled at a time, and only those are held; a program that is
/// slow here slows down nothing else. Across reconnects an event that the program has in hand is
/// not given to it a second time. Dropping this unsubscribes; what is settled after that counts
/// for nothing.
#[derive(Debug)]
pub struct AckedSubscription {
    half: Half,
}

impl AckedSubscription {
    /// The next event, passing over notices; `None` when the subscription or its client is over.
    ///
    /// # Errors
    ///
    /// [`SubscriptionEnded`] once, when it ended although nobody asked for it.
    pub async fn next_event(&mut self) -> Option<Result<UnsettledEvent, SubscriptionEnded>> {
        loop {
            let next = std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await?;
            match next {
                Ok(AckedDelivery::Event(event)) => return Some(Ok(event)),
                Ok(AckedDelivery::Notice(_)) => {}
                Err(ended) => return Some(Err(ended)),
            }
        }
    }
}

impl Stream for AckedSubscription {
    type Item = Result<AckedDelivery, SubscriptionEnded>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = self.half.lock();
        let taken = match state.ready.pop_front() {
            Some(taken) => taken,
            None => {
                return match &mut state.life {
                    Life::Open => {
                        state.waker = Some(cx.waker().clone());
                        Poll::Pending
                    }
                    Life::Over(error) => Poll::Ready(error.take().map(Err)),
                };
            }
        };
        if state.ready.len() == READY_MAX / 2 {
            self.half.attention.notify_one();
        }
        drop(state);
        Poll::Ready(Some(Ok(match taken {
            Taken::Notice(notice) => AckedDelivery::Notice(notice),
            Taken::Event { key, delivered: Delivered { event, attempt } } => {
                let half = self.half.clone();
                AckedDelivery::Event(UnsettledEvent { event, attempt, key, settled: false, half })
            }
        })))
    }
}

impl Drop for AckedSubscription {
    fn drop(&mut self) {
        self.half.lock().dropped = true;
        self.half.attention.notify_one();
    }
}

/// What the program has said and the client's core has not heard.
#[derive(Debug)]
enum Said {
    Settled(DeliveryKey, Settlement),
    GivenBack(DeliveryKey, Delivered),
}

#[derive(Debug)]
enum Life {
    Open,
    /// It is over; why, if the program did not ask for it and was not told.
    Over(Option<SubscriptionEnded>),
}

/// Bounded by the window: each event that was taken is said something of once.
#[derive(Debug)]
struct Shared {
    ready: VecDeque<Taken>,
    said: VecDeque<Said>,
    life: Life,
    dropped: bool,
    waker: Option<Waker>,
}

impl Shared {
    /// Gives back what waits of `stream` behind `position`, the last one first.
    fn give_back_later(&mut self, stream: &StreamName, position: GlobalPosition) {
        let mut kept = VecDeque::new();
        let mut back = Vec::new();
        for taken in self.ready.drain(..) {
            match taken {
                Taken::Event { key, delivered }
                    if delivered.event.stream == *stream && key.position() > position =>
                {
                    back.push(Said::GivenBack(key, delivered));
                }
                other => kept.push_back(other),
            }
        }
        self.ready = kept;
        self.said.extend(back.into_iter().rev());
    }
}

/// One half of what the program and the client's task share.
///
/// The task hears all that the program has said before it hands over anything, under the same
/// lock: so what a retry withdraws is never handed over after it.
#[derive(Debug, Clone)]
pub(crate) struct Half {
    shared: Arc<Mutex<Shared>>,
    attention: Arc<Notify>,
}

impl Half {
    /// A subscription and the task's half of it; `attention` wakes the task.
    pub(crate) fn new(attention: Arc<Notify>) -> (AckedSubscription, Self) {
        let shared = Shared {
            ready: VecDeque::new(),
            said: VecDeque::new(),
            life: Life::Open,
            dropped: false,
            waker: None,
        };
        let half = Self { shared: Arc::new(Mutex::new(shared)), attention };
        (AckedSubscription { half: half.clone() }, half)
    }

    /// Whatever happened to a thread that held the lock, what is said here stays whole.
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, said: Said) {
        self.lock().said.push_back(said);
        self.attention.notify_one();
    }

    /// Whether the program has dropped the subscription.
    pub(crate) fn is_dropped(&self) -> bool {
        self.lock().dropped
    }

    /// The task tells `core` what the program has said, then hands over what there is room for.
    pub(crate) fn exchange(&self, sub: Sub, core: &mut ClientCore, now: Instant) {
        let mut state = self.lock();
        for said in state.said.drain(..) {
            match said {
                Said::Settled(key, settlement) => {
                    // What does not count comes again.
                    core.settle(key, settlement, now);
                }
                Said::GivenBack(key, delivered) => core.give_back(key, delivered),
            }
        }
        let before = state.ready.len();
        while state.ready.len() < READY_MAX
            && let Some(taken) = core.take(sub)
        {
            state.ready.push_back(taken);
        }
        if state.ready.len() > before
            && let Some(waker) = state.waker.take()
        {
            waker.wake();
        }
    }

    /// The subscription is over.
    pub(crate) fn end(&self, error: Option<SubscriptionEnded>) {
        let mut state = self.lock();
        state.ready.retain(|taken| matches!(taken, Taken::Notice(_)));
        if matches!(state.life, Life::Open) {
            state.life = Life::Over(error);
        }
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }
}
