//! A strict JSON reader (RFC 8259 grammar, RFC 7493 restrictions).

use nabe_types::limits::{MAX_BODY_BYTES, MAX_JSON_DEPTH, MAX_JSON_VALUES};

use super::writer::plain_run;
use super::{Json, Number, Object};

/// How much a reader takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Longest text in bytes.
    pub max_bytes: usize,
    /// Deepest nesting of arrays and objects; a number alone is depth 0, `[]` is 1. The reader recurses, so this
    /// must fit the stack; the default does.
    pub max_depth: usize,
    /// Most values: one number between two commas takes two bytes of text and many times that in memory.
    pub max_values: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_bytes: MAX_BODY_BYTES,
            max_depth: MAX_JSON_DEPTH,
            max_values: MAX_JSON_VALUES,
        }
    }
}

/// Why bytes are not JSON we accept. Carries nothing of the text itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("invalid JSON at byte {offset}: {rule}")]
pub struct JsonError {
    /// Where reading stopped. For a duplicate key, where its object begins.
    pub offset: usize,
    /// The rule broken there.
    pub rule: JsonRule,
}

/// The rules a JSON text can break.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum JsonRule {
    /// Over [`Limits::max_bytes`].
    #[error("longer than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// Over [`Limits::max_depth`].
    #[error("nested deeper than {limit} levels")]
    TooDeep {
        /// The limit in levels.
        limit: usize,
    },
    /// Over [`Limits::max_values`].
    #[error("more than {limit} values")]
    TooManyValues {
        /// The limit.
        limit: usize,
    },
    /// Not UTF-8, which includes surrogates encoded as if they were characters.
    #[error("not UTF-8")]
    NotUtf8,
    /// The text ends inside a value.
    #[error("ends too early")]
    UnexpectedEnd,
    /// A byte the grammar does not allow there.
    #[error("unexpected byte")]
    UnexpectedByte,
    /// Something other than white space after the value.
    #[error("bytes after the value")]
    TrailingBytes,
    /// An object has the same key twice.
    #[error("duplicate key in an object")]
    DuplicateKey,
    /// `\u` names half of a surrogate pair.
    #[error("lone surrogate")]
    LoneSurrogate,
    /// A control character in a string without escape.
    #[error("unescaped control character")]
    ControlCharacter,
    /// An unknown escape sequence.
    #[error("invalid escape")]
    InvalidEscape,
    /// A number too large for a double.
    #[error("number out of range")]
    NumberRange,
    /// A value where an object must be.
    #[error("not an object")]
    NotAnObject,
    /// A value that has no JSON form, by [`Json::from_serialize`].
    #[error("value has no JSON form")]
    NotSerializable,
}

pub(super) fn read(bytes: &[u8], limits: Limits) -> Result<Json, JsonError> {
    if bytes.len() > limits.max_bytes {
        let rule = JsonRule::TooLarge {
            limit: limits.max_bytes,
        };
        return Err(JsonError {
            offset: limits.max_bytes,
            rule,
        });
    }
    let text = std::str::from_utf8(bytes).map_err(|error| JsonError {
        offset: error.valid_up_to(),
        rule: JsonRule::NotUtf8,
    })?;
    let mut reader = Reader {
        text,
        at: 0,
        depth: 0,
        values: 0,
        limits,
    };
    reader.skip_space();
    let json = reader.value()?;
    reader.skip_space();
    if reader.at < text.len() {
        reader.fail(JsonRule::TrailingBytes)
    } else {
        Ok(json)
    }
}

/// `at` is always at a character boundary: it moves past whole characters or ASCII bytes.
struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    /// Begun so far.
    values: usize,
    limits: Limits,
}

