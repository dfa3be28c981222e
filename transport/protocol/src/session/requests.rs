//! What a client asks for: subscriptions begun and ended, appends and pages.

use serde_json::json;
use tidewire_eventstore::GlobalPosition;

use super::{
    Moment, Output, Phase, Session,
    subscription::{Begin, Pending, State, begin, may_have_missed},
};
use crate::{
    codes::{ErrorBody, ErrorCode},
    delivery::Ledger,
    messages::{
        AckMode, Answer, AppendRequest, CommandRequest, Delivery, FetchRequest, RequestId,
        ResetReason, ServerMessage, Sub, Subscribe,
    },
};

impl Session {
    pub(super) fn subscribe(&mut self, subscribe: Subscribe, moment: Moment) {
        let sub = subscribe.sub;
        if !self.is_free(sub) {
            return;
        }
        let mut feed = subscribe.feed.clone();
        let window = match self.window(&subscribe.delivery) {
            Ok(window) => window,
            Err(error) => {
                let error = Box::new(error);
                return self.say(&ServerMessage::Error { id: None, sub: Some(sub), error });
            }
        };
        feed.ack = window.map_or(AckMode::None, AckMode::within);
        let window = window.map(|window| window.get() as usize);
        if let (Delivery::Consumer { consumer, .. }, Some(window)) = (&subscribe.delivery, window) {
            return self.claim(sub, consumer.clone(), feed, subscribe.after, window, moment);
        }
        let epoch = subscribe.epoch.or(self.epoch);
        match begin(&subscribe, epoch, &self.info.epochs, moment.head, moment.removed) {
            Begin::At { after, resumed } => {
                self.open(sub, Pending { feed, after, window }, resumed, moment.head);
            }
            Begin::IfReached(after) => {
                let pending = Box::new(Pending { feed, after, window });
                self.subs.set(sub, State::Checking(pending));
                self.outputs.push_back(Output::CheckHead { sub });
            }
            Begin::IfRetained(after) => {
                self.check_removed(sub, Box::new(Pending { feed, after, window }));
            }
            Begin::Reset(reason) => self.reset(sub, reason, GlobalPosition::START.next()),
        }
    }

    /// Whether a subscription may be opened under this handle; refuses it otherwise.
    pub(super) fn is_free(&mut self, sub: Sub) -> bool {
        let code = if self.subs.contains(sub) {
            ErrorCode::SubInUse
        } else if self.subs.len() >= self.config.limits.subscriptions {
            ErrorCode::TooManySubscriptions
        } else {
            return true;
        };
        self.refuse(None, Some(sub), code);
        false
    }

    fn open(&mut self, sub: Sub, what: Pending, resumed: bool, head: GlobalPosition) {
        let Pending { feed, after, window } = what;
        self.subs.set(sub, State::CatchingUp);
        if let Some(window) = window {
            self.deliveries.open(sub, Ledger::new(window, after));
        }
        self.say(&ServerMessage::Subscribed { sub, head, after, resumed });
        self.outputs.push_back(Output::Open { sub, feed, after });
    }

    fn check_removed(&mut self, sub: Sub, pending: Box<Pending>) {
        let (target, after) = (pending.feed.target.clone(), pending.after);
        self.subs.set(sub, State::Checking(pending));
        self.outputs.push_back(Output::CheckRemoved { sub, target, after });
    }

    fn reset(&mut self, sub: Sub, reason: ResetReason, first: GlobalPosition) {
        self.say(&ServerMessage::Reset { sub, reason, first });
    }

    pub(super) fn head_checked(
        &mut self,
        sub: Sub,
        head: Result<GlobalPosition, ErrorBody>,
        moment: Moment,
    ) {
        if let Some(State::Asking(_)) = self.subs.get(sub) {
            return self.query_head_checked(sub, head, moment);
        }
        if !matches!(self.subs.get(sub), Some(State::Checking(_) | State::Abandoned)) {
            return;
        }
        match (self.subs.remove(sub), head) {
            (Some(State::Checking(pending)), Ok(head)) => {
                let head = head.max(moment.head);
                if pending.after > head {
                    self.reset(sub, ResetReason::Ahead, GlobalPosition::START.next());
                } else if may_have_missed(pending.after, moment.removed) {
                    self.check_removed(sub, pending);
                } else {
                    self.open(sub, *pending, true, head);
                }
            }
            (Some(State::Checking(_)), Err(error)) => {
                let error = Box::new(error);
                self.say(&ServerMessage::Error { id: None, sub: Some(sub), error });
            }
            _ => self.say(&ServerMessage::Unsubscribed { sub, error: None }),
        }
    }

