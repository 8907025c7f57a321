//! What is still to be done: turning intentions into commits, sending what waits, keeping key packages in stock.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use nabe_mls::{DeviceObject, Suite, check_key_package};
use nabe_signing::{Object, base64u, object};
use nabe_types::limits::{COMPLETION_BYTES, ENVELOPE_BYTES, MAX_EVENT_BYTES};
use nabe_types::{DeviceId, RoomId, UnixMillis, UserId};
use openmls::group::MlsGroup;
use openmls::prelude::{KeyPackage, KeyPackageIn, LeafNodeIndex, ProtocolVersion};
use openmls_traits::random::OpenMlsRand as _;
use rusqlite::Connection;
use tls_codec::Deserialize as _;

use crate::client::Client;
use crate::device::drop_expired;
use crate::error::{ClientError, Doing as _, NoRoom, sentence};
use crate::intent::Intent;
use crate::mls;
use crate::notice::Notice;
use crate::provider::{Provider, crypto};
use crate::store::{
    CommitState, GroupStatus, Outgoing, OutgoingState, OwnKeyPackage, PendingCommit, Room, StoredIntent, Upload,
    WaitingWelcome, commit_of_epoch, hold, is_unaddable, note_unaddable, queued_to_device, sent_to_device, tell,
};
use crate::transport::{Direction, GroupSnapshot, KeyPackageUpload, NewEvent, TransportError};

/// A commit to be.
#[derive(Clone, Default)]
struct Plan {
    add: Vec<(UserId, DeviceId, KeyPackage)>,
    remove: Vec<LeafNodeIndex>,
    /// Devices that cannot be added, and why.
    failures: Vec<(UserId, DeviceId, String)>,
}

impl Client {
    /// Does what is due.
    pub(crate) async fn work(&mut self) -> Result<(), ClientError> {
        if std::mem::take(&mut self.check_stock) {
            self.stock_up().await?;
        }
        self.look_for_commits().await?;
        self.start_tending()?;
        for intent in self.due_intents()? {
            self.make_commit(&intent).await?;
        }
        self.flush().await
    }

    /// Rooms whose time has come get an intention, unless they have one.
    fn start_tending(&mut self) -> Result<(), ClientError> {
        let now = self.now();
        let is_due = |room: &Room| room.tend_due.is_some_and(|due| due <= now);
        if !Room::all(self.store.read())?.iter().any(is_due) {
            return Ok(());
        }
        self.store.transaction(|connection| {
            let intents = StoredIntent::all(connection)?;
            for mut room in Room::all(connection)?.into_iter().filter(is_due) {
                let has_one = intents
                    .iter()
                    .any(|intent| intent.room_id == room.room_id && intent.intent == Intent::Tend);
                if !has_one && room.group == GroupStatus::Active {
                    StoredIntent::insert(connection, &room.room_id, &Intent::Tend, now)?;
                }
                room.tend_due = None;
                room.save(connection)?;
            }
            Ok(())
        })
    }

    /// The first due intention of each room that has no commit on its way.
    pub(crate) fn due_intents(&self) -> Result<Vec<StoredIntent>, ClientError> {
        let connection = self.store.read();
        let busy: BTreeSet<RoomId> = PendingCommit::all(connection)?
            .into_iter()
            .map(|pending| pending.room_id)
            .collect();
        let now = self.now();
        let mut seen = BTreeSet::new();
        let mut due = Vec::new();
        for intent in StoredIntent::all(connection)? {
            if intent.due <= now && !busy.contains(&intent.room_id) && seen.insert(intent.room_id.clone()) {
                due.push(intent);
            }
        }
        Ok(due)
    }

