//! Message bodies (MC #message-bodies, #external): parts inside parts, each with a disposition and a language, counted depth first.

use std::collections::BTreeSet;
use std::fmt;

use super::cbor::{ARRAY, Reader, UNSIGNED, write_bytes, write_head, write_text};
use super::error::{Malformed, Rule};
use super::limits::{MAX_PART_LEVELS, MAX_PARTS};
use super::{TEXT_HTML, TEXT_MARKDOWN, TEXT_PLAIN};
use crate::media_type::MediaType;

/// One part: nothing, content, a reference to content, or several parts.
///
/// ```text
/// NestedPart = [disposition, language, (NullPart // SinglePart // ExternalPart // MultiPart)]
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NestedPart {
    /// What it is for.
    pub disposition: Disposition,
    /// The languages it is in.
    pub language: Languages,
    /// What is in it.
    pub part: Part,
}

/// What is in a part; the draft's cardinality.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Part {
    /// Nothing: a message that deletes another one says no more (MC #delete).
    Null,
    /// Content.
    Single(SinglePart),
    /// Content that lies elsewhere.
    External(Box<ExternalPart>),
    /// Several parts.
    Multi(MultiPart),
}

/// Content with its media type.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SinglePart {
    /// An IANA media type, as it was written; it may well be unknown or none (MC #general-handling). See [`Self::media_type`].
    pub content_type: String,
    /// The content.
    pub content: Vec<u8>,
}

/// Several parts and how they belong together.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MultiPart {
    /// How they belong together.
    pub semantics: PartSemantics,
    /// The parts, two at least.
    pub parts: Vec<NestedPart>,
}

/// A reference to content that lies elsewhere, or to a service (MC #external).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ExternalPart {
    /// An IANA media type, or empty.
    pub content_type: String,
    /// Where the content can be fetched.
    pub url: String,
    /// Seconds since the Unix epoch after which it cannot; 0 for never. See [`Self::is_expired`].
    pub expires: u32,
    /// Its size in bytes; 0 if not said. Whether of the ciphertext the draft leaves open, see [`super::external`].
    pub size: u64,
    /// How it is encrypted.
    pub encryption: Encryption,
    /// Hash of the bytes at the URL.
    pub hash: ContentHash,
    /// A text for people, or empty.
    pub description: String,
    /// A suggested file name, or empty: not fit for a file system, see [`Self::safe_name`].
    pub filename: String,
}

/// How the parts of a [`MultiPart`] belong together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PartSemantics {
    /// The receiver picks exactly one, by its own preferences.
    ChooseOne,
    /// The receiver processes all parts as one unit, or none of them.
    SingleUnit,
    /// The receiver processes as many as it can.
    ProcessAll,
}

/// What a part is for: a number of the registry (MC #dispo-registry). Unknown ones are kept, and count as
/// [`Self::RENDER`] (MC #general-handling).
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Disposition(pub u8);

impl Disposition {
    /// No hint.
    pub const UNSPECIFIED: Self = Self(0);
    /// Rendered according to local policy.
    pub const RENDER: Self = Self(1);
    /// A single reaction to another message.
    pub const REACTION: Self = Self(2);
    /// The profile of a participant or room.
    pub const PROFILE: Self = Self(3);
    /// Rendered directly in the chat.
    pub const INLINE: Self = Self(4);
    /// An icon, such as an avatar.
    pub const ICON: Self = Self(5);
    /// For download, not to be rendered at once.
    pub const ATTACHMENT: Self = Self(6);
    /// A multimedia session, or a URI to join one.
    pub const SESSION: Self = Self(7);
    /// A preview made by the sender.
    pub const PREVIEW: Self = Self(8);

    /// Whether the registry has it.
    #[must_use]
    pub const fn is_known(self) -> bool {
        self.0 <= Self::PREVIEW.0
    }

    /// The disposition to act by: what is unknown is rendered.
    #[must_use]
    pub const fn effective(self) -> Self {
        if self.is_known() { self } else { Self::RENDER }
    }
}

/// The registry's name, or the number.
impl fmt::Display for Disposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            "unspecified",
            "render",
            "reaction",
            "profile",
            "inline",
            "icon",
            "attachment",
            "session",
            "preview",
        ];
        match names.get(usize::from(self.0)) {
            Some(name) => f.write_str(name),
            None => self.0.fmt(f),
        }
    }
}

