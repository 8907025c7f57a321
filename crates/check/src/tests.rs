//! The harness checks itself: one of our servers plays the hub, another the participant, over TLS on loopback. What matters
//! is that the checks can fail.

mod mimi;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use nabe_event::event_id_of;
use nabe_signing::json::{Json, Object};
use nabe_signing::object;
use nabe_types::ServerName;
use tokio::net::TcpListener;

use crate::author::{Stamp, rewritten, seal_lpdu};
use crate::basis::Basis;
use crate::case::{Checked, Stop};
use crate::cases;
use crate::context::{Ctx, list, member, text};
use crate::hosted::Hosted;
use crate::hub_room::{HubRoom, Refusal};
use crate::participant_room::ParticipantRoom;
use crate::peer::{Answer, Endpoint, Gate, Peer, error};
use crate::subject::Subject;
use crate::{Authority, CaseResult, CheckerConfig, Filter, Report, SubjectConfig, Suite, Verdict, run};

/// A hub and a participant that know each other. The checks take the hub for the subject.
struct Two {
    hub: Peer,
    participant: Peer,
    ctx: Ctx,
    config: SubjectConfig,
    authority: Authority,
}

async fn two() -> Two {
    let authority = Authority::generate().unwrap();
    let mut listeners = Vec::new();
    let mut configs = Vec::new();
    for _ in 0..2 {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        configs.push(SubjectConfig {
            base_url: format!("https://localhost:{}", address.port()),
            address: Some(address),
            server_name: ServerName::parse(&format!("localhost:{}", address.port())).unwrap(),
            ca_pem: authority.certificate_pem().to_owned(),
            provider_token: "token".to_owned(),
            mimi: None,
        });
        listeners.push(listener);
    }
    let subjects: Vec<Subject> = configs.iter().map(|config| Subject::new(config).unwrap()).collect();
    let mut listeners = listeners.into_iter();
    let mut start = |own: usize, other: usize| {
        let tls = authority.server_config("localhost").unwrap();
        let (name, listener) = (configs[own].server_name.clone(), listeners.next().unwrap());
        Peer::start(name, listener, tls, &[7; 32], subjects[other].clone())
    };
    let (hub, participant) = (start(0, 1), start(1, 0));
    let deadline = Duration::from_secs(5);
    let ctx = Ctx::new(subjects[0].clone(), vec![participant.clone()], deadline);
    Two {
        hub,
        participant,
        ctx,
        config: configs.remove(0),
        authority,
    }
}

impl Two {
    /// A room at the hub, as the hub's cases see it.
    fn room(&self) -> HubRoom<'_> {
        let id = format!("!room:{}", self.hub.name());
        let creator = self.hub.user("creator");
        let mut room = Hosted::new(id.clone(), Arc::clone(self.hub.signer()));
        let join = object! { "membership" => "join" };
        room.own(
            "m.room.create",
            Some(""),
            creator.as_str(),
            object! { "room_version" => "I.1" },
        );
        room.own("m.room.member", Some(creator.as_str()), creator.as_str(), join);
        room.own(
            "m.room.join_rules",
            Some(""),
            creator.as_str(),
            object! { "join_rule" => "public" },
        );
        self.hub.host(room);
        HubRoom {
            ctx: &self.ctx,
            id,
            creator,
        }
    }
}

fn is_failure<T>(checked: &Checked<T>) -> bool {
    matches!(checked, Err(Stop::Failed { .. }))
}

async fn verifies(two: &Two, pdu: &Object) -> Checked {
    cases::hub::format::verifies(&two.ctx, &two.participant, pdu).await
}

