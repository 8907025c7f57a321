//! What one incoming item does to a client's state. All of it happens in one transaction, together with the stream token that says
//! the item was handled.

use std::collections::BTreeSet;
use std::time::Duration;

use nabe_mls::Suite;
use nabe_signing::{Json, Object, base64u, object, sha256};
use nabe_types::{DeviceRef, EventId, LogPosition, RoomId, UnixMillis, UserId};
use openmls::framing::errors::{MessageDecryptionError, SecretTreeError};
use openmls::group::{MlsGroup, ProcessMessageError, StagedCommit, ValidationError};
use openmls::prelude::{ProcessedMessageContent, Sender};
use openmls_traits::OpenMlsProvider as _;
use rusqlite::Connection;

use crate::device::Device;
use crate::error::{ClientError, Doing as _, sentence};
use crate::groups::Groups;
use crate::intent::Intent;
use crate::mls;
use crate::notice::{DeviceName, Notice};
use crate::provider::Provider;
use crate::settings::Settings;
use crate::store::{
    GroupStatus, ItemBody, Outgoing, PendingCommit, Room, StoredIntent, TimelineItem, WaitingWelcome, attempt,
    forget_unaddable, held_event, hold, note_epoch, queue_to_device, release, tell,
};
use crate::transport::{RoomEvent, StreamBody, ToDevice};
use crate::undecryptable::Undecryptable;

/// Handles items within one transaction.
pub(crate) struct Receiver<'a> {
    connection: &'a Connection,
    provider: Provider<'a>,
    device: &'a Device,
    settings: &'a Settings,
    now: UnixMillis,
    /// Intentions that came to an end.
    pub(crate) finished: Vec<(i64, Result<(), ClientError>)>,
    /// Whether key packages should be uploaded.
    pub(crate) key_packages_low: bool,
    /// What of them is here is as the transaction sees it: whoever changes one otherwise than in the store does not put it back.
    pub(crate) groups: Groups,
}

impl<'a> Receiver<'a> {
    pub(crate) fn new(
        connection: &'a Connection,
        device: &'a Device,
        settings: &'a Settings,
        now: UnixMillis,
        groups: Groups,
    ) -> Self {
        Self {
            connection,
            provider: Provider::new(connection),
            device,
            settings,
            now,
            finished: Vec::new(),
            key_packages_low: false,
            groups,
        }
    }

