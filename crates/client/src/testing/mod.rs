//! A hub in memory, for tests of clients and of what is built on them. It checks commits with [`HubGroup`], as a real hub does, and
//! room membership as far as the group needs it. It never waits, so its futures are ready at once: [`now`] takes them.
//!
//! Whatever is wrong with a test's own input panics.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt as _;
use nabe_mls::{DeviceObject, HubGroup, Suite, check_key_package};
use nabe_signing::{Json, Object, base64u, object, sha256};
use nabe_types::{DeviceId, EventId, LogPosition, RoomId, ServerName, UnixMillis, UserId};

use crate::mls;
use crate::transport::{
    Claimed, Direction, GroupSnapshot, History, KeyPackageUpload, Member, NewEvent, NewRoom, Refusal, RoomEvent,
    RoomSummary, Rooms, Sent, StreamBody, StreamItem, ToDevice, Transport, TransportError, WhoAmI,
};

/// The result of a future that does not wait, as none of this hub's does.
///
/// # Panics
///
/// If it does.
pub fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("the hub in memory never waits")
}

/// The hub, its users' servers, and the line between them. A clone is the same hub.
#[derive(Clone, Default)]
pub struct FakeHub {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    rooms: BTreeMap<RoomId, FakeRoom>,
    devices: BTreeMap<(UserId, DeviceId), Option<Object>>,
    key_packages: BTreeMap<(UserId, DeviceId, String), Vec<KeyPackageUpload>>,
    inboxes: BTreeMap<UserId, Vec<(Option<DeviceId>, StreamBody)>>,
    /// Every event of every room, in the order in which they were accepted.
    log: Vec<(RoomId, RoomEvent)>,
    done: BTreeMap<(UserId, String), (String, EventId)>,
    media: BTreeMap<String, Bytes>,
    now: UnixMillis,
    counter: u64,
    queue_events: bool,
    queued: Vec<Queued>,
    no_key_packages: Option<String>,
    max_content: Option<usize>,
}

#[derive(Clone)]
struct Queued {
    user: UserId,
    room: RoomId,
    event: NewEvent,
    lpdu_id: String,
}

struct FakeRoom {
    algorithm: Option<String>,
    members: BTreeMap<UserId, String>,
    /// Positions in [`State::log`].
    entries: Vec<usize>,
    group: Option<HubGroup>,
    last_commit: Option<usize>,
    commits: u64,
}

/// What goes wrong with the next request of a device.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// It does not arrive.
    RequestLost,
    /// It is acted on, and the answer does not arrive.
    AnswerLost,
}

/// A device's line to the hub.
pub struct FakeTransport {
    hub: FakeHub,
    user: UserId,
    device: DeviceId,
    faults: Mutex<Vec<Fault>>,
}

impl FakeHub {
    /// A hub whose clock shows `now`.
    #[must_use]
    pub fn new(now: UnixMillis) -> Self {
        let hub = Self::default();
        hub.lock().now = now;
        hub
    }

    /// The line of a device.
    #[must_use]
    pub fn transport(&self, user: &str, device: &str) -> Arc<FakeTransport> {
        Arc::new(FakeTransport {
            hub: self.clone(),
            user: UserId::parse(user).expect("a test's user ID"),
            device: DeviceId::parse(device).expect("a test's device ID"),
            faults: Mutex::default(),
        })
    }

    /// The hub's clock.
    #[must_use]
    pub fn clock(&self) -> crate::Clock {
        let hub = self.clone();
        Box::new(move || hub.lock().now)
    }

    /// Moves the clock.
    pub fn advance(&self, duration: Duration) {
        let mut state = self.lock();
        state.now = state.now.plus(duration);
    }

    /// How large an event's content may be, if not as large as usual.
    pub fn limit_content(&self, bytes: Option<usize>) {
        self.lock().max_content = bytes;
    }

    /// From now on events are taken and not decided, as by a server that is not the room's hub; [`FakeHub::decide`] decides them.
    pub fn queue_events(&self, queue: bool) {
        self.lock().queue_events = queue;
    }

