//! Devices and key packages as clients see them: publishing, removing, looking up, claiming.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use nabe_mls::{CredentialAlgorithm, DeviceObject, MAX_KEY_PACKAGE_BYTES, Suite};
use nabe_signing::json::{Json, Object};
use nabe_signing::{base64u, object};
use nabe_store::{Batch, DirectItem, Write};
use nabe_types::{DeviceId, ServerName, UserId};

use super::{Caller, full_outbox};
use crate::devices::device_list_edu;
use crate::error::Missing;
use crate::key_packages::{Asked, HandedOut, count, one_time_keys, read_claims};
use crate::ports::{Method, PeerRequest};
use crate::wire::{federation_request, read_answer};
use crate::{Service, ServiceError, metric};

/// Key packages that were claimed.
#[derive(Clone, Debug, Default)]
pub struct ClaimedKeys {
    /// `{user: {device: {algorithm: key}}}`, keys in unpadded base64. What it lacks does not exist, or its server failed.
    pub one_time_keys: Object,
    /// Why a server gave no answer.
    pub failures: BTreeMap<ServerName, String>,
}

impl Service {
    /// Publishes the device object of one of the caller's devices, which is added if it is new, and tells everybody who shares a room
    /// with them. The same object again has no effect.
    ///
    /// # Errors
    ///
    /// [`ServiceError::BadDevice`] for an object that breaks a rule, [`ServiceError::InvalidParam`] for another user's or device's,
    /// [`ServiceError::OtherDevice`] if the caller is another device, [`ServiceError::TooLarge`] for more devices than a user can
    /// have.
    pub async fn publish_device(&self, caller: &Caller, device: &DeviceId, object: Object) -> Result<(), ServiceError> {
        caller.check_is(device)?;
        let user = &caller.user;
        let published = DeviceObject::parse(object)?;
        if published.user_id() != user {
            return Err(ServiceError::InvalidParam("user_id"));
        }
        if published.device_id() != device {
            return Err(ServiceError::InvalidParam("device_id"));
        }
        self.check_device_count(user, device).await?;
        let before = self.published_device(user, device).await?;
        if before.as_ref() == Some(&published) {
            return Ok(());
        }
        let write = Write::PutDeviceObject {
            user: user.clone(),
            device: device.clone(),
            object: published.to_canonical().into(),
            forget_key_packages: before.is_some_and(|before| has_other_keys(&before, &published)),
            now: self.now(),
        };
        let edu = device_list_edu(user, Some(published.object()), None);
        self.announce_devices(user, vec![write], vec![edu]).await
    }

    /// Removes one of the caller's devices, with its key packages and the access tokens bound to it, and tells everybody who shares a
    /// room with them.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NotFound`] for a device that is not there.
    pub async fn remove_device(&self, user: &UserId, device: &DeviceId) -> Result<(), ServiceError> {
        let stored = self.store().device(user, device).await?;
        let stored = stored.ok_or(ServiceError::NotFound(Missing::Device))?;
        let write = Write::RemoveDevice {
            user: user.clone(),
            device: device.clone(),
        };
        if let Some(mimi) = self.mimi() {
            mimi.remove_client(user, device).await?;
        }
        // Nobody was told of a device that published nothing.
        let edu = stored.object.map(|_| device_list_edu(user, None, Some(device)));
        self.announce_devices(user, vec![write], edu.into_iter().collect())
            .await
    }

    /// The device objects of a user, here or elsewhere.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NotFound`] for a user that does not exist; [`ServiceError::PeerFailed`] and the like if the user's server does
    /// not answer and nothing is known.
    pub async fn device_objects(&self, user: &UserId) -> Result<Vec<Object>, ServiceError> {
        if !self.is_us(user.server_name()) {
            return self.remote_device_objects(user).await;
        }
        if !self.is_user(user).await? {
            return Err(ServiceError::NotFound(Missing::User));
        }
        let devices = self.store().published_devices(user).await?;
        let objects = devices.into_iter().filter_map(|device| device.object);
        Ok(objects.filter_map(|object| Object::parse(&object).ok()).collect())
    }

    /// Claims key packages for a local user, here and elsewhere. `body` is as between servers (LM #int-transport-key-claim).
    ///
    /// # Errors
    ///
    /// [`ServiceError::BadJson`], [`ServiceError::TooLarge`], [`ServiceError::LimitExceeded`].
    pub async fn claim_for(&self, user: &UserId, body: &Object) -> Result<ClaimedKeys, ServiceError> {
        let mut by_server: BTreeMap<ServerName, Asked> = BTreeMap::new();
        let asked = read_claims(body)?;
        self.limit_many(user.as_str(), "claim", self.settings().limits.client, count(&asked))?;
        for (owner, devices) in asked {
            let of_server = by_server.entry(owner.server_name().clone()).or_default();
            of_server.insert(owner, devices);
        }
        if by_server.len() > MAX_SERVERS {
            return Err(ServiceError::TooLarge("servers to claim key packages of"));
        }
        let own = by_server.remove(self.server_name()).unwrap_or_default();
        let mut handed_out = self.hand_out(user.as_str(), own).await?;
        let asked = by_server.into_iter().map(|(server, asked)| async move {
            let answer = self.claim_at(&server, &asked).await;
            (server, answer)
        });
        let mut failures = BTreeMap::new();
        for (server, answer) in join_all(asked).await {
            match answer {
                Ok(keys) => handed_out.extend(keys),
                Err(error) => {
                    failures.insert(server, error.to_string());
                }
            }
        }
        Ok(ClaimedKeys {
            one_time_keys: one_time_keys(handed_out),
            failures,
        })
    }

