//! Invites to servers outside the room (LM #int-api-invite). Case 64.

use super::*;
use crate::{BadInviteAnswer, Input, Question};

/// A room in which Bob is joined, and what the hub would have Carol's server sign.
fn asked() -> (World, Pdu, Option<nabe_types::EventId>) {
    let mut world = World::new();
    world.joins(BOB);
    match world
        .decides(membership_lpdu(0, BOB, CAROL, "invite"), PEERS[0].0, Via::Invite)
        .unwrap()
    {
        Decision::Ask(Question::InviteSignature { pdu, lpdu_id, target }) => {
            assert_eq!(target, name(PEERS[1].0));
            (world, pdu, lpdu_id)
        }
        other => panic!("{other:?}"),
    }
}

fn answer(world: &World, pdu: &Pdu, signed: Object) -> Result<Decision, Refusal> {
    let signer = hub_signer();
    let ctx = Ctx {
        now: NOW,
        server: signer.server(),
        signer: &signer,
    };
    let input = Input::InviteAnswer {
        pdu: pdu.clone(),
        lpdu_id: pdu.lpdu_id(),
        signed,
        keys: all_keys(),
    };
    world.hub.decide(&input, &ctx)
}

fn countersigned(pdu: &Pdu) -> Object {
    pdu.countersigned(&peer_signer(1)).unwrap().object().clone()
}

#[test]
fn an_invite_carries_the_signatures_of_all_three_servers() {
    let (world, pdu, lpdu_id) = asked();
    assert!(lpdu_id.is_some());
    assert_eq!(lpdu_id, pdu.lpdu_id());
    let outcome = done(answer(&world, &pdu, countersigned(&pdu)).unwrap());
    let appended = outcome.append[0].pdu().unwrap();
    assert_eq!(appended.event_id(), pdu.event_id());
    for server in [HUB, PEERS[0].0, PEERS[1].0] {
        assert!(appended.signatures_by(&name(server)).is_some(), "{server}");
    }
    assert_eq!(outcome.append[0].lpdu_id, lpdu_id);
    assert_eq!(outcome.followers, []);
}

#[test]
fn an_invite_within_the_room_asks_nobody() {
    let mut world = World::new();
    world.joins(BOB);
    assert!(matches!(
        world.decides(membership_lpdu(0, BOB, BEN, "invite"), PEERS[0].0, Via::Send),
        Ok(Decision::Done(_))
    ));
    assert!(matches!(
        world.decides(membership_lpdu(0, BOB, ANNE, "invite"), PEERS[0].0, Via::Invite),
        Ok(Decision::Done(_))
    ));
}

#[test]
fn the_rules_come_before_the_question() {
    let mut world = World::new();
    world.joins(BOB);
    world.changes(ALICE, CAROL, "ban").unwrap();
    assert!(matches!(
        world.decides(membership_lpdu(0, BOB, CAROL, "invite"), PEERS[0].0, Via::Invite),
        Err(Refusal::Rejected(_))
    ));
}

#[test]
fn an_answer_is_refused_once_the_room_has_moved_on() {
    let (mut world, pdu, _) = asked();
    world.says(ALICE, "meanwhile").unwrap();
    assert_eq!(answer(&world, &pdu, countersigned(&pdu)), Err(Refusal::HeadMoved));
}

#[test]
fn an_answer_must_be_the_same_event() {
    let (world, pdu, _) = asked();
    let mut changed = countersigned(&pdu);
    changed.insert("content", object! { "membership" => "invite", "reason" => "because" });
    assert_eq!(answer(&world, &pdu, changed), Err(BadInviteAnswer::Changed.into()));

    let mut extended = countersigned(&pdu);
    extended.insert("org.example.extra", 1);
    assert_eq!(answer(&world, &pdu, extended), Err(BadInviteAnswer::Changed.into()));
}

#[test]
fn fields_that_deployed_servers_add_to_an_answer_are_passed_over() {
    let (world, pdu, _) = asked();
    let mut decorated = countersigned(&pdu);
    decorated.insert("unsigned", object! { "age" => 4 });
    decorated.insert("event_id", pdu.event_id());
    let outcome = done(answer(&world, &pdu, decorated).unwrap());
    assert_eq!(*outcome.append[0].pdu().unwrap().object(), countersigned(&pdu));
}

#[test]
fn an_answer_must_be_signed_by_the_invited_server_with_a_known_key() {
    let (world, pdu, _) = asked();
    assert_eq!(
        answer(&world, &pdu, pdu.object().clone()),
        Err(BadInviteAnswer::NotSigned.into())
    );

    let stranger = signer(PEERS[1].0, 77);
    let forged = pdu.countersigned(&stranger).unwrap().object().clone();
    assert_eq!(
        answer(&world, &pdu, forged),
        Err(BadInviteAnswer::BadSignature.into()),
        "same key ID, other key"
    );

    let other_server = pdu.countersigned(&signer("z.example", 9)).unwrap().object().clone();
    assert_eq!(
        answer(&world, &pdu, other_server),
        Err(BadInviteAnswer::NotSigned.into())
    );
}

#[test]
fn other_signatures_in_an_answer_are_not_taken_over() {
    let (world, pdu, _) = asked();
    let both = pdu
        .countersigned(&peer_signer(1))
        .unwrap()
        .countersigned(&signer("z.example", 9))
        .unwrap();
    let outcome = done(answer(&world, &pdu, both.object().clone()).unwrap());
    assert!(
        outcome.append[0]
            .pdu()
            .unwrap()
            .signatures_by(&name("z.example"))
            .is_none()
    );
}

#[test]
fn only_an_invite_can_be_answered() {
    let (mut world, _, _) = asked();
    world.says(ALICE, "hello").unwrap();
    let message = world.newest().clone();
    let mut view = RoomView::restore(world.hub.meta().clone(), None).unwrap();
    world.log[..world.log.len() - 1]
        .iter()
        .for_each(|entry| view.replay(entry));
    world.hub = view;
    assert_eq!(
        answer(&world, &message, countersigned(&message)),
        Err(BadInviteAnswer::NotAnInvite.into())
    );
}
