//! Deterministic CBOR (RFC 8949, 4.2.1; MC #encoding-restrictions), read and written.
//!
//! Written here and not taken from a CBOR library: libraries accept what this format forbids (longer forms, indefinite lengths,
//! unsorted and duplicate keys), do not say at which byte an item began, and allocate for lengths nothing has confirmed. What is
//! needed is five kinds of heads and a walk of at most four levels.
//!
//! Reading allocates nothing for a length before the bytes are there, and a walk over foreign values allocates nothing at all.

use std::fmt;

use super::error::{Kind, Malformed, Rule};
use super::limits::{MAX_EXTENSION_LEVELS, MAX_KEY, MAX_KEY_BYTES};

/// One deterministic CBOR item, as the value of an extension: kept as bytes, whatever it is, and at most three levels of tags,
/// maps and arrays deep, since the map of extensions is a level too (MC #depth-restrictions).
#[derive(Clone, Eq, PartialEq)]
pub struct CborValue(Vec<u8>);

impl CborValue {
    /// Reads exactly one item.
    ///
    /// ```
    /// use nabe_content::mimi::cbor::CborValue;
    ///
    /// assert_eq!(CborValue::parse(&[0x18, 42]), Ok(CborValue::unsigned(42)));
    /// let error = CborValue::parse(&[0x18, 2]).expect_err("2 needs no second byte");
    /// assert_eq!(error.to_string(), "value at byte 0: number not in its shortest form");
    /// ```
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        reader
            .value(VALUE_LEVEL)
            .and_then(|_| reader.end())
            .map_err(|error| error.of("value"))?;
        Ok(Self(bytes.to_vec()))
    }

    /// An unsigned integer.
    #[must_use]
    pub fn unsigned(number: u64) -> Self {
        let mut out = Vec::with_capacity(9);
        write_head(&mut out, UNSIGNED, number);
        Self(out)
    }

    /// A byte string.
    #[must_use]
    pub fn bytes(bytes: &[u8]) -> Self {
        let mut out = Vec::with_capacity(bytes.len() + 5);
        write_bytes(&mut out, bytes);
        Self(out)
    }

    /// A text string.
    #[must_use]
    pub fn text(text: &str) -> Self {
        let mut out = Vec::with_capacity(text.len() + 5);
        write_text(&mut out, text);
        Self(out)
    }

    /// The item's encoding.
    #[must_use]
    pub fn as_cbor(&self) -> &[u8] {
        &self.0
    }

    /// What kind of item it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.0.first().map_or(Kind::Null, |&first| kind_of(first))
    }

    /// The number, if it is an unsigned integer.
    #[must_use]
    pub fn as_unsigned(&self) -> Option<u64> {
        Reader::new(&self.0).unsigned(u64::MAX).ok()
    }

    /// The bytes, if it is a byte string.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&[u8]> {
        Reader::new(&self.0).bytes().ok()
    }

    /// The text, if it is a text string.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        Reader::new(&self.0).text().ok()
    }

    pub(crate) const fn checked(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

/// The encoding in hexadecimal.
impl fmt::Debug for CborValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CborValue(")?;
        for byte in &self.0 {
            write!(f, "{byte:02x}")?;
        }
        f.write_str(")")
    }
}

/// Reads items one after the other and refuses whatever is not deterministic. Errors name the byte; the field is for those
/// who know it, see [`Reader::within`].
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// The beginning of an item.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    /// Where the item begins.
    pub(crate) at: usize,
    first: u8,
    /// The number, length or count; of a floating point number its bits.
    pub(crate) argument: u64,
}

impl Head {
    const fn major(self) -> u8 {
        self.first >> 5
    }
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next byte.
    pub(crate) const fn offset(&self) -> usize {
        self.at
    }

    /// Whether the next byte is `byte`: CBOR's null, say, which is one byte.
    pub(crate) fn is_next(&self, byte: u8) -> bool {
        self.bytes.get(self.at) == Some(&byte)
    }

    /// Runs `read` on the field or element `segment`, so that its errors say so.
    pub(crate) fn within<T>(
        &mut self,
        segment: impl fmt::Display,
        read: impl FnOnce(&mut Self) -> Result<T, Malformed>,
    ) -> Result<T, Malformed> {
        read(self).map_err(|error| error.inside(segment))
    }

