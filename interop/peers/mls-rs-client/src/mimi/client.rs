//! The client: what it is told to do, and what happens in its rooms. Commands are obeyed one by one; each begins with what has happened
//! since.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use mls_rs::client_builder::MlsConfig;
use mls_rs::crypto::{HpkeCiphertext, SignatureSecretKey};
use mls_rs::error::IntoAnyError;
use mls_rs::extension::ExtensionType;
use mls_rs::group::proposal::{CustomProposal, ProposalType};
use mls_rs::group::{CommitEffect, ExportedTree, ReceivedMessage};
use mls_rs::identity::basic::BasicCredential;
use mls_rs::identity::{CredentialType, SigningIdentity};
use mls_rs::storage_provider::in_memory::InMemoryGroupStateStorage;
use mls_rs::time::MlsTime;
use mls_rs::{
    CipherSuiteProvider, Client, CryptoProvider, Extension, ExtensionList, IdentityProvider, MlsMessage, WireFormat,
};
use serde_json::{Value, json};

use super::bytes::{Reader, labelled, put_vec, vec_of};
use super::content::Text;
use super::crypto::{Crypto, Suite};
use super::dictionary::{
    APP_COMPONENTS, CONTENT_MEDIA_TYPES, Dictionary, FRANK_AAD, FRANKING_AGENT, ROOM_METADATA, SAFE_AAD, list_update,
};
use super::frame::{self, APP_DATA_UPDATE, APP_EPHEMERAL, Form, MARK, SELF_REMOVE};
use super::policy;
use super::room::{Room, client_of, read_message, user_of};
use super::rules::{APP_DATA_DICTIONARY, Order, Rules};
use crate::SUITE;
use crate::api::{Api, decode, encode, escape};
use crate::error::{Error, Result, invalid};
use crate::say;

/// What this client signs with, and as whom.
pub struct Keys {
    secret: SignatureSecretKey,
    identity: SigningIdentity,
    /// `mimi://host/d/user/device`
    client: String,
    user: String,
}

/// New ones.
pub fn new_keys(client: &str) -> Result<Keys> {
    let (secret, public) = suite()?.signature_key_generate().map_err(crypto)?;
    let credential = BasicCredential::new(client.as_bytes().to_vec()).into_credential();
    Ok(Keys {
        secret,
        identity: SigningIdentity::new(credential, public),
        user: user_of(client)?,
        client: client.to_owned(),
    })
}

/// mls-rs as MIMI's rooms need it, the epochs that it keeps, and the order of what is pending.
pub fn mls_client(keys: &Keys) -> (Client<impl MlsConfig + use<>>, InMemoryGroupStateStorage, Order) {
    let (rules, groups) = (Rules::default(), InMemoryGroupStateStorage::new());
    let order = Order::clone(&rules.0);
    let client = Client::builder()
        .identity_provider(Clients)
        .crypto_provider(Crypto::default())
        .mls_rules(rules)
        .group_state_storage(groups.clone())
        .extension_type(APP_DATA_DICTIONARY)
        .custom_proposal_types([APP_DATA_UPDATE, APP_EPHEMERAL, SELF_REMOVE].map(ProposalType::new))
        .key_package_lifetime(LIFETIME)
        .signing_identity(keys.identity.clone(), keys.secret.clone(), SUITE)
        .build();
    (client, groups, order)
}

/// A client that is in rooms.
pub struct Member<C: MlsConfig> {
    api: Api,
    mls: Client<C>,
    groups: InMemoryGroupStateStorage,
    order: Order,
    keys: Keys,
    rooms: BTreeMap<String, Room<C>>,
    /// How long the next commit is held back after it was made.
    hold_back: Duration,
}

/// What a commit is to do.
#[derive(Default)]
struct Change {
    add: Vec<MlsMessage>,
    remove: Vec<u32>,
    update: Option<Vec<u8>>,
}

impl<C: MlsConfig> Member<C> {
    /// In none yet.
    pub fn new(api: Api, mls: Client<C>, groups: InMemoryGroupStateStorage, order: Order, keys: Keys) -> Self {
        Self {
            api,
            mls,
            groups,
            order,
            keys,
            rooms: BTreeMap::new(),
            hold_back: Duration::ZERO,
        }
    }