#[tokio::test]
async fn an_honest_hub_passes() {
    let two = two().await;
    let (room, alice) = (two.room(), two.participant.user("alice"));
    let joined = room.join(&two.participant, &alice).await.unwrap();
    assert_eq!(list(&joined, "state").len(), 3);
    verifies(&two, &member(&joined, "event")).await.unwrap();
    let lpdu = room.message(&two.participant, &alice, "hello");
    let echo = room.accepted(&two.participant, &lpdu).await.unwrap();
    assert_eq!(text(&echo, "hub_server"), two.hub.name().as_str());
    assert_eq!(
        echo.get("prev_events"),
        Some(&Json::from(vec![event_id_of(&member(&joined, "event")).as_str()]))
    );
    verifies(&two, &echo).await.unwrap();
    let again = room.accepted(&two.participant, &lpdu).await.unwrap();
    assert_eq!(again, echo);
}

#[tokio::test]
async fn a_tampered_echo_is_flagged() {
    let two = two().await;
    let (room, alice) = (two.room(), two.participant.user("alice"));
    room.join(&two.participant, &alice).await.unwrap();
    let (hub, id) = (two.hub.clone(), room.id.clone());
    two.hub.on(Endpoint::Send, move |request| {
        let lpdu = request
            .member("pdus")
            .and_then(Json::as_array)
            .and_then(|pdus| pdus[0].as_object().cloned());
        let mut pdu = hub.with_room(&id, |room| room.complete_and_append(lpdu.unwrap()));
        pdu.insert("content", object! { "body" => "what the hub made of it" });
        hub.push(pdu);
        Answer::Json(200, object! { "failed_pdus" => Object::new() }.into())
    });
    let lpdu = room.message(&two.participant, &alice, "hello");
    let echo = room.accepted(&two.participant, &lpdu).await.unwrap();
    assert!(is_failure(&verifies(&two, &echo).await));
}

#[tokio::test]
async fn an_echo_with_a_bad_signature_is_flagged() {
    let two = two().await;
    let (room, alice) = (two.room(), two.participant.user("alice"));
    room.join(&two.participant, &alice).await.unwrap();
    let lpdu = room.message(&two.participant, &alice, "hello");
    let mut echo = room.accepted(&two.participant, &lpdu).await.unwrap();
    let mut signatures = member(&echo, "signatures");
    signatures.remove(two.hub.name().as_str());
    echo.insert("signatures", signatures);
    assert!(is_failure(&verifies(&two, &echo).await));
}

#[tokio::test]
async fn a_refused_event_is_flagged_where_it_should_be_accepted() {
    let two = two().await;
    let (room, alice) = (two.room(), two.participant.user("alice"));
    let lpdu = room.message(&two.participant, &alice, "hello");
    let refused = object! { event_id_of(&lpdu).as_str() => object! { "error" => "no" } };
    two.hub.on(Endpoint::Send, move |_| {
        Answer::Json(200, object! { "failed_pdus" => refused.clone() }.into())
    });
    assert!(is_failure(&room.accepted(&two.participant, &lpdu).await));
    two.hub.on(Endpoint::Send, |_| Answer::Json(200, Object::new().into()));
    assert!(
        is_failure(&room.submit(&two.participant, &[&lpdu]).await),
        "no failed_pdus"
    );
    two.hub.on(Endpoint::Send, |_| Answer::Json(500, error("M_UNKNOWN")));
    assert!(is_failure(&room.submit(&two.participant, &[&lpdu]).await), "status 500");
}

#[tokio::test]
async fn what_never_comes_ends_at_the_deadline() {
    let two = two().await;
    let stamp = Stamp::of(
        &two.room()
            .message(&two.participant, &two.participant.user("alice"), "x"),
    )
    .unwrap();
    let waited = two.participant.received_event(Duration::from_millis(100), &stamp).await;
    assert!(is_failure(&waited));
}

