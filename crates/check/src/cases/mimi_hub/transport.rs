//! Cases 1 to 9: directory, callers and framing (MIMI #transport-layer, MIMI #directory), by messages for a room of the subject.

use nabe_wire::directory::{DIRECTORY_PATH, Endpoint, Template};
use nabe_wire::mls::MlsMessageBody;
use nabe_wire::notify::FanoutParts;
use nabe_wire::submit_message::{SubmitMessageResponse, SubmitVerdict};

use crate::case::{Case, Checked, Peers, Suite, failed};
use crate::context::Ctx;
use crate::mimi::peer::{read, unescaped};
use crate::mimi::room::{At, MimiRoom, private, submission, verdict};

pub(crate) const CASES: &[Case] = &[
    Case {
        id: "mimi-1",
        title: "the directory",
        suite: Suite::MimiHub,
        requirements: &["MIMI-directory-well-known", "MIMI-directory-ten-endpoints"],
        sent: "GET /.well-known/mimi-protocol-directory",
        expected: "200 and JSON with ten https URLs, each with its variable",
        peers: Peers::Mimi(1),
        run: run!(directory),
    },
    Case {
        id: "mimi-2",
        title: "callers without a certificate",
        suite: Suite::MimiHub,
        requirements: &["MIMI-http-mutual-tls"],
        sent: "each endpoint, and a message that is allowed, without a client certificate",
        expected: "the end of the connection or 401, and the message is not taken",
        peers: Peers::Mimi(2),
        run: run!(without_certificate),
    },
    Case {
        id: "mimi-3",
        title: "`From` of another provider",
        suite: Suite::MimiHub,
        requirements: &["MIMI-http-certificate-domains", "MIMI-http-source-target"],
        sent: "a message with the certificate of one provider and the domain of the other in `From`",
        expected: "403",
        peers: Peers::Mimi(2),
        run: run!(from_another),
    },
    Case {
        id: "mimi-4",
        title: "`From` of somebody",
        suite: Suite::MimiHub,
        requirements: &["MIMI-http-from"],
        sent: "a message with another local part than `mimi` in `From`",
        expected: "401 or 400",
        peers: Peers::Mimi(2),
        run: run!(from_somebody),
    },
    Case {
        id: "mimi-5",
        title: "no `From`",
        suite: Suite::MimiHub,
        requirements: &["MIMI-http-from", "MIMI-http-source-target"],
        sent: "a message without `From`",
        expected: "401 or 400",
        peers: Peers::Mimi(2),
        run: run!(without_from),
    },
    Case {
        id: "mimi-6",
        title: "the room in the path",
        suite: Suite::MimiHub,
        requirements: &["MIMI-directory-well-known"],
        sent: "messages with the room as one escaped segment and as host and path",
        expected: "both are in the same room",
        peers: Peers::Mimi(2),
        run: run!(room_in_path),
    },
    Case {
        id: "mimi-7",
        title: "a port in `Host`",
        suite: Suite::MimiHub,
        requirements: &["MIMI-http-host"],
        sent: "a message with another port in `Host`",
        expected: "accepted",
        peers: Peers::Mimi(2),
        run: run!(port_in_host),
    },
    Case {
        id: "mimi-8",
        title: "bytes after the body",
        suite: Suite::MimiHub,
        requirements: &["MIMI-wire-no-tail", "MIMI-wire-presentation"],
        sent: "a message and one byte more",
        expected: "400",
        peers: Peers::Mimi(2),
        run: run!(tail),
    },
    Case {
        id: "mimi-9",
        title: "a length in more bytes than it needs",
        suite: Suite::MimiHub,
        requirements: &["MIMI-wire-lengths-minimal"],
        sent: "a message whose last field has its length in two bytes instead of one",
        expected: "400",
        peers: Peers::Mimi(2),
        run: run!(long_length),
    },
];

async fn directory(ctx: &Ctx) -> Checked {
    let peer = ctx.mimi(0);
    let reply = peer.request("GET", DIRECTORY_PATH, &[], "").await?;
    ctx.answers("the directory", &reply, 200, "")?;
    let found = peer.directory().await?;
    for endpoint in Endpoint::ALL {
        let Some(text) = found.get(endpoint.name()) else {
            return failed(format!("`{endpoint}` in the directory"), "it is not there");
        };
        let parsed = Template::parse(endpoint, text);
        let what = format!("`{endpoint}`: an https URL with {{{}}}", endpoint.variable());
        ctx.check(&what, parsed.is_ok(), || text.clone())?;
    }
    Ok(())
}

/// A message of Cathy's that the hub would take, as a body.
async fn request<'a>(ctx: &'a Ctx, text: &str) -> Checked<(MimiRoom<'a>, Vec<u8>)> {
    let mut room = MimiRoom::of_three(ctx).await?;
    let message = room.encrypt("cathy", text);
    let body = submission(&room.client("cathy").user, MlsMessageBody::Private(message));
    Ok((room, body))
}

/// The message was not taken: nobody hears of it, and it is new when it comes in the right way.
async fn is_not_taken(room: &mut MimiRoom<'_>, what: &str, body: Vec<u8>) -> Checked {
    room.fence(&[At::Peer(0)]).await?;
    let heard = room.peer(At::Peer(0)).fanned_out(&room.uri)?;
    let said = heard
        .iter()
        .filter(|heard| matches!(heard.with, FanoutParts::Application { .. }));
    let said = said.count();
    if said != 1 {
        return failed(format!("{what}: nobody hears of it"), format!("{said} messages"));
    }
    let answer = room.ctx.mimi(1).ask(Endpoint::SubmitMessage, &room.uri, body).await?;
    match verdict(&answer)? {
        SubmitVerdict::Accepted(_) => Ok(()),
        other => failed(format!("{what}: the message is good otherwise"), format!("{other:?}")),
    }
}

