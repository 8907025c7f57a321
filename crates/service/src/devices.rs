//! Device objects (LM #int-mls-credentials) between servers: what we tell others about our users' devices
//! (LM #int-api-get-device, LM #int-transport-devices), and what others tell us about theirs. Everything is kept and passed on as its
//! device signed it; a client checks it again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use nabe_mls::DeviceObject;
use nabe_signing::json::{Json, Object};
use nabe_signing::object;
use nabe_store::rules::MAX_REMOTE_DEVICES;
use nabe_store::{Batch, InboxKind, RemoteDevice, Write};
use nabe_types::limits::MAX_EVENT_BYTES;
use nabe_types::{DeviceId, ServerName, UnixMillis, UserId};

use crate::error::{Missing, ServiceError};
use crate::ports::Method;
use crate::rate_limit::RateLimiter;
use crate::wire::{federation_request, read_answer};
use crate::{Service, metric};

/// What is kept in memory about devices and their key packages.
pub(crate) struct DeviceState {
    /// Claims of key packages, by claimant and device and by device; messages to devices, by server and user.
    pub(crate) rates: RateLimiter,
    lists: Mutex<Lists>,
}

impl DeviceState {
    /// Remembers the rates of so many callers.
    pub(crate) fn new(callers: usize) -> Self {
        Self {
            rates: RateLimiter::new(callers),
            lists: Mutex::default(),
        }
    }
}

/// Of which users of other servers the store has all devices.
#[derive(Debug, Default)]
struct Lists {
    /// Since when.
    whole: BTreeMap<UserId, UnixMillis>,
    /// Whose list is being fetched, how many times over, and whether an update came meanwhile: the list is perhaps older than it.
    fetching: BTreeMap<UserId, Fetching>,
}

#[derive(Debug, Default)]
struct Fetching {
    fetches: usize,
    is_updated: bool,
}

/// A fetch of a user's list, under way until it is dropped.
struct Fetch<'a> {
    service: &'a Service,
    user: &'a UserId,
}

impl Fetch<'_> {
    /// The list is in the store.
    fn is_whole(&self) {
        let now = self.service.now();
        self.service.lists(|lists| {
            if lists
                .fetching
                .get(self.user)
                .is_some_and(|fetching| fetching.is_updated)
            {
                return;
            }
            if lists.whole.len() >= MAX_WHOLE_LISTS {
                // Costs a question each.
                lists.whole.clear();
            }
            lists.whole.insert(self.user.clone(), now);
        });
    }
}

impl Drop for Fetch<'_> {
    fn drop(&mut self) {
        self.service.lists(|lists| {
            let Some(fetching) = lists.fetching.get_mut(self.user) else {
                return;
            };
            fetching.fetches -= 1;
            if fetching.fetches == 0 {
                lists.fetching.remove(self.user);
            }
        });
    }
}

/// What an update says about a user's devices.
struct Update {
    changed: Vec<DeviceObject>,
    /// Removed, or invalid by now, which is the same (LM #int-mls-credentials).
    removed: Vec<DeviceId>,
}

impl Service {
    /// A device's own object for another server (LM #int-api-get-device), byte for byte.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NotFound`] for another server's user, an unknown user, and a device that does not exist or has published
    /// nothing; [`ServiceError::LimitExceeded`].
    pub async fn device_info(
        &self,
        origin: &ServerName,
        user: &UserId,
        device: &DeviceId,
    ) -> Result<Bytes, ServiceError> {
        self.check_policy(origin)?;
        self.limit_peer(origin, "device")?;
        if !self.is_us(user.server_name()) {
            return Err(ServiceError::NotFound(Missing::User));
        }
        let found = self.store().device(user, device).await?;
        let object = found.and_then(|device| device.object);
        object.ok_or(ServiceError::NotFound(Missing::Device))
    }

    /// All device objects of a user for another server, `{"user_id","devices":[…]}`. The draft has no list, and without one nobody
    /// learns of devices that were there before they shared a room. Who is no user has none, as a user without any: whether there is such a
    /// user is nobody's to learn here.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NotFound`] for another server's user; [`ServiceError::LimitExceeded`].
    pub async fn device_infos(&self, origin: &ServerName, user: &UserId) -> Result<Bytes, ServiceError> {
        self.check_policy(origin)?;
        self.limit_peer(origin, "devices")?;
        if !self.is_us(user.server_name()) {
            return Err(ServiceError::NotFound(Missing::User));
        }
        let devices = self.store().published_devices(user).await?;
        let mut json = b"{\"devices\":[".to_vec();
        for (index, object) in devices.iter().filter_map(|device| device.object.as_ref()).enumerate() {
            if index > 0 {
                json.push(b',');
            }
            json.extend_from_slice(object);
        }
        json.extend_from_slice(b"],\"user_id\":");
        json.extend_from_slice(&Json::from(user.as_str()).to_canonical());
        json.push(b'}');
        Ok(json.into())
    }

