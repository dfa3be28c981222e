//! The words of reliable delivery: how a subscription acknowledges, nacks, and commands.

use std::{num::NonZeroU32, time::Duration};

use bytes::Bytes;
use tidewire_eventstore::{
    CommandKey, CommandName, ConsumerName, GlobalPosition, NameError, RecordedEvent, Sharing,
};

/// How the events of a feed are acknowledged, as far as it bears on how they are put into frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum AckMode {
    /// Not at all.
    #[default]
    None,
    /// Each, within a window.
    Each {
        /// No frame that is shared has more events than this, so that a window that is nearly
        /// full can still take one.
        frame_events_max: NonZeroU32,
    },
}

impl AckMode {
    /// Acknowledgements within a window of this many events.
    pub fn within(window: NonZeroU32) -> Self {
        Self::Each {
            frame_events_max: NonZeroU32::new(window.get() / 4).unwrap_or(NonZeroU32::MIN),
        }
    }
}

/// A consumer as a subscription names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ConsumerRef {
    /// Its name.
    pub name: ConsumerName,
    /// Whether one session holds all of it, or several share it.
    pub sharing: Sharing,
}

/// What a subscription asks for beyond the events themselves.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Delivery {
    /// Nothing: at most once past the socket, resumed by position.
    #[default]
    Plain,
    /// Acknowledgements, for as long as the session lasts.
    Each {
        /// How many events may be unsettled; none: the server's default.
        window: Option<NonZeroU32>,
    },
    /// Acknowledgements, and a checkpoint that the log keeps.
    Consumer {
        /// Which consumer.
        consumer: ConsumerRef,
        /// How many events may be unsettled; none: the server's default.
        window: Option<NonZeroU32>,
    },
}

impl Delivery {
    /// The window that was asked for, if any was.
    pub fn window(&self) -> Option<NonZeroU32> {
        match self {
            Self::Plain => None,
            Self::Each { window } | Self::Consumer { window, .. } => *window,
        }
    }

    /// Whether events are acknowledged.
    pub fn acknowledges(&self) -> bool {
        !matches!(self, Self::Plain)
    }
}

/// What is to become of events that a client cannot process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NackAction {
    /// They are sent again, after a delay, and each is charged an attempt.
    Retry {
        /// How long to wait.
        delay: Duration,
    },
    /// They are put aside for people to look at, and the subscription moves on.
    Park,
    /// They are settled, as if they had been acknowledged.
    Skip,
    /// They stay unsettled, and the subscription ends.
    Stop,
}

impl NackAction {
    /// The action as it appears on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retry { .. } => "retry",
            Self::Park => "park",
            Self::Skip => "skip",
            Self::Stop => "stop",
        }
    }
}

/// `nack`: some events could not be processed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nack {
    /// Which; at least one.
    pub positions: Vec<GlobalPosition>,
    /// What is to become of them.
    pub action: NackAction,
    /// Why, for people: at most [`Nack::REASON_BYTES_MAX`] bytes.
    pub reason: Option<Box<str>>,
}

impl Nack {
    /// The longest reason, in bytes.
    pub const REASON_BYTES_MAX: usize = 500;
    /// The longest delay of a retry.
    pub const DELAY_MAX: Duration = Duration::from_secs(3600);
}

/// The command by which clients edit collections: the only one of Tidewire's own.
pub const COLLECTION_COMMAND: &str = "$collection";

/// The name of a command that a client may send: an application's, or [`COLLECTION_COMMAND`].
///
/// # Errors
///
/// [`NameError`] as for [`CommandName::new`].
pub fn command_name(name: &str) -> Result<CommandName, NameError> {
    if name == COLLECTION_COMMAND { CommandName::recorded(name) } else { CommandName::new(name) }
}

/// `command`: something for the application to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandRequest {
    /// Which handler is to do it.
    pub name: CommandName,
    /// What it is given: JSON text.
    pub data: Bytes,
    /// With it, the command takes effect once however often it is sent.
    pub key: Option<CommandKey>,
}

/// An event as it is delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// The event.
    pub event: RecordedEvent,
    /// Which attempt this is; the first is 1 and is not written out.
    pub attempt: u32,
}

impl From<RecordedEvent> for Delivered {
    /// The first attempt.
    fn from(event: RecordedEvent) -> Self {
        Self { event, attempt: 1 }
    }
}
