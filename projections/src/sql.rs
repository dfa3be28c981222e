//! [`SqlProjection`]: a projection that is a statement over each batch of events, into tables of
//! the application's own, in PostgreSQL.
//!
//! The statement runs in the transaction that moves the checkpoint: what it writes and how far the
//! projection has come are one. It runs with the rights and the `search_path` of the role that the
//! documents are opened with, at READ COMMITTED, for at most 30 s, and waits at most 5 s for a lock.
//! A deferred constraint is checked right after it.
//!
//! `$1` is the batch: a `json` array of events as they are on the wire. `$2` is the generation, a
//! `bigint`. A rebuild runs beside what it will replace, so rows carry the generation that they
//! belong to, and who reads them takes those of the `active` one in `tidewire.projections`.
//!
//! Statements that fail on an event are found with fewer and fewer events, until the one is known
//! that it is about: by policy the projection stops there, or parks it. One that cannot run at all
//! (a syntax error, no such table, no right) stops the projection, whatever the policy.

use tidewire_eventstore::{DocumentKey, RecordedEvent};

use crate::{Definition, Documents, ProjectError, Projection, projection::SqlStatements};

/// What a statement may begin with: what is one statement, has an effect and leaves transaction and
/// session as they were.
const FIRST_WORDS: [&str; 7] = ["insert", "update", "delete", "merge", "with", "select", "call"];

/// A projection made of SQL statements.
///
/// ```
/// use tidewire_eventstore::{Category, ProjectionName, Target};
/// use tidewire_projections::{Definition, SqlProjection, SqlStatements};
///
/// let definition = Definition {
///     name: ProjectionName::new("account-balances")?,
///     version: 1,
///     target: Target::Category(Category::new("account")?),
///     types: vec![],
///     fields: vec![],
///     indexes: vec![],
/// };
/// let balances = SqlProjection::new(definition, SqlStatements {
///     apply: "INSERT INTO account_balances AS b (generation, account, cents)
///             SELECT $2, e.stream, sum((e.data ->> 'cents')::bigint)
///               FROM json_to_recordset($1) AS e (stream text, data json)
///              GROUP BY e.stream
///                 ON CONFLICT (generation, account) DO UPDATE
///                SET cents = b.cents + excluded.cents".into(),
///     reset: None,
/// })?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct SqlProjection {
    definition: Definition,
    statements: SqlStatements,
}

/// Why a text is not a statement of a SQL projection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SqlStatementError {
    /// It begins with a word that no such statement begins with: `COMMIT`, `SET`, `CREATE`, …
    #[error(
        "a statement of a projection begins with INSERT, UPDATE, DELETE, MERGE, WITH, SELECT or \
         CALL, not with {found:?}"
    )]
    Beginning {
        /// What it begins with, in small letters.
        found: String,
    },
    /// It has a NUL, which PostgreSQL cannot take.
    #[error("a statement cannot contain NUL")]
    Nul,
    /// It names documents' fields or indexes, but there are no documents.
    #[error("a SQL projection has no documents, so it has no fields and no indexes")]
    Documents,
}

impl SqlProjection {
    /// Makes a projection of statements. Whether the database can run them shows when it does.
    ///
    /// # Errors
    ///
    /// [`SqlStatementError`] when one of them is no statement for this, or the definition has
    /// fields or indexes.
    pub fn new(
        definition: Definition,
        statements: SqlStatements,
    ) -> Result<Self, SqlStatementError> {
        if !definition.fields.is_empty() || !definition.indexes.is_empty() {
            return Err(SqlStatementError::Documents);
        }
        check(&statements.apply)?;
        statements.reset.as_deref().map_or(Ok(()), check)?;
        Ok(Self { definition, statements })
    }
}

impl Projection for SqlProjection {
    fn definition(&self) -> &Definition {
        &self.definition
    }

