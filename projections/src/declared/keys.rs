//! The keys of settings that every projection has, and what is wrong with one.

use std::fmt;

use tidewire_eventstore::{EventType, NameError};
use tidewire_protocol::query::FieldPath;

use crate::definition::{FIELDS_MAX, INDEX_FIELDS_MAX, INDEXES_MAX, Index};

/// What is wrong with the settings of a projection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("projection {projection:?}: `{key}` {reason}")]
pub struct DeclareError {
    /// The name that stands in the settings.
    pub projection: String,
    /// The key that is wrong, such as `limit` or `indexes[0]`.
    pub key: String,
    /// What is wrong with it, for people: "must be 1 to 1000".
    pub reason: String,
}

/// A key, and what is wrong with it.
pub(crate) struct Wrong {
    key: String,
    reason: String,
}

impl Wrong {
    /// The same, said of a projection.
    pub(crate) fn of(self, projection: impl Into<String>) -> DeclareError {
        DeclareError { projection: projection.into(), key: self.key, reason: self.reason }
    }
}

pub(crate) fn wrong(key: impl Into<String>, reason: impl fmt::Display) -> Wrong {
    Wrong { key: key.into(), reason: reason.to_string() }
}

pub(crate) fn name<T>(
    key: &str,
    text: &str,
    new: impl Fn(&str) -> Result<T, NameError>,
) -> Result<T, Wrong> {
    new(text).map_err(|error| wrong(key, format_args!("is {text:?}: {error}")))
}

pub(crate) fn event_type(key: &str, text: &str) -> Result<EventType, Wrong> {
    name(key, text, EventType::recorded)
}

pub(crate) fn types(key: &str, names: &[String]) -> Result<Vec<EventType>, Wrong> {
    names.iter().map(|name| event_type(key, name)).collect()
}

fn paths(key: &str, paths: &[String]) -> Result<Vec<FieldPath>, Wrong> {
    let field = |path: &String| {
        FieldPath::new(path)
            .ok_or_else(|| wrong(key, format_args!("has {path:?}, which is no path to a field")))
    };
    paths.iter().map(field).collect()
}

pub(crate) fn at_most(key: &str, what: &str, len: usize, max: usize) -> Result<(), Wrong> {
    if len > max {
        return Err(wrong(key, format_args!("has {len} {what}; at most {max} are allowed")));
    }
    Ok(())
}

pub(crate) fn fields(fields: &[String]) -> Result<Vec<FieldPath>, Wrong> {
    at_most("fields", "fields", fields.len(), FIELDS_MAX)?;
    paths("fields", fields)
}

pub(crate) fn indexes(indexes: &[Vec<String>]) -> Result<Vec<Index>, Wrong> {
    at_most("indexes", "indexes", indexes.len(), INDEXES_MAX)?;
    let index = |(number, fields): (usize, &Vec<String>)| {
        let key = format!("indexes[{number}]");
        if fields.is_empty() {
            return Err(wrong(key, "must have at least one field"));
        }
        at_most(&key, "fields", fields.len(), INDEX_FIELDS_MAX)?;
        Ok(Index { fields: paths(&key, fields)? })
    };
    indexes.iter().enumerate().map(index).collect()
}
