//! A device in rooms' groups: what it does when told, and what it makes of what comes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mls_rs::client_builder::MlsConfig;
use mls_rs::extension::recommended::LastResortKeyPackageExt;
use mls_rs::extension::{ExtensionType, MlsExtension as _};
use mls_rs::group::{CommitEffect, ReceivedMessage};
use mls_rs::mls_rs_codec::{MlsDecode as _, MlsEncode as _};
use mls_rs::mls_rules::{CommitOptions, EncryptionOptions};
use mls_rs::{Client, ExtensionList, Group, KeyPackage, MlsMessage, WireFormat};
use mls_rs_crypto_rustcrypto::RustCryptoProvider;
use serde_json::{Value, json};

use crate::api::{Api, decode, encode, escape};
use crate::device::{ALGORITHM, Devices, DraftCredential, KEY_PACKAGE, OwnDevice, Rules, WELCOME, check_device};
use crate::error::{Error, Result, invalid};
use crate::{SUITE, say};

/// mls-rs as the draft needs it: commits as `PublicMessage` with a path, group information that others can join by.
pub fn client(device: &OwnDevice) -> Result<Client<impl MlsConfig + use<>>> {
    let commits = CommitOptions::new()
        .with_path_required(true)
        .with_ratchet_tree_extension(true)
        .with_single_welcome_message(true)
        .with_allow_external_commit(true);
    let rules = Rules::new()
        .with_commit_options(commits)
        .with_encryption_options(EncryptionOptions::new(false, Default::default()));
    Ok(Client::builder()
        .identity_provider(Devices)
        .crypto_provider(RustCryptoProvider::default())
        .mls_rules(rules)
        .extension_type(ExtensionType::LAST_RESORT_KEY_PACKAGE)
        // mls-rs's default of a year is more than a server takes.
        .key_package_lifetime(LIFETIME)
        .signing_identity(device.identity.clone(), device.secret.clone(), SUITE)
        .build())
}

/// How far a command is.
pub enum Step {
    /// Done, with this answer.
    Done(Value),
    /// A commit is on its way.
    Sent {
        /// The room.
        room: String,
    },
    /// The group is further than this device knows; then it is to be tried again.
    Behind {
        /// The room.
        room: String,
        /// The epoch the group is in.
        epoch: u64,
    },
}

/// One device.
pub struct Member<C: MlsConfig> {
    api: Arc<Api>,
    client: Client<C>,
    own: OwnDevice,
    ready: bool,
    rooms: BTreeMap<String, Room<C>>,
    /// Welcomes whose commit has not come, by its event's ID.
    welcomes: BTreeMap<String, Welcome>,
}

/// A room and its group.
struct Room<C: MlsConfig> {
    group: Option<Group<C>>,
    /// The event of the commit that began the epoch.
    commit: String,
    /// Removed: the group is kept as it was, to see that it opens nothing any longer.
    removed: bool,
    /// Our commit without an outcome.
    pending: Option<Pending<C>>,
    /// What became of the last one: whether it won, or why it never can.
    outcome: Option<Result<bool>>,
    /// Events of the time before this device was in the group.
    held: Vec<Value>,
    /// Ciphertexts of our own messages, which MLS does not let their sender open.
    sent: BTreeSet<String>,
}

struct Pending<C: MlsConfig> {
    message: String,
    lpdu_id: Option<String>,
    /// The group after an external commit.
    joining: Option<Group<C>>,
    welcome: Option<Vec<u8>>,
    recipients: Vec<(String, String)>,
}

struct Welcome {
    sender: String,
    message: Vec<u8>,
}

impl<C: MlsConfig> Default for Room<C> {
    fn default() -> Self {
        Self {
            group: None,
            commit: String::new(),
            removed: false,
            pending: None,
            outcome: None,
            held: Vec::new(),
            sent: BTreeSet::new(),
        }
    }
}

impl<C: MlsConfig> Room<C> {
    fn group(&mut self) -> Result<&mut Group<C>> {
        let group = self.group.as_mut().filter(|_| !self.removed);
        group.ok_or_else(|| Error::CannotDo("this device is not in the room's group".to_owned()))
    }
}

impl<C: MlsConfig> Member<C> {
    /// A device that is in no group.
    pub fn new(api: Arc<Api>, client: Client<C>, own: OwnDevice) -> Self {
        Self {
            api,
            client,
            own,
            ready: false,
            rooms: BTreeMap::new(),
            welcomes: BTreeMap::new(),
        }
    }

