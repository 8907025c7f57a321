//! The building blocks: numbers, booleans, fixed and variable bytes, text, optional values, vectors.

use std::fmt;
use std::ops::Deref;

use super::error::{DecodeError, Rule};
use super::reader::Reader;
use super::trace::Value;
use super::{Decode, Encode, encode_length, encode_vector};

macro_rules! number {
    ($($type:ty)*) => {$(
        impl Encode for $type {
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }
        }

        impl Decode for $type {
            fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                let number = Self::from_be_bytes(reader.array()?);
                reader.note(|| Value::Number(number.into()));
                Ok(number)
            }
        }
    )*};
}

number!(u8 u16 u32 u64);

impl Encode for bool {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

impl Decode for bool {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let start = reader.position();
        let value = match reader.array()? {
            [0] => false,
            [1] => true,
            [value] => return Err(DecodeError::new(start, Rule::NotBoolean { value })),
        };
        reader.note(|| Value::Boolean(value));
        Ok(value)
    }
}

impl<const N: usize> Encode for [u8; N] {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
}

impl<const N: usize> Decode for [u8; N] {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let bytes = reader.array()?;
        reader.note(|| Value::Bytes(bytes.to_vec()));
        Ok(bytes)
    }
}

/// `optional<T>`: a presence octet, then the value if it is 1.
impl<T: Encode> Encode for Option<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.is_some().encode(out);
        if let Some(value) = self {
            value.encode(out);
        }
    }
}

impl<T: Decode> Decode for Option<T> {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let start = reader.position();
        match reader.array()? {
            [0] => {
                reader.note(|| Value::Absent);
                Ok(None)
            }
            [1] => T::decode(reader).map(Some),
            [value] => Err(DecodeError::new(start, Rule::NotPresence { value })),
        }
    }
}

/// `T x<V>`: the length in bytes, then the items.
impl<T: Encode> Encode for Vec<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_vector(out, |out| self.iter().for_each(|item| item.encode(out)));
    }
}

impl<T: Decode> Decode for Vec<T> {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.vector(T::decode)
    }
}

impl<T: Encode> Encode for Box<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        T::encode(self, out);
    }
}

impl<T: Decode> Decode for Box<T> {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        T::decode(reader).map(Self::new)
    }
}

/// `opaque x<V>`: any bytes.
#[derive(Clone, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Bytes(pub Vec<u8>);

impl Encode for Bytes {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_length(self.0.len(), out);
        out.extend_from_slice(&self.0);
    }
}

impl Decode for Bytes {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let bytes = reader.opaque()?;
        reader.note(|| Value::Bytes(bytes.to_vec()));
        Ok(Self(bytes.to_vec()))
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// `opaque x<V>` or `string` that the draft calls text: UTF-8.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Text(pub String);

impl Encode for Text {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_length(self.0.len(), out);
        out.extend_from_slice(self.0.as_bytes());
    }
}

impl Decode for Text {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let text = decode_text(reader)?;
        reader.note(|| Value::Text(text.to_owned()));
        Ok(Self(text.to_owned()))
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// The error is at the first byte that is no UTF-8.
pub(crate) fn decode_text<'a>(reader: &mut Reader<'a>) -> Result<&'a str, DecodeError> {
    let bytes = reader.opaque()?;
    let start = reader.position() - bytes.len();
    std::str::from_utf8(bytes).map_err(|error| DecodeError::new(start + error.valid_up_to(), Rule::NotUtf8))
}

/// `UTF8String` of the room metadata: UTF-8 without null characters (MIMI #room-metadata).
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct NulFreeText(String);

impl NulFreeText {
    /// The text, or `None` if it has a null character.
    pub fn new(text: impl Into<String>) -> Option<Self> {
        let text = text.into();
        (!text.contains('\0')).then_some(Self(text))
    }
}

impl Encode for NulFreeText {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_length(self.0.len(), out);
        out.extend_from_slice(self.0.as_bytes());
    }
}

impl Decode for NulFreeText {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let text = decode_text(reader)?;
        if let Some(at) = text.find('\0') {
            return Err(DecodeError::new(reader.position() - text.len() + at, Rule::Nul));
        }
        reader.note(|| Value::Text(text.to_owned()));
        Ok(Self(text.to_owned()))
    }
}

impl Deref for NulFreeText {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// A value together with the very bytes it was read from: what is signed, hashed or handed on is these.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Kept<T> {
    value: T,
    bytes: Vec<u8>,
}

impl<T: Encode> Kept<T> {
    /// A value that was made here, with its encoding.
    pub fn new(value: T) -> Self {
        let bytes = value.to_bytes();
        Self { value, bytes }
    }
}

impl<T> Kept<T> {
    /// The encoding.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The value without its bytes.
    pub fn into_value(self) -> T {
        self.value
    }
}

impl<T> Encode for Kept<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes);
    }
}

impl<T: Decode> Decode for Kept<T> {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let start = reader.position();
        let value = T::decode(reader)?;
        let bytes = reader.since(start).to_vec();
        Ok(Self { value, bytes })
    }
}

impl<T> Deref for Kept<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}
