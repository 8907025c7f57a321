//! What the routes need to know.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRef;
use nabe_service::Service;
use nabe_types::ServerName;

use crate::mimi::OhttpGateway;
use crate::{AnswerBudget, BodyBudget};

/// Renders the metrics in the Prometheus text format.
pub type MetricsText = Arc<dyn Fn() -> String + Send + Sync>;

/// What the routes need to know. Clones share everything.
#[derive(Clone)]
pub struct AppState {
    /// The use cases.
    pub service: Service,
    /// What `/.well-known/matrix/server` delegates to (LM #int-wellknown); `None` answers 404.
    pub well_known: Option<ServerName>,
    /// SHA-256 of the credential a provider's backend shows to act for its users; `None` means there is no such backend.
    pub provider_token_hash: Option<[u8; 32]>,
    /// The OHTTP gateway, if there is one: for other providers' users, and for our own.
    pub ohttp: Option<OhttpGateway>,
    /// Bounds on single requests.
    pub limits: HttpLimits,
    /// Renders the metrics.
    pub metrics: MetricsText,
}

/// Bounds on single requests. What bounds connections is in [`ListenerLimits`](crate::listener::ListenerLimits).
#[derive(Clone, Debug)]
pub struct HttpLimits {
    /// Bytes of a request body.
    pub body_bytes: usize,
    /// Bytes of another server's request body anywhere but on `/send`, if that is less: such a body has one event.
    pub small_body_bytes: usize,
    /// What all request bodies together may take while they are read and worked on; over it a request is answered 503.
    pub body_budget: BodyBudget,
    /// What all answers together may take until they are sent; over it a request is answered 503.
    pub answer_budget: AnswerBudget,
    /// Time for a request body to arrive.
    pub body_time: Duration,
    /// Time for a request to be answered, its body included. An event stream counts as answered once it begins.
    pub answer_time: Duration,
    /// The same for files, up and down: long, since what makes them go on is bounded piece by piece.
    pub media_time: Duration,
    /// How often an event stream without events sends a comment, so that nobody in between takes it for dead.
    pub heartbeat: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            body_bytes: nabe_types::limits::MAX_BODY_BYTES,
            small_body_bytes: 256 * 1024,
            body_budget: BodyBudget::new(256 * 1024 * 1024),
            answer_budget: AnswerBudget::new(256 * 1024 * 1024, 64 * 1024 * 1024),
            body_time: Duration::from_secs(30),
            answer_time: Duration::from_secs(120),
            media_time: Duration::from_hours(6),
            heartbeat: Duration::from_secs(30),
        }
    }
}

impl FromRef<AppState> for Service {
    fn from_ref(state: &AppState) -> Self {
        state.service.clone()
    }
}

/// Without secrets.
impl fmt::Debug for AppState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppState")
            .field("service", &self.service)
            .field("well_known", &self.well_known)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
