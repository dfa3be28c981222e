//! Filters: a tree that a client sends to be spared events it does not want. Not authorisation.
//!
//! Operators are JSON objects with one key: `{"and": […]}`, `{"or": […]}`, `{"not": …}`,
//! `{"eq": [field, value]}`, `{"in": [field, [values]]}`, `{"prefix": [field, text]}`. Fields are
//! `"type"` and `"stream"`. What a newer version may add is refused as `unsupported_filter`,
//! never ignored: a filter that lets through too much is a surprise for whoever reads.

use std::collections::BTreeSet;

use serde_json::Value;
use tidewire_eventstore::{EventType, RecordedEvent};

use crate::codes::{ErrorBody, ErrorCode};

/// The deepest nesting of a filter.
pub const DEPTH_MAX: usize = 8;

/// The most operators and values in one filter.
pub const NODES_MAX: usize = 256;

/// What a filter looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Field {
    /// The event's type.
    Type,
    /// The name of the event's stream.
    Stream,
}

impl Field {
    /// The field as it appears on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Type => "type",
            Self::Stream => "stream",
        }
    }

    fn of(self, event: &RecordedEvent) -> &str {
        match self {
            Self::Type => event.event_type.as_str(),
            Self::Stream => event.stream.as_str(),
        }
    }
}

/// A filter. Filters that are written alike are equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Filter {
    /// Every one of these holds; an empty list always does.
    And(Vec<Filter>),
    /// At least one of these holds; an empty list never does.
    Or(Vec<Filter>),
    /// This does not hold.
    Not(Box<Filter>),
    /// The field is one of these texts. `eq` is this with one text.
    In(Field, BTreeSet<Box<str>>),
    /// The field begins with this text.
    Prefix(Field, Box<str>),
}

impl Filter {
    /// A filter by event type.
    pub fn types<'a>(types: impl IntoIterator<Item = &'a EventType>) -> Self {
        Self::In(Field::Type, types.into_iter().map(|name| name.as_str().into()).collect())
    }

    /// Whether the filter lets `event` through.
    pub fn matches(&self, event: &RecordedEvent) -> bool {
        match self {
            Self::And(all) => all.iter().all(|filter| filter.matches(event)),
            Self::Or(any) => any.iter().any(|filter| filter.matches(event)),
            Self::Not(filter) => !filter.matches(event),
            Self::In(field, texts) => texts.contains(field.of(event)),
            Self::Prefix(field, text) => field.of(event).starts_with(&**text),
        }
    }

    /// The only event types that can pass, where the filter says so: a reader may leave the rest
    /// in the database. Every event it lets through still has to be asked [`Self::matches`].
    pub fn only_types(&self) -> Option<BTreeSet<&str>> {
        match self {
            Self::In(Field::Type, texts) => Some(texts.iter().map(|text| &**text).collect()),
            Self::And(all) => all
                .iter()
                .filter_map(Self::only_types)
                .reduce(|a, b| a.intersection(&b).copied().collect()),
            Self::Or(any) => {
                any.iter().map(Self::only_types).try_fold(BTreeSet::new(), |mut types, only| {
                    types.extend(only?);
                    Some(types)
                })
            }
            Self::Not(_) | Self::In(..) | Self::Prefix(..) => None,
        }
    }

    /// Reads a filter from JSON.
    ///
    /// # Errors
    ///
    /// `invalid_filter` for what is not a filter or is too large, `unsupported_filter` for an
    /// operator or a field that this version does not know.
    pub fn parse(json: &Value) -> Result<Self, ErrorBody> {
        parse(json, 1, &mut 0)
    }

    /// The filter as JSON, such that [`Self::parse`] gives an equal one.
    pub fn to_json(&self) -> Value {
        let list = |filters: &[Self]| filters.iter().map(Self::to_json).collect::<Vec<_>>();
        match self {
            Self::And(all) => serde_json::json!({"and": list(all)}),
            Self::Or(any) => serde_json::json!({"or": list(any)}),
            Self::Not(filter) => serde_json::json!({"not": filter.to_json()}),
            Self::In(field, texts) => serde_json::json!({"in": [field.as_str(), texts]}),
            Self::Prefix(field, text) => serde_json::json!({"prefix": [field.as_str(), text]}),
        }
    }
}

fn invalid(message: &'static str) -> ErrorBody {
    ErrorBody::new(ErrorCode::InvalidFilter, message)
}

fn count(nodes: &mut usize) -> Result<(), ErrorBody> {
    *nodes += 1;
    if *nodes > NODES_MAX { Err(invalid("the filter has too many parts")) } else { Ok(()) }
}

fn parse(json: &Value, depth: usize, nodes: &mut usize) -> Result<Filter, ErrorBody> {
    if depth > DEPTH_MAX {
        return Err(invalid("the filter is nested too deeply"));
    }
    count(nodes)?;
    let object = json.as_object().ok_or(invalid("an operator is an object"))?;
    let mut entries = object.iter();
    let (Some((operator, operand)), None) = (entries.next(), entries.next()) else {
        return Err(invalid("an operator is an object with one key"));
    };
    match operator.as_str() {
        "and" | "or" => {
            let list = operand.as_array().ok_or(invalid("and, or need a list"))?;
            let list =
                list.iter().map(|part| parse(part, depth + 1, nodes)).collect::<Result<_, _>>()?;
            Ok(if operator == "and" { Filter::And(list) } else { Filter::Or(list) })
        }
        "not" => Ok(Filter::Not(Box::new(parse(operand, depth + 1, nodes)?))),
        "eq" => {
            let (field, value) = comparison(operand)?;
            Ok(Filter::In(field, BTreeSet::from([text(value, nodes)?])))
        }
        "in" => {
            let (field, values) = comparison(operand)?;
            let values = values.as_array().ok_or(invalid("in needs a list of values"))?;
            let values = values.iter().map(|value| text(value, nodes)).collect::<Result<_, _>>()?;
            Ok(Filter::In(field, values))
        }
        "prefix" => {
            let (field, value) = comparison(operand)?;
            Ok(Filter::Prefix(field, text(value, nodes)?))
        }
        _ => Err(ErrorBody::new(ErrorCode::UnsupportedFilter, "an operator is not known")
            .with_details(serde_json::json!({"operator": cut(operator)}))),
    }
}

/// `[field, value]`.
fn comparison(operand: &Value) -> Result<(Field, &Value), ErrorBody> {
    let Some([field, value]) = operand.as_array().map(Vec::as_slice) else {
        return Err(invalid("a comparison is a list of a field and a value"));
    };
    match field.as_str().ok_or(invalid("a field is a text"))? {
        "type" => Ok((Field::Type, value)),
        "stream" => Ok((Field::Stream, value)),
        other => Err(ErrorBody::new(ErrorCode::UnsupportedFilter, "a field is not known")
            .with_details(serde_json::json!({"field": cut(other)}))),
    }
}

fn text(value: &Value, nodes: &mut usize) -> Result<Box<str>, ErrorBody> {
    count(nodes)?;
    Ok(value.as_str().ok_or(invalid("the types and streams of events are texts"))?.into())
}

/// What an error repeats of a client's own text.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(64)]
}
