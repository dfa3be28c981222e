//! [`crate::plan`] against a naive model: a log that applies one request after the other, and
//! remembers every append with client-made ids whole.

use std::collections::HashMap;

use proptest::prelude::*;

use crate::{
    AppendError, Appended, EventId, EventType, ExpectedRevision, GlobalPosition, Payload, Revision,
    StreamName, Timestamp,
    plan::{self, IdOrigin, LogState, Outcome, Request, RequestEvent, RequestRow},
};

/// The log as one list of (stream, id), and every recorded append's stream and client-made ids
/// by place.
#[derive(Default)]
struct Model {
    log: Vec<(StreamName, EventId)>,
    appends: Vec<(StreamName, Vec<Option<EventId>>, Appended)>,
}

impl Model {
    fn last_revision(&self, stream: &StreamName) -> Option<Revision> {
        let count = self.log.iter().filter(|(of, _)| of == stream).count() as u64;
        count.checked_sub(1).map(Revision::new)
    }

    /// None where an id was reused: which one is told is not modelled.
    fn apply(&mut self, request: &Request) -> Option<Outcome> {
        let by_client =
            |event: &RequestEvent| (event.id_origin == IdOrigin::Client).then_some(event.id);
        let ids: Vec<_> = request.events.iter().map(by_client).collect();
        let brought: Vec<_> = ids.iter().flatten().collect();
        let touched: Vec<_> = self
            .appends
            .iter()
            .filter(|(_, recorded, _)| recorded.iter().flatten().any(|id| brought.contains(&id)))
            .collect();
        match touched[..] {
            [] => {}
            [(stream, recorded, appended)] => {
                let alike = stream == &request.stream
                    && recorded.len() == ids.len()
                    && ids
                        .iter()
                        .zip(recorded)
                        .all(|(id, recorded)| id.is_none() || id == recorded);
                return alike.then_some(Ok(*appended));
            }
            _ => return None,
        }
        if (1..brought.len()).any(|at| brought[..at].contains(&brought[at])) {
            return None;
        }
        let actual = self.last_revision(&request.stream);
        if !request.expected.is_met_by(actual) {
            return Some(Err(AppendError::WrongExpectedRevision {
                stream: request.stream.clone(),
                expected: request.expected,
                actual,
            }));
        }
        for event in &request.events {
            self.log.push((request.stream.clone(), event.id));
        }
        let appended = Appended {
            revision: self.last_revision(&request.stream).expect("just appended"),
            position: GlobalPosition::new(self.log.len() as u64),
        };
        self.appends.push((request.stream.clone(), ids, appended));
        Some(Ok(appended))
    }
}

/// Few streams, few ids and low revisions, so that they meet.
fn request() -> impl Strategy<Value = Request> {
    let expected = prop_oneof![
        3 => Just(ExpectedRevision::Any),
        1 => Just(ExpectedRevision::NoStream),
        1 => Just(ExpectedRevision::Exists),
        2 => (0..6_u64).prop_map(|revision| ExpectedRevision::Exact(Revision::new(revision))),
    ];
    let id = prop_oneof![
        1 => Just(None),
        1 => (0..8_u128).prop_map(Some),
    ];
    (0..3, expected, prop::collection::vec(id, 1..4)).prop_map(|(stream, expected, ids)| {
        let events = ids.into_iter().map(|id| RequestEvent {
            id: id.map_or_else(EventId::generate, |id| EventId::from(uuid::Uuid::from_u128(id))),
            id_origin: if id.is_some() { IdOrigin::Client } else { IdOrigin::Server },
            event_type: EventType::new("T").expect("a good name"),
            payload: Payload::Json("1".into()),
            meta: None,
        });
        let stream = StreamName::new(&format!("s-{stream}")).expect("a good name");
        Request { stream, expected, events: events.collect(), bytes: 0 }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..Default::default() })]

    #[test]
    fn groups_come_to_the_same_as_one_request_after_the_other(
        groups in prop::collection::vec(prop::collection::vec(request(), 1..6), 1..6)
    ) {
        let mut model = Model::default();
        let mut revisions = HashMap::new();
        let mut recorded: HashMap<EventId, RequestRow> = HashMap::new();
        let mut log = Vec::new();
        for group in groups {
            // Only what a backend is told to load.
            let state = LogState {
                head: GlobalPosition::new(log.len() as u64),
                revisions: plan::streams(&group)
                    .into_iter()
                    .filter_map(|stream| Some((stream.clone(), *revisions.get(stream)?)))
                    .collect(),
                recorded: plan::client_ids(&group)
                    .into_iter()
                    .filter_map(|id| Some((id, recorded.get(&id)?.clone())))
                    .collect(),
                ..LogState::default()
            };
            let planned = plan::plan(&group, &state, Timestamp::from_micros(7));
            prop_assert_eq!(planned.head, state.head);
            prop_assert_eq!(planned.outcomes.len(), group.len());
            for (request, outcome) in group.iter().zip(planned.outcomes) {
                match model.apply(request) {
                    Some(expected) => prop_assert_eq!(outcome, expected, "{:?}", request),
                    None => {
                        let reused = matches!(outcome, Err(AppendError::IdReused { id })
                            if request.events.iter().any(|event| event.id == id));
                        prop_assert!(reused, "{:?} for {:?}", outcome, request);
                    }
                }
            }
            for event in planned.events {
                log.push((event.stream.clone(), event.id));
                prop_assert_eq!(event.position.get(), log.len() as u64);
                prop_assert_eq!(event.recorded_at.as_micros(), 7);
                let last = revisions.insert(event.stream, event.revision);
                prop_assert_eq!(event.revision, last.map_or(Revision::FIRST, Revision::next));
            }
            for row in planned.requests {
                prop_assert!(recorded.insert(row.id, row).is_none(), "one row an id");
            }
        }
        prop_assert_eq!(log, model.log);
    }
}
