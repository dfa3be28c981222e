//! What a live query has told its client: documents through a position, and what is being told
//! beside them. Holds the server to the protocol while it takes its messages.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// Documents as they were told.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Picture {
    pub(super) generation: u64,
    /// Everything through here is in the documents.
    pub(super) position: u64,
    pub(super) documents: BTreeMap<String, Value>,
}

/// A message about documents: the fields that any of them has.
#[derive(Debug, Deserialize)]
pub(super) struct Told {
    #[serde(default)]
    pub(super) generation: u64,
    pub(super) position: u64,
    #[serde(default)]
    pub(super) more: bool,
    #[serde(default)]
    documents: Vec<Document>,
    #[serde(default)]
    changes: Vec<Change>,
}

#[derive(Debug, Deserialize)]
struct Document {
    key: String,
    document: Value,
}

#[derive(Debug, Deserialize)]
struct Change {
    op: String,
    key: String,
    document: Option<Value>,
    patch: Option<Value>,
}

/// A picture, and the next one while its pages come.
#[derive(Debug, Default)]
pub(super) struct Pictures {
    pub(super) shown: Option<Picture>,
    aside: Option<Picture>,
}

impl Pictures {
    /// Forgets a state of which not all pages have come: another session begins.
    pub(super) fn begin(&mut self) {
        self.aside = None;
    }

    /// Takes a page of a state. The last one makes it the picture that is shown.
    ///
    /// # Errors
    ///
    /// It is no page of the state that has begun.
    pub(super) fn state(&mut self, told: Told) -> Result<(), String> {
        let Told { generation, position, more, documents, .. } = told;
        let aside = self.aside.get_or_insert_with(|| Picture {
            generation,
            position,
            documents: BTreeMap::new(),
        });
        if (aside.generation, aside.position) != (generation, position) {
            return Err(format!(
                "was told a page of generation {generation} at {position} in a state of {} at {}",
                aside.generation, aside.position
            ));
        }
        for Document { key, document } in documents {
            if aside.documents.insert(key.clone(), document).is_some() {
                return Err(format!("was told {key} twice in one state"));
            }
        }
        if !more {
            self.shown = self.aside.take();
        }
        Ok(())
    }

    /// Takes changes.
    ///
    /// # Errors
    ///
    /// They go back, or change what is not there.
    pub(super) fn changes(&mut self, told: Told) -> Result<(), String> {
        if self.aside.is_some() {
            return Err("was told changes in the midst of a state".to_owned());
        }
        let Some(picture) = &mut self.shown else {
            return Err("was told changes before any state".to_owned());
        };
        if told.position < picture.position {
            return Err(format!(
                "has {} and was told changes to {}",
                picture.position, told.position
            ));
        }
        for Change { op, key, document, patch } in told.changes {
            match (op.as_str(), document, patch) {
                ("put", Some(document), None) => {
                    picture.documents.insert(key, document);
                }
                ("delete", None, None) => {
                    picture.documents.remove(&key);
                }
                ("patch", None, Some(patch)) => match picture.documents.get_mut(&key) {
                    Some(document) => merge(document, patch),
                    None => return Err(format!("was told a patch of {key}, which it has not")),
                },
                (op, ..) => return Err(format!("was told {op:?} of {key}")),
            }
        }
        if !told.more {
            picture.position = told.position;
        }
        Ok(())
    }

    /// Takes a position through which nothing else has changed.
    ///
    /// # Errors
    ///
    /// It goes back.
    pub(super) fn advance(&mut self, position: u64) -> Result<(), String> {
        match &mut self.shown {
            Some(picture) if position < picture.position => {
                Err(format!("has {} and was told of {position}", picture.position))
            }
            Some(picture) => {
                picture.position = position;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// RFC 7396.
fn merge(document: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *document = patch;
        return;
    };
    if !document.is_object() {
        *document = Value::Object(serde_json::Map::new());
    }
    let Value::Object(members) = document else { return };
    for (name, value) in patch {
        if value.is_null() {
            members.remove(&name);
        } else {
            merge(members.entry(name).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(message: Value) -> Told {
        serde_json::from_value(message).unwrap()
    }

    #[test]
    fn a_picture_follows_what_is_told_and_what_cannot_be_is_noticed() {
        let mut pictures = Pictures::default();
        let page = |key: &str, more: bool| {
            told(json!({"generation": 1, "position": 5, "more": more,
                        "documents": [{"key": key, "document": {"a": 1, "b": {"c": 2}}}]}))
        };
        let put = json!({"position": 9, "changes": [{"op": "put", "key": "z", "document": {}}]});
        assert!(pictures.changes(told(put.clone())).is_err(), "no state yet");
        pictures.state(page("x", true)).unwrap();
        assert!(pictures.changes(told(put)).is_err(), "the state is not whole");
        assert!(pictures.state(page("x", true)).is_err(), "the same document again");
        pictures.state(page("y", false)).unwrap();
        pictures
            .changes(told(json!({"position": 7, "changes": [
                {"op": "patch", "key": "x", "patch": {"a": null, "b": {"d": 3}}},
                {"op": "delete", "key": "y"},
                {"op": "put", "key": "z", "document": {"e": 4}},
            ]})))
            .unwrap();
        let shown = pictures.shown.clone().unwrap();
        assert_eq!(shown.documents["x"], json!({"b": {"c": 2, "d": 3}}));
        assert_eq!(shown.documents.keys().collect::<Vec<_>>(), ["x", "z"]);
        assert_eq!((shown.generation, shown.position), (1, 7));
        let patch = json!({"position": 8, "changes": [{"op": "patch", "key": "y", "patch": {}}]});
        assert!(pictures.changes(told(patch)).is_err());
        assert!(pictures.advance(6).is_err());
        assert!(pictures.changes(told(json!({"position": 6, "changes": []}))).is_err());
        pictures.advance(20).unwrap();
        assert_eq!(pictures.shown.unwrap().position, 20);
    }
}
