//! Reports of abuse.

use bytes::Bytes;
use nabe_core::mimi::{Evidence, MimiUri};

use super::fixture::{at, commit, server};
use crate::{KeptReport, MimiWrite, NewReport, OpenReports, ReportState, ReportWrite, Store, Write};

fn report(provider: &str, room: &str, body: &'static [u8]) -> NewReport {
    NewReport {
        room: MimiUri::parse(&format!("mimi://hub.example/r/{room}")).unwrap(),
        provider: server(provider),
        body: Bytes::from_static(body),
        body_sha256: [body[0]; 32],
        evidence: vec![Evidence::Genuine, Evidence::OtherSender],
        received: at(7),
    }
}

async fn put(store: &dyn Store, writes: impl IntoIterator<Item = ReportWrite>) {
    let writes = writes.into_iter().map(|write| Write::Mimi(MimiWrite::Report(write)));
    commit(store, writes).await.unwrap();
}

fn decide(number: i64, state: ReportState, now: u64) -> ReportWrite {
    ReportWrite::Decide {
        number,
        state,
        remark: format!("{state} it is"),
        now: at(now),
    }
}

/// The same of the same provider about the same room is one report. What was decided goes after a while, what was not never.
pub async fn reports_are_kept_once_and_decided(store: &dyn Store) {
    let [first, second] = [report("b.example", "a", b"1"), report("c.example", "a", b"1")];
    let third = NewReport {
        evidence: Vec::new(),
        ..report("b.example", "b", b"1")
    };
    let all = [
        first.clone(),
        first.clone(),
        second.clone(),
        third.clone(),
        second.clone(),
    ];
    put(store, all.map(|report| ReportWrite::Put { report })).await;
    let list = |after, only| async move { store.reports(after, only, 10).await.unwrap() };
    let kept = list(0, None).await;
    let came: Vec<_> = kept.iter().map(|kept| kept.report.clone()).collect();
    assert_eq!(came, [first, second, third]);
    assert!(
        kept.iter()
            .all(|kept| kept.state == ReportState::Open && kept.decided.is_none())
    );
    let [one, two, three] = [0, 1, 2].map(|index: usize| kept[index].number);
    assert!(one < two && two < three);
    assert_eq!(list(one, None).await, kept[1..]);
    assert_eq!(store.reports(0, None, 1).await.unwrap(), kept[..1]);

    put(
        store,
        [
            decide(one, ReportState::Resolved, 10),
            decide(two, ReportState::Dismissed, 20),
        ],
    )
    .await;
    put(store, [decide(three + 1, ReportState::Resolved, 10)]).await;
    let resolved = KeptReport {
        state: ReportState::Resolved,
        decided: Some(at(10)),
        remark: "resolved it is".to_owned(),
        ..kept[0].clone()
    };
    assert_eq!(store.report(one).await.unwrap(), Some(resolved.clone()));
    assert_eq!(list(0, Some(ReportState::Resolved)).await, [resolved]);
    assert_eq!(list(0, Some(ReportState::Open)).await, kept[2..]);
    // It turns out that it was not resolved.
    put(store, [decide(one, ReportState::Open, 30)]).await;
    let decided_before = at(21);
    put(store, [ReportWrite::Forget { decided_before }]).await;
    let left: Vec<_> = list(0, None)
        .await
        .iter()
        .map(|kept| (kept.number, kept.decided))
        .collect();
    assert_eq!(left, [(one, None), (three, None)]);
    assert_eq!(store.report(two).await.unwrap(), None);
}

/// By number and by bytes, all of them or those that begin alike.
pub async fn open_reports_of_a_provider_are_counted(store: &dyn Store) {
    let beginning = |provider, prefix| async move { store.open_reports(&server(provider), prefix).await.unwrap() };
    let open = |provider| beginning(provider, b"");
    assert_eq!(open("b.example").await, OpenReports::default());
    let reports = [
        report("b.example", "a", b"one"),
        report("b.example", "a", b"and another"),
        report("c.example", "a", b"third"),
    ];
    put(store, reports.map(|report| ReportWrite::Put { report })).await;
    assert_eq!(open("b.example").await, OpenReports { count: 2, bytes: 14 });
    let of_one = OpenReports { count: 1, bytes: 11 };
    assert_eq!(beginning("b.example", b"and").await, of_one);
    assert_eq!(beginning("b.example", b"and another").await, of_one);
    for no_prefix in [&b"nd"[..], b"and another one", b"third"] {
        assert_eq!(beginning("b.example", no_prefix).await, OpenReports::default());
    }
    let first = store.reports(0, None, 1).await.unwrap()[0].number;
    put(store, [decide(first, ReportState::Dismissed, 9)]).await;
    assert_eq!(open("b.example").await, OpenReports { count: 1, bytes: 11 });
    assert_eq!(open("c.example").await, OpenReports { count: 1, bytes: 5 });
}