    /// Decides the events that were taken, in their order.
    pub fn decide(&self) {
        let mut state = self.lock();
        for queued in std::mem::take(&mut state.queued) {
            let Queued {
                user,
                room,
                event,
                lpdu_id,
            } = queued;
            if let Err(refusal) = state.append_checked(&user, &room, &event) {
                let body = StreamBody::EventRejected {
                    room,
                    lpdu_id,
                    error: refusal.message,
                    current_epoch: refusal.current_epoch,
                };
                state.inbox(&user, None, body);
            }
        }
    }

    /// Forgets the events that were taken, as if they were never sent.
    pub fn drop_queued(&self) {
        self.lock().queued.clear();
    }

    /// Forgets a device's key packages.
    pub fn drop_key_packages(&self, user: &str, device: &str) {
        self.lock()
            .key_packages
            .retain(|(its_user, its_device, _), _| its_user.as_str() != user || its_device.as_str() != device);
    }

    /// From now on key packages are refused for this reason; `None` takes them again.
    pub fn refuse_key_packages(&self, reason: Option<&str>) {
        self.lock().no_key_packages = reason.map(str::to_owned);
    }

    /// Spoils a device's object, as if its server had found out that it is not valid: nobody gets it any more, and those who share a room
    /// with its user hear that their devices changed.
    pub fn invalidate_device(&self, user: &str, device: &str) {
        let user = UserId::parse(user).expect("a test's user ID");
        let device = DeviceId::parse(device).expect("a test's device ID");
        let mut state = self.lock();
        let object = state.devices.get_mut(&(user.clone(), device));
        let object = object.and_then(Option::as_mut).expect("the device is there");
        object.insert("algorithms", Json::Array(Vec::new()));
        state.everybody_hears(&user);
    }

    /// A stream token after everything in all rooms and before everything in the inbox.
    #[must_use]
    pub fn end_of_log(&self) -> String {
        token(self.lock().log.len(), 0)
    }

    /// The events of a room.
    #[must_use]
    pub fn log(&self, room: &RoomId) -> Vec<RoomEvent> {
        let state = self.lock();
        let entries = state
            .rooms
            .get(room)
            .map(|room| room.entries.clone())
            .unwrap_or_default();
        entries.into_iter().map(|at| state.log[at].1.clone()).collect()
    }

    /// The hub's view of a room's group.
    #[must_use]
    pub fn group(&self, room: &RoomId) -> Option<HubGroup> {
        self.lock().rooms.get(room)?.group.clone()
    }

    /// How many commits a room has.
    #[must_use]
    pub fn commits(&self, room: &RoomId) -> u64 {
        self.lock().rooms.get(room).map_or(0, |room| room.commits)
    }

    /// Puts an event into a room's log that no check has seen, as a dishonest hub could.
    pub fn smuggle(&self, room: &RoomId, sender: &str, event_type: &str, content: Object) -> EventId {
        let sender = UserId::parse(sender).expect("a test's user ID");
        self.lock().append(room, &sender, event_type, None, content)
    }

    /// Puts something into a user's inbox.
    pub fn deliver(&self, user: &str, body: StreamBody) {
        let user = UserId::parse(user).expect("a test's user ID");
        self.lock().inbox(&user, None, body);
    }

    /// Everything that ever came into a user's inbox, with the device it was for.
    #[must_use]
    pub fn inbox(&self, user: &str) -> Vec<(Option<DeviceId>, StreamBody)> {
        let user = UserId::parse(user).expect("a test's user ID");
        self.lock().inboxes.get(&user).cloned().unwrap_or_default()
    }

    /// How many ordinary key packages a device has left, of all suites.
    #[must_use]
    pub fn key_packages_left(&self, user: &str, device: &str) -> usize {
        let state = self.lock();
        let of_device = state
            .key_packages
            .iter()
            .filter(|((its_user, its_device, _), _)| its_user.as_str() == user && its_device.as_str() == device);
        of_device
            .flat_map(|(_, packages)| packages)
            .filter(|package| !package.last_resort)
            .count()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while it holds the hub")
    }
}

impl FakeTransport {
    /// Has the next requests fail, in this order; requests for the event stream are not counted.
    pub fn fail(&self, faults: &[Fault]) {
        self.faults.lock().expect("a short lock").extend_from_slice(faults);
    }

