//! What the two sides say to each other, apart from how it is written.
//!
//! The words are those of PROTOCOL.md. A type here is valid by construction as far as its fields
//! allow; [`crate::codec`] turns bytes into these and back.

mod delivery;
mod query;

use std::{fmt, num::NonZeroU32, sync::Arc};

use bytes::Bytes;
use tidewire_eventstore::{
    Category, ExpectedRevision, GlobalPosition, NewEvent, PartitionSet, RecordedEvent, Revision,
    StreamName, Timestamp,
};
use uuid::Uuid;

pub use delivery::{
    AckMode, COLLECTION_COMMAND, CommandRequest, ConsumerRef, Delivered, Delivery, Nack,
    NackAction, command_name,
};
pub use query::{QueryRequest, QueryReset, Summary, SummaryWindow, Watch};

use crate::{
    codes::{CloseCode, ErrorBody},
    filter::Filter,
    query::{Change, Document, Reached},
};

/// The version of the protocol that this crate speaks.
pub const PROTOCOL_VERSION: u64 = 1;

/// At most this many messages in one array.
pub const ARRAY_MESSAGES_MAX: usize = 64;

/// The handle of a subscription: a small integer chosen by the client, unique in its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sub(u32);

impl Sub {
    /// A handle.
    pub const fn new(sub: u32) -> Self {
        Self(sub)
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Sub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The id of a request: chosen by the client, 1–64 bytes, unique among those unanswered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// The longest id, in bytes.
    pub const BYTES_MAX: usize = 64;

    /// An id, if it has an allowed length.
    pub fn new(id: &str) -> Option<Self> {
        (1..=Self::BYTES_MAX).contains(&id.len()).then(|| Self(id.into()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The id of a session: one connection to one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub Uuid);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One life of the log, as far as a session needs to know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch {
    /// Names the epoch.
    pub epoch: Uuid,
    /// The first position that may differ from what an earlier epoch had there.
    pub first_position: GlobalPosition,
}

/// Which events a subscription or a fetch is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// Every event.
    All,
    /// The events of all streams of a category.
    Category(Category),
    /// The events of one stream.
    Stream(StreamName),
}

impl Target {
    /// Whether an event of `stream` belongs to this target.
    pub fn includes(&self, stream: &StreamName) -> bool {
        match self {
            Self::All => true,
            Self::Category(category) => stream.category_str() == category.as_str(),
            Self::Stream(name) => name == stream,
        }
    }
}

/// Where a subscription begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum After {
    /// Before the first event that is retained. Never resets.
    Start,
    /// At the head: only what is appended from now on.
    #[default]
    End,
    /// After this position.
    Position(GlobalPosition),
}

/// How a client would have its events put into frames. Both limits are wishes: the server may
/// send smaller frames, and sooner. With a summary there are no events, and no such limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Batch {
    /// At most this many events in one message.
    pub max_events: Option<NonZeroU32>,
    /// Wait at most this long for more events before sending those at hand, in milliseconds.
    pub max_delay_ms: Option<u32>,
    /// Count the events by type instead of sending them.
    pub summary: Option<Summary>,
}

/// Everything that makes one feed of events what it is. Subscriptions with equal specifications
/// can share their frames.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FeedSpec {
    /// Which events.
    pub target: Target,
    /// Which of those; all of them if none.
    pub filter: Option<Arc<Filter>>,
    /// How they are put into frames.
    pub batch: Batch,
    /// Whether they are acknowledged. Set by the server.
    pub ack: AckMode,
    /// Which shares of the streams: all but for a member of a group. Set by the server.
    pub partitions: PartitionSet,
}

impl FeedSpec {
    /// Every event of `target`, put into frames as the server likes.
    pub fn of(target: Target) -> Self {
        Self {
            target,
            filter: None,
            batch: Batch::default(),
            ack: AckMode::None,
            partitions: PartitionSet::ALL,
        }
    }
}

/// `subscribe`: open a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe {
    /// Its handle.
    pub sub: Sub,
    /// What it delivers.
    pub feed: FeedSpec,
    /// Where it begins.
    pub after: After,
    /// The epoch that `after` was learnt in; none: the one that `hello` named, if any.
    pub epoch: Option<Uuid>,
    /// Whether and how its events are acknowledged.
    pub delivery: Delivery,
}

