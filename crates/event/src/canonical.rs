//! An event's canonical JSON, written once, with the spans that hashing and signing leave out.
//!
//! Four digests and signatures cover one event, each over a different projection of it. All are the same canonical bytes with
//! members removed, so the bytes are produced once and every projection is a walk over spans: no clone, no second sort.

use std::ops::Range;

use nabe_signing::json::{Json, Object};
use nabe_types::limits::MAX_EVENT_BYTES;
use sha2::{Digest, Sha256};

use crate::error::Dropped;
use crate::redaction;

/// The projections of an event that are hashed or signed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum View {
    /// Everything: what is stored, sent and measured.
    Whole,
    /// LM #int-content-hashes, step 1.1: the LPDU's content.
    LpduContent,
    /// LM #int-content-hashes, step 1.2: the PDU's content.
    PduContent,
    /// LM #int-reference-hashes and LM #int-signing-events: the event itself, redacted, without `signatures`.
    Reference,
    /// The same for the LPDU that a PDU was made from.
    LpduReference,
}

/// Members whose text is replaced while writing: what sealing adds after the first pass.
#[derive(Clone, Copy, Default)]
pub(crate) struct Replaced<'a> {
    pub(crate) hashes: Option<&'a [u8]>,
    pub(crate) signatures: Option<&'a [u8]>,
}

/// Canonical bytes of an event and where its members are.
#[derive(Clone, Debug)]
pub(crate) struct Canonical {
    bytes: Vec<u8>,
    members: Vec<Member>,
    /// Spans inside `content` of the members that redaction keeps; `None` when it keeps all.
    content_kept: Option<Vec<Range<usize>>>,
    /// Span of the member `"lpdu":…` inside `hashes`.
    lpdu_hash: Option<Range<usize>>,
}

#[derive(Clone, Debug)]
struct Member {
    field: Field,
    /// The whole member, `"key":value`.
    span: Range<usize>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Field {
    AuthEvents,
    Content,
    Hashes,
    PrevEvents,
    Signatures,
    /// Any other field that redaction keeps.
    Kept,
    /// A field that redaction drops.
    Unknown,
}

impl Canonical {
    /// Writes `event` once and notes the spans.
    pub(crate) fn of(event: &Object) -> Self {
        let mut this = Self {
            bytes: Vec::with_capacity(1024),
            members: Vec::new(),
            content_kept: None,
            lpdu_hash: None,
        };
        let kept = redaction::kept_content_keys(event.get("type").and_then(Json::as_str).unwrap_or_default());
        this.bytes.push(b'{');
        for (index, (key, value)) in event.iter().enumerate() {
            if index > 0 {
                this.bytes.push(b',');
            }
            let start = this.bytes.len();
            this.write_key(key);
            let field = Field::of(key);
            match (field, value) {
                (Field::Content, Json::Object(content)) => {
                    this.content_kept = this.write_object_noting(content, kept);
                }
                (Field::Content, _) => {
                    value.write_canonical(&mut this.bytes);
                    this.content_kept = Some(Vec::new());
                }
                (Field::Hashes, Json::Object(hashes)) => {
                    let noted = this.write_object_noting(hashes, Some(&["lpdu"]));
                    this.lpdu_hash = noted.and_then(|spans| spans.into_iter().next());
                }
                _ => value.write_canonical(&mut this.bytes),
            }
            this.members.push(Member {
                field,
                span: start..this.bytes.len(),
            });
        }
        this.bytes.push(b'}');
        this
    }

    /// The size of the whole event in bytes.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The whole event's bytes.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// SHA-256 over a projection.
    pub(crate) fn hash(&self, view: View) -> [u8; 32] {
        let mut digest = Sha256::new();
        self.emit(view, Replaced::default(), &mut |bytes| digest.update(bytes));
        digest.finalize().into()
    }

    /// A projection's bytes.
    pub(crate) fn write(&self, view: View, replaced: Replaced<'_>) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bytes.len() + 512);
        self.emit(view, replaced, &mut |bytes| out.extend_from_slice(bytes));
        out
    }