    /// Uploads key packages (MIMI #fetch-key-material).
    pub fn stock_up(&self) -> Result<()> {
        let packages = (0..STOCK).map(|_| {
            let package = self
                .mls
                .generate_key_package_message(ExtensionList::new(), leaf_extensions(), None)?;
            Ok(encode(bare(&package.to_bytes()?)))
        });
        let packages: Vec<String> = packages.collect::<Result<_>>()?;
        let body = json!({"client": self.keys.client, "key_packages": packages});
        let answer = self.api.post("/mimi/key_packages", &body, None)?;
        let results = answer.get("results").and_then(Value::as_array);
        let is_taken = |result: &Value| result.get("reference").is_some();
        match results.is_some_and(|results| results.len() == STOCK && results.iter().all(is_taken)) {
            true => Ok(()),
            false => Err(invalid(format!(
                "the provider does not take our key packages: {answer}"
            ))),
        }
    }

    /// Does as it is told.
    pub fn command(&mut self, command: &Value) -> Result<Value> {
        let text = |name: &str| {
            let value = command.get(name).and_then(Value::as_str);
            value.ok_or_else(|| Error::CannotDo(format!("`{name}` is missing")))
        };
        let role = command
            .get("role")
            .and_then(Value::as_u64)
            .and_then(|role| u32::try_from(role).ok());
        let room = text("room")?.to_owned();
        self.sync()?;
        match text("do")? {
            "create" => self.create(&room, text("name")?)?,
            "add" => self.add(&room, text("user")?, role.unwrap_or(ORDINARY_USER))?,
            "remove" => self.remove(&room, text("user")?)?,
            "set_role" => {
                let role = role.ok_or_else(|| Error::CannotDo("`role` is missing".to_owned()))?;
                let index = self.place_of(&room, text("user")?)?;
                self.change(&room, |_, _| {
                    Ok(Change {
                        update: Some(list_update(&[(index, role)], &[], &[])),
                        ..Change::default()
                    })
                })?;
            }
            "update" | "tend" => {
                let wait = command.get("hold_back_ms").and_then(Value::as_u64);
                self.hold_back = wait.map(Duration::from_millis).unwrap_or_default();
                self.change(&room, |_, _| Ok(Change::default()))?;
            }
            "leave" => self.leave(&room)?,
            "join" => self.join(&room, role)?,
            "send" => self.send(&room, text("text")?)?,
            "state" => return self.rooms.get(&room).map_or(Ok(Value::Null), Room::describe),
            "messages" => {
                let (read, unread) = self.rooms.get(&room).map_or_else(Default::default, Room::messages);
                return Ok(json!({"read": read, "unread": unread}));
            }
            other => return Err(Error::CannotDo(format!("there is no `{other}`"))),
        }
        Ok(Value::Null)
    }

    /// A room of this client's provider, in which it is alone (MIMI #alice-creates-a-room).
    fn create(&mut self, name: &str, title: &str) -> Result<()> {
        let hub = self.api.get("/mimi/hub")?;
        let of_hub = |what: &str| hub.get(what).and_then(Value::as_str).map(decode).transpose();
        let sender = of_hub("external_sender")?.ok_or_else(|| invalid("a provider without a key of its own"))?;
        let mut required = Vec::new();
        put_numbers(&mut required, &[APP_DATA_DICTIONARY.raw_value()]);
        put_numbers(&mut required, &[APP_DATA_UPDATE, APP_EPHEMERAL, SELF_REMOVE]);
        put_numbers(&mut required, &[BASIC]);
        let metadata = [name, title, "", "", "", ""].map(|text| vec_of(text.as_bytes()));
        let mut dictionary = policy::dictionary(&self.keys.user)
            .with(APP_COMPONENTS, components())
            .with(SAFE_AAD, vec_of(&FRANK_AAD.to_be_bytes()))
            .with(CONTENT_MEDIA_TYPES, vec_of(&media_type(MEDIA_TYPE)))
            .with(ROOM_METADATA, metadata.concat());
        if let Some(agent) = of_hub("franking_agent")? {
            dictionary = dictionary.with(FRANKING_AGENT, agent);
        }
        let extensions = ExtensionList::from(vec![
            // Not last, to see that all agree where it stands once it has been changed.
            Extension::new(APP_DATA_DICTIONARY, dictionary.to_bytes()),
            Extension::new(ExtensionType::REQUIRED_CAPABILITIES, required),
            Extension::new(ExtensionType::EXTERNAL_SENDERS, vec_of(&sender)),
        ]);
        let group_id = name.replacen("/r/", "/g/", 1).into_bytes();
        let mut group = self
            .mls
            .create_group_with_id(group_id, extensions, leaf_extensions(), None)?;
        let info = group.group_info_message_allowing_ext_commit(false)?;
        let body = json!({
            "room": name,
            "group_info": encode(bare(&info.to_bytes()?)),
            "ratchet_tree": encode(&group.export_tree().to_bytes()?),
        });
        self.api.post("/mimi/rooms", &body, None)?;
        group.write_to_storage()?;
        self.room_at(name).joined(group, Vec::new());
        self.tell_epoch(name)
    }

