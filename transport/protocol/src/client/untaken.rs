//! What a subscription with acknowledgements has for the application and the application has not
//! taken: events by position, and news in order with them.
//!
//! Bounded however long the application sleeps: events by the window, news because later news
//! takes the place of earlier news that it makes pointless.

use std::collections::VecDeque;

use tidewire_eventstore::GlobalPosition;

use super::Notice;

/// The most positions that one piece of news about parked events names; older ones are left out.
/// The server keeps the whole list.
const PARKED_POSITIONS_MAX: usize = 1024;

/// One thing to take.
#[derive(Debug)]
pub(super) enum Untaken {
    /// The event at this position, if this is still the arrival with this number.
    Event(GlobalPosition, u64),
    /// News.
    Notice(Notice),
}

/// All of them, oldest first.
#[derive(Debug, Default)]
pub(super) struct UntakenQueue(VecDeque<Untaken>);

impl UntakenQueue {
    /// An event has arrived.
    pub(super) fn event(&mut self, position: GlobalPosition, number: u64) {
        self.0.push_back(Untaken::Event(position, number));
    }

    /// An event comes before everything else.
    pub(super) fn first(&mut self, position: GlobalPosition, number: u64) {
        self.0.push_front(Untaken::Event(position, number));
    }

    /// There is news.
    pub(super) fn notice(&mut self, notice: Notice) {
        if is_state(&notice) {
            // Of those of a kind in a row only the last one matters.
            let state =
                |untaken: &&Untaken| matches!(untaken, Untaken::Notice(last) if is_state(last));
            let row = self.0.iter().rev().take_while(state).count();
            let alike = |untaken: &Untaken| matches!(untaken, Untaken::Notice(last) if is_position(last) == is_position(&notice));
            let earlier = self.0.iter().rev().take(row).position(alike);
            if let Some(earlier) = earlier {
                self.0.remove(self.0.len() - 1 - earlier);
            }
        }
        if let Notice::Parked { positions: more, reason: why } = &notice
            && let Some(Untaken::Notice(Notice::Parked { positions, reason })) = self.0.back_mut()
            && reason == why
        {
            positions.extend(more);
            let over = positions.len().saturating_sub(PARKED_POSITIONS_MAX);
            positions.drain(..over);
            return;
        }
        self.0.push_back(Untaken::Notice(notice));
    }

    /// The oldest.
    pub(super) fn pop(&mut self) -> Option<Untaken> {
        self.0.pop_front()
    }

    /// The connection is gone: events come again, and so does news of how far they are.
    pub(super) fn drop_passing(&mut self) {
        self.0.retain(|untaken| match untaken {
            Untaken::Event(..) => false,
            Untaken::Notice(Notice::Subscribed { resumed, .. }) => !resumed,
            Untaken::Notice(notice) => !is_state(notice),
        });
    }

    /// Nothing that was said so far matters any more.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// Whether the notice says how far a subscription is, which the next such notice outdates.
fn is_state(notice: &Notice) -> bool {
    matches!(notice, Notice::Position(_) | Notice::Live(_) | Notice::Behind { .. })
}

fn is_position(notice: &Notice) -> bool {
    matches!(notice, Notice::Position(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(position: u64) -> GlobalPosition {
        GlobalPosition::new(position)
    }

    #[test]
    fn news_that_nobody_takes_does_not_pile_up() {
        let mut queue = UntakenQueue::default();
        queue.event(at(1), 1);
        for position in 1..10_000 {
            queue.notice(Notice::Live(at(position)));
            queue.notice(Notice::Behind { position: at(position), lag: 1 });
            queue.notice(Notice::Position(at(position)));
        }
        assert_eq!(queue.0.len(), 3, "the event, where it stands, and how far it looked");
        for position in 1..10_000 {
            queue.notice(Notice::Parked { positions: vec![at(position)], reason: "r".into() });
        }
        assert_eq!(queue.0.len(), 4);
        let Some(Untaken::Notice(Notice::Parked { positions, .. })) = queue.0.back() else {
            panic!("the last news is of parked events");
        };
        assert_eq!((positions.len(), positions[1023]), (PARKED_POSITIONS_MAX, at(9_999)));
    }
}
