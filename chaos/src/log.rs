//! The log as it is, read page by page over HTTP: what everything else is held against.

use std::collections::HashMap;

use crate::content::Seen;

/// Every event of the log, in order.
#[derive(Debug, Default)]
pub(crate) struct Log {
    events: Vec<Seen>,
    revisions: HashMap<String, u64>,
}

impl Log {
    /// The last position.
    pub(crate) fn head(&self) -> u64 {
        self.events.len() as u64
    }

    /// The events after a position.
    pub(crate) fn after(&self, position: u64) -> &[Seen] {
        &self.events[usize::try_from(position).unwrap_or(usize::MAX).min(self.events.len())..]
    }

    /// Adds what was read after the head. Returns what is wrong with it: positions have to be
    /// without a gap, and so have the revisions of each stream.
    pub(crate) fn extend(&mut self, events: Vec<Seen>) -> Vec<String> {
        let mut wrong = Vec::new();
        for event in events {
            let position = self.head() + 1;
            if event.position != position {
                wrong.push(format!("the log has {event:?} where position {position} belongs"));
            }
            let expected = self.revisions.get(&event.stream).map_or(0, |last| last + 1);
            if event.revision != expected {
                wrong.push(format!("the log has {event:?} where revision {expected} belongs"));
            }
            self.revisions.insert(event.stream.clone(), event.revision);
            self.events.push(event);
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(position: u64, revision: u64) -> Seen {
        Seen {
            position,
            revision,
            id: uuid::Uuid::from_u128(position.into()),
            stream: "s-1".to_owned(),
            event_type: "T".to_owned(),
            content: 1,
            number: 1,
        }
    }

    #[test]
    fn a_hole_in_positions_or_revisions_is_wrong() {
        assert!(Log::default().extend(vec![event(1, 0), event(2, 1)]).is_empty());
        assert_eq!(Log::default().extend(vec![event(1, 0), event(3, 1)]).len(), 1);
        assert_eq!(Log::default().extend(vec![event(1, 0), event(2, 2)]).len(), 1);
        assert_eq!(Log::default().extend(vec![event(2, 0)]).len(), 1);
    }
}
