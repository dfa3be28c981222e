//! A session that does not read cannot hear a pong.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tidewire_eventstore::{GlobalPosition, Timestamp};
use tidewire_protocol::{
    Activity, Input, Moment, Output, Session, SessionConfig, SessionInfo, frame::Message,
    messages::SessionId, session::Limits,
};

#[test]
fn a_peer_is_not_given_up_for_a_pong_that_was_not_read() {
    let config = SessionConfig {
        limits: Limits { requests: 1, ..Limits::default() },
        ..SessionConfig::default()
    };
    let info = SessionInfo {
        session: SessionId(uuid::Uuid::nil()),
        node: "node".into(),
        epochs: Arc::new([]),
        opened_at: Timestamp::from_micros(0),
        bearer: None,
    };
    let start = Instant::now();
    let at = |seconds| Moment {
        now: start + Duration::from_secs(seconds),
        head: GlobalPosition::START,
        removed: GlobalPosition::START,
    };
    let mut session = Session::new(config, info, at(0));
    for text in [
        r#"{"type":"hello","protocol":1}"#,
        r#"{"type":"append","id":"1","stream":"a-1","events":[{"type":"T","data":{}}]}"#,
    ] {
        session.handle(Input::Message(Message::Text(Bytes::from_static(text.as_bytes()))), at(1));
    }
    assert!(!session.may_read(), "the one request is under way");
    // The database is away for a minute. Everything that was said has left.
    let activity = Activity { inbound_at: at(1).now, progress_at: at(1).now, unsent_bytes: 0 };
    for second in 2..60 {
        session.handle(Input::Timeout(activity), at(second));
        while let Some(output) = session.poll() {
            assert!(!matches!(output, Output::Close { .. }), "after {second} s: {output:?}");
        }
    }
}
