//! The outbox: appends and commands that are not settled yet, bounded by count, bytes, age and
//! how often they are sent.
//!
//! Every event carries an id made by the client, and every command a key, so that a request which
//! is sent again — because the connection broke before its answer came — takes effect once and
//! gets the first answer.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};

use crate::{
    codec::json,
    messages::{AppendRequest, ClientMessage, CommandRequest, RequestId},
};

/// How much may wait, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxLimits {
    /// The most appends and commands.
    pub requests: usize,
    /// The most bytes, as they are sent.
    pub bytes: usize,
    /// On how many connections one is sent at most.
    pub attempts: u32,
    /// How long one waits for its answer at most, sent or not.
    pub age: Duration,
}

impl Default for OutboxLimits {
    fn default() -> Self {
        Self { requests: 1000, bytes: 8 << 20, attempts: 10, age: Duration::from_secs(300) }
    }
}

/// Why a request was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OutboxError {
    /// The outbox is full; nothing was kept. Try again once something is settled.
    #[error("the outbox holds {requests} requests and {bytes} bytes, which is all it may")]
    Full {
        /// How many requests wait.
        requests: usize,
        /// How many bytes wait.
        bytes: usize,
    },
    /// The request is larger than the server reads.
    #[error("the request has {bytes} bytes; the server reads at most {max}")]
    TooLarge {
        /// Its size in bytes.
        bytes: usize,
        /// The server's limit in bytes.
        max: usize,
    },
    /// The append has no events.
    #[error("an append needs at least one event")]
    NoEvents,
    /// An event has no id, or a command no key, so that it could take effect twice.
    #[error("an event has no id, or a command no key")]
    MissingId,
    /// The client has failed for good and sends nothing any more.
    #[error("the client is not going to connect again")]
    Failed,
}

/// Names one append of one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppendKey(u64);

/// Names one command of one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandTicket(u64);

/// Names one request of either kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Append(AppendKey),
    Command(CommandTicket),
}

impl Key {
    /// The id under which it is sent.
    fn request_id(self) -> RequestId {
        let id = match self {
            Self::Append(AppendKey(number)) => format!("a{number}"),
            Self::Command(CommandTicket(number)) => format!("c{number}"),
        };
        RequestId::new(&id).expect("a letter and at most 20 digits fit")
    }

    fn parse(id: &RequestId) -> Option<Self> {
        let (kind, number) = id.as_str().split_at_checked(1)?;
        let number = number.parse().ok()?;
        match kind {
            "a" => Some(Self::Append(AppendKey(number))),
            "c" => Some(Self::Command(CommandTicket(number))),
            _ => None,
        }
    }
}

/// A request that is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GivenUp {
    pub(super) key: Key,
    /// Whether it was ever sent, so that it may have taken effect.
    pub(super) was_sent: bool,
}

#[derive(Debug)]
struct Entry {
    key: Key,
    text: Bytes,
    /// Whether it was sent on this connection.
    sent: bool,
    /// On how many connections it was sent.
    attempts: u32,
    /// When it has waited long enough.
    until: Instant,
}

/// The requests that are not settled, in the order in which they were made.
#[derive(Debug)]
pub(super) struct Outbox {
    limits: OutboxLimits,
    entries: VecDeque<Entry>,
    bytes: usize,
    last_number: u64,
}

impl Outbox {
    pub(super) fn new(limits: OutboxLimits) -> Self {
        Self { limits, entries: VecDeque::new(), bytes: 0, last_number: 0 }
    }

    /// Takes an append, as long as it fits.
    pub(super) fn push_append(
        &mut self,
        append: AppendRequest,
        message_bytes_max: usize,
        now: Instant,
    ) -> Result<AppendKey, OutboxError> {
        if append.events.is_empty() {
            return Err(OutboxError::NoEvents);
        }
        if append.events.iter().any(|event| event.id.is_none()) {
            return Err(OutboxError::MissingId);
        }
        let key = AppendKey(self.last_number + 1);
        let id = Key::Append(key).request_id();
        let message = ClientMessage::Append { id, append };
        self.push(Key::Append(key), &message, message_bytes_max, now)?;
        Ok(key)
    }

