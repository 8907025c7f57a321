//! Request authentication: the `Authorization: X-Matrix …` header and what it signs (LM #int-transport-auth).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use nabe_types::{KeyId, ServerName, UnixMillis};

use crate::ed25519::Signature;
use crate::json::{Json, Object, write_string};
use crate::keys::KeySet;
use crate::object;
use crate::sign::Signer;

/// Longest header value we read, in bytes. Three server names and a signature need a fifth of it.
pub const MAX_HEADER_BYTES: usize = 4096;

/// One `Authorization` header of the scheme `X-Matrix`: who claims to have signed, not yet checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct XMatrix {
    /// The sending server.
    pub origin: ServerName,
    /// The receiving server. The draft requires it; older senders leave it out, and the signed object has it anyway.
    pub destination: Option<ServerName>,
    /// The sending server's key.
    pub key: KeyId,
    /// The signature, in the header as `sig`; the draft's list of parameters says `signature`, its example `sig`, so
    /// both are read.
    pub sig: Signature,
}

impl XMatrix {
    /// Reads a header value (RFC 9110, 11.4): scheme and names in any case, parameters in any order, values as token
    /// (colons allowed, which RFC 9110 does not) or quoted string, unknown parameters ignored, none twice.
    pub fn parse(value: &str) -> Result<Self, XMatrixError> {
        if value.len() > MAX_HEADER_BYTES {
            return Err(XMatrixError::TooLong);
        }
        let (scheme, rest) = value.trim_matches(SPACE).split_once(' ').ok_or(XMatrixError::Scheme)?;
        if !scheme.eq_ignore_ascii_case("X-Matrix") {
            return Err(XMatrixError::Scheme);
        }
        let mut params = AuthParams { rest }.collect()?;
        let sig = match (params.remove("sig"), params.remove("signature")) {
            (Some(sig), Some(signature)) if sig != signature => return Err(XMatrixError::Duplicate),
            (sig, signature) => sig.or(signature).ok_or(XMatrixError::Missing("sig"))?,
        };
        let origin = params.remove("origin").ok_or(XMatrixError::Missing("origin"))?;
        let key = params.remove("key").ok_or(XMatrixError::Missing("key"))?;
        let destination = params
            .remove("destination")
            .map(|name| ServerName::parse(&name))
            .transpose();
        Ok(Self {
            origin: ServerName::parse(&origin).map_err(|_| XMatrixError::Invalid("origin"))?,
            destination: destination.map_err(|_| XMatrixError::Invalid("destination"))?,
            key: KeyId::parse(&key).map_err(|_| XMatrixError::Invalid("key"))?,
            sig: Signature::from_base64(&sig).map_err(|_| XMatrixError::Invalid("sig"))?,
        })
    }
}

/// The header value we send. No value needs escapes: none can contain a quote or backslash.
impl fmt::Display for XMatrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "X-Matrix origin=\"{}\"", self.origin)?;
        if let Some(destination) = &self.destination {
            write!(f, ",destination=\"{destination}\"")?;
        }
        write!(f, ",key=\"{}\",sig=\"{}\"", self.key, self.sig)
    }
}

impl FromStr for XMatrix {
    type Err = XMatrixError;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        Self::parse(value)
    }
}

/// Why a header value is not a usable `X-Matrix` one.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum XMatrixError {
    /// Over [`MAX_HEADER_BYTES`].
    #[error("longer than {MAX_HEADER_BYTES} bytes")]
    TooLong,
    /// Another authentication scheme, or no parameters.
    #[error("the scheme is not X-Matrix")]
    Scheme,
    /// Not a list of `name=value`.
    #[error("malformed parameters")]
    Syntax,
    /// A parameter occurs twice, or `sig` and `signature` differ.
    #[error("a parameter occurs twice")]
    Duplicate,
    /// A required parameter is missing.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A parameter's value is malformed.
    #[error("`{0}` is malformed")]
    Invalid(&'static str),
}

/// A request as its sender signed it and its receiver saw it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The HTTP method, upper case.
    pub method: &'a str,
    /// Path and query exactly as sent, beginning with `/`, still percent-encoded.
    pub uri: &'a str,
    /// The receiving server.
    pub destination: &'a ServerName,
    /// The body, `None` if there is none; `{}` is signed then.
    pub content: Option<&'a Json>,
}

/// The object a request's signature is over, without signatures. [`sign_request`] and [`verify_request`] make its
/// bytes themselves.
#[must_use]
pub fn request_object(
    method: &str,
    uri: &str,
    origin: &ServerName,
    destination: &ServerName,
    content: Option<&Json>,
) -> Object {
    object! {
        "method" => method,
        "uri" => uri,
        "origin" => origin,
        "destination" => destination,
        "content" => content.cloned().unwrap_or_else(|| object! {}.into()),
    }
}

/// The header values to send with `request`, one for each key of the signer.
#[must_use]
pub fn sign_request(signer: &Signer, request: &Request<'_>) -> Vec<String> {
    let message = signed_bytes(request, signer.server(), EMPTY_CONTENT);
    let headers = signer.signatures_of(&message).map(|(key, sig)| {
        let (origin, destination) = (signer.server().clone(), Some(request.destination.clone()));
        XMatrix {
            origin,
            destination,
            key,
            sig,
        }
        .to_string()
    });
    headers.collect()
}

/// What a request without body may be signed with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Bodyless {
    /// `content` is `{}`, as the draft says.
    EmptyObject,
    /// `content` is `{}`, or missing as Matrix has it; for peers that follow Matrix.
    EmptyObjectOrNone,
}

