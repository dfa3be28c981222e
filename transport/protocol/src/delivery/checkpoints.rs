//! What the log has to remember of a consumer: how far each partition is, what was charged, what
//! was parked; and when that has to be saved.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use tidewire_eventstore::{
    GlobalPosition, PARTITIONS, Partition, PartitionSet, Sharing, StreamHash, plant::Plant,
};

use super::{
    Grant, ParkedEvent, PartitionProgress, Progress,
    window::{Settled, Window},
};

/// What a session holds of a consumer.
#[derive(Debug)]
pub(super) struct Checkpoints {
    sharing: Sharing,
    /// By partition, rising.
    held: Vec<Held>,
    /// Charges of events that the feed has not offered yet.
    charges: BTreeMap<GlobalPosition, (Partition, u32)>,
    /// Parked events that are to be delivered again.
    replays: VecDeque<Replay>,
    replaying: Replaying,
    /// What has changed since it was last saved, or was being saved.
    dirty: PartitionSet,
    saving: Option<Saving>,
    save_at: Option<Instant>,
}

/// One partition.
#[derive(Debug)]
struct Held {
    partition: Partition,
    checkpoint: GlobalPosition,
    parked: Vec<ParkedEvent>,
    replayed: Vec<GlobalPosition>,
}

/// A parked event that is to be delivered again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Replay {
    pub(super) partition: Partition,
    pub(super) position: GlobalPosition,
    /// The charges that do not count any more.
    pub(super) forgiven: u32,
    pub(super) charges: u32,
}

/// Whether the first replay is being read, or from when on it may be.
#[derive(Debug, Clone, Copy)]
enum Replaying {
    Ready { due: Option<Instant> },
    Reading,
}

/// A save that is not answered yet.
#[derive(Debug)]
struct Saving {
    began: Instant,
    partitions: PartitionSet,
    /// How many parked and replayed events it has, by partition.
    counts: Vec<(Partition, usize, usize)>,
}

impl Checkpoints {
    pub(super) fn new(sharing: Sharing, grant: &Grant) -> Self {
        let mut checkpoints = Self {
            sharing,
            held: Vec::new(),
            charges: BTreeMap::new(),
            replays: VecDeque::new(),
            replaying: Replaying::Ready { due: None },
            dirty: PartitionSet::EMPTY,
            saving: None,
            save_at: None,
        };
        for granted in &grant.partitions {
            let (partition, checkpoint) = (granted.partition, granted.checkpoint);
            let held = Held { partition, checkpoint, parked: Vec::new(), replayed: Vec::new() };
            checkpoints.held.push(held);
            let charges = granted.attempts.iter();
            checkpoints.charges.extend(charges.map(|(at, charges)| (*at, (partition, *charges))));
        }
        checkpoints.held.sort_by_key(|held| held.partition);
        checkpoints.held.dedup_by_key(|held| held.partition);
        for granted in &grant.partitions {
            for (position, charges) in &granted.replays {
                checkpoints.replay(granted.partition, *position, *charges);
            }
        }
        checkpoints
    }

    /// Adds a parked event that is to be delivered again, if it is of a partition held here.
    pub(super) fn replay(&mut self, partition: Partition, position: GlobalPosition, charges: u32) {
        let queued = self.replays.iter().any(|replay| replay.position == position);
        if self.held(partition).is_none() || queued {
            return;
        }
        // A replay that was cut short may have been charged since the event was parked.
        let since = self.charges.remove(&position).map_or(0, |(_, charges)| charges);
        let (forgiven, charges) = (charges, charges.max(since));
        self.replays.push_back(Replay { partition, position, forgiven, charges });
    }

    /// When the next replay may be read, if it has to wait for a time.
    pub(super) fn replay_at(&self) -> Option<Instant> {
        match self.replaying {
            Replaying::Ready { due } if !self.replays.is_empty() => due,
            _ => None,
        }
    }

    /// The next replay, marked as being read.
    pub(super) fn next_replay(&mut self, now: Instant) -> Option<GlobalPosition> {
        let Replaying::Ready { due } = self.replaying else { return None };
        let next = self.replays.front().filter(|_| due.is_none_or(|due| due <= now))?;
        self.replaying = Replaying::Reading;
        Some(next.position)
    }

