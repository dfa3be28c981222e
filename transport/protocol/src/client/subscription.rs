//! One subscription as the client keeps it: what was asked for, and how far it has come.

use std::time::Instant;

use tidewire_eventstore::{GlobalPosition, RecordedEvent};
use uuid::Uuid;

use super::{documents::Documents, unsettled::Unsettled};
use crate::{
    messages::{After, Delivery, FeedSpec, Sub, Subscribe, Subscription as Request, Watch},
    query::Query,
};

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

/// What a subscription is to.
#[derive(Debug)]
pub(super) enum Content {
    /// Events.
    Events(FeedSpec),
    /// The documents of a query, and what is held of them.
    Documents(Box<(Query, Documents)>),
}

/// One subscription.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) content: Content,
    /// Where to begin with events, or to go on: everything up to a position was emitted.
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
    pub(super) fn request(&self, sub: Sub) -> Request {
        match &self.content {
            Content::Events(feed) => Request::Feed(Subscribe {
                sub,
                feed: feed.clone(),
                after: self.after,
                epoch: self.epoch,
                delivery: self.delivery.clone(),
            }),
            Content::Documents(content) => {
                let (query, documents) = &**content;
                let after = documents.reached();
                let epoch = self.epoch.filter(|_| after.is_some());
                Request::Query(Watch { sub, query: query.clone(), after, epoch })
            }
        }
    }

    /// What is held of a live query.
    pub(super) fn documents(&mut self) -> Option<&mut Documents> {
        match &mut self.content {
            Content::Events(_) => None,
            Content::Documents(content) => Some(&mut content.1),
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
        if let Some(documents) = self.documents() {
            documents.lost();
        }
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
