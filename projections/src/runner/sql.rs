//! What a SQL projection is given: events as they are on the wire, and which failures of its
//! statement are an event's fault.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use tidewire_eventstore::RecordedEvent;
use tidewire_protocol::codec::json::encode_event;

use crate::documents::SqlBatch;

/// A statement over some events.
pub(super) fn batch<'a>(
    statement: &Arc<str>,
    events: impl Iterator<Item = &'a RecordedEvent>,
) -> SqlBatch {
    let mut json = BytesMut::from(&b"["[..]);
    for (count, event) in events.enumerate() {
        if count > 0 {
            json.put_u8(b',');
        }
        encode_event(event, &mut json);
    }
    json.put_u8(b']');
    SqlBatch { statement: Arc::clone(statement), events: json.freeze() }
}

/// A statement over no event.
pub(super) fn bare(statement: &Arc<str>) -> SqlBatch {
    SqlBatch { statement: Arc::clone(statement), events: Bytes::from_static(b"[]") }
}

/// Whether a statement that failed with this may succeed when it is run again: the database was
/// short of something, or somebody was in the way. One that was cancelled took too long, and may
/// succeed with fewer events.
pub(super) fn may_pass(sqlstate: &str) -> bool {
    const CANCELLED: &str = "57014";
    if sqlstate == CANCELLED {
        return false;
    }
    // Connection, rollback of a transaction (deadlock, serialization), resources, operator, locks,
    // system.
    ["08", "40", "53", "55", "57", "58"].iter().any(|class| sqlstate.starts_with(class))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_that_divides_by_zero_fails_for_good_and_a_deadlock_does_not() {
        assert!(!may_pass("22012"));
        assert!(!may_pass("23505"));
        assert!(!may_pass("57014"));
        assert!(may_pass("40P01"));
        assert!(may_pass("55P03"));
    }
}
