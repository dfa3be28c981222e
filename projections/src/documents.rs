//! [`DocumentStore`]: where the documents of projections are kept, with how far each has come.
//!
//! The same promises for every store, each held by the conformance suite:
//!
//! - Documents, their index entries, what was parked and the checkpoint of a commit are one
//!   transaction. It is refused where the fence is not the last one, or the checkpoint is not the
//!   one that was expected: nothing is applied twice.
//! - A commit need not be durable at once; what is lost with a crash of the machine is lost from
//!   the end, documents and checkpoint together, and is projected again.
//! - A deleted document stays as a tombstone until it is swept, so that whoever comes back learns
//!   of it. [`ChangePage::complete`] tells whether it was swept too soon for them.

mod check;
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
mod range;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tidewire_eventstore::{
    BoxFuture, DocumentKey, Generation, GlobalPosition, ProjectionName, Timestamp,
};
use tidewire_protocol::query::{OrderDirection, SortKey};
use uuid::Uuid;

pub use memory::MemoryDocuments;
#[cfg(feature = "postgres")]
pub use postgres::{PostgresDocuments, PostgresDocumentsOptions};
#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteDocuments, SqliteDocumentsOptions, SqliteOpenError};

/// The most documents of one page, and the most changes.
pub const PAGE_MAX: usize = 1000;

/// The most documents that one commit writes.
pub const COMMIT_WRITES_MAX: usize = 20_000;

/// The longest content of a document, in bytes.
pub const DOCUMENT_BYTES_MAX: usize = 256 << 10;

/// A page ends early once its documents have so many bytes: as many as a page of the log.
pub const PAGE_BYTES_MAX: usize = 8 << 20;

/// The most bytes that are kept of a node's name.
pub const NODE_BYTES_MAX: usize = 200;

/// The most bytes that are kept of why a generation stopped, or an event was parked.
pub const REASON_BYTES_MAX: usize = 1000;

/// Where documents are kept.
pub trait DocumentStore: Send + Sync + 'static {
    /// Makes a projection known: creates it, with a first empty generation of `version` that is
    /// active at once, unless it exists. Never changes one that does.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] while the database is away, as everywhere here.
    fn register(
        &self,
        name: &ProjectionName,
        version: u32,
    ) -> BoxFuture<'_, Result<Status, StoreError>>;

    /// What is known of a projection; `None` where there is none of that name.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn status(&self, name: &ProjectionName) -> BoxFuture<'_, Result<Option<Status>, StoreError>>;

    /// What is known of all projections, by name.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn statuses(&self) -> BoxFuture<'_, Result<Vec<Status>, StoreError>>;

    /// Becomes the one that writes a projection, for as long as `lease`, where nobody else is:
    /// raises its fence, to a number that no claim of any projection had before. `None` while
    /// another owner's lease runs. Time is the database's.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unknown`] where there is no such projection.
    fn claim(
        &self,
        name: &ProjectionName,
        owner: Owner,
        lease: Duration,
    ) -> BoxFuture<'_, Result<Option<Fence>, StoreError>>;

    /// Keeps a lease from running out. One that has run out begins again, as long as nobody else
    /// has claimed the projection.
    ///
    /// # Errors
    ///
    /// [`StoreError::Fenced`] where somebody else has claimed the projection since, or it was
    /// released or forgotten; so everywhere that takes a [`Held`].
    fn renew(&self, held: &Held, lease: Duration) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Lets go of a projection, so that the next one need not wait; what still comes with this
    /// fence is refused. Nothing where the fence is old.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn release(&self, held: &Held) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Begins a new generation of `version` beside the active one, empty and at the beginning of
    /// the log; what was being built before is retired.
    ///
    /// # Errors
    ///
    /// [`StoreError::Fenced`].
    fn begin_generation(
        &self,
        held: &Held,
        version: u32,
    ) -> BoxFuture<'_, Result<Generation, StoreError>>;

    /// Makes the generation that is being built the active one and retires the other, if its
    /// checkpoint has reached the other's. `false`, and nothing happens, while it has not.
    ///
    /// # Errors
    ///
    /// [`StoreError::Fenced`]; [`StoreError::Conflict`] where it is not the one being built.
    fn swap(&self, held: &Held, generation: Generation) -> BoxFuture<'_, Result<bool, StoreError>>;

    /// Retires the generation that is being built; the active one stays.
    ///
    /// # Errors
    ///
    /// [`StoreError::Fenced`]; [`StoreError::Conflict`] where it is not the one being built.
    fn give_up(&self, held: &Held, generation: Generation)
    -> BoxFuture<'_, Result<(), StoreError>>;

    /// Asks whoever owns the projection to do something ([`Status::wish`]); from any node, under
    /// no fence.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unknown`] where there is no such projection.
    fn wish(&self, name: &ProjectionName, wish: Wish) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Forgets the wish, if it is still this one: it was followed.
    ///
    /// # Errors
    ///
    /// [`StoreError::Fenced`].
    fn wish_followed(&self, held: &Held, wish: Wish) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Says that a generation goes no further, and why; `None`: that it goes on.
    ///
    /// # Errors
    ///
    /// [`StoreError::Fenced`].
    fn set_stopped(
        &self,
        held: &Held,
        generation: Generation,
        stopped: Option<Stopped>,
    ) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Writes documents and moves the checkpoint, all or nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError::Fenced`] where somebody else has claimed the projection; [`StoreError::Conflict`]
    /// where the checkpoint is not at [`Commit::expected`], or the generation is neither active nor
    /// being built; [`StoreError::Refused`] where the commit is not what [`Commit`] says;
    /// [`StoreError::Sql`] where a statement of a SQL projection failed.
    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<(), StoreError>>;

    /// The documents of these keys, at most [`COMMIT_WRITES_MAX`]; those that there are, in any
    /// order. Tombstones are not.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn documents(
        &self,
        generation: Generation,
        keys: Vec<DocumentKey>,
    ) -> BoxFuture<'_, Result<Vec<StoredDocument>, StoreError>>;

    /// One page of documents in an order.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unknown`] where the generation was retired and swept.
    fn page(&self, read: PageRead) -> BoxFuture<'_, Result<DocumentPage, StoreError>>;

    /// The documents that changed after a position, by the position of their last change.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unknown`] where the generation was retired and swept.
    fn changes(&self, read: ChangesRead) -> BoxFuture<'_, Result<ChangePage, StoreError>>;

    /// What was parked, by position, after `after`; at most `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn parked(
        &self,
        generation: Generation,
        after: GlobalPosition,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Parked>, StoreError>>;

    /// Deletes retired generations of the projection and of forgotten ones, and tombstones beyond
    /// the newest `tombstones_kept` of its active generation; at most about `limit` rows at once.
    /// Whether there is more to do.
    ///
    /// # Errors
    ///
    /// [`StoreError::Fenced`].
    fn sweep(
        &self,
        held: &Held,
        tombstones_kept: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<bool, StoreError>>;

    /// Forgets a projection altogether, with all its generations; in bounded steps. Whether there
    /// was one.
    ///
    /// # Errors
    ///
    /// [`StoreError::Owned`] while a node owns it.
    fn forget(&self, name: &ProjectionName) -> BoxFuture<'_, Result<bool, StoreError>>;

    /// Closes the database.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// Who wants to write a projection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Made anew by each process.
    pub id: Uuid,
    /// The node's name, for people: at most [`NODE_BYTES_MAX`] are kept.
    pub node: Arc<str>,
}

