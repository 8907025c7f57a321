//! Cases 26 to 48: what changes a room (MIMI #update-room-state), and who may (MRP #caps). In the room of three, Alice is number 0 of the
//! list, Bob 1 and Cathy 2.

use nabe_mls::testing::mimi::{
    Change, add_participants, change_participants, metadata, remove_component, set_component,
};
use nabe_wire::Encode as _;
use nabe_wire::mls::{AppDataUpdate, ComponentId, GroupInfo, PrivateMessage, Proposal, RatchetTreeOption};
use nabe_wire::policy::{Capability, RoleData};
use nabe_wire::room_metadata::{RichDescription, RoomMetaData};
use nabe_wire::submit_message::SubmitVerdict;
use nabe_wire::update::UpdateVerdict;
use nabe_wire::{Kept, Message as _};

use crate::author::now_millis;
use crate::case::{Case, Checked, Peers, Suite, failed};
use crate::context::Ctx;
use crate::mimi::policy::{ADMIN, BANNED, ORDINARY, OUTSIDER, READER, SUPER, role};
use crate::mimi::room::{At, INVALID, MimiRoom, NOT_ALLOWED, Plan, SUCCESS, WRONG_EPOCH, device_of, proposals_request};

pub(crate) const CASES: &[Case] = &[
    Case {
        id: "mimi-26",
        title: "a user and their clients are added",
        suite: Suite::MimiHub,
        requirements: &[
            "MIMI-add-two-steps",
            "MIMI-update-bundle-form",
            "MIMI-update-response-form",
            "MIMI-update-tree-option",
            "MIMI-fanout-welcome-to-whom",
            "MIMI-state-package-provider",
        ],
        sent: "one commit that lists Bob and adds his two clients, with Welcome, GroupInfo and tree",
        expected: "success with a time; Bob's provider has the Welcome and a tree; all agree on the next epoch",
        peers: Peers::Mimi(1),
        run: run!(add_user),
    },
    Case {
        id: "mimi-27",
        title: "a GroupInfo in parts",
        suite: Suite::MimiHub,
        requirements: &["MIMI-update-group-info-partial", "MIMI-update-tree-apart"],
        sent: "a commit with a PartialGroupInfo",
        expected: "success; the GroupInfo that is handed out later is the committer's, byte for byte",
        peers: Peers::Mimi(2),
        run: run!(partial_group_info),
    },
    Case {
        id: "mimi-28",
        title: "a client without its user",
        suite: Suite::MimiHub,
        requirements: &["MIMI-update-adds-together"],
        sent: "a commit that adds a client of somebody who is not on the list",
        expected: "notAllowed",
        peers: Peers::Mimi(1),
        run: run!(client_without_user),
    },
    Case {
        id: "mimi-29",
        title: "a user without clients",
        suite: Suite::MimiHub,
        requirements: &["MIMI-update-adds-together", "MIMI-submit-sender-active"],
        sent: "a commit that lists Bob and adds no client; a message in his name",
        expected: "success; notAllowed, since he is not active",
        peers: Peers::Mimi(2),
        run: run!(user_without_client),
    },
    Case {
        id: "mimi-30",
        title: "a key package that nobody fetched",
        suite: Suite::MimiHub,
        requirements: &["MIMI-keys-via-hub", "MIMI-state-package-provider"],
        sent: "a commit with a key package that did not come by way of the hub",
        expected: "notAllowed",
        peers: Peers::Mimi(1),
        run: run!(unknown_package),
    },
    Case {
        id: "mimi-31",
        title: "a GroupInfo that is not signed",
        suite: Suite::MimiHub,
        requirements: &["MIMI-update-group-info-partial"],
        sent: "a commit whose GroupInfo has a bit of its signature flipped",
        expected: "notAllowed, invalidProposal or 400, and the epoch stays",
        peers: Peers::Mimi(2),
        run: run!(unsigned_group_info),
    },
    Case {
        id: "mimi-32",
        title: "two commits at once",
        suite: Suite::MimiHub,
        requirements: &["MIMI-update-response-form", "MIMI-room-one-hub"],
        sent: "commits of two clients for one epoch, at the same time",
        expected: "one success, one wrongEpoch with the next epoch",
        peers: Peers::Mimi(2),
        run: run!(two_commits),
    },
    Case {
        id: "mimi-33",
        title: "a commit of an epoch that is over",
        suite: Suite::MimiHub,
        requirements: &["MIMI-update-response-form"],
        sent: "a commit made before another one was accepted",
        expected: "wrongEpoch with the current epoch",
        peers: Peers::Mimi(2),
        run: run!(old_commit),
    },
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
        sent: "a commit that changes a user's role and removes them",
        expected: "invalidProposal or notAllowed",
        peers: Peers::Mimi(2),
        run: run!(touched_twice),
    },
    Case {
        id: "mimi-37",
        title: "an index that is not there",
        suite: Suite::MimiHub,
        requirements: &["MIMI-list-update-form"],
        sent: "a change of the role of user number 9 of 3",
        expected: "invalidProposal",
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
        sent: "once a ban is proposed: message, commit and the removal of an own client by the banned; once it is committed: a message, \
               and an external commit",
        expected: "all refused but the removal",
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
    Case {
        id: "mimi-43",
        title: "definitions of roles",
        suite: Suite::MimiHub,
        requirements: &[
            "MRP-roles-update-alone",
            "MRP-disruptive-roles",
            "MRP-roles-update-form",
        ],
        sent: "new definitions together with a change of the list, alone, and alone by who may not",
        expected: "notAllowed; success; notAllowed",
        peers: Peers::Mimi(2),
        run: run!(role_definitions),
    },
    Case {
        id: "mimi-44",
        title: "changes of preauthorization",
        suite: Suite::MimiHub,
        requirements: &["MRP-preauth-update-removals", "MRP-disruptive-preauth"],
        sent: "a new preauthorization together with adding a user, and together with removing one",
        expected: "notAllowed; success",
        peers: Peers::Mimi(2),
        run: run!(preauthorization),
    },
    Case {
        id: "mimi-45",
        title: "metadata by capabilities",
        suite: Suite::MimiHub,
        requirements: &["MRP-metadata-fields", "MIMI-meta-replaces"],
        sent: "a new name by who may, by who may not, and a new description by who may only name",
        expected: "success; notAllowed; notAllowed",
        peers: Peers::Mimi(2),
        run: run!(metadata_fields),
    },
    Case {
        id: "mimi-46",
        title: "metadata twice",
        suite: Suite::MimiHub,
        requirements: &["MIMI-meta-once-per-commit"],
        sent: "a commit with two updates of the metadata",
        expected: "invalidProposal or notAllowed",
        peers: Peers::Mimi(1),
        run: run!(metadata_twice),
    },
    Case {
        id: "mimi-47",
        title: "removing components",
        suite: Suite::MimiHub,
        requirements: &["MLSX-update-one-remove-or-updates", "MLSX-update-remove-absent"],
        sent: "commits that update and remove one component, and that remove one that is not there",
        expected: "invalidProposal or notAllowed",
        peers: Peers::Mimi(1),
        run: run!(remove_components),
    },
    Case {
        id: "mimi-48",
        title: "the dictionary by another way",
        suite: Suite::MimiHub,
        requirements: &["MLSX-update-not-by-extensions"],
        sent: "a commit that changes the dictionary by GroupContextExtensions",
        expected: "invalidProposal or notAllowed",
        peers: Peers::Mimi(1),
        run: run!(dictionary_by_extensions),
    },
];