/// Checks every header of a request and returns who sent it. At least one header is required and all must be valid, by
/// one origin, for this destination, with current keys (LM #int-transport-auth). `keys` must hold the origin's keys if
/// they can be had; `now` is when the request came.
pub fn verify_request(
    request: &Request<'_>,
    headers: &[XMatrix],
    keys: &KeySet,
    now: UnixMillis,
    bodyless: Bodyless,
) -> Result<ServerName, RequestError> {
    let origin = &headers.first().ok_or(RequestError::NoHeader)?.origin;
    for header in headers {
        if header.origin != *origin {
            return Err(RequestError::OriginsDiffer);
        }
        if header
            .destination
            .as_ref()
            .is_some_and(|destination| destination != request.destination)
        {
            return Err(RequestError::WrongDestination);
        }
    }
    let message = signed_bytes(request, origin, EMPTY_CONTENT);
    let also_accepted = (request.content.is_none() && bodyless == Bodyless::EmptyObjectOrNone)
        .then(|| signed_bytes(request, origin, NO_CONTENT));
    for header in headers {
        let key = keys
            .for_request(origin, &header.key, now)
            .ok_or(RequestError::UnknownKey)?;
        let verifies = |message: &[u8]| key.verify(message, &header.sig).is_ok();
        if !verifies(&message) && !also_accepted.as_deref().is_some_and(verifies) {
            return Err(RequestError::BadSignature);
        }
    }
    Ok(origin.clone())
}

/// Why a request is not authenticated. The peer hears `M_FORBIDDEN` in each case.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RequestError {
    /// No `X-Matrix` header.
    #[error("no X-Matrix header")]
    NoHeader,
    /// Headers of different origins.
    #[error("headers of different origins")]
    OriginsDiffer,
    /// A header is meant for another server.
    #[error("meant for another server")]
    WrongDestination,
    /// A key that is not among the origin's current ones, as far as we know.
    #[error("signed with a key that is not current")]
    UnknownKey,
    /// A signature does not verify.
    #[error("a signature does not verify")]
    BadSignature,
}

const EMPTY_CONTENT: &[u8] = b"\"content\":{},";
const NO_CONTENT: &[u8] = b"";

/// The canonical form of [`request_object`], without copying the body; `bodyless` is what stands there without one.
/// The keys below are in canonical order.
fn signed_bytes(request: &Request<'_>, origin: &ServerName, bodyless: &[u8]) -> Vec<u8> {
    let mut out = vec![b'{'];
    match request.content {
        Some(content) => {
            out.extend_from_slice(b"\"content\":");
            content.write_canonical(&mut out);
            out.push(b',');
        }
        None => out.extend_from_slice(bodyless),
    }
    let texts = [
        ("\"destination\":", request.destination.as_str()),
        (",\"method\":", request.method),
        (",\"origin\":", origin.as_str()),
        (",\"uri\":", request.uri),
    ];
    for (name, text) in texts {
        out.extend_from_slice(name.as_bytes());
        write_string(text, &mut out);
    }
    out.push(b'}');
    out
}

/// What RFC 9110 calls OWS and BWS.
const SPACE: [char; 2] = [' ', '\t'];

/// A reader of `#auth-param` (RFC 9110, 11.2 and 5.6.1).
struct AuthParams<'a> {
    rest: &'a str,
}

impl AuthParams<'_> {
    /// All parameters, names in lower case.
    fn collect(mut self) -> Result<BTreeMap<String, String>, XMatrixError> {
        let mut params = BTreeMap::new();
        loop {
            // Empty list elements are legal.
            self.rest = self.rest.trim_start_matches([' ', '\t', ',']);
            if self.rest.is_empty() {
                return Ok(params);
            }
            let name = self.run_of(is_token_char)?.to_ascii_lowercase();
            self.skip_space();
            self.rest = self.rest.strip_prefix('=').ok_or(XMatrixError::Syntax)?;
            self.skip_space();
            let value = match self.rest.strip_prefix('"') {
                Some(rest) => {
                    self.rest = rest;
                    self.quoted_string()?
                }
                None => self.run_of(is_bare_value_char)?.to_owned(),
            };
            if params.insert(name, value).is_some() {
                return Err(XMatrixError::Duplicate);
            }
            self.skip_space();
            if !self.rest.is_empty() && !self.rest.starts_with(',') {
                return Err(XMatrixError::Syntax);
            }
        }
    }

    /// The longest run of such characters that the rest begins with, at least one.
    fn run_of(&mut self, fits: impl Fn(char) -> bool) -> Result<&str, XMatrixError> {
        let end = self.rest.find(|c| !fits(c)).unwrap_or(self.rest.len());
        let (run, rest) = self.rest.split_at(end);
        self.rest = rest;
        if run.is_empty() {
            Err(XMatrixError::Syntax)
        } else {
            Ok(run)
        }
    }

    /// The rest of a quoted string, after its opening quote, unescaped.
    fn quoted_string(&mut self) -> Result<String, XMatrixError> {
        let mut string = String::new();
        let mut chars = self.rest.chars();
        loop {
            let c = match chars.next().ok_or(XMatrixError::Syntax)? {
                '"' => {
                    self.rest = chars.as_str();
                    return Ok(string);
                }
                '\\' => chars.next().ok_or(XMatrixError::Syntax)?,
                c => c,
            };
            if c.is_control() && c != '\t' {
                return Err(XMatrixError::Syntax);
            }
            string.push(c);
        }
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start_matches(SPACE);
    }
}

fn is_token_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

/// A colon is none of a token's characters, but older Matrix servers send key IDs and ports without quotes.
fn is_bare_value_char(c: char) -> bool {
    is_token_char(c) || c == ':'
}

#[cfg(test)]
mod tests;
