//! Cases 54 to 58: signing keys and notaries. LM #int-transport-get-server-keys.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use nabe_signing::json::{Json, Object};
use nabe_signing::keys::own_key_response;
use nabe_signing::{object, verify_object};
use tokio_rustls::rustls::ProtocolVersion;

use super::requests::publish_with_old_key;
use crate::author;
use crate::case::{Case, Checked, Peers, Stop, Suite, failed};
use crate::context::{Ctx, list, member, now, text};
use crate::hub_room::{HubRoom, Refusal};
use crate::peer::{Answer, Endpoint, Peer, error};
use crate::subject::encode;

pub(crate) const CASES: &[Case] = &[
    Case {
        id: "lm-54",
        title: "own keys",
        suite: Suite::Hub,
        requirements: &[
            "LM-signing-published",
            "LM-signing-ed25519",
            "LM-base64-emit",
            "LM-transport-http2",
            "LM-transport-tls13",
            "LM-request-auth-where",
            "LM-request-auth-ignored-elsewhere",
            "LM-validity-twelve-hours",
            "LM-self-keys-form",
            "LM-self-keys-one-active",
            "LM-self-keys-server-name",
            "LM-self-keys-linearized",
            "LM-self-keys-short-lived",
            "LM-signing-key-id",
            "LM-signing-key-version",
            "LM-signing-objects-algorithm",
        ],
        sent: "E2",
        expected: "own name, 1 to 13 hours of validity, signed by each key, m.linearized; TLS 1.3 and HTTP/2",
        peers: Peers::Any(0),
        run: run!(own_keys),
    },
    Case {
        id: "lm-55",
        title: "a notary about one server",
        suite: Suite::Hub,
        requirements: &[
            "LM-keys-room-independent",
            "LM-self-keys-notary-last-answer",
            "LM-notary-refresh",
            "LM-notary-minimum",
            "LM-notary-unreachable",
        ],
        sent: "E3 about a dead server, a living one, a minimum of 8 days, a server that fails meanwhile",
        expected: "nothing; its keys, signed twice; nothing; the last answer",
        peers: Peers::Fresh(1),
        run: run!(notary),
    },
    Case {
        id: "lm-56",
        title: "a notary about many servers",
        suite: Suite::Hub,
        requirements: &[
            "LM-notary-signed",
            "LM-notary-bulk-criteria",
            "LM-notary-bulk-no-servers",
            "LM-notary-bulk-only-asked",
        ],
        sent: "E4 about none, two, and one key",
        expected: "nothing; both, signed twice; that one",
        peers: Peers::Any(2),
        run: run!(notary_in_bulk),
    },
    Case {
        id: "lm-57",
        title: "keys valid for long",
        suite: Suite::Hub,
        requirements: &["LM-validity-seven-days"],
        sent: "a key response valid for 30 days; E3 with minima of 6 and 8 days",
        expected: "listed; left out",
        peers: Peers::Fresh(1),
        run: run!(seven_days),
    },
    Case {
        id: "lm-58",
        title: "keys that are no longer used",
        suite: Suite::Hub,
        requirements: &["LM-validity-event-time", "LM-self-keys-old-keys"],
        sent: "LPDUs signed with a retired key, of a time after and before its retirement",
        expected: "dropped; accepted",
        peers: Peers::Fresh(1),
        run: run!(old_keys),
    },
];

/// 54
pub(crate) async fn own_keys(ctx: &Ctx) -> Checked {
    let keys = ctx.subject_keys().await?;
    ctx.observe("server name and self-signatures are right");
    ctx.check("there is a key in use", !keys.verify_keys.is_empty(), || {
        keys.raw.to_string()
    })?;
    for key in keys.verify_keys.keys() {
        let signed = member(&member(&keys.raw, "signatures"), ctx.subject_name().as_str());
        if !key.is_ed25519() || !signed.contains_key(key.as_str()) {
            return failed("an Ed25519 key that signs its own listing", keys.raw.to_string());
        }
    }
    let ahead = keys.valid_until.saturating_since(now());
    let is_sensible = ahead > Duration::from_secs(60 * 60) && ahead < Duration::from_secs(13 * 60 * 60);
    ctx.check("`valid_until_ts` is 1 to 13 hours ahead", is_sensible, || {
        format!("{} s ahead", ahead.as_secs())
    })?;
    ctx.check("`m.linearized` is true", keys.linearized, || keys.raw.to_string())?;
    let headers = [("authorization", "X-Matrix nonsense")];
    let reply = ctx
        .subject()
        .request("GET", "/_matrix/key/v2/server", &headers, None)
        .await?;
    ctx.answers("with an Authorization header that makes no sense", &reply, 200, "")?;
    let content_type = reply.header("content-type").to_owned();
    let is_json = content_type.starts_with("application/json");
    ctx.check("application/json", is_json, || content_type.clone())?;
    let negotiated = ctx.subject().http().negotiated().await.map_err(|error| Stop::Failed {
        expected: "a TLS connection".to_owned(),
        got: error.to_string(),
    })?;
    let is_modern = negotiated == (Some(ProtocolVersion::TLSv1_3), Some(b"h2".to_vec()));
    ctx.check("TLS 1.3 and HTTP/2", is_modern, || format!("{negotiated:?}"))
}