/// A commit with these updates of components alone.
fn updates(updates: Vec<AppDataUpdate>) -> Change {
    Change {
        updates,
        ..Change::default()
    }
}

async fn add_user(ctx: &Ctx) -> Checked {
    let mut room = MimiRoom::create(ctx).await?;
    let user = room.user(At::Peer(0), "bob");
    let devices = [device_of(&user, "phone"), device_of(&user, "laptop")];
    let packages = devices.each_ref().map(|device| device.key_package());
    for (device, package) in devices.iter().zip(&packages) {
        ctx.mimi(0).offer(&user, &device.client(), vec![package.clone()]);
    }
    let answer = room.key_material("alice", &user).await?;
    if answer.clients.len() != 2 {
        return failed("key packages of two clients", format!("{}", answer.clients.len()));
    }
    let epoch = room.client("alice").member.epoch();
    let bundle = room.member("alice").commit(Change {
        add: packages.into(),
        updates: vec![add_participants(&[(&user, ORDINARY)])],
        ..Change::default()
    });
    room.member("alice").merge();
    let bundle = bundle.with_tree(room.member("alice").tree());
    let asked = now_millis().unsigned_abs();
    let alice = room.client("alice").user.clone();
    let reply = room.update_reply(At::Subject, &alice, bundle.to_request()).await?;
    let answer = crate::mimi::peer::read::<nabe_wire::update::UpdateRoomResponse>("update", &reply)?;
    room.code("the commit", &answer, &[SUCCESS])?;
    if let UpdateVerdict::Success { accepted_timestamp } = answer.verdict {
        // The subject's clock may be a little off.
        let is_now = accepted_timestamp.saturating_add(CLOCKS_DIFFER_MS) >= asked;
        ctx.check("accepted no earlier than asked", is_now, || {
            accepted_timestamp.to_string()
        })?;
    }
    let welcome = room.welcome(At::Peer(0), &bundle).await?;
    for (name, device) in [("bob", &devices[0]), ("bob 2", &devices[1])] {
        room.join(name, At::Peer(0), device, &welcome)?;
    }
    let authenticator = room.client("alice").member.epoch_authenticator().to_vec();
    let agree = ["bob", "bob 2"].iter().all(|name| {
        let member = &room.client(name).member;
        member.epoch() == epoch + 1 && member.epoch_authenticator() == authenticator
    });
    ctx.check("all agree on the next epoch", agree, || "they do not".to_owned())?;
    let message = room.encrypt("bob", "hello");
    match room.submit("bob", &message).await? {
        SubmitVerdict::Accepted(_) => Ok(()),
        other => failed("a message of the new user: accepted", format!("{other:?}")),
    }
}