/// A subscription of either kind, as `hello` carries them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subscription {
    /// To events.
    Feed(Subscribe),
    /// To the documents of a query.
    Query(Watch),
}

impl Subscription {
    /// Its handle.
    pub fn sub(&self) -> Sub {
        match self {
            Self::Feed(subscribe) => subscribe.sub,
            Self::Query(watch) => watch.sub,
        }
    }
}

/// `hello`: the first message of a client.
#[derive(Debug, Clone, PartialEq)]
pub struct Hello {
    /// The version of the protocol that the client speaks.
    pub protocol: u64,
    /// Proves who the client is.
    pub token: Option<String>,
    /// Names the client program, for people: at most 200 bytes.
    pub client: Option<String>,
    /// The epoch of every position in `subscriptions` that has none of its own.
    pub epoch: Option<Uuid>,
    /// Subscriptions to open at once, each failing alone.
    pub subscriptions: Vec<Result<Subscription, Refusal>>,
}

/// Some events for one stream, recorded all or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppendRequest {
    /// The stream.
    pub stream: StreamName,
    /// What is demanded of it.
    pub expected: ExpectedRevision,
    /// The events, in order; at least one.
    pub events: Vec<NewEvent>,
}

/// A place in the log that a page begins next to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cursor {
    /// A global position: pages of a category or of everything.
    Position(GlobalPosition),
    /// A revision: pages of one stream.
    Revision(Revision),
}

impl Cursor {
    /// The number as it appears on the wire.
    pub const fn number(self) -> u64 {
        match self {
            Self::Position(position) => position.get(),
            Self::Revision(revision) => revision.get(),
        }
    }
}

/// Which way a page is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Direction {
    /// From older to newer events.
    #[default]
    Forwards,
    /// From newer to older events.
    Backwards,
}

/// One page to read. At most one of `after` (forwards) and `before` (backwards) is set; none
/// means the end of the log that the direction starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchRequest {
    /// Which events.
    pub from: Target,
    /// Read the events after this one.
    pub after: Option<Cursor>,
    /// Read the events before this one.
    pub before: Option<Cursor>,
    /// At most this many events, at least 1; already cut to the server's limit.
    pub limit: usize,
    /// Which way.
    pub direction: Direction,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// An append is durable.
    Appended {
        /// The stream.
        stream: StreamName,
        /// The revision of the last event.
        revision: Revision,
        /// The position of the last event.
        position: GlobalPosition,
    },
    /// A page was read.
    Page {
        /// The events, in the direction of the read.
        events: Vec<RecordedEvent>,
        /// Whether the page was cut at its limit.
        more: bool,
        /// Where the next page begins, if `more`.
        next: Option<Cursor>,
        /// The head of the log when the page was read.
        head: GlobalPosition,
    },
    /// A command was carried out.
    Result {
        /// What the application answers: JSON text.
        data: Bytes,
        /// The position of the last event that it appended, if any.
        position: Option<GlobalPosition>,
    },
    /// A page of documents was read.
    Documents {
        /// How far the projection was when the page was read, or before.
        reached: Reached,
        /// The documents, in the order that was asked for.
        documents: Vec<Document>,
        /// Whether there are more, or may be.
        more: bool,
        /// Where the next page begins, if `more`.
        next: Option<Box<str>>,
    },
}

/// What a client says.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientMessage {
    /// The first message.
    Hello(Box<Hello>),
    /// Open a subscription.
    Subscribe(Box<Subscribe>),
    /// Open a live query: `subscribe` to a projection.
    Watch(Box<Watch>),
    /// End a subscription.
    Unsubscribe {
        /// Its handle.
        sub: Sub,
    },
    /// Everything up to a position is processed.
    Ack {
        /// The subscription.
        sub: Sub,
        /// The position.
        position: GlobalPosition,
    },
    /// Some events could not be processed.
    Nack {
        /// The subscription.
        sub: Sub,
        /// Which, and what is to become of them.
        nack: Nack,
    },
    /// Something for the application to do.
    Command {
        /// Names the reply.
        id: RequestId,
        /// What.
        command: CommandRequest,
    },
    /// Append events.
    Append {
        /// Names the reply.
        id: RequestId,
        /// What to append.
        append: AppendRequest,
    },
    /// Read a page.
    Fetch {
        /// Names the reply.
        id: RequestId,
        /// What to read.
        fetch: FetchRequest,
    },
    /// Read a page of documents: `fetch` from a projection.
    Query {
        /// Names the reply.
        id: RequestId,
        /// What to read.
        request: Box<QueryRequest>,
    },
    /// Ask for a sign of life.
    Ping {
        /// Names the reply.
        id: RequestId,
    },
}

