//! Entering a room (LM #int-api-send-join). Case 69.

use nabe_auth::lm::{AuthRejection, RoomState};
use nabe_types::LogPosition;

use super::*;
use crate::{BadSnapshot, Checkpoint, Role, RoomMeta, bootstrap_participant, rejoin_participant};

/// What `send_join` hands Carol's server: the state before the join, the join, and the hub's log up to it.
fn welcome() -> (World, Vec<Pdu>, Pdu) {
    welcome_to(World::new())
}

fn welcome_to(mut world: World) -> (World, Vec<Pdu>, Pdu) {
    world.joins(BOB);
    world.says(ALICE, "not state").unwrap();
    let state = world.hub.state().iter().cloned().collect();
    let decision = world
        .decides(membership_lpdu(1, CAROL, CAROL, "join"), PEERS[1].0, Via::Join)
        .unwrap();
    let join = done(decision).append[0].pdu().unwrap().clone();
    (world, state, join)
}

fn meta() -> RoomMeta {
    RoomMeta {
        room_id: room_id(),
        version: crate::fuzzing::version(),
        role: Role::Participant { hub: name(HUB) },
        created_at: NOW,
    }
}

fn enters(meta: RoomMeta, state: Vec<Pdu>, join: &Pdu) -> Result<(RoomView, Checkpoint, Outcome), Refusal> {
    let signer = peer_signer(1);
    bootstrap_participant(
        meta,
        state,
        join.clone(),
        &Ctx {
            now: NOW,
            server: signer.server(),
            signer: &signer,
        },
    )
}

#[test]
fn the_log_begins_with_the_state_and_the_join() {
    let (_, state, join) = welcome();
    let (view, checkpoint, outcome) = enters(meta(), state.clone(), &join).unwrap();
    assert_eq!(
        checkpoint,
        Checkpoint {
            position: LogPosition(0),
            head: join.prev_events().first().cloned(),
            state
        }
    );
    assert!(!checkpoint.state.contains(&join));
    assert_eq!(outcome.append[0].position, LogPosition(1));
    assert_eq!(outcome.append[0].lpdu_id, join.lpdu_id());
    assert_eq!(view.state().get("m.room.member", user(CAROL).as_str()), Some(&join));
    assert_eq!(view.followers().count(), 0);

    let mut replayed = RoomView::restore(meta(), Some(checkpoint)).unwrap();
    outcome.append.iter().for_each(|entry| replayed.replay(entry));
    assert_eq!(replayed, view);
}

#[test]
fn coming_back_leaves_one_place_empty() {
    let (_, state, join) = welcome();
    let signer = peer_signer(1);
    let ctx = Ctx {
        now: NOW,
        server: signer.server(),
        signer: &signer,
    };
    let (known, ..) = bootstrap_participant(meta(), state.clone(), join.clone(), &ctx).unwrap();
    assert_eq!(known.position(), LogPosition(1));
    let (view, checkpoint, _) = rejoin_participant(&known, state, join, &ctx).unwrap();
    assert_eq!((checkpoint.position, view.position()), (LogPosition(2), LogPosition(3)));
}

#[test]
fn a_room_one_comes_back_to_begins_as_it_began() {
    let (_, state, join) = welcome();
    let signer = peer_signer(1);
    let ctx = Ctx {
        now: NOW,
        server: signer.server(),
        signer: &signer,
    };
    let (known, ..) = bootstrap_participant(meta(), state, join, &ctx).unwrap();
    let (_, state, join) = welcome_to(World::begun_at(UnixMillis(1_700_000_000_001)));
    let refused = rejoin_participant(&known, state, join, &ctx).unwrap_err();
    assert_eq!(refused, BadSnapshot::OtherCreate.into());
}

#[test]
fn a_whole_timeline_is_folded_along_its_chain() {
    let (mut world, ..) = welcome();
    world
        .send(&user(ALICE), "m.room.topic", Some(""), object! { "topic" => "old" })
        .unwrap();
    world
        .send(&user(ALICE), "m.room.topic", Some(""), object! { "topic" => "new" })
        .unwrap();
    let decision = world
        .decides(membership_lpdu(1, CAROL, CAROL, "join"), PEERS[1].0, Via::Join)
        .unwrap();
    let join = done(decision).append[0].pdu().unwrap().clone();
    let mut timeline: Vec<Pdu> = world.log.iter().filter_map(|entry| entry.pdu().cloned()).collect();
    timeline.push(join.clone());
    timeline.reverse();
    let (_, checkpoint, _) = enters(meta(), timeline.clone(), &join).unwrap();
    assert_eq!(checkpoint.state, world.hub.state().iter().cloned().collect::<Vec<_>>());

    timeline.retain(|event| event.event_type() != "m.room.encrypted");
    let refusal = enters(meta(), timeline, &join).unwrap_err();
    assert!(
        matches!(refusal, Refusal::BadSnapshot(BadSnapshot::Duplicate { .. })),
        "{refusal:?}"
    );
}

#[test]
fn a_snapshot_without_a_create_event_is_refused() {
    let (_, mut state, join) = welcome();
    state.retain(|event| event.event_type() != "m.room.create");
    assert_eq!(enters(meta(), state, &join).unwrap_err(), BadSnapshot::NoCreate.into());
}

#[test]
fn a_snapshot_must_come_from_the_creators_server_in_the_version_promised() {
    let (_, state, join) = welcome();
    let elsewhere = RoomMeta {
        role: Role::Participant { hub: name(PEERS[0].0) },
        ..meta()
    };
    assert_eq!(
        enters(elsewhere, state.clone(), &join).unwrap_err(),
        BadSnapshot::WrongHub { hub: name(HUB) }.into()
    );

    let version = nabe_types::RoomVersionId::parse(nabe_event::RoomVersionRules::UNSTABLE_02.id).unwrap();
    let otherwise = RoomMeta { version, ..meta() };
    assert_eq!(
        enters(otherwise, state, &join).unwrap_err(),
        BadSnapshot::WrongVersion.into()
    );
}

#[test]
fn a_join_the_snapshot_does_not_allow_is_refused() {
    let (mut world, _, join) = welcome();
    world.changes(ALICE, CAROL, "ban").unwrap();
    let banned = world.hub.state().iter().cloned().collect();
    assert_eq!(
        enters(meta(), banned, &join).unwrap_err(),
        Refusal::Rejected(AuthRejection::JoinerBanned)
    );
}

#[test]
fn somebody_elses_join_does_not_let_us_in() {
    let (world, state, _) = welcome();
    let bobs = world
        .log
        .iter()
        .filter_map(crate::Entry::pdu)
        .find(|event| *event.sender() == user(BOB))
        .unwrap();
    assert_eq!(enters(meta(), state, bobs).unwrap_err(), BadSnapshot::NotOurJoin.into());
}
