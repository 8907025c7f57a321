//! Files in messages (MMF #matrix-events): `m.file` with URL, name, media type and size, and beside it a text for those who do
//! not know files. In encrypted rooms the file lies sealed on a server, and `m.file` also carries what opens it.

use std::fmt;

use nabe_signing::{Object, base64u, object};
use nabe_types::limits::MAX_SAFE_INTEGER;
use nabe_types::{ServerName, UnixMillis};

use crate::attachment::{MAX_FILE_BYTES, TAG_BYTES};
use crate::error::{ContentError, Rule};
use crate::fields::Fields;
use crate::label::Label;
use crate::media_type::MediaType;
use crate::plain::{Plain, clean_line};
use crate::text::{MIMETYPE, Text};

/// Where a file lies: `mxc://server/media`, the media ID 1 to 255 of letters, digits, `-` and `_`. URLs of the web are
/// refused: fetching one would tell its owner who reads the message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ContentUrl {
    server: ServerName,
    media_id: String,
}

impl ContentUrl {
    /// Reads a content URL.
    pub fn parse(text: &str) -> Result<Self, Rule> {
        let (server, media_id) = text
            .strip_prefix(SCHEME)
            .and_then(|rest| rest.split_once('/'))
            .ok_or(Rule::NotAContentUrl)?;
        let server = ServerName::parse(server).map_err(|_| Rule::NotAContentUrl)?;
        Self::new(server, media_id)
    }

    /// The URL of a file on this server.
    pub fn new(server: ServerName, media_id: &str) -> Result<Self, Rule> {
        let allowed = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
        if !(1..=255).contains(&media_id.len()) || !media_id.bytes().all(allowed) {
            return Err(Rule::NotAContentUrl);
        }
        Ok(Self {
            server,
            media_id: media_id.to_owned(),
        })
    }

    /// The server that has the file.
    #[must_use]
    pub const fn server(&self) -> &ServerName {
        &self.server
    }

    /// The file's name at that server.
    #[must_use]
    pub fn media_id(&self) -> &str {
        &self.media_id
    }
}

/// `mxc://server/media`
impl fmt::Display for ContentUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.server.as_str(), self.media_id)
    }
}

/// A file sent: what it is, and what to say about it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct File {
    /// The file itself.
    pub block: FileBlock,
    /// What clients show that do not know this kind of message.
    pub text: Text,
    /// What its sender says about it.
    pub caption: Option<Text>,
}

impl File {
    /// A file that describes itself by name, media type and size to those who cannot show it.
    #[must_use]
    pub fn new(block: FileBlock) -> Self {
        let text = block.fallback();
        Self {
            block,
            text,
            caption: None,
        }
    }

    /// The draft wants a text beside the file; what comes without gets one.
    pub(crate) fn read(content: &Fields<'_>) -> Result<Self, ContentError> {
        let block = FileBlock::read(&content.object(FILE)?)?;
        let text = Text::read_optional(content)?.unwrap_or_else(|| block.fallback());
        let caption = read_wrapped(content, CAPTION)?;
        Ok(Self { block, text, caption })
    }

    pub(crate) fn to_object(&self) -> Object {
        let mut content = object! { FILE => self.block.to_object(), crate::text::TEXT => self.text.to_json() };
        insert_wrapped(&mut content, CAPTION, self.caption.as_ref());
        content
    }

    /// `[noun: name, media type, facts, size]` and the caption below.
    pub(crate) fn render(&self, noun: &str, facts: &[String], out: &mut Plain) {
        self.block.render(noun, facts, out);
        render_below(self.caption.as_ref(), out);
    }
}

/// A file and what is known about it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FileBlock {
    /// Its name, as its sender has it: not fit for a file system, see [`Self::safe_name`].
    pub name: Option<Label>,
    /// Its media type, by its sender's word.
    pub media_type: Option<MediaType>,
    /// Where it is.
    pub source: FileSource,
}

impl FileBlock {
    /// A name under which the file can be stored on any system: one component of at most 200 bytes, nothing hidden, nothing
    /// that a system reserves. `file` if there is none.
    #[must_use]
    pub fn safe_name(&self) -> String {
        safe_name(self.name.as_ref().map_or("", Label::as_str))
    }

