//! Entering, asking to enter and declining rooms whose hub is another server, from our side: `make_join` and `send_join`, the same
//! for knocks and leaves (LM #int-transport-make-and-send), and inviting through the hub (LM #int-api-invite).
//!
//! Who the hub is must be guessed (the draft leaves it open): for an invite it is the server that sent it, otherwise the servers
//! the user names, and at last the one in the room ID. A server that knows better says so in its `M_WRONG_SERVER`.
//!
//! The hub may fan out events of the room before its answer to `send_join` is here. While a join is in progress they are parked
//! and taken in afterwards.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;

use bytes::Bytes;
use nabe_core::{Checkpoint, Ctx, Input, Outcome, Reply, Role, RoomMeta, bootstrap_participant, rejoin_participant};
use nabe_event::{Pdu, RawEvent, RoomVersionRules, VerifiedLpdu, event_id_of};
use nabe_signing::json::{Json, Object};
use nabe_signing::object;
use nabe_store::{Batch, PendingMembership, PendingRoom, Write};
use nabe_types::{EventId, LogPosition, RoomId, RoomVersionId, ServerName, UserId};

use crate::client::{NewEvent, Sent, SentStatus};
use crate::error::Missing;
use crate::failed_pdu::{MAX_ERROR_CHARS, cut};
use crate::hooks::LpduFate;
use crate::incoming::{CheckedVerdict, Malformed};
use crate::invite::stripped;
use crate::ports::{Method, PeerError, PeerRequest, PeerResponse};
use crate::wire::federation_request;
use crate::{Service, ServiceError};

/// Which of the three make-and-send pairs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Handshake {
    Join,
    Knock,
    Leave,
}

/// What the hub answered to `send_join`.
struct Welcome {
    state: Vec<Pdu>,
    auth_chain: Vec<Pdu>,
    join: Pdu,
    version: RoomVersionId,
}

impl Service {
    /// Joins a room none of our users is in (LM #int-api-make-join, #int-api-send-join).
    pub(crate) async fn join_remote(
        &self,
        user: &UserId,
        room: &RoomId,
        via: &[ServerName],
    ) -> Result<Sent, ServiceError> {
        let pending = self.store().pending_room(user, room).await?;
        let candidates = self.candidates(room, pending.as_ref(), via).await?;
        // While this lives, events of the room are parked if they come from a server we asked.
        let joining = self.begin_join(room);
        let sent = self
            .ask_around(candidates, |hub| {
                joining.ask(&hub);
                self.join_through(user, room, hub, pending.as_ref())
            })
            .await?;
        if let Err(error) = self.drain_parked(room).await {
            // They stay parked, and are tried again before long.
            tracing::warn!(%room, %error, "could not take in what arrived during a join");
        }
        drop(joining);
        Ok(sent)
    }

    /// Asks to be let into a room none of our users is in (LM #int-api-make-knock, #int-api-send-knock).
    pub(crate) async fn knock_remote(
        &self,
        user: &UserId,
        room: &RoomId,
        via: &[ServerName],
        event: NewEvent,
    ) -> Result<(), ServiceError> {
        let pending = self.store().pending_room(user, room).await?;
        let candidates = self.candidates(room, pending.as_ref(), via).await?;
        let (hub, version, lpdu, answer) = self
            .ask_around(candidates, |hub| {
                let event = event.clone();
                let version = pending.as_ref().map(|pending| pending.version.clone());
                async move {
                    self.make_and_send(Handshake::Knock, user, room, &hub, version, event)
                        .await
                }
            })
            .await?;
        let state = answer.get("stripped_state").and_then(Json::as_array);
        let state = state.unwrap_or_default().iter().cloned();
        let stripped_state = Json::Array(state.filter_map(stripped).collect());
        let pending = PendingRoom {
            user: user.clone(),
            room: room.clone(),
            membership: PendingMembership::Knock,
            hub,
            version,
            stripped_state: stripped_state.to_canonical().into(),
            event: Some(Bytes::copy_from_slice(lpdu.bytes())),
            at: self.now(),
        };
        self.commit(Batch(self.pending_writes(pending, user))).await?;
        self.notify_inbox(user);
        Ok(())
    }

