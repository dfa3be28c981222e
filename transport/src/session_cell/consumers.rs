//! The consumers of one session: what they are known by in the store, and what is news of them.

use std::rc::Rc;

use tidewire_eventstore::{ConsumerName, MemberId};
use tidewire_protocol::{ErrorBody, Progress, Sub, session::Input};
use tokio::sync::mpsc;

use super::{SessionCell, State};
use crate::consumers::{Granted, Notice};

impl State {
    /// Takes out who holds the consumer of a subscription.
    pub(super) fn take_member(&mut self, sub: Sub) -> Option<MemberId> {
        let at = self.members.iter().position(|(of, _)| *of == sub)?;
        Some(self.members.swap_remove(at).1)
    }
}

impl SessionCell {
    /// Tells the session what its claim of a consumer came to. Returns who holds the consumer, and
    /// its news, if the session still wants it.
    pub(crate) fn claimed(
        self: &Rc<Self>,
        sub: Sub,
        claimed: Result<Granted, ErrorBody>,
    ) -> Option<(MemberId, mpsc::Receiver<Notice>)> {
        let Granted { member, grant, notices } = match claimed {
            Ok(granted) => granted,
            Err(error) => {
                self.handle(Input::Claimed { sub, claimed: Err(error) });
                return None;
            }
        };
        self.state.borrow_mut().members.push((sub, member));
        self.handle(Input::Claimed { sub, claimed: Ok(grant) });
        let mut state = self.state.borrow_mut();
        if state.session.is_closed() && state.take_member(sub).is_some() {
            // A session that is over says nothing more.
            self.worker.node().consumers.release(member, Progress::default(), true);
        }
        state.members.contains(&(sub, member)).then_some((member, notices))
    }

    /// Tells the session news of a consumer, unless it is not held by `member` any more.
    pub(crate) fn news_of(self: &Rc<Self>, member: MemberId, news: impl FnOnce(Sub) -> Input) {
        let state = self.state.borrow();
        let sub = state.members.iter().find(|(_, own)| *own == member).map(|(sub, _)| *sub);
        drop(state);
        if let Some(sub) = sub {
            self.handle(news(sub));
        }
    }

    /// Who the session has been in a group that it claims a share of again.
    pub(crate) fn stayed(&self, group: &ConsumerName) -> Option<MemberId> {
        let mut state = self.state.borrow_mut();
        let at = state.staying.iter().position(|(name, _)| name == group)?;
        Some(state.staying.swap_remove(at).1)
    }

    /// Who holds the consumer of a subscription.
    pub(crate) fn member(&self, sub: Sub) -> Option<MemberId> {
        let state = self.state.borrow();
        state.members.iter().find(|(of, _)| *of == sub).map(|(_, member)| *member)
    }
}
