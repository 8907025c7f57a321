//! Reports of abuse (MIMI #report-abuse): whose are taken, what they are worth, and what becomes of them.

use nabe_core::mimi::Evidence;
use nabe_store::{NewReport, ReportState, ReportWrite};
use nabe_wire::app_data::AppDataDictionary;
use nabe_wire::directory::Endpoint;
use nabe_wire::franking::Frank;
use nabe_wire::mls::CipherSuite;
use nabe_wire::report_abuse::{AbuseReport, AbuseType, AbusiveMessage};

use super::*;
use crate::mimi::MimiError;
use crate::mimi::testing::BELIEVED;

/// A message of this sender to this room, with a frank that the hub believes, or another one.
fn message(sender: &str, room: &str, frank: [u8; 32]) -> AbusiveMessage {
    AbusiveMessage {
        message_content: format!("{sender} {room}").into_bytes().into(),
        frank: Frank {
            server_frank: frank,
            franking_signature_ciphersuite: CipherSuite(1),
            franking_integrity_signature: b"signature"[..].into(),
        },
        accepted_timestamp: 1_000,
    }
}

fn report(reporter: &str, accused: &str, messages: Vec<AbusiveMessage>) -> AbuseReport {
    AbuseReport {
        reporting_user: identifier(reporter),
        alleged_abuser_uri: identifier(accused),
        reason_code: AbuseType::RESERVED,
        note: "rude".into(),
        messages,
        abuse_extensions: AppDataDictionary::new(),
    }
}

impl Room {
    /// Somebody hands a report to their provider.
    async fn report(&self, name: &str, report: &AbuseReport) -> Result<(), MimiError> {
        let mimi = self.providers.mimi(provider_of(name));
        let body = Bytes::from(report.to_bytes());
        mimi.forward_report(&user_of(name), &self.uri, &body).await
    }

    /// Another provider calls the hub.
    async fn report_of(&self, provider: &str, report: &AbuseReport) -> Result<(), MimiError> {
        let body = Bytes::from(report.to_bytes());
        let hub = self.providers.mimi("a");
        hub.report_abuse(&server(provider), &self.uri, &body, report).await
    }

    async fn open_reports(&self) -> Vec<crate::mimi::Report> {
        let hub = self.providers.mimi("a");
        hub.reports(0, Some(ReportState::Open), usize::MAX).await.unwrap()
    }
}

#[tokio::test]
async fn a_report_is_taken_once_and_stays_until_it_is_decided_about() {
    let mut room = Room::of_three().await;
    let about_bob = report(CATHY, BOB, vec![message(BOB, ROOM, BELIEVED)]);
    for _ in 0..2 {
        room.report("cathy", &about_bob).await.unwrap();
    }
    assert_eq!(room.providers.made("a", Endpoint::ReportAbuse).len(), 2, "by way of c");
    room.providers.crash("a").await;
    let [kept] = &room.open_reports().await[..] else {
        panic!("one report");
    };
    assert_eq!(kept.report, about_bob);
    assert!(kept.kept.is_verified());
    let provider = &kept.kept.report.provider;
    assert_eq!((&kept.kept.report.room, provider), (&room.uri, &server("c")));

    let hub = room.providers.mimi("a");
    let number = kept.kept.number;
    let remark = "spoke with Bob".to_owned();
    let decided = hub.decide_report(number, ReportState::Resolved, remark.clone()).await;
    let decided = decided.unwrap().kept;
    assert_eq!((decided.state, &decided.remark), (ReportState::Resolved, &remark));
    assert!(decided.decided.is_some() && room.open_reports().await.is_empty());
    let unknown = hub.decide_report(number + 1, ReportState::Resolved, remark).await;
    assert!(matches!(unknown, Err(MimiError::Unknown("report"))), "{unknown:?}");
    // The same again does not open it, and after a while it is forgotten.
    room.report("cathy", &about_bob).await.unwrap();
    assert!(room.open_reports().await.is_empty());
    room.providers.advance(std::time::Duration::from_hours(24 * 91));
    hub.forget_what_is_old().await;
    assert_eq!(hub.reports(0, None, usize::MAX).await.unwrap(), []);
}

