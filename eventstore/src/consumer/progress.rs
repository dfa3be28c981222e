//! [`Save`]: what one partition has come to, and the rules that hold before any database is asked.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::{ConsumerError, ConsumerName, Fence, GlobalPosition, MemberId, Partition};

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
    /// Whether the save is about parked events.
    pub(crate) fn changes_parked(&self) -> bool {
        !self.parked.is_empty() || !self.replayed.is_empty()
    }

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

/// Divides `saves` into rounds that have each partition at most once, so that a round can be
/// written at once and the rounds one after the other. Each save comes with its place.
pub(crate) fn rounds(saves: Vec<Save>) -> Vec<Vec<(usize, Save)>> {
    let mut next_round = HashMap::new();
    let mut rounds: Vec<Vec<(usize, Save)>> = Vec::new();
    for (place, save) in saves.into_iter().enumerate() {
        let round: &mut usize = next_round.entry((save.name.clone(), save.partition)).or_default();
        if *round == rounds.len() {
            rounds.push(Vec::new());
        }
        rounds[*round].push((place, save));
        *round += 1;
    }
    rounds
}

/// Whether a save may be recorded.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It may.
    Fits,
    /// Its consumer would have too many parked events.
    TooMany(ConsumerError),
}

/// How many parked events the consumers of a batch have, as one save after the other takes effect.
#[derive(Debug)]
pub(crate) struct Parking {
    max: usize,
    counts: BTreeMap<String, u64>,
}

impl Parking {
    /// Consumers that may have `max` each.
    pub(crate) fn new(max: usize) -> Self {
        Self { max, counts: BTreeMap::new() }
    }

    /// A consumer has `count` to begin with.
    pub(crate) fn begin(&mut self, name: String, count: u64) {
        self.counts.insert(name, count);
    }

    /// Judges the next save, and counts it if it fits. `parked` has those of its positions that
    /// are parked, and is kept up to date.
    pub(crate) fn judge(&mut self, save: &Save, parked: &mut HashSet<GlobalPosition>) -> Verdict {
        let positions = || save.parked.iter().map(|parked| &parked.position);
        let gone = save.replayed.iter().filter(|position| parked.contains(*position)).count();
        let added = positions()
            .filter(|position| !parked.contains(*position) || save.replayed.contains(position))
            .count();
        let count = self.counts.entry(save.name.as_str().to_owned()).or_default();
        let next = (*count + added as u64).saturating_sub(gone as u64);
        if next > *count && next > self.max as u64 {
            return Verdict::TooMany(ConsumerError::TooManyParked { max: self.max });
        }
        *count = next;
        for position in &save.replayed {
            parked.remove(position);
        }
        parked.extend(positions());
        Verdict::Fits
    }

    /// How many each has now.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (&str, u64)> {
        self.counts.iter().map(|(name, count)| (name.as_str(), *count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Release;

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
    fn saves_of_one_partition_keep_their_order_in_rounds_of_their_own() {
        let saves = vec![save("a", 0), save("b", 1), save("a", 2), save("a", 3), save("b", 4)];
        let rounds: Vec<Vec<(usize, u64)>> = rounds(saves)
            .into_iter()
            .map(|round| {
                round.into_iter().map(|(place, save)| (place, save.checkpoint.get())).collect()
            })
            .collect();
        assert_eq!(rounds, [vec![(0, 0), (1, 1)], vec![(2, 2), (4, 4)], vec![(3, 3)]]);
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
