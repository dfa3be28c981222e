//! [`DeclaredConfig`]: a declared projection as it stands in a file of settings.

use std::collections::BTreeMap;

use serde::Deserialize;

/// A declared projection as it stands in a file of settings. Which keys mean what, and for which
/// kinds, is told by the [module](super); [`Self::build`] checks them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeclaredConfig {
    /// The projection's name.
    pub name: String,
    /// Raised when the same events are to give other documents.
    #[serde(default = "first_version")]
    pub version: u32,
    /// What it does.
    pub kind: Kind,
    /// It is given the events of this category,
    pub category: Option<String>,
    /// or of this stream,
    pub stream: Option<String>,
    /// or of the whole log.
    #[serde(default)]
    pub all: bool,
    /// Only events of these types.
    #[serde(default)]
    pub types: Vec<String>,
    /// The path to what names the document.
    pub key: String,
    /// What becomes of an event in which `key`, or what is summed, is missing.
    #[serde(default)]
    pub missing: Missing,
    /// Events of these types delete the document.
    #[serde(default)]
    pub delete_on: Vec<String>,
    /// Which members are taken from an event, by name, and from where.
    pub include: Option<BTreeMap<String, String>>,
    /// For `latest_by`: whether an event is merged into the document or takes its place.
    pub mode: Option<Mode>,
    /// For `sum_by`: the path to what is summed.
    pub of: Option<String>,
    /// For `count_by` and `sum_by`: what events of a type count for.
    pub add: Option<BTreeMap<String, i64>>,
    /// For `count_by`, `sum_by` and `list_by`: the name of the number or the list.
    pub into: Option<String>,
    /// For `list_by`: how long the list is at most.
    pub limit: Option<usize>,
    /// The fields that conditions may name.
    #[serde(default)]
    pub fields: Vec<String>,
    /// What documents can be ordered by.
    #[serde(default)]
    pub indexes: Vec<Vec<String>>,
}

fn first_version() -> u32 {
    1
}

/// What a declared projection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// Keeps what the last events say.
    LatestBy,
    /// Counts events.
    CountBy,
    /// Sums a number of events.
    SumBy,
    /// Lists the last events.
    ListBy,
}

impl Kind {
    /// Its name in settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LatestBy => "latest_by",
            Self::CountBy => "count_by",
            Self::SumBy => "sum_by",
            Self::ListBy => "list_by",
        }
    }
}

/// What becomes of an event in which something is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// Nothing: it changes no document.
    #[default]
    Skip,
    /// It is a poison event.
    Refuse,
}

/// How an event becomes a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// It is merged into the document, as RFC 7396 says.
    #[default]
    Merge,
    /// It takes the document's place.
    Replace,
}
