//! The conformance cases of `crates/check`, run over the wire against a `nabe serve` process.

#![expect(clippy::unwrap_used, reason = "this is test code")]

mod common;

use nabe_check::{Authority, CheckerConfig, Filter, SubjectConfig, Suite, Verdict};

/// Runs a whole suite; every case must pass, but for those that cannot be run here.
async fn conforms(suite: Suite, cannot_be_run: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let server = common::Folder::init(folder.path(), "subject.localhost");
    let read = |file: &str| std::fs::read_to_string(server.path.join(file)).unwrap();
    // The checker's servers are `localhost:PORT`.
    let mut serving = server.serve_with(
        &[],
        &[("NABE_FEDERATION__ALLOWED_IP_RANGES", "[\"127.0.0.0/8\", \"::1/128\"]")],
    );
    server.client().wait_until_ready().await;
    let subject = SubjectConfig {
        base_url: "https://subject.localhost".into(),
        address: Some(server.address),
        server_name: server.name.clone(),
        ca_pem: read("ca.pem"),
        provider_token: read("provider.token").trim().to_owned(),
    };
    let authority = Authority::from_pem(&read("ca.pem"), &read("ca.key")).unwrap();
    let checker = CheckerConfig::loopback(authority);
    let report = nabe_check::run(suite, &Filter::all(), &subject, &checker)
        .await
        .unwrap();
    println!("{report}");
    let failed: Vec<_> = report
        .results
        .iter()
        .filter(|result| matches!(result.verdict, Verdict::Fail))
        .map(|result| result.id)
        .collect();
    assert!(failed.is_empty(), "failed: {failed:?}");
    let skipped: Vec<_> = report
        .results
        .iter()
        .filter(|result| matches!(result.verdict, Verdict::Skipped { .. }))
        .map(|result| result.id)
        .collect();
    assert_eq!(skipped, cannot_be_run, "these cases were skipped");
    assert!(serving.is_running(), "the subject must survive its checks");
}

#[tokio::test(flavor = "multi_thread")]
async fn nabe_conforms_as_hub() {
    conforms(Suite::Hub, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nabe_conforms_as_participant() {
    conforms(Suite::Participant, &["lm-72"]).await;
}