/// Conformance case 72: whatever is altered, the report is taken, and is no evidence.
#[tokio::test]
async fn what_is_no_evidence_is_taken_and_said_to_be_none() {
    let room = Room::of_three().await;
    let elsewhere = "mimi://a.example/r/cellar";
    let messages = vec![
        message(BOB, ROOM, BELIEVED),
        message(BOB, ROOM, [8; 32]),
        message(ALICE, ROOM, BELIEVED),
        message(BOB, elsewhere, BELIEVED),
    ];
    room.report("cathy", &report("", BOB, messages)).await.unwrap();
    room.report("alice", &report(ALICE, BOB, Vec::new())).await.unwrap();
    let kept = room.open_reports().await;
    let evidence: Vec<_> = kept.iter().map(|it| it.kept.report.evidence.clone()).collect();
    let of_first = vec![
        Evidence::Genuine,
        Evidence::OtherFrank,
        Evidence::OtherSender,
        Evidence::OtherRoom,
    ];
    assert_eq!(evidence, [of_first, Vec::new()]);
    assert!(kept.iter().all(|it| !it.kept.is_verified()));
    assert_eq!(kept[1].kept.report.provider, server("a"), "the hub's own user");
}

#[tokio::test]
async fn whoever_is_accused_may_be_written_with_another_case_of_the_host() {
    let room = Room::of_three().await;
    let messages = vec![message(BOB, ROOM, BELIEVED)];
    let report = report(ALICE, "mimi://B.Example/u/bob", messages);
    room.report("alice", &report).await.unwrap();
    let kept = room.open_reports().await;
    assert_eq!(kept[0].kept.report.evidence, [Evidence::Genuine]);
}

