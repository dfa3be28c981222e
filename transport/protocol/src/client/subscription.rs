//! One subscription as the client keeps it: what was asked for, and how far it has come.

use std::time::Instant;

use tidewire_eventstore::{GlobalPosition, RecordedEvent};
use uuid::Uuid;

use super::unsettled::Unsettled;
use crate::messages::{After, Delivery, FeedSpec, Sub, Subscribe};

/// Where a subscription stands on the present connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The server does not know of it; it goes into the next `hello`.
    Unsent,
    /// The server refused or ended it for now; it is asked again at this time.
    Waiting(Instant),
    /// `subscribe` was sent and not answered yet.
    Opening,
    /// Events come.
    Open,
    /// `unsubscribe` was sent; whatever still comes counts for nothing.
    Ending,
}

/// One subscription.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) feed: FeedSpec,
    /// Where to begin, or to go on: everything up to a position was emitted.
    pub(super) after: After,
    /// The epoch that the position was learnt in.
    pub(super) epoch: Option<Uuid>,
    pub(super) stage: Stage,
    /// Whether and how its events are acknowledged.
    pub(super) delivery: Delivery,
    /// What is not settled, if events are acknowledged.
    pub(super) unsettled: Option<Box<Unsettled>>,
    /// How often in a row the server refused it.
    pub(super) refusals: u32,
    /// How often in a row it was reset, without being opened between.
    pub(super) resets: u32,
}

impl Subscription {
    /// The `subscribe` that begins or resumes it.
    pub(super) fn request(&self, sub: Sub) -> Subscribe {
        Subscribe {
            sub,
            feed: self.feed.clone(),
            after: self.after,
            epoch: self.epoch,
            delivery: self.delivery.clone(),
        }
    }

    /// Whether everything up to `position` was emitted.
    fn has(&self, position: GlobalPosition) -> bool {
        matches!(self.after, After::Position(seen) if position <= seen)
    }

    /// Moves on to `position`, never back; whether that was a move.
    pub(super) fn advance(&mut self, position: GlobalPosition) -> bool {
        let moves = !self.has(position);
        if moves {
            self.after = After::Position(position);
        }
        moves
    }

    /// Whether the server keeps a checkpoint of it.
    pub(super) fn is_consumer(&self) -> bool {
        matches!(self.delivery, Delivery::Consumer { .. })
    }

    /// What was open on the server is no longer: everything unsettled is going to come again.
    pub(super) fn lost(&mut self) {
        let settles = !self.is_consumer();
        let Some(unsettled) = &mut self.unsettled else { return };
        let settled = unsettled.settled_through();
        unsettled.lost();
        if settles && self.stage == Stage::Open {
            self.advance(settled);
        }
    }

    /// Positions no longer mean what they did.
    pub(super) fn forget(&mut self) {
        if let Some(unsettled) = &mut self.unsettled {
            unsettled.forget();
        }
    }

    /// The events that are new, in order; the subscription moves past them.
    pub(super) fn fresh(&mut self, events: Vec<RecordedEvent>) -> Vec<RecordedEvent> {
        events.into_iter().filter(|event| self.advance(event.position)).collect()
    }
}
