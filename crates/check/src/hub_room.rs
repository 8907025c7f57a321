//! A room of the subject, which is its hub, and what participants do in it.

use nabe_event::{RoomVersionRules, event_id_of};
use nabe_signing::json::{Json, Object};
use nabe_signing::object;
use nabe_types::UserId;

use crate::author::{self, Stamp};
use crate::case::{Checked, failed};
use crate::context::{Ctx, list, member, text};
use crate::http_client::Reply;
use crate::peer::Peer;
use crate::subject::{encode, unique};

/// The room.
pub(crate) struct HubRoom<'a> {
    pub(crate) ctx: &'a Ctx,
    pub(crate) id: String,
    /// Who created it: level 100 unless the case says otherwise.
    pub(crate) creator: UserId,
}

/// How the subject is to refuse an event.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Refusal {
    /// Rejected: the event is in `failed_pdus` under its ID.
    Reported,
    /// Dropped: as if it had never been received.
    Silent,
    /// Either will do.
    Either,
}

impl<'a> HubRoom<'a> {
    /// A room made by these options of the client API.
    pub(crate) async fn create(ctx: &'a Ctx, options: Object) -> Checked<Self> {
        Self::create_by(ctx, ctx.user("creator"), options).await
    }

    pub(crate) async fn create_by(ctx: &'a Ctx, creator: UserId, options: Object) -> Checked<Self> {
        let created = ctx.api(&creator, "POST", "/rooms", Some(&options)).await?;
        let id = text(&created, "room_id").to_owned();
        if id.is_empty() {
            return failed("the new room's `room_id`", created.to_string());
        }
        Ok(Self { ctx, id, creator })
    }

    /// A room that anybody may join.
    pub(crate) async fn public(ctx: &'a Ctx) -> Checked<Self> {
        Self::create(ctx, object! { "join_rule" => "public" }).await
    }

    /// A public room with these levels beside the creator's 100, and these other fields of the power levels.
    pub(crate) async fn with_levels(ctx: &'a Ctx, users: &[(&UserId, i64)], others: Object) -> Checked<Self> {
        let levels = levels(&ctx.user("creator"), users, others);
        Self::create(ctx, object! { "join_rule" => "public", "power_levels" => levels }).await
    }

    /// A partial event of this room.
    pub(crate) fn event(&self, sender: &UserId, event_type: &str, state_key: Option<&str>, content: Object) -> Object {
        author::partial(&self.id, event_type, state_key, sender.as_str(), content)
    }

    /// An LPDU of this room, well-formed and signed.
    pub(crate) fn lpdu(
        &self,
        peer: &Peer,
        sender: &UserId,
        event_type: &str,
        state_key: Option<&str>,
        content: Object,
    ) -> Object {
        self.seal(peer, self.event(sender, event_type, state_key, content))
    }

    /// A message, well-formed and signed.
    pub(crate) fn message(&self, peer: &Peer, sender: &UserId, body: &str) -> Object {
        self.lpdu(peer, sender, "m.room.message", None, object! { "body" => body })
    }

    /// A membership event, well-formed and signed.
    pub(crate) fn membership(&self, peer: &Peer, sender: &UserId, target: &UserId, membership: &str) -> Object {
        let content = object! { "membership" => membership };
        self.lpdu(peer, sender, "m.room.member", Some(target.as_str()), content)
    }

    pub(crate) fn seal(&self, peer: &Peer, event: Object) -> Object {
        author::seal_lpdu(event, self.ctx.subject_name().as_str(), peer.signer())
    }

    /// E13, E15 or E11: the answer, whatever it is.
    pub(crate) async fn make(&self, peer: &Peer, what: &str, user: &str, versions: &[&str]) -> Checked<Reply> {
        let versions: Vec<_> = versions.iter().map(|version| format!("ver={version}")).collect();
        let query = if versions.is_empty() {
            String::new()
        } else {
            format!("?{}", versions.join("&"))
        };
        let (room, user) = (encode(&self.id), encode(user));
        let uri = format!("/_matrix/federation/v1/{what}/{room}/{user}{query}");
        peer.call("GET", &uri, None).await
    }

    /// E14, E16 or E12: the answer, whatever it is.
    pub(crate) async fn send_membership(&self, peer: &Peer, what: &str, lpdu: &Object) -> Checked<Reply> {
        let uri = format!("/_matrix/federation/v3/{what}/{}", unique());
        peer.call("POST", &uri, Some(lpdu)).await
    }

    /// E10 by a participant: the answer, whatever it is.
    pub(crate) async fn invite(&self, peer: &Peer, lpdu: &Object) -> Checked<Reply> {
        let body = object! { "event" => lpdu.clone(), "room_version" => "I.1" };
        let uri = format!("/_matrix/federation/v3/invite/{}", unique());
        peer.call("POST", &uri, Some(&body)).await
    }

