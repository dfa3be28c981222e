//! What is counted of commands.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use super::outcome::Outcome;
use crate::metrics::LatencyHistogram;

/// What the node counts of commands.
#[derive(Debug, Default)]
pub(crate) struct CommandMetrics {
    outcomes: [AtomicU64; Outcome::ALL.len()],
    /// Commands whose handlers run, or whose decisions are being recorded.
    pub(crate) running: AtomicI64,
    /// Commands that wait for one of their own key, or for others to end.
    pub(crate) waiting: AtomicI64,
    /// Runs anew because the stream had moved on.
    pub(crate) reruns: AtomicU64,
    /// From a command's arrival to its answer.
    pub(crate) duration: LatencyHistogram,
}

impl CommandMetrics {
    pub(super) fn ended(&self, outcome: Outcome) {
        self.outcomes[outcome as usize].fetch_add(1, Relaxed);
    }

    /// How many ended in which way.
    pub(crate) fn outcomes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let count = |outcome: &Outcome| self.outcomes[*outcome as usize].load(Relaxed);
        Outcome::ALL.iter().map(move |outcome| (outcome.as_str(), count(outcome)))
    }
}

/// Counts one more in a gauge for as long as it lives.
#[derive(Debug)]
pub(super) struct Counted<'a>(&'a AtomicI64);

impl<'a> Counted<'a> {
    pub(super) fn in_gauge(gauge: &'a AtomicI64) -> Self {
        gauge.fetch_add(1, Relaxed);
        Self(gauge)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