async fn without_certificate(ctx: &Ctx) -> Checked {
    let (mut room, body) = request(ctx, "uncertified").await?;
    let peer = ctx.mimi(1);
    for endpoint in Endpoint::ALL {
        if !peer.directory().await?.contains_key(endpoint.name()) {
            continue;
        }
        let answer = peer.call_uncertified(endpoint, &room.uri, body.clone()).await?;
        let status = answer.map(|reply| reply.status);
        let what = format!("{endpoint}: no answer or 401");
        ctx.check(&what, matches!(status, None | Some(401)), || format!("{status:?}"))?;
    }
    is_not_taken(&mut room, "without a certificate", body).await
}

async fn from_another(ctx: &Ctx) -> Checked {
    let (mut room, body) = request(ctx, "from another").await?;
    let from = format!("mimi@{}", ctx.mimi(0).domain());
    let reply = ctx
        .mimi(1)
        .call_with(Endpoint::SubmitMessage, &room.uri, &[("from", &from)], body.clone())
        .await?;
    ctx.answers("From of another provider", &reply, 403, "")?;
    is_not_taken(&mut room, "From of another provider", body).await
}

async fn from_somebody(ctx: &Ctx) -> Checked {
    let (mut room, body) = request(ctx, "from somebody").await?;
    let from = format!("cathy@{}", ctx.mimi(1).domain());
    let reply = ctx
        .mimi(1)
        .call_with(Endpoint::SubmitMessage, &room.uri, &[("from", &from)], body.clone())
        .await?;
    let is_refused = matches!(reply.status, 400 | 401);
    ctx.check("From of somebody: 401 or 400", is_refused, || reply.brief())?;
    is_not_taken(&mut room, "From of somebody", body).await
}

async fn without_from(ctx: &Ctx) -> Checked {
    let (mut room, body) = request(ctx, "from nobody").await?;
    let reply = ctx
        .mimi(1)
        .call_with(Endpoint::SubmitMessage, &room.uri, &[], body.clone())
        .await?;
    let is_refused = matches!(reply.status, 400 | 401);
    ctx.check("no From: 401 or 400", is_refused, || reply.brief())?;
    is_not_taken(&mut room, "no From", body).await
}

async fn room_in_path(ctx: &Ctx) -> Checked {
    let (mut room, escaped) = request(ctx, "one segment").await?;
    let message = room.encrypt("cathy", "host and path");
    let body = submission(&room.client("cathy").user, MlsMessageBody::Private(message.clone()));
    let peer = ctx.mimi(1);
    peer.ask::<SubmitMessageResponse>(Endpoint::SubmitMessage, &room.uri, escaped)
        .await?;
    let (_, path) = peer.place(Endpoint::SubmitMessage, &room.uri).await?;
    let from = format!("mimi@{}", peer.domain());
    let path = unescaped(&path, &room.uri);
    let reply = peer.request("POST", &path, &[("from", &from)], body).await?;
    let answer = verdict(&read("submitMessage by host and path", &reply)?)?;
    let is_accepted = matches!(answer, SubmitVerdict::Accepted(_));
    ctx.check("host and path: accepted", is_accepted, || format!("{answer:?}"))?;
    room.heard(At::Peer(0), "the message by host and path", &private(&message))
        .await
        .map(drop)
}

async fn port_in_host(ctx: &Ctx) -> Checked {
    let (room, body) = request(ctx, "another port").await?;
    let reply = ctx
        .mimi(1)
        .call_at_port(Endpoint::SubmitMessage, &room.uri, 47_110, body)
        .await?;
    let answer = verdict(&read("submitMessage", &reply)?)?;
    let is_accepted = matches!(answer, SubmitVerdict::Accepted(_));
    ctx.check("another port in Host: accepted", is_accepted, || format!("{answer:?}"))
}

async fn tail(ctx: &Ctx) -> Checked {
    let (mut room, body) = request(ctx, "a tail").await?;
    let longer = [&body[..], &[0]].concat();
    let reply = ctx.mimi(1).call(Endpoint::SubmitMessage, &room.uri, longer).await?;
    ctx.answers("one byte more", &reply, 400, "")?;
    is_not_taken(&mut room, "one byte more", body).await
}

async fn long_length(ctx: &Ctx) -> Checked {
    let (mut room, body) = request(ctx, "a long length").await?;
    let longer = with_long_length(&body, &room.client("cathy").user)?;
    let reply = ctx.mimi(1).call(Endpoint::SubmitMessage, &room.uri, longer).await?;
    ctx.answers("a length in two bytes", &reply, 400, "")?;
    is_not_taken(&mut room, "a length in two bytes", body).await
}

/// A body that ends in this text, whose length is written in more bytes than it needs.
pub(crate) fn with_long_length(body: &[u8], last: &str) -> Checked<Vec<u8>> {
    let at = body.len().saturating_sub(last.len() + 1);
    let (before, rest) = body.split_at(at);
    match rest.split_first() {
        // The form of two bytes has 01 in its first two bits.
        Some((&length, text)) if usize::from(length) == last.len() && text == last.as_bytes() => {
            Ok([before, &[0x40, length], text].concat())
        }
        _ => crate::case::skipped("the check's own body does not end in a short text"),
    }
}
