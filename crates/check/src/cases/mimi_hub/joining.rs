//! Cases 55 to 60: who joins without having been added (MIMI #claim-group-key-information, MRP #adding).

use nabe_mls::testing::mimi::{
    Change, MimiDevice, MimiMember, TestBundle, add_participants, change_participants, context_of, group_info_query,
    metadata, set_component,
};
use nabe_wire::Encode as _;
use nabe_wire::directory::Endpoint;
use nabe_wire::group_info::{GroupInfoOutcome, GroupInfoRatchetTreeTbe, GroupInfoRequest, GroupInfoResponse};
use nabe_wire::mls::{AppDataUpdate, ComponentId, RatchetTreeOption};
use nabe_wire::policy::{
    Capability, JoinLink, JoinLinkPolicy, JoinLinksData, JoinLinksUpdate, SingleSourceRoleChangeTargets,
};
use nabe_wire::update::UpdateRoomResponse;

use crate::case::{Case, Checked, Peers, Suite, failed};
use crate::context::Ctx;
use crate::mimi::peer::read;
use crate::mimi::policy::{ADMIN, BANNED, ORDINARY, OUTSIDER};
use crate::mimi::room::{At, MimiRoom, NOT_ALLOWED, Plan, SUCCESS, device_of, updates};

pub(crate) const CASES: &[Case] = &[
    Case {
        id: "mimi-55",
        title: "the GroupInfo for a participant's new device",
        suite: Suite::MimiHub,
        requirements: &[
            "MIMI-join-new-client",
            "MIMI-ginfo-response-form",
            "MIMI-ginfo-response-signature",
            "MIMI-ginfo-sealed",
            "MIMI-ginfo-request-signature",
        ],
        sent: "groupInfo by a new device while a proposal is pending, then its external commit",
        expected: "status 1 by the first external sender, sealed for the device, with tree and all that is pending; success",
        peers: Peers::Mimi(2),
        run: run!(new_device),
    },
    Case {
        id: "mimi-56",
        title: "the GroupInfo for a stranger",
        suite: Suite::MimiHub,
        requirements: &["MIMI-ginfo-who-may", "MIMI-ginfo-no-such-room"],
        sent: "groupInfo by somebody who is not on the list, by somebody who was and had it then, and for a room that is not there; external \
               commits of the two all the same, with and without a place on the list",
        expected: "status 2 or 3; notAllowed",
        peers: Peers::Mimi(2),
        run: run!(stranger),
    },
    Case {
        id: "mimi-57",
        title: "the GroupInfo for the banned",
        suite: Suite::MimiHub,
        requirements: &["MIMI-ginfo-who-may"],
        sent: "groupInfo by devices of a banned user, of which one had it before the ban; its external commit; groupInfo by a device of another \
               user",
        expected: "status 2 or 3; notAllowed; status 1",
        peers: Peers::Mimi(2),
        run: run!(banned),
    },
    Case {
        id: "mimi-58",
        title: "an open room",
        suite: Suite::MimiHub,
        requirements: &["MRP-add-open-join"],
        sent: "external commits that add oneself with another role than outsiders may take, and with the one they may",
        expected: "notAllowed; success",
        peers: Peers::Mimi(2),
        run: run!(open_room),
    },
    Case {
        id: "mimi-59",
        title: "a room with preauthorization",
        suite: Suite::MimiHub,
        requirements: &["MRP-preauth-first", "MRP-add-preauthorized"],
        sent: "external commits of somebody whom two entries match, with the role of the second and of the first",
        expected: "notAllowed; success",
        peers: Peers::Mimi(2),
        run: run!(preauthorized),
    },
    Case {
        id: "mimi-60",
        title: "a join code",
        suite: Suite::MimiHub,
        requirements: &[
            "MRP-add-join-code",
            "MRP-link-expiration",
            "MIMI-ginfo-remembers",
            "MIMI-ginfo-who-may",
        ],
        sent: "external commits without a request for the GroupInfo, on another one's request, and after one with a good code, with another role \
               than it gives and with that one; requests with a code that is none, without one, with the code once it is removed, and with one that was good for \
               five seconds; an external commit after that",
        expected: "notAllowed of the first three; success; status 2 or 3 of the requests, but success of the last code at first; notAllowed",
        peers: Peers::Mimi(2),
        run: run!(join_code),
    },
];

