//! The pages that were asked for and have not come yet, bounded by count.
//!
//! Reading changes nothing, so a fetch whose answer was lost with its connection is simply sent
//! again on the next one.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use tidewire_eventstore::{GlobalPosition, RecordedEvent, Revision};

use crate::{
    codec::json,
    messages::{ClientMessage, Cursor, Direction, FetchRequest, QueryRequest, RequestId, Target},
    query::{Document, Reached},
};

/// One page of the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The events, in the direction of the reading.
    pub events: Vec<RecordedEvent>,
    /// Where the next page begins (its `after` forwards, its `before` backwards), if there is one.
    pub next: Option<Cursor>,
    /// The head of the log when the page was read.
    pub head: GlobalPosition,
}

/// One page of the documents of a query.
#[derive(Debug, Clone, PartialEq)]
pub struct DocumentPage {
    /// How far the projection was when the page was read, or before.
    pub reached: Reached,
    /// The documents, in the order that was asked for.
    pub documents: Vec<Document>,
    /// Where the next page begins, if there is one: it may be empty.
    pub next: Option<Box<str>>,
}

/// Why a fetch was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FetchRefused {
    /// As many pages as may be are waited for. Try again once one has come.
    #[error("{fetches} pages are waited for, which is all there may be")]
    Full {
        /// How many are waited for.
        fetches: usize,
    },
    /// The request makes no sense.
    #[error(
        "a page is read forwards after, or backwards before, a revision of one stream or else a \
         position, and has room for an event"
    )]
    Invalid,
    /// The client has failed for good and sends nothing any more.
    #[error("the client is not going to connect again")]
    Failed,
}

/// Names one fetch of one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FetchKey(u64);

impl FetchKey {
    fn request_id(self) -> RequestId {
        RequestId::new(&format!("f{}", self.0)).expect("a letter and at most 20 digits fit")
    }
}

#[derive(Debug)]
struct Entry {
    text: Bytes,
    sent: bool,
    of: Of,
}

/// What a fetch is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    /// The events of one stream: cursors are revisions.
    Stream,
    /// The events of several streams: cursors are positions.
    Log,
    /// Documents.
    Documents,
}

impl Of {
    /// A cursor among events.
    pub(super) fn cursor(self, number: u64) -> Cursor {
        match self {
            Self::Stream => Cursor::Revision(Revision::new(number)),
            Self::Log | Self::Documents => Cursor::Position(GlobalPosition::new(number)),
        }
    }
}

/// The fetches that are not answered.
#[derive(Debug)]
pub(super) struct Fetches {
    max: usize,
    entries: BTreeMap<FetchKey, Entry>,
    last_key: u64,
}

impl Fetches {
    pub(super) fn new(max: usize) -> Self {
        Self { max, entries: BTreeMap::new(), last_key: 0 }
    }

    /// Takes a fetch, as long as there is room.
    pub(super) fn push(&mut self, fetch: FetchRequest) -> Result<FetchKey, FetchRefused> {
        if !makes_sense(&fetch) {
            return Err(FetchRefused::Invalid);
        }
        let of = match fetch.from {
            Target::Stream(_) => Of::Stream,
            _ => Of::Log,
        };
        self.take(of, |id| ClientMessage::Fetch { id, fetch })
    }

    /// Takes a fetch of documents, as long as there is room.
    pub(super) fn push_query(&mut self, request: QueryRequest) -> Result<FetchKey, FetchRefused> {
        if request.limit == 0 || request.timeout_ms > QueryRequest::TIMEOUT_MS_MAX {
            return Err(FetchRefused::Invalid);
        }
        self.take(Of::Documents, |id| ClientMessage::Query { id, request: Box::new(request) })
    }

    fn take(
        &mut self,
        of: Of,
        message: impl FnOnce(RequestId) -> ClientMessage,
    ) -> Result<FetchKey, FetchRefused> {
        let fetches = self.entries.len();
        if fetches >= self.max {
            return Err(FetchRefused::Full { fetches });
        }
        self.last_key += 1;
        let key = FetchKey(self.last_key);
        let mut text = BytesMut::new();
        json::encode_client(&message(key.request_id()), &mut text);
        self.entries.insert(key, Entry { text: text.freeze(), sent: false, of });
        Ok(key)
    }

    /// The next fetch to send. The server stops reading when it has too many to answer.
    pub(super) fn next_unsent(&mut self) -> Option<Bytes> {
        let entry = self.entries.values_mut().find(|entry| !entry.sent)?;
        entry.sent = true;
        Some(entry.text.clone())
    }

    /// Whether the fetch named `id` is unanswered; takes it out.
    pub(super) fn answer(&mut self, id: &RequestId) -> Option<(FetchKey, Of)> {
        let key = FetchKey(id.as_str().strip_prefix('f')?.parse().ok()?);
        self.entries.remove(&key).map(|entry| (key, entry.of))
    }

    /// The connection is gone: everything unanswered will be sent again.
    pub(super) fn unsend(&mut self) {
        for entry in self.entries.values_mut() {
            entry.sent = false;
        }
    }

    /// Takes out everything.
    pub(super) fn take_all(&mut self) -> Vec<(FetchKey, Of)> {
        let entries = std::mem::take(&mut self.entries).into_iter();
        entries.map(|(key, entry)| (key, entry.of)).collect()
    }
}

/// What the wire could not say, or could say wrongly.
fn makes_sense(fetch: &FetchRequest) -> bool {
    let counts_right = |cursor: Option<Cursor>| match cursor {
        Some(Cursor::Revision(_)) => matches!(fetch.from, Target::Stream(_)),
        Some(Cursor::Position(_)) => !matches!(fetch.from, Target::Stream(_)),
        None => true,
    };
    let goes_right = match fetch.direction {
        Direction::Forwards => fetch.before.is_none(),
        Direction::Backwards => fetch.after.is_none(),
    };
    fetch.limit > 0 && goes_right && counts_right(fetch.after) && counts_right(fetch.before)
}
