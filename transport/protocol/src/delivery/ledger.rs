//! Everything that one subscription with acknowledgements has to keep in mind.
//!
//! The ledger puts the parts together: the [window](super::window), the timer of its oldest
//! event, and for a consumer what the log has to remember. It says what has to be done as
//! [`Effect`]s; the session does it.

use std::time::{Duration, Instant};

use tidewire_eventstore::{GlobalPosition, Partition, PartitionSet, RecordedEvent, StreamHash};

use super::{
    DeliveryConfig, EventRef, Grant, Offer, Progress, Sent, Tally,
    checkpoints::Checkpoints,
    retry::AckTimer,
    window::{Settled, Window},
};
use crate::{
    codes::{ErrorBody, ErrorCode},
    messages::{ConsumerRef, Delivered, Nack, NackAction},
};

/// Why an event was parked that was attempted as often as it may be.
const ATTEMPTS_SPENT: &str = "attempts spent";
/// Why an event was parked whose client gave no reason.
const NO_REASON: &str = "parked by the client";
/// Why a client waits in vain for an event to come again.
const GONE: &str = "no longer in the log";
/// How long to wait before an event is read again that could not be read.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// Something to do for a subscription.
#[derive(Debug, PartialEq)]
pub(crate) enum Effect {
    /// Tell the client that its wish for a retry has arrived.
    Retrying(Vec<GlobalPosition>),
    /// Tell the client that these events were put aside.
    Parked { positions: Vec<GlobalPosition>, reason: String },
    /// Save a consumer's progress.
    Save(Progress),
    /// End the subscription in order, with this code.
    End(ErrorCode),
}

/// The state of one subscription with acknowledgements.
#[derive(Debug)]
pub(crate) struct Ledger {
    window: Window,
    width: usize,
    /// The last holder vanished: one event at a time, until one is settled.
    careful: bool,
    timer: AckTimer,
    /// The feed has offered everything up to here.
    scanned: GlobalPosition,
    consumer: Option<Box<Checkpoints>>,
    /// The shares of the group change: by then the subscription ends.
    leaving: Option<Instant>,
    pub(crate) tally: Tally,
}

impl Ledger {
    /// The ledger of a subscription that begins after `after`.
    pub(crate) fn new(width: usize, after: GlobalPosition) -> Self {
        Self {
            window: Window::after(after),
            width,
            careful: false,
            timer: AckTimer::default(),
            scanned: after,
            consumer: None,
            leaving: None,
            tally: Tally::default(),
        }
    }

    /// The ledger of a consumer; a share of nothing begins after `idle`.
    pub(crate) fn granted(
        width: usize,
        consumer: &ConsumerRef,
        grant: &Grant,
        idle: GlobalPosition,
    ) -> Self {
        let checkpoints = Checkpoints::new(consumer.sharing, grant);
        let mut ledger = Self::new(width, checkpoints.lowest().unwrap_or(idle));
        ledger.careful = grant.partitions.iter().any(|granted| granted.unclean);
        ledger.consumer = Some(Box::new(checkpoints));
        ledger
    }

    /// Where the subscription begins.
    pub(crate) fn begins_after(&self) -> GlobalPosition {
        self.scanned
    }

    /// Which shares of the streams the feed has to have.
    pub(crate) fn partitions(&self) -> PartitionSet {
        self.consumer.as_ref().map_or(PartitionSet::ALL, |consumer| consumer.partitions())
    }

    /// Whether a consumer's checkpoint is kept.
    pub(crate) fn is_consumer(&self) -> bool {
        self.consumer.is_some()
    }

    /// The widest that the window gets.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// How many more events may be sent now.
    pub(crate) fn room(&self) -> usize {
        if self.leaving.is_some() {
            return 0;
        }
        let unsaved = self.consumer.as_ref().map_or(0, |consumer| consumer.unsaved());
        let room = self.width.saturating_sub(self.window.len().saturating_add(unsaved));
        if self.careful { room.min(1_usize.saturating_sub(self.window.under_way())) } else { room }
    }