    /// Rejects an invite or takes back a knock, in a room none of our users is in (LM #int-api-make-leave, #int-api-send-leave).
    /// Whether the hub knows: when it cannot be reached, the invite is taken off the user's list all the same.
    pub(crate) async fn leave_remote(&self, user: &UserId, room: &RoomId) -> Result<bool, ServiceError> {
        let pending = self
            .store()
            .pending_room(user, room)
            .await?
            .ok_or(ServiceError::NotFound(Missing::Room))?;
        let candidates = self.candidates(room, Some(&pending), &[]).await?;
        let event = own_membership(user, "leave");
        let told = self
            .ask_around(candidates, |hub| {
                let (event, version) = (event.clone(), Some(pending.version.clone()));
                async move {
                    self.make_and_send(Handshake::Leave, user, room, &hub, version, event)
                        .await
                }
            })
            .await;
        let hub_told = match told {
            Ok(_) => true,
            // The room, or the invite, is gone: there is nothing left to reject.
            Err(ServiceError::NotFound(_) | ServiceError::RejectedByHub { .. }) => true,
            Err(error @ (ServiceError::Store(_) | ServiceError::ShuttingDown)) => return Err(error),
            // Whatever else is wrong with the hub, an invite is not its user's for good.
            Err(error) => {
                tracing::info!(%room, %user, hub = %pending.hub, %error, "forgot an invite without the hub knowing");
                false
            }
        };
        self.commit(
            Write::RemovePending {
                user: user.clone(),
                room: room.clone(),
            }
            .into(),
        )
        .await?;
        self.notify_inbox(user);
        Ok(hub_told)
    }

    /// Has the hub invite a user whose server does not take part in the room yet (LM #int-api-invite).
    pub(crate) async fn invite_through_hub(
        &self,
        meta: &RoomMeta,
        hub: &ServerName,
        user: &UserId,
        event: NewEvent,
    ) -> Result<Sent, ServiceError> {
        let lpdu = self.build_lpdu(meta, hub, user, event)?;
        let stripped = self.read_room(&meta.room_id, |view| view.stripped_state()).await?;
        let lpdu_id = lpdu.lpdu_id().clone();
        let fate = self.wait_for_lpdu(lpdu_id.clone());
        let body = object! {
            "event" => lpdu.event().object().clone(),
            "invite_room_state" => Json::from(stripped),
            "room_version" => meta.version.as_str(),
        };
        let request = post("invite", &self.new_txn_id(), &body, self);
        let answer = self.call(hub, request).await?;
        // LM #int-api-invite: the answer holds `pdu`; both other implementations say `event`.
        let pdu = ["pdu", "event"]
            .into_iter()
            .find_map(|key| answer.get(key).and_then(Json::as_object));
        let pdu = pdu.ok_or_else(|| bad_answer(hub, "the invite is not in it"))?;
        let event_id = event_id_of(pdu);
        let echo = tokio::select! {
            fate = fate => fate.ok(),
            () = self.clock().sleep(self.settings().echo_wait) => None,
            () = self.stopping() => None,
        };
        let position = match echo {
            Some(LpduFate::Appended { position, .. }) => Some(position),
            _ => None,
        };
        let status = if position.is_some() {
            SentStatus::Appended
        } else {
            SentStatus::Queued
        };
        Ok(Sent {
            event_id: Some(event_id),
            position,
            lpdu_id: Some(lpdu_id),
            status,
        })
    }

    async fn join_through(
        &self,
        user: &UserId,
        room: &RoomId,
        hub: ServerName,
        pending: Option<&PendingRoom>,
    ) -> Result<Sent, ServiceError> {
        let version = pending.map(|pending| pending.version.clone());
        let event = own_membership(user, "join");
        let (hub, version, lpdu, answer) = self
            .make_and_send(Handshake::Join, user, room, &hub, version, event)
            .await?;
        let welcome = self.read_welcome(&hub, room, version, &lpdu, &answer).await?;
        self.enter(user, room, hub, welcome).await
    }