    /// Acts on a request, or not, as faults have it.
    fn request<T>(&self, act: impl FnOnce(&mut State) -> Result<T, Refusal>) -> Result<T, TransportError> {
        let fault = {
            let mut faults = self.faults.lock().expect("a short lock");
            (!faults.is_empty()).then(|| faults.remove(0))
        };
        if fault == Some(Fault::RequestLost) {
            return Err(TransportError::Unreachable(Box::new(Lost)));
        }
        let answer = act(&mut self.hub.lock());
        if fault == Some(Fault::AnswerLost) {
            return Err(TransportError::Unreachable(Box::new(Lost)));
        }
        answer.map_err(TransportError::Refused)
    }
}

/// The line went dead.
#[derive(Debug)]
struct Lost;

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the line went dead")
    }
}

impl Error for Lost {}

impl State {
    fn room(&mut self, room: &RoomId) -> Result<&mut FakeRoom, Refusal> {
        self.rooms
            .get_mut(room)
            .ok_or_else(|| refusal(404, "not_found", "there is no such room"))
    }

    fn inbox(&mut self, user: &UserId, device: Option<DeviceId>, body: StreamBody) {
        self.inboxes.entry(user.clone()).or_default().push((device, body));
    }

    fn append(
        &mut self,
        room_id: &RoomId,
        sender: &UserId,
        event_type: &str,
        state_key: Option<&str>,
        content: Object,
    ) -> EventId {
        self.counter += 1;
        let event_id = EventId::from_hash(sha256(format!("event {}", self.counter).as_bytes()));
        let at = self.log.len();
        let now = self.now;
        let room = self.rooms.get_mut(room_id).expect("the room was looked up");
        room.entries.push(at);
        let event = RoomEvent {
            event_id: event_id.clone(),
            position: LogPosition(i64::try_from(room.entries.len()).expect("a short log")),
            event_type: event_type.to_owned(),
            state_key: state_key.map(str::to_owned),
            sender: sender.clone(),
            origin_server_ts: now,
            content,
        };
        self.log.push((room_id.clone(), event));
        event_id
    }

    fn set_membership(&mut self, room: &RoomId, sender: &UserId, user: &UserId, membership: &str) {
        self.rooms
            .get_mut(room)
            .expect("the room was looked up")
            .members
            .insert(user.clone(), membership.to_owned());
        let content = object! { "membership" => membership };
        self.append(room, sender, "m.room.member", Some(user.as_str()), content);
    }

    fn membership(&mut self, room: &RoomId, user: &UserId) -> Result<String, Refusal> {
        Ok(self.room(room)?.members.get(user).cloned().unwrap_or_default())
    }

    fn must_be_joined(&mut self, room: &RoomId, user: &UserId) -> Result<(), Refusal> {
        match self.membership(room, user)?.as_str() {
            "join" => Ok(()),
            _ => Err(refusal(403, "forbidden", "you are not in the room")),
        }
    }

    fn append_checked(&mut self, user: &UserId, room_id: &RoomId, event: &NewEvent) -> Result<EventId, Refusal> {
        self.must_be_joined(room_id, user)?;
        if event.content.to_canonical().len() > self.max_content.unwrap_or(MAX_CONTENT) {
            return Err(refusal(413, "too_large", "the event is over 64 KiB"));
        }
        if event.event_type == "m.mls.commit" {
            return self.append_commit(user, room_id, event);
        }
        Ok(self.append(
            room_id,
            user,
            &event.event_type,
            event.state_key.as_deref(),
            event.content.clone(),
        ))
    }

