//! Cases 21 to 25: consent (MIMI #convey-explicit-consent, MIMI #consent), from provider to provider.

use nabe_wire::Message as _;
use nabe_wire::consent::ConsentAction;
use nabe_wire::directory::Endpoint;
use nabe_wire::key_material::KeyMaterialUserCode;

use super::keys::{ask, hanna, user_with};
use crate::case::{Case, Checked, Peers, Suite, failed};
use crate::context::{Ctx, list, text};
use crate::mimi::hosted::consent;
use crate::mimi::peer::kept_package;
use crate::mimi::room::{At, device_of, user_uri};

pub(crate) const CASES: &[Case] = &[
    Case {
        id: "mimi-21",
        title: "a request for consent",
        suite: Suite::MimiFollower,
        requirements: &["MIMI-consent-answers", "MIMI-consent-direct", "MIMI-consent-entry-form"],
        sent: "requestConsent for a user, and for one that is not there",
        expected: "201, and the user hears of it; 201 or 404",
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
        sent: "updateConsent with two key packages for a user of the subject, twice; and with the operation of the other endpoint",
        expected: "201 and the user hears of it; 400",
        peers: Peers::Mimi(1),
        run: run!(grant_with_packages),
    },
];

/// What a user of the subject is told of consent between these two: whether it is asked for, and what was decided.
async fn known(ctx: &Ctx, of: &str, requester: &str, target: &str) -> Checked<Option<(bool, String)>> {
    let path = "/mimi/consent";
    let consents = ctx.api(&ctx.local(of)?, "GET", path, None).await?;
    let found = list(&consents, "consents")
        .into_iter()
        .find(|consent| text(consent, "requester") == requester && text(consent, "target") == target);
    Ok(found.map(|consent| {
        let is_asked = consent.get("requested_at").is_some();
        (is_asked, text(&consent, "decision").to_owned())
    }))
}

async fn request(ctx: &Ctx) -> Checked {
    let (user, _) = user_with(ctx, "bob", &[("phone", 1)]).await?;
    let hanna = hanna(ctx).user();
    let entry = consent(ConsentAction::Request, &hanna, &user, None);
    let reply = ctx.mimi(0).call(Endpoint::RequestConsent, &user, entry).await?;
    ctx.answers("a request", &reply, 201, "")?;
    let heard = known(ctx, &user, &hanna, &user).await?;
    let is_heard = matches!(heard, Some((true, _)));
    ctx.check("the user hears of it", is_heard, || format!("{heard:?}"))?;
    let nobody = user_uri(ctx, At::Subject, "nob");
    let entry = consent(ConsentAction::Request, &hanna, &nobody, None);
    let reply = ctx.mimi(0).call(Endpoint::RequestConsent, &nobody, entry).await?;
    let is_answer = matches!(reply.status, 201 | 404);
    ctx.check("for nobody: 201 or 404", is_answer, || reply.brief())
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
    let bob = user_uri(ctx, At::Peer(0), "bob");
    let packages = ["phone", "laptop"].map(|name| kept_package(&device_of(&bob, name).key_package()));
    let grant = ConsentAction::Grant {
        client_key_packages: packages.into(),
    };
    let entry = consent(grant.clone(), &alice, &bob, None);
    for _ in 0..2 {
        let reply = ctx.mimi(0).call(Endpoint::UpdateConsent, &alice, entry.clone()).await?;
        ctx.answers("a grant with key packages", &reply, 201, "")?;
    }
    let decided = known(ctx, &alice, &alice, &bob).await?;
    let is_granted = matches!(&decided, Some((_, decision)) if decision == "granted");
    ctx.check("the user hears of it", is_granted, || format!("{decided:?}"))?;
    let reply = ctx
        .mimi(0)
        .call(Endpoint::RequestConsent, &alice, consent(grant, &alice, &bob, None))
        .await?;
    let is_refused = matches!(reply.status, 400 | 403);
    ctx.check("a grant by requestConsent: 400 or 403", is_refused, || reply.brief())?;
    let request = consent(ConsentAction::Request, &alice, &bob, None);
    let reply = ctx.mimi(0).call(Endpoint::UpdateConsent, &alice, request).await?;
    ctx.answers("a request by updateConsent", &reply, 400, "")
}