async fn partial_group_info(ctx: &Ctx) -> Checked {
    let mut room = MimiRoom::of_three(ctx).await?;
    let bundle = room.member("cathy").update();
    let answer = room.send("cathy", &bundle.clone().in_parts()).await?;
    room.code("a GroupInfo in parts", &answer, &[SUCCESS])?;
    let laptop = device_of(&room.user(At::Peer(0), "bob"), "laptop");
    let opened = room.group_info(At::Peer(0), &laptop, None).await?;
    let is_same = *opened.group_info == *bundle.group_info();
    ctx.check("the committer's GroupInfo", is_same, || {
        "another one is handed out".to_owned()
    })
}

async fn client_without_user(ctx: &Ctx) -> Checked {
    let mut room = MimiRoom::create(ctx).await?;
    let device = device_of(&room.user(At::Peer(0), "bob"), "phone");
    let package = room.claim("alice", At::Peer(0), &device).await?;
    let change = Change {
        add: vec![package],
        ..Change::default()
    };
    room.refused("alice", "a client without its user", change, &[NOT_ALLOWED])
        .await
}

async fn user_without_client(ctx: &Ctx) -> Checked {
    let mut room = MimiRoom::create(ctx).await?;
    room.add("alice", "cathy", At::Peer(1), ORDINARY).await?;
    let bob = room.user(At::Peer(0), "bob");
    let listed = updates(vec![add_participants(&[(&bob, ORDINARY)])]);
    room.accepted("alice", "a user without clients", listed).await?;
    let message = room.encrypt("cathy", "as if by Bob");
    match room.submit_as(At::Peer(0), &bob, &bob, &message).await? {
        SubmitVerdict::NotAllowed => Ok(()),
        other => failed("a message of who is not active: notAllowed", format!("{other:?}")),
    }
}

