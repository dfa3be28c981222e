//! What a session is told and what it asks for: the words between it and its driver.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tidewire_eventstore::{GlobalPosition, Partition, RecordedEvent};

use crate::{
    codes::{CloseCode, ErrorBody},
    delivery::{ClaimRequest, Grant, Progress},
    frame::{FrameError, Message},
    messages::{
        Answer, AppendRequest, CommandRequest, Epoch, FeedSpec, FetchRequest, QueryRequest,
        RequestId, Sub, Target,
    },
    query::{Query, Reached},
};

/// The present, as the driver sees it.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The time.
    pub now: Instant,
    /// The last position that this node has looked at.
    pub head: GlobalPosition,
    /// The highest position of a removed event that this node knows of.
    pub removed: GlobalPosition,
}

/// What the driver observed on the socket since it was opened.
#[derive(Debug, Clone, Copy)]
pub struct Activity {
    /// When the last byte came in.
    pub inbound_at: Instant,
    /// When the kernel last accepted bytes from us.
    pub progress_at: Instant,
    /// Bytes that we have produced and the kernel has not accepted yet.
    pub unsent_bytes: usize,
}

/// How a projection stands, when somebody wants to watch it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueryChecked {
    /// What is read by everybody.
    pub active: Reached,
    /// Of documents that were deleted after this, all are still known.
    pub changes_from: GlobalPosition,
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// A complete WebSocket message came in.
    Message(Message),
    /// The frame decoder met a violation: nothing more can be decoded. While the session may be
    /// read ([`Session::may_read`](super::Session::may_read)), read on and throw away what comes, up to the end.
    Broken(FrameError),
    /// The socket is gone.
    Gone,
    /// The answer to an [`Output::Append`], [`Output::Command`], [`Output::Fetch`] or
    /// [`Output::Query`].
    Answer {
        /// The request.
        id: RequestId,
        /// What became of it.
        answer: Result<Answer, ErrorBody>,
    },
    /// The answer to an [`Output::CheckHead`].
    HeadChecked {
        /// The subscription that waits for it.
        sub: Sub,
        /// The store's real head, or why it is not known.
        head: Result<GlobalPosition, ErrorBody>,
    },
    /// The answer to an [`Output::CheckRemoved`].
    RemovedChecked {
        /// The subscription that waits for it.
        sub: Sub,
        /// Where to begin instead, if events were removed that it has not seen.
        first: Result<Option<GlobalPosition>, ErrorBody>,
    },
    /// The answer to an [`Output::CheckQuery`].
    QueryChecked {
        /// The subscription that waits for it.
        sub: Sub,
        /// How its projection stands, or why the query cannot be served.
        checked: Result<QueryChecked, ErrorBody>,
    },
    /// A subscription that was reading the log is now fed what is appended. For a live query:
    /// what its client was told is one picture, that of this position.
    Live {
        /// The subscription.
        sub: Sub,
        /// Everything matching up to here was handed to the socket before.
        position: GlobalPosition,
    },
    /// A live subscription fell behind and reads the log again.
    Behind {
        /// The subscription.
        sub: Sub,
        /// Everything matching up to here was handed to the socket before.
        position: GlobalPosition,
        /// How many positions lie between that and the head.
        lag: u64,
    },
    /// A feed cannot go on; the session ends the subscription.
    FeedFailed {
        /// The subscription.
        sub: Sub,
        /// Why. Retryable: the client may subscribe anew after its last position.
        error: ErrorBody,
    },
    /// The answer to an [`Output::Positions`]: how far each feed has been looked at, everything
    /// matching up to there being handed to the socket before this call.
    Positions(Vec<(Sub, GlobalPosition)>),
    /// Everything handed out so far, by [`Output::Send`] and by feeds, was accepted by the
    /// kernel: the time that the oldest unsettled events may take begins. Only a session with
    /// acknowledgements minds; telling it more often does no harm.
    Accepted,
    /// The answer to an [`Output::Claim`].
    Claimed {
        /// The subscription that waits for it.
        sub: Sub,
        /// What it holds now, or why not.
        claimed: Result<Grant, ErrorBody>,
    },
    /// The answer to an [`Output::Save`].
    Saved {
        /// The subscription.
        sub: Sub,
        /// Whether the log remembers it now. `consumer_taken` ends the subscription; after any
        /// other error it is saved again later.
        saved: Result<(), ErrorBody>,
    },
    /// The answer to an [`Output::Read`].
    Read {
        /// The subscription.
        sub: Sub,
        /// Which event was asked for.
        position: GlobalPosition,
        /// The event, or nothing if the log no longer has it.
        event: Result<Option<Box<RecordedEvent>>, ErrorBody>,
    },
    /// Another session holds the consumer now.
    Taken {
        /// The subscription.
        sub: Sub,
    },
    /// The shares of the subscription's group change: it has to come to an end.
    Rebalance {
        /// The subscription.
        sub: Sub,
    },
    /// Somebody wants parked events delivered again.
    Replay {
        /// The subscription that holds their partitions.
        sub: Sub,
        /// Each with its partition and its charges so far.
        events: Vec<(Partition, GlobalPosition, u32)>,
    },
    /// The log has a new epoch: all epochs, oldest first.
    Epochs(Arc<[Epoch]>),
    /// The server is shutting down: say goodbye, answer what is unanswered, close.
    Drain {
        /// When the client should come back: a delay that differs between clients.
        reconnect_after: Duration,
    },
    /// A timer is due ([`Session::next_timeout`](super::Session::next_timeout)).
    Timeout(Activity),
    /// Everything handed out before by [`Output::Send`] is accepted by the kernel. Only a session
    /// that is closing minds; telling it more often does no harm.
    Flushed,
}

