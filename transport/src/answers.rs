//! From the store's words to the protocol's, and back.

use std::time::Duration;

use serde_json::json;
use tidewire_eventstore::{
    Append, AppendError, Appended, ConsumerError, Direction, GlobalPosition, Read, ReadError,
    ReadStart, StreamName, Target,
};
use tidewire_projections::{
    documents::StoredDocument,
    query::{QueryError, QueryPage},
};
use tidewire_protocol::{
    self as wire, Answer, AppendRequest, ErrorBody, FetchRequest, query::Document,
};

use crate::node::{FetchError, Fetched};

/// When to try again what failed because the server was busy or the database away.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(1);

pub(crate) fn append(append: AppendRequest) -> Append {
    Append { stream: append.stream, expected: append.expected, events: append.events }
}

pub(crate) fn appended(stream: StreamName, appended: Appended) -> Answer {
    Answer::Appended { stream, revision: appended.revision, position: appended.position }
}

pub(crate) fn target(target: &wire::Target) -> Target {
    match target {
        wire::Target::All => Target::All,
        wire::Target::Category(category) => Target::Category(category.clone()),
        wire::Target::Stream(stream) => Target::Stream(stream.clone()),
    }
}

/// Whether pages of this request are numbered by revision (one stream) or by position.
pub(crate) fn is_by_revision(fetch: &FetchRequest) -> bool {
    matches!(fetch.from, wire::Target::Stream(_))
}

pub(crate) fn read(fetch: FetchRequest) -> Read {
    let start = |cursor: Option<wire::Cursor>| match cursor {
        None => ReadStart::End,
        Some(wire::Cursor::Position(position)) => ReadStart::Position(position),
        Some(wire::Cursor::Revision(revision)) => ReadStart::Revision(revision),
    };
    let (direction, from) = match fetch.direction {
        wire::Direction::Forwards => (Direction::Forwards, start(fetch.after)),
        wire::Direction::Backwards => (Direction::Backwards, start(fetch.before)),
    };
    Read { direction, from, ..Read::after(target(&fetch.from), GlobalPosition::START, fetch.limit) }
}

/// The read of one event.
pub(crate) fn read_one(position: GlobalPosition) -> Read {
    Read { until: Some(position), ..Read::after(Target::All, position.previous(), 1) }
}

pub(crate) fn page(page: Fetched, by_revision: bool) -> Answer {
    let next = page.next.map(|(position, revision)| {
        if by_revision {
            wire::Cursor::Revision(revision)
        } else {
            wire::Cursor::Position(position)
        }
    });
    Answer::Page { events: page.events, more: next.is_some(), next, head: page.head }
}

pub(crate) fn append_error(error: &AppendError) -> ErrorBody {
    let details = match error {
        AppendError::WrongExpectedRevision { stream, expected, actual } => {
            let expected = match expected {
                tidewire_eventstore::ExpectedRevision::Exact(revision) => json!(revision),
                other => json!(other.to_string()),
            };
            Some(json!({
                "stream": stream,
                "expected": expected,
                "actual": actual.map_or(json!("no_stream"), |revision| json!(revision)),
            }))
        }
        AppendError::IdReused { id } => Some(json!({ "id": id })),
        AppendError::KeyReused { name, key } => Some(json!({ "name": name, "key": key })),
        AppendError::TooManyEvents { count, max } => Some(json!({ "count": count, "max": max })),
        AppendError::TooLarge { what, bytes, max } => {
            Some(json!({ "what": what, "bytes": bytes, "max": max }))
        }
        AppendError::InvalidJson { index, what, .. } => {
            Some(json!({ "index": index, "what": what }))
        }
        AppendError::InvalidContentType { index } => Some(json!({ "index": index })),
        _ => None,
    };
    body(error.code(), error.to_string(), error.retryable(), details)
}

pub(crate) fn read_error(error: &ReadError) -> ErrorBody {
    body(error.code(), error.to_string(), error.retryable(), None)
}

pub(crate) fn query_error(error: &QueryError) -> ErrorBody {
    let code = error.code();
    body(code.as_str(), error.to_string(), code.retryable(), error.details())
}

/// A page of documents as it is answered.
pub(crate) fn documents(page: QueryPage) -> Answer {
    let document = |read: StoredDocument| Document { key: read.key, data: read.data };
    let next = page.next.map(Into::into);
    let documents = page.documents.into_iter().map(document).collect();
    Answer::Documents { reached: page.reached, documents, more: next.is_some(), next }
}

pub(crate) fn consumer_error(error: &ConsumerError) -> ErrorBody {
    let details = match error {
        ConsumerError::NotParked { positions } => Some(json!({ "positions": positions })),
        _ => None,
    };
    body(error.code(), error.to_string(), error.retryable(), details)
}

pub(crate) fn fetch_error(error: &FetchError) -> ErrorBody {
    match error {
        FetchError::Overloaded => {
            body("overloaded", "too many reads are waiting".to_owned(), true, None)
        }
        FetchError::Store(error) => read_error(error),
    }
}

fn body(
    code: &'static str,
    message: String,
    retryable: bool,
    details: Option<serde_json::Value>,
) -> ErrorBody {
    ErrorBody {
        code: code.into(),
        message: message.into(),
        retryable,
        retry_after_ms: retryable.then_some(RETRY_AFTER.as_millis() as u64),
        details: details.map(Box::new),
    }
}
