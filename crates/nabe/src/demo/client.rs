//! The client API as a provider's backend uses it: JSON over TLS, one credential, a header that says for which user.

use std::{fmt, fs, sync::Arc, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use http::{
    Method, Request, Response,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use nabe_auth::lm::AuthRejection;
use nabe_federation::{HttpsTransport, Transport as _, TransportError};
use nabe_service::ports::{SystemClock, SystemEntropy};
use nabe_types::ServerName;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::{config::Config, server};

/// An event as the client API shows it.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub(super) struct RoomEvent {
    pub(super) event_id: String,
    /// In the log of the server asked; absent in answers about state.
    pub(super) position: Option<i64>,
    pub(super) r#type: String,
    pub(super) state_key: Option<String>,
    pub(super) sender: String,
    pub(super) origin_server_ts: u64,
    pub(super) content: Value,
}

impl RoomEvent {
    /// The same event: everything is equal but the place in each server's own log.
    pub(super) fn is_same_as(&self, other: &Self) -> bool {
        Self {
            position: None,
            ..self.clone()
        } == Self {
            position: None,
            ..other.clone()
        }
    }

    pub(super) fn body(&self) -> Option<&str> {
        self.content.get("body")?.as_str()
    }

    /// The user a membership event is about, and the membership.
    pub(super) fn membership(&self) -> Option<(&str, &str)> {
        let user = self.state_key.as_deref().filter(|_| self.r#type == "m.room.member")?;
        Some((user, self.content.get("membership")?.as_str()?))
    }
}

/// What became of an event that was sent.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Sent {
    pub(super) event_id: Option<String>,
}

/// A room at a glance.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct RoomSummary {
    pub(super) membership: String,
    pub(super) members: u64,
    pub(super) position: i64,
}

/// What one follower is owed, and how far it is.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Follower {
    pub(super) server: String,
    pub(super) from: i64,
    pub(super) until: Option<i64>,
    pub(super) lag: u64,
}

/// Why a request did not do what it was for.
#[derive(Debug)]
pub(super) enum CallError {
    /// No answer.
    Transport(TransportError),
    /// An answer that says no.
    Refused(Refused),
    /// An answer that is not what the API promises.
    NotUnderstood(serde_json::Error),
}

/// An error as the client API words it.
#[derive(Clone, Debug)]
pub(super) struct Refused {
    pub(super) status: u16,
    pub(super) message: String,
    rule: Option<String>,
}

impl Refused {
    /// The authorization rule that forbids it. Our own server says its number; another's refusal carries only the
    /// rule's sentence.
    pub(super) fn rule(&self) -> Option<&str> {
        let by_sentence = || {
            AuthRejection::ALL
                .iter()
                .find(|rejection| self.message.contains(&rejection.to_string()))
        };
        self.rule
            .as_deref()
            .or_else(|| by_sentence().map(|rejection| rejection.rule()))
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transport(error) => write!(f, "no answer: {error}"),
            Self::Refused(Refused { status, message, .. }) => write!(f, "answered {status}: {message}"),
            Self::NotUnderstood(error) => write!(f, "unexpected answer: {error}"),
        }
    }
}

impl std::error::Error for CallError {}

/// The backend of one provider.
pub(super) struct Backend {
    server: ServerName,
    token: String,
    transport: Arc<HttpsTransport>,
}

impl Backend {
    /// Trusts the CA of the provider's folder, and finds the server where its configuration says.
    pub(super) fn new(config: &Config) -> anyhow::Result<Self> {
        let token_file = config
            .client
            .provider_token_file
            .as_ref()
            .context("there is a provider token")?;
        let transport = HttpsTransport::new(
            server::https_settings(config),
            Arc::new(SystemClock),
            Arc::new(SystemEntropy),
        )?;
        Ok(Self {
            server: config.server_name.clone(),
            token: fs::read_to_string(token_file)?.trim().to_owned(),
            transport: Arc::new(transport),
        })
    }

    pub(super) async fn is_ready(&self) -> bool {
        let request = Request::get("/_nabe/health/ready").body(Bytes::new());
        let Ok(request) = request else { return false };
        let answer = self.transport.send(&self.server, request, TIMEOUT).await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, user: &str, path: &str) -> Result<T, CallError> {
        read(self.send(Method::GET, user, path, None, Bytes::new(), TIMEOUT).await?)
    }

    pub(super) async fn post<T: DeserializeOwned>(&self, user: &str, path: &str, body: &Value) -> Result<T, CallError> {
        read(
            self.send(Method::POST, user, path, None, body.to_string().into(), TIMEOUT)
                .await?,
        )
    }

    /// The same request with the same key is one request, however often it is made.
    pub(super) async fn post_once(
        &self,
        user: &str,
        path: &str,
        body: &Value,
        key: &str,
        timeout: Duration,
    ) -> Result<Sent, CallError> {
        read(
            self.send(Method::POST, user, path, Some(key), body.to_string().into(), timeout)
                .await?,
        )
    }

    async fn send(
        &self,
        method: Method,
        user: &str,
        path: &str,
        idempotency_key: Option<&str>,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Response<Bytes>, CallError> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("/_nabe/v1{path}"))
            .header(AUTHORIZATION, format!("Bearer {}", self.token))
            .header("nabe-user", user)
            .header(CONTENT_TYPE, "application/json");
        if let Some(key) = idempotency_key {
            request = request.header("idempotency-key", key);
        }
        let request = request
            .body(body)
            .map_err(|_| CallError::Transport(TransportError::InvalidRequest))?;
        self.transport
            .send(&self.server, request, timeout)
            .await
            .map_err(CallError::Transport)
    }
}

fn read<T: DeserializeOwned>(answer: Response<Bytes>) -> Result<T, CallError> {
    if answer.status().is_success() {
        return serde_json::from_slice(answer.body()).map_err(CallError::NotUnderstood);
    }
    #[derive(Deserialize)]
    struct Body {
        error: Info,
    }
    #[derive(Deserialize, Serialize)]
    struct Info {
        code: String,
        message: String,
        rule: Option<String>,
    }
    let Body { error } = serde_json::from_slice(answer.body()).map_err(CallError::NotUnderstood)?;
    Err(CallError::Refused(Refused {
        status: answer.status().as_u16(),
        message: format!("{} ({})", error.message, error.code),
        rule: error.rule,
    }))
}

/// Asks again and again until there is an answer, but not for ever.
pub(super) async fn wait_for<T>(
    what: &str,
    mut probe: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let failure = match probe().await {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        if Instant::now() >= deadline {
            let waited = format!("waited {} s for {what}", DEADLINE.as_secs());
            return Err(match failure {
                Some(error) => error.context(waited),
                None => anyhow::anyhow!(waited),
            });
        }
        sleep(PAUSE).await;
    }
}

/// For one request.
pub(super) const TIMEOUT: Duration = Duration::from_secs(15);
/// For a condition to come true.
const DEADLINE: Duration = Duration::from_secs(20);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(15);
