//! What has become of holdings, from what a database knows of their consumers. Pure but for
//! [`Doubt`], which remembers across calls.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    shares::{Owners, Shares},
    text::Unreadable,
};
use crate::{
    ConsumerName, Fence, GlobalPosition, Holding, Kept, MemberId, Partition, ReadError, Sharing,
};

/// A consumer, as a keep finds it.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) sharing: Sharing,
    /// Whose lease runs, or was renewed just now, in order.
    pub(crate) members: Vec<MemberId>,
    /// Whose the partitions are, in order.
    pub(crate) owners: Vec<Option<MemberId>>,
    /// Their fences, in order.
    pub(crate) fences: Vec<Fence>,
    /// Whether some owner may have to be told of replays.
    pub(crate) replays: bool,
}

impl Found {
    /// Whether everything of the holding is still the member's.
    fn is_held(&self, holding: &Holding) -> bool {
        let Holding { member, partitions, .. } = holding;
        self.members.binary_search(member).is_ok()
            && partitions.iter().all(|(partition, fence)| {
                let place = usize::from(partition.get());
                let owner = self.owners.get(place).copied().flatten();
                self.fences.get(place) == Some(fence) && owner.is_none_or(|owner| owner == *member)
            })
    }
}

/// A claim that may have to be told of replays: which holding it belongs to, and what it is.
pub(crate) struct Told<'a> {
    pub(crate) holding: usize,
    pub(crate) name: &'a ConsumerName,
    pub(crate) partition: Partition,
    pub(crate) fence: Fence,
}

/// What has become of `held`, but for replays, and the claims that may have to be told of some.
pub(crate) fn judge<'a>(
    held: &'a [Holding],
    found: &HashMap<String, Found>,
) -> Result<(Vec<Kept>, Vec<Told<'a>>), Unreadable> {
    let mut owners: HashMap<&str, Owners> = HashMap::new();
    for (name, group) in found.iter().filter(|(_, found)| found.sharing == Sharing::Group) {
        let group = Owners::try_from(group.owners.as_slice());
        owners.insert(name, group.map_err(|_| Unreadable::new("a group's partitions"))?);
    }
    let mut all_told = Vec::new();
    let mut kept = Vec::with_capacity(held.len());
    for (index, holding) in held.iter().enumerate() {
        let name = holding.name.as_str();
        let Some(found) = found.get(name).filter(|found| found.is_held(holding)) else {
            kept.push(Kept { lost: true, ..Kept::default() });
            continue;
        };
        let rebalance = owners.get(name).is_some_and(|owners| {
            Shares { members: &found.members, owners }.are_to_change_for(holding.member)
        });
        kept.push(Kept { rebalance, ..Kept::default() });
        if found.replays {
            let told = |(partition, fence): &(Partition, Fence)| Told {
                holding: index,
                name: &holding.name,
                partition: *partition,
                fence: *fence,
            };
            all_told.extend(holding.partitions.iter().map(told));
        }
    }
    Ok((kept, all_told))
}

/// Adds what claims were told: each replay comes with the place of its claim.
pub(crate) fn add_replays(
    kept: &mut [Kept],
    told: &[Told<'_>],
    replays: Vec<(usize, GlobalPosition, u32)>,
) {
    for (place, position, attempts) in replays {
        if let Some(told) = told.get(place) {
            kept[told.holding].replays.push((told.partition, position, attempts));
        }
    }
}

/// Knows whether replays have to be told again: what an answer that got lost had told, nobody
/// knows of.
pub(crate) struct Doubt {
    in_doubt: Arc<AtomicBool>,
    /// Whether an earlier answer was lost.
    pub(crate) again: bool,
    answered: bool,
}

impl Doubt {
    /// Before anything is told. `in_doubt` is the store's.
    pub(crate) fn begin(in_doubt: &Arc<AtomicBool>) -> Self {
        let again = in_doubt.swap(false, Ordering::SeqCst);
        Self { in_doubt: Arc::clone(in_doubt), again, answered: false }
    }

    /// The answer is at hand.
    pub(crate) fn answered<T>(mut self, answer: Result<T, ReadError>) -> Result<T, ReadError> {
        self.answered = answer.is_ok();
        answer
    }
}

impl Drop for Doubt {
    /// An answer that failed, or that nobody waited for, told nothing.
    fn drop(&mut self) {
        if !self.answered {
            self.in_doubt.store(true, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_answer_is_told_again_once() {
        let in_doubt = Arc::default();
        let first = Doubt::begin(&in_doubt);
        assert!(!first.again);
        drop(first);
        let second = Doubt::begin(&in_doubt);
        assert!(second.again);
        assert!(second.answered(Err::<(), _>(ReadError::Unavailable)).is_err());
        let third = Doubt::begin(&in_doubt);
        assert!(third.again);
        assert_eq!(third.answered(Ok(1)), Ok(1));
        assert!(!Doubt::begin(&in_doubt).again);
    }
}
