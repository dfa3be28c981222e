//! Everything together: the clients, the log, the connections between them, and what goes wrong.

use std::time::{Duration, Instant};

use tidewire_eventstore::EventId;
use tidewire_protocol::{CloseCode, Input};
use uuid::Uuid;

use crate::{
    app::{Kind, Made},
    chance::Chance,
    client,
    link::Pipe,
    log::Log,
    seat::{Attempt, Seat},
    server::{self, ServerConn},
    store::Audience,
};

/// One connection: both pipes and the server's end.
struct Connection {
    number: u64,
    up: Pipe,
    down: Pipe,
    server: ServerConn,
    /// When the server learns that the socket is gone.
    gone_at: Option<Instant>,
}

/// What a world is made to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// One client, without acknowledgements.
    Plain,
    /// One to three clients that acknowledge, by themselves, as a consumer and in a group.
    Reliable,
}

pub(crate) struct World {
    seed: u64,
    scenario: Scenario,
    chance: Chance,
    began: Instant,
    now: Instant,
    pub(crate) log: Log,
    seats: Vec<Seat>,
    connections: Vec<Connection>,
    restores: bool,
    recorded: u64,
    opened: u64,
    runs: u64,
}

impl World {
    pub(crate) fn new(seed: u64, scenario: Scenario) -> Self {
        let mut chance = Chance::new(seed);
        let now = Instant::now();
        // A restored log forgets settled appends, so those worlds have none by the client.
        let restores = scenario == Scenario::Plain && chance.once_in(4);
        let mut world = Self {
            seed,
            scenario,
            chance,
            began: now,
            now,
            log: Log::new(),
            seats: Vec::new(),
            connections: Vec::new(),
            restores,
            recorded: 0,
            opened: 0,
            runs: 0,
        };
        world.log.consumers.max_attempts = server::config().delivery.max_attempts;
        let seats = match scenario {
            Scenario::Plain => 1,
            Scenario::Reliable => world.chance.within(1, 3),
        };
        for number in 0..seats {
            let mut apps = Vec::new();
            if scenario == Scenario::Reliable {
                let mut window = || world.chance.within(2, 12) as u32;
                apps.push((Kind::Group("many"), window()));
                apps.push((Kind::Exclusive("one"), window()));
                if number == 0 {
                    apps.push((Kind::Own, window()));
                }
            }
            world.runs += 1;
            let seat = Seat::new(world.runs, apps, now, &mut world.chance);
            world.seats.push(seat);
        }
        world
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
        for seat in &self.seats {
            soonest(seat.client.next());
            soonest(seat.cut_at.map(|(at, _)| at));
        }
        for connection in &self.connections {
            soonest(connection.up.next());
            soonest(connection.down.next());
            soonest(connection.server.next());
        }
        self.now = next.max(self.now + Duration::from_micros(100));
        if storm {
            self.act();
            for seat in 0..self.seats.len() {
                self.fault(seat);
            }
        }
        for seat in 0..self.seats.len() {
            self.connect(seat, storm);
        }
        self.carry(storm);
    }

    /// Programs do what they do.
    fn act(&mut self) {
        let rare = if self.scenario == Scenario::Plain { 4 } else { 24 };
        if self.chance.once_in(rare) {
            for _ in 0..self.chance.within(1, 4) {
                self.recorded += 1;
                let id = EventId::from(Uuid::from_u128(u128::from(self.recorded)));
                let stream = client::stream(&mut self.chance);
                let event_type = client::event_type(&mut self.chance);
                self.log.record(&stream, &event_type, id, "{\"by\":\"another\"}".into());
            }
        }
        for seat in &mut self.seats {
            let client = &mut seat.client;
            if !self.restores && self.chance.once_in(rare * 3) {
                client.append(self.now, &mut self.chance);
            }
            if self.chance.once_in(200) {
                client.resubscribe(self.now, &mut self.chance);
            }
            for app in &mut client.apps {
                if self.chance.once_in(600) {
                    let long = Duration::from_millis(self.chance.within(0, 9000));
                    app.freeze(self.now + long);
                }
            }
        }
        if self.scenario == Scenario::Reliable && self.chance.once_in(300) {
            self.log.consumers.replay();
        }
    }

    fn connection(&mut self, number: Option<u64>) -> Option<&mut Connection> {
        let number = number?;
        self.connections.iter_mut().find(|connection| connection.number == number)
    }

