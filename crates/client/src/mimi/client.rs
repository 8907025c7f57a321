//! The client: what its user can ask for, and the loop that brings about what is still to be done.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use nabe_mls::Suite;
use nabe_types::UnixMillis;
use nabe_wire::app_data::AppDataDictionary;
use nabe_wire::mls::ComponentId;
use nabe_wire::participant_list::ParticipantListData;
use nabe_wire::uri::{MimiKind, MimiUri};
use openmls::group::MlsGroup;
use rusqlite::Connection;

use super::commit::{DOUBT, OWN_MAY_TAKE, is_silence};
use super::device::Device;
use super::error::MimiError;
use super::group;
use super::intent::{MimiIntent, Newcomer};
use super::lines::Lines;
use super::notice::MimiNotice;
use super::receive::Work;
use super::settings::MimiSettings;
use super::store::{
    CLIENT, CURSOR, Held, KnownRoom, MimiItem, Outgoing, Request, StoredIntent, next_look, pending, prepare, told,
    truncate_log, untold,
};
use super::transport::MimiTransport;
use crate::client::Clock;
use crate::error::StoreError;
use crate::provider::Provider;
use crate::store::{ClientStore, meta, set_meta};

/// One client of one MIMI user.
///
/// Every method that talks to the provider may be dropped half way, or die with its process: what it began goes on with the next
/// [`MimiClient::sync`].
pub struct MimiClient {
    pub(super) transport: Arc<dyn MimiTransport>,
    pub(super) store: ClientStore,
    pub(super) device: Device,
    pub(super) settings: MimiSettings,
    clock: Clock,
    /// How intentions ended, for whoever waits for them.
    outcomes: BTreeMap<i64, Result<(), MimiError>>,
    /// When the provider is to be asked how many key packages it has, …
    pub(super) stock_due: UnixMillis,
    /// … and how often that has failed in a row.
    pub(super) stock_failures: u32,
    pub(super) lines: Lines,
    /// When it last did what was due: what was due before that waits for something else than time. Nothing, if there is something new to
    /// do.
    pub(super) worked: Option<UnixMillis>,
    /// Whether something has come to an end or begun meanwhile.
    pub(super) advanced: bool,
}

/// A room's group as this client sees it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MimiGroupState {
    /// The epoch.
    pub epoch: u64,
    /// On this all members agree who are in the same epoch of the same group.
    pub epoch_authenticator: Vec<u8>,
    /// Hash of the ratchet tree, which servers know, too.
    pub tree_hash: Vec<u8>,
    /// The suite.
    pub suite: Suite,
    /// Leaves and the clients there, or the users, of credentials that name no client.
    pub members: Vec<(u32, MimiUri)>,
    /// The participant list.
    pub participants: ParticipantListData,
    /// The room's components, the list among them.
    pub components: AppDataDictionary,
    /// How many proposals are pending.
    pub pending: usize,
}

impl MimiClient {
    /// Makes a new client, `mimi://host/d/<user>/<device>`, in a store that has none, and publishes its key packages. If this client is
    /// in the store already, it goes on from there.
    ///
    /// # Errors
    /// [`MimiError::OtherClient`] if another client is in the store; [`MimiError::NotAClient`].
    pub async fn log_in(
        transport: Arc<dyn MimiTransport>,
        mut store: ClientStore,
        client: &MimiUri,
        suites: &[Suite],
        settings: MimiSettings,
        clock: Clock,
    ) -> Result<Self, MimiError> {
        prepare(&mut store)?;
        match meta(store.read(), CLIENT)? {
            Some(found) if found == client.to_string().as_bytes() => {}
            Some(found) => {
                return Err(MimiError::OtherClient {
                    expected: client.clone(),
                    found: String::from_utf8_lossy(&found).into_owned(),
                });
            }
            None => {
                let made = Device::generate(client.clone(), suites)?;
                store.transaction(|connection| made.save(connection))?;
            }
        }
        let mut client = Self::open(transport, store, settings, clock)?;
        // The first place in the stream: what happens from here on is not missed.
        client.catch_up().await?;
        Ok(client)
    }

