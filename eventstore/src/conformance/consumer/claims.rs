//! Who holds a consumer: creation, take-over, and what becomes of whoever held it before.

use std::sync::Arc;

use super::{Owner, at, claim, name, save_all, saved};
use crate::{
    Category, Claim, ConsumerError, EventStore, Partition, Release, Sharing, StreamName, Target,
};

/// The first claim creates the consumer at the position that it names; later ones find it.
pub async fn a_new_consumer_begins_where_it_is_told(store: Arc<dyn EventStore>) {
    let consumers = store.consumers();
    let first = Claim { after: at(41), ..claim("mail", Sharing::Exclusive) };
    let owner = Owner::by(&*consumers, first).await;
    assert!(!owner.existed);
    assert_eq!(owner.partitions.len(), 1);
    let claimed = owner.first();
    assert_eq!((claimed.partition, claimed.checkpoint), (Partition::FIRST, at(41)));
    assert!(!claimed.unclean, "nobody held it before");
    assert!(claimed.attempts.is_empty() && claimed.replays.is_empty());

    let later = Claim { after: at(99), ..claim("mail", Sharing::Exclusive) };
    let later = Owner::by(&*consumers, later).await;
    assert!(later.existed);
    assert_eq!(later.first().checkpoint, at(41), "the checkpoint beats what a claim says");
}