    pub(crate) fn read(block: &Fields<'_>) -> Result<Self, ContentError> {
        let media_type = block
            .optional_str(MIMETYPE, usize::MAX)?
            .map(|text| MediaType::parse(text).map_err(|rule| block.broke(MIMETYPE, rule)))
            .transpose()?;
        Ok(Self {
            name: block.optional_label(NAME)?,
            media_type,
            source: FileSource::read(block)?,
        })
    }

    pub(crate) fn to_object(&self) -> Object {
        let mut block = match &self.source {
            FileSource::Plain(file) => file.to_object(),
            FileSource::Encrypted(file) => file.to_object(),
        };
        if let Some(name) = &self.name {
            block.insert(NAME, name.as_str());
        }
        if let Some(media_type) = &self.media_type {
            block.insert(MIMETYPE, media_type.as_str());
        }
        block
    }

    fn render(&self, noun: &str, facts: &[String], out: &mut Plain) {
        let mut words = Vec::new();
        words.extend(
            self.name
                .as_ref()
                .map(|name| clean_line(name.as_str(), SHOWN_NAME_BYTES)),
        );
        words.extend(
            self.media_type
                .as_ref()
                .map(|media_type| media_type.as_str().to_owned()),
        );
        words.extend_from_slice(facts);
        words.extend(self.source.size().map(size_in_words));
        out.line("[");
        out.line(noun);
        if !words.is_empty() {
            out.line(": ");
            out.line(&words.join(", "));
        }
        out.line("]");
    }

    fn fallback(&self) -> Text {
        let mut out = Plain::new();
        self.render("file", &[], &mut out);
        Text::plain(out.finish()).expect("what is rendered is no longer than a body")
    }
}

/// Where a file is, and what its bytes there mean.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FileSource {
    /// As it is.
    Plain(PlainFile),
    /// Sealed; see [`crate::attachment`].
    Encrypted(EncryptedFile),
}

impl FileSource {
    /// Where to fetch it.
    #[must_use]
    pub const fn url(&self) -> &ContentUrl {
        match self {
            Self::Plain(file) => &file.url,
            Self::Encrypted(file) => file.url(),
        }
    }

    /// Size of the file itself in bytes, by its sender's word.
    #[must_use]
    pub const fn size(&self) -> Option<u64> {
        match self {
            Self::Plain(file) => file.size,
            Self::Encrypted(file) => Some(file.size()),
        }
    }

    /// A file with any of the fields that open one must have them all: it is never taken for a plain one.
    fn read(block: &Fields<'_>) -> Result<Self, ContentError> {
        if [KEY, IV, HASHES, VERSION].into_iter().any(|key| block.has(key)) {
            return EncryptedFile::read(block).map(Self::Encrypted);
        }
        let url = read_url(block)?;
        let size = block.optional_number(SIZE, MAX_SAFE_INTEGER.unsigned_abs())?;
        Ok(Self::Plain(PlainFile { url, size }))
    }
}

/// A file that lies on a server as it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PlainFile {
    /// Where to fetch it.
    pub url: ContentUrl,
    /// Its size in bytes, by its sender's word. Above 2^53 − 1 it is written as that.
    pub size: Option<u64>,
}

impl PlainFile {
    fn to_object(&self) -> Object {
        let mut block = object! { URL => self.url.to_string() };
        if let Some(size) = self.size {
            // The same bound as for moments: what every JSON reader takes for the same number.
            block.insert(SIZE, UnixMillis(size));
        }
        block
    }
}

/// A file sealed with AES-256-GCM: where it lies, what opens it, and what must be true of it. Made by
/// [`crate::attachment::seal`]. `Debug` does not show the key.
#[derive(Clone, Eq, PartialEq)]
pub struct EncryptedFile {
    pub(crate) url: ContentUrl,
    pub(crate) key: [u8; 32],
    pub(crate) nonce: [u8; 12],
    pub(crate) sha256: [u8; 32],
    pub(crate) size: u64,
}

impl EncryptedFile {
    /// Reads the members of `m.file` that say where a sealed file is and how to open it.
    pub fn parse(object: &Object) -> Result<Self, ContentError> {
        Self::read(&Fields::root(object))
    }

