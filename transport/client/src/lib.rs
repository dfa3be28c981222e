//! The Rust client of Tidewire: subscriptions as streams that resume by position or are
//! acknowledged event by event, live queries, appends and commands that take effect once, pages of
//! the log and of documents.
//!
//! Every rule of the protocol is in [`tidewire_protocol::client`]; this crate only carries
//! between it, a socket and the program.
//!
//! ```no_run
//! use futures_util::StreamExt;
//! use tidewire_client::{After, Client, ClientConfig, Delivery, SubscribeOptions, Target};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect("ws://127.0.0.1:7377/ws", ClientConfig::default())?;
//! let mut events = client.subscribe(SubscribeOptions::new(Target::All, After::Start)).await?;
//! while let Some(delivery) = events.next().await {
//!     if let Delivery::Event(event) = delivery? {
//!         println!("{} {}", event.position, event.event_type);
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod acked;
mod client;
mod command;
mod connection;
mod live_query;
mod socket;
mod subscription;

pub use acked::{AckedDelivery, AckedOptions, AckedSubscription, Nack, UnsettledEvent};
pub use client::{
    AppendError, Client, ClientClosed, ConnectError, FetchError, PendingAppend, SubscribeOptions,
};
pub use command::{CommandAnswer, CommandError};
pub use live_query::{Changed, LiveQuery, View};
pub use subscription::{Delivery, Subscription, SubscriptionEnded};
pub use tidewire_eventstore::{
    ConsumerName, DocumentKey, Generation, ProjectionName, RecordedEvent,
};
pub use tidewire_protocol::{
    After, Batch, CloseCode, Cursor, Direction, ErrorBody, ErrorCode, FetchRequest, Filter,
    QueryRequest, QueryReset, Summary, SummaryWindow, Target,
    backoff::Backoff,
    client::{
        ClientConfig, DocumentPage, FetchRefused, Notice, OutboxError, OutboxLimits, Page, Picture,
        Settled, State,
    },
    filter::Field,
    query::{
        Condition, Document, FieldPath, Order, OrderDirection, Query, Reached, Window, WrittenQuery,
    },
};