#[tokio::test]
async fn an_answer_waits_for_its_gate() {
    let two = two().await;
    let room = two.room();
    let gate = Gate::closed();
    let held = gate.clone();
    two.hub
        .on(Endpoint::MakeJoin, move |_| Answer::UsualAfter(held.clone()));
    let (participant, alice) = (two.participant.clone(), two.participant.user("alice"));
    let uri = format!("/_matrix/federation/v1/make_join/{}/{alice}?ver=I.1", room.id);
    let asked = tokio::spawn(async move { participant.call("GET", &uri, None).await });
    let arrived = |inbox: &[crate::peer::Recorded]| {
        inbox
            .iter()
            .any(|request| request.endpoint == Endpoint::MakeJoin)
            .then_some(())
    };
    two.hub
        .received(Duration::from_secs(5), "make_join", arrived)
        .await
        .unwrap();
    assert!(!asked.is_finished());
    gate.open();
    assert_eq!(asked.await.unwrap().unwrap().status, 200);
}

#[tokio::test]
async fn a_hosted_room_serves_state_and_history() {
    let two = two().await;
    let (room, alice) = (two.room(), two.participant.user("alice"));
    let joined = room.join(&two.participant, &alice).await.unwrap();
    let join = event_id_of(&member(&joined, "event"));
    let all = room
        .backfill(&two.participant, join.as_str(), "100")
        .await
        .unwrap()
        .object();
    assert_eq!(list(&all, "pdus").len(), 4);
    let one = room
        .backfill(&two.participant, join.as_str(), "1")
        .await
        .unwrap()
        .object();
    assert_eq!(list(&one, "pdus"), vec![member(&joined, "event")]);
    cases::hub::history::is_closed(&two.ctx, &list(&joined, "state"), &list(&joined, "auth_chain")).unwrap();
    let shorter = &list(&joined, "auth_chain")[1..];
    assert!(is_failure(&cases::hub::history::is_closed(
        &two.ctx,
        &list(&joined, "state"),
        shorter
    )));
    let unknown = room.backfill(&two.participant, "$unknown", "1").await.unwrap();
    assert_eq!(
        (unknown.status, unknown.errcode().as_deref()),
        (404, Some("M_NOT_FOUND"))
    );
}

#[tokio::test]
async fn an_lpdu_for_another_hub_is_not_taken_for_the_same() {
    let two = two().await;
    let room = two.room();
    let event = room.event(&two.participant.user("alice"), "m.room.message", None, Object::new());
    let here = seal_lpdu(event.clone(), two.hub.name().as_str(), two.participant.signer());
    let there = seal_lpdu(event, "elsewhere.example", two.participant.signer());
    assert_ne!(event_id_of(&here), event_id_of(&there));
    assert_eq!(Stamp::of(&here), Stamp::of(&there));
}

#[tokio::test]
async fn a_room_of_the_participant_suite_is_well_formed() {
    let two = two().await;
    let room = ParticipantRoom::create(&two.ctx, "public");
    // Its hub is the participant of this test.
    let keys = two.ctx.keys_with(&[two.participant.signer()]).await.unwrap();
    let log = room.with_room(|hosted| hosted.log().to_vec());
    assert_eq!(log.len(), 4);
    for listed in &log {
        let raw = nabe_event::RawEvent::from_json(listed.event.clone(), crate::hub_room::RULES).unwrap();
        assert!(!raw.verify_pdu(&keys).unwrap().was_redacted());
    }
    assert_eq!(
        log[2].event.get("auth_events"),
        Some(&Json::from(vec![log[0].id.as_str(), log[1].id.as_str()]))
    );
}

#[tokio::test]
async fn a_timeline_that_fails_does_not_prove_that_an_event_is_not_shown() {
    let two = two().await;
    let room = ParticipantRoom::create(&two.ctx, "public");
    let event = room.own("m.room.message", None, object! { "body" => "x" });
    let not_shown = async |status| {
        two.hub
            .on(Endpoint::Other, move |_| Answer::Json(status, error("M_UNKNOWN")));
        room.not_shown("an event", &event).await
    };
    for status in [403, 404] {
        not_shown(status).await.unwrap();
    }
    for status in [400, 401, 429, 500, 503] {
        assert!(is_failure(&not_shown(status).await), "{status}");
    }
    let mut shown = event.clone();
    shown.insert("event_id", event_id_of(&event).as_str());
    two.hub.on(Endpoint::Other, move |_| {
        Answer::Json(200, object! { "events" => vec![Json::from(shown.clone())] }.into())
    });
    assert!(is_failure(&room.not_shown("an event", &event).await));
}

