//! What the transport counts, and how it is told as Prometheus text.
//!
//! Each worker counts into atomics of its own, which nobody else writes, so that counting costs
//! the hot path next to nothing; a scrape adds them up. Label values are bounded: close codes and
//! states, never a stream, a session or a user.

mod projections;
mod worker;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet, text},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::{Registry, Unit},
};
use tidewire_eventstore::EventStore;
use tidewire_projections::ProjectionStats;
use tidewire_protocol::CloseCode;

use worker::{LATENCY_BOUNDS, Workers};

use crate::{commands::CommandMetrics, consumers::ConsumerMetrics, live::LiveMetrics};

pub(crate) use worker::{LatencyHistogram, WorkerMetrics};

/// What the catch-up scheduler counts.
#[derive(Debug, Default)]
pub(crate) struct CatchUpMetrics {
    /// Pages that were asked for.
    pub(crate) requests: AtomicU64,
    /// Pages that were read from the store.
    pub(crate) reads: AtomicU64,
    /// Pages that are being read or wait for it.
    pub(crate) waiting_pages: AtomicU64,
    /// What the pages weigh that are kept for those who come later.
    pub(crate) kept_bytes: AtomicU64,
}

/// What the whole node counts.
pub(crate) struct Metrics {
    workers: Mutex<Workers>,
    pub(crate) catch_up: Arc<CatchUpMetrics>,
    pub(crate) consumers: Arc<ConsumerMetrics>,
    pub(crate) commands: Arc<CommandMetrics>,
    pub(crate) live: Arc<LiveMetrics>,
    closes: Mutex<BTreeMap<Option<CloseCode>, u64>>,
    pub(crate) handshakes_refused: AtomicU64,
    pub(crate) sessions_refused: AtomicU64,
    pub(crate) broadcasts_refused: AtomicU64,
    pub(crate) broadcast_retries: AtomicU64,
    pub(crate) fetches_refused: AtomicU64,
    pub(crate) events_removed: AtomicU64,
    pub(crate) events_erased: AtomicU64,
    pub(crate) removed_bytes: AtomicU64,
    store: Arc<dyn EventStore>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    pub(crate) fn new(store: Arc<dyn EventStore>) -> Arc<Self> {
        Arc::new(Self {
            workers: Mutex::default(),
            catch_up: Arc::default(),
            consumers: Arc::default(),
            commands: Arc::default(),
            live: Arc::default(),
            closes: Mutex::default(),
            handshakes_refused: AtomicU64::new(0),
            sessions_refused: AtomicU64::new(0),
            broadcasts_refused: AtomicU64::new(0),
            broadcast_retries: AtomicU64::new(0),
            fetches_refused: AtomicU64::new(0),
            events_removed: AtomicU64::new(0),
            events_erased: AtomicU64::new(0),
            removed_bytes: AtomicU64::new(0),
            store,
        })
    }

    /// The counters of one more worker.
    pub(crate) fn worker(&self) -> Arc<WorkerMetrics> {
        self.workers().add()
    }

    /// The counters of all workers, and what those that have ended had counted.
    fn workers(&self) -> MutexGuard<'_, Workers> {
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.retire();
        workers
    }

    /// How many workers have counters of their own.
    #[cfg(test)]
    pub(crate) fn workers_living(&self) -> usize {
        self.workers().living()
    }

    /// Counts a session that ended with `code`. A client can close with any of thousands of codes;
    /// those without a meaning here count as one.
    pub(crate) fn closed(&self, code: CloseCode) {
        let code = Some(code).filter(|code| CloseCode::ALL.contains(code));
        *self.closes.lock().unwrap_or_else(PoisonError::into_inner).entry(code).or_default() += 1;
    }

    /// Sessions that are open on all workers.
    pub(crate) fn sessions(&self) -> i64 {
        self.sum_gauge(|worker| &worker.sessions)
    }

    fn sum(&self, of: impl Fn(&WorkerMetrics) -> &AtomicU64) -> u64 {
        self.workers().iter().map(|worker| of(worker).load(Relaxed)).sum()
    }

    fn sum_gauge(&self, of: impl Fn(&WorkerMetrics) -> &AtomicI64) -> i64 {
        self.workers().iter().map(|worker| of(worker).load(Relaxed)).sum()
    }

    /// Everything, in the Prometheus text format (OpenMetrics 1.0).
    pub(crate) fn render(
        self: &Arc<Self>,
        head: u64,
        projections: Vec<ProjectionStats>,
    ) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        let scrape = Scrape { metrics: self.clone(), head, projections };
        registry.register_collector(Box::new(scrape));
        let mut out = String::with_capacity(8 << 10);
        text::encode(&mut out, &registry)?;
        Ok(out)
    }
}

