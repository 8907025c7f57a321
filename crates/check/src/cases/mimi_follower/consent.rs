//! Cases 21 to 25: consent (MIMI #convey-explicit-consent, MIMI #consent), from provider to provider.

use nabe_mls::testing::mimi::key_material_request;
use nabe_wire::consent::ConsentAction;
use nabe_wire::directory::Endpoint;
use nabe_wire::key_material::{KeyMaterialResponse, KeyMaterialUserCode};
use nabe_wire::mls::ComponentId;
use nabe_wire::{Encode as _, Message as _};

use super::keys::{ask, hanna, user_with};
use crate::case::{Case, Checked, Peers, Suite, failed};
use crate::context::{Ctx, list, text};
use crate::mimi::hosted::consent;
use crate::mimi::peer::{kept_package, read};
use crate::mimi::policy::{ORDINARY, SUPER};
use crate::mimi::room::{At, MimiRoom, device_of, list_of, nothing_required, packages_in, user_uri};

pub(crate) const CASES: &[Case] = &[
    Case {
        id: "mimi-21",
        title: "a request for consent",
        suite: Suite::MimiFollower,
        requirements: &["MIMI-consent-answers", "MIMI-consent-direct", "MIMI-consent-entry-form"],
        sent: "requestConsent for a user, twice, and for one that is not there",
        expected: "201, and the user hears of it once and nobody else does; 201, or 404 if keyMaterial says userUnknown, too",
        peers: Peers::Mimi(1),
        run: run!(request),
    },
    Case {
        id: "mimi-22",
        title: "a request taken back",
        suite: Suite::MimiFollower,
        requirements: &["MIMI-consent-cancel-unmatched", "MIMI-consent-cancel-scope"],
        sent: "a cancellation without a request, and one of a request",
        expected: "201 both; the first changes nothing, the second takes the request away",
        peers: Peers::Mimi(1),
        run: run!(cancel),
    },
    Case {
        id: "mimi-23",
        title: "consent granted and revoked",
        suite: Suite::MimiFollower,
        requirements: &[
            "MIMI-consent-evaluation",
            "MIMI-consent-grant-unasked",
            "MIMI-consent-which-endpoint",
        ],
        sent: "requests for key packages after the user granted consent for any room, and after they revoked it",
        expected: "the requester's provider is told of the grant; success; noConsent",
        peers: Peers::Mimi(1),
        run: run!(grant_and_revoke),
    },
    Case {
        id: "mimi-24",
        title: "consent of another provider's user",
        suite: Suite::MimiFollower,
        requirements: &["MIMI-consent-domains"],
        sent: "updateConsent by a provider whose user the target is not; requestConsent by one whose user the requester is not",
        expected: "403",
        peers: Peers::Mimi(2),
        run: run!(not_theirs),
    },
    Case {
        id: "mimi-25",
        title: "a grant with key packages",
        suite: Suite::MimiFollower,
        requirements: &["MIMI-consent-entry-form", "MIMI-consent-grant-unasked"],
        sent: "updateConsent for a user of the subject with key packages of somebody else than who grants; with two of theirs, twice; with the \
               operation of the other endpoint, and the other way round; the user asks for key packages of who granted, and so does somebody else; and a revocation",
        expected: "400 or 403; 201, and the user hears of it once; 400, or 403 the other way round; none that was granted comes twice, or to somebody else; 201, \
                   and the user hears of that",
        peers: Peers::Mimi(1),
        run: run!(grant_with_packages),
    },
];

/// What a user of the subject is told of consent between these two, in whatever rooms: whether it is asked for, and what was decided.
async fn all_known(ctx: &Ctx, of: &str, requester: &str, target: &str) -> Checked<Vec<(bool, String)>> {
    let path = "/mimi/consent";
    let consents = ctx.api(&ctx.local(of)?, "GET", path, None).await?;
    let found = list(&consents, "consents")
        .into_iter()
        .filter(|consent| text(consent, "requester") == requester && text(consent, "target") == target);
    let told = found.map(|consent| {
        let is_asked = consent.get("requested_at").is_some();
        (is_asked, text(&consent, "decision").to_owned())
    });
    Ok(told.collect())
}

/// The first of these.
async fn known(ctx: &Ctx, of: &str, requester: &str, target: &str) -> Checked<Option<(bool, String)>> {
    Ok(all_known(ctx, of, requester, target).await?.into_iter().next())
}

