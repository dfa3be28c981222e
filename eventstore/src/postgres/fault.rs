//! What an error of the driver means for us: told by its kind and SQLSTATE, never by its text.

use sqlx::{
    Error,
    postgres::{PgDatabaseError, PgSeverity},
};

use crate::ReadError;

/// What a failed statement means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The connection is gone: the statement may have been executed all the same.
    Lost(String),
    /// The server ended the session in good order: the statement was not executed.
    Ended(String),
    /// The server took back the statement for a reason that passes.
    Busy(String),
    /// The server refused the statement on its merits.
    Refused(String),
}

impl Fault {
    /// The fault's description, for logs and answers: SQLSTATE and text.
    pub fn reason(self) -> String {
        match self {
            Self::Lost(reason)
            | Self::Ended(reason)
            | Self::Busy(reason)
            | Self::Refused(reason) => reason,
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let reason = reason(&error);
        match &error {
            Error::Database(database) => {
                let postgres = database.downcast_ref::<PgDatabaseError>();
                if matches!(postgres.severity(), PgSeverity::Fatal | PgSeverity::Panic) {
                    if in_good_order(postgres.code()) {
                        Self::Ended(reason)
                    } else {
                        Self::Lost(reason)
                    }
                } else if passes(postgres.code()) {
                    Self::Busy(reason)
                } else {
                    Self::Refused(reason)
                }
            }
            Error::Io(_) | Error::Tls(_) | Error::Protocol(_) | Error::WorkerCrashed => {
                Self::Lost(reason)
            }
            Error::PoolTimedOut | Error::PoolClosed => Self::Busy(reason),
            _ => Self::Refused(reason),
        }
    }
}

impl From<Fault> for ReadError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Lost(_) | Fault::Ended(_) | Fault::Busy(_) => Self::Unavailable,
            Fault::Refused(reason) => Self::Refused { reason },
        }
    }
}

/// Whether a session ended with this SQLSTATE rolled back what it was doing, if anything:
/// administrator's command, idle session, idle transaction. The server acts on these only where it
/// looks for interrupts, which it does not between a commit and its answer (`ProcessInterrupts` in
/// its `tcop/postgres.c`); 57P02, after the crash of another process, strikes anywhere.
fn in_good_order(sqlstate: &str) -> bool {
    matches!(sqlstate, "57P01" | "57P05" | "25P03")
}

/// Whether a statement refused with this SQLSTATE may succeed later, unchanged.
pub fn passes(sqlstate: &str) -> bool {
    let class = sqlstate.get(..2).unwrap_or_default();
    // 08 connection, 40 rolled back (serialisation, deadlock), 53 out of resources, 57 operator
    // intervention, 58 system error; 25006 read-only (a standby, until it is promoted), 25P03
    // idle too long in a transaction, 55P03 lock time-out.
    matches!(class, "08" | "40" | "53" | "57" | "58")
        || matches!(sqlstate, "25006" | "25P03" | "55P03")
}

/// An error in words, with the SQLSTATE where there is one and without the failing row.
pub fn reason(error: &Error) -> String {
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
            ("23514", false),
            ("25001", false),
            ("42501", false),
            ("42P01", false),
            ("", false),
        ] {
            assert_eq!(passes(sqlstate), expected, "{sqlstate}");
        }
    }
}
