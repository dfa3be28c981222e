//! The subscriptions of one session: which handles are taken, and where each of them stands.

use tidewire_eventstore::GlobalPosition;
use uuid::Uuid;

use crate::{
    delivery::ClaimRequest,
    messages::{After, ConsumerRef, Epoch, FeedSpec, QueryReset, ResetReason, Sub, Subscribe},
    query::{Query, Reached},
};

use super::QueryChecked;

/// Where a subscription stands.
#[derive(Debug)]
pub(super) enum State {
    /// Its position is beyond what this node has looked at, or before something that was removed;
    /// the store is asked for its head, or whether the subscription has missed something.
    Checking(Box<Pending>),
    /// The same, or [`Self::Asking`], but the client has ended it meanwhile. The handle stays taken
    /// until the store has answered, so that the answer cannot be taken for a later
    /// subscription's.
    Abandoned,
    /// Its query is being checked, and where its client is ahead, the store's head.
    Asking(Box<Asking>),
    /// Its consumer is being claimed.
    Claiming(Box<Claiming>),
    /// The same, but the client has ended it meanwhile, as with [`Self::Abandoned`].
    Forsaken,
    /// It reads the log for the first time.
    CatchingUp,
    /// It is fed what is appended.
    Live,
    /// It fell behind and reads the log again.
    Behind,
}

impl State {
    fn is_fed(&self) -> bool {
        matches!(self, Self::CatchingUp | Self::Live | Self::Behind)
    }
}

/// A subscription that waits for the store's word on where it begins.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) feed: FeedSpec,
    pub(super) after: GlobalPosition,
    /// The window, where events are acknowledged.
    pub(super) window: Option<usize>,
}

/// A live query that waits for word of its projection.
#[derive(Debug)]
pub(super) struct Asking {
    pub(super) query: Box<Query>,
    /// What the client holds, and the epoch it was learnt in.
    pub(super) after: Option<(Reached, Option<Uuid>)>,
    /// How the projection stands; none: nobody has said yet.
    pub(super) checked: Option<QueryChecked>,
}

/// A subscription that waits for its consumer.
#[derive(Debug)]
pub(super) struct Claiming {
    pub(super) consumer: ConsumerRef,
    pub(super) feed: FeedSpec,
    pub(super) window: usize,
    /// What is still missing before it is claimed.
    pub(super) unproven: Option<Unproven>,
}

/// A claim that waits for a sign of life from its client.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unproven {
    /// The ping that has to be answered, this one or a later one.
    pub(super) ping: u32,
    /// Where the consumer begins if it is created.
    pub(super) after: GlobalPosition,
}

/// All of them, sorted by handle.
#[derive(Debug, Default)]
pub(super) struct Subscriptions(Vec<(Sub, State)>);

impl Subscriptions {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn contains(&self, sub: Sub) -> bool {
        self.find(sub).is_ok()
    }

    pub(super) fn get(&self, sub: Sub) -> Option<&State> {
        let at = self.find(sub).ok()?;
        Some(&self.0[at].1)
    }

    pub(super) fn get_mut(&mut self, sub: Sub) -> Option<&mut State> {
        let at = self.find(sub).ok()?;
        Some(&mut self.0[at].1)
    }

    /// Takes a free handle, or changes the state of a taken one.
    pub(super) fn set(&mut self, sub: Sub, state: State) {
        match self.find(sub) {
            Ok(at) => self.0[at].1 = state,
            Err(at) => self.0.insert(at, (sub, state)),
        }
    }

    pub(super) fn remove(&mut self, sub: Sub) -> Option<State> {
        let at = self.find(sub).ok()?;
        let (_, state) = self.0.remove(at);
        if self.0.is_empty() {
            self.0 = Vec::new();
        }
        Some(state)
    }

    /// The claims that wait for the answer to `ping`, or to one before it.
    pub(super) fn proven(&mut self, ping: u32) -> Vec<(Sub, ClaimRequest)> {
        let claim = |(sub, state): &mut (Sub, State)| {
            let State::Claiming(claiming) = state else { return None };
            let Unproven { after, .. } =
                claiming.unproven.take_if(|unproven| unproven.ping <= ping)?;
            let Claiming { consumer, feed, .. } = &**claiming;
            let claim = ClaimRequest { consumer: consumer.clone(), feed: feed.clone(), after };
            Some((*sub, claim))
        };
        self.0.iter_mut().filter_map(claim).collect()
    }