/// A comma-separated list of language tags (RFC 5646), mostly empty. What others wrote is kept as it is: a tag nobody recognizes is
/// no reason to lose the message (MC #general-handling).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Languages(String);

impl Languages {
    /// No language.
    pub const NONE: Self = Self(String::new());

    /// A list of well-formed tags: subtags of 1 to 8 letters and digits with hyphens between them.
    pub fn new(list: impl Into<String>) -> Result<Self, Rule> {
        let list = list.into();
        if !list.is_empty() && !list.split(',').all(is_language_tag) {
            return Err(Rule::NotLanguages);
        }
        Ok(Self(list))
    }

    /// The list as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tags that are well-formed.
    pub fn tags(&self) -> impl Iterator<Item = &str> {
        self.0.split(',').map(str::trim).filter(|tag| is_language_tag(tag))
    }
}

fn is_language_tag(tag: &str) -> bool {
    let is_subtag =
        |subtag: &str| (1..=8).contains(&subtag.len()) && subtag.bytes().all(|byte| byte.is_ascii_alphanumeric());
    tag.starts_with(|c: char| c.is_ascii_alphabetic()) && tag.split('-').all(is_subtag)
}

/// How an external part is encrypted: an AEAD algorithm by IANA's number, key, nonce and additional data. `Debug` shows
/// no key.
#[derive(Clone, Eq, PartialEq)]
pub struct Encryption {
    algorithm: u16,
    key: Vec<u8>,
    nonce: Vec<u8>,
    aad: Vec<u8>,
}

impl Encryption {
    /// AEAD_AES_128_GCM, which everybody has (MC #external).
    pub const AES_128_GCM: u16 = 1;
    /// AEAD_AES_256_GCM.
    pub const AES_256_GCM: u16 = 2;

    /// Not encrypted.
    pub const NONE: Self = Self {
        algorithm: 0,
        key: Vec::new(),
        nonce: Vec::new(),
        aad: Vec::new(),
    };

    /// Encrypted with this algorithm. For 0 the rest must be empty; the two kinds of AES-GCM have keys of 16 and 32 bytes and nonces
    /// of 12; of others nothing is known here.
    pub fn new(algorithm: u16, key: Vec<u8>, nonce: Vec<u8>, aad: Vec<u8>) -> Result<Self, Rule> {
        check_encryption(algorithm, &key, &nonce, &aad).map_err(|(_, rule)| rule)?;
        Ok(Self {
            algorithm,
            key,
            nonce,
            aad,
        })
    }

