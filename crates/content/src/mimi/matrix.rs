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
//! | long text | any length | an event's ([`MAX_CONTENT_BYTES`]) | cut, [`Lost::Length`] | survives |
//! | what a part is for | `disposition` | the kind of event | as in the lines above; else [`Lost::Disposition`] | – |
//! | receipts | `application/mimi-message-status` | (no event) | [`Lost::Receipt`] | – |

use std::collections::{BTreeMap, BTreeSet};

use nabe_signing::{Json, Object, object};
use nabe_types::{EventId, UserId};

use super::TEXT_PLAIN;
use super::choose::{Preferences, choose, is_utf8};
use super::content::{Intent, MimiContent};
use super::extensions::ExtensionKey;
use super::id::{MessageId, Origin, Salt};
use super::part::{ContentHash, Disposition, Encryption, ExternalPart, NestedPart, Part, PartSemantics, SinglePart};
use super::status::StatusReport;
use crate::attachment::MAX_FILE_BYTES;
use crate::error::ContentError;
use crate::file::{ContentUrl, EncryptedFile, File, FileBlock, FileSource, PlainFile};
use crate::html;
use crate::label::Label;
use crate::media::{Audio, Image, Video};
use crate::media_type::MediaType;
use crate::message::{Body, Edit, MAX_CONTENT_BYTES, Message, Post, Reaction, Redaction};
use crate::plain::Plain;
use crate::relation::Relation;
use crate::text::{Text, TextBody, body_to_object};

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

/// The message that says what an event of type `kind` says. Its salt is `salt`, its sender and room `origin`.
pub fn from_matrix(
    kind: &str,
    content: &Object,
    salt: Salt,
    origin: &Origin,
    ids: &IdMap,
) -> Result<Conversion<MimiContent>, Unconvertible> {
    let mut from = FromMatrix {
        ids,
        lost: Losses::default(),
        linked: BTreeSet::new(),
    };
    let new = |body| MimiContent::new(salt, origin, body);
    let value = match Message::parse(kind, content)? {
        Message::Post(Post { body, relation }) => {
            let mut message = new(from.body(&body));
            from.mentions(content);
            from.relation(&mut message, relation.as_ref());
            message
        }
        Message::Edit(Edit { event, body }) => {
            let mut message = new(from.body(&body));
            // Those beside the new content are the ones that the old did not have.
            from.mentions(content.get(NEW_CONTENT).and_then(Json::as_object).unwrap_or(content));
            message.replaces = Some(from.required(&event)?);
            message
        }
        Message::Reaction(Reaction { event, key }) => {
            let body = NestedPart::single(TEXT_PLAIN, key.as_str()).with_disposition(Disposition::REACTION);
            MimiContent::reply(salt, origin, from.required(&event)?, body)
        }
        Message::Redaction(Redaction { event, reason }) => {
            from.lost.note_if(reason.is_some(), Lost::Reason);
            let mut message = new(NestedPart::null());
            message.replaces = Some(from.required(&event)?);
            message
        }
        Message::Unknown(unknown) => {
            let mut message = if let Some(location) = location(kind, content, unknown.text()) {
                new(location)
            } else {
                from.lost.note(Lost::Kind);
                new(from.text(unknown.text().ok_or(Unconvertible::NoText)?))
            };
            from.mentions(content);
            let relation = Relation::read(&crate::fields::Fields::root(content))?;
            from.relation(&mut message, relation.as_ref());
            message
        }
    };
    let lost = from.lost.0;
    Ok(Conversion { value, lost })
}

/// The events that say what a message says: mostly one, several for several parts or reactions, none where nothing can be said. The
/// content of each has at most [`MAX_CONTENT_BYTES`].
#[must_use]
pub fn to_matrix(message: &MimiContent, ids: &IdMap) -> Conversion<Vec<Event>> {
    let mut to = ToMatrix {
        ids,
        lost: Losses::default(),
        room: MAX_CONTENT_BYTES,
        mentioned_times: 1,
    };
    let value = to.message(message);
    let lost = to.lost.0;
    Conversion { value, lost }
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

struct FromMatrix<'a> {
    ids: &'a IdMap,
    lost: Losses,
    /// The users that the text has links to.
    linked: BTreeSet<UserId>,
}

