//! What the draft tells about its example policies (MRP #role-examples), and direct messages.

use nabe_wire::Encode;
use nabe_wire::mls::ProposalType;
use nabe_wire::policy::Capability;
use nabe_wire::uri::Uri;

use super::super::templates::{self, GROUP_ADMIN, ORDINARY_USER, SUPER_ADMIN};
use super::*;

const HUB: &str = "hub.example";

fn all() -> [Template; 5] {
    [
        templates::cooperative(HUB),
        templates::strict(HUB),
        templates::moderated(HUB),
        templates::multi_organization(HUB, "a.example"),
        templates::direct_message(),
    ]
}

fn hub_claims() -> Claims {
    claims("mimi://hub.example")
}

fn by_hub(claims: &Claims) -> Proposer<'_> {
    Proposer::External { index: 0, claims }
}

#[test]
fn every_template_is_consistent_and_makes_a_room() {
    for template in all() {
        let room = room(&template, &[]);
        assert_eq!(room.policy().roles().iter().count(), template.roles.roles.len());
        let bytes = template
            .dictionary(&ParticipantListData { participants: vec![] })
            .to_bytes();
        assert!(bytes.len() < 4000, "{} bytes in every GroupInfo", bytes.len());
    }
}

#[test]
fn every_role_of_a_template_has_capabilities_of_the_registry() {
    for role in all().iter().flat_map(|template| &template.roles.roles) {
        assert!(
            role.role_capabilities
                .iter()
                .all(|capability| capability.name().is_some())
        );
    }
}

fn cooperative() -> Room {
    room(
        &templates::cooperative(HUB),
        &[
            ("alice@a", SUPER_ADMIN),
            ("ann@a", GROUP_ADMIN),
            ("bob@b", ORDINARY_USER),
            ("cathy@c", ORDINARY_USER),
        ],
    )
}

#[test]
fn in_a_cooperative_room_users_add_and_remove_each_other() {
    let (mut room, bob) = (cooperative(), claims("mimi://b.example/u/bob"));
    commit(
        &mut room,
        committer(2, &bob),
        &[lists("zoe@b", ORDINARY_USER), adds("zoe@b")],
    )
    .unwrap();
    assert_eq!(room.participants().owner(4).unwrap().user(), &user("zoe@b"));
    commit(&mut room, committer(2, &bob), &[drops(3), Action::Remove(3)]).unwrap();
    assert_eq!(room.role_of(&user("cathy@c")), NO_ROLE);
}

#[test]
fn in_a_cooperative_room_users_do_not_ban_or_promote() {
    let (mut room, bob) = (cooperative(), claims("mimi://b.example/u/bob"));
    let refused = propose(&mut room, member(2, &bob), &[gives(3, BAN_ROLE), Action::Remove(3)]);
    assert_eq!(refused, Err(Rejection::CannotBan));
    let refused = propose(&mut room, member(2, &bob), &[gives(3, GROUP_ADMIN)]);
    assert_eq!(refused, Err(Rejection::CannotChangeUserRole));
    let refused = propose(&mut room, member(2, &bob), &[drops(1), Action::Remove(1)]);
    assert_eq!(refused, Err(Rejection::RoleChangeNotAuthorized));
}

#[test]
fn in_a_cooperative_room_administrators_ban_and_lift_bans() {
    let (mut room, ann) = (cooperative(), claims("mimi://a.example/u/ann"));
    commit(&mut room, committer(1, &ann), &[gives(2, BAN_ROLE), Action::Remove(2)]).unwrap();
    assert_eq!(
        room.send(&user("bob@b"), MessageEpoch::Behind(0)),
        Err(Rejection::NotParticipant)
    );
    commit(&mut room, committer(1, &ann), &[gives(2, ORDINARY_USER)]).unwrap();
    assert_eq!(
        room.send(&user("bob@b"), MessageEpoch::Behind(0)),
        Err(Rejection::SenderInactive)
    );
    let client = client("bob@b");
    let joins = Committer::NewMember {
        client: &client,
        code: JoinCode::Absent,
    };
    commit(&mut room, joins, &[]).unwrap();
    assert_eq!(room.send(&user("bob@b"), MessageEpoch::Behind(0)), Ok(()));
}

