//! The Actix transport of Tidewire: WebSocket sessions as actors, fan-out, HTTP.
//!
//! [`Tidewire::builder`] takes a store and yields a scope for any Actix application. How an event
//! travels from a commit to a thousand sockets:
//!
//! 1. The log's tail hands each batch, in order and without holes, to the `broadcaster` (one actor
//!    a process), which gives it to each worker's `dispatcher` (one actor an arbiter) once.
//! 2. The worker's `group` hub finds interested groups by an index, encodes one WebSocket frame a
//!    group into its `short_log`, and wakes the group's sessions.
//! 3. Each session's response body (`outbound`) pulls frames when its socket has room, through the
//!    `session_cell` it shares with its `session_actor`, one `feed` a subscription.
//! 4. A session that cannot keep up falls off the short log and reads pages of the store through
//!    the `catch_up` scheduler, shared with everybody who wants the same page, until it is live
//!    again. Nothing is buffered for it and nothing is lost.
//!
//! Documents of projections go the same way, in `live`.
//!
//! The protocol itself lives in `tidewire-protocol`; nothing here decides about it.

mod answers;
mod broadcaster;
mod catch_up;
pub mod commands;
mod config;
mod consumers;
mod dispatcher;
mod feed;
mod feeds;
mod gather;
mod group;
mod http;
mod interest;
mod live;
mod log_view;
mod metrics;
mod node;
mod outbound;
mod pages;
mod registry;
mod retention;
mod server;
mod session_actor;
mod session_cell;
mod short_log;
mod singles;
mod summary;
mod turns;
mod websocket;
mod worker;

pub use config::Config;
pub use http::not_found;
pub use registry::{Quality, SessionDescription, Traffic};
pub use retention::RetentionPolicy;
pub use server::{Builder, DatabaseRuntime, SOCKET_SEND_BYTES, StartError, Tidewire, tune};