impl Reader<'_> {
    fn value(&mut self) -> Result<Json, JsonError> {
        if self.values == self.limits.max_values {
            let limit = self.limits.max_values;
            return self.fail(JsonRule::TooManyValues { limit });
        }
        self.values += 1;
        match self.peek() {
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::array),
            Some(b'"') => self.string().map(Json::String),
            Some(b'-' | b'0'..=b'9') => self.number().map(Json::Number),
            Some(b't') => self.word("true", Json::Bool(true)),
            Some(b'f') => self.word("false", Json::Bool(false)),
            Some(b'n') => self.word("null", Json::Null),
            _ => self.unexpected(),
        }
    }

    fn nested(&mut self, read: fn(&mut Self) -> Result<Json, JsonError>) -> Result<Json, JsonError> {
        if self.depth == self.limits.max_depth {
            let limit = self.limits.max_depth;
            return self.fail(JsonRule::TooDeep { limit });
        }
        self.depth += 1;
        let json = read(self)?;
        self.depth -= 1;
        Ok(json)
    }

    fn object(&mut self) -> Result<Json, JsonError> {
        let start = self.at;
        let mut entries = Vec::new();
        let mut more = self.open(b'}');
        while more {
            if self.peek() != Some(b'"') {
                return self.unexpected();
            }
            let key = self.string()?;
            self.skip_space();
            self.expect(b':')?;
            self.skip_space();
            entries.push((key, self.value()?));
            more = self.another(b'}')?;
        }
        let duplicate = JsonError {
            offset: start,
            rule: JsonRule::DuplicateKey,
        };
        Object::from_unsorted(entries).map(Json::Object).ok_or(duplicate)
    }

    fn array(&mut self) -> Result<Json, JsonError> {
        let mut elements = Vec::new();
        let mut more = self.open(b']');
        while more {
            elements.push(self.value()?);
            more = self.another(b']')?;
        }
        Ok(Json::Array(elements))
    }

    /// Steps into an array or object; whether it has anything in it.
    fn open(&mut self, close: u8) -> bool {
        self.at += 1;
        self.skip_space();
        let is_empty = self.peek() == Some(close);
        if is_empty {
            self.at += 1;
        }
        !is_empty
    }

    /// Steps over `,` or `close` after an element; whether another element must follow.
    fn another(&mut self, close: u8) -> Result<bool, JsonError> {
        self.skip_space();
        if self.peek() == Some(close) {
            self.at += 1;
            return Ok(false);
        }
        self.expect(b',')?;
        self.skip_space();
        Ok(true)
    }

    fn string(&mut self) -> Result<String, JsonError> {
        self.at += 1;
        let mut string = String::new();
        let mut copied = self.at;
        loop {
            match self.peek() {
                Some(b'"') => {
                    string.push_str(&self.text[copied..self.at]);
                    self.at += 1;
                    return Ok(string);
                }
                Some(b'\\') => {
                    string.push_str(&self.text[copied..self.at]);
                    string.push(self.escape()?);
                    copied = self.at;
                }
                Some(0..=0x1f) => return self.fail(JsonRule::ControlCharacter),
                Some(_) => self.at += plain_run(&self.text.as_bytes()[self.at..]),
                None => return self.fail(JsonRule::UnexpectedEnd),
            }
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        self.at += 1;
        let escaped = match self.peek() {
            Some(b'u') => return self.unicode_escape(),
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(_) => return self.fail(JsonRule::InvalidEscape),
            None => return self.fail(JsonRule::UnexpectedEnd),
        };
        self.at += 1;
        Ok(escaped)
    }

    fn unicode_escape(&mut self) -> Result<char, JsonError> {
        let start = self.at;
        let lone_surrogate = JsonError {
            offset: start - 1,
            rule: JsonRule::LoneSurrogate,
        };
        let first = self.code_unit()?;
        let mut units = [first, 0];
        let mut len = 1;
        if (0xd800..0xdc00).contains(&first) {
            if !self.text[self.at..].starts_with("\\u") {
                return Err(lone_surrogate);
            }
            self.at += 1;
            units[1] = self.code_unit()?;
            len = 2;
        }
        match char::decode_utf16(units.into_iter().take(len)).next() {
            Some(Ok(decoded)) => Ok(decoded),
            _ => Err(lone_surrogate),
        }
    }

    /// `u` and four hexadecimal digits.
    fn code_unit(&mut self) -> Result<u16, JsonError> {
        self.at += 1;
        let mut unit = 0;
        for _ in 0..4 {
            let Some(byte) = self.peek() else {
                return self.fail(JsonRule::UnexpectedEnd);
            };
            let Some(digit) = char::from(byte).to_digit(16) else {
                return self.fail(JsonRule::InvalidEscape);
            };
            unit = unit << 4 | digit;
            self.at += 1;
        }
        Ok(u16::try_from(unit).expect("four hexadecimal digits are 16 bits"))
    }

    fn number(&mut self) -> Result<Number, JsonError> {
        let start = self.at;
        let mut is_integer = true;
        self.skip_if(b"-");
        if !self.skip_if(b"0") {
            self.digits()?;
        }
        if self.skip_if(b".") {
            is_integer = false;
            self.digits()?;
        }
        if self.skip_if(b"eE") {
            is_integer = false;
            self.skip_if(b"+-");
            self.digits()?;
        }
        let text = &self.text[start..self.at];
        if is_integer && let Ok(value) = text.parse::<i64>() {
            return Ok(Number::from(value));
        }
        let value = text.parse().ok().and_then(Number::from_f64);
        value.ok_or(JsonError {
            offset: start,
            rule: JsonRule::NumberRange,
        })
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        if !matches!(self.peek(), Some(b'0'..=b'9')) {
            return self.unexpected();
        }
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        Ok(())
    }

    fn word(&mut self, word: &str, json: Json) -> Result<Json, JsonError> {
        for byte in word.bytes() {
            self.expect(byte)?;
        }
        Ok(json)
    }

    fn expect(&mut self, byte: u8) -> Result<(), JsonError> {
        if self.skip_if(&[byte]) {
            Ok(())
        } else {
            self.unexpected()
        }
    }

    fn skip_if(&mut self, any_of: &[u8]) -> bool {
        let skip = self.peek().is_some_and(|byte| any_of.contains(&byte));
        self.at += usize::from(skip);
        skip
    }

    fn skip_space(&mut self) {
        while self.skip_if(b" \t\n\r") {}
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn unexpected<T>(&self) -> Result<T, JsonError> {
        self.fail(if self.at < self.text.len() {
            JsonRule::UnexpectedByte
        } else {
            JsonRule::UnexpectedEnd
        })
    }

    fn fail<T>(&self, rule: JsonRule) -> Result<T, JsonError> {
        Err(JsonError { offset: self.at, rule })
    }
}