#[test]
fn the_hub_bans_and_cleans_up_and_restores_nobody() {
    for (template, users) in [
        (templates::cooperative(HUB), 2),
        (templates::strict(HUB), 2),
        (templates::moderated(HUB), 4),
        (templates::multi_organization(HUB, "a.example"), 2),
    ] {
        let mut room = room(&template, &[("bob@b", users)]);
        let hub = hub_claims();
        propose(&mut room, by_hub(&hub), &[gives(0, BAN_ROLE), Action::Remove(0)]).unwrap();
        assert_eq!(room.role_of(&user("bob@b")), BAN_ROLE);
        let refused = propose(&mut room, by_hub(&hub), &[lists("zoe@b", users)]);
        assert_eq!(refused, Err(Rejection::CannotAddParticipant));
    }
}

#[test]
fn users_of_the_hubs_provider_are_not_the_hub() {
    let template = templates::strict(HUB);
    let mut room = room(&template, &[("bob@hub", ORDINARY_USER), ("alice@a", SUPER_ADMIN)]);
    let bob = claims("mimi://hub.example/u/bob");
    let refused = propose(&mut room, member(0, &bob), &[gives(0, 5)]);
    assert_eq!(refused, Err(Rejection::OwnRoleNotPreauthorized));
}

#[test]
fn in_a_strict_room_users_neither_add_nor_remove_and_strangers_need_a_code() {
    let template = templates::strict(HUB);
    let mut room = room(&template, &[("alice@a", SUPER_ADMIN), ("bob@b", ORDINARY_USER)]);
    let bob = claims("mimi://b.example/u/bob");
    let refused = propose(&mut room, member(1, &bob), &[lists("zoe@b", ORDINARY_USER)]);
    assert_eq!(refused, Err(Rejection::CannotAddParticipant));
    let refused = propose(&mut room, member(1, &bob), &[drops(0), Action::Remove(0)]);
    assert_eq!(refused, Err(Rejection::CannotRemoveParticipant));
    let zoe = client("zoe@b");
    let joins = |code| Committer::NewMember { client: &zoe, code };
    let puts_herself = [lists("zoe@b", ORDINARY_USER)];
    assert_eq!(
        commit(&mut room, joins(JoinCode::Absent), &puts_herself),
        Err(Rejection::CannotOpenJoin)
    );
    commit(&mut room, joins(JoinCode::For(ORDINARY_USER)), &puts_herself).unwrap();
    assert_eq!(room.role_of(&user("zoe@b")), ORDINARY_USER);
}

#[test]
fn in_a_moderated_room_attendees_listen_and_speakers_speak() {
    let template = templates::moderated(HUB);
    let mut room = room(
        &template,
        &[
            ("gus@a", 2),
            ("ann@a", 3),
            ("sam@a", 4),
            ("moe@a", 5),
            ("sue@a", 6),
            ("mia@a", 5),
        ],
    );
    let now = MessageEpoch::Behind(0);
    for (name, sends) in [("gus@a", false), ("ann@a", false), ("sam@a", true), ("moe@a", true)] {
        assert_eq!(room.send(&user(name), now).is_ok(), sends, "{name}");
        assert_eq!(room.receive(&user(name)), Ok(()), "{name}");
    }
    assert_eq!(room.send(&user("ann@a"), now), Err(Rejection::CannotSendMessage));
    // Guests cannot bring a second client, and do not report.
    let gus = claims("mimi://a.example/u/gus");
    let refused = propose(&mut room, member(0, &gus), &[adds("gus@a")]);
    assert_eq!(refused, Err(Rejection::CannotAddOwnClient));
    assert_eq!(room.report(Some(&user("gus@a"))), Err(Rejection::CannotReportAbuse));
    // A moderator gives voice and takes it.
    let moe = claims("mimi://a.example/u/moe");
    propose(&mut room, member(3, &moe), &[gives(1, 4)]).unwrap();
    assert_eq!(room.send(&user("ann@a"), now), Ok(()));
    let refused = propose(&mut room, member(3, &moe), &[gives(4, 3)]);
    assert_eq!(refused, Err(Rejection::RoleChangeNotAuthorized));
}

#[test]
fn a_moderated_room_lets_strangers_in_by_code_as_guests_or_attendees() {
    let template = templates::moderated(HUB);
    for (role, verdict) in [(2, Ok(())), (3, Ok(())), (4, Err(Rejection::RoleChangeNotAuthorized))] {
        let mut room = room(&template, &[("sue@a", 6)]);
        let zoe = client("zoe@b");
        let joins = Committer::NewMember {
            client: &zoe,
            code: JoinCode::For(role),
        };
        assert_eq!(commit(&mut room, joins, &[lists("zoe@b", role)]), verdict);
    }
}

