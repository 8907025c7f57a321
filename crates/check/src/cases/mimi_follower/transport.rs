//! Cases 2 to 9 again, of a follower: callers and framing (MIMI #transport-layer), by notifications.

use nabe_wire::directory::Endpoint;

use crate::case::{Case, Checked, Peers, Suite, failed};
use crate::context::Ctx;
use crate::mimi::hosted::{HostedMimiRoom, batch};
use crate::mimi::peer::unescaped;
use nabe_wire::notify::FanoutMessage;

pub(crate) const CASES: &[Case] = &[
    Case {
        id: "mimi-2f",
        title: "callers without a certificate, of a follower",
        suite: Suite::MimiFollower,
        requirements: &["MIMI-http-mutual-tls"],
        sent: "a notification without a client certificate",
        expected: "the end of the connection or 401; its message is new when it comes in the right way",
        peers: Peers::Mimi(1),
        run: run!(without_certificate),
    },
    Case {
        id: "mimi-3f",
        title: "`From` of another provider, of a follower",
        suite: Suite::MimiFollower,
        requirements: &["MIMI-http-certificate-domains", "MIMI-http-source-target"],
        sent: "a notification with another provider's certificate and the hub's domain in `From`",
        expected: "403",
        peers: Peers::Mimi(2),
        run: run!(from_another),
    },
    Case {
        id: "mimi-4f",
        title: "`From` of somebody or nobody, of a follower",
        suite: Suite::MimiFollower,
        requirements: &["MIMI-http-from"],
        sent: "notifications with another local part than `mimi` in `From`, and without it",
        expected: "401 or 400",
        peers: Peers::Mimi(1),
        run: run!(from_nobody),
    },
    Case {
        id: "mimi-6f",
        title: "the room in the path, of a follower",
        suite: Suite::MimiFollower,
        requirements: &["MIMI-directory-well-known"],
        sent: "a notification with the room as host and path",
        expected: "201, and its message is in the room",
        peers: Peers::Mimi(1),
        run: run!(room_in_path),
    },
    Case {
        id: "mimi-8f",
        title: "bytes after the body, of a follower",
        suite: Suite::MimiFollower,
        requirements: &["MIMI-wire-no-tail", "MIMI-wire-presentation"],
        sent: "a notification and one byte more",
        expected: "400, and none of it is taken",
        peers: Peers::Mimi(1),
        run: run!(tail),
    },
];

/// The message is taken now, and once: it was not before.
async fn is_new(room: &mut HostedMimiRoom<'_>, what: &str, message: &FanoutMessage) -> Checked {
    let (_, fence) = room.message("fence");
    let reply = room.notify(std::slice::from_ref(&fence)).await?;
    room.ctx.answers("the next notification", &reply, 201, "")?;
    let read = room.read_up_to(&fence).await?;
    match read.iter().any(|read| read.message == message.message) {
        true => failed(format!("{what}: its message is not taken"), "it is there"),
        false => Ok(()),
    }
}

async fn without_certificate(ctx: &Ctx) -> Checked {
    let mut room = HostedMimiRoom::with_alice(ctx).await?;
    let (_, message) = room.message("uncertified");
    let body = batch(std::slice::from_ref(&message));
    let answer = room.hub().call_uncertified(Endpoint::Notify, &room.uri, body).await?;
    let status = answer.map(|reply| reply.status);
    ctx.check("no answer or 401", matches!(status, None | Some(401)), || {
        format!("{status:?}")
    })?;
    is_new(&mut room, "without a certificate", &message).await
}

async fn from_another(ctx: &Ctx) -> Checked {
    let mut room = HostedMimiRoom::with_alice(ctx).await?;
    let (_, message) = room.message("from another");
    let from = format!("mimi@{}", room.hub().domain());
    let reply = ctx
        .mimi(1)
        .call_with(
            Endpoint::Notify,
            &room.uri,
            &[("from", &from)],
            batch(std::slice::from_ref(&message)),
        )
        .await?;
    ctx.answers("another provider's certificate", &reply, 403, "")?;
    is_new(&mut room, "another provider's certificate", &message).await
}

async fn from_nobody(ctx: &Ctx) -> Checked {
    let mut room = HostedMimiRoom::with_alice(ctx).await?;
    let (_, message) = room.message("from nobody");
    let from = format!("hanna@{}", room.hub().domain());
    for headers in [&[("from", from.as_str())][..], &[]] {
        let body = batch(std::slice::from_ref(&message));
        let reply = room.hub().call_with(Endpoint::Notify, &room.uri, headers, body).await?;
        let is_refused = matches!(reply.status, 400 | 401);
        ctx.check("401 or 400", is_refused, || reply.brief())?;
    }
    is_new(&mut room, "`From` of nobody", &message).await
}

async fn room_in_path(ctx: &Ctx) -> Checked {
    let mut room = HostedMimiRoom::with_alice(ctx).await?;
    let (_, message) = room.message("host and path");
    let (_, path) = room.hub().place(Endpoint::Notify, &room.uri).await?;
    let from = format!("mimi@{}", room.hub().domain());
    let path = unescaped(&path, &room.uri);
    let body = batch(std::slice::from_ref(&message));
    let reply = room.hub().request("POST", &path, &[("from", &from)], body).await?;
    ctx.answers("host and path", &reply, 201, "")?;
    room.read_up_to(&message).await.map(drop)
}

async fn tail(ctx: &Ctx) -> Checked {
    let mut room = HostedMimiRoom::with_alice(ctx).await?;
    let (_, message) = room.message("a tail");
    let body = [&batch(std::slice::from_ref(&message))[..], &[0]].concat();
    let reply = room.hub().call(Endpoint::Notify, &room.uri, body).await?;
    ctx.answers("one byte more", &reply, 400, "")?;
    is_new(&mut room, "one byte more", &message).await
}
