//! What an event says, as a message of MIMI.

use std::collections::BTreeSet;

use nabe_signing::{Json, Object};
use nabe_types::{EventId, UserId};

use super::super::TEXT_PLAIN;
use super::super::content::MimiContent;
use super::super::id::{MessageId, Origin, Salt};
use super::super::part::{ContentHash, Disposition, Encryption, ExternalPart, NestedPart, PartSemantics};
use super::links::mentions_to_mimi;
use super::{
    Conversion, IdMap, LOCATION, Losses, Lost, MENTIONS, NEW_CONTENT, TEXT_PLAIN_ESSENCE, Unconvertible, external,
    plain, reduced,
};
use crate::file::{File, FileSource};
use crate::message::{Body, Edit, Message, Post, Reaction, Redaction};
use crate::relation::Relation;
use crate::text::Text;

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