    /// IANA's number of the AEAD algorithm; 0 for none.
    #[must_use]
    pub const fn algorithm(&self) -> u16 {
        self.algorithm
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// The nonce.
    #[must_use]
    pub fn nonce(&self) -> &[u8] {
        &self.nonce
    }

    /// The additional authenticated data, empty unless an extension says otherwise.
    #[must_use]
    pub fn aad(&self) -> &[u8] {
        &self.aad
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let algorithm = reader.within("encAlg", |reader| reader.unsigned(u16::MAX.into()))? as u16;
        let mut offsets = [0; 3];
        let mut values = [&[][..]; 3];
        for ((offset, value), field) in offsets.iter_mut().zip(&mut values).zip(ENCRYPTION_FIELDS) {
            *offset = reader.offset();
            *value = reader.within(field, Reader::bytes)?;
        }
        let [key, nonce, aad] = values;
        check_encryption(algorithm, key, nonce, aad)
            .map_err(|(field, rule)| Malformed::new(offsets[field], rule).inside(ENCRYPTION_FIELDS[field]))?;
        Ok(Self {
            algorithm,
            key: key.to_vec(),
            nonce: nonce.to_vec(),
            aad: aad.to_vec(),
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        write_head(out, UNSIGNED, self.algorithm.into());
        write_bytes(out, &self.key);
        write_bytes(out, &self.nonce);
        write_bytes(out, &self.aad);
    }
}

impl fmt::Debug for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encryption")
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

const ENCRYPTION_FIELDS: [&str; 3] = ["key", "nonce", "aad"];

/// Says which of the three breaks which rule.
fn check_encryption(algorithm: u16, key: &[u8], nonce: &[u8], aad: &[u8]) -> Result<(), (usize, Rule)> {
    let key_bytes = match algorithm {
        0 => {
            let filled = [key, nonce, aad].iter().position(|bytes| !bytes.is_empty());
            return filled.map_or(Ok(()), |field| Err((field, Rule::WithoutAlgorithm)));
        }
        Encryption::AES_128_GCM => 16,
        Encryption::AES_256_GCM => 32,
        _ => return Ok(()),
    };
    for (field, bytes, expected) in [(0, key, key_bytes), (1, nonce, 12)] {
        if bytes.len() != expected {
            let found = bytes.len();
            return Err((field, Rule::ByteLength { expected, found }));
        }
    }
    Ok(())
}

/// A hash by IANA's number of the algorithm (Named Information), mostly SHA-256 or none.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ContentHash {
    algorithm: u8,
    hash: Vec<u8>,
}

impl ContentHash {
    /// `sha-256`
    pub const SHA_256: u8 = 1;

    /// No hash.
    pub const NONE: Self = Self {
        algorithm: 0,
        hash: Vec::new(),
    };

    /// A SHA-256 hash.
    #[must_use]
    pub fn sha256(hash: [u8; 32]) -> Self {
        Self {
            algorithm: Self::SHA_256,
            hash: hash.to_vec(),
        }
    }

    /// A hash by this algorithm. For 0 it must be empty, for SHA-256 of 32 bytes; of others nothing is known here.
    pub fn new(algorithm: u8, hash: Vec<u8>) -> Result<Self, Rule> {
        check_hash(algorithm, &hash)?;
        Ok(Self { algorithm, hash })
    }

    /// IANA's number of the algorithm; 0 for none.
    #[must_use]
    pub const fn algorithm(&self) -> u8 {
        self.algorithm
    }

    /// The hash.
    #[must_use]
    pub fn hash(&self) -> &[u8] {
        &self.hash
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let algorithm = reader.within("hashAlg", |reader| reader.unsigned(u8::MAX.into()))? as u8;
        reader.within("contentHash", |reader| {
            let at = reader.offset();
            let hash = reader.bytes()?;
            check_hash(algorithm, hash).map_err(|rule| Malformed::new(at, rule))?;
            let hash = hash.to_vec();
            Ok(Self { algorithm, hash })
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        write_head(out, UNSIGNED, self.algorithm.into());
        write_bytes(out, &self.hash);
    }
}

const fn check_hash(algorithm: u8, hash: &[u8]) -> Result<(), Rule> {
    match (algorithm, hash.len()) {
        (0, 0) | (ContentHash::SHA_256, 32) | (2.., _) => Ok(()),
        (0, _) => Err(Rule::WithoutAlgorithm),
        (_, found) => Err(Rule::ByteLength { expected: 32, found }),
    }
}

/// A part's number in its message: depth first, the body is 0 (MC #message-bodies).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PartIndex(pub u32);

impl PartIndex {
    /// The body.
    pub const BODY: Self = Self(0);

    /// The URI by which other parts of the message refer to this one.
    #[must_use]
    pub fn to_content_id(self) -> String {
        format!("{CID}{}{LOCAL}", self.0)
    }
}

/// The part that `cid:5@local.invalid` refers to, if the URI has this form (MC #message-bodies).
#[must_use]
pub fn content_id(uri: &str) -> Option<PartIndex> {
    let digits = uri.strip_prefix(CID)?.strip_suffix(LOCAL)?;
    let canonical = digits == "0" || !digits.starts_with('0');
    let is_number = canonical && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok().map(PartIndex)).flatten()
}

/// A reference inside a part that no message may contain: it leads to no part, or to one that is neither single nor external
/// (MC #message-bodies).
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("part {} refers to {}, which is no single or external part", from.0, to.0)]
pub struct WrongReference {
    /// The part with the reference.
    pub from: PartIndex,
    /// Where it leads.
    pub to: PartIndex,
}

impl NestedPart {
    /// A part to render, in no particular language.
    #[must_use]
    pub const fn new(part: Part) -> Self {
        Self {
            disposition: Disposition::RENDER,
            language: Languages::NONE,
            part,
        }
    }

    /// No content.
    #[must_use]
    pub const fn null() -> Self {
        Self::new(Part::Null)
    }

    /// Content of this media type.
    #[must_use]
    pub fn single(content_type: &str, content: impl Into<Vec<u8>>) -> Self {
        Self::new(Part::Single(SinglePart {
            content_type: content_type.to_owned(),
            content: content.into(),
        }))
    }

    /// Text without markup.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::single(TEXT_PLAIN, text)
    }

    /// Markdown; what looks like HTML in it is escaped, as the draft wants it from senders
    /// ([`super::markdown::no_html`]).
    #[must_use]
    pub fn markdown(markdown: &str) -> Self {
        Self::single(TEXT_MARKDOWN, super::markdown::no_html(markdown).into_owned())
    }

    /// HTML.
    #[must_use]
    pub fn html(html: &str) -> Self {
        Self::single(TEXT_HTML, html)
    }

    /// Several parts, two at least.
    #[must_use]
    pub const fn multi(semantics: PartSemantics, parts: Vec<Self>) -> Self {
        Self::new(Part::Multi(MultiPart { semantics, parts }))
    }

    /// The same with another disposition.
    #[must_use]
    pub const fn with_disposition(mut self, disposition: Disposition) -> Self {
        self.disposition = disposition;
        self
    }

    /// The same in these languages.
    #[must_use]
    pub fn with_language(mut self, language: Languages) -> Self {
        self.language = language;
        self
    }

    /// Every part with its index, this one first.
    #[must_use]
    pub fn parts(&self) -> Parts<'_> {
        Parts {
            waiting: vec![self],
            next: 0,
        }
    }

