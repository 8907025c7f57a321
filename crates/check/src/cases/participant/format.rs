//! Cases 1 to 13 as a participant shows them.

use bytes::Bytes;
use nabe_event::{EventKind, RawEvent, event_id_of, hashes};
use nabe_signing::json::{Json, Object};
use nabe_signing::{base64u, object};
use nabe_types::limits::MAX_EVENT_BYTES;

use crate::author::{self, sign_event};
use crate::case::{Case, Checked, Peers, Suite, failed};
use crate::context::{Ctx, list, member, text};
use crate::hub_room::RULES;
use crate::participant_room::ParticipantRoom;
use crate::peer::{Endpoint, send_uri};
use crate::subject::unique;

pub(crate) const CASES: &[Case] = &[
    Case {
        id: "lm-1p",
        title: "event IDs",
        suite: Suite::Participant,
        requirements: &[
            "LM-pdu-event-id",
            "LM-content-hash-pdu",
            "LM-content-hash-sha256",
            "LM-reference-hash-algorithm",
            "LM-base64-url-safe",
        ],
        sent: "events of our hub",
        expected: "shown under the IDs we compute",
        peers: Peers::Any(1),
        run: run!(event_ids),
    },
    Case {
        id: "lm-2p",
        title: "the form of an LPDU",
        suite: Suite::Participant,
        requirements: &[
            "LM-lpdu-own-hash",
            "LM-lpdu-signed",
            "LM-content-hash-lpdu",
            "LM-content-hash-sha256",
            "LM-lpdu-no-auth-events",
            "LM-lpdu-no-prev-events",
            "LM-lpdu-no-other-hashes",
            "LM-pdu-hub-server-set",
            "LM-signing-events-redact-first",
        ],
        sent: "a message by a user of the subject",
        expected: "an LPDU with our hash, signed, for the hub",
        peers: Peers::Any(1),
        run: run!(lpdu_form),
    },
    Case {
        id: "lm-4p",
        title: "order of keys",
        suite: Suite::Participant,
        requirements: &["LM-canonical-rfc8785"],
        sent: "content with the keys U+E000 and U+1F600, in the order of code points",
        expected: "accepted unredacted under our ID",
        peers: Peers::Any(1),
        run: run!(key_order),
    },
    Case {
        id: "lm-5p",
        title: "form of numbers",
        suite: Suite::Participant,
        requirements: &["LM-canonical-rfc8785"],
        sent: "content with 50.0, 1e2 and -0",
        expected: "accepted unredacted under our ID",
        peers: Peers::Any(1),
        run: run!(numbers),
    },
    Case {
        id: "lm-6p",
        title: "redaction of a member event",
        suite: Suite::Participant,
        requirements: &[
            "LM-redaction-top-level",
            "LM-redaction-content",
            "LM-reference-hash-algorithm",
            "LM-receive-hash-mismatch",
        ],
        sent: "a join whose display name was changed after hashing",
        expected: "`membership` alone, under the same ID",
        peers: Peers::Any(1),
        run: run!(redaction),
    },
    Case {
        id: "lm-8p",
        title: "size of an event",
        suite: Suite::Participant,
        requirements: &["LM-pdu-size"],
        sent: "events of 65536 and 65537 bytes",
        expected: "accepted; dropped",
        peers: Peers::Any(1),
        run: run!(event_size),
    },
    Case {
        id: "lm-9p",
        title: "length of `type` and `state_key`",
        suite: Suite::Participant,
        requirements: &["LM-pdu-type", "LM-pdu-state-key", "LM-receive-schema"],
        sent: "255 and 256 characters of one and of two bytes",
        expected: "accepted; dropped",
        peers: Peers::Any(1),
        run: run!(field_lengths),
    },
    Case {
        id: "lm-10p",
        title: "identifiers",
        suite: Suite::Participant,
        requirements: &[
            "LM-names-no-ip-literal",
            "LM-users-grammar",
            "LM-users-no-upper-case",
            "LM-pdu-sender",
            "LM-pdu-hub-server-valid",
        ],
        sent: "senders @Creator:h, @:h and @creator:1.2.3.4; hub_server 1.2.3.4",
        expected: "dropped each",
        peers: Peers::Any(1),
        run: run!(identifiers),
    },
    Case {
        id: "lm-13p",
        title: "room versions",
        suite: Suite::Participant,
        requirements: &[
            "LM-versions-i1-supported",
            "LM-versions-no-order",
            "LM-invite-incompatible",
        ],
        sent: "invites to i.1, I.10, an unknown version, 11 and I.1",
        expected: "400 M_INCOMPATIBLE_ROOM_VERSION; 200",
        peers: Peers::Any(1),
        run: run!(room_versions),
    },
];

