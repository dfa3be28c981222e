//! Acknowledgements as the client keeps them: what is given, what is acknowledged when, and what
//! is withdrawn, given again, or not, in each order in which things can happen.

use std::{collections::BTreeMap, num::NonZeroU32, time::Duration};

use serde_json::{Value, json};
use tidewire_eventstore::{ConsumerName, GlobalPosition, Sharing};
use tidewire_protocol::{
    After, CloseCode, ConsumerRef, Delivery, FeedSpec, NackAction, Sub, Target,
    client::{ClientInput, ClientOutput, DeliveryKey, Notice, Settlement, State, Taken},
};

use crate::scene::{EPOCH, Scene, sent, welcome};

const NOTHING: [&str; 0] = [];

/// A scene with one subscription that acknowledges, and the keys of what was taken.
struct Acked {
    scene: Scene,
    sub: Sub,
    keys: BTreeMap<u64, DeliveryKey>,
    said: Vec<Value>,
}

fn each(window: u32) -> Delivery {
    Delivery::Each { window: NonZeroU32::new(window) }
}

fn consumer(sharing: Sharing) -> Delivery {
    let name = ConsumerName::new("mailer").expect("a name");
    Delivery::Consumer { consumer: ConsumerRef { name, sharing }, window: NonZeroU32::new(16) }
}

fn retry() -> Settlement {
    nack(NackAction::Retry { delay: Duration::ZERO })
}

fn nack(action: NackAction) -> Settlement {
    Settlement::Nack { action, reason: None }
}

impl Acked {
    fn new(delivery: Delivery) -> Self {
        let mut scene = Scene::connected();
        let feed = FeedSpec::of(Target::All);
        let sub = scene.core.subscribe_acked(feed, After::Start, None, delivery);
        let mut acked = Self { scene, sub, keys: BTreeMap::new(), said: Vec::new() };
        acked.note();
        acked.subscribed(0, false);
        acked.said();
        acked
    }

    fn subscribed(&mut self, after: u64, resumed: bool) {
        self.says(json!({"type": "subscribed", "sub": 1, "head": 99, "after": after,
            "resumed": resumed}));
    }

    /// Remembers what the client has said.
    fn note(&mut self) -> Vec<ClientOutput> {
        let out = self.scene.poll();
        self.said.extend(sent(&out));
        out
    }

    fn says(&mut self, message: Value) -> Vec<ClientOutput> {
        let out = self.scene.says(message);
        self.said.extend(sent(&out));
        out
    }

    /// Events come: position, stream, attempt.
    fn come(&mut self, events: &[(u64, &str, u32)]) -> &mut Self {
        let events: Vec<Value> = events
            .iter()
            .map(|(position, stream, attempt)| {
                let mut event = json!({"position": position, "stream": stream, "revision": 0,
                    "type": "T", "id": EPOCH, "at": "2026-01-01T00:00:00Z", "data": 1});
                if *attempt > 1 {
                    event["attempt"] = json!(attempt);
                }
                event
            })
            .collect();
        self.says(json!({"type": "events", "sub": 1, "events": events}));
        self
    }

    /// Takes all there is: positions, with the attempt where it is not the first.
    fn take(&mut self) -> Vec<String> {
        let mut taken = Vec::new();
        while let Some(next) = self.scene.core.take(self.sub) {
            if let Taken::Event { key, delivered } = next {
                self.keys.insert(key.position().get(), key);
                taken.push(match delivered.attempt {
                    1 => format!("{}", key.position()),
                    attempt => format!("{}x{attempt}", key.position()),
                });
            }
        }
        taken
    }

    fn settle(&mut self, position: u64, settlement: Settlement) -> &mut Self {
        let key = self.keys[&position];
        self.scene.core.settle(key, settlement, self.scene.now);
        self.note();
        self
    }

    /// The server has heard of a retry.
    fn retrying(&mut self, position: u64) -> &mut Self {
        self.says(json!({"type": "retrying", "sub": 1, "positions": [position]}));
        self
    }

    fn ack(&mut self, positions: &[u64]) -> &mut Self {
        for position in positions {
            self.settle(*position, Settlement::Ack);
        }
        self
    }

