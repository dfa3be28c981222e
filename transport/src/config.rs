//! Every limit and delay of the transport, in one place, each with its default.

use std::time::Duration;

use serde::Deserialize;

use crate::RetentionPolicy;

/// What the transport is told to do and to refuse. `Default` is what the documentation states.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// The name of this node, as `welcome` and `GET /sessions` give it. Default: `node-` and
    /// the process id.
    pub node: String,
    /// Origins that may open `/ws` from a browser, besides the server's own. Compared whole, such
    /// as `https://shop.example`. Default: none.
    pub origins: Vec<String>,
    /// Names under which this server may be asked, besides IP addresses and `localhost`; `*` stands
    /// for any. Not checked where a token is. Without it, a page whose name was made to point at
    /// this machine (DNS rebinding) would count as the server's own. Default: none.
    pub hosts: Vec<String>,
    /// Most sessions on this node; one more is refused with 503. Default: 50,000.
    pub sessions_max: usize,
    /// Most subscriptions of one session. Default: 64.
    pub subscriptions_max: usize,
    /// Most appends and fetches of one session that are under way; beyond it the session's socket
    /// is not read. Default: 64.
    pub requests_max: usize,
    /// The largest window of a subscription with acks, in events: how many may be sent and not yet
    /// settled. Default: 1024.
    pub window_max: usize,
    /// How long a client may take to settle the oldest event that it was sent, before the event is
    /// charged an attempt and sent again; twice as long with each attempt. Default: 5 s.
    #[serde(with = "millis")]
    pub ack_timeout: Duration,
    /// Attempts at an event before it is parked. Default: 3.
    pub attempts_max: u32,
    /// At least so long between two writes of a consumer's checkpoint. Default: 1 s.
    #[serde(with = "millis")]
    pub checkpoint_interval: Duration,
    /// The largest WebSocket message that a client may send, in bytes, all fragments together.
    /// Default: 5 MiB (an append has at most 4).
    pub message_bytes_max: usize,
    /// The largest WebSocket message before the client has been welcomed, in bytes: most of all
    /// its hello with its subscriptions. Default: 256 KiB.
    pub opening_message_bytes_max: usize,
    /// Most reply bytes queued for one session; beyond it the session's socket is not read.
    /// Default: 256 KiB.
    pub reply_bytes_max: usize,
    /// The most that is handed to a socket in one write, in bytes, where several frames are ready.
    /// Default: 32 KiB.
    pub write_bytes_max: usize,
    /// How long a client may take to say hello. Default: 10 s.
    #[serde(with = "millis")]
    pub hello_timeout: Duration,
    /// Between pings to a quiet client. Default: 30 s.
    #[serde(with = "millis")]
    pub ping_interval: Duration,
    /// How long a client may take to answer a ping. Default: 5 s.
    #[serde(with = "millis")]
    pub pong_timeout: Duration,
    /// How long a socket may make no progress in either direction. Default: 60 s.
    #[serde(with = "millis")]
    pub progress_timeout: Duration,
    /// Between heartbeat messages with positions. Default: 15 s.
    #[serde(with = "millis")]
    pub heartbeat_interval: Duration,
    /// Over how long clients are told to spread their return when the server drains. Default: 5 s.
    #[serde(with = "millis")]
    pub drain_spread: Duration,
    /// How long a drain waits for sessions to leave. Default: 10 s.
    #[serde(with = "millis")]
    pub drain_timeout: Duration,
    /// Encoded frames that the groups of one worker keep for sessions that are a little behind, in
    /// bytes. Default: 64 MiB.
    pub shared_log_bytes_max: usize,
    /// Encoded catch-up pages that one worker keeps, in bytes. Default: 16 MiB.
    pub encoded_page_bytes_max: usize,
    /// Raw catch-up pages that the process keeps, in bytes of payload. Default: 32 MiB.
    pub page_cache_bytes_max: usize,
    /// Page reads for catch-up that are in flight at once. Default: 4.
    pub catch_up_reads_max: usize,
    /// Encoded steps that the live queries of one worker keep for sessions that are a little
    /// behind, in bytes. Default: 32 MiB.
    pub live_log_bytes_max: usize,
    /// Reads of documents for live queries that are in flight at once. Default: 4.
    pub live_reads_max: usize,
    /// Page reads for `fetch` and `GET` that are in flight at once; more wait. Default: 4.
    pub fetch_reads_max: usize,
    /// `fetch` and `GET` reads that may wait; one more is refused as overloaded. Default: 256.
    pub fetch_queue_max: usize,
    /// Commands that are carried out at once; more wait. Default: 64.
    pub commands_running_max: usize,
    /// Commands that may wait; one more is refused as overloaded. Default: 256.
    pub commands_queue_max: usize,
    /// How long a command's handler may take, each time it is run. Default: 10 s.
    #[serde(with = "millis")]
    pub command_timeout: Duration,
    /// The largest answer of a command, in bytes; the store has a limit of its own, which is the
    /// same. Default: 256 KiB.
    pub command_answer_bytes_max: usize,
    /// Threads of the runtime that commands' handlers run on, where there are any. Default: 2.
    pub command_threads: usize,
    /// Between looks at the store's head for commits that nobody announced. Default: 500 ms.
    #[serde(with = "millis")]
    pub head_poll: Duration,
    /// What this node removes by itself, at the start and then every
    /// [`Self::retention_interval`]. Default: nothing.
    pub retention: Vec<RetentionPolicy>,
    /// Between two times that [`Self::retention`] is seen to. Default: 10 minutes.
    #[serde(with = "millis")]
    pub retention_interval: Duration,
    /// Threads of the runtime that talks to the database, where the transport makes it. Default: 2.
    pub database_threads: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node: format!("node-{}", std::process::id()),
            origins: Vec::new(),
            hosts: Vec::new(),
            sessions_max: 50_000,
            subscriptions_max: 64,
            requests_max: 64,
            window_max: 1024,
            ack_timeout: Duration::from_secs(5),
            attempts_max: 3,
            checkpoint_interval: Duration::from_secs(1),
            message_bytes_max: 5 << 20,
            opening_message_bytes_max: 256 << 10,
            reply_bytes_max: 256 << 10,
            write_bytes_max: 32 << 10,
            hello_timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(30),
            pong_timeout: Duration::from_secs(5),
            progress_timeout: Duration::from_secs(60),
            heartbeat_interval: Duration::from_secs(15),
            drain_spread: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(10),
            shared_log_bytes_max: 64 << 20,
            encoded_page_bytes_max: 16 << 20,
            page_cache_bytes_max: 32 << 20,
            catch_up_reads_max: 4,
            live_log_bytes_max: 32 << 20,
            live_reads_max: 4,
            fetch_reads_max: 4,
            fetch_queue_max: 256,
            commands_running_max: 64,
            commands_queue_max: 256,
            command_timeout: Duration::from_secs(10),
            command_answer_bytes_max: 256 << 10,
            command_threads: 2,
            head_poll: Duration::from_millis(500),
            retention: Vec::new(),
            retention_interval: Duration::from_secs(600),
            database_threads: 2,
        }
    }
}