/// A message that cannot be obeyed, with what its `error` has to say.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// The request's id, as far as it could be read.
    pub id: Option<RequestId>,
    /// The subscription's handle, as far as it could be read.
    pub sub: Option<Sub>,
    /// Why.
    pub error: Box<ErrorBody>,
}

/// What a client may count on and has to keep to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WireLimits {
    /// The largest message that the server reads, in bytes.
    pub message_bytes: u64,
    /// The most messages in one array.
    pub array_messages: u64,
    /// The most open subscriptions of a session.
    pub subscriptions: u64,
    /// The most unanswered requests of a session.
    pub requests: u64,
    /// The most events of one append.
    pub append_events: u64,
    /// The most events of one page.
    pub page_events: u64,
    /// The widest window of a subscription that acknowledges.
    pub window: u64,
}

/// How a client should come back after it lost the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReconnectHint {
    /// The first delay.
    pub min_ms: u64,
    /// The longest delay.
    pub max_ms: u64,
    /// A further random delay up to this, so that clients do not come back all at once.
    pub spread_ms: u64,
}

/// `welcome`: the server's answer to `hello`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// The session.
    pub session: SessionId,
    /// The node that serves it.
    pub node: Arc<str>,
    /// The current epoch of the log.
    pub epoch: Uuid,
    /// The last position that this node has looked at.
    pub head: GlobalPosition,
    /// How often the server sends a heartbeat.
    pub heartbeat_ms: u64,
    /// The limits.
    pub limits: WireLimits,
    /// How long the token is still good, where it expires.
    pub token_expires_in_ms: Option<u64>,
    /// How to come back.
    pub reconnect: ReconnectHint,
}

/// Why a subscription cannot be resumed where the client left it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ResetReason {
    /// The log has begun a new epoch before the client's position.
    Epoch,
    /// Events after the client's position are no longer retained.
    Truncated,
    /// The client's position is beyond the head of the log.
    Ahead,
}

impl ResetReason {
    /// The reason as it appears on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Epoch => "epoch",
            Self::Truncated => "truncated",
            Self::Ahead => "ahead",
        }
    }
}

/// `goodbye`: the server is about to close.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Goodbye {
    /// The code of the Close frame that follows.
    pub code: CloseCode,
    /// Why, for people.
    pub reason: String,
    /// Whether the client should come back.
    pub reconnect: bool,
    /// When.
    pub after_ms: u64,
}