    async fn claim_at(&self, server: &ServerName, asked: &Asked) -> Result<Vec<HandedOut>, ServiceError> {
        self.check_policy(server)?;
        let mut users = Object::new();
        for (user, devices) in asked {
            let devices: Object = devices
                .iter()
                .map(|(device, algorithm)| (device.to_string(), Json::from(algorithm.as_str())))
                .collect();
            users.insert(user.as_str(), devices);
        }
        let timeout = self.settings().delivery.question_timeout;
        let request = PeerRequest {
            body: Some(object! { "one_time_keys" => users }.to_canonical().into()),
            ..federation_request(Method::Post, "v1", &["user", "keys", "claim"], &[], false, timeout)
        };
        let failed = |error| ServiceError::PeerFailed {
            server: server.clone(),
            error,
        };
        let response = self.peers().call(server, request).await.map_err(failed)?;
        let answer = read_answer(server, &response)?;
        let keys = answer.get("one_time_keys").and_then(Json::as_object);
        let keys = keys.ok_or_else(|| ServiceError::BadAnswer {
            server: server.clone(),
            what: "`one_time_keys` is missing",
        })?;
        Ok(claimed_in(keys, asked))
    }

    /// Refuses a device more than a user can have.
    pub(crate) async fn check_device_count(&self, user: &UserId, device: &DeviceId) -> Result<(), ServiceError> {
        let devices = self.store().devices(user).await?;
        match devices.len() >= MAX_DEVICES && !devices.contains(device) {
            true => Err(ServiceError::TooLarge("devices of one user")),
            false => Ok(()),
        }
    }

    /// Makes changes of a user's devices durable together with what tells of them (LM #int-transport-devices).
    pub(super) async fn announce_devices(
        &self,
        user: &UserId,
        changes: Vec<Write>,
        edus: Vec<bytes::Bytes>,
    ) -> Result<(), ServiceError> {
        let store = self.store();
        let mut watchers: BTreeSet<UserId> = BTreeSet::from([user.clone()]);
        let mut servers = BTreeSet::new();
        if !edus.is_empty() {
            watchers.extend(store.users_sharing_rooms_with(user, self.server_name()).await?);
            servers.extend(store.servers_sharing_rooms_with(user).await?);
            servers.retain(|server| !self.is_us(server) && self.settings().policy.permits(server));
        }
        let notices = self.device_notices(user, watchers.iter().cloned());
        loop {
            let each = servers
                .iter()
                .flat_map(|server| edus.iter().map(move |edu| (server, edu)));
            let enqueued = each.map(|(server, edu)| Write::Enqueue {
                destination: server.clone(),
                item: DirectItem::Edu(edu.clone()),
                limit: self.settings().limits.outbox_items,
                now: self.now(),
            });
            let writes = changes.iter().cloned();
            let writes = writes
                .chain(notices.iter().map(|(_, notice)| notice.clone()))
                .chain(enqueued);
            match self.commit(Batch(writes.collect())).await.map_err(full_outbox) {
                // A server that has been away for so long asks anew when it is back, or never.
                Err(ServiceError::OutboxFull { destination }) if servers.remove(&destination) => {
                    metrics::counter!(metric::EDUS_DROPPED).increment(1);
                }
                done => break done?,
            }
        }
        watchers.iter().for_each(|user| self.notify_inbox(user));
        self.wake_delivery(servers);
        Ok(())
    }
}

impl Caller {
    /// A caller that is a device speaks for itself alone.
    pub(crate) fn check_is(&self, device: &DeviceId) -> Result<(), ServiceError> {
        match &self.device {
            Some(own) if own != device => Err(ServiceError::OtherDevice),
            _ => Ok(()),
        }
    }
}

fn has_other_keys(before: &DeviceObject, after: &DeviceObject) -> bool {
    let algorithms: BTreeSet<CredentialAlgorithm> = Suite::all().map(Suite::credential_algorithm).collect();
    let differs = |algorithm: CredentialAlgorithm| before.signature_key(algorithm) != after.signature_key(algorithm);
    algorithms.into_iter().any(differs)
}

/// Of another server's answer what was asked for, as far as it can be a key package.
fn claimed_in(keys: &Object, asked: &Asked) -> Vec<HandedOut> {
    let mut claimed = Vec::new();
    for (user, devices) in asked {
        for (device, algorithm) in devices {
            let answered = keys.get(user.as_str()).and_then(Json::as_object);
            let of_device = answered.and_then(|devices| devices.get(device.as_str())?.as_object());
            let key = of_device.and_then(|keys| keys.get(algorithm)?.as_str());
            let bytes = key.and_then(|key| base64u::decode(key).ok());
            if let Some(bytes) = bytes.filter(|bytes| bytes.len() <= MAX_KEY_PACKAGE_BYTES) {
                claimed.push(HandedOut {
                    user: user.clone(),
                    device: device.clone(),
                    algorithm: algorithm.clone(),
                    key: base64u::encode(&bytes),
                });
            }
        }
    }
    claimed
}

/// Devices that one user can have.
const MAX_DEVICES: usize = 200;
/// Other servers that one claim may make us ask.
const MAX_SERVERS: usize = 100;