    /// Joins by make_join and send_join. The answer of send_join: `state`, `auth_chain`, `event`.
    pub(crate) async fn join(&self, peer: &Peer, user: &UserId) -> Checked<Object> {
        let made = self
            .make(peer, "make_join", user.as_str(), &["I.1", UNSTABLE_VERSION])
            .await?;
        if made.status != 200 {
            return failed(format!("make_join of {user}: 200"), made.brief());
        }
        let lpdu = self.membership(peer, user, user, "join");
        let sent = self.send_membership(peer, "send_join", &lpdu).await?;
        if sent.status != 200 {
            return failed(format!("send_join of {user}: 200"), sent.brief());
        }
        Ok(sent.object())
    }

    /// Sends events in one transaction, which must be answered with 200. Returns `failed_pdus`.
    pub(crate) async fn submit(&self, peer: &Peer, events: &[&Object]) -> Checked<Object> {
        let pdus: Vec<Json> = events.iter().map(|event| (*event).clone().into()).collect();
        let reply = peer.transact(object! { "pdus" => pdus }).await?;
        if reply.status != 200 {
            return failed("transaction: 200", reply.brief());
        }
        match reply.object().get("failed_pdus").and_then(Json::as_object) {
            Some(failed) => Ok(failed.clone()),
            None => failed("an object `failed_pdus`", reply.object().to_string()),
        }
    }

    /// Sends an event that must become part of the room. Returns the echo.
    pub(crate) async fn accepted(&self, peer: &Peer, lpdu: &Object) -> Checked<Object> {
        let refused = self.submit(peer, &[lpdu]).await?;
        if !refused.is_empty() {
            return failed("the event is accepted", format!("failed_pdus {refused}"));
        }
        let stamp = Stamp::of(lpdu).expect("an acceptable event has sender and timestamp");
        peer.received_event(self.ctx.deadline(), &stamp).await
    }

    /// Sends an event that must not become part of the room.
    pub(crate) async fn refused(&self, peer: &Peer, what: &str, lpdu: &Object, refusal: Refusal) -> Checked {
        let failed_pdus = self.submit(peer, &[lpdu]).await?;
        let id = event_id_of(lpdu);
        let reported = failed_pdus.get(id.as_str()).and_then(Json::as_object);
        let got = || format!("failed_pdus {failed_pdus}, for LPDU {id}");
        match refusal {
            Refusal::Reported => {
                let says_why = reported.is_some_and(|entry| entry.get("error").and_then(Json::as_str).is_some());
                self.ctx.check(
                    &format!("{what}: rejected with an `error` under the LPDU's ID"),
                    says_why,
                    got,
                )?;
            }
            Refusal::Silent => {
                let is_empty = failed_pdus.is_empty();
                self.ctx
                    .check(&format!("{what}: dropped, not in failed_pdus"), is_empty, got)?;
            }
            Refusal::Either => self.ctx.observe(format!("{what}: failed_pdus {failed_pdus}")),
        }
        let stamp = Stamp::of(lpdu);
        self.absent(what, stamp.as_ref(), &[peer]).await
    }

    /// An event with this stamp is not part of the room and was sent to nobody, as seen after another event that came
    /// later. Peers that are not in the room see none of it.
    pub(crate) async fn absent(&self, what: &str, stamp: Option<&Stamp>, peers: &[&Peer]) -> Checked {
        let fence = self.post("fence").await?;
        let timeline = self.timeline(&self.creator).await?;
        if !timeline.iter().any(|event| text(event, "event_id") == fence) {
            return failed("a later event is in the timeline", format!("no {fence}"));
        }
        let Some(stamp) = stamp else { return Ok(()) };
        let is_it = |event: &Object| Stamp::of(event).as_ref() == Some(stamp);
        if timeline.iter().any(is_it) {
            return failed(format!("{what}: not in the room"), "it is in the room's timeline");
        }
        let members = self.members().await?;
        for peer in peers {
            let joined = members.iter().any(|member| {
                text(member, "membership") == "join" && text(member, "user_id").ends_with(&format!(":{}", peer.name()))
            });
            if joined {
                self.wait_for(peer, &fence).await?;
            }
            if peer.received_pdus().iter().any(is_it) {
                return failed(
                    format!("{what}: sent to nobody"),
                    format!("{} received it", peer.name()),
                );
            }
        }
        Ok(())
    }

    /// A message by the creator, through the client API. Returns its event ID.
    pub(crate) async fn post(&self, body: &str) -> Checked<String> {
        self.send_as(&self.creator, "m.room.message", None, object! { "body" => body })
            .await
    }

