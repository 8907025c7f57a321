//! Lists of bytes as byte strings.
//!
//! Most of what OpenMLS stores are keys, hashes and signatures, and serde hands them to a format as lists of numbers, one by one. In
//! CBOR that is twice the bytes and many times the work. [`Compact`] stands before a format and makes one byte string of each such list.
//! What it wrote is read by types that expect a list: CBOR's reader hands out the bytes of a string one by one.

use std::fmt;

use serde::Serialize;
use serde::ser::{
    self, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple, SerializeTupleStruct,
    SerializeTupleVariant,
};

/// A value that is written with its lists of bytes as byte strings.
pub(crate) struct Compact<'a, T: ?Sized>(pub(crate) &'a T);

impl<T: Serialize + ?Sized> Serialize for Compact<'_, T> {
    fn serialize<S: ser::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(Writer(serializer))
    }
}

/// Passes everything on, values within values through [`Compact`].
struct Writer<S>(S);

/// The methods whose values have no parts.
macro_rules! plain {
    ($($method:ident($($name:ident: $type:ty),*);)*) => {
        $(fn $method(self, $($name: $type),*) -> Result<S::Ok, S::Error> {
            self.0.$method($($name),*)
        })*
    };
}

impl<S: ser::Serializer> ser::Serializer for Writer<S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = List<S>;
    type SerializeTuple = Parts<S::SerializeTuple>;
    type SerializeTupleStruct = Parts<S::SerializeTupleStruct>;
    type SerializeTupleVariant = Parts<S::SerializeTupleVariant>;
    type SerializeMap = Parts<S::SerializeMap>;
    type SerializeStruct = Parts<S::SerializeStruct>;
    type SerializeStructVariant = Parts<S::SerializeStructVariant>;

    plain! {
        serialize_bool(value: bool);
        serialize_i8(value: i8);
        serialize_i16(value: i16);
        serialize_i32(value: i32);
        serialize_i64(value: i64);
        serialize_i128(value: i128);
        serialize_u8(value: u8);
        serialize_u16(value: u16);
        serialize_u32(value: u32);
        serialize_u64(value: u64);
        serialize_u128(value: u128);
        serialize_f32(value: f32);
        serialize_f64(value: f64);
        serialize_char(value: char);
        serialize_str(value: &str);
        serialize_bytes(value: &[u8]);
        serialize_none();
        serialize_unit();
        serialize_unit_struct(name: &'static str);
        serialize_unit_variant(name: &'static str, index: u32, variant: &'static str);
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.0.serialize_some(&Compact(value))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Result<S::Ok, S::Error> {
        self.0.serialize_newtype_struct(name, &Compact(value))
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        self.0.serialize_newtype_variant(name, index, variant, &Compact(value))
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<List<S>, S::Error> {
        Ok(List::Bytes {
            serializer: self.0,
            len,
            bytes: Vec::new(),
        })
    }

    /// What `Vec` calls. Tries the whole list as bytes, in one loop that the compiler sees through.
    fn collect_seq<I>(self, list: I) -> Result<S::Ok, S::Error>
    where
        I: IntoIterator,
        I::Item: Serialize,
    {
        let mut list = list.into_iter();
        let (least, most) = list.size_hint();
        let mut bytes = Vec::with_capacity(least);
        while let Some(item) = list.next() {
            if let Ok(byte) = item.serialize(OneByte) {
                bytes.push(byte);
                continue;
            }
            let mut items = self.0.serialize_seq(most.filter(|most| *most == least))?;
            for byte in bytes {
                items.serialize_element(&byte)?;
            }
            items.serialize_element(&Compact(&item))?;
            for item in list {
                items.serialize_element(&Compact(&item))?;
            }
            return items.end();
        }
        match bytes.is_empty() {
            true => self.0.serialize_seq(Some(0))?.end(),
            false => self.0.serialize_bytes(&bytes),
        }
    }

    fn serialize_tuple(self, len: usize) -> Result<Self::SerializeTuple, S::Error> {
        self.0.serialize_tuple(len).map(Parts)
    }

    fn serialize_tuple_struct(self, name: &'static str, len: usize) -> Result<Self::SerializeTupleStruct, S::Error> {
        self.0.serialize_tuple_struct(name, len).map(Parts)
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        self.0.serialize_tuple_variant(name, index, variant, len).map(Parts)
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        self.0.serialize_map(len).map(Parts)
    }

    fn serialize_struct(self, name: &'static str, len: usize) -> Result<Self::SerializeStruct, S::Error> {
        self.0.serialize_struct(name, len).map(Parts)
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        self.0.serialize_struct_variant(name, index, variant, len).map(Parts)
    }

    fn is_human_readable(&self) -> bool {
        self.0.is_human_readable()
    }
}

/// A list, bytes until something else is in it.
enum List<S: ser::Serializer> {
    Bytes {
        serializer: S,
        len: Option<usize>,
        bytes: Vec<u8>,
    },
    Items(S::SerializeSeq),
    /// Only while it changes from the one to the other, and after a failure.
    Changing,
}

impl<S: ser::Serializer> SerializeSeq for List<S> {
    type Ok = S::Ok;
    type Error = S::Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
        if let Self::Bytes { bytes, .. } = self
            && let Ok(byte) = value.serialize(OneByte)
        {
            bytes.push(byte);
            return Ok(());
        }
        if let Self::Items(items) = self {
            return items.serialize_element(&Compact(value));
        }
        if let Self::Bytes { serializer, len, bytes } = std::mem::replace(self, Self::Changing) {
            let mut items = serializer.serialize_seq(len)?;
            for byte in bytes {
                items.serialize_element(&byte)?;
            }
            items.serialize_element(&Compact(value))?;
            *self = Self::Items(items);
            return Ok(());
        }
        Err(ser::Error::custom("a list that failed before"))
    }

    fn end(self) -> Result<S::Ok, S::Error> {
        match self {
            Self::Bytes { serializer, bytes, .. } if bytes.is_empty() => serializer.serialize_seq(Some(0))?.end(),
            Self::Bytes { serializer, bytes, .. } => serializer.serialize_bytes(&bytes),
            Self::Items(items) => items.end(),
            Self::Changing => Err(ser::Error::custom("a list that failed before")),
        }
    }
}

/// Parts of anything but a list.
struct Parts<P>(P);

macro_rules! parts {
    ($($trait:ident $method:ident;)*) => {
        $(impl<P: $trait> $trait for Parts<P> {
            type Ok = P::Ok;
            type Error = P::Error;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), P::Error> {
                self.0.$method(&Compact(value))
            }

            fn end(self) -> Result<P::Ok, P::Error> {
                self.0.end()
            }
        })*
    };
}

