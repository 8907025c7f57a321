//! What others say: decrypted, read, and what a hub's frank on it is worth (MIMI #message-franking, MC #general-handling).
//!
//! What a hub could forge is checked here: who sent a message, and when.

use std::borrow::Cow;

use nabe_content::mimi::arrival::{self, Arrival, MAX_CLOCK_SKEW, Suspicion};
use nabe_content::mimi::franking::{self, FrankingTag, Known};
use nabe_content::mimi::status::MessageStatus;
use nabe_content::mimi::{MEDIA_TYPE, MimiContent, NestedPart, Origin, Received, Salt};
use nabe_mls::mimi::Identity;
use nabe_types::UnixMillis;
use nabe_wire::app_data::{ApplicationFraming, MediaTypeList, SafeAad};
use nabe_wire::franking::Frank;
use nabe_wire::mls::{CipherSuite, ComponentId, MlsMessage, MlsMessageBody};
use nabe_wire::uri::MimiUri;
use nabe_wire::{Kept, Message as _};
use openmls::framing::{ProcessedMessageContent, Sender};
use openmls::group::MlsGroup;
use openmls_traits::crypto::OpenMlsCrypto as _;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use super::error::{Doing as _, MimiError};
use super::group;
use super::lifetime::Sent;
use super::may;
use super::operational;
use super::receive::{Work, epoch_of, hash_of};
use super::rules;
use super::status::{is_worth_telling, report_in};
use super::store::{Framing, GroupPlace, KnownRoom, MimiItem, MimiStatus, Names, NewItem};
use crate::error::StoreError;
use crate::mls::MAX_PAST_EPOCHS;
use crate::provider::{Provider, crypto};
use crate::receive::reason;
use crate::store::ClientStore;
use crate::undecryptable::Undecryptable;

/// Why a message cannot be read.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Unreadable {
    /// It does not decrypt.
    #[error("{reason}")]
    Undecryptable {
        /// Why.
        reason: Undecryptable,
    },
    /// The credential of the client that sent it names no user.
    #[error("its sender's credential names no user")]
    NoUser,
    /// It decrypts, and is in no framing, though the room has one (MLSX #content-advertisement).
    #[error("it says of no media type what it is")]
    NotFramed,
    /// It decrypts, and is no MIMI content.
    #[error("it is malformed: {what}")]
    Malformed {
        /// Where and why.
        what: String,
    },
    /// It says that somebody else sent it, or to another room.
    #[error("it names another sender or another room than it came from")]
    OtherOrigin,
    /// The role of who sent it does not let them say that (MRP #message-capabilities).
    #[error("its sender's role lacks {capability}")]
    NotPermitted {
        /// What it would take.
        capability: String,
    },
    /// It names a file that the room's policy, or the role of who sent it, does not let them send (MRP #assets).
    #[error("its file: {why}")]
    FilePolicy {
        /// Why not.
        why: String,
    },
    /// It expires as the room's policy has no message expire, or does not though it should (MRP #message-expiration).
    #[error("{why}")]
    Expiry {
        /// What the policy says.
        why: String,
    },
    /// It has a preview of a link, which the room's policy forbids (MRP #link-preview).
    #[error("it has a preview of a link, which the room's policy forbids")]
    PreviewForbidden,
    /// It is of a media type that the room does not have (MLSX #content-advertisement).
    #[error("it is {media_type}, which nobody in the room has to read")]
    OtherMediaType {
        /// Which.
        media_type: String,
    },
    /// Most likely malicious (MC #general-handling).
    #[error("discarded: {what}")]
    Suspicious {
        /// Why.
        what: String,
    },
}

/// What the hub's stamp on a message is worth (MIMI #message-franking).
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(tag = "franking", rename_all = "snake_case")]
pub enum Franking {
    /// There is none: the room has no agent, or the sender asked for none.
    None,
    /// The hub has stamped this message of this sender in this room at this time.
    Genuine,
    /// There is one that proves nothing.
    NotGenuine {
        /// Why.
        reason: String,
    },
}