/// 1
pub(crate) async fn event_ids(ctx: &Ctx) -> Checked {
    let room = ParticipantRoom::joined(ctx).await?;
    room.post("one").await?;
    room.fence().await?;
    let state = ctx.api(&room.local, "GET", &room.path("/state"), None).await?;
    let shown = list(&state, "state");
    let expected = room.with_room(|hosted| {
        let state = hosted.state_before(hosted.log().len());
        state
            .iter()
            .map(|listed| listed.id.as_str().to_owned())
            .collect::<Vec<_>>()
    });
    let missing: Vec<_> = expected
        .iter()
        .filter(|id| !shown.iter().any(|event| text(event, "event_id") == *id))
        .collect();
    ctx.check(
        "all state is shown under the IDs we compute",
        missing.is_empty(),
        || format!("missing {missing:?}"),
    )?;
    let timeline = room.timeline().await?;
    let known = room.with_room(|hosted| {
        timeline
            .iter()
            .all(|event| hosted.find(text(event, "event_id")).is_some())
    });
    ctx.check("so are all events", known && !timeline.is_empty(), || {
        format!("{timeline:?}")
    })
}

/// 2
pub(crate) async fn lpdu_form(ctx: &Ctx) -> Checked {
    let room = ParticipantRoom::joined(ctx).await?;
    let lpdu = sent_by_local(&room, object! { "body" => "hello" }).await?;
    let stated = member(&lpdu, "hashes");
    let hash = base64u::encode(&hashes::lpdu_hash(&lpdu));
    let is_only = stated.len() == 1 && text(&member(&stated, "lpdu"), "sha256") == hash;
    ctx.check("`hashes` has the LPDU's hash and nothing else", is_only, || {
        stated.to_string()
    })?;
    let is_bare = !lpdu.contains_key("auth_events") && !lpdu.contains_key("prev_events");
    ctx.check("neither `auth_events` nor `prev_events`", is_bare, || lpdu.to_string())?;
    let names_hub = text(&lpdu, "hub_server") == room.hub.name().as_str();
    ctx.check("`hub_server` is the hub", names_hub, || lpdu.to_string())?;
    let keys = ctx.keys_with(&[]).await?;
    let raw = RawEvent::from_json(lpdu.clone(), RULES);
    let verified = raw.and_then(|raw| match raw.kind() {
        EventKind::Lpdu => raw.verify_lpdu(&keys),
        EventKind::Pdu => Err(nabe_event::Dropped::WrongForm),
    });
    let got = || format!("{:?}: {lpdu}", verified.as_ref().err());
    ctx.check("its server's signature verifies", verified.is_ok(), got)
}

/// What the hub receives when the subject's user sends a message.
pub(crate) async fn sent_by_local(room: &ParticipantRoom<'_>, content: Object) -> Checked<Object> {
    let reply = room.send_as_local("m.room.message", None, content.clone()).await?;
    if !matches!(reply.status, 200 | 202) {
        return failed("the client API takes a message", reply.brief());
    }
    room.hub
        .received(room.ctx.deadline(), "the LPDU", |inbox| {
            let sent = inbox.iter().filter(|request| request.endpoint == Endpoint::Send);
            sent.filter_map(|request| request.member("pdus")?.as_array())
                .flatten()
                .filter_map(Json::as_object)
                .find(|event| member(event, "content") == content)
                .cloned()
        })
        .await
}

/// 4
pub(crate) async fn key_order(ctx: &Ctx) -> Checked {
    let content = object! { "\u{e000}" => 1, "\u{1f600}" => 2 };
    let by_utf16 = "{\"\u{1f600}\":2,\"\u{e000}\":1}";
    let by_code_points = "{\"\u{e000}\":1,\"\u{1f600}\":2}";
    written_otherwise(ctx, content, by_utf16, by_code_points).await
}

/// 5
pub(crate) async fn numbers(ctx: &Ctx) -> Checked {
    let content = object! { "a" => 50, "b" => 100, "c" => 0 };
    written_otherwise(
        ctx,
        content,
        r#"{"a":50,"b":100,"c":0}"#,
        r#"{"a":50.0,"b":1e2,"c":-0}"#,
    )
    .await
}

async fn written_otherwise(ctx: &Ctx, content: Object, canonical: &str, otherwise: &str) -> Checked {
    let room = ParticipantRoom::joined(ctx).await?;
    let pdu = room.own("m.room.message", None, content.clone());
    let body = Json::from(object! { "pdus" => vec![Json::from(pdu.clone())] });
    let bytes = Bytes::from(author::rewritten(&body, canonical, otherwise)?);
    let uri = send_uri(&unique());
    let signer = room.hub.signer();
    let reply = ctx
        .subject()
        .signed_bytes(signer, "PUT", &uri, Some(&body), Some(bytes))
        .await?;
    ctx.answers("transaction", &reply, 200, "")?;
    let shown = room.shown(event_id_of(&pdu).as_str()).await?;
    ctx.check(
        "shown under our ID, unredacted",
        member(&shown, "content") == content,
        || shown.to_string(),
    )
}

