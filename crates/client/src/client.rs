//! The client: what its user can ask for, and the loop that brings about what is still to be done.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nabe_mls::Suite;
use nabe_types::{DeviceId, DeviceRef, EventId, RoomId, ServerName, UnixMillis, UserId};
use rusqlite::Connection;

use crate::device::Device;
use crate::error::ClientError;
use crate::groups::Groups;
use crate::intent::Intent;
use crate::mls;
use crate::notice::Notice;
use crate::provider::Provider;
use crate::receive::{Receiver, algorithm_of};
use crate::settings::Settings;
use crate::store::{ClientStore, GroupStatus, Room, StoredIntent, TOKEN, TimelineItem, meta, set_meta, told, untold};
use crate::transport::{Member, NewRoom, RoomSummary, StreamItem, Transport, TransportError};

/// What time it is.
pub type Clock = Box<dyn Fn() -> UnixMillis + Send + Sync>;

/// One device of one user.
///
/// Every method that talks to the server may be dropped half way, or die with its process: what it began goes on with the next
/// [`Client::sync`].
pub struct Client {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) store: ClientStore,
    pub(crate) device: Device,
    pub(crate) settings: Settings,
    pub(crate) clock: Clock,
    /// How intentions ended, for whoever waits for them.
    pub(crate) outcomes: BTreeMap<i64, Result<(), ClientError>>,
    /// The epoch that the hub says a group is in; nothing is committed before it is reached.
    pub(crate) behind: BTreeMap<RoomId, u64>,
    /// Whether the server should be asked how many key packages it has.
    pub(crate) check_stock: bool,
    /// As the store has them.
    pub(crate) groups: Groups,
}

/// A group as this device sees it, for comparing with others.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GroupInfo {
    /// The epoch.
    pub epoch: u64,
    /// On this all members agree who are in the same epoch of the same group.
    pub epoch_authenticator: Vec<u8>,
    /// Hash of the ratchet tree, which servers know, too.
    pub tree_hash: Vec<u8>,
    /// The suite.
    pub suite: Suite,
    /// The members.
    pub members: Vec<DeviceRef>,
}

impl Client {
    /// Makes a new device in an empty store and publishes it, with key packages. If a device of this name is in the store
    /// already, it goes on from there.
    ///
    /// # Errors
    ///
    /// [`ClientError::OtherAccount`] if the credential of `transport` is for another user or device.
    pub async fn log_in(
        transport: Arc<dyn Transport>,
        mut store: ClientStore,
        device: DeviceId,
        suites: &[Suite],
        settings: Settings,
        clock: Clock,
    ) -> Result<Self, ClientError> {
        let me = transport.whoami().await?;
        if let Some(bound) = me.device_id.filter(|bound| *bound != device) {
            return Err(ClientError::OtherAccount {
                expected: device.to_string(),
                found: bound.to_string(),
            });
        }
        match store.owner()? {
            Some((user, owner)) if user == me.user_id && owner == device => {}
            Some((user, owner)) => {
                return Err(ClientError::OtherAccount {
                    expected: format!("{user} {owner}"),
                    found: format!("{} {device}", me.user_id),
                });
            }
            None => {
                let made = Device::generate(me.user_id, device, suites)?;
                store.transaction(|connection| made.save(connection))?;
            }
        }
        let mut client = Self::open(transport, store, settings, clock)?;
        client.publish().await?;
        Ok(client)
    }

    /// Opens the client that a store holds. Nothing is sent.
    ///
    /// # Errors
    ///
    /// [`crate::StoreError::Empty`] if nobody has logged in.
    pub fn open(
        transport: Arc<dyn Transport>,
        store: ClientStore,
        settings: Settings,
        clock: Clock,
    ) -> Result<Self, ClientError> {
        let device = Device::load(store.read())?;
        Ok(Self {
            transport,
            store,
            device,
            settings,
            clock,
            outcomes: BTreeMap::new(),
            behind: BTreeMap::new(),
            check_stock: false,
            groups: Groups::default(),
        })
    }

    /// Publishes the device object and key packages, and takes the first place in the event stream: what happens in rooms from
    /// here on is not missed.
    async fn publish(&mut self) -> Result<(), ClientError> {
        let object = self.device.object()?;
        self.transport.put_device(&self.device.id, object.object()).await?;
        if meta(self.store.read(), TOKEN)?.is_none() {
            self.catch_up().await?;
        }
        self.check_stock = true;
        self.work().await
    }