    /// That nothing follows.
    pub(crate) fn end(&self) -> Result<(), Malformed> {
        match self.bytes.len() - self.at {
            0 => Ok(()),
            count => Err(Malformed::new(self.at, Rule::TrailingBytes { count })),
        }
    }

    /// The next head, in its shortest form.
    pub(crate) fn head(&mut self) -> Result<Head, Malformed> {
        let at = self.at;
        let Some(&first) = self.bytes.get(at) else {
            return Err(Malformed::new(at, Rule::Truncated { missing: 1 }));
        };
        let (major, info) = (first >> 5, first & 0x1f);
        if info < 24 {
            self.at += 1;
            let argument = u64::from(info);
            return Ok(Head { at, first, argument });
        }
        let width = match info {
            24 => 1,
            25 => 2,
            26 => 4,
            27 => 8,
            31 if matches!(major, BYTES | TEXT | ARRAY | MAP | SIMPLE) => {
                return Err(Malformed::new(at, Rule::Indefinite));
            }
            _ => return Err(Malformed::new(at, Rule::NotCbor)),
        };
        let rest = self.bytes.get(at + 1..).unwrap_or_default();
        let Some(digits) = rest.get(..width) else {
            let missing = (width - rest.len()) as u64;
            return Err(Malformed::new(at, Rule::Truncated { missing }));
        };
        let argument = digits.iter().fold(0, |number, &byte| number << 8 | u64::from(byte));
        self.at += 1 + width;
        let head = Head { at, first, argument };
        if major == SIMPLE {
            check_simple(head)?;
        } else {
            let longer_than_needed = match width {
                1 => argument < 24,
                2 => argument <= 0xff,
                4 => argument <= 0xffff,
                _ => argument <= 0xffff_ffff,
            };
            if longer_than_needed {
                return Err(Malformed::new(at, Rule::NotShortest));
            }
        }
        Ok(head)
    }

    /// An unsigned integer of at most `max`.
    pub(crate) fn unsigned(&mut self, max: u64) -> Result<u64, Malformed> {
        let head = self.expect(UNSIGNED, "an unsigned integer")?;
        if head.argument > max {
            return Err(Malformed::new(head.at, Rule::TooLargeNumber { max }));
        }
        Ok(head.argument)
    }

    pub(crate) fn bool(&mut self) -> Result<bool, Malformed> {
        let head = self.head()?;
        match head.first {
            FALSE => Ok(false),
            TRUE => Ok(true),
            _ => Err(wrong_kind(head, "a boolean")),
        }
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let head = self.expect(BYTES, "a byte string")?;
        self.take(head)
    }

    /// A byte string of exactly `N` bytes.
    pub(crate) fn bytes_of<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let at = self.at;
        let bytes = self.bytes()?;
        bytes.try_into().map_err(|_| {
            let found = bytes.len();
            Malformed::new(at, Rule::ByteLength { expected: N, found })
        })
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, Malformed> {
        let head = self.expect(TEXT, "a text string")?;
        self.utf8(head)
    }

    /// The length of an array.
    pub(crate) fn array(&mut self) -> Result<u64, Malformed> {
        Ok(self.expect(ARRAY, "an array")?.argument)
    }

    /// An array of exactly `expected` elements.
    pub(crate) fn array_of(&mut self, expected: u64) -> Result<(), Malformed> {
        let at = self.at;
        match self.array()? {
            found if found == expected => Ok(()),
            found => Err(Malformed::new(at, Rule::ArrayLength { expected, found })),
        }
    }

    /// The number of entries of a map.
    pub(crate) fn map(&mut self) -> Result<u64, Malformed> {
        Ok(self.expect(MAP, "a map")?.argument)
    }