    /// LM #int-mls-add-remove.
    fn append_commit(&mut self, user: &UserId, room_id: &RoomId, event: &NewEvent) -> Result<EventId, Refusal> {
        let now = self.now;
        let room = self.room(room_id)?;
        let malformed = || refusal(400, "bad_request", "the commit is malformed");
        let message = mls::bytes(&event.content, "message").ok_or_else(malformed)?;
        let state = mls::bytes(&event.content, "public_group_state").ok_or_else(malformed)?;
        let suite = room.algorithm.as_deref().and_then(Suite::from_room_algorithm);
        let suite = suite.ok_or_else(|| refusal(403, "forbidden", "the room is not encrypted"))?;
        let current_epoch = room.group.as_ref().map(HubGroup::epoch);
        let no = |error: &dyn Error| Refusal {
            current_epoch,
            ..refusal(403, "forbidden", &error.to_string())
        };
        let (group, delta) = match &room.group {
            None => {
                let (group, change) =
                    HubGroup::bootstrap(room_id, suite, &message, &state, now).map_err(|error| no(&error))?;
                (group, change.delta)
            }
            Some(group) => {
                let change = group.stage(&message, &state, now).map_err(|error| no(&error))?;
                let mut group = group.clone();
                group.merge(&change).expect("what was staged is merged");
                (group, change.delta)
            }
        };
        let is_joined = |user: &UserId| room.members.get(user).is_some_and(|membership| membership == "join");
        let may_add = delta.added.iter().all(|device| is_joined(&device.user));
        let may_remove = delta
            .removed
            .iter()
            .all(|device| device.user == delta.committer.user || !is_joined(&device.user));
        if delta.committer.user != *user || !may_add || !may_remove {
            return Err(refusal(403, "forbidden", "the commit adds or removes whom it may not"));
        }
        room.group = Some(group);
        room.commits += 1;
        let id = self.append(room_id, user, &event.event_type, None, event.content.clone());
        let at = self.log.len() - 1;
        self.room(room_id)?.last_commit = Some(at);
        Ok(id)
    }
}

fn refusal(status: u16, code: &str, message: &str) -> Refusal {
    Refusal {
        status,
        code: code.to_owned(),
        message: message.to_owned(),
        current_epoch: None,
    }
}

fn fingerprint(parts: &[&[u8]]) -> String {
    base64u::encode(&sha256(&parts.join(&b'\n')))
}

/// A user's stream goes through the log of all rooms and their inbox.
fn token(log: usize, inbox: usize) -> String {
    format!("{log}:{inbox}")
}

fn read_token(token: &str) -> (usize, usize) {
    let parts = token.split_once(':').expect("a token this hub made");
    (parts.0.parse().expect("a number"), parts.1.parse().expect("a number"))
}

#[async_trait]
impl Transport for FakeTransport {
    async fn whoami(&self) -> Result<WhoAmI, TransportError> {
        Ok(WhoAmI {
            user_id: self.user.clone(),
            device_id: Some(self.device.clone()),
            server_name: self.user.server_name().clone(),
        })
    }

    async fn put_device(&self, device: &DeviceId, object: &Object) -> Result<(), TransportError> {
        self.request(|state| {
            let parsed =
                DeviceObject::parse(object.clone()).map_err(|error| refusal(400, "bad_request", &error.to_string()))?;
            assert_eq!((parsed.user_id(), parsed.device_id()), (&self.user, device));
            let key = (self.user.clone(), device.clone());
            state.devices.insert(key, Some(object.clone()));
            state.everybody_hears(&self.user);
            Ok(())
        })
    }

    async fn delete_device(&self, device: &DeviceId) -> Result<(), TransportError> {
        self.request(|state| {
            state.devices.remove(&(self.user.clone(), device.clone()));
            state
                .key_packages
                .retain(|(user, its, _), _| *user != self.user || its != device);
            state.everybody_hears(&self.user);
            Ok(())
        })
    }

    async fn devices(&self, user: &UserId) -> Result<Vec<Object>, TransportError> {
        self.request(|state| {
            let of_user = state.devices.iter().filter(|((its, _), _)| its == user);
            Ok(of_user.filter_map(|(_, object)| object.clone()).collect())
        })
    }

    async fn upload_key_packages(
        &self,
        device: &DeviceId,
        algorithm: &str,
        packages: &[KeyPackageUpload],
    ) -> Result<Vec<Result<(), String>>, TransportError> {
        self.request(|state| {
            let key = (self.user.clone(), device.clone());
            let object = state.devices.get(&key).cloned().flatten();
            let object = object.ok_or_else(|| refusal(404, "not_found", "there is no such device"))?;
            let object = DeviceObject::parse(object).expect("it was checked");
            let suite = Suite::from_key_package_algorithm(algorithm).expect("a known algorithm");
            let signature_key = object
                .signature_key(suite.credential_algorithm())
                .expect("a key for the suite");
            let now = state.now;
            let no_key_packages = state.no_key_packages.clone();
            let store = state
                .key_packages
                .entry((self.user.clone(), device.clone(), algorithm.to_owned()))
                .or_default();
            Ok(packages
                .iter()
                .map(|package| {
                    check_key_package(&package.key, Some(suite), &self.user, device, signature_key, now)
                        .map_err(|error| error.to_string())?;
                    if let Some(reason) = &no_key_packages {
                        return Err(reason.clone());
                    }
                    if store.iter().any(|known| known.key == package.key) {
                        return Err("it is here already".to_owned());
                    }
                    store.push(package.clone());
                    Ok(())
                })
                .collect())
        })
    }

