//! Cases 59 to 63: events, state and history on request.

use std::collections::{BTreeMap, BTreeSet};

use nabe_event::{RawEvent, event_id_of};
use nabe_signing::json::{Json, Object};
use nabe_signing::object;

use crate::case::{Case, Checked, Peers, Suite, failed};
use crate::context::{Ctx, list, member, text};
use crate::http_client::Reply;
use crate::hub_room::{HubRoom, RULES};
use crate::peer::Peer;
use crate::subject::encode;

pub(crate) const CASES: &[Case] = &[
    Case {
        id: "lm-59",
        title: "a single event",
        suite: Suite::Hub,
        requirements: &[
            "LM-visibility-algorithm",
            "LM-event-event",
            "LM-event-not-found",
            "LM-event-no-lpdu",
        ],
        sent: "E6 for a known and an unknown event, for an LPDU, and by a server outside",
        expected: "the event; 404 each",
        peers: Peers::Any(2),
        run: run!(single_event),
    },
    Case {
        id: "lm-60",
        title: "state before an event",
        suite: Suite::Hub,
        requirements: &[
            "LM-state-at-event",
            "LM-state-api-before-event",
            "LM-state-api-auth-chain",
            "LM-state-api-not-found",
            "LM-state-api-no-lpdu",
        ],
        sent: "E7 at power levels; other rooms and events; by a server outside",
        expected: "the old levels, a closed auth chain; 404 each",
        peers: Peers::Any(2),
        run: run!(state_before),
    },
    Case {
        id: "lm-61",
        title: "IDs of the state before an event",
        suite: Suite::Hub,
        requirements: &["LM-state-ids-ids"],
        sent: "E7 and E8",
        expected: "the same IDs",
        peers: Peers::Any(1),
        run: run!(state_ids),
    },
    Case {
        id: "lm-62",
        title: "backfill",
        suite: Suite::Hub,
        requirements: &[
            "LM-roles-history",
            "LM-backfill-limit",
            "LM-backfill-cap",
            "LM-backfill-order",
            "LM-backfill-not-found",
            "LM-backfill-no-lpdu",
        ],
        sent: "E9 with limits 3, 0, x, huge and none; from the create event; other rooms; by a server outside",
        expected: "oldest first, `v` last; 400; 404",
        peers: Peers::Any(2),
        run: run!(backfill),
    },
    Case {
        id: "lm-63",
        title: "history visibility",
        suite: Suite::Hub,
        requirements: &[
            "LM-visibility-algorithm",
            "LM-visibility-history-visibility",
            "LM-visibility-commit-exempt",
            "LM-event-redacted",
            "LM-state-api-redacted",
            "LM-backfill-redacted",
        ],
        sent: "history visibility `joined`; E6, E7 and E9 by a server that joined later",
        expected: "older events redacted, commits intact",
        peers: Peers::Any(2),
        run: run!(visibility),
    },
];

async fn event(peer: &Peer, id: &str) -> Checked<Reply> {
    let uri = format!("/_matrix/federation/v2/event/{}", encode(id));
    peer.call("GET", &uri, None).await
}

async fn state(peer: &Peer, endpoint: &str, room: &str, id: &str) -> Checked<Reply> {
    let uri = format!(
        "/_matrix/federation/v1/{endpoint}/{}?event_id={}",
        encode(room),
        encode(id)
    );
    peer.call("GET", &uri, None).await
}

fn ids(events: &[Object]) -> BTreeSet<String> {
    events
        .iter()
        .map(|event| event_id_of(event).as_str().to_owned())
        .collect()
}

