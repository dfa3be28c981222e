//! One subscription, as a stream.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_util::Stream;
use tidewire_eventstore::RecordedEvent;
use tidewire_protocol::{CloseCode, ErrorBody, client::Notice};
use tokio::sync::{Notify, mpsc};

/// What a subscription yields.
#[derive(Debug, Clone, PartialEq)]
pub enum Delivery {
    /// The next event.
    Event(RecordedEvent),
    /// News of the subscription, in order with its events. After [`Notice::Reset`] everything
    /// derived from it has to be forgotten: it begins anew with the first event there is.
    Notice(Notice),
}

/// Why a subscription has ended although nobody asked for it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SubscriptionEnded {
    /// The server refused or ended it, for good.
    #[error("the server ended the subscription: {0}")]
    Refused(ErrorBody),
    /// The client has given up connecting.
    #[error("the client has given up: {code} ({})", code.text())]
    Failed {
        /// The code that ended the last connection.
        code: CloseCode,
    },
}

/// The events of one subscription: each once, in order, across reconnects.
///
/// The stream holds a bounded number of deliveries. While it is full the client reads nothing
/// from its socket, so whoever does not consume slows down the other subscriptions of the same
/// client; use a client of its own for what is slow. Dropping the stream unsubscribes.
#[derive(Debug)]
pub struct Subscription {
    deliveries: mpsc::Receiver<Result<Delivery, SubscriptionEnded>>,
    attention: Arc<Notify>,
}

impl Subscription {
    pub(crate) fn new(
        deliveries: mpsc::Receiver<Result<Delivery, SubscriptionEnded>>,
        attention: Arc<Notify>,
    ) -> Self {
        Self { deliveries, attention }
    }

    /// The next event, passing over notices; `None` when the subscription or its client is over.
    ///
    /// # Errors
    ///
    /// [`SubscriptionEnded`] once, when it ended although nobody asked for it.
    pub async fn next_event(&mut self) -> Option<Result<RecordedEvent, SubscriptionEnded>> {
        loop {
            match self.deliveries.recv().await? {
                Ok(Delivery::Event(event)) => return Some(Ok(event)),
                Ok(Delivery::Notice(_)) => {}
                Err(ended) => return Some(Err(ended)),
            }
        }
    }
}

impl Stream for Subscription {
    type Item = Result<Delivery, SubscriptionEnded>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(ready!(self.deliveries.poll_recv(cx)))
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.deliveries.close();
        self.attention.notify_one();
    }
}
