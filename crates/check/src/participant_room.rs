//! A room whose hub is one of our servers and in which the subject takes part.

use nabe_event::event_id_of;
use nabe_signing::json::{Json, Object};
use nabe_signing::object;
use nabe_types::UserId;

use crate::author::{self, Stamp};
use crate::case::{Checked, failed};
use crate::context::{Ctx, list, text};
use crate::hosted::Hosted;
use crate::http_client::Reply;
use crate::hub_room::levels;
use crate::peer::Peer;
use crate::subject::{encode, unique};

/// The room.
pub(crate) struct ParticipantRoom<'a> {
    pub(crate) ctx: &'a Ctx,
    pub(crate) hub: &'a Peer,
    pub(crate) id: String,
    /// A user of the hub with level 100.
    pub(crate) creator: UserId,
    /// A user of the subject.
    pub(crate) local: UserId,
}

impl<'a> ParticipantRoom<'a> {
    /// A room at the case's first server: create, creator's join, power levels, join rules. Nobody else is in it.
    pub(crate) fn create(ctx: &'a Ctx, join_rule: &str) -> Self {
        let room = Self::bare(ctx);
        let creator = room.creator.clone();
        room.own("m.room.create", Some(""), object! { "room_version" => "I.1" });
        room.own(
            "m.room.member",
            Some(creator.as_str()),
            object! { "membership" => "join" },
        );
        room.own("m.room.power_levels", Some(""), levels(&creator, &[], Object::new()));
        room.own("m.room.join_rules", Some(""), object! { "join_rule" => join_rule });
        room
    }

    /// A room without any event.
    pub(crate) fn bare(ctx: &'a Ctx) -> Self {
        let hub = ctx.p();
        let id = format!("!{}:{}", unique(), hub.name());
        hub.host(Hosted::new(id.clone(), std::sync::Arc::clone(hub.signer())));
        Self {
            ctx,
            hub,
            id,
            creator: hub.user("creator"),
            local: ctx.user("local"),
        }
    }

    /// A public room that the subject's user has joined.
    pub(crate) async fn joined(ctx: &'a Ctx) -> Checked<Self> {
        let room = Self::create(ctx, "public");
        room.bring_in().await?;
        Ok(room)
    }

    /// Joins the subject's user through the client API, and waits until the user sees the room.
    pub(crate) async fn bring_in(&self) -> Checked<Reply> {
        let reply = self.try_join().await?;
        if reply.status != 200 {
            return failed("the subject's user joins through the hub", reply.brief());
        }
        let join = self.with_room(|room| room.log().last().cloned());
        let join = join.expect("a joined room has events");
        self.shown(join.id.as_str()).await?;
        Ok(reply)
    }

    /// Asks the client API to join; the answer, whatever it is.
    pub(crate) async fn try_join(&self) -> Checked<Reply> {
        let via = object! { "via" => vec![Json::from(self.hub.name())] };
        self.ctx
            .subject()
            .api(&self.local, "POST", &self.path("/join"), Some(&via))
            .await
    }

    /// Looks at the hub's side of the room, or changes it.
    pub(crate) fn with_room<T>(&self, change: impl FnOnce(&mut Hosted) -> T) -> T {
        self.hub.with_room(&self.id, change)
    }

    /// A user of the hub sends an event: appended, not sent.
    pub(crate) fn own(&self, event_type: &str, state_key: Option<&str>, content: Object) -> Object {
        let creator = self.creator.clone();
        self.with_room(|room| room.own(event_type, state_key, creator.as_str(), content))
    }

    /// A partial event of this room.
    pub(crate) fn event(&self, sender: &UserId, event_type: &str, state_key: Option<&str>, content: Object) -> Object {
        author::partial(&self.id, event_type, state_key, sender.as_str(), content)
    }

    /// An LPDU of a third server for this room's hub.
    pub(crate) fn lpdu(
        &self,
        peer: &Peer,
        sender: &UserId,
        event_type: &str,
        key: Option<&str>,
        content: Object,
    ) -> Object {
        let event = self.event(sender, event_type, key, content);
        author::seal_lpdu(event, self.hub.name().as_str(), peer.signer())
    }

    /// A user of a third server enters: appended and sent to the subject.
    pub(crate) async fn admit(&self, peer: &Peer, user: &UserId) -> Checked {
        let content = object! { "membership" => "join" };
        let lpdu = self.lpdu(peer, user, "m.room.member", Some(user.as_str()), content);
        let pdu = self.with_room(|room| room.complete_and_append(lpdu));
        self.deliver(&pdu).await.map(|_| ())
    }

    /// A message by the hub's user, appended and sent.
    pub(crate) async fn post(&self, body: &str) -> Checked<Object> {
        let pdu = self.own("m.room.message", None, object! { "body" => body });
        self.deliver(&pdu).await?;
        Ok(pdu)
    }

    /// Appends an event to the hub's log as it is and sends it.
    pub(crate) async fn append(&self, pdu: Object) -> Checked<Object> {
        let pdu = self.with_room(|room| room.append(pdu));
        self.deliver(&pdu).await
    }

