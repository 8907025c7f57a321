//! How servers hand each other a file (Matrix 1.11, "Content Repository" of the server-server API): `multipart/mixed` of exactly two
//! parts, a JSON object about the file, so far empty, and the file itself.
//!
//! Written by [`Envelope`], read by [`PartReader`] as it comes: no more of it is in memory than one piece and the headers of a part.
//! Of ours, the file's part has a `Content-Digest` (RFC 9530); Matrix knows none.

use bytes::{Buf as _, Bytes, BytesMut};
use nabe_signing::base64u;
use nabe_signing::json::Object;

/// What stands around a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Envelope {
    /// The `Content-Type` of the whole.
    pub content_type: String,
    /// What comes before the file.
    pub head: Bytes,
    /// What comes after it.
    pub tail: Bytes,
}

impl Envelope {
    /// The envelope of a file with this SHA-256. `boundary` must not be in the file: letters and digits, random and long.
    pub(super) fn new(boundary: &str, hash: &[u8; 32]) -> Self {
        let digest = base64u::encode(hash);
        let head = format!(
            "--{boundary}\r\nContent-Type: application/json\r\n\r\n{{}}\r\n\
             --{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Disposition: attachment\r\n\
             Content-Digest: sha-256=:{digest}=:\r\n\r\n"
        );
        Self {
            content_type: format!("multipart/mixed; boundary={boundary}"),
            head: head.into(),
            tail: format!("\r\n--{boundary}--\r\n").into(),
        }
    }
}

/// What is wrong with an envelope.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum MultipartError {
    NoBoundary,
    TooLong,
    Malformed,
    Elsewhere,
    NoFile,
}

impl MultipartError {
    /// In words.
    pub(crate) const fn what(self) -> &'static str {
        match self {
            Self::NoBoundary => "it is no multipart/mixed with a boundary",
            Self::TooLong => "too much stands before the file",
            Self::Malformed => "its parts are malformed",
            Self::Elsewhere => "the file is not in it but elsewhere",
            Self::NoFile => "there is no file in it",
        }
    }
}

/// The boundary that a `Content-Type` of `multipart/mixed` names (RFC 2046, 5.1.1).
fn boundary(content_type: &str) -> Option<&str> {
    let (kind, parameters) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/mixed") {
        return None;
    }
    let mut named = parameters.split(';').filter_map(|parameter| parameter.split_once('='));
    let (_, value) = named.find(|(name, _)| name.trim().eq_ignore_ascii_case("boundary"))?;
    let value = value.trim();
    let value = value
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or(value);
    let allowed = |c: u8| c.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&c);
    ((1..=70).contains(&value.len()) && value.bytes().all(allowed) && !value.ends_with(' ')).then_some(value)
}

/// Takes an envelope apart as it comes.
#[derive(Debug)]
pub(crate) struct PartReader {
    /// Line break, two hyphens, boundary.
    delimiter: Vec<u8>,
    /// What has come and is not taken yet.
    rest: BytesMut,
    state: State,
    digest: Option<[u8; 32]>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Preamble,
    MetadataHead,
    Metadata,
    FileHead,
    File,
    Done,
}

impl PartReader {
    pub(crate) fn new(content_type: &str) -> Result<Self, MultipartError> {
        let boundary = boundary(content_type).ok_or(MultipartError::NoBoundary)?;
        Ok(Self {
            delimiter: [b"\r\n--", boundary.as_bytes()].concat(),
            // A boundary at the very beginning has no line break before it.
            rest: BytesMut::from(&b"\r\n"[..]),
            state: State::Preamble,
            digest: None,
        })
    }

    /// Whether the file has come whole.
    pub(crate) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// SHA-256 of the file by its server's word, if it gave it.
    pub(crate) const fn digest(&self) -> Option<[u8; 32]> {
        self.digest
    }