/// What to do.
#[derive(Debug, PartialEq)]
pub enum Output {
    /// Write these bytes: whole WebSocket frames, in this order, before any event frame that is
    /// produced later.
    Send(Bytes),
    /// Write this Pong frame, in place of an earlier one that has not begun to leave. So a peer
    /// that pings and does not read costs one frame.
    Pong(Bytes),
    /// Start a feed: deliver every event of `feed` after `after`.
    Open {
        /// The subscription.
        sub: Sub,
        /// What to deliver.
        feed: FeedSpec,
        /// Where to begin, exclusive.
        after: GlobalPosition,
    },
    /// Stop a feed: from now on no frame of it may be written.
    Shut {
        /// The subscription.
        sub: Sub,
    },
    /// Append, then answer with [`Input::Answer`].
    Append {
        /// The request.
        id: RequestId,
        /// What to append.
        append: AppendRequest,
    },
    /// Read a page, then answer with [`Input::Answer`].
    Fetch {
        /// The request.
        id: RequestId,
        /// What to read.
        fetch: FetchRequest,
    },
    /// Ask the store for its head, then answer with [`Input::HeadChecked`].
    CheckHead {
        /// The subscription that waits for it.
        sub: Sub,
    },
    /// Ask the store whether events of a target were removed after a position, then answer with
    /// [`Input::RemovedChecked`].
    CheckRemoved {
        /// The subscription that waits for it.
        sub: Sub,
        /// The target.
        target: Target,
        /// Through where the client has seen it.
        after: GlobalPosition,
    },
    /// Claim a consumer, then answer with [`Input::Claimed`].
    Claim {
        /// The subscription that waits for it.
        sub: Sub,
        /// What it wants to hold.
        claim: Box<ClaimRequest>,
    },
    /// Save a consumer's progress, then answer with [`Input::Saved`].
    Save {
        /// The subscription.
        sub: Sub,
        /// What to remember.
        progress: Progress,
    },
    /// Save a consumer's progress for the last time and let go of it. No answer.
    Release {
        /// The subscription.
        sub: Sub,
        /// What to remember.
        progress: Progress,
        /// Whether the subscription came to an orderly end. Otherwise whoever holds the consumer
        /// next begins carefully.
        clean: bool,
    },
    /// Ask whether a query can be served and how its projection stands, then answer with
    /// [`Input::QueryChecked`].
    CheckQuery {
        /// The subscription that waits for it.
        sub: Sub,
        /// The query.
        query: Box<Query>,
    },
    /// Start the feed of a live query. Its driver
    ///
    /// - sends the state first where the subscription is not `resumed`, in pages which all name
    ///   one position that was read before any of the documents, then every change after it;
    /// - says [`Input::Live`] whenever all that was told is one picture, and only then; once it
    ///   has, each whole step of changes leads from one picture to the next;
    /// - says [`Input::Behind`] before anything of which that is not true: changes that are read
    ///   from the store a page at a time, or a new state;
    /// - sends patches only to who is live, of documents that it has told in full.
    ///
    /// A projection may lose its last steps with its machine and take them again. A client may be
    /// ahead of it then: what it is told next is after `from`, whatever the projection does until
    /// then. And what was read before, page by page, is one picture only when the projection has
    /// come again as far as it was at any of those reads.
    Watch {
        /// The subscription.
        sub: Sub,
        /// The query.
        query: Box<Query>,
        /// What the client holds, if it is resumed; else how the projection stood.
        from: Reached,
        /// Whether the client goes on from what it holds.
        resumed: bool,
    },
    /// Read a page of documents, then answer with [`Input::Answer`].
    Query {
        /// The request.
        id: RequestId,
        /// What to read.
        request: Box<QueryRequest>,
    },
    /// Read one event that was sent before, then answer with [`Input::Read`].
    Read {
        /// The subscription that waits for it.
        sub: Sub,
        /// Which event.
        position: GlobalPosition,
    },
    /// Have the application carry out a command, then answer with [`Input::Answer`].
    Command {
        /// The request.
        id: RequestId,
        /// What to do.
        command: CommandRequest,
    },
    /// Say how far each open feed is, with [`Input::Positions`].
    Positions,
    /// A round trip was measured.
    RoundTrip(Duration),
    /// Write what is queued (unless [`CloseCode::is_abrupt`]), stop reading, and end the
    /// connection. Nothing follows.
    Close {
        /// Why; for metrics.
        code: CloseCode,
    },
}