#[tokio::test]
async fn a_stream_that_ends_too_early_is_flagged() {
    let two = two().await;
    let user = two.hub.user("alice");
    two.hub.on(Endpoint::Other, |_| {
        Answer::Text(200, "text/event-stream", "data: this".into())
    });
    two.ctx.stream_until(&user, "CHECK", "this").await.unwrap();
    assert!(is_failure(&two.ctx.stream_until(&user, "CHECK", "that").await));
}

#[test]
fn what_cannot_be_written_otherwise_is_flagged() {
    let body = Json::from(object! { "a" => 50 });
    assert_eq!(rewritten(&body, "50", "5e1").unwrap(), br#"{"a":5e1}"#);
    assert!(is_failure(&rewritten(&body, "50.0", "5e1")));
}

/// A hub of ours is no complete server: it publishes keys as it should and knows no 405.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_tells_right_from_wrong() {
    let two = two().await;
    let mut checker = CheckerConfig::loopback(two.authority.clone());
    checker.deadline = Duration::from_secs(2);
    let report = run(Suite::Hub, &Filter::parse("lm-54, lm-53"), &two.config, &checker)
        .await
        .unwrap();
    let verdicts: Vec<_> = report
        .results
        .iter()
        .map(|result| (result.id, result.verdict.clone()))
        .collect();
    assert_eq!(
        verdicts,
        vec![("lm-53", Verdict::Fail), ("lm-54", Verdict::Pass)],
        "{report}"
    );
    let report = run(Suite::Participant, &Filter::parse("lm-72"), &two.config, &checker)
        .await
        .unwrap();
    assert_eq!((report.passed(), report.failed(), report.skipped()), (0, 0, 1));
}

#[test]
fn filters_choose_by_id_and_beginning() {
    assert!(Filter::all().wants("lm-14"));
    assert!(Filter::parse("lm-14, lm-x*").wants("lm-14"));
    assert!(Filter::parse("lm-14, lm-x*").wants("lm-x3"));
    assert!(!Filter::parse("lm-14, lm-x*").wants("lm-14p"));
}

#[test]
fn case_ids_are_unique_and_cite_existing_requirements() {
    let mut seen = BTreeSet::new();
    for case in cases::all() {
        assert!(seen.insert(case.id), "{} is there twice", case.id);
        assert!(!case.requirements.is_empty(), "{} cites nothing", case.id);
        for requirement in case.requirements {
            let basis = Basis::of(requirement);
            assert!(basis.is_some(), "{} cites the unknown {requirement}", case.id);
        }
    }
}

#[test]
fn a_report_reads_as_text_and_as_json() {
    let result = |id, verdict| CaseResult {
        id,
        title: "a title",
        requirements: &["LM-send-checks"],
        basis: Basis::of("LM-send-checks").into_iter().collect(),
        sent: "this".to_owned(),
        expected: "that".to_owned(),
        got: "something else".to_owned(),
        verdict,
        ms: 5,
    };
    let reason = "no reason".to_owned();
    let report = Report {
        results: vec![
            result("lm-1", Verdict::Pass),
            result("lm-2", Verdict::Fail),
            result("lm-3", Verdict::Skipped { reason }),
        ],
    };
    let expected = [
        "pass  lm-1     a title (5 ms)",
        "FAIL  lm-2     a title (5 ms)",
        "      sent      this",
        "      expected  that",
        "      got       something else",
        "      see       LM-send-checks (LM #int-api-send-txn STATED)",
        "skip  lm-3     a title: no reason",
        "1 passed, 1 failed, 1 skipped",
        "",
    ];
    assert_eq!(report.to_string(), expected.join("\n"));
    let json = report.to_json();
    assert_eq!(json["failed"], 1);
    assert_eq!(json["results"][1]["verdict"], "fail");
    assert_eq!(json["results"][2]["reason"], "no reason");
}

