//! One round of a benchmark: load for a while, then a pause until everybody has everything.

use std::time::{Duration, Instant};

use anyhow::Result;
use hdrhistogram::Histogram;

use super::{
    child::Child,
    crowd::{Received, Tally},
    feed::{Feed, Shape},
    machine::CpuTime,
};

/// How long the last events of a round may take to reach everybody; then they count as lost.
const SETTLE: Duration = Duration::from_secs(30);

/// How events are sent.
#[derive(Debug, Clone, Copy)]
pub(super) enum Load {
    /// So many a second.
    Rate(f64),
    /// As fast as everybody gets them, with so many under way.
    Saturated(usize),
}

/// What a round came to.
#[derive(Debug)]
pub(super) struct Round {
    /// Events sent.
    pub(super) events: u64,
    /// From the first event sent to the last received.
    pub(super) elapsed: Duration,
    /// What came in.
    pub(super) received: Received,
    /// From sending an event to receiving it, in microseconds.
    pub(super) latency: Histogram<u64>,
    /// CPU time of the process that was measured.
    pub(super) cpu: CpuTime,
}

/// Runs a round of about `length`.
///
/// # Errors
///
/// A session or the feed failed. Lost events are no error here: whoever asks the tally sees them.
pub(super) async fn run(
    tally: &Tally,
    feed: &mut Feed,
    child: &Child,
    load: Load,
    length: Duration,
) -> Result<Round> {
    tally.begin_round();
    let before = feed.head();
    let cpu = child.cpu()?;
    let start = Instant::now();
    match load {
        Load::Rate(rate) => send_steadily(tally, feed, rate, start + length).await?,
        Load::Saturated(most) => send_saturated(tally, feed, most, start + length).await?,
    }
    tally.wait(SETTLE, |tally| tally.in_flight() == 0).await?;
    Ok(Round {
        events: feed.head() - before,
        elapsed: start.elapsed(),
        received: tally.received(),
        latency: tally.latency(),
        cpu: child.cpu()?.since(&cpu),
    })
}

async fn send_steadily(tally: &Tally, feed: &mut Feed, rate: f64, until: Instant) -> Result<()> {
    let start = Instant::now();
    let mut sent = 0;
    loop {
        let now = Instant::now();
        if now >= until {
            return Ok(());
        }
        let due = ((now - start).as_secs_f64() * rate) as usize + 1;
        let together = feed.together();
        let ready = (due - sent) / together * together;
        if ready > 0 {
            tally.sending(ready);
            feed.send(ready).await?;
            sent += ready;
        }
        let next = start + Duration::from_secs_f64((sent + together - 1) as f64 / rate);
        tokio::time::sleep_until(next.min(until).into()).await;
    }
}

async fn send_saturated(tally: &Tally, feed: &mut Feed, most: usize, until: Instant) -> Result<()> {
    while Instant::now() < until {
        let together = feed.together();
        let free = most.saturating_sub(tally.in_flight());
        let mut ready = free / together * together;
        if ready == 0 && tally.in_flight() == 0 {
            ready = together;
        }
        if ready > 0 {
            tally.sending(ready);
            feed.send(ready).await?;
        }
        let before = tally.in_flight();
        let left = until.saturating_duration_since(Instant::now());
        tally.wait(left, |tally| tally.in_flight() < before).await?;
    }
    Ok(())
}

impl Round {
    /// Events that arrived at sessions, a second.
    pub(super) fn deliveries_per_second(&self) -> f64 {
        self.received.events as f64 / self.elapsed.as_secs_f64()
    }

    /// CPU seconds of the measured process for a million deliveries.
    pub(super) fn cpu_per_million(&self) -> f64 {
        self.per_million(self.cpu.total)
    }

    /// The same of the threads of one [kind](super::machine::SOCKETS).
    pub(super) fn cpu_per_million_of(&self, kind: &str) -> f64 {
        self.per_million(self.cpu.kind(kind))
    }

    fn per_million(&self, seconds: f64) -> f64 {
        seconds * 1e6 / (self.received.events.max(1) as f64)
    }

    /// A quantile of the latency, in milliseconds.
    pub(super) fn latency_ms(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1e3
    }

    /// How events stood in the server's writes: a batch of the log is one frame, and a frame is
    /// written as soon as it is there. (Reads here say nothing of writes there: what was written in
    /// two goes may be read in one.)
    pub(super) fn shape(&self) -> Shape {
        let frames = self.received.messages.max(1);
        let events = (self.received.events + frames / 2) / frames;
        Shape { events: events.max(1) as usize, frames: 1 }
    }
}
