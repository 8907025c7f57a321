//! Cases 10 to 20: key packages of the subject's users (MIMI #fetch-key-material), asked for by a hub of ours.

use nabe_mls::testing::mimi::{MimiDevice, key_material_request, key_material_request_of, key_package_ref};
use nabe_wire::Encode as _;
use nabe_wire::directory::Endpoint;
use nabe_wire::key_material::{KeyMaterialClientCode, KeyMaterialRequest, KeyMaterialResponse, KeyMaterialUserCode};
use nabe_wire::mls::{ProposalType, RequiredCapabilities};
use nabe_wire::protocol::Body;

use super::super::mimi_hub::keys::{are_different, ask_at_once};
use crate::author::now_millis;
use crate::case::{Case, Checked, Peers, Suite, failed, skipped};
use crate::context::Ctx;
use crate::mimi::peer::{identifier, read};
use crate::mimi::room::{At, device_of, nothing_required, packages_in, user_uri};

pub(crate) const CASES: &[Case] = &[
    Case {
        id: "mimi-10f",
        title: "key packages of a user's clients",
        suite: Suite::MimiFollower,
        requirements: &[
            "MIMI-keys-response-form",
            "MIMI-keys-success-all",
            "MIMI-state-key-packages",
        ],
        sent: "a request for a user with two clients, who has agreed",
        expected: "success and one key package of each, as they were uploaded",
        peers: Peers::Mimi(1),
        run: run!(two_clients),
    },
    Case {
        id: "mimi-11f",
        title: "each key package once",
        suite: Suite::MimiFollower,
        requirements: &["MIMI-keys-never-twice"],
        sent: "fifty requests at once",
        expected: "fifty different key packages",
        peers: Peers::Mimi(1),
        run: run!(fifty_at_once),
    },
    Case {
        id: "mimi-12f",
        title: "a client that has none left",
        suite: Suite::MimiFollower,
        requirements: &["MIMI-keys-success-all"],
        sent: "a second request when one of two clients has none left",
        expected: "partialSuccess, and keyMaterialExhausted for that client",
        peers: Peers::Mimi(1),
        run: run!(exhausted),
    },
    Case {
        id: "mimi-13",
        title: "users that are not there",
        suite: Suite::MimiFollower,
        requirements: &["MIMI-keys-status-privacy", "MIMI-keys-clients-not-listed"],
        sent: "requests for a user that is not there, twice, for one that has not agreed, and for one that has no key packages either",
        expected: "noConsent for all, no difference in anything but the name, and nothing is used up; or userUnknown for the first",
        peers: Peers::Mimi(1),
        run: run!(unknown_user),
    },
    Case {
        id: "mimi-14",
        title: "without consent",
        suite: Suite::MimiFollower,
        requirements: &[
            "MIMI-keys-status-privacy",
            "MIMI-consent-evaluation",
            "MIMI-keys-clients-not-listed",
        ],
        sent: "requests without consent and with consent for another room",
        expected: "noConsent; noConsentForThisRoom or noConsent; no clients",
        peers: Peers::Mimi(1),
        run: run!(no_consent),
    },
    Case {
        id: "mimi-15",
        title: "capabilities that no client has",
        suite: Suite::MimiFollower,
        requirements: &["MIMI-keys-clients-may-be-listed", "MIMI-keys-response-form"],
        sent: "a request that asks for a proposal type nobody knows",
        expected: "noCompatibleMaterial, clients with nothingCompatible if any, and nothing is used up",
        peers: Peers::Mimi(1),
        run: run!(incompatible),
    },
    Case {
        id: "mimi-16",
        title: "a request that is not signed",
        suite: Suite::MimiFollower,
        requirements: &["MIMI-keys-request-signature"],
        sent: "a request with a bit of its signature flipped",
        expected: "400 or noConsent, and nothing is used up",
        peers: Peers::Mimi(1),
        run: run!(unsigned),
    },
    Case {
        id: "mimi-17",
        title: "key packages that have expired",
        suite: Suite::MimiFollower,
        requirements: &["MIMI-keys-not-expired"],
        sent: "a request for a user with two clients, after the only key package of one of them has expired",
        expected: "the other one's is handed out alone",
        peers: Peers::Mimi(1),
        run: run!(expired),
    },
    Case {
        id: "mimi-18f",
        title: "another user in the path, of a target's provider",
        suite: Suite::MimiFollower,
        requirements: &["MIMI-directory-well-known", "MIMI-keys-request-form"],
        sent: "a request whose path names another user than its body",
        expected: "400, and nothing is used up",
        peers: Peers::Mimi(1),
        run: run!(other_path),
    },
    Case {
        id: "mimi-19f",
        title: "not by way of the hub",
        suite: Suite::MimiFollower,
        requirements: &["MIMI-keys-via-hub"],
        sent: "a request for a room of another provider than the one that asks",
        expected: "a refusal, and nothing is used up",
        peers: Peers::Mimi(2),
        run: run!(not_the_hub),
    },
    Case {
        id: "mimi-20",
        title: "refusals list nobody",
        suite: Suite::MimiFollower,
        requirements: &["MIMI-keys-clients-not-listed"],
        sent: "requests that are answered with userUnknown, noConsent and incompatibleProtocol",
        expected: "no clients in any of them",
        peers: Peers::Mimi(1),
        run: run!(nobody_listed),
    },
];

