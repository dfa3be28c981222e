//! [`Change`]: what becomes of a document of a typed projection.

use serde_json::Value;

use crate::projection::ProjectError;

/// What becomes of a document.
#[derive(Debug, Clone, PartialEq)]
pub enum Change<D> {
    /// It stays as it is, or absent.
    Keep,
    /// It is this now.
    Put(D),
    /// This JSON merge patch (RFC 7396) makes it what it is now; where there is none, one is made
    /// of what is not null.
    Patch(Value),
    /// It is not there any more.
    Delete,
}

/// What a typed projection's function may return: the document that there will be, if any; a
/// [`Change`]; or either of them in a `Result`, where an error refuses the event.
pub trait IntoChange<D> {
    /// What becomes of the document.
    ///
    /// # Errors
    ///
    /// [`ProjectError`] where the event is refused.
    fn into_change(self) -> Result<Change<D>, ProjectError>;
}

impl<D> IntoChange<D> for Change<D> {
    fn into_change(self) -> Result<Change<D>, ProjectError> {
        Ok(self)
    }
}

impl<D> IntoChange<D> for Option<D> {
    fn into_change(self) -> Result<Change<D>, ProjectError> {
        Ok(self.map_or(Change::Delete, Change::Put))
    }
}

impl<D, C: IntoChange<D>> IntoChange<D> for Result<C, ProjectError> {
    fn into_change(self) -> Result<Change<D>, ProjectError> {
        self?.into_change()
    }
}
