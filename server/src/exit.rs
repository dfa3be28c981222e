//! How the program ends: what the exit status says about a failure.

use std::{error::Error, fmt};

use tidewire_eventstore::{AppendError, ConsumerError, ReadError, RemoveError};
use tidewire_projections::StoreError;

/// The exit statuses, as `--help` explains them.
pub(crate) const CODES: &str = "\
Exit status:
  0  it worked
  1  it failed
  2  the command line or the configuration is wrong
  3  conflict: the stream is at another revision, an id was used before, or a projection is not in
     a state for what it is told
  4  the server or the database cannot be reached just now; trying again may help
  5  the address or the database file is in use by another server";

/// Why the program ends without success, where the error itself does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    Failed,
    Usage,
    Conflict,
    Unavailable,
    InUse,
}

/// A failure with its exit status and a text that says what to do.
#[derive(Debug)]
pub(crate) struct Failure {
    reason: Reason,
    text: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Failure {}

/// A failure for `reason`.
pub(crate) fn failure(reason: Reason, text: impl Into<String>) -> anyhow::Error {
    Failure { reason, text: text.into() }.into()
}

/// The exit status for an error: that of the first cause that has one, else 1.
pub(crate) fn code_of(error: &anyhow::Error) -> u8 {
    match error.chain().find_map(reason_of).unwrap_or(Reason::Failed) {
        Reason::Failed => 1,
        Reason::Usage => 2,
        Reason::Conflict => 3,
        Reason::Unavailable => 4,
        Reason::InUse => 5,
    }
}

/// What an error code of the wire means for the exit status.
pub(crate) fn reason_of_code(code: &str, retryable: bool) -> Reason {
    match code {
        "wrong_expected_revision" | "id_reused" | "not_stopped" | "not_building" => {
            Reason::Conflict
        }
        _ if retryable => Reason::Unavailable,
        _ => Reason::Failed,
    }
}

fn reason_of(cause: &(dyn Error + 'static)) -> Option<Reason> {
    if let Some(failure) = cause.downcast_ref::<Failure>() {
        Some(failure.reason)
    } else if let Some(append) = cause.downcast_ref::<AppendError>() {
        Some(reason_of_code(append.code(), append.retryable()))
    } else if let Some(consumer) = cause.downcast_ref::<ConsumerError>() {
        Some(reason_of_code(consumer.code(), consumer.retryable()))
    } else if let Some(removal) = cause.downcast_ref::<RemoveError>() {
        Some(reason_of_code(removal.code(), removal.retryable()))
    } else if let Some(documents) = cause.downcast_ref::<StoreError>() {
        Some(if documents.retryable() { Reason::Unavailable } else { Reason::Failed })
    } else {
        let read = cause.downcast_ref::<ReadError>()?;
        Some(reason_of_code(read.code(), read.retryable()))
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;
    use tidewire_eventstore::{EventId, StreamName};

    use super::*;

    #[test]
    fn the_exit_status_is_found_below_any_context() {
        let conflict = AppendError::IdReused { id: EventId::generate() };
        let name = AppendError::Name(StreamName::new("").unwrap_err());
        for (error, code) in [
            (anyhow::anyhow!("broken"), 1),
            (failure(Reason::Usage, "what?"), 2),
            (conflict.into(), 3),
            (name.into(), 1),
            (AppendError::Unavailable.into(), 4),
            (ReadError::Unavailable.into(), 4),
            (ConsumerError::Fenced.into(), 1),
            (ConsumerError::Store(ReadError::Unavailable).into(), 4),
            (RemoveError::NotFound.into(), 1),
            (RemoveError::Store(ReadError::Unavailable).into(), 4),
            (StoreError::Unavailable.into(), 4),
            (StoreError::Unknown.into(), 1),
            (failure(Reason::InUse, "taken"), 5),
        ] {
            assert_eq!(code_of(&error), code, "{error}");
            let wrapped = Err::<(), _>(error).context("line 7").unwrap_err();
            assert_eq!(code_of(&wrapped), code);
        }
    }
}
