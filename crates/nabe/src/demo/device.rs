//! The devices of the encrypted act: each one the client behind `nabe client`, with a folder of its own. And what a member who was
//! removed may have: a copy of such a folder, and a line on which the room's later events come in.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use async_trait::async_trait;
use bytes::Bytes;
use nabe_client::{
    Client, ClientStore, Clock, ItemBody, Notice, Settings, TimelineItem,
    transport::{
        Claimed, Direction, GroupSnapshot, History, KeyPackageUpload, Member, NewEvent, NewRoom, RoomEvent,
        RoomSummary, Rooms, Sent, StreamBody, StreamItem, ToDevice, Transport, TransportError, WhoAmI,
    },
};
use nabe_content::{Body, EncryptedFile, FileSource, Message, Post};
use nabe_mls::Suite;
use nabe_service::ports::{Clock as _, SystemClock};
use nabe_signing::Object;
use nabe_types::{DeviceId, EventId, LogPosition, RoomId, ServerName, UserId};

use super::{provider::Provider, story::User};
use crate::client::{
    account::{Account, Credential},
    http::HttpTransport,
};

/// Which device: its index among the five.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Who {
    Phone,
    Laptop,
    Bob,
    Cleo,
    Mallory,
}

/// A device and its folder.
pub(super) struct Device {
    pub(super) who: Who,
    pub(super) user: User,
    /// For people: whose, or which of several.
    pub(super) name: &'static str,
    folder: PathBuf,
    transport: Arc<HttpTransport>,
    client: Option<Client>,
}

impl Device {
    /// Makes the device's keys, publishes it at its provider, and uploads key packages.
    pub(super) async fn log_in(
        parent: &Path,
        provider: &Provider,
        who: Who,
        user: User,
        name: &'static str,
    ) -> anyhow::Result<Self> {
        let id = DeviceId::parse(&format!("{who:?}").to_uppercase())?;
        let folder = parent.join(format!("{who:?}").to_lowercase());
        // The certificate is for `localhost` as well, which every machine can resolve.
        let account = Account {
            server: format!("https://localhost:{}", provider.address().port()),
            device: id.clone(),
            credential: Credential::Provider {
                token: fs::read_to_string(provider.token_file())?.trim().to_owned(),
                user: UserId::parse(user.id)?,
            },
            ca: Some(provider.ca_file()),
        };
        account.save(&folder)?;
        let transport = Arc::new(HttpTransport::new(&account)?);
        let store = ClientStore::open(&Account::database(&folder))?;
        let client = Client::log_in(transport.clone(), store, id, &[Suite::default()], settings(), clock())
            .await
            .with_context(|| format!("logging in on {name}"))?;
        Ok(Self {
            who,
            user,
            name,
            folder,
            transport,
            client: Some(client),
        })
    }

    pub(super) fn client(&mut self) -> anyhow::Result<&mut Client> {
        let name = self.name;
        self.client.as_mut().with_context(|| format!("{name} is switched off"))
    }

    /// The device's line to its server, for asking without the client.
    pub(super) fn transport(&self) -> &HttpTransport {
        &self.transport
    }

    /// Ends the client, and its connections with it; everything it knows is in its folder.
    pub(super) fn close(&mut self) {
        self.client = None;
    }

    /// Starts the client again from what is in its folder.
    pub(super) fn open(&mut self) -> anyhow::Result<()> {
        self.client = None;
        self.transport = Arc::new(HttpTransport::new(&Account::load(&self.folder)?)?);
        let store = ClientStore::open(&Account::database(&self.folder))?;
        self.client = Some(Client::open(self.transport.clone(), store, settings(), clock())?);
        Ok(())
    }

    /// Copies the folder of a device that is closed: all its keys.
    pub(super) fn copy_to(&self, folder: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(folder)?;
        for file in fs::read_dir(&self.folder)? {
            let file = file?;
            fs::copy(file.path(), folder.join(file.file_name()))?;
        }
        Ok(())
    }

    /// The messages that the device could read, with their senders.
    pub(super) fn texts(&mut self, room: &RoomId) -> anyhow::Result<Vec<(UserId, String)>> {
        texts(self.client()?, room)
    }

    /// What the client has told since it was asked last.
    pub(super) fn notices(&mut self) -> anyhow::Result<Vec<Notice>> {
        let client = self.client()?;
        let notices = client.notices(10_000)?;
        if let Some((last, _)) = notices.last() {
            client.acknowledge(*last)?;
        }
        Ok(notices.into_iter().map(|(_, notice)| notice).collect())
    }
}

/// The messages that a client could read, with their senders.
pub(super) fn texts(client: &Client, room: &RoomId) -> anyhow::Result<Vec<(UserId, String)>> {
    let items = client.timeline(room, 1_000)?;
    let read = |item: TimelineItem| match item.body {
        ItemBody::Message(payload) => Some((item.sender, nabe_content::show_payload(&payload).text)),
        ItemBody::Undecryptable(_) | ItemBody::Plain(_) => None,
    };
    Ok(items.into_iter().filter_map(read).collect())
}

/// The newest file that a client has been sent; `None` if there is none.
pub(super) fn newest_file(client: &Client, room: &RoomId) -> anyhow::Result<Option<EncryptedFile>> {
    let items = client.timeline(room, 1_000)?;
    let sealed = |item: TimelineItem| {
        let ItemBody::Message(payload) = item.body else {
            return None;
        };
        match Message::parse_payload(&payload).ok()? {
            Message::Post(Post {
                body: Body::File(file), ..
            }) => match file.block.source {
                FileSource::Encrypted(sealed) => Some(sealed),
                FileSource::Plain(_) => None,
            },
            _ => None,
        }
    };
    Ok(items.into_iter().rev().find_map(sealed))
}

