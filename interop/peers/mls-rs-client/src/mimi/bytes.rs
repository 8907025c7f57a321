//! MLS's presentation language, by hand: numbers, and vectors with lengths of one, two or four bytes (RFC 9420, 2.1.2).

use crate::error::{Result, invalid};

/// What is left of some bytes.
#[derive(Clone, Copy)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// All of these.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// What has not been read.
    pub const fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// Whether everything has been read.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// So many bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self
            .0
            .split_at_checked(count)
            .ok_or_else(|| invalid("bytes end too soon"))?;
        self.0 = rest;
        Ok(taken)
    }

    /// `uint8`
    pub fn u8(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    /// `uint16`
    pub fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_be_bytes)
    }

    /// `uint32`
    pub fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// `uint64`
    pub fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// `opaque x<V>`, or the bytes of any other vector.
    pub fn vec(&mut self) -> Result<&'a [u8]> {
        let first = self.u8()?;
        let size = usize::from(first >> 6);
        if size == 3 {
            return Err(invalid("a length of eight bytes"));
        }
        let more = self.take((1 << size) - 1)?;
        let length = more.iter().fold(usize::from(first & 0x3f), |length, byte| {
            length << 8 | usize::from(*byte)
        });
        if size > 0 && length < [0, 1 << 6, 1 << 14][size] {
            return Err(invalid("a length that is longer than it need be"));
        }
        self.take(length)
    }

    /// A vector as text.
    pub fn text(&mut self) -> Result<&'a str> {
        std::str::from_utf8(self.vec()?).map_err(|_| invalid("text that is no UTF-8"))
    }

    /// The items of a vector.
    pub fn items<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut inside = Self(self.vec()?);
        let mut items = Vec::new();
        while !inside.is_empty() {
            items.push(item(&mut inside)?);
        }
        Ok(items)
    }

    /// `optional<T>`
    pub fn optional<T>(&mut self, item: impl FnOnce(&mut Self) -> Result<T>) -> Result<Option<T>> {
        match self.u8()? {
            0 => Ok(None),
            1 => item(self).map(Some),
            _ => Err(invalid("neither absent nor present")),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let taken = self.take(N)?;
        taken.try_into().map_err(|_| invalid("bytes end too soon"))
    }
}

/// Writes a vector.
pub fn put_vec(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    match length {
        0..0x40 => out.push(length.to_be_bytes()[3]),
        0x40..0x4000 => out.extend(&(length | 0x4000).to_be_bytes()[2..]),
        _ => out.extend((length | 0x8000_0000).to_be_bytes()),
    }
    out.extend(bytes);
}

/// A vector by itself.
pub fn vec_of(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_vec(&mut out, bytes);
    out
}

/// What MLS signs and seals with: a label and something else, each with its length.
pub fn labelled(label: &str, content: &[u8]) -> Vec<u8> {
    let mut out = vec_of(format!("MLS 1.0 {label}").as_bytes());
    put_vec(&mut out, content);
    out
}