    /// Whether the replay of `position` is being read.
    pub(super) fn is_reading(&self, position: GlobalPosition) -> bool {
        matches!(self.replaying, Replaying::Reading)
            && self.replays.front().is_some_and(|replay| replay.position == position)
    }

    /// Takes the replay that was read, or that cannot be.
    pub(super) fn take_replay(&mut self) -> Option<Replay> {
        self.replaying = Replaying::Ready { due: None };
        self.replays.pop_front()
    }

    /// The replay that was being read has to be read later.
    pub(super) fn put_off_replay(&mut self, due: Instant) {
        self.replaying = Replaying::Ready { due: Some(due) };
    }

    /// A replay's event is no longer in the log.
    pub(super) fn replay_gone(&mut self, replay: Replay) {
        self.dirty.insert(replay.partition);
        if let Some(held) = self.held_mut(replay.partition) {
            held.replayed.push(replay.position);
        }
    }

    /// The lowest checkpoint, if anything is held.
    pub(super) fn lowest(&self) -> Option<GlobalPosition> {
        self.held.iter().map(|held| held.checkpoint).min()
    }

    /// Which partitions are held; all for a consumer that is not shared.
    pub(super) fn partitions(&self) -> PartitionSet {
        match self.sharing {
            Sharing::Exclusive => PartitionSet::ALL,
            Sharing::Group => self.held.iter().map(|held| held.partition).collect(),
        }
    }

    /// Whether an event of `stream` at `position` is to be delivered here at all: not what was
    /// settled before, and nothing of a partition held by others.
    pub(super) fn wants(&self, stream: StreamHash, position: GlobalPosition) -> bool {
        self.held(self.sharing.partition(stream)).is_some_and(|held| position > held.checkpoint)
    }

    /// Takes the charges that an event had when the consumer was claimed.
    pub(super) fn take_charges(&mut self, position: GlobalPosition) -> u32 {
        self.charges.remove(&position).map_or(0, |(_, charges)| charges)
    }

    /// How many events wait for a save to be forgotten here, or for being read.
    pub(super) fn unsaved(&self) -> usize {
        let reading = usize::from(matches!(self.replaying, Replaying::Reading));
        let unsaved = |held: &Held| held.parked.len() + held.replayed.len();
        self.held.iter().map(unsaved).sum::<usize>() + reading
    }

    /// Something of a stream has changed that has to be saved.
    pub(super) fn touch(&mut self, stream: StreamHash) {
        self.dirty.insert(self.sharing.partition(stream));
    }

    /// An event was settled by the client.
    pub(super) fn settled(&mut self, settled: Settled) {
        self.touch(settled.stream);
        let waited = self.forget_replay(settled.position);
        if (settled.replay || waited)
            && let Some(held) = self.held_mut(self.sharing.partition(settled.stream))
        {
            held.replayed.push(settled.position);
        }
    }

    /// Takes a replay back that waits to be delivered; whether there was one. The feed may have
    /// come to an event before its replay did, where it was parked beyond the checkpoint.
    fn forget_replay(&mut self, position: GlobalPosition) -> bool {
        let Some(at) = self.replays.iter().position(|replay| replay.position == position) else {
            return false;
        };
        self.replays.remove(at);
        if at == 0 {
            // An answer to the read that was under way counts for nothing now.
            self.replaying = Replaying::Ready { due: None };
        }
        true
    }

    /// An event was put aside.
    pub(super) fn parked(&mut self, settled: Settled, reason: &str) {
        self.touch(settled.stream);
        self.forget_replay(settled.position);
        if let Some(held) = self.held_mut(self.sharing.partition(settled.stream)) {
            held.parked.push(ParkedEvent {
                position: settled.position,
                attempts: settled.charges,
                reason: reason.to_owned(),
            });
        }
    }

    /// The log was looked at through `scanned`: a partition without unsettled events moves on.
    pub(super) fn scanned(&mut self, scanned: GlobalPosition) {
        for held in &self.held {
            if held.checkpoint < scanned {
                self.dirty.insert(held.partition);
            }
        }
    }