    /// The part with this index.
    #[must_use]
    pub fn part_at(&self, index: PartIndex) -> Option<&Self> {
        self.parts().find(|(found, _)| *found == index).map(|(_, part)| part)
    }

    /// The parts that this one refers to, if it is text that can: HTML and Markdown. Each once, in order.
    #[must_use]
    pub fn references(&self) -> Vec<PartIndex> {
        let Part::Single(single) = &self.part else {
            return Vec::new();
        };
        let container = matches!(single.essence(), Some(essence) if REFERRING.contains(&&*essence));
        let Some(text) = single.as_text().filter(|_| container) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        let mut seen = BTreeSet::new();
        for (at, _) in text.match_indices(CID) {
            let rest = text.get(at..).unwrap_or_default();
            let digits = rest.bytes().skip(CID.len()).take(MAX_INDEX_DIGITS + 1);
            let end = CID.len() + digits.take_while(u8::is_ascii_digit).count() + LOCAL.len();
            if let Some(index) = rest.get(..end).and_then(content_id)
                && seen.insert(index)
            {
                found.push(index);
            }
        }
        found
    }

    /// References that lead nowhere or to several parts. A sender has none; with a receiver they show nothing.
    #[must_use]
    pub fn wrong_references(&self) -> Vec<WrongReference> {
        let all: Vec<_> = self.parts().map(|(_, part)| part).collect();
        let is_leaf = |index: PartIndex| {
            let part = usize::try_from(index.0).ok().and_then(|index| all.get(index));
            part.is_some_and(|part| matches!(part.part, Part::Single(_) | Part::External(_)))
        };
        let mut wrong = Vec::new();
        for (from, part) in self.parts() {
            let to = part.references().into_iter().filter(|&to| !is_leaf(to));
            wrong.extend(to.map(|to| WrongReference { from, to }));
        }
        wrong
    }

    /// Reads a part at `level`; `count` is how many parts came before.
    pub(crate) fn read(reader: &mut Reader<'_>, level: usize, count: &mut usize) -> Result<Self, Malformed> {
        let at = reader.offset();
        let length = reader.array()?;
        if level > MAX_PART_LEVELS {
            let max = MAX_PART_LEVELS;
            return Err(Malformed::new(at, Rule::TooDeep { max }));
        }
        if *count == MAX_PARTS {
            return Err(Malformed::new(at, Rule::TooManyParts { max: MAX_PARTS }));
        }
        *count += 1;
        let wrong_length = |expected| {
            let rule = Rule::ArrayLength {
                expected,
                found: length,
            };
            Err(Malformed::new(at, rule))
        };
        if length < 3 {
            return wrong_length(3);
        }
        let disposition = reader.within("disposition", |reader| reader.unsigned(u8::MAX.into()))? as u8;
        let language = reader.within("language", Reader::text)?.to_owned();
        let cardinality_at = reader.offset();
        let cardinality = reader.within("cardinality", |reader| reader.unsigned(u64::MAX))?;
        let expected = match cardinality {
            NULL_PART => 3,
            SINGLE | MULTI => 5,
            EXTERNAL => 15,
            _ => {
                let error = Malformed::new(cardinality_at, Rule::UnknownCardinality(cardinality));
                return Err(error.inside("cardinality"));
            }
        };
        if length != expected {
            return wrong_length(expected);
        }
        let part = match cardinality {
            NULL_PART => Part::Null,
            SINGLE => Part::Single(SinglePart {
                content_type: reader.within("contentType", Reader::text)?.to_owned(),
                content: reader.within("content", Reader::bytes)?.to_vec(),
            }),
            EXTERNAL => Part::External(Box::new(ExternalPart::read(reader)?)),
            _ => Part::Multi(MultiPart::read(reader, level, count)?),
        };
        Ok(Self {
            disposition: Disposition(disposition),
            language: Languages(language),
            part,
        })
    }