    /// What the client has said since the last call: `ack` and its position, or the action of a
    /// nack and its positions, or the type.
    fn said(&mut self) -> Vec<String> {
        let short = |message: Value| match message["type"].as_str() {
            Some("ack") => format!("ack {}", message["position"]),
            Some("nack") => {
                format!("{} {}", message["action"].as_str().expect("text"), message["positions"])
            }
            other => other.expect("a type").to_owned(),
        };
        self.said.drain(..).map(short).collect()
    }

    /// The time that acknowledgements wait for others passes.
    fn wait(&mut self) -> &mut Self {
        self.scene.now += Duration::from_millis(200);
        let out = self.scene.hand_in(ClientInput::Timeout);
        self.said.extend(sent(&out));
        self
    }

    fn reconnect(&mut self) -> Value {
        self.scene.hand_in(ClientInput::Lost(CloseCode::ABNORMAL));
        assert!(matches!(self.scene.core.state(), State::Reconnecting { .. }));
        while !self.scene.wake().1.contains(&ClientOutput::Connect) {}
        let hello = sent(&self.scene.hand_in(ClientInput::Opened)).remove(0);
        self.scene.says(welcome(1 << 20, 2));
        hello["subscriptions"][0].clone()
    }
}

/// Past the first acknowledgement, which does not wait: event 1 of a stream of its own.
fn running(delivery: Delivery) -> Acked {
    let mut acked = Acked::new(delivery);
    acked.come(&[(1, "first", 1)]);
    acked.take();
    assert_eq!(acked.ack(&[1]).said(), ["ack 1"], "the first does not wait");
    acked
}

#[test]
fn subscribe_says_what_is_wanted() {
    for (delivery, ack, window, named) in [
        (Delivery::Plain, Value::Null, Value::Null, Value::Null),
        (each(9), json!("each"), json!(9), Value::Null),
        (consumer(Sharing::Exclusive), Value::Null, json!(16), json!("mailer")),
        (consumer(Sharing::Group), Value::Null, json!(16), json!({"group": "mailer"})),
    ] {
        let mut scene = Scene::connected();
        scene.core.subscribe_acked(FeedSpec::of(Target::All), After::Start, None, delivery);
        let said = &sent(&scene.poll())[0];
        assert_eq!((&said["ack"], &said["window"], &said["consumer"]), (&ack, &window, &named));
    }
}

#[test]
fn acknowledgements_wait_for_company_but_not_for_long() {
    let mut acked = running(each(16));
    acked.come(&[(2, "s", 1), (3, "s", 1), (4, "s", 1), (5, "s", 1), (6, "s", 1), (7, "s", 1)]);
    assert_eq!(acked.take(), ["2", "3", "4", "5", "6", "7"]);
    assert_eq!(acked.ack(&[2, 3, 4]).said(), NOTHING);
    assert_eq!(acked.ack(&[5]).said(), ["ack 5"], "a quarter of the window");
    assert_eq!(acked.ack(&[6]).said(), NOTHING);
    let due = acked.scene.core.next_timeout().expect("a timer runs") - acked.scene.now;
    assert_eq!(due, Duration::from_millis(200));
    assert_eq!(acked.wait().said(), ["ack 6"]);
    acked.ack(&[7]);
    acked.scene.core.unsubscribe(acked.sub, acked.scene.now);
    acked.note();
    assert_eq!(acked.said(), ["ack 7", "unsubscribe"], "nothing settled is kept back at the end");
}

#[test]
fn the_smallest_window_acknowledges_each_event_at_once() {
    let mut acked = running(each(1));
    for position in 2..5 {
        acked.come(&[(position, "s", 1)]);
        acked.take();
        assert_eq!(acked.ack(&[position]).said(), [format!("ack {position}")]);
    }
}

#[test]
fn nothing_is_acknowledged_past_what_is_not_settled() {
    let mut acked = running(each(16));
    acked.come(&[(2, "s", 1), (3, "t", 1), (4, "s", 1), (5, "t", 1), (6, "u", 1), (7, "u", 1)]);
    acked.take();
    assert_eq!(acked.ack(&[3, 4, 5, 6, 7]).wait().said(), NOTHING);
    assert_eq!(acked.ack(&[2]).said(), ["ack 7"]);
}

