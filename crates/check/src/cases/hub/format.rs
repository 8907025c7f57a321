//! Cases 1 to 13: canonical JSON, hashes, IDs, sizes and identifiers, as far as a hub shows them.

use bytes::Bytes;
use nabe_event::{RawEvent, event_id_of, hashes, redact};
use nabe_signing::json::{Json, Object};
use nabe_signing::{base64u, object, xmatrix};
use nabe_types::ServerName;
use nabe_types::limits::MAX_EVENT_BYTES;

use crate::author::{self, Stamp, lpdu_id_of};
use crate::case::{Case, Checked, Peers, Suite, failed, skipped};
use crate::context::{Ctx, list, member, text};
use crate::hub_room::{HubRoom, RULES, Refusal, UNSTABLE_VERSION};
use crate::peer::{Peer, send_uri};
use crate::subject::{encode, unique};

pub(crate) const CASES: &[Case] = &[
    Case {
        id: "lm-1",
        title: "event IDs and content hashes",
        suite: Suite::Hub,
        requirements: &[
            "LM-pdu-event-id",
            "LM-content-hash-pdu",
            "LM-content-hash-sha256",
            "LM-reference-hash-algorithm",
            "LM-base64-url-safe",
            "LM-event-event",
            "LM-pdu-event-id-grammar",
        ],
        sent: "E14, then E6 by the ID we compute",
        expected: "the create event, hashed as we hash it; all IDs of the client API are ours",
        peers: Peers::Any(1),
        run: run!(event_ids),
    },
    Case {
        id: "lm-2",
        title: "the LPDU's hash and ID",
        suite: Suite::Hub,
        requirements: &[
            "LM-lpdu-own-hash",
            "LM-lpdu-signed",
            "LM-content-hash-lpdu",
            "LM-content-hash-sha256",
            "LM-send-failed-by-received-id",
        ],
        sent: "an LPDU that is allowed and one that is not",
        expected: "the echo carries our hash; the rejected one is reported under our LPDU ID",
        peers: Peers::Any(1),
        run: run!(lpdu_hashes),
    },
    Case {
        id: "lm-3",
        title: "the completed event",
        suite: Suite::Hub,
        requirements: &[
            "LM-pdu-event-id",
            "LM-signing-events-redact-first",
            "LM-checking-redact-events",
            "LM-reference-hash-algorithm",
            "LM-checking-verify",
            "LM-receive-hub-signed",
            "LM-signing-objects-algorithm",
        ],
        sent: "an LPDU",
        expected: "the sender's signature over the LPDU and the hub's over the event verify; the ID is ours",
        peers: Peers::Any(1),
        run: run!(completed_event),
    },
    Case {
        id: "lm-4",
        title: "order of keys",
        suite: Suite::Hub,
        requirements: &["LM-canonical-rfc8785"],
        sent: "content with the keys U+E000 and U+1F600, in the order of code points",
        expected: "an event that verifies with keys sorted by UTF-16 code units",
        peers: Peers::Any(1),
        run: run!(key_order),
    },
    Case {
        id: "lm-5",
        title: "form of numbers",
        suite: Suite::Hub,
        requirements: &["LM-canonical-rfc8785"],
        sent: "content with 50.0, 1e2 and -0",
        expected: "an event that verifies with 50, 100 and 0",
        peers: Peers::Any(1),
        run: run!(numbers),
    },
    Case {
        id: "lm-6",
        title: "redaction of a member event",
        suite: Suite::Hub,
        requirements: &[
            "LM-redaction-top-level",
            "LM-redaction-content",
            "LM-reference-hash-algorithm",
            "LM-event-redacted",
        ],
        sent: "a join with a display name in a room with history visibility `joined`; E6 by a server that joined later",
        expected: "the event with `membership` alone and the same ID",
        peers: Peers::Any(2),
        run: run!(redaction),
    },
    Case {
        id: "lm-7",
        title: "content hash without LPDU hash",
        suite: Suite::Hub,
        requirements: &[
            "LM-content-hash-pdu",
            "LM-pdu-lpdu-hash-only-then",
            "LM-pdu-hub-server-elsewhere",
        ],
        sent: "E9",
        expected: "the hub's own events are hashed without any `hashes`",
        peers: Peers::Any(1),
        run: run!(empty_hashes),
    },
    Case {
        id: "lm-8",
        title: "size of an event",
        suite: Suite::Hub,
        requirements: &["LM-pdu-size"],
        sent: "LPDUs that come to 65536 and to 65537 bytes when complete, and one that is too large by itself",
        expected: "the first is accepted, the others are not",
        peers: Peers::Any(1),
        run: run!(event_size),
    },
    Case {
        id: "lm-9",
        title: "length of `type` and `state_key`",
        suite: Suite::Hub,
        requirements: &[
            "LM-pdu-type",
            "LM-pdu-state-key",
            "LM-receive-schema",
            "LM-pdu-no-other-limits",
        ],
        sent: "255 and 256 characters of one and of two bytes",
        expected: "255 are accepted, 256 dropped",
        peers: Peers::Any(1),
        run: run!(field_lengths),
    },
    Case {
        id: "lm-10",
        title: "identifiers",
        suite: Suite::Hub,
        requirements: &[
            "LM-names-rfc1123",
            "LM-names-uncontactable",
            "LM-names-no-ip-literal",
            "LM-names-grammar",
            "LM-rooms-grammar",
            "LM-rooms-length",
            "LM-users-grammar",
            "LM-users-length",
            "LM-users-case-sensitive",
            "LM-users-no-upper-case",
            "LM-pdu-room-id",
            "LM-pdu-sender",
            "LM-pdu-hub-server-valid",
            "LM-send-unknown-room",
        ],
        sent: "senders @Alice:p, @:p and @alice:1.2.3.4; hub_server 1.2.3.4, [::1] and -x.example; room !:h; a request from 1.2.3.4",
        expected: "none of it is accepted",
        peers: Peers::Any(1),
        run: run!(identifiers),
    },
    Case {
        id: "lm-11",
        title: "a slash in a user ID",
        suite: Suite::Hub,
        requirements: &["LM-users-slash-in-path"],
        sent: "make_join of @a/b:p, with %2F and bare",
        expected: "200; 404 M_UNRECOGNIZED",
        peers: Peers::Any(1),
        run: run!(slash_in_user),
    },
    Case {
        id: "lm-12",
        title: "case of names",
        suite: Suite::Hub,
        requirements: &["LM-names-case-sensitive", "LM-rooms-case-sensitive"],
        sent: "the subject's name in upper case as hub_server and as destination; the room's ID in another case",
        expected: "another server: rejected; 401; another room: 404",
        peers: Peers::Any(1),
        run: run!(case_of_names),
    },
    Case {
        id: "lm-13",
        title: "room versions",
        suite: Suite::Hub,
        requirements: &[
            "LM-versions-i1-supported",
            "LM-versions-no-order",
            "LM-versions-grammar",
            "LM-versions-i1-default",
            "LM-versions-test-name",
            "LM-versions-stable-in-production",
            "LM-make-join-incompatible",
        ],
        sent: "make_join with ver=I.1, ver=i.1 and the name for tests",
        expected: "only exact names are versions",
        peers: Peers::Any(1),
        run: run!(room_versions),
    },
];

