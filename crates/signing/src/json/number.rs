//! JSON numbers: finite doubles, with the safe integers among them kept as integers.

use nabe_types::limits::MAX_SAFE_INTEGER;

/// A finite double. Two numbers are equal when they are the same double; `-0` is `0`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Number(pub(super) Repr);

/// `Integer` for every whole number within ±(2^53 − 1), `Float` for all others, so each double has one form.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Repr {
    Integer(i64),
    Float(f64),
}

// Never a NaN, so equality is reflexive.
impl Eq for Number {}

impl Number {
    /// The number `value`; `None` for infinities and NaN, which JSON does not have.
    #[must_use]
    pub fn from_f64(value: f64) -> Option<Self> {
        if !value.is_finite() {
            return None;
        }
        // Exact: whole numbers of this size fit both types.
        if value.trunc() == value && value.abs() <= MAX_SAFE_INTEGER as f64 {
            return Some(Self(Repr::Integer(value as i64)));
        }
        Some(Self(Repr::Float(value)))
    }

    /// The integer, if this is a whole number within ±(2^53 − 1).
    #[must_use]
    pub const fn as_i64(self) -> Option<i64> {
        match self.0 {
            Repr::Integer(value) => Some(value),
            Repr::Float(_) => None,
        }
    }

    /// The double itself.
    #[must_use]
    pub const fn as_f64(self) -> f64 {
        match self.0 {
            Repr::Integer(value) => value as f64,
            Repr::Float(value) => value,
        }
    }
}

/// Integers beyond ±(2^53 − 1) become the nearest double.
impl From<i64> for Number {
    fn from(value: i64) -> Self {
        if value.unsigned_abs() <= MAX_SAFE_INTEGER.unsigned_abs() {
            Self(Repr::Integer(value))
        } else {
            Self(Repr::Float(value as f64))
        }
    }
}
