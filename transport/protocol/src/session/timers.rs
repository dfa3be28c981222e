//! The deadlines of a session, by name, in one table.

use std::time::Instant;

/// What a session waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timer {
    /// `hello` has to have arrived.
    Hello,
    /// The next Ping frame is due.
    Ping,
    /// A sign of life has to have followed the last Ping.
    Pong,
    /// Waiting bytes have to have moved.
    Progress,
    /// The next `heartbeat` is due.
    Heartbeat,
    /// A drain stops waiting for answers, or a close for the peer.
    End,
}

impl Timer {
    pub(super) const ALL: [Self; 6] =
        [Self::Hello, Self::Ping, Self::Pong, Self::Progress, Self::Heartbeat, Self::End];
}

/// One deadline for each timer, or none.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Timers([Option<Instant>; Timer::ALL.len()]);

impl Timers {
    pub(super) fn set(&mut self, timer: Timer, at: Instant) {
        self.0[timer as usize] = Some(at);
    }

    /// Sets `timer`, unless it is due earlier.
    pub(super) fn bring_forward(&mut self, timer: Timer, at: Instant) {
        let earlier = self.0[timer as usize].map_or(at, |set| set.min(at));
        self.set(timer, earlier);
    }

    pub(super) fn stop(&mut self, timer: Timer) {
        self.0[timer as usize] = None;
    }

    pub(super) fn stop_all(&mut self) {
        self.0 = Default::default();
    }

    /// Stops `timer` and says whether it was due.
    pub(super) fn take_due(&mut self, timer: Timer, now: Instant) -> bool {
        let due = self.0[timer as usize].is_some_and(|at| at <= now);
        if due {
            self.stop(timer);
        }
        due
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.0.iter().flatten().min().copied()
    }
}
