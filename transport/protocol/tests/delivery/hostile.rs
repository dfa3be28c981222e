//! A client that says anything, and a driver whose answers come late, twice or unasked: nothing
//! panics, spins, or lets more through than there is room for.

use proptest::prelude::*;
use tidewire_protocol::{ErrorCode, Grant, GrantedPartition, Input, Sub};

use crate::scene::{SUB, Scene, at, event, secs, share};

const STREAMS: [&str; 3] = ["a", "b", "c"];

/// Something that happens. Numbers are small, so that they meet.
#[derive(Debug, Clone)]
enum Step {
    Subscribe { consumer: bool, window: u64 },
    Unsubscribe,
    Ack(u64),
    Nack { positions: Vec<u64>, action: &'static str },
    Offer(u64),
    Accepted,
    Claimed { refused: bool, unclean: bool, replay: u64 },
    Saved { succeeded: bool },
    Read { position: u64, outcome: u8 },
    Positions(u64),
    Replay(u64),
    Rebalance,
    Taken,
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let position = 0_u64..40;
    let action = prop_oneof![
        4 => Just(r#""action":"retry""#),
        2 => Just(r#""action":"retry","delay_ms":2000"#),
        1 => Just(r#""action":"park""#),
        1 => Just(r#""action":"skip""#),
        1 => Just(r#""action":"stop""#),
    ];
    prop_oneof![
        3 => (any::<bool>(), 1_u64..9)
            .prop_map(|(consumer, window)| Step::Subscribe { consumer, window }),
        1 => Just(Step::Unsubscribe),
        6 => position.clone().prop_map(Step::Ack),
        6 => (prop::collection::vec(position.clone(), 1..4), action)
            .prop_map(|(positions, action)| Step::Nack { positions, action }),
        8 => (1_u64..6).prop_map(Step::Offer),
        3 => Just(Step::Accepted),
        3 => (prop::bool::weighted(0.1), any::<bool>(), position.clone())
            .prop_map(|(refused, unclean, replay)| Step::Claimed { refused, unclean, replay }),
        3 => prop::bool::weighted(0.8).prop_map(|succeeded| Step::Saved { succeeded }),
        8 => (position.clone(), 0_u8..4)
            .prop_map(|(position, outcome)| Step::Read { position, outcome }),
        1 => position.clone().prop_map(Step::Positions),
        1 => position.prop_map(Step::Replay),
        1 => Just(Step::Rebalance),
        1 => Just(Step::Taken),
        3 => (0_u64..30).prop_map(Step::Pass),
    ]
}

fn run(steps: Vec<Step>) {
    let mut scene = Scene::new();
    scene.reads = false;
    let mut cursor = 0;
    let mut open = 0;
    for step in steps {
        let said = match step {
            Step::Subscribe { consumer: true, window } => scene.say(&format!(
                r#"{{"type":"subscribe","sub":1,"to":{{"all":true}},"consumer":{{"group":"g"}},"window":{window}}}"#
            )),
            Step::Subscribe { consumer: false, window } => scene.say(&format!(
                r#"{{"type":"subscribe","sub":1,"to":{{"all":true}},"after":0,"ack":"each","window":{window}}}"#
            )),
            Step::Unsubscribe => scene.say(r#"{"type":"unsubscribe","sub":1}"#),
            Step::Ack(position) => scene.ack(position),
            Step::Nack { positions, action } => scene.nack(&positions, action),
            Step::Offer(count) if open > 0 => {
                let next: Vec<(u64, &'static str)> = (cursor + 1..=cursor + count)
                    .map(|position| (position, STREAMS[position as usize % 3]))
                    .collect();
                let room = scene.room();
                let offer = scene.offer(&next);
                assert!(offer.taken <= next.len());
                if let tidewire_protocol::Sent::All = offer.sent {
                    assert!(offer.taken <= room);
                }
                cursor += offer.taken as u64;
                scene.polled()
            }
            Step::Offer(_) => Vec::new(),
            Step::Accepted => scene.hand_in(Input::Accepted),
            Step::Claimed { refused: true, .. } => {
                let claimed = Err(ErrorCode::Unavailable.into());
                scene.hand_in(Input::Claimed { sub: SUB, claimed })
            }
            Step::Claimed { unclean, replay, .. } => {
                let partitions = STREAMS.map(|stream| {
                    let partition = crate::scene::event_ref(1, stream).stream.partition().get();
                    let replays = vec![(at(replay), 3)];
                    GrantedPartition { unclean, replays, ..share(partition, 0) }
                });
                let claimed = Ok(Grant { existed: true, partitions: partitions.into() });
                scene.hand_in(Input::Claimed { sub: SUB, claimed })
            }
            Step::Saved { succeeded } => {
                let saved = if succeeded { Ok(()) } else { Err(ErrorCode::Unavailable.into()) };
                scene.hand_in(Input::Saved { sub: SUB, saved })
            }
            Step::Read { position, outcome } => {
                let event = match outcome {
                    0 => Err(ErrorCode::Unavailable.into()),
                    1 => Ok(None),
                    _ => Ok(Some(Box::new(event(position, STREAMS[position as usize % 3])))),
                };
                scene.hand_in(Input::Read { sub: SUB, position: at(position), event })
            }
            Step::Positions(ahead) => {
                cursor = if open > 0 { cursor + ahead % 3 } else { cursor };
                scene.hand_in(Input::Positions(vec![(SUB, at(cursor)), (Sub::new(9), at(1))]))
            }
            Step::Replay(position) => {
                let partition = crate::scene::event_ref(1, "a").stream.partition();
                let events = vec![(partition, at(position), 1)];
                scene.hand_in(Input::Replay { sub: SUB, events })
            }
            Step::Rebalance => scene.hand_in(Input::Rebalance { sub: SUB }),
            Step::Taken => scene.hand_in(Input::Taken { sub: SUB }),
            Step::Pass(time) => scene.pass(secs(time)),
        };
        for said in said {
            if let Some(after) = said.strip_prefix("open after ") {
                (open, cursor) = (open + 1, after.parse().expect("a position"));
            }
            if said == "shut" {
                open -= 1;
            }
            assert!((0..=1).contains(&open), "feeds open and shut in turns");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_is_said_or_answered_breaks_a_session(steps in prop::collection::vec(step(), 0..120)) {
        run(steps);
    }
}