/// Sharing, target and filter are fixed; a claim that differs is refused and changes nothing.
pub async fn a_claim_of_another_shape_is_refused(store: Arc<dyn EventStore>) {
    let consumers = store.consumers();
    let category = |text| Target::Category(Category::new(text).expect("a good name"));
    let stream = |text| Target::Stream(StreamName::new(text).expect("a good name"));
    let filter = Some(r#"{"eq":{"type":"A"}}"#.to_owned());
    let same = Claim {
        target: category("order"),
        filter: filter.clone(),
        ..claim("mail", Sharing::Exclusive)
    };
    let owner = Owner::by(&*consumers, same.clone()).await;
    for (what, other) in [
        ("sharing", Claim { sharing: Sharing::Group, ..same.clone() }),
        ("target", Claim { target: Target::All, ..same.clone() }),
        ("target", Claim { target: category("orders"), ..same.clone() }),
        ("target", Claim { target: stream("order"), ..same.clone() }),
        ("filter", Claim { filter: None, ..same.clone() }),
        ("filter", Claim { filter: Some("{}".into()), ..same.clone() }),
    ] {
        let refused = consumers.claim(other).await.expect_err(what);
        assert_eq!(refused, ConsumerError::Mismatch { name: name("mail"), what });
        assert_eq!((refused.code(), refused.retryable()), ("consumer_mismatch", false));
    }
    saved(&*consumers, owner.save(1)).await.expect("the holder still holds");
    assert!(Owner::by(&*consumers, same).await.existed);
}

/// The newest claim of an exclusive consumer holds it; what the one before still says is refused.
pub async fn the_newest_takes_over_and_the_stale_are_refused(store: Arc<dyn EventStore>) {
    let consumers = store.consumers();
    let mut owner = Owner::new(&*consumers, "mail", Sharing::Exclusive).await;
    saved(&*consumers, owner.save(3)).await.expect("the holder saves");
    for checkpoint in 4..8 {
        let newer = Owner::new(&*consumers, "mail", Sharing::Exclusive).await;
        assert!(newer.first().fence > owner.first().fence);
        assert_eq!(newer.first().checkpoint, at(checkpoint - 1));
        assert!(newer.first().unclean, "the one before had not let go");
        let refused = saved(&*consumers, owner.save(1000)).await.expect_err("it is another's");
        assert_eq!(refused, ConsumerError::Fenced);
        assert_eq!((refused.code(), refused.retryable()), ("consumer_taken", false));
        assert!(owner.keep(&*consumers).await.lost);
        saved(&*consumers, newer.save(checkpoint)).await.expect("the holder saves");
        assert_eq!(newer.keep(&*consumers).await, crate::Kept::default());
        owner = newer;
    }
}

/// A claim of the member that holds the consumer raises the fence as any other does.
pub async fn a_member_that_claims_again_is_fenced_from_itself(store: Arc<dyn EventStore>) {
    let consumers = store.consumers();
    let mut owner = Owner::new(&*consumers, "mail", Sharing::Exclusive).await;
    let before = owner.save(7);
    owner.again(&*consumers).await;
    assert_eq!(saved(&*consumers, before).await, Err(ConsumerError::Fenced));
    saved(&*consumers, owner.save(8)).await.expect("the holder saves");
}

/// A release says whether it was in order, and the next claim is told.
pub async fn how_it_was_let_go_is_remembered(store: Arc<dyn EventStore>) {
    let consumers = store.consumers();
    let mut owner = Owner::new(&*consumers, "mail", Sharing::Exclusive).await;
    for (release, unclean) in [
        (Some(Release::Clean), false),
        (None, true),
        (Some(Release::Unclean), true),
        (Some(Release::Clean), false),
        (Some(Release::Clean), false),
    ] {
        if let Some(release) = release {
            save_all(&*consumers, owner.releases(release)).await;
            let late = saved(&*consumers, owner.save(9)).await;
            assert_eq!(late, Err(ConsumerError::Fenced), "it has let go");
        }
        owner = Owner::new(&*consumers, "mail", Sharing::Exclusive).await;
        assert_eq!(owner.first().unclean, unclean, "{release:?}");
    }
}

/// A deleted consumer is lost to whoever held it, and one made anew under its name does not take
/// the saves of the old one's holders, even of the same member.
pub async fn a_deleted_consumer_is_gone(store: Arc<dyn EventStore>) {
    let consumers = store.consumers();
    let mut owner = Owner::new(&*consumers, "mail", Sharing::Exclusive).await;
    let stale = owner.save(5);
    consumers.delete_consumer(name("mail")).await.expect("it is there");
    let unknown = ConsumerError::Unknown { name: name("mail") };
    assert_eq!(consumers.delete_consumer(name("mail")).await, Err(unknown.clone()));
    assert_eq!((unknown.code(), unknown.retryable()), ("unknown_consumer", false));
    assert_eq!(saved(&*consumers, stale.clone()).await, Err(ConsumerError::Fenced));
    assert!(owner.keep(&*consumers).await.lost);

    owner.again(&*consumers).await;
    assert!(!owner.existed);
    assert_eq!(saved(&*consumers, stale).await, Err(ConsumerError::Fenced));
    let anew = Owner::new(&*consumers, "mail", Sharing::Exclusive).await;
    assert_eq!(anew.first().checkpoint, at(0));
}

/// Of many that claim at once each gets an answer of its own, and the last fence holds.
pub async fn rivals_are_fenced_one_by_one(store: Arc<dyn EventStore>) {
    let consumers = store.consumers();
    let rivals: Vec<_> = (0..16)
        .map(|_| {
            let consumers = Arc::clone(&consumers);
            tokio::spawn(async move { Owner::new(&*consumers, "mail", Sharing::Exclusive).await })
        })
        .collect();
    let mut owners = Vec::new();
    for rival in rivals {
        owners.push(rival.await.expect("no rival panics"));
    }
    owners.sort_by_key(|owner| owner.first().fence);
    assert_eq!(owners.iter().filter(|owner| !owner.existed).count(), 1, "one creates it");
    assert!(owners.windows(2).all(|pair| pair[0].first().fence < pair[1].first().fence));
    let last = owners.pop().expect("16 claimed");
    for owner in owners {
        assert_eq!(saved(&*consumers, owner.save(1)).await, Err(ConsumerError::Fenced));
    }
    saved(&*consumers, last.save(1)).await.expect("the holder saves");
}
