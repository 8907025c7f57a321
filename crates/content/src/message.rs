//! Messages (MMF #introduction, #matrix-events): what kinds there are, read from and written to an event's type and content.

use nabe_signing::json::Limits;
use nabe_signing::{Json, Object, object};
use nabe_types::EventId;
use nabe_types::limits::MAX_EVENT_BYTES;

use crate::error::ContentError;
use crate::fields::Fields;
use crate::file::File;
use crate::label::Label;
use crate::media::{Audio, Image, Video};
use crate::plain::{Plain, clean_line};
use crate::relation::{self, RELATES_TO, Relation};
use crate::text::{self, Text};

/// Longest content in bytes of canonical JSON that every event carries, encrypted or not. An event is no longer than 64 KiB
/// (LM #int-pdu), and an encrypted one holds its content as base64 of a ciphertext (LM #int-ev-encrypted), beside names of any length,
/// signatures and what the hub adds.
pub const MAX_CONTENT_BYTES: usize = 44 << 10;

/// One event as people understand it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Message {
    /// Something new is said or sent.
    Post(Post),
    /// An earlier post is replaced.
    Edit(Edit),
    /// Somebody reacts to an event.
    Reaction(Reaction),
    /// Somebody asks to forget an event.
    Redaction(Redaction),
    /// A type we do not know. Nothing but its text is kept.
    Unknown(Unknown),
}

/// Something new that is said or sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Post {
    /// What is said or sent.
    pub body: Body,
    /// What it belongs to.
    pub relation: Option<Relation>,
}

impl Post {
    /// A post that belongs to nothing.
    #[must_use]
    pub const fn new(body: Body) -> Self {
        Self { body, relation: None }
    }

    /// An answer to `event`.
    #[must_use]
    pub const fn reply(event: EventId, body: Body) -> Self {
        Self {
            body,
            relation: Some(Relation::Reply(event)),
        }
    }
}

/// What can be said or sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Body {
    /// `m.message`
    Text(Text),
    /// `m.file`
    File(File),
    /// `m.image`
    Image(Image),
    /// `m.video`
    Video(Video),
    /// `m.audio`
    Audio(Audio),
    /// `m.voice`
    Voice(Audio),
}

/// A new body for an earlier post. It counts only if the same user sent both and both are of the same type, which whoever
/// knows the events must check.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Edit {
    /// The post that is replaced.
    pub event: EventId,
    /// What takes its place.
    pub body: Body,
}

/// A reaction to an event, `m.reaction`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reaction {
    /// The event reacted to.
    pub event: EventId,
    /// The reaction, mostly an emoji.
    pub key: Label,
}

/// A wish that an event be forgotten, `m.room.redaction`. It counts only if the same user sent both or may redact for others
/// in this room, which whoever knows the room must check.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Redaction {
    /// The event to forget.
    pub event: EventId,
    /// Why.
    pub reason: Option<Label>,
}

/// An event of a type we do not know, reduced to its text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unknown {
    kind: String,
    text: Option<Text>,
}

impl Unknown {
    /// The event's type.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The text it carries for those who do not know the type.
    #[must_use]
    pub const fn text(&self) -> Option<&Text> {
        self.text.as_ref()
    }
}

impl Message {
    /// Reads the content of an event of type `kind`. An unknown type is no error, a wrong shape is.
    pub fn parse(kind: &str, content: &Object) -> Result<Self, ContentError> {
        Self::read(kind, &Fields::root(content))
    }

    /// Reads what an encrypted event decrypts to (LM #int-ev-encrypted): an object with `type` and `content`, at most 64 KiB and
    /// 32 levels deep.
    pub fn parse_payload(payload: &[u8]) -> Result<Self, ContentError> {
        let object = Object::parse_with(payload, PAYLOAD_LIMITS)?;
        let payload = Fields::root(&object);
        Self::read(payload.str(TYPE, usize::MAX)?, &payload.object(CONTENT)?)
    }

    /// The event's type.
    #[must_use]
    pub fn kind(&self) -> &str {
        match self {
            Self::Post(Post { body, .. }) | Self::Edit(Edit { body, .. }) => body.kind(),
            Self::Reaction(_) => REACTION,
            Self::Redaction(_) => REDACTION,
            Self::Unknown(unknown) => &unknown.kind,
        }
    }

