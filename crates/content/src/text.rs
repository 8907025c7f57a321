//! Text in several representations (MMF #matrix-events): `m.text` as a list, as Matrix has it now, and the draft's two older
//! forms, a pair of strings `m.text` and `m.html` and a list `m.message`. We write the list and read all three.

use nabe_signing::{Json, Object, object};
use nabe_types::limits::MAX_EVENT_BYTES;

use crate::error::{ContentError, Rule};
use crate::fields::Fields;
use crate::html;
use crate::media_type::MediaType;
use crate::plain::Plain;

/// One text in 1 to 16 representations, the sender's favorite first.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Text {
    bodies: Vec<TextBody>,
}

/// One representation of a text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TextBody {
    media_type: MediaType,
    body: String,
}

impl TextBody {
    /// Longest body in bytes that is read: no event holds more. What is sent must leave room for the rest of its event, see
    /// [`crate::MAX_CONTENT_BYTES`].
    pub const MAX_BYTES: usize = MAX_EVENT_BYTES;

    /// A body of at most [`Self::MAX_BYTES`].
    pub fn new(media_type: MediaType, body: impl Into<String>) -> Result<Self, Rule> {
        let body = body.into();
        if body.len() > Self::MAX_BYTES {
            return Err(Rule::TooLong { max: Self::MAX_BYTES });
        }
        Ok(Self { media_type, body })
    }

    /// What kind of text it is.
    #[must_use]
    pub const fn media_type(&self) -> &MediaType {
        &self.media_type
    }

    /// The text as its sender wrote it: not fit to be shown.
    #[must_use]
    pub fn body(&self) -> &str {
        &self.body
    }
}

impl Text {
    /// Most representations of one text. Our own bound.
    pub const MAX_BODIES: usize = 16;

    /// A text in these representations.
    pub fn new(bodies: Vec<TextBody>) -> Result<Self, Rule> {
        if bodies.is_empty() {
            return Err(Rule::Empty);
        }
        if bodies.len() > Self::MAX_BODIES {
            return Err(Rule::TooMany { max: Self::MAX_BODIES });
        }
        Ok(Self { bodies })
    }

    /// A text without markup.
    pub fn plain(text: impl Into<String>) -> Result<Self, Rule> {
        Self::new(vec![TextBody::new(MediaType::text_plain(), text)?])
    }

    /// A text as HTML, and the same without markup.
    pub fn html(html: impl Into<String>, plain: impl Into<String>) -> Result<Self, Rule> {
        Self::new(vec![
            TextBody::new(MediaType::text_html(), html)?,
            TextBody::new(MediaType::text_plain(), plain)?,
        ])
    }

    /// The representations, the sender's favorite first; at least one.
    #[must_use]
    pub fn bodies(&self) -> &[TextBody] {
        &self.bodies
    }

    /// The first representation of this media type, parameters aside.
    #[must_use]
    pub fn body_of(&self, essence: &str) -> Option<&str> {
        let found = self.bodies.iter().find(|body| body.media_type.essence() == essence);
        found.map(TextBody::body)
    }

    /// The text block of `content`, if there is one.
    pub(crate) fn read_optional(content: &Fields<'_>) -> Result<Option<Self>, ContentError> {
        if !content.has(TEXT) && content.has(MESSAGE) {
            return Self::read_list(content, MESSAGE).map(Some);
        }
        match content.get(TEXT) {
            Some(Json::Array(_)) => Self::read_list(content, TEXT).map(Some),
            Some(Json::String(_)) | None => Self::read_strings(content),
            Some(_) => Err(content.broke(TEXT, Rule::NotText)),
        }
    }

    /// The text block of `content`.
    pub(crate) fn read(content: &Fields<'_>) -> Result<Self, ContentError> {
        Self::read_optional(content)?.ok_or_else(|| content.broke(TEXT, Rule::Missing))
    }

