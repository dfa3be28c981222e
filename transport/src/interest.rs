//! Who wants an event: an index from streams and categories to groups, so that the cost of an
//! event grows with the groups that want it, not with the groups there are.

use std::collections::HashMap;

use tidewire_eventstore::{Category, StreamName};
use tidewire_protocol::Target;

/// Names one group of a worker.
pub(crate) type GroupId = usize;

/// The groups of one worker, by what they are interested in.
#[derive(Debug, Default)]
pub(crate) struct Interest {
    all: Vec<GroupId>,
    categories: HashMap<Category, Vec<GroupId>>,
    streams: HashMap<StreamName, Vec<GroupId>>,
}

impl Interest {
    /// Notes that `group` wants the events of `target`.
    pub(crate) fn add(&mut self, target: &Target, group: GroupId) {
        match target {
            Target::All => self.all.push(group),
            Target::Category(category) => {
                self.categories.entry(category.clone()).or_default().push(group);
            }
            Target::Stream(stream) => self.streams.entry(stream.clone()).or_default().push(group),
        }
    }

    /// Forgets `group`, which wanted the events of `target`.
    pub(crate) fn remove(&mut self, target: &Target, group: GroupId) {
        match target {
            Target::All => self.all.retain(|other| *other != group),
            Target::Category(category) => {
                Self::remove_from(&mut self.categories, category, group);
            }
            Target::Stream(stream) => Self::remove_from(&mut self.streams, stream, group),
        }
    }

    fn remove_from<K: std::hash::Hash + Eq>(
        index: &mut HashMap<K, Vec<GroupId>>,
        key: &K,
        group: GroupId,
    ) {
        if let Some(groups) = index.get_mut(key) {
            groups.retain(|other| *other != group);
            if groups.is_empty() {
                index.remove(key);
            }
        }
    }

    /// The groups that want the events of `stream`, each once.
    pub(crate) fn of(&self, stream: &StreamName) -> impl Iterator<Item = GroupId> {
        let category = self.categories.get(stream.category_str()).into_iter().flatten();
        let streams = self.streams.get(stream).into_iter().flatten();
        self.all.iter().chain(category).chain(streams).copied()
    }

    /// Whether nobody wants anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty() && self.categories.is_empty() && self.streams.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(name: &str) -> StreamName {
        StreamName::new(name).expect("a good name")
    }

    #[test]
    fn an_event_finds_exactly_the_groups_that_want_it() {
        let mut interest = Interest::default();
        let order = Target::Category(Category::new("order").expect("a good name"));
        interest.add(&Target::All, 0);
        interest.add(&order, 1);
        interest.add(&Target::Stream(stream("order-1")), 2);
        interest.add(&Target::Stream(stream("order-2")), 3);

        let of = |interest: &Interest, name| interest.of(&stream(name)).collect::<Vec<_>>();
        assert_eq!(of(&interest, "order-1"), [0, 1, 2]);
        assert_eq!(of(&interest, "order-9"), [0, 1]);
        assert_eq!(of(&interest, "orders-1"), [0]);

        interest.remove(&order, 1);
        interest.remove(&Target::All, 0);
        assert_eq!(of(&interest, "order-1"), [2]);
        interest.remove(&Target::Stream(stream("order-1")), 2);
        interest.remove(&Target::Stream(stream("order-2")), 3);
        assert!(interest.is_empty());
    }
}
