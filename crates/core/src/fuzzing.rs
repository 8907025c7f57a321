//! One hub and two participants in one thread, driven by bytes: the body of the fuzz target and of the crate's property tests.
//!
//! Whatever the operations and however deliveries are reordered, every participant's log must equal the hub's, restricted to the intervals
//! the hub says it is owed.

use std::collections::BTreeSet;

use nabe_auth::lm::JoinRule;
use nabe_event::{EventBuilder, Pdu, RawEvent};
use nabe_signing::json::Object;
use nabe_signing::keys::KeySet;
use nabe_signing::{Signer, SigningKey, object};
use nabe_types::{EventId, KeyId, LogPosition, RoomId, RoomVersionId, ServerName, UnixMillis, UserId};

use crate::backfill::{Gap, Link, close_gap};
use crate::state::MEMBER;
use crate::{
    Checkpoint, Ctx, Decision, Entry, EventDraft, FollowerChange, Input, Outcome, Question, Refusal, Reply, Role,
    RoomMeta, RoomSpec, RoomView, State, Via, bootstrap_participant, create_room, rejoin_participant,
};

/// Reads `data` as operations of three bytes each and checks every invariant. Panics if one does not hold.
pub fn room(data: &[u8]) {
    let mut world = World::new();
    for operation in data.chunks_exact(3).take(MAX_OPERATIONS) {
        world.step(operation[0], operation[1], operation[2]);
    }
    world.deliver_everything();
    world.check();
}

/// A hub, its two participants, and what is on its way to them.
pub(crate) struct World {
    signer: Signer,
    keys: KeySet,
    now: UnixMillis,
    pub(crate) hub: RoomView,
    pub(crate) log: Vec<Entry>,
    pub(crate) intervals: Vec<Interval>,
    pub(crate) participants: [Peer; 2],
}

/// A stretch of the hub's log that a server is owed; `until` is inclusive, `None` while it goes on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Interval {
    pub(crate) server: ServerName,
    pub(crate) from: LogPosition,
    pub(crate) until: Option<LogPosition>,
    /// One event about a user, not a time of taking part.
    pub(crate) once: bool,
}

/// A participant, and what the hub has sent it so far that has not arrived.
pub(crate) struct Peer {
    pub(crate) signer: Signer,
    pub(crate) view: Option<RoomView>,
    pub(crate) log: Vec<Entry>,
    pub(crate) inbox: Vec<Pdu>,
}

impl World {
    /// A new public room with two moderators on the hub.
    pub(crate) fn new() -> Self {
        Self::begun_at(UnixMillis(1_700_000_000_000))
    }

    pub(crate) fn begun_at(now: UnixMillis) -> Self {
        let participants = PEERS.map(|(name, seed)| Peer {
            signer: signer(name, seed),
            view: None,
            log: Vec::new(),
            inbox: Vec::new(),
        });
        let signer = signer(HUB, 1);
        let mut keys = KeySet::new();
        keys.insert_signer(&signer);
        participants.iter().for_each(|peer| keys.insert_signer(&peer.signer));
        let spec = RoomSpec {
            join_rule: JoinRule::Public,
            ..RoomSpec::new(room_id(), version(), user(0))
        };
        let ctx = Ctx {
            now,
            server: signer.server(),
            signer: &signer,
        };
        let (hub, outcome) = create_room(spec, &ctx).expect("the specification is valid");
        Self {
            signer,
            keys,
            now,
            hub,
            log: outcome.append,
            intervals: Vec::new(),
            participants,
        }
    }