    /// Whether the stream has begun.
    pub const fn is_ready(&self) -> bool {
        self.ready
    }

    /// The user.
    pub fn user(&self) -> &str {
        &self.own.user
    }

    /// The device.
    pub fn device(&self) -> &str {
        &self.own.device
    }

    /// What became of the commit that was sent last, once.
    pub fn outcome(&mut self, room: &str) -> Option<Result<bool>> {
        self.rooms.get_mut(room)?.outcome.take()
    }

    /// Whether a room's group is at this epoch or after it.
    pub fn has_reached(&mut self, room: &str, epoch: u64) -> bool {
        let group = self
            .rooms
            .get_mut(room)
            .and_then(|room| room.group().ok().map(|group| group.current_epoch()));
        // To join externally is to read the epoch from the server.
        group.is_none_or(|current| current >= epoch)
    }

    /// Uploads key packages, one of them a last resort (LM #int-mls-key-packages).
    pub fn stock_up(&self) -> Result<()> {
        let mut packages = Vec::new();
        for _ in 0..STOCK {
            packages.push((self.key_package(ExtensionList::new())?, false));
        }
        let mut last_resort = ExtensionList::new();
        last_resort.set(
            LastResortKeyPackageExt
                .into_extension()
                .map_err(|error| invalid(format!("{error:?}")))?,
        );
        packages.push((self.key_package(last_resort)?, true));
        let answer = self.api.upload_key_packages(&self.own.device, KEY_PACKAGE, &packages)?;
        let results = answer
            .get("results")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        let taken = results.iter().filter(|result| result.get("key_id").is_some()).count();
        if taken != packages.len() {
            return Err(invalid(format!("the server does not take our key packages: {answer}")));
        }
        Ok(())
    }

    /// A bare `KeyPackage`.
    fn key_package(&self, extensions: ExtensionList) -> Result<Vec<u8>> {
        let message = self
            .client
            .generate_key_package_message(extensions, ExtensionList::new(), None)?;
        let package = message
            .into_key_package()
            .ok_or_else(|| invalid("mls-rs made no key package"))?;
        package
            .mls_encode_to_vec()
            .map_err(|error| invalid(format!("{error:?}")))
    }

    // --- Commands ---

    /// Does what a command says, as far as it can be done at once.
    pub fn command(&mut self, command: &Value) -> Result<Step> {
        let text = |name: &str| {
            let value = command.get(name).and_then(Value::as_str);
            value.ok_or_else(|| Error::CannotDo(format!("`{name}` is missing")))
        };
        let verb = text("do")?;
        if verb == "create" {
            return self.create(command);
        }
        let room = text("room")?;
        let path = |what: &str| format!("/rooms/{}/{what}", escape(room));
        let about = |user: &str| json!({"user_id": user});
        match verb {
            "invite" => self
                .api
                .post(&path("invite"), &about(text("user")?), None)
                .map(Step::Done),
            "join" => self.join(room, command.get("via")).map(Step::Done),
            "leave" => self.api.post(&path("leave"), &json!({}), None).map(Step::Done),
            "kick" => self
                .api
                .post(&path("kick"), &about(text("user")?), None)
                .map(Step::Done),
            "found" => self.found(room),
            "add" => self.add(room, text("user")?, command.get("device").and_then(Value::as_str)),
            "remove" => self.remove(room, text("user")?, command.get("device").and_then(Value::as_str)),
            "update" => self.commit(room, Vec::new(), Vec::new()),
            "join_external" => self.join_external(room),
            "send" => self.send(room, text("text")?).map(Step::Done),
            "state" => self.state(room).map(Step::Done),
            _ => Err(Error::CannotDo(format!("there is no `{verb}`"))),
        }
    }

    /// A room, and its group (LM #int-mls-considerations, "Group Creation").
    fn create(&mut self, command: &Value) -> Result<Step> {
        let invite = command.get("invite").cloned().unwrap_or_else(|| json!([]));
        let room = json!({"name": command.get("name"), "encryption": ALGORITHM, "invite": invite});
        let answer = self.api.post("/rooms", &room, Some(&new_key()))?;
        let room = answer
            .get("room_id")
            .and_then(Value::as_str)
            .ok_or_else(|| invalid("no room ID"))?;
        self.found(room)
    }