    /// Things go wrong.
    fn fault(&mut self, seat: usize) {
        let after = self.millis(0, 300);
        let now = self.now;
        let dice = self.chance.within(0, 900);
        let current = self.seats[seat].current;
        if self.connection(current).is_none() {
            return;
        }
        let cut_at = &mut self.seats[seat].cut_at;
        match dice {
            0..=4 => drop(cut_at.get_or_insert((now + after, CloseCode::ABNORMAL))),
            5..=6 => drop(cut_at.get_or_insert((now, CloseCode::ABNORMAL))),
            16 => drop(cut_at.get_or_insert((now + after, CloseCode::ABNORMAL))),
            17 => return self.kill(seat),
            _ => {}
        }
        let Some(connection) =
            self.connections.iter_mut().find(|connection| Some(connection.number) == current)
        else {
            return;
        };
        match dice {
            0..=4 | 7..=8 => drop(connection.gone_at.get_or_insert(now)),
            9 => connection.down.black_hole = true,
            10 => connection.up.black_hole = true,
            11 => {
                connection.down.black_hole = true;
                connection.up.black_hole = true;
            }
            12..=13 => {
                let drain = Input::Drain { reconnect_after: after };
                connection.server.hand_in(drain, &self.log, now);
            }
            14..=15 if self.restores => {
                let head = self.log.head().get();
                let kept = self.chance.within(head.saturating_sub(40), head);
                self.log.restore(kept as usize);
                for connection in &mut self.connections {
                    connection.gone_at.get_or_insert(now);
                }
                self.seats[seat].cut_at.get_or_insert((now, CloseCode::ABNORMAL));
            }
            // The node dies, and lets go of nothing.
            16 => self.connections.retain(|connection| Some(connection.number) != current),
            _ => {}
        }
    }

    /// A client's program dies.
    fn kill(&mut self, seat: usize) {
        let after = self.millis(0, 300);
        let gone_at = self.now + after;
        let current = self.seats[seat].current;
        if let Some(connection) = self.connection(current) {
            connection.gone_at.get_or_insert(gone_at);
        }
        self.runs += 1;
        self.seats[seat].restart(self.runs, self.now, &mut self.chance);
    }

    /// Attempts to connect succeed, fail or hang.
    fn connect(&mut self, at: usize, storm: bool) {
        let now = self.now;
        if std::mem::take(&mut self.seats[at].client.wants_connection) {
            let later = now + self.millis(1, 400);
            let fails = storm && self.chance.once_in(3);
            let attempt = if fails { Attempt::Fails(later) } else { Attempt::Opens(later) };
            self.seats[at].attempt = Some(attempt);
        }
        let seat = &mut self.seats[at];
        match seat.attempt {
            Some(Attempt::Opens(at)) if at <= now => {
                seat.attempt = None;
                self.opened += 1;
                let number = self.opened;
                let run = seat.client.run;
                let server = ServerConn::new(number, run, &self.log, now, &mut self.chance);
                let (up, down) = (Pipe::default(), Pipe::default());
                self.connections.push(Connection { number, up, down, server, gone_at: None });
                seat.current = Some(number);
                seat.cut_at = None;
                seat.client.opened(now, &mut self.chance);
            }
            Some(Attempt::Fails(at)) if at <= now => {
                seat.attempt = None;
                seat.client.lost(CloseCode::ABNORMAL, now, &mut self.chance);
            }
            _ => {}
        }
    }

