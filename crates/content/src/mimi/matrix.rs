//! MIMI content from and to Matrix extensible events. IDs, users' and files' addresses differ on both sides: [`IdMap`] holds what the
//! one doing the conversion knows about them. What did not survive is said ([`Lost`]), never silently dropped.
//!
//! | Feature | MIMI | Matrix | to Matrix | to MIMI |
//! |---|---|---|---|---|
//! | text | `text/plain` part | `m.message` | survives | survives |
//! | Markdown | `text/markdown` part | a body of `m.text`, and the same as `text/plain` | survives | survives |
//! | HTML | `text/html` part | a body of `m.text`, and plain text below | survives | survives |
//! | alternatives | `chooseOne` of texts | bodies of `m.text` | survives without languages | survives |
//! | reply | `inReplyTo` | `m.in_reply_to` | survives | survives |
//! | topic | `topicId`, if it is a message's ID | `m.thread` | survives; else [`Lost::Topic`] | survives |
//! | edit | `replaces` | `m.replace` | survives; what it replies to stays what it was | survives; the caller says what it replies to |
//! | delete | `replaces`, no body | `m.room.redaction` | survives | without the reason |
//! | reaction | disposition `reaction` | `m.reaction`, one each | text survives; else it becomes a reply | survives |
//! | mention | link to `mimi://host/u/user` | link to `matrix.to`, `m.mentions` | survives | survives where the text links to the user; else [`Lost::Mention`] |
//! | file | external, `attachment` | `m.file` | survives | survives |
//! | image | external `image/*`, `inline` | `m.image` | survives | without dimensions and thumbnails |
//! | video | external `video/*`, `inline` | `m.video` | survives | without dimensions, duration and thumbnails |
//! | audio | external `audio/*`, `inline` | `m.audio` | survives | without duration |
//! | voice note | external `audio/*`, `render` | `m.voice` | survives | without duration |
//! | sealed content | `encAlg` 2 | `A256GCM` | survives; with `encAlg` 1 it becomes text, [`Lost::Cipher`] | survives as `encAlg` 2, [`Lost::Cipher`] |
//! | location | external, `geo:` URL | `m.location` | survives | survives |
//! | poll | – | `m.poll.start` | – | its text, [`Lost::Kind`] |
//! | expiring | `expires` | – | [`Lost::Expiry`] | – |
//! | conferencing link | external, `session` | – | text with a link, [`Lost::Session`] | stays text |
//! | content inside | single part that is no text | – | a text that names it, [`Lost::InlineContent`] | – |
//! | several parts | `processAll`, `singleUnit` | an event for each | survives; a unit is [`Lost::Unit`] | – |
//! | long text | any length | an event's (`MAX_CONTENT_BYTES`) | cut, [`Lost::Length`] | survives |
//! | what a part is for | `disposition` | the kind of event | as in the lines above; else [`Lost::Disposition`] | – |
//! | receipts | `application/mimi-message-status` | (no event) | [`Lost::Receipt`] | – |

use std::collections::BTreeMap;

use nabe_signing::Object;
use nabe_types::EventId;

use super::id::MessageId;
use super::part::{Disposition, ExternalPart, NestedPart, Part};
use crate::error::ContentError;
use crate::file::ContentUrl;
use crate::html;
use crate::plain::Plain;
use crate::text::Text;

mod from_matrix;
mod links;
mod to_matrix;

pub use from_matrix::from_matrix;
pub use to_matrix::to_matrix;

/// Which message is which event, and where files are for either side.
#[derive(Clone, Debug, Default)]
pub struct IdMap {
    events: BTreeMap<MessageId, EventId>,
    messages: BTreeMap<EventId, MessageId>,
    content_urls: BTreeMap<String, ContentUrl>,
    web_urls: BTreeMap<String, String>,
}

impl IdMap {
    /// Nothing known.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// That `message` and `event` are the same.
    pub fn link(&mut self, message: MessageId, event: EventId) {
        self.events.insert(message, event.clone());
        self.messages.insert(event, message);
    }

    /// That the same bytes lie at both URLs.
    pub fn link_url(&mut self, web: &str, content: ContentUrl) {
        self.web_urls.insert(content.to_string(), web.to_owned());
        self.content_urls.insert(web.to_owned(), content);
    }
}

/// What came out, and what did not.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Conversion<T> {
    /// What came out.
    pub value: T,
    /// What did not survive, in no particular order, each once.
    pub lost: Vec<Lost>,
}

/// An event's type and content.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Event {
    /// Its type.
    pub kind: String,
    /// Its content.
    pub content: Object,
}

/// What does not survive a conversion.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lost {
    /// When the message, or the content it refers to, expires.
    Expiry,
    /// Its topic is not a message that is an event, or its thread not an event that is a message.
    Topic,
    /// It refers to a message that is no event, or the other way round.
    Reference,
    /// The languages of its parts.
    Language,
    /// Alternatives that only one side can express.
    Alternatives,
    /// That its parts belong together.
    Unit,
    /// Content inside the message that is no text, or that nobody could process.
    InlineContent,
    /// To Matrix: content that only `A256GCM` could carry. To MIMI: it is there, in a cipher that not every client has.
    Cipher,
    /// The file is at no URL that the other side could fetch.
    Url,
    /// The hash of content that is not encrypted.
    Hash,
    /// That a link joins a session.
    Session,
    /// A reaction that is no text.
    ReactionContent,
    /// Receipts.
    Receipt,
    /// Extensions that are not sender and room.
    Extensions,
    /// What a part is for, which no kind of event says.
    Disposition,
    /// A media type that is none, or of what is no file.
    MediaType,
    /// The name of a file: too long, or of what is no file.
    Name,
    /// A picture's description, where there is a caption too.
    AltText,
    /// Thumbnails.
    Thumbnails,
    /// Width and height.
    Dimensions,
    /// How long it plays.
    Duration,
    /// Text or a description beyond what an event carries.
    Length,
    /// To MIMI: that somebody is mentioned to whom the text has no link, or everybody.
    Mention,
    /// Why something was deleted.
    Reason,
    /// What kind of event it was; its text survives.
    Kind,
}

/// Why an event cannot be a message.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unconvertible {
    /// It is no event we understand.
    #[error(transparent)]
    Event(#[from] ContentError),
    /// It does something to an event that is no message.
    #[error("it is about an unknown event")]
    Reference,
    /// It is of an unknown type and has no text.
    #[error("it has no text")]
    NoText,
}

#[derive(Default)]
struct Losses(Vec<Lost>);

impl Losses {
    fn note(&mut self, lost: Lost) {
        if !self.0.contains(&lost) {
            self.0.push(lost);
        }
    }

    fn note_if(&mut self, is_lost: bool, lost: Lost) {
        if is_lost {
            self.note(lost);
        }
    }
}

fn external(part: ExternalPart, disposition: Disposition) -> NestedPart {
    NestedPart::new(Part::External(Box::new(part))).with_disposition(disposition)
}

fn plain(text: &Text) -> String {
    let mut out = Plain::new();
    text.render(&mut out);
    out.finish()
}

fn reduced(html: &str) -> String {
    let mut out = Plain::new();
    html::render(html, &mut out);
    out.finish()
}

const RELATES_TO: &str = crate::relation::RELATES_TO;

const NEW_CONTENT: &str = crate::message::NEW_CONTENT;

const TEXT_PLAIN_ESSENCE: &str = "text/plain";

const LOCATION: &str = "m.location";

const MENTIONS: &str = "m.mentions";

#[cfg(test)]
mod tests;
