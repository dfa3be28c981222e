//! Random numbers from a seed: SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
//!
//! Our own, and small, so that a seed means the same faults whatever version of a crate is used.

use std::{ops::Range, time::Duration};

/// A source of random numbers.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// The source of `seed` for one purpose: sources of different purposes do not run in step.
    pub(crate) fn new(seed: u64, purpose: &str) -> Self {
        let mut random = Self(seed ^ crate::content::fnv(purpose.as_bytes()));
        random.next();
        random
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number of the range, which must not be empty.
    pub(crate) fn range(&mut self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    /// An index into something of this length, which must not be 0.
    pub(crate) fn index(&mut self, length: usize) -> usize {
        self.range(0..length as u64) as usize
    }

    /// True once in `n` times.
    pub(crate) fn once_in(&mut self, n: u64) -> bool {
        self.range(0..n) == 0
    }

    /// A duration of so many milliseconds.
    pub(crate) fn millis(&mut self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.range(range))
    }

    /// A UUID of version 4.
    pub(crate) fn uuid(&mut self) -> uuid::Uuid {
        let bytes = (u128::from(self.next()) << 64) | u128::from(self.next());
        uuid::Builder::from_random_bytes(bytes.to_be_bytes()).into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn a_seed_and_a_purpose_always_give_the_same_numbers() {
        let numbers = |seed, purpose| {
            let mut random = Random::new(seed, purpose);
            (0..8).map(|_| random.range(0..1000)).collect::<Vec<_>>()
        };
        assert_eq!(numbers(1, "faults"), numbers(1, "faults"));
        assert_ne!(numbers(1, "faults"), numbers(2, "faults"));
        assert_ne!(numbers(1, "faults"), numbers(1, "writers"));
    }
}