fn organizations() -> Room {
    room(
        &templates::multi_organization(HUB, "a.example"),
        &[
            ("alice@a", 8),
            ("ben@b", 6),
            ("bob@b", 3),
            ("cleo@c", 7),
            ("cathy@c", 4),
            ("beth@b", 6),
        ],
    )
}

#[test]
fn administrators_of_an_organization_reach_their_own_users_alone() {
    let (mut room, ben) = (organizations(), claims("mimi://b.example/u/ben"));
    propose(&mut room, member(1, &ben), &[lists("bill@b", 3)]).unwrap();
    for refused in [
        propose(&mut room, member(1, &ben), &[lists("carl@c", 4)]),
        propose(&mut room, member(1, &ben), &[gives(4, 7)]),
        propose(&mut room, member(1, &ben), &[drops(4), Action::Remove(4)]),
        propose(&mut room, member(1, &ben), &[gives(2, 4)]),
    ] {
        assert_eq!(refused, Err(Rejection::RoleChangeNotAuthorized));
    }
}

#[test]
fn administrators_of_an_organization_ban_and_do_not_lift_bans() {
    let (mut room, ben) = (organizations(), claims("mimi://b.example/u/ben"));
    commit(&mut room, committer(1, &ben), &[gives(2, BAN_ROLE), Action::Remove(2)]).unwrap();
    let refused = propose(&mut room, member(1, &ben), &[gives(2, 3)]);
    assert_eq!(refused, Err(Rejection::RoleChangeNotAuthorized));
    let alice = claims("mimi://a.example/u/alice");
    propose(&mut room, member(0, &alice), &[gives(2, 3)]).unwrap();
}

#[test]
fn an_organization_has_one_to_three_administrators() {
    let (mut room, ben) = (organizations(), claims("mimi://b.example/u/ben"));
    let refused = propose(
        &mut room,
        member(1, &ben),
        &[list_change(&[], &[], &[(user("b1@b"), 6), (user("b2@b"), 6)])],
    );
    assert_eq!(refused, Err(Rejection::TooManyParticipants));
    propose(&mut room, member(1, &ben), &[lists("b1@b", 6)]).unwrap();
    // The only one of C's cannot go.
    let alice = claims("mimi://a.example/u/alice");
    let refused = propose(&mut room, member(0, &alice), &[gives(3, 4)]);
    assert_eq!(refused, Err(Rejection::TooFewParticipants));
}

#[test]
fn only_users_of_the_first_organization_join_by_preauthorization() {
    let mut room = organizations();
    let (amy, bea) = (client("amy@a"), client("bea@b"));
    let joins = |client| Committer::NewMember {
        client,
        code: JoinCode::Absent,
    };
    assert_eq!(
        commit(&mut room, joins(&bea), &[lists("bea@b", 3)]),
        Err(Rejection::CannotOpenJoin)
    );
    commit(&mut room, joins(&amy), &[lists("amy@a", 2)]).unwrap();
}

#[test]
fn the_enforcer_reaches_the_users_of_every_organization() {
    // In the draft it does not reach those of the first (D-examples).
    let hub = hub_claims();
    let mut room = room(
        &templates::multi_organization(HUB, "a.example"),
        &[("amy@a", 2), ("alice@a", 8)],
    );
    propose(&mut room, by_hub(&hub), &[drops(0), Action::Remove(0)]).unwrap();
}

#[test]
fn nobody_leaves_a_direct_message_and_clients_come_and_go() {
    let mut room = room(
        &templates::direct_message(),
        &[("bob@b", ORDINARY_USER), ("cathy@c", ORDINARY_USER)],
    );
    let bob = claims("mimi://b.example/u/bob");
    for refused in [
        propose(&mut room, member(0, &bob), &[lists("zoe@b", ORDINARY_USER)]),
        propose(&mut room, member(0, &bob), &[drops(0), Action::SelfRemove]),
        propose(&mut room, member(0, &bob), &[drops(1), Action::Remove(1)]),
    ] {
        assert_eq!(refused, Err(Rejection::FixedMembership));
    }
    propose(&mut room, member(0, &bob), &[Action::SelfRemove]).unwrap();
    let cathy = claims("mimi://c.example/u/cathy");
    commit(&mut room, committer(1, &cathy), &[]).unwrap();
    assert_eq!(room.clients_of(&user("bob@b")), 0);
    let client = client("bob@b");
    let joins = Committer::NewMember {
        client: &client,
        code: JoinCode::Absent,
    };
    commit(&mut room, joins, &[]).unwrap();
    assert_eq!(room.send(&user("bob@b"), MessageEpoch::Behind(0)), Ok(()));
}

