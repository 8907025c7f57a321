//! Cases 49, 60, 66 and 71 as seen at a participant: how it asks, and what only a hub answers.

use nabe_signing::json::Json;
use nabe_signing::object;
use nabe_signing::xmatrix::{self, Bodyless, XMatrix};

use crate::author;
use crate::case::{Case, Checked, Peers, Suite, failed, skipped};
use crate::context::{Ctx, now};
use crate::participant_room::ParticipantRoom;
use crate::peer::{Endpoint, Recorded};
use crate::subject::{encode, unique};

pub(crate) const CASES: &[Case] = &[
    Case {
        id: "lm-49p",
        title: "how the subject signs",
        suite: Suite::Participant,
        requirements: &[
            "LM-request-auth-object",
            "LM-request-auth-empty-content",
            "LM-request-auth-header-format",
            "LM-requests-content-type-request",
            "LM-requests-utf8",
        ],
        sent: "a join, a message and a gap",
        expected: "every request signed as the draft says, bodyless ones with `content: {}`",
        peers: Peers::Any(1),
        run: run!(own_requests),
    },
    Case {
        id: "lm-60p",
        title: "what only the hub answers",
        suite: Suite::Participant,
        requirements: &[
            "LM-state-api-wrong-server",
            "LM-make-leave-wrong-server",
            "LM-make-join-wrong-server",
            "LM-make-knock-wrong-server",
            "LM-send-leave-errors",
            "LM-send-join-errors",
            "LM-send-knock-errors",
            "LM-requests-all-endpoints",
        ],
        sent: "E7, E8, E11 to E16 for a room of another hub",
        expected: "400 M_WRONG_SERVER each",
        peers: Peers::Any(2),
        run: run!(not_the_hub),
    },
    Case {
        id: "lm-71",
        title: "an explicit port",
        suite: Suite::Participant,
        requirements: &[
            "LM-tls-certificate",
            "LM-resolve-before-request",
            "LM-resolve-certificate-name",
            "LM-resolve-host-header",
            "LM-resolve-explicit-port",
        ],
        sent: "a hub named host:port, and one whose certificate is for another name",
        expected: "Host with the port, certificate for the host; the other is not talked to",
        peers: Peers::OneWronglyNamed,
        run: run!(explicit_port),
    },
    Case {
        id: "lm-72",
        title: "well-known files and SRV records",
        suite: Suite::Participant,
        requirements: &[
            "LM-resolve-srv-fallback",
            "LM-resolve-default-port",
            "LM-well-known-redirects",
            "LM-well-known-redirect-loops",
            "LM-well-known-certificate",
            "LM-well-known-required-field",
            "LM-well-known-any-content-type",
            "LM-well-known-never-fatal",
        ],
        sent: "–",
        expected: "the steps of resolution",
        peers: Peers::Any(0),
        run: run!(well_known),
    },
];

/// 49
pub(crate) async fn own_requests(ctx: &Ctx) -> Checked {
    let room = ParticipantRoom::joined(ctx).await?;
    super::format::sent_by_local(&room, object! { "body" => "hello" }).await?;
    room.own("m.room.message", None, object! { "body" => "left out" });
    room.fence().await?;
    let keys = ctx.keys_with(&[]).await?;
    let mut seen = std::collections::BTreeSet::new();
    for request in room.hub.inbox() {
        if matches!(request.endpoint, Endpoint::Keys | Endpoint::Other) {
            continue;
        }
        seen.insert(request.endpoint);
        let headers: Result<Vec<_>, _> = request
            .authorization
            .iter()
            .map(|value| XMatrix::parse(value))
            .collect();
        let Ok(headers) = headers else {
            return failed("a header of the draft's form", format!("{:?}", request.authorization));
        };
        if headers.iter().any(|header| header.destination.is_none()) {
            return failed("a header with `destination`", format!("{:?}", request.authorization));
        }
        let asked = xmatrix::Request {
            method: &request.method,
            uri: &request.uri,
            destination: room.hub.name(),
            content: request.json.as_ref(),
        };
        let checked = xmatrix::verify_request(&asked, &headers, &keys, now(), Bodyless::EmptyObject);
        match checked {
            Ok(origin) if origin == *ctx.subject_name() => {}
            other => {
                return failed(
                    format!("{} {} signed by the subject", request.method, request.uri),
                    format!("{other:?}"),
                );
            }
        }
        let has_body = !request.body.is_empty();
        if has_body && !request.content_type.starts_with("application/json") {
            return failed("bodies as application/json", request.content_type);
        }
        if request.method == "GET" && has_body {
            return failed("no body with GET", request.uri);
        }
    }
    ctx.observe(format!("well signed: {seen:?}"));
    let covers = [Endpoint::MakeJoin, Endpoint::SendJoin, Endpoint::Send];
    ctx.check(
        "joining and sending are among them",
        covers.iter().all(|endpoint| seen.contains(endpoint)),
        || format!("{seen:?}"),
    )
}

