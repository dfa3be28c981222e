//! From settings to a projection: what is wrong with them is told by the key that it stands under.

use std::sync::Arc;

use tidewire_eventstore::{Category, EventType, ProjectionName, StreamName, Target};
use tidewire_protocol::query::FieldPath;

use super::{
    Content, DeclareError, Declared, DeclaredConfig, Does, INCLUDE_MAX, Kind, LIST_MAX,
    keys::{Wrong, at_most, event_type, fields, indexes, name, types, wrong},
    path::EventPath,
};
use crate::{definition::Definition, projection::Projection};

/// How long a list is that says nothing.
const LIST_DEFAULT: usize = 10;

impl DeclaredConfig {
    /// Makes the projection.
    ///
    /// # Errors
    ///
    /// [`DeclareError`] names the first key that is wrong.
    pub fn build(self) -> Result<Arc<dyn Projection>, DeclareError> {
        match self.declare() {
            Ok(declared) => Ok(Arc::new(declared)),
            Err(wrong) => Err(wrong.of(self.name)),
        }
    }

    fn declare(&self) -> Result<Declared, Wrong> {
        self.only_its_own_keys()?;
        let delete_on = types("delete_on", &self.delete_on)?;
        let weights = self.weights()?;
        Ok(Declared {
            definition: self.definition(&weights, &delete_on)?,
            key: path("key", &self.key)?,
            missing: self.missing,
            does: self.does(weights)?,
            delete_on,
        })
    }

    /// Refuses keys that mean nothing for this kind.
    fn only_its_own_keys(&self) -> Result<(), Wrong> {
        use Kind::{CountBy, LatestBy, ListBy, SumBy};
        let keys: [(&str, bool, &[Kind]); 5] = [
            ("mode", self.mode.is_some(), &[LatestBy]),
            ("of", self.of.is_some(), &[SumBy]),
            ("add", self.add.is_some(), &[CountBy, SumBy]),
            ("into", self.into.is_some(), &[CountBy, SumBy, ListBy]),
            ("limit", self.limit.is_some(), &[ListBy]),
        ];
        for (key, present, kinds) in keys {
            if present && !kinds.contains(&self.kind) {
                let kinds: Vec<_> = kinds.iter().map(|kind| kind.as_str()).collect();
                let reason = format!(
                    "has no meaning for kind {:?}, only for {}",
                    self.kind.as_str(),
                    kinds.join(", ")
                );
                return Err(wrong(key, reason));
            }
        }
        Ok(())
    }

    fn does(&self, weights: Vec<(EventType, i64)>) -> Result<Does, Wrong> {
        Ok(match self.kind {
            Kind::LatestBy => Does::Latest {
                content: self.content(Content::Data)?,
                mode: self.mode.unwrap_or_default(),
            },
            Kind::CountBy | Kind::SumBy => {
                let (of, into) = if self.kind == Kind::SumBy {
                    let of = self.of.as_deref();
                    let of =
                        of.ok_or_else(|| wrong("of", "is needed: the path to what is summed"))?;
                    (Some(path("of", of)?), "sum")
                } else {
                    (None, "count")
                };
                let into = self.into(into)?;
                if self.include.as_ref().is_some_and(|include| include.contains_key(&*into)) {
                    return Err(wrong(format!("include.{into}"), "is the name of the number"));
                }
                Does::Add { of, weights, into, beside: self.content(Content::Members(Vec::new()))? }
            }
            Kind::ListBy => {
                let limit = self.limit.unwrap_or(LIST_DEFAULT);
                if !(1..=LIST_MAX).contains(&limit) {
                    return Err(wrong(
                        "limit",
                        format_args!("must be 1 to {LIST_MAX}, is {limit}"),
                    ));
                }
                Does::List {
                    content: self.content(Content::Data)?,
                    limit,
                    into: self.into("items")?,
                }
            }
        })
    }

    fn content(&self, default: Content) -> Result<Content, Wrong> {
        let Some(include) = &self.include else { return Ok(default) };
        at_most("include", "members", include.len(), INCLUDE_MAX)?;
        let member = |(name, from): (&String, &String)| {
            let key = format!("include.{name}");
            Ok((member(&key, name)?, path(&key, from)?))
        };
        include.iter().map(member).collect::<Result<_, _>>().map(Content::Members)
    }

    fn into(&self, default: &str) -> Result<Arc<str>, Wrong> {
        member("into", self.into.as_deref().unwrap_or(default))
    }

    fn weights(&self) -> Result<Vec<(EventType, i64)>, Wrong> {
        let Some(add) = &self.add else { return Ok(Vec::new()) };
        if add.is_empty() {
            return Err(wrong("add", "must name at least one type"));
        }
        for name in self.types.iter().filter(|name| !self.delete_on.contains(name)) {
            if !add.contains_key(name) {
                return Err(wrong(
                    "add",
                    format_args!("must name {name:?}, which is one of `types`"),
                ));
            }
        }
        for name in add.keys() {
            if self.delete_on.contains(name) {
                return Err(wrong(format!("add.{name}"), "is one of `delete_on` as well"));
            }
            if !self.types.is_empty() && !self.types.contains(name) {
                return Err(wrong(format!("add.{name}"), "is none of `types`"));
            }
        }
        add.iter()
            .map(|(name, weight)| Ok((event_type(&format!("add.{name}"), name)?, *weight)))
            .collect()
    }

    fn definition(
        &self,
        weights: &[(EventType, i64)],
        delete_on: &[EventType],
    ) -> Result<Definition, Wrong> {
        let projection = name("name", &self.name, ProjectionName::new)?;
        let target = match (&self.category, &self.stream, self.all) {
            (Some(category), None, false) => {
                Target::Category(name("category", category, Category::new)?)
            }
            (None, Some(stream), false) => Target::Stream(name("stream", stream, StreamName::new)?),
            (None, None, true) => Target::All,
            (None, None, false) => {
                return Err(wrong("category", "is needed, or `stream`, or `all = true`"));
            }
            (_, Some(_), _) => return Err(wrong("stream", "stands beside another target")),
            _ => return Err(wrong("all", "stands beside another target")),
        };
        let mut types = types("types", &self.types)?;
        if types.is_empty() {
            types.extend(weights.iter().map(|(name, _)| name.clone()));
        }
        if !types.is_empty() {
            let more: Vec<_> = delete_on.iter().filter(|name| !types.contains(name)).collect();
            let more: Vec<_> = more.into_iter().cloned().collect();
            types.extend(more);
        }
        Ok(Definition {
            name: projection,
            version: self.version,
            target,
            types,
            fields: fields(&self.fields)?,
            indexes: indexes(&self.indexes)?,
        })
    }
}

fn path(key: &str, text: &str) -> Result<EventPath, Wrong> {
    EventPath::new(text)
        .ok_or_else(|| wrong(key, format_args!("is {text:?}: {}", EventPath::EXPECTED)))
}

/// The name of a member of a document: one that a condition can name.
fn member(key: &str, name: &str) -> Result<Arc<str>, Wrong> {
    if FieldPath::new(name).is_none() || name.contains('.') {
        return Err(wrong(key, format_args!("names a member {name:?}, which cannot be")));
    }
    Ok(name.into())
}
