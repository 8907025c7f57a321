//! What was read, field by field: for people who look at bytes, and for test vectors.

use std::fmt;

use super::error::Step;

/// The fields that were read, in order, each followed by those inside it; the first [`Trace::MAX_ENTRIES`] of them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Trace {
    entries: Vec<Entry>,
    /// The entries that are not closed yet, outermost first. One that was not kept has an index that no entry has.
    open: Vec<usize>,
    left_out: usize,
}

/// One field.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// How many fields and items it is inside of.
    pub depth: usize,
    /// Its name or number.
    pub step: Step,
    /// Its first byte in the whole input. A length prefix or presence octet belongs to the field.
    pub offset: usize,
    /// How many bytes it takes; where the input broke, up to there.
    pub length: usize,
    /// What it holds, unless it has fields of its own.
    pub value: Option<Value>,
}

/// What a field holds that has no fields of its own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Value {
    /// A number.
    Number(u64),
    /// A value of an enumeration, with its name if it is known.
    Named(u64, Option<&'static str>),
    /// A boolean.
    Boolean(bool),
    /// A text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// An optional value that is not there.
    Absent,
}

/// A field with a value, and the way to it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Leaf {
    /// As in `clients[2].client_uri`.
    pub field: String,
    /// As in [`Entry`].
    pub offset: usize,
    /// As in [`Entry`].
    pub length: usize,
    /// What it holds.
    pub value: Value,
}

impl Trace {
    /// How many fields are kept. A tree of blank leaves has a field for each byte, and each takes a hundred bytes here.
    pub const MAX_ENTRIES: usize = 1 << 18;

    /// Every field that was kept, outer before inner.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// How many fields follow those that were kept.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// The fields that hold a value, with their full names.
    pub fn leaves(&self) -> Vec<Leaf> {
        let mut way: Vec<Step> = Vec::new();
        let mut leaves = Vec::new();
        for entry in &self.entries {
            way.truncate(entry.depth);
            way.push(entry.step);
            let Some(value) = &entry.value else { continue };
            let mut field = String::new();
            for step in &way {
                step.append_to(&mut field);
            }
            leaves.push(Leaf {
                field,
                offset: entry.offset,
                length: entry.length,
                value: value.clone(),
            });
        }
        leaves
    }

    pub(super) fn open(&mut self, step: Step, offset: usize) -> usize {
        let index = if self.entries.len() < Self::MAX_ENTRIES {
            self.entries.push(Entry {
                depth: self.open.len(),
                step,
                offset,
                length: 0,
                value: None,
            });
            self.entries.len() - 1
        } else {
            self.left_out += 1;
            usize::MAX
        };
        self.open.push(index);
        index
    }

    pub(super) fn close(&mut self, index: usize, end: usize) {
        self.open.pop();
        if let Some(entry) = self.entries.get_mut(index) {
            entry.length = end - entry.offset;
        }
    }

    pub(super) fn note(&mut self, value: Value) {
        if self.entries.is_empty() {
            // What is read has no fields: its value is all there is.
            self.entries.push(Entry {
                depth: 0,
                step: ROOT,
                offset: 0,
                length: 0,
                value: None,
            });
        }
        let innermost = self.open.last().copied().unwrap_or_default();
        if let Some(entry) = self.entries.get_mut(innermost) {
            entry.value = Some(value);
        }
    }

    pub(super) fn end_at(mut self, end: usize) -> Self {
        if let [root] = self.entries.as_mut_slice()
            && root.step == ROOT
        {
            root.length = end;
        }
        self
    }
}

/// The name of what has no fields and is in none.
const ROOT: Step = Step::Field("");

impl fmt::Display for Value {
    /// Numbers in decimal, an enumeration's name behind its number, bytes in hex.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) | Self::Named(number, None) => write!(f, "{number}"),
            Self::Named(number, Some(name)) => write!(f, "{number} {name}"),
            Self::Boolean(value) => write!(f, "{value}"),
            Self::Text(text) => f.write_str(text),
            Self::Bytes(bytes) => bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
            Self::Absent => f.write_str("absent"),
        }
    }
}
