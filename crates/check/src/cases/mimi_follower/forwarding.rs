//! What a follower does for its own users (MIMI #introduction): what they ask of a room's hub it asks in their place, and tells them what the hub
//! said.

use nabe_mls::testing::mimi::{group_info_query, key_material_request};
use nabe_wire::directory::{Endpoint, escape};
use nabe_wire::group_info::{GroupInfoCode, GroupInfoRequest, GroupInfoResponse};
use nabe_wire::key_material::KeyMaterialResponse;
use nabe_wire::mls::MlsMessageBody;
use nabe_wire::notify::{FanoutMessage, FanoutParts};
use nabe_wire::submit_message::{Acceptance, SubmitMessageResponse, SubmitVerdict};
use nabe_wire::update::UpdateRoomResponse;
use nabe_wire::{Encode as _, Message as _};

use crate::case::{Case, Checked, Peers, Suite, failed};
use crate::context::Ctx;
use crate::mimi::hosted::{HostedMimiRoom, stamp};
use crate::mimi::peer::{Answer, identifier, read};
use crate::mimi::room::{At, device_of, nothing_required, packages_in, private, submission, user_uri};

pub(crate) const CASES: &[Case] = &[
    Case {
        id: "mimi-10u",
        title: "a user of the follower's asks for key packages",
        suite: Suite::MimiFollower,
        requirements: &["MIMI-keys-via-hub", "MIMI-http-source-target", "MIMI-http-mutual-tls"],
        sent: "a request for a third provider's user, for a room of ours, by a user of the subject",
        expected: "the room's hub is sent it as it was, in the subject's name; the user has the hub's answer",
        peers: Peers::Mimi(2),
        run: run!(key_material),
    },
    Case {
        id: "mimi-26u",
        title: "a user of the follower's commits",
        suite: Suite::MimiFollower,
        requirements: &[
            "MIMI-room-one-hub",
            "MIMI-update-bundle-form",
            "MIMI-update-response-form",
        ],
        sent: "a commit by a user of the subject, which the hub refuses, and then accepts",
        expected: "the hub is sent the bundle as it was; the user has what the hub said",
        peers: Peers::Mimi(1),
        run: run!(update),
    },
    Case {
        id: "mimi-55u",
        title: "a user of the follower's asks for the GroupInfo",
        suite: Suite::MimiFollower,
        requirements: &["MIMI-room-one-hub", "MIMI-ginfo-request-form"],
        sent: "groupInfo by a user of the subject, which the hub refuses",
        expected: "the hub is sent the request as it was; the user has what the hub said",
        peers: Peers::Mimi(1),
        run: run!(group_info),
    },
    Case {
        id: "mimi-61u",
        title: "a user of the follower's writes",
        suite: Suite::MimiFollower,
        requirements: &[
            "MIMI-room-one-hub",
            "MIMI-submit-request-form",
            "MIMI-submit-response-form",
        ],
        sent: "a message by a user of the subject, and one in the name of another",
        expected: "the hub is sent the first as it was, and nothing of the second; the user has what the hub said",
        peers: Peers::Mimi(1),
        run: run!(submit),
    },
    Case {
        id: "mimi-68u",
        title: "what a user of the follower's wrote comes back",
        suite: Suite::MimiFollower,
        requirements: &["MIMI-fanout-echo-tolerated"],
        sent: "a message by a user of the subject, which the hub accepts and fans out to the subject as well, and another one",
        expected: "201, and the user's provider has it no more than once",
        peers: Peers::Mimi(1),
        run: run!(echo),
    },
];

/// What came to the hub by this endpoint must be this, once, from the subject; then it is forgotten that it came before.
fn came(room: &HostedMimiRoom<'_>, endpoint: Endpoint, target: &str, bodies: &[&[u8]]) -> Checked {
    let received = room.hub().received(endpoint, target);
    let is_same = received
        .iter()
        .map(|request| &request.body[..])
        .eq(bodies.iter().copied());
    let what = format!("{endpoint}: the hub is sent what the user sent");
    room.ctx
        .check(&what, is_same, || format!("{} requests", received.len()))?;
    let from = format!("mimi@{}", room.ctx.subject_domain());
    let is_signed = received
        .iter()
        .all(|request| request.is_certified && request.from == from);
    room.ctx
        .check("in the subject's name", is_signed, || format!("{received:?}"))?;
    let host = room.hub().domain().host();
    let is_target = received
        .iter()
        .all(|request| request.host.split(':').next() == Some(host));
    room.ctx
        .check("`Host` is the hub's", is_target, || format!("{received:?}"))
}

async fn key_material(ctx: &Ctx) -> Checked {
    let room = HostedMimiRoom::with_alice(ctx).await?;
    let carl = user_uri(ctx, At::Peer(1), "carl");
    let device = device_of(&carl, "phone");
    let package = device.key_package();
    room.hub().offer(&carl, &device.client(), vec![package.clone()]);
    let alice = room.alice.as_ref().expect("she is in the room").device();
    let request = key_material_request(alice, &carl, Some(&room.uri), nothing_required()).to_bytes();
    let local = ctx.local(&alice.user())?;
    let reply = ctx.subject().mimi(&local, "/key_material", request.clone()).await?;
    let answer: KeyMaterialResponse = read("keyMaterial", &reply)?;
    came(&room, Endpoint::KeyMaterial, &carl, &[&request])?;
    let is_same = packages_in(&answer) == [package];
    ctx.check("the hub's answer", is_same, || format!("{}", answer.user_status.0))
}

