//! [`Projection`]: what turns events into documents, and [`ProjectError`]: why it could not.

use std::sync::Arc;

use tidewire_eventstore::{DocumentKey, KeyError, RecordedEvent};

use crate::{definition::Definition, documents::DOCUMENT_BYTES_MAX, working::Documents};

/// The most documents that one event may look at or change.
pub const EVENT_KEYS_MAX: usize = 1000;

/// The most changes that one event may make.
pub const EVENT_CHANGES_MAX: usize = 1000;

/// How deep objects and arrays may stand inside one another in a document.
pub const DOCUMENT_DEPTH_MAX: usize = 100;

/// A pure function from documents and an event to changes of documents.
///
/// Pure means: the same documents and the same event give the same changes, on every node and at
/// any time. No clock, no randomness, no state of its own and nothing from outside. What a crash
/// loses is projected again, and a rebuild projects everything again.
///
/// [`typed`](crate::typed) makes one from ordinary Rust types; [`kit`](crate::kit) tests one.
pub trait Projection: Send + Sync + 'static {
    /// What it is called, which events it is given, and what its documents can be asked for. The
    /// same each time.
    fn definition(&self) -> &Definition;

    /// Adds the key of every document that [`Self::project`] may look at or change for this
    /// event, at most [`EVENT_KEYS_MAX`]; the same key may come twice. With none of them the event
    /// is none of the projection's and `project` is not called.
    ///
    /// # Errors
    ///
    /// [`ProjectError`] where the event makes no sense: it is a poison event then.
    fn keys(&self, event: &RecordedEvent, keys: &mut Vec<DocumentKey>) -> Result<(), ProjectError>;

    /// Changes documents as the event says.
    ///
    /// # Errors
    ///
    /// [`ProjectError`] where the event makes no sense: nothing that was changed for it counts.
    fn project(
        &self,
        event: &RecordedEvent,
        documents: &mut Documents<'_>,
    ) -> Result<(), ProjectError>;

    /// The statements of a projection whose documents are the rows of the application's own
    /// tables, on PostgreSQL. Where there are some, [`Self::keys`] and [`Self::project`] are not
    /// called.
    fn sql(&self) -> Option<&SqlStatements> {
        None
    }
}

/// What a SQL projection runs in the transaction of its checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlStatements {
    /// Run over each batch of events; `$1` is the events (a JSON array), `$2` the generation.
    pub apply: Arc<str>,
    /// Run once when a generation begins, before its first batch, over no events: to delete what
    /// earlier generations left. `$1` is an empty array, `$2` the generation.
    pub reset: Option<Arc<str>>,
}

/// Why a projection could not take an event. The event is a poison event for it: by policy the
/// projection stops there, or parks the event and goes on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProjectError {
    /// The event is not what the projection expects.
    #[error("the event cannot be read: {reason}")]
    EventUnreadable {
        /// Why, for people.
        reason: String,
    },
    /// A document is not what the projection expects, for example one of an older version of it.
    #[error("document {key} cannot be read: {reason}")]
    DocumentUnreadable {
        /// Which.
        key: DocumentKey,
        /// Why, for people.
        reason: String,
    },
    /// What should name a document is no key.
    #[error("no document can have this key: {0}")]
    KeyInvalid(#[from] KeyError),
    /// The event concerns too many documents.
    #[error("the event concerns {keys} documents; at most {EVENT_KEYS_MAX} are allowed")]
    TooManyKeys {
        /// How many.
        keys: usize,
    },
    /// The event changes too much.
    #[error("the event makes more than {EVENT_CHANGES_MAX} changes")]
    TooManyChanges,
    /// The projection touched a document that it had not named for this event.
    #[error("document {key} is not among those that the projection named for this event")]
    KeyUnnamed {
        /// Which.
        key: DocumentKey,
    },
    /// A document has to be a JSON object.
    #[error("document {key} would not be a JSON object")]
    DocumentNotObject {
        /// Which.
        key: DocumentKey,
    },
    /// A document would become too large.
    #[error("document {key} would have {bytes} bytes; at most {DOCUMENT_BYTES_MAX} are allowed")]
    DocumentTooLarge {
        /// Which.
        key: DocumentKey,
        /// How many bytes of JSON text it would have.
        bytes: usize,
    },
    /// A document would become too deep.
    #[error("document {key} would be deeper than {DOCUMENT_DEPTH_MAX} levels")]
    DocumentTooDeep {
        /// Which.
        key: DocumentKey,
    },
    /// The projection itself refuses the event.
    #[error("{reason}")]
    Refused {
        /// Why, for people.
        reason: String,
    },
}

impl ProjectError {
    /// A projection's own refusal of an event.
    pub fn refused(reason: impl Into<String>) -> Self {
        Self::Refused { reason: reason.into() }
    }

    /// The stable code of this error.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::EventUnreadable { .. } => "event_unreadable",
            Self::DocumentUnreadable { .. } => "document_unreadable",
            Self::KeyInvalid(error) => error.code(),
            Self::TooManyKeys { .. } => "too_many_keys",
            Self::TooManyChanges => "too_many_changes",
            Self::KeyUnnamed { .. } => "key_unnamed",
            Self::DocumentNotObject { .. } => "document_not_object",
            Self::DocumentTooLarge { .. } => "document_too_large",
            Self::DocumentTooDeep { .. } => "document_too_deep",
            Self::Refused { .. } => "refused",
        }
    }
}
