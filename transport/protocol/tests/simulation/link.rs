//! One connection's two directions: bytes are delayed and split, never reordered, and the whole
//! may be cut (one end or both notice) or turn into a black hole (nobody does).

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::BytesMut;

use crate::chance::Chance;

/// How many bytes are on their way at once, at most: what kernels and wires hold.
const CAPACITY: usize = 4096;

/// One direction.
#[derive(Default)]
pub(crate) struct Pipe {
    parts: VecDeque<(Instant, BytesMut)>,
    in_flight: usize,
    /// Written by the sender, not yet accepted.
    pub(crate) unsent: BytesMut,
    pub(crate) black_hole: bool,
}

impl Pipe {
    /// Accepts what fits, in random parts with random delays; whether anything moved.
    pub(crate) fn accept(&mut self, now: Instant, chance: &mut Chance) -> bool {
        let mut moved = false;
        while !self.unsent.is_empty() && self.in_flight < CAPACITY {
            let room = (CAPACITY - self.in_flight).min(self.unsent.len()) as u64;
            let len = if chance.once_in(3) { chance.within(1, room) } else { room } as usize;
            let part = self.unsent.split_to(len);
            let at = now + Duration::from_millis(chance.within(1, 80));
            // In order: never before what was sent earlier.
            let at = self.parts.back().map_or(at, |(last, _)| at.max(*last));
            self.in_flight += len;
            self.parts.push_back((at, part));
            moved = true;
        }
        moved
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        if self.black_hole { None } else { self.parts.front().map(|(at, _)| *at) }
    }

    /// The next part that has arrived.
    pub(crate) fn arrive(&mut self, now: Instant) -> Option<BytesMut> {
        if self.next()? > now {
            return None;
        }
        let (_, part) = self.parts.pop_front()?;
        self.in_flight -= part.len();
        Some(part)
    }
}
