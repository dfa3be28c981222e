//! [`EventPath`]: where in an event something is.

use std::fmt;

use serde_json::Value;
use tidewire_protocol::query::FieldPath;

use super::view::EventView;
use crate::{projection::ProjectError, typed::stream_id};

/// A path into an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum EventPath {
    /// The data, or a member of it.
    Data(Option<FieldPath>),
    /// The metadata, or a member of it.
    Meta(Option<FieldPath>),
    /// The event's own.
    Own(Own),
}

/// What an event has besides data and metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Own {
    Stream,
    StreamId,
    Category,
    Type,
    Id,
    At,
    Position,
    Revision,
}

impl Own {
    const ALL: [(Self, &'static str); 8] = [
        (Self::Stream, "stream"),
        (Self::StreamId, "stream_id"),
        (Self::Category, "category"),
        (Self::Type, "type"),
        (Self::Id, "id"),
        (Self::At, "at"),
        (Self::Position, "position"),
        (Self::Revision, "revision"),
    ];
}

impl EventPath {
    /// What a path may be, for people.
    pub(super) const EXPECTED: &str = "must be `data`, `data.…`, `meta`, `meta.…`, `stream`, \
        `stream_id`, `category`, `type`, `id`, `at`, `position` or `revision`";

    /// A path, if `path` is one.
    pub(super) fn new(path: &str) -> Option<Self> {
        match path.split_once('.') {
            Some(("data", member)) => FieldPath::new(member).map(|path| Self::Data(Some(path))),
            Some(("meta", member)) => FieldPath::new(member).map(|path| Self::Meta(Some(path))),
            Some(_) => None,
            None if path == "data" => Some(Self::Data(None)),
            None if path == "meta" => Some(Self::Meta(None)),
            None => Own::ALL.iter().find(|(_, name)| *name == path).map(|(own, _)| Self::Own(*own)),
        }
    }

    /// What stands there; none where it is missing.
    pub(super) fn of(&self, view: &EventView<'_>) -> Result<Option<Value>, ProjectError> {
        let (value, path) = match self {
            Self::Data(path) => (view.data()?, path),
            Self::Meta(path) => (view.meta()?, path),
            Self::Own(own) => return Ok(Some(own.of(view))),
        };
        let value = value.and_then(|value| match path {
            None => Some(value),
            Some(path) => path.of(value),
        });
        Ok(value.filter(|value| !value.is_null()).cloned())
    }
}

impl Own {
    fn of(self, view: &EventView<'_>) -> Value {
        let event = view.event();
        match self {
            Self::Stream => event.stream.as_str().into(),
            Self::StreamId => stream_id(event).into(),
            Self::Category => event.stream.category_str().into(),
            Self::Type => event.event_type.as_str().into(),
            Self::Id => event.id.to_string().into(),
            Self::At => view.at().into(),
            Self::Position => event.position.get().into(),
            Self::Revision => event.revision.get().into(),
        }
    }
}

impl fmt::Display for EventPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data(None) => f.write_str("data"),
            Self::Data(Some(path)) => write!(f, "data.{path}"),
            Self::Meta(None) => f.write_str("meta"),
            Self::Meta(Some(path)) => write!(f, "meta.{path}"),
            Self::Own(own) => {
                let name = Own::ALL.iter().find(|(one, _)| one == own);
                f.write_str(name.map_or("", |(_, name)| name))
            }
        }
    }
}