/// Raised by each claim of a projection; what comes with an older one is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence(pub u64);

/// A projection that is owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its name.
    pub name: ProjectionName,
    /// The fence of the claim.
    pub fence: Fence,
}

/// What a node asks of the owner of a projection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wish {
    /// Fill a new generation from the beginning of the log, then swap.
    Rebuild,
    /// Give up the generation that is being built.
    Cancel,
    /// Try the event again that a generation stopped at.
    Resume,
    /// Park the event that a generation stopped at, and go on after it.
    Skip,
}

/// What is known of a projection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Its name.
    pub name: ProjectionName,
    /// What is read by everybody.
    pub active: GenerationStatus,
    /// What is being built beside it.
    pub building: Option<GenerationStatus>,
    /// Which node writes it, and until when its lease runs; none: nobody does, or the lease has run
    /// out.
    pub owner: Option<(Arc<str>, Timestamp)>,
    /// The fence of the last claim.
    pub fence: Fence,
    /// What the owner was asked and has not done.
    pub wish: Option<Wish>,
}

/// What is known of one generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenerationStatus {
    /// Which.
    pub generation: Generation,
    /// The version of the projection that it was filled by.
    pub version: u32,
    /// Everything through here is in its documents.
    pub checkpoint: GlobalPosition,
    /// When it was begun.
    pub began_at: Timestamp,
    /// How many events it parked.
    pub parked: u64,
    /// Why it goes no further, if it does not.
    pub stopped: Option<Stopped>,
    /// Whatever was deleted after here is still told by [`DocumentStore::changes`].
    pub changes_from: GlobalPosition,
}

/// Why a generation goes no further.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// The event it stopped at, none where it is not about one event.
    pub position: Option<GlobalPosition>,
    /// Why, for people: at most [`REASON_BYTES_MAX`] are kept.
    pub reason: String,
}

/// An event that a projection could not take, and that was put aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    /// Its position.
    pub position: GlobalPosition,
    /// Why, for people: at most [`REASON_BYTES_MAX`] are kept.
    pub reason: String,
}