    /// Any item, checked and left as it is. A tag, map or array in it is at `level` at least.
    pub(crate) fn value(&mut self, level: usize) -> Result<&'a [u8], Malformed> {
        let start = self.at;
        let head = self.head()?;
        match head.major() {
            BYTES => {
                self.take(head)?;
            }
            TEXT => {
                self.utf8(head)?;
            }
            ARRAY | MAP | TAG if level > MAX_EXTENSION_LEVELS => {
                let max = MAX_EXTENSION_LEVELS;
                return Err(Malformed::new(start, Rule::TooDeep { max }));
            }
            ARRAY => {
                for index in 0..head.argument {
                    self.within(format_args!("[{index}]"), |reader| reader.value(level + 1))?;
                }
            }
            MAP => {
                let mut last = None;
                for index in 0..head.argument {
                    let key = self.within(format_args!("[{index}]"), |reader| reader.key(last))?;
                    last = Some(key);
                    self.within(format_args!("[{index}]"), |reader| reader.value(level + 1))?;
                }
            }
            TAG => {
                let at = self.at;
                let inner = self.value(level + 1)?;
                if matches!(head.argument, 2 | 3) {
                    check_bigint(at, inner)?;
                }
            }
            _ => {}
        }
        Ok(self.bytes.get(start..self.at).unwrap_or_default())
    }

    /// A key of a map inside an extension: an integer, a text string or a byte string, after `last` in bytewise order
    /// (MC #data-model-restrictions).
    fn key(&mut self, last: Option<&[u8]>) -> Result<&'a [u8], Malformed> {
        let start = self.at;
        let head = self.head()?;
        match head.major() {
            UNSIGNED | NEGATIVE => check_integer_key(head)?,
            BYTES => {
                self.take(head)?;
            }
            TEXT => {
                self.utf8(head)?;
            }
            _ => return Err(wrong_kind(head, "an integer, a text string or a byte string")),
        }
        let key = self.bytes.get(start..self.at).unwrap_or_default();
        check_order(start, last, key)?;
        Ok(key)
    }

    /// A key of the map of extensions: an integer, or a text of 1 to 255 bytes. With its encoding.
    pub(crate) fn extension_key(&mut self) -> Result<(Key<'a>, &'a [u8]), Malformed> {
        let start = self.at;
        let head = self.head()?;
        let key = match head.major() {
            UNSIGNED | NEGATIVE => {
                check_integer_key(head)?;
                let number = head.argument as i64; // at most 2^53 − 1
                Key::Int(if head.major() == UNSIGNED { number } else { -1 - number })
            }
            TEXT => {
                let text = self.utf8(head)?;
                if text.is_empty() {
                    return Err(Malformed::new(start, Rule::Empty));
                }
                if text.len() > MAX_KEY_BYTES {
                    return Err(Malformed::new(start, Rule::TooLong { max: MAX_KEY_BYTES }));
                }
                Key::Text(text)
            }
            _ => return Err(wrong_kind(head, "an integer or a text string")),
        };
        Ok((key, self.bytes.get(start..self.at).unwrap_or_default()))
    }

    fn expect(&mut self, major: u8, expected: &'static str) -> Result<Head, Malformed> {
        let head = self.head()?;
        if head.major() == major {
            Ok(head)
        } else {
            Err(wrong_kind(head, expected))
        }
    }

    /// As many bytes as the head says.
    fn take(&mut self, head: Head) -> Result<&'a [u8], Malformed> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = usize::try_from(head.argument)
            .ok()
            .and_then(|length| rest.get(..length));
        let Some(taken) = taken else {
            let missing = head.argument - rest.len() as u64;
            return Err(Malformed::new(head.at, Rule::Truncated { missing }));
        };
        self.at += taken.len();
        Ok(taken)
    }

    fn utf8(&mut self, head: Head) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.take(head)?).map_err(|_| Malformed::new(head.at, Rule::NotUtf8))
    }
}

/// A key of the map of extensions.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Key<'a> {
    Int(i64),
    Text(&'a str),
}

/// That `key`, which begins at `at`, comes after `last` (RFC 8949, 4.2.1, third point).
pub(crate) fn check_order(at: usize, last: Option<&[u8]>, key: &[u8]) -> Result<(), Malformed> {
    match last.map(|last| last.cmp(key)) {
        None | Some(std::cmp::Ordering::Less) => Ok(()),
        Some(std::cmp::Ordering::Equal) => Err(Malformed::new(at, Rule::DuplicateKey)),
        Some(std::cmp::Ordering::Greater) => Err(Malformed::new(at, Rule::UnsortedKey)),
    }
}

/// `-1 - n` has the magnitude `n + 1`.
fn check_integer_key(head: Head) -> Result<(), Malformed> {
    let max = if head.major() == UNSIGNED { MAX_KEY } else { MAX_KEY - 1 };
    if head.argument > max {
        return Err(Malformed::new(head.at, Rule::KeyRange));
    }
    Ok(())
}