    /// Takes a piece and returns what of the file is in it.
    pub(crate) fn feed(&mut self, piece: &[u8]) -> Result<Bytes, MultipartError> {
        self.rest.extend_from_slice(piece);
        loop {
            match self.state {
                State::Preamble => match self.up_to_delimiter() {
                    Some(_) => self.state = State::MetadataHead,
                    None if self.rest.len() > MAX_BEFORE => return Err(MultipartError::TooLong),
                    None => return Ok(Bytes::new()),
                },
                State::MetadataHead => match self.head()? {
                    Some(_) => self.state = State::Metadata,
                    None => return Ok(Bytes::new()),
                },
                State::Metadata => match self.up_to_delimiter() {
                    Some(metadata) => {
                        Object::parse(&metadata).map_err(|_| MultipartError::Malformed)?;
                        self.state = State::FileHead;
                    }
                    None if self.rest.len() > MAX_BEFORE => return Err(MultipartError::TooLong),
                    None => return Ok(Bytes::new()),
                },
                State::FileHead => match self.head()? {
                    Some(head) => {
                        if field(&head, "location").is_some() {
                            return Err(MultipartError::Elsewhere);
                        }
                        self.digest = field(&head, "content-digest").and_then(sha256_digest);
                        self.state = State::File;
                    }
                    None => return Ok(Bytes::new()),
                },
                State::File => return Ok(self.file()),
                State::Done => {
                    self.rest.clear();
                    return Ok(Bytes::new());
                }
            }
        }
    }

    fn file(&mut self) -> Bytes {
        if let Some(last) = self.up_to_delimiter() {
            self.state = State::Done;
            self.rest.clear();
            return last;
        }
        // The end may be the beginning of the delimiter.
        let sure = self.rest.len().saturating_sub(self.delimiter.len() - 1);
        self.rest.split_to(sure).freeze()
    }

    /// What comes before the delimiter, which is taken with it.
    fn up_to_delimiter(&mut self) -> Option<Bytes> {
        let at = find(&self.rest, &self.delimiter)?;
        let before = self.rest.split_to(at).freeze();
        self.rest.advance(self.delimiter.len());
        Some(before)
    }

    /// What is between a delimiter and the body of its part: the rest of the line, and the header fields.
    fn head(&mut self) -> Result<Option<String>, MultipartError> {
        if self.rest.starts_with(b"--") {
            return Err(MultipartError::NoFile);
        }
        let Some(end) = find(&self.rest, b"\r\n\r\n") else {
            return match self.rest.len() > MAX_BEFORE {
                true => Err(MultipartError::TooLong),
                false => Ok(None),
            };
        };
        let head = self.rest.split_to(end);
        self.rest.advance(4);
        let head = std::str::from_utf8(&head).map_err(|_| MultipartError::Malformed)?;
        let (padding, fields) = head.split_once("\r\n").unwrap_or((head, ""));
        match padding.bytes().all(|c| c == b' ' || c == b'\t') {
            true => Ok(Some(fields.to_owned())),
            false => Err(MultipartError::Malformed),
        }
    }
}

/// The value of a header field.
fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let fields = head.split("\r\n").filter_map(|line| line.split_once(':'));
    let mut named = fields.filter(|(found, _)| found.trim().eq_ignore_ascii_case(name));
    named.next().map(|(_, value)| value.trim())
}

/// `sha-256=:…:` of a `Content-Digest`.
fn sha256_digest(value: &str) -> Option<[u8; 32]> {
    let mut digests = value
        .split(',')
        .filter_map(|digest| digest.trim().strip_prefix("sha-256=:"));
    let digest = digests.next()?.strip_suffix(':')?;
    base64u::decode(digest).ok()?.try_into().ok()
}

/// `needle` begins with a carriage return.
fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let rest = bytes.get(from..)?;
        let at = rest.iter().position(|&byte| byte == b'\r')?;
        if rest.get(at..)?.starts_with(needle) {
            return Some(from + at);
        }
        from += at + 1;
    }
}