#[test]
fn a_heartbeats_position_is_acknowledged_once_what_came_before_is_settled() {
    let heartbeat =
        |position: u64| json!({"type": "heartbeat", "head": 99, "positions": {"1": position}});
    let mut acked = running(each(16));
    acked.come(&[(2, "s", 1)]);
    acked.take();
    acked.says(heartbeat(40));
    assert_eq!(acked.wait().said(), NOTHING);
    assert_eq!(acked.ack(&[2]).wait().said(), ["ack 40"]);
    acked.says(heartbeat(50));
    assert_eq!(acked.wait().said(), ["ack 50"]);
    acked.says(heartbeat(50));
    assert_eq!(acked.wait().said(), NOTHING, "once");
    acked.come(&[(60, "s", 1)]);
    acked.take();
    acked.settle(60, retry()).said();
    acked.says(heartbeat(60));
    assert_eq!(acked.wait().said(), NOTHING, "its position would stand for the event that waits");
}

#[test]
fn what_is_sent_again_stays_with_whoever_has_it_and_is_acknowledged_by_its_own_position() {
    // What the application did before, what comes of the second sending, what is said then.
    let nothing: fn(&mut Acked) -> &mut Acked = |acked| acked;
    let settled: fn(&mut Acked) -> &mut Acked = |acked| acked.ack(&[2]);
    let acknowledged: fn(&mut Acked) -> &mut Acked = |acked| acked.ack(&[2]).wait();
    let let_go: fn(&mut Acked) -> &mut Acked = |acked| acked.settle(2, Settlement::LetGo);
    for (name, before, given, said) in [
        ("has it", nothing, &[][..], &[][..]),
        ("settled it", settled, &[], &["ack 2"]),
        ("settled it, and that was said", acknowledged, &[], &["ack 2"]),
        ("let go of it", let_go, &["2x2"], &[]),
    ] {
        let mut acked = running(each(16));
        acked.come(&[(2, "s", 1), (3, "t", 1)]);
        acked.take();
        before(&mut acked);
        acked.said();
        acked.come(&[(2, "s", 2)]);
        assert_eq!(acked.take(), given, "{name}");
        assert_eq!(acked.said(), said, "{name}");
    }
}

#[test]
fn an_event_that_came_again_is_acknowledged_by_name_and_the_later_ones_after_it() {
    let mut acked = running(each(16));
    acked.come(&[(2, "s", 1), (3, "t", 1), (4, "t", 1)]);
    acked.take();
    assert_eq!(acked.settle(2, retry()).said(), ["retry [2]"]);
    assert_eq!(
        acked.ack(&[3]).wait().said(),
        ["ack 3"],
        "what waits for its retry holds up nobody"
    );
    acked.come(&[(2, "s", 2)]);
    assert_eq!(acked.take(), NOTHING, "sent for its silence, before the server heard");
    acked.retrying(2).come(&[(2, "s", 3)]);
    assert_eq!(acked.take(), ["2x3"]);
    assert_eq!(acked.ack(&[4]).wait().said(), NOTHING, "now it does");
    assert_eq!(acked.ack(&[2]).said(), ["ack 2", "ack 4"]);
}

#[test]
fn a_retry_withdraws_the_later_events_of_its_stream() {
    let mut acked = running(each(16));
    acked.come(&[(2, "s", 1), (3, "s", 1), (4, "t", 1)]);
    let first = acked.scene.core.take(acked.sub).expect("news");
    assert!(matches!(first, Taken::Event { .. }));
    let Taken::Event { key, .. } = first else { unreachable!() };
    acked.keys.insert(2, key);
    acked.settle(2, retry());
    assert_eq!(acked.take(), ["4"], "3 was not taken, and is not given before 2");
    acked.come(&[(5, "s", 1), (6, "t", 1)]);
    assert_eq!(acked.take(), ["6"], "5 was on its way when the retry was asked for");
    acked.retrying(2).come(&[(2, "s", 2), (3, "s", 1), (5, "s", 1)]);
    assert_eq!(acked.take(), ["2x2", "3", "5"]);
    acked.said();
    assert_eq!(acked.ack(&[4, 6, 5, 3]).wait().said(), NOTHING);
    assert_eq!(acked.ack(&[2]).said(), ["ack 2", "ack 3", "ack 5", "ack 6"]);
}