/// Who asks: a user of our first provider.
pub(super) fn hanna(ctx: &Ctx) -> MimiDevice {
    device_of(&user_uri(ctx, At::Peer(0), "hanna"), "phone")
}

/// A room of our first provider, which need not be there.
pub(super) fn room_of_ours(ctx: &Ctx) -> String {
    format!("mimi://{}/r/{}", ctx.mimi(0).domain(), ctx.tag())
}

/// A user of the subject with these clients, each of which has so many key packages there.
pub(super) async fn user_with(ctx: &Ctx, name: &str, clients: &[(&str, usize)]) -> Checked<(String, Vec<Vec<u8>>)> {
    let user = user_uri(ctx, At::Subject, name);
    let mut uploaded = Vec::new();
    for &(client, count) in clients {
        let device = device_of(&user, client);
        let packages: Vec<_> = (0..count).map(|_| device.key_package()).collect();
        ctx.upload(&device, &packages).await?;
        uploaded.extend(packages);
    }
    Ok((user, uploaded))
}

/// What the subject says when Hanna asks for a user's key packages for a room of ours.
pub(super) async fn ask(ctx: &Ctx, user: &str) -> Checked<KeyMaterialResponse> {
    let request = key_material_request(&hanna(ctx), user, Some(&room_of_ours(ctx)), nothing_required());
    ctx.mimi(0).ask(Endpoint::KeyMaterial, user, request.to_bytes()).await
}

/// The user's key packages are still there: so many come when asked for in the right way.
async fn nothing_used_up(ctx: &Ctx, user: &str, uploaded: &[Vec<u8>]) -> Checked {
    let packages = packages_in(&ask(ctx, user).await?);
    let is_all = packages.len() == uploaded.len() && packages.iter().all(|package| uploaded.contains(package));
    ctx.check("nothing was used up", is_all, || {
        format!("{} key packages", packages.len())
    })
}

async fn two_clients(ctx: &Ctx) -> Checked {
    let (user, uploaded) = user_with(ctx, "bob", &[("phone", 1), ("laptop", 1)]).await?;
    ctx.agree(&hanna(ctx).user(), &user, None).await?;
    let answer = ask(ctx, &user).await?;
    let is_success = answer.user_status == KeyMaterialUserCode::SUCCESS && answer.user_uri.as_str() == user;
    ctx.check("success for this user", is_success, || {
        format!("{}", answer.user_status.0)
    })?;
    let packages = packages_in(&answer);
    let is_all = packages.len() == 2 && uploaded.iter().all(|package| packages.contains(package));
    ctx.check("both key packages", is_all, || {
        format!("{} key packages", packages.len())
    })?;
    let differ = key_package_ref(&packages[0]) != key_package_ref(&packages[1]);
    ctx.check("with different references", differ, || "the same".to_owned())?;
    let clients: Vec<_> = answer
        .clients
        .iter()
        .map(|client| client.client_uri.to_string())
        .collect();
    let named = ["phone", "laptop"].map(|name| device_of(&user, name).client());
    let is_named = named.iter().all(|client| clients.contains(client));
    ctx.check("each with its client's URI", is_named, || format!("{clients:?}"))
}