    /// The notices that a user's devices have changed, for these users of ours. One that was not read yet is replaced.
    pub(crate) fn device_notices(
        &self,
        of: &UserId,
        watchers: impl IntoIterator<Item = UserId>,
    ) -> Vec<(UserId, Write)> {
        let body = Bytes::from(object! { "user_id" => of.as_str() }.to_canonical());
        let now = self.now();
        let notice = |user: UserId| {
            let write = Write::Notice {
                user: user.clone(),
                device: None,
                kind: InboxKind::DeviceList,
                subject: of.to_string(),
                body: body.clone(),
                now,
            };
            (user, write)
        };
        watchers.into_iter().map(notice).collect()
    }

    /// LM #int-transport-devices: keeps what another server says about its user's devices, as far as it is valid and there is room,
    /// and returns the notices for the local users who share a room with that user. Where nobody does, nothing is kept: we were not
    /// meant.
    pub(crate) async fn receive_device_update(
        &self,
        origin: &ServerName,
        sender: &UserId,
        content: &Object,
    ) -> Result<Vec<(UserId, Write)>, ServiceError> {
        let list = |key: &str| content.get(key).and_then(Json::as_array).unwrap_or_default();
        let (changed, removed) = (list("changed"), list("removed"));
        let count = changed.len() + removed.len();
        let watchers = self
            .store()
            .users_sharing_rooms_with(sender, self.server_name())
            .await?;
        if count == 0 || watchers.is_empty() {
            return Ok(Vec::new());
        }
        self.note_update(sender);
        if self.limit_device_updates(origin, count + watchers.len()).is_err() {
            // Nobody is told, but whoever asks is told the truth.
            self.forget_list(sender);
            return Ok(Vec::new());
        }
        let update = read_update(sender, changed, removed);
        if let Err(error) = self.keep_update(sender, update).await? {
            tracing::info!(%sender, %error, "did not keep devices of another server's user");
            metrics::counter!(metric::DEVICES_REFUSED).increment(1);
            self.forget_list(sender);
        }
        Ok(self.device_notices(sender, watchers))
    }

    /// The inner error is the store's refusal to keep more.
    async fn keep_update(&self, user: &UserId, update: Update) -> Result<Result<(), ServiceError>, ServiceError> {
        let now = self.now();
        let removed = update.removed.into_iter().map(|device| Write::RemoveRemoteDevice {
            user: user.clone(),
            device,
        });
        self.commit(removed.collect()).await?;
        let changed = update.changed.into_iter().map(|device| put_remote(device, now));
        match self.commit(changed.collect()).await {
            Err(error) if error.is_too_many_devices() => Ok(Err(error)),
            result => result.map(Ok),
        }
    }

    /// The device objects of a user of another server: those we know if they are all there are, else as that server tells now, and if
    /// it does not answer, those we know after all.
    pub(crate) async fn remote_device_objects(&self, user: &UserId) -> Result<Vec<Object>, ServiceError> {
        self.check_policy(user.server_name())?;
        let known = self.store().remote_devices(user).await?;
        // While nobody here shares a room with the user, we are not told of changes.
        let is_told = !self
            .store()
            .users_sharing_rooms_with(user, self.server_name())
            .await?
            .is_empty();
        if is_told && self.is_list_whole(user) {
            return Ok(objects(&known));
        }
        let fetch = self.begin_fetch(user);
        let asked = match self.ask_for_devices(user).await {
            Err(error) if is_unanswered(&error) && !known.is_empty() => {
                tracing::debug!(%user, %error, "answered with the devices known");
                return Ok(objects(&known));
            }
            asked => asked,
        };
        let devices = match asked {
            Ok(Some(devices)) => devices,
            Ok(None) => self.ask_for_each(user, &known).await?,
            Err(error) => {
                if matches!(error, ServiceError::NotFound(_)) {
                    self.replace_devices(user, &known, &[]).await?;
                }
                return Err(error);
            }
        };
        if is_told && self.replace_devices(user, &known, &devices).await? {
            fetch.is_whole();
        }
        Ok(devices.into_iter().map(DeviceObject::into_object).collect())
    }

