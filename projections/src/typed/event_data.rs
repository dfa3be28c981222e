//! From an event's type and data to a Rust type, as serde sees it: an enum's variant is named by
//! the type and holds the data; anything else is the data alone.

use serde::{
    Deserializer,
    de::{
        DeserializeOwned, DeserializeSeed, EnumAccess, IgnoredAny, IntoDeserializer, VariantAccess,
        Visitor, value::StrDeserializer,
    },
    forward_to_deserialize_any,
};
use serde_json::Error;

/// Reads what an event of this type with this data is.
pub(super) fn read<E: DeserializeOwned>(event_type: &str, data: &[u8]) -> Result<E, Error> {
    E::deserialize(EventData { event_type, data })
}

/// The types of events that `E` has variants for; none where it is no enum.
pub(super) fn types<E: DeserializeOwned>() -> Option<&'static [&'static str]> {
    let mut found = None;
    // It finds what it looks for before it fails, as it always does.
    let _ = E::deserialize(Probe(&mut found));
    found
}

/// An event. The data is read to its end by whatever reads it.
struct EventData<'a> {
    event_type: &'a str,
    data: &'a [u8],
}

/// Lets `read` have the data, and sees to it that nothing stands after what it read.
fn whole<'a, T>(
    data: &'a [u8],
    read: impl FnOnce(&mut serde_json::Deserializer<serde_json::de::SliceRead<'a>>) -> Result<T, Error>,
) -> Result<T, Error> {
    let mut json = serde_json::Deserializer::from_slice(data);
    let value = read(&mut json)?;
    json.end()?;
    Ok(value)
}

macro_rules! forward_to_data {
    ($($method:ident($($argument:ident: $type:ty),*);)*) => {
        $(fn $method<V: Visitor<'de>>(
            self,
            $($argument: $type,)*
            visitor: V,
        ) -> Result<V::Value, Error> {
            whole(self.data, |json| json.$method($($argument,)* visitor))
        })*
    };
}

impl<'de> Deserializer<'de> for EventData<'de> {
    type Error = Error;

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_enum(self)
    }

    forward_to_data! {
        deserialize_any();
        deserialize_bool();
        deserialize_i8(); deserialize_i16(); deserialize_i32(); deserialize_i64();
        deserialize_u8(); deserialize_u16(); deserialize_u32(); deserialize_u64();
        deserialize_i128(); deserialize_u128();
        deserialize_f32(); deserialize_f64();
        deserialize_char(); deserialize_str(); deserialize_string();
        deserialize_bytes(); deserialize_byte_buf();
        deserialize_option(); deserialize_unit();
        deserialize_unit_struct(name: &'static str);
        deserialize_newtype_struct(name: &'static str);
        deserialize_seq(); deserialize_tuple(len: usize);
        deserialize_tuple_struct(name: &'static str, len: usize);
        deserialize_map();
        deserialize_struct(name: &'static str, fields: &'static [&'static str]);
        deserialize_identifier(); deserialize_ignored_any();
    }
}

impl<'de> EnumAccess<'de> for EventData<'de> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        let name: StrDeserializer<'_, Error> = self.event_type.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for EventData<'de> {
    type Error = Error;

    /// A variant without fields stands for an event whose data does not matter.
    fn unit_variant(self) -> Result<(), Error> {
        whole(self.data, |json| json.deserialize_ignored_any(IgnoredAny)).map(|_| ())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        whole(self.data, |json| seed.deserialize(json))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        whole(self.data, |json| json.deserialize_tuple(len, visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        whole(self.data, |json| json.deserialize_struct("", fields, visitor))
    }
}

/// Learns the names of an enum's variants, and fails.
struct Probe<'a>(&'a mut Option<&'static [&'static str]>);

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = serde::de::value::Error;

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = Some(variants);
        self.deserialize_any(visitor)
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Self::Error> {
        Err(serde::de::Error::custom("looked at, not read"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}
