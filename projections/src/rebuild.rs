//! [`Pace`]: how fast a rebuild goes, of late.

use std::time::Duration;

use tidewire_eventstore::{Generation, GlobalPosition};
use tokio::time::Instant;

/// How much of the pace is decided by the time since the last look, where that is a second.
const NEWEST_SHARE: f64 = 0.3;

/// Positions a second of the generation that is being built, smoothed over some seconds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Pace {
    seen: Option<(Generation, GlobalPosition, Instant)>,
    events_per_second: f64,
}

impl Pace {
    /// Takes note of where the generation that is being built stands.
    pub(crate) fn observe(&mut self, building: Option<(Generation, GlobalPosition)>, now: Instant) {
        let Some((generation, position)) = building else {
            *self = Self::default();
            return;
        };
        let before = self.seen.filter(|(of, at, _)| *of == generation && *at <= position);
        let Some((_, from, since)) = before else {
            *self = Self { seen: Some((generation, position, now)), events_per_second: 0.0 };
            return;
        };
        let elapsed = now.duration_since(since);
        // Looks that are asked for may come close together.
        if elapsed < Duration::from_millis(100) {
            return;
        }
        let newest = position.distance_from(from) as f64 / elapsed.as_secs_f64();
        let share = 1.0 - (1.0 - NEWEST_SHARE).powf(elapsed.as_secs_f64());
        self.events_per_second = if self.events_per_second > 0.0 {
            self.events_per_second + share * (newest - self.events_per_second)
        } else {
            newest
        };
        self.seen = Some((generation, position, now));
    }

    pub(crate) fn events_per_second(&self) -> f64 {
        self.events_per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_follows_what_was_seen_and_begins_anew_with_another_generation() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let seen = |generation, position| {
            Some((Generation::new(generation), GlobalPosition::new(position)))
        };
        let mut pace = Pace::default();
        pace.observe(seen(2, 0), at(0));
        assert_eq!(pace.events_per_second(), 0.0);
        pace.observe(seen(2, 1000), at(1));
        assert_eq!(pace.events_per_second(), 1000.0);
        pace.observe(seen(2, 3000), at(2));
        assert!((1000.0..2000.0).contains(&pace.events_per_second()));
        for second in 3..60 {
            pace.observe(seen(2, second * 2000), at(second));
        }
        assert!((pace.events_per_second() - 2000.0).abs() < 20.0);
        pace.observe(seen(3, 10), at(60));
        assert_eq!(pace.events_per_second(), 0.0);
        pace.observe(None, at(61));
        assert_eq!(pace, Pace::default());
    }
}