impl FromMatrix<'_> {
    fn required(&self, event: &EventId) -> Result<MessageId, Unconvertible> {
        self.ids.messages.get(event).copied().ok_or(Unconvertible::Reference)
    }

    fn relation(&mut self, message: &mut MimiContent, relation: Option<&Relation>) {
        let (root, reply_to) = match relation {
            None => return,
            Some(Relation::Reply(event)) => (None, Some(event)),
            Some(Relation::Thread { root, reply_to }) => (Some(root), reply_to.as_ref()),
        };
        if let Some(root) = root {
            match self.ids.messages.get(root) {
                Some(id) => message.topic_id = id.as_bytes().to_vec(),
                None => self.lost.note(Lost::Topic),
            }
        }
        message.in_reply_to = reply_to.and_then(|event| self.ids.messages.get(event)).copied();
        self.lost
            .note_if(reply_to.is_some() && message.in_reply_to.is_none(), Lost::Reference);
    }

    /// Whom MIMI's text does not mention is not mentioned: it has no list of them, and nobody who stands for all.
    fn mentions(&mut self, content: &Object) {
        let Some(mentions) = content.get(MENTIONS).and_then(Json::as_object) else {
            return;
        };
        let users = mentions.get("user_ids").and_then(Json::as_array).unwrap_or_default();
        let is_linked = |user: &Json| {
            let user = user.as_str().and_then(|user| UserId::parse(user).ok());
            user.is_some_and(|user| self.linked.contains(&user))
        };
        let is_room = mentions.get("room") == Some(&Json::Bool(true));
        let is_lost = is_room || !users.iter().all(is_linked);
        self.lost.note_if(is_lost, Lost::Mention);
    }

    fn body(&mut self, body: &Body) -> NestedPart {
        let (file, disposition) = match body {
            Body::Text(text) => return self.text(text),
            Body::File(file) => (file, Disposition::ATTACHMENT),
            Body::Image(image) => {
                self.lost.note_if(image.details.is_some(), Lost::Dimensions);
                self.lost.note_if(!image.thumbnails.is_empty(), Lost::Thumbnails);
                let mut part = self.file(&image.file, "image/*");
                if let Some(alt_text) = &image.alt_text {
                    if part.description.is_empty() {
                        part.description = plain(alt_text);
                    } else {
                        self.lost.note(Lost::AltText);
                    }
                }
                return external(part, Disposition::INLINE);
            }
            Body::Video(video) => {
                self.lost.note_if(video.details.is_some(), Lost::Dimensions);
                let seconds = video.details.and_then(|details| details.seconds);
                self.lost.note_if(seconds.is_some(), Lost::Duration);
                self.lost.note_if(!video.thumbnails.is_empty(), Lost::Thumbnails);
                return external(self.file(&video.file, "video/*"), Disposition::INLINE);
            }
            Body::Audio(audio) | Body::Voice(audio) => {
                self.lost.note_if(audio.seconds.is_some(), Lost::Duration);
                let is_voice = matches!(body, Body::Voice(_));
                let disposition = if is_voice {
                    Disposition::RENDER
                } else {
                    Disposition::INLINE
                };
                return external(self.file(&audio.file, "audio/*"), disposition);
            }
        };
        external(self.file(file, ""), disposition)
    }

    /// `kind` is the media type where the event names none, so that an image stays one.
    fn file(&mut self, file: &File, kind: &str) -> ExternalPart {
        let block = &file.block;
        let url = block.source.url().to_string();
        let web = self.ids.web_urls.get(&url);
        self.lost.note_if(web.is_none(), Lost::Url);
        let mut part = ExternalPart::link(web.unwrap_or(&url), "");
        kind.clone_into(&mut part.content_type);
        if let Some(media_type) = &block.media_type {
            media_type.as_str().clone_into(&mut part.content_type);
        }
        let is_plain = |text: &Text| text.body_of(TEXT_PLAIN_ESSENCE).is_some() && text.bodies().len() == 1;
        let is_rich = file.caption.as_ref().is_some_and(|caption| !is_plain(caption));
        self.lost.note_if(is_rich, Lost::Alternatives);
        part.description = file.caption.as_ref().map_or_else(String::new, plain);
        part.filename = block
            .name
            .as_ref()
            .map_or_else(String::new, |name| name.as_str().to_owned());
        match &block.source {
            FileSource::Plain(file) => part.size = file.size.unwrap_or(0),
            FileSource::Encrypted(file) => {
                self.lost.note(Lost::Cipher);
                part.size = file.ciphertext_size();
                part.hash = ContentHash::sha256(file.sha256);
                let (key, nonce) = (file.key.to_vec(), file.nonce.to_vec());
                part.encryption = Encryption::new(Encryption::AES_256_GCM, key, nonce, Vec::new())
                    .expect("key and nonce have their lengths");
            }
        }
        part
    }

    /// Text that only repeats what the body before it says without markup is left out: whoever wants it can make it.
    fn text(&mut self, text: &Text) -> NestedPart {
        let mut parts: Vec<NestedPart> = Vec::new();
        let mut last_plain: Option<String> = None;
        for body in text.bodies() {
            let (essence, words) = (body.media_type().essence(), body.body());
            if essence == "text/plain" && last_plain.as_deref() == Some(words) {
                continue;
            }
            let (part, plain) = match essence {
                "text/plain" => (NestedPart::text(words), None),
                "text/html" => (
                    NestedPart::html(&mentions_to_mimi(words, &mut self.linked)),
                    Some(reduced(words)),
                ),
                "text/markdown" => {
                    let linked = mentions_to_mimi(words, &mut self.linked);
                    (NestedPart::markdown(&linked), Some(words.to_owned()))
                }
                _ => (NestedPart::single(body.media_type().as_str(), words), None),
            };
            parts.push(part);
            last_plain = plain;
        }
        if parts.len() == 1 {
            parts.remove(0)
        } else {
            NestedPart::multi(PartSemantics::ChooseOne, parts)
        }
    }
}

