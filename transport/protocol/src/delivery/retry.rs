//! The one timer of a subscription: how long the oldest event with the client may take.
//!
//! Only the oldest has one. A slow handler of the first event holds up all behind it, and they
//! must not be charged for that.

use std::time::{Duration, Instant};

use tidewire_eventstore::GlobalPosition;

use super::{DeliveryConfig, window::Window};

/// Whose time runs, and since when.
#[derive(Debug, Default)]
pub(super) struct AckTimer {
    of: Option<GlobalPosition>,
    deadline: Option<Instant>,
}

impl AckTimer {
    /// Looks whether the oldest is still the same, and accepted; starts and stops the time.
    pub(super) fn follow(&mut self, window: &Window, config: &DeliveryConfig, now: Instant) {
        let Some(oldest) = window.oldest() else {
            *self = Self::default();
            return;
        };
        if self.of != Some(oldest.position) {
            *self = Self { of: Some(oldest.position), deadline: None };
        }
        if oldest.is_overdue() {
            self.deadline = None;
        } else if self.deadline.is_none() && window.is_accepted(oldest) {
            self.deadline = now.checked_add(patience(config, oldest.spent()));
        }
    }

    /// Starts the time again: the client has shown that it works.
    pub(super) fn restart(&mut self) {
        self.deadline = None;
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The event whose time is over, if it is.
    pub(super) fn take_expired(&mut self, now: Instant) -> Option<GlobalPosition> {
        self.deadline.take_if(|deadline| *deadline <= now).and(self.of)
    }
}

/// How long an event may take that was charged `spent` attempts: it doubles with each.
fn patience(config: &DeliveryConfig, spent: u32) -> Duration {
    let factor = 1_u32.checked_shl(spent).unwrap_or(u32::MAX);
    config.ack_timeout.saturating_mul(factor).min(config.ack_timeout_max.max(config.ack_timeout))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_doubles_up_to_its_limit() {
        let config = DeliveryConfig::default();
        for (spent, secs) in [(0, 5), (1, 10), (2, 20), (3, 40), (4, 60), (31, 60), (40, 60)] {
            assert_eq!(patience(&config, spent), Duration::from_secs(secs), "{spent}");
        }
    }
}
