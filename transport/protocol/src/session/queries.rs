//! Live queries in a session: begun where the client left off, or with their state; and pages of
//! documents.

use tidewire_eventstore::GlobalPosition;

use super::{
    Moment, Output, QueryChecked, Session,
    subscription::{Asking, BeginQuery, State, begin_query},
};
use crate::{
    codes::ErrorBody,
    messages::{QueryRequest, QueryReset, RequestId, ServerMessage, Sub, Watch},
    query::Reached,
};

impl Session {
    pub(super) fn watch(&mut self, watch: Watch) {
        let Watch { sub, query, after, epoch } = watch;
        if !self.is_free(sub) {
            return;
        }
        let query = Box::new(query);
        let after = after.map(|after| (after, epoch.or(self.epoch)));
        let asking = Asking { query: query.clone(), after, checked: None };
        self.subs.set(sub, State::Asking(Box::new(asking)));
        self.outputs.push_back(Output::CheckQuery { sub, query });
    }

    pub(super) fn query_checked(
        &mut self,
        sub: Sub,
        checked: Result<QueryChecked, ErrorBody>,
        moment: Moment,
    ) {
        let waits = match self.subs.get(sub) {
            Some(State::Asking(asking)) => asking.checked.is_none(),
            Some(State::Abandoned) => true,
            _ => false,
        };
        if !waits {
            return;
        }
        match (self.subs.remove(sub), checked) {
            (Some(State::Asking(mut asking)), Ok(checked)) => {
                asking.checked = Some(checked);
                match begin_query(&asking, &self.info.epochs, moment.head) {
                    BeginQuery::IfReached(_) => {
                        self.subs.set(sub, State::Asking(asking));
                        self.outputs.push_back(Output::CheckHead { sub });
                    }
                    begin => self.begin_watch(sub, *asking, begin, moment.head),
                }
            }
            (Some(State::Asking(_)), Err(error)) => self.refuse_watch(sub, error),
            _ => self.say(&ServerMessage::Unsubscribed { sub, error: None }),
        }
    }

    /// The store's head is known: whether a client which is ahead of this node may resume.
    pub(super) fn query_head_checked(
        &mut self,
        sub: Sub,
        head: Result<GlobalPosition, ErrorBody>,
        moment: Moment,
    ) {
        let Some(State::Asking(asking)) = self.subs.get(sub) else { return };
        // Nobody has asked for the head yet.
        if asking.checked.is_none() {
            return;
        }
        let Some(State::Asking(asking)) = self.subs.remove(sub) else { return };
        match head {
            Ok(head) => {
                let head = head.max(moment.head);
                let begin = match begin_query(&asking, &self.info.epochs, head) {
                    BeginQuery::IfReached(_) => BeginQuery::Afresh(Some(QueryReset::Ahead)),
                    begin => begin,
                };
                self.begin_watch(sub, *asking, begin, head);
            }
            Err(error) => self.refuse_watch(sub, error),
        }
    }

    fn refuse_watch(&mut self, sub: Sub, error: ErrorBody) {
        self.say(&ServerMessage::Error { id: None, sub: Some(sub), error: Box::new(error) });
    }

    fn begin_watch(&mut self, sub: Sub, asking: Asking, begin: BeginQuery, head: GlobalPosition) {
        let Asking { query, checked: Some(QueryChecked { active, .. }), .. } = asking else {
            return;
        };
        let (from, resumed, reset): (Reached, bool, Option<QueryReset>) = match begin {
            BeginQuery::Resumed(after) => (after, true, None),
            BeginQuery::Afresh(reset) => (active, false, reset),
            BeginQuery::IfReached(_) => return,
        };
        self.subs.set(sub, State::CatchingUp);
        self.say(&ServerMessage::Watching { sub, head, after: from, resumed, reset });
        self.outputs.push_back(Output::Watch { sub, query, from, resumed });
    }

    pub(super) fn query(&mut self, id: RequestId, mut request: Box<QueryRequest>) {
        request.limit = request.limit.min(self.config.limits.page_events);
        if self.admit(&id) {
            self.outputs.push_back(Output::Query { id, request });
        }
    }
}
