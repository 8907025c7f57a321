//! Cases 64 to 66 as seen from the participant's side: being invited, inviting, and rejecting an invite.

use nabe_event::{RawEvent, event_id_of};
use nabe_signing::json::{Json, Object};
use nabe_signing::object;
use nabe_types::KeyId;

use super::membership::is_own_lpdu;
use crate::author;
use crate::case::{Case, Checked, Peers, Suite};
use crate::context::{Ctx, list, member, text};
use crate::hosted::membership;
use crate::hub_room::RULES;
use crate::participant_room::ParticipantRoom;
use crate::peer::{Answer, Endpoint};
use crate::subject::unique;

pub(crate) const CASES: &[Case] = &[
    Case {
        id: "lm-64p",
        title: "being invited",
        suite: Suite::Participant,
        requirements: &["LM-invite-target", "LM-invite-target-signs", "LM-invite-response"],
        sent: "E10 with an event of two signatures",
        expected: "the same event with a third; the invite is listed and can be accepted",
        peers: Peers::Any(2),
        run: run!(invited),
    },
    Case {
        id: "lm-64q",
        title: "inviting",
        suite: Suite::Participant,
        requirements: &[
            "LM-invites-endpoint-when-outside",
            "LM-invites-send-when-inside",
            "LM-invite-complete",
            "LM-membership-direct",
        ],
        sent: "invites by a user of the subject, for a server outside and one inside",
        expected: "E10 with an LPDU at the hub; a plain LPDU",
        peers: Peers::Any(2),
        run: run!(invites),
    },
    Case {
        id: "lm-65p",
        title: "invites that are none",
        suite: Suite::Participant,
        requirements: &[
            "LM-invite-incompatible",
            "LM-invite-type",
            "LM-invite-membership",
            "LM-versions-transport-decoupled",
        ],
        sent: "an unknown version, another type, another membership, a foreign user, no signature",
        expected: "400; 4xx; nothing listed",
        peers: Peers::Any(2),
        run: run!(unfit_invites),
    },
    Case {
        id: "lm-66p",
        title: "rejecting an invite",
        suite: Suite::Participant,
        requirements: &["LM-leave-direct", "LM-make-leave-discard", "LM-send-leave-response"],
        sent: "a leave by an invited user of the subject",
        expected: "E11 and E12 at the hub, with a signed LPDU",
        peers: Peers::Any(1),
        run: run!(rejects_invite),
    },
    Case {
        id: "lm-x31",
        title: "stripped state that lies",
        suite: Suite::Participant,
        requirements: &["LM-stripped-untrusted"],
        sent: "an invite with another version, name and join rule in its stripped state",
        expected: "joined; the state is the room's",
        peers: Peers::Any(1),
        run: run!(lying_stripped_state),
    },
    Case {
        id: "lm-x32",
        title: "leaving a room of an unknown version",
        suite: Suite::Participant,
        requirements: &["LM-make-leave-unknown-version"],
        sent: "E11 with an unknown room_version",
        expected: "no E12",
        peers: Peers::Any(1),
        run: run!(unknown_version_on_leave),
    },
];

/// The invites and knocks the client API lists for the room's local user.
pub(super) async fn pending(room: &ParticipantRoom<'_>, kind: &str) -> Checked<Option<Object>> {
    let rooms = room.ctx.api(&room.local, "GET", "/rooms", None).await?;
    Ok(list(&rooms, kind)
        .into_iter()
        .find(|entry| text(entry, "room_id") == room.id))
}

