//! Cases 49 to 53 and 80: who may ask, in what form, and how often.

use bytes::Bytes;
use nabe_event::event_id_of;
use nabe_signing::json::{Json, Object};
use nabe_signing::keys::own_key_response;
use nabe_signing::{Signer, object, xmatrix};
use nabe_types::{ServerName, UnixMillis};

use crate::author::Stamp;
use crate::case::{Case, Checked, Peers, Stop, Suite, failed, skipped};
use crate::context::{Ctx, list, now, text};
use crate::http_client::Reply;
use crate::hub_room::HubRoom;
use crate::peer::{Peer, UNSTABLE, send_uri};
use crate::subject::{encode, unique};

pub(crate) const CASES: &[Case] = &[
    Case {
        id: "lm-49",
        title: "request authentication",
        suite: Suite::Hub,
        requirements: &[
            "LM-checking-structure",
            "LM-checking-verify",
            "LM-request-auth-where",
            "LM-request-auth-object",
            "LM-request-auth-origin-matches",
            "LM-request-auth-destination-matches",
            "LM-request-auth-unexpired-key",
            "LM-request-auth-one-header-per-key",
            "LM-request-auth-validate-all",
            "LM-request-auth-at-least-one",
            "LM-request-auth-failure",
            "LM-self-keys-requests-current-only",
        ],
        sent: "no header, wrong destination, unknown key, retired key, bad signature, one good and one bad header, another body, another target",
        expected: "401 M_FORBIDDEN each",
        peers: Peers::Fresh(2),
        run: run!(authentication),
    },
    Case {
        id: "lm-50",
        title: "forms of the header",
        suite: Suite::Hub,
        requirements: &[
            "LM-request-auth-object",
            "LM-request-auth-header-format",
            "LM-request-auth-escapes",
            "LM-request-auth-unknown-parameters",
        ],
        sent: "sig and signature, mixed case, tokens, other orders, unknown parameters, escapes",
        expected: "accepted each",
        peers: Peers::Any(1),
        run: run!(header_forms),
    },
    Case {
        id: "lm-51",
        title: "a request without a body",
        suite: Suite::Hub,
        requirements: &["LM-request-auth-empty-content"],
        sent: "signed with `content: {}` and without `content`",
        expected: "200; 401 M_FORBIDDEN",
        peers: Peers::Any(1),
        run: run!(empty_content),
    },
    Case {
        id: "lm-52",
        title: "bodies that do not fit",
        suite: Suite::Hub,
        requirements: &[
            "LM-pdu-json",
            "LM-requests-object-body",
            "LM-requests-utf8",
            "LM-errors-most-fitting",
            "LM-errors-shape",
            "LM-errors-not-json-400",
            "LM-errors-bad-json-400",
            "LM-malformed-not-json",
            "LM-malformed-bad-json",
            "LM-malformed-describe",
        ],
        sent: "no JSON, no object, missing and malformed keys",
        expected: "400 M_NOT_JSON; 400 M_BAD_JSON",
        peers: Peers::Any(1),
        run: run!(bodies),
    },
    Case {
        id: "lm-53",
        title: "unknown endpoints and methods",
        suite: Suite::Hub,
        requirements: &[
            "LM-requests-content-type-response",
            "LM-requests-trailing-slash",
            "LM-requests-all-endpoints",
            "LM-errors-shape",
            "LM-unknown-endpoint-not-found",
            "LM-unknown-endpoint-wrong-method",
            "LM-absent-endpoints",
            "LM-send-unstable-path",
        ],
        sent: "trailing and doubled slashes, unknown paths, wrong methods",
        expected: "404 and 405 M_UNRECOGNIZED as JSON",
        peers: Peers::Any(1),
        run: run!(unknown_endpoints),
    },
    Case {
        id: "lm-80",
        title: "rate limits",
        suite: Suite::Hub,
        requirements: &[
            "LM-rate-limit-implemented",
            "LM-rate-limit-answer",
            "LM-rate-limit-retry-after",
        ],
        sent: "a flood of E13, transactions meanwhile",
        expected: "429 M_LIMIT_EXCEEDED; 200",
        peers: Peers::Fresh(1),
        run: run!(rate_limit),
    },
    Case {
        id: "lm-x13",
        title: "the draft's paths for tests",
        suite: Suite::Hub,
        requirements: &["LM-send-unstable-path", "LM-versions-test-name"],
        sent: "send_join, send, event, backfill, send_leave",
        expected: "as on the stable paths",
        peers: Peers::Any(1),
        run: run!(unstable_paths),
    },
];

