//! Carries faults out. One that finds nothing to be done to is not counted.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use tokio::time::sleep;

use crate::{
    fault::{Fault, Which},
    proxy::{Direction, Flow, Link, Proxy},
    reader::Order,
    world::World,
};

/// What came of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Injected {
    Yes,
    /// There was nothing that it could be done to just now.
    NoVictim,
    /// This machine, or this user, cannot do it.
    NotPossible,
}

/// Carries a fault out, which takes as long as it lasts.
///
/// # Errors
///
/// What was taken down did not come up again.
pub(crate) async fn inject(world: &World, fault: Fault) -> Result<Injected> {
    match fault {
        Fault::KillServer { server, down } => {
            let Some(victim) = pick(&world.servers, server).victim() else { return none() };
            victim.kill(down).await?;
        }
        Fault::DrainServer { server, down } => {
            let Some(victim) = pick(&world.servers, server).victim() else { return none() };
            victim.drain(down).await?;
        }
        Fault::FreezeServer { server, pause } => {
            let Some(victim) = pick(&world.servers, server).victim() else { return none() };
            victim.freeze(pause).await;
        }
        Fault::FillDisk { server, kibibytes, pause } => {
            let filled = match &world.postgres {
                None => {
                    let Some(victim) = pick(&world.servers, server).victim() else {
                        return none();
                    };
                    victim.fill_disk(kibibytes * 1024, pause).await
                }
                Some(postgres) => {
                    let Some(victim) = postgres.victim() else { return none() };
                    victim.fill_disk(kibibytes * 1024, pause).await?
                }
            };
            return Ok(if filled { Injected::Yes } else { Injected::NotPossible });
        }
        Fault::KillPostgres { .. }
        | Fault::LoseNotices
        | Fault::TerminateBackends
        | Fault::HoldHead { .. } => return database(world, fault).await,
        Fault::CutDatabase { link } => return Ok(cut(world.database_proxy.as_ref(), link)),
        Fault::StallDatabase { pause } => {
            let Some(proxy) = &world.database_proxy else { return none() };
            let links = proxy.links();
            for link in &links {
                set(link, Which::Both, Flow::Stalled);
            }
            sleep(pause).await;
            links.iter().for_each(|link| link.heal());
        }
        Fault::SwallowDatabase { link, pause } => {
            let Some(proxy) = &world.database_proxy else { return none() };
            return Ok(afflict(proxy, link, Which::Both, Flow::Swallowed, pause).await);
        }
        Fault::Cut { link } => return Ok(cut(Some(&world.proxy), link)),
        Fault::CutAll => world.proxy.links().iter().for_each(|link| link.cut()),
        Fault::Stall { link, which, pause } => {
            return Ok(afflict(&world.proxy, link, which, Flow::Stalled, pause).await);
        }
        Fault::Swallow { link, which, pause } => {
            return Ok(afflict(&world.proxy, link, which, Flow::Swallowed, pause).await);
        }
        Fault::HalfClose { link, which, pause } => {
            return Ok(afflict(&world.proxy, link, which, Flow::Ended, pause).await);
        }
        Fault::Trickle { link, which, pause } => {
            return Ok(afflict(&world.proxy, link, which, Flow::Trickle, pause).await);
        }
        Fault::FreezeClient { client, pause } => {
            return Ok(ordered(world.order(client, Order::Freeze(pause))));
        }
        Fault::CrashClient { client } => return Ok(ordered(world.order(client, Order::Crash))),
        Fault::TakeOver { member } => return Ok(ordered(world.take_over(member))),
    }
    Ok(Injected::Yes)
}

async fn database(world: &World, fault: Fault) -> Result<Injected> {
    let Some(postgres) = &world.postgres else { return none() };
    match fault {
        Fault::KillPostgres { down } => {
            let Some(victim) = postgres.victim() else { return none() };
            victim.kill(down).await?;
        }
        // These need a PostgreSQL that answers, which another fault may have seen to just now.
        Fault::LoseNotices | Fault::TerminateBackends => {
            let terminated = postgres.terminate_backends(fault == Fault::LoseNotices).await;
            if terminated.unwrap_or_default() == 0 {
                return none();
            }
        }
        Fault::HoldHead { pause } => {
            if postgres.hold_head(pause).await.is_err() {
                return none();
            }
        }
        _ => return none(),
    }
    Ok(Injected::Yes)
}

fn none() -> Result<Injected> {
    Ok(Injected::NoVictim)
}

fn ordered(taken: bool) -> Injected {
    if taken { Injected::Yes } else { Injected::NoVictim }
}

fn pick<T>(from: &[Arc<T>], number: usize) -> &T {
    &from[number % from.len()]
}

fn cut(proxy: Option<&Proxy>, number: usize) -> Injected {
    let links = proxy.map(Proxy::links).unwrap_or_default();
    if links.is_empty() {
        return Injected::NoVictim;
    }
    links[number % links.len()].cut();
    Injected::Yes
}

/// Does something to a connection for a while.
async fn afflict(
    proxy: &Proxy,
    number: usize,
    which: Which,
    flow: Flow,
    pause: Duration,
) -> Injected {
    let links = proxy.links();
    if links.is_empty() {
        return Injected::NoVictim;
    }
    let link = &links[number % links.len()];
    set(link, which, flow);
    sleep(pause).await;
    link.heal();
    Injected::Yes
}

fn set(link: &Link, which: Which, flow: Flow) {
    for direction in [Direction::Up, Direction::Down] {
        let chosen = match which {
            Which::Up => direction == Direction::Up,
            Which::Down => direction == Direction::Down,
            Which::Both => true,
        };
        if chosen {
            link.set(direction, flow);
        }
    }
}
