//! Why bytes are not MIMI content: where, in which field, against which rule.

use std::fmt;

/// Why bytes are not what they should be, or why a value cannot be written. Carries nothing of the message's text but the names of
/// extensions, escaped.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{field} at byte {offset}: {rule}")]
pub struct Malformed {
    /// The first byte of the CBOR item that breaks the rule; of what follows the message, for [`Rule::TrailingBytes`].
    pub offset: usize,
    /// The field by the names of the draft's CDDL, such as `nestedPart.parts[1].language`. In maps, what is wrong with a key is at its
    /// number (`mimiExtensions[0]` is the first key), what is wrong with an extension's value at its key
    /// (`mimiExtensions[256][0]`, the first element of what is under 256).
    pub field: String,
    /// The rule it breaks.
    pub rule: Rule,
}

impl Malformed {
    #[cold]
    pub(crate) const fn new(offset: usize, rule: Rule) -> Self {
        let field = String::new();
        Self { offset, field, rule }
    }

    /// The same, seen from one level further out.
    #[cold]
    pub(crate) fn inside(mut self, segment: impl fmt::Display) -> Self {
        let separator = if self.field.is_empty() || self.field.starts_with('[') {
            ""
        } else {
            "."
        };
        self.field = format!("{segment}{separator}{}", self.field);
        self
    }

    /// The same, with the name of the whole for what is wrong with the whole.
    #[cold]
    pub(crate) fn of(mut self, whole: &str) -> Self {
        if self.field.is_empty() {
            whole.clone_into(&mut self.field);
        }
        self
    }
}

