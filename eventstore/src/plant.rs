//! Deliberate bugs, to see that the tests which try to break a running system find them.
//!
//! They exist with the feature `plant` alone, which nothing turns on by default; without it
//! [`Plant::is_active`] is constantly false, and a hook costs nothing. With it, the environment's
//! `TIDEWIRE_PLANT` names the one that is active. `docs/chaos.md` tells what each does.

/// A deliberate bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plant {
    /// The writer answers an append before it is durable.
    AckBeforeCommit,
    /// An append that is sent again is recorded again.
    RepeatedAppend,
    /// Now and then sessions are not woken for what was appended.
    LostWakeUp,
    /// Now and then live sessions are not given what was appended.
    SkippedBatch,
    /// A reader that goes live is taken to have one event more than it has.
    HandOverOffByOne,
    /// A node that hears of no commit does not look for itself.
    NoHeadPoll,
    /// A consumer's checkpoint follows what was sent to it, not what it has acknowledged.
    CheckpointBeforeEffect,
    /// A projection's checkpoint is committed before its documents.
    CheckpointBeforeDocuments,
}

impl Plant {
    /// Each of them.
    pub const ALL: [Self; 8] = [
        Self::AckBeforeCommit,
        Self::RepeatedAppend,
        Self::LostWakeUp,
        Self::SkippedBatch,
        Self::HandOverOffByOne,
        Self::NoHeadPoll,
        Self::CheckpointBeforeEffect,
        Self::CheckpointBeforeDocuments,
    ];

    /// Its name in `TIDEWIRE_PLANT`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AckBeforeCommit => "ack-before-commit",
            Self::RepeatedAppend => "repeated-append",
            Self::LostWakeUp => "lost-wake-up",
            Self::SkippedBatch => "skipped-batch",
            Self::HandOverOffByOne => "hand-over-off-by-one",
            Self::NoHeadPoll => "no-head-poll",
            Self::CheckpointBeforeEffect => "checkpoint-before-effect",
            Self::CheckpointBeforeDocuments => "checkpoint-before-documents",
        }
    }

    /// Whether this process has it.
    #[cfg(not(feature = "plant"))]
    #[inline(always)]
    pub const fn is_active(self) -> bool {
        false
    }

    /// Whether this process has it.
    #[cfg(feature = "plant")]
    pub fn is_active(self) -> bool {
        from_environment() == Ok(Some(self))
    }
}

/// The bug that this process has, if any; always none without the feature.
///
/// # Errors
///
/// `TIDEWIRE_PLANT` names nothing that there is.
#[cfg(not(feature = "plant"))]
pub const fn from_environment() -> Result<Option<Plant>, &'static str> {
    Ok(None)
}

/// The bug that this process has, if any; always none without the feature.
///
/// # Errors
///
/// `TIDEWIRE_PLANT` names nothing that there is.
#[cfg(feature = "plant")]
pub fn from_environment() -> Result<Option<Plant>, &'static str> {
    use std::sync::OnceLock;

    static ACTIVE: OnceLock<Result<Option<Plant>, &'static str>> = OnceLock::new();
    *ACTIVE.get_or_init(|| match std::env::var("TIDEWIRE_PLANT") {
        Err(_) => Ok(None),
        Ok(name) => match Plant::ALL.into_iter().find(|plant| plant.as_str() == name) {
            Some(plant) => Ok(Some(plant)),
            None => Err("TIDEWIRE_PLANT names no deliberate bug that there is"),
        },
    })
}