async fn request(ctx: &Ctx) -> Checked {
    let (user, _) = user_with(ctx, "bob", &[("phone", 1)]).await?;
    let (other, _) = user_with(ctx, "ben", &[("phone", 1)]).await?;
    let hanna = hanna(ctx).user();
    let entry = consent(ConsentAction::Request, &hanna, &user, None);
    for _ in 0..2 {
        let reply = ctx.mimi(0).call(Endpoint::RequestConsent, &user, entry.clone()).await?;
        ctx.answers("a request", &reply, 201, "")?;
        ctx.check("no body", reply.body.is_empty(), || reply.brief())?;
    }
    let heard = all_known(ctx, &user, &hanna, &user).await?;
    let is_heard = heard == [(true, String::new())];
    ctx.check("the user hears of it once", is_heard, || format!("{heard:?}"))?;
    let unheard = all_known(ctx, &other, &hanna, &user).await?;
    ctx.check("another user does not", unheard.is_empty(), || format!("{unheard:?}"))?;
    let nobody = user_uri(ctx, At::Subject, "nob");
    let is_told = ask(ctx, &nobody).await?.user_status == KeyMaterialUserCode::USER_UNKNOWN;
    let entry = consent(ConsentAction::Request, &hanna, &nobody, None);
    let reply = ctx.mimi(0).call(Endpoint::RequestConsent, &nobody, entry).await?;
    let is_answer = reply.status == 404 || (reply.status == 201 && reply.body.is_empty());
    ctx.check("for nobody: 201 without a body, or 404", is_answer, || reply.brief())?;
    let is_same = is_told == (reply.status == 404);
    ctx.check("it says as much of who is there as keyMaterial does", is_same, || {
        format!("userUnknown: {is_told}; {}", reply.brief())
    })
}

async fn cancel(ctx: &Ctx) -> Checked {
    let (user, _) = user_with(ctx, "bob", &[("phone", 1)]).await?;
    let hanna = hanna(ctx).user();
    let call = async |action| {
        let entry = consent(action, &hanna, &user, None);
        let reply = ctx.mimi(0).call(Endpoint::RequestConsent, &user, entry).await?;
        ctx.answers("requestConsent", &reply, 201, "")?;
        known(ctx, &user, &hanna, &user).await
    };
    let unmatched = call(ConsentAction::Cancel).await?;
    let is_nothing = !matches!(unmatched, Some((true, _)));
    ctx.check("a cancellation of nothing", is_nothing, || format!("{unmatched:?}"))?;
    let asked = call(ConsentAction::Request).await?;
    let is_asked = matches!(asked, Some((true, _)));
    ctx.check("a request", is_asked, || format!("{asked:?}"))?;
    let taken_back = call(ConsentAction::Cancel).await?;
    let is_gone = !matches!(taken_back, Some((true, _)));
    ctx.check("taken back", is_gone, || format!("{taken_back:?}"))
}

async fn grant_and_revoke(ctx: &Ctx) -> Checked {
    let (user, _) = user_with(ctx, "bob", &[("phone", 3)]).await?;
    let hanna = hanna(ctx).user();
    ctx.agree(&hanna, &user, None).await?;
    let told = ctx.mimi(0).received(Endpoint::UpdateConsent, &hanna);
    let told_by_domain = ctx
        .mimi(0)
        .received(Endpoint::UpdateConsent, ctx.mimi(0).domain().as_str());
    let is_told = told.iter().chain(&told_by_domain).any(|request| {
        nabe_wire::consent::ConsentEntry::from_bytes(&request.body).is_ok_and(|entry| {
            matches!(entry.operation, ConsentAction::Grant { .. }) && entry.scope.target_uri.as_str() == user
        })
    });
    ctx.check("the requester's provider is told", is_told, || "it is not".to_owned())?;
    let granted = ask(ctx, &user).await?.user_status;
    let is_success = granted == KeyMaterialUserCode::SUCCESS;
    ctx.check("granted: success", is_success, || format!("{}", granted.0))?;
    let entry = consent(ConsentAction::Revoke, &hanna, &user, None);
    let reply = ctx.subject().mimi(&ctx.local(&user)?, "/consent", entry).await?;
    if reply.status != 200 {
        return failed("client API: consent is revoked", reply.brief());
    }
    let revoked = ask(ctx, &user).await?.user_status;
    let is_refused = revoked == KeyMaterialUserCode::NO_CONSENT;
    ctx.check("revoked: noConsent", is_refused, || format!("{}", revoked.0))
}

async fn not_theirs(ctx: &Ctx) -> Checked {
    let (user, _) = user_with(ctx, "alice", &[("phone", 1)]).await?;
    let (hanna, bob) = (hanna(ctx).user(), user_uri(ctx, At::Peer(0), "bob"));
    let nothing = ConsentAction::Grant {
        client_key_packages: Vec::new(),
    };
    let grant = consent(nothing, &user, &bob, None);
    let reply = ctx.mimi(1).call(Endpoint::UpdateConsent, &user, grant).await?;
    ctx.answers("a grant of another provider's user", &reply, 403, "")?;
    let decided = known(ctx, &user, &user, &bob).await?;
    let is_nothing = !matches!(&decided, Some((_, decision)) if decision == "granted");
    ctx.check("nothing is granted", is_nothing, || format!("{decided:?}"))?;
    let request = consent(ConsentAction::Request, &hanna, &user, None);
    let reply = ctx.mimi(1).call(Endpoint::RequestConsent, &user, request).await?;
    ctx.answers("a request of another provider's user", &reply, 403, "")
}