    /// Gets a template, authors the event, and sends it. Returns the hub, the room's version as far as it was told, the event, and
    /// the answer.
    async fn make_and_send(
        &self,
        handshake: Handshake,
        user: &UserId,
        room: &RoomId,
        hub: &ServerName,
        known_version: Option<RoomVersionId>,
        event: NewEvent,
    ) -> Result<(ServerName, RoomVersionId, VerifiedLpdu, Object), ServiceError> {
        let template = self.call(hub, self.make_request(handshake, room, user)).await?;
        let version = match version_in(&template)? {
            Some(version) => version,
            // LM #int-api-make-join returns the bare template, which does not say. What we sign is the same in every version we
            // know; which one it is, the room's create event will tell.
            None => known_version.unwrap_or_else(|| self.settings().default_room_version.clone()),
        };
        if RoomVersionRules::for_id(&version).is_none() {
            return Err(ServiceError::IncompatibleRoomVersion { version });
        }
        let meta = self.participant_meta(room, hub, version.clone());
        let lpdu = self.build_lpdu(&meta, hub, user, event)?;
        let request = post(
            handshake.send_endpoint(),
            &self.new_txn_id(),
            lpdu.event().object(),
            self,
        );
        let answer = self.call(hub, request).await?;
        Ok((hub.clone(), version, lpdu, answer))
    }

    fn make_request(&self, handshake: Handshake, room: &RoomId, user: &UserId) -> PeerRequest {
        let versions = match handshake {
            Handshake::Leave => &[],
            Handshake::Join | Handshake::Knock => RoomVersionRules::SUPPORTED,
        };
        let query: Vec<_> = versions.iter().map(|rules| ("ver", rules.id)).collect();
        let segments = [handshake.make_endpoint(), room.as_str(), user.as_str()];
        let timeout = self.settings().delivery.question_timeout;
        federation_request(Method::Get, "v1", &segments, &query, false, timeout)
    }

    /// Verifies what `send_join` returned. Invalid events are left out; that the join itself is our event, made a PDU by the hub, is
    /// required. State whose signers' keys cannot be had fails the join: what was left out would be missing from our view of the
    /// room for good.
    async fn read_welcome(
        &self,
        hub: &ServerName,
        room: &RoomId,
        told: RoomVersionId,
        lpdu: &VerifiedLpdu,
        answer: &Object,
    ) -> Result<Welcome, ServiceError> {
        let list = |key: &str| answer.get(key).and_then(Json::as_array).unwrap_or_default();
        let (state, auth_chain) = (list("state"), list("auth_chain"));
        if state.len().saturating_add(auth_chain.len()) > MAX_EVENTS {
            return Err(bad_answer(hub, "it holds too many events"));
        }
        let version = version_of_create(state).unwrap_or(told);
        let rules = RoomVersionRules::for_id(&version).ok_or_else(|| ServiceError::IncompatibleRoomVersion {
            version: version.clone(),
        })?;
        let join = answer
            .get("event")
            .and_then(Json::as_object)
            .ok_or_else(|| bad_answer(hub, "it lacks `event`"))?;
        let join = RawEvent::from_json(join.clone(), rules)?;
        let join = self
            .verified(vec![join], hub, &BTreeMap::new())
            .await?
            .pop()
            .ok_or_else(|| bad_answer(hub, "the join is not valid"))?;
        if join.lpdu_id().as_ref() != Some(lpdu.lpdu_id()) || join.hub_server() != Some(hub) {
            return Err(bad_answer(hub, "the join is not the one we sent"));
        }
        let mut seen = BTreeSet::new();
        let mut read = |events: &[Json]| -> Vec<RawEvent> {
            let objects = events.iter().filter_map(Json::as_object).cloned();
            let raw = objects.filter_map(|object| RawEvent::from_json(object, rules).ok());
            raw.filter(|event| event.room_id() == room && seen.insert(event.event_id()))
                .collect()
        };
        let (state, auth_chain) = (read(state), read(auth_chain));
        let state_events = state.iter().filter(|event| event.is_state());
        let required = state_events
            .map(|event| (event.event_id(), event.sender_server().clone()))
            .collect();
        Ok(Welcome {
            state: self.verified(state, hub, &required).await?,
            auth_chain: self.verified(auth_chain, hub, &BTreeMap::new()).await?,
            join,
            version,
        })
    }

    /// Those of the events that are PDUs with valid signatures. Fails if it cannot be told of one that is `required`, given with
    /// its sender's server.
    async fn verified(
        &self,
        events: Vec<RawEvent>,
        hub: &ServerName,
        required: &BTreeMap<EventId, ServerName>,
    ) -> Result<Vec<Pdu>, ServiceError> {
        let checked = self.verify_events(events, Some(hub), true).await?;
        let mut valid = Vec::with_capacity(checked.len());
        for event in checked {
            match event.verdict {
                CheckedVerdict::Pdu(pdu) => valid.push(pdu.into_pdu()),
                CheckedVerdict::LacksKeys { .. } => {
                    tracing::info!(room = %event.room, event_id = %event.event_id, "no keys to verify an event with");
                    if let Some(server) = required.get(&event.event_id) {
                        let (server, error) = (server.clone(), PeerError::Unreachable);
                        return Err(ServiceError::PeerFailed { server, error });
                    }
                }
                CheckedVerdict::Lpdu(_) | CheckedVerdict::Bad(_) => {}
            }
        }
        Ok(valid)
    }