/// The rules that bytes can break. Those without a section are CBOR's own (RFC 8949).
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Rule {
    /// The message is larger than this implementation reads (MC #general-handling).
    #[error("larger than {max} bytes")]
    TooLarge {
        /// The limit in bytes.
        max: usize,
    },
    /// The bytes end before the item does; lengths that lie end here too.
    #[error("ends {missing} bytes early")]
    Truncated {
        /// How many bytes are missing at least.
        missing: u64,
    },
    /// Bytes follow the message.
    #[error("{count} bytes follow")]
    TrailingBytes {
        /// How many.
        count: usize,
    },
    /// An item of another kind belongs here.
    #[error("is {found}, must be {expected}")]
    WrongKind {
        /// What belongs here.
        expected: &'static str,
        /// What is here.
        found: Kind,
    },
    /// An integer, length or tag number takes more bytes than it needs (MC #encoding-restrictions).
    #[error("number not in its shortest form")]
    NotShortest,
    /// A floating point number takes more bytes than it needs (MC #encoding-restrictions).
    #[error("floating point number not in its shortest form")]
    FloatNotShortest,
    /// A NaN other than F97E00 (MC #data-model-restrictions).
    #[error("a NaN other than F97E00")]
    WrongNan,
    /// A bigint with leading zeros, or one that fits an integer (MC #encoding-restrictions).
    #[error("bigint that fits a shorter form")]
    BigintFits,
    /// A length that comes later (MC #encoding-restrictions).
    #[error("indefinite length")]
    Indefinite,
    /// A first byte that CBOR does not have.
    #[error("not CBOR")]
    NotCbor,
    /// Text that is not UTF-8 (MC #data-model-restrictions).
    #[error("text is not UTF-8")]
    NotUtf8,
    /// An array of the wrong length.
    #[error("has {found} elements, must have {expected}")]
    ArrayLength {
        /// How many elements belong here.
        expected: u64,
        /// How many there are.
        found: u64,
    },
    /// A byte string of the wrong length.
    #[error("has {found} bytes, must have {expected}")]
    ByteLength {
        /// How many bytes belong here.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// A string over its limit.
    #[error("longer than {max} bytes")]
    TooLong {
        /// The limit in bytes.
        max: usize,
    },
    /// Must have content.
    #[error("empty")]
    Empty,
    /// A number over its limit.
    #[error("more than {max}")]
    TooLargeNumber {
        /// The limit.
        max: u64,
    },
    /// A key of a map that is smaller than the one before it, in bytewise order (MC #encoding-restrictions).
    #[error("key out of order")]
    UnsortedKey,
    /// A key that its map has already (MC #extension-fields).
    #[error("key twice in one map")]
    DuplicateKey,
    /// An integer key whose magnitude is above 2^53 − 1 (MC #data-model-restrictions).
    #[error("integer key beyond 2^53 - 1")]
    KeyRange,
    /// Key 0 of extensions, which nobody may write (MC #keys-registry).
    #[error("key 0 is reserved")]
    KeyReserved,
    /// Tags, maps, arrays or parts in too many levels (MC #depth-restrictions).
    #[error("more than {max} levels deep")]
    TooDeep {
        /// The limit in levels.
        max: usize,
    },
    /// More parts than a message may have (MC #general-handling).
    #[error("more than {max} parts")]
    TooManyParts {
        /// The limit in parts.
        max: usize,
    },
    /// A `MultiPart` of fewer than two parts (MC #message-bodies).
    #[error("fewer than 2 parts")]
    TooFewParts,
    /// A cardinality that is none of nullpart, single, external, multi (MC #message-bodies).
    #[error("unknown cardinality {0}")]
    UnknownCardinality(u64),
    /// Part semantics that are none of chooseOne, singleUnit, processAll (MC #general-handling).
    #[error("unknown part semantics {0}")]
    UnknownSemantics(u64),
    /// A message ID whose first octet names a hash algorithm we do not know (MC #general-handling).
    #[error("message ID with unknown hash algorithm {0}")]
    UnknownHash(u8),
    /// Something for an algorithm where none is named: key, nonce, aad without `encAlg`, contentHash without `hashAlg`
    /// (MC #external).
    #[error("must be empty where no algorithm is named")]
    WithoutAlgorithm,
    /// Not a list of language tags (MC #message-bodies). Only when writing.
    #[error("not a list of language tags")]
    NotLanguages,
}

impl Rule {
    /// Its name without the particulars.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "too-large",
            Self::Truncated { .. } => "truncated",
            Self::TrailingBytes { .. } => "trailing-bytes",
            Self::WrongKind { .. } => "wrong-kind",
            Self::NotShortest => "not-shortest",
            Self::FloatNotShortest => "float-not-shortest",
            Self::WrongNan => "wrong-nan",
            Self::BigintFits => "bigint-fits",
            Self::Indefinite => "indefinite",
            Self::NotCbor => "not-cbor",
            Self::NotUtf8 => "not-utf8",
            Self::ArrayLength { .. } => "array-length",
            Self::ByteLength { .. } => "byte-length",
            Self::TooLong { .. } => "too-long",
            Self::Empty => "empty",
            Self::TooLargeNumber { .. } => "too-large-number",
            Self::UnsortedKey => "unsorted-key",
            Self::DuplicateKey => "duplicate-key",
            Self::KeyRange => "key-range",
            Self::KeyReserved => "key-reserved",
            Self::TooDeep { .. } => "too-deep",
            Self::TooManyParts { .. } => "too-many-parts",
            Self::TooFewParts => "too-few-parts",
            Self::UnknownCardinality(_) => "unknown-cardinality",
            Self::UnknownSemantics(_) => "unknown-semantics",
            Self::UnknownHash(_) => "unknown-hash",
            Self::WithoutAlgorithm => "without-algorithm",
            Self::NotLanguages => "not-languages",
        }
    }
}

/// Kinds of CBOR items.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Major type 0.
    Unsigned,
    /// Major type 1.
    Negative,
    /// Major type 2.
    Bytes,
    /// Major type 3.
    Text,
    /// Major type 4.
    Array,
    /// Major type 5.
    Map,
    /// Major type 6.
    Tag,
    /// `false` or `true`.
    Bool,
    /// `null`
    Null,
    /// A floating point number.
    Float,
    /// Any other simple value.
    Simple,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unsigned => "an unsigned integer",
            Self::Negative => "a negative integer",
            Self::Bytes => "a byte string",
            Self::Text => "a text string",
            Self::Array => "an array",
            Self::Map => "a map",
            Self::Tag => "a tag",
            Self::Bool => "a boolean",
            Self::Null => "null",
            Self::Float => "a floating point number",
            Self::Simple => "a simple value",
        })
    }
}
