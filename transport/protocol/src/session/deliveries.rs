//! Reliable delivery in a session: which subscriptions have acknowledgements, what their clients
//! say of events, and what is sent again.

use std::time::Instant;

use serde_json::json;
use tidewire_eventstore::{GlobalPosition, Partition, RecordedEvent};

use super::{Moment, Output, Phase, Session, subscription::State};
use crate::{
    codes::{CloseCode, ErrorBody, ErrorCode},
    delivery::{DeliveryConfig, Effect, EventRef, Ledger, Offer, Sent, Tally},
    messages::{Delivery, Nack, ServerMessage, Sub},
};

/// At most this many events of a session are read at a time to be sent again.
pub(super) const READS_MAX: usize = 8;

/// The ledgers of a session's subscriptions with acknowledgements.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    ledgers: Vec<(Sub, Box<Ledger>)>,
    /// How many events are being read.
    reads: usize,
    /// What the ledgers that are gone had counted.
    tally: Tally,
    /// Whose turn it is to have an event read.
    turn: usize,
}

impl Deliveries {
    pub(super) fn open(&mut self, sub: Sub, ledger: Ledger) {
        self.ledgers.push((sub, Box::new(ledger)));
    }

    pub(super) fn get_mut(&mut self, sub: Sub) -> Option<&mut Ledger> {
        self.ledgers.iter_mut().find(|(of, _)| *of == sub).map(|(_, ledger)| &mut **ledger)
    }

    fn get(&self, sub: Sub) -> Option<&Ledger> {
        self.ledgers.iter().find(|(of, _)| *of == sub).map(|(_, ledger)| &**ledger)
    }

    pub(super) fn remove(&mut self, sub: Sub) -> Option<Ledger> {
        let at = self.ledgers.iter().position(|(of, _)| *of == sub)?;
        let (_, mut ledger) = self.ledgers.swap_remove(at);
        self.tally.add(ledger.tally.take());
        if self.ledgers.is_empty() {
            self.ledgers = Vec::new();
        }
        Some(*ledger)
    }

    /// A feed has looked at the log through `scanned`; what the client may be told of it.
    pub(super) fn looked_at(&mut self, sub: Sub, scanned: GlobalPosition) -> GlobalPosition {
        self.get_mut(sub).map_or(scanned, |ledger| ledger.looked_at(scanned))
    }

    pub(super) fn accepted(&mut self, config: &DeliveryConfig, now: Instant) {
        for (_, ledger) in &mut self.ledgers {
            ledger.accepted(config, now);
        }
    }

    pub(super) fn replay(&mut self, sub: Sub, events: &[(Partition, GlobalPosition, u32)]) {
        if let Some(ledger) = self.get_mut(sub) {
            for (partition, position, charges) in events {
                ledger.replay(*partition, *position, *charges);
            }
        }
    }

    /// The next event that is to be read for one of the subscriptions, each having its turn.
    fn next_read(&mut self, now: Instant) -> Option<(Sub, GlobalPosition)> {
        if self.reads >= READS_MAX {
            return None;
        }
        for _ in 0..self.ledgers.len() {
            self.turn = (self.turn + 1) % self.ledgers.len();
            let (sub, ledger) = &mut self.ledgers[self.turn];
            if let Some(position) = ledger.next_read(now) {
                self.reads += 1;
                return Some((*sub, position));
            }
        }
        None
    }

    fn next_timeout(&self) -> Option<Instant> {
        let timeouts = self.ledgers.iter().filter_map(|(_, ledger)| ledger.next_timeout());
        // With as many reads as there may be, the next one waits for an answer and not for time.
        let may_read = self.reads < READS_MAX;
        let reads = self.ledgers.iter().filter(|_| may_read);
        timeouts.chain(reads.filter_map(|(_, ledger)| ledger.next_read_at())).min()
    }
}

impl Session {
    /// What became of events since this was last asked.
    pub fn take_tally(&mut self) -> Tally {
        let mut tally = self.deliveries.tally.take();
        for (_, ledger) in &mut self.deliveries.ledgers {
            tally.add(ledger.tally.take());
        }
        tally
    }

    /// How many more events may be sent on `sub` now: as many as one likes where nothing is
    /// acknowledged; none while a window is full, or a group's shares change.
    pub fn room(&self, sub: Sub) -> usize {
        match self.deliveries.get(sub) {
            None => usize::MAX,
            Some(ledger) if self.phase == Phase::Ready => ledger.room(),
            Some(_) => 0,
        }
    }

    /// Offers the next events of a feed, in order: all are beyond what was taken before, and none
    /// between them is left out. As many are taken as there is room for. Poll afterwards.
    pub fn offer(&mut self, sub: Sub, events: &[EventRef], moment: Moment) -> Offer {
        if self.deliveries.ledgers.is_empty() {
            return Offer { taken: events.len(), sent: Sent::All };
        }
        let ready = self.phase == Phase::Ready;
        let Some(ledger) = self.deliveries.get_mut(sub) else {
            return Offer { taken: events.len(), sent: Sent::All };
        };
        if !ready {
            return Offer { taken: 0, sent: Sent::All };
        }
        let mut effects = Vec::new();
        let offer = ledger.offer(events, &self.config.delivery, moment.now, &mut effects);
        self.carry_out(sub, effects);
        if offer.sent != Sent::All {
            self.deliver(moment);
        }
        offer
    }