impl Work<'_> {
    pub(super) fn application(
        &mut self,
        room: &MimiUri,
        message: &Kept<MlsMessage>,
        accepted: UnixMillis,
        frank: Option<&Frank>,
    ) -> Result<(), MimiError> {
        let hash = hash_of(message.as_bytes());
        if MimiItem::is_there(self.connection, room, &hash)? || self.sent(room, &hash, accepted, frank)? {
            return Ok(());
        }
        let known = KnownRoom::load_or_new(self.connection, room)?;
        if known.status == MimiStatus::Removed {
            return Ok(());
        }
        // A stranger's hub could go on for ever.
        if !known.status.is_in() && MimiItem::count(self.connection, room)? >= MAX_UNREAD {
            return Ok(());
        }
        let mut item = NewItem {
            room,
            hash: &hash,
            accepted,
            sender: None,
            client: None,
            content: Err(&NOT_IN_GROUP),
            names: None,
            place: None,
            frank,
            franking: &Franking::None,
            sent: false,
            read_at: None,
            moderates: false,
        };
        if !known.status.is_in() {
            item.put(self.connection)?;
            return Ok(());
        }
        let mut group = self.group(&known)?;
        let Decrypted { by, leaf, data } = match self.decrypt(&known, &mut group, message)? {
            Ok(decrypted) => decrypted,
            Err(reason) => {
                item.content = Err(&reason);
                item.put(self.connection)?;
                return Ok(());
            }
        };
        item.sender = Some(by.user());
        item.client = by.client();
        let group_id = group.group_id().as_slice().to_vec();
        let place = GroupPlace { group_id, leaf };
        item.place = Some(&place);
        let tag = franking_tag(message);
        let worth = self.franking(&group, room, by.user(), accepted, &data, tag, frank)?;
        item.franking = &worth;
        let is_own = *by.user() == self.device.user;
        item.read_at = is_own.then_some(self.now);
        let types = self.media_types_of(&group, room, message)?;
        let read = self.read(types, &known, &by, accepted, &data);
        let read = self.permitted(&group, room, by.user(), accepted, read)?;
        item.moderates = match &read {
            Ok(Said::Mimi(received)) => may::moderates(&group, by.user(), received.content()),
            _ => false,
        };
        if let Ok(Said::Mimi(received)) = &read
            && MimiItem::has_come(self.connection, room, &received.id())?
        {
            // The ciphertext is known from now on, and nobody is told.
            let what = Suspicion::DuplicateId.to_string();
            let duplicate = Unreadable::Suspicious { what };
            item.content = Err(&duplicate);
            item.keep(self.connection)?;
            return Ok(());
        }
        item.names = match &read {
            Ok(Said::Mimi(received)) => Some(Names::of(received)),
            Ok(Said::Other { .. }) => None,
            Err(refused) => refused.names.as_deref().copied(),
        };
        item.content = match &read {
            Ok(Said::Mimi(received)) => Ok((MEDIA_TYPE, received.bytes(), &data)),
            Ok(Said::Other { media_type, content }) => Ok((media_type, content, &data)),
            Err(refused) => Err(&refused.reason),
        };
        if item.put(self.connection)?.is_none() {
            return Ok(());
        }
        match read {
            Ok(Said::Mimi(received)) => self.said(&group, room, &received, is_own),
            Err(Refused { names: Some(names), .. }) if !is_own => {
                Ok(self.note_arrival(&group, room, &names.id, MessageStatus::ERROR)?)
            }
            _ => Ok(()),
        }
    }

    /// What was said, if the sender's role and the room's policy let them say it.
    fn permitted(
        &self,
        group: &MlsGroup,
        room: &MimiUri,
        sender: &MimiUri,
        accepted: UnixMillis,
        read: Result<Said, Refused>,
    ) -> Result<Result<Said, Refused>, MimiError> {
        let content = match &read {
            Ok(Said::Mimi(received)) => Cow::Borrowed(received.content()),
            Ok(Said::Other { media_type, content }) => Cow::Owned(as_post(room, sender, media_type, content)?),
            Err(_) => return Ok(read),
        };
        let sent = Sent::accepted(accepted);
        match rules::breach(self.connection, group, room, sender, &content, sent)? {
            Some(breach) => Ok(Err(Unreadable::from(breach).into())),
            None => Ok(read),
        }
    }

    /// What a message that has come brings about.
    fn said(&mut self, group: &MlsGroup, room: &MimiUri, received: &Received, is_own: bool) -> Result<(), MimiError> {
        self.note_expiry(room, &received.id(), received.content(), is_own.then_some(self.now))?;
        match report_in(received) {
            Some(report) if is_own => self.told_elsewhere(room, &report),
            None if !is_own && is_worth_telling(received) => {
                Ok(self.note_arrival(group, room, &received.id(), MessageStatus::DELIVERED)?)
            }
            _ => Ok(()),
        }
    }

    /// Who sent a message, and what was encrypted.
    fn decrypt(
        &self,
        known: &KnownRoom,
        group: &mut MlsGroup,
        message: &Kept<MlsMessage>,
    ) -> Result<Result<Decrypted, Unreadable>, MimiError> {
        let no = |reason| Ok(Err(Unreadable::Undecryptable { reason }));
        let Some(epoch) = epoch_of(message) else {
            return no(Undecryptable::Malformed);
        };
        let ours = group.epoch().as_u64();
        if epoch > ours {
            return no(Undecryptable::EpochUnknown { epoch, ours });
        }
        if known.first_epoch.is_some_and(|first| epoch < first) {
            return no(Undecryptable::SentBeforeJoining);
        }
        let provider = Provider::new(self.connection);
        operational::follow(&provider, group)?;
        let processed = match group::process(&provider, group, message.as_bytes())? {
            Ok(processed) => processed,
            // OpenMLS has the same error for keys of a past epoch and for used ones.
            Err(_) if ours - epoch > MAX_PAST_EPOCHS as u64 => return no(Undecryptable::EpochGone { epoch }),
            Err(error) => return no(reason(&error, epoch)),
        };
        let by = group::who(processed.credential());
        let Sender::Member(leaf) = *processed.sender() else {
            return no(Undecryptable::NotAMessage);
        };
        match processed.into_content() {
            ProcessedMessageContent::ApplicationMessage(data) => Ok(match by {
                Some(by) => Ok(Decrypted {
                    by,
                    leaf: leaf.u32(),
                    data: data.into_bytes(),
                }),
                None => Err(Unreadable::NoUser),
            }),
            ProcessedMessageContent::OwnPrivateMessage => no(Undecryptable::OwnMessage),
            _ => no(Undecryptable::NotAMessage),
        }
    }

    /// The media types of the epoch that a message is of; `None` if messages were not framed in it (MLSX #app-framing).
    fn media_types_of(
        &self,
        group: &MlsGroup,
        room: &MimiUri,
        message: &MlsMessage,
    ) -> Result<Option<MediaTypeList>, StoreError> {
        let epoch = epoch_of(message).filter(|epoch| *epoch < group.epoch().as_u64());
        let then = epoch.map(|epoch| Framing::of_epoch(self.connection, room, epoch));
        Ok(match then.transpose()?.flatten() {
            Some(then) => then.media_types,
            None => group::media_types(group),
        })
    }

    /// The room is in another epoch: how its messages are framed from now on, if that is new.
    pub(super) fn note_framing(&self, group: &MlsGroup, room: &MimiUri) -> Result<(), StoreError> {
        note_framing(self.connection, group, room)
    }

    /// What was encrypted.
    fn read(
        &self,
        types: Option<MediaTypeList>,
        known: &KnownRoom,
        by: &Identity,
        accepted: UnixMillis,
        data: &[u8],
    ) -> Result<Said, Refused> {
        let room = &known.room;
        let content = match types {
            None => data.to_vec(),
            Some(types) => {
                let framing = ApplicationFraming::from_bytes(data).map_err(|_| Unreadable::NotFramed)?;
                let framed = framing.effective_type(&types);
                let media_type = framed.media_type.0.to_ascii_lowercase();
                if !types.media_types().iter().any(|listed| listed.covers(framed)) {
                    return Err(Unreadable::OtherMediaType { media_type }.into());
                }
                let content = framing.inner_application_content.0.clone();
                if media_type != MEDIA_TYPE {
                    return Ok(Said::Other { media_type, content });
                }
                content
            }
        };
        let origin = Origin::new(&by.user().to_string(), &room.to_string()).map_err(|_| Unreadable::NoUser)?;
        let received = Received::decode(content, origin.clone()).map_err(|error| Unreadable::Malformed {
            what: error.to_string(),
        })?;
        let said = &received.content().extensions;
        if is_other(said.sender_uri(), by.user()) || is_other(said.room_uri(), room) {
            return Err(Unreadable::OtherOrigin.into());
        }
        let arrival = Arrival {
            accepted,
            now: self.now,
            // The hub's clock may have been set back since.
            room_created: known.since.map(|since| since.minus(MAX_CLOCK_SKEW)),
            sender_is_member: true,
        };
        match arrival::check(received.content(), &arrival) {
            Ok(()) => Ok(Said::Mimi(Box::new(received))),
            Err(suspicion) => Err(Refused {
                reason: Unreadable::Suspicious {
                    what: suspicion.to_string(),
                },
                names: Some(Box::new(Names::of(&received))),
            }),
        }
    }

    /// What a frank is worth: the hub's agent stamped this tag, of this content, by the sender whom MLS names, in this room, at this
    /// time.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is a fact of its own that the frank vouches for"
    )]
    pub(super) fn franking(
        &self,
        group: &MlsGroup,
        room: &MimiUri,
        sender: &MimiUri,
        accepted: UnixMillis,
        data: &[u8],
        tag: Option<FrankingTag>,
        frank: Option<&Frank>,
    ) -> Result<Franking, MimiError> {
        let no = |reason: &dyn std::error::Error| {
            let reason = reason.to_string();
            Ok(Franking::NotGenuine { reason })
        };
        let agent = group::franking_agent(group);
        let (agent, frank) = match (agent, frank) {
            (Some(agent), Some(frank)) => (agent, frank),
            (None, Some(_)) => return no(&NotGenuine::NoAgent),
            (Some(_), None) if tag.is_some() => return no(&NotGenuine::NoFrank),
            (_, None) => return Ok(Franking::None),
        };
        let provider = group::provider_of(&agent.credential);
        if provider.is_none_or(|provider| !franking::is_hub(&provider.to_string(), &room.to_string())) {
            return no(&NotGenuine::NotTheHub);
        }
        let Some(tag) = tag else {
            return no(&NotGenuine::NoTag);
        };
        let Ok(origin) = Origin::new(&sender.to_string(), &room.to_string()) else {
            return no(&NotGenuine::NoTag);
        };
        let suite = CipherSuite(group::suite_of(group)?.id());
        let stamp = franking::Frank {
            server_frank: frank.server_frank,
            cipher_suite: franking::CipherSuite(frank.franking_signature_ciphersuite.0),
            integrity_signature: frank.franking_integrity_signature.to_vec(),
        };
        let facts = Known {
            origin: &origin,
            accepted,
            cipher_suite: franking::CipherSuite(suite.0),
        };
        let verify = |suite: franking::CipherSuite, signed: &[u8], signature: &[u8]| {
            let scheme = CipherSuite(suite.0).signature_scheme();
            let key = &agent.franking_signature_key;
            scheme.is_some_and(|scheme| crypto().verify_signature(scheme, signed, key, signature).is_ok())
        };
        match stamp.verify_received(&tag, data, &facts, verify) {
            Ok(_) => Ok(Franking::Genuine),
            Err(error) => no(&error),
        }
    }
}

