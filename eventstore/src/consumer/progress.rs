//! [`Save`]: what one partition has come to, and the rules that hold before any database is asked.

use crate::{ConsumerName, Fence, GlobalPosition, MemberId, Partition};

/// The longest reason that is kept with a parked event, in bytes; what is longer is cut.
const REASON_BYTES_MAX: usize = 500;

/// The progress of one partition since its last save. All of it takes effect, or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Save {
    /// The consumer.
    pub name: ConsumerName,
    /// Who holds the partition.
    pub member: MemberId,
    /// The partition.
    pub partition: Partition,
    /// The fence of the holder's claim.
    pub fence: Fence,
    /// Everything up to here is settled.
    pub checkpoint: GlobalPosition,
    /// How often unsettled events were charged: all of them with at least one charge. Replaces
    /// what the last save told.
    pub attempts: Vec<(GlobalPosition, u32)>,
    /// Events to be parked.
    pub parked: Vec<Parked>,
    /// Parked events that were delivered again and settled: they are parked no longer, unless
    /// they are in `parked` anew.
    pub replayed: Vec<GlobalPosition>,
    /// Whether the holder lets go of the partition with this save.
    pub release: Option<Release>,
}

/// An event that is parked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    /// Where it stands in the log.
    pub position: GlobalPosition,
    /// How often its delivery was tried.
    pub attempts: u32,
    /// Why it is parked, at most 500 bytes; what is longer is cut.
    pub reason: String,
}

/// How a holder lets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// In order: what was not settled is delivered as if for the first time.
    Clean,
    /// Cut off: what was not settled may be what cut it off.
    Unclean,
}

impl Save {
    /// The save with texts as every database takes them.
    pub(crate) fn tidied(mut self) -> Self {
        for parked in &mut self.parked {
            parked.reason = tidy(std::mem::take(&mut parked.reason), REASON_BYTES_MAX);
        }
        // One row an event: the last word counts.
        self.parked.reverse();
        self.parked.sort_by_key(|parked| parked.position);
        self.parked.dedup_by_key(|parked| parked.position);
        self.replayed.sort_unstable();
        self.replayed.dedup();
        self
    }
}

/// `text` without NUL, which PostgreSQL refuses, and not longer than `bytes_max`.
pub(crate) fn tidy(text: String, bytes_max: usize) -> String {
    let mut text = if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text };
    text.truncate(text.floor_char_boundary(bytes_max));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn save(name: &str, checkpoint: u64) -> Save {
        Save {
            name: ConsumerName::new(name).expect("a good name"),
            member: MemberId::generate(),
            partition: Partition::FIRST,
            fence: Fence::new(1),
            checkpoint: GlobalPosition::new(checkpoint),
            attempts: Vec::new(),
            parked: Vec::new(),
            replayed: Vec::new(),
            release: Some(Release::Clean),
        }
    }

    #[test]
    fn reasons_are_cut_and_cleaned_and_the_last_word_on_an_event_counts() {
        let parked = |position, reason: &str| Parked {
            position: GlobalPosition::new(position),
            attempts: 1,
            reason: reason.into(),
        };
        let long = "é".repeat(300);
        let save = Save {
            parked: vec![parked(7, "first"), parked(3, "a\0b"), parked(7, &long)],
            ..save("a", 1)
        };
        let parked = save.tidied().parked;
        assert_eq!(parked[0].reason, "a\u{fffd}b");
        assert_eq!((parked[1].position.get(), parked[1].reason.len()), (7, 500));
        assert_eq!(parked.len(), 2);
    }
}
