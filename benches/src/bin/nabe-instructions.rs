//! Hot paths of the pure core, each done as many times as asked for and nothing else: `cargo xtask instructions` runs this under
//! valgrind, which counts. What a path costs is the difference between doing it and only preparing for it, so the preparation must
//! not depend on how often it is done.

use std::hint::black_box;
use std::process::ExitCode;

use nabe_auth::lm::{Rule4Input, authorize, select_auth_events};
use nabe_auth::mimi::{Commit, CommitProposal, Committer};
use nabe_benches::{Room, policy, vectors};
use nabe_content::mimi::{MimiContent, NestedPart, Origin, Salt};
use nabe_event::{RawEvent, RoomVersionRules, hashes};
use nabe_mls::testing::{Parents, TestDevice, group_state_on_paper, wall_clock};
use nabe_mls::{HubGroup, Suite};
use nabe_signing::json::Json;
use nabe_wire::codec::Message;
use nabe_wire::mls::WireFormat;
use nabe_wire::submit_message::SubmitMessageRequest;
use nabe_wire::update::UpdateRequest;

/// A hot path: its name, how often it is done in one run, and what prepares for that many rounds and returns one.
struct Case {
    name: &'static str,
    rounds: usize,
    prepare: fn(usize) -> Round,
}

type Round = Box<dyn FnMut()>;

const CASES: &[Case] = &[
    case("canonical-json/parse", 500, parse_json),
    case("canonical-json/write", 500, write_json),
    case("event/lpdu-hash", 500, hash_lpdu),
    case("event/verify-lpdu", 50, verify_lpdu),
    case("auth/message", 2_000, authorize_message),
    case("core/accept-message", 50, accept_message),
    case("mimi-content/decode", 2_000, decode_content),
    case("mimi-content/encode", 2_000, encode_content),
    case("wire/submit-message", 1_000, |_| wire::<SubmitMessageRequest>()),
    case("wire/update-request", 500, |_| wire::<UpdateRequest>()),
    case("policy/commit", 200, decide_on_commit),
    case("mls/check-commit", 20, check_commit),
];

const fn case(name: &'static str, rounds: usize, prepare: fn(usize) -> Round) -> Case {
    Case { name, rounds, prepare }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["list"] => {
            for case in CASES {
                println!("{} {}", case.name, case.rounds);
            }
        }
        [name, times] => {
            let (Some(case), Ok(times)) = (CASES.iter().find(|case| case.name == name), times.parse()) else {
                return usage();
            };
            let mut round = (case.prepare)(case.rounds);
            (0..case.rounds.min(times)).for_each(|_| round());
        }
        _ => return usage(),
    }
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!("Usage: nabe-instructions list | nabe-instructions CASE TIMES");
    ExitCode::from(2)
}

/// A message of about 500 bytes as it reaches the hub.
fn message() -> Vec<u8> {
    Room::with_members(2).message(1).bytes().to_vec()
}

fn parse_json(_: usize) -> Round {
    let bytes = message();
    Box::new(move || drop(black_box(Json::parse(black_box(&bytes)))))
}

fn write_json(_: usize) -> Round {
    let json = Json::parse(&message()).expect("an event is JSON");
    Box::new(move || drop(black_box(black_box(&json).to_canonical())))
}

fn hash_lpdu(_: usize) -> Round {
    let room = Room::with_members(2);
    let outcome = room.decide(&room.message_input(1));
    let pdu = outcome.append[0].pdu().expect("a hub appends events").object().clone();
    Box::new(move || {
        black_box(hashes::lpdu_hash(black_box(&pdu)));
    })
}

/// Reading it, its schema, its hash and one signature.
fn verify_lpdu(_: usize) -> Round {
    let room = Room::with_members(2);
    let bytes = room.message(1).bytes().to_vec();
    Box::new(move || {
        let raw = RawEvent::parse(black_box(&bytes), &RoomVersionRules::I1).expect("it is an event");
        drop(black_box(raw.verify_lpdu(&room.keys).expect("it is signed")));
    })
}