    /// Whether all of them are kept now.
    async fn replace_devices(
        &self,
        user: &UserId,
        known: &[RemoteDevice],
        devices: &[DeviceObject],
    ) -> Result<bool, ServiceError> {
        let there: BTreeSet<_> = devices.iter().map(DeviceObject::device_id).collect();
        let gone = known.iter().map(|known| &known.device);
        let removed = gone.filter(|device| !there.contains(device)).cloned().collect();
        let changed = devices.to_vec();
        let kept = self.keep_update(user, Update { changed, removed }).await?;
        if let Err(error) = &kept {
            tracing::info!(%user, %error, "did not keep devices of another server's user");
            metrics::counter!(metric::DEVICES_REFUSED).increment(1);
        }
        Ok(kept.is_ok())
    }

    /// `None` if the server has no such endpoint, which the draft lacks.
    async fn ask_for_devices(&self, user: &UserId) -> Result<Option<Vec<DeviceObject>>, ServiceError> {
        let answer = match self
            .ask_about_devices(user, &["user", "devices", user.as_str()], false)
            .await
        {
            Err(error) if errcode(&error) == Some("M_UNRECOGNIZED") => return Ok(None),
            answer => answer?,
        };
        let listed = answer
            .get("devices")
            .and_then(Json::as_array)
            .ok_or_else(|| ServiceError::BadAnswer {
                server: user.server_name().clone(),
                what: "`devices` is missing",
            })?;
        let mut devices = BTreeMap::new();
        for device in listed.iter().take(MAX_REMOTE_DEVICES) {
            if let Some(device) = read_device(user, device) {
                devices.insert(device.device_id().clone(), device);
            }
        }
        Ok(Some(devices.into_values().collect()))
    }

