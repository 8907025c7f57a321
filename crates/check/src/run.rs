//! Runs cases, several at once, each with servers of its own.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nabe_types::ServerName;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::authority::AuthorityError;
use crate::case::{Case, Peers, Stop, Suite};
use crate::cases::cases;
use crate::config::{CheckerConfig, FixedPeer, PeerNames, SubjectConfig};
use crate::context::Ctx;
use crate::mimi::peer::MimiPeer;
use crate::peer::Peer;
use crate::report::{CaseResult, Report, Verdict};
use crate::subject::Subject;

/// Which cases to run.
#[derive(Clone, Debug, Default)]
pub struct Filter(Vec<String>);

impl Filter {
    /// All of them.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Those with one of these IDs, separated by commas; an ID that ends in `*` stands for all that begin so. An empty text
    /// stands for all.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let ids = text.split(',').map(str::trim).filter(|id| !id.is_empty());
        Self(ids.map(str::to_owned).collect())
    }

    /// Whether a case with this ID is wanted.
    #[must_use]
    pub fn wants(&self, id: &str) -> bool {
        let matches = |wanted: &String| match wanted.strip_suffix('*') {
            Some(beginning) => id.starts_with(beginning),
            None => wanted == id,
        };
        self.0.is_empty() || self.0.iter().any(matches)
    }
}

/// A run cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The subject's URL or CA is not usable.
    #[error("subject: {0}")]
    Subject(String),
    /// A server of ours cannot listen.
    #[error("listening for {name}: {error}")]
    Listen {
        /// The server.
        name: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// The CA cannot vouch for a server of ours.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
}

/// Runs the cases of a suite against a subject. The runtime needs a network and a clock, and should have several threads.
///
/// # Errors
///
/// [`RunError`] when the run cannot begin at all; what the subject does wrong is in the report.
pub async fn run(
    suite: Suite,
    filter: &Filter,
    subject: &SubjectConfig,
    checker: &CheckerConfig,
) -> Result<Report, RunError> {
    let lab = Arc::new(Lab::open(subject, checker.clone()).await?);
    let places = Arc::new(Semaphore::new(checker.concurrency.max(1)));
    let wanted: Vec<&'static Case> = cases(suite).filter(|case| filter.wants(case.id)).collect();
    let mut running = JoinSet::new();
    let (alone, together): (Vec<_>, Vec<_>) = wanted.iter().enumerate().partition(|(_, case)| case.peers.is_alone());
    for (at, case) in together {
        let (lab, places, case) = (Arc::clone(&lab), Arc::clone(&places), *case);
        running.spawn(async move {
            let place = places.acquire_owned().await;
            let result = lab.result(case).await;
            drop(place);
            (at, result)
        });
    }
    let mut results: Vec<Option<CaseResult>> = wanted.iter().map(|_| None).collect();
    while let Some(ended) = running.join_next().await {
        if let Ok((at, result)) = ended {
            results[at] = Some(result);
        }
    }
    for (at, case) in alone {
        results[at] = Some(Arc::clone(&lab).result(case).await);
    }
    let results = results.into_iter().zip(wanted);
    Ok(Report {
        results: results
            .map(|(result, case)| result.unwrap_or_else(|| broken(case, "no reason")))
            .collect(),
    })
}

/// Where cases get their servers from.
struct Lab {
    subject: Subject,
    config: CheckerConfig,
    /// Servers that may be used again, and servers kept because their ports must not be given away.
    idle: Mutex<Vec<Peer>>,
    retired: Mutex<Vec<Peer>>,
    /// How many fixed servers are idle.
    available: Arc<Semaphore>,
    fixed: usize,
    /// Providers of MIMI, which all cases share.
    mimi: Vec<MimiPeer>,
}

impl Lab {
    async fn open(subject: &SubjectConfig, config: CheckerConfig) -> Result<Self, RunError> {
        let (mimi_subject, ca_pem) = (subject.mimi.clone(), subject.ca_pem.clone());
        let subject = Subject::new(subject).map_err(|error| RunError::Subject(error.to_string()))?;
        let mut idle = Vec::new();
        if let PeerNames::Fixed(fixed) = &config.peers {
            for FixedPeer { server_name, listen } in fixed {
                let failed = |error| RunError::Listen {
                    name: server_name.to_string(),
                    error,
                };
                let listener = TcpListener::bind(listen).await.map_err(failed)?;
                let tls = config.authority.server_config(server_name.host())?;
                idle.push(Peer::start(
                    server_name.clone(),
                    listener,
                    tls,
                    &config.seed,
                    subject.apart(),
                ));
            }
        }
        let fixed = idle.len();
        let mut mimi = Vec::new();
        if let Some(at) = &mimi_subject {
            for FixedPeer { server_name, listen } in &config.mimi_peers {
                let failed = |error| RunError::Listen {
                    name: server_name.to_string(),
                    error,
                };
                let listener = TcpListener::bind(listen).await.map_err(failed)?;
                let identity = config.authority.provider(server_name.host())?;
                let peer = MimiPeer::start(server_name.clone(), listener, identity, &ca_pem, at);
                mimi.push(peer.map_err(|error| RunError::Subject(error.to_string()))?);
            }
        }
        Ok(Self {
            subject,
            config,
            idle: Mutex::new(idle),
            retired: Mutex::default(),
            available: Arc::new(Semaphore::new(fixed)),
            fixed,
            mimi,
        })
    }