/// 59
pub(crate) async fn single_event(ctx: &Ctx) -> Checked {
    let room = HubRoom::public(ctx).await?;
    let (p, t, alice) = (ctx.p(), ctx.t(), ctx.p().user("alice"));
    room.join(p, &alice).await?;
    let lpdu = room.message(p, &alice, "x");
    let echo = room.accepted(p, &lpdu).await?;
    let id = event_id_of(&echo);
    let reply = event(p, id.as_str()).await?;
    ctx.answers("a known event", &reply, 200, "")?;
    ctx.check("it is the event itself", reply.object() == echo, || {
        reply.object().to_string()
    })?;
    let unknown = format!("${}", "A".repeat(43));
    ctx.answers("an unknown event", &event(p, &unknown).await?, 404, "M_NOT_FOUND")?;
    ctx.answers(
        "the LPDU's ID",
        &event(p, event_id_of(&lpdu).as_str()).await?,
        404,
        "M_NOT_FOUND",
    )?;
    ctx.answers(
        "a server outside the room",
        &event(t, id.as_str()).await?,
        404,
        "M_NOT_FOUND",
    )
}

/// 60
pub(crate) async fn state_before(ctx: &Ctx) -> Checked {
    let room = HubRoom::public(ctx).await?;
    let (p, t, alice) = (ctx.p(), ctx.t(), ctx.p().user("alice"));
    room.join(p, &alice).await?;
    let before = room.log(p).await?;
    let old_levels = room.state_content("m.room.power_levels").await?;
    let mut new_levels = old_levels.clone();
    new_levels.insert("kick", 60);
    let id = room
        .send_as(&room.creator, "m.room.power_levels", Some(""), new_levels)
        .await?;
    room.post("later").await?;
    let reply = state(p, "state", &room.id, &id).await?;
    ctx.answers("state at the power levels", &reply, 200, "")?;
    let (pdus, chain) = (list(&reply.object(), "pdus"), list(&reply.object(), "auth_chain"));
    let levels = pdus.iter().find(|event| text(event, "type") == "m.room.power_levels");
    let levels = levels.map(|event| member(event, "content")).unwrap_or_default();
    ctx.check("the levels are the old ones", levels == old_levels, || {
        levels.to_string()
    })?;
    let mut expected: BTreeMap<(String, String), String> = BTreeMap::new();
    for event in before.iter().filter(|event| event.contains_key("state_key")) {
        let key = (text(event, "type").to_owned(), text(event, "state_key").to_owned());
        expected.insert(key, event_id_of(event).as_str().to_owned());
    }
    let expected: BTreeSet<String> = expected.into_values().collect();
    let is_all = ids(&pdus) == expected && pdus.len() == expected.len();
    ctx.check("it is the whole state before the event", is_all, || {
        format!("{:?}", ids(&pdus))
    })?;
    is_closed(ctx, &pdus, &chain)?;
    let keys = ctx.keys_with(&[p.signer()]).await?;
    for event in pdus.iter().chain(&chain) {
        if let Err(dropped) = RawEvent::from_json(event.clone(), RULES).and_then(|raw| raw.verify_pdu(&keys)) {
            return failed("only PDUs that verify", format!("{dropped}: {event}"));
        }
    }
    let other = HubRoom::public(ctx).await?;
    other.join(p, &alice).await?;
    ctx.answers(
        "an event of another room",
        &state(p, "state", &other.id, &id).await?,
        404,
        "M_NOT_FOUND",
    )?;
    let unknown = format!("!unknown:{}", ctx.subject_name());
    ctx.answers(
        "an unknown room",
        &state(p, "state", &unknown, &id).await?,
        404,
        "M_NOT_FOUND",
    )?;
    let unknown = format!("${}", "A".repeat(43));
    ctx.answers(
        "an unknown event",
        &state(p, "state", &room.id, &unknown).await?,
        404,
        "M_NOT_FOUND",
    )?;
    ctx.answers(
        "a server outside the room",
        &state(t, "state", &room.id, &id).await?,
        404,
        "M_NOT_FOUND",
    )?;
    let uri = format!("/_matrix/federation/v1/state/{}", encode(&room.id));
    let reply = p.call("GET", &uri, None).await?;
    ctx.check("no `event_id`: 400", reply.status == 400, || reply.brief())
}

