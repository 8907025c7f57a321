//! Cases 67 and 71: what followers hear of (MIMI #fanout-messages-and-room-events).

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use nabe_mls::testing::mimi::Change;
use nabe_wire::Message as _;
use nabe_wire::directory::Endpoint;
use nabe_wire::notify::{FanoutBatch, FanoutParts};

use crate::case::{Case, Checked, Peers, Suite, failed};
use crate::context::Ctx;
use crate::mimi::peer::{Answer, MimiPeer, Received};
use crate::mimi::room::{At, MimiRoom, private};

pub(crate) const CASES: &[Case] = &[
    Case {
        id: "mimi-67",
        title: "a follower that is busy",
        suite: Suite::MimiHub,
        requirements: &[
            "MIMI-fanout-retry",
            "MIMI-fanout-status-201",
            "MIMI-http-from",
            "MIMI-http-mutual-tls",
        ],
        sent: "503 with `Retry-After: 2` to a notification, while more is said",
        expected: "the same body again after two seconds, then the rest, in order and once; in the hub's name",
        peers: Peers::Mimi(2),
        run: run!(busy_follower),
    },
    Case {
        id: "mimi-71",
        title: "the hub restarts between a commit and its fan-out",
        suite: Suite::MimiHub,
        requirements: &["MIMI-update-success-commits", "MIMI-fanout-retry"],
        sent: "503 to all notifications until the hub was ended and has started again, after a message and a commit that it accepted; then a \
               message and a commit more",
        expected: "message and commit are fanned out, in their order and once, and the room goes on where it was",
        peers: Peers::MimiAlone(2),
        run: run!(restart),
    },
];

async fn busy_follower(ctx: &Ctx) -> Checked {
    let mut room = MimiRoom::of_three(ctx).await?;
    room.fence(&[At::Peer(0)]).await?;
    let peer = ctx.mimi(0);
    let before = peer.received(Endpoint::Notify, &room.uri).len();
    let refusals = Arc::new(AtomicUsize::new(1));
    peer.on(Endpoint::Notify, &room.uri, move |_| {
        let left = refusals.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        left.ok().map(|_| Answer {
            retry_after: Some(2),
            ..Answer::status(503)
        })
    });
    let mut said = Vec::new();
    for text in ["one", "two", "three"] {
        said.push(private(&room.say("cathy", text).await?.0));
    }
    room.heard(At::Peer(0), "the last message", &said[2]).await?;
    // A hub may have sent all three in what was refused.
    let tries = move |received: &[Received]| (received.len() >= before + 2).then_some(());
    peer.wait_for(ctx.deadline(), "another try", (Endpoint::Notify, &room.uri), tries)
        .await?;
    peer.behave(Endpoint::Notify, &room.uri);
    let received = peer.received(Endpoint::Notify, &room.uri).split_off(before);
    let (Some(first), Some(second)) = (received.first(), received.get(1)) else {
        return failed("a notification and another try", format!("{} requests", received.len()));
    };
    let is_same = first.body == second.body;
    ctx.check("the same body again", is_same, || "another one".to_owned())?;
    let after = second.at.duration_since(first.at);
    // Clocks differ by what the way takes.
    let is_late = after >= Duration::from_millis(1_950);
    ctx.check("no earlier than after two seconds", is_late, || format!("{after:?}"))?;
    let heard = peer.fanned_out(&room.uri)?;
    let heard: Vec<_> = heard
        .iter()
        .filter(|heard| matches!(heard.with, FanoutParts::Application { .. }))
        .map(|heard| heard.message.as_bytes().to_vec())
        .collect();
    let expected: Vec<_> = said.iter().map(|message| message.as_bytes().to_vec()).collect();
    let is_in_order = heard.ends_with(&expected) && heard.len() == expected.len() + 1;
    ctx.check("all messages once and in order", is_in_order, || {
        format!("{} messages", heard.len())
    })?;
    let is_signed = received
        .iter()
        .all(|request| request.is_certified && request.from == format!("mimi@{}", ctx.subject_domain()));
    ctx.check("`From` and certificate are the hub's", is_signed, || {
        format!("{:?}", first.from)
    })?;
    let is_target = received
        .iter()
        .all(|request| request.host.split(':').next() == Some(peer.domain().host()));
    ctx.check("`Host` is the follower's", is_target, || first.host.clone())
}

async fn restart(ctx: &Ctx) -> Checked {
    let command = ctx.restart_command()?;
    let mut room = MimiRoom::of_three(ctx).await?;
    room.fence(&[At::Peer(0), At::Peer(1)]).await?;
    let peers = [0, 1].map(|number| ctx.mimi(number));
    // What is taken, not what is tried: of that, the hub cannot know whether it came.
    let taken = peers.map(|_| Arc::new(Mutex::new(Vec::new())));
    let is_open = Arc::new(AtomicBool::new(false));
    for (peer, taken) in peers.iter().zip(&taken) {
        let (taken, is_open) = (Arc::clone(taken), Arc::clone(&is_open));
        peer.on(Endpoint::Notify, &room.uri, move |request| {
            if !is_open.load(Ordering::SeqCst) {
                return Some(Answer::status(503));
            }
            let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
            taken.push(request.body.clone());
            Some(Answer::status(201))
        });
    }
    let mut said = Vec::new();
    for when in ["before", "after"] {
        if when == "after" {
            ctx.restart_subject(command).await?;
            is_open.store(true, Ordering::SeqCst);
        }
        said.push(private(&room.say("alice", when).await?.0));
        let bundle = room
            .accepted("alice", &format!("a commit {when}"), Change::default())
            .await?;
        said.push(bundle.commit);
    }
    let said: Vec<_> = said.iter().map(|message| message.as_bytes().to_vec()).collect();
    for (peer, taken) in peers.iter().zip(&taken) {
        let taken = taken_up_to(ctx, peer, &room.uri, taken, &said[3]).await?;
        let what = format!("{} has all four once and in order", peer.domain());
        ctx.check(&what, taken == said, || format!("{} messages", taken.len()))?;
    }
    Ok(())
}

/// The messages in the bodies that a provider of ours took, once this one is there.
async fn taken_up_to(
    ctx: &Ctx,
    peer: &MimiPeer,
    room: &str,
    taken: &Mutex<Vec<Bytes>>,
    last: &[u8],
) -> Checked<Vec<Vec<u8>>> {
    let find = |_: &[Received]| {
        let bodies = taken.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut messages = Vec::new();
        for body in bodies {
            match FanoutBatch::from_bytes(&body) {
                Ok(batch) => {
                    let batch = batch.messages().iter();
                    messages.extend(batch.map(|fanned_out| fanned_out.message.as_bytes().to_vec()));
                }
                Err(error) => return Some(failed("one or more FanoutMessage", error.to_string())),
            }
        }
        messages.iter().any(|message| message == last).then_some(Ok(messages))
    };
    // A hub that was refused for a while may wait for a while.
    let patience = ctx.deadline().max(PATIENCE);
    peer.wait_for(patience, "the last commit", (Endpoint::Notify, room), find)
        .await?
}

const PATIENCE: Duration = Duration::from_secs(60);
