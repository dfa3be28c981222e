//! The queue before the writer: first in, first out, bounded in requests and in bytes.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

use crate::{
    AppendError, Appended, Executed, Limits,
    plan::{Outcome, Recorded, Request},
};

/// Who waits for a request's outcome, and since when.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Where the outcome goes.
    pub(crate) to: AnswerTo,
    /// When the request was queued.
    pub(crate) queued_at: Instant,
}

/// Where an outcome goes: to whoever appended, or to whoever executed a command.
#[derive(Debug)]
pub(crate) enum AnswerTo {
    Append(oneshot::Sender<Result<Appended, AppendError>>),
    Execution(oneshot::Sender<Result<Executed, AppendError>>),
}

impl Answer {
    /// Tells `outcome`. Whoever asked may have stopped waiting; what was recorded stands.
    pub(crate) fn tell(self, outcome: Outcome) {
        match (self.to, outcome) {
            (AnswerTo::Append(to), Ok(Recorded::Append(appended))) => drop(to.send(Ok(appended))),
            (AnswerTo::Execution(to), Ok(Recorded::Command(done))) => drop(to.send(Ok(done))),
            (AnswerTo::Append(to), Err(error)) => drop(to.send(Err(error))),
            (AnswerTo::Execution(to), Err(error)) => drop(to.send(Err(error))),
            (AnswerTo::Append(_), Ok(Recorded::Command(_)))
            | (AnswerTo::Execution(_), Ok(Recorded::Append(_))) => {
                unreachable!("a plan has an outcome of each request's own kind")
            }
        }
    }
}

/// Requests that are committed together, each with whoever waits for it.
#[derive(Debug, Default)]
pub(crate) struct Group {
    /// The requests, in the order in which they were queued.
    pub(crate) requests: Vec<Request>,
    /// The answers, in the same order.
    pub(crate) answers: Vec<Answer>,
}

impl Group {
    /// Divides a group of two or more into its older and its newer half.
    pub(crate) fn split(mut self) -> (Self, Self) {
        let middle = self.requests.len() / 2;
        let newer = Self {
            requests: self.requests.split_off(middle),
            answers: self.answers.split_off(middle),
        };
        (self, newer)
    }
}

/// How full the queue is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Depth {
    pub(crate) requests: usize,
    pub(crate) bytes: usize,
}

/// The bounded queue. Pushing never waits.
#[derive(Debug)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    changed: Notify,
    max: Depth,
}

#[derive(Debug, Default)]
struct Waiting {
    requests: VecDeque<(Request, Answer)>,
    bytes: usize,
    closed: bool,
}

impl Queue {
    pub(crate) fn new(limits: &Limits) -> Self {
        let max = Depth { requests: limits.queue_requests_max, bytes: limits.queue_bytes_max };
        Self { waiting: Mutex::default(), changed: Notify::new(), max }
    }

    /// Queues `request` behind all others.
    ///
    /// # Errors
    ///
    /// [`AppendError::Overloaded`] when there is no room, [`AppendError::Closed`] after
    /// [`Self::close`].
    pub(crate) fn push(&self, request: Request, answer: Answer) -> Result<(), AppendError> {
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(AppendError::Closed);
        }
        let bytes = waiting.bytes + request.bytes;
        if waiting.requests.len() >= self.max.requests || bytes > self.max.bytes {
            return Err(AppendError::Overloaded);
        }
        waiting.bytes = bytes;
        waiting.requests.push_back((request, answer));
        drop(waiting);
        self.changed.notify_one();
        Ok(())
    }

    /// Waits for requests and takes the next group; `None` once the queue is closed and empty.
    ///
    /// Meant for one task. Cancelling the future loses nothing.
    pub(crate) async fn next_group(&self, limits: &Limits) -> Option<Group> {
        loop {
            if let Some(next) = self.try_next_group(limits) {
                return next;
            }
            self.changed.notified().await;
        }
    }

    /// `Some(None)` when the queue is closed and empty, `None` when there is nothing yet.
    fn try_next_group(&self, limits: &Limits) -> Option<Option<Group>> {
        let mut waiting = self.lock();
        if waiting.requests.is_empty() {
            return waiting.closed.then_some(None);
        }
        let mut group = Group::default();
        let (mut events, mut bytes) = (0, 0);
        while let Some((request, _)) = waiting.requests.front() {
            events += request.events.len();
            bytes += request.bytes;
            let full = group.requests.len() >= limits.group_requests_max
                || events > limits.group_events_max
                || bytes > limits.group_bytes_max;
            if full && !group.requests.is_empty() {
                break;
            }
            if let Some((request, answer)) = waiting.requests.pop_front() {
                waiting.bytes -= request.bytes;
                group.requests.push(request);
                group.answers.push(answer);
            }
        }
        Some(Some(group))
    }

    /// Takes out the answers of requests queued at or before `moment`.
    pub(crate) fn expire(&self, moment: Instant) -> Vec<Answer> {
        let mut waiting = self.lock();
        let mut expired = Vec::new();
        while waiting.requests.front().is_some_and(|(_, answer)| answer.queued_at <= moment) {
            if let Some((request, answer)) = waiting.requests.pop_front() {
                waiting.bytes -= request.bytes;
                expired.push(answer);
            }
        }
        expired
    }

    /// When the oldest waiting request was queued.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.lock().requests.front().map(|(_, answer)| answer.queued_at)
    }

    /// Refuses all further requests; those queued stay.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    pub(crate) fn depth(&self) -> Depth {
        let waiting = self.lock();
        Depth { requests: waiting.requests.len(), bytes: waiting.bytes }
    }

    /// Every change under the lock is whole before anything can panic, so a poisoned lock
    /// guards sound data.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
