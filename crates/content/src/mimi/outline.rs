//! Bytes of a message field by field, for tools that show where what is, and how far malformed bytes make sense.

use super::cbor::{CborValue, Key, NULL, Reader, VALUE_LEVEL};
use super::content::MimiContent;
use super::error::{Kind, Malformed};
use super::limits::{MAX_PART_LEVELS, MAX_PARTS};
use super::part::Disposition;
use super::status::{MAX_ENTRIES, MessageStatus, StatusReport};

/// One field of a message, where it stands and what it says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Field {
    /// The field, named as in [`Malformed::field`].
    pub name: String,
    /// Its first byte.
    pub offset: usize,
    /// How many bytes it takes, its head included.
    pub length: usize,
    /// What it says, in CBOR's diagnostic notation; long strings are cut.
    pub value: String,
}

/// The fields of a message as far as they can be read, and why the bytes are no message, if they are none. Text in it is escaped,
/// so it is safe to print.
///
/// ```
/// use nabe_content::mimi::outline;
///
/// let (fields, problem) = outline(&[0x87, 0x42, 1, 2]);
/// assert_eq!((fields[0].name.as_str(), fields[0].offset, fields[0].length), ("salt", 1, 3));
/// assert_eq!(fields[0].value, "h'0102'");
/// assert_eq!(problem.expect("a salt has 16 bytes").to_string(), "salt at byte 1: has 2 bytes, must have 16");
/// ```
#[must_use]
pub fn outline(bytes: &[u8]) -> (Vec<Field>, Option<Malformed>) {
    let problem = MimiContent::decode(bytes).err();
    let mut walk = Walk {
        reader: Reader::new(bytes),
        fields: Vec::new(),
        parts: 0,
    };
    // Where the walk ends, the problem says why.
    let _ = walk.message();
    (walk.fields, problem)
}

/// The entries of a message status report as far as they can be read, and why the bytes are no report, if they are none.
///
/// ```
/// use nabe_content::mimi::status_outline;
///
/// let (fields, problem) = status_outline(&[0x81, 0x82, 0x41, 1, 2]);
/// assert_eq!((fields[0].name.as_str(), fields[0].offset, fields[0].length), ("[0].messageId", 2, 2));
/// assert_eq!((fields[1].name.as_str(), fields[1].value.as_str()), ("[0].status", "2 (read)"));
/// assert_eq!(problem.expect("an ID has 32 bytes").to_string(), "[0].messageId at byte 2: has 1 bytes, must have 32");
/// ```
#[must_use]
pub fn status_outline(bytes: &[u8]) -> (Vec<Field>, Option<Malformed>) {
    let problem = StatusReport::decode(bytes).err();
    let mut walk = Walk {
        reader: Reader::new(bytes),
        fields: Vec::new(),
        parts: 0,
    };
    let _ = walk.report();
    (walk.fields, problem)
}

struct Walk<'a> {
    reader: Reader<'a>,
    fields: Vec<Field>,
    parts: usize,
}

