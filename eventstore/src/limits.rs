//! [`Limits`]: every bound of a store's writing side and of its consumers, in one place.

use std::time::Duration;

/// The bounds of appends, of the writer's queue and of its groups, and of durable consumers. The defaults suit a server.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Events in one append: 1 to this many (1000).
    pub append_events_max: usize,
    /// Payload and metadata bytes of one append together (4 MiB).
    pub append_bytes_max: usize,
    /// Bytes of one event's payload (1 MiB).
    pub payload_bytes_max: usize,
    /// Bytes of one event's metadata (64 KiB).
    pub meta_bytes_max: usize,
    /// Bytes of what one command answers, kept with its key (256 KiB).
    pub result_bytes_max: usize,
    /// How deeply JSON may nest: the number of arrays and objects around a value (64).
    pub json_depth_max: usize,
    /// Appends that wait for the writer; past it they are refused as overload (8192).
    pub queue_requests_max: usize,
    /// Bytes of all appends that wait for the writer, counted as [`Self::append_bytes_max`] is
    /// plus a fixed amount for each event's other columns (64 MiB).
    pub queue_bytes_max: usize,
    /// Appends committed as one transaction (1024).
    pub group_requests_max: usize,
    /// Events committed as one transaction; one append is never divided (4096).
    pub group_events_max: usize,
    /// Bytes committed as one transaction; one append is never divided (4 MiB).
    pub group_bytes_max: usize,
    /// Commits that a slow reader of the commit feed may fall behind before it is told that it
    /// lags (256).
    pub feed_commits_max: usize,
    /// Consumers of one log (10,000).
    pub consumers_max: usize,
    /// Members of one consumer group (1000).
    pub consumer_members_max: usize,
    /// Parked events of one consumer; past it its progress is refused as overload (100,000).
    pub consumer_parked_max: usize,
    /// How long what a node holds of consumers stays its own after it last said that it keeps
    /// them (10 s).
    pub consumer_lease: Duration,
    /// How long an append waits for a database that is away before it fails as unavailable (5 s).
    pub away_wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        const KIB: usize = 1024;
        const MIB: usize = 1024 * KIB;
        Self {
            append_events_max: 1000,
            append_bytes_max: 4 * MIB,
            payload_bytes_max: MIB,
            meta_bytes_max: 64 * KIB,
            result_bytes_max: 256 * KIB,
            json_depth_max: 64,
            queue_requests_max: 8192,
            queue_bytes_max: 64 * MIB,
            group_requests_max: 1024,
            group_events_max: 4096,
            group_bytes_max: 4 * MIB,
            feed_commits_max: 256,
            consumers_max: 10_000,
            consumer_members_max: 1000,
            consumer_parked_max: 100_000,
            consumer_lease: Duration::from_secs(10),
            away_wait: Duration::from_secs(5),
        }
    }
}