struct ToMatrix<'a> {
    ids: &'a IdMap,
    lost: Losses,
    /// Bytes of canonical JSON that the content of each event may have, without its relation.
    room: usize,
    /// How often the content lists who is mentioned.
    mentioned_times: usize,
}

impl ToMatrix<'_> {
    fn message(&mut self, message: &MimiContent) -> Vec<Event> {
        self.lost.note_if(message.expires.is_some(), Lost::Expiry);
        let known = [ExtensionKey::SENDER_URI, ExtensionKey::ROOM_URI];
        let foreign = message.extensions.iter().any(|(key, _)| !known.contains(key));
        self.lost.note_if(foreign, Lost::Extensions);
        if StatusReport::from_part(&message.body).is_some() {
            self.lost.note(Lost::Receipt);
            return Vec::new();
        }
        match message.intent() {
            Intent::Nothing => Vec::new(),
            Intent::Post | Intent::Reply { .. } => {
                let relation = self.relation(message);
                if let Some(relation) = &relation {
                    self.room -= member_bytes(RELATES_TO, relation.to_object());
                }
                let mut events = self.body(&message.body);
                for event in &mut events {
                    if let Some(relation) = &relation {
                        event.content.insert(RELATES_TO, relation.to_object());
                    }
                }
                events
            }
            Intent::Reaction { to } => match self.event(&to) {
                Some(event) => self.reactions(message, &event),
                None => Vec::new(),
            },
            Intent::Edit { of } => match self.event(&of) {
                Some(event) => self.edit(message, event),
                None => Vec::new(),
            },
            Intent::Delete { of } => match self.event(&of) {
                Some(event) => vec![written(&Message::Redaction(Redaction { event, reason: None }))],
                None => Vec::new(),
            },
        }
    }

    fn event(&mut self, id: &MessageId) -> Option<EventId> {
        let event = self.ids.events.get(id).cloned();
        self.lost.note_if(event.is_none(), Lost::Reference);
        event
    }

    fn relation(&mut self, message: &MimiContent) -> Option<Relation> {
        let reply_to = message.in_reply_to.and_then(|id| self.event(&id));
        if message.topic_id.is_empty() {
            return reply_to.map(Relation::Reply);
        }
        let topic: Option<[u8; 32]> = message.topic_id.as_slice().try_into().ok();
        let root = topic
            .and_then(|bytes| MessageId::from_bytes(bytes).ok())
            .and_then(|id| self.ids.events.get(&id).cloned());
        match root {
            Some(root) => Some(Relation::Thread { root, reply_to }),
            None => {
                self.lost.note(Lost::Topic);
                reply_to.map(Relation::Reply)
            }
        }
    }

    /// One event for each reaction; what is no text becomes a reply, as the draft suggests.
    fn reactions(&mut self, message: &MimiContent, event: &EventId) -> Vec<Event> {
        let leaves = message.body.parts().filter_map(|(_, part)| match &part.part {
            Part::Single(single) => Some(Some(single)),
            Part::External(_) => Some(None),
            Part::Null | Part::Multi(_) => None,
        });
        let keys: Option<Vec<Label>> = leaves
            .map(|single| {
                let single = single.filter(|single| single.essence().as_deref() == Some("text/plain"))?;
                Label::new(single.as_text()?).ok()
            })
            .collect();
        match keys {
            Some(keys) => {
                self.languages(&message.body);
                keys.into_iter()
                    .map(|key| {
                        let event = event.clone();
                        written(&Message::Reaction(Reaction { event, key }))
                    })
                    .collect()
            }
            None => {
                self.lost.note(Lost::ReactionContent);
                self.room -= member_bytes(RELATES_TO, Relation::Reply(event.clone()).to_object());
                let text = self.clean(&message.to_plain());
                vec![written(&Message::Post(Post::reply(event.clone(), Body::Text(text))))]
            }
        }
    }

    /// Only one event can take another's place. What it says to clients without edits takes the room that is left: nothing of it is
    /// missed that the sender wrote.
    fn edit(&mut self, message: &MimiContent, event: EventId) -> Vec<Event> {
        self.room -= Edit::frame_bytes(&event);
        self.mentioned_times = 2;
        let mut events = self.body(&message.body);
        self.lost.note_if(events.len() > 1, Lost::Unit);
        events.truncate(1);
        for new in &mut events {
            let content = std::mem::take(&mut new.content);
            let mentions = content.get(MENTIONS).cloned();
            let read = Message::parse(&new.kind, &content);
            new.content = match read {
                Ok(Message::Post(Post { body, .. })) => {
                    let event = event.clone();
                    let mentions = mentions.clone().map(|mentions| member_bytes(MENTIONS, mentions));
                    let room = MAX_CONTENT_BYTES - self.mentioned_times * mentions.unwrap_or(0);
                    Edit { event, body }.to_content(room)
                }
                _ => object! {
                    "m.new_content" => content,
                    RELATES_TO => crate::relation::replace(&event),
                },
            };
            if let Some(mentions) = mentions {
                if let Some(new_content) = new.content.get_mut(NEW_CONTENT).and_then(Json::as_object_mut) {
                    new_content.insert(MENTIONS, mentions.clone());
                }
                new.content.insert(MENTIONS, mentions);
            }
        }
        events
    }

    fn body(&mut self, body: &NestedPart) -> Vec<Event> {
        self.languages(body);
        if let Some(text) = texts(body) {
            self.rendered(body);
            return vec![self.text_event(&text)];
        }
        let anything = Preferences::new(&["text/*", "image/*", "video/*", "audio/*", "*"], &[]);
        let steps = choose(body, &anything);
        let chosen = body.parts().any(|(_, part)| match &part.part {
            Part::Multi(multi) => multi.semantics == PartSemantics::ChooseOne,
            _ => false,
        });
        self.lost.note_if(chosen, Lost::Alternatives);
        self.lost.note_if(steps.iter().any(|step| step.in_unit), Lost::Unit);
        let leaves: Vec<&NestedPart> = body
            .parts()
            .map(|(_, part)| part)
            .filter(|part| matches!(part.part, Part::Single(_) | Part::External(_)))
            .collect();
        // What nobody can process, and what an HTML part refers to, which finds it in the message alone.
        let is_left_out = !chosen && steps.len() < leaves.len();
        match (&*steps, &*leaves) {
            ([], [only]) => return vec![self.part(only)],
            ([], [_, ..]) => {
                self.lost.note(Lost::InlineContent);
                return vec![self.note("[content that cannot be shown]")];
            }
            _ => self.lost.note_if(is_left_out, Lost::InlineContent),
        }
        steps.iter().map(|step| self.part(step.part)).collect()
    }

    fn languages(&mut self, body: &NestedPart) {
        let has_language = body.parts().any(|(_, part)| !part.language.as_str().is_empty());
        self.lost.note_if(has_language, Lost::Language);
    }

    /// Every part of it becomes something that is rendered.
    fn rendered(&mut self, body: &NestedPart) {
        for (_, part) in body.parts() {
            self.disposed(part.disposition, Disposition::RENDER);
        }
    }

    /// What is `stated` becomes what would be `given` by [`from_matrix`].
    fn disposed(&mut self, stated: Disposition, given: Disposition) {
        let survives = stated == given || stated == Disposition::UNSPECIFIED;
        self.lost.note_if(!survives, Lost::Disposition);
    }

    fn part(&mut self, part: &NestedPart) -> Event {
        if let Some(text) = texts(part) {
            self.rendered(part);
            return self.text_event(&text);
        }
        match &part.part {
            Part::External(external) => self.external(external, part.disposition),
            Part::Single(single) => {
                self.lost.note(Lost::InlineContent);
                let name = if single.content_type.is_empty() {
                    "content"
                } else {
                    &single.content_type
                };
                self.note(&format!("[{name}, {} bytes]", single.content.len()))
            }
            Part::Null | Part::Multi(_) => self.note("[empty message]"),
        }
    }

    fn note(&mut self, words: &str) -> Event {
        let text = self.clean(words);
        written(&Message::Post(Post::new(Body::Text(text))))
    }

    /// Words as the text of an event, cut to what it has room for.
    fn clean(&mut self, words: &str) -> Text {
        self.clean_within(words, self.room - TEXT_FRAME_BYTES)
    }

    /// Words as a text, cut to this many bytes of canonical JSON.
    fn clean_within(&mut self, words: &str, bytes: usize) -> Text {
        let mut out = Plain::with_json_limit(bytes);
        out.text(words);
        self.lost.note_if(out.is_full(), Lost::Length);
        Text::plain(out.finish()).expect("what is rendered is no longer than a body")
    }

    fn text_event(&mut self, parts: &[&SinglePart]) -> Event {
        let mut bodies = Vec::new();
        let mut mentioned: BTreeSet<UserId> = BTreeSet::new();
        // What is left for all bodies together, and who is mentioned in them.
        let mut left = self.room - LIST_FRAME_BYTES;
        let times = self.mentioned_times;
        let mut offered = |media_type: &str, words: &str, users: BTreeSet<UserId>| {
            let media_type = MediaType::parse(media_type).map_err(|_| Lost::Alternatives)?;
            if bodies.len() == Text::MAX_BODIES {
                return Err(Lost::Alternatives);
            }
            let body = TextBody::new(media_type, words).map_err(|_| Lost::Length)?;
            let mut bytes = body_to_object(&body).to_canonical().len() + 1;
            for user in users.difference(&mentioned) {
                bytes += times * (Json::from(user.as_str()).to_canonical().len() + 1);
            }
            if mentioned.is_empty() && !users.is_empty() {
                bytes += times * member_bytes(MENTIONS, mentions(&BTreeSet::new()));
            }
            left = left.checked_sub(bytes).ok_or(Lost::Length)?;
            bodies.push(body);
            mentioned.extend(users);
            Ok(())
        };
        let mut lost = Vec::new();
        for (at, part) in parts.iter().enumerate() {
            let words = part.as_text().unwrap_or_default();
            let essence = part.essence().unwrap_or_default();
            // The sender's own plain text follows, so none is made.
            let plain_follows = parts
                .get(at + 1)
                .is_some_and(|next| next.essence().as_deref() == Some("text/plain"));
            match &*essence {
                "text/html" | "text/markdown" => {
                    let mut users = BTreeSet::new();
                    let words = mentions_to_matrix(words, &mut users);
                    lost.extend(offered(&essence, &words, users).err());
                    if !plain_follows {
                        let plain = if essence == "text/html" { reduced(&words) } else { words };
                        // Where it has no room, nothing is missed that the sender wrote.
                        let _ = offered("text/plain", &plain, BTreeSet::new());
                    }
                }
                "text/plain" => lost.extend(offered(&essence, words, BTreeSet::new()).err()),
                _ => lost.extend(offered(&part.content_type, words, BTreeSet::new()).err()),
            }
        }
        for missed in lost {
            self.lost.note(missed);
        }
        // If no alternative can be sent as it is, the one that the sender likes least, which says it in the plainest way.
        let text = Text::new(bodies).unwrap_or_else(|_| {
            let last = parts.last().and_then(|part| part.as_text()).unwrap_or_default();
            self.clean(last)
        });
        let mut event = written(&Message::Post(Post::new(Body::Text(text))));
        if !mentioned.is_empty() {
            event.content.insert(MENTIONS, mentions(&mentioned));
        }
        event
    }

    fn external(&mut self, part: &ExternalPart, disposition: Disposition) -> Event {
        self.lost.note_if(part.expires != 0, Lost::Expiry);
        if disposition == Disposition::SESSION {
            self.lost.note(Lost::Session);
            return self.note(&with_description(&part.description, &part.url));
        }
        if part.url.starts_with("geo:") {
            self.disposed(disposition, Disposition::RENDER);
            self.lost.note_if(!part.filename.is_empty(), Lost::Name);
            self.lost.note_if(!part.content_type.is_empty(), Lost::MediaType);
            let words = with_description(&part.description, &part.url);
            let mut location = object! { "uri" => part.url.as_str() };
            // The description is there twice.
            let uri_bytes = member_bytes(LOCATION, location.clone());
            let Some(room) = self.room.checked_sub(2 * uri_bytes + LOCATION_FRAME_BYTES) else {
                self.lost.note(Lost::Kind);
                return self.note(&words);
            };
            if !part.description.is_empty() {
                let fits = Json::from(part.description.as_str()).to_canonical().len() <= room / 2;
                let description = if fits {
                    part.description.clone()
                } else {
                    plain(&self.clean_within(&part.description, room / 2))
                };
                location.insert("description", description);
            }
            let left = self.room - member_bytes(LOCATION, location.clone()) - TEXT_FRAME_BYTES;
            let text = self.clean_within(&words, left);
            let content = object! { LOCATION => location, crate::text::TEXT => text.to_json() };
            return Event {
                kind: LOCATION.to_owned(),
                content,
            };
        }
        let Some(source) = self.source(part) else {
            let name = if part.description.is_empty() {
                &part.filename
            } else {
                &part.description
            };
            return self.note(&with_description(name, &part.url));
        };
        let name = Label::new(part.filename.as_str()).ok();
        self.lost
            .note_if(name.is_none() && !part.filename.is_empty(), Lost::Name);
        let media_type = part.media_type();
        let essence = media_type
            .as_ref()
            .map_or(part.content_type.as_str(), MediaType::essence);
        let kind = essence.split('/').next().unwrap_or_default().to_owned();
        let is_general = essence.is_empty() || ["image/*", "video/*", "audio/*"].contains(&essence);
        self.lost.note_if(media_type.is_none() && !is_general, Lost::MediaType);
        let mut file = File::new(FileBlock {
            name,
            media_type,
            source,
        });
        if !part.description.is_empty() {
            let block = written(&Message::Post(Post::new(Body::File(file.clone()))));
            // Name, media type and URL are short. The longest kind's name may take the place of the file's.
            let left = self.room - block.content.to_canonical().len() - CAPTION_FRAME_BYTES;
            file.caption = Some(self.clean_within(&part.description, left));
        }
        let body = match (&*kind, disposition.effective()) {
            (_, Disposition::ATTACHMENT) => Body::File(file),
            ("image", _) => Body::Image(Image {
                file,
                details: None,
                alt_text: None,
                thumbnails: Vec::new(),
            }),
            ("video", _) => Body::Video(Video {
                file,
                details: None,
                thumbnails: Vec::new(),
            }),
            ("audio", Disposition::RENDER) => Body::Voice(Audio { file, seconds: None }),
            ("audio", _) => Body::Audio(Audio { file, seconds: None }),
            _ => Body::File(file),
        };
        let given = match body {
            Body::File(_) => Disposition::ATTACHMENT,
            Body::Voice(_) | Body::Text(_) => Disposition::RENDER,
            Body::Image(_) | Body::Video(_) | Body::Audio(_) => Disposition::INLINE,
        };
        self.disposed(disposition, given);
        written(&Message::Post(Post::new(body)))
    }

    /// Where Matrix clients find the file, if they can and if they can open it.
    fn source(&mut self, part: &ExternalPart) -> Option<FileSource> {
        let mapped = self.ids.content_urls.get(&part.url).cloned();
        let Some(url) = mapped.or_else(|| ContentUrl::parse(&part.url).ok()) else {
            self.lost.note(Lost::Url);
            return None;
        };
        let encryption = &part.encryption;
        if encryption.algorithm() == 0 {
            self.lost.note_if(part.hash.algorithm() != 0, Lost::Hash);
            let size = (part.size != 0).then_some(part.size);
            return Some(FileSource::Plain(PlainFile { url, size }));
        }
        let sealed = || {
            let is_ours = encryption.algorithm() == Encryption::AES_256_GCM
                && encryption.aad().is_empty()
                && part.hash.algorithm() == ContentHash::SHA_256;
            let size = part.size.checked_sub(super::external::TAG_BYTES)?;
            let file = EncryptedFile {
                url,
                key: encryption.key().try_into().ok()?,
                nonce: encryption.nonce().try_into().ok()?,
                sha256: part.hash.hash().try_into().ok()?,
                size,
            };
            (is_ours && size <= MAX_FILE_BYTES).then_some(FileSource::Encrypted(file))
        };
        let source = sealed();
        self.lost.note_if(source.is_none(), Lost::Cipher);
        source
    }
}