/// A request that the first server may make, and ways to sign it.
struct Signed<'a> {
    ctx: &'a Ctx,
    uri: String,
}

impl<'a> Signed<'a> {
    /// The create event of a room that the server is in.
    async fn open(ctx: &'a Ctx) -> Checked<Self> {
        let room = HubRoom::public(ctx).await?;
        room.join(ctx.p(), &ctx.p().user("alice")).await?;
        let create = room.log(ctx.p()).await?.first().map(event_id_of);
        let id = create.map(|id| encode(id.as_str())).unwrap_or_default();
        Ok(Self {
            ctx,
            uri: format!("/_matrix/federation/v2/event/{id}"),
        })
    }

    /// The header by this signer for this destination.
    fn header(&self, signer: &Signer, destination: &ServerName) -> String {
        let request = xmatrix::Request {
            method: "GET",
            uri: &self.uri,
            destination,
            content: None,
        };
        xmatrix::sign_request(signer, &request).concat()
    }

    fn good(&self) -> String {
        self.header(self.ctx.p().signer(), self.ctx.subject_name())
    }

    async fn with(&self, headers: &[&str]) -> Checked<Reply> {
        let headers: Vec<_> = headers.iter().map(|value| ("authorization", *value)).collect();
        self.ctx.subject().request("GET", &self.uri, &headers, None).await
    }

    async fn refused(&self, what: &str, headers: &[&str]) -> Checked {
        self.ctx.answers(what, &self.with(headers).await?, 401, "M_FORBIDDEN")
    }

    async fn accepted(&self, what: &str, headers: &[&str]) -> Checked {
        self.ctx.answers(what, &self.with(headers).await?, 200, "")
    }
}

