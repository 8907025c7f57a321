//! Cases 64 to 70 and 79: invites, joins, leaves and knocks at the hub. LM #int-transport-room-membership.

use nabe_event::event_id_of;
use nabe_signing::json::{Json, Object};
use nabe_signing::object;

use super::history::is_closed;
use crate::author::Stamp;
use crate::case::{Case, Checked, Peers, Suite, failed};
use crate::context::{Ctx, list, member, text};
use crate::hub_room::HubRoom;
use crate::peer::{Answer, Endpoint};
use crate::subject::{encode, unique};

pub(crate) const CASES: &[Case] = &[
    Case {
        id: "lm-64",
        title: "an invite through the hub",
        suite: Suite::Hub,
        requirements: &[
            "LM-rule-5-3-3-invite-level",
            "LM-invites-endpoint-when-outside",
            "LM-invites-invited-is-outside",
            "LM-invite-state-optional",
            "LM-invite-complete",
            "LM-invite-target",
            "LM-invite-target-signs",
            "LM-invite-response",
            "LM-invite-append",
        ],
        sent: "E10 by a participant for a user of a third server",
        expected: "two signatures at the target, three in the answer, one event for all",
        peers: Peers::Any(2),
        run: run!(invite),
    },
    Case {
        id: "lm-65",
        title: "an invite that is refused",
        suite: Suite::Hub,
        requirements: &[
            "LM-versions-transport-decoupled",
            "LM-invite-type",
            "LM-invite-membership",
            "LM-invite-proxy",
            "LM-invite-trim",
            "LM-invite-not-json",
            "LM-invite-incompatible",
            "LM-invite-policy",
        ],
        sent: "targets that refuse, do not know the version, answer with HTML; invites that are none",
        expected: "proxied; 400",
        peers: Peers::Any(2),
        run: run!(refused_invite),
    },
    Case {
        id: "lm-66",
        title: "rejecting an invite",
        suite: Suite::Hub,
        requirements: &[
            "LM-rule-5-4-1-leave-own",
            "LM-handshake-make",
            "LM-make-leave-template",
            "LM-make-leave-unknown-room",
            "LM-make-leave-forbidden",
            "LM-send-leave-response",
            "LM-send-leave-errors",
        ],
        sent: "E11 and E12, by users invited and not, in an unknown room",
        expected: "{} and `leave`; 403; 404",
        peers: Peers::Any(1),
        run: run!(leave),
    },
    Case {
        id: "lm-67",
        title: "asking for a join",
        suite: Suite::Hub,
        requirements: &[
            "LM-handshake-make",
            "LM-make-join-template",
            "LM-make-join-unknown-room",
            "LM-make-join-forbidden",
            "LM-make-join-incompatible",
        ],
        sent: "E13 without a matching version, of banned and foreign users, in an unknown room",
        expected: "400; 403; 404",
        peers: Peers::Any(2),
        run: run!(make_join),
    },
    Case {
        id: "lm-68",
        title: "a ban between make and send",
        suite: Suite::Hub,
        requirements: &["LM-handshake-send", "LM-send-join-errors", "LM-auth-different-states"],
        sent: "E13, a ban, E14",
        expected: "403 M_FORBIDDEN",
        peers: Peers::Any(1),
        run: run!(banned_in_between),
    },
    Case {
        id: "lm-69",
        title: "a join",
        suite: Suite::Hub,
        requirements: &[
            "LM-make-join-template",
            "LM-send-join-state",
            "LM-send-join-event",
            "LM-handshake-send",
        ],
        sent: "E14",
        expected: "the state before it, a closed auth chain, the event that all receive",
        peers: Peers::Any(2),
        run: run!(send_join),
    },
    Case {
        id: "lm-70",
        title: "a knock",
        suite: Suite::Hub,
        requirements: &[
            "LM-stripped-recommended",
            "LM-stripped-four-fields",
            "LM-member-reason",
            "LM-leave-retract-knock",
            "LM-knocks-answered",
            "LM-make-knock-template",
            "LM-make-knock-unknown-room",
            "LM-make-knock-incompatible",
            "LM-send-knock-stripped-state",
            "LM-send-knock-errors",
        ],
        sent: "E15 and E16, then an invite and a join; E11 and E12",
        expected: "stripped state of four fields; invited and joined; taken back",
        peers: Peers::Any(1),
        run: run!(knock),
    },
    Case {
        id: "lm-79",
        title: "a kicked user's server",
        suite: Suite::Hub,
        requirements: &["LM-sending-kicked-server"],
        sent: "a kick, then further events",
        expected: "the kick and nothing after it",
        peers: Peers::Any(2),
        run: run!(kicked),
    },
];