    async fn key_packages_left(&self, device: &DeviceId) -> Result<BTreeMap<String, u64>, TransportError> {
        self.request(|state| {
            let of_device = state
                .key_packages
                .iter()
                .filter(|((user, its, _), _)| *user == self.user && its == device);
            Ok(of_device
                .map(|((.., algorithm), packages)| {
                    let left = packages.iter().filter(|package| !package.last_resort).count();
                    (algorithm.clone(), left as u64)
                })
                .collect())
        })
    }

    async fn claim_keys(&self, devices: &[(UserId, DeviceId)], algorithm: &str) -> Result<Claimed, TransportError> {
        self.request(|state| {
            let mut claimed = Claimed::default();
            for (user, device) in devices {
                let key = (user.clone(), device.clone(), algorithm.to_owned());
                let Some(packages) = state.key_packages.get_mut(&key) else {
                    continue;
                };
                let package = match packages.iter().position(|package| !package.last_resort) {
                    Some(at) => packages.remove(at),
                    None => match packages.first() {
                        Some(last_resort) => last_resort.clone(),
                        None => continue,
                    },
                };
                let left = packages.iter().filter(|package| !package.last_resort).count() as u64;
                claimed
                    .packages
                    .insert((user.clone(), device.clone()), package.key.clone());
                if left < 10 {
                    let body = StreamBody::KeyPackagesLow {
                        device: device.clone(),
                        algorithm: algorithm.to_owned(),
                        left,
                    };
                    state.inbox(user, Some(device.clone()), body);
                }
            }
            Ok(claimed)
        })
    }

    async fn create_room(&self, new: &NewRoom) -> Result<RoomId, TransportError> {
        self.request(|state| {
            state.counter += 1;
            let id = format!("!room{}:{}", state.counter, self.user.server_name());
            let id = RoomId::parse(&id).expect("a room ID");
            let room = FakeRoom {
                algorithm: new.encryption.clone(),
                members: BTreeMap::new(),
                entries: Vec::new(),
                group: None,
                last_commit: None,
                commits: 0,
            };
            state.rooms.insert(id.clone(), room);
            let mut content = Object::new();
            if let Some(algorithm) = &new.encryption {
                content.insert("encryption", object! { "algorithm" => algorithm.as_str() });
            }
            state.append(&id, &self.user, "m.room.create", Some(""), content);
            state.set_membership(&id, &self.user, &self.user, "join");
            for user in &new.invite {
                state.set_membership(&id, &self.user, user, "invite");
                state.inbox(user, None, StreamBody::Invite(id.clone(), None));
            }
            Ok(id)
        })
    }

    async fn rooms(&self) -> Result<Rooms, TransportError> {
        self.request(|state| {
            let of_user = |membership: &str| -> Vec<RoomId> {
                let rooms = state.rooms.iter();
                let theirs =
                    rooms.filter(|(_, room)| room.members.get(&self.user).is_some_and(|its| its == membership));
                theirs.map(|(id, _)| id.clone()).collect()
            };
            let (joined, invited) = (of_user("join"), of_user("invite"));
            Ok(Rooms {
                rooms: joined.iter().map(|room| state.summary(room, &self.user)).collect(),
                invites: invited
                    .into_iter()
                    .map(|room| {
                        let server = room.server_name().clone();
                        (room, server)
                    })
                    .collect(),
            })
        })
    }

    async fn room(&self, room: &RoomId) -> Result<RoomSummary, TransportError> {
        self.request(|state| {
            state.room(room)?;
            Ok(state.summary(room, &self.user))
        })
    }