/// Everything that state and chain lean on is in the chain, once, and the create event is.
pub(crate) fn is_closed(ctx: &Ctx, state: &[Object], chain: &[Object]) -> Checked {
    let in_chain = ids(chain);
    let needed = state.iter().chain(chain).flat_map(|event| {
        let auth = event.get("auth_events").and_then(Json::as_array).unwrap_or_default();
        auth.iter()
            .filter_map(Json::as_str)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    });
    let missing: Vec<String> = needed.filter(|id| !in_chain.contains(id)).collect();
    let has_create = chain.iter().any(|event| text(event, "type") == "m.room.create");
    let is_once = in_chain.len() == chain.len();
    ctx.check(
        "the auth chain is closed, ends at the create event and repeats nothing",
        missing.is_empty() && has_create && is_once,
        || format!("missing {missing:?}, create event {has_create}, no repetition {is_once}"),
    )
}

/// 61
pub(crate) async fn state_ids(ctx: &Ctx) -> Checked {
    let room = HubRoom::public(ctx).await?;
    let (p, alice) = (ctx.p(), ctx.p().user("alice"));
    room.join(p, &alice).await?;
    let id = event_id_of(&room.accepted(p, &room.message(p, &alice, "x")).await?);
    let full = state(p, "state", &room.id, id.as_str()).await?;
    let reply = state(p, "state_ids", &room.id, id.as_str()).await?;
    ctx.answers("state", &full, 200, "")?;
    ctx.answers("state_ids", &reply, 200, "")?;
    for (events, only_ids) in [("pdus", "pdu_ids"), ("auth_chain", "auth_chain_ids")] {
        let expected = ids(&list(&full.object(), events));
        let object = reply.object();
        let stated = object.get(only_ids).and_then(Json::as_array).unwrap_or_default();
        let stated: BTreeSet<String> = stated.iter().filter_map(Json::as_str).map(str::to_owned).collect();
        let is_same = stated == expected && !expected.is_empty();
        ctx.check(&format!("`{only_ids}` are the IDs of `{events}`"), is_same, || {
            object.to_string()
        })?;
    }
    let unknown = format!("${}", "A".repeat(43));
    let reply = state(p, "state_ids", &room.id, &unknown).await?;
    ctx.answers("an unknown event", &reply, 404, "M_NOT_FOUND")
}

/// 62
pub(crate) async fn backfill(ctx: &Ctx) -> Checked {
    let room = HubRoom::public(ctx).await?;
    let (p, t, alice) = (ctx.p(), ctx.t(), ctx.p().user("alice"));
    room.join(p, &alice).await?;
    for body in ["one", "two", "three", "four"] {
        room.accepted(p, &room.message(p, &alice, body)).await?;
    }
    let log = room.log(p).await?;
    let order: Vec<String> = log.iter().map(|event| event_id_of(event).as_str().to_owned()).collect();
    let is_chain = log
        .windows(2)
        .all(|pair| pair[1].get("prev_events") == Some(&Json::from(vec![event_id_of(&pair[0]).as_str()])));
    ctx.check(
        "the events hang together, oldest first, from the create event on",
        is_chain,
        || format!("{order:?}"),
    )?;
    let at = order.len() - 2;
    let reply = room.backfill(p, &order[at], "3").await?;
    ctx.answers("limit 3", &reply, 200, "")?;
    let got: Vec<String> = list(&reply.object(), "pdus")
        .iter()
        .map(|pdu| event_id_of(pdu).as_str().to_owned())
        .collect();
    ctx.check("three events, `v` last", got == order[at - 2..=at], || {
        format!("{got:?}")
    })?;
    let reply = room.backfill(p, &order[0], "10").await?;
    let got: Vec<String> = list(&reply.object(), "pdus")
        .iter()
        .map(|pdu| event_id_of(pdu).as_str().to_owned())
        .collect();
    ctx.check("from the create event: itself", got == order[..1], || {
        format!("{got:?}")
    })?;
    let reply = room.backfill(p, &order[at], "1000000").await?;
    let count = list(&reply.object(), "pdus").len();
    ctx.check(
        "a huge limit is no error",
        reply.status == 200 && count == at + 1,
        || reply.brief(),
    )?;
    let reply = room.backfill(p, &order[at], "0").await?;
    ctx.check("limit 0: 400", reply.status == 400, || reply.brief())?;
    let reply = room.backfill(p, &order[at], "x").await?;
    ctx.check("limit x: 400", reply.status == 400, || reply.brief())?;
    for query in ["limit=3".to_owned(), format!("v={}", encode(&order[at]))] {
        let uri = format!("/_matrix/federation/v2/backfill/{}?{query}", encode(&room.id));
        let reply = p.call("GET", &uri, None).await?;
        ctx.check(&format!("only {query}: 400"), reply.status == 400, || reply.brief())?;
    }
    let other = HubRoom::public(ctx).await?;
    other.join(p, &alice).await?;
    ctx.answers(
        "an event of another room",
        &other.backfill(p, &order[at], "3").await?,
        404,
        "M_NOT_FOUND",
    )?;
    ctx.answers(
        "a server outside the room",
        &room.backfill(t, &order[at], "3").await?,
        404,
        "M_NOT_FOUND",
    )?;
    let unknown = format!("${}", "A".repeat(43));
    ctx.answers(
        "an unknown event",
        &room.backfill(p, &unknown, "3").await?,
        404,
        "M_NOT_FOUND",
    )
}