    /// Begins our log of the room, or goes on with it after a gap.
    async fn enter(
        &self,
        user: &UserId,
        room: &RoomId,
        hub: ServerName,
        welcome: Welcome,
    ) -> Result<Sent, ServiceError> {
        let Welcome {
            state,
            auth_chain,
            join,
            version,
        } = welcome;
        let stale = self.parked_before(room, &join).await?;
        let mut outliers = state.clone();
        outliers.extend(auth_chain);
        let open = match self.open_room(room).await {
            Ok(open) => open,
            Err(ServiceError::NotFound(Missing::Room)) => {
                let meta = self.participant_meta(room, &hub, version);
                let (_, checkpoint, outcome) = bootstrap_participant(meta.clone(), state, join, &self.ctx())?;
                let create = Write::CreateRoom {
                    meta,
                    checkpoint: Some(checkpoint),
                    outliers,
                };
                let writes = std::iter::once(create).chain(stale).collect();
                self.commit_entry(user, room, writes, LogPosition::ZERO, &outcome)
                    .await?;
                return Ok(outcome.reply.into());
            }
            Err(error) => return Err(error),
        };
        let (meta, last) = (open.view().meta().clone(), open.view().position());
        if open.view().is_participating(self.server_name()) {
            // Somebody else of ours got in meanwhile: the join is an event like any other.
            drop(open);
            let event = RawEvent::from_json(join.event().object().clone(), meta.rules()?)?;
            return self.take_in(room, event, hub).await;
        }
        if meta.hub(self.server_name()) != &hub {
            return Err(bad_answer(&hub, "it is not the hub we know the room by"));
        }
        let (_, checkpoint, outcome) = rejoin_participant(open.view(), state, join, &self.ctx())?;
        let base = checkpoint.position;
        let rebase = rebase(room, last, checkpoint, outliers);
        let result = self
            .commit_entry(
                user,
                room,
                std::iter::once(rebase).chain(stale).collect(),
                base,
                &outcome,
            )
            .await;
        // The view is that of before, whatever the commit did.
        open.discard();
        result?;
        Ok(outcome.reply.into())
    }

    async fn take_in(&self, room: &RoomId, event: RawEvent, hub: ServerName) -> Result<Sent, ServiceError> {
        let event_id = event.event_id();
        if let Some((_, entry)) = self.store().entry(&event_id).await? {
            return Ok(Reply::AlreadyKnown {
                event_id,
                position: entry.position,
            }
            .into());
        }
        let mut checked = self.verify_events(vec![event], Some(&hub), true).await?;
        match checked.pop().map(|checked| checked.verdict) {
            Some(CheckedVerdict::Pdu(event)) => {
                let reply = self
                    .transact(
                        room,
                        Input::Pdu {
                            event: *event,
                            from: hub,
                            held: None,
                        },
                    )
                    .await?;
                Ok(reply.into())
            }
            _ => Err(bad_answer(&hub, "the join is not valid")),
        }
    }

    /// Takes parked events that come before `join` off the list: they are older than the log that begins with it. An earlier
    /// attempt to join, whose answer was lost, leaves such events behind.
    async fn parked_before(&self, room: &RoomId, join: &Pdu) -> Result<Vec<Write>, ServiceError> {
        let mut prevs = BTreeMap::new();
        for parked in self.store().parked(room).await? {
            let object = Object::parse(&parked.bytes).unwrap_or_default();
            prevs.insert(parked.event_id, Malformed::read(&object).prev);
        }
        let mut writes = Vec::new();
        let mut next = join.prev_events().first().cloned();
        while let Some(event_id) = next.take() {
            // Removing what was visited ends the walk even on a circle.
            if let Some(prev) = prevs.remove(&event_id) {
                writes.push(Write::Unpark {
                    room: room.clone(),
                    event_id,
                });
                next = prev;
            }
        }
        Ok(writes)
    }