    /// Whatever can be saved from a text block that breaks a rule: the bodies that are well-formed.
    pub(crate) fn salvage(content: &Fields<'_>) -> Option<Self> {
        let mut bodies = Vec::new();
        for key in [TEXT, MESSAGE] {
            for entry in content.get(key).and_then(Json::as_array).unwrap_or_default() {
                let read = Fields::inside(entry, String::new()).and_then(|entry| read_body(&entry));
                bodies.extend(read.ok());
                if bodies.len() == Self::MAX_BODIES {
                    return Self::new(bodies).ok();
                }
            }
        }
        for (key, media_type) in [
            (TEXT, MediaType::text_plain()),
            (HTML_KEY, MediaType::text_html()),
            (BODY, MediaType::text_plain()),
        ] {
            let body = content.optional_str(key, TextBody::MAX_BYTES).ok().flatten();
            bodies.extend(body.and_then(|body| TextBody::new(media_type, body).ok()));
        }
        bodies.truncate(Self::MAX_BODIES);
        Self::new(bodies).ok()
    }

    /// The form we write; `text/plain` needs no mention.
    pub(crate) fn to_json(&self) -> Json {
        self.bodies.iter().map(body_to_object).collect()
    }

    /// Appends the text without markup: as its sender wrote it without, else HTML reduced, else any other text.
    pub(crate) fn render(&self, out: &mut Plain) {
        if let Some(plain) = self.body_of(PLAIN) {
            out.text(plain);
        } else if let Some(html) = self.body_of(HTML) {
            html::render(html, out);
        } else if let Some(other) = self
            .bodies
            .iter()
            .find(|body| body.media_type.essence().starts_with("text/"))
        {
            out.text(&other.body);
        } else {
            out.line("[text in a form that cannot be shown: ");
            if let Some(body) = self.bodies.first() {
                out.line(body.media_type.as_str());
            }
            out.line("]");
        }
    }

    fn read_list(content: &Fields<'_>, key: &str) -> Result<Self, ContentError> {
        let entries = content.objects(key, Self::MAX_BODIES)?;
        let bodies = entries.iter().map(read_body).collect::<Result<_, _>>()?;
        Self::new(bodies).map_err(|rule| content.broke(key, rule))
    }

    /// The draft's first form. HTML comes first, as those who write it prefer it.
    fn read_strings(content: &Fields<'_>) -> Result<Option<Self>, ContentError> {
        let mut bodies = Vec::new();
        for (key, media_type) in [(HTML_KEY, MediaType::text_html()), (TEXT, MediaType::text_plain())] {
            if let Some(body) = content.optional_str(key, TextBody::MAX_BYTES)? {
                bodies.push(TextBody {
                    media_type,
                    body: body.to_owned(),
                });
            }
        }
        Ok(Self::new(bodies).ok())
    }
}

fn read_body(entry: &Fields<'_>) -> Result<TextBody, ContentError> {
    let media_type = match entry.optional_str(MIMETYPE, usize::MAX)? {
        None => MediaType::text_plain(),
        Some(text) => MediaType::parse(text).map_err(|rule| entry.broke(MIMETYPE, rule))?,
    };
    let body = entry.str(BODY, TextBody::MAX_BYTES)?.to_owned();
    Ok(TextBody { media_type, body })
}

pub(crate) fn body_to_object(body: &TextBody) -> Object {
    let mut object = object! { BODY => body.body.as_str() };
    if body.media_type.as_str() != PLAIN {
        object.insert(MIMETYPE, body.media_type.as_str());
    }
    object
}

pub(crate) const TEXT: &str = "m.text";
pub(crate) const HTML_KEY: &str = "m.html";
pub(crate) const MESSAGE: &str = "m.message";
pub(crate) const BODY: &str = "body";
pub(crate) const MIMETYPE: &str = "mimetype";
const PLAIN: &str = "text/plain";
const HTML: &str = "text/html";