/// 1
pub(crate) async fn event_ids(ctx: &Ctx) -> Checked {
    let room = HubRoom::public(ctx).await?;
    let (p, alice) = (ctx.p(), ctx.p().user("alice"));
    let joined = room.join(p, &alice).await?;
    let state = list(&joined, "state");
    let Some(create) = state.iter().find(|event| text(event, "type") == "m.room.create") else {
        return failed("the create event in send_join's `state`", joined.to_string());
    };
    let hash = base64u::encode(&hashes::content_hash(create));
    let stated = member(create, "hashes");
    ctx.check(
        "the create event's content hash is ours",
        text(&stated, "sha256") == hash,
        || stated.to_string(),
    )?;
    let id = event_id_of(create);
    let uri = format!("/_matrix/federation/v2/event/{}", encode(id.as_str()));
    let fetched = p.call("GET", &uri, None).await?;
    ctx.answers("the event by the ID we compute", &fetched, 200, "")?;
    ctx.check("it is the create event", fetched.object() == *create, || {
        fetched.object().to_string()
    })?;
    same_ids(&room, p).await
}

/// The client API's IDs are those we compute from the PDUs.
async fn same_ids(room: &HubRoom<'_>, peer: &Peer) -> Checked {
    let log = room.log(peer).await?;
    let ours: Vec<String> = log.iter().map(|pdu| event_id_of(pdu).as_str().to_owned()).collect();
    let timeline = room.timeline(&room.creator).await?;
    let theirs: Vec<String> = timeline
        .iter()
        .map(|event| text(event, "event_id").to_owned())
        .collect();
    room.ctx
        .check("all of the room's IDs are those we compute", ours == theirs, || {
            format!("{theirs:?}, not {ours:?}")
        })
}