/// One transaction of a projection's owner.
#[derive(Debug, Clone, PartialEq)]
pub struct Commit {
    /// What is owned, under which fence.
    pub held: Held,
    /// The generation, active or being built.
    pub generation: Generation,
    /// Where its checkpoint has to be.
    pub expected: GlobalPosition,
    /// Where its checkpoint will be; not before `expected`.
    pub position: GlobalPosition,
    /// What becomes of documents, each key at most once; at most [`COMMIT_WRITES_MAX`].
    pub writes: Vec<Write>,
    /// Events that are put aside.
    pub parked: Vec<Parked>,
    /// A statement of a SQL projection to run in the same transaction.
    pub sql: Option<SqlBatch>,
}

/// What becomes of one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Names it.
    pub key: DocumentKey,
    /// The position of the event that changed it last: after [`Commit::expected`], not after
    /// [`Commit::position`].
    pub position: GlobalPosition,
    /// JSON text of an object, at most [`DOCUMENT_BYTES_MAX`]; none: it is deleted.
    pub data: Option<Bytes>,
    /// Its entries in the projection's indexes before, one for each index in their order; empty
    /// where it was not there.
    pub indexed_before: Vec<SortKey>,
    /// The same afterwards; empty where it is deleted.
    pub indexed_after: Vec<SortKey>,
}

/// A statement to run over some events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlBatch {
    /// The statement; `$1` is the events, `$2` the generation (bigint).
    pub statement: Arc<str>,
    /// JSON text: an array of events as they are on the wire.
    pub events: Bytes,
}

/// A document as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDocument {
    /// Names it.
    pub key: DocumentKey,
    /// The position of the event that changed it last.
    pub position: GlobalPosition,
    /// JSON text of an object.
    pub data: Bytes,
}

/// One page of documents to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRead {
    /// Of which generation.
    pub generation: Generation,
    /// In which order, and which of them.
    pub scan: Scan,
    /// After the document at this place in the order.
    pub after: Option<Place>,
    /// At most this many, 1 to [`PAGE_MAX`]; cut to that range.
    pub limit: usize,
}

/// An order of documents, and which of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scan {
    /// All, by key.
    Keys(OrderDirection),
    /// Those whose entry in an index begins with `prefix` (all of them if it is empty), by their
    /// entries; equal ones by ascending key, whichever way the entries go.
    Index {
        /// The number of the index in the definition, from 0.
        index: u16,
        /// What their entries begin with.
        prefix: SortKey,
        /// Which way the entries go.
        direction: OrderDirection,
    },
}

/// Where a document stands in an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its entry in the index; empty in the order of keys.
    pub entry: SortKey,
    /// Its key.
    pub key: DocumentKey,
}

/// One page of documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentPage {
    /// The generation's checkpoint, read in the same snapshot as the documents or before them.
    pub position: GlobalPosition,
    /// The documents in the order, each with its place.
    pub documents: Vec<(Place, StoredDocument)>,
    /// Whether the page was cut at its limit, or because it grew large.
    pub more: bool,
}

/// Which changes to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangesRead {
    /// Of which generation.
    pub generation: Generation,
    /// Changes after this position.
    pub after: GlobalPosition,
    /// At most about this many, 1 to [`PAGE_MAX`]; cut to that range. All changes of one position
    /// stand in one page.
    pub limit: usize,
}

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangePage {
    /// Everything that changed through here is in this page or was before it: the position of the
    /// last change where there are more, else the checkpoint.
    pub through: GlobalPosition,
    /// The generation's checkpoint.
    pub checkpoint: GlobalPosition,
    /// By position: each document that changed, as it is now; no content: deleted.
    pub changes: Vec<(DocumentKey, GlobalPosition, Option<Bytes>)>,
    /// Whether there are more changes than these: the page was cut at its limit, or because it grew
    /// large.
    pub more: bool,
    /// `false` where documents deleted after [`ChangesRead::after`] may have been swept: the
    /// changes do not tell everything.
    pub complete: bool,
    /// Whether the generation is the active one.
    pub active: bool,
}

/// Why a document store did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The database is away, or too slow. May work later.
    #[error("the database is not available")]
    Unavailable,
    /// Somebody else has claimed the projection since.
    #[error("another node owns the projection now")]
    Fenced,
    /// The checkpoint or the generation is not what was expected.
    #[error("the projection is not where it was expected")]
    Conflict,
    /// There is no such projection or generation.
    #[error("there is no such projection or generation")]
    Unknown,
    /// A node owns the projection.
    #[error("a node owns the projection")]
    Owned,
    /// The store cannot do this: for SQL projections outside PostgreSQL.
    #[error("{reason}")]
    Refused {
        /// Why, for people.
        reason: String,
    },
    /// A statement of a SQL projection failed.
    #[error("the statement failed with {sqlstate}: {message}")]
    Sql {
        /// SQLSTATE.
        sqlstate: String,
        /// What the database says.
        message: String,
    },
    /// What is kept makes no sense.
    #[error("the documents cannot be read: {reason}")]
    Corrupt {
        /// Why, for people.
        reason: String,
    },
}

impl StoreError {
    /// Whether the same may work later.
    pub const fn retryable(&self) -> bool {
        matches!(self, Self::Unavailable)
    }
}