#[test]
fn what_is_given_back_comes_next_unless_it_was_withdrawn() {
    let mut acked = running(each(16));
    acked.come(&[(2, "s", 1), (3, "s", 1), (4, "t", 1), (5, "t", 1)]);
    let mut taken = Vec::new();
    while let Some(Taken::Event { key, delivered }) = acked.scene.core.take(acked.sub) {
        acked.keys.insert(key.position().get(), key);
        taken.push((key, delivered));
    }
    acked.settle(2, retry());
    for (key, delivered) in taken.drain(1..).rev() {
        acked.scene.core.give_back(key, delivered);
    }
    assert_eq!(acked.take(), ["4", "5"]);
    acked.retrying(2).come(&[(2, "s", 2), (3, "s", 1)]);
    assert_eq!(acked.take(), ["2x2", "3"]);
}

#[test]
fn what_was_withdrawn_from_the_application_is_given_again_unless_it_was_settled() {
    let mut acked = running(each(16));
    acked.come(&[(2, "s", 1), (3, "s", 1), (4, "s", 1), (5, "s", 1)]);
    acked.take();
    acked.ack(&[3]);
    let stale = acked.keys[&5];
    acked.settle(2, retry());
    acked.ack(&[4]);
    acked.said();
    acked.retrying(2).come(&[(2, "s", 2), (3, "s", 1), (4, "s", 1), (5, "s", 1)]);
    assert_eq!(acked.take(), ["2x2", "5"]);
    acked.scene.core.settle(stale, Settlement::Ack, acked.scene.now);
    acked.note();
    assert_eq!(
        acked.ack(&[2]).said(),
        ["ack 2", "ack 3", "ack 4"],
        "the old copy of 5 says nothing"
    );
    assert_eq!(acked.ack(&[5]).said(), ["ack 5"]);
}

#[test]
fn what_was_withdrawn_comes_again_also_when_the_first_does_not() {
    let parked = json!({"type": "parked", "sub": 1, "positions": [2], "reason": "attempts spent"});
    let retrying = json!({"type": "retrying", "sub": 1, "positions": [2]});
    let unknown = json!({"type": "error", "sub": 1, "code": "unknown_position", "message": "",
        "retryable": false, "details": {"positions": [2]}});
    for news in [[retrying, parked.clone()], [parked, unknown]] {
        let mut acked = running(each(16));
        acked.come(&[(2, "s", 1), (3, "s", 1)]);
        acked.take();
        acked.settle(2, retry());
        acked.come(&[(4, "s", 1)]);
        acked.says(news[0].clone());
        if news[0]["type"] == "parked" {
            acked.come(&[(5, "s", 1)]);
        }
        acked.says(news[1].clone());
        assert_eq!(acked.take(), NOTHING);
        acked.come(&[(3, "s", 1), (4, "s", 1), (5, "s", 1)]);
        assert_eq!(acked.take(), ["3", "4", "5"]);
        acked.said();
        assert_eq!(acked.ack(&[3, 4, 5]).wait().said().last().expect("one"), "ack 5");
    }
}

#[test]
fn parking_and_skipping_settle() {
    for (action, said) in [(NackAction::Park, "park [2]"), (NackAction::Skip, "skip [2]")] {
        let mut acked = running(each(16));
        acked.come(&[(2, "s", 1), (3, "s", 1)]);
        acked.take();
        assert_eq!(acked.settle(2, nack(action)).said(), [said]);
        assert_eq!(acked.ack(&[3]).wait().said(), ["ack 3"]);
    }
}

#[test]
fn what_the_server_parks_is_told_and_no_longer_waited_for() {
    let mut acked = running(each(16));
    acked.come(&[(2, "s", 1), (3, "s", 1)]);
    acked.take();
    acked.ack(&[3]);
    acked.says(json!({"type": "parked", "sub": 1, "positions": [2], "reason": "attempts spent"}));
    assert_eq!(acked.wait().said(), ["ack 3"]);
    let news = acked.scene.core.take(acked.sub);
    let positions = vec![GlobalPosition::new(2)];
    let parked = Notice::Parked { positions, reason: "attempts spent".into() };
    assert_eq!(news, Some(Taken::Notice(parked)));
    assert_eq!(acked.settle(2, retry()).said(), NOTHING, "the application's say comes too late");
    acked.come(&[(2, "s", 4)]);
    assert_eq!(acked.take(), ["2x4"], "somebody has it replayed");
}

