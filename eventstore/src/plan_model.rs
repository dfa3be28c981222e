//! [`crate::plan`] against a naive model: a log that applies one request after the other, and
//! remembers every append with client-made ids whole, and every command.

use std::collections::HashMap;

use proptest::prelude::*;

use crate::{
    AppendError, Appended, CommandKey, CommandName, EventId, EventType, Executed, ExpectedRevision,
    GlobalPosition, InputDigest, Payload, Revision, StreamName, Timestamp,
    plan::{
        self, CommandRow, IdOrigin, LogState, Outcome, Recorded, Request, RequestCommand,
        RequestEvent, RequestRow,
    },
};

/// The log as one list of (stream, id), and every recorded append's stream and client-made ids
/// by place.
#[derive(Default)]
struct Model {
    log: Vec<(StreamName, EventId)>,
    appends: Vec<(StreamName, Vec<Option<EventId>>, Appended)>,
    commands: HashMap<(CommandName, CommandKey), Executed>,
}

impl Model {
    fn last_revision(&self, stream: &StreamName) -> Option<Revision> {
        let count = self.log.iter().filter(|(of, _)| of == stream).count() as u64;
        count.checked_sub(1).map(Revision::new)
    }

    /// None where an id was reused: which one is told is not modelled.
    fn apply(&mut self, request: &Request) -> Option<Outcome> {
        let Some(command) = &request.command else {
            return self.append(request).map(|outcome| outcome.map(Recorded::Append));
        };
        let known = (command.name.clone(), command.key.clone());
        if let Some(first) = self.commands.get(&known) {
            if first.input != command.input {
                let (name, key) = known;
                return Some(Err(AppendError::KeyReused { name, key }));
            }
            return Some(Ok(Recorded::Command(first.clone())));
        }
        let appended = match request.events.is_empty() {
            true => None,
            false => match self.append(request)? {
                Ok(appended) => Some(appended),
                Err(error) => return Some(Err(error)),
            },
        };
        let (result, input) = (command.result.clone(), command.input);
        let first = Executed { result, input, appended, repeated: false };
        self.commands.insert(known, Executed { repeated: true, ..first.clone() });
        Some(Ok(Recorded::Command(first)))
    }

    fn append(&mut self, request: &Request) -> Option<Result<Appended, AppendError>> {
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
    let command = prop_oneof![2 => Just(None), 1 => (0..4_u8, any::<u8>()).prop_map(Some)];
    let ids = prop::collection::vec(id, 0..4);
    (0..3, expected, ids, command).prop_map(|(stream, expected, mut ids, command)| {
        let command = command.map(|(key, result): (u8, u8)| RequestCommand {
            name: CommandName::new("c").expect("a good name"),
            key: CommandKey::new(&key.to_string()).expect("a good key"),
            input: InputDigest::of(&[result % 2]),
            execution: uuid::Uuid::now_v7(),
            result: result.to_string().into(),
        });
        if command.is_none() && ids.is_empty() {
            ids.push(None);
        }
        let events = ids.into_iter().map(|id| RequestEvent {
            id: id.map_or_else(EventId::generate, |id| EventId::from(uuid::Uuid::from_u128(id))),
            id_origin: if id.is_some() { IdOrigin::Client } else { IdOrigin::Server },
            event_type: EventType::new("T").expect("a good name"),
            payload: Payload::Json("1".into()),
            meta: None,
        });
        let stream = StreamName::new(&format!("s-{stream}")).expect("a good name");
        Request { stream, expected, events: events.collect(), command, bytes: 0 }
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
        let mut commands: HashMap<(CommandName, CommandKey), CommandRow> = HashMap::new();
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
                commands: plan::command_keys(&group)
                    .into_iter()
                    .map(|(name, key)| (name.clone(), key.clone()))
                    .filter_map(|known| Some((known.clone(), commands.get(&known)?.clone())))
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
            for row in planned.commands {
                let known = (row.name.clone(), row.key.clone());
                prop_assert!(commands.insert(known, row).is_none(), "one row a command");
            }
        }
        prop_assert_eq!(log, model.log);
    }
}