fn written(message: &Message) -> Event {
    Event {
        kind: message.kind().to_owned(),
        content: message.to_content(),
    }
}

/// What a member adds to an object, in bytes of canonical JSON.
fn member_bytes(name: &str, value: impl Into<Json>) -> usize {
    let mut object = object! {};
    object.insert(name, value.into());
    // A comma instead of the braces.
    object.to_canonical().len() - 1
}

fn mentions(users: &BTreeSet<UserId>) -> Object {
    let users: Json = users.iter().map(|user| Json::from(user.as_str())).collect();
    object! { "user_ids" => users }
}

fn external(part: ExternalPart, disposition: Disposition) -> NestedPart {
    NestedPart::new(Part::External(Box::new(part))).with_disposition(disposition)
}

/// The text parts that this part comes down to: one, or alternatives. `None` if it is anything else.
fn texts(part: &NestedPart) -> Option<Vec<&SinglePart>> {
    let single = |part: &'_ NestedPart| match &part.part {
        Part::Single(single) => single
            .media_type()
            .is_some_and(|media_type| media_type.essence().starts_with("text/") && is_utf8(media_type.as_str())),
        _ => false,
    };
    let as_single = |part: &NestedPart| single(part);
    match &part.part {
        Part::Single(text) if as_single(part) && text.as_text().is_some() => Some(vec![text]),
        Part::Multi(multi) if multi.semantics == PartSemantics::ChooseOne => multi
            .parts
            .iter()
            .map(|part| match &part.part {
                Part::Single(text) if as_single(part) && text.as_text().is_some() => Some(text),
                _ => None,
            })
            .collect(),
        _ => None,
    }
}