    /// About how many bytes it takes, rather too many, to reserve them at once. As deep as a message may be, which is as deep as it
    /// is written.
    pub(crate) fn about_len(&self) -> usize {
        self.about_len_at(1)
    }

    fn about_len_at(&self, level: usize) -> usize {
        let inside = match &self.part {
            Part::Null => 0,
            Part::Single(single) => single.content_type.len() + single.content.len() + 8,
            Part::External(external) => external.about_len(),
            Part::Multi(_) if level == MAX_PART_LEVELS => 0,
            Part::Multi(multi) => {
                let parts = multi.parts.iter().take(MAX_PARTS);
                parts.map(|part| part.about_len_at(level + 1)).sum::<usize>() + 4
            }
        };
        inside + self.language.0.len() + 8
    }

    /// Writes a part at `level`; `count` is how many parts came before.
    pub(crate) fn write(&self, out: &mut Vec<u8>, level: usize, count: &mut usize) -> Result<(), Malformed> {
        let at = out.len();
        if level > MAX_PART_LEVELS {
            let max = MAX_PART_LEVELS;
            return Err(Malformed::new(at, Rule::TooDeep { max }));
        }
        if *count == MAX_PARTS {
            return Err(Malformed::new(at, Rule::TooManyParts { max: MAX_PARTS }));
        }
        *count += 1;
        let (length, cardinality) = match &self.part {
            Part::Null => (3, NULL_PART),
            Part::Single(_) => (5, SINGLE),
            Part::External(_) => (15, EXTERNAL),
            Part::Multi(_) => (5, MULTI),
        };
        write_head(out, ARRAY, length);
        write_head(out, UNSIGNED, self.disposition.0.into());
        write_text(out, &self.language.0);
        write_head(out, UNSIGNED, cardinality);
        match &self.part {
            Part::Null => {}
            Part::Single(single) => {
                write_text(out, &single.content_type);
                write_bytes(out, &single.content);
            }
            Part::External(external) => external.write(out),
            Part::Multi(multi) => multi.write(out, level, count)?,
        }
        Ok(())
    }
}

impl SinglePart {
    /// The media type, if it is one.
    #[must_use]
    pub fn media_type(&self) -> Option<MediaType> {
        MediaType::parse(&self.content_type).ok()
    }

    /// The content, if it is UTF-8.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        std::str::from_utf8(&self.content).ok()
    }

    /// Type and subtype in lower case.
    pub(crate) fn essence(&self) -> Option<String> {
        self.media_type().map(|media_type| media_type.essence().to_owned())
    }
}

impl MultiPart {
    fn read(reader: &mut Reader<'_>, level: usize, count: &mut usize) -> Result<Self, Malformed> {
        let at = reader.offset();
        let semantics = match reader.within("partSemantics", |reader| reader.unsigned(u64::MAX))? {
            0 => PartSemantics::ChooseOne,
            1 => PartSemantics::SingleUnit,
            2 => PartSemantics::ProcessAll,
            other => {
                let error = Malformed::new(at, Rule::UnknownSemantics(other));
                return Err(error.inside("partSemantics"));
            }
        };
        reader.within("parts", |reader| {
            let at = reader.offset();
            let length = reader.array()?;
            if length < 2 {
                return Err(Malformed::new(at, Rule::TooFewParts));
            }
            // Not by the length: those bytes are not there yet.
            let mut parts = Vec::new();
            for index in 0..length {
                let part = reader.within(format_args!("[{index}]"), |reader| {
                    NestedPart::read(reader, level + 1, count)
                })?;
                parts.push(part);
            }
            Ok(Self { semantics, parts })
        })
    }

