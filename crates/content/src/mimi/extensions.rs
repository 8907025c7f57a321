//! Extension fields (MC #extension-fields): the only map of the format, in the bytewise order of its encoded keys.

use std::cmp::Ordering;
use std::fmt;

use super::cbor::{CborValue, Key, MAP, NEGATIVE, Reader, UNSIGNED, VALUE_LEVEL, check_order, write_head, write_text};
use super::error::{Kind, Malformed, Rule};
use super::limits::{MAX_KEY, MAX_KEY_BYTES};

/// The name of an extension: an integer of magnitude at most 2^53 − 1 or a text of 1 to 255 bytes. Positive integers are assigned
/// by IANA, the others are for private use (MC #keys-registry). Ordered as they are encoded.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ExtensionKey(Repr);

#[derive(Clone, Debug, Eq, PartialEq)]
enum Repr {
    Int(i64),
    Text(String),
}

impl ExtensionKey {
    /// The sender as a participant, a text.
    pub const SENDER_URI: Self = Self(Repr::Int(1));
    /// The room, a text.
    pub const ROOM_URI: Self = Self(Repr::Int(2));

    /// An integer key. 0 is reserved, so there is none to write; what came under it is kept.
    pub const fn int(number: i64) -> Result<Self, Rule> {
        if number == 0 {
            return Err(Rule::KeyReserved);
        }
        if number.unsigned_abs() > MAX_KEY {
            return Err(Rule::KeyRange);
        }
        Ok(Self(Repr::Int(number)))
    }

    /// A text key.
    pub fn text(name: impl Into<String>) -> Result<Self, Rule> {
        let name = name.into();
        match name.len() {
            0 => Err(Rule::Empty),
            1..=MAX_KEY_BYTES => Ok(Self(Repr::Text(name))),
            _ => Err(Rule::TooLong { max: MAX_KEY_BYTES }),
        }
    }

    /// The number, if it is one.
    #[must_use]
    pub const fn as_int(&self) -> Option<i64> {
        match self.0 {
            Repr::Int(number) => Some(number),
            Repr::Text(_) => None,
        }
    }

    /// The text, if it is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match &self.0 {
            Repr::Int(_) => None,
            Repr::Text(name) => Some(name),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match &self.0 {
            Repr::Int(number @ 0..) => write_head(out, UNSIGNED, number.unsigned_abs()),
            Repr::Int(number) => write_head(out, NEGATIVE, number.unsigned_abs() - 1),
            Repr::Text(name) => write_text(out, name),
        }
    }
}

impl From<Key<'_>> for ExtensionKey {
    fn from(key: Key<'_>) -> Self {
        Self(match key {
            Key::Int(number) => Repr::Int(number),
            Key::Text(name) => Repr::Text(name.to_owned()),
        })
    }
}

/// The number, or the text in quotes.
impl fmt::Display for ExtensionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::Int(number) => number.fmt(f),
            Repr::Text(name) => write!(f, "{name:?}"),
        }
    }
}

impl Ord for ExtensionKey {
    fn cmp(&self, other: &Self) -> Ordering {
        match (&self.0, &other.0) {
            (Repr::Int(this @ 0..), Repr::Int(that @ 0..)) => this.cmp(that),
            (Repr::Int(this), Repr::Int(that)) if *this < 0 && *that < 0 => that.cmp(this),
            (Repr::Int(0..), Repr::Int(_)) | (Repr::Int(_), Repr::Text(_)) => Ordering::Less,
            (Repr::Int(_), Repr::Int(_)) | (Repr::Text(_), Repr::Int(_)) => Ordering::Greater,
            (Repr::Text(this), Repr::Text(that)) => this.len().cmp(&that.len()).then_with(|| this.cmp(that)),
        }
    }
}

impl PartialOrd for ExtensionKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The extensions of one message. Those we do not know are kept as they are.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Extensions {
    /// In the order of the keys.
    entries: Vec<(ExtensionKey, CborValue)>,
}