fn note_framing(connection: &Connection, group: &MlsGroup, room: &MimiUri) -> Result<(), StoreError> {
    let epoch = group.epoch().as_u64();
    let media_types = group::media_types(group);
    let oldest = epoch.saturating_sub(MAX_PAST_EPOCHS as u64);
    Framing { media_types }.note(connection, room, epoch, oldest)
}

/// Notes how messages are framed in rooms of which no version of this client has noted it yet.
pub(super) fn note_framings(store: &mut ClientStore) -> Result<(), MimiError> {
    for known in KnownRoom::all(store.read())? {
        let epoch = known.epoch.unwrap_or(u64::MAX);
        if !known.status.is_in() || Framing::of_epoch(store.read(), &known.room, epoch)?.is_some() {
            continue;
        }
        let Some(group_id) = &known.group_id else { continue };
        if let Some(group) = group::load(&Provider::new(store.read()), group_id)? {
            store.transaction(|connection| note_framing(connection, &group, &known.room))?;
        }
    }
    Ok(())
}

/// Who sent a message, from which leaf, and what was encrypted.
struct Decrypted {
    by: Identity,
    leaf: u32,
    data: Vec<u8>,
}

/// What a message says.
enum Said {
    Mimi(Box<Received>),
    Other { media_type: String, content: Vec<u8> },
}

