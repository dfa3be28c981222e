//! Commands, typed: what a program hands in and gets back is whatever serde can write and read.

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use tidewire_eventstore::{CommandKey, GlobalPosition, NameError};
use tidewire_protocol::{
    CommandRequest, ErrorBody,
    client::{CommandResult, OutboxError},
    command_name,
};

/// What the application answered to a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandAnswer<T> {
    /// Its answer.
    pub answer: T,
    /// The position of the last event that it appended, if any: what is read after it includes
    /// the command's effect.
    pub position: Option<GlobalPosition>,
}

/// Why a command has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The name or the key is not one; nothing was sent.
    #[error("the command's {what} is not one: {reason}")]
    Name {
        /// `name` or `key`.
        what: &'static str,
        /// What is wrong with it.
        reason: NameError,
    },
    /// What was handed in cannot be written as JSON; nothing was sent.
    #[error("the command cannot be written as JSON: {0}")]
    Input(#[source] serde_json::Error),
    /// The outbox did not take it; it has no effect.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// The server or the application refused it, or no answer came in time: see its code.
    #[error("the command was refused: {0}")]
    Refused(ErrorBody),
    /// It took effect, and the answer is not what this program expects.
    #[error("the answer is not what was expected: {0}")]
    Answer(#[source] serde_json::Error),
    /// The client was closed before the answer came. Sent again with the same key, the command
    /// takes effect once.
    #[error("the client was closed before the command was answered")]
    Closed,
}

pub(crate) fn request<I: Serialize + ?Sized>(
    name: &str,
    key: &str,
    input: &I,
) -> Result<CommandRequest, CommandError> {
    let wrong = |what| move |reason| CommandError::Name { what, reason };
    Ok(CommandRequest {
        name: command_name(name).map_err(wrong("name"))?,
        data: Bytes::from(serde_json::to_vec(input).map_err(CommandError::Input)?),
        key: Some(CommandKey::new(key).map_err(wrong("key"))?),
    })
}

pub(crate) fn answer<O: DeserializeOwned>(
    result: CommandResult,
) -> Result<CommandAnswer<O>, CommandError> {
    let answer = serde_json::from_slice(&result.data).map_err(CommandError::Answer)?;
    Ok(CommandAnswer { answer, position: result.position })
}