    /// One operation: what, by whom, and about whom or how.
    pub(crate) fn step(&mut self, operation: u8, actor: u8, argument: u8) {
        let (actor, target) = (user(actor), user(argument));
        let member = |membership: &str| object! { "membership" => membership };
        match operation % 18 {
            0 | 1 => drop(self.send(&actor, "m.room.encrypted", None, object! { "n" => i64::from(argument) })),
            2 => drop(self.send(
                &actor,
                "m.room.topic",
                Some(""),
                object! { "topic" => i64::from(argument) },
            )),
            3 | 4 => drop(self.send(&actor, MEMBER, Some(actor.as_str()), member("join"))),
            5 => drop(self.send(&actor, MEMBER, Some(actor.as_str()), member("leave"))),
            6 => drop(self.send(&actor, MEMBER, Some(target.as_str()), member("invite"))),
            7 => drop(self.send(&actor, MEMBER, Some(target.as_str()), member("leave"))),
            8 => drop(self.send(&actor, MEMBER, Some(target.as_str()), member("ban"))),
            9 => drop(self.send(&actor, MEMBER, Some(actor.as_str()), member("knock"))),
            10 => {
                let rule = ["public", "knock", "invite"][usize::from(argument) % 3];
                drop(self.send(&actor, "m.room.join_rules", Some(""), object! { "join_rule" => rule }));
            }
            11 => {
                let users = object! { user(0).as_str() => 100, target.as_str() => 50 };
                drop(self.send(&actor, "m.room.power_levels", Some(""), object! { "users" => users }));
            }
            12 => self.deliver_all(usize::from(argument) % 2),
            13 | 14 => self.deliver_one(usize::from(argument) % 2, usize::from(argument) / 2),
            15 => self.restart_hub(usize::from(argument)),
            _ => drop(self.misbehave(&actor, &target, operation)),
        }
    }

    /// A user sends an event, through their server, to the end.
    pub(crate) fn send(
        &mut self,
        sender: &UserId,
        event_type: &str,
        state_key: Option<&str>,
        content: Object,
    ) -> Result<Reply, Refusal> {
        self.now = UnixMillis(self.now.as_u64() + 1);
        let server = sender.server_name().clone();
        if server == *self.signer.server() {
            let draft = EventDraft {
                event_type: event_type.to_owned(),
                state_key: state_key.map(str::to_owned),
                sender: sender.clone(),
                content,
                origin_server_ts: self.now,
            };
            return self.submit(&Input::Draft { draft });
        }
        let membership = content
            .get("membership")
            .and_then(|value| value.as_str())
            .unwrap_or_default();
        let is_own = state_key == Some(sender.as_str());
        let via = match membership {
            "join" if is_own && !self.hub.is_participating(&server) => Via::Join,
            "knock" if is_own => Via::Knock,
            "leave" if is_own => Via::Leave,
            "invite" => Via::Invite,
            _ => Via::Send,
        };
        self.send_lpdu(sender, event_type, state_key, content, via, server)
    }

    /// A participant says anything about membership, through any endpoint, perhaps in another server's name.
    fn misbehave(&mut self, sender: &UserId, target: &UserId, how: u8) -> Result<Reply, Refusal> {
        let how = usize::from(how / 18);
        let membership = ["join", "leave", "ban", "invite", "knock", "wander"][how % 6];
        let via = [Via::Send, Via::Invite, Via::Join, Via::Leave, Via::Knock][how % 5];
        let from = if how.is_multiple_of(7) { target } else { sender }
            .server_name()
            .clone();
        self.send_lpdu(
            sender,
            MEMBER,
            Some(target.as_str()),
            object! { "membership" => membership },
            via,
            from,
        )
    }

