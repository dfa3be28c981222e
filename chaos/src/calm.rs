//! After the faults: everybody has to be settled, caught up and live within a bound, and what they
//! were told and saw has to be what the log has.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::time::sleep;

use crate::{
    audience::Audience,
    content::{Expected, New, PROBED_STREAM},
    http::{self, Told},
    ledger::Outcome,
    log::Log,
    projection::{self, View},
    random::Random,
    reader::PROBE,
    server::Server,
    world::World,
};

/// How long writers may take to be told, and readers to catch up, after the last fault.
pub(crate) const SETTLE: Duration = Duration::from_secs(60);
/// How long the append of a probe may take.
const APPEND: Duration = Duration::from_secs(3);
/// How long a consumer's checkpoint may take to be where the log ends.
const CHECKPOINT: Duration = Duration::from_secs(30);
/// Probes after each storm.
const PROBES: u64 = 8;
/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(10);

/// How long things took.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Took {
    /// From the end of the faults until everybody had everything.
    pub(crate) settled: Duration,
    /// The slowest probe, from its append to the last reader.
    pub(crate) read: Duration,
    /// The slowest probe, from its append to the last consumer's effect.
    pub(crate) consumed: Duration,
}

impl Took {
    /// The longer of each.
    pub(crate) fn or_longer(self, other: Self) -> Self {
        Self {
            settled: self.settled.max(other.settled),
            read: self.read.max(other.read),
            consumed: self.consumed.max(other.consumed),
        }
    }
}

/// Checks everything: `rebuilt` are projections that were to be rebuilt, with the generations that
/// they had. What is wrong goes to the ledger.
///
/// # Errors
///
/// The log cannot be read.
pub(crate) async fn check(
    world: &World,
    log: &mut Log,
    random: &mut Random,
    rebuilt: &[(View, u64)],
) -> Result<Took> {
    world.pause_writers(true);
    world.proxy.heal();
    if let Some(proxy) = &world.database_proxy {
        proxy.heal();
    }
    let calm_at = Instant::now();
    let busy = || world.writers.iter().find(|writer| writer.is_busy());
    while let Some(writer) = busy() {
        if calm_at.elapsed() > SETTLE {
            world.ledger.violation(format!("{} is not answered after {SETTLE:?}", writer.name));
            break;
        }
        sleep(LOOK).await;
    }
    read(world, log).await?;
    while let Some(one) = world.audience().find(|one| !one.is_complete(log)) {
        world.look_at_parked().await;
        if calm_at.elapsed() > SETTLE {
            world.ledger.violation(format!("{} has not caught up after {SETTLE:?}", one.name()));
            break;
        }
        sleep(LOOK).await;
    }
    let mut took = Took { settled: calm_at.elapsed(), ..Took::default() };
    if world.ledger.violations().1 == 0 {
        for number in 0..PROBES {
            let server = &world.servers[number as usize % world.servers.len()];
            took = took.or_longer(probe(world, server, random, number).await?);
        }
    }
    read(world, log).await?;
    if world.ledger.violations().1 == 0 {
        checkpoints(world, log.head()).await;
        projection::check(&world.servers, &world.ledger, log, rebuilt).await;
        watchers(world, log).await;
    }
    for one in world.audience() {
        if let Some(wrong) = one.check(log) {
            world.ledger.violation(format!("the {} {wrong}", one.name()));
        }
    }
    world.pause_writers(false);
    Ok(took)
}

/// Waits until every watcher has what the last probes have changed.
async fn watchers(world: &World, log: &Log) {
    let began_at = Instant::now();
    for watcher in &world.watchers {
        while !watcher.is_complete(log) && began_at.elapsed() < watcher.patience() {
            sleep(LOOK).await;
        }
    }
}

/// Waits until every consumer's checkpoint is where the log ends.
async fn checkpoints(world: &World, head: u64) {
    let began_at = Instant::now();
    for consumer in &world.consumers {
        loop {
            let checkpoint = consumer.checkpoint(world.servers[0].address).await;
            if checkpoint.is_some_and(|checkpoint| checkpoint >= head) {
                break;
            }
            if began_at.elapsed() > CHECKPOINT {
                world.ledger.violation(format!(
                    "the consumer {} has everything through {head}, and its checkpoint is \
                     {checkpoint:?}",
                    consumer.name()
                ));
                return;
            }
            sleep(LOOK * 10).await;
        }
    }
}

/// Reads what the log has gained, and holds it against what the writers were told.
async fn read(world: &World, log: &mut Log) -> Result<()> {
    let head = log.head();
    let gained = crate::world::log_after(&world.servers, head).await.context("the log")?;
    for wrong in log.extend(gained) {
        world.ledger.violation(wrong);
    }
    world.ledger.check(log, log.after(head));
    Ok(())
}

/// Reads the whole log again from every server, and compares.
///
/// # Errors
///
/// It cannot be read.
pub(crate) async fn compare_servers(world: &World, log: &Log) -> Result<()> {
    for server in &world.servers {
        let again = http::log_after(server.address, 0).await.context("the whole log")?;
        let differs = again.iter().zip(log.after(0)).find(|(now, before)| now != before);
        if let Some((now, before)) = differs {
            world.ledger.violation(format!("the log had {before:?} and now has {now:?}"));
        }
        if (again.len() as u64) < log.head() {
            let (now, before) = (again.len(), log.head());
            world.ledger.violation(format!("the log went to {before} and now ends at {now}"));
        }
    }
    Ok(())
}

/// Appends one event while all is quiet, and waits until everybody has it.
async fn probe(world: &World, server: &Server, random: &mut Random, number: u64) -> Result<Took> {
    let events = [New::probe(random, number)];
    let key = world.ledger.begin("probe", PROBED_STREAM, &events);
    let began_at = Instant::now();
    let told = http::append(server.address, APPEND, PROBED_STREAM, Expected::Any, &events).await;
    let Told::Recorded { position, revision } = told else {
        world.ledger.settle(key, Outcome::Unknown);
        world.ledger.violation(format!("{} answered a probe with {told:?}", server.name()));
        bail!("{} does not take appends although all is calm", server.name());
    };
    world.ledger.settle(key, Outcome::Recorded { position, revision });
    let mut took = Took::default();
    // Readers first: consumers may take longer.
    for one in world.audience() {
        while !one.has(position) {
            if began_at.elapsed() > one.patience() {
                world.ledger.violation(format!(
                    "the {} did not get {position}, appended through {}, within {:?}",
                    one.name(),
                    server.name(),
                    one.patience()
                ));
                return Ok(took);
            }
            sleep(LOOK).await;
        }
        let slowest = if one.patience() == PROBE { &mut took.read } else { &mut took.consumed };
        *slowest = began_at.elapsed();
    }
    Ok(took)
}