fn signers(pdu: &Object) -> Vec<String> {
    member(pdu, "signatures").keys().map(str::to_owned).collect()
}

/// Exactly the four fields of stripped state.
pub(crate) fn is_stripped(event: &Object) -> bool {
    event.len() == 4
        && ["sender", "type", "state_key", "content"]
            .iter()
            .all(|key| event.contains_key(key))
}

/// 64
pub(crate) async fn invite(ctx: &Ctx) -> Checked {
    let room = HubRoom::create(ctx, object! { "join_rule" => "public", "name" => "Names" }).await?;
    let (p, t, alice, bob) = (ctx.p(), ctx.t(), ctx.p().user("alice"), ctx.t().user("bob"));
    room.join(p, &alice).await?;
    let lpdu = room.membership(p, &alice, &bob, "invite");
    let reply = room.invite(p, &lpdu).await?;
    ctx.answers("the inviter's server", &reply, 200, "")?;
    let returned = member(&reply.object(), "pdu");
    let request = t
        .received(ctx.deadline(), "the invite", |inbox| {
            inbox
                .iter()
                .find(|request| request.endpoint == Endpoint::Invite)
                .cloned()
        })
        .await?;
    let asked = request
        .member("event")
        .and_then(Json::as_object)
        .cloned()
        .unwrap_or_default();
    let (ours, theirs, subject) = (p.name().as_str(), t.name().as_str(), ctx.subject_name().as_str());
    let both =
        |pdu: &Object| member(pdu, "signatures").contains_key(ours) && member(pdu, "signatures").contains_key(subject);
    let is_two = both(&asked) && signers(&asked).len() == 2;
    ctx.check("the invited user's server sees two signatures", is_two, || {
        asked.to_string()
    })?;
    let is_three =
        both(&returned) && signers(&returned).len() == 3 && signers(&returned).iter().any(|name| name == theirs);
    ctx.check("the answer has three", is_three, || returned.to_string())?;
    let version = request.member("room_version").and_then(Json::as_str);
    ctx.check("the room version is named", version == Some("I.1"), || {
        format!("{version:?}")
    })?;
    let stripped = request
        .member("invite_room_state")
        .and_then(Json::as_array)
        .unwrap_or_default();
    let is_proper = stripped.iter().all(|event| event.as_object().is_some_and(is_stripped));
    let has_create = stripped
        .iter()
        .filter_map(Json::as_object)
        .any(|event| text(event, "type") == "m.room.create");
    ctx.check(
        "`invite_room_state` is stripped and has the create event",
        is_proper && has_create,
        || format!("{stripped:?}"),
    )?;
    let stamp = Stamp::of(&lpdu).expect("it is well-formed");
    let fanned_out = p.received_event(ctx.deadline(), &stamp).await?;
    let id = event_id_of(&returned);
    let is_same = event_id_of(&asked) == id && event_id_of(&fanned_out) == id;
    ctx.check("all see the same event", is_same, || fanned_out.to_string())?;
    let timeline = room.timeline(&room.creator).await?;
    let is_shown = timeline.iter().any(|event| text(event, "event_id") == id.as_str());
    ctx.check("the client API has it under that ID", is_shown, || format!("no {id}"))?;
    let later = room.post("not for the invited").await?;
    room.wait_for(p, &later).await?;
    let reached = t.received_pdus().iter().any(|pdu| event_id_of(pdu).as_str() == later);
    ctx.check("a server with only an invited user is outside", !reached, || {
        "it got a message".to_owned()
    })
}