/// A bigint is a byte string without leading zeros, longer than what integers hold.
fn check_bigint(at: usize, item: &[u8]) -> Result<(), Malformed> {
    let mut reader = Reader::new(item);
    let Ok(bytes) = reader.bytes() else {
        let found = item.first().map_or(Kind::Null, |&first| kind_of(first));
        let expected = "a byte string";
        return Err(Malformed::new(at, Rule::WrongKind { expected, found }));
    };
    if bytes.len() <= 8 || bytes.first() == Some(&0) {
        return Err(Malformed::new(at, Rule::BigintFits));
    }
    Ok(())
}

/// Simple values in two bytes, and floating point numbers.
fn check_simple(head: Head) -> Result<(), Malformed> {
    let bits = head.argument;
    let broken = match head.first & 0x1f {
        24 if bits < 32 => Some(Rule::NotCbor),
        25 if bits & 0x7c00 == 0x7c00 && bits & 0x3ff != 0 && bits != 0x7e00 => Some(Rule::WrongNan),
        26 => {
            let number = f32::from_bits(bits as u32); // four bytes were read
            if number.is_nan() {
                Some(Rule::WrongNan)
            } else {
                fits_half(f64::from(number)).then_some(Rule::FloatNotShortest)
            }
        }
        27 => {
            let number = f64::from_bits(bits);
            if number.is_nan() {
                Some(Rule::WrongNan)
            } else {
                let fits_single = f64::from(number as f32).to_bits() == bits;
                fits_single.then_some(Rule::FloatNotShortest)
            }
        }
        _ => None,
    };
    broken.map_or(Ok(()), |rule| Err(Malformed::new(head.at, rule)))
}

/// Whether a number that is not NaN loses nothing in 16 bits: 11 bits of precision, exponents −14 to 15, and below that
/// multiples of 2^-24.
fn fits_half(number: f64) -> bool {
    let magnitude = number.abs();
    if magnitude == 0.0 || magnitude.is_infinite() {
        return true;
    }
    if magnitude > 65_504.0 {
        return false;
    }
    // The distance of neighbors in 16 bits, at this magnitude.
    let exponent = (((magnitude.to_bits() >> 52) & 0x7ff) as i32 - 1023).max(-14);
    (magnitude / 2_f64.powi(exponent - 10)).fract() == 0.0
}

const fn kind_of(first: u8) -> Kind {
    match first >> 5 {
        UNSIGNED => Kind::Unsigned,
        NEGATIVE => Kind::Negative,
        BYTES => Kind::Bytes,
        TEXT => Kind::Text,
        ARRAY => Kind::Array,
        MAP => Kind::Map,
        TAG => Kind::Tag,
        _ => match first {
            FALSE | TRUE => Kind::Bool,
            NULL => Kind::Null,
            0xf9..=0xfb => Kind::Float,
            _ => Kind::Simple,
        },
    }
}

#[cold]
const fn wrong_kind(head: Head, expected: &'static str) -> Malformed {
    let found = kind_of(head.first);
    Malformed::new(head.at, Rule::WrongKind { expected, found })
}

/// A head in its shortest form.
pub(crate) fn write_head(out: &mut Vec<u8>, major: u8, argument: u64) {
    let major = major << 5;
    if argument < 24 {
        out.push(major | argument as u8);
    } else if let Ok(byte) = u8::try_from(argument) {
        out.extend([major | 24, byte]);
    } else if let Ok(short) = u16::try_from(argument) {
        out.push(major | 25);
        out.extend(short.to_be_bytes());
    } else if let Ok(word) = u32::try_from(argument) {
        out.push(major | 26);
        out.extend(word.to_be_bytes());
    } else {
        out.push(major | 27);
        out.extend(argument.to_be_bytes());
    }
}

pub(crate) fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    write_head(out, BYTES, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(crate) fn write_text(out: &mut Vec<u8>, text: &str) {
    write_head(out, TEXT, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

pub(crate) const UNSIGNED: u8 = 0;
pub(crate) const NEGATIVE: u8 = 1;
pub(crate) const BYTES: u8 = 2;
pub(crate) const TEXT: u8 = 3;
pub(crate) const ARRAY: u8 = 4;
pub(crate) const MAP: u8 = 5;
const TAG: u8 = 6;
const SIMPLE: u8 = 7;
pub(crate) const FALSE: u8 = 0xf4;
pub(crate) const TRUE: u8 = 0xf5;
pub(crate) const NULL: u8 = 0xf6;
/// The map of extensions is level 1.
pub(crate) const VALUE_LEVEL: usize = 2;

#[cfg(test)]
mod tests;