    /// The group of a room that has none.
    fn found(&mut self, room: &str) -> Result<Step> {
        let group = self.client.create_group_with_id(
            room.as_bytes().to_vec(),
            ExtensionList::new(),
            ExtensionList::new(),
            None,
        )?;
        self.rooms.entry(room.to_owned()).or_default().group = Some(group);
        self.commit(room, Vec::new(), Vec::new())
    }

    /// Joins a room; somebody will add this device to the group.
    fn join(&mut self, room: &str, via: Option<&Value>) -> Result<Value> {
        let via = match via {
            Some(via) => via.clone(),
            None => {
                let rooms = self.api.get("/rooms")?;
                let invites = rooms
                    .get("invites")
                    .and_then(Value::as_array)
                    .cloned()
                    .unwrap_or_default();
                let invite = invites
                    .iter()
                    .find(|invite| invite.get("room_id").is_some_and(|id| id == room));
                invite
                    .and_then(|invite| invite.get("hub"))
                    .map_or_else(|| json!([]), |hub| json!([hub]))
            }
        };
        self.api
            .post(&format!("/rooms/{}/join", escape(room)), &json!({"via": via}), None)
    }

    /// Adds the devices of a user, or one of them.
    fn add(&mut self, room: &str, user: &str, only: Option<&str>) -> Result<Step> {
        let members = self.devices_in(room)?;
        let (mut add, mut names) = (Vec::new(), Vec::new());
        for object in self.api.devices(user)? {
            // LM #int-mls-credentials: invalid devices must not be members.
            let Some(credential) = check_device(&object, user)? else {
                continue;
            };
            let device = credential.device().to_owned();
            let is_in = members
                .iter()
                .any(|(_, member)| member.user() == user && member.device() == device);
            if is_in || only.is_some_and(|only| only != device) {
                continue;
            }
            let bytes = self.api.claim(user, &device, KEY_PACKAGE)?;
            let package = KeyPackage::mls_decode(&mut &bytes[..]).map_err(|error| invalid(format!("{error:?}")))?;
            let named = DraftCredential::of(package.signing_identity()).map_err(|error| invalid(error.to_string()))?;
            if named != credential {
                return Err(invalid(
                    "a key package of another device, or not by the key in the device object",
                ));
            }
            add.push(message_of(WireFormat::KeyPackage, &bytes)?);
            names.push((user.to_owned(), device));
        }
        if add.is_empty() {
            return Err(Error::CannotDo(format!("{user} has no device to add")));
        }
        self.commit_adding(room, add, names, Vec::new())
    }

    /// Removes the devices of a user, or one of them.
    fn remove(&mut self, room: &str, user: &str, only: Option<&str>) -> Result<Step> {
        let members = self.devices_in(room)?.into_iter();
        let leaves =
            members.filter(|(_, member)| member.user() == user && only.is_none_or(|only| only == member.device()));
        let leaves: Vec<u32> = leaves.map(|(leaf, _)| leaf).collect();
        if leaves.is_empty() {
            return Err(Error::CannotDo(format!("{user} has no such device in the group")));
        }
        self.commit(room, Vec::new(), leaves)
    }

    fn commit(&mut self, room: &str, add: Vec<MlsMessage>, remove: Vec<u32>) -> Result<Step> {
        self.commit_adding(room, add, Vec::new(), remove)
    }

    fn commit_adding(
        &mut self,
        room: &str,
        add: Vec<MlsMessage>,
        recipients: Vec<(String, String)>,
        remove: Vec<u32>,
    ) -> Result<Step> {
        let known = self.rooms.entry(room.to_owned()).or_default();
        let previous = known.commit.clone();
        let group = known.group()?;
        let mut builder = group.commit_builder();
        for package in add {
            builder = builder.add_member(package)?;
        }
        for leaf in remove {
            builder = builder.remove_member(leaf)?;
        }
        let output = builder.build()?;
        let group_info = output.external_commit_group_info();
        let group_info = group_info
            .ok_or_else(|| invalid("mls-rs made no GroupInfo"))?
            .to_bytes()?;
        let welcome = output
            .welcome_messages()
            .first()
            .map(MlsMessage::to_bytes)
            .transpose()?;
        let pending = Pending {
            message: encode(&output.commit_message().to_bytes()?),
            lpdu_id: None,
            joining: None,
            welcome,
            recipients,
        };
        self.send_commit(room, pending, &group_info, &previous)
    }