    /// The window that a subscription gets; none where nothing is acknowledged.
    pub(super) fn window(
        &self,
        delivery: &Delivery,
    ) -> Result<Option<std::num::NonZeroU32>, ErrorBody> {
        if !delivery.acknowledges() {
            return Ok(None);
        }
        let max = self.config.limits.window;
        if let Some(window) = delivery.window()
            && window.get() as usize > max
        {
            return Err(ErrorBody::new(ErrorCode::InvalidField, "window is wider than allowed")
                .with_details(json!({ "field": "window", "max": max })));
        }
        let default = self.config.delivery.window_default.min(max);
        let default = u32::try_from(default).ok().and_then(std::num::NonZeroU32::new);
        Ok(Some(delivery.window().or(default).unwrap_or(std::num::NonZeroU32::MIN)))
    }

    pub(super) fn ack(&mut self, sub: Sub, position: GlobalPosition) {
        let Some(ledger) = self.deliveries.get_mut(sub) else { return self.no_acks(sub) };
        if let Err(code) = ledger.ack(position) {
            self.refuse(None, Some(sub), code);
        }
    }

    pub(super) fn nack(&mut self, sub: Sub, nack: &Nack, moment: Moment) {
        let Some(ledger) = self.deliveries.get_mut(sub) else { return self.no_acks(sub) };
        if nack.positions.len() > ledger.width() {
            let error =
                ErrorBody::new(ErrorCode::InvalidField, "positions are more than the window")
                    .with_details(json!({ "field": "positions", "max": ledger.width() }));
            let error = Box::new(error);
            return self.say(&ServerMessage::Error { id: None, sub: Some(sub), error });
        }
        let mut effects = Vec::new();
        let unknown = ledger.nack(nack, &self.config.delivery, moment.now, &mut effects);
        if !unknown.is_empty() {
            let unknown: Vec<u64> = unknown.into_iter().map(GlobalPosition::get).collect();
            let error = ErrorBody::of(ErrorCode::UnknownPosition)
                .with_details(json!({ "positions": unknown }));
            let error = Box::new(error);
            self.say(&ServerMessage::Error { id: None, sub: Some(sub), error });
        }
        self.carry_out(sub, effects);
    }

    /// Answers an ack or a nack of a subscription that has none, or is not open.
    fn no_acks(&mut self, sub: Sub) {
        let open = self.subs.is_fed(sub);
        let code = if open { ErrorCode::AckNone } else { ErrorCode::UnknownSub };
        self.refuse(None, Some(sub), code);
    }

    pub(super) fn read(
        &mut self,
        sub: Sub,
        position: GlobalPosition,
        event: Result<Option<Box<RecordedEvent>>, ErrorBody>,
        moment: Moment,
    ) {
        self.deliveries.reads = self.deliveries.reads.saturating_sub(1);
        if self.phase != Phase::Ready {
            return;
        }
        let Some(ledger) = self.deliveries.get_mut(sub) else { return };
        let mut effects = Vec::new();
        if let Some(event) = ledger.read(position, event, moment.now, &mut effects) {
            self.say(&ServerMessage::Events { sub, events: vec![event] });
        }
        self.carry_out(sub, effects);
    }

    /// Does what time and the last input have brought to the subscriptions with acknowledgements.
    pub(super) fn deliver(&mut self, moment: Moment) {
        if self.deliveries.ledgers.is_empty() || self.phase != Phase::Ready {
            return;
        }
        let now = moment.now;
        let mut all = Vec::new();
        for (sub, ledger) in &mut self.deliveries.ledgers {
            let mut effects = Vec::new();
            ledger.progress(&self.config.delivery, now, &mut effects);
            if !effects.is_empty() {
                all.push((*sub, effects));
            }
        }
        for (sub, effects) in all {
            self.carry_out(sub, effects);
        }
        while let Some((sub, position)) = self.deliveries.next_read(now) {
            self.outputs.push_back(Output::Read { sub, position });
        }
    }

    /// When [`Self::deliver`] has something to do next, if nothing else happens.
    pub(super) fn next_delivery(&self) -> Option<Instant> {
        if self.deliveries.ledgers.is_empty() || self.phase != Phase::Ready {
            return None;
        }
        self.deliveries.next_timeout()
    }

    fn carry_out(&mut self, sub: Sub, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Retrying(positions) => {
                    self.say(&ServerMessage::Retrying { sub, positions });
                }
                Effect::Parked { positions, reason } => {
                    self.say(&ServerMessage::Parked { sub, positions, reason });
                }
                Effect::Save(progress) => self.outputs.push_back(Output::Save { sub, progress }),
                Effect::End(code) => return self.end(sub, Some(code.into())),
            }
        }
    }

    /// Ends an open subscription, in order.
    pub(super) fn end(&mut self, sub: Sub, error: Option<ErrorBody>) {
        self.subs.remove(sub);
        self.outputs.push_back(Output::Shut { sub });
        self.release(sub, true);
        self.say(&ServerMessage::Unsubscribed { sub, error: error.map(Box::new) });
    }

    fn release(&mut self, sub: Sub, clean: bool) {
        let Some(mut ledger) = self.deliveries.remove(sub) else { return };
        let progress = ledger.release(clean, &self.config.delivery);
        self.deliveries.tally.add(ledger.tally.take());
        if let Some(progress) = progress {
            self.outputs.push_back(Output::Release { sub, progress, clean });
        }
    }

    /// Lets go of every consumer, because the session ends with `code`. Their feeds stop.
    pub(super) fn release_all(&mut self, code: CloseCode) {
        let clean = code.is_orderly();
        while let Some((sub, _)) = self.deliveries.ledgers.last() {
            let sub = *sub;
            if matches!(
                self.subs.remove(sub),
                Some(State::CatchingUp | State::Live | State::Behind)
            ) {
                self.outputs.push_back(Output::Shut { sub });
            }
            self.release(sub, clean);
        }
    }
}
