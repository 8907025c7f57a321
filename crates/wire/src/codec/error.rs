//! Why bytes are no encoding of what they should be: offset, field and rule.

use std::fmt;

/// Where an input breaks, and by which rule.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("byte {offset}, {}: {rule}", self.place())]
pub struct DecodeError {
    offset: usize,
    /// Innermost first: steps are added on the way out.
    path: Vec<Step>,
    rule: Rule,
}

/// One step of the way from a struct to a field in it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// A named field.
    Field(&'static str),
    /// An item of a vector, counted from 0.
    Item(usize),
}

/// The rule that was broken.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Rule {
    /// The input, or the vector that this is in, ends too early.
    #[error("needs {needed} bytes, {left} are left")]
    Truncated {
        /// How many bytes the field or vector needs.
        needed: usize,
        /// How many there are up to the end of the enclosing vector or of the input.
        left: usize,
    },
    /// A length prefix is longer than its value needs (RFC 9420 section 2.1.2).
    #[error("length {length} is written in {width} bytes, not in its shortest form")]
    NotMinimal {
        /// The length it states.
        length: usize,
        /// How many bytes it takes.
        width: usize,
    },
    /// A length prefix begins with the bits `11`, which MLS reserves.
    #[error("a length prefix cannot begin with the bits 11")]
    ReservedLength,
    /// Longer than the limit for this field or message.
    #[error("{length} bytes, limit {max}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// Something follows the end.
    #[error("{left} bytes follow the end")]
    TrailingBytes {
        /// How many.
        left: usize,
    },
    /// A text is not UTF-8.
    #[error("not UTF-8")]
    NotUtf8,
    /// A text has a null character where the draft forbids it.
    #[error("a null character")]
    Nul,
    /// A boolean is neither 0 nor 1.
    #[error("a boolean is 0 or 1, not {value}")]
    NotBoolean {
        /// What it is.
        value: u8,
    },
    /// The presence octet of an optional value is neither 0 nor 1.
    #[error("the presence octet of an optional value is 0 or 1, not {value}")]
    NotPresence {
        /// What it is.
        value: u8,
    },
    /// A value of an enumeration that has no room for more.
    #[error("{value} is no value of this closed enumeration")]
    NotInEnumeration {
        /// What it is.
        value: u64,
    },
    /// What follows depends on a value that no arm is defined for.
    #[error("{value} selects nothing that is defined")]
    UnknownSelector {
        /// What it is.
        value: u64,
    },
    /// Entries that must be in ascending order are not.
    #[error("{value} does not come after {previous}")]
    Unsorted {
        /// The key of the entry before.
        previous: u64,
        /// The key of this entry.
        value: u64,
    },
    /// Two entries have the same key.
    #[error("{value} is there twice")]
    Duplicate {
        /// The key.
        value: u64,
    },
    /// A list that needs an entry has none.
    #[error("must not be empty")]
    Empty,
    /// A list that must be empty is not, given the status before it.
    #[error("must be empty with status {status}")]
    NotEmpty {
        /// That status.
        status: u8,
    },
    /// An MLS message of a wire format that has no place here.
    #[error("an MLS message of wire format {found} has no place here")]
    WireFormat {
        /// Its wire format.
        found: u16,
    },
    /// An MLS message with content that has no place here.
    #[error("an MLS message of content type {found} has no place here")]
    ContentType {
        /// Its content type.
        found: u8,
    },
    /// Not an absolute URI: a scheme, a colon, and characters of RFC 3986.
    #[error("not a URI")]
    NotUri,
    /// An extension that this struct must not carry.
    #[error("extension {found} has no place here")]
    Extension {
        /// Its type.
        found: u16,
    },
}

impl Rule {
    /// Its name without the particulars: what test vectors state.
    pub fn name(self) -> &'static str {
        match self {
            Self::Truncated { .. } => "truncated",
            Self::NotMinimal { .. } => "not-minimal",
            Self::ReservedLength => "reserved-length",
            Self::TooLong { .. } => "too-long",
            Self::TrailingBytes { .. } => "trailing-bytes",
            Self::NotUtf8 => "not-utf8",
            Self::Nul => "nul",
            Self::NotBoolean { .. } => "not-boolean",
            Self::NotPresence { .. } => "not-presence",
            Self::NotInEnumeration { .. } => "not-in-enumeration",
            Self::UnknownSelector { .. } => "unknown-selector",
            Self::Unsorted { .. } => "unsorted",
            Self::Duplicate { .. } => "duplicate",
            Self::Empty => "empty",
            Self::NotEmpty { .. } => "not-empty",
            Self::WireFormat { .. } => "wire-format",
            Self::ContentType { .. } => "content-type",
            Self::NotUri => "not-uri",
            Self::Extension { .. } => "extension",
        }
    }
}

impl DecodeError {
    /// An error at this byte of the whole input.
    pub fn new(offset: usize, rule: Rule) -> Self {
        Self {
            offset,
            path: Vec::new(),
            rule,
        }
    }

    /// [`Rule::UnknownSelector`], by a field that was read already.
    pub(crate) fn unknown(offset: usize, field: &'static str, value: impl Into<u64>) -> Self {
        let value = value.into();
        Self::new(offset, Rule::UnknownSelector { value }).within(Step::Field(field))
    }

    /// At which byte of the input the thing begins that breaks the rule.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// The rule that was broken.
    pub fn rule(&self) -> Rule {
        self.rule
    }

    /// The way to the field, from the outermost struct inward. Empty if the input as a whole is at fault.
    pub fn path(&self) -> impl Iterator<Item = Step> {
        self.path.iter().rev().copied()
    }

    /// The field, as in `clients[2].key_package.signature`. Empty if the input as a whole is at fault.
    pub fn field(&self) -> String {
        let mut field = String::new();
        for step in self.path() {
            step.append_to(&mut field);
        }
        field
    }

    pub(crate) fn within(mut self, step: Step) -> Self {
        self.path.push(step);
        self
    }

    fn place(&self) -> String {
        let field = self.field();
        if field.is_empty() {
            "the whole input".to_owned()
        } else {
            format!("field {field}")
        }
    }
}

impl Step {
    /// Appends `.name` or `[0]`; the first name comes without a dot.
    pub(crate) fn append_to(self, path: &mut String) {
        if matches!(self, Self::Field(_)) && !path.is_empty() {
            path.push('.');
        }
        path.push_str(&self.to_string());
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => f.write_str(name),
            Self::Item(index) => write!(f, "[{index}]"),
        }
    }
}
