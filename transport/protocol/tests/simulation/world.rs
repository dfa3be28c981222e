//! Everything together: the client, the log, the connections between them, and what goes wrong.

use std::time::{Duration, Instant};

use tidewire_eventstore::EventId;
use tidewire_protocol::{CloseCode, Input};
use uuid::Uuid;

use crate::{
    chance::Chance,
    client::{self, Client},
    link::Pipe,
    log::Log,
    server::ServerConn,
};

/// One connection: both pipes and the server's end.
struct Connection {
    up: Pipe,
    down: Pipe,
    server: ServerConn,
    /// When the server learns that the socket is gone.
    gone_at: Option<Instant>,
}

/// What becomes of an attempt to connect.
enum Attempt {
    Opens(Instant),
    Fails(Instant),
}

pub(crate) struct World {
    seed: u64,
    chance: Chance,
    began: Instant,
    now: Instant,
    log: Log,
    client: Client,
    attempt: Option<Attempt>,
    connections: Vec<Connection>,
    /// Which of them is the client's, and when it learns that it was cut.
    current: Option<usize>,
    cut_at: Option<(Instant, CloseCode)>,
    restores: bool,
    recorded: u64,
    opened: u64,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let now = Instant::now();
        // A restored log forgets settled appends, so those worlds have none by the client.
        let restores = chance.once_in(4);
        Self {
            seed,
            client: Client::new(now, &mut chance),
            chance,
            began: now,
            now,
            log: Log::new(),
            attempt: None,
            connections: Vec::new(),
            current: None,
            cut_at: None,
            restores,
            recorded: 0,
            opened: 0,
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.now - self.began
    }

    fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.chance.within(from, to))
    }

    /// Jumps to the next thing that happens, at most 100 ms away, and lets it happen.
    pub(crate) fn step(&mut self, storm: bool) {
        let mut next = self.now + self.millis(1, 100);
        let mut soonest = |at: Option<Instant>| next = at.map_or(next, |at| next.min(at));
        soonest(self.client.core.next_timeout());
        soonest(self.cut_at.map(|(at, _)| at));
        for connection in &self.connections {
            soonest(connection.up.next());
            soonest(connection.down.next());
            soonest(connection.server.next());
        }
        self.now = next.max(self.now + Duration::from_micros(100));
        if storm {
            self.act();
            self.fault();
        }
        self.connect();
        self.carry();
    }

    /// Programs do what they do.
    fn act(&mut self) {
        if self.chance.once_in(4) {
            for _ in 0..self.chance.within(1, 4) {
                self.recorded += 1;
                let id = EventId::from(Uuid::from_u128(u128::from(self.recorded)));
                let stream = client::stream(&mut self.chance);
                let event_type = client::event_type(&mut self.chance);
                self.log.record(&stream, &event_type, id, "{\"by\":\"another\"}".into());
            }
        }
        if !self.restores && self.chance.once_in(12) {
            self.client.append(self.now, &mut self.chance);
        }
        if self.chance.once_in(200) {
            self.client.resubscribe(self.now, &mut self.chance);
        }
    }

    /// Things go wrong.
    fn fault(&mut self) {
        let after = self.millis(0, 300);
        let Some(current) = self.current else { return };
        match self.chance.within(0, 900) {
            0..=4 => {
                self.cut_at.get_or_insert((self.now + after, CloseCode::ABNORMAL));
                self.connections[current].gone_at.get_or_insert(self.now);
            }
            5..=6 => drop(self.cut_at.get_or_insert((self.now, CloseCode::ABNORMAL))),
            7..=8 => drop(self.connections[current].gone_at.get_or_insert(self.now)),
            9 => self.connections[current].down.black_hole = true,
            10 => self.connections[current].up.black_hole = true,
            11 => {
                self.connections[current].down.black_hole = true;
                self.connections[current].up.black_hole = true;
            }
            12..=13 => {
                let drain = Input::Drain { reconnect_after: after };
                let connection = &mut self.connections[current];
                connection.server.hand_in(drain, &self.log, self.now);
            }
            14..=15 if self.restores => {
                let head = self.log.head().get();
                let kept = self.chance.within(head.saturating_sub(40), head);
                self.log.restore(kept as usize);
                for connection in &mut self.connections {
                    connection.gone_at.get_or_insert(self.now);
                }
                self.cut_at.get_or_insert((self.now, CloseCode::ABNORMAL));
            }
            _ => {}
        }
    }

    /// Attempts to connect succeed, fail or hang.
    fn connect(&mut self) {
        if std::mem::take(&mut self.client.wants_connection) {
            let at = self.now + self.millis(1, 400);
            let fails = self.elapsed() < crate::STORM && self.chance.once_in(3);
            self.attempt = Some(if fails { Attempt::Fails(at) } else { Attempt::Opens(at) });
        }
        match self.attempt {
            Some(Attempt::Opens(at)) if at <= self.now => {
                self.attempt = None;
                self.opened += 1;
                let server = ServerConn::new(self.opened, &self.log, self.now, &mut self.chance);
                let (up, down) = (Pipe::default(), Pipe::default());
                self.connections.push(Connection { up, down, server, gone_at: None });
                self.current = Some(self.connections.len() - 1);
                self.cut_at = None;
                self.client.opened(self.now, &mut self.chance);
            }
            Some(Attempt::Fails(at)) if at <= self.now => {
                self.attempt = None;
                self.client.lost(CloseCode::ABNORMAL, self.now, &mut self.chance);
            }
            _ => {}
        }
    }

    /// Bytes move, and both ends do what they can.
    fn carry(&mut self) {
        let now = self.now;
        if let Some((at, code)) = self.cut_at
            && at <= now
        {
            self.lose(code);
        }
        if let Some(current) = self.current {
            let Connection { up, down, .. } = &mut self.connections[current];
            while let Some(part) = down.arrive(now) {
                if let Some(code) = self.client.receive(&part, up, now, &mut self.chance) {
                    self.cut_at.get_or_insert((now, code));
                    break;
                }
            }
        }
        let up = self.current.map(|current| &mut self.connections[current].up);
        self.client.pump(&self.log, up, now, &mut self.chance);
        if std::mem::take(&mut self.client.wants_close) {
            self.attempt = None;
            if let Some(current) = self.current.take() {
                let after = self.millis(0, 300);
                self.connections[current].gone_at.get_or_insert(now + after);
            }
            self.cut_at = None;
        }
        for (at, connection) in self.connections.iter_mut().enumerate() {
            let Connection { up, down, server, gone_at } = connection;
            // Nobody is there to read what still arrives of an earlier connection.
            while Some(at) != self.current && down.arrive(now).is_some() {}
            while let Some(part) = up.arrive(now) {
                server.receive(&part, now);
            }
            // A black hole swallows this, too.
            if gone_at.is_some_and(|at| at <= now) && !up.black_hole {
                server.hand_in(Input::Gone, &self.log, now);
            }
            server.pump(&mut self.log, down, now, &mut self.chance);
            up.accept(now, &mut self.chance);
            if down.accept(now, &mut self.chance) {
                server.progress_at = now;
            }
        }
        self.bury();
    }

    /// The client's socket ends.
    fn lose(&mut self, code: CloseCode) {
        self.cut_at = None;
        if let Some(current) = self.current.take() {
            let after = self.millis(0, 300);
            self.connections[current].gone_at.get_or_insert(self.now + after);
            self.client.lost(code, self.now, &mut self.chance);
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
            if self.current == Some(at) {
                let swallowed = connection.down.black_hole;
                if swallowed || !(drained || code.is_abrupt()) {
                    at += 1;
                    continue;
                }
                self.lose(CloseCode::ABNORMAL);
            }
            self.connections.remove(at);
            self.current = self.current.map(|current| current - usize::from(current > at));
        }
    }

    /// From now on nothing new goes wrong; what is broken stays so until it is noticed.
    pub(crate) fn end_storm(&mut self) {
        if let Some(Attempt::Fails(at)) = self.attempt {
            self.attempt = Some(Attempt::Opens(at));
        }
    }

    pub(crate) fn is_well(&self) -> bool {
        self.connections.len() == 1
            && self.client.unsettled.is_empty()
            && self.client.seen.values().all(|seen| seen.live)
            && self.client.seen.values().all(|seen| seen.is_complete(&self.log))
    }

    pub(crate) fn assert_well(&self) {
        let seed = self.seed;
        assert!(self.client.unsettled.is_empty(), "seed {seed}: appends are not settled");
        for (sub, seen) in &self.client.seen {
            let (count, state) = (seen.events.len(), self.client.core.state());
            assert!(
                seen.live && seen.is_complete(&self.log),
                "seed {seed}: subscription {sub} has {count} events, live: {}, client {state:?}",
                seen.live
            );
        }
        assert_eq!(self.connections.len(), 1, "seed {seed}: dead sessions are gone");
        for (id, settled) in &self.client.settled {
            let recorded: Vec<_> = self.log.events.iter().filter(|event| event.id == *id).collect();
            assert_eq!(recorded.len(), 1, "seed {seed}: an append took effect once");
            assert_eq!(recorded[0].position, settled.position, "seed {seed}");
            assert_eq!(recorded[0].revision, settled.revision, "seed {seed}");
            assert_eq!(recorded[0].stream, settled.stream, "seed {seed}");
        }
    }
}