    /// Makes an intention into a commit of the current epoch, kept and not sent yet; or ends it.
    pub(crate) async fn make_commit(&mut self, intent: &StoredIntent) -> Result<(), ClientError> {
        let made = self.try_commit(intent).await;
        match made {
            Ok(()) => Ok(()),
            // Nobody has decided anything: it stays as it is.
            Err(error @ ClientError::Transport(_)) if is_temporary(&error) => {
                let later = self.now().plus(RETRY);
                self.store.transaction(|connection| {
                    Ok::<_, ClientError>(StoredIntent::postpone(connection, intent.id, later)?)
                })
            }
            Err(error @ ClientError::Store(_)) => Err(error),
            Err(error) => self.in_transaction(|receiver, _| receiver.give_up(intent, error)),
        }
    }

    async fn try_commit(&mut self, intent: &StoredIntent) -> Result<(), ClientError> {
        let room = self.room(&intent.room_id)?;
        match &intent.intent {
            Intent::Found => self.found(&room, intent).await,
            Intent::JoinExternally => self.commit_externally(&room, intent).await,
            wanted => {
                if room.group != GroupStatus::Active {
                    return Err(ClientError::NotInGroup(room.room_id));
                }
                let group = match self.groups.take(&room.room_id) {
                    Some(group) => Some(group),
                    None => mls::load(&Provider::new(self.store.read()), &room.room_id)?,
                };
                let group = group.ok_or_else(|| ClientError::NotInGroup(room.room_id.clone()))?;
                let facts = Facts::of(&group)?;
                let epoch = group.epoch().as_u64();
                self.groups.put(&room.room_id, group);
                if epoch < self.behind.get(&room.room_id).copied().unwrap_or(0) {
                    // The commit that won has not come in yet.
                    return Ok(());
                }
                let mut plan = self.plan(&room.room_id, wanted, &facts).await?;
                loop {
                    match self.commit(intent, plan.clone()) {
                        // What does not fit is added by the next commit. Key packages that were claimed for it are lost.
                        Err(ClientError::CommitTooLarge { .. }) if plan.add.len() > 1 => {
                            plan.add.truncate(plan.add.len() / 2);
                        }
                        done => return done,
                    }
                }
            }
        }
    }

    /// Makes a commit as planned, or ends the intention if there is nothing to do.
    fn commit(&mut self, intent: &StoredIntent, plan: Plan) -> Result<(), ClientError> {
        let later = self.now().plus(UNADDABLE);
        let key = idempotency_key()?;
        self.in_transaction(|receiver, connection| {
            for (user, device, reason) in &plan.failures {
                note_unaddable(connection, &intent.room_id, user, device, later)?;
                tell(
                    connection,
                    &Notice::CannotAdd {
                        room: intent.room_id.clone(),
                        user: user.clone(),
                        device: device.clone(),
                        reason: reason.clone(),
                    },
                )?;
            }
            if plan.add.is_empty() && plan.remove.is_empty() && intent.intent != Intent::Update {
                let reasons: Vec<String> = plan
                    .failures
                    .iter()
                    .map(|(user, device, reason)| format!("{user} {device}: {reason}"))
                    .collect();
                let outcome = match reasons.is_empty() || intent.intent == Intent::Tend {
                    true => Ok(()),
                    false => Err(ClientError::NobodyAdded(reasons.join("; "))),
                };
                return receiver.finish(intent.id, outcome);
            }
            let provider = Provider::new(connection);
            let mut group = receiver
                .take_group(&intent.room_id)?
                .ok_or_else(|| ClientError::NotInGroup(intent.room_id.clone()))?;
            let epoch = group.epoch().as_u64();
            let recipients = plan
                .add
                .iter()
                .map(|(user, device, _)| (user.clone(), device.clone()))
                .collect();
            let is_divisible = plan.add.len() > 1;
            let add = plan.add.into_iter().map(|(.., package)| package).collect();
            let made = mls::commit(&provider, receiver.device(), &mut group, add, plan.remove)?;
            receiver.groups.put(&intent.room_id, group);
            let previous = commit_of_epoch(connection, &intent.room_id, epoch)?;
            // What can be divided is divided here; of what cannot, the server knows better whether it fits.
            let user = &receiver.device().user;
            let limit = match is_divisible {
                true => max_content_bytes(&intent.room_id, user),
                false => most_content_bytes(&intent.room_id, user),
            };
            let content = fitting(made.content(previous.as_ref()), limit)?;
            keep(connection, intent, epoch, false, key, content, made.welcome, recipients)
        })
    }

