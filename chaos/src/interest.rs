//! What a reader reads: told to the server in one way, and judged here in another.

use serde_json::{Value, json};
use tidewire_client::{Field, Filter, Target};
use tidewire_eventstore::{Category, StreamName};

use crate::content::{CATEGORY, PROBED_STREAM, PROBED_TYPE, Seen};

/// Which events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interest {
    /// One stream.
    Stream,
    /// One category.
    Category,
    /// Every event.
    All,
    /// Every event of one type whose stream's name begins in one way.
    Filtered,
}

impl Interest {
    /// Each.
    pub(crate) const EACH: [Self; 4] = [Self::Stream, Self::Category, Self::All, Self::Filtered];

    /// What stands in a reader's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Category => "category",
            Self::All => "all",
            Self::Filtered => "filtered",
        }
    }

    /// Whether an event is one of these.
    pub(crate) fn includes(self, event: &Seen) -> bool {
        match self {
            Self::Stream => event.stream == PROBED_STREAM,
            Self::Category => event.stream.split('-').next() == Some(CATEGORY),
            Self::All => true,
            Self::Filtered => {
                event.event_type == PROBED_TYPE && event.stream.starts_with(PROBED_STREAM)
            }
        }
    }

    /// The fields of `subscribe`.
    pub(crate) fn fields(self) -> Value {
        match self {
            Self::Stream => json!({"to": {"stream": PROBED_STREAM}}),
            Self::Category => json!({"to": {"category": CATEGORY}}),
            Self::All => json!({"to": {"all": true}}),
            Self::Filtered => json!({"to": {"all": true}, "filter": {"and": [
                {"eq": ["type", PROBED_TYPE]}, {"prefix": ["stream", PROBED_STREAM]},
            ]}}),
        }
    }

    /// The same for our client.
    pub(crate) fn target(self) -> (Target, Option<Filter>) {
        match self {
            Self::Stream => {
                (Target::Stream(StreamName::new(PROBED_STREAM).expect("it is a name")), None)
            }
            Self::Category => {
                (Target::Category(Category::new(CATEGORY).expect("it is a name")), None)
            }
            Self::All => (Target::All, None),
            Self::Filtered => {
                let filter = Filter::And(vec![
                    Filter::In(Field::Type, [PROBED_TYPE.into()].into()),
                    Filter::Prefix(Field::Stream, PROBED_STREAM.into()),
                ]);
                (Target::All, Some(filter))
            }
        }
    }
}
