//! The load of `bench hub`: LPDUs and requests signed before the clock starts.

use bytes::Bytes;
use http::{Method, Request};
use nabe_event::{EventBuilder, RoomVersionRules};
use nabe_signing::{Json, Object, Signer, object, xmatrix};
use nabe_types::{RoomId, ServerName, UnixMillis, UserId};

/// Content that brings an LPDU to about 500 bytes.
const BODY: &str = "The quick brown fox jumps over the lazy dog, and the dog, being lazy, lets it.";

/// One origin server with its user.
pub(super) struct Origin {
    pub(super) signer: Signer,
    pub(super) user: UserId,
}

impl Origin {
    pub(super) fn new(signer: Signer) -> anyhow::Result<Self> {
        let user = UserId::parse(&format!("@load:{}", signer.server()))?;
        Ok(Self { signer, user })
    }

    /// A request with a signature of each key.
    pub(super) fn request(
        &self,
        method: Method,
        uri: &str,
        hub: &ServerName,
        content: Option<Json>,
    ) -> anyhow::Result<Request<Bytes>> {
        let signed = xmatrix::Request {
            method: method.as_str(),
            uri,
            destination: hub,
            content: content.as_ref(),
        };
        let mut builder = Request::builder();
        for header in xmatrix::sign_request(&self.signer, &signed) {
            builder = builder.header("authorization", header);
        }
        let body = content
            .map(|content| Bytes::from(content.to_canonical()))
            .unwrap_or_default();
        Ok(builder
            .method(method)
            .uri(uri)
            .header("content-type", "application/json")
            .body(body)?)
    }

    /// The LPDU with which the user joins.
    pub(super) fn join(&self, room: &RoomId, hub: &ServerName, now: UnixMillis) -> anyhow::Result<Object> {
        let content = object! { "membership" => "join" };
        let event = EventBuilder::new(room.clone(), "m.room.member", self.user.clone(), now, content)
            .state_key(self.user.as_str());
        self.lpdu(event, hub)
    }

    /// Transactions of `batch` messages each, spread over `rooms`; `events` in all.
    pub(super) fn transactions(
        &self,
        rooms: &[RoomId],
        hub: &ServerName,
        now: UnixMillis,
        events: u32,
        batch: u32,
    ) -> anyhow::Result<Vec<Request<Bytes>>> {
        let mut requests = Vec::new();
        let numbers: Vec<u32> = (0..events).collect();
        for numbers in numbers.chunks(usize::try_from(batch)?) {
            let messages: Vec<Json> = numbers
                .iter()
                .map(|&number| {
                    let room = &rooms[usize::try_from(number)? % rooms.len()];
                    self.message(room, hub, now.as_u64() + u64::from(number), number)
                        .map(Json::from)
                })
                .collect::<anyhow::Result<_>>()?;
            let uri = format!("/_matrix/federation/v2/send/bench-{}", requests.len());
            let body = object! { "pdus" => messages };
            requests.push(self.request(Method::PUT, &uri, hub, Some(body.into()))?);
        }
        Ok(requests)
    }

    fn message(&self, room: &RoomId, hub: &ServerName, ts: u64, number: u32) -> anyhow::Result<Object> {
        let content = object! { "body" => format!("{number}: {BODY}"), "msgtype" => "m.text" };
        self.lpdu(
            EventBuilder::new(room.clone(), EVENT_TYPE, self.user.clone(), UnixMillis(ts), content),
            hub,
        )
    }

    fn lpdu(&self, event: EventBuilder, hub: &ServerName) -> anyhow::Result<Object> {
        Ok(event
            .build_lpdu(&self.signer, hub, &RoomVersionRules::I1)?
            .event()
            .object()
            .clone())
    }
}

/// What the events are that are sent.
pub(super) const EVENT_TYPE: &str = "m.room.message";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::sink;

    #[test]
    fn a_message_is_about_500_bytes_and_every_event_is_another() {
        let hub = ServerName::parse("hub.localhost").unwrap();
        let origin = Origin::new(sink::signer(ServerName::parse("o1.localhost").unwrap(), 1)).unwrap();
        let room = RoomId::parse("!AAAAAAAAAAAAAAAAAAAAAA:hub.localhost").unwrap();
        let now = UnixMillis(1_700_000_000_000);
        let message = origin.message(&room, &hub, now.as_u64(), 7).unwrap();
        let size = message.to_canonical().len();
        assert!((450..=560).contains(&size), "{size}");

        let requests = origin.transactions(&[room], &hub, now, 101, 50).unwrap();
        assert_eq!(requests.len(), 3);
        let bodies = requests.iter().map(|request| Json::parse(request.body()).unwrap());
        let pdus: Vec<Json> = bodies
            .flat_map(|body| {
                body.as_object()
                    .unwrap()
                    .get("pdus")
                    .unwrap()
                    .as_array()
                    .unwrap()
                    .to_vec()
            })
            .collect();
        let ids: std::collections::BTreeSet<_> = pdus
            .iter()
            .map(|pdu| nabe_event::event_id_of(pdu.as_object().unwrap()))
            .collect();
        assert_eq!(ids.len(), 101);
    }
}