    /// Takes as many of the feed's next events as there is room for.
    pub(crate) fn offer(
        &mut self,
        events: &[EventRef],
        config: &DeliveryConfig,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) -> Offer {
        let mut taken = 0;
        let mut room = self.room();
        // The indices of what is to be written, once something is not.
        let mut some: Option<Vec<usize>> = None;
        for event in events {
            let mut write = false;
            if self.wants(event) {
                if room == 0 {
                    break;
                }
                room -= 1;
                let charges = self.charges_of(event.position);
                write = self.window.take(*event, charges, now);
                if charges >= config.max_attempts {
                    self.park(&[event.position], ATTEMPTS_SPENT, effects);
                }
            }
            match &mut some {
                Some(indices) if write => indices.push(taken),
                None if !write => some = Some((0..taken).collect()),
                _ => {}
            }
            taken += 1;
            self.scanned = self.scanned.max(event.position);
        }
        Offer { taken, sent: some.map_or(Sent::All, Sent::Some) }
    }

    fn wants(&self, event: &EventRef) -> bool {
        event.position > self.scanned
            && self
                .consumer
                .as_ref()
                .is_none_or(|consumer| consumer.wants(event.stream, event.position))
    }

    fn charges_of(&mut self, position: GlobalPosition) -> u32 {
        self.consumer.as_mut().map_or(0, |consumer| consumer.take_charges(position))
    }

    /// The kernel has accepted everything.
    pub(crate) fn accepted(&mut self, config: &DeliveryConfig, now: Instant) {
        self.window.accept();
        self.timer.follow(&self.window, config, now);
    }

    /// The log was looked at through `scanned`; what the client may be told of that.
    pub(crate) fn looked_at(&mut self, scanned: GlobalPosition) -> GlobalPosition {
        if scanned > self.scanned {
            self.scanned = scanned;
        }
        if let Some(consumer) = &mut self.consumer {
            consumer.scanned(self.scanned);
        }
        self.window.vouch(scanned)
    }

    /// The client has processed everything up to `position`.
    ///
    /// # Errors
    ///
    /// `ack_ahead` when it was not told of that position.
    pub(crate) fn ack(&mut self, position: GlobalPosition) -> Result<(), ErrorCode> {
        if position > self.window.told() {
            return Err(ErrorCode::AckAhead);
        }
        let Self { window, consumer, careful, tally, .. } = self;
        window.ack(position, |settled| {
            *careful = false;
            tally.settled += 1;
            if let Some(consumer) = consumer {
                consumer.settled(settled);
            }
        });
        self.timer.restart();
        Ok(())
    }

    /// The client could not process some events; those of them that it does not have.
    pub(crate) fn nack(
        &mut self,
        nack: &Nack,
        config: &DeliveryConfig,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) -> Vec<GlobalPosition> {
        let mut named = nack.positions.clone();
        named.sort_unstable();
        named.dedup();
        let waits = matches!(nack.action, NackAction::Retry { .. });
        let known = |position: &GlobalPosition| {
            self.window.get(*position).is_some_and(|entry| !waits || !entry.is_away())
        };
        let (named, unknown): (Vec<_>, Vec<_>) = named.into_iter().partition(known);
        if waits {
            self.withdraw_after_settled(&unknown, now);
        }
        if named.is_empty() {
            return unknown;
        }
        match nack.action {
            NackAction::Retry { delay } => {
                let reason = nack.reason.as_deref().unwrap_or(ATTEMPTS_SPENT);
                let due = now.checked_add(delay).unwrap_or(now);
                effects.push(Effect::Retrying(named.clone()));
                self.retry(&named, due, reason, config, now, effects);
            }
            NackAction::Park => {
                for position in &named {
                    // What the client has is being attempted; what waits has been charged.
                    if self.window.get(*position).is_some_and(|entry| !entry.is_away()) {
                        self.window.charge(*position);
                    }
                }
                self.park(&named, nack.reason.as_deref().unwrap_or(NO_REASON), effects);
            }
            NackAction::Skip => {
                for position in named {
                    self.skip(position);
                }
            }
            NackAction::Stop => effects.push(Effect::End(ErrorCode::Stopped)),
        }
        unknown
    }

    /// A client may give back an event that is settled: by the end of its attempts, of which it
    /// has not heard yet, or by an ack of its own before the event came once more. It has dropped
    /// later events all the same; which ones cannot be told any more, so all of them come again.
    fn withdraw_after_settled(&mut self, unknown: &[GlobalPosition], now: Instant) {
        let settled = |position: &&GlobalPosition| {
            **position <= self.window.told() && self.window.get(**position).is_none()
        };
        if let Some(lowest) = unknown.iter().find(settled) {
            self.window.withdraw_all_after(*lowest, now);
        }
    }