    /// The user.
    #[must_use]
    pub const fn user(&self) -> &UserId {
        &self.device.user
    }

    /// The device.
    #[must_use]
    pub const fn device(&self) -> &DeviceId {
        &self.device.id
    }

    /// The store, to close the client.
    #[must_use]
    pub fn into_store(self) -> ClientStore {
        self.store
    }

    /// The store.
    #[cfg(any(test, feature = "testing"))]
    pub const fn store_mut(&mut self) -> &mut ClientStore {
        &mut self.store
    }

    pub(crate) fn now(&self) -> UnixMillis {
        (self.clock)()
    }

    // --- The loop ---

    /// Sends what is waiting, takes in what has happened (waiting up to `wait` if nothing has), and does what that calls for.
    /// Returns how many items came.
    pub async fn sync(&mut self, wait: Duration) -> Result<usize, ClientError> {
        self.flush().await?;
        let taken = self.receive(wait).await?;
        self.work().await?;
        Ok(taken)
    }

    /// As [`Client::sync`] without waiting, until there is nothing more to take in.
    pub async fn catch_up(&mut self) -> Result<(), ClientError> {
        while self.sync(Duration::ZERO).await? > 0 {}
        Ok(())
    }

    /// Takes in what has happened, and does nothing about it.
    pub(crate) async fn receive(&mut self, wait: Duration) -> Result<usize, ClientError> {
        let token = meta(self.store.read(), TOKEN)?.and_then(|token| String::from_utf8(token).ok());
        let items = self.transport.next(token.as_deref(), wait).await?;
        let mut taken = 0;
        for item in &items {
            if Some(&item.token) != token.as_ref() {
                taken += 1;
            }
            self.take(item)?;
        }
        Ok(taken)
    }

    fn take(&mut self, item: &StreamItem) -> Result<(), ClientError> {
        self.in_transaction(|receiver, connection| {
            receiver.item(&item.body)?;
            Ok(set_meta(connection, TOKEN, item.token.as_bytes())?)
        })
    }

