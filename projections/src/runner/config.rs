//! [`Config`] and [`Policy`]: every limit and every interval of the runner, in one place.

use std::time::Duration;

use tidewire_protocol::backoff::Backoff;

/// How projections are run on a node.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// How long a projection stays this node's after it last said that it keeps it (5 s). Another
    /// node takes over within this and [`Self::poll`] after a node has died.
    pub lease: Duration,
    /// How often a lease is renewed (1 s).
    pub renew: Duration,
    /// How often a node looks at what the database says of all projections, and at the head of the
    /// log, whatever it is told meanwhile (1 s).
    pub poll: Duration,
    /// The most events of one commit (4000), at most what a page of the log has.
    pub batch_events: usize,
    /// A commit has no further event once those in it carry so many bytes (8 MiB).
    pub batch_bytes: usize,
    /// Documents that are kept parsed between commits, by the bytes of their text (32 MiB). A
    /// commit ends early where its documents are larger than this.
    pub documents_bytes: usize,
    /// How late a checkpoint may be written where no document changes (250 ms).
    pub checkpoint_delay: Duration,
    /// Batches of changes that a slow follower may fall behind before it has to read the store
    /// (256).
    pub feed_batches: usize,
    /// Bytes of documents in those batches; past it followers have to read the store (32 MiB).
    pub feed_bytes: usize,
    /// The first pause between looks for changes that another node makes, while some are due
    /// (5 ms); each look that finds nothing doubles it.
    pub follow_min: Duration,
    /// The longest such pause (250 ms).
    pub follow_max: Duration,
    /// Events that one generation parks at most; at the next it stops (1000).
    pub parked_max: u64,
    /// Deleted documents that are remembered in each projection, for those who come back
    /// (100,000).
    pub tombstones_kept: u64,
    /// Rows that are swept at once (2000).
    pub sweep_rows: usize,
    /// The pause between two sweeps while there is more to do (50 ms).
    pub sweep_pause: Duration,
    /// How often to look whether there is something to sweep (60 s).
    pub sweep_every: Duration,
    /// How long [`crate::Projections::close`] waits for what is under way (5 s).
    pub close_wait: Duration,
    /// How long to wait before trying again where the database is away.
    pub retry: Backoff,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(5),
            renew: Duration::from_secs(1),
            poll: Duration::from_secs(1),
            batch_events: 4000,
            batch_bytes: 8 << 20,
            documents_bytes: 32 << 20,
            checkpoint_delay: Duration::from_millis(250),
            feed_batches: 256,
            feed_bytes: 32 << 20,
            follow_min: Duration::from_millis(5),
            follow_max: Duration::from_millis(250),
            parked_max: 1000,
            tombstones_kept: 100_000,
            sweep_rows: 2000,
            sweep_pause: Duration::from_millis(50),
            sweep_every: Duration::from_secs(60),
            close_wait: Duration::from_secs(5),
            retry: Backoff {
                initial: Duration::from_millis(50),
                max: Duration::from_secs(2),
                multiplier: 2.0,
                jitter: 0.5,
            },
        }
    }
}

/// How one projection is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy {
    /// What becomes of an event that the projection cannot take.
    pub on_poison: OnPoison,
    /// Whether documents of an older version are rebuilt without being asked. Otherwise they are
    /// served as they are, and go no further until somebody asks for a rebuild.
    pub rebuild_on_new_version: bool,
}

/// What becomes of an event that a projection fails on, be it by an error or a panic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnPoison {
    /// The projection stops before it, and says so.
    #[default]
    Stop,
    /// It is put aside, and the projection goes on; until there are [`Config::parked_max`] of
    /// them.
    Park,
}