parts! {
    SerializeTuple serialize_element;
    SerializeTupleStruct serialize_field;
    SerializeTupleVariant serialize_field;
}

impl<P: SerializeMap> SerializeMap for Parts<P> {
    type Ok = P::Ok;
    type Error = P::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), P::Error> {
        self.0.serialize_key(&Compact(key))
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), P::Error> {
        self.0.serialize_value(&Compact(value))
    }

    fn end(self) -> Result<P::Ok, P::Error> {
        self.0.end()
    }
}

macro_rules! fields {
    ($($trait:ident;)*) => {
        $(impl<P: $trait> $trait for Parts<P> {
            type Ok = P::Ok;
            type Error = P::Error;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), P::Error> {
                self.0.serialize_field(name, &Compact(value))
            }

            fn skip_field(&mut self, name: &'static str) -> Result<(), P::Error> {
                self.0.skip_field(name)
            }

            fn end(self) -> Result<P::Ok, P::Error> {
                self.0.end()
            }
        })*
    };
}

fields! {
    SerializeStruct;
    SerializeStructVariant;
}

/// Takes a `u8` and nothing else.
struct OneByte;

/// It is something else.
#[derive(Debug)]
struct NoByte;

impl fmt::Display for NoByte {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a byte")
    }
}

impl std::error::Error for NoByte {}

impl ser::Error for NoByte {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

macro_rules! no_byte {
    ($($method:ident($($type:ty),*) -> $result:ty;)*) => {
        $(fn $method(self, $(_: $type),*) -> Result<$result, NoByte> {
            Err(NoByte)
        })*
    };
}

type Never = ser::Impossible<u8, NoByte>;

impl ser::Serializer for OneByte {
    type Ok = u8;
    type Error = NoByte;
    type SerializeSeq = Never;
    type SerializeTuple = Never;
    type SerializeTupleStruct = Never;
    type SerializeTupleVariant = Never;
    type SerializeMap = Never;
    type SerializeStruct = Never;
    type SerializeStructVariant = Never;