/// 63
pub(crate) async fn visibility(ctx: &Ctx) -> Checked {
    let options = object! { "join_rule" => "public", "history_visibility" => "joined" };
    let room = HubRoom::create(ctx, options).await?;
    let (p, t, alice, bob) = (ctx.p(), ctx.t(), ctx.p().user("alice"), ctx.t().user("bob"));
    room.join(p, &alice).await?;
    let secret = room.accepted(p, &room.message(p, &alice, "secret")).await?;
    let commit_content = object! { "message" => "AAAA", "public_group_state" => "AAAA" };
    let commit = room.lpdu(p, &alice, "m.mls.commit", None, commit_content.clone());
    let commit = room.accepted(p, &commit).await?;
    room.join(t, &bob).await?;
    let after = room.accepted(p, &room.message(p, &alice, "for all")).await?;
    let log = room.log(t).await?;
    let seen = |pdu: &Object| {
        let id = event_id_of(pdu);
        let found = log.iter().find(|seen| event_id_of(seen) == id);
        found.map(|event| member(event, "content"))
    };
    let secret_seen = seen(&secret);
    let is_redacted = secret_seen.as_ref().is_some_and(Object::is_empty);
    ctx.check(
        "a message from before the join is redacted, under its ID",
        is_redacted,
        || format!("{secret_seen:?}"),
    )?;
    let commit_seen = seen(&commit);
    let is_intact = commit_seen.as_ref() == Some(&commit_content);
    ctx.check("a commit from before the join is intact", is_intact, || {
        format!("{commit_seen:?}")
    })?;
    let after_seen = seen(&after);
    let is_full = after_seen.as_ref() == Some(&member(&after, "content"));
    ctx.check("a message from after the join is intact", is_full, || {
        format!("{after_seen:?}")
    })?;
    let single = event(t, event_id_of(&secret).as_str()).await?;
    ctx.answers("the single event", &single, 200, "")?;
    let content = member(&single.object(), "content");
    ctx.check("it is redacted, too", content.is_empty(), || content.to_string())?;
    let state = state(t, "state", &room.id, event_id_of(&secret).as_str()).await?;
    ctx.answers("the state at it", &state, 200, "")?;
    let own = event(p, event_id_of(&secret).as_str()).await?;
    ctx.check("its own server sees it in full", own.object() == secret, || {
        own.object().to_string()
    })
}
