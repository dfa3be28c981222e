//! One session's hold on a consumer: what the store knows of it, and what waits to be written.

use std::{collections::HashMap, mem, time::Instant};

use tidewire_eventstore::{
    Claimed, ConsumerName, Fence, Holding, MemberId, Parked, Partition, Release, Save, Sharing,
};
use tidewire_protocol::{Grant, GrantedPartition, ParkedEvent, PartitionProgress, Progress};
use tokio::sync::{mpsc, oneshot};

use super::{Notice, Saved};

/// One session's hold on a consumer, or on its share of a group.
pub(super) struct Held {
    pub(super) name: ConsumerName,
    pub(super) sharing: Sharing,
    /// What is known to be in the store of each partition.
    pub(super) partitions: HashMap<Partition, (Fence, PartitionProgress)>,
    pub(super) notices: mpsc::Sender<Notice>,
    /// To be written next, and who waits for it.
    pub(super) save: Option<(Progress, oneshot::Sender<Saved>)>,
    pub(super) release: Option<(Progress, Release)>,
    /// Since when the release could not be written.
    pub(super) release_since: Instant,
    /// It is among those that have something to save.
    pub(super) queued: bool,
    /// A write of this member is under way.
    pub(super) writing: bool,
    pub(super) rebalance_told: bool,
    /// Its release is being written.
    pub(super) leaving: bool,
    /// It is released and claims again.
    pub(super) stays: bool,
}

impl Held {
    /// What a claim has just been given; and what the session is told of it.
    pub(super) fn new(
        name: ConsumerName,
        sharing: Sharing,
        claimed: Claimed,
        notices: mpsc::Sender<Notice>,
    ) -> (Self, Grant) {
        let (partitions, grant) = granted(claimed);
        let held = Self {
            name,
            sharing,
            partitions,
            notices,
            save: None,
            release: None,
            release_since: Instant::now(),
            queued: false,
            writing: false,
            rebalance_told: false,
            leaving: false,
            stays: false,
        };
        (held, grant)
    }

    /// The highest fence of what it holds.
    pub(super) fn fence(&self) -> Option<Fence> {
        self.partitions.values().map(|(fence, _)| *fence).max()
    }

    /// A release waits, or is being written.
    pub(super) fn is_leaving(&self) -> bool {
        self.release.is_some() || self.leaving
    }

    /// What of `progress` the store does not know yet; everything when the member leaves.
    pub(super) fn collect(
        &self,
        member: MemberId,
        progress: &Progress,
        release: Option<Release>,
        saves: &mut Vec<Save>,
    ) {
        for (partition, (fence, known)) in &self.partitions {
            let new = progress.partitions.iter().find(|own| own.partition == *partition);
            let changed = new.is_some_and(|new| {
                new.checkpoint != known.checkpoint
                    || new.attempts != known.attempts
                    || !new.parked.is_empty()
                    || !new.replayed.is_empty()
            });
            if !changed && release.is_none() {
                continue;
            }
            let now = new.unwrap_or(known);
            let (parked, replayed) = match new {
                Some(new) => (parked(&new.parked), new.replayed.clone()),
                None => (Vec::new(), Vec::new()),
            };
            saves.push(Save {
                name: self.name.clone(),
                member,
                partition: *partition,
                fence: *fence,
                checkpoint: now.checkpoint,
                attempts: now.attempts.clone(),
                parked,
                replayed,
                release,
            });
        }
    }

    /// The store has taken `progress`.
    pub(super) fn learn(&mut self, progress: Progress) {
        for mut new in progress.partitions {
            if let Some((_, known)) = self.partitions.get_mut(&new.partition) {
                new.parked = Vec::new();
                new.replayed = Vec::new();
                *known = new;
            }
        }
    }

    /// Tells the session, once, that the group's shares have changed; whether it was told now.
    pub(super) fn tell_of_shares(&mut self) -> bool {
        let told = !self.rebalance_told && self.notices.try_send(Notice::Rebalance).is_ok();
        self.rebalance_told |= told;
        told
    }

    pub(super) fn holding(&self, member: MemberId) -> Holding {
        let partitions =
            self.partitions.iter().map(|(partition, (fence, _))| (*partition, *fence)).collect();
        Holding { name: self.name.clone(), member, partitions }
    }
}

fn parked(events: &[ParkedEvent]) -> Vec<Parked> {
    let parked = events.iter().map(|event| Parked {
        position: event.position,
        attempts: event.attempts,
        reason: event.reason.clone(),
    });
    parked.collect()
}

/// What the store granted, with the fences for us and without them for the session.
fn granted(claimed: Claimed) -> (HashMap<Partition, (Fence, PartitionProgress)>, Grant) {
    let mut known = HashMap::with_capacity(claimed.partitions.len());
    let mut partitions = Vec::with_capacity(claimed.partitions.len());
    for mut own in claimed.partitions {
        let progress = PartitionProgress {
            partition: own.partition,
            checkpoint: own.checkpoint,
            attempts: mem::take(&mut own.attempts),
            parked: Vec::new(),
            replayed: Vec::new(),
        };
        partitions.push(GrantedPartition {
            partition: own.partition,
            checkpoint: own.checkpoint,
            unclean: own.unclean,
            attempts: progress.attempts.clone(),
            replays: own.replays,
        });
        known.insert(own.partition, (own.fence, progress));
    }
    (known, Grant { existed: claimed.existed, partitions })
}