impl Extensions {
    /// No extensions.
    #[must_use]
    pub const fn new() -> Self {
        let entries = Vec::new();
        Self { entries }
    }

    /// What the message says about who sent it. Its sender says so: see [`super::franking`] for who checks it.
    #[must_use]
    pub fn sender_uri(&self) -> Option<&str> {
        self.get(&ExtensionKey::SENDER_URI).and_then(CborValue::as_text)
    }

    /// What the message says about the room it is for.
    #[must_use]
    pub fn room_uri(&self) -> Option<&str> {
        self.get(&ExtensionKey::ROOM_URI).and_then(CborValue::as_text)
    }

    /// The value under `key`.
    #[must_use]
    pub fn get(&self, key: &ExtensionKey) -> Option<&CborValue> {
        let at = self.find(key).ok()?;
        self.entries.get(at).map(|(_, value)| value)
    }

    /// Puts `value` under `key` and returns what was there. Sender and room must be texts.
    pub fn insert(&mut self, key: ExtensionKey, value: CborValue) -> Result<Option<CborValue>, Rule> {
        check_known(&key, value.kind())?;
        Ok(match self.find(&key) {
            Ok(at) => self.entries.get_mut(at).map(|(_, old)| std::mem::replace(old, value)),
            Err(at) => {
                self.entries.insert(at, (key, value));
                None
            }
        })
    }

    /// All of them, in the order of their encoding.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&ExtensionKey, &CborValue)> {
        self.entries.iter().map(|(key, value)| (key, value))
    }

    fn find(&self, key: &ExtensionKey) -> Result<usize, usize> {
        self.entries.binary_search_by(|(found, _)| found.cmp(key))
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let count = reader.map()?;
        // The bytes behind the count are not there yet; a message mostly has these two.
        let mut entries = Vec::with_capacity(count.min(2) as usize);
        let mut last = None;
        for index in 0..count {
            let at = reader.offset();
            let (key, encoded) = reader.within(format_args!("[{index}]"), |reader| {
                let (key, encoded) = reader.extension_key()?;
                check_order(at, last, encoded)?;
                Ok((ExtensionKey::from(key), encoded))
            })?;
            last = Some(encoded);
            let at = reader.offset();
            let value = reader
                .value(VALUE_LEVEL)
                .map(|value| CborValue::checked(value.to_vec()))
                .and_then(|value| match check_known(&key, value.kind()) {
                    Ok(()) => Ok(value),
                    Err(rule) => Err(Malformed::new(at, rule)),
                })
                .map_err(|error| error.inside(format_args!("[{key}]")))?;
            entries.push((key, value));
        }
        Ok(Self { entries })
    }

    /// About how many bytes they take, rather too many, to reserve them at once.
    pub(crate) fn about_len(&self) -> usize {
        let key = |key: &ExtensionKey| key.as_text().map_or(9, |name| name.len() + 2);
        let entries = self.entries.iter();
        entries
            .map(|(name, value)| key(name) + value.as_cbor().len())
            .sum::<usize>()
            + 3
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        write_head(out, MAP, self.entries.len() as u64);
        for (key, value) in &self.entries {
            key.write(out);
            out.extend_from_slice(value.as_cbor());
        }
    }
}

/// Sender and room are texts.
fn check_known(key: &ExtensionKey, found: Kind) -> Result<(), Rule> {
    let is_text = [ExtensionKey::SENDER_URI, ExtensionKey::ROOM_URI].contains(key);
    if is_text && found != Kind::Text {
        let expected = "a text string";
        return Err(Rule::WrongKind { expected, found });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_zero_is_kept_and_nobodys_to_set() {
        assert_eq!(ExtensionKey::int(0), Err(Rule::KeyReserved));
        let came = [0xa1, 0x00, 0x18, 0x2a];
        let extensions = Extensions::read(&mut Reader::new(&came)).unwrap();
        assert_eq!(extensions.iter().next().unwrap().0.as_int(), Some(0));
        let mut written = Vec::new();
        extensions.write(&mut written);
        assert_eq!(written, came);
    }
}