    /// An event by a local user, through the client API. Returns its event ID.
    pub(crate) async fn send_as(
        &self,
        user: &UserId,
        event_type: &str,
        state_key: Option<&str>,
        content: Object,
    ) -> Checked<String> {
        let mut body = object! { "type" => event_type, "content" => content };
        if let Some(state_key) = state_key {
            body.insert("state_key", state_key);
        }
        let sent = self.ctx.api(user, "POST", &self.path("/events"), Some(&body)).await?;
        match sent.get("event_id").and_then(Json::as_str) {
            Some(id) => Ok(id.to_owned()),
            None => failed("an `event_id` at the hub", sent.to_string()),
        }
    }

    /// Membership actions of the creator: `invite`, `kick`, `ban`, `unban`. The answer must be 200.
    pub(crate) async fn act(&self, action: &str, target: &UserId) -> Checked {
        let body = object! { "user_id" => target };
        let path = self.path(&format!("/{action}"));
        self.ctx
            .api(&self.creator, "POST", &path, Some(&body))
            .await
            .map(|_| ())
    }

    /// Waits until a server received the event with this ID, which the server computes itself.
    pub(crate) async fn wait_for(&self, peer: &Peer, event_id: &str) -> Checked<Object> {
        let ctx = self.ctx;
        ctx.eventually(&format!("{} receives {event_id}", peer.name()), || async {
            let received = peer.received_pdus();
            Ok(received
                .into_iter()
                .rev()
                .find(|pdu| event_id_of(pdu).as_str() == event_id))
        })
        .await
    }

    /// The newest events as the client API shows them, oldest first, at most 100.
    pub(crate) async fn timeline(&self, user: &UserId) -> Checked<Vec<Object>> {
        let page = self
            .ctx
            .api(user, "GET", &self.path("/events?dir=b&limit=100"), None)
            .await?;
        let mut events = list(&page, "events");
        events.reverse();
        Ok(events)
    }

    /// All members, as the client API shows them.
    pub(crate) async fn members(&self) -> Checked<Vec<Object>> {
        let members = self.ctx.api(&self.creator, "GET", &self.path("/members"), None).await?;
        Ok(list(&members, "members"))
    }

    /// The membership of one user, as the client API shows it; empty if there is none.
    pub(crate) async fn membership_of(&self, user: &UserId) -> Checked<String> {
        let members = self.members().await?;
        let found = members.iter().find(|member| text(member, "user_id") == user.as_str());
        Ok(found
            .map(|member| text(member, "membership").to_owned())
            .unwrap_or_default())
    }

    /// The content of one state event, as the client API shows it; empty if there is none.
    pub(crate) async fn state_content(&self, event_type: &str) -> Checked<Object> {
        let state = self.ctx.api(&self.creator, "GET", &self.path("/state"), None).await?;
        let found = list(&state, "state")
            .into_iter()
            .find(|event| text(event, "type") == event_type && text(event, "state_key").is_empty());
        Ok(found.map(|event| member(&event, "content")).unwrap_or_default())
    }

    /// The room's newest events as PDUs, oldest first, at most 100, by a joined server's backfill.
    pub(crate) async fn log(&self, peer: &Peer) -> Checked<Vec<Object>> {
        let timeline = self.timeline(&self.creator).await?;
        let newest = timeline.last().map(|event| text(event, "event_id")).unwrap_or_default();
        let reply = self.backfill(peer, newest, "100").await?;
        if reply.status != 200 {
            return failed("backfill: 200", reply.brief());
        }
        Ok(list(&reply.object(), "pdus"))
    }

    /// E9: the answer, whatever it is.
    pub(crate) async fn backfill(&self, peer: &Peer, v: &str, limit: &str) -> Checked<Reply> {
        let (room, v) = (encode(&self.id), encode(v));
        let uri = format!("/_matrix/federation/v2/backfill/{room}?v={v}&limit={limit}");
        peer.call("GET", &uri, None).await
    }

    /// Path of the client API below this room.
    pub(crate) fn path(&self, rest: &str) -> String {
        format!("/rooms/{}{rest}", encode(&self.id))
    }
}

/// Content of power levels: 100 for the creator, and these.
pub(crate) fn levels(creator: &UserId, users: &[(&UserId, i64)], others: Object) -> Object {
    let mut of_users = object! { creator.as_str() => 100 };
    for (user, level) in users {
        of_users.insert(user.as_str(), *level);
    }
    let mut levels = object! {
        "ban" => 50, "events" => Object::new(), "events_default" => 0, "invite" => 0, "kick" => 50, "redact" => 50,
        "state_default" => 50, "users_default" => 0, "users" => of_users,
    };
    for (key, value) in others {
        levels.insert(key, value);
    }
    levels
}

/// The algorithms of the rooms that the checks make.
pub(crate) const RULES: &RoomVersionRules = &RoomVersionRules::I1;
/// The draft's room version for tests.
pub(crate) const UNSTABLE_VERSION: &str = "org.matrix.i-d.ralston-mimi-linearized-matrix.02";
