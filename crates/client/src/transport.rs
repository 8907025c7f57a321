//! The port to a server: what a device asks of the client API, and what it hears on the event stream. Nothing here encrypts.
//!
//! Everything that comes back was written by others. Key packages, device objects, commits and Welcomes are bytes or objects
//! that nobody has checked yet.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use nabe_signing::{Json, Object, object};
use nabe_types::{DeviceId, EventId, LogPosition, RoomId, ServerName, UnixMillis, UserId};

/// One device's line to its server.
///
/// Every method may fail with any [`TransportError`]. After [`TransportError::Unreachable`] it is unknown whether the server acted;
/// methods with an idempotency key can then be called again with the same arguments.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Who the credential stands for.
    async fn whoami(&self) -> Result<WhoAmI, TransportError>;

    /// Publishes the device object of one of the caller's devices (LM #int-mls-credentials).
    async fn put_device(&self, device: &DeviceId, object: &Object) -> Result<(), TransportError>;

    /// Removes one of the caller's devices.
    async fn delete_device(&self, device: &DeviceId) -> Result<(), TransportError>;

    /// A user's device objects, unchecked.
    async fn devices(&self, user: &UserId) -> Result<Vec<Object>, TransportError>;

    /// Uploads key packages (LM #int-mls-key-packages). The answers are in the order of the packages: taken, or why not.
    async fn upload_key_packages(
        &self,
        device: &DeviceId,
        algorithm: &str,
        packages: &[KeyPackageUpload],
    ) -> Result<Vec<Result<(), String>>, TransportError>;

    /// How many key packages the server has left for a device, without last-resort ones, by algorithm.
    async fn key_packages_left(&self, device: &DeviceId) -> Result<BTreeMap<String, u64>, TransportError>;

    /// Takes a key package of each of these devices (LM #int-transport-key-claim).
    async fn claim_keys(&self, devices: &[(UserId, DeviceId)], algorithm: &str) -> Result<Claimed, TransportError>;

    /// Creates a room.
    async fn create_room(&self, room: &NewRoom) -> Result<RoomId, TransportError>;

    /// The rooms the caller is joined to, and those they are invited to.
    async fn rooms(&self) -> Result<Rooms, TransportError>;

    /// One of the caller's rooms.
    async fn room(&self, room: &RoomId) -> Result<RoomSummary, TransportError>;

    /// Joins a room, through these servers if the own one is not in it.
    async fn join(&self, room: &RoomId, via: &[ServerName]) -> Result<(), TransportError>;

    /// Leaves a room, or turns an invite down.
    async fn leave(&self, room: &RoomId) -> Result<(), TransportError>;

    /// Invites a user.
    async fn invite(&self, room: &RoomId, user: &UserId) -> Result<(), TransportError>;

    /// Removes a user from a room.
    async fn kick(&self, room: &RoomId, user: &UserId) -> Result<(), TransportError>;

    /// Everybody with a membership in a room.
    async fn members(&self, room: &RoomId) -> Result<Vec<Member>, TransportError>;

    /// Sends an event. The same event with the same key is one event.
    async fn send_event(&self, room: &RoomId, event: &NewEvent, key: &str) -> Result<Sent, TransportError>;

    /// A page of a room's history, beginning after `from` in the direction (at the end of the log, or its beginning, without).
    async fn history(
        &self,
        room: &RoomId,
        from: Option<LogPosition>,
        direction: Direction,
        limit: usize,
    ) -> Result<History, TransportError>;

    /// Sends messages to devices; all or none. The same messages with the same key are sent once.
    async fn send_to_device(&self, messages: &[ToDevice], key: &str) -> Result<(), TransportError>;

    /// The newest commit that the room's log has; `None` if it has none.
    async fn group(&self, room: &RoomId) -> Result<Option<GroupSnapshot>, TransportError>;

    /// What has happened since a token of an earlier item; without one, in rooms from now on. If nothing has, waits up to `wait` and
    /// then answers with nothing. At most a few hundred items; the rest comes next time.
    async fn next(&self, since: Option<&str>, wait: Duration) -> Result<Vec<StreamItem>, TransportError>;

    /// Stores bytes that are encrypted already; returns where they are, `server/media`.
    async fn put_media(&self, bytes: Bytes) -> Result<String, TransportError>;

    /// Fetches bytes by where they are, `server/media`. Unchecked: their hash is in the message that speaks of them.
    async fn get_media(&self, media_id: &str) -> Result<Bytes, TransportError>;
}