/// 65
pub(crate) async fn refused_invite(ctx: &Ctx) -> Checked {
    let room = HubRoom::public(ctx).await?;
    let (p, t, alice, bob) = (ctx.p(), ctx.t(), ctx.p().user("alice"), ctx.t().user("bob"));
    room.join(p, &alice).await?;
    let ask = async || room.invite(p, &room.membership(p, &alice, &bob, "invite")).await;
    let answer =
        object! { "errcode" => "M_INCOMPATIBLE_ROOM_VERSION", "error" => "unknown here", "room_version" => "I.1" };
    t.on(Endpoint::Invite, move |_| Answer::Json(400, answer.clone().into()));
    ctx.answers(
        "the target does not know the version",
        &ask().await?,
        400,
        "M_INCOMPATIBLE_ROOM_VERSION",
    )?;
    let answer = object! { "errcode" => "M_FORBIDDEN", "error" => "no thanks", "internal" => "secret" };
    t.on(Endpoint::Invite, move |_| Answer::Json(403, answer.clone().into()));
    let reply = ask().await?;
    ctx.answers("the target refuses", &reply, 403, "M_FORBIDDEN")?;
    let object = reply.object();
    ctx.check(
        "its sentence is passed on",
        text(&object, "error") == "no thanks",
        || object.to_string(),
    )?;
    ctx.check("what is excessive is not", !object.contains_key("internal"), || {
        object.to_string()
    })?;
    t.on(Endpoint::Invite, |_| {
        Answer::Text(502, "text/html", "<h1>Bad gateway</h1>".to_owned())
    });
    let reply = ask().await?;
    let is_error = reply.status >= 400 && reply.errcode().is_some();
    ctx.check(
        "an answer that is no JSON becomes an error of the hub's own",
        is_error,
        || reply.brief(),
    )?;
    t.on(Endpoint::Invite, |_| {
        Answer::Json(200, object! { "pdu" => Object::new() }.into())
    });
    let reply = ask().await?;
    ctx.check("an answer without the event is an error", reply.status >= 400, || {
        reply.brief()
    })?;
    let membership = room.membership_of(&bob).await?;
    ctx.check("nobody was invited", membership.is_empty(), || membership.clone())?;
    let post = async |event: Object, version: &str| {
        let body = object! { "event" => event, "room_version" => version };
        p.call(
            "POST",
            &format!("/_matrix/federation/v3/invite/{}", unique()),
            Some(&body),
        )
        .await
    };
    let invite = room.membership(p, &alice, &bob, "invite");
    ctx.answers(
        "another version",
        &post(invite, "org.example.unknown").await?,
        400,
        "M_INCOMPATIBLE_ROOM_VERSION",
    )?;
    let join = room.membership(p, &alice, &bob, "join");
    ctx.answers("another membership", &post(join, "I.1").await?, 400, "M_BAD_JSON")?;
    ctx.answers(
        "another type",
        &post(room.message(p, &alice, "x"), "I.1").await?,
        400,
        "M_BAD_JSON",
    )
}

