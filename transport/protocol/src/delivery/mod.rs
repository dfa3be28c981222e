//! Reliable delivery: what was sent and is not settled, what is due again, and what the log has
//! to remember of it.
//!
//! Everything here is bookkeeping without a clock, a socket or a store. The session decides when
//! it is asked and carries out what it says.

mod checkpoints;
mod consumer;
mod entry;
mod ledger;
mod retry;
mod window;

pub(crate) use ledger::{Effect, Ledger};

pub use consumer::{
    ClaimRequest, Grant, GrantedPartition, ParkedEvent, PartitionProgress, Progress,
};

use std::time::Duration;

use tidewire_eventstore::{GlobalPosition, StreamHash};

/// An event that a feed offers, as far as delivery looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventRef {
    /// Where it stands in the log.
    pub position: GlobalPosition,
    /// Which stream it belongs to.
    pub stream: StreamHash,
}

/// What became of the events that a feed offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// How many of them were taken, from the front. The others are to be offered again.
    pub taken: usize,
    /// Which of those that were taken are to be written.
    pub sent: Sent,
}

/// Which of the events that were taken are to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// All of them.
    All,
    /// These, by their index among the events that were taken, rising. The others wait for a
    /// retry in their stream, or were settled before.
    Some(Vec<usize>),
}

/// What became of events, for metrics: counts since they were last asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Events settled by an ack or skipped.
    pub settled: u64,
    /// Events sent once more: retries, replays, and what a retry had withdrawn.
    pub sent_again: u64,
    /// Events parked.
    pub parked: u64,
}

impl Tally {
    /// Takes what has been counted.
    pub(crate) fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    /// Adds what another has counted.
    pub(crate) fn add(&mut self, other: Self) {
        self.settled += other.settled;
        self.sent_again += other.sent_again;
        self.parked += other.parked;
    }
}

/// How long and how often a session tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliveryConfig {
    /// The window of a subscription that asks for none, if the limit allows as much.
    pub window_default: usize,
    /// How long the oldest unsettled event may take before it is sent again.
    pub ack_timeout: Duration,
    /// The longest of these times; it doubles with each attempt.
    pub ack_timeout_max: Duration,
    /// After this many attempts an event is parked.
    pub max_attempts: u32,
    /// How often a consumer's progress is saved at most.
    pub save_interval: Duration,
    /// How long the events under way may take to be settled when a group's shares change.
    pub rebalance_timeout: Duration,
}

impl Default for DeliveryConfig {
    fn default() -> Self {
        Self {
            window_default: 256,
            ack_timeout: Duration::from_secs(5),
            ack_timeout_max: Duration::from_secs(60),
            max_attempts: 3,
            save_interval: Duration::from_secs(1),
            rebalance_timeout: Duration::from_secs(5),
        }
    }
}
