//! Cases 49 to 54: leaving, what is proposed, and how handshakes look (MIMI #bob-leaves-the-room, MLSX #proposal-description, MIMI #room-state).

use nabe_mls::testing::mimi::{Change, change_participants, metadata, set_component};
use nabe_wire::directory::Endpoint;
use nabe_wire::label::{SignatureScheme, verify_with_label};
use nabe_wire::mls::{
    ComponentId, ContentType, ExternalSender, FramedContentBody, MlsMessage, MlsMessageBody, PrivateMessage, Proposal,
    Sender,
};
use nabe_wire::notify::FanoutParts;
use nabe_wire::submit_message::SubmitVerdict;
use nabe_wire::update::UpdateRoomResponse;
use nabe_wire::{Encode as _, Kept};
use openmls_rust_crypto::OpenMlsRustCrypto;
use openmls_traits::OpenMlsProvider as _;

use crate::case::{Case, Checked, Peers, Suite, failed};
use crate::context::Ctx;
use crate::mimi::peer::read;
use crate::mimi::room::{At, INVALID, MimiRoom, NOT_ALLOWED, SUCCESS, device_of, private, proposals_request};

pub(crate) const CASES: &[Case] = &[
    Case {
        id: "mimi-49",
        title: "a user leaves",
        suite: Suite::MimiHub,
        requirements: &[
            "MIMI-leave-three-steps",
            "MIMI-fanout-more-proposals-same",
            "MIMI-update-more-proposals-form",
            "MRP-remove-self",
        ],
        sent: "a SelfRemove of one of Bob's two clients; that of the other and the removal of his entry in one bundle; commits without them and without one of them; a commit \
               with them",
        expected: "success, and the others have the same bundle; notAllowed both; success, and neither client is left",
        peers: Peers::Mimi(2),
        run: run!(leaving),
    },
    Case {
        id: "mimi-50",
        title: "who has left says and hears nothing more",
        suite: Suite::MimiHub,
        requirements: &["MIMI-state-applies-on-acceptance", "MIMI-update-removed-cannot-talk"],
        sent: "a message of the leaver, and one of another, after the proposals were accepted, before any commit",
        expected: "notAllowed; accepted, and the leaver's provider does not get it",
        peers: Peers::Mimi(2),
        run: run!(leaver_speaks),
    },
    Case {
        id: "mimi-51",
        title: "an external commit and a pending SelfRemove",
        suite: Suite::MimiHub,
        requirements: &["MLSX-self-remove-external-commit"],
        sent: "external commits without and with the pending SelfRemove",
        expected: "notAllowed; success",
        peers: Peers::Mimi(2),
        run: run!(external_commit),
    },
    Case {
        id: "mimi-52",
        title: "what an external commit made void",
        suite: Suite::MimiHub,
        requirements: &["MIMI-fanout-stapled-proposals", "MIMI-state-senders-hub"],
        sent: "an external commit while the removal of a list entry is pending",
        expected: "with the commit comes the removal again, for the new epoch, signed by external sender 0",
        peers: Peers::Mimi(2),
        run: run!(stapled),
    },
    Case {
        id: "mimi-53",
        title: "a handshake that the hub cannot read",
        suite: Suite::MimiHub,
        requirements: &["MIMI-mls-state-public", "MIMI-update-bundle-form"],
        sent: "a private message by update, of commit and of application content",
        expected: "notAllowed or 400",
        peers: Peers::Mimi(2),
        run: run!(private_handshake),
    },
    Case {
        id: "mimi-54",
        title: "authenticated data that is no SafeAAD",
        suite: Suite::MimiHub,
        requirements: &["MLSX-aad-whole"],
        sent: "in a group with safe_aad, proposals with empty authenticated data and with an empty SafeAAD",
        expected: "invalidProposal, notAllowed or 400; success",
        peers: Peers::Mimi(2),
        run: run!(empty_aad),
    },
];

/// Bob's proposals to go.
async fn bob_leaves(room: &mut MimiRoom<'_>) -> Checked<[Kept<MlsMessage>; 2]> {
    let bob = room.member("bob");
    let leave = bob.leave();
    let list = bob.propose_component(&change_participants(&[], &[1], &[]));
    let proposals = [leave, list];
    let answer = room.propose("bob", &proposals).await?;
    room.code("leaving", &answer, &[SUCCESS])?;
    Ok(proposals)
}