/// 64, as the invited user's server
pub(crate) async fn invited(ctx: &Ctx) -> Checked {
    let room = ParticipantRoom::create(ctx, "invite");
    let (t, bob) = (ctx.t(), ctx.t().user("bob"));
    let join = object! { "membership" => "join" };
    let invite_bob = object! { "membership" => "invite" };
    room.own("m.room.member", Some(bob.as_str()), invite_bob);
    let lpdu = room.lpdu(t, &bob, "m.room.member", Some(bob.as_str()), join);
    room.with_room(|hosted| hosted.complete_and_append(lpdu));
    let content = object! { "membership" => "invite" };
    let lpdu = room.lpdu(t, &bob, "m.room.member", Some(room.local.as_str()), content);
    let pdu = room.with_room(|hosted| hosted.completed(lpdu));
    let reply = room.invite(&pdu, "I.1").await?;
    ctx.answers("the invite", &reply, 200, "")?;
    let signed = member(&reply.object(), "pdu");
    ctx.check(
        "the returned event has the same ID",
        event_id_of(&signed) == event_id_of(&pdu),
        || signed.to_string(),
    )?;
    let (mut stripped_of_signatures, mut original) = (signed.clone(), pdu.clone());
    stripped_of_signatures.remove("signatures");
    original.remove("signatures");
    ctx.check("nothing else is changed", stripped_of_signatures == original, || {
        signed.to_string()
    })?;
    let by_subject = member(&member(&signed, "signatures"), ctx.subject_name().as_str());
    let keys = ctx.subject_keys().await?.verify_keys;
    let message = nabe_event::hashes::signed_bytes(&signed);
    let is_signed = by_subject.iter().any(|(key, signature)| {
        let key = KeyId::parse(key).ok().and_then(|key| keys.get(&key).copied());
        let signature = signature
            .as_str()
            .and_then(|text| nabe_signing::Signature::from_base64(text).ok());
        key.zip(signature)
            .is_some_and(|(key, signature)| key.verify(&message, &signature).is_ok())
    });
    ctx.check("the subject's signature is added and verifies", is_signed, || {
        signed.to_string()
    })?;
    let listed = ctx
        .eventually("the invite is listed", || pending(&room, "invites"))
        .await?;
    let hub = text(&listed, "hub").to_owned();
    ctx.check(
        "its hub is the server that sent it",
        hub == room.hub.name().as_str(),
        || listed.to_string(),
    )?;
    room.with_room(|hosted| hosted.append(signed));
    room.bring_in().await.map(|_| ())
}

/// 64, as the inviting user's server
pub(crate) async fn invites(ctx: &Ctx) -> Checked {
    let room = ParticipantRoom::joined(ctx).await?;
    let bob = ctx.t().user("bob");
    let body = object! { "user_id" => &bob };
    let reply = ctx
        .subject()
        .api(&room.local, "POST", &room.path("/invite"), Some(&body))
        .await?;
    ctx.check(
        "the client API takes the invite",
        matches!(reply.status, 200 | 202),
        || reply.brief(),
    )?;
    let request = room
        .hub
        .received(ctx.deadline(), "the invite", |inbox| {
            inbox
                .iter()
                .find(|request| request.endpoint == Endpoint::Invite)
                .cloned()
        })
        .await?;
    let event = request
        .member("event")
        .and_then(Json::as_object)
        .cloned()
        .unwrap_or_default();
    let keys = ctx.keys_with(&[]).await?;
    let verified = RawEvent::from_json(event.clone(), RULES).and_then(|raw| raw.verify_lpdu(&keys));
    let is_invite = membership(&event) == Some("invite") && text(&event, "state_key") == bob.as_str();
    ctx.check(
        "the hub gets an LPDU that invites the user",
        is_invite && verified.is_ok(),
        || event.to_string(),
    )?;
    let version = request.member("room_version").and_then(Json::as_str);
    ctx.check("the room version is named", version == Some("I.1"), || {
        format!("{version:?}")
    })?;
    let asked = ctx
        .t()
        .inbox()
        .iter()
        .any(|request| request.endpoint == Endpoint::Invite);
    ctx.check("the invited user's server is left to the hub", !asked, || {
        "it got an invite".to_owned()
    })?;
    let anna = room.hub.user("anna");
    let body = object! { "user_id" => &anna };
    let before = room
        .hub
        .inbox()
        .iter()
        .filter(|request| request.endpoint == Endpoint::Invite)
        .count();
    let reply = ctx
        .subject()
        .api(&room.local, "POST", &room.path("/invite"), Some(&body))
        .await?;
    ctx.check(
        "the client API takes another",
        matches!(reply.status, 200 | 202),
        || reply.brief(),
    )?;
    let in_transaction = room
        .hub
        .received(ctx.deadline(), "an invite in a transaction", |inbox| {
            let sent = inbox.iter().filter(|request| request.endpoint == Endpoint::Send);
            sent.filter_map(|request| request.member("pdus")?.as_array())
                .flatten()
                .filter_map(Json::as_object)
                .find(|event| text(event, "state_key") == anna.as_str())
                .cloned()
        })
        .await;
    let after = room
        .hub
        .inbox()
        .iter()
        .filter(|request| request.endpoint == Endpoint::Invite)
        .count();
    let is_plain = in_transaction.is_ok() && after == before;
    ctx.check(
        "a user whose server is inside is invited by a plain event",
        is_plain,
        || format!("{in_transaction:?}"),
    )
}

