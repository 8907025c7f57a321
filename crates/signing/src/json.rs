//! JSON as the draft needs it: read strictly (I-JSON: no duplicate keys, no lone surrogates), kept sorted, written in
//! the canonical form of RFC 8785 (LM #int-canonical-json).
//!
//! All numbers are doubles, as RFC 8785 has it: `50.0` is the integer 50, and an integer beyond ±(2^53 − 1) is the
//! double nearest to it.

mod convert;
mod number;
mod object;
mod reader;
mod writer;

pub use number::Number;
pub use object::{Iter, Object};
pub use reader::{JsonError, JsonRule, Limits};
pub(crate) use writer::write_string;

/// A JSON value. Equal values have the same canonical bytes, and the other way round.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Json {
    /// `null`
    #[default]
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A finite double.
    Number(Number),
    /// A string of Unicode scalar values.
    String(String),
    /// An array.
    Array(Vec<Self>),
    /// An object.
    Object(Object),
}

impl Json {
    /// Reads one value of at most [`nabe_types::limits::MAX_BODY_BYTES`] bytes and
    /// [`nabe_types::limits::MAX_JSON_DEPTH`] levels. See [`JsonRule`] for what is refused.
    pub fn parse(bytes: &[u8]) -> Result<Self, JsonError> {
        Self::parse_with(bytes, Limits::default())
    }

    /// Reads one value under other limits.
    pub fn parse_with(bytes: &[u8], limits: Limits) -> Result<Self, JsonError> {
        reader::read(bytes, limits)
    }

    /// The canonical form (RFC 8785).
    #[must_use]
    pub fn to_canonical(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write_canonical(&mut out);
        out
    }

    /// Appends the canonical form (RFC 8785).
    pub fn write_canonical(&self, out: &mut Vec<u8>) {
        writer::write(self, out);
    }

    /// The string, if this is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(text) = self {
            Some(text)
        } else {
            None
        }
    }

    /// The object, if this is one.
    #[must_use]
    pub const fn as_object(&self) -> Option<&Object> {
        if let Self::Object(object) = self {
            Some(object)
        } else {
            None
        }
    }

    /// The object to change, if this is one.
    pub const fn as_object_mut(&mut self) -> Option<&mut Object> {
        if let Self::Object(object) = self {
            Some(object)
        } else {
            None
        }
    }

    /// The object itself, if this is one.
    #[must_use]
    pub fn into_object(self) -> Option<Object> {
        if let Self::Object(object) = self {
            Some(object)
        } else {
            None
        }
    }

    /// The elements, if this is an array.
    #[must_use]
    pub fn as_array(&self) -> Option<&[Self]> {
        if let Self::Array(elements) = self {
            Some(elements)
        } else {
            None
        }
    }

    /// The elements themselves, if this is an array.
    #[must_use]
    pub fn into_array(self) -> Option<Vec<Self>> {
        if let Self::Array(elements) = self {
            Some(elements)
        } else {
            None
        }
    }

    /// The integer, if this is a whole number within ±(2^53 − 1).
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        if let Self::Number(number) = self {
            number.as_i64()
        } else {
            None
        }
    }

    /// The number, if this is one.
    #[must_use]
    pub const fn as_number(&self) -> Option<Number> {
        if let Self::Number(number) = self {
            Some(*number)
        } else {
            None
        }
    }

    /// The truth value, if this is one.
    #[must_use]
    pub const fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(value) = self {
            Some(*value)
        } else {
            None
        }
    }

    /// Whether this is `null`.
    #[must_use]
    pub const fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }
}

/// Builds an [`Object`]: `object! { "membership" => "join", "ts" => 5, "users" => object! {} }`. Of equal keys the
/// last one stays.
#[macro_export]
macro_rules! object {
    () => { $crate::json::Object::new() };
    ($($key:expr => $value:expr),+ $(,)?) => {{
        let mut object = $crate::json::Object::new();
        $(object.insert($key, $value);)+
        object
    }};
}

#[cfg(test)]
mod tests;
