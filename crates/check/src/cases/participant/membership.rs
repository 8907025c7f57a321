//! Cases 43, 64 to 70 and 79 as seen from the participant's side: how it is invited, joins, knocks and leaves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nabe_event::{EventKind, RawEvent, event_id_of};
use nabe_signing::json::{Json, Object};
use nabe_signing::object;
use nabe_types::KeyId;

use crate::author;
use crate::case::{Checked, failed};
use crate::context::{Ctx, list, member, text};
use crate::hosted::membership;
use crate::hub_room::RULES;
use crate::participant_room::ParticipantRoom;
use crate::peer::{Answer, Endpoint, Gate, UNSTABLE};
use crate::subject::{encode, unique};

/// The invites and knocks the client API lists for the room's local user.
async fn pending(room: &ParticipantRoom<'_>, kind: &str) -> Checked<Option<Object>> {
    let rooms = room.ctx.api(&room.local, "GET", "/rooms", None).await?;
    Ok(list(&rooms, kind)
        .into_iter()
        .find(|entry| text(entry, "room_id") == room.id))
}

/// 43
pub(crate) async fn bad_create(ctx: &Ctx) -> Checked {
    let elsewhere = format!("!{}:elsewhere.example", unique());
    for (what, id, state_key, version, auth) in [
        ("a state key", None, "x", "I.1", false),
        ("another version", None, "", "I.2", false),
        ("a room of another domain", Some(elsewhere), "", "I.1", false),
        ("auth events", None, "", "I.1", true),
    ] {
        let mut room = ParticipantRoom::bare(ctx);
        if let Some(id) = id {
            room.id = id;
        }
        let creator = room.creator.clone();
        let content = object! { "room_version" => version };
        let create = room.event(&creator, "m.room.create", Some(state_key), content);
        let some = nabe_types::EventId::from_hash([7; 32]);
        let auth = if auth { vec![some] } else { Vec::new() };
        room.with_room(|hosted| hosted.append(author::seal_pdu(create, &auth, &[], room.hub.signer())));
        room.own(
            "m.room.member",
            Some(creator.as_str()),
            object! { "membership" => "join" },
        );
        room.own("m.room.join_rules", Some(""), object! { "join_rule" => "public" });
        let reply = room.try_join().await?;
        ctx.check(
            &format!("a create event with {what}: not joined"),
            reply.status >= 400,
            || reply.brief(),
        )?;
        let shown = ctx.subject().api(&room.local, "GET", &room.path(""), None).await?;
        let is_absent = text(&shown.object(), "membership") != "join";
        ctx.check("the room is not listed as joined", is_absent, || {
            shown.object().to_string()
        })?;
    }
    Ok(())
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

/// A membership LPDU that the subject signed, with nothing taken over from the template.
async fn is_own_lpdu(ctx: &Ctx, lpdu: &Object, kind: &str) -> Checked {
    let keys = ctx.keys_with(&[]).await?;
    let verified = RawEvent::from_json(lpdu.clone(), RULES).and_then(|raw| match raw.kind() {
        EventKind::Lpdu => raw.verify_lpdu(&keys),
        EventKind::Pdu => Err(nabe_event::Dropped::WrongForm),
    });
    let is_it = membership(lpdu) == Some(kind) && text(lpdu, "sender") == text(lpdu, "state_key");
    let got = || format!("{:?}: {lpdu}", verified.as_ref().err());
    ctx.check(
        &format!("a signed LPDU with membership {kind}"),
        is_it && verified.is_ok(),
        got,
    )
}

/// 69
pub(crate) async fn joins(ctx: &Ctx) -> Checked {
    let room = ParticipantRoom::create(ctx, "public");
    room.hub.on(Endpoint::MakeJoin, |request| {
        let user = request
            .uri
            .split('?')
            .next()
            .unwrap_or_default()
            .rsplit('/')
            .next()
            .unwrap_or_default();
        let user = percent_encoding::percent_decode_str(user)
            .decode_utf8_lossy()
            .into_owned();
        let template = object! {
            "type" => "m.room.member", "sender" => user.as_str(), "state_key" => user.as_str(),
            "content" => object! { "membership" => "join", "org.example.planted" => true },
            "origin_server_ts" => 1, "org.example.planted" => true,
            "auth_events" => Json::Array(Vec::new()), "prev_events" => Json::Array(Vec::new()),
        };
        Answer::Json(200, template.into())
    });
    let gate = Gate::closed();
    let held = gate.clone();
    room.hub
        .on(Endpoint::SendJoin, move |_| Answer::UsualAfter(held.clone()));
    let (subject, local, path) = (ctx.subject().clone(), room.local.clone(), room.path("/join"));
    let via = object! { "via" => vec![Json::from(room.hub.name())] };
    let joining = tokio::spawn(async move { subject.api(&local, "POST", &path, Some(&via)).await });
    let request = room
        .hub
        .received(ctx.deadline(), "send_join", |inbox| {
            inbox
                .iter()
                .find(|request| request.endpoint == Endpoint::SendJoin)
                .cloned()
        })
        .await;
    let request = match request {
        Ok(request) => request,
        Err(stop) => {
            gate.open();
            return Err(stop);
        }
    };
    let early: Vec<Object> = (0..3)
        .map(|n| room.own("m.room.message", None, object! { "n" => n }))
        .collect();
    let mut delivered = Ok(Object::new());
    for event in &early {
        delivered = room.deliver(event).await;
    }
    gate.open();
    delivered?;
    match joining.await {
        Ok(reply) => ctx.answers("joining while events arrive", &reply?, 200, "")?,
        Err(error) => return failed("an answer to the join", error.to_string()),
    }
    for event in &early {
        room.shown(event_id_of(event).as_str()).await?;
    }
    ctx.observe("events that came before the answer are shown");
    let lpdu = request
        .json
        .as_ref()
        .and_then(Json::as_object)
        .cloned()
        .unwrap_or_default();
    is_own_lpdu(ctx, &lpdu, "join").await?;
    let is_clean = !lpdu.contains_key("org.example.planted")
        && !member(&lpdu, "content").contains_key("org.example.planted")
        && lpdu.get("origin_server_ts").and_then(Json::as_i64) != Some(1);
    ctx.check("nothing else of the template is signed", is_clean, || lpdu.to_string())?;
    room.fence().await
}

/// The draft's paths for tests, as a caller.
pub(crate) async fn unstable_paths(ctx: &Ctx) -> Checked {
    let room = ParticipantRoom::create(ctx, "public");
    for endpoint in [Endpoint::SendJoin, Endpoint::Send] {
        room.hub.on(endpoint, |request| {
            if request.uri.contains(UNSTABLE) {
                Answer::Usual
            } else {
                Answer::Json(
                    404,
                    object! { "errcode" => "M_UNRECOGNIZED", "error" => "not here" }.into(),
                )
            }
        });
    }
    room.bring_in().await?;
    ctx.observe("joined through a hub without the stable paths");
    super::format::sent_by_local(&room, object! { "body" => "hello" }).await?;
    let head = room.with_room(|hosted| hosted.log().last().cloned());
    let id = head.map(|listed| listed.id.as_str().to_owned()).unwrap_or_default();
    room.shown(&id).await?;
    ctx.observe("and a message came back");
    Ok(())
}

/// 70
pub(crate) async fn knocks(ctx: &Ctx) -> Checked {
    let room = ParticipantRoom::create(ctx, "knock");
    let body = object! { "via" => vec![Json::from(room.hub.name())], "reason" => "let me in" };
    let knocked = async || {
        ctx.api(&room.local, "POST", &room.path("/knock"), Some(&body)).await?;
        ctx.eventually("the knock is listed", || pending(&room, "knocks")).await
    };
    knocked().await?;
    let request = room
        .hub
        .received(ctx.deadline(), "send_knock", |inbox| {
            inbox
                .iter()
                .find(|request| request.endpoint == Endpoint::SendKnock)
                .cloned()
        })
        .await?;
    let lpdu = request
        .json
        .as_ref()
        .and_then(Json::as_object)
        .cloned()
        .unwrap_or_default();
    is_own_lpdu(ctx, &lpdu, "knock").await?;
    ctx.api(&room.local, "POST", &room.path("/leave"), Some(&Object::new()))
        .await?;
    room.hub
        .received(ctx.deadline(), "send_leave", |inbox| {
            inbox
                .iter()
                .any(|request| request.endpoint == Endpoint::SendLeave)
                .then_some(())
        })
        .await?;
    let listed = pending(&room, "knocks").await?;
    ctx.check("a knock that was taken back is not listed", listed.is_none(), || {
        format!("{listed:?}")
    })?;
    knocked().await?;
    let reply = room.invite(&room.invite_event(), "I.1").await?;
    ctx.answers("the invite that grants it", &reply, 200, "")?;
    room.with_room(|hosted| hosted.append(member(&reply.object(), "pdu")));
    room.bring_in().await?;
    ctx.observe("knocked, invited, joined");
    Ok(())
}

/// 79
pub(crate) async fn kicked(ctx: &Ctx) -> Checked {
    let room = ParticipantRoom::joined(ctx).await?;
    let local = room.local.clone();
    let kick = room.own(
        "m.room.member",
        Some(local.as_str()),
        object! { "membership" => "leave" },
    );
    room.deliver(&kick).await?;
    ctx.eventually("the client API shows that the user is out", || async {
        let reply = ctx.subject().api(&local, "GET", &room.path(""), None).await?;
        let is_out = reply.status != 200 || text(&reply.object(), "membership") != "join";
        Ok(is_out.then_some(()))
    })
    .await?;
    ctx.observe("the kick is shown");
    let later = room.post("not for the kicked").await?;
    room.not_shown("an event after the kick", &later).await
}

/// A hub that answers a join with something else.
pub(crate) async fn lying_welcome(ctx: &Ctx) -> Checked {
    for (what, key) in [("another join", "event"), ("no state", "state")] {
        let room = ParticipantRoom::create(ctx, "public");
        let other = room.own("m.room.message", None, object! { "body" => "x" });
        let lied = Arc::new(AtomicBool::new(false));
        let (flag, hub, id) = (Arc::clone(&lied), room.hub.clone(), room.id.clone());
        room.hub.on(Endpoint::SendJoin, move |request| {
            let lpdu = request
                .json
                .as_ref()
                .and_then(Json::as_object)
                .cloned()
                .unwrap_or_default();
            let pdu = hub.with_room(&id, |hosted| hosted.completed(lpdu));
            let mut answer = object! {
                "state" => Json::Array(Vec::new()), "auth_chain" => Json::Array(Vec::new()), "event" => pdu,
            };
            if key == "event" {
                answer.insert("event", other.clone());
            }
            flag.store(true, Ordering::Relaxed);
            Answer::Json(200, answer.into())
        });
        let reply = room.try_join().await?;
        let was_asked = lied.load(Ordering::Relaxed);
        ctx.check(&format!("{what}: not joined"), reply.status >= 400 && was_asked, || {
            reply.brief()
        })?;
        let shown = ctx.subject().api(&room.local, "GET", &room.path(""), None).await?;
        let is_absent = text(&shown.object(), "membership") != "join";
        ctx.check("the room is not listed as joined", is_absent, || {
            shown.object().to_string()
        })?;
    }
    Ok(())
}

/// A hub that does not answer.
pub(crate) async fn silent_hub(ctx: &Ctx) -> Checked {
    let room = ParticipantRoom::create(ctx, "public");
    let gate = Gate::closed();
    let held = gate.clone();
    room.hub
        .on(Endpoint::MakeJoin, move |_| Answer::UsualAfter(held.clone()));
    let reply = room.try_join().await;
    gate.open();
    let reply = reply?;
    ctx.check("an error in time", reply.status >= 400, || reply.brief())?;
    let whoami = ctx.subject().api(&room.local, "GET", "/whoami", None).await?;
    ctx.answers("the subject goes on", &whoami, 200, "")?;
    let path = format!("/rooms/{}", encode(&room.id));
    let shown = ctx.subject().api(&room.local, "GET", &path, None).await?;
    let is_absent = text(&shown.object(), "membership") != "join";
    ctx.check("the room is not listed as joined", is_absent, || {
        shown.object().to_string()
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
