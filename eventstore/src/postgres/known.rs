//! What the writer remembers of the log, so that most groups need no look at it: the head, the
//! fence, and the last revision of the streams it met lately. Pure; bounded.
//!
//! All of it holds only as long as nobody else moves the head or raises the fence, which is checked
//! under the append lock before anything rests on it.

use std::collections::HashMap;

use crate::{
    GlobalPosition, Revision, StreamName,
    plan::{self, LogState, Plan, Request},
};

/// Streams remembered at least, the ones met last; at most twice as many are held. A stream costs
/// about 100 bytes and its name.
const STREAMS_KEPT: usize = 50_000;

/// The part of [`LogState`] that outlives one group.
#[derive(Debug)]
pub(super) struct Known {
    /// `None`: nothing is known.
    log: Option<(GlobalPosition, i64)>,
    /// Last revisions. `lately` is filled until it holds [`STREAMS_KEPT`], then it becomes
    /// `before` and what was there is forgotten.
    lately: HashMap<StreamName, Revision>,
    before: HashMap<StreamName, Revision>,
    /// Whether a stream that is not remembered is likely to have no events yet.
    unknown_is_new: bool,
}

/// What a group is planned on.
#[derive(Debug)]
pub(super) struct Basis {
    /// The state itself.
    pub(super) state: LogState,
    /// The fence that an append by this state has to meet.
    pub(super) fence: i64,
    /// Streams of the group that are taken for new, unseen.
    pub(super) presumed_new: Vec<StreamName>,
}

impl Default for Known {
    fn default() -> Self {
        Self { log: None, lately: HashMap::new(), before: HashMap::new(), unknown_is_new: true }
    }
}

impl Known {
    /// The head, if anything is known.
    pub(super) fn head(&self) -> Option<GlobalPosition> {
        self.log.map(|(head, _)| head)
    }

    /// What `group` can be planned on without a look at the log. `None` where it needs one.
    pub(super) fn foresee(&self, group: &[Request]) -> Option<Basis> {
        let (head, fence) = self.log?;
        let mut state = LogState { head, ..LogState::default() };
        let mut presumed_new = Vec::new();
        for stream in plan::streams(group) {
            match self.lately.get(stream).or_else(|| self.before.get(stream)) {
                Some(&revision) => {
                    state.revisions.insert(stream.clone(), revision);
                }
                None if self.unknown_is_new => presumed_new.push(stream.clone()),
                None => return None,
            }
        }
        Some(Basis { state, fence, presumed_new })
    }

    /// Takes over what was loaded for `group`.
    pub(super) fn loaded(&mut self, group: &[Request], basis: &Basis) {
        // Appends move the head; a removal that empties streams raises the fence.
        if self.log != Some((basis.state.head, basis.fence)) {
            self.forget();
        }
        self.log = Some((basis.state.head, basis.fence));
        let mut unknown = 0_usize;
        let mut new = 0_usize;
        for stream in plan::streams(group) {
            if !self.lately.contains_key(stream) && !self.before.contains_key(stream) {
                unknown += 1;
                new += usize::from(!basis.state.revisions.contains_key(stream));
            }
        }
        if unknown > 0 {
            self.unknown_is_new = 2 * new >= unknown;
        }
        for (stream, &revision) in &basis.state.revisions {
            // A stream that was emptied differs from others until it has events again.
            if !basis.state.emptied.contains(stream) {
                self.remember(stream, revision);
            }
        }
    }

    /// Takes over what `plan` left behind once it was recorded.
    pub(super) fn recorded(&mut self, plan: &Plan) {
        let Some(last) = plan.events.last() else { return };
        if let Some((head, _)) = &mut self.log {
            *head = last.position;
        }
        for event in &plan.events {
            self.remember(&event.stream, event.revision);
        }
    }

    /// Something taken for new was not.
    pub(super) fn was_wrong(&mut self) {
        self.unknown_is_new = false;
    }

    /// Forgets the log: somebody else moved it, or may have.
    pub(super) fn forget(&mut self) {
        self.log = None;
        self.lately.clear();
        self.before.clear();
    }

    fn remember(&mut self, stream: &StreamName, revision: Revision) {
        if let Some(known) = self.lately.get_mut(stream) {
            *known = revision;
            return;
        }
        if self.lately.len() >= STREAMS_KEPT {
            self.before = std::mem::take(&mut self.lately);
        }
        self.lately.insert(stream.clone(), revision);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Append, EventType, ExpectedRevision, Limits, NewEvent, Timestamp, admission::admit,
    };

