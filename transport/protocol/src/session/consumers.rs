//! Consumers in a session: claiming, saving and losing them.

use tidewire_eventstore::{GlobalPosition, Sharing};

use super::{
    Moment, Output, Phase, Session,
    subscription::{Claiming, State, Unproven},
};
use crate::{
    codes::{ErrorBody, ErrorCode},
    delivery::{ClaimRequest, Grant, Ledger},
    messages::{After, ConsumerRef, FeedSpec, ServerMessage, Sub},
};

impl Session {
    /// Asks for a consumer. Who claims one that is not shared takes it from whoever has it. So the
    /// client has to show first that it is there: a message that was stuck in the network while its
    /// sender has come back on another connection must not take the consumer from that. What the log remembers of it goes before what the client remembers:
    /// `after` counts only if it is created now, and then no further than the head.
    pub(super) fn claim(
        &mut self,
        sub: Sub,
        consumer: ConsumerRef,
        feed: FeedSpec,
        after: After,
        window: usize,
        moment: Moment,
    ) {
        let after = match after {
            After::Start => GlobalPosition::START,
            After::End => moment.head,
            After::Position(position) => position.min(moment.head),
        };
        if consumer.sharing == Sharing::Exclusive {
            let unproven = Some(Unproven { ping: self.challenge(moment.now), after });
            let claiming = Box::new(Claiming { consumer, feed, window, unproven });
            return self.subs.set(sub, State::Claiming(claiming));
        }
        let claim =
            Box::new(ClaimRequest { consumer: consumer.clone(), feed: feed.clone(), after });
        let claiming = Box::new(Claiming { consumer, feed, window, unproven: None });
        self.subs.set(sub, State::Claiming(claiming));
        self.outputs.push_back(Output::Claim { sub, claim });
    }

    /// The client has answered `ping`: it is there, and may take consumers over.
    pub(super) fn proven(&mut self, ping: u32) {
        for (sub, claim) in self.subs.proven(ping) {
            self.outputs.push_back(Output::Claim { sub, claim: Box::new(claim) });
        }
    }

    pub(super) fn claimed(&mut self, sub: Sub, claimed: Result<Grant, ErrorBody>, moment: Moment) {
        match self.subs.get(sub) {
            Some(State::Claiming(_)) if self.phase == Phase::Ready => {}
            Some(State::Forsaken) => {
                self.subs.remove(sub);
                self.give_back(sub, claimed);
                return self.say(&ServerMessage::Unsubscribed { sub, error: None });
            }
            // The session lets go of everything, or the driver answers twice.
            _ => return self.give_back(sub, claimed),
        }
        let Some(State::Claiming(claiming)) = self.subs.remove(sub) else { return };
        match claimed {
            Err(error) => {
                let error = Box::new(error);
                self.say(&ServerMessage::Error { id: None, sub: Some(sub), error });
            }
            Ok(grant) => self.open_consumer(sub, *claiming, &grant, moment),
        }
    }

    fn open_consumer(&mut self, sub: Sub, claiming: Claiming, grant: &Grant, moment: Moment) {
        let Claiming { consumer, mut feed, window, .. } = claiming;
        let ledger = Ledger::granted(window, &consumer, grant, moment.head);
        let after = ledger.begins_after();
        feed.partitions = ledger.partitions();
        self.subs.set(sub, State::CatchingUp);
        self.deliveries.open(sub, ledger);
        let (head, resumed) = (moment.head, grant.existed);
        self.say(&ServerMessage::Subscribed { sub, head, after, resumed });
        self.outputs.push_back(Output::Open { sub, feed, after });
    }

    /// Gives back a grant that nobody wants any more, untouched.
    pub(super) fn give_back(&mut self, sub: Sub, claimed: Result<Grant, ErrorBody>) {
        let Ok(grant) = claimed else { return };
        self.outputs.push_back(Output::Release { sub, progress: grant.untouched(), clean: true });
    }

    pub(super) fn saved(&mut self, sub: Sub, saved: Result<(), ErrorBody>, moment: Moment) {
        let taken = Some(ErrorCode::ConsumerTaken);
        if saved.as_ref().is_err_and(|error| error.known() == taken) {
            return self.taken(sub);
        }
        if let Some(ledger) = self.deliveries.get_mut(sub) {
            ledger.saved(saved.is_ok(), &self.config.delivery, moment.now);
        }
    }

    /// Another session holds the consumer: there is nothing left to let go of.
    pub(super) fn taken(&mut self, sub: Sub) {
        if self.deliveries.get_mut(sub).is_some_and(|ledger| ledger.is_consumer()) {
            self.deliveries.remove(sub);
            self.end(sub, Some(ErrorCode::ConsumerTaken.into()));
        }
    }

    pub(super) fn rebalance(&mut self, sub: Sub, moment: Moment) {
        if let Some(ledger) = self.deliveries.get_mut(sub).filter(|ledger| ledger.is_consumer()) {
            ledger.leave(&self.config.delivery, moment.now);
        }
    }
}
