//! The fake server's projection: documents that the test puts and deletes, live queries of all of
//! them, pages, and counts of events.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use tidewire_eventstore::{DocumentKey, Generation, GlobalPosition, Timestamp};
use tidewire_protocol::{
    Answer, ErrorBody, ErrorCode, Input, QueryRequest, QueryReset, Sub, Summary, SummaryWindow,
    codec::json::{encode_changes_frame, encode_state_frame, encode_summary_frame},
    query::{Change, Document, Reached},
    session::QueryChecked,
};

/// The documents, each with the position of its last change; no content: deleted.
#[derive(Default)]
pub(crate) struct Documents {
    generation: u64,
    position: u64,
    rows: BTreeMap<DocumentKey, (u64, Option<Bytes>)>,
    /// Deletes up to here are forgotten.
    changes_from: u64,
}

#[allow(dead_code, reason = "only the tests of live queries change documents")]
impl Documents {
    /// Puts a document, or deletes it; the position of that.
    pub(crate) fn change(&mut self, key: &str, document: Option<&str>) -> GlobalPosition {
        self.position += 1;
        let key = DocumentKey::new(key).expect("a good key");
        let document = document.map(|text| Bytes::copy_from_slice(text.as_bytes()));
        self.rows.insert(key, (self.position, document));
        GlobalPosition::new(self.position)
    }

    /// Fills another generation, in which every document is `{}`.
    pub(crate) fn rebuild(&mut self) {
        self.generation += 1;
        for (_, document) in self.rows.values_mut() {
            *document = document.take().map(|_| Bytes::from_static(b"{}"));
        }
    }

    /// Forgets what was deleted.
    pub(crate) fn sweep(&mut self) {
        self.rows.retain(|_, (_, document)| document.is_some());
        self.changes_from = self.position;
    }

    pub(crate) fn reached(&self) -> Reached {
        Reached {
            generation: Generation::new(self.generation),
            position: GlobalPosition::new(self.position),
        }
    }

    pub(crate) fn check(&self) -> QueryChecked {
        QueryChecked {
            active: self.reached(),
            changes_from: GlobalPosition::new(self.changes_from),
        }
    }

    /// A page by key; the cursor is the last key of the one before.
    pub(crate) fn page(&self, request: &QueryRequest) -> Result<Answer, ErrorBody> {
        if request.wait.is_some_and(|wait| wait.get() > self.position) {
            return Err(ErrorCode::WaitTimeout.into());
        }
        let after = |key: &DocumentKey| {
            request.cursor.as_ref().is_none_or(|cursor| key.as_str() > &**cursor)
        };
        let mut documents: Vec<_> = self.present().filter(|one| after(&one.key)).collect();
        let more = documents.len() > request.limit;
        documents.truncate(request.limit);
        let next = documents.last().filter(|_| more).map(|last| last.key.as_str().into());
        Ok(Answer::Documents { reached: self.reached(), documents, more, next })
    }

    fn present(&self) -> impl Iterator<Item = Document> {
        self.rows.iter().filter_map(|(key, (_, document))| {
            Some(Document { key: key.clone(), data: document.clone()? })
        })
    }
}

/// The feed of one live query.
pub(crate) struct QueryFeed {
    sub: Sub,
    at: Reached,
    /// Whether the state is to be told.
    fresh: bool,
    reset: Option<QueryReset>,
    live: bool,
}

impl QueryFeed {
    pub(crate) fn new(sub: Sub, from: Reached, resumed: bool) -> Self {
        Self { sub, at: from, fresh: !resumed, reset: None, live: false }
    }

    pub(crate) fn sub(&self) -> Sub {
        self.sub
    }

    pub(crate) fn position(&self) -> GlobalPosition {
        self.at.position
    }

    /// Does the next thing there is to do: bytes for the socket, or news for the session.
    pub(crate) fn step(&mut self, documents: &Documents, out: &mut BytesMut) -> Option<Input> {
        let (sub, position) = (self.sub, self.at.position);
        let reached = documents.reached();
        if self.at.generation != reached.generation {
            (self.at, self.fresh, self.reset) = (reached, true, Some(QueryReset::Generation));
            let was_live = std::mem::replace(&mut self.live, false);
            return was_live.then_some(Input::Behind { sub, position, lag: 0 });
        }
        if std::mem::replace(&mut self.fresh, false) {
            self.at = reached;
            let all: Vec<_> = documents.present().collect();
            let (first, rest) = all.split_at(all.len() / 2);
            let reset = self.reset.take();
            out.extend_from_slice(&encode_state_frame(sub, reached, reset, first, true));
            out.extend_from_slice(&encode_state_frame(sub, reached, None, rest, false));
        }
        let changed = documents.rows.iter().filter(|(_, (at, _))| *at > self.at.position.get());
        let changes: Vec<Change> = changed
            .map(|(key, (_, document))| match document {
                Some(data) => Change::Put(Document { key: key.clone(), data: data.clone() }),
                None => Change::Delete { key: key.clone() },
            })
            .collect();
        self.at = reached;
        if !changes.is_empty() {
            out.extend_from_slice(&encode_changes_frame(sub, reached.position, &changes, false));
        }
        let was_live = std::mem::replace(&mut self.live, true);
        (!was_live).then_some(Input::Live { sub, position: reached.position })
    }
}

/// Counts the events between two positions, of `events`, which is how many there are.
pub(crate) fn count(
    sub: Sub,
    summary: Summary,
    cursor: &mut u64,
    events: &[tidewire_eventstore::RecordedEvent],
    out: &mut BytesMut,
) {
    let Summary::Events(most) = summary else { panic!("the tests count by number") };
    while events.len() as u64 >= *cursor + u64::from(most) {
        let position = *cursor + u64::from(most);
        let mut counts = BTreeMap::new();
        for event in &events[*cursor as usize..position as usize] {
            *counts.entry(event.event_type.clone()).or_default() += 1;
        }
        let at = Timestamp::from_micros(0);
        let window = SummaryWindow {
            after: GlobalPosition::new(*cursor),
            position: GlobalPosition::new(position),
            counts,
            between: Some((at, at)),
        };
        out.extend_from_slice(&encode_summary_frame(sub, &window));
        *cursor = position;
    }
}
