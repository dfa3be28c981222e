//! What people are told about consumers.

use std::sync::Arc;

use super::{Owner, at, claim, name, save_all, saved};
use crate::{
    Category, Claim, ConsumerError, ConsumerStore, EventStore, Release, Sharing, StreamName,
    Target, Timestamp,
};

async fn names(store: &dyn ConsumerStore, page: usize) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    loop {
        let after = names.last().map(|last| name(last));
        let infos = store.consumers(after, page).await.expect("a page");
        let full = infos.len() == page;
        names.extend(infos.iter().map(|info| info.name.as_str().to_owned()));
        if !full {
            return names;
        }
    }
}

/// Everything that a claim said comes back as it was said.
pub async fn a_consumer_is_described_as_it_was_created(store: Arc<dyn EventStore>) {
    let consumers = store.consumers();
    let before = Timestamp::now();
    let category = Target::Category(Category::new("öl 'quoted'").expect("a good name"));
    let stream = Target::Stream(StreamName::new("order-1").expect("a good name"));
    for (consumer, sharing, target, filter) in [
        ("all", Sharing::Exclusive, Target::All, None),
        ("category", Sharing::Group, category, Some("{\"eq\":[\"\\u0000 é\"]}")),
        ("stream; DROP TABLE consumers; --", Sharing::Exclusive, stream, Some("{}")),
    ] {
        let claim = Claim {
            node: "knot\0en".into(),
            target: target.clone(),
            filter: filter.map(str::to_owned),
            after: at(17),
            ..claim(consumer, sharing)
        };
        let owner = Owner::by(&*consumers, claim).await;
        let info = consumers.consumer(name(consumer)).await.expect("it is there");
        assert_eq!((info.name.as_str(), info.sharing), (consumer, sharing));
        assert_eq!((info.target, info.filter.as_deref()), (target, filter));
        assert_eq!((info.checkpoint, info.parked), (at(17), 0));
        let about = before.as_micros() - 60_000_000..=Timestamp::now().as_micros() + 60_000_000;
        assert!(about.contains(&info.created_at.as_micros()), "created about now");
        assert_eq!(info.holders.len(), 1);
        let holder = &info.holders[0];
        assert_eq!((holder.member, holder.node.as_str()), (owner.claim.member, "knot\u{fffd}en"));
        assert_eq!(holder.partitions.len(), owner.partitions.len());
    }
}

/// Consumers are listed by name, page by page.
pub async fn consumers_are_listed_in_pages(store: Arc<dyn EventStore>) {
    let consumers = store.consumers();
    assert!(names(&*consumers, 3).await.is_empty());
    for consumer in ["b", "a-2", "a", "c", "ä", "B", "z"] {
        Owner::new(&*consumers, consumer, Sharing::Exclusive).await;
    }
    let sorted = ["B", "a", "a-2", "b", "c", "z", "ä"];
    for page in [1, 3, 7, 100] {
        assert_eq!(names(&*consumers, page).await, sorted, "pages of {page}");
    }
    assert_eq!(consumers.consumers(None, 0).await.expect("a page").len(), 1);
    consumers.delete_consumer(name("c")).await.expect("it is there");
    assert_eq!(names(&*consumers, 2).await, ["B", "a", "a-2", "b", "z", "ä"]);
    let unknown = consumers.consumer(name("c")).await;
    assert_eq!(unknown, Err(ConsumerError::Unknown { name: name("c") }));
}

/// The checkpoint of a group is that of its partition that is furthest behind.
pub async fn the_lowest_checkpoint_is_told(store: Arc<dyn EventStore>) {
    let consumers = store.consumers();
    let owner = Owner::new(&*consumers, "mail", Sharing::Group).await;
    let saves = owner.partitions.iter().map(|claimed| {
        let checkpoint = 100 - u64::from(claimed.partition.get());
        owner.save_of(claimed.partition, claimed.fence, checkpoint)
    });
    save_all(&*consumers, saves.collect()).await;
    let info = consumers.consumer(name("mail")).await.expect("it is there");
    assert_eq!(info.checkpoint, at(37));
    save_all(&*consumers, owner.releases(Release::Clean)).await;
    let info = consumers.consumer(name("mail")).await.expect("it is there");
    assert_eq!(info.checkpoint, at(37), "a release takes nothing back");
    assert!(info.holders.iter().all(|holder| holder.partitions.is_empty()));
    assert_eq!(saved(&*consumers, owner.save(200)).await, Err(ConsumerError::Fenced));
}