    /// Opens the client that a store holds, and forgets what has expired. Nothing is sent.
    ///
    /// # Errors
    /// [`StoreError::Empty`] if there is none.
    pub fn open(
        transport: Arc<dyn MimiTransport>,
        mut store: ClientStore,
        settings: MimiSettings,
        clock: Clock,
    ) -> Result<Self, MimiError> {
        prepare(&mut store)?;
        super::expiry::expire(&mut store, clock())?;
        // What was wiped before a crash may be in the log still.
        truncate_log(store.read())?;
        super::hear::note_framings(&mut store)?;
        let device = Device::load(store.read())?;
        let (requests, messages) = (Request::all(store.read())?, Outgoing::all(store.read())?);
        let lines = Lines::new(&requests, &messages, clock());
        Ok(Self {
            transport,
            store,
            device,
            settings,
            clock,
            outcomes: BTreeMap::new(),
            stock_due: UnixMillis(0),
            stock_failures: 0,
            lines,
            worked: None,
            advanced: false,
        })
    }

    /// The user.
    #[must_use]
    pub const fn user(&self) -> &MimiUri {
        &self.device.user
    }

    /// The client.
    #[must_use]
    pub const fn client(&self) -> &MimiUri {
        &self.device.client
    }

    /// The store, to close the client.
    #[must_use]
    pub fn into_store(self) -> ClientStore {
        self.store
    }

    pub(super) fn now(&self) -> UnixMillis {
        (self.clock)()
    }

    // --- The loop ---

    /// Sends what is waiting, takes in what has happened (waiting up to `wait` if nothing has), and does what that calls for.
    /// Returns how many entries came.
    ///
    /// A hub that cannot be reached, or answers nonsense, concerns its own rooms alone: what is for them stays and is sent again, ever
    /// more seldom ([`MimiClient::next_due`]), and at once when the hub is heard again. While the provider does not answer, it is asked
    /// for nothing but what has happened; everything that waits is sent when it is back.
    ///
    /// # Errors
    /// The user's own provider cannot be asked for what has happened, or the store does not work.
    pub async fn sync(&mut self, wait: Duration) -> Result<usize, MimiError> {
        self.expire()?;
        if !self.lines.is_cut_off() {
            self.flush().await?;
        }
        let received = self.receive(wait).await;
        if is_silence(&received) {
            self.lines.cut_off();
        }
        let taken = received?;
        self.work().await?;
        Ok(taken)
    }

    /// As [`MimiClient::sync`] without waiting, until there is nothing more to take in.
    pub async fn catch_up(&mut self) -> Result<(), MimiError> {
        while self.sync(Duration::ZERO).await? > 0 {}
        Ok(())
    }

    /// Takes in what has happened, and does nothing about it.
    async fn receive(&mut self, wait: Duration) -> Result<usize, MimiError> {
        let cursor = meta(self.store.read(), CURSOR)?.and_then(|cursor| String::from_utf8(cursor).ok());
        let page = self.transport.entries(cursor.as_deref(), wait).await?;
        if self.lines.connected() {
            self.take_up(None)?;
        }
        let now = self.now();
        let rooms: BTreeSet<_> = page.entries.iter().map(|entry| &entry.room).collect();
        for room in rooms {
            if self.lines.spoke(room, now) {
                self.take_up(Some(room))?;
            }
        }
        for entry in &page.entries {
            self.in_transaction(|work, connection| {
                work.entry(entry)?;
                Ok(set_meta(connection, CURSOR, entry.cursor.as_bytes())?)
            })?;
        }
        let last = page
            .entries
            .last()
            .map(|entry| entry.cursor.as_str())
            .or(cursor.as_deref());
        if last != Some(&page.cursor) {
            self.store
                .transaction(|connection| set_meta(connection, CURSOR, page.cursor.as_bytes()))?;
        }
        // The same again and again is nothing new.
        Ok(match cursor.as_ref() == Some(&page.cursor) {
            true => 0,
            false => page.entries.len(),
        })
    }

