//! `nabe check`: the conformance cases against a server, Nabe or not. The cases are in `crates/check`.

use std::{fs, net::SocketAddr, path::Path};

use anyhow::{Context as _, bail};
use nabe_check::{
    Authority, CheckerConfig, Filter, FixedPeer, MimiSubjectConfig, PeerNames, Report, SubjectConfig, Suite, cases,
    suites,
};
use nabe_types::ServerName;

use crate::{InputAtFault, cli::Check, output::say};

/// Prints the report; `true` when no case failed and at least one was run.
pub(crate) async fn run(arguments: &Check) -> anyhow::Result<bool> {
    let (Some(suite), Some(url)) = (arguments.suite, &arguments.subject) else {
        list(arguments.suite);
        return Ok(true);
    };
    let dev_ca = arguments
        .dev_ca
        .as_deref()
        .context("--dev-ca is missing")
        .context(InputAtFault)?;
    let subject = subject(arguments, url, dev_ca).context(InputAtFault)?;
    let checker = checker(arguments, dev_ca).context(InputAtFault)?;
    let report = nabe_check::run(suite, &Filter::parse(&arguments.only), &subject, &checker).await?;
    if arguments.json {
        say!("{}", report.to_json());
    } else {
        say!("{report}");
    }
    Ok(holds(&report))
}

fn holds(report: &Report) -> bool {
    report.failed() == 0 && report.passed() > 0
}

fn list(only: Option<Suite>) {
    for suite in suites() {
        if only.is_some_and(|only| only != suite) {
            continue;
        }
        say!("{}", suite.name());
        for case in cases(suite) {
            say!(
                "  {:9} {} ({})\n            expected: {}",
                case.id,
                case.title,
                case.level(),
                case.expected
            );
        }
    }
}

fn subject(arguments: &Check, url: &str, dev_ca: &Path) -> anyhow::Result<SubjectConfig> {
    let authority = url
        .split_once("://")
        .map_or(url, |(_, authority)| authority)
        .trim_end_matches('/');
    let server_name = match &arguments.subject_name {
        Some(name) => name.clone(),
        None => ServerName::parse(authority).context("give the subject's name with --subject-name")?,
    };
    // An address is where to connect; the name is what the certificate must be for.
    let address = authority.parse().ok();
    let base_url = match address {
        Some(_) => format!("https://{}", server_name.host()),
        None => url.trim_end_matches('/').to_owned(),
    };
    let mimi = match arguments.suite {
        Some(Suite::MimiHub | Suite::MimiFollower) if arguments.mimi_peer.len() < 2 => {
            bail!("the suites of MIMI need two providers to play: give --mimi-peer twice")
        }
        Some(Suite::MimiHub | Suite::MimiFollower) => Some(MimiSubjectConfig {
            domain: match &arguments.mimi_domain {
                Some(domain) => domain.clone(),
                None => ServerName::parse(server_name.host()).context("give the domain with --mimi-domain")?,
            },
            address: arguments.mimi_address,
        }),
        _ => None,
    };
    let ca = arguments.ca.clone().unwrap_or_else(|| dev_ca.join("ca.pem"));
    Ok(SubjectConfig {
        base_url,
        address,
        server_name,
        ca_pem: read(&ca)?,
        provider_token: arguments.provider_token.clone().unwrap_or_default().trim().to_owned(),
        mimi,
    })
}

fn checker(arguments: &Check, dev_ca: &Path) -> anyhow::Result<CheckerConfig> {
    let authority = Authority::from_pem(&read(&dev_ca.join("ca.pem"))?, &read(&dev_ca.join("ca.key"))?)?;
    let mut checker = CheckerConfig::loopback(authority);
    if !arguments.peer.is_empty() {
        checker.peers = PeerNames::Fixed(fixed(&arguments.peer));
    }
    checker.mimi_peers = fixed(&arguments.mimi_peer);
    checker.restart_command.clone_from(&arguments.restart_command);
    Ok(checker)
}

fn fixed(peers: &[(ServerName, SocketAddr)]) -> Vec<FixedPeer> {
    let peers = peers.iter().map(|(name, listen)| FixedPeer {
        server_name: name.clone(),
        listen: *listen,
    });
    peers.collect()
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| path.display().to_string())
}