async fn update(ctx: &Ctx) -> Checked {
    let mut room = HostedMimiRoom::with_alice(ctx).await?;
    let alice = room.alice.as_mut().expect("she is in the room");
    let local = ctx.local(&alice.device().user())?;
    let path = format!("/rooms/{}/update", escape(&room.uri));
    let mut bodies = Vec::new();
    for answer in [
        UpdateRoomResponse::not_allowed("as the check wants it"),
        UpdateRoomResponse::success(stamp()),
    ] {
        let body = alice.update().to_request();
        alice.clear();
        let said = answer.to_bytes();
        ctx.mimi(0)
            .on(Endpoint::Update, &room.uri, move |_| Some(Answer::of(said.clone())));
        let reply = ctx.subject().mimi(&local, &path, body.clone()).await?;
        let heard: UpdateRoomResponse = read("update", &reply)?;
        ctx.check("what the hub said", heard == answer, || format!("{heard:?}"))?;
        bodies.push(body);
    }
    let bodies: Vec<_> = bodies.iter().map(|body| &body[..]).collect();
    came(&room, Endpoint::Update, &room.uri, &bodies)
}

async fn group_info(ctx: &Ctx) -> Checked {
    let room = HostedMimiRoom::with_alice(ctx).await?;
    let user = user_uri(ctx, At::Subject, "alice");
    let (query, _) = group_info_query(&device_of(&user, "laptop"));
    let body = GroupInfoRequest::from(query).to_bytes();
    let answer = GroupInfoResponse::refused(identifier(&room.uri), GroupInfoCode::NOT_AUTHORIZED);
    let said = answer.to_bytes();
    room.hub()
        .on(Endpoint::GroupInfo, &room.uri, move |_| Some(Answer::of(said.clone())));
    let path = format!("/rooms/{}/group_info", escape(&room.uri));
    let reply = ctx.subject().mimi(&ctx.local(&user)?, &path, body.clone()).await?;
    let heard: GroupInfoResponse = read("groupInfo", &reply)?;
    ctx.check("what the hub said", heard == answer, || format!("{heard:?}"))?;
    came(&room, Endpoint::GroupInfo, &room.uri, &[&body])
}

async fn submit(ctx: &Ctx) -> Checked {
    let mut room = HostedMimiRoom::with_alice(ctx).await?;
    let alice = room.alice.as_mut().expect("she is in the room");
    let user = alice.device().user();
    let message = alice.encrypt(b"hello", None);
    let body = submission(&user, MlsMessageBody::Private(message.clone()));
    let answer = SubmitMessageResponse::from(SubmitVerdict::Accepted(Acceptance {
        accepted_timestamp: stamp(),
        frank: None,
    }));
    let said = answer.to_bytes();
    ctx.mimi(0).on(Endpoint::SubmitMessage, &room.uri, move |_| {
        Some(Answer::of(said.clone()))
    });
    let path = format!("/rooms/{}/submit_message", escape(&room.uri));
    let local = ctx.local(&user)?;
    let other = submission(&user_uri(ctx, At::Subject, "anna"), MlsMessageBody::Private(message));
    let reply = ctx.subject().mimi(&local, &path, other).await?;
    let is_refused = match reply.status {
        200 => !matches!(
            SubmitMessageResponse::from_bytes(&reply.body)
                .ok()
                .as_ref()
                .and_then(|said| said.body.mls10()),
            Some(SubmitVerdict::Accepted(_)) | None
        ),
        status => (400..500).contains(&status),
    };
    if !is_refused {
        return failed("in the name of another: refused", reply.brief());
    }
    let reply = ctx.subject().mimi(&local, &path, body.clone()).await?;
    let heard: SubmitMessageResponse = read("submitMessage", &reply)?;
    ctx.check("what the hub said", heard == answer, || format!("{heard:?}"))?;
    came(&room, Endpoint::SubmitMessage, &room.uri, &[&body])
}

async fn echo(ctx: &Ctx) -> Checked {
    let mut room = HostedMimiRoom::with_alice(ctx).await?;
    let alice = room.alice.as_mut().expect("she is in the room");
    let user = alice.device().user();
    let message = alice.encrypt(b"hello", None);
    let body = submission(&user, MlsMessageBody::Private(message.clone()));
    let accepted_timestamp = stamp();
    let answer = SubmitMessageResponse::from(SubmitVerdict::Accepted(Acceptance {
        accepted_timestamp,
        frank: None,
    }));
    ctx.mimi(0).on(Endpoint::SubmitMessage, &room.uri, move |_| {
        Some(Answer::of(answer.to_bytes()))
    });
    let path = format!("/rooms/{}/submit_message", escape(&room.uri));
    let reply = ctx.subject().mimi(&ctx.local(&user)?, &path, body).await?;
    read::<SubmitMessageResponse>("submitMessage", &reply)?;
    let echoed = FanoutMessage {
        timestamp: accepted_timestamp,
        message: private(&message),
        with: FanoutParts::Application { frank: None },
    };
    let (_, later) = room.message("later");
    for message in [&echoed, &later] {
        let reply = room.notify(std::slice::from_ref(message)).await?;
        ctx.answers("what comes back, and what comes later", &reply, 201, "")?;
    }
    let read = room.read_up_to(&later).await?;
    let same = read.iter().filter(|read| read.message == echoed.message).count();
    ctx.check("no more than once", same <= 1, || format!("{same} times"))
}
