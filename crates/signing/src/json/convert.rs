//! Conversions into [`Json`], and out of it through serde. There is no `Deserialize`: JSON that is signed or hashed
//! comes in through the strict reader only, which rounds numbers exactly and sees duplicate keys.

use std::fmt;

use nabe_types::{DeviceId, EventId, KeyId, RoomId, RoomVersionId, ServerName, TransactionId, UnixMillis, UserId};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::number::Repr;
use super::reader::{JsonError, JsonRule};
use super::{Json, Number, Object};

impl Json {
    /// The JSON form of `value` as serde_json would write it. Fails if it has none, for instance a map with keys
    /// that are not strings.
    pub fn from_serialize<T: Serialize + ?Sized>(value: &T) -> Result<Self, JsonError> {
        let not_serializable = JsonError {
            offset: 0,
            rule: JsonRule::NotSerializable,
        };
        Self::parse(&serde_json::to_vec(value).map_err(|_| not_serializable)?)
    }
}

/// The canonical form as text.
impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.to_canonical()))
    }
}

/// The canonical form as text.
impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.to_canonical()))
    }
}

impl From<bool> for Json {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

/// Integers beyond ±(2^53 − 1) become the nearest double.
///
/// There is no conversion from other integer types, so that a literal needs no suffix.
impl From<i64> for Json {
    fn from(value: i64) -> Self {
        Self::Number(value.into())
    }
}

impl From<Number> for Json {
    fn from(number: Number) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for Json {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<Object> for Json {
    fn from(object: Object) -> Self {
        Self::Object(object)
    }
}

impl<T: Into<Self>> From<Vec<T>> for Json {
    fn from(elements: Vec<T>) -> Self {
        Self::Array(elements.into_iter().map(Into::into).collect())
    }
}

impl<T: Into<Self>> FromIterator<T> for Json {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Self {
        Self::Array(elements.into_iter().map(Into::into).collect())
    }
}

/// Moments beyond 2^53 − 1 become that.
impl From<UnixMillis> for Json {
    fn from(moment: UnixMillis) -> Self {
        moment.as_i64().into()
    }
}

macro_rules! from_identifiers {
    ($($id:ident)*) => {$(
        impl From<&$id> for Json {
            fn from(id: &$id) -> Self {
                id.as_str().into()
            }
        }

        impl From<$id> for Json {
            fn from(id: $id) -> Self {
                id.as_str().into()
            }
        }
    )*};
}

from_identifiers! { ServerName RoomId UserId EventId DeviceId KeyId RoomVersionId TransactionId }

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(number) => number.serialize(serializer),
            Self::String(text) => serializer.serialize_str(text),
            Self::Array(elements) => serializer.collect_seq(elements),
            Self::Object(object) => object.serialize(serializer),
        }
    }
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Repr::Integer(value) => serializer.serialize_i64(value),
            Repr::Float(value) => serializer.serialize_f64(value),
        }
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.len()))?;
        for (key, value) in self {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}