impl Walk<'_> {
    fn message(&mut self) -> Result<(), Malformed> {
        self.reader.array_of(7)?;
        for name in ["salt", "replaces", "topicId"] {
            self.item(name)?;
        }
        if self.reader.is_next(NULL) {
            self.item("expires")?;
        } else {
            self.reader.array_of(2)?;
            self.item("expires.relative")?;
            self.item("expires.time")?;
        }
        self.item("inReplyTo")?;
        for _ in 0..self.reader.map()? {
            let key = match self.reader.extension_key()?.0 {
                Key::Int(number) => number.to_string(),
                Key::Text(name) => format!("{name:?}"),
            };
            self.item(&format!("mimiExtensions[{key}]"))?;
        }
        self.part("nestedPart", 1)
    }

    fn report(&mut self) -> Result<(), Malformed> {
        for index in 0..self.reader.array()?.min(MAX_ENTRIES as u64) {
            self.reader.array_of(2)?;
            self.item(&format!("[{index}].messageId"))?;
            self.item(&format!("[{index}].status"))?;
            if let Some(field) = self.fields.last_mut()
                && let Ok(number) = field.value.parse()
            {
                field.value = format!("{number} ({})", MessageStatus(number));
            }
        }
        Ok(())
    }

    fn part(&mut self, at: &str, level: usize) -> Result<(), Malformed> {
        self.reader.array()?;
        self.parts += 1;
        self.item(&format!("{at}.disposition"))?;
        if let Some(field) = self.fields.last_mut()
            && let Ok(number) = field.value.parse()
        {
            field.value = format!("{number} ({})", Disposition(number));
        }
        self.item(&format!("{at}.language"))?;
        let cardinality = self.item(&format!("{at}.cardinality"))?;
        match cardinality.as_unsigned() {
            Some(1) => self.items(at, &["contentType", "content"]),
            Some(2) => self.items(at, &EXTERNAL_FIELDS),
            Some(3) => {
                self.item(&format!("{at}.partSemantics"))?;
                for index in 0..self.reader.array()? {
                    if level == MAX_PART_LEVELS || self.parts == MAX_PARTS {
                        break;
                    }
                    self.part(&format!("{at}.parts[{index}]"), level + 1)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn items(&mut self, at: &str, names: &[&str]) -> Result<(), Malformed> {
        for name in names {
            self.item(&format!("{at}.{name}"))?;
        }
        Ok(())
    }

    fn item(&mut self, name: &str) -> Result<CborValue, Malformed> {
        let offset = self.reader.offset();
        let value = CborValue::checked(self.reader.value(VALUE_LEVEL)?.to_vec());
        self.fields.push(Field {
            name: name.to_owned(),
            offset,
            length: value.as_cbor().len(),
            value: diagnostic(&value),
        });
        Ok(value)
    }
}

/// Scalars as people read them, everything else as its bytes.
fn diagnostic(value: &CborValue) -> String {
    let cut = |shown: String, length: usize| {
        if length > SHOWN {
            format!("{shown}… ({length} bytes)")
        } else {
            shown
        }
    };
    let hex = |bytes: &[u8]| {
        let shown: String = bytes.iter().take(SHOWN).map(|byte| format!("{byte:02x}")).collect();
        cut(format!("h'{shown}'"), bytes.len())
    };
    match (value.kind(), value.as_cbor()) {
        (Kind::Null, _) => "null".to_owned(),
        (Kind::Bool, bytes) => (bytes == [super::cbor::TRUE]).to_string(),
        (Kind::Unsigned, _) => value.as_unsigned().map(|number| number.to_string()).unwrap_or_default(),
        (Kind::Bytes, _) => hex(value.as_bytes().unwrap_or_default()),
        (Kind::Text, _) => {
            let text = value.as_text().unwrap_or_default();
            let shown = text.get(..text.floor_char_boundary(SHOWN)).unwrap_or_default();
            cut(format!("{shown:?}"), text.len())
        }
        (kind, bytes) => format!("{kind}: {}", hex(bytes)),
    }
}

const EXTERNAL_FIELDS: [&str; 12] = [
    "contentType",
    "url",
    "expires",
    "size",
    "encAlg",
    "key",
    "nonce",
    "aad",
    "hashAlg",
    "contentHash",
    "description",
    "filename",
];

/// How many bytes of a string are shown.
const SHOWN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mimi::{Expiration, ExternalPart, NestedPart, Origin, Part, PartSemantics, Salt};

    fn message() -> MimiContent {
        let origin = Origin::new("mimi://a.example/u/alice", "mimi://a.example/r/fish").unwrap();
        let link = NestedPart::new(Part::External(Box::new(ExternalPart::link("https://x", "a\u{1b}b"))));
        let body = NestedPart::multi(
            PartSemantics::ProcessAll,
            vec![NestedPart::text(&"fish".repeat(20)), link],
        );
        let mut message = MimiContent::new(Salt::from_random([7; 16]), &origin, body);
        message.expires = Some(Expiration::Absolute { seconds: 1000 });
        message
    }

    #[test]
    fn every_field_is_named_with_its_place() {
        let bytes = message().encode().unwrap();
        let (fields, problem) = outline(&bytes);
        assert_eq!(problem, None);
        assert_eq!(fields.len(), 8 + 4 + 5 + 15);
        // Fields are in order, and what lies between them are heads of arrays and maps, and keys.
        for pair in fields.windows(2) {
            assert!(pair[0].offset + pair[0].length <= pair[1].offset);
        }
        let last = fields.last().unwrap();
        assert_eq!(last.offset + last.length, bytes.len());
        let said = |name: &str| {
            let field = fields.iter().find(|field| field.name == name).unwrap();
            field.value.clone()
        };
        assert_eq!(said("expires.relative"), "false");
        assert_eq!(said("expires.time"), "1000");
        assert_eq!(said("replaces"), "null");
        assert_eq!(said("mimiExtensions[2]"), "\"mimi://a.example/r/fish\"");
        assert_eq!(said("nestedPart.parts[0].disposition"), "1 (render)");
        assert!(said("nestedPart.parts[0].content").ends_with("'… (80 bytes)"));
        assert_eq!(said("nestedPart.parts[1].description"), r#""a\u{1b}b""#);
    }

    #[test]
    fn malformed_bytes_are_shown_as_far_as_they_make_sense() {
        let bytes = message().encode().unwrap();
        let whole = outline(&bytes).0;
        for length in 0..bytes.len() {
            let (fields, problem) = outline(&bytes[..length]);
            assert!(problem.is_some());
            assert_eq!(fields[..], whole[..fields.len()]);
        }
        let bomb = [&bytes[..1], &[0x9b; 1000]].concat();
        assert!(outline(&bomb).0.is_empty());
    }
}