    fn serialize_u8(self, value: u8) -> Result<u8, NoByte> {
        Ok(value)
    }

    no_byte! {
        serialize_bool(bool) -> u8;
        serialize_i8(i8) -> u8;
        serialize_i16(i16) -> u8;
        serialize_i32(i32) -> u8;
        serialize_i64(i64) -> u8;
        serialize_u16(u16) -> u8;
        serialize_u32(u32) -> u8;
        serialize_u64(u64) -> u8;
        serialize_f32(f32) -> u8;
        serialize_f64(f64) -> u8;
        serialize_char(char) -> u8;
        serialize_str(&str) -> u8;
        serialize_bytes(&[u8]) -> u8;
        serialize_none() -> u8;
        serialize_unit() -> u8;
        serialize_unit_struct(&'static str) -> u8;
        serialize_unit_variant(&'static str, u32, &'static str) -> u8;
        serialize_seq(Option<usize>) -> Never;
        serialize_tuple(usize) -> Never;
        serialize_tuple_struct(&'static str, usize) -> Never;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Never;
        serialize_map(Option<usize>) -> Never;
        serialize_struct(&'static str, usize) -> Never;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Never;
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<u8, NoByte> {
        Err(NoByte)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, _: &T) -> Result<u8, NoByte> {
        Err(NoByte)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<u8, NoByte> {
        Err(NoByte)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;
    use crate::provider::Cbor;
    use openmls_sqlite_storage::Codec as _;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Kind {
        Empty,
        Wrapped(Vec<u8>),
        Pair(Vec<u8>, u16),
        Named { key: Vec<u8> },
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Everything {
        bytes: Vec<u8>,
        none: Vec<u8>,
        numbers: Vec<u16>,
        nested: Vec<Vec<u8>>,
        kinds: Vec<Kind>,
        maybe: Option<Vec<u8>>,
        map: BTreeMap<Vec<u8>, (Vec<u8>, bool)>,
        array: [u8; 4],
        text: String,
    }

    fn everything() -> Everything {
        Everything {
            bytes: (0..=255).collect(),
            none: Vec::new(),
            numbers: vec![1, 2, 3],
            nested: vec![vec![1, 2], Vec::new()],
            kinds: vec![
                Kind::Empty,
                Kind::Wrapped(vec![7]),
                Kind::Pair(vec![8; 40], 9),
                Kind::Named { key: vec![1; 32] },
            ],
            maybe: Some(vec![5; 5]),
            map: BTreeMap::from([(vec![1], (vec![2; 3], true))]),
            array: [1, 2, 3, 4],
            text: "text".to_owned(),
        }
    }

    #[test]
    fn whatever_is_written_is_read_again() {
        let bytes = Cbor::to_vec(&everything()).unwrap();
        assert_eq!(Cbor::from_slice::<Everything>(&bytes).unwrap(), everything());
    }

    #[test]
    fn what_was_written_number_by_number_is_still_read() {
        let mut bytes = Vec::new();
        ciborium::into_writer(&everything(), &mut bytes).unwrap();
        assert_eq!(Cbor::from_slice::<Everything>(&bytes).unwrap(), everything());
    }

    #[test]
    fn a_list_of_bytes_is_a_byte_string_and_other_lists_are_lists() {
        let key: Vec<u8> = vec![200; 32];
        let bytes = Cbor::to_vec(&key).unwrap();
        assert_eq!(bytes[..2], [0x58, 32], "a byte string of 32");
        assert_eq!(bytes[2..], key);
        assert_eq!(Cbor::to_vec(&vec![1_u16, 2]).unwrap(), [0x82, 1, 2]);
        assert_eq!(
            Cbor::to_vec(&Vec::<u8>::new()).unwrap(),
            [0x80],
            "nothing tells its type"
        );
    }

    #[test]
    fn a_list_that_only_begins_with_bytes_stays_a_list() {
        let mixed = [serde_json::json!(1_u8), serde_json::json!("two")];
        let bytes = Cbor::to_vec(&mixed.to_vec()).unwrap();
        assert_eq!(Cbor::from_slice::<Vec<serde_json::Value>>(&bytes).unwrap(), mixed);
    }
}
