//! What a store's writer has done, counted for metrics: plain atomics inside, [`StoreStats`] out.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Upper bounds of the buckets of [`StoreStats::group_events`], in events.
const GROUP_EVENTS_BOUNDS: [u64; 8] = [1, 4, 16, 64, 256, 1024, 4096, 16384];
/// Upper bounds of the buckets of [`StoreStats::append_latency_micros`], in microseconds.
const LATENCY_BOUNDS: [u64; 14] = [
    250, 500, 1_000, 2_000, 3_000, 5_000, 7_500, 10_000, 25_000, 50_000, 100_000, 250_000,
    1_000_000, 5_000_000,
];

/// A store's counters since it was opened. All zero for a store without a writer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreStats {
    /// Transactions that recorded events.
    pub groups: u64,
    /// Events recorded.
    pub events: u64,
    /// Appends answered by the database, recorded or refused.
    pub appends: u64,
    /// Appends refused because the queue was full.
    pub overloaded: u64,
    /// Events in each group.
    pub group_events: HistogramStats,
    /// From queueing to the answer of an append, in microseconds.
    pub append_latency_micros: HistogramStats,
    /// Appends waiting for the writer at this moment.
    pub queued_requests: usize,
    /// Bytes of the appends waiting for the writer at this moment.
    pub queued_bytes: usize,
    /// Events that this process moved from the outbox of a PostgreSQL log into the log.
    pub outbox_moved_events: u64,
    /// Calls in the outbox when this process last could not empty it at once, up to 100,000; 0 once
    /// it did.
    pub outbox_waiting_calls: u64,
    /// How long the oldest of them had waited.
    pub outbox_oldest_age: Duration,
}

/// A histogram, as Prometheus has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HistogramStats {
    /// Each bucket's inclusive upper bound and how many values fell into it and no lower one.
    pub buckets: Vec<(u64, u64)>,
    /// How many values there were, those beyond the last bound included.
    pub count: u64,
    /// The sum of all values.
    pub sum: u64,
}

#[derive(Debug, Default)]
pub(crate) struct WriterStats {
    overloaded: AtomicU64,
    group_events: Histogram<{ GROUP_EVENTS_BOUNDS.len() }>,
    append_latency_micros: Histogram<{ LATENCY_BOUNDS.len() }>,
}

impl WriterStats {
    pub(crate) fn committed(&self, events: usize) {
        self.group_events.add(&GROUP_EVENTS_BOUNDS, events as u64);
    }

    pub(crate) fn answered(&self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.append_latency_micros.add(&LATENCY_BOUNDS, micros);
    }

    pub(crate) fn overloaded(&self) {
        self.overloaded.fetch_add(1, Relaxed);
    }

    pub(crate) fn snapshot(&self, queued_requests: usize, queued_bytes: usize) -> StoreStats {
        let group_events = self.group_events.snapshot(&GROUP_EVENTS_BOUNDS);
        let append_latency_micros = self.append_latency_micros.snapshot(&LATENCY_BOUNDS);
        StoreStats {
            groups: group_events.count,
            events: group_events.sum,
            appends: append_latency_micros.count,
            overloaded: self.overloaded.load(Relaxed),
            group_events,
            append_latency_micros,
            queued_requests,
            queued_bytes,
            ..StoreStats::default()
        }
    }
}

#[derive(Debug)]
struct Histogram<const N: usize> {
    buckets: [AtomicU64; N],
    count: AtomicU64,
    sum: AtomicU64,
}

impl<const N: usize> Default for Histogram<N> {
    fn default() -> Self {
        let buckets = std::array::from_fn(|_| AtomicU64::new(0));
        Self { buckets, count: AtomicU64::new(0), sum: AtomicU64::new(0) }
    }
}

impl<const N: usize> Histogram<N> {
    fn add(&self, bounds: &[u64; N], value: u64) {
        let bucket = bounds.partition_point(|bound| *bound < value);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Relaxed);
        }
        self.count.fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
    }

    fn snapshot(&self, bounds: &[u64; N]) -> HistogramStats {
        let counts = self.buckets.iter().map(|bucket| bucket.load(Relaxed));
        HistogramStats {
            buckets: bounds.iter().copied().zip(counts).collect(),
            count: self.count.load(Relaxed),
            sum: self.sum.load(Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_falls_into_the_first_bucket_that_holds_it() {
        let stats = WriterStats::default();
        for events in [1, 2, 4, 5, 100_000] {
            stats.committed(events);
        }
        let stats = stats.snapshot(0, 0);
        assert_eq!(stats.group_events.buckets[..3], [(1, 1), (4, 2), (16, 1)]);
        assert_eq!((stats.groups, stats.events), (5, 100_012));
    }
}
