//! Cases 10 to 12, 18 and 19 of a hub: it passes requests for key packages on (MIMI #fetch-key-material), whether the requester is a user of its
//! own or another provider's.

use nabe_mls::testing::mimi::{key_material_request, key_material_request_of};
use nabe_wire::Encode as _;
use nabe_wire::directory::Endpoint;
use nabe_wire::key_material::{KeyMaterialClientCode, KeyMaterialResponse, KeyMaterialUserCode};

use crate::case::{Case, Checked, Peers, Suite, failed};
use crate::context::Ctx;
use crate::mimi::peer::{MimiPeer, read};
use crate::mimi::room::{At, MimiRoom, device_of, nothing_required, packages_in};

pub(crate) const CASES: &[Case] = &[
    Case {
        id: "mimi-10",
        title: "key packages by way of the hub",
        suite: Suite::MimiHub,
        requirements: &["MIMI-keys-via-hub", "MIMI-keys-response-form", "MIMI-keys-request-form"],
        sent: "a request of Cathy's for Bob's two clients, with the room; Bob's provider answers",
        expected: "Bob's provider is sent the request as it was; Cathy has its answer as it was",
        peers: Peers::Mimi(2),
        run: run!(relayed),
    },
    Case {
        id: "mimi-11",
        title: "once each",
        suite: Suite::MimiHub,
        requirements: &["MIMI-keys-never-twice"],
        sent: "twenty requests at once, and the same request again",
        expected: "no key package twice",
        peers: Peers::Mimi(2),
        run: run!(once_each),
    },
    Case {
        id: "mimi-12",
        title: "a client that has none left, by way of the hub",
        suite: Suite::MimiHub,
        requirements: &["MIMI-keys-success-all"],
        sent: "a request for two clients of which one has none left",
        expected: "partialSuccess, and keyMaterialExhausted for that client",
        peers: Peers::Mimi(2),
        run: run!(exhausted),
    },
    Case {
        id: "mimi-18",
        title: "another user in the path",
        suite: Suite::MimiHub,
        requirements: &["MIMI-directory-well-known", "MIMI-keys-request-form"],
        sent: "a request whose path names another user than its body",
        expected: "400, and nobody is asked",
        peers: Peers::Mimi(2),
        run: run!(other_path),
    },
    Case {
        id: "mimi-19",
        title: "requests of others",
        suite: Suite::MimiHub,
        requirements: &["MIMI-keys-via-hub", "MIMI-keys-authorized", "MIMI-room-one-hub"],
        sent: "requests in the name of the hub's own user, for a room of a third provider, for a room that is not there, and of somebody who takes no part in the room; one as it should be",
        expected: "a refusal, and nobody is asked; a key package",
        peers: Peers::Mimi(2),
        run: run!(requests_of_others),
    },
];

async fn relayed(ctx: &Ctx) -> Checked {
    let mut room = MimiRoom::create(ctx).await?;
    room.add("alice", "cathy", At::Peer(1), crate::mimi::policy::ORDINARY)
        .await?;
    let user = room.user(At::Peer(0), "bob");
    let packages = ["phone", "laptop"].map(|name| {
        let device = device_of(&user, name);
        let package = device.key_package();
        ctx.mimi(0).offer(&user, &device.client(), vec![package.clone()]);
        package
    });
    let cathy = room.client("cathy").member.device();
    let request = key_material_request(cathy, &user, Some(&room.uri), nothing_required()).to_bytes();
    let answer: KeyMaterialResponse = ctx.mimi(1).ask(Endpoint::KeyMaterial, &user, request.clone()).await?;
    let is_success = answer.user_status == KeyMaterialUserCode::SUCCESS;
    ctx.check("success", is_success, || format!("{}", answer.user_status.0))?;
    let is_same = packages_in(&answer) == packages;
    ctx.check("the packages as they were", is_same, || {
        format!("{} clients", answer.clients.len())
    })?;
    let asked = ctx.mimi(0).received(Endpoint::KeyMaterial, &user);
    let is_passed_on = asked.len() == 1 && asked[0].body == request && asked[0].is_certified;
    ctx.check("the request as it was, once, in the hub's name", is_passed_on, || {
        format!("{} requests", asked.len())
    })
}

async fn once_each(ctx: &Ctx) -> Checked {
    let mut room = MimiRoom::create(ctx).await?;
    room.add("alice", "cathy", At::Peer(1), crate::mimi::policy::ORDINARY)
        .await?;
    let user = room.user(At::Peer(0), "bob");
    let device = device_of(&user, "phone");
    let packages: Vec<_> = (0..REQUESTS + 2).map(|_| device.key_package()).collect();
    ctx.mimi(0).offer(&user, &device.client(), packages);
    let cathy = room.client("cathy").member.device();
    let request = key_material_request(cathy, &user, Some(&room.uri), nothing_required()).to_bytes();
    let mut seen = ask_at_once(ctx.mimi(1), &user, &request, REQUESTS).await?;
    seen.extend(packages_in(
        &ctx.mimi(1).ask(Endpoint::KeyMaterial, &user, request).await?,
    ));
    are_different(ctx, &seen, REQUESTS + 1)
}