    async fn commit_entry(
        &self,
        user: &UserId,
        room: &RoomId,
        mut writes: Vec<Write>,
        expected: LogPosition,
        outcome: &Outcome,
    ) -> Result<(), ServiceError> {
        writes.push(Write::Append {
            room: room.clone(),
            expected,
            entries: outcome.append.clone(),
            followers: Vec::new(),
            now: self.now(),
        });
        writes.push(Write::RemovePending {
            user: user.clone(),
            room: room.clone(),
        });
        self.commit(Batch(writes)).await?;
        let head = outcome.append.last().map_or(expected, |entry| entry.position);
        self.notify_appended(room, head);
        self.notify_inbox(user);
        Ok(())
    }

    fn participant_meta(&self, room: &RoomId, hub: &ServerName, version: RoomVersionId) -> RoomMeta {
        RoomMeta {
            room_id: room.clone(),
            version,
            role: Role::Participant { hub: hub.clone() },
            created_at: self.now(),
        }
    }

    fn ctx(&self) -> Ctx<'_> {
        Ctx {
            now: self.now(),
            server: self.server_name(),
            signer: self.signer(),
        }
    }

    /// Whom to ask, most promising first: the hub we know, the one that invited, those the user names, the one in the room's ID.
    async fn candidates(
        &self,
        room: &RoomId,
        pending: Option<&PendingRoom>,
        via: &[ServerName],
    ) -> Result<VecDeque<ServerName>, ServiceError> {
        let known = self
            .room_meta(room)
            .await?
            .map(|meta| meta.hub(self.server_name()).clone());
        let hinted = pending.map(|pending| pending.hub.clone());
        let guesses = via.iter().take(MAX_VIA).cloned().chain([room.server_name().clone()]);
        let mut candidates = VecDeque::new();
        for server in known.into_iter().chain(hinted).chain(guesses) {
            if !self.is_us(&server) && !candidates.contains(&server) {
                candidates.push_back(server);
            }
        }
        if candidates.is_empty() {
            return Err(ServiceError::NotFound(Missing::Room));
        }
        Ok(candidates)
    }

    /// Asks one server after the other until one does as asked, following hints. The error returned is the one that says most.
    async fn ask_around<T, F>(
        &self,
        mut candidates: VecDeque<ServerName>,
        ask: impl Fn(ServerName) -> F,
    ) -> Result<T, ServiceError>
    where
        F: Future<Output = Result<T, ServiceError>>,
    {
        let mut asked = BTreeSet::new();
        let mut worst: Option<ServiceError> = None;
        while let Some(server) = candidates.pop_front() {
            if asked.len() == MAX_ASKED {
                break;
            }
            if !asked.insert(server.clone()) {
                continue;
            }
            let error = match self.check_policy(&server) {
                Ok(()) => match ask(server).await {
                    Ok(done) => return Ok(done),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            match &error {
                ServiceError::Store(_) | ServiceError::ShuttingDown | ServiceError::RoomTooBusy => return Err(error),
                ServiceError::WrongServer { hub: Some(hub) } if !self.is_us(hub) => candidates.push_front(hub.clone()),
                _ => {}
            }
            if worst.as_ref().is_none_or(|worst| weight(&error) > weight(worst)) {
                worst = Some(error);
            }
        }
        Err(worst.unwrap_or(ServiceError::NotFound(Missing::Room)))
    }

    /// Sends a request and returns the object in a 200 answer.
    async fn call(&self, server: &ServerName, request: PeerRequest) -> Result<Object, ServiceError> {
        self.check_policy(server)?;
        let deadline = self.clock().sleep(request.timeout);
        let answer = tokio::select! {
            answer = self.peers().call(server, request) => answer,
            () = deadline => Err(PeerError::Timeout),
        };
        let response = answer.map_err(|error| ServiceError::PeerFailed {
            server: server.clone(),
            error,
        })?;
        let object = response.json().ok().and_then(Json::into_object);
        if response.status != 200 {
            return Err(refusal(&response, object.as_ref()));
        }
        object.ok_or_else(|| bad_answer(server, "it is not a JSON object"))
    }
}

impl Handshake {
    const fn make_endpoint(self) -> &'static str {
        match self {
            Self::Join => "make_join",
            Self::Knock => "make_knock",
            Self::Leave => "make_leave",
        }
    }

    const fn send_endpoint(self) -> &'static str {
        match self {
            Self::Join => "send_join",
            Self::Knock => "send_knock",
            Self::Leave => "send_leave",
        }
    }
}

