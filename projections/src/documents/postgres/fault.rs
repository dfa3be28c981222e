//! What a fault of the database means for documents.

use sqlx::{
    Error,
    postgres::{PgDatabaseError, PgSeverity},
};
use tidewire_eventstore::postgres::driver::{Fault, passes, reason};

use crate::StoreError;

/// Why something was not done.
#[derive(Debug)]
pub(super) enum Failure {
    /// The database.
    Fault(Fault),
    /// A rule.
    Store(StoreError),
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Fault(error.into())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Store(error) => error,
            Failure::Fault(Fault::Refused(reason)) => Self::Refused { reason },
            Failure::Fault(fault) => {
                tracing::debug!(reason = fault.reason(), "documents are not available");
                Self::Unavailable
            }
        }
    }
}

/// What the failure of a statement that is not ours means. A reason that passes is nobody's fault.
/// One that has nothing to do with the events is refused. All else is an error of the statement on
/// these events; so is that it took too long, because with fewer events it may be fast enough.
pub(super) fn of_statement(error: Error) -> Failure {
    if let Error::Database(database) = &error {
        let postgres = database.downcast_ref::<PgDatabaseError>();
        let code = postgres.code();
        let fatal = matches!(postgres.severity(), PgSeverity::Fatal | PgSeverity::Panic);
        if !fatal && cannot_run(code) {
            return StoreError::Refused { reason: reason(&error) }.into();
        }
        if !fatal && (code == "57014" || !passes(code)) {
            return StoreError::Sql { sqlstate: code.into(), message: postgres.message().into() }
                .into();
        }
    }
    error.into()
}

/// Whether a statement failed with this SQLSTATE for what it is, not for what it was given: 42 syntax,
/// names and rights, 08P01 more parameters than there are.
fn cannot_run(sqlstate: &str) -> bool {
    sqlstate.starts_with("42") || sqlstate == "08P01"
}
