//! A room's group on this client, and what was said in it.

use std::collections::BTreeSet;

use mls_rs::client_builder::MlsConfig;
use mls_rs::group::ReceivedMessage;
use mls_rs::identity::SigningIdentity;
use mls_rs::mls_rs_codec::MlsDecode as _;
use mls_rs::{CipherSuiteProvider as _, Group, MlsMessage};
use serde_json::{Value, json};

use super::bytes::{Reader, labelled, put_vec};
use super::client::suite;
use super::content::Text;
use super::dictionary::{CONTENT_MEDIA_TYPES, Dictionary, FRANKING_AGENT};
use super::frame::{self, Form};
use super::rules::APP_DATA_DICTIONARY;
use crate::error::{Error, Result, invalid};

/// An `MLSMessage` from a room's log.
pub struct Incoming {
    /// As it came.
    pub bytes: Vec<u8>,
    /// As mls-rs has it.
    pub message: MlsMessage,
    /// Whether it is the proposal of somebody who leaves.
    pub self_remove: bool,
}

/// `Frank`: what the hub computed, the suite, and its signature.
pub type Frank = (Vec<u8>, u16, Vec<u8>);

/// A room.
pub struct Room<C: MlsConfig> {
    /// The group, if this client is or was in it.
    group: Option<Group<C>>,
    /// Removed: the group is kept as it was, to see that it opens nothing any longer.
    pub removed: bool,
    /// How far its log was read.
    pub position: i64,
    /// The epoch this client joined with.
    since: u64,
    /// The external commit by which it joined.
    joined_by: Vec<u8>,
    /// Ciphertexts of our own, which MLS does not let their sender open.
    sent: BTreeSet<Vec<u8>>,
    read: Vec<Value>,
    unread: Vec<String>,
}

impl<C: MlsConfig> Default for Room<C> {
    fn default() -> Self {
        Self {
            group: None,
            removed: false,
            position: 0,
            since: 0,
            joined_by: Vec::new(),
            sent: BTreeSet::new(),
            read: Vec::new(),
            unread: Vec::new(),
        }
    }
}

impl<C: MlsConfig> Room<C> {
    /// In the group from now on; by this external commit, if by one.
    pub fn joined(&mut self, group: Group<C>, commit: Vec<u8>) {
        self.since = group.current_epoch();
        self.group = Some(group);
        self.removed = false;
        self.joined_by = commit;
    }

    /// The group, as long as this client is in it.
    pub fn group_mut(&mut self) -> Result<&mut Group<C>> {
        let group = self.group.as_mut().filter(|_| !self.removed);
        group.ok_or_else(not_in)
    }

    fn group(&self) -> Result<&Group<C>> {
        let group = self.group.as_ref().filter(|_| !self.removed);
        group.ok_or_else(not_in)
    }

    /// The epoch, in the group.
    pub fn epoch(&self) -> Option<u64> {
        self.group().ok().map(Group::current_epoch)
    }

    /// How many proposals are pending.
    pub fn pending(&self) -> usize {
        self.group().map_or(0, |group| group.get_cached_proposals().len())
    }

    /// Whether it is this client's own way in.
    pub fn is_own_external_commit(&self, message: &[u8]) -> bool {
        !self.joined_by.is_empty() && self.joined_by == message
    }

    /// The room's components.
    pub fn dictionary(&self) -> Result<Dictionary> {
        let extension = self.group()?.context().extensions.get(APP_DATA_DICTIONARY);
        let extension = extension.ok_or_else(|| invalid("a room without components"))?;
        Dictionary::read(&extension.extension_data)
    }

    /// Whether messages say of which media type they are.
    pub fn frames_content(&self) -> Result<bool> {
        Ok(self.dictionary()?.get(CONTENT_MEDIA_TYPES).is_some())
    }

    /// What franks are verified with, in a room with an agent.
    pub fn franking_key(&self) -> Result<Option<Vec<u8>>> {
        let dictionary = self.dictionary()?;
        let agent = dictionary.get(FRANKING_AGENT);
        agent.map(|agent| Ok(Reader::new(agent).vec()?.to_vec())).transpose()
    }

    /// Leaves and their clients.
    pub fn clients(&self) -> Result<Vec<(u32, String)>> {
        let group = self.group.as_ref().ok_or_else(not_in)?;
        let clients = group.roster().members_iter().map(|member| {
            let client = client_of(&member.signing_identity).ok_or_else(|| invalid("a member that is no client"))?;
            Ok((member.index, client))
        });
        clients.collect()
    }

    /// What all members have to agree on, and what is pending; null outside of the group.
    pub fn describe(&self) -> Result<Value> {
        let Ok(group) = self.group() else {
            return Ok(Value::Null);
        };
        let members: Vec<_> = self.clients()?.into_iter().map(|(_, client)| client).collect();
        let participants = self.dictionary()?.participants()?;
        Ok(json!({
            "epoch": group.current_epoch(),
            "epoch_authenticator": hex(group.epoch_authenticator()?.as_bytes()),
            "tree_hash": hex(&group.context().tree_hash),
            "members": members,
            "participants": participants,
            "pending": self.pending(),
        }))
    }

    /// What was read, with sender and what the frank is worth, and why something was not.
    pub fn messages(&self) -> (Vec<Value>, Vec<String>) {
        (self.read.clone(), self.unread.clone())
    }

