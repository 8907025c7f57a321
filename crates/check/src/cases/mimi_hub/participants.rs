//! Cases 34 to 42: who is on the list, in which role, and who is not (MIMI #participant-list, MRP #caps). In the room of three, Alice is number 0 of
//! the list, Bob 1 and Cathy 2.

use nabe_mls::testing::mimi::{Change, add_participants, change_participants, metadata, set_component};
use nabe_wire::mls::{ComponentId, PrivateMessage, Proposal, RatchetTreeOption};
use nabe_wire::policy::Capability;
use nabe_wire::submit_message::SubmitVerdict;

use crate::case::{Case, Checked, Peers, Suite, failed};
use crate::context::Ctx;
use crate::mimi::peer::read;
use crate::mimi::policy::{ADMIN, BANNED, ORDINARY, OUTSIDER, SUPER};
use crate::mimi::room::{
    At, INVALID, MimiRoom, NOT_ALLOWED, Plan, SUCCESS, device_of, list_of, private, proposals_request, updates,
};

pub(crate) const CASES: &[Case] = &[
    Case {
        id: "mimi-34",
        title: "who may not be removed",
        suite: Suite::MimiHub,
        requirements: &["MRP-remove-participant"],
        sent: "an ordinary user removes an administrator",
        expected: "notAllowed",
        peers: Peers::Mimi(2),
        run: run!(remove_admin),
    },
    Case {
        id: "mimi-35",
        title: "who may be removed",
        suite: Suite::MimiHub,
        requirements: &[
            "MRP-remove-participant",
            "MIMI-fanout-removed-see-it",
            "MIMI-update-removes-together",
        ],
        sent: "an ordinary user removes another one with all clients",
        expected: "success, and the provider of the removed has the commit",
        peers: Peers::Mimi(2),
        run: run!(remove_ordinary),
    },
    Case {
        id: "mimi-36",
        title: "one user twice",
        suite: Suite::MimiHub,
        requirements: &["MIMI-list-touched-once"],
        sent: "commits that change a user's role and remove them, by one update and by two; one that removes them. The user has no clients, \
               and all else about the commits is right",
        expected: "invalidProposal or notAllowed; success",
        peers: Peers::Mimi(2),
        run: run!(touched_twice),
    },
    Case {
        id: "mimi-37",
        title: "an index that is not there",
        suite: Suite::MimiHub,
        requirements: &["MIMI-list-update-form"],
        sent: "changes of the roles of users number 2, 9 and the greatest number of 2, and their removals; that of the role of number 1. All \
               else about the commits is right",
        expected: "invalidProposal or notAllowed; success",
        peers: Peers::Mimi(2),
        run: run!(index_out_of_range),
    },
    Case {
        id: "mimi-38",
        title: "roles that nobody can have",
        suite: Suite::MimiHub,
        requirements: &["MRP-roles-zero", "MIMI-list-one-role"],
        sent: "users added with role 0 and with a role that is not defined",
        expected: "invalidProposal or notAllowed",
        peers: Peers::Mimi(1),
        run: run!(no_such_role),
    },
    Case {
        id: "mimi-39",
        title: "too many",
        suite: Suite::MimiHub,
        requirements: &["MRP-roles-maximum", "MRP-base-max-users", "MRP-base-max-clients"],
        sent: "adding beyond the maximum of a role, of users and of clients",
        expected: "notAllowed",
        peers: Peers::Mimi(2),
        run: run!(too_many),
    },
    Case {
        id: "mimi-40",
        title: "a ban",
        suite: Suite::MimiHub,
        requirements: &["MRP-role-ban", "MIMI-update-removes-together"],
        sent: "bans where role 1 has another name, with the clients, and leaving a client",
        expected: "notAllowed; success; notAllowed",
        peers: Peers::Mimi(2),
        run: run!(ban),
    },
    Case {
        id: "mimi-41",
        title: "the banned",
        suite: Suite::MimiHub,
        requirements: &[
            "MIMI-update-removed-cannot-talk",
            "MIMI-update-removed-cannot-commit",
            "MIMI-update-removed-propose-leaving",
            "MIMI-state-applies-on-acceptance",
        ],
        sent: "once a ban is proposed: message, commit, a new client's external commit, a new name for the room and the removal of an own client, \
               by the banned; message and new name by another one; once it is in force: a message and an external commit",
        expected: "all refused of the banned but the removal, who is not sent what the other one says; success for the other one",
        peers: Peers::Mimi(2),
        run: run!(banned),
    },
    Case {
        id: "mimi-42",
        title: "lifting a ban adds nobody",
        suite: Suite::MimiHub,
        requirements: &["MRP-role-unban"],
        sent: "a commit that lifts a ban and adds a client of the user",
        expected: "notAllowed",
        peers: Peers::Mimi(2),
        run: run!(unban_and_add),
    },
];

