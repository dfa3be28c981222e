//! Following the log: catch up from any position, then live, without a hole or a double.
//!
//! [`LogTail`] gives the whole log in order to the one who spreads it in a process; [`follow`]
//! gives one target's events to a user in the process. Both decide by [`sequencer::Sequencer`],
//! which is pure: news of commits and pages of the store go in, what to hand on and what to read
//! comes out.

mod epochs;
#[cfg(test)]
mod interleavings;
#[cfg(test)]
mod rewinds;
mod sequencer;
mod stream;
mod tail;

pub use stream::follow;
pub use tail::{LogTail, TailBatch, TailConfig, TailEpochs, TailNews};
