//! [`Execution`]: what a command came to, recorded together with the key that it is known by.
//!
//! Whoever handles a command decides what it appends and what it answers; the store records both
//! with the command's name and key in one transaction. A command of the same name and key that
//! comes again gets the first answer, whatever it would append or answer now; with other data it
//! is refused. Keys are kept for seven days.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::{Append, AppendError, Appended, CommandKey, CommandName};

/// Tells the data that came with one command from another's: a name-based UUID (RFC 9562, version
/// 5) of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InputDigest(Uuid);

impl InputDigest {
    /// The digest of `data`. Equal bytes have equal digests, on every machine and in every version.
    pub fn of(data: &[u8]) -> Self {
        Self(Uuid::new_v5(&Uuid::NAMESPACE_OID, data))
    }

    /// The digest as a UUID.
    pub const fn as_uuid(self) -> Uuid {
        self.0
    }
}

impl From<Uuid> for InputDigest {
    fn from(recorded: Uuid) -> Self {
        Self(recorded)
    }
}

/// One command that was decided, to be recorded all or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Execution {
    /// The command's name.
    pub name: CommandName,
    /// The client's key.
    pub key: CommandKey,
    /// The digest of what the client sent with it: the same key with other data is
    /// [`AppendError::KeyReused`].
    pub input: InputDigest,
    /// What the client is answered: JSON text, up to [`crate::Limits::result_bytes_max`].
    pub result: Bytes,
    /// The events that the command appends, if any.
    pub append: Option<Append>,
}

/// What was recorded under a command's name and key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executed {
    /// The result that was recorded first: JSON text, byte for byte.
    pub result: Bytes,
    /// Where its events were recorded, if it had any.
    pub appended: Option<Appended>,
    /// The digest of the data that came with it first.
    pub input: InputDigest,
    /// Whether it had been recorded before this execution, which then left nothing behind.
    pub repeated: bool,
}

/// An execution under way. Resolves when it is durable, or refused.
#[derive(Debug)]
pub struct PendingExecution(oneshot::Receiver<Result<Executed, AppendError>>);

impl PendingExecution {
    /// Wraps the receiving end of a writer's answer.
    pub fn new(answer: oneshot::Receiver<Result<Executed, AppendError>>) -> Self {
        Self(answer)
    }
}

impl Future for PendingExecution {
    type Output = Result<Executed, AppendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|answer| answer.unwrap_or(Err(AppendError::Closed)))
    }
}