    async fn join(&self, room: &RoomId, _: &[ServerName]) -> Result<(), TransportError> {
        self.request(|state| match state.membership(room, &self.user)?.as_str() {
            "invite" | "join" => {
                state.set_membership(room, &self.user, &self.user, "join");
                Ok(())
            }
            _ => Err(refusal(403, "forbidden", "you are not invited")),
        })
    }

    async fn leave(&self, room: &RoomId) -> Result<(), TransportError> {
        self.request(|state| {
            state.room(room)?;
            state.set_membership(room, &self.user, &self.user, "leave");
            Ok(())
        })
    }

    async fn invite(&self, room: &RoomId, user: &UserId) -> Result<(), TransportError> {
        self.request(|state| {
            state.must_be_joined(room, &self.user)?;
            if state.membership(room, user)? == "join" {
                return Err(refusal(409, "conflict", "they are in the room"));
            }
            state.set_membership(room, &self.user, user, "invite");
            state.inbox(user, None, StreamBody::Invite(room.clone(), None));
            Ok(())
        })
    }

    async fn kick(&self, room: &RoomId, user: &UserId) -> Result<(), TransportError> {
        self.request(|state| {
            state.must_be_joined(room, &self.user)?;
            state.set_membership(room, &self.user, user, "leave");
            Ok(())
        })
    }

    async fn members(&self, room: &RoomId) -> Result<Vec<Member>, TransportError> {
        self.request(|state| {
            let members = state.room(room)?.members.iter();
            Ok(members
                .map(|(user_id, membership)| Member {
                    user_id: user_id.clone(),
                    membership: membership.clone(),
                })
                .collect())
        })
    }

    async fn send_event(&self, room: &RoomId, event: &NewEvent, key: &str) -> Result<Sent, TransportError> {
        self.request(|state| {
            let request = fingerprint(&[
                room.as_str().as_bytes(),
                event.event_type.as_bytes(),
                &event.content.to_canonical(),
            ]);
            let name = (self.user.clone(), key.to_owned());
            if let Some((earlier, event_id)) = state.done.get(&name) {
                if *earlier != request {
                    return Err(refusal(409, "conflict", "the key was used for another request"));
                }
                return Ok(Sent {
                    event_id: Some(event_id.clone()),
                    lpdu_id: None,
                });
            }
            if state.queue_events {
                state.counter += 1;
                let lpdu_id = format!("lpdu{}", state.counter);
                state.queued.push(Queued {
                    user: self.user.clone(),
                    room: room.clone(),
                    event: event.clone(),
                    lpdu_id: lpdu_id.clone(),
                });
                return Ok(Sent {
                    event_id: None,
                    lpdu_id: Some(lpdu_id),
                });
            }
            let event_id = state.append_checked(&self.user, room, event)?;
            state.done.insert(name, (request, event_id.clone()));
            Ok(Sent {
                event_id: Some(event_id),
                lpdu_id: None,
            })
        })
    }

    async fn history(
        &self,
        room: &RoomId,
        from: Option<LogPosition>,
        direction: Direction,
        limit: usize,
    ) -> Result<History, TransportError> {
        self.request(|state| {
            let entries = state.room(room)?.entries.clone();
            let mut events: Vec<RoomEvent> = entries.into_iter().map(|at| state.log[at].1.clone()).collect();
            if direction == Direction::Backward {
                events.reverse();
            }
            events.retain(|event| {
                from.is_none_or(|from| match direction {
                    Direction::Forward => event.position > from,
                    Direction::Backward => event.position < from,
                })
            });
            let more = events.len() > limit;
            events.truncate(limit);
            let next = events.last().filter(|_| more).map(|event| event.position);
            Ok(History { events, next })
        })
    }

    async fn send_to_device(&self, messages: &[ToDevice], key: &str) -> Result<(), TransportError> {
        self.request(|state| {
            let name = (self.user.clone(), format!("to-device {key}"));
            if state.done.contains_key(&name) {
                return Ok(());
            }
            for message in messages {
                let known = (message.target.clone(), message.target_device.clone());
                if state.devices.contains_key(&known) {
                    let body = StreamBody::ToDevice {
                        sender: self.user.clone(),
                        message_type: message.message_type.clone(),
                        message: message.content.clone(),
                    };
                    state.inbox(&message.target, Some(message.target_device.clone()), body);
                }
            }
            let nothing = EventId::from_hash([0; 32]);
            state.done.insert(name, (String::new(), nothing));
            Ok(())
        })
    }