async fn fifty_at_once(ctx: &Ctx) -> Checked {
    let (user, _) = user_with(ctx, "bob", &[("phone", REQUESTS + 5)]).await?;
    ctx.agree(&hanna(ctx).user(), &user, None).await?;
    let request = key_material_request(&hanna(ctx), &user, Some(&room_of_ours(ctx)), nothing_required()).to_bytes();
    let seen = ask_at_once(ctx.mimi(0), &user, &request, REQUESTS).await?;
    are_different(ctx, &seen, REQUESTS)
}

async fn exhausted(ctx: &Ctx) -> Checked {
    let (user, _) = user_with(ctx, "bob", &[("phone", 2), ("laptop", 1)]).await?;
    ctx.agree(&hanna(ctx).user(), &user, None).await?;
    ask(ctx, &user).await?;
    let answer = ask(ctx, &user).await?;
    let mut codes: Vec<_> = answer.clients.iter().map(|client| client.material.status().0).collect();
    codes.sort_unstable();
    let expected = [
        KeyMaterialClientCode::SUCCESS.0,
        KeyMaterialClientCode::KEY_MATERIAL_EXHAUSTED.0,
    ];
    let is_partial = answer.user_status == KeyMaterialUserCode::PARTIAL_SUCCESS && codes == expected;
    ctx.check("partialSuccess: one has one, one has none", is_partial, || {
        format!("{}: {codes:?}", answer.user_status.0)
    })
}

async fn unknown_user(ctx: &Ctx) -> Checked {
    let (user, uploaded) = user_with(ctx, "bob", &[("phone", 1)]).await?;
    let (empty, _) = user_with(ctx, "ben", &[("phone", 0)]).await?;
    let nobody = user_uri(ctx, At::Subject, "nob");
    let known = refusal(ctx, &user).await?;
    let is_refused = known.0.user_status == KeyMaterialUserCode::NO_CONSENT && known.0.clients.is_empty();
    ctx.check("a user who has not agreed: noConsent", is_refused, || {
        format!("{}", known.0.user_status.0)
    })?;
    let without = refusal(ctx, &empty).await?;
    ctx.check("one without key packages: the same", without == known, || {
        format!("{without:?}")
    })?;
    let unknown = refusal(ctx, &nobody).await?;
    match unknown.0.user_status {
        KeyMaterialUserCode::NO_CONSENT => {
            ctx.check("nobody learns who is a user", unknown == known, || {
                format!("{unknown:?}")
            })?;
        }
        KeyMaterialUserCode::USER_UNKNOWN if unknown.0.clients.is_empty() => {
            ctx.observe("everybody learns who is a user");
        }
        _ => return failed("noConsent or userUnknown", format!("{unknown:?}")),
    }
    let again = refusal(ctx, &nobody).await?;
    ctx.check("the same again", again == unknown, || format!("{again:?}"))?;
    ctx.agree(&hanna(ctx).user(), &user, None).await?;
    nothing_used_up(ctx, &user, &uploaded).await
}

/// What the subject says about a user, but for their name, which the answer must have; and its headers' names.
async fn refusal(ctx: &Ctx, user: &str) -> Checked<(KeyMaterialResponse, Vec<String>)> {
    let request = key_material_request(&hanna(ctx), user, Some(&room_of_ours(ctx)), nothing_required());
    let reply = ctx
        .mimi(0)
        .call(Endpoint::KeyMaterial, user, request.to_bytes())
        .await?;
    let answer: KeyMaterialResponse = read("keyMaterial", &reply)?;
    let is_of_user = answer.user_uri.as_str() == user;
    ctx.check("the answer is about the user", is_of_user, || {
        answer.user_uri.to_string()
    })?;
    let answer = KeyMaterialResponse {
        user_uri: identifier(""),
        ..answer
    };
    let mut headers: Vec<_> = reply.headers.keys().map(ToString::to_string).collect();
    headers.sort();
    Ok((answer, headers))
}