async fn leaving(ctx: &Ctx) -> Checked {
    let mut room = MimiRoom::of_three(ctx).await?;
    second_client_of_bob(&mut room).await?;
    // Each client proposes for itself; a bundle is of one of them.
    let of_laptop = room.member("laptop").leave();
    let answer = room
        .update("laptop", proposals_request(std::slice::from_ref(&of_laptop)))
        .await?;
    room.code("leaving with the first client", &answer, &[SUCCESS])?;
    let of_phone = room.member("bob").leave();
    let list = room
        .member("bob")
        .propose_component(&change_participants(&[], &[1], &[]));
    let bundle = [of_phone.clone(), list.clone()];
    let answer = room.update("bob", proposals_request(&bundle)).await?;
    room.code("leaving with the second, and the list", &answer, &[SUCCESS])?;
    let heard = room.heard(At::Peer(1), "the proposal to leave", &of_phone).await?;
    let is_same = matches!(&heard.with, FanoutParts::Proposal { more_proposals } if more_proposals[..] == bundle[1..]);
    ctx.check("with the same further proposals", is_same, || {
        format!("{:?}", heard.with)
    })?;
    for proposal in [&of_phone, &list] {
        room.take_in("bob", proposal);
    }
    room.refused(
        "cathy",
        "a commit without what one of the clients proposed",
        Change::default(),
        &[NOT_ALLOWED],
    )
    .await?;
    room.take_in("laptop", &of_laptop);
    let ignoring = Change {
        leave_out_pending: true,
        ..Change::default()
    };
    room.refused("cathy", "a commit without what is pending", ignoring, &[NOT_ALLOWED])
        .await?;
    let bundle = room
        .accepted("cathy", "a commit with what is pending", Change::default())
        .await?;
    room.heard(At::Peer(0), "the commit that takes its user out", &bundle.commit)
        .await?;
    let members = room.client("alice").member.group().members().count();
    ctx.check("two clients are left", members == 2, || members.to_string())
}

/// Bob's laptop joins by itself.
async fn second_client_of_bob(room: &mut MimiRoom<'_>) -> Checked {
    let bob = room.client("bob").user.clone();
    let laptop = device_of(&bob, "laptop");
    let opened = room.group_info(At::Peer(0), &laptop, None).await?;
    let (info, tree) = (opened.group_info.as_bytes(), &opened.ratchet_tree_option);
    let (member, bundle) = laptop.join_externally_with(info, tree, &[], &[]);
    let reply = room.update_reply(At::Peer(0), &bob, bundle.to_request()).await?;
    room.code("a second client", &read("update", &reply)?, &[SUCCESS])?;
    room.joined("laptop", At::Peer(0), member);
    room.follow("laptop", &bundle.commit);
    Ok(())
}

async fn leaver_speaks(ctx: &Ctx) -> Checked {
    let mut room = MimiRoom::of_three(ctx).await?;
    let message = room.encrypt("bob", "one more thing");
    let without_him = room.encrypt("cathy", "at last");
    bob_leaves(&mut room).await?;
    match room.submit("bob", &message).await? {
        SubmitVerdict::NotAllowed => ctx.observe("a message of the leaver: notAllowed"),
        other => return failed("a message of the leaver: notAllowed", format!("{other:?}")),
    }
    match room.submit("cathy", &without_him).await? {
        SubmitVerdict::Accepted(_) => {}
        other => return failed("a message of another: accepted", format!("{other:?}")),
    }
    // His provider gets the commit that takes him out, and by then would have got what came before.
    let bundle = room
        .accepted("cathy", "the commit that takes him out", Change::default())
        .await?;
    room.heard(At::Peer(0), "the commit that takes him out", &bundle.commit)
        .await?;
    let heard = room.peer(At::Peer(0)).fanned_out(&room.uri)?;
    let is_heard = heard
        .iter()
        .any(|heard| matches!(heard.with, FanoutParts::Application { .. }));
    ctx.check("his provider gets no message any more", !is_heard, || {
        format!("{} messages", heard.len())
    })
}

async fn external_commit(ctx: &Ctx) -> Checked {
    let mut room = MimiRoom::of_three(ctx).await?;
    let [leave, _] = bob_leaves(&mut room).await?;
    let laptop = device_of(&room.client("cathy").user, "laptop");
    let opened = room.group_info(At::Peer(1), &laptop, None).await?;
    let is_pending = opened.pending_proposals.iter().any(|pending| pending.proposal == leave);
    ctx.check("the SelfRemove is among what is pending", is_pending, || {
        "it is not".to_owned()
    })?;
    let cathy = room.client("cathy").user.clone();
    for (what, pending, code) in [
        ("without the SelfRemove", &[][..], NOT_ALLOWED),
        ("with the SelfRemove", std::slice::from_ref(&leave), SUCCESS),
    ] {
        let (info, tree) = (opened.group_info.as_bytes(), &opened.ratchet_tree_option);
        let (_, bundle) = laptop.join_externally_with(info, tree, pending, &[]);
        let reply = room.update_reply(At::Peer(1), &cathy, bundle.to_request()).await?;
        let answer: UpdateRoomResponse = read("update", &reply)?;
        room.code(what, &answer, &[code])?;
    }
    Ok(())
}