    // --- Changes ---

    /// One commit puts a user on the list and their clients into the group (MIMI #alice-adds-bob-to-the-room).
    fn add(&mut self, room: &str, user: &str, role: u32) -> Result<()> {
        let packages = self.key_material(room, user)?;
        self.change(room, |_, _| {
            Ok(Change {
                add: packages.clone(),
                remove: Vec::new(),
                update: Some(list_update(&[], &[], &[(user.to_owned(), role)])),
            })
        })
    }

    /// One commit takes them off the list and their clients out of the group.
    fn remove(&mut self, room: &str, user: &str) -> Result<()> {
        let index = self.place_of(room, user)?;
        self.change(room, |room, _| {
            let clients = room.clients()?.into_iter();
            Ok(Change {
                add: Vec::new(),
                remove: clients
                    .filter(|(_, client)| user_of(client).is_ok_and(|of| of == user))
                    .map(|(leaf, _)| leaf)
                    .collect(),
                update: Some(list_update(&[], &[index], &[])),
            })
        })
    }

    /// Makes a commit of a change and of everything that is pending, until it is not too late for its epoch (MIMI #update-room-state).
    fn change(&mut self, name: &str, plan: impl Fn(&Room<C>, &Keys) -> Result<Change>) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let room = self.room(name)?;
            let change = plan(room, &self.keys)?;
            let room = self.room_mut(name)?;
            let group = room.group_mut()?;
            let epoch = group.current_epoch();
            let mut builder = group.commit_builder().authenticated_data(EMPTY_AAD.to_vec());
            for package in change.add {
                builder = builder.add_member(package)?;
            }
            for leaf in change.remove {
                builder = builder.remove_member(leaf)?;
            }
            if let Some(update) = change.update {
                builder = builder.custom_proposal(custom(APP_DATA_UPDATE, &update));
            }
            let made = builder.build()?;
            let info = made
                .external_commit_group_info
                .ok_or_else(|| invalid("mls-rs made no GroupInfo"))?;
            let welcome = made.welcome_messages.first();
            let request = bundle(&made.commit_message, welcome, &info)?;
            std::thread::sleep(std::mem::take(&mut self.hold_back));
            match self.update(name, &request)? {
                Verdict::Success => return self.until(name, |room| room.epoch().is_some_and(|now| now > epoch)),
                Verdict::WrongEpoch => {
                    self.room_mut(name)?.group_mut()?.clear_pending_commit();
                    say(&json!({"notice": "lost_race", "room": name, "epoch": epoch}));
                    self.until(name, |room| room.epoch().is_some_and(|now| now > epoch))?;
                }
                Verdict::Refused(why) => {
                    self.room_mut(name)?.group_mut()?.clear_pending_commit();
                    return Err(Error::CannotDo(why));
                }
            }
        }
        Err(Error::CannotDo("other commits won too often".to_owned()))
    }

    /// Proposes to be gone with all of the user's clients; somebody else commits it (MIMI #bob-leaves-the-room).
    fn leave(&mut self, name: &str) -> Result<()> {
        let index = self.place_of(name, &self.keys.user.clone())?;
        let user = self.keys.user.clone();
        let room = self.room_mut(name)?;
        let clients = room.clients()?;
        let group = room.group_mut()?;
        let own = group.current_member_index();
        let mut proposals = vec![group.propose_custom(custom(SELF_REMOVE, &[]), EMPTY_AAD.to_vec())?];
        for (leaf, client) in clients {
            if leaf != own && user_of(&client).is_ok_and(|of| of == user) {
                proposals.push(group.propose_remove(leaf, EMPTY_AAD.to_vec())?);
            }
        }
        let off = list_update(&[], &[index], &[]);
        proposals.push(group.propose_custom(custom(APP_DATA_UPDATE, &off), EMPTY_AAD.to_vec())?);
        // They count in the order in which the hub accepts them, and are taken in when they come from there.
        group.clear_proposal_cache();
        let mut request = draft(&proposals[0])?;
        let more = proposals[1..].iter().map(draft).collect::<Result<Vec<_>>>()?;
        put_vec(&mut request, &more.concat());
        match self.update(name, &request)? {
            Verdict::Success => self.until(name, |room| room.pending() >= proposals.len()),
            Verdict::WrongEpoch => Err(Error::CannotDo("another commit was first".to_owned())),
            Verdict::Refused(why) => Err(Error::CannotDo(why)),
        }
    }

    fn update(&self, room: &str, request: &[u8]) -> Result<Verdict> {
        let answer = self
            .api
            .exchange(&format!("/mimi/rooms/{}/update", escape(room)), request)?;
        let mut answer = Reader::new(&answer);
        let code = answer.u8()?;
        let why = answer.text()?;
        Ok(match code {
            0 => Verdict::Success,
            1 => Verdict::WrongEpoch,
            _ => Verdict::Refused(format!("the hub refused ({code}): {why}")),
        })
    }

    /// Key packages of a user's clients, by way of the room's hub (MIMI #fetch-key-material).
    fn key_material(&self, room: &str, user: &str) -> Result<Vec<MlsMessage>> {
        let mut request = vec![MLS10];
        put_vec(&mut request, self.keys.user.as_bytes());
        put_vec(&mut request, user.as_bytes());
        put_vec(&mut request, room.as_bytes());
        put_vec(&mut request, &u16::from(SUITE).to_be_bytes());
        put_numbers(&mut request, &[APP_DATA_DICTIONARY.raw_value()]);
        put_numbers(&mut request, &[APP_DATA_UPDATE, APP_EPHEMERAL, SELF_REMOVE]);
        put_numbers(&mut request, &[BASIC]);
        self.put_credential(&mut request);
        self.put_signature(&mut request, "KeyMaterialRequestTBS")?;
        let answer = self.api.exchange("/mimi/key_material", &request)?;
        let mut answer = Reader::new(&answer);
        answer.u8()?;
        let status = answer.u8()?;
        if status > 1 {
            return Err(Error::CannotDo(format!("no key packages of {user}: status {status}")));
        }
        answer.vec()?;
        let mut packages = Vec::new();
        let mut clients = Reader::new(answer.vec()?);
        while !clients.is_empty() {
            let status = clients.u8()?;
            clients.vec()?;
            match status {
                0 => packages.push(structure(WireFormat::KeyPackage, &mut clients)?),
                1 => {}
                _ => {
                    return Err(invalid(format!("a client's status {status}")));
                }
            }
        }
        Ok(packages)
    }

    /// Asks for the GroupInfo, and joins by an external commit (MIMI #claim-group-key-information).
    fn join(&mut self, name: &str, role: Option<u32>) -> Result<()> {
        let (secret, public) = suite()?.kem_generate().map_err(crypto)?;
        let mut request = vec![MLS10];
        request.extend(u16::from(SUITE).to_be_bytes());
        self.put_credential(&mut request);
        put_vec(&mut request, &public);
        put_vec(&mut request, &[]); // no joining code
        self.put_signature(&mut request, "GroupInfoRequestTBS")?;
        let answer = self
            .api
            .exchange(&format!("/mimi/rooms/{}/group_info", escape(name)), &request)?;
        let mut from = Reader::new(&answer);
        from.u8()?;
        let of = from.text()?;
        let status = from.u8()?;
        if status != 1 || of != name {
            return Err(Error::CannotDo(format!(
                "the hub gives out no GroupInfo: status {status}"
            )));
        }
        from.u16()?;
        let hub_key = from.vec()?.to_vec();
        let hub_credential = (from.u16()?, from.vec()?.to_vec());
        let sealed = HpkeCiphertext {
            kem_output: from.vec()?.to_vec(),
            ciphertext: from.vec()?.to_vec(),
        };
        let signed = &answer[..answer.len() - from.rest().len()];
        let signature = from.vec()?;
        let verified = suite()?.verify(
            &hub_key.clone().into(),
            signature,
            &labelled("GroupInfoResponseTBS", signed),
        );
        verified.map_err(|_| invalid("the hub's signature on the GroupInfo does not verify"))?;
        let info = labelled("GroupInfo and ratchet_tree encryption", name.as_bytes());
        let opened = suite()?
            .hpke_open(&sealed, &secret, &public, &info, None)
            .map_err(crypto)?;
        let mut from = Reader::new(&opened);
        let info = structure(WireFormat::GroupInfo, &mut from)?;
        let tree = read_tree(&mut from)?;
        let pending = from.items(|item| {
            let message = read_message(item)?;
            item.u64()?;
            Ok(message)
        })?;
        let context = info
            .as_group_info()
            .ok_or_else(|| invalid("no GroupInfo"))?
            .group_context()
            .clone();
        if !first_sender_is(&context.extensions, &hub_key, &hub_credential)? {
            return Err(invalid("a GroupInfo from somebody else than the group's hub"));
        }
        let dictionary = context.extensions.get(APP_DATA_DICTIONARY);
        let dictionary = dictionary.ok_or_else(|| invalid("a room without components"))?;
        let listed = Dictionary::read(&dictionary.extension_data)?.participants()?;
        let mut builder = self
            .mls
            .external_commit_builder()?
            .with_tree_data(tree)
            .with_leaf_node_extensions(leaf_extensions())
            .with_authenticated_data(EMPTY_AAD.to_vec());
        for message in pending {
            // Of what is pending, an external commit contains the SelfRemoves.
            if message.self_remove {
                builder = builder.with_received_custom_proposal(message.message);
            }
        }
        if !listed.iter().any(|(user, _)| *user == self.keys.user) {
            let role = role.unwrap_or(ORDINARY_USER);
            let update = list_update(&[], &[], &[(self.keys.user.clone(), role)]);
            builder = builder.with_custom_proposal(custom(APP_DATA_UPDATE, &update));
        }
        let (mut group, commit) = builder.build(info)?;
        let info = group.group_info_message_allowing_ext_commit(false)?;
        match self.update(name, &bundle(&commit, None, &info)?)? {
            Verdict::Success => {
                group.write_to_storage()?;
                let own = draft(&commit)?;
                self.rooms.entry(name.to_owned()).or_default().joined(group, own);
                self.tell_epoch(name)
            }
            Verdict::WrongEpoch => Err(Error::CannotDo("another commit was first".to_owned())),
            Verdict::Refused(why) => Err(Error::CannotDo(why)),
        }
    }

    /// Says something (MIMI #submit-a-message), with a franking tag if the room has an agent (MIMI #message-franking).
    fn send(&mut self, name: &str, text: &str) -> Result<()> {
        let salt = suite()?.random_bytes_vec(16).map_err(crypto)?;
        let content = Text {
            salt: salt.clone(),
            sender: self.keys.user.clone(),
            room: name.to_owned(),
            text: text.to_owned(),
        };
        let user = self.keys.user.clone();
        let room = self.room_mut(name)?;
        let content = content.encode();
        let data = match room.frames_content()? {
            true => [media_type(MEDIA_TYPE), vec_of(&content)].concat(),
            false => content,
        };
        let aad = match room.franking_key()? {
            Some(_) => {
                let tag = suite()?.mac(&salt, &data).map_err(crypto)?;
                vec_of(&[&FRANK_AAD.to_be_bytes()[..], &vec_of(&tag)].concat())
            }
            None => EMPTY_AAD.to_vec(),
        };
        let message = room.group_mut()?.encrypt_application_message(&data, aad)?.to_bytes()?;
        room.sent(&message, text, &user);
        let request = [&[MLS10][..], &message, &vec_of(user.as_bytes())].concat();
        let path = format!("/mimi/rooms/{}/submit_message", escape(name));
        let answer = self.api.exchange(&path, &request)?;
        let mut answer = Reader::new(&answer);
        answer.u8()?;
        match answer.u8()? {
            0 => Ok(()),
            code => Err(Error::CannotDo(format!("the hub does not take the message ({code})"))),
        }
    }

    // --- What has happened ---

    /// Takes in what has happened in all rooms (MIMI #fanout-messages-and-room-events).
    fn sync(&mut self) -> Result<()> {
        let answer = self.api.get("/mimi/rooms")?;
        let rooms = answer
            .get("rooms")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        for listed in rooms {
            let number = |name: &str| listed.get(name).and_then(Value::as_i64).unwrap_or_default();
            let name = listed
                .get("room")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned();
            let room = self.rooms.entry(name.clone()).or_default();
            room.position = room.position.max(number("from") - 1);
            while self.room_at(&name).position < number("head") {
                let after = self.room_at(&name).position;
                let path = format!("/mimi/rooms/{}/messages?after={after}&limit=100", escape(&name));
                let page = self.api.get(&path)?;
                let page = page
                    .get("messages")
                    .and_then(Value::as_array)
                    .cloned()
                    .unwrap_or_default();
                if page.is_empty() {
                    break;
                }
                for entry in page {
                    let position = entry.get("position").and_then(Value::as_i64).unwrap_or_default();
                    let bytes = entry.get("message").and_then(Value::as_str).unwrap_or_default();
                    self.room_at(&name).position = position;
                    if let Err(error) = decode(bytes).and_then(|bytes| self.entry(&name, &bytes)) {
                        say(&json!({"notice": "problem", "room": name, "reason": error.to_string()}));
                    }
                }
            }
        }
        Ok(())
    }

    /// One `FanoutMessage`.
    fn entry(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let mut from = Reader::new(bytes);
        let accepted = from.u64()?;
        let message = read_message(&mut from)?;
        match message.message.wire_format() {
            WireFormat::Welcome => {
                let tree = read_tree(&mut from)?;
                self.welcome(name, &message.message, tree)
            }
            WireFormat::PrivateMessage => {
                let frank = from.optional(|from| Ok((from.take(32)?.to_vec(), from.u16()?, from.vec()?.to_vec())))?;
                self.room_at(name).open(name, message, accepted, frank)
            }
            _ => {
                self.handshake(name, message)?;
                // What came with a proposal; or what the hub proposes anew after an external commit.
                for more in from.items(read_message)? {
                    self.handshake(name, more)?;
                }
                Ok(())
            }
        }
    }

    fn welcome(&mut self, name: &str, welcome: &MlsMessage, tree: ExportedTree<'static>) -> Result<()> {
        let room = self.room_at(name);
        if room.group_mut().is_ok() {
            return Ok(());
        }
        let joined = self.mls.join_group(Some(tree), welcome, None);
        let Ok((mut group, _)) = joined else {
            // Provider and user get Welcomes of other clients, too.
            say(&json!({"notice": "not for us", "room": name, "reason": format!("{:?}", joined.err())}));
            return Ok(());
        };
        group.write_to_storage()?;
        self.room_at(name).joined(group, Vec::new());
        self.tell_epoch(name)
    }

    /// A proposal or a commit.
    fn handshake(&mut self, name: &str, message: super::room::Incoming) -> Result<()> {
        let (order, groups) = (Order::clone(&self.order), self.groups.clone());
        let room = self.room_at(name);
        if room.is_own_external_commit(&message.bytes) {
            return Ok(());
        }
        let Ok(group) = room.group_mut() else {
            return Ok(());
        };
        if message
            .message
            .epoch()
            .is_some_and(|epoch| epoch < group.current_epoch())
        {
            // It is part of the state that this client joined with.
            return Ok(());
        }
        match group.process_incoming_message(message.message)? {
            ReceivedMessage::Proposal(proposal) => {
                let mut order = order.lock().map_err(|_| invalid("the order of proposals"))?;
                order.push(proposal.proposal_ref.to_vec());
                Ok(())
            }
            ReceivedMessage::Commit(commit) => {
                if let CommitEffect::Removed { .. } = commit.effect {
                    // mls-rs takes no gap between the epochs of a group that it keeps, and there is one if this client comes back.
                    groups.delete_group(group.group_id());
                    room.removed = true;
                    say(&json!({"notice": "removed", "room": name}));
                    return Ok(());
                }
                group.write_to_storage()?;
                self.tell_epoch(name)
            }
            _ => Err(invalid("a handshake that is neither a proposal nor a commit")),
        }
    }

    fn tell_epoch(&mut self, name: &str) -> Result<()> {
        let mut notice = self.room_at(name).describe()?;
        notice["notice"] = "epoch".into();
        notice["room"] = name.into();
        say(&notice);
        Ok(())
    }

    /// Takes in what happens until something is so.
    fn until(&mut self, name: &str, is_so: impl Fn(&Room<C>) -> bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.sync()?;
            if self.rooms.get(name).is_some_and(&is_so) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Error::NoAnswer("the room's log does not show it".to_owned()));
            }
            std::thread::sleep(PAUSE);
        }
    }

    // --- Parts ---

    fn room(&self, name: &str) -> Result<&Room<C>> {
        self.rooms
            .get(name)
            .ok_or_else(|| Error::CannotDo("there is no such room".to_owned()))
    }

    fn room_mut(&mut self, name: &str) -> Result<&mut Room<C>> {
        self.rooms
            .get_mut(name)
            .ok_or_else(|| Error::CannotDo("there is no such room".to_owned()))
    }

    fn room_at(&mut self, name: &str) -> &mut Room<C> {
        self.rooms.entry(name.to_owned()).or_default()
    }

    /// A user's index in the participant list.
    fn place_of(&self, room: &str, user: &str) -> Result<u32> {
        let list = self.room(room)?.dictionary()?.participants()?;
        let place = list.iter().position(|(listed, _)| listed == user);
        place
            .and_then(|place| u32::try_from(place).ok())
            .ok_or_else(|| Error::CannotDo(format!("{user} is no participant")))
    }

    /// `SignaturePublicKey`, `Credential`
    fn put_credential(&self, out: &mut Vec<u8>) {
        put_vec(out, self.keys.identity.signature_key.as_bytes());
        out.extend(BASIC.to_be_bytes());
        put_vec(out, self.keys.client.as_bytes());
    }

    /// Over everything before it.
    fn put_signature(&self, out: &mut Vec<u8>, label: &str) -> Result<()> {
        let signature = suite()?
            .sign(&self.keys.secret, &labelled(label, out))
            .map_err(crypto)?;
        put_vec(out, &signature);
        Ok(())
    }
}

