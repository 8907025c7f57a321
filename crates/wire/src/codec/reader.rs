//! A position in the input, the end of the innermost vector, and maybe a trace.

use super::error::{DecodeError, Rule, Step};
use super::trace::{Trace, Value};
use super::{Decode, length_width};

/// Reads an input from front to back.
#[derive(Debug)]
pub struct Reader<'a> {
    input: &'a [u8],
    /// Never beyond `end`.
    at: usize,
    /// Where the innermost vector ends, or the input.
    end: usize,
    trace: Option<Trace>,
}

impl<'a> Reader<'a> {
    /// At the beginning of `input`.
    pub fn new(input: &'a [u8]) -> Self {
        Self {
            input,
            at: 0,
            end: input.len(),
            trace: None,
        }
    }

    /// The same, keeping a trace of every field.
    pub fn traced(input: &'a [u8]) -> Self {
        Self {
            trace: Some(Trace::default()),
            ..Self::new(input)
        }
    }

    /// How many bytes of the whole input lie behind.
    pub fn position(&self) -> usize {
        self.at
    }

    /// How many bytes are left of the innermost vector, or of the input outside of any.
    pub fn left(&self) -> usize {
        self.end - self.at
    }

    /// What was read since `start`, an earlier [`Self::position`].
    pub fn since(&self, start: usize) -> &'a [u8] {
        self.input.get(start..self.at).unwrap_or_default()
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// [`Rule::Truncated`].
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let left = self.left();
        if count > left {
            return Err(self.error(Rule::Truncated { needed: count, left }));
        }
        let taken = &self.input[self.at..self.at + count];
        self.at += count;
        Ok(taken)
    }

    /// Everything up to the end of the innermost vector, or of the input.
    pub fn rest(&mut self) -> &'a [u8] {
        let rest = &self.input[self.at..self.end];
        self.at = self.end;
        rest
    }

    /// The next bytes as an array.
    ///
    /// # Errors
    /// [`Rule::Truncated`].
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// The length prefix of a vector, all of whose bytes are there.
    ///
    /// # Errors
    /// [`Rule::ReservedLength`], [`Rule::NotMinimal`] or [`Rule::Truncated`], all at the prefix's first byte.
    pub fn length(&mut self) -> Result<usize, DecodeError> {
        let start = self.at;
        let [first] = self.array()?;
        let width = match first >> 6 {
            0 => 1,
            1 => 2,
            2 => 4,
            _ => return Err(DecodeError::new(start, Rule::ReservedLength)),
        };
        if self.left() < width - 1 {
            let left = self.left() + 1;
            return Err(DecodeError::new(start, Rule::Truncated { needed: width, left }));
        }
        let mut length = usize::from(first & 0x3f);
        for &byte in self.take(width - 1)? {
            length = length << 8 | usize::from(byte);
        }
        if width != length_width(length) {
            return Err(DecodeError::new(start, Rule::NotMinimal { length, width }));
        }
        let left = self.left();
        if length > left {
            return Err(DecodeError::new(start, Rule::Truncated { needed: length, left }));
        }
        Ok(length)
    }

    /// The content of `opaque x<V>`.
    ///
    /// # Errors
    /// As [`Self::length`].
    pub fn opaque(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.length()?;
        self.take(length)
    }

    /// The items of `T x<V>`, each read by `item`, which must consume at least a byte.
    ///
    /// # Errors
    /// As [`Self::length`], or what breaks in an item.
    pub fn vector<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let length = self.length()?;
        let outer = std::mem::replace(&mut self.end, self.at + length);
        // No capacity up front: what items take in memory is not what they take on the wire.
        let mut items = Vec::new();
        while self.left() > 0 {
            let step = Step::Item(items.len());
            items.push(self.step(step, &mut item)?);
        }
        self.end = outer;
        Ok(items)
    }

    /// The named field: what breaks inside is told with this name, and a trace gets an entry.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn field<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        self.step(Step::Field(name), read)
    }

    /// A field that decodes by itself.
    ///
    /// # Errors
    /// Those of its type.
    pub fn read<T: Decode>(&mut self, name: &'static str) -> Result<T, DecodeError> {
        self.field(name, T::decode)
    }

    pub(crate) fn step<T>(
        &mut self,
        step: Step,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        let opened = self.trace.as_mut().map(|trace| trace.open(step, self.at));
        let result = read(self).map_err(|error| error.within(step));
        if let (Some(trace), Some(opened)) = (self.trace.as_mut(), opened) {
            trace.close(opened, self.at);
        }
        result
    }

    /// Tells a trace what the innermost field holds.
    pub fn note(&mut self, value: impl FnOnce() -> Value) {
        if let Some(trace) = self.trace.as_mut() {
            trace.note(value());
        }
    }

    /// The rule, broken at what comes next.
    pub fn error(&self, rule: Rule) -> DecodeError {
        DecodeError::new(self.at, rule)
    }

    pub(crate) fn into_trace(self) -> Trace {
        self.trace.unwrap_or_default().end_at(self.at)
    }
}
