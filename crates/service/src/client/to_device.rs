//! Messages from device to device (LM #int-transport-to-device). They never go through a hub: straight to the target's server, or to the
//! inbox of one of our own users.

use std::collections::{BTreeMap, BTreeSet};

use nabe_signing::json::{Json, Object};
use nabe_signing::{object, sha256};
use nabe_store::{Batch, DirectItem, InboxKind, StoredReply, Write};
use nabe_types::limits::MAX_EVENT_BYTES;
use nabe_types::{DeviceId, ServerName, UserId};

use super::{full_outbox, idempotency_key};
use crate::edu::to_device_body;
use crate::{Service, ServiceError};

/// One payload for one device.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ToDeviceMessage {
    /// The user.
    pub target: UserId,
    /// Their device.
    pub target_device: DeviceId,
    /// What kind of message it is.
    pub message_type: String,
    /// The message.
    pub message: Object,
}

impl Service {
    /// Sends messages to devices, all or none. Unknown users and devices are passed over without a word, as the draft has it for
    /// receiving servers. With an idempotency key, the same request again has no further effect.
    ///
    /// # Errors
    ///
    /// [`ServiceError::InvalidParam`] for more than 1000 messages or one over 65536 bytes, [`ServiceError::PolicyRefused`],
    /// [`ServiceError::OutboxFull`], [`ServiceError::KeyReused`].
    pub async fn to_device(
        &self,
        sender: &UserId,
        sender_device: Option<&DeviceId>,
        messages: Vec<ToDeviceMessage>,
        idempotency_key_text: Option<&str>,
    ) -> Result<(), ServiceError> {
        if messages.len() > MAX_MESSAGES {
            return Err(ServiceError::InvalidParam("messages"));
        }
        let edus: Vec<Object> = messages
            .iter()
            .map(|message| edu(sender, sender_device, message))
            .collect();
        let Some(text) = idempotency_key_text else {
            return self
                .send_to_devices(sender, sender_device, messages, edus, Vec::new())
                .await;
        };
        if text.is_empty() || text.len() > 255 {
            return Err(ServiceError::InvalidParam("idempotency key"));
        }
        let key = idempotency_key(sender, "to_device", text);
        let request_sha256 = sha256(&Json::from(edus.clone()).to_canonical());
        let _only_one = self.lock_key(&key).await;
        if let Some(reply) = self.store().reply(&key).await? {
            return if reply.request_sha256 == request_sha256 {
                Ok(())
            } else {
                Err(ServiceError::KeyReused)
            };
        }
        let reply = StoredReply {
            status: 200,
            body: b"{}".as_slice().into(),
            request_sha256,
        };
        let keep = vec![Write::PutReply {
            key,
            reply,
            now: self.now(),
        }];
        self.send_to_devices(sender, sender_device, messages, edus, keep).await
    }

    async fn send_to_devices(
        &self,
        sender: &UserId,
        sender_device: Option<&DeviceId>,
        messages: Vec<ToDeviceMessage>,
        edus: Vec<Object>,
        mut writes: Vec<Write>,
    ) -> Result<(), ServiceError> {
        let now = self.now();
        let mut devices: BTreeMap<UserId, Vec<DeviceId>> = BTreeMap::new();
        let mut users = BTreeSet::new();
        let mut servers: BTreeSet<ServerName> = BTreeSet::new();
        for (message, edu) in messages.into_iter().zip(edus) {
            let bytes = edu.to_canonical();
            if bytes.len() > MAX_EVENT_BYTES {
                return Err(ServiceError::InvalidParam("message"));
            }
            let server = message.target.server_name().clone();
            if !self.is_us(&server) {
                self.check_policy(&server)?;
                writes.push(Write::Enqueue {
                    destination: server.clone(),
                    item: DirectItem::Edu(bytes.into()),
                    limit: self.settings().limits.outbox_items,
                    now,
                });
                servers.insert(server);
                continue;
            }
            if !devices.contains_key(&message.target) {
                devices.insert(message.target.clone(), self.store().devices(&message.target).await?);
            }
            if devices
                .get(&message.target)
                .is_some_and(|devices| devices.contains(&message.target_device))
            {
                let body = to_device_body(sender, sender_device, &message.message_type, &message.message);
                writes.push(Write::Inbox {
                    user: message.target.clone(),
                    device: Some(message.target_device),
                    kind: InboxKind::ToDevice,
                    body: body.to_canonical().into(),
                    now,
                });
                users.insert(message.target);
            }
        }
        self.commit(Batch(writes)).await.map_err(full_outbox)?;
        users.iter().for_each(|user| self.notify_inbox(user));
        self.wake_delivery(servers);
        Ok(())
    }
}

/// The EDU of LM #int-transport-to-device; `sender_device` is ours, since the draft says the device is known and has no field for it.
fn edu(sender: &UserId, sender_device: Option<&DeviceId>, message: &ToDeviceMessage) -> Object {
    let mut content = object! {
        "target" => message.target.as_str(),
        "target_device" => message.target_device.as_str(),
        "message_type" => message.message_type.as_str(),
        "message" => message.message.clone(),
    };
    if let Some(device) = sender_device {
        content.insert("sender_device", device.as_str());
    }
    object! { "type" => "m.direct_to_device", "sender" => sender.as_str(), "content" => content }
}

const MAX_MESSAGES: usize = 1000;