    fn request(stream: &str) -> Request {
        let event = NewEvent::json(EventType::new("T").unwrap(), "1");
        let stream = StreamName::new(stream).unwrap();
        let append = Append { stream, expected: ExpectedRevision::Any, events: vec![event] };
        admit(append, &Limits::default()).unwrap()
    }

    fn empty_log() -> Basis {
        Basis { state: LogState::default(), fence: 3, presumed_new: vec![] }
    }

    #[test]
    fn nothing_is_foreseen_before_a_look_at_the_log() {
        assert!(Known::default().foresee(&[request("a-1")]).is_none());
    }

    #[test]
    fn what_was_recorded_is_what_the_next_group_rests_on() {
        let mut known = Known::default();
        let group = [request("a-1"), request("a-1"), request("b-1")];
        known.loaded(&group, &empty_log());
        let basis = known.foresee(&group).unwrap();
        assert_eq!(basis.presumed_new.len(), 2, "streams without events are not remembered");
        known.recorded(&plan::plan(&group, &basis.state, Timestamp::default()));

        let basis = known.foresee(&group).unwrap();
        assert_eq!(basis.state.head, GlobalPosition::new(3));
        assert_eq!(basis.fence, 3);
        assert_eq!(basis.state.revisions[&group[0].stream], Revision::new(1));
        assert_eq!(basis.state.revisions[&group[2].stream], Revision::new(0));
        assert!(basis.presumed_new.is_empty());
    }

    #[test]
    fn a_moved_head_makes_all_streams_unknown() {
        let mut known = Known::default();
        let group = [request("a-1")];
        known.loaded(&group, &empty_log());
        let basis = known.foresee(&group).unwrap();
        known.recorded(&plan::plan(&group, &basis.state, Timestamp::default()));

        let mut moved = empty_log();
        moved.state.head = GlobalPosition::new(9);
        known.loaded(&[request("b-1")], &moved);
        let basis = known.foresee(&group).unwrap();
        assert!(basis.state.revisions.is_empty());
    }

    #[test]
    fn a_raised_fence_makes_all_streams_unknown() {
        let mut known = Known::default();
        let group = [request("a-1")];
        known.loaded(&group, &empty_log());
        let basis = known.foresee(&group).unwrap();
        known.recorded(&plan::plan(&group, &basis.state, Timestamp::default()));

        let state = LogState { head: GlobalPosition::new(1), ..LogState::default() };
        known.loaded(&[request("b-1")], &Basis { state, fence: 4, presumed_new: vec![] });
        assert_eq!(known.foresee(&group).unwrap().presumed_new.len(), 1);
    }

    #[test]
    fn a_stream_without_events_any_more_is_not_remembered() {
        let mut known = Known::default();
        let group = [request("a-1")];
        let mut emptied = empty_log();
        emptied.state.revisions.insert(group[0].stream.clone(), Revision::new(6));
        emptied.state.emptied.insert(group[0].stream.clone());
        known.loaded(&group, &emptied);
        assert!(known.foresee(&group).is_none_or(|basis| !basis.presumed_new.is_empty()));
    }

    #[test]
    fn a_wrong_guess_is_not_made_again_until_a_look_shows_new_streams() {
        let mut known = Known::default();
        known.loaded(&[], &empty_log());
        assert!(known.foresee(&[request("a-1")]).is_some());
        known.was_wrong();
        assert!(known.foresee(&[request("a-1")]).is_none());
        known.loaded(&[request("a-1")], &empty_log());
        assert!(known.foresee(&[request("c-1")]).is_some());
    }

    #[test]
    fn memory_is_bounded_and_keeps_what_was_met_last() {
        let mut known = Known::default();
        known.loaded(&[], &empty_log());
        for n in 0..(2 * STREAMS_KEPT + 10) {
            known.remember(&StreamName::new(&format!("s-{n}")).unwrap(), Revision::FIRST);
        }
        assert!(known.lately.len() + known.before.len() <= 2 * STREAMS_KEPT);
        let last = request(&format!("s-{}", STREAMS_KEPT + 20));
        assert!(known.foresee(&[last]).unwrap().presumed_new.is_empty());
    }
}
