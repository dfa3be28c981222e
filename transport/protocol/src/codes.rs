//! Every error code and every close code, declared once with its text and whether to try again.
//!
//! Codes are stable: one is never renamed, and never reused for another meaning.

use std::{borrow::Cow, fmt};

use serde_json::Value;

macro_rules! error_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $retry:ident, $text:literal;)+) => {
        /// What is wrong, as a stable word for programs.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $(#[doc = $text] $name,)+
        }

        impl ErrorCode {
            /// Every code, in the order of the table in PROTOCOL.md.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The code as it appears on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)+ }
            }

            /// What it means, in one sentence for people.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// Whether the same request may succeed later.
            pub const fn retryable(self) -> bool {
                match self { $(Self::$name => error_codes!(@ $retry),)+ }
            }

            /// The code with this name, if this version knows it.
            pub fn parse(code: &str) -> Option<Self> {
                match code { $($code => Some(Self::$name),)+ _ => None }
            }
        }
    };
    (@ retry) => { true };
    (@ never) => { false };
}

error_codes! {
    InvalidMessage = "invalid_message", never, "A message is not an object, or names a field twice.";
    TooManyMessages = "too_many_messages", never, "An array has more messages than allowed.";
    UnknownType = "unknown_type", never, "The message's type is not known to this server.";
    MissingField = "missing_field", never, "A field that the message needs is missing.";
    InvalidField = "invalid_field", never, "A field has the wrong type or a value that is not allowed.";
    Unsupported = "unsupported", never, "The field is part of the protocol, and this server does not serve it.";
    HelloRequired = "hello_required", never, "The first message has to be hello.";
    AlreadyHello = "already_hello", never, "A second hello was sent.";
    UnsupportedProtocol = "unsupported_protocol", never, "The server does not speak this version of the protocol.";
    Unauthorized = "unauthorized", never, "The token is missing or wrong.";
    SubInUse = "sub_in_use", never, "The handle belongs to an open subscription, which goes on unchanged.";
    UnknownSub = "unknown_sub", never, "No open subscription has this handle.";
    TooManySubscriptions = "too_many_subscriptions", never, "The session has as many subscriptions as it may have.";
    InvalidFilter = "invalid_filter", never, "The filter is not well formed, or too large.";
    UnsupportedFilter = "unsupported_filter", never, "The filter uses an operator or a field that this server does not serve.";
    IdInUse = "id_in_use", never, "A request with this id is still unanswered; that request goes on.";
    TooManyRequests = "too_many_requests", retry, "Too many requests are unanswered.";
    NameEmpty = "name_empty", never, "A name, or a stream's category, is empty.";
    NameTooLong = "name_too_long", never, "A name is longer than 200 bytes.";
    NameControlCharacter = "name_control_character", never, "A name contains a control character.";
    NameReserved = "name_reserved", never, "Names that begin with $ are reserved.";
    WrongExpectedRevision = "wrong_expected_revision", never, "The stream is not at the revision that the append demanded.";
    IdReused = "id_reused", never, "An event id was recorded before as part of another append.";
    NoEvents = "no_events", never, "An append needs at least one event.";
    TooManyEvents = "too_many_events", never, "The append has more events than allowed.";
    TooLarge = "too_large", never, "A payload, its metadata or the whole append is larger than allowed.";
    InvalidJson = "invalid_json", never, "A payload or its metadata is not acceptable JSON.";
    InvalidContentType = "invalid_content_type", never, "A content type is not 1 to 200 visible ASCII characters.";
    AckNone = "ack_none", never, "The subscription has no acknowledgements.";
    AckAhead = "ack_ahead", never, "The position is beyond everything told on this subscription; the ack had no effect.";
    UnknownPosition = "unknown_position", never, "Some positions are not those of unsettled events; the nack took effect for the others.";
    ConsumerMismatch = "consumer_mismatch", never, "The consumer was created with another target, filter or sharing.";
    ConsumerTaken = "consumer_taken", never, "Another session holds the consumer now.";
    Rebalanced = "rebalanced", retry, "The shares of the group change; subscribe again to be given the new one.";
    Stopped = "stopped", never, "The client stopped the subscription at an event.";
    UnknownConsumer = "unknown_consumer", never, "There is no consumer with this name.";
    NotParked = "not_parked", never, "The consumer has parked no event at this position.";
    UnknownCommand = "unknown_command", never, "The application handles no command with this name.";
    CommandFailed = "command_failed", never, "The application refused the command; its details say why.";
    KeyReused = "key_reused", never, "The key was used before for this command with other data.";
    UnknownProjection = "unknown_projection", never, "There is no projection with this name.";
    UnknownField = "unknown_field", never, "The projection's documents cannot be asked for this field.";
    InvalidQuery = "invalid_query", never, "The query is not well formed, too large, or has a field that does not go with it.";
    UnindexedOrder = "unindexed_order", never, "The projection has no index for this order under this condition.";
    InvalidCursor = "invalid_cursor", never, "The cursor is not one that this query was given.";
    StaleCursor = "stale_cursor", never, "The projection was rebuilt since the cursor was given; begin with the first page.";
    WaitTimeout = "wait_timeout", retry, "The projection has not reached the position in time.";
    ProjectionUnavailable = "projection_unavailable", retry, "The projection cannot be read just now.";
    UnknownCollection = "unknown_collection", never, "There is no collection with this name.";
    Conflict = "conflict", never, "The document is not at the revision that the change demanded; the details have it as it is.";
    NoSuchDocument = "no_such_document", never, "There is no document with this key.";
    Overloaded = "overloaded", retry, "The server has too much to do just now.";
    Unavailable = "unavailable", retry, "The log cannot be reached just now.";
    OutcomeUnknown = "outcome_unknown", never, "The server closes and cannot tell whether the append was recorded; with ids it can be sent again.";
    Refused = "refused", never, "The database refused the request for a reason of its own.";
    Corrupt = "corrupt", never, "The log holds what this server cannot read.";
    Closing = "closing", retry, "The server is shutting down.";
    Internal = "internal", retry, "The server failed; its log says more.";
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error as it travels: in `error` messages, and in the bodies of HTTP errors.
#[derive(Debug, Clone, PartialEq)]
pub struct ErrorBody {
    /// The stable code. Usually one of [`ErrorCode`]; a newer peer may send others.
    pub code: Cow<'static, str>,
    /// What happened, for people. Never a payload, never a token.
    pub message: Cow<'static, str>,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// How long to wait before trying again, where that is known.
    pub retry_after_ms: Option<u64>,
    /// Facts for programs, by code: see PROTOCOL.md.
    pub details: Option<Box<Value>>,
}

impl ErrorBody {
    /// An error with the code's own text.
    pub fn of(code: ErrorCode) -> Self {
        Self::new(code, code.text())
    }

    /// An error with a text for this case.
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code: Cow::Borrowed(code.as_str()),
            message: message.into(),
            retryable: code.retryable(),
            retry_after_ms: None,
            details: None,
        }
    }

    /// The same error with facts for programs.
    #[must_use]
    pub fn with_details(mut self, details: Value) -> Self {
        self.details = Some(Box::new(details));
        self
    }

    /// The code, if this version knows it.
    pub fn known(&self) -> Option<ErrorCode> {
        ErrorCode::parse(&self.code)
    }
}

