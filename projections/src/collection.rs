//! Collections: documents that clients insert, update and delete.
//!
//! What a client does is an event in the stream `<collection>-<key>`: `Inserted` with `{"document"}`,
//! `Updated` with `{"patch"}` (a JSON merge patch, RFC 7396), `Deleted` with `{}`. A projection of the
//! collection's name keeps the documents; beside its own members each has `$revision`, the revision
//! of the event that changed it last.
//!
//! An edit may say at which revision the document has to be. Whether it is decides the stream alone,
//! when the edit is recorded; so no edit is lost and none is made upon what its author did not see.
//! [`Edit`] and [`CheckedEdit`] are the rules; whoever carries an edit out only reads and appends.

mod edit;
mod projection;

use std::sync::Arc;

use serde::Deserialize;
use tidewire_eventstore::{Category, ProjectionName, Target};

pub use self::edit::{
    Appending, CheckedEdit, Edit, EditError, Edited, Found, LastEdit, Operation, Step,
};
use self::projection::CollectionProjection;
use crate::{
    declared::{
        DeclareError,
        keys::{Wrong, event_type, fields, indexes, name, wrong},
    },
    definition::Definition,
    documents::DOCUMENT_BYTES_MAX,
    projection::Projection,
};

/// The command by which clients edit collections.
pub use tidewire_protocol::COLLECTION_COMMAND as EDIT_COMMAND;

/// The member of a document that says its revision.
pub const REVISION_MEMBER: &str = "$revision";

/// The types of a collection's events.
pub const EVENT_TYPES: [&str; 3] = [INSERTED, UPDATED, DELETED];

/// A document was inserted.
pub const INSERTED: &str = "Inserted";
/// A document was updated.
pub const UPDATED: &str = "Updated";
/// A document was deleted.
pub const DELETED: &str = "Deleted";

/// The longest text of a document's own members, in bytes: what is left beside its revision.
pub const FIELDS_BYTES_MAX: usize = DOCUMENT_BYTES_MAX - 64;

/// How deep objects and arrays may stand inside one another in a document or a patch, so that an
/// event can carry it.
pub const EDIT_DEPTH_MAX: usize = 60;

/// A collection, as it stands in settings too.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Collection {
    /// Its name: that of its events' category and of its projection. Without `-`, which would end
    /// the category's name.
    pub name: String,
    /// Raised when the indexes change.
    #[serde(default = "first_version")]
    pub version: u32,
    /// The fields that conditions may name.
    #[serde(default)]
    pub fields: Vec<String>,
    /// What documents can be ordered by.
    #[serde(default)]
    pub indexes: Vec<Vec<String>>,
}

fn first_version() -> u32 {
    1
}

impl Collection {
    /// A collection whose documents can be found by their keys alone.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), version: 1, fields: Vec::new(), indexes: Vec::new() }
    }

    /// The projection that keeps its documents.
    ///
    /// # Errors
    ///
    /// [`DeclareError`] names what is wrong: `name`, `fields` or `indexes[…]`.
    pub fn projection(&self) -> Result<Arc<dyn Projection>, DeclareError> {
        match self.definition() {
            Ok(definition) => Ok(Arc::new(CollectionProjection::new(definition))),
            Err(wrong) => Err(wrong.of(&*self.name)),
        }
    }

    fn definition(&self) -> Result<Definition, Wrong> {
        let category = name("name", &self.name, Category::new)?;
        if self.name.contains('-') {
            return Err(wrong("name", "must not contain `-`, which ends a category's name"));
        }
        let types = EVENT_TYPES.iter().map(|name| event_type("types", name));
        Ok(Definition {
            name: name("name", &self.name, ProjectionName::new)?,
            version: self.version,
            target: Target::Category(category),
            types: types.collect::<Result<_, _>>()?,
            fields: fields(&self.fields)?,
            indexes: indexes(&self.indexes)?,
        })
    }
}

#[cfg(test)]
mod tests;