/// 60 and 66
pub(crate) async fn not_the_hub(ctx: &Ctx) -> Checked {
    let room = ParticipantRoom::joined(ctx).await?;
    let (t, bob) = (ctx.t(), ctx.t().user("bob"));
    room.admit(t, &bob).await?;
    room.fence().await?;
    let head = room.with_room(|hosted| hosted.head());
    let head = head.first().map(|id| encode(id.as_str())).unwrap_or_default();
    let id = encode(&room.id);
    for peer in [room.hub, t] {
        let user = encode(peer.user("anna").as_str());
        for uri in [
            format!("/_matrix/federation/v1/state/{id}?event_id={head}"),
            format!("/_matrix/federation/v1/state_ids/{id}?event_id={head}"),
            format!("/_matrix/federation/v1/make_join/{id}/{user}?ver=I.1"),
            format!("/_matrix/federation/v1/make_leave/{id}/{user}"),
            format!("/_matrix/federation/v1/make_knock/{id}/{user}?ver=I.1"),
        ] {
            let reply = peer.call("GET", &uri, None).await?;
            let endpoint = uri.split('/').nth(4).unwrap_or_default().to_owned();
            ctx.answers(&endpoint, &reply, 400, "M_WRONG_SERVER")?;
        }
    }
    for (endpoint, membership) in [("send_join", "join"), ("send_leave", "leave"), ("send_knock", "knock")] {
        let content = object! { "membership" => membership };
        let event = room.event(&bob, "m.room.member", Some(bob.as_str()), content);
        let lpdu = author::seal_lpdu(event, ctx.subject_name().as_str(), t.signer());
        let uri = format!("/_matrix/federation/v3/{endpoint}/{}", unique());
        ctx.answers(
            endpoint,
            &t.call("POST", &uri, Some(&lpdu)).await?,
            400,
            "M_WRONG_SERVER",
        )?;
    }
    Ok(())
}

/// 71
pub(crate) async fn explicit_port(ctx: &Ctx) -> Checked {
    let (right, wrong) = (ctx.p(), ctx.t());
    let Some(port) = right.name().port() else {
        return skipped("the server's name has no port");
    };
    let room = ParticipantRoom::joined(ctx).await?;
    let requests = room.hub.inbox();
    let expected = format!("{}:{port}", right.name().host());
    let is_named =
        |request: &Recorded| request.host == expected && request.tls_name.as_deref() == Some(right.name().host());
    let odd = requests.iter().find(|request| !is_named(request));
    ctx.check(
        "`Host` with the port, certificate for the host",
        odd.is_none() && !requests.is_empty(),
        || format!("{:?}", odd.map(|request| (&request.host, &request.tls_name))),
    )?;
    let elsewhere = format!("!{}:{}", unique(), wrong.name());
    let via = object! { "via" => vec![Json::from(wrong.name())] };
    let path = format!("/rooms/{}/join", encode(&elsewhere));
    let reply = ctx.subject().api(&room.local, "POST", &path, Some(&via)).await?;
    ctx.check(
        "a server with another certificate is not joined through",
        reply.status >= 400,
        || reply.brief(),
    )?;
    let received = wrong.inbox().len();
    ctx.check("and receives no request", received == 0, || {
        format!("{received} requests")
    })
}

/// 72, and the rest of 71
pub(crate) async fn well_known(_: &Ctx) -> Checked {
    skipped(
        "needs DNS and port 443 of the delegating name; tested in crates/federation with its own DNS and well-known ports",
    )
}
