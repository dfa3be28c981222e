//! Everything together: one program, the projection, the connections between them, and what goes
//! wrong.

use std::time::{Duration, Instant};

use tidewire_protocol::{CloseCode, Input, QueryReset};

use crate::{chance::Chance, link::Pipe, program::Program, projection::Projection, server::Server};

/// What was tried, so that a test of many seeds can tell that it tried everything.
#[derive(Debug, Default, Clone)]
pub(crate) struct Tally {
    pub(crate) pictures: u64,
    pub(crate) changes: u64,
    pub(crate) summaries: u64,
    pub(crate) behind: u64,
    pub(crate) resumed: u64,
    /// States told anew to who is live, after a swap and for other reasons.
    pub(crate) swapped: u64,
    pub(crate) restated: u64,
    /// Why subscriptions were not resumed, in the order of [`QueryReset::ALL`].
    resets: [u64; QueryReset::ALL.len()],
}

impl Tally {
    pub(crate) fn reset(&mut self, reset: QueryReset) {
        let at = QueryReset::ALL.iter().position(|each| *each == reset);
        self.resets[at.expect("it is one of all")] += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.pictures += other.pictures;
        self.changes += other.changes;
        self.summaries += other.summaries;
        self.behind += other.behind;
        self.resumed += other.resumed;
        self.swapped += other.swapped;
        self.restated += other.restated;
        for (sum, count) in self.resets.iter_mut().zip(other.resets) {
            *sum += count;
        }
    }

    pub(crate) fn assert_everything_was_tried(&self) {
        let Self { pictures, changes, summaries, behind, resumed, swapped, restated, .. } = *self;
        let counts = [pictures, changes, summaries, behind, resumed, swapped, restated];
        assert!(counts.iter().all(|count| *count > 0), "{self:?}");
        for (reset, count) in QueryReset::ALL.iter().zip(self.resets) {
            // In one epoch nobody is ahead: the log loses nothing.
            assert!(count > 0 || *reset == QueryReset::Ahead, "{reset:?} in {self:?}");
        }
    }
}

/// One connection: both pipes and the server's end.
struct Connection {
    number: u64,
    up: Pipe,
    down: Pipe,
    server: Server,
    /// When the server learns that the socket is gone.
    gone_at: Option<Instant>,
}

/// An attempt to connect.
enum Attempt {
    Opens(Instant),
    Fails(Instant),
}

pub(crate) struct World {
    chance: Chance,
    began: Instant,
    now: Instant,
    projection: Projection,
    program: Program,
    attempt: Option<Attempt>,
    current: Option<u64>,
    cut_at: Option<(Instant, CloseCode)>,
    connections: Vec<Connection>,
    opened: u64,
    restores: bool,
    /// Whether the next connection does not live long, so that a state is cut in its middle.
    cut_soon: bool,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let now = Instant::now();
        let program = Program::new(now, &mut chance);
        Self {
            restores: chance.once_in(4),
            chance,
            began: now,
            now,
            projection: Projection::new(),
            program,
            attempt: None,
            current: None,
            cut_at: None,
            connections: Vec::new(),
            opened: 0,
            cut_soon: false,
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.now - self.began
    }

    pub(crate) fn tally(self) -> Tally {
        self.program.tally
    }

    fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.chance.within(from, to))
    }

    /// Jumps to the next thing that happens, at most 100 ms away, and lets it happen.
    pub(crate) fn step(&mut self, storm: bool) {
        let mut next = self.now + self.millis(1, 100);
        let ends = self.connections.iter().flat_map(|connection| {
            [connection.up.next(), connection.down.next(), connection.server.next()]
        });
        let client = [self.program.core.next_timeout(), self.cut_at.map(|(at, _)| at)];
        for at in ends.chain(client).flatten() {
            next = next.min(at);
        }
        self.now = next.max(self.now + Duration::from_micros(100));
        if storm {
            if self.chance.once_in(5) {
                for _ in 0..self.chance.within(1, 4) {
                    self.projection.append(&mut self.chance);
                }
            }
            if self.chance.once_in(200) {
                self.program.rewatch(self.now, &mut self.chance);
            }
            if self.chance.once_in(100) && self.is_live() {
                self.projection.lose(&mut self.chance);
            }
            self.fault();
        }
        if self.chance.once_in(3) {
            self.projection.act(&mut self.chance, storm);
        }
        self.connect(storm);
        self.carry();
    }

    fn connection(&mut self) -> Option<&mut Connection> {
        let number = self.current?;
        self.connections.iter_mut().find(|connection| connection.number == number)
    }

    /// Whether every live query is shown as it is, and nothing of another state is on its way.
    /// Steps that a projection loses while a client reads them may be shown ahead of their time.
    fn is_live(&mut self) -> bool {
        let fed = self.connection().is_some_and(|connection| {
            let idle = connection.down.unsent.is_empty() && connection.down.next().is_none();
            idle && connection.server.is_live()
        });
        fed && self.program.is_live()
    }

    /// Things go wrong.
    fn fault(&mut self) {
        let after = self.millis(0, 300);
        let now = self.now;
        let dice = self.chance.within(0, 600);
        if self.connection().is_none() {
            return;
        }
        if matches!(dice, 0..=8) {
            let at = if dice < 5 { now + after } else { now };
            self.cut_at.get_or_insert((at, CloseCode::ABNORMAL));
        }
        if matches!(dice, 16..=20) && self.restores {
            return self.restore();
        }
        let Some(number) = self.current else { return };
        let connection = self.connections.iter_mut().find(|one| one.number == number);
        let Some(connection) = connection else { return };
        match dice {
            0..=4 | 9..=10 => drop(connection.gone_at.get_or_insert(now)),
            11 => connection.down.black_hole = true,
            12 => connection.up.black_hole = true,
            13 => {
                connection.down.black_hole = true;
                connection.up.black_hole = true;
            }
            14..=15 => {
                let drain = Input::Drain { reconnect_after: after };
                connection.server.hand_in(drain, &self.projection, now);
            }
            _ => {}
        }
    }

    /// The log and the documents are restored; nobody is connected while that is done.
    fn restore(&mut self) {
        let head = self.projection.head();
        let lost = if self.chance.once_in(2) { 0 } else { self.chance.within(0, 40) };
        let kept = head.saturating_sub(lost);
        self.cut_soon = self.chance.once_in(2);
        self.lose(CloseCode::ABNORMAL);
        self.program.pump(&mut self.projection, None, self.now, &mut self.chance);
        self.connections.clear();
        self.projection.restore(kept, &mut self.chance);
    }

    /// Attempts to connect succeed, fail or hang.
    fn connect(&mut self, storm: bool) {
        let now = self.now;
        if std::mem::take(&mut self.program.wants_connection) {
            let later = now + self.millis(1, 400);
            let fails = storm && self.chance.once_in(3);
            self.attempt = Some(if fails { Attempt::Fails(later) } else { Attempt::Opens(later) });
        }
        match self.attempt {
            Some(Attempt::Opens(at)) if at <= now => {
                self.attempt = None;
                self.opened += 1;
                let number = self.opened;
                let server = Server::new(number, &self.projection, now, &mut self.chance);
                let (up, down) = (Pipe::default(), Pipe::default());
                self.connections.push(Connection { number, up, down, server, gone_at: None });
                self.current = Some(number);
                self.cut_at = None;
                if std::mem::take(&mut self.cut_soon) {
                    let at = now + self.millis(50, 600);
                    self.cut_at = Some((at, CloseCode::ABNORMAL));
                }
                self.program.opened(now, &mut self.chance);
            }
            Some(Attempt::Fails(at)) if at <= now => {
                self.attempt = None;
                self.program.lost(CloseCode::ABNORMAL, now, &mut self.chance);
            }
            _ => {}
        }
    }

    /// Bytes move, and both ends do what they can.
    fn carry(&mut self) {
        let now = self.now;
        if let Some((_, code)) = self.cut_at.take_if(|(at, _)| *at <= now) {
            self.lose(code);
        }
        let current = self.current;
        let mut connection =
            self.connections.iter_mut().find(|connection| Some(connection.number) == current);
        if let Some(Connection { up, down, .. }) = connection.as_deref_mut() {
            while let Some(part) = down.arrive(now) {
                let closed = self.program.receive(&part, up, now, &mut self.chance);
                // What an application is told is compared with what was true when it was sent.
                self.program.pump(&mut self.projection, Some(&mut *up), now, &mut self.chance);
                if let Some(code) = closed {
                    self.cut_at.get_or_insert((now, code));
                    break;
                }
                if self.program.wants_close {
                    break;
                }
            }
        }
        let up = connection.map(|connection| &mut connection.up);
        self.program.pump(&mut self.projection, up, now, &mut self.chance);
        if std::mem::take(&mut self.program.wants_close) {
            self.attempt = None;
            self.cut_at = None;
            let gone_at = now + self.millis(0, 300);
            if let Some(connection) = self.connection() {
                connection.gone_at.get_or_insert(gone_at);
            }
            self.current = None;
        }
        for connection in &mut self.connections {
            let Connection { number, up, down, server, gone_at } = connection;
            // Nobody is there to read what still arrives of an earlier connection.
            while self.current != Some(*number) && down.arrive(now).is_some() {}
            while let Some(part) = up.arrive(now) {
                server.receive(&part, now);
            }
            if gone_at.is_some_and(|at| at <= now) && !up.black_hole {
                server.hand_in(Input::Gone, &self.projection, now);
            }
            server.pump(&mut self.projection, down, now, &mut self.chance);
            up.accept(now, &mut self.chance);
            if down.accept(now, &mut self.chance) {
                server.progress_at = now;
            }
        }
        self.bury();
    }

    /// The client's socket ends.
    fn lose(&mut self, code: CloseCode) {
        let gone_at = self.now + self.millis(0, 300);
        self.cut_at = None;
        if let Some(connection) = self.connection() {
            connection.gone_at.get_or_insert(gone_at);
        }
        if self.current.take().is_some() {
            self.program.lost(code, self.now, &mut self.chance);
        }
    }

    /// Connections that the server has ended disappear; the client learns of it sooner or later.
    fn bury(&mut self) {
        let mut at = 0;
        while at < self.connections.len() {
            let connection = &self.connections[at];
            let Some(code) = connection.server.closed else {
                at += 1;
                continue;
            };
            let drained = connection.down.unsent.is_empty() && connection.down.next().is_none();
            if self.current == Some(connection.number) {
                let swallowed = connection.down.black_hole;
                if swallowed || !(drained || code.is_abrupt()) {
                    at += 1;
                    continue;
                }
                self.lose(CloseCode::ABNORMAL);
            }
            self.connections.remove(at);
        }
    }

    /// What is not as it should be, if anything.
    pub(crate) fn complaint(&mut self) -> Option<String> {
        if self.projection.active.checkpoint < self.projection.head() {
            return Some("the projection is behind".to_owned());
        }
        if self.connections.len() != 1 {
            return Some(format!("{} connections", self.connections.len()));
        }
        self.program.complaint(&mut self.projection)
    }
}
