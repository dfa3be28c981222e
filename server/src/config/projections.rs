//! `[[projections]]` and `collections` of the settings' file: what is kept beside the log.
//!
//! They stand in the file alone: a projection has too many keys for the environment. What is wrong
//! with one is told with its name and the key.

mod sql;

use std::{fmt, path::PathBuf, sync::Arc};

use anyhow::Result;
use serde::Deserialize;
use tidewire_eventstore::ProjectionName;
use tidewire_projections::{
    OnPoison, Policy, Projection,
    collection::Collection,
    declared::{DeclareError, DeclaredConfig},
};
use toml::{Table, Value};

use self::sql::SqlConfig;
use crate::exit::{Reason, failure};

/// The tables of the file, as they stand there.
#[derive(Debug, Clone, Default)]
pub(crate) struct ProjectionTables {
    /// `[[projections]]`.
    pub(super) projections: Vec<Table>,
    /// `collections`: names, or tables.
    pub(super) collections: Vec<Value>,
    /// What paths in them are relative to.
    pub(super) directory: PathBuf,
}

/// What the tables come to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kept {
    /// Everything that is kept, that of the collections too.
    pub(crate) projections: Vec<Configured>,
    /// Which of them clients may edit.
    pub(crate) collections: Vec<ProjectionName>,
}

/// A projection of the settings, ready to run.
#[derive(Clone)]
pub(crate) struct Configured {
    /// What it does.
    pub(crate) projection: Arc<dyn Projection>,
    /// How it is run.
    pub(crate) policy: Policy,
}

/// The key that says what becomes of events that cannot be taken.
const ON_POISON: &str = "on_poison";

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
    /// Makes the projections, in their order, those of collections last.
    ///
    /// # Errors
    ///
    /// The first that makes no sense, by its name and the key.
    pub(crate) fn build(&self) -> Result<Kept> {
        let mut kept = Kept::default();
        for (number, table) in (1..).zip(&self.projections) {
            let name = table.get("name").and_then(Value::as_str);
            let at = At { what: "projection", number, name };
            kept.add(self.projection(table.clone(), &at)?, &at)?;
        }
        for (number, value) in (1..).zip(&self.collections) {
            let table = match value {
                Value::Table(table) => table.clone(),
                name => Table::from_iter([("name".to_owned(), name.clone())]),
            };
            let name = table.get("name").and_then(Value::as_str).map(str::to_owned);
            let at = At { what: "collection", number, name: name.as_deref() };
            let configured = collection(table, &at)?;
            kept.collections.push(configured.projection.definition().name.clone());
            kept.add(configured, &at)?;
        }
        Ok(kept)
    }

    fn projection(&self, mut table: Table, at: &At<'_>) -> Result<Configured> {
        let policy = policy(&mut table, at)?;
        let projection = if table.get("kind").and_then(Value::as_str) == Some(sql::KIND) {
            let sql: SqlConfig = read(table, at)?;
            sql.build(&self.directory).map_err(|wrong| at.wrong(wrong))?
        } else {
            let declared: DeclaredConfig = read(table, at)?;
            declared.build().map_err(|error| at.wrong_key(&error))?
        };
        Ok(Configured { projection, policy })
    }
}

impl Kept {
    fn add(&mut self, configured: Configured, at: &At<'_>) -> Result<()> {
        let name = &configured.projection.definition().name;
        if self.projections.iter().any(|other| other.projection.definition().name == *name) {
            return Err(at.wrong("`name` is another one's already"));
        }
        self.projections.push(configured);
        Ok(())
    }
}

fn collection(mut table: Table, at: &At<'_>) -> Result<Configured> {
    // Anybody may append to its streams: what is no edit must not stop those that are.
    table.entry(ON_POISON).or_insert_with(|| "park".into());
    let policy = policy(&mut table, at)?;
    let collection: Collection = read(table, at)?;
    let projection = collection.projection().map_err(|error| at.wrong_key(&error))?;
    Ok(Configured { projection, policy })
}

/// Takes out of a table how what it says is run.
fn policy(table: &mut Table, at: &At<'_>) -> Result<Policy> {
    let run = [ON_POISON, "rebuild_on_new_version"];
    let run = run.into_iter().filter_map(|key| Some((key.to_owned(), table.remove(key)?)));
    let run: Run = read(run.collect(), at)?;
    let on_poison = match run.on_poison {
        PoisonWord::Stop => OnPoison::Stop,
        PoisonWord::Park => OnPoison::Park,
    };
    Ok(Policy { on_poison, rebuild_on_new_version: run.rebuild_on_new_version })
}

/// Which one of the file it is.
struct At<'a> {
    what: &'static str,
    number: usize,
    name: Option<&'a str>,
}

impl At<'_> {
    fn wrong(&self, what: impl fmt::Display) -> anyhow::Error {
        failure(Reason::Usage, format!("{self} of the settings: {what}"))
    }

    fn wrong_key(&self, error: &DeclareError) -> anyhow::Error {
        self.wrong(format!("`{}` {}", error.key, error.reason))
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name {
            Some(name) => write!(f, "{} {name:?}", self.what),
            None => write!(f, "{} number {}", self.what, self.number),
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