    /// The members of `m.file` that say where the file is and how to open it.
    #[must_use]
    pub fn to_object(&self) -> Object {
        object! {
            HASHES => object! { SHA256 => base64u::encode(&self.sha256) },
            IV => base64u::encode(&self.nonce),
            KEY => object! {
                "alg" => ALGORITHM,
                "ext" => true,
                "k" => base64u::encode_url(&self.key),
                "key_ops" => vec!["encrypt", "decrypt"],
                "kty" => KEY_TYPE,
            },
            // At most `MAX_FILE_BYTES`, which is far below what JSON can hold.
            SIZE => UnixMillis(self.size),
            URL => self.url.to_string(),
            VERSION => ALGORITHM,
        }
    }

    /// Where to fetch the ciphertext.
    #[must_use]
    pub const fn url(&self) -> &ContentUrl {
        &self.url
    }

    /// Size of the file itself in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Size of the ciphertext in bytes: whoever fetches it can stop there.
    #[must_use]
    pub const fn ciphertext_size(&self) -> u64 {
        self.size + TAG_BYTES
    }

    /// SHA-256 of the ciphertext.
    #[must_use]
    pub const fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    fn read(block: &Fields<'_>) -> Result<Self, ContentError> {
        block.word(VERSION, ALGORITHM)?;
        let key = block.object(KEY)?;
        key.word("kty", KEY_TYPE)?;
        key.word("alg", ALGORITHM)?;
        Ok(Self {
            url: read_url(block)?,
            key: key.base64("k", base64u::decode_url)?,
            nonce: block.base64(IV, base64u::decode)?,
            sha256: block.object(HASHES)?.base64(SHA256, base64u::decode)?,
            size: block.number(SIZE, MAX_FILE_BYTES)?,
        })
    }
}

impl fmt::Debug for EncryptedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncryptedFile")
            .field("url", &self.url)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

/// The text block inside the object under `key`, as captions have it.
pub(crate) fn read_wrapped(content: &Fields<'_>, key: &str) -> Result<Option<Text>, ContentError> {
    content
        .optional_object(key)?
        .map(|wrapper| Text::read(&wrapper))
        .transpose()
}

pub(crate) fn insert_wrapped(content: &mut Object, key: &str, text: Option<&Text>) {
    if let Some(text) = text {
        content.insert(key, object! { crate::text::TEXT => text.to_json() });
    }
}

/// Appends `text` on lines of its own.
pub(crate) fn render_below(text: Option<&Text>, out: &mut Plain) {
    if let Some(text) = text {
        out.text("\n");
        text.render(out);
    }
}

fn read_url(block: &Fields<'_>) -> Result<ContentUrl, ContentError> {
    ContentUrl::parse(block.str(URL, usize::MAX)?).map_err(|rule| block.broke(URL, rule))
}

/// `12.3 kB`, in steps of a thousand.
fn size_in_words(bytes: u64) -> String {
    let (mut whole, mut rest, mut unit) = (bytes, 0, "bytes");
    for larger in ["kB", "MB", "GB", "TB", "PB"] {
        if whole < 1000 {
            break;
        }
        (rest, whole, unit) = (whole % 1000 / 100, whole / 1000, larger);
    }
    if unit == "bytes" {
        format!("{whole} {unit}")
    } else {
        format!("{whole}.{rest} {unit}")
    }
}