/// 66
pub(crate) async fn leave(ctx: &Ctx) -> Checked {
    let room = HubRoom::create(ctx, Object::new()).await?;
    let (t, bob) = (ctx.p(), ctx.p().user("bob"));
    room.act("invite", &bob).await?;
    let made = room.make(t, "make_leave", bob.as_str(), &[]).await?;
    ctx.answers("make_leave of an invited user", &made, 200, "")?;
    let object = made.object();
    let template = member(&object, "event");
    let is_template = text(&template, "type") == "m.room.member"
        && text(&template, "sender") == bob.as_str()
        && text(&template, "state_key") == bob.as_str()
        && text(&member(&template, "content"), "membership") == "leave";
    ctx.check("`event` is the template", is_template, || object.to_string())?;
    ctx.check(
        "`room_version` is named",
        text(&object, "room_version") == "I.1",
        || object.to_string(),
    )?;
    let lpdu = room.membership(t, &bob, &bob, "leave");
    let sent = room.send_membership(t, "send_leave", &lpdu).await?;
    ctx.answers("send_leave", &sent, 200, "")?;
    ctx.check(
        "its answer is empty",
        sent.object().is_empty() && sent.json().is_some(),
        || sent.object().to_string(),
    )?;
    let membership = room.membership_of(&bob).await?;
    ctx.check("the invite is rejected", membership == "leave", || membership.clone())?;
    let stranger = t.user("stranger");
    let made = room.make(t, "make_leave", stranger.as_str(), &[]).await?;
    ctx.answers("make_leave of a user who was not invited", &made, 403, "M_FORBIDDEN")?;
    let lpdu = room.membership(t, &stranger, &stranger, "leave");
    let sent = room.send_membership(t, "send_leave", &lpdu).await?;
    ctx.answers("send_leave of a user who was not invited", &sent, 403, "M_FORBIDDEN")?;
    let unknown = format!("!unknown:{}", ctx.subject_name());
    let uri = format!(
        "/_matrix/federation/v1/make_leave/{}/{}",
        encode(&unknown),
        encode(bob.as_str())
    );
    ctx.answers(
        "make_leave in an unknown room",
        &t.call("GET", &uri, None).await?,
        404,
        "M_NOT_FOUND",
    )?;
    let join = room.membership(t, &bob, &bob, "join");
    let sent = room.send_membership(t, "send_leave", &join).await?;
    ctx.answers("send_leave with a join", &sent, 400, "M_BAD_JSON")
}

/// 67
pub(crate) async fn make_join(ctx: &Ctx) -> Checked {
    let room = HubRoom::public(ctx).await?;
    let (p, t, alice, bob) = (ctx.p(), ctx.t(), ctx.p().user("alice"), ctx.t().user("bob"));
    let made = room.make(p, "make_join", alice.as_str(), &["I.1"]).await?;
    ctx.answers("make_join", &made, 200, "")?;
    let template = made.object();
    let is_template = text(&template, "type") == "m.room.member"
        && text(&template, "sender") == alice.as_str()
        && text(&template, "state_key") == alice.as_str()
        && text(&member(&template, "content"), "membership") == "join";
    ctx.check("the answer is the template", is_template, || template.to_string())?;
    let made = room.make(p, "make_join", alice.as_str(), &[]).await?;
    ctx.answers("without `ver`", &made, 400, "M_INCOMPATIBLE_ROOM_VERSION")?;
    let made = room
        .make(p, "make_join", alice.as_str(), &["org.example.other"])
        .await?;
    ctx.answers("without a matching `ver`", &made, 400, "M_INCOMPATIBLE_ROOM_VERSION")?;
    room.act("ban", &alice).await?;
    let made = room.make(p, "make_join", alice.as_str(), &["I.1"]).await?;
    ctx.answers("of a banned user", &made, 403, "M_FORBIDDEN")?;
    let made = room.make(p, "make_join", bob.as_str(), &["I.1"]).await?;
    ctx.answers("of another server's user", &made, 403, "M_FORBIDDEN")?;
    let unknown = format!("!unknown:{}", ctx.subject_name());
    let uri = format!(
        "/_matrix/federation/v1/make_join/{}/{}?ver=I.1",
        encode(&unknown),
        encode(alice.as_str())
    );
    ctx.answers(
        "of an unknown room",
        &p.call("GET", &uri, None).await?,
        404,
        "M_NOT_FOUND",
    )?;
    let foreign = room.membership(t, &bob, &bob, "join");
    let sent = room.send_membership(p, "send_join", &foreign).await?;
    ctx.answers("send_join of another server's user", &sent, 403, "M_FORBIDDEN")?;
    let leave = room.membership(t, &bob, &bob, "leave");
    let sent = room.send_membership(t, "send_join", &leave).await?;
    ctx.answers("send_join with a leave", &sent, 400, "M_BAD_JSON")
}