    fn send_lpdu(
        &mut self,
        sender: &UserId,
        event_type: &str,
        state_key: Option<&str>,
        content: Object,
        via: Via,
        from: ServerName,
    ) -> Result<Reply, Refusal> {
        let server = sender.server_name();
        let Some(place) = self.participants.iter().position(|peer| peer.signer.server() == server) else {
            return Err(Refusal::NotParticipating);
        };
        let mut builder = EventBuilder::new(room_id(), event_type, sender.clone(), self.now, content);
        if let Some(state_key) = state_key {
            builder = builder.state_key(state_key);
        }
        let event = builder.build_lpdu(&self.participants[place].signer, self.signer.server(), self.hub.rules())?;
        let is_welcome = !self.hub.is_participating(server) && event.membership() == Some("join");
        if is_welcome {
            // What a server was owed before it left arrives before it is back: its requests come one after the other.
            self.deliver_all(place);
        }
        let before = self.hub.state().clone();
        let reply = self.submit(&Input::Lpdu { event, from, via })?;
        if is_welcome {
            let join = self
                .log
                .last()
                .and_then(Entry::pdu)
                .expect("a join is appended at once")
                .clone();
            self.enter(place, &before, &join);
        }
        Ok(reply)
    }

    /// Decides, answers what is asked, stores and applies.
    pub(crate) fn submit(&mut self, input: &Input) -> Result<Reply, Refusal> {
        let ctx = Ctx {
            now: self.now,
            server: self.signer.server(),
            signer: &self.signer,
        };
        let outcome = match self.hub.decide(input, &ctx)? {
            Decision::Done(outcome) => outcome,
            Decision::Ask(Question::InviteSignature { pdu, lpdu_id, target }) => {
                let peer = self.participants.iter().find(|peer| *peer.signer.server() == target);
                let signed = pdu
                    .countersigned(&peer.expect("users live on three servers").signer)?
                    .object()
                    .clone();
                let answer = Input::InviteAnswer {
                    pdu,
                    lpdu_id,
                    signed,
                    keys: self.keys.clone(),
                };
                match self.hub.decide(&answer, &ctx)? {
                    Decision::Done(outcome) => outcome,
                    Decision::Ask(question) => panic!("the answer led to another question: {question:?}"),
                }
            }
            Decision::Ask(question) => panic!("a hub has nobody to ask: {question:?}"),
        };
        self.store(&outcome);
        Ok(outcome.reply)
    }

    fn store(&mut self, outcome: &Outcome) {
        let first = self.hub.position().next();
        assert_eq!(
            outcome.append.first().map(|entry| entry.position),
            Some(first),
            "entries follow the head"
        );
        self.hub.apply(outcome);
        for change in &outcome.followers {
            match change.clone() {
                FollowerChange::Open { server, from } => {
                    self.intervals.push(Interval {
                        server,
                        from,
                        until: None,
                        once: false,
                    });
                }
                FollowerChange::Close { server, until } => {
                    let open = self
                        .intervals
                        .iter_mut()
                        .find(|interval| interval.server == server && interval.until.is_none());
                    open.expect("only an open interval closes").until = Some(until);
                }
                FollowerChange::Once { server, at } => {
                    self.intervals.push(Interval {
                        server,
                        from: at,
                        until: Some(at),
                        once: true,
                    });
                }
            }
        }
        for entry in &outcome.append {
            for peer in &mut self.participants {
                let owed = self
                    .intervals
                    .iter()
                    .any(|interval| interval.server == *peer.signer.server() && interval.contains(entry.position));
                if owed {
                    peer.inbox.push(entry.pdu().expect("a hub's log has no holes").clone());
                }
            }
        }
        self.log.extend(outcome.append.iter().cloned());
    }

    fn enter(&mut self, place: usize, before: &State, join: &Pdu) {
        let peer = &mut self.participants[place];
        let ctx = Ctx {
            now: self.now,
            server: peer.signer.server(),
            signer: &peer.signer,
        };
        let meta = RoomMeta {
            room_id: room_id(),
            version: version(),
            role: Role::Participant {
                hub: self.signer.server().clone(),
            },
            created_at: self.now,
        };
        let state = before.iter().cloned().collect();
        let entered = match &peer.view {
            None => bootstrap_participant(meta, state, join.clone(), &ctx),
            Some(view) => rejoin_participant(view, state, join.clone(), &ctx),
        };
        let (view, checkpoint, outcome) = entered.expect("the hub is honest");
        assert_eq!(checkpoint.state, before.iter().cloned().collect::<Vec<_>>());
        peer.view = Some(view);
        peer.log.extend(outcome.append);
    }

