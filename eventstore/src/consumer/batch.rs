//! Batches of saves, as the databases write them: in rounds, and within what a consumer may park.
//! Pure.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::{ConsumerError, GlobalPosition, Save};

impl Save {
    /// Whether the save is about parked events.
    pub(crate) fn changes_parked(&self) -> bool {
        !self.parked.is_empty() || !self.replayed.is_empty()
    }
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
    use crate::{ConsumerName, Fence, MemberId, Parked, Partition, Release};

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
    fn one_too_many_is_refused_and_not_counted() {
        let at = GlobalPosition::new;
        let mut parking = Parking::new(3);
        parking.begin("a".into(), 2);
        let mut parked = HashSet::from([at(1), at(2)]);
        let parks = |position| Parked { position: at(position), attempts: 1, reason: "".into() };
        let too_many = || Verdict::TooMany(ConsumerError::TooManyParked { max: 3 });
        for (adds, replayed, verdict, count) in [
            (vec![3, 4], vec![], too_many(), 2),
            (vec![1, 2], vec![], Verdict::Fits, 2),
            (vec![3], vec![9], Verdict::Fits, 3),
            (vec![4], vec![9], too_many(), 3),
            (vec![4, 1], vec![1], too_many(), 3),
            (vec![4], vec![1], Verdict::Fits, 3),
            (vec![], vec![2, 3], Verdict::Fits, 1),
        ] {
            let save = Save {
                parked: adds.into_iter().map(parks).collect(),
                replayed: replayed.into_iter().map(at).collect(),
                ..save("a", 1)
            };
            assert_eq!(parking.judge(&save, &mut parked), verdict, "{save:?}");
            assert_eq!(parking.counts().collect::<Vec<_>>(), [("a", count)], "{save:?}");
        }
    }
}
