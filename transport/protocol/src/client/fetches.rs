//! The pages that were asked for and have not come yet, bounded by count.
//!
//! Reading changes nothing, so a fetch whose answer was lost with its connection is simply sent
//! again on the next one.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use tidewire_eventstore::{GlobalPosition, RecordedEvent, Revision};

use crate::{
    codec::json,
    messages::{ClientMessage, Cursor, Direction, FetchRequest, RequestId, Target},
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
    /// Whether its cursors are revisions.
    of_stream: bool,
}

/// What the number of a cursor counts.
pub(super) type CursorOf = fn(u64) -> Cursor;

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
        let fetches = self.entries.len();
        if fetches >= self.max {
            return Err(FetchRefused::Full { fetches });
        }
        self.last_key += 1;
        let key = FetchKey(self.last_key);
        let of_stream = matches!(fetch.from, Target::Stream(_));
        let mut text = BytesMut::new();
        json::encode_client(&ClientMessage::Fetch { id: key.request_id(), fetch }, &mut text);
        self.entries.insert(key, Entry { text: text.freeze(), sent: false, of_stream });
        Ok(key)
    }

    /// The next fetch to send. The server stops reading when it has too many to answer.
    pub(super) fn next_unsent(&mut self) -> Option<Bytes> {
        let entry = self.entries.values_mut().find(|entry| !entry.sent)?;
        entry.sent = true;
        Some(entry.text.clone())
    }

    /// Whether the fetch named `id` is unanswered; takes it out.
    pub(super) fn answer(&mut self, id: &RequestId) -> Option<(FetchKey, CursorOf)> {
        let key = FetchKey(id.as_str().strip_prefix('f')?.parse().ok()?);
        let entry = self.entries.remove(&key)?;
        let cursor: CursorOf = if entry.of_stream { revision } else { position };
        Some((key, cursor))
    }

    /// The connection is gone: everything unanswered will be sent again.
    pub(super) fn unsend(&mut self) {
        for entry in self.entries.values_mut() {
            entry.sent = false;
        }
    }

    /// Takes out everything.
    pub(super) fn take_all(&mut self) -> Vec<FetchKey> {
        std::mem::take(&mut self.entries).into_keys().collect()
    }
}

fn revision(number: u64) -> Cursor {
    Cursor::Revision(Revision::new(number))
}

fn position(number: u64) -> Cursor {
    Cursor::Position(GlobalPosition::new(number))
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
