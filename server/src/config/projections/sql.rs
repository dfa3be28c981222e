//! `kind = "sql"`: a projection whose documents are rows of the application's own tables.

use std::{fs, path::Path, sync::Arc};

use serde::Deserialize;
use tidewire_eventstore::{Category, EventType, NameError, ProjectionName, StreamName, Target};
use tidewire_projections::{Definition, Projection, SqlProjection, SqlStatements};

/// What `kind` is of such a projection.
pub(super) const KIND: &str = "sql";

/// A SQL projection as it stands in the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SqlConfig {
    name: String,
    /// [`KIND`]; known already to whoever reads this.
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(default = "first_version")]
    version: u32,
    category: Option<String>,
    stream: Option<String>,
    #[serde(default)]
    all: bool,
    #[serde(default)]
    types: Vec<String>,
    apply: Option<String>,
    apply_file: Option<String>,
    reset: Option<String>,
    reset_file: Option<String>,
}

fn first_version() -> u32 {
    1
}

impl SqlConfig {
    /// Makes the projection; files are relative to `directory`.
    ///
    /// # Errors
    ///
    /// The first key that is wrong, and what is wrong with it.
    pub(super) fn build(&self, directory: &Path) -> Result<Arc<dyn Projection>, String> {
        let target = match (&self.category, &self.stream, self.all) {
            (Some(category), None, false) => {
                Target::Category(named("category", category, Category::new)?)
            }
            (None, Some(stream), false) => {
                Target::Stream(named("stream", stream, StreamName::new)?)
            }
            (None, None, true) => Target::All,
            (None, None, false) => {
                return Err("`category` is needed, or `stream`, or `all = true`".to_owned());
            }
            _ => return Err("`category`, `stream` and `all` exclude each other".to_owned()),
        };
        let types = self.types.iter().map(|name| named("types", name, EventType::recorded));
        let definition = Definition {
            name: named("name", &self.name, ProjectionName::new)?,
            version: self.version,
            target,
            types: types.collect::<Result<_, _>>()?,
            fields: Vec::new(),
            indexes: Vec::new(),
        };
        let apply = statement("apply", &self.apply, &self.apply_file, directory)?;
        let apply = apply.ok_or("`apply` is needed, or `apply_file`")?;
        let reset = statement("reset", &self.reset, &self.reset_file, directory)?;
        let projection = SqlProjection::new(definition, SqlStatements { apply, reset });
        Ok(Arc::new(projection.map_err(|error| format!("`apply` or `reset`: {error}"))?))
    }
}

/// A statement that stands in the settings, or in a file that they name.
fn statement(
    key: &str,
    text: &Option<String>,
    file: &Option<String>,
    directory: &Path,
) -> Result<Option<Arc<str>>, String> {
    match (text, file) {
        (Some(_), Some(_)) => Err(format!("`{key}` and `{key}_file` exclude each other")),
        (Some(text), None) => Ok(Some(text.as_str().into())),
        (None, Some(file)) => {
            let path = directory.join(file);
            let text = fs::read_to_string(&path).map_err(|error| {
                format!("`{key}_file` cannot be read at {}: {error}", path.display())
            })?;
            Ok(Some(text.into()))
        }
        (None, None) => Ok(None),
    }
}

fn named<T>(
    key: &str,
    text: &str,
    new: impl Fn(&str) -> Result<T, NameError>,
) -> Result<T, String> {
    new(text).map_err(|error| format!("`{key}` is {text:?}: {error}"))
}