/// Why a request did not do what it was for.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The server said no.
    #[error("{0}")]
    Refused(Refusal),
    /// Not so fast.
    #[error("the server asks to wait {} ms", retry_after.as_millis())]
    RateLimited {
        /// When to come back.
        retry_after: Duration,
    },
    /// No answer, so it may have been done or not.
    #[error("no answer from the server")]
    Unreachable(#[source] Box<dyn Error + Send + Sync>),
    /// An answer, but not one that the API promises.
    #[error("the server's answer makes no sense")]
    NotUnderstood(#[source] Box<dyn Error + Send + Sync>),
}

impl TransportError {
    /// Whether asking again later may help: nobody has decided anything.
    #[must_use]
    pub const fn is_temporary(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.status >= 500,
            Self::RateLimited { .. } | Self::Unreachable(_) => true,
            Self::NotUnderstood(_) => false,
        }
    }

    /// What the server said, if it decided.
    #[must_use]
    pub const fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }
}

/// A server's no.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message} ({code})")]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// For programs: `forbidden`, `conflict`, `not_found` …
    pub code: String,
    /// For people.
    pub message: String,
    /// For a commit: the epoch the group is in.
    pub current_epoch: Option<u64>,
}

/// Who a credential stands for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WhoAmI {
    /// The user.
    pub user_id: UserId,
    /// The device the credential is bound to, if it is to one.
    pub device_id: Option<DeviceId>,
    /// The server.
    pub server_name: ServerName,
}

/// A key package on its way to the server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyPackageUpload {
    /// The bare `KeyPackage`.
    pub key: Vec<u8>,
    /// Whether it may be given out more than once.
    pub last_resort: bool,
}

/// Key packages that were claimed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Claimed {
    /// At most one for each device asked for, unchecked.
    pub packages: BTreeMap<(UserId, DeviceId), Vec<u8>>,
    /// Servers that did not answer, and why.
    pub failures: BTreeMap<ServerName, String>,
}

/// What a new room should be like.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NewRoom {
    /// Its name.
    pub name: Option<String>,
    /// `invite` (the default), `public` or `knock`.
    pub join_rule: Option<String>,
    /// The encryption algorithm; none if absent.
    pub encryption: Option<String>,
    /// Whom to invite at once.
    pub invite: Vec<UserId>,
}

/// The caller's rooms.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Rooms {
    /// Those with a membership.
    pub rooms: Vec<RoomSummary>,
    /// Those they are invited to, and the server to go through.
    pub invites: Vec<(RoomId, ServerName)>,
}

/// A room at a glance.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RoomSummary {
    /// The room.
    pub room_id: RoomId,
    /// The caller's membership.
    pub membership: String,
    /// The hub.
    pub hub: ServerName,
    /// The room's name, if it has one.
    pub name: Option<String>,
    /// The encryption algorithm, if the room is encrypted.
    pub encryption: Option<String>,
    /// The newest position in the server's log.
    pub position: LogPosition,
}

/// A membership.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Member {
    /// The user.
    pub user_id: UserId,
    /// `join`, `invite`, `leave`, `ban` or `knock`.
    pub membership: String,
}

/// An event to send.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NewEvent {
    /// Its type.
    pub event_type: String,
    /// Present, even if empty, for state.
    pub state_key: Option<String>,
    /// Its content.
    pub content: Object,
}

/// What became of an event that was sent.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Sent {
    /// Its ID if it is in the log.
    pub event_id: Option<EventId>,
    /// The ID under which it went to the hub, if another server's; a later [`StreamBody::EventRejected`] names it.
    pub lpdu_id: Option<String>,
}

