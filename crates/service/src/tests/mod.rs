//! The federation use cases on one hub `h`, driven by hand-made requests of `p` and `t`. Case numbers are those of the
//! conformance suite, where the same rules are checked over the wire.

mod devices;
mod gaps;
mod history;
mod invite;
mod keys;
mod membership;
mod send;
mod suites;

use nabe_core::Entry;
use nabe_event::{EventBuilder, RoomVersionRules, VerifiedLpdu};
use nabe_signing::json::{Json, Object};
use nabe_signing::{object, sha256};
use nabe_store::{Between, Order, Store};
use nabe_types::{EventId, RoomId, TransactionId, UnixMillis, UserId};

use crate::client::NewRoom;
use crate::client::testing::{World, server, signer, user};
use crate::{MembershipKind, Service, ServiceError};

/// A hub with one room by `@alice:h.example`.
struct Hub {
    world: World,
    service: Service,
    room: RoomId,
}

impl Hub {
    async fn with(room: NewRoom) -> Self {
        let world = World::new(&["h", "p", "t"]);
        let service = world.service("h");
        let room = service
            .create_room(&user("alice", "h"), room, None)
            .await
            .unwrap()
            .room_id;
        Self { world, service, room }
    }

    /// A room anybody may join.
    async fn public() -> Self {
        Self::with(crate::client::testing::public_room()).await
    }

    /// An LPDU of this user for the hub.
    fn lpdu(&self, sender: &UserId, event_type: &str, state_key: Option<&str>, content: Object) -> VerifiedLpdu {
        static TICKS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let tick = TICKS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let at = UnixMillis(1_700_000_000_000 + tick);
        let mut builder = EventBuilder::new(self.room.clone(), event_type, sender.clone(), at, content);
        if let Some(state_key) = state_key {
            builder = builder.state_key(state_key);
        }
        let name = sender.server_name().host().split('.').next().unwrap();
        builder
            .build_lpdu(&signer(name), &server("h"), &RoomVersionRules::I1)
            .unwrap()
    }

    fn message(&self, sender: &UserId, body: &str) -> VerifiedLpdu {
        self.lpdu(sender, "m.room.message", None, object! { "body" => body })
    }

    fn member(&self, sender: &UserId, target: &UserId, membership: &str) -> VerifiedLpdu {
        self.lpdu(
            sender,
            "m.room.member",
            Some(target.as_str()),
            object! { "membership" => membership },
        )
    }

    /// `/send` with these events.
    async fn send(&self, from: &str, txn: &str, pdus: Vec<Json>) -> Result<Object, ServiceError> {
        self.send_body(from, txn, object! { "pdus" => pdus }.into()).await
    }

    async fn send_body(&self, from: &str, txn: &str, body: Json) -> Result<Object, ServiceError> {
        push_body(&self.service, from, txn, body).await
    }

    /// One of the `send_` endpoints.
    async fn send_member(&self, from: &str, kind: MembershipKind, event: Json) -> Result<Object, ServiceError> {
        let (hash, body) = (sha256(&event.to_canonical()), event.into_object().unwrap());
        let txn = nabe_signing::base64u::encode_url(&hash);
        let reply = self
            .service
            .send_membership(server(from), kind, txn_id(&txn), body, hash)
            .await?;
        Ok(Object::parse(&reply.body).unwrap())
    }

    /// The user joins through `send_join`.
    async fn joins(&self, user: &UserId) -> Object {
        let name = user.server_name().host().split('.').next().unwrap().to_owned();
        let event = json(&self.member(user, user, "join"));
        self.send_member(&name, MembershipKind::Join, event).await.unwrap()
    }

    async fn log(&self) -> Vec<Entry> {
        self.world
            .store("h")
            .entries(&self.room, Between::ALL, usize::MAX, Order::Ascending)
            .await
            .unwrap()
    }

    /// The newest event.
    async fn last(&self) -> Object {
        self.log().await.last().unwrap().pdu().unwrap().object().clone()
    }

    async fn len(&self) -> usize {
        self.log().await.len()
    }
}

/// `/send` of these events to any server.
async fn push(to: &Service, from: &str, txn: &str, pdus: Vec<Json>) -> Result<Object, ServiceError> {
    push_body(to, from, txn, object! { "pdus" => pdus }.into()).await
}

async fn push_body(to: &Service, from: &str, txn: &str, body: Json) -> Result<Object, ServiceError> {
    let hash = sha256(&body.to_canonical());
    let reply = to.send_txn(server(from), txn_id(txn), body, hash).await?;
    assert_eq!(reply.status, 200);
    Ok(Object::parse(&reply.body).unwrap())
}

/// The room's topic as a server has it.
async fn topic_at(service: &Service, room: &RoomId) -> Option<Json> {
    let topic = service.read_room(room, |view| {
        let topic = nabe_auth::lm::RoomState::get(view.state(), "m.room.topic", "").cloned();
        topic.unwrap().content().get("topic").cloned()
    });
    topic.await.unwrap()
}

fn txn_id(text: &str) -> TransactionId {
    TransactionId::parse(text).unwrap()
}

fn json(lpdu: &VerifiedLpdu) -> Json {
    Json::parse(lpdu.bytes()).unwrap()
}

fn nothing_failed() -> Object {
    object! { "failed_pdus" => Object::new() }
}

/// The sentence under which an event failed.
fn failure(reply: &Object, id: &EventId) -> String {
    let failed = reply.get("failed_pdus").unwrap().as_object().unwrap();
    let entry = failed
        .get(id.as_str())
        .unwrap_or_else(|| panic!("{id} is not among the failed"));
    entry
        .as_object()
        .unwrap()
        .get("error")
        .unwrap()
        .as_str()
        .unwrap()
        .to_owned()
}

fn list<'a>(object: &'a Object, name: &str) -> &'a [Json] {
    object.get(name).unwrap().as_array().unwrap()
}

fn text<'a>(object: &'a Object, name: &str) -> &'a str {
    object.get(name).unwrap().as_str().unwrap()
}
