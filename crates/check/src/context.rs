//! What a case has at hand: the subject, the servers it plays, and ways to state what must hold.

use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nabe_signing::Signer;
use nabe_signing::json::{Json, Object};
use nabe_signing::keys::{KeySet, ServerKeys};
use nabe_types::{ServerName, UnixMillis, UserId};
use tokio::time::{Instant, sleep};

use crate::author::now_millis;
use crate::case::{Checked, Stop, failed, skipped};
use crate::http_client::Reply;
use crate::mimi::peer::MimiPeer;
use crate::peer::Peer;
use crate::subject::{Subject, unique};

/// The surroundings of one running case.
pub(crate) struct Ctx {
    subject: Subject,
    peers: Vec<Peer>,
    mimi: Vec<MimiPeer>,
    restart_command: Option<String>,
    deadline: Duration,
    tag: String,
    observed: Mutex<Vec<String>>,
}

impl Ctx {
    pub(crate) fn new(subject: Subject, peers: Vec<Peer>, deadline: Duration) -> Self {
        Self {
            subject,
            peers,
            mimi: Vec::new(),
            restart_command: None,
            deadline,
            tag: unique(),
            observed: Mutex::default(),
        }
    }

    /// The same with these providers of MIMI.
    pub(crate) fn with_mimi(self, mimi: Vec<MimiPeer>) -> Self {
        Self { mimi, ..self }
    }

    /// The same with a way to restart the subject, if there is one.
    pub(crate) fn with_restart(self, restart_command: Option<String>) -> Self {
        Self {
            restart_command,
            ..self
        }
    }

    /// The command that restarts the subject. Without one the case is skipped.
    pub(crate) fn restart_command(&self) -> Checked<&str> {
        match &self.restart_command {
            Some(command) => Ok(command),
            None => skipped("no `--restart-command`, without which the checker cannot end and start its subject"),
        }
    }