    /// The oldest delivery arrives, and so on until none is left.
    pub(crate) fn deliver_all(&mut self, place: usize) {
        while !self.participants[place].inbox.is_empty() {
            self.deliver_one(place, 0);
        }
    }

    pub(crate) fn deliver_everything(&mut self) {
        (0..self.participants.len()).for_each(|place| self.deliver_all(place));
    }

    /// Some delivery arrives, ahead of others perhaps.
    pub(crate) fn deliver_one(&mut self, place: usize, which: usize) {
        let peer = &mut self.participants[place];
        if peer.inbox.is_empty() {
            return;
        }
        let pdu = peer.inbox.remove(which % peer.inbox.len());
        let hub = self.signer.server();
        let available: Vec<Pdu> = self
            .log
            .iter()
            .filter(|entry| {
                self.intervals
                    .iter()
                    .any(|interval| interval.server == *peer.signer.server() && interval.contains(entry.position))
            })
            .filter_map(|entry| entry.pdu().cloned())
            .collect();
        peer.receive(&pdu, hub, &self.keys, &available, self.now);
    }

    /// The hub's memory is lost: its view comes back from a checkpoint somewhere in the log and what follows.
    fn restart_hub(&mut self, at: usize) {
        let checkpoint = self.checkpoint_at(at % (self.log.len() + 1));
        let mut view = RoomView::restore(self.hub.meta().clone(), Some(checkpoint)).expect("the version is known");
        self.log.iter().for_each(|entry| view.replay(entry));
        assert_eq!(view, self.hub, "pruned and unpruned logs fold alike");
        self.hub = view;
    }

    fn checkpoint_at(&self, entries: usize) -> Checkpoint {
        let mut view = RoomView::new_hub(self.hub.meta().clone()).expect("the version is known");
        self.log.iter().take(entries).for_each(|entry| view.replay(entry));
        view.checkpoint()
    }

    /// Every invariant, once everything was delivered.
    pub(crate) fn check(&mut self) {
        self.restart_hub(0);
        self.restart_hub(self.log.len() / 2);
        let positions: Vec<_> = self.log.iter().map(|entry| entry.position.as_i64()).collect();
        assert_eq!(
            positions,
            (1..).take(self.log.len()).collect::<Vec<i64>>(),
            "a hub counts from one without gaps"
        );

        let following: BTreeSet<_> = self.hub.followers().cloned().collect();
        let open = self.intervals.iter().filter(|interval| interval.until.is_none());
        assert_eq!(
            open.map(|interval| interval.server.clone()).collect::<BTreeSet<_>>(),
            following
        );

        for peer in &self.participants {
            let server = peer.signer.server();
            let owed = self.log.iter().filter(|entry| {
                self.intervals
                    .iter()
                    .any(|interval| !interval.once && interval.server == *server && interval.contains(entry.position))
            });
            let owed: Vec<_> = owed.map(|entry| (entry.pdu(), entry.lpdu_id.as_ref())).collect();
            let held: Vec<_> = peer
                .log
                .iter()
                .map(|entry| (entry.pdu(), entry.lpdu_id.as_ref()))
                .collect();
            assert_eq!(held, owed, "{server} holds what it is owed, in the hub's order");
            if following.contains(server) {
                let view = peer.view.as_ref().expect("it joined");
                assert_eq!((view.head(), view.state()), (self.hub.head(), self.hub.state()));
            }
        }
    }
}

impl Interval {
    fn contains(&self, position: LogPosition) -> bool {
        self.from <= position && self.until.is_none_or(|until| position <= until)
    }
}