async fn remove_admin(ctx: &Ctx) -> Checked {
    let mut room = MimiRoom::create(ctx).await?;
    room.add("alice", "bob", At::Peer(0), ADMIN).await?;
    room.add("alice", "cathy", At::Peer(1), ORDINARY).await?;
    let change = Change {
        remove: vec![room.client("bob").member.leaf()],
        updates: vec![change_participants(&[], &[1], &[])],
        ..Change::default()
    };
    room.refused("cathy", "removing an administrator", change, &[NOT_ALLOWED])
        .await
}

async fn remove_ordinary(ctx: &Ctx) -> Checked {
    let mut room = MimiRoom::of_three(ctx).await?;
    let change = Change {
        remove: vec![room.client("bob").member.leaf()],
        updates: vec![change_participants(&[], &[1], &[])],
        ..Change::default()
    };
    let bundle = room.accepted("cathy", "removing an ordinary user", change).await?;
    room.heard(At::Peer(0), "the commit that removes its user", &bundle.commit)
        .await?;
    // And nothing after it.
    room.fence(&[At::Peer(1)]).await?;
    let heard = room.peer(At::Peer(0)).fanned_out(&room.uri)?;
    let is_last = heard
        .last()
        .is_some_and(|last| last.message.as_bytes() == bundle.commit.as_bytes());
    ctx.check("nothing after that", is_last, || format!("{} messages", heard.len()))
}

async fn touched_twice(ctx: &Ctx) -> Checked {
    let mut room = MimiRoom::create(ctx).await?;
    let (alice, dave) = (room.client("alice").user.clone(), room.user(At::Peer(0), "dave"));
    // He has no clients, which would have to go with him.
    let listed = updates(vec![add_participants(&[(&dave, ORDINARY)])]);
    room.accepted("alice", "a user without clients", listed).await?;
    let believed = |list: &[(&str, u32)]| (ComponentId::PARTICIPANT_LIST, Some(list_of(list)));
    let (gone, promoted) = (
        believed(&[(&alice, SUPER)]),
        believed(&[(&alice, SUPER), (&dave, ADMIN)]),
    );
    let beliefs = [gone.clone(), promoted];
    let removal = change_participants(&[], &[1], &[]);
    let codes = [INVALID, NOT_ALLOWED];
    let in_one = [change_participants(&[(1, ADMIN)], &[1], &[])];
    room.refuses_updates("alice", "one user twice in one update", &in_one, &beliefs, &codes)
        .await?;
    let in_two = [change_participants(&[(1, ADMIN)], &[], &[]), removal.clone()];
    room.refuses_updates("alice", "one user twice in two updates", &in_two, &beliefs, &codes)
        .await?;
    room.takes_update("alice", "the removal alone", removal, &gone).await
}

async fn index_out_of_range(ctx: &Ctx) -> Checked {
    let mut room = MimiRoom::create(ctx).await?;
    let (alice, dave) = (room.client("alice").user.clone(), room.user(At::Peer(0), "dave"));
    let listed = updates(vec![add_participants(&[(&dave, ORDINARY)])]);
    room.accepted("alice", "a user without clients", listed).await?;
    // Nobody is meant, so nothing happens, or the last one is.
    let believed = |list: &[(&str, u32)]| (ComponentId::PARTICIPANT_LIST, Some(list_of(list)));
    let same = believed(&[(&alice, SUPER), (&dave, ORDINARY)]);
    let promoted = believed(&[(&alice, SUPER), (&dave, ADMIN)]);
    let gone = believed(&[(&alice, SUPER)]);
    for index in [2, 9, u32::MAX] {
        let (role, beliefs) = (
            [change_participants(&[(index, ADMIN)], &[], &[])],
            [same.clone(), promoted.clone()],
        );
        let what = format!("the role of user number {index} of 2");
        room.refuses_updates("alice", &what, &role, &beliefs, &[INVALID, NOT_ALLOWED])
            .await?;
        let (removal, beliefs) = ([change_participants(&[], &[index], &[])], [same.clone(), gone.clone()]);
        let what = format!("the removal of user number {index} of 2");
        room.refuses_updates("alice", &what, &removal, &beliefs, &[INVALID, NOT_ALLOWED])
            .await?;
    }
    let role = change_participants(&[(1, ADMIN)], &[], &[]);
    room.takes_update("alice", "the role of number 1", role, &promoted)
        .await
}

