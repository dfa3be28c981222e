//! What a reader saw, each event once, and what it has to have seen.

use crate::{content::Seen, interest::Interest, log::Log};

/// See the module.
#[derive(Debug)]
pub(crate) struct Journal {
    interest: Interest,
    /// Positions and fingerprints, rising.
    seen: Vec<(u64, u64)>,
    /// How many of `seen`, and how much of the log, agree.
    checked: (usize, u64),
}

/// What a delivery is to a reader that drops what it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Novelty {
    New,
    Repeated,
}

impl Journal {
    pub(crate) fn new(interest: Interest) -> Self {
        Self { interest, seen: Vec::new(), checked: (0, 0) }
    }

    /// The last position that was seen.
    pub(crate) fn last(&self) -> u64 {
        self.seen.last().map_or(0, |(position, _)| *position)
    }

    /// Whether the event at a position was seen.
    pub(crate) fn has(&self, position: u64) -> bool {
        self.seen.binary_search_by_key(&position, |(position, _)| *position).is_ok()
    }

    /// Takes a delivery.
    ///
    /// # Errors
    ///
    /// It is nothing that the reader asked for, comes too late, or is another than it was before.
    pub(crate) fn see(&mut self, event: &Seen) -> Result<Novelty, String> {
        if !self.interest.includes(event) {
            return Err(format!("got what it did not ask for: {event:?}"));
        }
        let entry = (event.position, event.fingerprint());
        if event.position > self.last() {
            self.seen.push(entry);
            return Ok(Novelty::New);
        }
        match self.seen.binary_search_by_key(&event.position, |(position, _)| *position) {
            Ok(at) if self.seen[at] == entry => Ok(Novelty::Repeated),
            Ok(_) => Err(format!("got another event than before: {event:?}")),
            Err(_) => Err(format!("got {} and only then what goes before: {event:?}", self.last())),
        }
    }

    /// Whether it has everything of the log that it has to have.
    pub(crate) fn is_complete(&self, log: &Log) -> bool {
        let last = log.after(self.last()).iter().rev().find(|event| self.interest.includes(event));
        last.is_none()
    }

    /// Holds what was seen against the log. Returns the first difference.
    pub(crate) fn check(&mut self, log: &Log) -> Option<String> {
        let (mut at, from) = self.checked;
        for event in log.after(from).iter().filter(|event| self.interest.includes(event)) {
            match self.seen.get(at) {
                Some((position, fingerprint)) if *position == event.position => {
                    if *fingerprint != event.fingerprint() {
                        return Some(format!("saw something else than the log has: {event:?}"));
                    }
                }
                Some((position, _)) if *position < event.position => {
                    return Some(format!("saw {position}, which the log does not have for it"));
                }
                Some((position, _)) => {
                    return Some(format!(
                        "never saw {event:?}; the next that it saw is {position}"
                    ));
                }
                None => {
                    let last = self.last();
                    return Some(format!("never saw {event:?}; the last that it saw is {last}"));
                }
            }
            at += 1;
        }
        self.checked = (at, log.head());
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(position: u64) -> Seen {
        Seen {
            position,
            revision: position - 1,
            id: uuid::Uuid::from_u128(position.into()),
            stream: "order-1".to_owned(),
            event_type: "T".to_owned(),
            content: position,
            number: 1,
        }
    }

    fn log(events: u64) -> Log {
        let mut log = Log::default();
        assert!(log.extend((1..=events).map(event).collect()).is_empty());
        log
    }

    /// What is wrong after a reader of a log of four events was given these.
    fn wrong(positions: &[u64]) -> Option<String> {
        let mut journal = Journal::new(Interest::All);
        for position in positions {
            if let Err(wrong) = journal.see(&event(*position)) {
                return Some(wrong);
            }
        }
        journal.check(&log(4))
    }

    #[test]
    fn each_event_has_to_come_once_in_order_and_may_come_again() {
        for (positions, right) in [
            (&[1, 2, 3, 4][..], true),
            (&[1, 2, 1, 2, 3, 3, 4], true),
            (&[1, 2, 4], false),
            (&[1, 2, 3], false),
            (&[1, 3, 2, 4], false),
            (&[1, 2, 3, 4, 5], true), // the log was read before
            (&[], false),
        ] {
            let wrong = wrong(positions);
            assert_eq!(wrong.is_none(), right, "{positions:?}: {wrong:?}");
        }
    }

    #[test]
    fn another_event_at_a_position_is_found_at_once_and_in_the_end() {
        let other = Seen { content: 99, ..event(1) };
        let mut journal = Journal::new(Interest::All);
        assert_eq!(journal.see(&other), Ok(Novelty::New));
        assert!(journal.see(&event(1)).is_err());
        assert!(journal.check(&log(1)).is_some());
    }

    #[test]
    fn a_reader_is_given_nothing_that_it_did_not_ask_for() {
        assert!(Journal::new(Interest::Stream).see(&event(1)).is_err());
        assert!(Journal::new(Interest::Category).see(&event(1)).is_ok());
    }
}