    /// An external commit, from the public state of the newest one.
    fn join_external(&mut self, room: &str) -> Result<Step> {
        let newest = self.api.group(room)?;
        let text = |name: &str| {
            let value = newest.get(name).and_then(Value::as_str);
            value.ok_or_else(|| invalid(format!("no `{name}` in the room's group")))
        };
        let info = message_of(WireFormat::GroupInfo, &decode(text("public_group_state")?)?)?;
        let is_it = info.as_group_info().is_some_and(|info| {
            let context = info.group_context();
            context.group_id == room.as_bytes()
                && context.cipher_suite == SUITE
                && Some(context.epoch) == newest.get("epoch").and_then(Value::as_u64)
        });
        if !is_it {
            return Err(invalid("the room's group state is not that of its group"));
        }
        let (group, commit) = self.client.external_commit_builder()?.build(info)?;
        let group_info = group.group_info_message_allowing_ext_commit(true)?.to_bytes()?;
        let pending = Pending {
            message: encode(&commit.to_bytes()?),
            lpdu_id: None,
            joining: Some(group),
            welcome: None,
            recipients: Vec::new(),
        };
        let previous = text("event_id")?.to_owned();
        self.send_commit(room, pending, &group_info, &previous)
    }

    /// Sends a commit as `m.mls.commit` (LM #int-ev-mls-commit).
    fn send_commit(&mut self, room: &str, pending: Pending<C>, group_info: &[u8], previous: &str) -> Result<Step> {
        let mut content = json!({"message": pending.message, "public_group_state": encode(group_info)});
        if !previous.is_empty() {
            content["prev_commit_event_id"] = previous.into();
        }
        let known = self.rooms.entry(room.to_owned()).or_default();
        known.outcome = None;
        known.pending = Some(pending);
        let sent = self.api.send_event(room, "m.mls.commit", &content, &new_key());
        let current = known.group.as_ref().map(Group::current_epoch);
        match sent {
            Ok(answer) => {
                if let Some(pending) = &mut known.pending {
                    pending.lpdu_id = answer.get("lpdu_id").and_then(Value::as_str).map(str::to_owned);
                }
                Ok(Step::Sent { room: room.to_owned() })
            }
            Err(error) => {
                let was_external = known.drop_pending();
                match error {
                    Error::Refused {
                        current_epoch: Some(epoch),
                        ..
                    } if was_external || Some(epoch) != current => Ok(Step::Behind {
                        room: room.to_owned(),
                        epoch,
                    }),
                    error => Err(error),
                }
            }
        }
    }

    /// Encrypts and sends a text (LM #int-ev-encrypted).
    fn send(&mut self, room: &str, text: &str) -> Result<Value> {
        let known = self.rooms.entry(room.to_owned()).or_default();
        let payload = json!({"type": "m.message", "content": {"m.text": [{"body": text}]}});
        let message = known
            .group()?
            .encrypt_application_message(payload.to_string().as_bytes(), Vec::new())?;
        let ciphertext = encode(&message.to_bytes()?);
        known.sent.insert(ciphertext.clone());
        let content = json!({"algorithm": ALGORITHM, "ciphertext": ciphertext, "commit_event_id": known.commit});
        self.api.send_event(room, "m.room.encrypted", &content, &new_key())
    }

    /// The group as this device has it.
    pub fn state(&mut self, room: &str) -> Result<Value> {
        let known = self.rooms.entry(room.to_owned()).or_default();
        let commit = known.commit.clone();
        let group = known.group()?;
        let mut state = describe(group)?;
        state["room"] = room.into();
        state["commit"] = commit.into();
        Ok(state)
    }

    fn devices_in(&mut self, room: &str) -> Result<Vec<(u32, DraftCredential)>> {
        devices_of(self.rooms.entry(room.to_owned()).or_default().group()?)
    }

    // --- What comes ---

