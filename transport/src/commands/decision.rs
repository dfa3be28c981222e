//! What a handler decides: an answer and perhaps events, or a refusal.

use std::{borrow::Cow, fmt};

use serde::Serialize;
use serde_json::Value;
use tidewire_eventstore::{Append, ExpectedRevision, NewEvent, ReadError, StreamName};
use tidewire_protocol::{ErrorBody, ErrorCode};

/// What a handler decided: what the client is answered, and the events to append, if any. Both are
/// recorded together, or neither.
///
/// ```
/// # use tidewire_eventstore::{EventType, ExpectedRevision, NewEvent, StreamName};
/// # use tidewire_transport::commands::Decision;
/// let stream = StreamName::new("order-1").expect("a good name");
/// let event = NewEvent::json(EventType::new("OrderPlaced").expect("a good name"), r#"{"total":12}"#);
/// let decision = Decision::answer("order-1").append(stream, ExpectedRevision::NoStream, [event]);
/// # drop(decision);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision<T> {
    pub(super) answer: T,
    pub(super) append: Option<Append>,
}

impl<T> Decision<T> {
    /// Answers the client, and appends nothing.
    pub fn answer(answer: T) -> Self {
        Self { answer, append: None }
    }

    /// Appends `events` to `stream` as well. If the stream is not as `expected` when they are to be
    /// recorded, the handler is run again, at most three times.
    ///
    /// One command appends to one stream: called again, this replaces what was said before.
    #[must_use]
    pub fn append(
        mut self,
        stream: StreamName,
        expected: ExpectedRevision,
        events: impl IntoIterator<Item = NewEvent>,
    ) -> Self {
        self.append = Some(Append { stream, expected, events: events.into_iter().collect() });
        self
    }
}

/// Why a handler does not do what it was asked.
///
/// A client sees the code `command_failed`, with the message; `details.code` is the application's
/// own code and `details.details` what it adds. A refusal is not recorded: the same command, sent
/// again, is handled anew.
#[derive(Debug, Clone, PartialEq)]
pub struct CommandError(Why);

#[derive(Debug, Clone, PartialEq)]
enum Why {
    /// The application says no.
    Refused {
        code: Cow<'static, str>,
        message: Cow<'static, str>,
        details: Option<Value>,
        retry: Retry,
    },
    /// The log could not be asked.
    Log(Box<ErrorBody>),
    /// The protocol has an error of its own for it.
    Protocol(Box<ErrorBody>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Retry {
    Never,
    Later,
}

impl CommandError {
    /// A refusal with the application's own code, such as `out_of_stock`, and a message for people.
    /// A leading `$` is Tidewire's own and is taken off.
    pub fn new(code: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        let code = match code.into() {
            Cow::Borrowed(code) => Cow::Borrowed(code.trim_start_matches('$')),
            Cow::Owned(code) => Cow::Owned(code.trim_start_matches('$').to_owned()),
        };
        Self(Why::Refused { code, message: message.into(), details: None, retry: Retry::Never })
    }

    /// The same with facts for programs. Facts that are no JSON are left out.
    #[must_use]
    pub fn with_details(mut self, facts: impl Serialize) -> Self {
        if let Why::Refused { details, .. } = &mut self.0 {
            *details = serde_json::to_value(facts).ok();
        }
        self
    }

    /// The same, and the client may try again later.
    #[must_use]
    pub fn retryable(mut self) -> Self {
        if let Why::Refused { retry, .. } = &mut self.0 {
            *retry = Retry::Later;
        }
        self
    }

    pub(super) fn log(error: ErrorBody) -> Self {
        Self(Why::Log(Box::new(error)))
    }

    /// A refusal for which the protocol has an error of its own.
    pub(super) fn protocol(error: ErrorBody) -> Self {
        Self(Why::Protocol(Box::new(error)))
    }

    /// Whether the handler refused.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self.0, Why::Refused { .. } | Why::Protocol(_))
    }

    /// As the client is told.
    pub(super) fn into_body(self) -> ErrorBody {
        match self.0 {
            Why::Log(error) | Why::Protocol(error) => *error,
            Why::Refused { code, message, details, retry } => {
                let mut facts = serde_json::Map::new();
                facts.insert("code".to_owned(), code.into());
                if let Some(details) = details {
                    facts.insert("details".to_owned(), details);
                }
                ErrorBody {
                    retryable: retry == Retry::Later,
                    ..ErrorBody::new(ErrorCode::CommandFailed, message)
                }
                .with_details(facts.into())
            }
        }
    }
}

impl From<ReadError> for CommandError {
    fn from(error: ReadError) -> Self {
        Self::log(crate::answers::read_error(&error))
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Why::Refused { code, message, .. } => write!(f, "{code}: {message}"),
            Why::Log(error) | Why::Protocol(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for CommandError {}