impl Config {
    /// Finds what cannot work: an interval or a limit of zero.
    ///
    /// # Errors
    ///
    /// The name of the setting.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let durations = [
            ("hello_timeout", self.hello_timeout),
            ("ping_interval", self.ping_interval),
            ("pong_timeout", self.pong_timeout),
            ("progress_timeout", self.progress_timeout),
            ("heartbeat_interval", self.heartbeat_interval),
            ("command_timeout", self.command_timeout),
            ("head_poll", self.head_poll),
            ("ack_timeout", self.ack_timeout),
            ("checkpoint_interval", self.checkpoint_interval),
            ("retention_interval", self.retention_interval),
        ];
        let limits = [
            ("sessions_max", self.sessions_max),
            ("subscriptions_max", self.subscriptions_max),
            ("requests_max", self.requests_max),
            ("window_max", self.window_max),
            ("attempts_max", self.attempts_max as usize),
            ("message_bytes_max", self.message_bytes_max),
            ("opening_message_bytes_max", self.opening_message_bytes_max),
            ("reply_bytes_max", self.reply_bytes_max),
            ("write_bytes_max", self.write_bytes_max),
            ("catch_up_reads_max", self.catch_up_reads_max),
            ("live_reads_max", self.live_reads_max),
            ("fetch_reads_max", self.fetch_reads_max),
            ("commands_running_max", self.commands_running_max),
            ("command_answer_bytes_max", self.command_answer_bytes_max),
            ("command_threads", self.command_threads),
            ("database_threads", self.database_threads),
        ];
        let duration = durations.iter().find(|(_, value)| value.is_zero()).map(|(name, _)| *name);
        let limit = limits.iter().find(|(_, value)| *value == 0).map(|(name, _)| *name);
        duration.or(limit).map_or(Ok(()), Err)
    }
}

/// Durations in configuration are numbers of milliseconds.
mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer};

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_work_and_a_setting_of_zero_is_named() {
        assert_eq!(Config::default().check(), Ok(()));
        let no_pings = Config { ping_interval: Duration::ZERO, ..Config::default() };
        assert_eq!(no_pings.check(), Err("ping_interval"));
        let no_requests = Config { requests_max: 0, ..Config::default() };
        assert_eq!(no_requests.check(), Err("requests_max"));
    }
}