/// Choosing a message's auth events in a room of 100, and the rules.
fn authorize_message(_: usize) -> Round {
    let room = Room::with_members(100);
    let message = room.message(1);
    Box::new(move || {
        let (state, event) = (room.view.state(), black_box(message.event()));
        black_box(select_auth_events(event, state));
        let allowed = authorize(
            event,
            state,
            room.view.rules(),
            &Rule4Input::NotChecked,
            room.hub.server(),
        );
        assert_eq!(allowed, Ok(()));
    })
}

/// Deciding on a verified message in a room of 100 (one signature is made) and applying the outcome.
fn accept_message(rounds: usize) -> Round {
    let mut room = Room::with_members(100);
    let mut messages: Vec<_> = (0..rounds).map(|number| room.message_input(number)).collect();
    Box::new(move || {
        let message = messages.pop().expect("there is one for each round");
        black_box(room.append(&message));
    })
}

fn content() -> MimiContent {
    let origin = Origin::new("mimi://example.com/u/alice", "mimi://example.com/r/fish").expect("short URIs");
    let text = NestedPart::markdown("I am a __fish__, and I swim all day long.");
    MimiContent::new(Salt::from_random([7; 16]), &origin, text)
}

fn decode_content(_: usize) -> Round {
    let bytes = content().encode().expect("it is small");
    Box::new(move || {
        drop(black_box(
            MimiContent::decode(black_box(&bytes)).expect("it was written"),
        ))
    })
}

fn encode_content(_: usize) -> Round {
    let content = content();
    Box::new(move || drop(black_box(black_box(&content).encode().expect("it is small"))))
}

/// Reading and writing the longest of the vectors.
fn wire<T: Message + 'static>() -> Round {
    let bytes = vectors::longest::<T>();
    Box::new(move || {
        let value = T::from_bytes(black_box(&bytes)).expect("it is well-formed");
        drop(black_box(value.to_bytes()));
    })
}

/// Whether somebody may remove a member of a room of 1,000.
fn decide_on_commit(_: usize) -> Round {
    let size = 1_000;
    let room = policy::room(size);
    Box::new(move || {
        let owner = policy::claims(&policy::user(policy::OWNER));
        let proposals = policy::removal(policy::SOMEBODY).map(CommitProposal::Inline);
        let commit = Commit {
            committer: Committer::Member {
                leaf: policy::OWNER,
                claims: &owner,
                path: None,
            },
            proposals: &proposals,
            expired: &[],
            wire_format: WireFormat::PUBLIC_MESSAGE,
        };
        drop(black_box(room.commit(black_box(&commit), None).expect("allowed")));
    })
}

/// What a hub does with an update in a group of 100 in which all have committed: everything up to its next state.
fn check_commit(rounds: usize) -> Round {
    let room = nabe_benches::room_id();
    let device = |number: usize| TestDevice::new(nabe_benches::user(number).as_str(), "PHONE");
    let devices: Vec<_> = (0..99).map(device).collect();
    let state = group_state_on_paper(room.as_str(), &devices, Parents::Full);
    let (mut alice, join) = device(99).join_externally(&state);
    let (hub, _) = HubGroup::bootstrap(&room, Suite::default(), &join.message, &join.group_state, wall_clock())
        .expect("the group on paper is sound");
    let checkpoint = hub.checkpoint();
    let restored = || HubGroup::restore(&checkpoint).expect("its own checkpoint");
    let mut hubs: Vec<_> = (0..rounds).map(|_| restored()).collect();
    let commit = alice.update();
    Box::new(move || {
        let mut hub = hubs.pop().expect("there is one for each round");
        let change = hub
            .stage(black_box(&commit.message), &commit.group_state, wall_clock())
            .expect("made by an honest member");
        hub.merge(&change).expect("staged on this group");
    })
}