    /// Takes in an item of the event stream.
    pub fn item(&mut self, kind: &str, data: &Value) -> Result<()> {
        let text = |name: &str| data.get(name).and_then(Value::as_str).unwrap_or_default();
        match kind {
            "ready" => {
                self.ready = true;
                Ok(())
            }
            "room" => {
                let event = data
                    .get("event")
                    .ok_or_else(|| invalid("a room item without an event"))?;
                self.event(text("room_id"), event)
            }
            "invite" => {
                say(&json!({"notice": "invite", "room": text("room_id")}));
                Ok(())
            }
            "to_device" => self.to_device(data),
            "event_rejected" => {
                let known = self.rooms.get_mut(text("room_id"));
                let known = known.filter(|known| {
                    let pending = known.pending.as_ref().and_then(|pending| pending.lpdu_id.as_deref());
                    pending.is_some_and(|id| id == text("lpdu_id"))
                });
                if let Some(known) = known {
                    // The hub's sentence names the epoch if that was the reason; the commit that won is on its way then.
                    let stale = text("error").contains("epoch");
                    known.drop_pending();
                    known.outcome = Some(if stale {
                        Ok(false)
                    } else {
                        Err(Error::CannotDo(text("error").to_owned()))
                    });
                }
                Ok(())
            }
            "key_packages_low" if text("device_id") == self.own.device => self.stock_up(),
            _ => Ok(()),
        }
    }

