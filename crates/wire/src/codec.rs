//! The presentation language (RFC 8446 section 3, with the variable-size vectors of RFC 9420 section 2.1.2), read
//! strictly.
//!
//! Written by hand rather than derived, for one reason: an error has to say at which byte, in which field and by which
//! rule an input breaks, however deep inside an MLS object that is. The rules of reading:
//!
//! - A length prefix is in its shortest form and no longer than what is left of the enclosing vector or input. Both
//!   are checked before anything is allocated; a vector then grows only as its items are read.
//! - What is not free to vary is checked where it is read: booleans, presence octets, UTF-8, order and uniqueness of
//!   entries, lists that must not be empty.
//! - A value of an enumeration that is not known is kept. Where the draft lets such a value decide what follows and
//!   gives no arm for it, reading ends with [`Rule::UnknownSelector`]: the grammar is unknown from there on.
//! - Nothing follows what was read ([`Message::from_bytes`]).
//!
//! So what was accepted encodes to the very bytes it was read from. The same reader can keep a [`Trace`] of each field
//! with its offset, length and value.

mod error;
mod macros;
mod primitives;
mod reader;
mod trace;

pub use error::{DecodeError, Rule, Step};
pub(crate) use macros::{open_enum, wire_struct};
pub use primitives::{Bytes, Kept, NulFreeText, Text};
pub use reader::Reader;
pub use trace::{Entry, Leaf, Trace, Value};

/// The most that a variable-size vector can hold: 2^30 − 1 bytes.
pub const MAX_VECTOR_LEN: usize = (1 << 30) - 1;

/// What can be read from the wire.
pub trait Decode: Sized {
    /// Reads one value and leaves the reader behind it.
    ///
    /// # Errors
    /// Where and why the input breaks a rule.
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

/// What can be written to the wire.
pub trait Encode {
    /// Appends the encoding.
    ///
    /// # Panics
    /// If a vector is longer than [`MAX_VECTOR_LEN`], which has no encoding. Nothing that was decoded can be that long.
    fn encode(&self, out: &mut Vec<u8>);

    /// The encoding by itself.
    ///
    /// # Panics
    /// As [`Self::encode`].
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }
}

/// A struct that stands for itself: the body of a request, the data of a component, an MLS object.
pub trait Message: Decode + Encode {
    /// The draft's name for it.
    const NAME: &'static str;
    /// The longest encoding that is read, in bytes.
    const MAX_LEN: usize;

    /// Reads `bytes` from the first to the last.
    ///
    /// # Errors
    /// [`Rule::TooLong`] before anything else is looked at, [`Rule::TrailingBytes`] if something follows, or what
    /// breaks inside.
    fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        read_whole(&mut Reader::new(bytes), Self::MAX_LEN)
    }

    /// Reads as [`Self::from_bytes`] does and tells of each field, up to the end or to where the input breaks.
    fn trace(bytes: &[u8]) -> (Trace, Result<Self, DecodeError>) {
        let mut reader = Reader::traced(bytes);
        let result = read_whole(&mut reader, Self::MAX_LEN);
        (reader.into_trace(), result)
    }
}

fn read_whole<T: Decode>(reader: &mut Reader<'_>, max: usize) -> Result<T, DecodeError> {
    if reader.left() > max {
        let rule = Rule::TooLong {
            length: reader.left(),
            max,
        };
        return Err(reader.error(rule));
    }
    let value = T::decode(reader)?;
    match reader.left() {
        0 => Ok(value),
        left => Err(reader.error(Rule::TrailingBytes { left })),
    }
}

/// Appends the length prefix of `length` bytes, in its shortest form.
pub(crate) fn encode_length(length: usize, out: &mut Vec<u8>) {
    let bits = u32::try_from(length)
        .ok()
        .filter(|_| length <= MAX_VECTOR_LEN)
        .expect("a vector is shorter than 2^30 bytes");
    match length_width(length) {
        1 => out.extend_from_slice(&bits.to_be_bytes()[3..]),
        2 => out.extend_from_slice(&(bits | 0x4000).to_be_bytes()[2..]),
        _ => out.extend_from_slice(&(bits | 0x8000_0000).to_be_bytes()),
    }
}

/// How many bytes the shortest prefix for `length` has.
pub(crate) fn length_width(length: usize) -> usize {
    match length {
        0..=0x3f => 1,
        0x40..=0x3fff => 2,
        _ => 4,
    }
}

/// Appends a variable-size vector whose content is what `content` appends.
pub(crate) fn encode_vector(out: &mut Vec<u8>, content: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    content(out);
    let mut prefix = Vec::with_capacity(4);
    encode_length(out.len() - start, &mut prefix);
    out.splice(start..start, prefix);
}

#[cfg(test)]
mod tests;