    async fn group(&self, room: &RoomId) -> Result<Option<GroupSnapshot>, TransportError> {
        self.request(|state| {
            let found = state.room(room)?;
            let (Some(at), Some(group)) = (found.last_commit, &found.group) else {
                return Ok(None);
            };
            let epoch = group.epoch();
            let event = &state.log[at].1;
            Ok(Some(GroupSnapshot {
                event_id: event.event_id.clone(),
                position: event.position,
                epoch,
                public_group_state: mls::bytes(&event.content, "public_group_state").expect("it was checked"),
            }))
        })
    }

    async fn next(&self, since: Option<&str>, _: Duration) -> Result<Vec<StreamItem>, TransportError> {
        let state = self.hub.lock();
        let head = state.log.len();
        let inbox = state.inboxes.get(&self.user).map_or(&[][..], Vec::as_slice);
        let Some(since) = since else {
            return Ok(vec![StreamItem {
                token: token(head, 0),
                body: StreamBody::Ready,
            }]);
        };
        let (mut log_at, mut inbox_at) = read_token(since);
        let mut items = Vec::new();
        while inbox_at < inbox.len() {
            let (device, body) = &inbox[inbox_at];
            inbox_at += 1;
            if device.as_ref().is_none_or(|device| *device == self.device) {
                items.push(StreamItem {
                    token: token(log_at, inbox_at),
                    body: body.clone(),
                });
            }
        }
        while log_at < head {
            let (room, event) = &state.log[log_at];
            log_at += 1;
            let room_of = &state.rooms[room];
            // Their own membership is the last thing that somebody who leaves gets to see.
            let concerns = room_of
                .members
                .get(&self.user)
                .is_some_and(|membership| membership == "join")
                || event.state_key.as_deref() == Some(self.user.as_str());
            if concerns {
                items.push(StreamItem {
                    token: token(log_at, inbox_at),
                    body: StreamBody::Room(room.clone(), Box::new(event.clone())),
                });
            }
        }
        Ok(items)
    }

    async fn put_media(&self, bytes: Bytes) -> Result<String, TransportError> {
        self.request(|state| {
            let hash: String = sha256(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            let id = format!("{}/{hash}", self.user.server_name());
            state.media.insert(id.clone(), bytes);
            Ok(id)
        })
    }

    async fn get_media(&self, media_id: &str) -> Result<Bytes, TransportError> {
        self.request(|state| {
            let found = state.media.get(media_id).cloned();
            found.ok_or_else(|| refusal(404, "not_found", "there is no such file"))
        })
    }
}

impl State {
    fn summary(&self, room_id: &RoomId, user: &UserId) -> RoomSummary {
        let room = &self.rooms[room_id];
        RoomSummary {
            room_id: room_id.clone(),
            membership: room.members.get(user).cloned().unwrap_or_default(),
            hub: room_id.server_name().clone(),
            name: None,
            encryption: room.algorithm.clone(),
            position: LogPosition(i64::try_from(room.entries.len()).expect("a short log")),
        }
    }

    /// Whoever shares a room with a user hears that their devices changed.
    fn everybody_hears(&mut self, user: &UserId) {
        let mut others = BTreeSet::from([user.clone()]);
        for room in self.rooms.values() {
            if room.members.contains_key(user) {
                others.extend(room.members.keys().cloned());
            }
        }
        for other in others {
            self.inbox(&other, None, StreamBody::DeviceListChanged(user.clone()));
        }
    }
}

/// The time by the wall clock, which OpenMLS reads for the lifetimes of key packages whatever a test's clock shows.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "the tests have to agree with the clock that OpenMLS reads"
)]
pub fn wall_clock() -> UnixMillis {
    let since_epoch = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("the clock is past 1970");
    UnixMillis::ZERO.plus(since_epoch)
}

/// JSON of a text message, as one payload.
#[must_use]
pub fn text(body: &str) -> Vec<u8> {
    object! { "type" => "m.message", "content" => object! { "m.text" => Json::Array(vec![Json::Object(object! { "body" => body })]) } }
        .to_canonical()
}

/// What an event's content may have of its 64 KiB.
const MAX_CONTENT: usize = 63 * 1024;
