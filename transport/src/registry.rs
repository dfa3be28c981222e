//! What `GET /sessions` tells of each session.

use std::time::{Duration, UNIX_EPOCH};

use bytes::BytesMut;
use serde::Serialize;
use tidewire_eventstore::Timestamp;
use tidewire_protocol::codec::json;

use crate::session_cell::SessionInfo;

/// A round trip below this is part of a good connection.
pub(crate) const ROUND_TRIP_GOOD: Duration = Duration::from_millis(150);
/// A round trip at or above this makes a connection poor.
pub(crate) const ROUND_TRIP_POOR: Duration = Duration::from_millis(600);
/// A lag at or below this, in events, is part of a good connection.
pub(crate) const LAG_GOOD: u64 = 100;
/// A lag above this, in events, makes a connection poor.
pub(crate) const LAG_POOR: u64 = 10_000;

/// One connected client, as the operator sees it.
#[derive(Debug, Clone, Serialize)]
pub struct SessionDescription {
    /// The session's id.
    pub id: String,
    /// The node that it is connected to.
    pub node: String,
    /// When it connected: RFC 3339, UTC.
    pub since: String,
    /// The address that it came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// How many subscriptions it has open.
    pub subscriptions: usize,
    /// How many events its most backward subscription is behind the head.
    pub lag_events: u64,
    /// The last round trip that was measured from ping to pong, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round_trip_ms: Option<f64>,
    /// What that amounts to.
    pub quality: Quality,
    /// What went over the wire.
    #[serde(flatten)]
    pub traffic: Traffic,
}

/// What went over the wire of one session. Messages are WebSocket messages.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Traffic {
    /// Messages from the client.
    pub messages_in: u64,
    /// Messages to the client.
    pub messages_out: u64,
    /// Bytes from the client, frames included.
    pub bytes_in: u64,
    /// Bytes to the client, frames included.
    pub bytes_out: u64,
}

/// How well a session does, by its round trip and its lag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Quality {
    /// Round trip below 150 ms (or not measured yet) and at most 100 events behind.
    Good,
    /// Neither good nor poor.
    Fair,
    /// Round trip of 600 ms or more, or more than 10,000 events behind.
    Poor,
}

impl Quality {
    fn of(round_trip: Option<Duration>, lag_events: u64) -> Self {
        let round_trip = round_trip.unwrap_or_default();
        if round_trip >= ROUND_TRIP_POOR || lag_events > LAG_POOR {
            Self::Poor
        } else if round_trip < ROUND_TRIP_GOOD && lag_events <= LAG_GOOD {
            Self::Good
        } else {
            Self::Fair
        }
    }
}

impl SessionDescription {
    pub(crate) fn new(
        info: &SessionInfo,
        node: &str,
        subscriptions: usize,
        lag_events: u64,
        round_trip: Option<Duration>,
        traffic: Traffic,
    ) -> Self {
        let since = info.since.duration_since(UNIX_EPOCH).unwrap_or_default();
        let since = Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX));
        Self {
            id: info.id.clone(),
            node: node.to_owned(),
            since: rfc_3339(since),
            address: info.address.map(|address| address.to_string()),
            subscriptions,
            lag_events,
            round_trip_ms: round_trip.map(|time| time.as_secs_f64() * 1e3),
            quality: Quality::of(round_trip, lag_events),
            traffic,
        }
    }
}

fn rfc_3339(at: Timestamp) -> String {
    let mut text = BytesMut::new();
    json::format_time(at, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quality_changes_exactly_at_its_thresholds() {
        for (round_trip_ms, lag, quality) in [
            (None, 0, Quality::Good),
            (Some(149), 100, Quality::Good),
            (Some(150), 0, Quality::Fair),
            (None, 101, Quality::Fair),
            (Some(599), 10_000, Quality::Fair),
            (Some(600), 0, Quality::Poor),
            (None, 10_001, Quality::Poor),
        ] {
            assert_eq!(Quality::of(round_trip_ms.map(Duration::from_millis), lag), quality);
        }
    }
}