    /// Sends an event to the subject. The answer must be 200; it is `failed_pdus`.
    pub(crate) async fn deliver(&self, pdu: &Object) -> Checked<Object> {
        deliver(self.hub, pdu).await
    }

    /// Sends an event that the subject must drop: it is not reported, and never shown.
    pub(crate) async fn drops(&self, what: &str, pdu: &Object) -> Checked {
        let failed_pdus = self.deliver(pdu).await?;
        let is_dropped = failed_pdus.is_empty();
        self.ctx
            .check("dropped, not reported", is_dropped, || failed_pdus.to_string())?;
        self.never_shown(what, pdu).await
    }

    /// Posts a message that comes after everything so far and waits until the subject's user sees it.
    pub(crate) async fn fence(&self) -> Checked {
        let fence = self.post("fence").await?;
        self.shown(event_id_of(&fence).as_str()).await.map(|_| ())
    }

    /// Waits until the subject's user sees the event with this ID.
    pub(crate) async fn shown(&self, event_id: &str) -> Checked<Object> {
        let what = format!("the subject shows {event_id}");
        self.ctx
            .eventually(&what, || async {
                let timeline = self.timeline().await?;
                Ok(timeline.into_iter().find(|event| text(event, "event_id") == event_id))
            })
            .await
    }

    /// The event is not shown, as seen after another one that came later.
    pub(crate) async fn never_shown(&self, what: &str, pdu: &Object) -> Checked {
        self.fence().await?;
        self.not_shown(what, pdu).await
    }

    /// The event is not shown now.
    pub(crate) async fn not_shown(&self, what: &str, pdu: &Object) -> Checked {
        let (stamp, id) = (Stamp::of(pdu), event_id_of(pdu));
        let timeline = self.timeline().await?;
        let found = timeline
            .iter()
            .find(|event| text(event, "event_id") == id.as_str() || (stamp.is_some() && Stamp::of(event) == stamp));
        let is_absent = found.is_none();
        self.ctx
            .check(&format!("{what}: not shown"), is_absent, || format!("{found:?}"))
    }

    /// What the subject's user sees, oldest first. Nothing where the room is not there or closed to the user; that a user sees
    /// nothing for another reason says nothing about the room.
    pub(crate) async fn timeline(&self) -> Checked<Vec<Object>> {
        let path = self.path("/events?dir=b&limit=100");
        let reply = self.ctx.subject().api(&self.local, "GET", &path, None).await?;
        let mut events = match reply.status {
            200 => list(&reply.object(), "events"),
            403 | 404 => Vec::new(),
            _ => return failed("the room's timeline: 200, 403 or 404", reply.brief()),
        };
        events.reverse();
        Ok(events)
    }

    /// An event by the subject's user through the client API; the answer, whatever it is.
    pub(crate) async fn send_as_local(
        &self,
        event_type: &str,
        state_key: Option<&str>,
        content: Object,
    ) -> Checked<Reply> {
        let mut body = object! { "type" => event_type, "content" => content };
        if let Some(state_key) = state_key {
            body.insert("state_key", state_key);
        }
        let path = self.path("/events");
        self.ctx.subject().api(&self.local, "POST", &path, Some(&body)).await
    }

    /// E10 at the subject with this event; the answer, whatever it is.
    pub(crate) async fn invite(&self, pdu: &Object, version: &str) -> Checked<Reply> {
        let stripped = self.with_room(|room| room.stripped());
        let body = object! {
            "event" => pdu.clone(), "invite_room_state" => stripped, "room_version" => version,
        };
        let uri = format!("/_matrix/federation/v3/invite/{}", unique());
        self.hub.call("POST", &uri, Some(&body)).await
    }

    /// The invite of the subject's user by the room's creator, not appended.
    pub(crate) fn invite_event(&self) -> Object {
        let content = object! { "membership" => "invite" };
        let event = self.event(&self.creator, "m.room.member", Some(self.local.as_str()), content);
        self.with_room(|room| {
            let (auth, prev) = (room.auth_events(&event), room.head());
            author::seal_pdu(event, &auth, &prev, self.hub.signer())
        })
    }

    /// Path of the client API below this room.
    pub(crate) fn path(&self, rest: &str) -> String {
        format!("/rooms/{}{rest}", encode(&self.id))
    }
}

/// Sends one event from a server to the subject, which must answer 200. Returns `failed_pdus`.
pub(crate) async fn deliver(from: &Peer, pdu: &Object) -> Checked<Object> {
    let reply = from
        .transact(object! { "pdus" => vec![Json::from(pdu.clone())] })
        .await?;
    if reply.status != 200 {
        return failed("transaction: 200", reply.brief());
    }
    match reply.object().get("failed_pdus").and_then(Json::as_object) {
        Some(failed) => Ok(failed.clone()),
        None => failed("an object `failed_pdus`", reply.object().to_string()),
    }
}
