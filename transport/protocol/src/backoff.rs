//! Exponential backoff with jitter. The randomness is passed in, so that a test can choose it.

use std::time::Duration;

/// How long to wait between attempts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// The delay before the first retry.
    pub initial: Duration,
    /// The longest delay, before jitter.
    pub max: Duration,
    /// What each delay is multiplied by to give the next; at least 1.
    pub multiplier: f64,
    /// How much of a delay is left to chance, 0 to 1: at 0.5 a delay of 10 s becomes 5 to 10 s.
    pub jitter: f64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(250),
            max: Duration::from_secs(30),
            multiplier: 2.0,
            jitter: 0.5,
        }
    }
}

impl Backoff {
    /// The delay before retry number `attempt`, counted from 0. `chance` is a random number from
    /// 0 to 1.
    pub fn delay(&self, attempt: u32, chance: f64) -> Duration {
        let exponent = i32::try_from(attempt).unwrap_or(i32::MAX);
        let grown = self.initial.as_secs_f64() * self.multiplier.max(1.0).powi(exponent);
        let whole = grown.min(self.max.as_secs_f64());
        let jitter = self.jitter.clamp(0.0, 1.0) * chance.clamp(0.0, 1.0);
        Duration::try_from_secs_f64(whole * (1.0 - jitter)).unwrap_or(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_longest_and_jitter_only_shortens_them() {
        let backoff = Backoff::default();
        let delays: Vec<u128> =
            [0, 1, 2, 6, 7, 100, u32::MAX].map(|n| backoff.delay(n, 0.0).as_millis()).to_vec();
        assert_eq!(delays, [250, 500, 1000, 16_000, 30_000, 30_000, 30_000]);
        assert_eq!(backoff.delay(7, 1.0), Duration::from_secs(15));
        assert_eq!(backoff.delay(7, f64::NAN), Duration::from_secs(30));
    }
}
