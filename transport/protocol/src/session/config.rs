//! What a session is told when it begins: who it is, what it allows, how long it waits.

use std::{fmt, sync::Arc, time::Duration};

use tidewire_eventstore::Timestamp;

use crate::delivery::DeliveryConfig;
use crate::messages::{ARRAY_MESSAGES_MAX, Epoch, ReconnectHint, SessionId, WireLimits};

/// Who may open a session.
#[derive(Clone, Default)]
pub enum Auth {
    /// Everybody.
    #[default]
    None,
    /// Whoever knows this token, in `hello` or beside the handshake.
    Token(String),
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Token(_) => "Token(…)",
        })
    }
}

impl Auth {
    /// Whether `token` opens a session, in a time that does not depend on where it is wrong.
    pub fn accepts(&self, token: Option<&str>) -> bool {
        match self {
            Self::None => true,
            Self::Token(expected) => token.is_some_and(|token| same(expected, token)),
        }
    }
}

/// Compares without stopping at the first difference. The length is not secret.
fn same(expected: &str, token: &str) -> bool {
    let differences = expected.bytes().zip(token.bytes()).fold(0, |all, (a, b)| all | (a ^ b));
    expected.len() == token.len() && std::hint::black_box(differences) == 0
}

/// What a session allows; told to the client in `welcome`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The largest message, in bytes.
    pub message_bytes: usize,
    /// The largest message before `hello` has been accepted, in bytes. Anybody may open a session,
    /// and has this much of memory for it; it bounds how much a `hello` can subscribe to.
    pub opening_message_bytes: usize,
    /// The most open subscriptions.
    pub subscriptions: usize,
    /// The most unanswered requests before reading pauses.
    pub requests: usize,
    /// The most events of one append.
    pub append_events: usize,
    /// The most events of one page.
    pub page_events: usize,
    /// The widest window of a subscription that acknowledges.
    pub window: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: 1 << 20,
            opening_message_bytes: 256 << 10,
            subscriptions: 100,
            requests: 64,
            append_events: 1000,
            page_events: 1000,
            window: 1024,
        }
    }
}

impl Limits {
    /// The limits as `welcome` tells them.
    pub fn on_the_wire(&self) -> WireLimits {
        WireLimits {
            message_bytes: self.message_bytes as u64,
            array_messages: ARRAY_MESSAGES_MAX as u64,
            subscriptions: self.subscriptions as u64,
            requests: self.requests as u64,
            append_events: self.append_events as u64,
            page_events: self.page_events as u64,
            window: self.window as u64,
        }
    }
}

/// What every session of a server has in common.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// Who may open one.
    pub auth: Auth,
    /// What one allows.
    pub limits: Limits,
    /// How long to wait for `hello`.
    pub hello_timeout: Duration,
    /// How often to send a Ping frame.
    pub ping_interval: Duration,
    /// How long to wait for a sign of life after a Ping that has left.
    pub pong_timeout: Duration,
    /// How long waiting bytes may go without anything moving in either direction.
    pub progress_timeout: Duration,
    /// How often to send a `heartbeat` message.
    pub heartbeat_interval: Duration,
    /// How long a drain waits for unanswered requests.
    pub drain_timeout: Duration,
    /// How long to wait for the peer's Close frame once ours has left.
    pub close_timeout: Duration,
    /// How clients should come back.
    pub reconnect: ReconnectHint,
    /// How events are retried, and consumers saved.
    pub delivery: DeliveryConfig,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            auth: Auth::None,
            limits: Limits::default(),
            hello_timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(30),
            pong_timeout: Duration::from_secs(5),
            progress_timeout: Duration::from_secs(60),
            heartbeat_interval: Duration::from_secs(15),
            drain_timeout: Duration::from_secs(5),
            close_timeout: Duration::from_secs(2),
            reconnect: ReconnectHint { min_ms: 250, max_ms: 30_000, spread_ms: 1_000 },
            delivery: DeliveryConfig::default(),
        }
    }
}

/// What is particular to one session.
#[derive(Debug, Clone)]
pub struct SessionInfo {
    /// Its id.
    pub session: SessionId,
    /// The node that serves it.
    pub node: Arc<str>,
    /// The epochs of the log, oldest first; the last one is current.
    pub epochs: Arc<[Epoch]>,
    /// The wall clock when the session began; `pong` tells the time from it.
    pub opened_at: Timestamp,
    /// A token that came beside the handshake; the one in `hello` goes before it.
    pub bearer: Option<Box<str>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_token_opens_a_session() {
        let auth = Auth::Token("secret".to_owned());
        assert!(auth.accepts(Some("secret")));
        for token in [None, Some(""), Some("secre"), Some("secrets"), Some("Secret")] {
            assert!(!auth.accepts(token), "{token:?}");
        }
        assert!(Auth::None.accepts(None));
        assert!(!format!("{auth:?}").contains("secret"));
    }
}