    fn retry(
        &mut self,
        named: &[GlobalPosition],
        due: Instant,
        reason: &str,
        config: &DeliveryConfig,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let mut spent = Vec::new();
        for position in named {
            let Some(stream) = self.window.get(*position).map(|entry| entry.stream) else {
                continue;
            };
            let attempts = self.window.charge(*position);
            self.touch(stream);
            if attempts >= config.max_attempts {
                spent.push(*position);
            }
            // The client drops them all, and cannot know whether the event comes again.
            self.window.withdraw_after(*position, stream, now);
        }
        for position in named {
            self.window.call_back(*position, due);
        }
        self.park(&spent, reason, effects);
    }

    fn skip(&mut self, position: GlobalPosition) {
        if let Some(settled) = self.settle(position) {
            self.tally.settled += 1;
            if let Some(consumer) = &mut self.consumer {
                consumer.settled(settled);
            }
        }
    }

    fn park(&mut self, positions: &[GlobalPosition], reason: &str, effects: &mut Vec<Effect>) {
        for position in positions {
            if let Some(settled) = self.settle(*position) {
                self.tally.parked += 1;
                if let Some(consumer) = &mut self.consumer {
                    consumer.parked(settled, reason);
                }
            }
        }
        if !positions.is_empty() {
            let positions = positions.to_vec();
            effects.push(Effect::Parked { positions, reason: reason.to_owned() });
        }
    }

    fn settle(&mut self, position: GlobalPosition) -> Option<Settled> {
        let settled = self.window.settle(position);
        self.careful &= settled.is_none();
        settled
    }

    fn touch(&mut self, stream: StreamHash) {
        if let Some(consumer) = &mut self.consumer {
            consumer.touch(stream);
        }
    }

    /// The next event that has to be read to be sent alone.
    pub(crate) fn next_read(&mut self, now: Instant) -> Option<GlobalPosition> {
        if self.leaving.is_some() {
            return None;
        }
        self.window.next_read(now, self.one_more()).or_else(|| {
            if self.room() == 0 {
                return None;
            }
            self.consumer.as_mut()?.next_replay(now)
        })
    }

    /// Whether the client may be given an event that it does not have.
    fn one_more(&self) -> bool {
        !self.careful || self.window.with_client() == 0
    }

    /// An event was read that [`Self::next_read`] named; what is to be sent, if anything.
    pub(crate) fn read(
        &mut self,
        position: GlobalPosition,
        event: Result<Option<Box<RecordedEvent>>, ErrorBody>,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) -> Option<Delivered> {
        if self.consumer.as_ref().is_some_and(|consumer| consumer.is_reading(position)) {
            return self.replayed(event, now);
        }
        let waits = self.window.get(position).filter(|entry| entry.place().is_reading())?;
        let waits = waits.history().is_some_and(|history| history.expected);
        match event {
            Ok(Some(event)) => {
                let attempt = self.window.sent(position)?;
                self.tally.sent_again += 1;
                Some(Delivered { event: *event, attempt })
            }
            Ok(None) => {
                self.skip(position);
                if waits {
                    let positions = vec![position];
                    effects.push(Effect::Parked { positions, reason: GONE.to_owned() });
                }
                None
            }
            Err(error) if error.retryable => {
                self.window.put_off(position, now.checked_add(READ_AGAIN).unwrap_or(now));
                None
            }
            Err(error) => {
                self.park(&[position], &error.to_string(), effects);
                None
            }
        }
    }

    /// A parked event was read that is to be delivered again.
    fn replayed(
        &mut self,
        event: Result<Option<Box<RecordedEvent>>, ErrorBody>,
        now: Instant,
    ) -> Option<Delivered> {
        let consumer = self.consumer.as_mut()?;
        match event {
            Ok(Some(event)) => {
                let replay = consumer.take_replay()?;
                let stream = StreamHash::of(&event.stream);
                let held_back = self.window.is_held_back(stream);
                let event_ref = EventRef { position: replay.position, stream };
                if !self.window.replay(event_ref, replay.forgiven, replay.charges, now) || held_back
                {
                    return None;
                }
                let attempt = self.window.sent(replay.position)?;
                self.tally.sent_again += 1;
                Some(Delivered { event: *event, attempt })
            }
            Err(error) if error.retryable => {
                consumer.put_off_replay(now.checked_add(READ_AGAIN).unwrap_or(now));
                None
            }
            Ok(None) => {
                if let Some(replay) = consumer.take_replay() {
                    consumer.replay_gone(replay);
                }
                None
            }
            // It stays parked, for whoever looks into it.
            Err(_) => {
                consumer.take_replay();
                None
            }
        }
    }