fn post(endpoint: &str, txn_id: &str, body: &Object, service: &Service) -> PeerRequest {
    let timeout = service.settings().delivery.request_timeout;
    let mut request = federation_request(Method::Post, "v3", &[endpoint, txn_id], &[], true, timeout);
    request.body = Some(body.to_canonical().into());
    request
}

fn rebase(room: &RoomId, expected: LogPosition, checkpoint: Checkpoint, outliers: Vec<Pdu>) -> Write {
    Write::Rebase {
        room: room.clone(),
        expected,
        checkpoint,
        outliers,
    }
}

fn own_membership(user: &UserId, membership: &str) -> NewEvent {
    NewEvent {
        event_type: "m.room.member".to_owned(),
        state_key: Some(user.to_string()),
        content: object! { "membership" => membership },
    }
}

/// The room version a template comes with; `None` when it is bare.
fn version_in(template: &Object) -> Result<Option<RoomVersionId>, ServiceError> {
    let Some(version) = template.get("room_version") else {
        return Ok(None);
    };
    let version = version
        .as_str()
        .ok_or(ServiceError::BadJson("`room_version` must be a string"))?;
    Ok(Some(RoomVersionId::parse(version)?))
}

/// `room_version` of the create event among these events.
fn version_of_create(events: &[Json]) -> Option<RoomVersionId> {
    let is_create = |event: &&Object| event.get("type").and_then(Json::as_str) == Some("m.room.create");
    let create = events.iter().filter_map(Json::as_object).find(is_create)?;
    let version = create
        .get("content")
        .and_then(Json::as_object)?
        .get("room_version")
        .and_then(Json::as_str)?;
    RoomVersionId::parse(version).ok()
}

/// What an answer other than 200 means.
fn refusal(response: &PeerResponse, body: Option<&Object>) -> ServiceError {
    let text = |key: &str| body.and_then(|body| body.get(key)).and_then(Json::as_str);
    let message = || cut(text("error").unwrap_or("no reason given"), MAX_ERROR_CHARS);
    match (response.status, text("errcode")) {
        (_, Some("M_WRONG_SERVER")) => {
            let hub = text("hub_server").and_then(|hub| ServerName::parse(hub).ok());
            ServiceError::WrongServer { hub }
        }
        (_, Some("M_INCOMPATIBLE_ROOM_VERSION")) => match text("room_version").map(RoomVersionId::parse) {
            Some(Ok(version)) => ServiceError::IncompatibleRoomVersion { version },
            _ => proxied(response, body),
        },
        (429, _) => ServiceError::LimitExceeded {
            retry_after: response.retry_after.unwrap_or_default(),
        },
        (403, Some("M_FORBIDDEN")) => ServiceError::RejectedByHub {
            message: message(),
            current_epoch: None,
        },
        (404, Some("M_NOT_FOUND")) => ServiceError::NotFound(Missing::Room),
        _ => proxied(response, body),
    }
}

/// Only a JSON object with an `errcode` is passed on.
fn proxied(response: &PeerResponse, body: Option<&Object>) -> ServiceError {
    let mut passed = object! { "errcode" => "M_UNKNOWN" };
    for key in ["errcode", "error"] {
        if let Some(text) = body.and_then(|body| body.get(key)).and_then(Json::as_str) {
            passed.insert(key, cut(text, MAX_ERROR_CHARS));
        }
    }
    ServiceError::Proxied {
        status: response.status,
        body: passed.to_canonical().into(),
    }
}

fn bad_answer(server: &ServerName, what: &'static str) -> ServiceError {
    ServiceError::BadAnswer {
        server: server.clone(),
        what,
    }
}

/// How much an error says about why a room cannot be entered.
const fn weight(error: &ServiceError) -> u8 {
    match error {
        ServiceError::RejectedByHub { .. } => 5,
        ServiceError::IncompatibleRoomVersion { .. } | ServiceError::Refused(_) => 4,
        ServiceError::BadAnswer { .. } | ServiceError::Proxied { .. } | ServiceError::LimitExceeded { .. } => 3,
        ServiceError::PeerFailed { .. } => 2,
        ServiceError::NotFound(_) => 1,
        _ => 0,
    }
}

/// Servers named by the user that are considered.
const MAX_VIA: usize = 10;
/// Servers asked, hints included.
const MAX_ASKED: usize = 16;
/// Events of a room's state and auth chain that are read.
const MAX_EVENTS: usize = 200_000;

#[cfg(test)]
mod tests;