    pub(crate) const fn device(&self) -> &'a Device {
        self.device
    }

    pub(crate) fn item(&mut self, body: &StreamBody) -> Result<(), ClientError> {
        match body {
            StreamBody::Ready | StreamBody::Other(_) => Ok(()),
            StreamBody::Room(room, event) => self.room_event(room, event),
            StreamBody::Invite(room, via) => self.tell(&Notice::Invited {
                room: room.clone(),
                via: via.clone(),
            }),
            StreamBody::ToDevice {
                sender,
                message_type,
                message,
            } => self.message_to_device(sender, message_type, message),
            StreamBody::EventRejected {
                lpdu_id,
                error,
                current_epoch,
                ..
            } => self.rejected(lpdu_id, error, *current_epoch),
            StreamBody::DeviceListChanged(user) => self.devices_changed(user),
            StreamBody::KeyPackagesLow { device, .. } => {
                self.key_packages_low |= *device == self.device.id;
                Ok(())
            }
        }
    }

    fn room_event(&mut self, room_id: &RoomId, event: &RoomEvent) -> Result<(), ClientError> {
        let mut room = Room::load_or_new(self.connection, room_id)?;
        self.event(&mut room, event)?;
        Ok(room.save(self.connection)?)
    }

    fn event(&mut self, room: &mut Room, event: &RoomEvent) -> Result<(), ClientError> {
        match (event.event_type.as_str(), &event.state_key) {
            ("m.room.create", Some(_)) => {
                room.algorithm = Some(algorithm_of(&event.content).to_owned());
                Ok(())
            }
            ("m.room.member", Some(user)) => self.membership(room, event, user),
            ("m.mls.commit", None) => self.commit(room, event),
            ("m.room.encrypted", None) => self.message(room, event),
            (_, None) => {
                let body = ItemBody::Plain(event.content.clone());
                Ok(TimelineItem::put(self.connection, &room.room_id, event, &body, None)?)
            }
            _ => Ok(()),
        }
    }

    /// Devices come and go with their users.
    fn membership(&mut self, room: &mut Room, event: &RoomEvent, user: &str) -> Result<(), ClientError> {
        let membership = event
            .content
            .get("membership")
            .and_then(Json::as_str)
            .unwrap_or_default();
        let Ok(user) = UserId::parse(user) else { return Ok(()) };
        self.tell(&Notice::Membership {
            room: room.room_id.clone(),
            user: user.clone(),
            membership: membership.to_owned(),
        })?;
        if user == self.device.user {
            membership.clone_into(&mut room.membership);
            if matches!(membership, "leave" | "ban") {
                self.forget_group(room, GroupStatus::None)?;
            }
            return Ok(());
        }
        self.look_after(room, event.position.as_i64());
        Ok(())
    }

    fn devices_changed(&mut self, user: &UserId) -> Result<(), ClientError> {
        self.tell(&Notice::DevicesChanged { user: user.clone() })?;
        forget_unaddable(self.connection, user)?;
        for mut room in Room::all(self.connection)? {
            self.look_after(&mut room, 0);
            room.save(self.connection)?;
        }
        Ok(())
    }

    /// Has the room's devices compared with its members soon; not at once, since every other device thinks of it, too.
    fn look_after(&self, room: &mut Room, salt: i64) {
        if self.settings.tend && room.group == GroupStatus::Active && room.tend_due.is_none() {
            let delay = delay(self.device, &room.room_id, salt, self.settings.tend_spread);
            room.tend_due = Some(self.now.plus(delay));
        }
    }

    fn commit(&mut self, room: &mut Room, event: &RoomEvent) -> Result<(), ClientError> {
        match room.group {
            GroupStatus::Active => self.follow(room, event),
            GroupStatus::Joining => {
                let pending = PendingCommit::load(self.connection, &room.room_id)?;
                match pending.filter(|pending| is_same_commit(&pending.content, &event.content)) {
                    Some(pending) => {
                        let group = self.load(room)?;
                        self.echoed(room, event, &pending, group)
                    }
                    None => self.hold(room, event),
                }
            }
            GroupStatus::None | GroupStatus::Removed | GroupStatus::Stuck => {
                self.hold(room, event)?;
                self.try_welcomes(room, event)
            }
        }
    }

    /// A commit while this device is in the group.
    fn follow(&mut self, room: &mut Room, event: &RoomEvent) -> Result<(), ClientError> {
        let mut group = self.load(room)?;
        let ours = group.epoch().as_u64();
        let Some(message) = mls::read_message(&event.content, "message") else {
            return self.stuck(room, event, "a commit in the room's log is malformed".to_owned());
        };
        let theirs = message.epoch().as_u64();
        if theirs < ours {
            // It is part of the state that this device joined with.
            self.groups.put(&room.room_id, group);
            return Ok(());
        }
        if theirs > ours {
            return self.stuck(
                room,
                event,
                format!("the commits from epoch {ours} to epoch {theirs} are missing"),
            );
        }
        let pending = PendingCommit::load(self.connection, &room.room_id)?;
        if let Some(pending) = &pending
            && is_same_commit(&pending.content, &event.content)
        {
            return self.echoed(room, event, pending, group);
        }
        let processed = match group.process_message(&self.provider, message) {
            Ok(processed) => processed,
            Err(error) => return self.stuck(room, event, format!("a commit in the room's log is invalid: {error}")),
        };
        let by = mls::who(processed.credential());
        let external = matches!(processed.sender(), Sender::NewMemberCommit);
        let (ProcessedMessageContent::StagedCommitMessage(staged), Some(by)) = (processed.into_content(), by) else {
            return self.stuck(
                room,
                event,
                "a commit in the room's log is not one this device can follow".to_owned(),
            );
        };
        if by.user_id != event.sender {
            let reason = format!("a commit by a device of {} was sent by {}", by.user_id, event.sender);
            return self.stuck(room, event, reason);
        }
        let by = DeviceName {
            user: by.user_id,
            device: by.device_id,
        };
        if staged.self_removed() {
            return self.removed(room, event, by);
        }
        let before = mls::members(&group);
        if let Err(error) = self.merge(&mut group, *staged) {
            return self.stuck(room, event, format!("a commit could not be merged: {error}"));
        }
        if let Some(pending) = pending {
            self.lost_race(room, &pending)?;
        }
        self.epoch_began(room, event, &group, by, &before)?;
        self.groups.put(&room.room_id, group);
        if external {
            self.look_after(room, event.position.as_i64());
        }
        Ok(())
    }

    fn merge(&self, group: &mut MlsGroup, staged: StagedCommit) -> Result<(), ClientError> {
        attempt(self.connection, || {
            group
                .merge_staged_commit(&self.provider, staged)
                .doing("merging a commit")
        })
    }

    /// Our own commit is in the log: now it counts, and whom it added may be welcomed.
    fn echoed(
        &mut self,
        room: &mut Room,
        event: &RoomEvent,
        pending: &PendingCommit,
        mut group: MlsGroup,
    ) -> Result<(), ClientError> {
        let mut before = mls::members(&group);
        if pending.external {
            // The group is in the new epoch already.
            before.retain(|member| member.user != self.device.user || member.device != self.device.id);
        }
        group
            .merge_pending_commit(&self.provider)
            .doing("merging the own commit")?;
        let epoch = group.epoch().as_u64();
        if let Some(welcome) = &pending.welcome {
            let content = object! {
                "algorithm" => mls::suite_of(&group)?.welcome_algorithm(),
                "ciphertext" => base64u::encode(welcome),
                "commit_event_id" => event.event_id.as_str(),
            };
            for (target, target_device) in &pending.recipients {
                // The same for every attempt to send it, and for no other message.
                let key = base64u::encode_url(&sha256(
                    format!("{}\n{target}\n{target_device}", pending.idempotency_key).as_bytes(),
                ));
                let message = ToDevice {
                    target: target.clone(),
                    target_device: target_device.clone(),
                    message_type: "m.room.encrypted".to_owned(),
                    content: content.clone(),
                };
                queue_to_device(self.connection, &key, &message)?;
            }
        }
        PendingCommit::delete(self.connection, &room.room_id)?;
        // Whether the others are done is seen when they are planned anew: there may be nothing left to do.
        let intent = StoredIntent::load(self.connection, pending.intent_id)?;
        if let Some(intent) = intent
            && matches!(intent.intent, Intent::Found | Intent::Update | Intent::JoinExternally)
        {
            self.finish(intent.id, Ok(()))?;
        }
        let joined = room.group == GroupStatus::Joining;
        if joined {
            room.group = GroupStatus::Active;
            room.reason = None;
            room.first_epoch = Some(epoch);
            self.tell(&Notice::Joined {
                room: room.room_id.clone(),
                epoch,
            })?;
        }
        let by = self.own_name();
        self.epoch_began(room, event, &group, by, &before)?;
        self.groups.put(&room.room_id, group);
        if joined {
            self.look_after(room, event.position.as_i64());
            self.release(room, event.position)?;
        }
        Ok(())
    }

    fn epoch_began(
        &mut self,
        room: &Room,
        event: &RoomEvent,
        group: &MlsGroup,
        by: DeviceName,
        before: &[DeviceRef],
    ) -> Result<(), ClientError> {
        let epoch = group.epoch().as_u64();
        note_epoch(self.connection, &room.room_id, epoch, &event.event_id)?;
        let names = |members: &[DeviceRef]| members.iter().map(name).collect::<BTreeSet<_>>();
        let (before, after) = (names(before), names(&mls::members(group)));
        self.tell(&Notice::Epoch {
            room: room.room_id.clone(),
            epoch,
            epoch_authenticator: hex(group.epoch_authenticator().as_slice()),
            tree_hash: hex(group.public_group().group_context().tree_hash()),
            commit: event.event_id.clone(),
            by,
            added: after.difference(&before).cloned().collect(),
            removed: before.difference(&after).cloned().collect(),
        })
    }

    fn removed(&mut self, room: &mut Room, event: &RoomEvent, by: DeviceName) -> Result<(), ClientError> {
        self.forget_group(room, GroupStatus::Removed)?;
        self.tell(&Notice::Removed {
            room: room.room_id.clone(),
            by,
        })?;
        // It may have been removed and added in one.
        self.hold(room, event)?;
        self.try_welcomes(room, event)
    }

    /// All keys of a room's group go, and whatever was to be done with them.
    fn forget_group(&mut self, room: &mut Room, status: GroupStatus) -> Result<(), ClientError> {
        self.delete_group(&room.room_id)?;
        PendingCommit::delete(self.connection, &room.room_id)?;
        room.group = status;
        room.reason = None;
        room.tend_due = None;
        for intent in StoredIntent::all(self.connection)? {
            if intent.room_id == room.room_id && intent.intent != Intent::JoinExternally {
                self.finish(intent.id, Err(ClientError::NotInGroup(room.room_id.clone())))?;
            }
        }
        Ok(())
    }

    /// The group went on without this device. Its keys stay, for messages of epochs it has seen.
    fn stuck(&mut self, room: &mut Room, event: &RoomEvent, reason: String) -> Result<(), ClientError> {
        PendingCommit::delete(self.connection, &room.room_id)?;
        self.drop_commit(&room.room_id)?;
        room.group = GroupStatus::Stuck;
        room.reason = Some(reason.clone());
        self.hold(room, event)?;
        self.tell(&Notice::Stuck {
            room: room.room_id.clone(),
            reason,
        })
    }

    /// Another commit ended the epoch that ours wanted to end. The intention stays.
    pub(crate) fn lost_race(&mut self, room: &Room, pending: &PendingCommit) -> Result<(), ClientError> {
        PendingCommit::delete(self.connection, &room.room_id)?;
        let Some(intent) = StoredIntent::load(self.connection, pending.intent_id)? else {
            return Ok(());
        };
        self.tell(&Notice::LostRace {
            room: room.room_id.clone(),
            intent: intent.intent.clone(),
            epoch: pending.epoch,
        })?;
        let attempts = intent.attempts + 1;
        if attempts >= self.settings.max_attempts {
            return self.give_up(&intent, ClientError::LostTooOften { attempts });
        }
        Ok(StoredIntent::count_attempt(self.connection, intent.id)?)
    }

    /// The hub refused our commit, or the event that carries it.
    pub(crate) fn refused_commit(
        &mut self,
        pending: &PendingCommit,
        current_epoch: Option<u64>,
        error: ClientError,
    ) -> Result<(), ClientError> {
        let stale = current_epoch.is_some_and(|epoch| epoch != pending.epoch);
        let mut room = Room::load_or_new(self.connection, &pending.room_id)?;
        if room.group == GroupStatus::Joining {
            self.delete_group(&room.room_id)?;
            room.group = GroupStatus::None;
            room.save(self.connection)?;
        } else {
            self.drop_commit(&room.room_id)?;
        }
        let intent = StoredIntent::load(self.connection, pending.intent_id)?;
        match intent {
            // Another device of this user has founded the group.
            Some(intent) if stale && intent.intent == Intent::Found => {
                PendingCommit::delete(self.connection, &room.room_id)?;
                self.give_up(&intent, error)
            }
            Some(intent) if !stale => {
                PendingCommit::delete(self.connection, &room.room_id)?;
                self.give_up(&intent, error)
            }
            _ => self.lost_race(&room, pending),
        }
    }

    pub(crate) fn give_up(&mut self, intent: &StoredIntent, error: ClientError) -> Result<(), ClientError> {
        self.tell(&Notice::GaveUp {
            room: intent.room_id.clone(),
            intent: intent.intent.clone(),
            reason: sentence(&error),
        })?;
        self.finish(intent.id, Err(error))
    }

    pub(crate) fn finish(&mut self, intent: i64, outcome: Result<(), ClientError>) -> Result<(), ClientError> {
        StoredIntent::delete(self.connection, intent)?;
        self.finished.push((intent, outcome));
        Ok(())
    }

    fn rejected(&mut self, lpdu_id: &str, error: &str, current_epoch: Option<u64>) -> Result<(), ClientError> {
        let is_it = |known: &Option<String>| known.as_deref() == Some(lpdu_id);
        for pending in PendingCommit::all(self.connection)? {
            if is_it(&pending.lpdu_id) {
                self.refused_commit(&pending, current_epoch, ClientError::CommitRefused(error.to_owned()))?;
            }
        }
        for outgoing in Outgoing::all(self.connection)? {
            if is_it(&outgoing.lpdu_id) {
                self.refused_message(&outgoing, error)?;
            }
        }
        Ok(())
    }

    pub(crate) fn refused_message(&mut self, outgoing: &Outgoing, reason: &str) -> Result<(), ClientError> {
        outgoing.delete(self.connection)?;
        self.tell(&Notice::MessageRefused {
            room: outgoing.room_id.clone(),
            message: outgoing.n,
            reason: reason.to_owned(),
        })
    }

    /// LM #int-ev-encrypted.
    fn message(&mut self, room: &Room, event: &RoomEvent) -> Result<(), ClientError> {
        let own = event.sender == self.device.user;
        if own
            && let Some(ciphertext) = mls::bytes(&event.content, "ciphertext")
            && let Some(outgoing) = Outgoing::by_ciphertext(self.connection, &ciphertext)?
        {
            let body = ItemBody::Message(outgoing.payload.clone());
            TimelineItem::put(self.connection, &room.room_id, event, &body, Some(outgoing.n))?;
            return Ok(outgoing.delete(self.connection)?);
        }
        let body = match self.decrypt(room, event)? {
            Ok(payload) => ItemBody::Message(payload),
            Err(reason) => {
                if reason == Undecryptable::NotInGroup {
                    self.hold(room, event)?;
                }
                ItemBody::Undecryptable(reason)
            }
        };
        Ok(TimelineItem::put(self.connection, &room.room_id, event, &body, None)?)
    }

    fn decrypt(&mut self, room: &Room, event: &RoomEvent) -> Result<Result<Vec<u8>, Undecryptable>, ClientError> {
        let content = &event.content;
        let algorithm = content.get("algorithm").and_then(Json::as_str);
        let commit = content.get("commit_event_id").and_then(Json::as_str);
        let (Some(algorithm), Some(Ok(_)), Some(_)) =
            (algorithm, commit.map(EventId::parse), mls::bytes(content, "ciphertext"))
        else {
            return Ok(Err(Undecryptable::Malformed));
        };
        if room.algorithm.as_deref().is_some_and(|rooms| rooms != algorithm) {
            return Ok(Err(Undecryptable::OtherAlgorithm));
        }
        if matches!(
            room.group,
            GroupStatus::None | GroupStatus::Removed | GroupStatus::Joining
        ) {
            return Ok(Err(Undecryptable::NotInGroup));
        }
        let mut group = self.load(room)?;
        let opened = self.open(room, event, &mut group, algorithm)?;
        if opened.is_ok() {
            self.groups.put(&room.room_id, group);
        }
        Ok(opened)
    }

    fn open(
        &self,
        room: &Room,
        event: &RoomEvent,
        group: &mut MlsGroup,
        algorithm: &str,
    ) -> Result<Result<Vec<u8>, Undecryptable>, ClientError> {
        if mls::suite_of(group)?.room_algorithm() != algorithm {
            return Ok(Err(Undecryptable::OtherAlgorithm));
        }
        let Some(message) = mls::read_message(&event.content, "ciphertext") else {
            return Ok(Err(Undecryptable::Malformed));
        };
        let (epoch, ours) = (message.epoch().as_u64(), group.epoch().as_u64());
        if epoch > ours {
            return Ok(Err(Undecryptable::EpochUnknown { epoch, ours }));
        }
        if room.first_epoch.is_some_and(|first| epoch < first) {
            return Ok(Err(Undecryptable::SentBeforeJoining));
        }
        let processed = match group.process_message(&self.provider, message) {
            Ok(processed) => processed,
            Err(ProcessMessageError::StorageError(error)) => return Err(crate::StoreError::from(error).into()),
            // OpenMLS has the same error for keys of a past epoch and for used ones.
            Err(_) if ours - epoch > mls::MAX_PAST_EPOCHS as u64 => return Ok(Err(Undecryptable::EpochGone { epoch })),
            Err(error) => return Ok(Err(reason(&error, epoch))),
        };
        let Some(by) = mls::who(processed.credential()) else {
            return Ok(Err(Undecryptable::SenderNotInGroup));
        };
        match processed.into_content() {
            ProcessedMessageContent::ApplicationMessage(_) if by.user_id != event.sender => {
                Ok(Err(Undecryptable::OtherSender { actual: by.user_id }))
            }
            ProcessedMessageContent::ApplicationMessage(message) => Ok(Ok(message.into_bytes())),
            ProcessedMessageContent::OwnPrivateMessage => Ok(Err(Undecryptable::OwnMessage)),
            _ => Ok(Err(Undecryptable::NotAMessage)),
        }
    }

    /// LM #int-mls-add-remove: Welcomes come by to-device messages.
    fn message_to_device(&mut self, sender: &UserId, message_type: &str, message: &Object) -> Result<(), ClientError> {
        let text = |field| message.get(field).and_then(Json::as_str);
        let Some(algorithm) = text("algorithm").filter(|_| message_type == "m.room.encrypted") else {
            return Ok(());
        };
        let unusable = |reason: &str| Notice::WelcomeUnusable {
            sender: sender.clone(),
            reason: reason.to_owned(),
        };
        if Suite::from_welcome_algorithm(algorithm).is_none() {
            return self.tell(&unusable("its algorithm is unknown to this device"));
        }
        let commit = text("commit_event_id").and_then(|id| EventId::parse(id).ok());
        let (Some(commit_event_id), Some(bytes)) = (commit, mls::bytes(message, "ciphertext")) else {
            return self.tell(&unusable("it is malformed"));
        };
        let welcome = WaitingWelcome {
            n: 0,
            commit_event_id,
            sender: sender.clone(),
            algorithm: algorithm.to_owned(),
            message: bytes,
            received_at: self.now,
        };
        welcome.insert(self.connection)?;
        match held_event(self.connection, &welcome.commit_event_id)? {
            Some((room_id, event)) => {
                let mut room = Room::load_or_new(self.connection, &room_id)?;
                self.try_welcomes(&mut room, &event)?;
                Ok(room.save(self.connection)?)
            }
            // The Welcome waits for its commit.
            None => Ok(()),
        }
    }

    /// Joins by a Welcome for this commit, if one has come.
    fn try_welcomes(&mut self, room: &mut Room, event: &RoomEvent) -> Result<(), ClientError> {
        if matches!(room.group, GroupStatus::Active | GroupStatus::Joining) {
            return Ok(());
        }
        for welcome in WaitingWelcome::for_commit(self.connection, &event.event_id)? {
            welcome.delete(self.connection)?;
            let joined = attempt(self.connection, || self.join(room, event, &welcome));
            match joined {
                Ok(epoch) => {
                    // Another device of the user joined the room, so its beginning was never on this one's stream.
                    if room.algorithm.is_none() {
                        room.algorithm = Suite::from_welcome_algorithm(&welcome.algorithm).map(Suite::room_algorithm);
                    }
                    return self.joined(room, event, epoch);
                }
                Err(JoinError::Store(error)) => return Err(error.into()),
                Err(error) => self.tell(&Notice::WelcomeUnusable {
                    sender: welcome.sender.clone(),
                    reason: sentence(&error),
                })?,
            }
        }
        Ok(())
    }

    /// Events of a room's past are known now: one may be the commit that a Welcome waits for.
    pub(crate) fn try_waiting(&mut self, room_id: &RoomId, events: &[RoomEvent]) -> Result<(), ClientError> {
        let mut room = Room::load_or_new(self.connection, room_id)?;
        for event in events.iter().filter(|event| event.event_type == "m.mls.commit") {
            self.try_welcomes(&mut room, event)?;
        }
        Ok(room.save(self.connection)?)
    }

    /// Opens a Welcome and makes sure that it leads into the group that the commit in the room's log began.
    fn join(&mut self, room: &Room, event: &RoomEvent, welcome: &WaitingWelcome) -> Result<u64, JoinError> {
        let suite = Suite::from_welcome_algorithm(&welcome.algorithm).ok_or(JoinError::OtherAlgorithm)?;
        if room
            .algorithm
            .as_ref()
            .is_some_and(|algorithm| *algorithm != suite.room_algorithm())
        {
            return Err(JoinError::OtherAlgorithm);
        }
        let message = mls::read_welcome(&welcome.message).ok_or(JoinError::Malformed)?;
        let staged = mls::open_welcome(&self.provider, message)?;
        let context = staged.group_context();
        if mls::room_of(context.group_id()).as_ref() != Some(&room.room_id) {
            return Err(JoinError::OtherGroup);
        }
        if Suite::from_ciphersuite(context.ciphersuite()) != Some(suite) {
            return Err(JoinError::OtherAlgorithm);
        }
        if mls::announced_context(&event.content).as_ref() != Some(context) {
            return Err(JoinError::OtherState);
        }
        let sender = staged.welcome_sender().doing("reading a Welcome")?.credential();
        let is_sender = mls::who(sender).is_some_and(|by| by.user_id == welcome.sender && by.user_id == event.sender);
        if !is_sender {
            return Err(JoinError::OtherSender);
        }
        self.delete_group(&room.room_id)?;
        let group = staged.into_group(&self.provider).doing("joining a group")?;
        Ok(group.epoch().as_u64())
    }

    fn joined(&mut self, room: &mut Room, event: &RoomEvent, epoch: u64) -> Result<(), ClientError> {
        room.group = GroupStatus::Active;
        room.reason = None;
        room.first_epoch = Some(epoch);
        note_epoch(self.connection, &room.room_id, epoch, &event.event_id)?;
        self.tell(&Notice::Joined {
            room: room.room_id.clone(),
            epoch,
        })?;
        if self.settings.update_after_join {
            // A leaf that was added has no keys above it: until it updates, everybody's commits are long.
            let delay = delay(
                self.device,
                &room.room_id,
                event.position.as_i64(),
                self.settings.tend_spread,
            );
            StoredIntent::insert(self.connection, &room.room_id, &Intent::Update, self.now.plus(delay))?;
        }
        self.release(room, event.position)
    }

    /// What was held of the room while this device was not in its group, which it has joined by the commit at `joined`.
    fn release(&mut self, room: &mut Room, joined: LogPosition) -> Result<(), ClientError> {
        for event in release(self.connection, &room.room_id)? {
            match event.event_type.as_str() {
                "m.mls.commit" if event.position <= joined => {}
                "m.mls.commit" => self.commit(room, &event)?,
                _ => self.message(room, &event)?,
            }
        }
        Ok(())
    }

    fn hold(&self, room: &Room, event: &RoomEvent) -> Result<(), ClientError> {
        Ok(hold(self.connection, &room.room_id, event)?)
    }

    fn load(&mut self, room: &Room) -> Result<MlsGroup, ClientError> {
        self.take_group(&room.room_id)?
            .ok_or_else(|| ClientError::NotInGroup(room.room_id.clone()))
    }

    /// A room's group. Whoever is done with it, and has it as the store has it, hands it to [`Receiver::groups`].
    pub(crate) fn take_group(&mut self, room: &RoomId) -> Result<Option<MlsGroup>, ClientError> {
        match self.groups.take(room) {
            Some(group) => Ok(Some(group)),
            None => mls::load(&self.provider, room),
        }
    }

    /// Forgets all secrets of a room's group.
    pub(crate) fn delete_group(&mut self, room: &RoomId) -> Result<(), ClientError> {
        self.groups.take(room);
        mls::delete(&self.provider, room)
    }

    /// Forgets the commit that this device made of a room's group and nobody took, if there is one.
    fn drop_commit(&mut self, room: &RoomId) -> Result<(), ClientError> {
        if let Some(mut group) = self.take_group(room)? {
            group
                .clear_pending_commit(self.provider.storage())
                .doing("dropping a commit")?;
            self.groups.put(room, group);
        }
        Ok(())
    }

    fn tell(&self, notice: &Notice) -> Result<(), ClientError> {
        Ok(tell(self.connection, notice)?)
    }

    fn own_name(&self) -> DeviceName {
        DeviceName {
            user: self.device.user.clone(),
            device: self.device.id.clone(),
        }
    }
}