    pub(super) fn removed_checked(
        &mut self,
        sub: Sub,
        first: Result<Option<GlobalPosition>, ErrorBody>,
        moment: Moment,
    ) {
        if !matches!(self.subs.get(sub), Some(State::Checking(_) | State::Abandoned)) {
            return;
        }
        match (self.subs.remove(sub), first) {
            (Some(State::Checking(_)), Ok(Some(first))) => {
                self.reset(sub, ResetReason::Truncated, first);
            }
            (Some(State::Checking(pending)), Ok(None)) => {
                let head = moment.head.max(pending.after);
                self.open(sub, *pending, true, head);
            }
            (Some(State::Checking(_)), Err(error)) => {
                let error = Box::new(error);
                self.say(&ServerMessage::Error { id: None, sub: Some(sub), error });
            }
            _ => self.say(&ServerMessage::Unsubscribed { sub, error: None }),
        }
    }

    pub(super) fn unsubscribe(&mut self, sub: Sub) {
        match self.subs.get_mut(sub) {
            None | Some(State::Abandoned | State::Forsaken) => {
                self.refuse(None, Some(sub), ErrorCode::UnknownSub);
            }
            Some(state @ (State::Checking(_) | State::Asking(_))) => *state = State::Abandoned,
            // Nobody was asked yet.
            Some(State::Claiming(claiming)) if claiming.unproven.is_some() => {
                self.subs.remove(sub);
                self.say(&ServerMessage::Unsubscribed { sub, error: None });
            }
            Some(state @ State::Claiming(_)) => *state = State::Forsaken,
            Some(State::CatchingUp | State::Live | State::Behind) => self.end(sub, None),
        }
    }

    pub(super) fn feed_live(&mut self, sub: Sub, position: GlobalPosition) {
        if let Some(state @ (State::CatchingUp | State::Behind)) = self.subs.get_mut(sub) {
            *state = State::Live;
            let position = self.deliveries.looked_at(sub, position);
            self.say(&ServerMessage::Live { sub, position });
        }
    }

    pub(super) fn feed_behind(&mut self, sub: Sub, position: GlobalPosition, lag: u64) {
        if let Some(state @ State::Live) = self.subs.get_mut(sub) {
            *state = State::Behind;
            let position = self.deliveries.looked_at(sub, position);
            self.say(&ServerMessage::Behind { sub, position, lag });
        }
    }

    pub(super) fn feed_failed(&mut self, sub: Sub, error: ErrorBody) {
        if self.subs.is_fed(sub) {
            self.end(sub, Some(error));
        }
    }

    pub(super) fn append(&mut self, id: RequestId, append: AppendRequest) {
        let max = self.config.limits.append_events;
        if append.events.len() > max {
            let error = ErrorBody::of(ErrorCode::TooManyEvents)
                .with_details(json!({ "count": append.events.len(), "max": max }));
            let error = Box::new(error);
            return self.say(&ServerMessage::Error { id: Some(id), sub: None, error });
        }
        if self.admit(&id) {
            self.outputs.push_back(Output::Append { id, append });
        }
    }

    pub(super) fn command(&mut self, id: RequestId, command: CommandRequest) {
        if self.admit(&id) {
            self.outputs.push_back(Output::Command { id, command });
        }
    }

    pub(super) fn fetch(&mut self, id: RequestId, mut fetch: FetchRequest) {
        fetch.limit = fetch.limit.min(self.config.limits.page_events);
        if self.admit(&id) {
            self.outputs.push_back(Output::Fetch { id, fetch });
        }
    }

    /// Counts a request, or refuses it.
    pub(super) fn admit(&mut self, id: &RequestId) -> bool {
        if self.requests.contains(id) {
            self.refuse(Some(id.clone()), None, ErrorCode::IdInUse);
            return false;
        }
        // Reading pauses at the limit; what is past it came in the same array.
        if self.requests.len() >= self.config.limits.requests {
            self.refuse(Some(id.clone()), None, ErrorCode::TooManyRequests);
            return false;
        }
        self.requests.push(id.clone());
        true
    }

    pub(super) fn answer(
        &mut self,
        id: RequestId,
        answer: Result<Answer, ErrorBody>,
        moment: Moment,
    ) {
        let Some(at) = self.requests.iter().position(|unanswered| *unanswered == id) else {
            return;
        };
        self.requests.swap_remove(at);
        if self.requests.is_empty() {
            self.requests = Vec::new();
        }
        self.say(&match answer {
            Ok(Answer::Appended { stream, revision, position }) => {
                ServerMessage::Appended { id, stream, revision, position }
            }
            Ok(Answer::Page { events, more, next, head }) => {
                let next = next.map(|next| next.number());
                ServerMessage::Page { id, events, more, next, head }
            }
            Ok(Answer::Documents { reached, documents, more, next }) => {
                ServerMessage::Documents { id, reached, documents, more, next }
            }
            Ok(Answer::Result { data, position }) => ServerMessage::Result { id, data, position },
            Err(error) => ServerMessage::Error { id: Some(id), sub: None, error: Box::new(error) },
        });
        if matches!(self.phase, Phase::Draining(_)) {
            self.drained(moment.now);
        }
    }
}