/// An external commit on what the hub handed out. Its answer.
async fn come(
    room: &MimiRoom<'_>,
    at: At,
    device: &MimiDevice,
    opened: &GroupInfoRatchetTreeTbe,
    updates: &[AppDataUpdate],
) -> Checked<(UpdateRoomResponse, MimiMember, TestBundle)> {
    let (info, tree) = (opened.group_info.as_bytes(), &opened.ratchet_tree_option);
    let (member, bundle) = device.join_externally_with(info, tree, &[], updates);
    let reply = room.update_reply(at, &device.user(), bundle.to_request()).await?;
    Ok((read("update", &reply)?, member, bundle))
}

/// What the hub would hand out, had it been asked.
fn not_asked_for(room: &MimiRoom<'_>) -> GroupInfoRatchetTreeTbe {
    let (group_info, tree) = room.client("alice").member.hand_over();
    GroupInfoRatchetTreeTbe {
        group_info,
        ratchet_tree_option: RatchetTreeOption::Full(tree),
        pending_proposals: Vec::new(),
    }
}

async fn new_device(ctx: &Ctx) -> Checked {
    let mut room = MimiRoom::of_three(ctx).await?;
    let rename = set_component(ComponentId::ROOM_METADATA, metadata(&room.uri, "Cellar"));
    let pending = room.member("bob").propose_component(&rename);
    let answer = room.propose("bob", std::slice::from_ref(&pending)).await?;
    room.code("a proposal", &answer, &[SUCCESS])?;
    let laptop = device_of(&room.client("cathy").user, "laptop");
    let (answer, _) = room.ask_group_info(At::Peer(1), &laptop, None).await?;
    if let GroupInfoOutcome::Success(sealed) = &answer.outcome {
        let is_first = sealed.hub_sender == *room.hub();
        ctx.check("`hub_sender` is the first external sender", is_first, || {
            format!("{:?}", sealed.hub_sender)
        })?;
    }
    let opened = room.group_info(At::Peer(1), &laptop, None).await?;
    let context = context_of(&room.client("alice").member);
    let is_same = opened.group_info.group_context == context;
    ctx.check("the group's context", is_same, || {
        format!("{:?}", opened.group_info.group_context)
    })?;
    let tree = RatchetTreeOption::Full(room.client("alice").member.tree());
    ctx.check("the group's tree", opened.ratchet_tree_option == tree, || {
        "another one".to_owned()
    })?;
    let is_all = opened
        .pending_proposals
        .iter()
        .map(|pending| &pending.proposal)
        .eq([&pending]);
    ctx.check("all that is pending", is_all, || {
        format!("{} proposals", opened.pending_proposals.len())
    })?;
    let (answer, member, bundle) = come(&room, At::Peer(1), &laptop, &opened, &[]).await?;
    room.code("the external commit", &answer, &[SUCCESS])?;
    room.heard(At::Peer(0), "the external commit", &bundle.commit).await?;
    for name in ["alice", "bob", "cathy"] {
        room.member(name).process(&bundle.commit);
        let is_one = room.client(name).member.epoch_authenticator() == member.epoch_authenticator();
        ctx.check(&format!("{name} and the new device agree"), is_one, || {
            "they do not".to_owned()
        })?;
    }
    Ok(())
}

async fn stranger(ctx: &Ctx) -> Checked {
    let mut room = MimiRoom::of_three(ctx).await?;
    let stranger = device_of(&room.user(At::Peer(1), "stranger"), "phone");
    room.no_group_info("a stranger", At::Peer(1), &stranger, None).await?;
    // Dave is listed for a while, and is given what he needs.
    let dave = device_of(&room.user(At::Peer(1), "dave"), "phone");
    let listed = updates(vec![add_participants(&[(&dave.user(), ORDINARY)])]);
    room.accepted("alice", "a user without clients", listed).await?;
    room.group_info(At::Peer(1), &dave, None).await?;
    let unlisted = updates(vec![change_participants(&[], &[3], &[])]);
    room.accepted("alice", "his removal", unlisted).await?;
    room.no_group_info("who was on the list", At::Peer(1), &dave, None)
        .await?;
    for (who, device) in [("a stranger", &stranger), ("who was on the list", &dave)] {
        let listing = add_participants(&[(&device.user(), ORDINARY)]);
        for (how, updates) in [("with a place on the list", vec![listing]), ("without one", Vec::new())] {
            let what = format!("an external commit of {who} {how}");
            let (answer, ..) = come(&room, At::Peer(1), device, &not_asked_for(&room), &updates).await?;
            room.code(&what, &answer, &[NOT_ALLOWED])?;
            room.is_unchanged(&what).await?;
        }
    }
    let nowhere = format!("{}x", room.uri);
    let (query, _) = group_info_query(&stranger);
    let body = GroupInfoRequest::from(query).to_bytes();
    let answer: GroupInfoResponse = ctx.mimi(1).ask(Endpoint::GroupInfo, &nowhere, body).await?;
    let status = answer.outcome.code().0;
    let is_refused = answer.room_id.as_str() == nowhere && matches!(status, 2 | 3);
    ctx.check("a room that is not there: status 2 or 3 for it", is_refused, || {
        format!("{status} for {}", answer.room_id)
    })
}