/// Gives the hub as much of a client API as the hub's cases need to see whether an event is in a room: the creator posts,
/// and reads the timeline and the members.
fn serve_clients(hub: &Peer, id: &str, creator: &str) {
    let (peer, id, creator) = (hub.clone(), id.to_owned(), creator.to_owned());
    hub.on(Endpoint::Other, move |request| {
        let path = request.uri.split('?').next().unwrap_or_default();
        if request.method == "POST" {
            let content = request
                .member("content")
                .and_then(Json::as_object)
                .cloned()
                .unwrap_or_default();
            let pdu = peer.with_room(&id, |room| room.own("m.room.message", None, &creator, content));
            peer.push(pdu.clone());
            return Answer::Json(200, object! { "event_id" => event_id_of(&pdu) }.into());
        }
        let shown = peer.with_room(&id, |room| {
            let log = room.log().iter().rev();
            log.map(|listed| {
                let mut event = listed.event.clone();
                event.insert("event_id", &listed.id);
                Json::from(event)
            })
            .collect::<Vec<_>>()
        });
        let key = if path.ends_with("/members") {
            "members"
        } else {
            "events"
        };
        Answer::Json(200, object! { key => shown }.into())
    });
}

/// Answers a transaction with this event in `failed_pdus`, or nothing.
fn failing(lpdu: Option<&Object>) -> Json {
    let failed: Object = lpdu
        .map(|lpdu| (event_id_of(lpdu).as_str().to_owned(), object! { "error" => "no" }))
        .into_iter()
        .collect();
    object! { "failed_pdus" => failed }.into()
}

#[tokio::test]
async fn refusing_means_neither_appending_nor_sending_nor_saying_otherwise() {
    let two = two().await;
    let (room, alice) = (two.room(), two.participant.user("alice"));
    room.join(&two.participant, &alice).await.unwrap();
    serve_clients(&two.hub, &room.id, room.creator.as_str());
    let refused = async |what: &str, lpdu: &Object, how| room.refused(&two.participant, what, lpdu, how).await;

    let lpdu = room.message(&two.participant, &alice, "refused");
    let answer = failing(Some(&lpdu));
    two.hub.on(Endpoint::Send, move |_| Answer::Json(200, answer.clone()));
    refused("an honest refusal", &lpdu, Refusal::Reported).await.unwrap();
    assert!(is_failure(
        &refused("a report where silence is due", &lpdu, Refusal::Silent).await
    ));

    two.hub.on(Endpoint::Send, |_| Answer::Json(200, failing(None)));
    refused("an honest drop", &lpdu, Refusal::Silent).await.unwrap();
    assert!(is_failure(
        &refused("silence where a report is due", &lpdu, Refusal::Reported).await
    ));

    let sent_only = room.message(&two.participant, &alice, "sent, not appended");
    let (hub, id) = (two.hub.clone(), room.id.clone());
    two.hub.on(Endpoint::Send, move |request| {
        let pdus = request.member("pdus").and_then(Json::as_array).unwrap_or_default();
        let lpdu = pdus[0].as_object().cloned().unwrap();
        hub.push(hub.with_room(&id, |room| room.completed(lpdu)));
        Answer::Json(200, failing(None))
    });
    let before = two.participant.received_pdus().len();
    assert!(is_failure(
        &refused("sent to somebody", &sent_only, Refusal::Either).await
    ));
    assert!(two.participant.received_pdus().len() >= before);

    let appended = room.message(&two.participant, &alice, "appended");
    two.hub.on(Endpoint::Send, |_| Answer::Usual);
    assert!(is_failure(&refused("appended", &appended, Refusal::Either).await));
}