    /// The event's content. Reading it again gives the same message. It is longer than [`MAX_CONTENT_BYTES`] only if the body is: what
    /// an edit says to clients without edits is cut to the room that is left.
    #[must_use]
    pub fn to_content(&self) -> Object {
        match self {
            Self::Post(post) => post.to_content(),
            Self::Edit(edit) => edit.to_content(MAX_CONTENT_BYTES),
            Self::Reaction(Reaction { event, key }) => {
                object! { RELATES_TO => relation::annotation(event, key.as_str()) }
            }
            Self::Redaction(Redaction { event, reason }) => {
                let mut content = object! { REDACTS => event };
                if let Some(reason) = reason {
                    content.insert(REASON, reason.as_str());
                }
                content
            }
            Self::Unknown(Unknown { text: None, .. }) => object! {},
            Self::Unknown(Unknown { text: Some(text), .. }) => object! { text::TEXT => text.to_json() },
        }
    }

    /// What is encrypted to make this an encrypted event (LM #int-ev-encrypted), as canonical JSON. A receiver reads at most
    /// 64 KiB of it, and an event carries less, because it holds ciphertext as base64: content of [`MAX_CONTENT_BYTES`] for certain.
    #[must_use]
    pub fn to_payload(&self) -> Vec<u8> {
        object! { CONTENT => self.to_content(), TYPE => self.kind() }.to_canonical()
    }

    /// The message as text without markup, safe to print, of at most [`crate::MAX_RENDERED_BYTES`]. What is not its sender's words
    /// is in brackets. Events it relates to are not named: see [`Post::relation`] and the `event` of the other kinds.
    #[must_use]
    pub fn to_plain(&self) -> String {
        let mut out = Plain::new();
        self.render(&mut out);
        out.finish()
    }

    pub(crate) fn read(kind: &str, content: &Fields<'_>) -> Result<Self, ContentError> {
        match kind {
            REACTION => Reaction::read(content).map(Self::Reaction),
            REDACTION => Redaction::read(content).map(Self::Redaction),
            _ if !BODIES.contains(&kind) => Unknown::read(kind, content).map(Self::Unknown),
            _ => match relation::replaced(content)? {
                Some(event) => {
                    let body = Body::read(kind, &content.object(NEW_CONTENT)?)?;
                    Ok(Self::Edit(Edit { event, body }))
                }
                None => Ok(Self::Post(Post {
                    body: Body::read(kind, content)?,
                    relation: Relation::read(content)?,
                })),
            },
        }
    }

    fn render(&self, out: &mut Plain) {
        match self {
            Self::Post(Post { body, relation }) => {
                match relation {
                    None => {}
                    Some(Relation::Reply(_) | Relation::Thread { reply_to: Some(_), .. }) => out.line("[reply] "),
                    Some(Relation::Thread { reply_to: None, .. }) => out.line("[in thread] "),
                }
                body.render(out);
            }
            Self::Edit(edit) => {
                out.line("[edit] ");
                edit.body.render(out);
            }
            Self::Reaction(Reaction { key, .. }) => {
                out.line("[reaction: ");
                out.line(&clean_line(key.as_str(), SHOWN_REACTION_BYTES));
                out.line("]");
            }
            Self::Redaction(Redaction { reason, .. }) => {
                out.line("[deleted");
                if let Some(reason) = reason {
                    out.line(": ");
                    out.line(reason.as_str());
                }
                out.line("]");
            }
            Self::Unknown(Unknown { text: Some(text), .. }) => text.render(out),
            Self::Unknown(Unknown { kind, text: None }) => {
                out.line("[message of unknown type ");
                out.line(&clean_line(kind, SHOWN_TYPE_BYTES));
                out.line("]");
            }
        }
    }
}

impl Body {
    /// The event type of a post with this body.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => MESSAGE,
            Self::File(_) => FILE,
            Self::Image(_) => IMAGE,
            Self::Video(_) => VIDEO,
            Self::Audio(_) => AUDIO,
            Self::Voice(_) => VOICE,
        }
    }

    /// The file that is sent, if this is not only text.
    #[must_use]
    pub const fn file(&self) -> Option<&File> {
        match self {
            Self::Text(_) => None,
            Self::File(file) => Some(file),
            Self::Image(image) => Some(&image.file),
            Self::Video(video) => Some(&video.file),
            Self::Audio(audio) | Self::Voice(audio) => Some(&audio.file),
        }
    }

    /// The body as text without markup, safe to print, of at most [`crate::MAX_RENDERED_BYTES`].
    #[must_use]
    pub fn to_plain(&self) -> String {
        let mut out = Plain::new();
        self.render(&mut out);
        out.finish()
    }

    /// `kind` is one of [`BODIES`].
    fn read(kind: &str, content: &Fields<'_>) -> Result<Self, ContentError> {
        match kind {
            FILE => File::read(content).map(Self::File),
            IMAGE => Image::read(content).map(Self::Image),
            VIDEO => Video::read(content).map(Self::Video),
            AUDIO => Audio::read(content).map(Self::Audio),
            VOICE => Audio::read(content).map(Self::Voice),
            _ => Text::read(content).map(Self::Text),
        }
    }

    fn to_content(&self) -> Object {
        match self {
            Self::Text(text) => object! { text::TEXT => text.to_json() },
            Self::File(file) => file.to_object(),
            Self::Image(image) => image.to_object(),
            Self::Video(video) => video.to_object(),
            Self::Audio(audio) | Self::Voice(audio) => audio.to_object(),
        }
    }

    fn render(&self, out: &mut Plain) {
        match self {
            Self::Text(text) => text.render(out),
            Self::File(file) => file.render("file", &[], out),
            Self::Image(image) => image.render(out),
            Self::Video(video) => video.render(out),
            Self::Audio(audio) => audio.render("audio", out),
            Self::Voice(audio) => audio.render("voice message", out),
        }
    }
}