#[derive(Debug)]
struct Scrape {
    metrics: Arc<Metrics>,
    head: u64,
    projections: Vec<ProjectionStats>,
}

impl Collector for Scrape {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let m = &self.metrics;
        let stats = m.store.stats();

        for (name, help, value) in [
            ("tidewire_sessions", "Open sessions", m.sessions()),
            ("tidewire_subscriptions", "Open subscriptions", m.sum_gauge(|w| &w.subscriptions)),
            (
                "tidewire_subscriptions_behind",
                "Subscriptions that are reading the store",
                m.sum_gauge(|w| &w.subscriptions_behind),
            ),
            ("tidewire_groups", "Groups of alike subscriptions", m.sum_gauge(|w| &w.groups)),
            (
                "tidewire_shared_log_bytes",
                "Encoded frames kept for sessions that are a little behind",
                m.sum_gauge(|w| &w.shared_log_bytes),
            ),
            (
                "tidewire_held_events",
                "Events held back for groups that wish for fewer frames",
                m.sum_gauge(|w| &w.held_events),
            ),
            (
                "tidewire_encoded_page_bytes",
                "Encoded catch-up pages kept by the workers",
                m.sum_gauge(|w| &w.encoded_page_bytes),
            ),
            (
                "tidewire_sessions_awaiting_turn",
                "Sessions that could catch up and wait for others to do so first",
                m.sum_gauge(|w| &w.sessions_awaiting_turn),
            ),
            (
                "tidewire_catch_up_kept_bytes",
                "Catch-up pages kept for all workers",
                m.catch_up.kept_bytes.load(Relaxed) as i64,
            ),
            (
                "tidewire_catch_up_waiting_pages",
                "Catch-up pages being read or waiting for it",
                m.catch_up.waiting_pages.load(Relaxed) as i64,
            ),
            (
                "tidewire_consumers_held",
                "Consumers, and shares of groups, that sessions of this node hold",
                m.consumers.held.load(Relaxed),
            ),
            (
                "tidewire_unsent_bytes",
                "Bytes that wait in sessions for sockets to take them",
                m.sum_gauge(|w| &w.unsent_bytes),
            ),
            (
                "tidewire_commands_running",
                "Commands being carried out",
                m.commands.running.load(Relaxed),
            ),
            (
                "tidewire_commands_waiting",
                "Commands waiting for others",
                m.commands.waiting.load(Relaxed),
            ),
            ("tidewire_live_queries", "Open live queries", m.sum_gauge(|w| &w.live_queries)),
            (
                "tidewire_live_queries_behind",
                "Live queries that are reading the store",
                m.sum_gauge(|w| &w.live_behind),
            ),
            (
                "tidewire_live_groups",
                "Groups of alike live queries",
                m.sum_gauge(|w| &w.live_groups),
            ),
            (
                "tidewire_live_log_bytes",
                "Encoded changes kept for live queries that are a little behind",
                m.sum_gauge(|w| &w.live_log_bytes),
            ),
            (
                "tidewire_live_reads_waiting",
                "Reads for live queries, under way or waiting",
                m.live.reads.waiting.load(Relaxed),
            ),
            ("tidewire_head_position", "The last position looked at", self.head as i64),
            ("tidewire_append_queue_requests", "Appends waiting", stats.queued_requests as i64),
            ("tidewire_append_queue_bytes", "Bytes of appends waiting", stats.queued_bytes as i64),
            (
                "tidewire_outbox_waiting_calls",
                "Calls in the outbox that could not be moved at once",
                i64::try_from(stats.outbox_waiting_calls).unwrap_or(i64::MAX),
            ),
        ] {
            let gauge = ConstGauge::new(value);
            let metric = to.encode_descriptor(name, help, None, MetricType::Gauge)?;
            gauge.encode(metric)?;
        }
        let oldest = ConstGauge::new(stats.outbox_oldest_age.as_secs_f64());
        let metric = to.encode_descriptor(
            "tidewire_outbox_oldest_seconds",
            "How long the oldest of them had waited",
            None,
            MetricType::Gauge,
        )?;
        oldest.encode(metric)?;