#[test]
fn stopping_ends_the_subscription_with_the_event_unsettled() {
    let mut acked = running(each(16));
    acked.come(&[(2, "s", 1), (3, "s", 1)]);
    acked.take();
    acked.ack(&[2]);
    let stop = nack(NackAction::Stop);
    acked.scene.core.settle(acked.keys[&3], stop, acked.scene.now);
    let out = acked.note();
    assert_eq!(acked.said(), ["ack 2", "stop [3]"]);
    let ended = out.iter().find_map(|output| match output {
        ClientOutput::Notice { notice: Notice::Ended(Some(error)), .. } => Some(&*error.code),
        _ => None,
    });
    assert_eq!(ended, Some("stopped"));
    acked.come(&[(4, "s", 1)]);
    assert_eq!(acked.take(), NOTHING);
    let hello = acked.reconnect();
    assert_eq!(hello, Value::Null, "it is not resumed");
}

#[test]
fn reasons_are_cut_and_delays_bounded_to_what_the_wire_allows() {
    let mut acked = running(each(16));
    acked.come(&[(2, "s", 1)]);
    acked.take();
    let action = NackAction::Retry { delay: Duration::from_secs(100_000) };
    let reason = Some(format!("x{}", "é".repeat(400)));
    acked.settle(2, Settlement::Nack { action, reason });
    let said = acked.said.remove(0);
    assert_eq!(said["delay_ms"], json!(3_600_000));
    assert_eq!(said["reason"].as_str().map(str::len), Some(499), "and whole characters");
}

#[test]
fn a_consumer_goes_on_from_its_checkpoint_and_is_spared_what_it_has_in_hand() {
    for sharing in [Sharing::Exclusive, Sharing::Group] {
        let mut acked = running(consumer(sharing));
        acked.come(&[(2, "s", 1), (3, "s", 1), (4, "t", 1), (5, "u", 1), (6, "u", 1)]);
        for _ in 0..4 {
            let Some(Taken::Event { key, .. }) = acked.scene.core.take(acked.sub) else {
                panic!("events are there");
            };
            acked.keys.insert(key.position().get(), key);
        }
        acked.ack(&[2]).settle(4, retry());
        let hello = acked.reconnect();
        assert_eq!(hello["after"], json!("start"), "its checkpoint is the server's");
        // 3 is settled while nothing is connected, 5 later; 6 was never taken.
        acked.ack(&[3]).said();
        acked.subscribed(1, true);
        acked.come(&[(2, "s", 1), (3, "s", 1), (4, "t", 1), (5, "u", 1), (6, "u", 1)]);
        assert_eq!(
            acked.take(),
            ["4", "6"],
            "what the application has, or has settled, is not given twice"
        );
        assert_eq!(acked.said(), ["ack 2", "ack 3"]);
        assert_eq!(acked.ack(&[4, 5, 6]).wait().said(), ["ack 4", "ack 6"][1..]);
    }
}

#[test]
fn without_a_consumer_it_resumes_after_what_is_settled() {
    let mut acked = running(each(16));
    acked.come(&[(2, "s", 1), (3, "s", 1), (4, "t", 1)]);
    acked.take();
    acked.ack(&[2, 4]);
    assert_eq!(acked.reconnect()["after"], json!(2));
    acked.subscribed(2, true);
    acked.come(&[(3, "s", 1), (4, "t", 1), (5, "t", 1)]);
    assert_eq!(acked.take(), ["5"]);
    acked.said();
    assert_eq!(acked.ack(&[3]).said(), ["ack 4"]);
    acked.ack(&[5]);
    assert_eq!(acked.reconnect()["after"], json!(5));
}

#[test]
fn what_is_in_hand_says_nothing_of_what_has_not_come_again() {
    let mut acked = running(each(16));
    acked.come(&[(2, "s", 1), (3, "t", 1), (9, "u", 1)]);
    acked.take();
    acked.settle(3, Settlement::LetGo);
    assert_eq!(acked.reconnect()["after"], json!(1));
    acked.subscribed(1, true);
    acked.ack(&[2]);
    assert_eq!(acked.reconnect()["after"], json!(1), "9 is in hand, and 3 has not come again");
}

