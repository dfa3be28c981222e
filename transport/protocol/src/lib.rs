//! The Tidewire wire protocol as pure state machines: no clock, no IO, no randomness, no tasks.
//!
//! `PROTOCOL.md` says what travels; this crate is what it means. Time is passed in, bytes are
//! passed in and polled out, and nothing that a peer sends can make it panic.
//!
//! - [`frame`]: RFC 6455 frames, decoded strictly and encoded.
//! - [`messages`] and [`codec`]: what is said, and how it is written as JSON.
//! - [`session`]: the server's side of one connection.
//! - [`delivery`]: what was sent and is not settled, and what becomes of it.
//! - [`client`]: the client's side of the same protocol.
//! - [`query`]: which documents of a projection a client asks for.
//! - [`codes`]: every error code and close code, declared once.

pub mod backoff;
pub mod client;
pub mod codec;
pub mod codes;
pub mod delivery;
pub mod filter;
pub mod frame;
pub mod messages;
pub mod query;
pub mod session;

pub use codes::{CloseCode, ErrorBody, ErrorCode};
pub use delivery::{
    ClaimRequest, DeliveryConfig, EventRef, Grant, GrantedPartition, Offer, ParkedEvent,
    PartitionProgress, Progress, Sent, Tally,
};
pub use filter::Filter;
pub use messages::{
    AckMode, After, Answer, AppendRequest, Batch, COLLECTION_COMMAND, CommandRequest, ConsumerRef,
    Cursor, Delivered, Delivery, Direction, Epoch, FeedSpec, FetchRequest, Nack, NackAction,
    QueryRequest, QueryReset, RequestId, SessionId, Sub, Summary, SummaryWindow, Target,
    command_name,
};
pub use session::{
    Activity, Auth, Input, Moment, Output, QueryChecked, Session, SessionConfig, SessionInfo,
};