/// An event of a room's log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RoomEvent {
    /// Its ID.
    pub event_id: EventId,
    /// Its place in the server's log of the room.
    pub position: LogPosition,
    /// Its type.
    pub event_type: String,
    /// For state.
    pub state_key: Option<String>,
    /// Who sent it.
    pub sender: UserId,
    /// When, by the sender's server's clock.
    pub origin_server_ts: UnixMillis,
    /// Its content.
    pub content: Object,
}

impl RoomEvent {
    /// The event as the client API shows it.
    #[must_use]
    pub fn to_object(&self) -> Object {
        let mut object = object! {
            "event_id" => self.event_id.as_str(),
            "position" => self.position.as_i64(),
            "type" => self.event_type.as_str(),
            "sender" => self.sender.as_str(),
            "origin_server_ts" => self.origin_server_ts.as_i64(),
            "content" => Json::Object(self.content.clone()),
        };
        if let Some(state_key) = &self.state_key {
            object.insert("state_key", state_key.as_str());
        }
        object
    }

    /// Reads an event as the client API shows it; `None` if it is not one with a position.
    #[must_use]
    pub fn from_object(object: &Object) -> Option<Self> {
        let text = |name| object.get(name).and_then(Json::as_str);
        Some(Self {
            event_id: EventId::parse(text("event_id")?).ok()?,
            position: LogPosition(object.get("position")?.as_i64()?),
            event_type: text("type")?.to_owned(),
            state_key: text("state_key").map(str::to_owned),
            sender: UserId::parse(text("sender")?).ok()?,
            origin_server_ts: UnixMillis::from_i64(object.get("origin_server_ts")?.as_i64()?)?,
            content: object.get("content")?.as_object()?.clone(),
        })
    }
}

/// Which way to page.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// From older to newer.
    Forward,
    /// From newer to older.
    Backward,
}

/// A page of history.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct History {
    /// In the direction asked for.
    pub events: Vec<RoomEvent>,
    /// `from` of the next page; `None` at the end.
    pub next: Option<LogPosition>,
}

/// A message to a device.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ToDevice {
    /// Whose device.
    pub target: UserId,
    /// Which device.
    pub target_device: DeviceId,
    /// What kind of message.
    pub message_type: String,
    /// The message.
    pub content: Object,
}

/// A group's public side, for external joins.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GroupSnapshot {
    /// The commit's event.
    pub event_id: EventId,
    /// Its place in the log.
    pub position: LogPosition,
    /// The epoch that the commit begins.
    pub epoch: u64,
    /// `public_group_state` of the commit, decoded from base64.
    pub public_group_state: Vec<u8>,
}

/// One item of the event stream.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StreamItem {
    /// What to come back with after this item.
    pub token: String,
    /// What happened.
    pub body: StreamBody,
}

/// What happened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum StreamBody {
    /// Nothing yet; the first item of every stream.
    Ready,
    /// An event in a room.
    Room(RoomId, Box<RoomEvent>),
    /// An invite; through this server it can be accepted.
    Invite(RoomId, Option<ServerName>),
    /// A message to this device.
    ToDevice {
        /// Who sent it.
        sender: UserId,
        /// What kind of message.
        message_type: String,
        /// The message.
        message: Object,
    },
    /// The hub refused an event that was on its way to it.
    EventRejected {
        /// Its room.
        room: RoomId,
        /// The ID it was sent under.
        lpdu_id: String,
        /// Why.
        error: String,
        /// The epoch the room's group is in, if the event was a commit for another.
        current_epoch: Option<u64>,
    },
    /// A user's devices changed.
    DeviceListChanged(UserId),
    /// Few key packages are left, or the last resort was used.
    KeyPackagesLow {
        /// The device.
        device: DeviceId,
        /// For which algorithm.
        algorithm: String,
        /// How many are left.
        left: u64,
    },
    /// Something that this client has no use for.
    Other(String),
}
