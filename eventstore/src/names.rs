//! Names of streams, categories, event types, consumers, commands and projections: validated once, cheap to
//! clone ever after.
//!
//! A name is 1–200 bytes of UTF-8 without control characters. A leading `$` is reserved for
//! Tidewire's own streams and events. A stream is named `category-id`: its category is the text
//! before the first `-`, or the whole name where there is none.

use std::{borrow::Borrow, fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The longest name of a stream, a category or an event type, in bytes of UTF-8.
pub const NAME_BYTES_MAX: usize = 200;

/// Why a text is not a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameError {
    /// The name has no bytes, or a stream's category (the text before the first `-`) has none.
    Empty,
    /// The name is longer than [`NAME_BYTES_MAX`] bytes.
    TooLong {
        /// The length that was offered, in bytes.
        bytes: usize,
    },
    /// The name has a control character (Unicode category Cc).
    ControlCharacter,
    /// The name begins with `$`, which is kept for Tidewire itself.
    Reserved,
}

impl NameError {
    /// The stable code of this error, as it appears on the wire.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Empty => "name_empty",
            Self::TooLong { .. } => "name_too_long",
            Self::ControlCharacter => "name_control_character",
            Self::Reserved => "name_reserved",
        }
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the name, or the category before its first `-`, is empty"),
            Self::TooLong { bytes } => {
                write!(f, "the name has {bytes} bytes; at most {NAME_BYTES_MAX} are allowed")
            }
            Self::ControlCharacter => f.write_str("the name contains a control character"),
            Self::Reserved => f.write_str("names that begin with `$` are reserved"),
        }
    }
}

impl std::error::Error for NameError {}

fn check(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        Err(NameError::Empty)
    } else if name.len() > NAME_BYTES_MAX {
        Err(NameError::TooLong { bytes: name.len() })
    } else if name.chars().any(char::is_control) {
        Err(NameError::ControlCharacter)
    } else {
        Ok(())
    }
}

fn check_public(name: &str) -> Result<(), NameError> {
    check(name)?;
    if name.starts_with('$') { Err(NameError::Reserved) } else { Ok(()) }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $extra:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `name` and keeps it.
            ///
            /// # Errors
            ///
            /// [`NameError`] when the name is empty, longer than [`NAME_BYTES_MAX`], contains a
            /// control character or begins with `$`.
            pub fn new(name: &str) -> Result<Self, NameError> {
                check_public(name)?;
                $extra(name)?;
                Ok(Self(name.into()))
            }

            /// Takes a name that a store recorded, or one of Tidewire's own, which begin with `$`.
            ///
            /// # Errors
            ///
            /// [`NameError`] as for [`Self::new`], except that a leading `$` is allowed.
            pub fn recorded(name: &str) -> Result<Self, NameError> {
                check(name)?;
                $extra(name)?;
                Ok(Self(name.into()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;

            fn from_str(name: &str) -> Result<Self, NameError> {
                Self::new(name)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let name = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Self::recorded(&name).map_err(de::Error::custom)
            }
        }
    };
}

fn has_category(name: &str) -> Result<(), NameError> {
    if name.starts_with('-') { Err(NameError::Empty) } else { Ok(()) }
}

fn any(_: &str) -> Result<(), NameError> {
    Ok(())
}

name! {
    /// The name of one stream, `category-id`.
    StreamName, has_category
}
name! {
    /// The name of a category: what the streams of one kind have before their first `-`.
    Category, any
}
name! {
    /// The type of an event, such as `FlightDeparted`.
    EventType, any
}
name! {
    /// The name of a consumer: a durable subscription whose checkpoint the log keeps.
    ConsumerName, any
}
name! {
    /// The name of a command that an application handles, such as `place-order`.
    CommandName, any
}
name! {
    /// What makes a command take effect once: chosen by the client, the same when it is sent
    /// again. Kept to the rules of names, since the log stores it.
    CommandKey, any
}

name! {
    /// The name of a projection, such as `departures`.
    ProjectionName, any
}

impl StreamName {
    /// The text before the first `-`, or the whole name where there is none.
    pub fn category_str(&self) -> &str {
        self.0.split_once('-').map_or(&*self.0, |(category, _)| category)
    }

    /// The category that this stream belongs to.
    pub fn category(&self) -> Category {
        Category(self.category_str().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_refused_for_what_is_wrong_with_it() {
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        for (text, wrong) in [
            ("", NameError::Empty),
            ("-1", NameError::Empty),
            (long.as_str(), NameError::TooLong { bytes: NAME_BYTES_MAX + 1 }),
            ("order\n-1", NameError::ControlCharacter),
            ("order\u{85}", NameError::ControlCharacter),
            ("$erased", NameError::Reserved),
        ] {
            assert_eq!(StreamName::new(text), Err(wrong), "{text:?}");
        }
    }

    #[test]
    fn the_longest_name_is_allowed_and_reserved_names_are_readable() {
        assert!(StreamName::new(&"x".repeat(NAME_BYTES_MAX)).is_ok());
        assert!(EventType::recorded("$erased").is_ok());
    }

    #[test]
    fn a_category_ends_before_the_first_dash() {
        for (stream, category) in
            [("order-42", "order"), ("order-4-2", "order"), ("order", "order"), ("öl-1", "öl")]
        {
            let stream = StreamName::new(stream).expect("a good name");
            assert_eq!(stream.category().as_str(), category);
        }
    }
}
