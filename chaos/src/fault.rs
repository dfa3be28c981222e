//! Faults: their kinds, and which comes when by the seed.

use std::{fmt, time::Duration};

use crate::random::Random;

/// What can be done to a world. A number of a server or a connection is taken modulo how many
/// there are at the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// `kill -9` of a server.
    KillServer { server: usize, down: Duration },
    /// SIGTERM to a server.
    DrainServer { server: usize, down: Duration },
    /// SIGSTOP of a server, SIGCONT after a while: to it, its clocks jump forwards.
    FreezeServer { server: usize, pause: Duration },
    /// `kill -9` of every process of PostgreSQL.
    KillPostgres { down: Duration },
    /// The connections that listen for notices are terminated: notices are lost.
    LoseNotices,
    /// Every connection of the servers to PostgreSQL is terminated.
    TerminateBackends,
    /// A foreign transaction holds the lock of all appends.
    HoldHead { pause: Duration },
    /// The database has no room: no file may be written beyond a small size.
    FillDisk { server: usize, kibibytes: u64, pause: Duration },
    /// A connection between a server and PostgreSQL is cut.
    CutDatabase { link: usize },
    /// Connections between servers and PostgreSQL carry nothing for a while.
    StallDatabase { pause: Duration },
    /// What a connection between a server and PostgreSQL carries is swallowed, then it is cut.
    SwallowDatabase { link: usize, pause: Duration },
    /// A client's connection is cut.
    Cut { link: usize },
    /// Every client's connection is cut at once.
    CutAll,
    /// A client's connection carries nothing one way, or both, for a while.
    Stall { link: usize, which: Which, pause: Duration },
    /// What a client's connection carries is swallowed, then it is cut.
    Swallow { link: usize, which: Which, pause: Duration },
    /// One half of a client's connection is closed; after a while it is cut.
    HalfClose { link: usize, which: Which, pause: Duration },
    /// A client's connection carries little at a time.
    Trickle { link: usize, which: Which, pause: Duration },
    /// A client reads nothing for a while.
    FreezeClient { client: usize, pause: Duration },
    /// A client crashes: its socket is dropped, and what it had not recorded is forgotten.
    CrashClient { client: usize },
    /// Another session takes a consumer over.
    TakeOver { member: usize },
}

/// Which direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    Up,
    Down,
    Both,
}

impl Fault {
    /// What it is counted as.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::KillServer { .. } => "server killed (-9)",
            Self::DrainServer { .. } => "server drained (SIGTERM)",
            Self::FreezeServer { .. } => "server frozen, its clock jumps (SIGSTOP)",
            Self::KillPostgres { .. } => "PostgreSQL killed (-9)",
            Self::LoseNotices => "listener terminated, notices lost",
            Self::TerminateBackends => "database connections terminated",
            Self::HoldHead { .. } => "append lock held by another",
            Self::FillDisk { .. } => "disk full",
            Self::CutDatabase { .. } => "database connection cut",
            Self::StallDatabase { .. } => "database connections stalled",
            Self::SwallowDatabase { .. } => "database connection a black hole",
            Self::Cut { .. } => "connection cut (RST)",
            Self::CutAll => "every connection cut",
            Self::Stall { .. } => "connection stalled",
            Self::Swallow { .. } => "connection a black hole",
            Self::HalfClose { .. } => "connection half closed",
            Self::Trickle { .. } => "connection trickles",
            Self::FreezeClient { .. } => "client frozen",
            Self::CrashClient { .. } => "client crashed",
            Self::TakeOver { .. } => "consumer taken over",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// What a world has that faults can be done to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scope {
    pub(crate) postgres: bool,
    pub(crate) consumers: bool,
}

/// The faults of a seed, one after the other, each with the pause before it.
#[derive(Debug)]
pub(crate) struct Schedule {
    random: Random,
    scope: Scope,
}

impl Schedule {
    pub(crate) fn new(seed: u64, scope: Scope) -> Self {
        Self { random: Random::new(seed, "faults"), scope }
    }

    /// The next fault.
    pub(crate) fn next(&mut self) -> (Duration, Fault) {
        // Now and then several at once.
        let pause = if self.random.once_in(4) { 0..30 } else { 100..1200 };
        let pause = self.random.millis(pause);
        loop {
            if let Some(fault) = self.draw() {
                return (pause, fault);
            }
        }
    }

    fn draw(&mut self) -> Option<Fault> {
        let random = &mut self.random;
        let which = [Which::Up, Which::Down, Which::Both][random.index(3)];
        let (server, link, client) = (random.index(64), random.index(64), random.index(64));
        let pause = random.millis(300..4000);
        let down = random.millis(0..1500);
        let draw = random.range(0..100);
        let kibibytes = 1 << random.range(6..12);
        // A lease of a consumer group lasts 10 s: now and then time stands still for longer.
        let long = if random.once_in(12) { random.millis(10_500..13_000) } else { pause };
        let fault = match draw {
            0..12 => Fault::KillServer { server, down },
            12..18 => Fault::DrainServer { server, down },
            18..22 => Fault::FreezeServer { server, pause: long },
            22..27 => Fault::KillPostgres { down },
            27..30 => Fault::LoseNotices,
            30..33 => Fault::TerminateBackends,
            33..35 => Fault::HoldHead { pause: pause.min(Duration::from_secs(2)) },
            35..38 => {
                Fault::FillDisk { server, kibibytes, pause: pause.min(Duration::from_secs(2)) }
            }
            38..41 => Fault::CutDatabase { link },
            41..43 => Fault::StallDatabase { pause },
            43..45 => Fault::SwallowDatabase { link, pause },
            45..57 => Fault::Cut { link },
            57..60 => Fault::CutAll,
            60..66 => Fault::Stall { link, which, pause },
            66..71 => Fault::Swallow { link, which, pause },
            71..76 => Fault::HalfClose { link, which, pause },
            76..79 => Fault::Trickle { link, which, pause },
            79..87 => Fault::FreezeClient { client, pause: long },
            87..97 => Fault::CrashClient { client },
            _ => Fault::TakeOver { member: client },
        };
        let needs_postgres = matches!(
            fault,
            Fault::KillPostgres { .. }
                | Fault::LoseNotices
                | Fault::TerminateBackends
                | Fault::HoldHead { .. }
                | Fault::CutDatabase { .. }
                | Fault::StallDatabase { .. }
                | Fault::SwallowDatabase { .. }
        );
        let possible = (!needs_postgres || self.scope.postgres)
            && (self.scope.consumers || !matches!(fault, Fault::TakeOver { .. }));
        possible.then_some(fault)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn faults(seed: u64, scope: Scope) -> Vec<(Duration, Fault)> {
        let mut schedule = Schedule::new(seed, scope);
        (0..1000).map(|_| schedule.next()).collect()
    }

    fn kinds(scope: Scope) -> BTreeSet<&'static str> {
        faults(1, scope).iter().map(|(_, fault)| fault.kind()).collect()
    }

    #[test]
    fn a_seed_always_gives_the_same_faults() {
        let scope = Scope { postgres: true, consumers: true };
        assert_eq!(faults(1, scope), faults(1, scope));
        assert_ne!(faults(1, scope), faults(2, scope));
    }

    #[test]
    fn every_kind_comes_where_it_is_possible() {
        assert_eq!(kinds(Scope { postgres: true, consumers: true }).len(), 20);
        assert_eq!(kinds(Scope { postgres: false, consumers: true }).len(), 13);
        assert_eq!(kinds(Scope { postgres: false, consumers: false }).len(), 12);
    }
}
