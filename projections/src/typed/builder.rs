//! [`Builder`]: says what a typed projection is.

use std::marker::PhantomData;

use serde::{Serialize, de::DeserializeOwned};
use tidewire_eventstore::{
    Category, DocumentKey, EventType, NameError, ProjectionName, StreamName, Target,
};
use tidewire_protocol::query::FieldPath;

use super::{Event, FunctionKeys, IntoChange, StreamKey, Typed, event_data};
use crate::{
    definition::{Definition, FIELDS_MAX, INDEX_FIELDS_MAX, INDEXES_MAX, Index},
    projection::Projection,
};

/// Begins a typed projection of this name and version. Raise the version when the same events
/// would give other documents, or when the indexes change.
pub fn projection(name: &str, version: u32) -> Builder {
    Builder {
        name: name.to_owned(),
        version,
        target: Asked::All,
        types: Types::OfEvents,
        fields: Vec::new(),
        indexes: Vec::new(),
    }
}

/// What a typed projection is called, which events it is given, and what its documents can be asked
/// for.
#[derive(Debug, Clone)]
#[must_use = "a projection is made by `by_stream` or `by_keys`"]
pub struct Builder {
    name: String,
    version: u32,
    target: Asked,
    types: Types,
    fields: Vec<String>,
    indexes: Vec<Vec<String>>,
}

#[derive(Debug, Clone)]
enum Asked {
    All,
    Category(String),
    Stream(String),
}

#[derive(Debug, Clone)]
enum Types {
    /// Those that the enum of the events has variants for.
    OfEvents,
    These(Vec<String>),
}

/// Why a projection cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DefinitionError {
    /// A name is none.
    #[error("`{name}` is no name: {error}")]
    Name {
        /// The projection's, a category's, a stream's or an event type's.
        name: String,
        /// Why.
        error: NameError,
    },
    /// A field is none.
    #[error("`{path}` is no path to a field")]
    Field {
        /// The path.
        path: String,
    },
    /// There is too much of something.
    #[error("there are {len} {what}; at most {max} are allowed")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How much there is.
        len: usize,
        /// How much is allowed.
        max: usize,
    },
    /// An index has no fields.
    #[error("index {index} has no fields")]
    EmptyIndex {
        /// Its number, from 0.
        index: usize,
    },
}

impl Builder {
    /// Gives it the events of a category, rather than of the whole log.
    pub fn category(mut self, category: &str) -> Self {
        self.target = Asked::Category(category.to_owned());
        self
    }

    /// Gives it the events of one stream, rather than of the whole log.
    pub fn stream(mut self, stream: &str) -> Self {
        self.target = Asked::Stream(stream.to_owned());
        self
    }