async fn banned(ctx: &Ctx) -> Checked {
    let mut room = MimiRoom::of_three(ctx).await?;
    let [old, new] = ["laptop", "tablet"].map(|name| device_of(&room.client("bob").user, name));
    let others = device_of(&room.client("cathy").user, "laptop");
    room.group_info(At::Peer(0), &old, None).await?;
    let ban = Change {
        remove: vec![room.client("bob").member.leaf()],
        updates: vec![change_participants(&[(1, BANNED)], &[], &[])],
        ..Change::default()
    };
    room.accepted("alice", "a ban", ban).await?;
    for (what, device) in [("a client that had it before", &old), ("one that had not", &new)] {
        room.no_group_info(&format!("the banned, {what}"), At::Peer(0), device, None)
            .await?;
    }
    // Nor does it help to say that one is somebody else again.
    let comes = [change_participants(&[(1, ORDINARY)], &[], &[])];
    for updates in [&[][..], &comes] {
        let (answer, ..) = come(&room, At::Peer(0), &old, &not_asked_for(&room), updates).await?;
        room.code("an external commit of the banned", &answer, &[NOT_ALLOWED])?;
    }
    room.is_unchanged("an external commit of the banned").await?;
    room.group_info(At::Peer(1), &others, None).await.map(drop)
}

async fn open_room(ctx: &Ctx) -> Checked {
    let mut room = MimiRoom::of_three_with(ctx, |plan| {
        outsiders_may(plan, Capability::CAN_OPEN_JOIN);
    })
    .await?;
    let device = device_of(&room.user(At::Peer(1), "dave"), "phone");
    let opened = room.group_info(At::Peer(1), &device, None).await?;
    let roles = [("another role", ADMIN), ("the open role", ORDINARY)];
    second_is_taken(&mut room, &device, &opened, roles).await
}

/// Dave comes by external commits with the first role, which is refused, and with the second, in which he then takes part.
async fn second_is_taken(
    room: &mut MimiRoom<'_>,
    device: &MimiDevice,
    opened: &GroupInfoRatchetTreeTbe,
    [first, second]: [(&str, u32); 2],
) -> Checked {
    for ((what, role), code) in [(first, NOT_ALLOWED), (second, SUCCESS)] {
        let comes = [add_participants(&[(&device.user(), role)])];
        let (answer, member, bundle) = come(room, At::Peer(1), device, opened, &comes).await?;
        room.code(what, &answer, &[code])?;
        if code == SUCCESS {
            room.joined("dave", At::Peer(1), member);
            room.follow("dave", &bundle.commit);
        }
    }
    room.say("dave", "hello").await.map(drop)
}

async fn preauthorized(ctx: &Ctx) -> Checked {
    let dave = crate::mimi::room::user_uri(ctx, At::Peer(1), "dave");
    let provider = format!("mimi://{}", ctx.mimi(1).domain());
    let mut room = MimiRoom::of_three_with(ctx, |plan| {
        plan.policy.preauthorize("user", &dave, ORDINARY);
        plan.policy.preauthorize("provider", &provider, ADMIN);
    })
    .await?;
    let device = device_of(&dave, "phone");
    let opened = room.group_info(At::Peer(1), &device, None).await?;
    let roles = [
        ("the role of the second entry", ADMIN),
        ("the role of the first entry", ORDINARY),
    ];
    second_is_taken(&mut room, &device, &opened, roles).await
}