    /// LM #int-mls-considerations, "Group Creation": the room's creator establishes the group.
    async fn found(&mut self, room: &Room, intent: &StoredIntent) -> Result<(), ClientError> {
        let suite = self.suite_of(room)?;
        if !matches!(room.group, GroupStatus::None) || self.transport.group(&room.room_id).await?.is_some() {
            let reason = "the room has a group already".to_owned();
            return Err(ClientError::CommitRefused(reason));
        }
        let key = idempotency_key()?;
        self.in_transaction(|receiver, connection| {
            let provider = Provider::new(connection);
            receiver.delete_group(&intent.room_id)?;
            let mut group = mls::create(&provider, receiver.device(), suite, &intent.room_id)?;
            let made = mls::commit(&provider, receiver.device(), &mut group, Vec::new(), Vec::new())?;
            set_joining(connection, &intent.room_id)?;
            let limit = most_content_bytes(&intent.room_id, &receiver.device().user);
            let content = fitting(made.content(None), limit)?;
            keep(connection, intent, 0, false, key, content, None, Vec::new())
        })
    }

    async fn commit_externally(&mut self, room: &Room, intent: &StoredIntent) -> Result<(), ClientError> {
        if room.group == GroupStatus::Active {
            return self.in_transaction(|receiver, _| receiver.finish(intent.id, Ok(())));
        }
        let suite = self.suite_of(room)?;
        let snapshot = self.transport.group(&room.room_id).await?;
        let Some(GroupSnapshot {
            event_id,
            epoch,
            public_group_state,
            ..
        }) = snapshot
        else {
            return Err(ClientError::NoGroup(room.room_id.clone()));
        };
        if self.behind.get(&room.room_id).is_some_and(|behind| epoch < *behind) {
            // Our server has not got the newest commit yet.
            return Ok(());
        }
        let unusable = || ClientError::UnusableGroup(room.room_id.clone());
        let group_info = mls::read_group_info(&public_group_state).ok_or_else(unusable)?;
        let is_it = group_info.epoch().as_u64() == epoch
            && *group_info.group_id() == mls::group_id(&room.room_id)
            && group_info.ciphersuite() == suite.ciphersuite();
        if !is_it {
            return Err(unusable());
        }
        let key = idempotency_key()?;
        self.in_transaction(|receiver, connection| {
            let provider = Provider::new(connection);
            receiver.delete_group(&intent.room_id)?;
            let (_, made) = mls::join_externally(&provider, receiver.device(), suite, group_info)?;
            set_joining(connection, &intent.room_id)?;
            let limit = most_content_bytes(&intent.room_id, &receiver.device().user);
            let content = fitting(made.content(Some(&event_id)), limit)?;
            keep(connection, intent, epoch, true, key, content, None, Vec::new())
        })
    }

    /// The suite of a room, if it is encrypted and this device can do it.
    pub(crate) fn suite_of(&self, room: &Room) -> Result<Suite, ClientError> {
        let algorithm = room.algorithm.as_deref().unwrap_or_default();
        if algorithm.is_empty() {
            return Err(ClientError::NotEncrypted(room.room_id.clone()));
        }
        Suite::from_room_algorithm(algorithm)
            .filter(|suite| self.device.suites().contains(suite))
            .ok_or_else(|| ClientError::UnsupportedAlgorithm {
                room: room.room_id.clone(),
                algorithm: algorithm.to_owned(),
            })
    }

    // --- Planning ---