/// What the hub says to a change.
enum Verdict {
    Success,
    WrongEpoch,
    Refused(String),
}

/// Credentials are URIs of clients.
#[derive(Clone, Debug)]
struct Clients;

/// A credential that is none of a client or provider.
#[derive(Debug, thiserror::Error)]
#[error("the credential is no URI of MIMI")]
pub struct NotMimi;

impl IntoAnyError for NotMimi {
    fn into_dyn_error(self) -> std::result::Result<Box<dyn std::error::Error + Send + Sync>, Self> {
        Ok(self.into())
    }
}

impl IdentityProvider for Clients {
    type Error = NotMimi;

    fn validate_member(
        &self,
        identity: &SigningIdentity,
        _: Option<MlsTime>,
        _: mls_rs_core::identity::MemberValidationContext<'_>,
    ) -> std::result::Result<(), NotMimi> {
        client_of(identity).map(drop).ok_or(NotMimi)
    }

    fn validate_external_sender(
        &self,
        identity: &SigningIdentity,
        _: Option<MlsTime>,
        _: Option<&ExtensionList>,
    ) -> std::result::Result<(), NotMimi> {
        let basic = identity.credential.as_basic().ok_or(NotMimi)?;
        basic.identifier().starts_with(b"mimi://").then_some(()).ok_or(NotMimi)
    }