impl Post {
    fn to_content(&self) -> Object {
        let mut content = self.body.to_content();
        if let Some(relation) = &self.relation {
            content.insert(RELATES_TO, relation.to_object());
        }
        content
    }
}

impl Edit {
    /// Clients without edits show the text, which says by its star what it is. It is cut so that the content has at most `max_bytes`, but
    /// not to less than [`MIN_FALLBACK_BYTES`].
    pub(crate) fn to_content(&self, max_bytes: usize) -> Object {
        let mut content = object! {
            NEW_CONTENT => self.body.to_content(),
            RELATES_TO => relation::replace(&self.event),
        };
        let used = content.to_canonical().len() + FALLBACK_FRAME_BYTES;
        let room = max_bytes.saturating_sub(used).max(MIN_FALLBACK_BYTES);
        let mut fallback = Plain::with_json_limit(room);
        fallback.text("* ");
        fallback.text(&self.body.to_plain());
        let fallback = Text::plain(fallback.finish()).expect("what is rendered is no longer than a body");
        content.insert(text::TEXT, fallback.to_json());
        content
    }

    /// What the content of an edit of `event` has around the new content at least, in bytes of canonical JSON.
    pub(crate) fn frame_bytes(event: &EventId) -> usize {
        let frame = object! { NEW_CONTENT => object! {}, RELATES_TO => relation::replace(event) };
        frame.to_canonical().len() + FALLBACK_FRAME_BYTES + MIN_FALLBACK_BYTES
    }
}

impl Reaction {
    fn read(content: &Fields<'_>) -> Result<Self, ContentError> {
        let relates_to = relation::annotated(content)?;
        Ok(Self {
            event: relates_to.event_id(relation::EVENT_ID)?,
            key: relates_to.label(relation::KEY)?,
        })
    }
}

impl Redaction {
    fn read(content: &Fields<'_>) -> Result<Self, ContentError> {
        Ok(Self {
            event: content.event_id(REDACTS)?,
            reason: content.optional_label(REASON)?,
        })
    }
}

impl Unknown {
    /// Matrix's events from before extensible ones have their text in `body`.
    fn read(kind: &str, content: &Fields<'_>) -> Result<Self, ContentError> {
        let mut text = Text::read_optional(content)?;
        if text.is_none() {
            let body = content.get(text::BODY).and_then(Json::as_str);
            text = body.and_then(|body| Text::plain(body).ok());
        }
        let kind = kind.to_owned();
        Ok(Self { kind, text })
    }
}

/// How much of a payload is read.
pub(crate) const PAYLOAD_LIMITS: Limits = Limits {
    max_bytes: MAX_EVENT_BYTES,
    max_depth: 32,
    max_values: MAX_EVENT_BYTES,
};
pub(crate) const TYPE: &str = "type";
pub(crate) const CONTENT: &str = "content";
pub(crate) const SHOWN_TYPE_BYTES: usize = 128;

const MESSAGE: &str = "m.message";
const FILE: &str = "m.file";
const IMAGE: &str = "m.image";
const VIDEO: &str = "m.video";
const AUDIO: &str = "m.audio";
const VOICE: &str = "m.voice";
const BODIES: [&str; 6] = [MESSAGE, FILE, IMAGE, VIDEO, AUDIO, VOICE];
const REACTION: &str = "m.reaction";
const REDACTION: &str = "m.room.redaction";
pub(crate) const NEW_CONTENT: &str = "m.new_content";
const REDACTS: &str = "redacts";
const REASON: &str = "reason";
const SHOWN_REACTION_BYTES: usize = 64;
/// `,"m.text":[{"body":""}]`
const FALLBACK_FRAME_BYTES: usize = 23;
/// What clients without edits see of an edit at least, in bytes of canonical JSON.
const MIN_FALLBACK_BYTES: usize = 64;

#[cfg(test)]
mod tests;