    async fn plan(&mut self, room: &RoomId, wanted: &Intent, facts: &Facts) -> Result<Plan, ClientError> {
        match wanted {
            Intent::AddUsers { users } => self.plan_adding(room, facts, users, None).await,
            Intent::AddDevice { user, device } => {
                self.plan_adding(room, facts, std::slice::from_ref(user), Some(device))
                    .await
            }
            Intent::RemoveDevices { devices } => {
                let leaves = devices.iter().filter_map(|(user, device)| facts.leaf(user, device));
                Ok(Plan {
                    remove: leaves
                        .filter(|leaf| *leaf != facts.own)
                        .map(LeafNodeIndex::new)
                        .collect(),
                    ..Plan::default()
                })
            }
            Intent::Tend => self.plan_tending(room, facts).await,
            Intent::Update | Intent::Found | Intent::JoinExternally => Ok(Plan::default()),
        }
    }

    /// Members' devices that are not in the group come in; devices of users who are no members, and devices of our own user that
    /// are gone, go out (LM #int-mls-add-remove).
    async fn plan_tending(&mut self, room: &RoomId, facts: &Facts) -> Result<Plan, ClientError> {
        let joined: BTreeSet<UserId> = self
            .transport
            .members(room)
            .await?
            .into_iter()
            .filter(|member| member.membership == "join")
            .map(|member| member.user_id)
            .collect();
        let users: Vec<UserId> = joined.iter().cloned().collect();
        let mut plan = self.plan_adding(room, facts, &users, None).await?;
        let own_devices = match self.transport.devices(&self.device.user).await {
            Ok(objects) => Some(
                objects
                    .into_iter()
                    .filter_map(|object| Some(DeviceObject::parse(object).ok()?.device_id().clone()))
                    .collect::<BTreeSet<_>>(),
            ),
            Err(_) => None,
        };
        for (user, device, leaf) in &facts.members {
            let is_gone = *user == self.device.user && own_devices.as_ref().is_some_and(|own| !own.contains(device));
            if *leaf != facts.own && (is_gone || !joined.contains(user)) {
                plan.remove.push(LeafNodeIndex::new(*leaf));
            }
        }
        Ok(plan)
    }

    /// Key packages of these users' devices that are not in the group, at most [`MAX_ADDED`] at once.
    async fn plan_adding(
        &mut self,
        room: &RoomId,
        facts: &Facts,
        users: &[UserId],
        only: Option<&DeviceId>,
    ) -> Result<Plan, ClientError> {
        let mut plan = Plan::default();
        let now = self.now();
        let mut wanted = Vec::new();
        for user in users {
            let objects = match self.transport.devices(user).await {
                Ok(objects) => objects,
                // One server that is down must not keep the others' users out.
                Err(_) if users.len() > 1 => continue,
                Err(error) => return Err(error.into()),
            };
            for object in objects {
                // LM #int-mls-credentials: invalid devices must not be members.
                let Ok(object) = DeviceObject::parse(object) else {
                    continue;
                };
                let device = object.device_id();
                let is_wanted = object.user_id() == user
                    && object.supports(facts.suite)
                    && only.is_none_or(|only| only == device)
                    && facts.leaf(user, device).is_none()
                    && !is_unaddable(self.store.read(), room, user, device, now)?;
                if is_wanted && wanted.len() < MAX_ADDED {
                    wanted.push((user.clone(), device.clone(), object));
                }
            }
        }
        if wanted.is_empty() {
            return Ok(plan);
        }
        let asked: Vec<(UserId, DeviceId)> = wanted
            .iter()
            .map(|(user, device, _)| (user.clone(), device.clone()))
            .collect();
        let algorithm = facts.suite.key_package_algorithm();
        let mut claimed = self.transport.claim_keys(&asked, &algorithm).await?;
        for (user, device, object) in wanted {
            let package = claimed.packages.remove(&(user.clone(), device.clone()));
            let failure = claimed.failures.get(user.server_name());
            let checked = match package {
                None => Err(failure.map_or("no key package is left", String::as_str).to_owned()),
                Some(bytes) => read_key_package(&bytes, facts.suite, &object, now),
            };
            match checked {
                Ok(package) => plan.add.push((user, device, package)),
                Err(reason) => plan.failures.push((user, device, reason)),
            }
        }
        Ok(plan)
    }

