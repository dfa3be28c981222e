//! Who is to have which partitions of a group. Pure: the stores bring the facts and write down
//! what comes out.
//!
//! Of n members each is to have 64 / n partitions, and the first 64 % n of them, by their ids,
//! one more. A partition is free when it has no owner or its owner is no member any more.

use crate::{Claim, ConsumerError, MemberId, PARTITIONS, Partition, PartitionSet, Sharing, Target};

/// A lease is renewed when less than this part of it is left, and not at every occasion: a row
/// that is written every second for each of ten thousand consumers costs more than it tells.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) const RENEWED_BELOW: f64 = 0.6;

/// The owners of a group's partitions, by partition.
pub(crate) type Owners = [Option<MemberId>; PARTITIONS];

/// A group at one moment.
#[derive(Debug)]
pub(crate) struct Shares<'a> {
    /// Whose lease runs, in the order of their ids.
    pub(crate) members: &'a [MemberId],
    /// Whose the partitions are.
    pub(crate) owners: &'a Owners,
}

impl Shares<'_> {
    /// How many partitions `member` is to have; none if it is not one.
    pub(crate) fn quota(&self, member: MemberId) -> usize {
        let count = self.members.len();
        match self.members.binary_search(&member) {
            Ok(rank) => PARTITIONS / count + usize::from(rank < PARTITIONS % count),
            Err(_) => 0,
        }
    }

    /// The partitions that a claim of `member` is given: what it has, then what is free, up to
    /// its quota.
    pub(crate) fn claimed_by(&self, member: MemberId) -> PartitionSet {
        let quota = self.quota(member);
        let has = self.partitions(|owner| owner == Some(member));
        let free = self.partitions(|owner| self.is_free(owner));
        has.iter().chain(free.iter()).take(quota).collect()
    }

    /// Whether `member` had better claim anew.
    pub(crate) fn are_to_change_for(&self, member: MemberId) -> bool {
        let quota = self.quota(member);
        let has = self.partitions(|owner| owner == Some(member)).len();
        has > quota || has < quota && !self.partitions(|owner| self.is_free(owner)).is_empty()
    }

    fn is_free(&self, owner: Option<MemberId>) -> bool {
        owner.is_none_or(|owner| self.members.binary_search(&owner).is_err())
    }

    fn partitions(&self, is_in: impl Fn(Option<MemberId>) -> bool) -> PartitionSet {
        let all = PartitionSet::ALL.iter().zip(self.owners);
        all.filter(|(_, owner)| is_in(**owner)).map(|(partition, _)| partition).collect()
    }
}

/// The partitions that a consumer has.
pub(crate) fn partitions_of(sharing: Sharing) -> PartitionSet {
    match sharing {
        Sharing::Exclusive => PartitionSet::from_iter([Partition::FIRST]),
        Sharing::Group => PartitionSet::ALL,
    }
}

/// Whether a claim fits the consumer that is there.
pub(crate) fn check_same(
    claim: &Claim,
    sharing: Sharing,
    target: &Target,
    filter: Option<&str>,
) -> Result<(), ConsumerError> {
    let what = if claim.sharing != sharing {
        "sharing"
    } else if claim.target != *target {
        "target"
    } else if claim.filter.as_deref() != filter {
        "filter"
    } else {
        return Ok(());
    };
    Err(ConsumerError::Mismatch { name: claim.name.clone(), what })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn member(number: u128) -> MemberId {
        MemberId::from(Uuid::from_u128(number))
    }

    fn members(count: u128) -> Vec<MemberId> {
        (1..=count).map(member).collect()
    }

    #[test]
    fn quotas_add_up_to_all_partitions_and_differ_by_at_most_one() {
        for count in 1..=200 {
            let members = members(count);
            let shares = Shares { members: &members, owners: &[None; PARTITIONS] };
            let quotas: Vec<_> = members.iter().map(|member| shares.quota(*member)).collect();
            assert_eq!(quotas.iter().sum::<usize>(), PARTITIONS, "{count}");
            assert!(quotas.is_sorted_by(|one, next| one >= next), "{count}: {quotas:?}");
            assert!(quotas[0] - quotas[quotas.len() - 1] <= 1, "{count}: {quotas:?}");
            assert_eq!(shares.quota(member(1000)), 0, "no member, no share");
        }
    }

    #[test]
    fn whoever_claims_gets_what_is_free_and_keeps_what_it_has() {
        let members = members(3);
        let mut owners = [None; PARTITIONS];
        owners[..30].fill(Some(member(1)));
        owners[30..40].fill(Some(member(2)));
        owners[40..50].fill(Some(member(99)));
        let shares = Shares { members: &members, owners: &owners };
        for (who, numbers) in [(1, 0..22), (2, 30..51), (3, 40..61)] {
            let claimed = shares.claimed_by(member(who));
            assert!(
                claimed.iter().map(|partition| partition.get()).eq(numbers),
                "{who}: {claimed:?}"
            );
            assert!(shares.are_to_change_for(member(who)), "{who}");
        }
    }

    proptest! {
        /// However the partitions lie and whoever comes first, claiming whenever told to brings
        /// everybody to its quota, soon, and then nobody is told anything.
        #[test]
        fn the_shares_settle(
            count in 1_u128..=70,
            owners in prop::collection::vec(prop::option::of(1_u128..=75), PARTITIONS),
            order in any::<prop::sample::Index>(),
        ) {
            let members = members(count);
            let mut owners: Owners =
                std::array::from_fn(|index| owners[index].map(member));
            let mut rounds = 0;
            loop {
                let mut turn = members.clone();
                turn.rotate_left(order.index(members.len()));
                let told: Vec<_> = turn
                    .into_iter()
                    .filter(|member| {
                        Shares { members: &members, owners: &owners }.are_to_change_for(*member)
                    })
                    .collect();
                if told.is_empty() {
                    break;
                }
                rounds += 1;
                prop_assert!(rounds <= 3, "does not settle");
                for member in &told {
                    for owner in &mut owners {
                        owner.take_if(|owner| owner == member);
                    }
                }
                for member in told {
                    let claimed =
                        Shares { members: &members, owners: &owners }.claimed_by(member);
                    for partition in claimed.iter() {
                        owners[usize::from(partition.get())] = Some(member);
                    }
                }
            }
            let shares = Shares { members: &members, owners: &owners };
            for member in &members {
                let has = owners.iter().filter(|owner| **owner == Some(*member)).count();
                prop_assert_eq!(has, shares.quota(*member));
            }
        }
    }
}
