//! What one worker counts, and the sum of what the workers count that have ended.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// Upper bounds of the latency buckets, in seconds.
pub(super) const LATENCY_BOUNDS: [f64; 14] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
];

/// A histogram of latencies with fixed buckets.
#[derive(Debug, Default)]
pub(crate) struct LatencyHistogram {
    pub(super) buckets: [AtomicU64; LATENCY_BOUNDS.len() + 1],
    pub(super) sum_micros: AtomicU64,
}

impl LatencyHistogram {
    /// Counts `times` observations of `latency`.
    pub(crate) fn observe(&self, latency: Duration, times: u64) {
        let seconds = latency.as_secs_f64();
        let bucket = LATENCY_BOUNDS.partition_point(|bound| *bound < seconds);
        self.buckets[bucket].fetch_add(times, Relaxed);
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.sum_micros.fetch_add(micros.saturating_mul(times), Relaxed);
    }
}

/// What one worker counts.
#[derive(Debug, Default)]
pub(crate) struct WorkerMetrics {
    pub(crate) sessions: AtomicI64,
    pub(crate) sessions_total: AtomicU64,
    pub(crate) subscriptions: AtomicI64,
    pub(crate) subscriptions_behind: AtomicI64,
    pub(crate) groups: AtomicI64,
    pub(crate) shared_log_bytes: AtomicI64,
    pub(crate) encoded_page_bytes: AtomicI64,
    pub(crate) held_events: AtomicI64,
    pub(crate) sessions_awaiting_turn: AtomicI64,
    pub(crate) unsent_bytes: AtomicI64,
    pub(crate) log_restarts: AtomicU64,
    pub(crate) events_delivered: AtomicU64,
    pub(crate) frames_sent: AtomicU64,
    pub(crate) bytes_sent: AtomicU64,
    pub(crate) bytes_received: AtomicU64,
    pub(crate) messages_received: AtomicU64,
    pub(crate) encoded_bytes: AtomicU64,
    pub(crate) reads_paused: AtomicU64,
    pub(crate) windows_filled: AtomicU64,
    pub(crate) settled: AtomicU64,
    pub(crate) redeliveries: AtomicU64,
    pub(crate) parked: AtomicU64,
    pub(crate) live_queries: AtomicI64,
    pub(crate) live_behind: AtomicI64,
    pub(crate) live_groups: AtomicI64,
    pub(crate) live_log_bytes: AtomicI64,
    pub(crate) live_changes: AtomicU64,
    pub(crate) live_falls: AtomicU64,
    pub(crate) live_restarts: AtomicU64,
    pub(crate) commit_to_socket: LatencyHistogram,
}

impl WorkerMetrics {
    /// Adds what `other` has counted. What it had open has ended with it.
    fn add(&self, other: &Self) {
        let counters: [fn(&Self) -> &AtomicU64; 16] = [
            |metrics| &metrics.sessions_total,
            |metrics| &metrics.log_restarts,
            |metrics| &metrics.events_delivered,
            |metrics| &metrics.frames_sent,
            |metrics| &metrics.bytes_sent,
            |metrics| &metrics.bytes_received,
            |metrics| &metrics.messages_received,
            |metrics| &metrics.encoded_bytes,
            |metrics| &metrics.reads_paused,
            |metrics| &metrics.windows_filled,
            |metrics| &metrics.settled,
            |metrics| &metrics.redeliveries,
            |metrics| &metrics.parked,
            |metrics| &metrics.live_changes,
            |metrics| &metrics.live_falls,
            |metrics| &metrics.live_restarts,
        ];
        for counter in counters {
            counter(self).fetch_add(counter(other).load(Relaxed), Relaxed);
        }
        let (to, from) = (&self.commit_to_socket, &other.commit_to_socket);
        for (to, from) in to.buckets.iter().zip(&from.buckets) {
            to.fetch_add(from.load(Relaxed), Relaxed);
        }
        to.sum_micros.fetch_add(from.sum_micros.load(Relaxed), Relaxed);
    }
}

/// The counters of all workers.
#[derive(Debug, Default)]
pub(super) struct Workers {
    living: Vec<Arc<WorkerMetrics>>,
    ended: WorkerMetrics,
}

impl Workers {
    /// The counters of one more worker, which ends when it drops them.
    pub(super) fn add(&mut self) -> Arc<WorkerMetrics> {
        let worker = Arc::<WorkerMetrics>::default();
        self.living.push(worker.clone());
        worker
    }

    /// Keeps the sums of the workers that have ended, and lets the workers go.
    pub(super) fn retire(&mut self) {
        let ended = &self.ended;
        self.living.retain_mut(|worker| match Arc::get_mut(worker) {
            Some(worker) => {
                ended.add(worker);
                false
            }
            None => true,
        });
    }

    #[cfg(test)]
    pub(super) fn living(&self) -> usize {
        self.living.len()
    }

    /// The counters of all that are there, and of all that are not.
    pub(super) fn iter(&self) -> impl Iterator<Item = &WorkerMetrics> {
        self.living.iter().map(|worker| &**worker).chain([&self.ended])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_has_ended_leaves_its_counts_and_nothing_else() {
        let mut workers = Workers::default();
        let of = |workers: &Workers, counter: fn(&WorkerMetrics) -> u64| -> u64 {
            workers.iter().map(counter).sum()
        };
        for round in 1..=3 {
            let worker = workers.add();
            worker.events_delivered.fetch_add(5, Relaxed);
            worker.groups.fetch_add(1, Relaxed);
            worker.commit_to_socket.observe(Duration::from_millis(3), 2);
            workers.retire();
            assert_eq!(workers.living.len(), 1, "it lives");
            drop(worker);
            workers.retire();
            assert_eq!(workers.living.len(), 0, "it has ended");
            assert_eq!(of(&workers, |w| w.events_delivered.load(Relaxed)), 5 * round);
            assert_eq!(of(&workers, |w| w.groups.load(Relaxed) as u64), 0);
            let observed = |w: &WorkerMetrics| -> u64 {
                w.commit_to_socket.buckets.iter().map(|bucket| bucket.load(Relaxed)).sum()
            };
            assert_eq!(of(&workers, observed), 2 * round);
            assert_eq!(of(&workers, |w| w.commit_to_socket.sum_micros.load(Relaxed)), 6000 * round);
        }
    }
}