    /// Takes a command, as long as it fits.
    pub(super) fn push_command(
        &mut self,
        command: CommandRequest,
        message_bytes_max: usize,
        now: Instant,
    ) -> Result<CommandTicket, OutboxError> {
        if command.key.is_none() {
            return Err(OutboxError::MissingId);
        }
        let ticket = CommandTicket(self.last_number + 1);
        let id = Key::Command(ticket).request_id();
        let message = ClientMessage::Command { id, command };
        self.push(Key::Command(ticket), &message, message_bytes_max, now)?;
        Ok(ticket)
    }

    fn push(
        &mut self,
        key: Key,
        message: &ClientMessage,
        message_bytes_max: usize,
        now: Instant,
    ) -> Result<(), OutboxError> {
        let mut text = BytesMut::new();
        json::encode_client(message, &mut text);
        if text.len() > message_bytes_max {
            return Err(OutboxError::TooLarge { bytes: text.len(), max: message_bytes_max });
        }
        let (requests, bytes) = (self.entries.len(), self.bytes);
        if requests >= self.limits.requests || bytes + text.len() > self.limits.bytes {
            return Err(OutboxError::Full { requests, bytes });
        }
        self.last_number += 1;
        self.bytes += text.len();
        let until = now + self.limits.age;
        self.entries.push_back(Entry { key, text: text.freeze(), sent: false, attempts: 0, until });
        Ok(())
    }

    /// The next request to send, while fewer than `in_flight_max` are unanswered.
    pub(super) fn next_unsent(&mut self, in_flight_max: usize) -> Option<Bytes> {
        let in_flight = self.entries.iter().take_while(|entry| entry.sent).count();
        if in_flight >= in_flight_max {
            return None;
        }
        let entry = self.entries.get_mut(in_flight)?;
        entry.sent = true;
        entry.attempts += 1;
        Some(entry.text.clone())
    }

    /// Whether the request named `id` is still unsettled; takes it out.
    pub(super) fn settle(&mut self, id: &RequestId) -> Option<Key> {
        let key = Key::parse(id)?;
        let at = self.entries.iter().position(|entry| entry.key == key && entry.sent)?;
        let entry = self.entries.remove(at)?;
        self.bytes -= entry.text.len();
        Some(entry.key)
    }

    /// The connection is gone: everything unanswered will be sent again, but for what was sent
    /// often enough.
    pub(super) fn unsend(&mut self) -> Vec<GivenUp> {
        for entry in &mut self.entries {
            entry.sent = false;
        }
        let attempts = self.limits.attempts;
        self.take_if(|entry| entry.attempts >= attempts)
    }

    /// Takes out what has waited long enough.
    pub(super) fn take_old(&mut self, now: Instant) -> Vec<GivenUp> {
        self.take_if(|entry| entry.until <= now)
    }

    /// When the oldest has waited long enough.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.entries.front().map(|entry| entry.until)
    }

    /// Takes out everything.
    pub(super) fn take_all(&mut self) -> Vec<GivenUp> {
        self.take_if(|_| true)
    }

    fn take_if(&mut self, given_up: impl Fn(&Entry) -> bool) -> Vec<GivenUp> {
        let mut taken = Vec::new();
        self.entries.retain(|entry| {
            let keep = !given_up(entry);
            if !keep {
                taken.push(GivenUp { key: entry.key, was_sent: entry.attempts > 0 });
                self.bytes -= entry.text.len();
            }
            keep
        });
        taken
    }

    /// Takes out what is larger than `message_bytes_max`, which a new server may have lowered.
    pub(super) fn take_larger(&mut self, message_bytes_max: usize) -> Vec<(Key, usize)> {
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

    /// How many requests and how many bytes wait.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.entries.len(), self.bytes)
    }
}