async fn no_consent(ctx: &Ctx) -> Checked {
    let (user, uploaded) = user_with(ctx, "bob", &[("phone", 1)]).await?;
    let without = ask(ctx, &user).await?;
    let is_refused = without.user_status == KeyMaterialUserCode::NO_CONSENT && without.clients.is_empty();
    ctx.check("without consent: noConsent", is_refused, || {
        format!("{}", without.user_status.0)
    })?;
    let elsewhere = format!("{}x", room_of_ours(ctx));
    ctx.agree(&hanna(ctx).user(), &user, Some(&elsewhere)).await?;
    let other_room = ask(ctx, &user).await?;
    let is_refused = matches!(
        other_room.user_status,
        KeyMaterialUserCode::NO_CONSENT_FOR_THIS_ROOM | KeyMaterialUserCode::NO_CONSENT
    ) && other_room.clients.is_empty();
    ctx.check("for another room: 6 or 5", is_refused, || {
        format!("{}", other_room.user_status.0)
    })?;
    ctx.agree(&hanna(ctx).user(), &user, Some(&room_of_ours(ctx))).await?;
    nothing_used_up(ctx, &user, &uploaded).await
}

async fn incompatible(ctx: &Ctx) -> Checked {
    let (user, uploaded) = user_with(ctx, "bob", &[("phone", 1)]).await?;
    ctx.agree(&hanna(ctx).user(), &user, None).await?;
    let required = RequiredCapabilities {
        proposal_types: vec![ProposalType(0xf0f0)],
        ..nothing_required()
    };
    let request = key_material_request(&hanna(ctx), &user, Some(&room_of_ours(ctx)), required);
    let answer: KeyMaterialResponse = ctx
        .mimi(0)
        .ask(Endpoint::KeyMaterial, &user, request.to_bytes())
        .await?;
    let is_refused = answer.user_status == KeyMaterialUserCode::NO_COMPATIBLE_MATERIAL;
    ctx.check("noCompatibleMaterial", is_refused, || {
        format!("{}", answer.user_status.0)
    })?;
    let mut codes = answer.clients.iter().map(|client| client.material.status());
    let is_said = codes.all(|code| code == KeyMaterialClientCode::NOTHING_COMPATIBLE);
    ctx.check("nothingCompatible of each client that is listed", is_said, || {
        format!("{:?}", answer.clients)
    })?;
    nothing_used_up(ctx, &user, &uploaded).await
}

async fn unsigned(ctx: &Ctx) -> Checked {
    let (user, uploaded) = user_with(ctx, "bob", &[("phone", 1)]).await?;
    ctx.agree(&hanna(ctx).user(), &user, None).await?;
    let mut request = key_material_request(&hanna(ctx), &user, Some(&room_of_ours(ctx)), nothing_required());
    if let Body::Mls10(query) = &mut request.body {
        let mut signature = query.key_material_request_signature.to_vec();
        signature[0] ^= 1;
        query.key_material_request_signature = signature.into();
    }
    let reply = ctx
        .mimi(0)
        .call(Endpoint::KeyMaterial, &user, request.to_bytes())
        .await?;
    is_refused(ctx, "a flipped bit", &reply, &[400])?;
    nothing_used_up(ctx, &user, &uploaded).await
}

/// One of these statuses, or noConsent.
fn is_refused(ctx: &Ctx, what: &str, reply: &crate::http_client::Reply, statuses: &[u16]) -> Checked {
    if statuses.contains(&reply.status) {
        ctx.observe(format!("{what}: {}", reply.status));
        return Ok(());
    }
    let answer: KeyMaterialResponse = read("keyMaterial", reply)?;
    let is_said = answer.user_status == KeyMaterialUserCode::NO_CONSENT && answer.clients.is_empty();
    ctx.check(&format!("{what}: {statuses:?} or noConsent"), is_said, || {
        format!("{}", answer.user_status.0)
    })
}

