//! Cases 68 to 70: what a follower makes of notifications (MIMI #fanout-messages-and-room-events).

use nabe_wire::directory::Endpoint;
use nabe_wire::notify::{FanoutMessage, FanoutParts};

use crate::case::{Case, Checked, Peers, Suite, failed};
use crate::context::Ctx;
use crate::mimi::hosted::{HostedMimiRoom, batch, stamp};

pub(crate) const CASES: &[Case] = &[
    Case {
        id: "mimi-68",
        title: "the same body again",
        suite: Suite::MimiFollower,
        requirements: &["MIMI-fanout-duplicate-201", "MIMI-fanout-duplicate-ignored"],
        sent: "one notification twice, then another",
        expected: "201 each time, and each message is there once",
        peers: Peers::Mimi(1),
        run: run!(same_again),
    },
    Case {
        id: "mimi-69",
        title: "notifications of somebody who is not the hub",
        suite: Suite::MimiFollower,
        requirements: &["MIMI-room-one-hub"],
        sent: "notifications by another provider, in its own name: the Welcome of a user, and once the hub sent that, a message and a commit",
        expected: "403 or 404, and nothing of it is there",
        peers: Peers::Mimi(2),
        run: run!(not_the_hub),
    },
    Case {
        id: "mimi-70",
        title: "two messages in one body",
        suite: Suite::MimiFollower,
        requirements: &["MIMI-fanout-concatenated", "MIMI-fanout-status-201"],
        sent: "a notification with two messages",
        expected: "201, and both are there in their order, as they were sent",
        peers: Peers::Mimi(1),
        run: run!(two_in_one),
    },
    Case {
        id: "mimi-70f",
        title: "a room that nobody here is in",
        suite: Suite::MimiFollower,
        requirements: &["MIMI-room-one-hub"],
        sent: "a message of a room without users of the follower",
        expected: "a refusal of the 400s",
        peers: Peers::Mimi(1),
        run: run!(unknown_room),
    },
];

async fn same_again(ctx: &Ctx) -> Checked {
    let mut room = HostedMimiRoom::with_alice(ctx).await?;
    let (_, first) = room.message("first");
    for _ in 0..2 {
        let reply = room.notify(std::slice::from_ref(&first)).await?;
        ctx.answers("the same body", &reply, 201, "")?;
    }
    let (_, second) = room.message("second");
    let reply = room.notify(std::slice::from_ref(&second)).await?;
    ctx.answers("the next body", &reply, 201, "")?;
    let read = room.read_up_to(&second).await?;
    ctx.check("each message once", read == [first, second], || {
        format!("{} messages", read.len())
    })
}

async fn not_the_hub(ctx: &Ctx) -> Checked {
    let mut room = HostedMimiRoom::create(ctx);
    let (bundle, device) = room.add_alice().await?;
    let (welcome, alice) = (room.welcome(&bundle), ctx.local(&device.user())?);
    refused(&room, "another provider's Welcome", &welcome).await?;
    let early = ctx.messages(&alice, &room.uri).await?;
    ctx.check("it is not there", early.is_empty(), || {
        format!("{} messages", early.len())
    })?;
    let reply = room.notify(std::slice::from_ref(&welcome)).await?;
    ctx.answers("the hub's", &reply, 201, "")?;
    let (_, message) = room.message("not from the hub");
    refused(&room, "another provider's message", &message).await?;
    let commit = FanoutMessage {
        timestamp: stamp(),
        message: room.hanna.update().commit,
        with: FanoutParts::Commit {
            external_proposals: Vec::new(),
        },
    };
    room.hanna.clear();
    refused(&room, "another provider's commit", &commit).await?;
    let (_, fence) = room.message("fence");
    let reply = room.notify(std::slice::from_ref(&fence)).await?;
    ctx.answers("the hub itself", &reply, 201, "")?;
    room.read_up_to(&fence).await?;
    let read = ctx.messages(&alice, &room.uri).await?;
    ctx.check("nothing but the hub's", read == [welcome, fence], || {
        format!("{} messages", read.len())
    })
}

/// Another provider than the hub sends this in its own name.
async fn refused(room: &HostedMimiRoom<'_>, what: &str, message: &FanoutMessage) -> Checked {
    let body = batch(std::slice::from_ref(message));
    let reply = room.ctx.mimi(1).call(Endpoint::Notify, &room.uri, body).await?;
    let is_refused = matches!(reply.status, 403 | 404);
    room.ctx
        .check(&format!("{what}: 403 or 404"), is_refused, || reply.brief())
}

async fn two_in_one(ctx: &Ctx) -> Checked {
    let mut room = HostedMimiRoom::with_alice(ctx).await?;
    let (encrypted, first) = room.message("first");
    let (_, second) = room.message("second");
    let sent = [first, second];
    let reply = room.notify(&sent).await?;
    ctx.answers("two messages", &reply, 201, "")?;
    let read = room.read_up_to(&sent[1]).await?;
    ctx.check("both, in order", read == sent, || format!("{} messages", read.len()))?;
    let alice = room.alice.as_mut().expect("she is in the room");
    match alice.decrypt(&encrypted).as_deref() {
        Some(b"first") => Ok(()),
        other => failed("Alice reads the message", format!("{other:?}")),
    }
}

async fn unknown_room(ctx: &Ctx) -> Checked {
    let mut room = HostedMimiRoom::create(ctx);
    let (_, message) = room.message("nobody hears it");
    let reply = room.notify(&[message]).await?;
    let is_refused = (400..500).contains(&reply.status);
    ctx.check("an unknown room: 4xx", is_refused, || reply.brief())
}