pub(crate) const FILE: &str = "m.file";
const CAPTION: &str = "m.caption";
const SCHEME: &str = "mxc://";
const URL: &str = "url";
const NAME: &str = "name";
const SIZE: &str = "size";
const KEY: &str = "key";
const IV: &str = "iv";
const HASHES: &str = "hashes";
const SHA256: &str = "sha256";
const VERSION: &str = "v";
/// AES-256-GCM by its name in JSON Web Algorithms (RFC 7518, 5.1).
const ALGORITHM: &str = "A256GCM";
/// A symmetric key as JSON Web Key (RFC 7518, 6.4).
const KEY_TYPE: &str = "oct";
const SHOWN_NAME_BYTES: usize = 255;
/// A name under which a file can be stored on any system, from one that its sender chose.
pub(crate) fn safe_name(name: &str) -> String {
    let cleaned: String = clean_line(name, Label::MAX_BYTES)
        .chars()
        .map(|c| {
            if r#"/\:*?"<>|"#.contains(c) || c == char::REPLACEMENT_CHARACTER {
                '_'
            } else {
                c
            }
        })
        .collect();
    let trimmed = cleaned.trim_matches(|c: char| c == '.' || c.is_whitespace());
    let (stem, extension) = match trimmed.rsplit_once('.') {
        Some((stem, extension)) if extension.len() <= 16 => (stem, Some(extension)),
        _ => (trimmed, None),
    };
    let mut safe = String::new();
    // Windows reserves these whatever their extension; a leading underscore harms nowhere.
    let first = stem.split('.').next().unwrap_or_default().trim_end();
    if RESERVED.iter().any(|reserved| first.eq_ignore_ascii_case(reserved)) {
        safe.push('_');
    }
    for c in stem.chars() {
        if safe.len() + c.len_utf8() > SAFE_STEM_BYTES {
            break;
        }
        safe.push(c);
    }
    if safe.is_empty() {
        safe.push_str("file");
    }
    if let Some(extension) = extension {
        safe.push('.');
        safe.push_str(extension);
    }
    safe
}

const SAFE_STEM_BYTES: usize = 180;
const RESERVED: [&str; 22] = [
    "con", "prn", "aux", "nul", "com1", "com2", "com3", "com4", "com5", "com6", "com7", "com8", "com9", "lpt1", "lpt2",
    "lpt3", "lpt4", "lpt5", "lpt6", "lpt7", "lpt8", "lpt9",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> FileBlock {
        FileBlock {
            name: Label::new(name).ok(),
            media_type: None,
            source: FileSource::Plain(PlainFile {
                url: ContentUrl::parse("mxc://example.org/abcd1234").unwrap(),
                size: Some(12_345),
            }),
        }
    }

    #[test]
    fn a_file_cannot_choose_where_it_is_stored() {
        for (name, safe) in [
            ("foo.pdf", "foo.pdf"),
            ("../../etc/passwd", "_.._etc_passwd"),
            (r"C:\autoexec.bat", "C__autoexec.bat"),
            (".bashrc", "bashrc"),
            ("...", "file"),
            ("a\0b\u{202e}c\n.txt", "a_b_c .txt"),
            ("nul.tar.gz", "_nul.tar.gz"),
            ("CON", "_CON"),
            (" . ", "file"),
        ] {
            assert_eq!(named(name).safe_name(), safe, "{name:?}");
        }
        let long = named(&format!("{}.jpeg", "é".repeat(400))).safe_name();
        assert!(long.len() <= 200 && long.ends_with("é.jpeg"), "{long}");
        assert_eq!(named("").safe_name(), "file");
    }

    #[test]
    fn sizes_are_said_in_words() {
        for (bytes, words) in [
            (0, "0 bytes"),
            (999, "999 bytes"),
            (12_345, "12.3 kB"),
            (999_999, "999.9 kB"),
            (1_000_000, "1.0 MB"),
            (u64::MAX, "18446.7 PB"),
        ] {
            assert_eq!(size_in_words(bytes), words);
        }
    }

    #[test]
    fn a_content_url_names_a_server_and_a_file() {
        let url = ContentUrl::parse("mxc://example.org:8448/aB-_9").unwrap();
        assert_eq!((url.server().as_str(), url.media_id()), ("example.org:8448", "aB-_9"));
        assert_eq!(url.to_string(), "mxc://example.org:8448/aB-_9");
        let long = format!("mxc://example.org/{}", "x".repeat(256));
        for text in [
            "https://example.org/x",
            "mxc://example.org",
            "mxc://example.org/",
            "mxc://example.org/a/b",
            "mxc://example.org/../x",
            "mxc:///x",
            "mxc://127.0.0.1/x",
            "MXC://example.org/x",
            &long,
        ] {
            assert_eq!(ContentUrl::parse(text), Err(Rule::NotAContentUrl), "{text}");
        }
    }
}
