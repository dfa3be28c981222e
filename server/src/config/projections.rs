//! `[[projections]]` of the settings' file: what is kept beside the log.
//!
//! They stand in the file alone: a projection has too many keys for the environment. What is wrong
//! with one is told with its name and the key.

mod sql;

use std::{fmt, path::PathBuf, sync::Arc};

use anyhow::Result;
use serde::Deserialize;
use tidewire_projections::{OnPoison, Policy, Projection, declared::DeclaredConfig};
use toml::{Table, Value};

use self::sql::SqlConfig;
use crate::exit::{Reason, failure};

/// The tables of the file, as they stand there.
#[derive(Debug, Clone, Default)]
pub(crate) struct ProjectionTables {
    /// `[[projections]]`.
    pub(super) projections: Vec<Table>,
    /// What paths in them are relative to.
    pub(super) directory: PathBuf,
}

/// A projection of the settings, ready to run.
#[derive(Clone)]
pub(crate) struct Configured {
    /// What it does.
    pub(crate) projection: Arc<dyn Projection>,
    /// How it is run.
    pub(crate) policy: Policy,
}

/// What every kind of projection may say beside its own keys.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Run {
    #[serde(default)]
    on_poison: PoisonWord,
    #[serde(default)]
    rebuild_on_new_version: bool,
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PoisonWord {
    #[default]
    Stop,
    Park,
}

impl ProjectionTables {
    /// Makes the projections, in their order.
    ///
    /// # Errors
    ///
    /// The first that makes no sense, by its name and the key.
    pub(crate) fn build(&self) -> Result<Vec<Configured>> {
        let mut all: Vec<Configured> = Vec::with_capacity(self.projections.len());
        for (number, table) in (1..).zip(&self.projections) {
            let at = At { number, name: table.get("name").and_then(Value::as_str) };
            let configured = self.projection(table.clone(), &at)?;
            let name = &configured.projection.definition().name;
            if all.iter().any(|other| other.projection.definition().name == *name) {
                return Err(at.wrong("`name` is another projection's already"));
            }
            all.push(configured);
        }
        Ok(all)
    }

    fn projection(&self, mut table: Table, at: &At<'_>) -> Result<Configured> {
        let run = ["on_poison", "rebuild_on_new_version"];
        let run: Table =
            run.into_iter().filter_map(|key| Some((key.to_owned(), table.remove(key)?))).collect();
        let run: Run = read(run, at)?;
        let projection = if table.get("kind").and_then(Value::as_str) == Some(sql::KIND) {
            let sql: SqlConfig = read(table, at)?;
            sql.build(&self.directory).map_err(|wrong| at.wrong(wrong))?
        } else {
            let declared: DeclaredConfig = read(table, at)?;
            declared
                .build()
                .map_err(|error| at.wrong(format!("`{}` {}", error.key, error.reason)))?
        };
        let on_poison = match run.on_poison {
            PoisonWord::Stop => OnPoison::Stop,
            PoisonWord::Park => OnPoison::Park,
        };
        let policy = Policy { on_poison, rebuild_on_new_version: run.rebuild_on_new_version };
        Ok(Configured { projection, policy })
    }
}

/// Which projection of the file it is.
struct At<'a> {
    number: usize,
    name: Option<&'a str>,
}

impl At<'_> {
    fn wrong(&self, what: impl fmt::Display) -> anyhow::Error {
        failure(Reason::Usage, format!("{self} of the settings: {what}"))
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name {
            Some(name) => write!(f, "projection {name:?}"),
            None => write!(f, "projection number {}", self.number),
        }
    }
}

fn read<T: for<'de> Deserialize<'de>>(table: Table, at: &At<'_>) -> Result<T> {
    // Of several lines, the last says in which key.
    table
        .try_into()
        .map_err(|error: toml::de::Error| at.wrong(error.to_string().trim_end().replace('\n', " ")))
}

impl fmt::Debug for Configured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.projection.definition().name.as_str();
        f.debug_struct("Configured").field("name", &name).finish_non_exhaustive()
    }
}