    fn identity(&self, identity: &SigningIdentity, _: &ExtensionList) -> std::result::Result<Vec<u8>, NotMimi> {
        client_of(identity).map(String::into_bytes).ok_or(NotMimi)
    }

    fn valid_successor(
        &self,
        before: &SigningIdentity,
        after: &SigningIdentity,
        _: &ExtensionList,
    ) -> std::result::Result<bool, NotMimi> {
        Ok(client_of(before) == client_of(after))
    }

    fn supported_types(&self) -> Vec<CredentialType> {
        vec![CredentialType::BASIC]
    }
}

/// `HandshakeBundle` of a commit: all of the GroupInfo, and the tree from the hub, which has followed the group.
fn bundle(commit: &MlsMessage, welcome: Option<&MlsMessage>, info: &MlsMessage) -> Result<Vec<u8>> {
    let mut out = draft(commit)?;
    match welcome {
        Some(welcome) => {
            out.push(1);
            out.extend(bare(&welcome.to_bytes()?));
        }
        None => out.push(0),
    }
    out.push(FULL);
    out.extend(bare(&info.to_bytes()?));
    out.push(DISTRIBUTION_SERVICE);
    Ok(out)
}

/// What a leaf says of this client (MLSX #negotiation).
fn leaf_extensions() -> ExtensionList {
    let dictionary = Dictionary::default()
        .with(APP_COMPONENTS, components())
        .with(SAFE_AAD, vec_of(&FRANK_AAD.to_be_bytes()))
        .with(
            CONTENT_MEDIA_TYPES,
            vec_of(&[MEDIA_TYPE, "text/plain"].map(media_type).concat()),
        );
    ExtensionList::from(vec![Extension::new(APP_DATA_DICTIONARY, dictionary.to_bytes())])
}