/// 65
pub(crate) async fn unfit_invites(ctx: &Ctx) -> Checked {
    let room = ParticipantRoom::create(ctx, "invite");
    let invite = room.invite_event();
    let reply = room.invite(&invite, "org.example.unknown").await?;
    ctx.answers("an unknown version", &reply, 400, "M_INCOMPATIBLE_ROOM_VERSION")?;
    let message = room.event(&room.creator, "m.room.message", None, object! { "body" => "x" });
    let join = object! { "membership" => "join" };
    let join = room.event(&room.creator, "m.room.member", Some(room.local.as_str()), join);
    for (what, event) in [("another type", message), ("another membership", join)] {
        let pdu = room.with_room(|hosted| {
            let (auth, prev) = (hosted.auth_events(&event), hosted.head());
            author::seal_pdu(event, &auth, &prev, room.hub.signer())
        });
        ctx.answers(what, &room.invite(&pdu, "I.1").await?, 400, "M_BAD_JSON")?;
    }
    let content = object! { "membership" => "invite" };
    let stranger = format!("@someone:{}", ctx.t().name());
    let foreign = room.event(&room.creator, "m.room.member", Some(&stranger), content);
    let foreign = room.with_room(|hosted| {
        let (auth, prev) = (hosted.auth_events(&foreign), hosted.head());
        author::seal_pdu(foreign, &auth, &prev, room.hub.signer())
    });
    let reply = room.invite(&foreign, "I.1").await?;
    let is_refused = (400..500).contains(&reply.status);
    ctx.check("a user of another server is refused", is_refused, || reply.brief())?;
    let mut unsigned = room.invite_event();
    unsigned.insert("signatures", Object::new());
    let reply = room.invite(&unsigned, "I.1").await?;
    ctx.check(
        "an invite that nobody signed is refused",
        (400..500).contains(&reply.status),
        || reply.brief(),
    )?;
    let listed = pending(&room, "invites").await?;
    ctx.check("no invite is listed", listed.is_none(), || format!("{listed:?}"))
}

/// 66
pub(crate) async fn rejects_invite(ctx: &Ctx) -> Checked {
    let room = ParticipantRoom::create(ctx, "invite");
    let reply = room.invite(&room.invite_event(), "I.1").await?;
    ctx.answers("the invite", &reply, 200, "")?;
    room.with_room(|hosted| hosted.append(member(&reply.object(), "pdu")));
    ctx.eventually("the invite is listed", || pending(&room, "invites"))
        .await?;
    ctx.api(&room.local, "POST", &room.path("/leave"), Some(&Object::new()))
        .await?;
    let left = room
        .hub
        .received(ctx.deadline(), "send_leave", |inbox| {
            inbox
                .iter()
                .find(|request| request.endpoint == Endpoint::SendLeave)
                .cloned()
        })
        .await?;
    let lpdu = left
        .json
        .as_ref()
        .and_then(Json::as_object)
        .cloned()
        .unwrap_or_default();
    is_own_lpdu(ctx, &lpdu, "leave").await?;
    let listed = pending(&room, "invites").await?;
    ctx.check("the invite is no longer listed", listed.is_none(), || {
        format!("{listed:?}")
    })
}