/// Why a Welcome leads nowhere.
#[derive(Debug, thiserror::Error)]
enum JoinError {
    #[error(transparent)]
    Store(#[from] crate::StoreError),
    #[error("{}", sentence(.0))]
    Client(#[from] ClientError),
    #[error("it is malformed")]
    Malformed,
    #[error("its algorithm is not the room's")]
    OtherAlgorithm,
    #[error("it is for another room's group")]
    OtherGroup,
    #[error("its group is not the one that the commit in the room's log began")]
    OtherState,
    #[error("it was not sent by whoever made the commit")]
    OtherSender,
}

/// The algorithm that an `m.room.create` chose; empty for none (LM #int-mls-considerations).
pub(crate) fn algorithm_of(create: &Object) -> &str {
    create
        .get("encryption")
        .and_then(Json::as_object)
        .and_then(|encryption| encryption.get("algorithm"))
        .and_then(Json::as_str)
        .unwrap_or_default()
}

/// A moment to wait that differs from device to device and time to time, and needs no generator.
pub(crate) fn delay(device: &Device, room: &RoomId, salt: i64, spread: Duration) -> Duration {
    let hash = sha256(format!("{}\n{}\n{room}\n{salt}", device.user, device.id).as_bytes());
    let [a, b, c, d, ..] = hash;
    let share = f64::from(u32::from_be_bytes([a, b, c, d])) / f64::from(u32::MAX);
    spread.mul_f64(share)
}

fn name(member: &DeviceRef) -> DeviceName {
    DeviceName {
        user: member.user.clone(),
        device: member.device.clone(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The message alone says which commit it is.
fn is_same_commit(ours: &Object, theirs: &Object) -> bool {
    ours.get("message").is_some() && ours.get("message") == theirs.get("message")
}

pub(crate) fn reason<E: std::fmt::Display>(error: &ProcessMessageError<E>, epoch: u64) -> Undecryptable {
    let ProcessMessageError::ValidationError(invalid) = error else {
        return Undecryptable::Other {
            what: error.to_string(),
        };
    };
    match invalid {
        ValidationError::WrongGroupId => Undecryptable::OtherGroup,
        ValidationError::NoPastEpochData => Undecryptable::EpochGone { epoch },
        ValidationError::UnknownMember => Undecryptable::SenderNotInGroup,
        ValidationError::InvalidSignature => Undecryptable::BadSignature,
        ValidationError::UnableToDecrypt(MessageDecryptionError::AeadError) => Undecryptable::Corrupt,
        ValidationError::UnableToDecrypt(MessageDecryptionError::MalformedContent) => Undecryptable::Malformed,
        ValidationError::UnableToDecrypt(MessageDecryptionError::SecretTreeError(error)) => match error {
            SecretTreeError::TooDistantInThePast | SecretTreeError::SecretReuseError => Undecryptable::Replayed,
            SecretTreeError::TooDistantInTheFuture => Undecryptable::SkippedTooMany,
            SecretTreeError::IndexOutOfBounds => Undecryptable::SenderNotInGroup,
            _ => Undecryptable::Corrupt,
        },
        ValidationError::UnableToDecrypt(MessageDecryptionError::GenerationOutOfBound) => Undecryptable::SkippedTooMany,
        other => Undecryptable::Other {
            what: other.to_string(),
        },
    }
}