    // --- Sending ---

    /// Sends what waits: messages to devices, commits, messages. What cannot be sent now stays.
    pub(crate) async fn flush(&mut self) -> Result<(), ClientError> {
        let sent = self.try_flush().await;
        match sent {
            Err(error @ ClientError::Transport(_)) if is_temporary(&error) => Ok(()),
            sent => sent,
        }
    }

    async fn try_flush(&mut self) -> Result<(), ClientError> {
        for (n, key, message) in queued_to_device(self.store.read())? {
            match self
                .transport
                .send_to_device(std::slice::from_ref(&message), &key)
                .await
            {
                // Another attempt at the same was taken, or it will never be.
                Ok(()) | Err(TransportError::Refused(_)) => {
                    self.store
                        .transaction(|connection| Ok::<_, ClientError>(sent_to_device(connection, n)?))?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        for pending in PendingCommit::all(self.store.read())? {
            if pending.state == CommitState::Ready {
                self.send_commit(pending).await?;
            }
        }
        for outgoing in Outgoing::all(self.store.read())? {
            self.send_message(outgoing).await?;
        }
        Ok(())
    }

    async fn send_commit(&mut self, mut pending: PendingCommit) -> Result<(), ClientError> {
        let event = NewEvent {
            event_type: "m.mls.commit".to_owned(),
            state_key: None,
            content: pending.content.clone(),
        };
        let transport = Arc::clone(&self.transport);
        match transport
            .send_event(&pending.room_id, &event, &pending.idempotency_key)
            .await
        {
            Ok(sent) => {
                pending.state = CommitState::Sent;
                pending.lpdu_id = sent.lpdu_id;
                self.store
                    .transaction(|connection| Ok::<_, ClientError>(pending.save(connection)?))
            }
            Err(TransportError::Refused(refusal)) if refusal.status < 500 => {
                if let Some(epoch) = refusal.current_epoch {
                    self.behind.insert(pending.room_id.clone(), epoch);
                }
                let error = match &*refusal.code {
                    "too_large" => ClientError::CommitTooLarge {
                        bytes: pending.content.to_canonical().len(),
                        why: NoRoom::Refused(refusal.message),
                    },
                    _ => ClientError::CommitRefused(refusal.message),
                };
                self.in_transaction(|receiver, _| receiver.refused_commit(&pending, refusal.current_epoch, error))
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn send_message(&mut self, outgoing: Outgoing) -> Result<(), ClientError> {
        let Some(outgoing) = self.encrypt(outgoing)? else {
            return Ok(());
        };
        let Some(content) = outgoing.content.clone() else {
            return Ok(());
        };
        let event = NewEvent {
            event_type: "m.room.encrypted".to_owned(),
            state_key: None,
            content,
        };
        let transport = Arc::clone(&self.transport);
        match transport
            .send_event(&outgoing.room_id, &event, &outgoing.idempotency_key)
            .await
        {
            Ok(sent) => self
                .store
                .transaction(|connection| Ok::<_, ClientError>(outgoing.sent(connection, sent.lpdu_id.as_deref())?)),
            // The key was used with an earlier ciphertext of this message, which the server therefore has.
            Err(TransportError::Refused(refusal)) if refusal.code == "conflict" => self
                .store
                .transaction(|connection| Ok::<_, ClientError>(outgoing.sent(connection, None)?)),
            Err(TransportError::Refused(refusal)) if refusal.status < 500 => {
                self.in_transaction(|receiver, _| receiver.refused_message(&outgoing, &refusal.message))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Encrypts a message that is not, or whose epoch is so long ago that receivers will soon have no keys for it. `None` if it
    /// is to wait or is with the server already.
    fn encrypt(&mut self, outgoing: Outgoing) -> Result<Option<Outgoing>, ClientError> {
        if outgoing.state == OutgoingState::Sent {
            return Ok(None);
        }
        let room = self.room(&outgoing.room_id)?;
        if room.group != GroupStatus::Active {
            return Ok(Some(outgoing).filter(|outgoing| outgoing.state == OutgoingState::Ready));
        }
        self.in_transaction(|receiver, connection| {
            let provider = Provider::new(connection);
            let Some(mut group) = receiver.take_group(&outgoing.room_id)? else {
                return Ok(None);
            };
            let epoch = group.epoch().as_u64();
            let is_fresh = |made_in: u64| epoch.saturating_sub(made_in) <= (mls::MAX_PAST_EPOCHS / 2) as u64;
            if outgoing.epoch.is_some_and(is_fresh) {
                receiver.groups.put(&outgoing.room_id, group);
                return Ok(Some(outgoing));
            }
            let suite = mls::suite_of(&group)?;
            let ciphertext = group
                .create_message(&provider, receiver.device().signer(suite)?, &outgoing.payload)
                .doing("encrypting a message")?
                .to_bytes()
                .doing("encoding a message")?;
            receiver.groups.put(&outgoing.room_id, group);
            let commit = commit_of_epoch(connection, &outgoing.room_id, epoch)?
                .ok_or_else(|| ClientError::NotInGroup(outgoing.room_id.clone()))?;
            let content = object! {
                "algorithm" => suite.room_algorithm(),
                "ciphertext" => base64u::encode(&ciphertext),
                "commit_event_id" => commit.as_str(),
            };
            let bytes = content.to_canonical().len();
            let limit = max_content_bytes(&outgoing.room_id, &receiver.device().user);
            if bytes > limit {
                let error = ClientError::MessageTooLarge { bytes, limit };
                receiver.refused_message(&outgoing, &sentence(&error))?;
                return Ok(None);
            }
            outgoing.encrypted(connection, epoch, &ciphertext, &content)?;
            Ok(Outgoing::load(connection, outgoing.n)?)
        })
    }

    // --- Key packages and Welcomes ---

    /// Uploads key packages until the server has enough, and drops those that have expired.
    async fn stock_up(&mut self) -> Result<(), ClientError> {
        let transport = Arc::clone(&self.transport);
        let left = transport.key_packages_left(&self.device.id).await?;
        let now = self.now();
        let stock = self.settings.key_package_stock;
        for suite in self.device.suites().to_vec() {
            let algorithm = suite.key_package_algorithm();
            let there = left.get(&algorithm).copied().unwrap_or(0);
            let device = &self.device;
            let unsent = self.store.transaction(|connection| {
                drop_expired(connection, now)?;
                let ours: Vec<OwnKeyPackage> = OwnKeyPackage::all(connection)?
                    .into_iter()
                    .filter(|package| package.suite == suite)
                    .collect();
                let waiting = ours
                    .iter()
                    .filter(|package| package.upload != Upload::Done && !package.last_resort);
                let waiting = waiting.count() as u64;
                let missing = stock.saturating_sub(there + waiting);
                device.make_key_packages(connection, suite, usize::try_from(missing).unwrap_or(0), false)?;
                let has_last = ours
                    .iter()
                    .any(|package| package.last_resort && package.expires > now.plus(LAST_RESORT_RENEWED));
                if !has_last {
                    device.make_key_packages(connection, suite, 1, true)?;
                }
                let unsent = OwnKeyPackage::all(connection)?;
                Ok::<_, ClientError>(
                    unsent
                        .into_iter()
                        .filter(|package| package.suite == suite && package.upload != Upload::Done)
                        .collect::<Vec<_>>(),
                )
            })?;
            for batch in unsent.chunks(UPLOAD_BATCH) {
                let uploads: Vec<KeyPackageUpload> = batch
                    .iter()
                    .map(|package| KeyPackageUpload {
                        key: package.body.clone(),
                        last_resort: package.last_resort,
                    })
                    .collect();
                let mark = |connection: &Connection, upload| -> Result<(), ClientError> {
                    for package in batch {
                        package.mark(connection, upload)?;
                    }
                    Ok(())
                };
                self.store.transaction(|connection| mark(connection, Upload::Offered))?;
                let answers = transport
                    .upload_key_packages(&self.device.id, &algorithm, &uploads)
                    .await?;
                // What the server refuses it may have from an attempt whose answer was lost: its private half stays.
                let refused = batch
                    .iter()
                    .zip(answers)
                    .filter_map(|(package, answer)| match package.upload {
                        Upload::Waiting => answer.err(),
                        Upload::Offered | Upload::Done => None,
                    });
                let reasons: Vec<String> = refused.collect();
                self.store.transaction(|connection| {
                    if let Some(reason) = reasons.first() {
                        tell(
                            connection,
                            &Notice::KeyPackagesRefused {
                                suite: suite.name().to_owned(),
                                count: reasons.len() as u64,
                                reason: reason.clone(),
                            },
                        )?;
                    }
                    mark(connection, Upload::Done)
                })?;
            }
        }
        Ok(())
    }

    /// A Welcome whose commit does not come by the stream (it happened before this device listened): the log is paged through
    /// for it.
    async fn look_for_commits(&mut self) -> Result<(), ClientError> {
        let now = self.now();
        let overdue: Vec<WaitingWelcome> = WaitingWelcome::all(self.store.read())?
            .into_iter()
            .filter(|welcome| welcome.received_at.plus(COMMIT_AWAITED) <= now)
            .collect();
        if overdue.is_empty() {
            return Ok(());
        }
        let transport = Arc::clone(&self.transport);
        for summary in transport.rooms().await?.rooms {
            let status = Room::load(self.store.read(), &summary.room_id)?.map(|room| room.group);
            if summary.encryption.is_none() || matches!(status, Some(GroupStatus::Active | GroupStatus::Joining)) {
                continue;
            }
            self.learn(&summary.room_id).await?;
            let mut from = None;
            let mut pages = Vec::new();
            for _ in 0..MAX_PAGES {
                let page = transport
                    .history(&summary.room_id, from, Direction::Backward, 100)
                    .await?;
                let found = page
                    .events
                    .iter()
                    .any(|event| overdue.iter().any(|welcome| welcome.commit_event_id == event.event_id));
                pages.extend(page.events);
                from = page.next;
                if found || from.is_none() {
                    break;
                }
            }
            self.in_transaction(|receiver, connection| {
                for event in &pages {
                    if matches!(event.event_type.as_str(), "m.mls.commit" | "m.room.encrypted") {
                        hold(connection, &summary.room_id, event)?;
                    }
                }
                receiver.try_waiting(&summary.room_id, &pages)
            })?;
        }
        // What was not found now never will be.
        self.store.transaction(|connection| {
            for welcome in &overdue {
                welcome.delete(connection)?;
            }
            Ok::<_, ClientError>(())
        })
    }
}

/// What a plan needs to know of a group.
struct Facts {
    suite: Suite,
    own: u32,
    members: Vec<(UserId, DeviceId, u32)>,
}

impl Facts {
    fn of(group: &MlsGroup) -> Result<Self, ClientError> {
        Ok(Self {
            suite: mls::suite_of(group)?,
            own: group.own_leaf_index().u32(),
            members: mls::members(group)
                .into_iter()
                .map(|member| (member.user, member.device, member.leaf))
                .collect(),
        })
    }

    fn leaf(&self, user: &UserId, device: &DeviceId) -> Option<u32> {
        let mut members = self.members.iter();
        members
            .find(|(its_user, its_device, _)| its_user == user && its_device == device)
            .map(|&(.., leaf)| leaf)
    }
}

/// A claimed key package, if it is this device's and by the key in its device object.
fn read_key_package(bytes: &[u8], suite: Suite, object: &DeviceObject, now: UnixMillis) -> Result<KeyPackage, String> {
    let key = object
        .signature_key(suite.credential_algorithm())
        .ok_or("its device has no key for this suite")?;
    check_key_package(bytes, Some(suite), object.user_id(), object.device_id(), key, now)
        .map_err(|error| error.to_string())?;
    KeyPackageIn::tls_deserialize_exact(bytes)
        .map_err(|error| error.to_string())?
        .validate(crypto(), ProtocolVersion::Mls10)
        .map_err(|error| error.to_string())
}

/// A commit's content, if an event has room for it.
fn fitting(content: Object, limit: usize) -> Result<Object, ClientError> {
    let bytes = content.to_canonical().len();
    if bytes > limit {
        let why = NoRoom::OverLimit(limit);
        return Err(ClientError::CommitTooLarge { bytes, why });
    }
    Ok(content)
}

/// Keeps a commit that was made, to be sent.
#[expect(clippy::too_many_arguments, reason = "they are the columns of one row")]
fn keep(
    connection: &Connection,
    intent: &StoredIntent,
    epoch: u64,
    external: bool,
    idempotency_key: String,
    content: Object,
    welcome: Option<Vec<u8>>,
    recipients: Vec<(UserId, DeviceId)>,
) -> Result<(), ClientError> {
    let pending = PendingCommit {
        room_id: intent.room_id.clone(),
        intent_id: intent.id,
        epoch,
        external,
        idempotency_key,
        content,
        welcome,
        recipients,
        state: CommitState::Ready,
        lpdu_id: None,
    };
    Ok(pending.save(connection)?)
}

fn set_joining(connection: &Connection, room: &RoomId) -> Result<(), ClientError> {
    let mut room = Room::load_or_new(connection, room)?;
    room.group = GroupStatus::Joining;
    Ok(room.save(connection)?)
}

/// A name that nothing was ever sent under.
pub(crate) fn idempotency_key() -> Result<String, ClientError> {
    let random: [u8; 18] = crypto().random_array().doing("drawing random bytes")?;
    Ok(base64u::encode_url(&random))
}

pub(crate) fn is_temporary(error: &ClientError) -> bool {
    matches!(error, ClientError::Transport(error) if error.is_temporary())
}

/// What of an event's 64 KiB (LM #int-pdu) is left for its content on every way that an event of `user` can take to `room`. The hub's name is
/// not known here: it is taken to be as long as the room's server's, or the user's.
pub(crate) fn max_content_bytes(room: &RoomId, user: &UserId) -> usize {
    let hub = room.server_name().as_str().len().max(user.server_name().as_str().len());
    MAX_EVENT_BYTES.saturating_sub(COMPLETION_BYTES + ENVELOPE_BYTES + names(room, user) + hub)
}

/// The same on the shortest way: the user's server is the room's hub and signs with one key. For longer ways the server refuses what is
/// too large.
fn most_content_bytes(room: &RoomId, user: &UserId) -> usize {
    MAX_EVENT_BYTES.saturating_sub(HUB_ENVELOPE_BYTES + names(room, user))
}

fn names(room: &RoomId, user: &UserId) -> usize {
    LONGEST_TYPE.len() + room.as_str().len() + user.as_str().len() + user.server_name().as_str().len()
}

/// What a hub's own event has around its content, without names: field names, six event IDs for authorization and the one before, a hash, a
/// signature.
const HUB_ENVELOPE_BYTES: usize = 650;
/// The longer one of the types of event that a client sends.
const LONGEST_TYPE: &str = "m.room.encrypted";
/// How many devices one commit adds.
const MAX_ADDED: usize = 50;
/// How many key packages go up at once.
const UPLOAD_BATCH: usize = 50;
/// How many pages of a room's history are looked through for a commit.
const MAX_PAGES: usize = 20;
/// How long a device that could not be added is left alone.
const UNADDABLE: Duration = Duration::from_mins(10);
/// When to try again what nobody answered.
const RETRY: Duration = Duration::from_secs(2);
/// How long a Welcome waits for its commit to come by the stream.
const COMMIT_AWAITED: Duration = Duration::from_secs(30);
/// A last resort with less time left than this gets a successor.
const LAST_RESORT_RENEWED: Duration = Duration::from_hours(21 * 24);