/// Stripped state that lies.
pub(crate) async fn lying_stripped_state(ctx: &Ctx) -> Checked {
    let room = ParticipantRoom::create(ctx, "invite");
    room.own("m.room.name", Some(""), object! { "name" => "The room" });
    let strip = |event_type: &str, content: Object| {
        object! {
            "type" => event_type, "state_key" => "", "sender" => &room.creator, "content" => content,
        }
    };
    let lies = vec![
        Json::from(strip("m.room.create", object! { "room_version" => "org.example.lie" })),
        strip("m.room.name", object! { "name" => "Another room" }).into(),
        strip("m.room.join_rules", object! { "join_rule" => "public" }).into(),
        Json::Null,
        object! { "type" => "m.room.topic" }.into(),
    ];
    let body = object! { "event" => room.invite_event(), "invite_room_state" => lies, "room_version" => "I.1" };
    let uri = format!("/_matrix/federation/v3/invite/{}", unique());
    let reply = room.hub.call("POST", &uri, Some(&body)).await?;
    ctx.answers("an invite with stripped state that lies", &reply, 200, "")?;
    room.with_room(|hosted| hosted.append(member(&reply.object(), "pdu")));
    room.bring_in().await?;
    let state = ctx.api(&room.local, "GET", &room.path("/state"), None).await?;
    for (event_type, key, value) in [
        ("m.room.name", "name", "The room"),
        ("m.room.join_rules", "join_rule", "invite"),
        ("m.room.create", "room_version", "I.1"),
    ] {
        let events = list(&state, "state");
        let found = events.iter().find(|event| text(event, "type") == event_type);
        let content = found.map(|event| member(event, "content")).unwrap_or_default();
        let is_true = text(&content, key) == value;
        ctx.check(&format!("after the join {event_type} is the room's"), is_true, || {
            content.to_string()
        })?;
    }
    Ok(())
}

/// A hub that names another version when the user wants to go.
pub(crate) async fn unknown_version_on_leave(ctx: &Ctx) -> Checked {
    let room = ParticipantRoom::create(ctx, "invite");
    let reply = room.invite(&room.invite_event(), "I.1").await?;
    ctx.answers("the invite", &reply, 200, "")?;
    room.with_room(|hosted| hosted.append(member(&reply.object(), "pdu")));
    let (user, id) = (room.local.clone(), room.id.clone());
    room.hub.on(Endpoint::MakeLeave, move |_| {
        let template = object! {
            "type" => "m.room.member", "room_id" => id.as_str(), "sender" => &user, "state_key" => &user,
            "content" => object! { "membership" => "leave" },
        };
        let answer = object! { "event" => template, "room_version" => "org.example.unknown" };
        Answer::Json(200, answer.into())
    });
    let path = room.path("/leave");
    let reply = ctx
        .subject()
        .api(&room.local, "POST", &path, Some(&Object::new()))
        .await?;
    ctx.observe(format!("the client API answers {}", reply.brief()));
    let asked = |endpoint| room.hub.inbox().iter().any(|request| request.endpoint == endpoint);
    ctx.check("the hub was asked", asked(Endpoint::MakeLeave), || {
        "no make_leave".to_owned()
    })?;
    let went_on = asked(Endpoint::SendLeave);
    ctx.check("and nothing was signed", !went_on, || "send_leave arrived".to_owned())
}