#[test]
fn who_asks_in_an_example_for_what_its_role_lacks_is_told_the_capability() {
    let (mut room, ann) = (cooperative(), claims("mimi://a.example/u/ann"));
    let refused = propose(&mut room, member(1, &ann), &[Action::Other(ProposalType::REINIT)]).unwrap_err();
    assert_eq!(refused.capability(), Some(Capability::CAN_SEND_MLS_REINIT_PROPOSAL));
    assert_eq!(refused.rule(), "can-send-mls-reinit-proposal");
    assert_eq!(refused.section(), "MRP #disruptive-policy-changes");
    assert_eq!(
        refused.to_string(),
        "the role cannot propose a new group (it takes canSendMLSReinitProposal)"
    );
}

/// A room of a parent, and the parent with these users.
fn of_a_parent(users: &[&str]) -> (Room, Room) {
    const HALL: &str = "mimi://hub.example/r/hall";
    let mut template = templates::cooperative(HUB);
    let list = |users: &[&str]| ParticipantListData {
        participants: users
            .iter()
            .map(|name| UserRolePair {
                user: user(name),
                role_index: ORDINARY_USER,
            })
            .collect(),
    };
    let hall = IdentifierUri::new(HALL).unwrap();
    let hall = Room::load(hall, &template.dictionary(&list(users)), []).unwrap();
    template.base.parent_dependant = true;
    template.base.parent_room = vec![Uri::new(HALL).unwrap()];
    let room = room(&template, &[("alice@a", SUPER_ADMIN), ("cathy@c", ORDINARY_USER)]);
    (room, hall)
}

#[test]
fn what_was_accepted_is_committed_though_the_parent_has_changed_since() {
    let everyone = ["alice@a", "cathy@c", "dora@d", "eve@e", "fay@f"];
    let ((mut room, hall), (_, smaller)) = (of_a_parent(&everyone), of_a_parent(&["alice@a", "eve@e"]));
    let alice = claims("mimi://a.example/u/alice");
    let proposals = [
        (b"0".as_slice().into(), gives(1, GROUP_ADMIN)),
        (b"1".as_slice().into(), lists("dora@d", ORDINARY_USER)),
    ];
    let bundle = Bundle {
        proposer: member(0, &alice),
        proposals: &proposals,
        wire_format: WireFormat::PUBLIC_MESSAGE,
    };
    assert_eq!(
        room.propose(&bundle, Some(&smaller)).err(),
        Some(Rejection::NotInParent)
    );
    let proposed = room.propose(&bundle, Some(&hall)).unwrap();
    room.accept(proposed).unwrap();
    let decide = |inline: &[Action]| {
        let references = [b"0".as_slice(), b"1"].map(CommitProposal::Reference);
        let inline = inline.iter().cloned().map(CommitProposal::Inline);
        let commit = Commit {
            committer: committer(0, &alice),
            proposals: &references.into_iter().chain(inline).collect::<Vec<_>>(),
            expired: &[],
            wire_format: WireFormat::PUBLIC_MESSAGE,
        };
        room.commit(&commit, Some(&smaller)).map(drop)
    };
    assert_eq!(decide(&[]), Ok(()));
    // What the commit brings itself is another matter.
    assert_eq!(decide(&[lists("fay@f", ORDINARY_USER)]), Err(Rejection::NotInParent));
}

