//! Structs whose fields follow each other, and enumerations that keep what they do not know.

/// A struct encoded as its fields one after the other.
macro_rules! wire_struct {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$field_meta:meta])* pub $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Eq, PartialEq)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)*
        }

        impl $crate::codec::Encode for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                $($crate::codec::Encode::encode(&self.$field, out);)*
            }
        }

        impl $crate::codec::Decode for $name {
            fn decode(reader: &mut $crate::codec::Reader<'_>) -> Result<Self, $crate::codec::DecodeError> {
                Ok(Self { $($field: reader.read(stringify!($field))?,)* })
            }
        }
    };
}

/// An enumeration as its number: unknown numbers are values like any other. The string is the draft's name.
macro_rules! open_enum {
    ($(#[$meta:meta])* pub struct $name:ident($int:ty) { $($(#[$value_meta:meta])* $constant:ident = $number:literal $wire:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(
            /// The number on the wire.
            pub $int,
        );

        impl $name {
            $($(#[$value_meta])* pub const $constant: Self = Self($number);)*

            /// The draft's name of the value, if it is a known one.
            pub fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$constant => Some($wire),)*
                    _ => None,
                }
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}({})", self.name().unwrap_or("unknown"), self.0)
            }
        }

        impl $crate::codec::Encode for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                self.0.encode(out);
            }
        }

        impl $crate::codec::Decode for $name {
            fn decode(reader: &mut $crate::codec::Reader<'_>) -> Result<Self, $crate::codec::DecodeError> {
                let value = Self(<$int>::decode(reader)?);
                reader.note(|| $crate::codec::Value::Named(value.0.into(), value.name()));
                Ok(value)
            }
        }
    };
}

pub(crate) use {open_enum, wire_struct};
