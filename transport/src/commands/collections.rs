//! Carries out the edits of collections: the handler of the command `$collection`.
//!
//! The rules are [`tidewire_projections::collection`]'s. This looks at the end of the document's
//! stream and, where the rules ask for it, at the document, once the projection has come to the
//! document's last edit; that takes as long as the projection lags, and [`WAIT_MAX`] at most.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use serde_json::json;
use tidewire_eventstore::{Direction, GlobalPosition, Read, ReadStart, StreamName, Target};
use tidewire_projections::{
    Projections, StoreError, Watched,
    collection::{CheckedEdit, Edit, EditError, Edited, Found, Step},
    query::{QueryError, page},
};
use tidewire_protocol::{ErrorBody, ErrorCode, query::Query};

use super::{CommandError, CommandHandler, Context, Decision};
use crate::answers::RETRY_AFTER;

/// How long an edit waits for the projection of its collection.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// How many events of a stream are looked at together, for the last one that is the collection's.
const PAGE_EVENTS: usize = 10;

/// How many are looked at altogether.
const FOREIGN_EVENTS_MAX: usize = 1000;

/// How often the document is looked for in a generation that is gone by then.
const LOOKS_MAX: u32 = 3;

/// The collections of a node.
pub(crate) struct Collections {
    names: BTreeSet<Box<str>>,
    projections: Arc<Projections>,
}

impl Collections {
    /// The collections of these names.
    ///
    /// # Errors
    ///
    /// The first name that is not that of a projection.
    pub(crate) fn new(
        names: BTreeSet<Box<str>>,
        projections: Option<Arc<Projections>>,
    ) -> Result<Self, Box<str>> {
        let known = |name: &str| projections.as_ref().is_some_and(|all| all.get(name).is_some());
        let absent = names.iter().find(|name| !known(name)).cloned();
        match (absent, projections) {
            (None, Some(projections)) => Ok(Self { names, projections }),
            (absent, _) => Err(absent.unwrap_or_default()),
        }
    }

    fn find(&self, name: &str) -> Option<Watched> {
        self.names.contains(name).then(|| self.projections.get(name)).flatten()
    }
}

impl CommandHandler<Edit, Edited> for Collections {
    async fn handle(&self, context: Context, edit: Edit) -> Result<Decision<Edited>, CommandError> {
        let collection = self.find(&edit.collection).ok_or_else(|| {
            let error = ErrorBody::from(ErrorCode::UnknownCollection);
            refused(error.with_details(json!({ "collection": edit.collection })))
        })?;
        let edit = edit.check().map_err(why)?;
        let found = end_of(&context, edit.stream()).await?;
        let appending = match edit.after(found).map_err(why)? {
            Step::Append(appending) => appending,
            Step::Look(position) => {
                let document = look(&context, collection, &edit, position).await?;
                edit.upon(found, document.as_ref()).map_err(why)?
            }
        };
        let decision = Decision::answer(appending.edited);
        Ok(decision.append(appending.stream, appending.expected, [appending.event]))
    }
}

/// What stands at the end of a document's stream.
async fn end_of(context: &Context, stream: &StreamName) -> Result<Found, CommandError> {
    let mut events = Vec::new();
    let mut from = ReadStart::End;
    loop {
        let target = Target::Stream(stream.clone());
        let read = Read::after(target, GlobalPosition::START, PAGE_EVENTS);
        let read = Read { direction: Direction::Backwards, from, ..read };
        let page = context.read(read).await?;
        events.extend(page.events);
        if let Some(found) = Found::from_newest(&events) {
            return Ok(found);
        }
        match events.last() {
            Some(oldest) if page.more && events.len() < FOREIGN_EVENTS_MAX => {
                from = ReadStart::Revision(oldest.revision);
            }
            // Nothing of the collection's stands there.
            _ => {
                return Ok(Found {
                    stream: events.first().map(|event| event.revision),
                    edit: None,
                });
            }
        }
    }
}

/// The document as it was at `position` or later.
async fn look(
    context: &Context,
    collection: Watched,
    edit: &CheckedEdit,
    position: GlobalPosition,
) -> Result<Option<Bytes>, CommandError> {
    let name = collection.definition().name.clone();
    let query = Query { key: Some(edit.key().clone()), ..Query::all(name) };
    let look = async move {
        let mut looks = 0;
        loop {
            let reached = collection.wait(position, WAIT_MAX).await.map_err(|error| ErrorBody {
                message: error.to_string().into(),
                ..unavailable()
            })?;
            let (store, definition) = (collection.documents(), collection.definition());
            let found = page(&**store, definition, reached.generation, &query, None, 1).await;
            looks += 1;
            match found {
                Ok(mut page) => return Ok(page.documents.pop().map(|document| document.data)),
                // Another generation has taken its place.
                Err(QueryError::Store(StoreError::Unknown)) if looks < LOOKS_MAX => {}
                Err(error) => {
                    return Err(ErrorBody { message: error.to_string().into(), ..unavailable() });
                }
            }
        }
    };
    context
        .reads
        .beside(look)
        .await
        .unwrap_or_else(|| Err(ErrorCode::Closing.into()))
        .map_err(refused)
}

/// The projection does not tell what the document is.
fn unavailable() -> ErrorBody {
    ErrorBody {
        retry_after_ms: Some(RETRY_AFTER.as_millis() as u64),
        ..ErrorCode::ProjectionUnavailable.into()
    }
}

fn why(error: EditError) -> CommandError {
    let message = error.to_string();
    refused(match error {
        EditError::Field { field, .. } => {
            ErrorBody::new(ErrorCode::InvalidField, message).with_details(json!({ "field": field }))
        }
        EditError::TooLarge { .. } => ErrorBody::new(ErrorCode::TooLarge, message),
        EditError::Conflict { document, revision } => ErrorBody::new(ErrorCode::Conflict, message)
            .with_details(json!({ "document": document, "revision": revision })),
        EditError::NoSuchDocument => ErrorCode::NoSuchDocument.into(),
        _ => ErrorBody::new(ErrorCode::CommandFailed, message),
    })
}

fn refused(error: ErrorBody) -> CommandError {
    CommandError::protocol(error)
}