#[tokio::test]
async fn reports_come_from_those_who_take_part() {
    let room = Room::of_three().await;
    let good = || report(CATHY, BOB, vec![message(BOB, ROOM, BELIEVED)]);
    let not_theirs = |answer| match answer {
        Err(MimiError::NotTheirs { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        not_theirs(room.report_of("d", &report("", BOB, Vec::new())).await),
        "the room"
    );
    assert_eq!(not_theirs(room.report_of("b", &good()).await), "the reporter");
    let stranger = report("mimi://c.example/u/chris", BOB, Vec::new());
    let forbidden = room.report_of("c", &stranger).await;
    assert!(matches!(forbidden, Err(MimiError::Forbidden(_))), "{forbidden:?}");
    let many = report(CATHY, BOB, vec![message(BOB, ROOM, BELIEVED); 33]);
    let nobody = report(CATHY, ROOM, Vec::new());
    for (report, at_fault) in [(many, "messages"), (nobody, "allegedAbuserUri")] {
        let invalid = room.report_of("c", &report).await;
        let is_it = matches!(&invalid, Err(MimiError::Invalid { field, .. }) if *field == at_fault);
        assert!(is_it, "{invalid:?}");
    }
    // What a user's own provider sees to.
    let in_anothers_name = room.report("cathy", &report(BOB, ALICE, Vec::new())).await;
    assert!(
        matches!(in_anothers_name, Err(MimiError::Invalid { .. })),
        "{in_anothers_name:?}"
    );
    let outside = room.report("dave", &report("", ALICE, Vec::new())).await;
    assert!(matches!(outside, Err(MimiError::Unknown("room"))), "{outside:?}");
    let cellar = MimiUri::parse("mimi://a.example/r/cellar").unwrap();
    let body = Bytes::from(good().to_bytes());
    let hub = room.providers.mimi("a");
    let nowhere = hub.report_abuse(&server("c"), &cellar, &body, &good()).await;
    assert!(matches!(nowhere, Err(MimiError::Unknown("room"))), "{nowhere:?}");
    assert!(room.open_reports().await.is_empty());
}

#[tokio::test]
async fn a_provider_whose_reports_nobody_has_decided_about_has_to_wait() {
    let room = Room::of_three().await;
    let put = |number: u32| {
        let body = Bytes::from(report("", BOB, Vec::new()).to_bytes());
        let report = NewReport {
            room: room.uri.clone(),
            provider: server("c"),
            body_sha256: [&[0; 28][..], &number.to_be_bytes()].concat().try_into().unwrap(),
            body,
            evidence: Vec::new(),
            received: UnixMillis::ZERO,
        };
        Write::Mimi(MimiWrite::Report(ReportWrite::Put { report }))
    };
    let hub = room.providers.mimi("a");
    hub.service.commit((0..1_000).map(put).collect()).await.unwrap();
    let one_more = report("", ALICE, Vec::new());
    let refused = room.report_of("c", &one_more).await;
    assert!(matches!(refused, Err(MimiError::LimitExceeded { .. })), "{refused:?}");
    room.report_of("b", &one_more).await.unwrap();
    let first = room.open_reports().await[0].kept.number;
    hub.decide_report(first, ReportState::Dismissed, String::new())
        .await
        .unwrap();
    room.report_of("c", &one_more).await.unwrap();
}

fn is_told_to_wait(answer: &Result<(), MimiError>) -> bool {
    matches!(answer, Err(MimiError::LimitExceeded { .. }))
}

/// The number-th report by this user.
fn one_of_many(reporter: &str, number: u32) -> AbuseReport {
    AbuseReport {
        note: format!("rude for the {number}. time").as_str().into(),
        ..report(reporter, BOB, Vec::new())
    }
}

#[tokio::test]
async fn one_user_does_not_use_up_what_their_provider_may_report() {
    let room = Room::of_three().await;
    for number in 0..20 {
        room.report_of("c", &one_of_many(CATHY, number)).await.unwrap();
    }
    let too_many = room.report_of("c", &one_of_many(CATHY, 20)).await;
    assert!(is_told_to_wait(&too_many), "{too_many:?}");
    room.report_of("c", &one_of_many("", 20)).await.unwrap();
    room.report_of("b", &one_of_many(BOB, 20)).await.unwrap();
    let first = room.open_reports().await[0].kept.number;
    let hub = room.providers.mimi("a");
    hub.decide_report(first, ReportState::Dismissed, String::new())
        .await
        .unwrap();
    room.report_of("c", &one_of_many(CATHY, 20)).await.unwrap();
    let too_many = room.report_of("c", &one_of_many(CATHY, 21)).await;
    assert!(is_told_to_wait(&too_many), "{too_many:?}");
}

/// Also of those in which they do not say who they are, and whoever the hub is.
#[tokio::test]
async fn a_user_hands_in_so_many_reports_a_day() {
    let room = Room::of_three().await;
    for user in ["cathy", "alice"] {
        for number in 0..20 {
            room.report(user, &one_of_many("", number)).await.unwrap();
        }
        let too_many = room.report(user, &one_of_many("", 20)).await;
        assert!(is_told_to_wait(&too_many), "{user}: {too_many:?}");
    }
    room.report("bob", &one_of_many("", 20)).await.unwrap();
    assert_eq!(
        room.providers.made("a", Endpoint::ReportAbuse).len(),
        21,
        "of cathy and bob"
    );
    room.providers.advance(std::time::Duration::from_hours(24) / 20);
    for user in ["cathy", "alice"] {
        room.report(user, &one_of_many("", 20)).await.unwrap();
        let too_many = room.report(user, &one_of_many("", 21)).await;
        assert!(is_told_to_wait(&too_many), "{user}: {too_many:?}");
    }
}
