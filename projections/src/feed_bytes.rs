//! [`FeedBytes`]: keeps what slow followers hold in memory within a bound. What would exceed it is
//! told without its contents; whoever follows finds a hole then, and reads the store.

use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
};

use crate::feed::{Before, ChangeBatch};

/// The bytes of batches that somebody has yet to take.
#[derive(Debug)]
pub(crate) struct FeedBytes {
    bytes_max: usize,
    told: VecDeque<(Weak<ChangeBatch>, usize)>,
}

impl FeedBytes {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, told: VecDeque::new() }
    }

    /// The batch as it may be told: as it is, or without its contents.
    pub(crate) fn admit(&mut self, batch: ChangeBatch) -> Arc<ChangeBatch> {
        self.told.retain(|(batch, _)| batch.strong_count() > 0);
        let held: usize = self.told.iter().map(|(_, bytes)| bytes).sum();
        let bytes = bytes_of(&batch);
        let batch = if held.saturating_add(bytes) > self.bytes_max {
            ChangeBatch { after: batch.position, changes: Vec::new(), ..batch }
        } else {
            batch
        };
        let counted = if batch.changes.is_empty() { 0 } else { bytes };
        let batch = Arc::new(batch);
        self.told.push_back((Arc::downgrade(&batch), counted));
        batch
    }
}

fn bytes_of(batch: &ChangeBatch) -> usize {
    let bytes = |change: &crate::feed::DocumentChange| {
        let after = change.after.as_ref().map_or(0, |content| content.text().len());
        let before = match &change.before {
            Before::Document(content) => content.text().len(),
            Before::Unknown | Before::Absent => 0,
        };
        size_of_val(change) + change.key.as_str().len() + after + before
    };
    batch.changes.iter().map(bytes).sum()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tidewire_eventstore::{DocumentKey, Generation, GlobalPosition};

    use super::*;
    use crate::feed::{Content, DocumentChange};

    fn batch(position: u64, bytes: usize) -> ChangeBatch {
        ChangeBatch {
            generation: Generation::new(1),
            after: GlobalPosition::new(position - 1),
            position: GlobalPosition::new(position),
            changes: vec![DocumentChange {
                key: DocumentKey::new("k").expect("a key"),
                before: Before::Absent,
                after: Some(Content::new(Bytes::from(vec![b' '; bytes]))),
            }],
        }
    }

    #[test]
    fn what_exceeds_the_bound_is_told_as_a_hole_until_there_is_room_again() {
        let mut feed = FeedBytes::new(10_000);
        let first = feed.admit(batch(1, 6000));
        assert_eq!(first.changes.len(), 1);
        let second = feed.admit(batch(2, 6000));
        assert!(second.changes.is_empty());
        assert_eq!(second.after, second.position, "no follower takes it for the next batch");
        drop(first);
        assert_eq!(feed.admit(batch(3, 6000)).changes.len(), 1);
    }
}