#[test]
fn it_resumes_before_a_retry_until_nothing_can_be_held_back_behind_it() {
    let mut acked = running(each(16));
    acked.come(&[(2, "s", 1), (9, "t", 1)]);
    acked.take();
    acked.settle(2, retry()).ack(&[9]);
    acked.retrying(2).come(&[(2, "s", 2)]);
    acked.take();
    acked.ack(&[2]);
    assert_eq!(acked.reconnect()["after"], json!(1), "3 to 8 of s may not have been sent");
    acked.subscribed(1, true);
    acked.come(&[(2, "s", 1), (9, "t", 1)]);
    assert_eq!(acked.take(), NOTHING);
    acked.says(json!({"type": "heartbeat", "head": 99, "positions": {"1": 9}}));
    assert_eq!(acked.reconnect()["after"], json!(9));
}

#[test]
fn what_a_new_consumer_or_another_log_sends_is_given_whatever_was_settled_before() {
    let other_log = |acked: &mut Acked| {
        acked.scene.hand_in(ClientInput::Lost(CloseCode::ABNORMAL));
        while !acked.scene.wake().1.contains(&ClientOutput::Connect) {}
        acked.scene.hand_in(ClientInput::Opened);
        let mut welcome = welcome(1 << 20, 2);
        welcome["epoch"] = json!("00000000-0000-0000-0000-000000000002");
        acked.scene.says(welcome);
        acked.subscribed(0, true);
    };
    let new_consumer = |acked: &mut Acked| {
        acked.reconnect();
        acked.subscribed(0, false);
    };
    for (name, begin_again) in
        [("another log", &other_log as &dyn Fn(&mut Acked)), ("a new consumer", &new_consumer)]
    {
        let mut acked = running(consumer(Sharing::Exclusive));
        acked.come(&[(2, "s", 1)]);
        acked.take();
        begin_again(&mut acked);
        acked.come(&[(1, "first", 1), (2, "s", 1)]);
        assert_eq!(acked.take(), ["1", "2"], "{name}");
    }
}

#[test]
fn a_member_of_a_group_asks_for_its_new_share_at_once() {
    let unsubscribed = |code: &str, retryable: bool| {
        json!({"type": "unsubscribed", "sub": 1, "code": code, "message": "",
            "retryable": retryable})
    };
    let mut acked = running(consumer(Sharing::Group));
    acked.says(unsubscribed("rebalanced", true));
    assert_eq!(acked.said(), ["subscribe"]);
    acked.says(unsubscribed("rebalanced", true));
    assert_eq!(acked.said(), NOTHING, "but not in a circle");
    acked.scene.wake();
    acked.subscribed(0, true);
    let out = acked.says(unsubscribed("consumer_taken", false));
    let ended = |output: &ClientOutput| {
        matches!(output, ClientOutput::Notice { notice: Notice::Ended(Some(error)), .. }
            if error.code == "consumer_taken")
    };
    assert!(out.iter().any(ended), "that is final");
    assert_eq!(acked.said(), NOTHING);
}

#[test]
fn a_reset_clears_and_a_second_one_in_a_row_waits() {
    let reset = json!({"type": "reset", "sub": 1, "reason": "truncated", "first": 8});
    let mut acked = running(each(16));
    acked.come(&[(2, "s", 1), (3, "s", 1)]);
    acked.says(reset.clone());
    assert_eq!(acked.said.remove(0)["after"], json!(7));
    let news = acked.scene.core.take(acked.sub);
    assert!(matches!(news, Some(Taken::Notice(Notice::Reset(_)))), "{news:?}");
    assert_eq!(acked.scene.core.take(acked.sub), None);
    acked.says(reset);
    assert_eq!(acked.said(), NOTHING);
    let (waited, out) = acked.scene.wake();
    assert!(!waited.is_zero());
    assert_eq!(sent(&out)[0]["after"], json!(7));
}

#[test]
fn a_server_that_floods_is_given_up() {
    let mut acked = running(each(1));
    for position in 2..9 {
        acked.come(&[(position, "s", 1)]);
    }
    assert!(matches!(acked.scene.core.state(), State::Reconnecting { .. }));
}
