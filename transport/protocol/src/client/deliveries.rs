//! Subscriptions with acknowledgements: what arrives, what the application takes and settles, and
//! what the server is told of it. What counts and what may be acknowledged is in `unsettled`.

use std::time::Instant;

use tidewire_eventstore::GlobalPosition;

use super::{
    ClientCore, ClientOutput, DeliveryKey, Link, Notice, Settlement, Taken,
    subscription::{Content, Stage},
    unsettled::{Effect, Flooded},
};
use crate::{
    codes::{ErrorBody, ErrorCode},
    messages::{ClientMessage, Delivered, Delivery, Sub},
};

/// The window of a subscription that asks for none, if the server's limit allows as much.
const WINDOW_DEFAULT: usize = 256;

/// Which acknowledgements are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flush {
    /// Those that have waited long enough, or are enough.
    Due,
    /// All.
    All,
}

impl ClientCore {
    /// The next thing that a subscription with acknowledgements has for the application, or
    /// `None` for now.
    pub fn take(&mut self, sub: Sub) -> Option<Taken> {
        let taken = self.subs.get_mut(&sub)?.unsettled.as_mut()?.take()?;
        Some(match taken {
            Ok((delivered, number)) => {
                let position = delivered.event.position;
                Taken::Event { key: DeliveryKey { sub, position, number }, delivered }
            }
            Err(notice) => Taken::Notice(notice),
        })
    }

    /// Gives back an event that the application took and has not looked at. It is the next to be
    /// taken, unless it was withdrawn meanwhile. Several go back in the reverse of their order.
    pub fn give_back(&mut self, key: DeliveryKey, delivered: Delivered) {
        let unsettled = self.subs.get_mut(&key.sub).and_then(|sub| sub.unsettled.as_mut());
        if let Some(unsettled) = unsettled {
            unsettled.give_back(delivered, key.number);
            self.ready(key.sub);
        }
    }

    /// The application has made something of an event that it took; whether that counts. It does
    /// not when the application has no say in the event any more: the subscription is over, the
    /// event was parked or given anew, or it is going to be given again in its turn.
    pub fn settle(&mut self, key: DeliveryKey, settlement: Settlement, now: Instant) -> bool {
        let DeliveryKey { sub, position, number } = key;
        let unsettled = self.subs.get_mut(&sub).and_then(|sub| sub.unsettled.as_mut());
        let Some(unsettled) = unsettled else { return false };
        match unsettled.settle(position, number, settlement) {
            Effect::None => return false,
            Effect::Acks => self.acknowledge(sub, now, Flush::Due),
            Effect::Nack(nack) => {
                self.send(&ClientMessage::Nack { sub, nack });
                self.acknowledge(sub, now, Flush::Due);
            }
            Effect::Stop(nack) => {
                self.acknowledge(sub, now, Flush::All);
                match self.subs.get_mut(&sub) {
                    Some(subscription) if subscription.stage == Stage::Open => {
                        subscription.stage = Stage::Ending;
                        self.send(&ClientMessage::Nack { sub, nack });
                    }
                    _ => drop(self.subs.remove(&sub)),
                }
                self.ended_notice(sub, Some(Box::new(ErrorBody::of(ErrorCode::Stopped))));
            }
        }
        true
    }