async fn unknown_package(ctx: &Ctx) -> Checked {
    let mut room = MimiRoom::create(ctx).await?;
    let device = device_of(&room.user(At::Peer(0), "bob"), "phone");
    let change = Change {
        add: vec![device.key_package()],
        updates: vec![add_participants(&[(&device.user(), ORDINARY)])],
        ..Change::default()
    };
    room.refused("alice", "an unknown key package", change, &[NOT_ALLOWED])
        .await
}

async fn unsigned_group_info(ctx: &Ctx) -> Checked {
    let mut room = MimiRoom::of_three(ctx).await?;
    let bundle = room.member("cathy").update();
    let mut signature = bundle.group_info().signature.to_vec();
    if let Some(byte) = signature.first_mut() {
        *byte ^= 1;
    }
    let wrong = Kept::new(GroupInfo {
        signature: signature.into(),
        ..bundle.group_info().clone()
    });
    let honest = bundle.clone();
    let body = bundle.with_group_info(wrong).to_request();
    room.refuses("cathy", "a flipped bit", body, &[NOT_ALLOWED, INVALID], true)
        .await?;
    let answer = room.send("cathy", &honest).await?;
    room.code("the same commit with its own GroupInfo", &answer, &[SUCCESS])
}

async fn two_commits(ctx: &Ctx) -> Checked {
    let mut room = MimiRoom::of_three(ctx).await?;
    let epoch = room.client("alice").member.epoch();
    let bundles = [room.member("bob").update(), room.member("cathy").update()];
    let (first, second) = tokio::join!(
        room.update("bob", bundles[0].to_request()),
        room.update("cathy", bundles[1].to_request())
    );
    let answers = [first?, second?];
    let mut codes = answers.each_ref().map(|answer| answer.code().0);
    codes.sort_unstable();
    ctx.check("one success, one wrongEpoch", codes == [SUCCESS, WRONG_EPOCH], || {
        format!("{codes:?}")
    })?;
    for answer in answers {
        if let UpdateVerdict::WrongEpoch { current_epoch } = answer.verdict {
            let is_next = current_epoch == epoch + 1;
            ctx.check("wrongEpoch names the next epoch", is_next, || current_epoch.to_string())?;
        }
    }
    Ok(())
}

async fn old_commit(ctx: &Ctx) -> Checked {
    let mut room = MimiRoom::of_three(ctx).await?;
    let late = room.member("cathy").update();
    room.member("cathy").clear();
    room.accepted("bob", "the first commit", Change::default()).await?;
    let current = room.client("alice").member.epoch();
    let answer = room.update("cathy", late.to_request()).await?;
    match answer.verdict {
        UpdateVerdict::WrongEpoch { current_epoch } if current_epoch == current => Ok(()),
        other => failed(format!("wrongEpoch with {current}"), format!("{other:?}")),
    }
}

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
    let mut room = MimiRoom::of_three(ctx).await?;
    let twice = [
        change_participants(&[(1, ADMIN)], &[], &[]),
        change_participants(&[], &[1], &[]),
    ];
    let body = room.forged("alice", twice.map(Proposal::AppDataUpdate).into());
    room.refuses("alice", "one user twice", body, &[INVALID, NOT_ALLOWED], false)
        .await
}