/// 2
pub(crate) async fn lpdu_hashes(ctx: &Ctx) -> Checked {
    let room = HubRoom::public(ctx).await?;
    let (p, alice) = (ctx.p(), ctx.p().user("alice"));
    room.join(p, &alice).await?;
    let lpdu = room.message(p, &alice, "hello");
    let echo = room.accepted(p, &lpdu).await?;
    let stated = member(&member(&echo, "hashes"), "lpdu");
    let hash = base64u::encode(&hashes::lpdu_hash(&lpdu));
    ctx.check(
        "the echo carries the LPDU's hash",
        text(&stated, "sha256") == hash,
        || stated.to_string(),
    )?;
    let id = event_id_of(&lpdu);
    ctx.check(
        "the LPDU can be found again in the echo",
        lpdu_id_of(&echo) == id,
        || echo.to_string(),
    )?;
    let name = room.lpdu(p, &alice, "m.room.name", Some(""), object! { "name" => "not allowed" });
    room.refused(p, "an LPDU that is rejected", &name, Refusal::Reported)
        .await
}

/// 3
pub(crate) async fn completed_event(ctx: &Ctx) -> Checked {
    let room = HubRoom::public(ctx).await?;
    let (p, alice) = (ctx.p(), ctx.p().user("alice"));
    room.join(p, &alice).await?;
    let echo = room.accepted(p, &room.message(p, &alice, "hello")).await?;
    verifies(ctx, p, &echo).await?;
    let id = event_id_of(&echo);
    let timeline = room.timeline(&room.creator).await?;
    let is_shown = timeline.iter().any(|event| text(event, "event_id") == id.as_str());
    ctx.check("the client API shows it under the ID we compute", is_shown, || {
        format!("no {id}")
    })
}

/// Both signatures and both hashes of an event that came through the hub.
pub(crate) async fn verifies(ctx: &Ctx, sender: &Peer, pdu: &Object) -> Checked {
    let keys = ctx.keys_with(&[sender.signer()]).await?;
    let verified = RawEvent::from_json(pdu.clone(), RULES).and_then(|raw| raw.verify_pdu(&keys));
    match verified {
        Ok(verified) => ctx.check(
            "signatures of sender's server and hub verify, and both hashes fit",
            !verified.was_redacted(),
            || "a hash does not fit".to_owned(),
        ),
        Err(dropped) => failed("an event that verifies", format!("{dropped}: {pdu}")),
    }
}

/// 4
pub(crate) async fn key_order(ctx: &Ctx) -> Checked {
    // By UTF-16 code units U+1F600 comes first, by code points U+E000.
    let content = object! { "\u{e000}" => 1, "\u{1f600}" => 2 };
    let by_utf16 = "{\"\u{1f600}\":2,\"\u{e000}\":1}";
    let by_code_points = "{\"\u{e000}\":1,\"\u{1f600}\":2}";
    written_otherwise(ctx, content, by_utf16, by_code_points).await
}

