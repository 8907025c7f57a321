//! What a message of MIMI says, as events.

use std::collections::BTreeSet;

use nabe_signing::{Json, Object, object};
use nabe_types::{EventId, UserId};

use super::super::choose::{Preferences, choose, is_utf8};
use super::super::content::{Intent, MimiContent};
use super::super::extensions::ExtensionKey;
use super::super::id::MessageId;
use super::super::part::{
    ContentHash, Disposition, Encryption, ExternalPart, NestedPart, Part, PartSemantics, SinglePart,
};
use super::super::status::StatusReport;
use super::links::mentions_to_matrix;
use super::{Conversion, Event, IdMap, LOCATION, Losses, Lost, MENTIONS, NEW_CONTENT, RELATES_TO, plain, reduced};
use crate::attachment::MAX_FILE_BYTES;
use crate::file::{ContentUrl, EncryptedFile, File, FileBlock, FileSource, PlainFile};
use crate::label::Label;
use crate::media::{Audio, Image, Video};
use crate::media_type::MediaType;
use crate::message::{Body, Edit, MAX_CONTENT_BYTES, Message, Post, Reaction, Redaction};
use crate::plain::Plain;
use crate::relation::Relation;
use crate::text::{Text, TextBody, body_to_object};

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

    /// What is `stated` becomes what would be `given` by `from_matrix`.
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
            let size = part.size.checked_sub(super::super::external::TAG_BYTES)?;
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

pub(super) fn written(message: &Message) -> Event {
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

fn with_description(description: &str, url: &str) -> String {
    if description.is_empty() {
        url.to_owned()
    } else {
        format!("{description}: {url}")
    }
}

/// `{"m.text":[{"body":""}]}`
const TEXT_FRAME_BYTES: usize = 24;

/// `{"m.text":[]}`, less the comma that is not before the first body.
const LIST_FRAME_BYTES: usize = 12;

/// What a location has around its URI and description, and the text around both, with room to spare.
const LOCATION_FRAME_BYTES: usize = 128;

/// What a caption has around its words, and a voice message more than a file, with room to spare.
const CAPTION_FRAME_BYTES: usize = 128;
