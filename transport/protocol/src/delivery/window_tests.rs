//! The window against a model that keeps the whole conversation and looks everything up in it.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;
use tidewire_eventstore::StreamName;

use super::*;

/// What can happen to a window. Numbers are cut to what is there.
#[derive(Debug, Clone)]
enum Step {
    Take { stream: u8, charges: u32 },
    Ack { back: u64 },
    AckOf { nth: usize },
    Settle { nth: usize },
    Retry { nth: usize, delay: u64 },
    Overdue,
    Read { one_more: bool },
    Sent { nth: usize },
    PutOff { nth: usize, delay: u64 },
    Replay { below: u64, stream: u8 },
    Accept,
    Vouch { ahead: u64 },
    Pass { time: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0_u8..3, prop_oneof![4 => Just(0), 1 => 1_u32..3])
            .prop_map(|(stream, charges)| Step::Take { stream, charges }),
        3 => (0_u64..6).prop_map(|back| Step::Ack { back }),
        3 => (0_usize..8).prop_map(|nth| Step::AckOf { nth }),
        1 => (0_usize..8).prop_map(|nth| Step::Settle { nth }),
        3 => (0_usize..8, 0_u64..3).prop_map(|(nth, delay)| Step::Retry { nth, delay }),
        1 => Just(Step::Overdue),
        6 => any::<bool>().prop_map(|one_more| Step::Read { one_more }),
        5 => (0_usize..3).prop_map(|nth| Step::Sent { nth }),
        1 => (0_usize..3, 0_u64..3).prop_map(|(nth, delay)| Step::PutOff { nth, delay }),
        1 => (0_u64..4, 0_u8..3).prop_map(|(below, stream)| Step::Replay { below, stream }),
        2 => Just(Step::Accept),
        1 => (0_u64..3).prop_map(|ahead| Step::Vouch { ahead }),
        2 => (0_u64..3).prop_map(|time| Step::Pass { time }),
    ];
    prop::collection::vec(step, 0..80)
}

fn stream(number: u8) -> StreamHash {
    StreamHash::of(&StreamName::new(&format!("s-{number}")).expect("a good name"))
}