/// 5
pub(crate) async fn numbers(ctx: &Ctx) -> Checked {
    let content = object! { "a" => 50, "b" => 100, "c" => 0 };
    let otherwise = r#"{"a":50.0,"b":1e2,"c":-0}"#;
    written_otherwise(ctx, content, r#"{"a":50,"b":100,"c":0}"#, otherwise).await
}

/// Sends a message whose content is written differently from its canonical form, and wants it back verifiable.
async fn written_otherwise(ctx: &Ctx, content: Object, canonical: &str, otherwise: &str) -> Checked {
    let room = HubRoom::public(ctx).await?;
    let (p, alice) = (ctx.p(), ctx.p().user("alice"));
    room.join(p, &alice).await?;
    let lpdu = room.lpdu(p, &alice, "m.room.message", None, content.clone());
    let body = Json::from(object! { "pdus" => vec![Json::from(lpdu.clone())] });
    let bytes = Bytes::from(author::rewritten(&body, canonical, otherwise)?);
    let uri = send_uri(&unique());
    let reply = ctx
        .subject()
        .signed_bytes(p.signer(), "PUT", &uri, Some(&body), Some(bytes))
        .await?;
    ctx.answers("transaction", &reply, 200, "")?;
    let stamp = Stamp::of(&lpdu).expect("it is well-formed");
    let echo = p.received_event(ctx.deadline(), &stamp).await?;
    ctx.check(
        "the content is what was meant",
        member(&echo, "content") == content,
        || echo.to_string(),
    )?;
    verifies(ctx, p, &echo).await
}

/// 6
pub(crate) async fn redaction(ctx: &Ctx) -> Checked {
    let options = object! { "join_rule" => "public", "history_visibility" => "joined" };
    let room = HubRoom::create(ctx, options).await?;
    let (p, t, alice, bob) = (ctx.p(), ctx.t(), ctx.p().user("alice"), ctx.t().user("bob"));
    let content = object! { "membership" => "join", "displayname" => "Alice" };
    let lpdu = room.lpdu(p, &alice, "m.room.member", Some(alice.as_str()), content);
    let sent = room.send_membership(p, "send_join", &lpdu).await?;
    ctx.answers("send_join", &sent, 200, "")?;
    let join = member(&sent.object(), "event");
    room.join(t, &bob).await?;
    let id = event_id_of(&join);
    let uri = format!("/_matrix/federation/v2/event/{}", encode(id.as_str()));
    let full = p.call("GET", &uri, None).await?.object();
    ctx.check(
        "the joined server sees the display name",
        member(&full, "content").contains_key("displayname"),
        || full.to_string(),
    )?;
    let seen = t.call("GET", &uri, None).await?;
    ctx.answers("the event for a server that came later", &seen, 200, "")?;
    let seen = seen.object();
    let expected = redact(&join, RULES);
    ctx.check("it is the redacted event", seen == expected, || seen.to_string())?;
    ctx.check("its ID is the same", event_id_of(&seen) == id, || {
        event_id_of(&seen).to_string()
    })
}

/// 7
pub(crate) async fn empty_hashes(ctx: &Ctx) -> Checked {
    let room = HubRoom::public(ctx).await?;
    let (p, alice) = (ctx.p(), ctx.p().user("alice"));
    room.join(p, &alice).await?;
    let log = room.log(p).await?;
    let own: Vec<_> = log.iter().filter(|event| !event.contains_key("hub_server")).collect();
    ctx.check(
        "there are events of the hub's own without `hub_server`",
        !own.is_empty(),
        || format!("{log:?}"),
    )?;
    for event in own {
        let stated = member(event, "hashes");
        if stated.contains_key("lpdu") {
            return failed("no LPDU hash without `hub_server`", event.to_string());
        }
        if text(&stated, "sha256") != base64u::encode(&hashes::content_hash(event)) {
            return failed("a content hash over the event without `hashes`", event.to_string());
        }
    }
    ctx.observe("all content hashes are over the event without `hashes`");
    Ok(())
}

/// 8
pub(crate) async fn event_size(ctx: &Ctx) -> Checked {
    let room = HubRoom::public(ctx).await?;
    let (p, alice) = (ctx.p(), ctx.p().user("alice"));
    room.join(p, &alice).await?;
    let small = room.accepted(p, &room.message(p, &alice, "x")).await?;
    let room_for_text = MAX_EVENT_BYTES + 1 - small.to_canonical().len();
    let largest = room
        .accepted(p, &room.message(p, &alice, &"x".repeat(room_for_text)))
        .await?;
    let len = largest.to_canonical().len();
    ctx.check(
        "an event that comes to 65536 bytes is accepted",
        len == MAX_EVENT_BYTES,
        || format!("{len} bytes"),
    )?;
    let too_large = room.message(p, &alice, &"x".repeat(room_for_text + 1));
    room.refused(
        p,
        "an event that would come to 65537 bytes",
        &too_large,
        Refusal::Either,
    )
    .await?;
    let too_large = room.message(p, &alice, &"x".repeat(MAX_EVENT_BYTES));
    room.refused(p, "an LPDU over 65536 bytes", &too_large, Refusal::Silent)
        .await
}

/// 9
pub(crate) async fn field_lengths(ctx: &Ctx) -> Checked {
    let (p, alice) = (ctx.p(), ctx.p().user("alice"));
    let room = HubRoom::with_levels(ctx, &[(&alice, 100)], Object::new()).await?;
    room.join(p, &alice).await?;
    for letter in ["x", "é"] {
        let (longest, too_long) = (letter.repeat(255), letter.repeat(256));
        let event_type = room.lpdu(p, &alice, &longest, None, object! { "n" => 1 });
        room.accepted(p, &event_type).await?;
        let state_key = room.lpdu(p, &alice, "org.example.state", Some(&longest), object! { "n" => 1 });
        room.accepted(p, &state_key).await?;
        ctx.observe(format!("255 times {letter}: accepted"));
        let event_type = room.lpdu(p, &alice, &too_long, None, object! { "n" => 1 });
        room.refused(p, "a type of 256 characters", &event_type, Refusal::Silent)
            .await?;
        let state_key = room.lpdu(p, &alice, "org.example.state", Some(&too_long), object! { "n" => 1 });
        room.refused(p, "a state key of 256 characters", &state_key, Refusal::Silent)
            .await?;
    }
    Ok(())
}

/// 10
pub(crate) async fn identifiers(ctx: &Ctx) -> Checked {
    let room = HubRoom::public(ctx).await?;
    let (p, alice) = (ctx.p(), ctx.p().user("alice"));
    room.join(p, &alice).await?;
    for sender in [
        format!("@Alice:{}", p.name()),
        format!("@:{}", p.name()),
        "@alice:1.2.3.4".to_owned(),
    ] {
        let event = author::partial(&room.id, "m.room.message", None, &sender, object! { "body" => "x" });
        room.refused(p, &format!("sender {sender}"), &room.seal(p, event), Refusal::Silent)
            .await?;
    }
    for hub in ["1.2.3.4", "[::1]", "-x.example"] {
        let event = room.event(&alice, "m.room.message", None, object! { "body" => "x" });
        let lpdu = author::seal_lpdu(event, hub, p.signer());
        room.refused(p, &format!("hub_server {hub}"), &lpdu, Refusal::Silent)
            .await?;
    }
    let invalid = format!("!:{}", ctx.subject_name());
    let event = author::partial(
        &invalid,
        "m.room.message",
        None,
        alice.as_str(),
        object! { "body" => "x" },
    );
    let lpdu = room.seal(p, event);
    let failed_pdus = room.submit(p, &[&lpdu]).await?;
    let is_reported = failed_pdus.contains_key(event_id_of(&lpdu).as_str());
    ctx.check("an invalid room ID is rejected and reported", is_reported, || {
        failed_pdus.to_string()
    })?;
    let made = room
        .make(p, "make_join", &format!("@Alice:{}", p.name()), &["I.1"])
        .await?;
    ctx.check(
        "make_join for an upper-case user is refused",
        (400..500).contains(&made.status),
        || made.brief(),
    )?;
    let header = r#"X-Matrix origin="1.2.3.4",destination="x",key="ed25519:a",sig="AAAA""#;
    let reply = ctx
        .subject()
        .request(
            "GET",
            "/_matrix/federation/v2/event/x",
            &[("authorization", header)],
            None,
        )
        .await?;
    ctx.answers("a request from 1.2.3.4", &reply, 401, "M_FORBIDDEN")?;
    let body = object! { "user_id" => "@someone:1.2.3.4" };
    let reply = ctx
        .subject()
        .api(&room.creator, "POST", &room.path("/invite"), Some(&body))
        .await?;
    ctx.check(
        "an invite for a user at 1.2.3.4 is refused",
        reply.status == 400,
        || reply.brief(),
    )
}

/// 11
pub(crate) async fn slash_in_user(ctx: &Ctx) -> Checked {
    let room = HubRoom::public(ctx).await?;
    let user = format!("@a/b:{}", ctx.p().name());
    let made = room.make(ctx.p(), "make_join", &user, &["I.1"]).await?;
    ctx.answers("make_join with %2F", &made, 200, "")?;
    let state_key = text(&made.object(), "state_key").to_owned();
    ctx.check("it is for the user with the slash", state_key == user, || {
        state_key.clone()
    })?;
    let uri = format!("/_matrix/federation/v1/make_join/{}/{user}?ver=I.1", encode(&room.id));
    let reply = ctx.p().call("GET", &uri, None).await?;
    ctx.answers("make_join with a bare slash", &reply, 404, "M_UNRECOGNIZED")
}

/// 12
pub(crate) async fn case_of_names(ctx: &Ctx) -> Checked {
    let Some(upper) = other_case(ctx.subject_name()) else {
        return skipped("the subject's name has no letters");
    };
    let room = HubRoom::public(ctx).await?;
    let (p, alice) = (ctx.p(), ctx.p().user("alice"));
    room.join(p, &alice).await?;
    let event = room.event(&alice, "m.room.message", None, object! { "body" => "x" });
    let lpdu = author::seal_lpdu(event, upper.as_str(), p.signer());
    room.refused(p, &format!("hub_server {upper}"), &lpdu, Refusal::Reported)
        .await?;
    let Some((localpart, server)) = room.id.split_once(':') else {
        return failed("a room ID with a server name", room.id);
    };
    let swapped: String = localpart.chars().map(swap_case).collect();
    if swapped != localpart {
        let uri = format!(
            "/_matrix/federation/v1/make_join/{}/{}?ver=I.1",
            encode(&format!("{swapped}:{server}")),
            encode(p.user("bob").as_str())
        );
        ctx.answers(
            "the room's ID in another case",
            &p.call("GET", &uri, None).await?,
            404,
            "M_NOT_FOUND",
        )?;
    }
    let uri = "/_matrix/federation/v2/event/x";
    let request = xmatrix::Request {
        method: "GET",
        uri,
        destination: &upper,
        content: None,
    };
    let header = xmatrix::sign_request(p.signer(), &request).concat();
    let reply = ctx
        .subject()
        .request("GET", uri, &[("authorization", &header)], None)
        .await?;
    ctx.answers(&format!("a request for {upper}"), &reply, 401, "M_FORBIDDEN")
}

const fn swap_case(letter: char) -> char {
    if letter.is_ascii_lowercase() {
        letter.to_ascii_uppercase()
    } else {
        letter.to_ascii_lowercase()
    }
}

fn other_case(name: &ServerName) -> Option<ServerName> {
    let upper = ServerName::parse(&name.as_str().to_uppercase()).ok()?;
    (upper != *name).then_some(upper)
}

/// 13
pub(crate) async fn room_versions(ctx: &Ctx) -> Checked {
    let room = HubRoom::public(ctx).await?;
    let (p, alice) = (ctx.p(), ctx.p().user("alice"));
    let made = room.make(p, "make_join", alice.as_str(), &["I.1"]).await?;
    ctx.answers("make_join with ver=I.1", &made, 200, "")?;
    let made = room.make(p, "make_join", alice.as_str(), &["i.1", "I.10", "I"]).await?;
    ctx.answers("make_join with ver=i.1", &made, 400, "M_INCOMPATIBLE_ROOM_VERSION")?;
    let content = room.state_content("m.room.create").await?;
    let is_stable = text(&content, "room_version") == "I.1";
    ctx.check("a new room has version I.1", is_stable, || content.to_string())?;
    let options = object! { "join_rule" => "public", "room_version" => UNSTABLE_VERSION };
    let unstable = HubRoom::create(ctx, options).await?;
    let content = unstable.state_content("m.room.create").await?;
    let is_unstable = text(&content, "room_version") == UNSTABLE_VERSION;
    ctx.check("a room of the test version says so", is_unstable, || {
        content.to_string()
    })?;
    let made = unstable.make(p, "make_join", alice.as_str(), &["I.1"]).await?;
    ctx.answers(
        "make_join of the test version with ver=I.1",
        &made,
        400,
        "M_INCOMPATIBLE_ROOM_VERSION",
    )?;
    let made = unstable
        .make(p, "make_join", alice.as_str(), &[UNSTABLE_VERSION])
        .await?;
    ctx.answers("make_join of the test version by its name", &made, 200, "")?;
    let options = object! { "room_version" => "org.example.unknown" };
    let reply = ctx
        .subject()
        .api(&room.creator, "POST", "/rooms", Some(&options))
        .await?;
    ctx.check("no room of an unknown version is made", reply.status == 400, || {
        reply.brief()
    })
}