    /// Gives it events of these types only; all of them, if there are none. Without this it is given
    /// the types that the enum of its events has variants for, and all types where that is no enum.
    pub fn types<'a>(mut self, types: impl IntoIterator<Item = &'a str>) -> Self {
        self.types = Types::These(types.into_iter().map(str::to_owned).collect());
        self
    }

    /// Lets conditions name a field of the documents, such as `sender.name`.
    pub fn field(mut self, path: &str) -> Self {
        self.fields.push(path.to_owned());
        self
    }

    /// Lets documents be ordered by these fields, the first being the most significant, and
    /// conditions name them.
    pub fn index<'a>(mut self, fields: impl IntoIterator<Item = &'a str>) -> Self {
        self.indexes.push(fields.into_iter().map(str::to_owned).collect());
        self
    }

    /// A projection with one document for each stream, whose key is the stream's id: what stands
    /// after the first `-` of its name.
    ///
    /// `apply` is given the document, if there is one, and an event of its stream, and says what
    /// becomes of it ([`IntoChange`]).
    ///
    /// # Errors
    ///
    /// [`DefinitionError`] where what was said before makes no sense.
    pub fn by_stream<D, E, C, F>(self, apply: F) -> Result<impl Projection, DefinitionError>
    where
        F: Fn(Option<D>, &Event<'_, E>) -> C + Send + Sync + 'static,
        D: Serialize + DeserializeOwned + 'static,
        E: DeserializeOwned + 'static,
        C: IntoChange<D> + 'static,
    {
        Ok(Typed {
            definition: self.define::<E>()?,
            keys: StreamKey,
            apply: move |_: &DocumentKey, document: Option<D>, event: &Event<'_, E>| {
                apply(document, event)
            },
            types: PhantomData,
        })
    }

    /// A projection whose events concern the documents that `keys` says.
    ///
    /// `apply` is called for each of them: with its key, the document, if there is one, and the
    /// event.
    ///
    /// ```
    /// use serde::{Deserialize, Serialize};
    /// use serde_json::json;
    /// use tidewire_projections::{kit::{Given, event}, typed::{self, Change}};
    ///
    /// #[derive(Default, Serialize, Deserialize)]
    /// struct Account { balance: i64 }
    ///
    /// #[derive(Deserialize)]
    /// enum Booking { Moved { from: String, to: String, cents: i64 } }
    ///
    /// let accounts = typed::projection("accounts", 1)
    ///     .index(["balance"])
    ///     .by_keys(
    ///         |event: &typed::Event<'_, Booking>| {
    ///             let Booking::Moved { from, to, .. } = &event.data;
    ///             [from.clone(), to.clone()]
    ///         },
    ///         |key, account: Option<Account>, event| {
    ///             let Booking::Moved { from, cents, .. } = &event.data;
    ///             let mut account = account.unwrap_or_default();
    ///             account.balance += if key.as_str() == from { -cents } else { *cents };
    ///             Change::Put(account)
    ///         },
    ///     )
    ///     .expect("the definition is right");
    ///
    /// Given::nothing(&accounts)
    ///     .when(event("ledger", "Moved", json!({"from": "a", "to": "b", "cents": 250})))
    ///     .then([("a", json!({"balance": -250})), ("b", json!({"balance": 250}))]);
    /// ```
    ///
    /// # Errors
    ///
    /// [`DefinitionError`] where what was said before makes no sense.
    pub fn by_keys<D, E, C, K, I, F>(
        self,
        keys: K,
        apply: F,
    ) -> Result<impl Projection, DefinitionError>
    where
        K: Fn(&Event<'_, E>) -> I + Send + Sync + 'static,
        I: IntoIterator<Item: AsRef<str>> + 'static,
        F: Fn(&DocumentKey, Option<D>, &Event<'_, E>) -> C + Send + Sync + 'static,
        D: Serialize + DeserializeOwned + 'static,
        E: DeserializeOwned + 'static,
        C: IntoChange<D> + 'static,
    {
        Ok(Typed {
            definition: self.define::<E>()?,
            keys: FunctionKeys(keys),
            apply,
            types: PhantomData,
        })
    }

    fn define<E: DeserializeOwned>(self) -> Result<Definition, DefinitionError> {
        let target = match &self.target {
            Asked::All => Target::All,
            Asked::Category(name) => Target::Category(good(name, Category::new)?),
            Asked::Stream(name) => Target::Stream(good(name, StreamName::new)?),
        };
        let types: Vec<&str> = match &self.types {
            Types::These(types) => types.iter().map(String::as_str).collect(),
            Types::OfEvents => event_data::types::<E>().unwrap_or_default().to_vec(),
        };
        let types: Result<_, _> =
            types.into_iter().map(|name| good(name, EventType::recorded)).collect();
        at_most("fields", self.fields.len(), FIELDS_MAX)?;
        at_most("indexes", self.indexes.len(), INDEXES_MAX)?;
        let mut indexes = Vec::with_capacity(self.indexes.len());
        for (index, fields) in self.indexes.iter().enumerate() {
            if fields.is_empty() {
                return Err(DefinitionError::EmptyIndex { index });
            }
            at_most("fields of an index", fields.len(), INDEX_FIELDS_MAX)?;
            let fields: Result<_, _> = fields.iter().map(|path| field(path)).collect();
            indexes.push(Index { fields: fields? });
        }
        let fields: Result<_, _> = self.fields.iter().map(|path| field(path)).collect();
        Ok(Definition {
            name: good(&self.name, ProjectionName::new)?,
            version: self.version,
            target,
            types: types?,
            fields: fields?,
            indexes,
        })
    }
}

fn good<T>(name: &str, new: impl Fn(&str) -> Result<T, NameError>) -> Result<T, DefinitionError> {
    new(name).map_err(|error| DefinitionError::Name { name: name.to_owned(), error })
}

fn field(path: &str) -> Result<FieldPath, DefinitionError> {
    FieldPath::new(path).ok_or_else(|| DefinitionError::Field { path: path.to_owned() })
}

fn at_most(what: &'static str, len: usize, max: usize) -> Result<(), DefinitionError> {
    if len > max { Err(DefinitionError::TooMany { what, len, max }) } else { Ok(()) }
}