    fn write(&self, out: &mut Vec<u8>, level: usize, count: &mut usize) -> Result<(), Malformed> {
        let semantics = match self.semantics {
            PartSemantics::ChooseOne => 0,
            PartSemantics::SingleUnit => 1,
            PartSemantics::ProcessAll => 2,
        };
        write_head(out, UNSIGNED, semantics);
        if self.parts.len() < 2 {
            return Err(Malformed::new(out.len(), Rule::TooFewParts).inside("parts"));
        }
        write_head(out, ARRAY, self.parts.len() as u64);
        for (index, part) in self.parts.iter().enumerate() {
            part.write(out, level + 1, count)
                .map_err(|error| error.inside(format_args!("[{index}]")).inside("parts"))?;
        }
        Ok(())
    }
}

impl ExternalPart {
    /// A reference to something that is not encrypted, such as a service.
    #[must_use]
    pub fn link(url: &str, description: &str) -> Self {
        Self {
            content_type: String::new(),
            url: url.to_owned(),
            expires: 0,
            size: 0,
            encryption: Encryption::NONE,
            hash: ContentHash::NONE,
            description: description.to_owned(),
            filename: String::new(),
        }
    }

    /// A name under which the content can be stored on any system, as [`crate::FileBlock::safe_name`] makes it.
    #[must_use]
    pub fn safe_name(&self) -> String {
        crate::file::safe_name(&self.filename)
    }

    /// The media type, if there is one.
    #[must_use]
    pub fn media_type(&self) -> Option<MediaType> {
        MediaType::parse(&self.content_type).ok()
    }

    /// Whether the URL is of a kind that every client can fetch: `http` or `https` (MC
    /// #mimi-required-and-recommended-media-types).
    #[must_use]
    pub fn is_fetchable(&self) -> bool {
        let scheme = self.url.split_once("://").map_or("", |(scheme, _)| scheme);
        scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http")
    }

    /// Whether the content has become invalid by its sender's word.
    #[must_use]
    pub const fn is_expired(&self, now: nabe_types::UnixMillis) -> bool {
        self.expires != 0 && now.as_u64() / 1000 > self.expires as u64
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            content_type: reader.within("contentType", Reader::text)?.to_owned(),
            url: reader.within("url", Reader::text)?.to_owned(),
            expires: reader.within("expires", |reader| reader.unsigned(u32::MAX.into()))? as u32,
            size: reader.within("size", |reader| reader.unsigned(u64::MAX))?,
            encryption: Encryption::read(reader)?,
            hash: ContentHash::read(reader)?,
            description: reader.within("description", Reader::text)?.to_owned(),
            filename: reader.within("filename", Reader::text)?.to_owned(),
        })
    }

    fn about_len(&self) -> usize {
        let texts = [&self.content_type, &self.url, &self.description, &self.filename];
        let Encryption { key, nonce, aad, .. } = &self.encryption;
        let bytes = [key, nonce, aad, &self.hash.hash];
        texts.map(String::len).iter().sum::<usize>() + bytes.map(Vec::len).iter().sum::<usize>() + 48
    }

    fn write(&self, out: &mut Vec<u8>) {
        write_text(out, &self.content_type);
        write_text(out, &self.url);
        write_head(out, UNSIGNED, self.expires.into());
        write_head(out, UNSIGNED, self.size);
        self.encryption.write(out);
        self.hash.write(out);
        write_text(out, &self.description);
        write_text(out, &self.filename);
    }
}

/// Every part below one, with its index; see [`NestedPart::parts`].
#[derive(Clone, Debug)]
pub struct Parts<'a> {
    /// Still to come, the next one last.
    waiting: Vec<&'a NestedPart>,
    next: u32,
}

impl<'a> Iterator for Parts<'a> {
    type Item = (PartIndex, &'a NestedPart);

    fn next(&mut self) -> Option<Self::Item> {
        let part = self.waiting.pop()?;
        if let Part::Multi(multi) = &part.part {
            self.waiting.extend(multi.parts.iter().rev());
        }
        let index = PartIndex(self.next);
        self.next += 1;
        Some((index, part))
    }
}

const NULL_PART: u64 = 0;
const SINGLE: u64 = 1;
const EXTERNAL: u64 = 2;
const MULTI: u64 = 3;
const CID: &str = "cid:";
const LOCAL: &str = "@local.invalid";
/// Of a `u32`.
const MAX_INDEX_DIGITS: usize = 10;
/// Kinds of content whose references are understood.
const REFERRING: [&str; 2] = ["text/html", "text/markdown"];
