//! A device in rooms' groups, and what it does when told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mls_rs::client_builder::MlsConfig;
use mls_rs::extension::recommended::LastResortKeyPackageExt;
use mls_rs::extension::{ExtensionType, MlsExtension as _};
use mls_rs::mls_rs_codec::{MlsDecode as _, MlsEncode as _};
use mls_rs::mls_rules::{CommitOptions, EncryptionOptions};
use mls_rs::storage_provider::in_memory::InMemoryGroupStateStorage;
use mls_rs::{Client, ExtensionList, Group, KeyPackage, MlsMessage, WireFormat};
use mls_rs_crypto_rustcrypto::RustCryptoProvider;
use serde_json::{Value, json};

use crate::SUITE;
use crate::api::{Api, decode, encode, escape};
use crate::device::{ALGORITHM, Devices, DraftCredential, KEY_PACKAGE, OwnDevice, Rules, check_device};
use crate::error::{Error, Result, invalid};
use crate::room::{Pending, Room, Welcome, describe, devices_of, message_of};

/// mls-rs as the draft needs it: commits as `PublicMessage` with a path, group information that others can join by.
pub fn client(device: &OwnDevice, groups: InMemoryGroupStateStorage) -> Result<Client<impl MlsConfig + use<>>> {
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
        .group_state_storage(groups)
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
    pub(crate) api: Arc<Api>,
    pub(crate) client: Client<C>,
    /// The epochs that the client keeps.
    pub(crate) groups: InMemoryGroupStateStorage,
    pub(crate) own: OwnDevice,
    pub(crate) ready: bool,
    /// How long the next commit is held back after it was made.
    pub(crate) hold_back: Duration,
    pub(crate) rooms: BTreeMap<String, Room<C>>,
    /// Welcomes whose commit has not come, by its event's ID.
    pub(crate) welcomes: BTreeMap<String, Welcome>,
}

impl<C: MlsConfig> Member<C> {
    /// A device that is in no group.
    pub fn new(api: Arc<Api>, client: Client<C>, groups: InMemoryGroupStateStorage, own: OwnDevice) -> Self {
        Self {
            api,
            client,
            groups,
            own,
            ready: false,
            hold_back: Duration::ZERO,
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

    /// Does what a command says, as far as it can be done at once; `first` unless it was tried before.
    pub fn command(&mut self, command: &Value, first: bool) -> Result<Step> {
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
            "update" => {
                let wait = command.get("hold_back_ms").and_then(Value::as_u64).filter(|_| first);
                self.hold_back = wait.map(Duration::from_millis).unwrap_or_default();
                self.commit(room, Vec::new(), Vec::new())
            }
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
        // So that a test can have it lose a race.
        std::thread::sleep(std::mem::take(&mut self.hold_back));
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
                let Error::Refused { current_epoch, .. } = &error else {
                    return Err(error);
                };
                match *current_epoch {
                    Some(epoch) if was_external || Some(epoch) != current => Ok(Step::Behind {
                        room: room.to_owned(),
                        epoch,
                    }),
                    _ => Err(error),
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
}

/// A name that this process has not used; others' are told apart by the user, and by the time.
pub fn new_key() -> String {
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