    fn emit(&self, view: View, replaced: Replaced<'_>, sink: &mut impl FnMut(&[u8])) {
        let redacted = matches!(view, View::Reference | View::LpduReference);
        let lpdu = matches!(view, View::LpduContent | View::LpduReference);
        let mut comma = Comma::default();
        sink(b"{");
        for member in &self.members {
            let whole = &self.bytes[member.span.clone()];
            match member.field {
                Field::Signatures if view != View::Whole => {}
                Field::AuthEvents | Field::PrevEvents if lpdu => {}
                Field::Unknown if redacted => {}
                Field::Hashes if view == View::LpduContent => {}
                Field::Hashes if matches!(view, View::PduContent | View::LpduReference) => {
                    // LM #int-content-hashes (deviation): where nothing is left under `hashes` the field itself goes. Read
                    // literally the draft keeps an empty object; every implementation removes it.
                    if let Some(span) = &self.lpdu_hash {
                        comma.before(sink);
                        sink(b"\"hashes\":{");
                        sink(&self.bytes[span.clone()]);
                        sink(b"}");
                    }
                }
                Field::Hashes if replaced.hashes.is_some() => {
                    comma.before(sink);
                    sink(b"\"hashes\":");
                    sink(replaced.hashes.unwrap_or_default());
                }
                Field::Signatures if replaced.signatures.is_some() => {
                    comma.before(sink);
                    sink(b"\"signatures\":");
                    sink(replaced.signatures.unwrap_or_default());
                }
                Field::Content if redacted && self.content_kept.is_some() => {
                    comma.before(sink);
                    sink(b"\"content\":{");
                    let mut inner = Comma::default();
                    for span in self.content_kept.iter().flatten() {
                        inner.before(sink);
                        sink(&self.bytes[span.clone()]);
                    }
                    sink(b"}");
                }
                _ => {
                    comma.before(sink);
                    sink(whole);
                }
            }
        }
        sink(b"}");
    }

    /// Writes an object and returns the spans of the members named in `keys`; `None` for `keys` notes nothing.
    fn write_object_noting(&mut self, object: &Object, keys: Option<&[&str]>) -> Option<Vec<Range<usize>>> {
        let Some(keys) = keys else {
            object.write_canonical(&mut self.bytes);
            return None;
        };
        let mut spans = Vec::new();
        self.bytes.push(b'{');
        for (index, (key, value)) in object.iter().enumerate() {
            if index > 0 {
                self.bytes.push(b',');
            }
            let start = self.bytes.len();
            self.write_key(key);
            value.write_canonical(&mut self.bytes);
            if keys.contains(&key) {
                spans.push(start..self.bytes.len());
            }
        }
        self.bytes.push(b'}');
        Some(spans)
    }

    fn write_key(&mut self, key: &str) {
        if key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.-:@!$".contains(&byte))
        {
            self.bytes.push(b'"');
            self.bytes.extend_from_slice(key.as_bytes());
            self.bytes.push(b'"');
        } else {
            Json::from(key).write_canonical(&mut self.bytes);
        }
        self.bytes.push(b':');
    }
}

impl Field {
    fn of(key: &str) -> Self {
        match key {
            "auth_events" => Self::AuthEvents,
            "content" => Self::Content,
            "hashes" => Self::Hashes,
            "prev_events" => Self::PrevEvents,
            "signatures" => Self::Signatures,
            _ if redaction::KEPT_TOP_LEVEL.contains(&key) => Self::Kept,
            _ => Self::Unknown,
        }
    }
}

/// Separates members: a comma before each but the first.
#[derive(Default)]
struct Comma(bool);

impl Comma {
    fn before(&mut self, sink: &mut impl FnMut(&[u8])) {
        if self.0 {
            sink(b",");
        }
        self.0 = true;
    }
}

/// Refuses an event over the size limit.
pub(crate) fn check_size(event_type: &str, bytes: &[u8]) -> Result<(), Dropped> {
    if bytes.len() > MAX_EVENT_BYTES {
        Err(Dropped::too_large(Some(event_type), bytes.len()))
    } else {
        Ok(())
    }
}