    /// What comes of a case, even if it breaks off.
    async fn result(self: Arc<Self>, case: &'static Case) -> CaseResult {
        // Clients of ours give up by a panic when what they are handed is of no use to them.
        let ended = tokio::spawn(async move { self.run(case).await }).await;
        ended.unwrap_or_else(|broken_off| broken(case, &reason(broken_off)))
    }

    async fn run(&self, case: &'static Case) -> CaseResult {
        let started = Instant::now();
        let (outcome, observed) = self.outcome(case).await;
        let (verdict, expected, got) = match outcome {
            Ok(()) => (Verdict::Pass, case.expected.to_owned(), observed),
            Err(Stop::Skipped(reason)) => (Verdict::Skipped { reason }, case.expected.to_owned(), observed),
            Err(Stop::Failed { expected, got }) => (Verdict::Fail, format!("{} [{expected}]", case.expected), got),
        };
        CaseResult {
            id: case.id,
            title: case.title,
            requirements: case.requirements,
            basis: case.basis(),
            sent: case.sent.to_owned(),
            expected,
            got,
            verdict,
            ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }

    async fn outcome(&self, case: &'static Case) -> (Result<(), Stop>, String) {
        let (count, needs_loopback) = match case.peers {
            Peers::Any(count) => (count, false),
            Peers::Fresh(count) => (count, true),
            Peers::OneWronglyNamed => (2, true),
            Peers::Mimi(_) | Peers::MimiAlone(_) => (0, false),
        };
        if let Peers::Mimi(count) | Peers::MimiAlone(count) = case.peers
            && count > self.mimi.len()
        {
            let reason = format!("needs {count} providers of the checker's, it has {}", self.mimi.len());
            return (Err(Stop::Skipped(reason)), String::new());
        }
        let is_fixed = matches!(self.config.peers, PeerNames::Fixed(_));
        if is_fixed && needs_loopback {
            let reason = "needs servers that the subject has never heard of; the checker's have fixed names";
            return (Err(Stop::Skipped(reason.to_owned())), String::new());
        }
        if is_fixed && count > self.fixed {
            let reason = format!("needs {count} servers of the checker's, it has {}", self.fixed);
            return (Err(Stop::Skipped(reason)), String::new());
        }
        let permits = u32::try_from(if is_fixed { count } else { 0 }).unwrap_or_default();
        let lease = self.available.acquire_many(permits).await;
        let peers = match self.peers(count, case.peers).await {
            Ok(peers) => peers,
            Err(error) => return (Err(Stop::Skipped(error.to_string())), String::new()),
        };
        let ctx = Ctx::new(self.subject.apart(), peers.clone(), self.config.deadline)
            .with_mimi(self.mimi.clone())
            .with_restart(self.config.restart_command.clone());
        let ended = timeout(CASE_TIMEOUT, (case.run)(&ctx)).await;
        let outcome = ended.unwrap_or_else(|_| {
            Err(Stop::Failed {
                expected: format!("an end within {} s", CASE_TIMEOUT.as_secs()),
                got: "the case goes on".to_owned(),
            })
        });
        for peer in &peers {
            peer.reset();
        }
        let kept = if is_fixed { &self.idle } else { &self.retired };
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(peers);
        drop(kept);
        drop(lease);
        (outcome, ctx.observations())
    }

    async fn peers(&self, count: usize, kind: Peers) -> Result<Vec<Peer>, RunError> {
        let PeerNames::Loopback { host } = &self.config.peers else {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            let rest = idle.len().saturating_sub(count);
            return Ok(idle.split_off(rest));
        };
        let mut peers = Vec::with_capacity(count);
        for at in 0..count {
            let is_wrong = at == 1 && matches!(kind, Peers::OneWronglyNamed);
            let certificate_for = if is_wrong { "elsewhere.invalid" } else { host };
            peers.push(self.start(host, certificate_for).await?);
        }
        Ok(peers)
    }

    async fn start(&self, host: &str, certificate_for: &str) -> Result<Peer, RunError> {
        let failed = |error| RunError::Listen {
            name: host.to_owned(),
            error,
        };
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let name = ServerName::parse(&format!("{host}:{port}"));
        let name = name.map_err(|error| failed(std::io::Error::other(error)))?;
        let tls = self.config.authority.server_config(certificate_for)?;
        Ok(Peer::start(
            name,
            listener,
            tls,
            &self.config.seed,
            self.subject.apart(),
        ))
    }
}

/// Why a case's task is gone.
fn reason(broken_off: tokio::task::JoinError) -> String {
    let Ok(payload) = broken_off.try_into_panic() else {
        return "it was stopped".to_owned();
    };
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
    text.unwrap_or("no reason").to_owned()
}

/// A case whose task is gone.
fn broken(case: &Case, reason: &str) -> CaseResult {
    CaseResult {
        id: case.id,
        title: case.title,
        requirements: case.requirements,
        basis: case.basis(),
        sent: case.sent.to_owned(),
        expected: case.expected.to_owned(),
        got: format!("the check broke off: {reason}"),
        verdict: Verdict::Fail,
        ms: 0,
    }
}

const CASE_TIMEOUT: Duration = Duration::from_secs(120);