    /// Somebody wants a parked event delivered again.
    pub(crate) fn replay(&mut self, partition: Partition, position: GlobalPosition, charges: u32) {
        if let Some(consumer) = &mut self.consumer {
            consumer.replay(partition, position, charges);
        }
    }

    /// A save has been answered.
    pub(crate) fn saved(&mut self, succeeded: bool, config: &DeliveryConfig, now: Instant) {
        if let Some(consumer) = &mut self.consumer {
            consumer.saved(succeeded, config.save_interval, now);
        }
    }

    /// The shares of the group change: nothing more is sent, and when the client has nothing
    /// left to settle, or takes too long, the subscription ends.
    pub(crate) fn leave(&mut self, config: &DeliveryConfig, now: Instant) {
        self.leaving = self.leaving.or_else(|| now.checked_add(config.rebalance_timeout));
    }

    /// Does what time has brought, and says when the next time comes.
    pub(crate) fn progress(
        &mut self,
        config: &DeliveryConfig,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(by) = self.leaving
            && (self.window.with_client() == 0 || by <= now)
        {
            return effects.push(Effect::End(ErrorCode::Rebalanced));
        }
        self.timer.follow(&self.window, config, now);
        if let Some(position) = self.timer.take_expired(now) {
            self.expired(position, config, now, effects);
            self.timer.follow(&self.window, config, now);
        }
        if let Some(consumer) = &mut self.consumer {
            consumer.plan(config.save_interval, now);
            if let Some(progress) = consumer.save(&self.window, self.scanned, now) {
                effects.push(Effect::Save(progress));
            }
        }
    }

    fn expired(
        &mut self,
        position: GlobalPosition,
        config: &DeliveryConfig,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let Some(stream) = self.window.get(position).map(|entry| entry.stream) else { return };
        self.touch(stream);
        if self.window.charge(position) >= config.max_attempts {
            self.park(&[position], ATTEMPTS_SPENT, effects);
        } else {
            self.window.overdue(position, now);
        }
    }

    /// When [`Self::progress`] has something to do next, if nothing else happens.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let save_at = self.consumer.as_ref().and_then(|consumer| consumer.save_at());
        [self.timer.deadline(), save_at, self.leaving].into_iter().flatten().min()
    }

    /// When [`Self::next_read`] has something next, if nothing else happens.
    pub(crate) fn next_read_at(&self) -> Option<Instant> {
        if self.leaving.is_some() {
            return None;
        }
        let replay = self.consumer.as_ref().and_then(|consumer| consumer.replay_at());
        let replay = replay.filter(|_| self.room() > 0);
        [self.window.next_read_at(self.one_more()), replay].into_iter().flatten().min()
    }

    /// The subscription is over. For a consumer: what the log has to remember.
    pub(crate) fn release(&mut self, clean: bool, config: &DeliveryConfig) -> Option<Progress> {
        if !clean {
            self.charge_the_only_one(config);
        }
        let scanned = self.scanned;
        self.consumer.as_mut().map(|consumer| consumer.all(&self.window, scanned))
    }

    /// The client vanished. If it had one event alone, that may be why.
    fn charge_the_only_one(&mut self, config: &DeliveryConfig) {
        if self.window.with_client() != 1 {
            return;
        }
        let Some(only) = self.window.oldest().filter(|only| self.window.is_accepted(only)) else {
            return;
        };
        let position = only.position;
        if self.window.charge(position) >= config.max_attempts {
            self.park(&[position], ATTEMPTS_SPENT, &mut Vec::new());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_subscription_is_small() {
        let size = size_of::<Ledger>();
        assert!(size <= 256, "{size} bytes");
        let entry = size_of::<super::super::entry::Entry>();
        assert!(entry <= 24, "{entry} bytes for each unsettled event");
    }
}