    /// The window that a subscription gets.
    pub(super) fn window(&self, delivery: &Delivery) -> usize {
        let limit = self.welcome.as_ref().map_or(u64::MAX, |welcome| welcome.limits.window);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX).max(1);
        delivery.window().map_or(WINDOW_DEFAULT, |window| window.get() as usize).min(limit)
    }

    /// A subscription begins, or goes on, after a position.
    pub(super) fn begin_acked(&mut self, sub: Sub, after: GlobalPosition, resumed: bool) {
        let Some(subscription) = self.subs.get(&sub) else { return };
        let window = self.window(&subscription.delivery);
        let Some(subscription) = self.subs.get_mut(&sub) else { return };
        let is_consumer = subscription.is_consumer();
        if !is_consumer {
            subscription.advance(after);
        }
        let Some(unsettled) = &mut subscription.unsettled else { return };
        unsettled.opened(window);
        match is_consumer && !resumed {
            // It is new, whatever a consumer of this name had settled before.
            true => unsettled.forget(),
            false => unsettled.begins_after(after),
        }
    }

    /// Events have come.
    pub(super) fn events(
        &mut self,
        sub: Sub,
        events: Vec<Delivered>,
        now: Instant,
    ) -> Result<(), Flooded> {
        let Some(subscription) = self.open(sub) else { return Ok(()) };
        let Some(unsettled) = &mut subscription.unsettled else {
            let events = events.into_iter().map(|delivered| delivered.event).collect();
            for event in subscription.fresh(events) {
                self.outputs.push_back(ClientOutput::Event { sub, event });
            }
            return Ok(());
        };
        for delivered in events {
            unsettled.receive(delivered)?;
        }
        self.ready(sub);
        self.acknowledge(sub, now, Flush::Due);
        Ok(())
    }

    /// The server has heard of retries.
    pub(super) fn retrying(&mut self, sub: Sub, positions: Vec<GlobalPosition>) {
        if let Some(unsettled) = self.open(sub).and_then(|open| open.unsettled.as_mut()) {
            for position in positions {
                unsettled.retrying(position);
            }
        }
    }

    /// The server has put events aside.
    pub(super) fn parked(
        &mut self,
        sub: Sub,
        positions: Vec<GlobalPosition>,
        reason: String,
        now: Instant,
    ) {
        if let Some(unsettled) = self.open(sub).and_then(|open| open.unsettled.as_mut()) {
            unsettled.parked(positions, reason);
            self.ready(sub);
            self.acknowledge(sub, now, Flush::Due);
        }
    }

    /// Everything matching up to `position` was sent.
    pub(super) fn looked_at(&mut self, sub: Sub, position: GlobalPosition, now: Instant) {
        let Some(subscription) = self.open(sub) else { return };
        let news = match (&mut subscription.unsettled, &mut subscription.content) {
            (Some(unsettled), _) => {
                unsettled.told(position);
                true
            }
            (None, Content::Documents(content)) => content.1.advance(position),
            (None, Content::Events(_)) => subscription.advance(position),
        };
        if news {
            self.notice(sub, Notice::Position(position));
            self.acknowledge(sub, now, Flush::Due);
        }
    }

    /// The server has something to say of a subscription, or of what was said on it.
    pub(super) fn complained(
        &mut self,
        sub: Sub,
        error: Box<ErrorBody>,
        now: Instant,
        chance: f64,
    ) {
        match error.known() {
            Some(ErrorCode::UnknownPosition) => {
                let positions = error.details.as_ref().and_then(|details| {
                    Some(details.get("positions")?.as_array()?.iter().filter_map(|at| at.as_u64()))
                });
                let positions: Vec<_> = positions.into_iter().flatten().collect();
                if let Some(unsettled) = self.open(sub).and_then(|open| open.unsettled.as_mut()) {
                    for position in positions {
                        unsettled.unknown(GlobalPosition::new(position));
                    }
                    self.ready(sub);
                    self.acknowledge(sub, now, Flush::Due);
                }
            }
            // What was said crossed the end of its subscription, which may have begun again.
            Some(ErrorCode::UnknownSub) => {
                if self.subs.get(&sub).is_some_and(|ending| ending.stage == Stage::Ending) {
                    self.subs.remove(&sub);
                }
            }
            // About an acknowledgement that this client never sends; nothing has changed.
            Some(ErrorCode::AckAhead | ErrorCode::AckNone) => {
                self.outputs.push_back(ClientOutput::Complaint(error));
            }
            _ => self.ended(sub, Some(error), now, chance),
        }
    }

    /// Sends the acknowledgements that it is time for.
    pub(super) fn acknowledge(&mut self, sub: Sub, now: Instant, flush: Flush) {
        if !matches!(self.link, Link::Up { .. }) {
            return;
        }
        let delay = self.config.ack_delay;
        let Some(unsettled) = self.open(sub).and_then(|open| open.unsettled.as_mut()) else {
            return;
        };
        for position in unsettled.acks(now, delay, flush == Flush::All) {
            self.send(&ClientMessage::Ack { sub, position });
        }
    }

    /// Tells the driver that there is something to take, once for any number of things.
    pub(super) fn ready(&mut self, sub: Sub) {
        let ready = ClientOutput::Ready { sub };
        if self.outputs.back() != Some(&ready) {
            self.outputs.push_back(ready);
        }
    }
}