    fn keys(&self, _: &RecordedEvent, _: &mut Vec<DocumentKey>) -> Result<(), ProjectError> {
        Ok(())
    }

    fn project(&self, _: &RecordedEvent, _: &mut Documents<'_>) -> Result<(), ProjectError> {
        Ok(())
    }

    fn sql(&self) -> Option<&SqlStatements> {
        Some(&self.statements)
    }
}

fn check(statement: &str) -> Result<(), SqlStatementError> {
    if statement.contains('\0') {
        return Err(SqlStatementError::Nul);
    }
    let code = without_comments(statement);
    let end = code.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(code.len());
    let found = code[..end].to_ascii_lowercase();
    if FIRST_WORDS.contains(&found.as_str()) {
        Ok(())
    } else {
        Err(SqlStatementError::Beginning { found })
    }
}

/// `statement` from its first character that is neither space nor comment.
fn without_comments(statement: &str) -> &str {
    let mut rest = statement.trim_start();
    loop {
        let after = if let Some(comment) = rest.strip_prefix("--") {
            comment.split_once('\n').map_or("", |(_, after)| after)
        } else if rest.starts_with("/*") {
            after_comment(rest)
        } else {
            return rest;
        };
        rest = after.trim_start();
    }
}

/// What follows the comment that `rest` begins with. Comments in SQL stand inside one another.
fn after_comment(rest: &str) -> &str {
    let mut depth = 0_usize;
    let bytes = rest.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match &bytes[at..] {
            [b'/', b'*', ..] => {
                depth += 1;
                at += 2;
            }
            [b'*', b'/', ..] => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return &rest[at..];
                }
            }
            _ => at += 1,
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use tidewire_eventstore::{ProjectionName, Target};
    use tidewire_protocol::query::FieldPath;

    use super::*;

    fn definition() -> Definition {
        Definition {
            name: ProjectionName::new("rows").expect("a good name"),
            version: 1,
            target: Target::All,
            types: vec![],
            fields: vec![],
            indexes: vec![],
        }
    }

    fn made(apply: &str, reset: Option<&str>) -> Result<(), SqlStatementError> {
        let statements = SqlStatements { apply: apply.into(), reset: reset.map(Into::into) };
        SqlProjection::new(definition(), statements).map(drop)
    }

    #[test]
    fn a_statement_is_taken_by_its_first_word() {
        for (statement, found) in [
            ("INSERT INTO t SELECT 1", None),
            ("  with x as (select 1) insert into t select * from x", None),
            ("-- why\n/* what /* and */ how */ Update t SET a = 1", None),
            ("SELECT apply($1, $2)", None),
            ("call apply($1, $2)", None),
            ("COMMIT", Some("commit")),
            ("/* INSERT */ ROLLBACK", Some("rollback")),
            ("-- INSERT", Some("")),
            ("/* INSERT", Some("")),
            ("SET search_path = x", Some("set")),
            ("CREATE TABLE t ()", Some("create")),
            ("COPY t FROM STDIN", Some("copy")),
            ("", Some("")),
            ("INSERTED", Some("inserted")),
            ("/*/ INSERT", Some("")),
        ] {
            let expected = found.map(|found| SqlStatementError::Beginning { found: found.into() });
            assert_eq!(made(statement, None).err(), expected, "{statement:?}");
            assert_eq!(made("SELECT 1", Some(statement)).err(), expected, "{statement:?}");
        }
        assert_eq!(made("SELECT '\0'", None), Err(SqlStatementError::Nul));
    }

    #[test]
    fn there_are_no_documents_to_have_fields() {
        let field = FieldPath::new("a").expect("a good path");
        let definition = Definition { fields: vec![field], ..definition() };
        let statements = SqlStatements { apply: "SELECT 1".into(), reset: None };
        let refused = SqlProjection::new(definition, statements).map(drop);
        assert_eq!(refused, Err(SqlStatementError::Documents));
    }
}
