//! Rules of the room state machine as sentences; numbers of cases are ours.

mod bootstrap;
mod followers;
mod group;
mod hub;
mod invite;
mod ordering;
mod participant;
mod simulation;
mod visibility;

use nabe_event::{EventBuilder, Pdu, RawEvent, VerifiedLpdu, VerifiedPdu};
use nabe_signing::json::Object;
use nabe_signing::keys::KeySet;
use nabe_signing::{Signer, object};
use nabe_types::{ServerName, UnixMillis, UserId};

use crate::fuzzing::{HUB, PEERS, World, room_id, signer, user};
use crate::{Ctx, Decision, Outcome, Refusal, RoomView, Via};

/// On the hub: the creator, and another user.
const ALICE: u8 = 0;
const ANNE: u8 = 1;
/// On the first participant.
const BOB: u8 = 2;
const BEN: u8 = 3;
/// On the second participant.
const CAROL: u8 = 4;
const DAN: u8 = 5;

const NOW: UnixMillis = UnixMillis(1_700_000_500_000);

fn hub_signer() -> Signer {
    signer(HUB, 1)
}

fn peer_signer(place: usize) -> Signer {
    signer(PEERS[place].0, PEERS[place].1)
}

fn all_keys() -> KeySet {
    let mut keys = KeySet::new();
    for signer in [hub_signer(), peer_signer(0), peer_signer(1)] {
        keys.insert_signer(&signer);
    }
    keys
}

fn name(server: &str) -> ServerName {
    ServerName::parse(server).unwrap()
}

fn member(membership: &str) -> Object {
    object! { "membership" => membership }
}

impl World {
    /// A user changes somebody's membership.
    fn changes(&mut self, sender: u8, target: u8, membership: &str) -> Result<crate::Reply, Refusal> {
        self.send(
            &user(sender),
            "m.room.member",
            Some(user(target).as_str()),
            member(membership),
        )
    }

    fn joins(&mut self, number: u8) {
        self.changes(number, number, "join").unwrap();
    }

    fn says(&mut self, number: u8, text: &str) -> Result<crate::Reply, Refusal> {
        self.send(
            &user(number),
            "m.room.encrypted",
            None,
            object! { "ciphertext" => text },
        )
    }

    fn newest(&self) -> &Pdu {
        self.log.last().unwrap().pdu().unwrap()
    }

    fn decides(&self, event: VerifiedLpdu, from: &str, via: Via) -> Result<Decision, Refusal> {
        let signer = hub_signer();
        let ctx = Ctx {
            now: NOW,
            server: signer.server(),
            signer: &signer,
        };
        self.hub.decide(
            &crate::Input::Lpdu {
                event,
                from: name(from),
                via,
            },
            &ctx,
        )
    }
}

/// An LPDU of a user on the participant `place`, for the world's hub.
fn lpdu(place: usize, sender: u8, event_type: &str, state_key: Option<&str>, content: Object) -> VerifiedLpdu {
    lpdu_for(HUB, place, &user(sender), event_type, state_key, content)
}

fn lpdu_for(
    hub: &str,
    place: usize,
    sender: &UserId,
    event_type: &str,
    state_key: Option<&str>,
    content: Object,
) -> VerifiedLpdu {
    let mut builder = EventBuilder::new(room_id(), event_type, sender.clone(), NOW, content);
    if let Some(state_key) = state_key {
        builder = builder.state_key(state_key);
    }
    builder
        .build_lpdu(&peer_signer(place), &name(hub), &nabe_event::RoomVersionRules::I1)
        .unwrap()
}

fn membership_lpdu(place: usize, sender: u8, target: u8, membership: &str) -> VerifiedLpdu {
    lpdu(
        place,
        sender,
        "m.room.member",
        Some(user(target).as_str()),
        member(membership),
    )
}

/// The event as it arrives over the wire.
fn received(object: &Object) -> VerifiedPdu {
    let raw = RawEvent::from_json(object.clone(), &nabe_event::RoomVersionRules::I1).unwrap();
    raw.verify_pdu(&all_keys()).unwrap()
}

fn done(decision: Decision) -> Outcome {
    match decision {
        Decision::Done(outcome) => outcome,
        Decision::Ask(question) => panic!("asked {question:?}"),
    }
}

fn view_of(world: &World, place: usize) -> &RoomView {
    world.participants[place].view.as_ref().unwrap()
}
