//! Reading typed fields out of an object, with the place kept for errors.

use nabe_signing::base64u::InvalidBase64;
use nabe_signing::{Json, Number, Object};
use nabe_types::EventId;

use crate::error::{ContentError, Rule};
use crate::label::Label;

/// An object and where it stands in the content.
#[derive(Clone)]
pub(crate) struct Fields<'a> {
    object: &'a Object,
    /// JSON pointer of the object.
    at: String,
}

impl<'a> Fields<'a> {
    /// The content itself.
    pub(crate) const fn root(object: &'a Object) -> Self {
        Self {
            object,
            at: String::new(),
        }
    }

    /// The value that must be an object, standing at `at`.
    pub(crate) fn inside(value: &'a Json, at: String) -> Result<Self, ContentError> {
        match value {
            Json::Object(object) => Ok(Self { object, at }),
            _ => Err(ContentError::Field {
                field: at,
                rule: Rule::NotAnObject,
            }),
        }
    }

    /// That `key` breaks `rule`.
    pub(crate) fn broke(&self, key: &str, rule: Rule) -> ContentError {
        ContentError::Field {
            field: self.pointer(key),
            rule,
        }
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.object.contains_key(key)
    }

    pub(crate) fn get(&self, key: &str) -> Option<&'a Json> {
        self.object.get(key)
    }

    pub(crate) fn optional_object(&self, key: &str) -> Result<Option<Self>, ContentError> {
        self.get(key)
            .map(|value| Self::inside(value, self.pointer(key)))
            .transpose()
    }

    pub(crate) fn object(&self, key: &str) -> Result<Self, ContentError> {
        self.optional_object(key)?.ok_or_else(|| self.broke(key, Rule::Missing))
    }

    /// The objects of a list of at most `max`.
    pub(crate) fn objects(&self, key: &str, max: usize) -> Result<Vec<Self>, ContentError> {
        let Some(value) = self.get(key) else {
            return Err(self.broke(key, Rule::Missing));
        };
        let elements = value.as_array().ok_or_else(|| self.broke(key, Rule::NotAnArray))?;
        if elements.len() > max {
            return Err(self.broke(key, Rule::TooMany { max }));
        }
        let list = self.pointer(key);
        elements
            .iter()
            .enumerate()
            .map(|(index, element)| Self::inside(element, format!("{list}/{index}")))
            .collect()
    }

    pub(crate) fn optional_str(&self, key: &str, max: usize) -> Result<Option<&'a str>, ContentError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let text = value.as_str().ok_or_else(|| self.broke(key, Rule::NotAString))?;
        if text.len() > max {
            return Err(self.broke(key, Rule::TooLong { max }));
        }
        Ok(Some(text))
    }

    pub(crate) fn str(&self, key: &str, max: usize) -> Result<&'a str, ContentError> {
        self.optional_str(key, max)?
            .ok_or_else(|| self.broke(key, Rule::Missing))
    }

    pub(crate) fn optional_label(&self, key: &str) -> Result<Option<Label>, ContentError> {
        self.optional_str(key, Label::MAX_BYTES)?
            .map(|text| Label::new(text).map_err(|rule| self.broke(key, rule)))
            .transpose()
    }

    pub(crate) fn label(&self, key: &str) -> Result<Label, ContentError> {
        self.optional_label(key)?.ok_or_else(|| self.broke(key, Rule::Missing))
    }

    pub(crate) fn optional_number(&self, key: &str, max: u64) -> Result<Option<u64>, ContentError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value
            .as_i64()
            .and_then(|number| u64::try_from(number).ok())
            .filter(|&number| number <= max)
            .map(Some)
            .ok_or_else(|| self.broke(key, Rule::NotANumber { max }))
    }

    pub(crate) fn number(&self, key: &str, max: u64) -> Result<u64, ContentError> {
        self.optional_number(key, max)?
            .ok_or_else(|| self.broke(key, Rule::Missing))
    }

    pub(crate) fn u32(&self, key: &str) -> Result<u32, ContentError> {
        let number = self.number(key, MAX_U32)?;
        u32::try_from(number).map_err(|_| self.broke(key, Rule::NotANumber { max: MAX_U32 }))
    }

    /// A duration in seconds. Some clients write fractions; they are cut off.
    pub(crate) fn optional_seconds(&self, key: &str) -> Result<Option<u32>, ContentError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value
            .as_number()
            .map(Number::as_f64)
            .filter(|seconds| (0.0..=f64::from(u32::MAX)).contains(seconds))
            .map(|seconds| Some(seconds as u32))
            .ok_or_else(|| self.broke(key, Rule::NotANumber { max: MAX_U32 }))
    }

    /// The bytes behind unpadded base64, which must be `N`.
    pub(crate) fn base64<const N: usize>(
        &self,
        key: &str,
        decode: fn(&str) -> Result<Vec<u8>, InvalidBase64>,
    ) -> Result<[u8; N], ContentError> {
        // Padded text of N bytes is at most this long; longer text is not decoded to find that out.
        let text = self.str(key, usize::MAX)?;
        let bytes = if text.len() <= N.div_ceil(3) * 4 {
            decode(text).ok()
        } else {
            None
        };
        bytes
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(|| self.broke(key, Rule::NotBase64 { bytes: N }))
    }

    /// The string under `key`, which must be `expected`.
    pub(crate) fn word(&self, key: &str, expected: &'static str) -> Result<(), ContentError> {
        if self.str(key, usize::MAX)? == expected {
            Ok(())
        } else {
            Err(self.broke(key, Rule::NotTheWord { expected }))
        }
    }

    pub(crate) fn event_id(&self, key: &str) -> Result<EventId, ContentError> {
        EventId::parse(self.str(key, usize::MAX)?).map_err(|_| self.broke(key, Rule::NotAnEventId))
    }

    /// RFC 6901 escapes; none of our own names needs them.
    fn pointer(&self, key: &str) -> String {
        format!("{}/{key}", self.at)
    }
}

const MAX_U32: u64 = u32::MAX as u64;