    /// Has a command end and start the subject, and waits until it answers its users again.
    pub(crate) async fn restart_subject(&self, command: &str) -> Checked {
        let mut shell = tokio::process::Command::new("sh");
        shell.arg("-c").arg(command).stdin(Stdio::null()).stdout(Stdio::null());
        match shell.status().await {
            Ok(status) if status.success() => {}
            // The subject is not to blame.
            other => return skipped(format!("`--restart-command`: {other:?}")),
        }
        let end = Instant::now() + RESTART_TIMEOUT;
        loop {
            let subject = self.subject.apart();
            if let Ok(reply) = subject.try_api(&self.user("restart"), "/mimi/hub").await
                && reply.status == 200
            {
                return Ok(());
            }
            if Instant::now() > end {
                return failed(
                    format!("the subject answers again within {} s", RESTART_TIMEOUT.as_secs()),
                    "it does not",
                );
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) const fn subject(&self) -> &Subject {
        &self.subject
    }

    pub(crate) const fn subject_name(&self) -> &ServerName {
        self.subject.name()
    }

    pub(crate) const fn deadline(&self) -> Duration {
        self.deadline
    }

    /// The first server that the case plays.
    pub(crate) fn p(&self) -> &Peer {
        self.peer(0)
    }

    /// The second one.
    pub(crate) fn t(&self) -> &Peer {
        self.peer(1)
    }

    pub(crate) fn peer(&self, at: usize) -> &Peer {
        self.peers
            .get(at)
            .expect("the table says how many servers a case plays")
    }

    /// A provider of MIMI that the checker plays.
    pub(crate) fn mimi(&self, at: usize) -> &MimiPeer {
        self.mimi
            .get(at)
            .expect("the table says how many providers a case plays")
    }

    /// The subject's domain as a provider of MIMI.
    pub(crate) fn subject_domain(&self) -> &ServerName {
        self.mimi(0).subject_domain()
    }

    /// A text that no other case has, for names.
    pub(crate) fn tag(&self) -> &str {
        &self.tag
    }

    /// A user of the subject that no other case has.
    pub(crate) fn user(&self, local: &str) -> UserId {
        let user = format!("@{local}-{}:{}", self.tag, self.subject_name());
        UserId::parse(&user).expect("checks name their users well")
    }

    /// Something worth reporting even if all is well.
    pub(crate) fn observe(&self, text: impl Into<String>) {
        let mut observed = self.observed.lock().unwrap_or_else(PoisonError::into_inner);
        observed.push(text.into());
    }

    /// What was observed, as one text.
    pub(crate) fn observations(&self) -> String {
        self.observed.lock().unwrap_or_else(PoisonError::into_inner).join("; ")
    }

    /// `what` must hold; `got` says what is instead.
    pub(crate) fn check(&self, what: &str, holds: bool, got: impl FnOnce() -> String) -> Checked {
        if !holds {
            return failed(what, got());
        }
        self.observe(what);
        Ok(())
    }

    /// The answer must have this status and, unless empty, this error code. An error must be JSON with a readable code.
    pub(crate) fn answers(&self, what: &str, reply: &Reply, status: u16, code: &str) -> Checked {
        let expected = format!("{what}: {status} {code}");
        if reply.status != status || (!code.is_empty() && reply.errcode().as_deref() != Some(code)) {
            return failed(expected, reply.brief());
        }
        if !code.is_empty() && !reply.header("content-type").starts_with("application/json") {
            let got = format!("content type {:?}", reply.header("content-type"));
            return failed(format!("{expected} as application/json"), got);
        }
        self.observe(expected.trim_end().to_owned());
        Ok(())
    }

    /// Asks again and again until there is something, up to the deadline. For what the subject shows only when asked.
    pub(crate) async fn eventually<T, F, Fut>(&self, what: &str, mut probe: F) -> Checked<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Checked<Option<T>>>,
    {
        let end = Instant::now() + self.deadline;
        let mut pause = Duration::from_millis(10);
        loop {
            if let Some(found) = probe().await? {
                return Ok(found);
            }
            if Instant::now() > end {
                return failed(
                    format!("{what} within {} s", self.deadline.as_secs()),
                    "it did not happen",
                );
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    }

    /// The client API must answer 200 (or 202).
    pub(crate) async fn api(&self, user: &UserId, method: &str, path: &str, body: Option<&Object>) -> Checked<Object> {
        let reply = self.subject.api(user, method, path, body).await?;
        if !matches!(reply.status, 200 | 202) {
            return failed(format!("client API {method} {path}: 200"), reply.brief());
        }
        Ok(reply.object())
    }

    /// What the event stream tells a device from the beginning, until this text comes.
    pub(crate) async fn stream_until(&self, user: &UserId, device: &str, text: &str) -> Checked<String> {
        self.subject.stream_until(user, device, text).await
    }

    /// The keys the subject publishes, checked as the draft demands.
    pub(crate) async fn subject_keys(&self) -> Checked<ServerKeys> {
        let reply = self.subject.request("GET", "/_matrix/key/v2/server", &[], None).await?;
        ServerKeys::parse(reply.object(), self.subject_name()).map_err(|error| Stop::Failed {
            expected: "a valid key response".to_owned(),
            got: error.to_string(),
        })
    }

    /// The subject's keys and those of these servers.
    pub(crate) async fn keys_with(&self, signers: &[&Arc<Signer>]) -> Checked<KeySet> {
        let mut keys = KeySet::new();
        keys.insert_server_keys(&self.subject_keys().await?, now());
        for signer in signers {
            keys.insert_signer(signer);
        }
        Ok(keys)
    }
}

/// The wall clock.
pub(crate) fn now() -> UnixMillis {
    UnixMillis::new(now_millis().unsigned_abs())
}

/// A string member of an object, empty if there is none.
pub(crate) fn text<'a>(object: &'a Object, key: &str) -> &'a str {
    object.get(key).and_then(Json::as_str).unwrap_or_default()
}

/// An object member of an object, empty if there is none.
pub(crate) fn member(object: &Object, key: &str) -> Object {
    object.get(key).and_then(Json::as_object).cloned().unwrap_or_default()
}

/// The objects in an array member of an object.
pub(crate) fn list(object: &Object, key: &str) -> Vec<Object> {
    let elements = object.get(key).and_then(Json::as_array).unwrap_or_default();
    elements.iter().filter_map(Json::as_object).cloned().collect()
}

const RESTART_TIMEOUT: Duration = Duration::from_secs(60);