        for (name, help, value) in [
            ("tidewire_sessions_opened", "Sessions opened", m.sum(|w| &w.sessions_total)),
            ("tidewire_events_appended", "Events appended by this process", stats.events),
            ("tidewire_append_groups", "Groups committed", stats.groups),
            (
                "tidewire_outbox_events_moved",
                "Events moved from the outbox into the log by this process",
                stats.outbox_moved_events,
            ),
            ("tidewire_appends", "Appends answered by the database", stats.appends),
            (
                "tidewire_appends_overloaded",
                "Appends refused because the queue was full",
                stats.overloaded,
            ),
            (
                "tidewire_events_delivered",
                "Events handed to sockets",
                m.sum(|w| &w.events_delivered),
            ),
            ("tidewire_frames_sent", "Event frames handed to sockets", m.sum(|w| &w.frames_sent)),
            ("tidewire_sent_bytes", "Bytes handed to sockets", m.sum(|w| &w.bytes_sent)),
            ("tidewire_received_bytes", "Bytes from sockets", m.sum(|w| &w.bytes_received)),
            (
                "tidewire_messages_received",
                "Messages from clients",
                m.sum(|w| &w.messages_received),
            ),
            (
                "tidewire_encoded_bytes",
                "Bytes of event frames encoded",
                m.sum(|w| &w.encoded_bytes),
            ),
            (
                "tidewire_reads_paused",
                "Times a socket was not read because its session was busy",
                m.sum(|w| &w.reads_paused),
            ),
            (
                "tidewire_log_restarts",
                "Times a worker missed a batch and sent its sessions to the store",
                m.sum(|w| &w.log_restarts),
            ),
            (
                "tidewire_catch_up_requests",
                "Catch-up pages asked for",
                m.catch_up.requests.load(Relaxed),
            ),
            (
                "tidewire_catch_up_reads",
                "Catch-up pages read from the store",
                m.catch_up.reads.load(Relaxed),
            ),
            (
                "tidewire_windows_filled",
                "Times that a subscription stopped because its window was full",
                m.sum(|w| &w.windows_filled),
            ),
            ("tidewire_settled", "Events settled by acks, or skipped", m.sum(|w| &w.settled)),
            (
                "tidewire_redeliveries",
                "Events sent once more to clients that settle events",
                m.sum(|w| &w.redeliveries),
            ),
            ("tidewire_parked", "Events parked", m.sum(|w| &w.parked)),
            (
                "tidewire_live_changes",
                "Changes of documents handed to sockets as they happened",
                m.sum(|w| &w.live_changes),
            ),
            (
                "tidewire_live_falls",
                "Times that a live query was told that it is behind",
                m.sum(|w| &w.live_falls),
            ),
            (
                "tidewire_live_restarts",
                "Times a worker missed changes and sent its live queries to the store",
                m.sum(|w| &w.live_restarts),
            ),
            (
                "tidewire_live_state_reads",
                "Reads of documents for live queries",
                m.live.reads.states.load(Relaxed),
            ),
            (
                "tidewire_live_changes_reads",
                "Reads of changes for live queries",
                m.live.reads.changes.load(Relaxed),
            ),
            (
                "tidewire_live_batches_refused",
                "Batches of changes that a worker's full mailbox refused",
                m.live.refused.load(Relaxed),
            ),
            ("tidewire_consumer_claims", "Claims that succeeded", m.consumers.claims.load(Relaxed)),
            (
                "tidewire_consumer_claims_refused",
                "Claims refused because too many were waiting",
                m.consumers.claims_refused.load(Relaxed),
            ),
            (
                "tidewire_consumer_checkpoints",
                "Checkpoints written, one a consumer or partition",
                m.consumers.checkpoints.load(Relaxed),
            ),
            (
                "tidewire_consumer_saves_failed",
                "Writes of checkpoints that failed and were tried again",
                m.consumers.saves_failed.load(Relaxed),
            ),
            (
                "tidewire_consumers_taken",
                "Holders that lost their consumer to another session",
                m.consumers.taken.load(Relaxed),
            ),
            (
                "tidewire_consumer_rebalances",
                "Times that a group's member was told that the shares have changed",
                m.consumers.rebalances.load(Relaxed),
            ),
            (
                "tidewire_sessions_refused",
                "Handshakes refused because the node had all its sessions",
                m.sessions_refused.load(Relaxed),
            ),
            (
                "tidewire_handshakes_refused",
                "WebSocket handshakes refused",
                m.handshakes_refused.load(Relaxed),
            ),
            (
                "tidewire_broadcasts_refused",
                "Batches that a worker's full mailbox refused",
                m.broadcasts_refused.load(Relaxed),
            ),
            (
                "tidewire_broadcast_retries",
                "Times that workers with full mailboxes were tried again",
                m.broadcast_retries.load(Relaxed),
            ),
            (
                "tidewire_fetches_refused",
                "Reads refused because too many were waiting",
                m.fetches_refused.load(Relaxed),
            ),
            (
                "tidewire_command_reruns",
                "Times a command's handler was run again because its stream had moved on",
                m.commands.reruns.load(Relaxed),
            ),
            (
                "tidewire_events_removed",
                "Events removed by this process",
                m.events_removed.load(Relaxed),
            ),
            (
                "tidewire_events_erased",
                "Events whose payload was erased by this process",
                m.events_erased.load(Relaxed),
            ),
            (
                "tidewire_removed_bytes",
                "Bytes of payload and metadata removed or erased by this process",
                m.removed_bytes.load(Relaxed),
            ),
        ] {
            let counter = ConstCounter::new(value);
            let metric = to.encode_descriptor(name, help, None, MetricType::Counter)?;
            counter.encode(metric)?;
        }