/// A hub that starts again has the same proposals pending, whatever has become of the parent, and without having it at hand.
#[test]
fn what_was_accepted_is_accepted_again_whatever_the_parent_says_by_now() {
    let everyone = ["alice@a", "cathy@c", "dora@d", "eve@e", "fay@f"];
    let (before, hall) = of_a_parent(&everyone);
    let alice = claims("mimi://a.example/u/alice");
    let hub = claims("mimi://hub.example");
    let by_alice = [(b"0".as_slice().into(), lists("dora@d", ORDINARY_USER))];
    let by_hub = [
        (b"1".as_slice().into(), drops(1)),
        (b"2".as_slice().into(), Action::Remove(1)),
    ];
    let bundle = |proposer, proposals| Bundle {
        proposer,
        proposals,
        wire_format: WireFormat::PUBLIC_MESSAGE,
    };
    let by_alice = bundle(member(0, &alice), &by_alice);
    let sender = Proposer::External { index: 0, claims: &hub };
    let by_hub = bundle(sender, &by_hub);
    let mut room = before.clone();
    let proposed = room.propose(&by_alice, Some(&hall)).unwrap();
    room.accept(proposed).unwrap();
    let (_, without_cathy) = of_a_parent(&["alice@a", "dora@d", "eve@e", "fay@f"]);
    let proposed = room.propose(&by_hub, Some(&without_cathy)).unwrap();
    room.accept(proposed).unwrap();

    let mut again = before;
    for bundle in [&by_alice, &by_hub] {
        assert_eq!(again.propose(bundle, None).err(), Some(Rejection::ParentUnknown));
        again.accept_again(bundle).unwrap();
    }
    assert_eq!(again.effective_list(), room.effective_list());
    assert!(again.accepted().eq(room.accepted()));
    assert_eq!(again.clients_of(&user("cathy@c")), 0);
}

/// Of what an external commit leaves over the rest counts on.
#[test]
fn who_has_left_the_parent_is_not_left_over() {
    let everyone = ["alice@a", "cathy@c", "dora@d", "eve@e", "fay@f"];
    let ((mut room, hall), (_, smaller)) = (
        of_a_parent(&everyone),
        of_a_parent(&["alice@a", "cathy@c", "eve@e", "fay@f"]),
    );
    let alice = claims("mimi://a.example/u/alice");
    let proposals = [
        (b"0".as_slice().into(), lists("dora@d", ORDINARY_USER)),
        (b"1".as_slice().into(), lists("eve@e", ORDINARY_USER)),
    ];
    let bundle = Bundle {
        proposer: member(0, &alice),
        proposals: &proposals,
        wire_format: WireFormat::PUBLIC_MESSAGE,
    };
    let proposed = room.propose(&bundle, Some(&hall)).unwrap();
    room.accept(proposed).unwrap();
    let cathy = client("cathy@c");
    let commit = Commit {
        committer: Committer::NewMember {
            client: &cathy,
            code: JoinCode::Absent,
        },
        proposals: &[],
        expired: &[],
        wire_format: WireFormat::PUBLIC_MESSAGE,
    };
    let merge = room.commit(&commit, Some(&smaller)).unwrap();
    room.merge(merge).unwrap();
    let left_over: Vec<_> = room.left_over().roles().collect();
    assert_eq!(left_over, [(&user("eve@e"), ORDINARY_USER)]);
    assert_eq!(room.role_of(&user("dora@d")), NO_ROLE);
}

#[test]
fn what_was_accepted_after_the_last_client_left_is_accepted_again_when_the_room_is_loaded() {
    let mut template = templates::cooperative(HUB);
    template.base.persistent_room = false;
    let alice = claims("mimi://a.example/u/alice");
    let hub = hub_claims();
    let mut room = room(&template, &[("alice@a", SUPER_ADMIN), ("bob@b", ORDINARY_USER)]);
    propose(
        &mut room,
        member(1, &claims("mimi://b.example/u/bob")),
        &[Action::SelfRemove],
    )
    .unwrap();
    propose(&mut room, member(0, &alice), &[Action::SelfRemove]).unwrap();
    assert!(room.is_over());
    let proposals = [(Bytes::from(b"late".as_slice()), Action::Remove(1))];
    let late = Bundle {
        proposer: by_hub(&hub),
        proposals: &proposals,
        wire_format: WireFormat::PUBLIC_MESSAGE,
    };
    assert_eq!(room.propose(&late, None).err(), Some(Rejection::RoomOver));
    // By another rule, which was there at all times.
    assert_eq!(room.accept_again(&late), Err(Rejection::LeafRemovedTwice));
    let proposals = [(Bytes::from(b"late".as_slice()), lists("cathy@c", ORDINARY_USER))];
    let late = Bundle {
        proposer: member(0, &alice),
        proposals: &proposals,
        ..late
    };
    assert_eq!(room.propose(&late, None).err(), Some(Rejection::RoomOver));
    assert_eq!(room.accept_again(&late), Ok(()));
}