    /// LM #int-api-get-device for each device we have heard of, as far as one answer may take.
    async fn ask_for_each(&self, user: &UserId, known: &[RemoteDevice]) -> Result<Vec<DeviceObject>, ServiceError> {
        let mut devices = Vec::new();
        for known in known.iter().take(MAX_ASKED_ONE_BY_ONE) {
            let segments = ["user", user.as_str(), "device", known.device.as_str()];
            match self.ask_about_devices(user, &segments, true).await {
                Ok(object) => devices.extend(
                    read_device(user, &Json::Object(object)).filter(|device| *device.device_id() == known.device),
                ),
                Err(ServiceError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(devices)
    }

    async fn ask_about_devices(
        &self,
        user: &UserId,
        segments: &[&str],
        has_unstable: bool,
    ) -> Result<Object, ServiceError> {
        let server = user.server_name();
        let timeout = self.settings().delivery.question_timeout;
        let request = federation_request(Method::Get, "v1", segments, &[], has_unstable, timeout);
        let failed = |error| ServiceError::PeerFailed {
            server: server.clone(),
            error,
        };
        let response = self.peers().call(server, request).await.map_err(failed)?;
        read_answer(server, &response).map_err(|error| match errcode(&error) {
            Some("M_NOT_FOUND") => ServiceError::NotFound(Missing::User),
            _ => error,
        })
    }

    /// Drops what nobody can use any more: expired key packages, and what we were told of others' devices long ago.
    pub(crate) async fn expire_devices(&self) {
        let now = self.now();
        let writes = vec![
            Write::ExpireKeyPackages { now },
            Write::ExpireRemoteDevices {
                before: now.minus(FORGET_DEVICES_AFTER),
            },
        ];
        if let Err(error) = self.commit(Batch(writes)).await {
            tracing::warn!(%error, "could not drop expired key packages");
        }
    }

    fn is_list_whole(&self, user: &UserId) -> bool {
        let since = self.lists(|lists| lists.whole.get(user).copied());
        since.is_some_and(|since| self.now().saturating_since(since) < ASK_AGAIN_AFTER)
    }

    fn note_update(&self, user: &UserId) {
        self.lists(|lists| {
            if let Some(fetching) = lists.fetching.get_mut(user) {
                fetching.is_updated = true;
            }
        });
    }

    fn forget_list(&self, user: &UserId) {
        self.lists(|lists| lists.whole.remove(user));
    }

    fn begin_fetch<'a>(&'a self, user: &'a UserId) -> Fetch<'a> {
        self.lists(|lists| lists.fetching.entry(user.clone()).or_default().fetches += 1);
        Fetch { service: self, user }
    }

    fn lists<T>(&self, change: impl FnOnce(&mut Lists) -> T) -> T {
        let lists = &self.inner.devices.lists;
        change(&mut lists.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The EDU of LM #int-transport-devices. It is below the size of an event, as one object of at most 32 KiB is in it.
pub(crate) fn device_list_edu(user: &UserId, changed: Option<&Object>, removed: Option<&DeviceId>) -> Bytes {
    let changed: Vec<Json> = changed.cloned().map(Json::Object).into_iter().collect();
    let removed: Vec<Json> = removed.map(|device| Json::from(device.as_str())).into_iter().collect();
    let content = object! { "changed" => changed, "removed" => removed };
    let edu = object! { "type" => "m.device_list_update", "sender" => user.as_str(), "content" => content };
    let bytes = edu.to_canonical();
    debug_assert!(bytes.len() <= MAX_EVENT_BYTES);
    bytes.into()
}

fn read_update(user: &UserId, changed: &[Json], removed: &[Json]) -> Update {
    let mut update = Update {
        changed: Vec::new(),
        removed: Vec::new(),
    };
    for device in changed {
        match read_device(user, device) {
            Some(device) => update.changed.push(device),
            None => update.removed.extend(named_in(user, device)),
        }
    }
    let removed = removed.iter().filter_map(Json::as_str);
    update
        .removed
        .extend(removed.filter_map(|device| DeviceId::parse(device).ok()));
    update
}

/// A valid object of one of the user's devices; what is not is counted.
fn read_device(user: &UserId, device: &Json) -> Option<DeviceObject> {
    let parsed = device.as_object().cloned().map(DeviceObject::parse);
    match parsed {
        Some(Ok(device)) if device.user_id() == user => return Some(device),
        Some(Ok(device)) => tracing::info!(%user, named = %device.user_id(), "dropped another user's device"),
        Some(Err(reason)) => tracing::info!(%user, %reason, "dropped an invalid device"),
        None => tracing::info!(%user, "dropped a device that is no object"),
    }
    metrics::counter!(metric::DEVICES_REFUSED).increment(1);
    None
}

/// Which of the user's devices an invalid object is about.
fn named_in(user: &UserId, device: &Json) -> Option<DeviceId> {
    let device = device.as_object()?;
    let text = |key: &str| device.get(key).and_then(Json::as_str);
    DeviceId::parse(text("device_id")?)
        .ok()
        .filter(|_| text("user_id") == Some(user.as_str()))
}

fn put_remote(device: DeviceObject, now: UnixMillis) -> Write {
    Write::PutRemoteDevice {
        device: RemoteDevice {
            user: device.user_id().clone(),
            device: device.device_id().clone(),
            object: device.to_canonical().into(),
            updated_at: now,
        },
    }
}

fn objects(known: &[RemoteDevice]) -> Vec<Object> {
    known
        .iter()
        .filter_map(|device| Object::parse(&device.object).ok())
        .collect()
}

/// Whether the server has not decided anything.
fn is_unanswered(error: &ServiceError) -> bool {
    match error {
        ServiceError::PeerFailed { .. } => true,
        ServiceError::Proxied { status, .. } => *status >= 500 || *status == 429,
        _ => false,
    }
}

/// The code of another server's refusal.
fn errcode(error: &ServiceError) -> Option<&'static str> {
    let ServiceError::Proxied { body, .. } = error else {
        return None;
    };
    let body = Object::parse(body).ok()?;
    let code = body.get("errcode").and_then(Json::as_str)?;
    ["M_UNRECOGNIZED", "M_NOT_FOUND"]
        .into_iter()
        .find(|known| *known == code)
}

/// How long we believe to have been told of every change of a user's devices.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(60 * 60);
/// Users of whom we know that we have all devices.
const MAX_WHOLE_LISTS: usize = 10_000;
/// Devices of one user asked about one by one, where the server has no list.
const MAX_ASKED_ONE_BY_ONE: usize = 20;
/// As long as a key package can be valid: whoever wants the device later asks again.
const FORGET_DEVICES_AFTER: Duration = Duration::from_secs(90 * 24 * 60 * 60);