    /// Runs `work` in a transaction and remembers what came to an end in it.
    pub(crate) fn in_transaction<T>(
        &mut self,
        work: impl FnOnce(&mut Receiver<'_>, &Connection) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        let now = self.now();
        let Self {
            store,
            device,
            settings,
            groups,
            ..
        } = self;
        // Whatever a transaction that fails did to them is undone in the store: they are read from there again.
        let recent = std::mem::take(groups);
        let (done, finished, low, recent) = store.transaction(|connection| {
            let mut receiver = Receiver::new(connection, device, settings, now, recent);
            let done = work(&mut receiver, connection)?;
            Ok::<_, ClientError>((done, receiver.finished, receiver.key_packages_low, receiver.groups))
        })?;
        *groups = recent;
        self.outcomes.extend(finished);
        // Nobody waits for the oldest ones any longer.
        while self.outcomes.len() > MAX_OUTCOMES {
            self.outcomes.pop_first();
        }
        self.check_stock |= low;
        Ok(done)
    }

    /// When something is to be done even if nothing happens: `sync` should be called by then.
    pub fn next_due(&self) -> Result<Option<UnixMillis>, ClientError> {
        let connection = self.store.read();
        let tend = Room::all(connection)?.into_iter().filter_map(|room| room.tend_due);
        let intents = StoredIntent::all(connection)?.into_iter().map(|intent| intent.due);
        Ok(tend.chain(intents).min())
    }

    // --- Notices and timelines ---

    /// What the user has not been told yet, at most `limit`, each with a number for [`Client::acknowledge`].
    pub fn notices(&self, limit: u32) -> Result<Vec<(i64, Notice)>, ClientError> {
        Ok(untold(self.store.read(), limit)?)
    }

    /// The user has been told everything up to this number.
    pub fn acknowledge(&mut self, up_to: i64) -> Result<(), ClientError> {
        self.store.transaction(|connection| Ok(told(connection, up_to)?))
    }

    /// An item of a timeline.
    pub fn item(&self, n: i64) -> Result<Option<TimelineItem>, ClientError> {
        Ok(TimelineItem::load(self.store.read(), n)?)
    }

    /// The newest items of a room in the order of the log.
    pub fn timeline(&self, room: &RoomId, limit: u32) -> Result<Vec<TimelineItem>, ClientError> {
        Ok(TimelineItem::newest(self.store.read(), room, limit)?)
    }

    /// What this client made of one event; `None` if it has not seen it.
    pub fn timeline_item(&self, room: &RoomId, event_id: &EventId) -> Result<Option<TimelineItem>, ClientError> {
        Ok(TimelineItem::of_event(self.store.read(), room, event_id)?)
    }

    /// The rooms that this client knows something about.
    pub fn rooms(&self) -> Result<Vec<Room>, ClientError> {
        Ok(Room::all(self.store.read())?)
    }

    /// One room.
    pub fn room(&self, room: &RoomId) -> Result<Room, ClientError> {
        Room::load(self.store.read(), room)?.ok_or_else(|| ClientError::UnknownRoom(room.clone()))
    }

    /// The group of a room; `None` if this device is not in it.
    pub fn group(&self, room: &RoomId) -> Result<Option<GroupInfo>, ClientError> {
        let known = Room::load(self.store.read(), room)?;
        if !known.is_some_and(|known| matches!(known.group, GroupStatus::Active | GroupStatus::Stuck)) {
            return Ok(None);
        }
        let loaded;
        let group = match self.groups.get(room) {
            Some(group) => group,
            None => match mls::load(&Provider::new(self.store.read()), room)? {
                Some(group) => {
                    loaded = group;
                    &loaded
                }
                None => return Ok(None),
            },
        };
        Ok(Some(GroupInfo {
            epoch: group.epoch().as_u64(),
            epoch_authenticator: group.epoch_authenticator().as_slice().to_vec(),
            tree_hash: group.public_group().group_context().tree_hash().to_vec(),
            suite: mls::suite_of(group)?,
            members: mls::members(group),
        }))
    }

    // --- Rooms ---

    /// Creates an encrypted room and its group (LM #int-mls-considerations, "Group Creation"). `new.encryption` is overwritten.
    ///
    /// # Errors
    ///
    /// After [`ClientError::NotConfirmed`] the room exists, and its group will.
    pub async fn create_room(&mut self, new: NewRoom, suite: Suite) -> Result<RoomId, ClientError> {
        let algorithm = suite.room_algorithm();
        let new = NewRoom {
            encryption: Some(algorithm.clone()),
            ..new
        };
        let room_id = self.transport.create_room(&new).await?;
        let now = self.now();
        let id = self.store.transaction(|connection| {
            let mut room = Room::load_or_new(connection, &room_id)?;
            "join".clone_into(&mut room.membership);
            room.algorithm = Some(algorithm);
            room.save(connection)?;
            Ok::<_, ClientError>(StoredIntent::insert(connection, &room_id, &Intent::Found, now)?)
        })?;
        self.drive(id).await?;
        Ok(room_id)
    }

    /// Makes the group of a room that was created and has none: this device died in between, or another client made the room.
    pub async fn found_group(&mut self, room: &RoomId) -> Result<(), ClientError> {
        self.learn(room).await?;
        self.change(room, Intent::Found).await
    }

    /// Joins a room. Some device of a member will add this one to the group; or see [`Client::join_externally`].
    pub async fn join(&mut self, room: &RoomId, via: &[ServerName]) -> Result<(), ClientError> {
        self.transport.join(room, via).await?;
        self.learn(room).await?;
        Ok(())
    }

    /// Leaves a room and forgets its keys. Other members' devices remove this one from the group (LM #int-mls-add-remove).
    pub async fn leave(&mut self, room: &RoomId) -> Result<(), ClientError> {
        self.transport.leave(room).await?;
        self.catch_up().await
    }

    /// Invites a user. Their devices are added when they have joined.
    pub async fn invite(&mut self, room: &RoomId, user: &UserId) -> Result<(), ClientError> {
        Ok(self.transport.invite(room, user).await?)
    }

    /// Removes a user from a room, and their devices from the group.
    pub async fn kick(&mut self, room: &RoomId, user: &UserId) -> Result<(), ClientError> {
        self.transport.kick(room, user).await?;
        self.catch_up().await?;
        self.change(room, Intent::Tend).await
    }

    /// Everybody with a membership in a room.
    pub async fn members(&self, room: &RoomId) -> Result<Vec<Member>, ClientError> {
        let transport = Arc::clone(&self.transport);
        Ok(transport.members(room).await?)
    }

    /// Asks the server about one of the user's rooms and notes the answer.
    pub async fn learn(&mut self, room: &RoomId) -> Result<RoomSummary, ClientError> {
        let summary = match self.transport.room(room).await {
            Ok(summary) => summary,
            Err(TransportError::Refused(refusal)) if refusal.status == 404 => {
                return Err(ClientError::UnknownRoom(room.clone()));
            }
            Err(error) => return Err(error.into()),
        };
        self.store.transaction(|connection| {
            let mut row = Room::load_or_new(connection, room)?;
            summary.membership.clone_into(&mut row.membership);
            // What the room's log says stands.
            if row.algorithm.is_none() {
                row.algorithm = Some(summary.encryption.clone().unwrap_or_default());
            }
            row.save(connection)
        })?;
        Ok(summary)
    }

    // --- The group ---

    /// Adds all devices of these users, who must have joined the room.
    pub async fn add_users(&mut self, room: &RoomId, users: &[UserId]) -> Result<(), ClientError> {
        let users = users.to_vec();
        self.change(room, Intent::AddUsers { users }).await
    }

    /// Adds one device.
    pub async fn add_device(&mut self, room: &RoomId, user: &UserId, device: &DeviceId) -> Result<(), ClientError> {
        let (user, device) = (user.clone(), device.clone());
        self.change(room, Intent::AddDevice { user, device }).await
    }

    /// Removes a device from the group: one of the user's own, or one of somebody who has left the room.
    pub async fn remove_device(&mut self, room: &RoomId, user: &UserId, device: &DeviceId) -> Result<(), ClientError> {
        let devices = vec![(user.clone(), device.clone())];
        self.change(room, Intent::RemoveDevices { devices }).await
    }

    /// Adds what devices of members are missing in the group, and removes those that should not be in it.
    pub async fn tend(&mut self, room: &RoomId) -> Result<(), ClientError> {
        self.change(room, Intent::Tend).await
    }

    /// Gives this device new keys.
    pub async fn update(&mut self, room: &RoomId) -> Result<(), ClientError> {
        self.change(room, Intent::Update).await
    }

    /// Joins the group by an external commit. Also the way out when this device is stuck; what it had keys for before stays
    /// readable in the timeline, but nothing older becomes so.
    pub async fn join_externally(&mut self, room: &RoomId) -> Result<(), ClientError> {
        self.learn(room).await?;
        self.change(room, Intent::JoinExternally).await
    }

    /// Removes one of the user's other devices everywhere: from the groups this device is in, then from the server.
    pub async fn remove_own_device(&mut self, device: &DeviceId) -> Result<(), ClientError> {
        let user = self.device.user.clone();
        for room in self.rooms()? {
            let is_in = self.group(&room.room_id)?.is_some_and(|group| {
                group
                    .members
                    .iter()
                    .any(|member| member.user == user && member.device == *device)
            });
            if is_in && room.group == GroupStatus::Active {
                self.remove_device(&room.room_id, &user, device).await?;
            }
        }
        Ok(self.transport.delete_device(device).await?)
    }

    /// Keeps an intention and works on it until it is done, refused, or has waited too long.
    async fn change(&mut self, room: &RoomId, intent: Intent) -> Result<(), ClientError> {
        let id = self.enqueue(room, &intent)?;
        self.drive(id).await
    }

    /// Keeps an intention, for later calls of [`Client::sync`] to work on.
    pub fn enqueue(&mut self, room: &RoomId, intent: &Intent) -> Result<i64, ClientError> {
        let now = self.now();
        self.store.transaction(|connection| {
            if Room::load(connection, room)?.is_none() {
                return Err(ClientError::UnknownRoom(room.clone()));
            }
            match intent {
                Intent::AddUsers { users } => {
                    for user in users {
                        crate::store::forget_unaddable(connection, user)?;
                    }
                }
                Intent::AddDevice { user, .. } => crate::store::forget_unaddable(connection, user)?,
                _ => {}
            }
            Ok(StoredIntent::insert(connection, room, intent, now)?)
        })
    }

    async fn drive(&mut self, id: i64) -> Result<(), ClientError> {
        self.work().await?;
        for _ in 0..self.settings.rounds {
            if let Some(outcome) = self.outcomes.remove(&id) {
                return outcome;
            }
            self.sync(self.settings.round).await?;
        }
        self.outcomes.remove(&id).unwrap_or(Err(ClientError::NotConfirmed))
    }
}

/// The algorithm of a room as `m.room.create` has it, for transports that show it raw.
#[must_use]
pub fn room_algorithm(create: &nabe_signing::Object) -> Option<&str> {
    Some(algorithm_of(create)).filter(|algorithm| !algorithm.is_empty())
}

const MAX_OUTCOMES: usize = 256;