    /// Plans the next save if there is something to save and none is planned or under way.
    pub(super) fn plan(&mut self, interval: Duration, now: Instant) {
        if !self.dirty.is_empty() && self.saving.is_none() && self.save_at.is_none() {
            self.save_at = now.checked_add(interval);
        }
    }

    pub(super) fn save_at(&self) -> Option<Instant> {
        self.save_at
    }

    /// What is to be saved now, if that is due.
    pub(super) fn save(
        &mut self,
        window: &Window,
        scanned: GlobalPosition,
        now: Instant,
    ) -> Option<Progress> {
        self.save_at.take_if(|at| *at <= now)?;
        let partitions = std::mem::replace(&mut self.dirty, PartitionSet::EMPTY);
        let progress = self.progress(window, scanned, partitions);
        let counts = progress.partitions.iter();
        let counts = counts.map(|of| (of.partition, of.parked.len(), of.replayed.len())).collect();
        self.saving = Some(Saving { began: now, partitions, counts });
        Some(progress)
    }

    /// Whether the save that was under way succeeded.
    pub(super) fn saved(&mut self, succeeded: bool, interval: Duration, now: Instant) {
        let Some(saving) = self.saving.take() else { return };
        if succeeded {
            for (partition, parked, replayed) in saving.counts {
                if let Some(held) = self.held_mut(partition) {
                    held.parked.drain(..parked);
                    held.replayed.drain(..replayed);
                }
            }
        } else {
            self.dirty = self.dirty.union(saving.partitions);
        }
        if !self.dirty.is_empty() {
            self.save_at = saving.began.checked_add(interval).map(|at| at.max(now));
        }
    }

    /// Everything there is to remember.
    pub(super) fn all(&mut self, window: &Window, scanned: GlobalPosition) -> Progress {
        self.progress(window, scanned, PartitionSet::ALL)
    }

    fn progress(
        &mut self,
        window: &Window,
        scanned: GlobalPosition,
        which: PartitionSet,
    ) -> Progress {
        let mut lowest: [Option<GlobalPosition>; PARTITIONS] = [None; PARTITIONS];
        let mut attempts: BTreeMap<Partition, Vec<(GlobalPosition, u32)>> = BTreeMap::new();
        for entry in window.entries() {
            let partition = self.sharing.partition(entry.stream);
            if !entry.is_replay() {
                lowest[usize::from(partition.get())].get_or_insert(entry.position);
            }
            if entry.spent() > 0 {
                attempts.entry(partition).or_default().push((entry.position, entry.charges()));
            }
        }
        let queued = self.replays.iter().filter(|replay| replay.charges > replay.forgiven);
        for replay in queued {
            attempts.entry(replay.partition).or_default().push((replay.position, replay.charges));
        }
        let mut progress = Progress::default();
        for held in self.held.iter_mut().filter(|held| which.contains(held.partition)) {
            let lowest = lowest[usize::from(held.partition.get())];
            let lowest = lowest.filter(|_| !Plant::CheckpointBeforeEffect.is_active());
            let reached = lowest.map_or(scanned, GlobalPosition::previous);
            held.checkpoint = held.checkpoint.max(reached);
            let mut attempts = attempts.remove(&held.partition).unwrap_or_default();
            let offered_later = self.charges.iter().filter(|(position, (partition, _))| {
                *partition == held.partition && **position > held.checkpoint
            });
            attempts.extend(offered_later.map(|(position, (_, charges))| (*position, *charges)));
            progress.partitions.push(PartitionProgress {
                partition: held.partition,
                checkpoint: held.checkpoint,
                attempts,
                parked: held.parked.clone(),
                replayed: held.replayed.clone(),
            });
        }
        progress
    }

    fn held(&self, partition: Partition) -> Option<&Held> {
        let at = self.held.binary_search_by_key(&partition, |held| held.partition).ok()?;
        Some(&self.held[at])
    }

    fn held_mut(&mut self, partition: Partition) -> Option<&mut Held> {
        let at = self.held.binary_search_by_key(&partition, |held| held.partition).ok()?;
        Some(&mut self.held[at])
    }
}