async fn no_such_role(ctx: &Ctx) -> Checked {
    let mut room = MimiRoom::create(ctx).await?;
    let bob = room.user(At::Peer(0), "bob");
    for (what, role) in [("role 0", OUTSIDER), ("a role that is not defined", 77)] {
        let change = updates(vec![add_participants(&[(&bob, role)])]);
        room.refused("alice", what, change, &[INVALID, NOT_ALLOWED]).await?;
    }
    Ok(())
}

async fn too_many(ctx: &Ctx) -> Checked {
    let list_one_more = async |what: &str, limit: fn(&mut Plan)| {
        let mut room = MimiRoom::create_with(ctx, limit).await?;
        room.add("alice", "bob", At::Peer(0), ORDINARY).await?;
        let cathy = room.user(At::Peer(1), "cathy");
        let change = updates(vec![add_participants(&[(&cathy, ORDINARY)])]);
        room.refused("alice", what, change, &[NOT_ALLOWED]).await
    };
    list_one_more("beyond the maximum of a role", |plan| {
        plan.policy.role(ORDINARY).maximum_participants_constraint = Some(1);
    })
    .await?;
    list_one_more("beyond the maximum of users", |plan| {
        plan.policy.base.max_users = Some(2)
    })
    .await?;
    let mut room = MimiRoom::create_with(ctx, |plan| plan.policy.base.max_clients = Some(2)).await?;
    room.add("alice", "bob", At::Peer(0), ORDINARY).await?;
    let device = device_of(&room.user(At::Peer(1), "cathy"), "phone");
    let change = Change {
        add: vec![room.claim("alice", At::Peer(1), &device).await?],
        updates: vec![add_participants(&[(&device.user(), ORDINARY)])],
        ..Change::default()
    };
    room.refused("alice", "beyond the maximum of clients", change, &[NOT_ALLOWED])
        .await
}

async fn ban(ctx: &Ctx) -> Checked {
    let ban = |room: &MimiRoom<'_>| Change {
        remove: vec![room.client("bob").member.leaf()],
        updates: vec![change_participants(&[(1, BANNED)], &[], &[])],
        ..Change::default()
    };
    let mut room = MimiRoom::of_three_with(ctx, |plan| {
        plan.policy.role(BANNED).role_name = "banished".into();
        // These two together are as good as a ban.
        let by_parts = [Capability::CAN_CHANGE_USER_ROLE, Capability::CAN_KICK];
        let capabilities = &mut plan.policy.role(SUPER).role_capabilities;
        capabilities.retain(|capability| !by_parts.contains(capability));
    })
    .await?;
    let change = ban(&room);
    room.refused("alice", "role 1 has another name", change, &[NOT_ALLOWED])
        .await?;
    let mut room = MimiRoom::of_three(ctx).await?;
    let halfway = updates(vec![change_participants(&[(1, BANNED)], &[], &[])]);
    room.refused("alice", "a ban that leaves a client", halfway, &[NOT_ALLOWED])
        .await?;
    let change = ban(&room);
    let bundle = room.accepted("alice", "a ban", change).await?;
    room.heard(At::Peer(0), "the commit that bans its user", &bundle.commit)
        .await
        .map(drop)
}

async fn banned(ctx: &Ctx) -> Checked {
    proposed_ban(ctx).await?;
    leaving_after_proposed_ban(ctx).await
}

/// A ban, as proposals of Alice's.
async fn propose_ban(room: &mut MimiRoom<'_>) -> Checked {
    let leaf = room.client("bob").member.leaf();
    let proposals = [
        room.member("alice")
            .propose_component(&change_participants(&[(1, BANNED)], &[], &[])),
        room.member("alice").propose_remove(leaf),
    ];
    let answer = room.propose("alice", &proposals).await?;
    room.code("a ban is proposed", &answer, &[SUCCESS])
}