    /// One of our own is on its way.
    pub fn sent(&mut self, message: &[u8], text: &str, user: &str) {
        self.sent.insert(message.to_vec());
        self.read.push(json!([user, text, "own"]));
    }

    /// An application message.
    pub fn open(&mut self, room: &str, message: Incoming, accepted: u64, frank: Option<Frank>) -> Result<()> {
        if self.sent.remove(&message.bytes) {
            return Ok(());
        }
        let is_before = message.message.epoch().is_none_or(|epoch| epoch < self.since);
        if self.group.is_none() || is_before {
            return Ok(());
        }
        match self.decrypt(room, message.message, accepted, frank) {
            Ok(item) => self.read.push(item),
            Err(error) => self.unread.push(error.to_string()),
        }
        Ok(())
    }

    fn decrypt(&mut self, room: &str, message: MlsMessage, accepted: u64, frank: Option<Frank>) -> Result<Value> {
        // Whoever sent it may be gone by the time it is read.
        let before = self.clients()?;
        let agent = self.franking_key().unwrap_or_default();
        let frames = self.frames_content().unwrap_or_default();
        let group = self.group.as_mut().ok_or_else(not_in)?;
        let ReceivedMessage::ApplicationMessage(message) = group.process_incoming_message(message)? else {
            return Err(invalid("a private message that holds no application data"));
        };
        let sender = before.into_iter().find(|(leaf, _)| *leaf == message.sender_index);
        let (_, sender) = sender.ok_or_else(|| invalid("its sender is not in the group"))?;
        let sender = user_of(&sender)?;
        let mut from = Reader::new(message.data());
        let content = match frames {
            true => {
                from.vec()?;
                from.vec()?;
                from.vec()?
            }
            false => from.rest(),
        };
        let content = Text::decode(content)?;
        if content.sender != sender || content.room != room {
            return Err(invalid("a message that names another sender or another room"));
        }
        let franking = match (agent, frank) {
            (Some(agent), Some(frank)) => {
                let tag = suite()?
                    .mac(&content.salt, message.data())
                    .map_err(super::client::crypto)?;
                let carried = Reader::new(&message.authenticated_data)
                    .items(|item| Ok((item.u16()?, item.vec()?.to_vec())))?
                    .into_iter()
                    .any(|(component, data)| component == super::dictionary::FRANK_AAD && data == tag);
                match carried && is_genuine(&agent, &frank, &sender, room, accepted)? {
                    true => "genuine",
                    false => "false",
                }
            }
            _ => "none",
        };
        Ok(json!([sender, content.text, franking]))
    }
}

/// Whether the hub says by this that it accepted a message of this user in this room at that time (MIMI #message-franking).
fn is_genuine(agent: &[u8], frank: &Frank, sender: &str, room: &str, accepted: u64) -> Result<bool> {
    let (server_frank, cipher_suite, signature) = frank;
    let mut signed = server_frank.clone();
    signed.extend(cipher_suite.to_be_bytes());
    put_vec(&mut signed, sender.as_bytes());
    put_vec(&mut signed, room.as_bytes());
    signed.extend(accepted.to_be_bytes());
    let signed = labelled("FrankingIntegrityTBS", &signed);
    let verified = suite()?.verify(&agent.to_vec().into(), signature, &signed);
    Ok(*cipher_suite == u16::from(crate::SUITE) && verified.is_ok())
}

/// Reads an `MLSMessage` of the wire, and leaves what comes after it.
pub fn read_message(from: &mut Reader<'_>) -> Result<Incoming> {
    let form = frame::message(from.rest(), Form::MlsRs)?;
    let mut rest = &form[..];
    let message = MlsMessage::mls_decode(&mut rest).map_err(|error| invalid(format!("a message: {error:?}")))?;
    let bytes = from.take(from.rest().len() - rest.len())?;
    Ok(Incoming {
        self_remove: is_self_remove(bytes).unwrap_or_default(),
        bytes: bytes.to_vec(),
        message,
    })
}

fn is_self_remove(bytes: &[u8]) -> Result<bool> {
    let mut from = Reader::new(bytes);
    let is_public = from.take(4)? == [0, 1, 0, 1];
    from.vec()?;
    from.u64()?;
    let is_member = from.u8()? == 1;
    if !is_public || !is_member {
        return Ok(false);
    }
    from.u32()?;
    from.vec()?;
    Ok(from.u8()? == 2 && from.u16()? == frame::SELF_REMOVE)
}

/// The URI of a leaf's client.
pub fn client_of(identity: &SigningIdentity) -> Option<String> {
    let basic = identity.credential.as_basic()?;
    let uri = std::str::from_utf8(basic.identifier()).ok()?;
    user_of(uri).ok().map(|_| uri.to_owned())
}

/// The user of a client, by their URIs: `mimi://host/d/user/device` is one of `mimi://host/u/user`.
pub fn user_of(client: &str) -> Result<String> {
    let parts: Option<(&str, &str)> = client
        .strip_prefix("mimi://")
        .and_then(|rest| rest.split_once("/d/"))
        .and_then(|(host, name)| Some((host, name.split_once('/')?.0)));
    let (host, user) = parts.ok_or_else(|| invalid(format!("{client} is no client")))?;
    Ok(format!("mimi://{host}/u/{user}"))
}

fn not_in() -> Error {
    Error::CannotDo("this client is not in the room's group".to_owned())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