        let mut metric = to.encode_descriptor(
            "tidewire_closes",
            "Sessions that ended, by close code",
            None,
            MetricType::Counter,
        )?;
        for (code, count) in m.closes.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let code = code.map_or_else(|| "other".to_owned(), |code| code.to_string());
            let labels = [("code", code)];
            ConstCounter::new(*count).encode(metric.encode_family(&labels)?)?;
        }

        let mut metric = to.encode_descriptor(
            "tidewire_commands",
            "Commands answered, by outcome",
            None,
            MetricType::Counter,
        )?;
        for (outcome, count) in m.commands.outcomes() {
            let labels = [("outcome", outcome)];
            ConstCounter::new(count).encode(metric.encode_family(&labels)?)?;
        }

        let workers = m.workers();
        let histograms: Vec<_> = workers.iter().map(|w| &w.commit_to_socket).collect();
        encode_latency(
            "tidewire_commit_to_socket",
            "From a commit of this process to handing the event to a socket",
            &histograms,
            &mut to,
        )?;
        drop(workers);
        encode_latency(
            "tidewire_command_duration",
            "From a command's arrival to its answer",
            &[&m.commands.duration],
            &mut to,
        )?;
        for (name, help, unit, histogram, scale) in [
            (
                "tidewire_append_latency",
                "From queueing an append to its answer",
                Some(Unit::Seconds),
                &stats.append_latency_micros,
                1e-6,
            ),
            ("tidewire_append_group_events", "Events a group", None, &stats.group_events, 1.0),
        ] {
            let mut buckets: Vec<(f64, u64)> = histogram
                .buckets
                .iter()
                .map(|(bound, count)| (*bound as f64 * scale, *count))
                .collect();
            let within: u64 = buckets.iter().map(|(_, count)| count).sum();
            buckets.push((f64::MAX, histogram.count.saturating_sub(within)));
            let sum = histogram.sum as f64 * scale;
            to.encode_descriptor(name, help, unit.as_ref(), MetricType::Histogram)?
                .encode_histogram::<NoLabelSet>(sum, histogram.count, &buckets, None)?;
        }
        projections::encode(&self.projections, &mut to)
    }
}

/// Encodes the sum of `histograms`.
fn encode_latency(
    name: &str,
    help: &str,
    histograms: &[&LatencyHistogram],
    to: &mut DescriptorEncoder<'_>,
) -> Result<(), fmt::Error> {
    let bounds = LATENCY_BOUNDS.iter().copied().chain([f64::MAX]);
    let buckets: Vec<(f64, u64)> = bounds
        .enumerate()
        .map(|(bucket, bound)| {
            let of = |histogram: &&LatencyHistogram| histogram.buckets[bucket].load(Relaxed);
            (bound, histograms.iter().map(of).sum())
        })
        .collect();
    let micros: u64 = histograms.iter().map(|histogram| histogram.sum_micros.load(Relaxed)).sum();
    let count = buckets.iter().map(|(_, count)| count).sum();
    to.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?
        .encode_histogram::<NoLabelSet>(micros as f64 / 1e6, count, &buckets, None)
}
