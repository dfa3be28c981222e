//! The limits of consumers, at them and one past them. These cases run with low limits.

use std::sync::Arc;

use super::{Owner, at, claim, name, parking, saved};
use crate::{ConsumerError, EventStore, Release, Save, Sharing};

/// Consumers of a log in these cases.
pub(in crate::conformance) const CONSUMERS_MAX: usize = 3;
/// Members of a group in these cases.
pub(in crate::conformance) const MEMBERS_MAX: usize = 4;
/// Parked events of a consumer in these cases.
pub(in crate::conformance) const PARKED_MAX: usize = 5;

/// A log has so many consumers and no more; those that it has are claimed all the same.
pub async fn consumers_are_bounded(store: Arc<dyn EventStore>) {
    let consumers = store.consumers();
    for consumer in ["a", "b", "c"] {
        Owner::new(&*consumers, consumer, Sharing::Exclusive).await;
    }
    let refused = consumers.claim(claim("d", Sharing::Exclusive)).await.expect_err("one too many");
    assert_eq!(refused, ConsumerError::TooManyConsumers { max: CONSUMERS_MAX });
    assert_eq!((refused.code(), refused.retryable()), ("overloaded", true));
    assert!(Owner::new(&*consumers, "a", Sharing::Exclusive).await.existed);
    consumers.delete_consumer(name("b")).await.expect("it is there");
    assert!(!Owner::new(&*consumers, "d", Sharing::Exclusive).await.existed);
}

/// A group has so many members and no more; one of them may claim again.
pub async fn members_are_bounded(store: Arc<dyn EventStore>) {
    let consumers = store.consumers();
    let mut owners = Vec::new();
    for _ in 0..MEMBERS_MAX {
        owners.push(Owner::new(&*consumers, "mail", Sharing::Group).await);
    }
    let refused = consumers.claim(claim("mail", Sharing::Group)).await.expect_err("one too many");
    assert_eq!(refused, ConsumerError::TooManyMembers { max: MEMBERS_MAX });
    assert_eq!((refused.code(), refused.retryable()), ("overloaded", true));
    owners[1].again(&*consumers).await;
    let leaver = owners.remove(2).claim;
    consumers.leave(leaver.name, leaver.member).await.expect("it leaves");
    Owner::new(&*consumers, "mail", Sharing::Group).await;
}

/// A consumer has so many parked events and no more. A save that is one too many changes nothing,
/// except that its release takes effect.
pub async fn parked_events_are_bounded(store: Arc<dyn EventStore>) {
    let consumers = store.consumers();
    let owner = Owner::new(&*consumers, "mail", Sharing::Exclusive).await;
    let parks = |save, positions: &[u64]| Save {
        parked: positions.iter().map(|position| parking(*position, 3, "spent")).collect(),
        ..save
    };
    let too_many = Err(ConsumerError::TooManyParked { max: PARKED_MAX });
    let parked = || async { consumers.consumer(name("mail")).await.expect("it is there").parked };
    let all_at_once = parks(owner.save(6), &[1, 2, 3, 4, 5, 6]);
    assert_eq!(saved(&*consumers, all_at_once).await, too_many);
    assert_eq!(saved(&*consumers, parks(owner.save(3), &[1, 2, 3])).await, Ok(()));
    assert_eq!(saved(&*consumers, parks(owner.save(5), &[4, 5])).await, Ok(()), "at the limit");
    let refused = saved(&*consumers, parks(owner.save(6), &[6])).await;
    assert_eq!(refused, too_many);
    let refused = refused.expect_err("just compared");
    assert_eq!((refused.code(), refused.retryable()), ("overloaded", true));
    assert_eq!(parked().await, 5);

    saved(&*consumers, owner.save(6)).await.expect("progress without parking goes on");
    saved(&*consumers, parks(owner.save(6), &[5, 2])).await.expect("they are parked already");
    let exchange = Save { replayed: vec![at(1)], ..parks(owner.save(7), &[7]) };
    saved(&*consumers, exchange).await.expect("one goes, one comes");
    let comes_back = Save { replayed: vec![at(2)], ..parks(owner.save(7), &[2, 8]) };
    assert_eq!(saved(&*consumers, comes_back).await, too_many, "none goes, one comes");
    assert_eq!(parked().await, 5);

    let batch = vec![
        parks(owner.save(8), &[8]),
        Save { replayed: vec![at(2)], ..owner.save(9) },
        parks(owner.save(10), &[10]),
        Save { release: Some(Release::Clean), ..parks(owner.save(11), &[11]) },
    ];
    let answers = consumers.save(batch).await.expect("saves are answered");
    assert_eq!(answers, [too_many.clone(), Ok(()), Ok(()), too_many]);
    let next = Owner::new(&*consumers, "mail", Sharing::Exclusive).await;
    assert_eq!((next.first().checkpoint, next.first().unclean), (at(10), false));
    assert_eq!(consumers.drop_parked(name("mail"), crate::Positions::All).await, Ok(5));
    saved(&*consumers, parks(next.save(11), &[11])).await.expect("there is room again");
}