async fn expired(ctx: &Ctx) -> Checked {
    let user = user_uri(ctx, At::Subject, "bob");
    let device = device_of(&user, "phone");
    let now = now_millis().unsigned_abs() / 1_000;
    // A provider may refuse at once what is as good as expired.
    let package = device.key_package_for(Some((now.saturating_sub(3_600), now + 2)));
    if ctx.upload(&device, &[package]).await.is_err() {
        ctx.observe("the subject does not even take it in");
        ctx.upload(&device, &[]).await?;
    }
    let laptop = device_of(&user, "laptop");
    let good = laptop.key_package();
    ctx.upload(&laptop, std::slice::from_ref(&good)).await?;
    ctx.agree(&hanna(ctx).user(), &user, None).await?;
    // Nothing tells that time has passed but time.
    ctx.eventually("the key package to expire", || async {
        Ok((now_millis().unsigned_abs() / 1_000 > now + 2).then_some(()))
    })
    .await?;
    let packages = packages_in(&ask(ctx, &user).await?);
    ctx.check("the other client's key package alone", packages == [good], || {
        format!("{} key packages", packages.len())
    })
}

async fn other_path(ctx: &Ctx) -> Checked {
    let (user, uploaded) = user_with(ctx, "bob", &[("phone", 1)]).await?;
    ctx.agree(&hanna(ctx).user(), &user, None).await?;
    let request = key_material_request(&hanna(ctx), &user, Some(&room_of_ours(ctx)), nothing_required());
    let other = user_uri(ctx, At::Subject, "ben");
    let reply = ctx
        .mimi(0)
        .call(Endpoint::KeyMaterial, &other, request.to_bytes())
        .await?;
    ctx.answers("another user in the path", &reply, 400, "")?;
    nothing_used_up(ctx, &user, &uploaded).await
}

async fn not_the_hub(ctx: &Ctx) -> Checked {
    let (user, uploaded) = user_with(ctx, "bob", &[("phone", 1)]).await?;
    ctx.agree(&hanna(ctx).user(), &user, None).await?;
    let request = key_material_request(&hanna(ctx), &user, Some(&room_of_ours(ctx)), nothing_required());
    let reply = ctx
        .mimi(1)
        .call(Endpoint::KeyMaterial, &user, request.to_bytes())
        .await?;
    is_refused(ctx, "another provider than the hub", &reply, &[400, 403, 404])?;
    nothing_used_up(ctx, &user, &uploaded).await
}

async fn nobody_listed(ctx: &Ctx) -> Checked {
    let (user, _) = user_with(ctx, "bob", &[("phone", 1)]).await?;
    let nobody = user_uri(ctx, At::Subject, "nob");
    let other_protocol = |request: KeyMaterialRequest| {
        let mut bytes = request.to_bytes();
        // Protocol 2 is none that is known, so that what follows is anything.
        bytes[0] = 2;
        bytes
    };
    let request = |target: &str| {
        key_material_request_of(
            &hanna(ctx),
            &hanna(ctx).user(),
            target,
            Some(&room_of_ours(ctx)),
            nothing_required(),
        )
    };
    let mut answered = 0;
    for (target, body) in [
        (&nobody, request(&nobody).to_bytes()),
        (&user, request(&user).to_bytes()),
        (&user, other_protocol(request(&user))),
    ] {
        let reply = ctx.mimi(0).call(Endpoint::KeyMaterial, target, body).await?;
        if reply.status == 400 {
            continue;
        }
        // That nobody is listed is a rule of the struct's.
        let answer: KeyMaterialResponse = read("keyMaterial", &reply)?;
        ctx.observe(format!(
            "userStatus {}, {} clients",
            answer.user_status.0,
            answer.clients.len()
        ));
        answered += usize::from(answer.user_status != KeyMaterialUserCode::SUCCESS && answer.clients.is_empty());
    }
    match answered {
        0 => skipped("no request was answered with such a status"),
        _ => Ok(()),
    }
}

const REQUESTS: usize = 50;