impl Peer {
    /// Takes an event in as it came over the wire; fetches from `available` what it finds missing. When the hub does not serve that, as for
    /// a single event about one of our users that overtook the one ending our part in the room, it waits in the inbox.
    fn receive(&mut self, pdu: &Pdu, hub: &ServerName, keys: &KeySet, available: &[Pdu], now: UnixMillis) {
        let Some(view) = &self.view else { return };
        if self.holds(pdu.event_id()) {
            return;
        }
        let raw = RawEvent::parse(pdu.bytes(), view.rules()).expect("a hub's events are well-formed");
        let event = raw.verify_pdu(keys).expect("a hub's events are signed");
        let input = Input::Pdu {
            event,
            from: hub.clone(),
            held: None,
        };
        let ctx = Ctx {
            now,
            server: self.signer.server(),
            signer: &self.signer,
        };
        match view.decide(&input, &ctx) {
            Ok(Decision::Done(outcome)) => self.store(&outcome),
            Ok(Decision::Ask(Question::Backfill { missing })) => {
                let head = view.head().expect("a participant has a head").clone();
                match fetch(&head, &missing, available) {
                    Some(gap) => gap
                        .iter()
                        .chain([pdu])
                        .for_each(|event| self.receive(event, hub, keys, &[], now)),
                    None => self.inbox.push(pdu.clone()),
                }
            }
            Ok(Decision::Ask(question)) => panic!("a participant does not ask this: {question:?}"),
            Err(Refusal::NotParticipating) => {}
            Err(refusal) => panic!("a participant refuses its hub: {refusal}"),
        }
    }

    fn store(&mut self, outcome: &Outcome) {
        assert!(outcome.followers.is_empty(), "participants have no followers");
        assert!(
            !matches!(outcome.reply, Reply::Recorded { .. }),
            "a participant rejects what its hub allowed: {outcome:?}"
        );
        self.log.extend(outcome.append.iter().cloned());
        self.view.as_mut().expect("it decided").apply(outcome);
    }

    fn holds(&self, event_id: &EventId) -> bool {
        self.log.iter().any(|entry| entry.event_id() == event_id)
    }
}

/// Backfill, newest first, three events at a time; `None` if the hub does not serve it.
fn fetch(head: &EventId, missing: &EventId, available: &[Pdu]) -> Option<Vec<Pdu>> {
    let mut from = missing.clone();
    let mut links: Vec<Link<Pdu>> = Vec::new();
    loop {
        let end = available.iter().position(|pdu| *pdu.event_id() == from)? + 1;
        let page = available[end.saturating_sub(3)..end].iter().rev().map(|pdu| Link {
            event_id: pdu.event_id().clone(),
            prev: pdu.prev_events().first().cloned(),
            item: pdu.clone(),
        });
        links.extend(page);
        match close_gap(head, missing, links) {
            Gap::Closed(events) => return Some(events),
            Gap::Open { older, found } => (from, links) = (older, found),
            Gap::Unrelated => panic!("the hub has forked the room"),
        }
    }
}

pub(crate) fn signer(server: &str, seed: u8) -> Signer {
    let key = KeyId::ed25519("1").expect("`1` is a version");
    let server = ServerName::parse(server).expect("a server name");
    Signer::new(server, vec![SigningKey::from_seed(key, [seed; 32])]).expect("there is one key")
}

/// One of six users: two on each server.
pub(crate) fn user(number: u8) -> UserId {
    let number = usize::from(number) % 6;
    let server = [HUB, PEERS[0].0, PEERS[1].0][number / 2];
    UserId::parse(&format!("@user{number}:{server}")).expect("a user ID")
}

pub(crate) fn room_id() -> RoomId {
    RoomId::parse(&format!("!room:{HUB}")).expect("a room ID")
}

pub(crate) fn version() -> RoomVersionId {
    RoomVersionId::parse("I.1").expect("a room version")
}

pub(crate) const HUB: &str = "hub.example";
pub(crate) const PEERS: [(&str, u8); 2] = [("p.example", 2), ("t.example.org", 3)];
const MAX_OPERATIONS: usize = 400;
