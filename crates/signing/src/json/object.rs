//! JSON objects, sorted by key as RFC 8785 sorts.

use std::cmp::Ordering;
use std::{slice, vec};

use super::reader::{JsonError, JsonRule, Limits};
use super::{Json, writer};

/// A JSON object. Keys are unique and sorted by UTF-16 code units (RFC 8785, 3.2.3), so iteration is in canonical order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Object {
    entries: Vec<(String, Json)>,
}

impl Object {
    /// `{}`
    #[must_use]
    pub const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// Reads a value that must be an object, under the limits of [`Json::parse`].
    pub fn parse(bytes: &[u8]) -> Result<Self, JsonError> {
        Self::parse_with(bytes, Limits::default())
    }

    /// Reads a value that must be an object, under other limits.
    pub fn parse_with(bytes: &[u8], limits: Limits) -> Result<Self, JsonError> {
        let not_an_object = JsonError {
            offset: 0,
            rule: JsonRule::NotAnObject,
        };
        Json::parse_with(bytes, limits)?.into_object().ok_or(not_an_object)
    }

    /// The value under `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Json> {
        self.find(key).ok().map(|at| &self.entries[at].1)
    }

    /// The value under `key`, to change.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Json> {
        self.find(key).ok().map(|at| &mut self.entries[at].1)
    }

    /// Puts `value` under `key` and returns what was there.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<Json>) -> Option<Json> {
        let (key, value) = (key.into(), value.into());
        match self.find(&key) {
            Ok(at) => Some(std::mem::replace(&mut self.entries[at].1, value)),
            Err(at) => {
                self.entries.insert(at, (key, value));
                None
            }
        }
    }

    /// Takes out the value under `key`.
    pub fn remove(&mut self, key: &str) -> Option<Json> {
        self.find(key).ok().map(|at| self.entries.remove(at).1)
    }

    /// Keeps only the entries for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &Json) -> bool) {
        self.entries.retain(|(key, value)| keep(key, value));
    }

    /// Whether there is a value under `key`, `null` included.
    #[must_use]
    pub fn contains_key(&self, key: &str) -> bool {
        self.find(key).is_ok()
    }

    /// Number of entries.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether this is `{}`.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entries in canonical order.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        Iter(self.entries.iter())
    }

    /// The keys in canonical order.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &str> {
        self.iter().map(|(key, _)| key)
    }

    /// The values in the order of their keys.
    pub fn values(&self) -> impl ExactSizeIterator<Item = &Json> {
        self.iter().map(|(_, value)| value)
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
        writer::write_entries(self.iter(), out);
    }

    /// Appends the canonical form of this object without the entries named in `skip`; objects inside are complete.
    pub fn write_canonical_without(&self, out: &mut Vec<u8>, skip: &[&str]) {
        writer::write_entries(self.iter().filter(|(key, _)| !skip.contains(key)), out);
    }

    /// Sorts what a reader collected; `None` if a key occurs twice.
    pub(super) fn from_unsorted(mut entries: Vec<(String, Json)>) -> Option<Self> {
        // Peers mostly send canonical JSON, which is sorted already.
        if !is_strictly_sorted(&entries) {
            entries.sort_by(|(a, _), (b, _)| utf16_order(a, b));
            if !is_strictly_sorted(&entries) {
                return None;
            }
        }
        // Most objects are small, and a vector that grew by doubling is up to four times as large.
        entries.shrink_to_fit();
        Some(Self { entries })
    }

    fn find(&self, key: &str) -> Result<usize, usize> {
        self.entries.binary_search_by(|(other, _)| utf16_order(other, key))
    }
}

/// Of equal keys the last one stays.
impl<K: Into<String>, V: Into<Json>> FromIterator<(K, V)> for Object {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut object = Self::new();
        object.extend(entries);
        object
    }
}

impl<K: Into<String>, V: Into<Json>> Extend<(K, V)> for Object {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        for (key, value) in entries {
            self.insert(key, value);
        }
    }
}

impl IntoIterator for Object {
    type Item = (String, Json);
    type IntoIter = vec::IntoIter<(String, Json)>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

impl<'a> IntoIterator for &'a Object {
    type Item = (&'a str, &'a Json);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Iterator over an object's entries in canonical order, by [`Object::iter`].
#[derive(Clone, Debug)]
pub struct Iter<'a>(slice::Iter<'a, (String, Json)>);

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a str, &'a Json);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(key, value)| (key.as_str(), value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for Iter<'_> {}

fn is_strictly_sorted(entries: &[(String, Json)]) -> bool {
    entries.is_sorted_by(|(a, _), (b, _)| utf16_order(a, b).is_lt())
}

/// Compares as UTF-16 code units would. UTF-8 bytes sort the same, but for characters beyond the BMP: their surrogates
/// (D800 to DFFF) come before U+E000 to U+FFFF, while their first byte (F0 to F4) comes after the latter's (EE, EF).
pub(super) fn utf16_order(a: &str, b: &str) -> Ordering {
    fn rank(byte: u8) -> u8 {
        if byte == 0xee || byte == 0xef {
            byte + 0x10
        } else {
            byte
        }
    }
    let first_difference = a.bytes().zip(b.bytes()).find(|(x, y)| x != y);
    first_difference.map_or_else(|| a.len().cmp(&b.len()), |(x, y)| rank(x).cmp(&rank(y)))
}