/// E3: the responses listed.
async fn query(ctx: &Ctx, server: &str, minimum: Option<Duration>) -> Checked<Vec<Object>> {
    let mut uri = format!("/_matrix/key/v2/query/{}", encode(server));
    if let Some(ahead) = minimum {
        uri.push_str(&format!("?minimum_valid_until_ts={}", now().plus(ahead).as_u64()));
    }
    let reply = ctx.subject().request("GET", &uri, &[], None).await?;
    ctx.answers(&format!("notary's answer about {server}"), &reply, 200, "")?;
    Ok(list(&reply.object(), "server_keys"))
}

/// A response about this server, signed by it and by the subject.
async fn vouched(ctx: &Ctx, peer: &Peer, responses: &[Object]) -> Checked {
    let of_peer = responses
        .iter()
        .find(|keys| text(keys, "server_name") == peer.name().as_str());
    let Some(keys) = of_peer else {
        return failed(format!("keys of {}", peer.name()), format!("{responses:?}"));
    };
    let ours = verify_object(keys, peer.name().as_str(), &peer.signer().public_keys());
    let theirs = verify_object(
        keys,
        ctx.subject_name().as_str(),
        &ctx.subject_keys().await?.verify_keys,
    );
    ctx.check(
        &format!("the keys of {} are signed by it and by the notary", peer.name()),
        ours.is_ok() && theirs.is_ok(),
        || format!("{ours:?} {theirs:?}: {keys}"),
    )
}

/// 55
pub(crate) async fn notary(ctx: &Ctx) -> Checked {
    let p = ctx.p();
    let dead = query(ctx, "nobody.invalid", None).await?;
    ctx.check("nothing about a dead server", dead.is_empty(), || format!("{dead:?}"))?;
    vouched(ctx, p, &query(ctx, p.name().as_str(), None).await?).await?;
    let too_long = query(ctx, p.name().as_str(), Some(DAY * 8)).await?;
    ctx.check("nothing valid for 8 days", too_long.is_empty(), || {
        format!("{too_long:?}")
    })?;
    p.on(Endpoint::Keys, |_| Answer::Json(500, error("M_UNKNOWN")));
    vouched(ctx, p, &query(ctx, p.name().as_str(), None).await?).await?;
    ctx.observe("still so when the server fails");
    Ok(())
}

/// 56
pub(crate) async fn notary_in_bulk(ctx: &Ctx) -> Checked {
    let (p, t) = (ctx.p(), ctx.t());
    let ask = async |servers: Object| {
        let body = Bytes::from(object! { "server_keys" => servers }.to_canonical());
        let reply = ctx
            .subject()
            .request("POST", "/_matrix/key/v2/query", &[], Some(body))
            .await?;
        ctx.answers("bulk query", &reply, 200, "")?;
        match reply.object().get("server_keys").and_then(Json::as_array) {
            Some(_) => Ok(list(&reply.object(), "server_keys")),
            None => failed("an array `server_keys`", reply.object().to_string()),
        }
    };
    let none = ask(Object::new()).await?;
    ctx.check("no servers, no keys", none.is_empty(), || format!("{none:?}"))?;
    let both = ask(object! { p.name().as_str() => Object::new(), t.name().as_str() => Object::new() }).await?;
    vouched(ctx, p, &both).await?;
    vouched(ctx, t, &both).await?;
    let criteria = object! { "minimum_valid_until_ts" => now() };
    let one = ask(object! { p.name().as_str() => object! { "ed25519:check" => criteria } }).await?;
    vouched(ctx, p, &one).await?;
    let about_t = one.iter().any(|keys| text(keys, "server_name") == t.name().as_str());
    ctx.check("nothing that was not asked for", !about_t, || format!("{one:?}"))
}

/// 57
pub(crate) async fn seven_days(ctx: &Ctx) -> Checked {
    let p = ctx.p();
    p.publish(own_key_response(p.signer(), &BTreeMap::new(), now().plus(DAY * 30)));
    vouched(ctx, p, &query(ctx, p.name().as_str(), Some(DAY * 6)).await?).await?;
    ctx.observe("30 days count as 6 days");
    let later = query(ctx, p.name().as_str(), Some(DAY * 8)).await?;
    ctx.check("30 days do not count as 8 days", later.is_empty(), || {
        format!("{later:?}")
    })
}

/// 58
pub(crate) async fn old_keys(ctx: &Ctx) -> Checked {
    let (p, alice) = (ctx.p(), ctx.p().user("alice"));
    let old = p.other_key("old");
    let retired = now().minus(Duration::from_secs(60 * 60));
    publish_with_old_key(p, &old, retired);
    let room = HubRoom::public(ctx).await?;
    room.join(p, &alice).await?;
    let signed_at = |at: i64| {
        let mut event = room.event(&alice, "m.room.message", None, object! { "body" => "x" });
        event.insert("origin_server_ts", at);
        author::seal_lpdu(event, ctx.subject_name().as_str(), &old)
    };
    let after = signed_at(retired.as_i64() + 1000);
    room.refused(
        p,
        "an event of a time after the key's retirement",
        &after,
        Refusal::Silent,
    )
    .await?;
    room.accepted(p, &signed_at(retired.as_i64() - 1000)).await?;
    ctx.observe("an event of a time before the key's retirement: accepted");
    room.accepted(p, &room.message(p, &alice, "x")).await.map(|_| ())
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