impl From<ErrorCode> for ErrorBody {
    fn from(code: ErrorCode) -> Self {
        Self::of(code)
    }
}

impl fmt::Display for ErrorBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for ErrorBody {}

/// Why a connection was closed: the number in a WebSocket Close frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(pub u16);

macro_rules! close_codes {
    ($($name:ident = $code:literal, $text:literal;)+) => {
        impl CloseCode {
            $(#[doc = $text] pub const $name: Self = Self($code);)+

            /// Every close code that this protocol gives a meaning, in the order of PROTOCOL.md.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// What the code means; `closed` where this protocol gives it no meaning.
            pub const fn text(self) -> &'static str {
                match self.0 { $($code => $text,)+ _ => "closed" }
            }
        }
    };
}

close_codes! {
    NORMAL = 1000, "The peer closed in the ordinary way.";
    GOING_AWAY = 1001, "The peer goes away.";
    PROTOCOL_ERROR = 1002, "A frame breaks RFC 6455.";
    UNSUPPORTED_DATA = 1003, "A binary message where the subprotocol speaks text, or the reverse.";
    NO_STATUS = 1005, "The peer's Close frame had no code; never sent.";
    ABNORMAL = 1006, "The connection ended without a Close frame; never sent.";
    INVALID_TEXT = 1007, "A text message is not UTF-8.";
    TOO_BIG = 1009, "A message is larger than welcome.limits allows.";
    INTERNAL = 1011, "The server failed; its log says more.";
    DRAIN = 4001, "The server is shutting down; come back after the delay that goodbye names.";
    NEW_EPOCH = 4002, "The log has begun a new epoch; come back, and resume or be reset.";
    NO_PROGRESS = 4008, "Bytes were waiting and nothing moved in either direction for too long.";
    NO_PONG = 4012, "A ping was not answered in time.";
    MALFORMED = 4501, "A message is not JSON.";
    UNSUPPORTED_PROTOCOL = 4502, "The server does not speak this version of the protocol.";
    FORBIDDEN = 4503, "The token is missing or wrong.";
    HELLO_TIMEOUT = 4508, "No hello arrived in time.";
}

impl CloseCode {
    /// Whether a client may connect again after this code: 4500–4999 are final, and so are the
    /// codes by which RFC 6455 says that the client itself misbehaved (1002, 1003, 1007, 1009).
    pub const fn may_reconnect(self) -> bool {
        !matches!(self.0, 1002 | 1003 | 1007 | 1009 | 4500..=4999)
    }

    /// Whether what is queued has no hope of being taken, so that the connection should be ended
    /// at once and not after a last write.
    pub const fn is_abrupt(self) -> bool {
        matches!(self.0, 4008 | 1006)
    }

    /// Whether a session that ends with this code came to an orderly end, so that its client
    /// cannot have been brought down by what it was sent.
    pub const fn is_orderly(self) -> bool {
        matches!(self.0, 1000 | 1001 | 1011 | 4001 | 4002)
    }

    /// Whether RFC 6455 (section 7.4) lets the code travel in a Close frame.
    pub const fn may_travel(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