async fn index_out_of_range(ctx: &Ctx) -> Checked {
    let mut room = MimiRoom::of_three(ctx).await?;
    let update = Proposal::AppDataUpdate(change_participants(&[(9, ADMIN)], &[], &[]));
    let body = room.forged("alice", vec![update]);
    room.refuses("alice", "user number 9 of 3", body, &[INVALID], false)
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
    let mut room = MimiRoom::of_three(ctx).await?;
    let message = room.encrypt("bob", "still here");
    let (leaf, bob) = (room.client("bob").member.leaf(), room.client("bob").user.clone());
    let commit = room.member("bob").update();
    room.member("bob").clear();
    let proposals = [
        room.member("alice")
            .propose_component(&change_participants(&[(1, BANNED)], &[], &[])),
        room.member("alice").propose_remove(leaf),
    ];
    let answer = room.propose("alice", &proposals).await?;
    room.code("a ban is proposed", &answer, &[SUCCESS])?;
    match room.submit("bob", &message).await? {
        SubmitVerdict::NotAllowed => ctx.observe("his message: notAllowed"),
        other => return failed("a message of the banned: notAllowed", format!("{other:?}")),
    }
    room.refuses("bob", "his commit", commit.to_request(), &[NOT_ALLOWED], false)
        .await?;
    let rename = set_component(ComponentId::ROOM_METADATA, metadata(&room.uri, "Bob's"));
    let rename = room
        .client("bob")
        .member
        .forge_proposal(Proposal::AppDataUpdate(rename));
    let body = proposals_request(&[rename]);
    room.refuses("bob", "his proposal of a name", body, &[NOT_ALLOWED], false)
        .await?;
    let leave = room.member("bob").forge_proposal(Proposal::SelfRemove);
    let answer = room
        .update("bob", proposals_request(std::slice::from_ref(&leave)))
        .await?;
    room.code("his own removal", &answer, &[SUCCESS])?;

    let mut room = MimiRoom::of_three(ctx).await?;
    let change = Change {
        remove: vec![room.client("bob").member.leaf()],
        updates: vec![change_participants(&[(1, BANNED)], &[], &[])],
        ..Change::default()
    };
    let message = room.encrypt("bob", "still here");
    room.accepted("alice", "a ban", change).await?;
    let message = PrivateMessage {
        epoch: room.client("alice").member.epoch(),
        ..message
    };
    match room.submit_as(At::Peer(0), &bob, &bob, &message).await? {
        SubmitVerdict::NotAllowed => ctx.observe("a message of the banned: notAllowed"),
        other => return failed("a message of the banned: notAllowed", format!("{other:?}")),
    }
    let (info, tree) = room.client("alice").member.hand_over();
    let tree = RatchetTreeOption::Full(tree);
    let device = device_of(&bob, "laptop");
    let (_, bundle) = device.join_externally_with(info.as_bytes(), &tree, &[], &[]);
    let reply = room.update_reply(At::Peer(0), &bob, bundle.to_request()).await?;
    let answer = crate::mimi::peer::read::<nabe_wire::update::UpdateRoomResponse>("update", &reply)?;
    room.code("an external commit of the banned", &answer, &[NOT_ALLOWED])?;
    room.is_unchanged("an external commit of the banned").await
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

async fn role_definitions(ctx: &Ctx) -> Checked {
    let mut roles = RoleData { roles: Vec::new() };
    let mut room = MimiRoom::of_three_with(ctx, |plan| roles.clone_from(&plan.policy.roles)).await?;
    roles
        .roles
        .push(role(7, "visitor", &[Capability::CAN_RECEIVE_MESSAGE], &[]));
    let update = || set_component(ComponentId::ROLES_LIST, roles.to_bytes());
    let dave = room.user(At::Peer(1), "dave");
    let both = updates(vec![update(), add_participants(&[(&dave, ORDINARY)])]);
    room.refused("alice", "together with a change of the list", both, &[NOT_ALLOWED])
        .await?;
    room.refused("bob", "by who may not", updates(vec![update()]), &[NOT_ALLOWED])
        .await?;
    room.accepted("alice", "alone", updates(vec![update()])).await.map(drop)
}

async fn preauthorization(ctx: &Ctx) -> Checked {
    let mut policy = None;
    let mut room = MimiRoom::of_three_with(ctx, |plan| policy = Some(plan.policy.clone())).await?;
    let mut policy = policy.expect("the room was made by it");
    policy.preauthorize("user", &room.user(At::Peer(1), "doris"), ORDINARY);
    let update = || set_component(ComponentId::PREAUTH_LIST, policy.preauth.to_bytes());
    let dave = room.user(At::Peer(1), "dave");
    let both = updates(vec![update(), add_participants(&[(&dave, ORDINARY)])]);
    room.refused("alice", "together with adding", both, &[NOT_ALLOWED])
        .await?;
    let with_removal = Change {
        remove: vec![room.client("bob").member.leaf()],
        updates: vec![update(), change_participants(&[], &[1], &[])],
        ..Change::default()
    };
    room.accepted("alice", "together with removing", with_removal)
        .await
        .map(drop)
}

async fn metadata_fields(ctx: &Ctx) -> Checked {
    let mut room = MimiRoom::of_three(ctx).await?;
    room.add("alice", "reader", At::Peer(1), READER).await?;
    let rename = |room: &MimiRoom<'_>, name: &str| {
        updates(vec![set_component(
            ComponentId::ROOM_METADATA,
            metadata(&room.uri, name),
        )])
    };
    let change = rename(&room, "Reading room");
    room.refused("reader", "a name by who may not", change, &[NOT_ALLOWED])
        .await?;
    let mut described = RoomMetaData::from_bytes(&metadata(&room.uri, "Clubhouse")).expect("it was just written");
    described.room_descriptions.push(RichDescription {
        media_type: "".into(),
        language_tag: "".into(),
        description_content: b"Where we meet"[..].into(),
    });
    let change = updates(vec![set_component(ComponentId::ROOM_METADATA, described.to_bytes())]);
    room.refused("bob", "a description by who may only name", change, &[NOT_ALLOWED])
        .await?;
    let change = rename(&room, "Cellar");
    room.accepted("bob", "a name by who may", change).await.map(drop)
}

