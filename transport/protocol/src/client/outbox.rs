//! The outbox: appends that are not settled yet, bounded by count and bytes.
//!
//! Every event carries an id made by the client, so an append that is sent again — because the
//! connection broke before its answer came — takes effect once and gets the first answer.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::{
    codec::json,
    messages::{AppendRequest, ClientMessage, RequestId},
};

/// How much may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxLimits {
    /// The most appends.
    pub appends: usize,
    /// The most bytes, as they are sent.
    pub bytes: usize,
}

impl Default for OutboxLimits {
    fn default() -> Self {
        Self { appends: 1000, bytes: 8 << 20 }
    }
}

/// Why an append was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OutboxError {
    /// The outbox is full; nothing was kept. Try again once something is settled.
    #[error("the outbox holds {appends} appends and {bytes} bytes, which is all it may")]
    Full {
        /// How many appends wait.
        appends: usize,
        /// How many bytes wait.
        bytes: usize,
    },
    /// The append is larger than the server reads.
    #[error("the append has {bytes} bytes; the server reads at most {max}")]
    TooLarge {
        /// Its size in bytes.
        bytes: usize,
        /// The server's limit in bytes.
        max: usize,
    },
    /// The append has no events.
    #[error("an append needs at least one event")]
    NoEvents,
    /// An event has no id, so that the append could take effect twice.
    #[error("an event has no id")]
    MissingId,
    /// The client has failed for good and sends nothing any more.
    #[error("the client is not going to connect again")]
    Failed,
}

/// Names one append of one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppendKey(u64);

impl AppendKey {
    /// The id under which it is sent.
    pub(super) fn request_id(self) -> RequestId {
        RequestId::new(&format!("a{}", self.0)).expect("a letter and at most 20 digits fit")
    }
}

#[derive(Debug)]
struct Entry {
    key: AppendKey,
    text: Bytes,
    sent: bool,
}

/// The appends that are not settled, in the order in which they were made.
#[derive(Debug)]
pub(super) struct Outbox {
    limits: OutboxLimits,
    entries: VecDeque<Entry>,
    bytes: usize,
    last_key: u64,
}

impl Outbox {
    pub(super) fn new(limits: OutboxLimits) -> Self {
        Self { limits, entries: VecDeque::new(), bytes: 0, last_key: 0 }
    }

    /// Takes an append, as long as it fits.
    pub(super) fn push(
        &mut self,
        append: AppendRequest,
        message_bytes_max: usize,
    ) -> Result<AppendKey, OutboxError> {
        if append.events.is_empty() {
            return Err(OutboxError::NoEvents);
        }
        if append.events.iter().any(|event| event.id.is_none()) {
            return Err(OutboxError::MissingId);
        }
        let key = AppendKey(self.last_key + 1);
        let mut text = BytesMut::new();
        json::encode_client(&ClientMessage::Append { id: key.request_id(), append }, &mut text);
        if text.len() > message_bytes_max {
            return Err(OutboxError::TooLarge { bytes: text.len(), max: message_bytes_max });
        }
        let (appends, bytes) = (self.entries.len(), self.bytes);
        if appends >= self.limits.appends || bytes + text.len() > self.limits.bytes {
            return Err(OutboxError::Full { appends, bytes });
        }
        self.last_key += 1;
        self.bytes += text.len();
        self.entries.push_back(Entry { key, text: text.freeze(), sent: false });
        Ok(key)
    }

    /// The next append to send, while fewer than `in_flight_max` are unanswered.
    pub(super) fn next_unsent(&mut self, in_flight_max: usize) -> Option<Bytes> {
        let in_flight = self.entries.iter().take_while(|entry| entry.sent).count();
        if in_flight >= in_flight_max {
            return None;
        }
        let entry = self.entries.get_mut(in_flight)?;
        entry.sent = true;
        Some(entry.text.clone())
    }

    /// Whether the append named `id` is still unsettled; takes it out.
    pub(super) fn settle(&mut self, id: &RequestId) -> Option<AppendKey> {
        let key = AppendKey(id.as_str().strip_prefix('a')?.parse().ok()?);
        let at = self.entries.iter().position(|entry| entry.key == key && entry.sent)?;
        let entry = self.entries.remove(at)?;
        self.bytes -= entry.text.len();
        Some(entry.key)
    }

    /// The connection is gone: everything unanswered will be sent again.
    pub(super) fn unsend(&mut self) {
        for entry in &mut self.entries {
            entry.sent = false;
        }
    }

    /// Takes out what is larger than `message_bytes_max`, which a new server may have lowered.
    pub(super) fn take_larger(&mut self, message_bytes_max: usize) -> Vec<(AppendKey, usize)> {
        let mut larger = Vec::new();
        self.entries.retain(|entry| {
            let keep = entry.text.len() <= message_bytes_max;
            if !keep {
                larger.push((entry.key, entry.text.len()));
                self.bytes -= entry.text.len();
            }
            keep
        });
        larger
    }

    /// Takes out everything.
    pub(super) fn take_all(&mut self) -> Vec<AppendKey> {
        self.bytes = 0;
        std::mem::take(&mut self.entries).into_iter().map(|entry| entry.key).collect()
    }

    /// How many appends and how many bytes wait.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.entries.len(), self.bytes)
    }
}