    /// Bytes move, and all ends do what they can.
    fn carry(&mut self, storm: bool) {
        let now = self.now;
        for at in 0..self.seats.len() {
            self.carry_client(at, storm);
        }
        let currents: Vec<u64> = self.seats.iter().filter_map(|seat| seat.current).collect();
        for connection in &mut self.connections {
            let Connection { number, up, down, server, gone_at } = connection;
            // Nobody is there to read what still arrives of an earlier connection.
            while !currents.contains(number) && down.arrive(now).is_some() {}
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

    fn carry_client(&mut self, at: usize, storm: bool) {
        let now = self.now;
        if let Some((cut_at, code)) = self.seats[at].cut_at
            && cut_at <= now
        {
            self.lose(at, code);
        }
        let seat = &mut self.seats[at];
        let mut connection =
            self.connections.iter_mut().find(|connection| Some(connection.number) == seat.current);
        if let Some(Connection { up, down, .. }) = connection.as_deref_mut() {
            while let Some(part) = down.arrive(now) {
                if let Some(code) = seat.client.receive(&part, up, now, &mut self.chance) {
                    seat.cut_at.get_or_insert((now, code));
                    break;
                }
            }
        }
        let up = connection.map(|connection| &mut connection.up);
        let killed = seat.client.pump(&self.log, up, now, storm, &mut self.chance);
        let made = seat.client.apps.iter_mut().flat_map(|app| app.made.drain(..));
        for (audience, position, made) in made {
            let truth = self.log.consumers.truth(&audience);
            match made {
                Made::Done => truth.done.insert(position),
                Made::PutAside => truth.put_aside.insert(position),
            };
        }
        if killed {
            return self.kill(at);
        }
        if std::mem::take(&mut seat.client.wants_close) {
            seat.attempt = None;
            seat.cut_at = None;
            let current = seat.current.take();
            let after = self.millis(0, 300);
            if let Some(connection) = self.connection(current) {
                connection.gone_at.get_or_insert(now + after);
            }
        }
    }

    /// A client's socket ends.
    fn lose(&mut self, at: usize, code: CloseCode) {
        let after = self.millis(0, 300);
        let gone_at = self.now + after;
        let seat = &mut self.seats[at];
        seat.cut_at = None;
        if let Some(current) = seat.current.take() {
            seat.client.lost(code, self.now, &mut self.chance);
            if let Some(connection) = self.connection(Some(current)) {
                connection.gone_at.get_or_insert(gone_at);
            }
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
            let number = connection.number;
            let drained = connection.down.unsent.is_empty() && connection.down.next().is_none();
            if let Some(seat) = self.seats.iter().position(|seat| seat.current == Some(number)) {
                let swallowed = connection.down.black_hole;
                if swallowed || !(drained || code.is_abrupt()) {
                    at += 1;
                    continue;
                }
                self.lose(seat, CloseCode::ABNORMAL);
            }
            let mut connection = self.connections.remove(at);
            connection.server.settle_with_store(&mut self.log);
        }
    }

    /// From now on nothing new goes wrong; what is broken stays so until it is noticed.
    pub(crate) fn end_storm(&mut self) {
        for (number, seat) in self.seats.iter_mut().enumerate() {
            if let Some(Attempt::Fails(at)) = seat.attempt {
                seat.attempt = Some(Attempt::Opens(at));
            }
            // One client is there for every consumer from now on.
            seat.keeps = number == 0;
            seat.client.keeps = seat.keeps;
            for app in seat.client.apps.iter_mut().filter(|app| app.ended) {
                app.again_at = seat.keeps.then_some(self.now);
            }
        }
    }

    /// What is not as it should be, if anything.
    pub(crate) fn complaint(&self) -> Option<String> {
        if self.connections.len() != self.seats.len() {
            return Some(format!("{} connections", self.connections.len()));
        }
        for seat in &self.seats {
            let (client, state) = (&seat.client, seat.client.core.state());
            if !client.unsettled.is_empty() {
                return Some("appends are not settled".to_owned());
            }
            for (sub, seen) in &client.seen {
                if !seen.live || !seen.is_complete(&self.log) {
                    let (count, live) = (seen.events.len(), seen.live);
                    let what = format!("subscription {sub} has {count} events, live: {live}");
                    return Some(format!("{what}, client {state:?}"));
                }
            }
            for app in client.apps.iter().filter(|app| !app.ended) {
                if !app.live {
                    return Some(format!("{:?} is not live, client {state:?}", app.kind));
                }
                if let Audience::Own { .. } = app.audience {
                    let truth = self.log.consumers.truth.get(&app.audience);
                    let lost = self.log.events.iter().find(|event| {
                        let at = event.position;
                        let made = truth
                            .is_some_and(|of| of.done.contains(&at) || of.put_aside.contains(&at));
                        !made && !app.parked.contains(&at)
                    });
                    if let Some(lost) = lost {
                        return Some(format!("{:?}: {} is not settled", app.kind, lost.position));
                    }
                }
            }
        }
        self.log.consumers.undone(&self.log.events)
    }

    pub(crate) fn assert_well(&self) {
        let seed = self.seed;
        if let Some(complaint) = self.complaint() {
            panic!("seed {seed}: {complaint}");
        }
        for (id, settled) in self.seats.iter().flat_map(|seat| &seat.client.settled) {
            let recorded: Vec<_> = self.log.events.iter().filter(|event| event.id == *id).collect();
            assert_eq!(recorded.len(), 1, "seed {seed}: an append took effect once");
            assert_eq!(recorded[0].position, settled.position, "seed {seed}");
            assert_eq!(recorded[0].revision, settled.revision, "seed {seed}");
            assert_eq!(recorded[0].stream, settled.stream, "seed {seed}");
        }
    }
}
