//! What a consumer's events have come to: the effects they had, and those that had none.

use std::collections::{HashMap, HashSet};

use crate::{content::Seen, interest::Interest, log::Log};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// Fingerprints by position.
    had: HashMap<u64, u64>,
    /// By stream, the last event that had its effect for the first time.
    last: HashMap<String, u64>,
    /// What our members gave up, to be parked or passed over.
    given_up: HashSet<u64>,
    parked: HashSet<u64>,
    /// What brings down whoever is given it.
    poison: HashSet<u64>,
    /// How often each event was given to a member, and which attempt that was at last.
    given: HashMap<u64, (u32, u32)>,
    /// Through this position of the log, everything is settled and was compared.
    checked: u64,
}

/// Whether an effect was had before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settled {
    First,
    Again,
}

impl Effects {
    /// An event has its effect.
    ///
    /// # Errors
    ///
    /// It is another event than before, or a later one of its stream had its effect first.
    pub(super) fn effect(&mut self, event: &Seen) -> Result<Settled, String> {
        let fingerprint = event.fingerprint();
        match self.had.insert(event.position, fingerprint) {
            Some(before) if before == fingerprint => return Ok(Settled::Again),
            Some(_) => return Err(format!("got another event than before: {event:?}")),
            None => {}
        }
        // What was put aside comes when somebody has it replayed.
        if self.parked.contains(&event.position) || self.given_up.contains(&event.position) {
            return Ok(Settled::First);
        }
        let last = self.last.entry(event.stream.clone()).or_default();
        if event.position < *last {
            return Err(format!("got {last} of the stream and only then {event:?}"));
        }
        *last = event.position;
        Ok(Settled::First)
    }

    /// A member was given an event.
    pub(super) fn given(&mut self, position: u64, attempt: u32, is_poison: bool) {
        if is_poison {
            self.poison.insert(position);
        }
        let (times, last) = self.given.entry(position).or_default();
        *times += 1;
        *last = attempt;
    }

    /// A member gives an event up: it wants it parked, or passed over.
    pub(super) fn give_up(&mut self, position: u64) {
        self.given_up.insert(position);
    }

    /// An event is parked, because a member wanted it so (`ours`) or not. Whether that is news.
    ///
    /// # Errors
    ///
    /// No member wanted it.
    pub(super) fn parked(&mut self, position: u64, ours: bool) -> Result<bool, String> {
        if ours && !self.given_up.contains(&position) {
            return Err(format!("parked {position} for a reason that nobody gave"));
        }
        Ok(self.parked.insert(position))
    }

    /// How many events were parked though nothing was wrong with them and nobody gave them up: their
    /// attempts were spent by cuts and freezes that met them alone.
    pub(super) fn parked_unlucky(&self) -> usize {
        let lucky =
            |position: &&u64| !self.poison.contains(position) && !self.given_up.contains(position);
        self.parked.iter().filter(lucky).count()
    }

    /// Whether an event had its effect, or shall have none.
    pub(super) fn is_settled(&self, position: u64) -> bool {
        self.had.contains_key(&position)
            || self.parked.contains(&position)
            || self.given_up.contains(&position)
    }

    /// The first event that was to be consumed and is not settled.
    pub(super) fn first_unsettled(&self, log: &Log, interest: Interest) -> Option<u64> {
        let mut wanted = log.after(self.checked).iter().filter(|event| interest.includes(event));
        wanted.find(|event| !self.is_settled(event.position)).map(|event| event.position)
    }

    /// Holds the effects against the log. Returns the first difference.
    pub(super) fn check(&mut self, log: &Log, interest: Interest) -> Option<String> {
        for event in log.after(self.checked).iter().filter(|event| interest.includes(event)) {
            match self.had.get(&event.position) {
                Some(fingerprint) if *fingerprint != event.fingerprint() => {
                    return Some(format!("got something else than the log has: {event:?}"));
                }
                None if !self.is_settled(event.position) => {
                    let (times, last) =
                        self.given.get(&event.position).copied().unwrap_or_default();
                    return Some(format!(
                        "never had the effect of {event:?}; it was given it {times} times, at \
                         last as attempt {last}"
                    ));
                }
                _ => {}
            }
        }
        if let Some(beyond) = self.had.keys().find(|position| **position > log.head()) {
            return Some(format!("got {beyond}, and the log ends at {}", log.head()));
        }
        self.checked = log.head();
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(position: u64, stream: &str) -> Seen {
        Seen {
            position,
            revision: 0,
            id: uuid::Uuid::from_u128(position.into()),
            stream: stream.to_owned(),
            event_type: "T".to_owned(),
            content: position,
            number: 1,
        }
    }

    /// Three events of a stream.
    fn log() -> Log {
        let mut log = Log::default();
        let events = (1..=3).map(|at| Seen { revision: at - 1, ..event(at, "order-1") });
        assert!(log.extend(events.collect()).is_empty());
        log
    }

    fn of_log(position: u64) -> Seen {
        Seen { revision: position - 1, ..event(position, "order-1") }
    }

    #[test]
    fn every_event_has_to_have_its_effect_or_be_put_aside() {
        let mut effects = Effects::default();
        effects.effect(&of_log(1)).unwrap();
        effects.effect(&of_log(3)).unwrap();
        assert_eq!(effects.first_unsettled(&log(), Interest::All), Some(2));
        assert!(effects.check(&log(), Interest::All).is_some());
        assert_eq!(effects.parked(2, false), Ok(true));
        assert_eq!(effects.first_unsettled(&log(), Interest::All), None);
        assert_eq!(effects.check(&log(), Interest::All), None);
    }

    #[test]
    fn each_stream_has_its_effects_in_order_and_again_is_no_matter() {
        let mut effects = Effects::default();
        for (position, stream, right) in [
            (2, "a-1", Some(Settled::First)),
            (1, "b-1", Some(Settled::First)),
            (2, "a-1", Some(Settled::Again)),
            (4, "a-1", Some(Settled::First)),
            (3, "a-1", None),
        ] {
            let effect = effects.effect(&event(position, stream));
            assert_eq!(effect.clone().ok(), right, "{position} of {stream}: {effect:?}");
        }
    }

    #[test]
    fn nothing_is_parked_for_a_reason_that_nobody_gave() {
        let mut effects = Effects::default();
        assert!(effects.parked(1, true).is_err());
        effects.give_up(1);
        assert_eq!(effects.parked(1, true), Ok(true));
    }
}