/// Opens the copy of a device whose server has stopped telling it about the room, and hands it `events`. Requests it makes go to the
/// server.
pub(super) fn eavesdrop(folder: &Path, room: &RoomId, events: Vec<RoomEvent>) -> anyhow::Result<Client> {
    let items = events.into_iter().enumerate().map(|(n, event)| StreamItem {
        token: format!("overheard {n}"),
        body: StreamBody::Room(room.clone(), Box::new(event)),
    });
    let tap = Tap {
        line: HttpTransport::new(&Account::load(folder)?)?,
        items: Mutex::new(items.collect()),
    };
    let store = ClientStore::open(&Account::database(folder))?;
    Ok(Client::open(Arc::new(tap), store, settings(), clock())?)
}

/// Nothing by itself: the story says who does what.
fn settings() -> Settings {
    Settings {
        tend: false,
        tend_spread: Duration::ZERO,
        update_after_join: false,
        key_package_stock: 5,
        rounds: 60,
        round: Duration::from_millis(300),
        ..Settings::default()
    }
}

fn clock() -> Clock {
    Box::new(|| SystemClock.now())
}

/// A server's line with another event stream.
struct Tap {
    line: HttpTransport,
    items: Mutex<Vec<StreamItem>>,
}

#[async_trait]
impl Transport for Tap {
    async fn next(&self, _: Option<&str>, _: Duration) -> Result<Vec<StreamItem>, TransportError> {
        let mut items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::take(&mut *items))
    }

    async fn whoami(&self) -> Result<WhoAmI, TransportError> {
        self.line.whoami().await
    }

    async fn put_device(&self, device: &DeviceId, object: &Object) -> Result<(), TransportError> {
        self.line.put_device(device, object).await
    }

    async fn delete_device(&self, device: &DeviceId) -> Result<(), TransportError> {
        self.line.delete_device(device).await
    }

    async fn devices(&self, user: &UserId) -> Result<Vec<Object>, TransportError> {
        self.line.devices(user).await
    }

    async fn upload_key_packages(
        &self,
        device: &DeviceId,
        algorithm: &str,
        packages: &[KeyPackageUpload],
    ) -> Result<Vec<Result<(), String>>, TransportError> {
        self.line.upload_key_packages(device, algorithm, packages).await
    }

    async fn key_packages_left(
        &self,
        device: &DeviceId,
    ) -> Result<std::collections::BTreeMap<String, u64>, TransportError> {
        self.line.key_packages_left(device).await
    }

    async fn claim_keys(&self, devices: &[(UserId, DeviceId)], algorithm: &str) -> Result<Claimed, TransportError> {
        self.line.claim_keys(devices, algorithm).await
    }

    async fn create_room(&self, room: &NewRoom) -> Result<RoomId, TransportError> {
        self.line.create_room(room).await
    }

    async fn rooms(&self) -> Result<Rooms, TransportError> {
        self.line.rooms().await
    }

    async fn room(&self, room: &RoomId) -> Result<RoomSummary, TransportError> {
        self.line.room(room).await
    }

    async fn join(&self, room: &RoomId, via: &[ServerName]) -> Result<(), TransportError> {
        self.line.join(room, via).await
    }

    async fn leave(&self, room: &RoomId) -> Result<(), TransportError> {
        self.line.leave(room).await
    }

    async fn invite(&self, room: &RoomId, user: &UserId) -> Result<(), TransportError> {
        self.line.invite(room, user).await
    }

    async fn kick(&self, room: &RoomId, user: &UserId) -> Result<(), TransportError> {
        self.line.kick(room, user).await
    }

    async fn members(&self, room: &RoomId) -> Result<Vec<Member>, TransportError> {
        self.line.members(room).await
    }

    async fn send_event(&self, room: &RoomId, event: &NewEvent, key: &str) -> Result<Sent, TransportError> {
        self.line.send_event(room, event, key).await
    }

    async fn history(
        &self,
        room: &RoomId,
        from: Option<LogPosition>,
        direction: Direction,
        limit: usize,
    ) -> Result<History, TransportError> {
        self.line.history(room, from, direction, limit).await
    }

    async fn send_to_device(&self, messages: &[ToDevice], key: &str) -> Result<(), TransportError> {
        self.line.send_to_device(messages, key).await
    }

    async fn group(&self, room: &RoomId) -> Result<Option<GroupSnapshot>, TransportError> {
        self.line.group(room).await
    }

    async fn put_media(&self, bytes: Bytes) -> Result<String, TransportError> {
        self.line.put_media(bytes).await
    }

    async fn get_media(&self, media_id: &str) -> Result<Bytes, TransportError> {
        self.line.get_media(media_id).await
    }
}

/// The room's whole log as a device's server shows it.
pub(super) async fn log(device: &Device, room: &RoomId) -> anyhow::Result<Vec<RoomEvent>> {
    let mut log = Vec::new();
    let mut from = None;
    loop {
        let page = device.transport().history(room, from, Direction::Forward, 100).await?;
        log.extend(page.events);
        match page.next {
            Some(next) => from = Some(next),
            None => return Ok(log),
        }
    }
}

/// Which of these events a client could not read, and why.
pub(super) fn unreadable(client: &Client, room: &RoomId, events: &[EventId]) -> anyhow::Result<Vec<String>> {
    let items = client.timeline(room, 1_000)?;
    let reason = |item: TimelineItem| match item.body {
        ItemBody::Undecryptable(reason) if events.contains(&item.event_id) => Some(reason.to_string()),
        _ => None,
    };
    Ok(items.into_iter().filter_map(reason).collect())
}