async fn metadata_twice(ctx: &Ctx) -> Checked {
    let mut room = MimiRoom::create(ctx).await?;
    let twice = ["Cellar", "Attic"].map(|name| set_component(ComponentId::ROOM_METADATA, metadata(&room.uri, name)));
    let body = room.forged("alice", twice.map(Proposal::AppDataUpdate).into());
    room.refuses("alice", "metadata twice", body, &[INVALID, NOT_ALLOWED], false)
        .await
}

async fn remove_components(ctx: &Ctx) -> Checked {
    let mut room = MimiRoom::create(ctx).await?;
    let component = ComponentId::STATUS_NOTIFICATION_POLICY;
    let absent = vec![Proposal::AppDataUpdate(remove_component(component))];
    let both = vec![
        Proposal::AppDataUpdate(set_component(ComponentId::ROOM_METADATA, metadata(&room.uri, "Cellar"))),
        Proposal::AppDataUpdate(remove_component(ComponentId::ROOM_METADATA)),
    ];
    for (what, proposals) in [("a component that is not there", absent), ("updated and removed", both)] {
        let body = room.forged("alice", proposals);
        room.refuses("alice", what, body, &[INVALID, NOT_ALLOWED], false)
            .await?;
    }
    Ok(())
}

async fn dictionary_by_extensions(ctx: &Ctx) -> Checked {
    let mut changed = None;
    let mut room = MimiRoom::create_with(ctx, |plan| {
        let mut draft = plan.draft.clone();
        plan.policy.put_into(&mut draft.dictionary);
        draft.set(
            ComponentId::ROOM_METADATA,
            metadata("mimi://elsewhere.example/r/x", "Cellar"),
        );
        changed = Some(draft.to_wire());
    })
    .await?;
    let extensions = changed.expect("the room was made by it");
    let body = room.forged("alice", vec![Proposal::GroupContextExtensions(extensions)]);
    room.refuses(
        "alice",
        "the dictionary by extensions",
        body,
        &[INVALID, NOT_ALLOWED],
        false,
    )
    .await
}

const CLOCKS_DIFFER_MS: u64 = 60_000;