/// 6
pub(crate) async fn redaction(ctx: &Ctx) -> Checked {
    let room = ParticipantRoom::joined(ctx).await?;
    let creator = room.creator.clone();
    let content = object! { "membership" => "join", "displayname" => "Creator" };
    let event = room.event(&creator, "m.room.member", Some(creator.as_str()), content);
    let mut pdu = room.with_room(|hosted| {
        let (auth, prev) = (hosted.auth_events(&event), hosted.head());
        author::seal_pdu(event, &auth, &prev, room.hub.signer())
    });
    let id = event_id_of(&pdu);
    pdu.insert(
        "content",
        object! { "membership" => "join", "displayname" => "Somebody else" },
    );
    ctx.check("another display name, the same ID", event_id_of(&pdu) == id, || {
        event_id_of(&pdu).to_string()
    })?;
    room.append(pdu).await?;
    let shown = room.shown(id.as_str()).await?;
    let content = member(&shown, "content");
    let is_redacted = content == object! { "membership" => "join" };
    ctx.check("shown redacted under that ID", is_redacted, || shown.to_string())?;
    room.fence().await
}

/// 8
pub(crate) async fn event_size(ctx: &Ctx) -> Checked {
    let room = ParticipantRoom::joined(ctx).await?;
    let small = room.post("x").await?;
    let room_for_text = MAX_EVENT_BYTES + 1 - small.to_canonical().len();
    let largest = room.post(&"x".repeat(room_for_text)).await?;
    let len = largest.to_canonical().len();
    if len != MAX_EVENT_BYTES {
        return failed("our own event of 65536 bytes", format!("{len} bytes"));
    }
    room.shown(event_id_of(&largest).as_str()).await?;
    ctx.observe("65536 bytes: accepted");
    let too_large = room.post(&"x".repeat(room_for_text + 1)).await?;
    room.never_shown("65537 bytes", &too_large).await
}

/// 9
pub(crate) async fn field_lengths(ctx: &Ctx) -> Checked {
    let room = ParticipantRoom::joined(ctx).await?;
    for letter in ["x", "é"] {
        let (longest, too_long) = (letter.repeat(255), letter.repeat(256));
        for (event_type, state_key) in [(longest.as_str(), None), ("org.example.state", Some(longest.as_str()))] {
            let pdu = room.own(event_type, state_key, object! { "n" => 1 });
            room.deliver(&pdu).await?;
            room.shown(event_id_of(&pdu).as_str()).await?;
        }
        ctx.observe(format!("255 times {letter}: accepted"));
        for (event_type, state_key) in [
            (too_long.as_str(), None),
            ("org.example.state", Some(too_long.as_str())),
        ] {
            let pdu = room.own(event_type, state_key, object! { "n" => 1 });
            room.deliver(&pdu).await?;
            room.never_shown("256 characters", &pdu).await?;
        }
    }
    Ok(())
}

/// 10
pub(crate) async fn identifiers(ctx: &Ctx) -> Checked {
    let room = ParticipantRoom::joined(ctx).await?;
    let hub = room.hub.name().as_str().to_owned();
    for sender in [
        format!("@Creator:{hub}"),
        format!("@:{hub}"),
        "@creator:1.2.3.4".to_owned(),
    ] {
        let event = author::partial(&room.id, "m.room.message", None, &sender, object! { "body" => "x" });
        let pdu = room.with_room(|hosted| hosted.seal_and_append(event));
        let failed_pdus = room.deliver(&pdu).await?;
        ctx.check(&format!("sender {sender}: dropped"), failed_pdus.is_empty(), || {
            failed_pdus.to_string()
        })?;
        room.never_shown(&format!("sender {sender}"), &pdu).await?;
    }
    let mut event = room.event(&room.creator, "m.room.message", None, object! { "body" => "x" });
    event.insert("hub_server", "1.2.3.4");
    author::hash_lpdu(&mut event);
    let mut pdu = room.with_room(|hosted| hosted.completed(event));
    sign_event(&mut pdu, room.hub.signer());
    let pdu = room.with_room(|hosted| hosted.append(pdu));
    room.deliver(&pdu).await?;
    room.never_shown("hub_server 1.2.3.4", &pdu).await
}

/// 13
pub(crate) async fn room_versions(ctx: &Ctx) -> Checked {
    let room = ParticipantRoom::create(ctx, "invite");
    let invite = room.invite_event();
    for version in ["i.1", "I.10", "org.example.unknown", "11"] {
        let reply = room.invite(&invite, version).await?;
        ctx.answers(
            &format!("an invite to version {version}"),
            &reply,
            400,
            "M_INCOMPATIBLE_ROOM_VERSION",
        )?;
    }
    ctx.answers("an invite to version I.1", &room.invite(&invite, "I.1").await?, 200, "")
}
