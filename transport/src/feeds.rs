//! The feeds of a session: of events, and of live queries.

use std::rc::Rc;

use bytes::Bytes;
use tidewire_eventstore::GlobalPosition;
use tidewire_protocol::{Input, Sub, session::Session};

use crate::{
    feed::Feed, live::LiveFeed, metrics::WorkerMetrics, session_cell::SessionCell, worker::Worker,
};

/// One open subscription of one session.
pub(crate) enum OpenFeed {
    /// To events.
    Events(Feed),
    /// To the documents of a query.
    Query(Box<LiveFeed>),
}

impl OpenFeed {
    /// The subscription's handle.
    pub(crate) fn sub(&self) -> Sub {
        match self {
            Self::Events(feed) => feed.sub(),
            Self::Query(feed) => feed.sub(),
        }
    }

    /// Whether what it brings is settled one by one.
    pub(crate) fn is_acked(&self) -> bool {
        matches!(self, Self::Events(feed) if feed.is_acked())
    }

    /// See [`Feed::waits`].
    pub(crate) fn waits(&mut self, room: usize, metrics: &WorkerMetrics) -> bool {
        match self {
            Self::Events(feed) => feed.waits(room, metrics),
            Self::Query(_) => false,
        }
    }

    /// Gives up whatever it has and waits for.
    pub(crate) fn close(self, session: &Rc<SessionCell>) {
        match self {
            Self::Events(feed) => feed.close(session),
            Self::Query(feed) => feed.close(session),
        }
    }

    /// How far it has come, with everything up to there handed to the socket; none where its
    /// client has nothing yet that it could go on from.
    pub(crate) fn looked_at(&mut self, worker: &Worker) -> Option<GlobalPosition> {
        match self {
            Self::Events(feed) => Some(feed.looked_at(&worker.hub.borrow())),
            Self::Query(feed) => feed.looked_at(&worker.live.borrow()),
        }
    }

    /// How many positions of the log may still hold something for it.
    pub(crate) fn lag(&self, worker: &Worker) -> u64 {
        match self {
            Self::Events(feed) => feed.lag(&worker.hub.borrow()),
            Self::Query(feed) => feed.lag(&worker.live.borrow(), worker.head()),
        }
    }

    /// Whether moving on is work of the kind that sessions take turns at.
    pub(crate) fn takes_turns(&self) -> bool {
        match self {
            Self::Events(feed) => feed.takes_turns(),
            Self::Query(feed) => feed.takes_turns(),
        }
    }

    /// Moves on until it has something to write, waits, or has news for the session.
    pub(crate) fn pull(
        &mut self,
        session: &Rc<SessionCell>,
        delivery: &mut Session,
    ) -> (Option<Bytes>, Option<Input>) {
        match self {
            Self::Events(feed) => feed.pull(session, delivery),
            Self::Query(feed) => feed.pull(session),
        }
    }
}