fn at(position: u64) -> GlobalPosition {
    GlobalPosition::new(position)
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Whereabouts {
    Client,
    Overdue { due: u64, reading: bool },
    Away { due: u64, reading: bool },
}

#[derive(Debug, Clone)]
struct Event {
    stream: u8,
    charges: u32,
    place: Whereabouts,
    /// When it was told last, by index in the conversation.
    told_at: Option<usize>,
    /// When it came back from being away, by index in the conversation.
    came_back_at: Option<usize>,
}

/// The model: every position that the client was ever told of, in order.
#[derive(Debug, Default)]
struct Model {
    events: BTreeMap<u64, Event>,
    conversation: Vec<u64>,
    accepted: usize,
    vouched: u64,
    now: u64,
}

impl Model {
    fn told(&self) -> u64 {
        self.conversation.iter().copied().max().unwrap_or(0)
    }

    fn nth(&self, nth: usize) -> Option<u64> {
        let count = self.events.len();
        (count > 0).then(|| *self.events.keys().nth(nth % count).expect("fewer than there are"))
    }

    fn away(&self, stream: u8) -> Option<u64> {
        let away = |event: &&Event| {
            event.stream == stream && matches!(event.place, Whereabouts::Away { .. })
        };
        self.events.iter().find(|(_, event)| away(event)).map(|(position, _)| *position)
    }

    fn with_client(&self) -> Vec<u64> {
        let there = |event: &Event| !matches!(event.place, Whereabouts::Away { .. });
        let there = self.events.iter().filter(|(_, event)| there(event));
        there.map(|(position, _)| *position).collect()
    }

    /// How much of the conversation a client must have heard that says `position`.
    fn heard(&self, position: u64) -> usize {
        self.conversation.iter().position(|told| *told >= position).unwrap_or(usize::MAX)
    }

    fn ack(&mut self, position: u64) -> Vec<u64> {
        let heard = self.heard(position);
        let covered: Vec<u64> = self
            .with_client()
            .into_iter()
            .filter(|event| *event <= position)
            .filter(|event| {
                *event == position || self.events[event].came_back_at.is_none_or(|at| at < heard)
            })
            .collect();
        for event in &covered {
            self.events.remove(event);
        }
        covered
    }

    /// What may be read, and from when on.
    fn readable(&self, one_more: bool) -> Vec<(u64, u64)> {
        let mut readable = Vec::new();
        for (position, event) in &self.events {
            match event.place {
                Whereabouts::Overdue { due, reading: false } => readable.push((*position, due)),
                Whereabouts::Away { due, reading: false }
                    if one_more && self.away(event.stream) == Some(*position) =>
                {
                    readable.push((*position, due));
                }
                _ => {}
            }
        }
        readable
    }

    fn reading(&self) -> Vec<u64> {
        let reading = |event: &Event| {
            matches!(
                event.place,
                Whereabouts::Overdue { reading: true, .. }
                    | Whereabouts::Away { reading: true, .. }
            )
        };
        let events = self.events.iter().filter(|(_, event)| reading(event));
        events.map(|(position, _)| *position).collect()
    }

    fn oldest_accepted(&self) -> Option<(u64, bool)> {
        let oldest = *self.with_client().first()?;
        let told_at = self.events[&oldest].told_at.expect("it is with the client");
        Some((oldest, told_at < self.accepted))
    }
}

/// Both, side by side.
struct Pair {
    window: Window,
    model: Model,
    began: Instant,
    next: u64,
}

impl Pair {
    fn new() -> Self {
        let window = Window::after(at(100));
        let model = Model { conversation: vec![100], vouched: 100, ..Model::default() };
        Self { window, model, began: Instant::now(), next: 101 }
    }

    fn instant(&self, time: u64) -> Instant {
        self.began + Duration::from_secs(time)
    }

    fn now(&self) -> Instant {
        self.instant(self.model.now)
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        let now = self.now();
        let model = &mut self.model;
        match step {
            Step::Take { stream: number, charges } => {
                let position = self.next;
                self.next += 1;
                let event = EventRef { position: at(position), stream: stream(number) };
                let write = self.window.take(event, charges, now);
                let held_back = charges > 0 || model.away(number).is_some();
                prop_assert_eq!(write, !held_back);
                let place = if held_back {
                    Whereabouts::Away { due: model.now, reading: false }
                } else {
                    Whereabouts::Client
                };
                let told_at = (!held_back).then_some(model.conversation.len());
                if !held_back {
                    model.conversation.push(position);
                }
                let event = Event { stream: number, charges, place, told_at, came_back_at: None };
                model.events.insert(position, event);
            }
            Step::Ack { back } => return self.ack(self.model.told().saturating_sub(back)),
            Step::AckOf { nth } => {
                if let Some(position) = model.nth(nth).filter(|position| *position <= model.told())
                {
                    return self.ack(position);
                }
            }
            Step::Settle { nth } => {
                if let Some(position) = model.nth(nth) {
                    model.events.remove(&position);
                    let settled = self.window.settle(at(position));
                    prop_assert_eq!(settled.map(|settled| settled.position), Some(at(position)));
                }
            }
            Step::Retry { nth, delay } => {
                let Some(position) = model.nth(nth) else { return Ok(()) };
                if !model.with_client().contains(&position) {
                    return Ok(());
                }
                let number = model.events[&position].stream;
                let due = self.began + Duration::from_secs(model.now + delay);
                self.window.charge(at(position));
                self.window.withdraw_after(at(position), stream(number), now);
                self.window.call_back(at(position), due);
                for (other, event) in &mut model.events {
                    if *other == position {
                        event.charges += 1;
                        event.place = Whereabouts::Away { due: model.now + delay, reading: false };
                    } else if *other > position && event.stream == number {
                        let due = match event.place {
                            Whereabouts::Away { due, .. } => due,
                            _ => model.now,
                        };
                        event.place = Whereabouts::Away { due, reading: false };
                    }
                }
            }
            Step::Overdue => {
                let Some(position) = model.with_client().first().copied() else { return Ok(()) };
                self.window.overdue(at(position), now);
                let due = model.now;
                let event = model.events.get_mut(&position).expect("it is there");
                event.place = Whereabouts::Overdue { due, reading: false };
            }
            Step::Read { one_more } => {
                let due = |(_, due): &(u64, u64)| *due <= model.now;
                let next = model.readable(one_more).into_iter().find(due).map(|(next, _)| next);
                prop_assert_eq!(self.window.next_read(now, one_more), next.map(at));
                if let Some(event) = next.and_then(|next| model.events.get_mut(&next)) {
                    match &mut event.place {
                        Whereabouts::Overdue { reading, .. }
                        | Whereabouts::Away { reading, .. } => *reading = true,
                        Whereabouts::Client => unreachable!("it is readable"),
                    }
                }
            }
            Step::Sent { nth } => {
                let reading = model.reading();
                let Some(position) = reading.get(nth % reading.len().max(1)) else { return Ok(()) };
                let index = model.conversation.len();
                model.conversation.push(*position);
                let event = model.events.get_mut(position).expect("it is being read");
                if matches!(event.place, Whereabouts::Away { .. }) {
                    event.came_back_at = Some(index);
                }
                event.place = Whereabouts::Client;
                event.told_at = Some(index);
                prop_assert_eq!(self.window.sent(at(*position)), Some(event.charges + 1));
            }
            Step::PutOff { nth, delay } => {
                let reading = model.reading();
                let Some(position) = reading.get(nth % reading.len().max(1)) else { return Ok(()) };
                let until = model.now + delay;
                let event = model.events.get_mut(position).expect("it is being read");
                event.place = match event.place {
                    Whereabouts::Away { .. } => Whereabouts::Away { due: until, reading: false },
                    _ => Whereabouts::Overdue { due: until, reading: false },
                };
                self.window.put_off(at(*position), self.began + Duration::from_secs(until));
            }
            Step::Replay { below, stream: number } => {
                let position = 100 - below;
                let event = EventRef { position: at(position), stream: stream(number) };
                let taken = self.window.replay(event, 2, 3, now);
                prop_assert_eq!(taken, !model.events.contains_key(&position));
                let place = Whereabouts::Away { due: model.now, reading: false };
                model.events.entry(position).or_insert(Event {
                    stream: number,
                    charges: 3,
                    place,
                    told_at: None,
                    came_back_at: None,
                });
            }
            Step::Accept => {
                self.window.accept();
                model.accepted = model.conversation.len();
            }
            Step::Vouch { ahead } => {
                let scanned = self.next - 1 + ahead;
                self.next += ahead;
                let away = (0..3).filter_map(|number| model.away(number)).min();
                let sent = away.map_or(scanned, |away| scanned.min(away - 1));
                model.vouched = model.vouched.max(sent);
                model.conversation.push(model.vouched);
                prop_assert_eq!(self.window.vouch(at(scanned)), at(model.vouched));
            }
            Step::Pass { time } => model.now += time,
        }
        Ok(())
    }

    fn ack(&mut self, position: u64) -> Result<(), TestCaseError> {
        let mut settled = Vec::new();
        self.window.ack(at(position), |event| settled.push(event.position.get()));
        settled.sort_unstable();
        prop_assert_eq!(settled, self.model.ack(position));
        Ok(())
    }

    fn agree(&self) -> Result<(), TestCaseError> {
        let (window, model) = (&self.window, &self.model);
        prop_assert_eq!(window.len(), model.events.len());
        prop_assert_eq!(window.with_client(), model.with_client().len());
        prop_assert_eq!(window.told(), at(model.told()));
        let oldest = window.oldest();
        let oldest = oldest.map(|entry| (entry.position.get(), window.is_accepted(entry)));
        prop_assert_eq!(oldest, model.oldest_accepted());
        for one_more in [true, false] {
            let next = model.readable(one_more).into_iter().map(|(_, due)| due).min();
            let next = next.map(|due| self.instant(due));
            prop_assert_eq!(window.next_read_at(one_more), next);
        }
        for (entry, (position, event)) in window.entries().zip(&model.events) {
            prop_assert_eq!(entry.position, at(*position));
            prop_assert_eq!(entry.charges(), event.charges);
            let away = matches!(event.place, Whereabouts::Away { .. });
            prop_assert_eq!(entry.is_away(), away);
        }
        for number in 0..3 {
            let held_back = model.away(number).is_some();
            prop_assert_eq!(window.is_held_back(stream(number)), held_back);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn the_window_does_what_the_whole_conversation_asks_for(steps in steps()) {
        let mut pair = Pair::new();
        for step in steps {
            pair.step(step)?;
            pair.agree()?;
        }
    }
}

#[test]
fn an_empty_window_keeps_hardly_any_memory() {
    let mut window = Window::after(at(0));
    for position in 1..=1024 {
        let event = EventRef { position: at(position), stream: stream(0) };
        assert!(window.take(event, 0, Instant::now()));
    }
    window.ack(at(1024), |_| {});
    assert!(window.entries.capacity() <= IDLE_CAPACITY_MAX);
}