/// 49
pub(crate) async fn authentication(ctx: &Ctx) -> Checked {
    let (p, t) = (ctx.p(), ctx.t());
    // Before the subject asks for the keys: one key in use, one that is no longer.
    let old = p.other_key("old");
    publish_with_old_key(p, &old, now());
    let request = Signed::open(ctx).await?;
    let good = request.good();
    request.refused("no Authorization", &[]).await?;
    request.refused("another scheme", &["Bearer x"]).await?;
    request.refused("nonsense", &["X-Matrix nonsense"]).await?;
    request
        .refused("another destination", &[&request.header(p.signer(), t.name())])
        .await?;
    request
        .refused(
            "an unknown key",
            &[&request.header(&p.other_key("unknown"), ctx.subject_name())],
        )
        .await?;
    request
        .refused("a retired key", &[&request.header(&old, ctx.subject_name())])
        .await?;
    let bad_sig = good.split("sig=").next().unwrap_or_default().to_owned() + "sig=\"AAAA\"";
    request.refused("a signature that is too short", &[&bad_sig]).await?;
    request
        .refused("one good and one bad header", &[&good, &bad_sig])
        .await?;
    request
        .refused("one good and one malformed header", &[&good, "X-Matrix nonsense"])
        .await?;
    let as_t = good.replace(p.name().as_str(), t.name().as_str());
    request
        .refused("another server's name over this signature", &[&as_t])
        .await?;
    let by_t = request.header(t.signer(), ctx.subject_name());
    request
        .refused("two good headers of two servers", &[&good, &by_t])
        .await?;
    request.accepted("one good header", &[&good]).await?;
    request.accepted("the same header twice", &[&good, &good]).await?;
    let uri = send_uri(&unique());
    let signed = Json::from(object! { "pdus" => Json::Array(Vec::new()) });
    let sent = Bytes::from_static(br#"{"pdus":[],"edus":[]}"#);
    let reply = ctx
        .subject()
        .signed_bytes(p.signer(), "PUT", &uri, Some(&signed), Some(sent))
        .await?;
    ctx.answers("a body other than the signed one", &reply, 401, "M_FORBIDDEN")?;
    let elsewhere = ctx
        .subject()
        .authorization(p.signer(), "PUT", &send_uri(&unique()), Some(&signed))
        .concat();
    let body = Bytes::from(signed.to_canonical());
    let reply = ctx
        .subject()
        .request("PUT", &uri, &[("authorization", &elsewhere)], Some(body))
        .await?;
    ctx.answers("a target other than the signed one", &reply, 401, "M_FORBIDDEN")
}

/// Answers key requests with the usual key and one retired at this time.
pub(crate) fn publish_with_old_key(peer: &Peer, old: &Signer, retired: UnixMillis) {
    let key = &old.keys()[0];
    let old_keys = [(key.key_id().clone(), (key.public(), retired))].into_iter().collect();
    let valid_until = now().plus(std::time::Duration::from_secs(12 * 60 * 60));
    peer.publish(own_key_response(peer.signer(), &old_keys, valid_until));
}

/// 50
pub(crate) async fn header_forms(ctx: &Ctx) -> Checked {
    let request = Signed::open(ctx).await?;
    let good = request.good();
    let Ok(parsed) = xmatrix::XMatrix::parse(&good) else {
        return failed("our own header", good);
    };
    let (origin, destination) = (parsed.origin.as_str(), ctx.subject_name().as_str());
    let (key, sig) = (parsed.key.as_str(), parsed.sig.to_base64());
    let mut escaped = String::new();
    for letter in origin.chars() {
        escaped.push('\\');
        escaped.push(letter);
    }
    let is_token = destination
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
    let bare = if is_token {
        destination.to_owned()
    } else {
        format!("\"{destination}\"")
    };
    for (what, header) in [
        (
            "`sig`",
            format!(r#"X-Matrix origin="{origin}",destination="{destination}",key="{key}",sig="{sig}""#),
        ),
        (
            "`signature`",
            format!(r#"X-Matrix origin="{origin}",destination="{destination}",key="{key}",signature="{sig}""#),
        ),
        (
            "both names",
            format!(
                r#"X-Matrix origin="{origin}",destination="{destination}",key="{key}",sig="{sig}",signature="{sig}""#
            ),
        ),
        (
            "another order",
            format!(r#"X-Matrix sig="{sig}",key="{key}",destination="{destination}",origin="{origin}""#),
        ),
        (
            "names in mixed case",
            format!(r#"X-Matrix Origin="{origin}",DESTINATION="{destination}",kEy="{key}",Sig="{sig}""#),
        ),
        (
            "the scheme in another case",
            format!(r#"x-matrix origin="{origin}",destination="{destination}",key="{key}",sig="{sig}""#),
        ),
        (
            "unknown parameters and a bare token",
            format!(r#"X-Matrix extra=token,origin="{origin}",destination={bare},key="{key}",x="a,b\"c",sig="{sig}""#),
        ),
        (
            "spaces around commas",
            format!(r#"X-Matrix  origin="{origin}" , destination="{destination}" ,  key="{key}", sig="{sig}""#),
        ),
        (
            "backslash escapes",
            format!(r#"X-Matrix origin="{escaped}",destination="{destination}",key="{key}",sig="{sig}""#),
        ),
    ] {
        request.accepted(what, &[&header]).await?;
    }
    Ok(())
}

/// 51
pub(crate) async fn empty_content(ctx: &Ctx) -> Checked {
    let request = Signed::open(ctx).await?;
    request
        .accepted("signed with `content: {}`", &[&request.good()])
        .await?;
    let p = ctx.p();
    let mut signed = object! {
        "method" => "GET", "uri" => request.uri.as_str(), "origin" => p.name(), "destination" => ctx.subject_name(),
    };
    p.signer().sign_object(&mut signed);
    let by_key = signed
        .get("signatures")
        .and_then(Json::as_object)
        .and_then(|by| by.get(p.name().as_str()));
    let (key, sig) = by_key
        .and_then(Json::as_object)
        .and_then(|by| by.iter().next())
        .map(|(key, sig)| (key.to_owned(), sig.as_str().unwrap_or_default().to_owned()))
        .unwrap_or_default();
    let (origin, destination) = (p.name(), ctx.subject_name());
    let header = format!(r#"X-Matrix origin="{origin}",destination="{destination}",key="{key}",sig="{sig}""#);
    request.refused("signed without `content`", &[&header]).await
}

/// 52
pub(crate) async fn bodies(ctx: &Ctx) -> Checked {
    let p = ctx.p();
    let put = async |what: &str, body: &'static [u8], code: &str| {
        let uri = send_uri(&unique());
        let json = Json::parse(body).ok();
        let bytes = Bytes::from_static(body);
        let reply = ctx
            .subject()
            .signed_bytes(p.signer(), "PUT", &uri, json.as_ref(), Some(bytes))
            .await?;
        ctx.answers(what, &reply, 400, code)?;
        let says_why = reply.object().get("error").and_then(Json::as_str).is_some();
        ctx.check(&format!("{what}: with a sentence"), says_why, || reply.brief())
    };
    put("`nope`", b"nope", "M_NOT_JSON").await?;
    put("no body", b"", "M_NOT_JSON").await?;
    put("bytes that are no UTF-8", b"{\"pdus\":[],\"x\":\"\xff\"}", "M_NOT_JSON").await?;
    put("`[]`", b"[]", "M_BAD_JSON").await?;
    put("`{}`", b"{}", "M_BAD_JSON").await?;
    put("`pdus` as an object", br#"{"pdus":{}}"#, "M_BAD_JSON").await?;
    put("`edus` as a string", br#"{"pdus":[],"edus":"x"}"#, "M_BAD_JSON").await?;
    for endpoint in ["v3/invite", "v3/send_join", "v3/send_leave", "v3/send_knock"] {
        let uri = format!("/_matrix/federation/{endpoint}/{}", unique());
        let reply = p.call("POST", &uri, Some(&Object::new())).await?;
        ctx.answers(&format!("`{{}}` on {endpoint}"), &reply, 400, "M_BAD_JSON")?;
    }
    let reply = ctx
        .subject()
        .request("POST", "/_matrix/key/v2/query", &[], Some(Bytes::from_static(b"nope")))
        .await?;
    ctx.answers("`nope` on the notary's endpoint", &reply, 400, "M_NOT_JSON")?;
    let reply = ctx
        .subject()
        .request("POST", "/_matrix/key/v2/query", &[], Some(Bytes::from_static(b"{}")))
        .await?;
    ctx.answers("`{}` on the notary's endpoint", &reply, 400, "M_BAD_JSON")
}

/// 53
pub(crate) async fn unknown_endpoints(ctx: &Ctx) -> Checked {
    let p = ctx.p();
    let id = unique();
    for (method, uri) in [
        ("PUT", format!("{}/", send_uri(&id))),
        ("PUT", format!("/{}", send_uri(&id))),
        ("GET", "/_matrix/federation/v1/nothing".to_owned()),
        ("GET", "/_matrix/federation".to_owned()),
        ("GET", "/_matrix/key/v2/server/".to_owned()),
        ("GET", "/_matrix/federation/v1/publicRooms".to_owned()),
        ("POST", "/_matrix/federation/v1/get_missing_events/x".to_owned()),
        ("GET", "/_matrix/federation/v1/timestamp_to_event/x".to_owned()),
        ("PUT", "/_matrix/federation/v2/send".to_owned()),
    ] {
        let body = object! { "pdus" => Json::Array(Vec::new()) };
        let reply = p.call(method, &uri, (method != "GET").then_some(&body)).await?;
        ctx.answers(&format!("{method} {uri}"), &reply, 404, "M_UNRECOGNIZED")?;
    }
    for (method, uri) in [
        ("GET", send_uri(&id)),
        ("POST", send_uri(&id)),
        ("POST", "/_matrix/key/v2/server".to_owned()),
        ("GET", "/_matrix/key/v2/query".to_owned()),
        ("PUT", "/_matrix/federation/v1/state/x".to_owned()),
    ] {
        let reply = p
            .call(method, &uri, (method != "GET").then_some(&Object::new()))
            .await?;
        ctx.answers(&format!("{method} {uri}"), &reply, 405, "M_UNRECOGNIZED")?;
    }
    let body = object! { "pdus" => Json::Array(Vec::new()) };
    let reply = p
        .call("PUT", &format!("/_matrix/federation/{UNSTABLE}send/{id}"), Some(&body))
        .await?;
    ctx.answers("the draft's path for tests", &reply, 200, "")
}

/// 80
pub(crate) async fn rate_limit(ctx: &Ctx) -> Checked {
    let room = HubRoom::public(ctx).await?;
    let (p, alice) = (ctx.p(), ctx.p().user("alice"));
    room.join(p, &alice).await?;
    let uri = format!(
        "/_matrix/federation/v1/make_join/{}/{}?ver=I.1",
        encode(&room.id),
        encode(p.user("bob").as_str())
    );
    for _ in 0..FLOOD / FLOOD_AT_ONCE {
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..FLOOD_AT_ONCE {
            let (p, uri) = (p.clone(), uri.clone());
            calls.spawn(async move { p.call("GET", &uri, None).await });
        }
        let mut limited = None;
        while let Some(reply) = calls.join_next().await {
            let reply = reply.map_err(|error| Stop::Skipped(error.to_string()))??;
            match reply.status {
                200 => {}
                429 => limited = Some(reply),
                _ => return failed("200 or 429", reply.brief()),
            }
        }
        let Some(reply) = limited else { continue };
        ctx.answers("too many make_join", &reply, 429, "M_LIMIT_EXCEEDED")?;
        let says_how_long = reply
            .object()
            .get("retry_after_ms")
            .and_then(Json::as_i64)
            .is_some_and(|ms| ms >= 0);
        ctx.check("it says in `retry_after_ms` how long to wait", says_how_long, || {
            reply.object().to_string()
        })?;
        for _ in 0..20 {
            let lpdu = room.message(p, &alice, "x");
            let failed_pdus = room.submit(p, &[&lpdu]).await?;
            if !failed_pdus.is_empty() {
                return failed("transactions go through meanwhile", failed_pdus.to_string());
            }
        }
        ctx.observe("20 transactions meanwhile: 200");
        return Ok(());
    }
    skipped(format!("no limit within {FLOOD} requests"))
}

/// The draft's other paths carry an event like the stable ones.
pub(crate) async fn unstable_paths(ctx: &Ctx) -> Checked {
    let room = HubRoom::public(ctx).await?;
    let (p, alice) = (ctx.p(), ctx.p().user("alice"));
    let join = room.membership(p, &alice, &alice, "join");
    let path = |rest: String| format!("/_matrix/federation/{UNSTABLE}{rest}");
    let reply = p
        .call("POST", &path(format!("send_join/{}", unique())), Some(&join))
        .await?;
    ctx.answers("send_join", &reply, 200, "")?;
    let lpdu = room.message(p, &alice, "x");
    let body = object! { "pdus" => vec![Json::from(lpdu.clone())] };
    ctx.answers(
        "send",
        &p.call("PUT", &path(format!("send/{}", unique())), Some(&body)).await?,
        200,
        "",
    )?;
    let stamp = Stamp::of(&lpdu).expect("it is well-formed");
    let id = event_id_of(&p.received_event(ctx.deadline(), &stamp).await?);
    let id = encode(id.as_str());
    ctx.answers(
        "event",
        &p.call("GET", &path(format!("event/{id}")), None).await?,
        200,
        "",
    )?;
    let uri = path(format!("backfill/{}?v={id}&limit=1", encode(&room.id)));
    let reply = p.call("GET", &uri, None).await?;
    ctx.answers("backfill", &reply, 200, "")?;
    let pdus = list(&reply.object(), "pdus");
    let is_it = pdus.len() == 1 && text(&pdus[0], "type") == "m.room.message";
    ctx.check("it is the event", is_it, || reply.object().to_string())?;
    let leave = room.membership(p, &alice, &alice, "leave");
    let reply = p
        .call("POST", &path(format!("send_leave/{}", unique())), Some(&leave))
        .await?;
    ctx.answers("send_leave", &reply, 200, "")
}

const FLOOD: usize = 3000;
const FLOOD_AT_ONCE: usize = 20;
