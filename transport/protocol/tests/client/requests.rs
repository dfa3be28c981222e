//! Commands and the bounds of the outbox: how often, how long, and what the application is told.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tidewire_eventstore::{CommandKey, CommandName, GlobalPosition};
use tidewire_protocol::{
    CloseCode, CommandRequest,
    client::{ClientConfig, ClientInput, ClientOutput, CommandResult, OutboxError, OutboxLimits},
};

use crate::scene::{Scene, append, sent, welcome};

fn command(key: &str) -> CommandRequest {
    CommandRequest {
        name: CommandName::new("place-order").expect("a name"),
        data: Bytes::from_static(b"{\"pizza\":1}"),
        key: CommandKey::new(key).ok(),
    }
}

/// What the application was told of its requests: a code, or `ok`.
fn told(outputs: &[ClientOutput]) -> Vec<String> {
    let code = |output: &ClientOutput| match output {
        ClientOutput::Answered { result: Ok(_), .. }
        | ClientOutput::Settled { result: Ok(_), .. } => Some("ok".to_owned()),
        ClientOutput::Answered { result: Err(error), .. }
        | ClientOutput::Settled { result: Err(error), .. } => Some(error.code.to_string()),
        _ => None,
    };
    outputs.iter().filter_map(code).collect()
}

#[test]
fn a_command_is_sent_with_its_key_and_answered_once_across_connections() {
    let mut scene = Scene::connected();
    let ticket = scene.core.command(command("k"), scene.now).expect("there is room");
    let first = sent(&scene.poll());
    let said = json!([{"type": "command", "id": "c1", "name": "place-order",
        "data": {"pizza": 1}, "key": "k"}]);
    assert_eq!(json!(first), said);
    scene.hand_in(ClientInput::Lost(CloseCode::ABNORMAL));
    scene.wake();
    scene.hand_in(ClientInput::Opened);
    assert_eq!(sent(&scene.says(welcome(1 << 20, 2))), first, "the same again");
    let result = json!({"type": "result", "id": "c1", "data": {"order": 7}, "position": 9});
    let data = Bytes::from_static(b"{\"order\":7}");
    let answer = CommandResult { data, position: Some(GlobalPosition::new(9)) };
    let answered = ClientOutput::Answered { ticket, result: Ok(answer) };
    assert_eq!(scene.says(result.clone()), [answered]);
    assert_eq!(scene.says(result), []);
}

#[test]
fn a_refused_command_says_why() {
    let mut scene = Scene::connected();
    scene.core.command(command("k"), scene.now).expect("there is room");
    scene.poll();
    let out = scene.says(json!({"type": "error", "id": "c1", "code": "command_failed",
        "message": "no", "retryable": false, "details": {"sold_out": true}}));
    assert_eq!(told(&out), ["command_failed"]);
}

#[test]
fn a_command_needs_a_key_and_room() {
    let outbox = OutboxLimits { requests: 1, ..OutboxLimits::default() };
    let mut scene = Scene::new(ClientConfig { outbox, ..ClientConfig::default() });
    assert_eq!(scene.core.command(command(""), scene.now), Err(OutboxError::MissingId));
    scene.core.append(append(1), scene.now).expect("there is room");
    let refused = scene.core.command(command("k"), scene.now);
    assert!(matches!(refused, Err(OutboxError::Full { requests: 1, .. })), "one bound for both");
    assert_eq!(scene.core.outbox_size().0, 1);
}

#[test]
fn requests_are_sent_on_a_bounded_number_of_connections() {
    let outbox = OutboxLimits { attempts: 2, ..OutboxLimits::default() };
    let mut scene = Scene::new(ClientConfig { outbox, ..ClientConfig::default() });
    scene.core.append(append(1), scene.now).expect("there is room");
    scene.core.command(command("k"), scene.now).expect("there is room");
    for attempt in 1..=2 {
        scene.hand_in(ClientInput::Opened);
        assert_eq!(sent(&scene.says(welcome(1 << 20, 2))).len(), 2, "attempt {attempt}");
        let out = scene.hand_in(ClientInput::Lost(CloseCode::ABNORMAL));
        let expected: &[&str] =
            if attempt == 2 { &["outcome_unknown", "outcome_unknown"] } else { &[] };
        assert_eq!(told(&out), expected, "attempt {attempt}");
        scene.wake();
    }
    assert_eq!(scene.core.outbox_size(), (0, 0));
}

#[test]
fn requests_wait_a_bounded_time_and_learn_whether_they_were_sent() {
    let age = Duration::from_secs(3);
    let outbox = OutboxLimits { age, ..OutboxLimits::default() };
    let mut scene = Scene::new(ClientConfig { outbox, ..ClientConfig::default() });
    scene.core.append(append(1), scene.now).expect("there is room");
    let (waited, out) = scene.wake();
    assert_eq!((waited, told(&out)), (age, vec!["unavailable".to_owned()]), "never sent");
    scene.hand_in(ClientInput::Opened);
    scene.says(welcome(1 << 20, 2));
    scene.core.command(command("k"), scene.now).expect("there is room");
    assert_eq!(sent(&scene.poll()).len(), 1);
    let (waited, out) = scene.wake();
    assert_eq!((waited, told(&out)), (age, vec!["outcome_unknown".to_owned()]), "sent");
    let late = json!({"type": "result", "id": "c2", "data": 1});
    assert_eq!(scene.says(late), [], "an answer that comes too late is nobody's");
}
