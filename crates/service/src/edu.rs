//! EDUs: what passes between two servers and is no part of any room's log. LM #int-transport-edus.

use std::collections::BTreeSet;

use nabe_signing::json::{Json, Object};
use nabe_signing::object;
use nabe_store::{InboxKind, Write};
use nabe_types::limits::MAX_EVENT_BYTES;
use nabe_types::{DeviceId, ServerName, UserId};

use crate::error::ServiceError;
use crate::{Service, metric};

/// What a transaction's EDUs come to.
#[derive(Default)]
pub(crate) struct EduWork {
    pub(crate) writes: Vec<Write>,
    /// Whose inbox grows.
    pub(crate) users: BTreeSet<UserId>,
}

/// An EDU with a sender of the server that sent it.
struct Edu<'a> {
    kind: &'a str,
    sender: UserId,
    content: &'a Object,
}

impl Service {
    /// Turns EDUs into inbox items. Types we do not know, malformed EDUs, those over 64 KiB and those of another server's users are passed
    /// over: the draft has no way to report them.
    pub(crate) async fn receive_edus(&self, origin: &ServerName, edus: &[Json]) -> Result<EduWork, ServiceError> {
        let mut work = EduWork::default();
        for edu in edus {
            let fits = edu.to_canonical().len() <= MAX_EVENT_BYTES;
            let items = match read(edu)
                .filter(|_| fits)
                .filter(|edu| edu.sender.server_name() == origin)
            {
                Some(edu) if edu.kind == "m.direct_to_device" => self.direct_to_device(origin, &edu).await?,
                Some(edu) if edu.kind == "m.device_list_update" => {
                    self.receive_device_update(origin, &edu.sender, edu.content).await?
                }
                _ => Vec::new(),
            };
            if items.is_empty() {
                metrics::counter!(metric::EDUS_DROPPED).increment(1);
            }
            for (user, write) in items {
                work.users.insert(user);
                work.writes.push(write);
            }
        }
        Ok(work)
    }

    /// LM #int-transport-to-device: for one device of ours. Unknown users and devices: dropped, and so is what is more than one
    /// server may send to one user.
    async fn direct_to_device(&self, origin: &ServerName, edu: &Edu<'_>) -> Result<Vec<(UserId, Write)>, ServiceError> {
        let text = |key: &str| edu.content.get(key).and_then(Json::as_str);
        let target = text("target").and_then(|user| UserId::parse(user).ok());
        let device = text("target_device").and_then(|device| DeviceId::parse(device).ok());
        let (Some(target), Some(device), Some(message_type)) = (target, device, text("message_type")) else {
            return Ok(Vec::new());
        };
        let Some(message) = edu.content.get("message").and_then(Json::as_object) else {
            return Ok(Vec::new());
        };
        if !self.is_us(target.server_name()) || !self.store().devices(&target).await?.contains(&device) {
            return Ok(Vec::new());
        }
        if self.is_sending_too_much(origin, &target) {
            return Ok(Vec::new());
        }
        let sender_device = text("sender_device").and_then(|device| DeviceId::parse(device).ok());
        let body = to_device_body(&edu.sender, sender_device.as_ref(), message_type, message);
        let write = Write::Inbox {
            user: target.clone(),
            device: Some(device),
            kind: InboxKind::ToDevice,
            body: body.to_canonical().into(),
            now: self.now(),
        };
        Ok(vec![(target, write)])
    }
}

/// What a device finds in its inbox.
pub(crate) fn to_device_body(
    sender: &UserId,
    sender_device: Option<&DeviceId>,
    message_type: &str,
    message: &Object,
) -> Object {
    let mut body = object! {
        "sender" => sender.as_str(),
        "message_type" => message_type,
        "message" => message.clone(),
    };
    if let Some(device) = sender_device {
        body.insert("sender_device", device.as_str());
    }
    body
}

/// The draft's text says `sender`, its device list example `sender_id`; Matrix calls the type `edu_type`. All are read.
fn read(edu: &Json) -> Option<Edu<'_>> {
    let edu = edu.as_object()?;
    let text = |keys: [&str; 2]| keys.into_iter().find_map(|key| edu.get(key).and_then(Json::as_str));
    Some(Edu {
        kind: text(["type", "edu_type"])?,
        sender: UserId::parse(text(["sender", "sender_id"])?).ok()?,
        content: edu.get("content").and_then(Json::as_object)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::testing::{World, server, user};
    use crate::settings::RateLimit;

    fn message(to: &UserId, device: &DeviceId, message: Object) -> Json {
        let content = object! {
            "target" => to.as_str(),
            "target_device" => device.as_str(),
            "message_type" => "m.test",
            "message" => message,
        };
        object! { "type" => "m.direct_to_device", "sender" => "@bob:b.example", "content" => content }.into()
    }

    #[tokio::test]
    async fn one_server_cannot_fill_an_inbox_so_that_others_messages_fall_out_of_it() {
        let mut world = World::new(&[]);
        let service = world.start_with("a", |settings| {
            settings.limits.to_device = RateLimit {
                per_second: 0.01,
                burst: 10.0,
            }
        });
        let (alice, carol) = (user("alice", "a"), user("carol", "a"));
        let device = service.register_device(&alice, None).await.unwrap();
        let other = service.register_device(&carol, None).await.unwrap();
        let flood = vec![message(&alice, &device, Object::new()); 100];
        let taken = service.receive_edus(&server("b"), &flood).await.unwrap();
        assert_eq!(taken.writes.len(), 10);
        let to_another = message(&carol, &other, Object::new());
        let taken = service.receive_edus(&server("b"), &[to_another]).await.unwrap();
        assert_eq!(taken.writes.len(), 1);
        world.clock.advance(std::time::Duration::from_secs(100));
        let taken = service.receive_edus(&server("b"), &flood).await.unwrap();
        assert_eq!(taken.writes.len(), 1);
    }

    #[tokio::test]
    async fn edu_over_the_size_of_an_event_is_dropped() {
        let world = World::new(&["a"]);
        let (service, alice) = (world.service("a"), user("alice", "a"));
        let device = service.register_device(&alice, None).await.unwrap();
        let edu = |padding: usize| message(&alice, &device, object! { "x" => "x".repeat(padding) });
        let room_for_text = MAX_EVENT_BYTES - edu(0).to_canonical().len();
        let taken = service.receive_edus(&server("b"), &[edu(room_for_text)]).await.unwrap();
        assert_eq!(taken.writes.len(), 1);
        let dropped = service
            .receive_edus(&server("b"), &[edu(room_for_text + 1)])
            .await
            .unwrap();
        assert!(dropped.writes.is_empty() && dropped.users.is_empty());
    }
}
