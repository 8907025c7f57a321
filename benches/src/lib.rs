//! What the benches measure with: a room with any number of members, and events to send to it. The same on every run.

pub mod policy;
pub mod vectors;

use nabe_auth::lm::JoinRule;
use nabe_core::{
    Ctx, Decision, Entry, EventDraft, FollowerChange, Input, Outcome, RoomSpec, RoomView, Via, create_room,
};
use nabe_event::{EventBuilder, VerifiedLpdu};
use nabe_signing::json::Object;
use nabe_signing::keys::KeySet;
use nabe_signing::{Signer, SigningKey, object};
use nabe_types::{KeyId, RoomId, RoomVersionId, ServerName, UnixMillis, UserId};

/// A public room at its hub, with one participant, whose users every other member is.
#[derive(Debug)]
pub struct Room {
    /// The hub's key.
    pub hub: Signer,
    /// The participant's key.
    pub participant: Signer,
    /// Both servers' public keys.
    pub keys: KeySet,
    /// The room as its hub sees it.
    pub view: RoomView,
    /// Every entry of its log, from the first.
    pub log: Vec<Entry>,
    /// What the entries changed about who follows the room.
    pub followers: Vec<FollowerChange>,
}

impl Room {
    /// A room with this many joined users, at least one: its creator.
    ///
    /// # Panics
    /// If the rules stop allowing what this does.
    #[must_use]
    pub fn with_members(members: usize) -> Self {
        Self::new(members, None)
    }

    /// The same with an encryption algorithm.
    ///
    /// # Panics
    /// If the rules stop allowing what this does.
    #[must_use]
    pub fn with_encryption(members: usize, algorithm: String) -> Self {
        Self::new(members, Some(algorithm))
    }

    fn new(members: usize, encryption: Option<String>) -> Self {
        let (hub, participant) = (signer(HUB, 1), signer(PARTICIPANT, 2));
        let mut keys = KeySet::new();
        keys.insert_signer(&hub);
        keys.insert_signer(&participant);
        let spec = RoomSpec {
            join_rule: JoinRule::Public,
            encryption,
            ..RoomSpec::new(room_id(), version(), user(0))
        };
        let (view, outcome) = create_room(spec, &ctx(&hub)).expect("the specification is valid");
        let mut room = Self {
            hub,
            participant,
            keys,
            view,
            log: outcome.append,
            followers: outcome.followers,
        };
        for number in 1..members {
            let join = room.join(number);
            room.append(&join);
        }
        room
    }

    /// The hub's name, time and key.
    #[must_use]
    pub fn ctx(&self) -> Ctx<'_> {
        ctx(&self.hub)
    }

    /// The key of one of the two servers.
    #[must_use]
    pub fn signer_of(&self, server: &ServerName) -> &Signer {
        if server == self.hub.server() {
            &self.hub
        } else {
            &self.participant
        }
    }

    /// The join of a user who is not there yet, as it reaches the hub.
    ///
    /// # Panics
    /// If it cannot be built.
    #[must_use]
    pub fn join(&self, number: usize) -> Input {
        let user = user(number);
        let content = object! { "membership" => "join", "displayname" => format!("Member {number}") };
        if user.server_name() == self.hub.server() {
            let draft = EventDraft {
                event_type: "m.room.member".to_owned(),
                state_key: Some(user.to_string()),
                sender: user,
                content,
                origin_server_ts: NOW,
            };
            return Input::Draft { draft };
        }
        let via = if self.view.is_participating(user.server_name()) {
            Via::Send
        } else {
            Via::Join
        };
        let state_key = user.to_string();
        let join = EventBuilder::new(room_id(), "m.room.member", user, NOW, content).state_key(state_key);
        let event = join
            .build_lpdu(&self.participant, self.hub.server(), self.view.rules())
            .expect("it is small");
        Input::Lpdu {
            event,
            from: self.participant.server().clone(),
            via,
        }
    }

    /// A message of the participant's first user, of about 500 bytes; every `number` makes another one.
    ///
    /// # Panics
    /// If it cannot be built.
    #[must_use]
    pub fn message(&self, number: usize) -> VerifiedLpdu {
        let builder = EventBuilder::new(room_id(), "m.room.encrypted", user(1), NOW, message_content(number));
        builder
            .build_lpdu(&self.participant, self.hub.server(), self.view.rules())
            .expect("it is small")
    }

    /// A message as the hub takes it.
    #[must_use]
    pub fn message_input(&self, number: usize) -> Input {
        Input::Lpdu {
            event: self.message(number),
            from: self.participant.server().clone(),
            via: Via::Send,
        }
    }

    /// What the hub makes of an input it can decide at once.
    ///
    /// # Panics
    /// If it refuses or asks.
    #[must_use]
    pub fn decide(&self, input: &Input) -> Outcome {
        match self.view.decide(input, &self.ctx()).expect("the rules allow it") {
            Decision::Done(outcome) => outcome,
            Decision::Ask(question) => panic!("nobody to ask: {question:?}"),
        }
    }

    /// Decides and takes the outcome in; returns it.
    pub fn append(&mut self, input: &Input) -> Outcome {
        let outcome = self.decide(input);
        self.view.apply(&outcome);
        self.log.extend(outcome.append.iter().cloned());
        self.followers.extend(outcome.followers.iter().cloned());
        outcome
    }
}

/// A user: those with odd numbers are the participant's, the others the hub's.
///
/// # Panics
/// Never.
#[must_use]
pub fn user(number: usize) -> UserId {
    let server = [HUB, PARTICIPANT][number % 2];
    UserId::parse(&format!("@member{number}:{server}")).expect("a user ID")
}

/// The room's ID.
///
/// # Panics
/// Never.
#[must_use]
pub fn room_id() -> RoomId {
    RoomId::parse(&format!("!bench:{HUB}")).expect("a room ID")
}

/// When everything happens.
pub const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

fn message_content(number: usize) -> Object {
    object! {
        "algorithm" => "m.mls.v1",
        "ciphertext" => format!("{number:0>160}"),
    }
}

fn ctx(signer: &Signer) -> Ctx<'_> {
    Ctx {
        now: NOW,
        server: signer.server(),
        signer,
    }
}

fn signer(server: &str, seed: u8) -> Signer {
    let key = SigningKey::from_seed(KeyId::ed25519("1").expect("a key ID"), [seed; 32]);
    let server = ServerName::parse(server).expect("a server name");
    Signer::new(server, vec![key]).expect("there is a key")
}

fn version() -> RoomVersionId {
    RoomVersionId::parse("I.1").expect("a room version")
}

const HUB: &str = "hub.example";
const PARTICIPANT: &str = "participant.example";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_has_the_members_asked_for_and_takes_messages_of_500_bytes() {
        let mut room = Room::with_members(5);
        assert_eq!(room.view.members().count(), 5);
        let size = room.message(1).bytes().len();
        assert!((450..600).contains(&size), "{size} bytes");
        let outcome = room.append(&room.message_input(1));
        assert_eq!(outcome.append.len(), 1);
        assert_eq!(room.view.position().as_i64(), room.log.len() as i64);
    }
}
