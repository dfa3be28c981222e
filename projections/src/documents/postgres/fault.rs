//! What an error of the driver means for documents: told by its kind and SQLSTATE, never by its
//! text.

use sqlx::{
    Error,
    postgres::{PgDatabaseError, PgSeverity},
};

use crate::StoreError;

/// What a failed statement means.
#[derive(Debug)]
pub(super) enum Fault {
    /// The connection is gone: the statement may have been executed all the same.
    Lost(String),
    /// The server took back the statement for a reason that passes, or ended the session in good
    /// order before it.
    Passing(String),
    /// The server refused the statement on its merits.
    Refused(String),
}

/// Why something was not done.
#[derive(Debug)]
pub(super) enum Failure {
    /// The database.
    Fault(Fault),
    /// A rule.
    Store(StoreError),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let reason = reason(&error);
        match &error {
            Error::Database(database) => {
                let postgres = database.downcast_ref::<PgDatabaseError>();
                let fatal = matches!(postgres.severity(), PgSeverity::Fatal | PgSeverity::Panic);
                if fatal && !in_good_order(postgres.code()) {
                    Self::Lost(reason)
                } else if fatal || passes(postgres.code()) {
                    Self::Passing(reason)
                } else {
                    Self::Refused(reason)
                }
            }
            Error::Io(_) | Error::Tls(_) | Error::Protocol(_) | Error::WorkerCrashed => {
                Self::Lost(reason)
            }
            Error::PoolTimedOut | Error::PoolClosed => Self::Passing(reason),
            _ => Self::Refused(reason),
        }
    }
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
            Failure::Fault(Fault::Lost(reason) | Fault::Passing(reason)) => {
                tracing::debug!(reason, "documents are not available");
                Self::Unavailable
            }
        }
    }
}

/// What the failure of a statement that is not ours means. A reason that passes is nobody's fault.
/// One that has nothing to do with the events is refused. All else is an error of the statement on these events; so is that it took too long,
/// because with fewer events it may be fast enough.
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

/// Whether a session that ended with this SQLSTATE rolled back what it was doing, if anything: by
/// an administrator's command, or because it was idle. The server acts on these only where it looks
/// for interrupts, which it does not between a commit and its answer.
fn in_good_order(sqlstate: &str) -> bool {
    matches!(sqlstate, "57P01" | "57P05" | "25P03")
}

/// Whether a statement refused with this SQLSTATE may succeed later, unchanged.
fn passes(sqlstate: &str) -> bool {
    let class = sqlstate.get(..2).unwrap_or_default();
    // 08 connection, 40 rolled back (serialisation, deadlock), 53 out of resources, 57 operator
    // intervention, 58 system error; 25006 read-only (a standby, until it is promoted), 25P03
    // idle too long in a transaction, 55P03 lock time-out.
    matches!(class, "08" | "40" | "53" | "57" | "58")
        || matches!(sqlstate, "25006" | "25P03" | "55P03")
}

/// An error in words, with the SQLSTATE where there is one and without the failing row.
pub(super) fn reason(error: &Error) -> String {
    match error {
        Error::Database(database) => {
            let code = database.code().unwrap_or_default();
            format!("{code} {}", database.message())
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::passes;

    #[test]
    fn what_passes_is_told_from_what_stays() {
        for (sqlstate, expected) in [
            ("08006", true),
            ("40001", true),
            ("40P01", true),
            ("53100", true),
            ("57014", true),
            ("57P03", true),
            ("25006", true),
            ("55P03", true),
            ("22P02", false),
            ("23505", false),
            ("42501", false),
            ("42P01", false),
            ("", false),
        ] {
            assert_eq!(passes(sqlstate), expected, "{sqlstate}");
        }
    }
}