/// 68
pub(crate) async fn banned_in_between(ctx: &Ctx) -> Checked {
    let room = HubRoom::public(ctx).await?;
    let (p, alice) = (ctx.p(), ctx.p().user("alice"));
    let made = room.make(p, "make_join", alice.as_str(), &["I.1"]).await?;
    ctx.answers("make_join", &made, 200, "")?;
    room.act("ban", &alice).await?;
    let lpdu = room.membership(p, &alice, &alice, "join");
    let sent = room.send_membership(p, "send_join", &lpdu).await?;
    ctx.answers("send_join after a ban", &sent, 403, "M_FORBIDDEN")?;
    let membership = room.membership_of(&alice).await?;
    ctx.check("the user is banned", membership == "ban", || membership.clone())
}

/// 69
pub(crate) async fn send_join(ctx: &Ctx) -> Checked {
    let room = HubRoom::public(ctx).await?;
    let (p, t, alice, bob) = (ctx.p(), ctx.t(), ctx.p().user("alice"), ctx.t().user("bob"));
    room.join(t, &bob).await?;
    let before = room.log(t).await?;
    let joined = room.join(p, &alice).await?;
    let (state, chain) = (list(&joined, "state"), list(&joined, "auth_chain"));
    let join = member(&joined, "event");
    let id = event_id_of(&join);
    let is_left_out = !state.iter().any(|event| text(event, "state_key") == alice.as_str());
    ctx.check("`state` leaves the join out", is_left_out, || format!("{state:?}"))?;
    let in_state = |event: &&Object| state.contains(event);
    let missing: Vec<_> = before
        .iter()
        .filter(|event| event.contains_key("state_key"))
        .filter(|event| !in_state(event))
        .collect();
    ctx.check("`state` has everything before it", missing.is_empty(), || {
        format!("{missing:?}")
    })?;
    is_closed(ctx, &state, &chain)?;
    super::format::verifies(ctx, p, &join).await?;
    let stamp = Stamp::of(&join).unwrap_or_else(|| Stamp::of(&before[0]).expect("a create event has both"));
    let fanned_out = t.received_event(ctx.deadline(), &stamp).await?;
    ctx.check("`event` is what the others receive", fanned_out == join, || {
        fanned_out.to_string()
    })?;
    let later = room.post("after the join").await?;
    room.wait_for(p, &later).await?;
    let order: Vec<_> = p.received_pdus().iter().map(event_id_of).collect();
    let (at_join, at_later) = (
        order.iter().position(|seen| *seen == id),
        order.iter().position(|seen| seen.as_str() == later),
    );
    ctx.check(
        "the joined server gets what comes after",
        at_later.is_some() && at_join <= at_later,
        || format!("{order:?}"),
    )
}