/// What a server says.
#[derive(Debug, Clone, PartialEq)]
pub enum ServerMessage {
    /// The session is ready.
    Welcome(Box<Welcome>),
    /// A subscription is open: every matching event past `after` will be delivered.
    Subscribed {
        /// Its handle.
        sub: Sub,
        /// The head of the log, as far as this node knows.
        head: GlobalPosition,
        /// Where the subscription begins.
        after: GlobalPosition,
        /// Whether it goes on from a position that the client named.
        resumed: bool,
    },
    /// A live query is open: `subscribed`, too, on the wire.
    Watching {
        /// Its handle.
        sub: Sub,
        /// The head of the log, as far as this node knows.
        head: GlobalPosition,
        /// From where: what the client named if it is resumed, else what the projection has
        /// reached.
        after: Reached,
        /// Whether it goes on from what the client holds. Otherwise its state comes first.
        resumed: bool,
        /// Why it does not go on from what the client named.
        reset: Option<QueryReset>,
    },
    /// A subscription has ended.
    Unsubscribed {
        /// Its handle.
        sub: Sub,
        /// Why the server ended it; none: because the client asked.
        error: Option<Box<ErrorBody>>,
    },
    /// A subscription cannot be resumed: forget what was derived from it, begin anew.
    Reset {
        /// Its handle, free again.
        sub: Sub,
        /// Why.
        reason: ResetReason,
        /// The first position there is: subscribe after the one before it.
        first: GlobalPosition,
    },
    /// Events, in order.
    Events {
        /// The subscription.
        sub: Sub,
        /// The events.
        events: Vec<Delivered>,
    },
    /// Some documents of a live query's state.
    State {
        /// The subscription.
        sub: Sub,
        /// Everything that changed through here is in the state; the same on all its pages.
        reached: Reached,
        /// The documents.
        documents: Vec<Document>,
        /// Whether more of the same state follows.
        more: bool,
        /// Why the client is told a state again, on the first page of a state that replaces one.
        reset: Option<QueryReset>,
    },
    /// What has become of documents of a live query.
    Changes {
        /// The subscription.
        sub: Sub,
        /// Everything through here is told with this, unless more of the same step follows.
        position: GlobalPosition,
        /// The changes: of each document at most one.
        changes: Vec<Change>,
        /// Whether more of the same step follows: until then there is no one picture.
        more: bool,
    },
    /// Events of a subscription, counted.
    Summary {
        /// The subscription.
        sub: Sub,
        /// The counts.
        summary: Box<SummaryWindow>,
    },
    /// The answer to a `nack` with `retry`: from here on the events, and the later ones of their
    /// streams, come again.
    Retrying {
        /// The subscription.
        sub: Sub,
        /// Which were to be retried; those that are spent are `parked` next.
        positions: Vec<GlobalPosition>,
    },
    /// The retries of some events are spent, or the client asked: they were put aside, and the
    /// subscription moves on.
    Parked {
        /// The subscription.
        sub: Sub,
        /// Which.
        positions: Vec<GlobalPosition>,
        /// Why.
        reason: String,
    },
    /// A subscription has caught up.
    Live {
        /// The subscription.
        sub: Sub,
        /// Everything matching up to here was sent.
        position: GlobalPosition,
    },
    /// A subscription has fallen behind and reads the log again; nothing is lost.
    Behind {
        /// The subscription.
        sub: Sub,
        /// Everything matching up to here was sent.
        position: GlobalPosition,
        /// How many positions lie between that and the head.
        lag: u64,
    },
    /// An append is durable.
    Appended {
        /// The request.
        id: RequestId,
        /// The stream.
        stream: StreamName,
        /// The revision of the last event.
        revision: Revision,
        /// The position of the last event.
        position: GlobalPosition,
    },
    /// A command was carried out.
    Result {
        /// The request.
        id: RequestId,
        /// What the application answers: JSON text.
        data: Bytes,
        /// The position of the last event that it appended, if any.
        position: Option<GlobalPosition>,
    },
    /// A page of events.
    Page {
        /// The request.
        id: RequestId,
        /// The events, in the direction of the read.
        events: Vec<RecordedEvent>,
        /// Whether the page was cut at its limit.
        more: bool,
        /// Where the next page begins: a revision for one stream, else a position.
        next: Option<u64>,
        /// The head of the log when the page was read.
        head: GlobalPosition,
    },
    /// A page of documents: `page`, too, on the wire.
    Documents {
        /// The request.
        id: RequestId,
        /// How far the projection was when the page was read, or before.
        reached: Reached,
        /// The documents, in the order that was asked for.
        documents: Vec<Document>,
        /// Whether there are more, or may be.
        more: bool,
        /// Where the next page begins, if `more`.
        next: Option<Box<str>>,
    },
    /// The answer to `ping`.
    Pong {
        /// The request.
        id: RequestId,
        /// The server's time.
        at: Timestamp,
    },
    /// A sign of life.
    Heartbeat {
        /// The last position that this node has looked at.
        head: GlobalPosition,
        /// For each open subscription: everything matching up to here was sent before.
        positions: Vec<(Sub, GlobalPosition)>,
    },
    /// A request, a subscription or a message failed.
    Error {
        /// The request, if it had an id.
        id: Option<RequestId>,
        /// The subscription that the message was about.
        sub: Option<Sub>,
        /// Why.
        error: Box<ErrorBody>,
    },
    /// The server is about to close.
    Goodbye(Box<Goodbye>),
}