/// What Bob tries once his ban is proposed, and once it is in force. All of it would be good otherwise: Cathy may do the same.
async fn proposed_ban(ctx: &Ctx) -> Checked {
    let mut room = MimiRoom::of_three(ctx).await?;
    let bob = room.client("bob").user.clone();
    let laptop = device_of(&bob, "laptop");
    let opened = room.group_info(At::Peer(0), &laptop, None).await?;
    let (info, tree) = (opened.group_info.as_bytes(), &opened.ratchet_tree_option);
    let (_, joining) = laptop.join_externally_with(info, tree, &[], &[]);
    let message = room.encrypt("bob", "still here");
    let unheard = room.encrypt("cathy", "he does not hear this");
    let commit = room.member("bob").update();
    room.member("bob").clear();
    propose_ban(&mut room).await?;

    not_allowed(&room, "his message", &bob, &message).await?;
    room.refuses("bob", "his commit", commit.to_request(), &[NOT_ALLOWED], false)
        .await?;
    // It need not contain what is pending, so that nothing but the ban is in its way.
    let joining = joining.to_request();
    room.refuses(
        "bob",
        "his new client's external commit",
        joining,
        &[NOT_ALLOWED],
        false,
    )
    .await?;
    let rename = set_component(ComponentId::ROOM_METADATA, metadata(&room.uri, "Bob's"));
    let forged = room
        .client("bob")
        .member
        .forge_proposal(Proposal::AppDataUpdate(rename.clone()));
    let body = proposals_request(&[forged]);
    room.refuses("bob", "his proposal of a name", body, &[NOT_ALLOWED], false)
        .await?;
    match room.submit("cathy", &unheard).await? {
        SubmitVerdict::Accepted(_) => ctx.observe("a message of Cathy's: accepted"),
        other => return failed("a message of Cathy's: accepted", format!("{other:?}")),
    }
    let renamed = room.member("cathy").propose_component(&rename);
    let answer = room.propose("cathy", &[renamed]).await?;
    room.code("the same proposal of Cathy's", &answer, &[SUCCESS])?;

    let bundle = room
        .accepted("alice", "a commit of all of this", Change::default())
        .await?;
    room.heard(At::Peer(0), "the commit that bans its user", &bundle.commit)
        .await?;
    let unheard = private(&unheard);
    let heard = room.peer(At::Peer(0)).fanned_out(&room.uri)?;
    let is_heard = heard.iter().any(|heard| heard.message.as_bytes() == unheard.as_bytes());
    ctx.check(
        "what is said after the proposal does not come to him",
        !is_heard,
        || "it does".to_owned(),
    )?;
    let message = PrivateMessage {
        epoch: room.client("alice").member.epoch(),
        ..message
    };
    not_allowed(&room, "a message of the banned", &bob, &message).await?;
    let (info, tree) = room.client("alice").member.hand_over();
    let (_, joining) = laptop.join_externally_with(info.as_bytes(), &RatchetTreeOption::Full(tree), &[], &[]);
    let reply = room.update_reply(At::Peer(0), &bob, joining.to_request()).await?;
    room.code(
        "an external commit of the banned",
        &read("update", &reply)?,
        &[NOT_ALLOWED],
    )?;
    room.is_unchanged("an external commit of the banned").await?;
    room.say("cathy", "others go on").await.map(drop)
}

async fn not_allowed(room: &MimiRoom<'_>, what: &str, bob: &str, message: &PrivateMessage) -> Checked {
    match room.submit_as(At::Peer(0), bob, bob, message).await? {
        SubmitVerdict::NotAllowed => {
            room.ctx.observe(format!("{what}: notAllowed"));
            Ok(())
        }
        other => failed(format!("{what}: notAllowed"), format!("{other:?}")),
    }
}

/// He may go before he is made to.
async fn leaving_after_proposed_ban(ctx: &Ctx) -> Checked {
    let mut room = MimiRoom::of_three(ctx).await?;
    propose_ban(&mut room).await?;
    let leave = room.client("bob").member.forge_proposal(Proposal::SelfRemove);
    let answer = room.update("bob", proposals_request(&[leave])).await?;
    room.code("his own removal", &answer, &[SUCCESS])
}

async fn unban_and_add(ctx: &Ctx) -> Checked {
    let mut room = MimiRoom::of_three(ctx).await?;
    let change = Change {
        remove: vec![room.client("bob").member.leaf()],
        updates: vec![change_participants(&[(1, BANNED)], &[], &[])],
        ..Change::default()
    };
    room.accepted("alice", "a ban", change).await?;
    let device = device_of(&room.user(At::Peer(0), "bob"), "laptop");
    let change = Change {
        add: vec![room.claim("alice", At::Peer(0), &device).await?],
        updates: vec![change_participants(&[(1, ORDINARY)], &[], &[])],
        ..Change::default()
    };
    room.refused("alice", "lifting a ban and adding a client", change, &[NOT_ALLOWED])
        .await?;
    let alone = updates(vec![change_participants(&[(1, ORDINARY)], &[], &[])]);
    room.accepted("alice", "lifting a ban alone", alone).await.map(drop)
}
