//! The protocol that most bodies begin with (MIMI #mimi-endpoints-and-framing).

use crate::codec::{Bytes, Decode, DecodeError, Encode, Reader, Value, open_enum};

open_enum! {
    /// `Protocol`: how a room is encrypted.
    pub struct Protocol(u8) {
        /// MLS 1.0, the only one.
        MLS10 = 1 "mls10",
    }
}

/// What the protocol selects at the end of a body. Of a protocol that is not known, everything up to the end is kept:
/// so a server can read who asks for what, and answer that it does not speak it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Body<T> {
    /// MLS 1.0.
    Mls10(T),
    /// Another one, and what follows.
    Other {
        /// Which.
        protocol: Protocol,
        /// Everything up to the end, without a length.
        rest: Bytes,
    },
}

impl<T> Body<T> {
    /// The protocol.
    pub fn protocol(&self) -> Protocol {
        match self {
            Self::Mls10(_) => Protocol::MLS10,
            Self::Other { protocol, .. } => *protocol,
        }
    }

    /// What MLS 1.0 has here.
    pub fn mls10(&self) -> Option<&T> {
        match self {
            Self::Mls10(body) => Some(body),
            Self::Other { .. } => None,
        }
    }
}

impl<T: Encode> Body<T> {
    pub(crate) fn encode_selected(&self, out: &mut Vec<u8>) {
        match self {
            Self::Mls10(body) => body.encode(out),
            Self::Other { rest, .. } => out.extend_from_slice(rest),
        }
    }
}

impl<T: Decode> Body<T> {
    pub(crate) fn decode_selected(protocol: Protocol, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        if protocol == Protocol::MLS10 {
            return T::decode(reader).map(Self::Mls10);
        }
        let rest = decode_rest(reader)?;
        Ok(Self::Other { protocol, rest })
    }
}

/// What nothing is known about, up to the end.
pub(crate) fn decode_rest(reader: &mut Reader<'_>) -> Result<Bytes, DecodeError> {
    reader.field("rest", |reader| {
        let rest = reader.rest();
        reader.note(|| Value::Bytes(rest.to_vec()));
        Ok(rest.into())
    })
}

/// A body that is nothing but the protocol and what it selects.
macro_rules! protocol_body {
    ($(#[$meta:meta])* pub struct $name:ident($body:ty)) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Eq, PartialEq)]
        pub struct $name {
            /// The protocol and what it selects.
            pub body: $crate::protocol::Body<$body>,
        }

        impl $crate::codec::Encode for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                self.body.protocol().encode(out);
                self.body.encode_selected(out);
            }
        }

        impl $crate::codec::Decode for $name {
            fn decode(reader: &mut $crate::codec::Reader<'_>) -> Result<Self, $crate::codec::DecodeError> {
                let protocol = reader.read("protocol")?;
                let body = $crate::protocol::Body::decode_selected(protocol, reader)?;
                Ok(Self { body })
            }
        }

        impl From<$body> for $name {
            fn from(body: $body) -> Self {
                let body = $crate::protocol::Body::Mls10(body);
                Self { body }
            }
        }
    };
}

pub(crate) use protocol_body;