/// All components of MIMI's.
fn components() -> Vec<u8> {
    let mut list = Vec::new();
    let components: Vec<u16> = (1..=3).chain(0x20..=0x30).collect();
    put_numbers(&mut list, &components);
    list
}

/// `MediaType` without parameters.
fn media_type(name: &str) -> Vec<u8> {
    [vec_of(name.as_bytes()), vec_of(&[])].concat()
}

/// A proposal as mls-rs takes it.
fn custom(kind: u16, data: &[u8]) -> CustomProposal {
    CustomProposal::new(ProposalType::new(kind), [MARK, data].concat())
}

/// An `MLSMessage` of mls-rs's as it is on the wire.
fn draft(message: &MlsMessage) -> Result<Vec<u8>> {
    frame::message(&message.to_bytes()?, Form::Draft)
}

/// Without version and wire format.
fn bare(message: &[u8]) -> &[u8] {
    message.get(4..).unwrap_or_default()
}

/// A struct that mls-rs reads inside of an `MLSMessage` alone.
fn structure(format: WireFormat, from: &mut Reader<'_>) -> Result<MlsMessage> {
    let all = [&[0, 1, 0, format as u8], from.rest()].concat();
    let mut inside = Reader::new(&all);
    let read = read_message(&mut inside)?;
    from.take(from.rest().len() - inside.rest().len())?;
    Ok(read.message)
}

