//! One world's run: storms of faults, each followed by calm in which everything is checked.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    calm,
    fault::{Schedule, Scope},
    inject::{Injected, inject},
    log::Log,
    projection::{Rebuilds, View},
    random::Random,
    report::Report,
    world::{Keep, Shape, World},
};

/// Faults in a storm.
const STORM: u64 = 20;
/// How long faults may last on after the last of a storm: a drain, a recovery, a restart.
const LAST: Duration = Duration::from_secs(120);
/// Before the first fault, so that there is something to lose.
const BEGIN: Duration = Duration::from_secs(1);
/// The most memory that a server may have.
const RESIDENT_BYTES_MAX: u64 = 400 << 20;

/// What to do.
#[derive(Debug, Clone)]
pub(crate) struct Run<'a> {
    pub(crate) shape: Shape,
    pub(crate) faults: u64,
    pub(crate) seed: u64,
    pub(crate) program: &'a Path,
    pub(crate) plant: Option<&'a str>,
    pub(crate) with_consumers: bool,
    /// When no further storm begins.
    pub(crate) until: Instant,
}

/// Runs one world through its faults. What is wrong with it is in the report.
///
/// # Errors
///
/// Something of ours did not work, or what was taken down did not come up again.
pub(crate) async fn run(run: &Run<'_>) -> Result<Report> {
    let began_at = Instant::now();
    println!("\n=== {} · {} faults · seed {}", run.shape.name(), run.faults, run.seed);
    let world =
        World::start(run.shape, run.program, run.plant, run.seed, run.with_consumers).await?;
    let world = Arc::new(world);
    let mut report = Report::new(run.shape, run.seed);
    let outcome = storms(run, &world, &mut report).await;
    report.finish(&world, began_at.elapsed());

    let world = Arc::into_inner(world).context("a fault still has the world")?;
    let failed = outcome.is_err() || !report.is_clean();
    let kept = world.stop(if failed { Keep::Folder } else { Keep::Nothing }).await;
    if let Some(kept) = kept {
        report.kept = Some(kept);
    }
    if let Err(error) = outcome {
        report.violations.push(format!("the run did not go on: {error:#}"));
    }
    Ok(report)
}

async fn storms(run: &Run<'_>, world: &Arc<World>, report: &mut Report) -> Result<()> {
    let scope =
        Scope { postgres: world.postgres.is_some(), consumers: !world.consumers.is_empty() };
    let mut schedule = Schedule::new(run.seed, scope);
    let mut random = Random::new(run.seed, "probes");
    let mut log = Log::default();
    let began_at = Instant::now();
    sleep(BEGIN).await;
    let mut left = run.faults;
    while left > 0 && Instant::now() < run.until {
        let now = left.min(STORM);
        left -= now;
        let rebuilds = Rebuilds::new(world.servers.clone(), Arc::clone(&world.ledger));
        let random_of_rebuild = Random::new(run.seed, &format!("rebuild {}", report.rebuilds));
        let asked = tokio::spawn(rebuilds.ask(View::REBUILT, random_of_rebuild));
        storm(world, &mut schedule, now, &mut report.faults).await?;
        let rebuilt = asked.await.context("the rebuild panicked")??;
        report.rebuilds += 1;
        let took = calm::check(world, &mut log, &mut random, &[rebuilt]).await?;
        report.took = report.took.or_longer(took);
        check_memory(world);
        println!(
            "  {:5.0} s: {} faults of {}; the log has {} events; all settled after {:.1} s, the \
             slowest probe took {} ms",
            began_at.elapsed().as_secs_f64(),
            run.faults - left,
            run.faults,
            log.head(),
            took.settled.as_secs_f64(),
            took.read.as_millis(),
        );
        if world.ledger.violations().1 > 0 {
            break;
        }
    }
    report.left_out_faults = left;
    calm::compare_servers(world, &log).await
}

/// Injects so many faults, and waits until each is over.
async fn storm(
    world: &Arc<World>,
    schedule: &mut Schedule,
    faults: u64,
    counts: &mut BTreeMap<(&'static str, bool), u64>,
) -> Result<()> {
    let mut under_way = JoinSet::new();
    let mut injected = 0;
    // What finds no victim is drawn again, within reason.
    let mut draws = 0;
    while injected < faults && draws < faults * 10 {
        if injected + (under_way.len() as u64) < faults {
            draws += 1;
            let (pause, fault) = schedule.next();
            sleep(pause).await;
            let world = Arc::clone(world);
            under_way.spawn(async move {
                world.ledger.trace(format_args!("begins: {fault}"));
                let injected = inject(&world, fault).await;
                world.ledger.trace(format_args!("is over: {fault}: {injected:?}"));
                (fault, injected)
            });
        } else {
            let over = timeout(LAST, under_way.join_next()).await;
            let over = over.map_err(|_| anyhow!("faults are not over after {LAST:?}"))?;
            injected += over.map_or(Ok(0), |over| count(over, counts))?;
        }
        while let Some(over) = under_way.try_join_next() {
            injected += count(over, counts)?;
        }
    }
    Ok(())
}

type Over = Result<(crate::fault::Fault, Result<Injected>), tokio::task::JoinError>;

fn count(over: Over, counts: &mut BTreeMap<(&'static str, bool), u64>) -> Result<u64> {
    let (fault, injected) = over.context("a fault panicked")?;
    let injected = injected.with_context(|| format!("after {fault}"))?;
    let possible = match injected {
        Injected::Yes => true,
        Injected::NotPossible => false,
        Injected::NoVictim => return Ok(0),
    };
    *counts.entry((fault.kind(), possible)).or_default() += 1;
    Ok(u64::from(possible))
}

fn check_memory(world: &World) {
    for server in &world.servers {
        let bytes = server.resident_bytes_max();
        if bytes > RESIDENT_BYTES_MAX {
            let (name, mib) = (server.name(), bytes >> 20);
            world.ledger.violation(format!("{name} had {mib} MiB of memory"));
        }
    }
}