/// 70
pub(crate) async fn knock(ctx: &Ctx) -> Checked {
    let room = HubRoom::create(
        ctx,
        object! { "join_rule" => "knock", "name" => "Names", "topic" => "Topics" },
    )
    .await?;
    let (p, alice, bob) = (ctx.p(), ctx.p().user("alice"), ctx.p().user("bob"));
    let made = room.make(p, "make_knock", alice.as_str(), &["I.1"]).await?;
    ctx.answers("make_knock", &made, 200, "")?;
    let template = made.object();
    let is_template = text(&template, "type") == "m.room.member"
        && text(&template, "sender") == alice.as_str()
        && text(&template, "state_key") == alice.as_str()
        && text(&member(&template, "content"), "membership") == "knock";
    ctx.check("the answer is the template", is_template, || template.to_string())?;
    let made = room
        .make(p, "make_knock", alice.as_str(), &["org.example.other"])
        .await?;
    ctx.answers("without a matching `ver`", &made, 400, "M_INCOMPATIBLE_ROOM_VERSION")?;
    let content = object! { "membership" => "knock", "reason" => "let me in" };
    let lpdu = room.lpdu(p, &alice, "m.room.member", Some(alice.as_str()), content);
    let sent = room.send_membership(p, "send_knock", &lpdu).await?;
    ctx.answers("send_knock", &sent, 200, "")?;
    let stripped = list(&sent.object(), "stripped_state");
    let is_proper = stripped.iter().all(is_stripped);
    ctx.check("stripped events have four fields", is_proper, || {
        format!("{stripped:?}")
    })?;
    for event_type in ["m.room.create", "m.room.join_rules", "m.room.name", "m.room.topic"] {
        let has = stripped.iter().any(|event| text(event, "type") == event_type);
        ctx.check(&format!("{event_type} is among them"), has, || format!("{stripped:?}"))?;
    }
    room.act("invite", &alice).await?;
    let invited = p
        .inbox()
        .into_iter()
        .any(|request| request.endpoint == Endpoint::Invite);
    ctx.check("the knock is granted by an invite", invited, || {
        "no invite arrived".to_owned()
    })?;
    room.join(p, &alice).await?;
    let knock = room.membership(p, &bob, &bob, "knock");
    ctx.answers(
        "another knock",
        &room.send_membership(p, "send_knock", &knock).await?,
        200,
        "",
    )?;
    let made = room.make(p, "make_leave", bob.as_str(), &[]).await?;
    ctx.answers("make_leave of a knocking user", &made, 200, "")?;
    let leave = room.membership(p, &bob, &bob, "leave");
    ctx.answers(
        "send_leave of a knocking user",
        &room.send_membership(p, "send_leave", &leave).await?,
        200,
        "",
    )?;
    let membership = room.membership_of(&bob).await?;
    ctx.check("the knock is taken back", membership == "leave", || membership.clone())?;
    let unknown = format!("!unknown:{}", ctx.subject_name());
    let uri = format!(
        "/_matrix/federation/v1/make_knock/{}/{}?ver=I.1",
        encode(&unknown),
        encode(bob.as_str())
    );
    ctx.answers(
        "make_knock in an unknown room",
        &p.call("GET", &uri, None).await?,
        404,
        "M_NOT_FOUND",
    )
}

/// 79
pub(crate) async fn kicked(ctx: &Ctx) -> Checked {
    let room = HubRoom::public(ctx).await?;
    let (p, t, alice, bob) = (ctx.p(), ctx.t(), ctx.p().user("alice"), ctx.t().user("bob"));
    room.join(p, &alice).await?;
    room.join(t, &bob).await?;
    let other_room = HubRoom::public(ctx).await?;
    other_room.join(p, &alice).await?;
    room.act("kick", &alice).await?;
    let is_kick = |pdu: &Object| {
        text(pdu, "room_id") == room.id
            && text(pdu, "state_key") == alice.as_str()
            && text(&member(pdu, "content"), "membership") == "leave"
    };
    ctx.eventually("the kicked user's server receives the kick", || async {
        Ok(p.received_pdus().iter().any(is_kick).then_some(()))
    })
    .await?;
    let later = room.post("not for the kicked").await?;
    room.wait_for(t, &later).await?;
    let elsewhere = other_room.post("for the kicked").await?;
    other_room.wait_for(p, &elsewhere).await?;
    let received = p.received_pdus();
    let last_of_room = received.iter().rev().find(|pdu| text(pdu, "room_id") == room.id);
    match last_of_room {
        Some(last) if is_kick(last) => {
            ctx.observe("nothing of the room after the kick");
            Ok(())
        }
        last => failed("nothing of the room after the kick", format!("{last:?}")),
    }
}
