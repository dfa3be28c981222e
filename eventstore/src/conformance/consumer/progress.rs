//! What is saved: whole or not at all, one by one in a batch, and never backwards.

use std::sync::Arc;

use super::{Owner, at, name, parking, save_all, saved};
use crate::{
    ConsumerError, ConsumerStore, EventStore, Fence, GlobalPosition, MemberId, Release, Save,
    Sharing,
};

/// A later save with an earlier checkpoint leaves the checkpoint where it is.
pub async fn a_checkpoint_never_moves_back(store: Arc<dyn EventStore>) {
    let consumers = store.consumers();
    let owner = Owner::new(&*consumers, "mail", Sharing::Exclusive).await;
    for (checkpoint, kept) in [(5, 5), (3, 5), (0, 5), (6, 6), (6, 6), (2, 6)] {
        saved(&*consumers, owner.save(checkpoint)).await.expect("the holder saves");
        let info = consumers.consumer(name("mail")).await.expect("it is there");
        assert_eq!(info.checkpoint, at(kept));
    }
}

/// Checkpoint, attempts, parked events and release of one save are all there for the next claim.
pub async fn one_save_takes_effect_whole(store: Arc<dyn EventStore>) {
    let consumers = store.consumers();
    let owner = Owner::new(&*consumers, "mail", Sharing::Exclusive).await;
    let attempts = vec![(at(8), 2), (at(12), 1)];
    let save = Save {
        attempts: attempts.clone(),
        parked: vec![parking(7, 3, "attempts spent"), parking(5, 1, "not for us \u{1f4ee}")],
        release: Some(Release::Clean),
        ..owner.save(7)
    };
    saved(&*consumers, save).await.expect("the holder saves");
    assert_eq!(parked(&*consumers, "mail").await, [(5, 1), (7, 3)]);
    let next = Owner::new(&*consumers, "mail", Sharing::Exclusive).await;
    let claimed = next.first();
    assert_eq!((claimed.checkpoint, claimed.unclean), (at(7), false));
    assert_eq!(claimed.attempts, attempts);

    let fewer = Save { attempts: vec![(at(12), 2)], ..next.save(11) };
    saved(&*consumers, fewer).await.expect("the holder saves");
    let next = Owner::new(&*consumers, "mail", Sharing::Exclusive).await;
    assert_eq!(next.first().attempts, [(at(12), 2)], "the last save's attempts are the ones");
}

/// Nothing of a refused save is recorded.
pub async fn a_refused_save_leaves_nothing_behind(store: Arc<dyn EventStore>) {
    let consumers = store.consumers();
    let stale = Owner::new(&*consumers, "mail", Sharing::Exclusive).await;
    let parked_first = Save { parked: vec![parking(1, 3, "first")], ..stale.save(1) };
    saved(&*consumers, parked_first).await.expect("the holder saves");
    let owner = Owner::new(&*consumers, "mail", Sharing::Exclusive).await;
    let fence = owner.first().fence.get();
    let refused = Save {
        attempts: vec![(at(6), 1)],
        parked: vec![parking(1, 9, "again"), parking(5, 3, "second")],
        replayed: vec![at(1)],
        release: Some(Release::Clean),
        ..stale.save(5)
    };
    for (why, save) in [
        ("an older fence", refused.clone()),
        (
            "another's fence",
            Save {
                member: stale.claim.member,
                ..Save { fence: owner.first().fence, ..refused.clone() }
            },
        ),
        (
            "a fence to come",
            Save { member: owner.claim.member, fence: Fence::new(fence + 1), ..refused.clone() },
        ),
        (
            "a partition that it has not",
            Save {
                member: owner.claim.member,
                fence: owner.first().fence,
                partition: crate::Partition::new(1).expect("below 64"),
                ..refused.clone()
            },
        ),
        ("a consumer that is not", Save { name: name("post"), ..refused }),
    ] {
        assert_eq!(saved(&*consumers, save).await, Err(ConsumerError::Fenced), "{why}");
    }
    assert_eq!(parked(&*consumers, "mail").await, [(1, 3)]);
    saved(&*consumers, owner.save(2)).await.expect("the holder still holds");
    let next = Owner::new(&*consumers, "mail", Sharing::Exclusive).await;
    assert_eq!((next.first().checkpoint, next.first().attempts.len()), (at(2), 0));
}

