//! The conformance cases of `crates/check`, run over the wire against a `nabe serve` process.

#![expect(clippy::unwrap_used, reason = "this is test code")]

mod common;

use nabe_check::{
    Authority, CheckerConfig, Filter, FixedPeer, MimiSubjectConfig, Report, SubjectConfig, Suite, Verdict,
};
use nabe_types::ServerName;

const NAME: &str = "subject.localhost";

/// Runs a whole suite; every case must pass, but for those that cannot be run here.
async fn conforms(suite: Suite, cannot_be_run: &[&str]) {
    let report = conforms_with(suite, &Filter::all(), &[], cannot_be_run).await;
    println!("{report}");
}

/// Runs these cases against a server with more options.
async fn conforms_with(suite: Suite, cases: &Filter, environment: &[(&str, &str)], cannot_be_run: &[&str]) -> Report {
    let is_mimi = matches!(suite, Suite::MimiHub | Suite::MimiFollower);
    let folder = tempfile::tempdir().unwrap();
    let options: &[&str] = if is_mimi { &["--mimi", NAME] } else { &[] };
    let server = common::Folder::init_with(folder.path(), NAME, options);
    let read = |file: &str| std::fs::read_to_string(server.path.join(file)).unwrap();
    // Providers of MIMI have no port in their names, so they are where the subject is told they are.
    let mimi_peers = ["b.localhost", "c.localhost"].map(|name| FixedPeer {
        server_name: ServerName::parse(name).unwrap(),
        listen: common::free_address(),
    });
    let overrides = mimi_peers
        .each_ref()
        .map(|peer| format!("\"{}\" = \"{}\"", peer.server_name, peer.listen));
    let overrides = format!("{{ {} }}", overrides.join(", "));
    let mimi_address = common::free_address();
    let mimi_address_text = mimi_address.to_string();
    // The checker's servers are `localhost:PORT`.
    let ranges = ("NABE_FEDERATION__ALLOWED_IP_RANGES", "[\"127.0.0.0/8\", \"::1/128\"]");
    let serve = || match is_mimi {
        false => server.serve_with(&[], &[&[ranges], environment].concat()),
        true => {
            let of_mimi = [
                ("NABE_MIMI__ADDRESS", &*mimi_address_text),
                ("NABE_MIMI__OVERRIDES", &overrides),
                ("NABE_MIMI__ONLY_CA_FILES", "true"),
                ("NABE_MIMI__ASSET_HOSTS", "[\"b.localhost\"]"),
                ("NABE_MIMI__OHTTP", "true"),
            ];
            server.serve_with(&[], &[&of_mimi, environment].concat())
        }
    };
    let mut serving = serve();
    let number = folder.path().join("pid");
    std::fs::write(&number, serving.id().to_string()).unwrap();
    server.client().wait_until_ready().await;
    let subject = SubjectConfig {
        base_url: format!("https://{NAME}"),
        address: Some(server.address),
        server_name: server.name.clone(),
        ca_pem: read("ca.pem"),
        provider_token: read("provider.token").trim().to_owned(),
        mimi: is_mimi.then(|| MimiSubjectConfig {
            domain: server.name.clone(),
            address: Some(mimi_address),
        }),
    };
    let authority = Authority::from_pem(&read("ca.pem"), &read("ca.key")).unwrap();
    let mut checker = CheckerConfig::loopback(authority);
    if is_mimi {
        checker.mimi_peers = mimi_peers.into();
        checker.restart_command = Some(format!("kill -9 \"$(cat '{}')\"", number.display()));
    }
    // As an operator's supervisor does. Another process's end is nothing to wait on here.
    let mut restarts = 0;
    let supervised = async {
        loop {
            if !serving.is_running() {
                restarts += 1;
                serving = serve();
                std::fs::write(&number, serving.id().to_string()).unwrap();
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    let report = tokio::select! {
        report = nabe_check::run(suite, cases, &subject, &checker) => report.unwrap(),
        () = supervised => unreachable!("it goes on forever"),
    };
    let failed: Vec<_> = report
        .results
        .iter()
        .filter(|result| matches!(result.verdict, Verdict::Fail))
        .map(|result| result.id)
        .collect();
    assert!(failed.is_empty(), "failed: {failed:?}\n{report}");
    let skipped: Vec<_> = report
        .results
        .iter()
        .filter(|result| matches!(result.verdict, Verdict::Skipped { .. }))
        .map(|result| result.id)
        .collect();
    assert_eq!(skipped, cannot_be_run, "these cases were skipped");
    assert!(serving.is_running(), "the subject must survive its checks");
    let wanted = usize::from(matches!(suite, Suite::MimiHub));
    assert_eq!(restarts, wanted, "the subject ended by itself: {}", server.log());
    report
}

#[tokio::test(flavor = "multi_thread")]
async fn nabe_conforms_as_hub() {
    conforms(Suite::Hub, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nabe_conforms_as_participant() {
    conforms(Suite::Participant, &["lm-72"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nabe_conforms_as_hub_of_mimi() {
    conforms(Suite::MimiHub, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nabe_conforms_as_follower_of_mimi() {
    conforms(Suite::MimiFollower, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nabe_conforms_as_follower_of_mimi_that_tells_who_is_a_user() {
    let cases = Filter::parse("mimi-13,mimi-20,mimi-21");
    let told = [("NABE_MIMI__HIDE_USERS", "false")];
    let report = conforms_with(Suite::MimiFollower, &cases, &told, &[]).await;
    assert_eq!(report.results.len(), 3);
    let got: Vec<_> = report.results.iter().map(|result| result.got.as_str()).collect();
    let is_told = got.iter().any(|got| got.contains("everybody learns who is a user"));
    assert!(is_told, "{got:?}");
}