/// `RatchetTreeOption`, of which only the whole tree is of use.
fn read_tree(from: &mut Reader<'_>) -> Result<ExportedTree<'static>> {
    match from.u8()? {
        FULL => Ok(ExportedTree::from_bytes(&vec_of(from.vec()?))?),
        other => Err(invalid(format!("a tree that is elsewhere ({other})"))),
    }
}

/// Whether the first external sender has this key and this credential.
fn first_sender_is(extensions: &ExtensionList, key: &[u8], credential: &(u16, Vec<u8>)) -> Result<bool> {
    let senders = extensions.get(ExtensionType::EXTERNAL_SENDERS);
    let Some(senders) = senders else {
        return Ok(false);
    };
    let senders = Reader::new(&senders.extension_data)
        .items(|from| Ok((from.vec()?.to_vec(), (from.u16()?, from.vec()?.to_vec()))))?;
    Ok(senders
        .first()
        .is_some_and(|first| first.0 == key && first.1 == *credential))
}

fn put_numbers(out: &mut Vec<u8>, numbers: &[u16]) {
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
    put_vec(out, &bytes);
}

/// For what is not a message of MLS.
pub fn suite() -> Result<Suite> {
    let provider = Crypto::default().cipher_suite_provider(SUITE);
    provider.ok_or_else(|| invalid("the cipher suite is missing"))
}

/// What cryptography refused.
pub fn crypto(error: impl std::fmt::Debug) -> Error {
    invalid(format!("cryptography: {error:?}"))
}

/// `SafeAAD` without items.
const EMPTY_AAD: [u8; 1] = [0];
const MEDIA_TYPE: &str = "application/mimi-content";
const MLS10: u8 = 1;
const BASIC: u16 = 1;
const FULL: u8 = 1;
const DISTRIBUTION_SERVICE: u8 = 4;
/// The role in the templates of the draft.
const ORDINARY_USER: u32 = 2;
const STOCK: usize = 5;
const ATTEMPTS: usize = 10;
const LIFETIME: Duration = Duration::from_secs(60 * 60 * 24 * 30);
const PAUSE: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(15);
