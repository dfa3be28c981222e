//! Commands: what a client asks the application to do, and the handlers that do it.
//!
//! An application registers a handler a name ([`Builder::command`](crate::Builder::command)): an
//! async function from a [`Context`] and an input of its own type to a [`Decision`], which is an
//! answer and, if the handler likes, events to append. What it promises to whoever sends a command
//! with a key: the events, the answer and the key are recorded in one transaction, so that the
//! command takes effect once however often it is sent, to whatever node, also when a server is
//! killed in the middle of it. Without a key there is no such promise.
//!
//! What a handler can rely on:
//!
//! - It runs on a runtime of its own, apart from the sockets and from the database, as a task:
//!   a panic ends the task and nothing else. It may use whatever needs a tokio runtime.
//! - It may run more than once for one command: again, at most three times, when the stream was
//!   not at the revision that its decision expected; and anew when the command is sent again
//!   after a failure. So whatever it does besides its decision has to bear being repeated.
//! - Two commands of the same name and key never run at the same time on one node. On two nodes
//!   they may; the log then keeps the first decision, and both are answered with it.
//! - At most [`Config::commands_running_max`](crate::Config::commands_running_max) run at once. The
//!   commands of one session run one after the other, in the order in which they were sent; those
//!   of different sessions, and those that come by HTTP, in any order.
//! - It is given [`Config::command_timeout`](crate::Config::command_timeout); then its future is
//!   dropped where it waits. A handler that computes for long blocks a thread of the runtime: let
//!   it use `tokio::task::spawn_blocking`.

mod collections;
mod context;
mod decision;
mod handler;
mod keys;
mod metrics;
mod outcome;
mod registry;
mod runner;

pub use context::{Caller, Context, StreamState};
pub use decision::{CommandError, Decision};
pub use handler::CommandHandler;

pub(crate) use collections::Collections;
pub(crate) use metrics::CommandMetrics;
pub(crate) use registry::Registry;
pub(crate) use runner::Commands;

#[cfg(test)]
mod tests;

/// What the documentation shows compiles.
#[cfg(doctest)]
#[doc = include_str!("../../docs/commands.md")]
struct Documentation;
