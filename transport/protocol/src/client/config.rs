//! How a client behaves, with defaults.

use std::time::Duration;

use super::OutboxLimits;
use crate::backoff::Backoff;

/// How a client behaves.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// Proves who the client is.
    pub token: Option<String>,
    /// Names the client program, for people.
    pub name: Option<String>,
    /// How long to wait between attempts to connect.
    pub backoff: Backoff,
    /// How often in a row connecting may fail before the client gives up; 0: never.
    pub attempts_max: u32,
    /// How long an attempt may take until `welcome`.
    pub connect_timeout: Duration,
    /// How long a connection has to last before it counts as a success, so that a server that
    /// accepts and then fails is not asked again at once for ever.
    pub stable_after: Duration,
    /// How long to wait for a sign of life after a `ping`.
    pub ping_timeout: Duration,
    /// How many appends and commands may wait, and how long.
    pub outbox: OutboxLimits,
    /// How many pages may be waited for.
    pub fetches_max: usize,
    /// How long an acknowledgement may wait for others to go with it. Has to be well below the
    /// time after which the server sends an event again.
    pub ack_delay: Duration,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            token: None,
            name: None,
            backoff: Backoff::default(),
            attempts_max: 0,
            connect_timeout: Duration::from_secs(10),
            stable_after: Duration::from_secs(10),
            ping_timeout: Duration::from_secs(5),
            outbox: OutboxLimits::default(),
            fetches_max: 64,
            ack_delay: Duration::from_millis(200),
        }
    }
}
