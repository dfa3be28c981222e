//! Reading the fields of a message one at a time, so that each can be refused by its own name.

use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::{Deserialize, Deserializer, de};
use serde_json::{json, value::RawValue};
use tidewire_eventstore::{Category, GlobalPosition, NUMBER_MAX, NameError, StreamName};
use uuid::Uuid;

use crate::{
    codes::{ErrorBody, ErrorCode},
    messages::{RequestId, Sub, Target},
};

/// A field that may be absent and may be `null`, which is not the same for a payload.
pub(super) fn present<'de: 'a, 'a, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'a RawValue>, D::Error> {
    <&'a RawValue>::deserialize(deserializer).map(Some)
}

/// A `T` that is written as an object. (What serde derives for a struct takes a list, too.)
pub(super) struct AsObject<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for AsObject<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> de::Visitor<'de> for Visitor<T> {
            type Value = AsObject<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(de::value::MapAccessDeserializer::new(map)).map(AsObject)
            }
        }
        deserializer.deserialize_map(Visitor(PhantomData))
    }
}

/// One field of a message: its name, and its JSON if it is there.
#[derive(Clone, Copy)]
pub(super) struct Field<'a> {
    pub(super) name: &'static str,
    pub(super) json: Option<&'a RawValue>,
}

pub(super) fn field<'a>(name: &'static str, json: Option<&'a RawValue>) -> Field<'a> {
    Field { name, json }
}

fn details(code: ErrorCode, name: &str, message: Cow<'static, str>) -> ErrorBody {
    ErrorBody::new(code, message).with_details(json!({ "field": name }))
}

pub(super) fn invalid(name: &'static str, why: &'static str) -> ErrorBody {
    details(ErrorCode::InvalidField, name, Cow::Owned(format!("{name} {why}")))
}

pub(super) fn missing(name: &'static str) -> ErrorBody {
    details(ErrorCode::MissingField, name, Cow::Owned(format!("{name} is missing")))
}

pub(super) fn unsupported(name: &'static str) -> ErrorBody {
    details(ErrorCode::Unsupported, name, Cow::Owned(format!("{name} is not served here")))
}

/// The error for a name that is not allowed.
pub(super) fn name_error(name: &'static str, error: NameError) -> ErrorBody {
    let code = ErrorCode::parse(error.code()).unwrap_or(ErrorCode::InvalidField);
    details(code, name, Cow::Owned(error.to_string()))
}

impl<'a> Field<'a> {
    /// The field's JSON, with `null` taken for absent.
    pub(super) fn raw(self) -> Option<&'a RawValue> {
        self.json.filter(|json| json.get() != "null")
    }

    pub(super) fn optional<T: Deserialize<'a>>(
        self,
        why: &'static str,
    ) -> Result<Option<T>, ErrorBody> {
        match self.raw() {
            None => Ok(None),
            Some(json) => {
                serde_json::from_str(json.get()).map(Some).map_err(|_| invalid(self.name, why))
            }
        }
    }

    pub(super) fn required<T: Deserialize<'a>>(self, why: &'static str) -> Result<T, ErrorBody> {
        self.optional(why)?.ok_or_else(|| missing(self.name))
    }

    /// A position, a revision or another number below 2^53.
    pub(super) fn number(self) -> Result<Option<u64>, ErrorBody> {
        let why = "has to be a whole number from 0 to 2^53 - 1";
        match self.optional::<u64>(why)? {
            Some(number) if number > NUMBER_MAX => Err(invalid(self.name, why)),
            number => Ok(number),
        }
    }

    pub(super) fn position(self) -> Result<Option<GlobalPosition>, ErrorBody> {
        Ok(self.number()?.map(GlobalPosition::new))
    }

    pub(super) fn uuid(self) -> Result<Option<Uuid>, ErrorBody> {
        self.optional("has to be a UUID")
    }

    pub(super) fn text(self, bytes_max: usize) -> Result<Option<Cow<'a, str>>, ErrorBody> {
        match self.optional::<Text<'a>>("has to be a text")? {
            Some(Text(text)) if text.len() > bytes_max => Err(invalid(self.name, "is too long")),
            text => Ok(text.map(|Text(text)| text)),
        }
    }

    pub(super) fn sub(self) -> Result<Sub, ErrorBody> {
        self.required("has to be a whole number from 0 to 2^32 - 1").map(Sub::new)
    }

    pub(super) fn id(self) -> Result<RequestId, ErrorBody> {
        const WHY: &str = "has to be a text of 1 to 64 bytes";
        let Text(text) = self.required(WHY)?;
        RequestId::new(&text).ok_or_else(|| invalid(self.name, WHY))
    }
}

/// A text, borrowed from the message where it has no escapes.
#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

#[derive(Deserialize)]
struct WireTarget<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    stream: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    category: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    all: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    projection: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    channel: Option<&'a RawValue>,
}

/// Reads `{"stream": s}`, `{"category": c}` or `{"all": true}`.
pub(super) fn target(of: Field<'_>) -> Result<Target, ErrorBody> {
    const WHY: &str = "has to be one of {\"stream\": …}, {\"category\": …}, {\"all\": true}, \
                       {\"projection\": …}";
    let AsObject(target) = of.required::<AsObject<WireTarget<'_>>>(WHY)?;
    if target.channel.is_some() {
        return Err(unsupported("channel"));
    }
    let stream = field("stream", target.stream);
    let category = field("category", target.category);
    match (stream.raw(), category.raw(), target.all) {
        // A projection by itself is a query, and read elsewhere.
        _ if target.projection.is_some() => Err(invalid(of.name, WHY)),
        (Some(_), None, None) => {
            let name = stream.text(usize::MAX)?.unwrap_or_default();
            StreamName::recorded(&name)
                .map(Target::Stream)
                .map_err(|error| name_error("stream", error))
        }
        (None, Some(_), None) => {
            let name = category.text(usize::MAX)?.unwrap_or_default();
            Category::recorded(&name)
                .map(Target::Category)
                .map_err(|error| name_error("category", error))
        }
        (None, None, Some(all)) if all.get() == "true" => Ok(Target::All),
        _ => Err(invalid(of.name, WHY)),
    }
}