/// Bytes before the file in which something must end: preamble, header fields of a part, metadata; and what a piece has beyond.
const MAX_BEFORE: usize = 128 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// The file, its digest, and whether it was there to its end.
    type Found = (Vec<u8>, Option<[u8; 32]>, bool);

    fn read(content_type: &str, body: &[u8], size: usize) -> Result<Found, MultipartError> {
        let mut reader = PartReader::new(content_type)?;
        let mut file = Vec::new();
        for piece in body.chunks(size) {
            file.extend_from_slice(&reader.feed(piece)?);
        }
        Ok((file, reader.digest(), reader.is_done()))
    }

    fn whole(body: &str) -> Result<Vec<u8>, MultipartError> {
        let (file, _, is_done) = read("multipart/mixed; boundary=b", body.as_bytes(), 1_000)?;
        assert!(is_done, "{body:?}");
        Ok(file)
    }

    #[test]
    fn what_is_put_in_comes_out_however_it_is_cut() {
        let hash = [7; 32];
        let envelope = Envelope::new("Xy12", &hash);
        for file in [
            &b""[..],
            b"x",
            b"\r\n--Xy1",
            b"\r\n--Xy\r\n--X\r\r\n-",
            b"--Xy12--",
            &[b'\r'; 300],
        ] {
            let body = [&envelope.head, file, &envelope.tail].concat();
            for size in [1, 2, 3, 7, 64, 1_000] {
                let read = read(&envelope.content_type, &body, size);
                assert_eq!(read, Ok((file.to_vec(), Some(hash), true)), "{file:?} in {size}");
            }
        }
    }

    #[test]
    fn other_servers_envelopes_are_read() {
        for body in [
            "--b\r\nContent-Type: application/json\r\n\r\n{}\r\n--b\r\nContent-Type: text/plain\r\n\r\nfile\r\n--b--",
            // With a line break first, without header fields, with padding, with words around it.
            "\r\n--b\r\n\r\n{}\r\n--b \t\r\n\r\nfile\r\n--b--\r\n",
            "hello\r\n--b\r\ncontent-type:application/json\r\n\r\n{\"x\":1}\r\n--b\r\n\r\nfile\r\n--b\r\n\r\nmore\r\n--b--\r\nbye",
        ] {
            assert_eq!(whole(body).unwrap(), b"file", "{body:?}");
        }
    }

    #[test]
    fn what_is_no_envelope_is_refused() {
        let elsewhere = "--b\r\n\r\n{}\r\n--b\r\nLocation: https://cdn.example/x\r\n\r\n\r\n--b--";
        for (body, error) in [
            ("--b--", MultipartError::NoFile),
            ("--b\r\n\r\n{}\r\n--b--", MultipartError::NoFile),
            (
                "--b\r\n\r\nnot json\r\n--b\r\n\r\nfile\r\n--b--",
                MultipartError::Malformed,
            ),
            ("--bc\r\n\r\n{}\r\n--b\r\n\r\nfile\r\n--b--", MultipartError::Malformed),
            (elsewhere, MultipartError::Elsewhere),
        ] {
            assert_eq!(whole(body), Err(error), "{body:?}");
        }
        let (_, _, is_done) = read("multipart/mixed; boundary=b", b"--b\r\n\r\n{}\r\n--b\r\n\r\nfi", 9).unwrap();
        assert!(!is_done, "it broke off");
    }

    #[test]
    fn nothing_before_the_file_grows_without_end() {
        let filler = "x".repeat(MAX_BEFORE + 1);
        for body in [
            filler.clone(),
            format!("--b\r\nX: {filler}"),
            format!("--b\r\n\r\n{{\"x\":\"{filler}"),
            format!("--b\r\n\r\n{{}}\r\n--b\r\nX: {filler}"),
        ] {
            let fed = read("multipart/mixed; boundary=b", body.as_bytes(), 4_096);
            assert_eq!(fed.map(|_| ()), Err(MultipartError::TooLong));
        }
    }

    #[test]
    fn the_boundary_is_in_the_content_type() {
        let longest = format!("multipart/mixed;boundary={}", "x".repeat(70));
        assert_eq!(boundary(&longest).map(str::len), Some(70));
        assert_eq!(
            boundary("Multipart/Mixed; charset=x; Boundary=\"a b:c\""),
            Some("a b:c")
        );
        for content_type in [
            "multipart/mixed",
            "multipart/mixed; boundary=",
            "multipart/mixed; boundary=\"\"",
            "multipart/mixed; boundary=a\\b",
            "multipart/form-data; boundary=b",
            "application/octet-stream",
            &format!("{longest}x"),
        ] {
            assert_eq!(boundary(content_type), None, "{content_type}");
        }
    }
}