async fn join_code(ctx: &Ctx) -> Checked {
    let code = format!("https://{}/join/{}", ctx.subject_domain(), ctx.tag());
    let mut room = MimiRoom::of_three_with(ctx, |plan| {
        outsiders_may(plan, Capability::CAN_USE_JOIN_CODE);
        let links = JoinLinksData {
            join_links: vec![JoinLink {
                join_link: code.as_bytes().into(),
            }],
        };
        plan.draft.set(ComponentId::JOIN_LINKS, links.to_bytes());
    })
    .await?;
    let device = device_of(&room.user(At::Peer(1), "dave"), "phone");
    let comes = [add_participants(&[(&device.user(), ORDINARY)])];
    let (answer, ..) = come(&room, At::Peer(1), &device, &not_asked_for(&room), &comes).await?;
    room.code("without a request", &answer, &[NOT_ALLOWED])?;
    let wrong = format!("{code}x");
    room.no_group_info("a code that is none", At::Peer(1), &device, Some(wrong.as_bytes()))
        .await?;
    room.no_group_info("no code", At::Peer(1), &device, None).await?;
    let opened = room.group_info(At::Peer(1), &device, Some(code.as_bytes())).await?;
    let eve = device_of(&room.user(At::Peer(1), "eve"), "phone");
    let eve_comes = [add_participants(&[(&eve.user(), ORDINARY)])];
    let (answer, ..) = come(&room, At::Peer(1), &eve, &opened, &eve_comes).await?;
    room.code("on another one's request", &answer, &[NOT_ALLOWED])?;
    let as_admin = [add_participants(&[(&device.user(), ADMIN)])];
    let (answer, ..) = come(&room, At::Peer(1), &device, &opened, &as_admin).await?;
    room.code("with another role", &answer, &[NOT_ALLOWED])?;
    let (answer, member, bundle) = come(&room, At::Peer(1), &device, &opened, &comes).await?;
    room.code("after a request with the code", &answer, &[SUCCESS])?;
    room.joined("dave", At::Peer(1), member);
    room.follow("dave", &bundle.commit);
    if room.client("alice").member.group().members().count() != 4 {
        return failed("four clients in the group", "another number");
    }
    room.say("dave", "hello").await?;
    let removal = JoinLinksUpdate {
        removed_indices: vec![0],
        added_links: Vec::new(),
    };
    let change = Change {
        updates: vec![set_component(ComponentId::JOIN_LINKS, removal.to_bytes())],
        ..Change::default()
    };
    room.accepted("alice", "removing the code", change).await?;
    let late = device_of(&room.user(At::Peer(1), "doris"), "phone");
    room.no_group_info("a code that was removed", At::Peer(1), &late, Some(code.as_bytes()))
        .await?;
    let comes = [add_participants(&[(&late.user(), ORDINARY)])];
    let (answer, ..) = come(&room, At::Peer(1), &late, &not_asked_for(&room), &comes).await?;
    room.code("after a request with it", &answer, &[NOT_ALLOWED])?;
    room.is_unchanged("after a request with it").await?;
    expired_code(ctx).await
}

/// Who is not on the list has this capability, and may become an ordinary user by it.
fn outsiders_may(plan: &mut Plan, capability: Capability) {
    let role = plan.policy.role(OUTSIDER);
    role.role_capabilities.push(capability);
    role.authorized_role_changes.push(SingleSourceRoleChangeTargets {
        from_role_index: OUTSIDER,
        target_role_indexes: vec![ORDINARY],
    });
}

/// A code is good for as long as the room's policy says (MRP #join-link).
async fn expired_code(ctx: &Ctx) -> Checked {
    let code = format!("https://{}/join/{}-soon", ctx.subject_domain(), ctx.tag());
    let room = MimiRoom::create_with(ctx, |plan| {
        outsiders_may(plan, Capability::CAN_USE_JOIN_CODE);
        let terms = JoinLinkPolicy {
            on_request: false,
            join_link: Default::default(),
            multiuser: true,
            expiration: 5,
        };
        let links = JoinLinksData {
            join_links: vec![JoinLink {
                join_link: code.as_bytes().into(),
            }],
        };
        plan.draft.set(ComponentId::JOIN_LINK_POLICY, terms.to_bytes());
        plan.draft.set(ComponentId::JOIN_LINKS, links.to_bytes());
    })
    .await?;
    let dave = device_of(&room.user(At::Peer(1), "david"), "phone");
    let (answer, _) = room.ask_group_info(At::Peer(1), &dave, Some(code.as_bytes())).await?;
    let is_good = matches!(answer.outcome, GroupInfoOutcome::Success(_));
    ctx.check("a code that has not expired is good", is_good, || {
        format!("{:?}", answer.outcome)
    })?;
    ctx.eventually("a code that has expired opens nothing", async || {
        let (answer, _) = room.ask_group_info(At::Peer(1), &dave, Some(code.as_bytes())).await?;
        let is_refused = !matches!(answer.outcome, GroupInfoOutcome::Success(_));
        Ok(is_refused.then_some(()))
    })
    .await?;
    let comes = [add_participants(&[(&dave.user(), ORDINARY)])];
    let (answer, ..) = come(&room, At::Peer(1), &dave, &not_asked_for(&room), &comes).await?;
    room.code("a commit after the code has expired", &answer, &[NOT_ALLOWED])?;
    room.is_unchanged("a commit after the code has expired").await
}