/// A place on earth, which this crate's messages do not know.
fn location(kind: &str, content: &Object, text: Option<&Text>) -> Option<NestedPart> {
    let block = content
        .get(LOCATION)
        .and_then(Json::as_object)
        .filter(|_| kind == LOCATION)?;
    let uri = block
        .get("uri")
        .and_then(Json::as_str)
        .filter(|uri| uri.starts_with("geo:"))?;
    let description = block.get("description").and_then(Json::as_str).map(str::to_owned);
    let description = description.or_else(|| text.map(plain)).unwrap_or_default();
    Some(external(ExternalPart::link(uri, &description), Disposition::RENDER))
}

fn with_description(description: &str, url: &str) -> String {
    if description.is_empty() {
        url.to_owned()
    } else {
        format!("{description}: {url}")
    }
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

/// Links to users by MIMI URIs, as `matrix.to` has them.
fn mentions_to_matrix(text: &str, mentioned: &mut BTreeSet<UserId>) -> String {
    replace_links(text, "mimi://", |link| {
        let target = target(link);
        let (host, local) = target.split_once("/u/")?;
        let user = UserId::parse(&format!("@{local}:{host}")).ok()?;
        let link = format!("{MATRIX_TO}{}", user.as_str());
        mentioned.insert(user);
        Some((target.len(), link))
    })
}

/// Links to users as `matrix.to` has them, by MIMI URIs, which need no servers to ask for the user.
fn mentions_to_mimi(text: &str, linked: &mut BTreeSet<UserId>) -> String {
    replace_links(text, MATRIX_TO, |link| {
        let target = target(link);
        let user = UserId::parse(&percent_decoded(target)?).ok()?;
        let uri = format!("mimi://{}/u/{}", user.server_name().as_str(), user.localpart());
        linked.insert(user);
        let query = link.get(target.len()..).and_then(|rest| rest.strip_prefix('?'));
        let has_query = query.is_some_and(|query| query.starts_with(|c: char| c.is_ascii_alphanumeric()));
        Some((if has_query { link.len() } else { target.len() }, uri))
    })
}

/// Without query and entities.
fn target(link: &str) -> &str {
    link.split(['?', '&']).next().unwrap_or_default()
}

/// `None` if it is no UTF-8, or what follows a `%` no two digits.
fn percent_decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let (digits, after) = rest.split_first_chunk::<2>()?;
        let digit = |byte: u8| char::from(byte).to_digit(16);
        out.push(u8::try_from(digit(digits[0])? << 4 | digit(digits[1])?).ok()?);
        rest = after;
    }
    String::from_utf8(out).ok()
}