    /// Whether the subscription has a feed.
    pub(super) fn is_fed(&self, sub: Sub) -> bool {
        self.find(sub).is_ok_and(|at| self.0[at].1.is_fed())
    }

    /// Ends all of them; returns those that had a feed.
    pub(super) fn end(&mut self) -> impl Iterator<Item = Sub> + use<> {
        let all = std::mem::take(&mut self.0).into_iter();
        all.filter(|(_, state)| state.is_fed()).map(|(sub, _)| sub)
    }

    fn find(&self, sub: Sub) -> Result<usize, usize> {
        self.0.binary_search_by_key(&sub, |(sub, _)| *sub)
    }
}

/// Where a new subscription begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begin {
    /// After this position; `resumed` when the client named it.
    At { after: GlobalPosition, resumed: bool },
    /// After this position, if the log reaches that far.
    IfReached(GlobalPosition),
    /// After this position, if nothing was removed that the client has not seen.
    IfRetained(GlobalPosition),
    /// Nowhere: the client has to start over.
    Reset(ResetReason),
}

/// Decides where `subscribe` begins. `epoch` is what the client remembers, `epochs` what the log
/// has had, `head` what this node has looked at, `removed` the last position that was removed.
pub(super) fn begin(
    subscribe: &Subscribe,
    epoch: Option<Uuid>,
    epochs: &[Epoch],
    head: GlobalPosition,
    removed: GlobalPosition,
) -> Begin {
    match subscribe.after {
        After::Start => Begin::At { after: GlobalPosition::START, resumed: false },
        After::End => Begin::At { after: head, resumed: false },
        After::Position(after) => {
            if epoch.is_some_and(|epoch| !holds(after, epoch, epochs)) {
                Begin::Reset(ResetReason::Epoch)
            } else if after > head {
                Begin::IfReached(after)
            } else if may_have_missed(after, removed) {
                Begin::IfRetained(after)
            } else {
                Begin::At { after, resumed: true }
            }
        }
    }
}

/// Whether a client that has seen the log through `after` may have missed something that was removed.
/// Who has seen nothing has missed nothing.
pub(super) fn may_have_missed(after: GlobalPosition, removed: GlobalPosition) -> bool {
    after > GlobalPosition::START && after < removed
}

/// Where a live query begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BeginQuery {
    /// With its state, and why that has to be, if the client held something.
    Afresh(Option<QueryReset>),
    /// With what has changed after what the client holds.
    Resumed(Reached),
    /// Resumed, if the log reaches this far.
    IfReached(GlobalPosition),
}

/// Decides where a live query begins: `epochs` are what the log has had, `head` what is known of
/// its head. Nothing is gone on from in another epoch, wherever that began: a generation that was
/// begun after the backup was made has given its number to another since.
pub(super) fn begin_query(asking: &Asking, epochs: &[Epoch], head: GlobalPosition) -> BeginQuery {
    let (Some((after, epoch)), Some(checked)) = (asking.after, asking.checked) else {
        return BeginQuery::Afresh(None);
    };
    let present = epochs.last().map(|last| last.epoch);
    let reset = if epoch.is_some() && epoch != present {
        QueryReset::Epoch
    } else if after.generation != checked.active.generation {
        QueryReset::Generation
    } else if asking.query.window.is_some() {
        QueryReset::Window
    } else if after.position < checked.changes_from {
        QueryReset::Truncated
    } else if after.position > checked.active.position.max(head) {
        return BeginQuery::IfReached(after.position);
    } else {
        return BeginQuery::Resumed(after);
    };
    BeginQuery::Afresh(Some(reset))
}

/// Whether what a client saw up to `after` in `epoch` is still what the log holds: the epoch is
/// known, and every later one began past the position.
fn holds(after: GlobalPosition, epoch: Uuid, epochs: &[Epoch]) -> bool {
    match epochs.iter().rposition(|known| known.epoch == epoch) {
        Some(at) => epochs[at + 1..].iter().all(|later| after < later.first_position),
        None => false,
    }
}

#[cfg(test)]
#[path = "subscription_tests.rs"]
mod tests;
