//! What goes into the client's state machine and what comes out of it.

use std::time::Duration;

use bytes::Bytes;
use tidewire_eventstore::{GlobalPosition, RecordedEvent, Revision, StreamName};
use uuid::Uuid;

use super::{AppendKey, CommandTicket, DocumentPage, FetchKey, Page, Told};
use crate::{
    codes::{CloseCode, ErrorBody},
    messages::{Delivered, QueryReset, ResetReason, Sub, SummaryWindow, Welcome},
    query::Reached,
};

/// Where a client stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Not connected, and not trying to be.
    Disconnected,
    /// The first attempt is under way.
    Connecting,
    /// The server has said `welcome`.
    Connected,
    /// The connection was lost, or could not be made; the next attempt waits or is under way.
    Reconnecting {
        /// Which attempt in a row this is, counted from 1.
        attempt: u32,
        /// How long it waits.
        delay: Duration,
    },
    /// The client has given up: the code that ended the last connection.
    Failed(CloseCode),
}

/// What happened.
#[derive(Debug)]
pub enum ClientInput {
    /// The socket that [`ClientOutput::Connect`] asked for is open.
    Opened,
    /// A text message came in.
    Text(Bytes),
    /// Something else came in, such as a Ping frame: a sign of life.
    Heard,
    /// The socket is closed, or could not be opened. Without a Close frame: [`CloseCode::ABNORMAL`].
    Lost(CloseCode),
    /// A timer is due ([`ClientCore::next_timeout`](super::ClientCore::next_timeout)).
    Timeout,
}

/// What to do.
#[derive(Debug, PartialEq)]
pub enum ClientOutput {
    /// Open a socket, then hand in [`ClientInput::Opened`] or [`ClientInput::Lost`].
    Connect,
    /// Send a text message.
    Send(Bytes),
    /// Close the socket, if there is one. No input of it may follow.
    Disconnect(CloseCode),
    /// The client's state has changed.
    State(State),
    /// The next event of a subscription without acknowledgements.
    Event {
        /// The subscription.
        sub: Sub,
        /// The event.
        event: RecordedEvent,
    },
    /// What the application may see of a live query.
    Documents {
        /// The subscription.
        sub: Sub,
        /// A picture, or what makes the next one of the last.
        told: Told,
    },
    /// News of a subscription, in order with its events or pictures.
    Notice {
        /// The subscription.
        sub: Sub,
        /// The news.
        notice: Notice,
    },
    /// A subscription with acknowledgements has something for the application: call
    /// [`ClientCore::take`](super::ClientCore::take) when it can take it.
    Ready {
        /// The subscription.
        sub: Sub,
    },
    /// An append is settled; there is exactly one of these for each.
    Settled {
        /// The append.
        key: AppendKey,
        /// What became of it.
        result: Result<Settled, ErrorBody>,
    },
    /// A command is answered; there is exactly one of these for each.
    Answered {
        /// The command.
        ticket: CommandTicket,
        /// What became of it.
        result: Result<CommandResult, ErrorBody>,
    },
    /// A fetch is answered; there is exactly one of these for each.
    Fetched {
        /// The fetch.
        key: FetchKey,
        /// The page, or why there is none.
        result: Result<Page, ErrorBody>,
    },
    /// A fetch of documents is answered; there is exactly one of these for each.
    FetchedDocuments {
        /// The fetch.
        key: FetchKey,
        /// The page, or why there is none.
        result: Result<DocumentPage, ErrorBody>,
    },
    /// The server has spoken of itself.
    Welcome(Box<Welcome>),
    /// The server answered an error that belongs to nothing in particular.
    Complaint(Box<ErrorBody>),
}

/// Where an append was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// The stream.
    pub stream: StreamName,
    /// The revision of its last event.
    pub revision: Revision,
    /// The position of its last event.
    pub position: GlobalPosition,
}

/// What the application answered to a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandResult {
    /// Its answer: JSON text.
    pub data: Bytes,
    /// The position of the last event that it appended, if any.
    pub position: Option<GlobalPosition>,
}

/// Names one event that the application has taken, and this taking of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryKey {
    pub(super) sub: Sub,
    pub(super) position: GlobalPosition,
    pub(super) number: u64,
}

impl DeliveryKey {
    /// The subscription.
    pub const fn sub(self) -> Sub {
        self.sub
    }

    /// The position of the event.
    pub const fn position(self) -> GlobalPosition {
        self.position
    }
}

/// What the application takes of a subscription with acknowledgements.
#[derive(Debug, Clone, PartialEq)]
pub enum Taken {
    /// An event, to be settled by [`ClientCore::settle`](super::ClientCore::settle).
    Event {
        /// Names it there.
        key: DeliveryKey,
        /// The event, and which attempt this is.
        delivered: Delivered,
    },
    /// News, in order with the events.
    Notice(Notice),
}

/// News of a subscription.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// It is open: every matching event past `after` will come.
    Subscribed {
        /// Where it begins.
        after: GlobalPosition,
        /// The epoch in which positions count from now on.
        epoch: Uuid,
        /// Whether it went on from a position.
        resumed: bool,
    },
    /// A live query is open.
    Watching {
        /// What it goes on from, or how far the projection was that it is going to show.
        after: Reached,
        /// Whether it goes on from what the client holds.
        resumed: bool,
        /// Why not, if the client held something. What is shown stays until there is a new
        /// picture.
        reset: Option<QueryReset>,
    },
    /// The server begins a live query's state anew. What is shown stays until there is a new
    /// picture.
    Restated(QueryReset),
    /// How many events there were, in place of the events.
    Summary(Box<SummaryWindow>),
    /// Everything matching up to here was emitted, though the last event may be older; of a live
    /// query, everything through here is in what was told.
    Position(GlobalPosition),
    /// It has caught up.
    Live(GlobalPosition),
    /// It has fallen behind and catches up; nothing is lost.
    Behind {
        /// Everything matching up to here was emitted.
        position: GlobalPosition,
        /// How many positions lie between that and the head.
        lag: u64,
    },
    /// Events were put aside: their retries are spent, or the application said so. The
    /// subscription moves on.
    Parked {
        /// Which.
        positions: Vec<GlobalPosition>,
        /// Why.
        reason: String,
    },
    /// Forget everything derived from it: it begins anew with the first event there is.
    Reset(ResetReason),
    /// It is over; nothing follows. Without an error it was unsubscribed.
    Ended(Option<Box<ErrorBody>>),
}
