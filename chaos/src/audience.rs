//! Whoever has to get events, of whatever kind.

use std::time::Duration;

use crate::log::Log;

/// One who has to get events.
pub(crate) trait Audience {
    /// For people.
    fn name(&self) -> &str;

    /// How long a single event may take to it while all is quiet.
    fn patience(&self) -> Duration;

    /// Whether it has everything of the log that it has to have.
    fn is_complete(&self, log: &Log) -> bool;

    /// Whether it has the event at a position, which is one that it has to have.
    fn has(&self, position: u64) -> bool;

    /// Holds what it got against the log. Returns the first difference.
    fn check(&self, log: &Log) -> Option<String>;
}