async fn grant_with_packages(ctx: &Ctx) -> Checked {
    let (alice, _) = user_with(ctx, "alice", &[("phone", 1)]).await?;
    let (bob, ben) = (user_uri(ctx, At::Peer(0), "bob"), user_uri(ctx, At::Peer(0), "ben"));
    let make = |user: &str| ["phone", "laptop"].map(|name| device_of(user, name).key_package());
    let granted = |packages: &[Vec<u8>]| ConsentAction::Grant {
        client_key_packages: packages.iter().map(|package| kept_package(package)).collect(),
    };
    let tell = async |entry| ctx.mimi(0).call(Endpoint::UpdateConsent, &alice, entry).await;
    let others = tell(consent(granted(&make(&ben)), &alice, &bob, None)).await?;
    let is_refused = matches!(others.status, 400 | 403);
    ctx.check("with key packages of somebody else: 400 or 403", is_refused, || {
        others.brief()
    })?;
    let unheard = all_known(ctx, &alice, &alice, &bob).await?;
    ctx.check("the user hears nothing of that", unheard.is_empty(), || {
        format!("{unheard:?}")
    })?;
    let packages = make(&bob);
    let grant = granted(&packages);
    let entry = consent(grant.clone(), &alice, &bob, None);
    for _ in 0..2 {
        let reply = tell(entry.clone()).await?;
        ctx.answers("a grant with key packages", &reply, 201, "")?;
        ctx.check("no body", reply.body.is_empty(), || reply.brief())?;
    }
    let decided = all_known(ctx, &alice, &alice, &bob).await?;
    let is_granted = decided == [(false, "granted".to_owned())];
    ctx.check("the user hears of it once", is_granted, || format!("{decided:?}"))?;
    let reply = ctx
        .mimi(0)
        .call(Endpoint::RequestConsent, &alice, consent(grant, &alice, &bob, None))
        .await?;
    let is_refused = matches!(reply.status, 400 | 403);
    ctx.check("a grant by requestConsent: 400 or 403", is_refused, || reply.brief())?;
    let reply = tell(consent(ConsentAction::Request, &alice, &bob, None)).await?;
    ctx.answers("a request by updateConsent", &reply, 400, "")?;
    let decided = all_known(ctx, &alice, &alice, &bob).await?;
    let is_granted = decided == [(false, "granted".to_owned())];
    ctx.check("neither changes anything", is_granted, || format!("{decided:?}"))?;
    not_reissued(ctx, &alice, &bob, &packages).await?;
    let reply = tell(consent(ConsentAction::Revoke, &alice, &bob, None)).await?;
    ctx.answers("a revocation", &reply, 201, "")?;
    let decided = known(ctx, &alice, &alice, &bob).await?;
    let is_revoked = !matches!(&decided, Some((_, decision)) if decision == "granted");
    ctx.check("the user hears of that, too", is_revoked, || format!("{decided:?}"))
}

/// Whether the subject uses what came is between it and its users. Their clients ask for Bob's key packages, for a room of the subject's: none
/// comes twice, and none that was granted to Alice comes to another. Bob's provider has others for whoever asks it.
async fn not_reissued(ctx: &Ctx, alice: &str, bob: &str, granted: &[Vec<u8>]) -> Checked {
    const ASKED: usize = 3;
    for name in ["phone", "laptop"] {
        let device = device_of(bob, name);
        let others = (0..=ASKED).map(|_| device.key_package()).collect();
        ctx.mimi(0).offer(bob, &device.client(), others);
    }
    let (ann, _) = user_with(ctx, "ann", &[("phone", 1)]).await?;
    let room = MimiRoom::create_with(ctx, |plan| {
        let list = list_of(&[(alice, SUPER), (&ann, ORDINARY)]);
        plan.draft.set(ComponentId::PARTICIPANT_LIST, list);
    })
    .await?;
    let ask = async |user: &str| -> Checked<Vec<Vec<u8>>> {
        let request = key_material_request(&device_of(user, "phone"), bob, Some(&room.uri), nothing_required());
        let local = ctx.local(user)?;
        let reply = ctx.subject().mimi(&local, "/key_material", request.to_bytes()).await?;
        let answer: KeyMaterialResponse = read("keyMaterial", &reply)?;
        let packages = packages_in(&answer);
        ctx.check("a key package of Bob's", !packages.is_empty(), || {
            format!("userStatus {}, {} clients", answer.user_status.0, answer.clients.len())
        })?;
        Ok(packages)
    };
    let of_ann = ask(&ann).await?;
    let is_granted = of_ann.iter().any(|package| granted.contains(package));
    ctx.check("somebody else gets none that was granted", !is_granted, || {
        format!("{} key packages", of_ann.len())
    })?;
    let mut all = of_ann;
    for _ in 0..ASKED {
        all.extend(ask(alice).await?);
    }
    let used = granted.iter().filter(|package| all.contains(package)).count();
    ctx.observe(format!("{used} of {} that were granted are used", granted.len()));
    let count = all.len();
    all.sort();
    all.dedup();
    ctx.check("none comes twice", all.len() == count, || {
        format!("{} of {count} are different", all.len())
    })
}