async fn stapled(ctx: &Ctx) -> Checked {
    let mut room = MimiRoom::of_three(ctx).await?;
    let [leave, list] = bob_leaves(&mut room).await?;
    let laptop = device_of(&room.client("cathy").user, "laptop");
    let opened = room.group_info(At::Peer(1), &laptop, None).await?;
    let (info, tree) = (opened.group_info.as_bytes(), &opened.ratchet_tree_option);
    let (member, bundle) = laptop.join_externally_with(info, tree, &[leave], &[]);
    let cathy = room.client("cathy").user.clone();
    let reply = room.update_reply(At::Peer(1), &cathy, bundle.to_request()).await?;
    let answer: UpdateRoomResponse = read("update", &reply)?;
    room.code("the external commit", &answer, &[SUCCESS])?;
    let alice = room.client("alice").user.clone();
    let is_it = |heard: &nabe_wire::notify::FanoutMessage| heard.message.as_bytes() == bundle.commit.as_bytes();
    let heard = room.readable(&alice, "the external commit", is_it).await?;
    let FanoutParts::Commit { external_proposals } = heard.with else {
        return failed("a commit", format!("{:?}", heard.with));
    };
    let [again] = &external_proposals[..] else {
        return failed("one external proposal", format!("{}", external_proposals.len()));
    };
    let hub = room.hub().clone();
    let proposed = by_external_sender(again, &hub)?;
    let is_removal = *proposed.1 == proposal_in(&list)?;
    ctx.check("the removal of the entry again", is_removal, || {
        format!("{:?}", proposed.1)
    })?;
    let is_new = proposed.0 == member.epoch();
    ctx.check("for the new epoch", is_new, || proposed.0.to_string())?;
    // Whoever joined takes it along.
    room.joined("laptop", At::Peer(1), member);
    room.follow("laptop", &bundle.commit);
    for name in ["alice", "cathy", "laptop"] {
        room.member(name).process(again);
    }
    room.accepted("laptop", "a commit with it", Change::default())
        .await
        .map(drop)
}

/// Epoch and content of a proposal by the first external sender, which must be signed with its key.
fn by_external_sender(message: &Kept<MlsMessage>, hub: &ExternalSender) -> Checked<(u64, Kept<Proposal>)> {
    let MlsMessageBody::Public(public) = &message.body else {
        return failed("a public message", format!("{:?}", message.wire_format()));
    };
    let Sender::External { sender_index: 0 } = public.content.sender else {
        return failed("external sender 0", format!("{:?}", public.content.sender));
    };
    let FramedContentBody::Proposal(proposal) = &public.content.body else {
        return failed("a proposal", "something else");
    };
    // Version and wire format stand before what is signed.
    let signed = [&[0, 1, 0, 1], &public.content.to_bytes()[..]].concat();
    let (provider, key) = (OpenMlsRustCrypto::default(), &hub.signature_key);
    let scheme = SignatureScheme::ED25519;
    match verify_with_label(
        provider.crypto(),
        scheme,
        key,
        "FramedContentTBS",
        &signed,
        &public.signature,
    ) {
        Ok(()) => Ok((public.content.epoch, (**proposal).clone())),
        Err(_) => failed("the hub's signature over its proposal", "it does not verify"),
    }
}

fn proposal_in(message: &Kept<MlsMessage>) -> Checked<Proposal> {
    match &message.body {
        MlsMessageBody::Public(public) => match &public.content.body {
            FramedContentBody::Proposal(proposal) => Ok((***proposal).clone()),
            _ => failed("a proposal", "something else"),
        },
        _ => failed("a public message", "another one"),
    }
}

async fn private_handshake(ctx: &Ctx) -> Checked {
    let mut room = MimiRoom::of_three(ctx).await?;
    let message = room.encrypt("cathy", "no handshake");
    let bundle = room.member("cathy").update();
    room.member("cathy").clear();
    let commit = PrivateMessage {
        content_type: ContentType::COMMIT,
        ..message.clone()
    };
    // What goes with a commit follows the first message.
    let rest = bundle.to_request().split_off(bundle.commit.as_bytes().len());
    for (what, message) in [("a private commit", commit), ("an application message", message)] {
        let body = [private(&message).as_bytes(), &rest].concat();
        let reply = ctx.mimi(1).call(Endpoint::Update, &room.uri, body).await?;
        if reply.status != 400 {
            room.code(what, &read("update", &reply)?, &[NOT_ALLOWED])?;
        }
        room.is_unchanged(what).await?;
    }
    Ok(())
}

async fn empty_aad(ctx: &Ctx) -> Checked {
    let room = MimiRoom::of_three(ctx).await?;
    let rename = Proposal::AppDataUpdate(set_component(ComponentId::ROOM_METADATA, metadata(&room.uri, "Cellar")));
    let proposal = |aad: &[u8]| {
        let body = FramedContentBody::Proposal(Box::new(Kept::new(rename.clone())));
        proposals_request(&[room.client("cathy").member.forge(aad, body)])
    };
    room.refuses(
        "cathy",
        "no authenticated data",
        proposal(&[]),
        &[INVALID, NOT_ALLOWED],
        true,
    )
    .await?;
    let answer = room.update("cathy", proposal(&[0])).await?;
    room.code("an empty SafeAAD", &answer, &[SUCCESS])
}
