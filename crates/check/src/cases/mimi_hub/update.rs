//! Cases 26 to 33: what changes a room (MIMI #update-room-state).

use nabe_mls::testing::mimi::{Change, add_participants};
use nabe_wire::Kept;
use nabe_wire::mls::GroupInfo;
use nabe_wire::submit_message::SubmitVerdict;
use nabe_wire::update::UpdateVerdict;

use crate::author::now_millis;
use crate::case::{Case, Checked, Peers, Suite, failed};
use crate::context::Ctx;
use crate::mimi::policy::ORDINARY;
use crate::mimi::room::{At, INVALID, MimiRoom, NOT_ALLOWED, SUCCESS, WRONG_EPOCH, device_of, updates};

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
        sent: "commits of two clients for one epoch, at the same time, four times",
        expected: "one success, one wrongEpoch with the next epoch, each time",
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
];

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
    for _ in 0..ROUNDS {
        race(ctx, &mut room).await?;
    }
    Ok(())
}

/// Everybody follows whoever wins.
async fn race(ctx: &Ctx, room: &mut MimiRoom<'_>) -> Checked {
    let epoch = room.client("alice").member.epoch();
    let names = ["bob", "cathy"];
    let bundles = names.map(|name| room.member(name).update());
    let (first, second) = tokio::join!(
        room.update("bob", bundles[0].to_request()),
        room.update("cathy", bundles[1].to_request())
    );
    let answers = [first?, second?];
    let won_by_first = answers[0].code().0 == SUCCESS;
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
    let [winner, loser] = match won_by_first {
        true => [0, 1],
        false => [1, 0],
    };
    room.member(names[loser]).clear();
    room.member(names[winner]).merge();
    room.follow(names[winner], &bundles[winner].commit);
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

const ROUNDS: usize = 4;
const CLOCKS_DIFFER_MS: u64 = 60_000;