/// Replaces links that begin with `prefix`. What follows the prefix is given to `replace`, up to where the link ends, and replaced as
/// far as it says by what it says.
fn replace_links(text: &str, prefix: &str, mut replace: impl FnMut(&str) -> Option<(usize, String)>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(prefix) {
        let (before, link) = rest.split_at(at);
        let inside = link.get(prefix.len()..).unwrap_or_default();
        let end = inside
            .find(|c: char| c.is_whitespace() || "\"'()<>[]#\\".contains(c))
            .unwrap_or(inside.len());
        let (link, after) = inside.split_at(end);
        out.push_str(before);
        let (replaced, new) = replace(link).unwrap_or_else(|| (0, prefix.to_owned()));
        let (_, kept) = link.split_at_checked(replaced).unwrap_or_default();
        out.push_str(&new);
        out.push_str(kept);
        rest = after;
    }
    out.push_str(rest);
    out
}

const RELATES_TO: &str = crate::relation::RELATES_TO;
const NEW_CONTENT: &str = crate::message::NEW_CONTENT;
const TEXT_PLAIN_ESSENCE: &str = "text/plain";
const LOCATION: &str = "m.location";
const MENTIONS: &str = "m.mentions";
/// `{"m.text":[{"body":""}]}`
const TEXT_FRAME_BYTES: usize = 24;
/// `{"m.text":[]}`, less the comma that is not before the first body.
const LIST_FRAME_BYTES: usize = 12;
/// What a location has around its URI and description, and the text around both, with room to spare.
const LOCATION_FRAME_BYTES: usize = 128;
/// What a caption has around its words, and a voice message more than a file, with room to spare.
const CAPTION_FRAME_BYTES: usize = 128;
const MATRIX_TO: &str = "https://matrix.to/#/";

#[cfg(test)]
mod tests;