/// Saves of one batch are answered each for itself, in order, and several of one partition take
/// effect one after the other.
pub async fn saves_of_a_batch_stand_alone(store: Arc<dyn EventStore>) {
    let consumers = store.consumers();
    let stale = Owner::new(&*consumers, "b", Sharing::Exclusive).await;
    let mut owners = Vec::new();
    for consumer in ["a", "b", "c"] {
        owners.push(Owner::new(&*consumers, consumer, Sharing::Exclusive).await);
    }
    let parks = |save, position| Save { parked: vec![parking(position, 3, "spent")], ..save };
    let release = |save| Save { release: Some(Release::Clean), ..save };
    let batch = vec![
        parks(owners[0].save(1), 1),
        stale.save(9),
        parks(owners[1].save(2), 2),
        Save { replayed: vec![at(1)], ..owners[0].save(3) },
        release(parks(owners[0].save(4), 4)),
        owners[0].save(5),
        owners[2].save(6),
        Save { member: MemberId::generate(), ..owners[2].save(7) },
    ];
    let answers = consumers.save(batch).await.expect("saves are answered");
    let good: Vec<_> = answers.iter().map(Result::is_ok).collect();
    assert_eq!(good, [true, false, true, true, true, false, true, false], "{answers:?}");
    for (consumer, checkpoint, rows) in
        [("a", 4, &[(4, 3)][..]), ("b", 2, &[(2, 3)]), ("c", 6, &[])]
    {
        let info = consumers.consumer(name(consumer)).await.expect("it is there");
        assert_eq!((info.checkpoint, info.parked), (at(checkpoint), rows.len() as u64));
        assert_eq!(parked(&*consumers, consumer).await, rows, "{consumer}");
    }
    assert!(consumers.save(Vec::new()).await.expect("nothing is easy").is_empty());
    assert!(consumers.keep(Vec::new()).await.expect("nothing is easy").is_empty());
}

/// A thousand consumers are saved and kept as one batch each.
pub async fn a_large_batch_is_one_batch(store: Arc<dyn EventStore>) {
    let consumers = store.consumers();
    let mut owners = Vec::new();
    for number in 0..200 {
        owners.push(Owner::new(&*consumers, &format!("c-{number}"), Sharing::Exclusive).await);
    }
    for _ in 0..4 {
        owners.push(Owner::new(&*consumers, "group", Sharing::Group).await);
    }
    let saves: Vec<Save> = owners
        .iter()
        .filter(|owner| !owner.partitions.is_empty())
        .flat_map(|owner| {
            let attempts: Vec<_> = (8..40).map(|position| (at(position), 1)).collect();
            let save = |checkpoint| Save { attempts: attempts.clone(), ..owner.save(checkpoint) };
            [save(3), save(5), save(4), save(7), save(6)]
        })
        .collect();
    assert!(saves.len() >= 1000);
    save_all(&*consumers, saves).await;
    let kept = consumers.keep(owners.iter().map(Owner::holding).collect()).await.expect("kept");
    assert_eq!(kept.len(), owners.len());
    assert!(kept.iter().all(|kept| !kept.lost));
    let info = consumers.consumer(name("c-199")).await.expect("it is there");
    assert_eq!(info.checkpoint, at(7));
}

/// A save whose caller went away, at whatever moment, took place whole or not at all: here an
/// event is parked for each step of the checkpoint, and an attempt is charged.
pub async fn a_save_cut_short_is_whole_or_nothing(store: Arc<dyn EventStore>) {
    let consumers = store.consumers();
    let mut recorded = 0;
    for step in 1..=60_u64 {
        let owner = Owner::new(&*consumers, "mail", Sharing::Exclusive).await;
        let next = recorded + 1;
        assert_eq!(owner.first().checkpoint, at(recorded));
        let save = Save {
            attempts: vec![(at(next + 1), 1)],
            parked: vec![parking(next, 3, "spent")],
            ..owner.save(next)
        };
        let task = tokio::spawn({
            let consumers = Arc::clone(&consumers);
            async move { consumers.save(vec![save]).await }
        });
        for _ in 0..step % 12 {
            tokio::task::yield_now().await;
        }
        if step % 3 != 0 {
            tokio::time::sleep(std::time::Duration::from_micros(step * 40)).await;
        }
        task.abort();
        let _ = task.await;
        // Taking over waits for whatever of the save is still under way.
        let owner = Owner::new(&*consumers, "mail", Sharing::Exclusive).await;
        recorded = owner.first().checkpoint.get();
        let all: Vec<_> = (1..=recorded).map(|position| (position, 3)).collect();
        assert_eq!(parked(&*consumers, "mail").await, all, "parked as far as the checkpoint");
        let attempts = owner.first().attempts.clone();
        let charged = (recorded > 0).then_some((at(recorded + 1), 1));
        assert_eq!(attempts, Vec::from_iter(charged), "charged as far as the checkpoint");
    }
    let info = consumers.consumer(name("mail")).await.expect("it is there");
    assert_eq!(info.parked, recorded, "the count is that of the rows");
}

/// What is parked, and with how many attempts.
async fn parked(store: &dyn ConsumerStore, consumer: &str) -> Vec<(u64, u32)> {
    let page = store.parked(name(consumer), GlobalPosition::START, 1000).await.expect("a page");
    page.parked.iter().map(|parked| (parked.position.get(), parked.attempts)).collect()
}