    fn event(&mut self, room: &str, event: &Value) -> Result<()> {
        let text = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or_default();
        match text("type") {
            "m.mls.commit" => self.commit_event(room, event),
            "m.room.encrypted" => {
                let known = self.rooms.entry(room.to_owned()).or_default();
                let notice = match known.open(event) {
                    Ok(None) => return Ok(()),
                    Ok(Some((sender, payload))) => json!({
                        "notice": "message", "room": room, "event": text("event_id"), "sender": text("sender"),
                        "device": sender.device(), "payload": payload,
                    }),
                    Err(error) => {
                        if known.group.is_none() {
                            known.held.push(event.clone());
                        }
                        json!({
                            "notice": "undecryptable", "room": room, "event": text("event_id"), "reason": error.to_string(),
                        })
                    }
                };
                say(&notice);
                Ok(())
            }
            "m.room.member" => {
                let membership = event.get("content").and_then(|content| content.get("membership"));
                say(&json!({
                    "notice": "membership", "room": room, "user": event.get("state_key"), "membership": membership,
                }));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn commit_event(&mut self, room: &str, event: &Value) -> Result<()> {
        let known = self.rooms.entry(room.to_owned()).or_default();
        let event_id = event.get("event_id").and_then(Value::as_str).unwrap_or_default();
        let (message, _) = commit_content(event)?;
        if known.pending.as_ref().is_some_and(|pending| pending.message == message) {
            return self.echo(room, event_id);
        }
        if known.group.is_none() || known.removed {
            known.held.push(event.clone());
            return match self.welcomes.remove(event_id) {
                Some(welcome) => self.welcome(room, event_id, &welcome),
                None => Ok(()),
            };
        }
        let parsed = message_of(WireFormat::PublicMessage, &decode(&message)?)?;
        let group = known.group()?;
        if parsed.epoch().is_some_and(|epoch| epoch < group.current_epoch()) {
            // It is part of the state that this device joined with.
            return Ok(());
        }
        group.clear_pending_commit();
        let before = devices_of(group)?;
        let ReceivedMessage::Commit(commit) = group.process_incoming_message(parsed)? else {
            return Err(invalid("an m.mls.commit that holds no commit"));
        };
        if let CommitEffect::Removed { .. } = commit.effect {
            known.removed = true;
            known.held = vec![event.clone()];
            known.drop_pending();
            say(&json!({"notice": "removed", "room": room, "commit": event_id}));
            return Ok(());
        }
        known.commit = event_id.to_owned();
        if known.pending.take().is_some() {
            known.outcome = Some(Ok(false));
        }
        let by = devices_of(known.group()?)?.into_iter().chain(before);
        let by = by
            .filter(|(leaf, _)| *leaf == commit.committer)
            .map(|(_, device)| device)
            .next();
        let sender = event.get("sender").and_then(Value::as_str).unwrap_or_default();
        if by.as_ref().is_none_or(|by| by.user() != sender) {
            return Err(invalid("a commit that its committer's user did not send"));
        }
        self.began(room, by.as_ref(), commit.is_external)
    }

    /// Our own commit is in the log: now it counts, and whom it added may be welcomed.
    fn echo(&mut self, room: &str, event_id: &str) -> Result<()> {
        let known = self.rooms.entry(room.to_owned()).or_default();
        let Some(pending) = known.pending.take() else {
            return Ok(());
        };
        let external = pending.joining.is_some();
        match pending.joining {
            Some(group) => known.group = Some(group),
            None => {
                known.group()?.apply_pending_commit()?;
            }
        }
        known.removed = false;
        known.commit = event_id.to_owned();
        if let Some(welcome) = pending.welcome {
            let content = json!({
                "algorithm": WELCOME, "ciphertext": encode(&welcome), "commit_event_id": event_id,
            });
            let messages: Vec<Value> = pending
                .recipients
                .iter()
                .map(|(user, device)| {
                    json!({"target": user, "target_device": device, "type": "m.room.encrypted", "content": content})
                })
                .collect();
            self.api
                .post("/to_device", &json!({"messages": messages}), Some(&new_key()))?;
        }
        let own = DraftCredential::of(&self.own.identity).map_err(|error| invalid(error.to_string()))?;
        self.began(room, Some(&own), external)?;
        let known = self.rooms.entry(room.to_owned()).or_default();
        known.outcome = Some(Ok(true));
        if external { self.release(room, event_id) } else { Ok(()) }
    }

    /// LM #int-mls-add-remove: Welcomes come by to-device messages.
    fn to_device(&mut self, data: &Value) -> Result<()> {
        let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let message = data.get("message").cloned().unwrap_or_default();
        if text(data, "message_type") != "m.room.encrypted" || text(&message, "algorithm") != WELCOME {
            return Ok(());
        }
        let welcome = Welcome {
            sender: text(data, "sender"),
            message: decode(&text(&message, "ciphertext"))?,
        };
        let commit = text(&message, "commit_event_id");
        let is_it = |event: &Value| event.get("event_id").is_some_and(|id| *id == commit.as_str());
        let room = self.rooms.iter().find(|(_, known)| known.held.iter().any(is_it));
        match room.map(|(room, _)| room.clone()) {
            Some(room) => self.welcome(&room, &commit, &welcome),
            None => {
                self.welcomes.insert(commit, welcome);
                Ok(())
            }
        }
    }

    /// Joins by a Welcome, if it leads into the group that the commit in the room's log began.
    fn welcome(&mut self, room: &str, event_id: &str, welcome: &Welcome) -> Result<()> {
        let message = message_of(WireFormat::Welcome, &welcome.message)?;
        let (mut group, info) = self.client.join_group(None, &message, None)?;
        let known = self.rooms.entry(room.to_owned()).or_default();
        let event = known
            .held
            .iter()
            .find(|event| event.get("event_id").is_some_and(|id| *id == event_id));
        let event = event.ok_or_else(|| invalid("a Welcome without its commit"))?;
        let (_, announced) = commit_content(event)?;
        let announced = message_of(WireFormat::GroupInfo, &decode(&announced)?)?;
        if announced.as_group_info().map(|info| info.group_context()) != Some(group.context()) {
            return Err(invalid(
                "a Welcome into another group than the one that the commit began",
            ));
        }
        if group.group_id() != room.as_bytes() {
            return Err(invalid("a Welcome into another room's group"));
        }
        let by = devices_of(&group)?
            .into_iter()
            .find(|(leaf, _)| *leaf == info.sender)
            .map(|(_, device)| device);
        let sender = event.get("sender").and_then(Value::as_str);
        if by
            .as_ref()
            .is_none_or(|by| by.user() != welcome.sender || Some(by.user()) != sender)
        {
            return Err(invalid("a Welcome that was not sent by whoever made the commit"));
        }
        group.write_to_storage()?;
        known.group = Some(group);
        known.removed = false;
        known.commit = event_id.to_owned();
        say(&json!({"notice": "joined", "room": room, "commit": event_id}));
        self.began(room, by.as_ref(), false)?;
        self.release(room, event_id)
    }

    /// What was held of the room before this device joined by the commit in `joined`.
    fn release(&mut self, room: &str, joined: &str) -> Result<()> {
        let held = std::mem::take(&mut self.rooms.entry(room.to_owned()).or_default().held);
        let after = held
            .iter()
            .position(|event| event.get("event_id").is_some_and(|id| id == joined));
        for event in held.iter().skip(after.map_or(held.len(), |at| at + 1)) {
            self.event(room, event)?;
        }
        Ok(())
    }

    /// A new epoch: its secrets are kept for late messages, and everybody is told.
    fn began(&mut self, room: &str, by: Option<&DraftCredential>, external: bool) -> Result<()> {
        self.rooms
            .entry(room.to_owned())
            .or_default()
            .group()?
            .write_to_storage()?;
        let mut notice = self.state(room)?;
        notice["notice"] = "epoch".into();
        notice["by"] = by.map(|by| json!([by.user(), by.device()])).into();
        notice["external"] = external.into();
        say(&notice);
        Ok(())
    }
}

impl<C: MlsConfig> Room<C> {
    /// Forgets our commit. Returns whether it was an external one.
    fn drop_pending(&mut self) -> bool {
        if let Some(group) = &mut self.group {
            group.clear_pending_commit();
        }
        self.pending.take().is_some_and(|pending| pending.joining.is_some())
    }

    /// Opens `m.room.encrypted`; `None` if it is our own.
    fn open(&mut self, event: &Value) -> Result<Option<(DraftCredential, Value)>> {
        let content = event.get("content").cloned().unwrap_or_default();
        let text = |name: &str| {
            let value = content.get(name).and_then(Value::as_str);
            value.ok_or_else(|| invalid(format!("m.room.encrypted without `{name}`")))
        };
        let ciphertext = text("ciphertext")?;
        if self.sent.remove(ciphertext) {
            return Ok(None);
        }
        if text("algorithm")? != ALGORITHM {
            return Err(invalid("another algorithm than the room's"));
        }
        let message = message_of(WireFormat::PrivateMessage, &decode(ciphertext)?)?;
        // After a removal, too: to see that it fails.
        let not_in = || Error::CannotDo("this device is not in the room's group".to_owned());
        let group = self.group.as_mut().ok_or_else(not_in)?;
        // Whoever sent it may be gone by the time it is read.
        let before = devices_of(group)?;
        let ReceivedMessage::ApplicationMessage(message) = group.process_incoming_message(message)? else {
            return Err(invalid("m.room.encrypted that holds no message"));
        };
        let by = before.into_iter().find(|(leaf, _)| *leaf == message.sender_index);
        let (_, by) = by.ok_or_else(|| invalid("its sender is not in the group"))?;
        if event.get("sender").and_then(Value::as_str) != Some(by.user()) {
            return Err(invalid(format!("it was encrypted by a device of {}", by.user())));
        }
        let payload = serde_json::from_slice(message.data()).map_err(|error| invalid(error.to_string()))?;
        Ok(Some((by, payload)))
    }
}

/// `message` and `public_group_state` of `m.mls.commit`.
fn commit_content(event: &Value) -> Result<(String, String)> {
    let text = |name: &str| {
        let value = event.get("content").and_then(|content| content.get(name)?.as_str());
        value
            .map(str::to_owned)
            .ok_or_else(|| invalid(format!("m.mls.commit without `{name}`")))
    };
    Ok((text("message")?, text("public_group_state")?))
}

/// What both sides must agree on, and who is in it.
fn describe<C: MlsConfig>(group: &Group<C>) -> Result<Value> {
    let members: Vec<Value> = devices_of(group)?
        .iter()
        .map(|(_, member)| json!([member.user(), member.device()]))
        .collect();
    Ok(json!({
        "epoch": group.current_epoch(),
        "epoch_authenticator": hex(group.epoch_authenticator()?.as_bytes()),
        "tree_hash": hex(&group.context().tree_hash),
        "members": members,
    }))
}

fn devices_of<C: MlsConfig>(group: &Group<C>) -> Result<Vec<(u32, DraftCredential)>> {
    let members = group.roster().members_iter().map(|member| {
        let device = DraftCredential::of(&member.signing_identity).map_err(|error| invalid(error.to_string()))?;
        Ok((member.index, device))
    });
    members.collect()
}

/// An `MLSMessage`, or the structure of that wire format without its header: the draft's wording allows both.
fn message_of(expected: WireFormat, bytes: &[u8]) -> Result<MlsMessage> {
    let header = [0, 1, 0, expected as u8];
    let message = match bytes.starts_with(&header) {
        true => MlsMessage::from_bytes(bytes)?,
        false => MlsMessage::from_bytes(&[&header[..], bytes].concat())?,
    };
    Ok(message)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A name that this process has not used; others' are told apart by the user, and by the time.
fn new_key() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let started = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    format!("mls-rs-{}-{}", started.as_nanos(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Key packages to upload at once.
const STOCK: usize = 10;
/// Of a key package: below a server's limit of 90 days.
const LIFETIME: Duration = Duration::from_secs(60 * 24 * 60 * 60);