/// The key packages that come of so many equal requests of one of our providers.
pub(crate) async fn ask_at_once(peer: &MimiPeer, user: &str, request: &[u8], count: usize) -> Checked<Vec<Vec<u8>>> {
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..count {
        let (peer, user, request) = (peer.clone(), user.to_owned(), request.to_vec());
        asked.spawn(async move {
            peer.ask::<KeyMaterialResponse>(Endpoint::KeyMaterial, &user, request)
                .await
        });
    }
    let mut packages = Vec::new();
    for answer in asked.join_all().await {
        packages.extend(packages_in(&answer?));
    }
    Ok(packages)
}

/// So many key packages, no two of them the same.
pub(crate) fn are_different(ctx: &Ctx, packages: &[Vec<u8>], count: usize) -> Checked {
    let different: std::collections::BTreeSet<_> = packages.iter().collect();
    let what = format!("{count} key packages, none of them twice");
    ctx.check(&what, packages.len() == count && different.len() == count, || {
        format!("{}, {} of them different", packages.len(), different.len())
    })
}

async fn exhausted(ctx: &Ctx) -> Checked {
    let room = MimiRoom::create(ctx).await?;
    let user = room.user(At::Peer(0), "bob");
    let (phone, laptop) = (device_of(&user, "phone"), device_of(&user, "laptop"));
    let package = phone.key_package();
    ctx.mimi(0).offer(&user, &phone.client(), vec![package.clone()]);
    ctx.mimi(0).offer(&user, &laptop.client(), Vec::new());
    let answer = room.key_material("alice", &user).await?;
    let codes: Vec<_> = answer.clients.iter().map(|client| client.material.status()).collect();
    let expected = [
        KeyMaterialClientCode::SUCCESS,
        KeyMaterialClientCode::KEY_MATERIAL_EXHAUSTED,
    ];
    let is_partial = answer.user_status == KeyMaterialUserCode::PARTIAL_SUCCESS && codes == expected;
    ctx.check("partialSuccess: success, keyMaterialExhausted", is_partial, || {
        format!("{}: {codes:?}", answer.user_status.0)
    })
}

async fn other_path(ctx: &Ctx) -> Checked {
    let mut room = MimiRoom::create(ctx).await?;
    room.add("alice", "cathy", At::Peer(1), crate::mimi::policy::ORDINARY)
        .await?;
    let (bob, ben) = (room.user(At::Peer(0), "bob"), room.user(At::Peer(0), "ben"));
    let cathy = room.client("cathy").member.device();
    let request = key_material_request(cathy, &bob, Some(&room.uri), nothing_required());
    let reply = ctx
        .mimi(1)
        .call(Endpoint::KeyMaterial, &ben, request.to_bytes())
        .await?;
    ctx.answers("another user in the path", &reply, 400, "")?;
    nobody_is_asked(ctx, &[&bob, &ben])
}

fn nobody_is_asked(ctx: &Ctx, users: &[&str]) -> Checked {
    let asked = users
        .iter()
        .map(|user| ctx.mimi(0).received(Endpoint::KeyMaterial, user).len());
    let asked: usize = asked.sum();
    ctx.check("nobody is asked", asked == 0, || format!("{asked} requests"))
}

async fn requests_of_others(ctx: &Ctx) -> Checked {
    let mut room = MimiRoom::create(ctx).await?;
    room.add("alice", "cathy", At::Peer(1), crate::mimi::policy::ORDINARY)
        .await?;
    let bob = room.user(At::Peer(0), "bob");
    let device = device_of(&bob, "phone");
    ctx.mimi(0).offer(&bob, &device.client(), vec![device.key_package()]);
    let cathy = room.client("cathy").member.device();
    let elsewhere = format!("mimi://third.example/r/{}", ctx.tag());
    let nowhere = format!("{}-nothing", room.uri);
    let stranger = device_of(&room.user(At::Peer(1), "carl"), "phone");
    let alice = room.client("alice").user.clone();
    for (what, request) in [
        (
            "in the name of the hub's own user",
            key_material_request_of(cathy, &alice, &bob, Some(&room.uri), nothing_required()),
        ),
        (
            "for a room of a third provider",
            key_material_request(cathy, &bob, Some(&elsewhere), nothing_required()),
        ),
        (
            "for a room that is not there",
            key_material_request(cathy, &bob, Some(&nowhere), nothing_required()),
        ),
        (
            "of somebody who takes no part in the room",
            key_material_request(&stranger, &bob, Some(&room.uri), nothing_required()),
        ),
    ] {
        let reply = ctx
            .mimi(1)
            .call(Endpoint::KeyMaterial, &bob, request.to_bytes())
            .await?;
        let is_refused = match reply.status {
            200 => !read::<KeyMaterialResponse>("keyMaterial", &reply)?.user_status.0.eq(&0),
            status => (400..500).contains(&status),
        };
        if !is_refused {
            return failed(format!("{what}: a refusal"), reply.brief());
        }
        ctx.observe(format!("{what}: {}", reply.status));
    }
    nobody_is_asked(ctx, &[&bob])?;
    let packages = packages_in(&room.key_material("cathy", &bob).await?);
    ctx.check("as it should be: a key package", packages.len() == 1, || {
        format!("{} key packages", packages.len())
    })
}

const REQUESTS: usize = 20;
