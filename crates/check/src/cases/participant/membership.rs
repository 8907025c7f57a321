//! Cases 43, 67 to 70 and 79 as seen from the participant's side: how it joins, knocks and is kicked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nabe_event::{EventKind, RawEvent, event_id_of};
use nabe_signing::json::{Json, Object};
use nabe_signing::object;

use super::invites::pending;
use crate::author;
use crate::case::{Case, Checked, Peers, Suite, failed};
use crate::context::{Ctx, member, text};
use crate::hosted::membership;
use crate::hub_room::RULES;
use crate::participant_room::ParticipantRoom;
use crate::peer::{Answer, Endpoint, Gate, Recorded, UNSTABLE, error};
use crate::subject::{encode, unique};

pub(crate) const CASES: &[Case] = &[
    Case {
        id: "lm-43p",
        title: "a room with a bad create event",
        suite: Suite::Participant,
        requirements: &[
            "LM-create-no-references",
            "LM-create-domain",
            "LM-create-state-key",
            "LM-create-room-version",
            "LM-rule-3-2-create-domain",
            "LM-rule-3-3-create-version",
        ],
        sent: "a state key, another version, another domain, auth events",
        expected: "not joined",
        peers: Peers::Any(1),
        run: run!(bad_create),
    },
    Case {
        id: "lm-69p",
        title: "joining",
        suite: Suite::Participant,
        requirements: &[
            "LM-joins-direct",
            "LM-make-join-discard",
            "LM-send-join-state",
            "LM-send-join-event",
        ],
        sent: "a template with more than it needs; events before the answer to E14",
        expected: "joined, no event lost, nothing else signed",
        peers: Peers::Any(1),
        run: run!(joins),
    },
    Case {
        id: "lm-70p",
        title: "knocking",
        suite: Suite::Participant,
        requirements: &[
            "LM-knocks-direct",
            "LM-make-knock-discard",
            "LM-leave-retract-knock",
            "LM-knocks-answered",
        ],
        sent: "a knock, taken back, repeated, granted",
        expected: "signed LPDUs for E16 and E12; joined after the invite",
        peers: Peers::Any(1),
        run: run!(knocks),
    },
    Case {
        id: "lm-79p",
        title: "being kicked",
        suite: Suite::Participant,
        requirements: &["LM-send-not-participating", "LM-member-kick"],
        sent: "a kick and further events",
        expected: "the user is out; nothing further is shown",
        peers: Peers::Any(1),
        run: run!(kicked),
    },
    Case {
        id: "lm-x28",
        title: "a hub that answers a join with something else",
        suite: Suite::Participant,
        requirements: &["LM-state-api-checked", "LM-event-checked"],
        sent: "the joins of other users; no state; all else as it should be",
        expected: "not joined",
        peers: Peers::Any(2),
        run: run!(lying_welcome),
    },
    Case {
        id: "lm-x29",
        title: "a hub that is silent",
        suite: Suite::Participant,
        requirements: &["LM-errors-most-fitting"],
        sent: "no answer to E13",
        expected: "an error in time",
        peers: Peers::Any(1),
        run: run!(silent_hub),
    },
    Case {
        id: "lm-x30",
        title: "a hub with the draft's paths for tests",
        suite: Suite::Participant,
        requirements: &["LM-send-unstable-path"],
        sent: "404 on the stable paths",
        expected: "joined and sent through the others",
        peers: Peers::Any(1),
        run: run!(unstable_paths),
    },
];

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

/// A membership LPDU that the subject signed, with nothing taken over from the template.
pub(super) async fn is_own_lpdu(ctx: &Ctx, lpdu: &Object, kind: &str) -> Checked {
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
    let lpdu = body_of(&request);
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
    let lpdu = body_of(&request);
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
    let other = ParticipantRoom::joined(ctx).await?;
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
    // The room has no later event that the user could see; another room of the hub has.
    other.fence().await?;
    room.not_shown("an event after the kick", &later).await
}

/// A hub that answers a join with something else.
pub(crate) async fn lying_welcome(ctx: &Ctx) -> Checked {
    let lies: [(&str, Lie); 3] = [
        ("the join of another server's user", |answer, others| {
            answer.insert("event", others.foreign.clone());
        }),
        ("the join of another user of the subject", |answer, others| {
            answer.insert("event", others.local.clone());
        }),
        ("no state", |answer, _| {
            answer.insert("state", Json::Array(Vec::new()));
        }),
    ];
    for (what, lie) in lies {
        let mut room = ParticipantRoom::create(ctx, "public");
        let others = other_joins(ctx, &mut room).await?;
        let lied = Arc::new(AtomicBool::new(false));
        let (flag, hub, id) = (Arc::clone(&lied), room.hub.clone(), room.id.clone());
        room.hub.on(Endpoint::SendJoin, move |request| {
            let answer = hub.with_room(&id, |hosted| {
                let mut answer = hosted.welcome(hosted.log().len(), &hosted.completed(body_of(request)));
                lie(&mut answer, &others);
                answer
            });
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

/// What a hub makes of the answer to a join.
type Lie = fn(&mut Object, &OtherJoins);

/// Valid joins of the same room, as its hub would complete them.
struct OtherJoins {
    foreign: Object,
    local: Object,
}

/// Joins by a user of a third server, and by another user of the subject, who is turned away once the join is signed.
async fn other_joins(ctx: &Ctx, room: &mut ParticipantRoom<'_>) -> Checked<OtherJoins> {
    let (t, bob) = (ctx.t(), ctx.t().user("bob"));
    let content = object! { "membership" => "join" };
    let foreign = room.lpdu(t, &bob, "m.room.member", Some(bob.as_str()), content);
    room.hub
        .on(Endpoint::SendJoin, |_| Answer::Json(403, error("M_FORBIDDEN")));
    let joining = std::mem::replace(&mut room.local, ctx.user("another"));
    let turned_away = room.try_join().await?;
    let another = std::mem::replace(&mut room.local, joining);
    let what = format!("{another} is turned away");
    ctx.check(&what, turned_away.status >= 400, || turned_away.brief())?;
    let inbox = room.hub.inbox();
    let sent = inbox.iter().rev();
    let mut sent = sent.filter(|request| request.endpoint == Endpoint::SendJoin);
    let Some(local) = sent.next().map(body_of) else {
        return failed(format!("the join of {another} at the hub"), turned_away.brief());
    };
    Ok(room.with_room(|hosted| OtherJoins {
        foreign: hosted.completed(foreign),
        local: hosted.completed(local),
    }))
}

/// The object that was sent, empty if it is none.
fn body_of(request: &Recorded) -> Object {
    let body = request.json.as_ref().and_then(Json::as_object);
    body.cloned().unwrap_or_default()
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