/// Why a message is not shown, and what it is called, if it has one all the same.
struct Refused {
    reason: Unreadable,
    names: Option<Box<Names>>,
}

impl From<Unreadable> for Refused {
    fn from(reason: Unreadable) -> Self {
        Self { reason, names: None }
    }
}

/// Why a frank is not looked at any further.
#[derive(Debug, thiserror::Error)]
enum NotGenuine {
    #[error("the room has no franking agent")]
    NoAgent,
    #[error("the franking agent is not the room's hub")]
    NotTheHub,
    #[error("the message has no franking tag")]
    NoTag,
    #[error("the hub's frank is missing")]
    NoFrank,
}

/// What is said in a media type of its own, as the message that it would be.
fn as_post(room: &MimiUri, sender: &MimiUri, media_type: &str, content: &[u8]) -> Result<MimiContent, MimiError> {
    let origin = Origin::new(&sender.to_string(), &room.to_string()).doing("naming a sender")?;
    let body = NestedPart::single(media_type, content);
    Ok(MimiContent::new(Salt::from_random([0; 16]), &origin, body))
}

/// Whether a message names another user or room than it is of. Each is looked at by itself, if it is there; the case of a host's letters
/// makes no other one of it (D-id-uris).
fn is_other(said: Option<&str>, is: &MimiUri) -> bool {
    said.is_some_and(|said| MimiUri::parse(said).as_ref() != Ok(is))
}

/// The tag beside a message.
fn franking_tag(message: &MlsMessage) -> Option<FrankingTag> {
    let MlsMessageBody::Private(private) = &message.body else {
        return None;
    };
    let aad = SafeAad::from_bytes(&private.authenticated_data).ok()?;
    let tag = aad.item(ComponentId::FRANK_AAD)?;
    Some(FrankingTag(tag.try_into().ok()?))
}

const NOT_IN_GROUP: Unreadable = Unreadable::Undecryptable {
    reason: Undecryptable::NotInGroup,
};

/// How many items of a room are kept from before this client is in its group.
const MAX_UNREAD: u64 = 1_000;