    /// What was put off for want of an answer is tried now: in a room, or everywhere.
    fn take_up(&mut self, room: Option<&MimiUri>) -> Result<(), MimiError> {
        let (now, lines) = (self.now(), &self.lines);
        self.store.transaction(|connection| {
            for intent in StoredIntent::all(connection)? {
                if room.is_none_or(|room| intent.room == *room) && lines.is_put_off(intent.id) {
                    StoredIntent::postpone(connection, intent.id, now)?;
                }
            }
            Ok(())
        })
    }

    /// Runs `work` in a transaction and remembers what came to an end in it.
    pub(super) fn in_transaction<T>(
        &mut self,
        work: impl FnOnce(&mut Work<'_>, &Connection) -> Result<T, MimiError>,
    ) -> Result<T, MimiError> {
        let now = self.now();
        let Self {
            store,
            device,
            settings,
            ..
        } = self;
        let (done, finished, advanced, low) = store.transaction(|connection| {
            let mut context = Work::new(connection, device, settings, now);
            let done = work(&mut context, connection)?;
            context.release()?;
            let Work {
                finished,
                advanced,
                key_packages_low,
                ..
            } = context;
            Ok::<_, MimiError>((done, finished, advanced, key_packages_low))
        })?;
        self.advanced |= advanced;
        self.outcomes.extend(finished);
        // Nobody waits for the oldest ones any longer.
        while self.outcomes.len() > MAX_OUTCOMES {
            self.outcomes.pop_first();
        }
        if low {
            self.stock_due = now;
        }
        Ok(done)
    }

    /// When something is to be done even if nothing happens: `sync` should be called by then, and need not be before.
    pub fn next_due(&self) -> Result<Option<UnixMillis>, MimiError> {
        let Some(worked) = self.worked else {
            return Ok(Some(self.now()));
        };
        let connection = self.store.read();
        let tend = KnownRoom::all(connection)?.into_iter().filter_map(|room| room.tend_due);
        let intents = StoredIntent::all(connection)?.into_iter().map(|intent| intent.due);
        let missing_after = self.settings.missing_after;
        let held = Held::rooms(connection)?.into_iter().map(|(_, since)| since);
        let missing = held.chain(self.lines.ahead_since());
        // If what is missing may be this client's own, it is waited for longer.
        let missing = missing.flat_map(|since| [1, OWN_MAY_TAKE].map(|times| since.plus(missing_after * times)));
        let kept = !Request::all(connection)?.is_empty() || !Outgoing::all(connection)?.is_empty();
        let lines = self.lines.next_due().filter(|_| kept);
        let doubts = self.lines.all_asked_since().map(|since| since.plus(DOUBT));
        let expiry = next_look(connection)?.into_iter();
        let due = tend.chain(intents).chain(missing).chain(lines).chain(doubts);
        let due = due.chain(expiry).chain(self.reports_due()?);
        Ok(due.filter(|due| *due > worked).min())
    }

    // --- Notices and timelines ---

    /// What the user has not been told yet, at most `limit`, each with a number for [`MimiClient::acknowledge`].
    pub fn notices(&self, limit: u32) -> Result<Vec<(i64, MimiNotice)>, MimiError> {
        Ok(untold(self.store.read(), limit)?)
    }

    /// The user has been told everything up to this number.
    pub fn acknowledge(&mut self, up_to: i64) -> Result<(), MimiError> {
        Ok(self.store.transaction(|connection| told(connection, up_to))?)
    }

    /// An item.
    pub fn item(&self, n: i64) -> Result<Option<MimiItem>, MimiError> {
        Ok(MimiItem::load(self.store.read(), n)?)
    }

    /// The newest items of a room, oldest first: every message by itself.
    pub fn items(&self, room: &MimiUri, limit: u32) -> Result<Vec<MimiItem>, MimiError> {
        Ok(MimiItem::newest(self.store.read(), room, limit)?)
    }

    /// The rooms that this client knows something about.
    pub fn rooms(&self) -> Result<Vec<KnownRoom>, MimiError> {
        Ok(KnownRoom::all(self.store.read())?)
    }

    /// One room.
    pub fn room(&self, room: &MimiUri) -> Result<KnownRoom, MimiError> {
        KnownRoom::load(self.store.read(), room)?.ok_or_else(|| MimiError::UnknownRoom(room.clone()))
    }

    /// The group of a room; `None` if this client is not in it.
    pub fn group(&self, room: &MimiUri) -> Result<Option<MimiGroupState>, MimiError> {
        let Some(known) = KnownRoom::load(self.store.read(), room)?.filter(|known| known.status.is_in()) else {
            return Ok(None);
        };
        let Some(group) = self.load(&known)? else {
            return Ok(None);
        };
        let members = group::members(&group).into_iter().map(|member| {
            let identity = member.identity;
            let name = identity.client().unwrap_or_else(|| identity.user()).clone();
            (member.leaf, name)
        });
        Ok(Some(MimiGroupState {
            epoch: group.epoch().as_u64(),
            epoch_authenticator: group.epoch_authenticator().as_slice().to_vec(),
            tree_hash: group.public_group().group_context().tree_hash().to_vec(),
            suite: group::suite_of(&group)?,
            members: members.collect(),
            participants: group::participants(&group)?,
            components: group::dictionary(&group),
            pending: pending(self.store.read(), room)?.len(),
        }))
    }

    /// The group of a room, outside of any transaction.
    pub(super) fn load(&self, room: &KnownRoom) -> Result<Option<MlsGroup>, MimiError> {
        match &room.group_id {
            Some(group_id) => group::load(&Provider::new(self.store.read()), group_id),
            None => Ok(None),
        }
    }

    // --- What the user wants ---

    /// Puts users on the participant list with these roles, and all their clients into the group (MIMI #alice-adds-bob-to-the-room).
    /// Who has no key packages left takes part all the same, and joins by themselves.
    pub async fn add(&mut self, room: &MimiUri, users: &[(MimiUri, u32)]) -> Result<(), MimiError> {
        let newcomers = users.iter().map(|(user, role)| {
            let newcomer = Newcomer {
                user: a_user(user)?,
                role: *role,
            };
            Ok(newcomer)
        });
        let users = newcomers.collect::<Result<_, MimiError>>()?;
        self.change(room, MimiIntent::Add { users }).await
    }

    /// Adds the user's own other clients.
    pub async fn add_own_clients(&mut self, room: &MimiUri) -> Result<(), MimiError> {
        self.change(room, MimiIntent::AddClients).await
    }

    /// Takes a user off the list, and their clients out of the group.
    pub async fn remove(&mut self, room: &MimiUri, user: &MimiUri) -> Result<(), MimiError> {
        let user = a_user(user)?;
        self.change(room, MimiIntent::Remove { user }).await
    }

    /// Takes clients out of the group: the user's own others, or those of somebody who may be kicked.
    pub async fn remove_clients(&mut self, room: &MimiUri, clients: &[MimiUri]) -> Result<(), MimiError> {
        let clients = clients.iter().map(ToString::to_string).collect();
        self.change(room, MimiIntent::RemoveClients { clients }).await
    }

    /// Bans a user: the list says so, and their clients go.
    pub async fn ban(&mut self, room: &MimiUri, user: &MimiUri) -> Result<(), MimiError> {
        let user = a_user(user)?;
        self.change(room, MimiIntent::Ban { user }).await
    }

    /// Gives a participant another role; also how a ban is lifted.
    pub async fn set_role(&mut self, room: &MimiUri, user: &MimiUri, role: u32) -> Result<(), MimiError> {
        let user = a_user(user)?;
        self.change(room, MimiIntent::SetRole { user, role }).await
    }

    /// Changes the data of a component, such as `room_metadata`, by an update in the component's own format; `None` removes it.
    pub async fn set_component(
        &mut self,
        room: &MimiUri,
        component: ComponentId,
        update: Option<Vec<u8>>,
    ) -> Result<(), MimiError> {
        let component = component.0;
        self.change(room, MimiIntent::SetComponent { component, update }).await
    }

    /// Gives this client new keys, and commits what is pending.
    pub async fn update(&mut self, room: &MimiUri) -> Result<(), MimiError> {
        self.change(room, MimiIntent::Update).await
    }

    /// Commits what is pending, if anything is.
    pub async fn tend(&mut self, room: &MimiUri) -> Result<(), MimiError> {
        self.change(room, MimiIntent::Tend).await
    }

    /// Leaves a room with all the user's clients: proposes it, which counts at once; somebody else commits it (MIMI
    /// #bob-leaves-the-room). In a room of fixed membership the clients go and the user stays on the list.
    pub async fn leave(&mut self, room: &MimiUri) -> Result<(), MimiError> {
        self.change(room, MimiIntent::Leave { by_remove: false }).await
    }

    /// The same with a Remove in place of the SelfRemove, as the protocol's draft tells it.
    pub async fn leave_by_remove(&mut self, room: &MimiUri) -> Result<(), MimiError> {
        self.change(room, MimiIntent::Leave { by_remove: true }).await
    }

    /// Joins by an external commit: a new client of a participant, or somebody to whom the room is open, who is preauthorized, or has
    /// a joining code. `role` is for who is not on the list yet; without one it is the first that is open. Also the way out when
    /// this client is stuck.
    pub async fn join(&mut self, room: &MimiUri, role: Option<u32>, code: Option<&[u8]>) -> Result<(), MimiError> {
        self.store
            .transaction(|connection| KnownRoom::load_or_new(connection, room)?.save(connection))?;
        let code = code.map(<[u8]>::to_vec);
        self.change(room, MimiIntent::Join { role, code }).await
    }

    /// Keeps an intention and works on it until it is done, refused, or has waited too long.
    async fn change(&mut self, room: &MimiUri, intent: MimiIntent) -> Result<(), MimiError> {
        let id = self.enqueue(room, &intent)?;
        self.lines.reopen(room);
        self.take_up(Some(room))?;
        self.drive(id).await
    }

    /// Keeps an intention, for later calls of [`MimiClient::sync`] to work on.
    pub fn enqueue(&mut self, room: &MimiUri, intent: &MimiIntent) -> Result<i64, MimiError> {
        let now = self.now();
        self.worked = None;
        self.store.transaction(|connection| {
            if KnownRoom::load(connection, room)?.is_none() {
                return Err(MimiError::UnknownRoom(room.clone()));
            }
            if *intent == MimiIntent::Tend {
                // One that was put off is taken up again.
                let kept = StoredIntent::all(connection)?.into_iter();
                let mut kept = kept.filter(|kept| kept.room == *room && kept.intent == *intent);
                if let Some(kept) = kept.next() {
                    StoredIntent::postpone(connection, kept.id, now)?;
                    return Ok(kept.id);
                }
            }
            Ok(StoredIntent::insert(connection, room, intent, now)?)
        })
    }

    /// Works until an intention has come to an end.
    pub(super) async fn drive(&mut self, id: i64) -> Result<(), MimiError> {
        for round in 0..self.settings.rounds {
            let wait = if round == 0 {
                Duration::ZERO
            } else {
                self.settings.round
            };
            self.sync(wait).await?;
            if let Some(outcome) = self.outcomes.remove(&id) {
                return outcome;
            }
        }
        Err(MimiError::NotConfirmed)
    }
}

fn a_user(user: &MimiUri) -> Result<String, MimiError> {
    match user.kind() {
        MimiKind::User => Ok(user.to_string()),
        _ => Err(MimiError::NotAUser(user.clone())),
    }
}

/// Whether a store holds a client, and which.
///
/// # Errors
/// What is there does not read.
pub fn client_in(store: &ClientStore) -> Result<Option<MimiUri>, StoreError> {
    let bad = StoreError::Inconsistent {
        table: "meta",
        column: "value",
    };
    let Some(found) = meta(store.read(), CLIENT)? else {
        return Ok(None);
    };
    let uri = std::str::from_utf8(&found)
        .ok()
        .and_then(|uri| MimiUri::parse(uri).ok());
    uri.map(Some).ok_or(bad)
}

const MAX_OUTCOMES: usize = 256;
